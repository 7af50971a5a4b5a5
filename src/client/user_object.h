// User objects: what graphs keep alive. Their destructors run on this side.
#pragma once

#include <cuda.h>

#include <atomic>

namespace avec::client {

/// A CUuserObject is the address of one (Slab<UserObject>).
struct UserObject {
  void* pointer = nullptr;
  CUhostFn destroy = nullptr;
  std::atomic<unsigned> references{0};
};

CUresult user_object_create(CUuserObject* object, void* pointer, CUhostFn destroy, unsigned references,
                            unsigned flags);
CUresult user_object_retain(CUuserObject object, unsigned count);
CUresult user_object_release(CUuserObject object, unsigned count);
CUresult graph_retain_user_object(CUgraph graph, CUuserObject object, unsigned count, unsigned flags);
CUresult graph_release_user_object(CUgraph graph, CUuserObject object, unsigned count);

void add_references(UserObject& object, unsigned count);
/// The last reference takes the object with it: its destructor runs on the thread of host nodes.
void release_references(UserObject& object, unsigned count);

}  // namespace avec::client
