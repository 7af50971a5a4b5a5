// Libraries of kernels that a program loads itself. A library is an image of the registry whose
// kernels are found by name.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <string>

#include "api.h"
#include "registry.h"
#include "weak_driver.h"

using namespace avec::runtime;

namespace {

/// Device code of one library, bytes; what a fatbin's 64-bit length could claim is not taken.
constexpr std::size_t kMaxCodeBytes = std::size_t{2} << 30;

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

Image* image_of(cudaLibrary_t library) { return reinterpret_cast<Image*>(library); }

/// Keeps a copy of the code, which other contexts may need later, and loads it into this one, so
/// that an image that does not fit is told at once.
cudaError_t load(cudaLibrary_t* library, std::unique_ptr<std::byte[]> copy) {
  const void* code = copy.get();
  Image* image = add_image(code, std::move(copy));
  if (image == nullptr) return cudaErrorMemoryAllocation;
  CUcontext handle = nullptr;
  CUmodule module = nullptr;
  CUresult result = cuCtxGetCurrent(&handle);
  if (result == CUDA_SUCCESS) {
    const Context* context = context_record(handle);
    result = context != nullptr ? load_module(*image, *context, &module) : CUDA_ERROR_OUT_OF_MEMORY;
  }
  if (result != CUDA_SUCCESS) {
    remove_image(*image);
    return to_runtime(result);
  }
  *library = reinterpret_cast<cudaLibrary_t>(image);
  return cudaSuccess;
}

CUresult module_here(cudaLibrary_t library, CUmodule* module) {
  CUcontext handle = nullptr;
  if (const CUresult got = cuCtxGetCurrent(&handle); got != CUDA_SUCCESS) return got;
  const Context* context = context_record(handle);
  return context != nullptr ? load_module(*image_of(library), *context, module) : CUDA_ERROR_OUT_OF_MEMORY;
}

}  // namespace

cudaError_t cudaLibraryLoadData(cudaLibrary_t* library, const void* code, cudaJitOption*, void**,
                                unsigned int, cudaLibraryOption*, void**, unsigned int) {
  AVEC_COUNTED;
  if (library == nullptr || code == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&]() -> cudaError_t {
    const void* container = container_of(code);
    const std::size_t bytes = code_bytes(container);
    if (bytes == 0) return cudaErrorInvalidKernelImage;
    std::unique_ptr<std::byte[]> copy(new (std::nothrow) std::byte[bytes]);
    if (copy == nullptr) return cudaErrorMemoryAllocation;
    std::memcpy(copy.get(), container, bytes);
    return load(library, std::move(copy));
  });
}

cudaError_t cudaLibraryLoadFromFile(cudaLibrary_t* library, const char* name, cudaJitOption*, void**,
                                    unsigned int, cudaLibraryOption* options, void**,
                                    unsigned int option_count) {
  AVEC_COUNTED;
  if (library == nullptr || name == nullptr) return done(cudaErrorInvalidValue);
  for (unsigned i = 0; options != nullptr && i < option_count; ++i)
    if (options[i] == cudaLibraryBinaryIsPreserved) return done(cudaErrorInvalidValue);
  return in_context([&]() -> cudaError_t {
    const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(name, "rbe"));
    if (file == nullptr) return cudaErrorFileNotFound;
    if (std::fseek(file.get(), 0, SEEK_END) != 0) return cudaErrorOperatingSystem;
    const long end = std::ftell(file.get());
    if (end <= 0 || static_cast<std::size_t>(end) > kMaxCodeBytes) return cudaErrorInvalidKernelImage;
    const auto bytes = static_cast<std::size_t>(end);
    // One NUL more: PTX files have none at their end.
    std::unique_ptr<std::byte[]> copy(new (std::nothrow) std::byte[bytes + 1]);
    if (copy == nullptr) return cudaErrorMemoryAllocation;
    std::rewind(file.get());
    if (std::fread(copy.get(), 1, bytes, file.get()) != bytes) return cudaErrorOperatingSystem;
    copy[bytes] = std::byte{0};
    return load(library, std::move(copy));
  });
}

cudaError_t cudaLibraryUnload(cudaLibrary_t library) {
  AVEC_COUNTED;
  if (library == nullptr) return done(cudaErrorInvalidResourceHandle);
  return in_context([&] {
    remove_image(*image_of(library));
    return cudaSuccess;
  });
}

cudaError_t cudaLibraryGetKernel(cudaKernel_t* kernel, cudaLibrary_t library, const char* name) {
  AVEC_COUNTED;
  if (kernel == nullptr || name == nullptr) return done(cudaErrorInvalidValue);
  if (library == nullptr) return done(cudaErrorInvalidResourceHandle);
  return in_context([&] {
    Kernel* found = nullptr;
    const CUresult got = named_kernel(*image_of(library), name, &found);
    if (got == CUDA_SUCCESS) *kernel = reinterpret_cast<cudaKernel_t>(found);
    return got;
  });
}

cudaError_t cudaLibraryGetGlobal(void** address, std::size_t* bytes, cudaLibrary_t library,
                                 const char* name) {
  AVEC_COUNTED;
  if (name == nullptr || (address == nullptr && bytes == nullptr)) return done(cudaErrorInvalidValue);
  if (library == nullptr) return done(cudaErrorInvalidResourceHandle);
  return in_context([&] {
    CUmodule module = nullptr;
    CUdeviceptr found = 0;
    std::size_t size = 0;
    CUresult got = module_here(library, &module);
    if (got == CUDA_SUCCESS) got = cuModuleGetGlobal(&found, &size, module, name);
    if (got == CUDA_SUCCESS && address != nullptr) *address = reinterpret_cast<void*>(found);
    if (got == CUDA_SUCCESS && bytes != nullptr) *bytes = size;
    return got;
  });
}

cudaError_t cudaLibraryGetKernelCount(unsigned int* count, cudaLibrary_t library) {
  AVEC_COUNTED;
  if (count == nullptr) return done(cudaErrorInvalidValue);
  if (library == nullptr) return done(cudaErrorInvalidResourceHandle);
  return in_context([&] {
    CUmodule module = nullptr;
    CUresult got = module_here(library, &module);
    if (got == CUDA_SUCCESS)
      got = cuModuleGetFunctionCount != nullptr ? cuModuleGetFunctionCount(count, module)
                                                : CUDA_ERROR_NOT_SUPPORTED;
    return got;
  });
}

cudaError_t cudaLibraryEnumerateKernels(cudaKernel_t* kernels, unsigned int wanted, cudaLibrary_t library) {
  AVEC_COUNTED;
  if (kernels == nullptr || wanted == 0) return done(cudaErrorInvalidValue);
  if (library == nullptr) return done(cudaErrorInvalidResourceHandle);
  return in_context([&]() -> CUresult {
    if (cuModuleEnumerateFunctions == nullptr || cuModuleGetFunctionCount == nullptr ||
        cuFuncGetName == nullptr)
      return CUDA_ERROR_NOT_SUPPORTED;
    CUmodule module = nullptr;
    unsigned count = 0;
    if (const CUresult got = module_here(library, &module); got != CUDA_SUCCESS) return got;
    if (const CUresult got = cuModuleGetFunctionCount(&count, module); got != CUDA_SUCCESS) return got;
    if (count > wanted) count = wanted;
    std::unique_ptr<CUfunction[]> functions(new (std::nothrow) CUfunction[count]);
    if (functions == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
    if (const CUresult got = cuModuleEnumerateFunctions(functions.get(), count, module); got != CUDA_SUCCESS)
      return got;
    for (unsigned i = 0; i < count; ++i) {
      const char* name = nullptr;
      Kernel* kernel = nullptr;
      if (const CUresult got = cuFuncGetName(&name, functions[i]); got != CUDA_SUCCESS) return got;
      if (const CUresult got = named_kernel(*image_of(library), name, &kernel); got != CUDA_SUCCESS)
        return got;
      kernels[i] = reinterpret_cast<cudaKernel_t>(kernel);
    }
    return CUDA_SUCCESS;
  });
}
