#include <mutex>

#include "support.h"

using test::Gate;

TEST_CASE("A stream that waits on a value holds up nobody else") {
  test::Context context;
  const CUstream waiting = test::make_stream(), free = test::make_stream();
  test::Buffer buffer(8);
  Gate gate;
  gate.close(waiting);
  OK(cuMemsetD32Async(buffer.address, 1, 1, waiting));
  OK(cuMemsetD32Async(buffer.address + 4, 2, 1, free));
  OK(cuStreamSynchronize(free));
  GIVES(CUDA_SUCCESS, cuStreamQuery(free));
  GIVES(CUDA_ERROR_NOT_READY, cuStreamQuery(waiting));
  gate.open();
  OK(cuStreamSynchronize(waiting));
  CHECK(test::read(buffer.address, 2) == std::vector<std::uint32_t>{1, 2});
}

TEST_CASE("The legacy default stream comes after blocking streams and before their later work") {
  test::Context context;
  const CUstream blocking = test::make_stream(CU_STREAM_DEFAULT), apart = test::make_stream();
  test::Buffer buffer(4);
  Gate gate;
  gate.close(blocking);
  OK(cuMemsetD32Async(buffer.address, 1, 1, blocking));
  OK(cuMemsetD32Async(buffer.address, 2, 1, nullptr));   // waits for blocking
  OK(cuMemsetD32Async(buffer.address, 3, 1, blocking));  // waits for the default stream
  GIVES(CUDA_ERROR_NOT_READY, cuStreamQuery(nullptr));
  OK(cuStreamSynchronize(apart));  // non-blocking: not concerned
  gate.open();
  OK(cuStreamSynchronize(blocking));
  CHECK(test::read(buffer.address, 1)[0] == 3);
}

TEST_CASE("A non-blocking stream does not wait for the legacy default stream") {
  test::Context context;
  const CUstream apart = test::make_stream();
  test::Buffer buffer(4);
  Gate gate;
  gate.close(nullptr);
  OK(cuMemsetD32Async(buffer.address, 7, 1, apart));
  OK(cuStreamSynchronize(apart));
  GIVES(CUDA_ERROR_NOT_READY, cuStreamQuery(nullptr));
  gate.open();
  OK(cuCtxSynchronize());
}

TEST_CASE("Each thread has a default stream of its own") {
  test::Context context;
  Gate gate;
  gate.close(CU_STREAM_PER_THREAD);
  std::thread([&] {
    GIVES(CUDA_SUCCESS, cuCtxSetCurrent(context.handle));
    GIVES(CUDA_SUCCESS, cuStreamSynchronize(CU_STREAM_PER_THREAD));
    GIVES(CUDA_SUCCESS, cuStreamQuery(CU_STREAM_PER_THREAD));
  }).join();
  GIVES(CUDA_ERROR_NOT_READY, cuStreamQuery(CU_STREAM_PER_THREAD));
  gate.open();
  OK(cuStreamSynchronize(CU_STREAM_PER_THREAD));
}

TEST_CASE("Host functions run in stream order, and may wait for other streams") {
  test::Context context;
  const CUstream first = test::make_stream(), second = test::make_stream();
  struct Shared {
    std::atomic<int> order{0};
    int seen[2] = {-1, -1};
    std::atomic<bool> release{false};
  } shared;
  auto waits = [](void* user) {
    auto& s = *static_cast<Shared*>(user);
    test::soon([&] { return s.release.load(); });
    s.seen[0] = s.order.fetch_add(1);
  };
  auto frees = [](void* user) {
    auto& s = *static_cast<Shared*>(user);
    s.seen[1] = s.order.fetch_add(1);
    s.release = true;
  };
  OK(cuLaunchHostFunc(first, waits, &shared));
  OK(cuLaunchHostFunc(second, frees, &shared));
  OK(cuStreamSynchronize(first));
  CHECK(shared.seen[1] == 0);
  CHECK(shared.seen[0] == 1);
  GIVES(CUDA_ERROR_INVALID_VALUE, cuLaunchHostFunc(first, nullptr, nullptr));
}

TEST_CASE("Callbacks are told the stream and its status") {
  test::Context context;
  const CUstream stream = test::make_stream();
  struct Told {
    CUstream stream = nullptr;
    CUresult status = CUDA_ERROR_UNKNOWN;
  } told;
  OK(cuStreamAddCallback(
      stream, [](CUstream s, CUresult status, void* user) { *static_cast<Told*>(user) = {s, status}; }, &told,
      0));
  OK(cuStreamSynchronize(stream));
  CHECK(told.stream == stream);
  CHECK(told.status == CUDA_SUCCESS);
}

TEST_CASE("Streams describe themselves, and destroyed ones are refused") {
  test::Context context;
  CUstream stream = nullptr;
  OK(cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, -100));
  int priority = 1;
  OK(cuStreamGetPriority(stream, &priority));
  CHECK(priority == -5);
  unsigned flags = 0;
  OK(cuStreamGetFlags(stream, &flags));
  CHECK(flags == CU_STREAM_NON_BLOCKING);
  CUcontext owner = nullptr;
  OK(cuStreamGetCtx(stream, &owner));
  CHECK(owner == context.handle);
  GIVES(CUDA_ERROR_INVALID_VALUE, cuStreamCreate(&stream, 2));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuStreamCreate(nullptr, 0));
  OK(cuStreamDestroy(stream));
  GIVES(CUDA_ERROR_INVALID_HANDLE, cuStreamDestroy(stream));
  GIVES(CUDA_ERROR_INVALID_HANDLE, cuStreamSynchronize(stream));
  GIVES(CUDA_ERROR_INVALID_HANDLE, cuStreamQuery(stream));
}

TEST_CASE("A destroyed stream still does its work") {
  test::Context context;
  const CUstream stream = test::make_stream();
  test::Buffer buffer(4);
  Gate gate;
  gate.close(stream);
  OK(cuMemsetD32Async(buffer.address, 5, 1, stream));
  OK(cuStreamDestroy(stream));
  gate.open();
  OK(cuCtxSynchronize());
  CHECK(test::read(buffer.address, 1)[0] == 5);
}

TEST_CASE("Streams wait for and write values of 32 and 64 bits under each condition") {
  test::Context context;
  const CUstream writer = test::make_stream(), waiter = test::make_stream();
  test::Buffer buffer(16);
  OK(cuMemsetD8(buffer.address, 0, 16));
  OK(cuCtxSynchronize());  // the two streams do not wait for the default stream
  OK(cuStreamWaitValue64(waiter, buffer.address + 8, std::uint64_t{1} << 40, CU_STREAM_WAIT_VALUE_GEQ));
  OK(cuStreamWaitValue32(waiter, buffer.address, 4, CU_STREAM_WAIT_VALUE_AND));
  OK(cuStreamWriteValue32(waiter, buffer.address + 4, 77, 0));
  OK(cuStreamWriteValue32(writer, buffer.address, 6, 0));
  OK(cuStreamSynchronize(writer));
  GIVES(CUDA_ERROR_NOT_READY, cuStreamQuery(waiter));
  OK(cuStreamWriteValue64(writer, buffer.address + 8, (std::uint64_t{1} << 40) + 1, 0));
  OK(cuStreamSynchronize(waiter));
  CHECK(test::read(buffer.address + 4, 1)[0] == 77);
  GIVES(CUDA_ERROR_INVALID_VALUE, cuStreamWriteValue32(writer, buffer.address + 2, 1, 0));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuStreamWriteValue32(writer, buffer.address + 16, 1, 0));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuStreamWaitValue32(writer, buffer.address, 1, 8));
}

TEST_CASE("Events mark a point of a stream") {
  test::Context context;
  const CUstream stream = test::make_stream(), other = test::make_stream();
  CUevent event = nullptr, later = nullptr, plain = nullptr;
  OK(cuEventCreate(&event, CU_EVENT_DEFAULT));
  OK(cuEventCreate(&later, CU_EVENT_DEFAULT));
  OK(cuEventCreate(&plain, CU_EVENT_DISABLE_TIMING));
  float milliseconds = -1;
  GIVES(CUDA_SUCCESS, cuEventQuery(event));  // never recorded: nothing to wait for
  GIVES(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime(&milliseconds, event, later));
  test::Buffer buffer(4);
  Gate gate;
  OK(cuEventRecord(event, stream));
  gate.close(stream);
  OK(cuMemsetD32Async(buffer.address, 1, 1, stream));
  OK(cuEventRecord(later, stream));
  OK(cuStreamWaitEvent(other, later, 0));
  OK(cuMemsetD32Async(buffer.address, 2, 1, other));
  OK(cuEventSynchronize(event));
  GIVES(CUDA_ERROR_NOT_READY, cuEventQuery(later));
  GIVES(CUDA_ERROR_NOT_READY, cuEventElapsedTime(&milliseconds, event, later));
  GIVES(CUDA_ERROR_NOT_READY, cuStreamQuery(other));
  gate.open();
  OK(cuEventSynchronize(later));
  OK(cuEventElapsedTime(&milliseconds, event, later));
  CHECK(milliseconds >= 0);
  OK(cuStreamSynchronize(other));
  CHECK(test::read(buffer.address, 1)[0] == 2);
  OK(cuEventRecord(plain, stream));
  OK(cuEventSynchronize(plain));
  GIVES(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime(&milliseconds, event, plain));
  OK(cuEventDestroy(event));
  GIVES(CUDA_ERROR_INVALID_HANDLE, cuEventQuery(event));
  GIVES(CUDA_ERROR_INVALID_HANDLE, cuEventRecord(event, stream));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuEventCreate(&event, CU_EVENT_INTERPROCESS));
}

TEST_CASE("An event that is recorded again leaves earlier waits as they were") {
  test::Context context;
  const CUstream first = test::make_stream(), second = test::make_stream(), waiter = test::make_stream();
  CUevent event = nullptr;
  OK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
  Gate gate;
  OK(cuEventRecord(event, first));
  OK(cuStreamWaitEvent(waiter, event, 0));
  gate.close(second);
  OK(cuEventRecord(event, second));
  OK(cuStreamSynchronize(waiter));
  GIVES(CUDA_ERROR_NOT_READY, cuEventQuery(event));
  gate.open();
  OK(cuEventSynchronize(event));
}

TEST_CASE("An event belongs to its context") {
  test::Context first;
  CUevent event = nullptr;
  OK(cuEventCreate(&event, 0));
  test::Context second;
  GIVES(CUDA_ERROR_INVALID_HANDLE, cuEventRecord(event, nullptr));
}

TEST_CASE("Many threads and streams at once keep each stream's order") {
  test::Context context;
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      if (cuCtxSetCurrent(context.handle) != CUDA_SUCCESS) return;
      CUstream stream = nullptr;
      CUdeviceptr word = 0;
      cuStreamCreate(&stream, CU_STREAM_DEFAULT);
      cuMemAlloc(&word, 4);
      for (unsigned i = 1; i <= 300; ++i) {
        cuMemsetD32Async(word, i, 1, stream);
        if (i % 50 != 0) continue;
        std::uint32_t seen = 0;
        cuMemcpyDtoHAsync(&seen, word, 4, stream);
        cuStreamSynchronize(stream);
        if (seen == i) ++good;
      }
      cuMemFree(word);
      cuStreamDestroy(stream);
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(good == 24);
}
