#include "client/library.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <mutex>
#include <span>

#include "client/client.h"
#include "client/context.h"
#include "client/device.h"
#include "client/function.h"
#include "client/memory.h"
#include "client/slab.h"
#include "fatbin/fatbin.h"

namespace avec::client {
namespace {

struct Kernel;

/// A CUlibrary is the address of one (Slab<Library>).
struct Library {
  Client* client = nullptr;
  std::vector<std::byte> image;  // own copy: the application may free its own
  std::mutex mutex;              // guards what follows; held while loading, so that it happens once
  std::unordered_map<std::uint64_t, Module*> modules;  // by the context's name on the wire
  std::map<std::string, Kernel*, std::less<>> kernels;
};

/// A CUkernel is the address of one (Slab<Kernel>).
struct Kernel {
  Library* library = nullptr;
  std::string name;
  std::mutex mutex;  // guards what follows
  struct Loaded {
    std::uint64_t context_name;
    Function* function;
  };
  std::vector<Loaded> loaded;
  std::vector<std::pair<CUfunction_attribute, int>> attributes;  // set before it was loaded
};

CUlibrary handle_of(Library* library) { return reinterpret_cast<CUlibrary>(library); }
CUkernel handle_of(Kernel* kernel) { return reinterpret_cast<CUkernel>(kernel); }

CUresult module_in_locked(Library& library, Context& context, JitOptions options, Module*& module) {
  const std::uint64_t name = context.name.load();
  if (const auto known = library.modules.find(name); known != library.modules.end()) {
    module = known->second;
    return CUDA_SUCCESS;
  }
  const CUresult result = load_into(context, library.image.data(), library.image.size(), options, module);
  if (result == CUDA_SUCCESS) library.modules.emplace(name, module);
  return result;
}

/// A context in which the library's list of kernels can be read: the current one, else the first
/// device's primary context, made active for it.
CUresult any_context(Client& client, Context*& context) {
  if (usable_context(context) == CUDA_SUCCESS && context->client == &client) return CUDA_SUCCESS;
  context = client.primary(0);
  if (context == nullptr) return CUDA_ERROR_NO_DEVICE;
  CUcontext ignored;
  return context->active() ? CUDA_SUCCESS : primary_retain(client, &ignored, 0);
}

/// The kernel objects of a library, made once from the functions of its module.
CUresult list_kernels(Library& library) {
  if (!library.kernels.empty()) return CUDA_SUCCESS;
  Context* context;
  if (const CUresult result = any_context(*library.client, context); result != CUDA_SUCCESS) return result;
  Module* module;
  if (const CUresult result = module_in_locked(library, *context, {}, module); result != CUDA_SUCCESS)
    return result;
  for (const Function* function : module->functions) {
    Kernel* kernel = Slab<Kernel>::make();
    if (kernel == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
    kernel->library = &library;
    kernel->name = function->name;
    library.kernels.emplace(function->name, kernel);
  }
  return CUDA_SUCCESS;
}

CUresult make_library(Client& client, CUlibrary* handle, std::vector<std::byte> image) {
  Library* library = Slab<Library>::make();
  if (library == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  library->client = &client;
  library->image = std::move(image);
  *handle = handle_of(library);
  return CUDA_SUCCESS;
}

}  // namespace

CUresult library_load(Client& client, CUlibrary* handle, const void* image, JitOptions options) {
  if (handle == nullptr || image == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult result = check_options(options); result != CUDA_SUCCESS) return result;
  const auto bytes = fatbin::image_size(image);
  if (!bytes) return CUDA_ERROR_INVALID_IMAGE;
  const auto container = fatbin::container(image);
  const auto* first = static_cast<const std::byte*>(container ? container->data() : image);
  const CUresult made = make_library(client, handle, {first, first + *bytes});
  // Text is compiled at once where there is a context: its errors belong to this call.
  const bool text = fatbin::image_kind({first, *bytes}) == fatbin::ImageKind::kText;
  Context* context;
  if (made != CUDA_SUCCESS || !text || usable_context(context) != CUDA_SUCCESS) return made;
  Library* library = Slab<Library>::find(*handle);
  CUresult result;
  {
    std::scoped_lock lock(library->mutex);
    Module* module;
    result = module_in_locked(*library, *context, options, module);
  }
  if (result != CUDA_SUCCESS) library_unload(*handle);
  return result;
}

CUresult library_load_file(Client& client, CUlibrary* handle, const char* path, JitOptions) {
  if (handle == nullptr || path == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::ifstream file(path, std::ios::binary);
  if (!file) return CUDA_ERROR_FILE_NOT_FOUND;
  const std::vector<char> text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (text.empty()) return CUDA_ERROR_INVALID_IMAGE;
  const auto bytes = std::as_bytes(std::span(text));
  std::vector<std::byte> image(bytes.begin(), bytes.end());
  if (fatbin::image_kind(image) == fatbin::ImageKind::kText && image.back() != std::byte{0})
    image.push_back(std::byte{0});
  return make_library(client, handle, std::move(image));
}

CUresult library_unload(CUlibrary handle) {
  Library* library = Slab<Library>::find(handle);
  if (library == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  std::vector<Module*> modules;
  {
    std::scoped_lock lock(library->mutex);
    for (const auto& [name, kernel] : library->kernels) Slab<Kernel>::destroy(kernel);
    for (const auto& [context_name, module] : library->modules) {
      Module* live = Slab<Module>::find(module);
      // Contexts that ended took their modules along.
      if (live != nullptr && live->context->name.load() == context_name) modules.push_back(live);
    }
  }
  for (Module* module : modules) {
    Context* before = current_context;
    current_context = module->context;
    module_unload(avec::client::handle_of(module));
    current_context = before;
  }
  Slab<Library>::destroy(library);
  return CUDA_SUCCESS;
}

CUresult library_get_kernel(CUkernel* kernel, CUlibrary handle, const char* name) {
  Library* library = Slab<Library>::find(handle);
  if (library == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (kernel == nullptr || name == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::scoped_lock lock(library->mutex);
  if (const CUresult result = list_kernels(*library); result != CUDA_SUCCESS) return result;
  const auto found = library->kernels.find(std::string_view(name));
  if (found == library->kernels.end()) return CUDA_ERROR_NOT_FOUND;
  *kernel = handle_of(found->second);
  return CUDA_SUCCESS;
}

CUresult library_kernel_count(unsigned* count, CUlibrary handle) {
  Library* library = Slab<Library>::find(handle);
  if (library == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::scoped_lock lock(library->mutex);
  if (const CUresult result = list_kernels(*library); result != CUDA_SUCCESS) return result;
  *count = static_cast<unsigned>(library->kernels.size());
  return CUDA_SUCCESS;
}

CUresult library_kernels(CUkernel* kernels, unsigned count, CUlibrary handle) {
  Library* library = Slab<Library>::find(handle);
  if (library == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (kernels == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::scoped_lock lock(library->mutex);
  if (const CUresult result = list_kernels(*library); result != CUDA_SUCCESS) return result;
  for (const auto& [name, kernel] : library->kernels) {
    if (count-- == 0) break;
    *kernels++ = handle_of(kernel);
  }
  return CUDA_SUCCESS;
}

CUresult library_get_module(CUmodule* handle, CUlibrary library_handle) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  Library* library = Slab<Library>::find(library_handle);
  if (library == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::scoped_lock lock(library->mutex);
  Module* module;
  const CUresult result = module_in_locked(*library, *context, {}, module);
  if (result == CUDA_SUCCESS) *handle = avec::client::handle_of(module);
  return result;
}

CUresult library_get_global(CUdeviceptr* address, std::size_t* bytes, CUlibrary library, const char* name) {
  CUmodule module;
  if (const CUresult result = library_get_module(&module, library); result != CUDA_SUCCESS) return result;
  return module_get_global(address, bytes, module, name);
}

CUresult library_get_managed(CUdeviceptr* address, std::size_t* bytes, CUlibrary library, const char* name) {
  CUdeviceptr found = 0;
  std::size_t found_bytes = 0;
  if (const CUresult result = library_get_global(&found, &found_bytes, library, name); result != CUDA_SUCCESS)
    return result;
  int managed = 0;
  if (pointer_attribute(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, found) != CUDA_SUCCESS || managed == 0)
    return CUDA_ERROR_NOT_FOUND;
  if (address != nullptr) *address = found;
  if (bytes != nullptr) *bytes = found_bytes;
  return CUDA_SUCCESS;
}

// Function pointers that host and device share: CU_DEVICE_ATTRIBUTE_UNIFIED_FUNCTION_POINTERS is 0.
CUresult library_get_unified_function(void**, CUlibrary library, const char*) {
  if (Slab<Library>::find(library) == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  return CUDA_ERROR_INVALID_VALUE;  // as for a symbol that is no such function
}

CUresult function_in(Context& context, CUkernel handle, Function*& function) {
  Kernel* kernel = Slab<Kernel>::find(handle);
  if (kernel == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  const std::uint64_t name = context.name.load();
  std::scoped_lock lock(kernel->mutex);
  for (const Kernel::Loaded& loaded : kernel->loaded) {
    if (loaded.context_name == name) {
      function = loaded.function;
      return CUDA_SUCCESS;
    }
  }
  Module* module;
  {
    std::scoped_lock library_lock(kernel->library->mutex);
    if (const CUresult result = module_in_locked(*kernel->library, context, {}, module); result != CUDA_SUCCESS)
      return result;
  }
  const auto found = module->by_name.find(kernel->name);
  if (found == module->by_name.end()) return CUDA_ERROR_NOT_FOUND;
  function = found->second;
  for (const auto& [which, value] : kernel->attributes) {
    if (const CUresult result = function_set_attribute(avec::client::handle_of(function), which, value);
        result != CUDA_SUCCESS)
      return result;
  }
  kernel->loaded.push_back({name, function});
  return CUDA_SUCCESS;
}

CUresult kernel_get_function(CUfunction* handle, CUkernel kernel) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Function* function;
  const CUresult result = function_in(*context, kernel, function);
  if (result == CUDA_SUCCESS) *handle = avec::client::handle_of(function);
  return result;
}

CUresult kernel_get_library(CUlibrary* library, CUkernel handle) {
  const Kernel* kernel = Slab<Kernel>::find(handle);
  if (kernel == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (library == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *library = handle_of(kernel->library);
  return CUDA_SUCCESS;
}

namespace {

/// Runs `action` with the device's context current: the current one if it is on that device,
/// else its primary context.
template <class Action>
CUresult on_device(Kernel& kernel, CUdevice device, Action action) {
  Context* before = current_context;
  Context* context = before;
  if (context == nullptr || context->device->ordinal() != device) {
    context = kernel.library->client->primary(device);
    if (context == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    CUcontext ignored;
    if (!context->active()) {
      if (const CUresult result = primary_retain(*kernel.library->client, &ignored, device);
          result != CUDA_SUCCESS)
        return result;
    }
  }
  current_context = context;
  Function* function = nullptr;
  CUresult result = function_in(*context, handle_of(&kernel), function);
  if (result == CUDA_SUCCESS) result = action(avec::client::handle_of(function));
  current_context = before;
  return result;
}

}  // namespace

CUresult kernel_get_attribute(int* value, CUfunction_attribute which, CUkernel handle, CUdevice device) {
  Kernel* kernel = Slab<Kernel>::find(handle);
  if (kernel == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  return on_device(*kernel, device,
                   [&](CUfunction function) { return function_get_attribute(value, which, function); });
}

CUresult kernel_set_attribute(CUfunction_attribute which, int value, CUkernel handle, CUdevice device) {
  Kernel* kernel = Slab<Kernel>::find(handle);
  if (kernel == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  const CUresult result = on_device(
      *kernel, device, [&](CUfunction function) { return function_set_attribute(function, which, value); });
  if (result != CUDA_SUCCESS) return result;
  std::scoped_lock lock(kernel->mutex);  // contexts that load it later get the same
  std::erase_if(kernel->attributes, [&](const auto& entry) { return entry.first == which; });
  kernel->attributes.emplace_back(which, value);
  return CUDA_SUCCESS;
}

CUresult kernel_set_cache_config(CUkernel handle, CUfunc_cache config, CUdevice device) {
  Kernel* kernel = Slab<Kernel>::find(handle);
  if (kernel == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  return on_device(*kernel, device,
                   [&](CUfunction function) { return function_set_cache_config(function, config); });
}

CUresult kernel_get_name(const char** name, CUkernel handle) {
  const Kernel* kernel = Slab<Kernel>::find(handle);
  if (kernel == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (name == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *name = kernel->name.c_str();
  return CUDA_SUCCESS;
}

CUresult kernel_parameter(CUkernel handle, std::size_t index, std::size_t* offset, std::size_t* bytes) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  Function* function;
  if (const CUresult result = function_in(*context, handle, function); result != CUDA_SUCCESS) return result;
  return function_parameter(avec::client::handle_of(function), index, offset, bytes);
}

}  // namespace avec::client
