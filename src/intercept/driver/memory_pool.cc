// Memory pools, and allocation in stream order.
#include "client/memory_pool.h"

#include "client/client.h"
#include "client/memory.h"
#include "entry.h"

using namespace avec::client;

namespace {

CUresult allocate_from(CUdeviceptr* address, size_t bytes, CUmemoryPool pool, CUstream stream) {
  return pool == nullptr ? CUDA_ERROR_INVALID_VALUE : memory_allocate_async(address, bytes, pool, stream);
}

/// The device that a location and a type of allocation mean: pools there are of device memory only.
CUresult device_of(const CUmemLocation* location, CUmemAllocationType type, CUdevice& device) {
  if (location == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (type != CU_MEM_ALLOCATION_TYPE_PINNED && type != CU_MEM_ALLOCATION_TYPE_MANAGED)
    return CUDA_ERROR_INVALID_VALUE;
  switch (location->type) {
    case CU_MEM_LOCATION_TYPE_DEVICE:
      break;
    case CU_MEM_LOCATION_TYPE_HOST:
    case CU_MEM_LOCATION_TYPE_HOST_NUMA:
      return CUDA_ERROR_NOT_SUPPORTED;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
  if (type == CU_MEM_ALLOCATION_TYPE_MANAGED) return CUDA_ERROR_NOT_SUPPORTED;
  device = location->id;
  return CUDA_SUCCESS;
}

CUresult pool_at(Client& client, CUmemoryPool* pool, const CUmemLocation* location, CUmemAllocationType type,
                 bool current) {
  if (pool == nullptr) return CUDA_ERROR_INVALID_VALUE;
  CUdevice device = 0;
  if (const CUresult result = device_of(location, type, device); result != CUDA_SUCCESS) return result;
  return current ? client.pools().current_of(pool, device) : client.pools().default_of(pool, device);
}

CUresult set_pool_at(Client& client, const CUmemLocation* location, CUmemAllocationType type,
                     CUmemoryPool pool) {
  CUdevice device = 0;
  if (const CUresult result = device_of(location, type, device); result != CUDA_SUCCESS) return result;
  return client.pools().set_current(device, pool);
}

}  // namespace

AVEC_DRIVER_STREAM_CALL(cuMemAllocAsync, (CUdeviceptr * address, size_t bytes, CUstream stream),
                        memory_allocate_async(address, bytes, nullptr, stream))
AVEC_DRIVER_STREAM_CALL(cuMemAllocFromPoolAsync,
                        (CUdeviceptr * address, size_t bytes, CUmemoryPool pool, CUstream stream),
                        allocate_from(address, bytes, pool, stream))
AVEC_DRIVER_STREAM_CALL(cuMemFreeAsync, (CUdeviceptr address, CUstream stream),
                        memory_free_async(address, stream))

AVEC_DRIVER_CLIENT_CALL(cuMemPoolCreate, (CUmemoryPool * pool, const CUmemPoolProps* properties),
                        pool == nullptr || properties == nullptr ? CUDA_ERROR_INVALID_VALUE
                                                                 : client.pools().create(pool, *properties))
AVEC_DRIVER_CLIENT_CALL(cuMemPoolDestroy, (CUmemoryPool pool), client.pools().destroy(pool))
AVEC_DRIVER_CLIENT_CALL(cuMemPoolTrimTo, (CUmemoryPool pool, size_t keep), client.pools().trim_to(pool, keep))
AVEC_DRIVER_CLIENT_CALL(cuMemPoolSetAttribute, (CUmemoryPool pool, CUmemPool_attribute which, void* value),
                        value == nullptr ? CUDA_ERROR_INVALID_VALUE
                                         : client.pools().set_attribute(pool, which, value))
AVEC_DRIVER_CLIENT_CALL(cuMemPoolGetAttribute, (CUmemoryPool pool, CUmemPool_attribute which, void* value),
                        value == nullptr ? CUDA_ERROR_INVALID_VALUE
                                         : client.pools().get_attribute(pool, which, value))
AVEC_DRIVER_CLIENT_CALL(cuMemPoolSetAccess, (CUmemoryPool pool, const CUmemAccessDesc* access, size_t count),
                        client.pools().set_access(pool, access, count))
AVEC_DRIVER_CLIENT_CALL(cuMemPoolGetAccess,
                        (CUmemAccess_flags * flags, CUmemoryPool pool, CUmemLocation* location),
                        flags == nullptr || location == nullptr
                            ? CUDA_ERROR_INVALID_VALUE
                            : client.pools().get_access(flags, pool, *location))
AVEC_DRIVER_CLIENT_CALL(cuDeviceGetDefaultMemPool, (CUmemoryPool * pool, CUdevice device),
                        pool == nullptr ? CUDA_ERROR_INVALID_VALUE : client.pools().default_of(pool, device))
AVEC_DRIVER_CLIENT_CALL(cuDeviceGetMemPool, (CUmemoryPool * pool, CUdevice device),
                        pool == nullptr ? CUDA_ERROR_INVALID_VALUE : client.pools().current_of(pool, device))
AVEC_DRIVER_CLIENT_CALL(cuDeviceSetMemPool, (CUdevice device, CUmemoryPool pool),
                        client.pools().set_current(device, pool))
AVEC_DRIVER_CLIENT_CALL(cuMemGetDefaultMemPool,
                        (CUmemoryPool * pool, CUmemLocation* location, CUmemAllocationType type),
                        pool_at(client, pool, location, type, false))
AVEC_DRIVER_CLIENT_CALL(cuMemGetMemPool,
                        (CUmemoryPool * pool, CUmemLocation* location, CUmemAllocationType type),
                        pool_at(client, pool, location, type, true))
AVEC_DRIVER_CLIENT_CALL(cuMemSetMemPool,
                        (CUmemLocation * location, CUmemAllocationType type, CUmemoryPool pool),
                        set_pool_at(client, location, type, pool))
