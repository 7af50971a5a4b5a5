// Modules, libraries, kernels and functions.
#include "devices/cpu/modules.h"

#include <cstring>
#include <fstream>
#include <iterator>

#include "devices/cpu/attributes.h"

using namespace avec::cpu;

namespace {

CUresult load(CUmodule* handle, const void* image, unsigned count, CUjit_option* options, void** values) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (handle == nullptr || image == nullptr) return CUDA_ERROR_INVALID_VALUE;
  JitLog jit;
  if (const auto error = jit.read(count, options, values)) return error;
  std::unique_ptr<ptx::Module> code;
  std::vector<char> text;
  std::string log;
  const CUresult compiled = compile_image(image, code, text, log);
  jit.write(compiled == CUDA_SUCCESS ? "" : log);
  if (compiled) return compiled;
  std::shared_ptr<Module> module;
  if (const auto error = instantiate(context, std::move(code), module)) return error;
  *handle = as_handle<CUmodule>(module->handle);
  return CUDA_SUCCESS;
}

/// The file's bytes with a NUL behind them.
CUresult read_file(const char* path, std::vector<char>& bytes) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return CUDA_ERROR_FILE_NOT_FOUND;
  bytes.assign(std::istreambuf_iterator<char>(file), {});
  bytes.push_back('\0');
  return CUDA_SUCCESS;
}

CUresult module_of(CUmodule handle, std::shared_ptr<Module>& module) {
  if (const auto error = initialised()) return error;
  module = state().modules.find(handle);
  return module ? module->context->fault.load() : CUDA_ERROR_INVALID_HANDLE;
}

CUresult parameter_info(const Function& function, size_t index, size_t* offset, size_t* bytes) {
  const auto& parameters = function.facts->parameters;
  if (offset == nullptr || index >= parameters.size()) return CUDA_ERROR_INVALID_VALUE;
  *offset = parameters[index].offset;
  if (bytes != nullptr) *bytes = parameters[index].bytes;
  return CUDA_SUCCESS;
}

}  // namespace

extern "C" {

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  return load(module, image, 0, nullptr, nullptr);
}

CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned count, CUjit_option* options,
                            void** values) {
  return load(module, image, count, options, values);
}

CUresult cuModuleLoadFatBinary(CUmodule* module, const void* image) {
  return load(module, image, 0, nullptr, nullptr);
}

CUresult cuModuleLoad(CUmodule* module, const char* path) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (module == nullptr || path == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::vector<char> bytes;
  if (const auto error = read_file(path, bytes)) return error;
  return load(module, bytes.data(), 0, nullptr, nullptr);
}

CUresult cuModuleUnload(CUmodule handle) {
  std::shared_ptr<Module> module;
  if (const auto error = module_of(handle, module)) return error;
  if (module->library != 0) return CUDA_ERROR_NOT_PERMITTED;
  (void)synchronize(module->context);
  forget(module);
  return CUDA_SUCCESS;
}

CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode* mode) {
  if (const auto error = initialised()) return error;
  if (mode == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *mode = CU_MODULE_EAGER_LOADING;
  return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction* handle, CUmodule module_handle, const char* name) {
  std::shared_ptr<Module> module;
  if (const auto error = module_of(module_handle, module)) return error;
  if (handle == nullptr || name == nullptr) return CUDA_ERROR_INVALID_VALUE;
  for (const auto& function : module->functions) {
    if (function->facts->name == name) {
      *handle = as_handle<CUfunction>(function->handle);
      return CUDA_SUCCESS;
    }
  }
  return CUDA_ERROR_NOT_FOUND;
}

CUresult cuModuleGetFunctionCount(unsigned* count, CUmodule handle) {
  std::shared_ptr<Module> module;
  if (const auto error = module_of(handle, module)) return error;
  if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *count = static_cast<unsigned>(module->functions.size());
  return CUDA_SUCCESS;
}

CUresult cuModuleEnumerateFunctions(CUfunction* handles, unsigned count, CUmodule handle) {
  std::shared_ptr<Module> module;
  if (const auto error = module_of(handle, module)) return error;
  if (handles == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
  for (unsigned i = 0; i < count && i < module->functions.size(); ++i) {
    handles[i] = as_handle<CUfunction>(module->functions[i]->handle);
  }
  return CUDA_SUCCESS;
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr* address, size_t* bytes, CUmodule handle, const char* name) {
  std::shared_ptr<Module> module;
  if (const auto error = module_of(handle, module)) return error;
  if (name == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return global_of(*module, name, address, bytes);
}

// ---- functions --------------------------------------------------------------------------

CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction handle) {
  std::shared_ptr<Function> function;
  std::shared_ptr<Module> module;
  if (const auto error = function_of(handle, function, module)) return error;
  if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return get_attribute(*function, attribute, *value);
}

CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value) {
  std::shared_ptr<Function> function;
  std::shared_ptr<Module> module;
  if (const auto error = function_of(handle, function, module)) return error;
  return set_attribute(*function, attribute, value);
}

CUresult cuFuncSetCacheConfig(CUfunction handle, CUfunc_cache config) {
  std::shared_ptr<Function> function;
  std::shared_ptr<Module> module;
  if (const auto error = function_of(handle, function, module)) return error;
  return config < 0 || config > CU_FUNC_CACHE_PREFER_EQUAL ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult cuFuncSetSharedMemConfig(CUfunction handle, CUsharedconfig config) {
  std::shared_ptr<Function> function;
  std::shared_ptr<Module> module;
  if (const auto error = function_of(handle, function, module)) return error;
  return config < 0 || config > CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE ? CUDA_ERROR_INVALID_VALUE
                                                                          : CUDA_SUCCESS;
}

CUresult cuFuncGetModule(CUmodule* module_handle, CUfunction handle) {
  std::shared_ptr<Function> function;
  std::shared_ptr<Module> module;
  if (const auto error = function_of(handle, function, module)) return error;
  if (module_handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *module_handle = as_handle<CUmodule>(module->handle);
  return CUDA_SUCCESS;
}

CUresult cuFuncGetName(const char** name, CUfunction handle) {
  std::shared_ptr<Function> function;
  std::shared_ptr<Module> module;
  if (const auto error = function_of(handle, function, module)) return error;
  if (name == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *name = function->facts->name.c_str();
  return CUDA_SUCCESS;
}

CUresult cuFuncGetParamInfo(CUfunction handle, size_t index, size_t* offset, size_t* bytes) {
  std::shared_ptr<Function> function;
  std::shared_ptr<Module> module;
  if (const auto error = function_of(handle, function, module)) return error;
  return parameter_info(*function, index, offset, bytes);
}

CUresult cuFuncIsLoaded(CUfunctionLoadingState* loaded, CUfunction handle) {
  std::shared_ptr<Function> function;
  std::shared_ptr<Module> module;
  if (const auto error = function_of(handle, function, module)) return error;
  if (loaded == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *loaded = CU_FUNCTION_LOADING_STATE_LOADED;
  return CUDA_SUCCESS;
}

CUresult cuFuncLoad(CUfunction handle) {
  std::shared_ptr<Function> function;
  std::shared_ptr<Module> module;
  return function_of(handle, function, module);
}

// ---- libraries --------------------------------------------------------------------------

CUresult cuLibraryLoadData(CUlibrary* handle, const void* image, CUjit_option* options, void** values,
                           unsigned count, CUlibraryOption*, void**, unsigned) {
  if (const auto error = initialised()) return error;
  if (handle == nullptr || image == nullptr) return CUDA_ERROR_INVALID_VALUE;
  JitLog jit;
  if (const auto error = jit.read(count, options, values)) return error;
  auto library = std::make_shared<Library>();
  std::unique_ptr<ptx::Module> code;
  std::string log;
  const CUresult compiled = compile_image(image, code, library->ptx, log);
  jit.write(compiled == CUDA_SUCCESS ? "" : log);
  if (compiled) return compiled;
  state().libraries.add(library);
  for (const auto& facts : code->kernels()) {
    auto kernel = std::make_shared<Kernel>();
    kernel->library = library->handle;
    kernel->name = facts.name;
    state().kernels.add(kernel);
    library->kernels.push_back(std::move(kernel));
  }
  *handle = as_handle<CUlibrary>(library->handle);
  return CUDA_SUCCESS;
}

CUresult cuLibraryLoadFromFile(CUlibrary* library, const char* path, CUjit_option* options, void** values,
                               unsigned count, CUlibraryOption* library_options, void** library_values,
                               unsigned library_count) {
  if (const auto error = initialised()) return error;
  if (library == nullptr || path == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::vector<char> bytes;
  if (const auto error = read_file(path, bytes)) return error;
  return cuLibraryLoadData(library, bytes.data(), options, values, count, library_options, library_values,
                           library_count);
}

CUresult cuLibraryUnload(CUlibrary handle) {
  if (const auto error = initialised()) return error;
  const auto library = state().libraries.remove(handle);
  if (!library) return CUDA_ERROR_INVALID_HANDLE;
  for (const auto& kernel : library->kernels) state().kernels.remove(reinterpret_cast<void*>(kernel->handle));
  const std::lock_guard lock(library->mutex);
  for (const auto& [context, module] : library->modules) {
    if (!module) continue;
    if (module->context->alive.load()) (void)synchronize(module->context);
    forget(module);
  }
  library->modules.clear();
  return CUDA_SUCCESS;
}

CUresult cuLibraryGetKernel(CUkernel* handle, CUlibrary library_handle, const char* name) {
  if (const auto error = initialised()) return error;
  const auto library = state().libraries.find(library_handle);
  if (!library) return CUDA_ERROR_INVALID_HANDLE;
  if (handle == nullptr || name == nullptr) return CUDA_ERROR_INVALID_VALUE;
  for (const auto& kernel : library->kernels) {
    if (kernel->name == name) {
      *handle = as_handle<CUkernel>(kernel->handle);
      return CUDA_SUCCESS;
    }
  }
  return CUDA_ERROR_NOT_FOUND;
}

CUresult cuLibraryGetKernelCount(unsigned* count, CUlibrary handle) {
  if (const auto error = initialised()) return error;
  const auto library = state().libraries.find(handle);
  if (!library) return CUDA_ERROR_INVALID_HANDLE;
  if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *count = static_cast<unsigned>(library->kernels.size());
  return CUDA_SUCCESS;
}

CUresult cuLibraryEnumerateKernels(CUkernel* handles, unsigned count, CUlibrary handle) {
  if (const auto error = initialised()) return error;
  const auto library = state().libraries.find(handle);
  if (!library) return CUDA_ERROR_INVALID_HANDLE;
  if (handles == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
  for (unsigned i = 0; i < count && i < library->kernels.size(); ++i) {
    handles[i] = as_handle<CUkernel>(library->kernels[i]->handle);
  }
  return CUDA_SUCCESS;
}

CUresult cuLibraryGetModule(CUmodule* handle, CUlibrary library_handle) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  const auto library = state().libraries.find(library_handle);
  if (!library) return CUDA_ERROR_INVALID_HANDLE;
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::shared_ptr<Module> module;
  if (const auto error = module_of_library(*library, context, module)) return error;
  *handle = as_handle<CUmodule>(module->handle);
  return CUDA_SUCCESS;
}

CUresult cuLibraryGetGlobal(CUdeviceptr* address, size_t* bytes, CUlibrary library_handle, const char* name) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  const auto library = state().libraries.find(library_handle);
  if (!library) return CUDA_ERROR_INVALID_HANDLE;
  if (name == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::shared_ptr<Module> module;
  if (const auto error = module_of_library(*library, context, module)) return error;
  return global_of(*module, name, address, bytes);
}

CUresult cuKernelGetFunction(CUfunction* handle, CUkernel kernel) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::shared_ptr<Function> function;
  if (const auto error = function_of_kernel(kernel, context, function)) return error;
  *handle = as_handle<CUfunction>(function->handle);
  return CUDA_SUCCESS;
}

CUresult cuKernelGetLibrary(CUlibrary* library, CUkernel handle) {
  if (const auto error = initialised()) return error;
  const auto kernel = state().kernels.find(handle);
  if (!kernel) return CUDA_ERROR_INVALID_HANDLE;
  if (library == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *library = as_handle<CUlibrary>(kernel->library);
  return CUDA_SUCCESS;
}

CUresult cuKernelGetName(const char** name, CUkernel handle) {
  if (const auto error = initialised()) return error;
  const auto kernel = state().kernels.find(handle);
  if (!kernel) return CUDA_ERROR_INVALID_HANDLE;
  if (name == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *name = kernel->name.c_str();
  return CUDA_SUCCESS;
}

CUresult cuKernelGetParamInfo(CUkernel kernel, size_t index, size_t* offset, size_t* bytes) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  std::shared_ptr<Function> function;
  if (const auto error = function_of_kernel(kernel, context, function)) return error;
  return parameter_info(*function, index, offset, bytes);
}

CUresult cuKernelGetAttribute(int* value, CUfunction_attribute attribute, CUkernel kernel, CUdevice ordinal) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::shared_ptr<Function> function;
  if (const auto error = function_of_kernel(kernel, device->primary, function)) return error;
  return get_attribute(*function, attribute, *value);
}

CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel kernel, CUdevice ordinal) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  std::shared_ptr<Function> function;
  if (const auto error = function_of_kernel(kernel, device->primary, function)) return error;
  return set_attribute(*function, attribute, value);
}

CUresult cuKernelSetCacheConfig(CUkernel kernel, CUfunc_cache config, CUdevice ordinal) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  if (!state().kernels.find(kernel)) return CUDA_ERROR_INVALID_HANDLE;
  return config < 0 || config > CU_FUNC_CACHE_PREFER_EQUAL ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

}  // extern "C"
