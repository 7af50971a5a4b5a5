#include "transport/shm/upgrade.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <expected>

#include "transport/blocking.h"
#include "transport/tcp/context.h"
#include "transport/tcp/factory.h"

namespace avec::shm {
namespace {

constexpr std::uint32_t kMagic = 0x6d687361;  // "ashm"
constexpr std::uint32_t kVersion = 1;         // of Shared, Message and what is below
// Strangers who found the socket before the client did.
constexpr int kMaxStrangers = 64;
constexpr int kBacklog = 16;
// How long a client that connected may take to offer its memory, outside of a meeting.
constexpr auto kOfferDeadline = std::chrono::seconds(1);

using Secret = std::array<std::byte, 16>;
using Reason = std::array<char, 160>;

/// What the executor says first.
struct Meeting {
  std::uint32_t magic = kMagic;
  std::uint32_t version = kVersion;
  std::uint32_t viable = 0;
  std::uint32_t direct = 0;  // the stream takes descriptors
  std::array<char, 40> host{};
  Secret name{};
  Secret nonce{};
  Reason reason{};
};

struct Verdict {
  std::uint32_t magic = kMagic;
  std::uint32_t viable = 0;
  Reason reason{};
};

/// Goes with the descriptor of a Shared.
struct Offer {
  std::uint32_t magic = kMagic;
  std::uint32_t version = kVersion;
  std::uint64_t bytes = sizeof(Shared);
  Secret nonce{};
};

template <class T>
ConstBytes bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}
template <class T>
MutableBytes writable(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

std::string text_of(const Reason& reason) { return {reason.data(), ::strnlen(reason.data(), reason.size())}; }

void write(Reason& reason, const std::string& text) {
  std::copy_n(text.data(), std::min(text.size(), reason.size() - 1), reason.data());
}

std::string with_errno(const char* what) { return std::string(what) + ": " + std::strerror(errno); }

/// The kernel that this process runs on, whatever its container.
std::array<char, 40> host_identity(const std::string& host_file) {
  std::array<char, 40> identity{};
  const Descriptor fd(::open(host_file.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd && ::read(fd.get(), identity.data(), identity.size() - 1) <= 0) identity = {};
  return identity;
}

bool randomize(Secret& secret) {
  return ::getrandom(secret.data(), secret.size(), 0) == static_cast<ssize_t>(secret.size());
}

bool takes_descriptors(const Connection& stream) {
  int domain = 0;
  socklen_t size = sizeof domain;
  return ::getsockopt(tcp::native_descriptor(stream), SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 &&
         domain == AF_UNIX;
}

struct Address {
  sockaddr_un name{};
  socklen_t bytes = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&name); }
};

/// The abstract socket of a meeting; it is visible in one network namespace.
Address address_of(const Secret& name) {
  Address address;
  address.name.sun_family = AF_UNIX;
  static constexpr char kDigits[] = "0123456789abcdef";
  char* to = address.name.sun_path + 1;
  for (const char letter : std::string_view("avec-")) *to++ = letter;
  for (const std::byte byte : name) {
    *to++ = kDigits[std::to_integer<unsigned>(byte) >> 4];
    *to++ = kDigits[std::to_integer<unsigned>(byte) & 15];
  }
  address.bytes = static_cast<socklen_t>(to - reinterpret_cast<char*>(&address.name));
  return address;
}

Descriptor open_socket() {
  return out_of_the_way(Descriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)));
}

/// "shm://192.0.2.7:7700" for the stream "tcp://192.0.2.7:7700".
std::string name_of_peer(const Connection& stream) {
  const auto peer = stream.peer();
  const auto end = peer.find("://");
  return "shm" + (end == std::string::npos ? "://" + peer : peer.substr(end));
}

ConnectResult not_viable(std::string detail) {
  return {nullptr, {TransportErrc::kNotViable, 0}, std::move(detail)};
}

ConnectResult broken(TransportError error) {
  return {nullptr, error, "the connection ended while the two ends tried to share memory"};
}

// ---- the client's memory ---------------------------------------------------------------

struct Made {
  Descriptor fd;
  Mapping shared;
};

std::expected<Made, std::string> make_shared_memory() {
  Made made;
  made.fd = make_sealed_memory("avec-rings", sizeof(Shared));
  if (!made.fd) return std::unexpected(with_errno("making shared memory"));
  made.shared = Mapping::of(made.fd.get(), sizeof(Shared));
  if (!made.shared) return std::unexpected(with_errno("mapping shared memory"));
  return made;
}

std::expected<Mapping, std::string> map_offered(const Offer& offer, const Descriptor& fd) {
  if (offer.magic != kMagic || offer.version != kVersion || offer.bytes != sizeof(Shared))
    return std::unexpected(
        "the other end lays out its shared memory in another way: use the same release at both ends");
  if (!fd || !is_sealed_memory(fd.get(), sizeof(Shared)))
    return std::unexpected("the memory that the other end offers is not what it must be");
  auto shared = Mapping::of(fd.get(), sizeof(Shared));
  if (!shared) return std::unexpected(with_errno("mapping shared memory"));
  return shared;
}

/// Reads an offer from a socket, waiting for it until the deadline. kTimeout: it did not come.
TransportError receive_offer(int socket, Deadline deadline, Offer& offer, Descriptor& fd) {
  auto rest = writable(offer);
  while (!rest.empty()) {
    const ssize_t got = receive_with_descriptor(socket, rest, fd);
    if (got > 0) {
      rest = rest.subspan(static_cast<std::size_t>(got));
      continue;
    }
    if (got == 0) return {TransportErrc::kReset, 0};
    if (errno != EAGAIN && errno != EWOULDBLOCK) return tcp::stream_error(errno);
    pollfd entry{socket, POLLIN, 0};
    const int ready = tcp::poll_until(&entry, 1, deadline);
    if (ready == 0) return {TransportErrc::kTimeout, 0};
    if (ready < 0) return tcp::stream_error(errno);
  }
  return {};
}

// ---- the socket ------------------------------------------------------------------------

std::expected<Descriptor, std::string> connect_to(const Secret& name) {
  auto socket = open_socket();
  if (!socket) return std::unexpected(with_errno("opening a socket"));
  const auto address = address_of(name);
  if (::connect(socket.get(), address.get(), address.bytes) == 0) return socket;
  if (errno == ECONNREFUSED) {
    return std::unexpected(
        "the two ends are on one host but in different network namespaces: use a Unix-domain "
        "socket in a folder that both see (unix:///PATH, shm:///PATH)");
  }
  return std::unexpected(with_errno("connecting to the executor's socket"));
}

std::expected<Descriptor, std::string> listen_at(const Secret& name) {
  auto socket = open_socket();
  const auto address = address_of(name);
  if (!socket || ::bind(socket.get(), address.get(), address.bytes) != 0 ||
      ::listen(socket.get(), kBacklog) != 0)
    return std::unexpected(with_errno("opening a socket for shared memory"));
  return socket;
}

struct Arrived {
  Descriptor socket;
  Mapping shared;
};

/// The connection, among those that have come, that knows the nonce. The client's has come before
/// its verdict: nobody is waited for.
std::expected<Arrived, std::string> accept_client(int listener, const Secret& nonce) {
  for (int i = 0; i < kMaxStrangers; ++i) {
    Arrived arrived;
    arrived.socket.reset(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!arrived.socket) break;
    Offer offer;
    Descriptor fd;
    if (receive_offer(arrived.socket.get(), Deadline::min(), offer, fd) || offer.nonce != nonce) continue;
    auto shared = map_offered(offer, fd);
    if (!shared) return std::unexpected(shared.error());
    arrived.shared = std::move(*shared);
    return arrived;
  }
  return std::unexpected("the client's connection for shared memory did not arrive");
}

/// The end of a meeting: the connection, or the stream as it was.
ConnectResult finish(std::unique_ptr<Connection>& stream, End end, Mapping shared, Descriptor socket) {
  auto peer = name_of_peer(*stream);
  if (!socket) socket.reset(tcp::release_descriptor(*stream));
  auto connection = ShmConnection::make(end, std::move(shared), std::move(socket), std::move(peer));
  if (!connection)
    return {nullptr, {TransportErrc::kResources, ENOMEM}, "making a connection over shared memory"};
  stream.reset();
  return {std::move(connection), {}, {}};
}

}  // namespace

ConnectResult meet_as_client(std::unique_ptr<Connection>& stream, const std::string& host_file,
                             Deadline deadline) {
  Meeting meeting;
  if (const auto error = receive_whole(*stream, writable(meeting), deadline)) return broken(error);
  if (meeting.magic != kMagic) return broken({TransportErrc::kReset, EPROTO});
  if (meeting.viable == 0) return not_viable(text_of(meeting.reason));

  Made made;
  Descriptor socket;
  Verdict mine;
  const auto try_it = [&]() -> std::expected<void, std::string> {
    if (meeting.version != kVersion) return std::unexpected("the two ends are of different releases");
    if (meeting.host != host_identity(host_file) || meeting.host[0] == '\0')
      return std::unexpected("the executor is on another host");
    auto memory = make_shared_memory();
    if (!memory) return std::unexpected(memory.error());
    made = std::move(*memory);
    if (meeting.direct != 0) return {};
    auto connected = connect_to(meeting.name);
    if (!connected) return std::unexpected(connected.error());
    socket = std::move(*connected);
    Offer offer;
    offer.nonce = meeting.nonce;
    if (!send_with_descriptor(socket.get(), bytes_of(offer), made.fd.get()))
      return std::unexpected(with_errno("offering shared memory"));
    return {};
  };
  if (const auto tried = try_it(); tried) {
    mine.viable = 1;
  } else {
    write(mine.reason, tried.error());
  }
  if (const auto error = send_whole(*stream, bytes_of(mine), deadline)) return broken(error);
  if (mine.viable == 0) return not_viable(text_of(mine.reason));
  if (meeting.direct != 0) {
    Offer offer;
    offer.nonce = meeting.nonce;
    const int direct = tcp::native_descriptor(*stream);
    if (!send_with_descriptor(direct, bytes_of(offer), made.fd.get()))
      return broken({TransportErrc::kReset, errno});
  }
  Verdict theirs;
  if (const auto error = receive_whole(*stream, writable(theirs), deadline)) return broken(error);
  if (theirs.magic != kMagic) return broken({TransportErrc::kReset, EPROTO});
  if (theirs.viable == 0) return not_viable(text_of(theirs.reason));
  return finish(stream, End::kClient, std::move(made.shared), std::move(socket));
}

ConnectResult meet_as_executor(std::unique_ptr<Connection>& stream, const std::string& host_file,
                               Deadline deadline) {
  Meeting meeting;
  meeting.host = host_identity(host_file);
  meeting.direct = takes_descriptors(*stream) ? 1 : 0;
  Descriptor listener;
  const auto prepare = [&]() -> std::expected<void, std::string> {
    if (meeting.host[0] == '\0')
      return std::unexpected("the executor does not know its host: /proc is not there");
    if (!randomize(meeting.name) || !randomize(meeting.nonce))
      return std::unexpected(with_errno("random numbers"));
    if (meeting.direct != 0) return {};
    auto listening = listen_at(meeting.name);
    if (!listening) return std::unexpected(listening.error());
    listener = std::move(*listening);
    return {};
  };
  if (const auto prepared = prepare(); prepared) {
    meeting.viable = 1;
  } else {
    write(meeting.reason, prepared.error());
  }
  if (const auto error = send_whole(*stream, bytes_of(meeting), deadline)) return broken(error);
  if (meeting.viable == 0) return not_viable(text_of(meeting.reason));
  Verdict theirs;
  if (const auto error = receive_whole(*stream, writable(theirs), deadline)) return broken(error);
  if (theirs.magic != kMagic) return broken({TransportErrc::kReset, EPROTO});
  if (theirs.viable == 0) return not_viable(text_of(theirs.reason));

  std::expected<Arrived, std::string> arrived;
  if (meeting.direct != 0) {
    Offer offer;
    Descriptor fd;
    if (const auto error = receive_offer(tcp::native_descriptor(*stream), deadline, offer, fd))
      return broken(error);
    auto shared = map_offered(offer, fd);
    if (shared)
      arrived = Arrived{{}, std::move(*shared)};
    else
      arrived = std::unexpected(shared.error());
  } else {
    arrived = accept_client(listener.get(), meeting.nonce);
  }
  Verdict mine;
  mine.viable = arrived ? 1 : 0;
  if (!arrived) write(mine.reason, arrived.error());
  if (const auto error = send_whole(*stream, bytes_of(mine), deadline)) return broken(error);
  if (!arrived) return not_viable(arrived.error());
  return finish(stream, End::kExecutor, std::move(arrived->shared), std::move(arrived->socket));
}

ConnectResult offer(std::unique_ptr<Connection> stream) {
  auto made = make_shared_memory();
  if (!made) return {nullptr, {TransportErrc::kResources, errno}, made.error()};
  if (!send_with_descriptor(tcp::native_descriptor(*stream), bytes_of(Offer{}), made->fd.get()))
    return {nullptr, {TransportErrc::kReset, errno}, with_errno("offering shared memory")};
  return finish(stream, End::kClient, std::move(made->shared), {});
}

ConnectResult take_offer(std::unique_ptr<Connection> stream, Deadline deadline) {
  Offer offered;
  Descriptor fd;
  const auto until = std::min(deadline, std::chrono::steady_clock::now() + kOfferDeadline);
  if (const auto error = receive_offer(tcp::native_descriptor(*stream), until, offered, fd))
    return broken(error);
  auto shared = map_offered(offered, fd);
  if (!shared) return {nullptr, {TransportErrc::kReset, EPROTO}, shared.error()};
  return finish(stream, End::kExecutor, std::move(*shared), {});
}

}  // namespace avec::shm
