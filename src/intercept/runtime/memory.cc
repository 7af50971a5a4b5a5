// Allocation on the device and of pinned host memory; what a pointer is.
#include <new>

#include "api.h"
#include "weak_driver.h"

using namespace avec::runtime;

namespace {

/// The driver rounds rows for elements of this size, its largest; so a row suits any type.
constexpr unsigned kPitchElementBytes = 16;

bool memory_pools_supported() {
  CUdevice device = 0;
  int supported = 0;
  return cuMemAllocAsync != nullptr && cuMemFreeAsync != nullptr && cuCtxGetDevice(&device) == CUDA_SUCCESS &&
         cuDeviceGetAttribute(&supported, CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, device) ==
             CUDA_SUCCESS &&
         supported != 0;
}

CUresult allocate(void** pointer, std::size_t bytes) {
  CUdeviceptr address = 0;
  const CUresult result = cuMemAlloc(&address, bytes);
  if (result == CUDA_SUCCESS) *pointer = reinterpret_cast<void*>(address);
  return result;
}

cudaError_t allocate_async(void** pointer, std::size_t bytes, CUstream stream) {
  if (pointer == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&]() -> CUresult {
    *pointer = nullptr;
    if (bytes == 0) return CUDA_SUCCESS;
    // Without pools an allocation is ready at once, which is never too late for the stream.
    if (!memory_pools_supported()) return allocate(pointer, bytes);
    CUdeviceptr address = 0;
    const CUresult result = cuMemAllocAsync(&address, bytes, stream);
    if (result == CUDA_SUCCESS) *pointer = reinterpret_cast<void*>(address);
    return result;
  });
}

cudaError_t free_async(void* pointer, CUstream stream) {
  if (pointer == nullptr) return cudaSuccess;
  return in_context([&]() -> CUresult {
    if (memory_pools_supported()) return cuMemFreeAsync(device_pointer(pointer), stream);
    if (const CUresult waited = cuStreamSynchronize(stream); waited != CUDA_SUCCESS) return waited;
    return cuMemFree(device_pointer(pointer));
  });
}

cudaError_t allocate_host(void** pointer, std::size_t bytes, unsigned flags) {
  constexpr unsigned kKnown = cudaHostAllocPortable | cudaHostAllocMapped | cudaHostAllocWriteCombined;
  if (pointer == nullptr || (flags & ~kKnown) != 0) return done(cudaErrorInvalidValue);
  return in_context([&]() -> CUresult {
    *pointer = nullptr;
    return bytes == 0 ? CUDA_SUCCESS : cuMemHostAlloc(pointer, bytes, flags);
  });
}

}  // namespace

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  AVEC_COUNTED;
  if (pointer == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&]() -> CUresult {
    *pointer = nullptr;
    return bytes == 0 ? CUDA_SUCCESS : allocate(pointer, bytes);
  });
}

// cudaFree(nullptr) is how programs ask for the context to be made.
cudaError_t cudaFree(void* pointer) {
  AVEC_COUNTED;
  return in_context([&] { return pointer == nullptr ? CUDA_SUCCESS : cuMemFree(device_pointer(pointer)); });
}

cudaError_t cudaMallocPitch(void** pointer, std::size_t* pitch, std::size_t width, std::size_t height) {
  AVEC_COUNTED;
  if (pointer == nullptr || pitch == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&]() -> CUresult {
    *pointer = nullptr;
    *pitch = 0;
    if (width == 0 || height == 0) return CUDA_SUCCESS;
    CUdeviceptr address = 0;
    const CUresult result = cuMemAllocPitch(&address, pitch, width, height, kPitchElementBytes);
    if (result == CUDA_SUCCESS) *pointer = reinterpret_cast<void*>(address);
    return result;
  });
}

cudaError_t cudaMalloc3D(cudaPitchedPtr* pitched, cudaExtent extent) {
  AVEC_COUNTED;
  if (pitched == nullptr) return done(cudaErrorInvalidValue);
  std::size_t rows = 0;
  if (__builtin_mul_overflow(extent.height, extent.depth, &rows)) return done(cudaErrorMemoryAllocation);
  void* pointer = nullptr;
  std::size_t pitch = 0;
  if (const cudaError_t error = cudaMallocPitch(&pointer, &pitch, extent.width, rows); error != cudaSuccess)
    return error;
  *pitched = {.ptr = pointer, .pitch = pitch, .xsize = extent.width, .ysize = extent.height};
  return cudaSuccess;
}

AVEC_STREAM_PAIR(cudaMallocAsync, _ptsz, (void** pointer, std::size_t bytes, cudaStream_t stream),
                 return allocate_async(pointer, bytes, resolve_stream<kDefault>(stream));)

AVEC_STREAM_PAIR(cudaFreeAsync, _ptsz, (void* pointer, cudaStream_t stream),
                 return free_async(pointer, resolve_stream<kDefault>(stream));)

cudaError_t cudaMallocHost(void** pointer, std::size_t bytes) {
  AVEC_COUNTED;
  return allocate_host(pointer, bytes, 0);
}

cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned int flags) {
  AVEC_COUNTED;
  return allocate_host(pointer, bytes, flags);
}

cudaError_t cudaFreeHost(void* pointer) {
  AVEC_COUNTED;
  return in_context([&] { return pointer == nullptr ? CUDA_SUCCESS : cuMemFreeHost(pointer); });
}

cudaError_t cudaHostRegister(void* pointer, std::size_t bytes, unsigned int flags) {
  AVEC_COUNTED;
  constexpr unsigned kKnown =
      cudaHostRegisterPortable | cudaHostRegisterMapped | cudaHostRegisterIoMemory | cudaHostRegisterReadOnly;
  if (pointer == nullptr || bytes == 0 || (flags & ~kKnown) != 0) return done(cudaErrorInvalidValue);
  return in_context([&] { return cuMemHostRegister(pointer, bytes, flags); });
}

cudaError_t cudaHostUnregister(void* pointer) {
  AVEC_COUNTED;
  if (pointer == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&] { return cuMemHostUnregister(pointer); });
}

cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned int flags) {
  AVEC_COUNTED;
  if (device == nullptr || host == nullptr || flags != 0) return done(cudaErrorInvalidValue);
  return in_context([&] {
    CUdeviceptr address = 0;
    const CUresult result = cuMemHostGetDevicePointer(&address, host, 0);
    if (result == CUDA_SUCCESS) *device = reinterpret_cast<void*>(address);
    return result;
  });
}

cudaError_t cudaHostGetFlags(unsigned int* flags, void* host) {
  AVEC_COUNTED;
  if (flags == nullptr || host == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&] { return cuMemHostGetFlags(flags, host); });
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  AVEC_COUNTED;
  if (free == nullptr || total == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&] { return cuMemGetInfo(free, total); });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  AVEC_COUNTED;
  if (attributes == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&]() -> CUresult {
    *attributes = {};
    const CUdeviceptr address = device_pointer(pointer);
    unsigned type = 0;
    const CUresult known = cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address);
    if (known == CUDA_ERROR_INVALID_VALUE || (known == CUDA_SUCCESS && type == 0)) {
      // Ordinary host memory is an answer since CUDA 11, not an error.
      attributes->type = cudaMemoryTypeUnregistered;
      attributes->device = cudaInvalidDeviceId;
      attributes->hostPointer = const_cast<void*>(pointer);
      return CUDA_SUCCESS;
    }
    if (known != CUDA_SUCCESS) return known;
    unsigned managed = 0;
    cuPointerGetAttribute(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, address);
    attributes->type = managed != 0                 ? cudaMemoryTypeManaged
                       : type == CU_MEMORYTYPE_HOST ? cudaMemoryTypeHost
                                                    : cudaMemoryTypeDevice;
    cuPointerGetAttribute(&attributes->device, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address);
    CUdeviceptr device = 0;
    if (cuPointerGetAttribute(&device, CU_POINTER_ATTRIBUTE_DEVICE_POINTER, address) == CUDA_SUCCESS)
      attributes->devicePointer = reinterpret_cast<void*>(device);
    void* host = nullptr;
    if (attributes->type != cudaMemoryTypeDevice &&
        cuPointerGetAttribute(&host, CU_POINTER_ATTRIBUTE_HOST_POINTER, address) == CUDA_SUCCESS)
      attributes->hostPointer = host;
    return CUDA_SUCCESS;
  });
}
