// One reliable connection of the adapter with all that belongs to it: protection domain, completion
// queues, queue pair, the pinned slots of the stream. It posts work and tells each poster, in order,
// when its work has ended.
//
// Threads: what is marked "locked" is called with mutex() held, from any thread; the receive side
// belongs to the thread that drives the connection.
//
// Life of the queue pair:
//
//   state     left by               when
//   kInit     connect()             the peer's parameters are here; receive slots are posted already
//   kReady    fail(), stop()        a completion error, an asynchronous event, the stream's end; or close()
//   kError    stop()                no work starts any more and nothing of the peer comes in; what was
//                                   posted is flushed, each poster is told. Windows are given back to
//                                   the adapter now, since a bound one keeps the queue pair
//   kGone     destroy()             registrations are given back, nothing uses them any more
#pragma once

#include <atomic>
#include <cstdint>
#include <expected>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "transport/rdma/context.h"
#include "transport/rdma/device.h"
#include "transport/rdma/exchange.h"

namespace avec::rdma {

/// Who posted a work request.
class WorkOwner {
 public:
  /// It has ended; `error` says how. Locked.
  virtual void ended(std::uint64_t word, TransportError error) noexcept = 0;

 protected:
  ~WorkOwner() = default;
};

/// What to do when a work request has ended; nobody to tell: null.
struct Work {
  WorkOwner* owner = nullptr;
  std::uint64_t word = 0;
};

/// What a posted request may leave of the send queue: only what comes after it in importance may
/// use the last entries.
enum class Urgency : std::uint8_t { kControl, kMemory, kPayload };

class QueuePair {
 public:
  /// A queue pair in kInit with its receive slots posted.
  static std::expected<std::unique_ptr<QueuePair>, Failure> make(Port port);
  ~QueuePair();
  QueuePair(const QueuePair&) = delete;
  QueuePair& operator=(const QueuePair&) = delete;

  /// What the peer needs to know.
  Parameters parameters() const noexcept;
  /// To kReady, towards a peer whose parameters have been verified.
  std::expected<void, Failure> connect(const Parameters& peer);

  const Port& port() const noexcept { return port_; }
  const Verbs& verbs() const noexcept { return *port_.verbs; }
  ibv_pd* domain() const noexcept { return domain_.get(); }
  std::mutex& mutex() noexcept { return mutex_; }

  // ---- send queue; locked

  /// Entries that a request of this urgency may take now.
  std::uint32_t room(Urgency urgency) const noexcept;
  /// Posts the chain of `works.size()` requests that begins at `first`, each for its entry of
  /// `works`; sets wr_id, and signals often enough. room() must have said that there is room.
  /// False: failed, see error(); those that could not be posted have been told so.
  bool post(ibv_send_wr& first, std::span<const Work> works) noexcept;
  /// Takes completions and tells the posters. False: there were none.
  bool poll_sends() noexcept;
  bool sends_under_way() const noexcept { return posted_ != ended_; }
  std::uint32_t inline_bytes() const noexcept { return inline_bytes_; }

  /// Puts the queue pair into the error state, for a first reason. What is under way is flushed.
  void fail(TransportError error, std::string_view reason) noexcept;
  /// Error state, and waits (bounded) until all posted work has been flushed. No access of the peer
  /// is possible afterwards. Not locked; the driving thread.
  void stop() noexcept;
  /// Afterwards the adapter touches no buffer of ours. Windows have been given back. As stop().
  void destroy() noexcept;
  bool destroyed() const noexcept { return !pair_; }

  // ---- any thread, not locked

  /// The queue pair is out of service; error() says why.
  bool failed() const noexcept { return failed_.load(std::memory_order_acquire); }
  /// The first thing that went wrong; constant once failed().
  TransportError error() const noexcept { return failed() ? error_ : TransportError{}; }
  std::string reason() const { return failed() ? reason_ : std::string(); }

  // ---- receive queue; the driving thread

  /// A message that has come: the slot holds it until repost().
  struct Arrival {
    std::uint32_t slot;
    std::uint32_t bytes;
    std::uint32_t word;  ///< immediate data
  };
  /// Takes what has come, at most `into.size()`; how many.
  std::size_t poll_receives(std::span<Arrival> into) noexcept;
  ConstBytes received(const Arrival& arrival) const noexcept {
    return {slots_.get() + std::size_t{arrival.slot} * kSlotBytes, arrival.bytes};
  }
  bool repost(std::uint32_t slot) noexcept;
  /// Memory of a send slot, 0 to kSendSlots - 1, and its local key.
  std::byte* send_slot(std::uint32_t slot) const noexcept {
    return slots_.get() + std::size_t{kSlots + kControlSlots + slot} * kSlotBytes;
  }
  std::uint32_t slots_key() const noexcept { return slots_memory_->lkey; }

  // ---- sleeping; the driving thread

  /// Makes channel_descriptor() readable for what comes from now on. Poll once more afterwards.
  void arm_receives() noexcept;
  void arm_sends() noexcept;  // locked, by any thread
  /// Takes the events that made the channel readable.
  void take_channel_events() noexcept;
  int channel_descriptor() const noexcept { return channel_->fd; }
  /// Takes asynchronous events; one that matters fails the queue pair. Locked.
  void take_async_events() noexcept;
  int async_descriptor() const noexcept { return port_.context->async_fd; }
  int command_descriptor() const noexcept { return port_.context->cmd_fd; }

 private:
  template <class T>
  using Owned = std::unique_ptr<T, int (*)(T*)>;
  struct Unmap {
    void operator()(std::byte* memory) const noexcept;
  };
  explicit QueuePair(Port port) : port_(std::move(port)) {}
  std::expected<void, Failure> make_queues();
  std::expected<void, Failure> make_pair();
  std::expected<void, Failure> make_slots();
  bool modify(ibv_qp_attr& attributes, int mask, std::string_view what, Failure& failure) const;
  /// All before `number` have ended well, and `number` with `error`.
  void finish(std::uint64_t number, TransportError error) noexcept;

  // In this order: each needs those before it, and is destroyed before them.
  Port port_;
  Owned<ibv_pd> domain_{nullptr, nullptr};
  Owned<ibv_comp_channel> channel_{nullptr, nullptr};
  std::unique_ptr<std::byte, Unmap> slots_;
  Owned<ibv_mr> slots_memory_{nullptr, nullptr};
  Owned<ibv_cq> send_queue_{nullptr, nullptr};
  Owned<ibv_cq> receive_queue_{nullptr, nullptr};
  Owned<ibv_qp> pair_{nullptr, nullptr};

  std::mutex mutex_;
  std::vector<Work> work_;   // ring of depth_, by number
  std::uint32_t depth_ = 0;  // entries of the send queue
  std::uint32_t inline_bytes_ = 0;
  std::uint64_t posted_ = 0;     // number of the next request
  std::uint64_t ended_ = 0;      // all below have ended
  std::uint64_t signalled_ = 0;  // all below end when what is signalled ends
  TransportError error_;         // these two are constant once failed_
  std::string reason_;
  std::atomic<bool> failed_{false};

  std::uint32_t psn_ = 0;
  bool receives_armed_ = false;
  std::atomic<bool> sends_armed_{false};
};

}  // namespace avec::rdma
