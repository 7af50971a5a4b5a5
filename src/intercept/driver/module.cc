#include "client/module.h"

#include "client/client.h"
#include "client/library.h"
#include "entry.h"

using namespace avec::client;

AVEC_DRIVER_CALL(cuModuleLoad, (CUmodule * module, const char* path), module_load_file(module, path))
AVEC_DRIVER_CALL(cuModuleLoadData, (CUmodule * module, const void* image), module_load(module, image, {}))
AVEC_DRIVER_CALL(cuModuleLoadDataEx,
                 (CUmodule * module, const void* image, unsigned count, CUjit_option* options, void** values),
                 module_load(module, image, {count, options, values}))
AVEC_DRIVER_CALL(cuModuleLoadFatBinary, (CUmodule * module, const void* image),
                 module_load(module, image, {}))
AVEC_DRIVER_CALL(cuModuleUnload, (CUmodule module), module_unload(module))
AVEC_DRIVER_CALL(cuModuleGetFunction, (CUfunction * function, CUmodule module, const char* name),
                 module_get_function(function, module, name))
AVEC_DRIVER_CALL(cuModuleGetFunctionCount, (unsigned* count, CUmodule module),
                 module_function_count(count, module))
AVEC_DRIVER_CALL(cuModuleEnumerateFunctions, (CUfunction * functions, unsigned count, CUmodule module),
                 module_functions(functions, count, module))
AVEC_DRIVER_CALL(cuModuleGetGlobal_v2,
                 (CUdeviceptr * address, size_t* bytes, CUmodule module, const char* name),
                 module_get_global(address, bytes, module, name))
AVEC_DRIVER_CALL(cuModuleGetLoadingMode, (CUmoduleLoadingMode * mode), module_loading_mode(mode))

AVEC_DRIVER_CLIENT_CALL(cuLibraryLoadData,
                        (CUlibrary * library, const void* code, CUjit_option* options, void** values,
                         unsigned count, CUlibraryOption*, void**, unsigned),
                        library_load(client, library, code, {count, options, values}))
AVEC_DRIVER_CLIENT_CALL(cuLibraryLoadFromFile,
                        (CUlibrary * library, const char* path, CUjit_option* options, void** values,
                         unsigned count, CUlibraryOption*, void**, unsigned),
                        library_load_file(client, library, path, {count, options, values}))
AVEC_DRIVER_CALL(cuLibraryUnload, (CUlibrary library), library_unload(library))
AVEC_DRIVER_CALL(cuLibraryGetKernel, (CUkernel * kernel, CUlibrary library, const char* name),
                 library_get_kernel(kernel, library, name))
AVEC_DRIVER_CALL(cuLibraryGetKernelCount, (unsigned* count, CUlibrary library),
                 library_kernel_count(count, library))
AVEC_DRIVER_CALL(cuLibraryEnumerateKernels, (CUkernel * kernels, unsigned count, CUlibrary library),
                 library_kernels(kernels, count, library))
AVEC_DRIVER_CALL(cuLibraryGetModule, (CUmodule * module, CUlibrary library),
                 library_get_module(module, library))
AVEC_DRIVER_CALL(cuLibraryGetGlobal,
                 (CUdeviceptr * address, size_t* bytes, CUlibrary library, const char* name),
                 library_get_global(address, bytes, library, name))
AVEC_DRIVER_CALL(cuLibraryGetManaged,
                 (CUdeviceptr * address, size_t* bytes, CUlibrary library, const char* name),
                 library_get_managed(address, bytes, library, name))
AVEC_DRIVER_CALL(cuLibraryGetUnifiedFunction, (void** function, CUlibrary library, const char* symbol),
                 library_get_unified_function(function, library, symbol))
AVEC_DRIVER_CALL(cuKernelGetFunction, (CUfunction * function, CUkernel kernel),
                 kernel_get_function(function, kernel))
AVEC_DRIVER_CALL(cuKernelGetLibrary, (CUlibrary * library, CUkernel kernel),
                 kernel_get_library(library, kernel))
AVEC_DRIVER_CALL(cuKernelGetAttribute,
                 (int* value, CUfunction_attribute which, CUkernel kernel, CUdevice device),
                 kernel_get_attribute(value, which, kernel, device))
AVEC_DRIVER_CALL(cuKernelSetAttribute,
                 (CUfunction_attribute which, int value, CUkernel kernel, CUdevice device),
                 kernel_set_attribute(which, value, kernel, device))
AVEC_DRIVER_CALL(cuKernelSetCacheConfig, (CUkernel kernel, CUfunc_cache config, CUdevice device),
                 kernel_set_cache_config(kernel, config, device))
AVEC_DRIVER_CALL(cuKernelGetName, (const char** name, CUkernel kernel), kernel_get_name(name, kernel))
AVEC_DRIVER_CALL(cuKernelGetParamInfo, (CUkernel kernel, size_t index, size_t* offset, size_t* bytes),
                 kernel_parameter(kernel, index, offset, bytes))
