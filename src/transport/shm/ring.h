// The rings: one per direction, in memory that both ends map.
//
// Each end keeps its own index in private memory and only publishes it; the peer's is believed
// as far as it can be true: between what it was before and what this end has done. A peer that
// writes anything else there breaks the connection, and reaches nothing outside of the ring.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "avec/transport.h"
#include "transport/shm/context.h"

namespace avec::shm {

/// Bytes of one ring: a power of two. Two of them lie in a core's second-level cache.
inline constexpr std::size_t kRingBytes = 1u << 20;
/// A sender makes bytes known after so many, that the receiver copies them while it goes on.
inline constexpr std::size_t kPublishBytes = 32u << 10;
/// A sender that sleeps is woken when there is so much room again: not for each piece of a stream.
/// A receiver that waits has emptied its ring, so that nobody waits for ever.
inline constexpr std::size_t kRoomToRing = kRingBytes / 2;
/// Keys that one end has allowed and not revoked.
inline constexpr std::size_t kKeys = 8192;

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

/// What the two ends of a ring tell each other. What one end writes all the time has cache lines
/// of its own, in pairs, as adjacent lines are fetched together.
struct RingState {
  struct alignas(128) Sender {
    std::atomic<std::uint64_t> tail;            // bytes that have been put in
    std::atomic<std::uint64_t> notes;           // messages sent on the socket that are no bells
    std::atomic<std::uint32_t> closed;          // nothing follows
    std::atomic<std::uint32_t> waits_for_room;  // set by the sender, cleared by who rings
  } sender;
  struct alignas(128) Receiver {
    std::atomic<std::uint64_t> head;             // bytes that have been taken out
    std::atomic<std::uint32_t> closed;           // nothing is taken out any more
    std::atomic<std::uint32_t> waits_for_bytes;  // set by the receiver, cleared by who rings
  } receiver;
};

/// The keys that one end allows; written by it alone. Zero: none.
using KeyTable = std::array<std::atomic<std::uint64_t>, kKeys>;

/// The memory that both ends map. What the client sends goes through ring 0.
struct Shared {
  RingState rings[2];
  alignas(4096) KeyTable keys[2];
  alignas(4096) std::byte bytes[2][kRingBytes];
};

/// Tells the processor that this is a loop that waits.
inline void relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// The end of a ring that puts bytes in. One thread.
class RingSender {
 public:
  RingSender(RingState& state, std::byte* bytes, Control& control) noexcept
      : state_(state), bytes_(bytes), control_(control) {}

  /// Puts in as much as there is room for now. kReset: the peer has closed, or broke the rules
  /// (kViolation).
  IoResult send(std::span<const ConstBytes> buffers) noexcept;
  /// Room, or an error that send() would report.
  bool ready() noexcept;
  /// From now on the peer rings when it has made enough room (kRoomToRing). Look again with ready()
  /// afterwards.
  void announce_wait() noexcept { state_.sender.waits_for_room.store(1, std::memory_order_relaxed); }
  void withdraw_wait() noexcept { state_.sender.waits_for_room.store(0, std::memory_order_relaxed); }
  void count_note() noexcept { state_.sender.notes.fetch_add(1, std::memory_order_release); }
  /// The peer reads kClosed after the last byte.
  void close() noexcept { state_.sender.closed.store(1, std::memory_order_release); }

 private:
  bool look() noexcept;
  void put(ConstBytes bytes) noexcept;
  void publish() noexcept;

  RingState& state_;
  std::byte* const bytes_;
  Control& control_;
  std::uint64_t tail_ = 0;  // ours; published in state_.sender.tail
  std::uint64_t head_ = 0;  // the peer's when it was looked at last
  std::uint64_t published_ = 0;
};

/// The end of a ring that takes bytes out. One thread.
class RingReceiver {
 public:
  RingReceiver(RingState& state, const std::byte* bytes, Control& control) noexcept
      : state_(state), bytes_(bytes), control_(control) {}

  /// Copies out what is there. kClosed: the peer has closed, and that was all; kReset: it broke the rules.
  IoResult receive(std::span<const MutableBytes> buffers) noexcept;
  /// Bytes, or an error that receive() would report.
  bool ready() noexcept;
  void announce_wait() noexcept { state_.receiver.waits_for_bytes.store(1, std::memory_order_relaxed); }
  void withdraw_wait() noexcept { state_.receiver.waits_for_bytes.store(0, std::memory_order_relaxed); }
  /// Messages that the peer says it has sent on the socket; a hint.
  std::uint64_t notes() const noexcept { return state_.sender.notes.load(std::memory_order_acquire); }
  bool closed() const noexcept { return state_.sender.closed.load(std::memory_order_acquire) != 0; }
  void close() noexcept { state_.receiver.closed.store(1, std::memory_order_release); }

 private:
  bool look() noexcept;
  void take(MutableBytes into) noexcept;

  RingState& state_;
  const std::byte* const bytes_;
  Control& control_;
  std::uint64_t head_ = 0;  // ours; published in state_.receiver.head
  std::uint64_t tail_ = 0;  // the peer's when it was looked at last
};

}  // namespace avec::shm
