// Managed memory. Host and device see the same bytes, so where they should be changes nothing: it is
// checked and kept for whoever asks.
#include "devices/cpu/device.h"

using namespace avec::cpu;

// cuda.h gives these names to their newest forms.
#undef cuMemAdvise
#undef cuMemPrefetchAsync

namespace {

using avec::RangeAdvice;

CUresult result_of(RangeAdvice::Answer answer) {
  if (answer == RangeAdvice::Answer::kDone) return CUDA_SUCCESS;
  return answer == RangeAdvice::Answer::kInvalidDevice ? CUDA_ERROR_INVALID_DEVICE : CUDA_ERROR_INVALID_VALUE;
}

RangeAdvice::Location place(const CUmemLocation& where) { return {static_cast<int>(where.type), where.id}; }

CUmemLocation location_of(CUdevice device) {
  CUmemLocation where{};
  where.type = device == CU_DEVICE_CPU ? CU_MEM_LOCATION_TYPE_HOST : CU_MEM_LOCATION_TYPE_DEVICE;
  where.id = device == CU_DEVICE_CPU ? 0 : device;
  return where;
}

AllocationRef managed_at(CUdeviceptr pointer) {
  auto found = state().memory.find(pointer);
  return found && found->managed() ? found : nullptr;
}

bool all_managed(CUdeviceptr pointer, size_t bytes) {
  const auto found = managed_at(pointer);
  return bytes != 0 && found && bytes <= found->end() - pointer;
}

/// Batches may not use the default stream.
CUresult batch_of(CUstream handle, unsigned long long flags, const CUdeviceptr* pointers, const size_t* sizes,
                  size_t count, StreamRef& stream) {
  if (handle == nullptr || handle == CU_STREAM_LEGACY) return CUDA_ERROR_INVALID_VALUE;
  if (const auto error = stream_of(handle, stream)) return error;
  if (flags != 0 || pointers == nullptr || sizes == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; ++i) {
    if (!all_managed(pointers[i], sizes[i])) return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

}  // namespace

extern "C" {

CUresult cuMemAllocManaged(CUdeviceptr* pointer, size_t bytes, unsigned flags) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (pointer == nullptr || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  if (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST) return CUDA_ERROR_INVALID_VALUE;
  return allocate(*context, bytes, Memory::kManaged, nullptr, *pointer);
}

CUresult cuMemAdvise_v2(CUdeviceptr pointer, size_t bytes, CUmem_advise advice, CUmemLocation where) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (!all_managed(pointer, bytes)) return CUDA_ERROR_INVALID_VALUE;
  return result_of(state().advice.advise(pointer, bytes, advice, place(where)));
}

CUresult cuMemAdvise(CUdeviceptr pointer, size_t bytes, CUmem_advise advice, CUdevice device) {
  return cuMemAdvise_v2(pointer, bytes, advice, location_of(device));
}

CUresult cuMemPrefetchAsync_v2(CUdeviceptr pointer, size_t bytes, CUmemLocation where, unsigned flags,
                               CUstream handle) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (flags != 0 || !all_managed(pointer, bytes)) return CUDA_ERROR_INVALID_VALUE;
  if (const auto error = result_of(state().advice.prefetched(pointer, bytes, place(where)))) return error;
  state().scheduler.enqueue(stream, {});
  return CUDA_SUCCESS;
}

CUresult cuMemPrefetchAsync(CUdeviceptr pointer, size_t bytes, CUdevice device, CUstream handle) {
  return cuMemPrefetchAsync_v2(pointer, bytes, location_of(device), 0, handle);
}

CUresult cuMemPrefetchBatchAsync(CUdeviceptr* pointers, size_t* sizes, size_t count, CUmemLocation* places,
                                 size_t* first, size_t place_count, unsigned long long flags, CUstream handle) {
  StreamRef stream;
  if (const auto error = batch_of(handle, flags, pointers, sizes, count, stream)) return error;
  if (places == nullptr || first == nullptr || place_count == 0 || place_count > count || first[0] != 0)
    return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 1; i < place_count; ++i) {
    if (first[i] <= first[i - 1] || first[i] >= count) return CUDA_ERROR_INVALID_VALUE;
  }
  size_t at = 0;
  for (size_t i = 0; i < count; ++i) {
    if (at + 1 < place_count && first[at + 1] == i) ++at;
    if (const auto error = result_of(state().advice.prefetched(pointers[i], sizes[i], place(places[at]))))
      return error;
  }
  state().scheduler.enqueue(stream, {});
  return CUDA_SUCCESS;
}

// What was discarded reads as anything, so also as what was there.
CUresult cuMemDiscardBatchAsync(CUdeviceptr* pointers, size_t* sizes, size_t count, unsigned long long flags,
                                CUstream handle) {
  StreamRef stream;
  if (const auto error = batch_of(handle, flags, pointers, sizes, count, stream)) return error;
  state().scheduler.enqueue(stream, {});
  return CUDA_SUCCESS;
}

CUresult cuMemDiscardAndPrefetchBatchAsync(CUdeviceptr* pointers, size_t* sizes, size_t count,
                                           CUmemLocation* places, size_t* first, size_t place_count,
                                           unsigned long long flags, CUstream handle) {
  return cuMemPrefetchBatchAsync(pointers, sizes, count, places, first, place_count, flags, handle);
}

CUresult cuMemRangeGetAttribute(void* data, size_t size, CUmem_range_attribute attribute, CUdeviceptr pointer,
                                size_t bytes) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (data == nullptr || !all_managed(pointer, bytes)) return CUDA_ERROR_INVALID_VALUE;
  return result_of(state().advice.read(data, size, attribute, pointer, bytes));
}

CUresult cuMemRangeGetAttributes(void** data, size_t* sizes, CUmem_range_attribute* attributes, size_t count,
                                 CUdeviceptr pointer, size_t bytes) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (data == nullptr || sizes == nullptr || attributes == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; ++i) {
    if (const auto error = cuMemRangeGetAttribute(data[i], sizes[i], attributes[i], pointer, bytes)) return error;
  }
  return CUDA_SUCCESS;
}

CUresult cuStreamAttachMemAsync(CUstream handle, CUdeviceptr pointer, size_t bytes, unsigned flags) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST && flags != CU_MEM_ATTACH_SINGLE)
    return CUDA_ERROR_INVALID_VALUE;
  const auto found = managed_at(pointer);
  if (!found || pointer != found->begin || (bytes != 0 && bytes != found->bytes)) return CUDA_ERROR_INVALID_VALUE;
  const bool legacy = handle == nullptr || handle == CU_STREAM_LEGACY;
  if (flags == CU_MEM_ATTACH_SINGLE && legacy) return CUDA_ERROR_INVALID_VALUE;
  state().scheduler.enqueue(stream, {});
  return CUDA_SUCCESS;
}

}  // extern "C"
