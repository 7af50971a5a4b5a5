// Graphs that copy from and to the program's own memory, and that call its functions.
#include "case.h"

__global__ void add(int* out, int value) { *out += value; }
__global__ void add_all(int* out, int count, int value) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) out[i] += value;
}

static cudaStream_t make_stream() {
  cudaStream_t stream = nullptr;
  NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}

static int* device_ints(int count) {
  int* memory = nullptr;
  NEED(cudaMalloc(&memory, count * sizeof(int)));
  NEED(cudaMemset(memory, 0, count * sizeof(int)));
  NEED(cudaDeviceSynchronize());  // streams that do not wait for the default one follow
  NEED(cudaDeviceSynchronize());
  return memory;
}

static cudaGraphExec_t instantiate(cudaGraph_t graph) {
  cudaGraphExec_t exec = nullptr;
  NEED(cudaGraphInstantiate(&exec, graph, 0));
  return exec;
}

static void round_trips(int* in, int* out) {
  int* memory = device_ints(1);
  cudaStream_t stream = make_stream();
  cudaGraph_t graph = nullptr;
  *in = 1;
  *out = -1;
  NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  SHOW(cudaMemcpyAsync(memory, in, 4, cudaMemcpyHostToDevice, stream));
  add<<<1, 1, 0, stream>>>(memory, 100);
  SHOW(cudaMemcpyAsync(out, memory, 4, cudaMemcpyDeviceToHost, stream));
  SHOW(cudaStreamEndCapture(stream, &graph));
  say("captured %d", *out);
  cudaGraphExec_t exec = instantiate(graph);
  for (int i = 5; i < 8; ++i) {
    *in = i;
    SHOW(cudaGraphLaunch(exec, stream));
    SHOW(cudaStreamSynchronize(stream));
    say("%d", *out);
  }
}

CASE(pinned_memory_with_the_bytes_of_each_launch) {
  int* both = nullptr;
  NEED(cudaMallocHost(&both, 64));
  round_trips(both, both + 1);
}

CASE(pageable_memory_with_the_bytes_of_each_launch) {
  std::vector<int> both(2);
  round_trips(&both[0], &both[1]);
}

CASE(large_copies) {
  constexpr int kCount = 3 << 20;
  int* memory = device_ints(kCount);
  std::vector<int> in(kCount), out(kCount);
  std::iota(in.begin(), in.end(), 0);
  cudaStream_t stream = make_stream();
  cudaGraph_t graph = nullptr;
  NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  NEED(cudaMemcpyAsync(memory, in.data(), kCount * 4, cudaMemcpyHostToDevice, stream));
  add_all<<<64, 64, 0, stream>>>(memory, kCount, 3);
  NEED(cudaMemcpyAsync(out.data(), memory, kCount * 4, cudaMemcpyDeviceToHost, stream));
  SHOW(cudaStreamEndCapture(stream, &graph));
  SHOW(cudaGraphLaunch(instantiate(graph), stream));
  SHOW(cudaStreamSynchronize(stream));
  int wrong = 0;
  for (int i = 0; i < kCount; ++i) wrong += out[i] != i + 3;
  say("wrong %d", wrong);
}

CASE(rows_of_host_memory) {
  int host[4][8], back[4][8];
  for (int i = 0; i < 32; ++i) host[i / 8][i % 8] = i, back[i / 8][i % 8] = -1;
  int* memory = device_ints(64);
  cudaStream_t stream = make_stream();
  cudaGraph_t graph = nullptr;
  NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  SHOW(cudaMemcpy2DAsync(memory, 16, &host[0][2], 32, 16, 4, cudaMemcpyHostToDevice, stream));
  SHOW(cudaMemcpy2DAsync(&back[0][1], 32, memory, 16, 16, 4, cudaMemcpyDeviceToHost, stream));
  SHOW(cudaStreamEndCapture(stream, &graph));
  SHOW(cudaGraphLaunch(instantiate(graph), stream));
  SHOW(cudaStreamSynchronize(stream));
  for (auto& row : back) say("%d %d %d %d %d %d", row[0], row[1], row[2], row[3], row[4], row[5]);
}

CASE(launches_in_two_streams_take_turns) {
  int* memory = device_ints(1);
  int in = 1, out[2] = {-1, -1};
  cudaStream_t first = make_stream(), second = make_stream();
  cudaGraph_t graph = nullptr;
  NEED(cudaStreamBeginCapture(first, cudaStreamCaptureModeRelaxed));
  NEED(cudaMemcpyAsync(memory, &in, 4, cudaMemcpyHostToDevice, first));
  add<<<1, 1, 0, first>>>(memory, 1);
  NEED(cudaMemcpyAsync(out, memory, 4, cudaMemcpyDeviceToHost, first));
  NEED(cudaStreamEndCapture(first, &graph));
  cudaGraphExec_t exec = instantiate(graph);
  for (int i = 0; i < 10; ++i) NEED(cudaGraphLaunch(exec, i % 2 == 0 ? first : second));
  SHOW(cudaDeviceSynchronize());
  say("%d", out[0]);
}

CASE(an_event_covers_the_bytes) {
  int* memory = device_ints(1);
  int out = -1;
  cudaStream_t stream = make_stream();
  cudaEvent_t event = nullptr;
  NEED(cudaEventCreate(&event));
  cudaGraph_t graph = nullptr;
  NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  add<<<1, 1, 0, stream>>>(memory, 7);
  NEED(cudaMemcpyAsync(&out, memory, 4, cudaMemcpyDeviceToHost, stream));
  NEED(cudaStreamEndCapture(stream, &graph));
  NEED(cudaGraphLaunch(instantiate(graph), stream));
  NEED(cudaEventRecord(event, stream));
  SHOW(cudaEventSynchronize(event));
  say("%d", out);
}

static void count_up(void* data) { ++*static_cast<int*>(data); }

CASE(functions_of_the_program_run_in_order) {
  int* memory = device_ints(1);
  int calls = 0;
  cudaStream_t stream = make_stream();
  cudaGraph_t graph = nullptr;
  NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  SHOW(cudaLaunchHostFunc(stream, count_up, &calls));
  add<<<1, 1, 0, stream>>>(memory, 1);
  SHOW(cudaLaunchHostFunc(stream, count_up, &calls));
  SHOW(cudaStreamEndCapture(stream, &graph));
  say("calls %d", calls);
  cudaGraphExec_t exec = instantiate(graph);
  for (int i = 0; i < 3; ++i) NEED(cudaGraphLaunch(exec, stream));
  SHOW(cudaStreamSynchronize(stream));
  say("calls %d", calls);
  cudaGraphNode_t nodes[3];
  size_t count = 3;
  NEED(cudaGraphGetNodes(graph, nodes, &count));
  cudaHostNodeParams params{};
  SHOW(cudaGraphHostNodeGetParams(nodes[0], &params));
  say("the same function %d, the same data %d", params.fn == count_up, params.userData == &calls);
}

CASE(callbacks_are_not_captured) {
  cudaStream_t stream = make_stream();
  NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  SHOW(cudaStreamAddCallback(stream, [](cudaStream_t, cudaError_t, void*) {}, nullptr, 0));
  cudaGraph_t graph = nullptr;
  SHOW(cudaStreamEndCapture(stream, &graph));
}

CASE(copies_changed_in_an_executable_graph) {
  int* memory = device_ints(1);
  int in[2] = {10, 20}, out[2] = {-1, -1};
  cudaGraph_t graph = nullptr;
  NEED(cudaGraphCreate(&graph, 0));
  cudaGraphNode_t up = nullptr, down = nullptr;
  SHOW(cudaGraphAddMemcpyNode1D(&up, graph, nullptr, 0, memory, &in[0], 4, cudaMemcpyHostToDevice));
  SHOW(cudaGraphAddMemcpyNode1D(&down, graph, &up, 1, &out[0], memory, 4, cudaMemcpyDeviceToHost));
  cudaGraphExec_t exec = instantiate(graph);
  NEED(cudaGraphLaunch(exec, nullptr));
  SHOW(cudaDeviceSynchronize());
  say("%d %d", out[0], out[1]);
  SHOW(cudaGraphExecMemcpyNodeSetParams1D(exec, up, memory, &in[1], 4, cudaMemcpyHostToDevice));
  SHOW(cudaGraphExecMemcpyNodeSetParams1D(exec, down, &out[1], memory, 4, cudaMemcpyDeviceToHost));
  NEED(cudaGraphLaunch(exec, nullptr));
  SHOW(cudaDeviceSynchronize());
  say("%d %d", out[0], out[1]);
  SHOW(cudaGraphNodeSetEnabled(exec, down, 0));
  in[1] = 30;
  NEED(cudaGraphLaunch(exec, nullptr));
  SHOW(cudaDeviceSynchronize());
  say("%d %d", out[0], out[1]);
}

CASE(bytes_pass_through_host_memory_within_a_graph) {
  int *first = device_ints(1), *second = device_ints(1);
  int between = 3;
  cudaStream_t stream = make_stream();
  cudaGraph_t graph = nullptr;
  NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  add<<<1, 1, 0, stream>>>(first, 42);
  NEED(cudaMemcpyAsync(&between, first, 4, cudaMemcpyDeviceToHost, stream));
  NEED(cudaMemcpyAsync(second, &between, 4, cudaMemcpyHostToDevice, stream));
  NEED(cudaStreamEndCapture(stream, &graph));
  NEED(cudaGraphLaunch(instantiate(graph), stream));
  SHOW(cudaStreamSynchronize(stream));
  int value = 0;
  NEED(cudaMemcpy(&value, second, 4, cudaMemcpyDeviceToHost));
  say("%d %d", between, value);
}

struct Doubled {
  int *from, *to;
};
static void CUDART_CB double_it(void* data) {
  const auto* ints = static_cast<Doubled*>(data);
  *ints->to = *ints->from * 2;
}

CASE(functions_between_copies_see_and_make_their_bytes) {
  int* memory = device_ints(1);
  int* host = nullptr;
  NEED(cudaMallocHost(&host, 3 * sizeof(int)));
  Doubled middle{host + 1, host + 1}, last{host + 2, host};
  cudaStream_t stream = make_stream();
  cudaGraph_t graph = nullptr;
  NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  NEED(cudaMemcpyAsync(memory, host, 4, cudaMemcpyHostToDevice, stream));
  add<<<1, 1, 0, stream>>>(memory, 1);
  NEED(cudaMemcpyAsync(host + 1, memory, 4, cudaMemcpyDeviceToHost, stream));
  NEED(cudaLaunchHostFunc(stream, double_it, &middle));
  NEED(cudaMemcpyAsync(memory, host + 1, 4, cudaMemcpyHostToDevice, stream));
  add<<<1, 1, 0, stream>>>(memory, 100);
  NEED(cudaMemcpyAsync(host + 2, memory, 4, cudaMemcpyDeviceToHost, stream));
  NEED(cudaLaunchHostFunc(stream, double_it, &last));
  SHOW(cudaStreamEndCapture(stream, &graph));
  cudaGraphExec_t exec = instantiate(graph);
  host[0] = 5, host[1] = host[2] = -1;
  SHOW(cudaGraphLaunch(exec, stream));
  SHOW(cudaStreamSynchronize(stream));
  say("%d %d %d", host[0], host[1], host[2]);
  host[0] = 1;
  SHOW(cudaGraphLaunch(exec, stream));
  SHOW(cudaGraphLaunch(exec, stream));
  SHOW(cudaStreamSynchronize(stream));
  say("%d %d %d", host[0], host[1], host[2]);
}

CASE(what_a_function_wrote_last_stays) {
  int* memory = device_ints(1);
  std::vector<int> host(2, 7);
  Doubled both{&host[0], &host[0]};
  cudaStream_t stream = make_stream();
  cudaGraph_t graph = nullptr;
  NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  add<<<1, 1, 0, stream>>>(memory, 21);
  NEED(cudaMemcpyAsync(&host[0], memory, 4, cudaMemcpyDeviceToHost, stream));
  NEED(cudaLaunchHostFunc(stream, double_it, &both));
  NEED(cudaStreamEndCapture(stream, &graph));
  SHOW(cudaGraphLaunch(instantiate(graph), stream));
  SHOW(cudaStreamSynchronize(stream));
  say("%d %d", host[0], host[1]);
}
