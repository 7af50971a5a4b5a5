// Device variables by their host shadows.
#include "check.h"

__device__ int counter = 5;
__constant__ float table[8];
static __device__ double hidden[3];
namespace {
__device__ unsigned char letters[4] = {'a', 'b', 'c', 'd'};
}
int not_a_symbol;

__global__ void use(float* out) {
  out[threadIdx.x] = table[threadIdx.x] + static_cast<float>(counter);
  hidden[0] = 1.5;
}

int main() {
  int value = 0;
  OK(cudaMemcpyFromSymbol(&value, counter, sizeof value));
  CHECK(value == 5);
  value = 100;
  OK(cudaMemcpyToSymbol(counter, &value, sizeof value));
  float host[8] = {0, 1, 2, 3, 4, 5, 6, 7};
  OK(cudaMemcpyToSymbol(table, host, sizeof host));
  const float replaced[2] = {40, 50};
  OK(cudaMemcpyToSymbolAsync(table, replaced, sizeof replaced, 4 * sizeof(float), cudaMemcpyHostToDevice));
  float* out;
  OK(cudaMalloc(&out, sizeof host));
  use<<<1, 8>>>(out);
  OK(cudaMemcpy(host, out, sizeof host, cudaMemcpyDeviceToHost));
  const float expected[8] = {100, 101, 102, 103, 140, 150, 106, 107};
  for (int i = 0; i < 8; ++i) CHECK(host[i] == expected[i]);
  double read = 0;
  OK(cudaMemcpyFromSymbolAsync(&read, hidden, sizeof read, 0, cudaMemcpyDeviceToHost));
  OK(cudaDeviceSynchronize());
  CHECK(read == 1.5);
  std::size_t bytes = 0;
  OK(cudaGetSymbolSize(&bytes, hidden));
  CHECK(bytes == 24);
  void* address = nullptr;
  OK(cudaGetSymbolAddress(&address, letters));
  char text[4];
  OK(cudaMemcpy(text, address, 4, cudaMemcpyDeviceToHost));
  CHECK(text[0] == 'a' && text[3] == 'd');

  FAILS(cudaErrorInvalidSymbol, cudaGetSymbolAddress(&address, not_a_symbol));
  FAILS(cudaErrorInvalidSymbol, cudaMemcpyToSymbol(not_a_symbol, &value, sizeof value));
  FAILS(cudaErrorInvalidValue, cudaMemcpyToSymbol(counter, &value, sizeof value, 1));
  FAILS(cudaErrorInvalidMemcpyDirection,
        cudaMemcpyToSymbol(counter, &value, sizeof value, 0, cudaMemcpyDeviceToHost));
  OK(cudaFree(out));
  return passed();
}
