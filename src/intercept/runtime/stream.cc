// Streams and events; functions of the host in stream order.
#include <memory>
#include <new>

#include "api.h"
#include "weak_driver.h"

using namespace avec::runtime;

namespace {

cudaError_t create_stream(cudaStream_t* stream, unsigned flags, const int* priority) {
  if (stream == nullptr || (flags & ~unsigned{cudaStreamNonBlocking}) != 0)
    return done(cudaErrorInvalidValue);
  return in_context([&] {
    return priority != nullptr ? cuStreamCreateWithPriority(stream, flags, *priority)
                               : cuStreamCreate(stream, flags);
  });
}

/// cudaStreamAddCallback's function with the argument types of the runtime API.
struct Callback {
  cudaStreamCallback_t function;
  void* data;
  cudaStream_t stream;
};

void CUDA_CB run_callback(CUstream, CUresult status, void* data) {
  const std::unique_ptr<Callback> callback(static_cast<Callback*>(data));
  callback->function(callback->stream, to_runtime(status), callback->data);
}

cudaError_t add_callback(cudaStream_t named, cudaStreamCallback_t function, void* data, unsigned flags,
                         CUstream stream) {
  if (function == nullptr || flags != 0) return done(cudaErrorInvalidValue);
  if (cuStreamAddCallback == nullptr) return done(cudaErrorNotSupported);
  return in_context([&]() -> CUresult {
    std::unique_ptr<Callback> callback(new (std::nothrow) Callback{function, data, named});
    if (callback == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
    const CUresult added = cuStreamAddCallback(stream, run_callback, callback.get(), 0);
    if (added == CUDA_SUCCESS) static_cast<void>(callback.release());  // run_callback owns it now
    return added;
  });
}

cudaError_t record(cudaEvent_t event, CUstream stream, unsigned flags) {
  if (event == nullptr) return done(cudaErrorInvalidResourceHandle);
  return in_context([&]() -> CUresult {
    if (flags == 0) return cuEventRecord(event, stream);
    return cuEventRecordWithFlags != nullptr ? cuEventRecordWithFlags(event, stream, flags)
                                             : CUDA_ERROR_NOT_SUPPORTED;
  });
}

static_assert(sizeof(cudaStreamAttrValue) == sizeof(CUstreamAttrValue));

}  // namespace

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  AVEC_COUNTED;
  return create_stream(stream, cudaStreamDefault, nullptr);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
  AVEC_COUNTED;
  return create_stream(stream, flags, nullptr);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int flags, int priority) {
  AVEC_COUNTED;
  return create_stream(stream, flags, &priority);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  AVEC_COUNTED;
  // The default streams are not the program's to destroy.
  if (stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread)
    return done(cudaErrorInvalidResourceHandle);
  return in_context([&] { return cuStreamDestroy(stream); });
}

AVEC_STREAM_PAIR(cudaStreamSynchronize, _ptsz, (cudaStream_t stream),
                 return in_context([&] { return cuStreamSynchronize(resolve_stream<kDefault>(stream)); });)

AVEC_STREAM_PAIR(cudaStreamQuery, _ptsz, (cudaStream_t stream),
                 return in_context([&] { return cuStreamQuery(resolve_stream<kDefault>(stream)); });)

AVEC_STREAM_PAIR(cudaStreamWaitEvent, _ptsz, (cudaStream_t stream, cudaEvent_t event, unsigned int flags), {
  if (event == nullptr) return done(cudaErrorInvalidResourceHandle);
  return in_context([&] { return cuStreamWaitEvent(resolve_stream<kDefault>(stream), event, flags); });
})

AVEC_STREAM_PAIR(cudaStreamGetPriority, _ptsz, (cudaStream_t stream, int* priority), {
  if (priority == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&] { return cuStreamGetPriority(resolve_stream<kDefault>(stream), priority); });
})

AVEC_STREAM_PAIR(cudaStreamGetFlags, _ptsz, (cudaStream_t stream, unsigned int* flags), {
  if (flags == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&] { return cuStreamGetFlags(resolve_stream<kDefault>(stream), flags); });
})

AVEC_STREAM_PAIR(cudaStreamGetId, _ptsz, (cudaStream_t stream, unsigned long long* id), {
  if (id == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&] {
    return cuStreamGetId != nullptr ? cuStreamGetId(resolve_stream<kDefault>(stream), id)
                                    : CUDA_ERROR_NOT_SUPPORTED;
  });
})

AVEC_STREAM_PAIR(cudaStreamGetDevice, _ptsz, (cudaStream_t stream, int* device), {
  if (device == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&]() -> CUresult {
    if (cuStreamGetDevice == nullptr) return CUDA_ERROR_NOT_SUPPORTED;
    CUdevice handle = 0;
    const CUresult got = cuStreamGetDevice(resolve_stream<kDefault>(stream), &handle);
    if (got == CUDA_SUCCESS) *device = handle;
    return got;
  });
})

AVEC_STREAM_PAIR(cudaStreamIsCapturing, _ptsz, (cudaStream_t stream, cudaStreamCaptureStatus* status), {
  if (status == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&]() -> CUresult {
    CUstreamCaptureStatus state = CU_STREAM_CAPTURE_STATUS_NONE;
    if (cuStreamIsCapturing != nullptr) {
      const CUresult got = cuStreamIsCapturing(resolve_stream<kDefault>(stream), &state);
      if (got != CUDA_SUCCESS) return got;
    }
    *status = static_cast<cudaStreamCaptureStatus>(state);
    return CUDA_SUCCESS;
  });
})

AVEC_STREAM_PAIR(cudaStreamCopyAttributes, _ptsz, (cudaStream_t destination, cudaStream_t source),
                 return in_context([&] {
                   return cuStreamCopyAttributes != nullptr
                              ? cuStreamCopyAttributes(resolve_stream<kDefault>(destination),
                                                       resolve_stream<kDefault>(source))
                              : CUDA_ERROR_NOT_SUPPORTED;
                 });)

AVEC_STREAM_PAIR(cudaStreamGetAttribute, _ptsz,
                 (cudaStream_t stream, cudaStreamAttrID attribute, cudaStreamAttrValue* value), {
                   if (value == nullptr) return done(cudaErrorInvalidValue);
                   return in_context([&] {
                     return cuStreamGetAttribute != nullptr
                                ? cuStreamGetAttribute(resolve_stream<kDefault>(stream),
                                                       static_cast<CUstreamAttrID>(attribute),
                                                       reinterpret_cast<CUstreamAttrValue*>(value))
                                : CUDA_ERROR_NOT_SUPPORTED;
                   });
                 })

AVEC_STREAM_PAIR(cudaStreamSetAttribute, _ptsz,
                 (cudaStream_t stream, cudaStreamAttrID attribute, const cudaStreamAttrValue* value), {
                   if (value == nullptr) return done(cudaErrorInvalidValue);
                   return in_context([&] {
                     return cuStreamSetAttribute != nullptr
                                ? cuStreamSetAttribute(resolve_stream<kDefault>(stream),
                                                       static_cast<CUstreamAttrID>(attribute),
                                                       reinterpret_cast<const CUstreamAttrValue*>(value))
                                : CUDA_ERROR_NOT_SUPPORTED;
                   });
                 })

AVEC_STREAM_PAIR(cudaStreamAddCallback, _ptsz,
                 (cudaStream_t stream, cudaStreamCallback_t callback, void* data, unsigned int flags),
                 return add_callback(stream, callback, data, flags, resolve_stream<kDefault>(stream));)

AVEC_STREAM_PAIR(cudaLaunchHostFunc, _ptsz, (cudaStream_t stream, cudaHostFn_t function, void* data), {
  if (function == nullptr) return done(cudaErrorInvalidValue);
  if (cuLaunchHostFunc == nullptr) return done(cudaErrorNotSupported);
  return in_context([&] { return cuLaunchHostFunc(resolve_stream<kDefault>(stream), function, data); });
})

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  AVEC_COUNTED;
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags) {
  AVEC_COUNTED;
  constexpr unsigned kKnown = cudaEventBlockingSync | cudaEventDisableTiming | cudaEventInterprocess;
  if (event == nullptr || (flags & ~kKnown) != 0) return done(cudaErrorInvalidValue);
  return in_context([&] { return cuEventCreate(event, flags); });
}

AVEC_STREAM_PAIR(cudaEventRecord, _ptsz, (cudaEvent_t event, cudaStream_t stream),
                 return record(event, resolve_stream<kDefault>(stream), 0);)

AVEC_STREAM_PAIR(cudaEventRecordWithFlags, _ptsz,
                 (cudaEvent_t event, cudaStream_t stream, unsigned int flags),
                 return record(event, resolve_stream<kDefault>(stream), flags);)

cudaError_t cudaEventQuery(cudaEvent_t event) {
  AVEC_COUNTED;
  if (event == nullptr) return done(cudaErrorInvalidResourceHandle);
  return in_context([&] { return cuEventQuery(event); });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  AVEC_COUNTED;
  if (event == nullptr) return done(cudaErrorInvalidResourceHandle);
  return in_context([&] { return cuEventSynchronize(event); });
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  AVEC_COUNTED;
  if (event == nullptr) return done(cudaErrorInvalidResourceHandle);
  return in_context([&] { return cuEventDestroy(event); });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  AVEC_COUNTED;
  if (milliseconds == nullptr) return done(cudaErrorInvalidValue);
  if (start == nullptr || end == nullptr) return done(cudaErrorInvalidResourceHandle);
  return in_context([&] { return cuEventElapsedTime(milliseconds, start, end); });
}
