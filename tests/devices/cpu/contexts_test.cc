#include "support.h"

TEST_CASE("Contexts form a stack per thread") {
  test::Context first;
  CUcontext second = nullptr, seen = nullptr;
  OK(cuCtxCreate_v4(&second, nullptr, 0, 1));
  CUdevice device = -1;
  OK(cuCtxGetDevice(&device));
  CHECK(device == 1);
  std::thread([&] {
    CUcontext mine = first.handle;
    GIVES(CUDA_SUCCESS, cuCtxGetCurrent(&mine));
    CHECK(mine == nullptr);
  }).join();
  OK(cuCtxPopCurrent(&seen));
  CHECK(seen == second);
  OK(cuCtxGetCurrent(&seen));
  CHECK(seen == first.handle);
  OK(cuCtxPushCurrent(second));
  OK(cuCtxDestroy(second));  // the current one is popped
  OK(cuCtxGetCurrent(&seen));
  CHECK(seen == first.handle);
}

TEST_CASE("A destroyed context is refused wherever it still is current") {
  test::Context keep;
  CUcontext gone = nullptr;
  OK(cuCtxCreate_v4(&gone, nullptr, 0, 0));
  OK(cuCtxPopCurrent(nullptr));
  std::atomic<int> stage{0};
  std::thread other([&] {
    cuCtxSetCurrent(gone);
    stage = 1;
    test::soon([&] { return stage == 2; });
    CUdeviceptr pointer = 0;
    GIVES(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuMemAlloc(&pointer, 4));
    GIVES(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuCtxSynchronize());
  });
  test::soon([&] { return stage == 1; });
  OK(cuCtxDestroy(gone));
  stage = 2;
  other.join();
  GIVES(CUDA_ERROR_INVALID_CONTEXT, cuCtxDestroy(gone));
  GIVES(CUDA_ERROR_INVALID_CONTEXT, cuCtxSetCurrent(gone));
  GIVES(CUDA_ERROR_INVALID_CONTEXT, cuCtxPushCurrent(reinterpret_cast<CUcontext>(0x1234)));
}

TEST_CASE("The primary context is counted, and a reset empties it") {
  OK(cuInit(0));
  CUcontext one = nullptr, two = nullptr;
  unsigned flags = 7;
  int active = -1;
  OK(cuDevicePrimaryCtxGetState(1, &flags, &active));
  CHECK(active == 0);
  GIVES(CUDA_ERROR_INVALID_CONTEXT, cuDevicePrimaryCtxRelease(1));
  OK(cuDevicePrimaryCtxRetain(&one, 1));
  OK(cuDevicePrimaryCtxRetain(&two, 1));
  CHECK(one == two);
  OK(cuCtxPushCurrent(one));
  GIVES(CUDA_ERROR_INVALID_CONTEXT, cuCtxDestroy(one));
  CUstream stream = test::make_stream();
  CUdeviceptr pointer = 0;
  OK(cuMemAlloc(&pointer, 1 << 20));
  OK(cuDevicePrimaryCtxReset(1));
  OK(cuDevicePrimaryCtxGetState(1, &flags, &active));
  CHECK(active == 0);
  GIVES(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuCtxSynchronize());
  OK(cuDevicePrimaryCtxRetain(&one, 1));
  GIVES(CUDA_SUCCESS, cuCtxSynchronize());
  GIVES(CUDA_ERROR_INVALID_HANDLE, cuStreamSynchronize(stream));
  size_t free = 0, total = 0;
  OK(cuMemGetInfo(&free, &total));
  CHECK(free == total);
  OK(cuCtxPopCurrent(nullptr));
  OK(cuDevicePrimaryCtxRelease(1));
}

TEST_CASE("Limits are kept, and bad ones refused") {
  test::Context context;
  size_t value = 0;
  OK(cuCtxSetLimit(CU_LIMIT_PRINTF_FIFO_SIZE, 1 << 20));
  OK(cuCtxGetLimit(&value, CU_LIMIT_PRINTF_FIFO_SIZE));
  CHECK(value == 1 << 20);
  GIVES(CUDA_ERROR_INVALID_VALUE, cuCtxGetLimit(&value, CU_LIMIT_MAX));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuCtxGetLimit(nullptr, CU_LIMIT_STACK_SIZE));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuCtxSetCacheConfig(static_cast<CUfunc_cache>(9)));
  int least = 1, greatest = 1;
  OK(cuCtxGetStreamPriorityRange(&least, &greatest));
  CHECK(least == 0);
  CHECK(greatest == -5);
}

TEST_CASE("A context with endless work can be destroyed") {
  auto gate = std::make_unique<std::uint32_t>(0);
  {
    test::Context context;
    OK(cuMemHostRegister(gate.get(), 4, 0));
    CUstream stream = test::make_stream();
    OK(cuStreamWaitValue32(stream, reinterpret_cast<CUdeviceptr>(gate.get()), 1, CU_STREAM_WAIT_VALUE_EQ));
    GIVES(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
  }
  SUCCEED();
}

TEST_CASE("Peer access is enabled once and disabled once") {
  test::Context second(1);
  test::Context first(0);
  int can = 0;
  OK(cuDeviceCanAccessPeer(&can, 0, 1));
  CHECK(can == 1);
  OK(cuCtxEnablePeerAccess(second.handle, 0));
  GIVES(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, cuCtxEnablePeerAccess(second.handle, 0));
  OK(cuCtxDisablePeerAccess(second.handle));
  GIVES(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, cuCtxDisablePeerAccess(second.handle));
  GIVES(CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, cuCtxEnablePeerAccess(first.handle, 0));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuCtxEnablePeerAccess(second.handle, 1));
}
