// Warps, blocks and grids together: shuffles, votes, barriers, atomics, locks, half precision.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace cg = cooperative_groups;

extern "C" __global__ void reduce_sum(const float* in, float* out, int n) {
  __shared__ float parts[32];
  float sum = 0;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += in[i];
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(0xFFFFFFFFu, sum, offset);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x < 32) {
    sum = threadIdx.x < blockDim.x / 32 ? parts[threadIdx.x] : 0;
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, offset);
    if (threadIdx.x == 0) atomicAdd(out, sum);
  }
}

extern "C" __global__ void matrix_multiply(const float* a, const float* b, float* c, int n) {
  __shared__ float ta[16][16], tb[16][17];
  const int row = blockIdx.y * 16 + threadIdx.y, column = blockIdx.x * 16 + threadIdx.x;
  float sum = 0;
  for (int k = 0; k < n; k += 16) {
    ta[threadIdx.y][threadIdx.x] = a[row * n + k + threadIdx.x];
    tb[threadIdx.y][threadIdx.x] = b[(k + threadIdx.y) * n + column];
    __syncthreads();
    for (int i = 0; i < 16; ++i) sum += ta[threadIdx.y][i] * tb[i][threadIdx.x];
    __syncthreads();
  }
  c[row * n + column] = sum;
}

extern "C" __global__ void histogram(const unsigned char* in, int n, unsigned* out) {
  extern __shared__ unsigned bins[];
  for (int i = threadIdx.x; i < 256; i += blockDim.x) bins[i] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&bins[in[i]], 1u);
  __syncthreads();
  for (int i = threadIdx.x; i < 256; i += blockDim.x) atomicAdd(&out[i], bins[i]);
}

extern "C" __global__ void votes(const int* in, unsigned* out) {
  const int x = in[threadIdx.x];
  unsigned* o = out + threadIdx.x * 8;
  o[0] = __ballot_sync(0xFFFFFFFFu, x > 0);
  o[1] = __any_sync(0xFFFFFFFFu, x == 7);
  o[2] = __all_sync(0xFFFFFFFFu, x < 100);
  o[3] = __match_any_sync(0xFFFFFFFFu, x & 3);
  o[4] = __shfl_sync(0xFFFFFFFFu, x, 5);
  o[5] = __shfl_up_sync(0xFFFFFFFFu, x, 3, 16);
  o[6] = __shfl_down_sync(0xFFFFFFFFu, x, 2, 8);
  o[7] = __syncthreads_count(x > 0);
}

extern "C" __global__ void divergence(int* out, int n) {
  const int i = threadIdx.x;
  int r = 0;
  for (int k = 0; k < n + i % 7; ++k) {
    if (k % 5 == i % 5) {
      r += k;
      if (r % 11 == 3) break;
    } else if (i & 1) {
      for (int j = 0; j < i % 4; ++j) {
        r ^= j * k;
        if (r & 64) continue;
        r += 1;
      }
    } else {
      r -= 1;
    }
  }
  r += __popc(__activemask()) == 32 ? 100000 : 0;  // all have met again
  out[i] = r;
}

extern "C" __global__ void spin_lock(int* lock, int* counter, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    bool done = false;
    while (!done) {
      if (atomicCAS(lock, 0, 1) == 0) {
        __threadfence();
        *(volatile int*)counter = *(volatile int*)counter + 1;
        __threadfence();
        atomicExch(lock, 0);
        done = true;
      }
    }
  }
}

// The lock is held when the loop is left: only independent progress of lanes ends this.
extern "C" __global__ void independent_lock(int* lock, int* counter) {
  while (atomicCAS(lock, 0, 1) != 0) {
  }
  __threadfence();
  *(volatile int*)counter = *(volatile int*)counter + 1;
  __threadfence();
  atomicExch(lock, 0);
}

extern "C" __global__ void grid_wide(int* data, int* out, int rounds) {
  cg::grid_group grid = cg::this_grid();
  const int n = gridDim.x * blockDim.x, i = blockIdx.x * blockDim.x + threadIdx.x;
  for (int r = 0; r < rounds; ++r) {
    const int next = data[(i + 1) % n];
    grid.sync();
    data[i] = next + 1;
    grid.sync();
  }
  out[i] = data[i];
}

extern "C" __global__ void groups(const int* in, int* out) {
  auto tile = cg::tiled_partition<8>(cg::this_thread_block());
  int sum = in[threadIdx.x];
  for (int offset = tile.size() / 2; offset > 0; offset /= 2) sum += tile.shfl_down(sum, offset);
  sum = tile.shfl(sum, 0);
  if (threadIdx.x & 1) {
    auto active = cg::coalesced_threads();
    sum += 1000 * active.size();
  }
  out[threadIdx.x] = sum + cg::reduce(tile, in[threadIdx.x], cg::greater<int>());
}

extern "C" __global__ void atomics(int* i, unsigned* u, unsigned long long* l, float* f, double* d) {
  const int t = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(&i[0], t);
  atomicSub(&i[1], t);
  atomicMin(&i[2], -t);
  atomicMax(&i[3], t);
  atomicInc(&u[0], 9);
  atomicDec(&u[1], 9);
  atomicAnd(&u[2], ~(1u << (t & 31)));
  atomicOr(&u[3], 1u << (t & 31));
  atomicXor(&u[4], t);
  atomicAdd(&l[0], (unsigned long long)t << 33);
  atomicMax(&l[1], (unsigned long long)t << 33);
  atomicAdd(&f[0], 0.5f);
  atomicAdd(&d[0], 0.25);
}

extern "C" __global__ void halves(const float* a, const float* b, float* out) {
  const int i = threadIdx.x;
  const __half x = __float2half(a[i]), y = __float2half(b[i]);
  const __nv_bfloat16 p = __float2bfloat16(a[i]), q = __float2bfloat16(b[i]);
  float* o = out + i * 16;
  int k = 0;
  o[k++] = __half2float(x);
  o[k++] = __half2float(__hadd(x, y));
  o[k++] = __half2float(__hmul(x, y));
  o[k++] = __half2float(__hfma(x, y, x));
  o[k++] = __half2float(__hdiv(x, y));
  o[k++] = __hlt(x, y) ? 1 : 0;
  o[k++] = __half2float(hsqrt(__habs(x)));
  const __half2 h2 = __hfma2(__halves2half2(x, y), __halves2half2(y, x), __halves2half2(x, x));
  o[k++] = __low2float(h2);
  o[k++] = __high2float(h2);
  o[k++] = __bfloat162float(p);
  o[k++] = __bfloat162float(__hmul(p, q));
  o[k++] = __bfloat162float(__hadd(p, q));
  o[k++] = (float)__half2int_rn(x);
  o[k++] = __half2float(__int2half_rn(i * 37));
  o[k++] = __half2float(__hmax(x, y));
  o[k++] = __half2float(hexp(__hmul(x, __float2half(0.01f))));
}

__device__ int slots[64];
extern "C" __global__ void last_block(const int* in, int* out, unsigned* count) {
  __shared__ bool last;
  int sum = __syncthreads_count(in[blockIdx.x * blockDim.x + threadIdx.x] & 1);
  if (threadIdx.x == 0) {
    slots[blockIdx.x] = sum;
    __threadfence();
    last = atomicInc(count, gridDim.x) == gridDim.x - 1;
  }
  __syncthreads();
  if (last && threadIdx.x == 0) {
    int total = 0;
    for (unsigned b = 0; b < gridDim.x; ++b) total += ((volatile int*)slots)[b];
    *out = total;
  }
}
