#include "client/heap.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "client/client.h"
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

/// Segments asked for ahead: one for so many that are mapped, at least one, and not more than that
/// other sessions would miss.
constexpr std::uint64_t kSegmentsPerSpare = 8;
constexpr std::size_t kMaxSpares = 8;

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
  const Wanted wanted{rounded, context.device->ordinal(), context, rounded >= kSegmentBytes};
  std::unique_lock lock(mutex_);
  std::uint64_t base = 0;
  if (const CUresult result = find_room(lock, wanted, base); result != CUDA_SUCCESS) return result;
  DeviceBlock block{base, bytes, &context, wanted.device, next_id_++};
  allocations_.emplace(base,
                       Allocation{block, rounded, std::prev(segments_.upper_bound(base))->second.get()});
  address = base;
  return CUDA_SUCCESS;
}

CUresult Heap::allocate_segment(std::uint64_t bytes, CUdevice device, Context& context,
                                std::uint64_t& address) {
  if (bytes > range_.bytes()) return CUDA_ERROR_OUT_OF_MEMORY;
  const std::uint64_t rounded = rounded_up(bytes, granularity_);
  std::unique_lock lock(mutex_);
  // One of a segment's size stays mapped when the pool gives it back: pools come and go.
  const Wanted wanted{rounded, device, context, rounded > kSegmentBytes};
  if (const CUresult result = find_room(lock, wanted, address); result != CUDA_SUCCESS) return result;
  DeviceBlock block{address, rounded, nullptr, device, next_id_++, BlockKind::kPool};
  allocations_.emplace(address,
                       Allocation{block, rounded, std::prev(segments_.upper_bound(address))->second.get()});
  return CUDA_SUCCESS;
}

CUresult Heap::find_room(std::unique_lock<std::mutex>& lock, const Wanted& wanted, std::uint64_t& base) {
  const std::uint64_t exact = rounded_up(wanted.rounded, granularity_);
  base = wanted.dedicated ? 0 : place(wanted.device, wanted.rounded);
  if (base != 0) return CUDA_SUCCESS;
  CUresult result = CUDA_SUCCESS;
  if (wanted.dedicated || !grow_by_spare(lock, wanted)) {
    result = grow(lock, wanted,
                  wanted.dedicated ? exact : std::max(exact, rounded_up(kSegmentBytes, granularity_)));
    if (result == CUDA_ERROR_OUT_OF_MEMORY && !wanted.dedicated && exact < kSegmentBytes)
      result = grow(lock, wanted, exact);
    if (result == CUDA_ERROR_OUT_OF_MEMORY && give_back(lock, wanted.device)) {
      // The memory is back only when the work that used it is done.
      const std::uint64_t name = wanted.context.name.load();
      lock.unlock();
      if (auto drained = session_.call(wire::ContextSynchronize(name)); !drained)
        return to_cuda(drained.error());
      lock.lock();
      result = grow(lock, wanted, exact);
    }
  }
  if (result != CUDA_SUCCESS) return result;
  if (!wanted.dedicated) {
    base = place(wanted.device, wanted.rounded);
    // Another thread was faster: once more for this one.
    return base != 0 ? CUDA_SUCCESS : find_room(lock, wanted, base);
  }
  base = last_dedicated_;
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

CUresult Heap::grow(std::unique_lock<std::mutex>& lock, const Wanted& wanted, std::uint64_t bytes) {
  const std::uint64_t base = addresses_.take(bytes, granularity_);
  if (base == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  lock.unlock();
  const auto mapped = session_.call(wire::MemMap(base, bytes, wanted.device, 0));
  lock.lock();
  if (!mapped) {
    addresses_.give_back(base, bytes);
    return to_cuda(mapped.error());
  }
  add_segment(base, bytes, wanted.device, wanted.dedicated);
  last_dedicated_ = base;
  return CUDA_SUCCESS;
}

Heap::Segment& Heap::add_segment(std::uint64_t base, std::uint64_t bytes, CUdevice device, bool dedicated) {
  auto made = std::make_unique<Segment>();
  made->base = base;
  made->bytes = bytes;
  made->device = device;
  made->dedicated = dedicated;
  Segment& segment = *made;
  segments_.emplace(base, std::move(made));
  mapped_bytes_[device] += bytes;
  if (!dedicated) add_gap(segment, base, {bytes, 0});
  return segment;
}

// ---- physical memory asked for ahead ----------------------------------------------------------

void Heap::ask_ahead(Context& context) {
  const std::scoped_lock lock(mutex_);
  ask_ahead_locked(context, context.device->ordinal());
}

void Heap::ask_ahead_locked(Context& context, CUdevice device) {
  auto& spares = spares_[device];
  const std::uint64_t fitting = mapped_bytes_[device] / kSegmentBytes / kSegmentsPerSpare;
  const std::size_t wanted = std::clamp<std::size_t>(fitting, 1, kMaxSpares);
  while (spares.size() < wanted) {
    const std::uint64_t name = context.client->mint();
    const auto pending =
        session_.post_deferred(wire::MemCreate(name, rounded_up(kSegmentBytes, granularity_), device, 0), {});
    if (!pending) return;  // the session is over: whoever needs memory learns it
    spares.push_back({name, *pending});
  }
}

/// A segment of memory that was granted before: no round trip, if the answer is here.
bool Heap::grow_by_spare(std::unique_lock<std::mutex>& lock, const Wanted& wanted) {
  const std::uint64_t bytes = rounded_up(kSegmentBytes, granularity_);
  auto& spares = spares_[wanted.device];
  if (wanted.rounded > bytes || spares.empty()) return false;
  const Spare spare = spares.front();
  spares.pop_front();
  lock.unlock();
  const auto granted = session_.wait_deferred(spare.pending, session_.deferred_done(spare.pending)
                                                                 ? session::Counted::kNot
                                                                 : session::Counted::kRoundTrip);
  lock.lock();
  if (!granted) return false;
  const std::uint64_t base = addresses_.take(bytes, granularity_);
  if (base == 0) {
    (void)session_.post(wire::MemRelease(spare.name));
    return false;
  }
  // The mapping keeps the memory; its name is no longer needed.
  (void)session_.post(wire::MemMapAt(base, bytes, spare.name, 1, 0));
  (void)session_.post(wire::MemRelease(spare.name));
  add_segment(base, bytes, wanted.device, false);
  ask_ahead_locked(wanted.context, wanted.device);
  return true;
}

void Heap::settle(CUdevice device) {
  std::unique_lock lock(mutex_);
  // A refusal is told once: nobody else may ask meanwhile.
  std::deque<Spare> asked = std::exchange(spares_[device], {});
  lock.unlock();
  std::erase_if(asked, [&](const Spare& spare) {
    const bool done = session_.deferred_done(spare.pending);
    return !session_.wait_deferred(spare.pending,
                                   done ? session::Counted::kNot : session::Counted::kRoundTrip);
  });
  lock.lock();
  auto& spares = spares_[device];
  spares.insert(spares.end(), asked.begin(), asked.end());
}

bool Heap::give_back(CUdevice device) {
  std::unique_lock lock(mutex_);
  return give_back(lock, device);
}

bool Heap::give_back(std::unique_lock<std::mutex>& lock, CUdevice device) {
  bool any = trim(device);
  const std::deque<Spare> spares = std::exchange(spares_[device], {});
  lock.unlock();
  for (const Spare& spare : spares) {
    if (!session_.wait_deferred(spare.pending, session::Counted::kNot)) continue;
    (void)session_.post(wire::MemRelease(spare.name));
    any = true;
  }
  lock.lock();
  return any;
}

// ---- the program's own mappings -------------------------------------------------------------

std::uint64_t Heap::reserve(std::uint64_t bytes, std::uint64_t alignment, std::uint64_t wish) {
  const std::scoped_lock lock(mutex_);
  if (wish != 0 && wish % alignment == 0 && addresses_.take_at(wish, bytes)) return wish;
  return addresses_.take(bytes, alignment);
}

void Heap::unreserve(std::uint64_t base, std::uint64_t bytes) {
  const std::scoped_lock lock(mutex_);
  addresses_.give_back(base, bytes);
}

std::uint64_t Heap::next_id() {
  const std::scoped_lock lock(mutex_);
  return next_id_++;
}

void Heap::unmap(std::map<std::uint64_t, std::unique_ptr<Segment>>::iterator segment) {
  Segment& gone = *segment->second;
  (void)session_.post(wire::MemUnmap(gone.base, gone.bytes));
  while (!gone.gaps.empty()) remove_gap(gone, gone.gaps.begin());
  addresses_.give_back(gone.base, gone.bytes);
  mapped_bytes_[gone.device] -= gone.bytes;
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
  if (allocation == allocations_.end() || allocation->second.block.kind == BlockKind::kPool)
    return CUDA_ERROR_INVALID_VALUE;
  release_locked(allocation);
  return CUDA_SUCCESS;
}

void Heap::release_segment(std::uint64_t address) {
  std::scoped_lock lock(mutex_);
  if (const auto segment = allocations_.find(address); segment != allocations_.end()) release_locked(segment);
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
  if (const auto spares = spares_.find(device); spares != spares_.end())
    sum += spares->second.size() * rounded_up(kSegmentBytes, granularity_);
  return sum;
}

std::uint64_t Heap::used_bytes(CUdevice device) const {
  std::scoped_lock lock(mutex_);
  std::uint64_t sum = 0;
  for (const auto& [base, allocation] : allocations_)
    if (allocation.segment != nullptr && allocation.segment->device == device) sum += allocation.rounded;
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

bool ForeignRanges::add(const DeviceBlock& block, std::uint64_t module, bool reserve, bool writable) {
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t begin = block.base / page * page;
  const std::uint64_t end = rounded_up(block.base + std::max<std::uint64_t>(block.bytes, 1), page);
  std::scoped_lock lock(mutex_);
  if (reserve && !reserve_pages(begin, end - begin)) return false;
  if (writable && ::mprotect(reinterpret_cast<void*>(begin), end - begin, PROT_READ | PROT_WRITE) != 0)
    return false;
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
