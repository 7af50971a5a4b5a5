// Copies and barriers that run beside a block's threads: cp.async, bulk copies, barriers of libcu++.
#include <cooperative_groups.h>
#include <cooperative_groups/memcpy_async.h>
#include <cuda/barrier>
#include <cuda/pipeline>
#include <cuda/ptx>

#include "device_memory.h"

namespace cg = cooperative_groups;
using Barrier = cuda::barrier<cuda::thread_scope_block>;
#pragma nv_diag_suppress static_var_with_dynamic_init

__global__ void staged(const int* in, int* out) {
  __shared__ alignas(16) int tile[64];
  const unsigned at = __cvta_generic_to_shared(tile + threadIdx.x * 4);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(in + threadIdx.x * 4));
  asm volatile("cp.async.commit_group; cp.async.wait_group 0;" ::: "memory");
  __syncthreads();
  out[threadIdx.x] = tile[63 - threadIdx.x * 4];
}
__global__ void zero_filled(const int* in, int* out) {
  __shared__ alignas(16) int tile[4];
  tile[threadIdx.x] = -1;
  __syncthreads();
  if (threadIdx.x == 0) {
    const unsigned at = __cvta_generic_to_shared(tile);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16, 8; cp.async.wait_all;" ::"r"(at), "l"(in) : "memory");
  }
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x];
}
static std::vector<int> count(int n) {
  std::vector<int> values(n);
  std::iota(values.begin(), values.end(), 1);
  return values;
}
CASE(asynchronous_copies) {
  Values<int> in(count(64)), out(16), part(4);
  staged<<<1, 16>>>(in.device(), out.device());
  print("tile", out.get());
  zero_filled<<<1, 4>>>(in.device(), part.device());
  print("two words and zeros", part.get());
}

__global__ void group_copy(const int* in, int* out) {
  __shared__ int tile[100];
  auto block = cg::this_thread_block();
  cg::memcpy_async(block, tile, in, sizeof tile);
  cg::wait(block);
  if (block.thread_rank() < 10) out[block.thread_rank()] = tile[block.thread_rank() * 10 + 9];
}
CASE(a_group_copies) {
  Values<int> in(count(100)), out(10);
  group_copy<<<1, 64>>>(in.device(), out.device());
  print("every tenth", out.get());
}

__global__ void with_barrier(const int* in, int* out) {
  __shared__ Barrier barrier;
  __shared__ alignas(16) int tile[256];
  auto block = cg::this_thread_block();
  if (block.thread_rank() == 0) init(&barrier, block.size());
  block.sync();
  for (int round = 0; round < 3; ++round) {
    cuda::memcpy_async(block, tile, in + round * 256, cuda::aligned_size_t<16>(1024), barrier);
    barrier.arrive_and_wait();
    out[round * 64 + threadIdx.x] = tile[threadIdx.x * 4];
    barrier.wait(barrier.arrive());
  }
}
CASE(a_barrier_waits_for_copies) {
  Values<int> in(count(768)), out(192);
  with_barrier<<<1, 64>>>(in.device(), out.device());
  bool good = true;
  for (int i = 0; i < 192; ++i) good &= out.get()[i] == i / 64 * 256 + i % 64 * 4 + 1;
  say("%s", good ? "good" : "bad");
}

__global__ void pipelined(const int* in, int* out, int rounds) {
  __shared__ alignas(16) int tile[2][128];
  __shared__ cuda::pipeline_shared_state<cuda::thread_scope_block, 2> state;
  auto block = cg::this_thread_block();
  auto pipe = cuda::make_pipeline(block, &state);
  int sum = 0;
  for (int fetched = 0, used = 0; used < rounds; ++used) {
    for (; fetched < rounds && fetched < used + 2; ++fetched) {
      pipe.producer_acquire();
      cuda::memcpy_async(block, tile[fetched % 2], in + fetched * 128, 512, pipe);
      pipe.producer_commit();
    }
    pipe.consumer_wait();
    sum += tile[used % 2][threadIdx.x] * (used + 1);
    pipe.consumer_release();
  }
  out[threadIdx.x] = sum;
}
CASE(a_pipeline_of_two_stages) {
  Values<int> in(count(640)), out(128);
  pipelined<<<1, 128>>>(in.device(), out.device(), 5);
  bool good = true;
  for (int i = 0; i < 128; ++i) {
    int sum = 0;
    for (int round = 0; round < 5; ++round) sum += (round * 128 + i + 1) * (round + 1);
    good &= out.get()[i] == sum;
  }
  say("%s", good ? "good" : "bad");
}

__global__ void bulk(const int* in, int* out) {
  __shared__ Barrier barrier;
  __shared__ alignas(16) int tile[256];
  if (threadIdx.x == 0) {
    init(&barrier, blockDim.x);
    cuda::ptx::fence_proxy_async(cuda::ptx::space_shared);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    cuda::device::memcpy_async_tx(tile, in, cuda::aligned_size_t<16>(sizeof tile), barrier);
    barrier.wait(cuda::device::barrier_arrive_tx(barrier, 1, sizeof tile));
  } else {
    barrier.wait(barrier.arrive());
  }
  for (int i = threadIdx.x; i < 256; i += blockDim.x) tile[i] += 1000;
  cuda::ptx::fence_proxy_async(cuda::ptx::space_shared);
  __syncthreads();
  if (threadIdx.x == 0) {
    cuda::ptx::cp_async_bulk(cuda::ptx::space_global, cuda::ptx::space_shared, out, tile, sizeof tile);
    cuda::ptx::cp_async_bulk_commit_group();
    cuda::ptx::cp_async_bulk_wait_group(cuda::ptx::n32_t<0>{});
    cuda::ptx::cp_reduce_async_bulk(cuda::ptx::space_global, cuda::ptx::space_shared, cuda::ptx::op_add, out, tile, 64);
    cuda::ptx::cp_async_bulk_commit_group();
    cuda::ptx::cp_async_bulk_wait_group(cuda::ptx::n32_t<0>{});
  }
}
CASE(bulk_copies) {
  Values<int> in(count(256)), out(256);
  bulk<<<1, 64>>>(in.device(), out.device());
  bool good = true;
  for (int i = 0; i < 256; ++i) good &= out.get()[i] == (1001 + i) * (i < 16 ? 2 : 1);
  say("%s", good ? "good" : "bad");
}

__global__ void phases(int* out) {
  __shared__ unsigned long long barrier;
  const unsigned at = __cvta_generic_to_shared(&barrier);
  asm volatile("mbarrier.init.shared.b64 [%0], 2;" ::"r"(at));
  int i = 0;
  const auto over = [&](int parity) {
    int is;
    asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.s32 %0, 1, 0, p; }"
                 : "=r"(is) : "r"(at), "r"(parity) : "memory");
    out[i++] = is;
  };
  const auto arrive = [&] { asm volatile("{ .reg .b64 s; mbarrier.arrive.shared.b64 s, [%0]; }" ::"r"(at) : "memory"); };
  over(0);
  over(1);
  arrive();
  over(0);
  arrive();
  over(0);
  over(1);
  asm volatile("{ .reg .b64 s; mbarrier.arrive_drop.shared.b64 s, [%0]; }" ::"r"(at) : "memory");
  arrive();
  over(1);
  arrive();
  over(0);
  unsigned pending;
  asm volatile("{ .reg .b64 s; mbarrier.arrive.shared.b64 s, [%1]; mbarrier.pending_count.b64 %0, s; }" : "=r"(pending) : "r"(at) : "memory");
  out[i++] = pending;
}
CASE(phases_of_a_barrier) {
  Values<int> out(8);
  phases<<<1, 1>>>(out.device());
  print("over", out.get());
}

__global__ void elected(int* out) {
  unsigned is;
  asm volatile("{ .reg .pred p; elect.sync _|p, 0xffffffff; selp.u32 %0, 1, 0, p; }" : "=r"(is));
  out[threadIdx.x] = __popc(__ballot_sync(~0u, is));
}
CASE(one_lane_is_elected) {
  Values<int> out(32);
  elected<<<1, 32>>>(out.device());
  print("elected", {out.get()[0], out.get()[31]});
}

__global__ void hints(const int* in, int* out) {
  const int i = threadIdx.x;
  asm volatile("prefetch.global.L2 [%0];" ::"l"(in + i));
  unsigned long long policy;
  asm volatile("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
  int value;
  asm volatile("ld.global.L2::cache_hint.s32 %0, [%1], %2;" : "=r"(value) : "l"(in + i), "l"(policy));
  out[i] = value + __ldg(in + i) + __ldcs(in + i) + __ldcg(in + i);
  __threadfence_system();
}
CASE(caching_hints) {
  Values<int> in(count(4)), out(4);
  hints<<<1, 4>>>(in.device(), out.device());
  print("values", out.get());
}
