#include "client/virtual_memory.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <utility>
#include <vector>

#include "client/client.h"
#include "client/context.h"
#include "client/device.h"
#include "client/status.h"
#include "session/session.h"

namespace avec::client {
namespace {

/// Memory of a device is what there is. A descriptor of it may be asked for, as PyTorch does for
/// memory that it never shares; exporting is what fails.
CUresult check(const CUmemAllocationProp& properties) {
  constexpr unsigned kHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  if (properties.type != CU_MEM_ALLOCATION_TYPE_PINNED) return CUDA_ERROR_INVALID_VALUE;
  switch (properties.location.type) {
    case CU_MEM_LOCATION_TYPE_DEVICE:
      break;
    case CU_MEM_LOCATION_TYPE_HOST:
    case CU_MEM_LOCATION_TYPE_HOST_NUMA:
    case CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT:
      return CUDA_ERROR_NOT_SUPPORTED;  // host memory is this machine's
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
  const auto handles = static_cast<unsigned>(properties.requestedHandleTypes);
  return (handles & ~kHandleTypes) == 0 ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED;
}

}  // namespace

bool VirtualMemory::Mapping::usable() const {
  return std::ranges::any_of(access,
                             [](const auto& entry) { return entry.second != CU_MEM_ACCESS_FLAGS_PROT_NONE; });
}

bool VirtualMemory::Mapping::writable() const {
  return std::ranges::any_of(
      access, [](const auto& entry) { return entry.second == CU_MEM_ACCESS_FLAGS_PROT_READWRITE; });
}

CUresult VirtualMemory::reserve(CUdeviceptr* address, std::size_t bytes, std::size_t alignment,
                                CUdeviceptr wish) {
  Heap& heap = client_.heap();
  if (bytes == 0 || bytes % heap.granularity() != 0) return CUDA_ERROR_INVALID_VALUE;
  if (alignment != 0 && !std::has_single_bit(alignment)) return CUDA_ERROR_INVALID_VALUE;
  if (bytes > heap.range_bytes()) return CUDA_ERROR_OUT_OF_MEMORY;
  const std::uint64_t base =
      heap.reserve(bytes, std::max<std::uint64_t>(alignment, heap.granularity()), wish);
  if (base == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  const std::scoped_lock lock(mutex_);
  reservations_.emplace(base, bytes);
  *address = base;
  return CUDA_SUCCESS;
}

CUresult VirtualMemory::free_reservation(CUdeviceptr address, std::size_t bytes) {
  const std::scoped_lock lock(mutex_);
  const auto reservation = reservations_.find(address);
  if (reservation == reservations_.end() || reservation->second != bytes) return CUDA_ERROR_INVALID_VALUE;
  const auto next = mappings_.lower_bound(address);
  if (next != mappings_.end() && next->first < address + bytes) return CUDA_ERROR_INVALID_VALUE;
  reservations_.erase(reservation);
  client_.heap().unreserve(address, bytes);
  return CUDA_SUCCESS;
}

CUresult VirtualMemory::create(CUmemGenericAllocationHandle* handle, std::size_t bytes,
                               const CUmemAllocationProp& properties) {
  if (bytes == 0 || bytes % client_.heap().granularity() != 0) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult result = check(properties); result != CUDA_SUCCESS) return result;
  if (client_.device(properties.location.id) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  const std::uint64_t name = client_.mint();
  const auto make = [&]() -> CUresult {
    const auto pending = client_.session().post_deferred(
        wire::MemCreate(name, bytes, properties.location.id, 0), MutableBytes{});
    if (!pending) return to_cuda(pending.error());
    return to_cuda(client_.session().wait_deferred(*pending));
  };
  CUresult result = make();
  // What the heap holds free goes back first; the executor waits for work that may still use it.
  if (result == CUDA_ERROR_OUT_OF_MEMORY && client_.heap().give_back(properties.location.id)) result = make();
  if (result != CUDA_SUCCESS) return result;
  const std::scoped_lock lock(mutex_);
  physical_.emplace(name, Physical{bytes, properties});
  *handle = name;
  return CUDA_SUCCESS;
}

void VirtualMemory::drop_if_unused(std::uint64_t memory) {
  const auto found = physical_.find(memory);
  if (found == physical_.end() || found->second.references != 0 || found->second.mappings != 0) return;
  physical_.erase(found);
  (void)client_.session().post(wire::MemRelease(memory));
}

CUresult VirtualMemory::release(CUmemGenericAllocationHandle handle) {
  const std::scoped_lock lock(mutex_);
  const auto memory = physical_.find(handle);
  if (memory == physical_.end() || memory->second.references == 0) return CUDA_ERROR_INVALID_VALUE;
  --memory->second.references;
  drop_if_unused(handle);
  return CUDA_SUCCESS;
}

bool VirtualMemory::in_reservation(std::uint64_t address, std::uint64_t bytes) const {
  const auto next = reservations_.upper_bound(address);
  if (next == reservations_.begin()) return false;
  const auto& [base, size] = *std::prev(next);
  return address - base <= size && bytes <= size - (address - base);
}

VirtualMemory::Mappings::const_iterator VirtualMemory::at(std::uint64_t address) const {
  const auto next = mappings_.upper_bound(address);
  if (next == mappings_.begin()) return mappings_.end();
  const auto found = std::prev(next);
  return address - found->first < found->second.bytes ? found : mappings_.end();
}

CUresult VirtualMemory::map(CUdeviceptr address, std::size_t bytes, std::size_t offset,
                            CUmemGenericAllocationHandle handle) {
  const std::uint64_t granularity = client_.heap().granularity();
  const std::scoped_lock lock(mutex_);
  const auto memory = physical_.find(handle);
  if (memory == physical_.end() || memory->second.references == 0) return CUDA_ERROR_INVALID_VALUE;
  if (bytes == 0 || offset != 0 || address % granularity != 0) return CUDA_ERROR_INVALID_VALUE;
  if (bytes != memory->second.bytes) return CUDA_ERROR_NOT_SUPPORTED;  // as NVIDIA's driver says it
  if (!in_reservation(address, bytes)) return CUDA_ERROR_INVALID_VALUE;
  const auto next = mappings_.lower_bound(address);
  const bool overlaps =
      at(address) != mappings_.end() || (next != mappings_.end() && next->first < address + bytes);
  if (overlaps) return CUDA_ERROR_INVALID_VALUE;
  if (const auto posted = client_.session().post(wire::MemMapAt(address, bytes, handle, 0, 0)); !posted)
    return to_cuda(posted.error());
  ++memory->second.mappings;
  mappings_.emplace(
      address, Mapping{bytes, handle, memory->second.properties.location.id, client_.heap().next_id(), {}});
  return CUDA_SUCCESS;
}

/// The range consists of whole mappings.
bool VirtualMemory::whole(std::uint64_t address, std::uint64_t bytes) const {
  if (bytes == 0 || address + bytes < address) return false;
  const std::uint64_t end = address + bytes;
  for (auto mapping = mappings_.find(address); mapping != mappings_.end() && mapping->first == address;
       ++mapping) {
    address += mapping->second.bytes;
    if (address >= end) return address == end;
  }
  return false;
}

CUresult VirtualMemory::unmap(CUdeviceptr address, std::size_t bytes) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> runs;  // mappings side by side: base, bytes
  {
    const std::scoped_lock lock(mutex_);
    if (bytes == 0 || !in_reservation(address, bytes)) return CUDA_ERROR_INVALID_VALUE;
    const std::uint64_t end = address + bytes;
    const auto first = mappings_.lower_bound(address);
    // None in part. Where nothing is mapped there is nothing to do.
    if (const auto part = at(address); part != mappings_.end() && part->first != address)
      return CUDA_ERROR_INVALID_VALUE;
    if (const auto part = at(end - 1); part != mappings_.end() && part->first + part->second.bytes != end)
      return CUDA_ERROR_INVALID_VALUE;
    // From here on nobody finds them; the reservation keeps the addresses.
    for (auto mapping = first; mapping != mappings_.end() && mapping->first < end;) {
      if (runs.empty() || runs.back().first + runs.back().second != mapping->first)
        runs.emplace_back(mapping->first, 0);
      runs.back().second += mapping->second.bytes;
      const std::uint64_t memory = mapping->second.memory;
      mapping = mappings_.erase(mapping);
      --physical_.at(memory).mappings;
      drop_if_unused(memory);
    }
  }
  CUresult result = CUDA_SUCCESS;
  for (const auto& [base, size] : runs) {
    // Answered when all work issued before has ended and the memory is away.
    const CUresult own = to_cuda(client_.session().call(wire::MemUnmap(base, size)));
    if (result == CUDA_SUCCESS) result = own;
  }
  return client_.synchronized(result);
}

CUresult VirtualMemory::set_access(CUdeviceptr address, std::size_t bytes, const CUmemAccessDesc* access,
                                   std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    const CUmemLocation& location = access[i].location;
    if (location.type == CU_MEM_LOCATION_TYPE_HOST || location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA ||
        location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT) {
      return CUDA_ERROR_NOT_SUPPORTED;
    }
    if (location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_INVALID_VALUE;
    if (client_.device(location.id) == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const CUmemAccess_flags flags = access[i].flags;
    if (flags != CU_MEM_ACCESS_FLAGS_PROT_NONE && flags != CU_MEM_ACCESS_FLAGS_PROT_READ &&
        flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE) {
      return CUDA_ERROR_INVALID_VALUE;
    }
  }
  const std::scoped_lock lock(mutex_);
  if (!whole(address, bytes)) return CUDA_ERROR_INVALID_VALUE;
  for (std::size_t i = 0; i < count; ++i) {
    const CUdevice device = access[i].location.id;
    const auto posted = client_.session().post(
        wire::MemSetAccess(address, bytes, device, static_cast<std::uint32_t>(access[i].flags)));
    if (!posted) return to_cuda(posted.error());
    for (auto mapping = mappings_.find(address);
         mapping != mappings_.end() && mapping->first < address + bytes; ++mapping)
      mapping->second.access[device] = access[i].flags;
  }
  return CUDA_SUCCESS;
}

CUresult VirtualMemory::get_access(unsigned long long* flags, const CUmemLocation& location,
                                   CUdeviceptr address) {
  if (location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_INVALID_VALUE;
  if (client_.device(location.id) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  const std::scoped_lock lock(mutex_);
  const auto mapping = at(address);
  if (mapping == mappings_.end()) return CUDA_ERROR_INVALID_VALUE;
  const auto access = mapping->second.access.find(location.id);
  *flags = access == mapping->second.access.end() ? CU_MEM_ACCESS_FLAGS_PROT_NONE : access->second;
  return CUDA_SUCCESS;
}

CUresult VirtualMemory::properties(CUmemAllocationProp* properties, CUmemGenericAllocationHandle handle) {
  const std::scoped_lock lock(mutex_);
  const auto memory = physical_.find(handle);
  if (memory == physical_.end() || memory->second.references == 0) return CUDA_ERROR_INVALID_VALUE;
  *properties = memory->second.properties;
  return CUDA_SUCCESS;
}

CUresult VirtualMemory::retain(CUmemGenericAllocationHandle* handle, CUdeviceptr address) {
  const std::scoped_lock lock(mutex_);
  const auto mapping = at(address);
  if (mapping == mappings_.end()) return CUDA_ERROR_INVALID_VALUE;
  ++physical_.at(mapping->second.memory).references;
  *handle = mapping->second.memory;
  return CUDA_SUCCESS;
}

bool VirtualMemory::mapped(std::uint64_t address) const {
  const std::scoped_lock lock(mutex_);
  return at(address) != mappings_.end();
}

std::optional<DeviceBlock> VirtualMemory::find(std::uint64_t address, std::uint64_t bytes) const {
  const std::scoped_lock lock(mutex_);
  const auto mapping = at(address);
  if (mapping == mappings_.end() || !mapping->second.usable()) return std::nullopt;
  DeviceBlock block{mapping->first, mapping->second.bytes, nullptr, mapping->second.device,
                    mapping->second.id};
  block.kind = BlockKind::kMapped;
  block.writable = mapping->second.writable();
  block.reach = mapping->second.bytes;
  const std::uint64_t offset = address - block.base;
  for (auto next = std::next(mapping); next != mappings_.end() && block.reach - offset < bytes; ++next) {
    if (!next->second.usable() || next->first != block.base + block.reach) break;
    block.reach += next->second.bytes;
  }
  return block;
}

CUresult virtual_granularity(Client& client, std::size_t* granularity, const CUmemAllocationProp* properties,
                             CUmemAllocationGranularity_flags option) {
  if (granularity == nullptr || properties == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (option != CU_MEM_ALLOC_GRANULARITY_MINIMUM && option != CU_MEM_ALLOC_GRANULARITY_RECOMMENDED)
    return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult result = check(*properties); result != CUDA_SUCCESS) return result;
  *granularity = client.heap().granularity();
  return CUDA_SUCCESS;
}

}  // namespace avec::client
