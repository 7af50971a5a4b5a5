// What CUDA's libraries on the CPU device share: their work is done in the order of a stream.
#pragma once

#include <cuda.h>

#include <functional>
#include <memory>
#include <new>
#include <utility>

namespace avec::cpu_libraries {

namespace detail {

using Work = std::function<void()>;

inline void CUDA_CB run_once(void* work) {
  const std::unique_ptr<Work> own(static_cast<Work*>(work));
  (*own)();
}
inline void CUDA_CB run_again(void* work) { (*static_cast<Work*>(work))(); }
inline void CUDA_CB release(void* work) { delete static_cast<Work*>(work); }

/// The graph that `stream` records, null when it records none.
inline CUresult recorded_graph(CUstream stream, CUgraph& graph) {
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  const CUresult error = cuStreamGetCaptureInfo(stream, &status, nullptr, &graph, nullptr, nullptr, nullptr);
  if (error != CUDA_SUCCESS) return error;
  if (status == CU_STREAM_CAPTURE_STATUS_INVALIDATED) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (status != CU_STREAM_CAPTURE_STATUS_ACTIVE) graph = nullptr;
  return CUDA_SUCCESS;
}

}  // namespace detail

/// Does `work` when what was put on `stream` before has been done, on a thread of the device; work put
/// there later comes after it. `work` must not throw and calls no CUDA function: it reads and writes memory.
/// On a stream that records, `work` becomes a node, is done at every launch of the graph, and lives as
/// long as the graph and what was made from it. In a context that has failed, `work` is never done.
/// Errors are those of cuLaunchHostFunc.
inline CUresult in_stream_order(CUstream stream, std::function<void()> work) {
  CUgraph graph = nullptr;
  if (const CUresult error = detail::recorded_graph(stream, graph)) return error;
  std::unique_ptr<detail::Work> own(new (std::nothrow) detail::Work(std::move(work)));
  if (!own) return CUDA_ERROR_OUT_OF_MEMORY;
  if (graph == nullptr) {
    const CUresult error = cuLaunchHostFunc(stream, detail::run_once, own.get());
    if (error == CUDA_SUCCESS) (void)own.release();
    return error;
  }
  CUuserObject object = nullptr;
  CUresult error =
      cuUserObjectCreate(&object, own.get(), detail::release, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC);
  if (error != CUDA_SUCCESS) return error;
  detail::Work* recorded = own.release();  // the object's
  error = cuGraphRetainUserObject(graph, object, 1, CU_GRAPH_USER_OBJECT_MOVE);
  if (error != CUDA_SUCCESS) {
    (void)cuUserObjectRelease(object, 1);
    return error;
  }
  return cuLaunchHostFunc(stream, detail::run_again, recorded);
}

/// The same, and waits until it is done: for results in the caller's memory. Refused while the stream records.
inline CUresult in_stream_order_and_wait(CUstream stream, std::function<void()> work) {
  CUgraph graph = nullptr;
  if (const CUresult error = detail::recorded_graph(stream, graph)) return error;
  if (graph != nullptr) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (const CUresult error = in_stream_order(stream, std::move(work))) return error;
  return cuStreamSynchronize(stream);
}

}  // namespace avec::cpu_libraries
