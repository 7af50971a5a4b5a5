// What kernels are: attributes, occupancy, handles, launches with attributes, driver functions.
#include <cooperative_groups.h>
#include <cuda.h>

#include <cstring>

#include "check.h"

__global__ void __launch_bounds__(128) kernel(int* out, double weight, char last) {
  __shared__ int cells[32];
  cells[threadIdx.x % 32] = static_cast<int>(weight) + last;
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = cells[threadIdx.x % 32];
}

__global__ void big_shared(int* out, int last) {
  extern __shared__ int cells[];
  cells[last] = 17;
  __syncthreads();
  *out = cells[last];
}

__global__ void whole_grid(int* cells, int* out) {
  cells[blockIdx.x] = static_cast<int>(blockIdx.x) + 1;
  cooperative_groups::this_grid().sync();
  if (blockIdx.x == 0) {
    int sum = 0;
    for (unsigned i = 0; i < gridDim.x; ++i) sum += cells[i];
    *out = sum;
  }
}

void attributes() {
  cudaFuncAttributes a;
  OK(cudaFuncGetAttributes(&a, kernel));
  CHECK(a.sharedSizeBytes == 128 && a.maxThreadsPerBlock >= 1 && a.ptxVersion >= 70);
  OK(cudaFuncSetCacheConfig(kernel, cudaFuncCachePreferShared));
  const char* name = nullptr;
  OK(cudaFuncGetName(&name, reinterpret_cast<const void*>(kernel)));
  CHECK(std::strcmp(name, "_Z6kernelPidc") == 0);
  std::size_t offset = 0, bytes = 0;
  OK(cudaFuncGetParamInfo(reinterpret_cast<const void*>(kernel), 2, &offset, &bytes));
  CHECK(offset == 16 && bytes == 1);
  FAILS(cudaErrorInvalidValue,
        cudaFuncGetParamInfo(reinterpret_cast<const void*>(kernel), 3, &offset, &bytes));
  FAILS(cudaErrorInvalidResourceHandle, cudaFuncGetAttributes(&a, static_cast<const void*>(&a)));
}

void occupancy() {
  int blocks = 0;
  OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, 64, 0));
  CHECK(blocks >= 1);
  int with_flags = 0;
  OK(cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(&with_flags, kernel, 64, 0,
                                                            cudaOccupancyDefault));
  CHECK(with_flags == blocks);
  int grid = 0, block = 0;
  OK(cudaOccupancyMaxPotentialBlockSize(&grid, &block, kernel));
  CHECK(grid >= 1 && block >= 32 && block <= 128);
}

void shared_memory_opt_in(int* out) {
  int most = 0, plain = 0;
  OK(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
  OK(cudaDeviceGetAttribute(&plain, cudaDevAttrMaxSharedMemoryPerBlock, 0));
  if (most > plain) {
    big_shared<<<1, 1, most>>>(out, most / 4 - 1);
    CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  }
  OK(cudaFuncSetAttribute(big_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, most));
  big_shared<<<1, 1, most>>>(out, most / 4 - 1);
  int host = 0;
  OK(cudaMemcpy(&host, out, sizeof host, cudaMemcpyDeviceToHost));
  CHECK(host == 17);
  FAILS(cudaErrorInvalidValue,
        cudaFuncSetAttribute(big_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, 1 << 30));
}

void other_launches(int* out) {
  int host = 0;
  double weight = 40;
  char last = 2;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(2);
  config.blockDim = dim3(32);
  OK(cudaLaunchKernelEx(&config, kernel, out, weight, last));
  OK(cudaMemcpy(&host, out + 63, sizeof host, cudaMemcpyDeviceToHost));
  CHECK(host == 42);

  void* arguments[] = {&out, &weight, &last};
  cudaKernel_t handle;
  OK(cudaGetKernel(&handle, kernel));
  last = 3;
  OK(cudaLaunchKernel(reinterpret_cast<const void*>(handle), dim3(1), dim3(32), arguments, 0, nullptr));
  OK(cudaMemcpy(&host, out, sizeof host, cudaMemcpyDeviceToHost));
  CHECK(host == 43);

  int supported = 0;
  OK(cudaDeviceGetAttribute(&supported, cudaDevAttrCooperativeLaunch, 0));
  if (supported != 0) {
    int* sum = out + 63;
    void* cooperative[] = {&out, &sum};
    OK(cudaLaunchCooperativeKernel(whole_grid, dim3(2), dim3(32), cooperative, 0, nullptr));
    OK(cudaMemcpy(&host, sum, sizeof host, cudaMemcpyDeviceToHost));
    CHECK(host == 3);
  }
}

void driver(int* out) {
  cudaFunction_t function;
  OK(cudaGetFuncBySymbol(&function, reinterpret_cast<const void*>(kernel)));
  void* found = nullptr;
  cudaDriverEntryPointQueryResult status;
  OK(cudaGetDriverEntryPointByVersion("cuLaunchKernel", &found, 13000, cudaEnableDefault, &status));
  CHECK(status == cudaDriverEntryPointSuccess && found != nullptr);
  double weight = 50;
  char last = 1;
  void* arguments[] = {&out, &weight, &last};
  const auto launch = reinterpret_cast<decltype(&cuLaunchKernel)>(found);
  CHECK(launch(function, 1, 1, 1, 32, 1, 1, 0, nullptr, arguments, nullptr) == CUDA_SUCCESS);
  int host = 0;
  OK(cudaMemcpy(&host, out, sizeof host, cudaMemcpyDeviceToHost));
  CHECK(host == 51);
  OK(cudaGetDriverEntryPointByVersion("cuNoSuchFunction", &found, 13000, cudaEnableDefault, &status));
  CHECK(status == cudaDriverEntryPointSymbolNotFound && found == nullptr);
  const void* table = nullptr;
  const cudaUUID_t id{};
  CHECK(cudaGetExportTable(&table, &id) != cudaSuccess && cudaGetLastError() != cudaSuccess);
}

int main() {
  int* out;
  OK(cudaMalloc(&out, 64 * sizeof(int)));
  attributes();
  occupancy();
  shared_memory_opt_in(out);
  other_launches(out);
  driver(out);
  OK(cudaFree(out));
  return passed();
}
