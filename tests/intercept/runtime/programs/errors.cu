// Which calls set the error of the thread, and which clear it.
#include <cstring>
#include <thread>

#include "check.h"

__global__ void kernel(int* out) { *out = 1; }

__global__ void __launch_bounds__(64) at_most_64(int* out) { *out = static_cast<int>(threadIdx.x); }

int not_a_kernel() { return 3; }

int main() {
  CHECK(std::strcmp(cudaGetErrorName(cudaErrorInvalidValue), "cudaErrorInvalidValue") == 0);
  CHECK(std::strcmp(cudaGetErrorString(cudaErrorInvalidValue), "invalid argument") == 0);
  CHECK(std::strcmp(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory") == 0);
  CHECK(std::strcmp(cudaGetErrorString(static_cast<cudaError_t>(12345)), "unrecognized error code") == 0);

  // An error stays until it is asked for; successes in between do not clear it.
  int* out;
  OK(cudaMalloc(&out, 4));
  CHECK(cudaSetDevice(1000) == cudaErrorInvalidDevice);
  CHECK(cudaMemset(out, 0, 4) == cudaSuccess);
  CHECK(cudaPeekAtLastError() == cudaErrorInvalidDevice);
  CHECK(cudaGetLastError() == cudaErrorInvalidDevice);
  CHECK(cudaGetLastError() == cudaSuccess);

  // It belongs to the thread.
  CHECK(cudaMalloc(static_cast<void**>(nullptr), 4) == cudaErrorInvalidValue);
  std::thread([] { CHECK(cudaGetLastError() == cudaSuccess); }).join();
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);

  kernel<<<0, 1>>>(out);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  kernel<<<1, 2048>>>(out);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  kernel<<<dim3(1, 70000), 1>>>(out);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  kernel<<<1, 1, 1 << 24>>>(out);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  at_most_64<<<1, 65>>>(out);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  kernel<<<1, 1>>>(out);
  OK(cudaDeviceSynchronize());

  void* arguments[] = {&out};
  FAILS(cudaErrorInvalidResourceHandle, cudaLaunchKernel(reinterpret_cast<const void*>(not_a_kernel), dim3(1),
                                                         dim3(1), arguments, 0, nullptr));
  FAILS(cudaErrorInvalidDeviceFunction, cudaLaunchKernel(nullptr, dim3(1), dim3(1), arguments, 0, nullptr));
  FAILS(cudaErrorInvalidDevice, cudaSetDevice(-1));
  cudaDeviceProp properties;
  FAILS(cudaErrorInvalidDevice, cudaGetDeviceProperties(&properties, 99));
  // What is not remoted says so; natively it works.
  void* managed = nullptr;
  cudaGraph_t graph;
  const cudaError_t managed_result = cudaMallocManaged(&managed, 16), graph_result = cudaGraphCreate(&graph, 0);
  CHECK(managed_result == cudaErrorNotSupported || managed_result == cudaSuccess);
  CHECK(graph_result == cudaErrorNotSupported || graph_result == cudaSuccess);
  cudaGetLastError();
  OK(cudaFree(out));
  return passed();
}
