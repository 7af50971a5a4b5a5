// Stream-ordered memory. Addresses are handed out at the call; freeing happens in stream order.
#include "devices/cpu/graph/capture.h"

using namespace avec::cpu;

namespace {

CUresult pool_of(CUmemoryPool handle, std::shared_ptr<Pool>& pool) {
  if (const auto error = initialised()) return error;
  pool = state().pools.find(handle);
  return pool ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult allocate_from(const std::shared_ptr<Pool>& pool, const StreamRef& stream, size_t bytes,
                       CUdeviceptr& pointer) {
  pointer = 0;
  if (bytes == 0) return CUDA_SUCCESS;
  const auto node = captured(stream, [&](Graph& graph, Params& params) {
    CUDA_MEM_ALLOC_NODE_PARAMS given{};
    given.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    given.poolProps.location = {CU_MEM_LOCATION_TYPE_DEVICE, {pool->device}};
    given.bytesize = bytes;
    AllocParams alloc;
    if (const auto error = make_alloc(given, graph, alloc)) return error;
    pointer = given.dptr;
    params = std::move(alloc);
    return CUDA_SUCCESS;
  });
  if (node) return *node;
  const std::uint64_t most = pool->most_bytes, in_use = pool->used.load();
  if (most != 0 && (in_use > most || bytes > most - in_use)) return CUDA_ERROR_OUT_OF_MEMORY;
  auto& context = *stream->context;
  if (const auto error =
          allocate(context, bytes, Memory::kDevice, as_handle<CUmemoryPool>(pool->handle), pointer)) {
    return error;
  }
  const std::uint64_t used = pool->used.fetch_add(bytes) + bytes;
  std::uint64_t high = pool->used_high.load();
  while (high < used && !pool->used_high.compare_exchange_weak(high, used)) {
  }
  return CUDA_SUCCESS;
}

/// Allocations whose freeing is queued.
struct Freeing {
  std::mutex mutex;
  std::set<std::uint64_t> ids;  // guarded by mutex
};

Freeing& freeing() {
  static auto* const the_one = new Freeing;
  return *the_one;
}

}  // namespace

extern "C" {

CUresult cuMemAllocAsync(CUdeviceptr* pointer, size_t bytes, CUstream handle) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (pointer == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto pool = state().pools.find(reinterpret_cast<void*>(stream->context->device.current_pool.load()));
  return pool ? allocate_from(pool, stream, bytes, *pointer) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr* pointer, size_t bytes, CUmemoryPool pool_handle,
                                 CUstream handle) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  std::shared_ptr<Pool> pool;
  if (const auto error = pool_of(pool_handle, pool)) return error;
  if (pointer == nullptr || pool->device != stream->context->device.ordinal) return CUDA_ERROR_INVALID_VALUE;
  return allocate_from(pool, stream, bytes, *pointer);
}

CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream handle) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  const auto node = captured(stream, [&](Graph& graph, Params& params) {
    FreeParams free;
    if (const auto error = make_free(pointer, graph, free)) return error;
    params = std::move(free);
    return CUDA_SUCCESS;
  });
  if (node) return *node;
  CUresult result = CUDA_SUCCESS;
  if (free_graph_memory(pointer, result)) return result;
  const auto found = state().memory.find(pointer);
  if (!found || found->begin != pointer || found->kind != Memory::kDevice) return CUDA_ERROR_INVALID_VALUE;
  {
    const std::lock_guard lock(freeing().mutex);
    if (!freeing().ids.insert(found->id).second) return CUDA_ERROR_INVALID_VALUE;  // freed already
  }
  Task task;
  // By number: the address may have been freed and handed out again meanwhile.
  task.run = [pointer, id = found->id](CUresult) {
    const auto gone = state().memory.remove(pointer, [id](const Allocation& a) { return a.id == id; });
    if (gone) {
      if (const auto pool = state().pools.find(gone->pool)) pool->used.fetch_sub(gone->bytes);
      release(gone);
    }
    const std::lock_guard lock(freeing().mutex);
    freeing().ids.erase(id);
    return CUDA_SUCCESS;
  };
  state().scheduler.enqueue(stream, std::move(task));
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* pool, CUdevice ordinal) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  if (pool == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *pool = as_handle<CUmemoryPool>(device->default_pool);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetMemPool(CUmemoryPool* pool, CUdevice ordinal) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  if (pool == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *pool = as_handle<CUmemoryPool>(device->current_pool.load());
  return CUDA_SUCCESS;
}

CUresult cuDeviceSetMemPool(CUdevice ordinal, CUmemoryPool handle) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  std::shared_ptr<Pool> pool;
  if (const auto error = pool_of(handle, pool)) return error;
  if (pool->device != ordinal) return CUDA_ERROR_INVALID_VALUE;
  device->current_pool = pool->handle;
  return CUDA_SUCCESS;
}

CUresult cuMemPoolCreate(CUmemoryPool* handle, const CUmemPoolProps* properties) {
  if (const auto error = initialised()) return error;
  if (handle == nullptr || properties == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (properties->allocType != CU_MEM_ALLOCATION_TYPE_PINNED ||
      properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Device* device;
  if (const auto error = device_of(properties->location.id, device)) return error;
  if (properties->handleTypes != CU_MEM_HANDLE_TYPE_NONE) return CUDA_ERROR_NOT_SUPPORTED;
  auto pool = std::make_shared<Pool>();
  pool->device = device->ordinal;
  pool->most_bytes = properties->maxSize;
  *handle = as_handle<CUmemoryPool>(state().pools.add(pool));
  return CUDA_SUCCESS;
}

CUresult cuMemPoolDestroy(CUmemoryPool handle) {
  std::shared_ptr<Pool> pool;
  if (const auto error = pool_of(handle, pool)) return error;
  if (pool->is_default) return CUDA_ERROR_INVALID_VALUE;
  auto& device = *state().devices[static_cast<size_t>(pool->device)];
  std::uintptr_t mine = pool->handle;
  device.current_pool.compare_exchange_strong(mine, device.default_pool);
  state().pools.remove(handle);
  return CUDA_SUCCESS;
}

namespace {

CUresult device_at(const CUmemLocation* location, CUmemAllocationType type, CUdevice& device) {
  if (location == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (type == CU_MEM_ALLOCATION_TYPE_MANAGED || location->type == CU_MEM_LOCATION_TYPE_HOST ||
      location->type == CU_MEM_LOCATION_TYPE_HOST_NUMA) {
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  if (type != CU_MEM_ALLOCATION_TYPE_PINNED || location->type != CU_MEM_LOCATION_TYPE_DEVICE)
    return CUDA_ERROR_INVALID_VALUE;
  device = location->id;
  return CUDA_SUCCESS;
}

}  // namespace

CUresult cuMemGetDefaultMemPool(CUmemoryPool* pool, CUmemLocation* location, CUmemAllocationType type) {
  CUdevice device;
  if (const auto error = device_at(location, type, device)) return error;
  return cuDeviceGetDefaultMemPool(pool, device);
}

CUresult cuMemGetMemPool(CUmemoryPool* pool, CUmemLocation* location, CUmemAllocationType type) {
  CUdevice device;
  if (const auto error = device_at(location, type, device)) return error;
  return cuDeviceGetMemPool(pool, device);
}

CUresult cuMemSetMemPool(CUmemLocation* location, CUmemAllocationType type, CUmemoryPool pool) {
  CUdevice device;
  if (const auto error = device_at(location, type, device)) return error;
  return cuDeviceSetMemPool(device, pool);
}

CUresult cuMemPoolSetAccess(CUmemoryPool handle, const CUmemAccessDesc* access, size_t count) {
  std::shared_ptr<Pool> pool;
  if (const auto error = pool_of(handle, pool)) return error;
  if (access == nullptr && count != 0) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; ++i) {
    if (access[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_INVALID_VALUE;
    Device* device;
    if (const auto error = device_of(access[i].location.id, device)) return error;
    if (device->ordinal == pool->device && access[i].flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
      return CUDA_ERROR_INVALID_DEVICE;
    pool->access[static_cast<size_t>(device->ordinal)] = static_cast<std::uint8_t>(access[i].flags);
  }
  return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAccess(CUmemAccess_flags* flags, CUmemoryPool handle, CUmemLocation* location) {
  std::shared_ptr<Pool> pool;
  if (const auto error = pool_of(handle, pool)) return error;
  if (flags == nullptr || location == nullptr || location->type != CU_MEM_LOCATION_TYPE_DEVICE)
    return CUDA_ERROR_INVALID_VALUE;
  Device* device;
  if (const auto error = device_of(location->id, device)) return error;
  *flags = device->ordinal == pool->device
               ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE
               : static_cast<CUmemAccess_flags>(pool->access[static_cast<size_t>(device->ordinal)].load());
  return CUDA_SUCCESS;
}

CUresult cuMemPoolTrimTo(CUmemoryPool handle, size_t) {
  std::shared_ptr<Pool> pool;
  return pool_of(handle, pool);  // nothing is kept that could be trimmed
}

CUresult cuMemPoolSetAttribute(CUmemoryPool handle, CUmemPool_attribute attribute, void* value) {
  std::shared_ptr<Pool> pool;
  if (const auto error = pool_of(handle, pool)) return error;
  if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  switch (attribute) {
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
      pool->attributes[attribute] = static_cast<std::uint64_t>(*static_cast<int*>(value) != 0);
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
      pool->attributes[attribute] = *static_cast<cuuint64_t*>(value);
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
      if (*static_cast<cuuint64_t*>(value) != 0) return CUDA_ERROR_INVALID_VALUE;
      pool->used_high = pool->used.load();
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult cuMemPoolGetAttribute(CUmemoryPool handle, CUmemPool_attribute attribute, void* value) {
  std::shared_ptr<Pool> pool;
  if (const auto error = pool_of(handle, pool)) return error;
  if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  switch (attribute) {
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
      *static_cast<int*>(value) = static_cast<int>(pool->attributes[attribute].load());
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
      *static_cast<cuuint64_t*>(value) = pool->attributes[attribute].load();
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
      *static_cast<cuuint64_t*>(value) = pool->used.load();
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
      *static_cast<cuuint64_t*>(value) = pool->used_high.load();
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

}  // extern "C"
