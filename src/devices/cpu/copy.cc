#include "devices/cpu/copy.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "devices/cpu/graph/capture.h"

namespace avec::cpu {
namespace {

/// Up to this a pageable source is copied aside, so that the call need not wait.
constexpr std::uint64_t kMaxStaged = std::uint64_t{16} << 20;
constexpr std::uint64_t kMaxExtent = std::uint64_t{1} << 46;

bool known(std::uint64_t address) { return state().memory.find(address) != nullptr; }

/// Bytes from the first to the last that is touched; 0 when the numbers are absurd.
std::uint64_t span_of(const Side& side, const Extent& extent) {
  const auto span = static_cast<unsigned __int128>(extent.depth - 1) * side.slice +
                    static_cast<unsigned __int128>(extent.height - 1) * side.pitch + extent.width;
  return span > kMaxExtent ? 0 : static_cast<std::uint64_t>(span);
}

}  // namespace

bool on_device(const Side& side) {
  return side.place == Place::kDevice || side.place == Place::kArray || (side.place == Place::kUnified && known(side.address));
}

namespace {

/// Memory whose addresses may be freed before the copy runs; an array is kept by it.
bool in_memory(const Side& side) { return on_device(side) && side.place != Place::kArray; }

bool pageable(const Side& side) { return !on_device(side) && !known(side.address); }

CUresult check(const Context& context, const Side& side, const Extent& extent, bool write) {
  if (side.address == 0) return CUDA_ERROR_INVALID_VALUE;
  if (extent.height > 1 && side.pitch < extent.width) return CUDA_ERROR_INVALID_VALUE;
  const std::uint64_t span = span_of(side, extent);
  if (span == 0) return CUDA_ERROR_INVALID_VALUE;
  if (side.place == Place::kArray) return CUDA_SUCCESS;  // whoever named its rows has looked
  if (on_device(side) && !accessible(context, side.address, span, write)) return CUDA_ERROR_INVALID_VALUE;
  return CUDA_SUCCESS;
}

void move_rows(const Side& destination, const Side& source, const Extent& extent) {
  for (std::uint64_t z = 0; z < extent.depth; ++z) {
    for (std::uint64_t y = 0; y < extent.height; ++y) {
      std::memmove(
          reinterpret_cast<void*>(destination.address + z * destination.slice + y * destination.pitch),
          reinterpret_cast<const void*>(source.address + z * source.slice + y * source.pitch), extent.width);
    }
  }
}

/// One side as CUDA_MEMCPY3D has it.
template <class Pointer>
void describe_side(const Side& side, CUmemorytype& type, Pointer& host, CUdeviceptr& device, size_t& pitch,
                   size_t& height, CUarray& array, size_t& x, size_t& y, size_t& z) {
  if (side.place == Place::kArray) {
    type = CU_MEMORYTYPE_ARRAY;
    array = side.handle;
    x = side.x;
    y = side.y;
    z = side.z;
    return;
  }
  type = on_device(side) ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
  if (on_device(side))
    device = side.address;
  else
    host = reinterpret_cast<Pointer>(side.address);
  pitch = side.pitch;
  height = side.pitch == 0 ? 0 : side.slice / side.pitch;
}

CUDA_MEMCPY3D describe(const Side& destination, const Side& source, const Extent& extent) {
  CUDA_MEMCPY3D copy{};
  describe_side(source, copy.srcMemoryType, copy.srcHost, copy.srcDevice, copy.srcPitch, copy.srcHeight,
                copy.srcArray, copy.srcXInBytes, copy.srcY, copy.srcZ);
  describe_side(destination, copy.dstMemoryType, copy.dstHost, copy.dstDevice, copy.dstPitch, copy.dstHeight,
                copy.dstArray, copy.dstXInBytes, copy.dstY, copy.dstZ);
  copy.WidthInBytes = extent.width;
  copy.Height = extent.height;
  copy.Depth = extent.depth;
  return copy;
}

/// Tight rows of the source's bytes as they are now; false: no memory.
bool stage(Side& source, const Extent& extent, std::shared_ptr<std::vector<std::byte>>& staged) {
  try {
    staged = std::make_shared<std::vector<std::byte>>(extent.width * extent.height * extent.depth);
  } catch (const std::bad_alloc&) {
    return false;
  }
  const Side tight{Place::kHost, reinterpret_cast<std::uint64_t>(staged->data()), extent.width,
                   extent.width * extent.height};
  move_rows(tight, source, extent);
  source = tight;
  return true;
}

CUresult submit(const StreamRef& stream, Task task, bool wait) {
  if (wait) return run_now(stream, std::move(task));
  state().scheduler.enqueue(stream, std::move(task));
  return CUDA_SUCCESS;
}

template <class T>
void fill(std::uint64_t address, std::uint64_t pitch, T value, std::uint64_t width, std::uint64_t height) {
  for (std::uint64_t y = 0; y < height; ++y) {
    std::fill_n(reinterpret_cast<T*>(address + y * pitch), width, value);
  }
}

}  // namespace

bool accessible(const Context& context, std::uint64_t begin, std::uint64_t bytes, bool write) {
  if (bytes == 0) return true;
  if (begin + bytes < begin) return false;
  const auto found = state().memory.covering(begin, begin + bytes);
  const auto device = static_cast<std::size_t>(context.device.ordinal);
  for (const auto& allocation : found) {
    if (allocation->kind != Memory::kMapped) continue;  // copies between devices need no peer access
    const int access = allocation->access[device]
                           ? allocation->access[device]
                           : allocation->access[static_cast<std::size_t>(allocation->device)];
    if (access == 0 || (write && access != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)) return false;
  }
  return !found.empty();
}

CUresult check_copy(const Context& context, const Side& destination, const Side& source,
                    const Extent& extent) {
  if (const auto error = check(context, destination, extent, true)) return error;
  return check(context, source, extent, false);
}

std::function<CUresult()> copy_work(const ContextRef& context, const Side& destination, const Side& source,
                                    const Extent& extent, std::shared_ptr<std::vector<std::byte>> staged) {
  return [context, destination, source, extent, staged = std::move(staged), to_device = in_memory(destination),
          from_device = in_memory(source)] {
    if (to_device && !accessible(*context, destination.address, span_of(destination, extent), true)) {
      return CUDA_ERROR_ILLEGAL_ADDRESS;
    }
    if (from_device && !staged && !accessible(*context, source.address, span_of(source, extent), false)) {
      return CUDA_ERROR_ILLEGAL_ADDRESS;
    }
    move_rows(destination, source, extent);
    return CUDA_SUCCESS;
  };
}

CUresult copy(Side destination, Side source, Extent extent, CUstream handle, bool waits) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (waits) {
    if (const auto error = refuse_capture(stream)) return error;
    if (const auto error = refuse_unsafe()) return error;
  }
  if (extent.width == 0 || extent.height == 0 || extent.depth == 0) return CUDA_SUCCESS;
  const Context& context = *stream->context;
  if (const auto error = check_copy(context, destination, source, extent)) return error;
  const auto node = captured(stream, [&](Graph&, Params& params) {
    params = CopyParams{describe(destination, source, extent), stream->context};
    return CUDA_SUCCESS;
  });
  if (node) return *node;

  const bool between_devices = on_device(destination) && on_device(source);
  bool wait = pageable(destination) || (waits && !between_devices);
  std::shared_ptr<std::vector<std::byte>> staged;
  if (!wait && pageable(source)) {
    const bool small = extent.width * extent.height * extent.depth <= kMaxStaged;
    wait = !small || !stage(source, extent, staged);
  }
  Task task;
  task.run = [work = copy_work(stream->context, destination, source, extent, std::move(staged))](CUresult) {
    return work();
  };
  return submit(stream, std::move(task), wait);
}

CUresult check_set(const Context& context, CUdeviceptr address, std::uint64_t pitch, unsigned element_bytes,
                   std::uint64_t width, std::uint64_t height) {
  if (width > kMaxExtent || address % element_bytes != 0 || (height > 1 && pitch % element_bytes != 0)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  return check(context, {Place::kDevice, address, pitch, 0}, {width * element_bytes, height, 1}, true);
}

std::function<CUresult()> set_work(const ContextRef& context, CUdeviceptr address, std::uint64_t pitch,
                                   std::uint32_t value, unsigned element_bytes, std::uint64_t width,
                                   std::uint64_t height) {
  const Side side{Place::kDevice, address, pitch, 0};
  const Extent extent{width * element_bytes, height, 1};
  return [context, side, extent, value, element_bytes, width] {
    if (!accessible(*context, side.address, span_of(side, extent), true)) return CUDA_ERROR_ILLEGAL_ADDRESS;
    if (element_bytes == 1)
      fill(side.address, side.pitch, static_cast<std::uint8_t>(value), width, extent.height);
    if (element_bytes == 2)
      fill(side.address, side.pitch, static_cast<std::uint16_t>(value), width, extent.height);
    if (element_bytes == 4) fill(side.address, side.pitch, value, width, extent.height);
    return CUDA_SUCCESS;
  };
}

CUresult set(CUdeviceptr address, std::uint64_t pitch, std::uint32_t value, unsigned element_bytes,
             std::uint64_t width, std::uint64_t height, CUstream handle, bool waits) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (waits) {
    if (const auto error = refuse_capture(stream)) return error;
    if (const auto error = refuse_unsafe()) return error;
  }
  if (width == 0 || height == 0) return CUDA_SUCCESS;
  if (const auto error = check_set(*stream->context, address, pitch, element_bytes, width, height))
    return error;
  const auto node = captured(stream, [&](Graph&, Params& params) {
    params =
        SetParams{{address, height > 1 ? pitch : 0, value, element_bytes, width, height}, stream->context};
    return CUDA_SUCCESS;
  });
  if (node) return *node;
  const auto found = state().memory.find(address);
  Task task;
  task.run = [work = set_work(stream->context, address, pitch, value, element_bytes, width, height)](
                 CUresult) { return work(); };
  // Memory that the host uses too is written before the call returns.
  return submit(stream, std::move(task), waits && found && (found->on_host() || found->managed()));
}

}  // namespace avec::cpu
