// What can be asked of graphs and nodes; answered from what the client knows.
#include <algorithm>
#include <cstring>

#include "client/client.h"
#include "client/context.h"
#include "client/device.h"
#include "client/graph_nodes.h"
#include "client/graph_params.h"
#include "client/process.h"
#include "client/status.h"
#include "session/session.h"

namespace avec::client {
namespace {

/// CUDA's way of answering lists: without room the number, with room at most as many; the rest is null.
template <class T>
void give(const std::vector<T>& values, T* out, std::size_t room) {
  if (out == nullptr) return;
  for (std::size_t i = 0; i < room; ++i) out[i] = i < values.size() ? values[i] : T{};
}

bool annotated(const CUgraphEdgeData& data) { return data.from_port != 0 || data.to_port != 0 || data.type != 0; }

CUresult node_list(const std::vector<CUgraphNode>& found, CUgraphNode* nodes, std::size_t* count) {
  if (nodes != nullptr) give(found, nodes, *count);
  *count = nodes == nullptr ? found.size() : std::min(*count, found.size());
  return CUDA_SUCCESS;
}

/// Neighbours of a node with the data of their edges.
CUresult neighbours(CUgraphNode handle, CUgraphNode* nodes, CUgraphEdgeData* data, std::size_t* count, bool lossy,
                    bool before) {
  std::scoped_lock lock(graphs_mutex);
  GraphNode* node;
  if (const CUresult result = find_node(handle, node); result != CUDA_SUCCESS) return result;
  if (count == nullptr || (data != nullptr && nodes == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult result = describe(*node->graph); result != CUDA_SUCCESS) return result;
  std::vector<CUgraphNode> found;
  std::vector<CUgraphEdgeData> edges;
  for (const Edge& edge : node->graph->edges) {
    if ((before ? edge.to : edge.from) != node) continue;
    found.push_back(handle_of(before ? edge.from : edge.to));
    edges.push_back(edge.data);
  }
  if (nodes != nullptr && data == nullptr && lossy && std::ranges::any_of(edges, annotated))
    return CUDA_ERROR_LOSSY_QUERY;
  if (nodes != nullptr) give(edges, data, *count);
  return node_list(found, nodes, count);
}

/// The node's parameters, if it is of this type.
template <class Params>
CUresult params_of(CUgraphNode handle, CUgraphNodeType type, const void* out, Params*& params, GraphNode*& node) {
  if (const CUresult result = find_node(handle, node); result != CUDA_SUCCESS) return result;
  if (out == nullptr || node->type != type) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult result = learn_params(*node); result != CUDA_SUCCESS) return result;
  params = std::get_if<Params>(&node->params);
  return params != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

}  // namespace

CUresult learn_params(GraphNode& node) {
  if (node.params_known) return CUDA_SUCCESS;
  const auto reply = client_of(*node.graph).session().call(wire::GraphNodeGetParams(node.name));
  if (!reply) return to_cuda(reply.error());
  const auto* bytes = (*reply)->bytes();
  const ConstBytes said = bytes == nullptr
                              ? ConstBytes{}
                              : ConstBytes{reinterpret_cast<const std::byte*>(bytes->data()), bytes->size()};
  if (const CUresult result = read_node(node, said); result != CUDA_SUCCESS) return result;
  node.params_known = true;
  return CUDA_SUCCESS;
}

CUresult graph_node_type(CUgraphNode handle, CUgraphNodeType* type) {
  std::scoped_lock lock(graphs_mutex);
  GraphNode* node;
  if (const CUresult result = find_node(handle, node); result != CUDA_SUCCESS) return result;
  if (type == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *type = node->type;
  return CUDA_SUCCESS;
}

CUresult graph_nodes(CUgraph handle, CUgraphNode* nodes, std::size_t* count) {
  std::scoped_lock lock(graphs_mutex);
  Graph* graph;
  if (const CUresult result = find_graph(handle, graph); result != CUDA_SUCCESS) return result;
  if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult result = describe(*graph); result != CUDA_SUCCESS) return result;
  std::vector<CUgraphNode> found;
  for (GraphNode* node : graph->nodes) found.push_back(handle_of(node));
  return node_list(found, nodes, count);
}

CUresult graph_root_nodes(CUgraph handle, CUgraphNode* nodes, std::size_t* count) {
  std::scoped_lock lock(graphs_mutex);
  Graph* graph;
  if (const CUresult result = find_graph(handle, graph); result != CUDA_SUCCESS) return result;
  if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult result = describe(*graph); result != CUDA_SUCCESS) return result;
  std::unordered_set<const GraphNode*> behind;
  for (const Edge& edge : graph->edges) behind.insert(edge.to);
  std::vector<CUgraphNode> found;
  for (GraphNode* node : graph->nodes)
    if (!behind.contains(node)) found.push_back(handle_of(node));
  return node_list(found, nodes, count);
}

CUresult graph_edges(CUgraph handle, CUgraphNode* from, CUgraphNode* to, CUgraphEdgeData* data, std::size_t* count,
                     bool lossy) {
  std::scoped_lock lock(graphs_mutex);
  Graph* graph;
  if (const CUresult result = find_graph(handle, graph); result != CUDA_SUCCESS) return result;
  if (count == nullptr || (from == nullptr) != (to == nullptr) || (data != nullptr && from == nullptr))
    return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult result = describe(*graph); result != CUDA_SUCCESS) return result;
  std::vector<CUgraphNode> first, second;
  std::vector<CUgraphEdgeData> edges;
  for (const Edge& edge : graph->edges) {
    first.push_back(handle_of(edge.from));
    second.push_back(handle_of(edge.to));
    edges.push_back(edge.data);
  }
  if (from != nullptr && data == nullptr && lossy && std::ranges::any_of(edges, annotated))
    return CUDA_ERROR_LOSSY_QUERY;
  if (from != nullptr) {
    give(edges, data, *count);
    give(second, to, *count);
  }
  return node_list(first, from, count);
}

CUresult graph_node_dependencies(CUgraphNode node, CUgraphNode* nodes, CUgraphEdgeData* data, std::size_t* count,
                                 bool lossy) {
  return neighbours(node, nodes, data, count, lossy, true);
}

CUresult graph_node_dependents(CUgraphNode node, CUgraphNode* nodes, CUgraphEdgeData* data, std::size_t* count,
                               bool lossy) {
  return neighbours(node, nodes, data, count, lossy, false);
}

CUresult graph_kernel_params(CUgraphNode handle, CUDA_KERNEL_NODE_PARAMS* params) {
  std::scoped_lock lock(graphs_mutex);
  GraphNode* node;
  KernelNode* kernel;
  const CUresult result = params_of(handle, CU_GRAPH_NODE_TYPE_KERNEL, params, kernel, node);
  if (result != CUDA_SUCCESS) return result;
  const wire::GraphKernelParams& shape = kernel->shape;
  *params = {};
  params->func = kernel->function;
  params->kern = kernel->kernel;
  params->gridDimX = shape.grid_x();
  params->gridDimY = shape.grid_y();
  params->gridDimZ = shape.grid_z();
  params->blockDimX = shape.block_x();
  params->blockDimY = shape.block_y();
  params->blockDimZ = shape.block_z();
  params->sharedMemBytes = shape.shared_bytes();
  params->kernelParams = kernel->pointers.empty() ? nullptr : kernel->pointers.data();
  return CUDA_SUCCESS;
}

CUresult graph_copy_params(CUgraphNode handle, CUDA_MEMCPY3D* params) {
  std::scoped_lock lock(graphs_mutex);
  GraphNode* node;
  CopyNode* copy;
  const CUresult result = params_of(handle, CU_GRAPH_NODE_TYPE_MEMCPY, params, copy, node);
  if (result == CUDA_SUCCESS) *params = copy->params;
  return result;
}

CUresult graph_fill_params(CUgraphNode handle, CUDA_MEMSET_NODE_PARAMS* params) {
  std::scoped_lock lock(graphs_mutex);
  GraphNode* node;
  FillNode* fill;
  const CUresult result = params_of(handle, CU_GRAPH_NODE_TYPE_MEMSET, params, fill, node);
  if (result == CUDA_SUCCESS) *params = fill->params;
  return result;
}

CUresult graph_host_params(CUgraphNode handle, CUDA_HOST_NODE_PARAMS* params) {
  std::scoped_lock lock(graphs_mutex);
  GraphNode* node;
  HostNode* host;
  const CUresult result = params_of(handle, CU_GRAPH_NODE_TYPE_HOST, params, host, node);
  if (result != CUDA_SUCCESS) return result;
  *params = {};
  if (host->function != nullptr) *params = {host->function->function, host->function->data};
  return CUDA_SUCCESS;
}

CUresult graph_event(CUgraphNode handle, CUgraphNodeType type, CUevent* event) {
  std::scoped_lock lock(graphs_mutex);
  GraphNode* node;
  EventNode* found;
  const CUresult result = params_of(handle, type, event, found, node);
  if (result == CUDA_SUCCESS) *event = found->event;
  return result;
}

CUresult graph_allocation_params(CUgraphNode handle, CUDA_MEM_ALLOC_NODE_PARAMS* params) {
  std::scoped_lock lock(graphs_mutex);
  GraphNode* node;
  AllocationNode* found;
  const CUresult result = params_of(handle, CU_GRAPH_NODE_TYPE_MEM_ALLOC, params, found, node);
  if (result != CUDA_SUCCESS) return result;
  *params = found->params;
  params->accessDescs = found->access.empty() ? nullptr : found->access.data();
  return CUDA_SUCCESS;
}

CUresult graph_free_params(CUgraphNode handle, CUdeviceptr* address) {
  std::scoped_lock lock(graphs_mutex);
  GraphNode* node;
  FreeNode* found;
  const CUresult result = params_of(handle, CU_GRAPH_NODE_TYPE_MEM_FREE, address, found, node);
  if (result == CUDA_SUCCESS) *address = found->address;
  return result;
}

CUresult graph_batch_params(CUgraphNode handle, CUDA_BATCH_MEM_OP_NODE_PARAMS* params) {
  std::scoped_lock lock(graphs_mutex);
  GraphNode* node;
  BatchNode* found;
  const CUresult result = params_of(handle, CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, params, found, node);
  if (result != CUDA_SUCCESS) return result;
  *params = found->params;
  params->paramArray = found->operations.data();
  return CUDA_SUCCESS;
}

CUresult graph_child(CUgraphNode handle, CUgraph* graph) {
  std::scoped_lock lock(graphs_mutex);
  GraphNode* node;
  if (const CUresult result = find_node(handle, node); result != CUDA_SUCCESS) return result;
  if (graph == nullptr || node->type != CU_GRAPH_NODE_TYPE_GRAPH) return CUDA_ERROR_INVALID_VALUE;
  if (node->graphs.empty()) {
    Client& client = client_of(*node->graph);
    Graph* inner = make_graph(*node->graph->context, client.mint());
    if (inner == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
    inner->owner = node;
    inner->known = false;
    inner->conditional = node->graph->conditional;
    inner->belongings = node->graph->belongings;  // its own are among them
    node->graphs.push_back(inner);
    const auto posted = client.session().post(wire::GraphOfNode(node->name, inner->name, 0, 0));
    if (!posted) return to_cuda(posted.error());
  }
  *graph = handle_of(node->graphs.front());
  return CUDA_SUCCESS;
}

// ---- attributes of kernel nodes -------------------------------------------------------------

CUresult graph_kernel_attribute(CUgraphNode handle, CUkernelNodeAttrID which, CUkernelNodeAttrValue* value) {
  std::scoped_lock lock(graphs_mutex);
  GraphNode* node;
  if (const CUresult result = find_node(handle, node); result != CUDA_SUCCESS) return result;
  if (value == nullptr || node->type != CU_GRAPH_NODE_TYPE_KERNEL) return CUDA_ERROR_INVALID_VALUE;
  // Defaults of attributes are the driver's.
  const auto* kernel = std::get_if<KernelNode>(&node->params);
  if (kernel == nullptr || kernel->attributes.empty()) node->params_known = false;
  const CUfunction function = kernel != nullptr ? kernel->function : nullptr;
  const CUkernel named = kernel != nullptr ? kernel->kernel : nullptr;
  if (const CUresult result = learn_params(*node); result != CUDA_SUCCESS) return result;
  auto& learnt = std::get<KernelNode>(node->params);
  if (function != nullptr || named != nullptr) {
    learnt.function = function;
    learnt.kernel = named;
  }
  for (const wire::GraphAttribute& attribute : learnt.attributes) {
    if (attribute.id() != static_cast<std::uint32_t>(which)) continue;
    std::memcpy(value, attribute.value()->data(), sizeof *value);
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult graph_set_kernel_attribute(CUgraphNode handle, CUkernelNodeAttrID which, const CUkernelNodeAttrValue* value) {
  std::scoped_lock lock(graphs_mutex);
  GraphNode* node;
  if (const CUresult result = find_node(handle, node); result != CUDA_SUCCESS) return result;
  if (value == nullptr || node->type != CU_GRAPH_NODE_TYPE_KERNEL) return CUDA_ERROR_INVALID_VALUE;
  if (auto* kernel = std::get_if<KernelNode>(&node->params)) kernel->attributes.clear();  // asked for anew
  std::array<std::uint8_t, 64> bytes;
  std::memcpy(bytes.data(), value, bytes.size());
  return to_cuda(client_of(*node->graph).session().post(
      wire::GraphSetAttribute(node->name, wire::GraphAttribute(static_cast<std::uint32_t>(which), 0, bytes))));
}

CUresult graph_copy_kernel_attributes(CUgraphNode to_handle, CUgraphNode from_handle) {
  std::scoped_lock lock(graphs_mutex);
  GraphNode *to, *from;
  if (const CUresult result = find_node(to_handle, to); result != CUDA_SUCCESS) return result;
  if (const CUresult result = find_node(from_handle, from); result != CUDA_SUCCESS) return result;
  if (to->type != CU_GRAPH_NODE_TYPE_KERNEL || from->type != CU_GRAPH_NODE_TYPE_KERNEL) return CUDA_ERROR_INVALID_VALUE;
  if (auto* kernel = std::get_if<KernelNode>(&to->params)) kernel->attributes.clear();
  return to_cuda(client_of(*to->graph).session().post(wire::GraphCopyAttributes(to->name, from->name)));
}

// ---- memory of graphs -----------------------------------------------------------------------

namespace {

CUresult device_of(CUdevice ordinal, Device*& device) {
  CUresult error = CUDA_SUCCESS;
  Client* client = process_client(error);
  if (client == nullptr) return error;
  device = client->device(ordinal);
  return device != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

}  // namespace

CUresult device_graph_trim(CUdevice ordinal) {
  Device* device = nullptr;
  return device_of(ordinal, device);  // what is free is free already
}

CUresult device_graph_attribute(CUdevice ordinal, CUgraphMem_attribute which, void* value) {
  Device* device = nullptr;
  if (const CUresult result = device_of(ordinal, device); result != CUDA_SUCCESS) return result;
  if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  GraphMemoryUse use = graph_memory_use(*device);
  switch (which) {
    case CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT:
      *static_cast<cuuint64_t*>(value) = use.used;
      return CUDA_SUCCESS;
    case CU_GRAPH_MEM_ATTR_USED_MEM_HIGH:
      *static_cast<cuuint64_t*>(value) = use.used_high;
      return CUDA_SUCCESS;
    case CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT:
      *static_cast<cuuint64_t*>(value) = use.reserved;
      return CUDA_SUCCESS;
    case CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH:
      *static_cast<cuuint64_t*>(value) = use.reserved_high;
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult device_set_graph_attribute(CUdevice ordinal, CUgraphMem_attribute which, const void* value) {
  Device* device = nullptr;
  if (const CUresult result = device_of(ordinal, device); result != CUDA_SUCCESS) return result;
  const bool high = which == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH || which == CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH;
  if (value == nullptr || !high || *static_cast<const cuuint64_t*>(value) != 0) return CUDA_ERROR_INVALID_VALUE;
  reset_graph_memory_high(*device, which == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH);
  return CUDA_SUCCESS;
}

}  // namespace avec::client
