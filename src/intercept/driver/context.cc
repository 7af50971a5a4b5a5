#include "client/context.h"

#include "client/client.h"
#include "entry.h"

using namespace avec::client;

AVEC_DRIVER_CLIENT_CALL(cuCtxCreate, (CUcontext * context, unsigned flags, CUdevice device),
                        context_create(client, context, flags, device))
AVEC_DRIVER_CALL(cuCtxAttach, (CUcontext * context, unsigned flags), context_attach(context, flags))
AVEC_DRIVER_CALL(cuCtxDetach, (CUcontext context), context_detach(context))
AVEC_DRIVER_CLIENT_CALL(cuCtxCreate_v2, (CUcontext * context, unsigned flags, CUdevice device),
                        context_create(client, context, flags, device))
AVEC_DRIVER_CLIENT_CALL(cuCtxCreate_v3,
                        (CUcontext * context, CUexecAffinityParam*, int affinities, unsigned flags,
                         CUdevice device),
                        affinities != 0 ? CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY
                                        : context_create(client, context, flags, device))

namespace {

CUresult create_with_parameters(Client& client, CUcontext* context, const CUctxCreateParams* parameters,
                                unsigned flags, CUdevice device) {
  if (parameters != nullptr) {
    if (parameters->numExecAffinityParams != 0) return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
    if (parameters->cigParams != nullptr) return CUDA_ERROR_NOT_SUPPORTED;
  }
  return context_create(client, context, flags, device);
}

}  // namespace

AVEC_DRIVER_CLIENT_CALL(cuCtxCreate_v4,
                        (CUcontext * context, CUctxCreateParams* parameters, unsigned flags, CUdevice device),
                        create_with_parameters(client, context, parameters, flags, device))
AVEC_DRIVER_CALL(cuCtxDestroy, (CUcontext context), context_destroy(context))
AVEC_DRIVER_CALL(cuCtxDestroy_v2, (CUcontext context), context_destroy(context))
AVEC_DRIVER_CALL(cuCtxPushCurrent, (CUcontext context), context_push(context))
AVEC_DRIVER_CALL(cuCtxPushCurrent_v2, (CUcontext context), context_push(context))
AVEC_DRIVER_CALL(cuCtxPopCurrent, (CUcontext * context), context_pop(context))
AVEC_DRIVER_CALL(cuCtxPopCurrent_v2, (CUcontext * context), context_pop(context))
AVEC_DRIVER_CLIENT_CALL(cuCtxSetCurrent, (CUcontext context),
                        (static_cast<void>(client), context_set_current(context)))
AVEC_DRIVER_CLIENT_CALL(cuCtxGetCurrent, (CUcontext * context),
                        (static_cast<void>(client), context_get_current(context)))
AVEC_DRIVER_CALL(cuCtxGetDevice, (CUdevice * device), context_get_device(device))
AVEC_DRIVER_CALL(cuCtxGetDevice_v2, (CUdevice * device, CUcontext context),
                 context_get_device_of(device, context))
AVEC_DRIVER_CALL(cuCtxGetFlags, (unsigned* flags), context_get_flags(flags))
AVEC_DRIVER_CALL(cuCtxSetFlags, (unsigned flags), context_set_flags(flags))
AVEC_DRIVER_CALL(cuCtxGetId, (CUcontext context, unsigned long long* id), context_get_id(context, id))
AVEC_DRIVER_CALL(cuCtxGetApiVersion, (CUcontext context, unsigned* version),
                 context_get_api_version(context, version))
AVEC_DRIVER_CALL(cuCtxSynchronize, (), context_synchronize())
AVEC_DRIVER_CALL(cuCtxSynchronize_v2, (CUcontext context), context_synchronize_of(context))
AVEC_DRIVER_CALL(cuCtxGetLimit, (size_t* value, CUlimit limit), context_get_limit(value, limit))
AVEC_DRIVER_CALL(cuCtxSetLimit, (CUlimit limit, size_t value), context_set_limit(limit, value))
AVEC_DRIVER_CALL(cuCtxGetCacheConfig, (CUfunc_cache * config), context_get_cache_config(config))
AVEC_DRIVER_CALL(cuCtxSetCacheConfig, (CUfunc_cache config), context_set_cache_config(config))
AVEC_DRIVER_CALL(cuCtxGetStreamPriorityRange, (int* least, int* greatest),
                 context_stream_priority_range(least, greatest))
AVEC_DRIVER_CALL(cuCtxEnablePeerAccess, (CUcontext peer, unsigned flags),
                 context_enable_peer_access(peer, flags))
AVEC_DRIVER_CALL(cuCtxDisablePeerAccess, (CUcontext peer), context_disable_peer_access(peer))
AVEC_DRIVER_CALL(cuCtxGetExecAffinity, (CUexecAffinityParam * affinity, CUexecAffinityType type),
                 context_exec_affinity(affinity, type))
