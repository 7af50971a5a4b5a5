// An ordinary program of the CUDA driver API. It prints what it found wrong and exits with the
// number of such lines; run natively or through avec it must print the same.
#include <cuda.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

int failures = 0;

void expect(bool fine, const char* what, int line) {
  if (fine) return;
  ++failures;
  std::printf("line %d: %s\n", line, what);
}
#define EXPECT(condition) expect((condition), #condition, __LINE__)

constexpr char kPtx[] = R"(
.version 7.0
.target sm_50
.address_size 64
.global .align 4 .u32 counter;
.visible .entry add(.param .u64 a, .param .u64 b, .param .u32 n)
{
  .reg .pred %p<2>;
  .reg .b32 %r<8>;
  .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [a];
  ld.param.u64 %rd2, [b];
  ld.param.u32 %r1, [n];
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %ntid.x;
  mov.u32 %r4, %tid.x;
  mad.lo.s32 %r5, %r2, %r3, %r4;
  setp.ge.u32 %p1, %r5, %r1;
  @%p1 bra done;
  cvta.to.global.u64 %rd3, %rd1;
  cvta.to.global.u64 %rd4, %rd2;
  mul.wide.u32 %rd5, %r5, 4;
  add.s64 %rd6, %rd3, %rd5;
  add.s64 %rd7, %rd4, %rd5;
  ld.global.u32 %r6, [%rd6];
  ld.global.u32 %r7, [%rd7];
  add.u32 %r6, %r6, %r7;
  st.global.u32 [%rd6], %r6;
done:
  ret;
}
.visible .entry fault(.param .u64 where)
{
  .reg .b32 %r<2>;
  .reg .b64 %rd<2>;
  ld.param.u64 %rd1, [where];
  mov.u32 %r1, 1;
  st.global.u32 [%rd1], %r1;
  ret;
}
)";

void check_device() {
  int count = 0, major = 0;
  char name[256] = "";
  size_t total = 0;
  EXPECT(cuDeviceGetCount(&count) == CUDA_SUCCESS && count >= 1);
  EXPECT(cuDeviceGetName(name, sizeof name, 0) == CUDA_SUCCESS && name[0] != '\0');
  EXPECT(cuDeviceTotalMem(&total, 0) == CUDA_SUCCESS && total > 0);
  EXPECT(cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 0) == CUDA_SUCCESS &&
         major >= 5);
  EXPECT(cuDeviceGetName(name, sizeof name, count) == CUDA_ERROR_INVALID_DEVICE);
  const char* text = nullptr;
  EXPECT(cuGetErrorName(CUDA_ERROR_ILLEGAL_ADDRESS, &text) == CUDA_SUCCESS &&
         std::string(text) == "CUDA_ERROR_ILLEGAL_ADDRESS");
  void* function = nullptr;
  CUdriverProcAddressQueryResult status;
  EXPECT(cuGetProcAddress("cuMemAlloc", &function, 13000, 0, &status) == CUDA_SUCCESS && function != nullptr);
  EXPECT(cuGetProcAddress("cuNoSuchFunction", &function, 13000, 0, &status) != CUDA_SUCCESS ||
         status == CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
}

void check_copies() {
  constexpr size_t kBytes = 9u << 20;
  CUdeviceptr a, b;
  EXPECT(cuMemAlloc(&a, kBytes) == CUDA_SUCCESS);
  EXPECT(cuMemAlloc(&b, kBytes) == CUDA_SUCCESS);
  std::vector<std::uint32_t> in(kBytes / 4), out(kBytes / 4);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<std::uint32_t>(i * 2654435761u);
  EXPECT(cuMemcpyHtoD(a, in.data(), kBytes) == CUDA_SUCCESS);
  EXPECT(cuMemcpyDtoD(b, a, kBytes) == CUDA_SUCCESS);
  EXPECT(cuMemcpyDtoH(out.data(), b, kBytes) == CUDA_SUCCESS);
  EXPECT(in == out);
  EXPECT(cuMemsetD32(b, 0x01020304, 1000) == CUDA_SUCCESS);
  EXPECT(cuMemcpyDtoH(out.data(), b, 8000) == CUDA_SUCCESS);
  EXPECT(out[999] == 0x01020304 && out[1000] == in[1000]);
  EXPECT(cuMemcpyHtoD(a + 1, in.data(), kBytes) == CUDA_ERROR_INVALID_VALUE);
  void* pinned = nullptr;
  EXPECT(cuMemHostAlloc(&pinned, kBytes, 0) == CUDA_SUCCESS);
  CUstream stream;
  EXPECT(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) == CUDA_SUCCESS);
  EXPECT(cuMemcpyDtoHAsync(pinned, a, kBytes, stream) == CUDA_SUCCESS);
  EXPECT(cuStreamSynchronize(stream) == CUDA_SUCCESS);
  EXPECT(std::memcmp(pinned, in.data(), kBytes) == 0);
  EXPECT(cuStreamDestroy(stream) == CUDA_SUCCESS);
  EXPECT(cuMemFreeHost(pinned) == CUDA_SUCCESS);
  EXPECT(cuMemFree(a) == CUDA_SUCCESS);
  EXPECT(cuMemFree(a) == CUDA_ERROR_INVALID_VALUE);
  EXPECT(cuMemFree(b) == CUDA_SUCCESS);
}

void check_kernel(CUmodule module) {
  CUfunction add;
  EXPECT(cuModuleGetFunction(&add, module, "add") == CUDA_SUCCESS);
  CUdeviceptr a, b;
  std::uint32_t n = 1000;
  EXPECT(cuMemAlloc(&a, n * 4) == CUDA_SUCCESS && cuMemAlloc(&b, n * 4) == CUDA_SUCCESS);
  EXPECT(cuMemsetD32(a, 0, n) == CUDA_SUCCESS && cuMemsetD32(b, 1, n) == CUDA_SUCCESS);
  CUevent start, end;
  EXPECT(cuEventCreate(&start, 0) == CUDA_SUCCESS && cuEventCreate(&end, 0) == CUDA_SUCCESS);
  EXPECT(cuEventRecord(start, nullptr) == CUDA_SUCCESS);
  void* parameters[] = {&a, &b, &n};
  for (int i = 0; i < 100; ++i)
    EXPECT(cuLaunchKernel(add, 8, 1, 1, 128, 1, 1, 0, nullptr, parameters, nullptr) == CUDA_SUCCESS);
  EXPECT(cuEventRecord(end, nullptr) == CUDA_SUCCESS);
  EXPECT(cuEventSynchronize(end) == CUDA_SUCCESS);
  EXPECT(cuEventQuery(start) == CUDA_SUCCESS);
  float milliseconds = -1;
  EXPECT(cuEventElapsedTime(&milliseconds, start, end) == CUDA_SUCCESS && milliseconds >= 0);
  std::vector<std::uint32_t> out(n);
  EXPECT(cuMemcpyDtoH(out.data(), a, n * 4) == CUDA_SUCCESS);
  EXPECT(out[0] == 100 && out[n - 1] == 100);
  EXPECT(cuLaunchKernel(add, 8, 1, 1, 4096, 1, 1, 0, nullptr, parameters, nullptr) ==
         CUDA_ERROR_INVALID_VALUE);
  int blocks = 0;
  EXPECT(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, add, 128, 0) == CUDA_SUCCESS && blocks > 0);
  EXPECT(cuEventDestroy(start) == CUDA_SUCCESS && cuEventDestroy(end) == CUDA_SUCCESS);
  EXPECT(cuMemFree(a) == CUDA_SUCCESS && cuMemFree(b) == CUDA_SUCCESS);
}

void check_global(CUmodule module) {
  CUdeviceptr counter;
  size_t bytes = 0;
  EXPECT(cuModuleGetGlobal(&counter, &bytes, module, "counter") == CUDA_SUCCESS && bytes == 4);
  std::uint32_t in = 77, out = 0;
  EXPECT(cuMemcpyHtoD(counter, &in, 4) == CUDA_SUCCESS);
  EXPECT(cuMemcpyDtoH(&out, counter, 4) == CUDA_SUCCESS && out == 77);
  EXPECT(cuModuleGetGlobal(&counter, &bytes, module, "absent") == CUDA_ERROR_NOT_FOUND);
}

void check_threads(CUcontext context, CUmodule module) {
  std::vector<std::thread> threads;
  for (std::uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([=] {
      EXPECT(cuCtxSetCurrent(context) == CUDA_SUCCESS);
      CUfunction add;
      EXPECT(cuModuleGetFunction(&add, module, "add") == CUDA_SUCCESS);
      CUstream stream;
      EXPECT(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) == CUDA_SUCCESS);
      CUdeviceptr a, b;
      std::uint32_t n = 500, out = 0;
      EXPECT(cuMemAlloc(&a, n * 4) == CUDA_SUCCESS && cuMemAlloc(&b, n * 4) == CUDA_SUCCESS);
      for (std::uint32_t round = 0; round < 20; ++round) {
        EXPECT(cuMemsetD32Async(a, round, n, stream) == CUDA_SUCCESS &&
               cuMemsetD32Async(b, t, n, stream) == CUDA_SUCCESS);
        void* parameters[] = {&a, &b, &n};
        EXPECT(cuLaunchKernel(add, 4, 1, 1, 128, 1, 1, 0, stream, parameters, nullptr) == CUDA_SUCCESS);
        EXPECT(cuMemcpyDtoHAsync(&out, a + (n - 1) * 4, 4, stream) == CUDA_SUCCESS);
        EXPECT(cuStreamSynchronize(stream) == CUDA_SUCCESS);
        EXPECT(out == round + t);
      }
      EXPECT(cuMemFree(a) == CUDA_SUCCESS && cuMemFree(b) == CUDA_SUCCESS);
      EXPECT(cuStreamDestroy(stream) == CUDA_SUCCESS);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

void check_host_function() {
  int value = 0;
  EXPECT(cuLaunchHostFunc(nullptr, [](void* data) { *static_cast<int*>(data) = 5; }, &value) == CUDA_SUCCESS);
  EXPECT(cuStreamSynchronize(nullptr) == CUDA_SUCCESS);
  EXPECT(value == 5);
}

// Last: the context is of no use afterwards.
void check_fault(CUmodule module) {
  CUfunction fault;
  EXPECT(cuModuleGetFunction(&fault, module, "fault") == CUDA_SUCCESS);
  CUdeviceptr nowhere = 0x10;
  void* parameters[] = {&nowhere};
  EXPECT(cuLaunchKernel(fault, 1, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr) == CUDA_SUCCESS);
  EXPECT(cuCtxSynchronize() == CUDA_ERROR_ILLEGAL_ADDRESS);
  CUdeviceptr address;
  EXPECT(cuMemAlloc(&address, 16) == CUDA_ERROR_ILLEGAL_ADDRESS);
}

}  // namespace

int main() {
  CUdeviceptr early;
  EXPECT(cuMemAlloc(&early, 16) == CUDA_ERROR_NOT_INITIALIZED);
  EXPECT(cuInit(0) == CUDA_SUCCESS);
  if (failures != 0) return failures;
  EXPECT(cuMemAlloc(&early, 16) == CUDA_ERROR_INVALID_CONTEXT);
  check_device();
  CUcontext context;
  EXPECT(cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS);
  EXPECT(cuCtxSetCurrent(context) == CUDA_SUCCESS);
  check_copies();
  CUmodule module = nullptr;
  EXPECT(cuModuleLoadData(&module, kPtx) == CUDA_SUCCESS);
  CUmodule broken;
  EXPECT(cuModuleLoadData(&broken, ".version 7.0\n.target sm_50\n.address_size 64\nnonsense;\n") !=
         CUDA_SUCCESS);
  check_kernel(module);
  check_global(module);
  check_threads(context, module);
  check_host_function();
  check_fault(module);
  std::printf("%d failures\n", failures);
  return failures;
}
