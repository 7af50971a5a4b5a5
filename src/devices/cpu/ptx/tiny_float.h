// Floats of 8 bits: e4m3 (bias 7, no infinity, one NaN) and e5m2 (bias 15, as f16 cut short).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace avec::cpu::ptx {

template <int kMantissa, int kBias, std::uint8_t kLargest>
struct TinyFloat {
  static constexpr std::uint8_t kNan = 0x7F;

  static double widen(std::uint8_t x) {
    const int exponent = (x & 0x7F) >> kMantissa, mantissa = x & ((1 << kMantissa) - 1);
    double value = 0;
    if ((x & 0x7F) > kLargest) {  // e5m2 has an infinity right above its largest number
      value = kMantissa == 2 && mantissa == 0 ? HUGE_VAL : std::nan("");
    } else if (exponent == 0) {
      value = std::ldexp(mantissa, 1 - kBias - kMantissa);
    } else {
      value = std::ldexp(mantissa + (1 << kMantissa), exponent - kBias - kMantissa);
    }
    return x & 0x80 ? -value : value;
  }

  /// To nearest even; what is too large becomes the largest number (.satfinite).
  static std::uint8_t round(double x) {
    if (x != x) return kNan;
    const std::uint8_t sign = std::signbit(x) ? 0x80 : 0;
    const double magnitude = std::fabs(x);
    if (magnitude >= widen(kLargest)) return sign | kLargest;
    int exponent = 0;
    std::frexp(magnitude, &exponent);
    const int unit = std::max(exponent - 1, 1 - kBias) - kMantissa;
    const double scaled = std::ldexp(magnitude, -unit);
    double whole = std::floor(scaled);
    const double rest = scaled - whole;
    if (rest > 0.5 || (rest == 0.5 && std::fmod(whole, 2) != 0)) whole += 1;
    // Subnormals have exponent field 0; a carry into it makes the right number by itself.
    const int field = unit + kMantissa + kBias;
    const int bits = magnitude == 0 ? 0 : static_cast<int>(whole) + ((field - 1) << kMantissa);
    return static_cast<std::uint8_t>(sign | std::min<int>(bits, kLargest));
  }
};

using E4m3 = TinyFloat<3, 7, 0x7E>;
using E5m2 = TinyFloat<2, 15, 0x7B>;

}  // namespace avec::cpu::ptx
