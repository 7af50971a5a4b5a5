#include "devices/cpu/graph/capture.h"

#include <algorithm>
#include <atomic>
#include <unordered_set>

namespace avec::cpu {
namespace {

/// Captures under way; 0 in programs that do not capture, whose calls then take no lock here.
std::atomic<int> under_way{0};

std::vector<std::shared_ptr<Capture>>& captures() {
  static auto* const all = new std::vector<std::shared_ptr<Capture>>;
  return *all;
}

thread_local CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

bool any() { return under_way.load(std::memory_order_acquire) > 0; }

void invalidate(Capture& capture) { capture.invalid = true; }

/// The legacy default stream waits for blocking streams, so it must not be used while one of them captures.
CUresult refuse_implicit(const Stream& stream) {
  if (!stream.legacy) return CUDA_SUCCESS;
  for (const auto& capture : captures()) {
    for (const auto& weak : capture->streams) {
      const auto other = weak.lock();
      if (other && other->context == stream.context && other->blocking())
        return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
  }
  return CUDA_SUCCESS;
}

/// The same for a call whose use of the legacy stream breaks the captures.
CUresult break_implicit(const Stream& stream) {
  const CUresult error = refuse_implicit(stream);
  if (error == CUDA_SUCCESS) return error;
  for (const auto& capture : captures()) {
    for (const auto& weak : capture->streams) {
      const auto other = weak.lock();
      if (other && other->context == stream.context && other->blocking()) invalidate(*capture);
    }
  }
  return error;
}

void join(const StreamRef& stream, const std::shared_ptr<Capture>& capture) {
  stream->capture = std::make_shared<StreamCapture>();
  stream->capture->capture = capture;
  capture->streams.push_back(stream);
}

void leave(const std::shared_ptr<Capture>& capture) {
  for (const auto& weak : capture->streams) {
    if (const auto stream = weak.lock()) stream->capture = nullptr;
  }
  capture->ended = true;
  capture->graph->capturing = false;
  std::erase(captures(), capture);
  under_way.fetch_sub(1);
}

void add_links(std::vector<Link>& to, const std::vector<Link>& more) {
  for (const auto& one : more) {
    const auto same = [&](const Link& other) { return other.node == one.node; };
    if (std::ranges::none_of(to, same)) to.push_back(one);
  }
}

/// Has everything that the capture's streams did been joined into the stream that began it?
bool joined(const Capture& capture, const StreamCapture& origin) {
  std::unordered_set<const Node*> reached;
  std::vector<const Node*> open;
  for (const auto& link : origin.next) open.push_back(link.node);
  while (!open.empty()) {
    const Node* node = open.back();
    open.pop_back();
    if (!reached.insert(node).second) continue;
    for (const auto& before : node->before) open.push_back(before.node);
  }
  return std::ranges::all_of(capture.streams, [&](const std::weak_ptr<Stream>& weak) {
    const auto stream = weak.lock();
    if (!stream || !stream->capture) return true;
    return std::ranges::all_of(stream->capture->next,
                               [&](const Link& link) { return reached.contains(link.node); });
  });
}

/// The stream's capture, in use and valid.
CUresult active(const StreamRef& stream, std::shared_ptr<StreamCapture>& part) {
  part = stream->capture;
  if (!part) return CUDA_ERROR_ILLEGAL_STATE;
  return part->capture->invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
}

NodeRef append(StreamCapture& part, Params params) {
  auto node = add_node(*part.capture->graph, std::move(params), part.next);
  part.next = {{node.get(), {}}};
  return node;
}

}  // namespace

std::optional<CUresult> captured(const StreamRef& stream,
                                 const std::function<CUresult(Graph&, Params&)>& make) {
  if (!any()) return std::nullopt;
  const GraphLock lock(graph_mutex());
  if (const auto error = break_implicit(*stream)) return error;
  std::shared_ptr<StreamCapture> part;
  const CUresult state = active(stream, part);
  if (!part) return std::nullopt;
  if (state != CUDA_SUCCESS) return state;
  Params params;
  if (const auto error = make(*part->capture->graph, params)) {
    invalidate(*part->capture);
    return error;
  }
  auto node = append(*part, std::move(params));
  if (auto* kernel = std::get_if<KernelParams>(&node->params)) {
    if (!kernel->attributes.contains(CU_LAUNCH_ATTRIBUTE_PRIORITY)) {
      kernel->attributes[CU_LAUNCH_ATTRIBUTE_PRIORITY].priority = stream->priority;
    }
  }
  return CUDA_SUCCESS;
}

CUresult refuse_capture(const StreamRef& stream) {
  if (!any()) return CUDA_SUCCESS;
  const GraphLock lock(graph_mutex());
  if (const auto error = break_implicit(*stream)) return error;
  if (!stream->capture) return CUDA_SUCCESS;
  auto& capture = *stream->capture->capture;
  if (capture.invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  invalidate(capture);
  return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

CUresult refuse_capture(const Context& context) {
  if (!any()) return CUDA_SUCCESS;
  const GraphLock lock(graph_mutex());
  CUresult error = CUDA_SUCCESS;
  for (const auto& capture : captures()) {
    const auto here = [&](const std::weak_ptr<Stream>& weak) {
      const auto stream = weak.lock();
      return stream && stream->context.get() == &context;
    };
    if (std::ranges::none_of(capture->streams, here)) continue;
    invalidate(*capture);
    error = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  return error;
}

CUresult refuse_unsafe() {
  if (!any() || thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_SUCCESS;
  const GraphLock lock(graph_mutex());
  CUresult error = CUDA_SUCCESS;
  for (const auto& capture : captures()) {
    const bool mine =
        capture->thread == std::this_thread::get_id() && capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED;
    const bool global =
        thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL && capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
    if (!mine && !global) continue;
    invalidate(*capture);
    error = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  return error;
}

CUresult refuse_captured_event(Event& event) {
  std::shared_ptr<EventCapture> part;
  {
    const std::lock_guard lock(event.mutex);
    part = event.capture;
  }
  if (!part) return CUDA_SUCCESS;
  const GraphLock lock(graph_mutex());
  if (!part->capture->ended) invalidate(*part->capture);
  return CUDA_ERROR_CAPTURED_EVENT;
}

std::optional<CUresult> capture_record(const StreamRef& stream, const std::shared_ptr<Event>& event,
                                       unsigned flags) {
  if (!any()) return std::nullopt;
  const GraphLock lock(graph_mutex());
  if (const auto error = break_implicit(*stream)) return error;
  std::shared_ptr<StreamCapture> part;
  const CUresult state = active(stream, part);
  if (!part) return std::nullopt;
  if (state != CUDA_SUCCESS) return state;
  if ((flags & CU_EVENT_RECORD_EXTERNAL) != 0) {
    append(*part, RecordParams{event});
    return CUDA_SUCCESS;
  }
  const std::lock_guard event_lock(event->mutex);
  event->capture = std::make_shared<EventCapture>(part->capture, part->next);
  event->recorded = nullptr;
  return CUDA_SUCCESS;
}

std::optional<CUresult> capture_wait(const StreamRef& stream, const std::shared_ptr<Event>& event,
                                     unsigned flags) {
  std::shared_ptr<EventCapture> from;
  {
    const std::lock_guard lock(event->mutex);
    from = event->capture;
  }
  if (!any() && !from) return std::nullopt;
  const GraphLock lock(graph_mutex());
  if (const auto error = break_implicit(*stream)) return error;
  std::shared_ptr<StreamCapture> part;
  const CUresult state = active(stream, part);
  if (part && state != CUDA_SUCCESS) return state;
  if (part && (flags & CU_EVENT_WAIT_EXTERNAL) != 0) {
    append(*part, WaitParams{event});
    return CUDA_SUCCESS;
  }
  if (!part && !from) return std::nullopt;
  if (part && !from) {
    invalidate(*part->capture);
    return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
  }
  if (from->capture->ended) {
    if (part) invalidate(*part->capture);
    return part ? CUDA_ERROR_STREAM_CAPTURE_ISOLATION : CUDA_ERROR_CAPTURED_EVENT;
  }
  if (from->capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (part && part->capture != from->capture) {
    invalidate(*part->capture);
    invalidate(*from->capture);
    return CUDA_ERROR_STREAM_CAPTURE_MERGE;
  }
  if (!part) {
    if (stream->legacy) {
      invalidate(*from->capture);
      return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    join(stream, from->capture);
    part = stream->capture;
  }
  add_links(part->next, from->nodes);
  return CUDA_SUCCESS;
}

void stream_destroyed(const StreamRef& stream) {
  if (!any()) return;
  const GraphLock lock(graph_mutex());
  if (!stream->capture) return;
  const auto capture = stream->capture->capture;
  const bool began = capture->origin.lock() == stream;
  if (!began) {
    // What it did cannot be joined any more.
    invalidate(*capture);
    return;
  }
  if (!capture->to_graph) forget_graph(capture->graph);
  leave(capture);
}

void end_captures(const Context& context) {
  if (!any()) return;
  const GraphLock lock(graph_mutex());
  const auto all = captures();
  for (const auto& capture : all) {
    const auto origin = capture->origin.lock();
    if (origin && origin->context.get() != &context) continue;
    if (!capture->to_graph) forget_graph(capture->graph);
    leave(capture);
  }
}

namespace {

CUresult begin(CUstream handle, CUstreamCaptureMode mode, CUgraph graph_handle, const CUgraphNode* nodes,
               const CUgraphEdgeData* data, std::size_t count, bool to_graph) {
  static std::atomic<std::uint64_t> ids{1};
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (mode < CU_STREAM_CAPTURE_MODE_GLOBAL || mode > CU_STREAM_CAPTURE_MODE_RELAXED)
    return CUDA_ERROR_INVALID_VALUE;
  const GraphLock lock(graph_mutex());
  if (stream->legacy) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
  auto capture = std::make_shared<Capture>();
  std::vector<Link> links;
  if (to_graph) {
    capture->graph = graph_of(graph_handle);
    if (!capture->graph || capture->graph->capturing) return CUDA_ERROR_INVALID_VALUE;
    if (const auto error = read_links(*capture->graph, nullptr, nodes, data, count, links)) return error;
  } else {
    capture->graph = new_graph();
  }
  capture->id = ids.fetch_add(1);
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  capture->to_graph = to_graph;
  capture->origin = stream;
  capture->graph->capturing = true;
  captures().push_back(capture);
  under_way.fetch_add(1);
  join(stream, capture);
  stream->capture->next = std::move(links);
  return CUDA_SUCCESS;
}

CUresult info(CUstream handle, CUstreamCaptureStatus* status, cuuint64_t* id, CUgraph* graph,
              const CUgraphNode** nodes, const CUgraphEdgeData** data, std::size_t* count) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (status == nullptr || (data != nullptr && nodes == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  *status = CU_STREAM_CAPTURE_STATUS_NONE;
  if (!any()) return CUDA_SUCCESS;
  const GraphLock lock(graph_mutex());
  if (const auto error = refuse_implicit(*stream)) return error;
  auto* part = stream->capture.get();
  if (part == nullptr) return CUDA_SUCCESS;
  if (part->capture->invalid) {
    *status = CU_STREAM_CAPTURE_STATUS_INVALIDATED;
    return CUDA_SUCCESS;
  }
  *status = CU_STREAM_CAPTURE_STATUS_ACTIVE;
  part->shown.clear();
  part->shown_data.clear();
  bool plain = true;
  for (const auto& link : part->next) {
    part->shown.push_back(handle_of(*link.node));
    part->shown_data.push_back(link.data);
    plain = plain && default_edge(link.data);
  }
  if (nodes != nullptr && data == nullptr && !plain) return CUDA_ERROR_LOSSY_QUERY;
  if (id != nullptr) *id = part->capture->id;
  if (graph != nullptr) *graph = handle_of(*part->capture->graph);
  if (nodes != nullptr) *nodes = part->shown.data();
  if (data != nullptr) *data = part->shown_data.data();
  if (count != nullptr) *count = part->next.size();
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace avec::cpu

using namespace avec::cpu;

extern "C" {

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
  return begin(stream, mode, nullptr, nullptr, nullptr, 0, false);
}

CUresult cuStreamBeginCaptureToGraph(CUstream stream, CUgraph graph, const CUgraphNode* nodes,
                                     const CUgraphEdgeData* data, size_t count, CUstreamCaptureMode mode) {
  return begin(stream, mode, graph, nodes, data, count, true);
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph* graph) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (graph == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *graph = nullptr;
  const GraphLock lock(graph_mutex());
  if (!stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
  const auto part = stream->capture;
  const auto capture = part->capture;
  if (capture->origin.lock() != stream) {
    capture->invalid = true;
    return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
  }
  CUresult error = CUDA_SUCCESS;
  if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && capture->thread != std::this_thread::get_id())
    error = CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;  // as on an H100: it has ended
  else if (capture->invalid)
    error = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  else if (!joined(*capture, *part))
    error = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
  leave(capture);
  if (error == CUDA_SUCCESS)
    *graph = handle_of(*capture->graph);
  else if (!capture->to_graph)
    forget_graph(capture->graph);
  return error;
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus* status) {
  return info(stream, status, nullptr, nullptr, nullptr, nullptr, nullptr);
}

CUresult cuStreamGetCaptureInfo_v2(CUstream stream, CUstreamCaptureStatus* status, cuuint64_t* id,
                                   CUgraph* graph, const CUgraphNode** nodes, size_t* count) {
  return info(stream, status, id, graph, nodes, nullptr, count);
}

CUresult cuStreamGetCaptureInfo_v3(CUstream stream, CUstreamCaptureStatus* status, cuuint64_t* id,
                                   CUgraph* graph, const CUgraphNode** nodes, const CUgraphEdgeData** data,
                                   size_t* count) {
  return info(stream, status, id, graph, nodes, data, count);
}

CUresult cuStreamUpdateCaptureDependencies_v2(CUstream handle, CUgraphNode* nodes,
                                              const CUgraphEdgeData* data, size_t count, unsigned flags) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (flags > CU_STREAM_SET_CAPTURE_DEPENDENCIES) return CUDA_ERROR_INVALID_VALUE;
  const GraphLock lock(graph_mutex());
  std::shared_ptr<StreamCapture> part;
  if (const auto error = active(stream, part)) return error;
  std::vector<Link> links;
  if (const auto error = read_links(*part->capture->graph, nullptr, nodes, data, count, links)) return error;
  if (flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES)
    part->next = std::move(links);
  else
    add_links(part->next, links);
  return CUDA_SUCCESS;
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) {
  if (const auto error = initialised()) return error;
  if (mode == nullptr || *mode < CU_STREAM_CAPTURE_MODE_GLOBAL || *mode > CU_STREAM_CAPTURE_MODE_RELAXED) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  std::swap(thread_mode, *mode);
  return CUDA_SUCCESS;
}

#undef cuStreamBeginCapture
#undef cuStreamGetCaptureInfo
#undef cuStreamUpdateCaptureDependencies

CUresult cuStreamBeginCapture(CUstream stream) {
  return cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
}

CUresult cuStreamGetCaptureInfo(CUstream stream, CUstreamCaptureStatus* status, cuuint64_t* id) {
  return info(stream, status, id, nullptr, nullptr, nullptr, nullptr);
}

CUresult cuStreamUpdateCaptureDependencies(CUstream stream, CUgraphNode* nodes, size_t count,
                                           unsigned flags) {
  return cuStreamUpdateCaptureDependencies_v2(stream, nodes, nullptr, count, flags);
}

}  // extern "C"
