// What a stream of the client's own is, beside the flags of CUDA: in the flags of StreamCreate.
#pragma once

#include <cstdint>

namespace avec::wire {

/// Carries bytes that host functions see and write, so it never waits for fences and held frames of other streams.
inline constexpr std::uint32_t kStreamBeside = 1u << 31;

}  // namespace avec::wire
