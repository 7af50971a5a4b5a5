// Stream capture.
#include "api.h"

using namespace avec::runtime;

AVEC_STREAM_PAIR(cudaStreamBeginCapture, _ptsz, (cudaStream_t stream, cudaStreamCaptureMode mode),
                 return in_context([&] {
                   return cuStreamBeginCapture(resolve_stream<kDefault>(stream),
                                               static_cast<CUstreamCaptureMode>(mode));
                 });)

AVEC_STREAM_PAIR(cudaStreamBeginCaptureToGraph, _ptsz,
                 (cudaStream_t stream, cudaGraph_t graph, const cudaGraphNode_t* dependencies,
                  const cudaGraphEdgeData* data, size_t count, cudaStreamCaptureMode mode),
                 return in_context([&] {
                   return cuStreamBeginCaptureToGraph(resolve_stream<kDefault>(stream), graph, dependencies,
                                                      reinterpret_cast<const CUgraphEdgeData*>(data), count,
                                                      static_cast<CUstreamCaptureMode>(mode));
                 });)

AVEC_STREAM_PAIR(cudaStreamEndCapture, _ptsz, (cudaStream_t stream, cudaGraph_t* graph),
                 return in_context([&] {
                   return cuStreamEndCapture(resolve_stream<kDefault>(stream), graph);
                 });)

AVEC_STREAM_PAIR(cudaStreamGetCaptureInfo, _ptsz,
                 (cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long* id,
                  cudaGraph_t* graph, const cudaGraphNode_t** dependencies, const cudaGraphEdgeData** data,
                  size_t* count),
                 return in_context([&]() -> CUresult {
                   CUstreamCaptureStatus state = CU_STREAM_CAPTURE_STATUS_NONE;
                   cuuint64_t number = 0;
                   const CUresult got = cuStreamGetCaptureInfo(
                       resolve_stream<kDefault>(stream), status != nullptr ? &state : nullptr,
                       id != nullptr ? &number : nullptr, graph, dependencies,
                       reinterpret_cast<const CUgraphEdgeData**>(data), count);
                   if (got != CUDA_SUCCESS) return got;
                   *status = static_cast<cudaStreamCaptureStatus>(state);
                   if (id != nullptr && state == CU_STREAM_CAPTURE_STATUS_ACTIVE) *id = number;
                   return got;
                 });)

AVEC_STREAM_PAIR(cudaStreamUpdateCaptureDependencies, _ptsz,
                 (cudaStream_t stream, cudaGraphNode_t* dependencies, const cudaGraphEdgeData* data,
                  size_t count, unsigned flags),
                 return in_context([&] {
                   return cuStreamUpdateCaptureDependencies(resolve_stream<kDefault>(stream), dependencies,
                                                            reinterpret_cast<const CUgraphEdgeData*>(data),
                                                            count, flags);
                 });)

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  AVEC_COUNTED;
  if (mode == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&]() -> CUresult {
    auto swapped = static_cast<CUstreamCaptureMode>(*mode);
    const CUresult result = cuThreadExchangeStreamCaptureMode(&swapped);
    if (result == CUDA_SUCCESS) *mode = static_cast<cudaStreamCaptureMode>(swapped);
    return result;
  });
}
