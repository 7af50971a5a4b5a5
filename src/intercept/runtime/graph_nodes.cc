// Nodes of graphs: adding each kind, reading and setting their parameters, in graphs and executable ones.
#include "api.h"
#include "graph_params.h"

using namespace avec::runtime;

namespace {

/// Translates what the program gives, then calls the driver with it.
template <class Driver, class Translate, class Call>
cudaError_t translated(const void* given, Translate&& translate, Call&& call) {
  if (given == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&]() -> cudaError_t {
    Driver params{};
    if (const cudaError_t error = translate(params); error != cudaSuccess) return error;
    return to_runtime(call(params));
  });
}

/// Calls the driver, then translates what it shows.
template <class Driver, class Shown, class Call>
cudaError_t shown_as(Shown* shown, Call&& call) {
  if (shown == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&]() -> CUresult {
    Driver params{};
    const CUresult result = call(&params);
    if (result == CUDA_SUCCESS) avec::runtime::to_runtime(params, *shown);
    return result;
  });
}

static_assert(sizeof(cudaHostNodeParams) == sizeof(CUDA_HOST_NODE_PARAMS));
static_assert(sizeof(cudaMemAllocNodeParams) == sizeof(CUDA_MEM_ALLOC_NODE_PARAMS));
static_assert(sizeof(cudaMemsetParams) == sizeof(CUDA_MEMSET_NODE_PARAMS));
static_assert(sizeof(cudaLaunchAttributeValue) == sizeof(CUlaunchAttributeValue));

}  // namespace

// ---- kernels --------------------------------------------------------------------------

cudaError_t cudaGraphAddKernelNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* nodes,
                                   size_t count, const cudaKernelNodeParams* given) {
  AVEC_COUNTED;
  return translated<CUDA_KERNEL_NODE_PARAMS>(
      given, [&](CUDA_KERNEL_NODE_PARAMS& params) { return to_driver(*given, params); },
      [&](const CUDA_KERNEL_NODE_PARAMS& params) {
        return cuGraphAddKernelNode(node, graph, nodes, count, &params);
      });
}

cudaError_t cudaGraphKernelNodeGetParams(cudaGraphNode_t node, cudaKernelNodeParams* shown) {
  AVEC_COUNTED;
  return shown_as<CUDA_KERNEL_NODE_PARAMS>(
      shown, [&](CUDA_KERNEL_NODE_PARAMS* params) { return cuGraphKernelNodeGetParams(node, params); });
}

cudaError_t cudaGraphKernelNodeSetParams(cudaGraphNode_t node, const cudaKernelNodeParams* given) {
  AVEC_COUNTED;
  return translated<CUDA_KERNEL_NODE_PARAMS>(
      given, [&](CUDA_KERNEL_NODE_PARAMS& params) { return to_driver(*given, params); },
      [&](const CUDA_KERNEL_NODE_PARAMS& params) { return cuGraphKernelNodeSetParams(node, &params); });
}

cudaError_t cudaGraphExecKernelNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t node,
                                             const cudaKernelNodeParams* given) {
  AVEC_COUNTED;
  return translated<CUDA_KERNEL_NODE_PARAMS>(
      given, [&](CUDA_KERNEL_NODE_PARAMS& params) { return to_driver(*given, params); },
      [&](const CUDA_KERNEL_NODE_PARAMS& params) {
        return cuGraphExecKernelNodeSetParams(exec, node, &params);
      });
}

cudaError_t cudaGraphKernelNodeCopyAttributes(cudaGraphNode_t to, cudaGraphNode_t from) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphKernelNodeCopyAttributes(to, from); });
}

cudaError_t cudaGraphKernelNodeGetAttribute(cudaGraphNode_t node, cudaLaunchAttributeID attribute,
                                            cudaLaunchAttributeValue* value) {
  AVEC_COUNTED;
  return in_context([&] {
    return cuGraphKernelNodeGetAttribute(node, static_cast<CUlaunchAttributeID>(attribute),
                                         reinterpret_cast<CUlaunchAttributeValue*>(value));
  });
}

cudaError_t cudaGraphKernelNodeSetAttribute(cudaGraphNode_t node, cudaLaunchAttributeID attribute,
                                            const cudaLaunchAttributeValue* value) {
  AVEC_COUNTED;
  return in_context([&] {
    return cuGraphKernelNodeSetAttribute(node, static_cast<CUlaunchAttributeID>(attribute),
                                         reinterpret_cast<const CUlaunchAttributeValue*>(value));
  });
}

// ---- copies ---------------------------------------------------------------------------

cudaError_t cudaGraphAddMemcpyNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* nodes,
                                   size_t count, const cudaMemcpy3DParms* given) {
  AVEC_COUNTED;
  return translated<CUDA_MEMCPY3D>(
      given, [&](CUDA_MEMCPY3D& params) { return to_driver(*given, params); },
      [&](const CUDA_MEMCPY3D& params) {
        return cuGraphAddMemcpyNode(node, graph, nodes, count, &params, current_context());
      });
}

cudaError_t cudaGraphMemcpyNodeSetParams(cudaGraphNode_t node, const cudaMemcpy3DParms* given) {
  AVEC_COUNTED;
  return translated<CUDA_MEMCPY3D>(
      given, [&](CUDA_MEMCPY3D& params) { return to_driver(*given, params); },
      [&](const CUDA_MEMCPY3D& params) { return cuGraphMemcpyNodeSetParams(node, &params); });
}

cudaError_t cudaGraphExecMemcpyNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t node,
                                             const cudaMemcpy3DParms* given) {
  AVEC_COUNTED;
  return translated<CUDA_MEMCPY3D>(
      given, [&](CUDA_MEMCPY3D& params) { return to_driver(*given, params); },
      [&](const CUDA_MEMCPY3D& params) {
        return cuGraphExecMemcpyNodeSetParams(exec, node, &params, current_context());
      });
}

cudaError_t cudaGraphAddMemcpyNode1D(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* nodes,
                                     size_t count, void* to, const void* from, size_t bytes,
                                     cudaMemcpyKind kind) {
  AVEC_COUNTED;
  return translated<CUDA_MEMCPY3D>(
      to, [&](CUDA_MEMCPY3D& params) { return linear_copy(to, from, bytes, kind, params); },
      [&](const CUDA_MEMCPY3D& params) {
        return cuGraphAddMemcpyNode(node, graph, nodes, count, &params, current_context());
      });
}

cudaError_t cudaGraphMemcpyNodeSetParams1D(cudaGraphNode_t node, void* to, const void* from, size_t bytes,
                                           cudaMemcpyKind kind) {
  AVEC_COUNTED;
  return translated<CUDA_MEMCPY3D>(
      to, [&](CUDA_MEMCPY3D& params) { return linear_copy(to, from, bytes, kind, params); },
      [&](const CUDA_MEMCPY3D& params) { return cuGraphMemcpyNodeSetParams(node, &params); });
}

cudaError_t cudaGraphExecMemcpyNodeSetParams1D(cudaGraphExec_t exec, cudaGraphNode_t node, void* to,
                                               const void* from, size_t bytes, cudaMemcpyKind kind) {
  AVEC_COUNTED;
  return translated<CUDA_MEMCPY3D>(
      to, [&](CUDA_MEMCPY3D& params) { return linear_copy(to, from, bytes, kind, params); },
      [&](const CUDA_MEMCPY3D& params) {
        return cuGraphExecMemcpyNodeSetParams(exec, node, &params, current_context());
      });
}

cudaError_t cudaGraphAddMemcpyNodeToSymbol(cudaGraphNode_t* node, cudaGraph_t graph,
                                           const cudaGraphNode_t* nodes, size_t count, const void* symbol,
                                           const void* from, size_t bytes, size_t offset,
                                           cudaMemcpyKind kind) {
  AVEC_COUNTED;
  return translated<CUDA_MEMCPY3D>(
      from, [&](CUDA_MEMCPY3D& params) { return copy_to_symbol(symbol, from, bytes, offset, kind, params); },
      [&](const CUDA_MEMCPY3D& params) {
        return cuGraphAddMemcpyNode(node, graph, nodes, count, &params, current_context());
      });
}

cudaError_t cudaGraphMemcpyNodeSetParamsToSymbol(cudaGraphNode_t node, const void* symbol, const void* from,
                                                 size_t bytes, size_t offset, cudaMemcpyKind kind) {
  AVEC_COUNTED;
  return translated<CUDA_MEMCPY3D>(
      from, [&](CUDA_MEMCPY3D& params) { return copy_to_symbol(symbol, from, bytes, offset, kind, params); },
      [&](const CUDA_MEMCPY3D& params) { return cuGraphMemcpyNodeSetParams(node, &params); });
}

cudaError_t cudaGraphExecMemcpyNodeSetParamsToSymbol(cudaGraphExec_t exec, cudaGraphNode_t node,
                                                     const void* symbol, const void* from, size_t bytes,
                                                     size_t offset, cudaMemcpyKind kind) {
  AVEC_COUNTED;
  return translated<CUDA_MEMCPY3D>(
      from, [&](CUDA_MEMCPY3D& params) { return copy_to_symbol(symbol, from, bytes, offset, kind, params); },
      [&](const CUDA_MEMCPY3D& params) {
        return cuGraphExecMemcpyNodeSetParams(exec, node, &params, current_context());
      });
}

cudaError_t cudaGraphAddMemcpyNodeFromSymbol(cudaGraphNode_t* node, cudaGraph_t graph,
                                             const cudaGraphNode_t* nodes, size_t count, void* to,
                                             const void* symbol, size_t bytes, size_t offset,
                                             cudaMemcpyKind kind) {
  AVEC_COUNTED;
  return translated<CUDA_MEMCPY3D>(
      to, [&](CUDA_MEMCPY3D& params) { return copy_from_symbol(to, symbol, bytes, offset, kind, params); },
      [&](const CUDA_MEMCPY3D& params) {
        return cuGraphAddMemcpyNode(node, graph, nodes, count, &params, current_context());
      });
}

cudaError_t cudaGraphMemcpyNodeSetParamsFromSymbol(cudaGraphNode_t node, void* to, const void* symbol,
                                                   size_t bytes, size_t offset, cudaMemcpyKind kind) {
  AVEC_COUNTED;
  return translated<CUDA_MEMCPY3D>(
      to, [&](CUDA_MEMCPY3D& params) { return copy_from_symbol(to, symbol, bytes, offset, kind, params); },
      [&](const CUDA_MEMCPY3D& params) { return cuGraphMemcpyNodeSetParams(node, &params); });
}

cudaError_t cudaGraphExecMemcpyNodeSetParamsFromSymbol(cudaGraphExec_t exec, cudaGraphNode_t node, void* to,
                                                       const void* symbol, size_t bytes, size_t offset,
                                                       cudaMemcpyKind kind) {
  AVEC_COUNTED;
  return translated<CUDA_MEMCPY3D>(
      to, [&](CUDA_MEMCPY3D& params) { return copy_from_symbol(to, symbol, bytes, offset, kind, params); },
      [&](const CUDA_MEMCPY3D& params) {
        return cuGraphExecMemcpyNodeSetParams(exec, node, &params, current_context());
      });
}

cudaError_t cudaGraphMemcpyNodeGetParams(cudaGraphNode_t node, cudaMemcpy3DParms* shown) {
  AVEC_COUNTED;
  return shown_as<CUDA_MEMCPY3D>(
      shown, [&](CUDA_MEMCPY3D* params) { return cuGraphMemcpyNodeGetParams(node, params); });
}

// ---- memory sets ----------------------------------------------------------------------

cudaError_t cudaGraphAddMemsetNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* nodes,
                                   size_t count, const cudaMemsetParams* given) {
  AVEC_COUNTED;
  return translated<CUDA_MEMSET_NODE_PARAMS>(
      given, [&](CUDA_MEMSET_NODE_PARAMS& params) { return to_driver(*given, params); },
      [&](const CUDA_MEMSET_NODE_PARAMS& params) {
        return cuGraphAddMemsetNode(node, graph, nodes, count, &params, current_context());
      });
}

cudaError_t cudaGraphMemsetNodeSetParams(cudaGraphNode_t node, const cudaMemsetParams* given) {
  AVEC_COUNTED;
  return translated<CUDA_MEMSET_NODE_PARAMS>(
      given, [&](CUDA_MEMSET_NODE_PARAMS& params) { return to_driver(*given, params); },
      [&](const CUDA_MEMSET_NODE_PARAMS& params) { return cuGraphMemsetNodeSetParams(node, &params); });
}

cudaError_t cudaGraphExecMemsetNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t node,
                                             const cudaMemsetParams* given) {
  AVEC_COUNTED;
  return translated<CUDA_MEMSET_NODE_PARAMS>(
      given, [&](CUDA_MEMSET_NODE_PARAMS& params) { return to_driver(*given, params); },
      [&](const CUDA_MEMSET_NODE_PARAMS& params) {
        return cuGraphExecMemsetNodeSetParams(exec, node, &params, current_context());
      });
}

cudaError_t cudaGraphMemsetNodeGetParams(cudaGraphNode_t node, cudaMemsetParams* shown) {
  AVEC_COUNTED;
  return in_context(
      [&] { return cuGraphMemsetNodeGetParams(node, reinterpret_cast<CUDA_MEMSET_NODE_PARAMS*>(shown)); });
}
