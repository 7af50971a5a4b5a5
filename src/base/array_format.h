// What a CUarray_format says about the elements of an array in memory.
#pragma once

#include <cstdint>

namespace avec {

/// How a channel's bits become a value.
enum class ChannelKind : std::uint8_t { kUnsigned, kSigned, kUnorm, kSnorm, kFloat, kOther };

struct ArrayFormat {
  ChannelKind kind = ChannelKind::kOther;
  unsigned channel_bytes = 0;  ///< of one channel; 0: not of whole bytes, or not known
  unsigned channels = 0;       ///< that the format has by itself; 0: the descriptor says
  unsigned element_bytes = 0;  ///< of an element, or block, where `channels` is not 0
  unsigned block = 1;          ///< elements along an edge of a block: 4 of block-compressed formats
  bool srgb = false;

  constexpr bool known() const { return channel_bytes != 0 || element_bytes != 0; }
  constexpr unsigned bytes(unsigned descriptor_channels) const {
    return channels != 0 ? element_bytes : channel_bytes * descriptor_channels;
  }
};

/// By the value of a CUarray_format (cuda.h). Formats of several planes, and what is no format, are
/// not known(): their elements cannot be copied as a whole.
constexpr ArrayFormat array_format(std::uint32_t format) {
  using enum ChannelKind;
  switch (format) {
    case 0x01: return {kUnsigned, 1};
    case 0x02: return {kUnsigned, 2};
    case 0x03: return {kUnsigned, 4};
    case 0x08: return {kSigned, 1};
    case 0x09: return {kSigned, 2};
    case 0x0a: return {kSigned, 4};
    case 0x10: return {kFloat, 2};
    case 0x20: return {kFloat, 4};
    case 0x50: return {kUnorm, 0, 4, 4};  // 10, 10, 10 and 2 bits
    case 0xc0: return {kUnorm, 1, 1, 1};
    case 0xc1: return {kUnorm, 1, 2, 2};
    case 0xc2: return {kUnorm, 1, 4, 4};
    case 0xc3: return {kUnorm, 2, 1, 2};
    case 0xc4: return {kUnorm, 2, 2, 4};
    case 0xc5: return {kUnorm, 2, 4, 8};
    case 0xc6: return {kSnorm, 1, 1, 1};
    case 0xc7: return {kSnorm, 1, 2, 2};
    case 0xc8: return {kSnorm, 1, 4, 4};
    case 0xc9: return {kSnorm, 2, 1, 2};
    case 0xca: return {kSnorm, 2, 2, 4};
    case 0xcb: return {kSnorm, 2, 4, 8};
    case 0x91: return {kUnorm, 0, 4, 8, 4};
    case 0x92: return {kUnorm, 0, 4, 8, 4, true};
    case 0x93:
    case 0x95: return {kUnorm, 0, 4, 16, 4};
    case 0x94:
    case 0x96: return {kUnorm, 0, 4, 16, 4, true};
    case 0x97: return {kUnorm, 0, 1, 8, 4};
    case 0x98: return {kSnorm, 0, 1, 8, 4};
    case 0x99: return {kUnorm, 0, 2, 16, 4};
    case 0x9a: return {kSnorm, 0, 2, 16, 4};
    case 0x9b:
    case 0x9c: return {kFloat, 0, 3, 16, 4};
    case 0x9d: return {kUnorm, 0, 4, 16, 4};
    case 0x9e: return {kUnorm, 0, 4, 16, 4, true};
    default: return {};
  }
}

/// An array's extents in rows of bytes.
struct ArrayShape {
  std::uint64_t row_bytes = 0, rows = 0, slices = 0;
};
/// Of a descriptor; zero extents mean 1. All 0 where the format is not known.
constexpr ArrayShape array_shape(std::uint64_t width, std::uint64_t height, std::uint64_t depth,
                                 std::uint32_t format, unsigned channels) {
  const ArrayFormat f = array_format(format);
  if (!f.known()) return {};
  const auto blocks = [&](std::uint64_t n) { return n == 0 ? 1 : (n + f.block - 1) / f.block; };
  return {blocks(width) * f.bytes(channels), blocks(height), depth == 0 ? 1 : depth};
}

}  // namespace avec
