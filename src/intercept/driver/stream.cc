#include "client/stream.h"

#include "client/callbacks.h"
#include "client/capture.h"
#include "client/event.h"
#include "client/green_context.h"
#include "client/launch_attributes.h"
#include "entry.h"

using namespace avec::client;

AVEC_DRIVER_CALL(cuStreamCreate, (CUstream * stream, unsigned flags), stream_create(stream, flags, 0))
AVEC_DRIVER_CALL(cuStreamCreateWithPriority, (CUstream * stream, unsigned flags, int priority),
                 stream_create(stream, flags, priority))
AVEC_DRIVER_CALL(cuStreamDestroy, (CUstream stream), stream_destroy(stream))
AVEC_DRIVER_CALL(cuStreamDestroy_v2, (CUstream stream), stream_destroy(stream))
AVEC_DRIVER_STREAM_CALL(cuStreamQuery, (CUstream stream), stream_query(stream))
AVEC_DRIVER_STREAM_CALL(cuStreamSynchronize, (CUstream stream), stream_synchronize(stream))
AVEC_DRIVER_STREAM_CALL(cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned flags),
                        stream_wait_event(stream, event, flags))
AVEC_DRIVER_STREAM_CALL(cuStreamGetFlags, (CUstream stream, unsigned* flags), stream_get_flags(stream, flags))
AVEC_DRIVER_STREAM_CALL(cuStreamGetPriority, (CUstream stream, int* priority),
                        stream_get_priority(stream, priority))
AVEC_DRIVER_STREAM_CALL(cuStreamGetCtx, (CUstream stream, CUcontext* context),
                        stream_get_context(stream, context))
AVEC_DRIVER_STREAM_CALL(cuStreamGetCtx_v2, (CUstream stream, CUcontext* context, CUgreenCtx* green),
                        contexts_of_stream(stream, context, green))
AVEC_DRIVER_STREAM_CALL(cuStreamGetId, (CUstream stream, unsigned long long* id), stream_get_id(stream, id))
AVEC_DRIVER_STREAM_CALL(cuStreamGetDevice, (CUstream stream, CUdevice* device),
                        stream_get_device(stream, device))
AVEC_DRIVER_STREAM_CALL(cuStreamIsCapturing, (CUstream stream, CUstreamCaptureStatus* status),
                        stream_is_capturing(stream, status))
AVEC_DRIVER_STREAM_CALL(cuStreamGetCaptureInfo,
                        (CUstream stream, CUstreamCaptureStatus* status, cuuint64_t* id),
                        stream_capture_info(stream, status, id, nullptr, nullptr, nullptr, nullptr))
AVEC_DRIVER_STREAM_CALL(cuStreamGetCaptureInfo_v2,
                        (CUstream stream, CUstreamCaptureStatus* status, cuuint64_t* id, CUgraph* graph,
                         const CUgraphNode** dependencies, size_t* count),
                        stream_capture_info(stream, status, id, graph, dependencies, nullptr, count))
AVEC_DRIVER_STREAM_CALL(cuStreamGetCaptureInfo_v3,
                        (CUstream stream, CUstreamCaptureStatus* status, cuuint64_t* id, CUgraph* graph,
                         const CUgraphNode** dependencies, const CUgraphEdgeData** edges, size_t* count),
                        stream_capture_info(stream, status, id, graph, dependencies, edges, count))
AVEC_DRIVER_STREAM_CALL(cuStreamBeginCapture, (CUstream stream),
                        stream_begin_capture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL))
AVEC_DRIVER_STREAM_CALL(cuStreamBeginCapture_v2, (CUstream stream, CUstreamCaptureMode mode),
                        stream_begin_capture(stream, mode))
AVEC_DRIVER_STREAM_CALL(cuStreamBeginCaptureToGraph,
                        (CUstream stream, CUgraph graph, const CUgraphNode* dependencies,
                         const CUgraphEdgeData* edges, size_t count, CUstreamCaptureMode mode),
                        stream_begin_capture_to(stream, graph, dependencies, edges, count, mode))
AVEC_DRIVER_STREAM_CALL(cuStreamEndCapture, (CUstream stream, CUgraph* graph), stream_end_capture(stream, graph))
AVEC_DRIVER_STREAM_CALL(cuStreamUpdateCaptureDependencies,
                        (CUstream stream, CUgraphNode* dependencies, size_t count, unsigned flags),
                        stream_update_dependencies(stream, dependencies, nullptr, count, flags))
AVEC_DRIVER_STREAM_CALL(cuStreamUpdateCaptureDependencies_v2,
                        (CUstream stream, CUgraphNode* dependencies, const CUgraphEdgeData* edges, size_t count,
                         unsigned flags),
                        stream_update_dependencies(stream, dependencies, edges, count, flags))
AVEC_DRIVER_CALL(cuThreadExchangeStreamCaptureMode, (CUstreamCaptureMode * mode), exchange_capture_mode(mode))
AVEC_DRIVER_STREAM_CALL(cuLaunchHostFunc, (CUstream stream, CUhostFn function, void* data),
                        launch_host_function(stream, function, data))
AVEC_DRIVER_STREAM_CALL(cuStreamAddCallback,
                        (CUstream stream, CUstreamCallback callback, void* data, unsigned flags),
                        add_callback(stream, callback, data, flags))

AVEC_DRIVER_STREAM_CALL(cuStreamGetAttribute,
                        (CUstream stream, CUstreamAttrID which, CUstreamAttrValue* value),
                        stream_get_attribute(stream, which, value))
AVEC_DRIVER_STREAM_CALL(cuStreamSetAttribute,
                        (CUstream stream, CUstreamAttrID which, const CUstreamAttrValue* value),
                        stream_set_attribute(stream, which, value))
AVEC_DRIVER_STREAM_CALL(cuStreamCopyAttributes, (CUstream stream, CUstream from),
                        stream_copy_attributes(stream, from))

AVEC_DRIVER_CALL(cuEventCreate, (CUevent * event, unsigned flags), event_create(event, flags))
AVEC_DRIVER_CALL(cuEventDestroy, (CUevent event), event_destroy(event))
AVEC_DRIVER_CALL(cuEventDestroy_v2, (CUevent event), event_destroy(event))
AVEC_DRIVER_STREAM_CALL(cuEventRecord, (CUevent event, CUstream stream),
                        event_record(event, stream, CU_EVENT_RECORD_DEFAULT))
AVEC_DRIVER_STREAM_CALL(cuEventRecordWithFlags, (CUevent event, CUstream stream, unsigned flags),
                        event_record(event, stream, flags))
AVEC_DRIVER_CALL(cuEventQuery, (CUevent event), event_query(event))
AVEC_DRIVER_CALL(cuEventSynchronize, (CUevent event), event_synchronize(event))
AVEC_DRIVER_CALL(cuEventElapsedTime, (float* milliseconds, CUevent start, CUevent end),
                 event_elapsed_time(milliseconds, start, end))
AVEC_DRIVER_CALL(cuEventElapsedTime_v2, (float* milliseconds, CUevent start, CUevent end),
                 event_elapsed_time(milliseconds, start, end))
