// Prints which error each of many wrong calls returns: the expected output was printed natively
// by CUDA 13.0 on an H100 (tests/end_to_end/error_codes.expected).
//
//   error_codes            wrong arguments, after which the device is still usable
//   error_codes fault      what every call returns once a kernel has faulted
#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>
#include <vector>

__global__ void store(int* where) { *where = 1; }
__global__ void __launch_bounds__(64) at_most_64(int* out) { *out = static_cast<int>(threadIdx.x); }
__device__ int symbol[4];
int not_a_kernel() { return 3; }

namespace {

void print(const char* what, cudaError_t error) { std::printf("%-52s %s\n", what, cudaGetErrorName(error)); }
void print(const char* what, CUresult result) {
  const char* name = nullptr;
  cuGetErrorName(result, &name);
  std::printf("%-52s %s\n", what, name != nullptr ? name : "(unknown)");
}
#define SHOW(call) print(#call, call)
#define LAUNCHED(what) (print(what, cudaGetLastError()), print("  and then", cudaGetLastError()))

void* const kNowhere = reinterpret_cast<void*>(0x1000);

void launches(int* out) {
  store<<<0, 1>>>(out), LAUNCHED("no blocks");
  store<<<1, 0>>>(out), LAUNCHED("no threads");
  store<<<1, 2048>>>(out), LAUNCHED("2048 threads");
  store<<<dim3(1, 70000), 1>>>(out), LAUNCHED("70000 blocks in y");
  store<<<1, dim3(1, 1, 65)>>>(out), LAUNCHED("65 threads in z");
  store<<<1, 1, 1 << 24>>>(out), LAUNCHED("16 MiB of shared memory");
  store<<<1, 1, 60000>>>(out), LAUNCHED("60000 bytes of shared memory without opting in");
  at_most_64<<<1, 65>>>(out), LAUNCHED("more threads than __launch_bounds__");
  void* arguments[] = {&out};
  SHOW(cudaLaunchKernel(reinterpret_cast<const void*>(not_a_kernel), dim3(1), dim3(1), arguments, 0, nullptr));
  SHOW(cudaLaunchKernel(static_cast<const void*>(nullptr), dim3(1), dim3(1), arguments, 0, nullptr));
  cudaFuncAttributes attributes;
  SHOW(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(not_a_kernel)));
  SHOW(cudaFuncGetAttributes(&attributes, static_cast<const void*>(nullptr)));
  SHOW(cudaFuncSetAttribute(store, cudaFuncAttributeMaxDynamicSharedMemorySize, 1 << 24));
  SHOW(cudaFuncSetAttribute(store, cudaFuncAttributeMaxDynamicSharedMemorySize, -5));
  SHOW(cudaFuncSetAttribute(store, cudaFuncAttributeMaxDynamicSharedMemorySize, 65536));
  store<<<1, 1, 60000>>>(out), LAUNCHED("60000 bytes of shared memory after opting in");
  int blocks = 0;
  SHOW(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, store, 0, 0));
  SHOW(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, store, 5000, 0));
}

void memory(int* out) {
  int host[4] = {};
  void* pointer = nullptr;
  SHOW(cudaMalloc(&pointer, 0));
  std::printf("  null: %d\n", pointer == nullptr);
  SHOW(cudaMalloc(&pointer, size_t{1} << 60));
  SHOW(cudaMalloc(static_cast<void**>(nullptr), 16));
  SHOW(cudaFree(nullptr));
  SHOW(cudaFree(kNowhere));
  SHOW(cudaFree(out + 1));
  SHOW(cudaMalloc(&pointer, 64));
  SHOW(cudaFree(pointer));
  SHOW(cudaFree(pointer));
  SHOW(cudaMemcpy(host, out, size_t{1} << 40, cudaMemcpyDeviceToHost));
  SHOW(cudaMemcpy(out, host, 4, static_cast<cudaMemcpyKind>(9)));
  SHOW(cudaMemcpy(out, nullptr, 4, cudaMemcpyHostToDevice));
  SHOW(cudaMemcpy(nullptr, host, 4, cudaMemcpyHostToDevice));
  SHOW(cudaMemcpy(nullptr, nullptr, 0, cudaMemcpyHostToDevice));
  SHOW(cudaMemcpy(host, kNowhere, 4, cudaMemcpyDeviceToHost));
  SHOW(cudaMemcpy(out, host, 16, cudaMemcpyDefault));
  SHOW(cudaMemset(nullptr, 0, 4));
  SHOW(cudaMemset(nullptr, 0, 0));
  SHOW(cudaMemset(kNowhere, 0, 4));
  SHOW(cudaMemcpy2D(out, 4, host, 8, 8, 2, cudaMemcpyHostToDevice));
  SHOW(cudaMemcpyToSymbol(symbol, host, 16, 8));
  SHOW(cudaMemcpyToSymbol(static_cast<const void*>(host), host, 4));
  SHOW(cudaGetSymbolAddress(&pointer, static_cast<const void*>(host)));
  SHOW(cudaGetSymbolAddress(&pointer, static_cast<const void*>(nullptr)));
  SHOW(cudaFreeHost(host));
  SHOW(cudaFreeHost(nullptr));
  std::vector<char> block(1 << 16);
  SHOW(cudaHostRegister(block.data(), block.size(), 0));
  SHOW(cudaHostRegister(block.data(), block.size(), 0));
  SHOW(cudaHostUnregister(block.data()));
  SHOW(cudaHostUnregister(block.data()));
  SHOW(cudaHostRegister(nullptr, 16, 0));
  cudaPointerAttributes attributes;
  SHOW(cudaPointerGetAttributes(&attributes, block.data()));
  std::printf("  type %d\n", attributes.type);
  SHOW(cudaPointerGetAttributes(&attributes, out));
  std::printf("  type %d\n", attributes.type);
  SHOW(cudaPointerGetAttributes(&attributes, nullptr));
  std::printf("  type %d\n", attributes.type);
}

void devices_streams_events() {
  cudaDeviceProp properties;
  int value;
  SHOW(cudaSetDevice(-1));
  SHOW(cudaSetDevice(1000));
  SHOW(cudaGetDeviceProperties(&properties, 1000));
  SHOW(cudaDeviceGetAttribute(&value, static_cast<cudaDeviceAttr>(100000), 0));
  SHOW(cudaDeviceGetAttribute(&value, cudaDevAttrWarpSize, 1000));
  SHOW(cudaDeviceSetLimit(static_cast<cudaLimit>(1000), 1));
  SHOW(cudaGetDevice(nullptr));
  cudaStream_t stream;
  SHOW(cudaStreamCreateWithFlags(&stream, 77));
  SHOW(cudaStreamCreate(nullptr));
  SHOW(cudaStreamSynchronize(nullptr));
  SHOW(cudaStreamQuery(nullptr));
  cudaEvent_t first, second, plain;
  SHOW(cudaEventCreateWithFlags(&first, 0xff00));
  SHOW(cudaEventCreate(&first));
  SHOW(cudaEventCreate(&second));
  SHOW(cudaEventCreateWithFlags(&plain, cudaEventDisableTiming));
  float milliseconds;
  SHOW(cudaEventQuery(first));
  SHOW(cudaEventSynchronize(first));
  SHOW(cudaEventElapsedTime(&milliseconds, first, second));
  SHOW(cudaEventRecord(first));
  SHOW(cudaEventRecord(plain));
  SHOW(cudaDeviceSynchronize());
  SHOW(cudaEventElapsedTime(&milliseconds, first, plain));
  SHOW(cudaEventElapsedTime(&milliseconds, first, second));
  SHOW(cudaStreamWaitEvent(nullptr, nullptr, 0));
  SHOW(cudaEventRecord(nullptr));
  SHOW(cudaEventDestroy(first));
  SHOW(cudaEventDestroy(nullptr));
}

void driver(int* out) {
  CUdevice device;
  CUmodule module;
  CUfunction function;
  CUdeviceptr address;
  size_t bytes;
  int value;
  SHOW(cuDeviceGet(&device, 1000));
  SHOW(cuDeviceGetAttribute(&value, static_cast<CUdevice_attribute>(100000), 0));
  SHOW(cuMemAlloc(&address, 0));
  SHOW(cuMemAlloc(&address, size_t{1} << 60));
  SHOW(cuMemFree(0));
  SHOW(cuMemFree(0x1000));
  SHOW(cuModuleLoadData(&module, "this is no image"));
  SHOW(cuModuleLoadData(&module, ".version 7.0\n.target sm_75\n.address_size 64\n.entry k() { frobnicate; }\n"));
  SHOW(cuModuleLoad(&module, "/no/such/file"));
  SHOW(cuModuleLoadData(&module, ".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry k() { ret; }\n"));
  SHOW(cuModuleGetFunction(&function, module, "nothing"));
  SHOW(cuModuleGetGlobal(&address, &bytes, module, "nothing"));
  SHOW(cuModuleGetFunction(&function, module, "k"));
  SHOW(cuLaunchKernel(function, 0, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr));
  SHOW(cuLaunchKernel(function, 1, 1, 1, 1025, 1, 1, 0, nullptr, nullptr, nullptr));
  SHOW(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 1 << 20, nullptr, nullptr, nullptr));
  SHOW(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr));
  SHOW(cuFuncGetAttribute(&value, static_cast<CUfunction_attribute>(1000), function));
  SHOW(cuModuleUnload(module));
  SHOW(cuMemcpyHtoD(reinterpret_cast<CUdeviceptr>(out), nullptr, 4));
  SHOW(cuMemcpyDtoH(nullptr, reinterpret_cast<CUdeviceptr>(out), 4));
  SHOW(cuMemsetD32(reinterpret_cast<CUdeviceptr>(out) + 1, 0, 1));
  SHOW(cuMemGetAddressRange(&address, &bytes, 0x1000));
  SHOW(cuPointerGetAttribute(&value, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, 0x1000));
  SHOW(cuCtxSetCurrent(nullptr));
  SHOW(cuMemAlloc(&address, 64));
  SHOW(cuCtxSynchronize());
  CUcontext context;
  SHOW(cuCtxPopCurrent(&context));
}

void fault(int* out) {
  cudaStream_t stream;
  cudaEvent_t event;
  void* pointer;
  cudaDeviceProp properties;
  int value;
  cudaStreamCreate(&stream);
  cudaEventCreate(&event);
  store<<<1, 1>>>(static_cast<int*>(kNowhere)), LAUNCHED("the launch");
  SHOW(cudaDeviceSynchronize());
  SHOW(cudaGetLastError());
  SHOW(cudaGetLastError());
  SHOW(cudaDeviceSynchronize());
  SHOW(cudaPeekAtLastError());
  SHOW(cudaMalloc(&pointer, 64));
  SHOW(cudaFree(out));
  SHOW(cudaMemset(out, 0, 4));
  SHOW(cudaMemcpy(&value, out, 4, cudaMemcpyDeviceToHost));
  store<<<1, 1>>>(out);
  SHOW(cudaGetLastError());
  SHOW(cudaStreamSynchronize(stream));
  SHOW(cudaStreamQuery(stream));
  SHOW(cudaEventRecord(event, stream));
  SHOW(cudaEventQuery(event));
  SHOW(cudaGetDevice(&value));
  SHOW(cudaSetDevice(0));
  SHOW(cudaGetDeviceProperties(&properties, 0));
  SHOW(cudaGetDeviceCount(&value));
  SHOW(cudaMemGetInfo(reinterpret_cast<size_t*>(&properties), reinterpret_cast<size_t*>(&properties) + 1));
  SHOW(cudaMallocHost(&pointer, 64));
  SHOW(cudaStreamCreate(&stream));
  SHOW(cuCtxSynchronize());
  SHOW(cudaDeviceReset());
}

}  // namespace

int main(int argc, char** argv) {
  int* out = nullptr;
  print("first allocation", cudaMalloc(&out, 64));
  if (argc > 1 && std::strcmp(argv[1], "fault") == 0) {
    fault(out);
    return 0;
  }
  launches(out);
  memory(out);
  devices_streams_events();
  driver(out);
  return 0;
}
