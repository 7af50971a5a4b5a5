// Devices and the contexts that the runtime binds to threads. Device d's primary context is
// retained when a thread first needs it and stays so until cudaDeviceReset. A context that the
// program made current through the driver API is used as it is.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "state.h"

namespace avec::runtime {

/// One life of one context. A context that is reset or destroyed gets another record when it is
/// used again, so what was cached for the old one is never taken for the new. Records are never
/// freed: their addresses are the keys of per-context caches.
struct Context {
  CUcontext handle = nullptr;
  unsigned long long id = 0;
  bool primary = false;
  /// Cleared by cudaDeviceReset.
  std::atomic<bool> alive{true};
  Context* next = nullptr;
};

/// Initialises the driver, once; its answer is kept for the life of the process.
CUresult initialise_driver() noexcept;
/// Devices of the driver; 0 when there is none. Fails as cuInit does.
CUresult device_count(int* count) noexcept;
/// cudaErrorInvalidDevice unless `device` is an ordinal; *handle gets the driver's name for it.
cudaError_t check_device(int device, CUdevice* handle) noexcept;
/// The device of the calling thread, without making a context.
cudaError_t current_device(int* device) noexcept;
/// Makes the primary context of `device` the calling thread's.
CUresult use_device(int device) noexcept;
/// The primary context, retained if it was not yet.
CUresult primary_context(int device, CUcontext* context) noexcept;
/// Destroys the primary context of the thread's device with all that is in it.
cudaError_t reset_current_device() noexcept;
/// Devices to try, in order, for threads that have chosen none.
cudaError_t set_valid_devices(const int* devices, int count) noexcept;

/// The record of a context; made when it is first seen.
Context* context_record(CUcontext handle) noexcept;

/// Slow part of bind_context.
CUresult bind_context_slow() noexcept;

/// Makes a context current for the calling thread, unless one is.
inline CUresult bind_context() noexcept {
  CUcontext current = nullptr;
  if (cuCtxGetCurrent(&current) == CUDA_SUCCESS && current != nullptr) [[likely]] {
    if (current != this_thread.bound || this_thread.epoch == global_epoch.load(std::memory_order_acquire))
      return CUDA_SUCCESS;
  }
  return bind_context_slow();
}

}  // namespace avec::runtime
