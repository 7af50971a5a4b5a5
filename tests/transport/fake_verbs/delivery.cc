// What an adapter does with posted work: checks it as the verbs documents say, moves the bytes, and
// completes it, at both ends.
#include <algorithm>
#include <cstring>

#include "transport/fake_verbs/state.h"

namespace fake_verbs {
namespace {

using std::chrono::microseconds;
using std::chrono::nanoseconds;

// A receiver's answer when nothing is posted: how long to wait. IBTA 1.4, table 45.
constexpr std::array<unsigned, 32> kReceiverNotReadyUs = {
    655360, 10,    20,    30,    40,    60,     80,     120,    160,    240,   320,
    480,    640,   960,   1280,  1920,  2560,   3840,   5120,   7680,   10240, 15360,
    20480,  30720, 40960, 61440, 81920, 122880, 163840, 245760, 327680, 491520};

ibv_wc_opcode opcode_of(ibv_wr_opcode opcode) {
  switch (opcode) {
    case IBV_WR_RDMA_WRITE:
    case IBV_WR_RDMA_WRITE_WITH_IMM:
      return IBV_WC_RDMA_WRITE;
    case IBV_WR_RDMA_READ:
      return IBV_WC_RDMA_READ;
    case IBV_WR_LOCAL_INV:
      return IBV_WC_LOCAL_INV;
    case IBV_WR_BIND_MW:
      return IBV_WC_BIND_MW;
    default:
      return IBV_WC_SEND;
  }
}

// Fields that the verbs leave undefined hold this, so that nobody comes to rely on them.
ibv_wc undefined_completion() {
  ibv_wc wc;
  std::memset(&wc, 0xa5, sizeof wc);
  wc.opcode = IBV_WC_TSO;  // no operation of anybody's
  wc.status = IBV_WC_SUCCESS;
  wc.vendor_err = 0;
  wc.wc_flags = 0;
  return wc;
}

void complete_send(Fabric& fabric, QueuePair& qp, ibv_wc_status status, std::uint32_t read_bytes = 0) {
  const SendWork work = qp.head();
  ++qp.sends_done;
  qp.blocked = QueuePair::Blocked::kNo;
  qp.deadline = kNever;
  const bool wanted =
      status != IBV_WC_SUCCESS || (work.flags & IBV_SEND_SIGNALED) != 0 || qp.init.sq_sig_all != 0;
  if (!wanted) return;
  Completion completion;
  completion.wc = undefined_completion();
  completion.wc.wr_id = work.id;
  completion.wc.status = status;
  completion.wc.qp_num = qp.base.qp_num;
  completion.releases = qp.sends_done;
  if (status == IBV_WC_SUCCESS) {
    completion.wc.opcode = opcode_of(work.opcode);
    if (work.opcode == IBV_WR_RDMA_READ) completion.wc.byte_len = read_bytes;
  } else {
    completion.wc.vendor_err = 0x51;
  }
  push(fabric, *reinterpret_cast<CompletionQueue*>(qp.base.send_cq), completion, false);
}

void fail_send(Fabric& fabric, QueuePair& qp, ibv_wc_status status) {
  complete_send(fabric, qp, status);
  fabric.to_error(qp);
}

// Completes the first posted receive. `sent`: the request that it answers.
void complete_receive(Fabric& fabric, QueuePair& qp, ibv_wc_status status, const SendWork* sent = nullptr,
                      std::uint32_t bytes = 0) {
  const ReceiveWork& work = qp.receives[qp.receives_done % qp.receives.size()];
  ++qp.receives_done;
  Completion completion;
  completion.receive = true;
  completion.wc = undefined_completion();
  completion.wc.wr_id = work.id;
  completion.wc.status = status;
  completion.wc.qp_num = qp.base.qp_num;
  completion.releases = qp.receives_done;
  bool solicited = status != IBV_WC_SUCCESS;
  if (status == IBV_WC_SUCCESS && sent != nullptr) {
    solicited = (sent->flags & IBV_SEND_SOLICITED) != 0;
    completion.wc.byte_len = bytes;
    completion.wc.opcode =
        sent->opcode == IBV_WR_RDMA_WRITE_WITH_IMM ? IBV_WC_RECV_RDMA_WITH_IMM : IBV_WC_RECV;
    if (sent->opcode == IBV_WR_SEND_WITH_IMM || sent->opcode == IBV_WR_RDMA_WRITE_WITH_IMM) {
      completion.wc.wc_flags = IBV_WC_WITH_IMM;
      completion.wc.imm_data = sent->immediate;
    } else if (sent->opcode == IBV_WR_SEND_WITH_INV) {
      completion.wc.wc_flags = IBV_WC_WITH_INV;
      completion.wc.invalidated_rkey = sent->rkey;
    }
  } else {
    completion.wc.vendor_err = 0x52;
  }
  push(fabric, *reinterpret_cast<CompletionQueue*>(qp.base.recv_cq), completion, solicited);
}

// ---- memory

std::byte* local(Fabric& fabric, const QueuePair& qp, const ibv_sge& sge, bool written) {
  const auto found = fabric.keys.find(sge.lkey >> 8);
  if (found == fabric.keys.end() || found->second.region == nullptr) return nullptr;
  const auto& region = *found->second.region;
  const auto start = region.start;
  const bool fits = region.base.lkey == sge.lkey && region.base.pd == qp.base.pd && sge.addr >= start &&
                    sge.length <= region.base.length && sge.addr - start <= region.base.length - sge.length;
  if (!fits || (written && (region.access & IBV_ACCESS_LOCAL_WRITE) == 0)) return nullptr;
  return region.memory + (sge.addr - start);
}

// Where the bytes of an element lie in this process; those of no region name them by their address.
std::byte* place_of(Fabric& fabric, const ibv_sge& sge) {
  const auto found = fabric.keys.find(sge.lkey >> 8);
  const Region* region = found == fabric.keys.end() ? nullptr : found->second.region;
  return region != nullptr ? region->memory + (sge.addr - region->start)
                           : reinterpret_cast<std::byte*>(sge.addr);
}

// Bytes in pieces, to be read or filled from the front.
struct Pieces {
  const ibv_sge* sges;
  unsigned count;
  std::uint64_t bytes() const {
    std::uint64_t sum = 0;
    for (unsigned i = 0; i < count; ++i) sum += sges[i].length;
    return sum;
  }
  bool allowed(Fabric& fabric, const QueuePair& qp, bool written) const {
    for (unsigned i = 0; i < count; ++i) {
      if (sges[i].length > 0 && local(fabric, qp, sges[i], written) == nullptr) return false;
    }
    return true;
  }
};

/// Copies all of `from` to the front of `to`.
void copy(Fabric& fabric, const Pieces& from, const Pieces& to) {
  unsigned out = 0;
  std::uint32_t filled = 0;
  for (unsigned in = 0; in < from.count; ++in) {
    std::uint32_t taken = 0;
    while (taken < from.sges[in].length) {
      while (filled == to.sges[out].length) ++out, filled = 0;
      const auto bytes = std::min(from.sges[in].length - taken, to.sges[out].length - filled);
      std::memcpy(place_of(fabric, to.sges[out]) + filled, place_of(fabric, from.sges[in]) + taken, bytes);
      taken += bytes;
      filled += bytes;
    }
  }
}

// ---- windows

bool bind(Fabric& fabric, QueuePair& qp, const SendWork& work) {
  auto& window = *work.window;
  const auto& info = work.bind;
  auto* region = reinterpret_cast<Region*>(info.mr);
  if (window.base.pd != qp.base.pd || window.region != nullptr || info.length == 0 || region == nullptr)
    return false;
  const auto start = region->start;
  const bool inside = info.addr >= start && info.length <= region->base.length &&
                      info.addr - start <= region->base.length - info.length;
  const bool writes = (info.mw_access_flags & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC)) != 0;
  if (!inside || region->base.pd != qp.base.pd || (region->access & IBV_ACCESS_MW_BIND) == 0 ||
      (writes && (region->access & IBV_ACCESS_LOCAL_WRITE) == 0)) {
    return false;
  }
  // The program chooses the low byte only, and not the one in use.
  if (work.rkey >> 8 != window.rkey >> 8 || work.rkey == window.rkey) return false;
  window.rkey = work.rkey;
  window.region = region;
  window.qpn = qp.base.qp_num;
  window.address = info.addr;
  window.bytes = info.length;
  window.access = info.mw_access_flags;
  ++region->windows;
  ++fabric.live.remote_keys;
  fabric.remember_key(window.rkey, window.address);
  return true;
}

// The key of a bound window of this queue pair becomes worthless.
bool invalidate(Fabric& fabric, const QueuePair& qp, std::uint32_t rkey) {
  const auto found = fabric.keys.find(rkey >> 8);
  if (found == fabric.keys.end() || found->second.window == nullptr) return false;
  auto& window = *found->second.window;
  if (window.region == nullptr || window.rkey != rkey || window.qpn != qp.base.qp_num) return false;
  --window.region->windows;
  window.region = nullptr;
  --fabric.live.remote_keys;
  return true;
}

// ---- the wire

bool active(const QueuePair& qp) {
  return !qp.cut && !qp.device->fatal && qp.device->ports[qp.attributes.port_num].state == IBV_PORT_ACTIVE;
}

// Whether the address vector of `from` leads to `to`.
bool addressed(const QueuePair& from, const QueuePair& to) {
  const auto& route = from.attributes.ah_attr;
  const auto port = to.attributes.port_num;
  if (!route.is_global) {
    return from.device->settings.link_layer == IBV_LINK_LAYER_INFINIBAND &&
           to.device->ports[port].lid == route.dlid;
  }
  ibv_gid own{}, theirs{};
  ibv_gid_type own_type{}, type{};
  if (!from.device->gid(from.attributes.port_num, route.grh.sgid_index, own, own_type)) return false;
  for (unsigned i = 0; i < Device::kGidTable; ++i) {
    if (to.device->gid(port, i, theirs, type) && type == own_type &&
        std::memcmp(&theirs, &route.grh.dgid, sizeof theirs) == 0) {
      return true;
    }
  }
  return false;
}

// The queue pair that hears what `qp` sends; null: nobody does.
QueuePair* hearer(Fabric& fabric, const QueuePair& qp) {
  auto* peer = fabric.queue_pair(qp.attributes.dest_qp_num);
  if (peer == nullptr || !active(qp) || !active(*peer)) return nullptr;
  const bool receives = peer->state == IBV_QPS_RTR || peer->state == IBV_QPS_RTS;
  if (!receives || peer->attributes.dest_qp_num != qp.base.qp_num) return nullptr;
  if (!addressed(qp, *peer) || !addressed(*peer, qp)) return nullptr;
  const bool agree =
      qp.attributes.sq_psn == peer->attributes.rq_psn && qp.attributes.path_mtu == peer->attributes.path_mtu;
  return agree ? peer : nullptr;
}

// The first request cannot be done now: waits, and fails with `status` once `patience` is over.
Outcome wait_or_fail(Fabric& fabric, QueuePair& qp, QueuePair::Blocked why, bool patient,
                     nanoseconds patience, ibv_wc_status status, Time now) {
  if (qp.blocked != why) {
    qp.blocked = why;
    qp.deadline = patient ? kNever : now + patience * fabric.timeout_percent / 100;
  }
  if (qp.deadline > now) return Outcome::kWait;
  fail_send(fabric, qp, status);
  return Outcome::kProgress;
}

Outcome unheard(Fabric& fabric, QueuePair& qp, Time now) {
  const auto& attributes = qp.attributes;
  const nanoseconds once((std::uint64_t{4096}) << attributes.timeout);
  return wait_or_fail(fabric, qp, QueuePair::Blocked::kSilence, attributes.timeout == 0,
                      once * (attributes.retry_cnt + 1), IBV_WC_RETRY_EXC_ERR, now);
}

Outcome not_ready(Fabric& fabric, QueuePair& qp, const QueuePair& peer, Time now) {
  const auto retries = qp.attributes.rnr_retry;
  const microseconds once(kReceiverNotReadyUs[peer.attributes.min_rnr_timer % 32]);
  return wait_or_fail(fabric, qp, QueuePair::Blocked::kReceiver, retries == 7, once * retries,
                      IBV_WC_RNR_RETRY_EXC_ERR, now);
}

// The responder refuses: the requester is told, both ends are in error.
void refuse(Fabric& fabric, QueuePair& qp, QueuePair& peer, ibv_wc_status status, ibv_event_type event) {
  fabric.raise(context_of(peer.base.context), event, 0, &peer, nullptr);
  fail_send(fabric, qp, status);
  fabric.to_error(peer);
}

// The receive that the request would fill fails, and with it both ends.
void fail_receive(Fabric& fabric, QueuePair& qp, QueuePair& peer, ibv_wc_status status) {
  complete_receive(fabric, peer, status);
  fail_send(fabric, qp, status == IBV_WC_LOC_LEN_ERR ? IBV_WC_REM_INV_REQ_ERR : IBV_WC_REM_OP_ERR);
  fabric.to_error(peer);
}

Outcome do_send(Fabric& fabric, QueuePair& qp, QueuePair& peer, const Pieces& from, Time now) {
  const SendWork& work = qp.head();
  const auto slot = peer.receives_done % peer.receives.size();
  const Pieces into{&peer.receive_sges[slot * peer.init.cap.max_recv_sge], peer.receives[slot].sges};
  const bool too_long = from.bytes() > into.bytes();
  if (too_long || !into.allowed(fabric, peer, true)) {
    fail_receive(fabric, qp, peer, too_long ? IBV_WC_LOC_LEN_ERR : IBV_WC_LOC_PROT_ERR);
    return Outcome::kProgress;
  }
  if (work.opcode == IBV_WR_SEND_WITH_INV && !invalidate(fabric, peer, work.rkey)) {
    // As soft-RoCE does: the receiver fails, and answers no more.
    complete_receive(fabric, peer, IBV_WC_REM_INV_REQ_ERR);
    fabric.to_error(peer);
    return unheard(fabric, qp, now);
  }
  copy(fabric, from, into);
  const auto bytes = static_cast<std::uint32_t>(from.bytes());
  complete_receive(fabric, peer, IBV_WC_SUCCESS, &work, bytes);
  complete_send(fabric, qp, IBV_WC_SUCCESS);
  return Outcome::kProgress;
}

Outcome do_access(Fabric& fabric, QueuePair& qp, QueuePair& peer, const Pieces& own) {
  const SendWork work = qp.head();
  const bool reads = work.opcode == IBV_WR_RDMA_READ;
  const unsigned right = reads ? IBV_ACCESS_REMOTE_READ : IBV_ACCESS_REMOTE_WRITE;
  const auto bytes = own.bytes();
  if ((peer.attributes.qp_access_flags & right) == 0 ||
      (reads && qp.attributes.max_rd_atomic > peer.attributes.max_dest_rd_atomic)) {
    refuse(fabric, qp, peer, IBV_WC_REM_INV_REQ_ERR, IBV_EVENT_QP_REQ_ERR);
    return Outcome::kProgress;
  }
  std::byte* theirs = bytes > 0 ? fabric.remote(peer, work.rkey, work.remote_address, bytes, right) : nullptr;
  if (bytes > 0 && theirs == nullptr) {
    refuse(fabric, qp, peer, IBV_WC_REM_ACCESS_ERR, IBV_EVENT_QP_ACCESS_ERR);
    return Outcome::kProgress;
  }
  if (bytes > 0) {
    const ibv_sge there{reinterpret_cast<std::uint64_t>(theirs), static_cast<std::uint32_t>(bytes), 0};
    const Pieces far{&there, 1};
    reads ? copy(fabric, far, own) : copy(fabric, own, far);
  }
  if (work.opcode == IBV_WR_RDMA_WRITE_WITH_IMM) {
    complete_receive(fabric, peer, IBV_WC_SUCCESS, &work, static_cast<std::uint32_t>(bytes));
  }
  complete_send(fabric, qp, IBV_WC_SUCCESS, static_cast<std::uint32_t>(bytes));
  return Outcome::kProgress;
}

Outcome do_remote(Fabric& fabric, QueuePair& qp, Time now) {
  const SendWork& work = qp.head();
  const bool reads = work.opcode == IBV_WR_RDMA_READ;
  const ibv_sge inlined{reinterpret_cast<std::uint64_t>(qp.inline_of(qp.sends_done)), work.inline_bytes, 0};
  const bool is_inline = (work.flags & IBV_SEND_INLINE) != 0;
  const Pieces own = is_inline ? Pieces{&inlined, 1} : Pieces{qp.sges_of_head(), work.sges};
  ibv_wc_status status = IBV_WC_SUCCESS;
  if (!is_inline && !own.allowed(fabric, qp, reads)) status = IBV_WC_LOC_PROT_ERR;
  if (own.bytes() > qp.device->settings.max_msg_sz) status = IBV_WC_LOC_LEN_ERR;
  if (reads && qp.attributes.max_rd_atomic == 0) status = IBV_WC_LOC_QP_OP_ERR;
  if (status != IBV_WC_SUCCESS) {
    fail_send(fabric, qp, status);
    return Outcome::kProgress;
  }
  auto* peer = hearer(fabric, qp);
  if (peer == nullptr) return unheard(fabric, qp, now);
  if (peer->state == IBV_QPS_RTR && !peer->established) {
    peer->established = true;
    fabric.raise(context_of(peer->base.context), IBV_EVENT_COMM_EST, 0, peer, nullptr);
  }
  const bool sends = work.opcode == IBV_WR_SEND || work.opcode == IBV_WR_SEND_WITH_IMM ||
                     work.opcode == IBV_WR_SEND_WITH_INV;
  const bool needs_receive = sends || work.opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
  if (needs_receive && peer->receives_done == peer->receives_posted) return not_ready(fabric, qp, *peer, now);
  if (needs_receive) {
    const int forced = peer->receives[peer->receives_done % peer->receives.size()].forced;
    if (forced >= 0) {
      fail_receive(fabric, qp, *peer, static_cast<ibv_wc_status>(forced));
      return Outcome::kProgress;
    }
  }
  return sends ? do_send(fabric, qp, *peer, own, now) : do_access(fabric, qp, *peer, own);
}

}  // namespace

std::byte* Fabric::remote(const QueuePair& queue_pair, std::uint32_t rkey, std::uint64_t address,
                          std::uint64_t bytes, unsigned access) {
  const auto found = keys.find(rkey >> 8);
  if (found == keys.end()) return nullptr;
  std::uint64_t start = 0, room = 0;
  unsigned rights = 0;
  const Region* of = nullptr;
  if (const auto* region = found->second.region) {
    if (region->base.rkey != rkey || region->base.pd != queue_pair.base.pd) return nullptr;
    of = region;
    start = region->start;
    room = region->base.length;
    rights = region->access;
  } else if (const auto* window = found->second.window) {
    if (window->region == nullptr || window->rkey != rkey || window->qpn != queue_pair.base.qp_num)
      return nullptr;
    of = window->region;
    start = window->address;
    room = window->bytes;
    rights = window->access;
  }
  const bool inside = address >= start && bytes <= room && address - start <= room - bytes;
  return inside && (rights & access) == access ? of->memory + (address - of->start) : nullptr;
}

Outcome advance(Fabric& fabric, QueuePair& queue_pair, Time now) {
  if (!queue_pair.has_work()) return Outcome::kWait;
  if (queue_pair.state == IBV_QPS_ERR) {
    complete_send(fabric, queue_pair, IBV_WC_WR_FLUSH_ERR);
    return Outcome::kProgress;
  }
  if (queue_pair.state != IBV_QPS_RTS || queue_pair.stalled) return Outcome::kWait;
  const SendWork& work = queue_pair.head();
  if (work.forced >= 0) {
    fail_send(fabric, queue_pair, static_cast<ibv_wc_status>(work.forced));
    return Outcome::kProgress;
  }
  if (work.opcode != IBV_WR_BIND_MW && work.opcode != IBV_WR_LOCAL_INV)
    return do_remote(fabric, queue_pair, now);
  const bool binds = work.opcode == IBV_WR_BIND_MW;
  if (binds ? bind(fabric, queue_pair, work) : invalidate(fabric, queue_pair, work.rkey)) {
    complete_send(fabric, queue_pair, IBV_WC_SUCCESS);
  } else {
    fail_send(fabric, queue_pair, binds ? IBV_WC_MW_BIND_ERR : IBV_WC_LOC_QP_OP_ERR);
  }
  return Outcome::kProgress;
}

void flush_receives(Fabric& fabric, QueuePair& queue_pair) {
  while (queue_pair.receives_done < queue_pair.receives_posted) {
    complete_receive(fabric, queue_pair, IBV_WC_WR_FLUSH_ERR);
  }
}

void Fabric::to_error(QueuePair& queue_pair) {
  if (queue_pair.state == IBV_QPS_ERR || queue_pair.state == IBV_QPS_RESET) return;
  queue_pair.state = IBV_QPS_ERR;
  queue_pair.blocked = QueuePair::Blocked::kNo;
  queue_pair.deadline = kNever;
  flush_receives(*this, queue_pair);
  ready(queue_pair);
  ready_peer(queue_pair);  // it may wait for this one's receives, and hears nothing more
}

void push(Fabric& fabric, CompletionQueue& queue, const Completion& completion, bool solicited) {
  if (queue.entries->size() >= static_cast<std::size_t>(queue.base.cqe)) {
    if (!queue.overrun) {
      queue.overrun = true;
      fabric.raise(context_of(queue.base.context), IBV_EVENT_CQ_ERR, 0, nullptr, &queue);
    }
    return;  // lost, and all that follow while it is full
  }
  queue.entries->push(completion);
  fabric.deepest_completion_queue =
      std::max(fabric.deepest_completion_queue, static_cast<unsigned>(queue.entries->size()));
  const bool tells = queue.armed == CompletionQueue::Armed::kAny ||
                     (queue.armed == CompletionQueue::Armed::kSolicited && solicited);
  if (tells && queue.base.channel != nullptr) {
    queue.armed = CompletionQueue::Armed::kNo;
    auto& channel = *reinterpret_cast<Channel*>(queue.base.channel);
    channel.events.push(&queue);
    channel.bell.post();
  }
}

}  // namespace fake_verbs
