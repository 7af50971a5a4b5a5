// What the ends tell each other on the stream before their queue pairs carry anything.
//
// Three messages each way, all of one size, little-endian. Each end sends its own before it waits
// for the peer's of the same step:
//
//   step      says                                            then
//   kOffer    parameters of the queue pair, or why there is   both have one: the queue pairs are
//             none                                            connected; otherwise both stop here
//   kReady    the queue pair can send and receive, or why     both can: each sends a probe over it
//             not                                             and waits for the peer's
//   kVerdict  the probe arrived both ways, or why not         both did: the connection is open
//
// After the last message that both have sent, an end that stops leaves the stream as it was. Later
// the stream carries one byte only, kFarewell, before an orderly end; its end without that byte is
// the peer's death.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

#include "transport/rdma/context.h"

namespace avec::rdma {

inline constexpr std::byte kFarewell{0xbe};

enum class Step : std::uint32_t { kOffer = 1, kReady, kVerdict };

/// What an end needs to know of the other's queue pair. Verified when it comes from the peer.
struct Parameters {
  std::uint32_t queue_pair = 0;       ///< number, 24 bits
  std::uint32_t packet_sequence = 0;  ///< first, 24 bits, random
  std::array<std::uint8_t, 16> gid{};
  std::uint16_t lid = 0;
  std::uint8_t ethernet = 0;     ///< 1: RoCE, addressed by GID; 0: InfiniBand
  std::uint8_t mtu = 0;          ///< ibv_mtu of the active port
  std::uint8_t read_depth = 0;   ///< RDMA READs that this end answers at once
  std::uint8_t read_starts = 0;  ///< RDMA READs that this end starts at once
  std::uint16_t slots = 0;       ///< receive slots that need a credit
  std::uint32_t slot_bytes = 0;
  std::uint64_t machine = 0;  ///< machine_identity()
  friend bool operator==(const Parameters&, const Parameters&) = default;
};

/// One message.
struct Message {
  Step step = Step::kOffer;
  bool good = false;
  Parameters parameters;  ///< of an offer that is good
  std::string reason;     ///< why not good
};

inline constexpr std::size_t kMessageBytes = 256;
using MessageBytes = std::array<std::byte, kMessageBytes>;

MessageBytes encode(const Message& message);
/// The message, with everything in it in its range; or what is wrong with it.
std::expected<Message, std::string_view> decode(const MessageBytes& bytes, Step expected);

/// Sends `mine` and waits for the peer's of the same step.
std::expected<Message, Failure> exchange(Connection& stream, const Message& mine, Deadline deadline);

}  // namespace avec::rdma
