// The contract of transport.h as tests. A backend's test program defines, before it includes
// this file,
//
//   struct Backend {                              // a fresh one for each test
//     avec::Transport& transport();
//     std::string listen_url();                   // a free address
//     std::string absent_url();                   // a good address where nobody listens
//     std::vector<std::string> bad_urls();        // addresses that do not parse
//     std::string peer_prefix();                  // how peer() begins
//     void reset(avec::Connection&);              // breaks the connection of this end
//   };
//   #define AVEC_TRANSPORT_BACKEND Backend
//
// and so gets one test per rule. It may also define
//
//   avec::OneSided* one_sided(avec::Connection&);   // where that is not Connection::one_sided()
//   avec::Transport& upgrading();                   // the transport whose upgrade() is meant,
//                                                   // where that is not transport()
//   void cannot(avec::End);                         // from now on that end's upgrade() is not viable
//
// Cases of what a backend does not have (one-sided access, upgrades) do nothing.
#pragma once

#include "transport/contract_support.h"
#include "transport/one_sided_contract.h"
#include "transport/one_sided_keys_contract.h"
#include "transport/upgrade_contract.h"

namespace avec::contract {

// ---- bytes ---------------------------------------------------------------------------

TEST_CASE("bytes arrive in order and whole, whatever the sizes of gathers and scatters") {
  Backend backend;
  auto pair = connected(backend);
  for (const std::size_t largest : {7u, 3000u, 200000u}) {
    const auto sent = random_bytes(largest * 150, static_cast<std::uint32_t>(largest));
    std::vector<std::byte> there(sent.size()), back(sent.size());
    TransportError errors[3];
    std::thread peer([&] {
      errors[0] = receive_scattered(*pair.server, there, 1, largest);
      errors[1] = send_scattered(*pair.server, there, 2, largest);
    });
    errors[2] = send_scattered(*pair.client, sent, 3, largest);
    const auto received = receive_scattered(*pair.client, back, 4, largest);
    peer.join();
    for (const auto& error : errors) CHECK(error.code == TransportErrc::kNone);
    CHECK(received.code == TransportErrc::kNone);
    CHECK((there == sent));
    CHECK((back == sent));
  }
}

TEST_CASE("64 MiB each way at the same time arrive whole") {
  Backend backend;
  auto pair = connected(backend);
  constexpr std::size_t kBytes = 64 << 20;
  const auto up = random_bytes(kBytes, 11), down = random_bytes(kBytes, 12);
  // One thread per end sends and receives by turns, as the contract wants it.
  const auto exchange = [](Connection& connection, ConstBytes out, MutableBytes into) -> TransportError {
    while (!out.empty() || !into.empty()) {
      IoResult sent, got;
      if (!out.empty()) sent = connection.send({&out, 1});
      if (!into.empty()) got = connection.receive({&into, 1});
      if (sent.error) return sent.error;
      if (got.error) return got.error;
      out = out.subspan(sent.bytes);
      into = into.subspan(got.bytes);
      if (sent.bytes == 0 && got.bytes == 0 && (!out.empty() || !into.empty())) {
        if (const auto error = connection.wait(!out.empty(), soon())) return error;
      }
    }
    return {};
  };
  std::vector<std::byte> got_up(kBytes), got_down(kBytes);
  TransportError server_error;
  std::thread peer([&] { server_error = exchange(*pair.server, down, got_up); });
  const auto client_error = exchange(*pair.client, up, got_down);
  peer.join();
  CHECK(server_error.code == TransportErrc::kNone);
  CHECK(client_error.code == TransportErrc::kNone);
  CHECK(std::memcmp(got_up.data(), up.data(), kBytes) == 0);
  CHECK(std::memcmp(got_down.data(), down.data(), kBytes) == 0);
}

TEST_CASE("more buffers than one system call takes are sent in the right order") {
  Backend backend;
  auto pair = connected(backend);
  const auto sent = random_bytes(3000, 5);
  std::vector<ConstBytes> buffers;
  for (std::size_t i = 0; i < sent.size(); ++i) buffers.emplace_back(&sent[i], 1);
  std::vector<std::byte> got(sent.size());
  std::size_t out = 0, in = 0;
  while (in < sent.size()) {
    const auto result = pair.client->send(std::span(buffers).subspan(out));
    REQUIRE_FALSE(result.error);
    out += result.bytes;
    std::vector<MutableBytes> into;
    for (std::size_t i = in; i < got.size(); ++i) into.emplace_back(&got[i], 1);
    REQUIRE(pair.server->wait(false, soon()).code == TransportErrc::kNone);
    const auto received = pair.server->receive(into);
    REQUIRE_FALSE(received.error);
    in += received.bytes;
  }
  CHECK((got == sent));
}

TEST_CASE("a receive without bytes would block, and says so with zero and no error") {
  Backend backend;
  auto pair = connected(backend);
  std::byte byte{};
  const MutableBytes into(&byte, 1);
  const auto result = pair.client->receive({&into, 1});
  CHECK(result.bytes == 0);
  CHECK_FALSE(result.error);
}

TEST_CASE("empty gathers and scatters do nothing, even when bytes or an end are there") {
  Backend backend;
  auto pair = connected(backend);
  CHECK(pair.client->send({}).bytes == 0);
  CHECK_FALSE(pair.client->send({}).error);
  REQUIRE(send_text(*pair.client, "x").bytes == 1);
  REQUIRE_FALSE(pair.server->wait(false, soon()));
  const MutableBytes none;
  CHECK(pair.server->receive({&none, 1}).bytes == 0);
  CHECK_FALSE(pair.server->receive({}).error);
  CHECK(receive_text(*pair.server, 1) == "x");
}

TEST_CASE("a peer that does not receive makes send block, and receiving lets it go on") {
  Backend backend;
  auto pair = connected(backend);
  const auto chunk = random_bytes(256 << 10, 9);
  const ConstBytes buffer(chunk);
  std::size_t accepted = 0;
  while (true) {  // until the buffers of both sides are full
    const auto result = pair.client->send({&buffer, 1});
    REQUIRE_FALSE(result.error);
    accepted += result.bytes;
    REQUIRE(accepted < std::size_t{1} << 30);
    // What looks full may only be on its way to the peer's buffer.
    if (result.bytes == 0 && pair.client->wait(true, in(100ms)).code == TransportErrc::kTimeout) break;
  }
  std::vector<std::byte> got;
  REQUIRE_FALSE(receive_all(*pair.server, got, accepted));
  CHECK_FALSE(pair.client->wait(true, soon()));
  CHECK(pair.client->send({&buffer, 1}).bytes > 0);
}

// ---- waiting and waking --------------------------------------------------------------

TEST_CASE("wait returns when bytes can be received") {
  Backend backend;
  auto pair = connected(backend);
  std::thread peer([&] {
    std::this_thread::sleep_for(20ms);
    send_text(*pair.server, "hello");
  });
  CHECK(pair.client->wait(false, soon()).code == TransportErrc::kNone);
  peer.join();
  CHECK(receive_text(*pair.client, 5) == "hello");
}

TEST_CASE("wait for sending returns at once on an idle connection") {
  Backend backend;
  auto pair = connected(backend);
  CHECK(pair.client->wait(true, soon()).code == TransportErrc::kNone);
}

TEST_CASE("wait ends with kTimeout at its deadline, and at once when that has passed") {
  Backend backend;
  auto pair = connected(backend);
  const auto start = std::chrono::steady_clock::now();
  CHECK(pair.client->wait(false, in(50ms)).code == TransportErrc::kTimeout);
  CHECK(std::chrono::steady_clock::now() - start >= 50ms);
  CHECK(pair.client->wait(false, in(-1000ms)).code == TransportErrc::kTimeout);
  CHECK(pair.client->wait(false, Deadline::min()).code == TransportErrc::kTimeout);
}

TEST_CASE("bytes that are there are seen by a wait whose deadline has passed") {
  Backend backend;
  auto pair = connected(backend);
  send_text(*pair.server, "x");
  REQUIRE_FALSE(pair.client->wait(false, soon()));
  CHECK(pair.client->wait(false, in(-1ms)).code == TransportErrc::kNone);
}

TEST_CASE("a wake before the wait ends it at once and is consumed") {
  Backend backend;
  auto pair = connected(backend);
  pair.client->wake();
  pair.client->wake();
  CHECK(pair.client->wait(false, soon()).code == TransportErrc::kNone);
  CHECK(pair.client->wait(false, in(20ms)).code == TransportErrc::kTimeout);
}

TEST_CASE("a wake of another thread ends the wait") {
  Backend backend;
  auto pair = connected(backend);
  for (int i = 0; i < 20; ++i) {
    std::thread waker([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(i % 3));
      pair.client->wake();
    });
    CHECK(pair.client->wait(false, soon()).code == TransportErrc::kNone);
    waker.join();
  }
}

TEST_CASE("no wake is lost between two threads") {
  Backend backend;
  auto pair = connected(backend);
  std::atomic<int> asked{0}, answered{0};
  constexpr int kRounds = 2000;
  std::thread waker([&] {
    for (int i = 1; i <= kRounds; ++i) {
      asked = i;
      pair.client->wake();
      while (answered < i) std::this_thread::yield();
    }
  });
  int timeouts = 0;
  for (int seen = 0; seen < kRounds;) {
    if (pair.client->wait(false, soon())) ++timeouts;
    seen = asked;
    answered = seen;
  }
  waker.join();
  CHECK(timeouts == 0);
}

inline std::atomic<Connection*> woken_by_signal{nullptr};

TEST_CASE("wake may be called in a signal handler, of the waiting thread too") {
  Backend backend;
  auto pair = connected(backend);
  woken_by_signal = pair.client.get();
  struct sigaction action {
  }, before{};
  action.sa_handler = [](int) { woken_by_signal.load()->wake(); };
  sigaction(SIGUSR1, &action, &before);
  const auto waiting = pthread_self();
  for (int i = 0; i < 10; ++i) {
    std::thread sender([&] {
      std::this_thread::sleep_for(5ms);
      pthread_kill(waiting, SIGUSR1);
    });
    CHECK(pair.client->wait(false, soon()).code == TransportErrc::kNone);
    sender.join();
    pair.client->wait(false, in(-1ms));
  }
  sigaction(SIGUSR1, &before, nullptr);
}

TEST_CASE("signals that do not wake leave a wait waiting") {
  Backend backend;
  auto pair = connected(backend);
  struct sigaction action {
  }, before{};
  action.sa_handler = [](int) {};
  sigaction(SIGUSR1, &action, &before);
  const auto waiting = pthread_self();
  std::thread sender([&] {
    for (int i = 0; i < 10; ++i) {
      std::this_thread::sleep_for(5ms);
      pthread_kill(waiting, SIGUSR1);
    }
  });
  CHECK(pair.client->wait(false, in(100ms)).code == TransportErrc::kTimeout);
  sender.join();
  sigaction(SIGUSR1, &before, nullptr);
}

TEST_CASE("poll() on the descriptor tells when receive has something") {
  Backend backend;
  auto pair = connected(backend);
  const int descriptor = pair.client->poll_descriptor();
  if (descriptor < 0) return;  // the backend has none
  CHECK(pair.client->arm());
  CHECK_FALSE(poll_readable(descriptor, 20ms));
  send_text(*pair.server, "x");
  CHECK(poll_readable(descriptor, 20s));
  CHECK(receive_text(*pair.client, 1) == "x");
  CHECK(pair.client->arm());
  CHECK_FALSE(poll_readable(descriptor, 20ms));
  pair.server->close();
  CHECK(poll_readable(descriptor, 20s));
  REQUIRE(pair.listener->poll_descriptor() >= 0);
  CHECK_FALSE(poll_readable(pair.listener->poll_descriptor(), 20ms));
  const auto another = connect(backend, pair.listener->address());
  CHECK(poll_readable(pair.listener->poll_descriptor(), 20s));
}

// ---- ends ----------------------------------------------------------------------------

TEST_CASE("an orderly close delivers every byte, then kClosed, again and again") {
  Backend backend;
  auto pair = connected(backend);
  const auto sent = random_bytes(3 << 20, 21);
  TransportError sending;
  std::thread peer([&] {
    sending = send_all(*pair.server, sent);
    pair.server->close();
  });
  std::vector<std::byte> got;
  CHECK_FALSE(receive_all(*pair.client, got, sent.size()));
  CHECK((got == sent));
  CHECK(end_of(*pair.client) == TransportErrc::kClosed);
  CHECK(end_of(*pair.client) == TransportErrc::kClosed);
  peer.join();
  CHECK_FALSE(sending);
}

TEST_CASE("a close with bytes unread still delivers what was sent") {
  Backend backend;
  auto pair = connected(backend);
  send_text(*pair.client, "never read");
  REQUIRE_FALSE(pair.server->wait(false, soon()));
  send_text(*pair.server, "last words");
  pair.server->close();
  CHECK(receive_text(*pair.client, 10) == "last words");
  CHECK(end_of(*pair.client) == TransportErrc::kClosed);
}

TEST_CASE("destroying a connection closes it in order") {
  Backend backend;
  auto pair = connected(backend);
  send_text(*pair.server, "bye");
  pair.server.reset();
  CHECK(receive_text(*pair.client, 3) == "bye");
  CHECK(end_of(*pair.client) == TransportErrc::kClosed);
}

TEST_CASE("a peer's close ends a wait") {
  Backend backend;
  auto pair = connected(backend);
  std::thread peer([&] {
    std::this_thread::sleep_for(20ms);
    pair.server->close();
  });
  CHECK(pair.client->wait(false, soon()).code == TransportErrc::kNone);
  peer.join();
  CHECK(end_of(*pair.client) == TransportErrc::kClosed);
}

TEST_CASE("close is idempotent, and afterwards everything says kClosed") {
  Backend backend;
  auto pair = connected(backend);
  pair.client->close();
  pair.client->close();
  CHECK(send_text(*pair.client, "x").error.code == TransportErrc::kClosed);
  std::byte byte{};
  const MutableBytes into(&byte, 1);
  CHECK(pair.client->receive({&into, 1}).error.code == TransportErrc::kClosed);
  CHECK(pair.client->wait(true, soon()).code == TransportErrc::kClosed);
  pair.client->wake();
  CHECK_FALSE(pair.client->peer().empty());
}

TEST_CASE("sending to a peer that has closed becomes kReset, without a signal") {
  Backend backend;
  auto pair = connected(backend);
  pair.server->close();
  const auto until = soon();
  TransportError error;
  while (!error && std::chrono::steady_clock::now() < until) {
    error = send_text(*pair.client, "x").error;
    if (!error) std::this_thread::sleep_for(1ms);
  }
  CHECK(error.code == TransportErrc::kReset);
}

TEST_CASE("a broken connection says kReset to both operations and ends a wait") {
  Backend backend;
  auto pair = connected(backend);
  std::thread breaker([&] {
    std::this_thread::sleep_for(20ms);
    backend.reset(*pair.server);
  });
  CHECK(pair.client->wait(false, soon()).code == TransportErrc::kNone);
  breaker.join();
  CHECK(end_of(*pair.client) == TransportErrc::kReset);
  TransportError error;
  for (int i = 0; i < 3 && !error; ++i) error = send_text(*pair.client, "x").error;
  CHECK(error.code == TransportErrc::kReset);
}

// ---- connecting and listening --------------------------------------------------------

TEST_CASE("connecting where nobody listens is refused, with a sentence") {
  Backend backend;
  const auto result = backend.transport().connect(backend.absent_url(), soon());
  CHECK_FALSE(result.connection);
  CHECK(result.error.code == TransportErrc::kRefused);
  CHECK_FALSE(result.detail.empty());
}

TEST_CASE("addresses that do not parse are kBadAddress for connect and listen") {
  Backend backend;
  for (const auto& url : backend.bad_urls()) {
    INFO(url);
    const auto connected = backend.transport().connect(url, soon());
    CHECK_FALSE(connected.connection);
    CHECK(connected.error.code == TransportErrc::kBadAddress);
    CHECK_FALSE(connected.detail.empty());
    const auto listening = backend.transport().listen(url);
    CHECK_FALSE(listening.listener);
    CHECK(listening.error.code == TransportErrc::kBadAddress);
  }
}

TEST_CASE("accept ends at its deadline") {
  Backend backend;
  const auto listener = listen(backend);
  const auto result = listener->accept(in(30ms));
  CHECK_FALSE(result.connection);
  CHECK(result.error.code == TransportErrc::kTimeout);
}

TEST_CASE("a wake ends accept with neither connection nor error") {
  Backend backend;
  const auto listener = listen(backend);
  listener->wake();
  auto result = listener->accept(soon());
  CHECK_FALSE(result.connection);
  CHECK_FALSE(result.error);
  std::thread waker([&] {
    std::this_thread::sleep_for(20ms);
    listener->wake();
  });
  result = listener->accept(soon());
  waker.join();
  CHECK_FALSE(result.connection);
  CHECK_FALSE(result.error);
  CHECK(listener->accept(in(10ms)).error.code == TransportErrc::kTimeout);
}

TEST_CASE("a listener's address is the one that clients use, each listener its own") {
  Backend backend;
  const auto first = listen(backend), second = listen(backend);
  CHECK(first->address() != second->address());
  const auto client = connect(backend, second->address());
  CHECK(first->accept(in(10ms)).error.code == TransportErrc::kTimeout);
  CHECK(accept(*second));
}

TEST_CASE("peers have names") {
  Backend backend;
  auto pair = connected(backend);
  CHECK(pair.client->peer() == pair.listener->address());
  CHECK(pair.server->peer().starts_with(backend.peer_prefix()));
  CHECK(pair.client->same_host());
  CHECK(pair.server->same_host());
}

TEST_CASE("a connection outlives its listener") {
  Backend backend;
  auto pair = connected(backend);
  pair.listener.reset();
  send_text(*pair.client, "still here");
  CHECK(receive_text(*pair.server, 10) == "still here");
}

TEST_CASE("many connections live side by side") {
  Backend backend;
  const auto listener = listen(backend);
  std::vector<std::unique_ptr<Connection>> clients, servers;
  for (int i = 0; i < 100; ++i) {
    clients.push_back(connect(backend, listener->address()));
    servers.push_back(accept(*listener));
  }
  for (int i = 0; i < 100; ++i) send_text(*clients[i], "client " + std::to_string(1000 + i));
  for (int i = 99; i >= 0; --i) CHECK(receive_text(*servers[i], 11) == "client " + std::to_string(1000 + i));
}

TEST_CASE("no descriptor is left behind") {
  Backend backend;
  const auto listener = listen(backend);
  const auto round = [&] {
    auto client = connect(backend, listener->address());
    auto server = accept(*listener);
    send_text(*client, "x");
    receive_text(*server, 1);
    client->close();
    backend.reset(*server);
    (void)backend.transport().connect(backend.absent_url(), soon());
    (void)backend.transport().connect(backend.bad_urls().front(), soon());
    (void)backend.transport().listen(listener->address());
    (void)backend.transport().connect(listener->address(), in(-1ms));
    while (listener->accept(in(1ms)).connection) {
    }
  };
  round();
  const auto before = open_descriptors();
  for (int i = 0; i < 20; ++i) round();
  CHECK(open_descriptors() == before);
}

}  // namespace avec::contract
