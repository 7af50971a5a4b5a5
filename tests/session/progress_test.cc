// What comes while nobody waits, over a connection whose descriptor tells of it only once armed.
#include <sys/epoll.h>

#include "base/handle.h"
#include "session/session_support.h"

namespace avec::test {
namespace {

/// TCP whose descriptor is readable from arm() on, until somebody waits or receives.
class ArmedConnection final : public Connection {
 public:
  ArmedConnection(std::unique_ptr<Connection> stream, std::atomic<bool>& armed)
      : stream_(std::move(stream)), armed_(armed), watched_(::epoll_create1(EPOLL_CLOEXEC)) {
    epoll_event event{};
    ::epoll_ctl(watched_.get(), EPOLL_CTL_ADD, stream_->poll_descriptor(), &event);
  }
  IoResult send(std::span<const ConstBytes> buffers) noexcept override { return stream_->send(buffers); }
  IoResult receive(std::span<const MutableBytes> buffers) noexcept override {
    tell(false);
    return stream_->receive(buffers);
  }
  TransportError wait(bool want_send, Deadline deadline) noexcept override {
    tell(false);
    return stream_->wait(want_send, deadline);
  }
  void wake() noexcept override { stream_->wake(); }
  void close() noexcept override { stream_->close(); }
  int poll_descriptor() const noexcept override { return watched_.get(); }
  bool arm() noexcept override {
    tell(true);
    return true;
  }
  std::string peer() const override { return stream_->peer(); }

 private:
  void tell(bool wanted) noexcept {
    epoll_event event{};
    if (wanted) event.events = EPOLLIN;
    ::epoll_ctl(watched_.get(), EPOLL_CTL_MOD, stream_->poll_descriptor(), &event);
    armed_ = wanted;
  }

  std::unique_ptr<Connection> stream_;
  std::atomic<bool>& armed_;
  Descriptor watched_;
};

class ArmedNetwork final : public Transport {
 public:
  std::string_view scheme() const noexcept override { return "armed"; }
  TransportError viable(std::string&) const override { return {}; }
  ConnectResult connect(std::string_view url, Deadline deadline) noexcept override {
    const std::string tcp = "tcp" + std::string(url.substr(url.find("://")));
    auto connected = find_transport(tcp)->connect(tcp, deadline);
    if (!connected.connection) return connected;
    return {std::make_unique<ArmedConnection>(std::move(connected.connection), armed), {}, {}};
  }
  ListenResult listen(std::string_view) noexcept override { return {}; }

  std::atomic<bool> armed{false};  ///< of the connection that was driven last
};

TEST_CASE("A reply that nobody waits for is received soon, also when a call has used up what was armed") {
  auto made = std::make_unique<ArmedNetwork>();
  ArmedNetwork& network = *made;
  REQUIRE(register_transport(std::move(made)));
  FakeExecutor executor({});
  auto options = options_for(executor);
  options.executor = "armed" + options.executor.substr(options.executor.find("://"));
  auto session = open(options);
  // Each round a progress thread that sleeps on would be late by its longest sleep: too late in
  // sum. One that is told has done all of them in a fraction of the limit.
  std::size_t round = 0;
  const bool all = eventually([&] {
    if (!network.armed) return false;
    if (!session->call(wire::Ping(0))) return false;
    Bytes memory(64);
    const auto pending = session->post_deferred(copy_from(++round, 64), memory, session::Attend::kNobody);
    const bool came = pending && eventually([&] { return session->deferred_done(*pending); });
    return !came || memory != FakeExecutor::device_bytes(round, 64) || round == 60;
  });
  CHECK(all);
  CHECK(round == 60);
}

}  // namespace
}  // namespace avec::test
