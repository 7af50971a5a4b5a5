#include "client/managed.h"

#include <sys/mman.h>

#include <algorithm>

#include "client/client.h"
#include "client/coherence.h"
#include "client/context.h"
#include "client/device.h"
#include "client/host_memory.h"

namespace avec::client {
namespace {

/// As cudaMalloc's.
constexpr std::uint64_t kAlignment = 512;
/// Larger allocations have a segment of their own, which goes with them.
constexpr std::uint64_t kDedicatedFrom = std::uint64_t{8} << 20;
/// Segments for smaller ones grow from the granularity to this.
constexpr std::uint64_t kLargestShared = std::uint64_t{32} << 20;

constexpr std::uint64_t rounded(std::uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

CUresult ManagedMemory::grow(std::uint64_t bytes, bool dedicated, Context& context, Segments::iterator& made) {
  HostMemory& host = client_.host_memory();
  const CUdevice device = context.device->ordinal();
  std::uint64_t wanted = host.granules(bytes);
  if (!dedicated) {
    for (const auto& [base, segment] : segments_) {
      if (segment.device == device && !segment.dedicated)
        wanted = std::max(wanted, std::min(2 * segment.bytes, kLargestShared));
    }
  }
  const std::uint64_t base = host.take_addresses(wanted);
  if (base == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  void* const at = reinterpret_cast<void*>(base);
  // Over our own reservation, and back to it.
  const bool there = ::mmap(at, wanted, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED;
  Coherence::Range range;
  range.address = base;
  range.bytes = range.mapped = wanted;
  range.data = static_cast<std::byte*>(at);
  range.managed = true;
  const CUresult opened = there ? client_.coherence().open(range, context) : CUDA_ERROR_OUT_OF_MEMORY;
  if (opened != CUDA_SUCCESS) {
    ::mmap(at, wanted, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    host.give_addresses_back(base, wanted);
    return opened;
  }
  made = segments_.emplace(base, Segment{wanted, device, dedicated, RangeAllocator(base, wanted)}).first;
  return CUDA_SUCCESS;
}

void ManagedMemory::shrink(Segments::iterator segment) {
  const auto [base, bytes] = std::pair(segment->first, segment->second.bytes);
  segments_.erase(segment);
  client_.coherence().close(base);
  ::mmap(reinterpret_cast<void*>(base), bytes, PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  client_.host_memory().give_addresses_back(base, bytes);
}

CUresult ManagedMemory::allocate(CUdeviceptr* address, std::size_t bytes, unsigned flags, Context& context) {
  if (bytes > limits::kHostRangeBytes) return CUDA_ERROR_OUT_OF_MEMORY;
  const std::uint64_t size = rounded(bytes);
  const bool dedicated = size >= kDedicatedFrom;
  std::scoped_lock lock(mutex_);
  auto segment = segments_.end();
  std::uint64_t base = 0;
  if (!dedicated) {
    for (auto it = segments_.begin(); it != segments_.end() && base == 0; ++it) {
      if (it->second.dedicated || it->second.device != context.device->ordinal()) continue;
      base = it->second.room.take(size, kAlignment);
      segment = it;
    }
  }
  if (base == 0) {
    if (const CUresult result = grow(size, dedicated, context, segment); result != CUDA_SUCCESS) return result;
    base = segment->second.room.take(size, kAlignment);
  }
  ++segment->second.live;
  client_.coherence().use(segment->first, base + bytes - segment->first);
  HostBlock block;
  block.base = base;
  block.bytes = bytes;
  block.flags = flags;
  block.context = &context;
  client_.host_memory().add_managed(block);
  *address = base;
  return CUDA_SUCCESS;
}

CUresult ManagedMemory::release(std::uint64_t address) {
  std::scoped_lock lock(mutex_);
  const auto block = client_.host_memory().take_managed(address);
  if (!block) return CUDA_ERROR_INVALID_VALUE;
  advice_.forget(address, block->bytes);
  const auto segment = std::prev(segments_.upper_bound(address));
  segment->second.room.give_back(address, rounded(block->bytes));
  if (--segment->second.live != 0) return CUDA_SUCCESS;
  const auto another = [&](const auto& other) {
    return other.first != segment->first && !other.second.dedicated &&
           other.second.device == segment->second.device;
  };
  // One stays, for a program that allocates and frees in turn.
  if (segment->second.dedicated || std::ranges::any_of(segments_, another)) shrink(segment);
  return CUDA_SUCCESS;
}

}  // namespace avec::client
