// Links that break at every byte, and sessions that go on as if nothing had happened.
#include <cstring>
#include <thread>

#include "session/faulty_network.h"
#include "session/session_support.h"

namespace avec::test {
namespace {

using std::chrono::milliseconds;

session::Options resumable(const Network& network) {
  session::Options options;
  options.executor = network.url();
  options.resume_window = std::chrono::seconds(20);
  return options;
}

/// What a program does in the recorded exchange; returns what went wrong.
std::string program(session::Session& session) {
  Bytes in = FakeExecutor::device_bytes(1, 200);
  if (!session.post(copy_to(100, in.size()), in)) return "copy in";
  for (std::uint64_t i = 0; i < 3; ++i) {
    if (!session.post(launch(i))) return "launch";
  }
  Bytes out(333);
  const auto pending = session.post_deferred(copy_from(4, out.size()), out);
  if (!pending || !session.wait_deferred(*pending)) return "copy out";
  if (out != FakeExecutor::device_bytes(4, out.size())) return "bytes of the copy out";
  Bytes large = FakeExecutor::device_bytes(5, limits::kInlinePayloadBytes + 13);
  if (!session.post(copy_to(200, large.size()), large)) return "large copy in";
  std::fill(large.begin(), large.end(), std::byte{0});
  const auto info = session.call(wire::MemGetInfo(77));
  if (!info || info->free() != 77) return "call";
  if (!session.post(launch(9))) return "launch";
  if (!session.call(wire::StreamSynchronize(1))) return "synchronise";
  return "";
}

constexpr std::size_t kProgramCalls = 9;

bool answer_memory(FakeExecutor& self, const Record& record) {
  if (record.opcode() != wire::Opcode::MemGetInfo) return false;
  self.reply(record, 0, bytes_of(wire::MemGetInfoReply(record.as<wire::MemGetInfo>().context(), 1)));
  return true;
}

/// The calls that arrived are the program's, each once, in order.
std::string check_executed(const std::vector<Record>& records) {
  using O = wire::Opcode;
  const std::vector<O> wanted = {O::CopyToDevice, O::LaunchKernel,   O::LaunchKernel,
                                 O::LaunchKernel, O::CopyFromDevice, O::CopyToDevice,
                                 O::MemGetInfo,   O::LaunchKernel,   O::StreamSynchronize};
  if (records.size() < wanted.size()) return "too few calls";
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (records[i].opcode() != wanted[i]) return "call " + std::to_string(i);
  }
  if (records[0].payload != FakeExecutor::device_bytes(1, 200)) return "payload";
  if (records[5].payload != FakeExecutor::device_bytes(5, limits::kInlinePayloadBytes + 13))
    return "large payload";
  for (std::uint64_t i = 0; i < 3; ++i) {
    if (records[1 + i].as<wire::LaunchKernel>().module_() != i) return "launch";
  }
  return "";
}

/// Bytes of each direction of the data link, when the session is open and when it has ended.
struct Exchange {
  std::uint64_t client_open = 0, client_end = 0;
  std::uint64_t server_open = 0, server_end = 0;
};

/// Runs the program over a link that breaks as told.
Exchange run(const sim::Faults& faults) {
  Network& network = Network::make();
  network.arm(faults);
  FakeExecutor executor({.listen = network.url(), .script = answer_memory});
  Heard heard;
  auto session = open(resumable(network), heard.callbacks());
  const auto opened = session->counters();
  const std::string failed = program(*session);
  session->close();
  const auto ended = session->counters();
  // Goodbye comes last, whatever happened before.
  const auto records = executor.records();
  CHECK(failed == "");
  CHECK(records.size() == kProgramCalls + 1);
  CHECK(check_executed(records) == "");
  CHECK(heard.closed.empty());
  if (faults.reset_from_client_at || faults.reset_from_server_at) CHECK(executor.data_connections() >= 2);
  constexpr auto kOpening = wire::kDataOpeningBytes, kAccept = sizeof(wire::DataAccept);
  return {opened.bytes_sent + kOpening, ended.bytes_sent + kOpening, opened.bytes_received + kAccept,
          ended.bytes_received + kAccept};
}

/// Every position where frames are small, samples inside the large payload.
std::vector<std::uint64_t> positions(std::uint64_t from, std::uint64_t to) {
  std::vector<std::uint64_t> all;
  for (std::uint64_t at = from; at <= to; ++at) {
    const bool inside = at > from + 1500 && at + 600 < to;
    if (!inside || at % 1009 == 0) all.push_back(at);
  }
  return all;
}

TEST_CASE("An unbroken link carries the exchange once") {
  const Exchange exchange = run({});
  CHECK(exchange.client_end - exchange.client_open > limits::kInlinePayloadBytes);
}

TEST_CASE("A link that breaks after any byte to the executor: every call is executed once, in order") {
  const Exchange exchange = run({});
  for (const auto at : positions(exchange.client_open + 1, exchange.client_end - 1)) {
    INFO("reset after " << at << " bytes from the client");
    run({.reset_from_client_at = at});
  }
}

TEST_CASE("A link that breaks after any byte from the executor: every call is executed once, in order") {
  const Exchange exchange = run({});
  for (const auto at : positions(exchange.server_open + 1, exchange.server_end - 1)) {
    INFO("reset after " << at << " bytes from the executor");
    run({.reset_from_server_at = at});
  }
}

TEST_CASE("Links that break again and again under many threads lose and repeat nothing") {
  Network& network = Network::make();
  FakeExecutor executor({.listen = network.url(), .script = answer_memory});
  Heard heard;
  auto session = open(resumable(network), heard.callbacks());
  constexpr std::size_t kThreads = 8, kRounds = 60;
  std::atomic<bool> done{false};
  std::thread breaker([&] {
    while (!done) {
      std::this_thread::sleep_for(milliseconds(7));
      network.network.reset_all();
    }
  });
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < kRounds; ++i) {
        if (!session->post(launch(t << 32 | i))) ++failures;
        const auto info = session->call(wire::MemGetInfo(i));
        if (!info || info->free() != i) ++failures;
        if (i % 10 != 0) continue;
        const Bytes payload = FakeExecutor::device_bytes(t, 200'000);
        if (!session->post(copy_to(t, payload.size()), payload)) ++failures;
        Bytes memory(150'000);
        const auto pending = session->post_deferred(copy_from(t, memory.size()), memory);
        if (!pending || !session->wait_deferred(*pending)) ++failures;
        if (memory != FakeExecutor::device_bytes(t, memory.size())) ++failures;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  done = true;
  breaker.join();
  CHECK(failures == 0);
  CHECK(heard.closed.empty());
  std::vector<std::uint64_t> next(kThreads, 0);
  bool in_order = true;
  std::size_t launches = 0;
  for (const auto& record : executor.records()) {
    if (record.opcode() == wire::Opcode::CopyToDevice) {
      in_order = in_order && record.payload == FakeExecutor::device_bytes(
                                                   record.as<wire::CopyToDevice>().destination(), 200'000);
    }
    if (record.opcode() != wire::Opcode::LaunchKernel) continue;
    const auto tag = record.as<wire::LaunchKernel>().module_();
    in_order = in_order && next[tag >> 32]++ == (tag & 0xffffffff);
    ++launches;
  }
  CHECK(in_order);
  CHECK(launches == kThreads * kRounds);
  CHECK(executor.data_connections() > 1);
}

TEST_CASE("Frames beyond the replay buffer wait for acknowledgements and survive a reset") {
  Network& network = Network::make();
  FakeExecutor executor({.listen = network.url()});
  auto session = open(resumable(network));
  const Bytes payload = FakeExecutor::device_bytes(1, limits::kInlinePayloadBytes);
  constexpr std::size_t kCalls = 400;  // 25 MiB through 9 MiB of buffer
  for (std::size_t i = 0; i < kCalls; ++i) {
    REQUIRE(session->post(copy_to(i, payload.size()), payload));
    if (i % 150 == 100) network.network.reset_all();
  }
  REQUIRE(executor.wait_for(kCalls));
  const auto records = executor.records();
  bool in_order = true;
  for (std::size_t i = 0; i < kCalls; ++i)
    in_order = in_order && records[i].as<wire::CopyToDevice>().destination() == i;
  CHECK(in_order);
}

TEST_CASE("An idle session comes back by itself") {
  Network& network = Network::make();
  FakeExecutor executor({.listen = network.url()});
  Heard heard;
  auto session = open(resumable(network), heard.callbacks());
  network.network.reset_all();
  REQUIRE(eventually([&] { return executor.data_connections() == 2; }));
  REQUIRE(session->call(wire::Ping(0)));
  CHECK(heard.closed.empty());
}

TEST_CASE("A link that stays away longer than the window ends the session with the reason") {
  Network& network = Network::make();
  auto executor = std::make_unique<FakeExecutor>(FakeExecutor::Options{.listen = network.url()});
  Heard heard;
  auto options = resumable(network);
  options.resume_window = milliseconds(100);
  auto session = open(options, heard.callbacks());
  network.network.refuse_connects(1'000'000);
  network.network.reset_all();
  const auto done = session->call(wire::Ping(0));
  REQUIRE_FALSE(done);
  CHECK(done.error().origin == Origin::kTransport);
  CHECK(session::cuda_code_for(done.error()) == 46);
  REQUIRE(heard.closed.size() == 1);
  CHECK(says(heard.closed[0], "not restored within 0.1 s"));
}

TEST_CASE("An executor that refuses to resume ends the session at once") {
  Network& network = Network::make();
  FakeExecutor executor({.listen = network.url(),
                         .refuse_resume = static_cast<std::uint32_t>(wire::RefusalCode::Authentication)});
  Heard heard;
  auto session = open(resumable(network), heard.callbacks());
  network.network.reset_all();
  CHECK_FALSE(session->call(wire::Ping(0)));
  REQUIRE(heard.closed.size() == 1);
  CHECK(says(heard.closed[0], "could not be resumed"));
}

TEST_CASE("Without a window a reset ends the session at once") {
  Network& network = Network::make();
  FakeExecutor executor({.listen = network.url()});
  Heard heard;
  auto options = resumable(network);
  options.resume_window = milliseconds(0);
  auto session = open(options, heard.callbacks());
  network.network.reset_all();
  CHECK_FALSE(session->call(wire::Ping(0)));
  CHECK(executor.data_connections() == 1);
  REQUIRE(heard.closed.size() == 1);
  CHECK(says(heard.closed[0], "lost"));
}

}  // namespace
}  // namespace avec::test
