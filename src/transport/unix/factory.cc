#include "transport/unix/factory.h"

#include <cerrno>

#include "transport/tcp/connection.h"
#include "transport/unix/context.h"
#include "transport/unix/listener.h"

namespace avec::unix_domain {
namespace {

class UnixTransport final : public Transport {
 public:
  std::string_view scheme() const noexcept override { return "unix"; }

  TransportError viable(std::string& detail) const override {
    detail.clear();
    return {};
  }

  ConnectResult connect(std::string_view url, Deadline deadline) noexcept override {
    try {
      const auto path = parse_url(url);
      if (!path) return {nullptr, path.error().error, path.error().detail};
      auto socket = connect_socket(*path, deadline);
      if (!socket) return {nullptr, socket.error().error, socket.error().detail};
      auto connection = tcp::TcpConnection::make(std::move(*socket));
      if (connection) return {std::move(connection), {}, {}};
      return {nullptr, {TransportErrc::kResources, errno}, "connecting to " + std::string(url)};
    } catch (...) {
      return {nullptr, {TransportErrc::kResources, ENOMEM}, {}};
    }
  }

  ListenResult listen(std::string_view url) noexcept override {
    try {
      auto path = parse_url(url);
      if (!path) return {nullptr, path.error().error, path.error().detail};
      auto wake = tcp::make_wake_descriptor();
      if (!wake) return {nullptr, {TransportErrc::kResources, errno}, "listening on " + std::string(url)};
      auto socket = listen_socket(*path);
      if (!socket) return {nullptr, socket.error().error, socket.error().detail};
      return {std::make_unique<UnixListener>(std::move(*socket), std::move(wake), std::move(*path)), {}, {}};
    } catch (...) {
      return {nullptr, {TransportErrc::kResources, ENOMEM}, {}};
    }
  }
};

}  // namespace

std::unique_ptr<Transport> make_transport() { return std::make_unique<UnixTransport>(); }

}  // namespace avec::unix_domain
