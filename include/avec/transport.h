// The transport contract: what carries a session's bytes between client and executor.
//
// A transport is an ordered, reliable stream of bytes in each direction. It knows nothing
// of frames. tcp, sim and every other backend pass one suite of contract tests
// (tests/transport/contract.h); an own transport is registered under a URL scheme and then
// chosen with --executor scheme://...
//
// Threads: one thread at a time drives a connection (send, receive, wait, close). wake()
// may be called from any thread at any time. Nothing here throws.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace avec {

/// Why a transport operation did not succeed.
enum class TransportErrc : std::uint8_t {
  kNone,
  kClosed,       ///< the peer closed in order; every byte it sent has been received
  kReset,        ///< the connection broke; bytes in flight may be lost
  kRefused,      ///< nobody listens there
  kUnreachable,  ///< no route, no such host
  kTimeout,      ///< the deadline passed
  kNotViable,    ///< this machine cannot use this transport (no such hardware, no such scheme)
  kBadAddress,   ///< the URL does not parse
  kResources,    ///< out of descriptors or memory
  kInternal      ///< os_error says more
};

/// The error's name in words, for messages. Static storage.
std::string_view to_string(TransportErrc code) noexcept;

struct TransportError {
  TransportErrc code = TransportErrc::kNone;
  int os_error = 0;  ///< errno where the system said one, else 0
  explicit operator bool() const noexcept { return code != TransportErrc::kNone; }
};

/// Bytes moved by a non-blocking operation. bytes == 0 with no error: it would block.
struct IoResult {
  std::size_t bytes = 0;
  TransportError error;
};

using Deadline = std::chrono::steady_clock::time_point;
using ConstBytes = std::span<const std::byte>;
using MutableBytes = std::span<std::byte>;

/// How a thread waits for its peer.
enum class WaitMode : std::uint8_t {
  kSpin,      ///< poll without sleeping: lowest latency, one busy core
  kAdaptive,  ///< poll for a while, then sleep
  kBlock      ///< sleep at once
};

class Connection {
 public:
  virtual ~Connection() = default;

  /// Sends a prefix of the gathered buffers without blocking. The buffers are borrowed for
  /// the call: once it returns, the bytes counted in the result may be overwritten.
  virtual IoResult send(std::span<const ConstBytes> buffers) noexcept = 0;

  /// Receives into the scattered buffers without blocking; fills them in order. After the
  /// last byte of a peer that closed: kClosed.
  virtual IoResult receive(std::span<const MutableBytes> buffers) noexcept = 0;

  /// Blocks until bytes can be received, or (want_send) sent, or wake() was called, or the
  /// deadline passed (kTimeout). A wake() that came before the call makes it return at
  /// once, and is consumed. An error that receive() would report also ends the wait.
  virtual TransportError wait(bool want_send, Deadline deadline) noexcept = 0;

  /// Ends the current or the next wait(). Any thread; async-signal-safe; never blocks.
  virtual void wake() noexcept = 0;

  /// Closes in order: bytes that send() has accepted still reach the peer. Idempotent; also
  /// done by the destructor. Afterwards send, receive and wait return kClosed.
  virtual void close() noexcept = 0;

  /// A descriptor that poll() reports readable when receive() has something, or -1. It lets
  /// an event loop watch a connection beside other things.
  virtual int poll_descriptor() const noexcept { return -1; }

  /// The peer, for messages: "tcp://192.0.2.7:7700".
  virtual std::string peer() const = 0;

  /// True when the peer shares this host's memory and clock.
  virtual bool same_host() const noexcept { return false; }
};

struct ConnectResult {
  std::unique_ptr<Connection> connection;  ///< null on error
  TransportError error;
  std::string detail;  ///< a sentence for people, may be empty
};

class Listener {
 public:
  virtual ~Listener() = default;
  /// Waits until a peer connects, wake() was called (null connection, no error) or the
  /// deadline passed.
  virtual ConnectResult accept(Deadline deadline) noexcept = 0;
  virtual void wake() noexcept = 0;
  /// The address that clients use: with the port that was chosen where 0 was asked for.
  virtual std::string address() const = 0;
  /// For event loops, as Connection::poll_descriptor.
  virtual int poll_descriptor() const noexcept { return -1; }
};

struct ListenResult {
  std::unique_ptr<Listener> listener;  ///< null on error
  TransportError error;
  std::string detail;
};

/// Makes connections and listeners for one URL scheme. Stateless apart from what all its
/// connections share; lives as long as the process.
class Transport {
 public:
  virtual ~Transport() = default;
  /// The scheme without "://".
  virtual std::string_view scheme() const noexcept = 0;
  /// kNone, or kNotViable with the reason in `detail`: absent hardware is a normal answer.
  virtual TransportError viable(std::string& detail) const = 0;
  virtual ConnectResult connect(std::string_view url, Deadline deadline) noexcept = 0;
  virtual ListenResult listen(std::string_view url) noexcept = 0;
};

/// Registers a transport under its scheme; false when the scheme is taken. Any thread.
bool register_transport(std::unique_ptr<Transport> transport);

/// The transport for "scheme://...", or null. Owned by the registry, never removed.
Transport* find_transport(std::string_view url) noexcept;

/// The registered schemes, sorted.
std::vector<std::string> transport_schemes();

}  // namespace avec
