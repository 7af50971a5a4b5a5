#include "client/copy.h"

#include "entry.h"

using namespace avec::client;
using enum Completion;

AVEC_DRIVER_DEFAULT_STREAM_CALL(cuMemcpy, (CUdeviceptr to, CUdeviceptr from, size_t bytes),
                                copy(to, from, bytes, stream, kSynchronous))
AVEC_DRIVER_DEFAULT_STREAM_CALL(cuMemcpyHtoD_v2, (CUdeviceptr to, const void* from, size_t bytes),
                                copy_to_device(to, from, bytes, stream, kSynchronous))
AVEC_DRIVER_DEFAULT_STREAM_CALL(cuMemcpyDtoH_v2, (void* to, CUdeviceptr from, size_t bytes),
                                copy_from_device(to, from, bytes, stream, kSynchronous))
AVEC_DRIVER_DEFAULT_STREAM_CALL(cuMemcpyDtoD_v2, (CUdeviceptr to, CUdeviceptr from, size_t bytes),
                                copy_on_device(to, from, bytes, stream))
AVEC_DRIVER_DEFAULT_STREAM_CALL(cuMemcpyPeer,
                                (CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
                                 CUcontext from_context, size_t bytes),
                                copy_peer(to, to_context, from, from_context, bytes, stream, kSynchronous))

AVEC_DRIVER_STREAM_CALL(cuMemcpyAsync, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream),
                        copy(to, from, bytes, stream, kAsynchronous))
AVEC_DRIVER_STREAM_CALL(cuMemcpyHtoDAsync_v2,
                        (CUdeviceptr to, const void* from, size_t bytes, CUstream stream),
                        copy_to_device(to, from, bytes, stream, kAsynchronous))
AVEC_DRIVER_STREAM_CALL(cuMemcpyDtoHAsync_v2, (void* to, CUdeviceptr from, size_t bytes, CUstream stream),
                        copy_from_device(to, from, bytes, stream, kAsynchronous))
AVEC_DRIVER_STREAM_CALL(cuMemcpyDtoDAsync_v2,
                        (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream),
                        copy_on_device(to, from, bytes, stream))
AVEC_DRIVER_STREAM_CALL(cuMemcpyPeerAsync,
                        (CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                         size_t bytes, CUstream stream),
                        copy_peer(to, to_context, from, from_context, bytes, stream, kAsynchronous))

AVEC_DRIVER_DEFAULT_STREAM_CALL(cuMemcpy2D_v2, (const CUDA_MEMCPY2D* what),
                                what == nullptr ? CUDA_ERROR_INVALID_VALUE
                                                : copy_2d(*what, stream, kSynchronous))
AVEC_DRIVER_DEFAULT_STREAM_CALL(cuMemcpy2DUnaligned_v2, (const CUDA_MEMCPY2D* what),
                                what == nullptr ? CUDA_ERROR_INVALID_VALUE
                                                : copy_2d(*what, stream, kSynchronous))
AVEC_DRIVER_STREAM_CALL(cuMemcpy2DAsync_v2, (const CUDA_MEMCPY2D* what, CUstream stream),
                        what == nullptr ? CUDA_ERROR_INVALID_VALUE : copy_2d(*what, stream, kAsynchronous))
AVEC_DRIVER_DEFAULT_STREAM_CALL(cuMemcpy3D_v2, (const CUDA_MEMCPY3D* what),
                                what == nullptr ? CUDA_ERROR_INVALID_VALUE
                                                : copy_3d(*what, stream, kSynchronous))
AVEC_DRIVER_STREAM_CALL(cuMemcpy3DAsync_v2, (const CUDA_MEMCPY3D* what, CUstream stream),
                        what == nullptr ? CUDA_ERROR_INVALID_VALUE : copy_3d(*what, stream, kAsynchronous))

AVEC_DRIVER_DEFAULT_STREAM_CALL(cuMemcpy3DPeer, (const CUDA_MEMCPY3D_PEER* what),
                                what == nullptr ? CUDA_ERROR_INVALID_VALUE
                                                : copy_3d_peer(*what, stream, kSynchronous))
AVEC_DRIVER_STREAM_CALL(cuMemcpy3DPeerAsync, (const CUDA_MEMCPY3D_PEER* what, CUstream stream),
                        what == nullptr ? CUDA_ERROR_INVALID_VALUE
                                        : copy_3d_peer(*what, stream, kAsynchronous))

AVEC_DRIVER_DEFAULT_STREAM_CALL(cuMemsetD8_v2, (CUdeviceptr to, unsigned char value, size_t count),
                                set_memory(to, 0, value, 1, count, 1, stream, kSynchronous))
AVEC_DRIVER_DEFAULT_STREAM_CALL(cuMemsetD16_v2, (CUdeviceptr to, unsigned short value, size_t count),
                                set_memory(to, 0, value, 2, count, 1, stream, kSynchronous))
AVEC_DRIVER_DEFAULT_STREAM_CALL(cuMemsetD32_v2, (CUdeviceptr to, unsigned value, size_t count),
                                set_memory(to, 0, value, 4, count, 1, stream, kSynchronous))
AVEC_DRIVER_DEFAULT_STREAM_CALL(cuMemsetD2D8_v2,
                                (CUdeviceptr to, size_t pitch, unsigned char value, size_t width,
                                 size_t height),
                                set_memory(to, pitch, value, 1, width, height, stream, kSynchronous))
AVEC_DRIVER_DEFAULT_STREAM_CALL(cuMemsetD2D16_v2,
                                (CUdeviceptr to, size_t pitch, unsigned short value, size_t width,
                                 size_t height),
                                set_memory(to, pitch, value, 2, width, height, stream, kSynchronous))
AVEC_DRIVER_DEFAULT_STREAM_CALL(cuMemsetD2D32_v2,
                                (CUdeviceptr to, size_t pitch, unsigned value, size_t width, size_t height),
                                set_memory(to, pitch, value, 4, width, height, stream, kSynchronous))
AVEC_DRIVER_STREAM_CALL(cuMemsetD8Async, (CUdeviceptr to, unsigned char value, size_t count, CUstream stream),
                        set_memory(to, 0, value, 1, count, 1, stream, kAsynchronous))
AVEC_DRIVER_STREAM_CALL(cuMemsetD16Async,
                        (CUdeviceptr to, unsigned short value, size_t count, CUstream stream),
                        set_memory(to, 0, value, 2, count, 1, stream, kAsynchronous))
AVEC_DRIVER_STREAM_CALL(cuMemsetD32Async, (CUdeviceptr to, unsigned value, size_t count, CUstream stream),
                        set_memory(to, 0, value, 4, count, 1, stream, kAsynchronous))
AVEC_DRIVER_STREAM_CALL(cuMemsetD2D8Async,
                        (CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height,
                         CUstream stream),
                        set_memory(to, pitch, value, 1, width, height, stream, kAsynchronous))
AVEC_DRIVER_STREAM_CALL(cuMemsetD2D16Async,
                        (CUdeviceptr to, size_t pitch, unsigned short value, size_t width, size_t height,
                         CUstream stream),
                        set_memory(to, pitch, value, 2, width, height, stream, kAsynchronous))
AVEC_DRIVER_STREAM_CALL(cuMemsetD2D32Async,
                        (CUdeviceptr to, size_t pitch, unsigned value, size_t width, size_t height,
                         CUstream stream),
                        set_memory(to, pitch, value, 4, width, height, stream, kAsynchronous))
