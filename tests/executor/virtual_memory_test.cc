// Physical memory apart from addresses, streams that follow each other, and sharing: what a client
// may do, and what a hostile one may not.
#include "executor/ready_session.h"
#include "executor/worker/ipc.h"

using namespace avec;
using namespace avec::test;

namespace {

constexpr std::uint64_t kUnit = 2u << 20, kFree = kBase + (512u << 20), kMemory = 50;

void create(RawClient& client, std::uint64_t name, std::uint64_t bytes = kUnit) {
  REQUIRE(client.status_of(wire::MemCreate(name, bytes, 0, 0)) == 0);
}

}  // namespace

TEST_CASE("memory is created, mapped, allowed, unmapped and released") {
  Ready session;
  create(session.client, kMemory);
  session.client.send(wire::MemMapAt(kFree, kUnit, kMemory, 0, 0));
  session.client.send(wire::MemSetAccess(kFree, kUnit, 0, CU_MEM_ACCESS_FLAGS_PROT_READWRITE));
  session.client.send(wire::MemRelease(kMemory));
  session.client.send(wire::MemSet(kFree, kUnit, kUnit, 1, kStream, 7, 1));
  session.client.send(wire::MemUnmap(kFree, kUnit));
  CHECK(session.client.status_of(wire::StreamSynchronize(kStream)) == 0);
  CHECK(session.client.others.empty());
}

TEST_CASE("what was unmapped can be mapped again at once") {
  Ready session;
  for (int round = 0; round < 5; ++round) {
    create(session.client, kMemory + static_cast<std::uint64_t>(round));
    session.client.send(wire::MemMapAt(kFree, kUnit, kMemory + static_cast<std::uint64_t>(round), 1, 0));
    session.client.send(wire::MemRelease(kMemory + static_cast<std::uint64_t>(round)));
    session.client.send(wire::MemUnmap(kFree, kUnit));  // posted: the next mapping comes behind it
  }
  CHECK(session.client.status_of(wire::StreamSynchronize(kStream)) == 0);
}

TEST_CASE("a client that breaks the rules of memory loses its session") {
  const auto broken = GENERATE(0, 1, 2, 3, 4, 5, 6, 7);
  Ready session;
  RawClient& client = session.client;
  create(client, kMemory);
  switch (broken) {
    case 0: client.send(wire::MemCreate(kMemory, kUnit, 0, 0)); break;
    case 1: client.send(wire::MemCreate(kMemory + 1, 4096, 0, 0)); break;
    case 2: client.send(wire::MemRelease(kMemory + 1)); break;
    case 3: client.send(wire::MemMapAt(kBase, kUnit, kMemory, 0, 0)); break;
    case 4: client.send(wire::MemMapAt(kFree, 2 * kUnit, kMemory, 0, 0)); break;
    case 5: client.send(wire::MemMapAt(kFree + 4096, kUnit, kMemory, 0, 0)); break;
    case 6: client.send(wire::MemMapAt(kBase + kRange, kUnit, kMemory, 0, 0)); break;
    case 7: client.send(wire::MemMapAt(kFree, kUnit, kMemory + 1, 0, 0)); break;
  }
  INFO(broken);
  CHECK(client.closing_reason().starts_with("protocol error: "));
}

TEST_CASE("wrong names and devices are answered") {
  Ready session;
  RawClient& client = session.client;
  client.send(wire::StreamFollow(kStream, 999));  // nothing to wait for
  const std::array<std::uint64_t, 3> posted{client.send(wire::MemSetAccess(kFree, kUnit, 0, 3)),
                                            client.send(wire::StreamFollow(999, kStream)),
                                            client.send(wire::ContextPeerAccess(kContext, 999, 1, 0))};
  CHECK(client.status_of(wire::StreamSynchronize(kStream)) == 0);
  REQUIRE(client.others.size() == posted.size());
  for (std::size_t i = 0; i < posted.size(); ++i)
    CHECK(client.others[i].as<wire::DeferredError>().call() == posted[i]);
  CHECK(client.status_of(wire::IpcExportMemory(0, kFree)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(client.status_of(wire::IpcExportMemory(kMemory, 0)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(client.status_of(wire::IpcImportMemory(kMemory, kUnit, 0, 0, wire::IpcHandle())) == CUDA_ERROR_INVALID_VALUE);
  CHECK(client.status_of(wire::IpcImportMemory(kMemory, kUnit, 9, 0, wire::IpcHandle())) == CUDA_ERROR_INVALID_DEVICE);
}

TEST_CASE("a stream follows one that has work") {
  Ready session;
  session.client.send(wire::MemSet(kBase, 4, 4, 1, kOther, 7, 1));
  session.client.send(wire::StreamFollow(kStream, kOther));
  session.client.send(wire::StreamDestroy(kOther));
  session.client.send(wire::StreamFollow(kStream, kOther));
  CHECK(session.client.status_of(wire::StreamSynchronize(kStream)) == 0);
}

TEST_CASE("exported memory is had for its secret, and for nothing else") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  Descriptor first(ends[0]), second(ends[1]);
  auto exports = worker::MemoryExports::open();
  REQUIRE(exports != nullptr);
  using enum worker::ExportTag::Kind;
  const auto handle = exports->add({kAddress, 1}, std::move(first), 4096);
  REQUIRE(handle.has_value());
  CHECK(exports->add({kAddress, 1}, {}, 4096) == handle);
  const auto memory = worker::import_memory(*handle);
  REQUIRE(memory.has_value());
  CHECK(memory->bytes == 4096);
  auto wrong = *handle;
  wrong[63] ^= std::byte{1};
  CHECK_FALSE(worker::import_memory(wrong).has_value());
  // A name is not an address, though it may be the same number.
  const auto named = exports->add({kMemory, 1}, std::move(second), 8192);
  REQUIRE(named.has_value());
  CHECK(named != handle);
  exports->remove({kAddress, 1});
  CHECK_FALSE(worker::import_memory(*handle).has_value());
  CHECK(worker::import_memory(*named).has_value());
  exports.reset();
  CHECK_FALSE(worker::import_memory(*named).has_value());
}

TEST_CASE("an exported event is had for its secret, and is no memory") {
  auto exports = worker::MemoryExports::open();
  REQUIRE(exports != nullptr);
  worker::IpcBytes driver_handle;
  driver_handle.fill(std::byte{7});
  const auto handle = exports->add_event({worker::ExportTag::Kind::kEvent, 1}, driver_handle);
  REQUIRE(handle.has_value());
  CHECK(handle != driver_handle);
  CHECK(worker::import_event(*handle) == driver_handle);
  CHECK_FALSE(worker::import_memory(*handle).has_value());
  CHECK_FALSE(worker::import_event(driver_handle).has_value());
}

TEST_CASE("an event is opened by the handle of an export only") {
  Ready session;
  RawClient& client = session.client;
  wire::IpcHandle driver_handle;  // what the recording driver gives: zeros
  CHECK(client.status_of(wire::IpcOpenEvent(70, kContext, driver_handle)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(recorded("cuIpcOpenEventHandle") == 0);
  const auto exported = client.ask(wire::IpcExportEvent(kEvent));
  REQUIRE(exported.has_value());
  REQUIRE(exported->header.status() == 0);
  const auto handle = exported->as<wire::IpcExportEventReply>().handle();
  CHECK(client.status_of(wire::IpcOpenEvent(70, 999, handle)) != 0);
  CHECK(recorded("cuIpcOpenEventHandle") == 0);
  CHECK(client.status_of(wire::IpcOpenEvent(70, kContext, handle)) == 0);
  CHECK(recorded("cuIpcOpenEventHandle") == 1);
  client.send(wire::EventDestroy(kEvent));
  CHECK(client.status_of(wire::IpcOpenEvent(71, kContext, handle)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(session.ping() == 0);
}
