#include "devices/cpu/libraries/curand/engines.h"

#include <array>
#include <random>
#include <vector>

namespace avec::cpu::curand {

float to_float(std::uint32_t bits) { return static_cast<float>(bits) * 0x1p-32F + 0x1p-33F; }
double to_double(std::uint32_t low, std::uint32_t high) {
  const std::uint64_t bits = low ^ (static_cast<std::uint64_t>(high) << 21);
  return static_cast<double>(bits) * 0x1p-53 + 0x1p-54;
}
float Engine::uniform() { return to_float(draw()); }
double Engine::uniform_double() {
  const auto low = draw();
  return to_double(low, draw());
}

namespace {

// ---- XORWOW ------------------------------------------------------------------------------

/// The part of XORWOW's state that is linear over bits.
using Bits = std::array<std::uint32_t, 5>;
/// What becomes of each single bit.
using BitMatrix = std::vector<Bits>;

void xorwow_step(Bits& v) {
  const std::uint32_t t = v[0] ^ (v[0] >> 2);
  v = {v[1], v[2], v[3], v[4], (v[4] ^ (v[4] << 4)) ^ (t ^ (t << 1))};
}

Bits operator*(const BitMatrix& matrix, const Bits& vector) {
  Bits result{};
  for (std::size_t bit = 0; bit < 160; ++bit) {
    if ((vector[bit / 32] >> (bit % 32) & 1) == 0) continue;
    for (std::size_t i = 0; i < 5; ++i) result[i] ^= matrix[bit][i];
  }
  return result;
}

/// 2^i steps at once, for i = 0 ... 67.
const std::vector<BitMatrix>& xorwow_jumps() {
  static const std::vector<BitMatrix> jumps = [] {
    BitMatrix step(160);
    for (std::size_t bit = 0; bit < 160; ++bit) {
      step[bit][bit / 32] = std::uint32_t{1} << (bit % 32);
      xorwow_step(step[bit]);
    }
    std::vector<BitMatrix> all{step};
    while (all.size() < 68) {
      BitMatrix twice(160);
      for (std::size_t bit = 0; bit < 160; ++bit) twice[bit] = all.back() * all.back()[bit];
      all.push_back(std::move(twice));
    }
    return all;
  }();
  return jumps;
}

/// Result n is number n / 4096 of sequence n % 4096; sequences begin 2^67 steps apart.
class Xorwow final : public Engine {
 public:
  explicit Xorwow(const Settings& settings) : lanes_(4096) {
    const auto s0 = static_cast<std::uint32_t>(settings.seed) ^ 0xaad26b49U;
    const auto s1 = static_cast<std::uint32_t>(settings.seed >> 32) ^ 0xf7dcefddU;
    const std::uint32_t t0 = 1099087573U * s0, t1 = 2591861531U * s1;
    Bits v{123456789U + t0, 362436069U ^ t0, 521288629U + t1, 88675123U ^ t1, 5783321U + t0};
    const std::uint64_t steps = settings.offset / lanes_.size();
    const auto weyl = static_cast<std::uint32_t>(6615241U + t1 + t0 + 362437U * steps);
    const auto& jumps = xorwow_jumps();
    for (std::size_t bit = 0; bit < 64; ++bit) {
      if ((steps >> bit & 1) != 0) v = jumps[bit] * v;
    }
    for (auto& lane : lanes_) {
      lane = {v, weyl};
      v = jumps[67] * v;
    }
    for (std::uint64_t i = 0; i < settings.offset % lanes_.size(); ++i, next()) draw();
  }
  std::uint32_t draw() override {
    auto& [v, weyl] = lanes_[turn_];
    xorwow_step(v);
    weyl += 362437U;
    return v[4] + weyl;
  }
  void next() override { turn_ = (turn_ + 1) % lanes_.size(); }

 private:
  struct Lane {
    Bits v;
    std::uint32_t weyl;
  };
  std::vector<Lane> lanes_;
  std::size_t turn_ = 0;
};

// ---- MRG32K3A ----------------------------------------------------------------------------

constexpr std::uint64_t kMod1 = 4294967087U, kMod2 = 4294944443U;
using Three = std::array<std::uint64_t, 3>;
using Matrix3 = std::array<Three, 3>;

Three times(const Matrix3& a, const Three& v, std::uint64_t mod) {
  Three result{};
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 3; ++j) result[i] = (result[i] + a[i][j] * v[j] % mod) % mod;
  }
  return result;
}
Matrix3 times(const Matrix3& a, const Matrix3& b, std::uint64_t mod) {
  Matrix3 result{};
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 3; ++j) {
      for (std::size_t k = 0; k < 3; ++k) result[i][j] = (result[i][j] + a[i][k] * b[k][j] % mod) % mod;
    }
  }
  return result;
}

/// Result n is number n / L of sequence n % L, of L: 4096 in the legacy order, else 81920.
class Mrg32k3a final : public Engine {
 public:
  explicit Mrg32k3a(const Settings& settings) : lanes_(settings.ordering == kLegacyOrdering ? 4096 : 81920) {
    Lane lane{{12345, 12345, 12345}, {12345, 12345, 12345}};
    if (settings.seed != 0) {
      const std::uint64_t x1 = static_cast<std::uint32_t>(settings.seed) ^ 0x55555555U;
      const std::uint64_t x2 = static_cast<std::uint32_t>(settings.seed >> 32) ^ 0xaaaaaaaaU;
      for (std::size_t i = 0; i < 3; ++i) {
        lane.s1[i] = (i == 1 ? x2 : x1) * 12345 % kMod1;
        lane.s2[i] = (i == 1 ? x1 : x2) * 12345 % kMod2;
      }
    }
    Matrix3 jump1{{{0, 1, 0}, {0, 0, 1}, {kMod1 - 810728, 1403580, 0}}};
    Matrix3 jump2{{{0, 1, 0}, {0, 0, 1}, {kMod2 - 1370589, 0, 527612}}};
    const std::uint64_t steps = settings.offset / lanes_.size();
    for (int bit = 0; bit < 76; ++bit) {
      if (bit < 64 && (steps >> bit & 1) != 0) {
        lane.s1 = times(jump1, lane.s1, kMod1);
        lane.s2 = times(jump2, lane.s2, kMod2);
      }
      jump1 = times(jump1, jump1, kMod1);
      jump2 = times(jump2, jump2, kMod2);
    }
    for (auto& each : lanes_) {
      each = lane;
      lane.s1 = times(jump1, lane.s1, kMod1);
      lane.s2 = times(jump2, lane.s2, kMod2);
    }
    for (std::uint64_t i = 0; i < settings.offset % lanes_.size(); ++i, next()) draw();
  }
  std::uint32_t draw() override { return static_cast<std::uint32_t>(number() * 1.000000048662); }
  float uniform() override { return static_cast<float>(number() * kNorm); }
  double uniform_double() override { return number() * kNorm; }
  void next() override { turn_ = (turn_ + 1) % lanes_.size(); }

 private:
  static constexpr double kNorm = 2.3283065498378288e-10;
  struct Lane {
    Three s1, s2;
  };
  /// 1 ... kMod1.
  double number() {
    auto& [s1, s2] = lanes_[turn_];
    const std::uint64_t p1 = (1403580 * s1[1] + 810728 * (kMod1 - s1[0])) % kMod1;
    const std::uint64_t p2 = (527612 * s2[2] + 1370589 * (kMod2 - s2[0])) % kMod2;
    s1 = {s1[1], s1[2], p1};
    s2 = {s2[1], s2[2], p2};
    return static_cast<double>(p1 <= p2 ? p1 + kMod1 - p2 : p1 - p2);
  }
  std::vector<Lane> lanes_;
  std::size_t turn_ = 0;
};

// ---- Philox ------------------------------------------------------------------------------

/// Four results at a time from each of 65536 sequences, doubles too, which take two steps of a sequence.
class Philox final : public Engine {
 public:
  explicit Philox(const Settings& settings) : seed_(settings.seed), at_(settings.offset) {}
  std::uint32_t draw() override {
    if (doubles_) {  // beyond all that they took
      at_ = (at_ / kRound + 1) * 2 * kRound;
      doubles_ = false;
    }
    const auto word = words(at_ / kRound, at_ / 4 % kLanes)[at_ % 4];
    ++at_;
    return word;
  }
  double uniform_double() override {
    if (!doubles_) {
      at_ = (at_ + 3) / 4 * 4;
      doubles_ = true;
    }
    const auto& four = words(at_ / kRound * 2 + at_ % 4 / 2, at_ / 4 % kLanes);
    const std::size_t first = at_ % 2 * 2;
    ++at_;
    return to_double(four[first], four[first + 1]);
  }

 private:
  static constexpr std::uint64_t kLanes = 65536, kRound = 4 * kLanes;
  const std::array<std::uint32_t, 4>& words(std::uint64_t step, std::uint64_t lane) {
    if (known_ && step == step_ && lane == lane_) return words_;
    known_ = true;
    step_ = step;
    lane_ = lane;
    std::array<std::uint32_t, 4> c{static_cast<std::uint32_t>(step), static_cast<std::uint32_t>(step >> 32),
                                   static_cast<std::uint32_t>(lane), 0};
    auto k0 = static_cast<std::uint32_t>(seed_), k1 = static_cast<std::uint32_t>(seed_ >> 32);
    for (int round = 0; round < 10; ++round, k0 += 0x9e3779b9U, k1 += 0xbb67ae85U) {
      const std::uint64_t p0 = std::uint64_t{0xd2511f53U} * c[0], p1 = std::uint64_t{0xcd9e8d57U} * c[2];
      c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(p1),
           static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<std::uint32_t>(p0)};
    }
    return words_ = c;
  }
  std::uint64_t seed_, at_, step_ = 0, lane_ = 0;  // at_: the next result, a double if doubles_
  bool doubles_ = false, known_ = false;
  std::array<std::uint32_t, 4> words_{};
};

class Mersenne final : public Engine {
 public:
  explicit Mersenne(const Settings& settings) : twister_(seed_of(settings)) { twister_.discard(settings.offset); }
  std::uint32_t draw() override { return static_cast<std::uint32_t>(twister_()); }

 private:
  static std::uint32_t seed_of(const Settings& settings) {
    const auto low = static_cast<std::uint32_t>(settings.seed), high = static_cast<std::uint32_t>(settings.seed >> 32);
    return low ^ (high * 0x9e3779b9U) ^ (settings.type == kMtgp32 ? 0x6d747067U : 0U);
  }
  std::mt19937 twister_;
};

// ---- Sobol -------------------------------------------------------------------------------

/// The polynomial and the first direction numbers of a dimension (S. Joe, F. Y. Kuo, 2008).
struct Direction {
  unsigned degree, polynomial;
  std::array<unsigned, 7> first;
};
constexpr std::array<Direction, kMostDimensions - 1> kDirections{{
    {1, 0, {1}},
    {2, 1, {1, 3}},
    {3, 1, {1, 3, 1}},
    {3, 2, {1, 1, 1}},
    {4, 1, {1, 1, 3, 3}},
    {4, 4, {1, 3, 5, 13}},
    {5, 2, {1, 1, 5, 5, 17}},
    {5, 4, {1, 1, 5, 5, 5}},
    {5, 7, {1, 1, 7, 11, 19}},
    {5, 11, {1, 1, 5, 1, 1}},
    {5, 13, {1, 1, 1, 3, 11}},
    {5, 14, {1, 3, 5, 5, 31}},
    {6, 1, {1, 3, 3, 9, 7, 49}},
    {6, 13, {1, 1, 1, 15, 21, 21}},
    {6, 16, {1, 3, 1, 13, 27, 49}},
    {6, 19, {1, 1, 1, 15, 7, 5}},
    {6, 22, {1, 3, 1, 15, 13, 25}},
    {6, 25, {1, 1, 5, 5, 19, 61}},
    {7, 1, {1, 3, 7, 11, 23, 15, 103}},
    {7, 4, {1, 3, 7, 13, 13, 15, 69}},
}};

using Vectors = std::array<std::uint64_t, 64>;

Vectors vectors_of(unsigned dimension) {
  Vectors v{};
  for (unsigned i = 0; i < 64; ++i) v[i] = std::uint64_t{1} << (63 - i);
  if (dimension == 0) return v;
  const auto& [degree, polynomial, first] = kDirections[dimension - 1];
  for (unsigned i = 0; i < 64; ++i) {
    if (i < degree) {
      v[i] = static_cast<std::uint64_t>(first[i]) << (63 - i);
      continue;
    }
    v[i] = v[i - degree] ^ (v[i - degree] >> degree);
    for (unsigned k = 1; k < degree; ++k) {
      if ((polynomial >> (degree - 1 - k) & 1) != 0) v[i] ^= v[i - k];
    }
  }
  return v;
}

}  // namespace

std::uint64_t sobol(int type, unsigned dimension, std::uint64_t index) {
  static const std::array<Vectors, kMostDimensions> all = [] {
    std::array<Vectors, kMostDimensions> made{};
    for (unsigned d = 0; d < kMostDimensions; ++d) made[d] = vectors_of(d);
    return made;
  }();
  std::uint64_t gray = index ^ (index >> 1), value = 0;
  for (unsigned bit = 0; gray != 0; ++bit, gray >>= 1) {
    if ((gray & 1) != 0) value ^= all[dimension][bit];
  }
  // Scrambled by a shift of each dimension's own.
  static const std::array<std::uint64_t, kMostDimensions> shifts = [] {
    std::array<std::uint64_t, kMostDimensions> made{};
    for (unsigned d = 0; d < kMostDimensions; ++d) made[d] = std::mt19937_64(0x5c7a3b1e + d)();
    return made;
  }();
  if (type == kScrambledSobol32 || type == kScrambledSobol64) value ^= shifts[dimension];
  return type == kSobol64 || type == kScrambledSobol64 ? value : value & 0xffffffff00000000U;
}

std::unique_ptr<Engine> make_engine(const Settings& settings) {
  switch (settings.type) {
    case kXorwow:
      return std::make_unique<Xorwow>(settings);
    case kMrg32k3a:
      return std::make_unique<Mrg32k3a>(settings);
    case kPhilox:
      return std::make_unique<Philox>(settings);
    case kMt19937:
    case kMtgp32:
      return std::make_unique<Mersenne>(settings);
    default:
      return nullptr;
  }
}

}  // namespace avec::cpu::curand
