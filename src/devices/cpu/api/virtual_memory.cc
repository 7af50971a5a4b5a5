// Addresses and physical memory apart: cuMemAddressReserve, cuMemCreate, cuMemMap.
//
// Physical memory is a file in memory, so that one handle can be mapped at several addresses and
// passed to another process. Where nothing is mapped any more, tasks that still run find zeroed
// pages of their own until the addresses are freed.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "devices/cpu/attributes.h"
#include "devices/cpu/device.h"

using namespace avec::cpu;

namespace {

bool aligned(std::uint64_t value) { return value % kGranularity == 0; }

/// Inside one reservation.
bool reserved(std::uint64_t begin, std::uint64_t bytes) {
  auto& all = state();
  const std::lock_guard lock(all.reservations_mutex);
  auto next = all.reservations.upper_bound(begin);
  if (next == all.reservations.begin()) return false;
  const auto& found = std::prev(next)->second;
  return begin - found.begin <= found.bytes && bytes <= found.bytes - (begin - found.begin);
}

CUresult check(const CUmemAllocationProp* properties) {
  if (properties == nullptr || properties->type != CU_MEM_ALLOCATION_TYPE_PINNED)
    return CUDA_ERROR_INVALID_VALUE;
  if ((properties->requestedHandleTypes & ~CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) != 0) {
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  if (properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_INVALID_VALUE;
  return CUDA_SUCCESS;
}

/// The whole mappings that make up [begin, begin + bytes); nothing if they do not.
std::vector<AllocationRef> mappings(std::uint64_t begin, std::uint64_t bytes) {
  auto found = state().memory.covering(begin, begin + bytes);
  if (found.empty() || found.front()->begin != begin || found.back()->end() != begin + bytes) return {};
  for (const auto& allocation : found) {
    if (allocation->kind != Memory::kMapped) return {};
  }
  return found;
}

}  // namespace

extern "C" {

CUresult cuMemGetAllocationGranularity(size_t* granularity, const CUmemAllocationProp* properties,
                                       CUmemAllocationGranularity_flags option) {
  if (const auto error = initialised()) return error;
  if (granularity == nullptr ||
      (option != CU_MEM_ALLOC_GRANULARITY_MINIMUM && option != CU_MEM_ALLOC_GRANULARITY_RECOMMENDED)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (const auto error = check(properties)) return error;
  *granularity = kGranularity;
  return CUDA_SUCCESS;
}

CUresult cuMemAddressReserve(CUdeviceptr* pointer, size_t bytes, size_t alignment, CUdeviceptr wish,
                             unsigned long long flags) {
  if (const auto error = initialised()) return error;
  if (pointer == nullptr || bytes == 0 || !aligned(bytes) || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if ((alignment & (alignment - 1)) != 0 || bytes > (std::uint64_t{1} << 46)) return CUDA_ERROR_INVALID_VALUE;
  const std::uint64_t step = std::max<std::uint64_t>(alignment, kGranularity);
  std::uint64_t begin = 0;
  // As on a GPU the wish is only a hint: elsewhere if it cannot be met.
  if (wish != 0 && wish % step == 0) begin = map_pages_at(wish, bytes, PROT_NONE);
  if (begin == 0) {
    // More than asked for, so that an aligned part is in it.
    const std::uint64_t got = map_pages_at(0, bytes + step, PROT_NONE);
    if (got == 0) return CUDA_ERROR_OUT_OF_MEMORY;
    begin = (got + step - 1) / step * step;
    if (begin > got) unmap_pages(got, begin - got);
    unmap_pages(begin + bytes, got + step - begin);
  }
  auto& all = state();
  const std::lock_guard lock(all.reservations_mutex);
  all.reservations[begin] = {begin, bytes};
  *pointer = begin;
  return CUDA_SUCCESS;
}

CUresult cuMemAddressFree(CUdeviceptr pointer, size_t bytes) {
  if (const auto error = initialised()) return error;
  auto& all = state();
  {
    const std::lock_guard lock(all.reservations_mutex);
    const auto found = all.reservations.find(pointer);
    if (found == all.reservations.end() || found->second.bytes != bytes) return CUDA_ERROR_INVALID_VALUE;
    if (all.memory.overlaps(pointer, pointer + bytes)) return CUDA_ERROR_INVALID_VALUE;  // still mapped
    all.reservations.erase(found);
  }
  all.scheduler.when_quiet([pointer, bytes] { unmap_pages(pointer, bytes); });
  return CUDA_SUCCESS;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, size_t bytes,
                     const CUmemAllocationProp* properties, unsigned long long flags) {
  if (const auto error = initialised()) return error;
  if (handle == nullptr || bytes == 0 || !aligned(bytes) || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (const auto error = check(properties)) return error;
  Device* device;
  if (const auto error = device_of(properties->location.id, device)) return error;
  if (!device->take(bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  auto physical = std::make_shared<Physical>();
  physical->device = device;
  physical->bytes = bytes;
  physical->properties = *properties;
  physical->descriptor = ::memfd_create("avec-device-memory", MFD_CLOEXEC);
  if (physical->descriptor < 0 || ::ftruncate(physical->descriptor, static_cast<off_t>(bytes)) != 0) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  if (dirty_memory()) {
    void* memory = ::mmap(nullptr, bytes, PROT_WRITE, MAP_SHARED, physical->descriptor, 0);
    if (memory == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
    std::memset(memory, kRemains, bytes);
    ::munmap(memory, bytes);
  }
  *handle = state().physical.add(physical);
  return CUDA_SUCCESS;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  if (const auto error = initialised()) return error;
  const auto physical = state().physical.find(reinterpret_cast<void*>(handle));
  if (!physical) return CUDA_ERROR_INVALID_VALUE;
  // Mappings keep their reference: the memory goes with the last of them.
  if (physical->references.fetch_sub(1) == 1) state().physical.remove(reinterpret_cast<void*>(handle));
  return CUDA_SUCCESS;
}

CUresult cuMemMap(CUdeviceptr pointer, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
  if (const auto error = initialised()) return error;
  const auto physical = state().physical.find(reinterpret_cast<void*>(handle));
  if (!physical || bytes == 0 || offset != 0 || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (!aligned(pointer)) return CUDA_ERROR_INVALID_VALUE;
  if (bytes != physical->bytes) return CUDA_ERROR_NOT_SUPPORTED;
  if (!reserved(pointer, bytes)) return CUDA_ERROR_INVALID_VALUE;
  Allocation allocation;
  allocation.begin = pointer;
  allocation.bytes = bytes;
  allocation.kind = Memory::kMapped;
  allocation.device = physical->properties.location.id;
  allocation.physical = physical;
  if (!state().memory.add(allocation)) return CUDA_ERROR_INVALID_VALUE;  // mapped already
  void* got = ::mmap(reinterpret_cast<void*>(pointer), bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                     physical->descriptor, 0);
  if (got == MAP_FAILED) {
    (void)state().memory.remove(pointer, [](const Allocation&) { return true; });
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  return CUDA_SUCCESS;
}

CUresult cuMemUnmap(CUdeviceptr pointer, size_t bytes) {
  if (const auto error = initialised()) return error;
  if (bytes == 0 || !reserved(pointer, bytes)) return CUDA_ERROR_INVALID_VALUE;
  if (!state().memory.overlaps(pointer, pointer + bytes)) return CUDA_SUCCESS;  // nothing to do
  const auto found = mappings(pointer, bytes);
  if (found.empty()) return CUDA_ERROR_INVALID_VALUE;
  // Work that may use it ends first, as on a GPU.
  ContextRef context;
  if (current(context) == CUDA_SUCCESS) (void)synchronize(context);
  for (const auto& allocation : found) {
    (void)state().memory.remove(allocation->begin,
                                [](const Allocation& a) { return a.kind == Memory::kMapped; });
    ::mmap(reinterpret_cast<void*>(allocation->begin), allocation->bytes, PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  }
  return CUDA_SUCCESS;
}

CUresult cuMemSetAccess(CUdeviceptr pointer, size_t bytes, const CUmemAccessDesc* descriptions,
                        size_t count) {
  if (const auto error = initialised()) return error;
  if (descriptions == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
  const auto found = mappings(pointer, bytes);
  if (found.empty()) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; ++i) {
    Device* device;
    if (descriptions[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_INVALID_VALUE;
    if (device_of(descriptions[i].location.id, device) != CUDA_SUCCESS) return CUDA_ERROR_INVALID_VALUE;
    const int flags = descriptions[i].flags;
    if (flags != CU_MEM_ACCESS_FLAGS_PROT_NONE && flags != CU_MEM_ACCESS_FLAGS_PROT_READ &&
        flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE) {
      return CUDA_ERROR_INVALID_VALUE;
    }
  }
  for (const auto& allocation : found) {
    Allocation changed = *allocation;
    for (size_t i = 0; i < count; ++i) {
      changed.access[static_cast<size_t>(descriptions[i].location.id)] =
          static_cast<std::uint8_t>(descriptions[i].flags);
    }
    state().memory.replace(std::move(changed));
  }
  return CUDA_SUCCESS;
}

CUresult cuMemGetAccess(unsigned long long* flags, const CUmemLocation* location, CUdeviceptr pointer) {
  if (const auto error = initialised()) return error;
  if (flags == nullptr || location == nullptr || location->type != CU_MEM_LOCATION_TYPE_DEVICE) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Device* device;
  if (const auto error = device_of(location->id, device)) return error;
  const auto found = state().memory.find(pointer);
  if (!found || found->kind != Memory::kMapped) return CUDA_ERROR_INVALID_VALUE;
  *flags = found->access[static_cast<size_t>(location->id)];
  return CUDA_SUCCESS;
}

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp* properties,
                                                CUmemGenericAllocationHandle handle) {
  if (const auto error = initialised()) return error;
  const auto physical = state().physical.find(reinterpret_cast<void*>(handle));
  if (properties == nullptr || !physical) return CUDA_ERROR_INVALID_VALUE;
  *properties = physical->properties;
  return CUDA_SUCCESS;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* handle, void* address) {
  if (const auto error = initialised()) return error;
  const auto found = state().memory.find(reinterpret_cast<std::uint64_t>(address));
  if (handle == nullptr || !found || found->kind != Memory::kMapped) return CUDA_ERROR_INVALID_VALUE;
  if (state().physical.find(reinterpret_cast<void*>(found->physical->handle))) {
    found->physical->references.fetch_add(1);
    *handle = found->physical->handle;
    return CUDA_SUCCESS;
  }
  // Its handle has been released: another one for the same memory.
  auto copy = std::make_shared<Physical>();
  copy->descriptor = ::fcntl(found->physical->descriptor, F_DUPFD_CLOEXEC, 0);
  if (copy->descriptor < 0) return CUDA_ERROR_OPERATING_SYSTEM;
  copy->bytes = found->physical->bytes;
  copy->properties = found->physical->properties;
  *handle = state().physical.add(copy);
  return CUDA_SUCCESS;
}

CUresult cuMemExportToShareableHandle(void* shareable, CUmemGenericAllocationHandle handle,
                                      CUmemAllocationHandleType type, unsigned long long flags) {
  if (const auto error = initialised()) return error;
  const auto physical = state().physical.find(reinterpret_cast<void*>(handle));
  if (shareable == nullptr || !physical || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_NOT_SUPPORTED;
  if ((physical->properties.requestedHandleTypes & type) == 0) return CUDA_ERROR_INVALID_VALUE;
  const int descriptor = ::fcntl(physical->descriptor, F_DUPFD_CLOEXEC, 0);
  if (descriptor < 0) return CUDA_ERROR_OPERATING_SYSTEM;
  *static_cast<int*>(shareable) = descriptor;
  return CUDA_SUCCESS;
}

CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle* handle, void* shareable,
                                        CUmemAllocationHandleType type) {
  if (const auto error = initialised()) return error;
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_NOT_SUPPORTED;
  struct stat facts{};
  const int descriptor = static_cast<int>(reinterpret_cast<std::intptr_t>(shareable));
  if (::fstat(descriptor, &facts) != 0 || facts.st_size <= 0 ||
      !aligned(static_cast<std::uint64_t>(facts.st_size))) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  auto physical = std::make_shared<Physical>();
  physical->descriptor = ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
  if (physical->descriptor < 0) return CUDA_ERROR_OPERATING_SYSTEM;
  physical->bytes = static_cast<std::uint64_t>(facts.st_size);
  physical->properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  physical->properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  physical->properties.requestedHandleTypes = type;
  *handle = state().physical.add(physical);
  return CUDA_SUCCESS;
}

}  // extern "C"
