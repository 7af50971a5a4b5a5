// A kernel's fault is reported by the next call that waits, and stays.
#include "check.h"

__global__ void store(int* where) { *where = 1; }

int main() {
  int* cell;
  OK(cudaMalloc(&cell, 4));
  store<<<1, 1>>>(reinterpret_cast<int*>(16));
  CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
  CHECK(cudaGetLastError() == cudaErrorIllegalAddress);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(cudaMemset(cell, 0, 4) == cudaErrorIllegalAddress);
  int host = 0;
  CHECK(cudaMemcpy(&host, cell, 4, cudaMemcpyDeviceToHost) == cudaErrorIllegalAddress);
  std::puts("ok");
  return 0;
}
