// A peer that agreed on an RDMA connection and then uses its queue pair against us: whatever it sends
// breaks the connection, and reaches nothing.
#include <endian.h>

#include "transport/rdma/device.h"
#include "transport/rdma/exchange.h"
#include "transport/rdma/queue_pair.h"
#include "transport/rdma_fault_support.h"

namespace avec::contract {
namespace {

using enum TransportErrc;

constexpr std::uint32_t kData = 1, kCredits = 2, kProbe = 3, kFarewellMessage = 4;
constexpr std::uint32_t word(std::uint32_t kind, std::uint32_t credits = 0) { return kind << 16 | credits; }

/// The other end of a connection, in the hands of somebody else.
class Attacker {
 public:
  Attacker() {
    auto verbs = rdma::Verbs::load({fake_verbs::path(), ""});
    REQUIRE(verbs);
    auto port = rdma::open_port(*verbs, {}, {}, soon());
    REQUIRE(port);
    auto made = rdma::QueuePair::make(std::move(*port));
    REQUIRE(made);
    pair_ = std::move(*made);
    const auto transport = make_faulty();
    ConnectResult result;
    std::thread opening([&] { result = transport->upgrade(streams_.client, End::kClient, soon()); });
    const bool agreed = agree();
    opening.join();
    INFO(result.detail);
    REQUIRE(agreed);
    victim_ = std::move(result.connection);
    REQUIRE(victim_);
  }

  Connection& victim() { return *victim_; }

  /// A request of `bytes` of the attacker's memory.
  void post(ibv_wr_opcode opcode, std::uint32_t immediate, std::uint32_t bytes = 0, std::uint64_t address = 0,
            std::uint32_t rkey = 0) {
    ibv_sge element{reinterpret_cast<std::uintptr_t>(pair_->send_slot(0)), bytes, pair_->slots_key()};
    ibv_send_wr request{};
    request.opcode = opcode;
    request.sg_list = &element;
    request.num_sge = bytes > 0 ? 1 : 0;
    request.send_flags = IBV_SEND_SIGNALED;
    request.imm_data = htobe32(immediate);
    if (opcode == IBV_WR_SEND_WITH_INV) request.invalidate_rkey = rkey;
    if (opcode != IBV_WR_SEND_WITH_INV) request.wr.rdma = {address, rkey};
    const std::scoped_lock lock(pair_->mutex());
    const rdma::Work nobody;
    pair_->poll_sends();
    pair_->post(request, {&nobody, 1});
  }
  TransportError error() {
    const std::scoped_lock lock(pair_->mutex());
    while (pair_->poll_sends()) {
    }
    return pair_->error();
  }
  void leave() {
    streams_.server->close();
    pair_.reset();
  }

 private:
  bool agree() {
    rdma::Message message;
    message.good = true;
    for (const auto step : {rdma::Step::kOffer, rdma::Step::kReady, rdma::Step::kVerdict}) {
      message.step = step;
      message.parameters = step == rdma::Step::kOffer ? pair_->parameters() : rdma::Parameters{};
      const auto theirs = rdma::exchange(*streams_.server, message, soon());
      if (!theirs || !theirs->good) return false;
      if (step == rdma::Step::kOffer && !pair_->connect(theirs->parameters)) return false;
      if (step == rdma::Step::kReady) post(IBV_WR_SEND_WITH_IMM, word(kProbe));
    }
    return true;
  }

  Streams streams_;
  std::unique_ptr<rdma::QueuePair> pair_;
  std::unique_ptr<Connection> victim_;
};

TEST_CASE(
    "rdma hostile: a message of an unknown kind, or of a kind with a wrong size, breaks the connection") {
  struct Row {
    std::uint32_t word, bytes;
  };
  constexpr Row kRows[] = {
      {word(0), 0},     {word(5), 0},        {word(0xffff), 0},           {word(0xffff), 8},
      {word(kData), 0}, {word(kCredits), 1}, {word(kFarewellMessage), 1}, {word(kProbe), 8}};
  for (const auto& row : kRows) {
    INFO(row.word << " " << row.bytes);
    const Balance balance;
    Attacker attacker;
    attacker.post(IBV_WR_SEND_WITH_IMM, row.word, row.bytes);
    check_broken(attacker.victim(), {kReset, EPROTO});
  }
}

TEST_CASE("rdma hostile: credits beyond what was sent break the connection, those that are due do not") {
  for (const std::uint32_t credits : {1u, 64u, 0xffffu}) {
    const Balance balance;
    Attacker attacker;
    attacker.post(IBV_WR_SEND_WITH_IMM, word(kCredits, credits));
    check_broken(attacker.victim(), {kReset, EPROTO});
  }
  const Balance balance;
  Attacker attacker;
  REQUIRE(send_text(attacker.victim(), "x").bytes == 1);
  attacker.post(IBV_WR_SEND_WITH_IMM, word(kCredits, 1));
  CHECK(attacker.victim().wait(false, in(20ms)).code == kTimeout);
  attacker.post(IBV_WR_SEND_WITH_IMM, word(kData, 1), 4);
  check_broken(attacker.victim(), {kReset, EPROTO});
}

TEST_CASE("rdma hostile: nothing may follow a farewell") {
  const Balance balance;
  Attacker attacker;
  attacker.post(IBV_WR_SEND_WITH_IMM, word(kFarewellMessage));
  attacker.post(IBV_WR_SEND_WITH_IMM, word(kData), 4);
  const auto error = error_of_receiving(attacker.victim());
  CHECK((error.code == kReset || error.code == kClosed));
}

TEST_CASE("rdma hostile: other operations than messages break the connection") {
  const Balance balance;
  Attacker attacker;
  int os_error = EPROTO;
  SECTION("a message without a word") { attacker.post(IBV_WR_SEND, 0, 8); }
  SECTION("a write of nothing with a word") { attacker.post(IBV_WR_RDMA_WRITE_WITH_IMM, word(kData)); }
  SECTION("a guessed key") {
    attacker.post(IBV_WR_RDMA_READ, 0, 8, 0x10000, 0x1234);
    os_error = EACCES;
  }
  check_broken(attacker.victim(), {kReset, os_error});
}

TEST_CASE("rdma hostile: a message that is longer than a slot reaches nobody") {
  const Balance balance;
  Attacker attacker;
  attacker.post(IBV_WR_SEND_WITH_IMM, word(kData), rdma::kSlotBytes + 1);
  CHECK(attacker.error().os_error == EREMOTEIO);
  check_broken(attacker.victim(), {kInternal, EMSGSIZE});
}

TEST_CASE(
    "rdma hostile: more messages than there are credits for find no buffer, and harm only their sender") {
  const Balance balance;
  Attacker attacker;
  fake().set_timeouts(0);
  // No more than slots exist: the last finds none, while nothing is received.
  for (unsigned i = 0; i < rdma::kSlots + rdma::kControlSlots + 1; ++i) {
    attacker.post(IBV_WR_SEND_WITH_IMM, word(kData), rdma::kSlotBytes);
  }
  CHECK(attacker.error().os_error == ENOBUFS);
  std::vector<std::byte> got;
  CHECK_FALSE(receive_all(attacker.victim(), got, std::size_t{rdma::kSlots} * rdma::kSlotBytes));
  attacker.leave();
  check_lost(attacker.victim());
}

TEST_CASE("rdma hostile: a peer that invalidates our keys breaks the connection, and gains no other") {
  const Balance balance;
  Attacker attacker;
  Side victim{&attacker.victim(), attacker.victim().one_sided()};
  const Region region(victim, kPage);
  const auto key = allowed(victim, region.bytes(), RemoteAccess::kRead);
  const auto rkey = static_cast<std::uint32_t>(key.words[2]);
  std::byte stolen{};
  REQUIRE(fake().attack(rkey, key.words[0], &stolen, 1, 0) == IBV_WC_SUCCESS);
  CHECK(fake().attack(rkey, key.words[0], &stolen, 1, 1) == IBV_WC_REM_ACCESS_ERR);
  CHECK(fake().attack(rkey, key.words[0] + kPage, &stolen, 1, 0) == IBV_WC_REM_ACCESS_ERR);
  attacker.post(IBV_WR_SEND_WITH_INV, 0, 8, 0, rkey);
  check_broken(attacker.victim(), {kReset, EPROTO});
  victim.access->revoke(key);
  CHECK(fake().attack(rkey, key.words[0], &stolen, 1, 0) == IBV_WC_REM_ACCESS_ERR);
}

}  // namespace
}  // namespace avec::contract
