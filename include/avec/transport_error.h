// The errors and buffers that transports speak of.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace avec {

/// Why a transport operation did not succeed.
enum class TransportErrc : std::uint8_t {
  kNone,
  kClosed,       ///< the peer closed in order; every byte it sent has been received
  kReset,        ///< the connection broke; bytes in flight may be lost
  kRefused,      ///< nobody listens there
  kUnreachable,  ///< no route, no such host
  kTimeout,      ///< the deadline passed
  kNotViable,    ///< this machine cannot use this transport (no such hardware, no such scheme)
  kBadAddress,   ///< the URL does not parse
  kResources,    ///< out of descriptors or memory
  kInternal      ///< os_error says more
};

/// The error's name in words, for messages. Static storage.
std::string_view to_string(TransportErrc code) noexcept;

struct TransportError {
  TransportErrc code = TransportErrc::kNone;
  int os_error = 0;  ///< errno where the system said one, else 0
  explicit operator bool() const noexcept { return code != TransportErrc::kNone; }
};

/// Bytes moved by a non-blocking operation. bytes == 0 with no error: it would block.
struct IoResult {
  std::size_t bytes = 0;
  TransportError error;
};

using Deadline = std::chrono::steady_clock::time_point;
using ConstBytes = std::span<const std::byte>;
using MutableBytes = std::span<std::byte>;

}  // namespace avec
