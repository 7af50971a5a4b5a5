#include "client/stream_memory.h"

#include "entry.h"

using namespace avec::client;

// The plain names are those of CUDA 8: the same functions without memory barriers.
#define AVEC_STREAM_VALUE_CALL(name, type, function, wide)                                      \
  AVEC_DRIVER_STREAM_CALL(name, (CUstream stream, CUdeviceptr address, type value, unsigned flags), \
                          function(stream, address, value, flags, wide))

AVEC_STREAM_VALUE_CALL(cuStreamWaitValue32, cuuint32_t, stream_wait_value, false)
AVEC_STREAM_VALUE_CALL(cuStreamWaitValue64, cuuint64_t, stream_wait_value, true)
AVEC_STREAM_VALUE_CALL(cuStreamWriteValue32, cuuint32_t, stream_write_value, false)
AVEC_STREAM_VALUE_CALL(cuStreamWriteValue64, cuuint64_t, stream_write_value, true)
AVEC_STREAM_VALUE_CALL(cuStreamWaitValue32_v2, cuuint32_t, stream_wait_value, false)
AVEC_STREAM_VALUE_CALL(cuStreamWaitValue64_v2, cuuint64_t, stream_wait_value, true)
AVEC_STREAM_VALUE_CALL(cuStreamWriteValue32_v2, cuuint32_t, stream_write_value, false)
AVEC_STREAM_VALUE_CALL(cuStreamWriteValue64_v2, cuuint64_t, stream_write_value, true)
AVEC_DRIVER_STREAM_CALL(cuStreamBatchMemOp,
                        (CUstream stream, unsigned count, CUstreamBatchMemOpParams* operations, unsigned flags),
                        stream_memory_operations(stream, count, operations, flags, false))
AVEC_DRIVER_STREAM_CALL(cuStreamBatchMemOp_v2,
                        (CUstream stream, unsigned count, CUstreamBatchMemOpParams* operations, unsigned flags),
                        stream_memory_operations(stream, count, operations, flags, true))
AVEC_DRIVER_CALL(cuFlushGPUDirectRDMAWrites,
                 (CUflushGPUDirectRDMAWritesTarget target, CUflushGPUDirectRDMAWritesScope scope),
                 flush_remote_writes(target, scope))

AVEC_DRIVER_CALL(cuTensorMapEncodeTiled,
                 (CUtensorMap * map, CUtensorMapDataType type, cuuint32_t rank, void* address, const cuuint64_t* sizes,
                  const cuuint64_t* strides, const cuuint32_t* box, const cuuint32_t* steps,
                  CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                  CUtensorMapFloatOOBfill fill),
                 tensor_map_encode(map, {.kind = TensorMapArguments::kTiled,
                                         .data_type = type,
                                         .rank = rank,
                                         .address = address,
                                         .sizes = sizes,
                                         .strides = strides,
                                         .box = box,
                                         .element_strides = steps,
                                         .interleave = interleave,
                                         .swizzle = swizzle,
                                         .promotion = promotion,
                                         .fill = fill}))
AVEC_DRIVER_CALL(cuTensorMapEncodeIm2col,
                 (CUtensorMap * map, CUtensorMapDataType type, cuuint32_t rank, void* address, const cuuint64_t* sizes,
                  const cuuint64_t* strides, const int* lower, const int* upper, cuuint32_t channels,
                  cuuint32_t pixels, const cuuint32_t* steps, CUtensorMapInterleave interleave,
                  CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill),
                 tensor_map_encode(map, {.kind = TensorMapArguments::kIm2col,
                                         .data_type = type,
                                         .rank = rank,
                                         .address = address,
                                         .sizes = sizes,
                                         .strides = strides,
                                         .element_strides = steps,
                                         .lower_corner = lower,
                                         .upper_corner = upper,
                                         .channels = channels,
                                         .pixels = pixels,
                                         .interleave = interleave,
                                         .swizzle = swizzle,
                                         .promotion = promotion,
                                         .fill = fill}))
AVEC_DRIVER_CALL(cuTensorMapEncodeIm2colWide,
                 (CUtensorMap * map, CUtensorMapDataType type, cuuint32_t rank, void* address, const cuuint64_t* sizes,
                  const cuuint64_t* strides, int lower, int upper, cuuint32_t channels, cuuint32_t pixels,
                  const cuuint32_t* steps, CUtensorMapInterleave interleave, CUtensorMapIm2ColWideMode mode,
                  CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill),
                 tensor_map_encode(map, {.kind = TensorMapArguments::kIm2colWide,
                                         .data_type = type,
                                         .rank = rank,
                                         .address = address,
                                         .sizes = sizes,
                                         .strides = strides,
                                         .element_strides = steps,
                                         .lower_corner = &lower,
                                         .upper_corner = &upper,
                                         .channels = channels,
                                         .pixels = pixels,
                                         .interleave = interleave,
                                         .mode = mode,
                                         .swizzle = swizzle,
                                         .promotion = promotion,
                                         .fill = fill}))
AVEC_DRIVER_CALL(cuTensorMapReplaceAddress, (CUtensorMap * map, void* address),
                 tensor_map_encode(map, {.kind = TensorMapArguments::kReplaceAddress, .address = address}))
