// Convolution with constant memory on pitched rows; a stencil on a pitched volume; copies of boxes.
#include "program.h"
#define R 8
__constant__ float K[2 * R + 1];
__constant__ int cfg[4] = {1, 2, 3, 4};
__global__ void rows(float* o, const float* in, int w, int h, size_t pitch) {
  __shared__ float s[4][32 + 2 * R];
  int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 4 + threadIdx.y;
  const float* row = (const float*)((const char*)in + y * pitch);
  for (int k = threadIdx.x; k < 32 + 2 * R; k += 32) {
    int xx = blockIdx.x * 32 + k - R;
    s[threadIdx.y][k] = xx >= 0 && xx < w ? row[xx] : 0;
  }
  __syncthreads();
  float a = 0;
#pragma unroll
  for (int k = -R; k <= R; k++) a += K[R + k] * s[threadIdx.y][threadIdx.x + R + k];
  ((float*)((char*)o + y * pitch))[x] = a * cfg[0];
}
__global__ void lap(cudaPitchedPtr o, cudaPitchedPtr in, int w, int h, int d) {
  int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y,
      z = blockIdx.z * blockDim.z + threadIdx.z;
  if (x >= w || y >= h || z >= d) return;
  auto at = [&](const cudaPitchedPtr& p, int i, int j, int k) -> float& {
    return *(float*)((char*)p.ptr + (k * p.ysize + j) * p.pitch + i * 4);
  };
  if (!x || !y || !z || x == w - 1 || y == h - 1 || z == d - 1) {
    at(o, x, y, z) = 0;
    return;
  }
  at(o, x, y, z) = at(in, x - 1, y, z) + at(in, x + 1, y, z) + at(in, x, y - 1, z) + at(in, x, y + 1, z) +
                   at(in, x, y, z - 1) + at(in, x, y, z + 1) - 6 * at(in, x, y, z);
}
int main() {
  float k[2 * R + 1];
  for (int i = 0; i <= 2 * R; i++) k[i] = i + 1;
  CUDA_CHECK(cudaMemcpyToSymbol(K, k, sizeof k));
  int two = 5;
  CUDA_CHECK(cudaMemcpyToSymbol(cfg, &two, 4, 8));
  int back[4];
  CUDA_CHECK(cudaMemcpyFromSymbol(back, cfg, 16));
  EXPECT(back[0] == 1 && back[1] == 2 && back[2] == 5 && back[3] == 4);
  int w = 96, h = 40;
  float *a, *b;
  size_t p, p2;
  CUDA_CHECK(cudaMallocPitch(&a, &p, w * 4, h));
  CUDA_CHECK(cudaMallocPitch(&b, &p2, w * 4, h));
  EXPECT(p == p2 && p >= w * 4 && p % 256 == 0);
  std::vector<float> v(w * h), r(w * h);
  for (int i = 0; i < w * h; i++) v[i] = i % 17;
  CUDA_CHECK(cudaMemcpy2D(a, p, v.data(), w * 4, w * 4, h, cudaMemcpyHostToDevice));
  rows<<<dim3(w / 32, h / 4), dim3(32, 4)>>>(b, a, w, h, p);
  CUDA_CHECK(cudaMemcpy2DAsync(r.data(), w * 4, b, p, w * 4, h, cudaMemcpyDeviceToHost));
  CUDA_CHECK(cudaStreamSynchronize(0));
  for (int y = 0; y < h; y++)
    for (int x = 0; x < w; x++) {
      float s = 0;
      for (int q = -R; q <= R; q++)
        if (x + q >= 0 && x + q < w) s += k[R + q] * v[y * w + x + q];
      EXPECT(s == r[y * w + x]);
    }
  CUDA_CHECK(cudaMemset2D(b, p, 0, w * 4, h));
  CUDA_CHECK(cudaMemcpy2D(r.data(), w * 4, b, p, w * 4, h, cudaMemcpyDeviceToHost));
  for (float x : r) EXPECT(x == 0);
  CUDA_CHECK(cudaMemcpy2D((char*)b + 8, p, a, p, 40, 5, cudaMemcpyDeviceToDevice));
  CUDA_CHECK(cudaMemcpy2D(r.data(), w * 4, b, p, w * 4, h, cudaMemcpyDefault));
  EXPECT(r[2] == v[0] && r[11] == v[9] && r[12] == 0 && r[4 * w + 2] == v[4 * w]);
  int W = 21, H = 13, D = 9;
  cudaExtent e = make_cudaExtent(W * 4, H, D);
  cudaPitchedPtr in, out;
  CUDA_CHECK(cudaMalloc3D(&in, e));
  CUDA_CHECK(cudaMalloc3D(&out, e));
  std::vector<float> g(W * H * D), q(W * H * D);
  for (int i = 0; i < g.size(); i++) g[i] = (i * 31) % 101;
  cudaMemcpy3DParms m = {};
  m.srcPtr = make_cudaPitchedPtr(g.data(), W * 4, W, H);
  m.dstPtr = in;
  m.extent = e;
  m.kind = cudaMemcpyHostToDevice;
  CUDA_CHECK(cudaMemcpy3D(&m));
  CUDA_CHECK(cudaMemset3D(out, 0x7f, e));
  lap<<<dim3(3, 2, 3), dim3(8, 8, 4)>>>(out, in, W, H, D);
  CUDA_CHECK(cudaGetLastError());
  cudaMemcpy3DParms m2 = {};
  m2.srcPtr = out;
  m2.dstPtr = make_cudaPitchedPtr(q.data(), W * 4, W, H);
  m2.extent = e;
  m2.kind = cudaMemcpyDeviceToHost;
  CUDA_CHECK(cudaMemcpy3DAsync(&m2, 0));
  CUDA_CHECK(cudaDeviceSynchronize());
  for (int z = 1; z < D - 1; z++)
    for (int y = 1; y < H - 1; y++)
      for (int x = 1; x < W - 1; x++) {
        auto A = [&](int i, int j, int l) { return g[(l * H + j) * W + i]; };
        EXPECT(q[(z * H + y) * W + x] == A(x - 1, y, z) + A(x + 1, y, z) + A(x, y - 1, z) + A(x, y + 1, z) +
                                             A(x, y, z - 1) + A(x, y, z + 1) - 6 * A(x, y, z));
      }
  m2.srcPos = make_cudaPos(4 * 2, 1, 1);
  m2.dstPos = make_cudaPos(0, 0, 0);
  m2.extent = make_cudaExtent(16, 2, 2);
  m2.srcPtr = in;
  CUDA_CHECK(cudaMemcpy3D(&m2));
  EXPECT(q[0] == g[(H + 1) * W + 2] && q[H * W + W + 3] == g[(2 * H + 2) * W + 5]);
  std::puts("passed");
}
