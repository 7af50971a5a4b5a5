// After cudaDeviceReset everything can be used again, from any thread.
#include <thread>

#include "check.h"

__device__ int variable = 3;
__global__ void read(int* out) { *out = variable; }

int read_once() {
  int *out, host = 0;
  OK(cudaMalloc(&out, 4));
  read<<<1, 1>>>(out);
  OK(cudaMemcpy(&host, out, 4, cudaMemcpyDeviceToHost));
  OK(cudaFree(out));
  return host;
}

int main() {
  CHECK(read_once() == 3);
  const int changed = 8;
  OK(cudaMemcpyToSymbol(variable, &changed, sizeof changed));
  CHECK(read_once() == 8);
  OK(cudaDeviceReset());
  CHECK(read_once() == 3);
  std::thread([] {
    CHECK(read_once() == 3);
    OK(cudaDeviceReset());
    CHECK(read_once() == 3);
  }).join();
  CHECK(read_once() == 3);
  return passed();
}
