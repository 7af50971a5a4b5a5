// What the lanes of a warp do together, and blocks at their barriers.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>

#include "device_memory.h"

namespace cg = cooperative_groups;

__global__ void votes(int* out) {
  const int lane = threadIdx.x;
  const int all = __all_sync(~0u, lane < 32), any = __any_sync(~0u, lane == 40), ballot = __ballot_sync(~0u, lane % 3 == 0);
  if (lane == 0) {
    out[0] = all;
    out[1] = any;
    out[2] = ballot;
  }
}
CASE(votes) {
  Values<int> out(3);
  votes<<<1, 32>>>(out.device());
  print("votes", out.get());
}

__global__ void shuffles(int* out) {
  const int lane = threadIdx.x;
  out[lane] = __shfl_up_sync(~0u, lane, 1, 8) + 100 * __shfl_down_sync(~0u, lane, 3) + 10000 * __shfl_xor_sync(~0u, lane, 16) +
              1000000 * __shfl_sync(~0u, lane, 5, 16);
}
CASE(shuffles) {
  Values<int> out(32);
  shuffles<<<1, 32>>>(out.device());
  print("shuffles", out.get());
}

__global__ void matches(int* out) {
  int all = 7;
  const int lane = threadIdx.x;
  out[lane] = __match_any_sync(~0u, lane / 5);
  out[32 + lane] = __match_all_sync(~0u, lane / 32, &all) + all;
  out[64 + lane] = __match_all_sync(~0u, lane, &all) + all;
}
CASE(matches) {
  Values<int> out(96);
  matches<<<1, 32>>>(out.device());
  print("matches", out.get());
}

__global__ void reductions(int* out) {
  const int lane = threadIdx.x;
  const int sum = __reduce_add_sync(~0u, lane), least = __reduce_min_sync(~0u, lane - 9), most = __reduce_max_sync(~0u, lane - 40);
  const int with = __reduce_and_sync(~0u, lane | 64), either = __reduce_or_sync(~0u, 1u << lane / 4), odd = __reduce_xor_sync(~0u, lane * 3);
  if (lane == 31) {
    const int values[] = {sum, least, most, with, either, odd};
    for (int i = 0; i < 6; ++i) out[i] = values[i];
  }
}
CASE(reductions_of_a_warp) {
  Values<int> out(6);
  reductions<<<1, 32>>>(out.device());
  print("reductions", out.get());
}

__global__ void divergence(int* out) {
  const int lane = threadIdx.x;
  int value = 0;
  for (int i = 0; i < lane % 7; ++i) value += i * lane;
  if (lane & 1) value += __popc(__activemask() & 0xAAAAAAAA) > 0;
  switch (lane % 4) {
    case 0: value += 1000; break;
    case 1: value += 2000; [[fallthrough]];
    case 2: value += 4000; break;
    default: break;
  }
  __syncwarp();
  out[lane] = value;
}
CASE(divergent_lanes) {
  Values<int> out(32);
  divergence<<<1, 32>>>(out.device());
  print("values", out.get());
}

__global__ void barrier_reductions(int* out) {
  const int thread = threadIdx.x;
  const int count = __syncthreads_count(thread % 3 == 0), all = __syncthreads_and(thread < 96), any = __syncthreads_or(thread == 95);
  if (thread == 50) {
    out[0] = count;
    out[1] = all;
    out[2] = any;
  }
}
CASE(barriers_that_count) {
  Values<int> out(3);
  barrier_reductions<<<1, 96>>>(out.device());
  print("count, and, or", out.get());
}

__global__ void named_barriers(int* out) {
  __shared__ int cell;
  if (threadIdx.x < 32) {
    if (threadIdx.x == 0) cell = 42;
    asm volatile("bar.arrive 1, 64;" ::: "memory");
  } else {
    asm volatile("bar.sync 1, 64;" ::: "memory");
    out[threadIdx.x - 32] = cell;
  }
}
CASE(named_barriers) {
  Values<int> out(32);
  named_barriers<<<1, 64>>>(out.device());
  print("consumers", out.get());
}

__global__ void tiles(int* out) {
  auto block = cg::this_thread_block();
  auto tile = cg::tiled_partition<8>(block);
  const int lane = block.thread_rank();
  const int sum = cg::reduce(tile, lane, cg::plus<int>()), most = cg::reduce(tile, lane, cg::greater<int>());
  out[lane] = sum * 1000 + most * 10 + tile.thread_rank();
  out[64 + lane] = cg::inclusive_scan(tile, lane) * 1000 + cg::exclusive_scan(tile, lane);
}
CASE(tiles_reduce_and_scan) {
  Values<int> out(128);
  tiles<<<1, 64>>>(out.device());
  print("tiles", out.get());
}

__global__ void coalesced(int* out) {
  const int lane = threadIdx.x;
  out[lane] = -1;
  if (lane % 3 == 1) {
    auto active = cg::coalesced_threads();
    out[lane] = active.size() * 100 + active.thread_rank();
  }
  auto parts = cg::labeled_partition(cg::tiled_partition<32>(cg::this_thread_block()), lane % 5);
  out[32 + lane] = parts.size() * 100 + parts.thread_rank();
}
CASE(coalesced_and_labeled_groups) {
  Values<int> out(64);
  coalesced<<<1, 32>>>(out.device());
  print("groups", out.get());
}

__global__ void grid_sync(int* out) {
  auto grid = cg::this_grid();
  out[grid.thread_rank()] = grid.thread_rank();
  grid.sync();
  const int other = grid.size() - 1 - grid.thread_rank();
  const int value = out[other];
  grid.sync();
  out[grid.thread_rank()] = value;
}
CASE(a_grid_synchronises) {
  Values<int> out(64);
  int* device = out.device();
  void* arguments[] = {&device};
  SHOW(cudaLaunchCooperativeKernel((void*)grid_sync, dim3(4), dim3(16), arguments, 0, 0));
  print("reversed", out.get());
}

__global__ void ranks(int* out) {
  auto cluster = cg::this_cluster();
  __shared__ int cell;
  cell = 5;
  cluster.sync();
  int* remote = cluster.map_shared_rank(&cell, cluster.block_rank());
  if (threadIdx.x == 0) {
    out[0] = cluster.num_blocks();
    out[1] = cluster.block_rank();
    out[2] = *remote;
    out[3] = cluster.num_threads();
  }
  cluster.sync();
}
CASE(a_cluster_of_one_block) {
  Values<int> out(4);
  ranks<<<2, 32>>>(out.device());
  print("cluster", out.get());
}

__global__ void specials(int* out) {
  if (threadIdx.x != 5 || threadIdx.y != 1 || blockIdx.x != 2) return;
  unsigned le, lt, laneid, warpid, dynamic;
  asm("mov.u32 %0, %%lanemask_le; mov.u32 %1, %%lanemask_lt; mov.u32 %2, %%laneid; mov.u32 %3, %%warpid; mov.u32 %4, %%dynamic_smem_size;"
      : "=r"(le), "=r"(lt), "=r"(laneid), "=r"(warpid), "=r"(dynamic));
  out[0] = le;
  out[1] = lt;
  out[2] = laneid;
  out[3] = dynamic;
  out[4] = gridDim.x * 100 + blockDim.y * 10 + warpSize;
}
CASE(special_registers) {
  Values<int> out(5);
  specials<<<3, dim3(8, 2), 100>>>(out.device());
  print("registers", out.get());
}
