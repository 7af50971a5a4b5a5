#include "client/capture.h"

#include <algorithm>
#include <mutex>

#include "client/client.h"
#include "client/context.h"
#include "client/event.h"
#include "client/graph.h"
#include "client/graph_nodes.h"
#include "client/slab.h"
#include "client/status.h"
#include "client/stream.h"
#include "session/session.h"

namespace avec::client {

constinit std::atomic<int> captures_under_way{0};

namespace {

std::mutex& captures_mutex = *new std::mutex;  // outlives static objects
std::vector<Capture*>& captures = *new std::vector<Capture*>;
std::atomic<std::uint64_t> next_id{1};
thread_local constinit CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

bool blocking(const Stream& stream) { return (stream.flags & CU_STREAM_NON_BLOCKING) == 0; }

CUresult invalidate(Capture& capture, CUresult result) {
  capture.invalid.store(true);
  return result;
}

bool is_legacy(const Stream& stream) { return stream.context->legacy.load() == &stream; }

/// Streams of the legacy stream's context that it waits for capture: it cannot be used, and they fail.
CUresult legacy_excluded(Stream& stream, bool breaks) {
  if (!is_legacy(stream) || stream.context->blocking_captures.load() == 0) return CUDA_SUCCESS;
  if (!breaks) return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
  std::scoped_lock lock(captures_mutex);
  for (Capture* capture : captures) {
    const bool excludes = std::ranges::any_of(capture->streams, [&](const Stream* each) {
      return each->context == stream.context && blocking(*each);
    });
    if (excludes) capture->invalid.store(true);
  }
  return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
}

void join(Capture& capture, Stream& stream) {
  std::scoped_lock lock(captures_mutex);
  capture.streams.push_back(&stream);
  stream.capture.store(&capture);
  if (blocking(stream)) stream.context->blocking_captures.fetch_add(1);
}

/// Nobody takes part in the capture any more.
void dissolve(Capture& capture) {
  {
    std::scoped_lock lock(captures_mutex);
    std::erase(captures, &capture);
    for (Stream* stream : capture.streams) {
      stream->capture.store(nullptr);
      if (blocking(*stream)) stream->context->blocking_captures.fetch_sub(1);
    }
  }
  captures_under_way.fetch_sub(1);
  Slab<Capture>::destroy(&capture);
}

/// The capture that the event was recorded in, if it is still under way.
Capture* capture_of(const Event& event) {
  Capture* capture = event.capture.load();
  return capture != nullptr && Slab<Capture>::find(capture) == capture && capture->id == event.capture_id.load()
             ? capture
             : nullptr;
}

}  // namespace

bool is_capturing(const Stream& stream) noexcept { return stream.capture.load(std::memory_order_relaxed) != nullptr; }

CUresult unsafe_call_slow() noexcept {
  if (thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_SUCCESS;
  CUresult result = CUDA_SUCCESS;
  std::scoped_lock lock(captures_mutex);
  const auto self = std::this_thread::get_id();
  for (Capture* capture : captures) {
    const bool own = capture->thread == self && capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED;
    const bool others = capture->thread != self && capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL &&
                        thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
    if (own || others) result = invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  }
  return result;
}

CUresult capture_allows_slow(Stream& stream) noexcept {
  if (const CUresult result = legacy_excluded(stream, true); result != CUDA_SUCCESS) return result;
  const Capture* capture = stream.capture.load();
  return capture != nullptr && capture->invalid.load() ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
}

CUresult uncapturable(Stream& stream) noexcept {
  if (captures_under_way.load(std::memory_order_relaxed) == 0) return CUDA_SUCCESS;
  if (const CUresult result = capture_allows_slow(stream); result != CUDA_SUCCESS) return result;
  Capture* capture = stream.capture.load();
  return capture == nullptr ? CUDA_SUCCESS : invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
}

CUresult uncapturable(Context& context) noexcept {
  if (captures_under_way.load(std::memory_order_relaxed) == 0) return CUDA_SUCCESS;
  CUresult result = CUDA_SUCCESS;
  std::scoped_lock lock(captures_mutex);
  for (Capture* capture : captures) {
    const bool concerns =
        std::ranges::any_of(capture->streams, [&](const Stream* each) { return each->context == &context; });
    if (concerns) result = invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  }
  return result;
}

// ---- events ---------------------------------------------------------------------------------

CUresult check_captured_event(Event& event) noexcept {
  if (event.capture_id.load(std::memory_order_relaxed) == 0) return CUDA_SUCCESS;
  if (Capture* capture = capture_of(event)) capture->invalid.store(true);
  return CUDA_ERROR_CAPTURED_EVENT;
}

CUresult capture_record(Event& event, Stream& stream, unsigned flags, bool& handled) {
  handled = false;
  Capture* capture = stream.capture.load(std::memory_order_relaxed);
  if (capture == nullptr) {
    if (flags == CU_EVENT_RECORD_DEFAULT) event.capture_id.store(0, std::memory_order_relaxed);
    return CUDA_SUCCESS;
  }
  handled = true;
  if (flags == CU_EVENT_RECORD_EXTERNAL) {
    std::scoped_lock lock(graphs_mutex);
    capture->graph->belongings.events.push_back({handle_of(&event), event.name});
  } else {
    event.capture.store(capture);
    event.capture_id.store(capture->id);
  }
  return to_cuda(stream.context->client->session().post(wire::EventRecord(event.name, stream.name, flags, 0)));
}

CUresult capture_wait(Stream& stream, Event& event, unsigned flags, bool& handled) {
  handled = true;
  Capture* own = stream.capture.load(std::memory_order_relaxed);
  const auto post = [&] {
    return to_cuda(
        stream.context->client->session().post(wire::StreamWaitEvent(stream.name, event.name, flags, 0)));
  };
  if (own != nullptr && flags == CU_EVENT_WAIT_EXTERNAL) return post();
  if (event.capture_id.load(std::memory_order_relaxed) == 0) {
    handled = own != nullptr;
    return handled ? invalidate(*own, CUDA_ERROR_STREAM_CAPTURE_ISOLATION) : CUDA_SUCCESS;
  }
  Capture* capture = capture_of(event);
  if (capture == nullptr)
    return own != nullptr ? invalidate(*own, CUDA_ERROR_STREAM_CAPTURE_ISOLATION) : CUDA_ERROR_CAPTURED_EVENT;
  if (flags == CU_EVENT_WAIT_EXTERNAL) return CUDA_ERROR_ILLEGAL_STATE;
  if (capture->invalid.load()) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (own == nullptr) {
    if (is_legacy(stream)) return invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    join(*capture, stream);
  } else if (own != capture) {
    own->invalid.store(true);
    return invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_MERGE);
  }
  return post();
}

// ---- streams --------------------------------------------------------------------------------

CUresult stream_is_capturing(CUstream handle, CUstreamCaptureStatus* status) {
  Stream* stream;
  if (const CUresult result = resolve_stream(handle, stream); result != CUDA_SUCCESS) return result;
  if (status == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *status = CU_STREAM_CAPTURE_STATUS_NONE;
  if (captures_under_way.load(std::memory_order_relaxed) == 0) return CUDA_SUCCESS;
  if (const CUresult result = legacy_excluded(*stream, false); result != CUDA_SUCCESS) return result;
  if (const Capture* capture = stream->capture.load()) {
    *status = capture->invalid.load() ? CU_STREAM_CAPTURE_STATUS_INVALIDATED : CU_STREAM_CAPTURE_STATUS_ACTIVE;
  }
  return CUDA_SUCCESS;
}

namespace {

/// What stream_capture_info last said of dependencies to this thread: valid until it is asked again.
struct Said {
  std::vector<CUgraphNode> nodes;
  std::vector<CUgraphEdgeData> edges;
};

CUresult ask_dependencies(Stream& stream, Graph& graph, Said& said) {
  std::scoped_lock lock(graphs_mutex);
  Client& client = *stream.context->client;
  const auto reply =
      client.session().call(wire::StreamCaptureInfo(stream.name, client.mint(limits::kMaxHandles)));
  if (!reply) return to_cuda(reply.error());
  said.nodes.clear();
  said.edges.clear();
  if ((*reply)->dependencies() == nullptr) return CUDA_SUCCESS;
  for (const wire::GraphEdge* edge : *(*reply)->dependencies()) {
    if (!graph.by_name.contains(edge->node())) {
      // Its type is learnt with the rest.
      if (const CUresult result = describe(graph); result != CUDA_SUCCESS) return result;
    }
    const auto node = graph.by_name.find(edge->node());
    if (node == graph.by_name.end()) return CUDA_ERROR_UNKNOWN;
    said.nodes.push_back(handle_of(node->second));
    said.edges.push_back({edge->from_port(), edge->to_port(), edge->type(), {}});
  }
  return CUDA_SUCCESS;
}

}  // namespace

CUresult stream_capture_info(CUstream handle, CUstreamCaptureStatus* status, cuuint64_t* id, CUgraph* graph,
                             const CUgraphNode** dependencies, const CUgraphEdgeData** edges, std::size_t* count) {
  if (edges != nullptr && dependencies == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult result = stream_is_capturing(handle, status); result != CUDA_SUCCESS) return result;
  if (id != nullptr) *id = 0;
  if (*status != CU_STREAM_CAPTURE_STATUS_ACTIVE) return CUDA_SUCCESS;
  Stream* stream;
  if (const CUresult result = resolve_stream(handle, stream); result != CUDA_SUCCESS) return result;
  const Capture* capture = stream->capture.load();
  if (capture == nullptr) return CUDA_SUCCESS;
  if (id != nullptr) *id = capture->id;
  if (graph != nullptr) *graph = handle_of(capture->graph);
  if (dependencies == nullptr && count == nullptr) return CUDA_SUCCESS;
  static thread_local Said said;
  if (const CUresult result = ask_dependencies(*stream, *capture->graph, said); result != CUDA_SUCCESS) return result;
  const bool annotated = std::ranges::any_of(
      said.edges, [](const CUgraphEdgeData& edge) { return edge.from_port != 0 || edge.to_port != 0 || edge.type != 0; });
  if (annotated && dependencies != nullptr && edges == nullptr) return CUDA_ERROR_LOSSY_QUERY;
  if (dependencies != nullptr) *dependencies = said.nodes.data();
  if (edges != nullptr) *edges = said.edges.data();
  if (count != nullptr) *count = said.nodes.size();
  return CUDA_SUCCESS;
}

namespace {

CUresult begin(Stream& stream, Graph* graph, bool existing, CUstreamCaptureMode mode, ConstBytes dependencies,
               std::size_t count) {
  Context& context = *stream.context;
  Capture* capture = Slab<Capture>::make();
  if (capture == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  capture->context = &context;
  capture->id = next_id.fetch_add(1);
  capture->origin = &stream;
  capture->graph = graph;
  capture->existing = existing;
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  graph->in_capture = true;
  graph->known = false;
  captures_under_way.fetch_add(1);
  {
    std::scoped_lock lock(captures_mutex);
    captures.push_back(capture);
  }
  join(*capture, stream);
  return to_cuda(context.client->session().post(
      wire::StreamBeginCapture(stream.name, graph->name, existing ? 1 : 0, static_cast<std::uint32_t>(count)),
      dependencies));
}

CUresult check_begin(CUstream handle, CUstreamCaptureMode mode, Stream*& stream) {
  if (const CUresult result = resolve_stream(handle, stream); result != CUDA_SUCCESS) return result;
  if (mode < CU_STREAM_CAPTURE_MODE_GLOBAL || mode > CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_ERROR_INVALID_VALUE;
  if (is_legacy(*stream)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  return is_capturing(*stream) ? CUDA_ERROR_ILLEGAL_STATE : CUDA_SUCCESS;
}

}  // namespace

CUresult stream_begin_capture(CUstream handle, CUstreamCaptureMode mode) {
  Stream* stream;
  if (const CUresult result = check_begin(handle, mode, stream); result != CUDA_SUCCESS) return result;
  std::scoped_lock lock(graphs_mutex);
  Graph* graph = make_graph(*stream->context, stream->context->client->mint());
  return graph == nullptr ? CUDA_ERROR_OUT_OF_MEMORY : begin(*stream, graph, false, mode, {}, 0);
}

CUresult stream_begin_capture_to(CUstream handle, CUgraph graph_handle, const CUgraphNode* dependencies,
                                 const CUgraphEdgeData* edges, std::size_t count, CUstreamCaptureMode mode) {
  Stream* stream;
  if (const CUresult result = check_begin(handle, mode, stream); result != CUDA_SUCCESS) return result;
  std::scoped_lock lock(graphs_mutex);
  Graph* graph;
  if (const CUresult result = find_graph(graph_handle, graph); result != CUDA_SUCCESS) return result;
  if (graph->in_capture) return CUDA_ERROR_INVALID_VALUE;
  std::vector<wire::GraphEdge> wanted;
  if (const CUresult result = to_wire(*graph, dependencies, edges, count, wanted); result != CUDA_SUCCESS)
    return result;
  if (count > kMaxEdges) return CUDA_ERROR_NOT_SUPPORTED;
  return begin(*stream, graph, true, mode, std::as_bytes(std::span(wanted)), count);
}

CUresult stream_end_capture(CUstream handle, CUgraph* out) {
  Stream* stream;
  if (const CUresult result = resolve_stream(handle, stream); result != CUDA_SUCCESS) return result;
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Capture* capture = stream->capture.load();
  if (capture == nullptr) return CUDA_ERROR_ILLEGAL_STATE;
  if (capture->origin != stream) return invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
  const bool elsewhere =
      capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && capture->thread != std::this_thread::get_id();
  std::scoped_lock lock(graphs_mutex);
  Graph* graph = capture->graph;
  // As on an H100: the capture has ended with the failed call of another thread.
  const bool invalid = capture->invalid.load() || elsewhere, existing = capture->existing;
  dissolve(*capture);
  graph->in_capture = false;
  graph->known = false;  // what was described meanwhile was not all
  CUresult result = to_cuda(stream->context->client->session().call(
      wire::StreamEndCapture(stream->name, graph->name, invalid ? 1 : 0, 0)));
  if (invalid) result = elsewhere ? CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  *out = result == CUDA_SUCCESS ? handle_of(graph) : nullptr;
  if (result != CUDA_SUCCESS && !existing) forget_graph(*graph);
  return result;
}

CUresult stream_update_dependencies(CUstream handle, const CUgraphNode* dependencies, const CUgraphEdgeData* edges,
                                    std::size_t count, unsigned flags) {
  Stream* stream;
  if (const CUresult result = resolve_stream(handle, stream); result != CUDA_SUCCESS) return result;
  const Capture* capture = stream->capture.load();
  if (capture == nullptr) return CUDA_ERROR_ILLEGAL_STATE;
  if (capture->invalid.load()) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (flags > CU_STREAM_SET_CAPTURE_DEPENDENCIES || (count != 0 && dependencies == nullptr))
    return CUDA_ERROR_INVALID_VALUE;
  std::scoped_lock lock(graphs_mutex);
  std::vector<wire::GraphEdge> wanted;
  if (const CUresult result = to_wire(*capture->graph, dependencies, edges, count, wanted); result != CUDA_SUCCESS)
    return result;
  if (count > kMaxEdges) return CUDA_ERROR_NOT_SUPPORTED;
  return to_cuda(stream->context->client->session().post(
      wire::StreamChangeDependencies(stream->name, static_cast<std::uint32_t>(count), flags),
      std::as_bytes(std::span(wanted))));
}

CUresult exchange_capture_mode(CUstreamCaptureMode* mode) {
  if (mode == nullptr || *mode < CU_STREAM_CAPTURE_MODE_GLOBAL || *mode > CU_STREAM_CAPTURE_MODE_RELAXED)
    return CUDA_ERROR_INVALID_VALUE;
  std::swap(*mode, thread_mode);
  return CUDA_SUCCESS;
}

void leave_capture(Stream& stream) noexcept {
  Capture* capture = stream.capture.load();
  if (capture == nullptr) return;
  if (capture->origin == &stream) {
    // The executor ends the capture with the stream.
    std::scoped_lock lock(graphs_mutex);
    Graph* graph = capture->graph;
    const bool existing = capture->existing;
    dissolve(*capture);
    graph->in_capture = false;
    if (!existing) forget_graph(*graph);
    return;
  }
  std::scoped_lock lock(captures_mutex);
  std::erase(capture->streams, &stream);
  stream.capture.store(nullptr);
  capture->invalid.store(true);
  if (blocking(stream)) stream.context->blocking_captures.fetch_sub(1);
}

Graph* captured_graph(Stream& stream) noexcept {
  const Capture* capture = stream.capture.load(std::memory_order_relaxed);
  return capture == nullptr ? nullptr : capture->graph;
}

}  // namespace avec::client
