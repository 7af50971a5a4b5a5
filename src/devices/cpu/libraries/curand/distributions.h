// From uniform numbers to normal and Poisson ones.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <utility>

namespace avec::cpu::curand {

/// Two independent normal numbers of two uniform ones (Box and Muller).
template <class T>
std::pair<T, T> normal_pair(T u, T v) {
  const T radius = std::sqrt(T(-2) * std::log(u)), angle = v * T(2 * std::numbers::pi);
  return {std::sin(angle) * radius, std::cos(angle) * radius};
}

/// The normal number with probability p, above 0 and below 1, to its left: a rational
/// approximation (P. J. Acklam), made exact by one step of Halley's method.
inline double normal_of(double p) {
  constexpr double a[] = {-3.969683028665376e+01, 2.209460984245205e+02,  -2.759285104469687e+02,
                          1.383577518672690e+02,  -3.066479806614716e+01, 2.506628277459239e+00};
  constexpr double b[] = {-5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02, 6.680131188771972e+01,
                          -1.328068155288572e+01};
  constexpr double c[] = {-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00,
                          -2.549732539343734e+00, 4.374664141464968e+00,  2.938163982698783e+00};
  constexpr double d[] = {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00, 3.754408661907416e+00};
  const auto tail = [&](double q) {
    return (((((c[0] * q + c[1]) * q + c[2]) * q + c[3]) * q + c[4]) * q + c[5]) /
           ((((d[0] * q + d[1]) * q + d[2]) * q + d[3]) * q + 1);
  };
  double x = 0;
  if (p < 0.02425) {
    x = tail(std::sqrt(-2 * std::log(p)));
  } else if (p > 1 - 0.02425) {
    x = -tail(std::sqrt(-2 * std::log1p(-p)));
  } else {
    const double q = p - 0.5, r = q * q;
    x = (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r + a[5]) * q /
        (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r + b[4]) * r + 1);
  }
  const double error = 0.5 * std::erfc(-x * std::numbers::sqrt2 / 2) - p;
  const double step = error * std::sqrt(2 * std::numbers::pi) * std::exp(x * x / 2);
  return x - step / (1 + x * step / 2);
}

/// The Poisson number with probability p to its left, lambda at most 400,000: counted from the
/// mean outwards, where nearly all of it is.
inline std::uint32_t poisson_of(double lambda, double p) {
  const double mode = std::floor(lambda);
  // The weight of the mode, and the probability up to it.
  double weight = std::exp(mode * std::log(lambda) - lambda - std::lgamma(mode + 1));
  double k = mode, up_to = 0, at = weight;
  for (double i = mode; i >= 0 && at > 1e-18; --i) {
    up_to += at;
    at *= i / lambda;
  }
  if (p <= up_to) {
    while (k > 0 && p <= up_to - weight) {
      up_to -= weight;
      weight *= k / lambda;
      --k;
    }
  } else {
    while (p > up_to && weight > 1e-300) {
      ++k;
      weight *= lambda / k;
      up_to += weight;
    }
  }
  return static_cast<std::uint32_t>(k);
}

}  // namespace avec::cpu::curand
