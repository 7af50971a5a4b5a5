// The worker's session over tcp with the CPU device: real copies, real kernels, real faults.
#include <functional>
#include <map>
#include <numeric>
#include <span>
#include <thread>

#include "executor/in_process.h"
#include "executor/raw_client.h"
#include "support/catch.h"
#include "wire/stream_flags.h"

namespace avec::test {
namespace {

constexpr std::uint64_t kBase = 0x300000000000, kRange = std::uint64_t{4} << 30, kBytes = 64u << 20;
constexpr std::uint64_t kContext = 1, kLegacy = 2, kPerThread = 3, kStream = 4, kOther = 5, kModule = 7;

// fill(int* to, int value): to[i] = value + i.  wait(int* flag): until *flag is not 0.
// stray(): writes to an address that is nobody's.
constexpr char kPtx[] = R"(
.version 7.0
.target sm_70
.address_size 64
.visible .global .align 4 .u32 answer = 42;
.visible .entry fill(.param .u64 to, .param .u32 value) {
  .reg .b32 %r<8>; .reg .b64 %rd<5>;
  ld.param.u64 %rd1, [to];
  ld.param.u32 %r1, [value];
  cvta.to.global.u64 %rd2, %rd1;
  mov.u32 %r2, %tid.x;
  mov.u32 %r3, %ctaid.x;
  mov.u32 %r4, %ntid.x;
  mad.lo.s32 %r5, %r3, %r4, %r2;
  add.s32 %r6, %r1, %r5;
  mul.wide.s32 %rd3, %r5, 4;
  add.s64 %rd4, %rd2, %rd3;
  st.global.u32 [%rd4], %r6;
  ret;
}
.visible .entry wait(.param .u64 flag) {
  .reg .b32 %r<2>; .reg .b64 %rd<3>; .reg .pred %p<2>;
  ld.param.u64 %rd1, [flag];
  cvta.to.global.u64 %rd2, %rd1;
again:
  ld.volatile.global.u32 %r1, [%rd2];
  setp.eq.u32 %p1, %r1, 0;
  @%p1 bra again;
  ret;
}
.visible .entry stray() {
  .reg .b32 %r<2>; .reg .b64 %rd<2>;
  mov.u64 %rd1, 4096;
  mov.u32 %r1, 1;
  st.global.u32 [%rd1], %r1;
  ret;
}
)";

struct Session {
  std::unique_ptr<InProcessExecutor> executor;
  std::unique_ptr<RawClient> client;
  std::map<std::string, std::uint32_t> index;

  Session() {
    ::setenv("AVEC_CPU_DEVICE_MEMORY", "2147483648", 1);  // fits the range
    InProcessExecutor::Options options;
    options.listen = "tcp://127.0.0.1:0";
    options.session.driver_path = AVEC_CPU_DEVICE;
    options.session.device_kind = "cpu";
    std::string problem;
    executor = InProcessExecutor::start(std::move(options), problem);
    INFO(problem);
    REQUIRE(executor != nullptr);
    client = std::make_unique<RawClient>(executor->address());
    REQUIRE(client->problem() == "");
    const auto hello = client->hello(kBase, kRange);
    REQUIRE(hello.has_value());
    REQUIRE(hello->header.status() == 0);
    const auto* facts = flatbuffers::GetRoot<wire::HelloReply>(hello->body.data());
    REQUIRE(facts->device_range()->base() == kBase);
    REQUIRE(facts->devices()->size() >= 1);
    client->send(wire::ContextCreate(kContext, kLegacy, kPerThread, 0, 0, 1, 0));
    client->send(wire::StreamCreate(kStream, kContext, CU_STREAM_NON_BLOCKING, 0));
    client->send(wire::StreamCreate(kOther, kContext, CU_STREAM_NON_BLOCKING, 0));
    REQUIRE(client->status_of(wire::MemMap(kBase, kBytes, 0, 0)) == 0);
    const auto loaded = client->load(kModule, kContext, std::as_bytes(std::span(kPtx)));
    REQUIRE(loaded.has_value());
    REQUIRE(loaded->header.status() == 0);
    const auto* reply = flatbuffers::GetRoot<wire::ModuleLoadReply>(loaded->body.data());
    INFO(reply->log()->str());
    REQUIRE(reply->functions()->size() == 3);
    for (std::uint32_t i = 0; i < 3; ++i) index[reply->functions()->Get(i)->name()->str()] = i;
  }

  template <class... Values>
  void launch(const std::string& name, unsigned blocks, unsigned threads, std::uint64_t stream, Values... values) {
    std::vector<std::byte> parameters;
    [[maybe_unused]] const auto add = [&](const auto& value) {
      while (parameters.size() % sizeof value != 0) parameters.push_back(std::byte{0});
      const auto* bytes = reinterpret_cast<const std::byte*>(&value);
      parameters.insert(parameters.end(), bytes, bytes + sizeof value);
    };
    (add(values), ...);
    client->send(wire::LaunchKernel(kModule, index.at(name), 0, blocks, 1, 1, threads, 1, 1, stream, 0, 0), parameters);
  }
};

std::vector<std::byte> pattern(std::size_t bytes, unsigned seed) {
  std::vector<std::byte> data(bytes);
  unsigned state = seed * 2654435761u + 1;
  for (auto& byte : data) byte = static_cast<std::byte>((state = state * 1664525 + 1013904223) >> 24);
  return data;
}

}  // namespace

TEST_CASE("Copies of every size around the limits come back as they went") {
  Session session;
  unsigned seed = 0;
  for (std::size_t limit : {std::size_t{1}, std::size_t{8}, limits::kInlinePayloadBytes, limits::kChunkBytes, 2 * limits::kChunkBytes,
                            std::size_t{50} << 20}) {
    for (std::size_t bytes : {limit - 1, limit, limit + 1}) {
      INFO(bytes << " bytes");
      const auto data = pattern(bytes, ++seed);
      session.client->send(wire::CopyToDevice(kBase + 3, bytes, bytes, 1, kStream), data);
      const auto back = session.client->ask(wire::CopyFromDevice(kBase + 3, bytes, bytes, 1, kStream));
      REQUIRE(back.has_value());
      CHECK(back->header.status() == 0);
      CHECK(back->payload == data);
    }
  }
}

TEST_CASE("Rectangles of every shape come back as they went") {
  Session session;
  unsigned seed = 0;
  const std::array<std::uint64_t, 3> shapes[] = {{16, 10, 7}, {5000, 4096, 1000}, {9u << 20, 5u << 20, 4}, {64, 64, 3}, {128, 1, 100'000}};
  for (const auto& [pitch, width, height] : shapes) {
    INFO(pitch << " " << width << " " << height);
    const auto data = pattern(width * height, ++seed);
    session.client->send(wire::CopyToDevice(kBase, pitch, width, height, kStream), data);
    const auto back = session.client->ask(wire::CopyFromDevice(kBase, pitch, width, height, kStream));
    REQUIRE(back.has_value());
    CHECK(back->header.status() == 0);
    CHECK(back->payload == data);
  }
}

TEST_CASE("Several large copies from the device on two streams are answered whole") {
  Session session;
  const auto data = pattern(kBytes, 5);
  session.client->send(wire::CopyToDevice(kBase, kBytes, kBytes, 1, kLegacy), data);
  REQUIRE(session.client->status_of(wire::ContextSynchronize(kContext)) == 0);
  std::vector<std::uint64_t> calls;
  for (int i = 0; i < 6; ++i)
    calls.push_back(session.client->send(wire::CopyFromDevice(kBase, kBytes / 2, kBytes / 2, 1, i % 2 ? kStream : kOther)));
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const auto back = session.client->receive();
    REQUIRE(back.has_value());
    CHECK(std::ranges::find(calls, back->header.call()) != calls.end());
    CHECK(std::ranges::equal(back->payload, std::span(data).first(kBytes / 2)));
  }
}

TEST_CASE("No answer that says done overtakes the bytes it covers") {
  Session session;
  auto& client = *session.client;
  constexpr std::uint64_t kEvent = 20, kBlocking = 21, kPart = kBytes / 4;
  client.send(wire::EventCreate(kEvent, kContext, CU_EVENT_DISABLE_TIMING, 0));
  client.send(wire::StreamCreate(kBlocking, kContext, 0, 0));
  REQUIRE(client.status_of(wire::ContextSynchronize(kContext)) == 0);
  const auto large = [&](std::uint64_t stream) { return client.send(wire::CopyFromDevice(kBase, kPart, kPart, 1, stream)); };
  // More than is in flight at once: it fills the link, and holds back what landed behind it.
  const auto huge = [&] { client.send(wire::CopyFromDevice(kBase, kBytes, kBytes, 1, kOther)); };
  const auto small = [&](std::uint64_t stream) { return client.send(wire::CopyFromDevice(kBase, 16, 16, 1, stream)); };
  // What is asked, and which calls' bytes must be there when it is answered.
  struct Way {
    const char* name;
    std::function<std::vector<std::uint64_t>()> copies;
    std::function<std::uint64_t()> ask;
    bool query = false;
  };
  const auto event_behind = [&](std::uint64_t stream) { client.send(wire::EventRecord(kEvent, stream, 0, 0)); };
  const std::vector<Way> ways{
      {"stream", [&] { huge(); return std::vector{large(kStream)}; },
       [&] { return client.send(wire::StreamSynchronize(kStream)); }},
      {"a small copy", [&] { huge(); return std::vector{large(kStream)}; }, [&] { return small(kStream); }},
      {"context", [&] { huge(); return std::vector{small(kStream), large(kStream), large(kLegacy)}; },
       [&] { return client.send(wire::ContextSynchronize(kContext)); }},
      {"event",
       [&] {
         huge();
         const std::vector copies{large(kStream), small(kStream)};
         event_behind(kStream);
         return copies;
       },
       [&] { return client.send(wire::EventSynchronize(kEvent)); }},
      {"a stream that waits for the event",
       [&] {
         huge();
         const std::vector copies{large(kPerThread), large(kPerThread)};
         event_behind(kPerThread);
         client.send(wire::StreamWaitEvent(kStream, kEvent, 0, 0));
         return copies;
       },
       [&] { return client.send(wire::StreamSynchronize(kStream)); }},
      {"default stream", [&] { huge(); return std::vector{large(kBlocking), small(kBlocking)}; },
       [&] { return client.send(wire::CopyFromDevice(kBase, kPart, kPart, 1, kLegacy)); }},
      {"query of a stream", [&] { huge(); return std::vector{large(kStream)}; },
       [&] { return client.send(wire::StreamQuery(kStream)); }, true},
      {"query of an event",
       [&] {
         huge();
         const std::vector copies{small(kStream), large(kStream)};
         event_behind(kStream);
         return copies;
       },
       [&] { return client.send(wire::EventQuery(kEvent)); }, true},
  };
  for (int round = 0; round < 4; ++round) {
    for (const Way& way : ways) {
      INFO(way.name);
      auto owed = way.copies();
      for (bool answered = false; !answered;) {
        const auto asked = way.ask();
        std::this_thread::sleep_for(std::chrono::milliseconds(20));  // for more to have landed
        std::optional<RawFrame> frame;
        while ((frame = client.receive()) && frame->header.call() != asked) {
          CHECK(frame->header.status() == 0);
          std::erase(owed, frame->header.call());
        }
        REQUIRE(frame.has_value());
        answered = !way.query || frame->header.status() != CUDA_ERROR_NOT_READY;
        if (answered) CHECK(frame->header.status() == 0);
      }
      CHECK(owed.empty());
      REQUIRE(client.status_of(wire::ContextSynchronize(kContext)) == 0);
      client.others.clear();
    }
  }
}

TEST_CASE("A fault while a large copy is on its way back is told by the next answer at the latest") {
  Session session;
  auto& client = *session.client;
  // The copy on kOther and the kernel race: whichever way it goes, what follows says so.
  for (int i = 0; i < 4; ++i) client.send(wire::CopyFromDevice(kBase, kBytes, kBytes, 1, kOther));
  session.launch("stray", 1, 1, kStream);
  const auto asked = client.send(wire::StreamSynchronize(kOther));
  bool failed = false, told = false;
  for (;;) {
    const auto frame = client.receive();
    REQUIRE(frame.has_value());
    if (frame->header.call() == asked) {
      // Success only if no copy failed.
      if (frame->header.status() == 0) CHECK_FALSE(failed);
      if (frame->header.status() != 0) CHECK(frame->header.status() == CUDA_ERROR_ILLEGAL_ADDRESS);
      break;
    }
    told |= frame->is(wire::Opcode::DeferredError);
    failed |= frame->header.status() != 0;
    if (frame->is_reply() && frame->header.status() == 0) CHECK(frame->payload.size() == kBytes);
  }
  CHECK(client.status_of(wire::StreamSynchronize(kStream)) == CUDA_ERROR_ILLEGAL_ADDRESS);
}

TEST_CASE("A kernel runs between the copies that it lies between") {
  Session session;
  session.launch("fill", 4, 64, kStream, kBase, 1000);
  const auto back = session.client->ask(wire::CopyFromDevice(kBase, 1024, 1024, 1, kStream));
  REQUIRE(back.has_value());
  REQUIRE(back->payload.size() == 1024);
  std::vector<int> expected(256), got(256);
  std::iota(expected.begin(), expected.end(), 1000);
  std::memcpy(got.data(), back->payload.data(), 1024);
  CHECK(got == expected);
}

TEST_CASE("A module's global can be asked for and copied") {
  Session session;
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(wire::CreateModuleGetGlobal(builder, kModule, builder.CreateString("answer")));
  const auto global = session.client->reply_to(session.client->send(
      wire::Opcode::ModuleGetGlobal, {reinterpret_cast<const std::byte*>(builder.GetBufferPointer()), builder.GetSize()}));
  REQUIRE(global.has_value());
  REQUIRE(global->header.status() == 0);
  const auto at = global->as<wire::ModuleGetGlobalReply>();
  CHECK(at.bytes() == 4);
  const auto value = session.client->ask(wire::CopyFromDevice(at.address(), 4, 4, 1, kStream));
  REQUIRE(value.has_value());
  CHECK(value->payload == std::vector<std::byte>{std::byte{42}, std::byte{0}, std::byte{0}, std::byte{0}});
}

TEST_CASE("5,000 launches wait behind a spinning kernel until a copy on another stream releases it") {
  Session session;
  const std::array<std::byte, 4> zero{}, one{std::byte{1}};
  session.client->send(wire::CopyToDevice(kBase, 4, 4, 1, kStream), zero);
  REQUIRE(session.client->status_of(wire::StreamSynchronize(kStream)) == 0);
  session.launch("wait", 1, 1, kStream, kBase);
  for (int i = 0; i < 5000; ++i) session.launch("fill", 1, 1, kStream, kBase + 4096, i);
  const auto synchronise = session.client->send(wire::StreamSynchronize(kStream));
  CHECK(session.client->status_of(wire::StreamQuery(kStream)) == CUDA_ERROR_NOT_READY);
  CHECK(session.client->status_of(wire::StreamQuery(kOther)) == 0);
  session.client->send(wire::CopyToDevice(kBase, 4, 4, 1, kOther), one);
  const auto done = session.client->reply_to(synchronise);
  REQUIRE(done.has_value());
  CHECK(done->header.status() == 0);
  const auto last = session.client->ask(wire::CopyFromDevice(kBase + 4096, 4, 4, 1, kStream));
  REQUIRE(last.has_value());
  int value = 0;
  std::memcpy(&value, last->payload.data(), 4);
  CHECK(value == 4999);
}

TEST_CASE("A kernel's fault comes with the next synchronisation, and stays") {
  Session session;
  session.launch("stray", 1, 1, kStream);
  CHECK(session.client->status_of(wire::StreamSynchronize(kStream)) == CUDA_ERROR_ILLEGAL_ADDRESS);
  CHECK(session.client->status_of(wire::ContextSynchronize(kContext)) == CUDA_ERROR_ILLEGAL_ADDRESS);
}

TEST_CASE("Out of memory is told at once, and the session goes on") {
  Session session;
  flatbuffers::FlatBufferBuilder ignored;
  const auto info = session.client->ask(wire::MemGetInfo(kContext));
  REQUIRE(info.has_value());
  const std::uint64_t total = info->as<wire::MemGetInfoReply>().total();
  int status = 0;
  const std::uint64_t step = std::uint64_t{1} << 30;
  if (total > kRange - kBytes) return;  // more memory than the range of this test has addresses
  for (std::uint64_t at = kBase + kBytes; status == 0 && at + step <= kBase + kRange; at += step)
    status = session.client->status_of(wire::MemMap(at, step, 0, 0));
  CHECK(status == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK(session.client->status_of(wire::StreamSynchronize(kStream)) == 0);
}

TEST_CASE("Memory that is being given back is waited for before a mapping is out of memory") {
  Session session;
  const std::uint64_t step = std::uint64_t{1} << 29;
  std::uint64_t at = kBase + kBytes;
  while (session.client->status_of(wire::MemMap(at, step, 0, 0)) == 0) at += step;
  REQUIRE(at != kBase + kBytes);
  // The kernel may be using what is freed, until the flag is set.
  session.launch("wait", 1, 1, kStream, kBase);
  session.client->send(wire::MemUnmap(at - step, step));
  const auto map = session.client->send(wire::MemMap(at, step, 0, 0));
  const std::uint32_t one = 1;
  session.client->send(wire::CopyToDevice(kBase, 4, 4, 1, kOther), std::as_bytes(std::span(&one, 1)));
  const auto reply = session.client->reply_to(map);
  REQUIRE(reply.has_value());
  CHECK(reply->header.status() == 0);
}

TEST_CASE("After a fence of one stream the others see what it did") {
  Session session;
  for (std::uint32_t i = 0; i < 300; ++i) session.launch("fill", 64, 256, kStream, kBase, i);
  session.client->send(wire::MemFence(kStream));
  const auto first = session.client->ask(wire::CopyFromDevice(kBase, 4, 4, 1, kOther));
  REQUIRE(first.has_value());
  std::uint32_t value = 0;
  std::memcpy(&value, first->payload.data(), 4);
  CHECK(value == 299);
}

TEST_CASE("A stream beside the others goes on while a fence waits for a host function of a graph") {
  Session session;
  RawClient& client = *session.client;
  constexpr std::uint64_t kBeside = 40, kGraph = 41, kNode = 42, kExec = 43, kFunction = 44;
  client.send(wire::StreamCreate(kBeside, kContext, CU_STREAM_NON_BLOCKING | wire::kStreamBeside, 0));
  client.send(wire::GraphCreate(kGraph, kContext));
  const wire::GraphHostParams function(kFunction);
  client.send(wire::GraphAddNode(kGraph, kNode, CU_GRAPH_NODE_TYPE_HOST, 0),
              {reinterpret_cast<const std::byte*>(&function), sizeof function});
  REQUIRE(client.status_of(wire::GraphInstantiate(kExec, kGraph, 0, 0)) == 0);
  client.send(wire::GraphLaunch(kExec, kStream));
  std::optional<RawFrame> call;
  do {
    call = client.receive();
    REQUIRE(call.has_value());
  } while (!call->is(wire::Opcode::HostCall));
  client.send(wire::MemFence(0));
  const auto data = pattern(64, 3);
  client.send(wire::CopyToDevice(kBase, 64, 64, 1, kBeside), data);
  client.send(wire::MemFence(kBeside));
  const auto read = client.ask(wire::CopyFromDevice(kBase, 64, 64, 1, kBeside));
  REQUIRE(read.has_value());
  CHECK(read->payload == data);
  // Others wait for both fences.
  const auto late = client.send(wire::CopyFromDevice(kBase, 64, 64, 1, kOther));
  client.send(wire::HostCallDone(call->as<wire::HostCall>().call()));
  const auto behind = client.reply_to(late);
  REQUIRE(behind.has_value());
  CHECK(behind->payload == data);
  CHECK(client.status_of(wire::StreamSynchronize(kStream)) == 0);
}

}  // namespace avec::test
