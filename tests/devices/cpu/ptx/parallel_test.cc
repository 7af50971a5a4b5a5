// Warps, blocks and grids.
#include <bit>
#include <cmath>
#include <numeric>
#include <random>

#include "device.h"
#include "support/catch.h"

namespace avec::cpu::ptx {
namespace {
const char* const kVariants[] = {"sm75", "sm90", "debug", "sm120"};
}

TEST_CASE("reductions, tiles and histograms are right over many blocks") {
  for (const char* variant : kVariants) {
    INFO(variant);
    TestDevice device(ptx_of("parallel", variant));
    std::vector<float> values(5000);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 17);
    float* sum = device.allocate<float>(1);
    REQUIRE(device.run("reduce_sum", {5, 1, 1}, {256, 1, 1}, 0, device.upload(values), sum, 5000) == Fault::kNone);
    REQUIRE(*sum == std::accumulate(values.begin(), values.end(), 0.0f));

    constexpr std::size_t kN = 48;
    std::vector<float> a(kN * kN), b(kN * kN);
    for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i % 7), b[i] = static_cast<float>(i % 5) - 2;
    float* c = device.allocate<float>(kN * kN);
    REQUIRE(device.run("matrix_multiply", {3, 3, 1}, {16, 16, 1}, 0, device.upload(a), device.upload(b), c, static_cast<int>(kN)) == Fault::kNone);
    for (std::size_t row = 0; row < kN; ++row) {
      for (std::size_t column = 0; column < kN; ++column) {
        float expected = 0;
        for (std::size_t k = 0; k < kN; ++k) expected += a[row * kN + k] * b[k * kN + column];
        REQUIRE(c[row * kN + column] == expected);
      }
    }

    std::vector<unsigned char> bytes(10000);
    std::vector<unsigned> counts(256);
    for (std::size_t i = 0; i < bytes.size(); ++i) ++counts[bytes[i] = static_cast<unsigned char>(i * i >> 3)];
    unsigned* bins = device.allocate<unsigned>(256);
    REQUIRE(device.run("histogram", {7, 1, 1}, {96, 1, 1}, 1024, device.upload(bytes), 10000, bins) == Fault::kNone);
    for (std::size_t i = 0; i < 256; ++i) REQUIRE(bins[i] == counts[i]);
  }
}

TEST_CASE("votes, shuffles and matches see the lanes of their warp") {
  for (const char* variant : kVariants) {
    TestDevice device(ptx_of("parallel", variant));
    std::vector<int> in(64);
    for (int i = 0; i < 64; ++i) in[static_cast<std::size_t>(i)] = (i * 37) % 23 - 8;
    unsigned* out = device.allocate<unsigned>(64 * 8);
    REQUIRE(device.run("votes", {1, 1, 1}, {64, 1, 1}, 0, device.upload(in), out) == Fault::kNone);
    for (unsigned t = 0; t < 64; ++t) {
      INFO(variant << " thread " << t);
      const unsigned base = t / 32 * 32, lane = t % 32;
      unsigned ballot = 0, match = 0, any = 0, all = 1, count = 0;
      for (unsigned i = 0; i < 32; ++i) {
        const int x = in[base + i];
        ballot |= static_cast<unsigned>(x > 0) << i;
        match |= static_cast<unsigned>((x & 3) == (in[t] & 3)) << i;
        any |= x == 7;
        all &= x < 100;
      }
      for (const int x : in) count += x > 0;
      const unsigned* o = out + t * 8;
      REQUIRE(o[0] == ballot);
      REQUIRE(o[1] == any);
      REQUIRE(o[2] == all);
      REQUIRE(o[3] == match);
      REQUIRE(static_cast<int>(o[4]) == in[base + 5]);
      REQUIRE(static_cast<int>(o[5]) == in[base + (lane % 16 >= 3 ? lane - 3 : lane)]);
      REQUIRE(static_cast<int>(o[6]) == in[base + (lane % 8 + 2 < 8 ? lane + 2 : lane)]);
      REQUIRE(o[7] == count);
    }
  }
}

TEST_CASE("diverged lanes compute what they would alone and meet again") {
  for (const char* variant : kVariants) {
    TestDevice device(ptx_of("parallel", variant));
    int* out = device.allocate<int>(64);
    REQUIRE(device.run("divergence", {1, 1, 1}, {64, 1, 1}, 0, out, 40) == Fault::kNone);
    for (int i = 0; i < 64; ++i) {
      int r = 0;
      for (int k = 0; k < 40 + i % 7; ++k) {
        if (k % 5 == i % 5) {
          r += k;
          if (r % 11 == 3) break;
        } else if (i & 1) {
          for (int j = 0; j < i % 4; ++j) {
            r ^= j * k;
            if (r & 64) continue;
            r += 1;
          }
        } else {
          r -= 1;
        }
      }
      INFO(variant << " thread " << i);
      REQUIRE(out[i] == r + 100000);
    }
  }
}

TEST_CASE("spin locks make progress between lanes, warps and blocks") {
  for (const char* variant : kVariants) {
    TestDevice device(ptx_of("parallel", variant));
    int* lock = device.allocate<int>(2);
    REQUIRE(device.run("spin_lock", {4, 1, 1}, {64, 1, 1}, 0, lock, lock + 1, 2) == Fault::kNone);
    REQUIRE(lock[1] == 4 * 64 * 2);
    lock[1] = 0;
    REQUIRE(device.run("independent_lock", {2, 1, 1}, {40, 1, 1}, 0, lock, lock + 1) == Fault::kNone);
    REQUIRE(lock[1] == 80);
  }
}

TEST_CASE("a cooperative launch synchronises its whole grid") {
  for (const char* variant : kVariants) {
    TestDevice device(ptx_of("parallel", variant));
    std::vector<int> data(320);
    std::iota(data.begin(), data.end(), 0);
    int* out = device.allocate<int>(320);
    device.cooperative = true;
    REQUIRE(device.run("grid_wide", {10, 1, 1}, {32, 1, 1}, 0, device.upload(data), out, 3) == Fault::kNone);
    for (int i = 0; i < 320; ++i) REQUIRE(out[i] == (i + 3) % 320 + 3);
    device.cooperative = false;
    REQUIRE(device.run("grid_wide", {10, 1, 1}, {32, 1, 1}, 0, device.upload(data), out, 1) == Fault::kTrap);
  }
}

TEST_CASE("tiles and coalesced groups of cooperative groups work") {
  for (const char* variant : kVariants) {
    INFO(variant);
    TestDevice device(ptx_of("parallel", variant));
    std::vector<int> in(64);
    for (int i = 0; i < 64; ++i) in[static_cast<std::size_t>(i)] = (i * 13) % 31;
    int* out = device.allocate<int>(64);
    REQUIRE(device.run("groups", {1, 1, 1}, {64, 1, 1}, 0, device.upload(in), out) == Fault::kNone);
    for (std::size_t i = 0; i < 64; ++i) {
      const auto tile = in.begin() + static_cast<std::ptrdiff_t>(i / 8 * 8);
      REQUIRE(out[i] == std::accumulate(tile, tile + 8, 0) + *std::max_element(tile, tile + 8) + (i & 1 ? 16000 : 0));
    }
  }
}

TEST_CASE("atomics of all types lose nothing between blocks on several host threads") {
  for (const char* variant : kVariants) {
    TestDevice device(ptx_of("parallel", variant));
    constexpr int kThreads = 64 * 128;
    int* i = device.allocate<int>(4);
    unsigned* u = device.allocate<unsigned>(5);
    unsigned long long* l = device.allocate<unsigned long long>(2);
    float* f = device.allocate<float>(1);
    double* d = device.allocate<double>(1);
    u[2] = ~0u;
    REQUIRE(device.run("atomics", {64, 1, 1}, {128, 1, 1}, 0, i, u, l, f, d) == Fault::kNone);
    const int sum = kThreads * (kThreads - 1) / 2;
    REQUIRE(i[0] == sum);
    REQUIRE(i[1] == -sum);
    REQUIRE(i[2] == 1 - kThreads);
    REQUIRE(i[3] == kThreads - 1);
    REQUIRE(u[0] == kThreads % 10);
    REQUIRE(u[1] == 9 - (kThreads - 1) % 10);
    REQUIRE(u[2] == 0);
    REQUIRE(u[3] == ~0u);
    unsigned x = 0;
    for (unsigned t = 0; t < kThreads; ++t) x ^= t;
    REQUIRE(u[4] == x);
    REQUIRE(l[0] == static_cast<unsigned long long>(sum) << 33);
    REQUIRE(l[1] == (kThreads - 1ull) << 33);
    REQUIRE(f[0] == 0.5f * kThreads);
    REQUIRE(d[0] == 0.25 * kThreads);
  }
}

TEST_CASE("the last block of a grid sees what all others wrote") {
  TestDevice device(ptx_of("parallel", "sm90"));
  std::vector<int> in(64 * 32);
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = i % 3 == 0;
  int* out = device.allocate<int>(1);
  REQUIRE(device.run("last_block", {64, 1, 1}, {32, 1, 1}, 0, device.upload(in), out, device.allocate<unsigned>(1)) == Fault::kNone);
  REQUIRE(*out == std::accumulate(in.begin(), in.end(), 0));
}

TEST_CASE("half and bfloat16 arithmetic rounds once") {
  std::mt19937 random(5);
  std::uniform_real_distribution<float> real(-60, 60);
  std::vector<float> a(64), b(64);
  for (std::size_t i = 0; i < 64; ++i) a[i] = real(random), b[i] = real(random);
  const auto round = [](double x, int digits) {
    int exponent = 0;
    std::frexp(x, &exponent);
    const double unit = std::ldexp(1.0, std::max(exponent, digits == 11 ? -13 : -125) - digits);
    return std::nearbyint(x / unit) * unit;
  };
  for (const char* variant : kVariants) {
    TestDevice device(ptx_of("parallel", variant));
    float* out = device.allocate<float>(64 * 16);
    REQUIRE(device.run("halves", {1, 1, 1}, {64, 1, 1}, 0, device.upload(a), device.upload(b), out) == Fault::kNone);
    for (std::size_t i = 0; i < 64; ++i) {
      const double x = round(a[i], 11), y = round(b[i], 11), p = round(a[i], 8), q = round(b[i], 8);
      const float* o = out + i * 16;
      const auto half = [&](double v) { return static_cast<float>(round(v, 11)); };
      INFO(variant << ": " << a[i] << ", " << b[i]);
      REQUIRE(o[0] == half(x));
      REQUIRE(o[1] == half(x + y));
      REQUIRE(o[2] == half(x * y));
      REQUIRE(o[3] == half(x * y + x));
      REQUIRE(o[5] == (x < y));
      REQUIRE(std::fabs(o[6] - std::sqrt(std::fabs(x))) <= std::fabs(o[6]) / 1024);
      REQUIRE(o[7] == half(x * y + x));
      REQUIRE(o[9] == static_cast<float>(p));
      REQUIRE(o[10] == static_cast<float>(round(p * q, 8)));
      REQUIRE(o[11] == static_cast<float>(round(p + q, 8)));
      REQUIRE(o[12] == std::nearbyint(static_cast<float>(x)));
      REQUIRE(o[13] == half(static_cast<double>(i) * 37));
      REQUIRE(o[14] == static_cast<float>(std::max(x, y)));
    }
  }
}

}  // namespace avec::cpu::ptx
