// Transposition and histogram in shared memory; atomics of every kind, locks, aggregation by warp.
#include "program.h"
__global__ void tr(float* o, const float* in, int w, int h) {
  __shared__ float t[32][33];
  int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 32 + threadIdx.y;
  for (int j = 0; j < 32; j += 8)
    if (x < w && y + j < h) t[threadIdx.y + j][threadIdx.x] = in[(y + j) * w + x];
  __syncthreads();
  x = blockIdx.y * 32 + threadIdx.x;
  y = blockIdx.x * 32 + threadIdx.y;
  for (int j = 0; j < 32; j += 8)
    if (x < h && y + j < w) o[(y + j) * h + x] = t[threadIdx.x][threadIdx.y + j];
}
__global__ void hist(const unsigned char* d, int n, unsigned* o) {
  __shared__ unsigned s[256];
  s[threadIdx.x] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    atomicAdd(&s[d[i]], 1u);
  __syncthreads();
  if (s[threadIdx.x]) atomicAdd(&o[threadIdx.x], s[threadIdx.x]);
}
__device__ unsigned long long total;
__device__ double dsum;
__device__ int mx = -1000, mn = 1000;
__device__ unsigned inc, casCtr, lock_;
__device__ double addCas(double* a, double v) {
  unsigned long long *p = (unsigned long long*)a, old = *p, as;
  do {
    as = old;
    old = atomicCAS(p, as, __double_as_longlong(v + __longlong_as_double(as)));
  } while (as != old);
  return __longlong_as_double(old);
}
__device__ double dcas;
__device__ float fmaxv;
__device__ int locked;
__global__ void atoms(int* o) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(&total, (unsigned long long)i << 20);
  atomicAdd(&dsum, 0.5);
  addCas(&dcas, 0.25);
  atomicMax(&mx, i);
  atomicMin(&mn, -i);
  atomicInc(&inc, 9);
  atomicExch(&o[0], i);
  atomicOr(&o[1], 1 << (i & 31));
  atomicXor(&o[2], 1 << (i & 31));
  atomicAnd(&o[3], ~(1 << (i & 15)));
  atomicDec((unsigned*)&o[4], 6);
  atomicSub(&o[5], 2);
  atomicMax((unsigned long long*)&o[6], (unsigned long long)i * 5000000000ull);
  atomicAdd_block(&o[8], 1);
  atomicAdd_system(&o[9], 1);
  bool done = false;
  while (!done) {
    if (atomicCAS(&lock_, 0u, 1u) == 0) {
      volatile int* l = &locked;
      *l = *l + 1;
      __threadfence();
      atomicExch(&lock_, 0u);
      done = true;
    }
  }
  unsigned m = __activemask();
  int lead = __ffs(m) - 1;
  if ((threadIdx.x & 31) == lead) atomicAdd(&casCtr, __popc(m));
}
int main() {
  int w = 101, h = 77;
  std::vector<float> a(w * h), b(w * h);
  for (int i = 0; i < w * h; i++) a[i] = i;
  float *x, *y;
  CUDA_CHECK(cudaMalloc(&x, w * h * 4));
  CUDA_CHECK(cudaMalloc(&y, w * h * 4));
  CUDA_CHECK(cudaMemcpy(x, &a[0], w * h * 4, cudaMemcpyHostToDevice));
  tr<<<dim3(4, 3), dim3(32, 8)>>>(y, x, w, h);
  CUDA_CHECK(cudaMemcpy(&b[0], y, w * h * 4, cudaMemcpyDeviceToHost));
  for (int i = 0; i < w; i++)
    for (int j = 0; j < h; j++) EXPECT(b[i * h + j] == a[j * w + i]);
  int n = 200000;
  std::vector<unsigned char> d(n);
  unsigned want[256] = {}, got[256];
  for (int i = 0; i < n; i++) want[d[i] = (i * 2654435761u) >> 24]++;
  unsigned char* dd;
  unsigned* o;
  CUDA_CHECK(cudaMalloc(&dd, n));
  CUDA_CHECK(cudaMalloc(&o, 1024));
  CUDA_CHECK(cudaMemset(o, 0, 1024));
  CUDA_CHECK(cudaMemcpy(dd, d.data(), n, cudaMemcpyHostToDevice));
  hist<<<16, 256>>>(dd, n, o);
  CUDA_CHECK(cudaMemcpy(got, o, 1024, cudaMemcpyDeviceToHost));
  EXPECT(!memcmp(want, got, 1024));
  int init[10] = {0, 0, 0, -1, 0, 0, 0, 0, 0, 0}, r[10];
  CUDA_CHECK(cudaMemcpy(o, init, 40, cudaMemcpyHostToDevice));
  atoms<<<4, 96>>>((int*)o);
  CUDA_CHECK(cudaGetLastError());
  CUDA_CHECK(cudaMemcpy(r, o, 40, cudaMemcpyDeviceToHost));
  unsigned long long t;
  CUDA_CHECK(cudaMemcpyFromSymbol(&t, total, 8));
  EXPECT(t == (384ull * 383 / 2) << 20);
  double ds;
  CUDA_CHECK(cudaMemcpyFromSymbol(&ds, dsum, 8));
  EXPECT(ds == 192);
  CUDA_CHECK(cudaMemcpyFromSymbol(&ds, dcas, 8));
  EXPECT(ds == 96);
  int m;
  CUDA_CHECK(cudaMemcpyFromSymbol(&m, mx, 4));
  EXPECT(m == 383);
  CUDA_CHECK(cudaMemcpyFromSymbol(&m, mn, 4));
  EXPECT(m == -383);
  CUDA_CHECK(cudaMemcpyFromSymbol(&m, inc, 4));
  EXPECT(m == 384 % 10);
  EXPECT(r[1] == -1 && r[2] == 0 && (r[3] & 0xffff) == 0);
  EXPECT(r[5] == -768);
  unsigned long long q;
  memcpy(&q, r + 6, 8);
  EXPECT(q == 383ull * 5000000000ull);
  EXPECT(r[8] == 384 && r[9] == 384);
  CUDA_CHECK(cudaMemcpyFromSymbol(&m, locked, 4));
  EXPECT(m == 384);
  CUDA_CHECK(cudaMemcpyFromSymbol(&m, casCtr, 4));
  EXPECT(m == 384);
  void* sa;
  size_t ss;
  CUDA_CHECK(cudaGetSymbolAddress(&sa, total));
  CUDA_CHECK(cudaGetSymbolSize(&ss, total));
  EXPECT(ss == 8 && sa);
  std::puts("passed");
}
