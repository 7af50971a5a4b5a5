// New parameters for executable graphs: node by node, and from another graph.
#include "case.h"

__global__ void put(int* out, int value) { *out = value; }
__global__ void twice(int* out, int value) { *out = 2 * value; }

static int read(const int* from) {
  int value = -1;
  NEED(cudaMemcpy(&value, from, sizeof value, cudaMemcpyDeviceToHost));
  return value;
}

static int* make_ints() {
  int* memory = nullptr;
  NEED(cudaMalloc(&memory, 256));
  NEED(cudaMemset(memory, 0, 256));
  return memory;
}

static cudaGraph_t make_graph() {
  cudaGraph_t graph = nullptr;
  NEED(cudaGraphCreate(&graph, 0));
  return graph;
}

static cudaGraphNode_t add_put(cudaGraph_t graph, int* out, int value, std::vector<cudaGraphNode_t> after = {},
                               void (*kernel)(int*, int) = put) {
  void* arguments[] = {&out, &value};
  cudaKernelNodeParams params{};
  params.func = reinterpret_cast<void*>(kernel);
  params.gridDim = params.blockDim = {1, 1, 1};
  params.kernelParams = arguments;
  cudaGraphNode_t node = nullptr;
  NEED(cudaGraphAddKernelNode(&node, graph, after.data(), after.size(), &params));
  return node;
}

static cudaGraphNode_t add_set(cudaGraph_t graph, int* out, unsigned value, size_t width = 1, size_t height = 1) {
  cudaMemsetParams params{};
  params.dst = out;
  params.pitch = 32;
  params.value = value;
  params.elementSize = 4;
  params.width = width;
  params.height = height;
  cudaGraphNode_t node = nullptr;
  NEED(cudaGraphAddMemsetNode(&node, graph, nullptr, 0, &params));
  return node;
}

static cudaGraphExec_t instantiate(cudaGraph_t graph) {
  cudaGraphExec_t exec = nullptr;
  NEED(cudaGraphInstantiate(&exec, graph, 0));
  return exec;
}

static void launch(cudaGraphExec_t exec) {
  NEED(cudaGraphLaunch(exec, nullptr));
  NEED(cudaDeviceSynchronize());
}

CASE(kernel_parameters) {
  int* memory = make_ints();
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t node = add_put(graph, memory, 1);
  cudaGraphExec_t exec = instantiate(graph);
  int value = 21;
  int* target = memory + 1;
  void* arguments[] = {&target, &value};
  cudaKernelNodeParams params{};
  params.func = reinterpret_cast<void*>(twice);
  params.gridDim = params.blockDim = {1, 1, 1};
  params.kernelParams = arguments;
  SHOW(cudaGraphExecKernelNodeSetParams(exec, node, &params));
  launch(exec);
  say("%d %d", read(memory), read(memory + 1));
  cudaKernelNodeParams shown{};
  NEED(cudaGraphKernelNodeGetParams(node, &shown));
  say("the graph keeps its own: %d", shown.func == reinterpret_cast<void*>(put));
  params.func = nullptr;
  SHOW(cudaGraphExecKernelNodeSetParams(exec, node, &params));
  cudaGraph_t other = make_graph();
  cudaGraphNode_t stranger = add_put(other, memory, 1);
  params.func = reinterpret_cast<void*>(put);
  SHOW(cudaGraphExecKernelNodeSetParams(exec, stranger, &params));
}

CASE(copy_parameters) {
  int* memory = make_ints();
  static int first = 1, second = 2;
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t node = nullptr;
  NEED(cudaGraphAddMemcpyNode1D(&node, graph, nullptr, 0, memory, &first, 4, cudaMemcpyHostToDevice));
  cudaGraphExec_t exec = instantiate(graph);
  SHOW(cudaGraphExecMemcpyNodeSetParams1D(exec, node, memory + 1, &second, 4, cudaMemcpyHostToDevice));
  launch(exec);
  say("%d %d", read(memory), read(memory + 1));
  SHOW(cudaGraphExecMemcpyNodeSetParams1D(exec, node, &second, memory, 4, cudaMemcpyDeviceToHost));
  launch(exec);
  say("%d", second);
}

CASE(set_parameters) {
  int* memory = make_ints();
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t node = add_set(graph, memory, 1, 2);
  cudaGraphExec_t exec = instantiate(graph);
  cudaMemsetParams params{};
  params.dst = memory + 4;
  params.value = 5;
  params.elementSize = 4;
  params.width = 2;
  params.height = 1;
  SHOW(cudaGraphExecMemsetNodeSetParams(exec, node, &params));
  launch(exec);
  say("%d %d %d", read(memory), read(memory + 4), read(memory + 5));
  params.height = 2;
  params.pitch = 32;
  SHOW(cudaGraphExecMemsetNodeSetParams(exec, node, &params));
  params.height = 1;
  params.elementSize = 3;
  SHOW(cudaGraphExecMemsetNodeSetParams(exec, node, &params));
}

static void CUDART_CB count_up(void* data) { ++*static_cast<int*>(data); }

CASE(host_and_event_parameters) {
  static int first = 0, second = 0;
  NEED(cudaFree(nullptr));
  cudaHostNodeParams params{count_up, &first};
  cudaEvent_t event = nullptr, other = nullptr;
  NEED(cudaEventCreate(&event));
  NEED(cudaEventCreate(&other));
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t host = nullptr, record = nullptr;
  NEED(cudaGraphAddHostNode(&host, graph, nullptr, 0, &params));
  NEED(cudaGraphAddEventRecordNode(&record, graph, &host, 1, event));
  cudaGraphExec_t exec = instantiate(graph);
  params.userData = &second;
  SHOW(cudaGraphExecHostNodeSetParams(exec, host, &params));
  SHOW(cudaGraphExecEventRecordNodeSetEvent(exec, record, other));
  SHOW(cudaGraphExecEventWaitNodeSetEvent(exec, record, other));
  launch(exec);
  say("%d %d", first, second);
  float passed = 0;
  SHOW(cudaEventElapsedTime(&passed, other, other));
  SHOW(cudaEventElapsedTime(&passed, event, event));
}

CASE(parameters_of_any_kind) {
  int* memory = make_ints();
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t node = add_put(graph, memory, 1);
  cudaGraphExec_t exec = instantiate(graph);
  int value = 33;
  void* arguments[] = {&memory, &value};
  cudaGraphNodeParams params{};
  params.type = cudaGraphNodeTypeKernel;
  params.kernel.func = reinterpret_cast<void*>(put);
  params.kernel.gridDim = params.kernel.blockDim = {1, 1, 1};
  params.kernel.kernelParams = arguments;
  SHOW(cudaGraphExecNodeSetParams(exec, node, &params));
  launch(exec);
  say("%d", read(memory));
  cudaGraphNodeParams other{};
  other.type = cudaGraphNodeTypeEmpty;
  SHOW(cudaGraphExecNodeSetParams(exec, node, &other));
}

CASE(nodes_switched_off) {
  int* memory = make_ints();
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t first = add_put(graph, memory, 1), second = add_put(graph, memory + 1, 2, {first}), empty = nullptr;
  NEED(cudaGraphAddEmptyNode(&empty, graph, nullptr, 0));
  cudaGraphExec_t exec = instantiate(graph);
  unsigned enabled = 7;
  SHOW(cudaGraphNodeGetEnabled(exec, first, &enabled));
  say("enabled %u", enabled);
  SHOW(cudaGraphNodeSetEnabled(exec, first, 0));
  SHOW(cudaGraphNodeGetEnabled(exec, first, &enabled));
  say("enabled %u", enabled);
  launch(exec);
  say("%d %d", read(memory), read(memory + 1));
  SHOW(cudaGraphNodeSetEnabled(exec, first, 1));
  launch(exec);
  say("%d %d", read(memory), read(memory + 1));
  SHOW(cudaGraphNodeSetEnabled(exec, empty, 0));
  SHOW(cudaGraphNodeGetEnabled(exec, first, nullptr));
}

static void update(cudaGraphExec_t exec, cudaGraph_t graph, const char* what, cudaGraphNode_t expected = nullptr) {
  cudaGraphExecUpdateResultInfo info{};
  const cudaError_t error = cudaGraphExecUpdate(exec, graph, &info);
  say("%s: %s, result %d, node %s", what, cudaGetErrorName(error), info.result,
      info.errorNode == nullptr ? "none" : info.errorNode == expected ? "as expected" : "another");
}

CASE(update_from_a_graph) {
  int* memory = make_ints();
  cudaGraph_t graph = make_graph(), same = make_graph(), longer = make_graph(), kind = make_graph();
  add_put(graph, memory + 1, 2, {add_put(graph, memory, 1)});
  add_put(same, memory + 1, 20, {add_put(same, memory, 10)}, twice);
  add_put(longer, memory, 1, {add_put(longer, memory, 1, {add_put(longer, memory, 1)})});
  cudaGraphNode_t start = add_put(kind, memory, 1), empty = nullptr;
  NEED(cudaGraphAddEmptyNode(&empty, kind, &start, 1));
  cudaGraphExec_t exec = instantiate(graph);
  update(exec, same, "the same shape");
  launch(exec);
  say("%d %d", read(memory), read(memory + 1));
  update(exec, longer, "one more node");
  SHOW(cudaGetLastError());
  update(exec, kind, "another kind", empty);
  launch(exec);
  say("%d %d", read(memory), read(memory + 1));
}

CASE(update_with_other_edges) {
  int* memory = make_ints();
  cudaGraph_t graph = make_graph(), apart = make_graph();
  add_put(graph, memory + 1, 2, {add_put(graph, memory, 1)});
  cudaGraphNode_t first = add_put(apart, memory, 1), second = add_put(apart, memory + 1, 2);
  cudaGraphExec_t exec = instantiate(graph);
  cudaGraphExecUpdateResultInfo info{};
  SHOW(cudaGraphExecUpdate(exec, apart, &info));
  say("result %d, one of the nodes: %d", info.result, info.errorNode == first || info.errorNode == second);
}

CASE(update_of_a_set_of_two_dimensions) {
  int* memory = make_ints();
  cudaGraph_t graph = make_graph(), value = make_graph(), wider = make_graph();
  add_set(graph, memory, 1, 2, 2);
  add_set(value, memory, 3, 2, 2);
  cudaGraphNode_t changed = add_set(wider, memory, 3, 3, 2);
  cudaGraphExec_t exec = instantiate(graph);
  update(exec, value, "another value");
  launch(exec);
  say("%d %d %d", read(memory), read(memory + 8), read(memory + 2));
  update(exec, wider, "another width", changed);
}

CASE(update_errors) {
  int* memory = make_ints();
  cudaGraph_t graph = make_graph();
  add_put(graph, memory, 1);
  cudaGraphExec_t exec = instantiate(graph);
  cudaGraphExecUpdateResultInfo info{};
  SHOW(cudaGraphExecUpdate(nullptr, graph, &info));
  SHOW(cudaGraphExecUpdate(exec, nullptr, &info));
}

CASE(update_of_a_child) {
  int* memory = make_ints();
  cudaGraph_t inner = make_graph(), outer = make_graph(), other = make_graph(), longer = make_graph();
  add_put(inner, memory, 1);
  add_put(other, memory, 9);
  add_put(longer, memory, 1, {add_put(longer, memory, 1)});
  cudaGraphNode_t child = nullptr;
  NEED(cudaGraphAddChildGraphNode(&child, outer, nullptr, 0, inner));
  cudaGraphExec_t exec = instantiate(outer);
  SHOW(cudaGraphExecChildGraphNodeSetParams(exec, child, other));
  launch(exec);
  say("%d", read(memory));
  SHOW(cudaGraphExecChildGraphNodeSetParams(exec, child, longer));
}

CASE(a_launch_under_way_keeps_its_parameters) {
  int* memory = make_ints();
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t node = add_put(graph, memory, 1);
  cudaGraphExec_t exec = instantiate(graph);
  for (int i = 0; i < 10; ++i) {
    int* target = memory + i;
    int value = 100 + i;
    void* arguments[] = {&target, &value};
    cudaKernelNodeParams params{};
    params.func = reinterpret_cast<void*>(put);
    params.gridDim = params.blockDim = {1, 1, 1};
    params.kernelParams = arguments;
    NEED(cudaGraphExecKernelNodeSetParams(exec, node, &params));
    NEED(cudaGraphLaunch(exec, nullptr));
  }
  NEED(cudaDeviceSynchronize());
  say("%d %d %d", read(memory), read(memory + 5), read(memory + 9));
}
