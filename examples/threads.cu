// Several host threads, each with its own stream and memory, use the device at once; one of
// them makes a mistake, which only it must see.
#include <atomic>
#include <thread>
#include <vector>

#include "check.h"

__global__ void fill(unsigned* values, int count, unsigned seed) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) values[i] = (i ^ seed) * 2654435761u;
}

int main() {
  constexpr int kThreads = 8, kRounds = 20, kCount = 4096;
  CUDA_CHECK(cudaFree(nullptr));
  std::atomic<int> wrong{0}, mistakes_seen{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      cudaStream_t stream;
      CUDA_CHECK(cudaStreamCreate(&stream));
      unsigned* device;
      CUDA_CHECK(cudaMalloc(&device, sizeof(unsigned) * kCount));
      std::vector<unsigned> host(kCount);
      for (int round = 0; round < kRounds; ++round) {
        const unsigned seed = t * 1000 + round;
        fill<<<kCount / 128, 128, 0, stream>>>(device, kCount, seed);
        CUDA_CHECK(cudaMemcpyAsync(host.data(), device, sizeof(unsigned) * kCount, cudaMemcpyDeviceToHost, stream));
        CUDA_CHECK(cudaStreamSynchronize(stream));
        for (int i = 0; i < kCount; ++i) wrong += host[i] != (i ^ seed) * 2654435761u;
      }
      if (t == 3) {  // 2,048 threads in a block are too many: an error of this thread alone
        fill<<<1, 2048, 0, stream>>>(device, kCount, 0);
        mistakes_seen += cudaGetLastError() == cudaErrorInvalidValue;
      }
      mistakes_seen += 100 * (cudaGetLastError() != cudaSuccess);
      CUDA_CHECK(cudaFree(device));
      CUDA_CHECK(cudaStreamDestroy(stream));
    });
  for (std::thread& thread : threads) thread.join();
  std::printf("%d threads, %d rounds each: %d wrong values, %d mistake noticed\n", kThreads, kRounds, wrong.load(),
              mistakes_seen.load());
  return wrong == 0 && mistakes_seen == 1 ? 0 : 1;
}
