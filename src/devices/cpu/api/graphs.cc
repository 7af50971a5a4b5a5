// Graphs as wholes: creation, structure, copies, conditional handles, user objects, memory.
#include <climits>

#include "devices/cpu/graph/dot.h"
#include "devices/cpu/graph/graph.h"

using namespace avec::cpu;

namespace {

/// Fills an array of the caller's: what does not fit is left out, what is left over becomes null.
template <class Handle, class Count>
CUresult list(const std::vector<Handle>& all, Handle* out, Count* count) {
  if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (out == nullptr) {
    *count = all.size();
    return CUDA_SUCCESS;
  }
  for (std::size_t i = 0; i < *count; ++i) out[i] = i < all.size() ? all[i] : nullptr;
  *count = std::min(*count, all.size());
  return CUDA_SUCCESS;
}

/// One side of a node's edges, with their data.
CUresult list_links(const std::vector<Link>& links, CUgraphNode* nodes, CUgraphEdgeData* data,
                    size_t* count) {
  if (count == nullptr || (nodes == nullptr && data != nullptr)) return CUDA_ERROR_INVALID_VALUE;
  std::vector<CUgraphNode> all;
  for (const auto& link : links) {
    if (nodes != nullptr && data == nullptr && !default_edge(link.data)) return CUDA_ERROR_LOSSY_QUERY;
    all.push_back(handle_of(*link.node));
  }
  const std::size_t capacity = *count;
  if (const auto error = list(all, nodes, count)) return error;
  if (data == nullptr) return CUDA_SUCCESS;
  for (std::size_t i = 0; i < capacity; ++i) data[i] = i < links.size() ? links[i].data : CUgraphEdgeData{};
  return CUDA_SUCCESS;
}

CUresult with_node(CUgraphNode handle, NodeRef& node) {
  if (const auto error = initialised()) return error;
  node = node_of(handle);
  return node ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult with_graph(CUgraph handle, GraphRef& graph) {
  if (const auto error = initialised()) return error;
  graph = graph_of(handle);
  return graph ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

struct Edge {
  NodeRef from, to;
  CUgraphEdgeData data{};
};

/// Reads edges by their ends; both must be nodes of the graph.
CUresult read_edges(const Graph& graph, const CUgraphNode* from, const CUgraphNode* to,
                    const CUgraphEdgeData* data, size_t count, std::vector<Edge>& edges) {
  if (count > 0 && (from == nullptr || to == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; ++i) {
    Edge edge{node_of(from[i]), node_of(to[i]), data != nullptr ? data[i] : CUgraphEdgeData{}};
    if (!edge.from || !edge.to || edge.from->graph != &graph || edge.to->graph != &graph) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    edges.push_back(std::move(edge));
  }
  return CUDA_SUCCESS;
}

const Link* find_link(const Node& from, const Node& to) {
  for (const auto& link : from.after) {
    if (link.node == &to) return &link;
  }
  return nullptr;
}

bool same_edge(const CUgraphEdgeData& a, const CUgraphEdgeData& b) {
  return a.from_port == b.from_port && a.to_port == b.to_port && a.type == b.type;
}

bool bad_count(unsigned count) { return count == 0 || count > INT_MAX; }

}  // namespace

extern "C" {

CUresult cuGraphCreate(CUgraph* handle, unsigned flags) {
  if (const auto error = initialised()) return error;
  if (handle == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  const GraphLock lock(graph_mutex());
  *handle = handle_of(*new_graph());
  return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph handle) {
  const GraphLock lock(graph_mutex());
  GraphRef graph;
  if (const auto error = with_graph(handle, graph)) return error;
  if (graph->parent != nullptr || graph->moved || graph->conditional_body || graph->capturing) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  forget_graph(graph);
  return CUDA_SUCCESS;
}

CUresult cuGraphClone(CUgraph* clone, CUgraph handle) {
  const GraphLock lock(graph_mutex());
  GraphRef graph;
  if (const auto error = with_graph(handle, graph)) return error;
  if (clone == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (graph->has_memory || has_conditional(*graph)) return CUDA_ERROR_NOT_SUPPORTED;
  *clone = handle_of(*copy_graph(*graph, true));
  return CUDA_SUCCESS;
}

CUresult cuGraphNodeFindInClone(CUgraphNode* found, CUgraphNode original, CUgraph clone) {
  const GraphLock lock(graph_mutex());
  GraphRef graph;
  if (const auto error = with_graph(clone, graph)) return error;
  if (found == nullptr || original == nullptr) return CUDA_ERROR_INVALID_VALUE;
  for (const auto& node : graph->nodes) {
    if (node->origin != reinterpret_cast<std::uintptr_t>(original)) continue;
    *found = handle_of(*node);
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphNodeGetType(CUgraphNode handle, CUgraphNodeType* type) {
  const GraphLock lock(graph_mutex());
  NodeRef node;
  if (const auto error = with_node(handle, node)) return error;
  if (type == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *type = node->type();
  return CUDA_SUCCESS;
}

CUresult cuGraphGetNodes(CUgraph handle, CUgraphNode* nodes, size_t* count) {
  const GraphLock lock(graph_mutex());
  GraphRef graph;
  if (const auto error = with_graph(handle, graph)) return error;
  std::vector<CUgraphNode> all;
  for (const auto& node : graph->nodes) all.push_back(handle_of(*node));
  return list(all, nodes, count);
}

CUresult cuGraphGetRootNodes(CUgraph handle, CUgraphNode* nodes, size_t* count) {
  const GraphLock lock(graph_mutex());
  GraphRef graph;
  if (const auto error = with_graph(handle, graph)) return error;
  std::vector<CUgraphNode> all;
  for (const auto& node : graph->nodes) {
    if (node->before.empty()) all.push_back(handle_of(*node));
  }
  return list(all, nodes, count);
}

CUresult cuGraphGetEdges_v2(CUgraph handle, CUgraphNode* from, CUgraphNode* to, CUgraphEdgeData* data,
                            size_t* count) {
  const GraphLock lock(graph_mutex());
  GraphRef graph;
  if (const auto error = with_graph(handle, graph)) return error;
  if (count == nullptr || (from == nullptr) != (to == nullptr) || (data != nullptr && from == nullptr)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  std::vector<CUgraphNode> starts, ends;
  std::vector<CUgraphEdgeData> kinds;
  for (const auto& node : graph->nodes) {
    for (const auto& link : node->after) {
      if (from != nullptr && data == nullptr && !default_edge(link.data)) return CUDA_ERROR_LOSSY_QUERY;
      starts.push_back(handle_of(*node));
      ends.push_back(handle_of(*link.node));
      kinds.push_back(link.data);
    }
  }
  const size_t capacity = *count;
  size_t first = capacity;
  if (const auto error = list(starts, from, &first)) return error;
  if (const auto error = list(ends, to, count)) return error;
  if (data == nullptr) return CUDA_SUCCESS;
  for (size_t i = 0; i < capacity; ++i) data[i] = i < kinds.size() ? kinds[i] : CUgraphEdgeData{};
  return CUDA_SUCCESS;
}

CUresult cuGraphNodeGetDependencies_v2(CUgraphNode handle, CUgraphNode* nodes, CUgraphEdgeData* data,
                                       size_t* count) {
  const GraphLock lock(graph_mutex());
  NodeRef node;
  if (const auto error = with_node(handle, node)) return error;
  return list_links(node->before, nodes, data, count);
}

CUresult cuGraphNodeGetDependentNodes_v2(CUgraphNode handle, CUgraphNode* nodes, CUgraphEdgeData* data,
                                         size_t* count) {
  const GraphLock lock(graph_mutex());
  NodeRef node;
  if (const auto error = with_node(handle, node)) return error;
  return list_links(node->after, nodes, data, count);
}

CUresult cuGraphAddDependencies_v2(CUgraph handle, const CUgraphNode* from, const CUgraphNode* to,
                                   const CUgraphEdgeData* data, size_t count) {
  const GraphLock lock(graph_mutex());
  GraphRef graph;
  if (const auto error = with_graph(handle, graph)) return error;
  std::vector<Edge> edges;
  if (const auto error = read_edges(*graph, from, to, data, count, edges)) return error;
  for (const auto& edge : edges) {
    if (edge.from == edge.to || find_link(*edge.from, *edge.to) != nullptr) return CUDA_ERROR_INVALID_VALUE;
    std::vector<Link> checked;
    const CUgraphNode start = handle_of(*edge.from);
    if (const auto error = read_links(*graph, edge.to.get(), &start, &edge.data, 1, checked)) return error;
  }
  for (const auto& edge : edges) {
    if (find_link(*edge.from, *edge.to) == nullptr) link(*edge.from, *edge.to, edge.data);
  }
  return CUDA_SUCCESS;
}

CUresult cuGraphRemoveDependencies_v2(CUgraph handle, const CUgraphNode* from, const CUgraphNode* to,
                                      const CUgraphEdgeData* data, size_t count) {
  const GraphLock lock(graph_mutex());
  GraphRef graph;
  if (const auto error = with_graph(handle, graph)) return error;
  if (count == 0) return CUDA_SUCCESS;
  if (graph->has_memory) return CUDA_ERROR_NOT_SUPPORTED;
  std::vector<Edge> edges;
  if (const auto error = read_edges(*graph, from, to, data, count, edges)) return error;
  for (const auto& edge : edges) {
    const Link* found = find_link(*edge.from, *edge.to);
    // Without data any edge will do, as an H100 has it: the documentation asks for an edge without data.
    if (found == nullptr || (data != nullptr && !same_edge(found->data, edge.data))) return CUDA_ERROR_INVALID_VALUE;
  }
  for (const auto& edge : edges) unlink(*edge.from, *edge.to);
  return CUDA_SUCCESS;
}

CUresult cuGraphDestroyNode(CUgraphNode handle) {
  const GraphLock lock(graph_mutex());
  NodeRef node;
  if (const auto error = with_node(handle, node)) return error;
  if (node->graph->has_memory) return CUDA_ERROR_NOT_SUPPORTED;
  if (node->graph->capturing) return CUDA_ERROR_INVALID_VALUE;
  remove_node(*node);
  return CUDA_SUCCESS;
}

CUresult cuGraphDebugDotPrint(CUgraph handle, const char* path, unsigned flags) {
  const GraphLock lock(graph_mutex());
  GraphRef graph;
  if (const auto error = with_graph(handle, graph)) return error;
  if (path == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return write_dot(*graph, path, flags);
}

CUresult cuGraphConditionalHandleCreate(CUgraphConditionalHandle* handle, CUgraph graph_handle,
                                        CUcontext context, unsigned value, unsigned flags) {
  const GraphLock lock(graph_mutex());
  GraphRef graph;
  if (const auto error = with_graph(graph_handle, graph)) return error;
  if (handle == nullptr || (flags & ~static_cast<unsigned>(CU_GRAPH_COND_ASSIGN_DEFAULT)) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  auto condition = std::make_shared<Condition>();
  if (const auto error = node_context(context, condition->context)) return error;
  condition->default_value = value;
  condition->flags = flags;
  condition->graph = graph;
  *handle = graph_tables().conditions.add(condition);
  graph->conditions.push_back(std::move(condition));
  return CUDA_SUCCESS;
}

// ---- user objects -----------------------------------------------------------------------

CUresult cuUserObjectCreate(CUuserObject* handle, void* pointer, CUhostFn destroy, unsigned references,
                            unsigned flags) {
  if (const auto error = initialised()) return error;
  if (handle == nullptr || destroy == nullptr || bad_count(references) ||
      flags != CU_USER_OBJECT_NO_DESTRUCTOR_SYNC) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  auto object = std::make_shared<UserObject>();
  object->pointer = pointer;
  object->destroy = destroy;
  object->references = references;
  *handle = as_handle<CUuserObject>(graph_tables().objects.add(object));
  return CUDA_SUCCESS;
}

CUresult cuUserObjectRetain(CUuserObject handle, unsigned count) {
  if (const auto error = initialised()) return error;
  const GraphLock lock(graph_mutex());
  const auto object = graph_tables().objects.find(handle);
  if (!object || bad_count(count)) return CUDA_ERROR_INVALID_VALUE;
  object->references += count;
  return CUDA_SUCCESS;
}

CUresult cuUserObjectRelease(CUuserObject handle, unsigned count) {
  if (const auto error = initialised()) return error;
  const GraphLock lock(graph_mutex());
  const auto object = graph_tables().objects.find(handle);
  if (!object || bad_count(count) || count > object->references) return CUDA_ERROR_INVALID_VALUE;
  release_object(object, count);
  return CUDA_SUCCESS;
}

CUresult cuGraphRetainUserObject(CUgraph graph_handle, CUuserObject handle, unsigned count, unsigned flags) {
  const GraphLock lock(graph_mutex());
  GraphRef graph;
  if (const auto error = with_graph(graph_handle, graph)) return error;
  const auto object = graph_tables().objects.find(handle);
  if (!object || bad_count(count) || (flags & ~static_cast<unsigned>(CU_GRAPH_USER_OBJECT_MOVE)) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (flags == 0) object->references += count;
  graph->objects[object] += count;
  return CUDA_SUCCESS;
}

CUresult cuGraphReleaseUserObject(CUgraph graph_handle, CUuserObject handle, unsigned count) {
  const GraphLock lock(graph_mutex());
  GraphRef graph;
  if (const auto error = with_graph(graph_handle, graph)) return error;
  const auto object = graph_tables().objects.find(handle);
  if (!object || bad_count(count)) return CUDA_ERROR_INVALID_VALUE;
  const auto held = graph->objects.find(object);
  if (held == graph->objects.end() || held->second < count) return CUDA_ERROR_INVALID_VALUE;
  held->second -= count;
  if (held->second == 0) graph->objects.erase(held);
  release_object(object, count);
  return CUDA_SUCCESS;
}

// ---- memory of graphs -------------------------------------------------------------------

CUresult cuDeviceGraphMemTrim(CUdevice ordinal) {
  Device* device;
  return device_of(ordinal, device);  // nothing is kept that could be trimmed
}

CUresult cuDeviceGetGraphMemAttribute(CUdevice ordinal, CUgraphMem_attribute attribute, void* value) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  if (value == nullptr || attribute < CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT ||
      attribute > CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const GraphLock lock(graph_mutex());
  const auto use = graph_memory_use(*device);
  const bool high =
      attribute == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH || attribute == CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH;
  *static_cast<cuuint64_t*>(value) = high ? use.high : use.now;
  return CUDA_SUCCESS;
}

CUresult cuDeviceSetGraphMemAttribute(CUdevice ordinal, CUgraphMem_attribute attribute, void* value) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (attribute != CU_GRAPH_MEM_ATTR_USED_MEM_HIGH && attribute != CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (*static_cast<cuuint64_t*>(value) != 0) return CUDA_ERROR_INVALID_VALUE;
  const GraphLock lock(graph_mutex());
  reset_graph_memory_high(*device);
  return CUDA_SUCCESS;
}

// ---- older forms, without edge data -----------------------------------------------------

#undef cuGraphGetEdges
#undef cuGraphNodeGetDependencies
#undef cuGraphNodeGetDependentNodes
#undef cuGraphAddDependencies
#undef cuGraphRemoveDependencies

CUresult cuGraphGetEdges(CUgraph graph, CUgraphNode* from, CUgraphNode* to, size_t* count) {
  return cuGraphGetEdges_v2(graph, from, to, nullptr, count);
}
CUresult cuGraphNodeGetDependencies(CUgraphNode node, CUgraphNode* nodes, size_t* count) {
  return cuGraphNodeGetDependencies_v2(node, nodes, nullptr, count);
}
CUresult cuGraphNodeGetDependentNodes(CUgraphNode node, CUgraphNode* nodes, size_t* count) {
  return cuGraphNodeGetDependentNodes_v2(node, nodes, nullptr, count);
}
CUresult cuGraphAddDependencies(CUgraph graph, const CUgraphNode* from, const CUgraphNode* to, size_t count) {
  return cuGraphAddDependencies_v2(graph, from, to, nullptr, count);
}
CUresult cuGraphRemoveDependencies(CUgraph graph, const CUgraphNode* from, const CUgraphNode* to,
                                   size_t count) {
  return cuGraphRemoveDependencies_v2(graph, from, to, nullptr, count);
}

}  // extern "C"
