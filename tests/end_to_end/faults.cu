// Kernel faults give CUDA's errors, sticky, and cudaDeviceReset ends them.
#include "check.h"

__global__ void write_to(int* where) { *where = 1; }
__global__ void stop() { __trap(); }

bool expect(const char* what, cudaError_t got, cudaError_t wanted) {
  if (got == wanted) return true;
  std::printf("%s: %s instead of %s\n", what, cudaGetErrorName(got), cudaGetErrorName(wanted));
  return false;
}

int main() {
  bool right = true;
  void* memory;
  CUDA_CHECK(cudaMalloc(&memory, 64));

  write_to<<<1, 1>>>(reinterpret_cast<int*>(0x1000));
  right &= expect("launch of a bad write", cudaGetLastError(), cudaSuccess);
  right &= expect("synchronise after a bad write", cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  right &= expect("any call afterwards", cudaMalloc(&memory, 64), cudaErrorIllegalAddress);
  right &= expect("last error stays", cudaGetLastError(), cudaErrorIllegalAddress);
  right &= expect("last error stays", cudaGetLastError(), cudaErrorIllegalAddress);
  CUDA_CHECK(cudaDeviceReset());

  CUDA_CHECK(cudaMalloc(&memory, 64));
  stop<<<1, 1>>>();
  right &= expect("synchronise after a trap", cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  CUDA_CHECK(cudaDeviceReset());

  CUDA_CHECK(cudaMalloc(&memory, 64));
  write_to<<<1, 1>>>(static_cast<int*>(memory));
  CUDA_CHECK(cudaDeviceSynchronize());
  int value = 0;
  CUDA_CHECK(cudaMemcpy(&value, memory, sizeof value, cudaMemcpyDeviceToHost));
  right &= value == 1;

  write_to<<<0, 1>>>(static_cast<int*>(memory));
  right &= expect("an empty grid", cudaGetLastError(), cudaErrorInvalidConfiguration);
  right &= expect("a bad copy", cudaMemcpy(memory, &value, 1 << 30, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  right &= expect("a second free", (CUDA_CHECK(cudaFree(memory)), cudaFree(memory)), cudaErrorInvalidValue);
  std::printf("%s\n", right ? "all errors are CUDA's" : "WRONG");
  return right ? 0 : 1;
}
