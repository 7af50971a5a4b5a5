#include "transport/tcp/factory.h"

#include <cerrno>

#include "transport/tcp/connection.h"
#include "transport/tcp/context.h"
#include "transport/tcp/listener.h"

namespace avec::tcp {
namespace {

// Binding waits for nobody but the resolver.
constexpr auto kListenDeadline = 5s;

class TcpTransport final : public Transport {
 public:
  std::string_view scheme() const noexcept override { return "tcp"; }

  TransportError viable(std::string& detail) const override {
    detail.clear();
    return {};
  }

  ConnectResult connect(std::string_view url, Deadline deadline) noexcept override {
    try {
      const auto target = parse_url(url, false);
      if (!target) return refused(target.error());
      const auto addresses = resolve(*target, deadline);
      if (!addresses) return refused(addresses.error());
      Failure last;
      for (std::size_t i = 0; i < addresses->size(); ++i) {
        // A silent address leaves the others their share of the time.
        const auto now = std::chrono::steady_clock::now();
        const auto left = static_cast<long>(addresses->size() - i);
        const auto share = i + 1 == addresses->size() || deadline == Deadline::max() || deadline <= now
                               ? deadline
                               : now + (deadline - now) / left;
        auto socket = connect_socket((*addresses)[i], share);
        if (!socket) {
          last = std::move(socket.error());
          continue;
        }
        auto connection = TcpConnection::make(std::move(*socket));
        if (connection) return {std::move(connection), {}, {}};
        last = {{TransportErrc::kReset, ECONNRESET},
                "connecting to " + std::string(url) + ": the peer closed at once"};
      }
      return refused(last);
    } catch (...) {
      return {nullptr, {TransportErrc::kResources, ENOMEM}, {}};
    }
  }

  ListenResult listen(std::string_view url) noexcept override {
    try {
      const auto target = parse_url(url, true);
      if (!target) return {nullptr, target.error().error, target.error().detail};
      const auto addresses = resolve(*target, std::chrono::steady_clock::now() + kListenDeadline);
      if (!addresses) return {nullptr, addresses.error().error, addresses.error().detail};
      Failure last;
      for (const auto& address : *addresses) {
        auto socket = listen_socket(address);
        if (!socket) {
          last = std::move(socket.error());
          continue;
        }
        auto wake = make_wake_descriptor();
        if (!wake) return {nullptr, {TransportErrc::kResources, errno}, "listening on " + std::string(url)};
        auto chosen = to_url(own_address(socket->get()));
        return {
            std::make_unique<TcpListener>(std::move(*socket), std::move(wake), std::move(chosen)), {}, {}};
      }
      return {nullptr, last.error, last.detail};
    } catch (...) {
      return {nullptr, {TransportErrc::kResources, ENOMEM}, {}};
    }
  }

 private:
  static ConnectResult refused(const Failure& failure) { return {nullptr, failure.error, failure.detail}; }
};

}  // namespace

std::unique_ptr<Transport> make_transport() { return std::make_unique<TcpTransport>(); }

}  // namespace avec::tcp
