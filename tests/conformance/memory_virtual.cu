// Virtual memory management: addresses and physical memory apart.
#include "case.h"

namespace {

__global__ void add(int* values, int count, int what) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) values[i] += what;
}

CUmemAllocationProp on_device() {
  CUmemAllocationProp prop{};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  prop.location.id = 0;
  return prop;
}

size_t unit() {
  const CUmemAllocationProp prop = on_device();
  size_t granularity = 0;
  NEED(cuMemGetAllocationGranularity(&granularity, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
  return granularity;
}

CUmemGenericAllocationHandle create(size_t bytes) {
  const CUmemAllocationProp prop = on_device();
  CUmemGenericAllocationHandle handle = 0;
  NEED(cuMemCreate(&handle, bytes, &prop, 0));
  return handle;
}

CUdeviceptr reserve(size_t bytes) {
  CUdeviceptr address = 0;
  NEED(cuMemAddressReserve(&address, bytes, 0, 0, 0));
  return address;
}

CUresult allow(CUdeviceptr address, size_t bytes, CUmemAccess_flags flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE) {
  CUmemAccessDesc access{};
  access.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  access.location.id = 0;
  access.flags = flags;
  return cuMemSetAccess(address, bytes, &access, 1);
}

void begin() { NEED(cudaFree(nullptr)); }

}  // namespace

CASE(granularity_is_a_power_of_two) {
  begin();
  const size_t bytes = unit();
  say("power of two: %d", bytes != 0 && (bytes & (bytes - 1)) == 0);
  CUmemAllocationProp prop = on_device();
  size_t granularity = 0;
  SHOW(cuMemGetAllocationGranularity(&granularity, &prop, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED));
  SHOW(cuMemGetAllocationGranularity(nullptr, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
  SHOW(cuMemGetAllocationGranularity(&granularity, nullptr, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
  prop.location.id = 99;
  SHOW(cuMemGetAllocationGranularity(&granularity, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
}

CASE(reserve_create_map_use_and_take_apart) {
  begin();
  const size_t bytes = 2 * unit();
  CUdeviceptr address = 0;
  CUmemGenericAllocationHandle handle = 0;
  const CUmemAllocationProp prop = on_device();
  SHOW(cuMemAddressReserve(&address, bytes, 0, 0, 0));
  SHOW(cuMemCreate(&handle, bytes, &prop, 0));
  SHOW(cuMemMap(address, bytes, 0, handle, 0));
  SHOW(allow(address, bytes));
  SHOW(cuMemsetD32(address, 5, bytes / 4));
  const int count = static_cast<int>(bytes / 4);
  add<<<count / 256, 256>>>(reinterpret_cast<int*>(address), count, 2);
  std::vector<int> host(count);
  SHOW(cuMemcpyDtoH(host.data(), address, bytes));
  say("sum %lld", std::accumulate(host.begin(), host.end(), 0ll) / count);
  SHOW(cuMemUnmap(address, bytes));
  SHOW(cuMemRelease(handle));
  SHOW(cuMemAddressFree(address, bytes));
}

CASE(one_memory_mapped_twice) {
  begin();
  const size_t bytes = unit();
  const CUdeviceptr a = reserve(2 * bytes), b = a + bytes;
  const auto handle = create(bytes);
  SHOW(cuMemMap(a, bytes, 0, handle, 0));
  SHOW(cuMemMap(b, bytes, 0, handle, 0));
  SHOW(allow(a, 2 * bytes));
  SHOW(cuMemsetD32(a, 77, 16));
  NEED(cuCtxSynchronize());
  unsigned value = 0;
  SHOW(cuMemcpyDtoH(&value, b + 60, 4));
  say("value %u", value);
  SHOW(cuMemUnmap(a, bytes));
  SHOW(cuMemcpyDtoH(&value, b, 4));
  SHOW(cuMemUnmap(b, bytes));
  SHOW(cuMemRelease(handle));
}

CASE(a_growing_segment) {
  begin();
  const size_t bytes = unit();
  const CUdeviceptr address = reserve(8 * bytes);
  for (int i = 0; i < 4; ++i) {
    const auto handle = create(bytes);
    NEED(cuMemMap(address + i * bytes, bytes, 0, handle, 0));
    NEED(allow(address + i * bytes, bytes));
    NEED(cuMemRelease(handle));
  }
  SHOW(cuMemsetD8(address, 3, 4 * bytes));
  std::vector<unsigned char> host(4 * bytes);
  SHOW(cuMemcpyDtoH(host.data(), address, host.size()));
  say("sum %lld", std::accumulate(host.begin(), host.end(), 0ll) / static_cast<long long>(host.size()));
  SHOW(cuMemcpyDtoH(host.data(), address + bytes, 4 * bytes));
  SHOW(cuMemUnmap(address + bytes, 2 * bytes));
  SHOW(cuMemcpyDtoH(host.data(), address, 2 * bytes));
  SHOW(cuMemcpyDtoH(host.data(), address + 3 * bytes, bytes));
  say("the last is there: %d", host[bytes - 1]);
  SHOW(cuMemUnmap(address, bytes));
  SHOW(cuMemUnmap(address + 3 * bytes, bytes));
  SHOW(cuMemAddressFree(address, 8 * bytes));
}

CASE(memory_is_zero_or_old_after_mapping_again) {
  begin();
  const size_t bytes = unit();
  const CUdeviceptr address = reserve(bytes);
  const auto handle = create(bytes);
  NEED(cuMemMap(address, bytes, 0, handle, 0));
  NEED(allow(address, bytes));
  NEED(cuMemsetD32(address, 11, 4));
  NEED(cuCtxSynchronize());
  NEED(cuMemUnmap(address, bytes));
  SHOW(cuMemMap(address, bytes, 0, handle, 0));
  SHOW(allow(address, bytes));
  unsigned value = 0;
  SHOW(cuMemcpyDtoH(&value, address, 4));
  say("value %u", value);
}

CASE(a_released_handle_keeps_its_mappings) {
  begin();
  const size_t bytes = unit();
  const CUdeviceptr address = reserve(bytes);
  const auto handle = create(bytes);
  NEED(cuMemMap(address, bytes, 0, handle, 0));
  SHOW(cuMemRelease(handle));
  SHOW(allow(address, bytes));
  SHOW(cuMemsetD32(address, 9, 4));
  unsigned value = 0;
  SHOW(cuMemcpyDtoH(&value, address, 4));
  say("value %u", value);
  SHOW(cuMemUnmap(address, bytes));
}

CASE(invalid_sizes) {
  begin();
  const size_t bytes = unit();
  CUdeviceptr address = 0;
  CUmemGenericAllocationHandle handle = 0;
  const CUmemAllocationProp prop = on_device();
  SHOW(cuMemAddressReserve(&address, 0, 0, 0, 0));
  SHOW(cuMemAddressReserve(&address, bytes + 1, 0, 0, 0));
  SHOW(cuMemAddressReserve(nullptr, bytes, 0, 0, 0));
  SHOW(cuMemAddressReserve(&address, bytes, 0, 0, 1));
  SHOW(cuMemCreate(&handle, 0, &prop, 0));
  SHOW(cuMemCreate(&handle, bytes + 4096, &prop, 0));
  SHOW(cuMemCreate(&handle, bytes, &prop, 1));
  SHOW(cuMemCreate(nullptr, bytes, &prop, 0));
  SHOW(cuMemCreate(&handle, bytes, nullptr, 0));
}

CASE(invalid_properties) {
  begin();
  const size_t bytes = unit();
  CUmemGenericAllocationHandle handle = 0;
  CUmemAllocationProp prop = on_device();
  prop.location.id = 99;
  SHOW(cuMemCreate(&handle, bytes, &prop, 0));
  prop = on_device();
  prop.type = CU_MEM_ALLOCATION_TYPE_INVALID;
  SHOW(cuMemCreate(&handle, bytes, &prop, 0));
  prop = on_device();
  prop.location.type = CU_MEM_LOCATION_TYPE_INVALID;
  SHOW(cuMemCreate(&handle, bytes, &prop, 0));
}

CASE(more_memory_than_there_is) {
  begin();
  CUmemGenericAllocationHandle handle = 0;
  const CUmemAllocationProp prop = on_device();
  SHOW(cuMemCreate(&handle, size_t{1} << 42, &prop, 0));
  SHOW(cuMemCreate(&handle, unit(), &prop, 0));
}

CASE(invalid_mappings) {
  begin();
  const size_t bytes = unit();
  const CUdeviceptr address = reserve(2 * bytes);
  const auto handle = create(bytes);
  SHOW(cuMemMap(address, bytes, 0, 0, 0));
  SHOW(cuMemMap(address + 4096, bytes, 0, handle, 0));
  SHOW(cuMemMap(address, bytes / 2, 0, handle, 0));
  SHOW(cuMemMap(address, 2 * bytes, 0, handle, 0));
  SHOW(cuMemMap(address + 2 * bytes, bytes, 0, handle, 0));
  SHOW(cuMemMap(address, bytes, 0, handle, 1));
  SHOW(cuMemMap(address, bytes, 0, handle, 0));
  SHOW(cuMemMap(address, bytes, 0, handle, 0));
}

CASE(invalid_unmappings) {
  begin();
  const size_t bytes = unit();
  const CUdeviceptr address = reserve(4 * bytes);
  const auto handle = create(2 * bytes);
  NEED(cuMemMap(address, 2 * bytes, 0, handle, 0));
  SHOW(cuMemUnmap(address, bytes));
  SHOW(cuMemUnmap(address + bytes, bytes));
  SHOW(cuMemUnmap(address + 2 * bytes, bytes));
  SHOW(cuMemUnmap(address, 0));
  SHOW(cuMemUnmap(address, 2 * bytes));
  SHOW(cuMemUnmap(address, 2 * bytes));
}

CASE(freeing_reservations) {
  begin();
  const size_t bytes = unit();
  const CUdeviceptr address = reserve(2 * bytes);
  SHOW(cuMemAddressFree(address, bytes));
  SHOW(cuMemAddressFree(address + bytes, bytes));
  SHOW(cuMemAddressFree(address, 2 * bytes));
  SHOW(cuMemAddressFree(address, 2 * bytes));
}

CASE(releasing_handles) {
  begin();
  const auto handle = create(unit());
  SHOW(cuMemRelease(handle));
  SHOW(cuMemRelease(handle));
  SHOW(cuMemRelease(0));
}

CASE(memory_without_access) {
  begin();
  const size_t bytes = unit();
  const CUdeviceptr address = reserve(bytes);
  const auto handle = create(bytes);
  NEED(cuMemMap(address, bytes, 0, handle, 0));
  unsigned value = 0;
  SHOW(cuMemcpyDtoH(&value, address, 4));
  SHOW(allow(address, bytes));
  SHOW(cuMemcpyDtoH(&value, address, 4));
}

CASE(access_is_told) {
  begin();
  const size_t bytes = unit();
  const CUdeviceptr address = reserve(2 * bytes);
  const auto handle = create(bytes);
  NEED(cuMemMap(address, bytes, 0, handle, 0));
  CUmemLocation here{};
  here.type = CU_MEM_LOCATION_TYPE_DEVICE;
  unsigned long long flags = 99;
  SHOW(cuMemGetAccess(&flags, &here, address));
  say("flags %llu", flags);
  NEED(allow(address, bytes));
  SHOW(cuMemGetAccess(&flags, &here, address + 100));
  say("flags %llu", flags);
  SHOW(allow(address, bytes, CU_MEM_ACCESS_FLAGS_PROT_READ));
  SHOW(cuMemGetAccess(&flags, &here, address));
  say("flags %llu", flags);
  SHOW(cuMemGetAccess(&flags, &here, address + bytes));
  SHOW(cuMemGetAccess(nullptr, &here, address));
}

CASE(invalid_access) {
  begin();
  const size_t bytes = unit();
  const CUdeviceptr address = reserve(2 * bytes);
  const auto handle = create(bytes);
  SHOW(allow(address, bytes));
  NEED(cuMemMap(address, bytes, 0, handle, 0));
  SHOW(allow(address, 2 * bytes));
  CUmemAccessDesc access{};
  access.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  access.location.id = 99;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  SHOW(cuMemSetAccess(address, bytes, &access, 1));
  SHOW(cuMemSetAccess(address, bytes, nullptr, 1));
  SHOW(allow(address, bytes));
}

CASE(properties_of_a_handle) {
  begin();
  const auto handle = create(unit());
  CUmemAllocationProp prop{};
  SHOW(cuMemGetAllocationPropertiesFromHandle(&prop, handle));
  say("type %d location %d %d", prop.type, prop.location.type, prop.location.id);
  SHOW(cuMemGetAllocationPropertiesFromHandle(nullptr, handle));
}

CASE(retaining_a_handle_by_its_address) {
  begin();
  const size_t bytes = unit();
  const CUdeviceptr address = reserve(2 * bytes);
  const auto handle = create(bytes);
  NEED(cuMemMap(address, bytes, 0, handle, 0));
  CUmemGenericAllocationHandle again = 0;
  SHOW(cuMemRetainAllocationHandle(&again, reinterpret_cast<void*>(address + 4096)));
  say("the same: %d", again == handle);
  SHOW(cuMemRelease(handle));
  SHOW(cuMemRelease(again));
  SHOW(cuMemRetainAllocationHandle(&again, reinterpret_cast<void*>(address + bytes)));
}

CASE(mapped_memory_is_not_freed_by_cuMemFree) {
  begin();
  const size_t bytes = unit();
  const CUdeviceptr address = reserve(bytes);
  const auto handle = create(bytes);
  NEED(cuMemMap(address, bytes, 0, handle, 0));
  NEED(allow(address, bytes));
  SHOW(cuMemFree(address));
}

CASE(pointer_attributes_of_mapped_memory) {
  begin();
  const size_t bytes = unit();
  const CUdeviceptr address = reserve(bytes);
  const auto handle = create(bytes);
  NEED(cuMemMap(address, bytes, 0, handle, 0));
  NEED(allow(address, bytes));
  unsigned type = 0;
  int ordinal = 99;
  SHOW(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address + 8));
  SHOW(cuPointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address + 8));
  say("type %u ordinal %d", type, ordinal);
}

CASE(unmapping_while_a_kernel_may_still_run) {
  begin();
  const size_t bytes = unit();
  const CUdeviceptr address = reserve(bytes);
  const auto handle = create(bytes);
  NEED(cuMemMap(address, bytes, 0, handle, 0));
  NEED(allow(address, bytes));
  NEED(cuMemsetD32(address, 0, bytes / 4));
  const int count = static_cast<int>(bytes / 4);
  for (int i = 0; i < 20; ++i) add<<<count / 256, 256>>>(reinterpret_cast<int*>(address), count, 1);
  NEED(cuCtxSynchronize());
  NEED(cuMemUnmap(address, bytes));
  NEED(cuMemMap(address, bytes, 0, handle, 0));
  NEED(allow(address, bytes));
  int value = 0;
  SHOW(cuMemcpyDtoH(&value, address, 4));
  say("value %d", value);
}

CASE(a_large_reservation) {
  begin();
  const size_t bytes = (size_t{90} << 30) / unit() * unit();
  CUdeviceptr a = 0, b = 0;
  SHOW(cuMemAddressReserve(&a, bytes, 0, 0, 0));
  SHOW(cuMemAddressReserve(&b, bytes, 0, 0, 0));
  say("apart: %d", a + bytes <= b || b + bytes <= a);
  SHOW(cuMemAddressFree(a, bytes));
  SHOW(cuMemAddressFree(b, bytes));
}
