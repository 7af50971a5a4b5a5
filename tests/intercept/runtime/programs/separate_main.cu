// Separate compilation: the kernel calls a device function of another file.
#include "check.h"

extern __device__ int shared_between_files;
__device__ int triple(int value);

__global__ void kernel(int* out) { *out = triple(13) + shared_between_files; }

int main() {
  int *out, host = 0;
  OK(cudaMalloc(&out, sizeof host));
  kernel<<<1, 1>>>(out);
  OK(cudaMemcpy(&host, out, sizeof host, cudaMemcpyDeviceToHost));
  CHECK(host == 42);
  OK(cudaFree(out));
  return passed();
}
