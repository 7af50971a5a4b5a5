#include "client/heap.h"

#include <unistd.h>

#include <algorithm>

#include "client/context.h"
#include "client/device.h"
#include "client/status.h"
#include "session/session.h"

namespace avec::client {
namespace {

/// CUDA promises 256; 512 also suits texture pitch.
constexpr std::uint64_t kBlockAlignment = 512;
/// Segments for small blocks are at least this large, and blocks of at least this size get a
/// segment of their own: a MemMap costs about 150 us, and a large block given back must free
/// physical memory for other programs.
constexpr std::uint64_t kSegmentBytes = std::uint64_t{32} << 20;

constexpr std::uint64_t rounded_up(std::uint64_t value, std::uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace

Heap::Heap(session::Session& session, AddressReservation range, std::uint64_t granularity)
    : session_(session),
      range_(std::move(range)),
      granularity_(std::max<std::uint64_t>(granularity, kBlockAlignment)),
      addresses_(range_.base(), range_.bytes()) {}

Heap::~Heap() = default;

CUresult Heap::allocate(std::uint64_t bytes, Context& context, std::uint64_t& address) {
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  if (bytes > range_.bytes()) return CUDA_ERROR_OUT_OF_MEMORY;
  const std::uint64_t rounded = rounded_up(bytes, kBlockAlignment);
  const CUdevice device = context.device->ordinal();
  const bool dedicated = rounded >= kSegmentBytes;
  const std::uint64_t exact = rounded_up(rounded, granularity_);

  std::unique_lock lock(mutex_);
  std::uint64_t base = dedicated ? 0 : place(device, rounded);
  if (base == 0) {
    Segment* segment = nullptr;
    CUresult result =
        grow(lock, context, dedicated ? exact : std::max(exact, rounded_up(kSegmentBytes, granularity_)),
             dedicated, segment);
    if (result == CUDA_ERROR_OUT_OF_MEMORY && !dedicated) result = grow(lock, context, exact, false, segment);
    if (result == CUDA_ERROR_OUT_OF_MEMORY && trim(device)) {
      // The memory is back only when the work that used it is done.
      const std::uint64_t name = context.name.load();
      lock.unlock();
      if (auto drained = session_.call(wire::ContextSynchronize(name)); !drained)
        return to_cuda(drained.error());
      lock.lock();
      result = grow(lock, context, exact, dedicated, segment);
    }
    if (result != CUDA_SUCCESS) return result;
    base = dedicated ? segment->base : place(device, rounded);
  }
  auto owner = std::prev(segments_.upper_bound(base));
  Allocation allocation{{base, bytes, &context, device, next_id_++}, rounded, owner->second.get()};
  allocations_.emplace(base, allocation);
  address = base;
  return CUDA_SUCCESS;
}

/// Best fit among the gaps of shared segments; 0 when none is large enough.
std::uint64_t Heap::place(CUdevice device, std::uint64_t rounded) {
  auto& sizes = by_size_[device];
  const auto best = sizes.lower_bound({rounded, 0});
  if (best == sizes.end()) return 0;
  const std::uint64_t base = best->second;
  Segment& segment = *std::prev(segments_.upper_bound(base))->second;
  const auto gap = segment.gaps.find(base);
  const FreeBlock found = gap->second;
  if (found.freed_at > drained_) {
    // An error here means that the session is over; whoever uses the memory learns it.
    (void)session_.post(wire::MemFence(0));
    drained_ = epoch_++;
  }
  remove_gap(segment, gap);
  if (found.bytes > rounded) add_gap(segment, base + rounded, {found.bytes - rounded, found.freed_at});
  return base;
}

CUresult Heap::grow(std::unique_lock<std::mutex>& lock, Context& context, std::uint64_t bytes, bool dedicated,
                    Segment*& segment) {
  const CUdevice device = context.device->ordinal();
  const std::uint64_t base = addresses_.take(bytes, granularity_);
  if (base == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  lock.unlock();
  const auto mapped = session_.call(wire::MemMap(base, bytes, device, 0));
  lock.lock();
  if (!mapped) {
    addresses_.give_back(base, bytes);
    return to_cuda(mapped.error());
  }
  auto made = std::make_unique<Segment>();
  made->base = base;
  made->bytes = bytes;
  made->device = device;
  made->dedicated = dedicated;
  segment = made.get();
  segments_.emplace(base, std::move(made));
  if (!dedicated) add_gap(*segment, base, {bytes, 0});
  return CUDA_SUCCESS;
}

void Heap::unmap(std::map<std::uint64_t, std::unique_ptr<Segment>>::iterator segment) {
  Segment& gone = *segment->second;
  (void)session_.post(wire::MemUnmap(gone.base, gone.bytes));
  while (!gone.gaps.empty()) remove_gap(gone, gone.gaps.begin());
  addresses_.give_back(gone.base, gone.bytes);
  segments_.erase(segment);
}

bool Heap::trim(CUdevice device) {
  bool any = false;
  for (auto it = segments_.begin(); it != segments_.end();) {
    const auto segment = it++;
    const Segment& candidate = *segment->second;
    const bool empty = !candidate.dedicated && candidate.gaps.size() == 1 &&
                       candidate.gaps.begin()->second.bytes == candidate.bytes;
    if (candidate.device != device || !empty) continue;
    unmap(segment);
    any = true;
  }
  return any;
}

void Heap::add_gap(Segment& segment, std::uint64_t base, FreeBlock gap) {
  segment.gaps.emplace(base, gap);
  by_size_[segment.device].emplace(gap.bytes, base);
}

void Heap::remove_gap(Segment& segment, std::map<std::uint64_t, FreeBlock>::iterator gap) {
  by_size_[segment.device].erase({gap->second.bytes, gap->first});
  segment.gaps.erase(gap);
}

CUresult Heap::release(std::uint64_t address) {
  std::scoped_lock lock(mutex_);
  const auto allocation = allocations_.find(address);
  if (allocation == allocations_.end()) return CUDA_ERROR_INVALID_VALUE;
  release_locked(allocation);
  return CUDA_SUCCESS;
}

void Heap::release_locked(std::map<std::uint64_t, Allocation>::iterator allocation) {
  Segment& segment = *allocation->second.segment;
  std::uint64_t base = allocation->first;
  FreeBlock gap{allocation->second.rounded, epoch_};
  allocations_.erase(allocation);
  if (segment.dedicated) {
    unmap(segments_.find(segment.base));
    return;
  }
  if (const auto after = segment.gaps.find(base + gap.bytes); after != segment.gaps.end()) {
    gap.bytes += after->second.bytes;
    remove_gap(segment, after);
  }
  if (auto before = segment.gaps.lower_bound(base); before != segment.gaps.begin()) {
    --before;
    if (before->first + before->second.bytes == base) {
      base = before->first;
      gap.bytes += before->second.bytes;
      remove_gap(segment, before);
    }
  }
  add_gap(segment, base, gap);
}

void Heap::release_all(const Context& context) {
  std::scoped_lock lock(mutex_);
  for (auto it = allocations_.begin(); it != allocations_.end();) {
    const auto allocation = it++;
    if (allocation->second.block.context == &context) release_locked(allocation);
  }
}

std::optional<DeviceBlock> Heap::find(std::uint64_t address) const {
  std::scoped_lock lock(mutex_);
  auto it = allocations_.upper_bound(address);
  if (it == allocations_.begin()) return std::nullopt;
  const DeviceBlock& block = std::prev(it)->second.block;
  if (address - block.base >= block.bytes) return std::nullopt;
  return block;
}

std::uint64_t Heap::free_bytes(CUdevice device) const {
  std::scoped_lock lock(mutex_);
  std::uint64_t sum = 0;
  if (const auto sizes = by_size_.find(device); sizes != by_size_.end()) {
    for (const SizeKey& gap : sizes->second) sum += gap.first;
  }
  return sum;
}

std::uint64_t Heap::mark() {
  std::scoped_lock lock(mutex_);
  return epoch_++;
}

void Heap::drained(std::uint64_t mark) {
  std::scoped_lock lock(mutex_);
  drained_ = std::max(drained_, mark);
}

bool ForeignRanges::add(const DeviceBlock& block, std::uint64_t module, bool reserve) {
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t begin = block.base / page * page;
  const std::uint64_t end = rounded_up(block.base + std::max<std::uint64_t>(block.bytes, 1), page);
  std::scoped_lock lock(mutex_);
  if (reserve && !reserve_pages(begin, end - begin)) return false;
  entries_.insert_or_assign(block.base, Entry{block, module});
  return true;
}

bool ForeignRanges::reserve_pages(std::uint64_t base, std::uint64_t bytes) {
  const std::uint64_t end = base + bytes;
  while (base < end) {
    auto next = pages_.upper_bound(base);
    if (next != pages_.begin()) {
      const AddressReservation& covering = std::prev(next)->second;
      if (covering.contains(base)) {
        base = covering.base() + covering.bytes();
        continue;
      }
    }
    const std::uint64_t stop = next == pages_.end() ? end : std::min(end, next->first);
    auto reservation = AddressReservation::at(base, stop - base);
    if (!reservation) return false;
    pages_.emplace(base, std::move(*reservation));
    base = stop;
  }
  return true;
}

void ForeignRanges::remove_module(std::uint64_t module) {
  std::scoped_lock lock(mutex_);
  std::erase_if(entries_, [&](const auto& entry) { return entry.second.module == module; });
}

std::optional<DeviceBlock> ForeignRanges::find(std::uint64_t address) const {
  std::scoped_lock lock(mutex_);
  auto it = entries_.upper_bound(address);
  if (it == entries_.begin()) return std::nullopt;
  const DeviceBlock& block = std::prev(it)->second.block;
  if (address - block.base >= block.bytes) return std::nullopt;
  return block;
}

}  // namespace avec::client
