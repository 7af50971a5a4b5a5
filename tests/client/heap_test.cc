#include <cuda.h>

#include "client/address_range.h"
#include "client/memory.h"
#include "fake_session.h"
#include "support/catch.h"

using namespace avec::client;
using namespace avec;
using test::Fixture;

namespace {

constexpr std::size_t kMiB = 1u << 20;

CUdeviceptr allocated(std::size_t bytes) {
  CUdeviceptr address = 0;
  REQUIRE(memory_allocate(&address, bytes) == CUDA_SUCCESS);
  return address;
}

}  // namespace

TEST_CASE("small allocations share one segment and are aligned") {
  Fixture f;
  const CUdeviceptr a = allocated(1), b = allocated(1000), c = allocated(4096);
  CHECK(f.session->count<wire::MemMapAt>() == 1);
  CHECK(f.session->frames<wire::MemMapAt>()[0].as<wire::MemMapAt>().bytes() == 32 * kMiB);
  for (const CUdeviceptr address : {a, b, c}) CHECK(address % 512 == 0);
  CHECK(b - a >= 512);
  CHECK(c - b >= 1024);
}

TEST_CASE("allocating within what was granted ahead costs no round trip, and more is asked for meanwhile") {
  Fixture f;
  CHECK(f.session->count<wire::MemCreate>() == 1);
  const std::size_t before = f.session->round_trips;
  for (int i = 0; i < 8; ++i) allocated(20 * kMiB);
  CHECK(f.session->count<wire::MemMapAt>() == 8);
  CHECK(f.session->count<wire::MemCreate>() == 9);
  CHECK(f.session->round_trips == before);
}

TEST_CASE("the more a session uses the more is asked for ahead, up to a limit") {
  Fixture f;
  f.session->memory_left = std::uint64_t{16} << 30;
  for (int i = 0; i < 128; ++i) allocated(31 * kMiB);
  CHECK(f.session->count<wire::MemCreate>() == 128 + 8);
}

TEST_CASE("memory asked for ahead that is not granted is no error") {
  Fixture f;
  f.session->memory_left = 0;
  allocated(20 * kMiB);
  CUdeviceptr none;
  CHECK(memory_allocate(&none, 20 * kMiB) == CUDA_ERROR_OUT_OF_MEMORY);
  allocated(10 * kMiB);
}

TEST_CASE("a large allocation has a segment of its own that goes with it") {
  Fixture f;
  const CUdeviceptr large = allocated(64 * kMiB + 1);
  CHECK(f.session->frames<wire::MemMap>()[0].as<wire::MemMap>().bytes() == 66 * kMiB);
  CHECK(memory_free(large) == CUDA_SUCCESS);
  REQUIRE(f.session->count<wire::MemUnmap>() == 1);
  CHECK(f.session->frames<wire::MemUnmap>()[0].as<wire::MemUnmap>().address() == large);
  CHECK(allocated(64 * kMiB) != large);  // addresses rest
}

TEST_CASE("memory that was freed is fenced before it is handed out again, once") {
  Fixture f;
  const CUdeviceptr a = allocated(4096), b = allocated(4096);
  CHECK(f.session->count<wire::MemFence>() == 0);
  memory_free(a);
  memory_free(b);
  CHECK(allocated(4096) == a);
  CHECK(f.session->count<wire::MemFence>() == 1);
  allocated(4096);
  CHECK(f.session->count<wire::MemFence>() == 1);
}

TEST_CASE("no fence is needed for memory that was freed before the context was synchronised") {
  Fixture f;
  const CUdeviceptr a = allocated(4096);
  memory_free(a);
  REQUIRE(context_synchronize() == CUDA_SUCCESS);
  CHECK(allocated(4096) == a);
  CHECK(f.session->count<wire::MemFence>() == 0);
}

TEST_CASE("freed neighbours become one gap") {
  Fixture f;
  const CUdeviceptr a = allocated(kMiB), b = allocated(kMiB), c = allocated(kMiB);
  allocated(kMiB);
  memory_free(a);
  memory_free(c);
  memory_free(b);
  CHECK(allocated(3 * kMiB) == a);
}

TEST_CASE("a double free and a pointer into an allocation are invalid") {
  Fixture f;
  const CUdeviceptr a = allocated(4096);
  CHECK(memory_free(a + 512) == CUDA_ERROR_INVALID_VALUE);
  CHECK(memory_free(a) == CUDA_SUCCESS);
  CHECK(memory_free(a) == CUDA_ERROR_INVALID_VALUE);
  CHECK(memory_free(0) == CUDA_SUCCESS);
}

TEST_CASE("with little memory left the exact size is tried") {
  Fixture f;
  f.session->memory_left = 4 * kMiB;
  allocated(31 * kMiB);  // what was granted when the context was made
  allocated(3 * kMiB);
  CHECK(f.session->frames<wire::MemMap>().back().as<wire::MemMap>().bytes() == 4 * kMiB);
}

TEST_CASE("empty segments are given back before memory is reported as exhausted") {
  Fixture f;
  f.session->memory_left = 32 * kMiB;  // beside the segment that was granted when the context was made
  memory_free(allocated(kMiB));
  allocated(64 * kMiB);
  CHECK(f.session->count<wire::MemUnmap>() == 1);
  CUdeviceptr none;
  CHECK(memory_allocate(&none, kMiB) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK(memory_allocate(&none, std::size_t{1} << 60) == CUDA_ERROR_OUT_OF_MEMORY);
}

TEST_CASE("free memory counts what the heap holds unused") {
  Fixture f;
  std::size_t before, after, total;
  REQUIRE(memory_info(&before, &total) == CUDA_SUCCESS);
  const CUdeviceptr a = allocated(kMiB);
  REQUIRE(memory_info(&after, &total) == CUDA_SUCCESS);
  CHECK(before - after == kMiB);
  memory_free(a);
  REQUIRE(memory_info(&after, nullptr) == CUDA_SUCCESS);
  CHECK(before == after);
}

TEST_CASE("a context's memory goes with it") {
  Fixture f;
  allocated(64 * kMiB);
  REQUIRE(primary_reset(f.client, 0) == CUDA_SUCCESS);
  CHECK(f.session->count<wire::MemUnmap>() == 1);
  CUdeviceptr address;
  CHECK(memory_allocate(&address, 16) == CUDA_ERROR_CONTEXT_IS_DESTROYED);
}

TEST_CASE("a range is handed out in rotation and comes together again") {
  RangeAllocator range(0x1000, 0x4000);
  const auto a = range.take(0x1000, 0x1000), b = range.take(0x1000, 0x1000);
  CHECK(a == 0x1000);
  range.give_back(a, 0x1000);
  CHECK(range.take(0x1000, 0x1000) == 0x3000);
  range.give_back(b, 0x1000);
  range.give_back(0x3000, 0x1000);
  CHECK(range.take(0x4000, 0x1000) == 0x1000);
  CHECK(range.take(1, 1) == 0);
}

TEST_CASE("pinned memory is writable, known, and gone after it is freed") {
  Fixture f;
  void* pointer = nullptr;
  REQUIRE(host_allocate(&pointer, 10000, CU_MEMHOSTALLOC_PORTABLE) == CUDA_SUCCESS);
  static_cast<char*>(pointer)[9999] = 1;
  unsigned flags = 0;
  CHECK(host_get_flags(&flags, static_cast<char*>(pointer) + 5000) == CUDA_SUCCESS);
  CHECK(flags == (CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP));  // unified addressing maps all of it
  int type = 0;
  CHECK(pointer_attribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, reinterpret_cast<CUdeviceptr>(pointer)) ==
        CUDA_SUCCESS);
  CHECK(type == CU_MEMORYTYPE_HOST);
  CHECK(host_free(pointer) == CUDA_SUCCESS);
  CHECK(host_free(pointer) == CUDA_ERROR_INVALID_VALUE);
}

TEST_CASE("host memory is registered once and must exist") {
  Fixture f;
  std::vector<char> memory(100000);
  CHECK(host_register(memory.data(), memory.size(), 0) == CUDA_SUCCESS);
  CHECK(host_register(memory.data() + 10, 10, 0) == CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
  CHECK(host_unregister(memory.data()) == CUDA_SUCCESS);
  CHECK(host_unregister(memory.data()) == CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
  CHECK(host_register(reinterpret_cast<void*>(0x10000), 10, 0) == CUDA_ERROR_INVALID_VALUE);
}

TEST_CASE("pointer attributes tell device memory from memory that CUDA does not know") {
  Fixture f;
  const CUdeviceptr a = allocated(1000);
  int type = 0, ordinal = 0, host = 0;
  CUdeviceptr start = 0;
  CUpointer_attribute which[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
                                 CU_POINTER_ATTRIBUTE_RANGE_START_ADDR};
  void* data[] = {&type, &ordinal, &start};
  REQUIRE(pointer_attributes(3, which, data, a + 10) == CUDA_SUCCESS);
  CHECK(type == CU_MEMORYTYPE_DEVICE);
  CHECK(ordinal == 0);
  CHECK(start == a);
  REQUIRE(pointer_attributes(2, which, data, reinterpret_cast<CUdeviceptr>(&host)) == CUDA_SUCCESS);
  CHECK(type == 0);
  CHECK(ordinal == -2);
  CHECK(pointer_attribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, reinterpret_cast<CUdeviceptr>(&host)) ==
        CUDA_ERROR_INVALID_VALUE);
}
