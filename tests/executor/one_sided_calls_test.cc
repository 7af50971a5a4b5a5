// Payload by one-sided access, on the executor's side: memory that is mapped, slots, reads and
// writes. The client's memory is that of the test; the device's is emulated.
#include <algorithm>
#include <array>
#include <optional>
#include <thread>
#include <vector>

#include "executor/one_sided_session.h"

namespace avec::test {

// ---- memory that is mapped ----------------------------------------------------------------

TEST_CASE("A copy from mapped memory is one copy out of the client's own bytes, answered when the device is done") {
  Fixture session(mapped());
  const auto memory = session.allocate(24 * kMiB);
  const auto bytes = noise(memory.size());
  fill(memory, bytes);
  const RemoteKey key = session.open(memory);
  CHECK(recorded("cuMemHostRegister") == 1);
  close_gate(true);
  const auto call = session.send_up(key, 4096, 20 * kMiB);
  CHECK(session.ready.ping() == 0);
  CHECK_FALSE(session.answered(call));
  REQUIRE(recorded_copies().size() == 1);
  CHECK(recorded_copies()[0].host == memory.data() + 4096);
  CHECK(recorded_copies()[0].width == 20 * kMiB);
  close_gate(false);
  CHECK(session.status_of(call) == 0);
  CHECK(same(device_memory(kBase, 20 * kMiB), ConstBytes(bytes).subspan(4096, 20 * kMiB)));
  CHECK(session.copied_in_all() == 0);
}

TEST_CASE("A copy to mapped memory is one copy into it, rows that are apart on the device included") {
  Fixture session(mapped());
  const auto memory = session.allocate(8 * kMiB);
  const auto bytes = noise(32 * kMiB);
  write_device_memory(kBase, bytes);
  const RemoteKey key = session.open(memory);
  CHECK(session.down(key, 100, 6 * kMiB, kBase + kMiB) == 0);
  CHECK(same(memory.subspan(100, 6 * kMiB), ConstBytes(bytes).subspan(kMiB, 6 * kMiB)));
  CHECK(session.client.status_of(wire::CopyFromDeviceTo(kBase, 3000, 1000, 500, kStream, words(key), 0)) == 0);
  for (std::size_t row = 0; row < 500; ++row)
    REQUIRE(same(memory.subspan(row * 1000, 1000), ConstBytes(bytes).subspan(row * 3000, 1000)));
  CHECK(session.client.status_of(wire::CopyToDeviceFrom(kBase, 5000, 1000, 300, kStream, words(key), 1000)) == 0);
  for (std::size_t row = 0; row < 300; ++row)
    REQUIRE(same(device_memory(kBase + row * 5000, 1000), memory.subspan(1000 + row * 1000, 1000)));
  CHECK(recorded_copies().size() == 3);
  CHECK(session.copied_in_all() == 0);
}

TEST_CASE("Mapped memory is given up only when no copy uses it any more, not even a held one") {
  Fixture session(mapped());
  const auto memory = session.allocate(kMiB);
  const RemoteKey key = session.open(memory);
  close_gate(true);
  for (std::uint32_t i = 0; i < limits::kLaunchWindow; ++i)
    session.client.send(session.ready.launch(), session.ready.parameters);
  const auto held = session.send_up(key, 0, 4096);
  const auto issued = session.send_down(key, 0, 4096, kBase, kOther);
  const auto closing = session.client.send(wire::HostMemoryClose(words(key)));
  const auto late = session.send_up(key, 0, 4096, kBase, kOther);
  CHECK(session.ready.ping() == 0);
  CHECK(recorded_copies().size() == 1);
  CHECK(recorded("cuMemHostUnregister") == 0);
  close_gate(false);
  CHECK(session.status_of(closing) == 0);
  CHECK(session.answered(held));
  CHECK(session.answered(issued));
  CHECK(session.answered(late));
  CHECK(recorded_copies().size() == 2);
  CHECK(recorded("cuMemHostUnregister") == 1);
  // The key may name something again.
  CHECK(session.client.status_of(wire::HostMemoryOpen(words(key), memory.size())) == 0);
}

TEST_CASE("Mapped memory that the driver refuses to register is copied through the arena") {
  Fixture session(mapped());
  const auto memory = session.allocate(20 * kMiB);
  const auto bytes = noise(memory.size());
  fill(memory, bytes);
  fail_registration(CUDA_ERROR_NOT_SUPPORTED);
  const RemoteKey key = session.open(memory);
  CHECK(session.up(key, 0, bytes.size()) == 0);
  CHECK(session.client.status_of(wire::StreamSynchronize(kStream)) == 0);
  CHECK(same(device_memory(kBase, bytes.size()), bytes));
  std::ranges::fill(memory, std::byte{0});
  CHECK(session.down(key, 0, bytes.size()) == 0);
  CHECK(same(memory, bytes));
  CHECK(session.up(key, 8, 100, kBase + 32 * kMiB) == 0);
  CHECK(session.down(key, 0, 100, kBase + 32 * kMiB) == 0);
  CHECK(same(memory.first(100), ConstBytes(bytes).subspan(8, 100)));
  CHECK(session.client.status_of(wire::HostMemoryClose(words(key))) == 0);
  CHECK(recorded("cuMemHostUnregister") == 0);
  CHECK(session.copied_in_all() == 2 * bytes.size() + 200);
}

TEST_CASE("A key that names nothing, or too little, fails the call and reaches no driver") {
  Fixture session(mapped());
  const auto memory = session.allocate(kMiB);
  const RemoteKey key = session.open(memory);
  RemoteKey unknown = key;
  unknown.words[1] ^= 1;
  const auto before = recorded_work();
  for (const auto& [named, offset, bytes] : std::vector<std::tuple<RemoteKey, std::uint64_t, std::uint64_t>>{
           {unknown, 0, 16}, {key, kMiB - 15, 16}, {key, kMiB + 1, 16}, {key, ~std::uint64_t{0} - 7, 16}, {{}, 0, 16}}) {
    CHECK(session.up(named, offset, bytes) == CUDA_ERROR_INVALID_VALUE);
    CHECK(session.down(named, offset, bytes) == CUDA_ERROR_INVALID_VALUE);
  }
  CHECK(session.client.status_of(wire::HostMemoryOpen(words(unknown), kMiB)) == CUDA_ERROR_INVALID_VALUE);
  const RemoteKey part = session.allow(memory.first(4096), RemoteAccess::kWrite);
  CHECK(session.client.status_of(wire::HostMemoryOpen(words(part), 8192)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(session.client.status_of(wire::HostMemoryClose(words(unknown))) == CUDA_ERROR_INVALID_VALUE);
  CHECK(recorded_work() == before);
  // Up to its last byte it is good.
  CHECK(session.up(key, kMiB - 16, 16) == 0);
}

TEST_CASE("A mapped copy of no bytes is answered in stream order") {
  Fixture session(mapped());
  close_gate(true);
  session.client.send(session.ready.launch(), session.ready.parameters);
  const auto call = session.send_down({}, 0, 0);
  CHECK(session.ready.ping() == 0);
  CHECK_FALSE(session.answered(call));
  close_gate(false);
  CHECK(session.status_of(call) == 0);
}

TEST_CASE("What no client of ours asks of one-sided access closes the session") {
  const RemoteKey made_up{{1, 2, 3, 4}};
  const auto check = [](const Setup& setup, const std::function<void(RawClient&)>& forge) {
    Network network(setup);
    Ready ready(network.url, setup.replay_bytes);
    forge(ready.client);
    CHECK(ready.client.closing_reason().starts_with("protocol error: "));
    // The session is being freed meanwhile, which the driver does hear of.
    CHECK(recorded("cuMemHostRegister") + recorded("cuMemHostAlloc") + recorded_copies().size() == 0);
  };
  const auto open = [&](RawClient& c) { c.send(wire::HostMemoryOpen(words(made_up), 4096)); };
  const auto close = [&](RawClient& c) { c.send(wire::HostMemoryClose(words(made_up))); };
  const auto up = [&](RawClient& c) { c.send(wire::CopyToDeviceFrom(kBase, 4, 4, 1, kStream, words(made_up), 0)); };
  const auto down = [&](RawClient& c) { c.send(wire::CopyFromDeviceTo(kBase, 4, 4, 1, kStream, words(made_up), 0)); };
  const auto slots = [&](RawClient& c) { c.send(wire::SlotsOpen(words(made_up), 4096)); };
  const Setup none{.one_sided = {.kind = sim::OneSidedKind::kNone}};
  Setup resumable;
  resumable.replay_bytes = 1 << 20;
  for (const auto& forge : std::vector<std::function<void(RawClient&)>>{open, close, up, down, slots}) {
    check(none, forge);
    check(resumable, forge);
  }
  check({}, open);
  check({}, close);
  check(mapped(), [&](RawClient& c) { c.send(wire::HostMemoryOpen(words({}), 4096)); });
  check(mapped(), [&](RawClient& c) { c.send(wire::HostMemoryOpen(words(made_up), 0)); });
  for (const Setup& setup : {Setup(), mapped()}) {
    check(setup, [&](RawClient& c) { c.send(wire::SlotsOpen(words({}), 4096)); });
    check(setup, [&](RawClient& c) { c.send(wire::SlotsOpen(words(made_up), 0)); });
    check(setup, [&](RawClient& c) {
      c.send(wire::CopyToDeviceFrom(kBase, 1, 4, 2, kStream, words(made_up), 0));
    });
    check(setup, [&](RawClient& c) {
      c.send(wire::CopyFromDeviceTo(kBase, 8, ~0ull, 2, kStream, words(made_up), 0));
    });
  }
}

TEST_CASE("Memory that is open already, and slots opened twice, close the session") {
  {
    Fixture session(mapped());
    const RemoteKey key = session.open(session.allocate(4096));
    session.client.send(wire::HostMemoryOpen(words(key), 4096));
    CHECK(session.client.closing_reason().starts_with("protocol error: memory that is mapped already"));
  }
  for (const Setup& setup : {Setup(), mapped()}) {
    Fixture session(setup);
    const auto memory = session.allocate(8192);
    const RemoteKey key = session.allow(memory, RemoteAccess::kWrite);
    CHECK(session.client.status_of(wire::SlotsOpen(words(key), 8192)) == 0);
    session.client.send(wire::SlotsOpen(words(key), 8192));
    CHECK(session.client.closing_reason().starts_with("protocol error: slots that are opened twice"));
  }
}

TEST_CASE("A client that goes away leaves no mapped memory registered, a copy under way or not") {
  for (const bool under_way : {false, true}) {
    Fixture session(mapped());
    const RemoteKey key = session.open(session.allocate(kMiB));
    const RemoteKey other = session.open(session.allocate(kMiB));
    close_gate(under_way);
    session.send_up(key, 0, kMiB);
    session.client.send(wire::HostMemoryClose(words(other)));
    CHECK(session.ready.ping() == 0);
    session.client.connection().close();
    CHECK(session.ends());
    CHECK(recorded("cuMemHostUnregister") == 2);
  }
}

// ---- slots --------------------------------------------------------------------------------

TEST_CASE("Slots carry payload both ways, one copy each, and are free when they are answered for") {
  for (const bool maps : {true, false}) {
    INFO("maps " << maps);
    Fixture session(maps ? mapped() : Setup());
    const auto area = session.allocate(8 * kMiB);
    const RemoteKey key = session.allow(area, RemoteAccess::kWrite);
    const auto opened = session.client.ask(wire::SlotsOpen(words(key), area.size()));
    REQUIRE(opened.has_value());
    REQUIRE(opened->header.status() == 0);
    const auto reply = opened->as<wire::SlotsOpenReply>().key();
    const RemoteKey remote{{reply.a(), reply.b(), reply.c(), reply.d()}};
    CHECK(static_cast<bool>(remote) == !maps);
    const auto bytes = noise(2 * kMiB);
    if (maps) {
      fill(area.subspan(3 * kMiB), bytes);
    } else {
      std::vector<std::byte> source = bytes;
      REQUIRE(!session.access.add(source));
      REQUIRE(session.access.write(remote, 3 * kMiB, source, 7).bytes == source.size());
      OneSidedCompletion ended[1];
      const auto deadline = soon();
      while (session.access.completed(ended) == 0 && std::chrono::steady_clock::now() < deadline) {
      }
      CHECK_FALSE(ended[0].error);
      session.access.remove(source);
    }
    const auto copies_before = recorded_copies().size();
    close_gate(true);
    const auto call = session.send_up({}, 3 * kMiB, bytes.size());
    CHECK(session.ready.ping() == 0);
    CHECK_FALSE(session.answered(call));
    close_gate(false);
    CHECK(session.status_of(call) == 0);
    CHECK(recorded_copies().size() == copies_before + 1);
    CHECK(same(device_memory(kBase, bytes.size()), bytes));
    CHECK(session.down({}, 5 * kMiB, bytes.size()) == 0);
    CHECK(same(area.subspan(5 * kMiB, bytes.size()), bytes));
    for (const std::uint64_t offset : {area.size() - 15, area.size() + 1, ~std::uint64_t{0} - 7}) {
      CHECK(session.up({}, offset, 16) == CUDA_ERROR_INVALID_VALUE);
      CHECK(session.down({}, offset, 16) == CUDA_ERROR_INVALID_VALUE);
    }
    CHECK(session.up({}, area.size() - 16, 16) == 0);
    CHECK(session.down({}, area.size() - 16, 16) == 0);
    // They stay until the end.
    if (maps) CHECK(session.client.status_of(wire::HostMemoryClose(words(key))) == CUDA_ERROR_INVALID_VALUE);
    CHECK(session.copied_in_all() == 0);
    CHECK(recorded("cuMemHostUnregister") == (maps ? 1 : 0));
    CHECK(recorded("cuMemHostAlloc") == recorded("cuMemFreeHost"));
  }
}

TEST_CASE("Slots have at most so many bytes") {
  for (const Setup& setup : {Setup(), mapped()}) {
    for (const auto& [bytes, status] : std::vector<std::pair<std::uint64_t, int>>{
             {limits::kMaxSlotsBytes - 4096, 0}, {limits::kMaxSlotsBytes, 0},
             {limits::kMaxSlotsBytes + 4096, CUDA_ERROR_INVALID_VALUE}}) {
      Fixture session(setup);
      const auto area = session.allocate(bytes);
      const RemoteKey key = session.allow(area, RemoteAccess::kWrite);
      CHECK(session.client.status_of(wire::SlotsOpen(words(key), bytes)) == status);
      if (status != 0) CHECK(session.up({}, 0, 16) == CUDA_ERROR_INVALID_VALUE);
    }
  }
}

// ---- reads and writes ---------------------------------------------------------------------

TEST_CASE("Large copies are read from and written to the client's memory, and the CPU moves none of it") {
  for (const Setup& setup : {Setup(), unordered()}) {
    Fixture session(setup);
    const auto memory = session.allocate(40 * kMiB + 12345);
    const auto bytes = noise(memory.size());
    fill(memory, bytes);
    const RemoteKey source = session.allow(memory, RemoteAccess::kRead);
    CHECK(session.up(source, 0, bytes.size()) == 0);
    session.access.revoke(source);
    CHECK(session.client.status_of(wire::StreamSynchronize(kStream)) == 0);
    CHECK(same(device_memory(kBase, bytes.size()), bytes));
    std::ranges::fill(memory, std::byte{0});
    const RemoteKey destination = session.allow(memory, RemoteAccess::kWrite);
    CHECK(session.down(destination, 0, bytes.size()) == 0);
    CHECK(same(memory, bytes));
    CHECK(session.copied_in_all() == 0);
  }
}

TEST_CASE("Small copies share a chunk, and rows come tight") {
  for (const Setup& setup : {Setup(), unordered()}) {
    Fixture session(setup);
    const auto memory = session.allocate(8 * kMiB);
    const auto bytes = noise(memory.size());
    fill(memory, bytes);
    const RemoteKey source = session.allow(memory, RemoteAccess::kRead);
    const RemoteKey destination = session.allow(memory, RemoteAccess::kWrite);
    std::vector<std::uint64_t> calls;
    for (std::uint64_t i = 0; i < 200; ++i) calls.push_back(session.send_up(source, i * 1000, 1000, kBase + i * 1000));
    for (const auto call : calls) CHECK(session.status_of(call) == 0);
    CHECK(same(device_memory(kBase, 200'000), ConstBytes(bytes).first(200'000)));
    CHECK(session.client.status_of(wire::CopyToDeviceFrom(kBase, 7000, 4500, 1500, kStream, words(source), 3)) == 0);
    CHECK(session.client.status_of(wire::StreamSynchronize(kStream)) == 0);
    for (std::size_t row = 0; row < 1500; ++row)
      REQUIRE(same(device_memory(kBase + row * 7000, 4500), ConstBytes(bytes).subspan(3 + row * 4500, 4500)));
    calls.clear();
    for (std::uint64_t i = 0; i < 200; ++i)
      calls.push_back(session.send_down(destination, i * 100, 100, kBase + i * 100, i % 2 != 0 ? kStream : kOther));
    CHECK(session.client.status_of(wire::StreamSynchronize(kStream)) == 0);
    CHECK(session.client.status_of(wire::StreamSynchronize(kOther)) == 0);
    for (const auto call : calls) CHECK(session.answered(call));
    CHECK(same(memory.first(20'000), device_memory(kBase, 20'000)));
    CHECK(session.client.status_of(wire::CopyFromDeviceTo(kBase, 7000, 4500, 1500, kStream, words(destination), 11)) == 0);
    for (std::size_t row = 0; row < 1500; ++row)
      REQUIRE(same(memory.subspan(11 + row * 4500, 4500), device_memory(kBase + row * 7000, 4500)));
    CHECK(session.copied_in_all() == 0);
  }
}

TEST_CASE("The source is free when it has been read, though the device has not begun") {
  Fixture session;
  const auto memory = session.allocate(24 * kMiB);
  const auto bytes = noise(memory.size());
  fill(memory, bytes);
  const RemoteKey key = session.allow(memory, RemoteAccess::kRead);
  close_gate(true);
  CHECK(session.up(key, 0, bytes.size()) == 0);
  CHECK(session.client.status_of(wire::StreamQuery(kStream)) == CUDA_SUCCESS);  // the recording driver's
  close_gate(false);
  CHECK(session.client.status_of(wire::StreamSynchronize(kStream)) == 0);
  CHECK(same(device_memory(kBase, bytes.size()), bytes));
}

TEST_CASE("What follows a copy on its stream waits until all of it is issued; other streams go on") {
  Setup slow;
  slow.shape.round_trip = 30ms;
  Fixture session(slow);
  const auto memory = session.allocate(40 * kMiB);
  const RemoteKey key = session.allow(memory, RemoteAccess::kRead);
  const auto call = session.send_up(key, 0, memory.size());
  session.client.send(session.ready.launch(), session.ready.parameters);
  session.client.send(wire::EventRecord(kEvent, kStream, 0, 0));
  session.client.send(wire::MemSet(kBase, 4, 1, 1, kOther, 0, 4));
  CHECK(session.ready.ping() == 0);
  CHECK(recorded("cuMemsetD32Async") == 1);
  CHECK(recorded("cuLaunchKernel") == 0);
  CHECK_FALSE(session.answered(call));
  CHECK(session.status_of(call) == 0);
  CHECK(session.client.status_of(wire::StreamSynchronize(kStream)) == 0);
  CHECK(recorded("cuLaunchKernel") == 1);
  CHECK(launches_before("cuMemcpyHtoDAsync_v2") == 0);
}

TEST_CASE("An answer that says that work is done comes behind the bytes that the work has written") {
  for (const bool ordered : {true, false}) {
    Setup slow = ordered ? Setup() : unordered();
    slow.shape.round_trip = 100ms;
    Fixture session(slow);
    const auto memory = session.allocate(12 * kMiB);
    const auto bytes = noise(memory.size());
    write_device_memory(kBase, bytes);
    const RemoteKey key = session.allow(memory, RemoteAccess::kWrite);
    const auto large = session.send_down(key, 0, 8 * kMiB);
    const auto small = session.send_down(key, 8 * kMiB, 1000, kBase + 8 * kMiB);
    const auto inline_copy = session.client.send(wire::CopyFromDevice(kBase, 16, 16, 1, kStream));
    CHECK(session.client.status_of(wire::StreamSynchronize(kStream)) == 0);
    CHECK(session.answered(large));
    CHECK(session.answered(small));
    CHECK(session.answered(inline_copy));
    CHECK(same(memory.first(8 * kMiB + 1000), ConstBytes(bytes).first(8 * kMiB + 1000)));
  }
}

TEST_CASE("A transport that takes few accesses at a time carries every copy") {
  Setup narrow = unordered();
  narrow.one_sided.max_under_way = 1;
  narrow.shape.round_trip = 200us;
  Fixture session(narrow);
  const auto memory = session.allocate(24 * kMiB);
  const auto bytes = noise(memory.size());
  fill(memory, bytes);
  const RemoteKey source = session.allow(memory, RemoteAccess::kRead);
  std::vector<std::uint64_t> calls{session.send_up(source, 0, 12 * kMiB),
                                   session.send_up(source, 12 * kMiB, 12 * kMiB, kBase + 12 * kMiB, kOther)};
  for (std::uint64_t i = 0; i < 50; ++i)
    calls.push_back(session.send_up(source, i * 50'000, 50'000, kBase + 32 * kMiB + i * 50'000, i % 2 != 0 ? kStream : kOther));
  for (const auto call : calls) CHECK(session.status_of(call) == 0);
  CHECK(session.client.status_of(wire::ContextSynchronize(kContext)) == 0);
  CHECK(same(device_memory(kBase, bytes.size()), bytes));
  CHECK(same(device_memory(kBase + 32 * kMiB, 2'500'000), ConstBytes(bytes).first(2'500'000)));
  std::ranges::fill(memory, std::byte{0});
  const RemoteKey destination = session.allow(memory, RemoteAccess::kWrite);
  CHECK(session.down(destination, 0, bytes.size()) == 0);
  CHECK(same(memory, bytes));
}

TEST_CASE("Payload of every kind shares a small arena without standing still") {
  for (const Setup& kind : {Setup(), unordered()}) {
    Setup setup = kind;
    setup.arena_bytes = 6 * limits::kChunkBytes;
    setup.shape.round_trip = 1ms;
    Fixture session(setup);
    const auto up = session.allocate(20 * kMiB), down = session.allocate(20 * kMiB);
    const auto bytes = noise(20 * kMiB);
    fill(up, bytes);
    const RemoteKey source = session.allow(up, RemoteAccess::kRead);
    const RemoteKey destination = session.allow(down, RemoteAccess::kWrite);
    write_device_memory(kBase + 32 * kMiB, bytes);
    close_gate(true);
    std::vector<std::uint64_t> calls;
    for (int i = 0; i < 3; ++i) {
      const std::uint64_t stream = i % 2 == 0 ? kStream : kOther;
      calls.push_back(session.send_up(source, 0, 20 * kMiB, kBase, stream));
      calls.push_back(session.send_down(destination, 0, 20 * kMiB, kBase + 32 * kMiB, stream));
      calls.push_back(session.client.send(wire::CopyFromDevice(kBase + 32 * kMiB, kMiB, kMiB, 1, kPerThread)));
      calls.push_back(session.send_down(destination, 0, 60'000, kBase + 32 * kMiB, kPerThread));
      session.client.send(wire::CopyToDevice(kBase + 24 * kMiB, 5 * kMiB, 5 * kMiB, 1, stream),
                          ConstBytes(bytes).first(5 * kMiB));
    }
    close_gate(false);
    CHECK(session.client.status_of(wire::ContextSynchronize(kContext)) == 0);
    for (const auto call : calls) CHECK(session.answered(call));
    CHECK(same(device_memory(kBase, bytes.size()), bytes));
    CHECK(same(device_memory(kBase + 24 * kMiB, 5 * kMiB), ConstBytes(bytes).first(5 * kMiB)));
    CHECK(same(down, bytes));
  }
}

// ---- what goes wrong ----------------------------------------------------------------------

TEST_CASE("An access that the client does not allow fails its call; the session goes on") {
  for (const Setup& setup : {Setup(), unordered()}) {
    Fixture session(setup);
    const auto memory = session.allocate(16 * kMiB);
    const RemoteKey readable = session.allow(memory, RemoteAccess::kRead);
    const RemoteKey writable = session.allow(memory, RemoteAccess::kWrite);
    CHECK(session.up({{9, 9, 9, 9}}, 0, 1000) == CUDA_ERROR_INVALID_VALUE);
    CHECK(session.up(writable, 0, 9 * kMiB) == CUDA_ERROR_INVALID_VALUE);
    CHECK(session.up(readable, 12 * kMiB, 9 * kMiB) == CUDA_ERROR_INVALID_VALUE);
    CHECK(session.up(readable, ~std::uint64_t{0} - 7, 16) == CUDA_ERROR_INVALID_VALUE);
    CHECK(session.ready.ping() == 0);
    CHECK(session.up(readable, 0, memory.size()) == 0);
    // A failed write whose call was answered before it ended is told of afterwards.
    const auto failed = session.send_down(readable, 0, 9 * kMiB);
    const int status = session.status_of(failed);
    if (setup.one_sided.ordered && status == 0) {
      std::optional<RawFrame> told;
      while ((told = session.client.receive()) && !told->is(wire::Opcode::DeferredError)) {
      }
      REQUIRE(told.has_value());
      CHECK(told->header.status() == CUDA_ERROR_INVALID_VALUE);
      CHECK(told->as<wire::DeferredError>().call() == failed);
    } else {
      CHECK(status == CUDA_ERROR_INVALID_VALUE);
    }
    if (!setup.one_sided.ordered) {
      CHECK(session.down(readable, 0, 1000) == CUDA_ERROR_INVALID_VALUE);
      CHECK(session.down(writable, 15 * kMiB, 9 * kMiB) == CUDA_ERROR_INVALID_VALUE);
    }
    CHECK(session.down(writable, 0, memory.size()) == 0);
    CHECK(session.client.status_of(wire::Goodbye(0)) == 0);
  }
}

TEST_CASE("A failure is answered when nothing is written to the client's memory any more") {
  Setup slow = unordered();
  slow.faults.fail_access = 0;
  slow.shape.round_trip = 100ms;
  slow.shape.bytes_per_second = 200 * kMiB;
  Fixture session(slow);
  const auto memory = session.allocate(16 * kMiB);
  write_device_memory(kBase, noise(memory.size()));
  const RemoteKey writable = session.allow(memory, RemoteAccess::kWrite);
  CHECK(session.down(writable, 0, memory.size()) == CUDA_ERROR_INVALID_VALUE);
  const std::vector<std::byte> then(memory.begin(), memory.end());
  std::this_thread::sleep_for(150ms);
  CHECK(same(memory, then));
}

TEST_CASE("One failed access of many fails its copy alone") {
  for (std::uint64_t failing = 0; failing < 8; ++failing) {
    Setup setup = unordered();
    setup.faults.fail_access = failing;
    setup.shape.round_trip = 300us;
    Fixture session(setup);
    const auto memory = session.allocate(16 * kMiB);
    const RemoteKey readable = session.allow(memory, RemoteAccess::kRead);
    const RemoteKey writable = session.allow(memory, RemoteAccess::kWrite);
    const int up = session.up(readable, 0, memory.size());
    const int down = session.down(writable, 0, memory.size());
    CHECK(up == (failing < 4 ? CUDA_ERROR_INVALID_VALUE : 0));
    CHECK(((up == 0) != (down == 0)));
    session.client.send(session.ready.launch(), session.ready.parameters);
    CHECK(session.client.status_of(wire::StreamSynchronize(kStream)) == 0);
    CHECK(recorded("cuLaunchKernel") == 1);
    CHECK(session.up(readable, 0, memory.size()) == 0);
    CHECK(session.client.status_of(wire::Goodbye(0)) == 0);
  }
}

TEST_CASE("A copy that the driver refuses is told of, its source read or not") {
  Fixture session;
  const auto memory = session.allocate(16 * kMiB);
  const RemoteKey readable = session.allow(memory, RemoteAccess::kRead);
  const RemoteKey writable = session.allow(memory, RemoteAccess::kWrite);
  fail_copies(CUDA_ERROR_INVALID_CONTEXT);
  // Small: read whole before the device hears of it.
  const auto small = session.send_up(readable, 0, 1000);
  CHECK(session.status_of(small) == 0);
  CHECK(session.ready.ping() == 0);
  const auto told = std::ranges::find_if(session.client.others, [](const RawFrame& f) { return f.is(wire::Opcode::DeferredError); });
  REQUIRE(told != session.client.others.end());
  CHECK(told->header.status() == CUDA_ERROR_INVALID_CONTEXT);
  CHECK(told->as<wire::DeferredError>().call() == small);
  CHECK(session.down(writable, 0, 1000) == CUDA_ERROR_INVALID_CONTEXT);
  CHECK(session.down(writable, 0, 16 * kMiB) == CUDA_ERROR_INVALID_CONTEXT);
  fail_copies(CUDA_SUCCESS);
  CHECK(session.up(readable, 0, 16 * kMiB) == 0);
}

TEST_CASE("A connection that breaks in an access ends the session, which frees everything") {
  for (std::uint64_t breaking = 0; breaking < 8; ++breaking) {
    Setup setup = breaking % 2 == 0 ? Setup() : unordered();
    setup.faults.reset_in_access = breaking;
    setup.shape.round_trip = 300us;
    Fixture session(setup);
    const auto memory = session.allocate(16 * kMiB);
    const RemoteKey readable = session.allow(memory, RemoteAccess::kRead);
    const RemoteKey writable = session.allow(memory, RemoteAccess::kWrite);
    session.send_up(readable, 0, memory.size());
    session.send_down(writable, 0, memory.size());
    CHECK(session.ends());
    CHECK(recorded("cuMemHostAlloc") == recorded("cuMemFreeHost"));
    CHECK(recorded("cuMemUnmap") == 1);
  }
}

TEST_CASE("A client that goes away in the middle of a transfer leaves nothing behind") {
  for (const bool stalled_device : {false, true}) {
    Setup slow;
    slow.shape.round_trip = 5ms;
    Fixture session(slow);
    const auto memory = session.allocate(60 * kMiB);
    const RemoteKey readable = session.allow(memory, RemoteAccess::kRead);
    const RemoteKey writable = session.allow(memory, RemoteAccess::kWrite);
    close_gate(stalled_device);
    session.send_up(readable, 0, memory.size());
    session.send_down(writable, 0, memory.size(), kBase, kOther);
    CHECK(session.ready.ping() == 0);
    session.client.connection().close();
    CHECK(session.ends());
    CHECK(recorded("cuMemHostAlloc") == recorded("cuMemFreeHost"));
    CHECK(recorded("cuMemUnmap") == 1);
  }
}

TEST_CASE("A session that is stopped in the middle of a transfer ends") {
  Setup slow;
  slow.shape.round_trip = 50ms;
  Fixture session(slow);
  const auto memory = session.allocate(60 * kMiB);
  const RemoteKey readable = session.allow(memory, RemoteAccess::kRead);
  session.send_up(readable, 0, memory.size());
  session.send_up(readable, 0, memory.size(), kBase, kOther);
  CHECK(session.ready.ping() == 0);
  session.ready.executor->stop();
  REQUIRE(session.report.has_value());
  CHECK(recorded("cuMemHostAlloc") == recorded("cuMemFreeHost"));
}

TEST_CASE("A goodbye is answered when every access has ended") {
  Setup slow;
  slow.shape.round_trip = 20ms;
  Fixture session(slow);
  const auto memory = session.allocate(20 * kMiB);
  const auto bytes = noise(memory.size());
  write_device_memory(kBase, bytes);
  const RemoteKey writable = session.allow(memory, RemoteAccess::kWrite);
  const auto call = session.send_down(writable, 0, memory.size());
  CHECK(session.client.status_of(wire::Goodbye(0)) == 0);
  CHECK(session.answered(call));
  CHECK(same(memory, bytes));
}

TEST_CASE("A context that is destroyed while a copy of it is being read ends the copy with an answer") {
  Setup slow;
  slow.shape.round_trip = 20ms;
  Fixture session(slow);
  const auto memory = session.allocate(60 * kMiB);
  const RemoteKey readable = session.allow(memory, RemoteAccess::kRead);
  const auto first = session.send_up(readable, 0, 20 * kMiB);
  session.client.send(wire::ContextDestroy(kContext));
  const auto second = session.send_up(readable, 0, memory.size());
  CHECK(session.status_of(first) == 0);
  const auto reply = session.client.reply_to(second);
  REQUIRE(reply.has_value());
  CHECK(session.ready.ping() == 0);
  CHECK_FALSE(session.answered(second));  // not a second time
  CHECK(session.client.status_of(wire::Goodbye(0)) == 0);
}

}  // namespace avec::test
