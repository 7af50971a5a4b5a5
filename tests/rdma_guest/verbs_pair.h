// Two connected queue pairs in one process, for tests of the guest's adapters. Nothing of AVEC's
// transport is used here: what fails in these tests is the guest.
#pragma once

#include <arpa/inet.h>
#include <infiniband/verbs.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/handle.h"
#include "support/catch.h"

namespace avec::rdma_guest {

inline constexpr const char* kRequesterAddress = "10.9.0.1";
inline constexpr const char* kResponderAddress = "10.9.0.2";
inline constexpr std::uint8_t kPort = 1;
inline constexpr unsigned kDepth = 16;        // work requests of a queue
inline constexpr unsigned kInlineBytes = 64;  // rxe allows 400
/// Local acknowledgement timeout, 4.096 us * 2^n, of which there are kRetries + 1 before an error: a
/// guest whose CPUs the host takes away for a while is no error, and a peer known to be gone is no wait.
inline constexpr std::uint8_t kPatient = 18, kImpatient = 12;
inline constexpr std::uint8_t kRetries = 6;  // 7 is for ever to rxe
/// Nothing here takes a second; under emulation beside other work it may.
inline constexpr auto kDeadline = std::chrono::seconds(60);

template <class T, auto Release>
struct ReleaseVerbs {
  static constexpr T* kNull = nullptr;
  static void release(T* object) noexcept { Release(object); }
};
template <class T, auto Release>
using Verbs = Handle<T*, ReleaseVerbs<T, Release>>;
using Context = Verbs<ibv_context, ibv_close_device>;
using Domain = Verbs<ibv_pd, ibv_dealloc_pd>;
using Channel = Verbs<ibv_comp_channel, ibv_destroy_comp_channel>;
using CompletionQueue = Verbs<ibv_cq, ibv_destroy_cq>;
using QueuePair = Verbs<ibv_qp, ibv_destroy_qp>;
using Region = Verbs<ibv_mr, ibv_dereg_mr>;
using Window = Verbs<ibv_mw, ibv_dealloc_mw>;

inline ibv_gid gid_of(const char* address) {
  ibv_gid gid{};
  gid.raw[10] = gid.raw[11] = 0xff;  // an IPv4 address mapped to IPv6
  REQUIRE(inet_pton(AF_INET, address, gid.raw + 12) == 1);
  return gid;
}

/// The adapter that has an address, and the index of that address in its GID table.
struct Adapter {
  Context context;
  int gid_index = -1;
};

inline std::optional<Adapter> find_adapter(const char* address) {
  const ibv_gid wanted = gid_of(address);
  int count = 0;
  ibv_device** devices = ibv_get_device_list(&count);
  REQUIRE(devices != nullptr);
  std::optional<Adapter> found;
  for (int device = 0; device < count && !found; device++) {
    Context context(ibv_open_device(devices[device]));
    ibv_gid_entry entry{};
    for (unsigned index = 0; context && ibv_query_gid_ex(context.get(), kPort, index, &entry, 0) == 0;
         index++) {
      if (entry.gid_type != IBV_GID_TYPE_ROCE_V2 || std::memcmp(&entry.gid, &wanted, sizeof wanted) != 0)
        continue;
      found = Adapter{std::move(context), static_cast<int>(index)};
      break;
    }
  }
  ibv_free_device_list(devices);
  return found;
}

/// One end: everything from the adapter to its queue pair. Members are released bottom up.
struct Endpoint {
  Adapter adapter;
  Domain domain;
  Channel channel;
  CompletionQueue completions;
  QueuePair queue_pair;

  explicit Endpoint(const char* address) {
    std::optional<Adapter> found = find_adapter(address);
    INFO("no adapter has " << address);
    REQUIRE(found);
    adapter = std::move(*found);
    domain.reset(ibv_alloc_pd(context()));
    REQUIRE(domain);
    channel.reset(ibv_create_comp_channel(context()));
    REQUIRE(channel);
    completions.reset(ibv_create_cq(context(), 4 * kDepth, nullptr, channel.get(), 0));
    REQUIRE(completions);
    ibv_qp_init_attr attributes{};
    attributes.qp_type = IBV_QPT_RC;
    attributes.send_cq = attributes.recv_cq = completions.get();
    attributes.cap = {kDepth, kDepth, 4, 4, kInlineBytes};
    queue_pair.reset(ibv_create_qp(domain.get(), &attributes));
    REQUIRE(queue_pair);
  }

  [[nodiscard]] ibv_context* context() const { return adapter.context.get(); }

  /// From a fresh queue pair to one that sends to the other: RESET, INIT, RTR, RTS.
  void connect_to(const Endpoint& other, const char* other_address, std::uint8_t timeout) {
    ibv_qp_attr attributes{};
    attributes.qp_state = IBV_QPS_INIT;
    attributes.port_num = kPort;
    attributes.qp_access_flags = IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE;
    REQUIRE(ibv_modify_qp(queue_pair.get(), &attributes,
                          IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS) == 0);
    ibv_port_attr port{};
    REQUIRE(ibv_query_port(context(), kPort, &port) == 0);
    attributes.qp_state = IBV_QPS_RTR;
    attributes.path_mtu = port.active_mtu;
    attributes.dest_qp_num = other.queue_pair.get()->qp_num;
    attributes.max_dest_rd_atomic = 4;
    attributes.min_rnr_timer = 1;  // 10 us
    attributes.ah_attr.is_global = 1;
    attributes.ah_attr.port_num = kPort;
    attributes.ah_attr.grh.dgid = gid_of(other_address);
    attributes.ah_attr.grh.sgid_index = static_cast<std::uint8_t>(adapter.gid_index);
    attributes.ah_attr.grh.hop_limit = 1;
    REQUIRE(ibv_modify_qp(queue_pair.get(), &attributes,
                          IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                              IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER) == 0);
    attributes.qp_state = IBV_QPS_RTS;
    attributes.timeout = timeout;
    attributes.retry_cnt = kRetries;
    attributes.rnr_retry = 3;
    attributes.max_rd_atomic = 4;
    REQUIRE(ibv_modify_qp(queue_pair.get(), &attributes,
                          IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
                              IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC) == 0);
  }

  [[nodiscard]] Region register_memory(std::vector<std::uint8_t>& bytes, int access) const {
    return Region(ibv_reg_mr(domain.get(), bytes.data(), bytes.size(), access));
  }

  void post(ibv_send_wr request) {
    request.send_flags |= IBV_SEND_SIGNALED;
    ibv_send_wr* bad = nullptr;
    REQUIRE(ibv_post_send(queue_pair.get(), &request, &bad) == 0);
  }

  void post_receive(void* data, std::uint32_t length, std::uint32_t lkey) {
    ibv_sge element{reinterpret_cast<std::uintptr_t>(data), length, lkey};
    ibv_recv_wr request{};
    request.sg_list = &element;
    request.num_sge = length > 0 ? 1 : 0;
    ibv_recv_wr* bad = nullptr;
    REQUIRE(ibv_post_recv(queue_pair.get(), &request, &bad) == 0);
  }

  /// The next completion, which comes before the deadline.
  ibv_wc wait() {
    const auto end = std::chrono::steady_clock::now() + kDeadline;
    ibv_wc completion{};
    for (;;) {
      const int count = ibv_poll_cq(completions.get(), 1, &completion);
      REQUIRE(count >= 0);
      if (count == 1) return completion;
      INFO("no completion came");
      REQUIRE(std::chrono::steady_clock::now() < end);
    }
  }
};

/// A requester and a responder, connected, each with registered memory of its own.
struct Pair {
  static constexpr std::size_t kBytes = 8u << 20;
  static constexpr int kAllAccess =
      IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_MW_BIND;

  Endpoint requester{kRequesterAddress};
  Endpoint responder{kResponderAddress};
  std::vector<std::uint8_t> near, far;  // the requester's memory, the responder's
  Region near_region, far_region;

  explicit Pair(std::uint8_t timeout = kPatient) : near(kBytes), far(kBytes) {
    requester.connect_to(responder, kResponderAddress, timeout);
    responder.connect_to(requester, kRequesterAddress, timeout);
    for (std::size_t i = 0; i < kBytes; i++) near[i] = static_cast<std::uint8_t>(i * 7 + (i >> 13));
    near_region = requester.register_memory(near, kAllAccess);
    far_region = responder.register_memory(far, kAllAccess);
    REQUIRE(near_region);
    REQUIRE(far_region);
  }

  /// Carries out one request between near and far memory, from the beginning of each; its status.
  ibv_wc_status run(ibv_wr_opcode opcode, std::uint32_t length, std::uint32_t rkey,
                    std::size_t far_offset = 0, unsigned flags = 0) {
    ibv_sge element{reinterpret_cast<std::uintptr_t>(near.data()), length, near_region.get()->lkey};
    ibv_send_wr request{};
    request.sg_list = &element;
    request.num_sge = 1;
    request.opcode = opcode;
    request.send_flags = flags;
    request.imm_data = htonl(kImmediate);
    request.wr.rdma.remote_addr = reinterpret_cast<std::uintptr_t>(far.data()) + far_offset;
    request.wr.rdma.rkey = rkey;
    requester.post(request);
    return requester.wait().status;
  }

  static constexpr std::uint32_t kImmediate = 0xabcd;
};

}  // namespace avec::rdma_guest
