#include "client/advice.h"

#include "base/range_advice.h"
#include "client/client.h"
#include "client/coherence.h"
#include "client/context.h"
#include "client/managed.h"
#include "client/memory.h"
#include "client/stream.h"

namespace avec::client {
namespace {

static_assert(CU_MEM_LOCATION_TYPE_DEVICE == RangeAdvice::kDevice && CU_MEM_LOCATION_TYPE_HOST == RangeAdvice::kHost &&
              CU_MEM_LOCATION_TYPE_HOST_NUMA == RangeAdvice::kHostNuma &&
              CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT == RangeAdvice::kHostNumaCurrent);
static_assert(CU_DEVICE_CPU == RangeAdvice::kCpuDevice && CU_DEVICE_INVALID == RangeAdvice::kNoDevice);

CUresult result_of(RangeAdvice::Answer answer) {
  switch (answer) {
    case RangeAdvice::Answer::kDone:
      return CUDA_SUCCESS;
    case RangeAdvice::Answer::kInvalidDevice:
      return CUDA_ERROR_INVALID_DEVICE;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

RangeAdvice::Location place(const CUmemLocation& where) { return {static_cast<int>(where.type), where.id}; }

/// The managed memory that begins at or before `address`; 0 bytes: it is none.
struct Managed {
  std::uint64_t base = 0, bytes = 0;
};
Managed managed_at(Client& client, CUdeviceptr address) {
  const Pointee pointee = look_up(client, address);
  if (pointee.host && pointee.host->managed) return {pointee.host->base, pointee.host->bytes};
  if (pointee.device && client.coherent() && client.coherence().find(address))
    return {pointee.device->base, pointee.device->bytes};
  return {};
}

/// All of the range is managed memory.
CUresult check_range(Client& client, CUdeviceptr address, std::size_t bytes) {
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  const Managed managed = managed_at(client, address);
  const bool inside = managed.bytes != 0 && bytes <= managed.bytes - (address - managed.base);
  return inside ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/// A stream that batches may use.
CUresult batch_stream(CUstream handle, Stream*& stream) {
  if (handle == nullptr || handle == CU_STREAM_LEGACY) return CUDA_ERROR_INVALID_VALUE;
  return resolve_stream(handle, stream);
}

CUresult check_ranges(Client& client, const CUdeviceptr* addresses, const std::size_t* bytes, std::size_t count) {
  if (addresses == nullptr || bytes == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
  for (std::size_t i = 0; i < count; ++i) {
    if (const CUresult result = check_range(client, addresses[i], bytes[i]); result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

}  // namespace

CUresult memory_advise(CUdeviceptr address, std::size_t bytes, CUmem_advise advice, CUmemLocation where) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  Client& client = *context->client;
  if (const CUresult result = check_range(client, address, bytes); result != CUDA_SUCCESS) return result;
  return result_of(client.managed().advice().advise(address, bytes, advice, place(where)));
}

CUresult memory_prefetch(CUdeviceptr address, std::size_t bytes, CUmemLocation where, unsigned flags,
                         CUstream handle) {
  Stream* stream;
  if (const CUresult result = resolve_stream(handle, stream); result != CUDA_SUCCESS) return result;
  Client& client = *stream->context->client;
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult result = check_range(client, address, bytes); result != CUDA_SUCCESS) return result;
  return result_of(client.managed().advice().prefetched(address, bytes, place(where)));
}

CUresult memory_prefetch_batch(const PrefetchBatch& batch, unsigned long long flags, CUstream handle) {
  Stream* stream;
  if (const CUresult result = batch_stream(handle, stream); result != CUDA_SUCCESS) return result;
  Client& client = *stream->context->client;
  if (flags != 0 || batch.places == nullptr || batch.first == nullptr || batch.place_count == 0 ||
      batch.place_count > batch.count || batch.first[0] != 0)
    return CUDA_ERROR_INVALID_VALUE;
  for (std::size_t i = 0; i < batch.place_count; ++i) {
    if (batch.first[i] >= batch.count || (i != 0 && batch.first[i] <= batch.first[i - 1]))
      return CUDA_ERROR_INVALID_VALUE;
  }
  if (const CUresult result = check_ranges(client, batch.addresses, batch.bytes, batch.count);
      result != CUDA_SUCCESS)
    return result;
  std::size_t at = 0;
  for (std::size_t i = 0; i < batch.count; ++i) {
    if (at + 1 < batch.place_count && batch.first[at + 1] == i) ++at;
    const auto answer =
        client.managed().advice().prefetched(batch.addresses[i], batch.bytes[i], place(batch.places[at]));
    if (answer != RangeAdvice::Answer::kDone) return result_of(answer);
  }
  return CUDA_SUCCESS;
}

// What was discarded reads as anything, so also as what was there.
CUresult memory_discard_batch(const CUdeviceptr* addresses, const std::size_t* bytes, std::size_t count,
                              unsigned long long flags, CUstream handle) {
  Stream* stream;
  if (const CUresult result = batch_stream(handle, stream); result != CUDA_SUCCESS) return result;
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  return check_ranges(*stream->context->client, addresses, bytes, count);
}

CUresult memory_range_attribute(void* data, std::size_t size, CUmem_range_attribute attribute,
                                CUdeviceptr address, std::size_t bytes) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  Client& client = *context->client;
  if (data == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult result = check_range(client, address, bytes); result != CUDA_SUCCESS) return result;
  return result_of(client.managed().advice().read(data, size, attribute, address, bytes));
}

CUresult memory_range_attributes(void** data, std::size_t* sizes, CUmem_range_attribute* attributes,
                                 std::size_t count, CUdeviceptr address, std::size_t bytes) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (data == nullptr || sizes == nullptr || attributes == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
  for (std::size_t i = 0; i < count; ++i) {
    const CUresult result = memory_range_attribute(data[i], sizes[i], attributes[i], address, bytes);
    if (result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

CUresult stream_attach_memory(CUstream handle, CUdeviceptr address, std::size_t bytes, unsigned flags) {
  Stream* stream;
  if (const CUresult result = resolve_stream(handle, stream); result != CUDA_SUCCESS) return result;
  Client& client = *stream->context->client;
  if (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST && flags != CU_MEM_ATTACH_SINGLE)
    return CUDA_ERROR_INVALID_VALUE;
  const Managed managed = managed_at(client, address);
  if (managed.bytes == 0 || address != managed.base || (bytes != 0 && bytes != managed.bytes))
    return CUDA_ERROR_INVALID_VALUE;
  // Of the default streams only a thread's own is one stream.
  if (flags == CU_MEM_ATTACH_SINGLE && stream->context->legacy.load() == stream) return CUDA_ERROR_INVALID_VALUE;
  client.coherence().host_changes();
  return CUDA_SUCCESS;
}

}  // namespace avec::client
