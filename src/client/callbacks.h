// Host functions of streams (cuLaunchHostFunc, cuStreamAddCallback). They run on the client, on
// a thread of their own, when the work before them is done. Work that the application adds
// behind one is held here until it has run: the call that adds it waits. Launching the host
// function itself does not wait.
#pragma once

#include <cuda.h>

namespace avec::client {

struct Context;
struct Stream;

CUresult launch_host_function(CUstream stream, CUhostFn function, void* data);
CUresult add_callback(CUstream stream, CUstreamCallback callback, void* data, unsigned flags);

/// Waits for the host functions that work added to the stream now must come after.
void wait_for_host_functions(Stream& stream) noexcept;
/// Waits for all of a context.
void wait_for_host_functions(Context& context) noexcept;
/// Whether there are any for the stream.
bool host_functions_before(Stream& stream) noexcept;

}  // namespace avec::client
