// A shared library with device code and a static CUDA runtime of its own.
#include <cuda_runtime.h>

__device__ int offset = 11;

__global__ void twice(int* out) { out[threadIdx.x] = static_cast<int>(threadIdx.x) * 2 + offset; }

/// 73 when everything works, else the CUDA error, negative.
extern "C" int compute() {
  int* device = nullptr;
  int host[32] = {};
  if (const cudaError_t error = cudaMalloc(&device, sizeof host)) return -error;
  twice<<<1, 32>>>(device);
  if (const cudaError_t error = cudaMemcpy(host, device, sizeof host, cudaMemcpyDeviceToHost)) return -error;
  if (const cudaError_t error = cudaFree(device)) return -error;
  return host[31];
}
