#include "executor/worker/scrub.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "base/array_format.h"

namespace avec::worker {
namespace {

// Zeroes that an array's rows are copied from.
constexpr std::uint64_t kZeroBytes = 4u << 20;

}  // namespace

CUresult Scrubber::lane_of(int device, Lane& lane) {
  Lane& known = lanes_[device];
  CUresult status = CUDA_SUCCESS;
  if (known.context == nullptr) status = driver_.cuDevicePrimaryCtxRetain(&known.context, device);
  if (status == CUDA_SUCCESS) status = driver_.cuCtxSetCurrent(known.context);
  if (status == CUDA_SUCCESS && known.stream == nullptr)
    status = driver_.cuStreamCreateWithPriority(&known.stream, CU_STREAM_NON_BLOCKING, 0);
  if (status == CUDA_SUCCESS && known.done == nullptr)
    status = driver_.cuEventCreate(&known.done, CU_EVENT_DISABLE_TIMING | CU_EVENT_BLOCKING_SYNC);
  lane = known;
  return status;
}

CUresult Scrubber::finish(const Lane& lane) {
  const CUresult status = driver_.cuEventRecord(lane.done, lane.stream);
  return status == CUDA_SUCCESS ? driver_.cuEventSynchronize(lane.done) : status;
}

CUresult Scrubber::clear(const Lane& lane, CUdeviceptr address, std::uint64_t bytes) {
  const CUresult status = driver_.cuMemsetD8Async(address, 0, bytes, lane.stream);
  return status == CUDA_SUCCESS ? finish(lane) : status;
}

CUresult Scrubber::memory(CUmemGenericAllocationHandle handle, std::uint64_t bytes, int device) {
  const std::lock_guard lock(mutex_);
  Lane lane;
  CUresult status = lane_of(device, lane);
  if (status != CUDA_SUCCESS) return status;
  CUdeviceptr window = 0;
  status = driver_.cuMemAddressReserve(&window, bytes, 0, 0, 0);
  if (status != CUDA_SUCCESS) return status;
  status = driver_.cuMemMap(window, bytes, 0, handle, 0);
  if (status == CUDA_SUCCESS) {
    CUmemAccessDesc access{};
    access.location = {CU_MEM_LOCATION_TYPE_DEVICE, {device}};
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    status = driver_.cuMemSetAccess(window, bytes, &access, 1);
    if (status == CUDA_SUCCESS) status = clear(lane, window, bytes);
    const CUresult unmapped = driver_.cuMemUnmap(window, bytes);
    if (status == CUDA_SUCCESS) status = unmapped;
  }
  driver_.cuMemAddressFree(window, bytes);
  return status;
}

CUresult Scrubber::array(CUarray array) {
  CUDA_ARRAY3D_DESCRIPTOR d{};
  CUresult status = driver_.cuArray3DGetDescriptor(&d, array);
  if (status != CUDA_SUCCESS) return status;
  const ArrayShape shape = array_shape(d.Width, d.Height, d.Depth, static_cast<std::uint32_t>(d.Format), d.NumChannels);
  if (shape.rows == 0) {
    // Of several planes, each of which is an array.
    for (unsigned plane = 0; plane < 3; ++plane) {
      CUarray part = nullptr;
      CUDA_ARRAY3D_DESCRIPTOR of_part{};
      if (driver_.cuArrayGetPlane(&part, array, plane) != CUDA_SUCCESS) return plane == 0 ? CUDA_ERROR_NOT_SUPPORTED : CUDA_SUCCESS;
      if (driver_.cuArray3DGetDescriptor(&of_part, part) != CUDA_SUCCESS || !array_format(static_cast<std::uint32_t>(of_part.Format)).known())
        return CUDA_ERROR_NOT_SUPPORTED;
      if ((status = this->array(part)) != CUDA_SUCCESS) return status;
    }
    return CUDA_SUCCESS;
  }
  const std::uint64_t rows_at_once = std::clamp<std::uint64_t>(kZeroBytes / std::max<std::uint64_t>(shape.row_bytes, 1), 1, shape.rows);
  const std::vector<std::byte> zeroes(rows_at_once * shape.row_bytes);
  for (std::uint64_t slice = 0; slice < shape.slices; ++slice) {
    for (std::uint64_t row = 0; row < shape.rows; row += rows_at_once) {
      CUDA_MEMCPY3D copy{};
      copy.srcMemoryType = CU_MEMORYTYPE_HOST;
      copy.srcHost = zeroes.data();
      copy.srcPitch = shape.row_bytes;
      copy.srcHeight = rows_at_once;
      copy.dstMemoryType = CU_MEMORYTYPE_ARRAY;
      copy.dstArray = array;
      copy.dstY = row;
      copy.dstZ = slice;
      copy.WidthInBytes = shape.row_bytes;
      copy.Height = std::min(rows_at_once, shape.rows - row);
      copy.Depth = 1;
      // From pageable memory: the driver has taken the bytes when it returns.
      if ((status = driver_.cuMemcpy3DAsync(&copy, CU_STREAM_PER_THREAD)) != CUDA_SUCCESS) return status;
    }
  }
  // Work in other streams must find the zeroes there.
  CUevent done = nullptr;
  if ((status = driver_.cuEventCreate(&done, CU_EVENT_DISABLE_TIMING)) != CUDA_SUCCESS) return status;
  status = driver_.cuEventRecord(done, CU_STREAM_PER_THREAD);
  if (status == CUDA_SUCCESS) status = driver_.cuEventSynchronize(done);
  driver_.cuEventDestroy(done);
  return status;
}

}  // namespace avec::worker
