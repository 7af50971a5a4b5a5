#include "copy.h"

#include <cstring>

#include "api.h"

namespace avec::runtime {
namespace {

/// Memory that only the device can reach. Host memory, pinned or not, is not.
bool on_device(const void* pointer) {
  unsigned type = 0;
  return cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, device_pointer(pointer)) ==
             CUDA_SUCCESS &&
         type == CU_MEMORYTYPE_DEVICE;
}

/// Between two host buffers: synchronous whatever the function, after what the stream still does.
CUresult copy_on_host(void* destination, const void* source, std::size_t bytes, CUstream stream) {
  if (destination == nullptr || source == nullptr || on_device(destination) || on_device(source))
    return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult waited = cuStreamSynchronize(stream); waited != CUDA_SUCCESS) return waited;
  std::memmove(destination, source, bytes);
  return CUDA_SUCCESS;
}

CUresult copy_async(void* destination, const void* source, std::size_t bytes, Direction direction,
                    CUstream stream) {
  switch (direction) {
    case Direction::kHostToDevice:
      return cuMemcpyHtoDAsync(device_pointer(destination), source, bytes, stream);
    case Direction::kDeviceToHost:
      return cuMemcpyDtoHAsync(destination, device_pointer(source), bytes, stream);
    case Direction::kDeviceToDevice:
      return cuMemcpyDtoDAsync(device_pointer(destination), device_pointer(source), bytes, stream);
    case Direction::kHostToHost:
      break;
  }
  return copy_on_host(destination, source, bytes, stream);
}

CUresult copy_sync(void* destination, const void* source, std::size_t bytes, Direction direction,
                   CUstream stream) {
  // The driver's synchronous functions are for the legacy stream.
  if (stream == nullptr) {
    switch (direction) {
      case Direction::kHostToDevice:
        return cuMemcpyHtoD(device_pointer(destination), source, bytes);
      case Direction::kDeviceToHost:
        return cuMemcpyDtoH(destination, device_pointer(source), bytes);
      case Direction::kDeviceToDevice:
        return cuMemcpyDtoD(device_pointer(destination), device_pointer(source), bytes);
      case Direction::kHostToHost:
        return copy_on_host(destination, source, bytes, stream);
    }
  }
  const CUresult copied = copy_async(destination, source, bytes, direction, stream);
  // Between device buffers nobody on the host waits, as with the legacy stream.
  if (copied != CUDA_SUCCESS || direction == Direction::kDeviceToDevice) return copied;
  return cuStreamSynchronize(stream);
}

}  // namespace

bool direction_of(cudaMemcpyKind kind, const void* destination, const void* source,
                  Direction* direction) noexcept {
  switch (kind) {
    case cudaMemcpyHostToHost:
      *direction = Direction::kHostToHost;
      return true;
    case cudaMemcpyHostToDevice:
      *direction = Direction::kHostToDevice;
      return true;
    case cudaMemcpyDeviceToHost:
      *direction = Direction::kDeviceToHost;
      return true;
    case cudaMemcpyDeviceToDevice:
      *direction = Direction::kDeviceToDevice;
      return true;
    case cudaMemcpyDefault: {
      const bool to_device = on_device(destination);
      const bool from_device = on_device(source);
      *direction = from_device ? (to_device ? Direction::kDeviceToDevice : Direction::kDeviceToHost)
                               : (to_device ? Direction::kHostToDevice : Direction::kHostToHost);
      return true;
    }
  }
  return false;
}

cudaError_t copy_linear(void* destination, const void* source, std::size_t bytes, cudaMemcpyKind kind,
                        CUstream stream, Completion completion) noexcept {
  Direction direction;
  if (!direction_of(kind, destination, source, &direction)) return cudaErrorInvalidMemcpyDirection;
  if (bytes == 0) return cudaSuccess;
  return to_runtime(completion == Completion::kSynchronous
                        ? copy_sync(destination, source, bytes, direction, stream)
                        : copy_async(destination, source, bytes, direction, stream));
}

}  // namespace avec::runtime

using namespace avec::runtime;

AVEC_STREAM_PAIR(cudaMemcpy, _ptds,
                 (void* destination, const void* source, std::size_t bytes, cudaMemcpyKind kind),
                 return in_context([&] {
                   return copy_linear(destination, source, bytes, kind, resolve_stream<kDefault>(nullptr),
                                      Completion::kSynchronous);
                 });)

AVEC_STREAM_PAIR(cudaMemcpyAsync, _ptsz,
                 (void* destination, const void* source, std::size_t bytes, cudaMemcpyKind kind,
                  cudaStream_t stream),
                 return in_context([&] {
                   return copy_linear(destination, source, bytes, kind, resolve_stream<kDefault>(stream),
                                      Completion::kAsynchronous);
                 });)

namespace {

cudaError_t copy_peer(void* destination, int destination_device, const void* source, int source_device,
                      std::size_t bytes, CUstream stream, Completion completion) {
  CUdevice handle = 0;
  if (const cudaError_t checked = check_device(destination_device, &handle); checked != cudaSuccess)
    return done(checked);
  if (const cudaError_t checked = check_device(source_device, &handle); checked != cudaSuccess)
    return done(checked);
  return in_context([&]() -> CUresult {
    CUcontext to = nullptr;
    CUcontext from = nullptr;
    if (bytes == 0) return CUDA_SUCCESS;
    if (const CUresult got = primary_context(destination_device, &to); got != CUDA_SUCCESS) return got;
    if (const CUresult got = primary_context(source_device, &from); got != CUDA_SUCCESS) return got;
    if (to == from)
      return cuMemcpyDtoDAsync(device_pointer(destination), device_pointer(source), bytes, stream);
    return completion == Completion::kSynchronous
               ? cuMemcpyPeer(device_pointer(destination), to, device_pointer(source), from, bytes)
               : cuMemcpyPeerAsync(device_pointer(destination), to, device_pointer(source), from, bytes,
                                   stream);
  });
}

}  // namespace

cudaError_t cudaMemcpyPeer(void* destination, int destination_device, const void* source, int source_device,
                           std::size_t bytes) {
  AVEC_COUNTED;
  return copy_peer(destination, destination_device, source, source_device, bytes, nullptr,
                   Completion::kSynchronous);
}

cudaError_t cudaMemcpyPeerAsync(void* destination, int destination_device, const void* source,
                                int source_device, std::size_t bytes, cudaStream_t stream) {
  AVEC_COUNTED;
  return copy_peer(destination, destination_device, source, source_device, bytes, stream,
                   Completion::kAsynchronous);
}
