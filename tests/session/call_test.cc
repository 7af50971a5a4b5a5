#include <sys/wait.h>
#include <unistd.h>

#include "session/session_support.h"

namespace avec::test {
namespace {

TEST_CASE("A call returns its struct reply") {
  const auto url = GENERATE(from_range(listen_urls()));
  const auto mode = GENERATE(WaitMode::kSpin, WaitMode::kAdaptive, WaitMode::kBlock);
  FakeExecutor executor(
      {.listen = url, .script = [](FakeExecutor& self, const Record& record) {
         if (record.opcode() != wire::Opcode::MemGetInfo) return false;
         self.reply(record, 0, bytes_of(wire::MemGetInfoReply(record.as<wire::MemGetInfo>().context(), 99)));
         return true;
       }});
  auto options = options_for(executor);
  options.wait_mode = mode;
  auto session = open(options);
  for (std::uint64_t i = 0; i < 100; ++i) {
    const auto reply = session->call(wire::MemGetInfo(i));
    REQUIRE(reply);
    CHECK(reply->free() == i);
    CHECK(reply->total() == 99);
  }
  CHECK(session->counters().round_trips == 100);
  CHECK(session->counters().waited == 100);
}

TEST_CASE("A call comes after everything posted before it") {
  FakeExecutor executor({});
  auto session = open(options_for(executor));
  for (std::uint64_t i = 0; i < 100; ++i) REQUIRE(session->post(launch(i)));
  REQUIRE(session->call(wire::StreamSynchronize(1)));
  const auto records = executor.records();
  REQUIRE(records.size() == 101);
  CHECK(records.back().opcode() == wire::Opcode::StreamSynchronize);
}

TEST_CASE("The status of a failed call is its error") {
  FakeExecutor executor({.script = [](FakeExecutor& self, const Record& record) {
    if (record.opcode() == wire::Opcode::StreamQuery) return self.reply(record, 600), true;
    if (record.opcode() == wire::Opcode::ModuleGetGlobal) return self.reply(record, 500), true;
    return false;
  }});
  auto session = open(options_for(executor));
  const auto query = session->call(wire::StreamQuery(1));
  REQUIRE_FALSE(query);
  CHECK(query.error() == Error{Origin::kCuda, 600});
  CHECK(session::cuda_code_for(query.error()) == 600);

  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(wire::CreateModuleGetGlobal(builder, 3, builder.CreateString("symbol")));
  const auto global = session->call<wire::ModuleGetGlobal>(builder);
  REQUIRE_FALSE(global);
  CHECK(global.error() == Error{Origin::kCuda, 500});
  CHECK(session->call(wire::Ping(0)));
}

TEST_CASE("Table bodies and table replies of any size arrive") {
  const auto url = GENERATE(from_range(listen_urls()));
  // Sizes on both sides of the staging buffer and of the inline limit.
  const auto functions = GENERATE(0u, 3u, 500u, 5000u);
  FakeExecutor executor(
      {.listen = url, .script = [&](FakeExecutor& self, const Record& record) {
         if (record.opcode() != wire::Opcode::ModuleLoad) return false;
         const auto* load = flatbuffers::GetRoot<wire::ModuleLoad>(record.body.data());
         flatbuffers::FlatBufferBuilder builder;
         std::vector<flatbuffers::Offset<wire::FunctionFacts>> facts;
         for (unsigned i = 0; i < functions; ++i) {
           facts.push_back(
               wire::CreateFunctionFacts(builder, builder.CreateString("kernel_" + std::to_string(i))));
         }
         const auto all = builder.CreateVector(facts);
         const auto log = builder.CreateString(std::to_string(load->options()->size()));
         builder.Finish(wire::CreateModuleLoadReply(builder, false, all, log));
         self.reply(record, 0,
                    {reinterpret_cast<const std::byte*>(builder.GetBufferPointer()), builder.GetSize()});
         return true;
       }});
  auto session = open(options_for(executor));
  for (int round = 0; round < 3; ++round) {
    flatbuffers::FlatBufferBuilder builder;
    const auto options = builder.CreateVector(std::vector<int>(functions * 10));
    builder.Finish(wire::CreateModuleLoad(builder, 1, 2, nullptr, 0, options));
    const auto reply = session->call<wire::ModuleLoad>(builder);
    REQUIRE(reply);
    REQUIRE((*reply)->functions()->size() == functions);
    if (functions != 0) {
      CHECK((*reply)->functions()->Get(functions - 1)->name()->str() ==
            "kernel_" + std::to_string(functions - 1));
    }
    CHECK((*reply)->log()->str() == std::to_string(functions * 10));
  }
}

TEST_CASE("The executor's answer to Hello is kept") {
  FakeExecutor executor({});
  auto session = open(options_for(executor));
  CHECK(session->hello().driver_version() == 13000);
  CHECK(session->hello().device_kind()->str() == "cpu");
  CHECK(session->peer() == executor.address());
}

TEST_CASE("A closed session says goodbye once and refuses later calls") {
  const auto url = GENERATE(from_range(listen_urls()));
  FakeExecutor executor({.listen = url});
  Heard heard;
  auto session = open(options_for(executor), heard.callbacks());
  REQUIRE(session->post(launch(1)));
  session->close();
  session->close();
  const auto records = executor.records();
  REQUIRE(records.size() == 2);
  CHECK(records[1].opcode() == wire::Opcode::Goodbye);
  const auto posted = session->post(launch(2));
  REQUIRE_FALSE(posted);
  CHECK(posted.error().origin == Origin::kTransport);
  CHECK(session::cuda_code_for(posted.error()) == 46);
  CHECK_FALSE(session->call(wire::Ping(0)));
  CHECK(heard.closed.empty());
}

TEST_CASE("Closing ends the waits of other threads") {
  FakeExecutor executor({.script = [](FakeExecutor&, const Record& record) {
    return record.opcode() == wire::Opcode::StreamSynchronize || record.opcode() == wire::Opcode::Goodbye;
  }});
  auto session = open(options_for(executor));
  std::atomic<int> failed{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const auto done = session->call(wire::StreamSynchronize(1));
      if (!done && done.error().origin == Origin::kTransport) ++failed;
    });
  }
  REQUIRE(executor.wait_for(4));
  session->close();
  for (auto& thread : threads) thread.join();
  CHECK(failed == 4);
}

TEST_CASE("A forked child forgets the session and leaves the parent's alone") {
  FakeExecutor executor({});
  auto session = open(options_for(executor));
  REQUIRE(session->call(wire::Ping(0)));
  const pid_t child = ::fork();
  if (child == 0) {
    session->abandon_after_fork();
    const bool refused = !session->post(launch(1)) && !session->call(wire::Ping(0));
    session->close();
    ::_exit(refused ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  REQUIRE(session->call(wire::Ping(0)));
  REQUIRE(session->post(launch(2)));
  session->close();
  CHECK(executor.records().back().opcode() == wire::Opcode::Goodbye);
}

}  // namespace
}  // namespace avec::test
