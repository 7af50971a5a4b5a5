// Nodes of graphs: adding them, their parameters, their edges.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <functional>
#include <vector>

#include "client/graph.h"

namespace avec::client {

/// Edges of one frame; a node with more dependencies gets the others behind it.
inline constexpr std::size_t kMaxEdges = 1024;

/// Nodes of the graph as dependencies on the wire. CUDA_ERROR_INVALID_VALUE for any other node.
CUresult to_wire(Graph& graph, const CUgraphNode* nodes, const CUgraphEdgeData* data, std::size_t count,
                 std::vector<wire::GraphEdge>& edges);

/// Adds a node of the type that `params` says; with what it makes (an address, graphs) written back.
CUresult graph_add_node(CUgraphNode* node, CUgraph graph, const CUgraphNode* dependencies,
                        const CUgraphEdgeData* data, std::size_t count, CUgraphNodeParams* params);
CUresult graph_node_set_params(CUgraphNode node, CUgraphNodeParams* params);
CUresult graph_exec_set_params(CUgraphExec exec, CUgraphNode node, CUgraphNodeParams* params);
CUresult graph_destroy_node(CUgraphNode node);
CUresult graph_change_edges(CUgraph graph, const CUgraphNode* from, const CUgraphNode* to,
                            const CUgraphEdgeData* data, std::size_t count, bool remove);
CUresult graph_conditional_create(CUgraphConditionalHandle* handle, CUgraph graph, CUcontext context,
                                  unsigned default_value, unsigned flags);

// ---- queries (graph_queries.cc)
CUresult graph_node_type(CUgraphNode node, CUgraphNodeType* type);
CUresult graph_nodes(CUgraph graph, CUgraphNode* nodes, std::size_t* count);
CUresult graph_root_nodes(CUgraph graph, CUgraphNode* nodes, std::size_t* count);
/// `lossy`: the caller cannot be told of edge data.
CUresult graph_edges(CUgraph graph, CUgraphNode* from, CUgraphNode* to, CUgraphEdgeData* data, std::size_t* count,
                     bool lossy);
CUresult graph_node_dependencies(CUgraphNode node, CUgraphNode* nodes, CUgraphEdgeData* data, std::size_t* count,
                                 bool lossy);
CUresult graph_node_dependents(CUgraphNode node, CUgraphNode* nodes, CUgraphEdgeData* data, std::size_t* count,
                               bool lossy);
CUresult graph_kernel_params(CUgraphNode node, CUDA_KERNEL_NODE_PARAMS* params);
CUresult graph_copy_params(CUgraphNode node, CUDA_MEMCPY3D* params);
CUresult graph_fill_params(CUgraphNode node, CUDA_MEMSET_NODE_PARAMS* params);
CUresult graph_host_params(CUgraphNode node, CUDA_HOST_NODE_PARAMS* params);
CUresult graph_event(CUgraphNode node, CUgraphNodeType type, CUevent* event);
CUresult graph_allocation_params(CUgraphNode node, CUDA_MEM_ALLOC_NODE_PARAMS* params);
CUresult graph_free_params(CUgraphNode node, CUdeviceptr* address);
CUresult graph_batch_params(CUgraphNode node, CUDA_BATCH_MEM_OP_NODE_PARAMS* params);
CUresult graph_child(CUgraphNode node, CUgraph* graph);
CUresult graph_kernel_attribute(CUgraphNode node, CUkernelNodeAttrID which, CUkernelNodeAttrValue* value);
CUresult graph_set_kernel_attribute(CUgraphNode node, CUkernelNodeAttrID which, const CUkernelNodeAttrValue* value);
CUresult graph_copy_kernel_attributes(CUgraphNode to, CUgraphNode from);

// ---- memory of graphs (graph_allocations.cc)
CUresult device_graph_trim(CUdevice device);
CUresult device_graph_attribute(CUdevice device, CUgraphMem_attribute which, void* value);
CUresult device_set_graph_attribute(CUdevice device, CUgraphMem_attribute which, const void* value);

// ---- what capture makes of calls that are no nodes by themselves
CUresult capture_host_function(Stream& stream, CUhostFn function, void* data);
CUresult capture_host_function(Stream& stream, std::function<void()> run);
/// The device's side of a copy node of the graph from or to these rows.
CUresult host_copy_for(Graph& graph, Context& context, const HostRows& rows, bool to_device,
                       HostCopyUse& use);

}  // namespace avec::client
