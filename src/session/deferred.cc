// Calls whose replies come later, and the memory that they use until then: destinations of
// payload in the reply, and memory that the executor reaches by one-sided access.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "session/engine.h"

namespace avec::session {
namespace {

using std::chrono::steady_clock;

constexpr auto kWantsReply = static_cast<std::uint16_t>(wire::FrameFlag::WantsReply);

/// A write that would block is tried again after this when no other has ended before.
constexpr auto kWriteAgain = std::chrono::milliseconds(1);
/// The executor has answered because of a write whose end this side has not seen.
constexpr auto kWriteEnds = limits::kTeardownDeadline;

Error write_error(TransportError error) {
  return {Origin::kTransport, static_cast<int>(error.code), "a write into memory of the executor"};
}

}  // namespace

Result<Pending> Engine::begin_deferred(wire::Opcode opcode, ConstBytes body, const DeferredMemory& memory,
                                       Attend attend, std::uint64_t copied) {
  const std::size_t bytes = wire::kHeaderBytes + wire::padded(body.size());
  while (true) {
    if (auto room = lock_with_room(bytes); !room) return std::unexpected(room.error());
    if (!replies_.deferred_full()) break;
    Condition condition{Condition::Kind::kAnyDeferred};
    await_condition(condition);
    lock_.unlock();
  }
  const Frame frame = put_header(opcode, kWantsReply, body.size(), 0);
  std::memcpy(frame.body, body.data(), body.size());
  replies_.begin_deferred(frame.sequence, opcode, memory, attend == Attend::kNobody);
  outbox_.commit(frame.bytes);
  if (!memory.in_reply) add_to(one_sided_bytes_, memory.bytes.size());
  if (copied != 0) add_to(post_copied_, copied);
  finish_post();
  return frame.sequence;
}

Result<Pending> Engine::post_deferred_frame(wire::Opcode opcode, ConstBytes body, MutableBytes destination,
                                            Attend attend) {
  return begin_deferred(opcode, body, {destination}, attend, 0);
}

Result<Pending> Engine::post_reference_frame(wire::Opcode opcode, ConstBytes body, const Reference& reference,
                                             Attend attend) {
  DeferredMemory memory;
  memory.bytes = reference.memory;
  memory.in_reply = false;
  memory.written = reference.access == RemoteAccess::kWrite;
  memory.key = reference.key;
  memory.write = reference.write;
  // Payload of replies that were asked for before would come after these bytes, over them.
  const std::byte* begin = memory.bytes.data();
  const auto settled = memory.written
                           ? wait_for_overlap(begin, begin + memory.bytes.size(), Replies::Use::kInReply)
                           : Result<>();
  auto pending = settled ? begin_deferred(opcode, body, memory, attend, reference.copied)
                         : Result<Pending>(std::unexpected(settled.error()));
  if (!pending && reference.key) one_sided_->revoke(reference.key);
  return pending;
}

// ---- waiting -------------------------------------------------------------------------

Result<> Engine::wait_while_pending(Pending pending, Counted counted, Until until) {
  if (counted == Counted::kSource) {
    add_to(source_waits_, 1);
  } else if (counted == Counted::kRoundTrip && pending > last_round_trip_) {
    last_round_trip_ = pending;
    add_to(waited_, 1);
    add_to(round_trips_, 1);
  }
  while (!over_) {
    const Expected* expected = replies_.find(pending);
    if (expected == nullptr || !expected->deferred) return {};
    if (until == Until::kTaken && static_cast<const Deferred*>(expected)->taken) return {};
    Condition condition{Condition::Kind::kDeferred, pending};
    await_condition(condition);
  }
  return std::unexpected(over_error_);
}

Result<> Engine::wait_deferred(Pending pending, Counted counted) {
  const LockGuard guard(lock_);
  const Until until = counted == Counted::kSource ? Until::kTaken : Until::kAnswered;
  if (auto waited = wait_while_pending(pending, counted, until); !waited) return waited;
  if (Expected* expected = replies_.find(pending); expected != nullptr && expected->deferred) {
    static_cast<Deferred*>(expected)->unattended = true;  // its answer is still to come
    return {};
  }
  const int status = replies_.take_failure(pending);
  if (status != 0) return cuda_error(status, "a copy from or to the device");
  return {};
}

void Engine::source_taken(const RemoteKey& key) {
  {
    const std::scoped_lock lock(taken_mutex_);
    taken_.push_back(key);
    any_taken_.store(true, std::memory_order_release);
  }
  connection_->wake();
}

bool Engine::free_sources() {
  std::vector<RemoteKey> keys;
  {
    const std::scoped_lock lock(taken_mutex_);
    keys.swap(taken_);
    any_taken_.store(false, std::memory_order_relaxed);
  }
  const LockGuard guard(lock_);
  for (const RemoteKey& key : keys) {
    Deferred* const deferred = replies_.reads_by(key);
    if (deferred == nullptr) continue;
    deferred->taken = true;
    tell_waiters(deferred->sequence);
  }
  return !keys.empty();
}

Result<> Engine::wait_for_one(std::span<const Pending> pendings, const std::atomic<std::uint64_t>& changes,
                              std::uint64_t seen, Counted counted) {
  const LockGuard guard(lock_);
  if (counted == Counted::kSource) add_to(source_waits_, 1);
  const auto under_way = [&](Pending pending)
                             AVEC_UNCHECKED_LOCKING { return replies_.find(pending) != nullptr; };
  while (!over_) {
    if (changes != seen || !std::ranges::all_of(pendings, under_way)) return {};
    Condition condition{Condition::Kind::kAnyDeferred};
    await_condition(condition);
  }
  return std::unexpected(over_error_);
}

void Engine::changed() {
  const LockGuard guard(lock_);
  bool any = false;
  for (Condition* condition = conditions_; condition != nullptr; condition = condition->next) {
    if (condition->kind != Condition::Kind::kAnyDeferred) continue;
    mark_done(condition->waiter);
    any = true;
  }
  // One of them may be the driver, asleep.
  if (any && driver_asleep_) wake_driver();
}

bool Engine::deferred_done(Pending pending) {
  const LockGuard guard(lock_);
  return over_ || replies_.find(pending) == nullptr;
}

Result<> Engine::wait_for_overlap(const void* begin, const void* end, Replies::Use use) {
  const LockGuard guard(lock_);
  while (!over_) {
    const Deferred* deferred =
        replies_.overlapping(static_cast<const std::byte*>(begin), static_cast<const std::byte*>(end), use);
    if (deferred == nullptr) return {};
    const auto counted = deferred->memory.written ? Counted::kRoundTrip : Counted::kSource;
    if (auto waited = wait_while_pending(deferred->sequence, counted, Until::kAnswered); !waited) return waited;
  }
  return std::unexpected(over_error_);
}

Result<> Engine::wait_for_destination(const void* begin, const void* end) {
  return wait_for_overlap(begin, end, Replies::Use::kWritten);
}

Result<> Engine::wait_until_unused(const void* begin, const void* end) {
  return wait_for_overlap(begin, end, Replies::Use::kAny);
}

// ---- writes into memory of the executor ----------------------------------------------

bool Engine::write_under_way(std::uint64_t token) const {
  return std::ranges::find(writes_, token) != writes_.end();
}

Result<std::uint64_t> Engine::write_ahead(const RemoteKey& key, std::uint64_t offset, ConstBytes from) {
  if (one_sided_ == nullptr || from.empty())
    return user_error("a write without one-sided access, or of nothing");
  lock_.lock();
  const std::uint64_t token = ++last_write_;
  Condition condition{Condition::Kind::kWrite, token};
  add(condition);
  // Known before it starts: its end may be seen before write() has returned.
  writes_.push_back(token);
  writes_under_way_.store(writes_.size(), std::memory_order_relaxed);
  IoResult started;
  while (!over_) {
    condition.waiter.done.store(false, std::memory_order_relaxed);
    lock_.unlock();
    started = one_sided_->write(key, offset, from, token);
    lock_.lock();
    if (started.error || started.bytes != 0) break;
    await(condition.waiter, steady_clock::now() + kWriteAgain);
  }
  if (started.bytes == 0) {
    std::erase(writes_, token);
    writes_under_way_.store(writes_.size(), std::memory_order_relaxed);
  }
  // A link that takes no writes is broken: whoever drives it sees that too, and ends the session,
  // before this call says so.
  const Deadline until = started.error ? steady_clock::now() + kWriteEnds : Deadline::max();
  const auto unfinished = [&]() AVEC_UNCHECKED_LOCKING {
    return started.error || (!traits_.ordered && write_under_way(token));
  };
  while (!over_ && unfinished() && steady_clock::now() < until) {
    condition.waiter.done.store(false, std::memory_order_relaxed);
    await(condition.waiter, until);
  }
  remove(condition);
  const Error error = over_ ? over_error_ : write_error(started.error);
  const bool failed = over_ || started.error;
  lock_.unlock();
  if (failed) return std::unexpected(error);
  return token;
}

bool Engine::complete_writes() {
  std::array<OneSidedCompletion, 16> ended;
  TransportError failed;
  bool any = false;
  while (const std::size_t count = one_sided_->completed(ended)) {
    any = true;
    const LockGuard guard(lock_);
    for (const OneSidedCompletion& completion : std::span(ended).first(count)) {
      std::erase(writes_, completion.token);
      if (completion.error && !failed) failed = completion.error;
    }
    writes_under_way_.store(writes_.size(), std::memory_order_relaxed);
    for (Condition* condition = conditions_; condition != nullptr; condition = condition->next) {
      if (condition->kind == Condition::Kind::kWrite) mark_done(condition->waiter);
    }
  }
  // The key was given for the whole session: without it, frames that are on their way copy
  // bytes that never came.
  if (failed) fail(write_error(failed), "a write into memory of the executor failed", true);
  return any;
}

Result<> Engine::end_access() {
  if (const RemoteKey key = std::exchange(revoke_, {})) one_sided_->revoke(key);
  const std::uint64_t token = std::exchange(write_, 0);
  if (token == 0) return {};
  const Deadline until = steady_clock::now() + kWriteEnds;
  while (!over()) {
    {
      const LockGuard guard(lock_);
      if (!write_under_way(token)) return {};
    }
    if (steady_clock::now() > until) break;
    if (!complete_writes()) relax();
  }
  return protocol_error("an answer to a copy whose bytes have not left");
}

}  // namespace avec::session
