// Every example checks every CUDA call and every number it prints.
#pragma once

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>

#define CUDA_CHECK(call)                                                                          \
  do {                                                                                            \
    const cudaError_t error_ = (call);                                                            \
    if (error_ != cudaSuccess) {                                                                  \
      std::fprintf(stderr, "%s:%d: %s: %s (%s)\n", __FILE__, __LINE__, #call,                     \
                   cudaGetErrorString(error_), cudaGetErrorName(error_));                         \
      std::exit(1);                                                                               \
    }                                                                                             \
  } while (0)
