// Graphs as a whole: making, copying, describing, forgetting.
#include "client/graph.h"

#include <algorithm>
#include <fstream>

#include "client/client.h"
#include "client/context.h"
#include "client/graph_nodes.h"
#include "client/status.h"
#include "client/stream.h"
#include "client/user_object.h"
#include "session/session.h"

namespace avec::client {

std::recursive_mutex& graphs_mutex = *new std::recursive_mutex;  // outlives static objects

namespace {

/// Names for as many nodes as one answer can have; names are plenty.
constexpr std::uint64_t kFreshNames = limits::kMaxHandles;

std::atomic<std::uint64_t> next_id{1};

template <class T>
CUresult usable(T* found, T*& out) noexcept {
  if (found == nullptr) return CUDA_ERROR_INVALID_VALUE;
  out = found;
  return CUDA_SUCCESS;
}

template <class T>
void add_all(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

}  // namespace

void GraphBelongings::add(const GraphBelongings& other) {
  for (const HostCopyUse& use : other.copies) add_copy(use);
  add_all(functions, other.functions);
  add_all(allocations, other.allocations);
  add_all(frees, other.frees);
  add_all(events, other.events);
}

void GraphBelongings::add_copy(const HostCopyUse& use) {
  for (HostCopyUse& known : copies) {
    if (known.place != use.place || known.rows != use.rows) continue;
    known.to_device += use.to_device;
    known.from_device += use.from_device;
    known.may_not_run |= use.may_not_run;
    return;
  }
  copies.push_back(use);
}

void GraphBelongings::remove_copy(const HostCopy& place, bool to_device) {
  const auto known = std::ranges::find_if(copies, [&](const HostCopyUse& use) { return use.place.get() == &place; });
  if (known == copies.end()) return;
  unsigned& nodes = to_device ? known->to_device : known->from_device;
  if (nodes != 0) --nodes;
  if (known->to_device == 0 && known->from_device == 0) copies.erase(known);
}

Client& client_of(const Graph& graph) { return *graph.context->client; }

CUresult find_graph(CUgraph handle, Graph*& graph) noexcept {
  const CUresult result = usable(Slab<Graph>::find(handle), graph);
  return result != CUDA_SUCCESS ? result : static_cast<CUresult>(graph->context->error.load());
}
CUresult find_node(CUgraphNode handle, GraphNode*& node) noexcept {
  const CUresult result = usable(Slab<GraphNode>::find(handle), node);
  return result != CUDA_SUCCESS ? result : static_cast<CUresult>(node->graph->context->error.load());
}
CUresult find_exec(CUgraphExec handle, GraphExec*& exec) noexcept {
  const CUresult result = usable(Slab<GraphExec>::find(handle), exec);
  return result != CUDA_SUCCESS ? result : static_cast<CUresult>(exec->context->error.load());
}

Graph* make_graph(Context& context, std::uint64_t name) {
  Graph* graph = Slab<Graph>::make();
  if (graph == nullptr) return nullptr;
  graph->context = &context;
  graph->name = name;
  graph->id = next_id.fetch_add(1);
  std::scoped_lock lock(context.mutex);
  context.graphs.insert(graph);
  return graph;
}

GraphNode* make_node(Graph& graph, CUgraphNodeType type, std::uint64_t name) {
  GraphNode* node = Slab<GraphNode>::make();
  if (node == nullptr) return nullptr;
  node->graph = &graph;
  node->type = type;
  node->name = name;
  graph.by_name[name] = node;
  return node;
}

void forget_node(GraphNode& node) {
  for (Graph* inner : node.graphs) forget_graph(*inner);
  Slab<GraphNode>::destroy(&node);
}

void forget_graph(Graph& graph) {
  for (const auto& [name, node] : graph.by_name) forget_node(*node);
  {
    std::scoped_lock lock(graph.context->mutex);
    graph.context->graphs.erase(&graph);
  }
  const std::vector<UserReference> references = std::move(graph.user_objects);
  Slab<Graph>::destroy(&graph);
  for (const UserReference& reference : references) release_references(*reference.object, reference.count);
}

void forget_graphs(Context& context) {
  std::scoped_lock lock(graphs_mutex);
  std::unordered_set<Graph*> graphs;
  std::unordered_set<GraphExec*> execs;
  {
    std::scoped_lock own(context.mutex);
    graphs = context.graphs;
    execs.swap(context.graph_execs);
  }
  for (GraphExec* exec : execs) release_exec(*exec);
  for (Graph* graph : graphs) {
    // Those inside others go with them.
    if (Slab<Graph>::find(graph) != nullptr && graph->owner == nullptr) forget_graph(*graph);
  }
}

CUresult graph_create(CUgraph* handle, unsigned flags) {
  if (handle == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  Graph* graph = make_graph(*context, context->client->mint());
  if (graph == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  *handle = handle_of(graph);
  return to_cuda(context->client->session().post(wire::GraphCreate(graph->name, context->name.load())));
}

CUresult graph_destroy(CUgraph handle) {
  std::scoped_lock lock(graphs_mutex);
  Graph* graph = Slab<Graph>::find(handle);
  // A node's graph goes with the node, a captured one belongs to the capture.
  if (graph == nullptr || graph->owner != nullptr || graph->in_capture) return CUDA_ERROR_INVALID_VALUE;
  Context& context = *graph->context;
  const std::uint64_t name = graph->name;
  forget_graph(*graph);
  (void)context.client->session().post(wire::GraphDestroy(name));
  return static_cast<CUresult>(context.error.load());
}

GraphNode* node_named(Graph& graph, std::uint64_t name, CUgraphNodeType type) {
  const auto known = graph.by_name.find(name);
  if (known != graph.by_name.end()) return known->second;
  GraphNode* node = make_node(graph, type, name);
  if (node != nullptr) node->params_known = false;
  return node;
}

CUresult describe(Graph& graph) {
  if (graph.known && !graph.in_capture) return CUDA_SUCCESS;
  Client& client = client_of(graph);
  const auto reply =
      client.session().call(wire::GraphDescribe(graph.name, client.mint(kFreshNames)));
  if (!reply) return to_cuda(reply.error());
  const wire::GraphDescription& said = **reply;
  if (said.nodes() == nullptr || said.types() == nullptr || said.nodes()->size() != said.types()->size())
    return CUDA_ERROR_UNKNOWN;
  std::vector<GraphNode*> nodes;
  for (unsigned i = 0; i < said.nodes()->size(); ++i) {
    const auto type = static_cast<CUgraphNodeType>(said.types()->Get(i));
    GraphNode* node = node_named(graph, said.nodes()->Get(i), type);
    if (node == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
    nodes.push_back(node);
  }
  std::vector<Edge> edges;
  if (said.edges() != nullptr) {
    for (const wire::GraphLink* link : *said.edges()) {
      const auto from = graph.by_name.find(link->from()), to = graph.by_name.find(link->to());
      if (from == graph.by_name.end() || to == graph.by_name.end()) return CUDA_ERROR_UNKNOWN;
      edges.push_back({from->second, to->second, {link->from_port(), link->to_port(), link->type(), {}}});
    }
  }
  graph.nodes = std::move(nodes);
  graph.edges = std::move(edges);
  graph.known = true;
  return CUDA_SUCCESS;
}

CUresult graph_clone(CUgraph* handle, CUgraph original_handle) {
  std::scoped_lock lock(graphs_mutex);
  Graph* original;
  if (const CUresult result = find_graph(original_handle, original); result != CUDA_SUCCESS) return result;
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (original->has_conditional || !original->belongings.allocations.empty() || !original->belongings.frees.empty())
    return CUDA_ERROR_NOT_SUPPORTED;
  Client& client = client_of(*original);
  Graph* clone = make_graph(*original->context, client.mint());
  if (clone == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  clone->known = false;
  clone->belongings = original->belongings;
  clone->user_objects = original->user_objects;
  for (const UserReference& reference : clone->user_objects) add_references(*reference.object, reference.count);
  *handle = handle_of(clone);
  return to_cuda(client.session().post(wire::GraphClone(original->name, clone->name)));
}

CUresult graph_node_find_in_clone(CUgraphNode* found, CUgraphNode handle, CUgraph clone_handle) {
  std::scoped_lock lock(graphs_mutex);
  GraphNode* node;
  if (const CUresult result = find_node(handle, node); result != CUDA_SUCCESS) return result;
  Graph* clone;
  if (const CUresult result = find_graph(clone_handle, clone); result != CUDA_SUCCESS) return result;
  if (found == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Client& client = client_of(*clone);
  const auto reply = client.session().call(wire::GraphFindInClone(node->name, clone->name, client.mint()));
  if (!reply) return to_cuda(reply.error());
  GraphNode* same = node_named(*clone, reply->node(), node->type);
  if (same == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  *found = handle_of(same);
  return CUDA_SUCCESS;
}

CUresult graph_dot(CUgraph handle, const char* path, unsigned flags) {
  std::scoped_lock lock(graphs_mutex);
  Graph* graph;
  if (const CUresult result = find_graph(handle, graph); result != CUDA_SUCCESS) return result;
  if (path == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto reply = client_of(*graph).session().call(wire::GraphDot(graph->name, flags, 0));
  if (!reply) return to_cuda(reply.error());
  std::ofstream file(path, std::ios::trunc);
  if (const auto* text = (*reply)->text()) file.write(text->data(), static_cast<std::streamsize>(text->size()));
  file.close();
  return file ? CUDA_SUCCESS : CUDA_ERROR_OPERATING_SYSTEM;
}

}  // namespace avec::client
