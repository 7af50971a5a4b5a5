// Stream capture on the client: which streams take part, and what the application may not do meanwhile.
// The executor captures in relaxed mode; CUDA's modes are enforced here.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace avec::client {

struct Context;
struct Event;
struct Graph;
struct Stream;

/// A capture sequence, from the begin to the end of its capture (Slab<Capture>). Its memory stays
/// readable for good: a stream's pointer to it may be read without a lock.
struct Capture {
  Context* context = nullptr;
  std::uint64_t id = 0;
  Stream* origin = nullptr;  ///< where it was begun
  Graph* graph = nullptr;
  bool existing = false;     ///< the graph was there before
  CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  std::thread::id thread;
  std::atomic<bool> invalid{false};
  std::vector<Stream*> streams;  ///< that take part; guarded by the lock of all captures
};

/// Captures under way in this process: 0 makes every check below one load.
extern std::atomic<int> captures_under_way;

/// What a potentially unsafe call returns while the calling thread may not make one; the captures that it
/// endangers are invalidated.
CUresult unsafe_call_slow() noexcept;
inline CUresult unsafe_call() noexcept {
  return captures_under_way.load(std::memory_order_relaxed) == 0 ? CUDA_SUCCESS : unsafe_call_slow();
}
/// What a call that adds work to the stream returns because of captures.
CUresult capture_allows_slow(Stream& stream) noexcept;
inline CUresult capture_allows(Stream& stream) noexcept {
  return captures_under_way.load(std::memory_order_relaxed) == 0 ? CUDA_SUCCESS : capture_allows_slow(stream);
}
/// The stream captures (or did, until its capture was invalidated).
bool is_capturing(const Stream& stream) noexcept;
/// A call that cannot be captured was made on a stream: what it returns. CUDA_SUCCESS: it does not capture.
CUresult uncapturable(Stream& stream) noexcept;
/// The same for a call that waits for, or asks about, all of a context.
CUresult uncapturable(Context& context) noexcept;

/// What a capture makes of recording and waiting for events; `handled`: nothing else is to be done.
CUresult capture_record(Event& event, Stream& stream, unsigned flags, bool& handled);
CUresult capture_wait(Stream& stream, Event& event, unsigned flags, bool& handled);
/// CUDA_ERROR_CAPTURED_EVENT for an event that was last recorded while its stream captured.
CUresult check_captured_event(Event& event) noexcept;

CUresult stream_is_capturing(CUstream stream, CUstreamCaptureStatus* status);
/// edges: null where the caller cannot be told of edge data (CUDA_ERROR_LOSSY_QUERY then).
CUresult stream_capture_info(CUstream stream, CUstreamCaptureStatus* status, cuuint64_t* id, CUgraph* graph,
                             const CUgraphNode** dependencies, const CUgraphEdgeData** edges, std::size_t* count);
CUresult stream_begin_capture(CUstream stream, CUstreamCaptureMode mode);
CUresult stream_begin_capture_to(CUstream stream, CUgraph graph, const CUgraphNode* dependencies,
                                 const CUgraphEdgeData* edges, std::size_t count, CUstreamCaptureMode mode);
CUresult stream_end_capture(CUstream stream, CUgraph* graph);
CUresult stream_update_dependencies(CUstream stream, const CUgraphNode* dependencies, const CUgraphEdgeData* edges,
                                    std::size_t count, unsigned flags);
CUresult exchange_capture_mode(CUstreamCaptureMode* mode);

/// The stream is destroyed.
void leave_capture(Stream& stream) noexcept;
/// The graph into which the stream captures; its structure is asked for anew. Null: it does not capture.
Graph* captured_graph(Stream& stream) noexcept;

}  // namespace avec::client
