// The other end of a measurement: a process (for links inside this process, a thread) that does
// what commands on the channel say.
#pragma once

#include <memory>
#include <string>

#include "channel.h"
#include "harness.h"

namespace avec::bench {

/// What travels first on a channel.
struct Command {
  enum Op : std::uint32_t {
    kEcho,    ///< send every message back
    kSink,    ///< take them all, then answer with 8 bytes: how many messages were wrong
    kSource,  ///< send them
    kBoth,    ///< send as many as come, at the same time, then answer as kSink does
    kRead,    ///< a key follows: read the messages out of the other end's memory, then answer
    kWrite,   ///< a key follows: write them into it, then answer
    kJudge    ///< answer whether what was read last is right
  };
  std::uint32_t op = kEcho;
  std::uint32_t check = 0;     ///< compare every byte
  std::uint64_t message = 0;   ///< bytes of each
  std::uint64_t messages = 0;  ///< how many; for kEcho too
};

/// Messages as both ends know them: a counter, then bytes that depend on their place.
class Messages {
 public:
  explicit Messages(std::size_t bytes, std::size_t batch = 1);
  Messages(const Messages&) = delete;  // the spans are of its own memory
  Messages& operator=(const Messages&) = delete;
  bool are(std::size_t bytes, std::size_t batch) const { return bytes == bytes_ && batch == spans_.size(); }
  /// The next ones, numbered from `number` on; valid until the next call.
  std::span<const ConstBytes> numbered(std::uint64_t number);
  /// Is `bytes` the message of this number? Only its counter and its last byte without `check`.
  bool right(ConstBytes bytes, std::uint64_t number, bool check) const;

 private:
  const std::size_t bytes_;
  std::vector<std::byte> pattern_, data_;
  std::vector<ConstBytes> spans_;
};

/// Sends `command.messages` messages, `batch` in one call.
bool send_messages(Channel& channel, const Command& command, std::size_t batch = 1);
/// Receives them; the number of wrong ones, or -1 when the peer has closed.
std::int64_t receive_messages(Channel& channel, const Command& command);
/// Both at once.
std::int64_t exchange_messages(Channel& channel, const Command& command);

/// Serves commands until the peer closes.
void serve(Channel& channel);

/// Where channels to a peer come from. Make them before any thread: most fork.
class Peers {
 public:
  virtual ~Peers() = default;
  virtual std::unique_ptr<Channel> connect() = 0;

  /// Connections of the transport, over a link of the options' shape.
  static std::unique_ptr<Peers> of_transport(const Options& options);
  /// The transport's yardstick: sockets, rings in shared memory, a queue between threads. Null for
  /// rdma, whose yardstick other programs are, and for sim over a shaped link. A ring has one channel only.
  static std::unique_ptr<Peers> raw(const Options& options);
};

/// The yardstick of copies: bytes one way from ordinary memory here into ordinary memory of the
/// peer, until that one has said that all are there. Over shm, whose bytes need no way, a copy
/// from memory to memory; over rdma one ib_write_bw or ib_read_bw.
class RawStream {
 public:
  /// Before any thread is started.
  RawStream(const Options& options, std::size_t bytes);
  /// Microseconds for the bytes.
  double sample();

 private:
  const Options options_;
  const std::size_t bytes_;
  std::unique_ptr<Peers> peers_;
  std::unique_ptr<Channel> channel_;
  std::vector<std::byte> from_, into_;
};

}  // namespace avec::bench
