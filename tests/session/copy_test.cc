#include <thread>

#include "session/session_support.h"

namespace avec::test {
namespace {

TEST_CASE("The payload of a deferred reply lands in its destination and nowhere else") {
  const auto url = GENERATE(from_range(listen_urls()));
  const auto size = GENERATE(as<std::size_t>{}, 1, 4, 7, 8, 4096, 16383, 16384, 16385, 65536, (5u << 20) + 3);
  FakeExecutor executor({.listen = url});
  auto session = open(options_for(executor));
  Bytes memory(size + 16, std::byte{0xaa});
  const auto pending = session->post_deferred(copy_from(9, size), MutableBytes(memory).subspan(8, size));
  REQUIRE(pending);
  REQUIRE(session->wait_deferred(*pending));
  CHECK(session->deferred_done(*pending));
  const Bytes wanted = FakeExecutor::device_bytes(9, size);
  CHECK(std::equal(wanted.begin(), wanted.end(), memory.begin() + 8));
  const Bytes edge(8, std::byte{0xaa});
  CHECK(std::equal(edge.begin(), edge.end(), memory.begin()));
  CHECK(std::equal(edge.begin(), edge.end(), memory.end() - 8));
  CHECK(session->counters().round_trips == 1);
}

TEST_CASE("A large payload from the device is not copied on its way") {
  FakeExecutor executor({});
  auto session = open(options_for(executor));
  Bytes memory(8u << 20);
  const auto pending = session->post_deferred(copy_from(1, memory.size()), memory);
  REQUIRE(pending);
  REQUIRE(session->wait_deferred(*pending));
  CHECK(session->counters().payload_copied <= 16u << 10);
}

TEST_CASE("Deferred replies arrive while nobody waits") {
  const auto url = GENERATE(from_range(listen_urls()));
  FakeExecutor executor({.listen = url});
  auto session = open(options_for(executor));
  Bytes memory(3u << 20);
  const auto pending = session->post_deferred(copy_from(2, memory.size()), memory);
  REQUIRE(pending);
  REQUIRE(eventually([&] { return session->deferred_done(*pending); }));
  CHECK(memory == FakeExecutor::device_bytes(2, memory.size()));
}

TEST_CASE("A reply that a later call has overtaken costs no second round trip") {
  FakeExecutor executor({});
  auto session = open(options_for(executor));
  Bytes memory(100);
  const auto pending = session->post_deferred(copy_from(3, memory.size()), memory);
  REQUIRE(pending);
  REQUIRE(session->call(wire::StreamSynchronize(1)));
  CHECK(session->deferred_done(*pending));
  REQUIRE(session->wait_deferred(*pending));
  CHECK(session->counters().round_trips == 1);
}

TEST_CASE("Copy in, 100 launches, copy out: one round trip") {
  FakeExecutor executor({});
  auto session = open(options_for(executor));
  Bytes in(40'000), out(40'000);
  REQUIRE(session->post(copy_to(1, in.size()), in));
  for (int i = 0; i < 100; ++i) REQUIRE(session->post(launch(1)));
  const auto pending = session->post_deferred(copy_from(2, out.size()), out);
  REQUIRE(pending);
  REQUIRE(session->wait_deferred(*pending));
  CHECK(session->counters().round_trips == 1);
  CHECK(out == FakeExecutor::device_bytes(2, out.size()));
}

TEST_CASE("The failure of a deferred call is returned once, by its wait") {
  FakeExecutor executor({.script = [](FakeExecutor& self, const Record& record) {
    return record.opcode() == wire::Opcode::CopyFromDevice && (self.reply(record, 700), true);
  }});
  Heard heard;
  auto session = open(options_for(executor), heard.callbacks());
  Bytes memory(64, std::byte{1});
  const auto first = session->post_deferred(copy_from(1, 64), memory);
  const auto second = session->post_deferred(copy_from(1, 64), memory);
  REQUIRE(first);
  REQUIRE(second);
  const auto failed = session->wait_deferred(*second);
  REQUIRE_FALSE(failed);
  CHECK(failed.error() == Error{Origin::kCuda, 700});
  CHECK_FALSE(session->wait_deferred(*first));
  CHECK(session->wait_deferred(*first));
  CHECK(memory == Bytes(64, std::byte{1}));
  CHECK(heard.failed.empty());
}

TEST_CASE("The failure of an unattended deferred call is called back") {
  FakeExecutor executor({.script = [](FakeExecutor& self, const Record& record) {
    return record.opcode() == wire::Opcode::CopyFromDevice && (self.reply(record, 719), true);
  }});
  Heard heard;
  auto session = open(options_for(executor), heard.callbacks());
  Bytes memory(64);
  const auto pending = session->post_deferred(copy_from(1, 64), memory, session::Attend::kNobody);
  REQUIRE(pending);
  REQUIRE(session->call(wire::Ping(0)));
  REQUIRE(heard.failed.size() == 1);
  CHECK(heard.failed[0].sequence == *pending);
  CHECK(heard.failed[0].status == 719);
}

TEST_CASE("Waiting for a destination waits for exactly what overlaps it") {
  std::vector<Record> held;
  std::atomic<std::size_t> holding{0};
  FakeExecutor executor({.script = [&](FakeExecutor& self, const Record& record) {
    if (record.opcode() == wire::Opcode::CopyFromDevice) {
      held.push_back(record);
      ++holding;
      return true;
    }
    if (record.opcode() == wire::Opcode::StreamQuery) {  // "answer copy number n"
      const auto& copy = held.at(record.as<wire::StreamQuery>().stream());
      self.reply(copy, 0, {}, FakeExecutor::device_bytes(1, copy.as<wire::CopyFromDevice>().width()));
    }
    return false;
  }});
  auto session = open(options_for(executor));
  Bytes memory(300);
  REQUIRE(session->post_deferred(copy_from(1, 100), MutableBytes(memory).subspan(0, 100)));
  REQUIRE(session->post_deferred(copy_from(1, 100), MutableBytes(memory).subspan(100, 100)));
  REQUIRE(eventually([&] { return holding == 2; }));
  // Next to it on both sides, and empty: no wait. These would hang.
  REQUIRE(session->wait_for_destination(memory.data() + 200, memory.data() + 300));
  REQUIRE(session->wait_for_destination(memory.data() + 150, memory.data() + 150));
  REQUIRE(session->call(wire::StreamQuery(1)));
  REQUIRE(session->wait_for_destination(memory.data() + 100, memory.data() + 300));

  std::atomic<bool> waited{false};
  std::thread waiter(
      [&] { waited = session->wait_for_destination(memory.data() + 99, memory.data() + 150).has_value(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK_FALSE(waited);
  REQUIRE(session->call(wire::StreamQuery(0)));
  waiter.join();
  CHECK(waited);
}

TEST_CASE("More deferred calls than can be under way wait for each other") {
  FakeExecutor executor({});
  auto session = open(options_for(executor));
  const std::size_t count = limits::kMaxDeferred + 500;
  std::vector<Bytes> memory(count, Bytes(16));
  session::Pending last = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto pending = session->post_deferred(copy_from(i, 16), memory[i]);
    REQUIRE(pending);
    last = *pending;
  }
  REQUIRE(session->wait_deferred(last));
  bool all = true;
  for (std::size_t i = 0; i < count; ++i) all = all && memory[i] == FakeExecutor::device_bytes(i, 16);
  CHECK(all);
}

TEST_CASE("Large copies in both directions at once do not block each other") {
  const auto url = GENERATE(from_range(listen_urls()));
  FakeExecutor executor({.listen = url});
  auto session = open(options_for(executor));
  const Bytes in = FakeExecutor::device_bytes(5, 24u << 20);
  Bytes out(24u << 20);
  const auto pending = session->post_deferred(copy_from(6, out.size()), out);
  REQUIRE(pending);
  REQUIRE(session->post(copy_to(1, in.size()), in));
  REQUIRE(session->wait_deferred(*pending));
  CHECK(out == FakeExecutor::device_bytes(6, out.size()));
  REQUIRE(executor.wait_for(2));
  CHECK(executor.records()[1].payload == in);
}

}  // namespace
}  // namespace avec::test
