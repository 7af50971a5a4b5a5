// The runtime and the driver API in one program share contexts, streams and memory.
#include <cuda.h>

#include "check.h"

__global__ void set(int* cell, int value) { *cell = value; }

#define DRIVER(call) CHECK((call) == CUDA_SUCCESS)

int main() {
  int *cell, host = 0;
  OK(cudaMalloc(&cell, sizeof host));
  CUcontext primary = nullptr, own = nullptr, current = nullptr;
  DRIVER(cuCtxGetCurrent(&primary));
  CHECK(primary != nullptr);
  CUdevice device;
  DRIVER(cuDeviceGet(&device, 0));
  CUdeviceptr more;
  DRIVER(cuMemAlloc(&more, 4));
  set<<<1, 1>>>(reinterpret_cast<int*>(more), 5);
  OK(cudaMemcpy(&host, reinterpret_cast<void*>(more), sizeof host, cudaMemcpyDeviceToHost));
  CHECK(host == 5);
  OK(cudaFree(reinterpret_cast<void*>(more)));

  // A context of the program's own is used while it is current.
  DRIVER(cuCtxCreate(&own, nullptr, 0, device));
  int* there;
  OK(cudaMalloc(&there, sizeof host));
  set<<<1, 1>>>(there, 6);
  OK(cudaMemcpy(&host, there, sizeof host, cudaMemcpyDeviceToHost));
  CHECK(host == 6);
  int ordinal = -1;
  OK(cudaGetDevice(&ordinal));
  CHECK(ordinal == 0);
  DRIVER(cuCtxGetCurrent(&current));
  CHECK(current == own);
  OK(cudaFree(there));
  DRIVER(cuCtxDestroy(own));
  DRIVER(cuCtxSetCurrent(primary));
  set<<<1, 1>>>(cell, 7);
  OK(cudaMemcpy(&host, cell, sizeof host, cudaMemcpyDeviceToHost));
  CHECK(host == 7);
  OK(cudaFree(cell));
  return passed();
}
