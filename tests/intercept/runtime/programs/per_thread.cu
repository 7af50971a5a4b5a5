// Compiled with --default-stream per-thread: stream 0 is the thread's own.
#include <cstring>
#include <thread>

#include "check.h"

__global__ void slow_set(int* cell, int value) {
  volatile int waste = 0;
  for (int i = 0; i < 1000; ++i) waste = waste + i;
  *cell = value;
}

__device__ int variable;

void work(int id) {
  int *cell, host = 0;
  OK(cudaMalloc(&cell, sizeof host));
  for (int i = 0; i < 20; ++i) {
    slow_set<<<1, 1>>>(cell, id * 100 + i);
    OK(cudaMemcpyAsync(&host, cell, sizeof host, cudaMemcpyDeviceToHost));
    OK(cudaStreamSynchronize(nullptr));
    CHECK(host == id * 100 + i);
  }
  OK(cudaMemset(cell, 0, sizeof host));
  OK(cudaMemcpy(&host, cell, sizeof host, cudaMemcpyDeviceToHost));
  CHECK(host == 0);
  int rows[4] = {1, 2, 3, 4}, *device_rows;
  OK(cudaMalloc(&device_rows, sizeof rows));
  OK(cudaMemcpy2D(device_rows, 8, rows, 8, 8, 2, cudaMemcpyHostToDevice));
  OK(cudaMemset2D(device_rows, 8, 0, 4, 2));
  OK(cudaMemcpy2D(rows, 8, device_rows, 8, 8, 2, cudaMemcpyDeviceToHost));
  CHECK(rows[0] == 0 && rows[1] == 2 && rows[2] == 0 && rows[3] == 4);
  cudaEvent_t event;
  OK(cudaEventCreate(&event));
  OK(cudaEventRecord(event));
  OK(cudaEventSynchronize(event));
  OK(cudaEventDestroy(event));
  OK(cudaStreamQuery(nullptr));
  OK(cudaFree(cell));
  OK(cudaFree(device_rows));
}

int main() {
  std::thread other(work, 1);
  work(2);
  other.join();
  int value = 6, back = 0;
  OK(cudaMemcpyToSymbol(variable, &value, sizeof value));
  OK(cudaMemcpyFromSymbol(&back, variable, sizeof back));
  CHECK(back == 6);
  return passed();
}
