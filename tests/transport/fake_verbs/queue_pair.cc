// The life of a queue pair: made, led through its states, asked, destroyed.
#include <errno.h>

#include <algorithm>

#include "transport/fake_verbs/state.h"

namespace fake_verbs {
namespace {

/// What a change of state must name, and may name. IBTA 1.4, table 91, for reliable connections.
struct Transition {
  ibv_qp_state from, to;
  int required, optional;
};

constexpr int kToReady = IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                         IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
constexpr int kToSend =
    IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC;
constexpr Transition kTransitions[] = {
    {IBV_QPS_RESET, IBV_QPS_INIT, IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS, 0},
    {IBV_QPS_INIT, IBV_QPS_INIT, 0, IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS},
    {IBV_QPS_INIT, IBV_QPS_RTR, kToReady, IBV_QP_ACCESS_FLAGS | IBV_QP_PKEY_INDEX},
    {IBV_QPS_RTR, IBV_QPS_RTS, kToSend, IBV_QP_ACCESS_FLAGS | IBV_QP_MIN_RNR_TIMER},
    {IBV_QPS_RTS, IBV_QPS_RTS, 0, IBV_QP_ACCESS_FLAGS | IBV_QP_MIN_RNR_TIMER},
};

int check_transition(ibv_qp_state from, ibv_qp_state to, int mask) {
  mask &= ~(IBV_QP_STATE | IBV_QP_CUR_STATE);
  if (to == IBV_QPS_RESET || to == IBV_QPS_ERR) return mask == 0 ? 0 : EINVAL;
  for (const auto& row : kTransitions) {
    if (row.from != from || row.to != to) continue;
    const bool complete = (mask & row.required) == row.required;
    return complete && (mask & ~(row.required | row.optional)) == 0 ? 0 : EINVAL;
  }
  return EINVAL;
}

int check_attributes(const QueuePair& qp, const ibv_qp_attr& attributes, int mask) {
  const auto& settings = qp.device->settings;
  constexpr std::uint32_t kPsns = 1 << 24;
  if ((mask & IBV_QP_PORT) != 0 && !qp.device->has_port(attributes.port_num)) return EINVAL;
  if ((mask & IBV_QP_PKEY_INDEX) != 0 && attributes.pkey_index != 0) return EINVAL;
  if ((mask & IBV_QP_RQ_PSN) != 0 && attributes.rq_psn >= kPsns) return EINVAL;
  if ((mask & IBV_QP_SQ_PSN) != 0 && attributes.sq_psn >= kPsns) return EINVAL;
  if ((mask & IBV_QP_MAX_DEST_RD_ATOMIC) != 0 && attributes.max_dest_rd_atomic > settings.max_rd_atomic)
    return EINVAL;
  if ((mask & IBV_QP_MAX_QP_RD_ATOMIC) != 0 && attributes.max_rd_atomic > settings.max_rd_atomic)
    return EINVAL;
  if ((mask & IBV_QP_MIN_RNR_TIMER) != 0 && attributes.min_rnr_timer > 31) return EINVAL;
  if ((mask & IBV_QP_TIMEOUT) != 0 && attributes.timeout > 31) return EINVAL;
  if ((mask & IBV_QP_RETRY_CNT) != 0 && attributes.retry_cnt > 7) return EINVAL;
  if ((mask & IBV_QP_RNR_RETRY) != 0 && attributes.rnr_retry > 7) return EINVAL;
  if ((mask & IBV_QP_PATH_MTU) != 0 &&
      (attributes.path_mtu < IBV_MTU_256 || static_cast<int>(attributes.path_mtu) > settings.active_mtu)) {
    return EINVAL;
  }
  if ((mask & IBV_QP_AV) == 0) return 0;
  const auto& route = attributes.ah_attr;
  if (!route.is_global) return settings.link_layer == IBV_LINK_LAYER_INFINIBAND ? 0 : EINVAL;
  ibv_gid own{};
  ibv_gid_type type{};
  const bool known = qp.device->gid(qp.attributes.port_num, route.grh.sgid_index, own, type);
  return known && route.port_num == qp.attributes.port_num ? 0 : EINVAL;
}

// Only what the mask names is taken over.
void take_over(ibv_qp_attr& into, const ibv_qp_attr& from, int mask) {
  if ((mask & IBV_QP_ACCESS_FLAGS) != 0) into.qp_access_flags = from.qp_access_flags;
  if ((mask & IBV_QP_PKEY_INDEX) != 0) into.pkey_index = from.pkey_index;
  if ((mask & IBV_QP_PORT) != 0) into.port_num = from.port_num;
  if ((mask & IBV_QP_AV) != 0) into.ah_attr = from.ah_attr;
  if ((mask & IBV_QP_PATH_MTU) != 0) into.path_mtu = from.path_mtu;
  if ((mask & IBV_QP_DEST_QPN) != 0) into.dest_qp_num = from.dest_qp_num;
  if ((mask & IBV_QP_RQ_PSN) != 0) into.rq_psn = from.rq_psn;
  if ((mask & IBV_QP_SQ_PSN) != 0) into.sq_psn = from.sq_psn;
  if ((mask & IBV_QP_MAX_DEST_RD_ATOMIC) != 0) into.max_dest_rd_atomic = from.max_dest_rd_atomic;
  if ((mask & IBV_QP_MAX_QP_RD_ATOMIC) != 0) into.max_rd_atomic = from.max_rd_atomic;
  if ((mask & IBV_QP_MIN_RNR_TIMER) != 0) into.min_rnr_timer = from.min_rnr_timer;
  if ((mask & IBV_QP_TIMEOUT) != 0) into.timeout = from.timeout;
  if ((mask & IBV_QP_RETRY_CNT) != 0) into.retry_cnt = from.retry_cnt;
  if ((mask & IBV_QP_RNR_RETRY) != 0) into.rnr_retry = from.rnr_retry;
}

// Forgets all work, without completions.
void to_reset(QueuePair& qp) {
  qp.state = IBV_QPS_RESET;
  qp.sends_posted = qp.sends_done = qp.sends_released = 0;
  qp.receives_posted = qp.receives_done = qp.receives_released = 0;
  qp.blocked = QueuePair::Blocked::kNo;
  qp.deadline = kNever;
  qp.established = false;
}

int check_capacity(const FakeVerbsDevice& settings, const ibv_qp_init_attr& init) {
  const auto& cap = init.cap;
  if (init.qp_type != IBV_QPT_RC || init.srq != nullptr) return EOPNOTSUPP;
  if (init.send_cq == nullptr || init.recv_cq == nullptr) return EINVAL;
  const bool fits = cap.max_send_wr <= settings.max_qp_wr && cap.max_recv_wr <= settings.max_qp_wr &&
                    cap.max_send_sge <= settings.max_sge && cap.max_recv_sge <= settings.max_sge &&
                    cap.max_inline_data <= settings.max_inline_data;
  return fits ? 0 : EINVAL;
}

void drop_completions(CompletionQueue& queue, std::uint32_t qpn) {
  queue.entries->drop([&](const Completion& completion) { return completion.wc.qp_num == qpn; });
}

}  // namespace
}  // namespace fake_verbs

using namespace fake_verbs;

extern "C" {

ibv_qp* ibv_create_qp(ibv_pd* domain, ibv_qp_init_attr* init) {
  Call call(Function::ibv_create_qp, domain->context);
  auto& fabric = Fabric::get();
  auto& context = context_of(domain->context);
  if (call.error == 0 && context.device->fatal) call.error = EIO;
  if (call.error == 0) call.error = check_capacity(context.device->settings, *init);
  if (call.error == 0 &&
      fabric.queue_pairs.size() >= static_cast<std::size_t>(context.device->settings.max_qp)) {
    call.error = ENOMEM;
  }
  if (call.error != 0) {
    errno = call.error;
    return nullptr;
  }
  auto* qp = new QueuePair;
  const auto& cap = init->cap;
  qp->init = *init;
  qp->device = context.device;
  qp->attributes.cap = cap;
  qp->base.context = domain->context;
  qp->base.qp_context = init->qp_context;
  qp->base.pd = domain;
  qp->base.send_cq = init->send_cq;
  qp->base.recv_cq = init->recv_cq;
  qp->base.handle = fabric.next_handle++;
  qp->base.qp_num = fabric.next_qpn++;
  qp->base.qp_type = init->qp_type;
  // One more than asked for, so that an address within exists whatever the sizes.
  qp->sends.resize(cap.max_send_wr + 1);
  qp->send_sges.resize(std::size_t{cap.max_send_wr + 1} * cap.max_send_sge + 1);
  qp->inline_data =
      std::make_unique_for_overwrite<std::byte[]>(std::size_t{cap.max_send_wr + 1} * cap.max_inline_data + 1);
  qp->receives.resize(cap.max_recv_wr + 1);
  qp->receive_sges.resize(std::size_t{cap.max_recv_wr + 1} * cap.max_recv_sge + 1);
  ++reinterpret_cast<CompletionQueue*>(init->send_cq)->queue_pairs;
  ++reinterpret_cast<CompletionQueue*>(init->recv_cq)->queue_pairs;
  fabric.queue_pairs.push_back(qp);
  fabric.queue_pairs_by_number[qp->base.qp_num] = qp;
  ++fabric.live.queue_pairs;
  ++reinterpret_cast<Domain*>(domain)->objects;
  return &qp->base;
}

int ibv_modify_qp(ibv_qp* base, ibv_qp_attr* attributes, int mask) {
  Call call(Function::ibv_modify_qp, base->context);
  if (call.error != 0) return call.error;
  auto& fabric = Fabric::get();
  auto& qp = *reinterpret_cast<QueuePair*>(base);
  const auto to = (mask & IBV_QP_STATE) != 0 ? attributes->qp_state : qp.state;
  if (int error = check_transition(qp.state, to, mask)) return error;
  if (int error = check_attributes(qp, *attributes, mask)) return error;
  if (qp.device->fatal && to != IBV_QPS_ERR && to != IBV_QPS_RESET) return EIO;
  take_over(qp.attributes, *attributes, mask);
  if (to == IBV_QPS_ERR) {
    fabric.to_error(qp);
    qp.state = IBV_QPS_ERR;  // from RESET too
  } else if (to == IBV_QPS_RESET) {
    to_reset(qp);
  } else {
    qp.state = to;
  }
  base->state = qp.state;
  fabric.ready(qp);
  fabric.ready_peer(qp);
  fabric.settle();
  return 0;
}

int ibv_query_qp(ibv_qp* base, ibv_qp_attr* attributes, int, ibv_qp_init_attr* init) {
  Call call(Function::ibv_query_qp, base->context);
  if (call.error != 0) return call.error;
  const auto& qp = *reinterpret_cast<QueuePair*>(base);
  *attributes = qp.attributes;
  attributes->qp_state = attributes->cur_qp_state = qp.state;
  *init = qp.init;
  base->state = qp.state;
  return 0;
}

int ibv_destroy_qp(ibv_qp* base) {
  Call call(Function::ibv_destroy_qp, base->context);
  if (call.error != 0) return call.error;
  auto& fabric = Fabric::get();
  auto* qp = reinterpret_cast<QueuePair*>(base);
  // The real one waits here until they are acknowledged.
  if (qp->unacknowledged > 0) fabric.violation("ibv_destroy_qp with events that are not acknowledged");
  auto& context = context_of(base->context);
  for (auto n = context.events.drop([&](const AsyncEvent& event) { return event.qpn == base->qp_num; });
       n > 0; --n) {
    context.async.withdraw();
  }
  for (auto* queue : {base->send_cq, base->recv_cq}) {
    auto& completions = *reinterpret_cast<CompletionQueue*>(queue);
    if (!fabric.keeps_stale_completions) drop_completions(completions, base->qp_num);
    --completions.queue_pairs;
  }
  fabric.forget(*qp);
  std::erase(fabric.queue_pairs, qp);
  fabric.queue_pairs_by_number.erase(base->qp_num);
  fabric.ready_peer(*qp);  // its requests are heard no more
  --fabric.live.queue_pairs;
  --reinterpret_cast<Domain*>(base->pd)->objects;
  delete qp;
  fabric.settle();
  return 0;
}

}  // extern "C"
