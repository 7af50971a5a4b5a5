#include <cstring>

#include "jump.h"

namespace avec::preload {

const std::size_t kFarBytes = 14;  // jmp [rip+0], then the address
const std::size_t kNearBytes = 5;  // jmp rel32
const std::uint64_t kNearReach = (std::uint64_t{1} << 31) - 4096;

std::size_t landing_pad_bytes(std::span<const std::byte> code) {
  constexpr unsigned char kEndbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
  return code.size() >= sizeof kEndbr64 && std::memcmp(code.data(), kEndbr64, sizeof kEndbr64) == 0
             ? sizeof kEndbr64
             : 0;
}

void write_far_jump(std::byte* at, std::uint64_t target) {
  constexpr unsigned char kJump[] = {0xff, 0x25, 0, 0, 0, 0};
  std::memcpy(at, kJump, sizeof kJump);
  std::memcpy(at + sizeof kJump, &target, sizeof target);
}

void write_near_jump(std::byte* at, std::uint64_t from, std::uint64_t target) {
  const auto distance = static_cast<std::int32_t>(static_cast<std::int64_t>(target - from) - 5);
  *at = std::byte{0xe9};
  std::memcpy(at + 1, &distance, sizeof distance);
}

}  // namespace avec::preload
