// For programs that check themselves: they end with 0 and print "ok", or say what is wrong.
#pragma once

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>

#define CHECK(condition)                                                           \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::_Exit(1);                                                               \
    }                                                                              \
  } while (false)

/// The call must return this error; the thread's error state is clean afterwards.
#define FAILS(expected, call)                                                             \
  do {                                                                                    \
    const cudaError_t returned_ = (call);                                                 \
    if (returned_ != (expected)) {                                                        \
      std::fprintf(stderr, "%s:%d: %s: expected %s, got %s\n", __FILE__, __LINE__, #call, \
                   cudaGetErrorName(expected), cudaGetErrorName(returned_));              \
      std::_Exit(1);                                                                      \
    }                                                                                     \
    if ((expected) != cudaSuccess) CHECK(cudaGetLastError() == (expected));               \
  } while (false)

#define OK(call) FAILS(cudaSuccess, call)

inline int passed() {
  CHECK(cudaGetLastError() == cudaSuccess);
  std::puts("ok");
  return 0;
}
