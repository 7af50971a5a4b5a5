#include "transport/tcp/connection.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "transport/tcp/factory.h"

namespace avec::tcp {
namespace {

constexpr TransportError kClosedHere{TransportErrc::kClosed, 0};

// Fills `vectors` from the spans, leaving empty ones out; returns how many.
template <class Spans>
std::size_t gather(const Spans& buffers, std::array<iovec, kMaxBuffers>& vectors) {
  std::size_t count = 0;
  for (const auto& buffer : buffers) {
    if (buffer.empty()) continue;
    if (count == kMaxBuffers) break;
    vectors[count++] = {const_cast<std::byte*>(buffer.data()), buffer.size()};
  }
  return count;
}

bool would_block(int os_error) { return os_error == EAGAIN || os_error == EWOULDBLOCK; }

}  // namespace

TcpConnection::TcpConnection(Descriptor fd, Descriptor wake, std::string peer, bool same_host)
    : fd_(std::move(fd)), wake_(std::move(wake)), peer_(std::move(peer)), is_unix_(peer_.starts_with("unix://")), same_host_(same_host) {}

std::unique_ptr<TcpConnection> TcpConnection::make(Descriptor fd) {
  const auto peer = peer_address(fd.get());
  auto wake = make_wake_descriptor();
  if (peer.bytes == 0 || !wake) return nullptr;
  set_stream_options(fd.get());
  const bool same_host = same_machine(peer, own_address(fd.get()));
  return std::unique_ptr<TcpConnection>(
      new TcpConnection(std::move(fd), std::move(wake), to_url(peer), same_host));
}

TcpConnection::~TcpConnection() { close(); }

IoResult TcpConnection::send(std::span<const ConstBytes> buffers) noexcept {
  if (!fd_) return {0, kClosedHere};
  if (tls_) [[unlikely]] return told(tls_->send(buffers));
  std::array<iovec, kMaxBuffers> vectors;
  const auto count = gather(buffers, vectors);
  if (count == 0) return {};
  while (true) {
    ssize_t sent;
    if (count == 1) {
      sent = ::send(fd_.get(), vectors[0].iov_base, vectors[0].iov_len, MSG_DONTWAIT | MSG_NOSIGNAL);
    } else {
      msghdr message{};
      message.msg_iov = vectors.data();
      message.msg_iovlen = count;
      sent = ::sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    if (sent >= 0) return {static_cast<std::size_t>(sent), {}};
    if (would_block(errno)) return nothing();
    if (errno != EINTR) return failed(stream_error(errno));
  }
}

IoResult TcpConnection::receive(std::span<const MutableBytes> buffers) noexcept {
  if (!fd_) return {0, kClosedHere};
  if (tls_) [[unlikely]] return told(tls_->receive(buffers));
  std::array<iovec, kMaxBuffers> vectors;
  const auto count = gather(buffers, vectors);
  if (count == 0) return {};
  while (true) {
    ssize_t got;
    if (count == 1) {
      got = ::recv(fd_.get(), vectors[0].iov_base, vectors[0].iov_len, MSG_DONTWAIT);
    } else {
      msghdr message{};
      message.msg_iov = vectors.data();
      message.msg_iovlen = count;
      got = ::recvmsg(fd_.get(), &message, MSG_DONTWAIT);
    }
    if (got > 0) return {static_cast<std::size_t>(got), {}};
    if (got == 0) return {0, {TransportErrc::kClosed, 0}};
    if (would_block(errno)) return nothing();
    if (errno != EINTR) return failed(stream_error(errno));
  }
}

TransportError TcpConnection::secure(std::shared_ptr<const tls::Context> context, const std::string& name,
                                     Deadline deadline) {
  if (!fd_ || tls_ || stripes_) return {TransportErrc::kInternal, EINVAL};
  auto channel = tls::Channel::make(std::move(context), fd_.get(), name);
  if (!channel) return {TransportErrc::kResources, ENOMEM};
  tls_ = std::move(channel);
  return tls_->handshake(deadline);
}

IoResult TcpConnection::told(IoResult of_tls) noexcept {
  if (of_tls.error) return of_tls.error.code == TransportErrc::kClosed ? of_tls : failed(of_tls.error);
  return of_tls.bytes != 0 ? of_tls : nothing();
}

// The stripes end with the stream.
IoResult TcpConnection::failed(TransportError error) noexcept {
  if (stripes_) stripes_->fail({TransportErrc::kReset, error.os_error});
  return {0, error};
}

// Would block; or the stripes have broken, and the stream breaks with them.
IoResult TcpConnection::nothing() noexcept {
  if (!stripes_ || !stripes_->is_broken()) return {};
  sockaddr none{};
  none.sa_family = AF_UNSPEC;
  ::connect(fd_.get(), &none, sizeof none);  // resets it, so that the peer knows
  return {0, stripes_->broken()};
}

bool TcpConnection::use(std::shared_ptr<Stripes> stripes, End end) {
  if (!fd_ || stripes_ || tls_ || stripes->descriptor() < 0) return false;
  if (end == End::kExecutor) {  // the end that has completions
    Descriptor all(::epoll_create1(EPOLL_CLOEXEC));
    epoll_event event{};
    event.events = EPOLLIN;
    for (const int fd : {fd_.get(), stripes->descriptor()}) {
      if (!all || ::epoll_ctl(all.get(), EPOLL_CTL_ADD, fd, &event) != 0) return false;
    }
    all_ = std::move(all);
  }
  stripes_ = std::move(stripes);
  return true;
}

TransportError TcpConnection::wait(bool want_send, Deadline deadline) noexcept {
  if (!fd_) return kClosedHere;
  if (tls_ && tls_->has_received()) return {};
  const short wanted = want_send ? POLLIN | POLLOUT : POLLIN;
  pollfd entries[3] = {{fd_.get(), wanted, 0}, {wake_.get(), POLLIN, 0}, {-1, POLLIN, 0}};
  if (stripes_) entries[2].fd = stripes_->descriptor();
  const int ready = poll_until(entries, 3, deadline);
  if (ready < 0) return stream_error(errno);
  if (ready == 0) return {TransportErrc::kTimeout, 0};
  if (entries[1].revents) consume_wake(wake_.get());
  if (stripes_ && entries[0].revents & (POLLERR | POLLHUP)) failed({TransportErrc::kReset, 0});
  return {};  // what broke is told by send() and receive()
}

void TcpConnection::wake() noexcept { signal_wake(wake_.get()); }

void TcpConnection::close() noexcept {
  if (!fd_) return;
  // Closing a socket with unread bytes resets it, and a reset can overtake what was sent. So
  // say the end first, then read away what still comes until all of ours has been taken.
  const auto deadline = std::chrono::steady_clock::now() + kCloseLinger;
  if (tls_) tls_->finish(deadline);
  ::shutdown(fd_.get(), SHUT_WR);
  if (stripes_) stripes_->end();
  std::array<std::byte, 4096> ignored;
  while (true) {
    const auto got = ::recv(fd_.get(), ignored.data(), ignored.size(), MSG_DONTWAIT);
    if (got > 0) continue;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && !would_block(errno)) break;  // broken: nothing is left to save
    int queued = 0;
    if (is_unix_ || ::ioctl(fd_.get(), SIOCOUTQ, &queued) != 0 || queued == 0) break;
    if (std::chrono::steady_clock::now() >= deadline) break;
    // Nothing tells when the queue is empty, so look every millisecond.
    pollfd entry{fd_.get(), static_cast<short>(got == 0 ? 0 : POLLIN), 0};
    poll_until(&entry, 1, std::min(deadline, std::chrono::steady_clock::now() + 1ms));
    if ((entry.revents & POLLERR) != 0) break;  // reset after the peer's own end: nobody takes the rest
  }
  fd_.reset();
}

std::unique_ptr<Connection> adopt(int fd) noexcept {
  if (fd < 0) return nullptr;
  Descriptor owned(fd);
  int type = 0;
  socklen_t bytes = sizeof type;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) != 0 || type != SOCK_STREAM) return nullptr;
  try {
    return TcpConnection::make(std::move(owned));
  } catch (...) {
    return nullptr;
  }
}

int native_descriptor(const Connection& connection) noexcept {
  const auto* tcp = dynamic_cast<const TcpConnection*>(&connection);
  return tcp ? tcp->descriptor() : -1;
}

std::chrono::microseconds round_trip(const Connection& connection) noexcept {
  tcp_info info{};
  socklen_t bytes = sizeof info;
  const int fd = native_descriptor(connection);
  if (fd < 0 || ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0) return {};
  return std::chrono::microseconds(info.tcpi_rtt);
}

TransportError secure(Connection& connection, std::shared_ptr<const tls::Context> context, const std::string& name,
                      Deadline deadline) noexcept {
  auto* tcp = dynamic_cast<TcpConnection*>(&connection);
  if (tcp == nullptr) return {TransportErrc::kNotViable, 0};
  try {
    return tcp->secure(std::move(context), name, deadline);
  } catch (...) {
    return {TransportErrc::kResources, ENOMEM};
  }
}

bool is_encrypted(const Connection& connection) noexcept { return tls_of(connection) != nullptr; }

const tls::Channel* tls_of(const Connection& connection) noexcept {
  const auto* tcp = dynamic_cast<const TcpConnection*>(&connection);
  return tcp ? tcp->tls() : nullptr;
}

bool is_remote(const Connection& connection) noexcept {
  const int fd = native_descriptor(connection);
  if (fd < 0) return false;
  const auto peer = peer_address(fd);
  const int family = peer.storage.ss_family;
  return (family == AF_INET || family == AF_INET6) && !same_machine(peer, own_address(fd));
}

int release_descriptor(Connection& connection) noexcept {
  auto* tcp = dynamic_cast<TcpConnection*>(&connection);
  return tcp ? tcp->release_descriptor() : -1;
}

}  // namespace avec::tcp
