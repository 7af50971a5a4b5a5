// Copies of rectangles and boxes.
#include <cstring>
#include <initializer_list>

#include "api.h"
#include "array.h"
#include "copy.h"
#include "weak_driver.h"

using namespace avec::runtime;

namespace {

CUmemorytype source_type(Direction direction) {
  return direction == Direction::kDeviceToHost || direction == Direction::kDeviceToDevice
             ? CU_MEMORYTYPE_DEVICE
             : CU_MEMORYTYPE_HOST;
}

CUmemorytype destination_type(Direction direction) {
  return direction == Direction::kHostToDevice || direction == Direction::kDeviceToDevice
             ? CU_MEMORYTYPE_DEVICE
             : CU_MEMORYTYPE_HOST;
}

/// After a synchronous copy host memory is free to use; between device buffers nobody waits.
CUresult finish(CUresult copied, Direction direction, CUstream stream, Completion completion) {
  if (copied != CUDA_SUCCESS || completion == Completion::kAsynchronous ||
      direction == Direction::kDeviceToDevice)
    return copied;
  return cuStreamSynchronize(stream);
}

struct Rectangle {
  void* destination;
  std::size_t destination_pitch;
  const void* source;
  std::size_t source_pitch;
  std::size_t width;
  std::size_t height;
};

CUresult copy_rows_on_host(const Rectangle& r, CUstream stream) {
  if (const CUresult waited = cuStreamSynchronize(stream); waited != CUDA_SUCCESS) return waited;
  for (std::size_t row = 0; row < r.height; ++row)
    std::memmove(static_cast<char*>(r.destination) + row * r.destination_pitch,
                 static_cast<const char*>(r.source) + row * r.source_pitch, r.width);
  return CUDA_SUCCESS;
}

CUresult copy_rectangle(const Rectangle& r, Direction direction, CUstream stream, Completion completion) {
  if (direction == Direction::kHostToHost) return copy_rows_on_host(r, stream);
  CUDA_MEMCPY2D copy{};
  copy.srcMemoryType = source_type(direction);
  copy.srcHost = copy.srcMemoryType == CU_MEMORYTYPE_HOST ? r.source : nullptr;
  copy.srcDevice = copy.srcMemoryType == CU_MEMORYTYPE_DEVICE ? device_pointer(r.source) : 0;
  copy.srcPitch = r.source_pitch;
  copy.dstMemoryType = destination_type(direction);
  copy.dstHost = copy.dstMemoryType == CU_MEMORYTYPE_HOST ? r.destination : nullptr;
  copy.dstDevice = copy.dstMemoryType == CU_MEMORYTYPE_DEVICE ? device_pointer(r.destination) : 0;
  copy.dstPitch = r.destination_pitch;
  copy.WidthInBytes = r.width;
  copy.Height = r.height;
  if (completion == Completion::kSynchronous && stream == nullptr) return cuMemcpy2DUnaligned(&copy);
  return finish(cuMemcpy2DAsync(&copy, stream), direction, stream, completion);
}

cudaError_t copy_2d(const Rectangle& r, cudaMemcpyKind kind, CUstream stream, Completion completion) {
  return in_context([&]() -> cudaError_t {
    Direction direction;
    if (!direction_of(kind, r.destination, r.source, &direction)) return cudaErrorInvalidMemcpyDirection;
    if (r.width > r.destination_pitch || r.width > r.source_pitch) return cudaErrorInvalidPitchValue;
    if (r.width == 0 || r.height == 0) return cudaSuccess;
    return to_runtime(copy_rectangle(r, direction, stream, completion));
  });
}

/// One end of a 3D copy in linear memory: the address of its first byte and its strides.
struct Box {
  char* first;
  std::size_t pitch;
  std::size_t rows;  ///< per slice
};

Box box(const cudaPitchedPtr& pitched, const cudaPos& position, std::size_t height) {
  // A pitched pointer may leave out its size when there is one slice.
  const std::size_t rows = pitched.ysize != 0 ? pitched.ysize : height;
  return {static_cast<char*>(pitched.ptr) + (position.z * rows + position.y) * pitched.pitch + position.x,
          pitched.pitch, rows};
}

CUresult copy_box(const Box& to, const Box& from, const cudaExtent& extent, Direction direction,
                  CUstream stream, Completion completion) {
  if (direction == Direction::kHostToHost || cuMemcpy3DAsync_v2 == nullptr) {
    for (std::size_t z = 0; z < extent.depth; ++z) {
      const Rectangle slice{to.first + z * to.rows * to.pitch,
                            to.pitch,
                            from.first + z * from.rows * from.pitch,
                            from.pitch,
                            extent.width,
                            extent.height};
      if (const CUresult copied = copy_rectangle(slice, direction, stream, completion);
          copied != CUDA_SUCCESS)
        return copied;
    }
    return CUDA_SUCCESS;
  }
  CUDA_MEMCPY3D copy{};
  copy.srcMemoryType = source_type(direction);
  copy.srcHost = copy.srcMemoryType == CU_MEMORYTYPE_HOST ? from.first : nullptr;
  copy.srcDevice = copy.srcMemoryType == CU_MEMORYTYPE_DEVICE ? device_pointer(from.first) : 0;
  copy.srcPitch = from.pitch;
  copy.srcHeight = from.rows;
  copy.dstMemoryType = destination_type(direction);
  copy.dstHost = copy.dstMemoryType == CU_MEMORYTYPE_HOST ? to.first : nullptr;
  copy.dstDevice = copy.dstMemoryType == CU_MEMORYTYPE_DEVICE ? device_pointer(to.first) : 0;
  copy.dstPitch = to.pitch;
  copy.dstHeight = to.rows;
  copy.WidthInBytes = extent.width;
  copy.Height = extent.height;
  copy.Depth = extent.depth;
  if (completion == Completion::kSynchronous && stream == nullptr) return cuMemcpy3D_v2(&copy);
  return finish(cuMemcpy3DAsync_v2(&copy, stream), direction, stream, completion);
}

/// A copy with an array on a side: positions and extent are in its elements, those of memory beside
/// it in bytes.
struct ArrayCopy {
  CUDA_MEMCPY3D copy{};
  std::size_t element = 0;  ///< bytes

  cudaError_t add_array(cudaArray_const_t array) {
    std::size_t bytes = 0;
    if (const CUresult result = element_bytes(array, &bytes); result != CUDA_SUCCESS) return to_runtime(result);
    if (element != 0 && element != bytes) return cudaErrorInvalidValue;
    element = bytes;
    return cudaSuccess;
  }
};

/// The kind of memory on the side that is no array; false for kinds that do not fit.
bool beside_array(cudaMemcpyKind kind, const cudaMemcpy3DParms& p, CUmemorytype* type) {
  const bool both = p.srcArray != nullptr && p.dstArray != nullptr;
  *type = kind == cudaMemcpyDefault          ? CU_MEMORYTYPE_UNIFIED
          : kind == cudaMemcpyDeviceToDevice ? CU_MEMORYTYPE_DEVICE
                                             : CU_MEMORYTYPE_HOST;
  if (kind == cudaMemcpyDefault || kind == cudaMemcpyDeviceToDevice) return true;
  return !both && kind == (p.dstArray != nullptr ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost);
}

void add_memory(CUDA_MEMCPY3D& copy, const cudaMemcpy3DParms& p, CUmemorytype type) {
  if (p.srcArray == nullptr) {
    copy.srcMemoryType = type;
    copy.srcHost = p.srcPtr.ptr;
    copy.srcDevice = device_pointer(p.srcPtr.ptr);
    copy.srcPitch = p.srcPtr.pitch;
    copy.srcHeight = p.srcPtr.ysize;
    copy.srcXInBytes = p.srcPos.x;
  }
  if (p.dstArray == nullptr) {
    copy.dstMemoryType = type;
    copy.dstHost = p.dstPtr.ptr;
    copy.dstDevice = device_pointer(p.dstPtr.ptr);
    copy.dstPitch = p.dstPtr.pitch;
    copy.dstHeight = p.dstPtr.ysize;
    copy.dstXInBytes = p.dstPos.x;
  }
}

cudaError_t copy_3d_array(const cudaMemcpy3DParms& p, CUstream stream, Completion completion) {
  return in_context([&]() -> cudaError_t {
    if ((p.srcArray != nullptr) == (p.srcPtr.ptr != nullptr) || (p.dstArray != nullptr) == (p.dstPtr.ptr != nullptr))
      return cudaErrorInvalidValue;
    CUmemorytype type;
    if (!beside_array(p.kind, p, &type)) return cudaErrorInvalidMemcpyDirection;
    ArrayCopy all;
    CUDA_MEMCPY3D& copy = all.copy;
    for (const cudaArray_t array : {p.srcArray, p.dstArray}) {
      if (array == nullptr) continue;
      if (const cudaError_t error = all.add_array(array); error != cudaSuccess) return error;
    }
    add_memory(copy, p, type);
    if (p.srcArray != nullptr) {
      copy.srcMemoryType = CU_MEMORYTYPE_ARRAY;
      copy.srcArray = driver_array(p.srcArray);
      copy.srcXInBytes = p.srcPos.x * all.element;
    }
    if (p.dstArray != nullptr) {
      copy.dstMemoryType = CU_MEMORYTYPE_ARRAY;
      copy.dstArray = driver_array(p.dstArray);
      copy.dstXInBytes = p.dstPos.x * all.element;
    }
    copy.srcY = p.srcPos.y;
    copy.srcZ = p.srcPos.z;
    copy.dstY = p.dstPos.y;
    copy.dstZ = p.dstPos.z;
    copy.WidthInBytes = p.extent.width * all.element;
    copy.Height = p.extent.height;
    copy.Depth = p.extent.depth;
    const bool pitch_too_small = (p.srcArray == nullptr && copy.srcPitch < copy.WidthInBytes + copy.srcXInBytes) ||
                                 (p.dstArray == nullptr && copy.dstPitch < copy.WidthInBytes + copy.dstXInBytes);
    if (copy.WidthInBytes == 0 || copy.Height == 0 || copy.Depth == 0) return cudaSuccess;
    if (pitch_too_small) return cudaErrorInvalidValue;  // beside an array, unlike in copies of memory
    const bool synchronous = completion == Completion::kSynchronous;
    if (synchronous && stream == nullptr) return to_runtime(cuMemcpy3D_v2(&copy));
    const CUresult copied = cuMemcpy3DAsync_v2(&copy, stream);
    if (copied != CUDA_SUCCESS || !synchronous || type == CU_MEMORYTYPE_DEVICE) return to_runtime(copied);
    return to_runtime(cuStreamSynchronize(stream));
  });
}

cudaError_t copy_3d(const cudaMemcpy3DParms* parameters, CUstream stream, Completion completion) {
  if (parameters == nullptr) return done(cudaErrorInvalidValue);
  const cudaMemcpy3DParms& p = *parameters;
  if (p.srcArray != nullptr || p.dstArray != nullptr) return copy_3d_array(p, stream, completion);
  return in_context([&]() -> cudaError_t {
    Direction direction;
    if (!direction_of(p.kind, p.dstPtr.ptr, p.srcPtr.ptr, &direction)) return cudaErrorInvalidMemcpyDirection;
    if (p.extent.width == 0 || p.extent.height == 0 || p.extent.depth == 0) return cudaSuccess;
    if (p.dstPtr.ptr == nullptr || p.srcPtr.ptr == nullptr) return cudaErrorInvalidValue;
    if (p.extent.width + p.dstPos.x > p.dstPtr.pitch || p.extent.width + p.srcPos.x > p.srcPtr.pitch)
      return cudaErrorInvalidPitchValue;
    const Box to = box(p.dstPtr, p.dstPos, p.extent.height);
    const Box from = box(p.srcPtr, p.srcPos, p.extent.height);
    if (p.extent.depth > 1 &&
        (p.extent.height + p.dstPos.y > to.rows || p.extent.height + p.srcPos.y > from.rows))
      return cudaErrorInvalidValue;
    return to_runtime(copy_box(to, from, p.extent, direction, stream, completion));
  });
}

cudaError_t copy_3d_peer(const cudaMemcpy3DPeerParms* parameters, CUstream stream, Completion completion) {
  if (parameters == nullptr) return done(cudaErrorInvalidValue);
  CUdevice handle = 0;
  for (const int device : {parameters->srcDevice, parameters->dstDevice})
    if (const cudaError_t checked = check_device(device, &handle); checked != cudaSuccess)
      return done(checked);
  // Addresses are unique among all devices: the copy knows where it goes.
  cudaMemcpy3DParms same{};
  same.srcArray = parameters->srcArray;
  same.srcPos = parameters->srcPos;
  same.srcPtr = parameters->srcPtr;
  same.dstArray = parameters->dstArray;
  same.dstPos = parameters->dstPos;
  same.dstPtr = parameters->dstPtr;
  same.extent = parameters->extent;
  same.kind = cudaMemcpyDeviceToDevice;
  return copy_3d(&same, stream, completion);
}

}  // namespace

AVEC_STREAM_PAIR(cudaMemcpy2D, _ptds,
                 (void* destination, std::size_t destination_pitch, const void* source,
                  std::size_t source_pitch, std::size_t width, std::size_t height, cudaMemcpyKind kind),
                 return copy_2d({destination, destination_pitch, source, source_pitch, width, height}, kind,
                                resolve_stream<kDefault>(nullptr), Completion::kSynchronous);)

AVEC_STREAM_PAIR(cudaMemcpy2DAsync, _ptsz,
                 (void* destination, std::size_t destination_pitch, const void* source,
                  std::size_t source_pitch, std::size_t width, std::size_t height, cudaMemcpyKind kind,
                  cudaStream_t stream),
                 return copy_2d({destination, destination_pitch, source, source_pitch, width, height}, kind,
                                resolve_stream<kDefault>(stream), Completion::kAsynchronous);)

AVEC_STREAM_PAIR(cudaMemcpy3D, _ptds, (const cudaMemcpy3DParms* parameters),
                 return copy_3d(parameters, resolve_stream<kDefault>(nullptr), Completion::kSynchronous);)

AVEC_STREAM_PAIR(cudaMemcpy3DAsync, _ptsz, (const cudaMemcpy3DParms* parameters, cudaStream_t stream),
                 return copy_3d(parameters, resolve_stream<kDefault>(stream), Completion::kAsynchronous);)

AVEC_STREAM_PAIR(cudaMemcpy3DPeer, _ptds, (const cudaMemcpy3DPeerParms* parameters),
                 return copy_3d_peer(parameters, resolve_stream<kDefault>(nullptr),
                                     Completion::kSynchronous);)

AVEC_STREAM_PAIR(cudaMemcpy3DPeerAsync, _ptsz, (const cudaMemcpy3DPeerParms* parameters, cudaStream_t stream),
                 return copy_3d_peer(parameters, resolve_stream<kDefault>(stream),
                                     Completion::kAsynchronous);)
