// The lock of the posting path, and the futex under it. It is held for the time of a memcpy, so
// a thread that finds it taken spins shortly before it sleeps; free, it costs one atomic
// exchange to take and one to release.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "avec/transport.h"
#include "base/annotations.h"

namespace avec::session {

/// Sleeps while `word` is `expected`, at most until `deadline`; may also return early.
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected, Deadline deadline) noexcept;
/// Wakes one thread that sleeps on `word`. The word may be gone already when its owner has
/// seen the value that was stored before: the kernel then wakes nobody.
void futex_wake_one(std::atomic<std::uint32_t>& word) noexcept;

/// Tells the processor that this is a spin loop.
inline void relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  asm volatile("yield");
#endif
}

class AVEC_CAPABILITY("lock") Lock {
 public:
  Lock() = default;
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

  void lock() noexcept AVEC_ACQUIRES() {
    std::uint32_t free = kFree;
    if (!word_.compare_exchange_strong(free, kTaken, std::memory_order_acquire)) [[unlikely]]
      lock_slowly();
  }
  void unlock() noexcept AVEC_RELEASES() {
    if (word_.exchange(kFree, std::memory_order_release) == kContended) [[unlikely]]
      futex_wake_one(word_);
  }
  /// In the child of a fork, whose only thread this is: free, whoever held it in the parent.
  void reset_after_fork() noexcept { word_.store(kFree, std::memory_order_relaxed); }

 private:
  static constexpr std::uint32_t kFree = 0, kTaken = 1, kContended = 2;
  void lock_slowly() noexcept;
  std::atomic<std::uint32_t> word_{kFree};
};

class AVEC_SCOPED_CAPABILITY LockGuard {
 public:
  explicit LockGuard(Lock& lock) noexcept AVEC_ACQUIRES(lock) : lock_(lock) { lock_.lock(); }
  ~LockGuard() AVEC_RELEASES() { lock_.unlock(); }
  LockGuard(const LockGuard&) = delete;
  LockGuard& operator=(const LockGuard&) = delete;

 private:
  Lock& lock_;
};

}  // namespace avec::session
