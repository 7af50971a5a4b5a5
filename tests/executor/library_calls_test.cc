// What a session does with calls of libraries, right, wrong and forged, with a library that counts what reaches it.
#include <dlfcn.h>

#include <chrono>
#include <filesystem>
#include <string_view>
#include <thread>

#include "base/limits.h"
#include "executor/fake_library.h"
#include "executor/ready_session.h"
#include "executor/worker/libraries.h"
#include "libraries/abi.h"

namespace avec::test {
namespace {

constexpr std::uint16_t kCublas = 1, kCudnn = 3, kCurand = 4, kCusparse = 6, kCusparselt = 12;
constexpr std::uint64_t kNothing = 999, kHandle = 100, kGenerator = 101, kStruct = 102;
constexpr int kCublasOk = 0, kCublasInvalid = 7, kCublasUnsupported = 15;

using Words = std::vector<std::uint64_t>;

/// The library as the session loads it, with its counts at zero.
FakeState& fake() {
  static FakeState* const state = [] {
    void* library = ::dlopen(AVEC_FAKE_LIBRARIES "/libavec_cpu_cublas.so", RTLD_NOW | RTLD_LOCAL);
    REQUIRE(library != nullptr);
    return reinterpret_cast<FakeState* (*)()>(::dlsym(library, "fake_state"))();
  }();
  return *state;
}

std::uint16_t number_of(std::uint16_t library, std::string_view name) {
  const worker::LibraryDescription* description = worker::library_description(library);
  REQUIRE(description != nullptr);
  for (std::size_t i = 0; i < description->entry_count; ++i)
    if (description->entries[i].call != nullptr && description->entries[i].name == name) return static_cast<std::uint16_t>(i);
  FAIL("no function " << name);
  return 0;
}

InProcessExecutor::Options with_libraries() {
  FakeState& state = fake();
  state.gate = state.gate_ends = state.no_memory = false;
  state.calls = state.waiting = state.status = 0;
  InProcessExecutor::Options options;
  options.session.driver_path = AVEC_FAKE_LIBRARIES "/libavec_cpu_device.so";
  options.session.library_path = AVEC_FAKE_LIBRARIES;
  return options;
}

struct Answer {
  int call = -1, status = -1;  ///< of the frame, of the library
  Words results;
};

struct Libraries : Ready {
  Libraries() : Ready("sim", 0, with_libraries()) {}
  ~Libraries() { open_gate(); }

  static void open_gate() { fake().gate = false; }
  std::uint64_t post(std::uint16_t library, std::string_view name, const Words& words, std::uint64_t stream = 0,
                     std::uint64_t context = kContext) {
    return client.send(wire::LibraryCall(library, number_of(library, name), 0, context, stream), std::as_bytes(std::span(words)));
  }
  std::uint64_t send_ask(std::uint16_t library, std::uint16_t function, const Words& words, std::uint8_t wait = 0,
                         std::uint64_t stream = 0, std::uint64_t context = kContext) {
    flatbuffers::FlatBufferBuilder builder;
    builder.Finish(wire::CreateLibraryAsk(builder, library, function, wait, context, stream, builder.CreateVector(words)));
    return client.send(wire::Opcode::LibraryAsk, {reinterpret_cast<const std::byte*>(builder.GetBufferPointer()), builder.GetSize()});
  }
  Answer answer_to(std::uint64_t call) {
    Answer answer;
    const auto reply = client.reply_to(call);
    if (!reply) return answer;
    answer.call = reply->header.status();
    if (reply->body.empty()) return answer;
    const auto* root = flatbuffers::GetRoot<wire::LibraryReply>(reply->body.data());
    answer.status = root->status();
    if (root->results() != nullptr) answer.results.assign(root->results()->begin(), root->results()->end());
    return answer;
  }
  Answer ask(std::uint16_t library, std::string_view name, const Words& words) {
    return answer_to(send_ask(library, number_of(library, name), words));
  }
  void make_handle() { post(kCublas, "cublasCreate_v2", {kHandle}); }
  void make_generator() { post(kCurand, "curand_create_device", {kGenerator, 100}); }
  /// The statuses of posted calls of libraries that failed, in order.
  std::vector<int> failures() {
    CHECK(ping() == 0);
    std::vector<int> found;
    for (const RawFrame& frame : client.others)
      if (frame.is(wire::Opcode::LibraryFailed)) found.push_back(frame.as<wire::LibraryFailed>().status());
    return found;
  }
};

/// The call came to the gate: it runs on a helper.
bool waits() {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (fake().waiting == 0 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  return fake().waiting == 1;
}

TEST_CASE("Calls of a library reach it with their handles, and their results come back") {
  Libraries session;
  session.make_handle();
  session.post(kCublas, "cublasSetStream_v2", {kHandle, kStream});
  session.post(kCublas, "cublasZscal_v2", {kHandle, 5, 1, 0x3ff0000000000000, 0x4000000000000000, kBase, 1}, kStream);
  const Answer answer = session.ask(kCublas, "cublasIsamax_v2", {kHandle, 5, kBase, 1, 1, 1});
  CHECK(answer.status == kCublasOk);
  CHECK(answer.results == Words{5});
  CHECK(fake().seen == 3.0);
  session.post(kCublas, "cublasDestroy_v2", {kHandle});
  CHECK(session.failures().empty());
  CHECK(fake().calls == 5);
  // A call whose results nobody wants, and one without results that is waited for.
  session.make_handle();
  session.post(kCublas, "cublasIsamax_v2", {kHandle, 5, kBase, 1, 1, 1});
  CHECK(session.ask(kCublas, "cublasSetStream_v2", {kHandle, kStream}).status == kCublasOk);
  CHECK(session.failures().empty());
  CHECK(fake().calls == 8);
}

TEST_CASE("Opening a library says where it lies, or why it cannot be used") {
  Libraries session;
  const auto open = [&](std::uint32_t library) {
    const auto reply = session.client.ask(wire::LibraryOpen(library, 0));
    REQUIRE(reply.has_value());
    const auto* root = flatbuffers::GetRoot<wire::LibraryOpenReply>(reply->body.data());
    return std::pair(root->path()->str(), root->problem()->str());
  };
  CHECK(open(kCublas).first.ends_with("libavec_cpu_cublas.so"));
  CHECK(open(kCublas).second.empty());
  CHECK(open(kCusparselt).first.ends_with("libcusparseLt.so.0"));
  for (const std::uint32_t library : {0u, 63u, 0xffffu}) {
    CHECK(open(library).first.empty());
    CHECK(open(library).second.find("does not know") != std::string::npos);
  }
  CHECK(open(kCudnn).first.empty());
  CHECK(open(kCudnn).second.find("libcudnn") != std::string::npos);
  CHECK(open(kCusparse).first.empty());
  CHECK_FALSE(open(kCusparse).second.empty());
}

TEST_CASE("A call of what is not there gets an error, and no library hears of it") {
  Libraries session;
  session.make_handle();
  session.make_generator();
  session.post(kCublas, "cublasCreate_v2", {kHandle + 50});
  session.post(kCublas, "cublasDestroy_v2", {kHandle + 50});
  REQUIRE(session.failures().empty());
  const int calls = fake().calls;
  const std::uint16_t isamax = number_of(kCublas, "cublasIsamax_v2");
  // Libraries, functions.
  CHECK(session.answer_to(session.send_ask(63, 1, {})).status != 0);
  CHECK(session.answer_to(session.send_ask(0, 0, {})).status != 0);
  CHECK(session.answer_to(session.send_ask(0xffff, 0xffff, {})).status != 0);
  CHECK(session.answer_to(session.send_ask(kCublas, 0xffff, {})).status == kCublasUnsupported);
  CHECK(session.answer_to(session.send_ask(kCublas, 0, {})).status == kCublasUnsupported);
  CHECK(session.answer_to(session.send_ask(kCudnn, 1, {kNothing})).status != 0);
  // The library is there and the function is not in it.
  CHECK(session.ask(kCublas, "cublasSetPointerMode_v2", {kHandle, 0}).status == kCublasUnsupported);
  // Handles: no such name, of another kind, destroyed, null.
  for (const std::uint64_t name : {kNothing, kGenerator, kHandle + 50, std::uint64_t{0}, kStream, ~std::uint64_t{0}}) {
    INFO(name);
    CHECK(session.ask(kCublas, "cublasIsamax_v2", {name, 5, kBase, 1, 1, 1}).status == kCublasInvalid);
    CHECK(session.ask(kCublas, "cublasDestroy_v2", {name}).status == kCublasInvalid);
  }
  CHECK(session.ask(kCublas, "cublasSetStream_v2", {kHandle, kNothing}).status == kCublasInvalid);
  // Contexts and streams of the frame.
  const Words right{kHandle, 5, kBase, 1, 1, 1};
  CHECK(session.answer_to(session.send_ask(kCublas, isamax, right, 0, 0, kNothing)).call == CUDA_ERROR_INVALID_CONTEXT);
  CHECK(session.answer_to(session.send_ask(kCublas, isamax, right, 0, kNothing)).call == CUDA_ERROR_INVALID_HANDLE);
  CHECK(session.answer_to(session.send_ask(kCublas, isamax, right, 1, kEvent)).call == CUDA_ERROR_INVALID_HANDLE);
  // The same of posted calls: each failure is said once.
  REQUIRE(session.failures().empty());
  session.post(kCublas, "cublasSetStream_v2", {kNothing, kStream});
  session.post(kCublas, "cublasSetStream_v2", {kHandle, kNothing});
  session.client.send(wire::LibraryCall(kCublas, 0xffff, 0, kContext, 0));
  CHECK(session.failures() == std::vector<int>{kCublasInvalid, kCublasInvalid, kCublasUnsupported});
  session.client.others.clear();
  const std::uint64_t no_context = session.post(kCublas, "cublasSetStream_v2", {kHandle, kStream}, 0, kNothing);
  const std::uint64_t no_stream = session.post(kCublas, "cublasSetStream_v2", {kHandle, kStream}, kNothing);
  CHECK(session.failures().empty());
  REQUIRE(session.client.others.size() == 2);
  CHECK(session.client.others[0].as<wire::DeferredError>().call() == no_context);
  CHECK(session.client.others[1].as<wire::DeferredError>().call() == no_stream);
  CHECK(fake().calls == calls);
  // The session is as it was.
  CHECK(session.ask(kCublas, "cublasIsamax_v2", right).results == Words{5});
}

TEST_CASE("A null pointer where a function takes none is refused, and no library hears of it") {
  Libraries session;
  session.make_handle();
  session.make_generator();
  REQUIRE(session.failures().empty());
  const int calls = fake().calls;
  // Results in host and in device memory, scalars in device memory, an array.
  CHECK(session.ask(kCublas, "cublasIsamax_v2", {kHandle, 5, kBase, 1, 1, 0}).status == kCublasInvalid);
  CHECK(session.ask(kCublas, "cublasIsamax_v2", {kHandle, 5, kBase, 1, 0, 0}).status == kCublasInvalid);
  CHECK(session.ask(kCublas, "cublasZscal_v2", {kHandle, 5, 0, 0, kBase, 1}).status == kCublasInvalid);
  CHECK(session.ask(kCurand, "curand_uniform_host", {kGenerator, 0, 3}).status != 0);
  Words words{kHandle, ~std::uint64_t{0}};
  for (int i = 0; i < 5; ++i) words.insert(words.end(), {4, 0});
  for (int i = 0; i < 2; ++i) words.insert(words.end(), {kBase, 4, 0});
  words.insert(words.end(), {4, 0, kBase, 4, 0, 1, 4, 0});
  CHECK(session.ask(kCublas, "cublasSgemmGroupedBatched", words).status == kCublasInvalid);
  CHECK(fake().calls == calls);
  // Of nothing, a null pointer will do.
  CHECK(session.ask(kCurand, "curand_uniform_host", {kGenerator, 0, 0}).status == 0);
  CHECK(session.ping() == 0);
}

TEST_CASE("A library's own failure is its status, and what it was to make has no name") {
  Libraries session;
  fake().status = 13;
  session.make_handle();
  CHECK(session.failures() == std::vector<int>{13});
  fake().status = 0;
  CHECK(session.ask(kCublas, "cublasDestroy_v2", {kHandle}).status == kCublasInvalid);
  // What could not be destroyed is still there.
  session.make_handle();
  CHECK(session.ping() == 0);
  fake().status = 14;
  CHECK(session.ask(kCublas, "cublasDestroy_v2", {kHandle}).status == 14);
  fake().status = 0;
  CHECK(session.ask(kCublas, "cublasDestroy_v2", {kHandle}).status == 0);
}

TEST_CASE("A call whose words are not those of its function closes the session, and no library hears of it") {
  using Forgery = std::function<void(Libraries&)>;
  const auto posted = [](std::uint16_t library, std::string_view name, Words words) -> Forgery {
    return [=](Libraries& s) { s.post(library, name, words); };
  };
  const auto asked = [](std::uint16_t library, std::string_view name, Words words, std::uint8_t wait = 0) -> Forgery {
    return [=](Libraries& s) { s.send_ask(library, number_of(library, name), words, wait); };
  };
  /// Grouped products of one group, with the word at `at` (the length of the first array is 1) replaced.
  const auto grouped = [&](std::size_t at, std::uint64_t word) {
    Words words{kHandle};
    for (int i = 0; i < 6; ++i) words.insert(words.end(), {4, 0});
    for (int i = 0; i < 2; ++i) words.insert(words.end(), {kBase, 4, 0});
    words.insert(words.end(), {4, 0, kBase, 4, 0, 1, 4, 0});
    words.at(at) = word;
    return posted(kCublas, "cublasSgemmGroupedBatched", words);
  };
  const std::uint64_t half = std::uint64_t{1} << 63;
  const std::size_t group_count = 1 + 12 + 6 + 5;
  const std::vector<Forgery> forgeries{
      // Words: none, too few, too many; bytes that are no words; more than a frame's own payload.
      posted(kCublas, "cublasCreate_v2", {}),
      posted(kCublas, "cublasSetStream_v2", {kHandle}),
      posted(kCublas, "cublasSetStream_v2", {kHandle, kStream, 0}),
      asked(kCublas, "cublasIsamax_v2", {}),
      asked(kCublas, "cublasIsamax_v2", {kHandle, 5, kBase, 1, 1}, 1),
      asked(kCublas, "cublasIsamax_v2", {kHandle, 5, kBase, 1, 1, 1, 1}, 1),
      [](Libraries& s) { s.client.send(wire::LibraryCall(kCublas, 1, 0, kContext, 0), std::vector<std::byte>(12)); },
      [](Libraries& s) { s.client.send(wire::LibraryCall(kCublas, 1, 0, kContext, 0), std::vector<std::byte>(1)); },
      [](Libraries& s) {
        s.client.send(wire::LibraryCall(kCublas, 1, 0, kContext, 0), std::vector<std::byte>(4 * limits::kInlinePayloadBytes));
      },
      // Names.
      posted(kCublas, "cublasCreate_v2", {0}),
      posted(kCublas, "cublasCreate_v2", {kHandle}),
      asked(kCublas, "cublasCreate_v2", {kGenerator}),
      asked(kCurand, "curand_create_device", {kHandle, 100}, 1),
      // A scalar that is not all there.
      posted(kCublas, "cublasZscal_v2", {kHandle, 5, 1}),
      posted(kCublas, "cublasZscal_v2", {kHandle, 5, 1, 0, kBase, 1}),
      // Arrays longer than the frame, as long as nothing is, and not as long as their count says.
      grouped(1, 4096),
      grouped(1, half),
      grouped(1, half + 4),
      grouped(1, ~std::uint64_t{0} - 1),
      grouped(1, ~std::uint64_t{0} - 7),
      grouped(1, libraries::kMaxHostBytes + 8),
      grouped(1, 8),
      grouped(1, 3),
      grouped(group_count, 2),
      grouped(group_count, 0),
      grouped(group_count, ~std::uint64_t{0}),
      grouped(group_count, std::uint64_t{1} << 31),
      // Results larger than any.
      asked(kCurand, "curand_uniform_host", {kGenerator, 1, libraries::kMaxHostBytes / 4 + 1}),
      asked(kCurand, "curand_uniform_host", {kGenerator, 1, std::uint64_t{1} << 62}, 1),
      asked(kCurand, "curand_uniform_host", {kGenerator, 1, half}),
      asked(kCurand, "curand_uniform_host", {kGenerator, 1, ~std::uint64_t{0}}, 1),
      // Tables that are none; frames that only executors send.
      [](Libraries& s) { s.client.send(wire::Opcode::LibraryAsk, std::vector<std::byte>(64, std::byte{0xff})); },
      [](Libraries& s) { s.client.send(wire::Opcode::LibraryAsk, std::vector<std::byte>()); },
      [](Libraries& s) { s.client.send(wire::Opcode::LibraryCall, std::vector<std::byte>(8)); },
      [](Libraries& s) { s.client.send(wire::Opcode::LibraryOpen, std::vector<std::byte>()); },
      [](Libraries& s) { s.client.send(wire::LibraryOpen(0x10000, 0)); },
      [](Libraries& s) { s.client.send(wire::LibraryFailed(1, 1, 1)); },
  };
  for (std::size_t i = 0; i < forgeries.size(); ++i) {
    INFO("forgery " << i);
    Libraries session;
    session.make_handle();
    session.make_generator();
    REQUIRE(session.failures().empty());
    const int calls = fake().calls;
    forgeries[i](session);
    CHECK(session.client.closing_reason().starts_with("protocol error: "));
    CHECK(fake().calls == calls);
  }
  // The right one, so that what is wrong in the others is what they say.
  Libraries session;
  session.make_handle();
  grouped(0, kHandle)(session);
  CHECK(session.failures().empty());
  CHECK(fake().calls == 2);
}

TEST_CASE("A call of a library before Hello closes the session") {
  for (const bool open : {true, false}) {
    auto executor = start("sim", with_libraries());
    RawClient client(executor->address());
    const Words words{kHandle};
    if (open) {
      client.send(wire::LibraryOpen(kCublas, 0));
    } else {
      client.send(wire::LibraryCall(kCublas, 1, 0, kContext, 0), std::as_bytes(std::span(words)));
    }
    CHECK(client.closing_reason().find("before Hello") != std::string::npos);
    CHECK(fake().calls == 0);
  }
}

TEST_CASE("A held call is refused like any other when its turn comes") {
  Libraries session;
  session.make_handle();
  REQUIRE(session.failures().empty());
  close_gate(true);
  for (std::uint32_t i = 0; i < limits::kLaunchWindow + 1; ++i) session.client.send(session.launch(), session.parameters);
  session.post(kCublas, "cublasZscal_v2", {kHandle, 5, 1, 0, 0, kBase, 1}, kStream);
  session.post(kCublas, "cublasZscal_v2", {kNothing, 5, 1, 0, 0, kBase, 1}, kStream);
  session.post(kCublas, "cublasZscal_v2", {kHandle, 5}, kStream);
  CHECK(session.ping() == 0);
  CHECK(fake().calls == 1);
  close_gate(false);
  CHECK(session.client.closing_reason().starts_with("protocol error: "));
}

TEST_CASE("While a call waits on a helper the session serves others, and what the call uses may go") {
  Libraries session;
  session.make_generator();
  session.post(kCusparselt, "cusparseLtInit", {kStruct});
  REQUIRE(session.failures().empty());
  SECTION("its handle") {
    fake().gate = true;
    const auto asked = session.send_ask(kCurand, number_of(kCurand, "curand_uniform_host"), {kGenerator, 1, 3}, 1, kStream);
    REQUIRE(waits());
    session.post(kCurand, "curand_destroy", {kGenerator});
    CHECK(session.failures().empty());
    session.open_gate();
    const Answer answer = session.answer_to(asked);
    CHECK(answer.status == 0);
    CHECK(answer.results == Words{0x3f0000003f000000, 0x3f000000});
  }
  SECTION("the struct that its library was given") {
    fake().gate = true;
    const auto asked = session.send_ask(kCusparselt, number_of(kCusparselt, "cusparseLtGetVersion"), {kStruct, 1}, 1);
    REQUIRE(waits());
    session.post(kCusparselt, "cusparseLtDestroy", {kStruct});
    CHECK(session.failures().empty());
    session.open_gate();
    CHECK(session.answer_to(asked).results == Words{77});
  }
  SECTION("its context and stream") {
    const auto ends = [] { return recorded("cuCtxDestroy_v2") + recorded("cuDevicePrimaryCtxRelease_v2"); };
    const auto ended = [&, before = ends()] { return ends() - before; };
    fake().gate = true;
    const auto asked = session.send_ask(kCurand, number_of(kCurand, "curand_uniform_host"), {kGenerator, 1, 1}, 1, kStream);
    REQUIRE(waits());
    session.client.send(wire::StreamDestroy(kStream));
    session.client.send(wire::ContextDestroy(kContext));
    for (int i = 0; i < 20; ++i) CHECK(session.ping() == 0);
    CHECK(ended() == 0);
    session.open_gate();
    CHECK(session.answer_to(asked).results == Words{0x3f000000});
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (ended() == 0 && std::chrono::steady_clock::now() < deadline) CHECK(session.ping() == 0);
    CHECK(ended() == 1);
  }
  SECTION("its stream, which ends after the call") {
    const auto ended = [before = recorded("cuStreamDestroy_v2")] { return recorded("cuStreamDestroy_v2") - before; };
    fake().gate = true;
    const auto asked = session.send_ask(kCurand, number_of(kCurand, "curand_uniform_host"), {kGenerator, 1, 1}, 1, kStream);
    REQUIRE(waits());
    session.client.send(wire::StreamDestroy(kStream));
    for (int i = 0; i < 20; ++i) CHECK(session.ping() == 0);
    CHECK(ended() == 0);
    session.open_gate();
    CHECK(session.answer_to(asked).results == Words{0x3f000000});
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (ended() == 0 && std::chrono::steady_clock::now() < deadline) CHECK(session.ping() == 0);
    CHECK(ended() == 1);
  }
  SECTION("what it ends: its name is gone while it runs, and back when it fails") {
    fake().gate_ends = fake().gate = true;
    const auto asked = session.send_ask(kCurand, number_of(kCurand, "curand_destroy"), {kGenerator}, 1);
    REQUIRE(waits());
    CHECK(session.ask(kCurand, "curand_destroy", {kGenerator}).status != 0);
    CHECK(fake().waiting == 1);
    const bool fails = GENERATE(true, false);
    fake().status = fails ? 14 : 0;
    session.open_gate();
    CHECK(session.answer_to(asked).status == (fails ? 14 : 0));
    fake().status = 0;
    CHECK((session.ask(kCurand, "curand_destroy", {kGenerator}).status == 0) == fails);
  }
  SECTION("the client") {
    fake().gate = true;
    session.send_ask(kCurand, number_of(kCurand, "curand_uniform_host"), {kGenerator, 1, 1}, 1, kStream);
    REQUIRE(waits());
    session.client.connection().close();
    session.open_gate();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (session.executor->sessions() != 0 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    CHECK(session.executor->sessions() == 0);
  }
}

TEST_CASE("A call that finds no memory ends its session, wherever it runs, and nothing else") {
  for (const std::uint8_t wait : {0, 1}) {
    Libraries session;
    session.make_generator();
    REQUIRE(session.failures().empty());
    fake().no_memory = true;
    session.send_ask(kCurand, number_of(kCurand, "curand_uniform_host"), {kGenerator, 1, 1}, wait);
    CHECK(session.client.closing_reason() == "the executor ran out of memory");
  }
}

}  // namespace
}  // namespace avec::test
