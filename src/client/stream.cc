#include "client/stream.h"

#include <algorithm>
#include <utility>

#include "client/callbacks.h"
#include "client/capture.h"
#include "client/client.h"
#include "client/coherence.h"
#include "client/context.h"
#include "client/device.h"
#include "client/event.h"
#include "client/memory_pool.h"
#include "client/status.h"
#include "session/session.h"

namespace avec::client {
namespace {

/// A thread's default streams: one per context that it used them in. They end with the thread.
class PerThreadStreams {
 public:
  ~PerThreadStreams() {
    for (const auto& [context_name, stream] : streams_) {
      Stream* live = Slab<Stream>::find(stream);
      if (live == nullptr || live->context->name.load() != context_name) continue;
      end(*live);
    }
  }
  Stream* in(Context& context) {
    const std::uint64_t name = context.name.load();
    for (const auto& [context_name, stream] : streams_) {
      if (context_name == name) return stream;
    }
    std::erase_if(streams_, [](const auto& entry) { return Slab<Stream>::find(entry.second) == nullptr; });
    Stream* stream = make(context, CU_STREAM_DEFAULT, 0);
    if (stream == nullptr) return nullptr;
    stream->is_default = true;
    streams_.emplace_back(name, stream);
    return stream;
  }
  static Stream* make(Context& context, unsigned flags, int priority) {
    Stream* stream = Slab<Stream>::make();
    if (stream == nullptr) return nullptr;
    stream->context = &context;
    stream->name = context.client->mint();
    stream->flags = flags;
    stream->priority = priority;
    if ((flags & CU_STREAM_NON_BLOCKING) != 0) context.client->note_unordered_streams();
    {
      std::scoped_lock lock(context.mutex);
      context.streams.insert(stream);
    }
    (void)context.client->session().post(
        wire::StreamCreate(stream->name, context.name.load(), flags, priority));
    return stream;
  }
  static void end(Stream& stream) {
    Context& context = *stream.context;
    leave_capture(stream);
    {
      std::scoped_lock lock(context.mutex);
      context.streams.erase(&stream);
      // Its work goes on: whoever synchronises the context waits for these too.
      if (Stream* legacy = context.legacy.load()) {
        legacy->downloads.insert(legacy->downloads.end(), stream.downloads.begin(), stream.downloads.end());
      }
    }
    const std::uint64_t name = stream.name;
    context.client->watched().forget(name);
    if (Slab<Stream>::destroy(&stream)) (void)context.client->session().post(wire::StreamDestroy(name));
  }

 private:
  std::vector<std::pair<std::uint64_t, Stream*>> streams_;  // by the context's name on the wire
};

}  // namespace

namespace {

/// Made anew where a destructor of a static object calls CUDA: the main thread's own objects are
/// gone by then.
thread_local constinit PerThreadStreams* thread_streams = nullptr;

struct ThreadStreamsOwner {
  ~ThreadStreamsOwner() { delete std::exchange(thread_streams, nullptr); }
};

}  // namespace

Stream* per_thread_stream(Context& context) {
  if (thread_streams == nullptr) {
    thread_local ThreadStreamsOwner owner;
    thread_streams = new PerThreadStreams;
  }
  return thread_streams->in(context);
}

void forget_thread_streams_after_fork() noexcept { thread_streams = nullptr; }

CUresult resolve_stream(CUstream handle, Stream*& stream) noexcept {
  const auto value = reinterpret_cast<std::uintptr_t>(handle);
  if (in_host_function) [[unlikely]]
    return CUDA_ERROR_NOT_PERMITTED;
  if (value > 2) [[likely]] {
    Stream* found = Slab<Stream>::find(handle);
    if (found == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (const int sticky = found->context->error.load(std::memory_order_relaxed); sticky != CUDA_SUCCESS)
        [[unlikely]] {
      return static_cast<CUresult>(sticky);
    }
    stream = found;
    return CUDA_SUCCESS;
  }
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  stream = handle == CU_STREAM_PER_THREAD ? per_thread_stream(*context)
                                          : context->legacy.load(std::memory_order_acquire);
  return stream != nullptr ? CUDA_SUCCESS : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

namespace {

/// Behind a host function: what it writes into memory that kernels use is sent before the work is posted.
void wait_behind_host_functions(Stream& stream) noexcept {
  Client& client = *stream.context->client;
  if (client.coherent()) wait_for_host_functions(stream);
  limit_work_behind_host_functions(client);
}

}  // namespace

CUresult stream_for_device_work(CUstream handle, Stream*& stream) noexcept {
  const CUresult result = resolve_stream(handle, stream);
  if (result != CUDA_SUCCESS) [[unlikely]]
    return result;
  if (const CUresult allowed = capture_allows(*stream); allowed != CUDA_SUCCESS) [[unlikely]]
    return allowed;
  if (is_capturing(*stream)) [[unlikely]]
    return CUDA_SUCCESS;  // nothing is done now
  if (pending_host_functions.load(std::memory_order_relaxed) != 0) [[unlikely]]
    wait_behind_host_functions(*stream);
  begin_work(*stream);
  return CUDA_SUCCESS;
}

CUresult stream_for_work(CUstream handle, Stream*& stream) noexcept {
  const CUresult result = stream_for_device_work(handle, stream);
  if (result == CUDA_SUCCESS && pending_host_functions.load(std::memory_order_relaxed) != 0 && !is_capturing(*stream))
      [[unlikely]] {
    wait_for_host_functions(*stream);
  }
  return result;
}

CUresult stream_create(CUstream* handle, unsigned flags, int priority) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (handle == nullptr || (flags & ~static_cast<unsigned>(CU_STREAM_NON_BLOCKING)) != 0)
    return CUDA_ERROR_INVALID_VALUE;
  // Numerically lower is more urgent; what lies outside is brought inside, as CUDA documents.
  const int clamped =
      std::clamp(priority, context->device->greatest_priority(), context->device->least_priority());
  Stream* stream = PerThreadStreams::make(*context, flags, clamped);
  if (stream == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  *handle = handle_of(stream);
  return CUDA_SUCCESS;
}

CUresult stream_destroy(CUstream handle) {
  Stream* stream = Slab<Stream>::find(handle);
  if (stream == nullptr || stream->is_default) return CUDA_ERROR_INVALID_HANDLE;
  Context& context = *stream->context;
  PerThreadStreams::end(*stream);
  return static_cast<CUresult>(context.error.load());
}

CUresult stream_query(CUstream handle) {
  Stream* stream;
  if (const CUresult result = resolve_stream(handle, stream); result != CUDA_SUCCESS) return result;
  if (const CUresult result = uncapturable(*stream); result != CUDA_SUCCESS) return result;
  const CUresult own = query(*stream);
  if (own == CUDA_ERROR_NOT_READY) return own;
  Client& client = *stream->context->client;
  if (own == CUDA_SUCCESS && stream->context->any_downloads.load(std::memory_order_acquire))
    wait_for_downloads(client, downloads_before(*stream));
  return client.synchronized(host_sees(own, *stream->context));
}

CUresult synchronize(Stream& stream) {
  Context& context = *stream.context;
  const std::vector<Download> downloads = downloads_before(stream);
  const std::uint64_t pools_mark = context.client->pools().mark();
  CUresult own = CUDA_SUCCESS;
  if (context.client->coherence().owns(stream) || !finished(stream)) {
    session::Session& session = context.client->session();
    const std::uint64_t before = session.last_posted();
    own = to_cuda(session.call(wire::StreamSynchronize(stream.name)));
    if (own == CUDA_SUCCESS) learn(stream, before);
  }
  if (corrupts_context(own)) context.error.store(own);
  if (own == CUDA_SUCCESS) {
    wait_for_downloads(*context.client, downloads);
    context.client->pools().drained(pools_mark, stream.name, 0);
  }
  if (!context.client->coherence().owns(stream)) own = host_sees(own, context);
  const CUresult result = context.client->synchronized(own);
  return result != CUDA_SUCCESS ? result : static_cast<CUresult>(context.error.load());
}

CUresult stream_synchronize(CUstream handle) {
  Stream* stream;
  if (const CUresult result = resolve_stream(handle, stream); result != CUDA_SUCCESS) return result;
  if (const CUresult result = uncapturable(*stream); result != CUDA_SUCCESS) return result;
  return synchronize(*stream);
}

CUresult stream_wait_event(CUstream handle, CUevent event_handle, unsigned flags) {
  Stream* stream;
  if (const CUresult result = stream_for_device_work(handle, stream); result != CUDA_SUCCESS) return result;
  Event* event = Slab<Event>::find(event_handle);
  if (event == nullptr || event->context->client != stream->context->client) return CUDA_ERROR_INVALID_HANDLE;
  if (flags > CU_EVENT_WAIT_EXTERNAL) return CUDA_ERROR_INVALID_VALUE;
  bool handled;
  if (const CUresult result = capture_wait(*stream, *event, flags, handled); handled) return result;
  if (flags == CU_EVENT_WAIT_EXTERNAL) return CUDA_ERROR_ILLEGAL_STATE;  // only while capturing
  if (!event->recorded()) return CUDA_SUCCESS;
  if (event->context->any_downloads.load(std::memory_order_acquire))
    inherit_downloads(*stream, downloads_of(*event));
  inherit_host_functions(*stream, *event);
  return to_cuda(
      stream->context->client->session().post(wire::StreamWaitEvent(stream->name, event->name, flags, 0)));
}

namespace {

/// *out = of(stream), with the checks that every getter makes, in CUDA's order.
template <class T, class Of>
CUresult get(CUstream handle, T* out, Of of) {
  Stream* stream;
  if (const CUresult result = resolve_stream(handle, stream); result != CUDA_SUCCESS) return result;
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *out = of(*stream);
  return CUDA_SUCCESS;
}

}  // namespace

CUresult stream_get_flags(CUstream handle, unsigned* flags) {
  return get(handle, flags, [](const Stream& stream) { return stream.flags; });
}

CUresult stream_get_priority(CUstream handle, int* priority) {
  return get(handle, priority, [](const Stream& stream) { return stream.priority; });
}

CUresult stream_get_context(CUstream handle, CUcontext* context) {
  return get(handle, context, [](const Stream& stream) { return handle_of(stream.context); });
}

CUresult stream_get_id(CUstream handle, unsigned long long* id) {
  return get(handle, id, [](const Stream& stream) { return stream.name; });
}

CUresult stream_get_device(CUstream handle, CUdevice* device) {
  return get(handle, device, [](const Stream& stream) { return stream.context->device->ordinal(); });
}

void forget_streams(Context& context) {
  std::unordered_set<Stream*> gone;
  {
    std::scoped_lock lock(context.mutex);
    gone.swap(context.streams);
  }
  // The executor ends the streams of a context with it.
  for (Stream* stream : gone) {
    leave_capture(*stream);
    context.client->watched().forget(stream->name);
    Slab<Stream>::destroy(stream);
  }
}

}  // namespace avec::client
