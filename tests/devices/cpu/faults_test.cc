#include <cstring>

#include "kernels_support.h"

using test::Kernels;

namespace {

/// After a fault every call of the context gives the same error; other contexts do not notice.
void check_sticky(const std::string& expected, CUstream stream) {
  CHECK(name_of(cuCtxSynchronize()) == expected);
  CHECK(name_of(cuCtxSynchronize()) == expected);
  CUdeviceptr pointer = 0;
  CHECK(name_of(cuMemAlloc(&pointer, 4)) == expected);
  CHECK(name_of(cuStreamQuery(stream)) == expected);
  CHECK(name_of(cuStreamSynchronize(nullptr)) == expected);
  CUevent event = nullptr;
  CHECK(name_of(cuEventCreate(&event, 0)) == expected);
  CUcontext failed = nullptr;
  OK(cuCtxPopCurrent(&failed));
  {
    test::Context other;
    test::Buffer buffer(4);
    OK(cuMemsetD32(buffer.address, 3, 1));
    CHECK(test::read(buffer.address, 1)[0] == 3);
  }
  OK(cuCtxPushCurrent(failed));
}

}  // namespace

TEST_CASE("A store to an address of nobody is an illegal address, and sticks") {
  test::Context context;
  Kernels kernels;
  const CUstream stream = test::make_stream();
  OK(test::launch(kernels.function("store"), 1, 1, stream, CUdeviceptr{0x10}));
  check_sticky("CUDA_ERROR_ILLEGAL_ADDRESS", stream);
}

TEST_CASE("One element behind an allocation is an illegal address") {
  test::Context context;
  Kernels kernels;
  const CUstream stream = test::make_stream();
  test::Buffer buffer(4096);
  OK(test::launch(kernels.function("store"), 1, 1, stream, buffer.address + 4096));
  check_sticky("CUDA_ERROR_ILLEGAL_ADDRESS", stream);
}

TEST_CASE("Memory of another device needs peer access") {
  test::Context second(1);
  CUdeviceptr there = 0;
  OK(cuMemAlloc(&there, 4));
  {
    test::Context first(0);
    Kernels kernels;
    OK(cuCtxEnablePeerAccess(second.handle, 0));
    OK(test::launch(kernels.function("store"), 1, 1, nullptr, there));
    OK(cuCtxSynchronize());
    OK(cuCtxDisablePeerAccess(second.handle));
    OK(test::launch(kernels.function("store"), 1, 1, nullptr, there));
    GIVES(CUDA_ERROR_ILLEGAL_ADDRESS, cuCtxSynchronize());
  }
  CHECK(test::read(there, 1)[0] == 1);
}

TEST_CASE("A misaligned store has an error of its own") {
  test::Context context;
  Kernels kernels;
  const CUstream stream = test::make_stream();
  test::Buffer buffer(4096);
  OK(test::launch(kernels.function("store"), 1, 1, stream, buffer.address + 2));
  check_sticky("CUDA_ERROR_MISALIGNED_ADDRESS", stream);
}

TEST_CASE("A trap fails the launch") {
  test::Context context;
  Kernels kernels;
  const CUstream stream = test::make_stream();
  OK(test::launch(kernels.function("trap"), 1, 1, stream));
  check_sticky("CUDA_ERROR_LAUNCH_FAILED", stream);
}

TEST_CASE("A failed assertion is told as such, with its text") {
  test::Context context;
  Kernels kernels;
  const CUstream stream = test::make_stream();
  OK(test::launch(kernels.function("check"), 1, 1, stream, 1));
  OK(cuStreamSynchronize(stream));
  OK(test::launch(kernels.function("check"), 1, 1, stream, 2));
  check_sticky("CUDA_ERROR_ASSERT", stream);
}

TEST_CASE("Work behind a fault is dropped, and callbacks hear of it") {
  test::Context context;
  Kernels kernels;
  const CUstream stream = test::make_stream();
  static std::atomic<int> told;
  told = -1;
  std::atomic<bool> ran{false};
  OK(test::launch(kernels.function("trap"), 1, 1, stream));
  const CUresult later =
      cuLaunchHostFunc(stream, [](void* user) { *static_cast<std::atomic<bool>*>(user) = true; }, &ran);
  // The kernel may have failed already, then the call says so.
  if (later == CUDA_SUCCESS &&
      cuStreamAddCallback(
          stream, [](CUstream, CUresult status, void*) { told = status; }, nullptr, 0) == CUDA_SUCCESS) {
    CHECK(test::soon([] { return told != -1; }));
    CHECK(told == CUDA_ERROR_LAUNCH_FAILED);
  }
  GIVES(CUDA_ERROR_LAUNCH_FAILED, cuCtxSynchronize());
  CHECK_FALSE(ran);
}

TEST_CASE("Resetting the primary context clears its fault") {
  OK(cuInit(0));
  CUcontext primary = nullptr;
  OK(cuDevicePrimaryCtxRetain(&primary, 0));
  OK(cuCtxPushCurrent(primary));
  {
    Kernels kernels;
    OK(test::launch(kernels.function("trap"), 1, 1, nullptr));
    GIVES(CUDA_ERROR_LAUNCH_FAILED, cuCtxSynchronize());
  }
  OK(cuDevicePrimaryCtxReset(0));
  OK(cuDevicePrimaryCtxRetain(&primary, 0));
  GIVES(CUDA_SUCCESS, cuCtxSynchronize());
  {
    Kernels kernels;
    test::Buffer out(4);
    OK(test::launch(kernels.function("store"), 1, 1, nullptr, out.address));
    CHECK(test::read(out.address, 1)[0] == 1);
  }
  OK(cuCtxPopCurrent(nullptr));
  OK(cuDevicePrimaryCtxRelease(0));
}

TEST_CASE("A kernel that never ends is stopped when its context is destroyed") {
  test::Context keep;
  static int flag = 0;
  {
    test::Context context;
    Kernels kernels;
    OK(cuMemHostRegister(&flag, 4, 0));
    CUdeviceptr out = 0;
    OK(cuMemAlloc(&out, 4));
    OK(test::launch(kernels.function("wait_for"), 1, 1, nullptr, &flag, out));
  }
  GIVES(CUDA_SUCCESS, cuCtxSynchronize());
}
