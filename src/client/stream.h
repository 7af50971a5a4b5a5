// Streams. Every stream has a name on the wire; default streams too.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstdint>
#include <vector>

#include "client/downloads.h"
#include "client/progress.h"
#include "client/slab.h"

namespace avec::client {

struct Capture;
struct Context;

/// A CUstream is the address of one (Slab<Stream>), or 0, CU_STREAM_LEGACY, CU_STREAM_PER_THREAD.
struct Stream {
  Context* context = nullptr;
  std::uint64_t name = 0;
  unsigned flags = CU_STREAM_DEFAULT;
  int priority = 0;
  std::vector<CUlaunchAttribute> attributes;  ///< that were set; guarded by context->mutex
  std::vector<Download> downloads;  ///< guarded by context->mutex
  std::vector<std::uint64_t> functions;  ///< host functions of others that it comes after (callbacks.cc guards it)
  std::atomic<Capture*> capture{nullptr};  ///< that it takes part in (capture.h)
  bool is_default = false;  ///< legacy or per-thread: cannot be destroyed
  StreamProgress progress;
};

inline CUstream handle_of(Stream* stream) { return reinterpret_cast<CUstream>(stream); }

/// The stream meant by a handle in the current context. A context that is unusable, or a
/// stream whose context has a sticky error, gives that error.
CUresult resolve_stream(CUstream handle, Stream*& stream) noexcept;
/// The same for a call that adds work to the stream which reads memory of this process now: waits
/// until host functions that come before that work have run.
CUresult stream_for_work(CUstream handle, Stream*& stream) noexcept;
/// The same for work that the executor alone does: it waits there (HostFunction).
CUresult stream_for_device_work(CUstream handle, Stream*& stream) noexcept;

CUresult stream_create(CUstream* stream, unsigned flags, int priority);
CUresult stream_destroy(CUstream stream);
CUresult stream_query(CUstream stream);
CUresult stream_synchronize(CUstream stream);
CUresult stream_wait_event(CUstream stream, CUevent event, unsigned flags);
CUresult stream_get_flags(CUstream stream, unsigned* flags);
CUresult stream_get_priority(CUstream stream, int* priority);
CUresult stream_get_context(CUstream stream, CUcontext* context);
CUresult stream_get_id(CUstream stream, unsigned long long* id);
CUresult stream_get_device(CUstream stream, CUdevice* device);

/// Waits for the stream's work and returns its error.
CUresult synchronize(Stream& stream);

/// This thread's default stream in a context.
Stream* per_thread_stream(Context& context);
/// In the child of a fork: this thread's streams are the parent's, and are left alone.
void forget_thread_streams_after_fork() noexcept;
/// Ends all streams of a context that goes.
void forget_streams(Context& context);

}  // namespace avec::client
