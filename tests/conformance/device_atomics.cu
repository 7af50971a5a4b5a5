// Atomic operations of all types, between threads of a block and between blocks.
#include <cuda/atomic>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "device_memory.h"

__global__ void integers(int* p, unsigned long long* u) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(p, i);
  atomicSub(p + 1, 1);
  atomicMin(p + 2, -i);
  atomicMax(p + 3, i);
  atomicInc(reinterpret_cast<unsigned*>(p + 4), 99);
  atomicDec(reinterpret_cast<unsigned*>(p + 5), 99);
  atomicAnd(p + 6, ~(1 << i % 31));
  atomicOr(p + 7, 1 << i % 31);
  atomicXor(p + 8, 1 << i % 31);
  atomicAdd(u, 1ull << 33);
  atomicMax(u + 1, static_cast<unsigned long long>(i) << 40);
  atomicMin(reinterpret_cast<long long*>(u + 2), -static_cast<long long>(i));
  atomicXor(u + 3, 1ull << i % 64);
}
CASE(integers_from_many_blocks) {
  Values<int> p(9, -1);
  Values<unsigned long long> u(4);
  NEED(cudaMemset(p.device() + 4, 0, 8));
  integers<<<16, 64>>>(p.device(), u.device());
  print("32 bits", p.get());
  for (const auto value : u.get()) say("%llx", value);
}

__global__ void floats(float* f, double* d, __half* h, __half2* h2, __nv_bfloat16* b, float2* f2, float4* f4) {
  atomicAdd(f, 0.5f);
  atomicAdd(d, 0.25);
  atomicAdd(h, __float2half(1.0f));
  atomicAdd(h2, __floats2half2_rn(1.0f, 2.0f));
  atomicAdd(b, __float2bfloat16(1.0f));
  atomicAdd(f2, make_float2(1, 2));
  atomicAdd(f4, make_float4(1, 2, 3, 4));
}
CASE(floats_from_many_blocks) {
  Values<float> out(16);
  float* p = out.device();
  Values<double> d(1);
  Values<int> small(4);
  auto* halves = reinterpret_cast<__half*>(small.device());
  floats<<<4, 32>>>(p, d.device(), halves, reinterpret_cast<__half2*>(small.device() + 1),
                    reinterpret_cast<__nv_bfloat16*>(small.device() + 2), reinterpret_cast<float2*>(p + 2), reinterpret_cast<float4*>(p + 4));
  say("float %g, double %g", out.get()[0], d.get()[0]);
  say("float2 %g %g, float4 %g %g %g %g", out.get()[2], out.get()[3], out.get()[4], out.get()[5], out.get()[6], out.get()[7]);
  print("bits of halves", small.get());
}

__global__ void swaps(int* p, unsigned short* s, int* won) {
  int expected = *p;
  while (true) {
    const int seen = atomicCAS(p, expected, expected + 3);
    if (seen == expected) break;
    expected = seen;
  }
  if (atomicExch(p + 1, 1) == 0) atomicAdd(won, 1);
  unsigned short old = *s, seen = 0;
  do {
    seen = old;
    old = atomicCAS(s, seen, static_cast<unsigned short>(seen + 1));
  } while (old != seen);
}
CASE(compare_and_swap) {
  Values<int> p(2), won(1);
  Values<unsigned short> s(2);
  swaps<<<8, 32>>>(p.device(), s.device(), won.device());
  print("cells", p.get());
  print("one won", won.get());
  say("16 bits %d %d", s.get()[0], s.get()[1]);
}

__global__ void shared_histogram(const int* in, int* out, int n) {
  __shared__ int bins[8];
  if (threadIdx.x < 8) bins[threadIdx.x] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(bins + in[i] % 8, 1);
  __syncthreads();
  if (threadIdx.x < 8) atomicAdd(out + threadIdx.x, bins[threadIdx.x]);
}
CASE(a_histogram_in_shared_memory) {
  std::vector<int> in(1000);
  std::iota(in.begin(), in.end(), 0);
  for (int& value : in) value = value * value;
  Values<int> from(in), out(8);
  shared_histogram<<<4, 64>>>(from.device(), out.device(), 1000);
  print("bins", out.get());
}

__global__ void references(int* p, unsigned long long* u, double* d) {
  cuda::atomic_ref<int, cuda::thread_scope_device> a(*p);
  a.fetch_add(2, cuda::memory_order_relaxed);
  cuda::atomic_ref<unsigned long long, cuda::thread_scope_system> b(*u);
  b.fetch_max(threadIdx.x);
  cuda::atomic_ref<double, cuda::thread_scope_device> c(*d);
  c.fetch_add(0.5);
  cuda::atomic_ref<int, cuda::thread_scope_block> e(p[1]);
  int expected = e.load(cuda::memory_order_acquire);
  while (!e.compare_exchange_weak(expected, expected + 1, cuda::memory_order_acq_rel)) {
  }
}
CASE(atomic_references) {
  Values<int> p(2);
  Values<unsigned long long> u(1);
  Values<double> d(1);
  references<<<1, 128>>>(p.device(), u.device(), d.device());
  print("int", p.get());
  say("max %llu, double %g", u.get()[0], d.get()[0]);
}

__global__ void wide_swap(unsigned __int128* p) {
  unsigned __int128 expected = __nv_atomic_load_n(p, __NV_ATOMIC_RELAXED);
  for (;;) {
    const unsigned __int128 next = expected + (static_cast<unsigned __int128>(1) << 64) + 2;
    if (__nv_atomic_compare_exchange_n(p, &expected, next, false, __NV_ATOMIC_RELAXED, __NV_ATOMIC_RELAXED)) break;
  }
}
CASE(numbers_of_128_bits) {
  Values<unsigned long long> p(2);
  wide_swap<<<2, 32>>>(reinterpret_cast<unsigned __int128*>(p.device()));
  say("%llu %llu", p.get()[0], p.get()[1]);
}

__device__ int turn;
__global__ void spin(int* out, int n) {
  // Threads of one warp take a lock in turn: each makes progress by itself.
  bool done = false;
  while (!done) {
    if (atomicCAS(&turn, 0, 1) == 0) {
      *static_cast<volatile int*>(out) += 1;
      __threadfence();
      atomicExch(&turn, 0);
      done = true;
    }
  }
}
CASE(a_spin_lock) {
  Values<int> out(1);
  spin<<<4, 32>>>(out.device(), 1);
  print("count", out.get());
}
