#include "client/context.h"

#include "client/capture.h"
#include "client/graph.h"

#include <algorithm>
#include <utility>

#include "client/callbacks.h"
#include "client/array.h"
#include "client/client.h"
#include "client/coherence.h"
#include "client/device.h"
#include "client/event.h"
#include "client/heap.h"
#include "client/host_memory.h"
#include "client/memory_pool.h"
#include "client/managed.h"
#include "client/module.h"
#include "client/process.h"
#include "client/slab.h"
#include "client/status.h"
#include "client/stream.h"
#include "client/texture.h"
#include "session/session.h"

namespace avec::client {

thread_local constinit Context* current_context __attribute__((tls_model("initial-exec"))) = nullptr;

namespace {

/// Below the current context; the current one is only in `current_context`. Made anew where a
/// destructor of a static object calls CUDA: the main thread's own objects are gone by then.
std::vector<Context*>& pushed() {
  thread_local constinit std::vector<Context*>* stack = nullptr;
  struct Owner {
    ~Owner() { delete std::exchange(stack, nullptr); }
  };
  if (stack == nullptr) {
    thread_local Owner owner;
    stack = new std::vector<Context*>;
  }
  return *stack;
}

/// Orders activating and ending contexts; never held across a round trip.
std::mutex& lifecycle() {
  static auto* const mutex = new std::mutex;
  return *mutex;
}

bool valid_flags(unsigned flags) {
  const unsigned schedule = flags & CU_CTX_SCHED_MASK;
  return (flags & ~static_cast<unsigned>(CU_CTX_FLAGS_MASK)) == 0 && (schedule & (schedule - 1)) == 0;
}

/// Names the context and its default streams on the wire.
CUresult activate(Context& context) {
  Client& client = *context.client;
  const std::uint64_t name = client.mint(3);
  Stream* legacy = Slab<Stream>::make();
  if (legacy == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  legacy->context = &context;
  legacy->name = name + 1;
  legacy->is_default = true;
  context.id = name;
  if (client.active_contexts() != 0) client.note_unordered_streams();
  const auto posted = client.session().post(wire::ContextCreate(
      name, name + 1, name + 2, context.device->ordinal(), context.flags.load(), context.primary ? 1 : 0, 0));
  if (!posted) {
    Slab<Stream>::destroy(legacy);
    return to_cuda(posted.error());
  }
  context.legacy.store(legacy);
  context.name.store(name, std::memory_order_release);
  client.heap().ask_ahead(context);
  return CUDA_SUCCESS;
}

/// Ends the objects of this process that are in the context.
void forget_objects(Context& context) {
  forget_textures(context);
  forget_arrays(context);
  forget_modules(context);
  forget_events(context);
  forget_streams(context);
  forget_graphs(context);
}

void forget_legacy_stream(Context& context) {
  Stream* legacy = context.legacy.exchange(nullptr);
  if (legacy == nullptr) return;
  context.client->watched().forget(legacy->name);
  Slab<Stream>::destroy(legacy);
}

/// Ends everything in the context, which becomes inactive. The caller holds lifecycle().
void deactivate(Context& context) {
  const std::uint64_t name = context.name.exchange(0);
  if (name == 0) return;
  Client& client = *context.client;
  forget_objects(context);
  client.heap().release_all(context);
  if (context.primary) client.pools().release_all(context.device->ordinal());
  for (const HostBlock& block : client.host_memory().coherent_of(context)) {
    if (block.managed) {
      client.managed().release(block.base);
    } else {
      client.coherence().close(block.device_address);
    }
  }
  client.host_memory().release_all(context);
  client.coherence().forget(context);
  (void)client.session().post(wire::ContextDestroy(name));
  forget_legacy_stream(context);
  {
    std::scoped_lock lock(context.mutex);
    context.peers.clear();
    context.cache_config = CU_FUNC_CACHE_PREFER_NONE;
  }
  if (!client.lost()) context.error.store(CUDA_SUCCESS);
}

void pop_if_current(Context* context) {
  if (current_context != context) return;
  CUcontext ignored;
  context_pop(&ignored);
}

}  // namespace

Context* find_context(CUcontext handle) noexcept {
  Context* context = Slab<Context>::find(handle);
  return context != nullptr && (context->primary || context->active()) ? context : nullptr;
}

CUresult usable_context(Context*& context) noexcept {
  if (in_host_function) [[unlikely]]
    return CUDA_ERROR_NOT_PERMITTED;
  Context* current = current_context;
  if (current == nullptr) [[unlikely]] {
    CUresult error = CUDA_ERROR_INVALID_CONTEXT;
    process_client(error);
    return error;
  }
  const int sticky = current->error.load(std::memory_order_relaxed);
  if (sticky != CUDA_SUCCESS) [[unlikely]]
    return static_cast<CUresult>(sticky);
  if (!current->active()) [[unlikely]]
    return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  context = current;
  return CUDA_SUCCESS;
}

CUresult context_create(Client& client, CUcontext* handle, unsigned flags, CUdevice device) {
  if (handle == nullptr || !valid_flags(flags)) return CUDA_ERROR_INVALID_VALUE;
  if (client.device(device) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  Context* context = Slab<Context>::make();
  if (context == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  context->client = &client;
  context->device = client.device(device);
  context->flags.store(flags);
  client.add_context(context);
  std::scoped_lock lock(lifecycle());
  if (const CUresult result = activate(*context); result != CUDA_SUCCESS) return result;
  *handle = handle_of(context);
  return context_push(*handle);
}

CUresult context_destroy(CUcontext handle) {
  Context* context = find_context(handle);
  if (context == nullptr || context->primary) return CUDA_ERROR_INVALID_CONTEXT;
  pop_if_current(context);
  std::scoped_lock lock(lifecycle());
  // The object stays: other threads may have it current, and learn that it is destroyed.
  deactivate(*context);
  return CUDA_SUCCESS;
}

CUresult context_attach(CUcontext* handle, unsigned flags) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (handle == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  context->attached.fetch_add(1);
  *handle = handle_of(context);
  return CUDA_SUCCESS;
}

CUresult context_detach(CUcontext handle) {
  Context* context = find_context(handle);
  if (context == nullptr || context != current_context) return CUDA_ERROR_INVALID_CONTEXT;
  unsigned attached = context->attached.load();
  while (attached != 0 && !context->attached.compare_exchange_weak(attached, attached - 1)) {
  }
  return attached != 0 ? CUDA_SUCCESS : context_destroy(handle);
}

CUresult context_push(CUcontext handle) {
  Context* context = find_context(handle);
  if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (!context->active()) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  if (current_context != nullptr) pushed().push_back(current_context);
  current_context = context;
  return CUDA_SUCCESS;
}

CUresult context_pop(CUcontext* handle) {
  if (current_context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (handle != nullptr) *handle = handle_of(current_context);
  auto& stack = pushed();
  current_context = stack.empty() ? nullptr : stack.back();
  if (!stack.empty()) stack.pop_back();
  return CUDA_SUCCESS;
}

CUresult context_set_current(CUcontext handle) {
  if (handle == nullptr) {
    if (current_context == nullptr) return CUDA_SUCCESS;
    CUcontext ignored;
    return context_pop(&ignored);
  }
  Context* context = find_context(handle);
  if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (!context->active()) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  current_context = context;
  return CUDA_SUCCESS;
}

CUresult context_get_current(CUcontext* handle) {
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *handle = handle_of(current_context);
  return CUDA_SUCCESS;
}

CUresult context_get_device(CUdevice* device) {
  if (current_context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *device = current_context->device->ordinal();
  return CUDA_SUCCESS;
}

CUresult context_get_device_of(CUdevice* device, CUcontext handle) {
  if (handle == nullptr) return context_get_device(device);
  const Context* context = find_context(handle);
  if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *device = context->device->ordinal();
  return CUDA_SUCCESS;
}

CUresult context_get_flags(unsigned* flags) {
  if (current_context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (flags == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *flags = current_context->flags.load();
  return CUDA_SUCCESS;
}

CUresult context_set_flags(unsigned flags) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (!valid_flags(flags)) return CUDA_ERROR_INVALID_VALUE;
  context->flags.store(flags);
  return CUDA_SUCCESS;
}

CUresult context_get_id(CUcontext handle, unsigned long long* id) {
  const Context* context = handle == nullptr ? current_context : find_context(handle);
  if (context == nullptr)
    return handle == nullptr ? CUDA_ERROR_INVALID_CONTEXT : CUDA_ERROR_CONTEXT_IS_DESTROYED;
  if (id == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *id = context->id;
  return CUDA_SUCCESS;
}

CUresult context_get_api_version(CUcontext handle, unsigned* version) {
  const Context* context = handle == nullptr ? current_context : find_context(handle);
  if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (version == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *version = 3020;  // what every driver since 4.0 answers
  return CUDA_SUCCESS;
}

CUresult synchronize(Context& context) {
  if (const CUresult result = uncapturable(context); result != CUDA_SUCCESS) return result;
  if (const CUresult result = unsafe_call(); result != CUDA_SUCCESS) return result;
  Client& client = *context.client;
  const std::vector<Download> downloads = downloads_of(context);
  const std::uint64_t mark = client.heap().mark(), pools_mark = client.pools().mark();
  const std::uint64_t before = client.session().last_posted();
  CUresult own = to_cuda(client.session().call(wire::ContextSynchronize(context.name.load())));
  if (corrupts_context(own)) {
    context.error.store(own);
  } else if (client.active_contexts() == 1) {
    client.heap().drained(mark);
  }
  if (own == CUDA_SUCCESS) context.work_done.raise(before);
  if (own == CUDA_SUCCESS) client.pools().drained(pools_mark, 0, context.name.load());
  if (own == CUDA_SUCCESS) wait_for_downloads(client, downloads);
  own = host_sees(own, context);
  const CUresult result = client.synchronized(own);
  return result != CUDA_SUCCESS ? result : static_cast<CUresult>(context.error.load());
}

CUresult context_synchronize() {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  return synchronize(*context);
}

CUresult context_synchronize_of(CUcontext handle) {
  if (handle == nullptr) return context_synchronize();
  Context* context = find_context(handle);
  if (context == nullptr || !context->active()) return CUDA_ERROR_INVALID_CONTEXT;
  if (const int sticky = context->error.load(); sticky != CUDA_SUCCESS) return static_cast<CUresult>(sticky);
  return synchronize(*context);
}

CUresult context_get_limit(std::size_t* value, CUlimit limit) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (value == nullptr || limit < 0 || limit >= CU_LIMIT_MAX) return CUDA_ERROR_INVALID_VALUE;
  const auto reply = context->client->session().call(wire::ContextGetLimit(context->name.load(), limit, 0));
  if (!reply) return to_cuda(reply.error());
  *value = reply->value();
  return CUDA_SUCCESS;
}

CUresult context_set_limit(CUlimit limit, std::size_t value) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (limit < 0 || limit >= CU_LIMIT_MAX) return CUDA_ERROR_INVALID_VALUE;
  std::size_t known = 0;
  if (!context->device->limit(known, limit)) return CUDA_ERROR_UNSUPPORTED_LIMIT;
  return to_cuda(
      context->client->session().post(wire::ContextSetLimit(context->name.load(), limit, 0, value)));
}

CUresult context_get_cache_config(CUfunc_cache* config) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (config == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::scoped_lock lock(context->mutex);
  *config = static_cast<CUfunc_cache>(context->cache_config);
  return CUDA_SUCCESS;
}

CUresult context_set_cache_config(CUfunc_cache config) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (config < CU_FUNC_CACHE_PREFER_NONE || config > CU_FUNC_CACHE_PREFER_EQUAL)
    return CUDA_ERROR_INVALID_VALUE;
  {
    std::scoped_lock lock(context->mutex);
    context->cache_config = config;
  }
  return to_cuda(
      context->client->session().post(wire::ContextSetCacheConfig(context->name.load(), config, 0)));
}

CUresult context_stream_priority_range(int* least, int* greatest) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (least != nullptr) *least = context->device->least_priority();
  if (greatest != nullptr) *greatest = context->device->greatest_priority();
  return CUDA_SUCCESS;
}

CUresult context_enable_peer_access(CUcontext peer, unsigned flags) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  const Context* other = find_context(peer);
  if (other == nullptr || !other->active()) return CUDA_ERROR_INVALID_CONTEXT;
  const CUdevice device = context->device->ordinal(), peer_device = other->device->ordinal();
  if (device == peer_device) return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
  {
    std::scoped_lock lock(context->mutex);
    if (std::ranges::find(context->peers, other->name.load()) != context->peers.end())
      return CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
  }
  session::Session& session = context->client->session();
  const auto reply = session.call(wire::DeviceCanAccessPeer(device, peer_device));
  if (!reply) return to_cuda(reply.error());
  if (reply->can() == 0) return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
  std::scoped_lock lock(context->mutex);
  context->peers.push_back(other->name.load());
  return to_cuda(session.post(wire::ContextPeerAccess(context->name.load(), other->name.load(), 1, 0)));
}

CUresult context_disable_peer_access(CUcontext peer) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  const Context* other = find_context(peer);
  if (other == nullptr || !other->active()) return CUDA_ERROR_INVALID_CONTEXT;
  std::scoped_lock lock(context->mutex);
  if (std::erase(context->peers, other->name.load()) == 0) return CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
  return to_cuda(context->client->session().post(
      wire::ContextPeerAccess(context->name.load(), other->name.load(), 0, 0)));
}

CUresult context_exec_affinity(CUexecAffinityParam* affinity, CUexecAffinityType type) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (affinity == nullptr || type < 0 || type >= CU_EXEC_AFFINITY_TYPE_MAX) return CUDA_ERROR_INVALID_VALUE;
  return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
}

CUresult primary_retain(Client& client, CUcontext* handle, CUdevice device) {
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Context* context = client.primary(device);
  if (context == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  std::scoped_lock lock(lifecycle());
  if (const int sticky = context->error.load(); sticky != CUDA_SUCCESS && !context->active())
    return static_cast<CUresult>(sticky);
  if (!context->active()) {
    if (const CUresult result = activate(*context); result != CUDA_SUCCESS) return result;
  }
  context->retained.fetch_add(1);
  *handle = handle_of(context);
  return CUDA_SUCCESS;
}

CUresult primary_release(Client& client, CUdevice device) {
  Context* context = client.primary(device);
  if (context == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  std::scoped_lock lock(lifecycle());
  if (context->retained.load() == 0) return CUDA_ERROR_INVALID_CONTEXT;
  if (context->retained.fetch_sub(1) == 1) deactivate(*context);
  return CUDA_SUCCESS;
}

CUresult primary_reset(Client& client, CUdevice device) {
  Context* context = client.primary(device);
  if (context == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  std::scoped_lock lock(lifecycle());
  const auto sticky = static_cast<CUresult>(context->error.load());
  deactivate(*context);
  // A fault outlives the reset: until the process ends, its device can be had no more.
  if (!client.lost() && corrupts_context(sticky)) context->error.store(CUDA_ERROR_DEVICE_UNAVAILABLE);
  return CUDA_SUCCESS;
}

CUresult primary_get_state(Client& client, CUdevice device, unsigned* flags, int* active) {
  const Context* context = client.primary(device);
  if (context == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (flags == nullptr || active == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *flags = context->flags.load();
  *active = context->active() ? 1 : 0;
  return CUDA_SUCCESS;
}

CUresult primary_set_flags(Client& client, CUdevice device, unsigned flags) {
  Context* context = client.primary(device);
  if (context == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (!valid_flags(flags)) return CUDA_ERROR_INVALID_VALUE;
  context->flags.store(flags);
  return CUDA_SUCCESS;
}

void forget_context(Context& context) {
  context.name.store(0);
  forget_objects(context);
  forget_legacy_stream(context);
}

void forget_thread_after_fork() noexcept {
  current_context = nullptr;
  pushed().clear();
  forget_thread_streams_after_fork();
}

}  // namespace avec::client
