// A client that sends exactly the frames it is told to, right or wrong.
#pragma once

#include <chrono>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "avec/transport.h"
#include "calls.h"
#include "executor/worker/opening.h"
#include "wire/handshake.h"

namespace avec::test {

struct RawFrame {
  wire::FrameHeader header;
  std::vector<std::byte> body, payload;
  bool is(wire::Opcode opcode) const { return header.opcode() == static_cast<std::uint16_t>(opcode); }
  bool is_reply() const { return (header.flags() & 1) != 0; }
  std::string text() const { return {reinterpret_cast<const char*>(payload.data()), payload.size()}; }
  template <class T>
  T as() const {
    T value;
    std::memcpy(static_cast<void*>(&value), body.data(), sizeof value);
    return value;
  }
};

inline std::chrono::steady_clock::time_point soon() { return std::chrono::steady_clock::now() + std::chrono::seconds(10); }

class RawClient {
 public:
  /// Authenticates and opens the data connection; problem() says what went wrong, if anything.
  explicit RawClient(const std::string& url, const std::string& token = "", const std::string& device = "auto",
                     std::vector<std::pair<std::string, std::string>> environment = {}) {
    open(url, token, device, std::move(environment));
  }

 private:
  void open(const std::string& url, const std::string& token, const std::string& device,
            std::vector<std::pair<std::string, std::string>> environment) {
    Transport* transport = find_transport(url);
    if (transport == nullptr) return fail("no transport");
    control_ = transport->connect(url, soon()).connection;
    if (control_ == nullptr) return fail("nobody listens");
    const wire::Preamble preamble = wire::control_preamble();
    worker::send_all(*control_, {reinterpret_cast<const std::byte*>(&preamble), sizeof preamble}, soon());
    const auto challenge = message();
    if (!challenge) return fail("no challenge");
    wire::ClientHandshake handshake(token);
    wire::Introduction who;
    who.host = "test";
    who.program = "raw_client";
    who.device = device;
    who.environment = std::move(environment);
    auto hello = handshake.answer(*challenge, who);
    if (!hello) return fail(hello.error().message);
    worker::send_all(*control_, *hello, soon());
    const auto reply = message();
    if (!reply) return fail("no reply");
    auto admitted = handshake.finish(*reply);
    if (!admitted) return fail(admitted.error().message);
    admission = *admitted;
    open_data(transport, url, 0);
  }

 public:

  /// A (further) data connection. Returns the executor's resume_from.
  std::optional<std::uint64_t> open_data(Transport* transport, const std::string& url, std::uint64_t resume_from) {
    connection_ = transport->connect(url, soon()).connection;
    if (connection_ == nullptr) return fail("no data connection"), std::nullopt;
    auto opening = wire::data_opening(admission.ticket, admission.key, resume_from);
    wire::DataAccept accept;
    if (!opening || !worker::send_all(*connection_, *opening, soon()) ||
        !worker::receive_all(*connection_, {reinterpret_cast<std::byte*>(&accept), sizeof accept}, soon())) {
      return fail("the data connection was not accepted"), std::nullopt;
    }
    if (accept.status() != 0) return fail("data connection refused"), std::nullopt;
    return accept.resume_from();
  }

  const std::string& problem() const { return problem_; }
  std::uint64_t sent() const { return sent_; }
  std::uint64_t received() const { return received_; }
  Connection& connection() { return *connection_; }
  Connection& control() { return *control_; }
  void drop_connections() {
    connection_.reset();
    control_.reset();
  }

  /// Sends a frame; returns its sequence. `change` may spoil the header.
  std::uint64_t send(wire::Opcode opcode, ConstBytes body, ConstBytes payload = {},
                     std::optional<std::uint64_t> sequence = {}) {
    const std::uint64_t number = sequence.value_or(sent_ + 1);
    if (!sequence) ++sent_;
    std::vector<std::byte> bytes(sizeof(wire::FrameHeader));
    const wire::FrameHeader header(static_cast<std::uint16_t>(opcode), 0, 0,
                                   static_cast<std::uint32_t>(wire::padded(body.size())), 0, number, received_, 0,
                                   payload.size());
    std::memcpy(bytes.data(), &header, sizeof header);
    bytes.insert(bytes.end(), body.begin(), body.end());
    bytes.resize(wire::padded(bytes.size()));
    bytes.insert(bytes.end(), payload.begin(), payload.end());
    bytes.resize(wire::padded(bytes.size()));
    worker::send_all(*connection_, bytes, soon());
    return number;
  }
  template <class Body>
  std::uint64_t send(const Body& body, ConstBytes payload = {}) {
    return send(wire::CallTraits<Body>::opcode, {reinterpret_cast<const std::byte*>(&body), sizeof body}, payload);
  }
  std::uint64_t send_raw(ConstBytes bytes) { return worker::send_all(*connection_, bytes, soon()); }

  /// The next frame; nothing when the connection ended or nothing came in time.
  std::optional<RawFrame> receive() {
    RawFrame frame;
    MutableBytes header{reinterpret_cast<std::byte*>(&frame.header), sizeof frame.header};
    if (!worker::receive_all(*connection_, header, soon())) return {};
    frame.body.resize(frame.header.body_bytes());
    frame.payload.resize(wire::padded(frame.header.payload_bytes()));
    if (!worker::receive_all(*connection_, frame.body, soon())) return {};
    if (!worker::receive_all(*connection_, frame.payload, soon())) return {};
    frame.payload.resize(frame.header.payload_bytes());
    received_ = frame.header.sequence();
    return frame;
  }
  /// Skips to the reply of a call; what was skipped is in `others`.
  std::optional<RawFrame> reply_to(std::uint64_t call) {
    while (auto frame = receive()) {
      if (frame->is_reply() && frame->header.call() == call) return frame;
      others.push_back(std::move(*frame));
    }
    return {};
  }
  template <class Body>
  std::optional<RawFrame> ask(const Body& body) {
    return reply_to(send(body));
  }
  /// The status of the reply; -1: none came.
  template <class Body>
  int status_of(const Body& body) {
    const auto reply = ask(body);
    return reply ? reply->header.status() : -1;
  }

  std::optional<RawFrame> hello(std::uint64_t base, std::uint64_t bytes, std::uint64_t replay_bytes = 0) {
    flatbuffers::FlatBufferBuilder builder;
    const std::vector<wire::AddressRange> ranges{{base, bytes}};
    const auto device = builder.CreateVectorOfStructs(ranges);
    builder.Finish(wire::CreateHello(builder, device, 0, replay_bytes));
    return reply_to(send(wire::Opcode::Hello, {reinterpret_cast<const std::byte*>(builder.GetBufferPointer()), builder.GetSize()}));
  }
  std::optional<RawFrame> load(std::uint64_t module, std::uint64_t context, ConstBytes image, bool send_image = true) {
    const auto hash = *wire::content_hash(image);
    if (send_image) send(wire::Opcode::ModuleImage, {reinterpret_cast<const std::byte*>(&hash), sizeof hash}, image);
    flatbuffers::FlatBufferBuilder builder;
    builder.Finish(wire::CreateModuleLoad(builder, module, context, &hash, image.size()));
    return reply_to(send(wire::Opcode::ModuleLoad, {reinterpret_cast<const std::byte*>(builder.GetBufferPointer()), builder.GetSize()}));
  }
  /// The reason when the executor closes the session; empty: it did something else.
  std::string closing_reason() {
    while (auto frame = receive()) {
      if (frame->is(wire::Opcode::SessionClosed)) return frame->text();
    }
    return {};
  }
  /// The Farewell on the control connection; empty: none came.
  std::string farewell() {
    const auto text = message();
    if (!text) return {};
    auto reason = wire::parse_farewell(*text);
    return reason ? *reason : std::string();
  }

  wire::Admission admission;
  std::vector<RawFrame> others;

 private:
  void fail(std::string why) { problem_ = std::move(why); }
  std::optional<wire::Bytes> message() {
    wire::MessageReceiver receiver;
    while (!receiver.complete()) {
      const MutableBytes space = receiver.space();
      if (!worker::receive_all(*control_, space, soon()) || !receiver.advance(space.size())) return {};
    }
    const auto bytes = receiver.message();
    return wire::Bytes(bytes.begin(), bytes.end());
  }

  std::unique_ptr<Connection> control_, connection_;
  std::string problem_;
  std::uint64_t sent_ = 0, received_ = 0;
};

}  // namespace avec::test
