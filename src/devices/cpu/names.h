// Entry points by name and version, for cuGetProcAddress.
#pragma once

#include <cuda.h>

namespace avec::cpu {

struct Lookup {
  void* function = nullptr;
  CUdriverProcAddressQueryResult status = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
};

/// The newest form of a function that a program made for `version` of CUDA can call; `per_thread`
/// prefers the form with per-thread default streams.
Lookup look_up(const char* symbol, int version, bool per_thread);

}  // namespace avec::cpu
