// Libraries: code that is not bound to a context. Loaded into a context when first used there.
#pragma once

#include <cuda.h>

#include <cstddef>

#include "client/module.h"

namespace avec::client {

CUresult library_load(Client& client, CUlibrary* library, const void* image, JitOptions options);
CUresult library_load_file(Client& client, CUlibrary* library, const char* path, JitOptions options);
CUresult library_unload(CUlibrary library);
CUresult library_get_kernel(CUkernel* kernel, CUlibrary library, const char* name);
CUresult library_kernel_count(unsigned* count, CUlibrary library);
CUresult library_kernels(CUkernel* kernels, unsigned count, CUlibrary library);
CUresult library_get_module(CUmodule* module, CUlibrary library);
CUresult library_get_global(CUdeviceptr* address, std::size_t* bytes, CUlibrary library, const char* name);
CUresult library_get_managed(CUdeviceptr* address, std::size_t* bytes, CUlibrary library, const char* name);
CUresult library_get_unified_function(void** function, CUlibrary library, const char* symbol);
CUresult kernel_get_function(CUfunction* function, CUkernel kernel);
CUresult kernel_get_library(CUlibrary* library, CUkernel kernel);
CUresult kernel_get_attribute(int* value, CUfunction_attribute which, CUkernel kernel, CUdevice device);
CUresult kernel_set_attribute(CUfunction_attribute which, int value, CUkernel kernel, CUdevice device);
CUresult kernel_set_cache_config(CUkernel kernel, CUfunc_cache config, CUdevice device);
CUresult kernel_get_name(const char** name, CUkernel kernel);
CUresult kernel_parameter(CUkernel kernel, std::size_t index, std::size_t* offset, std::size_t* bytes);

/// The kernel's function in a context, loading it there when needed.
CUresult function_in(Context& context, CUkernel kernel, Function*& function);

}  // namespace avec::client
