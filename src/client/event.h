// Events.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstdint>
#include <vector>

#include "client/downloads.h"
#include "client/progress.h"

namespace avec::client {

struct Capture;
struct Context;
struct Stream;

/// A CUevent is the address of one (Slab<Event>).
struct Event {
  Context* context = nullptr;
  std::uint64_t name = 0;
  unsigned flags = CU_EVENT_DEFAULT;
  std::vector<Download> downloads;  ///< before its record; guarded by context->mutex
  std::atomic<Capture*> capture{nullptr};      ///< in which it was last recorded
  std::atomic<std::uint64_t> capture_id{0};    ///< of that capture; 0: it was not captured
  std::vector<std::uint64_t> functions;  ///< host functions before its record (callbacks.cc guards it)
  EventProgress progress;

  /// Never recorded: complete, and no elapsed time.
  bool recorded() const { return progress.record.load(std::memory_order_acquire) != 0; }
};

inline CUevent handle_of(Event* event) { return reinterpret_cast<CUevent>(event); }

CUresult event_create(CUevent* event, unsigned flags);
CUresult event_destroy(CUevent event);
CUresult event_record(CUevent event, CUstream stream, unsigned flags);
CUresult event_query(CUevent event);
CUresult event_synchronize(CUevent event);
CUresult event_elapsed_time(float* milliseconds, CUevent start, CUevent end);

/// A launch in the stream records the event: what event_record notes, without a frame of its own.
void note_record(CUevent event, Stream& stream);
/// The event is, or will be, recorded by something that this side does not see (a graph's node, another
/// process): every later query asks the executor.
void recorded_elsewhere(Event& event);

/// The downloads that its last record came after.
std::vector<Download> downloads_of(Event& event);

/// Ends all events of a context that goes.
void forget_events(Context& context);

}  // namespace avec::client
