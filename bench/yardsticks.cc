// What the network of this machine gives a program that does nothing else: the floor of every
// figure. Two processes, one TCP connection over loopback.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <functional>

#include "base/handle.h"
#include "harness.h"

namespace avec::bench {
namespace {

constexpr int kGiveUpMs = 60'000;

void receive_exactly(int fd, std::byte* into, std::size_t bytes, WaitMode mode) {
  std::uint64_t spin_until = 0;
  while (bytes > 0) {
    const int flags = mode == WaitMode::kBlock ? 0 : MSG_DONTWAIT;
    const auto got = ::recv(fd, into, bytes, flags);
    if (got > 0) {
      into += got;
      bytes -= static_cast<std::size_t>(got);
      spin_until = 0;
      continue;
    }
    if (got == 0) fail("the peer of the yardstick is gone");
    if (errno != EAGAIN && errno != EINTR) fail(std::strerror(errno));
    if (mode != WaitMode::kAdaptive) continue;
    const auto now = now_ns();
    if (spin_until == 0) spin_until = now + std::chrono::nanoseconds(kSpin).count();
    if (now < spin_until) continue;
    pollfd entry{fd, POLLIN, 0};
    ::poll(&entry, 1, kGiveUpMs);
  }
}

void send_exactly(int fd, const std::byte* from, std::size_t bytes) {
  while (bytes > 0) {
    const auto sent = ::send(fd, from, bytes, MSG_NOSIGNAL);
    if (sent < 0 && errno != EINTR) fail(std::strerror(errno));
    if (sent <= 0) continue;
    from += sent;
    bytes -= static_cast<std::size_t>(sent);
  }
}

void no_delay(int fd) {
  const int one = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

// Runs `here` with a connection to a child process that runs `there`.
void with_peer(const std::function<void(int)>& there, const std::function<void(int)>& here) {
  Descriptor listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t bytes = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener.get(), generic, bytes) != 0 || ::listen(listener.get(), 1) != 0 ||
      ::getsockname(listener.get(), generic, &bytes) != 0) {
    fail("no loopback socket");
  }
  const pid_t child = ::fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    Descriptor peer(::accept(listener.get(), nullptr, nullptr));
    no_delay(peer.get());
    there(peer.get());
    ::_exit(0);
  }
  Descriptor connection(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(connection.get(), generic, bytes) != 0) fail("connecting over loopback");
  no_delay(connection.get());
  here(connection.get());
  connection.reset();
  int status = 0;
  ::waitpid(child, &status, 0);
  if (status != 0) fail("the yardstick's peer failed");
}

}  // namespace

void measure_raw_ping(const Options& options) {
  constexpr std::size_t kBytes = 64;
  const auto n = options.samples(20'000), warm = n / 10 + 1;
  const auto mode = options.wait_mode();
  std::vector<double> times;
  bool verified = true;
  with_peer(
      [&](int fd) {
        std::byte message[kBytes];
        for (std::uint64_t i = 0; i < n + warm; ++i) {
          receive_exactly(fd, message, kBytes, mode);
          send_exactly(fd, message, kBytes);
        }
      },
      [&](int fd) {
        std::byte message[kBytes]{};
        for (std::uint64_t i = 0; i < n + warm; ++i) {
          std::memcpy(message, &i, sizeof i);
          const auto start = now_ns();
          send_exactly(fd, message, kBytes);
          receive_exactly(fd, message, kBytes, mode);
          const auto end = now_ns();
          if (i >= warm) times.push_back(static_cast<double>(end - start) / 1e3);
          verified = verified && std::memcmp(message, &i, sizeof i) == 0;
        }
      });
  auto row = summarise("raw.ping", "us", std::move(times));
  row.verified = verified;
  emit(options, row);
}

// One way, from ordinary memory to ordinary memory, until the receiver has all and says so.
void measure_raw_stream(const Options& options) {
  constexpr std::size_t kBytes = 256u << 20;
  const auto n = options.samples(7);
  std::vector<double> times;
  bool verified = true;
  with_peer(
      [&](int fd) {
        std::vector<std::byte> into(kBytes, std::byte{1});
        for (std::uint64_t i = 0; i <= n; ++i) {
          receive_exactly(fd, into.data(), kBytes, WaitMode::kBlock);
          send_exactly(fd, &into[kBytes - 1], 1);
        }
      },
      [&](int fd) {
        std::vector<std::byte> from(kBytes, std::byte{2});
        for (std::uint64_t i = 0; i <= n; ++i) {
          from.back() = static_cast<std::byte>(i);
          std::byte last{};
          const auto start = now_ns();
          send_exactly(fd, from.data(), kBytes);
          receive_exactly(fd, &last, 1, WaitMode::kBlock);
          const auto end = now_ns();
          if (i > 0) times.push_back(static_cast<double>(end - start) / 1e3);
          verified = verified && last == from.back();
        }
      });
  auto row = summarise("raw.stream", "us", std::move(times));
  row.bytes = kBytes;
  row.verified = verified;
  emit(options, row);
}

}  // namespace avec::bench
