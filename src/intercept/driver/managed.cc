#include "client/advice.h"
#include "client/memory.h"
#include "entry.h"

using namespace avec::client;

namespace {

CUmemLocation location_of(CUdevice device) {
  CUmemLocation location{};
  location.type = device == CU_DEVICE_CPU ? CU_MEM_LOCATION_TYPE_HOST : CU_MEM_LOCATION_TYPE_DEVICE;
  location.id = device == CU_DEVICE_CPU ? 0 : device;
  return location;
}

}  // namespace

AVEC_DRIVER_CALL(cuMemAllocManaged, (CUdeviceptr * address, size_t bytes, unsigned flags),
                 memory_allocate_managed(address, bytes, flags))
AVEC_DRIVER_CALL(cuMemAdvise, (CUdeviceptr address, size_t bytes, CUmem_advise advice, CUdevice device),
                 memory_advise(address, bytes, advice, location_of(device)))
AVEC_DRIVER_CALL(cuMemAdvise_v2, (CUdeviceptr address, size_t bytes, CUmem_advise advice, CUmemLocation where),
                 memory_advise(address, bytes, advice, where))
AVEC_DRIVER_STREAM_CALL(cuMemPrefetchAsync,
                        (CUdeviceptr address, size_t bytes, CUdevice device, CUstream stream),
                        memory_prefetch(address, bytes, location_of(device), 0, stream))
AVEC_DRIVER_STREAM_CALL(cuMemPrefetchAsync_v2,
                        (CUdeviceptr address, size_t bytes, CUmemLocation where, unsigned flags, CUstream stream),
                        memory_prefetch(address, bytes, where, flags, stream))
AVEC_DRIVER_STREAM_CALL(cuMemPrefetchBatchAsync,
                        (CUdeviceptr * addresses, size_t* bytes, size_t count, CUmemLocation* places,
                         size_t* first, size_t place_count, unsigned long long flags, CUstream stream),
                        memory_prefetch_batch({addresses, bytes, count, places, first, place_count}, flags,
                                              stream))
AVEC_DRIVER_STREAM_CALL(cuMemDiscardAndPrefetchBatchAsync,
                        (CUdeviceptr * addresses, size_t* bytes, size_t count, CUmemLocation* places,
                         size_t* first, size_t place_count, unsigned long long flags, CUstream stream),
                        memory_prefetch_batch({addresses, bytes, count, places, first, place_count}, flags,
                                              stream))
AVEC_DRIVER_STREAM_CALL(cuMemDiscardBatchAsync,
                        (CUdeviceptr * addresses, size_t* bytes, size_t count, unsigned long long flags,
                         CUstream stream),
                        memory_discard_batch(addresses, bytes, count, flags, stream))
AVEC_DRIVER_CALL(cuMemRangeGetAttribute,
                 (void* data, size_t size, CUmem_range_attribute attribute, CUdeviceptr address, size_t bytes),
                 memory_range_attribute(data, size, attribute, address, bytes))
AVEC_DRIVER_CALL(cuMemRangeGetAttributes,
                 (void** data, size_t* sizes, CUmem_range_attribute* attributes, size_t count,
                  CUdeviceptr address, size_t bytes),
                 memory_range_attributes(data, sizes, attributes, count, address, bytes))
AVEC_DRIVER_STREAM_CALL(cuStreamAttachMemAsync,
                        (CUstream stream, CUdeviceptr address, size_t bytes, unsigned flags),
                        stream_attach_memory(stream, address, bytes, flags))
