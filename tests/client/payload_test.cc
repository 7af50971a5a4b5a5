// Copies beside the stream: by reference, through slots, with memory added for one copy.
#include "client/payload.h"

#include <numeric>
#include <thread>

#include "client/copy.h"
#include "client/memory.h"
#include "client/stream.h"
#include "fake_session.h"
#include "support/catch.h"

using namespace avec::client;
using namespace avec;
using test::Fixture;
using enum Completion;

namespace {

constexpr std::size_t kInline = limits::kInlinePayloadBytes;
constexpr OneSidedTraits kMaps{.maps = true, .ordered = true, .slots_up_to = SIZE_MAX};
constexpr OneSidedTraits kWrites{.ordered = true, .slots_up_to = 4u << 20, .add_from = 8u << 20};

std::vector<std::byte> pattern(std::size_t bytes, unsigned seed = 1) {
  std::vector<std::byte> made(bytes);
  for (std::size_t i = 0; i < bytes; ++i) made[i] = static_cast<std::byte>(i * 7 + (i >> 9) + seed);
  return made;
}

CUdeviceptr device_memory(std::size_t bytes) {
  CUdeviceptr address = 0;
  REQUIRE(memory_allocate(&address, bytes) == CUDA_SUCCESS);
  return address;
}

std::byte* pinned_memory(std::size_t bytes) {
  void* pointer = nullptr;
  REQUIRE(host_allocate(&pointer, bytes, 0) == CUDA_SUCCESS);
  return static_cast<std::byte*>(pointer);
}

bool device_has(Fixture& f, CUdeviceptr address, ConstBytes bytes) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (f.session->memory[address + i] != bytes[i]) return false;
  }
  return true;
}

/// There and back through the same kind of memory; what the session moved meanwhile.
session::Counters there_and_back(Fixture& f, std::byte* host, std::size_t bytes) {
  const auto before = f.session->counters();
  const auto device = device_memory(bytes);
  const auto wanted = pattern(bytes);
  std::memcpy(host, wanted.data(), bytes);
  REQUIRE(copy_to_device(device, host, bytes, nullptr, kSynchronous) == CUDA_SUCCESS);
  std::memset(host, 0, bytes);
  REQUIRE(copy_from_device(host, device, bytes, nullptr, kSynchronous) == CUDA_SUCCESS);
  CHECK(std::equal(wanted.begin(), wanted.end(), host));
  auto after = f.session->counters();
  after.payload_copied -= before.payload_copied;
  after.one_sided_bytes -= before.one_sided_bytes;
  after.source_waits -= before.source_waits;
  return after;
}

std::uint64_t stream_of_last_upload(Fixture& f) {
  return f.session->frames<wire::CopyToDeviceFrom>().back().as<wire::CopyToDeviceFrom>().stream();
}

}  // namespace

TEST_CASE("pinned memory moves by reference, and no processor copies it") {
  Fixture f(GENERATE(kMaps, kWrites));
  const std::size_t bytes = 3u << 20;
  std::byte* host = pinned_memory(bytes);
  const auto moved = there_and_back(f, host, bytes);
  CHECK(moved.payload_copied == 0);
  CHECK(moved.one_sided_bytes == 2 * bytes);
  CHECK(moved.source_waits == 1);
  CHECK(f.session->references == 2);
  CHECK(f.session->count<wire::CopyToDevice>() == 0);
  CHECK(f.session->count<wire::CopyFromDevice>() == 0);
  CHECK(f.session->count<wire::SlotsOpen>() == 0);
  CHECK(f.session->worthless_references == 0);
}

TEST_CASE("payload that fits the send buffer goes in the stream, one byte more does not") {
  Fixture f(kMaps);
  std::byte* host = pinned_memory(kInline + 1);
  const auto device = device_memory(kInline + 1);
  for (const std::size_t bytes : {kInline - 1, kInline}) {
    REQUIRE(copy_to_device(device, host, bytes, nullptr, kSynchronous) == CUDA_SUCCESS);
    REQUIRE(copy_from_device(host, device, bytes, nullptr, kSynchronous) == CUDA_SUCCESS);
  }
  CHECK(f.session->references == 0);
  REQUIRE(copy_to_device(device, host, kInline + 1, nullptr, kSynchronous) == CUDA_SUCCESS);
  REQUIRE(copy_from_device(host, device, kInline + 1, nullptr, kSynchronous) == CUDA_SUCCESS);
  CHECK(f.session->references == 2);
}

TEST_CASE("a key allowed for a copy is revoked before a synchronous copy returns, once") {
  Fixture f(kWrites);
  const std::size_t bytes = 1u << 20;
  there_and_back(f, pinned_memory(bytes), bytes);
  CHECK(f.session->access->allows == 2);
  CHECK(f.session->access->revokes == 2);
  CHECK(f.session->access->worthless_revokes == 0);
  CHECK(f.session->access->keys_now() == 0);
}

TEST_CASE(
    "memory that the executor has mapped is opened once, named by offsets, and closed when it is freed") {
  Fixture f(kMaps);
  const std::size_t bytes = 2u << 20;
  std::byte* host = pinned_memory(bytes);
  REQUIRE(f.session->count<wire::HostMemoryOpen>() == 1);
  const auto opened = f.session->frames<wire::HostMemoryOpen>()[0].as<wire::HostMemoryOpen>();
  CHECK(opened.bytes() == bytes);
  const auto device = device_memory(bytes);
  const auto wanted = pattern(kInline + 1);
  std::memcpy(host + 4096, wanted.data(), wanted.size());
  REQUIRE(copy_to_device(device, host + 4096, wanted.size(), nullptr, kAsynchronous) == CUDA_SUCCESS);
  CHECK(device_has(f, device, wanted));
  const auto copied = f.session->frames<wire::CopyToDeviceFrom>()[0].as<wire::CopyToDeviceFrom>();
  CHECK(copied.offset() == 4096);
  CHECK(copied.key().a() == opened.key().a());
  CHECK(f.session->access->keys_now() == 1);
  REQUIRE(host_free(host) == CUDA_SUCCESS);
  CHECK(f.session->count<wire::HostMemoryClose>() == 1);
  CHECK(f.session->access->keys_now() == 0);
  CHECK(f.session->access->allocated_now() == 0);
}

TEST_CASE("memory that the executor cannot open is pinned memory all the same") {
  Fixture f(kMaps);
  f.session->fail_next<wire::HostMemoryOpen>(CUDA_ERROR_OUT_OF_MEMORY);
  const std::size_t bytes = 1u << 20;
  std::byte* host = pinned_memory(bytes);
  CHECK(f.session->access->keys_now() == 0);
  const auto moved = there_and_back(f, host, bytes);
  CHECK(moved.payload_copied == 2 * bytes);  // through slots
  REQUIRE(host_free(host) == CUDA_SUCCESS);
  CHECK(f.session->count<wire::HostMemoryClose>() == 0);
}

TEST_CASE("when the transport has no memory left, pinned memory is ordinary memory") {
  Fixture f(kWrites);
  f.session->access->allocate_fails = {TransportErrc::kResources, 0};
  const std::size_t bytes = 1u << 20;
  std::byte* host = pinned_memory(bytes);
  const auto moved = there_and_back(f, host, bytes);
  CHECK(moved.one_sided_bytes == 0);
  CHECK(f.session->count<wire::CopyToDevice>() == 1);
  CHECK(f.session->count<wire::CopyFromDevice>() == 1);
  CHECK(host_free(host) == CUDA_SUCCESS);
}

TEST_CASE("registered memory is added once, moves by reference, and is removed") {
  Fixture f(kWrites);
  const std::size_t bytes = 1u << 20;
  std::vector<std::byte> host(bytes);
  REQUIRE(host_register(host.data(), bytes, 0) == CUDA_SUCCESS);
  for (int i = 0; i < 3; ++i) CHECK(there_and_back(f, host.data(), bytes).payload_copied == 0);
  CHECK(f.session->access->adds == 1);
  CHECK(f.session->access->removes == 0);
  REQUIRE(host_unregister(host.data()) == CUDA_SUCCESS);
  CHECK(f.session->access->removes == 1);
  CHECK(f.session->access->added_now() == 0);
}

TEST_CASE("registering succeeds where memory cannot be added; its copies take another way") {
  Fixture f(kMaps);
  f.session->access->add_fails = {GENERATE(TransportErrc::kNotViable, TransportErrc::kResources), 0};
  const std::size_t bytes = 1u << 20;
  std::vector<std::byte> host(bytes);
  REQUIRE(host_register(host.data(), bytes, 0) == CUDA_SUCCESS);
  CHECK(there_and_back(f, host.data(), bytes).payload_copied == 2 * bytes);
  REQUIRE(host_unregister(host.data()) == CUDA_SUCCESS);
  CHECK(f.session->access->removes == 0);
}

TEST_CASE("a copy into such memory still returns before its bytes are there") {
  Fixture f(kMaps);
  f.session->access->add_fails = {TransportErrc::kNotViable, 0};
  std::vector<std::byte> host(1u << 20);
  REQUIRE(host_register(host.data(), host.size(), 0) == CUDA_SUCCESS);
  const auto device = device_memory(host.size());
  const auto before = f.session->round_trips;
  REQUIRE(copy_from_device(host.data(), device, host.size(), nullptr, kAsynchronous) == CUDA_SUCCESS);
  CHECK(f.session->round_trips == before);
}

TEST_CASE("asynchronous copies of pinned memory return at once in both directions") {
  Fixture f(GENERATE(kMaps, kWrites));
  f.session->references_linger = true;
  const std::size_t bytes = 1u << 20;
  std::byte *in = pinned_memory(bytes), *out = pinned_memory(bytes);
  const auto device = device_memory(bytes);
  const auto wanted = pattern(bytes);
  std::memcpy(in, wanted.data(), bytes);
  const auto before = f.session->counters();
  REQUIRE(copy_to_device(device, in, bytes, nullptr, kAsynchronous) == CUDA_SUCCESS);
  REQUIRE(copy_from_device(out, device, bytes, nullptr, kAsynchronous) == CUDA_SUCCESS);
  CHECK(f.session->held_count() == 2);
  CHECK(f.session->counters().round_trips == before.round_trips);
  CHECK(f.session->counters().source_waits == before.source_waits);
  f.session->answer_held();
  CHECK(std::equal(wanted.begin(), wanted.end(), out));
}

TEST_CASE("freeing pinned memory waits for copies to the device that still read it") {
  Fixture f(GENERATE(kMaps, kWrites));
  f.session->references_linger = true;
  const std::size_t bytes = 1u << 20;
  std::byte* host = pinned_memory(bytes);
  const auto device = device_memory(bytes);
  const auto wanted = pattern(bytes);
  std::memcpy(host, wanted.data(), bytes);
  REQUIRE(copy_to_device(device, host, bytes, nullptr, kAsynchronous) == CUDA_SUCCESS);
  CHECK(f.session->held_count() == 1);
  REQUIRE(host_free(host) == CUDA_SUCCESS);
  CHECK(f.session->held_count() == 0);
  CHECK(device_has(f, device, wanted));
}

TEST_CASE("unregistering memory waits for copies that still use it") {
  Fixture f(kWrites);
  f.session->references_linger = true;
  std::vector<std::byte> host(1u << 20);
  REQUIRE(host_register(host.data(), host.size(), 0) == CUDA_SUCCESS);
  const auto device = device_memory(host.size());
  REQUIRE(copy_to_device(device, host.data(), host.size(), nullptr, kAsynchronous) == CUDA_SUCCESS);
  REQUIRE(host_unregister(host.data()) == CUDA_SUCCESS);
  CHECK(f.session->held_count() == 0);
  CHECK(f.session->access->keys_now() == 0);
}

TEST_CASE("pageable memory passes through slots, each byte copied once each way") {
  Fixture f(GENERATE(kMaps, kWrites));
  const std::size_t bytes = GENERATE(kInline + 1, limits::kSlotBytes - 1, limits::kSlotBytes,
                                     limits::kSlotBytes + 1, std::size_t{3} << 20);
  std::vector<std::byte> host(bytes);
  const auto moved = there_and_back(f, host.data(), bytes);
  CHECK(moved.payload_copied == 2 * bytes);
  CHECK(moved.one_sided_bytes == 2 * bytes);
  CHECK(f.session->count<wire::SlotsOpen>() == 1);
  CHECK(f.session->count<wire::CopyToDevice>() == 0);
  CHECK(f.session->count<wire::CopyFromDevice>() == 0);
  CHECK(f.session->worthless_references == 0);
  CHECK((f.session->access->writes != 0) == !f.session->access->traits().maps);
}

TEST_CASE("a pageable copy to the device returns when its bytes are in slots") {
  Fixture f(kMaps);
  f.session->references_linger = true;
  const std::size_t bytes = 2u << 20;
  auto host = pattern(bytes);
  const auto wanted = host;
  const auto device = device_memory(bytes);
  const auto before = f.session->counters();
  REQUIRE(copy_to_device(device, host.data(), bytes, nullptr, kSynchronous) == CUDA_SUCCESS);
  std::fill(host.begin(), host.end(), std::byte{0});
  CHECK(f.session->held_count() != 0);
  CHECK(f.session->counters().source_waits == before.source_waits);
  f.session->answer_held();
  CHECK(device_has(f, device, wanted));
}

TEST_CASE("more payload than there are slots waits for slots, in order, and all of it arrives") {
  Fixture f(kMaps);
  f.session->references_linger = true;
  const std::size_t bytes = limits::kSlots * limits::kSlotBytes + (3u << 20) + 5;
  std::vector<std::byte> host = pattern(bytes);
  const auto wanted = host;
  const auto device = device_memory(bytes);
  REQUIRE(copy_to_device(device, host.data(), bytes, nullptr, kAsynchronous) == CUDA_SUCCESS);
  CHECK(f.session->held_count() <= limits::kSlots / 2);
  CHECK(f.session->source_waits != 0);
  std::fill(host.begin(), host.end(), std::byte{0});
  const auto before = f.session->round_trips;
  REQUIRE(copy_from_device(host.data(), device, bytes, nullptr, kSynchronous) == CUDA_SUCCESS);
  CHECK(f.session->round_trips - before == 1);
  CHECK(host == wanted);
}

TEST_CASE("a stream that is held up keeps its slots, and other streams' copies go on") {
  Fixture f(kMaps);
  f.session->references_linger = true;
  CUstream stalled;
  REQUIRE(stream_create(&stalled, CU_STREAM_NON_BLOCKING, 0) == CUDA_SUCCESS);
  auto host = pattern(2u << 20);
  const auto first = device_memory(host.size());
  REQUIRE(copy_to_device(first, host.data(), host.size(), stalled, kAsynchronous) == CUDA_SUCCESS);
  const std::size_t held = f.session->held_count();
  REQUIRE(held != 0);
  f.session->stalled_streams.insert(stream_of_last_upload(f));
  const auto large = pattern((limits::kSlots + 4) * limits::kSlotBytes);
  const auto second = device_memory(large.size());
  REQUIRE(copy_to_device(second, large.data(), large.size(), nullptr, kAsynchronous) == CUDA_SUCCESS);
  CHECK_FALSE(device_has(f, first, host));
  f.session->answer_held();
  CHECK(device_has(f, first, host));
  CHECK(device_has(f, second, large));
}

TEST_CASE("a thread that waits for a slot gets one that another thread gives back") {
  Fixture f(kMaps);
  f.session->references_linger = true;
  f.session->stalled_streams = {1};
  Slots slots(*f.session);
  REQUIRE(slots.open());
  // A call that is not answered, and all the other slots taken by threads that copy out of them.
  std::vector<Slot> taken;
  for (std::uint64_t stream = 1; const auto slot = slots.try_take(stream); ++stream) taken.push_back(*slot);
  REQUIRE(taken.size() == limits::kSlots);
  const session::Reference reference{taken[0].memory.first(8), RemoteAccess::kRead};
  const auto pending = f.session->post_by_reference(wire::CopyToDeviceFrom(1, 8, 8, 1, 1, {}, 0), reference);
  REQUIRE(pending);
  slots.used_by(taken[0], *pending);
  std::atomic<bool> got{false};
  std::thread waiting([&] { got = slots.take(100).has_value(); });
  while (f.session->waiting_for_one == 0) std::this_thread::yield();
  CHECK_FALSE(got);
  slots.give_back(taken[1]);
  waiting.join();
  CHECK(got);
  // One that is posted and answered only now counts as well.
  std::atomic<bool> again{false};
  std::thread patient([&] { again = slots.take(101).has_value(); });
  while (f.session->waiting_for_one == 0) std::this_thread::yield();
  const auto later = f.session->post_by_reference(wire::CopyToDeviceFrom(1, 8, 8, 1, 2, {}, 0), reference);
  REQUIRE(later);
  slots.used_by(taken[2], *later);
  patient.join();
  CHECK(again);
  f.session->answer_held();
}

TEST_CASE("a stream has at most half of the slots, and many that are held up leave some to others") {
  Fixture f(kMaps);
  f.session->references_linger = true;
  Slots slots(*f.session);
  REQUIRE(slots.open());
  std::vector<Slot> taken;
  const auto take_all = [&](std::uint64_t stream) {
    const std::size_t before = taken.size();
    while (const auto slot = slots.try_take(stream)) taken.push_back(*slot);
    return taken.size() - before;
  };
  CHECK(take_all(1) == limits::kSlots / 2);
  for (std::uint64_t stream = 2; stream < 5; ++stream) CHECK(take_all(stream) != 0);
  CHECK(slots.try_take(6));
  slots.give_back(taken[0]);
  CHECK(slots.try_take(7));
}

TEST_CASE("memory of slots that cannot be opened is given back") {
  Fixture f(kMaps);
  const bool refused = GENERATE(false, true);
  if (refused) {
    f.session->fail_next<wire::SlotsOpen>(CUDA_ERROR_OUT_OF_MEMORY);
  } else {
    f.session->access->allow_fails = {TransportErrc::kResources, 0};
  }
  Slots slots(*f.session);
  CHECK_FALSE(slots.open());
  CHECK(f.session->access->allocated_now() == 0);
  CHECK(f.session->access->keys_now() == 0);
}

TEST_CASE("large pageable memory is added for one copy where that is worth it") {
  Fixture f(kWrites);
  const std::size_t bytes = kWrites.add_from;
  std::vector<std::byte> host(bytes);
  const auto moved = there_and_back(f, host.data(), bytes);
  CHECK(moved.payload_copied == 0);
  CHECK(f.session->access->adds == 2);
  CHECK(f.session->access->removes == 2);
  CHECK(f.session->access->added_now() == 0);
  CHECK(f.session->access->keys_now() == 0);
  CHECK(f.session->references == 2);
  // Between what slots are best for and what adding is worth, and where there is nothing better.
  CHECK(there_and_back(f, host.data(), bytes - 1).one_sided_bytes == 0);
  CHECK(f.session->count<wire::CopyToDevice>() == 1);
  CHECK(there_and_back(f, host.data(), kWrites.slots_up_to).payload_copied == 2 * kWrites.slots_up_to);
}

TEST_CASE("memory that the system does not let be locked passes through slots") {
  Fixture f(kWrites);
  f.session->access->add_fails = {TransportErrc::kResources, 0};
  std::vector<std::byte> host(kWrites.add_from);
  const auto moved = there_and_back(f, host.data(), host.size());
  CHECK(moved.payload_copied == 2 * host.size());
  CHECK(f.session->access->removes == 0);
}

TEST_CASE("without slots payload goes in the stream") {
  Fixture f(kMaps);
  f.session->fail_next<wire::SlotsOpen>(CUDA_ERROR_OUT_OF_MEMORY);
  std::vector<std::byte> host(1u << 20);
  CHECK(there_and_back(f, host.data(), host.size()).one_sided_bytes == 0);
  CHECK(f.session->count<wire::SlotsOpen>() == 1);
  CHECK(f.session->count<wire::CopyToDevice>() == 1);
}

TEST_CASE("a copy that fails says so: by reference at once, through slots with the device's next answer") {
  Fixture f(kMaps);
  const std::size_t bytes = 1u << 20;
  const auto device = device_memory(bytes);
  std::byte* pinned = pinned_memory(bytes);
  std::vector<std::byte> pageable(bytes);
  f.session->fail_next<wire::CopyToDeviceFrom>(CUDA_ERROR_INVALID_VALUE);
  CHECK(copy_to_device(device, pinned, bytes, nullptr, kSynchronous) == CUDA_ERROR_INVALID_VALUE);
  f.session->fail_next<wire::CopyFromDeviceTo>(CUDA_ERROR_INVALID_VALUE);
  CHECK(copy_from_device(pinned, device, bytes, nullptr, kSynchronous) == CUDA_ERROR_INVALID_VALUE);
  f.session->fail_next<wire::CopyFromDeviceTo>(CUDA_ERROR_INVALID_VALUE);
  CHECK(copy_from_device(pageable.data(), device, bytes, nullptr, kSynchronous) == CUDA_ERROR_INVALID_VALUE);
  // The slots are there again, all of them.
  for (int i = 0; i < 40; ++i) there_and_back(f, pageable.data(), bytes);
  f.session->fail_next<wire::CopyFromDeviceTo>(CUDA_ERROR_ILLEGAL_ADDRESS);
  CHECK(copy_from_device(pinned, device, bytes, nullptr, kSynchronous) == CUDA_ERROR_ILLEGAL_ADDRESS);
  CHECK(copy_from_device(pinned, device, bytes, nullptr, kSynchronous) == CUDA_ERROR_ILLEGAL_ADDRESS);
}

TEST_CASE("rows with a pitch on the host pass through slots, rows wider than a slot too") {
  Fixture f(kMaps);
  const bool wide = GENERATE(false, true);
  const std::size_t width = wide ? limits::kSlotBytes + 100 : 3000, height = wide ? 3 : 700;
  const std::size_t host_pitch = width + 48, device_pitch = width + 96;
  auto host = pattern(host_pitch * height);
  const auto wanted = host;
  const auto device = device_memory(device_pitch * height);
  CUDA_MEMCPY2D what{};
  what.srcMemoryType = CU_MEMORYTYPE_HOST;
  what.srcHost = host.data();
  what.srcPitch = host_pitch;
  what.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  what.dstDevice = device;
  what.dstPitch = device_pitch;
  what.WidthInBytes = width;
  what.Height = height;
  REQUIRE(copy_2d(what, nullptr, kSynchronous) == CUDA_SUCCESS);
  CHECK(device_has(f, device + (height - 1) * device_pitch,
                   ConstBytes(wanted).subspan((height - 1) * host_pitch, width)));
  std::fill(host.begin(), host.end(), std::byte{9});
  CUDA_MEMCPY2D back{};
  back.srcMemoryType = CU_MEMORYTYPE_DEVICE;
  back.srcDevice = device;
  back.srcPitch = device_pitch;
  back.dstMemoryType = CU_MEMORYTYPE_HOST;
  back.dstHost = host.data();
  back.dstPitch = host_pitch;
  back.WidthInBytes = width;
  back.Height = height;
  REQUIRE(copy_2d(back, nullptr, kSynchronous) == CUDA_SUCCESS);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < host.size(); ++i)
    wrong += host[i] != (i % host_pitch < width ? wanted[i] : std::byte{9});
  CHECK(wrong == 0);
  CHECK(f.session->count<wire::CopyToDevice>() == 0);
  CHECK(f.session->count<wire::CopyFromDevice>() == 0);
}

TEST_CASE("several threads copy one large payload, and several programs' threads at once") {
  auto session = std::make_shared<test::FakeSession>(kMaps);
  Client client(session, 4);
  CUcontext context;
  REQUIRE(primary_retain(client, &context, 0) == CUDA_SUCCESS);
  REQUIRE(context_set_current(context) == CUDA_SUCCESS);
  std::atomic<int> wrong{0};
  std::vector<CUdeviceptr> devices;
  const std::size_t bytes = limits::kThreadedCopyBytes + 4097;
  for (int i = 0; i < 3; ++i) devices.push_back(device_memory(bytes));
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < devices.size(); ++t) {
    threads.emplace_back([&, t] {
      context_set_current(context);
      const auto wanted = pattern(bytes, t);
      for (int i = 0; i < 3; ++i) {
        auto host = wanted;
        wrong += copy_to_device(devices[t], host.data(), bytes, nullptr, kSynchronous) != CUDA_SUCCESS;
        std::fill(host.begin(), host.end(), std::byte{0});
        wrong += copy_from_device(host.data(), devices[t], bytes, nullptr, kSynchronous) != CUDA_SUCCESS;
        wrong += host != wanted;
      }
      context_set_current(nullptr);
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(session->copied == devices.size() * 3 * 2 * bytes);
  context_set_current(nullptr);
}
