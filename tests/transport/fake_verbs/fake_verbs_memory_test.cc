// Who may reach what memory through the fake.
#include <sys/mman.h>

#include "transport/fake_verbs/end.h"

namespace fake_verbs {
namespace {

TEST_CASE("a registration needs mapped memory with the rights that are asked for") {
  Fresh fresh;
  End end;
  auto* pages =
      static_cast<unsigned char*>(::mmap(nullptr, 3 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(pages != MAP_FAILED);
  ::munmap(pages + 8192, 4096);
  ibv_mr* readable = ibv_reg_mr(end.domain, pages, 8192, IBV_ACCESS_REMOTE_READ);
  CHECK(readable != nullptr);
  CHECK(ibv_dereg_mr(readable) == 0);
  CHECK(ibv_reg_mr(end.domain, pages, 8192, IBV_ACCESS_LOCAL_WRITE) == nullptr);
  CHECK(errno == EFAULT);
  CHECK(ibv_reg_mr(end.domain, pages, 8193, 0) == nullptr);
  CHECK(errno == EFAULT);
  ::mprotect(pages, 4096, PROT_NONE);
  CHECK(ibv_reg_mr(end.domain, pages, 8192, 0) == nullptr);
  CHECK(ibv_reg_mr(end.domain, end.memory.data(), 64, IBV_ACCESS_REMOTE_WRITE) == nullptr);
  CHECK(errno == EINVAL);  // without the right to write of this end
  ::munmap(pages, 8192);
}

TEST_CASE("the memlock limit counts whole pages of everything registered") {
  Fresh fresh;
  End end;  // a page or two
  const auto before = fake.live().locked_bytes_kib;
  std::vector<unsigned char> memory(1 << 20);
  fake.set_memlock((before << 10) + (64 << 10));
  ibv_mr* half = ibv_reg_mr(end.domain, memory.data(), 32 << 10, 0);
  REQUIRE(half != nullptr);
  CHECK(ibv_reg_mr(end.domain, memory.data() + (100 << 10), 64 << 10, 0) == nullptr);
  CHECK(errno == ENOMEM);
  CHECK(ibv_dereg_mr(half) == 0);
  CHECK(fake.live().locked_bytes_kib == before);
}

TEST_CASE("keys of the wrong kind, range, right or domain let nobody in") {
  Fresh fresh;
  Connection connection;
  auto& [a, b] = connection;
  ibv_mr* read_only = ibv_reg_mr(b.domain, b.memory.data(), 64, IBV_ACCESS_REMOTE_READ);
  ibv_pd* other_domain = ibv_alloc_pd(b.context);
  ibv_mr* elsewhere = ibv_reg_mr(other_domain, b.memory.data(), 64, IBV_ACCESS_REMOTE_READ);
  std::uint32_t key = 0;
  std::size_t offset = 0;
  auto opcode = IBV_WR_RDMA_READ;
  SECTION("lkey") { key = b.region->lkey; }
  SECTION("one byte beyond") { key = b.region->rkey, offset = End::kBytes - 7; }
  SECTION("write to what may be read") { key = read_only->rkey, opcode = IBV_WR_RDMA_WRITE; }
  SECTION("another domain") { key = elsewhere->rkey; }
  REQUIRE(a.access(opcode, b, key, offset) == 0);
  CHECK(a.status() == IBV_WC_REM_ACCESS_ERR);
  CHECK(a.state() == IBV_QPS_ERR);
  CHECK(b.state() == IBV_QPS_ERR);
  CHECK(b.event() == IBV_EVENT_QP_ACCESS_ERR);
  CHECK(ibv_dereg_mr(read_only) == 0);
  CHECK(ibv_dereg_mr(elsewhere) == 0);
  CHECK(ibv_dealloc_pd(other_domain) == 0);
}

TEST_CASE("a window serves its range, its rights and its queue pair, until it is invalidated") {
  Fresh fresh;
  Connection connection, other;
  auto& [a, b] = connection;
  ibv_mw* window = ibv_alloc_mw(b.domain, IBV_MW_TYPE_2);
  REQUIRE(window != nullptr);
  const auto key = ibv_inc_rkey(window->rkey);
  REQUIRE(b.bind(window, key, 64, 64, IBV_ACCESS_REMOTE_READ) == 0);
  REQUIRE(b.status() == IBV_WC_SUCCESS);
  b.memory[64] = 77;
  REQUIRE(a.access(IBV_WR_RDMA_READ, b, key, 64, 64) == 0);
  CHECK(a.status() == IBV_WC_SUCCESS);
  CHECK(a.memory[0] == 77);
  SECTION("invalidated") {
    REQUIRE(b.invalidate(key) == 0);
    CHECK(b.status() == IBV_WC_SUCCESS);
    REQUIRE(a.access(IBV_WR_RDMA_READ, b, key, 64) == 0);
    CHECK(a.status() == IBV_WC_REM_ACCESS_ERR);
    CHECK(fake.attack_all(nullptr) == 2);  // the regions of the other connection
    CHECK(b.event() == IBV_EVENT_QP_ACCESS_ERR);
  }
  SECTION("before its range") {
    REQUIRE(a.access(IBV_WR_RDMA_READ, b, key, 63) == 0);
    CHECK(a.status() == IBV_WC_REM_ACCESS_ERR);
    CHECK(b.event() == IBV_EVENT_QP_ACCESS_ERR);
  }
  SECTION("written") {
    REQUIRE(a.access(IBV_WR_RDMA_WRITE, b, key, 64) == 0);
    CHECK(a.status() == IBV_WC_REM_ACCESS_ERR);
    CHECK(b.event() == IBV_EVENT_QP_ACCESS_ERR);
  }
  SECTION("invalidated by the peer's message") {
    REQUIRE(b.receive() == 0);
    ibv_sge sge;
    auto work = a.request(IBV_WR_SEND_WITH_INV, sge, 8);
    work.invalidate_rkey = key;
    REQUIRE(a.post(work) == 0);
    ibv_wc wc;
    REQUIRE(ibv_poll_cq(b.queue, 1, &wc) == 1);
    CHECK(wc.wc_flags == IBV_WC_WITH_INV);
    CHECK(wc.invalidated_rkey == key);
    CHECK(a.status() == IBV_WC_SUCCESS);
    REQUIRE(a.access(IBV_WR_RDMA_READ, b, key, 64) == 0);
    CHECK(a.status() == IBV_WC_REM_ACCESS_ERR);
    CHECK(b.event() == IBV_EVENT_QP_ACCESS_ERR);
  }
  SECTION("bound again while it is bound") {
    REQUIRE(b.bind(window, ibv_inc_rkey(key), 64, 64, IBV_ACCESS_REMOTE_READ) == 0);
    CHECK(b.status() == IBV_WC_MW_BIND_ERR);
  }
  SECTION("a stranger's key invalidated") {
    REQUIRE(other.b.invalidate(key) == 0);
    CHECK(other.b.status() == IBV_WC_LOC_QP_OP_ERR);
  }
  CHECK(ibv_dealloc_mw(window) == 0);
}

TEST_CASE("a region with a bound window cannot be deregistered") {
  Fresh fresh;
  fresh.violation = "ibv_dereg_mr while a window is bound to the region";
  Connection connection;
  auto& b = connection.b;
  ibv_mw* window = ibv_alloc_mw(b.domain, IBV_MW_TYPE_2);
  REQUIRE(b.bind(window, ibv_inc_rkey(window->rkey), 0, 64, IBV_ACCESS_REMOTE_READ) == 0);
  CHECK(ibv_dereg_mr(b.region) == EBUSY);
  CHECK(ibv_dealloc_mw(window) == 0);
}

TEST_CASE("an adapter without windows says that it has none") {
  Fresh fresh;
  FakeVerbsDevice device;
  fake.default_device(&device);
  for (const int windows : {0, 1}) {
    device.windows = windows;
    fake.set_devices(&device, 1);
    End end;
    CHECK(ibv_alloc_mw(end.domain, IBV_MW_TYPE_2) == nullptr);
    CHECK(errno == EOPNOTSUPP);
    ibv_device_attr attributes;
    REQUIRE(ibv_query_device(end.context, &attributes) == 0);
    CHECK((attributes.device_cap_flags & (IBV_DEVICE_MEM_WINDOW_TYPE_2A | IBV_DEVICE_MEM_WINDOW_TYPE_2B)) ==
          0);
  }
}

TEST_CASE("an attack with a live key succeeds, with a dead one it does not") {
  Fresh fresh;
  Connection connection;
  auto& b = connection.b;
  const auto address = reinterpret_cast<std::uint64_t>(b.memory.data());
  const auto rkey = b.region->rkey;
  b.memory[0] = 42;
  unsigned char got = 0, given = 43;
  CHECK(fake.attack(rkey, address, &got, 1, 0) == IBV_WC_SUCCESS);
  CHECK(got == 42);
  CHECK(fake.attack(rkey, address, &given, 1, 1) == IBV_WC_SUCCESS);
  CHECK(b.memory[0] == 43);
  CHECK(fake.attack(rkey, address + End::kBytes, &got, 1, 0) == IBV_WC_REM_ACCESS_ERR);
  CHECK(fake.live().remote_keys == 2);
  CHECK(ibv_dereg_mr(b.region) == 0);
  b.region = nullptr;
  CHECK(fake.attack(rkey, address, &got, 1, 0) == IBV_WC_REM_ACCESS_ERR);
  unsigned ever = 0;
  CHECK(fake.attack_all(&ever) == 1);
  CHECK(ever == 2);
  CHECK(fake.live().remote_keys == 1);
}

}  // namespace
}  // namespace fake_verbs
