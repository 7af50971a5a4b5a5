// Kernels of every kind that <<<>>> can launch.
#include "check.h"

__global__ void add(const float* a, const float* b, float* sum, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) sum[i] = a[i] + b[i];
}

template <class T, int Factor>
__global__ void scale(T* values, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) values[i] = values[i] * Factor;
}

struct Parameters {
  int start;
  double step;
  char text[5];
};

__global__ void by_value(Parameters parameters, double* out) {
  out[threadIdx.x] = parameters.start + parameters.step * threadIdx.x + parameters.text[threadIdx.x];
}

__global__ void where(uint3* out) {
  const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  if (thread == 0) out[block] = blockIdx;
}

__global__ void dynamic_shared(int* out) {
  extern __shared__ int cells[];
  cells[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = cells[blockDim.x - 1 - threadIdx.x];
}

static __global__ void nothing() {}

__global__ void increment(int* cell, int by) { *cell += by; }

int launch_inside_an_argument(int* cell) {
  increment<<<1, 1>>>(cell, 1);
  return 2;
}

int main() {
  constexpr int kCount = 1000;
  float *a, *b, *sum;
  OK(cudaMalloc(&a, kCount * sizeof(float)));
  OK(cudaMalloc(&b, kCount * sizeof(float)));
  OK(cudaMalloc(&sum, kCount * sizeof(float)));
  static float host[kCount];
  for (int i = 0; i < kCount; ++i) host[i] = static_cast<float>(i);
  OK(cudaMemcpy(a, host, sizeof host, cudaMemcpyHostToDevice));
  OK(cudaMemcpy(b, host, sizeof host, cudaMemcpyHostToDevice));
  add<<<(kCount + 127) / 128, 128>>>(a, b, sum, kCount);
  OK(cudaGetLastError());
  scale<float, 3><<<(kCount + 255) / 256, 256>>>(sum, kCount);
  OK(cudaMemcpy(host, sum, sizeof host, cudaMemcpyDeviceToHost));
  for (int i = 0; i < kCount; ++i) CHECK(host[i] == 6.0f * static_cast<float>(i));

  double* doubles;
  double host_doubles[4];
  OK(cudaMalloc(&doubles, sizeof host_doubles));
  by_value<<<1, 4>>>(Parameters{10, 0.5, {1, 2, 3, 4, 0}}, doubles);
  OK(cudaMemcpy(host_doubles, doubles, sizeof host_doubles, cudaMemcpyDeviceToHost));
  for (int i = 0; i < 4; ++i) CHECK(host_doubles[i] == 10 + 0.5 * i + (i + 1));

  uint3* places;
  uint3 host_places[24];
  OK(cudaMalloc(&places, sizeof host_places));
  where<<<dim3(2, 3, 4), dim3(4, 2, 2)>>>(places);
  OK(cudaMemcpy(host_places, places, sizeof host_places, cudaMemcpyDeviceToHost));
  for (unsigned i = 0; i < 24; ++i)
    CHECK(host_places[i].x == i % 2 && host_places[i].y == i / 2 % 3 && host_places[i].z == i / 6);

  int* ints;
  int host_ints[64];
  OK(cudaMalloc(&ints, sizeof host_ints));
  dynamic_shared<<<1, 64, 64 * sizeof(int)>>>(ints);
  OK(cudaMemcpy(host_ints, ints, sizeof host_ints, cudaMemcpyDeviceToHost));
  for (int i = 0; i < 64; ++i) CHECK(host_ints[i] == 63 - i);

  OK(cudaMemset(ints, 0, sizeof(int)));
  for (int i = 0; i < 200; ++i) {
    increment<<<1, 1>>>(ints, 1);
    nothing<<<2, 2>>>();
  }
  // The configuration of the outer launch survives the inner one.
  increment<<<1, 1>>>(ints, launch_inside_an_argument(ints));
  OK(cudaDeviceSynchronize());
  OK(cudaMemcpy(host_ints, ints, sizeof(int), cudaMemcpyDeviceToHost));
  CHECK(host_ints[0] == 203);

  int by = 7;
  void* arguments[] = {&ints, &by};
  OK(cudaLaunchKernel(increment, dim3(1), dim3(1), arguments, 0, nullptr));
  OK(cudaMemcpy(host_ints, ints, sizeof(int), cudaMemcpyDeviceToHost));
  CHECK(host_ints[0] == 210);
  for (void* pointer : {static_cast<void*>(a), static_cast<void*>(b), static_cast<void*>(sum),
                        static_cast<void*>(doubles), static_cast<void*>(places), static_cast<void*>(ints)})
    OK(cudaFree(pointer));
  return passed();
}
