// Kernels of the CPU device's tests.
#include <cassert>
#include <cstdio>

__device__ int counter = 41;
__constant__ int table[4] = {10, 20, 30, 40};
__device__ int* pointer_to_counter = &counter;

extern "C" __global__ void add(int* out, const int* a, const int* b, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = a[i] + b[i];
}

extern "C" __global__ void globals(int* out) {
  out[0] = ++counter;
  out[1] = table[2];
  out[2] = *pointer_to_counter;
}

struct Mixed {
  char c;
  double d;
  short s;
};

extern "C" __global__ void mixed(char a, Mixed m, short b, double* out) { out[0] = a + m.c + m.d + m.s + b; }

extern "C" __global__ void __launch_bounds__(128) bounded(int* out) { out[threadIdx.x] = threadIdx.x; }

extern "C" __global__ void shared_sum(int* out) {
  extern __shared__ int dynamic[];
  __shared__ int fixed[32];
  dynamic[threadIdx.x] = threadIdx.x;
  fixed[threadIdx.x % 32] = 1;
  __syncthreads();
  if (threadIdx.x == 0) {
    int sum = 0;
    for (unsigned i = 0; i < blockDim.x; ++i) sum += dynamic[i];
    out[0] = sum + fixed[0];
  }
}

extern "C" __global__ void wait_for(volatile int* flag, int* out) {
  while (*flag == 0) {
  }
  *out = 1;
}

extern "C" __global__ void store(int* to) { *to = 1; }
extern "C" __global__ void trap() { asm volatile("trap;"); }
extern "C" __global__ void check(int value) { assert(value == 1); }
extern "C" __global__ void say(int value) { printf("value %d\n", value); }
