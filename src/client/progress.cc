#include "client/progress.h"

#include <algorithm>
#include <chrono>

#include "client/client.h"
#include "client/context.h"
#include "client/event.h"
#include "client/slab.h"
#include "client/status.h"
#include "client/stream.h"
#include "session/session.h"

namespace avec::client {

thread_local constinit Stream* working_stream __attribute__((tls_model("initial-exec"))) = nullptr;

namespace {

/// Not ready is believed for so long without word from the executor.
constexpr auto kAskAgain = std::chrono::milliseconds(20);
/// StreamDones asked for at once: a stream that is not queried any more is soon left alone.
constexpr std::uint64_t kStreamPushes = 64;
/// The same of an event's records.
constexpr int kWatchedRecords = 8;

std::int64_t steady_ns() { return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1); }

session::Session& session_of(const Stream& stream) { return stream.context->client->session(); }
session::Session& session_of(const Event& event) { return event.context->client->session(); }

bool waits_for_legacy(const Stream& stream) { return (stream.flags & CU_STREAM_NON_BLOCKING) == 0; }

/// The legacy stream has finished when the streams that it waits for have.
std::uint64_t last_work(const Stream& stream) {
  const std::uint64_t own = stream.progress.last.get();
  const Context& context = *stream.context;
  return context.legacy.load(std::memory_order_relaxed) == &stream ? std::max(own, context.blocking_work.get()) : own;
}

void note(Context& context, CUresult error) {
  if (corrupts_context(error)) context.error.store(error);
}

}  // namespace

void Asked::now() { at_.store(steady_ns(), std::memory_order_relaxed); }

bool Asked::lately() {
  const std::int64_t now = steady_ns(), at = at_.load(std::memory_order_relaxed);
  if (at == 0) at_.store(now, std::memory_order_relaxed);
  return at == 0 || now - at < kAskAgain / std::chrono::nanoseconds(1);
}

// ---- work ----------------------------------------------------------------------------

void begin_work(Stream& stream) noexcept {
  stream.progress.last.begin();
  if (waits_for_legacy(stream)) stream.context->blocking_work.begin();
  working_stream = &stream;
}

void end_work_slow() noexcept {
  Stream& stream = *working_stream;
  working_stream = nullptr;
  Context* context = stream.context;
  if (context == nullptr || Slab<Stream>::find(&stream) == nullptr) return;
  const std::uint64_t last = context->client->session().last_posted();
  stream.progress.last.end(last);
  if (waits_for_legacy(stream)) context->blocking_work.end(last);
}

bool finished(Stream& stream) {
  const std::uint64_t last = last_work(stream);
  if (last == LastWork::kUnknown) return false;
  return last <= stream.progress.done.get() || last <= stream.context->work_done.get();
}

void learn(Stream& stream, std::uint64_t frame) { stream.progress.done.raise(frame); }

CUresult query(Stream& stream) {
  StreamProgress& progress = stream.progress;
  if (finished(stream)) return CUDA_SUCCESS;
  session::Session& session = session_of(stream);
  session.look();
  if (finished(stream)) return CUDA_SUCCESS;
  Context& context = *stream.context;
  if (const int sticky = context.error.load(std::memory_order_relaxed); sticky != CUDA_SUCCESS)
    return static_cast<CUresult>(sticky);
  const std::uint64_t last = last_work(stream);
  const bool told = progress.asked_upto.load(std::memory_order_acquire) >= last ||
                    (progress.pushes.load(std::memory_order_acquire) > 0 &&
                     progress.doubted.load(std::memory_order_relaxed) != last);
  if (last != LastWork::kUnknown && told && progress.asked.lately()) return CUDA_ERROR_NOT_READY;

  context.client->watched().add(stream);
  const std::uint64_t before = session.last_posted();
  progress.pushes.store(kStreamPushes, std::memory_order_release);
  const CUresult own = to_cuda(session.call(wire::StreamWatch(stream.name, kStreamPushes)));
  if (own == CUDA_SUCCESS) {
    learn(stream, before);
  } else if (own == CUDA_ERROR_NOT_READY) {
    progress.asked_upto.store(before, std::memory_order_release);
    progress.asked.now();
  } else {
    note(context, own);
  }
  return own;
}

// ---- events --------------------------------------------------------------------------

void begin_record(Event& event, Stream& stream) {
  EventProgress& progress = event.progress;
  progress.frame.store(LastWork::kUnknown, std::memory_order_release);
  progress.stream.store(&stream, std::memory_order_relaxed);
  progress.stream_name.store(stream.name, std::memory_order_relaxed);
  progress.context.store(stream.context, std::memory_order_relaxed);
  progress.asked.forget();
}

std::uint64_t count_record(Event& event) {
  return event.progress.record.fetch_add(1, std::memory_order_acq_rel) + 1;
}

void end_record(Event& event) {
  EventProgress& progress = event.progress;
  session::Session& session = session_of(event);
  const std::uint64_t record = count_record(event);
  progress.frame.store(session.last_posted(), std::memory_order_release);
  if (progress.queried.load(std::memory_order_relaxed) <= 0) return;
  progress.queried.fetch_sub(1, std::memory_order_relaxed);
  if (session.post(wire::EventWatch(event.name, record))) progress.watched.raise(record);
}

bool finished(Event& event) {
  EventProgress& progress = event.progress;
  const std::uint64_t record = progress.record.load(std::memory_order_acquire);
  if (progress.elsewhere.load(std::memory_order_relaxed)) return false;
  if (progress.done.get() >= record) return true;
  const std::uint64_t frame = progress.frame.load(std::memory_order_acquire);
  if (frame == LastWork::kUnknown) return false;
  const Stream* stream = progress.stream.load(std::memory_order_relaxed);
  const std::uint64_t name = progress.stream_name.load(std::memory_order_relaxed);
  const Context* context = progress.context.load(std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_acquire);
  if (progress.frame.load(std::memory_order_relaxed) != frame) return false;  // recorded again meanwhile
  if (context->work_done.get() >= frame) return true;
  return Slab<Stream>::find(stream) != nullptr && stream->name == name && stream->progress.done.get() >= frame;
}

CUresult query(Event& event) {
  EventProgress& progress = event.progress;
  if (finished(event)) return CUDA_SUCCESS;
  session::Session& session = session_of(event);
  Context& context = *event.context;
  if (progress.elsewhere.load(std::memory_order_relaxed)) {
    const CUresult own = to_cuda(session.call(wire::EventQuery(event.name)));
    note(context, own);
    return own;
  }
  session.look();
  if (finished(event)) return CUDA_SUCCESS;
  if (const int sticky = context.error.load(std::memory_order_relaxed); sticky != CUDA_SUCCESS)
    return static_cast<CUresult>(sticky);
  progress.queried.store(kWatchedRecords, std::memory_order_relaxed);
  const std::uint64_t record = progress.record.load(std::memory_order_acquire);
  if (progress.watched.get() >= record && progress.asked.lately()) return CUDA_ERROR_NOT_READY;

  context.client->watched().add(event);
  const CUresult own = to_cuda(session.call(wire::EventWatch(event.name, record)));
  if (own == CUDA_SUCCESS) {
    progress.done.raise(record);
  } else if (own == CUDA_ERROR_NOT_READY) {
    progress.watched.raise(record);
    progress.asked.now();
  } else {
    note(context, own);
  }
  return own;
}

// ---- pushes --------------------------------------------------------------------------

void Watched::add(Event& event) {
  const std::scoped_lock lock(mutex_);
  events_.emplace(event.name, &event);
}

void Watched::add(Stream& stream) {
  const std::scoped_lock lock(mutex_);
  streams_.emplace(stream.name, &stream);
}

void Watched::forget(std::uint64_t name) {
  const std::scoped_lock lock(mutex_);
  if (events_.erase(name) == 0) streams_.erase(name);
}

bool Watched::take(wire::Opcode opcode, ConstBytes body) {
  if (opcode == wire::Opcode::EventDone) {
    const auto told = wire::read_struct<wire::EventDone>(body);
    const std::scoped_lock lock(mutex_);
    const auto found = events_.find(told.event());
    if (found == events_.end()) return true;
    Event& event = *found->second;
    note(*event.context, static_cast<CUresult>(told.status()));
    if (told.status() == CUDA_SUCCESS) {
      // A record that was never made cannot have finished.
      event.progress.done.raise(std::min(told.record(), event.progress.record.load(std::memory_order_acquire)));
    }
    return true;
  }
  if (opcode != wire::Opcode::StreamDone) return false;
  const auto told = wire::read_struct<wire::StreamDone>(body);
  const std::scoped_lock lock(mutex_);
  const auto found = streams_.find(told.stream());
  if (found == streams_.end()) return true;
  Stream& stream = *found->second;
  note(*stream.context, static_cast<CUresult>(told.status()));
  stream.progress.pushes.fetch_sub(1, std::memory_order_acq_rel);
  if (told.status() != CUDA_SUCCESS) return true;
  // Frames that have not been posted cannot have been done.
  learn(stream, std::min(told.through(), session_of(stream).last_posted()));
  if (const std::uint64_t last = last_work(stream); told.through() < last)
    stream.progress.doubted.store(last, std::memory_order_relaxed);
  return true;
}

}  // namespace avec::client
