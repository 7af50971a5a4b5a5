// Setting memory to a byte. On the device it is asynchronous to the host even without a stream,
// as the documentation says of cudaMemset; of memory that the host uses too it is done on return.
#include "api.h"

using namespace avec::runtime;

namespace {

unsigned char byte_of(int value) { return static_cast<unsigned char>(value); }

/// Ends a set without a stream.
cudaError_t settled(cudaError_t set, const void* pointer, CUstream stream) {
  unsigned type = 0, managed = 0;
  if (set != cudaSuccess || pointer == nullptr) return set;
  if (cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, device_pointer(pointer)) != CUDA_SUCCESS)
    return set;
  cuPointerGetAttribute(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, device_pointer(pointer));
  if (type != CU_MEMORYTYPE_HOST && managed == 0) return set;
  return in_context([&] { return cuStreamSynchronize(stream); });
}

cudaError_t set_linear(void* pointer, int value, std::size_t bytes, CUstream stream) {
  return in_context([&]() -> CUresult {
    return bytes == 0 ? CUDA_SUCCESS
                      : cuMemsetD8Async(device_pointer(pointer), byte_of(value), bytes, stream);
  });
}

CUresult set_rows(void* pointer, std::size_t pitch, int value, std::size_t width, std::size_t height,
                  CUstream stream) {
  if (height == 1) return cuMemsetD8Async(device_pointer(pointer), byte_of(value), width, stream);
  return cuMemsetD2D8Async(device_pointer(pointer), pitch, byte_of(value), width, height, stream);
}

cudaError_t set_2d(void* pointer, std::size_t pitch, int value, std::size_t width, std::size_t height,
                   CUstream stream) {
  return in_context([&]() -> cudaError_t {
    if (width == 0 || height == 0) return cudaSuccess;
    if (width > pitch && height > 1) return cudaErrorInvalidValue;
    return to_runtime(set_rows(pointer, pitch, value, width, height, stream));
  });
}

cudaError_t set_3d(const cudaPitchedPtr& to, int value, const cudaExtent& extent, CUstream stream) {
  return in_context([&]() -> cudaError_t {
    if (extent.width == 0 || extent.height == 0 || extent.depth == 0) return cudaSuccess;
    if (extent.width > to.pitch) return cudaErrorInvalidValue;
    // Slices that follow each other without a gap are one rectangle.
    if (extent.height == to.ysize || extent.depth == 1)
      return to_runtime(
          set_rows(to.ptr, to.pitch, value, extent.width, extent.height * extent.depth, stream));
    if (extent.height > to.ysize) return cudaErrorInvalidValue;
    for (std::size_t z = 0; z < extent.depth; ++z) {
      char* slice = static_cast<char*>(to.ptr) + z * to.ysize * to.pitch;
      const CUresult set = set_rows(slice, to.pitch, value, extent.width, extent.height, stream);
      if (set != CUDA_SUCCESS) return to_runtime(set);
    }
    return cudaSuccess;
  });
}

}  // namespace

AVEC_STREAM_PAIR(cudaMemset, _ptds, (void* pointer, int value, std::size_t bytes),
                 const CUstream stream = resolve_stream<kDefault>(nullptr);
                 return settled(set_linear(pointer, value, bytes, stream), pointer, stream);)

AVEC_STREAM_PAIR(cudaMemsetAsync, _ptsz, (void* pointer, int value, std::size_t bytes, cudaStream_t stream),
                 return set_linear(pointer, value, bytes, resolve_stream<kDefault>(stream));)

AVEC_STREAM_PAIR(cudaMemset2D, _ptds,
                 (void* pointer, std::size_t pitch, int value, std::size_t width, std::size_t height),
                 const CUstream stream = resolve_stream<kDefault>(nullptr);
                 return settled(set_2d(pointer, pitch, value, width, height, stream), pointer, stream);)

AVEC_STREAM_PAIR(cudaMemset2DAsync, _ptsz,
                 (void* pointer, std::size_t pitch, int value, std::size_t width, std::size_t height,
                  cudaStream_t stream),
                 return set_2d(pointer, pitch, value, width, height, resolve_stream<kDefault>(stream));)

AVEC_STREAM_PAIR(cudaMemset3D, _ptds, (cudaPitchedPtr to, int value, cudaExtent extent),
                 const CUstream stream = resolve_stream<kDefault>(nullptr);
                 return settled(set_3d(to, value, extent, stream), to.ptr, stream);)

AVEC_STREAM_PAIR(cudaMemset3DAsync, _ptsz,
                 (cudaPitchedPtr to, int value, cudaExtent extent, cudaStream_t stream),
                 return set_3d(to, value, extent, resolve_stream<kDefault>(stream));)
