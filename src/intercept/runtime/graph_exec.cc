// Nodes of graphs that need no translation, nodes of any kind, and executable graphs.
#include "api.h"
#include "graph_params.h"

using namespace avec::runtime;

namespace {

cudaError_t add_node(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* nodes,
                     const cudaGraphEdgeData* data, size_t count, cudaGraphNodeParams* given) {
  if (given == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&]() -> cudaError_t {
    CUgraphNodeParams params;
    if (const cudaError_t error = to_driver(*given, params); error != cudaSuccess) return error;
    const CUresult added =
        cuGraphAddNode(node, graph, nodes, reinterpret_cast<const CUgraphEdgeData*>(data), count, &params);
    if (added == CUDA_SUCCESS) take_results(params, *given);
    return to_runtime(added);
  });
}

/// New parameters of any kind for a node, set by `call`.
template <class Call>
cudaError_t set_params(const cudaGraphNodeParams* given, Call&& call) {
  if (given == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&]() -> cudaError_t {
    CUgraphNodeParams params;
    if (const cudaError_t error = to_driver(*given, params); error != cudaSuccess) return error;
    return to_runtime(call(&params));
  });
}

static_assert(sizeof(cudaGraphInstantiateParams) == sizeof(CUDA_GRAPH_INSTANTIATE_PARAMS));
static_assert(sizeof(cudaGraphExecUpdateResultInfo) == sizeof(CUgraphExecUpdateResultInfo));

}  // namespace

cudaError_t cudaGraphAddNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* nodes,
                             const cudaGraphEdgeData* data, size_t count, cudaGraphNodeParams* given) {
  AVEC_COUNTED;
  return add_node(node, graph, nodes, data, count, given);
}

cudaError_t cudaGraphNodeSetParams(cudaGraphNode_t node, cudaGraphNodeParams* given) {
  AVEC_COUNTED;
  return set_params(given, [&](CUgraphNodeParams* params) { return cuGraphNodeSetParams(node, params); });
}

cudaError_t cudaGraphExecNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t node,
                                       cudaGraphNodeParams* given) {
  AVEC_COUNTED;
  return set_params(given,
                    [&](CUgraphNodeParams* params) { return cuGraphExecNodeSetParams(exec, node, params); });
}

// ---- host functions, children, empty nodes, events ------------------------------------

cudaError_t cudaGraphAddHostNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* nodes,
                                 size_t count, const cudaHostNodeParams* given) {
  AVEC_COUNTED;
  return in_context([&] {
    return cuGraphAddHostNode(node, graph, nodes, count,
                              reinterpret_cast<const CUDA_HOST_NODE_PARAMS*>(given));
  });
}

cudaError_t cudaGraphHostNodeGetParams(cudaGraphNode_t node, cudaHostNodeParams* shown) {
  AVEC_COUNTED;
  return in_context(
      [&] { return cuGraphHostNodeGetParams(node, reinterpret_cast<CUDA_HOST_NODE_PARAMS*>(shown)); });
}

cudaError_t cudaGraphHostNodeSetParams(cudaGraphNode_t node, const cudaHostNodeParams* given) {
  AVEC_COUNTED;
  return in_context(
      [&] { return cuGraphHostNodeSetParams(node, reinterpret_cast<const CUDA_HOST_NODE_PARAMS*>(given)); });
}

cudaError_t cudaGraphExecHostNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t node,
                                           const cudaHostNodeParams* given) {
  AVEC_COUNTED;
  return in_context([&] {
    return cuGraphExecHostNodeSetParams(exec, node, reinterpret_cast<const CUDA_HOST_NODE_PARAMS*>(given));
  });
}

cudaError_t cudaGraphAddChildGraphNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* nodes,
                                       size_t count, cudaGraph_t child) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphAddChildGraphNode(node, graph, nodes, count, child); });
}

cudaError_t cudaGraphChildGraphNodeGetGraph(cudaGraphNode_t node, cudaGraph_t* graph) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphChildGraphNodeGetGraph(node, graph); });
}

cudaError_t cudaGraphExecChildGraphNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t node,
                                                 cudaGraph_t child) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphExecChildGraphNodeSetParams(exec, node, child); });
}

cudaError_t cudaGraphAddEmptyNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* nodes,
                                  size_t count) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphAddEmptyNode(node, graph, nodes, count); });
}

cudaError_t cudaGraphAddEventRecordNode(cudaGraphNode_t* node, cudaGraph_t graph,
                                        const cudaGraphNode_t* nodes, size_t count, cudaEvent_t event) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphAddEventRecordNode(node, graph, nodes, count, event); });
}

cudaError_t cudaGraphEventRecordNodeGetEvent(cudaGraphNode_t node, cudaEvent_t* event) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphEventRecordNodeGetEvent(node, event); });
}

cudaError_t cudaGraphEventRecordNodeSetEvent(cudaGraphNode_t node, cudaEvent_t event) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphEventRecordNodeSetEvent(node, event); });
}

cudaError_t cudaGraphExecEventRecordNodeSetEvent(cudaGraphExec_t exec, cudaGraphNode_t node,
                                                 cudaEvent_t event) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphExecEventRecordNodeSetEvent(exec, node, event); });
}

cudaError_t cudaGraphAddEventWaitNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* nodes,
                                      size_t count, cudaEvent_t event) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphAddEventWaitNode(node, graph, nodes, count, event); });
}

cudaError_t cudaGraphEventWaitNodeGetEvent(cudaGraphNode_t node, cudaEvent_t* event) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphEventWaitNodeGetEvent(node, event); });
}

cudaError_t cudaGraphEventWaitNodeSetEvent(cudaGraphNode_t node, cudaEvent_t event) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphEventWaitNodeSetEvent(node, event); });
}

cudaError_t cudaGraphExecEventWaitNodeSetEvent(cudaGraphExec_t exec, cudaGraphNode_t node,
                                               cudaEvent_t event) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphExecEventWaitNodeSetEvent(exec, node, event); });
}

// ---- memory ---------------------------------------------------------------------------

cudaError_t cudaGraphAddMemAllocNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* nodes,
                                     size_t count, cudaMemAllocNodeParams* given) {
  AVEC_COUNTED;
  return in_context([&] {
    return cuGraphAddMemAllocNode(node, graph, nodes, count,
                                  reinterpret_cast<CUDA_MEM_ALLOC_NODE_PARAMS*>(given));
  });
}

cudaError_t cudaGraphMemAllocNodeGetParams(cudaGraphNode_t node, cudaMemAllocNodeParams* shown) {
  AVEC_COUNTED;
  return in_context([&] {
    return cuGraphMemAllocNodeGetParams(node, reinterpret_cast<CUDA_MEM_ALLOC_NODE_PARAMS*>(shown));
  });
}

cudaError_t cudaGraphAddMemFreeNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* nodes,
                                    size_t count, void* pointer) {
  AVEC_COUNTED;
  return in_context(
      [&] { return cuGraphAddMemFreeNode(node, graph, nodes, count, device_pointer(pointer)); });
}

cudaError_t cudaGraphMemFreeNodeGetParams(cudaGraphNode_t node, void* pointer) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphMemFreeNodeGetParams(node, static_cast<CUdeviceptr*>(pointer)); });
}

// ---- executable graphs ----------------------------------------------------------------

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long flags) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphInstantiate(exec, graph, flags); });
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec, cudaGraph_t graph,
                                          unsigned long long flags) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphInstantiate(exec, graph, flags); });
}

AVEC_STREAM_PAIR(cudaGraphInstantiateWithParams, _ptsz,
                 (cudaGraphExec_t * exec, cudaGraph_t graph, cudaGraphInstantiateParams* params),
                 return in_context([&]() -> CUresult {
                   if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
                   const cudaStream_t named = params->uploadStream;
                   params->uploadStream = resolve_stream<kDefault>(named);
                   const CUresult result = cuGraphInstantiateWithParams(
                       exec, graph, reinterpret_cast<CUDA_GRAPH_INSTANTIATE_PARAMS*>(params));
                   params->uploadStream = named;
                   return result;
                 });)

cudaError_t cudaGraphExecGetFlags(cudaGraphExec_t exec, unsigned long long* flags) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphExecGetFlags(exec, reinterpret_cast<cuuint64_t*>(flags)); });
}

cudaError_t cudaGraphNodeSetEnabled(cudaGraphExec_t exec, cudaGraphNode_t node, unsigned enabled) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphNodeSetEnabled(exec, node, enabled); });
}

cudaError_t cudaGraphNodeGetEnabled(cudaGraphExec_t exec, cudaGraphNode_t node, unsigned* enabled) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphNodeGetEnabled(exec, node, enabled); });
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo* info) {
  AVEC_COUNTED;
  return in_context(
      [&] { return cuGraphExecUpdate(exec, graph, reinterpret_cast<CUgraphExecUpdateResultInfo*>(info)); });
}

AVEC_STREAM_PAIR(cudaGraphUpload, _ptsz, (cudaGraphExec_t exec, cudaStream_t stream),
                 return in_context([&] { return cuGraphUpload(exec, resolve_stream<kDefault>(stream)); });)

AVEC_STREAM_PAIR(cudaGraphLaunch, _ptsz, (cudaGraphExec_t exec, cudaStream_t stream),
                 return in_context([&] { return cuGraphLaunch(exec, resolve_stream<kDefault>(stream)); });)

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphExecDestroy(exec); });
}
