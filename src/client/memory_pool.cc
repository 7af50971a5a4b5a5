#include "client/memory_pool.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "client/client.h"
#include "client/context.h"
#include "client/device.h"
#include "client/slab.h"
#include "client/status.h"
#include "client/stream.h"
#include "session/session.h"

namespace avec::client {
namespace {

constexpr std::uint64_t kBlockAlignment = 512;
/// A pool grows by at least this, as CUDA's own do.
constexpr std::uint64_t kSegmentBytes = std::uint64_t{32} << 20;

constexpr std::uint64_t rounded_up(std::uint64_t value, std::uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

template <class T>
CUresult give(void* data, T value) {
  std::memcpy(data, &value, sizeof value);
  return CUDA_SUCCESS;
}

template <class T>
T taken(const void* data) {
  T value;
  std::memcpy(&value, data, sizeof value);
  return value;
}

}  // namespace

Pools::Pools(Client& client) : client_(client) {
  for (CUdevice device = 0; device < client.device_count(); ++device) {
    MemoryPool* pool = Slab<MemoryPool>::make();
    if (pool != nullptr) {
      pool->device = device;
      pool->is_default = true;
      pools_.insert(pool);
    }
    defaults_.push_back(pool);
  }
  current_ = defaults_;
}

Pools::~Pools() {
  for (MemoryPool* pool : pools_) Slab<MemoryPool>::destroy(pool);
}

/// A handle that is not a live pool of this client gives null.
MemoryPool* Pools::find_pool(CUmemoryPool handle) const {
  MemoryPool* pool = Slab<MemoryPool>::find(handle);
  return pool != nullptr && !pool->destroyed && pools_.contains(pool) ? pool : nullptr;
}

// ---- pools --------------------------------------------------------------------------------------

CUresult Pools::create(CUmemoryPool* handle, const CUmemPoolProps& properties) {
  if (properties.allocType != CU_MEM_ALLOCATION_TYPE_PINNED) {
    return properties.allocType == CU_MEM_ALLOCATION_TYPE_MANAGED ? CUDA_ERROR_NOT_SUPPORTED
                                                                  : CUDA_ERROR_INVALID_VALUE;
  }
  switch (properties.location.type) {
    case CU_MEM_LOCATION_TYPE_DEVICE:
      break;
    case CU_MEM_LOCATION_TYPE_HOST:
    case CU_MEM_LOCATION_TYPE_HOST_NUMA:
      return CUDA_ERROR_NOT_SUPPORTED;  // host memory is this machine's
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
  if (client_.device(properties.location.id) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (properties.handleTypes != CU_MEM_HANDLE_TYPE_NONE) return CUDA_ERROR_NOT_SUPPORTED;
  if (properties.usage != 0) return CUDA_ERROR_INVALID_VALUE;
  MemoryPool* pool = Slab<MemoryPool>::make();
  if (pool == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  pool->device = properties.location.id;
  pool->most_bytes = properties.maxSize;
  const std::scoped_lock lock(mutex_);
  pools_.insert(pool);
  *handle = handle_of(pool);
  return CUDA_SUCCESS;
}

CUresult Pools::destroy(CUmemoryPool handle) {
  const std::scoped_lock lock(mutex_);
  MemoryPool* pool = find_pool(handle);
  if (pool == nullptr || pool->is_default) return CUDA_ERROR_INVALID_VALUE;
  const auto device = static_cast<std::size_t>(pool->device);
  if (current_[device] == pool) current_[device] = defaults_[device];
  pool->destroyed = true;
  give_back_segments(*pool, 0, true);
  if (pool->segments.empty()) {
    pools_.erase(pool);
    Slab<MemoryPool>::destroy(pool);
  }
  return CUDA_SUCCESS;
}

CUresult Pools::default_of(CUmemoryPool* pool, CUdevice device) {
  if (client_.device(device) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  *pool = handle_of(defaults_[static_cast<std::size_t>(device)]);
  return CUDA_SUCCESS;
}

CUresult Pools::current_of(CUmemoryPool* pool, CUdevice device) {
  if (client_.device(device) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  const std::scoped_lock lock(mutex_);
  *pool = handle_of(current_[static_cast<std::size_t>(device)]);
  return CUDA_SUCCESS;
}

CUresult Pools::set_current(CUdevice device, CUmemoryPool handle) {
  if (client_.device(device) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  const std::scoped_lock lock(mutex_);
  MemoryPool* pool = find_pool(handle);
  if (pool == nullptr || pool->device != device) return CUDA_ERROR_INVALID_VALUE;
  current_[static_cast<std::size_t>(device)] = pool;
  return CUDA_SUCCESS;
}

CUresult Pools::trim_to(CUmemoryPool handle, std::size_t keep) {
  const std::scoped_lock lock(mutex_);
  MemoryPool* pool = find_pool(handle);
  if (pool == nullptr) return CUDA_ERROR_INVALID_VALUE;
  give_back_segments(*pool, keep, false);
  return CUDA_SUCCESS;
}

CUresult Pools::set_attribute(CUmemoryPool handle, CUmemPool_attribute which, const void* value) {
  const std::scoped_lock lock(mutex_);
  MemoryPool* pool = find_pool(handle);
  if (pool == nullptr) return CUDA_ERROR_INVALID_VALUE;
  switch (which) {
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
      pool->follow_events = taken<int>(value) != 0;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
      pool->opportunistic = taken<int>(value) != 0;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
      pool->internal_dependencies = taken<int>(value) != 0;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
      pool->release_threshold = taken<cuuint64_t>(value);
      note_reclaimable();
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
      if (taken<cuuint64_t>(value) != 0) return CUDA_ERROR_INVALID_VALUE;
      pool->reserved_high = pool->reserved;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
      if (taken<cuuint64_t>(value) != 0) return CUDA_ERROR_INVALID_VALUE;
      pool->used_high = pool->used;
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult Pools::get_attribute(CUmemoryPool handle, CUmemPool_attribute which, void* value) {
  const std::scoped_lock lock(mutex_);
  const MemoryPool* pool = find_pool(handle);
  if (pool == nullptr) return CUDA_ERROR_INVALID_VALUE;
  switch (which) {
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
      return give<int>(value, pool->follow_events);
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
      return give<int>(value, pool->opportunistic);
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
      return give<int>(value, pool->internal_dependencies);
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
      return give<cuuint64_t>(value, pool->release_threshold);
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
      return give<cuuint64_t>(value, pool->reserved);
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
      return give<cuuint64_t>(value, pool->reserved_high);
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
      return give<cuuint64_t>(value, pool->used);
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
      return give<cuuint64_t>(value, pool->used_high);
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

/// The heap's memory is mapped for the device's peers: rights are only kept to be told.
CUresult Pools::set_access(CUmemoryPool handle, const CUmemAccessDesc* access, std::size_t count) {
  const std::scoped_lock lock(mutex_);
  MemoryPool* pool = find_pool(handle);
  if (pool == nullptr || (access == nullptr && count != 0)) return CUDA_ERROR_INVALID_VALUE;
  for (std::size_t i = 0; i < count; ++i) {
    const CUmemLocation& location = access[i].location;
    if (location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_INVALID_VALUE;
    if (client_.device(location.id) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    const CUmemAccess_flags flags = access[i].flags;
    if (flags != CU_MEM_ACCESS_FLAGS_PROT_NONE && flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
      return CUDA_ERROR_INVALID_VALUE;
    // The pool's own device always has access.
    if (location.id == pool->device && flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
      return CUDA_ERROR_INVALID_DEVICE;
  }
  for (std::size_t i = 0; i < count; ++i) pool->access[access[i].location.id] = access[i].flags;
  return CUDA_SUCCESS;
}

CUresult Pools::get_access(CUmemAccess_flags* flags, CUmemoryPool handle, const CUmemLocation& location) {
  const std::scoped_lock lock(mutex_);
  const MemoryPool* pool = find_pool(handle);
  if (pool == nullptr || location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_INVALID_VALUE;
  if (client_.device(location.id) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  const auto known = pool->access.find(location.id);
  *flags = location.id == pool->device   ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE
           : known != pool->access.end() ? known->second
                                         : CU_MEM_ACCESS_FLAGS_PROT_NONE;
  return CUDA_SUCCESS;
}

// ---- blocks -------------------------------------------------------------------------------------

CUresult Pools::allocate(CUdeviceptr* address, std::size_t bytes, CUmemoryPool handle, Stream& stream) {
  Context& context = *stream.context;
  const std::scoped_lock lock(mutex_);
  MemoryPool* pool =
      handle != nullptr ? find_pool(handle) : current_[static_cast<std::size_t>(context.device->ordinal())];
  if (pool == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *address = 0;
  if (bytes == 0) return CUDA_SUCCESS;
  const std::uint64_t rounded = rounded_up(bytes, kBlockAlignment);
  if (rounded < bytes) return CUDA_ERROR_OUT_OF_MEMORY;
  std::uint64_t base = place(*pool, rounded, stream);
  if (base == 0) {
    if (const CUresult result = grow(*pool, rounded, stream); result != CUDA_SUCCESS) return result;
    base = place(*pool, rounded, stream);
    if (base == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  }
  pool->used += rounded;
  pool->used_high = std::max(pool->used_high, pool->used);
  DeviceBlock facts{base, bytes, &context, pool->device, client_.heap().next_id(), BlockKind::kPool};
  facts.pool = handle_of(pool);
  blocks_.emplace(base, Block{pool, facts, rounded});
  *address = base;
  return CUDA_SUCCESS;
}

/// The smallest gap that the stream can have at once, else the smallest that it can have behind the
/// stream that used it last. 0: none.
std::uint64_t Pools::place(MemoryPool& pool, std::uint64_t rounded, const Stream& stream) {
  const auto gap_at = [&](std::uint64_t base) {
    auto segment = std::prev(pool.segments.upper_bound(base));
    return std::pair(segment, segment->second.gaps.find(base));
  };
  auto best = pool.by_size.end();
  for (auto size = pool.by_size.lower_bound({rounded, 0}); size != pool.by_size.end(); ++size) {
    const MemoryPool::Gap& gap = gap_at(size->second).second->second;
    if (gap.user == MemoryPool::kNobody || gap.user == stream.name) {
      best = size;
      break;
    }
    if (best == pool.by_size.end() && pool.internal_dependencies) best = size;
  }
  if (best == pool.by_size.end()) return 0;
  const std::uint64_t base = best->second;
  const auto [segment, found] = gap_at(base);
  const MemoryPool::Gap gap = found->second;
  // An error here means that the session is over; whoever uses the memory learns it.
  if (gap.user == MemoryPool::kAnybody) {
    (void)client_.session().post(wire::MemFence(0));
  } else if (gap.user != MemoryPool::kNobody && gap.user != stream.name) {
    (void)client_.session().post(wire::StreamFollow(stream.name, gap.user));
  }
  remove_gap(pool, segment->second, found);
  if (gap.bytes > rounded) {
    MemoryPool::Gap rest = gap;
    rest.bytes -= rounded;
    add_gap(pool, segment->first, base + rounded, rest);
  }
  return base;
}

CUresult Pools::grow(MemoryPool& pool, std::uint64_t rounded, Stream& stream) {
  const std::uint64_t granularity = client_.heap().granularity();
  std::uint64_t bytes = std::max(rounded_up(rounded, granularity), kSegmentBytes);
  if (pool.most_bytes != 0) {
    const std::uint64_t left = pool.most_bytes - std::min(pool.most_bytes, pool.reserved);
    if (rounded_up(rounded, granularity) > left) return CUDA_ERROR_OUT_OF_MEMORY;
    bytes = std::min(bytes, left / granularity * granularity);
  }
  std::uint64_t base = 0;
  CUresult result = client_.heap().allocate_segment(bytes, pool.device, *stream.context, base);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) {
    // What other pools keep free goes first, then the exact size is tried.
    for (MemoryPool* other : pools_) give_back_segments(*other, 0, true);
    bytes = rounded_up(rounded, granularity);
    result = client_.heap().allocate_segment(bytes, pool.device, *stream.context, base);
  }
  if (result != CUDA_SUCCESS) return result;
  pool.segments.emplace(base, MemoryPool::Segment{bytes, {}});
  pool.reserved += bytes;
  pool.reserved_high = std::max(pool.reserved_high, pool.reserved);
  add_gap(pool, base, base, {bytes});
  note_reclaimable();
  return CUDA_SUCCESS;
}

/// Joins it with neighbours that the same stream, or nobody, used last.
void Pools::add_gap(MemoryPool& pool, std::uint64_t segment_base, std::uint64_t base, MemoryPool::Gap gap) {
  MemoryPool::Segment& segment = pool.segments.at(segment_base);
  if (const auto after = segment.gaps.find(base + gap.bytes);
      after != segment.gaps.end() && after->second.user == gap.user) {
    gap.bytes += after->second.bytes;
    gap.freed_at = std::max(gap.freed_at, after->second.freed_at);
    remove_gap(pool, segment, after);
  }
  if (auto before = segment.gaps.lower_bound(base); before != segment.gaps.begin()) {
    --before;
    if (before->first + before->second.bytes == base && before->second.user == gap.user) {
      base = before->first;
      gap.bytes += before->second.bytes;
      gap.freed_at = std::max(gap.freed_at, before->second.freed_at);
      remove_gap(pool, segment, before);
    }
  }
  if (gap.user != MemoryPool::kNobody) ++pool.used_gaps;
  pool.by_size.emplace(gap.bytes, base);
  segment.gaps.emplace(base, gap);
}

void Pools::remove_gap(MemoryPool& pool, MemoryPool::Segment& segment,
                       std::map<std::uint64_t, MemoryPool::Gap>::iterator gap) {
  if (gap->second.user != MemoryPool::kNobody) --pool.used_gaps;
  pool.by_size.erase({gap->second.bytes, gap->first});
  segment.gaps.erase(gap);
}

CUresult Pools::release(CUdeviceptr address, Stream* stream) {
  const std::scoped_lock lock(mutex_);
  const auto block = blocks_.find(address);
  if (block == blocks_.end()) return CUDA_ERROR_NOT_FOUND;
  release_block(block, stream);
  note_reclaimable();
  return CUDA_SUCCESS;
}

void Pools::release_block(Blocks::iterator block, const Stream* stream) {
  MemoryPool& pool = *block->second.pool;
  const std::uint64_t base = block->first;
  MemoryPool::Gap gap{block->second.rounded};
  gap.user = stream != nullptr ? stream->name : MemoryPool::kAnybody;
  gap.context = stream != nullptr ? stream->context->name.load() : 0;
  gap.freed_at = clock_.fetch_add(1, std::memory_order_relaxed);
  pool.used -= gap.bytes;
  blocks_.erase(block);
  add_gap(pool, std::prev(pool.segments.upper_bound(base))->first, base, gap);
  if (!pool.destroyed) return;
  give_back_segments(pool, 0, true);
  if (!pool.segments.empty()) return;
  pools_.erase(&pool);
  Slab<MemoryPool>::destroy(&pool);
}

/// Empty segments go back to the heap while more than `keep` bytes are reserved; with `used_too` also
/// those whose last work may not have ended, since the heap fences what it hands out again.
void Pools::give_back_segments(MemoryPool& pool, std::uint64_t keep, bool used_too) {
  for (auto at = pool.segments.begin(); at != pool.segments.end() && pool.reserved > keep;) {
    const auto segment = at++;
    MemoryPool::Segment& facts = segment->second;
    std::uint64_t free = 0;
    bool used = false;
    for (const auto& [base, gap] : facts.gaps) {
      free += gap.bytes;
      used |= gap.user != MemoryPool::kNobody;
    }
    if (free != facts.bytes || (used && !used_too) || pool.reserved - facts.bytes < keep) continue;
    while (!facts.gaps.empty()) remove_gap(pool, facts, facts.gaps.begin());
    pool.reserved -= facts.bytes;
    client_.heap().release_segment(segment->first);
    pool.segments.erase(segment);
  }
}

std::optional<DeviceBlock> Pools::find(std::uint64_t address) const {
  const std::scoped_lock lock(mutex_);
  auto next = blocks_.upper_bound(address);
  if (next == blocks_.begin()) return std::nullopt;
  const DeviceBlock& block = std::prev(next)->second.facts;
  return address - block.base < block.bytes ? std::optional(block) : std::nullopt;
}

// ---- synchronisation ----------------------------------------------------------------------------

void Pools::note_reclaimable() {
  const bool any = std::ranges::any_of(pools_, [](const MemoryPool* pool) {
    return pool->used_gaps != 0 || (pool->reserved > pool->release_threshold && !pool->by_size.empty());
  });
  reclaimable_.store(any, std::memory_order_relaxed);
}

void Pools::settle(MemoryPool& pool, std::uint64_t mark, std::uint64_t stream, std::uint64_t context) {
  if (pool.used_gaps == 0) return;
  const bool only_context = stream == 0 && client_.active_contexts() <= 1;
  for (auto& [base, segment] : pool.segments) {
    std::vector<std::pair<std::uint64_t, MemoryPool::Gap>> settled;
    for (const auto& [gap_base, gap] : segment.gaps) {
      const bool covered = stream != 0 ? gap.user == stream : gap.context == context || only_context;
      if (gap.user != MemoryPool::kNobody && gap.freed_at < mark && covered)
        settled.emplace_back(gap_base, gap);
    }
    for (auto& [gap_base, gap] : settled) {
      remove_gap(pool, segment, segment.gaps.find(gap_base));
      gap.user = MemoryPool::kNobody;
      add_gap(pool, base, gap_base, gap);
    }
  }
}

void Pools::drained(std::uint64_t mark, std::uint64_t stream, std::uint64_t context) {
  if (!reclaimable_.load(std::memory_order_relaxed)) return;
  const std::scoped_lock lock(mutex_);
  for (MemoryPool* pool : pools_) {
    settle(*pool, mark, stream, context);
    give_back_segments(*pool, pool->release_threshold, false);
  }
  note_reclaimable();
}

void Pools::release_all(CUdevice device) {
  const std::scoped_lock lock(mutex_);
  for (auto at = blocks_.begin(); at != blocks_.end();) {
    const auto block = at++;
    if (block->second.pool->device == device) release_block(block, nullptr);
  }
  for (MemoryPool* pool : pools_)
    if (pool->device == device) give_back_segments(*pool, 0, true);
  note_reclaimable();
}

}  // namespace avec::client
