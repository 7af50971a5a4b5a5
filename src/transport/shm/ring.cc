#include "transport/shm/ring.h"

#include <algorithm>
#include <cstring>

namespace avec::shm {
namespace {

constexpr std::size_t kMask = kRingBytes - 1;
static_assert((kRingBytes & kMask) == 0);

// After an index was published: has the peer said that it sleeps? The fence puts the look behind
// the index; the peer's is between its word and its own look. One of the two sees the other.
void ring_for_sleeper(std::atomic<std::uint32_t>& waits, Control& control) noexcept {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (waits.load(std::memory_order_relaxed) == 0) [[likely]]
    return;
  // A socket that is full of bells has woken the peer; one that is broken is noticed by a look.
  if (waits.exchange(0, std::memory_order_relaxed) != 0) control.send({});
}

}  // namespace

// ---- sender ----------------------------------------------------------------------------

// False: what stands there cannot be true.
bool RingSender::look() noexcept {
  const auto head = state_.receiver.head.load(std::memory_order_acquire);
  if (head - head_ > tail_ - head_) return false;
  head_ = head;
  return true;
}

void RingSender::put(ConstBytes bytes) noexcept {
  const auto at = static_cast<std::size_t>(tail_) & kMask;
  const auto first = std::min(bytes.size(), kRingBytes - at);
  std::memcpy(bytes_ + at, bytes.data(), first);
  if (first < bytes.size()) std::memcpy(bytes_, bytes.data() + first, bytes.size() - first);
  tail_ += bytes.size();
}

void RingSender::publish() noexcept {
  published_ = tail_;
  state_.sender.tail.store(tail_, std::memory_order_release);
  ring_for_sleeper(state_.receiver.waits_for_bytes, control_);
}

IoResult RingSender::send(std::span<const ConstBytes> buffers) noexcept {
  if (!look()) return {0, kViolation};
  if (state_.receiver.closed.load(std::memory_order_acquire) != 0) return {0, {TransportErrc::kReset, 0}};
  const auto begin = tail_;
  auto room = kRingBytes - static_cast<std::size_t>(tail_ - head_);
  for (auto buffer : buffers) {
    while (!buffer.empty() && room != 0) {
      const auto unpublished = static_cast<std::size_t>(tail_ - published_);
      const auto part = std::min({buffer.size(), room, kPublishBytes - unpublished});
      put(buffer.first(part));
      buffer = buffer.subspan(part);
      room -= part;
      if (part == kPublishBytes - unpublished) publish();
    }
    if (room == 0) break;
  }
  if (tail_ != published_) publish();
  return {static_cast<std::size_t>(tail_ - begin), {}};
}

bool RingSender::ready() noexcept {
  return !look() || tail_ - head_ < kRingBytes || state_.receiver.closed.load(std::memory_order_acquire) != 0;
}

// ---- receiver --------------------------------------------------------------------------

bool RingReceiver::look() noexcept {
  const auto tail = state_.sender.tail.load(std::memory_order_acquire);
  if (tail - head_ > kRingBytes || tail - head_ < tail_ - head_) return false;
  tail_ = tail;
  return true;
}

void RingReceiver::take(MutableBytes into) noexcept {
  const auto at = static_cast<std::size_t>(head_) & kMask;
  const auto first = std::min(into.size(), kRingBytes - at);
  std::memcpy(into.data(), bytes_ + at, first);
  if (first < into.size()) std::memcpy(into.data() + first, bytes_, into.size() - first);
  head_ += into.size();
}

IoResult RingReceiver::receive(std::span<const MutableBytes> buffers) noexcept {
  bool over = false;
  if (!look()) return {0, kViolation};
  if (tail_ == head_) {
    if (!closed()) return {};
    // What was sent before the end may have come since the first look.
    if (!look()) return {0, kViolation};
    over = tail_ == head_;
  }
  const auto begin = head_;
  bool wanted = false;
  for (auto buffer : buffers) {
    wanted = wanted || !buffer.empty();
    while (!buffer.empty() && head_ != tail_) {
      const auto part = std::min({buffer.size(), static_cast<std::size_t>(tail_ - head_), kPublishBytes});
      take(buffer.first(part));
      buffer = buffer.subspan(part);
      state_.receiver.head.store(head_, std::memory_order_release);
    }
    if (head_ == tail_ && !over) break;
  }
  if (over && wanted) return {0, {TransportErrc::kClosed, 0}};
  if (head_ != begin && tail_ - head_ <= kRingBytes - kRoomToRing)
    ring_for_sleeper(state_.sender.waits_for_room, control_);
  return {static_cast<std::size_t>(head_ - begin), {}};
}

bool RingReceiver::ready() noexcept { return !look() || tail_ != head_ || closed(); }

}  // namespace avec::shm
