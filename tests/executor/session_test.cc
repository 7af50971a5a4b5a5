// The worker's session over a transport, with a driver that records: what reaches the driver,
// in which order, and what never does.
#include <array>
#include <functional>
#include <span>
#include <thread>

#include "executor/ready_session.h"
#include "support/catch.h"
#include "transport/sim/factory.h"

namespace avec::test {

TEST_CASE("Hello is answered over tcp and over sim, and a ping after it") {
  for (const std::string listen : {"tcp://127.0.0.1:0", "sim"}) {
    Ready session(listen);
    CHECK(session.ping() == 0);
    CHECK(session.client.status_of(wire::Goodbye(0)) == 0);
  }
}

TEST_CASE("A call before Hello closes the session") {
  auto executor = start("sim");
  RawClient client(executor->address());
  client.send(wire::MemFence(0));
  CHECK(client.closing_reason().find("before Hello") != std::string::npos);
  CHECK(recorded_work() == 0);
}

TEST_CASE("Launches of a batch reach the driver in one go, and a synchronisation is answered") {
  Ready session;
  for (int i = 0; i < 100; ++i) session.client.send(session.launch(), session.parameters);
  CHECK(session.client.status_of(wire::StreamSynchronize(kStream)) == 0);
  CHECK(recorded("cuLaunchKernel") == 100);
  CHECK(session.client.others.empty());
}

TEST_CASE("A cooperative launch reaches the driver as one, held or not") {
  Ready session;
  const wire::LaunchKernel cooperative(kModule, 0, 0, 1, 1, 1, 1, 1, 1, kStream, 1, 0);
  session.client.send(cooperative, session.parameters);
  CHECK(session.client.status_of(wire::StreamSynchronize(kStream)) == 0);
  CHECK(recorded("cuLaunchCooperativeKernel") == 1);
  close_gate(true);
  for (std::uint32_t i = 0; i < limits::kLaunchWindow; ++i) session.client.send(session.launch(), session.parameters);
  session.client.send(cooperative, session.parameters);
  CHECK(session.ping() == 0);
  CHECK(recorded("cuLaunchCooperativeKernel") == 1);
  close_gate(false);
  CHECK(session.client.status_of(wire::StreamSynchronize(kStream)) == 0);
  CHECK(recorded("cuLaunchCooperativeKernel") == 2);
}

TEST_CASE("A posted call that fails comes back before any later reply") {
  Ready session;
  fail_launches(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
  const auto launch = session.client.send(session.launch(), session.parameters);
  CHECK(session.ping() == 0);
  REQUIRE(session.client.others.size() == 1);
  CHECK(session.client.others[0].is(wire::Opcode::DeferredError));
  CHECK(session.client.others[0].header.status() == CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
  CHECK(session.client.others[0].as<wire::DeferredError>().call() == launch);
}

TEST_CASE("What names nothing of the session gets an error and reaches no driver") {
  Ready session;
  auto& client = session.client;
  reset_recording();
  const std::uint64_t nothing = 999, beyond = kBase + (64u << 20);
  const std::vector<std::byte> four(4);
  std::vector<std::uint64_t> posted{
      client.send(wire::ContextDestroy(nothing)),
      client.send(wire::ContextSetLimit(nothing, 0, 0, 1)),
      client.send(wire::ContextSetLimit(kContext, 12345, 0, 1)),
      client.send(wire::ContextSetCacheConfig(kContext, 77, 0)),
      client.send(wire::CopyToDevice(beyond, 4, 4, 1, kStream), four),
      client.send(wire::CopyToDevice(beyond - 2, 4, 4, 1, kStream), four),
      client.send(wire::CopyToDevice(kBase, 4, 4, 1, nothing), four),
      client.send(wire::CopyOnDevice(kBase, 4, beyond, 4, 4, 1, kStream)),
      client.send(wire::CopyOnDevice(beyond, 4, kBase, 4, 4, 1, kStream)),
      client.send(wire::MemSet(beyond, 4, 1, 1, kStream, 0, 4)),
      client.send(wire::MemSet(kBase + 1, 4, 1, 1, kStream, 0, 4)),
      client.send(wire::StreamDestroy(nothing)),
      client.send(wire::StreamDestroy(kLegacy)),
      client.send(wire::StreamWaitEvent(kStream, nothing, 0, 0)),
      client.send(wire::StreamWaitEvent(nothing, kEvent, 0, 0)),
      client.send(wire::EventDestroy(nothing)),
      client.send(wire::EventRecord(nothing, kStream, 0, 0)),
      client.send(wire::EventRecord(kEvent, nothing, 0, 0)),
      client.send(wire::ModuleUnload(nothing)),
      client.send(wire::FunctionSetAttribute(nothing, 0, 0, 0, 0)),
      client.send(wire::FunctionSetAttribute(kModule, 1, 0, 0, 0)),
      client.send(wire::FunctionSetAttribute(kModule, 0, 999, 0, 0)),
      client.send(wire::FunctionSetCacheConfig(kModule, 0, 99)),
      client.send(wire::LaunchKernel(nothing, 0, 0, 1, 1, 1, 1, 1, 1, kStream, 0, 0), session.parameters),
      client.send(wire::LaunchKernel(kModule, 1, 0, 1, 1, 1, 1, 1, 1, kStream, 0, 0), session.parameters),
      client.send(wire::LaunchKernel(kModule, 0, 0, 1, 1, 1, 1, 1, 1, nothing, 0, 0), session.parameters),
  };
  CHECK(session.ping() == 0);
  CHECK(client.others.size() == posted.size());
  for (std::size_t i = 0; i < client.others.size() && i < posted.size(); ++i) {
    INFO("frame " << i);
    CHECK(client.others[i].as<wire::DeferredError>().call() == posted[i]);
    CHECK(client.others[i].header.status() != 0);
  }
  CHECK(client.status_of(wire::StreamSynchronize(nothing)) == CUDA_ERROR_INVALID_HANDLE);
  CHECK(client.status_of(wire::StreamQuery(nothing)) == CUDA_ERROR_INVALID_HANDLE);
  CHECK(client.status_of(wire::EventSynchronize(nothing)) == CUDA_ERROR_INVALID_HANDLE);
  CHECK(client.status_of(wire::EventQuery(nothing)) == CUDA_ERROR_INVALID_HANDLE);
  CHECK(client.status_of(wire::EventElapsedTime(kEvent, nothing)) == CUDA_ERROR_INVALID_HANDLE);
  CHECK(client.status_of(wire::ContextSynchronize(nothing)) == CUDA_ERROR_INVALID_CONTEXT);
  CHECK(client.status_of(wire::ContextGetLimit(kContext, -1, 0)) == CUDA_ERROR_UNSUPPORTED_LIMIT);
  CHECK(client.status_of(wire::MemGetInfo(nothing)) == CUDA_ERROR_INVALID_CONTEXT);
  CHECK(client.status_of(wire::OccupancyBlocks(kModule, 0, 32, 0, 9, 0)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(client.status_of(wire::CopyFromDevice(beyond, 4, 4, 1, kStream)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(client.status_of(wire::MemMap(kBase, 2u << 20, 7, 0)) == CUDA_ERROR_INVALID_DEVICE);
  CHECK(recorded_work() == 0);
}

TEST_CASE("What no client of ours sends closes the session, and the driver hears nothing of it") {
  const std::vector<std::byte> four(4);
  const std::array<std::byte, 12> parameters{};
  const std::vector<std::function<void(RawClient&)>> forgeries{
      [&](RawClient& c) { c.send(wire::CopyToDevice(kBase, 8, 8, 1, kStream), four); },
      [&](RawClient& c) { c.send(wire::CopyToDevice(kBase, 1, 4, 2, kStream), four); },
      [&](RawClient& c) { c.send(wire::CopyFromDevice(kBase, 8, ~0ull, 2, kStream)); },
      [&](RawClient& c) { c.send(wire::CopyOnDevice(kBase, 1, kBase, 1, 4, 2, kStream)); },
      [&](RawClient& c) { c.send(wire::MemSet(kBase, 4, 1, 1, kStream, 0, 3)); },
      [&](RawClient& c) { c.send(wire::MemMap(kBase, 2u << 20, 0, 0)); },
      [&](RawClient& c) { c.send(wire::MemMap(kBase + kRange, 2u << 20, 0, 0)); },
      [&](RawClient& c) { c.send(wire::MemMap(kBase + (512u << 20), 4096, 0, 0)); },
      [&](RawClient& c) { c.send(wire::MemMap(kBase + kRange - (2u << 20), 4u << 20, 0, 0)); },
      [&](RawClient& c) { c.send(wire::MemUnmap(kBase, 2u << 20)); },
      [&](RawClient& c) { c.send(wire::MemUnmap(kBase + kRange, 2u << 20)); },
      [&](RawClient& c) { c.send(wire::StreamCreate(kStream, kContext, 0, 0)); },
      [&](RawClient& c) { c.send(wire::StreamCreate(0, kContext, 0, 0)); },
      [&](RawClient& c) { c.send(wire::EventCreate(kEvent, kContext, 0, 0)); },
      [&](RawClient& c) { c.send(wire::ContextCreate(kContext, 100, 101, 0, 0, 1, 0)); },
      [&](RawClient& c) { c.send(wire::ContextCreate(99, 100, 100, 0, 0, 1, 0)); },
      [&](RawClient& c) { c.send(wire::LaunchKernel(kModule, 0, 0, 1, 1, 1, 1, 1, 1, kStream, 0, 0), four); },
      [&](RawClient& c) { c.send(wire::LaunchKernel(kModule, 0, 0, 1, 1, 1, 1, 1, 1, kStream, 2, 0), parameters); },
      [&](RawClient& c) { c.send(static_cast<wire::Opcode>(0x7777), four); },
      [&](RawClient& c) { c.send(wire::Opcode::DeferredError, std::vector<std::byte>(16)); },
      [&](RawClient& c) { c.send(wire::Opcode::StreamCreate, std::vector<std::byte>(16)); },
      [&](RawClient& c) { c.send(wire::Opcode::ModuleLoad, std::vector<std::byte>(64, std::byte{0xff})); },
      [&](RawClient& c) { c.send(wire::Opcode::Ping, std::vector<std::byte>(8), {}, 5000); },
  };
  for (std::size_t i = 0; i < forgeries.size(); ++i) {
    INFO("forgery " << i);
    Ready session;
    reset_recording();
    forgeries[i](session.client);
    CHECK(session.client.closing_reason().starts_with("protocol error: "));
    CHECK(recorded("cuLaunchKernel") + recorded("cuMemCreate") + recorded("cuEventCreate") +
              recorded("cuStreamCreateWithPriority") + recorded("cuMemcpyHtoDAsync_v2") ==
          0);
  }
}

TEST_CASE("An image that does not have its hash is not loaded") {
  Ready session;
  reset_recording();
  const std::string image = "another image", claimed = "something else";
  const auto hash = *wire::content_hash(std::as_bytes(std::span(claimed)));
  session.client.send(wire::Opcode::ModuleImage, {reinterpret_cast<const std::byte*>(&hash), sizeof hash},
                      std::as_bytes(std::span(image)));
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(wire::CreateModuleLoad(builder, 50, kContext, &hash, image.size()));
  session.client.send(wire::Opcode::ModuleLoad, {reinterpret_cast<const std::byte*>(builder.GetBufferPointer()), builder.GetSize()});
  CHECK(session.client.closing_reason().find("hash") != std::string::npos);
  CHECK(recorded("cuModuleLoadDataEx") == 0);
}

TEST_CASE("An executor that has not seen an image asks for it") {
  Ready session;
  const std::string image = "an image nobody sent";
  const auto reply = session.client.load(51, kContext, std::as_bytes(std::span(image)), false);
  REQUIRE(reply.has_value());
  CHECK(flatbuffers::GetRoot<wire::ModuleLoadReply>(reply->body.data())->needs_image());
}

TEST_CASE("A creation that failed poisons its name") {
  Ready session;
  session.client.send(wire::StreamCreate(60, kContext, 0x80, 0));
  session.client.send(wire::EventCreate(61, 999, 0, 0));
  CHECK(session.client.status_of(wire::StreamSynchronize(60)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(session.client.status_of(wire::EventQuery(61)) == CUDA_ERROR_INVALID_CONTEXT);
  session.client.send(wire::StreamDestroy(60));
  CHECK(session.client.status_of(wire::StreamSynchronize(60)) == CUDA_ERROR_INVALID_HANDLE);
}

TEST_CASE("5,000 launches behind a gate leave other streams and queries alone") {
  Ready session;
  close_gate(true);
  for (int i = 0; i < 5000; ++i) session.client.send(session.launch(), session.parameters);
  CHECK(session.client.status_of(wire::StreamQuery(kOther)) == 0);
  CHECK(session.client.status_of(wire::StreamQuery(kStream)) == CUDA_ERROR_NOT_READY);
  CHECK(session.ping() == 0);
  CHECK(recorded("cuLaunchKernel") == limits::kLaunchWindow);
  session.client.send(session.launch(kOther), session.parameters);
  CHECK(session.ping() == 0);
  CHECK(recorded("cuLaunchKernel") == limits::kLaunchWindow + 1);
  const auto synchronise = session.client.send(wire::StreamSynchronize(kStream));
  CHECK(session.ping() == 0);
  close_gate(false);
  const auto done = session.client.reply_to(synchronise);
  REQUIRE(done.has_value());
  CHECK(done->header.status() == 0);
  CHECK(recorded("cuLaunchKernel") == 5001);
}

TEST_CASE("A wait for an event whose record is held is held, too") {
  Ready session;
  close_gate(true);
  for (std::uint32_t i = 0; i < limits::kLaunchWindow + 10; ++i) session.client.send(session.launch(), session.parameters);
  session.client.send(wire::EventRecord(kEvent, kStream, 0, 0));
  session.client.send(wire::StreamWaitEvent(kOther, kEvent, 0, 0));
  session.client.send(session.launch(kOther), session.parameters);
  CHECK(session.client.status_of(wire::EventQuery(kEvent)) == CUDA_ERROR_NOT_READY);
  CHECK(recorded("cuStreamWaitEvent") == 0);
  CHECK(recorded("cuLaunchKernel") == limits::kLaunchWindow);
  close_gate(false);
  CHECK(session.client.status_of(wire::EventSynchronize(kEvent)) == 0);
  CHECK(session.client.status_of(wire::StreamSynchronize(kOther)) == 0);
  CHECK(recorded("cuStreamWaitEvent") == 1);
  CHECK(recorded("cuLaunchKernel") == limits::kLaunchWindow + 11);
}

TEST_CASE("Payload behind a stalled stream is set aside, so that a copy on another stream gets through") {
  Ready session;
  close_gate(true);
  const std::vector<std::byte> large(24u << 20), small(16);
  for (int i = 0; i < 4; ++i) session.client.send(wire::CopyToDevice(kBase, large.size(), large.size(), 1, kStream), large);
  session.client.send(wire::CopyToDevice(kBase, 16, 16, 1, kOther), small);
  CHECK(session.ping() == 0);
  close_gate(false);
  CHECK(session.client.status_of(wire::StreamSynchronize(kStream)) == 0);
  CHECK(session.client.others.empty());
  CHECK(recorded("cuMemcpyHtoDAsync_v2") == 4 * 6 + 1);
}

TEST_CASE("Memory is taken away only when work issued before has finished, and comes back after that") {
  Ready session;
  close_gate(true);
  session.client.send(session.launch(), session.parameters);
  session.client.send(wire::MemUnmap(kBase, 64u << 20));
  const auto again = session.client.send(wire::MemMap(kBase, 64u << 20, 0, 0));
  CHECK(session.ping() == 0);
  CHECK(recorded("cuMemUnmap") == 0);
  CHECK(recorded("cuMemCreate") == 1);
  close_gate(false);
  const auto mapped = session.client.reply_to(again);
  REQUIRE(mapped.has_value());
  CHECK(mapped->header.status() == 0);
  CHECK(recorded("cuMemUnmap") == 1);
  CHECK(recorded("cuMemCreate") == 2);
}

TEST_CASE("A change of a function comes after its held launches and before its later ones, and stops no others") {
  Ready session;
  close_gate(true);
  for (std::uint32_t i = 0; i < limits::kLaunchWindow + 10; ++i) session.client.send(session.launch(), session.parameters);
  session.client.send(wire::FunctionSetAttribute(kModule, 0, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 1024, 0));
  session.client.send(wire::FunctionSetCacheConfig(kModule, 0, CU_FUNC_CACHE_PREFER_L1));
  session.client.send(session.launch(kOther), session.parameters);
  session.client.send(wire::MemSet(kBase, 4, 1, 1, kOther, 0, 4));
  session.client.send(wire::MemSet(kBase, 4, 1, 1, kPerThread, 0, 4));
  CHECK(session.ping() == 0);
  CHECK(recorded("cuLaunchKernel") == limits::kLaunchWindow);
  CHECK(recorded("cuFuncSetAttribute") == 0);
  CHECK(recorded("cuMemsetD32Async") == 1);
  close_gate(false);
  CHECK(session.client.status_of(wire::StreamSynchronize(kOther)) == 0);
  const auto launches = limits::kLaunchWindow + 10;
  CHECK(recorded("cuLaunchKernel") == launches + 1);
  CHECK(launches_before("cuFuncSetAttribute") == launches);
  CHECK(launches_before("cuFuncSetCacheConfig") == launches);
  CHECK(session.client.others.empty());
}

TEST_CASE("A reset connection is resumed, and every call is executed once") {
  Ready session("sim", 8u << 20);
  for (int i = 0; i < 10; ++i) session.client.send(session.launch(), session.parameters);
  REQUIRE(session.ping() == 0);
  sim::default_network().reset_all();
  Transport* transport = find_transport(session.executor->address());
  const auto executor_has = session.client.open_data(transport, session.executor->address(), session.client.received());
  REQUIRE(executor_has.has_value());
  CHECK(*executor_has == session.client.sent());
  // What has been executed is sent again and dropped; what follows is executed.
  const auto launch = session.launch();
  const ConstBytes body{reinterpret_cast<const std::byte*>(&launch), sizeof launch};
  session.client.send(wire::Opcode::LaunchKernel, body, session.parameters, session.client.sent() - 1);
  session.client.send(session.launch(), session.parameters);
  CHECK(session.client.status_of(wire::StreamSynchronize(kStream)) == 0);
  CHECK(recorded("cuLaunchKernel") == 11);
}

TEST_CASE("A client that goes away leaves nothing behind") {
  auto session = std::make_unique<Ready>();
  session->client.send(session->launch(), session->parameters);
  session->client.connection().close();
  const auto deadline = soon();
  while (session->executor->sessions() != 0 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  CHECK(session->executor->sessions() == 0);
  CHECK(recorded("cuMemUnmap") == 1);
  CHECK(recorded("cuMemRelease") == 1);
  CHECK(recorded("cuModuleUnload") == 1);
  CHECK(recorded("cuMemAddressFree") == 1);
}

}  // namespace avec::test
