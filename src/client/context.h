// Contexts and each thread's stack of them.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <unordered_set>
#include <vector>

#include "client/progress.h"

namespace avec::client {

class Client;
class Device;
struct Stream;
struct Event;
struct Module;
struct Graph;
struct GraphExec;

/// A CUcontext is the address of one (Slab<Context>). A primary context's object lives as long
/// as its client; its wire name is new each time it is activated.
struct Context {
  Client* client = nullptr;
  Device* device = nullptr;
  bool primary = false;
  bool green = false;  ///< has a part of the device (green_context.h)
  std::atomic<unsigned> flags{0};
  std::uint64_t id = 0;

  std::atomic<std::uint64_t> name{0};    ///< on the wire; 0: not active
  std::atomic<Stream*> legacy{nullptr};  ///< the default stream
  std::atomic<int> error{CUDA_SUCCESS};  ///< sticky: what every call returns from now on
  LastWork blocking_work;                ///< of the streams that the legacy stream waits for
  Highest work_done;                     ///< all its work in frames up to here has finished
  std::atomic<int> blocking_captures{0};  ///< streams that capture and exclude the default stream
  std::atomic<bool> any_downloads{false};  ///< false: no stream has begun one (downloads.h)
  std::atomic<unsigned> attached{0};     ///< by cuCtxAttach, not yet detached
  std::atomic<unsigned> retained{0};     ///< primary: retains not yet released

  std::mutex mutex;  ///< guards what follows
  std::unordered_set<Stream*> streams;
  std::unordered_set<Event*> events;
  std::unordered_set<Module*> modules;
  std::unordered_set<Graph*> graphs;
  std::unordered_set<GraphExec*> graph_execs;
  std::vector<std::uint64_t> peers;  ///< names of contexts whose peer access is enabled
  /// Host functions that streams which wait for the legacy stream come after (callbacks.cc guards it).
  std::vector<std::uint64_t> functions;
  int cache_config = CU_FUNC_CACHE_PREFER_NONE;

  bool active() const { return name.load(std::memory_order_acquire) != 0; }
};

inline CUcontext handle_of(Context* context) { return reinterpret_cast<CUcontext>(context); }
/// Modules and events of one are usable in the other: a device's green contexts share its primary
/// context's.
inline bool share_objects(const Context& a, const Context& b) {
  return &a == &b || (a.device == b.device && (a.primary || a.green) && (b.primary || b.green));
}
/// Null when the handle is none of ours or its context has been destroyed.
Context* find_context(CUcontext handle) noexcept;

/// This thread's current context, or null. Initial-exec: one load on the launch path.
extern thread_local constinit Context* current_context __attribute__((tls_model("initial-exec")));

/// The current context ready for work. CUDA_ERROR_INVALID_CONTEXT when there is none (or
/// CUDA_ERROR_NOT_INITIALIZED), CUDA_ERROR_CONTEXT_IS_DESTROYED, or its sticky error.
CUresult usable_context(Context*& context) noexcept;

CUresult context_create(Client& client, CUcontext* context, unsigned flags, CUdevice device);
CUresult context_destroy(CUcontext context);
CUresult context_attach(CUcontext* context, unsigned flags);
CUresult context_detach(CUcontext context);
CUresult context_push(CUcontext context);
CUresult context_pop(CUcontext* context);
CUresult context_set_current(CUcontext context);
CUresult context_get_current(CUcontext* context);
CUresult context_get_device(CUdevice* device);
CUresult context_get_device_of(CUdevice* device, CUcontext context);
CUresult context_get_flags(unsigned* flags);
CUresult context_set_flags(unsigned flags);
CUresult context_get_id(CUcontext context, unsigned long long* id);
CUresult context_get_api_version(CUcontext context, unsigned* version);
CUresult context_synchronize();
CUresult context_synchronize_of(CUcontext context);
CUresult context_get_limit(std::size_t* value, CUlimit limit);
CUresult context_set_limit(CUlimit limit, std::size_t value);
CUresult context_get_cache_config(CUfunc_cache* config);
CUresult context_set_cache_config(CUfunc_cache config);
CUresult context_stream_priority_range(int* least, int* greatest);
CUresult context_enable_peer_access(CUcontext peer, unsigned flags);
CUresult context_disable_peer_access(CUcontext peer);
CUresult context_exec_affinity(CUexecAffinityParam* affinity, CUexecAffinityType type);

CUresult primary_retain(Client& client, CUcontext* context, CUdevice device);
CUresult primary_release(Client& client, CUdevice device);
CUresult primary_reset(Client& client, CUdevice device);
CUresult primary_get_state(Client& client, CUdevice device, unsigned* flags, int* active);
CUresult primary_set_flags(Client& client, CUdevice device, unsigned flags);

/// Waits for all work of the context and returns its error.
CUresult synchronize(Context& context);

/// Its client goes: nothing of it is found by its handle any more, nothing is sent.
void forget_context(Context& context);

/// In the child of a fork: the one thread that is left has no current context.
void forget_thread_after_fork() noexcept;

}  // namespace avec::client
