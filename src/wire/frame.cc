#include "wire/frame.h"

#include "calls.h"

namespace avec::wire {
namespace {

constexpr std::uint16_t flag(FrameFlag value) { return static_cast<std::uint16_t>(value); }
constexpr std::uint16_t kKnownFlags = flag(FrameFlag::Reply) | flag(FrameFlag::WantsReply);

bool is_reply(const FrameHeader& header) { return (header.flags() & flag(FrameFlag::Reply)) != 0; }

bool may_send(Sender side, Sender by_schema) { return by_schema == Sender::kBoth || by_schema == side; }

/// Body of a struct or a table: nothing may be missing, nothing may follow a struct.
bool body_fits(std::uint32_t bytes, std::uint32_t struct_bytes) {
  return struct_bytes != 0 ? bytes == struct_bytes : bytes != 0;
}

Result<> check_reply(const FrameHeader& header, const CallInfo& info) {
  if (info.mode == Mode::kPush) return protocol_error("a reply to a notice");
  if (header.call() == 0) return protocol_error("a reply to no call");
  if ((header.flags() & flag(FrameFlag::WantsReply)) != 0) return protocol_error("a reply that wants a reply");
  const bool has_body = info.reply_bytes != 0 || info.reply_is_table;
  if (header.body_bytes() == 0) {
    // A failed call may come back without its results.
    if (has_body && header.status() == 0) return protocol_error("a reply without its body");
  } else if (!has_body || !body_fits(header.body_bytes(), info.reply_bytes)) {
    return protocol_error("a reply of the wrong size");
  }
  if (header.payload_bytes() != 0 && info.payload != Payload::kOut) {
    return protocol_error("a reply with a payload that its call does not have");
  }
  return {};
}

Result<> check_call(const FrameHeader& header, const CallInfo& info) {
  if (header.call() != 0) return protocol_error("a call that names a call");
  if (header.status() != 0 && header.opcode() != static_cast<std::uint16_t>(Opcode::DeferredError)) {
    return protocol_error("a call with a status");
  }
  if (info.mode == Mode::kPush && (header.flags() & flag(FrameFlag::WantsReply)) != 0) {
    return protocol_error("a notice that wants a reply");
  }
  if (!body_fits(header.body_bytes(), info.body_bytes)) return protocol_error("a body of the wrong size");
  const auto carries = info.mode == Mode::kPush ? Payload::kOut : Payload::kIn;
  if (header.payload_bytes() != 0 && info.payload != carries) {
    return protocol_error("a payload that the call does not have");
  }
  return {};
}

}  // namespace

Result<> check_header(const FrameHeader& header, Sender from) {
  const CallInfo* info = call_info(header.opcode());
  if (info == nullptr) return protocol_error("an unknown opcode");
  if ((header.flags() & ~kKnownFlags) != 0) return protocol_error("unknown flags");
  if (header.reserved() != 0) return protocol_error("a reserved field that is not zero");
  if (header.body_bytes() % 8 != 0) return protocol_error("a body that is not a multiple of 8 bytes");
  if (header.body_bytes() > limits::kMaxBodyBytes) return protocol_error("a body over the limit");
  if (header.payload_bytes() > limits::kMaxPayloadBytes) return protocol_error("a payload over the limit");
  const bool reply = is_reply(header);
  const Sender answering = from == Sender::kClient ? Sender::kExecutor : Sender::kClient;
  if (!may_send(reply ? answering : from, info->sender)) {
    return protocol_error(reply ? "a reply from the wrong side" : "a call from the wrong side");
  }
  return reply ? check_reply(header, *info) : check_call(header, *info);
}

Result<> verify_body(const FrameHeader& header, ConstBytes body) {
  if (body.size() != header.body_bytes()) return protocol_error("a body of the wrong size");
  if (body.empty()) return {};
  flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(body.data()), body.size(),
                                 limits::kMaxTableDepth, limits::kMaxTables);
  if (!generated::verify_table(header.opcode(), is_reply(header), verifier)) {
    return protocol_error("a malformed table");
  }
  return {};
}

}  // namespace avec::wire
