// Jumps from one function to another, in machine code. One file per architecture (jump_*.cc).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace avec::preload {

/// A jump that reaches anywhere, and one that reaches `kNearReach` bytes; their sizes, bytes.
extern const std::size_t kFarBytes;
extern const std::size_t kNearBytes;
extern const std::uint64_t kNearReach;

/// Bytes at a function's entry that must stay: the landing pad of indirect branches, if the
/// function has one.
[[nodiscard]] std::size_t landing_pad_bytes(std::span<const std::byte> code);

/// Writes kFarBytes at `at`: a jump to `target`. Clobbers only what calls may clobber.
void write_far_jump(std::byte* at, std::uint64_t target);
/// Writes kNearBytes at `at`, which will run at address `from`: a jump to `target` within reach.
void write_near_jump(std::byte* at, std::uint64_t from, std::uint64_t target);

}  // namespace avec::preload
