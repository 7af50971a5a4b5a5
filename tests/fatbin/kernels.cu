// Enough code that nvcc compresses it when it may.
__constant__ float table[64];

extern "C" __global__ void add(float* a, const float* b, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) a[i] += b[i] * sinf(a[i]) + table[i & 63];
}

extern "C" __global__ void power(float* a, const float* b, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) a[i] *= b[i] + powf(b[i], a[i]);
}
