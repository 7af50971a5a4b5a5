#include "devices/cpu/ptx/types.h"

#include <algorithm>
#include <array>
#include <utility>

namespace avec::cpu::ptx {

Type type_of(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, Type>, 27> kNames{{
      {"pred", Type::kPred},   {"u8", Type::kU8},         {"u16", Type::kU16},       {"u32", Type::kU32},
      {"u64", Type::kU64},     {"s8", Type::kS8},         {"s16", Type::kS16},       {"s32", Type::kS32},
      {"s64", Type::kS64},     {"b8", Type::kB8},         {"b16", Type::kB16},       {"b32", Type::kB32},
      {"b64", Type::kB64},     {"b128", Type::kB128},     {"f16", Type::kF16},       {"bf16", Type::kBf16},
      {"f32", Type::kF32},     {"f64", Type::kF64},       {"f16x2", Type::kF16x2},   {"bf16x2", Type::kBf16x2},
      {"tf32", Type::kTf32},   {"e4m3x2", Type::kE4m3x2}, {"e5m2x2", Type::kE5m2x2}, {"texref", Type::kB64},
      {"surfref", Type::kB64}, {"u16x2", Type::kU16x2},   {"s16x2", Type::kS16x2},
  }};
  const auto* found = std::find_if(kNames.begin(), kNames.end(), [&](const auto& n) { return n.first == name; });
  return found == kNames.end() ? Type::kNone : found->second;
}

unsigned bytes_of(Type type) {
  switch (type) {
    case Type::kNone:
    case Type::kPred: return 0;
    case Type::kU8:
    case Type::kS8:
    case Type::kB8: return 1;
    case Type::kU16:
    case Type::kS16:
    case Type::kB16:
    case Type::kF16:
    case Type::kBf16:
    case Type::kE4m3x2:
    case Type::kE5m2x2: return 2;
    case Type::kU64:
    case Type::kS64:
    case Type::kB64:
    case Type::kF64: return 8;
    case Type::kB128: return 16;
    default: return 4;
  }
}

}  // namespace avec::cpu::ptx
