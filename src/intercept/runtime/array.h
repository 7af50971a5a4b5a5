// Channel descriptors and the driver's formats.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstddef>

namespace avec::runtime {

/// cudaErrorInvalidChannelDescriptor for what is no descriptor of elements.
cudaError_t format_of(const cudaChannelFormatDesc& channels, CUarray_format* format, unsigned* count) noexcept;
cudaChannelFormatDesc channels_of(CUarray_format format, unsigned count) noexcept;

inline CUarray driver_array(cudaArray_const_t array) noexcept {
  return reinterpret_cast<CUarray>(const_cast<cudaArray_t>(array));
}
inline CUmipmappedArray driver_array(cudaMipmappedArray_const_t array) noexcept {
  return reinterpret_cast<CUmipmappedArray>(const_cast<cudaMipmappedArray_t>(array));
}

/// Bytes of an array's elements (of block-compressed ones: blocks). A context must be current.
CUresult element_bytes(cudaArray_const_t array, std::size_t* bytes) noexcept;

}  // namespace avec::runtime
