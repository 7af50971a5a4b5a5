// A stream of bytes to a peer, whatever carries it: a Connection of AVEC's transports, or what the
// machine gives a program that does nothing else (the yardsticks): a socket, a ring in shared
// memory, a queue between two threads. The same code drives all of them.
#pragma once

#include <atomic>
#include <memory>
#include <span>

#include "avec/transport.h"
#include "base/handle.h"

namespace avec::bench {

class Channel {
 public:
  explicit Channel(WaitMode mode) : mode_(mode) {}
  virtual ~Channel() = default;
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  /// As Connection::send and receive. An error other than kClosed ends the process.
  virtual IoResult try_send(std::span<const ConstBytes> buffers) = 0;
  virtual IoResult try_receive(MutableBytes into) = 0;
  /// Sleeps until bytes may have come, or there may be room, or a second has passed.
  virtual void sleep(bool want_send) = 0;

  /// The connection's one-sided access, or null.
  virtual OneSided* one_sided() { return nullptr; }

  /// Moves all of it, waiting as the mode says; false when the peer has closed. The process ends
  /// when nothing moves for a minute.
  bool send(std::span<const ConstBytes> buffers);
  virtual bool send(ConstBytes bytes) { return send(std::span(&bytes, 1)); }
  virtual bool receive(MutableBytes into);
  /// As receive, of what may come in an hour or never: sleeps in every mode, so that a peer that
  /// has nothing to do takes no core from what is measured meanwhile.
  bool receive_idle(MutableBytes into);

  /// Buffers that who drives it keeps from one command to the next: making them is not to be timed.
  std::shared_ptr<void> to_send, to_receive;

  /// Waiting for progress: called again and again, reset by progress.
  class Patience {
   public:
    explicit Patience(Channel& channel) : channel_(channel) {}
    void moved() { since_ = 0; }
    void pause(bool want_send);

   private:
    Channel& channel_;
    std::uint64_t since_ = 0;
  };

 protected:
  const WaitMode mode_;
};

std::unique_ptr<Channel> channel_over(std::unique_ptr<Connection> connection, WaitMode mode);
/// Over a connected socket.
std::unique_ptr<Channel> channel_over(Descriptor socket, WaitMode mode);

/// Two rings in memory that processes share; made before the fork.
struct SharedRings;
SharedRings* make_shared_rings();
std::unique_ptr<Channel> channel_over(SharedRings& rings, bool first_end, WaitMode mode);

/// The two ends of a queue inside this process.
std::pair<std::unique_ptr<Channel>, std::unique_ptr<Channel>> queue_channels(WaitMode mode);

}  // namespace avec::bench
