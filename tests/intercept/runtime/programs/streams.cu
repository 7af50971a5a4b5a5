// Streams, events, functions of the host in stream order.
#include <atomic>
#include <cstring>

#include "check.h"

__global__ void spin_add(int* cell, int by, int rounds) {
  volatile int waste = 0;
  for (int i = 0; i < rounds; ++i) waste = waste + i;
  *cell += by;
}

__global__ void copy_cell(const int* from, int* to) { *to = *from; }

std::atomic<int> steps{0};

void CUDART_CB host_step(void* data) { steps = steps * 10 + *static_cast<int*>(data); }

void CUDART_CB stream_step(cudaStream_t stream, cudaError_t status, void* data) {
  CHECK(status == cudaSuccess && stream == *static_cast<cudaStream_t*>(data));
  steps = steps * 10 + 9;
}

int main() {
  cudaStream_t first, second, third;
  OK(cudaStreamCreate(&first));
  OK(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
  int least = 0, greatest = 0, priority = 0;
  OK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  CHECK(greatest <= least);
  OK(cudaStreamCreateWithPriority(&third, cudaStreamDefault, greatest));
  OK(cudaStreamGetPriority(third, &priority));
  CHECK(priority == greatest);
  unsigned flags = 99;
  OK(cudaStreamGetFlags(second, &flags));
  CHECK(flags == cudaStreamNonBlocking);

  int *cells, host[2] = {0, 0};
  OK(cudaMalloc(&cells, sizeof host));
  OK(cudaMemset(cells, 0, sizeof host));
  cudaEvent_t ready, start, end;
  OK(cudaEventCreateWithFlags(&ready, cudaEventDisableTiming));
  OK(cudaEventCreate(&start));
  OK(cudaEventCreate(&end));
  OK(cudaDeviceSynchronize());
  OK(cudaEventRecord(start, first));
  spin_add<<<1, 1, 0, first>>>(cells, 42, 2000);
  OK(cudaEventRecord(ready, first));
  OK(cudaEventRecord(end, first));
  OK(cudaStreamWaitEvent(second, ready));
  copy_cell<<<1, 1, 0, second>>>(cells, cells + 1);
  OK(cudaMemcpyAsync(host, cells, sizeof host, cudaMemcpyDeviceToHost, second));
  OK(cudaStreamSynchronize(second));
  CHECK(host[0] == 42 && host[1] == 42);
  OK(cudaEventSynchronize(end));
  OK(cudaEventQuery(end));
  float milliseconds = -1;
  OK(cudaEventElapsedTime(&milliseconds, start, end));
  CHECK(milliseconds >= 0);
  FAILS(cudaErrorInvalidResourceHandle, cudaEventElapsedTime(&milliseconds, ready, end));
  OK(cudaStreamQuery(first));

  int one = 1, two = 2;
  OK(cudaLaunchHostFunc(first, host_step, &one));
  OK(cudaStreamAddCallback(first, stream_step, &first, 0));
  OK(cudaLaunchHostFunc(first, host_step, &two));
  OK(cudaStreamSynchronize(first));
  CHECK(steps == 192);

  cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusActive;
  OK(cudaStreamIsCapturing(first, &capturing));
  CHECK(capturing == cudaStreamCaptureStatusNone);
  FAILS(cudaErrorInvalidResourceHandle, cudaStreamDestroy(nullptr));
  FAILS(cudaErrorInvalidValue, cudaStreamCreateWithFlags(&first, 0x80));
  FAILS(cudaErrorInvalidResourceHandle, cudaEventRecord(nullptr));
  FAILS(cudaErrorInvalidValue, cudaEventCreate(nullptr));
  OK(cudaEventDestroy(ready));
  OK(cudaEventDestroy(start));
  OK(cudaEventDestroy(end));
  OK(cudaStreamDestroy(first));
  OK(cudaStreamDestroy(second));
  OK(cudaStreamDestroy(third));
  OK(cudaFree(cells));
  return passed();
}
