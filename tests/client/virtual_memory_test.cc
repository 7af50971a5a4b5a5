#include "client/virtual_memory.h"

#include <cuda.h>

#include "client/client.h"
#include "client/memory.h"
#include "fake_session.h"
#include "support/catch.h"

using namespace avec::client;
using namespace avec;
using test::Fixture;

namespace {

constexpr std::size_t kUnit = 2u << 20;

CUmemAllocationProp on_device() {
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
  return properties;
}

struct VirtualFixture : Fixture {
  VirtualMemory& memory = client.virtual_memory();
  CUdeviceptr reserved(std::size_t bytes) {
    CUdeviceptr address = 0;
    REQUIRE(memory.reserve(&address, bytes, 0, 0) == CUDA_SUCCESS);
    return address;
  }
  CUmemGenericAllocationHandle created(std::size_t bytes) {
    CUmemGenericAllocationHandle handle = 0;
    REQUIRE(memory.create(&handle, bytes, on_device()) == CUDA_SUCCESS);
    return handle;
  }
  CUresult allow(CUdeviceptr address, std::size_t bytes) {
    CUmemAccessDesc access{};
    access.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    return memory.set_access(address, bytes, &access, 1);
  }
};

}  // namespace

TEST_CASE("reserving, mapping and access are posted") {
  VirtualFixture f;
  const auto handle = f.created(kUnit);
  const std::size_t before = f.session->round_trips;
  const CUdeviceptr address = f.reserved(4 * kUnit);
  CHECK(f.memory.map(address, kUnit, 0, handle) == CUDA_SUCCESS);
  CHECK(f.allow(address, kUnit) == CUDA_SUCCESS);
  CHECK(f.memory.release(handle) == CUDA_SUCCESS);
  CHECK(f.session->round_trips == before);
  CHECK(f.session->count<wire::MemRelease>() == 0);  // it is mapped
  CHECK(f.memory.unmap(address, kUnit) == CUDA_SUCCESS);
  CHECK(f.session->count<wire::MemRelease>() == 1);
  CHECK(f.session->round_trips == before + 1);
}

TEST_CASE("mapped memory is device memory once a device may use it") {
  VirtualFixture f;
  const CUdeviceptr address = f.reserved(2 * kUnit);
  const auto handle = f.created(kUnit);
  REQUIRE(f.memory.map(address, kUnit, 0, handle) == CUDA_SUCCESS);
  CHECK_FALSE(look_up(f.client, address).device.has_value());
  REQUIRE(f.allow(address, kUnit) == CUDA_SUCCESS);
  const auto pointee = look_up(f.client, address + 100, kUnit);
  REQUIRE(pointee.device.has_value());
  CHECK(pointee.device->usable() == kUnit);
}

TEST_CASE("mappings side by side are used as one") {
  VirtualFixture f;
  const CUdeviceptr address = f.reserved(4 * kUnit);
  for (int i = 0; i < 3; ++i) {
    REQUIRE(f.memory.map(address + i * kUnit, kUnit, 0, f.created(kUnit)) == CUDA_SUCCESS);
    REQUIRE(f.allow(address + i * kUnit, kUnit) == CUDA_SUCCESS);
  }
  CHECK(look_up(f.client, address, 3 * kUnit).device->usable() == 3 * kUnit);
  CHECK(look_up(f.client, address + kUnit, 3 * kUnit).device->usable() == 2 * kUnit);
  CHECK(f.memory.unmap(address, 2 * kUnit) == CUDA_SUCCESS);
  CHECK_FALSE(look_up(f.client, address).device.has_value());
}

TEST_CASE("one memory may be mapped twice, no address may") {
  VirtualFixture f;
  const CUdeviceptr address = f.reserved(2 * kUnit);
  const auto handle = f.created(kUnit);
  CHECK(f.memory.map(address, kUnit, 0, handle) == CUDA_SUCCESS);
  CHECK(f.memory.map(address, kUnit, 0, handle) == CUDA_ERROR_INVALID_VALUE);
  CHECK(f.memory.map(address + kUnit, kUnit, 0, handle) == CUDA_SUCCESS);
  CHECK(f.memory.free_reservation(address, 2 * kUnit) == CUDA_ERROR_INVALID_VALUE);
}

TEST_CASE("a handle is gone with its last reference") {
  VirtualFixture f;
  const CUdeviceptr address = f.reserved(kUnit);
  const auto handle = f.created(kUnit);
  REQUIRE(f.memory.map(address, kUnit, 0, handle) == CUDA_SUCCESS);
  CUmemGenericAllocationHandle again = 0;
  REQUIRE(f.memory.retain(&again, address + 5) == CUDA_SUCCESS);
  CHECK(again == handle);
  CHECK(f.memory.release(handle) == CUDA_SUCCESS);
  CHECK(f.memory.release(handle) == CUDA_SUCCESS);
  CHECK(f.memory.release(handle) == CUDA_ERROR_INVALID_VALUE);
}

TEST_CASE("memory that the heap keeps free is given back before memory is out") {
  VirtualFixture f;
  f.session->memory_left = 0;  // the heap has one segment granted
  CUmemGenericAllocationHandle handle = 0;
  CHECK(f.memory.create(&handle, 32u << 20, on_device()) == CUDA_SUCCESS);
  CHECK(f.memory.create(&handle, kUnit, on_device()) == CUDA_ERROR_OUT_OF_MEMORY);
}

TEST_CASE("a wish for an address is met when it is free") {
  VirtualFixture f;
  const CUdeviceptr address = f.reserved(kUnit);
  CUdeviceptr wished = 0;
  REQUIRE(f.memory.reserve(&wished, kUnit, 0, address + 64 * kUnit) == CUDA_SUCCESS);
  CHECK(wished == address + 64 * kUnit);
  REQUIRE(f.memory.reserve(&wished, kUnit, 0, address) == CUDA_SUCCESS);
  CHECK(wished != address);
}
