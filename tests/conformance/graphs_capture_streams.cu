// Capturing streams: what is recorded, which streams take part, what is refused meanwhile.
#include <thread>

#include "case.h"

__global__ void add(int* out, int value) { *out += value; }
__global__ void twice(int* out) { *out *= 2; }

static int read(const int* from) {
  int value = -1;
  NEED(cudaMemcpy(&value, from, sizeof value, cudaMemcpyDeviceToHost));
  return value;
}

static int* make_int() {
  int* memory = nullptr;
  NEED(cudaMalloc(&memory, 256));
  NEED(cudaMemset(memory, 0, 256));
  NEED(cudaDeviceSynchronize());  // streams that do not wait for the default one follow
  NEED(cudaDeviceSynchronize());
  return memory;
}

static cudaStream_t make_stream() {
  cudaStream_t stream = nullptr;
  NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}

static cudaEvent_t make_event() {
  cudaEvent_t event = nullptr;
  NEED(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return event;
}

static void begin(cudaStream_t stream, cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal) {
  NEED(cudaStreamBeginCapture(stream, mode));
}

static void run(cudaGraph_t graph, cudaStream_t stream, int times) {
  cudaGraphExec_t exec = nullptr;
  NEED(cudaGraphInstantiate(&exec, graph, 0));
  for (int i = 0; i < times; ++i) NEED(cudaGraphLaunch(exec, stream));
  NEED(cudaStreamSynchronize(stream));
  NEED(cudaGraphExecDestroy(exec));
}

static void status(cudaStream_t stream) {
  cudaStreamCaptureStatus state = cudaStreamCaptureStatusNone;
  SHOW(cudaStreamIsCapturing(stream, &state));
  say("status %d", state);
}

CASE(what_is_captured_runs_when_it_is_launched) {
  int* memory = make_int();
  cudaStream_t stream = make_stream();
  begin(stream);
  for (int i = 0; i < 3; ++i) add<<<1, 1, 0, stream>>>(memory, 1);
  twice<<<1, 1, 0, stream>>>(memory);
  cudaGraph_t graph = nullptr;
  SHOW(cudaStreamEndCapture(stream, &graph));
  say("before %d", read(memory));
  run(graph, stream, 1);
  say("once %d", read(memory));
  run(graph, stream, 2);
  say("thrice %d", read(memory));
  SHOW(cudaGraphDestroy(graph));
}

CASE(the_status_of_a_stream) {
  cudaStream_t stream = make_stream();
  status(stream);
  begin(stream);
  status(stream);
  cudaStreamCaptureStatus state = cudaStreamCaptureStatusNone;
  unsigned long long id = 0, again = 0;
  SHOW(cudaStreamGetCaptureInfo(stream, &state, &id));
  SHOW(cudaStreamGetCaptureInfo(stream, &state, &again));
  say("active %d, id %d, same %d", state == cudaStreamCaptureStatusActive, id != 0, id == again);
  cudaGraph_t graph = nullptr;
  SHOW(cudaStreamEndCapture(stream, &graph));
  status(stream);
  size_t count = 7;
  SHOW(cudaGraphGetNodes(graph, nullptr, &count));
  say("nodes %zu", count);
  SHOW(cudaStreamIsCapturing(stream, nullptr));
}

CASE(errors_of_beginning_and_ending) {
  cudaStream_t stream = make_stream();
  cudaGraph_t graph = nullptr;
  SHOW(cudaStreamEndCapture(stream, &graph));
  SHOW(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal));
  SHOW(cudaStreamBeginCapture(stream, static_cast<cudaStreamCaptureMode>(7)));
  SHOW(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  SHOW(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  SHOW(cudaStreamEndCapture(stream, &graph));
  say("graph %d", graph != nullptr);
}

CASE(streams_fork_and_join) {
  int* memory = make_int();
  cudaStream_t first = make_stream(), second = make_stream();
  cudaEvent_t fork = make_event(), joined = make_event();
  begin(first);
  add<<<1, 1, 0, first>>>(memory, 1);
  SHOW(cudaEventRecord(fork, first));
  SHOW(cudaStreamWaitEvent(second, fork, 0));
  status(second);
  add<<<1, 1, 0, second>>>(memory + 1, 10);
  add<<<1, 1, 0, first>>>(memory, 1);
  SHOW(cudaEventRecord(joined, second));
  SHOW(cudaStreamWaitEvent(first, joined, 0));
  twice<<<1, 1, 0, first>>>(memory + 1);
  cudaGraph_t graph = nullptr;
  SHOW(cudaStreamEndCapture(first, &graph));
  status(second);
  size_t nodes = 0, edges = 0, roots = 0;
  SHOW(cudaGraphGetNodes(graph, nullptr, &nodes));
  SHOW(cudaGraphGetEdges(graph, nullptr, nullptr, nullptr, &edges));
  SHOW(cudaGraphGetRootNodes(graph, nullptr, &roots));
  say("nodes %zu, edges %zu, roots %zu", nodes, edges, roots);
  run(graph, first, 1);
  say("%d %d", read(memory), read(memory + 1));
}

CASE(a_stream_that_did_not_join) {
  int* memory = make_int();
  cudaStream_t first = make_stream(), second = make_stream();
  cudaEvent_t fork = make_event();
  begin(first);
  NEED(cudaEventRecord(fork, first));
  NEED(cudaStreamWaitEvent(second, fork, 0));
  add<<<1, 1, 0, second>>>(memory, 1);
  cudaGraph_t graph = nullptr;
  SHOW(cudaStreamEndCapture(first, &graph));
  say("graph %d", graph != nullptr);
  status(first);
  status(second);
}

CASE(a_capture_is_ended_where_it_was_begun) {
  cudaStream_t first = make_stream(), second = make_stream();
  cudaEvent_t fork = make_event();
  begin(first);
  NEED(cudaEventRecord(fork, first));
  NEED(cudaStreamWaitEvent(second, fork, 0));
  cudaGraph_t graph = nullptr;
  SHOW(cudaStreamEndCapture(second, &graph));
  SHOW(cudaStreamEndCapture(first, &graph));
}

CASE(work_from_outside_cannot_be_waited_for) {
  cudaStream_t first = make_stream(), second = make_stream();
  cudaEvent_t event = make_event();
  NEED(cudaEventRecord(event, second));
  begin(first);
  SHOW(cudaStreamWaitEvent(first, event, 0));
  status(first);
  cudaGraph_t graph = nullptr;
  SHOW(cudaStreamEndCapture(first, &graph));
}

CASE(two_captures_do_not_merge) {
  cudaStream_t first = make_stream(), second = make_stream();
  cudaEvent_t event = make_event();
  begin(first);
  begin(second);
  NEED(cudaEventRecord(event, first));
  SHOW(cudaStreamWaitEvent(second, event, 0));
  cudaGraph_t graph = nullptr;
  SHOW(cudaStreamEndCapture(second, &graph));
  SHOW(cudaStreamEndCapture(first, &graph));
}

CASE(a_capturing_stream_is_not_synchronized) {
  cudaStream_t stream = make_stream();
  begin(stream);
  SHOW(cudaStreamSynchronize(stream));
  status(stream);
  cudaGraph_t graph = nullptr;
  SHOW(cudaStreamEndCapture(stream, &graph));
  begin(stream);
  SHOW(cudaStreamQuery(stream));
  SHOW(cudaStreamEndCapture(stream, &graph));
  begin(stream);
  SHOW(cudaDeviceSynchronize());
  SHOW(cudaStreamEndCapture(stream, &graph));
  status(stream);
  SHOW(cudaStreamSynchronize(stream));
}

CASE(a_captured_event_is_not_asked_about) {
  cudaStream_t stream = make_stream();
  cudaEvent_t event = make_event();
  begin(stream);
  NEED(cudaEventRecord(event, stream));
  SHOW(cudaEventQuery(event));
  cudaGraph_t graph = nullptr;
  SHOW(cudaStreamEndCapture(stream, &graph));
  NEED(cudaEventRecord(event, stream));
  SHOW(cudaEventSynchronize(event));
  SHOW(cudaEventQuery(event));
}

CASE(an_invalid_capture_takes_no_work) {
  int* memory = make_int();
  cudaStream_t stream = make_stream();
  begin(stream);
  NEED(cudaStreamSynchronize(stream) == cudaSuccess ? cudaErrorUnknown : cudaSuccess);
  SHOW(cudaMemsetAsync(memory, 0, 4, stream));
  status(stream);
  cudaGraph_t graph = nullptr;
  SHOW(cudaStreamEndCapture(stream, &graph));
  SHOW(cudaMemsetAsync(memory, 0, 4, stream));
}

CASE(the_default_stream_beside_a_blocking_one) {
  int* memory = make_int();
  cudaStream_t stream = nullptr;
  NEED(cudaStreamCreate(&stream));
  begin(stream, cudaStreamCaptureModeRelaxed);
  status(nullptr);
  SHOW(cudaMemsetAsync(memory, 0, 4, nullptr));
  cudaGraph_t graph = nullptr;
  SHOW(cudaStreamEndCapture(stream, &graph));
  SHOW(cudaMemsetAsync(memory, 0, 4, nullptr));
}

CASE(the_default_stream_beside_one_that_does_not_block) {
  int* memory = make_int();
  cudaStream_t stream = make_stream();
  begin(stream, cudaStreamCaptureModeRelaxed);
  status(nullptr);
  add<<<1, 1, 0, stream>>>(memory, 1);
  add<<<1, 1>>>(memory, 5);
  cudaGraph_t graph = nullptr;
  SHOW(cudaStreamEndCapture(stream, &graph));
  SHOW(cudaDeviceSynchronize());
  say("%d", read(memory));
}

CASE(external_events_are_nodes) {
  int* memory = make_int();
  cudaStream_t stream = make_stream();
  cudaEvent_t event = make_event();
  begin(stream);
  add<<<1, 1, 0, stream>>>(memory, 1);
  SHOW(cudaEventRecordWithFlags(event, stream, cudaEventRecordExternal));
  cudaGraph_t graph = nullptr;
  SHOW(cudaStreamEndCapture(stream, &graph));
  SHOW(cudaEventQuery(event));
  size_t count = 2;
  cudaGraphNode_t nodes[2];
  SHOW(cudaGraphGetNodes(graph, nodes, &count));
  for (size_t i = 0; i < count; ++i) {
    cudaGraphNodeType type;
    NEED(cudaGraphNodeGetType(nodes[i], &type));
    say("type %d", type);
  }
  run(graph, stream, 1);
  SHOW(cudaEventSynchronize(event));
  say("%d", read(memory));
}

CASE(copies_and_sets_are_nodes) {
  int* memory = make_int();
  cudaStream_t stream = make_stream();
  begin(stream);
  SHOW(cudaMemsetAsync(memory, 1, 4, stream));
  SHOW(cudaMemcpyAsync(memory + 1, memory, 4, cudaMemcpyDeviceToDevice, stream));
  cudaGraph_t graph = nullptr;
  SHOW(cudaStreamEndCapture(stream, &graph));
  size_t count = 2;
  cudaGraphNode_t nodes[2];
  NEED(cudaGraphGetNodes(graph, nodes, &count));
  cudaMemsetParams set{};
  SHOW(cudaGraphMemsetNodeGetParams(nodes[0], &set));
  say("to the right place %d, value %u, %zu bytes", set.dst == memory, set.value,
      set.width * set.elementSize * set.height);
  cudaMemcpy3DParms copy{};
  SHOW(cudaGraphMemcpyNodeGetParams(nodes[1], &copy));
  say("from the right place %d, %zu bytes", copy.srcPtr.ptr == memory, copy.extent.width);
  run(graph, stream, 1);
  say("%d", read(memory + 1));
}
