#include "client/copy.h"

#include <numeric>

#include "client/event.h"
#include "client/memory.h"
#include "client/progress.h"
#include "client/stream.h"
#include "fake_session.h"
#include "support/catch.h"

using namespace avec::client;
using namespace avec;
using test::Fixture;
using enum Completion;

namespace {

struct DeviceBuffer {
  explicit DeviceBuffer(std::size_t bytes) { REQUIRE(memory_allocate(&address, bytes) == CUDA_SUCCESS); }
  CUdeviceptr address = 0;
};

CUdeviceptr device_pointer(const void* host) { return reinterpret_cast<CUdeviceptr>(host); }

}  // namespace

TEST_CASE("bytes go to the device and come back, in one round trip") {
  Fixture f;
  DeviceBuffer buffer(256);
  std::vector<unsigned char> in(256), out(256);
  std::iota(in.begin(), in.end(), 0);
  const auto before = f.session->round_trips;
  REQUIRE(copy_to_device(buffer.address, in.data(), 256, nullptr, kSynchronous) == CUDA_SUCCESS);
  REQUIRE(copy_from_device(out.data(), buffer.address, 256, nullptr, kSynchronous) == CUDA_SUCCESS);
  CHECK(in == out);
  CHECK(f.session->round_trips - before == 1);
}

TEST_CASE("the direction of a copy follows from its addresses") {
  Fixture f;
  DeviceBuffer a(64), b(64);
  int host[16] = {42};
  REQUIRE(copy(a.address, device_pointer(host), 64, nullptr, kSynchronous) == CUDA_SUCCESS);
  REQUIRE(copy(b.address, a.address, 64, nullptr, kSynchronous) == CUDA_SUCCESS);
  REQUIRE(copy(device_pointer(host), a.address, 64, nullptr, kSynchronous) == CUDA_SUCCESS);
  CHECK(f.session->count<wire::CopyToDevice>() == 1);
  CHECK(f.session->count<wire::CopyOnDevice>() == 1);
  CHECK(f.session->count<wire::CopyFromDevice>() == 1);
}

TEST_CASE("a synchronous copy to the device comes before later work on every stream") {
  Fixture f;
  DeviceBuffer buffer(64);
  char host[64] = {};
  REQUIRE(copy_to_device(buffer.address, host, 64, nullptr, kSynchronous) == CUDA_SUCCESS);
  CHECK(f.session->count<wire::MemFence>() == 0);  // all streams there are wait for the default stream
  CUstream stream = nullptr;
  REQUIRE(stream_create(&stream, CU_STREAM_NON_BLOCKING, 0) == CUDA_SUCCESS);
  REQUIRE(copy_to_device(buffer.address, host, 64, nullptr, kAsynchronous) == CUDA_SUCCESS);
  CHECK(f.session->count<wire::MemFence>() == 0);
  REQUIRE(copy_to_device(buffer.address, host, 64, nullptr, kSynchronous) == CUDA_SUCCESS);
  const auto copies = f.session->frames<wire::CopyToDevice>();
  const auto fences = f.session->frames<wire::MemFence>();
  REQUIRE(fences.size() == 1);
  CHECK(fences[0].as<wire::MemFence>().stream() == copies.back().as<wire::CopyToDevice>().stream());
}

TEST_CASE("a 3D copy whose rows are too many to count is refused") {
  Fixture f;
  DeviceBuffer buffer(64);
  char host[64] = {};
  CUDA_MEMCPY3D what{};
  what.srcMemoryType = CU_MEMORYTYPE_HOST;
  what.srcHost = host;
  what.srcPitch = what.dstPitch = what.WidthInBytes = 1;
  what.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  what.dstDevice = buffer.address;
  what.Height = what.Depth = std::size_t{1} << 32;
  CHECK(copy_3d(what, nullptr, kSynchronous) == CUDA_ERROR_INVALID_VALUE);
}

TEST_CASE("a copy beyond an allocation is refused at once") {
  Fixture f;
  DeviceBuffer buffer(100);
  char host[200] = {};
  CHECK(copy_to_device(buffer.address, host, 100, nullptr, kSynchronous) == CUDA_SUCCESS);
  CHECK(copy_to_device(buffer.address, host, 101, nullptr, kSynchronous) == CUDA_ERROR_INVALID_VALUE);
  CHECK(copy_to_device(buffer.address + 1, host, 100, nullptr, kSynchronous) == CUDA_ERROR_INVALID_VALUE);
  CHECK(copy_to_device(device_pointer(host), host, 100, nullptr, kSynchronous) == CUDA_ERROR_INVALID_VALUE);
  memory_free(buffer.address);
  CHECK(copy_from_device(host, buffer.address, 1, nullptr, kSynchronous) == CUDA_ERROR_INVALID_VALUE);
}

TEST_CASE("rows with a pitch on the host arrive tight and go back into their places") {
  Fixture f;
  DeviceBuffer buffer(3 * 512);
  std::vector<unsigned char> in(3 * 100), out(3 * 100, 9);
  std::iota(in.begin(), in.end(), 0);
  CUDA_MEMCPY2D what{};
  what.srcMemoryType = CU_MEMORYTYPE_HOST;
  what.srcHost = in.data();
  what.srcPitch = 100;
  what.srcXInBytes = 10;
  what.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  what.dstDevice = buffer.address;
  what.dstPitch = 512;
  what.WidthInBytes = 50;
  what.Height = 3;
  REQUIRE(copy_2d(what, nullptr, kSynchronous) == CUDA_SUCCESS);
  CHECK(f.session->memory[buffer.address + 2 * 512 + 3] == std::byte{in[2 * 100 + 10 + 3]});

  CUDA_MEMCPY2D back{};
  back.srcMemoryType = CU_MEMORYTYPE_DEVICE;
  back.srcDevice = buffer.address;
  back.srcPitch = 512;
  back.dstMemoryType = CU_MEMORYTYPE_HOST;
  back.dstHost = out.data();
  back.dstPitch = 100;
  back.dstXInBytes = 10;
  back.WidthInBytes = 50;
  back.Height = 3;
  REQUIRE(copy_2d(back, nullptr, kAsynchronous) == CUDA_SUCCESS);
  for (int row = 0; row < 3; ++row) {
    for (int i = 0; i < 100; ++i) CHECK(out[row * 100 + i] == (i >= 10 && i < 60 ? in[row * 100 + i] : 9));
  }
  back.srcPitch = 49;
  CHECK(copy_2d(back, nullptr, kSynchronous) == CUDA_ERROR_INVALID_VALUE);
  back.srcMemoryType = CU_MEMORYTYPE_ARRAY;
  CHECK(copy_2d(back, nullptr, kSynchronous) == CUDA_ERROR_INVALID_HANDLE);  // no array
}

TEST_CASE("a copy from the device that has arrived spares the synchronisation behind it, until more work comes") {
  Fixture f;
  DeviceBuffer buffer(64);
  char pageable[64];
  CUstream stream;
  REQUIRE(stream_create(&stream, CU_STREAM_NON_BLOCKING, 0) == CUDA_SUCCESS);
  REQUIRE(copy_from_device(pageable, buffer.address, 64, stream, kAsynchronous) == CUDA_SUCCESS);
  end_work();
  const auto before = f.session->round_trips;
  CHECK(stream_synchronize(stream) == CUDA_SUCCESS);
  CHECK(f.session->round_trips == before);
  REQUIRE(copy_to_device(buffer.address, pageable, 64, stream, kAsynchronous) == CUDA_SUCCESS);
  end_work();
  CHECK(stream_synchronize(stream) == CUDA_SUCCESS);
  CHECK(f.session->round_trips == before + 1);
}

TEST_CASE("an asynchronous copy into pinned memory does not wait, into pageable memory it does") {
  Fixture f;
  DeviceBuffer buffer(64);
  void* pinned;
  REQUIRE(host_allocate(&pinned, 64, 0) == CUDA_SUCCESS);
  char pageable[64];
  const auto before = f.session->round_trips;
  CHECK(copy_from_device(pinned, buffer.address, 64, nullptr, kAsynchronous) == CUDA_SUCCESS);
  CHECK(f.session->round_trips == before);
  CHECK(copy_from_device(pageable, buffer.address, 64, nullptr, kAsynchronous) == CUDA_SUCCESS);
  CHECK(f.session->round_trips == before + 1);
}

TEST_CASE("a set checks alignment and extent") {
  Fixture f;
  DeviceBuffer buffer(64);
  CHECK(set_memory(buffer.address, 0, 0xab, 4, 16, 1, nullptr, kSynchronous) == CUDA_SUCCESS);
  CHECK(set_memory(buffer.address, 0, 0xab, 4, 17, 1, nullptr, kSynchronous) == CUDA_ERROR_INVALID_VALUE);
  CHECK(set_memory(buffer.address + 2, 0, 0xab, 4, 1, 1, nullptr, kSynchronous) == CUDA_ERROR_INVALID_VALUE);
  CHECK(set_memory(buffer.address, 16, 0xab, 1, 8, 4, nullptr, kSynchronous) == CUDA_SUCCESS);
  CHECK(f.session->count<wire::MemSet>() == 2);
}

TEST_CASE("an error of a posted call is returned by the next synchronising call, once") {
  Fixture f;
  f.client.posted_call_failed(CUDA_ERROR_INVALID_VALUE);
  DeviceBuffer buffer(64);
  char host[64] = {};
  CHECK(copy_to_device(buffer.address, host, 64, nullptr, kSynchronous) == CUDA_SUCCESS);
  CHECK(copy_from_device(host, buffer.address, 64, nullptr, kSynchronous) == CUDA_ERROR_INVALID_VALUE);
  CHECK(context_synchronize() == CUDA_SUCCESS);
}

TEST_CASE("an error that corrupts the context stays, after a reset the device is unavailable") {
  Fixture f;
  f.session->fail_next<wire::ContextSynchronize>(CUDA_ERROR_ILLEGAL_ADDRESS);
  CHECK(context_synchronize() == CUDA_ERROR_ILLEGAL_ADDRESS);
  CUdeviceptr address;
  CHECK(memory_allocate(&address, 16) == CUDA_ERROR_ILLEGAL_ADDRESS);
  CHECK(context_synchronize() == CUDA_ERROR_ILLEGAL_ADDRESS);
  REQUIRE(primary_reset(f.client, 0) == CUDA_SUCCESS);
  CHECK(memory_allocate(&address, 16) == CUDA_ERROR_DEVICE_UNAVAILABLE);
  CHECK(primary_retain(f.client, &f.context, 0) == CUDA_ERROR_DEVICE_UNAVAILABLE);
  REQUIRE(primary_reset(f.client, 0) == CUDA_SUCCESS);
  CHECK(primary_retain(f.client, &f.context, 0) == CUDA_ERROR_DEVICE_UNAVAILABLE);
}

TEST_CASE("after the session is lost every call says so, also after a reset") {
  Fixture f;
  f.client.session_lost("the worker was killed");
  CUdeviceptr address;
  CHECK(memory_allocate(&address, 16) == CUDA_ERROR_DEVICE_UNAVAILABLE);
  primary_reset(f.client, 0);
  CHECK(primary_retain(f.client, &f.context, 0) == CUDA_ERROR_DEVICE_UNAVAILABLE);
}

TEST_CASE("synchronising behind a copy into pinned memory waits until its bytes are here") {
  Fixture f;
  DeviceBuffer buffer(64);
  void* pinned;
  REQUIRE(host_allocate(&pinned, 64, 0) == CUDA_SUCCESS);
  CUstream first, second, other;
  CUevent event;
  for (CUstream* stream : {&first, &second, &other})
    REQUIRE(stream_create(stream, CU_STREAM_NON_BLOCKING, 0) == CUDA_SUCCESS);
  REQUIRE(event_create(&event, 0) == CUDA_SUCCESS);
  f.session->downloads_linger = true;
  REQUIRE(copy_from_device(pinned, buffer.address, 64, first, kAsynchronous) == CUDA_SUCCESS);
  REQUIRE(event_record(event, first, 0) == CUDA_SUCCESS);
  REQUIRE(stream_wait_event(second, event, 0) == CUDA_SUCCESS);

  const std::vector<const void*> once{pinned};
  const auto waited = [&] { return std::exchange(f.session->destinations_waited, {}); };
  REQUIRE(stream_synchronize(first) == CUDA_SUCCESS);
  CHECK(waited() == once);
  REQUIRE(event_synchronize(event) == CUDA_SUCCESS);
  CHECK(waited() == once);
  REQUIRE(stream_synchronize(second) == CUDA_SUCCESS);
  CHECK(waited() == once);
  REQUIRE(stream_query(first) == CUDA_SUCCESS);
  CHECK(waited() == once);
  REQUIRE(stream_synchronize(other) == CUDA_SUCCESS);
  CHECK(waited().empty());
  REQUIRE(stream_destroy(first) == CUDA_SUCCESS);
  REQUIRE(context_synchronize() == CUDA_SUCCESS);
  CHECK(waited() == once);
}
