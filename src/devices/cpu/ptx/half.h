// f16 and bf16 in integers of 16 bits.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "devices/cpu/ptx/decoder.h"

namespace avec::cpu::ptx {

/// Rounds `x` to a 16-bit float with kMantissa stored bits and the given exponent bias.
template <int kMantissa, int kBias>
inline std::uint16_t narrow(double x, Rounding rounding) {
  const auto bits = std::bit_cast<std::uint64_t>(x);
  const auto sign = static_cast<std::uint16_t>(bits >> 63 << 15);
  constexpr std::uint32_t kInfinity = ((1u << (15 - kMantissa)) - 1) << kMantissa;
  if (x != x) return 0x7FFF;
  const double magnitude = std::fabs(x);
  if (std::isinf(x)) return static_cast<std::uint16_t>(sign | kInfinity);
  int exponent = 0;
  std::frexp(magnitude, &exponent);  // magnitude < 2^exponent
  // The unit in the last place: of the smallest normal for subnormals.
  const int unit = std::max(exponent - 1, 1 - kBias) - kMantissa;
  const double scaled = std::ldexp(magnitude, -unit);  // exact: at most 2^(kMantissa+1)
  double whole = std::floor(scaled);
  const double rest = scaled - whole;
  bool up = false;
  switch (rounding) {
    case Rounding::kZero: break;
    case Rounding::kDown: up = sign != 0 && rest > 0; break;
    case Rounding::kUp: up = sign == 0 && rest > 0; break;
    case Rounding::kAway: up = rest >= 0.5; break;
    default: up = rest > 0.5 || (rest == 0.5 && std::fmod(whole, 2) != 0);
  }
  whole += up;
  const auto digits = static_cast<std::uint64_t>(whole);
  // Subnormals have exponent field 0; a carry into it makes the right number by itself.
  const auto field = static_cast<std::uint64_t>(unit + kMantissa + kBias);
  std::uint64_t result = magnitude == 0 ? 0 : digits + ((field - 1) << kMantissa);
  if (result >= kInfinity) {
    const bool towards_zero = rounding == Rounding::kZero || (rounding == Rounding::kDown && sign == 0) ||
                              (rounding == Rounding::kUp && sign != 0);
    result = towards_zero ? kInfinity - 1 : kInfinity;
  }
  return static_cast<std::uint16_t>(sign | result);
}

struct Half {
  static constexpr std::uint16_t kNan = 0x7FFF, kSignBit = 0x8000, kInfinity = 0x7C00, kOne = 0x3C00;
  static double widen(std::uint16_t h) {
    const int exponent = h >> 10 & 31;
    const int mantissa = h & 1023;
    double value = 0;
    if (exponent == 31) value = mantissa != 0 ? std::bit_cast<double>(0x7FF8000000000000ull) : HUGE_VAL;
    else if (exponent == 0) value = mantissa * 0x1p-24;
    else value = std::bit_cast<double>(static_cast<std::uint64_t>(exponent - 15 + 1023) << 52 | static_cast<std::uint64_t>(mantissa) << 42);
    return h & 0x8000 ? -value : value;
  }
  static std::uint16_t round(double x, Rounding rounding = Rounding::kNearest) { return narrow<10, 15>(x, rounding); }
};

struct Bfloat {
  static constexpr std::uint16_t kNan = 0x7FFF, kSignBit = 0x8000, kInfinity = 0x7F80, kOne = 0x3F80;
  static double widen(std::uint16_t h) { return std::bit_cast<float>(static_cast<std::uint32_t>(h) << 16); }
  static std::uint16_t round(double x, Rounding rounding = Rounding::kNearest) { return narrow<7, 127>(x, rounding); }
};

/// a + b with the last bit odd when inexact: a second rounding to few bits then is right.
inline double add_to_odd(double a, double b) {
  const double sum = a + b;
  if (!std::isfinite(sum)) return sum;
  const double left = sum - b;
  const double error = (a - left) + (b - (sum - left));
  if (error == 0) return sum;
  const auto bits = std::bit_cast<std::uint64_t>(sum);
  if (bits & 1) return sum;
  const bool grows = (error > 0) == (sum > 0);
  return std::bit_cast<double>(grows ? bits + 1 : bits - 1);
}

}  // namespace avec::cpu::ptx
