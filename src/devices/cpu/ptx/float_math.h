// Scalar pieces of f32 and f64 arithmetic as PTX defines them.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace avec::cpu::ptx {

template <bool kFtz, class T>
inline T flush(T x) {
  if constexpr (kFtz) {
    return std::fabs(x) < std::numeric_limits<T>::min() ? std::copysign(T{0}, x) : x;
  }
  return x;
}

/// f32 results have but one NaN; f64 ones keep what the host makes.
inline float canonical(float x) { return x == x ? x : std::bit_cast<float>(0x7FFFFFFFu); }
inline double canonical(double x) { return x; }

/// .sat: NaN becomes +0.
template <class T>
inline T saturated(T x) {
  return x > T{0} ? (x < T{1} ? x : T{1}) : T{0};
}

template <class T>
inline T minimum(T a, T b) {
  if (a != a) return b;
  if (b != b) return a;
  if (a == b) return std::signbit(a) ? a : b;
  return a < b ? a : b;
}
template <class T>
inline T maximum(T a, T b) {
  if (a != a) return b;
  if (b != b) return a;
  if (a == b) return std::signbit(a) ? b : a;
  return a > b ? a : b;
}

}  // namespace avec::cpu::ptx
