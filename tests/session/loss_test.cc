// Peers that send what they must not, and peers that go away.
#include <cstring>
#include <thread>

#include "session/session_support.h"

namespace avec::test {
namespace {

/// Sends a frame made by hand instead of the answer to a StreamSynchronize.
struct Forged {
  std::uint16_t opcode = static_cast<std::uint16_t>(wire::Opcode::StreamSynchronize);
  std::uint16_t flags = static_cast<std::uint16_t>(wire::FrameFlag::Reply);
  int status = 0;
  std::uint32_t body_bytes = 0;
  std::uint32_t reserved = 0;
  std::int64_t sequence_offset = 0;
  std::uint64_t ack_offset = 0;
  std::int64_t call_offset = 0;
  std::uint64_t payload_bytes = 0;
  std::string what;
};

const std::vector<Forged>& forgeries() {
  using O = wire::Opcode;
  const auto code = [](O opcode) { return static_cast<std::uint16_t>(opcode); };
  static const std::vector<Forged> all = {
      {.opcode = 0xfff0, .what = "an unknown opcode"},
      {.flags = 0x8001, .what = "unknown flags"},
      {.reserved = 1, .what = "a reserved field"},
      {.body_bytes = 4, .what = "not a multiple of 8"},
      {.body_bytes = limits::kMaxBodyBytes + 8, .what = "over the limit"},
      {.body_bytes = 16, .what = "a reply of the wrong size"},
      {.sequence_offset = 1, .what = "a gap in the frame numbers"},
      {.sequence_offset = -1, .what = "a frame number twice"},
      {.ack_offset = 1000, .what = "was not sent"},
      {.call_offset = 7, .what = "nobody waits for"},
      {.call_offset = -1, .what = "nobody waits for"},
      {.opcode = code(O::Ping), .what = "a reply to another call"},
      {.payload_bytes = 8, .what = "a payload that its call does not have"},
      {.payload_bytes = limits::kMaxPayloadBytes + 1, .what = "a payload over the limit"},
      {.opcode = code(O::LaunchKernel),
       .flags = 0,
       .body_bytes = 64,
       .call_offset = -1'000'000,
       .what = "wrong side"},
      {.opcode = code(O::SessionClosed),
       .flags = 0,
       .body_bytes = 8,
       .call_offset = -1'000'000,
       .payload_bytes = limits::kMaxTextBytes + 1,
       .what = "a text over the limit"},
  };
  return all;
}

TEST_CASE("A malformed frame ends the session with its reason") {
  const std::size_t index = GENERATE(range(std::size_t{0}, forgeries().size()));
  const Forged& forged = forgeries()[index];
  INFO("forgery: " << forged.what);
  FakeExecutor executor({.script = [&](FakeExecutor& self, const Record& record) {
    if (record.opcode() != wire::Opcode::StreamSynchronize) return false;
    const auto call = static_cast<std::int64_t>(record.header.sequence()) + forged.call_offset;
    const wire::FrameHeader header(
        forged.opcode, forged.flags, forged.status, forged.body_bytes, forged.reserved,
        static_cast<std::uint64_t>(static_cast<std::int64_t>(self.take_sequence()) + forged.sequence_offset),
        record.header.sequence() + forged.ack_offset, call < 0 ? 0 : static_cast<std::uint64_t>(call),
        forged.payload_bytes);
    self.send_raw(bytes_of(header));
    self.send_raw(Bytes(128));
    return true;
  }});
  Heard heard;
  auto session = open(options_for(executor), heard.callbacks());
  const auto done = session->call(wire::StreamSynchronize(1));
  REQUIRE_FALSE(done);
  CHECK(done.error().origin == Origin::kProtocol);
  CHECK(session::cuda_code_for(done.error()) == 46);
  REQUIRE(heard.closed.size() == 1);
  CHECK(says(heard.closed[0], forged.what));
  CHECK_FALSE(session->post(launch(1)));
}

TEST_CASE("A table reply that does not verify ends the session") {
  FakeExecutor executor({.script = [](FakeExecutor& self, const Record& record) {
    if (record.opcode() != wire::Opcode::ModuleLoad) return false;
    self.reply(record, 0, Bytes(64, std::byte{0xff}));
    return true;
  }});
  Heard heard;
  auto session = open(options_for(executor), heard.callbacks());
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(wire::CreateModuleLoad(builder, 1, 2));
  const auto reply = session->call<wire::ModuleLoad>(builder);
  REQUIRE_FALSE(reply);
  CHECK(reply.error().origin == Origin::kProtocol);
  REQUIRE(heard.closed.size() == 1);
  CHECK(says(heard.closed[0], "a malformed table"));
}

TEST_CASE("A deferred reply of the wrong size writes nothing") {
  const std::size_t size = GENERATE(as<std::size_t>{}, 0, 63, 65, 1 << 20);
  FakeExecutor executor({.script = [&](FakeExecutor& self, const Record& record) {
    return record.opcode() == wire::Opcode::CopyFromDevice && (self.reply(record, 0, {}, Bytes(size)), true);
  }});
  auto session = open(options_for(executor));
  Bytes memory(64, std::byte{7});
  const auto pending = session->post_deferred(copy_from(1, 64), memory);
  REQUIRE(pending);
  const auto done = session->wait_deferred(*pending);
  REQUIRE_FALSE(done);
  CHECK(done.error().origin == Origin::kProtocol);
  CHECK(memory == Bytes(64, std::byte{7}));
}

TEST_CASE("The executor's own end of the session gives its reason") {
  FakeExecutor executor({.script = [](FakeExecutor& self, const Record& record) {
    if (record.opcode() != wire::Opcode::StreamSynchronize) return false;
    self.push(wire::Opcode::SessionClosed, 0, bytes_of(wire::SessionClosed(0)),
              text_bytes("protocol error: a test"));
    self.drop_link();
    return true;
  }});
  Heard heard;
  auto session = open(options_for(executor), heard.callbacks());
  // The link may go before the frame is out: push it while the session is quiet, too.
  executor.push_later(wire::Opcode::SessionClosed, 0, bytes_of(wire::SessionClosed(0)),
                      text_bytes("an idle end"));
  REQUIRE(eventually([&] { return heard.with([](auto& h) { return h.closed.size(); }) == 1; }));
  CHECK(says(heard.closed[0], "an idle end"));
  const auto done = session->call(wire::StreamSynchronize(1));
  REQUIRE_FALSE(done);
  CHECK(done.error().origin == Origin::kTransport);
}

TEST_CASE("A worker that dies in the middle of a call ends every wait, with its Farewell as reason") {
  const auto url = GENERATE(from_range(listen_urls()));
  std::atomic<bool> die{false};
  FakeExecutor executor({.listen = url,
                         .script =
                             [&](FakeExecutor& self, const Record& record) {
                               if (record.opcode() == wire::Opcode::LaunchKernel && die) self.drop_link();
                               return record.opcode() == wire::Opcode::StreamSynchronize ||
                                      record.opcode() == wire::Opcode::CopyFromDevice;
                             },
                         .farewell = "killed by signal 9"});
  Heard heard;
  auto session = open(options_for(executor), heard.callbacks());
  Bytes memory(100);
  const auto pending = session->post_deferred(copy_from(1, 100), memory);
  REQUIRE(pending);
  std::atomic<int> ended{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const auto done = session->call(wire::StreamSynchronize(1));
      if (!done && done.error().origin == Origin::kTransport) ++ended;
    });
  }
  threads.emplace_back([&] {
    if (!session->wait_deferred(*pending)) ++ended;
  });
  threads.emplace_back([&] {
    if (!session->wait_for_destination(memory.data(), memory.data() + 1)) ++ended;
  });
  REQUIRE(executor.wait_for(5));
  die = true;
  static_cast<void>(session->post(launch(1)));
  for (auto& thread : threads) thread.join();
  CHECK(ended == 6);
  REQUIRE(heard.closed.size() == 1);
  CHECK(says(heard.closed[0], "killed by signal 9"));
  CHECK_FALSE(session->call(wire::Ping(0)));
}

TEST_CASE("A worker that dies in the middle of large copies releases both callers") {
  const auto url = GENERATE(from_range(listen_urls()));
  FakeExecutor executor({.listen = url, .script = [](FakeExecutor& self, const Record& record) {
                           if (record.opcode() == wire::Opcode::LaunchKernel) self.drop_link();
                           return true && record.opcode() != wire::Opcode::Hello;
                         }});
  auto session = open(options_for(executor));
  Bytes out(1u << 20);
  const auto pending = session->post_deferred(copy_from(1, out.size()), out);
  REQUIRE(pending);
  REQUIRE(session->post(launch(1)));
  const Bytes in(64u << 20);
  const auto sent = session->post(copy_to(1, in.size()), in);
  if (!sent) CHECK(sent.error().origin == Origin::kTransport);
  const auto received = session->wait_deferred(*pending);
  REQUIRE_FALSE(received);
  CHECK(received.error().origin == Origin::kTransport);
}

TEST_CASE("An idle session notices that the executor is gone") {
  const auto url = GENERATE(from_range(listen_urls()));
  Heard heard;
  auto executor = std::make_unique<FakeExecutor>(FakeExecutor::Options{.listen = url});
  auto session = open(options_for(*executor), heard.callbacks());
  executor.reset();
  REQUIRE(eventually([&] { return heard.with([](auto& h) { return h.closed.size(); }) == 1; }));
  CHECK(says(heard.closed[0], "lost"));
  CHECK_FALSE(session->post(launch(1)));
}

}  // namespace
}  // namespace avec::test
