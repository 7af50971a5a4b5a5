// Frames: what the generated code (calls.h, built from schemas/) and hand-written code share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

#include "avec/transport.h"
#include "base/limits.h"
#include "base/result.h"
#include "schemas_generated.h"  // all of schemas/

namespace avec::wire {

inline constexpr std::uint32_t kMagic = 0x43455641;  // "AVEC"
inline constexpr std::uint16_t kMajor = 1;
inline constexpr std::uint16_t kMinor = 0;
inline constexpr std::size_t kHeaderBytes = sizeof(FrameHeader);
static_assert(kHeaderBytes == 48);

enum class Mode : std::uint8_t { kPosted, kSynchronous, kDeferred, kPush };
enum class Payload : std::uint8_t { kNone, kIn, kOut };
enum class Sender : std::uint8_t { kClient, kExecutor, kBoth };

/// What the schema says of one call. Generated: `call_info(opcode)` in calls.h.
struct CallInfo {
  std::string_view name;    ///< "LaunchKernel"
  std::uint16_t opcode;
  Mode mode;
  Sender sender;
  Payload payload;
  bool may_block;
  bool passes;
  /// Bytes of a struct body; 0: the body is a table.
  std::uint32_t body_bytes;
  /// Bytes of a struct reply; 0: none, or a table (reply_is_table).
  std::uint32_t reply_bytes;
  bool reply_is_table;
};

/// Specialised for each body by the generated calls.h:
///   static constexpr Opcode opcode; static constexpr Mode mode; static constexpr Payload payload;
///   using Reply = the reply's struct or table, or void.
template <class Body>
struct CallTraits;

/// True for FlatBuffers structs (fixed size, memcpy'd), false for tables.
template <class T>
inline constexpr bool kIsTable = std::is_base_of_v<flatbuffers::Table, T>;

constexpr std::uint64_t padded(std::uint64_t bytes) { return (bytes + 7) & ~std::uint64_t{7}; }

/// Checks of a header that need no state: known opcode, sender, sizes within limits, zero
/// fields zero, body size right for a struct body. Origin::kProtocol with a static reason.
Result<> check_header(const FrameHeader& header, Sender from);

/// Structural verification of a table body or reply by the FlatBuffers Verifier, with limits.
/// `body` is 8-byte aligned.
Result<> verify_body(const FrameHeader& header, ConstBytes body);

/// The body as a struct; its size has been checked by check_header.
template <class Body>
Body read_struct(ConstBytes body) {
  static_assert(!kIsTable<Body>);
  Body value;
  std::memcpy(&value, body.data(), sizeof value);
  return value;
}

}  // namespace avec::wire
