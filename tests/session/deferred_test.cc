// Deferred calls whose payload moves by one-sided access. Those with a payload in the reply are
// in copy_test.cc.
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "session/access_network.h"

namespace avec::test {
namespace {

using std::chrono::milliseconds;

constexpr OneSidedTraits kOrdered{.ordered = true, .slots_up_to = 1u << 20, .add_from = 1u << 20};
constexpr OneSidedTraits kUnordered{.slots_up_to = 1u << 20, .add_from = 1u << 20};

wire::RemoteKeyWords words_of(const RemoteKey& key) {
  return {key.words[0], key.words[1], key.words[2], key.words[3]};
}
RemoteKey key_of(const wire::RemoteKeyWords& words) { return {{words.a(), words.b(), words.c(), words.d()}}; }

wire::CopyToDeviceFrom to_device(std::size_t bytes, const RemoteKey& key) {
  return wire::CopyToDeviceFrom(1, bytes, bytes, 1, 7, words_of(key), 0);
}
wire::CopyFromDeviceTo from_device(std::size_t bytes, const RemoteKey& key) {
  return wire::CopyFromDeviceTo(1, bytes, bytes, 1, 7, words_of(key), 0);
}

session::Reference allowed(FakeOneSided& access, MutableBytes memory, RemoteAccess what) {
  session::Reference reference{memory, what};
  REQUIRE_FALSE(access.allow(memory, what, reference.key));
  return reference;
}

TEST_CASE("A copy by reference carries no payload; its memory is free when the wait returns") {
  AccessNetwork& network = AccessNetwork::make(kOrdered);
  const Bytes device = FakeExecutor::device_bytes(4, 100'000);
  Bytes arrived;
  FakeExecutor executor({.script = [&](FakeExecutor&, const Record& record) {
    if (record.opcode() == wire::Opcode::CopyToDeviceFrom) {
      const auto key = key_of(record.as<wire::CopyToDeviceFrom>().key());
      const auto source = network.access.reach(key, RemoteAccess::kRead);
      arrived.assign(source.begin(), source.end());
    } else if (record.opcode() == wire::Opcode::CopyFromDeviceTo) {
      const auto key = key_of(record.as<wire::CopyFromDeviceTo>().key());
      const auto destination = network.access.reach(key, RemoteAccess::kWrite);
      if (destination.size() == device.size()) std::copy(device.begin(), device.end(), destination.begin());
    }
    return false;
  }});
  auto session = open(network.options_for(executor));
  REQUIRE(session->one_sided() == &network.access);
  Bytes in = FakeExecutor::device_bytes(9, 100'000), out(100'000);
  const auto source = allowed(network.access, in, RemoteAccess::kRead);
  const auto up = session->post_by_reference(to_device(in.size(), source.key), source);
  REQUIRE(up);
  REQUIRE(session->wait_deferred(*up, session::Counted::kSource));
  CHECK(network.access.revokes == 1);
  CHECK(arrived == in);
  const auto destination = allowed(network.access, out, RemoteAccess::kWrite);
  const auto down = session->post_by_reference(from_device(out.size(), destination.key), destination);
  REQUIRE(down);
  REQUIRE(session->wait_deferred(*down));
  CHECK(network.access.revokes == 2);
  CHECK(network.access.worthless_revokes == 0);
  CHECK(out == device);
  const auto counters = session->counters();
  CHECK(counters.payload_copied == 0);
  CHECK(counters.one_sided_bytes == 200'000);
  CHECK(counters.source_waits == 1);
  CHECK(counters.round_trips == 1);
  for (const Record& record : executor.records()) CHECK(record.payload.empty());
}

TEST_CASE("An answer with a payload to a copy by reference ends the session") {
  AccessNetwork& network = AccessNetwork::make(kOrdered);
  FakeExecutor executor({.script = [](FakeExecutor& self, const Record& record) {
    return record.opcode() == wire::Opcode::CopyFromDeviceTo && (self.reply(record, 0, {}, Bytes(64)), true);
  }});
  auto session = open(network.options_for(executor));
  Bytes memory(64, std::byte{3});
  const auto reference = allowed(network.access, memory, RemoteAccess::kWrite);
  const auto pending = session->post_by_reference(from_device(64, reference.key), reference);
  REQUIRE(pending);
  CHECK_FALSE(session->wait_deferred(*pending));
  CHECK(memory == Bytes(64, std::byte{3}));
}

TEST_CASE("A call by reference that fails says so, and its key is revoked like any other's") {
  AccessNetwork& network = AccessNetwork::make(kOrdered);
  FakeExecutor executor({.script = [](FakeExecutor& self, const Record& record) {
    return record.opcode() == wire::Opcode::CopyToDeviceFrom && (self.reply(record, 700), true);
  }});
  Heard heard;
  auto session = open(network.options_for(executor), heard.callbacks());
  Bytes memory(64);
  auto reference = allowed(network.access, memory, RemoteAccess::kRead);
  const auto waited = session->post_by_reference(to_device(64, reference.key), reference);
  REQUIRE(waited);
  const auto failed = session->wait_deferred(*waited);
  REQUIRE_FALSE(failed);
  CHECK(failed.error() == Error{Origin::kCuda, 700});
  reference = allowed(network.access, memory, RemoteAccess::kRead);
  REQUIRE(session->post_by_reference(to_device(64, reference.key), reference, session::Attend::kNobody));
  REQUIRE(session->call(wire::Ping(0)));
  REQUIRE(heard.failed.size() == 1);
  CHECK(heard.failed[0].opcode == wire::Opcode::CopyToDeviceFrom);
  CHECK(network.access.keys_now() == 0);
  CHECK(network.access.revokes == 2);
}

TEST_CASE("Memory that is read may be read meanwhile, and must not be freed") {
  AccessNetwork& network = AccessNetwork::make(kOrdered);
  Record held;
  std::atomic<bool> holding{false};
  FakeExecutor executor({.script = [&](FakeExecutor& self, const Record& record) {
    if (record.opcode() == wire::Opcode::CopyToDeviceFrom) {
      held = record;
      holding = true;
      return true;
    }
    if (record.opcode() == wire::Opcode::StreamQuery) self.reply(held);
    return false;
  }});
  auto session = open(network.options_for(executor));
  Bytes memory(4096);
  const auto reference = allowed(network.access, memory, RemoteAccess::kRead);
  const auto pending =
      session->post_by_reference(to_device(4096, reference.key), reference, session::Attend::kNobody);
  REQUIRE(pending);
  REQUIRE(eventually([&] { return holding.load(); }));
  // These would hang.
  REQUIRE(session->wait_for_destination(memory.data(), memory.data() + 4096));
  REQUIRE(session->wait_until_unused(memory.data() + 4096, memory.data() + 8192));
  CHECK(network.access.keys_now() == 1);
  std::atomic<bool> unused{false};
  std::thread waiter(
      [&] { unused = session->wait_until_unused(memory.data() + 4095, memory.data() + 4096).has_value(); });
  std::this_thread::sleep_for(milliseconds(20));
  CHECK_FALSE(unused);
  CHECK_FALSE(session->deferred_done(*pending));
  REQUIRE(session->call(wire::StreamQuery(0)));
  waiter.join();
  CHECK(unused);
  CHECK(network.access.keys_now() == 0);
  CHECK(session->counters().round_trips == 1);
  CHECK(session->counters().source_waits == 1);
}

TEST_CASE("Bytes that the executor writes itself come after payload of replies asked for before") {
  AccessNetwork& network = AccessNetwork::make(kOrdered);
  Record held;
  std::atomic<bool> holding{false}, posted{false};
  std::atomic<bool> early{false};
  FakeExecutor executor({.script = [&](FakeExecutor& self, const Record& record) {
    if (record.opcode() == wire::Opcode::CopyFromDevice) {
      held = record;
      holding = true;
      return true;
    }
    if (record.opcode() == wire::Opcode::CopyFromDeviceTo) early = early || holding;
    if (record.opcode() == wire::Opcode::StreamQuery && holding.exchange(false)) {
      const Bytes payload(64, std::byte{1});
      self.reply(held, 0, {}, payload);
    }
    return false;
  }});
  auto session = open(network.options_for(executor));
  Bytes memory(4096);
  const wire::CopyFromDevice small(0x1000, 64, 64, 1, 0);
  REQUIRE(session->post_deferred(small, MutableBytes(memory).first(64), session::Attend::kNobody));
  REQUIRE(eventually([&] { return holding.load(); }));
  const auto reference = allowed(network.access, memory, RemoteAccess::kWrite);
  std::thread poster(
      [&] { posted = session->post_by_reference(from_device(4096, reference.key), reference).has_value(); });
  std::this_thread::sleep_for(milliseconds(20));
  CHECK_FALSE(posted);
  REQUIRE(session->call(wire::StreamQuery(0)));
  poster.join();
  CHECK(posted);
  CHECK_FALSE(early);
}

TEST_CASE("Waiting for one of several calls ends with whichever is answered first") {
  AccessNetwork& network = AccessNetwork::make(kOrdered);
  std::vector<Record> held;
  FakeExecutor executor({.script = [&](FakeExecutor& self, const Record& record) {
    if (record.opcode() == wire::Opcode::CopyToDeviceFrom) {
      held.push_back(record);
      return true;
    }
    if (record.opcode() == wire::Opcode::StreamQuery) self.reply(held.at(1));
    return false;
  }});
  auto session = open(network.options_for(executor));
  Bytes memory(300);
  std::vector<session::Pending> pendings;
  for (std::size_t i = 0; i < 3; ++i) {
    const session::Reference reference{MutableBytes(memory).subspan(100 * i, 100), RemoteAccess::kRead};
    const auto pending = session->post_by_reference(to_device(100, {}), reference, session::Attend::kNobody);
    REQUIRE(pending);
    pendings.push_back(*pending);
  }
  std::thread answering([&] {
    std::this_thread::sleep_for(milliseconds(5));
    static_cast<void>(session->call(wire::StreamQuery(0)));
  });
  const std::atomic<std::uint64_t> changes{0};
  REQUIRE(session->wait_for_one(pendings, changes, 0));
  CHECK(session->deferred_done(pendings[1]));
  CHECK_FALSE(session->deferred_done(pendings[0]));
  CHECK_FALSE(session->deferred_done(pendings[2]));
  REQUIRE(session->wait_for_one(pendings, changes, 0));  // at once
  answering.join();
}

TEST_CASE("Waiting for one of several calls ends when what it depends on changes, driving or parked") {
  FakeExecutor executor({.script = [](FakeExecutor&, const Record& record) {
    return record.opcode() == wire::Opcode::CopyFromDevice;
  }});
  auto options = options_for(executor);
  options.wait_mode = GENERATE(WaitMode::kAdaptive, WaitMode::kBlock);
  auto session = open(options);
  Bytes memory(100);
  const auto pending = session->post_deferred(copy_from(1, 100), memory);
  REQUIRE(pending);
  const std::vector pendings{*pending};
  std::atomic<std::uint64_t> changes{0}, ended{0};
  constexpr std::uint64_t kRounds = 300;
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      for (std::uint64_t round = 0; round < kRounds; ++round) {
        ended += session->wait_for_one(pendings, changes, round).has_value();
        while (changes == round) std::this_thread::yield();
      }
    });
  }
  // Each change while one of them drives, or is about to sleep, and the other is parked. Were one
  // not woken, the longest sleep of a thread would pass each time.
  const bool all = eventually([&] {
    if (ended / 2 == changes && changes < kRounds) {
      ++changes;
      session->changed();
    }
    return ended == 2 * kRounds;
  });
  CHECK(all);
  changes = kRounds;
  session->changed();
  for (auto& thread : threads) thread.join();
  CHECK_FALSE(session->deferred_done(*pending));
}

TEST_CASE("Nothing reaches memory any more when a call says that the session is over") {
  AccessNetwork& network = AccessNetwork::make(kOrdered);
  FakeExecutor executor({.script = [](FakeExecutor& self, const Record& record) {
    if (record.opcode() == wire::Opcode::StreamQuery) self.drop_link();
    return record.opcode() == wire::Opcode::CopyFromDeviceTo || record.opcode() == wire::Opcode::StreamQuery;
  }});
  RemoteKey key;
  std::atomic<bool> reached{false}, told{false};
  session::Callbacks callbacks;
  callbacks.closed = [&](const std::string&) {
    reached = reached || !network.access.reach(key, RemoteAccess::kWrite).empty();
    told = true;
  };
  auto session = open(network.options_for(executor), std::move(callbacks));
  Bytes memory(4096);
  const auto reference = allowed(network.access, memory, RemoteAccess::kWrite);
  key = reference.key;
  const auto pending = session->post_by_reference(from_device(4096, key), reference);
  REQUIRE(pending);
  CHECK_FALSE(network.access.reach(key, RemoteAccess::kWrite).empty());
  std::thread other([&] { static_cast<void>(session->call(wire::StreamQuery(0))); });
  CHECK_FALSE(session->wait_deferred(*pending));
  reached = reached || !network.access.reach(key, RemoteAccess::kWrite).empty();
  other.join();
  CHECK(told);
  CHECK_FALSE(reached);
  CHECK_FALSE(session->wait_until_unused(memory.data(), memory.data() + 1));
  // What comes later is refused, and its key does not stay.
  const auto late = session->post_by_reference(from_device(4096, key), {memory, RemoteAccess::kWrite, key});
  CHECK_FALSE(late);
  CHECK(network.access.keys_now() == 0);
}

TEST_CASE("A session that can be resumed sends its payload in the stream") {
  AccessNetwork& network = AccessNetwork::make(kOrdered);
  FakeExecutor executor({});
  auto options = network.options_for(executor);
  options.resume_window = milliseconds(500);
  CHECK(open(options)->one_sided() == nullptr);
}

TEST_CASE("Bytes written ahead are there when the frame arrives, however few writes fit at once") {
  AccessNetwork& network = AccessNetwork::make(GENERATE(kOrdered, kUnordered));
  std::atomic<std::size_t> wrong{0};
  FakeExecutor executor({.script = [&](FakeExecutor&, const Record& record) {
    if (record.opcode() == wire::Opcode::CopyToDeviceFrom) {
      const auto copy = record.as<wire::CopyToDeviceFrom>();
      const auto wanted = FakeExecutor::device_bytes(copy.destination(), copy.width());
      const auto there = network.access.mirror().subspan(copy.offset(), copy.width());
      wrong += !std::equal(wanted.begin(), wanted.end(), there.begin());
    }
    return false;
  }});
  auto session = open(network.options_for(executor));
  const RemoteKey mirror = network.access.make_mirror(64 << 10);
  network.access.writes_at_once = 1;
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < 50; ++i) {
        Bytes bytes = FakeExecutor::device_bytes(t * 100 + i, 16 << 10);
        const auto write = session->write_ahead(mirror, t * (16 << 10), bytes);
        session::Reference reference{bytes, RemoteAccess::kRead};
        reference.write = write.value_or(0);
        reference.copied = 5;
        const auto pending =
            session->post_by_reference(wire::CopyToDeviceFrom(t * 100 + i, bytes.size(), bytes.size(), 1, 7,
                                                              words_of({}), t * (16 << 10)),
                                       reference);
        wrong += !write || !pending || !session->wait_deferred(*pending, session::Counted::kSource);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(network.access.writes == 200);
  CHECK(session->counters().payload_copied == 1000);
}

TEST_CASE("An answer that overtakes the end of its write is told after that end") {
  AccessNetwork& network = AccessNetwork::make(kOrdered);
  FakeExecutor executor({});
  auto session = open(network.options_for(executor));
  const RemoteKey mirror = network.access.make_mirror(4096);
  network.access.writes_linger = true;
  Bytes bytes(4096);
  const auto write = session->write_ahead(mirror, 0, bytes);
  REQUIRE(write);
  session::Reference reference{bytes, RemoteAccess::kRead};
  reference.write = *write;
  const auto pending = session->post_by_reference(to_device(4096, {}), reference, session::Attend::kNobody);
  REQUIRE(pending);
  REQUIRE(executor.wait_for(1));
  std::this_thread::sleep_for(milliseconds(20));
  CHECK_FALSE(session->deferred_done(*pending));
  network.access.finish_writes();
  CHECK(session->wait_deferred(*pending, session::Counted::kSource));
}

TEST_CASE("A write that fails ends the session, since what was copied is not what was meant") {
  AccessNetwork& network = AccessNetwork::make(GENERATE(kOrdered, kUnordered));
  FakeExecutor executor({});
  Heard heard;
  auto session = open(network.options_for(executor), heard.callbacks());
  const RemoteKey mirror = network.access.make_mirror(4096);
  network.access.write_fails = {TransportErrc::kInternal, 5};
  Bytes bytes(4096);
  static_cast<void>(session->write_ahead(mirror, 0, bytes));
  const auto called = session->call(wire::Ping(0));
  // The answer may have come before the bad news; what follows does not.
  if (called) REQUIRE(eventually([&] { return !session->call(wire::Ping(0)); }));
  REQUIRE(heard.with([](const Heard& said) { return said.closed.size(); }) == 1);
  CHECK(says(heard.closed[0], "a write into memory of the executor failed"));
}

TEST_CASE("A forked child leaves the parent's keys and memory alone") {
  AccessNetwork& network = AccessNetwork::make(kOrdered);
  FakeExecutor executor({});
  auto session = open(network.options_for(executor));
  Bytes memory(64);
  const auto reference = allowed(network.access, memory, RemoteAccess::kRead);
  const pid_t child = ::fork();
  if (child == 0) {
    session->abandon_after_fork();
    const bool alone = session->one_sided() == nullptr && network.access.revokes == 0;
    session.reset();
    ::_exit(alone && network.access.revokes == 0 && network.access.keys_now() == 1 ? 0 : 1);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  const auto pending = session->post_by_reference(to_device(64, reference.key), reference);
  REQUIRE(pending);
  CHECK(session->wait_deferred(*pending));
}

}  // namespace
}  // namespace avec::test
