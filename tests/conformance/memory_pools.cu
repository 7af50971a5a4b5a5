// Stream-ordered allocation and memory pools.
#include "case.h"

namespace {

constexpr size_t kMiB = 1 << 20;

__global__ void add(int* values, int count, int what) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) values[i] += what;
}

cudaMemPool_t make_pool(size_t most = 0) {
  cudaMemPoolProps props{};
  props.allocType = cudaMemAllocationTypePinned;
  props.location.type = cudaMemLocationTypeDevice;
  props.location.id = 0;
  props.maxSize = most;
  cudaMemPool_t pool = nullptr;
  NEED(cudaMemPoolCreate(&pool, &props));
  return pool;
}

unsigned long long number(cudaMemPool_t pool, cudaMemPoolAttr which) {
  unsigned long long value = 77;
  NEED(cudaMemPoolGetAttribute(pool, which, &value));
  return value;
}

int flag(cudaMemPool_t pool, cudaMemPoolAttr which) {
  int value = 77;
  NEED(cudaMemPoolGetAttribute(pool, which, &value));
  return value;
}

}  // namespace

CASE(allocation_in_stream_order_is_usable_there) {
  cudaStream_t stream;
  NEED(cudaStreamCreate(&stream));
  int* p = nullptr;
  SHOW(cudaMallocAsync(&p, 1000 * sizeof(int), stream));
  SHOW(cudaMemsetAsync(p, 0, 1000 * sizeof(int), stream));
  add<<<4, 256, 0, stream>>>(p, 1000, 5);
  std::vector<int> host(1000);
  SHOW(cudaMemcpyAsync(host.data(), p, 1000 * sizeof(int), cudaMemcpyDeviceToHost, stream));
  SHOW(cudaFreeAsync(p, stream));
  SHOW(cudaStreamSynchronize(stream));
  say("sum %d", std::accumulate(host.begin(), host.end(), 0));
}

CASE(freed_memory_is_reused_in_the_same_stream) {
  cudaStream_t stream;
  NEED(cudaStreamCreate(&stream));
  void *a = nullptr, *b = nullptr;
  NEED(cudaMallocAsync(&a, 2 * kMiB, stream));
  NEED(cudaFreeAsync(a, stream));
  NEED(cudaMallocAsync(&b, 2 * kMiB, stream));
  say("the same address: %d", a == b);
  NEED(cudaFreeAsync(b, stream));
  SHOW(cudaStreamSynchronize(stream));
}

CASE(memory_freed_in_one_stream_is_safe_in_another) {
  cudaStream_t first, second;
  NEED(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking));
  NEED(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
  constexpr int kCount = 1 << 18;
  std::vector<int> host(kCount);
  long long wrong = 0;
  for (int round = 0; round < 20; ++round) {
    int *a = nullptr, *b = nullptr;
    NEED(cudaMallocAsync(&a, kCount * sizeof(int), first));
    NEED(cudaMemsetAsync(a, 0, kCount * sizeof(int), first));
    for (int i = 0; i < 10; ++i) add<<<kCount / 256, 256, 0, first>>>(a, kCount, 1);
    NEED(cudaFreeAsync(a, first));
    NEED(cudaMallocAsync(&b, kCount * sizeof(int), second));
    NEED(cudaMemsetAsync(b, 0, kCount * sizeof(int), second));
    add<<<kCount / 256, 256, 0, second>>>(b, kCount, 7);
    NEED(cudaMemcpyAsync(host.data(), b, kCount * sizeof(int), cudaMemcpyDeviceToHost, second));
    NEED(cudaFreeAsync(b, second));
    NEED(cudaStreamSynchronize(second));
    for (int v : host) wrong += v != 7;
  }
  say("wrong values: %lld", wrong);
  SHOW(cudaDeviceSynchronize());
}

CASE(freeing_in_another_stream_after_an_event) {
  cudaStream_t first, second;
  cudaEvent_t event;
  NEED(cudaStreamCreate(&first));
  NEED(cudaStreamCreate(&second));
  NEED(cudaEventCreate(&event));
  void* p = nullptr;
  NEED(cudaMallocAsync(&p, kMiB, first));
  NEED(cudaMemsetAsync(p, 1, kMiB, first));
  NEED(cudaEventRecord(event, first));
  NEED(cudaStreamWaitEvent(second, event));
  SHOW(cudaFreeAsync(p, second));
  SHOW(cudaDeviceSynchronize());
}

CASE(memory_of_a_pool_may_be_freed_by_cudaFree) {
  void* p = nullptr;
  NEED(cudaMallocAsync(&p, kMiB, 0));
  SHOW(cudaStreamSynchronize(0));
  SHOW(cudaFree(p));
  SHOW(cudaFree(p));
}

CASE(memory_of_cudaMalloc_may_be_freed_in_stream_order) {
  void* p = nullptr;
  NEED(cudaMalloc(&p, kMiB));
  SHOW(cudaFreeAsync(p, 0));
  SHOW(cudaDeviceSynchronize());
}

CASE(double_free) {
  void* p = nullptr;
  NEED(cudaMallocAsync(&p, kMiB, 0));
  SHOW(cudaFreeAsync(p, 0));
  SHOW(cudaFreeAsync(p, 0));
  SHOW(cudaGetLastError());
  SHOW(cudaGetLastError());
}

CASE(freeing_what_was_not_allocated) {
  void* p = nullptr;
  NEED(cudaMallocAsync(&p, kMiB, 0));
  SHOW(cudaFreeAsync(static_cast<char*>(p) + 4096, 0));
  int local = 0;
  SHOW(cudaFreeAsync(&local, 0));
  SHOW(cudaFreeAsync(p, 0));
}

CASE(invalid_arguments_of_allocation) {
  void* p = nullptr;
  CUdeviceptr d = 0;
  NEED(cudaFree(nullptr));
  SHOW(cudaMallocAsync(&p, 0, 0));
  say("null: %d", p == nullptr);
  SHOW(cudaMallocAsync(nullptr, 16, 0));
  SHOW(cuMemAllocAsync(&d, 0, 0));
  SHOW(cuMemAllocAsync(nullptr, 16, 0));
  SHOW(cuMemAllocFromPoolAsync(&d, 16, nullptr, 0));
  SHOW(cudaMallocAsync(&p, size_t{1} << 50, 0));
}

CASE(default_pool_is_the_current_one) {
  cudaMemPool_t pool = nullptr, current = nullptr;
  SHOW(cudaDeviceGetDefaultMemPool(&pool, 0));
  SHOW(cudaDeviceGetMemPool(&current, 0));
  say("the same: %d", pool == current);
  SHOW(cudaDeviceGetDefaultMemPool(nullptr, 0));
  SHOW(cudaDeviceGetMemPool(&current, 99));
  SHOW(cudaMemPoolDestroy(pool));
}

CASE(pools_by_location) {
  cudaMemPool_t pool = nullptr, other = nullptr;
  NEED(cudaDeviceGetDefaultMemPool(&pool, 0));
  cudaMemLocation here{};
  here.type = cudaMemLocationTypeDevice;
  here.id = 0;
  SHOW(cudaMemGetDefaultMemPool(&other, &here, cudaMemAllocationTypePinned));
  say("the default: %d", pool == other);
  cudaMemPool_t mine = make_pool();
  SHOW(cudaMemSetMemPool(&here, cudaMemAllocationTypePinned, mine));
  SHOW(cudaMemGetMemPool(&other, &here, cudaMemAllocationTypePinned));
  say("mine: %d", mine == other);
  SHOW(cudaMemGetDefaultMemPool(&other, nullptr, cudaMemAllocationTypePinned));
}

CASE(attributes_of_a_new_pool) {
  cudaMemPool_t pool = make_pool();
  say("follow events %d", flag(pool, cudaMemPoolReuseFollowEventDependencies));
  say("opportunistic %d", flag(pool, cudaMemPoolReuseAllowOpportunistic));
  say("internal dependencies %d", flag(pool, cudaMemPoolReuseAllowInternalDependencies));
  say("threshold %llu", number(pool, cudaMemPoolAttrReleaseThreshold));
  say("reserved %llu", number(pool, cudaMemPoolAttrReservedMemCurrent));
  say("reserved high %llu", number(pool, cudaMemPoolAttrReservedMemHigh));
  say("used %llu", number(pool, cudaMemPoolAttrUsedMemCurrent));
  say("used high %llu", number(pool, cudaMemPoolAttrUsedMemHigh));
  SHOW(cudaMemPoolDestroy(pool));
}

CASE(attributes_that_are_set) {
  cudaMemPool_t pool = make_pool();
  unsigned long long threshold = 123456789;
  int off = 0;
  SHOW(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold));
  SHOW(cudaMemPoolSetAttribute(pool, cudaMemPoolReuseFollowEventDependencies, &off));
  SHOW(cudaMemPoolSetAttribute(pool, cudaMemPoolReuseAllowOpportunistic, &off));
  SHOW(cudaMemPoolSetAttribute(pool, cudaMemPoolReuseAllowInternalDependencies, &off));
  say("threshold %llu", number(pool, cudaMemPoolAttrReleaseThreshold));
  say("flags %d %d %d", flag(pool, cudaMemPoolReuseFollowEventDependencies),
      flag(pool, cudaMemPoolReuseAllowOpportunistic), flag(pool, cudaMemPoolReuseAllowInternalDependencies));
}

CASE(attributes_that_cannot_be_set) {
  cudaMemPool_t pool = make_pool();
  unsigned long long value = 5;
  SHOW(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &value));
  SHOW(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &value));
  SHOW(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReservedMemHigh, &value));
  SHOW(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrUsedMemHigh, &value));
  SHOW(cudaMemPoolSetAttribute(pool, static_cast<cudaMemPoolAttr>(99), &value));
  SHOW(cudaMemPoolGetAttribute(pool, static_cast<cudaMemPoolAttr>(99), &value));
}

CASE(used_memory_and_its_high_mark) {
  cudaMemPool_t pool = make_pool();
  void *a = nullptr, *b = nullptr;
  NEED(cudaMallocFromPoolAsync(&a, 2 * kMiB, pool, 0));
  NEED(cudaMallocFromPoolAsync(&b, 4 * kMiB, pool, 0));
  say("used %llu", number(pool, cudaMemPoolAttrUsedMemCurrent) / kMiB);
  say("reserved is at least as much: %d",
      number(pool, cudaMemPoolAttrReservedMemCurrent) >= number(pool, cudaMemPoolAttrUsedMemCurrent));
  NEED(cudaFreeAsync(b, 0));
  NEED(cudaStreamSynchronize(0));
  say("used %llu high %llu", number(pool, cudaMemPoolAttrUsedMemCurrent) / kMiB,
      number(pool, cudaMemPoolAttrUsedMemHigh) / kMiB);
  unsigned long long zero = 0;
  SHOW(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrUsedMemHigh, &zero));
  say("high %llu", number(pool, cudaMemPoolAttrUsedMemHigh) / kMiB);
  NEED(cudaFreeAsync(a, 0));
  NEED(cudaStreamSynchronize(0));
  say("used %llu", number(pool, cudaMemPoolAttrUsedMemCurrent));
}

CASE(synchronising_releases_what_is_free) {
  cudaMemPool_t pool = make_pool();
  void* a = nullptr;
  NEED(cudaMallocFromPoolAsync(&a, 8 * kMiB, pool, 0));
  NEED(cudaFreeAsync(a, 0));
  NEED(cudaStreamSynchronize(0));
  say("reserved %llu", number(pool, cudaMemPoolAttrReservedMemCurrent));
}

CASE(the_release_threshold_keeps_memory) {
  cudaMemPool_t pool = make_pool();
  unsigned long long all = ~0ull;
  NEED(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all));
  void* a = nullptr;
  NEED(cudaMallocFromPoolAsync(&a, 8 * kMiB, pool, 0));
  NEED(cudaFreeAsync(a, 0));
  NEED(cudaStreamSynchronize(0));
  say("kept: %d", number(pool, cudaMemPoolAttrReservedMemCurrent) >= 8 * kMiB);
  SHOW(cudaMemPoolTrimTo(pool, 0));
  say("reserved %llu", number(pool, cudaMemPoolAttrReservedMemCurrent));
}

CASE(trimming_leaves_what_is_in_use) {
  cudaMemPool_t pool = make_pool();
  int* a = nullptr;
  NEED(cudaMallocFromPoolAsync(&a, kMiB, pool, 0));
  NEED(cudaMemsetAsync(a, 0, kMiB, 0));
  SHOW(cudaMemPoolTrimTo(pool, 0));
  add<<<1, 32>>>(a, 32, 3);
  int value = 0;
  NEED(cudaMemcpy(&value, a, sizeof value, cudaMemcpyDeviceToHost));
  say("value %d used %llu", value, number(pool, cudaMemPoolAttrUsedMemCurrent) / kMiB);
}

CASE(a_pool_with_a_greatest_size) {
  cudaMemPool_t pool = make_pool(64 * kMiB);
  void *a = nullptr, *b = nullptr;
  SHOW(cudaMallocFromPoolAsync(&a, 48 * kMiB, pool, 0));
  SHOW(cudaMallocFromPoolAsync(&b, 48 * kMiB, pool, 0));
  SHOW(cudaFreeAsync(a, 0));
  SHOW(cudaStreamSynchronize(0));
  SHOW(cudaMallocFromPoolAsync(&b, 48 * kMiB, pool, 0));
}

CASE(a_pool_may_be_destroyed_before_its_memory_is_freed) {
  cudaMemPool_t pool = make_pool();
  int* a = nullptr;
  NEED(cudaMallocFromPoolAsync(&a, kMiB, pool, 0));
  NEED(cudaMemsetAsync(a, 0, kMiB, 0));
  SHOW(cudaMemPoolDestroy(pool));
  add<<<1, 32>>>(a, 32, 4);
  int value = 0;
  SHOW(cudaMemcpy(&value, a, sizeof value, cudaMemcpyDeviceToHost));
  say("value %d", value);
  SHOW(cudaFreeAsync(a, 0));
  SHOW(cudaDeviceSynchronize());
}

CASE(destroying_the_current_pool_brings_the_default_one_back) {
  cudaMemPool_t pool = make_pool(), now = nullptr, standard = nullptr;
  SHOW(cudaDeviceSetMemPool(0, pool));
  NEED(cudaDeviceGetMemPool(&now, 0));
  say("set: %d", now == pool);
  SHOW(cudaMemPoolDestroy(pool));
  NEED(cudaDeviceGetMemPool(&now, 0));
  NEED(cudaDeviceGetDefaultMemPool(&standard, 0));
  say("default: %d", now == standard);
}

CASE(allocation_comes_from_the_current_pool) {
  cudaMemPool_t pool = make_pool();
  NEED(cudaDeviceSetMemPool(0, pool));
  void* a = nullptr;
  NEED(cudaMallocAsync(&a, 2 * kMiB, 0));
  say("used %llu", number(pool, cudaMemPoolAttrUsedMemCurrent) / kMiB);
  CUmemoryPool of = nullptr;
  SHOW(cuPointerGetAttribute(&of, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, reinterpret_cast<CUdeviceptr>(a)));
  say("its pool: %d", of == pool);
}

CASE(pointer_attributes_of_pool_memory) {
  char* a = nullptr;
  NEED(cudaMallocAsync(&a, 10000, 0));
  cudaPointerAttributes attributes{};
  SHOW(cudaPointerGetAttributes(&attributes, a + 5000));
  say("type %d device %d pointer %d", attributes.type, attributes.device, attributes.devicePointer == a + 5000);
  NEED(cudaFreeAsync(a, 0));
}

CASE(access_of_a_pool) {
  cudaMemPool_t pool = make_pool();
  cudaMemLocation here{};
  here.type = cudaMemLocationTypeDevice;
  here.id = 0;
  cudaMemAccessFlags flags = cudaMemAccessFlagsProtNone;
  SHOW(cudaMemPoolGetAccess(&flags, pool, &here));
  say("flags %d", flags);
  cudaMemAccessDesc access{};
  access.location = here;
  access.flags = cudaMemAccessFlagsProtReadWrite;
  SHOW(cudaMemPoolSetAccess(pool, &access, 1));
}

CASE(invalid_pools) {
  cudaMemPool_t pool = nullptr;
  cudaMemPoolProps props{};
  SHOW(cudaMemPoolCreate(&pool, nullptr));
  props.location.type = cudaMemLocationTypeDevice;
  SHOW(cudaMemPoolCreate(&pool, &props));
  props.allocType = cudaMemAllocationTypePinned;
  SHOW(cudaMemPoolCreate(nullptr, &props));
  props.location.type = cudaMemLocationTypeInvalid;
  SHOW(cudaMemPoolCreate(&pool, &props));
}

CASE(many_allocations_and_frees) {
  cudaStream_t streams[3];
  for (auto& s : streams) NEED(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
  unsigned seed = 1;
  std::vector<std::pair<unsigned*, cudaStream_t>> live;
  int failed = 0;
  for (int i = 0; i < 600; ++i) {
    seed = seed * 1664525u + 1013904223u;
    cudaStream_t stream = streams[seed >> 8 & 1 ? 0 : 1];
    unsigned* p = nullptr;
    const size_t bytes = 256 + (seed >> 12) % 200000;
    failed += cudaMallocAsync(&p, bytes, stream) != cudaSuccess;
    failed += cudaMemsetAsync(p, i & 0xff, bytes, stream) != cudaSuccess;
    live.push_back({p, stream});
    if (live.size() > 20) {
      const auto [oldest, its_stream] = live[seed % live.size()];
      failed += cudaFreeAsync(oldest, its_stream) != cudaSuccess;
      live.erase(live.begin() + seed % live.size());
      if (i % 5 == 0) failed += cudaStreamSynchronize(streams[i % 3]) != cudaSuccess;
    }
  }
  NEED(cudaDeviceSynchronize());
  for (auto& [p, its_stream] : live) failed += cudaFreeAsync(p, 0) != cudaSuccess;
  say("failed calls: %d", failed);
  SHOW(cudaDeviceSynchronize());
}
