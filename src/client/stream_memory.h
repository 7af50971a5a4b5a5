// Memory operations in stream order, flushing of remote writes, tensor maps.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <span>

namespace avec::client {

/// Posted. `with_barriers`: the _v2 functions, which know memory barriers.
CUresult stream_memory_operations(CUstream stream, unsigned count, const CUstreamBatchMemOpParams* operations,
                                  unsigned flags, bool with_barriers);
CUresult stream_wait_value(CUstream stream, CUdeviceptr address, std::uint64_t value, unsigned flags, bool wide);
CUresult stream_write_value(CUstream stream, CUdeviceptr address, std::uint64_t value, unsigned flags, bool wide);
CUresult flush_remote_writes(CUflushGPUDirectRDMAWritesTarget target, CUflushGPUDirectRDMAWritesScope scope);

/// Arguments of every cuTensorMap function; what a function does not have is zero.
struct TensorMapArguments {
  enum Kind : std::uint32_t { kTiled, kIm2col, kIm2colWide, kReplaceAddress };
  Kind kind = kTiled;
  int data_type = 0;
  std::uint32_t rank = 0;
  void* address = nullptr;
  const cuuint64_t* sizes = nullptr;    ///< rank of them
  const cuuint64_t* strides = nullptr;  ///< rank - 1 of them
  const cuuint32_t* box = nullptr;      ///< rank of them; null: none
  const cuuint32_t* element_strides = nullptr;
  const int *lower_corner = nullptr, *upper_corner = nullptr;  ///< rank - 2 of them, or one for Im2colWide
  std::uint32_t channels = 0, pixels = 0;
  int interleave = 0, mode = 0, swizzle = 0, promotion = 0, fill = 0;
};
/// Computed by the executor's driver and remembered: the same arguments cost no second round trip.
CUresult tensor_map_encode(CUtensorMap* map, const TensorMapArguments& arguments);

}  // namespace avec::client
