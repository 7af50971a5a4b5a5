// Atomics and barriers of libcu++.
#include <cuda/atomic>
#include <cuda/barrier>
#include <cuda/semaphore>
#include <cuda/std/array>
#include <cuda/std/bit>
#include <cuda/std/chrono>
#include <cuda/std/cmath>
#include <cuda/std/complex>
#include <cuda/std/optional>
#include <cuda/std/span>
#include <cuda/std/tuple>

#include "program.h"
__device__ cuda::atomic<int, cuda::thread_scope_device> ctr{0};
__global__ void k(int* o, float* z) {
  cuda::std::array<int, 4> a{1, 2, 3, 4};
  int s = 0;
  for (int x : a) s += x;
  auto t = cuda::std::make_tuple(s, 2.f);
  cuda::std::optional<int> q;
  if (threadIdx.x & 1) q = 5;
  o[threadIdx.x] = cuda::std::get<0>(t) + q.value_or(100);
  ctr.fetch_add(2, cuda::std::memory_order_relaxed);
  cuda::std::complex<float> c(0, 1);
  c *= c;
  z[threadIdx.x] = c.real();
  cuda::atomic_ref<int, cuda::thread_scope_block> r(o[64]);
  r.fetch_max(threadIdx.x);
  cuda::std::atomic<int>* at = (cuda::std::atomic<int>*)(o + 65);
  int e = at->load();
  while (!at->compare_exchange_weak(e, e + 3))
    ;
  cuda::atomic_ref<float> fr(z[64]);
  fr.fetch_add(0.5f);
  o[66] = cuda::std::popcount(0xffu);
  o[67] = cuda::std::bit_width(1000u);
}
__global__ void bar(int* o) {
  __shared__ cuda::barrier<cuda::thread_scope_block> b;
  __shared__ int s[64];
  if (!threadIdx.x) init(&b, blockDim.x);
  __syncthreads();
  for (int i = 0; i < 3; i++) {
    s[threadIdx.x] = threadIdx.x + i;
    b.arrive_and_wait();
    o[threadIdx.x] = s[63 - threadIdx.x];
    b.arrive_and_wait();
  }
}
int main() {
  int* o;
  float* z;
  CUDA_CHECK(cudaMalloc(&o, 1024));
  CUDA_CHECK(cudaMalloc(&z, 1024));
  CUDA_CHECK(cudaMemset(o, 0, 1024));
  CUDA_CHECK(cudaMemset(z, 0, 1024));
  k<<<1, 64>>>(o, z);
  CUDA_CHECK(cudaGetLastError());
  int h[128];
  float f[128];
  CUDA_CHECK(cudaMemcpy(h, o, 512, cudaMemcpyDeviceToHost));
  CUDA_CHECK(cudaMemcpy(f, z, 512, cudaMemcpyDeviceToHost));
  EXPECT(h[0] == 110 && h[1] == 15 && h[64] == 63 && h[65] == 192 && f[0] == -1 && f[64] == 32 &&
         h[66] == 8 && h[67] == 10);
  int c;
  CUDA_CHECK(cudaMemcpyFromSymbol(&c, ctr, 4));
  EXPECT(c == 128);
  bar<<<1, 64>>>(o);
  CUDA_CHECK(cudaMemcpy(h, o, 256, cudaMemcpyDeviceToHost));
  for (int i = 0; i < 64; i++) EXPECT(h[i] == 63 - i + 2);
  std::puts("passed");
}
