// Types by value in the C functions of CUDA's libraries, as their headers lay them out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace avec::libraries {

/// cuComplex, cuDoubleComplex.
struct Complex64 {
  float x, y;
};
struct Complex128 {
  double x, y;
};
/// A C struct of so many bytes, passed by value (ncclUniqueId).
template <std::size_t N>
struct Bytes {
  char bytes[N];
};

/// Length word of a null pointer (schemas/libraries.fbs).
inline constexpr std::uint64_t kNull = ~std::uint64_t{0};
/// Bytes that one call may read and write in host memory, all its arguments together.
inline constexpr std::uint64_t kMaxHostBytes = 12u << 20;
/// Bytes that the executor lends one session's calls at a time for what libraries only work in. None of it travels.
inline constexpr std::uint64_t kMaxScratchBytes = std::uint64_t{2} << 30;

/// Bytes of `count` elements: kNull where the count is negative, more than kMaxHostBytes where it is absurd.
template <class Count>
constexpr std::uint64_t host_bytes(Count count, std::uint64_t element) {
  if (std::is_signed_v<Count> && count < 0) return kNull;
  const auto number = static_cast<std::uint64_t>(count);
  return number > kMaxHostBytes ? kMaxHostBytes + 1 : number * element;
}

}  // namespace avec::libraries
