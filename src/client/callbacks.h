// Host functions of streams (cuLaunchHostFunc, cuStreamAddCallback). They run on the client, on
// a thread of their own, when the work before them is done; the executor holds the stream meanwhile
// (schemas/completion.fbs), so that calls which add more work go on. Only work that reads memory of this
// process when it is added waits here: a host function before it may write there.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstdint>
#include <functional>

#include "avec/transport.h"

namespace avec::client {

class Client;
struct Context;
struct Event;
struct Stream;

CUresult launch_host_function(CUstream stream, CUhostFn function, void* data);
CUresult add_callback(CUstream stream, CUstreamCallback callback, void* data, unsigned flags);

/// Host functions of this process that have not run.
extern std::atomic<int> pending_host_functions;
/// True on the thread that runs them, while it does: CUDA may not be used there.
extern thread_local constinit bool in_host_function __attribute__((tls_model("initial-exec")));
/// Runs a function of ours when the work issued to the stream so far is done.
CUresult after_work(CUstream stream, std::function<void(CUresult)> run);

/// Waits for the host functions that work added to the stream now must come after.
void wait_for_host_functions(Stream& stream) noexcept;
/// Waits for all when more work has been added behind them than the executor keeps.
void limit_work_behind_host_functions(Client& client) noexcept;
/// The event is recorded in the stream: work that waits for it comes after the same functions.
void note_host_functions(Event& event, Stream& stream);
void inherit_host_functions(Stream& stream, Event& event);

/// A push: the executor has come to a host function.
void take_host_function(ConstBytes body);
/// Nothing of this client will be told any more.
void fail_host_functions(Client& client, CUresult error);

}  // namespace avec::client
