// What the connections and listeners of TCP share: addresses, sockets, errors. The only file
// of tcp/ whose source knows Asio.
#pragma once

#include <poll.h>
#include <sys/socket.h>

#include <chrono>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "avec/transport.h"
#include "base/descriptor.h"

namespace avec::tcp {

using namespace std::chrono_literals;

/// close() waits at most this long for the peer's kernel to have taken what send() accepted.
inline constexpr auto kCloseLinger = 1000ms;
/// Name resolutions that outlived their deadline and still hold a thread.
inline constexpr int kMaxAbandonedLookups = 16;
/// Scattered or gathered buffers moved by one system call; more are left to the next call.
inline constexpr std::size_t kMaxBuffers = 64;
/// Connections that wait to be accepted.
inline constexpr int kBacklog = 1024;

/// HOST and PORT of a URL.
struct HostPort {
  std::string host;  ///< without brackets
  std::string port;  ///< digits
};

/// An error with its sentence, on the way to ConnectResult or ListenResult.
struct Failure {
  TransportError error;
  std::string detail;
};

/// One address of a socket, as the system wants it.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t bytes = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

std::expected<HostPort, Failure> parse_url(std::string_view url, bool listening);

/// The addresses of a host, numeric ones without asking anybody. Does not outlast the
/// deadline: a resolver that does not answer is left behind.
std::expected<std::vector<SocketAddress>, Failure> resolve(const HostPort& target, Deadline deadline);

/// "tcp://192.0.2.7:7700", "tcp://[2001:db8::7]:7700". A mapped IPv4 address is shown as IPv4.
std::string to_url(const SocketAddress& address);
/// "unix:///run/avec/avec.sock"; "unix://local" for the end that has no name.
std::string unix_url(const SocketAddress& address);
bool is_loopback(const SocketAddress& address);
bool same_machine(const SocketAddress& peer, const SocketAddress& own);
SocketAddress peer_address(int fd);
SocketAddress own_address(int fd);

/// A connected socket, or why not.
std::expected<Descriptor, Failure> connect_socket(const SocketAddress& address, Deadline deadline);
/// A listening socket, non-blocking.
std::expected<Descriptor, Failure> listen_socket(const SocketAddress& address);
/// Options every connection has: no delay, keepalive.
void set_stream_options(int fd) noexcept;

/// The contract's error for an errno of a connection that exists.
TransportError stream_error(int os_error) noexcept;
/// The contract's error for an errno of connecting, listening, accepting.
TransportError setup_error(int os_error) noexcept;

/// poll() until something is ready or the deadline passed; interruptions by signals are
/// survived. Returns what poll() returns: 0 deadline, negative with errno.
int poll_until(pollfd* descriptors, nfds_t count, Deadline deadline) noexcept;

/// An eventfd for wake(); empty when the process is out of descriptors.
inline Descriptor make_wake_descriptor() noexcept { return make_event(); }
inline void signal_wake(int fd) noexcept { signal_event(fd); }  // async-signal-safe; keeps errno
inline void consume_wake(int fd) noexcept { consume_event(fd); }

}  // namespace avec::tcp
