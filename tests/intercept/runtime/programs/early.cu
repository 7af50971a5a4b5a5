// CUDA before main and after it: constructors and destructors of global objects.
#include "check.h"

__global__ void set(int* cell, int value) { *cell = value; }

struct Early {
  Early() {
    OK(cudaMalloc(&cell, sizeof(int)));
    set<<<1, 1>>>(cell, 11);
    OK(cudaMemcpy(&seen, cell, sizeof seen, cudaMemcpyDeviceToHost));
  }
  ~Early() {
    set<<<1, 1>>>(cell, 12);
    int late = 0;
    const cudaError_t error = cudaMemcpy(&late, cell, sizeof late, cudaMemcpyDeviceToHost);
    // Natively the runtime may already be unloading here.
    CHECK(error == cudaErrorCudartUnloading || (error == cudaSuccess && late == 12));
    cudaFree(cell);
  }
  int* cell = nullptr;
  int seen = 0;
};

Early early;

int main() {
  CHECK(early.seen == 11);
  return passed();
}
