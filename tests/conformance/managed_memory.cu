// Managed memory: host and device use the same pointers.
#include <fcntl.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "case.h"

__global__ void add(const float* a, const float* b, float* sum, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) sum[i] = a[i] + b[i];
}
__global__ void increment(int* values, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) ++values[i];
}

struct Node {
  int value;
  Node* next;
};
__global__ void total(Node* node, int* sum) {
  *sum = 0;
  for (; node != nullptr; node = node->next) {
    *sum += node->value;
    node->value *= 10;
  }
}

namespace {

template <class T>
T* managed(std::size_t count) {
  T* memory = nullptr;
  NEED(cudaMallocManaged(&memory, count * sizeof(T)));
  return memory;
}

int wrong(const int* values, int n, int expected) {
  int count = 0;
  for (int i = 0; i < n; ++i) count += values[i] != expected;
  return count;
}

}  // namespace

CASE(vector_add) {
  constexpr int n = 100'000;
  float *a = managed<float>(n), *b = managed<float>(n), *sum = managed<float>(n);
  for (int i = 0; i < n; ++i) {
    a[i] = static_cast<float>(i);
    b[i] = 2;
  }
  add<<<(n + 255) / 256, 256>>>(a, b, sum, n);
  SHOW(cudaDeviceSynchronize());
  int bad = 0;
  for (int i = 0; i < n; ++i) bad += sum[i] != static_cast<float>(i) + 2;
  say("%d wrong", bad);
}

CASE(list_with_pointers_inside) {
  Node* head = nullptr;
  for (int i = 1; i <= 100; ++i) {
    Node* node = managed<Node>(1);
    *node = {i, head};
    head = node;
  }
  int* sum = managed<int>(1);
  total<<<1, 1>>>(head, sum);
  SHOW(cudaDeviceSynchronize());
  say("sum %d, first %d, second %d", *sum, head->value, head->next->value);
  head->value = 1;
  total<<<1, 1>>>(head, sum);
  SHOW(cudaDeviceSynchronize());
  say("sum %d, first %d", *sum, head->value);
}

CASE(turns_of_host_and_device) {
  constexpr int n = 1000;
  int* values = managed<int>(n);
  for (int i = 0; i < n; ++i) values[i] = 0;
  for (int turn = 0; turn < 10; ++turn) {
    increment<<<4, 256>>>(values, n);
    NEED(cudaDeviceSynchronize());
    for (int i = 0; i < n; ++i) values[i] += 1;
  }
  say("%d wrong", wrong(values, n, 20));
}

CASE(a_file_is_read_into_it) {
  char path[] = "/tmp/conformance-XXXXXX";
  const int file = mkstemp(path);
  unlink(path);
  std::vector<int> numbers(50'000, 41);
  say("%d", write(file, numbers.data(), 200'000) == 200'000);
  int* values = managed<int>(50'000);
  say("%d", pread(file, values, 200'000, 0) == 200'000);
  increment<<<196, 256>>>(values, 50'000);
  NEED(cudaDeviceSynchronize());
  say("%d wrong", wrong(values, 50'000, 42));
  say("%d", pwrite(file, values, 200'000, 0) == 200'000);
  say("%d", pread(file, numbers.data(), 200'000, 0) == 200'000);
  say("%d wrong", wrong(numbers.data(), 50'000, 42));
}

CASE(copies) {
  constexpr int n = 5000;
  int *first = managed<int>(n), *second = managed<int>(n), *device = nullptr;
  std::vector<int> host(n, 7);
  NEED(cudaMalloc(&device, n * sizeof(int)));
  SHOW(cudaMemcpy(first, host.data(), n * sizeof(int), cudaMemcpyHostToDevice));
  say("%d wrong", wrong(first, n, 7));
  increment<<<20, 256>>>(first, n);
  SHOW(cudaMemcpy(second, first, n * sizeof(int), cudaMemcpyDefault));
  NEED(cudaDeviceSynchronize());
  say("%d wrong", wrong(second, n, 8));
  increment<<<20, 256>>>(second, n);
  SHOW(cudaMemcpy(host.data(), second, n * sizeof(int), cudaMemcpyDeviceToHost));
  say("%d wrong", wrong(host.data(), n, 9));
  SHOW(cudaMemcpy(device, second, n * sizeof(int), cudaMemcpyDefault));
  increment<<<20, 256>>>(device, n);
  SHOW(cudaMemcpyAsync(first, device, n * sizeof(int), cudaMemcpyDefault));
  increment<<<20, 256>>>(first, n);
  SHOW(cudaStreamSynchronize(nullptr));
  say("%d wrong", wrong(first, n, 11));
  SHOW(cudaMemcpyAsync(host.data(), first, n * sizeof(int), cudaMemcpyDefault));
  SHOW(cudaStreamSynchronize(nullptr));
  say("%d wrong", wrong(host.data(), n, 11));
}

CASE(sets) {
  constexpr int n = 5000;
  int* values = managed<int>(n);
  SHOW(cudaMemset(values, 0, n * sizeof(int)));
  say("%d wrong", wrong(values, n, 0));
  values[0] = 0;
  SHOW(cudaMemsetAsync(values, 1, n * sizeof(int)));
  increment<<<20, 256>>>(values, n);
  SHOW(cudaDeviceSynchronize());
  say("%d wrong", wrong(values, n, 0x01010102));
  SHOW(cuMemsetD32(reinterpret_cast<CUdeviceptr>(values), 5, n));
  say("%d wrong", wrong(values, n, 5));
}

CASE(a_copy_synchronises_the_default_stream) {
  constexpr int n = 5000;
  int *values = managed<int>(n), *device = nullptr, one = 1;
  NEED(cudaMalloc(&device, sizeof(int)));
  for (int i = 0; i < n; ++i) values[i] = 3;
  increment<<<20, 256>>>(values, n);
  SHOW(cudaMemcpy(&one, device, sizeof one, cudaMemcpyDeviceToHost));
  say("%d wrong", wrong(values, n, 4));
}

CASE(events) {
  constexpr int n = 5000;
  int* values = managed<int>(n);
  for (int i = 0; i < n; ++i) values[i] = 3;
  cudaStream_t stream;
  cudaEvent_t event;
  NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  NEED(cudaEventCreate(&event));
  increment<<<20, 256, 0, stream>>>(values, n);
  NEED(cudaEventRecord(event, stream));
  SHOW(cudaEventSynchronize(event));
  say("%d wrong", wrong(values, n, 4));
  increment<<<20, 256, 0, stream>>>(values, n);
  NEED(cudaEventRecord(event, stream));
  while (cudaEventQuery(event) == cudaErrorNotReady) usleep(1000);
  say("%d wrong", wrong(values, n, 5));
  increment<<<20, 256, 0, stream>>>(values, n);
  while (cudaStreamQuery(stream) == cudaErrorNotReady) usleep(1000);
  say("%d wrong", wrong(values, n, 6));
}

CASE(two_streams) {
  constexpr int n = 5000;
  int *a = managed<int>(n), *b = managed<int>(n);
  for (int i = 0; i < n; ++i) a[i] = b[i] = 0;
  cudaStream_t one, two;
  NEED(cudaStreamCreateWithFlags(&one, cudaStreamNonBlocking));
  NEED(cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking));
  for (int i = 0; i < 5; ++i) {
    increment<<<20, 256, 0, one>>>(a, n);
    increment<<<20, 256, 0, two>>>(b, n);
  }
  SHOW(cudaStreamSynchronize(one));
  SHOW(cudaStreamSynchronize(two));
  say("%d wrong, %d wrong", wrong(a, n, 5), wrong(b, n, 5));
}

CASE(a_host_function_sees_it) {
  constexpr int n = 5000;
  struct Seen {
    int *values, wrong;
  } seen{managed<int>(n), -1};
  for (int i = 0; i < n; ++i) seen.values[i] = 1;
  increment<<<20, 256>>>(seen.values, n);
  SHOW(cudaLaunchHostFunc(nullptr, [](void* data) {
    Seen& seen = *static_cast<Seen*>(data);
    seen.wrong = wrong(seen.values, n, 2);
  }, &seen));
  SHOW(cudaStreamSynchronize(nullptr));
  say("%d wrong", seen.wrong);
}

CASE(threads) {
  constexpr int n = 5000;
  int result[4];
  std::thread threads[4];
  for (int t = 0; t < 4; ++t) {
    threads[t] = std::thread([&, t] {
      int* values = managed<int>(n);
      cudaStream_t stream;
      NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
      for (int i = 0; i < n; ++i) values[i] = t;
      for (int i = 0; i < 10; ++i) increment<<<20, 256, 0, stream>>>(values, n);
      NEED(cudaStreamSynchronize(stream));
      result[t] = wrong(values, n, t + 10);
      NEED(cudaFree(values));
    });
  }
  for (auto& thread : threads) thread.join();
  say("%d %d %d %d wrong", result[0], result[1], result[2], result[3]);
}

CASE(one_byte_of_many) {
  constexpr std::size_t bytes = 64u << 20;
  char* memory = managed<char>(bytes);
  increment<<<1, 32>>>(reinterpret_cast<int*>(memory), 1);
  NEED(cudaDeviceSynchronize());
  int before = 0;
  std::memcpy(&before, memory, sizeof before);
  memory[bytes - 1] = 42;
  memory[bytes / 2] = 41;
  increment<<<1, 32>>>(reinterpret_cast<int*>(memory), 1);
  NEED(cudaDeviceSynchronize());
  int after = 0;
  std::memcpy(&after, memory, sizeof after);
  say("%d %d %d", memory[bytes - 1], memory[bytes / 2], after - before);
}

CASE(freed_memory_comes_back) {
  for (int turn = 0; turn < 3; ++turn) {
    constexpr int n = 1 << 20;
    int* values = managed<int>(n);
    for (int i = 0; i < n; i += 1000) values[i] = turn;
    increment<<<n / 256, 256>>>(values, n);
    NEED(cudaDeviceSynchronize());
    int bad = 0;
    for (int i = 0; i < n; i += 1000) bad += values[i] != turn + 1;
    say("%d wrong", bad);
    NEED(cudaFree(values));
  }
}

CASE(allocation_errors) {
  int* memory = nullptr;
  SHOW(cudaMallocManaged(static_cast<int**>(nullptr), 16));
  SHOW(cudaMallocManaged(&memory, 0));
  SHOW(cudaMallocManaged(&memory, 16, 0));
  SHOW(cudaMallocManaged(&memory, 16, cudaMemAttachSingle));
  SHOW(cudaMallocManaged(&memory, 16, cudaMemAttachHost));
  SHOW(cudaFree(memory));
  SHOW(cudaFree(memory));
  NEED(cudaMallocManaged(&memory, 16));
  SHOW(cudaFree(memory + 1));
  SHOW(cudaFreeHost(memory));
  SHOW(cudaFree(memory));
  CUdeviceptr address = 0;
  SHOW(cuMemAllocManaged(&address, 0, CU_MEM_ATTACH_GLOBAL));
  SHOW(cuMemAllocManaged(&address, 16, 0));
  SHOW(cuMemAllocManaged(nullptr, 16, CU_MEM_ATTACH_GLOBAL));
}
