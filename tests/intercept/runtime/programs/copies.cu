// Copies and sets of every shape and direction.
#include <cstring>
#include <vector>

#include "check.h"

void linear() {
  std::vector<int> source(50000), back(50000);
  for (int i = 0; i < 50000; ++i) source[i] = i * 7;
  const std::size_t bytes = source.size() * sizeof(int);
  int *first, *second;
  OK(cudaMalloc(&first, bytes));
  OK(cudaMalloc(&second, bytes));
  OK(cudaMemcpy(first, source.data(), bytes, cudaMemcpyDefault));
  OK(cudaMemcpy(second, first, bytes, cudaMemcpyDefault));
  OK(cudaMemcpy(back.data(), second, bytes, cudaMemcpyDefault));
  CHECK(source == back);
  std::vector<int> third(50000);
  OK(cudaMemcpy(third.data(), back.data(), bytes, cudaMemcpyHostToHost));
  CHECK(third == source);
  OK(cudaMemset(second, 0, bytes));
  OK(cudaMemcpyPeer(second + 10, 0, first, 0, 40));
  OK(cudaMemcpyPeerAsync(second + 30, 0, first, 0, 40));
  OK(cudaMemcpy(back.data(), second, 200, cudaMemcpyDeviceToHost));
  CHECK(back[9] == 0 && back[10] == 0 && back[19] == 63 && back[20] == 0 && back[39] == 63 && back[40] == 0);
  OK(cudaMemcpy(first, nullptr, 0, cudaMemcpyHostToDevice));
  FAILS(cudaErrorInvalidMemcpyDirection, cudaMemcpy(first, second, 4, static_cast<cudaMemcpyKind>(77)));
  FAILS(cudaErrorInvalidValue, cudaMemcpy(nullptr, source.data(), 4, cudaMemcpyHostToDevice));
  FAILS(cudaErrorInvalidValue,
        cudaMemcpy(first, source.data(), std::size_t{1} << 45, cudaMemcpyHostToDevice));
  OK(cudaFree(first));
  OK(cudaFree(second));
}

void rectangles() {
  unsigned char source[10][20], back[10][20];
  for (int y = 0; y < 10; ++y)
    for (int x = 0; x < 20; ++x) source[y][x] = static_cast<unsigned char>(y * 20 + x);
  unsigned char *one, *two;
  OK(cudaMalloc(&one, 10 * 64));
  OK(cudaMalloc(&two, 10 * 32));
  OK(cudaMemcpy2D(one, 64, source, 20, 20, 10, cudaMemcpyHostToDevice));
  OK(cudaMemcpy2D(two, 32, one, 64, 20, 10, cudaMemcpyDeviceToDevice));
  OK(cudaMemset2D(two + 2 * 32 + 5, 32, 255, 3, 2));
  std::memset(back, 0, sizeof back);
  OK(cudaMemcpy2DAsync(back, 20, two, 32, 20, 10, cudaMemcpyDeviceToHost));
  OK(cudaDeviceSynchronize());
  for (int y = 0; y < 10; ++y)
    for (int x = 0; x < 20; ++x)
      CHECK(back[y][x] == ((y == 2 || y == 3) && x >= 5 && x < 8 ? 255 : source[y][x]));
  FAILS(cudaErrorInvalidPitchValue, cudaMemcpy2D(one, 10, source, 20, 20, 10, cudaMemcpyHostToDevice));
  OK(cudaFree(one));
  OK(cudaFree(two));
}

void boxes() {
  unsigned char source[4][5][6], back[4][5][6];
  for (int i = 0; i < 120; ++i) (&source[0][0][0])[i] = static_cast<unsigned char>(i);
  const cudaExtent whole = make_cudaExtent(6, 5, 4);
  cudaPitchedPtr box;
  OK(cudaMalloc3D(&box, whole));
  cudaMemcpy3DParms in{};
  in.srcPtr = make_cudaPitchedPtr(source, 6, 6, 5);
  in.dstPtr = box;
  in.extent = whole;
  in.kind = cudaMemcpyHostToDevice;
  OK(cudaMemcpy3D(&in));
  // A box inside: 2 x 3 x 2 bytes from (1, 1, 1).
  OK(cudaMemset3D(make_cudaPitchedPtr(static_cast<char*>(box.ptr) + (5 + 1) * box.pitch + 1, box.pitch, 6, 5),
                  200, make_cudaExtent(2, 3, 2)));
  cudaMemcpy3DParms out{};
  out.srcPtr = box;
  out.srcPos = make_cudaPos(1, 0, 1);
  out.dstPtr = make_cudaPitchedPtr(back, 6, 6, 5);
  out.dstPos = make_cudaPos(1, 0, 1);
  out.extent = make_cudaExtent(5, 5, 3);
  out.kind = cudaMemcpyDeviceToHost;
  std::memset(back, 77, sizeof back);
  OK(cudaMemcpy3DAsync(&out));
  OK(cudaDeviceSynchronize());
  for (int z = 0; z < 4; ++z)
    for (int y = 0; y < 5; ++y)
      for (int x = 0; x < 6; ++x) {
        const bool copied = x >= 1 && z >= 1;
        const bool set = x >= 1 && x < 3 && y >= 1 && y < 4 && z >= 1 && z < 3;
        CHECK(back[z][y][x] == (!copied ? 77 : set ? 200 : source[z][y][x]));
      }
  OK(cudaFree(box.ptr));
}

int main() {
  linear();
  rectangles();
  boxes();
  return passed();
}
