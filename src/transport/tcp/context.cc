#include "transport/tcp/context.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <fcntl.h>
#include <sys/un.h>
#include <unistd.h>

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <thread>

namespace avec::tcp {
namespace {

using Endpoint = asio::ip::tcp::endpoint;

Endpoint to_endpoint(const SocketAddress& address) {
  Endpoint endpoint;
  if (address.bytes == 0 || address.bytes > endpoint.capacity()) return endpoint;
  std::memcpy(endpoint.data(), &address.storage, address.bytes);
  endpoint.resize(address.bytes);
  return endpoint;
}

SocketAddress from_endpoint(const Endpoint& endpoint) {
  SocketAddress address;
  address.bytes = static_cast<socklen_t>(endpoint.size());
  std::memcpy(&address.storage, endpoint.data(), endpoint.size());
  return address;
}

asio::ip::address unmapped(const asio::ip::address& address) {
  if (address.is_v6() && address.to_v6().is_v4_mapped()) {
    return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
  }
  return address;
}

Failure bad_address(std::string_view url, std::string_view reason) {
  return {{TransportErrc::kBadAddress, 0},
          "the address " + std::string(url) + " " + std::string(reason) +
              "; write tcp://HOST:PORT, an IPv6 address in brackets"};
}

// The part of a failure's sentence that says what to do.
std::string_view advice(TransportErrc code) {
  switch (code) {
    case TransportErrc::kRefused:
      return "; is the executor running there, on that port?";
    case TransportErrc::kTimeout:
      return "; is the address right, and does a firewall let it through?";
    case TransportErrc::kUnreachable:
      return "; is the address right, and the network up?";
    case TransportErrc::kResources:
      return "; raise the limit of open files (ulimit -n)";
    default:
      return "";
  }
}

Failure failure(TransportError error, std::string what) {
  what += ": ";
  what += error.os_error ? std::strerror(error.os_error) : std::string(to_string(error.code)).c_str();
  what += advice(error.code);
  return {error, std::move(what)};
}

// A lookup in the system's resolver, which cannot be cancelled. Shared by the caller and the
// thread that asks; whoever comes last frees it.
struct Lookup {
  std::mutex mutex;
  std::condition_variable done_changed;
  bool done = false;
  int status = 0;
  int os_error = 0;
  std::vector<SocketAddress> addresses;
};

std::atomic<int> lookups_under_way{0};

void look_up(Lookup& lookup, const HostPort& target) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int status = ::getaddrinfo(target.host.c_str(), target.port.c_str(), &hints, &list);
  const int os_error = errno;
  const std::scoped_lock lock(lookup.mutex);
  lookup.status = status;
  lookup.os_error = status == EAI_SYSTEM ? os_error : 0;
  for (const addrinfo* entry = list; entry; entry = entry->ai_next) {
    SocketAddress address;
    if (entry->ai_addrlen > sizeof address.storage) continue;
    std::memcpy(&address.storage, entry->ai_addr, entry->ai_addrlen);
    address.bytes = entry->ai_addrlen;
    lookup.addresses.push_back(address);
  }
  if (list) ::freeaddrinfo(list);
  lookup.done = true;
  lookup.done_changed.notify_all();
}

std::expected<std::vector<SocketAddress>, Failure> resolve_name(const HostPort& target, Deadline deadline) {
  const auto named = "finding the host " + target.host;
  if (lookups_under_way.fetch_add(1) >= kMaxAbandonedLookups) {
    lookups_under_way.fetch_sub(1);
    return std::unexpected(failure({TransportErrc::kTimeout, 0}, named + ": the resolver does not answer"));
  }
  auto lookup = std::make_shared<Lookup>();
  // The application's signals are not for this thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    std::thread([lookup, target] {
      look_up(*lookup, target);
      lookups_under_way.fetch_sub(1);
    }).detach();
  } catch (const std::system_error& error) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    lookups_under_way.fetch_sub(1);
    return std::unexpected(failure({TransportErrc::kResources, error.code().value()}, named));
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);

  std::unique_lock lock(lookup->mutex);
  if (!lookup->done_changed.wait_until(lock, deadline, [&] { return lookup->done; })) {
    return std::unexpected(failure({TransportErrc::kTimeout, 0}, named));
  }
  if (lookup->status != 0 || lookup->addresses.empty()) {
    const TransportErrc code =
        lookup->status == EAI_MEMORY ? TransportErrc::kResources : TransportErrc::kUnreachable;
    const char* words = lookup->status == 0 ? "it has no address" : ::gai_strerror(lookup->status);
    return std::unexpected(Failure{{code, lookup->os_error}, named + ": " + words + "; is the name right?"});
  }
  return std::move(lookup->addresses);
}

}  // namespace

std::expected<HostPort, Failure> parse_url(std::string_view url, bool listening) {
  constexpr std::string_view kPrefix = "tcp://";
  if (!url.starts_with(kPrefix)) return std::unexpected(bad_address(url, "does not begin with tcp://"));
  auto rest = url.substr(kPrefix.size());
  if (rest.ends_with('/')) rest.remove_suffix(1);
  std::string_view host, port;
  if (rest.starts_with('[')) {
    const auto end = rest.find(']');
    if (end == std::string_view::npos) return std::unexpected(bad_address(url, "lacks a closing bracket"));
    host = rest.substr(1, end - 1);
    asio::error_code error;
    asio::ip::make_address_v6(std::string(host), error);
    if (error) return std::unexpected(bad_address(url, "has no IPv6 address in its brackets"));
    rest.remove_prefix(end + 1);
    if (!rest.starts_with(':')) return std::unexpected(bad_address(url, "has no port"));
    port = rest.substr(1);
  } else {
    const auto colon = rest.find(':');
    if (colon == std::string_view::npos) return std::unexpected(bad_address(url, "has no port"));
    host = rest.substr(0, colon);
    port = rest.substr(colon + 1);
    if (port.find(':') != std::string_view::npos) {
      return std::unexpected(bad_address(url, "has several colons"));
    }
  }
  if (host.empty()) return std::unexpected(bad_address(url, "has no host"));
  if (host.size() > 255 || host.find_first_of("/@?# \t\n") != std::string_view::npos ||
      host.find('\0') != std::string_view::npos) {
    return std::unexpected(bad_address(url, "has a host that is no name"));
  }
  unsigned number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (error != std::errc{} || end != port.data() + port.size() || number > 65535 ||
      (number == 0 && !listening)) {
    return std::unexpected(
        bad_address(url, listening ? "needs a port from 0 to 65535" : "needs a port from 1 to 65535"));
  }
  return HostPort{std::string(host), std::to_string(number)};
}

std::expected<std::vector<SocketAddress>, Failure> resolve(const HostPort& target, Deadline deadline) {
  asio::error_code error;
  const auto address = asio::ip::make_address(target.host, error);
  if (error) return resolve_name(target, deadline);
  const auto port = static_cast<asio::ip::port_type>(std::stoul(target.port));
  return std::vector{from_endpoint(Endpoint(address, port))};
}

std::string to_url(const SocketAddress& address) {
  if (address.bytes == 0) return "tcp://unknown";
  if (address.storage.ss_family == AF_UNIX) return unix_url(address);
  const auto endpoint = to_endpoint(address);
  const auto ip = unmapped(endpoint.address());
  std::string url = ip.is_v6() ? "tcp://[" : "tcp://";
  url += ip.to_string();
  url += ip.is_v6() ? "]:" : ":";
  url += std::to_string(endpoint.port());
  return url;
}

std::string unix_url(const SocketAddress& address) {
  constexpr auto kPath = offsetof(sockaddr_un, sun_path);
  const auto& named = reinterpret_cast<const sockaddr_un&>(address.storage);
  if (address.bytes <= kPath || named.sun_path[0] == '\0') return "unix://local";
  return "unix://" + std::string(named.sun_path, ::strnlen(named.sun_path, address.bytes - kPath));
}

bool is_loopback(const SocketAddress& address) {
  if (address.bytes == 0) return false;
  if (address.storage.ss_family == AF_UNIX) return true;
  return unmapped(to_endpoint(address).address()).is_loopback();
}

bool same_machine(const SocketAddress& peer, const SocketAddress& own) {
  if (peer.bytes == 0 || own.bytes == 0) return false;
  return is_loopback(peer) || to_endpoint(peer).address() == to_endpoint(own).address();
}

SocketAddress peer_address(int fd) {
  SocketAddress address;
  address.bytes = sizeof address.storage;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.bytes) != 0)
    address.bytes = 0;
  return address;
}

SocketAddress own_address(int fd) {
  SocketAddress address;
  address.bytes = sizeof address.storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.bytes) != 0)
    address.bytes = 0;
  return address;
}

namespace {

// Asio opens sockets that a child process inherits; ours must not leak into one, and its
// blocking connect has no deadline, so the native calls it is.
Descriptor open_socket(const SocketAddress& address) {
  return out_of_the_way(
      Descriptor(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)));
}

}  // namespace

std::expected<Descriptor, Failure> connect_socket(const SocketAddress& address, Deadline deadline) {
  const auto what = "connecting to " + to_url(address);
  auto fd = open_socket(address);
  if (!fd) return std::unexpected(failure(setup_error(errno), what));
  set_stream_options(fd.get());

  // Interrupted or not: connect() goes on by itself and poll() tells when it is done.
  if (::connect(fd.get(), address.get(), address.bytes) != 0 && errno != EINPROGRESS && errno != EINTR) {
    return std::unexpected(failure(setup_error(errno), what));
  }
  pollfd entry{fd.get(), POLLOUT, 0};
  const int ready = poll_until(&entry, 1, deadline);
  if (ready < 0) return std::unexpected(failure(setup_error(errno), what));
  if (ready == 0) return std::unexpected(failure({TransportErrc::kTimeout, 0}, what));
  int os_error = 0;
  socklen_t bytes = sizeof os_error;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &os_error, &bytes) != 0) os_error = errno;
  if (os_error != 0) return std::unexpected(failure(setup_error(os_error), what));
  // A free port of the ephemeral range can meet itself; nobody else ever answers then.
  const auto peer = peer_address(fd.get());
  const auto own = own_address(fd.get());
  if (peer.bytes == own.bytes && std::memcmp(&peer.storage, &own.storage, peer.bytes) == 0) {
    return std::unexpected(failure({TransportErrc::kRefused, ECONNREFUSED}, what));
  }
  return fd;
}

std::expected<Descriptor, Failure> listen_socket(const SocketAddress& address) {
  const auto endpoint = to_endpoint(address);
  asio::io_context context;
  asio::ip::tcp::acceptor acceptor(context);
  asio::error_code error;
  auto opened = open_socket(address);
  if (opened) {
    acceptor.assign(endpoint.protocol(), opened.get(), error);
    if (!error) (void)opened.release();
  } else {
    error.assign(errno, asio::system_category());
  }
  if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(kBacklog, error);
  Descriptor fd;
  if (!error) fd.reset(acceptor.release(error));
  if (error) {
    auto told = failure(setup_error(error.value()), "listening on " + to_url(address));
    if (error.value() == EADDRINUSE) told.detail += "; another program listens there, choose another port";
    return std::unexpected(std::move(told));
  }
  return fd;
}

void set_stream_options(int fd) noexcept {
  // The buffers keep the size the kernel tunes: a size that is asked for is cut to
  // net.core.{r,w}mem_max, a few hundred KiB by default, and then no longer grows.
  // Errors do not matter: a descriptor pair of tests has no such options.
  const auto set = [fd](int level, int name, int value) {
    ::setsockopt(fd, level, name, &value, sizeof value);
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  // A peer that vanished without a word is noticed after 30 + 6 * 10 s.
  set(IPPROTO_TCP, TCP_KEEPIDLE, 30);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 10);
  set(IPPROTO_TCP, TCP_KEEPCNT, 6);
}

TransportError stream_error(int os_error) noexcept {
  switch (os_error) {
    case ENOBUFS:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      return {TransportErrc::kResources, os_error};
    case ECONNRESET:
    case EPIPE:
    case ECONNABORTED:
    case ENOTCONN:
    // Of an established connection: the peer did not answer for too long, or the route went.
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
    case ENETRESET:
      return {TransportErrc::kReset, os_error};
    default:
      return {TransportErrc::kInternal, os_error};
  }
}

TransportError setup_error(int os_error) noexcept {
  switch (os_error) {
    case ECONNREFUSED:
      return {TransportErrc::kRefused, os_error};
    case ETIMEDOUT:
      return {TransportErrc::kTimeout, os_error};
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
    case EADDRNOTAVAIL:
      return {TransportErrc::kUnreachable, os_error};
    case EAFNOSUPPORT:
    case EPROTONOSUPPORT:
      return {TransportErrc::kNotViable, os_error};
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
      return {TransportErrc::kResources, os_error};
    case ECONNRESET:
    case ECONNABORTED:
      return {TransportErrc::kReset, os_error};
    default:
      return {TransportErrc::kInternal, os_error};
  }
}

int poll_until(pollfd* descriptors, nfds_t count, Deadline deadline) noexcept {
  while (true) {
    timespec left{};
    timespec* timeout = &left;
    if (deadline == Deadline::max()) {
      timeout = nullptr;
    } else {
      const auto now = std::chrono::steady_clock::now();
      // The subtraction of a deadline in the far past would overflow.
      const auto remaining =
          deadline <= now ? std::chrono::nanoseconds(0) : std::chrono::nanoseconds(deadline - now);
      left.tv_sec = static_cast<time_t>(remaining.count() / 1'000'000'000);
      left.tv_nsec = static_cast<long>(remaining.count() % 1'000'000'000);
    }
    const int ready = ::ppoll(descriptors, count, timeout, nullptr);
    if (ready >= 0 || errno != EINTR) return ready;
  }
}

}  // namespace avec::tcp
