// Contexts, the per-thread stack of them, limits and peers.
#include "devices/cpu/attributes.h"
#include "devices/cpu/device.h"
#include "devices/cpu/graph/capture.h"

using namespace avec::cpu;

#undef cuCtxCreate

namespace {

CUresult create(CUcontext* handle, unsigned flags, CUdevice ordinal) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  if (handle == nullptr || (flags & ~static_cast<unsigned>(CU_CTX_FLAGS_MASK)) != 0)
    return CUDA_ERROR_INVALID_VALUE;
  if ((flags & CU_CTX_SCHED_MASK) > CU_CTX_SCHED_BLOCKING_SYNC) return CUDA_ERROR_INVALID_VALUE;
  const auto context = make_context(*device, flags, false);
  open_context(context);
  context_stack().push_back(context);
  *handle = as_handle<CUcontext>(context->handle);
  return CUDA_SUCCESS;
}

/// NULL means the current context.
CUresult context_of(CUcontext handle, ContextRef& context) {
  if (const auto error = initialised()) return error;
  if (handle == nullptr) return current_even_failed(context);
  context = state().contexts.find(handle);
  if (!context) return CUDA_ERROR_INVALID_CONTEXT;
  return context->alive.load() ? CUDA_SUCCESS : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

}  // namespace

extern "C" {

CUresult cuCtxCreate(CUcontext* context, unsigned flags, CUdevice device) {
  return create(context, flags, device);
}
CUresult cuCtxCreate_v2(CUcontext* context, unsigned flags, CUdevice device) {
  return create(context, flags, device);
}

CUresult cuCtxCreate_v3(CUcontext* context, CUexecAffinityParam* affinity, int count, unsigned flags,
                        CUdevice device) {
  if (count != 0 || affinity != nullptr) return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
  return create(context, flags, device);
}

CUresult cuCtxCreate_v4(CUcontext* context, CUctxCreateParams* parameters, unsigned flags, CUdevice device) {
  if (parameters != nullptr) {
    if (parameters->numExecAffinityParams != 0) return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
    if (parameters->cigParams != nullptr) return CUDA_ERROR_NOT_SUPPORTED;
  }
  return create(context, flags, device);
}

CUresult cuCtxDestroy_v2(CUcontext handle) {
  if (const auto error = initialised()) return error;
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  auto context = state().contexts.find(handle);
  // A primary context is released, never destroyed.
  if (!context || context->primary) return CUDA_ERROR_INVALID_CONTEXT;
  if (!state().contexts.remove(handle)) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  close_context(context);
  auto& stack = context_stack();
  if (!stack.empty() && stack.back() == context) stack.pop_back();
  return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent_v2(CUcontext handle) {
  if (const auto error = initialised()) return error;
  if (handle == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  auto context = state().contexts.find(handle);
  if (!context) return CUDA_ERROR_INVALID_CONTEXT;
  context_stack().push_back(std::move(context));
  return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(CUcontext* handle) {
  if (const auto error = initialised()) return error;
  auto& stack = context_stack();
  if (stack.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  if (handle != nullptr) *handle = as_handle<CUcontext>(stack.back() ? stack.back()->handle : 0);
  stack.pop_back();
  return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext handle) {
  if (const auto error = initialised()) return error;
  auto& stack = context_stack();
  ContextRef context;
  if (handle != nullptr) {
    context = state().contexts.find(handle);
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
  }
  if (!stack.empty()) stack.pop_back();
  if (context) stack.push_back(std::move(context));
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext* handle) {
  if (const auto error = initialised()) return error;
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto& stack = context_stack();
  *handle = as_handle<CUcontext>(stack.empty() || !stack.back() ? 0 : stack.back()->handle);
  return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice* device) {
  ContextRef context;
  if (const auto error = current_even_failed(context)) return error;
  if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *device = context->device.ordinal;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice_v2(CUdevice* device, CUcontext handle) {
  ContextRef context;
  if (const auto error = context_of(handle, context)) return error;
  if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *device = context->device.ordinal;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetFlags(unsigned* flags) {
  ContextRef context;
  if (const auto error = current_even_failed(context)) return error;
  if (flags == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *flags = context->flags.load();
  return CUDA_SUCCESS;
}

CUresult cuCtxSetFlags(unsigned flags) {
  ContextRef context;
  if (const auto error = current_even_failed(context)) return error;
  if ((flags & ~static_cast<unsigned>(CU_CTX_FLAGS_MASK)) != 0) return CUDA_ERROR_INVALID_VALUE;
  context->flags = flags;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetId(CUcontext handle, unsigned long long* id) {
  ContextRef context;
  if (const auto error = context_of(handle, context)) return error;
  if (id == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *id = context->id;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetApiVersion(CUcontext handle, unsigned* version) {
  ContextRef context;
  if (const auto error = context_of(handle, context)) return error;
  if (version == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *version = 3020;  // the context interface of CUDA 3.2 is still the newest
  return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize() {
  ContextRef context;
  if (const auto error = current_even_failed(context)) return error;
  if (const auto error = refuse_capture(*context)) return error;
  return synchronize(context);
}

CUresult cuCtxSynchronize_v2(CUcontext handle) {
  ContextRef context;
  if (const auto error = context_of(handle, context)) return error;
  if (const auto error = refuse_capture(*context)) return error;
  return synchronize(context);
}

CUresult cuCtxSetLimit(CUlimit limit, size_t value) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (limit < 0 || limit >= CU_LIMIT_MAX) return CUDA_ERROR_INVALID_VALUE;
  switch (limit) {
    case CU_LIMIT_STACK_SIZE:
      if (value > (512u << 10)) return CUDA_ERROR_INVALID_VALUE;
      value = (value + 15) / 16 * 16;
      break;
    case CU_LIMIT_PRINTF_FIFO_SIZE:
    case CU_LIMIT_MALLOC_HEAP_SIZE:
    case CU_LIMIT_PERSISTING_L2_CACHE_SIZE:
      break;
    case CU_LIMIT_MAX_L2_FETCH_GRANULARITY:
      if (value > 128) return CUDA_ERROR_INVALID_VALUE;
      break;
    default:
      return CUDA_ERROR_UNSUPPORTED_LIMIT;
  }
  context->limits[limit] = value;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetLimit(size_t* value, CUlimit limit) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (value == nullptr || limit < 0 || limit >= CU_LIMIT_MAX) return CUDA_ERROR_INVALID_VALUE;
  if (limit == CU_LIMIT_SHMEM_SIZE || limit > CU_LIMIT_PERSISTING_L2_CACHE_SIZE)
    return CUDA_ERROR_UNSUPPORTED_LIMIT;
  *value = context->limits[limit].load();
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCacheConfig(CUfunc_cache* config) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (config == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *config = static_cast<CUfunc_cache>(context->cache_config.load());
  return CUDA_SUCCESS;
}

CUresult cuCtxSetCacheConfig(CUfunc_cache config) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (config < CU_FUNC_CACHE_PREFER_NONE || config > CU_FUNC_CACHE_PREFER_EQUAL)
    return CUDA_ERROR_INVALID_VALUE;
  context->cache_config = config;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetSharedMemConfig(CUsharedconfig* config) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (config == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *config = CU_SHARED_MEM_CONFIG_FOUR_BYTE_BANK_SIZE;
  return CUDA_SUCCESS;
}

CUresult cuCtxSetSharedMemConfig(CUsharedconfig config) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  return config < 0 || config > CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE ? CUDA_ERROR_INVALID_VALUE
                                                                          : CUDA_SUCCESS;
}

CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (least != nullptr) *least = kLeastPriority;
  if (greatest != nullptr) *greatest = kGreatestPriority;
  return CUDA_SUCCESS;
}

CUresult cuCtxResetPersistingL2Cache() {
  ContextRef context;
  return current(context);
}

CUresult cuCtxEnablePeerAccess(CUcontext peer_handle, unsigned flags) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  const auto peer = state().contexts.find(peer_handle);
  if (!peer || !peer->alive.load()) return CUDA_ERROR_INVALID_CONTEXT;
  if (&peer->device == &context->device) return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
  const std::uint32_t bit = 1u << peer->device.ordinal;
  return context->peer_devices.fetch_or(bit) & bit ? CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED : CUDA_SUCCESS;
}

CUresult cuCtxDisablePeerAccess(CUcontext peer_handle) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  const auto peer = state().contexts.find(peer_handle);
  if (!peer) return CUDA_ERROR_INVALID_CONTEXT;
  const std::uint32_t bit = 1u << peer->device.ordinal;
  return context->peer_devices.fetch_and(~bit) & bit ? CUDA_SUCCESS : CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
}

}  // extern "C"
