// Groups of every size: reductions and scans of blocks, tiles, coalesced threads and grids.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>

#include "program.h"
namespace cg = cooperative_groups;
template <unsigned B>
__global__ void sharedReduce(const int* in, int* out, int n) {
  __shared__ int s[B];
  int t = threadIdx.x, i = blockIdx.x * B * 2 + t;
  int v = 0;
  if (i < n) v += in[i];
  if (i + B < n) v += in[i + B];
  s[t] = v;
  __syncthreads();
  for (unsigned k = B / 2; k > 32; k >>= 1) {
    if (t < k) s[t] += s[t + k];
    __syncthreads();
  }
  if (t < 32) {
    v = s[t] + s[t + 32];
    for (int o = 16; o; o >>= 1) v += __shfl_down_sync(~0u, v, o);
    if (!t) out[blockIdx.x] = v;
  }
}
__global__ void cgReduce(const float* in, float* out, int n) {
  auto block = cg::this_thread_block();
  auto tile = cg::tiled_partition<32>(block);
  float v = 0;
  for (int i = block.group_index().x * block.size() + block.thread_rank(); i < n;
       i += gridDim.x * block.size())
    v += in[i];
  v = cg::reduce(tile, v, cg::plus<float>());
  if (tile.thread_rank() == 0) atomicAdd(out, v);
}
__global__ void tiles(int* out) {
  auto b = cg::this_thread_block();
  auto t4 = cg::tiled_partition<4>(b);
  auto t8 = cg::tiled_partition<8>(b);
  auto t16 = cg::tiled_partition(b, 16);
  int r = b.thread_rank();
  out[r] = cg::reduce(t4, r, cg::greater<int>());
  out[r + b.size()] = cg::inclusive_scan(t8, r);
  out[r + 2 * b.size()] = t16.thread_rank() * 100 + t16.size();
  out[r + 3 * b.size()] = cg::exclusive_scan(t4, 1u << t4.thread_rank(), cg::bit_or<unsigned>());
  out[r + 4 * b.size()] = t4.meta_group_rank() * 1000 + t4.meta_group_size();
  if (r % 3 == 0) {
    auto a = cg::coalesced_threads();
    out[r + 5 * b.size()] = a.size() * 100 + a.thread_rank();
    int x = cg::reduce(a, r, cg::plus<int>());
    out[r + 6 * b.size()] = x;
  }
  auto l = cg::labeled_partition(cg::coalesced_threads(), r % 5);
  out[r + 7 * b.size()] = l.size();
  auto bp = cg::binary_partition(cg::coalesced_threads(), r % 4 == 1);
  out[r + 8 * b.size()] = bp.size();
}
__global__ void gridReduce(const int* in, int* part, int* out, int n) {
  auto g = cg::this_grid();
  __shared__ int s[256];
  int v = 0;
  for (size_t i = g.thread_rank(); i < n; i += g.size()) v += in[i];
  s[threadIdx.x] = v;
  __syncthreads();
  for (int k = 128; k; k >>= 1) {
    if (threadIdx.x < k) s[threadIdx.x] += s[threadIdx.x + k];
    __syncthreads();
  }
  if (!threadIdx.x) part[blockIdx.x] = s[0];
  g.sync();
  if (g.thread_rank() == 0) {
    int t = 0;
    for (int i = 0; i < gridDim.x; i++) t += part[i];
    *out = t;
  }
}
int main() {
  int n = 100003;
  std::vector<int> h(n);
  std::vector<float> f(n);
  long want = 0;
  for (int i = 0; i < n; i++) {
    h[i] = (i * 7919) % 1001 - 500;
    f[i] = h[i];
    want += h[i];
  }
  int *d, *o;
  float *df, *of;
  CUDA_CHECK(cudaMalloc(&d, n * 4));
  CUDA_CHECK(cudaMalloc(&o, 4096 * 4));
  CUDA_CHECK(cudaMalloc(&df, n * 4));
  CUDA_CHECK(cudaMalloc(&of, 4));
  CUDA_CHECK(cudaMemcpy(d, h.data(), n * 4, cudaMemcpyHostToDevice));
  CUDA_CHECK(cudaMemcpy(df, f.data(), n * 4, cudaMemcpyHostToDevice));
  CUDA_CHECK(cudaMemset(of, 0, 4));
  int blocks = (n + 511) / 512;
  sharedReduce<256><<<blocks, 256>>>(d, o, n);
  CUDA_CHECK(cudaGetLastError());
  std::vector<int> r(4096);
  CUDA_CHECK(cudaMemcpy(r.data(), o, blocks * 4, cudaMemcpyDeviceToHost));
  EXPECT(std::accumulate(r.begin(), r.begin() + blocks, 0L) == want);
  cgReduce<<<32, 128>>>(df, of, n);
  float fr;
  CUDA_CHECK(cudaMemcpy(&fr, of, 4, cudaMemcpyDefault));
  EXPECT(fr == want);
  CUDA_CHECK(cudaMemset(o, 0xff, 4096 * 4));
  tiles<<<1, 64>>>(o);
  CUDA_CHECK(cudaMemcpy(r.data(), o, 64 * 9 * 4, cudaMemcpyDeviceToHost));
  for (int i = 0; i < 64; i++) {
    EXPECT(r[i] == (i | 3));
    int s = 0;
    for (int k = i & ~7; k <= i; k++) s += k;
    EXPECT(r[64 + i] == s);
    EXPECT(r[128 + i] == (i % 16) * 100 + 16);
    EXPECT(r[192 + i] == (1 << (i & 3)) - 1);
    EXPECT(r[256 + i] == (i / 4) * 1000 + 16);
    if (i % 3 == 0) {
      int c = 0, rk = 0, sm = 0;
      for (int k = i & ~31; k < (i & ~31) + 32; k++)
        if (k % 3 == 0) {
          c++;
          sm += k;
          if (k < i) rk++;
        }
      EXPECT(r[320 + i] == c * 100 + rk);
      EXPECT(r[384 + i] == sm);
    }
    int c = 0, c2 = 0;
    for (int k = i & ~31; k < (i & ~31) + 32; k++) {
      if (k % 5 == i % 5) c++;
      if ((k % 4 == 1) == (i % 4 == 1)) c2++;
    }
    EXPECT(r[448 + i] == c);
    EXPECT(r[512 + i] == c2);
  }
  int coop;
  CUDA_CHECK(cudaDeviceGetAttribute(&coop, cudaDevAttrCooperativeLaunch, 0));
  EXPECT(coop);
  int per;
  CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per, gridReduce, 256, 0));
  EXPECT(per > 0);
  cudaDeviceProp p;
  CUDA_CHECK(cudaGetDeviceProperties(&p, 0));
  int nb = std::min(per * p.multiProcessorCount, 16);
  int* part = o + 100;
  void* args[] = {&d, &part, &o, &n};
  CUDA_CHECK(cudaLaunchCooperativeKernel((void*)gridReduce, nb, 256, args, 0, 0));
  int gr;
  CUDA_CHECK(cudaMemcpy(&gr, o, 4, cudaMemcpyDeviceToHost));
  EXPECT(gr == want);
  std::puts("passed");
}
