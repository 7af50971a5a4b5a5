// What goes out: frames in one ring of bytes, in the order of their sequence numbers, from the
// moment they are posted until the peer has acknowledged them (resumable sessions) or until
// they have left (others). Large bodies and payloads are not copied into the ring: they go out
// from where they lie, at their place in the stream.
//
//      released <= sent <= written      offsets in the ring, each only grows
//
// The owner's lock guards everything except what is marked.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "avec/transport.h"
#include "base/result.h"
#include "wire/frame.h"

namespace avec::session {

struct Waiter;

/// Bytes that are sent from where they lie. Lives with the caller, who waits until it is
/// unlinked.
struct External {
  ConstBytes bytes;
  Waiter* waiter = nullptr;    ///< told when the bytes may change again; null: a call waits for its reply
  std::uint64_t sequence = 0;  ///< of the frame that they belong to
  std::uint64_t at = 0;        ///< they go out when the ring has been sent up to here
  External* next = nullptr;
  bool linked = false;

  std::uint64_t padded_bytes() const { return wire::padded(bytes.size()); }
};

/// Memory mapped twice in a row, so that a ring needs no case for its end.
class MirroredMemory {
 public:
  MirroredMemory() = default;
  /// `bytes` is rounded up to a power of two that is at least a page.
  static Result<MirroredMemory> create(std::size_t bytes);
  MirroredMemory(MirroredMemory&& other) noexcept;
  MirroredMemory& operator=(MirroredMemory&& other) noexcept;
  ~MirroredMemory();

  std::size_t size() const { return bytes_; }
  std::byte* at(std::uint64_t offset) const { return base_ + (offset & (bytes_ - 1)); }

 private:
  std::byte* base_ = nullptr;
  std::size_t bytes_ = 0;
};

class Outbox {
 public:
  static constexpr std::size_t kMaxSpans = 16;
  /// A launch with 200 bytes of parameters.
  static constexpr std::size_t kPrefetchLines = 5;
  using Spans = std::array<ConstBytes, kMaxSpans>;

  /// `keep`: frames stay until acknowledged.
  Result<> open(std::size_t bytes, bool keep);

  /// Bytes that can be appended now.
  std::size_t room() const { return ring_.size() - static_cast<std::size_t>(written_ - released_); }
  std::size_t capacity() const { return ring_.size(); }

  /// Where the next frame goes; room() must have been asked.
  std::byte* tail() const { return ring_.at(written_); }
  /// Makes `bytes` behind the tail part of the stream.
  void commit(std::size_t bytes) {
    written_ += bytes;
    queued_.store(queued_.load(std::memory_order_relaxed) + bytes, std::memory_order_release);
  }
  /// Asks the processor for the memory of the next frame. It was last read by whoever sent it,
  /// often on another core, and taking it back costs more than the rest of a post.
  void prefetch_tail() const {
    const std::byte* next = tail();
    for (std::size_t line = 0; line < kPrefetchLines; ++line) __builtin_prefetch(next + 64 * line, 1);
  }
  /// Puts `external` behind what is committed.
  void append(External& external);

  /// True when something waits to be sent. Without the lock: the role's holder only.
  bool has_unsent() const {
    return queued_.load(std::memory_order_acquire) != flushed_.load(std::memory_order_relaxed);
  }
  /// Bytes that wait to be sent. With the lock.
  std::uint64_t unsent() const {
    return queued_.load(std::memory_order_relaxed) - flushed_.load(std::memory_order_relaxed);
  }

  /// The next bytes to send, at most kMaxSpans pieces; they stay valid until advance().
  std::size_t gather(Spans& spans) const;
  /// `bytes` of them have been sent. Externals that are no longer needed come back as a list
  /// (External::next), unlinked.
  External* advance(std::size_t bytes);
  /// The peer has everything up to `sequence`. As advance(), of a session that keeps.
  External* acknowledge(std::uint64_t sequence);
  /// Everything not acknowledged is to be sent again.
  void rewind();
  /// Forgets everything; returns all externals, unlinked.
  External* clear();

 private:
  /// Bytes that the frame at `offset` takes in the ring.
  std::uint64_t ring_bytes(const wire::FrameHeader& header) const;
  External* unlink_first();

  // What every post touches comes first and fills one cache line.
  MirroredMemory ring_;
  std::uint64_t written_ = 0, sent_ = 0, released_ = 0;
  std::atomic<std::uint64_t> queued_{0};   ///< bytes of the stream up to the tail; written with the lock
  std::atomic<std::uint64_t> flushed_{0};  ///< bytes of the stream that were sent; written with lock and role
  External* unsent_ = nullptr;             ///< oldest that has not left completely
  std::uint64_t unsent_from_ = 0;          ///< bytes of it that have left
  External* first_ = nullptr;              ///< oldest that is still needed
  External* last_ = nullptr;
  bool keep_ = false;
};

}  // namespace avec::session
