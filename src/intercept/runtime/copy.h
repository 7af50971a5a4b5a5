// Copies of any shape, in stream order.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstddef>

namespace avec::runtime {

/// How a copy ends: cudaMemcpy returns when host memory may be used again, in the default stream
/// it was called for; cudaMemcpyAsync leaves that to the stream.
enum class Completion { kSynchronous, kAsynchronous };

/// Where the two ends of a copy lie.
enum class Direction { kHostToHost, kHostToDevice, kDeviceToHost, kDeviceToDevice };

/// The direction of a kind; cudaMemcpyDefault is resolved by what the pointers are. False for
/// values that are no kind.
bool direction_of(cudaMemcpyKind kind, const void* destination, const void* source,
                  Direction* direction) noexcept;

/// A context must be current.
cudaError_t copy_linear(void* destination, const void* source, std::size_t bytes, cudaMemcpyKind kind,
                        CUstream stream, Completion completion) noexcept;

}  // namespace avec::runtime
