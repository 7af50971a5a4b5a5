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

#include "avec/one_sided.h"
#include "avec/transport_error.h"

namespace avec {

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
  /// the call: once it returns, the bytes counted in the result may be overwritten. Those that were not taken come
  /// first in the next send().
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

  /// Makes poll_descriptor() tell of what comes from now on; to be called, with the connection
  /// driven, before the descriptor is polled. False: there is something already, do not sleep.
  /// Used up by receive(), wait(), and a send() that sends nothing.
  virtual bool arm() noexcept { return true; }

  /// Access to the peer's memory beside the stream, or null: payload travels in the stream.
  /// Belongs to the connection.
  virtual OneSided* one_sided() noexcept { return nullptr; }

  /// The peer, for messages: "tcp://192.0.2.7:7700".
  virtual std::string peer() const = 0;

  /// Why the connection broke, a phrase for people, where more is known than the error says; else
  /// empty. With the connection driven; stays after close().
  virtual std::string reason() const { return {}; }

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

/// Which end of a connection this is.
enum class End : std::uint8_t { kClient, kExecutor };

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

  // A transport that has no way to authenticate by itself (rdma, shm) begins as a connection of
  // another: a session connects and authenticates there, and both ends then upgrade it.

  /// Where a session to `url` begins: "tcp://edge:7700" for "rdma://edge:7700". Empty: there.
  virtual std::string begins_at(std::string_view url) const {
    static_cast<void>(url);
    return {};
  }
  /// Turns `stream` into a connection of this transport, both ends at the same point of the
  /// stream; waits for the other until the deadline. On success the new connection owns the
  /// stream. kNotViable: one end cannot, both know it, `detail` says why, and the stream is the
  /// caller's and usable as before. On another error it is the caller's, to be closed.
  virtual ConnectResult upgrade(std::unique_ptr<Connection>& stream, End end, Deadline deadline) noexcept {
    static_cast<void>(stream), static_cast<void>(end), static_cast<void>(deadline);
    return {nullptr, {TransportErrc::kNotViable, 0}, "connections of this transport do not begin as others"};
  }
};

/// Registers a transport under its scheme; false when the scheme is taken. Any thread.
bool register_transport(std::unique_ptr<Transport> transport);

/// The transport for "scheme://...", or null. Owned by the registry, never removed.
Transport* find_transport(std::string_view url) noexcept;

/// The registered schemes, sorted.
std::vector<std::string> transport_schemes();

}  // namespace avec
