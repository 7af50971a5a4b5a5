// The sequences of cuRAND's generators.
//
// XORWOW, MRG32K3A and PHILOX4_32_10 give the numbers that cuRAND gives (their recurrences and
// seeding are those of curand_kernel.h, their order in memory that of cuRAND's documentation). The
// Mersenne twisters are std::mt19937's, in one sequence: cuRAND's interleave many.
#pragma once

#include <cstdint>
#include <memory>

namespace avec::cpu::curand {

enum Type : int {
  kXorwow = 101,
  kMrg32k3a = 121,
  kMtgp32 = 141,
  kMt19937 = 142,
  kPhilox = 161,
  kSobol32 = 201,
  kScrambledSobol32 = 202,
  kSobol64 = 203,
  kScrambledSobol64 = 204,
};
inline constexpr int kLegacyOrdering = 103;
/// Dimensions of quasi-random points for which there are direction numbers.
inline constexpr unsigned kMostDimensions = 21;

struct Settings {
  int type = kXorwow;
  std::uint64_t seed = 0;
  std::uint64_t offset = 0;
  int ordering = 101;
  unsigned dimensions = 1;
};

/// A pseudo-random sequence: many interleaved ones, from which results are taken in turn.
class Engine {
 public:
  virtual ~Engine() = default;
  /// The next 32 bits of the sequence whose turn it is.
  virtual std::uint32_t draw() = 0;
  /// From above 0 up to 1.
  virtual float uniform();
  virtual double uniform_double();
  /// The result is complete: the next sequence's turn.
  virtual void next() {}
};

/// Null for quasi-random types.
std::unique_ptr<Engine> make_engine(const Settings& settings);

float to_float(std::uint32_t bits);
double to_double(std::uint32_t low, std::uint32_t high);

/// Point `index` of a quasi-random sequence in one dimension, below kMostDimensions; of the types
/// of 32 bits in the upper half.
std::uint64_t sobol(int type, unsigned dimension, std::uint64_t index);

}  // namespace avec::cpu::curand
