// Host functions of streams: they run on the client, on a thread of their own, in stream order.
#pragma once

#include <cuda.h>

namespace avec::client {

CUresult launch_host_function(CUstream stream, CUhostFn function, void* data);
CUresult add_callback(CUstream stream, CUstreamCallback callback, void* data, unsigned flags);

}  // namespace avec::client
