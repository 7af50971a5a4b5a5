// Modules, functions, launches.
#include <algorithm>
#include <array>
#include <cstring>

#include "executor/worker/session.h"

namespace avec::worker {
namespace {

constexpr std::size_t kLogBytes = 16u << 10;
// Images that were sent and not yet loaded, bytes.
constexpr std::uint64_t kMaxWaitingImages = limits::kMaxImageBytes;

Hash to_hash(const wire::ContentHash& hash) {
  Hash bytes;
  std::memcpy(bytes.data(), &hash, bytes.size());
  return bytes;
}

bool same(const wire::ContentHash& a, const wire::ContentHash& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

/// Options whose value is a number. Others carry pointers and are not the client's to give.
bool numeric_option(int option) {
  switch (option) {
    case CU_JIT_MAX_REGISTERS:
    case CU_JIT_THREADS_PER_BLOCK:
    case CU_JIT_OPTIMIZATION_LEVEL:
    case CU_JIT_TARGET:
    case CU_JIT_FALLBACK_STRATEGY:
    case CU_JIT_GENERATE_DEBUG_INFO:
    case CU_JIT_LOG_VERBOSE:
    case CU_JIT_GENERATE_LINE_INFO:
    case CU_JIT_CACHE_MODE:
    case CU_JIT_POSITION_INDEPENDENT_CODE:
    case CU_JIT_MIN_CTA_PER_SM:
    case CU_JIT_MAX_THREADS_PER_BLOCK:
    case CU_JIT_OVERRIDE_DIRECTIVE_VALUES:
      return true;
    default:
      return false;
  }
}

/// Whether kernels of the image may call printf or assert.
bool may_print(std::span<const std::byte> image) {
  const auto contains = [&](std::string_view word) {
    return ::memmem(image.data(), image.size(), word.data(), word.size()) != nullptr;
  };
  return contains("vprintf") || contains("__assertfail");
}

CUresult read_functions(const DriverTable& driver, CUmodule module, std::vector<Function>& functions) {
  unsigned count = 0;
  if (CUresult status = driver.cuModuleGetFunctionCount(&count, module); status != CUDA_SUCCESS) return status;
  std::vector<CUfunction> handles(count);
  if (count != 0) {
    if (CUresult status = driver.cuModuleEnumerateFunctions(handles.data(), count, module); status != CUDA_SUCCESS)
      return status;
  }
  functions.resize(count);
  for (unsigned i = 0; i < count; ++i) {
    Function& function = functions[i];
    function.handle = handles[i];
    const char* name = nullptr;
    if (CUresult status = driver.cuFuncGetName(&name, handles[i]); status != CUDA_SUCCESS) return status;
    function.name = name != nullptr ? name : "";
    std::size_t offset = 0, size = 0;
    for (std::size_t p = 0; driver.cuFuncGetParamInfo(handles[i], p, &offset, &size) == CUDA_SUCCESS; ++p) {
      if (offset + size > limits::kMaxParameterBytes) return CUDA_ERROR_INVALID_IMAGE;
      function.offsets.push_back(static_cast<std::uint32_t>(offset));
      function.sizes.push_back(static_cast<std::uint32_t>(size));
      function.parameter_bytes = std::max(function.parameter_bytes, static_cast<std::uint32_t>(offset + size));
    }
    // A driver that loads lazily knows a function's attributes only once it is loaded.
    if (CUresult status = driver.cuFuncLoad(handles[i]); status != CUDA_SUCCESS) return status;
    function.attributes.resize(CU_FUNC_ATTRIBUTE_MAX);
    for (int a = 0; a < CU_FUNC_ATTRIBUTE_MAX; ++a) {
      int value = 0;
      if (driver.cuFuncGetAttribute(&value, static_cast<CUfunction_attribute>(a), handles[i]) == CUDA_SUCCESS)
        function.attributes[static_cast<std::size_t>(a)] = value;
    }
  }
  return CUDA_SUCCESS;
}

std::vector<std::byte> load_reply(bool needs_image, const std::vector<Function>& functions, const std::string& log,
                                  int status) {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<wire::FunctionFacts>> facts;
  facts.reserve(functions.size());
  for (const Function& function : functions) {
    const auto name = builder.CreateString(function.name);
    const auto offsets = builder.CreateVector(function.offsets);
    const auto sizes = builder.CreateVector(function.sizes);
    const auto attributes = builder.CreateVector(function.attributes);
    facts.push_back(wire::CreateFunctionFacts(builder, name, offsets, sizes, attributes));
  }
  const auto list = builder.CreateVector(facts);
  const auto text = builder.CreateString(log);
  builder.Finish(wire::CreateModuleLoadReply(builder, needs_image, list, text, status));
  const auto* bytes = reinterpret_cast<const std::byte*>(builder.GetBufferPointer());
  return {bytes, bytes + builder.GetSize()};
}

}  // namespace

// ---- images -----------------------------------------------------------------------------

class Session::ImageSink final : public PayloadSink {
 public:
  ImageSink(Session& session, const wire::ContentHash& hash, const Header& call) : session_(session), hash_(hash), call_(call) {
    bytes_.resize(call.payload_bytes());
    session_.image_bytes_ += bytes_.size();
  }
  ~ImageSink() override { abort(); }
  MutableBytes room(std::uint64_t) override { return MutableBytes(bytes_).subspan(filled_); }
  void advance(std::size_t bytes) override { filled_ += bytes; }
  void finish() override {
    session_.images_.emplace_back(hash_, std::move(bytes_));
    bytes_.clear();
    session_.finish(call_, CUDA_SUCCESS);
  }
  void abort() override {
    session_.image_bytes_ -= bytes_.size();
    bytes_.clear();
  }

 private:
  Session& session_;
  const wire::ContentHash hash_;
  const Header call_;
  std::vector<std::byte> bytes_;
  std::size_t filled_ = 0;
};

Result<> Session::operator()(const Header& header, const wire::ModuleImage& call) {
  const std::uint64_t bytes = header.payload_bytes();
  if (bytes == 0 || bytes > limits::kMaxImageBytes) return protocol_error("an image of a size that no image has");
  if (image_bytes_ + bytes > kMaxWaitingImages) return protocol_error("images that are never loaded");
  if (frame_->payload_follows) {
    sink_ = std::make_unique<ImageSink>(*this, call.hash(), header);
    link_.payload_to(*sink_);
    return {};
  }
  image_bytes_ += bytes;
  images_.emplace_back(call.hash(), std::vector<std::byte>(frame_->payload.begin(), frame_->payload.end()));
  return finish(header, CUDA_SUCCESS);
}

// ---- modules ----------------------------------------------------------------------------

Result<> Session::operator()(const Header& header, const wire::ModuleLoad& call) {
  if (call.hash() == nullptr) return protocol_error("a module without a hash");
  const std::size_t options = call.options() == nullptr ? 0 : call.options()->size();
  const std::size_t values = call.option_values() == nullptr ? 0 : call.option_values()->size();
  if (options != values || options > 32) return protocol_error("options and values that do not pair");
  for (std::size_t i = 0; i < options; ++i)
    if (!numeric_option(call.options()->Get(static_cast<flatbuffers::uoffset_t>(i))))
      return finish(header, CUDA_ERROR_INVALID_VALUE);
  CUresult status;
  Context* context = find_context(call.context(), status);
  if (context == nullptr) return finish(header, status);
  Module* module = modules_.add(call.module_());
  if (module == nullptr) return protocol_error("a module's name that cannot be given");
  module->context = context;
  module->loading = true;
  load_on_helper(header, *module, call);
  return {};
}

void Session::load_on_helper(Header header, Module& target, const wire::ModuleLoad& call) {
  const Hash hash = to_hash(*call.hash());
  auto sent = std::make_shared<std::vector<std::byte>>();
  if (auto it = std::ranges::find_if(images_, [&](const auto& image) { return same(image.first, *call.hash()); });
      it != images_.end()) {
    *sent = std::move(it->second);
    image_bytes_ -= sent->size();
    images_.erase(it);
  }
  std::vector<CUjit_option> options;
  std::vector<void*> values;
  for (flatbuffers::uoffset_t i = 0; call.options() != nullptr && i < call.options()->size(); ++i) {
    options.push_back(static_cast<CUjit_option>(call.options()->Get(i)));
    values.push_back(reinterpret_cast<void*>(static_cast<std::uintptr_t>(call.option_values()->Get(i))));
  }
  const std::uint64_t name = call.module_();
  const std::uint64_t expected = call.image_bytes();
  const CUcontext context = target.context->handle;
  helpers_.run([=, this]() -> std::function<void()> {
    std::shared_ptr<const Image> image;
    const bool was_sent = !sent->empty();
    const bool genuine = !was_sent || cache_.store(hash, std::move(*sent));
    if (genuine) image = cache_.find(hash);
    if (image == nullptr || image->bytes().size() != expected) {
      return [=, this] {
        modules_.remove(name);
        if (!genuine) return close_with("protocol error: an image that does not have its hash");
        if (image != nullptr) return void(finish(header, CUDA_ERROR_INVALID_VALUE));
        link_.reply(header, CUDA_SUCCESS, load_reply(true, {}, "", 0));
      };
    }
    auto log = std::make_shared<std::string>(kLogBytes, '\0');
    auto option = options;
    auto value = values;
    option.insert(option.end(), {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES});
    value.insert(value.end(), {log->data(), reinterpret_cast<void*>(static_cast<std::uintptr_t>(kLogBytes))});
    CUmodule handle = nullptr;
    driver_.cuCtxSetCurrent(context);
    CUresult status = driver_.cuModuleLoadDataEx(&handle, image->bytes().data(), static_cast<unsigned>(option.size()),
                                                 option.data(), value.data());
    auto functions = std::make_shared<std::vector<Function>>();
    if (status == CUDA_SUCCESS) {
      status = read_functions(driver_, handle, *functions);
      if (status != CUDA_SUCCESS) driver_.cuModuleUnload(std::exchange(handle, nullptr));
    }
    log->resize(std::strlen(log->c_str()));
    const bool prints = may_print(image->bytes());
    return [=, this] {
      Module* module = modules_.find(name);
      if (module == nullptr) return void(finish(header, CUDA_ERROR_CONTEXT_IS_DESTROYED));
      if (status != CUDA_SUCCESS) {
        modules_.remove(name);
        if (log->empty()) return void(finish(header, status));
        return link_.reply(header, CUDA_SUCCESS, load_reply(false, {}, *log, status));
      }
      module->loading = false;
      module->handle = handle;
      module->functions = std::move(*functions);
      module->context->may_print |= prints;
      link_.reply(header, CUDA_SUCCESS, load_reply(false, module->functions, *log, 0));
    };
  });
}

Result<> Session::operator()(const Header& header, const wire::ModuleUnload& call) {
  CUresult status;
  Module* module = find_module(call.module_(), status);
  if (module == nullptr) return finish(header, status);
  std::vector<Stream*> before = module->context->streams;
  for (auto& [function, lane] : settings_) before.push_back(&lane);
  if (hold_behind(before, false)) return {};
  // The name goes now, the code when nothing can be running it.
  auto owner = std::make_shared<std::unique_ptr<Module>>(modules_.remove(call.module_()));
  memory_.forget_module(call.module_());
  std::vector<Stream*> busy;
  for (Stream* stream : module->context->streams)
    if (stream->issued != stream->completed) busy.push_back(stream);
  completions_.then_all(busy, [this, header, owner](CUresult) {
    make_current(*(*owner)->context);
    finish(header, driver_.cuModuleUnload((*owner)->handle));
  });
  return {};
}

Result<> Session::operator()(const Header& header, const wire::ModuleGetGlobal& call) {
  CUresult status;
  if (call.name() == nullptr) return protocol_error("a global without a name");
  Module* module = find_module(call.module_(), status);
  if (module == nullptr) return finish(header, status);
  CUdeviceptr address = 0;
  std::size_t bytes = 0;
  make_current(*module->context);
  status = driver_.cuModuleGetGlobal(&address, &bytes, module->handle, call.name()->c_str());
  if (status != CUDA_SUCCESS) return finish(header, status);
  memory_.add(address, {bytes, 0, module->context->device, call.module_()});
  return answer(header, wire::ModuleGetGlobalReply(address, bytes));
}

Result<> Session::operator()(const Header& header, const wire::FunctionSetAttribute& call) {
  CUresult status;
  Module* module = nullptr;
  Function* function = find_function(call.module_(), call.index(), module, status);
  if (function == nullptr) return finish(header, status);
  if (call.attribute() < 0 || call.attribute() >= CU_FUNC_ATTRIBUTE_MAX)
    return finish(header, CUDA_ERROR_INVALID_VALUE);
  if (hold_setting(*module, call.index())) return {};
  make_current(*module->context);
  const auto attribute = static_cast<CUfunction_attribute>(call.attribute());
  return finish(header, driver_.cuFuncSetAttribute(function->handle, attribute, call.value()));
}

Result<> Session::operator()(const Header& header, const wire::FunctionSetCacheConfig& call) {
  CUresult status;
  Module* module = nullptr;
  Function* function = find_function(call.module_(), call.index(), module, status);
  if (function == nullptr) return finish(header, status);
  if (call.config() < CU_FUNC_CACHE_PREFER_NONE || call.config() > CU_FUNC_CACHE_PREFER_EQUAL)
    return finish(header, CUDA_ERROR_INVALID_VALUE);
  if (hold_setting(*module, call.index())) return {};
  make_current(*module->context);
  return finish(header, driver_.cuFuncSetCacheConfig(function->handle, static_cast<CUfunc_cache>(call.config())));
}

Result<> Session::operator()(const Header& header, const wire::OccupancyBlocks& call) {
  CUresult status;
  Module* module = nullptr;
  Function* function = find_function(call.module_(), call.index(), module, status);
  if (function == nullptr) return finish(header, status);
  if (call.flags() > CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE) return finish(header, CUDA_ERROR_INVALID_VALUE);
  if (auto setting = held_setting(call.module_(), call.index()); setting.stream != nullptr) {
    if (hold_behind({setting.stream}, false)) return {};
  }
  make_current(*module->context);
  int blocks = 0;
  status = driver_.cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
      &blocks, function->handle, call.block_size(), call.dynamic_shared_bytes(), call.flags());
  if (status != CUDA_SUCCESS) return finish(header, status);
  return answer(header, wire::OccupancyBlocksReply(blocks, 0));
}

// ---- launches ---------------------------------------------------------------------------

Result<> Session::operator()(const Header& header, const wire::LaunchKernel& call) {
  if (frame_->payload_follows || frame_->payload.size() > limits::kMaxParameterBytes)
    return protocol_error("a parameter buffer over the limit");
  if (call.cooperative() > 1) return protocol_error("a kind of launch that does not exist");
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  Module* module = nullptr;
  Function* function = find_function(call.module_(), call.index(), module, status);
  if (function == nullptr) return finish(header, status);
  if (module->context != stream->context) return finish(header, CUDA_ERROR_INVALID_HANDLE);
  if (frame_->payload.size() != function->parameter_bytes)
    return protocol_error("a parameter buffer that does not have the function's size");
  const bool held = settings_.empty() ? hold(*stream) : hold(*stream, {held_setting(call.module_(), call.index())});
  if (held) return {};
  if (tracer_.on()) tracer_.kernel(function->name);
  before_issue(*stream);
  // The driver copies the parameters before it returns.
  static thread_local std::vector<void*> parameters;
  parameters.resize(function->offsets.size());
  auto* buffer = const_cast<std::byte*>(frame_->payload.data());
  for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i] = buffer + function->offsets[i];
  if (call.cooperative() != 0) {
    status = driver_.cuLaunchCooperativeKernel(function->handle, call.grid_x(), call.grid_y(), call.grid_z(),
                                               call.block_x(), call.block_y(), call.block_z(), call.shared_bytes(),
                                               stream->handle, parameters.data());
  } else {
    status = driver_.cuLaunchKernel(function->handle, call.grid_x(), call.grid_y(), call.grid_z(), call.block_x(),
                                    call.block_y(), call.block_z(), call.shared_bytes(), stream->handle,
                                    parameters.data(), nullptr);
  }
  if (status == CUDA_SUCCESS) completions_.issued(*stream);
  return finish(header, status);
}

}  // namespace avec::worker
