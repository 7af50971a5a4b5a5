// Posting, polling, asking for notification: the functions that programs reach through
// ibv_context::ops. They allocate nothing.
#include <errno.h>

#include <algorithm>
#include <cstring>

#include "transport/fake_verbs/state.h"

namespace fake_verbs {
namespace {

bool is_write_or_send(ibv_wr_opcode opcode) {
  switch (opcode) {
    case IBV_WR_RDMA_WRITE:
    case IBV_WR_RDMA_WRITE_WITH_IMM:
    case IBV_WR_SEND:
    case IBV_WR_SEND_WITH_IMM:
    case IBV_WR_SEND_WITH_INV:
      return true;
    default:
      return false;
  }
}

int check_send(const QueuePair& qp, const ibv_send_wr& work, std::uint64_t& inline_bytes) {
  if (qp.state != IBV_QPS_RTS && qp.state != IBV_QPS_ERR) return EINVAL;
  if (qp.sends_posted - qp.sends_released >= qp.init.cap.max_send_wr) return ENOMEM;
  if (work.num_sge < 0 || static_cast<unsigned>(work.num_sge) > qp.init.cap.max_send_sge) return EINVAL;
  const bool local_only = work.opcode == IBV_WR_BIND_MW || work.opcode == IBV_WR_LOCAL_INV;
  if (!is_write_or_send(work.opcode) && work.opcode != IBV_WR_RDMA_READ && !local_only) return EOPNOTSUPP;
  if (local_only && (work.num_sge > 0 || qp.device->settings.windows < 2)) return EINVAL;
  if (work.opcode == IBV_WR_BIND_MW && work.bind_mw.mw->type != IBV_MW_TYPE_2) return EINVAL;
  if ((work.send_flags & IBV_SEND_INLINE) == 0) return 0;
  if (!is_write_or_send(work.opcode)) return EINVAL;
  for (int i = 0; i < work.num_sge; ++i) inline_bytes += work.sg_list[i].length;
  return inline_bytes <= qp.init.cap.max_inline_data ? 0 : EINVAL;
}

void take(Fabric& fabric, QueuePair& qp, const ibv_send_wr& from, std::uint64_t inline_bytes) {
  const auto slot = qp.sends_posted % qp.sends.size();
  auto& work = qp.sends[slot];
  work = {};
  work.id = from.wr_id;
  work.opcode = from.opcode;
  work.flags = from.send_flags;
  work.order = fabric.next_order++;
  if (fabric.mode == FAKE_VERBS_THREAD) work.due = Clock::now() + fabric.delay;
  if ((from.send_flags & IBV_SEND_INLINE) != 0) {
    auto* into = qp.inline_of(qp.sends_posted);
    for (int i = 0; i < from.num_sge; ++i) {
      if (from.sg_list[i].length == 0) continue;
      std::memcpy(into, reinterpret_cast<const void*>(from.sg_list[i].addr), from.sg_list[i].length);
      into += from.sg_list[i].length;
    }
    work.inline_bytes = static_cast<std::uint32_t>(inline_bytes);
  } else {
    work.sges = static_cast<unsigned>(from.num_sge);
    std::copy_n(from.sg_list, from.num_sge, &qp.send_sges[slot * qp.init.cap.max_send_sge]);
  }
  switch (from.opcode) {
    case IBV_WR_BIND_MW:
      work.window = reinterpret_cast<Window*>(from.bind_mw.mw);
      work.rkey = from.bind_mw.rkey;
      work.bind = from.bind_mw.bind_info;
      break;
    case IBV_WR_LOCAL_INV:
    case IBV_WR_SEND_WITH_INV:
      work.rkey = from.invalidate_rkey;
      break;
    case IBV_WR_SEND:
    case IBV_WR_SEND_WITH_IMM:
      work.immediate = from.imm_data;
      break;
    default:
      work.immediate = from.imm_data;
      work.remote_address = from.wr.rdma.remote_addr;
      work.rkey = from.wr.rdma.rkey;
      break;
  }
  work.forced = fabric.work_fault(from.opcode, qp.base.qp_num);
  ++qp.sends_posted;
  ++fabric.posted[static_cast<unsigned>(from.opcode) % fabric.posted.size()];
  fabric.deepest_send_queue =
      std::max(fabric.deepest_send_queue, static_cast<unsigned>(qp.sends_posted - qp.sends_released));
}

int take(Fabric& fabric, QueuePair& qp, const ibv_recv_wr& from) {
  if (qp.state == IBV_QPS_RESET) return EINVAL;
  if (qp.receives_posted - qp.receives_released >= qp.init.cap.max_recv_wr) return ENOMEM;
  if (from.num_sge < 0 || static_cast<unsigned>(from.num_sge) > qp.init.cap.max_recv_sge) return EINVAL;
  const auto slot = qp.receives_posted % qp.receives.size();
  qp.receives[slot] = {from.wr_id, static_cast<unsigned>(from.num_sge),
                       fabric.work_fault(-2, qp.base.qp_num)};
  std::copy_n(from.sg_list, from.num_sge, &qp.receive_sges[slot * qp.init.cap.max_recv_sge]);
  ++qp.receives_posted;
  ++fabric.receives_posted;
  return 0;
}

}  // namespace

int post_send(ibv_qp* base, ibv_send_wr* work, ibv_send_wr** bad) {
  Call call(Function::ibv_post_send, base->context);
  auto& fabric = Fabric::get();
  auto& qp = *reinterpret_cast<QueuePair*>(base);
  int error = call.error;
  for (; error == 0 && work != nullptr; work = work->next) {
    std::uint64_t inline_bytes = 0;
    error = check_send(qp, *work, inline_bytes);
    if (error != 0) break;
    take(fabric, qp, *work, inline_bytes);
  }
  if (error != 0) *bad = work;
  fabric.ready(qp);
  fabric.settle();
  return error;
}

int post_receive(ibv_qp* base, ibv_recv_wr* work, ibv_recv_wr** bad) {
  Call call(Function::ibv_post_recv, base->context);
  auto& fabric = Fabric::get();
  auto& qp = *reinterpret_cast<QueuePair*>(base);
  int error = call.error;
  for (; error == 0 && work != nullptr; work = work->next) {
    error = take(fabric, qp, *work);
    if (error != 0) break;
  }
  if (error != 0) *bad = work;
  if (qp.state == IBV_QPS_ERR) flush_receives(fabric, qp);
  fabric.ready_peer(qp);
  fabric.settle();
  return error;
}

int poll(ibv_cq* base, int room, ibv_wc* completions) {
  Call call(Function::ibv_poll_cq, base->context);
  if (call.error != 0) return -1;
  auto& fabric = Fabric::get();
  auto& queue = *reinterpret_cast<CompletionQueue*>(base);
  int count = 0;
  while (count < room && !queue.entries->empty()) {
    const auto& completion = queue.entries->front();
    completions[count++] = completion.wc;
    if (auto* qp = fabric.queue_pair(completion.wc.qp_num)) {
      auto& released = completion.receive ? qp->receives_released : qp->sends_released;
      released = std::max(released, completion.releases);
    }
    queue.entries->pop();
  }
  return count;
}

int request_notification(ibv_cq* base, int solicited_only) {
  Call call(Function::ibv_req_notify_cq, base->context);
  if (call.error != 0) return call.error;
  auto& queue = *reinterpret_cast<CompletionQueue*>(base);
  // An earlier request for any completion is not weakened by a later one for solicited ones.
  if (solicited_only == 0 || queue.armed == CompletionQueue::Armed::kAny) {
    queue.armed = CompletionQueue::Armed::kAny;
  } else {
    queue.armed = CompletionQueue::Armed::kSolicited;
  }
  return 0;
}

}  // namespace fake_verbs
