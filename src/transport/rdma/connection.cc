#include "transport/rdma/connection.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include "transport/rdma/exchange.h"

namespace avec::rdma {
namespace {

constexpr TransportError kClosedHere{TransportErrc::kClosed, 0};
/// A thread that polls looks at the stream and at events now and then: each such look is two system
/// calls, each poll less than a tenth of one.
constexpr std::uint32_t kPollsPerLook = 1024;
constexpr std::uint32_t kSendsPerLook = 64;
constexpr std::uint32_t kCreditBits = 16;

std::string as_rdma(const std::string& url) {
  const auto end = url.find("://");
  return end == std::string::npos ? url : "rdma" + url.substr(end);
}

/// Gathers up to `room` bytes that begin `done` bytes into the buffers.
std::size_t gather(std::span<const ConstBytes> buffers, std::size_t done, std::byte* into, std::size_t room) {
  std::size_t copied = 0;
  for (const ConstBytes& buffer : buffers) {
    if (done >= buffer.size()) {
      done -= buffer.size();
      continue;
    }
    const std::size_t bytes = std::min(room - copied, buffer.size() - done);
    std::memcpy(into + copied, buffer.data() + done, bytes);
    copied += bytes;
    done = 0;
    if (copied == room) break;
  }
  return copied;
}

}  // namespace

std::unique_ptr<RdmaConnection> RdmaConnection::make(std::unique_ptr<QueuePair> pair, const Parameters& peer,
                                                     const Connection& stream, TransportError& error) {
  auto wake = tcp::make_wake_descriptor();
  auto poll = out_of_the_way(Descriptor(::epoll_create1(EPOLL_CLOEXEC)));
  if (!wake || !poll) {
    error = {TransportErrc::kResources, errno};
    return nullptr;
  }
  for (const int fd : {pair->channel_descriptor(), pair->async_descriptor()}) {
    epoll_event event{.events = EPOLLIN, .data = {}};
    if (::epoll_ctl(poll.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
      error = {TransportErrc::kResources, errno};
      return nullptr;
    }
  }
  return std::unique_ptr<RdmaConnection>(
      new RdmaConnection(std::move(pair), std::move(wake), std::move(poll), peer, stream));
}

RdmaConnection::RdmaConnection(std::unique_ptr<QueuePair> pair, Descriptor wake, Descriptor poll,
                               const Parameters& peer, const Connection& stream)
    : pair_(std::move(pair)),
      memory_(std::make_unique<Memory>(*pair_)),
      wake_(std::move(wake)),
      poll_(std::move(poll)),
      stream_descriptor_(stream.poll_descriptor()),
      guard_({pair_->command_descriptor(), pair_->channel_descriptor(), pair_->async_descriptor(),
              stream_descriptor_}),
      peer_(as_rdma(stream.peer())),
      same_host_(stream.same_host() || (peer.machine != 0 && peer.machine == machine_identity())),
      peer_slots_(peer.slots),
      message_bytes_(std::min(peer.slot_bytes, kSlotBytes)),
      credits_(peer.slots) {}

RdmaConnection::~RdmaConnection() {
  if (guard_.forked()) {
    // The parent's: its descriptors are closed here, and nothing of the adapter is this process's.
    (void)pair_.release(), (void)memory_.release(), (void)stream_.release();
    return;
  }
  close();
  memory_.reset();
}

void RdmaConnection::ended(std::uint64_t word, TransportError error) noexcept {
  if (word == kSlot) ++free_slots_;
  if (error) return;
  if (word == kProbeSent) probe_sent_ = true;
  if (word == kFarewellSent) farewell_sent_ = true;
}

void RdmaConnection::fail(TransportError error, std::string_view reason) noexcept {
  const std::scoped_lock lock(pair_->mutex());
  pair_->fail(error, reason);
}

// ---- messages out

std::uint32_t RdmaConnection::word_of(Kind kind) noexcept {
  const std::uint32_t word = (static_cast<std::uint32_t>(kind) << kCreditBits) | owed_;
  owed_ = 0;
  return word;
}

// Locked.
bool RdmaConnection::post_message(Kind kind, ConstBytes bytes, bool in_slot, std::uint64_t word) noexcept {
  ibv_sge element{reinterpret_cast<std::uintptr_t>(bytes.data()), static_cast<std::uint32_t>(bytes.size()),
                  pair_->slots_key()};
  ibv_send_wr request{};
  request.opcode = IBV_WR_SEND_WITH_IMM;
  request.imm_data = htobe32(word_of(kind));
  request.sg_list = &element;
  request.num_sge = bytes.empty() ? 0 : 1;
  if (!bytes.empty() && !in_slot) request.send_flags |= IBV_SEND_INLINE;
  // Slots come back in time when every eighth is signalled; words that matter at once.
  if ((in_slot && next_slot_ % (kSendSlots / 4) == 0) || word > kSlot)
    request.send_flags |= IBV_SEND_SIGNALED;
  const Work work{word == kNothing ? nullptr : this, word};
  return pair_->post(request, {&work, 1});
}

void RdmaConnection::post_control(Kind kind, Word word) noexcept {
  const std::scoped_lock lock(pair_->mutex());
  if (pair_->room(Urgency::kControl) == 0) pair_->poll_sends();
  if (pair_->room(Urgency::kControl) > 0 && !pair_->failed()) post_message(kind, {}, false, word);
}

// Locked. One message; the bytes in it, 0: no room.
std::size_t RdmaConnection::post_data(std::span<const ConstBytes> buffers, std::size_t done) noexcept {
  std::array<std::byte, kInlineBytes> small;
  const std::size_t inline_bytes = pair_->inline_bytes();
  // Whether it is small is known after one byte more than would be.
  std::size_t bytes = 0;
  for (const ConstBytes& buffer : buffers) bytes = std::min(bytes + buffer.size(), done + inline_bytes + 1);
  bytes -= done;
  if (pair_->room(Urgency::kPayload) == 0 || (bytes > inline_bytes && free_slots_ == 0)) pair_->poll_sends();
  if (pair_->room(Urgency::kPayload) == 0 || pair_->failed()) return 0;
  if (bytes <= inline_bytes) {
    bytes = gather(buffers, done, small.data(), bytes);
    return post_message(Kind::kData, {small.data(), bytes}, false, kNothing) ? bytes : 0;
  }
  if (free_slots_ == 0) return 0;
  std::byte* slot = pair_->send_slot(next_slot_);
  next_slot_ = (next_slot_ + 1) % kSendSlots;
  --free_slots_;
  bytes = gather(buffers, done, slot, message_bytes_);
  return post_message(Kind::kData, {slot, bytes}, true, kSlot) ? bytes : 0;
}

IoResult RdmaConnection::send(std::span<const ConstBytes> buffers) noexcept {
  if (!open()) return {0, kClosedHere};
  std::size_t total = 0, done = 0;
  for (const ConstBytes& buffer : buffers) total += buffer.size();
  if (total == 0) return {};
  if (++sends_since_look_ >= kSendsPerLook) look_around();
  while (done < total && !peer_closed_ && !pair_->failed()) {
    if (credits_ == 0) {
      take_arrivals();
      if (credits_ == 0) break;
    }
    const std::scoped_lock lock(pair_->mutex());
    while (done < total && credits_ > 0) {
      const std::size_t bytes = post_data(buffers, done);
      if (bytes == 0) break;
      --credits_;
      done += bytes;
    }
    if (credits_ > 0) break;  // all, or no room
  }
  if (done == 0) look_around();  // blocked: by a peer that is gone?
  if (done > 0) return {done, {}};
  if (const auto error = pair_->error()) return {0, error};
  if (peer_closed_) return {0, {TransportErrc::kReset, EPIPE}};
  return {};
}

// ---- messages in

void RdmaConnection::take_arrivals() noexcept {
  std::array<QueuePair::Arrival, 16> some;
  while (arrivals_count_ < arrivals_.size()) {
    const auto room = std::min<std::size_t>(some.size(), arrivals_.size() - arrivals_count_);
    const std::size_t count = pair_->poll_receives(std::span(some).first(room));
    for (std::size_t i = 0; i < count; ++i) take(some[i]);
    if (count < room) break;
  }
}

void RdmaConnection::take(const QueuePair::Arrival& arrival) noexcept {
  const std::uint32_t credits = arrival.word & ((1u << kCreditBits) - 1);
  const auto kind = static_cast<Kind>(arrival.word >> kCreditBits);
  const bool known =
      kind >= Kind::kData && kind <= Kind::kFarewell && (kind == Kind::kData) == (arrival.bytes > 0);
  if (!known || credits > peer_slots_ - credits_ || peer_closed_) {
    fail({TransportErrc::kReset, EPROTO}, "the peer sent what is no message of this transport");
    return;
  }
  credits_ += credits;
  if (kind == Kind::kData) {
    arrivals_[(arrivals_begin_ + arrivals_count_++) % arrivals_.size()] = arrival;
    return;
  }
  if (kind == Kind::kProbe) probe_came_ = true;
  if (kind == Kind::kFarewell) peer_closed_ = true;
  pair_->repost(arrival.slot);
}

/// The first arrival has been copied out.
void RdmaConnection::release_front() noexcept {
  const std::uint32_t slot = arrivals_[arrivals_begin_].slot;
  arrivals_begin_ = (arrivals_begin_ + 1) % static_cast<std::uint32_t>(arrivals_.size());
  --arrivals_count_;
  front_taken_ = 0;
  if (!peer_closed_ && !pair_->failed() && pair_->repost(slot)) ++owed_;
}

void RdmaConnection::return_credits() noexcept {
  if (owed_ >= kSlots / 2 && !peer_closed_ && !pair_->failed()) post_control(Kind::kCredits, kNothing);
}

IoResult RdmaConnection::receive(std::span<const MutableBytes> buffers) noexcept {
  if (!open()) return {0, kClosedHere};
  std::size_t copied = 0;
  for (MutableBytes buffer : buffers) {
    while (!buffer.empty()) {
      if (arrivals_count_ == 0) take_arrivals();
      if (arrivals_count_ == 0) break;
      const ConstBytes front = pair_->received(arrivals_[arrivals_begin_]).subspan(front_taken_);
      const std::size_t bytes = std::min(front.size(), buffer.size());
      std::memcpy(buffer.data(), front.data(), bytes);
      buffer = buffer.subspan(bytes);
      front_taken_ += bytes;
      copied += bytes;
      if (bytes == front.size()) release_front();
    }
    if (!buffer.empty()) break;
  }
  if (copied > 0) {
    return_credits();
    return {copied, {}};
  }
  if (std::ranges::all_of(buffers, &MutableBytes::empty)) return {};
  if (++idle_receives_ >= kPollsPerLook) look_around();
  if (arrivals_count_ > 0) return {};  // the look has found some: next time
  if (peer_closed_) return {0, {TransportErrc::kClosed, 0}};
  return {0, pair_->error()};
}

// ---- what else can happen

void RdmaConnection::poll_sends() noexcept {
  const std::scoped_lock lock(pair_->mutex());
  pair_->poll_sends();
}

void RdmaConnection::look_around() noexcept {
  idle_receives_ = sends_since_look_ = 0;
  {
    const std::scoped_lock lock(pair_->mutex());
    pair_->take_async_events();
    pair_->poll_sends();
  }
  look_at_stream();
  if (std::chrono::steady_clock::now() < farewell_until_) return;
  take_arrivals();
  if (!peer_closed_)
    fail({TransportErrc::kReset, ECONNRESET}, "the peer closed, but its last messages did not come");
}

void RdmaConnection::look_at_stream() noexcept {
  while (stream_watched_) {
    std::byte byte{};
    const MutableBytes into(&byte, 1);
    const IoResult got = stream_->receive({&into, 1});
    if (got.error) {
      stream_ended(got.error);
    } else if (got.bytes == 0) {
      return;
    } else if (byte != kFarewell || stream_farewell_) {
      fail({TransportErrc::kReset, EPROTO}, "the peer sent what it must not beside the RDMA connection");
      stream_ended({});
    } else {
      // All it sent has reached our adapter, and will be found at once or with the next look.
      stream_farewell_ = true;
      farewell_until_ = std::chrono::steady_clock::now() + kFarewellGrace;
    }
  }
}

void RdmaConnection::stream_ended(TransportError error) noexcept {
  stream_watched_ = false;
  ::epoll_ctl(poll_.get(), EPOLL_CTL_DEL, stream_->poll_descriptor(), nullptr);
  if (stream_farewell_ || pair_->failed()) return;
  take_arrivals();
  if (peer_closed_) return;
  const int os_error =
      error.code == TransportErrc::kReset && error.os_error != 0 ? error.os_error : ECONNRESET;
  fail({TransportErrc::kReset, os_error},
       "the peer's process has ended, or its host cannot be reached any more");
}

// ---- waiting

void RdmaConnection::progress() noexcept {
  take_arrivals();
  if (owed_ >= kSlots / 2) return_credits();
  if (memory_->busy() || free_slots_ == 0) poll_sends();
}

bool RdmaConnection::can_post_data() noexcept {
  if (credits_ == 0) return false;
  const std::scoped_lock lock(pair_->mutex());
  if (pair_->room(Urgency::kPayload) > 0 && free_slots_ > 0) return true;
  pair_->poll_sends();
  return pair_->room(Urgency::kPayload) > 0 && free_slots_ > 0;
}

bool RdmaConnection::ready(bool want_send) noexcept {
  return arrivals_count_ > 0 || peer_closed_ || pair_->failed() || memory_->has_completed() ||
         (want_send && can_post_data());
}

/// Arms what tells of anything that ready() waits for. False: it is there already.
bool RdmaConnection::prepare_sleep(bool want_send) noexcept {
  memory_->set_asleep(true);
  pair_->arm_receives();
  // Without a credit the send queue is not what is waited for.
  if (memory_->busy() || owed_ >= kSlots / 2 || (want_send && credits_ > 0)) {
    const std::scoped_lock lock(pair_->mutex());
    pair_->arm_sends();
  }
  progress();
  return !ready(want_send);
}

TransportError RdmaConnection::wait(bool want_send, Deadline deadline) noexcept {
  if (!open()) return kClosedHere;
  while (true) {
    progress();
    if (ready(want_send) || !prepare_sleep(want_send)) break;
    pollfd entries[4] = {{wake_.get(), POLLIN, 0},
                         {pair_->channel_descriptor(), POLLIN, 0},
                         {pair_->async_descriptor(), POLLIN, 0},
                         {stream_watched_ ? stream_->poll_descriptor() : -1, POLLIN, 0}};
    const int count = tcp::poll_until(entries, 4, std::min(deadline, farewell_until_));
    memory_->set_asleep(false);
    if (count < 0) return {TransportErrc::kInternal, errno};
    if (entries[1].revents != 0) pair_->take_channel_events();
    if (entries[2].revents != 0 || entries[3].revents != 0 || count == 0) look_around();
    if (entries[0].revents != 0) {
      woken_ = true;  // the write may have been seen before the flag
      break;
    }
    if (count == 0 && std::chrono::steady_clock::now() >= deadline) {
      progress();
      return ready(want_send) ? TransportError{} : TransportError{TransportErrc::kTimeout, 0};
    }
  }
  memory_->set_asleep(false);
  if (woken_.exchange(false)) tcp::consume_wake(wake_.get());
  return {};
}

bool RdmaConnection::arm() noexcept {
  if (!open()) return false;
  // Events that have been dealt with since must not wake anybody.
  pair_->take_channel_events();
  look_around();
  progress();
  return !ready(false) && prepare_sleep(false);
}

void RdmaConnection::wake() noexcept {
  woken_.store(true);
  tcp::signal_wake(wake_.get());
}

// ---- beginning and end

/// Until completions may have come, or the deadline. False: it has passed.
bool RdmaConnection::wait_awhile(Deadline deadline) noexcept {
  if (std::chrono::steady_clock::now() >= deadline) return false;
  std::this_thread::sleep_for(50us);
  return true;
}

Failure RdmaConnection::probe(Deadline deadline) noexcept {
  post_control(Kind::kProbe, kProbeSent);
  while (!pair_->failed()) {
    take_arrivals();
    {
      const std::scoped_lock lock(pair_->mutex());
      pair_->take_async_events();
      pair_->poll_sends();
    }
    if (probe_sent_ && probe_came_) return {};
    if (!wait_awhile(deadline)) {
      return {{TransportErrc::kNotViable, ETIMEDOUT},
              "nothing comes through between the RDMA adapters, though the stream does"};
    }
  }
  return {pair_->error(), pair_->reason()};
}

void RdmaConnection::start(std::unique_ptr<Connection> stream) noexcept {
  stream_ = std::move(stream);
  stream_watched_ = stream_->poll_descriptor() >= 0;
  epoll_event event{.events = EPOLLIN, .data = {}};
  if (stream_watched_) ::epoll_ctl(poll_.get(), EPOLL_CTL_ADD, stream_->poll_descriptor(), &event);
}

/// Sends what has been accepted to the end, and says so.
void RdmaConnection::flush() noexcept {
  if (peer_closed_ || pair_->failed()) return;
  const auto deadline = std::chrono::steady_clock::now() + kCloseLinger;
  post_control(Kind::kFarewell, kFarewellSent);
  for (int turn = 0; !farewell_sent_; ++turn) {
    poll_sends();
    // What the peer sends is not wanted any more, but its end ends this.
    take_arrivals();
    while (arrivals_count_ > 0) release_front();
    if (turn % 64 == 0) look_around();
    if (pair_->failed() || peer_closed_) return;
    if (farewell_sent_) break;
    if (turn < 200)
      std::this_thread::yield();
    else if (!wait_awhile(deadline))
      return;
  }
  const std::byte farewell = kFarewell;
  const ConstBytes bytes(&farewell, 1);
  stream_->send({&bytes, 1});
}

void RdmaConnection::close() noexcept {
  if (!open()) return;
  open_ = false;
  if (stream_) flush();
  pair_->stop();
  memory_->end_windows();
  pair_->destroy();
  memory_->end_regions();
  if (!stream_) return;
  guard_.forget(stream_descriptor_);
  stream_->close();
}

}  // namespace avec::rdma
