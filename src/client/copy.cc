#include "client/copy.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>

#include "base/limits.h"
#include "client/client.h"
#include "client/context.h"
#include "client/memory.h"
#include "client/status.h"
#include "client/stream.h"
#include "session/session.h"

namespace avec::client {
namespace {

/// Rows that are not contiguous on the host pass through a buffer of at most about this.
constexpr std::size_t kStagingBytes = std::size_t{4} << 20;

enum class Kind { kDevice, kPinned, kPageable };

/// One end of a copy: rows of `pitch` bytes from `address`.
struct Side {
  std::uint64_t address = 0;
  std::uint64_t pitch = 0;
  Kind kind = Kind::kPageable;

  bool on_device() const { return kind == Kind::kDevice; }
  std::byte* host() const { return reinterpret_cast<std::byte*>(address); }
};

struct Shape {
  std::uint64_t width = 0, height = 0;
  /// Bytes from the first to the last of rows `pitch` apart; false when they overflow.
  bool extent(std::uint64_t pitch, std::uint64_t& bytes) const {
    return !__builtin_mul_overflow(height - 1, pitch, &bytes) &&
           !__builtin_add_overflow(bytes, width, &bytes);
  }
};

/// Finds out where the side lies. Device memory must hold all of it.
CUresult classify(Client& client, Side& side, const Shape& shape) {
  std::uint64_t extent;
  if (side.address == 0 || !shape.extent(side.pitch, extent)) return CUDA_ERROR_INVALID_VALUE;
  const Pointee pointee = look_up(client, side.address);
  if (pointee.device) {
    side.kind = Kind::kDevice;
    const std::uint64_t room = pointee.device->bytes - (side.address - pointee.device->base);
    return extent <= room ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  }
  if (pointee.in_device_range) return CUDA_ERROR_INVALID_VALUE;
  const bool pinned = pointee.host && extent <= pointee.host->bytes - (side.address - pointee.host->base);
  side.kind = pinned ? Kind::kPinned : Kind::kPageable;
  return CUDA_SUCCESS;
}

class RowCopy {
 public:
  RowCopy(Stream& stream, const Side& destination, const Side& source, const Shape& shape)
      : stream_(stream),
        session_(stream.context->client->session()),
        destination_(destination),
        source_(source),
        shape_(shape) {}

  CUresult run(Completion completion) {
    if (destination_.on_device()) return source_.on_device() ? on_device() : to_device(completion);
    return source_.on_device() ? from_device(completion) : on_host();
  }

 private:
  bool tight(const Side& side) const { return shape_.height == 1 || side.pitch == shape_.width; }
  std::uint64_t rows_at_once() const {
    return std::clamp<std::uint64_t>(kStagingBytes / shape_.width, 1, shape_.height);
  }

  CUresult on_device() {
    return to_cuda(
        session_.post(wire::CopyOnDevice(destination_.address, destination_.pitch, source_.address,
                                         source_.pitch, shape_.width, shape_.height, stream_.name)));
  }

  CUresult to_device(Completion completion) {
    const CUresult posted = post_to_device();
    if (posted != CUDA_SUCCESS || completion == Completion::kAsynchronous) return posted;
    // CUDA returns when the bytes are there, for whatever stream uses them next. Nobody waits for
    // that here: what other streams do later does.
    Context& context = *stream_.context;
    const bool ordered = context.legacy.load() == &stream_ && !context.client->unordered_streams();
    return ordered ? CUDA_SUCCESS : to_cuda(session_.post(wire::MemFence(stream_.name)));
  }

  CUresult post_to_device() {
    if (const CUresult result = settle(source_); result != CUDA_SUCCESS) return result;
    const auto body = [&](std::uint64_t row, std::uint64_t rows) {
      return wire::CopyToDevice(destination_.address + row * destination_.pitch, destination_.pitch,
                                shape_.width, rows, stream_.name);
    };
    if (tight(source_)) {
      return to_cuda(
          session_.post(body(0, shape_.height), ConstBytes(source_.host(), shape_.width * shape_.height)));
    }
    const std::uint64_t most = rows_at_once();
    const auto staging = std::make_unique_for_overwrite<std::byte[]>(most * shape_.width);
    for (std::uint64_t row = 0; row < shape_.height; row += most) {
      const std::uint64_t rows = std::min(most, shape_.height - row);
      for (std::uint64_t i = 0; i < rows; ++i) {
        std::memcpy(staging.get() + i * shape_.width, source_.host() + (row + i) * source_.pitch,
                    shape_.width);
      }
      const auto posted = session_.post(body(row, rows), ConstBytes(staging.get(), rows * shape_.width));
      if (!posted) return to_cuda(posted.error());
    }
    return CUDA_SUCCESS;
  }

  CUresult from_device(Completion completion) {
    const auto body = [&](std::uint64_t row, std::uint64_t rows) {
      return wire::CopyFromDevice(source_.address + row * source_.pitch, source_.pitch, shape_.width, rows,
                                  stream_.name);
    };
    if (tight(destination_)) {
      // Into pageable memory CUDA too returns only when the bytes are there.
      const bool waits = completion == Completion::kSynchronous || destination_.kind == Kind::kPageable;
      const auto pending = session_.post_deferred(
          body(0, shape_.height), MutableBytes(destination_.host(), shape_.width * shape_.height),
          waits ? session::Attend::kWaiter : session::Attend::kNobody);
      if (!pending) return to_cuda(pending.error());
      if (!waits) {
        note_download(stream_,
                      {*pending, destination_.host(), destination_.host() + shape_.width * shape_.height});
        return CUDA_SUCCESS;
      }
      if (shape_.width * shape_.height <= limits::kChunkBytes) return arrived(session_.wait_deferred(*pending));
      // The status of an answer in several chunks leaves before its last bytes: whether the device
      // failed meanwhile is known from what follows them, in the same round trip.
      const CUresult after = synchronize(stream_);
      const CUresult result = arrived(session_.wait_deferred(*pending));
      return result != CUDA_SUCCESS ? result : after;
    }
    const std::uint64_t most = rows_at_once();
    const auto staging = std::make_unique_for_overwrite<std::byte[]>(most * shape_.width);
    for (std::uint64_t row = 0; row < shape_.height; row += most) {
      const std::uint64_t rows = std::min(most, shape_.height - row);
      const auto pending =
          session_.post_deferred(body(row, rows), MutableBytes(staging.get(), rows * shape_.width));
      if (!pending) return to_cuda(pending.error());
      if (const CUresult result = arrived(session_.wait_deferred(*pending)); result != CUDA_SUCCESS)
        return result;
      for (std::uint64_t i = 0; i < rows; ++i) {
        std::memcpy(destination_.host() + (row + i) * destination_.pitch, staging.get() + i * shape_.width,
                    shape_.width);
      }
    }
    return CUDA_SUCCESS;
  }

  CUresult on_host() {
    // In stream order: after the work before it, and done before the call returns.
    if (const CUresult result = synchronize(stream_); result != CUDA_SUCCESS) return result;
    if (const CUresult result = settle(source_); result != CUDA_SUCCESS) return result;
    if (const CUresult result = settle(destination_); result != CUDA_SUCCESS) return result;
    for (std::uint64_t row = 0; row < shape_.height; ++row) {
      std::memmove(destination_.host() + row * destination_.pitch, source_.host() + row * source_.pitch,
                   shape_.width);
    }
    return CUDA_SUCCESS;
  }

  /// Bytes may still be on their way from the device into this host memory.
  CUresult settle(const Side& side) {
    std::uint64_t extent = 0;
    shape_.extent(side.pitch, extent);
    return to_cuda(session_.wait_for_destination(side.host(), side.host() + extent));
  }

  CUresult arrived(const Result<>& reply) {
    Context& context = *stream_.context;
    const CUresult own = to_cuda(reply);
    if (corrupts_context(own)) context.error.store(own);
    const CUresult result = context.client->synchronized(own);
    return result != CUDA_SUCCESS ? result : static_cast<CUresult>(context.error.load());
  }

  Stream& stream_;
  session::Session& session_;
  Side destination_, source_;
  Shape shape_;
};

CUresult copy_rows(CUstream handle, Side destination, Side source, Shape shape, Completion completion) {
  Stream* stream;
  if (const CUresult result = stream_for_work(handle, stream); result != CUDA_SUCCESS) return result;
  if (shape.width == 0 || shape.height == 0) return CUDA_SUCCESS;
  Client& client = *stream->context->client;
  if (const CUresult result = classify(client, destination, shape); result != CUDA_SUCCESS) return result;
  if (const CUresult result = classify(client, source, shape); result != CUDA_SUCCESS) return result;
  return RowCopy(*stream, destination, source, shape).run(completion);
}

/// True when the address is device memory of the stream's client.
bool is_device_memory(CUstream handle, std::uint64_t address) {
  Stream* stream;
  return resolve_stream(handle, stream) == CUDA_SUCCESS &&
         look_up(*stream->context->client, address).device.has_value();
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
  if (const CUresult result = stream_for_work(handle, stream); result != CUDA_SUCCESS) return result;
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
    (void)completion;  // CUDA too returns before a set of device memory is done
    return to_cuda(stream->context->client->session().post(
        wire::MemSet(destination, pitch, width, height, stream->name, value, element_bytes)));
  }
  if (const CUresult result = synchronize(*stream); result != CUDA_SUCCESS) return result;
  for (std::size_t row = 0; row < height; ++row)
    fill_host_row(side.host() + row * pitch, value, element_bytes, width);
  return CUDA_SUCCESS;
}

}  // namespace avec::client
