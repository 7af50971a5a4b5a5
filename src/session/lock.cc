#include "session/lock.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <ctime>

namespace avec::session {

static_assert(sizeof(std::atomic<std::uint32_t>) == 4, "the futex word is the atomic itself");

void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected, Deadline deadline) noexcept {
  timespec left{};
  timespec* timeout = nullptr;
  if (deadline != Deadline::max()) {
    const auto remaining = deadline - std::chrono::steady_clock::now();
    if (remaining <= remaining.zero()) return;
    const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(remaining).count();
    left.tv_sec = static_cast<time_t>(nanoseconds / 1'000'000'000);
    left.tv_nsec = static_cast<long>(nanoseconds % 1'000'000'000);
    timeout = &left;
  }
  ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, timeout, nullptr, 0);
}

void futex_wake_one(std::atomic<std::uint32_t>& word) noexcept {
  ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

void Lock::lock_slowly() noexcept {
  // Two microseconds or so: the longest usual critical section copies a few kilobytes.
  for (int spin = 0; spin < 60; ++spin) {
    std::uint32_t free = kFree;
    if (word_.load(std::memory_order_relaxed) == kFree &&
        word_.compare_exchange_weak(free, kTaken, std::memory_order_acquire)) {
      return;
    }
    relax();
  }
  while (word_.exchange(kContended, std::memory_order_acquire) != kFree) {
    futex_wait(word_, kContended, Deadline::max());
  }
}

}  // namespace avec::session
