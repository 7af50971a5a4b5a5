// The contract over encrypted TCP connections, and what encryption adds to it. How peers are refused:
// tests/executor/refusal_test.cc.
#include <netinet/in.h>
#include <sys/socket.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>

#include "avec/transport.h"
#include "base/descriptor.h"
#include "transport/tcp/factory.h"

namespace avec::contract {

inline std::shared_ptr<const tls::Context> context_of(End end, std::byte first = std::byte{7}) {
  tls::Credentials credentials;
  credentials.secret = tls::PreShared{"test", {first}};
  return tls::Context::make(end, credentials).value();
}

/// Accepts and shakes hands on a thread of its own, for connect() returns when both have.
class SecuredListener final : public Listener {
 public:
  explicit SecuredListener(std::unique_ptr<Listener> listener)
      : listener_(std::move(listener)), thread_([this] { run(); }) {}
  ~SecuredListener() override {
    over_ = true;
    listener_->wake();
    thread_.join();
  }
  ConnectResult accept(Deadline deadline) noexcept override {
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, deadline, [&] { return woken_ || !ready_.empty(); });
    if (!ready_.empty()) {
      ConnectResult result{std::move(ready_.front()), {}, {}};
      ready_.pop_front();
      if (ready_.empty()) consume_event(told_.get());
      return result;
    }
    if (std::exchange(woken_, false)) return {};
    return {nullptr, {TransportErrc::kTimeout, 0}, {}};
  }
  void wake() noexcept override {
    const std::scoped_lock lock(mutex_);
    woken_ = true;
    changed_.notify_all();
  }
  std::string address() const override { return listener_->address(); }
  int poll_descriptor() const noexcept override { return told_.get(); }

 private:
  void run() {
    const auto context = context_of(End::kExecutor);
    while (!over_) {
      auto accepted = listener_->accept(std::chrono::steady_clock::now() + std::chrono::seconds(10));
      if (!accepted.connection) continue;
      if (tcp::secure(*accepted.connection, context, {}, std::chrono::steady_clock::now() + std::chrono::seconds(10)))
        continue;
      const std::scoped_lock lock(mutex_);
      ready_.push_back(std::move(accepted.connection));
      signal_event(told_.get());
      changed_.notify_all();
    }
  }

  std::unique_ptr<Listener> listener_;
  const Descriptor told_ = make_event();  // readable: there is one
  std::atomic<bool> over_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::unique_ptr<Connection>> ready_;
  bool woken_ = false;
  std::thread thread_;
};

class SecuredTransport final : public Transport {
 public:
  std::string_view scheme() const noexcept override { return tcp_.scheme(); }
  TransportError viable(std::string& detail) const override { return tcp_.viable(detail); }
  ConnectResult connect(std::string_view url, Deadline deadline) noexcept override {
    auto result = tcp_.connect(url, deadline);
    if (!result.connection) return result;
    if (const auto error = tcp::secure(*result.connection, context_of(End::kClient), {}, deadline))
      return {nullptr, error, result.connection->reason()};
    return result;
  }
  ListenResult listen(std::string_view url) noexcept override {
    auto result = tcp_.listen(url);
    if (result.listener) result.listener = std::make_unique<SecuredListener>(std::move(result.listener));
    return result;
  }

 private:
  Transport& tcp_ = *find_transport("tcp://");
};

struct TlsBackend {
  avec::Transport& transport() { return secured; }
  std::string listen_url() { return "tcp://127.0.0.1:0"; }
  std::string absent_url() { return "tcp://127.0.0.1:1"; }
  std::vector<std::string> bad_urls() { return {"tcp://", "tcp://127.0.0.1"}; }
  std::string peer_prefix() { return "tcp://127.0.0.1:"; }
  void reset(avec::Connection& connection) {
    sockaddr none{};
    none.sa_family = AF_UNSPEC;
    ::connect(avec::tcp::native_descriptor(connection), &none, sizeof none);
  }

  SecuredTransport secured;
};

}  // namespace avec::contract

#define AVEC_TRANSPORT_BACKEND TlsBackend
#include "transport/contract.h"

namespace avec::contract {
namespace {

/// Two ends of a socket pair of TCP, in clear.
Pair in_clear() {
  Pair pair;
  Transport& tcp = *find_transport("tcp://");
  pair.listener = tcp.listen("tcp://127.0.0.1:0").listener;
  pair.client = tcp.connect(pair.listener->address(), soon()).connection;
  pair.server = pair.listener->accept(soon()).connection;
  return pair;
}

TEST_CASE("both ends know the same key of their connection, and no other connection has it") {
  Backend backend;
  std::array<std::byte, 32> keys[3]{}, about{};
  auto first = connected(backend), second = connected(backend);
  REQUIRE(tcp::tls_of(*first.client)->export_key("EXPORTER-test", about, keys[0]));
  REQUIRE(tcp::tls_of(*first.server)->export_key("EXPORTER-test", about, keys[1]));
  REQUIRE(tcp::tls_of(*second.server)->export_key("EXPORTER-test", about, keys[2]));
  CHECK((keys[0] == keys[1]));
  CHECK((keys[0] != keys[2]));
  CHECK(tcp::tls_of(*first.server)->identity() == "token");
}

TEST_CASE("nothing that is sent can be read on the way") {
  auto pair = in_clear();
  std::thread peer([&] { CHECK_FALSE(tcp::secure(*pair.server, context_of(End::kExecutor), {}, soon())); });
  CHECK_FALSE(tcp::secure(*pair.client, context_of(End::kClient), {}, soon()));
  peer.join();
  const std::string secret(100'000, 'x');
  send_all(*pair.client, std::as_bytes(std::span(secret)));
  std::string seen;
  std::array<char, 4096> part;
  for (ssize_t got = 1; got > 0 && seen.size() < 50'000;) {
    REQUIRE_FALSE(pair.server->wait(false, soon()));
    got = ::recv(tcp::native_descriptor(*pair.server), part.data(), part.size(), MSG_DONTWAIT);
    if (got > 0) seen.append(part.data(), static_cast<std::size_t>(got));
  }
  CHECK(seen.size() >= 50'000);
  CHECK(seen.find("xxxxxxxx") == std::string::npos);
}

TEST_CASE("a changed byte, and a cut without a goodbye, are a broken connection and not an end") {
  for (const bool change : {true, false}) {
    Backend backend;
    auto pair = connected(backend);
    send_text(*pair.client, "first");
    CHECK(receive_text(*pair.server, 5) == "first");
    const int socket = tcp::native_descriptor(*pair.client);
    if (change) {
      static constexpr unsigned char kForged[] = {0x17, 0x03, 0x03, 0x00, 0x14, 1, 2,  3,  4,  5,  6,  7, 8,
                                                  9,    10,   11,   12,   13,   14, 15, 16, 17, 18, 19, 20};
      REQUIRE(::send(socket, kForged, sizeof kForged, 0) == sizeof kForged);
    } else {
      ::shutdown(socket, SHUT_WR);
    }
    CHECK(end_of(*pair.server) == TransportErrc::kReset);
  }
}

TEST_CASE("ends with different secrets do not find together, and the client is told why") {
  auto pair = in_clear();
  TransportError error;
  std::thread peer([&] { error = tcp::secure(*pair.server, context_of(End::kExecutor), {}, soon()); });
  CHECK(tcp::secure(*pair.client, context_of(End::kClient, std::byte{8}), {}, soon()));
  peer.join();
  CHECK(error);
  CHECK(pair.client->reason().find("token files") != std::string::npos);
  CHECK(pair.server->reason().find("token") != std::string::npos);
}

TEST_CASE("a handshake that the peer does not answer ends at its deadline") {
  auto pair = in_clear();
  CHECK(tcp::secure(*pair.server, context_of(End::kExecutor), {}, in(20ms)).code == TransportErrc::kTimeout);
  CHECK(tcp::secure(*pair.client, context_of(End::kClient), {}, in(20ms)).code == TransportErrc::kTimeout);
}

}  // namespace
}  // namespace avec::contract
