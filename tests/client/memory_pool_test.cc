#include "client/memory_pool.h"

#include <cuda.h>

#include "client/client.h"
#include "client/memory.h"
#include "client/stream.h"
#include "fake_session.h"
#include "support/catch.h"

using namespace avec::client;
using namespace avec;
using test::Fixture;

namespace {

constexpr std::size_t kMiB = 1u << 20;

struct PoolFixture : Fixture {
  CUstream first = nullptr, second = nullptr;
  CUmemoryPool pool = nullptr;
  PoolFixture() {
    REQUIRE(stream_create(&first, CU_STREAM_NON_BLOCKING, 0) == CUDA_SUCCESS);
    REQUIRE(stream_create(&second, CU_STREAM_NON_BLOCKING, 0) == CUDA_SUCCESS);
    pool = make();
  }
  CUmemoryPool make(std::size_t most = 0) {
    CUmemPoolProps properties{};
    properties.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    properties.maxSize = most;
    CUmemoryPool made = nullptr;
    REQUIRE(client.pools().create(&made, properties) == CUDA_SUCCESS);
    return made;
  }
  CUdeviceptr allocated(std::size_t bytes, CUstream stream) {
    CUdeviceptr address = 0;
    REQUIRE(memory_allocate_async(&address, bytes, pool, stream) == CUDA_SUCCESS);
    return address;
  }
  std::uint64_t number(CUmemPool_attribute which) {
    cuuint64_t value = 0;
    REQUIRE(client.pools().get_attribute(pool, which, &value) == CUDA_SUCCESS);
    return value;
  }
};

}  // namespace

TEST_CASE("memory freed in a stream is handed out there again without a frame") {
  PoolFixture f;
  const CUdeviceptr a = f.allocated(kMiB, f.first);
  REQUIRE(memory_free_async(a, f.first) == CUDA_SUCCESS);
  CHECK(f.allocated(kMiB, f.first) == a);
  CHECK(f.session->count<wire::StreamFollow>() == 0);
  CHECK(f.session->count<wire::MemFence>() == 0);
}

TEST_CASE("memory freed in one stream is handed out in another behind it") {
  PoolFixture f;
  const CUdeviceptr a = f.allocated(32 * kMiB, f.first);
  REQUIRE(memory_free_async(a, f.first) == CUDA_SUCCESS);
  CHECK(f.allocated(32 * kMiB, f.second) == a);
  CHECK(f.session->count<wire::StreamFollow>() == 1);
}

TEST_CASE("after a synchronisation nobody waits for memory freed before it") {
  PoolFixture f;
  cuuint64_t all = ~std::uint64_t{0};
  REQUIRE(f.client.pools().set_attribute(f.pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &all) == CUDA_SUCCESS);
  const CUdeviceptr a = f.allocated(32 * kMiB, f.first);
  REQUIRE(memory_free_async(a, f.first) == CUDA_SUCCESS);
  REQUIRE(stream_synchronize(f.first) == CUDA_SUCCESS);
  CHECK(f.allocated(32 * kMiB, f.second) == a);
  CHECK(f.session->count<wire::StreamFollow>() == 0);
}

TEST_CASE("without internal dependencies a pool grows instead") {
  PoolFixture f;
  int off = 0;
  REQUIRE(f.client.pools().set_attribute(f.pool, CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES, &off) ==
          CUDA_SUCCESS);
  const CUdeviceptr a = f.allocated(32 * kMiB, f.first);
  REQUIRE(memory_free_async(a, f.first) == CUDA_SUCCESS);
  CHECK(f.allocated(32 * kMiB, f.second) != a);
  CHECK(f.session->count<wire::StreamFollow>() == 0);
}

TEST_CASE("a synchronisation gives back what is free beyond the threshold") {
  PoolFixture f;
  const CUdeviceptr a = f.allocated(kMiB, f.first);
  CHECK(f.number(CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) == 32 * kMiB);
  REQUIRE(memory_free_async(a, f.first) == CUDA_SUCCESS);
  REQUIRE(stream_synchronize(f.second) == CUDA_SUCCESS);
  CHECK(f.number(CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) == 32 * kMiB);
  REQUIRE(stream_synchronize(f.first) == CUDA_SUCCESS);
  CHECK(f.number(CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) == 0);
  CHECK(f.number(CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH) == 32 * kMiB);
}

TEST_CASE("a pool does not grow beyond its greatest size") {
  PoolFixture f;
  f.pool = f.make(40 * kMiB);
  f.allocated(32 * kMiB, f.first);
  CUdeviceptr none = 0;
  CHECK(memory_allocate_async(&none, 16 * kMiB, f.pool, f.first) == CUDA_ERROR_OUT_OF_MEMORY);
  f.allocated(8 * kMiB, f.first);
}

TEST_CASE("a destroyed pool is gone at once, its memory when it is freed") {
  PoolFixture f;
  const CUdeviceptr a = f.allocated(64 * kMiB, f.first);
  REQUIRE(f.client.pools().destroy(f.pool) == CUDA_SUCCESS);
  CUdeviceptr none = 0;
  CHECK(memory_allocate_async(&none, 16, f.pool, f.first) == CUDA_ERROR_INVALID_VALUE);
  CHECK(f.client.pools().destroy(f.pool) == CUDA_ERROR_INVALID_VALUE);
  CHECK(look_up(f.client, a).device.has_value());
  CHECK(f.session->count<wire::MemUnmap>() == 0);
  REQUIRE(memory_free_async(a, f.first) == CUDA_SUCCESS);
  CHECK(f.session->count<wire::MemUnmap>() == 1);
  CHECK(memory_free_async(a, f.first) == CUDA_ERROR_INVALID_VALUE);
}

TEST_CASE("memory of a pool can be freed like any other, and is fenced") {
  PoolFixture f;
  const CUdeviceptr a = f.allocated(32 * kMiB, f.first);
  REQUIRE(memory_free(a) == CUDA_SUCCESS);
  CHECK(memory_free(a) == CUDA_ERROR_INVALID_VALUE);
  CHECK(f.allocated(32 * kMiB, f.first) == a);
  CHECK(f.session->count<wire::MemFence>() == 1);
}

TEST_CASE("a pool that finds no memory takes what other pools keep free") {
  PoolFixture f;
  f.session->memory_left = 0;  // one segment is granted
  const CUmemoryPool other = f.make();
  CUdeviceptr a = 0, b = 0;
  REQUIRE(memory_allocate_async(&a, 20 * kMiB, other, f.first) == CUDA_SUCCESS);
  REQUIRE(memory_free_async(a, f.first) == CUDA_SUCCESS);
  CHECK(memory_allocate_async(&b, 20 * kMiB, f.pool, f.first) == CUDA_SUCCESS);
  CHECK(memory_allocate_async(&a, 20 * kMiB, other, f.first) == CUDA_ERROR_OUT_OF_MEMORY);
}

TEST_CASE("an address between blocks of a pool is nobody's") {
  PoolFixture f;
  const CUdeviceptr a = f.allocated(1000, f.first);
  CHECK(look_up(f.client, a + 999).device.has_value());
  CHECK_FALSE(look_up(f.client, a + 4096).device.has_value());
  CHECK(look_up(f.client, a + 4096).in_device_range);
}
