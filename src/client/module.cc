#include "client/module.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <span>

#include "base/cpu_device.h"
#include "base/settings.h"
#include "client/client.h"
#include "client/coherence.h"
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

void write_logs(const JitOptions& options, std::string_view log, CUresult status) {
  const bool failed = status != CUDA_SUCCESS;
  const LogBuffers buffers = log_buffers(options);
  buffers.info.write(failed ? "" : log);
  buffers.error.write(failed ? log : "");
}

flatbuffers::FlatBufferBuilder load_request(std::uint64_t module, const Context& context,
                                            const wire::ContentHash& hash, std::size_t image_bytes,
                                            const JitOptions& options) {
  const NumericOptions numbers = numeric_options(options);
  flatbuffers::FlatBufferBuilder builder;
  const auto wire_numbers = builder.CreateVector(numbers.options);
  const auto wire_values = builder.CreateVector(numbers.values);
  builder.Finish(wire::CreateModuleLoad(builder, module, context.name.load(), &hash, image_bytes,
                                        wire_numbers, wire_values));
  return builder;
}

/// What a loaded function's attributes say.
void adopt_attributes(Function& function, std::vector<int> attributes) {
  const Device& device = *function.context->device;
  const auto attribute = [&](CUfunction_attribute which, int otherwise) {
    return static_cast<std::size_t>(which) < attributes.size() ? attributes[which] : otherwise;
  };
  const int device_threads = device.attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
  const int shared = std::max(attribute(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, 0), 0);
  const int dynamic = attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, kDefaultSharedBytes - shared);
  const int threads = attribute(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, device_threads);
  std::scoped_lock lock(function.mutex);
  if (function.max_threads.load() != 0) return;  // another thread was first, and may have set some
  function.static_shared_bytes = static_cast<std::uint32_t>(shared);
  function.max_dynamic_shared_bytes.store(static_cast<std::uint32_t>(std::max(dynamic, 0)));
  function.compiled_cluster = attribute(CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH, 0) > 0;
  function.attributes = std::move(attributes);
  function.max_threads.store(static_cast<std::uint32_t>(std::max(threads, 1)), std::memory_order_release);
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
  constexpr CUdevice_attribute kLimits[] = {
      CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X,      CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y,
      CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z,      CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X,
      CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y,       CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z,
      CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK};
  for (std::size_t i = 0; i < std::size(kLimits); ++i)
    function->device_limits[i] = static_cast<std::uint32_t>(device.attribute(kLimits[i]));

  if (facts.attributes() != nullptr && facts.attributes()->size() != 0)
    adopt_attributes(*function, {facts.attributes()->begin(), facts.attributes()->end()});

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
  for (const auto& [name, global] : module->globals) {
    if (module->context->client->coherent()) module->context->client->coherence().close(global.first);
  }
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
      fatbin::filter({static_cast<const std::byte*>(image), bytes}, capability / 10, capability % 10,
                     context.device->name() == kCpuDeviceName);
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
  if (const CUresult checked = check_options(options); checked != CUDA_SUCCESS) return checked;
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
  found->second->asked_for.store(true, std::memory_order_relaxed);
  *function = handle_of(found->second);
  return CUDA_SUCCESS;
}

CUresult load_function(Function& function) {
  if (function.max_threads.load(std::memory_order_acquire) != 0) return CUDA_SUCCESS;
  Context& context = *function.context;
  if (const int sticky = context.error.load(); sticky != CUDA_SUCCESS) return static_cast<CUresult>(sticky);
  const auto reply = context.client->session().call(wire::FunctionLoad(function.module_name, function.index, 0));
  if (!reply) return to_cuda(reply.error());
  std::vector<int> attributes;
  if ((*reply)->attributes() != nullptr) attributes.assign((*reply)->attributes()->begin(), (*reply)->attributes()->end());
  adopt_attributes(function, std::move(attributes));
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

namespace {

/// The program uses a __managed__ variable where the driver put it.
CUresult open_managed_variable(const DeviceBlock& block) {
  Coherence& coherence = block.context->client->coherence();
  if (coherence.find(block.base)) return CUDA_SUCCESS;  // another thread was faster
  Coherence::Range range;
  range.address = block.base;
  range.bytes = range.used = block.bytes;
  range.data = reinterpret_cast<std::byte*>(block.base);
  range.managed = true;
  if (const CUresult result = coherence.open(range, *block.context); result != CUDA_SUCCESS) return result;
  return coherence.synchronized(*block.context);  // its initial value
}

}  // namespace

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
  const bool managed = reply->managed() != 0 && client.coherence().possible();
  if (!client.foreign_ranges().add(block, module->name, !client.heap().in_range(block.base), managed)) {
    char where[64];
    std::snprintf(where, sizeof where, "0x%llx", static_cast<unsigned long long>(block.base));
    say(std::string("the executor's driver placed the variable ") + name + " at " + where +
        ", where this process has memory of its own; start the program again");
    return CUDA_ERROR_MAP_FAILED;
  }
  if (managed) {
    if (const CUresult result = open_managed_variable(block); result != CUDA_SUCCESS) return result;
  }
  std::scoped_lock lock(module->mutex);
  return give(module->globals.emplace(name, std::pair{block.base, block.bytes}).first->second);
}

CUresult module_loading_mode(CUmoduleLoadingMode* mode) {
  if (mode == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const char* wish = std::getenv("CUDA_MODULE_LOADING");
  const bool eager = wish != nullptr && std::string_view(wish) == "EAGER";
  *mode = eager ? CU_MODULE_EAGER_LOADING : CU_MODULE_LAZY_LOADING;
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
