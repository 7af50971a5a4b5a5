#include "client/event.h"

#include "client/callbacks.h"
#include "client/capture.h"
#include "client/client.h"
#include "client/coherence.h"
#include "client/context.h"
#include "client/slab.h"
#include "client/status.h"
#include "client/stream.h"
#include "session/session.h"

namespace avec::client {
namespace {

CUresult find_event(CUevent handle, Event*& event) {
  if (in_host_function) [[unlikely]]
    return CUDA_ERROR_NOT_PERMITTED;
  event = Slab<Event>::find(handle);
  if (event == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  return static_cast<CUresult>(event->context->error.load(std::memory_order_relaxed));
}

/// An event that is asked about: not one that a capture recorded, and not where captures forbid it.
CUresult find_settled(CUevent handle, Event*& event) {
  if (const CUresult result = find_event(handle, event); result != CUDA_SUCCESS) return result;
  if (const CUresult result = check_captured_event(*event); result != CUDA_SUCCESS) return result;
  return unsafe_call();
}

}  // namespace

CUresult event_create(CUevent* handle, unsigned flags) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  constexpr unsigned kKnown = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS;
  if (handle == nullptr || (flags & ~kKnown) != 0) return CUDA_ERROR_INVALID_VALUE;
  if ((flags & CU_EVENT_INTERPROCESS) != 0 && (flags & CU_EVENT_DISABLE_TIMING) == 0)
    return CUDA_ERROR_INVALID_VALUE;
  Event* event = Slab<Event>::make();
  if (event == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  event->context = context;
  event->name = context->client->mint();
  event->flags = flags;
  {
    std::scoped_lock lock(context->mutex);
    context->events.insert(event);
  }
  *handle = handle_of(event);
  return to_cuda(
      context->client->session().post(wire::EventCreate(event->name, context->name.load(), flags, 0)));
}

CUresult event_destroy(CUevent handle) {
  Event* event = Slab<Event>::find(handle);
  if (event == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  Context& context = *event->context;
  const std::uint64_t name = event->name;
  context.client->watched().forget(name);
  {
    std::scoped_lock lock(context.mutex);
    context.events.erase(event);
  }
  if (Slab<Event>::destroy(event)) (void)context.client->session().post(wire::EventDestroy(name));
  return static_cast<CUresult>(context.error.load());
}

CUresult event_record(CUevent handle, CUstream stream_handle, unsigned flags) {
  Event* event;
  if (const CUresult result = find_event(handle, event); result != CUDA_SUCCESS) return result;
  Stream* stream;
  if (const CUresult result = stream_for_device_work(stream_handle, stream); result != CUDA_SUCCESS) return result;
  if (!share_objects(*stream->context, *event->context)) return CUDA_ERROR_INVALID_HANDLE;
  if (flags > CU_EVENT_RECORD_EXTERNAL) return CUDA_ERROR_INVALID_VALUE;
  bool handled;
  if (const CUresult result = capture_record(*event, *stream, flags, handled); handled) return result;
  if (flags == CU_EVENT_RECORD_EXTERNAL) return CUDA_ERROR_ILLEGAL_STATE;  // only while capturing
  if (event->context->any_downloads.load(std::memory_order_acquire)) {
    std::vector<Download> downloads = downloads_before(*stream);
    std::scoped_lock lock(event->context->mutex);
    event->downloads = std::move(downloads);
  }
  note_host_functions(*event, *stream);
  begin_record(*event, *stream);
  session::Session& session = stream->context->client->session();
  const wire::EventRecord record(event->name, stream->name, flags, 0);
  // Another process may wait for it as soon as it hears of it from this one: not while it is queued.
  const auto sent = (event->flags & CU_EVENT_INTERPROCESS) != 0 ? session.call(record) : session.post(record);
  end_record(*event);
  return to_cuda(sent);
}

void note_record(CUevent handle, Stream& stream) {
  Event* event = Slab<Event>::find(handle);
  if (event == nullptr) return;
  if (event->context->any_downloads.load(std::memory_order_acquire)) {
    std::vector<Download> downloads = downloads_before(stream);
    std::scoped_lock lock(event->context->mutex);
    event->downloads = std::move(downloads);
  }
  note_host_functions(*event, stream);
  begin_record(*event, stream);  // in which frame is not known: the first query asks
  static_cast<void>(count_record(*event));
}

CUresult event_query(CUevent handle) {
  Event* event;
  if (const CUresult result = find_settled(handle, event); result != CUDA_SUCCESS) return result;
  const CUresult own = query(*event);
  if (own == CUDA_ERROR_NOT_READY) return own;
  Client& client = *event->context->client;
  if (own == CUDA_SUCCESS && event->context->any_downloads.load(std::memory_order_acquire))
    wait_for_downloads(client, downloads_of(*event));
  return client.synchronized(host_sees(own, *event->context));
}

CUresult event_synchronize(CUevent handle) {
  Event* event;
  if (const CUresult result = find_settled(handle, event); result != CUDA_SUCCESS) return result;
  if (!event->recorded()) return CUDA_SUCCESS;
  Context& context = *event->context;
  const std::vector<Download> downloads = downloads_of(*event);
  CUresult own = CUDA_SUCCESS;
  if (!finished(*event)) {
    const std::uint64_t record = event->progress.record.load(std::memory_order_acquire);
    own = to_cuda(context.client->session().call(wire::EventSynchronize(event->name)));
    if (own == CUDA_SUCCESS) event->progress.done.raise(record);
  }
  if (corrupts_context(own)) context.error.store(own);
  if (own == CUDA_SUCCESS) wait_for_downloads(*context.client, downloads);
  own = host_sees(own, context);
  const CUresult result = context.client->synchronized(own);
  return result != CUDA_SUCCESS ? result : static_cast<CUresult>(context.error.load());
}

CUresult event_elapsed_time(float* milliseconds, CUevent start_handle, CUevent end_handle) {
  Event *start, *end;
  if (const CUresult result = find_event(start_handle, start); result != CUDA_SUCCESS) return result;
  if (const CUresult result = find_event(end_handle, end); result != CUDA_SUCCESS) return result;
  if (milliseconds == nullptr) return CUDA_ERROR_INVALID_VALUE;
  for (Event* event : {start, end}) {
    if (const CUresult result = check_captured_event(*event); result != CUDA_SUCCESS) return result;
  }
  const bool timed = ((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING) == 0;
  if (!timed || start->context != end->context || !start->recorded() || !end->recorded())
    return CUDA_ERROR_INVALID_HANDLE;
  Context& context = *start->context;
  const std::uint64_t start_record = start->progress.record.load(), end_record = end->progress.record.load();
  const bool ours = !start->progress.elsewhere.load() && !end->progress.elsewhere.load();
  auto& known = end->progress.elapsed;
  if (ours) {
    const std::scoped_lock lock(context.mutex);
    if (known.start == start->name && known.start_record == start_record && known.record == end_record) {
      *milliseconds = known.milliseconds;
      return CUDA_SUCCESS;
    }
  }
  const auto reply = context.client->session().call(wire::EventElapsedTime(start->name, end->name));
  if (!reply) return to_cuda(reply.error());
  *milliseconds = reply->milliseconds();
  const std::scoped_lock lock(context.mutex);
  known = {start->name, start_record, end_record, *milliseconds};
  return CUDA_SUCCESS;
}

void recorded_elsewhere(Event& event) {
  event.progress.elsewhere.store(true);
  event.progress.record.fetch_add(1);
}

std::vector<Download> downloads_of(Event& event) {
  Context& context = *event.context;
  if (!context.any_downloads.load(std::memory_order_acquire)) return {};
  std::scoped_lock lock(context.mutex);
  return event.downloads;
}

void forget_events(Context& context) {
  std::unordered_set<Event*> gone;
  {
    std::scoped_lock lock(context.mutex);
    gone.swap(context.events);
  }
  for (Event* event : gone) {
    context.client->watched().forget(event->name);
    Slab<Event>::destroy(event);
  }
}

}  // namespace avec::client
