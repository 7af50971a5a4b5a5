// Streams and host functions in stream order.
#include <atomic>

#include "devices/cpu/attributes.h"
#include "devices/cpu/graph/capture.h"

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
  const auto stream = state().streams.remove(handle);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  stream_destroyed(stream);
  return CUDA_SUCCESS;
}

CUresult cuStreamQuery(CUstream handle) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (const auto error = refuse_capture(stream)) return error;
  if (state().scheduler.last(stream)) return CUDA_ERROR_NOT_READY;
  return stream->context->fault.load();
}

CUresult cuStreamSynchronize(CUstream handle) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (const auto error = refuse_capture(stream)) return error;
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
  if (const auto result = capture_wait(stream, event, flags)) return *result;
  if (flags != 0) return CUDA_ERROR_ILLEGAL_STATE;  // only while capturing
  Task task;
  {
    const std::lock_guard lock(event->mutex);
    if (event->recorded) task.after.push_back(event->recorded);
  }
  if (event->shared) {
    task.after.clear();
    task.ready = [shared = event->shared, record = event->shared->last()] { return shared->done(record); };
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

CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void* user) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (function == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto node = captured(stream, [&](Graph&, Params& params) {
    params = HostParams{function, user};
    return CUDA_SUCCESS;
  });
  if (node) return *node;
  Task task;
  task.user_code = true;
  task.run = [function, user](CUresult) {
    const HostCode scope;
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
  if (const auto error = refuse_capture(stream)) return error;
  Task task;
  task.user_code = true;
  task.always = true;
  task.run = [callback, user, handle](CUresult error) {
    const HostCode scope;
    callback(handle, error, user);
    return CUDA_SUCCESS;
  };
  state().scheduler.enqueue(stream, std::move(task));
  return CUDA_SUCCESS;
}

}  // extern "C"
