#include "client/copy.h"

#include <cstdint>
#include <cstring>

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
  if (result != CUDA_SUCCESS || !waits || !client.coherence().behind()) return result;
  return synchronize(*stream);  // the program may read now what kernels before it wrote
}

/// True when the address is device memory of the stream's client.
bool is_device_memory(CUstream handle, std::uint64_t address) {
  Stream* stream;
  if (resolve_stream(handle, stream) != CUDA_SUCCESS) return false;
  const Pointee pointee = look_up(*stream->context->client, address);
  return pointee.device || (pointee.host && pointee.host->device_address != 0);
}

/// One end of a CUDA_MEMCPY2D or 3D: where its first byte lies.
CUresult side_of(CUmemorytype type, CUdeviceptr device, const void* host, std::size_t pitch, std::size_t x,
                 std::size_t y, const Shape& shape, Side& side) {
  switch (type) {
    case CU_MEMORYTYPE_HOST:
      side.address = reinterpret_cast<std::uint64_t>(host);
      break;
    case CU_MEMORYTYPE_DEVICE:
    case CU_MEMORYTYPE_UNIFIED:
      side.address = device;
      break;
    case CU_MEMORYTYPE_ARRAY:
      return CUDA_ERROR_NOT_SUPPORTED;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
  if (side.address == 0) return CUDA_ERROR_INVALID_VALUE;
  const std::size_t row = x + shape.width;
  if (pitch == 0 && y == 0 && shape.height <= 1) pitch = row;
  if (row < x || pitch < row) return CUDA_ERROR_INVALID_VALUE;
  side.pitch = pitch;
  side.address += y * pitch + x;
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
    CUresult result = side_of(what.srcMemoryType, what.srcDevice, what.srcHost, what.srcPitch,
                              what.srcXInBytes, what.srcY, shape, source);
    if (result != CUDA_SUCCESS) return result;
    result = side_of(what.dstMemoryType, what.dstDevice, what.dstHost, what.dstPitch, what.dstXInBytes,
                     what.dstY, shape, destination);
    if (result != CUDA_SUCCESS) return result;
  }
  return copy_rows(stream, destination, source, shape, completion);
}

CUresult copy_3d(const CUDA_MEMCPY3D& what, CUstream stream, Completion completion) {
  if (what.reserved0 != nullptr || what.reserved1 != nullptr) return CUDA_ERROR_INVALID_VALUE;
  Shape shape{what.WidthInBytes, what.Height};
  if (shape.width == 0 || shape.height == 0 || what.Depth == 0)
    return copy_rows(stream, {}, {}, {}, completion);
  const std::size_t source_rows = what.srcHeight != 0 ? what.srcHeight : what.srcY + shape.height;
  const std::size_t destination_rows = what.dstHeight != 0 ? what.dstHeight : what.dstY + shape.height;
  if (source_rows < what.srcY + shape.height || destination_rows < what.dstY + shape.height)
    return CUDA_ERROR_INVALID_VALUE;
  // In rows from the beginning: slice z starts at row z * rows of a slice. More than one slice
  // needs a pitch, which side_of then insists on.
  Side destination, source;
  Shape all{shape.width, 0};
  if (__builtin_mul_overflow(shape.height, what.Depth, &all.height)) return CUDA_ERROR_INVALID_VALUE;
  CUresult result = side_of(what.srcMemoryType, what.srcDevice, what.srcHost, what.srcPitch, what.srcXInBytes,
                            what.srcZ * source_rows + what.srcY, all, source);
  if (result != CUDA_SUCCESS) return result;
  result = side_of(what.dstMemoryType, what.dstDevice, what.dstHost, what.dstPitch, what.dstXInBytes,
                   what.dstZ * destination_rows + what.dstY, all, destination);
  if (result != CUDA_SUCCESS) return result;
  if (source_rows == shape.height && destination_rows == shape.height)
    return copy_rows(stream, destination, source, all, completion);
  for (std::size_t z = 0; z < what.Depth; ++z) {
    result = copy_rows(stream, destination, source, shape, completion);
    if (result != CUDA_SUCCESS) return result;
    source.address += source_rows * source.pitch;
    destination.address += destination_rows * destination.pitch;
  }
  return CUDA_SUCCESS;
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
