// Errors are CUDA's own: `faults address|trap|arguments`. A kernel's fault is sticky and ends the
// process's use of the device; a bad argument is an error of one call.
#include <cstring>

#include "check.h"

__global__ void write_to(int* where) { *where = 1; }
__global__ void stop() { __trap(); }

namespace {

bool right = true;

void expect(const char* what, cudaError_t got, cudaError_t wanted) {
  if (got == wanted) return;
  std::printf("%s: %s instead of %s\n", what, cudaGetErrorName(got), cudaGetErrorName(wanted));
  right = false;
}

void sticky(cudaError_t error) {
  void* memory;
  expect("launch", cudaGetLastError(), cudaSuccess);
  expect("synchronise", cudaDeviceSynchronize(), error);
  expect("a later allocation", cudaMalloc(&memory, 64), error);
  expect("the last error", cudaGetLastError(), error);
  expect("the last error, taken", cudaGetLastError(), cudaSuccess);
  expect("synchronise again", cudaDeviceSynchronize(), error);
}

void arguments(int* memory) {
  int value = 0;
  write_to<<<1, 1>>>(memory);
  expect("a copy", cudaMemcpy(&value, memory, sizeof value, cudaMemcpyDeviceToHost), cudaSuccess);
  if (value != 1) right = false;
  write_to<<<0, 1>>>(memory);
  expect("an empty grid", cudaGetLastError(), cudaErrorInvalidValue);
  write_to<<<1, 1025>>>(memory);
  expect("a block too large", cudaGetLastError(), cudaErrorInvalidValue);
  expect("no error is left", cudaGetLastError(), cudaSuccess);
  expect("a device that is none", cudaSetDevice(1000), cudaErrorInvalidDevice);
  expect("a negative size", cudaMalloc(reinterpret_cast<void**>(&memory), size_t(1) << 60), cudaErrorMemoryAllocation);
  expect("it is kept", cudaPeekAtLastError(), cudaErrorMemoryAllocation);
  expect("and taken", cudaGetLastError(), cudaErrorMemoryAllocation);
  expect("once", cudaGetLastError(), cudaSuccess);
}

}  // namespace

int main(int argc, char** argv) {
  const char* which = argc > 1 ? argv[1] : "";
  int* memory;
  CUDA_CHECK(cudaMalloc(&memory, 64));
  if (std::strcmp(which, "address") == 0) {
    write_to<<<1, 1>>>(reinterpret_cast<int*>(0x1000));
    sticky(cudaErrorIllegalAddress);
  } else if (std::strcmp(which, "trap") == 0) {
    stop<<<1, 1>>>();
    sticky(cudaErrorLaunchFailure);
  } else if (std::strcmp(which, "arguments") == 0) {
    arguments(memory);
  } else {
    std::fprintf(stderr, "usage: faults address|trap|arguments\n");
    return 2;
  }
  std::printf("%s\n", right ? "all errors are CUDA's" : "WRONG");
  return right ? 0 : 1;
}
