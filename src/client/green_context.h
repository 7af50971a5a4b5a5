// Parts of a device, green contexts that have only such a part, and events of whole contexts.
#pragma once

#include <cuda.h>

namespace avec::client {

class Client;

CUresult device_resource(Client& client, CUdevice device, CUdevResource* resource, CUdevResourceType type);
CUresult context_resource(CUcontext context, CUdevResource* resource, CUdevResourceType type);
CUresult green_resource(CUgreenCtx green, CUdevResource* resource, CUdevResourceType type);
CUresult resource_split(CUdevResource* parts, unsigned* count, const CUdevResource* resource, CUdevResource* remaining,
                        unsigned flags, unsigned minimum);
CUresult resource_describe(CUdevResourceDesc* description, const CUdevResource* resources, unsigned count);

/// A CUgreenCtx is its context's handle under another type.
CUresult green_create(Client& client, CUgreenCtx* green, CUdevResourceDesc description, CUdevice device, unsigned flags);
CUresult green_destroy(CUgreenCtx green);
CUresult green_context(CUcontext* context, CUgreenCtx green);
CUresult green_stream_create(CUstream* stream, CUgreenCtx green, unsigned flags, int priority);
CUresult green_record_event(CUgreenCtx green, CUevent event);
CUresult green_wait_event(CUgreenCtx green, CUevent event);
CUresult green_id(CUgreenCtx green, unsigned long long* id);
CUresult green_of_stream(CUstream stream, CUgreenCtx* green);
/// cuStreamGetCtx_v2: of a green context's stream, its device's primary context.
CUresult contexts_of_stream(CUstream stream, CUcontext* context, CUgreenCtx* green);

CUresult context_record_event(CUcontext context, CUevent event);
CUresult context_wait_event(CUcontext context, CUevent event);

}  // namespace avec::client
