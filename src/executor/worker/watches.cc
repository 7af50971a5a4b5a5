// What a client that polls is told unasked: events and streams that have finished.
#include <algorithm>

#include "executor/worker/session.h"

namespace avec::worker {
namespace {

/// How long an event in an idle stream may take; longer than that it waits for another stream.
constexpr auto kFlushPatience = std::chrono::milliseconds(2);

}  // namespace

Result<> Session::operator()(const Header& header, const wire::EventWatch& call) {
  constexpr auto kWantsReply = static_cast<std::uint16_t>(wire::FrameFlag::WantsReply);
  const bool called = (header.flags() & kWantsReply) != 0;
  if (call.record() == 0) return protocol_error("a watch on no record");
  CUresult status;
  Event* event = find_event(call.event(), status);
  if (event == nullptr) {
    if (called) return finish(header, status);
    const wire::EventDone body(call.event(), call.record(), status, 0);
    link_.push(wire::Opcode::EventDone, CUDA_SUCCESS, {reinterpret_cast<const std::byte*>(&body), sizeof body});
    return {};
  }
  if (called && event->held_record.stream == nullptr) {
    status = driver_.cuEventQuery(event->handle);
    if (status != CUDA_ERROR_NOT_READY) {
      flush_output(*event->context, event->handle);
      return finish_after_downloads(header, status);
    }
  }
  if (event->watch == 0) watched_events_.push_back(event->name);
  event->watch = std::max(event->watch, call.record());
  return called ? finish(header, CUDA_ERROR_NOT_READY) : Result<>();
}

Result<> Session::operator()(const Header& header, const wire::StreamWatch& call) {
  if (call.pushes() > limits::kMaxStreamPushes) return protocol_error("too many notices asked for");
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  if (stream->watch_credit == 0 && call.pushes() != 0) watched_streams_.push_back(stream->name);
  stream->watch_credit = call.pushes();
  if (!stream->held.empty()) return finish(header, CUDA_ERROR_NOT_READY);
  make_current(*stream->context);
  status = driver_.cuStreamQuery(stream->handle);
  if (status != CUDA_ERROR_NOT_READY) {
    stream->touched = false;  // this answer tells it
    flush_output(*stream);
  }
  return finish_after_downloads(header, status);
}

void Session::flush_output(Context& context, CUevent event) {
  if (!context.may_print) return;
  make_current(context);
  driver_.cuEventSynchronize(event);
  drain_output();
}

void Session::flush_output(Stream& stream) {
  if (!stream.context->may_print || Completions::excluded(stream)) return;
  CUresult status = CUDA_SUCCESS;
  CUevent event = completions_.record(stream, status);
  if (event == nullptr) return;
  // The stream is idle, but the event may still wait for the legacy stream: this loop does not.
  const auto until = std::chrono::steady_clock::now() + kFlushPatience;
  do {
    status = driver_.cuEventQuery(event);
  } while (status == CUDA_ERROR_NOT_READY && std::chrono::steady_clock::now() < until);
  if (status != CUDA_ERROR_NOT_READY) flush_output(*stream.context, event);
  completions_.give_event(*stream.context, event);
}

void Session::tell_event(Event& event, CUresult status) {
  flush_output(*event.context, event.handle);
  const wire::EventDone body(event.name, event.watch, status, 0);
  event.watch = 0;
  downloads_.deliver_after([this, body] {
    link_.push(wire::Opcode::EventDone, CUDA_SUCCESS, {reinterpret_cast<const std::byte*>(&body), sizeof body});
  });
}

void Session::tell_stream(Stream& stream, CUresult status) {
  stream.touched = false;
  --stream.watch_credit;
  flush_output(stream);
  const wire::StreamDone body(stream.name, handled_, status, 0);
  downloads_.deliver_after([this, body] {
    link_.push(wire::Opcode::StreamDone, CUDA_SUCCESS, {reinterpret_cast<const std::byte*>(&body), sizeof body});
  });
}

bool Session::poll_watched_events() {
  bool told = false;
  unfinished_.clear();
  std::erase_if(watched_events_, [&](std::uint64_t name) {
    const auto found = events_.find(name);
    if (found == nullptr || found->watch == 0) return true;
    if (found->held_record.stream != nullptr) return false;
    // Events of one stream finish in the order of their records.
    const bool behind = std::ranges::find(unfinished_, found->recorded_in) != unfinished_.end();
    if (behind && found->recorded_in != 0) return false;
    const CUresult status = driver_.cuEventQuery(found->handle);
    if (status == CUDA_ERROR_NOT_READY) {
      unfinished_.push_back(found->recorded_in);
      return false;
    }
    tell_event(*found, status);
    return told = true;
  });
  return told;
}

bool Session::poll_watched_streams() {
  bool told = false;
  std::erase_if(watched_streams_, [&](std::uint64_t name) {
    Stream* stream = streams_.find(name);
    if (stream == nullptr || stream->watch_credit == 0) return true;
    if (!stream->touched || !stream->held.empty()) return false;
    make_current(*stream->context);
    const CUresult status = driver_.cuStreamQuery(stream->handle);
    if (status == CUDA_ERROR_NOT_READY) return false;
    tell_stream(*stream, status);
    told = true;
    return stream->watch_credit == 0;
  });
  return told;
}

bool Session::poll_watches() {
  if (watched_events_.empty() && watched_streams_.empty()) return false;
  if (polling_watches_) return false;
  polling_watches_ = true;
  const bool events = !watched_events_.empty() && poll_watched_events();
  const bool streams = !watched_streams_.empty() && poll_watched_streams();
  polling_watches_ = false;
  return events || streams;
}

}  // namespace avec::worker
