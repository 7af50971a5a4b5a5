// What C++ in kernels uses: virtual and recursive functions, function pointers, malloc, printf, votes, named
// barriers, assert.
#include <cassert>
#include <ctime>

#include "program.h"
struct Shape {
  __device__ virtual float area() const = 0;
  __device__ virtual ~Shape() {}
};
struct Sq : Shape {
  float s;
  __device__ Sq(float x) : s(x) {}
  __device__ float area() const override { return s * s; }
};
struct Ci : Shape {
  float r;
  __device__ Ci(float x) : r(x) {}
  __device__ float area() const override { return 3.f * r * r; }
};
__global__ void virt(float* o) {
  Shape* s = threadIdx.x % 2 ? (Shape*)new Sq(threadIdx.x) : (Shape*)new Ci(threadIdx.x);
  o[threadIdx.x] = s->area();
  delete s;
}
typedef int (*Op)(int, int);
__device__ int addf(int a, int b) { return a + b; }
__device__ int mulf(int a, int b) { return a * b; }
__device__ Op table[2] = {addf, mulf};
__device__ Op one = mulf;
__global__ void fp(Op op, int* o) {
  o[threadIdx.x] = table[threadIdx.x & 1](threadIdx.x, 3) + op(2, threadIdx.x);
}
__device__ __noinline__ int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
__device__ int ack(int m, int n) {
  return m == 0 ? n + 1 : n == 0 ? ack(m - 1, 1) : ack(m - 1, ack(m, n - 1));
}
__global__ void rec(int* o) {
  o[threadIdx.x] = fib(threadIdx.x % 12);
  if (threadIdx.x == 0) o[32] = ack(2, 3);
}
struct V {
  float x, y;
  __host__ __device__ V operator+(V b) const { return {x + b.x, y + b.y}; }
  __host__ __device__ V& operator*=(float f) {
    x *= f;
    y *= f;
    return *this;
  }
};
template <typename T, typename F>
__global__ void map(T* d, int n, F f) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) d[i] = f(d[i]);
}
__global__ void dyn(int* o) {
  extern __shared__ int s[];
  int n = 90 * 1024 / 4;
  for (int i = threadIdx.x; i < n; i += blockDim.x) s[i] = i;
  __syncthreads();
  o[threadIdx.x] = s[n - 1 - threadIdx.x];
}
__global__ void hello(int n) {
  if (threadIdx.x < n)
    printf("Hello from block %d, thread %d: %s %5.2f %lld %c %%\n", blockIdx.x, threadIdx.x, "str",
           1.5 * threadIdx.x, 1ll << 40, 'x');
}
__global__ void tick(long long* o) {
  clock_t a = clock();
  long long b = clock64();
  unsigned s = 0;
  for (int i = 0; i < 100; i++) s += i * threadIdx.x;
  long long c = clock64();
  o[0] = c - b;
  o[1] = s;
  o[2] = clock() - a;
  unsigned long long g;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(g));
  o[3] = g;
  __nanosleep(1000);
}
__global__ void votes(unsigned* o) {
  int t = threadIdx.x;
  o[t] = __ballot_sync(~0u, t & 1);
  o[32 + t] = __all_sync(~0u, t < 32) + 2 * __any_sync(~0u, t == 5);
  o[64 + t] = __match_any_sync(~0u, t % 3);
  int p;
  o[96 + t] = __match_all_sync(~0u, 7, &p) + p;
  o[128 + t] = __shfl_sync(~0u, t, (t + 1) % 8, 8);
  o[160 + t] = __reduce_add_sync(~0u, t);
  o[192 + t] = __reduce_max_sync(~0u, t);
  o[224 + t] = __syncthreads_count(t < 7);
  o[256 + t] = __syncthreads_or(t == 3);
  o[288 + t] = __syncthreads_and(t < 40);
  if (t < 16) {
    o[320 + t] = __ballot_sync(0xffff, t % 2);
  }
}
__global__ void bars(int* o) {
  __shared__ int s[64];
  int t = threadIdx.x;
  if (t < 64) {
    s[t] = t;
    asm volatile("bar.sync 1, 64;" ::: "memory");
    o[t] = s[63 - t];
  } else {
    asm volatile("bar.sync 2, 64;");
    o[t] = -t;
  }
  __shared__ int q;
  if (t < 32) {
    q = 42;
    asm volatile("bar.arrive 3, 64;" ::: "memory");
  } else if (t < 64) {
    asm volatile("bar.sync 3, 64;" ::: "memory");
    o[t + 128] = q;
  }
}
__global__ void mal(int** p) {
  int* m = (int*)malloc(16 * 4);
  for (int i = 0; i < 16; i++) m[i] = i * threadIdx.x;
  p[threadIdx.x] = m;
}
__global__ void mfree(int** p, int* o) {
  o[threadIdx.x] = p[threadIdx.x][15];
  free(p[threadIdx.x]);
}
__global__ void asserts(int x) { assert(x == 1 && "x must be one"); }
int main() {
  int* o;
  CUDA_CHECK(cudaMalloc(&o, 65536));
  float f[64];
  int h[512];
  virt<<<1, 64>>>((float*)o);
  CUDA_CHECK(cudaMemcpy(f, o, 256, cudaMemcpyDeviceToHost));
  for (int i = 0; i < 64; i++) EXPECT(f[i] == (i % 2 ? 1.f : 3.f) * i * i);
  Op hop;
  CUDA_CHECK(cudaMemcpyFromSymbol(&hop, one, sizeof hop));
  fp<<<1, 32>>>(hop, o);
  CUDA_CHECK(cudaMemcpy(h, o, 128, cudaMemcpyDeviceToHost));
  for (int i = 0; i < 32; i++) EXPECT(h[i] == (i & 1 ? i * 3 : i + 3) + 2 * i);
  CUDA_CHECK(cudaDeviceSetLimit(cudaLimitStackSize, 16384));
  rec<<<1, 32>>>(o);
  CUDA_CHECK(cudaMemcpy(h, o, 33 * 4, cudaMemcpyDeviceToHost));
  EXPECT(h[11] == 89 && h[32] == 9);
  V v[100], *dv;
  for (int i = 0; i < 100; i++) v[i] = {(float)i, 1};
  CUDA_CHECK(cudaMalloc(&dv, sizeof v));
  CUDA_CHECK(cudaMemcpy(dv, v, sizeof v, cudaMemcpyHostToDevice));
  float k = 2;
  map<<<2, 64>>>(dv, 100, [=] __device__(V a) {
    V r = a + V{1, 1};
    r *= k;
    return r;
  });
  CUDA_CHECK(cudaMemcpy(v, dv, sizeof v, cudaMemcpyDeviceToHost));
  EXPECT(v[99].x == 200 && v[3].y == 4);
  dyn<<<1, 64, 90 * 1024>>>(o);
  EXPECT(cudaGetLastError() == cudaErrorInvalidValue);
  CUDA_CHECK(cudaFuncSetAttribute(dyn, cudaFuncAttributeMaxDynamicSharedMemorySize, 90 * 1024));
  dyn<<<1, 64, 90 * 1024>>>(o);
  CUDA_CHECK(cudaGetLastError());
  CUDA_CHECK(cudaMemcpy(h, o, 256, cudaMemcpyDeviceToHost));
  EXPECT(h[0] == 90 * 256 - 1 && h[63] == 90 * 256 - 64);
  hello<<<2, 4>>>(2);
  CUDA_CHECK(cudaDeviceSynchronize());
  long long* l = (long long*)o;
  tick<<<1, 32>>>(l);
  long long hl[4];
  CUDA_CHECK(cudaMemcpy(hl, l, 32, cudaMemcpyDeviceToHost));
  EXPECT(hl[0] > 0 && hl[2] > 0 && hl[3] > 0);
  votes<<<1, 32>>>((unsigned*)o);
  CUDA_CHECK(cudaMemcpy(h, o, 352 * 4, cudaMemcpyDeviceToHost));
  unsigned* u = (unsigned*)h;
  for (int i = 0; i < 32; i++) {
    EXPECT(u[i] == 0xaaaaaaaa);
    EXPECT(u[32 + i] == 3);
    unsigned m = 0;
    for (int k = i % 3; k < 32; k += 3) m |= 1u << k;
    EXPECT(u[64 + i] == m);
    EXPECT(u[96 + i] == 0);
    EXPECT(u[128 + i] == (i & ~7) + (i + 1) % 8);
    EXPECT(u[160 + i] == 496 && u[192 + i] == 31);
    EXPECT(u[224 + i] == 7 && u[256 + i] && u[288 + i]);
    if (i < 16) EXPECT(u[320 + i] == 0xaaaa);
  }
  bars<<<1, 128>>>(o);
  CUDA_CHECK(cudaMemcpy(h, o, 768, cudaMemcpyDeviceToHost));
  for (int i = 0; i < 64; i++) EXPECT(h[i] == 63 - i && h[64 + i] == -64 - i);
  EXPECT(h[160] == 42 && h[191] == 42);
  int** pp;
  CUDA_CHECK(cudaMalloc(&pp, 64 * 8));
  mal<<<1, 64>>>(pp);
  mfree<<<1, 64>>>(pp, o);
  CUDA_CHECK(cudaMemcpy(h, o, 256, cudaMemcpyDeviceToHost));
  for (int i = 0; i < 64; i++) EXPECT(h[i] == 15 * i);
  asserts<<<1, 2>>>(1);
  CUDA_CHECK(cudaDeviceSynchronize());
  asserts<<<1, 2>>>(2);
  cudaError_t e = cudaDeviceSynchronize();
  printf("assert -> %s\n", cudaGetErrorName(e));
  EXPECT(e == cudaErrorAssert);
  EXPECT(cudaMalloc(&o, 4) == cudaErrorAssert);
  std::puts("passed");
}
