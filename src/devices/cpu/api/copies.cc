// cuMemcpy* and cuMemset*: each form in terms of copy() and set().
#include "devices/cpu/copy.h"

using namespace avec::cpu;

namespace {

Side device(CUdeviceptr address) { return {Place::kDevice, address, 0, 0}; }
Side host(const void* address) { return {Place::kHost, reinterpret_cast<std::uint64_t>(address), 0, 0}; }
Side unified(CUdeviceptr address) { return {Place::kUnified, address, 0, 0}; }

/// Where a descriptor's side begins.
CUresult side_of(CUmemorytype type, const void* host_address, CUdeviceptr device_address, std::uint64_t x,
                 std::uint64_t y, std::uint64_t z, std::uint64_t pitch, std::uint64_t height,
                 const Extent& extent, Side& side) {
  switch (type) {
    case CU_MEMORYTYPE_HOST:
      side = host(host_address);
      break;
    case CU_MEMORYTYPE_DEVICE:
      side = device(device_address);
      break;
    case CU_MEMORYTYPE_UNIFIED:
      side = unified(device_address);
      break;
    case CU_MEMORYTYPE_ARRAY:
      return CUDA_ERROR_NOT_SUPPORTED;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
  if (side.address == 0) return CUDA_ERROR_INVALID_VALUE;
  side.pitch = pitch != 0 ? pitch : extent.width + x;
  const std::uint64_t rows = height != 0 ? height : extent.height + y;
  if (side.pitch < extent.width + x && extent.height > 1) return CUDA_ERROR_INVALID_VALUE;
  if (rows < extent.height + y && extent.depth > 1) return CUDA_ERROR_INVALID_VALUE;
  constexpr std::uint64_t kMost = std::uint64_t{1} << 40;
  if (side.pitch > kMost || rows > kMost || x > kMost || y > kMost || z > kMost)
    return CUDA_ERROR_INVALID_VALUE;
  if (static_cast<unsigned __int128>(side.pitch) * rows * (z + 1) > (std::uint64_t{1} << 46)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  side.slice = side.pitch * rows;
  side.address += z * side.slice + y * side.pitch + x;
  return CUDA_SUCCESS;
}

CUresult copy_2d(const CUDA_MEMCPY2D* description, CUstream stream, bool waits) {
  if (const auto error = initialised()) return error;
  if (description == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto& d = *description;
  const Extent extent{d.WidthInBytes, d.Height, 1};
  if (extent.width == 0 || extent.height == 0) return CUDA_SUCCESS;
  Side from, to;
  if (const auto error = side_of(d.srcMemoryType, d.srcHost, d.srcDevice, d.srcXInBytes, d.srcY, 0,
                                 d.srcPitch, 0, extent, from)) {
    return error;
  }
  if (const auto error = side_of(d.dstMemoryType, d.dstHost, d.dstDevice, d.dstXInBytes, d.dstY, 0,
                                 d.dstPitch, 0, extent, to)) {
    return error;
  }
  return copy(to, from, extent, stream, waits);
}

/// CUDA_MEMCPY3D and CUDA_MEMCPY3D_PEER have the same fields.
template <class Description>
CUresult read_3d(const Description& d, Side& to, Side& from, Extent& extent) {
  if (d.srcLOD != 0 || d.dstLOD != 0) return CUDA_ERROR_INVALID_VALUE;
  extent = {d.WidthInBytes, d.Height, d.Depth};
  if (extent.width == 0 || extent.height == 0 || extent.depth == 0) return CUDA_SUCCESS;
  if (const auto error = side_of(d.srcMemoryType, d.srcHost, d.srcDevice, d.srcXInBytes, d.srcY, d.srcZ,
                                 d.srcPitch, d.srcHeight, extent, from)) {
    return error;
  }
  return side_of(d.dstMemoryType, d.dstHost, d.dstDevice, d.dstXInBytes, d.dstY, d.dstZ, d.dstPitch,
                 d.dstHeight, extent, to);
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
