// The session engine. What is written where:
//
//   engine.cc     opening, posting, calling, waiting, closing
//   deferred.cc   calls whose replies come later, and payload by one-sided access
//   receiving.cc  sending what is queued, receiving, dispatching (the role's work)
//   recovery.cc   a lost link: reconnect or end
//   progress.cc   the thread that works when nobody waits
//
// One lock guards what posters and the driver share and is held for the time of a memcpy. The
// role ("driver") is a flag under that lock: its holder alone touches the connection, the
// inbox, and calls back. A thread that waits for a reply takes the role if it is free, else
// it parks; a driver that is done hands the role to the first that is parked.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/annotations.h"
#include "base/handle.h"
#include "session/connect.h"
#include "session/inbox.h"
#include "session/lock.h"
#include "session/outbox.h"
#include "session/pending.h"
#include "session/session.h"

namespace avec::session {

class Engine final : public Session, private FrameHandler {
 public:
  Engine(Options options, Callbacks callbacks);
  ~Engine() override;

  std::expected<void, Failure> start();

  const wire::HelloReply& hello() const override;
  std::string peer() const override { return peer_; }
  std::string device_reason() const override { return admission_.reason; }
  Result<> wait_deferred(Pending pending, Counted counted) override;
  Result<> wait_for_one(std::span<const Pending> pendings, const std::atomic<std::uint64_t>& changes,
                        std::uint64_t seen, Counted counted) override;
  void changed() override;
  bool deferred_done(Pending pending) override;
  Result<> wait_for_destination(const void* begin, const void* end) override;
  Result<> wait_until_unused(const void* begin, const void* end) override;
  OneSided* one_sided() override { return one_sided_; }
  Result<std::uint64_t> write_ahead(const RemoteKey& key, std::uint64_t offset,
                                    ConstBytes from) override AVEC_UNCHECKED_LOCKING;
  void look() override AVEC_UNCHECKED_LOCKING;
  void expect_pushes(int more) override;
  std::uint64_t last_posted() const override { return last_sequence_.load(std::memory_order_relaxed); }
  Counters counters() const override;
  void close() override AVEC_UNCHECKED_LOCKING;
  void abandon_after_fork() noexcept override;

 protected:
  Result<Slot> begin_post(wire::Opcode opcode, std::size_t body_bytes,
                          std::size_t payload_bytes) override AVEC_UNCHECKED_LOCKING;
  void end_post() override AVEC_UNCHECKED_LOCKING;
  Result<> post_frame(wire::Opcode opcode, ConstBytes body, ConstBytes payload) override;
  Result<Pending> post_deferred_frame(wire::Opcode opcode, ConstBytes body, MutableBytes destination,
                                      Attend attend) override;
  Result<Pending> post_reference_frame(wire::Opcode opcode, ConstBytes body, const Reference& reference,
                                       Attend attend) override;
  Result<std::vector<std::byte>> call_table(wire::Opcode opcode, ConstBytes body) override;
  Result<> call_struct(wire::Opcode opcode, ConstBytes body, MutableBytes reply) override;

 private:
  struct Frame {
    std::uint64_t sequence;
    std::byte* body;
    std::size_t bytes;  ///< to commit
  };

  // Posting (engine.cc). The lock is taken by lock_with_room and given back by finish_post.
  Result<> lock_with_room(std::size_t bytes) AVEC_UNCHECKED_LOCKING;
  Frame put_header(wire::Opcode opcode, std::uint16_t flags, std::size_t body_bytes,
                   std::size_t payload_bytes) AVEC_REQUIRES(lock_);
  void finish_post() AVEC_UNCHECKED_LOCKING;
  Result<> post_large(wire::Opcode opcode, ConstBytes body, ConstBytes payload) AVEC_UNCHECKED_LOCKING;
  /// Sends a call and waits for its reply or the deadline (kTimeout).
  Result<> exchange(Call& call, wire::Opcode opcode, ConstBytes body,
                    Deadline deadline) AVEC_UNCHECKED_LOCKING;

  // Deferred calls and one-sided access (deferred.cc).
  Result<Pending> begin_deferred(wire::Opcode opcode, ConstBytes body, const DeferredMemory& memory,
                                 Attend attend, std::uint64_t copied) AVEC_UNCHECKED_LOCKING;
  /// kTaken: the executor has all bytes that it reads, which may be before its answer.
  enum class Until : std::uint8_t { kAnswered, kTaken };
  Result<> wait_while_pending(Pending pending, Counted counted, Until until) AVEC_REQUIRES(lock_);
  /// The range of this key has been read (OneSided::on_taken): for the driver to tell. Any thread.
  void source_taken(const RemoteKey& key);
  bool free_sources() AVEC_EXCLUDES(lock_);
  Result<> wait_for_overlap(const void* begin, const void* end, Replies::Use use) AVEC_EXCLUDES(lock_);
  /// With the role: takes back the tokens of writes that have ended. True when there were any.
  bool complete_writes() AVEC_EXCLUDES(lock_);
  bool write_under_way(std::uint64_t token) const AVEC_REQUIRES(lock_);
  /// With the role: what has to be over before the answer to a deferred call is told.
  Result<> end_access() AVEC_EXCLUDES(lock_);

  // Waiting (engine.cc).
  /// Returns when `waiter` is done (true) or at the deadline (false).
  bool await(Waiter& waiter, Deadline deadline) AVEC_REQUIRES(lock_);
  void await_condition(Condition& condition) AVEC_REQUIRES(lock_);
  /// Works with the role until `waiter` is done or somebody closes (true), or the deadline.
  bool drive(Waiter& waiter, Deadline deadline) AVEC_EXCLUDES(lock_);
  void sleep_in_wait(const Waiter& waiter, Deadline deadline) AVEC_EXCLUDES(lock_);
  std::uint32_t sleep_parked(Waiter& waiter, bool may_spin, Deadline deadline) AVEC_EXCLUDES(lock_);
  void take_role() AVEC_REQUIRES(lock_) {
    role_taken_ = true;
    ++activity_;
  }
  void hand_over() AVEC_REQUIRES(lock_);
  /// Whoever has the role has used up what the progress thread armed.
  void spend_watch() AVEC_REQUIRES(lock_) {
    if (watch_ == Watch::kArmed) watch_ = Watch::kSpent;
  }
  void wake_driver() AVEC_REQUIRES(lock_);
  void mark_done(Waiter& waiter) AVEC_REQUIRES(lock_);
  static void tell(Waiter& waiter, std::uint32_t word);
  void add(Condition& condition) AVEC_REQUIRES(lock_);
  void remove(Condition& condition) AVEC_REQUIRES(lock_);
  void room_made() AVEC_REQUIRES(lock_);
  void release_externals(External* list) AVEC_REQUIRES(lock_);

  // The role's work (receiving.cc).
  /// One round of sending and receiving. True when bytes moved or the session changed.
  bool pump() AVEC_EXCLUDES(lock_);
  bool flush() AVEC_EXCLUDES(lock_);
  /// The same from lock to lock: what is gathered, sent, and taken off belongs to one batch.
  bool flush_locked() AVEC_REQUIRES(lock_);
  bool receive() AVEC_EXCLUDES(lock_);
  void acknowledge_peer() AVEC_EXCLUDES(lock_);
  Result<Sink> begin_frame(const wire::FrameHeader& header) override AVEC_EXCLUDES(lock_);
  Result<> end_frame(const wire::FrameHeader& header, ConstBytes body) override AVEC_EXCLUDES(lock_);
  Result<Sink> sink_of_reply(const wire::FrameHeader& header) AVEC_REQUIRES(lock_);
  Result<> end_reply(const wire::FrameHeader& header, ConstBytes body);
  Result<> end_push(const wire::FrameHeader& header, ConstBytes body);
  void end_deferred(Deferred& deferred, int status) AVEC_REQUIRES(lock_);
  void tell_waiters(Pending sequence) AVEC_REQUIRES(lock_);

  // A lost link (recovery.cc), with the role.
  void lost(TransportError error) AVEC_EXCLUDES(lock_);
  bool reconnect(std::string& why) AVEC_EXCLUDES(lock_);
  bool resume_over(std::unique_ptr<Connection> connection, std::uint64_t peer_has, std::string& why);
  /// Ends the session: every waiter and every later call gets `error`.
  void fail(const Error& error, std::string reason, bool notify) AVEC_EXCLUDES(lock_);
  bool over() const { return over_flag_.load(std::memory_order_relaxed); }

  // The progress thread (progress.cc).
  void start_progress();
  void stop_progress();
  void progress_loop() AVEC_EXCLUDES(lock_);
  /// Sends and receives with the role as long as something moves and nobody wants the role.
  bool progress_once(bool flush_first) AVEC_REQUIRES(lock_);
  void progress_sleep() AVEC_EXCLUDES(lock_);
  void kick_progress();

  // What every post touches: two cache lines, with the first of the outbox. Whoever sends, on
  // another core, touches them twice per batch; every line more would cost posters as much again
  // as the whole post. Numbers are written with the lock and read without for statistics.
  alignas(64) mutable Lock lock_;
  bool role_taken_ AVEC_GUARDED_BY(lock_) = false;
  bool driver_asleep_ AVEC_GUARDED_BY(lock_) = false;    ///< in Connection::wait
  bool progress_asleep_ AVEC_GUARDED_BY(lock_) = false;  ///< a post must wake it
  bool over_ AVEC_GUARDED_BY(lock_) = false;
  bool ack_now_ AVEC_GUARDED_BY(lock_) = false;
  std::atomic<bool> send_blocked_{false};                   ///< the connection took less than it was given
  std::uint64_t posting_bytes_ AVEC_GUARDED_BY(lock_) = 0;  ///< between begin_post and end_post
  std::uint64_t unacknowledged_bytes_ AVEC_GUARDED_BY(lock_) = 0;  ///< received since our last frame
  std::atomic<std::uint64_t> last_sequence_{0};
  std::atomic<std::uint64_t> received_{0};  ///< highest sequence of the peer that arrived complete
  std::atomic<std::uint64_t> posted_{0}, post_copied_{0};
  alignas(64) Outbox outbox_;

  alignas(64) const Options options_;
  const Callbacks callbacks_;
  const bool keep_;  ///< frames are kept until acknowledged
  std::string peer_;
  std::vector<std::byte> hello_;

  Replies replies_ AVEC_GUARDED_BY(lock_);
  WaiterList parked_ AVEC_GUARDED_BY(lock_);
  Condition* conditions_ AVEC_GUARDED_BY(lock_) = nullptr;
  std::size_t parked_count_ AVEC_GUARDED_BY(lock_) = 0;
  std::uint64_t activity_ AVEC_GUARDED_BY(lock_) = 0;  ///< times that the role was taken
  Error over_error_ AVEC_GUARDED_BY(lock_);
  Deadline last_lone_post_ AVEC_GUARDED_BY(lock_){};          ///< posted while the progress thread slept
  std::uint64_t last_round_trip_ AVEC_GUARDED_BY(lock_) = 0;  ///< highest sequence whose reply was waited for
  int watched_ AVEC_GUARDED_BY(lock_) = -1;                   ///< the connection's poll_descriptor
  /// What the progress thread armed before it fell asleep; spent: another thread has received since.
  enum class Watch : std::uint8_t { kNone, kArmed, kSpent };
  Watch watch_ AVEC_GUARDED_BY(lock_) = Watch::kNone;
  bool polled_ AVEC_GUARDED_BY(lock_) = false;  ///< somebody looked since the progress thread did
  std::atomic<std::int64_t> next_look_{0};      ///< steady clock, nanoseconds
  std::atomic<int> expected_pushes_{0};

  std::vector<std::uint64_t> writes_ AVEC_GUARDED_BY(lock_);  ///< tokens of write_ahead() under way
  std::uint64_t last_write_ AVEC_GUARDED_BY(lock_) = 0;

  // Written with the lock, read without.
  std::atomic<std::size_t> writes_under_way_{0};  ///< size of writes_
  std::mutex taken_mutex_;
  std::vector<RemoteKey> taken_;  ///< with taken_mutex_
  std::atomic<bool> any_taken_{false};
  std::atomic<bool> leaving_{false};              ///< close() has begun: no end is worth a word any more
  std::atomic<bool> closing_{false};              ///< close() wants the role
  std::atomic<bool> over_flag_{false};            ///< over_, for those without the lock

  // With the role.
  std::unique_ptr<Connection> connection_;  ///< replaced with role and lock
  /// Of connection_; null: payload travels in the stream. Fixed once opened.
  OneSided* one_sided_ = nullptr;
  OneSidedTraits traits_;
  RemoteKey revoke_;         ///< of the call whose reply is coming in
  std::uint64_t write_ = 0;  ///< the same
  Inbox inbox_;
  std::string text_;         ///< payload of a push under way
  std::string peer_reason_;  ///< of SessionClosed
  bool opening_ = true;      ///< no callbacks, no resuming
  std::string reason_;       ///< why the session is over
  std::unique_ptr<Connection> control_;
  wire::Admission admission_;

  std::atomic<std::uint64_t> waited_{0}, round_trips_{0}, source_waits_{0},
      one_sided_bytes_{0};                                                            // with the lock
  std::atomic<std::uint64_t> bytes_sent_{0}, bytes_received_{0}, receive_copied_{0};  // with the role

  std::mutex close_mutex_;
  std::unique_ptr<std::thread> progress_;
  std::uint64_t seen_activity_ = 0;  ///< progress thread
  bool false_alarm_ = false;         ///< progress thread
  std::uint32_t flushes_ = 0;        ///< progress thread
  Descriptor progress_wake_;
  std::atomic<bool> progress_stop_{false};
  std::atomic<bool> abandoned_{false};
};

/// Adds to a counter that one thread at a time writes.
inline void add_to(std::atomic<std::uint64_t>& counter, std::uint64_t amount) {
  counter.store(counter.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
}

}  // namespace avec::session
