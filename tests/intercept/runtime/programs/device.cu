// Devices: properties agree with attributes; limits, flags, peers, versions.
#include <cstring>

#include "check.h"

int attribute(cudaDeviceAttr id) {
  int value = -1;
  OK(cudaDeviceGetAttribute(&value, id, 0));
  return value;
}

int main() {
  int count = 0;
  OK(cudaGetDeviceCount(&count));
  CHECK(count >= 1);
  int device = -1;
  OK(cudaGetDevice(&device));
  CHECK(device == 0);
  OK(cudaSetDevice(0));
  cudaDeviceProp p;
  std::memset(&p, 0xff, sizeof p);
  OK(cudaGetDeviceProperties(&p, 0));
  CHECK(std::strlen(p.name) > 0 && std::strlen(p.name) < sizeof p.name);
  CHECK(p.totalGlobalMem > 0 && p.warpSize == 32 && p.major >= 7);
  CHECK(p.major == attribute(cudaDevAttrComputeCapabilityMajor));
  CHECK(p.minor == attribute(cudaDevAttrComputeCapabilityMinor));
  CHECK(p.multiProcessorCount == attribute(cudaDevAttrMultiProcessorCount) && p.multiProcessorCount > 0);
  CHECK(p.maxThreadsPerBlock == attribute(cudaDevAttrMaxThreadsPerBlock));
  CHECK(p.maxThreadsDim[0] == attribute(cudaDevAttrMaxBlockDimX));
  CHECK(p.maxThreadsDim[2] == attribute(cudaDevAttrMaxBlockDimZ));
  CHECK(p.maxGridSize[0] == attribute(cudaDevAttrMaxGridDimX));
  CHECK(p.maxGridSize[1] == attribute(cudaDevAttrMaxGridDimY));
  CHECK(p.sharedMemPerBlock == static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlock)));
  CHECK(p.totalConstMem == static_cast<std::size_t>(attribute(cudaDevAttrTotalConstantMemory)));
  CHECK(p.regsPerBlock == attribute(cudaDevAttrMaxRegistersPerBlock));
  CHECK(p.l2CacheSize == attribute(cudaDevAttrL2CacheSize));
  CHECK(p.unifiedAddressing == 1);
  FAILS(cudaErrorInvalidValue, cudaDeviceGetAttribute(nullptr, cudaDevAttrWarpSize, 0));

  cudaDeviceProp wish{};
  wish.major = 3;
  device = -1;
  OK(cudaChooseDevice(&device, &wish));
  CHECK(device >= 0 && device < count);

  char bus[32];
  OK(cudaDeviceGetPCIBusId(bus, sizeof bus, 0));
  device = -1;
  OK(cudaDeviceGetByPCIBusId(&device, bus));
  CHECK(device == 0);

  std::size_t limit = 0;
  OK(cudaDeviceGetLimit(&limit, cudaLimitStackSize));
  CHECK(limit > 0);
  OK(cudaDeviceSetLimit(cudaLimitPrintfFifoSize, 2 << 20));
  OK(cudaDeviceGetLimit(&limit, cudaLimitPrintfFifoSize));
  CHECK(limit >= 2 << 20);
  OK(cudaDeviceSetCacheConfig(cudaFuncCachePreferL1));
  unsigned flags = 0;
  OK(cudaGetDeviceFlags(&flags));
  CHECK((flags & cudaDeviceMapHost) != 0);
  FAILS(cudaErrorInvalidValue, cudaSetDeviceFlags(0xffffff));
  OK(cudaInitDevice(0, 0, 0));
  int can = 5;
  OK(cudaDeviceCanAccessPeer(&can, 0, 0));
  CHECK(can == 0);
  const int only[] = {0};
  OK(cudaSetValidDevices(const_cast<int*>(only), 1));

  int version = 0;
  OK(cudaRuntimeGetVersion(&version));
  CHECK(version == 13000);
  OK(cudaDriverGetVersion(&version));
  CHECK(version >= 13000);
  return passed();
}
