// Keys and registrations when things go wrong: what a peer has saved of them is worth nothing once
// they were revoked or the connection is over, however it ended.
#include <sys/mman.h>

#include <atomic>

#include "transport/rdma/context.h"
#include "transport/rdma_fault_support.h"

namespace avec::contract {
namespace {

using enum TransportErrc;

/// Devices without type-2 windows register for each key; the rest is the same.
void with_windows(int windows) {
  FakeVerbsDevice device;
  fake().default_device(&device);
  device.windows = windows;
  fake().set_devices(&device, 1);
}

TEST_CASE("rdma keys: only what is allowed can be reached, with windows and without") {
  const int windows = GENERATE(2, 1, 0);
  INFO(windows);
  const Balance balance;
  with_windows(windows);
  Victim victim;
  const Region region(victim.ends.client, 4 * kPage);
  CHECK(fake().live().remote_keys == 0);  // slots and added memory are this end's alone
  CHECK(fake().attack_all(nullptr) == 0);
  const auto key = allowed(victim.ends.client, region.part(kPage, kPage), RemoteAccess::kWrite);
  const auto rkey = static_cast<std::uint32_t>(key.words[2]);
  CHECK(fake().live().remote_keys == 1);
  const auto address = reinterpret_cast<std::uint64_t>(region.bytes().data());
  std::byte byte{7};
  CHECK(fake().attack(rkey, address + kPage, &byte, 1, 1) == IBV_WC_SUCCESS);
  CHECK(fake().attack(rkey, address + kPage, &byte, 1, 0) == IBV_WC_REM_ACCESS_ERR);
  CHECK(fake().attack(rkey, address + kPage - 1, &byte, 1, 1) == IBV_WC_REM_ACCESS_ERR);
  CHECK(fake().attack(rkey, address + 2 * kPage, &byte, 1, 1) == IBV_WC_REM_ACCESS_ERR);
  victim.ends.client.access->revoke(key);
  CHECK(fake().attack(rkey, address + kPage, &byte, 1, 1) == IBV_WC_REM_ACCESS_ERR);
  unsigned ever = 0;
  CHECK(fake().attack_all(&ever) == 0);
  CHECK(ever == 1);
  CHECK(fake().live().windows == (windows == 2 ? 1 : 0));
}

TEST_CASE("rdma keys: no end of a connection leaves a key that works, with windows and without") {
  const int windows = GENERATE(2, 0);
  const std::string end = GENERATE("closed", "destroyed", "peer closed", "peer destroyed", "flushed", "fatal",
                                   "queue pair fatal", "port down");
  INFO(end << " " << windows);
  const Balance balance;
  with_windows(windows);
  Victim victim;
  auto* const access = victim.ends.client.access;
  std::vector<std::byte> memory(16 * kPage);
  REQUIRE_FALSE(access->add(memory));
  for (int i = 0; i < 16; ++i) {
    RemoteKey key;
    REQUIRE_FALSE(access->allow(MutableBytes(memory).subspan(i * kPage, kPage),
                                i % 2 == 0 ? RemoteAccess::kRead : RemoteAccess::kWrite, key));
  }
  tell(victim.ends.client, victim.ends.server);
  CHECK(fake().attack_all(nullptr) == 16);
  if (end == "closed") victim.client().close();
  if (end == "destroyed") victim.ends.pair.client.reset();
  if (end == "peer closed") victim.server().close();
  if (end == "peer destroyed") victim.ends.pair.server.reset();
  if (end == "flushed") fake().fail_work(-1, victim.client_qp, 1, IBV_WC_WR_FLUSH_ERR);
  if (end == "fatal") fake().raise_event("fake0", IBV_EVENT_DEVICE_FATAL, 0);
  if (end == "queue pair fatal") fake().raise_event("fake0", IBV_EVENT_QP_FATAL, victim.client_qp);
  if (end == "port down") fake().set_port("fake0", 1, IBV_PORT_DOWN);
  if (victim.ends.pair.client) {
    static_cast<void>(send_text(victim.client(), "x"));
    CHECK(end_of(victim.client()) != kTimeout);
    if (end != "peer closed" && end != "peer destroyed") CHECK(fake().attack_all(nullptr) == 0);
    victim.client().close();
  }
  CHECK(fake().attack_all(nullptr) == 0);
  CHECK(fake().live().remote_keys == 0);
  CHECK(fake().live().windows == 0);
}

TEST_CASE(
    "rdma keys: a key cannot be revoked by an adapter that is stuck, so the connection ends, and the key "
    "with it") {
  const Balance balance;
  Victim victim;
  const Region region(victim.ends.client, kPage);
  const auto key = allowed(victim.ends.client, region.bytes(), RemoteAccess::kRead);
  tell(victim.ends.client, victim.ends.server);
  CHECK(fake().attack_all(nullptr) == 1);
  fake().stall(victim.client_qp, 1);
  victim.ends.client.access->revoke(key);  // returns at a deadline of its own
  CHECK(fake().attack_all(nullptr) == 0);
  check_broken(victim.client(), {kReset, ETIMEDOUT});
}

TEST_CASE("rdma keys: an invalidation that fails ends the connection, and the key with it") {
  const Balance balance;
  Victim victim;
  const Region region(victim.ends.client, kPage);
  const auto key = allowed(victim.ends.client, region.bytes(), RemoteAccess::kRead);
  fake().fail_work(IBV_WR_LOCAL_INV, 0, 1, IBV_WC_LOC_QP_OP_ERR);
  victim.ends.client.access->revoke(key);
  CHECK(fake().attack_all(nullptr) == 0);
  check_broken(victim.client(), {kInternal, EINVAL});
}

TEST_CASE("rdma keys: a bind that fails breaks the connection, and gives no key that works") {
  const Balance balance;
  Victim victim;
  const Region region(victim.ends.client, kPage);
  fake().fail_work(IBV_WR_BIND_MW, 0, 1, IBV_WC_MW_BIND_ERR);
  RemoteKey key;
  static_cast<void>(victim.ends.client.access->allow(region.bytes(), RemoteAccess::kRead, key));
  check_broken(victim.client(), {kReset, EACCES});
  victim.ends.client.access->revoke(key);
  CHECK(fake().attack_all(nullptr) == 0);
}

TEST_CASE("rdma keys: windows that run out, or registrations, are told, and end with no harm") {
  const Balance balance;
  FakeVerbsDevice device;
  fake().default_device(&device);
  const bool windows = GENERATE(true, false);
  device.max_mw = 3;
  if (!windows) {
    device.windows = 0;
    device.max_mr = 7;  // the slots of both ends, their memory, and three keys
  }
  fake().set_devices(&device, 1);
  Victim victim;
  const Region region(victim.ends.client, kPage), own(victim.ends.server, kPage);
  std::vector<RemoteKey> keys(3);
  for (auto& key : keys) key = allowed(victim.ends.client, region.bytes(), RemoteAccess::kRead);
  RemoteKey another;
  CHECK(victim.ends.client.access->allow(region.bytes(), RemoteAccess::kRead, another).code == kResources);
  CHECK_FALSE(another);
  victim.ends.client.access->revoke(keys[1]);
  another = allowed(victim.ends.client, region.bytes(), RemoteAccess::kRead);
  tell(victim.ends.client, victim.ends.server);
  CHECK_FALSE(fetch(victim.ends.server, another, 0, own.bytes()));
}

TEST_CASE("rdma keys: under a memlock limit of 8 MiB connections open, and what is too much is refused") {
  const Balance balance;
  fake().set_memlock(8 << 20);
  Victim victim;
  std::vector<std::byte> large(9 << 20), small(1 << 20);
  auto* const access = victim.ends.client.access;
  const auto error = access->add(large);
  CHECK(static_cast<int>(error.code) == static_cast<int>(kResources));
  CHECK(error.os_error == ENOMEM);
  const auto result = access->allocate(16 << 20, nullptr);
  CHECK(static_cast<int>(result.error.code) == static_cast<int>(kResources));
  CHECK(result.memory.empty());
  CHECK_FALSE(access->add(small));
  RemoteKey key;
  CHECK_FALSE(access->allow(small, RemoteAccess::kRead, key));
  tell(victim.ends.client, victim.ends.server);
  access->remove(small);
  CHECK(fake().attack_all(nullptr) == 0);
}

TEST_CASE("rdma keys: memory that cannot be pinned is not viable, read-only memory can be read only") {
  const Balance balance;
  Victim victim;
  auto* const access = victim.ends.client.access;
  auto* const pages =
      static_cast<std::byte*>(::mmap(nullptr, 2 * kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(pages != MAP_FAILED);
  const MutableBytes memory(pages, 2 * kPage);
  REQUIRE_FALSE(access->add(memory));
  RemoteKey key;
  CHECK(access->allow(memory, RemoteAccess::kWrite, key));
  CHECK_FALSE(key);
  REQUIRE_FALSE(access->allow(memory, RemoteAccess::kRead, key));
  std::byte byte{};
  const auto rkey = static_cast<std::uint32_t>(key.words[2]);
  CHECK(fake().attack(rkey, key.words[0], &byte, 1, 0) == IBV_WC_SUCCESS);
  CHECK(fake().attack(rkey, key.words[0], &byte, 1, 1) == IBV_WC_REM_ACCESS_ERR);
  access->remove(memory);
  CHECK(fake().attack_all(nullptr) == 0);
  ::mprotect(pages, kPage, PROT_NONE);
  CHECK(static_cast<int>(access->add(memory).code) == static_cast<int>(kNotViable));
  ::munmap(pages, 2 * kPage);
}

TEST_CASE("rdma keys: memory is taken back only once accesses into it have ended, or the connection has") {
  const Balance balance;
  Victim victim;
  const Region theirs(victim.ends.client, kPage);
  const auto key = allowed(victim.ends.client, theirs.bytes(), RemoteAccess::kRead);
  tell(victim.ends.client, victim.ends.server);
  auto* const access = victim.ends.server.access;
  std::vector<std::byte> own(kPage);
  REQUIRE_FALSE(access->add(own));
  fake().stall(victim.server_qp, 1);
  REQUIRE(access->read(key, 0, own, 1).bytes == kPage);
  const bool goes_on = GENERATE(true, false);
  std::thread adapter([&] {
    if (!goes_on) return;
    std::this_thread::sleep_for(50ms);
    fake().stall(victim.server_qp, 0);
  });
  access->remove(own);
  adapter.join();
  OneSidedCompletion ended;
  std::size_t count = 0;
  REQUIRE_FALSE(await_completions(victim.ends.server, {&ended, 1}, count));
  CHECK(ended.error.code == (goes_on ? kNone : kReset));
  if (!goes_on) check_broken(victim.server(), {kReset, ETIMEDOUT});
}

TEST_CASE("rdma keys: a key of memory that was added twice ends with the last of both, whichever covers it") {
  const int windows = GENERATE(2, 0);
  const Balance balance;
  with_windows(windows);
  Victim victim;
  auto* const access = victim.ends.client.access;
  std::vector<std::byte> memory(4 * kPage);
  const MutableBytes all(memory), part = all.subspan(kPage, kPage);
  REQUIRE_FALSE(access->add(part));
  const auto key = allowed(victim.ends.client, part, RemoteAccess::kRead);
  REQUIRE_FALSE(access->add(all));
  tell(victim.ends.client, victim.ends.server);
  access->remove(part);
  CHECK(fake().attack_all(nullptr) == 1);
  access->remove(all);
  CHECK(fake().attack_all(nullptr) == 0);
  access->revoke(key);
}

TEST_CASE("rdma keys: a key whose registration is under way does not outlive the taking back of its memory") {
  const Balance balance;
  with_windows(0);
  Victim victim;
  auto* const access = victim.ends.client.access;
  std::vector<std::byte> memory(kPage);
  REQUIRE_FALSE(access->add(memory));
  const auto before = fake().calls("ibv_reg_mr");
  fake().hold_registrations(1);
  RemoteKey key;
  std::thread allowing([&] { static_cast<void>(access->allow(memory, RemoteAccess::kWrite, key)); });
  while (fake().calls("ibv_reg_mr") == before) std::this_thread::yield();
  std::atomic<bool> removed{false};
  std::thread removing([&] {
    access->remove(memory);
    removed = true;
  });
  std::this_thread::sleep_for(50ms);
  CHECK_FALSE(removed);  // or the memory might be somebody else's by now
  fake().hold_registrations(0);
  removing.join();
  CHECK(fake().attack_all(nullptr) == 0);
  allowing.join();
  CHECK(fake().attack_all(nullptr) == 0);
}

TEST_CASE("rdma keys: a key that waits for room in the send queue is none of memory taken back meanwhile") {
  const Balance balance;
  FakeVerbsDevice device;
  fake().default_device(&device);
  device.max_qp_wr = rdma::kLeastSendDepth;
  fake().set_devices(&device, 1);
  Victim victim;
  const Region theirs(victim.ends.server, kPage), own(victim.ends.client, kPage);
  const auto source = allowed(victim.ends.server, theirs.bytes(), RemoteAccess::kRead);
  tell(victim.ends.server, victim.ends.client);
  auto* const access = victim.ends.client.access;
  std::vector<std::byte> memory(kPage);
  REQUIRE_FALSE(access->add(memory));
  fake().stall(victim.client_qp, 1);
  std::size_t reads = 0;
  while (access->read(source, 0, own.bytes(), reads).bytes > 0) ++reads;
  for (auto room = rdma::kMemoryReserve - rdma::kControlReserve; room > 0; --room) {
    allowed(victim.ends.client, own.bytes(), RemoteAccess::kRead);
  }
  RemoteKey key;
  TransportError error;
  std::thread allowing([&] { error = access->allow(memory, RemoteAccess::kRead, key); });
  std::this_thread::sleep_for(50ms);
  access->remove(memory);
  fake().stall(victim.client_qp, 0);
  allowing.join();
  CHECK(static_cast<int>(error.code) == static_cast<int>(kInternal));
  CHECK_FALSE(key);
  CHECK(fake().attack(static_cast<std::uint32_t>(key.words[2]),
                      reinterpret_cast<std::uint64_t>(memory.data()), memory.data(), 1,
                      0) == IBV_WC_REM_ACCESS_ERR);
  std::vector<OneSidedCompletion> ended(reads);
  std::size_t count = 0;
  REQUIRE_FALSE(await_completions(victim.ends.client, ended, count));
}

}  // namespace
}  // namespace avec::contract
