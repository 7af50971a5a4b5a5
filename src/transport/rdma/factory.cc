#include "transport/rdma/factory.h"

#include <cerrno>
#include <mutex>
#include <optional>

#include "base/settings.h"
#include "transport/rdma/connection.h"
#include "transport/rdma/device.h"
#include "transport/rdma/listener.h"
#include "transport/rdma/opening.h"
#include "transport/tcp/factory.h"

namespace avec::rdma {
namespace {

class RdmaTransport final : public Transport {
 public:
  RdmaTransport(const Options& options, std::string scheme)
      : scheme_(std::move(scheme)),
        libraries_{options.verbs_library, options.cm_library},
        device_(options.device != nullptr ? std::optional<std::string>(options.device) : std::nullopt),
        tcp_(tcp::make_transport()) {}

  std::string_view scheme() const noexcept override { return scheme_; }

  TransportError viable(std::string& detail) const override {
    constexpr TransportError kNot{TransportErrc::kNotViable, 0};
    detail.clear();
    const auto& loaded = verbs();
    if (!loaded) return detail = loaded.error(), kNot;
    const auto wish = DeviceWish::parse(device());
    if (!wish) return detail = wish.error(), kNot;
    const auto probed = probe_devices(**loaded, *wish);
    if (!probed) return detail = probed.error().detail, kNot;
    return {};
  }

  std::string begins_at(std::string_view url) const override { return retold(url, scheme_, "tcp"); }

  ConnectResult connect(std::string_view url, Deadline deadline) noexcept override {
    try {
      if (const auto bad = wrong_scheme(url)) return {nullptr, bad->error, bad->detail};
      if (deadline <= std::chrono::steady_clock::now()) {
        return {
            nullptr, {TransportErrc::kTimeout, 0}, "connecting to " + std::string(url) + ": deadline passed"};
      }
      ConnectResult begun = tcp_->connect(begins_at(url), deadline);
      begun.detail = told(begun.detail);
      if (!begun.connection) return begun;
      return upgrade(begun.connection, End::kClient, deadline);
    } catch (...) {
      return {nullptr, {TransportErrc::kResources, ENOMEM}, {}};
    }
  }

  ListenResult listen(std::string_view url) noexcept override {
    try {
      if (const auto bad = wrong_scheme(url)) return {nullptr, bad->error, bad->detail};
      ListenResult begun = tcp_->listen(begins_at(url));
      if (!begun.listener) return {nullptr, begun.error, told(begun.detail)};
      std::string address = retold(begun.listener->address(), "tcp", scheme_);
      return RdmaListener::make(std::move(begun.listener), std::move(address), *this);
    } catch (...) {
      return {nullptr, {TransportErrc::kResources, ENOMEM}, {}};
    }
  }

  ConnectResult upgrade(std::unique_ptr<Connection>& stream, End, Deadline deadline) noexcept override {
    try {
      return open_over(stream, verbs(), device(), deadline);
    } catch (...) {
      return {nullptr, {TransportErrc::kResources, ENOMEM}, {}};
    }
  }

 private:
  using Loaded = std::expected<std::shared_ptr<const Verbs>, std::string>;

  /// Loaded at the first use, and once: a machine does not get the library while we run.
  const Loaded& verbs() const {
    std::call_once(load_once_, [this] { loaded_.emplace(Verbs::load(libraries_)); });
    return *loaded_;
  }

  std::string_view device() const { return device_ ? *device_ : client_settings().text("rdma-device"); }

  static std::string retold(std::string_view url, std::string_view from, std::string_view to) {
    if (!url.starts_with(from) || !url.substr(from.size()).starts_with("://")) return {};
    return std::string(to) + std::string(url.substr(from.size()));
  }

  /// A sentence of the stream's transport, with our scheme in it.
  std::string told(std::string detail) const {
    for (std::size_t at = 0; (at = detail.find("tcp://", at)) != std::string::npos; at += scheme_.size()) {
      detail.replace(at, 3, scheme_);
    }
    return detail;
  }

  std::optional<Failure> wrong_scheme(std::string_view url) const {
    if (!begins_at(url).empty()) return std::nullopt;
    return Failure{{TransportErrc::kBadAddress, 0},
                   "the address " + std::string(url) + " does not begin with " + scheme_ + "://; write " +
                       scheme_ + "://HOST:PORT"};
  }

  const std::string scheme_;
  const VerbsLibraries libraries_;
  const std::optional<std::string> device_;
  const std::unique_ptr<Transport> tcp_;
  mutable std::once_flag load_once_;
  mutable std::optional<Loaded> loaded_;
};

}  // namespace

std::unique_ptr<Transport> make_transport() { return make_transport(Options{}); }

std::unique_ptr<Transport> make_transport(const Options& options, std::string scheme) {
  return std::make_unique<RdmaTransport>(options, std::move(scheme));
}

const Connection* stream_of(const Connection& connection) noexcept {
  const auto* rdma = dynamic_cast<const RdmaConnection*>(&connection);
  return rdma != nullptr ? rdma->stream() : nullptr;
}

}  // namespace avec::rdma
