// The fake itself, asked with direct verbs calls. What it has in common with a real adapter is asked
// by tests/rdma_guest/verbs_test.cc; here is what only the fake can do.
#include <sys/wait.h>

#include "transport/fake_verbs/end.h"

namespace fake_verbs {
namespace {

// ---- states and queues

TEST_CASE("a queue pair goes through its states in order, with the attributes that each needs") {
  Fresh fresh;
  End end;
  CHECK(end.send() == EINVAL);
  CHECK(end.receive() == EINVAL);
  CHECK(end.to_receive(end) == EINVAL);  // from RESET
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_INIT;
  attributes.port_num = 1;
  CHECK(ibv_modify_qp(end.qp, &attributes, IBV_QP_STATE | IBV_QP_PORT) == EINVAL);  // incomplete
  attributes.port_num = 3;
  CHECK(ibv_modify_qp(end.qp, &attributes,
                      IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS) == EINVAL);
  REQUIRE(end.to_init() == 0);
  CHECK(end.receive() == 0);
  CHECK(end.send() == EINVAL);
  CHECK(end.to_send() == EINVAL);
  REQUIRE(end.to_receive(end) == 0);
  CHECK(end.send() == EINVAL);
  REQUIRE(end.to_send() == 0);
  CHECK(end.state() == IBV_QPS_RTS);
  CHECK(end.send() == 0);
  CHECK(end.status() == IBV_WC_SUCCESS);  // connected to itself: the receive
  CHECK(end.status() == IBV_WC_SUCCESS);
}

TEST_CASE("a send queue is full until a completion behind its requests has been polled") {
  Fresh fresh;
  Connection connection;
  for (int i = 0; i < 8; ++i) REQUIRE(connection.b.receive() == 0);
  CHECK(connection.b.receive() == ENOMEM);
  for (int i = 0; i < 7; ++i) REQUIRE(connection.a.send(8, 0) == 0);
  REQUIRE(connection.a.send() == 0);
  CHECK(connection.a.send() == ENOMEM);  // all are done, but nobody has seen it
  CHECK(connection.a.status() == IBV_WC_SUCCESS);
  CHECK(connection.a.status() == -1);  // seven wanted no completion
  CHECK(connection.b.status() == IBV_WC_SUCCESS);
  CHECK(connection.b.receive() == 0);
  CHECK(connection.a.send() == 0);
  CHECK(fake.deepest_send_queue() == 8);
}

TEST_CASE("limits of the queue pair are kept: pieces, inline bytes, capacities") {
  Fresh fresh;
  Connection connection;
  ibv_sge sges[3] = {};
  auto work = connection.a.request(IBV_WR_SEND, sges[0], 8);
  work.num_sge = 3;
  CHECK(connection.a.post(work) == EINVAL);
  work.num_sge = 1;
  sges[0].length = 65;
  work.send_flags = IBV_SEND_INLINE;
  CHECK(connection.a.post(work) == EINVAL);
  ibv_qp_init_attr init{};
  init.qp_type = IBV_QPT_RC;
  init.send_cq = init.recv_cq = connection.a.queue;
  init.cap = {8, 8, 2, 2, 257};
  CHECK(ibv_create_qp(connection.a.domain, &init) == nullptr);
  CHECK(errno == EINVAL);
}

TEST_CASE("a completion queue that overflows loses completions and says so once") {
  Fresh fresh;
  Options options;
  options.entries = 3;
  Connection connection(options);
  for (int i = 0; i < 5; ++i) REQUIRE(connection.b.receive() == 0);
  for (int i = 0; i < 5; ++i) REQUIRE(connection.a.send(8, 0) == 0);
  CHECK(connection.b.event() == IBV_EVENT_CQ_ERR);
  CHECK(connection.b.event() == -1);
  for (int i = 0; i < 3; ++i) CHECK(connection.b.status() == IBV_WC_SUCCESS);
  CHECK(connection.b.status() == -1);
}

TEST_CASE("an error flushes everything that is posted at both queues, and what is posted later") {
  Fresh fresh;
  Connection connection;
  REQUIRE(connection.a.receive() == 0);
  fake.stall(connection.a.qp->qp_num, 1);
  REQUIRE(connection.a.send() == 0);
  REQUIRE(connection.a.send(8, 0) == 0);
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_ERR;
  REQUIRE(ibv_modify_qp(connection.a.qp, &attributes, IBV_QP_STATE) == 0);
  for (int i = 0; i < 3; ++i) CHECK(connection.a.status() == IBV_WC_WR_FLUSH_ERR);
  CHECK(connection.a.status() == -1);
  CHECK(connection.a.send() == 0);
  CHECK(connection.a.status() == IBV_WC_WR_FLUSH_ERR);
  CHECK(connection.a.receive() == 0);
  CHECK(connection.a.status() == IBV_WC_WR_FLUSH_ERR);
}

TEST_CASE("fields of a failed completion beside id, status and number are nonsense") {
  Fresh fresh;
  Connection connection;
  fake.fail_work(IBV_WR_SEND, 0, 1, IBV_WC_REM_OP_ERR);
  REQUIRE(connection.a.send() == 0);
  ibv_wc wc;
  REQUIRE(ibv_poll_cq(connection.a.queue, 1, &wc) == 1);
  CHECK(wc.status == IBV_WC_REM_OP_ERR);
  CHECK(wc.qp_num == connection.a.qp->qp_num);
  CHECK(wc.wr_id == 1);
  CHECK(wc.opcode != IBV_WC_SEND);
}

// ---- receivers

TEST_CASE("a message waits for a receive as long as its retries last") {
  Fresh fresh;
  Options options;
  options.rnr_retry = 7;  // for ever
  Connection patient(options);
  REQUIRE(patient.a.send() == 0);
  CHECK(patient.a.status() == -1);
  REQUIRE(patient.b.receive() == 0);
  CHECK(patient.a.status() == IBV_WC_SUCCESS);

  Connection hasty;
  REQUIRE(hasty.a.send() == 0);
  CHECK(hasty.a.later_status() == IBV_WC_RNR_RETRY_EXC_ERR);
  CHECK(hasty.a.state() == IBV_QPS_ERR);
  CHECK(hasty.b.state() == IBV_QPS_RTS);
}

TEST_CASE("a message that is longer than its receive fails both ends") {
  Fresh fresh;
  Connection connection;
  REQUIRE(connection.b.receive(4) == 0);
  REQUIRE(connection.a.send(8) == 0);
  CHECK(connection.a.status() == IBV_WC_REM_INV_REQ_ERR);
  CHECK(connection.b.status() == IBV_WC_LOC_LEN_ERR);
  CHECK(connection.b.state() == IBV_QPS_ERR);
}

TEST_CASE("a receive into memory without the right to write fails both ends") {
  Fresh fresh;
  Connection connection;
  ibv_mr* unwritable = ibv_reg_mr(connection.b.domain, connection.b.memory.data(), 64, 0);
  REQUIRE(unwritable != nullptr);
  ibv_sge sge{reinterpret_cast<std::uint64_t>(connection.b.memory.data()), 64, unwritable->lkey};
  ibv_recv_wr work{};
  work.sg_list = &sge;
  work.num_sge = 1;
  ibv_recv_wr* bad = nullptr;
  REQUIRE(ibv_post_recv(connection.b.qp, &work, &bad) == 0);
  REQUIRE(connection.a.send(8) == 0);
  CHECK(connection.a.status() == IBV_WC_REM_OP_ERR);
  CHECK(connection.b.status() == IBV_WC_LOC_PROT_ERR);
  CHECK(ibv_dereg_mr(unwritable) == 0);
}

TEST_CASE("different sequence numbers, a missing peer or a port that is down end in exceeded retries") {
  Fresh fresh;
  SECTION("sequence numbers") {
    Options options;
    options.peer_psn = 6;  // both send from 5 on
    Connection connection(options);
    REQUIRE(connection.a.send() == 0);
    CHECK(connection.a.later_status() == IBV_WC_RETRY_EXC_ERR);
  }
  SECTION("peer in error") {
    Connection connection;
    ibv_qp_attr attributes{};
    attributes.qp_state = IBV_QPS_ERR;
    REQUIRE(ibv_modify_qp(connection.b.qp, &attributes, IBV_QP_STATE) == 0);
    REQUIRE(connection.a.send() == 0);
    CHECK(connection.a.later_status() == IBV_WC_RETRY_EXC_ERR);
  }
  SECTION("port") {
    Connection connection;
    fake.set_port("fake0", 1, IBV_PORT_DOWN);
    CHECK(connection.a.event() == IBV_EVENT_PORT_ERR);
    CHECK(connection.b.event() == IBV_EVENT_PORT_ERR);
    REQUIRE(connection.a.send() == 0);
    CHECK(connection.a.later_status() == IBV_WC_RETRY_EXC_ERR);
    fake.set_port("fake0", 1, IBV_PORT_ACTIVE);
    CHECK(connection.a.event() == IBV_EVENT_PORT_ACTIVE);
    CHECK(connection.b.event() == IBV_EVENT_PORT_ACTIVE);
  }
  SECTION("cut") {
    Connection connection;
    fake.cut(connection.b.qp->qp_num);
    fake.set_timeouts(0);
    REQUIRE(connection.b.receive() == 0);
    REQUIRE(connection.a.send() == 0);
    CHECK(connection.a.status() == IBV_WC_RETRY_EXC_ERR);
  }
}

TEST_CASE("a message that comes before the receiver can send tells that the connection is there") {
  Fresh fresh;
  End a, b;
  for (auto* end : {&a, &b}) REQUIRE(end->to_init() == 0);
  REQUIRE(a.to_receive(b) == 0);
  REQUIRE(b.to_receive(a) == 0);
  REQUIRE(a.to_send() == 0);
  REQUIRE(b.receive() == 0);
  REQUIRE(a.send() == 0);
  CHECK(b.status() == IBV_WC_SUCCESS);
  CHECK(b.event() == IBV_EVENT_COMM_EST);
}

// ---- notification

TEST_CASE("an armed completion queue tells of the next completion, once, and of none that is there") {
  Fresh fresh;
  Connection connection;
  for (int i = 0; i < 3; ++i) REQUIRE(connection.b.receive() == 0);
  REQUIRE(connection.a.send() == 0);
  CHECK_FALSE(connection.b.told());
  REQUIRE(ibv_req_notify_cq(connection.b.queue, 0) == 0);
  CHECK_FALSE(connection.b.told());
  REQUIRE(connection.a.send() == 0);
  REQUIRE(connection.a.send() == 0);
  CHECK(connection.b.told());
  ibv_cq* queue = nullptr;
  void* user = nullptr;
  REQUIRE(ibv_get_cq_event(connection.b.channel, &queue, &user) == 0);
  CHECK(queue == connection.b.queue);
  CHECK(user == &connection.b);
  ibv_ack_cq_events(queue, 1);
  CHECK_FALSE(connection.b.told());
}

TEST_CASE("a queue armed for solicited completions tells of those and of errors") {
  Fresh fresh;
  Connection connection;
  for (int i = 0; i < 3; ++i) REQUIRE(connection.b.receive() == 0);
  REQUIRE(ibv_req_notify_cq(connection.b.queue, 1) == 0);
  REQUIRE(connection.a.send() == 0);
  CHECK_FALSE(connection.b.told());
  const bool fails = GENERATE(false, true);
  if (fails) {
    fake.raise_event("fake0", IBV_EVENT_QP_FATAL, connection.b.qp->qp_num);
    CHECK(connection.b.event() == IBV_EVENT_QP_FATAL);
  } else {
    REQUIRE(connection.a.send(8, IBV_SEND_SIGNALED | IBV_SEND_SOLICITED) == 0);
  }
  CHECK(connection.b.told());
}

TEST_CASE("a queue that is destroyed with events that are not acknowledged is a violation") {
  Fresh fresh;
  fresh.violation = "ibv_destroy_cq with events that are not acknowledged";
  Connection connection;
  REQUIRE(connection.b.receive() == 0);
  REQUIRE(ibv_req_notify_cq(connection.b.queue, 0) == 0);
  REQUIRE(connection.a.send() == 0);
  ibv_cq* queue = nullptr;
  void* user = nullptr;
  REQUIRE(ibv_get_cq_event(connection.b.channel, &queue, &user) == 0);
}

// ---- faults and order

TEST_CASE("the nth call fails with its errno, as often as asked, and calls are counted") {
  Fresh fresh;
  End end;
  REQUIRE(fake.fail_call("ibv_alloc_pd", 2, ENOMEM, 1) != 0);
  CHECK(fake.fail_call("ibv_no_such_thing", 1, ENOMEM, 1) == 0);
  for (const bool fails : {false, true, false}) {
    ibv_pd* domain = ibv_alloc_pd(end.context);
    CHECK((domain == nullptr) == fails);
    if (domain != nullptr) CHECK(ibv_dealloc_pd(domain) == 0);
  }
  CHECK(fake.calls("ibv_alloc_pd") == 4);  // one by End
}

TEST_CASE("the nth request of a kind completes with the wanted status, and nothing of it is done") {
  Fresh fresh;
  Connection connection;
  connection.b.memory[0] = 1;
  fake.fail_work(IBV_WR_RDMA_WRITE, connection.a.qp->qp_num, 2, IBV_WC_RETRY_EXC_ERR);
  connection.a.memory[0] = 2;
  REQUIRE(connection.a.access(IBV_WR_RDMA_WRITE, connection.b, connection.b.region->rkey) == 0);
  CHECK(connection.a.status() == IBV_WC_SUCCESS);
  CHECK(connection.b.memory[0] == 2);
  connection.a.memory[0] = 3;
  REQUIRE(connection.a.access(IBV_WR_RDMA_WRITE, connection.b, connection.b.region->rkey) == 0);
  CHECK(connection.a.status() == IBV_WC_RETRY_EXC_ERR);
  CHECK(connection.b.memory[0] == 2);
  CHECK(fake.posted(IBV_WR_RDMA_WRITE) == 2);
}

TEST_CASE("a fatal device flushes its queue pairs, and makes nothing new") {
  Fresh fresh;
  Connection connection;
  REQUIRE(connection.b.receive() == 0);
  fake.raise_event("fake0", IBV_EVENT_DEVICE_FATAL, 0);
  CHECK(connection.a.event() == IBV_EVENT_DEVICE_FATAL);
  CHECK(connection.b.event() == IBV_EVENT_DEVICE_FATAL);
  CHECK(connection.b.status() == IBV_WC_WR_FLUSH_ERR);
  CHECK(ibv_alloc_pd(connection.a.context) == nullptr);
  CHECK(errno == EIO);
}

TEST_CASE("in steps nothing happens by itself, and any order of queue pairs can be had") {
  Fresh fresh;
  Connection first, second;
  fake.set_mode(FAKE_VERBS_STEP, 0, 0);
  for (auto* connection : {&first, &second}) {
    for (int i = 0; i < 2; ++i) REQUIRE(connection->b.receive() == 0);
    for (int i = 0; i < 2; ++i) REQUIRE(connection->a.send() == 0);
  }
  CHECK(first.a.status() == -1);
  CHECK(fake.step(second.a.qp->qp_num, 1) == 1);
  CHECK(first.a.status() == -1);
  CHECK(second.a.status() == IBV_WC_SUCCESS);
  CHECK(second.a.status() == -1);
  CHECK(fake.step(0, 10) == 3);  // in the order of posting
  CHECK(first.a.status() == IBV_WC_SUCCESS);
  CHECK(fake.step(0, 10) == 0);
}

TEST_CASE("data of a request that is under way is read when it is done, inline data when it is posted") {
  Fresh fresh;
  Connection connection;
  auto& [a, b] = connection;
  for (int i = 0; i < 2; ++i) REQUIRE(b.receive() == 0);
  fake.set_mode(FAKE_VERBS_STEP, 0, 0);
  a.memory[0] = 1;
  REQUIRE(a.send(8, IBV_SEND_SIGNALED | IBV_SEND_INLINE) == 0);
  REQUIRE(a.send() == 0);
  a.memory[0] = 2;
  CHECK(fake.step(0, 1) == 1);
  CHECK(b.memory[0] == 1);
  CHECK(fake.step(0, 1) == 1);
  CHECK(b.memory[0] == 2);
}

TEST_CASE("the library's own thread delivers in the order of each queue pair, whatever the seed") {
  Fresh fresh;
  const unsigned seed = GENERATE(0u, 1u, 2u);
  Options options;
  options.cap = {64, 64, 1, 1, 64};
  options.entries = 256;
  options.rnr_retry = 7;
  Connection first(options), second(options);
  fake.set_mode(FAKE_VERBS_THREAD, 50, seed);
  for (auto* connection : {&first, &second}) {
    for (int i = 0; i < 32; ++i) REQUIRE(connection->b.receive() == 0);
  }
  for (int i = 0; i < 32; ++i) {
    for (auto* connection : {&first, &second}) {
      connection->a.memory[0] = static_cast<unsigned char>(i);
      REQUIRE(connection->a.send(1, IBV_SEND_SIGNALED | IBV_SEND_INLINE) == 0);
    }
  }
  for (auto* connection : {&first, &second}) {
    for (int i = 0; i < 32; ++i) CHECK(connection->a.later_status() == IBV_WC_SUCCESS);
    CHECK(connection->b.memory[0] == 31);
  }
}

TEST_CASE("completions of a destroyed queue pair stay, or go, as adapters differ") {
  Fresh fresh;
  const bool stay = GENERATE(true, false);
  fake.set_stale_completions(stay);
  Connection connection;
  REQUIRE(connection.b.receive() == 0);
  REQUIRE(connection.a.send() == 0);
  CHECK(ibv_destroy_qp(connection.a.qp) == 0);
  connection.a.qp = nullptr;
  CHECK(connection.a.status() == (stay ? IBV_WC_SUCCESS : -1));
}

// ---- devices and processes

TEST_CASE("machines without a driver, a device, an active port or an address are found as such") {
  Fresh fresh;
  int count = -1;
  fake.set_no_driver(ENOSYS);
  CHECK(ibv_get_device_list(&count) == nullptr);
  CHECK(errno == ENOSYS);
  fake.set_no_driver(0);
  fake.set_devices(nullptr, 0);
  ibv_device** none = ibv_get_device_list(&count);
  CHECK(count == 0);
  ibv_free_device_list(none);
  FakeVerbsDevice device;
  fake.default_device(&device);
  fake.set_devices(&device, 1);
  fake.set_port("fake0", 1, IBV_PORT_DOWN);
  fake.remove_gids("fake0", 1);
  End end;
  ibv_port_attr port{};
  REQUIRE(ibv_query_port(end.context, 1, &port) == 0);
  CHECK(port.state == IBV_PORT_DOWN);
  ibv_gid_entry entry{};
  CHECK(ibv_query_gid_ex(end.context, 1, 3, &entry, 0) == ENODATA);
  ibv_gid gid{};
  REQUIRE(ibv_query_gid(end.context, 1, 3, &gid) == 0);
  CHECK(gid.global.interface_id == 0);
}

TEST_CASE("a child that uses its parent's objects ends with a status of its own") {
  Fresh fresh;
  End end;
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ibv_alloc_pd(end.context);
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 86);
}

}  // namespace
}  // namespace fake_verbs
