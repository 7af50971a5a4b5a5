// Rounding towards zero, down and up, done by the host's arithmetic in that mode.
#pragma once

#include <cfenv>

#include "devices/cpu/ptx/decoder.h"

namespace avec::cpu::ptx {

class RoundingScope {
 public:
  explicit RoundingScope(Rounding mode) : before_(std::fegetround()) { std::fesetround(host_mode(mode)); }
  ~RoundingScope() { std::fesetround(before_); }
  RoundingScope(const RoundingScope&) = delete;
  RoundingScope& operator=(const RoundingScope&) = delete;

 private:
  static int host_mode(Rounding mode) {
    switch (mode) {
      case Rounding::kZero: return FE_TOWARDZERO;
      case Rounding::kDown: return FE_DOWNWARD;
      case Rounding::kUp: return FE_UPWARD;
      default: return FE_TONEAREST;
    }
  }
  int before_;
};

/// Keeps the compiler from computing with `value` before the mode is set, or after it is
/// reset: compilers do not model the mode.
template <class T>
inline T pinned(T value) {
  asm volatile("" : "+m"(value) : : "memory");
  return value;
}

}  // namespace avec::cpu::ptx
