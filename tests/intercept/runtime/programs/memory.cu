// Allocation of every kind, and what a pointer is.
#include <cstdint>
#include <cstring>

#include "check.h"

__global__ void fill_pitched(char* base, std::size_t pitch, int width, int height) {
  const int x = threadIdx.x;
  const int y = blockIdx.x;
  if (x < width && y < height) base[y * pitch + x] = static_cast<char>(x + y);
}

void device_memory() {
  void* pointer = reinterpret_cast<void*>(1);
  OK(cudaMalloc(&pointer, 0));
  CHECK(pointer == nullptr);
  OK(cudaFree(nullptr));
  FAILS(cudaErrorInvalidValue, cudaMalloc(static_cast<void**>(nullptr), 16));
  FAILS(cudaErrorMemoryAllocation, cudaMalloc(&pointer, std::size_t{1} << 50));
  OK(cudaMalloc(&pointer, 1000));
  CHECK(reinterpret_cast<std::uintptr_t>(pointer) % 256 == 0);
  cudaPointerAttributes attributes;
  OK(cudaPointerGetAttributes(&attributes, static_cast<char*>(pointer) + 10));
  CHECK(attributes.type == cudaMemoryTypeDevice && attributes.device == 0);
  CHECK(attributes.devicePointer == static_cast<char*>(pointer) + 10 && attributes.hostPointer == nullptr);
  OK(cudaFree(pointer));
  FAILS(cudaErrorInvalidValue, cudaFree(pointer));
  int on_the_stack = 0;
  OK(cudaPointerGetAttributes(&attributes, &on_the_stack));
  CHECK(attributes.type == cudaMemoryTypeUnregistered && attributes.devicePointer == nullptr);
  std::size_t free = 0, total = 0;
  OK(cudaMemGetInfo(&free, &total));
  CHECK(free > 0 && free <= total);
}

void pitched_memory() {
  void* base;
  std::size_t pitch = 0;
  OK(cudaMallocPitch(&base, &pitch, 100, 20));
  CHECK(pitch >= 100 && pitch % 16 == 0);
  fill_pitched<<<20, 128>>>(static_cast<char*>(base), pitch, 100, 20);
  char host[20][100];
  OK(cudaMemcpy2D(host, 100, base, pitch, 100, 20, cudaMemcpyDeviceToHost));
  for (int y = 0; y < 20; ++y)
    for (int x = 0; x < 100; ++x) CHECK(host[y][x] == static_cast<char>(x + y));
  OK(cudaFree(base));

  cudaPitchedPtr box;
  OK(cudaMalloc3D(&box, make_cudaExtent(30, 4, 5)));
  CHECK(box.pitch >= 30 && box.xsize == 30 && box.ysize == 4);
  OK(cudaMemset3D(box, 9, make_cudaExtent(30, 4, 5)));
  OK(cudaMemcpy(host, box.ptr, 30, cudaMemcpyDeviceToHost));
  CHECK(host[0][0] == 9 && host[0][29] == 9);
  OK(cudaFree(box.ptr));
}

void pinned_memory() {
  char* pinned;
  OK(cudaMallocHost(reinterpret_cast<void**>(&pinned), 5000));
  std::memset(pinned, 3, 5000);
  cudaPointerAttributes attributes;
  OK(cudaPointerGetAttributes(&attributes, pinned));
  CHECK(attributes.type == cudaMemoryTypeHost && attributes.hostPointer == pinned);
  void* device;
  OK(cudaMalloc(&device, 5000));
  OK(cudaMemcpyAsync(device, pinned, 5000, cudaMemcpyHostToDevice));
  OK(cudaMemsetAsync(static_cast<char*>(device) + 10, 4, 10));
  OK(cudaMemcpyAsync(pinned, device, 5000, cudaMemcpyDeviceToHost));
  OK(cudaStreamSynchronize(nullptr));
  CHECK(pinned[9] == 3 && pinned[10] == 4 && pinned[19] == 4 && pinned[20] == 3);
  OK(cudaFree(device));
  OK(cudaFreeHost(pinned));
  OK(cudaFreeHost(nullptr));
  FAILS(cudaErrorInvalidValue, cudaFreeHost(attributes.hostPointer));

  unsigned flags = 0;
  OK(cudaHostAlloc(reinterpret_cast<void**>(&pinned), 100, cudaHostAllocPortable));
  OK(cudaHostGetFlags(&flags, pinned));
  CHECK((flags & cudaHostAllocPortable) != 0);
  OK(cudaFreeHost(pinned));
  FAILS(cudaErrorInvalidValue, cudaHostAlloc(reinterpret_cast<void**>(&pinned), 100, 0x100));

  static char ordinary[8192];
  OK(cudaHostRegister(ordinary, sizeof ordinary, cudaHostRegisterDefault));
  FAILS(cudaErrorHostMemoryAlreadyRegistered,
        cudaHostRegister(ordinary, sizeof ordinary, cudaHostRegisterDefault));
  OK(cudaHostUnregister(ordinary));
  FAILS(cudaErrorHostMemoryNotRegistered, cudaHostUnregister(ordinary));
}

void stream_ordered_memory() {
  cudaStream_t stream;
  OK(cudaStreamCreate(&stream));
  int* cells;
  OK(cudaMallocAsync(reinterpret_cast<void**>(&cells), 400, stream));
  OK(cudaMemsetAsync(cells, 0x11, 400, stream));
  int host = 0;
  OK(cudaMemcpyAsync(&host, cells + 99, sizeof host, cudaMemcpyDeviceToHost, stream));
  OK(cudaFreeAsync(cells, stream));
  OK(cudaStreamSynchronize(stream));
  CHECK(host == 0x11111111);
  OK(cudaStreamDestroy(stream));
}

int main() {
  device_memory();
  pitched_memory();
  pinned_memory();
  stream_ordered_memory();
  return passed();
}
