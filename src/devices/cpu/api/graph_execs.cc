// Executable graphs: instantiation, launches, updates.
#include "devices/cpu/graph/capture.h"
#include "devices/cpu/graph/exec.h"

using namespace avec::cpu;

namespace {

CUresult instantiate(CUgraphExec* handle, CUgraph graph_handle, std::uint64_t flags, CUgraphNode& bad,
                     CUgraphInstantiateResult& result) {
  bad = nullptr;
  result = CUDA_GRAPH_INSTANTIATE_ERROR;
  if (const auto error = initialised()) return error;
  const GraphLock lock(graph_mutex());
  const auto graph = graph_of(graph_handle);
  if (handle == nullptr || !graph) return CUDA_ERROR_INVALID_VALUE;
  ExecRef exec;
  if (const auto error = instantiate_graph(graph, flags, exec, bad, result)) return error;
  *handle = as_handle<CUgraphExec>(exec->handle);
  return CUDA_SUCCESS;
}

CUresult upload(CUgraphExec handle, CUstream stream_handle) {
  StreamRef stream;
  if (const auto error = stream_of(stream_handle, stream)) return error;
  if (const auto error = refuse_capture(stream)) return error;
  const GraphLock lock(graph_mutex());
  const auto exec = exec_of(handle);
  if (!exec) return CUDA_ERROR_INVALID_VALUE;
  // Nothing has to go anywhere; the order is what remains.
  Task task;
  if (exec->last && !exec->last->done.load()) task.after.push_back(exec->last);
  state().scheduler.enqueue(stream, std::move(task));
  return CUDA_SUCCESS;
}

/// Kinds of nodes that can be switched off.
bool can_disable(const Node& node) {
  return node.type() == CU_GRAPH_NODE_TYPE_KERNEL || node.type() == CU_GRAPH_NODE_TYPE_MEMSET ||
         node.type() == CU_GRAPH_NODE_TYPE_MEMCPY;
}

}  // namespace

extern "C" {

CUresult cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph graph, unsigned long long flags) {
  if ((flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD) != 0)
    return CUDA_ERROR_INVALID_VALUE;  // into which stream?
  CUgraphNode bad;
  CUgraphInstantiateResult result;
  return instantiate(exec, graph, flags, bad, result);
}

CUresult cuGraphInstantiateWithParams(CUgraphExec* exec, CUgraph graph,
                                      CUDA_GRAPH_INSTANTIATE_PARAMS* params) {
  if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const CUresult error = instantiate(exec, graph, params->flags, params->hErrNode_out, params->result_out);
  if (error != CUDA_SUCCESS) return error;
  return (params->flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD) != 0 ? upload(*exec, params->hUploadStream)
                                                                   : CUDA_SUCCESS;
}

CUresult cuGraphExecGetFlags(CUgraphExec handle, cuuint64_t* flags) {
  if (const auto error = initialised()) return error;
  const GraphLock lock(graph_mutex());
  const auto exec = exec_of(handle);
  if (!exec || flags == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *flags = exec->flags;
  return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec handle) {
  if (const auto error = initialised()) return error;
  const GraphLock lock(graph_mutex());
  const auto exec = graph_tables().execs.remove(handle);
  if (!exec) return CUDA_ERROR_INVALID_VALUE;
  const auto graph = exec->source.lock();
  if (graph && graph->exec.lock() == exec) graph->exec.reset();
  return CUDA_SUCCESS;
}

CUresult cuGraphUpload(CUgraphExec exec, CUstream stream) { return upload(exec, stream); }

CUresult cuGraphLaunch(CUgraphExec handle, CUstream stream_handle) {
  StreamRef stream;
  if (const auto error = stream_of(stream_handle, stream)) return error;
  const auto exec = exec_of(handle);
  return exec ? launch_exec(exec, stream) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphExecUpdate_v2(CUgraphExec handle, CUgraph graph_handle, CUgraphExecUpdateResultInfo* info) {
  if (const auto error = initialised()) return error;
  if (info == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *info = {};
  info->result = CU_GRAPH_EXEC_UPDATE_ERROR;
  const GraphLock lock(graph_mutex());
  const auto exec = exec_of(handle);
  const auto graph = graph_of(graph_handle);
  if (!exec || !graph || graph->moved) return CUDA_ERROR_INVALID_VALUE;
  return update_exec(*exec, *graph, *info);
}

CUresult cuGraphNodeSetEnabled(CUgraphExec handle, CUgraphNode node_handle, unsigned enabled) {
  if (const auto error = initialised()) return error;
  const GraphLock lock(graph_mutex());
  const auto exec = exec_of(handle);
  Node* node = exec ? exec_node(*exec, node_handle) : nullptr;
  if (node == nullptr || !can_disable(*node)) return CUDA_ERROR_INVALID_VALUE;
  node->enabled = enabled != 0;
  exec->plan = nullptr;
  return CUDA_SUCCESS;
}

CUresult cuGraphNodeGetEnabled(CUgraphExec handle, CUgraphNode node_handle, unsigned* enabled) {
  if (const auto error = initialised()) return error;
  const GraphLock lock(graph_mutex());
  const auto exec = exec_of(handle);
  const Node* node = exec ? exec_node(*exec, node_handle) : nullptr;
  if (node == nullptr || enabled == nullptr || !can_disable(*node)) return CUDA_ERROR_INVALID_VALUE;
  *enabled = node->enabled ? 1 : 0;
  return CUDA_SUCCESS;
}

// ---- older forms ------------------------------------------------------------------------

#undef cuGraphInstantiate
#undef cuGraphExecUpdate

CUresult cuGraphInstantiate_v2(CUgraphExec* exec, CUgraph graph, CUgraphNode* bad, char* log, size_t bytes) {
  CUgraphNode node = nullptr;
  CUgraphInstantiateResult result;
  const CUresult error = instantiate(exec, graph, 0, node, result);
  if (bad != nullptr) *bad = node;
  if (log != nullptr && bytes > 0) *log = '\0';
  return error;
}

CUresult cuGraphInstantiate(CUgraphExec* exec, CUgraph graph, CUgraphNode* bad, char* log, size_t bytes) {
  return cuGraphInstantiate_v2(exec, graph, bad, log, bytes);
}

CUresult cuGraphExecUpdate(CUgraphExec exec, CUgraph graph, CUgraphNode* bad,
                           CUgraphExecUpdateResult* result) {
  CUgraphExecUpdateResultInfo info{};
  const CUresult error = cuGraphExecUpdate_v2(exec, graph, &info);
  if (bad != nullptr) *bad = info.errorNode;
  if (result != nullptr) *result = info.result;
  return error;
}

}  // extern "C"
