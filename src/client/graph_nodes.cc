// Adding nodes to graphs, and changing them and their edges.
#include "client/graph_nodes.h"

#include <algorithm>
#include <cstring>

#include "client/capture.h"
#include "client/client.h"
#include "client/context.h"
#include "client/graph_params.h"
#include "client/status.h"
#include "client/stream.h"
#include "client/user_object.h"
#include "session/session.h"

namespace avec::client {

CUresult to_wire(Graph& graph, const CUgraphNode* nodes, const CUgraphEdgeData* data, std::size_t count,
                 std::vector<wire::GraphEdge>& edges) {
  if (count != 0 && nodes == nullptr) return CUDA_ERROR_INVALID_VALUE;
  constexpr std::array<std::uint8_t, 5> kReserved{};
  for (std::size_t i = 0; i < count; ++i) {
    const GraphNode* node = Slab<GraphNode>::find(nodes[i]);
    if (node == nullptr || node->graph != &graph) return CUDA_ERROR_INVALID_VALUE;
    const CUgraphEdgeData edge = data != nullptr ? data[i] : CUgraphEdgeData{};
    edges.emplace_back(node->name, edge.from_port, edge.to_port, edge.type, kReserved);
  }
  return CUDA_SUCCESS;
}

CUresult capture_run(Stream& stream, std::shared_ptr<NodeFunction> function) {
  std::scoped_lock lock(graphs_mutex);
  Graph* graph = captured_graph(stream);
  if (graph == nullptr) return CUDA_ERROR_ILLEGAL_STATE;
  const std::uint64_t name = function->name;
  graph->belongings.functions.push_back(std::move(function));
  return to_cuda(stream.context->client->session().post(wire::StreamCaptureHost(stream.name, name)));
}

CUresult capture_host_function(Stream& stream, CUhostFn function, void* data) {
  return capture_run(stream, make_host_function(*stream.context->client, function, data));
}

CUresult capture_host_function(Stream& stream, std::function<void()> run) {
  return capture_run(stream, make_host_function(*stream.context->client, std::move(run)));
}

namespace {

/// The graph and those that contain it.
template <class Do>
void each_around(Graph& graph, Do&& act) {
  for (Graph* around = &graph; around != nullptr; around = around->owner != nullptr ? around->owner->graph : nullptr)
    act(*around);
}

}  // namespace

CUresult host_copy_for(Graph& graph, Context& context, const HostRows& rows, bool to_device, HostCopyUse& use) {
  use = {nullptr, rows, to_device ? 1u : 0u, to_device ? 0u : 1u, graph.conditional};
  for (const HostCopyUse& known : graph.belongings.copies) {
    if (known.rows == rows && known.place->context == &context) use.place = known.place;
  }
  if (use.place == nullptr) {
    const CUresult result = make_host_copy(context, rows.bytes(), use.place);
    if (result != CUDA_SUCCESS) return result;
  }
  each_around(graph, [&](Graph& around) { around.belongings.add_copy(use); });
  return CUDA_SUCCESS;
}

namespace {

bool allocates(const Graph& graph) {
  return !graph.belongings.allocations.empty() || !graph.belongings.frees.empty();
}

void forget_host_copy(Graph& graph, const NodeParams& params) {
  const auto* copy = std::get_if<CopyNode>(&params);
  if (copy == nullptr || copy->host.place == nullptr) return;
  each_around(graph, [&](Graph& around) {
    around.belongings.remove_copy(*copy->host.place, copy->host.to_device != 0);
  });
}

/// What the graph holds because of the node.
void adopt(Graph& graph, PreparedNode& prepared) {
  each_around(graph, [&](Graph& around) {
    if (prepared.function != nullptr) around.belongings.functions.push_back(prepared.function);
    if (prepared.recorded.event != nullptr) around.belongings.events.push_back(prepared.recorded);
    if (prepared.child != nullptr) around.belongings.add(prepared.child->belongings);
    around.has_conditional |= prepared.type == CU_GRAPH_NODE_TYPE_CONDITIONAL;
  });
  if (auto* made = std::get_if<AllocationNode>(&prepared.params)) graph.belongings.allocations.push_back(made->allocation);
  if (auto* freed = std::get_if<FreeNode>(&prepared.params)) graph.belongings.frees.push_back(freed->allocation);
  if (prepared.child == nullptr) return;
  for (const UserReference& reference : prepared.child->user_objects) {
    add_references(*reference.object, reference.count);
    graph.user_objects.push_back(reference);
  }
}

CUresult check_dependencies(Graph& graph, const CUgraphNode* nodes, const CUgraphEdgeData* data, std::size_t count,
                            std::vector<wire::GraphEdge>& edges) {
  if (const CUresult result = to_wire(graph, nodes, data, count, edges); result != CUDA_SUCCESS) return result;
  std::vector<std::uint64_t> names;
  for (const wire::GraphEdge& edge : edges) {
    if (edge.to_port() != 0 || edge.type() > CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC ||
        edge.from_port() > CU_GRAPH_KERNEL_NODE_PORT_LAUNCH_ORDER) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    names.push_back(edge.node());
  }
  std::ranges::sort(names);
  return std::ranges::adjacent_find(names) == names.end() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult post_edges(Graph& graph, std::span<const wire::GraphLink> links, bool remove) {
  for (; !links.empty(); links = links.subspan(std::min(links.size(), kMaxEdges))) {
    const auto some = links.first(std::min(links.size(), kMaxEdges));
    const auto posted = client_of(graph).session().post(
        wire::GraphChangeEdges(graph.name, static_cast<std::uint32_t>(some.size()), remove ? 1 : 0), std::as_bytes(some));
    if (!posted) return to_cuda(posted.error());
  }
  return CUDA_SUCCESS;
}

CUresult post_node(Graph& graph, std::uint64_t name, const PreparedNode& node, std::span<const wire::GraphEdge> edges) {
  const auto first = edges.first(std::min(edges.size(), kMaxEdges));
  std::vector<std::byte> payload(std::as_bytes(first).begin(), std::as_bytes(first).end());
  payload.insert(payload.end(), node.payload.begin(), node.payload.end());
  const auto posted = client_of(graph).session().post(
      wire::GraphAddNode(graph.name, name, static_cast<std::uint32_t>(node.wire_type),
                         static_cast<std::uint32_t>(first.size())),
      payload);
  if (!posted) return to_cuda(posted.error());
  std::vector<wire::GraphLink> links;
  constexpr std::array<std::uint8_t, 5> kReserved{};
  for (const wire::GraphEdge& edge : edges.subspan(first.size()))
    links.emplace_back(edge.node(), name, edge.from_port(), edge.to_port(), edge.type(), kReserved);
  return post_edges(graph, links, false);
}

}  // namespace

CUresult graph_add_node(CUgraphNode* out, CUgraph handle, const CUgraphNode* dependencies, const CUgraphEdgeData* data,
                        std::size_t count, CUgraphNodeParams* params) {
  std::scoped_lock lock(graphs_mutex);
  Graph* graph;
  if (const CUresult result = find_graph(handle, graph); result != CUDA_SUCCESS) return result;
  if (out == nullptr || params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::vector<wire::GraphEdge> edges;
  CUresult result = check_dependencies(*graph, dependencies, data, count, edges);
  if (result != CUDA_SUCCESS) return result;
  PreparedNode prepared;
  if (result = prepare_node(*graph, *params, prepared); result != CUDA_SUCCESS) return result;
  const std::uint64_t name = client_of(*graph).mint();
  GraphNode* node = make_node(*graph, prepared.type, name);
  if (node == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  if (result = post_node(*graph, name, prepared, edges); result != CUDA_SUCCESS) return result;
  adopt(*graph, prepared);
  for (Graph* body : prepared.bodies) body->owner = node;
  node->graphs = prepared.bodies;
  node->params = std::move(prepared.params);
  if (graph->known) {
    graph->nodes.push_back(node);
    for (std::size_t i = 0; i < count; ++i)
      graph->edges.push_back({Slab<GraphNode>::find(dependencies[i]), node, data != nullptr ? data[i] : CUgraphEdgeData{}});
  }
  *out = handle_of(node);
  return CUDA_SUCCESS;
}

CUresult graph_node_set_params(CUgraphNode handle, CUgraphNodeParams* params) {
  std::scoped_lock lock(graphs_mutex);
  GraphNode* node;
  if (const CUresult result = find_node(handle, node); result != CUDA_SUCCESS) return result;
  if (params == nullptr || params->type != node->type) return CUDA_ERROR_INVALID_VALUE;
  const bool fixed = node->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC || node->type == CU_GRAPH_NODE_TYPE_MEM_FREE ||
                     node->type == CU_GRAPH_NODE_TYPE_CONDITIONAL || node->type == CU_GRAPH_NODE_TYPE_GRAPH;
  if (fixed) return CUDA_ERROR_NOT_SUPPORTED;
  if (const CUresult result = learn_params(*node); result != CUDA_SUCCESS) return result;
  PreparedNode prepared;
  if (const CUresult result = prepare_node(*node->graph, *params, prepared); result != CUDA_SUCCESS) return result;
  const auto* before = std::get_if<CopyNode>(&node->params);
  const bool was_host = before != nullptr && before->function != nullptr;
  if (was_host != (prepared.wire_type == CU_GRAPH_NODE_TYPE_HOST && node->type == CU_GRAPH_NODE_TYPE_MEMCPY)) {
    forget_host_copy(*node->graph, prepared.params);
    return CUDA_ERROR_INVALID_VALUE;
  }
  forget_host_copy(*node->graph, node->params);
  adopt(*node->graph, prepared);
  if (auto* kernel = std::get_if<KernelNode>(&prepared.params)) {
    if (const auto* old = std::get_if<KernelNode>(&node->params)) kernel->attributes = old->attributes;
  }
  node->params = std::move(prepared.params);
  return to_cuda(client_of(*node->graph).session().post(
      wire::GraphNodeSetParams(0, node->name, static_cast<std::uint32_t>(prepared.wire_type), 0), prepared.payload));
}

namespace {

bool inside(const Graph& graph, const Graph& outer) {
  for (const Graph* around = &graph; around != nullptr; around = around->owner != nullptr ? around->owner->graph : nullptr)
    if (around == &outer) return true;
  return false;
}

/// A set of one row stays one; rows stay rows.
CUresult check_fill_change(GraphNode& node, const CUDA_MEMSET_NODE_PARAMS_v2& given) {
  if (const CUresult result = learn_params(node); result != CUDA_SUCCESS) return result;
  const auto* fill = std::get_if<FillNode>(&node.params);
  if (fill == nullptr) return CUDA_SUCCESS;
  return (fill->params.height == 1) == (given.height == 1) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/// The same nodes, of the same types, in the same order, with the same edges.
CUresult check_topology(Graph& before, Graph& after) {
  if (const CUresult result = describe(before); result != CUDA_SUCCESS) return result;
  if (const CUresult result = describe(after); result != CUDA_SUCCESS) return result;
  const bool same = before.edges.size() == after.edges.size() &&
                    std::ranges::equal(before.nodes, after.nodes, {}, &GraphNode::type, &GraphNode::type);
  return same ? CUDA_SUCCESS : CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
}

}  // namespace

CUresult graph_exec_set_params(CUgraphExec exec_handle, CUgraphNode handle, CUgraphNodeParams* params) {
  std::scoped_lock lock(graphs_mutex);
  GraphExec* exec;
  if (const CUresult result = find_exec(exec_handle, exec); result != CUDA_SUCCESS) return result;
  GraphNode* node;
  if (const CUresult result = find_node(handle, node); result != CUDA_SUCCESS) return result;
  if (params == nullptr || params->type != node->type) return CUDA_ERROR_INVALID_VALUE;
  Graph* made_from = Slab<Graph>::find(exec->graph);
  if (made_from != nullptr && made_from->name == exec->graph_name && !inside(*node->graph, *made_from))
    return CUDA_ERROR_INVALID_VALUE;
  if (node->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC || node->type == CU_GRAPH_NODE_TYPE_MEM_FREE ||
      node->type == CU_GRAPH_NODE_TYPE_CONDITIONAL) {
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  if (node->type == CU_GRAPH_NODE_TYPE_MEMCPY) {
    if (const CUresult result = learn_params(*node); result != CUDA_SUCCESS) return result;
  }
  PreparedNode prepared;
  if (const CUresult result = prepare_node(*node->graph, *params, prepared); result != CUDA_SUCCESS) return result;
  if (node->type == CU_GRAPH_NODE_TYPE_MEMSET) {
    if (const CUresult result = check_fill_change(*node, params->memset); result != CUDA_SUCCESS) return result;
  }
  if (prepared.child != nullptr) {
    CUgraph before;
    if (const CUresult result = graph_child(handle, &before); result != CUDA_SUCCESS) return result;
    Graph* inner = Slab<Graph>::find(before);
    if (inner == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult result = check_topology(*inner, *prepared.child); result != CUDA_SUCCESS) return result;
  }
  std::scoped_lock own(exec->mutex);
  if (const auto* copy = std::get_if<CopyNode>(&prepared.params)) {
    // The graph's own node stays as it is.
    forget_host_copy(*node->graph, prepared.params);
    const auto* before = std::get_if<CopyNode>(&node->params);
    HostCopyUse old = before != nullptr ? before->host : HostCopyUse{};
    if (const auto changed = exec->changed_copies.find(node->name); changed != exec->changed_copies.end())
      old = changed->second;
    const bool same_kind = (old.place == nullptr) == (copy->host.place == nullptr) &&
                           (old.to_device != 0) == (copy->host.to_device != 0) &&
                           (before == nullptr || (before->function == nullptr) == (copy->function == nullptr));
    if (!same_kind) return CUDA_ERROR_INVALID_VALUE;
    if (old.place != nullptr) exec->belongings.remove_copy(*old.place, old.to_device != 0);
    if (copy->host.place != nullptr) {
      exec->belongings.add_copy(copy->host);
      exec->changed_copies[node->name] = copy->host;
    }
  }
  if (prepared.function != nullptr) exec->belongings.functions.push_back(prepared.function);
  if (prepared.recorded.event != nullptr) exec->belongings.events.push_back(prepared.recorded);
  if (prepared.child != nullptr) exec->belongings.add(prepared.child->belongings);
  exec->plain.store(exec->belongings.empty());
  return to_cuda(exec->context->client->session().post(
      wire::GraphNodeSetParams(exec->name, node->name, static_cast<std::uint32_t>(prepared.wire_type), 0),
      prepared.payload));
}

CUresult graph_destroy_node(CUgraphNode handle) {
  std::scoped_lock lock(graphs_mutex);
  GraphNode* node;
  if (const CUresult result = find_node(handle, node); result != CUDA_SUCCESS) return result;
  Graph& graph = *node->graph;
  // Nothing is taken out of a graph with allocation or free nodes.
  if (allocates(graph)) return CUDA_ERROR_NOT_SUPPORTED;
  if (graph.in_capture) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult result = learn_params(*node); result != CUDA_SUCCESS) return result;
  forget_host_copy(graph, node->params);
  std::erase(graph.nodes, node);
  std::erase_if(graph.edges, [&](const Edge& edge) { return edge.from == node || edge.to == node; });
  graph.by_name.erase(node->name);
  const std::uint64_t name = node->name;
  forget_node(*node);
  return to_cuda(client_of(graph).session().post(wire::GraphDestroyNode(name)));
}

CUresult graph_change_edges(CUgraph handle, const CUgraphNode* from, const CUgraphNode* to,
                            const CUgraphEdgeData* data, std::size_t count, bool remove) {
  std::scoped_lock lock(graphs_mutex);
  Graph* graph;
  if (const CUresult result = find_graph(handle, graph); result != CUDA_SUCCESS) return result;
  if (count == 0) return CUDA_SUCCESS;
  if (from == nullptr || to == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (remove && allocates(*graph)) return CUDA_ERROR_NOT_SUPPORTED;
  if (const CUresult result = describe(*graph); result != CUDA_SUCCESS) return result;
  std::vector<wire::GraphLink> links;
  std::vector<Edge> edges = graph->edges;
  constexpr std::array<std::uint8_t, 5> kReserved{};
  for (std::size_t i = 0; i < count; ++i) {
    GraphNode* first = Slab<GraphNode>::find(from[i]);
    GraphNode* second = Slab<GraphNode>::find(to[i]);
    if (first == nullptr || second == nullptr || first->graph != graph || second->graph != graph || first == second)
      return CUDA_ERROR_INVALID_VALUE;
    const CUgraphEdgeData edge = data != nullptr ? data[i] : CUgraphEdgeData{};
    // Programmatic ports are between kernels alone.
    const bool ports = edge.type != 0 || edge.from_port != 0;
    const bool kernels = first->type == CU_GRAPH_NODE_TYPE_KERNEL && second->type == CU_GRAPH_NODE_TYPE_KERNEL;
    if (!remove && (edge.to_port != 0 || edge.type > CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC ||
                    edge.from_port > CU_GRAPH_KERNEL_NODE_PORT_LAUNCH_ORDER || (ports && !kernels))) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    const auto known = std::ranges::find_if(edges, [&](const Edge& each) {
      return each.from == first && each.to == second &&
             (data == nullptr || std::memcmp(&each.data, &edge, sizeof edge) == 0);
    });
    if ((known != edges.end()) != remove) return CUDA_ERROR_INVALID_VALUE;
    if (remove) {
      edges.erase(known);
    } else {
      edges.push_back({first, second, edge});
    }
    links.emplace_back(first->name, second->name, edge.from_port, edge.to_port, edge.type, kReserved);
  }
  graph->edges = std::move(edges);
  return post_edges(*graph, links, remove);
}

CUresult graph_conditional_create(CUgraphConditionalHandle* out, CUgraph handle, CUcontext context_handle,
                                  unsigned default_value, unsigned flags) {
  std::scoped_lock lock(graphs_mutex);
  Graph* graph;
  if (const CUresult result = find_graph(handle, graph); result != CUDA_SUCCESS) return result;
  if (out == nullptr || (flags & ~unsigned{CU_GRAPH_COND_ASSIGN_DEFAULT}) != 0) return CUDA_ERROR_INVALID_VALUE;
  Context* context = find_context(context_handle);
  if (context_handle == nullptr) {
    if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  }
  if (context == nullptr || !context->active()) return CUDA_ERROR_INVALID_CONTEXT;
  const auto reply = client_of(*graph).session().call(
      wire::GraphConditionalCreate(graph->name, context->name.load(), default_value, flags));
  if (!reply) return to_cuda(reply.error());
  *out = reply->handle();
  graph->conditional_handles.push_back(*out);
  return CUDA_SUCCESS;
}

}  // namespace avec::client
