// The contract over simulated links with one-sided access, in each of its kinds.
#include "support/catch.h"
#include "transport/sim/factory.h"

namespace avec::contract {

struct SimOneSidedBackend {
  SimOneSidedBackend() : network_({.one_sided = GENERATE(kinds())}) {
    static int count = 0;
    transport_ = avec::sim::make_transport(network_, "sim" + std::to_string(++count));
  }
  static Catch::Generators::GeneratorWrapper<avec::sim::OneSidedOptions> kinds() {
    using avec::sim::OneSidedKind;
    return Catch::Generators::values<avec::sim::OneSidedOptions>({
        {.kind = OneSidedKind::kAsynchronous},
        {.kind = OneSidedKind::kAsynchronous, .ordered = true, .max_under_way = 3},
        {.kind = OneSidedKind::kMapped},
    });
  }
  avec::Transport& transport() { return *transport_; }
  std::string listen_url() {
    static int count = 0;
    return "sim://one-sided-" + std::to_string(count++);
  }
  std::string absent_url() { return "sim://nobody"; }
  std::vector<std::string> bad_urls() { return {"sim://", "sim", "", "sim://a b", "sim://a/b", "://x"}; }
  std::string peer_prefix() { return "sim://client-"; }
  void reset(avec::Connection&) { network_.reset_all(); }

 private:
  avec::sim::SimNetwork network_;
  std::unique_ptr<avec::Transport> transport_;
};

}  // namespace avec::contract

#define AVEC_TRANSPORT_BACKEND SimOneSidedBackend
#include "transport/contract.h"

namespace avec::contract {
namespace {

using sim::Clock;
using sim::OneSidedKind;
using sim::SimNetwork;

/// Ends of a network of its own; one thread drives both.
struct Lab {
  explicit Lab(const sim::NetworkOptions& options) : network(options) {
    pair.listener = network.listen("sim://edge").listener;
    pair.client = network.connect("sim://edge", network.now() + 60s).connection;
    pair.server = pair.listener->accept(network.now() + 60s).connection;
    REQUIRE(pair.server);
    client = {pair.client.get(), pair.client->one_sided()};
    server = {pair.server.get(), pair.server->one_sided()};
  }
  /// The completion of the only access under way.
  OneSidedCompletion completion() {
    OneSidedCompletion ended;
    for (int i = 0; i < 100 && server.access->completed({&ended, 1}) == 0; ++i)
      server.connection->wait(false, network.now() + 60s);
    return ended;
  }
  SimNetwork network;
  Pair pair;
  Side client, server;
};

TEST_CASE("sim: without the option there is no one-sided access") {
  SimNetwork network;
  auto listening = network.listen("sim://edge");
  CHECK(network.connect("sim://edge", network.now() + 1s).connection->one_sided() == nullptr);
}

TEST_CASE("sim: a read takes a round trip and the time of its bytes, in virtual time exactly") {
  Lab lab({.clock = Clock::kVirtual,
           .shape = {.round_trip = 10ms, .bytes_per_second = 1'000'000},
           .one_sided = {.kind = OneSidedKind::kAsynchronous}});
  const Region owned(lab.client, 100 * kPage), mine(lab.server, 100 * kPage);
  const auto key = allowed(lab.client, owned.bytes(), RemoteAccess::kRead);
  const auto start = lab.network.elapsed();
  REQUIRE(lab.server.access->read(key, 0, mine.part(0, 200'000), 1).bytes == 200'000);
  CHECK_FALSE(lab.completion().error);
  CHECK(lab.network.elapsed() - start == 210ms);
}

TEST_CASE("sim: unordered writes are seen with their completion, ordered ones when they have arrived") {
  for (const bool ordered : {false, true}) {
    Lab lab({.clock = Clock::kVirtual,
             .shape = {.round_trip = 10ms},
             .one_sided = {.kind = OneSidedKind::kAsynchronous, .ordered = ordered}});
    const Region owned(lab.client, kPage), mine(lab.server, kPage);
    mine.fill(std::byte{1});
    const auto key = allowed(lab.client, owned.bytes(), RemoteAccess::kWrite);
    REQUIRE(lab.server.access->write(key, 0, mine.bytes(), 1).bytes == kPage);
    send_text(*lab.pair.server, "x");
    CHECK_FALSE(lab.client.connection->wait(false, lab.network.now() + 1s));
    CHECK(receive_text(*lab.pair.client, 1) == "x");
    CHECK(all(owned.bytes(), std::byte{ordered}));
    CHECK_FALSE(lab.completion().error);
    CHECK(all(owned.bytes(), std::byte{1}));
  }
}

TEST_CASE("sim: the access that is to fail does, the others do not") {
  Lab lab({.faults = {.fail_access = 1}, .one_sided = {.kind = OneSidedKind::kAsynchronous}});
  const Region owned(lab.client, kPage), mine(lab.server, kPage);
  const auto key = allowed(lab.client, owned.bytes(), RemoteAccess::kRead);
  CHECK_FALSE(fetch(lab.server, key, 0, mine.bytes()));
  mine.fill(std::byte{9});
  CHECK(fetch(lab.server, key, 0, mine.bytes()).os_error == EIO);
  CHECK(all(mine.bytes(), std::byte{9}));
  CHECK_FALSE(fetch(lab.server, key, 0, mine.bytes()));
}

TEST_CASE("sim: a link that is to break in an access does so half-way") {
  Lab lab({.faults = {.reset_in_access = 0}, .one_sided = {.kind = OneSidedKind::kAsynchronous}});
  const Region owned(lab.client, kPage), mine(lab.server, kPage);
  mine.fill(std::byte{9});
  const auto key = allowed(lab.client, owned.bytes(), RemoteAccess::kWrite);
  CHECK(put(lab.server, key, 0, mine.bytes()).code == TransportErrc::kReset);
  CHECK(all(owned.part(0, kPage / 2), std::byte{9}));
  CHECK(all(owned.part(kPage / 2, kPage / 2), std::byte{0}));
  CHECK(end_of(*lab.pair.client) == TransportErrc::kReset);
}

TEST_CASE("sim: accesses over a stalled link end when it is let go") {
  Lab lab({.clock = Clock::kVirtual, .one_sided = {.kind = OneSidedKind::kAsynchronous}});
  const Region owned(lab.client, kPage), mine(lab.server, kPage);
  const auto key = allowed(lab.client, owned.bytes(), RemoteAccess::kRead);
  lab.network.stall(0, sim::Direction::kFromClient, true);
  REQUIRE(lab.server.access->read(key, 0, mine.bytes(), 1).bytes == kPage);
  CHECK(lab.server.connection->wait(false, lab.network.now() + 5s).code == TransportErrc::kTimeout);
  lab.network.stall(0, sim::Direction::kFromClient, false);
  CHECK_FALSE(lab.completion().error);
}

}  // namespace
}  // namespace avec::contract
