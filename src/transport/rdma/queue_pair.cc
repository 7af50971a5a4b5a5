#include "transport/rdma/queue_pair.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <thread>

namespace avec::rdma {
namespace {

constexpr std::size_t kSlotsBytes = std::size_t{kSlots + kControlSlots + kSendSlots} * kSlotBytes;
constexpr int kBatch = 16;
constexpr std::string_view kDoesNotNotify = "the RDMA adapter does not notify of completions";
/// Flushing needs no peer: this is for an adapter that does not do it.
constexpr auto kFlushDeadline = 1000ms;

void make_non_blocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

std::string completion_words(const Verbs& verbs, const ibv_wc& completion) {
  std::string words = "the RDMA adapter reports: ";
  words += verbs.ibv_wc_status_str(completion.status);
  switch (completion.status) {
    case IBV_WC_RETRY_EXC_ERR:
      words += "; the peer's adapter does not answer, is the network between them up?";
      break;
    case IBV_WC_RNR_RETRY_EXC_ERR:
      words += "; the peer had no buffer for what was sent";
      break;
    case IBV_WC_REM_ACCESS_ERR:
      words += "; the peer does not allow that access to its memory";
      break;
    default:
      break;
  }
  if (completion.vendor_err != 0) words += " (vendor code " + std::to_string(completion.vendor_err) + ")";
  return words;
}

}  // namespace

void QueuePair::Unmap::operator()(std::byte* memory) const noexcept { ::munmap(memory, kSlotsBytes); }

std::expected<std::unique_ptr<QueuePair>, Failure> QueuePair::make(Port port) {
  std::unique_ptr<QueuePair> made(new QueuePair(std::move(port)));
  for (auto step : {&QueuePair::make_queues, &QueuePair::make_pair, &QueuePair::make_slots}) {
    if (auto done = (made.get()->*step)(); !done) return std::unexpected(std::move(done.error()));
  }
  return made;
}

QueuePair::~QueuePair() {
  stop();
  destroy();
}

std::expected<void, Failure> QueuePair::make_queues() {
  const Verbs& verbs = *port_.verbs;
  ibv_context* context = port_.context.get();
  make_non_blocking(context->async_fd);
  domain_ = {verbs.ibv_alloc_pd(context), verbs.ibv_dealloc_pd};
  if (!domain_) return std::unexpected(resource_failure("making an RDMA protection domain", errno));
  channel_ = {verbs.ibv_create_comp_channel(context), verbs.ibv_destroy_comp_channel};
  if (!channel_) return std::unexpected(resource_failure("making an RDMA completion channel", errno));
  make_non_blocking(channel_->fd);
  depth_ = std::min(kSendDepth, static_cast<std::uint32_t>(std::max({port_.device_attributes.max_qp_wr, 0})));
  depth_ = std::min(depth_, static_cast<std::uint32_t>(std::max(port_.device_attributes.max_cqe, 0)));
  if (depth_ < kLeastSendDepth) {
    return std::unexpected(
        Failure{{TransportErrc::kNotViable, 0},
                port_.device + " has send queues of " + std::to_string(depth_) + " entries only"});
  }
  if (port_.device_attributes.max_qp_rd_atom <= 0 || port_.device_attributes.max_qp_init_rd_atom <= 0) {
    return std::unexpected(Failure{{TransportErrc::kNotViable, 0}, port_.device + " does no RDMA READs"});
  }
  send_queue_ = {verbs.ibv_create_cq(context, static_cast<int>(depth_), nullptr, channel_.get(), 0),
                 verbs.ibv_destroy_cq};
  receive_queue_ = {verbs.ibv_create_cq(context, kSlots + kControlSlots, nullptr, channel_.get(), 0),
                    verbs.ibv_destroy_cq};
  if (!send_queue_ || !receive_queue_)
    return std::unexpected(resource_failure("making an RDMA completion queue", errno));
  work_.resize(depth_);
  return {};
}

std::expected<void, Failure> QueuePair::make_pair() {
  const Verbs& verbs = *port_.verbs;
  ibv_qp_init_attr wanted{};
  // Adapters do not say beforehand how much they take inline: less is tried until one agrees.
  for (std::uint32_t bytes = kInlineBytes; !pair_; bytes = bytes > 32 ? bytes / 2 : 0) {
    wanted = {};
    wanted.qp_type = IBV_QPT_RC;
    wanted.send_cq = send_queue_.get();
    wanted.recv_cq = receive_queue_.get();
    wanted.cap.max_send_wr = depth_;
    wanted.cap.max_recv_wr = kSlots + kControlSlots;
    wanted.cap.max_send_sge = 1;
    wanted.cap.max_recv_sge = 1;
    wanted.cap.max_inline_data = bytes;
    pair_ = {verbs.ibv_create_qp(domain_.get(), &wanted), verbs.ibv_destroy_qp};
    if (!pair_ && (bytes == 0 || errno == EPERM || errno == EMFILE)) {
      return std::unexpected(resource_failure("making an RDMA queue pair", errno));
    }
  }
  inline_bytes_ = std::min(wanted.cap.max_inline_data, kInlineBytes);
  psn_ = random_psn();
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_INIT;
  attributes.pkey_index = 0;
  attributes.port_num = port_.number;
  // Of these an access also needs a window or registration that allows it.
  attributes.qp_access_flags = IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE;
  Failure failure;
  if (!modify(attributes, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS,
              "initialising an RDMA queue pair", failure)) {
    return std::unexpected(std::move(failure));
  }
  return {};
}

std::expected<void, Failure> QueuePair::make_slots() {
  void* mapped = ::mmap(nullptr, kSlotsBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return std::unexpected(resource_failure("mapping RDMA buffers", errno));
  slots_.reset(static_cast<std::byte*>(mapped));
  slots_memory_ = {port_.verbs->register_memory(domain_.get(), mapped, kSlotsBytes, IBV_ACCESS_LOCAL_WRITE),
                   port_.verbs->ibv_dereg_mr};
  if (!slots_memory_) {
    return std::unexpected(
        resource_failure("registering " + std::to_string(kSlotsBytes >> 10) + " KiB of RDMA buffers", errno));
  }
  for (std::uint32_t slot = 0; slot < kSlots + kControlSlots; ++slot) {
    if (!repost(slot)) return std::unexpected(Failure{error_, reason_});
  }
  return {};
}

Parameters QueuePair::parameters() const noexcept {
  Parameters mine;
  mine.queue_pair = pair_->qp_num;
  mine.packet_sequence = psn_;
  std::ranges::copy(port_.gid.raw, mine.gid.begin());
  mine.lid = port_.attributes.lid;
  mine.ethernet = port_.ethernet ? 1 : 0;
  mine.mtu = static_cast<std::uint8_t>(port_.attributes.active_mtu);
  const auto limited = [](int offered) {
    return static_cast<std::uint8_t>(std::clamp<int>(offered, 0, kReadDepth));
  };
  mine.read_depth = limited(port_.device_attributes.max_qp_rd_atom);
  mine.read_starts = limited(port_.device_attributes.max_qp_init_rd_atom);
  mine.slots = kSlots;
  mine.slot_bytes = kSlotBytes;
  mine.machine = machine_identity();
  return mine;
}

bool QueuePair::modify(ibv_qp_attr& attributes, int mask, std::string_view what, Failure& failure) const {
  const int error = port_.verbs->ibv_modify_qp(pair_.get(), &attributes, mask);
  if (error != 0) failure = resource_failure(what, error < 0 ? errno : error);
  return error == 0;
}

std::expected<void, Failure> QueuePair::connect(const Parameters& peer) {
  const Parameters mine = parameters();
  if (peer.ethernet != mine.ethernet) {
    return std::unexpected(
        Failure{{TransportErrc::kNotViable, 0}, "one end has an InfiniBand adapter, the other one of RoCE"});
  }
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_RTR;
  attributes.path_mtu = static_cast<ibv_mtu>(std::min(mine.mtu, peer.mtu));
  attributes.dest_qp_num = peer.queue_pair;
  attributes.rq_psn = peer.packet_sequence;
  attributes.max_dest_rd_atomic = std::min(mine.read_depth, peer.read_starts);
  attributes.min_rnr_timer = kRnrTimer;
  attributes.ah_attr.port_num = port_.number;
  attributes.ah_attr.dlid = peer.lid;
  // InfiniBand needs the global address beyond its own subnet: the first half differs.
  const bool other_subnet = !std::equal(peer.gid.begin(), peer.gid.begin() + 8, mine.gid.begin());
  if (port_.ethernet || other_subnet) {
    attributes.ah_attr.is_global = 1;
    std::ranges::copy(peer.gid, attributes.ah_attr.grh.dgid.raw);
    attributes.ah_attr.grh.sgid_index = port_.gid_index;
    attributes.ah_attr.grh.hop_limit = 64;
  }
  Failure failure;
  if (!modify(attributes,
              IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                  IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER,
              "finding the way to the peer's RDMA adapter", failure)) {
    return std::unexpected(std::move(failure));
  }
  attributes = {};
  attributes.qp_state = IBV_QPS_RTS;
  attributes.timeout = kAckTimeout;
  attributes.retry_cnt = kRetries;
  attributes.rnr_retry = kRnrRetries;
  attributes.sq_psn = psn_;
  attributes.max_rd_atomic = std::min(mine.read_starts, peer.read_depth);
  if (!modify(attributes,
              IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
                  IBV_QP_MAX_QP_RD_ATOMIC,
              "starting an RDMA queue pair", failure)) {
    return std::unexpected(std::move(failure));
  }
  return {};
}

// ---- send queue

std::uint32_t QueuePair::room(Urgency urgency) const noexcept {
  const auto taken = static_cast<std::uint32_t>(posted_ - ended_);
  const std::uint32_t kept = urgency == Urgency::kControl  ? 0
                             : urgency == Urgency::kMemory ? kControlReserve
                                                           : kMemoryReserve;
  return depth_ - taken > kept ? depth_ - taken - kept : 0;
}

bool QueuePair::post(ibv_send_wr& first, std::span<const Work> works) noexcept {
  std::uint64_t number = posted_;
  ibv_send_wr* request = &first;
  for (const Work& work : works) {
    work_[number % depth_] = work;
    request->wr_id = number;
    // Entries come back with a signalled one only: never more than a quarter of the queue without.
    if (number - signalled_ >= depth_ / 4) request->send_flags |= IBV_SEND_SIGNALED;
    if ((request->send_flags & IBV_SEND_SIGNALED) != 0) signalled_ = number;
    request = request->next;
    ++number;
  }
  ibv_send_wr* bad = nullptr;
  const int error = failed() || !pair_ ? ECANCELED : ibv_post_send(pair_.get(), &first, &bad);
  if (error == 0) {
    posted_ = number;
    return true;
  }
  // What stands before the bad one is on its way, and ends when it is flushed.
  const std::uint64_t reached = bad != nullptr ? bad->wr_id : posted_;
  const std::size_t left_out = number - reached;
  posted_ = reached;
  fail({TransportErrc::kInternal, error < 0 ? errno : error},
       "the RDMA adapter does not take a work request");
  for (const Work& work : works.last(left_out)) {
    if (work.owner != nullptr) work.owner->ended(work.word, error_);
  }
  return false;
}

void QueuePair::finish(std::uint64_t number, TransportError error) noexcept {
  while (ended_ <= number) {
    const Work work = work_[ended_ % depth_];
    const bool last = ended_ == number;
    ++ended_;
    if (work.owner != nullptr) work.owner->ended(work.word, last ? error : TransportError{});
  }
}

bool QueuePair::poll_sends() noexcept {
  if (!pair_) return false;
  std::array<ibv_wc, kBatch> completions;
  const int count = ibv_poll_cq(send_queue_.get(), kBatch, completions.data());
  if (count < 0) fail({TransportErrc::kInternal, EIO}, "the RDMA completion queue cannot be read");
  for (const ibv_wc& completion :
       std::span(completions).first(static_cast<std::size_t>(std::max(count, 0)))) {
    if (completion.wr_id < ended_ || completion.wr_id >= posted_) continue;  // ended by an earlier one
    const TransportError error = completion_error(completion.status);
    if (error) {
      if (completion.status == IBV_WC_WR_FLUSH_ERR) take_async_events();  // they say what came before
      fail(error, completion_words(*port_.verbs, completion));
    }
    finish(completion.wr_id, error);
  }
  return count > 0;
}

void QueuePair::fail(TransportError error, std::string_view reason) noexcept {
  if (failed()) return;
  error_ = error;
  try {
    reason_ = reason;
  } catch (...) {  // the error alone has to do
  }
  failed_.store(true, std::memory_order_release);
  if (!pair_) return;
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_ERR;
  port_.verbs->ibv_modify_qp(pair_.get(), &attributes, IBV_QP_STATE);
}

void QueuePair::stop() noexcept {
  const std::scoped_lock lock(mutex_);
  if (!pair_) return;
  // Not told of unless it is signalled: one more request, which is flushed after all others.
  ibv_send_wr last{};
  last.opcode = IBV_WR_SEND;
  last.send_flags = IBV_SEND_SIGNALED;
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_ERR;
  port_.verbs->ibv_modify_qp(pair_.get(), &attributes, IBV_QP_STATE);
  if (sends_under_way() && room(Urgency::kControl) > 0) {
    ibv_send_wr* bad = nullptr;
    last.wr_id = posted_;
    work_[posted_ % depth_] = {};
    if (ibv_post_send(pair_.get(), &last, &bad) == 0) ++posted_;
  }
  fail({TransportErrc::kClosed, 0}, "closed");
  const auto deadline = std::chrono::steady_clock::now() + kFlushDeadline;
  while (sends_under_way() && std::chrono::steady_clock::now() < deadline) {
    if (!poll_sends()) std::this_thread::yield();
  }
}

void QueuePair::destroy() noexcept {
  const std::scoped_lock lock(mutex_);
  pair_.reset();
  // Without a queue pair nothing is under way, told of or not.
  while (sends_under_way()) finish(ended_, {TransportErrc::kReset, ECANCELED});
}

// ---- receive queue

bool QueuePair::repost(std::uint32_t slot) noexcept {
  ibv_sge element{reinterpret_cast<std::uintptr_t>(slots_.get()) + std::uintptr_t{slot} * kSlotBytes,
                  kSlotBytes, slots_memory_->lkey};
  ibv_recv_wr request{};
  request.wr_id = slot;
  request.sg_list = &element;
  request.num_sge = 1;
  ibv_recv_wr* bad = nullptr;
  const int error = ibv_post_recv(pair_.get(), &request, &bad);
  if (error == 0) return true;
  const std::scoped_lock lock(mutex_);
  fail({TransportErrc::kInternal, error < 0 ? errno : error},
       "the RDMA adapter does not take a receive buffer");
  return false;
}

std::size_t QueuePair::poll_receives(std::span<Arrival> into) noexcept {
  if (!pair_) return 0;
  std::array<ibv_wc, kBatch> completions;
  const int wanted = static_cast<int>(std::min<std::size_t>(into.size(), kBatch));
  const int count = ibv_poll_cq(receive_queue_.get(), wanted, completions.data());
  if (count == 0) return 0;
  std::size_t arrived = 0;
  for (const ibv_wc& completion :
       std::span(completions).first(static_cast<std::size_t>(std::max(count, 0)))) {
    const bool message = completion.opcode == IBV_WC_RECV && (completion.wc_flags & IBV_WC_WITH_IMM) != 0;
    if (completion.status == IBV_WC_SUCCESS && message && completion.wr_id < kSlots + kControlSlots &&
        completion.byte_len <= kSlotBytes) {
      into[arrived++] = {static_cast<std::uint32_t>(completion.wr_id), completion.byte_len,
                         be32toh(completion.imm_data)};
      continue;
    }
    const std::scoped_lock lock(mutex_);
    if (completion.status == IBV_WC_SUCCESS) {
      fail({TransportErrc::kReset, EPROTO}, "the peer sent what is no message of this transport");
    } else {
      if (completion.status == IBV_WC_WR_FLUSH_ERR) {  // these say what came before
        take_async_events();
        while (!failed() && poll_sends()) {
        }
      }
      fail(completion_error(completion.status), completion_words(*port_.verbs, completion));
    }
  }
  if (count < 0) {
    const std::scoped_lock lock(mutex_);
    fail({TransportErrc::kInternal, EIO}, "the RDMA completion queue cannot be read");
  }
  return arrived;
}

// ---- sleeping

void QueuePair::arm_receives() noexcept {
  if (receives_armed_ || !pair_) return;
  const int error = ibv_req_notify_cq(receive_queue_.get(), 0);
  receives_armed_ = error == 0;
  if (error == 0) return;
  const std::scoped_lock lock(mutex_);
  fail({TransportErrc::kInternal, error < 0 ? errno : error}, kDoesNotNotify);
}

void QueuePair::arm_sends() noexcept {
  if (!pair_ || sends_armed_.exchange(true)) return;
  if (const int error = ibv_req_notify_cq(send_queue_.get(), 0)) {
    fail({TransportErrc::kInternal, error < 0 ? errno : error}, kDoesNotNotify);
  }
}

void QueuePair::take_channel_events() noexcept {
  ibv_cq* queue = nullptr;
  void* ignored = nullptr;
  // Each arming gives one event at most: without any there is nothing to ask the kernel for.
  while ((receives_armed_ || sends_armed_) &&
         port_.verbs->ibv_get_cq_event(channel_.get(), &queue, &ignored) == 0) {
    port_.verbs->ibv_ack_cq_events(queue, 1);
    if (queue == send_queue_.get())
      sends_armed_ = false;
    else
      receives_armed_ = false;
  }
}

void QueuePair::take_async_events() noexcept {
  ibv_async_event event{};
  while (port_.verbs->ibv_get_async_event(port_.context.get(), &event) == 0) {
    TransportError error = event_error(event.event_type);
    const bool of_port = event.event_type == IBV_EVENT_PORT_ERR;
    if (of_port && event.element.port_num != port_.number) error = {};
    std::string_view words = port_.verbs->ibv_event_type_str(event.event_type);
    port_.verbs->ibv_ack_async_event(&event);
    if (!error) continue;
    try {
      fail(error, "the RDMA adapter " + port_.device + " reports: " + std::string(words));
    } catch (...) {
      fail(error, {});
    }
  }
}

}  // namespace avec::rdma
