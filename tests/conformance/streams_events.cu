// Streams and events: what queries, waits and records return, and for which handles.
#include "case.h"

#include <atomic>
#include <thread>
#include <chrono>

__global__ void add(int* where, int value) { *where += value; }
__global__ void wait_for(volatile int* flag) {
  while (*flag == 0) {
  }
}
__global__ void store_far(int* where) { *where = 1; }

/// Keeps a stream busy until it is opened by another stream.
struct Gate {
  int* flag = nullptr;
  cudaStream_t opener = nullptr;
  Gate() {
    NEED(cudaMalloc(&flag, sizeof(int)));
    NEED(cudaMemset(flag, 1, sizeof(int)));
    // Kernels are loaded at their first launch, which may wait for the device.
    wait_for<<<1, 1>>>(flag);
    add<<<1, 1>>>(flag, 0);
    NEED(cudaMemset(flag, 0, sizeof(int)));
    NEED(cudaDeviceSynchronize());
    NEED(cudaStreamCreateWithFlags(&opener, cudaStreamNonBlocking));
  }
  void close(cudaStream_t stream) { wait_for<<<1, 1, 0, stream>>>(flag); }
  void open() { NEED(cudaMemsetAsync(flag, 1, sizeof(int), opener)); }
};

template <class Query>
cudaError_t poll(Query query) {
  cudaError_t error = cudaErrorNotReady;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while ((error = query()) == cudaErrorNotReady && std::chrono::steady_clock::now() < end) {
  }
  return error;
}

CASE(a_new_stream_and_a_new_event_are_done) {
  cudaStream_t stream;
  cudaEvent_t event;
  SHOW(cudaStreamCreate(&stream));
  SHOW(cudaEventCreate(&event));
  SHOW(cudaStreamQuery(stream));
  SHOW(cudaEventQuery(event));
  SHOW(cudaEventSynchronize(event));
  SHOW(cudaStreamWaitEvent(stream, event, 0));
  SHOW(cudaStreamDestroy(stream));
  SHOW(cudaEventDestroy(event));
}

CASE(queries_tell_when_work_is_not_done) {
  Gate gate;
  cudaStream_t stream, other;
  cudaEvent_t event, before;
  NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  NEED(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
  NEED(cudaEventCreate(&event));
  NEED(cudaEventCreate(&before));
  NEED(cudaEventRecord(before, stream));
  NEED(cudaEventSynchronize(before));
  gate.close(stream);
  NEED(cudaEventRecord(event, stream));
  SHOW(cudaEventQuery(before));
  SHOW(cudaEventQuery(event));
  SHOW(cudaEventQuery(event));
  SHOW(cudaStreamQuery(stream));
  SHOW(cudaStreamQuery(other));
  float time = 0;
  SHOW(cudaEventElapsedTime(&time, before, event));
  SHOW(cudaGetLastError());
  gate.open();
  SHOW(poll([&] { return cudaEventQuery(event); }));
  SHOW(poll([&] { return cudaStreamQuery(stream); }));
  SHOW(cudaEventElapsedTime(&time, before, event));
  say("%s", time > 0 ? "some time" : "no time");
}

CASE(not_ready_is_no_last_error) {
  Gate gate;
  cudaStream_t stream;
  NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  gate.close(stream);
  SHOW(cudaStreamQuery(stream));
  SHOW(cudaPeekAtLastError());
  gate.open();
  SHOW(cudaStreamSynchronize(stream));
}

CASE(an_event_means_its_last_record) {
  Gate gate;
  cudaStream_t stream;
  cudaEvent_t event;
  NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  NEED(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  for (int round = 0; round < 3; ++round) {
    NEED(cudaEventRecord(event, stream));
    SHOW(poll([&] { return cudaEventQuery(event); }));
  }
  gate.close(stream);
  NEED(cudaEventRecord(event, stream));
  SHOW(cudaEventQuery(event));
  cudaStream_t idle;
  NEED(cudaStreamCreateWithFlags(&idle, cudaStreamNonBlocking));
  NEED(cudaEventRecord(event, idle));
  SHOW(poll([&] { return cudaEventQuery(event); }));
  SHOW(cudaStreamQuery(stream));
  gate.open();
  SHOW(cudaStreamSynchronize(stream));
}

CASE(a_synchronised_stream_has_finished_its_events) {
  cudaStream_t stream, other;
  cudaEvent_t first, second;
  int* value;
  NEED(cudaMalloc(&value, sizeof(int)));
  NEED(cudaMemset(value, 0, sizeof(int)));
  NEED(cudaDeviceSynchronize());  // streams that do not block do not wait for it
  NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  NEED(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
  NEED(cudaEventCreate(&first));
  NEED(cudaEventCreate(&second));
  for (int i = 0; i < 50; ++i) {
    add<<<1, 1, 0, stream>>>(value, 1);
    NEED(cudaEventRecord(first, stream));
    NEED(cudaStreamWaitEvent(other, first, 0));
    NEED(cudaEventRecord(second, other));
    NEED(cudaStreamSynchronize(other));
    if (cudaEventQuery(second) != cudaSuccess || cudaEventQuery(first) != cudaSuccess) say("too early at %d", i);
  }
  int seen = 0;
  NEED(cudaMemcpy(&seen, value, sizeof seen, cudaMemcpyDeviceToHost));
  say("%d", seen);
}

CASE(the_legacy_stream_waits_for_blocking_streams) {
  Gate gate;
  cudaStream_t blocking, free;
  NEED(cudaStreamCreate(&blocking));
  NEED(cudaStreamCreateWithFlags(&free, cudaStreamNonBlocking));
  gate.close(blocking);
  SHOW(cudaStreamQuery(free));
  cudaEvent_t event;
  NEED(cudaEventCreate(&event));
  NEED(cudaEventRecord(event, nullptr));
  SHOW(cudaEventQuery(event));
  SHOW(cudaStreamQuery(nullptr));
  gate.open();
  SHOW(cudaStreamSynchronize(nullptr));
  SHOW(cudaEventQuery(event));
  SHOW(cudaStreamQuery(blocking));
}

CASE(events_of_every_kind) {
  cudaEvent_t event;
  SHOW(cudaEventCreateWithFlags(&event, cudaEventBlockingSync));
  SHOW(cudaEventRecord(event));
  SHOW(cudaEventSynchronize(event));
  SHOW(cudaEventCreateWithFlags(&event, cudaEventBlockingSync | cudaEventDisableTiming));
  SHOW(cudaEventCreateWithFlags(&event, cudaEventInterprocess));
  SHOW(cudaEventCreateWithFlags(&event, 0x40));
  SHOW(cudaEventCreate(nullptr));
  SHOW(cudaGetLastError());
}

CASE(elapsed_time_needs_two_timed_events_that_were_recorded) {
  cudaEvent_t timed, untimed, never;
  NEED(cudaEventCreate(&timed));
  NEED(cudaEventCreate(&never));
  NEED(cudaEventCreateWithFlags(&untimed, cudaEventDisableTiming));
  NEED(cudaEventRecord(timed));
  NEED(cudaEventRecord(untimed));
  NEED(cudaDeviceSynchronize());
  float time = -1;
  SHOW(cudaEventElapsedTime(&time, timed, timed));
  say("%.1f", time);
  SHOW(cudaEventElapsedTime(&time, timed, untimed));
  SHOW(cudaEventElapsedTime(&time, timed, never));
  SHOW(cudaEventElapsedTime(&time, never, timed));
  SHOW(cudaEventElapsedTime(nullptr, timed, timed));
  SHOW(cudaEventElapsedTime(&time, nullptr, timed));
}

CASE(elapsed_time_between_streams_is_the_same_each_time) {
  cudaStream_t a, b;
  cudaEvent_t start, stop;
  int* value;
  NEED(cudaMalloc(&value, sizeof(int)));
  NEED(cudaStreamCreate(&a));
  NEED(cudaStreamCreate(&b));
  NEED(cudaEventCreate(&start));
  NEED(cudaEventCreate(&stop));
  NEED(cudaEventRecord(start, a));
  add<<<1, 1, 0, a>>>(value, 1);
  NEED(cudaEventRecord(stop, a));
  NEED(cudaStreamWaitEvent(b, stop, 0));
  NEED(cudaEventRecord(stop, b));
  NEED(cudaEventSynchronize(stop));
  float first = 0, second = 0;
  SHOW(cudaEventElapsedTime(&first, start, stop));
  SHOW(cudaEventElapsedTime(&second, start, stop));
  say("%s", first == second && first >= 0 ? "equal" : "different");
  NEED(cudaEventRecord(stop, b));
  NEED(cudaEventSynchronize(stop));
  SHOW(cudaEventElapsedTime(&second, start, stop));
  say("%s", second > first ? "later" : "not later");
}

CASE(null_handles) {
  SHOW(cudaEventQuery(nullptr));
  SHOW(cudaEventRecord(nullptr));
  SHOW(cudaEventSynchronize(nullptr));
  SHOW(cudaEventDestroy(nullptr));
  SHOW(cudaStreamWaitEvent(nullptr, nullptr, 0));
  SHOW(cudaStreamDestroy(nullptr));
  SHOW(cudaStreamDestroy(cudaStreamLegacy));
  SHOW(cudaStreamDestroy(cudaStreamPerThread));
  SHOW(cudaStreamCreate(nullptr));
  SHOW(cudaStreamCreateWithFlags(nullptr, 0));
}

CASE(flags_that_do_not_exist) {
  cudaStream_t stream;
  SHOW(cudaStreamCreateWithFlags(&stream, 2));
  NEED(cudaStreamCreate(&stream));
  cudaEvent_t event;
  NEED(cudaEventCreate(&event));
  SHOW(cudaEventRecordWithFlags(event, stream, 2));
  SHOW(cudaEventRecordWithFlags(event, stream, cudaEventRecordDefault));
  SHOW(cudaStreamWaitEvent(stream, event, 2));
  NEED(cudaStreamSynchronize(stream));
  SHOW(cudaEventQuery(event));
}

CASE(a_destroyed_event_that_was_waited_for) {
  Gate gate;
  cudaStream_t stream, other;
  cudaEvent_t event;
  int* value;
  int seen = 0;
  NEED(cudaMalloc(&value, sizeof(int)));
  NEED(cudaMemset(value, 0, sizeof(int)));
  NEED(cudaDeviceSynchronize());  // streams that do not block do not wait for it
  NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  NEED(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
  NEED(cudaEventCreate(&event));
  gate.close(stream);
  add<<<1, 1, 0, stream>>>(value, 5);
  SHOW(cudaEventRecord(event, stream));
  SHOW(cudaEventQuery(event));
  SHOW(cudaStreamWaitEvent(other, event, 0));
  SHOW(cudaEventDestroy(event));
  add<<<1, 1, 0, other>>>(value, 7);
  SHOW(cudaStreamDestroy(stream));
  gate.open();
  SHOW(cudaStreamSynchronize(other));
  SHOW(cudaMemcpy(&seen, value, sizeof seen, cudaMemcpyDeviceToHost));
  say("%d", seen);
}

CASE(a_fault_reaches_every_query) {
  cudaStream_t stream, other;
  cudaEvent_t event;
  NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  NEED(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
  NEED(cudaEventCreate(&event));
  // The fault comes after the record, which would else report it.
  Gate gate;
  gate.close(stream);
  store_far<<<1, 1, 0, stream>>>(reinterpret_cast<int*>(0x1000));
  NEED(cudaEventRecord(event, stream));
  gate.open();
  SHOW(poll([&] { return cudaEventQuery(event); }));
  SHOW(cudaStreamQuery(stream));
  SHOW(cudaStreamQuery(other));
  SHOW(cudaEventSynchronize(event));
  SHOW(cudaEventRecord(event, other));
  SHOW(cudaStreamSynchronize(other));
}

CASE(a_fault_reaches_a_stream_that_is_polled) {
  cudaStream_t stream;
  NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  store_far<<<1, 1, 0, stream>>>(reinterpret_cast<int*>(0x1000));
  SHOW(poll([&] { return cudaStreamQuery(stream); }));
  SHOW(cudaGetLastError());
  SHOW(cudaStreamQuery(stream));
}

CASE(many_events_polled_by_many_threads) {
  std::atomic<int> done{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      cudaStream_t stream;
      cudaEvent_t events[16];
      int* value;
      if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) || cudaMalloc(&value, sizeof(int))) return;
      for (auto& event : events)
        if (cudaEventCreateWithFlags(&event, cudaEventDisableTiming)) return;
      for (int round = 0; round < 20; ++round) {
        for (auto& event : events) {
          add<<<1, 1, 0, stream>>>(value, 1);
          if (cudaEventRecord(event, stream)) return;
        }
        for (auto& event : events)
          if (poll([&] { return cudaEventQuery(event); })) return;
        if (poll([&] { return cudaStreamQuery(stream); })) return;
      }
      ++done;
    });
  }
  for (auto& thread : threads) thread.join();
  say("%d threads", done.load());
}
