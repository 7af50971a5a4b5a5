#include "transport/unix/context.h"

#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

namespace avec::unix_domain {
namespace {

// connect() says EAGAIN while the listener's queue is full, and nothing tells when it has room.
constexpr auto kConnectAgain = std::chrono::milliseconds(2);

Failure failed(int os_error, std::string what) {
  TransportError error = tcp::setup_error(os_error);
  std::string_view advice;
  if (os_error == ENOENT || os_error == ECONNREFUSED) {
    error.code = TransportErrc::kRefused;
    advice = "; is the executor running, and does it listen there?";
  } else if (os_error == EACCES || os_error == EPERM) {
    error.code = TransportErrc::kUnreachable;
    advice = "; are the folder and the socket's group open to this user?";
  } else if (os_error == EADDRINUSE) {
    advice = "; another program listens there, or the file is not a socket: choose another path";
  }
  what += std::string(": ") + std::strerror(os_error);
  return {error, what += advice};
}

Descriptor open_socket() {
  return out_of_the_way(Descriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)));
}

int connect_once(int fd, const SocketAddress& address) {
  return ::connect(fd, address.get(), address.bytes) == 0 ? 0 : errno;
}

// A socket's file whose listener has gone: nobody answers there, ever again.
bool is_left_behind(const std::string& path, const SocketAddress& address) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0 || !S_ISSOCK(status.st_mode)) return false;
  const auto probe = open_socket();
  return probe && connect_once(probe.get(), address) == ECONNREFUSED;
}

}  // namespace

std::expected<std::string, Failure> parse_url(std::string_view url) {
  constexpr std::string_view kPrefix = "unix://";
  const auto bad = [&](std::string_view reason) {
    return std::unexpected(Failure{{TransportErrc::kBadAddress, 0},
                                   "the address " + std::string(url) + " " + std::string(reason) +
                                       "; write unix:///PATH, as in unix:///run/avec/avec.sock"});
  };
  if (!url.starts_with(kPrefix)) return bad("does not begin with unix://");
  const auto path = url.substr(kPrefix.size());
  if (!path.starts_with('/')) return bad("has no absolute path");
  if (path.ends_with('/')) return bad("names a folder");
  if (path.size() >= sizeof(sockaddr_un::sun_path))
    return bad("is longer than the 107 bytes of a socket's path");
  if (path.find('\0') != std::string_view::npos || path.find(',') != std::string_view::npos)
    return bad("has a path with a character that it must not have");
  return std::string(path);
}

SocketAddress to_address(const std::string& path) {
  SocketAddress address;
  auto& named = reinterpret_cast<sockaddr_un&>(address.storage);
  named.sun_family = AF_UNIX;
  std::memcpy(named.sun_path, path.c_str(), path.size() + 1);
  address.bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  return address;
}

std::expected<Descriptor, Failure> connect_socket(const std::string& path, Deadline deadline) {
  const auto what = "connecting to unix://" + path;
  const auto address = to_address(path);
  auto fd = open_socket();
  if (!fd) return std::unexpected(failed(errno, what));
  while (true) {
    if (std::chrono::steady_clock::now() >= deadline)
      return std::unexpected(Failure{{TransportErrc::kTimeout, 0}, what + ": the executor does not accept"});
    const int error = connect_once(fd.get(), address);
    if (error == 0) return fd;
    if (error == EAGAIN) {
      std::this_thread::sleep_for(kConnectAgain);
    } else if (error != EINTR) {
      return std::unexpected(failed(error, what));
    }
  }
}

std::expected<Descriptor, Failure> listen_socket(const std::string& path) {
  const auto what = "listening on unix://" + path;
  const auto address = to_address(path);
  auto fd = open_socket();
  if (!fd) return std::unexpected(failed(errno, what));
  // The file appears with the socket's own mode; it is opened to the group when all is ready.
  ::fchmod(fd.get(), 0600);
  int status = ::bind(fd.get(), address.get(), address.bytes);
  if (status != 0 && errno == EADDRINUSE && is_left_behind(path, address)) {
    ::unlink(path.c_str());
    status = ::bind(fd.get(), address.get(), address.bytes);
  }
  if (status != 0) return std::unexpected(failed(errno, what));
  if (::listen(fd.get(), tcp::kBacklog) != 0 || ::chmod(path.c_str(), kSocketMode) != 0) {
    const int error = errno;
    ::unlink(path.c_str());
    return std::unexpected(failed(error, what));
  }
  return fd;
}

}  // namespace avec::unix_domain
