#include "client/green_context.h"

#include "client/client.h"
#include "client/context.h"
#include "client/device.h"
#include "client/logs.h"
#include "entry.h"

using namespace avec::client;

AVEC_DRIVER_CLIENT_CALL(cuDeviceGetDevResource, (CUdevice device, CUdevResource* resource, CUdevResourceType type),
                        device_resource(client, device, resource, type))
AVEC_DRIVER_CALL(cuCtxGetDevResource, (CUcontext context, CUdevResource* resource, CUdevResourceType type),
                 context_resource(context, resource, type))
AVEC_DRIVER_CALL(cuGreenCtxGetDevResource, (CUgreenCtx green, CUdevResource* resource, CUdevResourceType type),
                 green_resource(green, resource, type))
AVEC_DRIVER_CALL(cuDevSmResourceSplitByCount,
                 (CUdevResource * parts, unsigned* count, const CUdevResource* resource, CUdevResource* remaining,
                  unsigned flags, unsigned minimum),
                 resource_split(parts, count, resource, remaining, flags, minimum))
AVEC_DRIVER_CALL(cuDevResourceGenerateDesc, (CUdevResourceDesc * description, CUdevResource* resources, unsigned count),
                 resource_describe(description, resources, count))
AVEC_DRIVER_CLIENT_CALL(cuGreenCtxCreate,
                        (CUgreenCtx * green, CUdevResourceDesc description, CUdevice device, unsigned flags),
                        green_create(client, green, description, device, flags))
AVEC_DRIVER_CALL(cuGreenCtxDestroy, (CUgreenCtx green), green_destroy(green))
AVEC_DRIVER_CALL(cuCtxFromGreenCtx, (CUcontext * context, CUgreenCtx green), green_context(context, green))
AVEC_DRIVER_CALL(cuGreenCtxStreamCreate, (CUstream * stream, CUgreenCtx green, unsigned flags, int priority),
                 green_stream_create(stream, green, flags, priority))
AVEC_DRIVER_CALL(cuGreenCtxRecordEvent, (CUgreenCtx green, CUevent event), green_record_event(green, event))
AVEC_DRIVER_CALL(cuGreenCtxWaitEvent, (CUgreenCtx green, CUevent event), green_wait_event(green, event))
AVEC_DRIVER_CALL(cuGreenCtxGetId, (CUgreenCtx green, unsigned long long* id), green_id(green, id))
AVEC_DRIVER_CALL(cuStreamGetGreenCtx, (CUstream stream, CUgreenCtx* green), green_of_stream(stream, green))
AVEC_DRIVER_CALL(cuCtxRecordEvent, (CUcontext context, CUevent event), context_record_event(context, event))
AVEC_DRIVER_CALL(cuCtxWaitEvent, (CUcontext context, CUevent event), context_wait_event(context, event))

AVEC_DRIVER_CLIENT_CALL(cuDeviceGetHostAtomicCapabilities,
                        (unsigned* capabilities, const CUatomicOperation* operations, unsigned count, CUdevice device),
                        device_host_atomics(client, capabilities, operations, count, device))
AVEC_DRIVER_CLIENT_CALL(cuDeviceGetP2PAtomicCapabilities,
                        (unsigned* capabilities, const CUatomicOperation* operations, unsigned count, CUdevice from,
                         CUdevice to),
                        device_peer_atomics(client, capabilities, operations, count, from, to))

AVEC_DRIVER_CALL(cuLogsRegisterCallback, (CUlogsCallback callback, void* data, CUlogsCallbackHandle* handle),
                 logs_register(callback, data, handle))
AVEC_DRIVER_CALL(cuLogsUnregisterCallback, (CUlogsCallbackHandle handle), logs_unregister(handle))
AVEC_DRIVER_CALL(cuLogsCurrent, (CUlogIterator * iterator, unsigned flags), logs_current(iterator, flags))
AVEC_DRIVER_CALL(cuLogsDumpToFile, (CUlogIterator*, const char* path, unsigned flags), logs_to_file(path, flags))
AVEC_DRIVER_CALL(cuLogsDumpToMemory, (CUlogIterator*, char* buffer, size_t* size, unsigned flags),
                 logs_to_memory(buffer, size, flags))
