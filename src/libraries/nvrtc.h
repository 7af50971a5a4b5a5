// What a program sends to be compiled by the executor's NVRTC, and what comes back: the same on both sides.
#pragma once

#include <cstddef>

namespace avec::libraries {

/// Parts of the answer, in the order of their bytes; sizes[0] of avec_nvrtc_compile is the status.
enum NvrtcPart : std::size_t { kNvrtcPtx = 1, kNvrtcCubin, kNvrtcLtoIr, kNvrtcOptixIr, kNvrtcLog, kNvrtcNames, kNvrtcSizes };

}  // namespace avec::libraries
