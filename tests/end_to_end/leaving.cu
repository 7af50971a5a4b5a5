// Ends while copies of pinned and of pageable memory are under way, on several threads: with its
// own status, and nothing said.
#include <cuda_runtime.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>
#include <vector>

#include "check.h"

int main(int argc, char** argv) {
  constexpr size_t kBytes = size_t{32} << 20;
  char *device, *pinned;
  CUDA_CHECK(cudaMalloc(&device, kBytes));
  CUDA_CHECK(cudaMallocHost(&pinned, kBytes));
  std::vector<char> pageable(kBytes);
  for (int i = 0; i < 3; ++i) {
    std::thread([&] {
      while (cudaMemcpy(device, pageable.data(), kBytes, cudaMemcpyHostToDevice) == cudaSuccess &&
             cudaMemcpy(pageable.data(), device, kBytes, cudaMemcpyDeviceToHost) == cudaSuccess) {
      }
      pause();
    }).detach();
  }
  for (int i = 0; i < 4; ++i) {
    CUDA_CHECK(cudaMemcpyAsync(device, pinned, kBytes, cudaMemcpyHostToDevice));
    CUDA_CHECK(cudaMemcpyAsync(pinned, device, kBytes, cudaMemcpyDeviceToHost));
  }
  usleep(1000 * (argc > 1 ? std::atoi(argv[1]) : 0));
  std::exit(7);
}
