// Copies of rectangles and of bytes between arrays and memory.
#include <algorithm>

#include "api.h"
#include "array.h"
#include "copy.h"

using namespace avec::runtime;

namespace {

/// A rectangle's beginning in an array (x in bytes), or in memory.
struct Place {
  cudaArray_const_t array = nullptr;
  std::size_t x = 0, y = 0;
  const void* pointer = nullptr;
  std::size_t pitch = 0;
  CUmemorytype type = CU_MEMORYTYPE_ARRAY;
};

/// The kind of memory beside an array; false for kinds that do not fit.
bool memory_type(cudaMemcpyKind kind, bool to_array, CUmemorytype* type) {
  switch (kind) {
    case cudaMemcpyHostToDevice:
      *type = CU_MEMORYTYPE_HOST;
      return to_array;
    case cudaMemcpyDeviceToHost:
      *type = CU_MEMORYTYPE_HOST;
      return !to_array;
    case cudaMemcpyDeviceToDevice:
      *type = CU_MEMORYTYPE_DEVICE;
      return true;
    case cudaMemcpyDefault:
      *type = CU_MEMORYTYPE_UNIFIED;
      return true;
    default:
      return false;
  }
}

CUDA_MEMCPY2D description(const Place& to, const Place& from, std::size_t width, std::size_t height) {
  CUDA_MEMCPY2D copy{};
  copy.srcMemoryType = from.type;
  copy.srcArray = driver_array(from.array);
  copy.srcHost = from.type == CU_MEMORYTYPE_HOST ? from.pointer : nullptr;
  copy.srcDevice = device_pointer(from.pointer);
  copy.srcPitch = from.pitch;
  copy.srcXInBytes = from.x;
  copy.srcY = from.y;
  copy.dstMemoryType = to.type;
  copy.dstArray = driver_array(to.array);
  copy.dstHost = to.type == CU_MEMORYTYPE_HOST ? const_cast<void*>(to.pointer) : nullptr;
  copy.dstDevice = device_pointer(to.pointer);
  copy.dstPitch = to.pitch;
  copy.dstXInBytes = to.x;
  copy.dstY = to.y;
  copy.WidthInBytes = width;
  copy.Height = height;
  return copy;
}

CUresult copy_rectangle(const Place& to, const Place& from, std::size_t width, std::size_t height, CUstream stream,
                        Completion completion) {
  if (width == 0 || height == 0) return CUDA_SUCCESS;
  const CUDA_MEMCPY2D copy = description(to, from, width, height);
  const bool synchronous = completion == Completion::kSynchronous;
  if (synchronous && stream == nullptr) return cuMemcpy2DUnaligned(&copy);
  const CUresult copied = cuMemcpy2DAsync(&copy, stream);
  const bool on_device = from.type != CU_MEMORYTYPE_HOST && to.type != CU_MEMORYTYPE_HOST;
  return copied != CUDA_SUCCESS || !synchronous || on_device ? copied : cuStreamSynchronize(stream);
}

cudaError_t copy_2d(Place array, Place memory, bool to_array, std::size_t width, std::size_t height,
                    cudaMemcpyKind kind, CUstream stream, Completion completion) {
  return in_context([&]() -> cudaError_t {
    if (!memory_type(kind, to_array, &memory.type)) return cudaErrorInvalidMemcpyDirection;
    if (array.array == nullptr) return cudaErrorInvalidValue;
    if (width > memory.pitch) return cudaErrorInvalidPitchValue;
    return to_runtime(copy_rectangle(to_array ? array : memory, to_array ? memory : array, width, height, stream,
                                     completion));
  });
}

CUresult row_bytes(cudaArray_const_t array, std::size_t* bytes) {
  CUDA_ARRAY3D_DESCRIPTOR descriptor;
  CUresult result = cuArray3DGetDescriptor(&descriptor, driver_array(array));
  std::size_t element = 0;
  if (result == CUDA_SUCCESS) result = element_bytes(array, &element);
  *bytes = descriptor.Width * element;
  return result;
}

/// Takes `bytes` from the beginning of one place's rows on, to the other's: each rectangle that is one
/// in both is a copy. Memory is one long row.
CUresult copy_bytes(Place to, Place from, std::size_t bytes, CUstream stream, Completion completion) {
  std::size_t to_row = bytes, from_row = bytes;
  CUresult result = CUDA_SUCCESS;
  if (to.array != nullptr) result = row_bytes(to.array, &to_row);
  if (result == CUDA_SUCCESS && from.array != nullptr) result = row_bytes(from.array, &from_row);
  const auto advance = [](Place& place, std::size_t row, std::size_t moved, std::size_t rows) {
    if (place.array == nullptr) {
      place.pointer = static_cast<const char*>(place.pointer) + moved * rows;
    } else if (rows > 1) {
      place.y += rows;
    } else if (place.x += moved; place.x >= row) {
      place.x = 0;
      ++place.y;
    }
  };
  while (result == CUDA_SUCCESS && bytes != 0) {
    const auto room = [](const Place& place, std::size_t row) { return place.array != nullptr ? row - place.x : row; };
    if ((to.array != nullptr && to.x >= to_row) || (from.array != nullptr && from.x >= from_row))
      return CUDA_ERROR_INVALID_VALUE;
    const std::size_t width = std::min({bytes, room(to, to_row), room(from, from_row)});
    const bool whole = (to.array == nullptr || width == to_row) && (from.array == nullptr || width == from_row);
    const std::size_t rows = whole ? bytes / width : 1;
    if (to.array == nullptr) to.pitch = width;
    if (from.array == nullptr) from.pitch = width;
    result = copy_rectangle(to, from, width, rows, stream, completion);
    advance(to, to_row, width, rows);
    advance(from, from_row, width, rows);
    bytes -= width * rows;
  }
  return result;
}

cudaError_t copy_linear(Place array, Place memory, bool to_array, std::size_t bytes, cudaMemcpyKind kind,
                        CUstream stream, Completion completion) {
  return in_context([&]() -> cudaError_t {
    if (!memory_type(kind, to_array, &memory.type)) return cudaErrorInvalidMemcpyDirection;
    if (array.array == nullptr) return cudaErrorInvalidValue;
    return to_runtime(copy_bytes(to_array ? array : memory, to_array ? memory : array, bytes, stream, completion));
  });
}

Place in_array(cudaArray_const_t array, std::size_t x, std::size_t y) { return {array, x, y}; }
Place in_memory(const void* pointer, std::size_t pitch = 0) { return {nullptr, 0, 0, pointer, pitch}; }

}  // namespace

AVEC_STREAM_PAIR(cudaMemcpy2DToArray, _ptds,
                 (cudaArray_t to, std::size_t x, std::size_t y, const void* from, std::size_t pitch,
                  std::size_t width, std::size_t height, cudaMemcpyKind kind),
                 return copy_2d(in_array(to, x, y), in_memory(from, pitch), true, width, height, kind,
                                resolve_stream<kDefault>(nullptr), Completion::kSynchronous);)
AVEC_STREAM_PAIR(cudaMemcpy2DToArrayAsync, _ptsz,
                 (cudaArray_t to, std::size_t x, std::size_t y, const void* from, std::size_t pitch,
                  std::size_t width, std::size_t height, cudaMemcpyKind kind, cudaStream_t stream),
                 return copy_2d(in_array(to, x, y), in_memory(from, pitch), true, width, height, kind,
                                resolve_stream<kDefault>(stream), Completion::kAsynchronous);)
AVEC_STREAM_PAIR(cudaMemcpy2DFromArray, _ptds,
                 (void* to, std::size_t pitch, cudaArray_const_t from, std::size_t x, std::size_t y,
                  std::size_t width, std::size_t height, cudaMemcpyKind kind),
                 return copy_2d(in_array(from, x, y), in_memory(to, pitch), false, width, height, kind,
                                resolve_stream<kDefault>(nullptr), Completion::kSynchronous);)
AVEC_STREAM_PAIR(cudaMemcpy2DFromArrayAsync, _ptsz,
                 (void* to, std::size_t pitch, cudaArray_const_t from, std::size_t x, std::size_t y,
                  std::size_t width, std::size_t height, cudaMemcpyKind kind, cudaStream_t stream),
                 return copy_2d(in_array(from, x, y), in_memory(to, pitch), false, width, height, kind,
                                resolve_stream<kDefault>(stream), Completion::kAsynchronous);)
AVEC_STREAM_PAIR(cudaMemcpy2DArrayToArray, _ptds,
                 (cudaArray_t to, std::size_t to_x, std::size_t to_y, cudaArray_const_t from, std::size_t from_x,
                  std::size_t from_y, std::size_t width, std::size_t height, cudaMemcpyKind kind),
                 return in_context([&]() -> cudaError_t {
                   if (kind != cudaMemcpyDeviceToDevice && kind != cudaMemcpyDefault)
                     return cudaErrorInvalidMemcpyDirection;
                   return to_runtime(copy_rectangle(in_array(to, to_x, to_y), in_array(from, from_x, from_y), width,
                                                    height, resolve_stream<kDefault>(nullptr),
                                                    Completion::kSynchronous));
                 });)

AVEC_STREAM_PAIR(cudaMemcpyToArray, _ptds,
                 (cudaArray_t to, std::size_t x, std::size_t y, const void* from, std::size_t bytes,
                  cudaMemcpyKind kind),
                 return copy_linear(in_array(to, x, y), in_memory(from), true, bytes, kind,
                                    resolve_stream<kDefault>(nullptr), Completion::kSynchronous);)
AVEC_STREAM_PAIR(cudaMemcpyToArrayAsync, _ptsz,
                 (cudaArray_t to, std::size_t x, std::size_t y, const void* from, std::size_t bytes,
                  cudaMemcpyKind kind, cudaStream_t stream),
                 return copy_linear(in_array(to, x, y), in_memory(from), true, bytes, kind,
                                    resolve_stream<kDefault>(stream), Completion::kAsynchronous);)
AVEC_STREAM_PAIR(cudaMemcpyFromArray, _ptds,
                 (void* to, cudaArray_const_t from, std::size_t x, std::size_t y, std::size_t bytes,
                  cudaMemcpyKind kind),
                 return copy_linear(in_array(from, x, y), in_memory(to), false, bytes, kind,
                                    resolve_stream<kDefault>(nullptr), Completion::kSynchronous);)
AVEC_STREAM_PAIR(cudaMemcpyFromArrayAsync, _ptsz,
                 (void* to, cudaArray_const_t from, std::size_t x, std::size_t y, std::size_t bytes,
                  cudaMemcpyKind kind, cudaStream_t stream),
                 return copy_linear(in_array(from, x, y), in_memory(to), false, bytes, kind,
                                    resolve_stream<kDefault>(stream), Completion::kAsynchronous);)
AVEC_STREAM_PAIR(cudaMemcpyArrayToArray, _ptds,
                 (cudaArray_t to, std::size_t to_x, std::size_t to_y, cudaArray_const_t from, std::size_t from_x,
                  std::size_t from_y, std::size_t bytes, cudaMemcpyKind kind),
                 return in_context([&]() -> cudaError_t {
                   if (kind != cudaMemcpyDeviceToDevice && kind != cudaMemcpyDefault)
                     return cudaErrorInvalidMemcpyDirection;
                   return to_runtime(copy_bytes(in_array(to, to_x, to_y), in_array(from, from_x, from_y), bytes,
                                                resolve_stream<kDefault>(nullptr), Completion::kSynchronous));
                 });)
