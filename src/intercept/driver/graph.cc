#include "client/graph.h"

#include "client/capture.h"
#include "client/graph_nodes.h"
#include "client/user_object.h"
#include "entry.h"

using namespace avec::client;

AVEC_DRIVER_CALL(cuGraphCreate, (CUgraph * graph, unsigned flags), graph_create(graph, flags))
AVEC_DRIVER_CALL(cuGraphDestroy, (CUgraph graph), graph_destroy(graph))
AVEC_DRIVER_CALL(cuGraphClone, (CUgraph * clone, CUgraph graph), graph_clone(clone, graph))
AVEC_DRIVER_CALL(cuGraphNodeFindInClone, (CUgraphNode * found, CUgraphNode node, CUgraph clone),
                 graph_node_find_in_clone(found, node, clone))
AVEC_DRIVER_CALL(cuGraphDebugDotPrint, (CUgraph graph, const char* path, unsigned flags),
                 graph_dot(graph, path, flags))

namespace {

CUresult instantiate(CUgraphExec* exec, CUgraph graph, unsigned long long flags, CUgraphNode* error_node) {
  CUDA_GRAPH_INSTANTIATE_PARAMS params{};
  // Without parameters there is no stream to upload in.
  if ((flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD) != 0) return CUDA_ERROR_INVALID_VALUE;
  params.flags = flags;
  const CUresult result = graph_instantiate(exec, graph, params);
  if (error_node != nullptr) *error_node = params.hErrNode_out;
  return result;
}

CUresult instantiate_with(CUgraphExec* exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS* params, bool per_thread) {
  if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const CUstream stream = params->hUploadStream;
  if (per_thread) params->hUploadStream = avec::driver::per_thread_if_default(stream);
  const CUresult result = graph_instantiate(exec, graph, *params);
  params->hUploadStream = stream;
  return result;
}

CUresult update(CUgraphExec exec, CUgraph graph, CUgraphNode* node, CUgraphExecUpdateResult* result) {
  CUgraphExecUpdateResultInfo info{};
  if (result == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const CUresult status = graph_exec_update(exec, graph, &info);
  *result = info.result;
  if (node != nullptr) *node = info.errorNode;
  return status;
}

}  // namespace

AVEC_DRIVER_CALL(cuGraphInstantiate,
                 (CUgraphExec * exec, CUgraph graph, CUgraphNode* error_node, char*, size_t),
                 instantiate(exec, graph, 0, error_node))
AVEC_DRIVER_CALL(cuGraphInstantiate_v2,
                 (CUgraphExec * exec, CUgraph graph, CUgraphNode* error_node, char*, size_t),
                 instantiate(exec, graph, 0, error_node))
AVEC_DRIVER_CALL(cuGraphInstantiateWithFlags, (CUgraphExec * exec, CUgraph graph, unsigned long long flags),
                 instantiate(exec, graph, flags, nullptr))
AVEC_DRIVER_CALL(cuGraphInstantiateWithParams,
                 (CUgraphExec * exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS* params),
                 instantiate_with(exec, graph, params, false))
extern "C" CUresult cuGraphInstantiateWithParams_ptsz(CUgraphExec* exec, CUgraph graph,
                                                      CUDA_GRAPH_INSTANTIATE_PARAMS* params) {
  return avec::driver::entry("cuGraphInstantiateWithParams",
                             [&] { return instantiate_with(exec, graph, params, true); });
}
AVEC_DRIVER_CALL(cuGraphExecDestroy, (CUgraphExec exec), graph_exec_destroy(exec))
AVEC_DRIVER_CALL(cuGraphExecGetFlags, (CUgraphExec exec, cuuint64_t* flags), graph_exec_flags(exec, flags))
AVEC_DRIVER_STREAM_CALL(cuGraphLaunch, (CUgraphExec exec, CUstream stream), graph_launch(exec, stream))
AVEC_DRIVER_STREAM_CALL(cuGraphUpload, (CUgraphExec exec, CUstream stream), graph_upload(exec, stream))
AVEC_DRIVER_CALL(cuGraphExecUpdate,
                 (CUgraphExec exec, CUgraph graph, CUgraphNode* node, CUgraphExecUpdateResult* result),
                 update(exec, graph, node, result))
AVEC_DRIVER_CALL(cuGraphExecUpdate_v2, (CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo* info),
                 graph_exec_update(exec, graph, info))
AVEC_DRIVER_CALL(cuGraphNodeSetEnabled, (CUgraphExec exec, CUgraphNode node, unsigned enabled),
                 graph_node_set_enabled(exec, node, enabled))
AVEC_DRIVER_CALL(cuGraphNodeGetEnabled, (CUgraphExec exec, CUgraphNode node, unsigned* enabled),
                 graph_node_get_enabled(exec, node, enabled))

AVEC_DRIVER_CALL(cuUserObjectCreate,
                 (CUuserObject * object, void* pointer, CUhostFn destroy, unsigned references, unsigned flags),
                 user_object_create(object, pointer, destroy, references, flags))
AVEC_DRIVER_CALL(cuUserObjectRetain, (CUuserObject object, unsigned count), user_object_retain(object, count))
AVEC_DRIVER_CALL(cuUserObjectRelease, (CUuserObject object, unsigned count), user_object_release(object, count))
AVEC_DRIVER_CALL(cuGraphRetainUserObject,
                 (CUgraph graph, CUuserObject object, unsigned count, unsigned flags),
                 graph_retain_user_object(graph, object, count, flags))
AVEC_DRIVER_CALL(cuGraphReleaseUserObject, (CUgraph graph, CUuserObject object, unsigned count),
                 graph_release_user_object(graph, object, count))
