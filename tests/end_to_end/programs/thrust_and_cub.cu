// The parallel algorithms that come with the toolkit: their kernels are many, templated and large.
#include <cub/device/device_histogram.cuh>
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#include <cub/device/device_segmented_reduce.cuh>
#include <cub/device/device_select.cuh>
#include <thrust/device_vector.h>
#include <thrust/functional.h>
#include <thrust/reduce.h>
#include <thrust/scan.h>
#include <thrust/sort.h>
#include <thrust/transform_reduce.h>
#include <thrust/unique.h>

#include "program.h"

struct Square {
  __host__ __device__ long long operator()(int x) const { return static_cast<long long>(x) * x; }
};
struct IsOdd {
  __host__ __device__ bool operator()(int x) const { return x % 2 != 0; }
};

/// Calls a function of CUB twice: for the size of its storage, then to work.
template <class F>
void with_storage(F&& f) {
  std::size_t bytes = 0;
  CUDA_CHECK(f(nullptr, bytes));
  thrust::device_vector<char> storage(bytes);
  CUDA_CHECK(f(storage.data().get(), bytes));
}

int main() {
  const int n = 5000;
  std::vector<int> host(n);
  unsigned x = 1;
  for (int& value : host) value = static_cast<int>((x = x * 1664525u + 1013904223u) >> 16) % 1000 - 300;
  const thrust::device_vector<int> values(host.begin(), host.end());
  const auto same = [](const thrust::device_vector<int>& device, const std::vector<int>& expected) {
    std::vector<int> got(device.size());
    thrust::copy(device.begin(), device.end(), got.begin());
    return got == expected;
  };

  std::vector<int> sorted = host;
  std::sort(sorted.begin(), sorted.end());
  thrust::device_vector<int> a = values;
  thrust::sort(a.begin(), a.end());
  EXPECT(same(a, sorted));
  thrust::device_vector<int> b = values;
  thrust::stable_sort(b.begin(), b.end(), thrust::greater<int>());
  EXPECT(same(b, std::vector<int>(sorted.rbegin(), sorted.rend())));

  thrust::device_vector<int> scanned(n);
  thrust::inclusive_scan(values.begin(), values.end(), scanned.begin());
  std::vector<int> sums(n);
  std::partial_sum(host.begin(), host.end(), sums.begin());
  EXPECT(same(scanned, sums));
  EXPECT(thrust::reduce(values.begin(), values.end()) == sums.back());
  long long squares = 0;
  for (const int value : host) squares += static_cast<long long>(value) * value;
  EXPECT(thrust::transform_reduce(values.begin(), values.end(), Square{}, 0LL, thrust::plus<long long>()) == squares);
  a.erase(thrust::unique(a.begin(), a.end()), a.end());
  std::vector<int> unique = sorted;
  unique.erase(std::unique(unique.begin(), unique.end()), unique.end());
  EXPECT(same(a, unique));

  const int* in = values.data().get();
  thrust::device_vector<int> out(n), chosen(1), bins(10);
  with_storage([&](void* p, std::size_t& bytes) {
    return cub::DeviceSelect::If(p, bytes, in, out.data().get(), chosen.data().get(), n, IsOdd{});
  });
  std::vector<int> odd;
  std::copy_if(host.begin(), host.end(), std::back_inserter(odd), IsOdd{});
  EXPECT(chosen[0] == static_cast<int>(odd.size()));
  out.resize(odd.size());
  EXPECT(same(out, odd));

  with_storage([&](void* p, std::size_t& bytes) {
    return cub::DeviceHistogram::HistogramEven(p, bytes, in, bins.data().get(), 11, -300, 700, n);
  });
  std::vector<int> counts(10);
  for (const int value : host) ++counts[(value + 300) / 100];
  EXPECT(same(bins, counts));

  out.resize(n);
  with_storage([&](void* p, std::size_t& bytes) { return cub::DeviceRadixSort::SortKeys(p, bytes, in, out.data().get(), n); });
  EXPECT(same(out, sorted));
  with_storage([&](void* p, std::size_t& bytes) { return cub::DeviceScan::ExclusiveSum(p, bytes, in, out.data().get(), n); });
  EXPECT(out[n - 1] == sums[n - 2]);
  const std::vector<int> offsets = {0, 100, 100, 5000};
  const thrust::device_vector<int> segments(offsets.begin(), offsets.end());
  with_storage([&](void* p, std::size_t& bytes) {
    return cub::DeviceSegmentedReduce::Sum(p, bytes, in, out.data().get(), 3, segments.data().get(), segments.data().get() + 1);
  });
  EXPECT(out[0] == sums[99] && out[1] == 0 && out[2] == sums.back() - sums[99]);
  std::printf("passed\n");
}
