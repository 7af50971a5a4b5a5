// A kernel that never ends; the host waits for it and names the error it gets.
#include "check.h"

__global__ void wait_for(volatile int* flag) {
  while (*flag == 0) {
  }
}

int main() {
  int* flag;
  CUDA_CHECK(cudaMalloc(&flag, sizeof(int)));
  CUDA_CHECK(cudaMemset(flag, 0, sizeof(int)));
  wait_for<<<1, 1>>>(flag);
  CUDA_CHECK(cudaGetLastError());
  std::printf("waiting\n");
  std::fflush(stdout);
  CUDA_CHECK(cudaDeviceSynchronize());
  return 0;
}
