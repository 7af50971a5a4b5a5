#include "client/copy.h"

#include <cstdint>
#include <cstring>

#include "client/array.h"
#include "client/capture.h"
#include "client/client.h"
#include "client/coherence.h"
#include "client/context.h"
#include "client/graph_nodes.h"
#include "client/memory.h"
#include "client/row_copy.h"
#include "client/status.h"
#include "client/stream.h"
#include "session/session.h"

namespace avec::client {
namespace {

/// The same bytes in the program's memory.
Side host_side(const Side& side) {
  if (side.twin == nullptr) return side;
  return {reinterpret_cast<std::uint64_t>(side.twin), side.pitch};
}

/// One side, or both, is memory that host and device both use.
CUresult copy_coherent(Stream& stream, const Side& destination, const Side& source, const Shape& shape,
                       Completion completion) {
  Coherence& coherence = stream.context->client->coherence();
  const bool device_only = (destination.on_device() && destination.twin == nullptr) ||
                           (source.on_device() && source.twin == nullptr);
  if (completion == Completion::kSynchronous && !device_only) {
    // Nobody but this process needs to move a byte; the device gets them with the next work.
    if (const CUresult result = synchronize(stream); result != CUDA_SUCCESS) return result;
    const CUresult result =
        RowCopy(stream, host_side(destination), host_side(source), shape).run(completion);
    coherence.host_changes();
    return result;
  }
  if (const CUresult result = coherence.before_work(stream); result != CUDA_SUCCESS) return result;
  const CUresult result = RowCopy(stream, destination, source, shape).run(completion);
  coherence.work_posted();
  return result;
}

CUresult copy_rows(CUstream handle, Side destination, Side source, Shape shape, Completion completion) {
  Stream* stream;
  if (const CUresult result = stream_for_device_work(handle, stream); result != CUDA_SUCCESS) return result;
  if (shape.width == 0 || shape.height == 0) return CUDA_SUCCESS;
  Client& client = *stream->context->client;
  if (const CUresult result = classify(client, destination, shape); result != CUDA_SUCCESS) return result;
  if (const CUresult result = classify(client, source, shape); result != CUDA_SUCCESS) return result;
  if (!client.coherent()) [[likely]] return RowCopy(*stream, destination, source, shape).run(completion);
  const bool shared = destination.twin != nullptr || source.twin != nullptr;
  const CUresult result = shared ? copy_coherent(*stream, destination, source, shape, completion)
                                 : RowCopy(*stream, destination, source, shape).run(completion);
  const bool waits = completion == Completion::kSynchronous || destination.kind == Kind::kPageable;
  if (result != CUDA_SUCCESS || !waits || is_capturing(*stream) || !client.coherence().behind()) return result;
  return synchronize(*stream);  // the program may read now what kernels before it wrote
}

/// True when the address is device memory of the stream's client.
bool is_device_memory(CUstream handle, std::uint64_t address) {
  Stream* stream;
  if (resolve_stream(handle, stream) != CUDA_SUCCESS) return false;
  const Pointee pointee = look_up(*stream->context->client, address);
  return pointee.device || (pointee.host && pointee.host->device_address != 0);
}

/// One end of a CUDA_MEMCPY2D or 3D, as it is described.
struct End {
  CUmemorytype type;
  CUdeviceptr device;
  const void* host;
  CUarray array;
  std::size_t pitch;
  std::size_t height;  ///< rows from slice to slice; 0: as many as are copied
  std::size_t x, y, z;
};
template <class Description>
End source_of(const Description& what) {
  return {what.srcMemoryType, what.srcDevice, what.srcHost, what.srcArray, what.srcPitch, 0,
          what.srcXInBytes,   what.srcY,      0};
}
template <class Description>
End destination_of(const Description& what) {
  return {what.dstMemoryType, what.dstDevice, what.dstHost, what.dstArray, what.dstPitch, 0,
          what.dstXInBytes,   what.dstY,      0};
}

/// `count` elements from `first` on lie below `end`.
bool within(std::size_t first, std::size_t count, std::uint64_t end) {
  return first <= end && count <= end - first;
}

CUresult side_in_array(const End& end, const Shape& slice, std::size_t depth, Side& side) {
  Array* array;
  if (const CUresult result = find_array(end.array, array); result != CUDA_SUCCESS) return result;
  const ArrayShape& shape = array->shape;
  if (array->element_bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  if (end.x % array->element_bytes != 0 || slice.width % array->element_bytes != 0) return CUDA_ERROR_INVALID_VALUE;
  if (!within(end.x, slice.width, shape.row_bytes) || !within(end.y, slice.height, shape.rows) ||
      !within(end.z, depth, shape.slices))
    return CUDA_ERROR_INVALID_VALUE;
  side.kind = Kind::kArray;
  side.rows = wire::ArrayRows(array->name, end.x, end.y, end.z, slice.height, 0);
  return CUDA_SUCCESS;
}

/// Where its first byte lies. `step`: rows from slice to slice.
CUresult side_of(const End& end, const Shape& slice, std::size_t depth, Side& side, std::size_t& step) {
  step = slice.height;
  switch (end.type) {
    case CU_MEMORYTYPE_HOST:
      side.address = reinterpret_cast<std::uint64_t>(end.host);
      break;
    case CU_MEMORYTYPE_DEVICE:
    case CU_MEMORYTYPE_UNIFIED:
      side.address = end.device;
      break;
    case CU_MEMORYTYPE_ARRAY:
      return side_in_array(end, slice, depth, side);
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
  if (side.address == 0) return CUDA_ERROR_INVALID_VALUE;
  step = end.height != 0 ? end.height : end.y + slice.height;
  if (step < slice.height || (depth > 1 && step < end.y + slice.height)) return CUDA_ERROR_INVALID_VALUE;
  const std::size_t row = end.x + slice.width;
  std::size_t pitch = end.pitch;
  const bool one_row = end.y == 0 && end.z == 0 && slice.height == 1 && depth == 1;
  if (pitch == 0 && one_row) pitch = row;
  if (row < end.x || pitch < row) return CUDA_ERROR_INVALID_VALUE;
  side.pitch = pitch;
  side.address += (end.z * step + end.y) * pitch + end.x;
  return CUDA_SUCCESS;
}

/// CUDA_MEMCPY3D and CUDA_MEMCPY3D_PEER have the same fields.
template <class Description>
CUresult copy_boxes(const Description& what, CUstream stream, Completion completion) {
  if (what.srcLOD != 0 || what.dstLOD != 0) return CUDA_ERROR_INVALID_VALUE;
  const Shape slice{what.WidthInBytes, what.Height};
  if (slice.width == 0 || slice.height == 0 || what.Depth == 0)
    return copy_rows(stream, {}, {}, {}, completion);
  End from = source_of(what), to = destination_of(what);
  from.height = what.srcHeight;
  from.z = what.srcZ;
  to.height = what.dstHeight;
  to.z = what.dstZ;
  Side destination, source;
  std::size_t source_step, destination_step;
  CUresult result = side_of(from, slice, what.Depth, source, source_step);
  if (result != CUDA_SUCCESS) return result;
  result = side_of(to, slice, what.Depth, destination, destination_step);
  if (result != CUDA_SUCCESS) return result;
  Shape all{slice.width, 0};
  if (__builtin_mul_overflow(slice.height, what.Depth, &all.height)) return CUDA_ERROR_INVALID_VALUE;
  if (source_step == slice.height && destination_step == slice.height)
    return copy_rows(stream, destination, source, all, completion);
  const auto next_slice = [&](Side& side, std::size_t step) {
    if (side.kind == Kind::kArray) {
      side.rows = rows_at(side.rows, slice.height);
    } else {
      side.address += step * side.pitch;
    }
  };
  for (std::size_t z = 0; z < what.Depth; ++z) {
    result = copy_rows(stream, destination, source, slice, completion);
    if (result != CUDA_SUCCESS) return result;
    next_slice(source, source_step);
    next_slice(destination, destination_step);
  }
  return CUDA_SUCCESS;
}

}  // namespace

CUresult copy(CUdeviceptr destination, CUdeviceptr source, std::size_t bytes, CUstream stream,
              Completion completion) {
  return copy_rows(stream, {destination, bytes}, {source, bytes}, {bytes, 1}, completion);
}

CUresult copy_to_device(CUdeviceptr destination, const void* source, std::size_t bytes, CUstream stream,
                        Completion completion) {
  if (bytes != 0 && !is_device_memory(stream, destination)) {
    Stream* ignored;
    const CUresult result = resolve_stream(stream, ignored);
    return result != CUDA_SUCCESS ? result : CUDA_ERROR_INVALID_VALUE;
  }
  return copy(destination, reinterpret_cast<CUdeviceptr>(source), bytes, stream, completion);
}

CUresult copy_from_device(void* destination, CUdeviceptr source, std::size_t bytes, CUstream stream,
                          Completion completion) {
  if (bytes != 0 && !is_device_memory(stream, source)) {
    Stream* ignored;
    const CUresult result = resolve_stream(stream, ignored);
    return result != CUDA_SUCCESS ? result : CUDA_ERROR_INVALID_VALUE;
  }
  return copy(reinterpret_cast<CUdeviceptr>(destination), source, bytes, stream, completion);
}

CUresult copy_on_device(CUdeviceptr destination, CUdeviceptr source, std::size_t bytes, CUstream stream) {
  return copy(destination, source, bytes, stream, Completion::kAsynchronous);
}

CUresult copy_2d(const CUDA_MEMCPY2D& what, CUstream stream, Completion completion) {
  const Shape shape{what.WidthInBytes, what.Height};
  Side destination, source;
  if (shape.width != 0 && shape.height != 0) {
    std::size_t step;
    CUresult result = side_of(source_of(what), shape, 1, source, step);
    if (result != CUDA_SUCCESS) return result;
    result = side_of(destination_of(what), shape, 1, destination, step);
    if (result != CUDA_SUCCESS) return result;
  }
  return copy_rows(stream, destination, source, shape, completion);
}

CUresult copy_3d(const CUDA_MEMCPY3D& what, CUstream stream, Completion completion) {
  if (what.reserved0 != nullptr || what.reserved1 != nullptr) return CUDA_ERROR_INVALID_VALUE;
  return copy_boxes(what, stream, completion);
}

CUresult copy_3d_peer(const CUDA_MEMCPY3D_PEER& what, CUstream stream, Completion completion) {
  for (const CUcontext handle : {what.srcContext, what.dstContext}) {
    const Context* context = find_context(handle);
    if (context == nullptr || !context->active()) return CUDA_ERROR_INVALID_CONTEXT;
  }
  return copy_boxes(what, stream, completion);
}

CUresult copy_array(const ArrayBytes& to, const ArrayBytes& from, std::size_t bytes, CUstream stream,
                    Completion completion) {
  CUDA_MEMCPY2D what{};
  what.srcMemoryType = from.type;
  what.srcHost = from.host;
  what.srcDevice = from.device;
  what.srcArray = from.array;
  what.srcXInBytes = from.offset;
  what.dstMemoryType = to.type;
  what.dstHost = const_cast<void*>(to.host);
  what.dstDevice = to.device;
  what.dstArray = to.array;
  what.dstXInBytes = to.offset;
  what.WidthInBytes = bytes;
  what.Height = 1;
  return copy_2d(what, stream, completion);
}

CUresult copy_peer(CUdeviceptr destination, CUcontext destination_context, CUdeviceptr source,
                   CUcontext source_context, std::size_t bytes, CUstream stream, Completion completion) {
  for (const CUcontext handle : {destination_context, source_context}) {
    const Context* context = find_context(handle);
    if (context == nullptr || !context->active()) return CUDA_ERROR_INVALID_CONTEXT;
  }
  return copy(destination, source, bytes, stream, completion);
}

namespace {

void fill_host_row(std::byte* row, unsigned value, unsigned element_bytes, std::size_t width) {
  for (std::size_t i = 0; i < width; ++i) std::memcpy(row + i * element_bytes, &value, element_bytes);
}

}  // namespace

CUresult set_memory(CUdeviceptr destination, std::size_t pitch, unsigned value, unsigned element_bytes,
                    std::size_t width, std::size_t height, CUstream handle, Completion completion) {
  Stream* stream;
  if (const CUresult result = stream_for_device_work(handle, stream); result != CUDA_SUCCESS) return result;
  if (width == 0 || height == 0) return CUDA_SUCCESS;
  Shape shape{0, height};
  if (__builtin_mul_overflow(width, element_bytes, &shape.width)) return CUDA_ERROR_INVALID_VALUE;
  if (height == 1) pitch = shape.width;
  if (destination % element_bytes != 0 || pitch % element_bytes != 0 || pitch < shape.width)
    return CUDA_ERROR_INVALID_VALUE;
  Side side{destination, pitch};
  if (const CUresult result = classify(*stream->context->client, side, shape); result != CUDA_SUCCESS)
    return result;
  if (side.kind == Kind::kPageable) return CUDA_ERROR_INVALID_VALUE;
  if (side.on_device()) {
    Client& client = *stream->context->client;
    const auto post = [&] {
      return to_cuda(client.session().post(
          wire::MemSet(side.address, pitch, width, height, stream->name, value, element_bytes)));
    };
    if (side.twin == nullptr) return post();  // CUDA too returns before a set of device memory is done
    if (const CUresult result = client.coherence().before_work(*stream); result != CUDA_SUCCESS) return result;
    const CUresult result = post();
    client.coherence().work_posted();
    if (result != CUDA_SUCCESS || completion == Completion::kAsynchronous) return result;
    return synchronize(*stream);
  }
  if (is_capturing(*stream)) {
    return capture_host_function(*stream, [=] {
      for (std::size_t row = 0; row < height; ++row)
        fill_host_row(side.host() + row * pitch, value, element_bytes, width);
    });
  }
  if (const CUresult result = synchronize(*stream); result != CUDA_SUCCESS) return result;
  for (std::size_t row = 0; row < height; ++row)
    fill_host_row(side.host() + row * pitch, value, element_bytes, width);
  return CUDA_SUCCESS;
}

}  // namespace avec::client
