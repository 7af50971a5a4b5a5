#include <cstring>

#include "kernels_support.h"

using test::Kernels;

TEST_CASE("A launch that CUDA refuses is refused at once") {
  test::Context context;
  Kernels kernels;
  const CUfunction bounded = kernels.function("bounded");
  test::Buffer out(4096);
  void* parameters[] = {&out.address};
  auto launch = [&](std::array<unsigned, 3> grid, std::array<unsigned, 3> block, unsigned shared) {
    return cuLaunchKernel(bounded, grid[0], grid[1], grid[2], block[0], block[1], block[2], shared, nullptr,
                          parameters, nullptr);
  };
  GIVES(CUDA_ERROR_INVALID_VALUE, launch({0, 1, 1}, {1, 1, 1}, 0));
  GIVES(CUDA_ERROR_INVALID_VALUE, launch({1, 1, 1}, {1, 0, 1}, 0));
  GIVES(CUDA_ERROR_INVALID_VALUE, launch({1, 65536, 1}, {1, 1, 1}, 0));
  GIVES(CUDA_ERROR_INVALID_VALUE, launch({1, 1, 1}, {1, 1, 65}, 0));
  GIVES(CUDA_ERROR_INVALID_VALUE, launch({1, 1, 1}, {1025, 1, 1}, 0));
  GIVES(CUDA_ERROR_INVALID_VALUE, launch({1, 1, 1}, {129, 1, 1}, 0));  // beyond __launch_bounds__
  GIVES(CUDA_ERROR_INVALID_VALUE, launch({1, 1, 1}, {1, 1, 1}, (48 << 10) + 1));
  GIVES(CUDA_SUCCESS, launch({1, 1, 1}, {128, 1, 1}, 48 << 10));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(bounded, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr));
  GIVES(CUDA_ERROR_INVALID_HANDLE, cuLaunchKernel(reinterpret_cast<CUfunction>(0x10), 1, 1, 1, 1, 1, 1, 0,
                                                  nullptr, parameters, nullptr));
  GIVES(CUDA_ERROR_INVALID_HANDLE,
        cuLaunchKernel(bounded, 1, 1, 1, 1, 1, 1, 0, reinterpret_cast<CUstream>(0x10), parameters, nullptr));
  OK(cuCtxSynchronize());
}

TEST_CASE("Dynamic shared memory beyond 48 KiB is opted into") {
  test::Context context;
  Kernels kernels;
  const CUfunction sum = kernels.function("shared_sum");
  test::Buffer out(4);
  void* parameters[] = {&out.address};
  auto launch = [&](unsigned shared) {
    return cuLaunchKernel(sum, 1, 1, 1, 256, 1, 1, shared, nullptr, parameters, nullptr);
  };
  GIVES(CUDA_ERROR_INVALID_VALUE, launch(100 << 10));
  GIVES(CUDA_ERROR_INVALID_VALUE,
        cuFuncSetAttribute(sum, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 227 << 10));
  OK(cuFuncSetAttribute(sum, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, (227 << 10) - 128));
  OK(launch(100 << 10));
  CHECK(test::read(out.address, 1)[0] == 255 * 128 + 1);
  OK(launch((227 << 10) - 128));
  GIVES(CUDA_ERROR_INVALID_VALUE, launch((227 << 10) - 127));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuFuncSetAttribute(sum, CU_FUNC_ATTRIBUTE_NUM_REGS, 1));
}

TEST_CASE("Parameters of every alignment arrive, as pointers and as a buffer") {
  test::Context context;
  Kernels kernels;
  const CUfunction mixed = kernels.function("mixed");
  test::Buffer out(8);
  struct Mixed {
    char c;
    double d;
    short s;
  };
  char a = 1;
  Mixed m{2, 0.5, 300};
  short b = -4;
  void* pointers[] = {&a, &m, &b, &out.address};
  double result = 0;
  OK(cuLaunchKernel(mixed, 1, 1, 1, 1, 1, 1, 0, nullptr, pointers, nullptr));
  OK(cuMemcpyDtoH(&result, out.address, 8));
  CHECK(result == 299.5);
  char buffer[48] = {};
  a = 2;
  std::memcpy(buffer, &a, 1);
  std::memcpy(buffer + 8, &m, sizeof m);
  std::memcpy(buffer + 32, &b, 2);
  std::memcpy(buffer + 40, &out.address, 8);
  size_t bytes = sizeof buffer;
  void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, buffer, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes,
                   CU_LAUNCH_PARAM_END};
  OK(cuLaunchKernel(mixed, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, extra));
  OK(cuMemcpyDtoH(&result, out.address, 8));
  CHECK(result == 300.5);
  GIVES(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(mixed, 1, 1, 1, 1, 1, 1, 0, nullptr, pointers, extra));
  bytes = 47;
  GIVES(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(mixed, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, extra));
}

TEST_CASE("A kernel that waits for the host leaves other streams running") {
  test::Context context;
  Kernels kernels;
  const CUstream stuck = test::make_stream(), free = test::make_stream();
  int* flag = nullptr;
  OK(cuMemAllocHost(reinterpret_cast<void**>(&flag), 4));
  *flag = 0;
  test::Buffer out(8);
  OK(cuMemsetD8(out.address, 0, 8));
  OK(cuCtxSynchronize());
  OK(test::launch(kernels.function("wait_for"), 1, 1, stuck, flag, out.address));
  OK(test::launch(kernels.function("store"), 1, 1, free, out.address + 4));
  OK(cuStreamSynchronize(free));
  GIVES(CUDA_ERROR_NOT_READY, cuStreamQuery(stuck));
  std::atomic_ref<int>(*flag).store(1);
  OK(cuStreamSynchronize(stuck));
  CHECK(test::read(out.address, 2) == std::vector<std::uint32_t>{1, 1});
  OK(cuMemFreeHost(flag));
}

TEST_CASE("Launch attributes are honoured or refused") {
  test::Context context;
  Kernels kernels;
  const CUfunction bounded = kernels.function("bounded");
  test::Buffer out(512);
  void* parameters[] = {&out.address};
  CUlaunchAttribute attribute{};
  attribute.id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
  attribute.value.cooperative = 1;
  CUlaunchConfig config{};
  config.gridDimX = config.gridDimY = config.gridDimZ = 1;
  config.blockDimX = 128;
  config.blockDimY = config.blockDimZ = 1;
  config.attrs = &attribute;
  config.numAttrs = 1;
  GIVES(CUDA_SUCCESS, cuLaunchKernelEx(&config, bounded, parameters, nullptr));
  config.gridDimX = 1 << 20;
  GIVES(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, cuLaunchKernelEx(&config, bounded, parameters, nullptr));
  GIVES(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE,
        cuLaunchCooperativeKernel(bounded, 1 << 20, 1, 1, 128, 1, 1, 0, nullptr, parameters));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuLaunchKernelEx(nullptr, bounded, parameters, nullptr));
  OK(cuCtxSynchronize());
}

TEST_CASE("Occupancy follows threads and shared memory") {
  test::Context context;
  Kernels kernels;
  const CUfunction store = kernels.function("store");
  int blocks = 0, grid = 0, block = 0;
  OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, store, 1024, 0));
  CHECK(blocks == 2);
  OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, store, 32, 0));
  CHECK(blocks == 32);
  OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, store, 32, 100 << 10));
  CHECK(blocks == 2);
  GIVES(CUDA_ERROR_INVALID_VALUE, cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, store, 0, 0));
  OK(cuOccupancyMaxPotentialBlockSize(&grid, &block, store, nullptr, 0, 0));
  CHECK(block == 1024);
  CHECK(grid >= 2);
}

namespace {
std::string printed;
}
extern "C" void avec_cpu_device_set_output(void (*)(int, const char*, std::size_t, void*), void*);

TEST_CASE("Text of device printf arrives at the next synchronisation") {
  test::Context context;
  Kernels kernels;
  printed.clear();
  avec_cpu_device_set_output(
      [](int descriptor, const char* text, std::size_t bytes, void* user) {
        if (descriptor == 1) static_cast<std::string*>(user)->append(text, bytes);
      },
      &printed);
  OK(test::launch(kernels.function("say"), 2, 1, nullptr, 7));
  OK(cuCtxSynchronize());
  CHECK(printed == "value 7\nvalue 7\n");
  avec_cpu_device_set_output(nullptr, nullptr);
}
