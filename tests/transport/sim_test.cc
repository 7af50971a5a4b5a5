#include "transport/sim/factory.h"

namespace avec::contract {

// Over the default network of the registry: real clock, so that the contract's sleeping
// threads mean what they say.
struct SimBackend {
  avec::Transport& transport() { return *find_transport("sim://"); }
  std::string listen_url() {
    static int count = 0;
    return "sim://contract-" + std::to_string(count++);
  }
  std::string absent_url() { return "sim://nobody"; }
  std::vector<std::string> bad_urls() { return {"sim://", "sim", "", "sim://a b", "sim://a/b", "://x"}; }
  std::string peer_prefix() { return "sim://client-"; }
  void reset(avec::Connection&) { avec::sim::default_network().reset_all(); }
};

}  // namespace avec::contract

#define AVEC_TRANSPORT_BACKEND SimBackend
#include "transport/contract.h"

namespace avec::contract {
namespace {

using sim::Clock;
using sim::Direction;
using sim::SimNetwork;

Pair connected(SimNetwork& network) {
  Pair pair;
  auto listening = network.listen("sim://edge");
  REQUIRE(listening.listener);
  pair.listener = std::move(listening.listener);
  auto client = network.connect("sim://edge", network.now() + 60s);
  INFO(client.detail);
  REQUIRE(client.connection);
  pair.client = std::move(client.connection);
  auto server = pair.listener->accept(network.now() + 60s);
  REQUIRE(server.connection);
  pair.server = std::move(server.connection);
  return pair;
}

/// Receives `bytes` with deadlines of the network's clock.
TransportErrc pull(SimNetwork& network, Connection& connection, std::vector<std::byte>& into,
                   std::size_t bytes, std::chrono::nanoseconds limit = 3600s) {
  const auto deadline = network.now() + limit;
  std::vector<std::byte> part(bytes);
  while (into.size() < bytes) {
    const MutableBytes rest(part.data(), bytes - into.size());
    const auto result = connection.receive({&rest, 1});
    if (result.error) return result.error.code;
    into.insert(into.end(), part.begin(), part.begin() + static_cast<long>(result.bytes));
    if (result.bytes == 0) {
      if (const auto error = connection.wait(false, deadline)) return error.code;
    }
  }
  return TransportErrc::kNone;
}

TransportErrc push(SimNetwork& network, Connection& connection, ConstBytes bytes) {
  while (!bytes.empty()) {
    const auto result = connection.send({&bytes, 1});
    if (result.error) return result.error.code;
    bytes = bytes.subspan(result.bytes);
    if (result.bytes == 0) {
      if (const auto error = connection.wait(true, network.now() + 3600s)) return error.code;
    }
  }
  return TransportErrc::kNone;
}

// ---- shaping -------------------------------------------------------------------------

TEST_CASE("in virtual time connecting takes exactly a round trip") {
  SimNetwork network({.clock = Clock::kVirtual, .shape = {.round_trip = 10ms}});
  auto pair = connected(network);
  CHECK(network.elapsed() == 10ms);
}

TEST_CASE("in virtual time a byte takes exactly half a round trip") {
  SimNetwork network({.clock = Clock::kVirtual, .shape = {.round_trip = 10ms}});
  auto pair = connected(network);
  const auto start = network.elapsed();
  send_text(*pair.client, "x");
  std::vector<std::byte> got;
  CHECK(pull(network, *pair.server, got, 1) == TransportErrc::kNone);
  CHECK(network.elapsed() - start == 5ms);
  send_text(*pair.server, "y");
  got.clear();
  CHECK(pull(network, *pair.client, got, 1) == TransportErrc::kNone);
  CHECK(network.elapsed() - start == 10ms);
}

TEST_CASE("in virtual time a megabyte at a megabyte a second takes exactly a second, and half a round trip") {
  SimNetwork network({.clock = Clock::kVirtual,
                      .shape = {.round_trip = 20ms, .bytes_per_second = 1'000'000, .segment_bytes = 1000}});
  auto pair = connected(network);
  const auto start = network.elapsed();
  const auto sent = random_bytes(1'000'000, 1);
  CHECK(push(network, *pair.client, sent) == TransportErrc::kNone);
  std::vector<std::byte> got;
  CHECK(pull(network, *pair.server, got, sent.size()) == TransportErrc::kNone);
  CHECK(network.elapsed() - start == 1010ms);
  CHECK((got == sent));
}

TEST_CASE("lost segments come later by the retransmission time and hold back those behind") {
  SimNetwork network(
      {.clock = Clock::kVirtual, .shape = {.round_trip = 2ms, .loss = 1.0, .retransmission = 30ms}});
  auto pair = connected(network);
  const auto start = network.elapsed();
  send_text(*pair.client, "lost");
  std::vector<std::byte> got;
  CHECK(pull(network, *pair.server, got, 4) == TransportErrc::kNone);
  CHECK(network.elapsed() - start == 31ms);
}

TEST_CASE("virtual deadlines pass exactly, and only when nobody can go on") {
  SimNetwork network({.clock = Clock::kVirtual});
  auto pair = connected(network);
  const auto start = network.elapsed();
  CHECK(pair.client->wait(false, network.now() + 7s).code == TransportErrc::kTimeout);
  CHECK(network.elapsed() - start == 7s);
  // A deadline of the real clock means what is left of it.
  CHECK(pair.client->wait(false, in(5000ms)).code == TransportErrc::kTimeout);
  CHECK(network.elapsed() - start == 12s);
}

TEST_CASE("the window bounds what is sent and not received") {
  SimNetwork network({.clock = Clock::kVirtual, .shape = {.window_bytes = 1000}});
  auto pair = connected(network);
  const auto data = random_bytes(2000, 3);
  const ConstBytes bytes(data);
  CHECK(pair.client->send({&bytes, 1}).bytes == 1000);
  CHECK(pair.client->send({&bytes, 1}).bytes == 0);
  CHECK(pair.client->wait(true, network.now() + 1s).code == TransportErrc::kTimeout);
  std::vector<std::byte> got;
  CHECK(pull(network, *pair.server, got, 1) == TransportErrc::kNone);
  CHECK(pair.client->send({&bytes, 1}).bytes == 1);
}

// ---- determinism ---------------------------------------------------------------------

// Two threads exchange messages over a lossy link with short operations.
std::vector<sim::TraceEvent> noisy_run(std::uint64_t seed, std::vector<std::byte>& echoed) {
  SimNetwork network(
      {.clock = Clock::kVirtual,
       .seed = seed,
       .shape = {.round_trip = 3ms, .bytes_per_second = 10'000'000, .loss = 0.1, .segment_bytes = 500},
       .faults = {.short_io_bytes = 900}});
  auto pair = connected(network);
  const auto data = random_bytes(40'000, 77);
  network.hand_over(0, Direction::kFromServer);
  std::thread peer([&] {
    for (int i = 0; i < 4; ++i) {
      std::vector<std::byte> got;
      if (pull(network, *pair.server, got, 10'000) != TransportErrc::kNone) break;
      if (push(network, *pair.server, got) != TransportErrc::kNone) break;
    }
    pair.server->close();
  });
  for (int i = 0; i < 4; ++i) {
    push(network, *pair.client, ConstBytes(data).subspan(static_cast<std::size_t>(i) * 10'000, 10'000));
    std::vector<std::byte> got;
    pull(network, *pair.client, got, 10'000);
    echoed.insert(echoed.end(), got.begin(), got.end());
  }
  peer.join();
  CHECK((echoed == data));
  return network.trace();
}

std::string lines(const std::vector<sim::TraceEvent>& trace) {
  std::string text;
  for (const auto& event : trace) text += to_string(event) + "\n";
  return text;
}

TEST_CASE("the same seed gives the same trace, with two threads too") {
  std::vector<std::byte> first, again, other;
  const auto trace = noisy_run(42, first);
  for (int i = 0; i < 5; ++i) {
    again.clear();
    CHECK(lines(noisy_run(42, again)) == lines(trace));
  }
  CHECK(lines(noisy_run(43, other)) != lines(trace));
  CHECK(trace.size() > 100);
  CHECK(std::none_of(trace.begin(), trace.end(),
                     [](const auto& event) { return event.kind == sim::TraceEvent::Kind::kPassedOver; }));
}

// ---- faults --------------------------------------------------------------------------

TEST_CASE("a reset at byte N delivers exactly N bytes, in either direction") {
  for (const std::size_t at : {1u, 999u, 1000u}) {
    for (const bool upstream : {true, false}) {
      SimNetwork network({.clock = Clock::kVirtual, .shape = {.round_trip = 1ms}});
      sim::Faults faults;
      (upstream ? faults.reset_from_client_at : faults.reset_from_server_at) = at;
      network.set_next_faults(faults);
      auto pair = connected(network);
      auto& sender = upstream ? *pair.client : *pair.server;
      auto& receiver = upstream ? *pair.server : *pair.client;
      CHECK(push(network, sender, random_bytes(1000, 1)) == TransportErrc::kNone);
      std::vector<std::byte> got;
      const auto expected = at == 1000 ? TransportErrc::kNone : TransportErrc::kReset;
      CHECK(pull(network, receiver, got, 1000) == expected);
      CHECK(got.size() == at);
      CHECK(end_of(receiver) == TransportErrc::kReset);
      CHECK(end_of(sender) == TransportErrc::kReset);
      CHECK(send_text(sender, "x").error.code == TransportErrc::kReset);
    }
  }
}

TEST_CASE("a reset at byte 0 breaks the link as soon as it is there") {
  SimNetwork network({.clock = Clock::kVirtual, .faults = {.reset_from_client_at = 0}});
  auto pair = connected(network);
  CHECK(send_text(*pair.client, "x").error.code == TransportErrc::kReset);
  CHECK(end_of(*pair.server) == TransportErrc::kReset);
}

TEST_CASE("faults of the next link leave the one after it alone") {
  SimNetwork network;
  network.set_next_faults({.reset_from_client_at = 0});
  auto listening = network.listen("sim://edge");
  auto broken = network.connect("sim://edge", network.now() + 1s);
  auto whole = network.connect("sim://edge", network.now() + 1s);
  CHECK(network.links() == 2);
  CHECK(send_text(*broken.connection, "x").error.code == TransportErrc::kReset);
  CHECK(send_text(*whole.connection, "x").bytes == 1);
}

TEST_CASE("short operations move at least one byte and keep the bytes right") {
  SimNetwork network({.faults = {.short_io_bytes = 5}});
  auto pair = connected(network);
  const auto data = random_bytes(5000, 8);
  const ConstBytes bytes(data);
  const auto moved = pair.client->send({&bytes, 1}).bytes;
  CHECK(moved >= 1);
  CHECK(moved <= 5);
  CHECK(push(network, *pair.client, bytes.subspan(moved)) == TransportErrc::kNone);
  std::vector<std::byte> got;
  CHECK(pull(network, *pair.server, got, data.size()) == TransportErrc::kNone);
  CHECK((got == data));
}

TEST_CASE("a stalled direction delivers nothing until it is let go, orderly end included") {
  SimNetwork network({.clock = Clock::kVirtual, .shape = {.round_trip = 1ms}});
  auto pair = connected(network);
  network.stall(0, Direction::kFromClient, true);
  send_text(*pair.client, "held");
  pair.client->close();
  std::vector<std::byte> got;
  CHECK(pull(network, *pair.server, got, 4, 10s) == TransportErrc::kTimeout);
  network.stall(0, Direction::kFromClient, false);
  CHECK(pull(network, *pair.server, got, 4, 10s) == TransportErrc::kNone);
  CHECK(end_of(*pair.server) == TransportErrc::kClosed);
}

TEST_CASE("a peer that vanished answers nothing and reports nothing") {
  SimNetwork network({.clock = Clock::kVirtual, .shape = {.round_trip = 1ms}});
  auto pair = connected(network);
  network.vanish(0);
  send_text(*pair.server, "x");
  pair.server->close();
  CHECK(send_text(*pair.client, "anybody?").bytes == 8);
  CHECK(pair.client->wait(false, network.now() + 100s).code == TransportErrc::kTimeout);
  network.reset(0);
  CHECK(end_of(*pair.client) == TransportErrc::kReset);
}

TEST_CASE("connects are refused as often as asked") {
  SimNetwork network({.clock = Clock::kVirtual});
  auto listening = network.listen("sim://edge");
  network.refuse_connects(2);
  for (int i = 0; i < 2; ++i) {
    CHECK(network.connect("sim://edge", network.now() + 1s).error.code == TransportErrc::kRefused);
  }
  CHECK(network.connect("sim://edge", network.now() + 1s).connection);
}

TEST_CASE("connecting ends at its deadline when the round trip is longer") {
  SimNetwork network({.clock = Clock::kVirtual, .shape = {.round_trip = 10s}});
  auto listening = network.listen("sim://edge");
  const auto result = network.connect("sim://edge", network.now() + 1s);
  CHECK(result.error.code == TransportErrc::kTimeout);
  CHECK(network.elapsed() == 1s);
}

TEST_CASE("connections that nobody accepts are refused beyond the backlog, and reset with their listener") {
  SimNetwork network;
  auto listening = network.listen("sim://edge");
  std::vector<std::unique_ptr<Connection>> clients;
  TransportErrc code = TransportErrc::kNone;
  for (int i = 0; i < 1000 && code == TransportErrc::kNone; ++i) {
    auto result = network.connect("sim://edge", network.now() + 1s);
    code = result.error.code;
    if (result.connection) clients.push_back(std::move(result.connection));
  }
  CHECK(code == TransportErrc::kRefused);
  CHECK(clients.size() == 128);
  listening.listener.reset();
  CHECK(end_of(*clients.front()) == TransportErrc::kReset);
  CHECK(network.connect("sim://edge", network.now() + 1s).error.code == TransportErrc::kRefused);
}

TEST_CASE("a name is taken once while its listener lives") {
  SimNetwork network;
  auto first = network.listen("sim://edge");
  CHECK_FALSE(network.listen("sim://edge").listener);
  first.listener.reset();
  CHECK(network.listen("sim://edge").listener);
}

TEST_CASE("a network is registered under a scheme of its own") {
  SimNetwork network({.clock = Clock::kVirtual});
  REQUIRE(register_transport(sim::make_transport(network, "lab")));
  auto listening = find_transport("lab://")->listen("lab://edge");
  REQUIRE(listening.listener);
  CHECK(find_transport("lab://")->connect("lab://edge", network.now() + 1s).connection);
  CHECK(network.links() == 1);
}

TEST_CASE("a party that neither waits nor acts is passed over, and the trace says so") {
  SimNetwork network({.clock = Clock::kVirtual, .stuck_after = 20ms});
  auto pair = connected(network);
  std::thread idle([&] { send_text(*pair.server, "x"); });  // takes the end over, then is gone
  idle.join();
  std::vector<std::byte> got;
  CHECK(pull(network, *pair.client, got, 1) == TransportErrc::kNone);
  CHECK(pair.client->wait(false, network.now() + 1s).code == TransportErrc::kTimeout);
  const auto trace = network.trace();
  CHECK(std::any_of(trace.begin(), trace.end(),
                    [](const auto& event) { return event.kind == sim::TraceEvent::Kind::kPassedOver; }));
}

}  // namespace
}  // namespace avec::contract
