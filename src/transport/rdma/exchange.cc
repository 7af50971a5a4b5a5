#include "transport/rdma/exchange.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

namespace avec::rdma {
namespace {

static_assert(std::endian::native == std::endian::little, "the layout below is the machine's own");

constexpr std::uint32_t kMagic = 0x41445241;  // "ARDA"
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kReasonBytes = 192;

struct Layout {
  std::uint32_t magic;
  std::uint32_t version;
  std::uint32_t step;
  std::uint32_t good;
  std::uint32_t queue_pair;
  std::uint32_t packet_sequence;
  std::uint8_t gid[16];
  std::uint16_t lid;
  std::uint8_t ethernet;
  std::uint8_t mtu;
  std::uint8_t read_depth;
  std::uint8_t read_starts;
  std::uint16_t slots;
  std::uint32_t slot_bytes;
  std::uint32_t reason_bytes;
  std::uint64_t machine;
  char reason[kReasonBytes];
};
static_assert(sizeof(Layout) == kMessageBytes);

constexpr std::uint32_t k24Bits = 0xffffff;
/// More of the peer's slots than this are of no use, and make its numbers suspicious.
constexpr std::uint32_t kMostSlots = 4096, kMostSlotBytes = 1u << 20;

std::string_view wrong(const Parameters& p) {
  if (p.queue_pair == 0 || p.queue_pair > k24Bits) return "a queue pair number out of range";
  if (p.packet_sequence > k24Bits) return "a packet sequence number out of range";
  if (p.ethernet > 1) return "an unknown kind of link";
  if (p.ethernet == 1 && std::ranges::all_of(p.gid, [](std::uint8_t byte) { return byte == 0; }))
    return "no GID";
  if (p.ethernet == 0 && p.lid == 0) return "no LID";
  if (p.mtu < IBV_MTU_256 || p.mtu > IBV_MTU_4096) return "an unknown MTU";
  if (p.read_depth == 0 || p.read_starts == 0) return "no RDMA READs";
  if (p.slots < 4 || p.slots > kMostSlots) return "a number of slots out of range";
  if (p.slot_bytes < 256 || p.slot_bytes > kMostSlotBytes) return "slots of a size out of range";
  return {};
}

Failure broken(TransportError error, std::string_view what) {
  if (error.code == TransportErrc::kClosed) error = {TransportErrc::kReset, ECONNRESET};
  return {error,
          "agreeing on RDMA with the peer: " + std::string(what.empty() ? to_string(error.code) : what)};
}

}  // namespace

MessageBytes encode(const Message& message) {
  const Parameters& p = message.parameters;
  Layout layout{};
  layout.magic = kMagic;
  layout.version = kVersion;
  layout.step = static_cast<std::uint32_t>(message.step);
  layout.good = message.good ? 1 : 0;
  layout.queue_pair = p.queue_pair;
  layout.packet_sequence = p.packet_sequence;
  std::ranges::copy(p.gid, layout.gid);
  layout.lid = p.lid;
  layout.ethernet = p.ethernet;
  layout.mtu = p.mtu;
  layout.read_depth = p.read_depth;
  layout.read_starts = p.read_starts;
  layout.slots = p.slots;
  layout.slot_bytes = p.slot_bytes;
  layout.machine = p.machine;
  layout.reason_bytes = static_cast<std::uint32_t>(std::min(message.reason.size(), sizeof layout.reason));
  std::memcpy(layout.reason, message.reason.data(), layout.reason_bytes);
  return std::bit_cast<MessageBytes>(layout);
}

std::expected<Message, std::string_view> decode(const MessageBytes& bytes, Step expected) {
  const auto layout = std::bit_cast<Layout>(bytes);
  if (layout.magic != kMagic) return std::unexpected("what came is no such message");
  if (layout.version != kVersion) return std::unexpected("the peer is of another release");
  if (layout.step != static_cast<std::uint32_t>(expected)) return std::unexpected("a message out of turn");
  if (layout.good > 1) return std::unexpected("neither good nor bad");
  if (layout.reason_bytes > sizeof layout.reason) return std::unexpected("a reason that is too long");
  Message message;
  message.step = expected;
  message.good = layout.good == 1;
  Parameters& p = message.parameters;
  p.queue_pair = layout.queue_pair;
  p.packet_sequence = layout.packet_sequence;
  std::ranges::copy(layout.gid, p.gid.begin());
  p.lid = layout.lid;
  p.ethernet = layout.ethernet;
  p.mtu = layout.mtu;
  p.read_depth = layout.read_depth;
  p.read_starts = layout.read_starts;
  p.slots = layout.slots;
  p.slot_bytes = layout.slot_bytes;
  p.machine = layout.machine;
  if (message.good && expected == Step::kOffer) {
    if (const auto what = wrong(p); !what.empty()) return std::unexpected(what);
  }
  // For people: a peer's words must not move their terminal.
  for (const char c : std::string_view(layout.reason, layout.reason_bytes)) {
    message.reason += c >= ' ' && c <= '~' ? c : '?';
  }
  return message;
}

std::expected<Message, Failure> exchange(Connection& stream, const Message& mine, Deadline deadline) {
  const MessageBytes out = encode(mine);
  for (ConstBytes rest(out); !rest.empty();) {
    const IoResult sent = stream.send({&rest, 1});
    if (sent.error) return std::unexpected(broken(sent.error, {}));
    rest = rest.subspan(sent.bytes);
    if (sent.bytes != 0) continue;
    if (const auto error = stream.wait(true, deadline)) return std::unexpected(broken(error, {}));
  }
  MessageBytes in;
  for (MutableBytes rest(in); !rest.empty();) {
    const IoResult got = stream.receive({&rest, 1});
    if (got.error) return std::unexpected(broken(got.error, {}));
    rest = rest.subspan(got.bytes);
    if (got.bytes != 0) continue;
    if (const auto error = stream.wait(false, deadline)) return std::unexpected(broken(error, {}));
  }
  auto message = decode(in, mine.step);
  if (!message) return std::unexpected(broken({TransportErrc::kReset, EPROTO}, message.error()));
  return std::move(*message);
}

}  // namespace avec::rdma
