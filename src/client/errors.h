// Errors of posted calls, kept for the next synchronising call.
#pragma once

#include <cuda.h>

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace avec::client {

/// One per client. The first error wins until it is taken, as natively the first failing
/// launch is what a synchronisation reports. Each CUDA library has a place of its own: its failure is
/// told once, as its status by its own next call or as CUDA_ERROR_UNKNOWN by one that synchronises.
class DeferredErrors {
 public:
  static constexpr std::size_t kLibraries = 64;

  void note(CUresult error) noexcept {
    int none = CUDA_SUCCESS;
    pending_.compare_exchange_strong(none, error, std::memory_order_acq_rel);
  }
  /// False: an earlier failure of this library has not been told.
  bool note_library(std::size_t library, int status) noexcept {
    std::scoped_lock lock(mutex_);
    const std::uint64_t bit = std::uint64_t{1} << library;
    if ((libraries_.load(std::memory_order_relaxed) & bit) != 0) return false;
    statuses_[library] = status;
    libraries_.fetch_or(bit, std::memory_order_release);
    return true;
  }
  /// The library's pending status, which is forgotten; 0: none.
  int take_library(std::size_t library) noexcept {
    const std::uint64_t bit = std::uint64_t{1} << library;
    if ((libraries_.load(std::memory_order_acquire) & bit) == 0) [[likely]] return 0;
    std::scoped_lock lock(mutex_);
    return (libraries_.fetch_and(~bit, std::memory_order_acq_rel) & bit) == 0 ? 0 : statuses_[library];
  }
  /// Returns a pending error, CUDA's own before those of libraries, and forgets it.
  CUresult take() noexcept {
    if (pending_.load(std::memory_order_acquire) != CUDA_SUCCESS) {
      const int pending = pending_.exchange(CUDA_SUCCESS, std::memory_order_acq_rel);
      if (pending != CUDA_SUCCESS) return static_cast<CUresult>(pending);
    }
    while (const std::uint64_t waiting = libraries_.load(std::memory_order_acquire)) {
      if (take_library(static_cast<std::size_t>(std::countr_zero(waiting))) != 0) return CUDA_ERROR_UNKNOWN;
    }
    return CUDA_SUCCESS;
  }

 private:
  std::atomic<int> pending_{CUDA_SUCCESS};
  std::atomic<std::uint64_t> libraries_{0};  ///< bits of those with a failure
  std::mutex mutex_;
  std::array<int, kLibraries> statuses_{};  // guarded by mutex_
};

}  // namespace avec::client
