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

// A connection to a child process that runs `there` with its end.
Descriptor connect_to_child(const std::function<void(int)>& there, pid_t& child) {
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
  child = ::fork();
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
  return connection;
}

}  // namespace

void measure_raw_ping(const Options& options) {
  constexpr std::size_t kBytes = 64;
  const auto n = options.samples(20'000), warm = n / 10 + 1;
  const auto mode = options.wait_mode();
  std::vector<double> times;
  bool verified = true;
  pid_t child = -1;
  auto connection = connect_to_child(
      [&](int fd) {
        std::byte message[kBytes];
        for (std::uint64_t i = 0; i < n + warm; ++i) {
          receive_exactly(fd, message, kBytes, mode);
          send_exactly(fd, message, kBytes);
        }
      },
      child);
  std::byte message[kBytes]{};
  for (std::uint64_t i = 0; i < n + warm; ++i) {
    std::memcpy(message, &i, sizeof i);
    const auto start = now_ns();
    send_exactly(connection.get(), message, kBytes);
    receive_exactly(connection.get(), message, kBytes, mode);
    const auto end = now_ns();
    if (i >= warm) times.push_back(static_cast<double>(end - start) / 1e3);
    verified = verified && std::memcmp(message, &i, sizeof i) == 0;
  }
  ::waitpid(child, nullptr, 0);
  auto row = summarise("raw.ping", "us", std::move(times));
  row.verified = verified;
  emit(options, row);
}

RawStream::RawStream() {
  connection_ = connect_to_child(
      [](int fd) {
        std::vector<std::byte> into(kBytes, std::byte{1});
        while (true) {
          receive_exactly(fd, into.data(), kBytes, WaitMode::kBlock);
          send_exactly(fd, &into[kBytes - 1], 1);
        }
      },
      child_);
}

RawStream::~RawStream() {
  ::kill(child_, SIGKILL);
  ::waitpid(child_, nullptr, 0);
}

double RawStream::sample(std::vector<std::byte>& from) {
  if (from.size() < kBytes) fail("the yardstick's buffer is too small");
  std::byte last{};
  const auto start = now_ns();
  send_exactly(connection_.get(), from.data(), kBytes);
  receive_exactly(connection_.get(), &last, 1, WaitMode::kBlock);
  const auto end = now_ns();
  if (last != from[kBytes - 1]) fail("the yardstick's bytes arrived wrong");
  return static_cast<double>(end - start) / 1e3;
}

}  // namespace avec::bench
