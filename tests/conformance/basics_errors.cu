// The errors that any program meets first: before a context, without a device, after a fault.
#include "case.h"

__global__ void store(int* where) { *where = 1; }
__global__ void trap() { asm("trap;"); }

CASE(driver_before_init) {
  int count = 0;
  CUcontext context = nullptr;
  CUdeviceptr memory = 0;
  SHOW(cuDeviceGetCount(&count));
  SHOW(cuCtxGetCurrent(&context));
  SHOW(cuMemAlloc(&memory, 16));
  SHOW(cuInit(1));
  SHOW(cuInit(0));
  SHOW(cuMemAlloc(&memory, 16));
  SHOW(cuDeviceGetCount(nullptr));
}

CASE(devices_out_of_range) {
  NEED(cuInit(0));
  CUdevice device = -1;
  SHOW(cuDeviceGet(&device, -1));
  SHOW(cuDeviceGet(&device, 1000));
  SHOW(cuDeviceGet(nullptr, 0));
  int value = 0;
  SHOW(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 1000));
  SHOW(cuDeviceGetAttribute(&value, static_cast<CUdevice_attribute>(100000), 0));
  SHOW(cudaSetDevice(1000));
  SHOW(cudaGetLastError());
  SHOW(cudaGetLastError());
  SHOW(cudaSetDevice(-1));
}

CASE(last_error_is_kept_and_cleared) {
  SHOW(cudaMalloc(nullptr, 16));
  SHOW(cudaPeekAtLastError());
  SHOW(cudaFree(nullptr));
  SHOW(cudaGetLastError());
  SHOW(cudaGetLastError());
}

CASE(fault_is_sticky) {
  store<<<1, 1>>>(reinterpret_cast<int*>(0x1000));
  SHOW(cudaGetLastError());
  SHOW(cudaDeviceSynchronize());
  SHOW(cudaGetLastError());
  void* memory = nullptr;
  SHOW(cudaMalloc(&memory, 16));
  SHOW(cudaDeviceSynchronize());
  SHOW(cudaPeekAtLastError());
}

CASE(trap_is_a_launch_failure) {
  trap<<<1, 1>>>();
  SHOW(cudaDeviceSynchronize());
  SHOW(cudaStreamQuery(nullptr));
}

CASE(double_free) {
  int* memory = nullptr;
  NEED(cudaMalloc(&memory, 64));
  SHOW(cudaFree(memory));
  SHOW(cudaFree(memory));
  SHOW(cudaMemset(memory, 0, 64));
}
