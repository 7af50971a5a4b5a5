#include "transport/sim/context.h"

#include <time.h>

#include <algorithm>
#include <cerrno>

namespace avec::sim {
namespace {

// Virtual time as a Deadline counts from here, far before any time of the real clock.
constexpr Deadline kVirtualEpoch{std::chrono::nanoseconds(std::int64_t{-1} << 62)};

}  // namespace

void Sleeper::sleep_until(std::chrono::steady_clock::time_point until) noexcept {
  const auto total =
      std::max(std::chrono::nanoseconds(0), std::chrono::nanoseconds(until.time_since_epoch()));
  timespec at{};
  at.tv_sec = static_cast<time_t>(total.count() / 1'000'000'000);
  at.tv_nsec = static_cast<long>(total.count() % 1'000'000'000);
  // Interrupted by a signal: the caller looks again, as after any other wake-up.
  ::sem_clockwait(&semaphore_, CLOCK_MONOTONIC, &at);
  // Posts that came together are one.
  while (::sem_trywait(&semaphore_) == 0) {
  }
}

SimTime Pipe::next_arrival() const {
  if (held) return kNever;
  return segments.empty() ? end_arrival : segments.front().arrival;
}

Context::Context(NetworkOptions options) : options(options) {}

SimTime Context::now() const {
  return options.clock == Clock::kVirtual ? virtual_now_ : SimTime(std::chrono::steady_clock::now() - start_);
}

SimTime Context::to_sim_time(Deadline deadline) const {
  if (deadline == Deadline::max()) return kNever;
  if (options.clock == Clock::kReal) {
    return deadline <= start_ ? SimTime(0) : SimTime(deadline - start_);
  }
  if (deadline < Deadline{})
    return deadline <= kVirtualEpoch ? SimTime(0) : SimTime(deadline - kVirtualEpoch);
  const auto real = std::chrono::steady_clock::now();
  if (deadline <= real) return virtual_now_;
  // Whole milliseconds, upward: how long the caller computed since it made the deadline must
  // not show in the trace.
  return virtual_now_ + std::chrono::ceil<std::chrono::milliseconds>(deadline - real);
}

Deadline Context::to_deadline(SimTime time) const {
  return options.clock == Clock::kVirtual ? kVirtualEpoch + time : start_ + time;
}

bool Context::wait(std::unique_lock<std::mutex>& lock, Waiter& waiter) {
  waiter.thread = std::this_thread::get_id();
  waiters_.push_back(&waiter);
  auto quiet_since = std::chrono::steady_clock::now();
  auto seen = events_;
  bool ready = false;
  while (!(ready = waiter.ready()) && now() < waiter.deadline) {
    const auto real = std::chrono::steady_clock::now();
    if (options.clock == Clock::kReal) {
      const auto until = std::min(waiter.deadline, waiter.next());
      // An hour at most, so that kNever does not overflow.
      const auto sleep = std::min<SimTime>(std::chrono::hours(1), until == kNever ? kNever : until - now());
      lock.unlock();
      waiter.sleeper->sleep_until(real + sleep);
      lock.lock();
      continue;
    }
    if (everybody_waits() && advance()) continue;
    if (events_ != seen) {
      seen = events_;
      quiet_since = real;
    } else if (real - quiet_since >= options.stuck_after) {
      record({.time = now(), .kind = TraceEvent::Kind::kPassedOver});
      seen = events_;
      quiet_since = real;
      if (advance()) continue;
    }
    lock.unlock();
    waiter.sleeper->sleep_until(quiet_since + options.stuck_after);
    lock.lock();
  }
  std::erase(waiters_, &waiter);
  return ready;
}

void Context::changed() {
  for (auto* waiter : waiters_) waiter->sleeper->nudge();
}

bool Context::everybody_waits() const {
  for (const auto* waiter : waiters_) {
    if (waiter->ready() || virtual_now_ >= waiter->deadline) return false;
  }
  const auto waits = [&](std::thread::id thread) {
    return std::any_of(waiters_.begin(), waiters_.end(),
                       [&](const Waiter* w) { return w->thread == thread; });
  };
  for (const auto& weak : links) {
    const auto link = weak.lock();
    if (!link || link->reset) continue;
    for (int end = 0; end < 2; ++end) {
      if (link->closed[end]) continue;
      if (link->handed_over[end]) return false;
      if (link->driver[end] != std::thread::id() && !waits(link->driver[end])) return false;
    }
  }
  return true;
}

// The virtual clock jumps to what comes next; false when nothing ever will.
bool Context::advance() {
  SimTime next = kNever;
  for (const auto* waiter : waiters_) next = std::min({next, waiter->deadline, waiter->next()});
  if (next == kNever || next < virtual_now_) return false;
  virtual_now_ = next;
  changed();
  return true;
}

void Context::log(Link& link, Direction end, TraceEvent::Kind kind, std::uint64_t bytes) {
  auto& step = link.steps[static_cast<int>(end)];
  record({now(), link.number, end, step++, kind, bytes});
}

void Context::record(const TraceEvent& event) {
  ++events_;
  if (trace.size() < kMaxTraceEvents) trace.push_back(event);
}

void Context::reset(Link& link, Direction blamed) {
  if (link.reset) return;
  link.reset = true;
  for (auto& pipe : link.pipes) {
    pipe.segments.clear();
    pipe.queued_bytes = 0;
  }
  for (const auto end : {Direction::kFromClient, Direction::kFromServer})
    end_accesses(link, end, {TransportErrc::kReset, 0});
  log(link, blamed, TraceEvent::Kind::kReset);
  changed();
}

}  // namespace avec::sim
