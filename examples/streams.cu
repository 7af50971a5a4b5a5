// Several streams and events: each stage of a pipeline runs in its own stream, ordered only by
// events, over pinned memory.
#include <vector>

#include "check.h"

__global__ void scale(int* values, int count, int factor) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) values[i] *= factor;
}

__global__ void sum(const int* values, int count, unsigned long long* total) {
  unsigned long long mine = 0;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) mine += values[i];
  for (int step = 16; step > 0; step /= 2) mine += __shfl_down_sync(0xffffffffu, mine, step);
  if (threadIdx.x % 32 == 0) atomicAdd(total, mine);
}

int main() {
  constexpr int kBatches = 6, kCount = 100'000;
  cudaStream_t copy_in, compute, copy_out;
  CUDA_CHECK(cudaStreamCreateWithFlags(&copy_in, cudaStreamNonBlocking));
  CUDA_CHECK(cudaStreamCreateWithFlags(&compute, cudaStreamNonBlocking));
  CUDA_CHECK(cudaStreamCreateWithPriority(&copy_out, cudaStreamNonBlocking, 0));
  cudaEvent_t begin, end;
  CUDA_CHECK(cudaEventCreate(&begin));
  CUDA_CHECK(cudaEventCreate(&end));

  int* host;
  unsigned long long* totals;
  CUDA_CHECK(cudaMallocHost(&host, sizeof(int) * kBatches * kCount));
  CUDA_CHECK(cudaMallocHost(&totals, sizeof(unsigned long long) * kBatches));
  for (int i = 0; i < kBatches * kCount; ++i) host[i] = i % 97;

  int* device;
  unsigned long long* device_totals;
  CUDA_CHECK(cudaMalloc(&device, sizeof(int) * kBatches * kCount));
  CUDA_CHECK(cudaMalloc(&device_totals, sizeof(unsigned long long) * kBatches));
  CUDA_CHECK(cudaMemset(device_totals, 0, sizeof(unsigned long long) * kBatches));
  CUDA_CHECK(cudaDeviceSynchronize());

  std::vector<cudaEvent_t> arrived(kBatches), computed(kBatches);
  CUDA_CHECK(cudaEventRecord(begin, copy_in));
  for (int b = 0; b < kBatches; ++b) {
    CUDA_CHECK(cudaEventCreateWithFlags(&arrived[b], cudaEventDisableTiming));
    CUDA_CHECK(cudaEventCreateWithFlags(&computed[b], cudaEventDisableTiming));
    int* part = device + b * kCount;
    CUDA_CHECK(cudaMemcpyAsync(part, host + b * kCount, sizeof(int) * kCount, cudaMemcpyHostToDevice, copy_in));
    CUDA_CHECK(cudaEventRecord(arrived[b], copy_in));
    CUDA_CHECK(cudaStreamWaitEvent(compute, arrived[b]));
    scale<<<32, 128, 0, compute>>>(part, kCount, b + 1);
    sum<<<32, 128, 0, compute>>>(part, kCount, device_totals + b);
    CUDA_CHECK(cudaEventRecord(computed[b], compute));
    CUDA_CHECK(cudaStreamWaitEvent(copy_out, computed[b]));
    CUDA_CHECK(cudaMemcpyAsync(totals + b, device_totals + b, sizeof(unsigned long long), cudaMemcpyDeviceToHost, copy_out));
  }
  CUDA_CHECK(cudaEventRecord(end, copy_out));
  CUDA_CHECK(cudaEventSynchronize(end));
  float milliseconds = -1;
  CUDA_CHECK(cudaEventElapsedTime(&milliseconds, begin, end));

  bool right = milliseconds >= 0 && cudaStreamQuery(copy_out) == cudaSuccess;
  for (int b = 0; b < kBatches; ++b) {
    unsigned long long expected = 0;
    for (int i = 0; i < kCount; ++i) expected += static_cast<unsigned long long>((b * kCount + i) % 97) * (b + 1);
    std::printf("batch %d: sum %llu\n", b, totals[b]);
    right = right && totals[b] == expected;
    CUDA_CHECK(cudaEventDestroy(arrived[b]));
    CUDA_CHECK(cudaEventDestroy(computed[b]));
  }
  std::printf("%s\n", right ? "all sums are right" : "WRONG");
  CUDA_CHECK(cudaFree(device));
  CUDA_CHECK(cudaFree(device_totals));
  CUDA_CHECK(cudaFreeHost(host));
  CUDA_CHECK(cudaFreeHost(totals));
  CUDA_CHECK(cudaStreamDestroy(copy_in));
  CUDA_CHECK(cudaStreamDestroy(compute));
  CUDA_CHECK(cudaStreamDestroy(copy_out));
  CUDA_CHECK(cudaEventDestroy(begin));
  CUDA_CHECK(cudaEventDestroy(end));
  return right ? 0 : 1;
}
