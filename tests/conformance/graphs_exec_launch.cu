// Executable graphs: instantiation, launches and their order, memory that outlives a launch, conditions.
#include <chrono>
#include <thread>

#include "case.h"

__global__ void add(int* out, int value) { *out += value; }

static int read(const int* from) {
  int value = -1;
  NEED(cudaMemcpy(&value, from, sizeof value, cudaMemcpyDeviceToHost));
  return value;
}

static int* make_ints() {
  int* memory = nullptr;
  NEED(cudaMalloc(&memory, 256));
  NEED(cudaMemset(memory, 0, 256));
  NEED(cudaDeviceSynchronize());  // streams that do not wait for the default one follow
  return memory;
}

static cudaGraph_t make_graph() {
  cudaGraph_t graph = nullptr;
  NEED(cudaGraphCreate(&graph, 0));
  return graph;
}

static cudaGraphNode_t add_add(cudaGraph_t graph, int* out, int value, std::vector<cudaGraphNode_t> after = {}) {
  void* arguments[] = {&out, &value};
  cudaKernelNodeParams params{};
  params.func = reinterpret_cast<void*>(add);
  params.gridDim = params.blockDim = {1, 1, 1};
  params.kernelParams = arguments;
  cudaGraphNode_t node = nullptr;
  NEED(cudaGraphAddKernelNode(&node, graph, after.data(), after.size(), &params));
  return node;
}

CASE(instantiation_errors) {
  cudaGraph_t graph = make_graph();
  cudaGraphExec_t exec = nullptr;
  SHOW(cudaGraphInstantiate(nullptr, graph, 0));
  SHOW(cudaGraphInstantiate(&exec, nullptr, 0));
  SHOW(cudaGraphInstantiate(&exec, graph, 1 << 20));
  SHOW(cudaGraphInstantiate(&exec, graph, 0));
  SHOW(cudaGraphLaunch(exec, nullptr));
  SHOW(cudaGraphExecDestroy(exec));
  SHOW(cudaGraphExecDestroy(nullptr));
  SHOW(cudaGraphLaunch(nullptr, nullptr));
}

CASE(flags_are_told) {
  cudaGraph_t graph = make_graph();
  cudaGraphExec_t exec = nullptr;
  unsigned long long flags = 99;
  NEED(cudaGraphInstantiateWithFlags(&exec, graph, cudaGraphInstantiateFlagUseNodePriority));
  SHOW(cudaGraphExecGetFlags(exec, &flags));
  say("flags %llu", flags);
  cudaStream_t stream = nullptr;
  NEED(cudaStreamCreate(&stream));
  cudaGraphInstantiateParams params{};
  params.flags = cudaGraphInstantiateFlagUpload | cudaGraphInstantiateFlagAutoFreeOnLaunch;
  params.uploadStream = stream;
  SHOW(cudaGraphInstantiateWithParams(&exec, graph, &params));
  say("result %d, node %d", params.result_out, params.errNode_out != nullptr);
  SHOW(cudaGraphExecGetFlags(exec, &flags));
  say("flags %llu", flags);
  SHOW(cudaGraphUpload(exec, stream));
  SHOW(cudaGraphExecGetFlags(exec, nullptr));
}

CASE(launches_follow_each_other) {
  int* memory = make_ints();
  cudaGraph_t graph = make_graph();
  add_add(graph, memory, 3, {add_add(graph, memory, 4)});
  cudaGraphExec_t exec = nullptr;
  NEED(cudaGraphInstantiate(&exec, graph, 0));
  cudaStream_t streams[3];
  for (cudaStream_t& stream : streams) NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  for (int i = 0; i < 30; ++i) NEED(cudaGraphLaunch(exec, streams[i % 3]));
  NEED(cudaDeviceSynchronize());
  say("%d", read(memory));
}

CASE(a_graph_may_change_after_instantiation) {
  int* memory = make_ints();
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t node = add_add(graph, memory, 1);
  cudaGraphExec_t exec = nullptr;
  NEED(cudaGraphInstantiate(&exec, graph, 0));
  add_add(graph, memory, 100, {node});
  NEED(cudaGraphLaunch(exec, nullptr));
  SHOW(cudaGraphDestroy(graph));
  NEED(cudaGraphLaunch(exec, nullptr));
  SHOW(cudaGraphExecDestroy(exec));  // while it runs
  NEED(cudaDeviceSynchronize());
  say("%d", read(memory));
}

CASE(a_launch_cannot_be_captured) {
  int* memory = make_ints();
  cudaGraph_t graph = make_graph(), outer = nullptr;
  add_add(graph, memory, 5);
  cudaGraphExec_t exec = nullptr;
  NEED(cudaGraphInstantiate(&exec, graph, 0));
  cudaStream_t stream = nullptr;
  NEED(cudaStreamCreate(&stream));
  NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  SHOW(cudaGraphLaunch(exec, stream));
  SHOW(cudaStreamEndCapture(stream, &outer));
}

static void* add_allocation(cudaGraph_t graph) {
  cudaMemAllocNodeParams params{};
  params.poolProps.allocType = cudaMemAllocationTypePinned;
  params.poolProps.location.type = cudaMemLocationTypeDevice;
  params.bytesize = 1 << 16;
  cudaGraphNode_t node = nullptr, set = nullptr;
  NEED(cudaGraphAddMemAllocNode(&node, graph, nullptr, 0, &params));
  cudaMemsetParams fill{};
  fill.dst = params.dptr;
  fill.value = 12;
  fill.elementSize = 4;
  fill.width = fill.height = 1;
  NEED(cudaGraphAddMemsetNode(&set, graph, &node, 1, &fill));
  return params.dptr;
}

CASE(memory_outlives_its_launch) {
  cudaGraph_t graph = make_graph();
  void* memory = add_allocation(graph);
  cudaGraphExec_t exec = nullptr, second = nullptr;
  NEED(cudaGraphInstantiate(&exec, graph, 0));
  SHOW(cudaGraphInstantiate(&second, graph, 0));
  NEED(cudaGraphLaunch(exec, nullptr));
  NEED(cudaDeviceSynchronize());
  say("%d", read(static_cast<int*>(memory)));
  SHOW(cudaGraphLaunch(exec, nullptr));
  SHOW(cudaFreeAsync(memory, nullptr));
  SHOW(cudaGraphLaunch(exec, nullptr));
  NEED(cudaDeviceSynchronize());
  say("%d", read(static_cast<int*>(memory)));
  SHOW(cudaFree(memory));
  cudaGetLastError();
  size_t used = 1;
  SHOW(cudaDeviceGetGraphMemAttribute(0, cudaGraphMemAttrUsedMemCurrent, &used));
  SHOW(cudaDeviceGraphMemTrim(0));
}

CASE(memory_freed_at_the_next_launch) {
  cudaGraph_t graph = make_graph();
  void* memory = add_allocation(graph);
  cudaGraphExec_t exec = nullptr;
  NEED(cudaGraphInstantiate(&exec, graph, cudaGraphInstantiateFlagAutoFreeOnLaunch));
  SHOW(cudaGraphLaunch(exec, nullptr));
  SHOW(cudaGraphLaunch(exec, nullptr));
  NEED(cudaDeviceSynchronize());
  say("%d", read(static_cast<int*>(memory)));
}

CASE(memory_freed_by_another_graph) {
  cudaGraph_t graph = make_graph(), freeing = make_graph();
  void* memory = add_allocation(graph);
  cudaGraphNode_t node = nullptr;
  SHOW(cudaGraphAddMemFreeNode(&node, freeing, nullptr, 0, memory));
  cudaGraphExec_t exec = nullptr, freeing_exec = nullptr;
  NEED(cudaGraphInstantiate(&exec, graph, 0));
  NEED(cudaGraphInstantiate(&freeing_exec, freeing, 0));
  for (int i = 0; i < 2; ++i) {
    SHOW(cudaGraphLaunch(exec, nullptr));
    SHOW(cudaGraphLaunch(freeing_exec, nullptr));
  }
  SHOW(cudaDeviceSynchronize());
}

static void conditional(int* memory, cudaGraphConditionalNodeType type, unsigned size, unsigned value) {
  cudaGraph_t graph = make_graph();
  cudaGraphConditionalHandle handle = 0;
  NEED(cudaGraphConditionalHandleCreate(&handle, graph, value, cudaGraphCondAssignDefault));
  cudaGraphNodeParams params{};
  params.type = cudaGraphNodeTypeConditional;
  params.conditional.handle = handle;
  params.conditional.type = type;
  params.conditional.size = size;
  cudaGraphNode_t node = nullptr;
  NEED(cudaGraphAddNode(&node, graph, nullptr, nullptr, 0, &params));
  for (unsigned i = 0; i < size; ++i) add_add(params.conditional.phGraph_out[i], memory, i == 0 ? 1 : 10 * i);
  cudaGraphExec_t exec = nullptr;
  NEED(cudaGraphInstantiate(&exec, graph, 0));
  NEED(cudaMemset(memory, 0, 4));
  NEED(cudaGraphLaunch(exec, nullptr));
  NEED(cudaDeviceSynchronize());
  say("value %u: %d", value, read(memory));
}

CASE(conditions_with_their_default) {
  int* memory = make_ints();
  conditional(memory, cudaGraphCondTypeIf, 1, 0);
  conditional(memory, cudaGraphCondTypeIf, 1, 1);
  conditional(memory, cudaGraphCondTypeIf, 2, 0);
  conditional(memory, cudaGraphCondTypeIf, 2, 1);
  conditional(memory, cudaGraphCondTypeSwitch, 3, 0);
  conditional(memory, cudaGraphCondTypeSwitch, 3, 2);
  conditional(memory, cudaGraphCondTypeSwitch, 3, 3);
  conditional(memory, cudaGraphCondTypeWhile, 1, 0);
}

CASE(condition_errors) {
  NEED(cudaFree(nullptr));
  cudaGraph_t graph = make_graph(), other = make_graph(), clone = nullptr;
  cudaGraphConditionalHandle handle = 0;
  SHOW(cudaGraphConditionalHandleCreate(&handle, graph, 0, 6));
  SHOW(cudaGraphConditionalHandleCreate(nullptr, graph, 0, 0));
  SHOW(cudaGraphConditionalHandleCreate(&handle, graph, 0, 0));
  cudaGraphExec_t exec = nullptr;
  cudaGraphInstantiateParams instantiation{};
  SHOW(cudaGraphInstantiateWithParams(&exec, graph, &instantiation));
  say("result %d", instantiation.result_out);
  cudaGraphNodeParams params{};
  params.type = cudaGraphNodeTypeConditional;
  params.conditional.handle = handle;
  params.conditional.type = cudaGraphCondTypeWhile;
  params.conditional.size = 2;
  cudaGraphNode_t node = nullptr;
  SHOW(cudaGraphAddNode(&node, graph, nullptr, nullptr, 0, &params));
  params.conditional.size = 1;
  SHOW(cudaGraphAddNode(&node, other, nullptr, nullptr, 0, &params));
  SHOW(cudaGraphAddNode(&node, graph, nullptr, nullptr, 0, &params));
  SHOW(cudaGraphClone(&clone, graph));
  SHOW(cudaGraphAddChildGraphNode(&node, other, nullptr, 0, graph));
}

CASE(values_in_memory) {
  NEED(cudaFree(nullptr));
  int* memory = make_ints();
  CUcontext context = nullptr;
  NEED(cuCtxGetCurrent(&context));
  CUstreamBatchMemOpParams operations[2] = {};
  operations[0].operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
  operations[0].writeValue.address = reinterpret_cast<CUdeviceptr>(memory);
  operations[0].writeValue.value = 17;
  operations[1].operation = CU_STREAM_MEM_OP_WAIT_VALUE_32;
  operations[1].waitValue.address = reinterpret_cast<CUdeviceptr>(memory);
  operations[1].waitValue.value = 17;
  operations[1].waitValue.flags = CU_STREAM_WAIT_VALUE_EQ;
  CUDA_BATCH_MEM_OP_NODE_PARAMS params{context, 2, operations, 0};
  CUgraph graph = nullptr;
  CUgraphNode node = nullptr;
  NEED(cuGraphCreate(&graph, 0));
  SHOW(cuGraphAddBatchMemOpNode(&node, graph, nullptr, 0, &params));
  CUgraphExec exec = nullptr;
  NEED(cuGraphInstantiate(&exec, graph, 0));
  NEED(cuGraphLaunch(exec, nullptr));
  NEED(cuCtxSynchronize());
  say("%d", read(memory));
  operations[0].writeValue.value = operations[1].waitValue.value = 18;
  SHOW(cuGraphExecBatchMemOpNodeSetParams(exec, node, &params));
  NEED(cuGraphLaunch(exec, nullptr));
  NEED(cuCtxSynchronize());
  say("%d", read(memory));
  CUDA_BATCH_MEM_OP_NODE_PARAMS shown{};
  SHOW(cuGraphBatchMemOpNodeGetParams(node, &shown));
  say("operations %u, value %u", shown.count, shown.paramArray[0].writeValue.value);
}

// ---- host nodes and memory that they share with others ----------------------------------------

struct Turn {
  int* values;
  int n;
};

static void CUDART_CB write_late(void* data) {
  const Turn& turn = *static_cast<Turn*>(data);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  for (int i = 0; i < turn.n; ++i) turn.values[i] = 7;
}

static void CUDART_CB times_ten(void* data) {
  const Turn& turn = *static_cast<Turn*>(data);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  for (int i = 0; i < turn.n; ++i) turn.values[i] *= 10;
}

static cudaGraphNode_t add_host(cudaGraph_t graph, cudaHostFn_t function, Turn& turn,
                                std::vector<cudaGraphNode_t> after = {}) {
  cudaHostNodeParams params{function, &turn};
  cudaGraphNode_t node = nullptr;
  NEED(cudaGraphAddHostNode(&node, graph, after.data(), after.size(), &params));
  return node;
}

CASE(a_copy_behind_a_host_node_reads_what_it_wrote) {
  int* memory = make_ints();
  int values[4] = {1, 2, 3, 4};
  Turn turn{values, 4};
  cudaGraph_t graph = make_graph();
  add_host(graph, write_late, turn);
  cudaGraphExec_t exec = nullptr;
  NEED(cudaGraphInstantiate(&exec, graph, 0));
  NEED(cudaGraphLaunch(exec, nullptr));
  SHOW(cudaMemcpy(memory, values, sizeof values, cudaMemcpyHostToDevice));
  say("%d %d", read(memory), read(memory + 3));
}

/// A kernel, a host node that multiplies by ten, a kernel; then a kernel behind the launch.
static void around_a_host_node(int* values) {
  *values = 1;
  Turn turn{values, 1};
  cudaGraph_t graph = make_graph();
  const cudaGraphNode_t first = add_add(graph, values, 1);
  const cudaGraphNode_t host = add_host(graph, times_ten, turn, {first});
  add_add(graph, values, 3, {host});
  cudaGraphExec_t exec = nullptr;
  NEED(cudaGraphInstantiate(&exec, graph, 0));
  for (int turns = 0; turns < 3; ++turns) {
    NEED(cudaGraphLaunch(exec, nullptr));
    add<<<1, 1>>>(values, 1);
    NEED(cudaDeviceSynchronize());
    say("%d", *values);
  }
}

CASE(a_host_node_shares_managed_memory_with_kernels) {
  int* values = nullptr;
  NEED(cudaMallocManaged(&values, 4096));
  around_a_host_node(values);
}

CASE(a_host_node_shares_mapped_memory_with_kernels) {
  int* values = nullptr;
  NEED(cudaHostAlloc(&values, 4096, cudaHostAllocMapped));
  around_a_host_node(values);
}

CASE(memory_is_used_again_while_a_host_node_runs) {
  int* values = nullptr;
  int* other = nullptr;
  NEED(cudaHostAlloc(&values, 4096, cudaHostAllocMapped));
  NEED(cudaHostAlloc(&other, 4096, cudaHostAllocMapped));
  *values = 1;
  cudaStream_t streams[2] = {};
  for (cudaStream_t& stream : streams) NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  Turn turn{values, 1};
  cudaGraph_t graph = make_graph();
  add_add(graph, values, 3, {add_host(graph, times_ten, turn, {add_add(graph, values, 1)})});
  cudaGraphExec_t exec = nullptr;
  NEED(cudaGraphInstantiate(&exec, graph, 0));
  NEED(cudaGraphLaunch(exec, streams[0]));
  for (int turns = 0; turns < 4; ++turns) {
    int* again = nullptr;
    NEED(cudaMallocAsync(&again, 4096, streams[1]));
    NEED(cudaFreeAsync(again, streams[1]));
    *other = turns;
    add<<<1, 1, 0, streams[1]>>>(other, 1);
  }
  NEED(cudaDeviceSynchronize());
  say("%d %d", *values, *other > 0);
}
