// What the tests of the CPU device share.
#pragma once

#include <cuda.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.h"

/// Compares with the error's name, so that a failure can be read.
inline std::string name_of(CUresult error) {
  const char* name = nullptr;
  return cuGetErrorName(error, &name) == CUDA_SUCCESS ? name : std::to_string(static_cast<int>(error));
}
#define GIVES(expected, call) CHECK(name_of(call) == #expected)
#define OK(call) REQUIRE(name_of(call) == "CUDA_SUCCESS")

namespace test {

/// A context of its own for one test, current on this thread.
class Context {
 public:
  explicit Context(CUdevice device = 0) {
    OK(cuInit(0));
    OK(cuCtxCreate_v4(&handle, nullptr, 0, device));
  }
  ~Context() { cuCtxDestroy(handle); }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  CUcontext handle = nullptr;
};

class Buffer {
 public:
  explicit Buffer(std::size_t bytes) { OK(cuMemAlloc(&address, bytes)); }
  ~Buffer() { cuMemFree(address); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  CUdeviceptr address = 0;
};

/// Pinned memory of one 32-bit word that a stream can be made to wait on.
class Gate {
 public:
  Gate() {
    OK(cuMemHostAlloc(reinterpret_cast<void**>(&word_), 4096, 0));
    *word_ = 0;
  }
  ~Gate() { cuMemFreeHost(word_); }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  void close(CUstream stream) {
    OK(cuStreamWaitValue32(stream, reinterpret_cast<CUdeviceptr>(word_), 1, CU_STREAM_WAIT_VALUE_EQ));
  }
  void open() { std::atomic_ref<std::uint32_t>(*word_).store(1); }

 private:
  std::uint32_t* word_ = nullptr;
};

inline CUstream make_stream(unsigned flags = CU_STREAM_NON_BLOCKING) {
  CUstream stream = nullptr;
  OK(cuStreamCreate(&stream, flags));
  return stream;
}

inline std::vector<std::uint32_t> read(CUdeviceptr from, std::size_t count) {
  std::vector<std::uint32_t> words(count);
  OK(cuMemcpyDtoH(words.data(), from, count * 4));
  return words;
}

/// Waits up to 30 s for something that another thread brings about.
template <class Condition>
bool soon(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace test
