// The contract of Transport::upgrade() and Connection::arm() as tests. Included by contract.h.
#pragma once

#include "transport/contract_support.h"

namespace avec::contract {

template <class B>
Transport& upgrading(B& backend) {
  if constexpr (requires { backend.upgrading(); }) {
    return backend.upgrading();
  } else {
    return backend.transport();
  }
}

/// A connection of the transport that sessions of the backend begin at; false: it begins by itself.
struct Beginning {
  Beginning() {
    const auto url =
        upgrading(backend).begins_at(std::string(upgrading(backend).scheme()) + "://127.0.0.1:0");
    if (url.empty()) return;
    Transport* const first = find_transport(url);
    REQUIRE(first != nullptr);
    auto listening = first->listen(url);
    INFO(listening.detail);
    REQUIRE(listening.listener);
    auto connecting = first->connect(listening.listener->address(), soon());
    INFO(connecting.detail);
    REQUIRE(connecting.connection);
    client = std::move(connecting.connection);
    server = accept(*listening.listener);
  }
  explicit operator bool() const { return client != nullptr; }
  ConnectResult upgrade(End end, Deadline deadline) {
    return upgrading(backend).upgrade(end == End::kClient ? client : server, end, deadline);
  }
  /// Both ends; the executor's on a thread of its own.
  void upgrade_both(ConnectResult& at_client, ConnectResult& at_server, Deadline deadline = soon()) {
    std::thread peer([&] { at_server = upgrade(End::kExecutor, deadline); });
    at_client = upgrade(End::kClient, deadline);
    peer.join();
  }

  Backend backend;
  std::unique_ptr<Connection> client, server;
};

inline void check_usable(Connection& client, Connection& server) {
  CHECK(send_text(client, "up").bytes == 2);
  CHECK(receive_text(server, 2) == "up");
  CHECK(send_text(server, "down").bytes == 4);
  CHECK(receive_text(client, 4) == "down");
}

TEST_CASE("upgrade: a stream that was used becomes a connection that is") {
  Beginning begun;
  if (!begun) return;
  check_usable(*begun.client, *begun.server);
  ConnectResult client, server;
  begun.upgrade_both(client, server);
  INFO(client.detail << server.detail);
  REQUIRE(client.connection);
  REQUIRE(server.connection);
  CHECK_FALSE(client.error);
  CHECK_FALSE(server.error);
  // The stream belongs to the new connections.
  CHECK_FALSE(begun.client);
  CHECK_FALSE(begun.server);
  check_usable(*client.connection, *server.connection);
  const auto data = random_bytes(5 << 20, 41);
  TransportError sending;
  std::thread sender([&] {
    sending = send_all(*client.connection, data);
    client.connection->close();
  });
  std::vector<std::byte> got;
  CHECK_FALSE(receive_all(*server.connection, got, data.size()));
  CHECK((got == data));
  CHECK(end_of(*server.connection) == TransportErrc::kClosed);
  sender.join();
  CHECK_FALSE(sending);
}

TEST_CASE("upgrade: what a peer sends right after its own upgrade is not lost") {
  for (int i = 0; i < 20; ++i) {
    Beginning begun;
    if (!begun) return;
    ConnectResult client, server;
    std::thread peer([&] {
      client = begun.upgrade(End::kClient, soon());
      if (client.connection) send_text(*client.connection, "early");
    });
    server = begun.upgrade(End::kExecutor, soon());
    peer.join();
    REQUIRE(server.connection);
    REQUIRE(receive_text(*server.connection, 5) == "early");
  }
}

TEST_CASE("upgrade: an end that is left alone gives up at its deadline, and has the stream still") {
  for (const auto end : {End::kClient, End::kExecutor}) {
    Beginning begun;
    if (!begun) return;
    const auto result = begun.upgrade(end, in(50ms));
    CHECK_FALSE(result.connection);
    CHECK(result.error.code == TransportErrc::kTimeout);
    CHECK(begun.client);
    CHECK(begun.server);
  }
}

TEST_CASE("upgrade: a peer that leaves ends it with an error") {
  for (const auto end : {End::kClient, End::kExecutor}) {
    Beginning begun;
    if (!begun) return;
    (end == End::kClient ? begun.server : begun.client)->close();
    const auto result = begun.upgrade(end, soon());
    CHECK_FALSE(result.connection);
    CHECK((result.error.code == TransportErrc::kClosed || result.error.code == TransportErrc::kReset));
    CHECK((end == End::kClient ? begun.client : begun.server) != nullptr);
  }
}

TEST_CASE("upgrade: a peer that talks nonsense ends it with an error") {
  for (const auto end : {End::kClient, End::kExecutor}) {
    Beginning begun;
    if (!begun) return;
    auto& nonsense = end == End::kClient ? *begun.server : *begun.client;
    const auto bytes = random_bytes(100'000, 42);
    const ConstBytes buffer(bytes);
    nonsense.send({&buffer, 1});
    const auto result = begun.upgrade(end, in(2000ms));
    CHECK_FALSE(result.connection);
    CHECK(result.error);
  }
}

template <class B>
void upgrade_where_one_end_cannot(B&& make, End end) {
  auto begun = make();
  if (!begun) return;
  if constexpr (requires { begun.backend.cannot(end); }) {
    begun.backend.cannot(end);
    ConnectResult client, server;
    begun.upgrade_both(client, server);
    for (const auto* result : {&client, &server}) {
      CHECK_FALSE(result->connection);
      CHECK(result->error.code == TransportErrc::kNotViable);
      CHECK_FALSE(result->detail.empty());
    }
    REQUIRE(begun.client);
    REQUIRE(begun.server);
    check_usable(*begun.client, *begun.server);
  }
}

TEST_CASE("upgrade: where one end cannot, both know it and why, and the stream is as before") {
  for (const auto end : {End::kClient, End::kExecutor}) {
    upgrade_where_one_end_cannot([] { return Beginning(); }, end);
  }
}

TEST_CASE("upgrade: a transport that begins by itself says that it cannot") {
  Backend backend;
  auto& transport = upgrading(backend);
  if (!transport.begins_at(std::string(transport.scheme()) + "://127.0.0.1:0").empty()) return;
  std::unique_ptr<Connection> stream;
  const auto result = transport.upgrade(stream, End::kClient, soon());
  CHECK_FALSE(result.connection);
  CHECK(result.error.code == TransportErrc::kNotViable);
  CHECK_FALSE(result.detail.empty());
}

TEST_CASE("upgrade: no descriptor is left behind") {
  const auto round = [] {
    Beginning begun;
    if (!begun) return;
    ConnectResult client, server;
    begun.upgrade_both(client, server);
    Beginning alone;
    static_cast<void>(alone.upgrade(End::kExecutor, in(-1ms)));
  };
  round();
  const auto before = open_descriptors();
  for (int i = 0; i < 5; ++i) round();
  CHECK(open_descriptors() == before);
}

// ---- arm -------------------------------------------------------------------------------

TEST_CASE("after arm() the descriptor tells of all that comes, whenever it comes") {
  Backend backend;
  auto pair = connected(backend);
  const int descriptor = pair.client->poll_descriptor();
  if (descriptor < 0) return;
  constexpr int kRounds = 500;
  std::atomic<int> received{0};
  std::atomic<bool> failed{false};
  std::thread peer([&] {
    for (int i = 0; i < kRounds && !failed; ++i) {
      while (received < i && !failed) std::this_thread::yield();
      if (i % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(i % 50));
      send_text(*pair.server, "x");
    }
  });
  for (int i = 0; i < kRounds && !failed;) {
    std::byte byte{};
    const MutableBytes into(&byte, 1);
    const auto result = pair.client->receive({&into, 1});
    if (result.error) failed = true;
    if (result.bytes == 1) {
      received = ++i;
    } else if (pair.client->arm() && !poll_readable(descriptor, 20s)) {
      failed = true;
    }
  }
  peer.join();
  CHECK_FALSE(failed);
  CHECK(received == kRounds);
}

TEST_CASE("arm() with nothing there lets a poller sleep") {
  Backend backend;
  auto pair = connected(backend);
  const int descriptor = pair.client->poll_descriptor();
  if (descriptor < 0) return;
  // A word left over from before may wake once or twice, not for ever.
  bool slept = false;
  for (int i = 0; i < 10 && !slept; ++i) {
    std::byte byte{};
    const MutableBytes into(&byte, 1);
    CHECK(pair.client->receive({&into, 1}).bytes == 0);
    slept = pair.client->arm() && !poll_readable(descriptor, 20ms);
  }
  CHECK(slept);
}

}  // namespace avec::contract
