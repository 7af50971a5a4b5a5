// Arithmetic of what nvcc makes of kernels, against the host's.
#include <bit>
#include <cmath>
#include <random>

#include "device.h"
#include "support/catch.h"

namespace avec::cpu::ptx {
namespace {

const char* const kVariants[] = {"sm75", "sm90", "debug", "sm120"};

std::uint32_t reverse(std::uint32_t x) {
  std::uint32_t r = 0;
  for (int i = 0; i < 32; ++i) r |= (x >> i & 1) << (31 - i);
  return r;
}

void expected_integers(int x, int y, std::vector<long long>& o) {
  const auto ux = static_cast<unsigned>(x), uy = static_cast<unsigned>(y);
  const auto wrap = [](std::uint64_t v) { return static_cast<int>(v); };
  const long long lx = static_cast<long long>(static_cast<std::uint64_t>(static_cast<long long>(x)) * 1000003 + static_cast<std::uint64_t>(static_cast<long long>(y)));
  const long long ly = static_cast<long long>(y) * 7919 + 1;
  const auto ulx = static_cast<unsigned long long>(lx), uly = static_cast<unsigned long long>(ly);
  __extension__ typedef __int128 wide;
  __extension__ typedef unsigned __int128 uwide;
  const auto add = [&](long long v) { o.push_back(v); };
  add(wrap(std::uint64_t{ux} + uy));
  add(wrap(std::uint64_t{ux} - uy));
  add(wrap(std::uint64_t{ux} * uy));
  const long long dx = x, dy = y;
  add(y != 0 ? static_cast<int>(dx / dy) : 0);
  add(y != 0 ? static_cast<int>(dx % dy) : 0);
  add(uy != 0 ? ux / uy : 0);
  add(uy != 0 ? ux % uy : 0);
  add(lx / ly);
  add(lx % ly);
  add(static_cast<long long>(ulx / uly));
  add(static_cast<long long>(ulx % uly));
  add(static_cast<int>((dx * dy) >> 32));
  add(static_cast<unsigned>((std::uint64_t{ux} * uy) >> 32));
  add(static_cast<long long>((wide{lx} * ly) >> 64));
  add(static_cast<long long>((uwide{ulx} * uly) >> 64));
  add(x & y);
  add(x | y);
  add(x ^ y);
  add(~x);
  add(static_cast<int>(ux << (y & 31)));
  add(x >> (y & 31));
  add(ux >> (y & 31));
  add(static_cast<long long>(ulx << (y & 63)));
  add(lx >> (y & 63));
  add(std::popcount(ux));
  add(std::popcount(ulx));
  add(std::countl_zero(ux));
  add(std::countl_zero(ulx));
  add(reverse(ux));
  add(static_cast<long long>(static_cast<std::uint64_t>(reverse(static_cast<unsigned>(ulx))) << 32 | reverse(static_cast<unsigned>(ulx >> 32))));
  add(x == 0 ? 0 : std::countr_zero(ux) + 1);
  add(lx == 0 ? 0 : std::countr_zero(ulx) + 1);
  add(std::min(x, y));
  add(std::max(ux, uy));
  add(x < 0 ? static_cast<int>(0u - ux) : x);
  add(static_cast<unsigned>((x < y ? uy - ux : ux - uy) + 5));
  add(static_cast<unsigned>((ux & 0xFFFF) | uy << 16));
  const std::uint64_t both = std::uint64_t{uy} << 32 | ux;
  add(static_cast<unsigned>((both << (y & 31)) >> 32));
  add(static_cast<unsigned>(both >> (y & 31)));
  unsigned dot = 3;
  for (int k = 0; k < 32; k += 8) dot += static_cast<unsigned>(static_cast<std::int8_t>(ux >> k) * static_cast<std::int8_t>(uy >> k));
  add(static_cast<int>(dot));
  add(static_cast<short>(x) * static_cast<short>(y));
  add(static_cast<unsigned char>(x) + static_cast<signed char>(y));
  add(static_cast<int>(static_cast<std::int64_t>(static_cast<int>(ux << 8) >> 8) * (static_cast<int>(uy << 8) >> 8)));
  add((x ^ y) & ~(x | 0xFF));
  add(lx < ly);
  add(ulx < uly);
  const wide w = wide{lx} * ly + 12345;
  add(static_cast<long long>(w >> 64));
  add(static_cast<long long>(w));
}

double ulps(float a, float b) {
  if (std::isnan(a) && std::isnan(b)) return 0;
  if (a == b) return 0;
  const auto key = [](float x) {
    const auto bits = std::bit_cast<std::int32_t>(x);
    return bits < 0 ? -static_cast<std::int64_t>(bits & 0x7FFFFFFF) : static_cast<std::int64_t>(bits);
  };
  return std::fabs(static_cast<double>(key(a) - key(b)));
}
double ulps(double a, double b) {
  if ((std::isnan(a) && std::isnan(b)) || a == b) return 0;
  return std::fabs(a - b) / (std::fabs(b) * 0x1p-52);
}

std::vector<float> sample(unsigned seed, float scale) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> real(-scale, scale);
  std::vector<float> values(128);
  for (float& v : values) v = real(random);
  values[0] = 1;
  values[1] = -2.5f;
  values[2] = 0.75f;
  return values;
}

}  // namespace

TEST_CASE("integer arithmetic of every kind equals the host's") {
  std::mt19937 random(7);
  std::vector<int> a(128), b(128);
  for (std::size_t i = 0; i < a.size(); ++i) {
    a[i] = static_cast<int>(random());
    b[i] = static_cast<int>(random()) >> (i % 31);
  }
  const int corners[] = {0, 1, -1, INT32_MAX, INT32_MIN, 2, -2, 0x8000};
  for (std::size_t i = 0; i < 64; ++i) {
    a[i] = corners[i / 8];
    b[i] = corners[i % 8];
  }
  for (const char* variant : kVariants) {
    TestDevice device(ptx_of("basic", variant));
    long long* out = device.allocate<long long>(128 * 48);
    REQUIRE(device.run("integers", {1, 1, 1}, {128, 1, 1}, 0, device.upload(a), device.upload(b), out) == Fault::kNone);
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (a[i] == INT32_MIN && b[i] == -1) continue;  // x / y overflows: nothing is promised
      std::vector<long long> expected;
      expected_integers(a[i], b[i], expected);
      for (std::size_t k = 0; k < expected.size(); ++k) {
        INFO(variant << " item " << k << " of " << a[i] << ", " << b[i]);
        REQUIRE(out[i * 48 + k] == expected[k]);
      }
    }
  }
}

TEST_CASE("float arithmetic is exactly IEEE in every rounding") {
  const std::vector<float> a = sample(1, 50), b = sample(2, 10);
  for (const char* variant : kVariants) {
    TestDevice device(ptx_of("basic", variant));
    float* out = device.allocate<float>(128 * 32);
    REQUIRE(device.run("floats", {1, 1, 1}, {128, 1, 1}, 0, device.upload(a), device.upload(b), out) == Fault::kNone);
    for (std::size_t i = 0; i < a.size(); ++i) {
      const float x = a[i], y = b[i];
      const auto directed = [](double exact, int way) {  // way: -1 down, 0 to zero, 1 up
        float r = static_cast<float>(exact);
        const bool up = way > 0 || (way == 0 && exact < 0);
        if (up && static_cast<double>(r) < exact) r = std::nextafter(r, HUGE_VALF);
        if (!up && static_cast<double>(r) > exact) r = std::nextafter(r, -HUGE_VALF);
        return r;
      };
      const double dx = x, dy = y;
      const float expected[32] = {
          x + y, x - y, x * y, x / y, std::fmaf(x, y, 1.5f), std::sqrt(std::fabs(x)), std::fmin(x, y), std::fmax(x, y),
          std::floor(x), std::ceil(x), std::trunc(x), std::rint(x), std::round(x), static_cast<float>(static_cast<int>(x)),
          static_cast<float>(static_cast<unsigned>(std::fabs(x))), static_cast<float>(static_cast<long long>(x * 1e6f)),
          std::copysign(x, y), directed(dx + dy, 0), directed(dx + dy, 1), directed(dx + dy, -1), directed(dx * dy, 0),
          directed(dx * dy + static_cast<double>(0.1f), 1), directed(dx / dy, -1), std::clamp(x, 0.0f, 1.0f), x < y ? 1.0f : 2.0f,
          std::fmod(x, y), static_cast<float>(dx * dy), directed(dx / 3.0, 0),
          directed(static_cast<int>(x * 1e7f), -1), directed(static_cast<unsigned>(std::fabs(x) * 1e7f), 1), std::fdim(x, y), 1.0f / x};
      for (std::size_t k = 0; k < 32; ++k) {
        INFO(variant << " item " << k << " of " << x << ", " << y);
        REQUIRE(out[i * 32 + k] == expected[k]);
      }
    }
  }
}

TEST_CASE("mathematical functions are within CUDA's documented errors") {
  const std::vector<float> a = sample(3, 30), b = sample(4, 8);
  std::vector<double> z(128);
  for (std::size_t i = 0; i < z.size(); ++i) z[i] = static_cast<double>(a[i]) * 1.0000001;
  // In units of the last place, plus one for the host's own error (CUDA C++ Programming Guide, table of functions).
  const double bounds[24] = {3, 3, 5, 3, 3, 2, 2, 3, 5, 3, 3, 3, 4, 4, 2, 4, 3, 6, 2, 2, 3, 3, 5, 8};
  const double bounds64[12] = {3, 3, 2, 2, 3, 1, 1, 3, 3, 3, 2, 1};
  for (const char* variant : kVariants) {
    TestDevice device(ptx_of("basic", variant));
    float* out = device.allocate<float>(128 * 24);
    double* out64 = device.allocate<double>(128 * 12);
    REQUIRE(device.run("mathematics", {1, 1, 1}, {128, 1, 1}, 0, device.upload(a), device.upload(b), out, device.upload(z), out64) == Fault::kNone);
    for (std::size_t i = 0; i < a.size(); ++i) {
      const double x = a[i], y = b[i], w = z[i];
      const double small = static_cast<double>(b[i] / 100.0f), shifted = static_cast<double>(std::fabs(b[i]) + 0.5f);
      const double expected[24] = {std::sin(x), std::cos(x), std::tan(x), std::exp(y), std::exp2(y), std::log(std::fabs(x)),
          std::log2(std::fabs(x)), std::log10(std::fabs(x)), std::pow(std::fabs(x), y), std::erf(x), std::tanh(x), std::atan(x),
          std::atan2(x, y), std::sinh(y), std::cbrt(x), std::hypot(x, y), 1 / std::sqrt(std::fabs(x)), std::tgamma(shifted),
          std::log1p(std::fabs(x)), std::expm1(y), std::asin(small), std::acos(small), std::erfc(y), std::lgamma(shifted)};
      for (std::size_t k = 0; k < 24; ++k) {
        INFO(variant << " function " << k << " of " << x << ", " << y << ": " << out[i * 24 + k] << " for " << expected[k]);
        if (k == 23 && std::fabs(expected[k]) < 0.5) continue;  // near its zeros only the absolute error is bounded
        REQUIRE(ulps(out[i * 24 + k], static_cast<float>(expected[k])) <= bounds[k]);
      }
      const double expected64[12] = {std::sin(w), std::cos(w), std::exp(w / 10), std::log(std::fabs(w)), std::pow(std::fabs(w), 1.7),
          std::sqrt(std::fabs(w)), 1 / w, std::tanh(w), std::atan(w), std::erf(w), std::cbrt(w), std::fmod(w, 3.7)};
      for (std::size_t k = 0; k < 12; ++k) {
        INFO(variant << " double function " << k << " of " << w << ": " << out64[i * 12 + k] << " for " << expected64[k]);
        REQUIRE(ulps(out64[i * 12 + k], expected64[k]) <= bounds64[k]);
      }
    }
  }
}

}  // namespace avec::cpu::ptx
