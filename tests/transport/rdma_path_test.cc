// What the RDMA transport does while it carries bytes: what it must not do (register, allocate), and
// that it goes on when queues and credits run out and completions come late or out of order.
#include <cstdlib>
#include <new>

#include "transport/rdma/context.h"
#include "transport/rdma_fault_support.h"

namespace {
std::atomic<unsigned> allocations{0};

void* counted(std::size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
}  // namespace

// All of the program's, the transport's and the fake's own.
void* operator new(std::size_t bytes) { return counted(bytes); }
void* operator new[](std::size_t bytes) { return counted(bytes); }
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(bytes == 0 ? 1 : bytes);
}
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(bytes == 0 ? 1 : bytes);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace avec::contract {
namespace {

using enum TransportErrc;

/// Sends `bytes` from one end and receives them at the other, alternately; false on any error.
bool carry(Connection& from, Connection& to, ConstBytes bytes, MutableBytes into) {
  const auto until = soon();
  while (!into.empty()) {
    const auto sent = from.send({&bytes, 1});
    const auto got = to.receive({&into, 1});
    if (sent.error || got.error || std::chrono::steady_clock::now() > until) return false;
    bytes = bytes.subspan(sent.bytes);
    into = into.subspan(got.bytes);
  }
  return true;
}

/// One copy by a key, from allow() to revoke(); false on any error.
bool copy_once(Victim& victim, MutableBytes theirs, MutableBytes own, bool reads) {
  RemoteKey key;
  auto& owner = *victim.ends.client.access;
  auto& peer = *victim.ends.server.access;
  if (owner.allow(theirs, reads ? RemoteAccess::kRead : RemoteAccess::kWrite, key)) return false;
  std::byte mark{1};
  if (!carry(victim.client(), victim.server(), {&mark, 1}, {&mark, 1})) return false;
  const auto started = reads ? peer.read(key, 0, own, 1) : peer.write(key, 0, own, 1);
  if (started.error || started.bytes != own.size()) return false;
  OneSidedCompletion ended;
  const auto until = soon();
  while (peer.completed({&ended, 1}) == 0) {
    if (std::chrono::steady_clock::now() > until) return false;
  }
  owner.revoke(key);
  return !ended.error;
}

unsigned control_calls() {
  unsigned sum = 0;
  for (const char* function :
       {"ibv_reg_mr", "ibv_dereg_mr", "ibv_alloc_mw", "ibv_dealloc_mw", "ibv_create_qp", "ibv_create_cq",
        "ibv_alloc_pd", "ibv_open_device", "ibv_modify_qp", "ibv_query_qp", "ibv_query_device"}) {
    sum += fake().calls(function);
  }
  return sum;
}

TEST_CASE("rdma path: messages and copies neither allocate nor register, nor call the adapter's control") {
  const Balance balance;
  Victim victim;
  const Region theirs(victim.ends.client, 64 * kPage), own(victim.ends.server, 64 * kPage);
  std::vector<std::byte> out = random_bytes(100'000, 1), in(out.size());
  const auto once = [&](std::size_t i) {
    const auto bytes = 1 + i * 977 % out.size();
    return carry(victim.client(), victim.server(), ConstBytes(out).first(bytes),
                 MutableBytes(in).first(bytes)) &&
           carry(victim.server(), victim.client(), ConstBytes(out).first(bytes),
                 MutableBytes(in).first(bytes)) &&
           copy_once(victim, theirs.part(0, bytes), own.part(0, bytes), i % 2 == 0);
  };
  bool good = true;
  for (std::size_t i = 0; i < 20; ++i) good = once(i) && good;  // the first window, the first sizes
  const auto before = allocations.load(), calls = control_calls();
  for (std::size_t i = 0; i < 500; ++i) good = once(i) && good;
  const auto allocated = allocations.load() - before, called = control_calls() - calls;
  CHECK(good);
  CHECK(before > 0);  // they are counted
  CHECK(allocated == 0);
  CHECK(called == 0);
}

TEST_CASE("rdma path: waiting and waking neither allocate nor register") {
  const Balance balance;
  Victim victim;
  const auto once = [&] {
    victim.client().wake();
    victim.client().wait(false, soon());
    std::byte byte{};
    const ConstBytes out(&byte, 1);
    victim.server().send({&out, 1});
    victim.client().arm();
    victim.client().wait(false, soon());
    const MutableBytes into(&byte, 1);
    return victim.client().receive({&into, 1}).bytes == 1;
  };
  bool good = once();
  const auto before = allocations.load(), calls = control_calls();
  for (int i = 0; i < 200; ++i) good = once() && good;
  const auto allocated = allocations.load() - before, called = control_calls() - calls;
  CHECK(good);
  CHECK(before > 0);  // they are counted
  CHECK(allocated == 0);
  CHECK(called == 0);
}

TEST_CASE("rdma path: a small message is one work request") {
  const Balance balance;
  Victim victim;
  const auto before = fake().posted(-1);
  for (int i = 0; i < 32; ++i) REQUIRE(send_text(victim.client(), "small").bytes == 5);
  CHECK(fake().posted(-1) - before == 32);
}

TEST_CASE("rdma path: a peer that receives nothing uses up the credits, and no message finds no buffer") {
  const Balance balance;
  Victim victim;
  const auto data = random_bytes(4 << 20, 2);
  std::size_t accepted = 0;
  while (true) {
    const auto rest = ConstBytes(data).subspan(accepted);
    const auto result = victim.client().send({&rest, 1});
    REQUIRE_FALSE(result.error);
    accepted += result.bytes;
    if (result.bytes == 0) break;
  }
  CHECK(accepted > 0);
  CHECK(accepted <= std::size_t{rdma::kSlots} * rdma::kSlotBytes);
  for (int i = 0; i < 100; ++i) CHECK(send_text(victim.client(), "x").bytes == 0);
  CHECK(victim.client().wait(true, in(20ms)).code == kTimeout);
  // A credit for each message that fits one slot each, whatever its size.
  std::vector<std::byte> got;
  REQUIRE_FALSE(receive_all(victim.server(), got, accepted));
  CHECK(same(got, ConstBytes(data).first(accepted)));
  CHECK_FALSE(victim.client().wait(true, soon()));
  CHECK(send_text(victim.client(), "x").bytes == 1);
}

TEST_CASE("rdma path: both ends without credits get going again when both receive") {
  const Balance balance;
  Victim victim;
  const auto data = random_bytes(2 << 20, 3);
  std::size_t sent[2] = {};
  for (const int end : {0, 1}) {
    auto& connection = end == 0 ? victim.client() : victim.server();
    while (true) {
      const auto rest = ConstBytes(data).subspan(sent[end]);
      const auto result = connection.send({&rest, 1});
      REQUIRE_FALSE(result.error);
      if (result.bytes == 0) break;
      sent[end] += result.bytes;
    }
  }
  std::vector<std::byte> up, down;
  REQUIRE_FALSE(receive_all(victim.server(), up, sent[0]));
  REQUIRE_FALSE(receive_all(victim.client(), down, sent[1]));
  CHECK(same(up, ConstBytes(data).first(sent[0])));
  CHECK(same(down, ConstBytes(data).first(sent[1])));
  tell(victim.ends.client, victim.ends.server);
  tell(victim.ends.server, victim.ends.client);
}

TEST_CASE("rdma path: a full send queue holds back, overflows nothing, and drains in order") {
  const Balance balance;
  FakeVerbsDevice device;
  fake().default_device(&device);
  device.max_qp_wr = rdma::kLeastSendDepth;
  fake().set_devices(&device, 1);
  Victim victim;
  const Region theirs(victim.ends.client, kPage), own(victim.ends.server, kPage);
  const auto key = allowed(victim.ends.client, theirs.bytes(), RemoteAccess::kRead);
  tell(victim.ends.client, victim.ends.server);
  fake().stall(victim.server_qp, 1);
  std::uint64_t started = 0;
  while (true) {
    const auto result = victim.ends.server.access->read(key, 0, own.bytes(), started + 1);
    REQUIRE_FALSE(result.error);
    if (result.bytes == 0) break;
    REQUIRE(++started < 10'000);
  }
  CHECK(started > 0);
  CHECK(fake().deepest_send_queue() <= rdma::kLeastSendDepth);
  CHECK(send_text(victim.server(), "x").bytes == 0);  // no room either, and no error
  fake().stall(victim.server_qp, 0);
  std::uint64_t ended = 0;
  while (ended < started) {
    OneSidedCompletion some[8];
    std::size_t count = 0;
    REQUIRE_FALSE(await_completions(victim.ends.server, some, count));
    for (std::size_t i = 0; i < count; ++i) {
      CHECK_FALSE(some[i].error);
      CHECK(some[i].token == ++ended);
    }
  }
  tell(victim.ends.server, victim.ends.client);
}

TEST_CASE("rdma path: revoking works while the send queue is full of payload") {
  const Balance balance;
  Victim victim;
  const Region theirs(victim.ends.client, kPage), own(victim.ends.server, kPage);
  const auto back = allowed(victim.ends.server, own.bytes(), RemoteAccess::kRead);
  const auto key = allowed(victim.ends.client, theirs.bytes(), RemoteAccess::kRead);
  tell(victim.ends.client, victim.ends.server);
  fake().set_mode(FAKE_VERBS_THREAD, 200, 0);
  for (std::uint64_t token = 1; victim.ends.server.access->read(key, 0, own.bytes(), token).bytes > 0;
       ++token) {
  }
  victim.ends.server.access->revoke(back);
  CHECK(fake().attack_all(nullptr) == 1);
  std::size_t count = 1;
  OneSidedCompletion some[64];
  while (victim.client().wait(false, in(-1ms)), victim.server().wait(false, in(200ms)).code == kNone) {
    count = victim.ends.server.access->completed(some);
    for (std::size_t i = 0; i < count; ++i) CHECK_FALSE(some[i].error);
  }
  victim.ends.client.access->revoke(key);
}

TEST_CASE("rdma path: late completions, in any order of the queue pairs, change nothing that arrives") {
  const unsigned seed = GENERATE(0u, 1u, 2u, 3u);
  const unsigned delay_us = GENERATE(0u, 100u);
  INFO(seed << " " << delay_us);
  const Balance balance;
  fake().set_mode(FAKE_VERBS_THREAD, delay_us, seed);
  Victim victim;
  const auto up = random_bytes(700'000, seed), down = random_bytes(700'000, seed + 100);
  std::vector<std::byte> got_up(up.size()), got_down(down.size());
  TransportError errors[4];
  std::thread server([&] {
    errors[0] = receive_scattered(victim.server(), got_up, seed, 20'000);
    errors[1] = send_scattered(victim.server(), down, seed, 20'000);
  });
  errors[2] = send_scattered(victim.client(), up, seed, 20'000);
  errors[3] = receive_scattered(victim.client(), got_down, seed, 20'000);
  server.join();
  for (const auto& error : errors) CHECK(error.code == kNone);
  CHECK((got_up == up));
  CHECK((got_down == down));
  const Region theirs(victim.ends.client, 3 << 20), own(victim.ends.server, 3 << 20);
  const auto payload = random_bytes(3 << 20, seed + 7);
  theirs.fill(payload);
  const auto key = allowed(victim.ends.client, theirs.bytes(), RemoteAccess::kRead);
  tell(victim.ends.client, victim.ends.server);
  CHECK_FALSE(fetch(victim.ends.server, key, 0, own.bytes()));
  CHECK(same(own.bytes(), payload));
  victim.ends.client.access->revoke(key);
  victim.client().close();
  CHECK(end_of(victim.server()) == kClosed);
}

TEST_CASE("rdma path: bytes that send() has taken may be overwritten before the adapter reads them") {
  const Balance balance;
  Victim victim;
  fake().stall(victim.client_qp, 1);
  std::vector<std::byte> data = random_bytes(100'000, 9), kept = data;
  const ConstBytes bytes(data);
  const auto sent = victim.client().send({&bytes, 1});
  REQUIRE(sent.bytes > 0);
  std::fill(data.begin(), data.end(), std::byte{0xee});
  fake().stall(victim.client_qp, 0);
  std::vector<std::byte> got;
  REQUIRE_FALSE(receive_all(victim.server(), got, sent.bytes));
  CHECK(same(got, ConstBytes(kept).first(sent.bytes)));
}

}  // namespace
}  // namespace avec::contract
