// Streams and events.
#include <algorithm>

#include "executor/worker/session.h"
#include "wire/stream_flags.h"

namespace avec::worker {

Result<> Session::operator()(const Header& header, const wire::StreamCreate& call) {
  Context* context = contexts_.find(call.context());
  Context unknown;
  unknown.poison = CUDA_ERROR_INVALID_CONTEXT;
  Stream* stream = add_stream(call.stream(), context != nullptr ? *context : unknown);
  if (stream == nullptr) return protocol_error("a stream's name that cannot be given");
  if (stream->poison != CUDA_SUCCESS) {
    stream->context = context;
    return finish(header, stream->poison);
  }
  const std::uint32_t flags = call.flags() & ~wire::kStreamBeside;
  stream->beside = flags != call.flags();
  if ((flags & ~static_cast<unsigned>(CU_STREAM_NON_BLOCKING)) != 0) {
    stream->poison = CUDA_ERROR_INVALID_VALUE;
  } else {
    make_current(*context);
    stream->poison = driver_.cuStreamCreateWithPriority(&stream->handle, flags, call.priority());
  }
  if (stream->poison != CUDA_SUCCESS) std::erase(context->streams, stream);
  stream->created = stream->poison == CUDA_SUCCESS;
  stream->synchronizing = (flags & CU_STREAM_NON_BLOCKING) == 0;
  return finish(header, stream->poison);
}

Result<> Session::operator()(const Header& header, const wire::StreamDestroy& call) {
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) {
    streams_.remove(call.stream());
    return finish(header, status);
  }
  if (!stream->created) return finish(header, CUDA_ERROR_INVALID_HANDLE);  // a default stream
  // Behind its own held frames: they name it.
  if (!stream->held.empty() && hold(*stream)) return {};
  abandon_capture_of(*stream);
  retire_stream(call.stream());
  later_.push_back([this, name = call.stream()] {
    for (auto& dying : dying_streams_)
      if (dying->name == name && dying->idle()) return stream_turned_idle(*dying);
  });
  return finish(header, CUDA_SUCCESS);
}

Result<> Session::operator()(const Header& header, const wire::StreamSynchronize& call) {
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  if (hold(*stream)) return {};
  if (stream->capturing) return finish(header, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  return answer_when_done(header, *stream);
}

Result<> Session::operator()(const Header& header, const wire::StreamQuery& call) {
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  if (!stream->held.empty()) return finish(header, CUDA_ERROR_NOT_READY);
  make_current(*stream->context);
  return finish_after_downloads(header, driver_.cuStreamQuery(stream->handle));
}

Result<> Session::operator()(const Header& header, const wire::StreamWaitEvent& call) {
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  Event* event = find_event(call.event(), status);
  if (event == nullptr) return finish(header, status);
  if (hold(*stream, {event->held_record})) {
    event->held_waits.push_back({stream, stream->held.back().sequence});
    return {};
  }
  if (replaying_ != nullptr)
    std::erase_if(event->held_waits, [&](const HeldPoint& p) { return p.sequence == replaying_->sequence; });
  if (call.flags() > CU_EVENT_WAIT_EXTERNAL) return finish(header, CUDA_ERROR_INVALID_VALUE);
  before_issue(*stream);
  if (!captures_.empty() && !stream->capturing) prepare_capture(*stream);
  status = driver_.cuStreamWaitEvent(stream->handle, event->handle, call.flags());
  look_at_capture(*stream);
  if (status == CUDA_SUCCESS) completions_.issued(*stream);
  return finish(header, status);
}

Result<> Session::operator()(const Header& header, const wire::EventCreate& call) {
  constexpr unsigned kFlags = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS;
  Event* event = events_.add(call.event());
  if (event == nullptr) return protocol_error("an event's name that cannot be given");
  event->context = find_context(call.context(), event->poison);
  if (event->context == nullptr) return finish(header, event->poison);
  if ((call.flags() & ~kFlags) != 0) {
    event->poison = CUDA_ERROR_INVALID_VALUE;
  } else {
    make_current(*event->context);
    event->poison = driver_.cuEventCreate(&event->handle, call.flags());
  }
  return finish(header, event->poison);
}

void Session::destroy_event(std::unique_ptr<Event> event) {
  const bool awaited =
      std::ranges::any_of(event_waits_, [&](const EventWait& wait) { return wait.event == event->handle; });
  if (awaited) {
    dying_events_.push_back(std::move(event));
  } else {
    make_current(*event->context);
    driver_.cuEventDestroy(event->handle);
  }
}

Result<> Session::operator()(const Header& header, const wire::EventDestroy& call) {
  CUresult status;
  Event* event = find_event(call.event(), status);
  if (event == nullptr) {
    events_.remove(call.event());
    return finish(header, status);
  }
  // Held frames name it: behind them all.
  const bool held = event->held_record.stream != nullptr || !event->held_waits.empty();
  if (held && hold_behind(all_streams(), false)) return {};
  if (exports_ != nullptr) exports_->remove({ExportTag::Kind::kEvent, call.event()});
  destroy_event(events_.remove(call.event()));
  return finish(header, CUDA_SUCCESS);
}

Result<> Session::operator()(const Header& header, const wire::EventRecord& call) {
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  Event* event = find_event(call.event(), status);
  if (event == nullptr) return finish(header, status);
  if (!share_objects(*event->context, *stream->context)) return finish(header, CUDA_ERROR_INVALID_HANDLE);
  if (call.flags() > CU_EVENT_RECORD_EXTERNAL) return finish(header, CUDA_ERROR_INVALID_VALUE);
  // After an earlier record, and after the waits that mean that earlier record.
  std::vector<HeldPoint> after = event->held_waits;
  after.push_back(event->held_record);
  if (hold(*stream, after)) {
    event->held_record = {stream, stream->held.back().sequence};
    return {};
  }
  if (replaying_ != nullptr && event->held_record.sequence == replaying_->sequence) event->held_record = {};
  before_issue(*stream);
  if (call.flags() != 0) {
    if (!stream->capturing) return finish(header, CUDA_ERROR_ILLEGAL_STATE);
    status = driver_.cuEventRecordWithFlags(event->handle, stream->handle, call.flags());
    if (status == CUDA_SUCCESS) note_captured_record(*stream, call.event());
    return finish(header, status);
  }
  status = driver_.cuEventRecord(event->handle, stream->handle);
  event->recorded_in = stream->name;
  if (status == CUDA_SUCCESS) completions_.issued(*stream);
  return finish(header, status);
}

Result<> Session::operator()(const Header& header, const wire::EventSynchronize& call) {
  CUresult status;
  Event* event = find_event(call.event(), status);
  if (event == nullptr) return finish(header, status);
  if (event->held_record.stream != nullptr && hold_behind({event->held_record.stream}, false)) return {};
  event_waits_.push_back({header, event->handle, event->context});
  return {};
}

bool Session::poll_event_waits() {
  bool progress = false;
  for (std::size_t i = 0; i < event_waits_.size();) {
    const EventWait wait = event_waits_[i];
    const CUresult status = driver_.cuEventQuery(wait.event);
    if (status == CUDA_ERROR_NOT_READY) {
      ++i;
      continue;
    }
    if (wait.context->may_print) {
      make_current(*wait.context);
      driver_.cuEventSynchronize(wait.event);
      drain_output();
    }
    finish_after_downloads(wait.call, status);
    event_waits_.erase(event_waits_.begin() + static_cast<std::ptrdiff_t>(i));
    progress = true;
  }
  if (progress && !dying_events_.empty()) {
    for (auto& event : std::exchange(dying_events_, {})) destroy_event(std::move(event));
  }
  return progress;
}

Result<> Session::operator()(const Header& header, const wire::EventQuery& call) {
  CUresult status;
  Event* event = find_event(call.event(), status);
  if (event == nullptr) return finish(header, status);
  if (event->held_record.stream != nullptr) return finish(header, CUDA_ERROR_NOT_READY);
  return finish_after_downloads(header, driver_.cuEventQuery(event->handle));
}

Result<> Session::operator()(const Header& header, const wire::EventElapsedTime& call) {
  CUresult status;
  Event* start = find_event(call.start(), status);
  if (start == nullptr) return finish(header, status);
  Event* end = find_event(call.end(), status);
  if (end == nullptr) return finish(header, status);
  if (start->held_record.stream != nullptr || end->held_record.stream != nullptr)
    return finish(header, CUDA_ERROR_NOT_READY);
  float milliseconds = 0;
  make_current(*start->context);
  status = driver_.cuEventElapsedTime(&milliseconds, start->handle, end->handle);
  if (status != CUDA_SUCCESS) return finish(header, status);
  downloads_.deliver_after([this, header, milliseconds] {
    answer(header, wire::EventElapsedTimeReply(milliseconds, 0));
  });
  return {};
}

}  // namespace avec::worker
