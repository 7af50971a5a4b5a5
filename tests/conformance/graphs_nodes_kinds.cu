// Nodes of every kind: added by hand, run, and asked for their parameters.
#include "case.h"

__global__ void add(int* out, int value) { *out += value; }
__device__ int variable;

static int read(const int* from) {
  int value = -1;
  NEED(cudaMemcpy(&value, from, sizeof value, cudaMemcpyDeviceToHost));
  return value;
}

static int* make_int(int value) {
  int* memory = nullptr;
  NEED(cudaMalloc(&memory, 256));
  NEED(cudaMemset(memory, 0, 256));
  NEED(cudaMemcpy(memory, &value, sizeof value, cudaMemcpyHostToDevice));
  return memory;
}

static cudaGraph_t make_graph() {
  cudaGraph_t graph = nullptr;
  NEED(cudaGraphCreate(&graph, 0));
  return graph;
}

static void run(cudaGraph_t graph, int times = 1) {
  cudaGraphExec_t exec = nullptr;
  NEED(cudaGraphInstantiate(&exec, graph, 0));
  for (int i = 0; i < times; ++i) NEED(cudaGraphLaunch(exec, nullptr));
  NEED(cudaDeviceSynchronize());
  NEED(cudaGraphExecDestroy(exec));
}

CASE(kernel_node_runs_and_shows_its_parameters) {
  int* memory = make_int(1);
  int value = 5;
  void* arguments[] = {&memory, &value};
  cudaKernelNodeParams params{};
  params.func = reinterpret_cast<void*>(add);
  params.gridDim = {2, 1, 1};
  params.blockDim = {1, 1, 1};
  params.kernelParams = arguments;
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t node = nullptr;
  params.gridDim = {1, 1, 1};
  SHOW(cudaGraphAddKernelNode(&node, graph, nullptr, 0, &params));
  value = 100;  // copied when the node was added
  run(graph, 2);
  say("value %d", read(memory));
  cudaKernelNodeParams shown{};
  SHOW(cudaGraphKernelNodeGetParams(node, &shown));
  say("the same function: %d, grid %u, block %u, shared %u, extra %d", shown.func == params.func, shown.gridDim.x,
      shown.blockDim.x, shown.sharedMemBytes, shown.extra != nullptr);
  say("arguments %d %d", *static_cast<int**>(shown.kernelParams[0]) == memory, *static_cast<int*>(shown.kernelParams[1]));
  SHOW(cudaGraphKernelNodeSetParams(node, &params));
  run(graph);
  say("value %d", read(memory));
  cudaGraphNodeType type;
  SHOW(cudaGraphNodeGetType(node, &type));
  say("type %d", type);
}

CASE(kernel_node_errors) {
  int* memory = make_int(0);
  int value = 1;
  void* arguments[] = {&memory, &value};
  cudaKernelNodeParams params{};
  params.gridDim = params.blockDim = {1, 1, 1};
  params.kernelParams = arguments;
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t node = nullptr;
  SHOW(cudaGraphAddKernelNode(&node, graph, nullptr, 0, &params));
  params.func = reinterpret_cast<void*>(add);
  SHOW(cudaGraphAddKernelNode(nullptr, graph, nullptr, 0, &params));
  SHOW(cudaGraphAddKernelNode(&node, nullptr, nullptr, 0, &params));
  SHOW(cudaGraphAddKernelNode(&node, graph, nullptr, 0, nullptr));
  SHOW(cudaGraphAddKernelNode(&node, graph, nullptr, 1, &params));
  params.kernelParams = nullptr;
  SHOW(cudaGraphAddKernelNode(&node, graph, nullptr, 0, &params));
  SHOW(cudaGraphKernelNodeGetParams(nullptr, &params));
  SHOW(cudaGetLastError());
}

CASE(kernel_node_shape_is_checked) {
  int* memory = make_int(0);
  int value = 1;
  void* arguments[] = {&memory, &value};
  cudaKernelNodeParams params{};
  params.func = reinterpret_cast<void*>(add);
  params.kernelParams = arguments;
  params.gridDim = {1, 1, 1};
  params.blockDim = {2048, 1, 1};
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t node = nullptr;
  SHOW(cudaGraphAddKernelNode(&node, graph, nullptr, 0, &params));
  params.blockDim = {1, 1, 1};
  params.gridDim = {0, 1, 1};
  SHOW(cudaGraphAddKernelNode(&node, graph, nullptr, 0, &params));
}

CASE(kernel_node_attributes) {
  int* memory = make_int(0);
  int value = 1;
  void* arguments[] = {&memory, &value};
  cudaKernelNodeParams params{};
  params.func = reinterpret_cast<void*>(add);
  params.gridDim = params.blockDim = {1, 1, 1};
  params.kernelParams = arguments;
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t node = nullptr, other = nullptr;
  NEED(cudaGraphAddKernelNode(&node, graph, nullptr, 0, &params));
  NEED(cudaGraphAddKernelNode(&other, graph, &node, 1, &params));
  cudaLaunchAttributeValue set{}, got{};
  set.cooperative = 1;
  SHOW(cudaGraphKernelNodeGetAttribute(node, cudaLaunchAttributeCooperative, &got));
  say("cooperative %d", got.cooperative);
  SHOW(cudaGraphKernelNodeSetAttribute(node, cudaLaunchAttributeCooperative, &set));
  SHOW(cudaGraphKernelNodeGetAttribute(node, cudaLaunchAttributeCooperative, &got));
  say("cooperative %d", got.cooperative);
  SHOW(cudaGraphKernelNodeCopyAttributes(other, node));
  got.cooperative = 0;
  SHOW(cudaGraphKernelNodeGetAttribute(other, cudaLaunchAttributeCooperative, &got));
  say("cooperative %d", got.cooperative);
  run(graph);
  say("value %d", read(memory));
}

CASE(memset_node) {
  int* memory = make_int(0);
  cudaMemsetParams params{};
  params.dst = memory;
  params.value = 0x01020304;
  params.elementSize = 4;
  params.width = 2;
  params.height = 1;
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t node = nullptr;
  SHOW(cudaGraphAddMemsetNode(&node, graph, nullptr, 0, &params));
  run(graph);
  say("%x %x %x", read(memory), read(memory + 1), read(memory + 2));
  params.value = 7;
  params.elementSize = 1;
  params.width = 3;
  SHOW(cudaGraphMemsetNodeSetParams(node, &params));
  cudaMemsetParams shown{};
  SHOW(cudaGraphMemsetNodeGetParams(node, &shown));
  say("value %u element %u width %zu height %zu", shown.value, shown.elementSize, shown.width, shown.height);
  run(graph);
  say("%x", read(memory));
  params.elementSize = 3;
  SHOW(cudaGraphAddMemsetNode(&node, graph, nullptr, 0, &params));
  params.elementSize = 4;
  params.dst = nullptr;
  SHOW(cudaGraphAddMemsetNode(&node, graph, nullptr, 0, &params));
}

CASE(memset_node_of_two_dimensions) {
  int* memory = make_int(0);
  cudaMemsetParams params{};
  params.dst = memory;
  params.pitch = 16;
  params.value = 9;
  params.elementSize = 4;
  params.width = 2;
  params.height = 3;
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t node = nullptr;
  SHOW(cudaGraphAddMemsetNode(&node, graph, nullptr, 0, &params));
  run(graph);
  for (int row = 0; row < 3; ++row) say("%d %d %d", read(memory + row * 4), read(memory + row * 4 + 1), read(memory + row * 4 + 2));
  say("%d", read(memory + 12));
}

CASE(copies_read_host_memory_at_each_launch) {
  int* memory = make_int(0);
  static int source = 3, sink = 0;
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t in = nullptr, out = nullptr;
  SHOW(cudaGraphAddMemcpyNode1D(&in, graph, nullptr, 0, memory, &source, sizeof source, cudaMemcpyHostToDevice));
  SHOW(cudaGraphAddMemcpyNode1D(&out, graph, &in, 1, &sink, memory, sizeof sink, cudaMemcpyDeviceToHost));
  cudaGraphExec_t exec = nullptr;
  NEED(cudaGraphInstantiate(&exec, graph, 0));
  for (int i = 0; i < 3; ++i) {
    source = 10 + i;
    NEED(cudaGraphLaunch(exec, nullptr));
    NEED(cudaDeviceSynchronize());
    say("%d", sink);
  }
  SHOW(cudaGraphMemcpyNodeSetParams1D(in, memory + 1, &source, sizeof source, cudaMemcpyDefault));
  source = 42;
  run(graph);
  say("%d %d", sink, read(memory + 1));
}

CASE(copies_with_symbols) {
  int one = 11, two = 0;
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t in = nullptr, out = nullptr;
  SHOW(cudaGraphAddMemcpyNodeToSymbol(&in, graph, nullptr, 0, variable, &one, sizeof one, 0, cudaMemcpyHostToDevice));
  SHOW(cudaGraphAddMemcpyNodeFromSymbol(&out, graph, &in, 1, &two, variable, sizeof two, 0, cudaMemcpyDeviceToHost));
  run(graph);
  say("%d", two);
  SHOW(cudaGraphAddMemcpyNodeToSymbol(&in, graph, nullptr, 0, variable, &one, 8, 0, cudaMemcpyHostToDevice));
  SHOW(cudaGraphAddMemcpyNodeToSymbol(&in, graph, nullptr, 0, &one, &one, 4, 0, cudaMemcpyHostToDevice));
  SHOW(cudaGraphAddMemcpyNodeToSymbol(&in, graph, nullptr, 0, variable, &one, 4, 0, cudaMemcpyDeviceToHost));
}

CASE(copy_of_a_box) {
  int* memory = make_int(0);
  int host[6] = {1, 2, 3, 4, 5, 6};
  cudaMemcpy3DParms params{};
  params.srcPtr = {host, 8, 8, 3};
  params.dstPtr = {memory, 16, 16, 3};
  params.extent = {8, 3, 1};
  params.kind = cudaMemcpyHostToDevice;
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t node = nullptr;
  SHOW(cudaGraphAddMemcpyNode(&node, graph, nullptr, 0, &params));
  run(graph);
  say("%d %d %d %d %d", read(memory), read(memory + 1), read(memory + 4), read(memory + 8), read(memory + 9));
  cudaMemcpy3DParms shown{};
  SHOW(cudaGraphMemcpyNodeGetParams(node, &shown));
  say("kind %d, extent %zu %zu %zu, pitches %zu %zu", shown.kind, shown.extent.width, shown.extent.height,
      shown.extent.depth, shown.srcPtr.pitch, shown.dstPtr.pitch);
  say("the same pointers: %d %d", shown.srcPtr.ptr == host, shown.dstPtr.ptr == memory);
}

static void CUDART_CB count_up(void* data) { ++*static_cast<int*>(data); }

CASE(host_node) {
  static int calls = 0, other_calls = 0;
  cudaHostNodeParams params{count_up, &calls};
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t node = nullptr;
  SHOW(cudaGraphAddHostNode(&node, graph, nullptr, 0, &params));
  run(graph, 3);
  say("calls %d", calls);
  params.userData = &other_calls;
  SHOW(cudaGraphHostNodeSetParams(node, &params));
  cudaHostNodeParams shown{};
  SHOW(cudaGraphHostNodeGetParams(node, &shown));
  say("%d %d", shown.fn == count_up, shown.userData == &other_calls);
  run(graph);
  say("calls %d %d", calls, other_calls);
  params.fn = nullptr;
  SHOW(cudaGraphAddHostNode(&node, graph, nullptr, 0, &params));
}

CASE(event_nodes) {
  cudaEvent_t event = nullptr, other = nullptr;
  NEED(cudaEventCreate(&event));
  NEED(cudaEventCreate(&other));
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t record = nullptr, wait = nullptr;
  SHOW(cudaGraphAddEventRecordNode(&record, graph, nullptr, 0, event));
  SHOW(cudaGraphAddEventWaitNode(&wait, graph, &record, 1, event));
  cudaEvent_t shown = nullptr;
  SHOW(cudaGraphEventRecordNodeGetEvent(record, &shown));
  say("the same event: %d", shown == event);
  SHOW(cudaGraphEventWaitNodeSetEvent(wait, other));
  SHOW(cudaGraphEventWaitNodeGetEvent(wait, &shown));
  say("the other event: %d", shown == other);
  run(graph);
  SHOW(cudaEventQuery(event));
  SHOW(cudaGraphEventRecordNodeGetEvent(wait, &shown));
  SHOW(cudaGraphAddEventRecordNode(&record, graph, nullptr, 0, nullptr));
}

CASE(allocation_and_free_nodes) {
  cudaMemAllocNodeParams params{};
  params.poolProps.allocType = cudaMemAllocationTypePinned;
  params.poolProps.location.type = cudaMemLocationTypeDevice;
  params.bytesize = 1024;
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t alloc = nullptr, set = nullptr, copy = nullptr, release = nullptr;
  SHOW(cudaGraphAddMemAllocNode(&alloc, graph, nullptr, 0, &params));
  say("an address: %d", params.dptr != nullptr);
  cudaMemsetParams fill{};
  fill.dst = params.dptr;
  fill.value = 6;
  fill.elementSize = 4;
  fill.width = 1;
  fill.height = 1;
  SHOW(cudaGraphAddMemsetNode(&set, graph, &alloc, 1, &fill));
  int result = 0;
  SHOW(cudaGraphAddMemcpyNode1D(&copy, graph, &set, 1, &result, params.dptr, 4, cudaMemcpyDeviceToHost));
  SHOW(cudaGraphAddMemFreeNode(&release, graph, &copy, 1, params.dptr));
  SHOW(cudaGraphAddMemFreeNode(&release, graph, &copy, 1, params.dptr));
  void* shown = nullptr;
  SHOW(cudaGraphMemFreeNodeGetParams(release, &shown));
  run(graph, 2);
  say("result %d", result);
  cudaMemAllocNodeParams got{};
  SHOW(cudaGraphMemAllocNodeGetParams(alloc, &got));
  say("bytes %zu, the same address %d", got.bytesize, got.dptr == params.dptr);
  cudaGraph_t clone = nullptr;
  SHOW(cudaGraphClone(&clone, graph));
  SHOW(cudaGraphDestroyNode(set));
  SHOW(cudaGraphRemoveDependencies(graph, &alloc, &set, nullptr, 1));
  params.bytesize = 0;
  SHOW(cudaGraphAddMemAllocNode(&alloc, graph, nullptr, 0, &params));
}

CASE(child_graph_node) {
  int* memory = make_int(0);
  cudaGraph_t inner = make_graph(), outer = make_graph();
  cudaMemsetParams fill{};
  fill.dst = memory;
  fill.value = 8;
  fill.elementSize = 4;
  fill.width = 1;
  fill.height = 1;
  cudaGraphNode_t set = nullptr, child = nullptr;
  NEED(cudaGraphAddMemsetNode(&set, inner, nullptr, 0, &fill));
  SHOW(cudaGraphAddChildGraphNode(&child, outer, nullptr, 0, inner));
  SHOW(cudaGraphDestroy(inner));
  cudaGraph_t copy = nullptr;
  SHOW(cudaGraphChildGraphNodeGetGraph(child, &copy));
  size_t count = 0;
  SHOW(cudaGraphGetNodes(copy, nullptr, &count));
  say("nodes %zu", count);
  run(outer);
  say("value %d", read(memory));
}

CASE(node_of_any_kind) {
  int* memory = make_int(2);
  int value = 4;
  void* arguments[] = {&memory, &value};
  cudaGraphNodeParams params{};
  params.type = cudaGraphNodeTypeKernel;
  params.kernel.func = reinterpret_cast<void*>(add);
  params.kernel.gridDim = params.kernel.blockDim = {1, 1, 1};
  params.kernel.kernelParams = arguments;
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t kernel = nullptr, set = nullptr, empty = nullptr;
  SHOW(cudaGraphAddNode(&kernel, graph, nullptr, nullptr, 0, &params));
  cudaGraphNodeParams fill{};
  fill.type = cudaGraphNodeTypeMemset;
  fill.memset.dst = memory + 1;
  fill.memset.value = 5;
  fill.memset.elementSize = 4;
  fill.memset.width = fill.memset.height = 1;
  SHOW(cudaGraphAddNode(&set, graph, &kernel, nullptr, 1, &fill));
  cudaGraphNodeParams nothing{};
  nothing.type = cudaGraphNodeTypeEmpty;
  SHOW(cudaGraphAddNode(&empty, graph, &set, nullptr, 1, &nothing));
  run(graph);
  say("%d %d", read(memory), read(memory + 1));
  SHOW(cudaGraphNodeSetParams(kernel, &fill));
  value = 40;
  SHOW(cudaGraphNodeSetParams(kernel, &params));
  run(graph);
  say("%d", read(memory));
  params.type = static_cast<cudaGraphNodeType>(77);
  SHOW(cudaGraphAddNode(&kernel, graph, nullptr, nullptr, 0, &params));
}
