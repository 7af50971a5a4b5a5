// PTX's fundamental types ("PTX ISA", 5.2) and how registers hold them.
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

namespace avec::cpu::ptx {

inline constexpr unsigned kLanes = 32;
using Mask = std::uint32_t;
inline constexpr Mask kAllLanes = ~Mask{0};

enum class Type : std::uint8_t {
  kNone, kPred, kU8, kU16, kU32, kU64, kS8, kS16, kS32, kS64, kB8, kB16, kB32, kB64, kB128,
  kF16, kBf16, kF32, kF64, kF16x2, kBf16x2, kU16x2, kS16x2, kTf32, kE4m3x2, kE5m2x2
};

/// The type that ".<name>" stands for; kNone when it stands for none.
Type type_of(std::string_view name);
/// Bytes in memory; 0 for predicates.
unsigned bytes_of(Type type);

constexpr bool is_signed(Type t) { return t >= Type::kS8 && t <= Type::kS64; }
constexpr bool is_float(Type t) { return t >= Type::kF16 && t <= Type::kBf16x2; }
constexpr bool is_packed(Type t) { return t == Type::kF16x2 || t == Type::kBf16x2; }
constexpr bool is_integer(Type t) { return t >= Type::kU8 && t <= Type::kB64; }

/// Bytes of one lane of a register of `type`: predicates are one bit in a mask per warp.
constexpr unsigned register_bytes(unsigned memory_bytes) {
  return memory_bytes <= 2 ? 2 : memory_bytes <= 4 ? 4 : memory_bytes <= 8 ? 8 : 16;
}

// Where generic addresses of shared memory, local memory and code lie: above all that an
// operating system hands to a program.
inline constexpr std::uint64_t kSharedWindow = std::uint64_t{1} << 48;
inline constexpr std::uint64_t kLocalWindow = kSharedWindow + (std::uint64_t{1} << 32);
inline constexpr std::uint64_t kWindowBytes = std::uint64_t{1} << 32;
inline constexpr std::uint64_t kCodeWindow = kSharedWindow + (std::uint64_t{2} << 32);
inline constexpr std::uint64_t kCodeStride = 16;

constexpr bool in_window(std::uint64_t address, std::uint64_t window) { return address - window < kWindowBytes; }

}  // namespace avec::cpu::ptx
