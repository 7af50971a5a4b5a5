// The shape of graphs: nodes, edges, copies, user objects.
#include <atomic>
#include <chrono>
#include <thread>

#include "case.h"

__global__ void nothing() {}

static cudaGraph_t make_graph() {
  cudaGraph_t graph = nullptr;
  NEED(cudaGraphCreate(&graph, 0));
  return graph;
}

static cudaGraphNode_t add_empty(cudaGraph_t graph, std::vector<cudaGraphNode_t> after = {}) {
  cudaGraphNode_t node = nullptr;
  NEED(cudaGraphAddEmptyNode(&node, graph, after.data(), after.size()));
  return node;
}

static cudaGraphNode_t add_kernel(cudaGraph_t graph) {
  cudaKernelNodeParams params{};
  params.func = reinterpret_cast<void*>(nothing);
  params.gridDim = params.blockDim = {1, 1, 1};
  cudaGraphNode_t node = nullptr;
  NEED(cudaGraphAddKernelNode(&node, graph, nullptr, 0, &params));
  return node;
}

CASE(creation_errors) {
  cudaGraph_t graph = nullptr;
  SHOW(cudaGraphCreate(nullptr, 0));
  SHOW(cudaGraphCreate(&graph, 1));
  SHOW(cudaGraphCreate(&graph, 0));
  SHOW(cudaGraphDestroy(graph));
  SHOW(cudaGraphDestroy(nullptr));
}

CASE(nodes_are_listed) {
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t a = add_empty(graph), b = add_empty(graph, {a}), c = add_empty(graph, {a}), d = add_empty(graph, {b, c});
  size_t count = 0;
  SHOW(cudaGraphGetNodes(graph, nullptr, &count));
  say("nodes %zu", count);
  cudaGraphNode_t nodes[8];
  count = 8;
  SHOW(cudaGraphGetNodes(graph, nodes, &count));
  say("nodes %zu, the rest is null: %d", count, nodes[4] == nullptr && nodes[7] == nullptr);
  SHOW(cudaGraphGetRootNodes(graph, nullptr, &count));
  say("roots %zu", count);
  count = 1;
  SHOW(cudaGraphGetRootNodes(graph, nodes, &count));
  say("the root: %d", nodes[0] == a);
  SHOW(cudaGraphGetNodes(graph, nodes, nullptr));
  (void)d;
}

CASE(edges_are_listed) {
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t a = add_empty(graph), b = add_empty(graph, {a}), c = add_empty(graph, {a}), d = add_empty(graph, {b, c});
  size_t count = 0;
  SHOW(cudaGraphGetEdges(graph, nullptr, nullptr, nullptr, &count));
  say("edges %zu", count);
  cudaGraphNode_t found[4] = {};
  count = 4;
  SHOW(cudaGraphNodeGetDependencies(d, found, nullptr, &count));
  say("dependencies %zu, both there: %d", count, (found[0] == b && found[1] == c) || (found[0] == c && found[1] == b));
  count = 4;
  SHOW(cudaGraphNodeGetDependentNodes(a, found, nullptr, &count));
  say("dependents %zu, both there: %d", count, (found[0] == b && found[1] == c) || (found[0] == c && found[1] == b));
  SHOW(cudaGraphRemoveDependencies(graph, &b, &d, nullptr, 1));
  SHOW(cudaGraphRemoveDependencies(graph, &b, &d, nullptr, 1));
  SHOW(cudaGraphNodeGetDependencies(d, nullptr, nullptr, &count));
  say("dependencies %zu", count);
  SHOW(cudaGraphAddDependencies(graph, &b, &d, nullptr, 1));
  SHOW(cudaGraphAddDependencies(graph, &b, &d, nullptr, 1));
  SHOW(cudaGraphAddDependencies(graph, nullptr, nullptr, nullptr, 0));
}

CASE(dependencies_must_be_of_the_graph) {
  cudaGraph_t graph = make_graph(), other = make_graph();
  cudaGraphNode_t a = add_empty(graph), b = add_empty(other), node = nullptr;
  SHOW(cudaGraphAddEmptyNode(&node, graph, &b, 1));
  SHOW(cudaGraphAddDependencies(graph, &a, &b, nullptr, 1));
  cudaGraphNode_t twice[] = {a, a};
  SHOW(cudaGraphAddEmptyNode(&node, graph, twice, 2));
  SHOW(cudaGraphAddDependencies(graph, &a, &a, nullptr, 1));
}

CASE(a_node_takes_its_edges_with_it) {
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t a = add_empty(graph), b = add_empty(graph, {a}), c = add_empty(graph, {b});
  SHOW(cudaGraphDestroyNode(b));
  size_t count = 9;
  NEED(cudaGraphGetNodes(graph, nullptr, &count));
  say("nodes %zu", count);
  NEED(cudaGraphGetEdges(graph, nullptr, nullptr, nullptr, &count));
  say("edges %zu", count);
  NEED(cudaGraphNodeGetDependencies(c, nullptr, nullptr, &count));
  say("dependencies %zu", count);
}

CASE(edges_with_data) {
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t first = add_kernel(graph), second = add_kernel(graph), third = add_empty(graph);
  cudaGraphEdgeData data{};
  data.from_port = cudaGraphKernelNodePortProgrammatic;
  data.type = cudaGraphDependencyTypeProgrammatic;
  SHOW(cudaGraphAddDependencies(graph, &first, &second, &data, 1));
  SHOW(cudaGraphAddDependencies(graph, &first, &third, &data, 1));
  cudaGraphNode_t found = nullptr;
  size_t count = 1;
  SHOW(cudaGraphNodeGetDependencies(second, &found, nullptr, &count));
  count = 1;
  cudaGraphEdgeData shown{};
  SHOW(cudaGraphNodeGetDependencies(second, &found, &shown, &count));
  say("port %d type %d", shown.from_port, shown.type);
  SHOW(cudaGraphRemoveDependencies(graph, &first, &second, nullptr, 1));
  SHOW(cudaGraphRemoveDependencies(graph, &first, &second, &data, 1));
  data.to_port = 1;
  SHOW(cudaGraphAddDependencies(graph, &first, &second, &data, 1));
}

CASE(clones) {
  cudaGraph_t graph = make_graph(), clone = nullptr;
  cudaGraphNode_t a = add_empty(graph), b = add_empty(graph, {a}), found = nullptr;
  SHOW(cudaGraphClone(&clone, graph));
  add_empty(graph);
  size_t count = 0;
  NEED(cudaGraphGetNodes(clone, nullptr, &count));
  say("nodes %zu", count);
  SHOW(cudaGraphNodeFindInClone(&found, b, clone));
  say("another node: %d", found != b);
  SHOW(cudaGraphNodeFindInClone(&found, found, graph));
  cudaGraphNode_t later = add_empty(graph);
  SHOW(cudaGraphNodeFindInClone(&found, later, clone));
  SHOW(cudaGraphClone(nullptr, graph));
}

CASE(a_cycle_cannot_be_instantiated) {
  cudaGraph_t graph = make_graph();
  cudaGraphNode_t a = add_empty(graph), b = add_empty(graph, {a});
  SHOW(cudaGraphAddDependencies(graph, &b, &a, nullptr, 1));
  cudaGraphExec_t exec = nullptr;
  SHOW(cudaGraphInstantiate(&exec, graph, 0));
  cudaGraphInstantiateParams params{};
  SHOW(cudaGraphInstantiateWithParams(&exec, graph, &params));
  say("result %d, a node: %d", params.result_out, params.errNode_out == a || params.errNode_out == b);
}

static std::atomic<int> destroyed{0};
static void CUDART_CB destroy(void* data) { destroyed += *static_cast<int*>(data); }
static bool soon(int count) {
  for (int i = 0; i < 2000 && destroyed != count; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return destroyed == count;
}

CASE(user_objects_live_as_long_as_graphs_need_them) {
  static int weight = 1;
  cudaUserObject_t object = nullptr;
  NEED(cudaFree(nullptr));
  SHOW(cudaUserObjectCreate(&object, &weight, destroy, 1, cudaUserObjectNoDestructorSync));
  cudaGraph_t graph = make_graph(), clone = nullptr;
  SHOW(cudaGraphRetainUserObject(graph, object, 1, cudaGraphUserObjectMove));
  NEED(cudaGraphClone(&clone, graph));
  cudaGraphExec_t exec = nullptr;
  NEED(cudaGraphInstantiate(&exec, graph, 0));
  SHOW(cudaGraphDestroy(graph));
  SHOW(cudaGraphExecDestroy(exec));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  say("destroyed %d", destroyed.load());
  SHOW(cudaGraphDestroy(clone));
  say("destroyed once: %d", soon(1));
}

CASE(user_object_errors) {
  static int weight = 1;
  NEED(cudaFree(nullptr));
  cudaUserObject_t object = nullptr;
  SHOW(cudaUserObjectCreate(nullptr, &weight, destroy, 1, cudaUserObjectNoDestructorSync));
  SHOW(cudaUserObjectCreate(&object, &weight, nullptr, 1, cudaUserObjectNoDestructorSync));
  SHOW(cudaUserObjectCreate(&object, &weight, destroy, 0, cudaUserObjectNoDestructorSync));
  SHOW(cudaUserObjectCreate(&object, &weight, destroy, 1, 0));
  SHOW(cudaUserObjectCreate(&object, &weight, destroy, 2, cudaUserObjectNoDestructorSync));
  SHOW(cudaUserObjectRetain(object, 0));
  SHOW(cudaUserObjectRetain(object, 1));
  SHOW(cudaUserObjectRelease(object, 3));
  say("destroyed once: %d", soon(1));
}

CASE(dot_file) {
  cudaGraph_t graph = make_graph();
  add_kernel(graph);
  const char* path = "graphs_nodes_structure.dot";
  SHOW(cudaGraphDebugDotPrint(graph, path, 0));
  FILE* file = std::fopen(path, "r");
  char word[8] = {};
  say("digraph: %d", file != nullptr && std::fread(word, 1, 7, file) == 7 && std::strcmp(word, "digraph") == 0);
  if (file != nullptr) std::fclose(file);
  std::remove(path);
  SHOW(cudaGraphDebugDotPrint(graph, "/nowhere/at/all.dot", 0));
  SHOW(cudaGraphDebugDotPrint(graph, nullptr, 0));
}
