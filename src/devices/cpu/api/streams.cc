// Streams, host functions and memory operations in stream order.
#include <atomic>

#include "devices/cpu/attributes.h"
#include "devices/cpu/copy.h"
#include "devices/cpu/device.h"

using namespace avec::cpu;

namespace {

CUresult create(CUstream* handle, unsigned flags, int priority) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (handle == nullptr || (flags & ~static_cast<unsigned>(CU_STREAM_NON_BLOCKING)) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  static std::atomic<std::uint64_t> ids{std::uint64_t{1} << 32};
  auto stream = std::make_shared<Stream>();
  stream->context = context;
  stream->flags = flags;
  // Priorities outside the range are taken as its ends.
  stream->priority = std::min(std::max(priority, kGreatestPriority), kLeastPriority);
  stream->id = ids.fetch_add(1);
  *handle = as_handle<CUstream>(state().streams.add(stream));
  state().scheduler.add_stream(*context, stream);
  return CUDA_SUCCESS;
}

template <class T>
CUresult write_value(CUstream handle, CUdeviceptr address, T value, unsigned flags) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (address % sizeof(T) != 0 ||
      (flags & ~static_cast<unsigned>(CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER)) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (!accessible(*stream->context, address, sizeof(T), true)) return CUDA_ERROR_INVALID_VALUE;
  Task task;
  task.run = [stream = stream.get(), address, value](CUresult) {
    if (!accessible(*stream->context, address, sizeof(T), true)) return CUDA_ERROR_ILLEGAL_ADDRESS;
    std::atomic_ref<T>(*reinterpret_cast<T*>(address)).store(value, std::memory_order_seq_cst);
    return CUDA_SUCCESS;
  };
  state().scheduler.enqueue(stream, std::move(task));
  return CUDA_SUCCESS;
}

template <class T>
bool reached(T seen, T value, unsigned condition) {
  switch (condition) {
    case CU_STREAM_WAIT_VALUE_GEQ:  // cyclic
      return static_cast<std::make_signed_t<T>>(seen - value) >= 0;
    case CU_STREAM_WAIT_VALUE_EQ:
      return seen == value;
    case CU_STREAM_WAIT_VALUE_AND:
      return (seen & value) != 0;
    default:
      return static_cast<T>(~(seen | value)) != 0;
  }
}

template <class T>
CUresult wait_value(CUstream handle, CUdeviceptr address, T value, unsigned flags) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  constexpr unsigned kConditions = 3;
  if (address % sizeof(T) != 0 || (flags & ~(kConditions | CU_STREAM_WAIT_VALUE_FLUSH)) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if ((flags & CU_STREAM_WAIT_VALUE_FLUSH) != 0) return CUDA_ERROR_NOT_SUPPORTED;  // as the attribute says
  if (!accessible(*stream->context, address, sizeof(T), false)) return CUDA_ERROR_INVALID_VALUE;
  Task task;
  task.ready = [stream = stream.get(), address, value, flags] {
    // Freed while it was waited for: run() then reports it.
    if (!accessible(*stream->context, address, sizeof(T), false)) return true;
    const T seen = std::atomic_ref<T>(*reinterpret_cast<T*>(address)).load(std::memory_order_seq_cst);
    return reached(seen, value, flags & kConditions);
  };
  task.run = [stream = stream.get(), address](CUresult) {
    return accessible(*stream->context, address, sizeof(T), false) ? CUDA_SUCCESS
                                                                   : CUDA_ERROR_ILLEGAL_ADDRESS;
  };
  state().scheduler.enqueue(stream, std::move(task));
  return CUDA_SUCCESS;
}

}  // namespace

extern "C" {

CUresult cuStreamCreate(CUstream* stream, unsigned flags) { return create(stream, flags, 0); }

CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned flags, int priority) {
  return create(stream, flags, priority);
}

CUresult cuStreamDestroy_v2(CUstream handle) {
  if (const auto error = initialised()) return error;
  if (handle == nullptr || handle == CU_STREAM_LEGACY || handle == CU_STREAM_PER_THREAD) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  // What it still has to do is done; the queue keeps it alive until then.
  return state().streams.remove(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuStreamQuery(CUstream handle) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (state().scheduler.last(stream)) return CUDA_ERROR_NOT_READY;
  return stream->context->fault.load();
}

CUresult cuStreamSynchronize(CUstream handle) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  auto& scheduler = state().scheduler;
  // The legacy default stream stands for all blocking streams: a mark in it comes after them.
  const auto completion = stream->legacy ? scheduler.enqueue(stream, {}, false) : scheduler.last(stream);
  scheduler.wait(stream, completion);
  flush_output(*stream->context);
  return stream->context->fault.load();
}

CUresult cuStreamWaitEvent(CUstream handle, CUevent event_handle, unsigned flags) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  const auto event = state().events.find(event_handle);
  if (!event) return CUDA_ERROR_INVALID_HANDLE;
  if ((flags & ~static_cast<unsigned>(CU_EVENT_WAIT_EXTERNAL)) != 0) return CUDA_ERROR_INVALID_VALUE;
  if (flags != 0) return CUDA_ERROR_ILLEGAL_STATE;  // only while capturing
  Task task;
  {
    const std::lock_guard lock(event->mutex);
    if (event->recorded) task.after.push_back(event->recorded);
  }
  state().scheduler.enqueue(stream, std::move(task));
  return CUDA_SUCCESS;
}

CUresult cuStreamGetPriority(CUstream handle, int* priority) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (priority == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *priority = stream->priority;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetFlags(CUstream handle, unsigned* flags) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (flags == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *flags = stream->flags;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetId(CUstream handle, unsigned long long* id) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (id == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *id = stream->id;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetDevice(CUstream handle, CUdevice* device) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *device = stream->context->device.ordinal;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetCtx(CUstream handle, CUcontext* context) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (context == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *context = as_handle<CUcontext>(stream->context->handle);
  return CUDA_SUCCESS;
}

CUresult cuStreamGetCtx_v2(CUstream handle, CUcontext* context, CUgreenCtx* green) {
  if (green != nullptr) *green = nullptr;
  return cuStreamGetCtx(handle, context);
}

CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus* status) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (status == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *status = CU_STREAM_CAPTURE_STATUS_NONE;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetCaptureInfo_v2(CUstream handle, CUstreamCaptureStatus* status, cuuint64_t* id,
                                   CUgraph* graph, const CUgraphNode** dependencies, size_t* count) {
  if (id != nullptr) *id = 0;
  if (graph != nullptr) *graph = nullptr;
  if (dependencies != nullptr) *dependencies = nullptr;
  if (count != nullptr) *count = 0;
  return cuStreamIsCapturing(handle, status);
}

CUresult cuStreamGetCaptureInfo_v3(CUstream handle, CUstreamCaptureStatus* status, cuuint64_t* id,
                                   CUgraph* graph, const CUgraphNode** dependencies,
                                   const CUgraphEdgeData** edges, size_t* count) {
  if (edges != nullptr) *edges = nullptr;
  return cuStreamGetCaptureInfo_v2(handle, status, id, graph, dependencies, count);
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) {
  if (const auto error = initialised()) return error;
  if (mode == nullptr || *mode < CU_STREAM_CAPTURE_MODE_GLOBAL || *mode > CU_STREAM_CAPTURE_MODE_RELAXED) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  thread_local CUstreamCaptureMode mine = CU_STREAM_CAPTURE_MODE_GLOBAL;
  std::swap(mine, *mode);
  return CUDA_SUCCESS;
}

CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void* user) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (function == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Task task;
  task.user_code = true;
  task.run = [function, user](CUresult) {
    function(user);
    return CUDA_SUCCESS;
  };
  state().scheduler.enqueue(stream, std::move(task));
  return CUDA_SUCCESS;
}

CUresult cuStreamAddCallback(CUstream handle, CUstreamCallback callback, void* user, unsigned flags) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (callback == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  Task task;
  task.user_code = true;
  task.always = true;
  task.run = [callback, user, handle](CUresult error) {
    callback(handle, error, user);
    return CUDA_SUCCESS;
  };
  state().scheduler.enqueue(stream, std::move(task));
  return CUDA_SUCCESS;
}

CUresult cuStreamWriteValue32_v2(CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned flags) {
  return write_value<std::uint32_t>(stream, address, value, flags);
}
CUresult cuStreamWriteValue64_v2(CUstream stream, CUdeviceptr address, cuuint64_t value, unsigned flags) {
  return write_value<std::uint64_t>(stream, address, value, flags);
}
CUresult cuStreamWaitValue32_v2(CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned flags) {
  return wait_value<std::uint32_t>(stream, address, value, flags);
}
CUresult cuStreamWaitValue64_v2(CUstream stream, CUdeviceptr address, cuuint64_t value, unsigned flags) {
  return wait_value<std::uint64_t>(stream, address, value, flags);
}

CUresult cuStreamBatchMemOp_v2(CUstream stream, unsigned count, CUstreamBatchMemOpParams* operations,
                               unsigned flags) {
  if (const auto error = initialised()) return error;
  if (operations == nullptr || count == 0 || count > 256 || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  for (unsigned i = 0; i < count; ++i) {
    const auto& one = operations[i];
    CUresult error = CUDA_SUCCESS;
    switch (one.operation) {
      case CU_STREAM_MEM_OP_WAIT_VALUE_32:
        error =
            cuStreamWaitValue32_v2(stream, one.waitValue.address, one.waitValue.value, one.waitValue.flags);
        break;
      case CU_STREAM_MEM_OP_WAIT_VALUE_64:
        error =
            cuStreamWaitValue64_v2(stream, one.waitValue.address, one.waitValue.value64, one.waitValue.flags);
        break;
      case CU_STREAM_MEM_OP_WRITE_VALUE_32:
        error = cuStreamWriteValue32_v2(stream, one.writeValue.address, one.writeValue.value,
                                        one.writeValue.flags);
        break;
      case CU_STREAM_MEM_OP_WRITE_VALUE_64:
        error = cuStreamWriteValue64_v2(stream, one.writeValue.address, one.writeValue.value64,
                                        one.writeValue.flags);
        break;
      case CU_STREAM_MEM_OP_BARRIER:
        break;  // a stream's tasks are ordered anyway
      default:
        error = CUDA_ERROR_NOT_SUPPORTED;
    }
    if (error) return error;
  }
  return CUDA_SUCCESS;
}

}  // extern "C"
