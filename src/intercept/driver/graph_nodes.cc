// Nodes of graphs: one function for each kind, all of them cuGraphAddNode and its relatives.
#include "client/graph_nodes.h"

#include <cstring>

#include "entry.h"

using namespace avec::client;

namespace {

/// What `fill` puts into parameters of this type, zero elsewhere.
template <class Fill>
CUgraphNodeParams of(CUgraphNodeType type, Fill&& fill) {
  CUgraphNodeParams params;
  std::memset(&params, 0, sizeof params);
  params.type = type;
  fill(params);
  return params;
}

template <class Params>
CUgraphNodeParams kernel(const Params& given) {
  return of(CU_GRAPH_NODE_TYPE_KERNEL, [&](CUgraphNodeParams& p) { std::memcpy(&p.kernel, &given, sizeof given); });
}
CUgraphNodeParams copy(const CUDA_MEMCPY3D& given, CUcontext context) {
  return of(CU_GRAPH_NODE_TYPE_MEMCPY, [&](CUgraphNodeParams& p) {
    p.memcpy.copyCtx = context;
    p.memcpy.copyParams = given;
  });
}
CUgraphNodeParams fill(const CUDA_MEMSET_NODE_PARAMS& given, CUcontext context) {
  return of(CU_GRAPH_NODE_TYPE_MEMSET, [&](CUgraphNodeParams& p) {
    std::memcpy(&p.memset, &given, sizeof given);
    p.memset.ctx = context;
  });
}
CUgraphNodeParams host(const CUDA_HOST_NODE_PARAMS& given) {
  return of(CU_GRAPH_NODE_TYPE_HOST, [&](CUgraphNodeParams& p) { p.host = {given.fn, given.userData}; });
}
CUgraphNodeParams child(CUgraph graph) {
  return of(CU_GRAPH_NODE_TYPE_GRAPH, [&](CUgraphNodeParams& p) { p.graph.graph = graph; });
}
CUgraphNodeParams event(CUgraphNodeType type, CUevent event) {
  return of(type, [&](CUgraphNodeParams& p) {
    (type == CU_GRAPH_NODE_TYPE_WAIT_EVENT ? p.eventWait.event : p.eventRecord.event) = event;
  });
}
CUgraphNodeParams batch(const CUDA_BATCH_MEM_OP_NODE_PARAMS& given) {
  return of(CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, [&](CUgraphNodeParams& p) {
    p.memOp = {given.ctx, given.count, given.paramArray, given.flags};
  });
}

/// Where the next node goes.
struct Place {
  CUgraphNode* node;
  CUgraph graph;
  const CUgraphNode* dependencies;
  std::size_t count;
};

CUresult add(const Place& place, CUgraphNodeParams params) {
  return graph_add_node(place.node, place.graph, place.dependencies, nullptr, place.count, &params);
}

template <class Given, class Make>
CUresult add(const Place& place, const Given* given, Make make) {
  return given == nullptr ? CUDA_ERROR_INVALID_VALUE : add(place, make(*given));
}

template <class Given, class Make>
CUresult set(CUgraphNode node, const Given* given, Make make) {
  if (given == nullptr) return CUDA_ERROR_INVALID_VALUE;
  CUgraphNodeParams params = make(*given);
  return graph_node_set_params(node, &params);
}

template <class Given, class Make>
CUresult set(CUgraphExec exec, CUgraphNode node, const Given* given, Make make) {
  if (given == nullptr) return CUDA_ERROR_INVALID_VALUE;
  CUgraphNodeParams params = make(*given);
  return graph_exec_set_params(exec, node, &params);
}

/// The context that a copy node has already.
CUcontext context_of(CUgraphNode handle) {
  GraphNode* node;
  if (find_node(handle, node) != CUDA_SUCCESS) return nullptr;
  if (const auto* copy = std::get_if<CopyNode>(&node->params)) return copy->context;
  if (const auto* fill = std::get_if<FillNode>(&node->params)) return fill->context;
  return nullptr;
}

CUresult add_allocation(const Place& place, CUDA_MEM_ALLOC_NODE_PARAMS* given) {
  if (given == nullptr) return CUDA_ERROR_INVALID_VALUE;
  CUgraphNodeParams params =
      of(CU_GRAPH_NODE_TYPE_MEM_ALLOC, [&](CUgraphNodeParams& p) { std::memcpy(&p.alloc, given, sizeof *given); });
  const CUresult result = graph_add_node(place.node, place.graph, place.dependencies, nullptr, place.count, &params);
  if (result == CUDA_SUCCESS) given->dptr = params.alloc.dptr;
  return result;
}

CUresult kernel_params_v1(CUgraphNode node, CUDA_KERNEL_NODE_PARAMS_v1* params) {
  CUDA_KERNEL_NODE_PARAMS_v2 whole;
  if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const CUresult result = graph_kernel_params(node, &whole);
  if (result == CUDA_SUCCESS) std::memcpy(params, &whole, sizeof *params);
  return result;
}

}  // namespace

#define AVEC_PLACE node, graph, dependencies, count
#define AVEC_PLACE_PARAMETERS CUgraphNode *node, CUgraph graph, const CUgraphNode *dependencies, size_t count

AVEC_DRIVER_CALL(cuGraphAddNode, (AVEC_PLACE_PARAMETERS, CUgraphNodeParams* params),
                 graph_add_node(node, graph, dependencies, nullptr, count, params))
AVEC_DRIVER_CALL(cuGraphAddNode_v2,
                 (CUgraphNode * node, CUgraph graph, const CUgraphNode* dependencies, const CUgraphEdgeData* data,
                  size_t count, CUgraphNodeParams* params),
                 graph_add_node(node, graph, dependencies, data, count, params))
AVEC_DRIVER_CALL(cuGraphNodeSetParams, (CUgraphNode node, CUgraphNodeParams* params), graph_node_set_params(node, params))
AVEC_DRIVER_CALL(cuGraphExecNodeSetParams, (CUgraphExec exec, CUgraphNode node, CUgraphNodeParams* params),
                 graph_exec_set_params(exec, node, params))

AVEC_DRIVER_CALL(cuGraphAddKernelNode, (AVEC_PLACE_PARAMETERS, const CUDA_KERNEL_NODE_PARAMS_v1* params),
                 add({AVEC_PLACE}, params, kernel<CUDA_KERNEL_NODE_PARAMS_v1>))
AVEC_DRIVER_CALL(cuGraphAddKernelNode_v2, (AVEC_PLACE_PARAMETERS, const CUDA_KERNEL_NODE_PARAMS_v2* params),
                 add({AVEC_PLACE}, params, kernel<CUDA_KERNEL_NODE_PARAMS_v2>))
AVEC_DRIVER_CALL(cuGraphKernelNodeGetParams, (CUgraphNode node, CUDA_KERNEL_NODE_PARAMS_v1* params),
                 kernel_params_v1(node, params))
AVEC_DRIVER_CALL(cuGraphKernelNodeGetParams_v2, (CUgraphNode node, CUDA_KERNEL_NODE_PARAMS_v2* params),
                 graph_kernel_params(node, params))
AVEC_DRIVER_CALL(cuGraphKernelNodeSetParams, (CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS_v1* params),
                 set(node, params, kernel<CUDA_KERNEL_NODE_PARAMS_v1>))
AVEC_DRIVER_CALL(cuGraphKernelNodeSetParams_v2, (CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS_v2* params),
                 set(node, params, kernel<CUDA_KERNEL_NODE_PARAMS_v2>))
AVEC_DRIVER_CALL(cuGraphExecKernelNodeSetParams,
                 (CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS_v1* params),
                 set(exec, node, params, kernel<CUDA_KERNEL_NODE_PARAMS_v1>))
AVEC_DRIVER_CALL(cuGraphExecKernelNodeSetParams_v2,
                 (CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS_v2* params),
                 set(exec, node, params, kernel<CUDA_KERNEL_NODE_PARAMS_v2>))
AVEC_DRIVER_CALL(cuGraphKernelNodeCopyAttributes, (CUgraphNode to, CUgraphNode from),
                 graph_copy_kernel_attributes(to, from))
AVEC_DRIVER_CALL(cuGraphKernelNodeGetAttribute,
                 (CUgraphNode node, CUkernelNodeAttrID which, CUkernelNodeAttrValue* value),
                 graph_kernel_attribute(node, which, value))
AVEC_DRIVER_CALL(cuGraphKernelNodeSetAttribute,
                 (CUgraphNode node, CUkernelNodeAttrID which, const CUkernelNodeAttrValue* value),
                 graph_set_kernel_attribute(node, which, value))

AVEC_DRIVER_CALL(cuGraphAddMemcpyNode, (AVEC_PLACE_PARAMETERS, const CUDA_MEMCPY3D* params, CUcontext context),
                 add({AVEC_PLACE}, params, [=](const CUDA_MEMCPY3D& given) { return copy(given, context); }))
AVEC_DRIVER_CALL(cuGraphMemcpyNodeGetParams, (CUgraphNode node, CUDA_MEMCPY3D* params), graph_copy_params(node, params))
AVEC_DRIVER_CALL(cuGraphMemcpyNodeSetParams, (CUgraphNode node, const CUDA_MEMCPY3D* params),
                 set(node, params, [=](const CUDA_MEMCPY3D& given) { return copy(given, context_of(node)); }))
AVEC_DRIVER_CALL(cuGraphExecMemcpyNodeSetParams,
                 (CUgraphExec exec, CUgraphNode node, const CUDA_MEMCPY3D* params, CUcontext context),
                 set(exec, node, params, [=](const CUDA_MEMCPY3D& given) { return copy(given, context); }))

AVEC_DRIVER_CALL(cuGraphAddMemsetNode,
                 (AVEC_PLACE_PARAMETERS, const CUDA_MEMSET_NODE_PARAMS* params, CUcontext context),
                 add({AVEC_PLACE}, params, [=](const CUDA_MEMSET_NODE_PARAMS& given) { return fill(given, context); }))
AVEC_DRIVER_CALL(cuGraphMemsetNodeGetParams, (CUgraphNode node, CUDA_MEMSET_NODE_PARAMS* params),
                 graph_fill_params(node, params))
AVEC_DRIVER_CALL(cuGraphMemsetNodeSetParams, (CUgraphNode node, const CUDA_MEMSET_NODE_PARAMS* params),
                 set(node, params, [=](const CUDA_MEMSET_NODE_PARAMS& given) { return fill(given, context_of(node)); }))
AVEC_DRIVER_CALL(cuGraphExecMemsetNodeSetParams,
                 (CUgraphExec exec, CUgraphNode node, const CUDA_MEMSET_NODE_PARAMS* params, CUcontext context),
                 set(exec, node, params, [=](const CUDA_MEMSET_NODE_PARAMS& given) { return fill(given, context); }))

AVEC_DRIVER_CALL(cuGraphAddHostNode, (AVEC_PLACE_PARAMETERS, const CUDA_HOST_NODE_PARAMS* params),
                 add({AVEC_PLACE}, params, host))
AVEC_DRIVER_CALL(cuGraphHostNodeGetParams, (CUgraphNode node, CUDA_HOST_NODE_PARAMS* params),
                 graph_host_params(node, params))
AVEC_DRIVER_CALL(cuGraphHostNodeSetParams, (CUgraphNode node, const CUDA_HOST_NODE_PARAMS* params),
                 set(node, params, host))
AVEC_DRIVER_CALL(cuGraphExecHostNodeSetParams, (CUgraphExec exec, CUgraphNode node, const CUDA_HOST_NODE_PARAMS* params),
                 set(exec, node, params, host))

AVEC_DRIVER_CALL(cuGraphAddChildGraphNode, (AVEC_PLACE_PARAMETERS, CUgraph inner), add({AVEC_PLACE}, child(inner)))
AVEC_DRIVER_CALL(cuGraphChildGraphNodeGetGraph, (CUgraphNode node, CUgraph* graph), graph_child(node, graph))
AVEC_DRIVER_CALL(cuGraphExecChildGraphNodeSetParams, (CUgraphExec exec, CUgraphNode node, CUgraph inner),
                 set(exec, node, &inner, child))
AVEC_DRIVER_CALL(cuGraphAddEmptyNode, (AVEC_PLACE_PARAMETERS),
                 add({AVEC_PLACE}, of(CU_GRAPH_NODE_TYPE_EMPTY, [](CUgraphNodeParams&) {})))

AVEC_DRIVER_CALL(cuGraphAddEventRecordNode, (AVEC_PLACE_PARAMETERS, CUevent recorded),
                 add({AVEC_PLACE}, event(CU_GRAPH_NODE_TYPE_EVENT_RECORD, recorded)))
AVEC_DRIVER_CALL(cuGraphAddEventWaitNode, (AVEC_PLACE_PARAMETERS, CUevent awaited),
                 add({AVEC_PLACE}, event(CU_GRAPH_NODE_TYPE_WAIT_EVENT, awaited)))
AVEC_DRIVER_CALL(cuGraphEventRecordNodeGetEvent, (CUgraphNode node, CUevent* event),
                 graph_event(node, CU_GRAPH_NODE_TYPE_EVENT_RECORD, event))
AVEC_DRIVER_CALL(cuGraphEventWaitNodeGetEvent, (CUgraphNode node, CUevent* event),
                 graph_event(node, CU_GRAPH_NODE_TYPE_WAIT_EVENT, event))
AVEC_DRIVER_CALL(cuGraphEventRecordNodeSetEvent, (CUgraphNode node, CUevent recorded),
                 set(node, &recorded, [](CUevent e) { return event(CU_GRAPH_NODE_TYPE_EVENT_RECORD, e); }))
AVEC_DRIVER_CALL(cuGraphEventWaitNodeSetEvent, (CUgraphNode node, CUevent awaited),
                 set(node, &awaited, [](CUevent e) { return event(CU_GRAPH_NODE_TYPE_WAIT_EVENT, e); }))
AVEC_DRIVER_CALL(cuGraphExecEventRecordNodeSetEvent, (CUgraphExec exec, CUgraphNode node, CUevent recorded),
                 set(exec, node, &recorded, [](CUevent e) { return event(CU_GRAPH_NODE_TYPE_EVENT_RECORD, e); }))
AVEC_DRIVER_CALL(cuGraphExecEventWaitNodeSetEvent, (CUgraphExec exec, CUgraphNode node, CUevent awaited),
                 set(exec, node, &awaited, [](CUevent e) { return event(CU_GRAPH_NODE_TYPE_WAIT_EVENT, e); }))

AVEC_DRIVER_CALL(cuGraphAddBatchMemOpNode, (AVEC_PLACE_PARAMETERS, const CUDA_BATCH_MEM_OP_NODE_PARAMS* params),
                 add({AVEC_PLACE}, params, batch))
AVEC_DRIVER_CALL(cuGraphBatchMemOpNodeGetParams, (CUgraphNode node, CUDA_BATCH_MEM_OP_NODE_PARAMS* params),
                 graph_batch_params(node, params))
AVEC_DRIVER_CALL(cuGraphBatchMemOpNodeSetParams, (CUgraphNode node, const CUDA_BATCH_MEM_OP_NODE_PARAMS* params),
                 set(node, params, batch))
AVEC_DRIVER_CALL(cuGraphExecBatchMemOpNodeSetParams,
                 (CUgraphExec exec, CUgraphNode node, const CUDA_BATCH_MEM_OP_NODE_PARAMS* params),
                 set(exec, node, params, batch))

AVEC_DRIVER_CALL(cuGraphAddMemAllocNode, (AVEC_PLACE_PARAMETERS, CUDA_MEM_ALLOC_NODE_PARAMS* params),
                 add_allocation({AVEC_PLACE}, params))
AVEC_DRIVER_CALL(cuGraphMemAllocNodeGetParams, (CUgraphNode node, CUDA_MEM_ALLOC_NODE_PARAMS* params),
                 graph_allocation_params(node, params))
AVEC_DRIVER_CALL(cuGraphAddMemFreeNode, (AVEC_PLACE_PARAMETERS, CUdeviceptr address),
                 add({AVEC_PLACE}, of(CU_GRAPH_NODE_TYPE_MEM_FREE, [&](CUgraphNodeParams& p) { p.free.dptr = address; })))
AVEC_DRIVER_CALL(cuGraphMemFreeNodeGetParams, (CUgraphNode node, CUdeviceptr* address), graph_free_params(node, address))
AVEC_DRIVER_CALL(cuDeviceGraphMemTrim, (CUdevice device), device_graph_trim(device))
AVEC_DRIVER_CALL(cuDeviceGetGraphMemAttribute, (CUdevice device, CUgraphMem_attribute which, void* value),
                 device_graph_attribute(device, which, value))
AVEC_DRIVER_CALL(cuDeviceSetGraphMemAttribute, (CUdevice device, CUgraphMem_attribute which, void* value),
                 device_set_graph_attribute(device, which, value))
AVEC_DRIVER_CALL(cuGraphConditionalHandleCreate,
                 (CUgraphConditionalHandle * handle, CUgraph graph, CUcontext context, unsigned default_value,
                  unsigned flags),
                 graph_conditional_create(handle, graph, context, default_value, flags))

// ---- structure ------------------------------------------------------------------------------

AVEC_DRIVER_CALL(cuGraphDestroyNode, (CUgraphNode node), graph_destroy_node(node))
AVEC_DRIVER_CALL(cuGraphNodeGetType, (CUgraphNode node, CUgraphNodeType* type), graph_node_type(node, type))
AVEC_DRIVER_CALL(cuGraphGetNodes, (CUgraph graph, CUgraphNode* nodes, size_t* count), graph_nodes(graph, nodes, count))
AVEC_DRIVER_CALL(cuGraphGetRootNodes, (CUgraph graph, CUgraphNode* nodes, size_t* count),
                 graph_root_nodes(graph, nodes, count))
AVEC_DRIVER_CALL(cuGraphGetEdges, (CUgraph graph, CUgraphNode* from, CUgraphNode* to, size_t* count),
                 graph_edges(graph, from, to, nullptr, count, true))
AVEC_DRIVER_CALL(cuGraphGetEdges_v2,
                 (CUgraph graph, CUgraphNode* from, CUgraphNode* to, CUgraphEdgeData* data, size_t* count),
                 graph_edges(graph, from, to, data, count, true))
AVEC_DRIVER_CALL(cuGraphNodeGetDependencies, (CUgraphNode node, CUgraphNode* nodes, size_t* count),
                 graph_node_dependencies(node, nodes, nullptr, count, true))
AVEC_DRIVER_CALL(cuGraphNodeGetDependencies_v2,
                 (CUgraphNode node, CUgraphNode* nodes, CUgraphEdgeData* data, size_t* count),
                 graph_node_dependencies(node, nodes, data, count, true))
AVEC_DRIVER_CALL(cuGraphNodeGetDependentNodes, (CUgraphNode node, CUgraphNode* nodes, size_t* count),
                 graph_node_dependents(node, nodes, nullptr, count, true))
AVEC_DRIVER_CALL(cuGraphNodeGetDependentNodes_v2,
                 (CUgraphNode node, CUgraphNode* nodes, CUgraphEdgeData* data, size_t* count),
                 graph_node_dependents(node, nodes, data, count, true))
AVEC_DRIVER_CALL(cuGraphAddDependencies, (CUgraph graph, const CUgraphNode* from, const CUgraphNode* to, size_t count),
                 graph_change_edges(graph, from, to, nullptr, count, false))
AVEC_DRIVER_CALL(cuGraphAddDependencies_v2,
                 (CUgraph graph, const CUgraphNode* from, const CUgraphNode* to, const CUgraphEdgeData* data,
                  size_t count),
                 graph_change_edges(graph, from, to, data, count, false))
AVEC_DRIVER_CALL(cuGraphRemoveDependencies,
                 (CUgraph graph, const CUgraphNode* from, const CUgraphNode* to, size_t count),
                 graph_change_edges(graph, from, to, nullptr, count, true))
AVEC_DRIVER_CALL(cuGraphRemoveDependencies_v2,
                 (CUgraph graph, const CUgraphNode* from, const CUgraphNode* to, const CUgraphEdgeData* data,
                  size_t count),
                 graph_change_edges(graph, from, to, data, count, true))
