// Stream capture. The driver captures in relaxed mode; nothing of the session's own (marks, fences,
// staging) may come into a stream that captures, nor into a default stream that it excludes.
#include <algorithm>

#include "executor/worker/session.h"

namespace avec::worker {

/// Asks the driver whether the stream captures: an event that it waits for may have joined it to a capture.
void Session::look_at_capture(Stream& stream) {
  if (captures_.empty() && !stream.capturing) return;
  CUstreamCaptureStatus state = CU_STREAM_CAPTURE_STATUS_NONE;
  make_current(*stream.context);
  const CUresult status = driver_.cuStreamIsCapturing(stream.handle, &state);
  const bool capturing = status == CUDA_SUCCESS && state != CU_STREAM_CAPTURE_STATUS_NONE;
  if (capturing == stream.capturing) return;
  if (capturing) prepare_capture(stream);
  stream.capturing = capturing;
  if (stream.synchronizing) stream.context->blocking_captures += capturing ? 1 : -1;
}

/// What was issued before a stream captures gets its marks now: they cannot be set later.
void Session::prepare_capture(Stream& stream) {
  if (stream.issued != stream.marked && !stream.capturing) completions_.mark_now(stream);
  Stream* legacy = stream.context->legacy;
  if (stream.synchronizing && stream.context->blocking_captures == 0 && legacy->issued != legacy->marked)
    completions_.mark_now(*legacy);
}

Result<> Session::operator()(const Header& header, const wire::StreamBeginCapture& call) {
  if (frame_->payload_follows) return protocol_error("dependencies over the limit");
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  if (hold(*stream)) return {};
  if (driver_.cuStreamBeginCapture == nullptr || driver_.cuStreamBeginCaptureToGraph == nullptr)
    return finish(header, CUDA_ERROR_NOT_SUPPORTED);
  if (stream->capturing || stream == stream->context->legacy) return finish(header, CUDA_ERROR_ILLEGAL_STATE);
  Graph* graph = nullptr;
  Edges edges;
  if (call.existing() != 0) {
    graph = find_graph(call.graph(), status);
    if (graph == nullptr) return finish(header, status);
    PayloadReader reader(frame_->payload);
    if (auto read = read_edges(*graph, reader, call.dependencies(), edges, status); !read) return read;
    if (status != CUDA_SUCCESS) return finish(header, status);
  } else {
    graph = graphs_.add(call.graph());
    if (graph == nullptr) return protocol_error("a graph's name that cannot be given");
    graph->context = stream->context;
  }
  before_issue(*stream);
  prepare_capture(*stream);
  constexpr auto kMode = CU_STREAM_CAPTURE_MODE_RELAXED;
  if (call.existing() != 0) {
    status = driver_.cuStreamBeginCaptureToGraph(stream->handle, graph->handle, edges.nodes.data(), edges.data.data(),
                                                 edges.nodes.size(), kMode);
    // What was to be captured must not run: the stream takes nothing any more.
    if (status != CUDA_SUCCESS) return finish(header, stream->poison = status);
  } else {
    graph->poison = driver_.cuStreamBeginCapture(stream->handle, kMode);
    if (graph->poison != CUDA_SUCCESS) return finish(header, stream->poison = graph->poison);
    CUstreamCaptureStatus state;
    driver_.cuStreamGetCaptureInfo(stream->handle, &state, nullptr, &graph->handle, nullptr, nullptr, nullptr);
  }
  graph->capturing = true;
  captures_.push_back({call.stream(), call.graph(), call.existing() != 0});
  stream->capturing = true;
  if (stream->synchronizing) ++stream->context->blocking_captures;
  return finish(header, CUDA_SUCCESS);
}

Result<> Session::operator()(const Header& header, const wire::StreamEndCapture& call) {
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  if (hold(*stream)) return {};
  const auto capture = std::ranges::find_if(captures_, [&](const Capture& begun) {
    return begun.stream == call.stream() && begun.graph == call.graph();
  });
  if (capture == captures_.end()) return finish(header, CUDA_ERROR_ILLEGAL_STATE);
  return finish(header, end_capture(*stream, capture, call.discard() != 0));
}

/// Ends the capture, and keeps its graph if it is whole and wanted.
CUresult Session::end_capture(Stream& stream, std::vector<Capture>::iterator position, bool discard) {
  const Capture capture = *position;
  captures_.erase(position);
  make_current(*stream.context);
  CUgraph handle = nullptr;
  CUresult status = driver_.cuStreamEndCapture(stream.handle, &handle);
  for (Stream* each : all_streams())
    if (each->capturing) look_at_capture(*each);
  Graph* graph = graphs_.find(capture.graph);
  if (graph == nullptr) return status;
  graph->capturing = false;
  if (status == CUDA_SUCCESS && handle == nullptr) status = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (capture.existing) return status;
  if (status == CUDA_SUCCESS && !discard) {
    graph->handle = handle;
    return status;
  }
  if (status == CUDA_SUCCESS) driver_.cuGraphDestroy(handle);
  forget_graph(capture.graph);
  return status;
}

/// Nobody will end the captures of this context's streams, or into its graphs, any more (null: of any).
void Session::abandon_captures(const Context* context) {
  for (std::size_t i = 0; i < captures_.size();) {
    Stream* stream = streams_.find(captures_[i].stream);
    const Graph* graph = graphs_.find(captures_[i].graph);
    const bool goes = context == nullptr || (stream != nullptr && stream->context == context) ||
                      (graph != nullptr && graph->context == context);
    if (stream == nullptr || !goes) {
      ++i;
      continue;
    }
    end_capture(*stream, captures_.begin() + static_cast<std::ptrdiff_t>(i), true);
  }
}

void Session::abandon_capture_of(const Stream& stream) {
  const auto capture = std::ranges::find(captures_, stream.name, &Capture::stream);
  if (capture == captures_.end()) return;
  if (Stream* own = streams_.find(stream.name)) end_capture(*own, capture, true);
}

/// Where the stream's capture stands.
CUresult Session::capture_state(Stream& stream, Graph*& graph, const CUgraphNode*& nodes, const CUgraphEdgeData*& data,
                                std::size_t& count) {
  if (!stream.capturing) return CUDA_ERROR_ILLEGAL_STATE;
  make_current(*stream.context);
  CUstreamCaptureStatus state = CU_STREAM_CAPTURE_STATUS_NONE;
  CUgraph handle = nullptr;
  const CUresult status = driver_.cuStreamGetCaptureInfo(stream.handle, &state, nullptr, &handle, &nodes, &data, &count);
  if (status != CUDA_SUCCESS) return status;
  if (state != CU_STREAM_CAPTURE_STATUS_ACTIVE) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  for (const Capture& capture : captures_) {
    Graph* candidate = graphs_.find(capture.graph);
    if (candidate != nullptr && candidate->handle == handle) graph = candidate;
  }
  return graph != nullptr ? CUDA_SUCCESS : CUDA_ERROR_ILLEGAL_STATE;
}

/// The captured graph has a node that records this event.
void Session::note_captured_record(Stream& stream, std::uint64_t event) {
  Graph* graph = nullptr;
  const CUgraphNode* nodes = nullptr;
  const CUgraphEdgeData* data = nullptr;
  std::size_t count = 0;
  if (capture_state(stream, graph, nodes, data, count) == CUDA_SUCCESS) graph->events.push_back(event);
}

Result<> Session::operator()(const Header& header, const wire::StreamCaptureInfo& call) {
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  if (hold(*stream)) return {};
  Graph* graph = nullptr;
  const CUgraphNode* nodes = nullptr;
  const CUgraphEdgeData* data = nullptr;
  std::size_t count = 0;
  status = capture_state(*stream, graph, nodes, data, count);
  if (status != CUDA_SUCCESS) return finish(header, status);
  std::uint64_t next = call.first_name();
  std::vector<wire::GraphEdge> edges;
  constexpr std::array<std::uint8_t, 5> kReserved{};
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t name = name_of_node(*graph, nodes[i], next);
    if (name == 0) return finish(header, CUDA_ERROR_OUT_OF_MEMORY);
    const CUgraphEdgeData edge = data != nullptr ? data[i] : CUgraphEdgeData{};
    edges.emplace_back(name, edge.from_port, edge.to_port, edge.type, kReserved);
  }
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(wire::CreateStreamCaptureInfoReply(builder, builder.CreateVectorOfStructs(edges)));
  return answer_table(header, builder);
}

Result<> Session::operator()(const Header& header, const wire::StreamChangeDependencies& call) {
  if (frame_->payload_follows) return protocol_error("dependencies over the limit");
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  if (hold(*stream)) return {};
  Graph* graph = nullptr;
  const CUgraphNode* nodes = nullptr;
  const CUgraphEdgeData* data = nullptr;
  std::size_t count = 0;
  status = capture_state(*stream, graph, nodes, data, count);
  if (status != CUDA_SUCCESS) return finish(header, status);
  PayloadReader reader(frame_->payload);
  Edges edges;
  if (auto read = read_edges(*graph, reader, call.count(), edges, status); !read) return read;
  if (status != CUDA_SUCCESS) return finish(header, status);
  return finish(header, driver_.cuStreamUpdateCaptureDependencies(stream->handle, edges.nodes.data(), edges.data.data(),
                                                                  edges.nodes.size(), call.flags()));
}

Result<> Session::operator()(const Header& header, const wire::StreamCaptureNode& call) {
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  if (hold(*stream)) return {};
  Graph* graph = nullptr;
  const CUgraphNode* nodes = nullptr;
  const CUgraphEdgeData* data = nullptr;
  std::size_t count = 0;
  status = capture_state(*stream, graph, nodes, data, count);
  if (status != CUDA_SUCCESS) return finish(header, status);
  if (graph_nodes_.find(call.node()) != nullptr) return protocol_error("a node's name that is taken");
  CUgraphNodeParams params{};
  params.type = CU_GRAPH_NODE_TYPE_EMPTY;
  CUgraphNode handle = nullptr;
  const std::vector<CUgraphNode> after(nodes, nodes + count);
  status = driver_.cuGraphAddNode(&handle, graph->handle, after.data(), data, after.size(), &params);
  if (status != CUDA_SUCCESS) return finish(header, status);
  GraphNode* node = add_node(call.node(), graph);
  if (node == nullptr) return protocol_error("a node's name that cannot be given");
  set_node(*node, handle);
  return finish(header, driver_.cuStreamUpdateCaptureDependencies(stream->handle, &handle, nullptr, 1,
                                                                  CU_STREAM_SET_CAPTURE_DEPENDENCIES));
}

Result<> Session::operator()(const Header& header, const wire::StreamCaptureHost& call) {
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  if (hold(*stream)) return {};
  if (!stream->capturing) return finish(header, CUDA_ERROR_ILLEGAL_STATE);
  void* data = host_calls_.data_of(call.function());
  if (data == nullptr) return finish(header, CUDA_ERROR_OUT_OF_MEMORY);
  make_current(*stream->context);
  return finish(header, driver_.cuLaunchHostFunc(stream->handle, &HostCalls::run, data));
}

}  // namespace avec::worker
