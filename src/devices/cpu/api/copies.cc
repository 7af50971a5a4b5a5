// cuMemcpy* and cuMemset*: each form in terms of copy() and set().
#include "devices/cpu/array.h"
#include "devices/cpu/copy.h"

using namespace avec::cpu;

namespace {

Side device(CUdeviceptr address) { return {Place::kDevice, address, 0, 0}; }
Side host(const void* address) { return {Place::kHost, reinterpret_cast<std::uint64_t>(address), 0, 0}; }
Side unified(CUdeviceptr address) { return {Place::kUnified, address, 0, 0}; }

/// A descriptor's side.
struct End {
  CUmemorytype type;
  const void* host;
  CUdeviceptr device;
  CUarray array;
  std::uint64_t x, y, z, pitch, height;
};

bool within(std::uint64_t first, std::uint64_t count, std::uint64_t end) {
  return first <= end && count <= end - first;
}

CUresult side_in_array(const End& end, const Extent& extent, Side& side) {
  const auto array = state().arrays.find(end.array);
  if (!array) return CUDA_ERROR_INVALID_HANDLE;
  const avec::ArrayShape& shape = array->shape;
  if (end.x % array->element_bytes() != 0 || extent.width % array->element_bytes() != 0) return CUDA_ERROR_INVALID_VALUE;
  if (!within(end.x, extent.width, shape.row_bytes) || !within(end.y, extent.height, shape.rows) ||
      !within(end.z, extent.depth, shape.slices))
    return CUDA_ERROR_INVALID_VALUE;
  side.place = Place::kArray;
  side.pitch = shape.row_bytes;
  side.slice = shape.row_bytes * shape.rows;
  side.address = reinterpret_cast<std::uint64_t>(array->data()) + end.z * side.slice + end.y * side.pitch + end.x;
  side.handle = end.array;
  side.x = end.x;
  side.y = end.y;
  side.z = end.z;
  side.array = array->storage;
  return CUDA_SUCCESS;
}

/// Where a side begins.
CUresult side_of(const End& end, const Extent& extent, Side& side) {
  switch (end.type) {
    case CU_MEMORYTYPE_HOST:
      side = host(end.host);
      break;
    case CU_MEMORYTYPE_DEVICE:
      side = device(end.device);
      break;
    case CU_MEMORYTYPE_UNIFIED:
      side = unified(end.device);
      break;
    case CU_MEMORYTYPE_ARRAY:
      return side_in_array(end, extent, side);
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
  if (side.address == 0) return CUDA_ERROR_INVALID_VALUE;
  side.pitch = end.pitch != 0 ? end.pitch : extent.width + end.x;
  const std::uint64_t rows = end.height != 0 ? end.height : extent.height + end.y;
  if (side.pitch < extent.width + end.x && extent.height > 1) return CUDA_ERROR_INVALID_VALUE;
  if (rows < extent.height + end.y && extent.depth > 1) return CUDA_ERROR_INVALID_VALUE;
  constexpr std::uint64_t kMost = std::uint64_t{1} << 40;
  if (side.pitch > kMost || rows > kMost || end.x > kMost || end.y > kMost || end.z > kMost)
    return CUDA_ERROR_INVALID_VALUE;
  if (static_cast<unsigned __int128>(side.pitch) * rows * (end.z + 1) > (std::uint64_t{1} << 46)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  side.slice = side.pitch * rows;
  side.address += end.z * side.slice + end.y * side.pitch + end.x;
  return CUDA_SUCCESS;
}

CUresult copy_ends(const End& to_end, const End& from_end, const Extent& extent, CUstream stream, bool waits) {
  if (extent.width == 0 || extent.height == 0 || extent.depth == 0) return CUDA_SUCCESS;
  Side from, to;
  if (const auto error = side_of(from_end, extent, from)) return error;
  if (const auto error = side_of(to_end, extent, to)) return error;
  return copy(to, from, extent, stream, waits);
}

CUresult copy_2d(const CUDA_MEMCPY2D* description, CUstream stream, bool waits) {
  if (const auto error = initialised()) return error;
  if (description == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto& d = *description;
  const End from{d.srcMemoryType, d.srcHost, d.srcDevice, d.srcArray, d.srcXInBytes, d.srcY, 0, d.srcPitch, 0};
  const End to{d.dstMemoryType, d.dstHost, d.dstDevice, d.dstArray, d.dstXInBytes, d.dstY, 0, d.dstPitch, 0};
  return copy_ends(to, from, {d.WidthInBytes, d.Height, 1}, stream, waits);
}

/// CUDA_MEMCPY3D and CUDA_MEMCPY3D_PEER have the same fields.
template <class Description>
CUresult read_3d(const Description& d, Side& to, Side& from, Extent& extent) {
  if (d.srcLOD != 0 || d.dstLOD != 0) return CUDA_ERROR_INVALID_VALUE;
  extent = {d.WidthInBytes, d.Height, d.Depth};
  if (extent.width == 0 || extent.height == 0 || extent.depth == 0) return CUDA_SUCCESS;
  if (const auto error = side_of({d.srcMemoryType, d.srcHost, d.srcDevice, d.srcArray, d.srcXInBytes, d.srcY,
                                  d.srcZ, d.srcPitch, d.srcHeight},
                                 extent, from)) {
    return error;
  }
  return side_of({d.dstMemoryType, d.dstHost, d.dstDevice, d.dstArray, d.dstXInBytes, d.dstY, d.dstZ, d.dstPitch,
                  d.dstHeight},
                 extent, to);
}

template <class Description>
CUresult copy_3d(const Description* description, CUstream stream, bool waits) {
  if (const auto error = initialised()) return error;
  if (description == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Side from, to;
  Extent extent;
  if (const auto error = read_3d(*description, to, from, extent)) return error;
  if (extent.width == 0 || extent.height == 0 || extent.depth == 0) return CUDA_SUCCESS;
  return copy(to, from, extent, stream, waits);
}

End array_end(CUarray array, std::size_t offset) {
  return {CU_MEMORYTYPE_ARRAY, nullptr, 0, array, offset, 0, 0, 0, 0};
}
End device_end(CUdeviceptr address) { return {CU_MEMORYTYPE_DEVICE, nullptr, address, nullptr, 0, 0, 0, 0, 0}; }
End host_end(const void* address) { return {CU_MEMORYTYPE_HOST, address, 0, nullptr, 0, 0, 0, 0, 0}; }

CUresult copy_array(const End& to, const End& from, std::size_t bytes, CUstream stream, bool waits) {
  if (const auto error = initialised()) return error;
  return copy_ends(to, from, {bytes, 1, 1}, stream, waits);
}

CUresult copy_peer(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                   size_t bytes, CUstream stream, bool waits) {
  if (const auto error = initialised()) return error;
  if (!state().contexts.find(to_context) || !state().contexts.find(from_context))
    return CUDA_ERROR_INVALID_CONTEXT;
  return copy(device(to), device(from), {bytes}, stream, waits);
}

}  // namespace

CUresult avec::cpu::read_copy(const CUDA_MEMCPY3D& description, Side& destination, Side& source,
                              Extent& extent) {
  return read_3d(description, destination, source, extent);
}

extern "C" {

CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return copy(unified(to), unified(from), {bytes}, nullptr, true);
}
CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy(unified(to), unified(from), {bytes}, stream, false);
}
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
  return copy(device(to), host(from), {bytes}, nullptr, true);
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  return copy(device(to), host(from), {bytes}, stream, false);
}
CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
  return copy(host(to), device(from), {bytes}, nullptr, true);
}
CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy(host(to), device(from), {bytes}, stream, false);
}
CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return copy(device(to), device(from), {bytes}, nullptr, true);
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy(device(to), device(from), {bytes}, stream, false);
}
CUresult cuMemcpyPeer(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                      size_t bytes) {
  return copy_peer(to, to_context, from, from_context, bytes, nullptr, true);
}
CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                           size_t bytes, CUstream stream) {
  return copy_peer(to, to_context, from, from_context, bytes, stream, false);
}
CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D* d) { return copy_2d(d, nullptr, true); }
CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D* d) { return copy_2d(d, nullptr, true); }
CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D* d, CUstream stream) { return copy_2d(d, stream, false); }
CUresult cuMemcpy3D_v2(const CUDA_MEMCPY3D* d) { return copy_3d(d, nullptr, true); }
CUresult cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D* d, CUstream stream) { return copy_3d(d, stream, false); }
CUresult cuMemcpy3DPeer(const CUDA_MEMCPY3D_PEER* d) { return copy_3d(d, nullptr, true); }
CUresult cuMemcpy3DPeerAsync(const CUDA_MEMCPY3D_PEER* d, CUstream stream) {
  return copy_3d(d, stream, false);
}

CUresult cuMemcpyAtoA_v2(CUarray to, size_t to_offset, CUarray from, size_t from_offset, size_t bytes) {
  return copy_array(array_end(to, to_offset), array_end(from, from_offset), bytes, nullptr, true);
}
CUresult cuMemcpyAtoD_v2(CUdeviceptr to, CUarray from, size_t offset, size_t bytes) {
  return copy_array(device_end(to), array_end(from, offset), bytes, nullptr, true);
}
CUresult cuMemcpyDtoA_v2(CUarray to, size_t offset, CUdeviceptr from, size_t bytes) {
  return copy_array(array_end(to, offset), device_end(from), bytes, nullptr, true);
}
CUresult cuMemcpyAtoH_v2(void* to, CUarray from, size_t offset, size_t bytes) {
  return copy_array(host_end(to), array_end(from, offset), bytes, nullptr, true);
}
CUresult cuMemcpyHtoA_v2(CUarray to, size_t offset, const void* from, size_t bytes) {
  return copy_array(array_end(to, offset), host_end(from), bytes, nullptr, true);
}
CUresult cuMemcpyAtoHAsync_v2(void* to, CUarray from, size_t offset, size_t bytes, CUstream stream) {
  return copy_array(host_end(to), array_end(from, offset), bytes, stream, false);
}
CUresult cuMemcpyHtoAAsync_v2(CUarray to, size_t offset, const void* from, size_t bytes, CUstream stream) {
  return copy_array(array_end(to, offset), host_end(from), bytes, stream, false);
}

namespace {

bool known_order(CUmemcpySrcAccessOrder order) {
  return order >= CU_MEMCPY_SRC_ACCESS_ORDER_STREAM && order <= CU_MEMCPY_SRC_ACCESS_ORDER_ANY;
}

CUresult copy_batch(const CUdeviceptr* to, const CUdeviceptr* from, const size_t* bytes, size_t count,
                    const CUmemcpyAttributes* attributes, const size_t* first, size_t attribute_count,
                    CUstream stream) {
  if (to == nullptr || from == nullptr || bytes == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
  if (attributes == nullptr || first == nullptr || attribute_count == 0 || attribute_count > count || first[0] != 0)
    return CUDA_ERROR_INVALID_VALUE;
  if (stream == nullptr || stream == CU_STREAM_LEGACY) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < attribute_count; ++i) {
    if (!known_order(attributes[i].srcAccessOrder)) return CUDA_ERROR_INVALID_VALUE;
    if (i != 0 && (first[i] <= first[i - 1] || first[i] >= count)) return CUDA_ERROR_INVALID_VALUE;
  }
  for (size_t i = 0; i < count; ++i) {
    if (const auto error = copy(unified(to[i]), unified(from[i]), {bytes[i]}, stream, false)) return error;
  }
  return CUDA_SUCCESS;
}

CUresult copy_3d_batch(size_t count, const CUDA_MEMCPY3D_BATCH_OP* operations, unsigned long long flags,
                       CUstream stream) {
  if (count == 0 || operations == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (stream == nullptr || stream == CU_STREAM_LEGACY) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; ++i) {
    const auto& operation = operations[i];
    if (!known_order(operation.srcAccessOrder)) return CUDA_ERROR_INVALID_VALUE;
    if (operation.src.type != CU_MEMCPY_OPERAND_TYPE_POINTER || operation.dst.type != CU_MEMCPY_OPERAND_TYPE_POINTER)
      return CUDA_ERROR_NOT_SUPPORTED;
    const auto side = [&](const CUmemcpy3DOperand& operand) {
      const auto& p = operand.op.ptr;
      const std::uint64_t pitch = p.rowLength != 0 ? p.rowLength : operation.extent.width;
      return Side{Place::kUnified, p.ptr, pitch, pitch * (p.layerHeight != 0 ? p.layerHeight : operation.extent.height)};
    };
    const Extent extent{operation.extent.width, operation.extent.height, operation.extent.depth};
    if (const auto error = copy(side(operation.dst), side(operation.src), extent, stream, false)) return error;
  }
  return CUDA_SUCCESS;
}

}  // namespace

#undef cuMemcpyBatchAsync
#undef cuMemcpy3DBatchAsync

CUresult cuMemcpyBatchAsync_v2(CUdeviceptr* to, CUdeviceptr* from, size_t* bytes, size_t count,
                               CUmemcpyAttributes* attributes, size_t* first, size_t attribute_count,
                               CUstream stream) {
  return copy_batch(to, from, bytes, count, attributes, first, attribute_count, stream);
}
CUresult cuMemcpy3DBatchAsync_v2(size_t count, CUDA_MEMCPY3D_BATCH_OP* operations, unsigned long long flags,
                                 CUstream stream) {
  return copy_3d_batch(count, operations, flags, stream);
}

CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t count) {
  return set(to, 0, value, 1, count, 1, nullptr, true);
}
CUresult cuMemsetD16_v2(CUdeviceptr to, unsigned short value, size_t count) {
  return set(to, 0, value, 2, count, 1, nullptr, true);
}
CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned value, size_t count) {
  return set(to, 0, value, 4, count, 1, nullptr, true);
}
CUresult cuMemsetD2D8_v2(CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height) {
  return set(to, pitch, value, 1, width, height, nullptr, true);
}
CUresult cuMemsetD2D16_v2(CUdeviceptr to, size_t pitch, unsigned short value, size_t width, size_t height) {
  return set(to, pitch, value, 2, width, height, nullptr, true);
}
CUresult cuMemsetD2D32_v2(CUdeviceptr to, size_t pitch, unsigned value, size_t width, size_t height) {
  return set(to, pitch, value, 4, width, height, nullptr, true);
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream) {
  return set(to, 0, value, 1, count, 1, stream, false);
}
CUresult cuMemsetD16Async(CUdeviceptr to, unsigned short value, size_t count, CUstream stream) {
  return set(to, 0, value, 2, count, 1, stream, false);
}
CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, CUstream stream) {
  return set(to, 0, value, 4, count, 1, stream, false);
}
CUresult cuMemsetD2D8Async(CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height,
                           CUstream stream) {
  return set(to, pitch, value, 1, width, height, stream, false);
}
CUresult cuMemsetD2D16Async(CUdeviceptr to, size_t pitch, unsigned short value, size_t width, size_t height,
                            CUstream stream) {
  return set(to, pitch, value, 2, width, height, stream, false);
}
CUresult cuMemsetD2D32Async(CUdeviceptr to, size_t pitch, unsigned value, size_t width, size_t height,
                            CUstream stream) {
  return set(to, pitch, value, 4, width, height, stream, false);
}

}  // extern "C"
