// Batches of copies: each is made as if asked for alone, in the stream's order, which the API allows.
#include <limits>

#include "client/copy.h"
#include "entry.h"

using namespace avec::client;

namespace {

constexpr size_t kNoIndex = std::numeric_limits<size_t>::max();

bool known_order(CUmemcpySrcAccessOrder order) {
  return order >= CU_MEMCPY_SRC_ACCESS_ORDER_STREAM && order <= CU_MEMCPY_SRC_ACCESS_ORDER_ANY;
}

/// The source may be changed when the call returns.
Completion completion_of(CUmemcpySrcAccessOrder order) {
  return order == CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL ? Completion::kSynchronous
                                                             : Completion::kAsynchronous;
}

CUresult copy_batch(const CUdeviceptr* to, const CUdeviceptr* from, const size_t* bytes, size_t count,
                    const CUmemcpyAttributes* attributes, const size_t* first, size_t attribute_count,
                    size_t* failed, CUstream stream) {
  if (failed != nullptr) *failed = kNoIndex;
  if (to == nullptr || from == nullptr || bytes == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
  if (attributes == nullptr || first == nullptr || attribute_count == 0 || attribute_count > count ||
      first[0] != 0)
    return CUDA_ERROR_INVALID_VALUE;
  if (stream == nullptr || stream == CU_STREAM_LEGACY) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < attribute_count; ++i) {
    if (!known_order(attributes[i].srcAccessOrder)) return CUDA_ERROR_INVALID_VALUE;
    if (i != 0 && (first[i] <= first[i - 1] || first[i] >= count)) return CUDA_ERROR_INVALID_VALUE;
  }
  size_t attribute = 0;
  for (size_t i = 0; i < count; ++i) {
    if (attribute + 1 < attribute_count && first[attribute + 1] == i) ++attribute;
    const CUresult result =
        copy(to[i], from[i], bytes[i], stream, completion_of(attributes[attribute].srcAccessOrder));
    if (result == CUDA_SUCCESS) continue;
    if (failed != nullptr) *failed = i;
    return result;
  }
  return CUDA_SUCCESS;
}

CUresult copy_3d_batch(size_t count, const CUDA_MEMCPY3D_BATCH_OP* operations, size_t* failed,
                       unsigned long long flags, CUstream stream) {
  if (failed != nullptr) *failed = kNoIndex;
  if (count == 0 || operations == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (stream == nullptr || stream == CU_STREAM_LEGACY) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; ++i) {
    const CUDA_MEMCPY3D_BATCH_OP& operation = operations[i];
    if (failed != nullptr) *failed = i;
    if (!known_order(operation.srcAccessOrder)) return CUDA_ERROR_INVALID_VALUE;
    if (operation.src.type != CU_MEMCPY_OPERAND_TYPE_POINTER ||
        operation.dst.type != CU_MEMCPY_OPERAND_TYPE_POINTER) {
      return CUDA_ERROR_NOT_SUPPORTED;
    }
    const CUextent3D& extent = operation.extent;
    const auto pitch = [&](const CUmemcpy3DOperand& side) {
      return side.op.ptr.rowLength != 0 ? side.op.ptr.rowLength : extent.width;
    };
    const auto height = [&](const CUmemcpy3DOperand& side) {
      return side.op.ptr.layerHeight != 0 ? side.op.ptr.layerHeight : extent.height;
    };
    CUDA_MEMCPY3D what{};
    what.srcMemoryType = what.dstMemoryType = CU_MEMORYTYPE_UNIFIED;
    what.srcDevice = operation.src.op.ptr.ptr;
    what.srcPitch = pitch(operation.src);
    what.srcHeight = height(operation.src);
    what.dstDevice = operation.dst.op.ptr.ptr;
    what.dstPitch = pitch(operation.dst);
    what.dstHeight = height(operation.dst);
    what.WidthInBytes = extent.width;
    what.Height = extent.height;
    what.Depth = extent.depth;
    const CUresult result = copy_3d(what, stream, completion_of(operation.srcAccessOrder));
    if (result != CUDA_SUCCESS) return result;
  }
  if (failed != nullptr) *failed = kNoIndex;
  return CUDA_SUCCESS;
}

}  // namespace

AVEC_DRIVER_STREAM_CALL(cuMemcpyBatchAsync,
                        (CUdeviceptr * to, CUdeviceptr* from, size_t* bytes, size_t count,
                         CUmemcpyAttributes* attributes, size_t* first, size_t attribute_count,
                         size_t* failed, CUstream stream),
                        copy_batch(to, from, bytes, count, attributes, first, attribute_count, failed,
                                   stream))
AVEC_DRIVER_STREAM_CALL(cuMemcpyBatchAsync_v2,
                        (CUdeviceptr * to, CUdeviceptr* from, size_t* bytes, size_t count,
                         CUmemcpyAttributes* attributes, size_t* first, size_t attribute_count,
                         CUstream stream),
                        copy_batch(to, from, bytes, count, attributes, first, attribute_count, nullptr,
                                   stream))
AVEC_DRIVER_STREAM_CALL(cuMemcpy3DBatchAsync,
                        (size_t count, CUDA_MEMCPY3D_BATCH_OP* operations, size_t* failed,
                         unsigned long long flags, CUstream stream),
                        copy_3d_batch(count, operations, failed, flags, stream))
AVEC_DRIVER_STREAM_CALL(cuMemcpy3DBatchAsync_v2,
                        (size_t count, CUDA_MEMCPY3D_BATCH_OP* operations, unsigned long long flags,
                         CUstream stream),
                        copy_3d_batch(count, operations, nullptr, flags, stream))
