#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "transport/tcp/factory.h"

namespace avec::contract {

struct TcpBackend {
  avec::Transport& transport() { return *find_transport("tcp://"); }
  std::string listen_url() { return "tcp://127.0.0.1:0"; }
  // Port 1 (tcpmux) has no server anywhere.
  std::string absent_url() { return "tcp://127.0.0.1:1"; }
  std::vector<std::string> bad_urls() {
    return {"tcp://",
            "tcp://127.0.0.1",
            "tcp://127.0.0.1:",
            "tcp://:7700",
            "tcp://127.0.0.1:x",
            "tcp://host:65536",
            "tcp://host:-1",
            "tcp://::1:7700",
            "tcp://[::1]",
            "tcp://[::1]7700",
            "tcp://[::1:7700",
            "tcp://[host]:7700",
            "tcp://a b:7700",
            "127.0.0.1:7700",
            "udp://127.0.0.1:7700",
            "",
            "tcp://h:99999999999",
            "tcp://h:7700/path/x",
            "tcp://u@host:7700",
            "tcp://host:0x10",
            "tcp://[]:1",
            "tcp://host:77 00",
            std::string("tcp://h\0st:1", 12)};
  }
  std::string peer_prefix() { return "tcp://127.0.0.1:"; }
  // Connecting to nothing breaks a TCP connection at once.
  void reset(avec::Connection& connection) {
    sockaddr none{};
    none.sa_family = AF_UNSPEC;
    ::connect(avec::tcp::native_descriptor(connection), &none, sizeof none);
  }
};

}  // namespace avec::contract

#define AVEC_TRANSPORT_BACKEND TcpBackend
#include "transport/contract.h"

namespace avec::contract {
namespace {

TEST_CASE("IPv6 addresses go in brackets, both ways") {
  TcpBackend backend;
  auto listening = backend.transport().listen("tcp://[::1]:0");
  if (listening.error.code == TransportErrc::kUnreachable ||
      listening.error.code == TransportErrc::kNotViable) {
    WARN("this machine has no IPv6 loopback address");
    return;
  }
  REQUIRE(listening.listener);
  CHECK(listening.listener->address().starts_with("tcp://[::1]:"));
  const auto client = connect(backend, listening.listener->address());
  const auto server = accept(*listening.listener);
  CHECK(client->peer() == listening.listener->address());
  CHECK(server->peer().starts_with("tcp://[::1]:"));
  CHECK(server->same_host());
}

TEST_CASE("a listener on every address takes IPv4 and shows IPv4 peers as such") {
  TcpBackend backend;
  auto listening = backend.transport().listen("tcp://[::]:0");
  if (!listening.listener) return;  // no IPv6
  const auto address = listening.listener->address();
  const auto client = connect(backend, "tcp://127.0.0.1" + address.substr(address.rfind(':')));
  const auto server = accept(*listening.listener);
  CHECK(server->peer().starts_with("tcp://127.0.0.1:"));
  CHECK(server->same_host());
}

TEST_CASE("names are resolved") {
  addrinfo* known = nullptr;
  if (::getaddrinfo("localhost", nullptr, nullptr, &known) != 0) {
    WARN("skipped: this machine does not know the name localhost");
    return;
  }
  ::freeaddrinfo(known);
  TcpBackend backend;
  auto listening = backend.transport().listen("tcp://localhost:0");
  REQUIRE(listening.listener);
  const auto address = listening.listener->address();
  CHECK(connect(backend, "tcp://localhost" + address.substr(address.rfind(':'))));
}

TEST_CASE(
    "a host that does not exist is kUnreachable, or kTimeout when nobody answers, within the deadline") {
  TcpBackend backend;
  const auto start = std::chrono::steady_clock::now();
  // .invalid never resolves (RFC 2606).
  const auto result = backend.transport().connect("tcp://no-such-host.invalid:7700", in(500ms));
  CHECK_FALSE(result.connection);
  CHECK((result.error.code == TransportErrc::kUnreachable || result.error.code == TransportErrc::kTimeout));
  CHECK(result.detail.find("no-such-host.invalid") != std::string::npos);
  CHECK(std::chrono::steady_clock::now() - start < 10s);
}

TEST_CASE("a deadline that has passed ends connect with kTimeout") {
  TcpBackend backend;
  const auto result = backend.transport().connect("tcp://no-such-host.invalid:7700", in(-1s));
  CHECK_FALSE(result.connection);
  CHECK(result.error.code == TransportErrc::kTimeout);
}

TEST_CASE("a port in use is named as such") {
  TcpBackend backend;
  const auto listener = listen(backend);
  const auto second = backend.transport().listen(listener->address());
  CHECK_FALSE(second.listener);
  CHECK(second.error.os_error == EADDRINUSE);
  CHECK(second.detail.find("choose another port") != std::string::npos);
}

TEST_CASE("refusal keeps the errno and says what to do") {
  TcpBackend backend;
  const auto result = backend.transport().connect(backend.absent_url(), soon());
  CHECK(result.error.os_error == ECONNREFUSED);
  CHECK(result.detail.find("tcp://127.0.0.1:1") != std::string::npos);
  CHECK(result.detail.find("is the executor running") != std::string::npos);
}

TEST_CASE("small messages leave at once and the peer's death is noticed") {
  TcpBackend backend;
  auto pair = connected(backend);
  for (const auto* connection : {pair.client.get(), pair.server.get()}) {
    const int fd = tcp::native_descriptor(*connection);
    int value = 0;
    socklen_t bytes = sizeof value;
    CHECK(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &bytes) == 0);
    CHECK(value != 0);
    CHECK(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &bytes) == 0);
    CHECK(value != 0);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
  }
}

TEST_CASE("the kernel knows a connection's round trip") {
  TcpBackend backend;
  auto pair = connected(backend);
  CHECK(tcp::round_trip(*pair.client) > 0us);
  CHECK(tcp::round_trip(*pair.client) < 20s);
  auto listening = find_transport("sim://")->listen("sim://round-trip");
  CHECK(tcp::round_trip(*find_transport("sim://")->connect("sim://round-trip", soon()).connection) == 0us);
}

TEST_CASE("an adopted socket keeps its unread bytes and its peer") {
  TcpBackend backend;
  auto pair = connected(backend);
  send_text(*pair.client, "before");
  REQUIRE_FALSE(pair.server->wait(false, soon()));
  const int copy = ::dup(tcp::native_descriptor(*pair.server));
  auto adopted = tcp::adopt(copy);
  REQUIRE(adopted);
  CHECK(receive_text(*adopted, 6) == "before");
  CHECK(adopted->peer() == pair.server->peer());
  CHECK(adopted->same_host());
  send_text(*adopted, "back");
  CHECK(receive_text(*pair.client, 4) == "back");
}

TEST_CASE("what is no connected stream socket is not adopted, and is closed") {
  CHECK_FALSE(tcp::adopt(-1));
  const auto before = open_descriptors();
  CHECK_FALSE(tcp::adopt(::socket(AF_INET, SOCK_STREAM, 0)));
  CHECK_FALSE(tcp::adopt(::socket(AF_INET, SOCK_DGRAM, 0)));
  CHECK_FALSE(tcp::adopt(::open("/dev/null", O_RDONLY)));
  CHECK(open_descriptors() == before);
}

TEST_CASE("a blocking descriptor that is adopted does not make receive block") {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  auto first = tcp::adopt(ends[0]), second = tcp::adopt(ends[1]);
  REQUIRE(first);
  REQUIRE(second);
  std::byte byte{};
  const MutableBytes into(&byte, 1);
  CHECK(first->receive({&into, 1}).bytes == 0);
  send_text(*second, "x");
  CHECK(receive_text(*first, 1) == "x");
  CHECK(first->same_host());
}

TEST_CASE("no SIGPIPE, whatever the process does with it") {
  const auto child = fork();
  if (child == 0) {
    ::signal(SIGPIPE, SIG_DFL);
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) ::_exit(2);
    auto connection = tcp::adopt(ends[0]);
    ::close(ends[1]);
    const auto result = send_text(*connection, "x");
    ::_exit(result.error.code == TransportErrc::kReset ? 0 : 3);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("accept says kResources when the process is out of descriptors, and recovers") {
  TcpBackend backend;
  const auto listener = listen(backend);
  auto client = connect(backend, listener->address());
  std::vector<int> taken;
  for (int fd; (fd = ::dup(0)) >= 0;) taken.push_back(fd);
  const auto result = listener->accept(soon());
  const auto refused = backend.transport().connect(listener->address(), soon());
  for (const int fd : taken) ::close(fd);
  CHECK(result.error.code == TransportErrc::kResources);
  CHECK(refused.error.code == TransportErrc::kResources);
  CHECK(accept(*listener));
}

}  // namespace
}  // namespace avec::contract
