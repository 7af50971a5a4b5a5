// Errors inside AVEC: small values that allocate nothing. At the public C++ face they become
// exceptions (include/avec/error.h), across a C ABI the API's own codes.
#pragma once

#include <cstdint>
#include <expected>

namespace avec {

/// Where an error comes from, and with that whose fault it is.
enum class Origin : std::uint8_t {
  kCuda,       ///< code is a CUresult
  kSystem,     ///< code is an errno
  kTransport,  ///< code is a TransportErrc
  kProtocol,   ///< the peer sent what it must not; code is 0
  kUser        ///< bad input from the user; code is 0
};

struct Error {
  Origin origin = Origin::kSystem;
  std::int32_t code = 0;
  /// Static storage: what was being done, in words ("reading the token file").
  const char* what = "";

  friend constexpr bool operator==(const Error& a, const Error& b) {
    return a.origin == b.origin && a.code == b.code;
  }
};

template <class T = void>
using Result = std::expected<T, Error>;

[[nodiscard]] inline std::unexpected<Error> cuda_error(int code, const char* what = "") {
  return std::unexpected(Error{Origin::kCuda, code, what});
}
[[nodiscard]] inline std::unexpected<Error> system_error(int code, const char* what) {
  return std::unexpected(Error{Origin::kSystem, code, what});
}
[[nodiscard]] inline std::unexpected<Error> protocol_error(const char* what) {
  return std::unexpected(Error{Origin::kProtocol, 0, what});
}
[[nodiscard]] inline std::unexpected<Error> user_error(const char* what) {
  return std::unexpected(Error{Origin::kUser, 0, what});
}

}  // namespace avec
