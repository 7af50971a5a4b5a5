// Pinned host memory that kernels read and write.
#include <unistd.h>

#include "case.h"

__global__ void histogram(const unsigned char* bytes, int n, unsigned* counts) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    atomicAdd(&counts[bytes[i]], 1u);
}
__global__ void increment(int* values, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) ++values[i];
}
__global__ void copy(const int* from, int* to, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) to[i] = from[i];
}

struct Pair {
  int* from;
  int* to;
  int n;
};
__global__ void copy_pair(Pair pair) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < pair.n) pair.to[i] = pair.from[i];
}
__global__ void copy_behind(const Pair* pair) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < pair->n) pair->to[i] = pair->from[i];
}

namespace {

constexpr int n = 5000;
constexpr int kBlocks = 20;  // of 256 threads

template <class T>
T* mapped(std::size_t count, unsigned flags = cudaHostAllocMapped) {
  T* memory = nullptr;
  NEED(cudaHostAlloc(&memory, count * sizeof(T), flags));
  return memory;
}
template <class T>
T* on_device(T* host) {
  T* device = nullptr;
  NEED(cudaHostGetDevicePointer(&device, host, 0));
  return device;
}
void fill(int* values, int value) {
  for (int i = 0; i < n; ++i) values[i] = value;
}
int wrong(const int* values, int expected) {
  int count = 0;
  for (int i = 0; i < n; ++i) count += values[i] != expected;
  return count;
}

}  // namespace

CASE(histogram_of_mapped_bytes) {
  constexpr int bytes = 200'000;
  unsigned char* data = mapped<unsigned char>(bytes);
  unsigned* counts = mapped<unsigned>(256);
  for (int i = 0; i < bytes; ++i) data[i] = static_cast<unsigned char>(i % 200);
  for (int i = 0; i < 256; ++i) counts[i] = 0;
  histogram<<<8, 128>>>(on_device(data), bytes, on_device(counts));
  SHOW(cudaDeviceSynchronize());
  int bad = 0;
  for (int i = 0; i < 256; ++i) bad += counts[i] != (i < 200 ? 1000u : 0u);
  say("%d wrong", bad);
}

CASE(every_kind_of_allocation) {
  for (unsigned flags : {cudaHostAllocDefault, cudaHostAllocPortable, cudaHostAllocMapped, cudaHostAllocWriteCombined,
                         cudaHostAllocPortable | cudaHostAllocMapped | cudaHostAllocWriteCombined}) {
    int* values = mapped<int>(n, flags);
    fill(values, 1);
    increment<<<kBlocks, 256>>>(on_device(values), n);
    NEED(cudaDeviceSynchronize());
    unsigned said = 0;
    NEED(cudaHostGetFlags(&said, values));
    say("%d wrong, flags kept: %d", wrong(values, 2), (said & flags) == flags);
    NEED(cudaFreeHost(values));
  }
}

CASE(pinned_pointer_as_parameter) {
  int *from = nullptr, *to = nullptr;
  NEED(cudaMallocHost(&from, n * sizeof(int)));
  NEED(cudaMallocHost(&to, n * sizeof(int)));
  fill(from, 3);
  copy<<<kBlocks, 256>>>(from, to, n);
  SHOW(cudaDeviceSynchronize());
  say("%d wrong", wrong(to, 3));
  from[17] = 4;
  copy<<<1, 32>>>(from + 17, to + 16, 1);
  SHOW(cudaDeviceSynchronize());
  say("%d %d", to[16], to[17]);
}

CASE(pointers_in_a_structure) {
  int *from = mapped<int>(n), *to = mapped<int>(n);
  fill(from, 5);
  copy_pair<<<kBlocks, 256>>>({from, to, n});
  SHOW(cudaDeviceSynchronize());
  say("%d wrong", wrong(to, 5));
  Pair* pair = mapped<Pair>(1);
  fill(from, 6);
  *pair = {from, to, n};
  copy_behind<<<kBlocks, 256>>>(pair);
  SHOW(cudaDeviceSynchronize());
  say("%d wrong", wrong(to, 6));
}

CASE(changes_between_launches) {
  int *from = mapped<int>(n), *to = mapped<int>(n);
  for (int i = 0; i < 10; ++i) {
    from[i] = i + 100;
    copy<<<1, 1>>>(from + i, to + i, 1);
  }
  SHOW(cudaDeviceSynchronize());
  bool good = true;
  for (int i = 0; i < 10; ++i) good = good && to[i] == i + 100;
  say("%d", good);
}

CASE(registered_memory) {
  std::vector<int> values(n, 8);
  SHOW(cudaHostRegister(values.data(), n * sizeof(int), cudaHostRegisterMapped));
  increment<<<kBlocks, 256>>>(on_device(values.data()), n);
  SHOW(cudaDeviceSynchronize());
  say("%d wrong", wrong(values.data(), 9));
  increment<<<1, 1>>>(on_device(&values[100]), 1);
  SHOW(cudaDeviceSynchronize());
  say("%d %d", values[100], values[101]);
  SHOW(cudaHostUnregister(values.data()));
  say("%d", values[100]);
}

CASE(copies_of_mapped_memory) {
  int *values = mapped<int>(n), *device = nullptr;
  NEED(cudaMalloc(&device, n * sizeof(int)));
  fill(values, 1);
  increment<<<kBlocks, 256>>>(on_device(values), n);
  SHOW(cudaMemcpyAsync(device, values, n * sizeof(int), cudaMemcpyDefault));
  increment<<<kBlocks, 256>>>(device, n);
  SHOW(cudaMemcpyAsync(values, device, n * sizeof(int), cudaMemcpyDeviceToHost));
  SHOW(cudaStreamSynchronize(nullptr));
  say("%d wrong", wrong(values, 3));
  SHOW(cudaMemcpy(device, values, n * sizeof(int), cudaMemcpyHostToDevice));
  increment<<<kBlocks, 256>>>(device, n);
  SHOW(cudaMemcpy(values, device, n * sizeof(int), cudaMemcpyDeviceToHost));
  say("%d wrong", wrong(values, 4));
  int* other = mapped<int>(n);
  SHOW(cudaMemcpy(other, values, n * sizeof(int), cudaMemcpyHostToHost));
  say("%d wrong", wrong(other, 4));
}

CASE(sets_of_mapped_memory) {
  int* values = mapped<int>(n);
  fill(values, 1);
  increment<<<kBlocks, 256>>>(on_device(values), n);
  SHOW(cudaMemset(values, 0, n * sizeof(int)));
  say("%d wrong", wrong(values, 0));
  increment<<<kBlocks, 256>>>(on_device(values), n);
  SHOW(cudaDeviceSynchronize());
  say("%d wrong", wrong(values, 1));
}

CASE(a_flag_and_an_event) {
  int *values = mapped<int>(n), *flag = mapped<int>(1);
  fill(values, 1);
  *flag = 0;
  cudaEvent_t event;
  NEED(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  increment<<<kBlocks, 256>>>(on_device(values), n);
  increment<<<1, 1>>>(on_device(flag), 1);
  NEED(cudaEventRecord(event));
  SHOW(cudaEventSynchronize(event));
  say("%d, %d wrong", *flag, wrong(values, 2));
}

CASE(freed_while_in_use) {
  int* values = mapped<int>(n);
  fill(values, 1);
  for (int i = 0; i < 20; ++i) increment<<<kBlocks, 256>>>(on_device(values), n);
  SHOW(cudaFreeHost(values));
  SHOW(cudaFreeHost(values));
  SHOW(cudaDeviceSynchronize());
}

CASE(attributes_of_pinned_pointers) {
  int* values = mapped<int>(n);
  cudaPointerAttributes attributes{};
  SHOW(cudaPointerGetAttributes(&attributes, values + 10));
  say("host: %d, device %d", attributes.type == cudaMemoryTypeHost, attributes.device);
  say("%d %d", attributes.devicePointer == values + 10, attributes.hostPointer == values + 10);
  int local = 0;
  SHOW(cudaPointerGetAttributes(&attributes, &local));
  say("unregistered: %d", attributes.type == cudaMemoryTypeUnregistered);
}

CASE(host_allocation_errors) {
  int* memory = nullptr;
  SHOW(cudaHostAlloc(static_cast<int**>(nullptr), 16, 0));
  SHOW(cudaHostAlloc(&memory, 16, 0x100));
  NEED(cudaHostAlloc(&memory, 64, 0));
  int* device = nullptr;
  int local = 0;
  SHOW(cudaHostGetDevicePointer(&device, memory, 1));
  SHOW(cudaHostGetDevicePointer(static_cast<int**>(nullptr), memory, 0));
  SHOW(cudaHostGetDevicePointer(&device, &local, 0));
  unsigned flags = 0;
  SHOW(cudaHostGetFlags(&flags, &local));
  SHOW(cudaHostGetFlags(nullptr, memory));
  SHOW(cudaFree(memory));
  SHOW(cudaFreeHost(memory + 1));
  SHOW(cudaFreeHost(&local));
  SHOW(cudaFreeHost(memory));
  SHOW(cudaFreeHost(nullptr));
}

CASE(registration_errors) {
  std::vector<char> memory(100'000);
  SHOW(cudaHostRegister(nullptr, 100, 0));
  SHOW(cudaHostRegister(memory.data(), 0, 0));
  SHOW(cudaHostRegister(memory.data(), memory.size(), 0x100));
  SHOW(cudaHostRegister(memory.data(), memory.size(), cudaHostRegisterDefault));
  SHOW(cudaHostRegister(memory.data(), memory.size(), cudaHostRegisterDefault));
  SHOW(cudaFreeHost(memory.data()));
  SHOW(cudaHostUnregister(memory.data()));
  SHOW(cudaHostUnregister(memory.data()));
  SHOW(cudaHostUnregister(nullptr));
  int* allocated = nullptr;
  NEED(cudaMallocHost(&allocated, 4096));
  SHOW(cudaHostUnregister(allocated));
}
