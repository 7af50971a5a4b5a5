// Sizes of cuRAND's tables for device code: the same on both sides (cuRAND 10: 20000 dimensions).
#pragma once

#include <cstdint>

namespace avec::libraries {

enum CurandTable : int { kVectors32, kVectors64, kScramble32, kScramble64, kCurandTables };

inline constexpr std::uint64_t kCurandDimensions = 20000;

/// Bytes of a table; 0 for one that does not exist.
constexpr std::uint64_t curand_table_bytes(int table) {
  switch (table) {
    case kVectors32:
      return kCurandDimensions * 32 * 4;
    case kVectors64:
      return kCurandDimensions * 64 * 8;
    case kScramble32:
      return kCurandDimensions * 4;
    case kScramble64:
      return kCurandDimensions * 8;
    default:
      return 0;
  }
}

}  // namespace avec::libraries
