// What a program has linked by the executor's nvJitLink: the same on both sides.
#pragma once

#include <cstddef>
#include <cstdint>

namespace avec::libraries {

/// What a link can be asked for.
enum JitLinkPart : std::int32_t { kLinkedCubin, kLinkedPtx, kLinkErrorLog, kLinkInfoLog, kJitLinkParts };

/// One input, or one result, bytes.
inline constexpr std::uint64_t kMaxLinkBytes = 256u << 20;

/// nvJitLinkResult, as far as it is decided on our side.
inline constexpr int kLinkOk = 0, kLinkInvalidInput = 3, kLinkInternal = 6, kLinkNullInput = 10;

}  // namespace avec::libraries
