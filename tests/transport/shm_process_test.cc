// Shared memory between processes: how they end, what a child of fork may do, and who cannot
// reach whom.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>
#include <thread>

#include "support/catch.h"
#include "transport/scratch.h"
#include "transport/shm/factory.h"

namespace avec::contract {
namespace {

using namespace std::chrono_literals;

Deadline in(std::chrono::milliseconds time) { return std::chrono::steady_clock::now() + time; }
Deadline soon() { return in(20s); }

IoResult send_text(Connection& connection, std::string_view text) {
  const ConstBytes bytes = std::as_bytes(std::span(text));
  return connection.send({&bytes, 1});
}

/// What comes until `bytes` are there, or an error.
std::string receive_text(Connection& connection, std::size_t bytes, TransportError* error = nullptr) {
  std::string text(bytes, '\0');
  std::size_t got = 0;
  while (got < bytes) {
    const MutableBytes rest = std::as_writable_bytes(std::span(text)).subspan(got);
    const auto result = connection.receive({&rest, 1});
    got += result.bytes;
    if (result.error) {
      if (error != nullptr) *error = result.error;
      break;
    }
    if (result.bytes == 0 && connection.wait(false, soon())) break;
  }
  text.resize(got);
  return text;
}

TransportErrc end_of(Connection& connection) {
  TransportError error;
  receive_text(connection, 1u << 20, &error);
  return error.code;
}

/// A server here, and a client that is another process.
struct TwoProcesses {
  template <class Client>
  explicit TwoProcesses(Client&& client) {
    const auto url = "shm://" + fresh_path();
    auto listening = find_transport(url)->listen(url);
    REQUIRE(listening.listener);
    child = ::fork();
    if (child == 0) {
      auto connected = find_transport(url)->connect(url, soon());
      ::_exit(connected.connection ? client(*connected.connection) : 99);
    }
    auto accepted = listening.listener->accept(soon());
    REQUIRE(accepted.connection);
    server = std::move(accepted.connection);
  }
  ~TwoProcesses() {
    if (child > 0) {
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
    }
  }
  /// The client's exit status.
  int wait() {
    int status = 0;
    REQUIRE(::waitpid(std::exchange(child, -1), &status, 0) > 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  pid_t child = -1;
  std::unique_ptr<Connection> server;
};

TEST_CASE("two processes talk, and the last words of one that has ended still arrive") {
  TwoProcesses two([](Connection& connection) {
    const auto question = receive_text(connection, 5);
    send_text(connection, question + " yourself");
    connection.close();
    return 0;
  });
  send_text(*two.server, "hello");
  CHECK(two.wait() == 0);
  CHECK(receive_text(*two.server, 14) == "hello yourself");
  CHECK(end_of(*two.server) == TransportErrc::kClosed);
}

TEST_CASE("a process that is killed resets the connection at once, what it sent first") {
  TwoProcesses two([](Connection& connection) {
    send_text(connection, "about to");
    while (true) ::pause();
    return 0;
  });
  CHECK(receive_text(*two.server, 8) == "about to");
  ::kill(two.child, SIGKILL);
  CHECK_FALSE(two.server->wait(false, soon()));
  CHECK(end_of(*two.server) == TransportErrc::kReset);
  CHECK(send_text(*two.server, "x").error.code == TransportErrc::kReset);
}

TEST_CASE("a thread that spins notices the death of its peer") {
  TwoProcesses two([](Connection& connection) {
    receive_text(connection, 1);
    return 0;  // without a close
  });
  send_text(*two.server, "x");
  std::byte byte{};
  const MutableBytes into(&byte, 1);
  const auto until = soon();
  TransportError error;
  while (!error && std::chrono::steady_clock::now() < until) error = two.server->receive({&into, 1}).error;
  CHECK(error.code == TransportErrc::kReset);
}

TEST_CASE("a process that ends while its peer sleeps for room wakes it") {
  TwoProcesses two([](Connection& connection) {
    receive_text(connection, 1);
    ::usleep(50'000);
    return 0;
  });
  const std::string many(64 << 10, 'm');
  while (send_text(*two.server, many).bytes != 0) {
  }
  CHECK_FALSE(two.server->wait(true, soon()));
  while (!send_text(*two.server, many).error) REQUIRE_FALSE(two.server->wait(true, soon()));
  CHECK(end_of(*two.server) == TransportErrc::kReset);
}

TEST_CASE("memory is seen both ways between processes, and its end as well") {
  constexpr std::size_t kBytes = 1 << 20;
  TwoProcesses two([](Connection& connection) {
    OneSided& access = *connection.one_sided();
    const auto allocated = access.allocate(kBytes, nullptr);
    RemoteKey key;
    if (allocated.error || access.allow(allocated.memory, RemoteAccess::kWrite, key)) return 1;
    std::memset(allocated.memory.data(), 1, kBytes);
    send_text(connection, {reinterpret_cast<const char*>(&key), sizeof key});
    if (receive_text(connection, 1) != "w") return 2;
    for (const std::byte byte : allocated.memory)
      if (byte != std::byte{2}) return 3;
    access.free(allocated.memory, false);
    send_text(connection, "f");
    receive_text(connection, 1);
    connection.close();
    return 0;
  });
  const auto text = receive_text(*two.server, sizeof(RemoteKey));
  RemoteKey key;
  REQUIRE(text.size() == sizeof key);
  std::memcpy(&key, text.data(), sizeof key);
  const auto mapped = two.server->one_sided()->mapped(key).bytes;
  REQUIRE(mapped.size() == kBytes);
  CHECK(std::ranges::all_of(mapped, [](std::byte byte) { return byte == std::byte{1}; }));
  std::memset(mapped.data(), 2, kBytes);
  send_text(*two.server, "w");
  CHECK(receive_text(*two.server, 1) == "f");
  CHECK(two.server->one_sided()->mapped(key).bytes.empty());
  send_text(*two.server, "b");
  CHECK(two.wait() == 0);
}

TEST_CASE("a child of fork disturbs nothing: not by ending, not by closing") {
  TwoProcesses two([](Connection& connection) {
    const auto memory = connection.one_sided()->allocate(1 << 16, nullptr).memory;
    std::memset(memory.data(), 5, memory.size());
    for (const bool destroys : {false, true}) {
      const auto child = ::fork();
      if (child == 0) {
        // The program's own memory is still there to be read.
        if (memory[100] != std::byte{5}) ::_exit(1);
        if (destroys) connection.close();
        ::_exit(0);
      }
      int status = 0;
      ::waitpid(child, &status, 0);
      if (status != 0) return 1;
    }
    send_text(connection, "still here");
    receive_text(connection, 1);
    connection.close();
    return 0;
  });
  CHECK(receive_text(*two.server, 10) == "still here");
  send_text(*two.server, "b");
  CHECK(end_of(*two.server) == TransportErrc::kClosed);
  CHECK(two.wait() == 0);
}

/// Descriptors that a program would get that is started now.
std::set<int> inheritable() {
  std::set<int> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    const int fd = std::stoi(entry.path().filename());
    const int flags = ::fcntl(fd, F_GETFD);
    if (flags >= 0 && (flags & FD_CLOEXEC) == 0) found.insert(fd);
  }
  return found;
}

TEST_CASE("descriptors of a connection do not reach programs that are started") {
  const auto before = inheritable();
  const auto url = "shm://" + fresh_path();
  auto listening = find_transport(url)->listen(url);
  const auto client = find_transport(url)->connect(url, soon());
  const auto server = listening.listener->accept(soon());
  REQUIRE(server.connection);
  REQUIRE_FALSE(client.connection->one_sided()->allocate(1 << 16, nullptr).error);
  CHECK(inheritable() == before);
}

// ---- who cannot share ------------------------------------------------------------------

struct Stream {
  explicit Stream(const std::string& url) {
    auto listening = find_transport(url)->listen(url);
    REQUIRE(listening.listener);
    client = find_transport(url)->connect(listening.listener->address(), soon()).connection;
    server = listening.listener->accept(soon()).connection;
    REQUIRE(client);
    REQUIRE(server);
  }
  /// Upgrades both ends; the client's after `before`, on a thread of its own.
  template <class Before>
  void upgrade(Before&& before) {
    auto& transport = *find_transport("shm://");
    std::thread thread([&] {
      if (before())
        at_client = transport.upgrade(client, End::kClient, soon());
      else
        client->close();
    });
    at_server = transport.upgrade(server, End::kExecutor, soon());
    thread.join();
  }
  std::unique_ptr<Connection> client, server;
  ConnectResult at_client, at_server;
};

TEST_CASE("another network namespace: not over TCP, and the stream stays; but over a shared socket") {
  std::atomic<int> refused{0};
  const auto leave_network = [&] {
    if (::unshare(CLONE_NEWNET) == 0) return true;
    refused = errno;
    return false;
  };
  Stream tcp("tcp://127.0.0.1:0");
  tcp.upgrade(leave_network);
  if (refused != 0) {
    WARN("skipped: no network namespace may be made here: " << std::strerror(refused));
    return;
  }
  for (const auto* end : {&tcp.at_client, &tcp.at_server}) {
    CHECK_FALSE(end->connection);
    CHECK(end->error.code == TransportErrc::kNotViable);
    CHECK(end->detail.find("network namespaces") != std::string::npos);
  }
  REQUIRE(tcp.client);
  REQUIRE(tcp.server);
  send_text(*tcp.client, "go on");
  CHECK(receive_text(*tcp.server, 5) == "go on");

  Stream path("unix://" + fresh_path());
  path.upgrade(leave_network);
  INFO(path.at_client.detail);
  REQUIRE(path.at_client.connection);
  REQUIRE(path.at_server.connection);
  CHECK(path.at_client.connection->peer().starts_with("shm:///"));
  send_text(*path.at_client.connection, "shared");
  CHECK(receive_text(*path.at_server.connection, 6) == "shared");
}

TEST_CASE("a connection is called after the stream that it began as") {
  Stream tcp("tcp://127.0.0.1:0");
  const auto stream = tcp.client->peer();
  tcp.upgrade([] { return true; });
  REQUIRE(tcp.at_client.connection);
  CHECK(tcp.at_client.connection->peer() == "shm" + stream.substr(3));
  CHECK(tcp.at_client.connection->same_host());
}

TEST_CASE("URLs begin where their stream is") {
  const auto& transport = *find_transport("shm://");
  CHECK(transport.begins_at("shm://127.0.0.1:7700") == "tcp://127.0.0.1:7700");
  CHECK(transport.begins_at("shm:///run/avec/avec.sock") == "unix:///run/avec/avec.sock");
  CHECK(transport.begins_at("tcp://127.0.0.1:7700").empty());
}

}  // namespace
}  // namespace avec::contract
