#include <thread>

#include "session/session_support.h"

namespace avec::test {
namespace {

TEST_CASE("Calls of many threads have one total order that keeps each thread's own") {
  const auto url = GENERATE(from_range(listen_urls()));
  const auto mode = GENERATE(WaitMode::kAdaptive, WaitMode::kBlock);
  FakeExecutor executor({.listen = url});
  auto options = options_for(executor);
  options.wait_mode = mode;
  auto session = open(options);
  constexpr std::size_t kThreads = 32, kRounds = 40;
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < kRounds; ++i) {
        if (!session->post(launch(t << 32 | i))) ++failures;
        if (i % 4 == t % 4 && !session->call(wire::StreamSynchronize(t << 32 | i))) ++failures;
        if (i % 8 == 3) {
          Bytes memory(100 + t);
          const auto pending = session->post_deferred(copy_from(t, memory.size()), memory);
          if (!pending || !session->wait_deferred(*pending)) ++failures;
          if (memory != FakeExecutor::device_bytes(t, memory.size())) ++failures;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(failures == 0);
  const std::size_t total = kThreads * (kRounds + kRounds / 4 + kRounds / 8);
  REQUIRE(executor.wait_for(total));
  const auto records = executor.records();
  std::vector<std::uint64_t> next(kThreads, 0);
  bool in_order = records.size() == total;
  for (const auto& record : records) {
    const bool launched = record.opcode() == wire::Opcode::LaunchKernel;
    if (!launched && record.opcode() != wire::Opcode::StreamSynchronize) continue;
    const std::uint64_t tag =
        launched ? record.as<wire::LaunchKernel>().module_() : record.as<wire::StreamSynchronize>().stream();
    auto& expected = next[tag >> 32];
    // A synchronise carries the tag of the launch before it.
    in_order = in_order && (tag & 0xffffffff) == (launched ? expected : expected - 1);
    if (launched) ++expected;
  }
  CHECK(in_order);
}

TEST_CASE("256 threads post and call at once") {
  FakeExecutor executor({});
  auto session = open(options_for(executor));
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 256; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 10; ++i) {
        if (!session->post(launch(t)) || !session->call(wire::Ping(0))) ++failures;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(failures == 0);
  CHECK(session->counters().round_trips == 2560);
}

TEST_CASE("A call that takes long orders only its own thread") {
  Record blocked;
  FakeExecutor executor({.script = [&](FakeExecutor& self, const Record& record) {
    if (record.opcode() == wire::Opcode::StreamSynchronize) {
      blocked = record;
      return true;
    }
    if (record.opcode() == wire::Opcode::EventRecord) self.reply(blocked);
    return false;
  }});
  auto session = open(options_for(executor));
  std::atomic<bool> returned{false};
  std::thread waiter([&] { returned = session->call(wire::StreamSynchronize(1)).has_value(); });
  REQUIRE(executor.wait_for(1));
  // This thread's calls and posts go on while the other one holds the role, asleep in a wait.
  for (int i = 0; i < 5; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    REQUIRE(session->call(wire::Ping(0)));
  }
  CHECK_FALSE(returned);
  REQUIRE(session->post(wire::EventRecord(1, 1, 0, 0)));
  waiter.join();
  CHECK(returned);
}

TEST_CASE("Large payloads of several threads keep the order and arrive whole") {
  const auto url = GENERATE(from_range(listen_urls()));
  FakeExecutor executor({.listen = url});
  auto session = open(options_for(executor));
  constexpr std::size_t kThreads = 6, kRounds = 5;
  std::vector<std::thread> threads;
  std::atomic<int> failures{0};
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < kRounds; ++i) {
        Bytes payload = FakeExecutor::device_bytes(t, (100u << 10) + 1000 * t + i);
        if (!session->post(copy_to(t, payload.size()), payload)) ++failures;
        std::fill(payload.begin(), payload.end(), std::byte{0});
        if (!session->post(launch(t))) ++failures;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(failures == 0);
  REQUIRE(executor.wait_for(2 * kThreads * kRounds));
  bool whole = true;
  for (const auto& record : executor.records()) {
    if (record.opcode() != wire::Opcode::CopyToDevice) continue;
    const auto t = record.as<wire::CopyToDevice>().destination();
    whole = whole && record.payload == FakeExecutor::device_bytes(t, record.payload.size());
  }
  CHECK(whole);
}

}  // namespace
}  // namespace avec::test
