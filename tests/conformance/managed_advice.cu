// Advice about managed memory, prefetches, attachment to streams, attributes of pointers, __managed__
// variables.
#include "case.h"

__managed__ int counter = 5;
__managed__ double table[300] = {1.5, 2.5};
__managed__ int* shared_pointer;

__global__ void count() { atomicAdd(&counter, 1); }
__global__ void twice() { table[threadIdx.x] *= 2; }
__global__ void through_pointer() { *shared_pointer += counter; }
__global__ void increment(int* values, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) ++values[i];
}

namespace {

constexpr std::size_t kBytes = 1 << 20;

char* managed(std::size_t bytes = kBytes) {
  char* memory = nullptr;
  NEED(cudaMallocManaged(&memory, bytes));
  return memory;
}

cudaMemLocation device(int id) { return {cudaMemLocationTypeDevice, id}; }
cudaMemLocation host() { return {cudaMemLocationTypeHost, 0}; }

int asked(cudaMemRangeAttribute attribute, const void* memory, std::size_t bytes) {
  int value = -77;
  NEED(cudaMemRangeGetAttribute(&value, sizeof value, attribute, memory, bytes));
  return value;
}

}  // namespace

CASE(variables) {
  say("%d %g %g %g", counter, table[0], table[1], table[299]);
  counter = 7;
  table[2] = 8;
  count<<<2, 16>>>();
  twice<<<1, 3>>>();
  SHOW(cudaDeviceSynchronize());
  say("%d %g %g %g %g", counter, table[0], table[1], table[2], table[3]);
}

CASE(a_variable_points_to_managed_memory) {
  int* memory = reinterpret_cast<int*>(managed());
  *memory = 10;
  shared_pointer = memory;
  counter = 4;
  through_pointer<<<1, 1>>>();
  SHOW(cudaDeviceSynchronize());
  say("%d", *memory);
}

CASE(variables_as_symbols) {
  int value = 0;
  counter = 9;
  SHOW(cudaMemcpyFromSymbol(&value, counter, sizeof value));
  say("%d", value);
  value = 20;
  SHOW(cudaMemcpyToSymbol(counter, &value, sizeof value));
  count<<<1, 1>>>();
  SHOW(cudaDeviceSynchronize());
  say("%d", counter);
  void* address = nullptr;
  SHOW(cudaGetSymbolAddress(&address, counter));
  say("same address: %d", address == &counter);
}

CASE(read_mostly) {
  char* memory = managed();
  say("%d", asked(cudaMemRangeAttributeReadMostly, memory, kBytes));
  SHOW(cudaMemAdvise(memory, kBytes, cudaMemAdviseSetReadMostly, device(0)));
  say("%d", asked(cudaMemRangeAttributeReadMostly, memory, kBytes));
  SHOW(cudaMemAdvise(memory, kBytes / 2, cudaMemAdviseUnsetReadMostly, device(0)));
  say("%d %d", asked(cudaMemRangeAttributeReadMostly, memory, kBytes),
      asked(cudaMemRangeAttributeReadMostly, memory + kBytes / 2, kBytes / 2));
}

CASE(preferred_location) {
  char* memory = managed();
  say("%d", asked(cudaMemRangeAttributePreferredLocation, memory, kBytes));
  SHOW(cudaMemAdvise(memory, kBytes, cudaMemAdviseSetPreferredLocation, device(0)));
  say("%d", asked(cudaMemRangeAttributePreferredLocation, memory, kBytes));
  say("%d", asked(cudaMemRangeAttributePreferredLocationType, memory, kBytes) == cudaMemLocationTypeDevice);
  SHOW(cudaMemAdvise(memory, kBytes, cudaMemAdviseSetPreferredLocation, host()));
  say("%d", asked(cudaMemRangeAttributePreferredLocation, memory, kBytes));
  say("%d", asked(cudaMemRangeAttributePreferredLocationType, memory, kBytes) == cudaMemLocationTypeHost);
  SHOW(cudaMemAdvise(memory, kBytes, cudaMemAdviseUnsetPreferredLocation, device(0)));
  say("%d", asked(cudaMemRangeAttributePreferredLocation, memory, kBytes));
}

CASE(accessed_by) {
  char* memory = managed();
  int users[3];
  SHOW(cudaMemAdvise(memory, kBytes, cudaMemAdviseSetAccessedBy, device(0)));
  SHOW(cudaMemRangeGetAttribute(users, sizeof users, cudaMemRangeAttributeAccessedBy, memory, kBytes));
  say("%d %d %d", users[0], users[1], users[2]);
  SHOW(cudaMemAdvise(memory, kBytes, cudaMemAdviseUnsetAccessedBy, device(0)));
  SHOW(cudaMemRangeGetAttribute(users, sizeof users, cudaMemRangeAttributeAccessedBy, memory, kBytes));
  say("%d %d %d", users[0], users[1], users[2]);
}

CASE(prefetches) {
  char* memory = managed();
  int* values = reinterpret_cast<int*>(memory);
  say("%d", asked(cudaMemRangeAttributeLastPrefetchLocation, memory, kBytes));
  values[3] = 4;
  SHOW(cudaMemPrefetchAsync(memory, kBytes, device(0), 0, nullptr));
  say("%d", asked(cudaMemRangeAttributeLastPrefetchLocation, memory, kBytes));
  increment<<<1, 32>>>(values, 32);
  SHOW(cudaMemPrefetchAsync(memory, kBytes, host(), 0, nullptr));
  SHOW(cudaDeviceSynchronize());
  say("%d %d", asked(cudaMemRangeAttributeLastPrefetchLocation, memory, kBytes), values[3]);
}

CASE(several_attributes) {
  char* memory = managed();
  NEED(cudaMemAdvise(memory, kBytes, cudaMemAdviseSetReadMostly, device(0)));
  int mostly = -7, preferred = -7;
  void* data[] = {&mostly, &preferred};
  std::size_t sizes[] = {sizeof mostly, sizeof preferred};
  cudaMemRangeAttribute attributes[] = {cudaMemRangeAttributeReadMostly, cudaMemRangeAttributePreferredLocation};
  SHOW(cudaMemRangeGetAttributes(data, sizes, attributes, 2, memory, kBytes));
  say("%d %d", mostly, preferred);
}

CASE(advice_errors) {
  char* memory = managed();
  void* other = nullptr;
  NEED(cudaMalloc(&other, kBytes));
  SHOW(cudaMemAdvise(memory, kBytes, static_cast<cudaMemoryAdvise>(77), device(0)));
  SHOW(cudaMemAdvise(memory, kBytes, cudaMemAdviseSetPreferredLocation, device(1000)));
  SHOW(cudaMemAdvise(other, kBytes, cudaMemAdviseSetReadMostly, device(0)));
  SHOW(cudaMemPrefetchAsync(memory, kBytes, device(1000), 0, nullptr));
  SHOW(cudaMemPrefetchAsync(memory, kBytes, device(0), 1, nullptr));
  SHOW(cudaMemPrefetchAsync(other, kBytes, device(0), 0, nullptr));
  int value = 0;
  SHOW(cudaMemRangeGetAttribute(&value, 3, cudaMemRangeAttributeReadMostly, memory, kBytes));
  SHOW(cudaMemRangeGetAttribute(&value, 4, static_cast<cudaMemRangeAttribute>(77), memory, kBytes));
  SHOW(cudaMemRangeGetAttribute(nullptr, 4, cudaMemRangeAttributeReadMostly, memory, kBytes));
}

CASE(attachment) {
  char* memory = managed();
  int* values = reinterpret_cast<int*>(memory);
  cudaStream_t stream;
  NEED(cudaStreamCreate(&stream));
  SHOW(cudaStreamAttachMemAsync(stream, memory, 0, cudaMemAttachSingle));
  SHOW(cudaStreamSynchronize(stream));
  values[0] = 1;
  increment<<<1, 1, 0, stream>>>(values, 1);
  SHOW(cudaStreamSynchronize(stream));
  say("%d", values[0]);
  SHOW(cudaStreamAttachMemAsync(stream, memory, 0, cudaMemAttachHost));
  SHOW(cudaStreamAttachMemAsync(stream, memory, kBytes, cudaMemAttachGlobal));
  SHOW(cudaStreamSynchronize(stream));
  values[0] = 10;
  increment<<<1, 1>>>(values, 1);
  SHOW(cudaDeviceSynchronize());
  say("%d", values[0]);
}

CASE(attachment_errors) {
  char* memory = managed();
  void* other = nullptr;
  NEED(cudaMalloc(&other, kBytes));
  cudaStream_t stream;
  NEED(cudaStreamCreate(&stream));
  SHOW(cudaStreamAttachMemAsync(stream, other, 0, cudaMemAttachGlobal));
  SHOW(cudaStreamAttachMemAsync(stream, memory, 100, cudaMemAttachGlobal));
  SHOW(cudaStreamAttachMemAsync(nullptr, memory, 0, cudaMemAttachSingle));
}

CASE(pointer_attributes) {
  char* memory = managed();
  cudaPointerAttributes attributes{};
  SHOW(cudaPointerGetAttributes(&attributes, memory + 100));
  say("managed: %d, device %d", attributes.type == cudaMemoryTypeManaged, attributes.device);
  say("%d %d", attributes.devicePointer == memory + 100, attributes.hostPointer == memory + 100);
  unsigned is_managed = 7;
  SHOW(cuPointerGetAttribute(&is_managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, reinterpret_cast<CUdeviceptr>(memory)));
  say("%u", is_managed);
  CUdeviceptr base = 0;
  std::size_t bytes = 0;
  SHOW(cuMemGetAddressRange(&base, &bytes, reinterpret_cast<CUdeviceptr>(memory + 100)));
  say("%d %zu", base == reinterpret_cast<CUdeviceptr>(memory), bytes);
  NEED(cudaPointerGetAttributes(&attributes, &counter));
  say("managed: %d", attributes.type == cudaMemoryTypeManaged);
  say("%d %d", attributes.devicePointer == &counter, attributes.hostPointer == &counter);
}

CASE(device_says_so) {
  int managed_memory = 0, map_host = 0, unified = 0;
  NEED(cudaDeviceGetAttribute(&managed_memory, cudaDevAttrManagedMemory, 0));
  NEED(cudaDeviceGetAttribute(&map_host, cudaDevAttrCanMapHostMemory, 0));
  NEED(cudaDeviceGetAttribute(&unified, cudaDevAttrUnifiedAddressing, 0));
  say("%d %d %d", managed_memory, map_host, unified);
}
