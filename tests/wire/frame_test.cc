#include "wire/frame.h"

#include <cstring>
#include <set>

#include "calls.h"
#include "golden_frames.h"
#include "support/catch.h"

using namespace avec;
using namespace avec::wire;

namespace {

/// Reads what a handler gets, every byte of a struct.
struct Touch {
  int* count;
  template <class Body>
  Result<> operator()(const FrameHeader&, const Body& body) {
    if constexpr (kIsTable<Body>) {
      *count += reinterpret_cast<const std::uint8_t&>(body) <= 0xff;
    } else {
      const auto* bytes = reinterpret_cast<const unsigned char*>(&body);
      for (std::size_t i = 0; i < sizeof body; ++i) *count += bytes[i] != 0;
    }
    return {};
  }
};

FrameHeader changed(const FrameHeader& header, std::size_t at, std::byte value) {
  FrameHeader copy = header;
  reinterpret_cast<std::byte*>(&copy)[at] = value;
  return copy;
}

FrameHeader sized(const FrameHeader& h, std::uint32_t body_bytes, std::uint64_t payload_bytes) {
  return {h.opcode(), h.flags(), h.status(), body_bytes, 0, h.sequence(), h.ack(), h.call(), payload_bytes};
}

const GoldenFrame& golden(std::string_view name) {
  static const auto frames = golden_frames();
  for (const auto& frame : frames) {
    if (frame.name == name) return frame;
  }
  FAIL("no golden frame");
  return frames.front();
}

/// What a receiver does with a frame.
bool accepted(const FrameHeader& header, Sender from, ConstBytes body) {
  return check_header(header, from) && verify_body(header, body);
}

bool is_reply(const GoldenFrame& frame) {
  return (frame.header.flags() & static_cast<std::uint16_t>(FrameFlag::Reply)) != 0;
}

}  // namespace

TEST_CASE("every call has a name, a number and a golden frame") {
  std::set<std::string_view> names;
  for (const auto& frame : golden_frames()) names.insert(frame.name);
  for (const CallInfo& info : calls()) {
    CHECK(names.contains(info.name));
    REQUIRE(call_info(info.opcode) != nullptr);
    CHECK(call_info(info.opcode)->name == info.name);
  }
  CHECK(names.size() == calls().size());
  CHECK(call_info(std::uint16_t{0}) == nullptr);
  CHECK(call_info(std::uint16_t{0xffff}) == nullptr);
}

TEST_CASE("opcodes of released calls stay what they are") {
  CHECK(CallTraits<Hello>::opcode == static_cast<Opcode>(0x0001));
  CHECK(CallTraits<MemMap>::opcode == static_cast<Opcode>(0x0020));
  CHECK(CallTraits<LaunchKernel>::opcode == static_cast<Opcode>(0x0048));
}

TEST_CASE("golden frames pass all checks and reach their handler") {
  int touched = 0;
  for (const auto& frame : golden_frames()) {
    INFO(frame.name);
    CHECK(check_header(frame.header, frame.from));
    CHECK(verify_body(frame.header, frame.body));
    if (is_reply(frame)) continue;
    const auto before = touched;
    const auto done = frame.from == Sender::kClient ? dispatch(frame.header, frame.body, Touch{&touched})
                                                    : dispatch_push(frame.header, frame.body, Touch{&touched});
    CHECK(done);
    CHECK(touched > before);
  }
}

TEST_CASE("a frame from the wrong side is refused") {
  for (const auto& frame : golden_frames()) {
    if (frame.name == "Ack") continue;
    INFO(frame.name);
    CHECK(!check_header(frame.header, frame.from == Sender::kClient ? Sender::kExecutor : Sender::kClient));
  }
}

TEST_CASE("a body cut at any byte is refused") {
  for (const auto& frame : golden_frames()) {
    INFO(frame.name);
    for (std::size_t size = 0; size < frame.body.size(); ++size) {
      // The header tells the truth about what is left, or still speaks of the whole.
      const FrameHeader honest = sized(frame.header, static_cast<std::uint32_t>(size), frame.header.payload_bytes());
      std::vector<std::byte> cut(frame.body.begin(), frame.body.begin() + static_cast<std::ptrdiff_t>(size));
      CHECK(!verify_body(frame.header, cut));
      const CallInfo& info = *call_info(frame.header.opcode());
      const bool table = is_reply(frame) ? info.reply_is_table : info.body_bytes == 0;
      if (!table) CHECK(!check_header(honest, frame.from));
      (void)accepted(honest, frame.from, cut);
    }
  }
}

TEST_CASE("frames with one byte changed are refused or handled, never worse") {
  int touched = 0, refused = 0;
  for (const auto& frame : golden_frames()) {
    for (std::size_t at = 0; at < sizeof(FrameHeader); ++at) {
      for (const int value : {0, 1, 2, 0x7f, 0x80, 0xff}) {
        const auto header = changed(frame.header, at, static_cast<std::byte>(value));
        if (check_header(header, frame.from) && header.body_bytes() == frame.body.size()) {
          (void)verify_body(header, frame.body);
          if (!is_reply(frame)) (void)dispatch(header, frame.body, Touch{&touched});
        } else {
          ++refused;
        }
      }
    }
    for (std::size_t at = 0; at < frame.body.size(); ++at) {
      for (const int value : {0, 1, 4, 0x7f, 0x80, 0xff}) {
        auto body = frame.body;
        body[at] = static_cast<std::byte>(value);
        if (!accepted(frame.header, frame.from, body)) ++refused;
        if (!is_reply(frame)) (void)dispatch(frame.header, body, Touch{&touched});
      }
    }
  }
  CHECK(touched > 0);
  CHECK(refused > 0);
}

TEST_CASE("body and payload are accepted up to their limits") {
  const auto& table = golden("ModuleLoad");
  const auto body = [&](std::uint32_t bytes) { return check_header(sized(table.header, bytes, 0), table.from).has_value(); };
  CHECK(body(limits::kMaxBodyBytes - 8));
  CHECK(body(limits::kMaxBodyBytes));
  CHECK(!body(limits::kMaxBodyBytes + 8));
  CHECK(!body(limits::kMaxBodyBytes - 1));
  CHECK(!body(0));
  const auto& copy = golden("CopyToDevice");
  const auto payload = [&](std::uint64_t bytes) {
    return check_header(sized(copy.header, copy.header.body_bytes(), bytes), copy.from).has_value();
  };
  CHECK(payload(0));
  CHECK(payload(limits::kMaxPayloadBytes - 1));
  CHECK(payload(limits::kMaxPayloadBytes));
  CHECK(!payload(limits::kMaxPayloadBytes + 1));
}

TEST_CASE("headers whose fields contradict each other are refused") {
  const auto refused = [](std::string_view name, auto change) {
    const auto& frame = golden(name);
    const auto& h = frame.header;
    return !check_header(change(h), frame.from);
  };
  using H = FrameHeader;
  const auto same = [](const H& h) { return h; };
  CHECK(!refused("LaunchKernel", same));
  CHECK(refused("StreamCreate", [](const H& h) { return sized(h, h.body_bytes(), 8); }));
  CHECK(refused("StreamCreate", [](const H& h) { return sized(h, h.body_bytes() + 8, 0); }));
  CHECK(refused("StreamCreate", [](const H& h) { return H(h.opcode(), h.flags(), 1, h.body_bytes(), 0, 1, 0, 0, 0); }));
  CHECK(refused("StreamCreate", [](const H& h) { return H(h.opcode(), h.flags(), 0, h.body_bytes(), 1, 1, 0, 0, 0); }));
  CHECK(refused("StreamCreate", [](const H& h) { return H(h.opcode(), h.flags(), 0, h.body_bytes(), 0, 1, 0, 9, 0); }));
  CHECK(refused("StreamCreate", [](const H& h) { return H(h.opcode(), 4, 0, h.body_bytes(), 0, 1, 0, 0, 0); }));
}

TEST_CASE("replies are checked against the call that they answer") {
  const auto reply = [](Opcode opcode, std::uint32_t body, std::uint64_t payload, int status, std::uint64_t call) {
    const FrameHeader header(static_cast<std::uint16_t>(opcode), static_cast<std::uint16_t>(FrameFlag::Reply), status,
                             body, 0, 1, 1, call, payload);
    return check_header(header, Sender::kExecutor).has_value();
  };
  CHECK(reply(Opcode::MemGetInfo, sizeof(MemGetInfoReply), 0, 0, 4));
  CHECK(!reply(Opcode::MemGetInfo, sizeof(MemGetInfoReply), 0, 0, 0));
  CHECK(!reply(Opcode::MemGetInfo, sizeof(MemGetInfoReply) + 8, 0, 0, 4));
  CHECK(!reply(Opcode::MemGetInfo, 0, 0, 0, 4));
  CHECK(reply(Opcode::MemGetInfo, 0, 0, 700, 4));
  CHECK(!reply(Opcode::MemGetInfo, sizeof(MemGetInfoReply), 8, 0, 4));
  CHECK(reply(Opcode::CopyFromDevice, 0, 64, 0, 4));
  CHECK(reply(Opcode::StreamSynchronize, 0, 0, 0, 4));
  CHECK(!reply(Opcode::StreamSynchronize, 8, 0, 0, 4));
  CHECK(!reply(Opcode::DeferredError, 0, 0, 0, 4));
  CHECK(reply(Opcode::ModuleLoad, 64, 0, 0, 4));
  CHECK(!reply(Opcode::ModuleLoad, 0, 0, 0, 4));
}

TEST_CASE("a body with more tables than the limit is refused") {
  const auto verified = [](std::uint32_t tables) {
    flatbuffers::FlatBufferBuilder builder;
    // The root is a table as well.
    const std::vector<flatbuffers::Offset<FunctionFacts>> all(tables - 1, CreateFunctionFacts(builder));
    builder.Finish(CreateModuleLoadReplyDirect(builder, false, &all));
    std::vector<std::byte> body(padded(builder.GetSize()));
    std::memcpy(body.data(), builder.GetBufferPointer(), builder.GetSize());
    const FrameHeader header(static_cast<std::uint16_t>(Opcode::ModuleLoad), static_cast<std::uint16_t>(FrameFlag::Reply),
                             0, static_cast<std::uint32_t>(body.size()), 0, 1, 1, 1, 0);
    return check_header(header, Sender::kExecutor) && verify_body(header, body);
  };
  CHECK(verified(limits::kMaxTables - 1));
  CHECK(verified(limits::kMaxTables));
  CHECK(!verified(limits::kMaxTables + 1));
}
