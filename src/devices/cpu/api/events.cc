// Events: marks in streams.
#include <thread>

#include "devices/cpu/graph/capture.h"

using namespace avec::cpu;

#undef cuEventElapsedTime

namespace {

/// What the event stood for when it was asked for; null: never recorded.
CompletionRef recorded(Event& event, StreamRef* stream = nullptr) {
  const std::lock_guard lock(event.mutex);
  if (stream != nullptr) *stream = event.stream;
  return event.recorded;
}

CUresult event_of(CUevent handle, std::shared_ptr<Event>& event) {
  if (const auto error = initialised()) return error;
  event = state().events.find(handle);
  return event ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

}  // namespace

extern "C" {

CUresult cuEventCreate(CUevent* handle, unsigned flags) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  constexpr unsigned kAll = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS;
  if (handle == nullptr || (flags & ~kAll) != 0) return CUDA_ERROR_INVALID_VALUE;
  const bool interprocess = (flags & CU_EVENT_INTERPROCESS) != 0;
  if (interprocess && (flags & CU_EVENT_DISABLE_TIMING) == 0) return CUDA_ERROR_INVALID_VALUE;
  auto event = std::make_shared<Event>();
  if (interprocess && (event->shared = SharedEvent::make()) == nullptr) return CUDA_ERROR_OPERATING_SYSTEM;
  event->context = context;
  event->flags = flags;
  *handle = as_handle<CUevent>(state().events.add(event));
  return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent handle) {
  if (const auto error = initialised()) return error;
  return state().events.remove(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuEventRecordWithFlags(CUevent handle, CUstream stream_handle, unsigned flags) {
  std::shared_ptr<Event> event;
  if (const auto error = event_of(handle, event)) return error;
  StreamRef stream;
  if (const auto error = stream_of(stream_handle, stream)) return error;
  if ((flags & ~static_cast<unsigned>(CU_EVENT_RECORD_EXTERNAL)) != 0) return CUDA_ERROR_INVALID_VALUE;
  if (const auto result = capture_record(stream, event, flags)) return *result;
  if (flags != 0) return CUDA_ERROR_ILLEGAL_STATE;  // only while capturing
  if (event->context != stream->context) return CUDA_ERROR_INVALID_HANDLE;
  const std::lock_guard lock(event->mutex);
  event->capture = nullptr;
  Task mark;
  if (event->shared) {
    // Also behind a fault: others must not wait for ever.
    mark.always = true;
    mark.run = [shared = event->shared, record = event->shared->record()](CUresult) {
      shared->reached(record);
      return CUDA_SUCCESS;
    };
  }
  event->recorded = state().scheduler.enqueue(stream, std::move(mark));
  event->stream = stream;
  return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream stream) { return cuEventRecordWithFlags(event, stream, 0); }

CUresult cuEventQuery(CUevent handle) {
  std::shared_ptr<Event> event;
  if (const auto error = event_of(handle, event)) return error;
  if (const auto error = event->context->fault.load()) return error;
  if (const auto error = refuse_captured_event(*event)) return error;
  if (const auto error = refuse_unsafe()) return error;
  if (event->shared && !event->shared->done(event->shared->last())) return CUDA_ERROR_NOT_READY;
  const auto mark = recorded(*event);
  if (mark && !mark->done.load()) return CUDA_ERROR_NOT_READY;
  return event->context->fault.load();
}

CUresult cuEventSynchronize(CUevent handle) {
  std::shared_ptr<Event> event;
  if (const auto error = event_of(handle, event)) return error;
  if (const auto error = event->context->fault.load()) {
    flush_output(*event->context);  // what the fault has to say
    return error;
  }
  if (const auto error = refuse_captured_event(*event)) return error;
  if (const auto error = refuse_unsafe()) return error;
  StreamRef stream;
  const auto mark = recorded(*event, &stream);
  if (mark) state().scheduler.wait(stream, mark);
  if (event->shared) {
    const std::uint64_t record = event->shared->last();
    while (!event->shared->done(record)) std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  flush_output(*event->context);
  return event->context->fault.load();
}

CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent from, CUevent to) {
  std::shared_ptr<Event> start, end;
  if (const auto error = event_of(from, start)) return error;
  if (const auto error = event_of(to, end)) return error;
  if (milliseconds == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (const auto error = start->context->fault.load()) return error;
  if (start->context != end->context) return CUDA_ERROR_INVALID_HANDLE;
  if (const auto error = refuse_captured_event(*start)) return error;
  if (const auto error = refuse_captured_event(*end)) return error;
  if (((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING) != 0) return CUDA_ERROR_INVALID_HANDLE;
  const auto first = recorded(*start), second = recorded(*end);
  if (!first || !second) return CUDA_ERROR_INVALID_HANDLE;
  if (!first->done.load() || !second->done.load()) return CUDA_ERROR_NOT_READY;
  *milliseconds = static_cast<float>(static_cast<double>(second->when_ns - first->when_ns) * 1e-6);
  return CUDA_SUCCESS;
}

CUresult cuIpcGetEventHandle(CUipcEventHandle* handle, CUevent event_handle) {
  std::shared_ptr<Event> event;
  if (const auto error = event_of(event_handle, event)) return error;
  if (!event->shared) return CUDA_ERROR_INVALID_HANDLE;
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *handle = event->shared->handle();
  return CUDA_SUCCESS;
}

CUresult cuIpcOpenEventHandle(CUevent* handle, CUipcEventHandle shared) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  auto event = std::make_shared<Event>();
  event->context = context;
  event->flags = CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING;
  event->shared = SharedEvent::open(shared);
  if (event->shared == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  *handle = as_handle<CUevent>(state().events.add(event));
  return CUDA_SUCCESS;
}

CUresult cuEventElapsedTime(float* milliseconds, CUevent from, CUevent to) {
  return cuEventElapsedTime_v2(milliseconds, from, to);
}

}  // extern "C"
