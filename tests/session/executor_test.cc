// The engine against the real worker on the CPU device. The kernel folds each launch into one
// number in device memory, so that a call that was lost, repeated or exchanged shows.
#include <cstring>
#include <thread>

#include "executor/in_process.h"
#include "session/faulty_network.h"
#include "session/session_support.h"

namespace avec::test {
namespace {

constexpr std::uint64_t kBase = 0x310000000000, kRange = std::uint64_t{1} << 30, kMapped = 8u << 20;
constexpr std::uint64_t kContext = 1, kStream = 4, kModule = 7;

// fold(u64* state, u64 value): *state = *state * 3 + value.
constexpr char kPtx[] = R"(
.version 7.0
.target sm_70
.address_size 64
.visible .entry fold(.param .u64 state, .param .u64 value) {
  .reg .b64 %rd<6>;
  ld.param.u64 %rd1, [state];
  ld.param.u64 %rd2, [value];
  cvta.to.global.u64 %rd3, %rd1;
  ld.global.u64 %rd4, [%rd3];
  mad.lo.s64 %rd5, %rd4, 3, %rd2;
  st.global.u64 [%rd3], %rd5;
  ret;
}
)";

std::unique_ptr<InProcessExecutor> start_executor(Network* network) {
  InProcessExecutor::Options options;
  options.listen = network != nullptr ? network->url() : "tcp://127.0.0.1:0";
  options.session.driver_path = AVEC_CPU_DEVICE;
  options.session.device_kind = "cpu";
  std::string problem;
  auto executor = InProcessExecutor::start(std::move(options), problem);
  INFO(problem);
  REQUIRE(executor != nullptr);
  return executor;
}

session::Options options_to(const std::string& url, bool resume) {
  session::Options options;
  options.executor = url;
  options.device_ranges = {wire::AddressRange(kBase, kRange)};
  if (resume) options.resume_window = std::chrono::seconds(20);
  return options;
}

/// Context, stream, memory and module; what went wrong, or "".
std::string prepare(session::Session& session) {
  if (!session.post(wire::ContextCreate(kContext, 2, 3, 0, 0, 1, 0))) return "context";
  if (!session.post(wire::StreamCreate(kStream, kContext, 1, 0))) return "stream";
  if (const auto mapped = session.call(wire::MemMap(kBase, kMapped, 0, 0)); !mapped) {
    return "map: " + std::to_string(mapped.error().code);
  }
  const auto image = std::as_bytes(std::span(kPtx));
  const auto hash = *wire::content_hash(image);
  for (int attempt = 0; attempt < 2; ++attempt) {
    flatbuffers::FlatBufferBuilder builder;
    builder.Finish(wire::CreateModuleLoad(builder, kModule, kContext, &hash, image.size()));
    const auto loaded = session.call<wire::ModuleLoad>(builder);
    if (!loaded) return "load: " + std::to_string(loaded.error().code);
    if (!(*loaded)->needs_image()) return (*loaded)->functions()->size() == 1 ? "" : "functions";
    if (!session.post(wire::ModuleImage(hash), image)) return "image";
  }
  return "the image was not taken";
}

Result<> fold(session::Session& session, std::uint64_t value) {
  const std::uint64_t parameters[] = {kBase, value};
  return session.post(wire::LaunchKernel(kModule, 0, 0, 1, 1, 1, 1, 1, 1, kStream, 0, 0),
                      std::as_bytes(std::span(parameters)));
}

/// Sets the state, folds, reads it back, with a large copy each way; "" when all is right.
std::string program(session::Session& session, std::size_t large_bytes) {
  std::uint64_t state = 1;
  if (!session.post(wire::CopyToDevice(kBase, 8, 8, 1, kStream), std::as_bytes(std::span(&state, 1))))
    return "copy in";
  for (std::uint64_t i = 1; i <= 5; ++i) {
    if (!fold(session, i)) return "launch";
    state = state * 3 + i;
  }
  Bytes large = FakeExecutor::device_bytes(3, large_bytes);
  const Bytes wanted = large;
  if (!session.post(wire::CopyToDevice(kBase + 4096, large_bytes, large_bytes, 1, kStream), large))
    return "large in";
  std::fill(large.begin(), large.end(), std::byte{0});
  std::uint64_t result = 0;
  const auto small = session.post_deferred(wire::CopyFromDevice(kBase, 8, 8, 1, kStream),
                                           std::as_writable_bytes(std::span(&result, 1)));
  const auto back =
      session.post_deferred(wire::CopyFromDevice(kBase + 4096, large_bytes, large_bytes, 1, kStream), large);
  if (!small || !back || !session.wait_deferred(*small) || !session.wait_deferred(*back)) return "copy out";
  if (result != state) return "a launch was lost, repeated or exchanged";
  if (large != wanted) return "bytes of the large copies";
  if (!session.call(wire::StreamSynchronize(kStream))) return "synchronise";
  return "";
}

TEST_CASE("The worker executes what the engine posts, and gives back what it copies") {
  const auto executor = start_executor(nullptr);
  const auto session = open(options_to(executor->address(), false));
  CHECK(session->hello().device_kind()->str() == "cpu");
  REQUIRE(prepare(*session) == "");
  for (const std::size_t bytes : {std::size_t{1000}, limits::kInlinePayloadBytes + 1, std::size_t{7} << 20}) {
    CHECK(program(*session, bytes) == "");
  }
}

TEST_CASE("Threads share the worker's session") {
  const auto executor = start_executor(nullptr);
  const auto session = open(options_to(executor->address(), false));
  REQUIRE(prepare(*session) == "");
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      const std::uint64_t at = kBase + (t << 20), bytes = 100'000 * (t + 1);
      for (int i = 0; i < 10; ++i) {
        Bytes memory = FakeExecutor::device_bytes(t, bytes);
        if (!session->post(wire::CopyToDevice(at, bytes, bytes, 1, kStream), memory)) ++failures;
        std::fill(memory.begin(), memory.end(), std::byte{0});
        const auto back = session->post_deferred(wire::CopyFromDevice(at, bytes, bytes, 1, kStream), memory);
        if (!back || !session->wait_deferred(*back)) ++failures;
        if (memory != FakeExecutor::device_bytes(t, bytes)) ++failures;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(failures == 0);
}

TEST_CASE("A link to the worker that breaks anywhere: every call is executed once, in order") {
  const auto direction = GENERATE(sim::Direction::kFromClient, sim::Direction::kFromServer);
  Network& network = Network::make();
  const auto executor = start_executor(&network);
  constexpr std::size_t kLarge = limits::kInlinePayloadBytes + 100;
  const bool client = direction == sim::Direction::kFromClient;
  const auto run = [&](std::optional<std::uint64_t> at) {
    network.arm({.reset_from_client_at = client ? at : std::nullopt,
                 .reset_from_server_at = client ? std::nullopt : at});
    Heard heard;
    auto session = open(options_to(network.url(), true), heard.callbacks());
    const auto opened = session->counters();
    const std::string prepared = prepare(*session);
    const std::string went = prepared.empty() ? program(*session, kLarge) : prepared;
    session->close();
    // All sessions of this process want the same addresses: one after the other.
    REQUIRE(eventually([&] { return executor->sessions() == 0; }));
    CHECK(went == "");
    if (!heard.closed.empty()) UNSCOPED_INFO(heard.closed[0]);
    CHECK(heard.closed.empty());
    const auto ended = session->counters();
    return client ? std::pair(opened.bytes_sent + wire::kDataOpeningBytes,
                              ended.bytes_sent + wire::kDataOpeningBytes)
                  : std::pair(opened.bytes_received + sizeof(wire::DataAccept),
                              ended.bytes_received + sizeof(wire::DataAccept));
  };
  run({});  // the image is known to the executor from here on
  const auto [from, to] = run({});
  REQUIRE(to > from + kLarge);
  const std::uint32_t before = network.network.links();
  std::uint32_t wanted_links = 0, resets = 0, runs = 0, seen = before;
  for (std::uint64_t at = from + 1; at < to; at += at % 2 + (at - from < 1500 || to - at < 700 ? 1 : 997)) {
    ++runs;
    INFO("reset after " << at << " bytes from the " << (client ? "client" : "executor"));
    const std::uint64_t carried = run(at).second;
    // Control, data, and the data connection that came after the reset; when only the answer to
    // Goodbye is lost the worker has ended, and there is none. How many bytes a run carries
    // depends on how many acknowledgements travel alone: a reset beyond them does not happen.
    wanted_links += at + wire::kHeaderBytes < carried ? 3 : 2;
    resets += network.network.links() - seen >= 3;
    seen = network.network.links();
  }
  CHECK(network.network.links() - before >= wanted_links);
  CHECK(resets > runs / 2);
}

TEST_CASE("Kernels go on folding while the link to the worker breaks again and again") {
  Network& network = Network::make();
  const auto executor = start_executor(&network);
  auto session = open(options_to(network.url(), true));
  REQUIRE(prepare(*session) == "");
  std::atomic<bool> done{false};
  std::thread breaker([&] {
    while (!done) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      network.network.reset_all();
    }
  });
  std::string went;
  for (int i = 0; i < 100 && went.empty(); ++i) went = program(*session, 1u << 20);
  done = true;
  breaker.join();
  CHECK(went == "");
}

}  // namespace
}  // namespace avec::test
