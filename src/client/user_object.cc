#include "client/user_object.h"

#include <climits>

#include "client/graph.h"
#include "client/slab.h"

namespace avec::client {

void add_references(UserObject& object, unsigned count) { object.references.fetch_add(count); }

void release_references(UserObject& object, unsigned count) {
  if (object.references.fetch_sub(count) != count) return;
  const CUhostFn destroy = object.destroy;
  void* pointer = object.pointer;
  if (Slab<UserObject>::destroy(&object)) run_on_host([=] { destroy(pointer); });
}

CUresult user_object_create(CUuserObject* handle, void* pointer, CUhostFn destroy, unsigned references,
                            unsigned flags) {
  if (handle == nullptr || destroy == nullptr || references == 0 || references > INT_MAX ||
      flags != CU_USER_OBJECT_NO_DESTRUCTOR_SYNC) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  UserObject* object = Slab<UserObject>::make();
  if (object == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  object->pointer = pointer;
  object->destroy = destroy;
  object->references.store(references);
  *handle = reinterpret_cast<CUuserObject>(object);
  return CUDA_SUCCESS;
}

CUresult user_object_retain(CUuserObject handle, unsigned count) {
  UserObject* object = Slab<UserObject>::find(handle);
  if (object == nullptr || count == 0 || count > INT_MAX) return CUDA_ERROR_INVALID_VALUE;
  add_references(*object, count);
  return CUDA_SUCCESS;
}

CUresult user_object_release(CUuserObject handle, unsigned count) {
  UserObject* object = Slab<UserObject>::find(handle);
  if (object == nullptr || count == 0 || count > object->references.load()) return CUDA_ERROR_INVALID_VALUE;
  release_references(*object, count);
  return CUDA_SUCCESS;
}

CUresult graph_retain_user_object(CUgraph graph_handle, CUuserObject handle, unsigned count, unsigned flags) {
  std::scoped_lock lock(graphs_mutex);
  Graph* graph;
  if (const CUresult result = find_graph(graph_handle, graph); result != CUDA_SUCCESS) return result;
  UserObject* object = Slab<UserObject>::find(handle);
  if (object == nullptr || count == 0 || count > INT_MAX || (flags & ~unsigned{CU_GRAPH_USER_OBJECT_MOVE}) != 0)
    return CUDA_ERROR_INVALID_VALUE;
  if (flags == CU_GRAPH_USER_OBJECT_MOVE) {
    if (count > object->references.load()) return CUDA_ERROR_INVALID_VALUE;
  } else {
    add_references(*object, count);
  }
  for (UserReference& held : graph->user_objects) {
    if (held.object != object) continue;
    held.count += count;
    return CUDA_SUCCESS;
  }
  graph->user_objects.push_back({object, count});
  return CUDA_SUCCESS;
}

CUresult graph_release_user_object(CUgraph graph_handle, CUuserObject handle, unsigned count) {
  std::scoped_lock lock(graphs_mutex);
  Graph* graph;
  if (const CUresult result = find_graph(graph_handle, graph); result != CUDA_SUCCESS) return result;
  UserObject* object = Slab<UserObject>::find(handle);
  if (object == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
  for (auto held = graph->user_objects.begin(); held != graph->user_objects.end(); ++held) {
    if (held->object != object) continue;
    if (held->count < count) return CUDA_ERROR_INVALID_VALUE;
    held->count -= count;
    if (held->count == 0) graph->user_objects.erase(held);
    release_references(*object, count);
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

}  // namespace avec::client
