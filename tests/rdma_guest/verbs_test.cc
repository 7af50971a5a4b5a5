// What AVEC's RDMA transport needs of an adapter, asked of the guest's soft-RoCE with plain verbs:
// when one of these fails, the guest is broken; when only others fail, AVEC is.
#include <linux/capability.h>
#include <poll.h>
#include <rdma/rdma_cma.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <thread>

#include "verbs_pair.h"

namespace avec::rdma_guest {
namespace {

bool readable(int descriptor) {
  pollfd entry{descriptor, POLLIN, 0};
  return ::poll(&entry, 1, std::chrono::milliseconds(kDeadline).count()) == 1;
}

TEST_CASE("Each address belongs to an adapter whose port is active and carries 4096 bytes a packet") {
  for (const char* address : {kRequesterAddress, kResponderAddress}) {
    INFO(address);
    std::optional<Adapter> adapter = find_adapter(address);
    REQUIRE(adapter);
    ibv_port_attr port{};
    REQUIRE(ibv_query_port(adapter->context.get(), kPort, &port) == 0);
    CHECK(port.state == IBV_PORT_ACTIVE);
    CHECK(port.active_mtu == IBV_MTU_4096);
    CHECK(port.link_layer == IBV_LINK_LAYER_ETHERNET);
  }
}

TEST_CASE("A send arrives in the receive that was posted for it") {
  Pair pair;
  pair.responder.post_receive(pair.far.data(), 8192, pair.far_region.get()->lkey);
  REQUIRE(pair.run(IBV_WR_SEND, 4097, 0) == IBV_WC_SUCCESS);
  const ibv_wc received = pair.responder.wait();
  REQUIRE(received.status == IBV_WC_SUCCESS);
  CHECK(received.opcode == IBV_WC_RECV);
  CHECK(received.byte_len == 4097);
  CHECK(std::equal(pair.near.begin(), pair.near.begin() + 4097, pair.far.begin()));
}

TEST_CASE("An inline send needs no registered memory, and its buffer is free at once") {
  Pair pair;
  pair.responder.post_receive(pair.far.data(), kInlineBytes, pair.far_region.get()->lkey);
  std::array<std::uint8_t, kInlineBytes> message{};
  message.fill(42);
  ibv_sge element{reinterpret_cast<std::uintptr_t>(message.data()), kInlineBytes, 0};
  ibv_send_wr request{};
  request.sg_list = &element;
  request.num_sge = 1;
  request.opcode = IBV_WR_SEND_WITH_IMM;
  request.send_flags = IBV_SEND_INLINE;
  request.imm_data = htonl(Pair::kImmediate);
  pair.requester.post(request);
  message.fill(0);
  REQUIRE(pair.requester.wait().status == IBV_WC_SUCCESS);
  const ibv_wc received = pair.responder.wait();
  CHECK(ntohl(received.imm_data) == Pair::kImmediate);
  CHECK(std::all_of(pair.far.begin(), pair.far.begin() + kInlineBytes,
                    [](std::uint8_t byte) { return byte == 42; }));
}

TEST_CASE("WRITE and READ move 8 MiB") {
  Pair pair;
  const std::uint32_t rkey = pair.far_region.get()->rkey;
  REQUIRE(pair.run(IBV_WR_RDMA_WRITE, Pair::kBytes, rkey) == IBV_WC_SUCCESS);
  CHECK(pair.near == pair.far);
  for (std::size_t i = 0; i < Pair::kBytes; i++) pair.far[i] = static_cast<std::uint8_t>(i * 3 + (i >> 9));
  REQUIRE(pair.run(IBV_WR_RDMA_READ, Pair::kBytes, rkey) == IBV_WC_SUCCESS);
  CHECK(pair.near == pair.far);
}

TEST_CASE("WRITE with immediate data is seen by the responder, at any offset") {
  Pair pair;
  pair.responder.post_receive(nullptr, 0, 0);
  REQUIRE(pair.run(IBV_WR_RDMA_WRITE_WITH_IMM, 100'001, pair.far_region.get()->rkey, 1) == IBV_WC_SUCCESS);
  const ibv_wc received = pair.responder.wait();
  CHECK(received.opcode == IBV_WC_RECV_RDMA_WITH_IMM);
  CHECK(ntohl(received.imm_data) == Pair::kImmediate);
  CHECK(std::equal(pair.near.begin(), pair.near.begin() + 100'001, pair.far.begin() + 1));
}

TEST_CASE("A completion channel wakes whoever waits for a completion") {
  Pair pair;
  REQUIRE(ibv_req_notify_cq(pair.responder.completions.get(), 0) == 0);
  pair.responder.post_receive(pair.far.data(), 64, pair.far_region.get()->lkey);
  bool woken = false;
  std::thread waiter([&] { woken = readable(pair.responder.channel.get()->fd); });
  REQUIRE(pair.run(IBV_WR_SEND, 64, 0) == IBV_WC_SUCCESS);
  waiter.join();
  REQUIRE(woken);
  ibv_cq* queue = nullptr;
  void* context = nullptr;
  REQUIRE(ibv_get_cq_event(pair.responder.channel.get(), &queue, &context) == 0);
  ibv_ack_cq_events(queue, 1);
  CHECK(queue == pair.responder.completions.get());
  CHECK(pair.responder.wait().byte_len == 64);
}

// Gives the requester 4 KiB of far memory from far_offset on, as a type-2 window; its key.
std::uint32_t bind_window(Pair& pair, ibv_mw* window, std::size_t far_offset) {
  ibv_send_wr request{};
  request.opcode = IBV_WR_BIND_MW;
  request.bind_mw.mw = window;
  request.bind_mw.rkey = ibv_inc_rkey(window->rkey);
  request.bind_mw.bind_info = {pair.far_region.get(),
                               reinterpret_cast<std::uintptr_t>(pair.far.data()) + far_offset, 4096,
                               IBV_ACCESS_REMOTE_READ};
  pair.responder.post(request);
  REQUIRE(pair.responder.wait().status == IBV_WC_SUCCESS);
  return request.bind_mw.rkey;
}

TEST_CASE("A type-2 memory window grants its range for reading, until its key is invalidated") {
  Pair pair;
  Window window(ibv_alloc_mw(pair.responder.domain.get(), IBV_MW_TYPE_2));
  REQUIRE(window);
  const std::uint32_t rkey = bind_window(pair, window.get(), 8192);
  std::fill(pair.far.begin() + 8192, pair.far.begin() + 12288, 9);
  REQUIRE(pair.run(IBV_WR_RDMA_READ, 4096, rkey, 8192) == IBV_WC_SUCCESS);
  CHECK(
      std::all_of(pair.near.begin(), pair.near.begin() + 4096, [](std::uint8_t byte) { return byte == 9; }));

  // rxe checks the region's range and the window's rights and key, but not the window's range: that
  // needs another adapter, or a fake.
  SECTION("reading past the end of its region is refused") {
    CHECK(pair.run(IBV_WR_RDMA_READ, 4096, rkey, Pair::kBytes - 4095) == IBV_WC_REM_ACCESS_ERR);
  }
  SECTION("writing is refused") {
    CHECK(pair.run(IBV_WR_RDMA_WRITE, 64, rkey, 8192) == IBV_WC_REM_ACCESS_ERR);
    CHECK(pair.far[8192] == 9);
  }
  SECTION("after a local invalidate the key is worth nothing") {
    ibv_send_wr request{};
    request.opcode = IBV_WR_LOCAL_INV;
    request.invalidate_rkey = rkey;
    pair.responder.post(request);
    REQUIRE(pair.responder.wait().status == IBV_WC_SUCCESS);
    CHECK(pair.run(IBV_WR_RDMA_READ, 64, rkey, 8192) == IBV_WC_REM_ACCESS_ERR);
  }
  SECTION("after it was bound anew the old key is worth nothing, and the new one works") {
    ibv_send_wr request{};
    request.opcode = IBV_WR_LOCAL_INV;
    request.invalidate_rkey = rkey;
    pair.responder.post(request);
    REQUIRE(pair.responder.wait().status == IBV_WC_SUCCESS);
    window.get()->rkey = rkey;
    const std::uint32_t next = bind_window(pair, window.get(), 0);
    CHECK(next != rkey);
    CHECK(pair.run(IBV_WR_RDMA_READ, 64, next, 0) == IBV_WC_SUCCESS);
    CHECK(pair.run(IBV_WR_RDMA_READ, 64, rkey, 0) == IBV_WC_REM_ACCESS_ERR);
  }
}

TEST_CASE("A wrong key is refused, writes nothing, and what was posted after it is flushed") {
  Pair pair;
  const std::uint32_t wrong = pair.far_region.get()->rkey ^ 0x5500;
  CHECK(pair.run(IBV_WR_RDMA_WRITE, 64, wrong) == IBV_WC_REM_ACCESS_ERR);
  CHECK(pair.far[1] == 0);
  CHECK(pair.run(IBV_WR_RDMA_WRITE, 64, pair.far_region.get()->rkey) == IBV_WC_WR_FLUSH_ERR);
}

TEST_CASE("A send for which nobody posted a receive ends in an RNR error") {
  Pair pair;
  CHECK(pair.run(IBV_WR_SEND, 64, 0) == IBV_WC_RNR_RETRY_EXC_ERR);
}

TEST_CASE("A request to a queue pair that is gone ends in a retry error") {
  Pair pair(kImpatient);
  pair.responder.queue_pair.reset();
  CHECK(pair.run(IBV_WR_RDMA_WRITE, 64, pair.far_region.get()->rkey) == IBV_WC_RETRY_EXC_ERR);
}

TEST_CASE("A port that goes down is reported as an asynchronous event") {
  REQUIRE(std::system("ip link add avecdown type dummy && ip link set avecdown up && "
                      "rdma link add rxedown type rxe netdev avecdown") == 0);
  int count = 0;
  ibv_device** devices = ibv_get_device_list(&count);
  Context context;
  for (int device = 0; device < count; device++) {
    if (std::string(ibv_get_device_name(devices[device])) == "rxedown")
      context.reset(ibv_open_device(devices[device]));
  }
  ibv_free_device_list(devices);
  REQUIRE(context);
  REQUIRE(std::system("ip link set avecdown down") == 0);
  bool reported = false;
  while (!reported && readable(context.get()->async_fd)) {
    ibv_async_event event{};
    REQUIRE(ibv_get_async_event(context.get(), &event) == 0);
    reported = event.event_type == IBV_EVENT_PORT_ERR;
    ibv_ack_async_event(&event);
  }
  CHECK(reported);
  context.reset();
  CHECK(std::system("rdma link delete rxedown && ip link delete avecdown") == 0);
}

// In a child, which gives up the right to exceed its limit of locked memory. Its exit status tells.
int register_with_limit(std::size_t limit) {
  const rlimit locked{limit, limit};
  if (::setrlimit(RLIMIT_MEMLOCK, &locked) != 0) return 1;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> rights{};
  if (::syscall(SYS_capset, &header, rights.data()) != 0) return 2;
  std::optional<Adapter> adapter = find_adapter(kRequesterAddress);
  if (!adapter) return 3;
  Domain domain(ibv_alloc_pd(adapter->context.get()));
  std::vector<std::uint8_t> bytes(limit + 8192);
  if (!domain) return 4;
  if (!Region(ibv_reg_mr(domain.get(), bytes.data(), limit / 2, IBV_ACCESS_LOCAL_WRITE))) return 5;
  if (Region(ibv_reg_mr(domain.get(), bytes.data(), bytes.size(), IBV_ACCESS_LOCAL_WRITE))) return 6;
  return errno == ENOMEM ? 0 : 7;
}

TEST_CASE("The memlock limit bounds what a process without rights registers") {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) ::_exit(register_with_limit(8u << 20));
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

using EventChannel = Verbs<rdma_event_channel, rdma_destroy_event_channel>;
using Identifier = Verbs<rdma_cm_id, rdma_destroy_id>;

TEST_CASE("librdmacm finds the adapter and the route of an address") {
  EventChannel channel(rdma_create_event_channel());
  REQUIRE(channel);
  rdma_cm_id* created = nullptr;
  REQUIRE(rdma_create_id(channel.get(), &created, nullptr, RDMA_PS_TCP) == 0);
  Identifier identifier(created);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(7471);
  REQUIRE(inet_pton(AF_INET, kResponderAddress, &address.sin_addr) == 1);
  const auto expect = [&](rdma_cm_event_type wanted) {
    REQUIRE(readable(channel.get()->fd));
    rdma_cm_event* event = nullptr;
    REQUIRE(rdma_get_cm_event(channel.get(), &event) == 0);
    CHECK(event->event == wanted);
    rdma_ack_cm_event(event);
  };
  constexpr int kMilliseconds = 20'000;
  REQUIRE(rdma_resolve_addr(created, nullptr, reinterpret_cast<sockaddr*>(&address), kMilliseconds) == 0);
  expect(RDMA_CM_EVENT_ADDR_RESOLVED);
  REQUIRE(rdma_resolve_route(created, kMilliseconds) == 0);
  expect(RDMA_CM_EVENT_ROUTE_RESOLVED);
  REQUIRE(created->verbs != nullptr);
  std::optional<Adapter> requester = find_adapter(kRequesterAddress);
  REQUIRE(requester);
  CHECK(std::string(ibv_get_device_name(created->verbs->device)) ==
        ibv_get_device_name(requester->context.get()->device));
}

}  // namespace
}  // namespace avec::rdma_guest
