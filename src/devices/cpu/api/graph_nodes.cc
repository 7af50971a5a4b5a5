// Nodes: adding each kind, and reading and setting their parameters.
#include "devices/cpu/graph/exec.h"
#include "devices/cpu/graph/graph.h"

using namespace avec::cpu;

namespace {

constexpr std::size_t kMostDependencies = std::size_t{1} << 24;

/// Adds a node that `make` gives its parameters, after the dependencies.
template <class Make>
CUresult add(CUgraphNode* handle, CUgraph graph_handle, const CUgraphNode* nodes, const CUgraphEdgeData* data,
             size_t count, bool kernel, Make make) {
  if (const auto error = initialised()) return error;
  const GraphLock lock(graph_mutex());
  const auto graph = graph_of(graph_handle);
  if (handle == nullptr || !graph || count > kMostDependencies) return CUDA_ERROR_INVALID_VALUE;
  std::vector<Link> links;
  // Edge data that only kernels understand is refused in front of other nodes.
  const Node other;
  if (const auto error = read_links(*graph, kernel ? nullptr : &other, nodes, data, count, links))
    return error;
  Params params;
  if (const auto error = make(*graph, params)) return error;
  *handle = handle_of(*add_node(*graph, std::move(params), links));
  return CUDA_SUCCESS;
}

/// The same for parameters of one kind: `make` fills them.
template <class Kind, class Make>
CUresult add_kind(CUgraphNode* handle, CUgraph graph, const CUgraphNode* nodes, size_t count, Make make) {
  return add(handle, graph, nodes, nullptr, count, std::is_same_v<Kind, KernelParams>,
             [&](Graph& into, Params& params) {
               Kind kind;
               if (const CUresult error = make(into, kind)) return error;
               params = std::move(kind);
               return CUDA_SUCCESS;
             });
}

/// Looks a node of a kind up and shows its parameters; a null result is refused.
template <class Kind, class Show>
CUresult show(CUgraphNode handle, const void* result, Show show_it) {
  if (const auto error = initialised()) return error;
  const GraphLock lock(graph_mutex());
  const auto node = node_of(handle);
  if (!node || result == nullptr) return CUDA_ERROR_INVALID_VALUE;
  auto* kind = std::get_if<Kind>(&node->params);
  if (kind == nullptr) return CUDA_ERROR_INVALID_VALUE;
  show_it(*kind);
  return CUDA_SUCCESS;
}

/// Gives a node of a kind new parameters, made from a copy of the old ones.
template <class Kind, class Make>
CUresult change(CUgraphNode handle, const void* given, Make make) {
  if (const auto error = initialised()) return error;
  const GraphLock lock(graph_mutex());
  const auto node = node_of(handle);
  if (!node || given == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto* kind = std::get_if<Kind>(&node->params);
  if (kind == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Kind changed = *kind;
  if (const CUresult error = make(changed)) return error;
  node->params = std::move(changed);
  return CUDA_SUCCESS;
}

/// The same in an executable graph, where not everything may change.
template <class Kind, class Make>
CUresult change_exec(CUgraphExec exec_handle, CUgraphNode handle, const void* given, Make make) {
  if (const auto error = initialised()) return error;
  const GraphLock lock(graph_mutex());
  const auto exec = exec_of(exec_handle);
  if (!exec || given == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Node* node = exec_node(*exec, handle);
  if (node == nullptr || !std::holds_alternative<Kind>(node->params)) return CUDA_ERROR_INVALID_VALUE;
  Kind changed = std::get<Kind>(node->params);
  if (const CUresult error = make(changed)) return error;
  const Params params = std::move(changed);
  if (check_update(node->params, params, false) != CU_GRAPH_EXEC_UPDATE_SUCCESS)
    return CUDA_ERROR_INVALID_VALUE;
  apply_update(*exec, *node, params);
  return CUDA_SUCCESS;
}

CUDA_KERNEL_NODE_PARAMS newer(const CUDA_KERNEL_NODE_PARAMS_v1& p) {
  return {p.func,      p.gridDimX,       p.gridDimY,     p.gridDimZ, p.blockDimX, p.blockDimY,
          p.blockDimZ, p.sharedMemBytes, p.kernelParams, p.extra,    nullptr,     nullptr};
}

CUresult make_host(const CUDA_HOST_NODE_PARAMS* given, HostParams& host) {
  if (given == nullptr || given->fn == nullptr) return CUDA_ERROR_INVALID_VALUE;
  host = {given->fn, given->userData};
  return CUDA_SUCCESS;
}

}  // namespace

extern "C" {

// ---- any kind ---------------------------------------------------------------------------

CUresult cuGraphAddNode_v2(CUgraphNode* node, CUgraph graph, const CUgraphNode* nodes,
                           const CUgraphEdgeData* data, size_t count, CUgraphNodeParams* given) {
  const bool kernel = given != nullptr && given->type == CU_GRAPH_NODE_TYPE_KERNEL;
  return add(node, graph, nodes, data, count, kernel, [&](Graph& into, Params& params) {
    return given == nullptr ? CUDA_ERROR_INVALID_VALUE : make_params(*given, into, nullptr, params);
  });
}

CUresult cuGraphNodeSetParams(CUgraphNode handle, CUgraphNodeParams* given) {
  if (const auto error = initialised()) return error;
  const GraphLock lock(graph_mutex());
  const auto node = node_of(handle);
  if (!node || given == nullptr || given->type != node->type()) return CUDA_ERROR_INVALID_VALUE;
  if (node->type() == CU_GRAPH_NODE_TYPE_GRAPH) return CUDA_ERROR_NOT_SUPPORTED;
  Params params;
  if (const auto error = make_params(*given, *node->graph, node.get(), params)) return error;
  node->params = std::move(params);
  return CUDA_SUCCESS;
}

CUresult cuGraphExecNodeSetParams(CUgraphExec exec_handle, CUgraphNode handle, CUgraphNodeParams* given) {
  if (const auto error = initialised()) return error;
  const GraphLock lock(graph_mutex());
  const auto exec = exec_of(exec_handle);
  if (!exec || given == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Node* node = exec_node(*exec, handle);
  if (node == nullptr || given->type != node->type()) return CUDA_ERROR_INVALID_VALUE;
  if (given->type == CU_GRAPH_NODE_TYPE_GRAPH) {
    return cuGraphExecChildGraphNodeSetParams(exec_handle, handle, given->graph.graph);
  }
  Params params;
  if (const auto error = make_params(*given, *node->graph, node, params)) return error;
  if (check_update(node->params, params, false) != CU_GRAPH_EXEC_UPDATE_SUCCESS)
    return CUDA_ERROR_INVALID_VALUE;
  apply_update(*exec, *node, params);
  return CUDA_SUCCESS;
}

// ---- kernels ----------------------------------------------------------------------------

CUresult cuGraphAddKernelNode_v2(CUgraphNode* node, CUgraph graph, const CUgraphNode* nodes, size_t count,
                                 const CUDA_KERNEL_NODE_PARAMS* given) {
  return add_kind<KernelParams>(node, graph, nodes, count, [&](Graph&, KernelParams& kernel) {
    return given == nullptr ? CUDA_ERROR_INVALID_VALUE : make_kernel(*given, kernel);
  });
}

CUresult cuGraphKernelNodeGetParams_v2(CUgraphNode node, CUDA_KERNEL_NODE_PARAMS* shown) {
  return show<KernelParams>(node, shown, [&](KernelParams& kernel) { show_kernel(kernel, *shown); });
}

CUresult cuGraphKernelNodeSetParams_v2(CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS* given) {
  return change<KernelParams>(node, given, [&](KernelParams& kernel) { return make_kernel(*given, kernel); });
}

CUresult cuGraphExecKernelNodeSetParams_v2(CUgraphExec exec, CUgraphNode node,
                                           const CUDA_KERNEL_NODE_PARAMS* given) {
  return change_exec<KernelParams>(exec, node, given,
                                   [&](KernelParams& kernel) { return make_kernel(*given, kernel); });
}

CUresult cuGraphKernelNodeGetAttribute(CUgraphNode node, CUkernelNodeAttrID id,
                                       CUkernelNodeAttrValue* value) {
  return show<KernelParams>(node, value, [&](const KernelParams& kernel) {
    const auto found = kernel.attributes.find(id);
    *value = found == kernel.attributes.end() ? CUkernelNodeAttrValue{} : found->second;
  });
}

CUresult cuGraphKernelNodeSetAttribute(CUgraphNode node, CUkernelNodeAttrID id,
                                       const CUkernelNodeAttrValue* value) {
  return change<KernelParams>(node, value,
                              [&](KernelParams& kernel) { return set_attribute(kernel, id, *value); });
}

CUresult cuGraphKernelNodeCopyAttributes(CUgraphNode to, CUgraphNode from) {
  if (const auto error = initialised()) return error;
  const GraphLock lock(graph_mutex());
  const auto source = node_of(from);
  const auto* kernel = source ? std::get_if<KernelParams>(&source->params) : nullptr;
  if (kernel == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return change<KernelParams>(to, kernel, [&](KernelParams& changed) {
    if (changed.module->context != kernel->module->context) return CUDA_ERROR_INVALID_CONTEXT;
    changed.attributes = kernel->attributes;
    changed.shape.cooperative = kernel->shape.cooperative;
    return CUDA_SUCCESS;
  });
}

// ---- copies and sets --------------------------------------------------------------------

CUresult cuGraphAddMemcpyNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* nodes, size_t count,
                              const CUDA_MEMCPY3D* given, CUcontext context) {
  return add_kind<CopyParams>(node, graph, nodes, count, [&](Graph&, CopyParams& copy) {
    return given == nullptr ? CUDA_ERROR_INVALID_VALUE : make_copy(*given, context, copy);
  });
}

CUresult cuGraphMemcpyNodeGetParams(CUgraphNode node, CUDA_MEMCPY3D* shown) {
  return show<CopyParams>(node, shown, [&](const CopyParams& copy) { *shown = copy.copy; });
}

CUresult cuGraphMemcpyNodeSetParams(CUgraphNode node, const CUDA_MEMCPY3D* given) {
  return change<CopyParams>(node, given, [&](CopyParams& copy) {
    return make_copy(*given, as_handle<CUcontext>(copy.context->handle), copy);
  });
}

CUresult cuGraphExecMemcpyNodeSetParams(CUgraphExec exec, CUgraphNode node, const CUDA_MEMCPY3D* given,
                                        CUcontext context) {
  return change_exec<CopyParams>(exec, node, given,
                                 [&](CopyParams& copy) { return make_copy(*given, context, copy); });
}

CUresult cuGraphAddMemsetNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* nodes, size_t count,
                              const CUDA_MEMSET_NODE_PARAMS* given, CUcontext context) {
  return add_kind<SetParams>(node, graph, nodes, count, [&](Graph&, SetParams& set) {
    return given == nullptr ? CUDA_ERROR_INVALID_VALUE : make_set(*given, context, set);
  });
}

CUresult cuGraphMemsetNodeGetParams(CUgraphNode node, CUDA_MEMSET_NODE_PARAMS* shown) {
  return show<SetParams>(node, shown, [&](const SetParams& set) { *shown = set.set; });
}

CUresult cuGraphMemsetNodeSetParams(CUgraphNode node, const CUDA_MEMSET_NODE_PARAMS* given) {
  return change<SetParams>(node, given, [&](SetParams& set) {
    return make_set(*given, as_handle<CUcontext>(set.context->handle), set);
  });
}

CUresult cuGraphExecMemsetNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                        const CUDA_MEMSET_NODE_PARAMS* given, CUcontext context) {
  return change_exec<SetParams>(exec, node, given,
                                [&](SetParams& set) { return make_set(*given, context, set); });
}

// ---- host functions, children, empty nodes ----------------------------------------------

CUresult cuGraphAddHostNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* nodes, size_t count,
                            const CUDA_HOST_NODE_PARAMS* given) {
  return add_kind<HostParams>(node, graph, nodes, count,
                              [&](Graph&, HostParams& host) { return make_host(given, host); });
}

CUresult cuGraphHostNodeGetParams(CUgraphNode node, CUDA_HOST_NODE_PARAMS* shown) {
  return show<HostParams>(node, shown, [&](const HostParams& host) { *shown = {host.function, host.user}; });
}

CUresult cuGraphHostNodeSetParams(CUgraphNode node, const CUDA_HOST_NODE_PARAMS* given) {
  return change<HostParams>(node, given, [&](HostParams& host) { return make_host(given, host); });
}

CUresult cuGraphExecHostNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                      const CUDA_HOST_NODE_PARAMS* given) {
  return change_exec<HostParams>(exec, node, given, [&](HostParams& host) { return make_host(given, host); });
}

CUresult cuGraphAddChildGraphNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* nodes, size_t count,
                                  CUgraph child) {
  return add_kind<ChildParams>(node, graph, nodes, count, [&](Graph& into, ChildParams& params) {
    return make_child(child, CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE, into, params);
  });
}

CUresult cuGraphChildGraphNodeGetGraph(CUgraphNode node, CUgraph* graph) {
  return show<ChildParams>(node, graph, [&](const ChildParams& child) { *graph = handle_of(*child.graph); });
}

CUresult cuGraphExecChildGraphNodeSetParams(CUgraphExec exec_handle, CUgraphNode handle, CUgraph child) {
  if (const auto error = initialised()) return error;
  const GraphLock lock(graph_mutex());
  const auto exec = exec_of(exec_handle);
  const auto graph = graph_of(child);
  if (!exec || !graph) return CUDA_ERROR_INVALID_VALUE;
  Node* node = exec_node(*exec, handle);
  if (node == nullptr || !std::holds_alternative<ChildParams>(node->params)) return CUDA_ERROR_INVALID_VALUE;
  return update_child(*exec, *node, *graph);
}

CUresult cuGraphAddEmptyNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* nodes, size_t count) {
  return add_kind<EmptyParams>(node, graph, nodes, count, [](Graph&, EmptyParams&) { return CUDA_SUCCESS; });
}

// ---- events -----------------------------------------------------------------------------

CUresult cuGraphAddEventRecordNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* nodes, size_t count,
                                   CUevent event) {
  return add_kind<RecordParams>(node, graph, nodes, count, [&](Graph&, RecordParams& record) {
    return make_event(event, record.event);
  });
}

CUresult cuGraphEventRecordNodeGetEvent(CUgraphNode node, CUevent* event) {
  return show<RecordParams>(
      node, event, [&](const RecordParams& record) { *event = as_handle<CUevent>(record.event->handle); });
}

CUresult cuGraphEventRecordNodeSetEvent(CUgraphNode node, CUevent event) {
  return change<RecordParams>(node, event,
                              [&](RecordParams& record) { return make_event(event, record.event); });
}

CUresult cuGraphExecEventRecordNodeSetEvent(CUgraphExec exec, CUgraphNode node, CUevent event) {
  return change_exec<RecordParams>(exec, node, event,
                                   [&](RecordParams& record) { return make_event(event, record.event); });
}

CUresult cuGraphAddEventWaitNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* nodes, size_t count,
                                 CUevent event) {
  return add_kind<WaitParams>(node, graph, nodes, count,
                              [&](Graph&, WaitParams& wait) { return make_event(event, wait.event); });
}

CUresult cuGraphEventWaitNodeGetEvent(CUgraphNode node, CUevent* event) {
  return show<WaitParams>(node, event,
                          [&](const WaitParams& wait) { *event = as_handle<CUevent>(wait.event->handle); });
}

CUresult cuGraphEventWaitNodeSetEvent(CUgraphNode node, CUevent event) {
  return change<WaitParams>(node, event, [&](WaitParams& wait) { return make_event(event, wait.event); });
}

CUresult cuGraphExecEventWaitNodeSetEvent(CUgraphExec exec, CUgraphNode node, CUevent event) {
  return change_exec<WaitParams>(exec, node, event,
                                 [&](WaitParams& wait) { return make_event(event, wait.event); });
}

// ---- memory -----------------------------------------------------------------------------

CUresult cuGraphAddMemAllocNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* nodes, size_t count,
                                CUDA_MEM_ALLOC_NODE_PARAMS* given) {
  return add_kind<AllocParams>(node, graph, nodes, count, [&](Graph& into, AllocParams& alloc) {
    return given == nullptr ? CUDA_ERROR_INVALID_VALUE : make_alloc(*given, into, alloc);
  });
}

CUresult cuGraphMemAllocNodeGetParams(CUgraphNode node, CUDA_MEM_ALLOC_NODE_PARAMS* shown) {
  return show<AllocParams>(node, shown, [&](const AllocParams& alloc) {
    *shown = alloc.alloc;
    shown->accessDescs = alloc.access.empty() ? nullptr : alloc.access.data();
  });
}

CUresult cuGraphAddMemFreeNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* nodes, size_t count,
                               CUdeviceptr address) {
  return add_kind<FreeParams>(node, graph, nodes, count,
                              [&](Graph& into, FreeParams& free) { return make_free(address, into, free); });
}

CUresult cuGraphMemFreeNodeGetParams(CUgraphNode node, CUdeviceptr* address) {
  return show<FreeParams>(node, address, [&](const FreeParams& free) { *address = free.memory->address; });
}

CUresult cuGraphAddBatchMemOpNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* nodes, size_t count,
                                  const CUDA_BATCH_MEM_OP_NODE_PARAMS* given) {
  return add_kind<BatchParams>(node, graph, nodes, count, [&](Graph&, BatchParams& batch) {
    return given == nullptr ? CUDA_ERROR_INVALID_VALUE : make_batch(*given, batch);
  });
}

CUresult cuGraphBatchMemOpNodeGetParams(CUgraphNode node, CUDA_BATCH_MEM_OP_NODE_PARAMS* shown) {
  return show<BatchParams>(node, shown, [&](BatchParams& batch) {
    *shown = {as_handle<CUcontext>(batch.context->handle), static_cast<unsigned>(batch.operations.size()),
              batch.operations.data(), batch.flags};
  });
}

CUresult cuGraphBatchMemOpNodeSetParams(CUgraphNode node, const CUDA_BATCH_MEM_OP_NODE_PARAMS* given) {
  return change<BatchParams>(node, given, [&](BatchParams& batch) { return make_batch(*given, batch); });
}

CUresult cuGraphExecBatchMemOpNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                            const CUDA_BATCH_MEM_OP_NODE_PARAMS* given) {
  return change_exec<BatchParams>(exec, node, given,
                                  [&](BatchParams& batch) { return make_batch(*given, batch); });
}

// ---- older forms ------------------------------------------------------------------------

#undef cuGraphAddNode
#undef cuGraphAddKernelNode
#undef cuGraphKernelNodeGetParams
#undef cuGraphKernelNodeSetParams
#undef cuGraphExecKernelNodeSetParams

CUresult cuGraphAddNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* nodes, size_t count,
                        CUgraphNodeParams* given) {
  return cuGraphAddNode_v2(node, graph, nodes, nullptr, count, given);
}

CUresult cuGraphAddKernelNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* nodes, size_t count,
                              const CUDA_KERNEL_NODE_PARAMS_v1* given) {
  if (given == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto params = newer(*given);
  return cuGraphAddKernelNode_v2(node, graph, nodes, count, &params);
}

CUresult cuGraphKernelNodeGetParams(CUgraphNode node, CUDA_KERNEL_NODE_PARAMS_v1* shown) {
  return show<KernelParams>(node, shown, [&](KernelParams& kernel) {
    CUDA_KERNEL_NODE_PARAMS p;
    show_kernel(kernel, p);
    *shown = {p.func,      p.gridDimX,  p.gridDimY,       p.gridDimZ,     p.blockDimX,
              p.blockDimY, p.blockDimZ, p.sharedMemBytes, p.kernelParams, p.extra};
  });
}

CUresult cuGraphKernelNodeSetParams(CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS_v1* given) {
  if (given == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto params = newer(*given);
  return cuGraphKernelNodeSetParams_v2(node, &params);
}

CUresult cuGraphExecKernelNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                        const CUDA_KERNEL_NODE_PARAMS_v1* given) {
  if (given == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto params = newer(*given);
  return cuGraphExecKernelNodeSetParams_v2(exec, node, &params);
}

}  // extern "C"
