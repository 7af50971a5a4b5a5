#include "client/module.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <span>

#include "client/client.h"
#include "client/context.h"
#include "client/device.h"
#include "client/heap.h"
#include "client/slab.h"
#include "client/status.h"
#include "fatbin/fatbin.h"
#include "session/session.h"
#include "wire/crypto.h"

namespace avec::client {
namespace {

/// Dynamic shared memory that a kernel may use without asking for more, where the executor does
/// not say: CUDA's own default.
constexpr int kDefaultSharedBytes = 48 << 10;

/// Options that carry a number to the JIT; the others name buffers or are about linking.
bool is_number(CUjit_option option) {
  switch (option) {
    case CU_JIT_MAX_REGISTERS:
    case CU_JIT_THREADS_PER_BLOCK:
    case CU_JIT_OPTIMIZATION_LEVEL:
    case CU_JIT_TARGET_FROM_CUCONTEXT:
    case CU_JIT_TARGET:
    case CU_JIT_FALLBACK_STRATEGY:
    case CU_JIT_GENERATE_DEBUG_INFO:
    case CU_JIT_LOG_VERBOSE:
    case CU_JIT_GENERATE_LINE_INFO:
    case CU_JIT_CACHE_MODE:
      return true;
    default:
      return false;
  }
}

/// A log buffer of the application: where it is, and where its size is written back.
struct LogBuffer {
  char* text = nullptr;
  void** size = nullptr;

  void write(std::string_view log) const {
    if (size == nullptr) return;
    const auto room =
        static_cast<std::size_t>(static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(*size)));
    std::size_t written = 0;
    if (text != nullptr && room > 0) {
      written = std::min(log.size(), room - 1);
      std::memcpy(text, log.data(), written);
      text[written] = '\0';
    }
    *size = reinterpret_cast<void*>(written);
  }
};

LogBuffer log_buffer(const JitOptions& options, CUjit_option text, CUjit_option size) {
  LogBuffer buffer;
  for (unsigned i = 0; i < options.count; ++i) {
    if (options.options[i] == text) buffer.text = static_cast<char*>(options.values[i]);
    if (options.options[i] == size) buffer.size = &options.values[i];
  }
  return buffer;
}

void write_logs(const JitOptions& options, std::string_view log, CUresult status) {
  const bool failed = status != CUDA_SUCCESS;
  log_buffer(options, CU_JIT_INFO_LOG_BUFFER, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES).write(failed ? "" : log);
  log_buffer(options, CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES).write(failed ? log : "");
}

flatbuffers::FlatBufferBuilder load_request(std::uint64_t module, const Context& context,
                                            const wire::ContentHash& hash, std::size_t image_bytes,
                                            const JitOptions& options) {
  std::vector<std::int32_t> numbers;
  std::vector<std::uint64_t> values;
  for (unsigned i = 0; i < options.count; ++i) {
    if (!is_number(options.options[i])) continue;
    numbers.push_back(options.options[i]);
    values.push_back(reinterpret_cast<std::uintptr_t>(options.values[i]));
  }
  flatbuffers::FlatBufferBuilder builder;
  const auto wire_numbers = builder.CreateVector(numbers);
  const auto wire_values = builder.CreateVector(values);
  builder.Finish(wire::CreateModuleLoad(builder, module, context.name.load(), &hash, image_bytes,
                                        wire_numbers, wire_values));
  return builder;
}

/// The function of a FunctionFacts; null when there is no room.
Function* make_function(Module& module, std::uint32_t index, const wire::FunctionFacts& facts) {
  Function* function = Slab<Function>::make();
  if (function == nullptr) return nullptr;
  const Device& device = *module.context->device;
  function->module = &module;
  function->context = module.context;
  function->module_name = module.name;
  function->index = index;
  if (facts.name() != nullptr) function->name = facts.name()->str();
  if (facts.attributes() != nullptr)
    function->attributes.assign(facts.attributes()->begin(), facts.attributes()->end());
  const auto attribute = [&](CUfunction_attribute which, int otherwise) {
    return static_cast<std::size_t>(which) < function->attributes.size() ? function->attributes[which]
                                                                         : otherwise;
  };
  const int device_threads = device.attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
  const int shared = std::max(attribute(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, 0), 0);
  function->max_threads = static_cast<std::uint32_t>(
      std::max(attribute(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, device_threads), 0));
  function->static_shared_bytes = static_cast<std::uint32_t>(shared);
  function->max_dynamic_shared_bytes.store(static_cast<std::uint32_t>(
      std::max(attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, kDefaultSharedBytes - shared), 0)));
  constexpr CUdevice_attribute kLimits[] = {
      CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X,      CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y,
      CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z,      CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X,
      CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y,       CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z,
      CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK};
  for (std::size_t i = 0; i < std::size(kLimits); ++i)
    function->device_limits[i] = static_cast<std::uint32_t>(device.attribute(kLimits[i]));

  const auto *offsets = facts.parameter_offsets(), *sizes = facts.parameter_sizes();
  const std::uint32_t count =
      offsets != nullptr && sizes != nullptr ? std::min(offsets->size(), sizes->size()) : 0;
  function->parameter_count = count;
  function->parameters = std::make_unique<Function::Parameter[]>(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    function->parameters[i] = {offsets->Get(i), sizes->Get(i)};
    function->parameter_bytes = std::max(function->parameter_bytes, offsets->Get(i) + sizes->Get(i));
  }
  return function;
}

/// What a peer may get wrong, although the reply is well formed: parameters that overlap or
/// exceed CUDA's own limit would make a launch write outside its buffer.
bool plausible(const wire::ModuleLoadReply& reply) {
  if (reply.functions() == nullptr) return true;
  for (const wire::FunctionFacts* facts : *reply.functions()) {
    const auto *offsets = facts->parameter_offsets(), *sizes = facts->parameter_sizes();
    if (offsets == nullptr || sizes == nullptr) continue;
    std::uint64_t end = 0;
    for (std::uint32_t i = 0; i < std::min(offsets->size(), sizes->size()); ++i) {
      if (offsets->Get(i) < end) return false;
      end = std::uint64_t{offsets->Get(i)} + sizes->Get(i);
      if (end > limits::kMaxParameterBytes) return false;
    }
  }
  return true;
}

void destroy_module(Module* module) {
  module->context->client->foreign_ranges().remove_module(module->name);
  for (Function* function : module->functions) Slab<Function>::destroy(function);
  Slab<Module>::destroy(module);
}

CUresult make_module(Context& context, std::uint64_t name, const wire::ModuleLoadReply& reply,
                     Module*& made) {
  if (!plausible(reply)) return CUDA_ERROR_DEVICE_UNAVAILABLE;
  Module* module = Slab<Module>::make();
  if (module == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  module->context = &context;
  module->name = name;
  if (reply.functions() != nullptr) {
    module->functions.reserve(reply.functions()->size());
    for (const wire::FunctionFacts* facts : *reply.functions()) {
      Function* function =
          make_function(*module, static_cast<std::uint32_t>(module->functions.size()), *facts);
      if (function == nullptr) {
        destroy_module(module);
        return CUDA_ERROR_OUT_OF_MEMORY;
      }
      module->functions.push_back(function);
      module->by_name.emplace(function->name, function);
    }
  }
  {
    std::scoped_lock lock(context.mutex);
    context.modules.insert(module);
  }
  made = module;
  return CUDA_SUCCESS;
}

CUresult find_module(CUmodule handle, Module*& module) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  module = Slab<Module>::find(handle);
  return module != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

}  // namespace

CUresult load_into(Context& context, const void* image, std::size_t bytes, JitOptions options,
                   Module*& module) {
  const auto capability = static_cast<unsigned>(context.device->compute_capability());
  const auto filtered =
      fatbin::filter({static_cast<const std::byte*>(image), bytes}, capability / 10, capability % 10);
  if (!filtered) return CUDA_ERROR_INVALID_IMAGE;
  const auto hash = wire::content_hash(*filtered);
  if (!hash) return CUDA_ERROR_OPERATING_SYSTEM;
  session::Session& session = context.client->session();
  const std::uint64_t name = context.client->mint();
  const auto request = load_request(name, context, *hash, filtered->size(), options);
  auto reply = session.call<wire::ModuleLoad>(request);
  if (reply && (*reply)->needs_image()) {
    if (auto sent = session.post(wire::ModuleImage(*hash), *filtered); !sent) return to_cuda(sent.error());
    reply = session.call<wire::ModuleLoad>(request);
  }
  if (!reply) {
    write_logs(options, "", to_cuda(reply.error()));
    return to_cuda(reply.error());
  }
  const auto status = static_cast<CUresult>((*reply)->status());
  write_logs(options, (*reply)->log() != nullptr ? (*reply)->log()->string_view() : std::string_view(),
             status);
  if (status != CUDA_SUCCESS) return status;
  if ((*reply)->needs_image()) return CUDA_ERROR_DEVICE_UNAVAILABLE;  // asked twice: it lost what it was sent
  return make_module(context, name, **reply, module);
}

CUresult module_load(CUmodule* handle, const void* image, JitOptions options) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (handle == nullptr || image == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (options.count != 0 && (options.options == nullptr || options.values == nullptr))
    return CUDA_ERROR_INVALID_VALUE;
  const auto bytes = fatbin::image_size(image);
  if (!bytes) return CUDA_ERROR_INVALID_IMAGE;
  const auto container = fatbin::container(image);  // a wrapper points to it
  Module* module = nullptr;
  const CUresult result = load_into(*context, container ? container->data() : image, *bytes, options, module);
  if (result == CUDA_SUCCESS) *handle = handle_of(module);
  return result;
}

CUresult module_load_bytes(CUmodule* handle, std::span<const std::byte> image, JitOptions options) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (image.empty()) return CUDA_ERROR_INVALID_IMAGE;
  std::vector<std::byte> terminated;
  // PTX goes with its final NUL on the wire, which a file does not have.
  if (fatbin::image_kind(image) == fatbin::ImageKind::kText && image.back() != std::byte{0}) {
    terminated.assign(image.begin(), image.end());
    terminated.push_back(std::byte{0});
    image = terminated;
  }
  Module* module = nullptr;
  const CUresult result = load_into(*context, image.data(), image.size(), options, module);
  if (result == CUDA_SUCCESS) *handle = handle_of(module);
  return result;
}

CUresult module_load_file(CUmodule* handle, const char* path) {
  if (handle == nullptr || path == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::ifstream file(path, std::ios::binary);
  if (!file) return CUDA_ERROR_FILE_NOT_FOUND;
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  return module_load_bytes(handle, std::as_bytes(std::span(bytes)), {});
}

CUresult module_unload(CUmodule handle) {
  Module* module;
  if (const CUresult result = find_module(handle, module); result != CUDA_SUCCESS) return result;
  Context& context = *module->context;
  {
    std::scoped_lock lock(context.mutex);
    if (context.modules.erase(module) == 0) return CUDA_ERROR_INVALID_HANDLE;
  }
  const std::uint64_t name = module->name;
  destroy_module(module);
  return to_cuda(context.client->session().post(wire::ModuleUnload(name)));
}

CUresult module_get_function(CUfunction* function, CUmodule handle, const char* name) {
  Module* module;
  if (const CUresult result = find_module(handle, module); result != CUDA_SUCCESS) return result;
  if (function == nullptr || name == nullptr || *name == '\0') return CUDA_ERROR_INVALID_VALUE;
  const auto found = module->by_name.find(name);
  if (found == module->by_name.end()) return CUDA_ERROR_NOT_FOUND;
  *function = handle_of(found->second);
  return CUDA_SUCCESS;
}

CUresult module_function_count(unsigned* count, CUmodule handle) {
  Module* module;
  if (const CUresult result = find_module(handle, module); result != CUDA_SUCCESS) return result;
  if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *count = static_cast<unsigned>(module->functions.size());
  return CUDA_SUCCESS;
}

CUresult module_functions(CUfunction* functions, unsigned count, CUmodule handle) {
  Module* module;
  if (const CUresult result = find_module(handle, module); result != CUDA_SUCCESS) return result;
  if (functions == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const std::size_t filled = std::min<std::size_t>(count, module->functions.size());
  for (std::size_t i = 0; i < filled; ++i) functions[i] = handle_of(module->functions[i]);
  return CUDA_SUCCESS;
}

CUresult module_get_global(CUdeviceptr* address, std::size_t* bytes, CUmodule handle, const char* name) {
  Module* module;
  if (const CUresult result = find_module(handle, module); result != CUDA_SUCCESS) return result;
  if (name == nullptr || *name == '\0') return CUDA_ERROR_INVALID_VALUE;
  const auto give = [&](const std::pair<std::uint64_t, std::uint64_t>& global) {
    if (address != nullptr) *address = global.first;
    if (bytes != nullptr) *bytes = global.second;
    return CUDA_SUCCESS;
  };
  {
    std::scoped_lock lock(module->mutex);
    if (const auto known = module->globals.find(name); known != module->globals.end())
      return give(known->second);
  }
  Client& client = *module->context->client;
  flatbuffers::FlatBufferBuilder builder;
  const auto wire_name = builder.CreateString(name);
  builder.Finish(wire::CreateModuleGetGlobal(builder, module->name, wire_name));
  const auto reply = client.session().call<wire::ModuleGetGlobal>(builder);
  if (!reply) return to_cuda(reply.error());
  const DeviceBlock block{reply->address(), reply->bytes(), module->context,
                          module->context->device->ordinal(), client.mint()};
  if (!client.foreign_ranges().add(block, module->name, !client.heap().in_range(block.base)))
    return CUDA_ERROR_MAP_FAILED;
  std::scoped_lock lock(module->mutex);
  return give(module->globals.emplace(name, std::pair{block.base, block.bytes}).first->second);
}

CUresult module_loading_mode(CUmoduleLoadingMode* mode) {
  if (mode == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *mode = CU_MODULE_LAZY_LOADING;
  return CUDA_SUCCESS;
}

void forget_modules(Context& context) {
  std::unordered_set<Module*> gone;
  {
    std::scoped_lock lock(context.mutex);
    gone.swap(context.modules);
  }
  for (Module* module : gone) destroy_module(module);
}

}  // namespace avec::client
