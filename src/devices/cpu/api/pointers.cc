// What is known about an address.
#include <cstring>

#include "devices/cpu/device.h"

using namespace avec::cpu;

namespace {

template <class T>
CUresult put(void* data, T value) {
  std::memcpy(data, &value, sizeof value);
  return CUDA_SUCCESS;
}

/// `found` null: not CUDA's; only cuPointerGetAttributes asks about such.
CUresult answer(void* data, CUpointer_attribute attribute, CUdeviceptr pointer, const Allocation* found) {
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
      return put(data, found ? found->context : std::uintptr_t{0});
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      return put(
          data,
          !found ? 0u : static_cast<unsigned>(found->on_host() ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE));
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
      return put(data, found ? pointer : CUdeviceptr{0});
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
      if (found && !found->on_host() && !found->managed()) {
        put(data, std::uint64_t{0});
        return CUDA_ERROR_INVALID_VALUE;
      }
      return put(data, pointer);
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
      return put(data, static_cast<unsigned>(found && found->sync_memops));
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
      return put(data, found ? found->id : std::uint64_t{0});
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
      return put(data, static_cast<unsigned>(found && found->managed()));
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      return put(data, found ? found->device : -2);
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
      return put(data, found ? found->begin : std::uint64_t{0});
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
      return put(data, found ? found->bytes : std::uint64_t{0});
    case CU_POINTER_ATTRIBUTE_MAPPED:
      return put(data, static_cast<unsigned>(found != nullptr));
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
      return put(data, found && found->physical
                           ? static_cast<std::uint64_t>(found->physical->properties.requestedHandleTypes)
                           : std::uint64_t{0});
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
      return put(data, static_cast<unsigned>(!found            ? 0
                                             : found->constant ? CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READ
                                                               : CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE));
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
      return put(data, found ? found->pool : nullptr);
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
    case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
      return put(data, 0u);
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

}  // namespace

extern "C" {

CUresult cuPointerGetAttribute(void* data, CUpointer_attribute attribute, CUdeviceptr pointer) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  const auto found = state().memory.find(pointer);
  if (data == nullptr || !found) return CUDA_ERROR_INVALID_VALUE;
  return answer(data, attribute, pointer, found.get());
}

CUresult cuPointerGetAttributes(unsigned count, CUpointer_attribute* attributes, void** data,
                                CUdeviceptr pointer) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (count == 0 || attributes == nullptr || data == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto found = state().memory.find(pointer);
  for (unsigned i = 0; i < count; ++i) {
    if (data[i] == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const auto error = answer(data[i], attributes[i], pointer, found.get());
    // Memory without a host pointer is an answer here, not an error.
    if (error != CUDA_SUCCESS && attributes[i] != CU_POINTER_ATTRIBUTE_HOST_POINTER) return error;
  }
  return CUDA_SUCCESS;
}

CUresult cuPointerSetAttribute(const void* value, CUpointer_attribute attribute, CUdeviceptr pointer) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  const auto found = state().memory.find(pointer);
  if (value == nullptr || !found || attribute != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS)
    return CUDA_ERROR_INVALID_VALUE;
  Allocation changed = *found;
  changed.sync_memops = *static_cast<const unsigned*>(value) != 0;
  state().memory.replace(std::move(changed));
  return CUDA_SUCCESS;
}

}  // extern "C"
