// Types by value in the C functions of CUDA's libraries, as their headers lay them out.
#pragma once

#include <cstddef>
#include <cstdint>

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
/// Bytes that one call may read or write in host memory.
inline constexpr std::uint64_t kMaxHostBytes = 12u << 20;

/// Bytes of `count` elements; more than kMaxHostBytes where that is negative or absurd.
template <class Count>
constexpr std::uint64_t host_bytes(Count count, std::uint64_t element) {
  const auto number = static_cast<std::uint64_t>(count);
  return number > kMaxHostBytes ? kNull : number * element;
}

}  // namespace avec::libraries
