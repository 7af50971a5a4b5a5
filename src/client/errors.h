// Errors of posted calls, kept for the next synchronising call.
#pragma once

#include <cuda.h>

#include <atomic>

namespace avec::client {

/// One per client. The first error wins until it is taken, as natively the first failing
/// launch is what a synchronisation reports.
class DeferredErrors {
 public:
  void note(CUresult error) noexcept {
    int none = CUDA_SUCCESS;
    pending_.compare_exchange_strong(none, error, std::memory_order_acq_rel);
  }
  /// Forgets the pending error if it is this one; false: it has been taken, or another came first.
  bool drop(CUresult error) noexcept {
    int pending = error;
    return pending_.compare_exchange_strong(pending, CUDA_SUCCESS, std::memory_order_acq_rel);
  }
  /// Returns the pending error and forgets it.
  CUresult take() noexcept {
    if (pending_.load(std::memory_order_acquire) == CUDA_SUCCESS) return CUDA_SUCCESS;
    return static_cast<CUresult>(pending_.exchange(CUDA_SUCCESS, std::memory_order_acq_rel));
  }

 private:
  std::atomic<int> pending_{CUDA_SUCCESS};
};

}  // namespace avec::client
