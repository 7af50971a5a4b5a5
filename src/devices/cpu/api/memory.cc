// Device, pinned, registered and managed memory.
#include <algorithm>

#include "devices/cpu/graph/capture.h"

using namespace avec::cpu;

#undef cuMemHostRegister

namespace {

constexpr size_t kPitchAlignment = 512;

bool made_by_alloc(const Allocation& allocation) {
  return allocation.kind == Memory::kDevice || allocation.kind == Memory::kManaged;
}

CUresult host_allocate(void** pointer, size_t bytes, unsigned flags) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  constexpr unsigned kAll =
      CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED;
  if (pointer == nullptr || bytes == 0 || (flags & ~kAll) != 0) return CUDA_ERROR_INVALID_VALUE;
  if (const auto error = refuse_unsafe()) return error;
  CUdeviceptr address = 0;
  if (const auto error = allocate(*context, bytes, Memory::kHost, nullptr, address)) return error;
  Allocation with_flags = *state().memory.find(address);
  with_flags.flags = flags | CU_MEMHOSTALLOC_DEVICEMAP;  // unified addressing maps all of it
  state().memory.replace(with_flags);
  *pointer = reinterpret_cast<void*>(address);
  return CUDA_SUCCESS;
}

AllocationRef host_at(const void* pointer) {
  auto found = state().memory.find(reinterpret_cast<std::uint64_t>(pointer));
  return found && found->on_host() ? found : nullptr;
}

}  // namespace

extern "C" {

CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (free == nullptr || total == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *total = context->device.total_bytes;
  *free = *total - context->device.used_bytes.load();
  return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr* pointer, size_t bytes) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (pointer == nullptr || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  if (const auto error = refuse_unsafe()) return error;
  return allocate(*context, bytes, Memory::kDevice, nullptr, *pointer);
}

CUresult cuMemAllocPitch_v2(CUdeviceptr* pointer, size_t* pitch, size_t width, size_t height,
                            unsigned element) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (pointer == nullptr || pitch == nullptr || width == 0 || height == 0) return CUDA_ERROR_INVALID_VALUE;
  if (element != 4 && element != 8 && element != 16) return CUDA_ERROR_INVALID_VALUE;
  if (width > 2147483647) return CUDA_ERROR_INVALID_VALUE;
  if (const auto error = refuse_unsafe()) return error;
  const size_t row = (width + kPitchAlignment - 1) / kPitchAlignment * kPitchAlignment;
  if (height > (size_t{1} << 46) / row) return CUDA_ERROR_OUT_OF_MEMORY;
  if (const auto error = allocate(*context, row * height, Memory::kDevice, nullptr, *pointer)) return error;
  *pitch = row;
  return CUDA_SUCCESS;
}

CUresult cuMemFree_v2(CUdeviceptr pointer) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (pointer == 0) return CUDA_SUCCESS;
  if (const auto error = refuse_unsafe()) return error;
  CUresult result = CUDA_SUCCESS;
  if (free_graph_memory(pointer, result)) {
    (void)synchronize(context);
    return result;
  }
  const auto found = state().memory.find(pointer);
  if (!found || found->begin != pointer || !made_by_alloc(*found)) return CUDA_ERROR_INVALID_VALUE;
  // Work that may use it ends first, as on a GPU.
  const auto owner = state().contexts.find(reinterpret_cast<void*>(found->context));
  if (owner) (void)synchronize(owner);
  const auto gone = state().memory.remove(pointer, made_by_alloc);
  if (!gone) return CUDA_ERROR_INVALID_VALUE;
  state().advice.forget(gone->begin, gone->bytes);
  release(gone);
  return context->fault.load();
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr* base, size_t* bytes, CUdeviceptr pointer) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  const auto found = state().memory.find(pointer);
  if (!found || found->kind == Memory::kRegistered) return CUDA_ERROR_NOT_FOUND;
  if (base != nullptr) *base = found->begin;
  if (bytes != nullptr) *bytes = found->bytes;
  return CUDA_SUCCESS;
}

// ---- host memory ------------------------------------------------------------------------

CUresult cuMemAllocHost_v2(void** pointer, size_t bytes) { return host_allocate(pointer, bytes, 0); }

CUresult cuMemHostAlloc(void** pointer, size_t bytes, unsigned flags) {
  return host_allocate(pointer, bytes, flags);
}

CUresult cuMemFreeHost(void* pointer) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  const auto found = host_at(pointer);
  if (!found || found->kind != Memory::kHost || found->begin != reinterpret_cast<std::uint64_t>(pointer)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const auto owner = state().contexts.find(reinterpret_cast<void*>(found->context));
  if (owner) (void)synchronize(owner);
  const auto gone =
      state().memory.remove(found->begin, [](const Allocation& a) { return a.kind == Memory::kHost; });
  if (!gone) return CUDA_ERROR_INVALID_VALUE;
  release(gone);
  return CUDA_SUCCESS;
}

CUresult cuMemHostRegister_v2(void* pointer, size_t bytes, unsigned flags) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  constexpr unsigned kAll = CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP |
                            CU_MEMHOSTREGISTER_IOMEMORY | CU_MEMHOSTREGISTER_READ_ONLY;
  if (pointer == nullptr || bytes == 0 || (flags & ~kAll) != 0) return CUDA_ERROR_INVALID_VALUE;
  if ((flags & CU_MEMHOSTREGISTER_IOMEMORY) != 0) return CUDA_ERROR_NOT_PERMITTED;
  Allocation allocation;
  allocation.begin = reinterpret_cast<std::uint64_t>(pointer);
  allocation.bytes = bytes;
  if (allocation.end() < allocation.begin) return CUDA_ERROR_INVALID_VALUE;
  allocation.kind = Memory::kRegistered;
  allocation.device = context->device.ordinal;
  allocation.context = context->handle;
  allocation.flags = flags | CU_MEMHOSTREGISTER_DEVICEMAP;
  allocation.constant = (flags & CU_MEMHOSTREGISTER_READ_ONLY) != 0;
  return state().memory.add(allocation) ? CUDA_SUCCESS : CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
}

CUresult cuMemHostUnregister(void* pointer) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (pointer == nullptr) return CUDA_ERROR_INVALID_VALUE;
  auto registered = [](const Allocation& a) { return a.kind == Memory::kRegistered; };
  const auto found = host_at(pointer);
  if (found && found->kind == Memory::kHost) return CUDA_ERROR_INVALID_VALUE;
  if (!found || !registered(*found) || found->begin != reinterpret_cast<std::uint64_t>(pointer)) {
    return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
  }
  const auto owner = state().contexts.find(reinterpret_cast<void*>(found->context));
  if (owner) (void)synchronize(owner);
  return state().memory.remove(found->begin, registered) ? CUDA_SUCCESS
                                                         : CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* device, void* pointer, unsigned flags) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (device == nullptr || flags != 0 || !host_at(pointer)) return CUDA_ERROR_INVALID_VALUE;
  *device = reinterpret_cast<CUdeviceptr>(pointer);
  return CUDA_SUCCESS;
}

CUresult cuMemHostGetFlags(unsigned* flags, void* pointer) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  const auto found = host_at(pointer);
  if (flags == nullptr || !found) return CUDA_ERROR_INVALID_VALUE;
  *flags = found->flags;
  return CUDA_SUCCESS;
}

}  // extern "C"
