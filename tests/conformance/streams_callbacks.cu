// Host functions and callbacks: their order, what waits for them, what may be done in them.
#include "case.h"

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

__global__ void add(int* where, int value) { *where += value; }
__global__ void store_far(int* where) { *where = 1; }

/// A host function that waits until it is released by a thread of the program.
struct Release {
  std::mutex mutex;
  std::condition_variable changed;
  bool entered = false, released = false;
  static void CUDART_CB function(void* data) {
    auto& self = *static_cast<Release*>(data);
    std::unique_lock lock(self.mutex);
    self.entered = true;
    self.changed.notify_all();
    self.changed.wait(lock, [&] { return self.released; });
  }
  void wait_entered() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return entered; });
  }
  void release() {
    std::unique_lock lock(mutex);
    released = true;
    changed.notify_all();
  }
};

static std::atomic<int> calls{0};
static void CUDART_CB count(void*) { ++calls; }
static void CUDART_CB append(void* data) {
  static std::mutex mutex;
  const std::scoped_lock lock(mutex);
  auto* pair = static_cast<std::pair<std::vector<int>*, int>*>(data);
  pair->first->push_back(pair->second);
}

CASE(a_host_function_runs_between_the_work_around_it) {
  int *device, *host;
  NEED(cudaMalloc(&device, sizeof(int)));
  NEED(cudaMallocHost(&host, 2 * sizeof(int)));
  NEED(cudaMemset(device, 0, sizeof(int)));
  cudaStream_t stream;
  NEED(cudaStreamCreate(&stream));
  add<<<1, 1, 0, stream>>>(device, 3);
  SHOW(cudaMemcpyAsync(&host[0], device, sizeof(int), cudaMemcpyDeviceToHost, stream));
  SHOW(cudaLaunchHostFunc(stream, [](void* data) { static_cast<int*>(data)[0] *= 10; }, host));
  SHOW(cudaMemcpyAsync(device, &host[0], sizeof(int), cudaMemcpyHostToDevice, stream));
  add<<<1, 1, 0, stream>>>(device, 1);
  SHOW(cudaMemcpyAsync(&host[1], device, sizeof(int), cudaMemcpyDeviceToHost, stream));
  SHOW(cudaStreamSynchronize(stream));
  say("%d %d", host[0], host[1]);
}

CASE(the_thread_that_releases_a_host_function_adds_work_behind_it_first) {
  int* device;
  int seen = 0;
  NEED(cudaMalloc(&device, sizeof(int)));
  cudaStream_t stream;
  cudaEvent_t event;
  NEED(cudaStreamCreate(&stream));
  NEED(cudaEventCreate(&event));
  add<<<1, 1, 0, stream>>>(device, 1);
  NEED(cudaMemset(device, 0, sizeof(int)));
  Release gate;
  SHOW(cudaLaunchHostFunc(stream, Release::function, &gate));
  gate.wait_entered();
  for (int i = 0; i < 200; ++i) add<<<1, 1, 0, stream>>>(device, 1);
  SHOW(cudaMemsetAsync(device, 0, sizeof(int), stream));
  for (int i = 0; i < 7; ++i) add<<<1, 1, 0, stream>>>(device, 1);
  SHOW(cudaEventRecord(event, stream));
  SHOW(cudaLaunchHostFunc(stream, count, nullptr));
  SHOW(cudaStreamQuery(stream));
  SHOW(cudaEventQuery(event));
  say("%d calls", calls.load());
  gate.release();
  SHOW(cudaEventSynchronize(event));
  SHOW(cudaStreamSynchronize(stream));
  say("%d calls", calls.load());
  SHOW(cudaMemcpy(&seen, device, sizeof seen, cudaMemcpyDeviceToHost));
  say("%d", seen);
}

CASE(other_streams_go_on_meanwhile) {
  int *a, *b;
  int seen = 0;
  NEED(cudaMalloc(&a, sizeof(int)));
  NEED(cudaMalloc(&b, sizeof(int)));
  NEED(cudaMemset(b, 0, sizeof(int)));
  NEED(cudaDeviceSynchronize());  // streams that do not block do not wait for it
  cudaStream_t held, free;
  NEED(cudaStreamCreateWithFlags(&held, cudaStreamNonBlocking));
  NEED(cudaStreamCreateWithFlags(&free, cudaStreamNonBlocking));
  add<<<1, 1, 0, free>>>(b, 1);
  NEED(cudaStreamSynchronize(free));
  Release gate;
  SHOW(cudaLaunchHostFunc(held, Release::function, &gate));
  add<<<1, 1, 0, held>>>(a, 1);
  for (int i = 0; i < 100; ++i) add<<<1, 1, 0, free>>>(b, 1);
  SHOW(cudaStreamSynchronize(free));
  SHOW(cudaStreamQuery(held));
  SHOW(cudaMemcpyAsync(&seen, b, sizeof seen, cudaMemcpyDeviceToHost, free));
  SHOW(cudaStreamSynchronize(free));
  say("%d", seen);
  gate.release();
  SHOW(cudaStreamSynchronize(held));
}

CASE(an_event_behind_a_host_function_holds_the_streams_that_wait_for_it) {
  int *device, *host;
  NEED(cudaMalloc(&device, sizeof(int)));
  NEED(cudaMallocHost(&host, sizeof(int)));
  *host = 1;
  cudaStream_t first, second;
  cudaEvent_t event;
  NEED(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking));
  NEED(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
  NEED(cudaEventCreate(&event));
  SHOW(cudaLaunchHostFunc(first, [](void* data) { usleep(100000); *static_cast<int*>(data) = 42; }, host));
  SHOW(cudaEventRecord(event, first));
  SHOW(cudaStreamWaitEvent(second, event, 0));
  SHOW(cudaMemcpyAsync(device, host, sizeof(int), cudaMemcpyHostToDevice, second));
  int seen = 0;
  SHOW(cudaMemcpyAsync(&seen, device, sizeof(int), cudaMemcpyDeviceToHost, second));
  SHOW(cudaStreamSynchronize(second));
  say("%d", seen);
}

CASE(thousands_of_host_functions_in_order) {
  std::vector<int> order;
  std::vector<std::pair<std::vector<int>*, int>> items;
  cudaStream_t stream;
  NEED(cudaStreamCreate(&stream));
  for (int i = 0; i < 3000; ++i) items.push_back({&order, i});
  for (auto& item : items) NEED(cudaLaunchHostFunc(stream, append, &item));
  SHOW(cudaStreamSynchronize(stream));
  bool sorted = true;
  for (int i = 0; i < static_cast<int>(order.size()); ++i) sorted = sorted && order[i] == i;
  say("%zu, %s", order.size(), sorted ? "in order" : "out of order");
}

CASE(host_functions_of_many_streams) {
  cudaStream_t streams[32];
  for (auto& stream : streams) NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  for (int i = 0; i < 20; ++i)
    for (auto& stream : streams) NEED(cudaLaunchHostFunc(stream, count, nullptr));
  SHOW(cudaDeviceSynchronize());
  say("%d calls", calls.load());
}

CASE(a_host_function_that_takes_long_is_waited_for) {
  cudaStream_t stream;
  NEED(cudaStreamCreate(&stream));
  int value = 0;
  SHOW(cudaLaunchHostFunc(stream, [](void* data) { usleep(300000); *static_cast<int*>(data) = 1; }, &value));
  SHOW(cudaStreamQuery(stream));
  SHOW(cudaDeviceSynchronize());
  say("%d", value);
}

CASE(the_legacy_stream_waits_for_host_functions) {
  cudaStream_t stream;
  NEED(cudaStreamCreate(&stream));
  int value = 0;
  SHOW(cudaLaunchHostFunc(stream, [](void* data) { usleep(100000); *static_cast<int*>(data) = 1; }, &value));
  SHOW(cudaLaunchHostFunc(nullptr, [](void* data) { *static_cast<int*>(data) += 10; }, &value));
  SHOW(cudaStreamSynchronize(nullptr));
  say("%d", value);
}

CASE(callbacks_get_the_stream_and_the_status) {
  struct Seen {
    cudaStream_t stream;
    cudaError_t status;
    int number;
  } seen{nullptr, cudaErrorUnknown, 0};
  cudaStream_t stream;
  NEED(cudaStreamCreate(&stream));
  SHOW(cudaStreamAddCallback(
      stream,
      [](cudaStream_t which, cudaError_t status, void* data) {
        *static_cast<Seen*>(data) = {which, status, 1};
      },
      &seen, 0));
  SHOW(cudaStreamSynchronize(stream));
  say("%d %s %s", seen.number, seen.stream == stream ? "its stream" : "another stream",
      cudaGetErrorName(seen.status));
}

CASE(host_functions_after_a_fault) {
  static std::atomic<int> seen{0};
  cudaStream_t stream;
  NEED(cudaStreamCreate(&stream));
  store_far<<<1, 1, 0, stream>>>(reinterpret_cast<int*>(0x1000));
  // Refused, if the fault is known already.
  static_cast<void>(cudaLaunchHostFunc(stream, [](void*) { ++seen; }, nullptr));
  SHOW(cudaStreamSynchronize(stream));
  say("%d", seen.load());
}

CASE(cuda_is_not_permitted_in_a_host_function) {
  struct Seen {
    cudaError_t alloc, launch, query, synchronise;
    void* memory;
    cudaStream_t stream;
  } seen{};
  NEED(cudaStreamCreate(&seen.stream));
  NEED(cudaLaunchHostFunc(
      seen.stream,
      [](void* data) {
        auto& s = *static_cast<Seen*>(data);
        s.alloc = cudaMalloc(&s.memory, 16);
        s.query = cudaStreamQuery(s.stream);
        s.synchronise = cudaDeviceSynchronize();
        s.launch = cudaMemsetAsync(nullptr, 0, 16, s.stream);
      },
      &seen));
  SHOW(cudaStreamSynchronize(seen.stream));
  say("%s %s %s %s", cudaGetErrorName(seen.alloc), cudaGetErrorName(seen.query), cudaGetErrorName(seen.synchronise),
      cudaGetErrorName(seen.launch));
  SHOW(cudaGetLastError());
}

CASE(what_is_no_host_function) {
  cudaStream_t stream;
  NEED(cudaStreamCreate(&stream));
  SHOW(cudaLaunchHostFunc(stream, nullptr, nullptr));
  SHOW(cudaStreamAddCallback(stream, nullptr, nullptr, 0));
  SHOW(cudaStreamAddCallback(stream, [](cudaStream_t, cudaError_t, void*) {}, nullptr, 1));
  SHOW(cudaStreamSynchronize(stream));
}

CASE(a_stream_is_destroyed_before_its_host_function_has_run) {
  cudaStream_t stream;
  NEED(cudaStreamCreate(&stream));
  Release gate;
  SHOW(cudaLaunchHostFunc(stream, Release::function, &gate));
  SHOW(cudaLaunchHostFunc(stream, count, nullptr));
  SHOW(cudaStreamDestroy(stream));
  say("%d calls", calls.load());
  gate.release();
  SHOW(cudaDeviceSynchronize());
  while (calls.load() == 0) usleep(1000);
  say("%d calls", calls.load());
}

CASE(host_functions_release_each_other) {
  cudaStream_t first, second;
  NEED(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking));
  NEED(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
  cudaEvent_t event;
  NEED(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  std::vector<int> order;
  std::pair<std::vector<int>*, int> one{&order, 1}, two{&order, 2}, three{&order, 3};
  // Launched first, runs second.
  NEED(cudaLaunchHostFunc(second, append, &one));
  NEED(cudaEventRecord(event, second));
  NEED(cudaStreamWaitEvent(first, event, 0));
  NEED(cudaLaunchHostFunc(first, append, &two));
  NEED(cudaEventRecord(event, first));
  NEED(cudaStreamWaitEvent(second, event, 0));
  NEED(cudaLaunchHostFunc(second, append, &three));
  SHOW(cudaDeviceSynchronize());
  for (const int number : order) say("%d", number);
}
