// What a program may ask about the device, and the error of each wrong call.
#include <cuda.h>

#include "program.h"
__global__ void k(int* p) {
  extern __shared__ int s[];
  s[threadIdx.x] = 0;
  p[0] = s[0];
}
__global__ void __launch_bounds__(256, 2) lb(int* p) { p[threadIdx.x] = 1; }
int main() {
  int n;
  CUDA_CHECK(cudaGetDeviceCount(&n));
  EXPECT(n >= 1);
  cudaDeviceProp p;
  CUDA_CHECK(cudaGetDeviceProperties(&p, 0));
  printf(
      "%s cc %d.%d mem %zu sm %d shared %zu regs %d warp %d maxthr %d dim %d %d %d grid %d %d %d l2 %d pitch "
      "%zu align %zu async %d ecc %d uva %d coop %d bus %d:%d uuid %02x major %d luid %d\n",
      p.name, p.major, p.minor, p.totalGlobalMem, p.multiProcessorCount, p.sharedMemPerBlock, p.regsPerBlock,
      p.warpSize, p.maxThreadsPerBlock, p.maxThreadsDim[0], p.maxThreadsDim[1], p.maxThreadsDim[2],
      p.maxGridSize[0], p.maxGridSize[1], p.maxGridSize[2], p.l2CacheSize, p.memPitch, p.textureAlignment,
      p.asyncEngineCount, p.ECCEnabled, p.unifiedAddressing, p.cooperativeLaunch, p.pciBusID, p.pciDeviceID,
      (unsigned char)p.uuid.bytes[0], p.maxTexture1D, p.managedMemory);
  EXPECT(p.warpSize == 32 && p.maxThreadsPerBlock == 1024 && p.totalGlobalMem > 0 &&
         p.sharedMemPerBlock >= 48 * 1024);
  int dv, rv;
  CUDA_CHECK(cudaDriverGetVersion(&dv));
  CUDA_CHECK(cudaRuntimeGetVersion(&rv));
  printf("driver %d runtime %d\n", dv, rv);
  EXPECT(dv >= rv);
  int bad = 0;
  for (int a = 1; a < 130; a++) {
    int v;
    if (cudaDeviceGetAttribute(&v, (cudaDeviceAttr)a, 0) != cudaSuccess) bad++;
  }
  printf("attributes refused %d\n", bad);
  cudaGetLastError();
  int v;
  CUDA_CHECK(cudaDeviceGetAttribute(&v, cudaDevAttrClockRate, 0));
  CUDA_CHECK(cudaDeviceGetAttribute(&v, cudaDevAttrMemoryClockRate, 0));
  CUDA_CHECK(cudaDeviceGetAttribute(&v, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
  EXPECT(v >= 48 * 1024);
  size_t f, t;
  CUDA_CHECK(cudaMemGetInfo(&f, &t));
  EXPECT(f <= t && t > 0);
  char bus[64];
  CUDA_CHECK(cudaDeviceGetPCIBusId(bus, 64, 0));
  int dev;
  CUDA_CHECK(cudaDeviceGetByPCIBusId(&dev, bus));
  EXPECT(dev == 0);
  printf("%s\n", bus);
  int acc;
  CUDA_CHECK(cudaDeviceCanAccessPeer(&acc, 0, 0));
  cudaFuncAttributes fa;
  CUDA_CHECK(cudaFuncGetAttributes(&fa, k));
  printf("regs %d shared %zu const %zu max %d ptx %d bin %d\n", fa.numRegs, fa.sharedSizeBytes,
         fa.constSizeBytes, fa.maxThreadsPerBlock, fa.ptxVersion, fa.binaryVersion);
  EXPECT(fa.maxThreadsPerBlock > 0);
  CUDA_CHECK(cudaFuncGetAttributes(&fa, lb));
  EXPECT(fa.maxThreadsPerBlock == 256);
  int g, b;
  CUDA_CHECK(cudaOccupancyMaxPotentialBlockSize(&g, &b, k, 0, 0));
  EXPECT(b >= 32 && g >= 1);
  CUDA_CHECK(cudaOccupancyMaxPotentialBlockSizeVariableSMem(&g, &b, k, [](int x) { return (size_t)x * 4; }));
  int o;
  CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&o, lb, 256, 0));
  EXPECT(o >= 1);
  CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(&o, lb, 256, 0, cudaOccupancyDefault));
  size_t dsm;
  CUDA_CHECK(cudaOccupancyAvailableDynamicSMemPerBlock(&dsm, k, 1, 256));
  EXPECT(dsm > 0);
  size_t lim;
  for (auto l : {cudaLimitStackSize, cudaLimitPrintfFifoSize, cudaLimitMallocHeapSize}) {
    CUDA_CHECK(cudaDeviceGetLimit(&lim, l));
    EXPECT(lim > 0);
  }
  CUDA_CHECK(cudaDeviceSetLimit(cudaLimitPrintfFifoSize, 1 << 21));
  CUDA_CHECK(cudaDeviceSetLimit(cudaLimitMallocHeapSize, 64 << 20));
  cudaFuncCache fc;
  CUDA_CHECK(cudaDeviceGetCacheConfig(&fc));
  CUDA_CHECK(cudaDeviceSetCacheConfig(cudaFuncCachePreferL1));
  CUDA_CHECK(cudaFuncSetCacheConfig(k, cudaFuncCachePreferShared));
  unsigned fl;
  CUDA_CHECK(cudaGetDeviceFlags(&fl));
  CUDA_CHECK(cudaSetDeviceFlags(cudaDeviceScheduleBlockingSync));
  CUDA_CHECK(cudaSetDevice(0));
  EXPECT(cudaSetDevice(77) == cudaErrorInvalidDevice);
  cudaGetLastError();
  int ch;
  cudaDeviceProp want = {};
  CUDA_CHECK(cudaChooseDevice(&ch, &want));
  int* d;
  CUDA_CHECK(cudaMalloc(&d, 400));
  cudaPointerAttributes pa;
  CUDA_CHECK(cudaPointerGetAttributes(&pa, d));
  EXPECT(pa.type == cudaMemoryTypeDevice && pa.device == 0);
  int loc;
  CUDA_CHECK(cudaPointerGetAttributes(&pa, &loc));
  EXPECT(pa.type == cudaMemoryTypeUnregistered);
  int* pin;
  CUDA_CHECK(cudaMallocHost(&pin, 100));
  CUDA_CHECK(cudaPointerGetAttributes(&pa, pin));
  EXPECT(pa.type == cudaMemoryTypeHost);
  // error handling
  EXPECT(cudaMalloc(&pin, 1ull << 60) == cudaErrorMemoryAllocation);
  EXPECT(cudaGetLastError() == cudaErrorMemoryAllocation);
  EXPECT(cudaGetLastError() == cudaSuccess);
  k<<<1, 2048>>>(d);
  EXPECT(cudaPeekAtLastError() == cudaErrorInvalidValue);
  EXPECT(cudaGetLastError() == cudaErrorInvalidValue);
  k<<<0, 1>>>(d);
  EXPECT(cudaGetLastError() == cudaErrorInvalidValue);
  k<<<1, 1, 1 << 30>>>(d);
  EXPECT(cudaGetLastError() != cudaSuccess);
  EXPECT(cudaFree((void*)0x1234) == cudaErrorInvalidValue);
  EXPECT(cudaMemcpy(d, bus, 1000000, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  EXPECT(cudaMemcpy(d, bus, 4, (cudaMemcpyKind)9) == cudaErrorInvalidMemcpyDirection);
  cudaGetLastError();
  EXPECT(cudaFree(nullptr) == cudaSuccess);
  EXPECT(!strcmp(cudaGetErrorName(cudaErrorInvalidValue), "cudaErrorInvalidValue"));
  EXPECT(cudaEventDestroy(nullptr) == cudaErrorInvalidResourceHandle);
  cudaGetLastError();
  k<<<1, 1, 4>>>((int*)16);
  cudaError_t e = cudaDeviceSynchronize();
  EXPECT(e == cudaErrorIllegalAddress);
  EXPECT(cudaMemcpy(bus, d, 4, cudaMemcpyDeviceToHost) == cudaErrorIllegalAddress);
  cudaDeviceReset();
  e = cudaMalloc(&d, 4);
  printf("after reset %s\n", cudaGetErrorName(e));
  std::puts("passed");
}
