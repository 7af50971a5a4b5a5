// Managed memory, over the driver's functions of the same meaning.
#include "api.h"
#include "weak_driver.h"

using namespace avec::runtime;

namespace {

CUmemLocation as_driver(const cudaMemLocation& location) {
  CUmemLocation where{};
  where.type = static_cast<CUmemLocationType>(location.type);
  where.id = location.id;
  return where;
}

// The same layout: what batches are given can be handed on.
static_assert(sizeof(CUmemLocation) == sizeof(cudaMemLocation) &&
              offsetof(CUmemLocation, id) == offsetof(cudaMemLocation, id));
static_assert(cudaMemLocationTypeHostNumaCurrent == static_cast<int>(CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT));
static_assert(cudaMemAdviseUnsetAccessedBy == static_cast<int>(CU_MEM_ADVISE_UNSET_ACCESSED_BY));
static_assert(cudaMemRangeAttributeLastPrefetchLocationId ==
              static_cast<int>(CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_ID));
static_assert(sizeof(CUdeviceptr) == sizeof(void*));

CUdeviceptr* as_driver(void** pointers) { return reinterpret_cast<CUdeviceptr*>(pointers); }
CUmemLocation* as_driver(cudaMemLocation* places) { return reinterpret_cast<CUmemLocation*>(places); }

}  // namespace

cudaError_t cudaMallocManaged(void** pointer, std::size_t bytes, unsigned int flags) {
  AVEC_COUNTED;
  if (pointer == nullptr || (flags != cudaMemAttachGlobal && flags != cudaMemAttachHost))
    return done(cudaErrorInvalidValue);
  return in_context([&]() -> CUresult {
    *pointer = nullptr;
    if (bytes == 0) return CUDA_SUCCESS;
    CUdeviceptr address = 0;
    const CUresult result = cuMemAllocManaged(&address, bytes, flags);
    if (result == CUDA_SUCCESS) *pointer = reinterpret_cast<void*>(address);
    return result;
  });
}

cudaError_t cudaMemAdvise(const void* pointer, std::size_t bytes, cudaMemoryAdvise advice,
                          cudaMemLocation location) {
  AVEC_COUNTED;
  return in_context([&] {
    return cuMemAdvise(device_pointer(pointer), bytes, static_cast<CUmem_advise>(advice), as_driver(location));
  });
}

AVEC_STREAM_PAIR(cudaMemPrefetchAsync, _ptsz,
                 (const void* pointer, std::size_t bytes, cudaMemLocation location, unsigned int flags,
                  cudaStream_t stream),
                 return in_context([&] {
                   return cuMemPrefetchAsync(device_pointer(pointer), bytes, as_driver(location), flags,
                                             resolve_stream<kDefault>(stream));
                 });)

AVEC_STREAM_PAIR(cudaMemPrefetchBatchAsync, _ptsz,
                 (void** pointers, std::size_t* bytes, std::size_t count, cudaMemLocation* places,
                  std::size_t* first, std::size_t place_count, unsigned long long flags, cudaStream_t stream),
                 return in_context([&] {
                   return cuMemPrefetchBatchAsync(as_driver(pointers), bytes, count, as_driver(places), first,
                                                  place_count, flags, resolve_stream<kDefault>(stream));
                 });)

AVEC_STREAM_PAIR(cudaMemDiscardAndPrefetchBatchAsync, _ptsz,
                 (void** pointers, std::size_t* bytes, std::size_t count, cudaMemLocation* places,
                  std::size_t* first, std::size_t place_count, unsigned long long flags, cudaStream_t stream),
                 return in_context([&] {
                   return cuMemDiscardAndPrefetchBatchAsync(as_driver(pointers), bytes, count,
                                                            as_driver(places), first, place_count, flags,
                                                            resolve_stream<kDefault>(stream));
                 });)

AVEC_STREAM_PAIR(cudaMemDiscardBatchAsync, _ptsz,
                 (void** pointers, std::size_t* bytes, std::size_t count, unsigned long long flags,
                  cudaStream_t stream),
                 return in_context([&] {
                   return cuMemDiscardBatchAsync(as_driver(pointers), bytes, count, flags,
                                                 resolve_stream<kDefault>(stream));
                 });)

cudaError_t cudaMemRangeGetAttribute(void* data, std::size_t size, cudaMemRangeAttribute attribute,
                                     const void* pointer, std::size_t bytes) {
  AVEC_COUNTED;
  return in_context([&] {
    return cuMemRangeGetAttribute(data, size, static_cast<CUmem_range_attribute>(attribute),
                                  device_pointer(pointer), bytes);
  });
}

cudaError_t cudaMemRangeGetAttributes(void** data, std::size_t* sizes, cudaMemRangeAttribute* attributes,
                                      std::size_t count, const void* pointer, std::size_t bytes) {
  AVEC_COUNTED;
  return in_context([&] {
    return cuMemRangeGetAttributes(data, sizes, reinterpret_cast<CUmem_range_attribute*>(attributes), count,
                                   device_pointer(pointer), bytes);
  });
}

AVEC_STREAM_PAIR(cudaStreamAttachMemAsync, _ptsz,
                 (cudaStream_t stream, void* pointer, std::size_t bytes, unsigned int flags),
                 return in_context([&] {
                   return cuStreamAttachMemAsync(resolve_stream<kDefault>(stream), device_pointer(pointer),
                                                 bytes, flags);
                 });)
