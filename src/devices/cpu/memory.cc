#include "devices/cpu/memory.h"

#include <sys/mman.h>
#include <unistd.h>

namespace avec::cpu {

AllocationRef MemoryMap::find(std::uint64_t address) const {
  const std::shared_lock lock(mutex_);
  auto next = map_.upper_bound(address);
  if (next == map_.begin()) return nullptr;
  const auto& candidate = std::prev(next)->second;
  return address < candidate->end() ? candidate : nullptr;
}

bool MemoryMap::add(Allocation allocation) {
  static std::atomic<std::uint64_t> ids{1};
  if (allocation.id == 0) allocation.id = ids.fetch_add(1);
  const std::unique_lock lock(mutex_);
  const auto next = map_.lower_bound(allocation.begin);
  if (next != map_.end() && next->first < allocation.end()) return false;
  if (next != map_.begin() && std::prev(next)->second->end() > allocation.begin) return false;
  const std::uint64_t begin = allocation.begin;
  map_.emplace(begin, std::make_shared<const Allocation>(std::move(allocation)));
  return true;
}

void MemoryMap::replace(Allocation allocation) {
  const std::unique_lock lock(mutex_);
  const auto found = map_.find(allocation.begin);
  if (found != map_.end()) found->second = std::make_shared<const Allocation>(std::move(allocation));
}

bool MemoryMap::overlaps(std::uint64_t begin, std::uint64_t end) const {
  const std::shared_lock lock(mutex_);
  const auto next = map_.lower_bound(begin);
  if (next != map_.end() && next->first < end) return true;
  return next != map_.begin() && std::prev(next)->second->end() > begin;
}

std::vector<AllocationRef> MemoryMap::covering(std::uint64_t begin, std::uint64_t end) const {
  const std::shared_lock lock(mutex_);
  std::vector<AllocationRef> found;
  auto next = map_.upper_bound(begin);
  if (next == map_.begin()) return {};
  for (auto at = std::prev(next); begin < end; ++at) {
    if (at == map_.end() || at->first > begin || at->second->end() <= begin) return {};
    found.push_back(at->second);
    begin = at->second->end();
  }
  return found;
}

std::vector<AllocationRef> MemoryMap::of_context(std::uintptr_t context) const {
  const std::shared_lock lock(mutex_);
  std::vector<AllocationRef> found;
  for (const auto& [begin, allocation] : map_) {
    if (allocation->context == context) found.push_back(allocation);
  }
  return found;
}

namespace {

// Where Linux puts neither programs nor libraries nor stacks.
constexpr std::uint64_t kGlobalsBegin = 0x650000000000, kGlobalsEnd = 0x660000000000;
constexpr std::uint64_t kDeviceBegin = 0x670000000000, kDeviceEnd = 0x6f0000000000;

std::atomic<std::uint64_t> next_global{kGlobalsBegin};
std::atomic<std::uint64_t> next_device{kDeviceBegin};

std::uint64_t pages(std::uint64_t bytes) { return (bytes + 4095) / 4096 * 4096; }

void* map_at(std::uint64_t address, std::uint64_t bytes, int protection, int flags) {
  return ::mmap(reinterpret_cast<void*>(address), bytes, protection,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
}

}  // namespace

std::uint64_t map_pages(std::uint64_t bytes, bool globals) {
  auto& next = globals ? next_global : next_device;
  const std::uint64_t end = globals ? kGlobalsEnd : kDeviceEnd;
#if defined(__SANITIZE_THREAD__)
  constexpr int kAttempts = 0;  // its shadow memory lies there
#else
  constexpr int kAttempts = 16;
#endif
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    // A page stays free after each, so that running over the end is noticed.
    const std::uint64_t address = next.fetch_add(pages(bytes) + 4096);
    if (address + pages(bytes) > end) break;
    void* got = map_at(address, pages(bytes), PROT_READ | PROT_WRITE, MAP_FIXED_NOREPLACE);
    if (got != MAP_FAILED) return reinterpret_cast<std::uint64_t>(got);
  }
  void* got = map_at(0, pages(bytes), PROT_READ | PROT_WRITE, 0);
  return got == MAP_FAILED ? 0 : reinterpret_cast<std::uint64_t>(got);
}

std::uint64_t map_pages_at(std::uint64_t address, std::uint64_t bytes, int protection) {
  void* got = map_at(address, bytes, protection, address ? MAP_FIXED_NOREPLACE : 0);
  if (got == MAP_FAILED) return 0;
  return reinterpret_cast<std::uint64_t>(got);
}

void unmap_pages(std::uint64_t address, std::uint64_t bytes) {
  ::munmap(reinterpret_cast<void*>(address), pages(bytes));
}

}  // namespace avec::cpu
