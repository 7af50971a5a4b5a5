// Which addresses belong to the device: every allocation, mapping and registered host range.
//
// Device memory is host memory at the same address. Memory that is taken away while tasks run
// stays readable until they have ended, so a wrong program gets an error or old bytes, never a
// crash of the driver.
#pragma once

#include <cuda.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <vector>

namespace avec::cpu {

constexpr std::uint64_t kGranularity = std::uint64_t{2} << 20;
constexpr int kMaxDevices = 8;

enum class Memory : std::uint8_t {
  kDevice,      // cuMemAlloc and pools
  kManaged,     // cuMemAllocManaged
  kHost,        // cuMemHostAlloc
  kRegistered,  // cuMemHostRegister
  kGlobal,      // module variables
  kMapped       // cuMemMap
};

struct Physical;

struct Allocation {
  std::uint64_t begin = 0;
  std::uint64_t bytes = 0;
  Memory kind = Memory::kDevice;
  int device = 0;
  /// Handle of the context that made it; 0 for mapped memory.
  std::uintptr_t context = 0;
  unsigned flags = 0;
  std::uint64_t id = 0;
  CUmemoryPool pool = nullptr;
  bool constant = false;  // kernels may not write
  bool managed_variable = false;  // kGlobal: __managed__
  /// kMapped: 0, CU_MEM_ACCESS_FLAGS_PROT_READ or _READWRITE per device.
  std::array<std::uint8_t, kMaxDevices> access{};
  std::shared_ptr<Physical> physical;
  std::uint64_t physical_offset = 0;
  bool sync_memops = false;

  [[nodiscard]] std::uint64_t end() const { return begin + bytes; }
  [[nodiscard]] bool managed() const { return kind == Memory::kManaged || managed_variable; }
  [[nodiscard]] bool on_host() const { return kind == Memory::kHost || kind == Memory::kRegistered; }
};
using AllocationRef = std::shared_ptr<const Allocation>;

class MemoryMap {
 public:
  /// The allocation that holds the address.
  [[nodiscard]] AllocationRef find(std::uint64_t address) const;
  /// Adds one; false when it overlaps another.
  bool add(Allocation allocation);
  /// Removes the one that begins at the address and passes `accept`.
  template <class Accept>
  AllocationRef remove(std::uint64_t begin, Accept accept) {
    const std::unique_lock lock(mutex_);
    const auto found = map_.find(begin);
    if (found == map_.end() || !accept(*found->second)) return nullptr;
    auto allocation = found->second;
    map_.erase(found);
    return allocation;
  }
  /// All in [begin, end), if they cover it without a gap; else nothing.
  [[nodiscard]] std::vector<AllocationRef> covering(std::uint64_t begin, std::uint64_t end) const;
  [[nodiscard]] bool overlaps(std::uint64_t begin, std::uint64_t end) const;
  void replace(Allocation allocation);
  /// Everything that belongs to a context.
  [[nodiscard]] std::vector<AllocationRef> of_context(std::uintptr_t context) const;

 private:
  mutable std::shared_mutex mutex_;
  std::map<std::uint64_t, AllocationRef> map_;
};

/// Zeroed pages in the range that device memory comes from, or anywhere if that is refused; 0: none left.
/// Globals lie apart from everything a client process maps.
std::uint64_t map_pages(std::uint64_t bytes, bool globals);
std::uint64_t map_pages_at(std::uint64_t address, std::uint64_t bytes, int protection);
void unmap_pages(std::uint64_t address, std::uint64_t bytes);

}  // namespace avec::cpu
