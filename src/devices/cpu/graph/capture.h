// Stream capture: work put into a stream becomes nodes of a graph.
#pragma once

#include <cuda.h>

#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "devices/cpu/graph/graph.h"

namespace avec::cpu {

/// One capture sequence, from begin to end.
struct Capture {
  std::uint64_t id = 0;
  CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  std::thread::id thread;
  GraphRef graph;
  bool to_graph = false;  // the application's own graph
  std::weak_ptr<Stream> origin;
  bool invalid = false;
  bool ended = false;
  std::vector<std::weak_ptr<Stream>> streams;
};

/// A stream's part in a capture.
struct StreamCapture {
  std::shared_ptr<Capture> capture;
  std::vector<Link> next;  // what the next node depends on
  /// Handed out by cuStreamGetCaptureInfo.
  std::vector<CUgraphNode> shown;
  std::vector<CUgraphEdgeData> shown_data;
};

/// What an event recorded in a capturing stream stands for.
struct EventCapture {
  std::shared_ptr<Capture> capture;
  std::vector<Link> nodes;
};

/// For a call that puts work into `stream`: nothing if the stream is to run it. Otherwise what the call
/// returns: `make` was asked for a node and it was added, or an error that the rules of capture have for it.
std::optional<CUresult> captured(const StreamRef& stream,
                                 const std::function<CUresult(Graph&, Params&)>& make);
/// The same for calls that cannot be captured (synchronising, querying): the capture is invalidated.
CUresult refuse_capture(const StreamRef& stream);
/// For a call that waits for everything in a context.
CUresult refuse_capture(const Context& context);
/// For calls that are unsafe while somebody captures, by the modes of captures and of the thread.
CUresult refuse_unsafe();
/// For a call that looks at an event: CUDA_ERROR_CAPTURED_EVENT if it was last recorded in a capture.
CUresult refuse_captured_event(Event& event);

/// cuEventRecord and cuStreamWaitEvent where a capture is concerned.
std::optional<CUresult> capture_record(const StreamRef& stream, const std::shared_ptr<Event>& event,
                                       unsigned flags);
std::optional<CUresult> capture_wait(const StreamRef& stream, const std::shared_ptr<Event>& event,
                                     unsigned flags);

/// Before a stream is destroyed.
void stream_destroyed(const StreamRef& stream);
/// Before a context is: its captures end.
void end_captures(const Context& context);

}  // namespace avec::cpu
