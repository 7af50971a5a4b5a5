// Streams, events, host functions, page-locked memory and threads that use them at once.
#include <unistd.h>

#include <atomic>
#include <thread>

#include "program.h"
__global__ void add(int* d, int v, int n) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) d[i] += v;
}
std::atomic<int> called{0}, called2{0};
int* hostSeen;
int seenVal;
void CUDART_CB hf(void* p) {
  called++;
  *(int*)p += 1;
}
void CUDART_CB cb(cudaStream_t s, cudaError_t e, void* p) {
  if (e == cudaSuccess) called2++;
  seenVal = *(int*)p;
}
int main() {
  int n = 10000;
  int* h;
  CUDA_CHECK(cudaMallocHost(&h, n * 4));
  int* hh;
  CUDA_CHECK(cudaHostAlloc(&hh, n * 4, cudaHostAllocDefault));
  std::vector<int> reg(n);
  CUDA_CHECK(cudaHostRegister(reg.data(), n * 4, cudaHostRegisterDefault));
  int* d[4];
  cudaStream_t s[4];
  cudaEvent_t e[4];
  for (int i = 0; i < 4; i++) {
    CUDA_CHECK(cudaMalloc(&d[i], n * 4));
    CUDA_CHECK(i & 1 ? cudaStreamCreateWithFlags(&s[i], cudaStreamNonBlocking) : cudaStreamCreate(&s[i]));
    CUDA_CHECK(cudaEventCreate(&e[i]));
  }
  for (int i = 0; i < n; i++) h[i] = i;
  for (int i = 0; i < 4; i++) {
    CUDA_CHECK(cudaMemcpyAsync(d[i], h, n * 4, cudaMemcpyHostToDevice, s[i]));
    add<<<8, 128, 0, s[i]>>>(d[i], i + 1, n);
  }
  for (int i = 0; i < 4; i++) {
    CUDA_CHECK(cudaMemcpyAsync(i & 1 ? hh : reg.data(), d[i], n * 4, cudaMemcpyDeviceToHost, s[i]));
    CUDA_CHECK(cudaStreamSynchronize(s[i]));
    int* r = i & 1 ? hh : reg.data();
    for (int k = 0; k < n; k++) EXPECT(r[k] == k + i + 1);
  }
  int cnt = 0;
  CUDA_CHECK(cudaMemcpyAsync(d[0], h, n * 4, cudaMemcpyHostToDevice, s[0]));
  add<<<8, 128, 0, s[0]>>>(d[0], 5, n);
  CUDA_CHECK(cudaMemcpyAsync(hh, d[0], n * 4, cudaMemcpyDeviceToHost, s[0]));
  CUDA_CHECK(cudaStreamAddCallback(s[0], cb, hh + 9, 0));
  CUDA_CHECK(cudaLaunchHostFunc(s[0], hf, &cnt));
  CUDA_CHECK(cudaLaunchHostFunc(s[0], hf, &cnt));
  CUDA_CHECK(cudaEventRecord(e[0], s[0]));
  CUDA_CHECK(cudaStreamWaitEvent(s[1], e[0], 0));
  add<<<8, 128, 0, s[1]>>>(d[0], 1, n);
  CUDA_CHECK(cudaMemcpyAsync(hh, d[0], 40, cudaMemcpyDeviceToHost, s[1]));
  CUDA_CHECK(cudaStreamSynchronize(s[1]));
  EXPECT(called == 2 && called2 == 1 && cnt == 2 && seenVal == 14 && hh[9] == 15);
  EXPECT(cudaStreamQuery(s[0]) == cudaSuccess);
  CUDA_CHECK(cudaEventRecord(e[1]));
  add<<<8, 128>>>(d[1], 1, n);
  CUDA_CHECK(cudaEventRecord(e[2]));
  CUDA_CHECK(cudaEventSynchronize(e[2]));
  float ms;
  CUDA_CHECK(cudaEventElapsedTime(&ms, e[1], e[2]));
  EXPECT(ms > 0 && ms < 10000);
  cudaEvent_t nt;
  CUDA_CHECK(cudaEventCreateWithFlags(&nt, cudaEventDisableTiming));
  CUDA_CHECK(cudaEventRecord(nt));
  CUDA_CHECK(cudaEventSynchronize(nt));
  EXPECT(cudaEventElapsedTime(&ms, e[1], nt) == cudaErrorInvalidResourceHandle);
  EXPECT(cudaEventQuery(nt) == cudaSuccess);
  cudaGetLastError();
  int lo, hi;
  CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&lo, &hi));
  cudaStream_t ps;
  CUDA_CHECK(cudaStreamCreateWithPriority(&ps, cudaStreamNonBlocking, hi));
  int pr;
  CUDA_CHECK(cudaStreamGetPriority(ps, &pr));
  EXPECT(pr == hi);
  unsigned fl;
  CUDA_CHECK(cudaStreamGetFlags(ps, &fl));
  EXPECT(fl == cudaStreamNonBlocking);
  CUDA_CHECK(cudaStreamDestroy(ps));
  std::vector<std::thread> th;
  std::atomic<int> ok{0};
  for (int t = 0; t < 6; t++)
    th.emplace_back([&, t] {
      cudaStream_t q;
      int* m;
      if (cudaStreamCreate(&q) || cudaMallocAsync((void**)&m, 4000, q)) return;
      cudaMemsetAsync(m, 0, 4000, q);
      for (int i = 0; i < 50; i++) add<<<1, 64, 0, q>>>(m, t, 1000);
      int r[1000];
      cudaMemcpyAsync(r, m, 4000, cudaMemcpyDeviceToHost, q);
      cudaFreeAsync(m, q);
      cudaStreamSynchronize(q);
      if (r[0] == 50 * t && r[999] == 50 * t) ok++;
      cudaStreamDestroy(q);
    });
  for (auto& t : th) t.join();
  EXPECT(ok == 6);
  CUDA_CHECK(cudaHostUnregister(reg.data()));
  CUDA_CHECK(cudaFreeHost(h));
  CUDA_CHECK(cudaFreeHost(hh));
  for (int i = 0; i < 4; i++) {
    CUDA_CHECK(cudaStreamDestroy(s[i]));
    CUDA_CHECK(cudaEventDestroy(e[i]));
    CUDA_CHECK(cudaFree(d[i]));
  }
  CUDA_CHECK(cudaMemcpy(0, 0, 0, cudaMemcpyHostToDevice));
  cudaStreamCaptureStatus cs;
  CUDA_CHECK(cudaStreamIsCapturing(0, &cs));
  EXPECT(cs == cudaStreamCaptureStatusNone);
  add<<<1, 1, 0, cudaStreamPerThread>>>(nullptr, 0, 0);
  CUDA_CHECK(cudaStreamSynchronize(cudaStreamPerThread));
  std::puts("passed");
}
