// The three primitives of authentication and of the module cache, from OpenSSL.
#pragma once

#include <array>
#include <cstddef>
#include <initializer_list>

#include "avec/transport.h"
#include "base/result.h"
#include "driver_generated.h"

namespace avec::wire {

using Digest = std::array<std::byte, 32>;

/// Fills `bytes` from the system's generator for secrets.
[[nodiscard]] Result<> random_bytes(MutableBytes bytes);

/// HMAC-SHA256 of the parts, one behind the other.
[[nodiscard]] Result<Digest> hmac(ConstBytes key, std::initializer_list<ConstBytes> parts);

/// Compares in a time that depends on the lengths only.
[[nodiscard]] bool same_secret(ConstBytes a, ConstBytes b);

/// SHA-256: what names a module's image on the wire and in the cache.
[[nodiscard]] Result<ContentHash> content_hash(ConstBytes bytes);

}  // namespace avec::wire
