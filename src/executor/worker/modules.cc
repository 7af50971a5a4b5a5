// Modules, functions, launches.
#include <algorithm>
#include <array>
#include <cstring>

#include "executor/worker/jit_options.h"
#include "executor/worker/session.h"
#include "fatbin/fatbin.h"

namespace avec::worker {
namespace {

constexpr std::size_t kLogBytes = 16u << 10;
// Functions of a module with more are loaded when they are first used: a program that brings thousands
// uses few of them, and loading one takes tens of microseconds.
constexpr unsigned kLoadedAtOnce = 64;
// Images that were sent and not yet loaded, bytes.
constexpr std::uint64_t kMaxWaitingImages = limits::kMaxImageBytes;

Hash to_hash(const wire::ContentHash& hash) {
  Hash bytes;
  std::memcpy(bytes.data(), &hash, bytes.size());
  return bytes;
}

bool same(const wire::ContentHash& a, const wire::ContentHash& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

bool names_printing(std::span<const std::byte> code) {
  const auto contains = [&](std::string_view word) {
    return ::memmem(code.data(), code.size(), word.data(), word.size()) != nullptr;
  };
  return contains("vprintf") || contains("__assertfail");
}

/// Whether kernels of the image may call printf or assert; what cannot be read may.
bool may_print(std::span<const std::byte> image) {
  if (fatbin::image_kind(image) != fatbin::ImageKind::kContainer) return names_printing(image);
  const auto entries = fatbin::list(image);
  if (!entries) return true;
  return std::ranges::any_of(*entries, [](const fatbin::Entry& entry) {
    if (entry.compression == fatbin::Compression::kNone) return names_printing(entry.payload);
    const auto code = fatbin::decompress(entry);
    return !code || names_printing(*code);
  });
}

CUresult read_attributes(const DriverTable& driver, CUfunction function, std::vector<std::int32_t>& attributes) {
  // A driver that loads lazily knows a function's attributes only once it is loaded.
  if (CUresult status = driver.cuFuncLoad(function); status != CUDA_SUCCESS) return status;
  attributes.resize(CU_FUNC_ATTRIBUTE_MAX);
  for (int a = 0; a < CU_FUNC_ATTRIBUTE_MAX; ++a) {
    int value = 0;
    if (driver.cuFuncGetAttribute(&value, static_cast<CUfunction_attribute>(a), function) == CUDA_SUCCESS)
      attributes[static_cast<std::size_t>(a)] = value;
  }
  return CUDA_SUCCESS;
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
    if (count > kLoadedAtOnce) continue;
    if (CUresult status = read_attributes(driver, handles[i], function.attributes); status != CUDA_SUCCESS)
      return status;
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
  JitOptions options;
  CUresult status;
  if (!read_options(call, options, status)) return protocol_error("options and values that do not pair");
  if (status != CUDA_SUCCESS) return finish(header, status);
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
  auto sent = std::make_shared<std::vector<std::byte>>(take_image(*call.hash()));
  JitOptions given;
  CUresult readable;
  read_options(call, given, readable);  // checked already
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
    auto info = std::make_shared<std::string>(kLogBytes, '\0');
    JitOptions options = given;
    options.add(CU_JIT_ERROR_LOG_BUFFER, log->data());
    options.add(CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, reinterpret_cast<void*>(kLogBytes));
    options.add(CU_JIT_INFO_LOG_BUFFER, info->data());
    options.add(CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, reinterpret_cast<void*>(kLogBytes));
    CUmodule handle = nullptr;
    driver_.cuCtxSetCurrent(context);
    CUresult status = driver_.cuModuleLoadDataEx(&handle, image->bytes().data(), options.count(),
                                                 options.options.data(), options.values.data());
    auto functions = std::make_shared<std::vector<Function>>();
    if (status == CUDA_SUCCESS) {
      status = read_functions(driver_, handle, *functions);
      if (status != CUDA_SUCCESS) driver_.cuModuleUnload(std::exchange(handle, nullptr));
    }
    if (status == CUDA_SUCCESS) *log = *info;
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

std::vector<std::byte> Session::take_image(const wire::ContentHash& hash) {
  const auto it = std::ranges::find_if(images_, [&](const auto& image) { return same(image.first, hash); });
  if (it == images_.end()) return {};
  std::vector<std::byte> bytes = std::move(it->second);
  image_bytes_ -= bytes.size();
  images_.erase(it);
  return bytes;
}

Result<> Session::operator()(const Header& header, const wire::FunctionLoad& call) {
  CUresult status;
  Module* module = nullptr;
  Function* function = find_function(call.module_(), call.index(), module, status);
  if (function == nullptr) return finish(header, status);
  if (!function->attributes.empty()) {
    function_loaded(header, call.module_(), call.index(), CUDA_SUCCESS, function->attributes);
    return {};
  }
  ++function_loads_[call.module_()];  // the module stays until the helper is done
  helpers_.run([this, header, name = call.module_(), index = call.index(), handle = function->handle,
                context = module->context->handle]() -> std::function<void()> {
    driver_.cuCtxSetCurrent(context);
    std::vector<std::int32_t> attributes;
    const CUresult result = read_attributes(driver_, handle, attributes);
    return [=, this] {
      function_loaded(header, name, index, result, attributes);
      if (--function_loads_[name] != 0) return;
      function_loads_.erase(name);
      if (auto held = held_unloads_.extract(name); !held.empty()) held.mapped()();
    };
  });
  return {};
}

void Session::function_loaded(const Header& call, std::uint64_t name, std::uint32_t index, CUresult status,
                              std::vector<std::int32_t> attributes) {
  Module* module = modules_.find(name);
  if (status == CUDA_SUCCESS && module == nullptr) status = CUDA_ERROR_INVALID_HANDLE;
  if (status != CUDA_SUCCESS) return void(finish(call, status));
  module->functions[index].attributes = std::move(attributes);
  flatbuffers::FlatBufferBuilder builder;
  const auto values = builder.CreateVector(module->functions[index].attributes);
  builder.Finish(wire::CreateFunctionLoadReply(builder, values));
  link_.reply(call, CUDA_SUCCESS, {reinterpret_cast<const std::byte*>(builder.GetBufferPointer()), builder.GetSize()});
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
  forget_globals(call.module_());
  std::vector<Stream*> busy;
  for (Stream* stream : module->context->streams)
    if (stream->issued != stream->completed) busy.push_back(stream);
  if (module->in_graphs) {
    retired_modules_.push_back(std::move(*owner));
    return finish(header, CUDA_SUCCESS);
  }
  completions_.then_all(busy, [this, header, owner, name = call.module_()](CUresult) {
    const auto unload = [this, header, owner] {
      when_not_comparing([this, header, owner] {
        make_current(*(*owner)->context);
        finish(header, driver_.cuModuleUnload((*owner)->handle));
      });
    };
    if (function_loads_.contains(name)) {
      held_unloads_[name] = unload;
    } else {
      unload();
    }
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
  return answer(header, wire::ModuleGetGlobalReply(address, bytes, is_managed(address) ? 1 : 0, 0));
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
  if (!share_objects(*module->context, *stream->context)) return finish(header, CUDA_ERROR_INVALID_HANDLE);
  if (frame_->payload.size() != function->parameter_bytes)
    return protocol_error("a parameter buffer that does not have the function's size");
  const bool held = settings_.empty() ? hold(*stream) : hold(*stream, {held_setting(call.module_(), call.index())});
  if (held) return {};
  if (tracer_.on()) tracer_.kernel(function->name);
  before_issue(*stream);
  module->in_graphs |= stream->capturing;
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
