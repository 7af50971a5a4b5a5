// Many threads share the device; each launches several kernels and waits for its own stream.
#include <thread>
#include <vector>

#include "check.h"

__global__ void add(int* cell, int by) { *cell += by; }
__global__ void twice(int* cell) { *cell *= 2; }

void work(int id) {
  cudaStream_t stream;
  OK(cudaSetDevice(0));
  OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  int *cell, host = 0;
  OK(cudaMalloc(&cell, sizeof host));
  OK(cudaMemsetAsync(cell, 0, sizeof host, stream));
  int expected = 0;
  for (int i = 0; i < 50; ++i) {
    add<<<1, 1, 0, stream>>>(cell, id + i);
    expected += id + i;
    if (i % 10 == 9) {
      twice<<<1, 1, 0, stream>>>(cell);
      expected *= 2;
    }
  }
  OK(cudaMemcpyAsync(&host, cell, sizeof host, cudaMemcpyDeviceToHost, stream));
  OK(cudaStreamSynchronize(stream));
  CHECK(host == expected);
  OK(cudaFree(cell));
  OK(cudaStreamDestroy(stream));
  CHECK(cudaGetLastError() == cudaSuccess);
}

int main() {
  std::vector<std::thread> threads;
  for (int id = 0; id < 8; ++id) threads.emplace_back(work, id);
  for (std::thread& thread : threads) thread.join();
  return passed();
}
