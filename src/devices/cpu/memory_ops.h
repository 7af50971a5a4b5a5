// Values that streams and graphs write to memory and wait for in it.
#pragma once

#include <cuda.h>

#include "devices/cpu/device.h"

namespace avec::cpu {

/// Is the operation one that this device has, with an address that the context's device may touch?
CUresult check_memory_op(const Context& context, const CUstreamBatchMemOpParams& operation);
/// May it run now? False: it waits for a value that is not there yet.
bool memory_op_ready(const Context& context, const CUstreamBatchMemOpParams& operation);
CUresult run_memory_op(const Context& context, const CUstreamBatchMemOpParams& operation);

}  // namespace avec::cpu
