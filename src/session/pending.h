// What waits: threads, and the replies that are under way. The engine's lock guards all of it.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "avec/transport.h"
#include "base/limits.h"
#include "base/result.h"
#include "calls.h"  // generated

namespace avec::session {

struct External;

/// One thread that waits for something that the driver will see. Lives on that thread's stack.
///
///   kParked  -> kDriver  the role is yours: drive until you are done
///            -> kDone    what you wait for has happened
///   kSleeping is kParked after the thread went to sleep on the word.
struct Waiter {
  enum Word : std::uint32_t { kParked, kSleeping, kDriver, kDone };

  std::atomic<std::uint32_t> word{kParked};
  std::atomic<bool> done{false};  ///< written with the lock; the role's holder reads its own without
  bool parked = false;            ///< in the list of those who want the role
  Waiter* previous = nullptr;
  Waiter* next = nullptr;
};

/// Doubly linked, first in first out; borrows its members.
class WaiterList {
 public:
  bool empty() const { return first_ == nullptr; }
  Waiter* first() const { return first_; }
  void push(Waiter& waiter) {
    waiter.previous = last_;
    waiter.next = nullptr;
    (last_ != nullptr ? last_->next : first_) = &waiter;
    last_ = &waiter;
  }
  void push_first(Waiter& waiter) {
    waiter.previous = nullptr;
    waiter.next = first_;
    (first_ != nullptr ? first_->previous : last_) = &waiter;
    first_ = &waiter;
  }
  void remove(Waiter& waiter) {
    (waiter.previous != nullptr ? waiter.previous->next : first_) = waiter.next;
    (waiter.next != nullptr ? waiter.next->previous : last_) = waiter.previous;
    waiter.previous = waiter.next = nullptr;
  }

 private:
  Waiter* first_ = nullptr;
  Waiter* last_ = nullptr;
};

/// A reply that is expected.
struct Expected {
  std::uint64_t sequence = 0;  ///< of the call
  wire::Opcode opcode{};
  bool deferred = false;
  Expected* next = nullptr;  ///< in its bucket
};

/// A synchronous call; lives on the caller's stack.
struct Call : Expected {
  Waiter waiter;
  MutableBytes reply;            ///< where a struct reply goes
  std::vector<std::byte> table;  ///< a table reply
  bool wants_table = false;
  bool answered = false;  ///< false when done: the session is over
  int status = 0;
  External* external = nullptr;  ///< its body, when that is large
};

/// What a deferred call does to memory of this process.
struct DeferredMemory {
  MutableBytes bytes;
  bool in_reply = true;  ///< the reply's payload goes there; false: one-sided access
  bool written = true;
  RemoteKey key{};          ///< to be revoked when the reply has come
  std::uint64_t write = 0;  ///< must have ended when the reply has come
};

struct Deferred : Expected {
  DeferredMemory memory;
  bool unattended = false;  ///< nobody will wait for it: its failure goes to the callback
  bool taken = false;       ///< the executor has all bytes that it reads
  Deferred* previous_active = nullptr;
  Deferred* next_active = nullptr;
};

/// What a thread may wait for besides a reply to its own call.
struct Condition {
  enum class Kind : std::uint8_t { kRoom, kDeferred, kAnyDeferred, kWrite };
  Kind kind;
  std::uint64_t sequence = 0;  ///< of kDeferred
  Waiter waiter;
  Condition* previous = nullptr;
  Condition* next = nullptr;
};

class Replies {
 public:
  Replies();

  void expect(Expected& expected);
  Expected* find(std::uint64_t sequence) const;
  void remove(Expected& expected);

  /// A deferred call, or null when limits::kMaxDeferred are under way.
  Deferred* begin_deferred(std::uint64_t sequence, wire::Opcode opcode, const DeferredMemory& memory,
                           bool unattended);
  /// Its reply has come; a failure is kept for take_failure() unless it is unattended.
  void end_deferred(Deferred& deferred, int status);
  std::size_t deferred_count() const { return deferred_count_; }
  /// The one whose memory the executor reads by this key; null: its reply has come.
  Deferred* reads_by(const RemoteKey& key) const;
  bool deferred_full() const { return free_ == nullptr && pool_.size() == limits::kMaxDeferred; }
  /// The status of a deferred call that is over, and forgets it. 0 when it succeeded.
  int take_failure(std::uint64_t sequence);
  /// kInReply: written by payload of the reply.
  enum class Use : std::uint8_t { kInReply, kWritten, kAny };
  /// One deferred call that uses memory that overlaps [begin, end) so; null: none.
  const Deferred* overlapping(const std::byte* begin, const std::byte* end, Use use) const;

  /// Calls `visit` for each synchronous call, then forgets all replies.
  template <class Visit>
  void clear(Visit&& visit) {
    for (Expected*& bucket : buckets_) {
      while (bucket != nullptr) {
        Expected* expected = bucket;
        bucket = expected->next;
        if (!expected->deferred) visit(static_cast<Call&>(*expected));
      }
    }
    active_ = nullptr;
    deferred_count_ = 0;
  }

 private:
  static constexpr std::size_t kBuckets = 1024;
  struct Failure {
    std::uint64_t sequence = 0;
    int status = 0;
  };

  Expected*& bucket(std::uint64_t sequence) { return buckets_[sequence % kBuckets]; }

  std::vector<Expected*> buckets_;
  std::vector<std::unique_ptr<Deferred>> pool_;  ///< grows to the most that were under way at once
  Deferred* free_ = nullptr;                     ///< by `next_active`
  Deferred* active_ = nullptr;
  std::size_t deferred_count_ = 0;
  /// The last failures nobody asked for yet; the oldest is forgotten first.
  std::array<Failure, 64> failures_{};
  std::size_t next_failure_ = 0;
};

}  // namespace avec::session
