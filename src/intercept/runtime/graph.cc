// Graphs as wholes: creation, structure, copies, user objects, memory.
#include "api.h"
#include "graph_params.h"

using namespace avec::runtime;

cudaError_t cudaGraphCreate(cudaGraph_t* graph, unsigned flags) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphCreate(graph, flags); });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphDestroy(graph); });
}

cudaError_t cudaGraphClone(cudaGraph_t* clone, cudaGraph_t graph) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphClone(clone, graph); });
}

cudaError_t cudaGraphNodeFindInClone(cudaGraphNode_t* node, cudaGraphNode_t original, cudaGraph_t clone) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphNodeFindInClone(node, original, clone); });
}

cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* type) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphNodeGetType(node, reinterpret_cast<CUgraphNodeType*>(type)); });
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphGetNodes(graph, nodes, count); });
}

cudaError_t cudaGraphGetRootNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphGetRootNodes(graph, nodes, count); });
}

cudaError_t cudaGraphGetEdges(cudaGraph_t graph, cudaGraphNode_t* from, cudaGraphNode_t* to,
                              cudaGraphEdgeData* data, size_t* count) {
  AVEC_COUNTED;
  return in_context(
      [&] { return cuGraphGetEdges(graph, from, to, reinterpret_cast<CUgraphEdgeData*>(data), count); });
}

cudaError_t cudaGraphNodeGetDependencies(cudaGraphNode_t node, cudaGraphNode_t* nodes,
                                         cudaGraphEdgeData* data, size_t* count) {
  AVEC_COUNTED;
  return in_context([&] {
    return cuGraphNodeGetDependencies(node, nodes, reinterpret_cast<CUgraphEdgeData*>(data), count);
  });
}

cudaError_t cudaGraphNodeGetDependentNodes(cudaGraphNode_t node, cudaGraphNode_t* nodes,
                                           cudaGraphEdgeData* data, size_t* count) {
  AVEC_COUNTED;
  return in_context([&] {
    return cuGraphNodeGetDependentNodes(node, nodes, reinterpret_cast<CUgraphEdgeData*>(data), count);
  });
}

cudaError_t cudaGraphAddDependencies(cudaGraph_t graph, const cudaGraphNode_t* from,
                                     const cudaGraphNode_t* to, const cudaGraphEdgeData* data, size_t count) {
  AVEC_COUNTED;
  return in_context([&] {
    return cuGraphAddDependencies(graph, from, to, reinterpret_cast<const CUgraphEdgeData*>(data), count);
  });
}

cudaError_t cudaGraphRemoveDependencies(cudaGraph_t graph, const cudaGraphNode_t* from,
                                        const cudaGraphNode_t* to, const cudaGraphEdgeData* data,
                                        size_t count) {
  AVEC_COUNTED;
  return in_context([&] {
    return cuGraphRemoveDependencies(graph, from, to, reinterpret_cast<const CUgraphEdgeData*>(data), count);
  });
}

cudaError_t cudaGraphDestroyNode(cudaGraphNode_t node) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphDestroyNode(node); });
}

cudaError_t cudaGraphDebugDotPrint(cudaGraph_t graph, const char* path, unsigned flags) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphDebugDotPrint(graph, path, flags); });
}

cudaError_t cudaGraphConditionalHandleCreate(cudaGraphConditionalHandle* handle, cudaGraph_t graph,
                                             unsigned value, unsigned flags) {
  AVEC_COUNTED;
  if (handle == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&] {
    CUgraphConditionalHandle made = 0;
    const CUresult result = cuGraphConditionalHandleCreate(&made, graph, current_context(), value, flags);
    if (result == CUDA_SUCCESS) *handle = made;
    return result;
  });
}

cudaError_t cudaUserObjectCreate(cudaUserObject_t* object, void* pointer, cudaHostFn_t destroy,
                                 unsigned count, unsigned flags) {
  AVEC_COUNTED;
  return in_context([&] { return cuUserObjectCreate(object, pointer, destroy, count, flags); });
}

cudaError_t cudaUserObjectRetain(cudaUserObject_t object, unsigned count) {
  AVEC_COUNTED;
  return in_context([&] { return cuUserObjectRetain(object, count); });
}

cudaError_t cudaUserObjectRelease(cudaUserObject_t object, unsigned count) {
  AVEC_COUNTED;
  return in_context([&] { return cuUserObjectRelease(object, count); });
}

cudaError_t cudaGraphRetainUserObject(cudaGraph_t graph, cudaUserObject_t object, unsigned count,
                                      unsigned flags) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphRetainUserObject(graph, object, count, flags); });
}

cudaError_t cudaGraphReleaseUserObject(cudaGraph_t graph, cudaUserObject_t object, unsigned count) {
  AVEC_COUNTED;
  return in_context([&] { return cuGraphReleaseUserObject(graph, object, count); });
}

namespace {

/// A device by its number, then `body` on the driver's.
template <class Body>
cudaError_t on_device(int device, Body&& body) {
  CUdevice handle = 0;
  if (const cudaError_t checked = check_device(device, &handle); checked != cudaSuccess) return done(checked);
  return in_context([&] { return body(handle); });
}

}  // namespace

cudaError_t cudaDeviceGraphMemTrim(int device) {
  AVEC_COUNTED;
  return on_device(device, [](CUdevice handle) { return cuDeviceGraphMemTrim(handle); });
}

cudaError_t cudaDeviceGetGraphMemAttribute(int device, cudaGraphMemAttributeType attribute, void* value) {
  AVEC_COUNTED;
  return on_device(device, [&](CUdevice handle) {
    return cuDeviceGetGraphMemAttribute(handle, static_cast<CUgraphMem_attribute>(attribute), value);
  });
}

cudaError_t cudaDeviceSetGraphMemAttribute(int device, cudaGraphMemAttributeType attribute, void* value) {
  AVEC_COUNTED;
  return on_device(device, [&](CUdevice handle) {
    return cuDeviceSetGraphMemAttribute(handle, static_cast<CUgraphMem_attribute>(attribute), value);
  });
}
