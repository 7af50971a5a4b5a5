// What may be called while something captures, and from which thread; capturing into graphs that exist.
#include <thread>

#include "case.h"

__global__ void add(int* out, int value) { *out += value; }

static cudaStream_t make_stream() {
  cudaStream_t stream = nullptr;
  NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}

/// What cudaMalloc returns, and what the capture came to.
static void allocate_during(cudaStreamCaptureMode mode, bool other_thread, cudaStreamCaptureMode own) {
  cudaStream_t stream = make_stream();
  NEED(cudaStreamBeginCapture(stream, mode));
  const auto allocate = [own] {
    cudaStreamCaptureMode exchanged = own;
    NEED(cudaThreadExchangeStreamCaptureMode(&exchanged));
    void* memory = nullptr;
    SHOW(cudaMalloc(&memory, 256));
    NEED(cudaThreadExchangeStreamCaptureMode(&exchanged));
  };
  if (other_thread) {
    std::thread(allocate).join();
  } else {
    allocate();
  }
  cudaGraph_t graph = nullptr;
  SHOW(cudaStreamEndCapture(stream, &graph));
}

CASE(global_capture_and_its_own_thread) { allocate_during(cudaStreamCaptureModeGlobal, false, cudaStreamCaptureModeGlobal); }
CASE(global_capture_and_another_thread) { allocate_during(cudaStreamCaptureModeGlobal, true, cudaStreamCaptureModeGlobal); }
CASE(global_capture_and_a_thread_that_minds_its_own) {
  allocate_during(cudaStreamCaptureModeGlobal, true, cudaStreamCaptureModeThreadLocal);
}
CASE(global_capture_and_a_relaxed_thread) { allocate_during(cudaStreamCaptureModeGlobal, false, cudaStreamCaptureModeRelaxed); }
CASE(local_capture_and_its_own_thread) {
  allocate_during(cudaStreamCaptureModeThreadLocal, false, cudaStreamCaptureModeThreadLocal);
}
CASE(local_capture_and_another_thread) { allocate_during(cudaStreamCaptureModeThreadLocal, true, cudaStreamCaptureModeGlobal); }
CASE(relaxed_capture) { allocate_during(cudaStreamCaptureModeRelaxed, false, cudaStreamCaptureModeGlobal); }

CASE(the_mode_of_a_thread) {
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  SHOW(cudaThreadExchangeStreamCaptureMode(&mode));
  say("was %d", mode);
  mode = cudaStreamCaptureModeThreadLocal;
  SHOW(cudaThreadExchangeStreamCaptureMode(&mode));
  say("was %d", mode);
  mode = static_cast<cudaStreamCaptureMode>(9);
  SHOW(cudaThreadExchangeStreamCaptureMode(&mode));
  SHOW(cudaThreadExchangeStreamCaptureMode(nullptr));
}

CASE(a_capture_ends_in_its_thread) {
  cudaStream_t stream = make_stream();
  cudaGraph_t graph = nullptr;
  NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  std::thread([&] { SHOW(cudaStreamEndCapture(stream, &graph)); }).join();
  SHOW(cudaStreamEndCapture(stream, &graph));
  NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  std::thread([&] { SHOW(cudaStreamEndCapture(stream, &graph)); }).join();
}

CASE(events_and_streams_are_made_meanwhile) {
  cudaStream_t stream = make_stream(), another = nullptr;
  cudaEvent_t event = nullptr;
  cudaGraph_t graph = nullptr;
  NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  SHOW(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  SHOW(cudaStreamCreateWithFlags(&another, cudaStreamNonBlocking));
  SHOW(cudaEventDestroy(event));
  int device = -1;
  SHOW(cudaGetDevice(&device));
  SHOW(cudaStreamEndCapture(stream, &graph));
}

CASE(where_a_capture_stands) {
  int* memory = nullptr;
  NEED(cudaMalloc(&memory, 256));
  cudaStream_t stream = make_stream();
  NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  CUstreamCaptureStatus status;
  cuuint64_t id = 0;
  CUgraph graph = nullptr;
  const CUgraphNode* nodes = nullptr;
  const CUgraphEdgeData* edges = nullptr;
  size_t count = 9;
  SHOW(cuStreamGetCaptureInfo(stream, &status, &id, &graph, &nodes, &edges, &count));
  say("status %d, graph %d, dependencies %zu", status, graph != nullptr, count);
  add<<<1, 1, 0, stream>>>(memory, 1);
  SHOW(cuStreamGetCaptureInfo(stream, &status, &id, &graph, &nodes, &edges, &count));
  CUgraphNodeType type = CU_GRAPH_NODE_TYPE_EMPTY;
  SHOW(cuGraphNodeGetType(nodes[0], &type));
  say("dependencies %zu, type %d", count, type);
  // A node beside the captured one, and both before the next.
  CUgraphNode empty = nullptr;
  SHOW(cuGraphAddEmptyNode(&empty, graph, nullptr, 0));
  SHOW(cuStreamUpdateCaptureDependencies(stream, &empty, nullptr, 1, CU_STREAM_ADD_CAPTURE_DEPENDENCIES));
  SHOW(cuStreamGetCaptureInfo(stream, &status, nullptr, nullptr, &nodes, &edges, &count));
  say("dependencies %zu", count);
  add<<<1, 1, 0, stream>>>(memory, 1);
  CUgraph ended = nullptr;
  SHOW(cuStreamEndCapture(stream, &ended));
  size_t all = 0, links = 0;
  SHOW(cuGraphGetNodes(ended, nullptr, &all));
  SHOW(cuGraphGetEdges(ended, nullptr, nullptr, nullptr, &links));
  say("nodes %zu, edges %zu", all, links);
  SHOW(cuStreamUpdateCaptureDependencies(stream, &empty, nullptr, 1, CU_STREAM_ADD_CAPTURE_DEPENDENCIES));
}

CASE(a_capture_goes_on_in_a_graph) {
  int* memory = nullptr;
  NEED(cudaMalloc(&memory, 256));
  NEED(cudaMemset(memory, 0, 256));
  NEED(cudaDeviceSynchronize());  // streams that do not wait for the default one follow
  cudaStream_t stream = make_stream();
  cudaGraph_t graph = nullptr, ended = nullptr;
  NEED(cudaGraphCreate(&graph, 0));
  cudaGraphNode_t first = nullptr;
  NEED(cudaGraphAddEmptyNode(&first, graph, nullptr, 0));
  SHOW(cudaStreamBeginCaptureToGraph(stream, graph, &first, nullptr, 1, cudaStreamCaptureModeGlobal));
  add<<<1, 1, 0, stream>>>(memory, 3);
  SHOW(cudaStreamEndCapture(stream, &ended));
  say("the same %d", ended == graph);
  size_t nodes = 0, edges = 0;
  SHOW(cudaGraphGetNodes(graph, nullptr, &nodes));
  SHOW(cudaGraphGetEdges(graph, nullptr, nullptr, nullptr, &edges));
  say("nodes %zu, edges %zu", nodes, edges);
  cudaGraphExec_t exec = nullptr;
  NEED(cudaGraphInstantiate(&exec, graph, 0));
  NEED(cudaGraphLaunch(exec, stream));
  NEED(cudaStreamSynchronize(stream));
  int value = 0;
  NEED(cudaMemcpy(&value, memory, 4, cudaMemcpyDeviceToHost));
  say("%d", value);
}
