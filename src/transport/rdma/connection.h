// One RDMA connection: the byte stream in messages over a queue pair, and one-sided access.
//
// Messages are SENDs into receive slots of the peer, at most a slot long, that carry 32 bits of
// immediate data: which kind of message, and how many slots of its own the sender has posted again
// since it last said so (credits). Data needs a credit each; the other kinds have slots set aside:
//
//   kind      payload    sent when
//   kData     1 to slot  send(); the credits ride along
//   kCredits  none       half of the slots have been posted again and no data went back
//   kProbe    none       once, before the connection is relied on
//   kFarewell none       close(), after all data; acknowledged by the adapter when all has arrived
//
// The stream that the connection began as stays open: its end without kFarewell tells of the peer's
// death at once, which the adapter would tell after seconds of retries.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "transport/rdma/context.h"
#include "transport/rdma/memory.h"
#include "transport/rdma/queue_pair.h"
#include "transport/tcp/context.h"

namespace avec::rdma {

class RdmaConnection final : public Connection, private WorkOwner {
 public:
  /// Over a queue pair that is connected. Does not take the stream: start() does. Null and `error`
  /// set when the process is out of descriptors.
  static std::unique_ptr<RdmaConnection> make(std::unique_ptr<QueuePair> pair, const Parameters& peer,
                                              const Connection& stream, TransportError& error);
  ~RdmaConnection() override;

  /// Sends a probe and waits for the peer's and for the own one's arrival; or says why not.
  Failure probe(Deadline deadline) noexcept;
  void start(std::unique_ptr<Connection> stream) noexcept;

  IoResult send(std::span<const ConstBytes> buffers) noexcept override;
  IoResult receive(std::span<const MutableBytes> buffers) noexcept override;
  TransportError wait(bool want_send, Deadline deadline) noexcept override;
  void wake() noexcept override;
  void close() noexcept override;
  int poll_descriptor() const noexcept override { return poll_.get(); }
  bool arm() noexcept override;
  OneSided* one_sided() noexcept override { return memory_.get(); }
  std::string peer() const override { return peer_; }
  bool same_host() const noexcept override { return same_host_; }

  /// Why the connection broke, a sentence; empty while it has not.
  std::string reason() const override { return pair_->reason(); }
  const Connection* stream() const noexcept { return stream_.get(); }

 private:
  enum class Kind : std::uint32_t { kData = 1, kCredits, kProbe, kFarewell };
  /// What has ended, for ended().
  enum Word : std::uint64_t { kNothing, kSlot, kProbeSent, kFarewellSent };

  RdmaConnection(std::unique_ptr<QueuePair> pair, Descriptor wake, Descriptor poll, const Parameters& peer,
                 const Connection& stream);
  void ended(std::uint64_t word, TransportError error) noexcept override;

  std::uint32_t word_of(Kind kind) noexcept;
  bool post_message(Kind kind, ConstBytes bytes, bool in_slot, std::uint64_t word) noexcept;
  void post_control(Kind kind, Word word) noexcept;
  std::size_t post_data(std::span<const ConstBytes> buffers, std::size_t done) noexcept;
  bool can_post_data() noexcept;
  void take_arrivals() noexcept;
  void take(const QueuePair::Arrival& arrival) noexcept;
  void release_front() noexcept;
  void return_credits() noexcept;
  void poll_sends() noexcept;
  void look_around() noexcept;
  void look_at_stream() noexcept;
  void stream_ended(TransportError error) noexcept;
  void fail(TransportError error, std::string_view reason) noexcept;
  void progress() noexcept;
  bool ready(bool want_send) noexcept;
  bool prepare_sleep(bool want_send) noexcept;
  bool wait_awhile(Deadline deadline) noexcept;
  void flush() noexcept;
  bool open() const noexcept { return open_ && !guard_.forked(); }

  std::unique_ptr<QueuePair> pair_;
  std::unique_ptr<Memory> memory_;
  std::unique_ptr<Connection> stream_;
  const Descriptor wake_;        // lives as long as this, so that wake() of any thread finds it
  const Descriptor poll_;        // epoll of the completion channel, the events and the stream
  const int stream_descriptor_;  // as guarded
  ForkGuard guard_;
  const std::string peer_;
  const bool same_host_;
  const std::uint32_t peer_slots_;
  const std::size_t message_bytes_;  // the largest message that both ends' slots take

  bool open_ = true;
  // Receiving. Arrivals wait in a ring until they have been copied out.
  std::array<QueuePair::Arrival, kSlots + kControlSlots> arrivals_{};
  std::uint32_t arrivals_begin_ = 0, arrivals_count_ = 0;
  std::size_t front_taken_ = 0;  // bytes of the first that have been copied out
  std::uint32_t owed_ = 0;       // slots posted again of which the peer does not know
  bool peer_closed_ = false;     // its kFarewell has come: what has arrived is all
  bool probe_came_ = false;

  // Sending.
  std::uint32_t credits_;
  std::uint32_t next_slot_ = 0;
  std::uint32_t free_slots_ = kSendSlots;  // guarded by the queue pair's mutex, as the next two
  bool probe_sent_ = false;
  bool farewell_sent_ = false;

  // The stream beside.
  bool stream_watched_ = false;
  bool stream_farewell_ = false;
  Deadline farewell_until_ = Deadline::max();
  std::uint32_t idle_receives_ = 0, sends_since_look_ = 0;
  std::atomic<bool> woken_{false};
};

}  // namespace avec::rdma
