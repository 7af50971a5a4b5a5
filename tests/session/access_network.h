// A transport for the client's end alone: TCP to a fake executor, with one-sided access that the
// test sees and plays the executor's part of.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "session/session_support.h"
#include "support/fake_one_sided.h"

namespace avec::test {

/// The access outlives its connections; close() of one makes every key worthless.
class AccessConnection final : public Connection {
 public:
  AccessConnection(std::unique_ptr<Connection> stream, FakeOneSided& access)
      : stream_(std::move(stream)), access_(access) {}
  IoResult send(std::span<const ConstBytes> buffers) noexcept override { return stream_->send(buffers); }
  IoResult receive(std::span<const MutableBytes> buffers) noexcept override {
    return stream_->receive(buffers);
  }
  TransportError wait(bool want_send, Deadline deadline) noexcept override {
    // In short pieces: the ends of writes do not wake a socket. kNone says "look again".
    const Deadline soon = std::chrono::steady_clock::now() + std::chrono::milliseconds(2);
    if (soon >= deadline) return stream_->wait(want_send, deadline);
    const TransportError waited = stream_->wait(want_send, soon);
    return waited.code == TransportErrc::kTimeout ? TransportError{} : waited;
  }
  void wake() noexcept override { stream_->wake(); }
  void close() noexcept override {
    access_.close();
    stream_->close();
  }
  int poll_descriptor() const noexcept override { return stream_->poll_descriptor(); }
  bool arm() noexcept override { return stream_->arm(); }
  OneSided* one_sided() noexcept override { return &access_; }
  std::string peer() const override { return stream_->peer(); }

 private:
  std::unique_ptr<Connection> stream_;
  FakeOneSided& access_;
};

class AccessNetwork final : public Transport {
 public:
  /// Registered for good; each test makes its own.
  static AccessNetwork& make(OneSidedTraits traits) {
    static std::atomic<int> next{0};
    auto made = std::make_unique<AccessNetwork>("access" + std::to_string(++next), traits);
    AccessNetwork& network = *made;
    REQUIRE(register_transport(std::move(made)));
    return network;
  }
  AccessNetwork(std::string scheme, OneSidedTraits traits) : access(traits), scheme_(std::move(scheme)) {}

  session::Options options_for(const FakeExecutor& executor) const {
    auto options = test::options_for(executor);
    options.executor = scheme_ + options.executor.substr(options.executor.find("://"));
    return options;
  }

  std::string_view scheme() const noexcept override { return scheme_; }
  TransportError viable(std::string&) const override { return {}; }
  ConnectResult connect(std::string_view url, Deadline deadline) noexcept override {
    const std::string tcp = "tcp" + std::string(url.substr(url.find("://")));
    auto connected = find_transport(tcp)->connect(tcp, deadline);
    if (!connected.connection) return connected;
    return {std::make_unique<AccessConnection>(std::move(connected.connection), access), {}, {}};
  }
  ListenResult listen(std::string_view) noexcept override { return {}; }

  FakeOneSided access;

 private:
  const std::string scheme_;
};

}  // namespace avec::test
