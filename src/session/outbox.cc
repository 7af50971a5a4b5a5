#include "session/outbox.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/handle.h"

namespace avec::session {
namespace {

constexpr std::array<std::byte, 8> kZeros{};

}  // namespace

Result<MirroredMemory> MirroredMemory::create(std::size_t bytes) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  bytes = std::bit_ceil(std::max(bytes, page));
  Descriptor memory(::memfd_create("avec-outbox", MFD_CLOEXEC));
  if (!memory) return system_error(errno, "creating the send buffer");
  if (::ftruncate(memory.get(), static_cast<off_t>(bytes)) != 0)
    return system_error(errno, "sizing the send buffer");
  void* both = ::mmap(nullptr, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (both == MAP_FAILED) return system_error(errno, "reserving the send buffer");
  MirroredMemory mirrored;
  mirrored.base_ = static_cast<std::byte*>(both);
  mirrored.bytes_ = bytes;
  for (std::size_t half = 0; half < 2; ++half) {
    void* wanted = mirrored.base_ + half * bytes;
    if (::mmap(wanted, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory.get(), 0) ==
        MAP_FAILED) {
      return system_error(errno, "mapping the send buffer");
    }
  }
  return mirrored;
}

MirroredMemory::MirroredMemory(MirroredMemory&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

MirroredMemory& MirroredMemory::operator=(MirroredMemory&& other) noexcept {
  std::swap(base_, other.base_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

MirroredMemory::~MirroredMemory() {
  if (base_ != nullptr) ::munmap(base_, 2 * bytes_);
}

Result<> Outbox::open(std::size_t bytes, bool keep) {
  auto memory = MirroredMemory::create(bytes);
  if (!memory) return std::unexpected(memory.error());
  ring_ = std::move(*memory);
  keep_ = keep;
  return {};
}

void Outbox::append(External& external) {
  external.at = written_;
  external.next = nullptr;
  external.linked = true;
  if (last_ != nullptr) {
    last_->next = &external;
  } else {
    first_ = &external;
  }
  last_ = &external;
  if (unsent_ == nullptr) {
    unsent_ = &external;
    unsent_from_ = 0;
  }
  queued_.store(queued_.load(std::memory_order_relaxed) + external.padded_bytes(), std::memory_order_release);
}

std::size_t Outbox::gather(Spans& spans) const {
  std::size_t count = 0;
  std::uint64_t from = sent_;
  const External* external = unsent_;
  std::uint64_t external_from = unsent_from_;
  // An external takes up to three spans: the ring before it, its bytes, its padding.
  while (count + 3 <= spans.size()) {
    const std::uint64_t to = external != nullptr ? external->at : written_;
    if (to != from) spans[count++] = {ring_.at(from), static_cast<std::size_t>(to - from)};
    from = to;
    if (external == nullptr) break;
    const std::uint64_t size = external->bytes.size();
    if (external_from < size)
      spans[count++] = external->bytes.subspan(static_cast<std::size_t>(external_from));
    const std::uint64_t padding_from = std::max(external_from, size);
    const auto padding = static_cast<std::size_t>(external->padded_bytes() - padding_from);
    if (padding != 0) spans[count++] = {kZeros.data(), padding};
    external = external->next;
    external_from = 0;
  }
  return count;
}

External* Outbox::unlink_first() {
  External* external = first_;
  first_ = external->next;
  if (first_ == nullptr) last_ = nullptr;
  external->next = nullptr;
  external->linked = false;
  return external;
}

External* Outbox::advance(std::size_t bytes) {
  External* done = nullptr;
  External** end = &done;
  flushed_.store(flushed_.load(std::memory_order_relaxed) + bytes, std::memory_order_relaxed);
  std::uint64_t left = bytes;
  while (left != 0) {
    const std::uint64_t to = unsent_ != nullptr ? unsent_->at : written_;
    const std::uint64_t ring = std::min(left, to - sent_);
    sent_ += ring;
    left -= ring;
    if (unsent_ == nullptr || sent_ != unsent_->at) {
      assert(left == 0);
      break;
    }
    const std::uint64_t part = std::min(left, unsent_->padded_bytes() - unsent_from_);
    unsent_from_ += part;
    left -= part;
    if (unsent_from_ != unsent_->padded_bytes()) break;
    unsent_ = unsent_->next;
    unsent_from_ = 0;
    if (!keep_) {
      *end = unlink_first();
      end = &(*end)->next;
    }
  }
  if (!keep_) released_ = sent_;
  return done;
}

std::uint64_t Outbox::ring_bytes(const wire::FrameHeader& header) const {
  // What begin_frame() decided by size alone is decided the same way here.
  const auto inline_bytes = [](std::uint64_t bytes) {
    return bytes > limits::kInlinePayloadBytes ? 0 : wire::padded(bytes);
  };
  return wire::kHeaderBytes + inline_bytes(header.body_bytes()) + inline_bytes(header.payload_bytes());
}

External* Outbox::acknowledge(std::uint64_t sequence) {
  if (!keep_) return nullptr;
  External* done = nullptr;
  External** end = &done;
  while (released_ < sent_) {
    wire::FrameHeader header;
    std::memcpy(&header, ring_.at(released_), sizeof header);
    const std::uint64_t end_of_frame = released_ + ring_bytes(header);
    // What has not left completely cannot have arrived, whatever the peer says.
    const bool left = end_of_frame <= sent_ && (unsent_ == nullptr || unsent_->sequence > header.sequence());
    if (header.sequence() > sequence || !left) break;
    released_ = end_of_frame;
    while (first_ != nullptr && first_ != unsent_ && first_->sequence <= header.sequence()) {
      *end = unlink_first();
      end = &(*end)->next;
    }
  }
  return done;
}

void Outbox::rewind() {
  std::uint64_t bytes = written_ - released_;
  for (const External* external = first_; external != nullptr; external = external->next) {
    bytes += external->padded_bytes();
  }
  sent_ = released_;
  unsent_ = first_;
  unsent_from_ = 0;
  flushed_.store(queued_.load(std::memory_order_relaxed) - bytes, std::memory_order_relaxed);
}

External* Outbox::clear() {
  External* all = first_;
  for (External* external = all; external != nullptr; external = external->next) external->linked = false;
  first_ = last_ = unsent_ = nullptr;
  unsent_from_ = 0;
  released_ = sent_ = written_;
  flushed_.store(queued_.load(std::memory_order_relaxed), std::memory_order_relaxed);
  return all;
}

}  // namespace avec::session
