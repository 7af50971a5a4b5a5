// A transport of one's own: "counting://HOST:PORT" carries the bytes over a plain socket and
// counts them.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <avec/avec.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

namespace {

std::atomic<std::size_t> bytes_sent{0}, bytes_received{0};

avec::TransportError error_of(int error) {
  using enum avec::TransportErrc;
  if (error == ECONNREFUSED) return {kRefused, error};
  if (error == ETIMEDOUT) return {kTimeout, error};
  return {kReset, error};
}

class CountingConnection final : public avec::Connection {
 public:
  CountingConnection(int socket, std::string peer)
      : socket_(socket), waker_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)), peer_(std::move(peer)) {}
  ~CountingConnection() override {
    close();
    ::close(waker_);
  }

  avec::IoResult send(std::span<const avec::ConstBytes> buffers) noexcept override {
    iovec vectors[16];
    const int count = fill(vectors, buffers);
    msghdr message{};
    message.msg_iov = vectors;
    message.msg_iovlen = static_cast<std::size_t>(count);
    const ssize_t sent = ::sendmsg(socket_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR ? avec::IoResult{} : avec::IoResult{0, error_of(errno)};
    bytes_sent += static_cast<std::size_t>(sent);
    return {static_cast<std::size_t>(sent), {}};
  }

  avec::IoResult receive(std::span<const avec::MutableBytes> buffers) noexcept override {
    iovec vectors[16];
    const int count = fill(vectors, buffers);
    msghdr message{};
    message.msg_iov = vectors;
    message.msg_iovlen = static_cast<std::size_t>(count);
    const ssize_t received = ::recvmsg(socket_, &message, MSG_DONTWAIT);
    if (received == 0) return {0, {avec::TransportErrc::kClosed, 0}};
    if (received < 0) return errno == EAGAIN || errno == EINTR ? avec::IoResult{} : avec::IoResult{0, error_of(errno)};
    bytes_received += static_cast<std::size_t>(received);
    return {static_cast<std::size_t>(received), {}};
  }

  avec::TransportError wait(bool want_send, avec::Deadline deadline) noexcept override {
    pollfd polled[2] = {{socket_, static_cast<short>(POLLIN | (want_send ? POLLOUT : 0)), 0}, {waker_, POLLIN, 0}};
    for (;;) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
      const int ready = ::poll(polled, 2, static_cast<int>(std::clamp<long long>(left, 0, 60'000)));
      if (ready < 0 && errno == EINTR) continue;
      if (polled[1].revents != 0) {
        std::uint64_t count;
        [[maybe_unused]] const ssize_t taken = ::read(waker_, &count, sizeof count);
        return {};
      }
      if (ready != 0) return {};
      if (left <= 0) return {avec::TransportErrc::kTimeout, 0};
    }
  }

  void wake() noexcept override {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(waker_, &one, sizeof one);
  }

  void close() noexcept override {
    if (socket_ >= 0) ::close(std::exchange(socket_, -1));
  }
  int poll_descriptor() const noexcept override { return socket_; }
  std::string peer() const override { return peer_; }

 private:
  template <class Buffers>
  static int fill(iovec (&vectors)[16], const Buffers& buffers) {
    int count = 0;
    for (const auto& buffer : buffers) {
      if (count == 16) break;
      vectors[count++] = {const_cast<void*>(static_cast<const void*>(buffer.data())), buffer.size()};
    }
    return count;
  }

  int socket_, waker_;
  std::string peer_;
};

class CountingTransport final : public avec::Transport {
 public:
  std::string_view scheme() const noexcept override { return "counting"; }
  avec::TransportError viable(std::string&) const override { return {}; }
  avec::ConnectResult connect(std::string_view url, avec::Deadline) noexcept override {
    const std::string rest(url.substr(url.find("://") + 3));
    const auto colon = rest.rfind(':');
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(rest.c_str() + colon + 1)));
    if (colon == std::string::npos || ::inet_pton(AF_INET, rest.substr(0, colon).c_str(), &address.sin_addr) != 1)
      return {nullptr, {avec::TransportErrc::kBadAddress, 0}, "write counting://1.2.3.4:PORT"};
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int yes = 1;
    ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (::connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      const int error = errno;
      ::close(socket);
      return {nullptr, error_of(error), std::strerror(error)};
    }
    return {std::make_unique<CountingConnection>(socket, std::string(url)), {}, ""};
  }
  avec::ListenResult listen(std::string_view) noexcept override {
    return {nullptr, {avec::TransportErrc::kNotViable, 0}, "counting is for clients"};
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: transport_app HOST:PORT\n");
    return 2;
  }
  try {
    if (!avec::register_transport(std::make_unique<CountingTransport>())) return 1;
    if (avec::register_transport(std::make_unique<CountingTransport>())) {
      std::printf("WRONG: one scheme was registered twice\n");
      return 1;
    }
    avec::Executor executor = avec::Executor::connect({.url = std::string("counting://") + argv[1]});
    std::vector<std::uint32_t> values(1 << 20), back(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::uint32_t>(i * 2654435761u);
    avec::Buffer buffer = executor.allocate(values.size() * 4);
    buffer.copy_from(std::as_bytes(std::span(values)));
    buffer.copy_to(std::as_writable_bytes(std::span(back)));
    executor.close();
    const bool counted = bytes_sent > values.size() * 4 && bytes_received > values.size() * 4;
    std::printf("%s\n", back == values && counted ? "4 MiB went there and back" : "WRONG");
    return back == values && counted ? 0 : 1;
  } catch (const avec::CudaError& error) {
    std::printf("WRONG: %s\n", error.what());
    return 1;
  }
}
