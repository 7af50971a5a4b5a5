#include <cstring>

#include "jump.h"

namespace avec::preload {

const std::size_t kFarBytes = 16;  // ldr x16, #8; br x16; then the address
const std::size_t kNearBytes = 4;  // b imm26
const std::uint64_t kNearReach = (std::uint64_t{1} << 27) - 4096;

std::size_t landing_pad_bytes(std::span<const std::byte> code) {
  std::uint32_t first = 0;
  if (code.size() < sizeof first) return 0;
  std::memcpy(&first, code.data(), sizeof first);
  constexpr std::uint32_t kBtiC = 0xd503245f;
  constexpr std::uint32_t kBtiJc = 0xd50324df;
  return first == kBtiC || first == kBtiJc ? sizeof first : 0;
}

void write_far_jump(std::byte* at, std::uint64_t target) {
  // x16 is the linker's scratch register: no caller expects it to survive a call.
  constexpr std::uint32_t kCode[] = {0x58000050, 0xd61f0200};
  std::memcpy(at, kCode, sizeof kCode);
  std::memcpy(at + sizeof kCode, &target, sizeof target);
}

void write_near_jump(std::byte* at, std::uint64_t from, std::uint64_t target) {
  const auto words = static_cast<std::int64_t>(target - from) / 4;
  const std::uint32_t code = 0x14000000u | (static_cast<std::uint32_t>(words) & 0x03ffffffu);
  std::memcpy(at, &code, sizeof code);
}

}  // namespace avec::preload
