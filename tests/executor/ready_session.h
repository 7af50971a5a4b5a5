// A worker's session with the recording driver, opened and filled with what most tests need.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "executor/in_process.h"
#include "executor/raw_client.h"
#include "executor/recording_driver.h"
#include "support/catch.h"

namespace avec::test {

inline constexpr std::uint64_t kBase = 0x200000000000, kRange = 1u << 30;
inline constexpr std::uint64_t kContext = 1, kLegacy = 2, kPerThread = 3, kStream = 4, kOther = 5, kEvent = 6, kModule = 7;

/// An executor with the recording driver, which forgets what it recorded.
inline std::unique_ptr<InProcessExecutor> start(const std::string& listen, InProcessExecutor::Options options = {}) {
  static int number = 0;
  reset_recording();
  options.listen = listen == "sim" ? "sim://worker-" + std::to_string(++number) : listen;
  if (!options.session.driver) options.session.driver = recording_driver();
  options.session.device_kind = "cpu";
  options.session.release = "test";
  std::string problem;
  auto executor = InProcessExecutor::start(std::move(options), problem);
  INFO(problem);
  REQUIRE(executor != nullptr);
  return executor;
}

/// What a client connects to: a network of the test's own has a scheme that its listener does not know.
inline std::string url_of(const InProcessExecutor& executor, const std::string& listen) {
  const std::string address = executor.address();
  return listen != "sim" && address.starts_with("sim://") ? listen : address;
}

/// A session with a context, a stream beside the default ones, memory, and a module.
struct Ready {
  std::unique_ptr<InProcessExecutor> executor;
  RawClient client;

  explicit Ready(const std::string& listen = "sim", std::uint64_t replay_bytes = 0, InProcessExecutor::Options options = {})
      : executor(start(listen, std::move(options))), client(url_of(*executor, listen)) {
    REQUIRE(client.problem() == "");
    const auto hello = client.hello(kBase, kRange, replay_bytes);
    REQUIRE(hello.has_value());
    REQUIRE(hello->header.status() == 0);
    client.send(wire::ContextCreate(kContext, kLegacy, kPerThread, 0, 0, 1, 0));
    client.send(wire::StreamCreate(kStream, kContext, CU_STREAM_NON_BLOCKING, 0));
    client.send(wire::StreamCreate(kOther, kContext, CU_STREAM_NON_BLOCKING, 0));
    client.send(wire::EventCreate(kEvent, kContext, 0, 0));
    REQUIRE(client.status_of(wire::MemMap(kBase, 64u << 20, 0, 0)) == 0);
    const std::string image = "an image";
    const auto loaded = client.load(kModule, kContext, std::as_bytes(std::span(image)));
    REQUIRE(loaded.has_value());
    const auto* facts = flatbuffers::GetRoot<wire::ModuleLoadReply>(loaded->body.data());
    REQUIRE(facts->functions()->size() == 1);
    REQUIRE(facts->functions()->Get(0)->name()->str() == "kernel");
  }
  wire::LaunchKernel launch(std::uint64_t stream = kStream) const {
    return {kModule, 0, 0, 1, 1, 1, 1, 1, 1, stream, 0, 0};
  }
  std::array<std::byte, 12> parameters{};
  int ping() { return client.status_of(wire::Ping(0)); }
};

}  // namespace avec::test
