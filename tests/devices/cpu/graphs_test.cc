#include <fstream>
#include <iterator>

#include "kernels_support.h"

namespace {

struct Graph {
  Graph() { OK(cuGraphCreate(&handle, 0)); }
  CUgraph handle = nullptr;
};

CUgraphExec instantiate(CUgraph graph) {
  CUgraphExec exec = nullptr;
  OK(cuGraphInstantiate(&exec, graph, 0));
  return exec;
}

void launch(CUgraphExec exec) {
  OK(cuGraphLaunch(exec, nullptr));
  OK(cuStreamSynchronize(nullptr));
}

CUgraphNode add_memset(CUgraph graph, CUdeviceptr to, unsigned value, std::vector<CUgraphNode> after = {}) {
  const CUDA_MEMSET_NODE_PARAMS params{to, 0, value, 4, 1, 1};
  CUgraphNode node = nullptr;
  CUcontext context = nullptr;
  OK(cuCtxGetCurrent(&context));
  OK(cuGraphAddMemsetNode(&node, graph, after.data(), after.size(), &params, context));
  return node;
}

/// A kernel that sets a condition, as nvcc compiles cudaGraphSetConditional().
constexpr const char* kConditionKernels = R"(
.version 8.3
.target sm_80
.address_size 64
.extern .func cudaGraphSetConditional (.param .b64 a, .param .b32 b);
.visible .entry count_down(.param .u64 handle, .param .u64 left)
{
  .reg .b32 %r<3>; .reg .b64 %rd<3>;
  ld.param.u64 %rd1, [handle];
  ld.param.u64 %rd2, [left];
  ld.u32 %r1, [%rd2];
  sub.u32 %r2, %r1, 1;
  st.u32 [%rd2], %r2;
  {
  .param .b64 p0; st.param.b64 [p0], %rd1;
  .param .b32 p1; st.param.b32 [p1], %r2;
  call.uni cudaGraphSetConditional, (p0, p1);
  }
  ret;
}
)";

}  // namespace

TEST_CASE("Nodes run after those they depend on") {
  test::Context context;
  test::Buffer buffer(8);
  const Graph graph;
  const CUgraphNode first = add_memset(graph.handle, buffer.address, 1);
  const CUgraphNode last = add_memset(graph.handle, buffer.address, 3);
  const CUgraphNode middle = add_memset(graph.handle, buffer.address, 2, {first});
  OK(cuGraphAddDependencies(graph.handle, &middle, &last, nullptr, 1));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuGraphAddDependencies(graph.handle, &middle, &last, nullptr, 1));
  launch(instantiate(graph.handle));
  CHECK(test::read(buffer.address, 1)[0] == 3);
  OK(cuGraphDestroyNode(last));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuGraphDestroyNode(last));
  launch(instantiate(graph.handle));
  CHECK(test::read(buffer.address, 1)[0] == 2);
}

TEST_CASE("A cycle is found when the graph is instantiated") {
  test::Context context;
  const Graph graph;
  CUgraphNode a = nullptr, b = nullptr;
  OK(cuGraphAddEmptyNode(&a, graph.handle, nullptr, 0));
  OK(cuGraphAddEmptyNode(&b, graph.handle, &a, 1));
  OK(cuGraphAddDependencies(graph.handle, &b, &a, nullptr, 1));
  CUDA_GRAPH_INSTANTIATE_PARAMS params{};
  CUgraphExec exec = nullptr;
  GIVES(CUDA_ERROR_INVALID_VALUE, cuGraphInstantiateWithParams(&exec, graph.handle, &params));
  CHECK(params.result_out == CUDA_GRAPH_INSTANTIATE_INVALID_STRUCTURE);
  CHECK((params.hErrNode_out == a || params.hErrNode_out == b));
  OK(cuGraphRemoveDependencies(graph.handle, &b, &a, nullptr, 1));
  OK(cuGraphInstantiateWithParams(&exec, graph.handle, &params));
  CHECK(params.result_out == CUDA_GRAPH_INSTANTIATE_SUCCESS);
}

TEST_CASE("Kernel nodes keep their parameters, and executable graphs take new ones") {
  test::Context context;
  const test::Kernels kernels;
  test::Buffer buffer(8);
  const CUdeviceptr second = buffer.address + 4;
  OK(cuMemsetD32(buffer.address, 0, 2));
  const Graph graph;
  CUDA_KERNEL_NODE_PARAMS params{};
  void* first_arguments[] = {&buffer.address};
  params.func = kernels.function("store");
  params.gridDimX = params.gridDimY = params.gridDimZ = params.blockDimX = params.blockDimY =
      params.blockDimZ = 1;
  params.kernelParams = first_arguments;
  CUgraphNode node = nullptr;
  OK(cuGraphAddKernelNode(&node, graph.handle, nullptr, 0, &params));
  CUDA_KERNEL_NODE_PARAMS shown{};
  OK(cuGraphKernelNodeGetParams(node, &shown));
  CHECK(shown.func == params.func);
  REQUIRE(shown.kernelParams != nullptr);
  CHECK(*static_cast<CUdeviceptr*>(shown.kernelParams[0]) == buffer.address);
  const CUgraphExec exec = instantiate(graph.handle);
  launch(exec);
  CHECK(test::read(buffer.address, 2) == std::vector<std::uint32_t>{1, 0});
  CUdeviceptr target = second;
  void* second_arguments[] = {&target};
  params.kernelParams = second_arguments;
  OK(cuGraphExecKernelNodeSetParams(exec, node, &params));
  launch(exec);
  CHECK(test::read(buffer.address, 2) == std::vector<std::uint32_t>{1, 1});
  params.blockDimX = 4096;
  GIVES(CUDA_ERROR_INVALID_VALUE, cuGraphExecKernelNodeSetParams(exec, node, &params));
  OK(cuMemsetD32(buffer.address, 0, 2));
  OK(cuGraphNodeSetEnabled(exec, node, 0));
  unsigned enabled = 1;
  OK(cuGraphNodeGetEnabled(exec, node, &enabled));
  CHECK(enabled == 0);
  launch(exec);
  CHECK(test::read(buffer.address, 2) == std::vector<std::uint32_t>{0, 0});
}

TEST_CASE("A graph of the same shape updates an executable one, another shape does not") {
  test::Context context;
  test::Buffer buffer(8);
  const Graph graph, same, longer, different;
  add_memset(graph.handle, buffer.address + 4, 1, {add_memset(graph.handle, buffer.address, 1)});
  add_memset(same.handle, buffer.address + 4, 6, {add_memset(same.handle, buffer.address, 5)});
  add_memset(longer.handle, buffer.address, 1, {add_memset(longer.handle, buffer.address, 1)});
  add_memset(longer.handle, buffer.address, 1);
  CUgraphNode empty = nullptr;
  const CUgraphNode before = add_memset(different.handle, buffer.address, 1);
  OK(cuGraphAddEmptyNode(&empty, different.handle, &before, 1));
  const CUgraphExec exec = instantiate(graph.handle);
  CUgraphExecUpdateResultInfo info{};
  OK(cuGraphExecUpdate(exec, same.handle, &info));
  CHECK(info.result == CU_GRAPH_EXEC_UPDATE_SUCCESS);
  launch(exec);
  CHECK(test::read(buffer.address, 2) == std::vector<std::uint32_t>{5, 6});
  GIVES(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, cuGraphExecUpdate(exec, longer.handle, &info));
  CHECK(info.result == CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED);
  CHECK(info.errorNode == nullptr);
  GIVES(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, cuGraphExecUpdate(exec, different.handle, &info));
  CHECK(info.result == CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED);
  CHECK(info.errorNode == empty);
}

TEST_CASE("Clones and children are copies of their own") {
  test::Context context;
  test::Buffer buffer(4);
  const Graph graph, outer;
  const CUgraphNode node = add_memset(graph.handle, buffer.address, 1);
  CUgraph clone = nullptr;
  OK(cuGraphClone(&clone, graph.handle));
  CUgraphNode copy = nullptr, child = nullptr, found = nullptr;
  OK(cuGraphNodeFindInClone(&copy, node, clone));
  CHECK(copy != node);
  GIVES(CUDA_ERROR_INVALID_VALUE, cuGraphNodeFindInClone(&found, copy, graph.handle));
  OK(cuGraphAddChildGraphNode(&child, outer.handle, nullptr, 0, graph.handle));
  CUgraph inner = nullptr;
  OK(cuGraphChildGraphNodeGetGraph(child, &inner));
  CHECK(inner != graph.handle);
  GIVES(CUDA_ERROR_INVALID_VALUE, cuGraphDestroy(inner));
  OK(cuGraphDestroy(graph.handle));
  launch(instantiate(outer.handle));
  CHECK(test::read(buffer.address, 1)[0] == 1);
  OK(cuGraphDestroy(outer.handle));
  std::size_t count = 0;
  GIVES(CUDA_ERROR_INVALID_VALUE, cuGraphGetNodes(inner, nullptr, &count));
}

TEST_CASE("Event nodes record and wait across launches") {
  test::Context context;
  test::Buffer buffer(4);
  test::Gate gate;
  const Graph graph;
  CUevent event = nullptr;
  OK(cuEventCreate(&event, 0));
  CUgraphNode record = nullptr, host = nullptr;
  const CUgraphNode set = add_memset(graph.handle, buffer.address, 4);
  OK(cuGraphAddEventRecordNode(&record, graph.handle, &set, 1, event));
  const CUgraphExec exec = instantiate(graph.handle);
  const CUstream first = test::make_stream(), second = test::make_stream();
  gate.close(first);
  OK(cuGraphLaunch(exec, first));
  GIVES(CUDA_ERROR_NOT_READY, cuEventQuery(event));
  OK(cuStreamWaitEvent(second, event, 0));
  OK(cuMemsetD32Async(buffer.address, 5, 1, second));
  GIVES(CUDA_ERROR_NOT_READY, cuStreamQuery(second));
  const Graph waiting;
  CUgraphNode wait = nullptr;
  OK(cuGraphAddEventWaitNode(&wait, waiting.handle, nullptr, 0, event));
  const CUgraphExec second_exec = instantiate(waiting.handle);
  OK(cuGraphLaunch(second_exec, second));
  gate.open();
  OK(cuStreamSynchronize(second));
  GIVES(CUDA_SUCCESS, cuEventQuery(event));
  CHECK(test::read(buffer.address, 1)[0] == 5);
  static_cast<void>(host);
}

TEST_CASE("Memory of allocation nodes lives from a launch to its free") {
  test::Context context;
  const Graph graph, freeing;
  CUDA_MEM_ALLOC_NODE_PARAMS params{};
  params.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  params.poolProps.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
  params.bytesize = 1 << 20;
  CUgraphNode alloc = nullptr, free = nullptr;
  OK(cuGraphAddMemAllocNode(&alloc, graph.handle, nullptr, 0, &params));
  REQUIRE(params.dptr != 0);
  add_memset(graph.handle, params.dptr, 9, {alloc});
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemFree(params.dptr));
  const CUgraphExec exec = instantiate(graph.handle);
  CUgraphExec again = nullptr;
  GIVES(CUDA_ERROR_NOT_SUPPORTED, cuGraphInstantiate(&again, graph.handle, 0));
  launch(exec);
  CHECK(test::read(params.dptr, 1)[0] == 9);
  GIVES(CUDA_ERROR_INVALID_VALUE, cuGraphLaunch(exec, nullptr));  // still allocated
  OK(cuMemFreeAsync(params.dptr, nullptr));
  launch(exec);
  OK(cuGraphAddMemFreeNode(&free, freeing.handle, nullptr, 0, params.dptr));
  const CUgraphExec freeing_exec = instantiate(freeing.handle);
  launch(freeing_exec);
  GIVES(CUDA_ERROR_INVALID_VALUE, cuGraphLaunch(freeing_exec, nullptr));
  GIVES(CUDA_ERROR_NOT_SUPPORTED, cuGraphDestroyNode(alloc));
  CUgraph clone = nullptr;
  GIVES(CUDA_ERROR_NOT_SUPPORTED, cuGraphClone(&clone, graph.handle));
  cuuint64_t used = 1;
  OK(cuDeviceGetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT, &used));
  CHECK(used == 0);
  OK(cuGraphExecDestroy(exec));
  OK(cuGraphInstantiate(&again, graph.handle, CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH));
  launch(again);
  launch(again);
}

TEST_CASE("Conditional nodes run their bodies by the value that kernels set") {
  test::Context context;
  CUmodule module = nullptr;
  OK(cuModuleLoadData(&module, kConditionKernels));
  CUfunction count_down = nullptr;
  OK(cuModuleGetFunction(&count_down, module, "count_down"));
  test::Buffer buffer(8);
  const Graph graph;
  CUgraphConditionalHandle handle = 0;
  OK(cuGraphConditionalHandleCreate(&handle, graph.handle, context.handle, 1, CU_GRAPH_COND_ASSIGN_DEFAULT));
  CUgraphExec exec = nullptr;
  CUDA_GRAPH_INSTANTIATE_PARAMS instantiation{};
  GIVES(CUDA_ERROR_INVALID_VALUE, cuGraphInstantiateWithParams(&exec, graph.handle, &instantiation));
  CHECK(instantiation.result_out == CUDA_GRAPH_INSTANTIATE_CONDITIONAL_HANDLE_UNUSED);
  CUgraphNodeParams params{};
  params.type = CU_GRAPH_NODE_TYPE_CONDITIONAL;
  params.conditional.handle = handle;
  params.conditional.type = CU_GRAPH_COND_TYPE_WHILE;
  params.conditional.size = 1;
  params.conditional.ctx = context.handle;
  CUgraphNode loop = nullptr, kernel = nullptr;
  OK(cuGraphAddNode(&loop, graph.handle, nullptr, nullptr, 0, &params));
  const CUgraph body = params.conditional.phGraph_out[0];
  CUDA_KERNEL_NODE_PARAMS launch_params{};
  void* arguments[] = {&handle, &buffer.address};
  launch_params.func = count_down;
  launch_params.gridDimX = launch_params.gridDimY = launch_params.gridDimZ = 1;
  launch_params.blockDimX = launch_params.blockDimY = launch_params.blockDimZ = 1;
  launch_params.kernelParams = arguments;
  OK(cuGraphAddKernelNode(&kernel, body, nullptr, 0, &launch_params));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuGraphDestroy(body));
  OK(cuMemsetD32(buffer.address, 10, 1));
  exec = instantiate(graph.handle);
  launch(exec);
  CHECK(test::read(buffer.address, 1)[0] == 0);
}

TEST_CASE("User objects are destroyed when graph and program have let go") {
  test::Context context;
  static std::atomic<int> destroyed{0};
  CUuserObject object = nullptr;
  OK(cuUserObjectCreate(
      &object, nullptr, [](void*) { ++destroyed; }, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
  const Graph graph;
  OK(cuGraphRetainUserObject(graph.handle, object, 1, CU_GRAPH_USER_OBJECT_MOVE));
  const CUgraphExec exec = instantiate(graph.handle);
  OK(cuGraphDestroy(graph.handle));
  CHECK(destroyed == 0);
  OK(cuGraphExecDestroy(exec));
  CHECK(test::soon([] { return destroyed == 1; }));
}

TEST_CASE("Edges carry data, and questions without room for it are refused") {
  test::Context context;
  const test::Kernels kernels;
  test::Buffer buffer(4);
  const Graph graph;
  CUgraphNodeParams params{};
  void* arguments[] = {&buffer.address};
  params.type = CU_GRAPH_NODE_TYPE_KERNEL;
  params.kernel.func = kernels.function("store");
  params.kernel.gridDimX = params.kernel.gridDimY = params.kernel.gridDimZ = 1;
  params.kernel.blockDimX = params.kernel.blockDimY = params.kernel.blockDimZ = 1;
  params.kernel.kernelParams = arguments;
  CUgraphNode first = nullptr, second = nullptr, third = nullptr;
  OK(cuGraphAddNode(&first, graph.handle, nullptr, nullptr, 0, &params));
  CUgraphEdgeData edge{};
  edge.from_port = CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC;
  edge.type = CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC;
  OK(cuGraphAddNode(&second, graph.handle, &first, &edge, 1, &params));
  std::size_t count = 1;
  CUgraphNode before = nullptr;
  GIVES(CUDA_ERROR_LOSSY_QUERY, cuGraphNodeGetDependencies(second, &before, nullptr, &count));
  CUgraphEdgeData shown{};
  OK(cuGraphNodeGetDependencies(second, &before, &shown, &count));
  CHECK(before == first);
  CHECK(shown.type == CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC);
  edge.to_port = 1;
  GIVES(CUDA_ERROR_INVALID_VALUE, cuGraphAddNode(&third, graph.handle, &first, &edge, 1, &params));
  launch(instantiate(graph.handle));
  CHECK(test::read(buffer.address, 1)[0] == 1);
}

TEST_CASE("A graph is written as text for Graphviz") {
  test::Context context;
  test::Buffer buffer(4);
  const Graph graph;
  add_memset(graph.handle, buffer.address, 1);
  const std::string path = "graphs_test.dot";
  OK(cuGraphDebugDotPrint(graph.handle, path.c_str(), 0));
  std::ifstream file(path);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  CHECK(text.starts_with("digraph"));
  CHECK(text.find("MEMSET") != std::string::npos);
  GIVES(CUDA_ERROR_OPERATING_SYSTEM, cuGraphDebugDotPrint(graph.handle, "/nowhere/at/all.dot", 0));
}
