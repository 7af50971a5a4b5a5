#include <cstring>
#include <thread>

#include "session/session_support.h"

namespace avec::test {
namespace {

TEST_CASE("A posted call arrives with no further call") {
  const auto url = GENERATE(from_range(listen_urls()));
  FakeExecutor executor({.listen = url});
  auto session = open(options_for(executor));
  REQUIRE(session->post(launch(5)));
  REQUIRE(executor.wait_for(1));
  CHECK(executor.records()[0].as<wire::LaunchKernel>().module_() == 5);

  // And again after the progress thread has gone to sleep.
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  REQUIRE(session->post(launch(6)));
  REQUIRE(executor.wait_for(2));
}

TEST_CASE("Posted calls arrive in order, complete, and numbered without gaps") {
  const auto url = GENERATE(from_range(listen_urls()));
  FakeExecutor executor({.listen = url});
  auto session = open(options_for(executor));
  constexpr std::size_t kCalls = 20'000;
  for (std::size_t i = 0; i < kCalls; ++i) REQUIRE(session->post(launch(i)));
  REQUIRE(executor.wait_for(kCalls));
  const auto records = executor.records();
  REQUIRE(records.size() == kCalls);
  bool in_order = true;
  for (std::size_t i = 0; i < kCalls; ++i) {
    in_order = in_order && records[i].as<wire::LaunchKernel>().module_() == i &&
               records[i].header.sequence() == records[0].header.sequence() + i &&
               records[i].header.flags() == 0;
  }
  CHECK(in_order);
  CHECK(session->counters().posted == kCalls);
  CHECK(session->counters().round_trips == 0);
}

TEST_CASE("Calls posted in a row travel together") {
  FakeExecutor executor({});
  auto session = open(options_for(executor));
  constexpr std::size_t kCalls = 10'000;
  for (std::size_t i = 0; i < kCalls; ++i) REQUIRE(session->post(launch(i)));
  REQUIRE(session->call(wire::Ping(0)));
  CHECK(executor.receives() < kCalls / 4);
}

TEST_CASE("What is filled in place arrives as written, padding cleared") {
  FakeExecutor executor({});
  auto session = open(options_for(executor));
  for (std::size_t size = 1; size <= 65; ++size) {
    REQUIRE(session->post_filled(launch(size), size, [&](MutableBytes bytes) {
      REQUIRE(bytes.size() == size);
      std::memset(bytes.data(), static_cast<int>(size), size);
    }));
  }
  REQUIRE(executor.wait_for(65));
  const auto records = executor.records();
  for (std::size_t i = 0; i < 65; ++i)
    CHECK(records[i].payload == Bytes(i + 1, static_cast<std::byte>(i + 1)));
}

TEST_CASE("More bytes than are sent inline cannot be filled in place") {
  FakeExecutor executor({});
  auto session = open(options_for(executor));
  const auto fill = [](MutableBytes) {};
  CHECK(session->post_filled(copy_to(1, 1), limits::kInlinePayloadBytes - 1, fill));
  CHECK(session->post_filled(copy_to(1, 1), limits::kInlinePayloadBytes, fill));
  CHECK_FALSE(session->post_filled(copy_to(1, 1), limits::kInlinePayloadBytes + 1, fill));
  CHECK(session->call(wire::Ping(0)));
}

TEST_CASE("Payloads around the inline limit arrive; only larger ones wait to have left") {
  const auto url = GENERATE(from_range(listen_urls()));
  FakeExecutor executor({.listen = url});
  auto session = open(options_for(executor));
  const std::vector<std::size_t> sizes = {1,
                                          8,
                                          4097,
                                          limits::kInlinePayloadBytes - 1,
                                          limits::kInlinePayloadBytes,
                                          limits::kInlinePayloadBytes + 1,
                                          (3u << 20) + 5};
  for (const std::size_t size : sizes) {
    Bytes payload = FakeExecutor::device_bytes(size, size);
    REQUIRE(session->post(copy_to(1, size), payload));
    payload.assign(size, std::byte{0xee});  // the call has returned: the source may change
    REQUIRE(session->post(launch(size)));
  }
  REQUIRE(executor.wait_for(2 * sizes.size()));
  const auto records = executor.records();
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    CHECK(records[2 * i].payload == FakeExecutor::device_bytes(sizes[i], sizes[i]));
    CHECK(records[2 * i + 1].as<wire::LaunchKernel>().module_() == sizes[i]);
  }
  CHECK(session->counters().source_waits == 2);
}

TEST_CASE("Posting waits for room when the executor does not read") {
  std::atomic<bool> gate{false};
  FakeExecutor executor({.script = [&](FakeExecutor&, const Record& record) {
    if (record.opcode() == wire::Opcode::LaunchKernel && !gate) {
      while (!gate) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }});
  auto session = open(options_for(executor));
  const Bytes payload(limits::kInlinePayloadBytes);
  std::atomic<std::size_t> posted{0};
  constexpr std::size_t kCalls = 400;  // 25 MiB: more than the socket and the send buffer hold
  std::thread poster([&] {
    static_cast<void>(session->post(launch(1)));
    for (std::size_t i = 0; i < kCalls; ++i) {
      if (session->post(copy_to(i, payload.size()), payload)) ++posted;
    }
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const std::size_t stuck = posted;
  gate = true;
  poster.join();
  CHECK(stuck < kCalls);
  CHECK(posted == kCalls);
  CHECK(executor.wait_for(kCalls + 1));
}

TEST_CASE("A failed posted call is told with its number and opcode") {
  FakeExecutor executor({.script = [](FakeExecutor& self, const Record& record) {
    if (record.opcode() != wire::Opcode::LaunchKernel) return false;
    const std::uint8_t reserved[6] = {};
    const wire::DeferredError error(record.header.sequence(), record.header.opcode(),
                                    flatbuffers::span<const std::uint8_t, 6>(reserved, 6));
    self.push(wire::Opcode::DeferredError, 700, bytes_of(error));
    return true;
  }});
  Heard heard;
  auto session = open(options_for(executor), heard.callbacks());
  REQUIRE(session->post(launch(1)));
  const auto sequence = session->last_posted();
  // Nobody calls: the progress thread hears it.
  REQUIRE(eventually([&] { return heard.with([](auto& h) { return h.failed.size(); }) == 1; }));
  CHECK(heard.failed[0].opcode == wire::Opcode::LaunchKernel);
  CHECK(heard.failed[0].sequence == sequence);
  CHECK(heard.failed[0].status == 700);
}

TEST_CASE("Device output comes before the reply of the call that flushes it") {
  FakeExecutor executor({.script = [](FakeExecutor& self, const Record& record) {
    if (record.opcode() != wire::Opcode::ContextSynchronize) return false;
    self.push(wire::Opcode::DeviceOutput, 0, bytes_of(wire::DeviceOutput(1, 0)),
              text_bytes("hello from lane 0\n"));
    self.push(wire::Opcode::DeviceOutput, 0, bytes_of(wire::DeviceOutput(2, 0)), {});
    return false;
  }});
  Heard heard;
  auto session = open(options_for(executor), heard.callbacks());
  REQUIRE(session->call(wire::ContextSynchronize(1)));
  REQUIRE(heard.output.size() == 2);
  CHECK(heard.output[0] == std::pair<int, std::string>(1, "hello from lane 0\n"));
  CHECK(heard.output[1] == std::pair<int, std::string>(2, ""));
}

}  // namespace
}  // namespace avec::test
