// Faults while a stream becomes an RDMA connection: machines that cannot, adapters that fail half-way,
// peers that say what is not true. The stream is the caller's afterwards, and nothing is left.
#include <netinet/in.h>

#include <cstring>

#include "transport/rdma/device.h"
#include "transport/rdma/exchange.h"
#include "transport/rdma_fault_support.h"

namespace avec::contract {
namespace {

using enum TransportErrc;

void check_stays_usable(Streams& streams) {
  REQUIRE(streams.client);
  REQUIRE(streams.server);
  CHECK(send_text(*streams.client, "up").bytes == 2);
  CHECK(receive_text(*streams.server, 2) == "up");
  CHECK(send_text(*streams.server, "down").bytes == 4);
  CHECK(receive_text(*streams.client, 4) == "down");
}

/// Both ends know that there is no RDMA, why, and have their stream still.
void check_not_viable(Transport& at_client, Transport& at_server, std::string_view why) {
  Streams streams;
  ConnectResult client, server;
  streams.upgrade(at_client, at_server, client, server);
  for (const auto* result : {&client, &server}) {
    INFO(result->detail);
    CHECK_FALSE(result->connection);
    CHECK(static_cast<int>(result->error.code) == static_cast<int>(kNotViable));
    CHECK(result->detail.find(why) != std::string::npos);
  }
  check_stays_usable(streams);
}

// ---- machines

void check_machine(Transport& transport, std::string_view why) {
  std::string detail;
  CHECK(static_cast<int>(transport.viable(detail).code) == static_cast<int>(kNotViable));
  CHECK(detail.find(why) != std::string::npos);
  check_not_viable(transport, *make_faulty(), why);
}

TEST_CASE(
    "rdma opening: a machine without what it takes is not viable, with the reason, and the stream goes on") {
  const Balance balance;
  const auto transport = make_faulty();
  FakeVerbsDevice device;
  fake().default_device(&device);
  SECTION("no kernel support") {
    fake().set_no_driver(ENOSYS);
    check_machine(*transport, "no RDMA adapter");
  }
  SECTION("no adapter") {
    fake().set_devices(nullptr, 0);
    check_machine(*transport, "no RDMA adapter");
  }
  SECTION("no active port") {
    fake().set_devices(&device, 1);
    fake().set_port("fake0", 1, IBV_PORT_DOWN);
    fake().set_port("fake0", 2, IBV_PORT_INIT);
    check_machine(*transport, "fake0 has no active port");
  }
  SECTION("no address") {
    fake().set_devices(&device, 1);
    fake().remove_gids("fake0", 1);
    check_machine(*transport, "fake0 has no RoCEv2 address");
  }
  SECTION("no right to open it") {
    fake().fail_call("ibv_open_device", 1, EACCES, 0);
    check_machine(*transport, "cannot be opened: Permission denied");
  }
  SECTION("an adapter that does not answer") {
    fake().fail_call("ibv_query_device", 1, EIO, 0);
    check_machine(*transport, "does not say what it can");
  }
}

TEST_CASE("rdma opening: the adapter that is named is used, and named when it cannot be") {
  const Balance balance;
  std::string detail;
  CHECK_FALSE(make_faulty("fake1")->viable(detail));
  CHECK_FALSE(make_faulty("fake0:1")->viable(detail));
  CHECK(make_faulty("fake0:2")->viable(detail).code == kNotViable);
  CHECK(detail.find("port 2 of fake0 is not active") != std::string::npos);
  CHECK(make_faulty("mlx5_0")->viable(detail).code == kNotViable);
  CHECK(detail.find("mlx5_0") != std::string::npos);
  // Two adapters that reach each other.
  Streams streams;
  ConnectResult client, server;
  streams.upgrade(*make_faulty("fake0"), *make_faulty("fake1"), client, server);
  INFO(client.detail << server.detail);
  REQUIRE(client.connection);
  REQUIRE(server.connection);
  CHECK(send_text(*client.connection, "x").bytes == 1);
  CHECK(receive_text(*server.connection, 1) == "x");
}

TEST_CASE("rdma opening: a library that is not there, or too old, is a reason") {
  rdma::Options options;
  options.device = "";
  std::string detail;
  options.verbs_library = "/nonexistent/libibverbs.so.1";
  CHECK(rdma::make_transport(options)->viable(detail).code == kNotViable);
  CHECK(detail.find("cannot be loaded") != std::string::npos);
  options.verbs_library = "libc.so.6";
  CHECK(rdma::make_transport(options)->viable(detail).code == kNotViable);
  CHECK(detail.find("too old") != std::string::npos);
}

// ---- adapters that fail half-way

TEST_CASE(
    "rdma opening: any call that fails leaves both ends with their stream, a reason, and nothing else") {
  struct Row {
    const char* function;
    unsigned nth;
    int error;
    unsigned times;
  };
  constexpr Row kRows[] = {
      {"ibv_open_device", 1, ENOMEM, 2},
      {"ibv_query_port", 1, EIO, 4},
      {"ibv_alloc_pd", 1, ENOMEM, 1},
      {"ibv_alloc_pd", 2, ENOMEM, 1},
      {"ibv_create_comp_channel", 1, EMFILE, 1},
      {"ibv_create_cq", 1, ENOMEM, 1},
      {"ibv_create_cq", 2, ENOMEM, 1},
      {"ibv_create_cq", 4, ENOMEM, 1},
      {"ibv_create_qp", 1, ENOMEM, 0},
      {"ibv_create_qp", 1, EINVAL, 0},
      {"ibv_reg_mr", 1, ENOMEM, 1},
      {"ibv_reg_mr", 2, ENOMEM, 1},
      {"ibv_modify_qp", 1, EINVAL, 1},
      {"ibv_modify_qp", 3, EINVAL, 1},
      {"ibv_modify_qp", 4, ENETUNREACH, 1},
      {"ibv_modify_qp", 5, ENOMEM, 1},
      {"ibv_post_recv", 1, ENOMEM, 1},
      {"ibv_post_recv", 100, ENOMEM, 1},
      {"ibv_post_send", 1, ENOMEM, 1},
      {"ibv_poll_cq", 1, EIO, 1},
  };
  const auto transport = make_faulty();
  for (const auto& row : kRows) {
    INFO(row.function << " " << row.nth << " " << row.error);
    const Balance balance;
    REQUIRE(fake().fail_call(row.function, row.nth, row.error, row.times) != 0);
    check_not_viable(*transport, *transport, "");
  }
}

TEST_CASE("rdma opening: locked memory that is not granted is told with the limit's name") {
  const Balance balance;
  const auto transport = make_faulty();
  fake().set_memlock(256 << 10);
  Streams streams;
  ConnectResult client, server;
  streams.upgrade(*transport, *transport, client, server);
  CHECK(client.error.code == kNotViable);
  CHECK(client.detail.find("RDMA buffers") != std::string::npos);
  check_stays_usable(streams);
}

TEST_CASE("rdma opening: an adapter that is too small is not viable, and says so to the other end") {
  const Balance balance;
  FakeVerbsDevice device;
  fake().default_device(&device);
  SECTION("send queues") {
    device.max_qp_wr = 127;
    fake().set_devices(&device, 1);
    check_not_viable(*make_faulty(), *make_faulty(), "send queues of 127 entries");
  }
  SECTION("no RDMA READs") {
    device.max_rd_atomic = 0;
    fake().set_devices(&device, 1);
    check_not_viable(*make_faulty(), *make_faulty(), "no RDMA READs");
  }
  SECTION("no queue pair left") {
    device.max_qp = 1;
    fake().set_devices(&device, 1);
    check_not_viable(*make_faulty(), *make_faulty(), "queue pair");
  }
}

TEST_CASE("rdma opening: an adapter that takes nothing inline, or has few entries, carries a connection") {
  const Balance balance;
  FakeVerbsDevice device;
  fake().default_device(&device);
  const bool no_inline = GENERATE(true, false);
  if (no_inline)
    device.max_inline_data = 0;
  else
    device.max_qp_wr = 128;
  fake().set_devices(&device, 1);
  const Victim victim;
}

TEST_CASE("rdma opening: adapters of different kinds do not meet") {
  const Balance balance;
  FakeVerbsDevice devices[2];
  for (auto& device : devices) fake().default_device(&device);
  devices[1].name[4] = '1';
  devices[1].link_layer = IBV_LINK_LAYER_INFINIBAND;
  fake().set_devices(devices, 2);
  check_not_viable(*make_faulty("fake0"), *make_faulty("fake1"), "InfiniBand");
}

TEST_CASE("rdma opening: InfiniBand without global addresses carries a connection") {
  const Balance balance;
  FakeVerbsDevice device;
  fake().default_device(&device);
  device.link_layer = IBV_LINK_LAYER_INFINIBAND;
  fake().set_devices(&device, 1);
  Victim victim;
  tell(victim.ends.server, victim.ends.client);
}

TEST_CASE("rdma opening: a first message that does not come through is found out before it matters") {
  const Balance balance;
  const auto transport = make_faulty();
  SECTION("it fails") {
    fake().fail_work(IBV_WR_SEND_WITH_IMM, 0, 1, IBV_WC_RETRY_EXC_ERR);
    check_not_viable(*transport, *transport, "");
  }
  SECTION("the port goes down meanwhile") {
    fake().fail_work(IBV_WR_SEND_WITH_IMM, 0, 2, IBV_WC_RETRY_EXC_ERR);
    fake().raise_event("fake0", IBV_EVENT_PORT_ERR, 1);
    check_not_viable(*transport, *transport, "");
  }
  SECTION("nothing comes at all") {
    fake().set_mode(FAKE_VERBS_STEP, 0, 0);
    check_not_viable(*transport, *transport, "nothing comes through");
  }
}

// ---- addresses

rdma::StreamAddresses between(std::uint32_t own, std::uint32_t peer) {
  rdma::StreamAddresses addresses;
  const auto set = [](sockaddr_storage& into, std::uint32_t address) {
    auto& in = reinterpret_cast<sockaddr_in&>(into);
    in.sin_family = AF_INET;
    in.sin_addr.s_addr = htonl(address);
  };
  set(addresses.own, own);
  set(addresses.peer, peer);
  return addresses;
}

TEST_CASE("rdma opening: the adapter on the way to the peer is found, by librdmacm or without it") {
  const Balance balance;
  constexpr std::uint32_t kFake0 = 0x0a090001, kFake1 = 0x0a090002;
  auto verbs = rdma::Verbs::load({fake_verbs::path(), fake_verbs::path()});
  REQUIRE(verbs);
  const auto found = [&](std::uint32_t own, std::uint32_t peer) {
    auto port = rdma::open_port(*verbs, {}, between(own, peer), soon());
    return port ? port->device : "none: " + port.error().detail;
  };
  CHECK(found(kFake0, kFake1) == "fake0");
  CHECK(found(kFake1, kFake0) == "fake1");
  SECTION("librdmacm answers with an error") { fake().fail_call("rdma_cm_event", 1, ENODEV, 0); }
  SECTION("the route is not found") { fake().fail_call("rdma_cm_event", 2, EHOSTUNREACH, 1); }
  SECTION("librdmacm never answers") { fake().fail_call("rdma_cm_event", 1, 0, 0); }
  SECTION("librdmacm has no device file") { fake().fail_call("rdma_create_event_channel", 1, ENODEV, 0); }
  SECTION("librdmacm refuses the address") { fake().fail_call("rdma_resolve_addr", 1, EINVAL, 0); }
  SECTION("librdmacm refuses the route") { fake().fail_call("rdma_resolve_route", 1, EINVAL, 0); }
  SECTION("librdmacm makes no identifier") { fake().fail_call("rdma_create_id", 1, ENOMEM, 0); }
  CHECK(found(kFake1, kFake0) == "fake1");  // by its own address
}

// ---- peers that say what is not true

rdma::Message good_offer() {
  rdma::Message offer;
  offer.step = rdma::Step::kOffer;
  offer.good = true;
  offer.parameters.queue_pair = 0x12;
  offer.parameters.packet_sequence = 0x345678;
  offer.parameters.gid.fill(1);
  offer.parameters.ethernet = 1;
  offer.parameters.mtu = IBV_MTU_1024;
  offer.parameters.read_depth = offer.parameters.read_starts = 16;
  offer.parameters.slots = 64;
  offer.parameters.slot_bytes = 8192;
  offer.parameters.machine = rdma::machine_identity();
  return offer;
}

bool accepted(const rdma::Message& message) {
  return rdma::decode(rdma::encode(message), rdma::Step::kOffer).has_value();
}

template <class Field, class Value>
void check_limits(Field rdma::Parameters::*field, std::initializer_list<Value> good,
                  std::initializer_list<Value> bad) {
  for (const auto value : good) {
    auto offer = good_offer();
    offer.parameters.*field = static_cast<Field>(value);
    INFO(std::uint64_t(value));
    CHECK(accepted(offer));
  }
  for (const auto value : bad) {
    auto offer = good_offer();
    offer.parameters.*field = static_cast<Field>(value);
    INFO(std::uint64_t(value));
    CHECK_FALSE(accepted(offer));
  }
}

TEST_CASE("rdma opening: each number of an offer is taken within its limits only") {
  using P = rdma::Parameters;
  REQUIRE(accepted(good_offer()));
  check_limits(&P::queue_pair, {1u, 0xffffffu}, {0u, 0x1000000u, 0xffffffffu});
  check_limits(&P::packet_sequence, {0u, 0xffffffu}, {0x1000000u, 0xffffffffu});
  check_limits(&P::mtu, {1, 5}, {0, 6, 255});
  check_limits(&P::ethernet, {1}, {2, 255});
  check_limits(&P::read_depth, {1, 255}, {0});
  check_limits(&P::read_starts, {1, 255}, {0});
  check_limits(&P::slots, {4, 5, 4096}, {0, 3, 4097, 65535});
  check_limits(&P::slot_bytes, {256u, 1u << 20}, {0u, 255u, (1u << 20) + 1, 0xffffffffu});
  auto offer = good_offer();
  offer.parameters.gid.fill(0);
  CHECK_FALSE(accepted(offer));
  offer = good_offer();
  offer.parameters.ethernet = 0;
  CHECK_FALSE(accepted(offer));
  offer.parameters.lid = 1;
  CHECK(accepted(offer));
}

TEST_CASE("rdma opening: a message survives encoding, and a reason cannot move a terminal") {
  auto offer = good_offer();
  offer.reason = "no\x1b[2J adapter\n";
  const auto decoded = rdma::decode(rdma::encode(offer), rdma::Step::kOffer);
  REQUIRE(decoded);
  CHECK(decoded->parameters == offer.parameters);
  CHECK(decoded->reason == "no?[2J adapter?");
  offer.reason = std::string(1000, 'x');
  const auto cut = rdma::decode(rdma::encode(offer), rdma::Step::kOffer);
  REQUIRE(cut);
  CHECK(cut->reason.size() == 192);
}

TEST_CASE("rdma opening: a connection that is forwarded to another machine is not left for the adapters") {
  const Balance balance;
  const auto machine = GENERATE(std::uint64_t{0}, rdma::machine_identity() + 1);  // unknown, or another
  const End end = GENERATE(End::kClient, End::kExecutor);
  const auto transport = make_faulty();
  Streams streams;
  for (const auto step : {rdma::Step::kOffer, rdma::Step::kReady, rdma::Step::kVerdict}) {
    auto message = good_offer();
    message.step = step;
    message.parameters.machine = machine;
    REQUIRE_FALSE(send_all(*streams.server, rdma::encode(message)));
  }
  const auto result = transport->upgrade(streams.client, end, soon());
  CHECK_FALSE(result.connection);
  CHECK(static_cast<int>(result.error.code) == static_cast<int>(kNotViable));
  CHECK(result.detail.find("forwarded to another machine") != std::string::npos);
  CHECK(fake().posted(-1) == 0);  // nothing was sent past the stream
  const std::string told = receive_text(*streams.server, 2 * rdma::kMessageBytes);
  rdma::MessageBytes second{};
  REQUIRE(told.size() == 2 * second.size());
  std::memcpy(second.data(), told.data() + second.size(), second.size());
  const auto ready = rdma::decode(second, rdma::Step::kReady);
  REQUIRE(ready);
  CHECK_FALSE(ready->good);
  CHECK(ready->reason == result.detail);
}

/// The header's words that are wrong, by their place in the message.
struct Patch {
  std::size_t offset;
  std::uint32_t value;
};

TEST_CASE("rdma opening: a peer's message that is none ends the opening with an error, and leaves nothing") {
  constexpr Patch kPatches[] = {
      {0, 0},            // not this protocol
      {4, 2},            // another release
      {8, 2},            // out of turn
      {12, 2},           // neither good nor bad
      {16, 0},           // no queue pair
      {20, 0x1000000},   // sequence number
      {44, 0xffffffff},  // slots, see below
      {48, 0xffffffff},  // bytes of a slot
      {52, 193},         // a reason beyond the message
      {52, 0xffffffff},
  };
  const auto transport = make_faulty();
  for (const auto& patch : kPatches) {
    INFO(patch.offset << " " << patch.value);
    const Balance balance;
    Streams streams;
    auto bytes = rdma::encode(good_offer());
    std::memcpy(bytes.data() + patch.offset, &patch.value, sizeof patch.value);
    REQUIRE_FALSE(send_all(*streams.server, bytes));
    const auto result = transport->upgrade(streams.client, End::kClient, soon());
    CHECK_FALSE(result.connection);
    CHECK(static_cast<int>(result.error.code) == static_cast<int>(kReset));
    CHECK(result.error.os_error == EPROTO);
    CHECK_FALSE(result.detail.empty());
    CHECK(streams.client);
  }
}

TEST_CASE("rdma opening: a peer that stops in the middle, or leaves after any step, leaves nothing behind") {
  const auto transport = make_faulty();
  for (const std::size_t sent : {0u, 1u, 255u, 256u, 511u, 512u, 767u}) {
    INFO(sent);
    const Balance balance;
    Streams streams;
    std::vector<std::byte> bytes;
    for (const auto step : {rdma::Step::kOffer, rdma::Step::kReady, rdma::Step::kVerdict}) {
      auto message = good_offer();
      message.step = step;
      const auto encoded = rdma::encode(message);
      bytes.insert(bytes.end(), encoded.begin(), encoded.end());
    }
    REQUIRE_FALSE(send_all(*streams.server, ConstBytes(bytes).first(sent)));
    streams.server->close();
    fake().set_timeouts(0);  // the probe goes nowhere
    const auto result = transport->upgrade(streams.client, End::kClient, soon());
    CHECK_FALSE(result.connection);
    CHECK(result.error);
    CHECK(streams.client);
  }
}

TEST_CASE(
    "rdma opening: a peer that claims to be ready with a queue pair that is not there is not believed") {
  const Balance balance;
  const auto transport = make_faulty();
  Streams streams;
  for (const auto step : {rdma::Step::kOffer, rdma::Step::kReady, rdma::Step::kVerdict}) {
    auto message = good_offer();
    message.step = step;
    REQUIRE_FALSE(send_all(*streams.server, rdma::encode(message)));
  }
  fake().set_timeouts(1);
  const auto result = transport->upgrade(streams.client, End::kClient, soon());
  CHECK_FALSE(result.connection);
  CHECK(result.error.code == kNotViable);
  CHECK_FALSE(result.detail.empty());
}

TEST_CASE("rdma opening: a peer that goes on talking beside an open connection breaks it") {
  const Balance balance;
  Streams streams;
  ConnectResult client, server;
  const auto transport = make_faulty();
  streams.upgrade(*transport, *transport, client, server);
  REQUIRE(client.connection);
  REQUIRE(server.connection);
  // Its stream, as the attacker's own.
  const int descriptor = tcp::native_descriptor(*rdma::stream_of(*server.connection));
  REQUIRE(::send(descriptor, "nonsense", 8, 0) == 8);
  check_broken(*client.connection, {kReset, EPROTO});
}

}  // namespace
}  // namespace avec::contract
