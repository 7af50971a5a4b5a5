#include "client/address_range.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "base/limits.h"

namespace avec::client {
namespace {

struct Candidate {
  std::uint64_t base, bytes;
};

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

// With 47 address bits (x86-64, arm64 with 48): between where programs and libraries lie.
// Below 2^39 (arm64 with 39 bits, as phones and small boards have): what is left of 512 GiB.
constexpr std::array kDeviceCandidates{
    Candidate{0x1000'0000'0000, limits::kDeviceRangeBytes},
    Candidate{0x6000'0000'0000, limits::kDeviceRangeBytes},
    Candidate{0x2000'0000'0000, limits::kSmallDeviceRangeBytes},
    Candidate{0x0800'0000'0000, limits::kSmallDeviceRangeBytes},
    Candidate{128 * kGiB, 128 * kGiB},
    Candidate{64 * kGiB, 64 * kGiB},
};
constexpr std::array kHostCandidates{
    Candidate{0x3000'0000'0000, limits::kHostRangeBytes},
    Candidate{0x4000'0000'0000, limits::kHostRangeBytes},
    Candidate{0x5000'0000'0000, limits::kHostRangeBytes},
    Candidate{0x0900'0000'0000, limits::kHostRangeBytes},
    Candidate{256 * kGiB, 64 * kGiB},
    Candidate{320 * kGiB, 32 * kGiB},
};

constexpr std::uint64_t aligned_up(std::uint64_t value, std::uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

}  // namespace

std::optional<AddressReservation> AddressReservation::at(std::uint64_t base, std::uint64_t bytes) {
  void* wished = reinterpret_cast<void*>(base);
  void* got = ::mmap(wished, bytes, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (got == MAP_FAILED) return std::nullopt;
  if (got != wished) {  // a kernel without MAP_FIXED_NOREPLACE takes the address as a wish
    ::munmap(got, bytes);
    return std::nullopt;
  }
  return AddressReservation(base, bytes, true);
}

AddressReservation::AddressReservation(AddressReservation&& other) noexcept
    : base_(std::exchange(other.base_, 0)),
      bytes_(std::exchange(other.bytes_, 0)),
      bound_(std::exchange(other.bound_, false)) {}

AddressReservation& AddressReservation::operator=(AddressReservation&& other) noexcept {
  std::swap(base_, other.base_);
  std::swap(bytes_, other.bytes_);
  std::swap(bound_, other.bound_);
  return *this;
}

AddressReservation::~AddressReservation() {
  if (bound_) ::munmap(reinterpret_cast<void*>(base_), bytes_);
}

std::vector<AddressReservation> reserve_candidates(RangeUse use, std::size_t wanted, bool bind) {
  const std::span<const Candidate> candidates =
      use == RangeUse::kDevice ? std::span<const Candidate>(kDeviceCandidates) : kHostCandidates;
  std::vector<AddressReservation> reserved;
  for (const Candidate& candidate : candidates) {
    if (reserved.size() == wanted) break;
    if (!bind) {
      reserved.push_back(AddressReservation::trusted(candidate.base, candidate.bytes));
    } else if (auto reservation = AddressReservation::at(candidate.base, candidate.bytes)) {
      reserved.push_back(std::move(*reservation));
    }
  }
  return reserved;
}

RangeAllocator::RangeAllocator(std::uint64_t base, std::uint64_t bytes) : next_(base) {
  if (bytes != 0) gaps_.emplace(base, bytes);
}

std::uint64_t RangeAllocator::take_from(std::map<std::uint64_t, std::uint64_t>::iterator gap,
                                        std::uint64_t from, std::uint64_t bytes, std::uint64_t alignment) {
  const auto [base, size] = *gap;
  const std::uint64_t end = base + size;
  const std::uint64_t start = aligned_up(std::max(base, from), alignment);
  if (start > end || end - start < bytes) return 0;
  gaps_.erase(gap);
  if (start > base) gaps_.emplace(base, start - base);
  if (start + bytes < end) gaps_.emplace(start + bytes, end - start - bytes);
  next_ = start + bytes;
  return start;
}

std::uint64_t RangeAllocator::take(std::uint64_t bytes, std::uint64_t alignment) {
  // From where the last piece ended to the top, then once more from the bottom.
  auto first = gaps_.upper_bound(next_);
  if (first != gaps_.begin()) --first;
  for (auto gap = first; gap != gaps_.end(); ++gap) {
    if (const std::uint64_t start = take_from(gap, next_, bytes, alignment)) return start;
  }
  for (auto gap = gaps_.begin(); gap != gaps_.end(); ++gap) {
    if (const std::uint64_t start = take_from(gap, 0, bytes, alignment)) return start;
  }
  return 0;
}

bool RangeAllocator::take_at(std::uint64_t base, std::uint64_t bytes) {
  auto gap = gaps_.upper_bound(base);
  if (gap == gaps_.begin()) return false;
  --gap;
  const auto [start, size] = *gap;
  const std::uint64_t end = start + size;
  if (base >= end || end - base < bytes) return false;
  gaps_.erase(gap);
  if (base > start) gaps_.emplace(start, base - start);
  if (base + bytes < end) gaps_.emplace(base + bytes, end - base - bytes);
  return true;
}

void RangeAllocator::give_back(std::uint64_t base, std::uint64_t bytes) {
  auto [gap, inserted] = gaps_.emplace(base, bytes);
  if (const auto after = std::next(gap); after != gaps_.end() && gap->first + gap->second == after->first) {
    gap->second += after->second;
    gaps_.erase(after);
  }
  if (gap != gaps_.begin()) {
    const auto before = std::prev(gap);
    if (before->first + before->second == gap->first) {
      before->second += gap->second;
      gaps_.erase(gap);
    }
  }
}

}  // namespace avec::client
