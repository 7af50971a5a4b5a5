#include "transport/tcp/listener.h"

#include <cerrno>
#include <cstring>

#include "transport/tcp/connection.h"

namespace avec::tcp {
namespace {

ConnectResult failed(TransportError error) {
  const std::string words =
      error.os_error ? std::strerror(error.os_error) : std::string(to_string(error.code));
  return {nullptr, error, "accepting a connection: " + words};
}

// Errors of one connection that died before it was accepted; the listener is well.
bool only_that_peer(int os_error) {
  switch (os_error) {
    case ECONNABORTED:
    case EINTR:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENETUNREACH:
      return true;
    default:
      return false;
  }
}

}  // namespace

ConnectResult TcpListener::accept(Deadline deadline) noexcept {
  try {
    while (true) {
      Descriptor peer(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (peer) {
        auto connection = TcpConnection::make(std::move(peer));
        if (connection) return {std::move(connection), {}, {}};
        if (!make_wake_descriptor()) return failed({TransportErrc::kResources, EMFILE});
        continue;  // it was gone again
      }
      if (only_that_peer(errno)) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) return failed(setup_error(errno));
      pollfd entries[2] = {{fd_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
      const int ready = poll_until(entries, 2, deadline);
      if (ready < 0) return failed(setup_error(errno));
      if (ready == 0) return failed({TransportErrc::kTimeout, 0});
      if (entries[1].revents) {
        consume_wake(wake_.get());
        return {};
      }
    }
  } catch (...) {
    return {nullptr, {TransportErrc::kResources, ENOMEM}, {}};
  }
}

}  // namespace avec::tcp
