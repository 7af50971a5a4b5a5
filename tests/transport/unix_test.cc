#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "transport/scratch.h"
#include "transport/tcp/factory.h"
#include "transport/unix/factory.h"

namespace avec::contract {

/// The transport, and who connected last: what reset() needs.
class WatchedTransport final : public Transport {
 public:
  std::string_view scheme() const noexcept override { return unix_.scheme(); }
  TransportError viable(std::string& detail) const override { return unix_.viable(detail); }
  ConnectResult connect(std::string_view url, Deadline deadline) noexcept override {
    auto result = unix_.connect(url, deadline);
    if (result.connection) client = result.connection.get();
    return result;
  }
  ListenResult listen(std::string_view url) noexcept override { return unix_.listen(url); }

  Connection* client = nullptr;

 private:
  Transport& unix_ = *find_transport("unix://");
};

struct UnixBackend {
  avec::Transport& transport() { return watched; }
  std::string listen_url() { return "unix://" + fresh_path(); }
  std::string absent_url() { return "unix://" + scratch() + "/absent.sock"; }
  std::vector<std::string> bad_urls() {
    return {"unix://",
            "unix://relative/path",
            "unix:///",
            "unix:///folder/",
            "unix:///" + std::string(107, 'x'),
            "unix:///a,unix:///b",
            std::string("unix:///a\0b", 11),
            "tcp://127.0.0.1:7700",
            "/run/avec.sock",
            ""};
  }
  std::string peer_prefix() { return "unix://"; }
  // A socket of the Unix domain breaks when it is closed with bytes unread.
  void reset(avec::Connection& connection) {
    ::send(avec::tcp::native_descriptor(*watched.client), "!", 1, MSG_NOSIGNAL);
    const int closed = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ::dup2(closed, avec::tcp::native_descriptor(connection));
    ::close(closed);
  }

  WatchedTransport watched;
};

}  // namespace avec::contract

#define AVEC_TRANSPORT_BACKEND UnixBackend
#include "transport/contract.h"

namespace avec::contract {
namespace {

mode_t mode_of(const std::string& path) {
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  return status.st_mode & 07777;
}

TEST_CASE("the socket's file is open to user and group, and gone with the listener") {
  const auto path = fresh_path();
  const auto before = ::umask(077);
  auto listening = find_transport("unix://")->listen("unix://" + path);
  ::umask(before);
  REQUIRE(listening.listener);
  CHECK(mode_of(path) == 0660);
  listening.listener.reset();
  CHECK(::access(path.c_str(), F_OK) != 0);
}

TEST_CASE("the file of a listener that died is replaced, that of one that lives is not") {
  const auto path = fresh_path();
  const auto url = "unix://" + path;
  const auto child = ::fork();
  if (child == 0) {
    auto listening = find_transport("unix://")->listen(url);
    ::_exit(listening.listener ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(status == 0);
  REQUIRE(::access(path.c_str(), F_OK) == 0);
  const auto listening = find_transport("unix://")->listen(url);
  REQUIRE(listening.listener);
  const auto second = find_transport("unix://")->listen(url);
  CHECK_FALSE(second.listener);
  CHECK(second.detail.find("choose another path") != std::string::npos);
  CHECK(find_transport("unix://")->connect(url, soon()).connection);
}

TEST_CASE("a file that is no socket stays where it is") {
  const auto path = fresh_path();
  const int fd = ::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  REQUIRE(::write(fd, "text", 4) == 4);
  ::close(fd);
  CHECK_FALSE(find_transport("unix://")->listen("unix://" + path).listener);
  CHECK(std::filesystem::file_size(path) == 4);
}

TEST_CASE("a child of fork does not take the socket's file away") {
  const auto path = fresh_path();
  auto listening = find_transport("unix://")->listen("unix://" + path);
  REQUIRE(listening.listener);
  const auto child = ::fork();
  if (child == 0) {
    listening.listener.reset();
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(::access(path.c_str(), F_OK) == 0);
}

TEST_CASE("a listener that accepts nobody is given up at the deadline") {
  const auto path = fresh_path();
  const auto listening = find_transport("unix://")->listen("unix://" + path);
  REQUIRE(listening.listener);
  std::vector<std::unique_ptr<Connection>> waiting;
  ConnectResult last;
  for (int i = 0; i < 5000; ++i) {
    last = find_transport("unix://")->connect("unix://" + path, in(50ms));
    if (!last.connection) break;
    waiting.push_back(std::move(last.connection));
    if (waiting.size() > 900) break;  // a process's descriptors come to an end first
  }
  CHECK((last.error.code == TransportErrc::kTimeout || waiting.size() > 900));
}

}  // namespace
}  // namespace avec::contract
