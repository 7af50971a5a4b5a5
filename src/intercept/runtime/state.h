// What a thread of the application knows about the runtime: its last error, its device, the
// context made current for it, and the kernel it launched last.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdint>

namespace avec::runtime {

/// What <<<grid, block, shared, stream>>> leaves for the kernel's stub to pick up.
struct LaunchConfiguration {
  dim3 grid{};
  dim3 block{};
  std::size_t shared_bytes = 0;
  CUstream stream = nullptr;
};

/// Small: it lies in static TLS, so that the launch path reaches it without a call.
struct Thread {
  cudaError_t last_error = cudaSuccess;
  /// The device of cudaSetDevice; -1 until then (and the first valid device is used).
  int device = -1;
  /// The primary context that this library made current; valid while `epoch` is the global one.
  CUcontext bound = nullptr;
  std::uint64_t epoch = 0;
  /// The kernel launched last in `bound`: null when there is none.
  const void* kernel_key = nullptr;
  CUfunction function = nullptr;
  /// Pending launch configurations; the first lies here, nested ones (a kernel's argument that
  /// itself launches) in a vector of launch.cc.
  std::uint32_t pending = 0;
  LaunchConfiguration configuration{};
};

extern constinit thread_local Thread this_thread __attribute__((tls_model("initial-exec")));

/// Moves on whenever something cached per thread may have become stale: a device was reset, a
/// library with kernels was unloaded.
extern std::atomic<std::uint64_t> global_epoch;

/// Keeps the error for cudaGetLastError. One that corrupted the context is taken like any other:
/// the next call that uses the context returns it again.
cudaError_t record_error(cudaError_t error) noexcept;
/// The runtime's code for a driver's result: the same number where the runtime knows it.
cudaError_t to_runtime(CUresult result) noexcept;

/// The end of every API function: returns the error and remembers it.
inline cudaError_t done(cudaError_t error) noexcept {
  return error == cudaSuccess ? cudaSuccess : record_error(error);
}
inline cudaError_t done(CUresult result) noexcept {
  return result == CUDA_SUCCESS ? cudaSuccess : record_error(to_runtime(result));
}

inline cudaError_t as_runtime(cudaError_t error) noexcept { return error; }
inline cudaError_t as_runtime(CUresult result) noexcept { return to_runtime(result); }

}  // namespace avec::runtime
