// One end of a connection, made with direct verbs calls, for the fake's own tests.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.h"
#include "transport/fake_verbs/fake_verbs.h"

namespace fake_verbs {

inline const FakeVerbs& fake = *fake_verbs_control();

/// Every test begins with a whole fabric, and leaves nothing alive and nothing misused.
struct Fresh {
  Fresh() { REQUIRE(fake.reset() == 0); }
  ~Fresh() {
    CHECK(fake.live().total() == 0);
    CHECK(std::string(fake.first_violation()) == violation);
  }
  std::string violation;  // that the test provokes
};

struct Options {
  ibv_qp_cap cap{8, 8, 2, 2, 64};
  int entries = 32;
  std::uint8_t rnr_retry = 0, timeout = 8;
  std::uint32_t peer_psn = 5;
};

/// One end on the first device, with 4 KiB of memory that the peer may reach.
struct End {
  static constexpr std::size_t kBytes = 4096;
  ibv_context* context = nullptr;
  ibv_pd* domain = nullptr;
  ibv_comp_channel* channel = nullptr;
  ibv_cq* queue = nullptr;
  ibv_qp* qp = nullptr;
  ibv_mr* region = nullptr;
  std::vector<unsigned char> memory = std::vector<unsigned char>(kBytes);

  explicit End(const Options& options = {}) {
    int count = 0;
    ibv_device** devices = ibv_get_device_list(&count);
    REQUIRE(count > 0);
    context = ibv_open_device(devices[0]);
    ibv_free_device_list(devices);
    REQUIRE(context != nullptr);
    domain = ibv_alloc_pd(context);
    channel = ibv_create_comp_channel(context);
    queue = ibv_create_cq(context, options.entries, this, channel, 0);
    REQUIRE(queue != nullptr);
    ibv_qp_init_attr init{};
    init.qp_type = IBV_QPT_RC;
    init.send_cq = init.recv_cq = queue;
    init.cap = options.cap;
    qp = ibv_create_qp(domain, &init);
    REQUIRE(qp != nullptr);
    region = ibv_reg_mr(
        domain, memory.data(), kBytes,
        IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_MW_BIND);
    REQUIRE(region != nullptr);
  }
  ~End() {
    if (qp != nullptr) CHECK(ibv_destroy_qp(qp) == 0);
    if (region != nullptr) CHECK(ibv_dereg_mr(region) == 0);
    CHECK(ibv_destroy_cq(queue) == 0);
    CHECK(ibv_destroy_comp_channel(channel) == 0);
    CHECK(ibv_dealloc_pd(domain) == 0);
    CHECK(ibv_close_device(context) == 0);
  }
  End(const End&) = delete;
  End& operator=(const End&) = delete;

  int to_init() {
    ibv_qp_attr attributes{};
    attributes.qp_state = IBV_QPS_INIT;
    attributes.port_num = 1;
    attributes.qp_access_flags = IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE;
    return ibv_modify_qp(qp, &attributes,
                         IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
  }
  int to_receive(const End& peer, std::uint32_t psn = 5, std::uint8_t gid_index = 3) {
    ibv_qp_attr attributes{};
    attributes.qp_state = IBV_QPS_RTR;
    attributes.path_mtu = IBV_MTU_1024;
    attributes.dest_qp_num = peer.qp->qp_num;
    attributes.rq_psn = psn;
    attributes.max_dest_rd_atomic = 4;
    attributes.min_rnr_timer = 1;
    attributes.ah_attr.is_global = 1;
    attributes.ah_attr.port_num = 1;
    attributes.ah_attr.grh.sgid_index = gid_index;
    REQUIRE(ibv_query_gid(context, 1, gid_index, &attributes.ah_attr.grh.dgid) == 0);
    return ibv_modify_qp(qp, &attributes,
                         IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                             IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
  }
  int to_send(const Options& options = {}) {
    ibv_qp_attr attributes{};
    attributes.qp_state = IBV_QPS_RTS;
    attributes.timeout = options.timeout;
    attributes.retry_cnt = 1;
    attributes.rnr_retry = options.rnr_retry;
    attributes.sq_psn = 5;
    attributes.max_rd_atomic = 4;
    return ibv_modify_qp(qp, &attributes,
                         IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
                             IBV_QP_MAX_QP_RD_ATOMIC);
  }

  ibv_send_wr request(ibv_wr_opcode opcode, ibv_sge& sge, std::uint32_t bytes) {
    sge = {reinterpret_cast<std::uint64_t>(memory.data()), bytes, region->lkey};
    ibv_send_wr work{};
    work.wr_id = next_id++;
    work.sg_list = &sge;
    work.num_sge = bytes > 0 ? 1 : 0;
    work.opcode = opcode;
    work.send_flags = IBV_SEND_SIGNALED;
    return work;
  }
  int post(ibv_send_wr work) {
    ibv_send_wr* bad = nullptr;
    return ibv_post_send(qp, &work, &bad);
  }
  int send(std::uint32_t bytes = 8, unsigned flags = IBV_SEND_SIGNALED) {
    ibv_sge sge;
    auto work = request(IBV_WR_SEND, sge, bytes);
    work.send_flags = flags;
    return post(work);
  }
  int access(ibv_wr_opcode opcode, const End& peer, std::uint32_t rkey, std::size_t offset = 0,
             std::uint32_t bytes = 8) {
    ibv_sge sge;
    auto work = request(opcode, sge, bytes);
    work.wr.rdma.remote_addr = reinterpret_cast<std::uint64_t>(peer.memory.data()) + offset;
    work.wr.rdma.rkey = rkey;
    return post(work);
  }
  int receive(std::uint32_t bytes = 64) {
    ibv_sge sge{reinterpret_cast<std::uint64_t>(memory.data()), bytes, region->lkey};
    ibv_recv_wr work{};
    work.wr_id = next_id++;
    work.sg_list = &sge;
    work.num_sge = 1;
    ibv_recv_wr* bad = nullptr;
    return ibv_post_recv(qp, &work, &bad);
  }
  int bind(ibv_mw* window, std::uint32_t rkey, std::size_t offset, std::size_t bytes, unsigned access) {
    ibv_send_wr work{};
    work.opcode = IBV_WR_BIND_MW;
    work.send_flags = IBV_SEND_SIGNALED;
    work.bind_mw.mw = window;
    work.bind_mw.rkey = rkey;
    work.bind_mw.bind_info = {region, reinterpret_cast<std::uint64_t>(memory.data()) + offset, bytes, access};
    return post(work);
  }
  int invalidate(std::uint32_t rkey) {
    ibv_send_wr work{};
    work.opcode = IBV_WR_LOCAL_INV;
    work.send_flags = IBV_SEND_SIGNALED;
    work.invalidate_rkey = rkey;
    return post(work);
  }
  /// -1: nothing has completed.
  int status() {
    ibv_wc wc;
    return ibv_poll_cq(queue, 1, &wc) == 1 ? wc.status : -1;
  }
  /// Waits: timeouts pass in the library's own thread.
  int later_status() {
    for (int i = 0; i < 10000; ++i) {
      if (const int got = status(); got >= 0) return got;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return -1;
  }
  ibv_qp_state state() {
    ibv_qp_attr attributes;
    ibv_qp_init_attr init;
    REQUIRE(ibv_query_qp(qp, &attributes, IBV_QP_STATE, &init) == 0);
    return attributes.qp_state;
  }
  /// The next asynchronous event, acknowledged, or -1.
  int event() {
    pollfd entry{context->async_fd, POLLIN, 0};
    if (::poll(&entry, 1, 0) != 1) return -1;
    ibv_async_event event;
    REQUIRE(ibv_get_async_event(context, &event) == 0);
    ibv_ack_async_event(&event);
    return event.event_type;
  }
  bool told() {
    pollfd entry{channel->fd, POLLIN, 0};
    return ::poll(&entry, 1, 0) == 1;
  }

  std::uint64_t next_id = 1;
};

struct Connection {
  End a, b;
  explicit Connection(const Options& options = {}) : a(options), b(options) {
    for (auto* end : {&a, &b}) REQUIRE(end->to_init() == 0);
    REQUIRE(a.to_receive(b, options.peer_psn) == 0);
    REQUIRE(b.to_receive(a, options.peer_psn) == 0);
    for (auto* end : {&a, &b}) REQUIRE(end->to_send(options) == 0);
  }
};

}  // namespace fake_verbs
