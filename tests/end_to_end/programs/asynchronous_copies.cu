// Bitonic sort; asynchronous copies to shared memory through groups and pipelines.
#include <cooperative_groups.h>
#include <cooperative_groups/memcpy_async.h>
#include <cuda_pipeline.h>

#include <cuda/pipeline>

#include "program.h"
namespace cg = cooperative_groups;
__global__ void bitonicShared(unsigned* d, int dir) {
  __shared__ unsigned s[1024];
  int t = threadIdx.x;
  s[t] = d[blockIdx.x * 1024 + t];
  s[t + 512] = d[blockIdx.x * 1024 + t + 512];
  for (int size = 2; size <= 1024; size <<= 1) {
    int dd = dir ^ ((t & (size / 2)) != 0);
    for (int st = size / 2; st > 0; st >>= 1) {
      __syncthreads();
      int pos = 2 * t - (t & (st - 1));
      unsigned a = s[pos], b = s[pos + st];
      if ((a > b) == (size == 1024 ? dir : dd)) {
        s[pos] = b;
        s[pos + st] = a;
      }
    }
  }
  __syncthreads();
  d[blockIdx.x * 1024 + t] = s[t];
  d[blockIdx.x * 1024 + t + 512] = s[t + 512];
}
__global__ void bitonicGlobal(unsigned* d, int j, int k) {
  unsigned i = blockIdx.x * blockDim.x + threadIdx.x, x = i ^ j;
  if (x > i) {
    if (((i & k) == 0) == (d[i] > d[x])) {
      unsigned t = d[i];
      d[i] = d[x];
      d[x] = t;
    }
  }
}
__global__ void acopy(const int* in, int* out) {
  __shared__ int s[256];
  auto b = cg::this_thread_block();
  cg::memcpy_async(b, s, in, sizeof s);
  cg::wait(b);
  out[threadIdx.x] = s[255 - threadIdx.x];
  b.sync();
  __pipeline_memcpy_async(&s[threadIdx.x], in + threadIdx.x, 4);
  __pipeline_commit();
  __pipeline_wait_prior(0);
  __syncthreads();
  out[256 + threadIdx.x] = s[threadIdx.x ^ 1];
  b.sync();
  __shared__ alignas(16) int v[256];
  if (threadIdx.x < 64) __pipeline_memcpy_async(&v[threadIdx.x * 4], in + threadIdx.x * 4, 16);
  __pipeline_commit();
  __pipeline_wait_prior(0);
  __syncthreads();
  out[512 + threadIdx.x] = v[threadIdx.x] * 2;
}
__global__ void cpipe(const int* in, int* out) {
  auto p = cuda::make_pipeline();
  __shared__ int s[2][128];
  auto b = cg::this_thread_block();
  p.producer_acquire();
  cuda::memcpy_async(&s[0][threadIdx.x], in + threadIdx.x, 4, p);
  p.producer_commit();
  p.producer_acquire();
  cuda::memcpy_async(&s[1][threadIdx.x], in + 128 + threadIdx.x, 4, p);
  p.producer_commit();
  cuda::pipeline_consumer_wait_prior<1>(p);
  out[threadIdx.x] = s[0][threadIdx.x];
  p.consumer_release();
  cuda::pipeline_consumer_wait_prior<0>(p);
  out[128 + threadIdx.x] = s[1][threadIdx.x];
  p.consumer_release();
}
int main() {
  int n = 4096;
  std::vector<unsigned> h(n), r(n);
  for (int i = 0; i < n; i++) h[i] = i * 2654435761u;
  unsigned* d;
  CUDA_CHECK(cudaMalloc(&d, n * 4));
  CUDA_CHECK(cudaMemcpy(d, h.data(), n * 4, cudaMemcpyHostToDevice));
  bitonicShared<<<4, 512>>>(d, 1);
  CUDA_CHECK(cudaMemcpy(r.data(), d, n * 4, cudaMemcpyDeviceToHost));
  for (int b = 0; b < 4; b++) EXPECT(std::is_sorted(r.begin() + b * 1024, r.begin() + b * 1024 + 1024));
  for (int k = 2; k <= n; k <<= 1)
    for (int j = k >> 1; j; j >>= 1) bitonicGlobal<<<n / 256, 256>>>(d, j, k);
  CUDA_CHECK(cudaMemcpy(r.data(), d, n * 4, cudaMemcpyDeviceToHost));
  std::sort(h.begin(), h.end());
  EXPECT(r == h);
  std::vector<int> in(256), o(768);
  std::iota(in.begin(), in.end(), 5);
  int *a, *b;
  CUDA_CHECK(cudaMalloc(&a, 1024));
  CUDA_CHECK(cudaMalloc(&b, 4096));
  CUDA_CHECK(cudaMemcpy(a, in.data(), 1024, cudaMemcpyHostToDevice));
  acopy<<<1, 256>>>(a, b);
  CUDA_CHECK(cudaGetLastError());
  CUDA_CHECK(cudaMemcpy(o.data(), b, 3072, cudaMemcpyDeviceToHost));
  for (int i = 0; i < 256; i++)
    EXPECT(o[i] == in[255 - i] && o[256 + i] == in[i ^ 1] && o[512 + i] == in[i] * 2);
  CUDA_CHECK(cudaMemset(b, 0, 1024));
  cpipe<<<1, 128>>>(a, b);
  CUDA_CHECK(cudaMemcpy(o.data(), b, 1024, cudaMemcpyDeviceToHost));
  for (int i = 0; i < 256; i++) EXPECT(o[i] == in[i]);
  std::puts("passed");
}
