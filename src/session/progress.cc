// The progress thread. While calls are being posted it looks every few microseconds whether
// something waits to leave, so that posters pay no system call; when posting stops it sleeps
// until the next post, or until the executor sends something that nobody waits for.
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <utility>

#include "base/descriptor.h"
#include "base/no_cancel.h"
#include "session/engine.h"

namespace avec::session {
namespace {

using std::chrono::steady_clock;

/// Between two looks at the send buffer while calls are being posted. With the timer's own
/// slack a frame leaves well within limits::kDeparture.
constexpr auto kTick = std::chrono::microseconds(15);
/// The same while the connection takes nothing.
constexpr auto kLongestTick = std::chrono::microseconds(1000);
/// Posting has stopped when nothing came for so long.
constexpr auto kActive = std::chrono::microseconds(1000);
/// Sleeps while others use the connection: then it is not watched here, because each reply
/// would wake this thread as well as the one that waits for it.
constexpr int kGuardMs = 5;
/// The same while deferred replies are under way that nobody may be waiting for.
constexpr int kDeferredGuardMs = 1;
constexpr int kLongestSleepMs = 1000;
/// While calls are being posted: what the executor pushes is noticed within 16 ticks.
constexpr std::uint32_t kFlushesPerReceive = 16;
/// Looks of threads that poll, apart: a twentieth of the time goes into system calls.
constexpr auto kLookEvery = std::chrono::microseconds(10);
/// A connection without a descriptor is looked at so often.
constexpr int kBlindMs = 10;

void sleep_for(std::chrono::nanoseconds time) {
  timespec span{static_cast<time_t>(time.count() / 1'000'000'000),
                static_cast<long>(time.count() % 1'000'000'000)};
  ::clock_nanosleep(CLOCK_MONOTONIC, 0, &span, nullptr);
}

}  // namespace

void Engine::start_progress() {
  progress_wake_ = make_event();
  // The program's signals are for its own threads.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  progress_ = std::make_unique<std::thread>([this] { progress_loop(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Engine::stop_progress() {
  if (!progress_) return;
  progress_stop_ = true;
  kick_progress();
  progress_->join();
  progress_.reset();
}

void Engine::kick_progress() {
  const NoCancel no_cancel;
  signal_event(progress_wake_.get());
}

bool Engine::progress_once(bool flush_first) {
  bool any = flush_first && flush_locked();
  // While calls are being posted they are sent often; what comes in is looked for less often.
  const bool only_flush = flush_first && !send_blocked_ && ++flushes_ % kFlushesPerReceive != 0;
  while (!only_flush) {
    lock_.unlock();
    const bool moved = pump();
    lock_.lock();
    any = any || moved;
    if (!moved || over_ || closing_ || !parked_.empty()) break;
  }
  hand_over();
  return any;
}

void Engine::progress_sleep() {
  int descriptor = -1;
  int timeout_ms = kLongestSleepMs;
  bool watch = false;
  {
    const LockGuard guard(lock_);
    if (outbox_.unsent() != 0 || over_ || progress_stop_) return;
    progress_asleep_ = true;
    const bool deferred = replies_.deferred_count() != 0 || expected_pushes_.load(std::memory_order_relaxed) > 0;
    const bool quiet = activity_ == seen_activity_;
    seen_activity_ = activity_;
    // Whoever polls receives, and would use up each time what is armed here.
    watch = !role_taken_ && !std::exchange(polled_, false) && (deferred || quiet);
    // Nobody has the role: for a moment the connection is this thread's.
    const bool came = watch && !false_alarm_ && !connection_->arm();
    if (watch && !false_alarm_ && !came) descriptor = watched_;
    watch_ = descriptor >= 0 ? Watch::kArmed : Watch::kNone;
    if (came) {
      timeout_ms = 0;
    } else if (!watch) {
      timeout_ms = deferred ? kDeferredGuardMs : kGuardMs;
    } else if (descriptor < 0) {
      timeout_ms = deferred ? kDeferredGuardMs : kBlindMs;
    }
  }
  pollfd entries[2] = {{progress_wake_.get(), POLLIN, 0}, {descriptor, POLLIN, 0}};
  ::poll(entries, 2, timeout_ms);
  if (entries[0].revents != 0) consume_event(progress_wake_.get());
  const LockGuard guard(lock_);
  progress_asleep_ = false;
  watch_ = Watch::kNone;
  const bool look = watch && (descriptor < 0 || entries[1].revents != 0);
  if (!look || role_taken_ || over_) return;
  take_role();
  seen_activity_ = activity_;
  const bool moved = progress_once(false);
  // Readable, and nothing to receive: do not watch a descriptor that lies, at least not now.
  false_alarm_ = descriptor >= 0 && !moved;
}

void Engine::look() {
  const std::int64_t now = steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  if (now < next_look_.load(std::memory_order_relaxed)) return;
  const NoCancel no_cancel;
  const LockGuard guard(lock_);
  // Who has the role looks as well.
  if (role_taken_ || over_ || closing_) return;
  next_look_.store(now + kLookEvery / std::chrono::nanoseconds(1), std::memory_order_relaxed);
  polled_ = true;
  take_role();
  lock_.unlock();
  pump();
  lock_.lock();
  spend_watch();
  hand_over();
}

void Engine::expect_pushes(int more) {
  const int before = expected_pushes_.fetch_add(more, std::memory_order_relaxed);
  if (before > 0 || more <= 0) return;
  bool asleep = false;
  {
    const LockGuard guard(lock_);
    asleep = std::exchange(progress_asleep_, false);
  }
  if (asleep) kick_progress();
}

void Engine::progress_loop() {
  ::prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
  ::pthread_setname_np(::pthread_self(), "avec-progress");
  auto last_work = steady_clock::now() - kActive;
  std::chrono::nanoseconds tick = kTick;
  while (!progress_stop_ && !over()) {
    bool unsent, mine = false;
    {
      const LockGuard guard(lock_);
      unsent = outbox_.unsent() != 0;
      if (unsent && !role_taken_) {
        take_role();
        mine = true;
        progress_once(true);
      } else if (unsent && driver_asleep_ && !send_blocked_) {
        wake_driver();
      }
    }
    if (unsent) last_work = steady_clock::now();
    if (unsent && mine && send_blocked_) {
      tick = std::min<std::chrono::nanoseconds>(2 * tick, kLongestTick);
    } else {
      tick = kTick;
    }
    if (!unsent && steady_clock::now() - last_work >= kActive) {
      progress_sleep();
    } else {
      sleep_for(tick);
    }
  }
}

}  // namespace avec::session
