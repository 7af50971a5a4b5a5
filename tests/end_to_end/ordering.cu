// A synchronous copy to the device has been done when it returns, also for a stream that does not
// wait for the default stream.
#include <cstdio>

#include "check.h"

__global__ void sum(const int* values, int count, int* out) {
  int total = 0;
  for (int i = 0; i < count; ++i) total += values[i];
  *out = total;
}

int main() {
  constexpr int kCount = 1 << 16, kRounds = 60;
  cudaStream_t stream;
  CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  int *host, *values, *out;
  CUDA_CHECK(cudaMallocHost(&host, kCount * sizeof(int)));
  CUDA_CHECK(cudaMalloc(&values, kCount * sizeof(int)));
  CUDA_CHECK(cudaMalloc(&out, sizeof(int)));
  int wrong = 0;
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < kCount; ++i) host[i] = round;
    CUDA_CHECK(cudaMemcpy(values, host, kCount * sizeof(int), cudaMemcpyHostToDevice));
    sum<<<1, 1, 0, stream>>>(values, kCount, out);
    int total = 0;
    CUDA_CHECK(cudaMemcpyAsync(&total, out, sizeof total, cudaMemcpyDeviceToHost, stream));
    CUDA_CHECK(cudaStreamSynchronize(stream));
    wrong += total != round * kCount;
  }
  std::printf("%d of %d rounds saw older values\n", wrong, kRounds);
  return wrong != 0;
}
