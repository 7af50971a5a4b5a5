// Options of the JIT and the linker that a client may give.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <vector>

#include "modules_generated.h"

namespace avec::worker {

/// Options of one call, as the driver takes them.
struct JitOptions {
  std::vector<CUjit_option> options;
  std::vector<void*> values;

  void add(CUjit_option option, void* value) {
    options.push_back(option);
    values.push_back(value);
  }
  unsigned count() const { return static_cast<unsigned>(options.size()); }
};

/// Options whose value is a number. Others carry pointers and are not the client's to give.
constexpr bool numeric_option(int option) {
  switch (option) {
    case CU_JIT_MAX_REGISTERS:
    case CU_JIT_THREADS_PER_BLOCK:
    case CU_JIT_OPTIMIZATION_LEVEL:
    case CU_JIT_TARGET_FROM_CUCONTEXT:
    case CU_JIT_TARGET:
    case CU_JIT_FALLBACK_STRATEGY:
    case CU_JIT_GENERATE_DEBUG_INFO:
    case CU_JIT_LOG_VERBOSE:
    case CU_JIT_GENERATE_LINE_INFO:
    case CU_JIT_CACHE_MODE:
    case CU_JIT_POSITION_INDEPENDENT_CODE:
    case CU_JIT_MIN_CTA_PER_SM:
    case CU_JIT_MAX_THREADS_PER_BLOCK:
    case CU_JIT_OVERRIDE_DIRECTIVE_VALUES:
      return true;
    default:
      return false;
  }
}

/// What a body with `options` and `option_values` says. False: they do not pair, which is the client's
/// violation; `status` is an error that the call gets.
template <class Body>
bool read_options(const Body& call, JitOptions& out, CUresult& status) {
  constexpr std::size_t kMost = 32;
  const std::size_t options = call.options() == nullptr ? 0 : call.options()->size();
  const std::size_t values = call.option_values() == nullptr ? 0 : call.option_values()->size();
  status = CUDA_SUCCESS;
  if (options != values || options > kMost) return false;
  for (flatbuffers::uoffset_t i = 0; i < options; ++i) {
    if (!numeric_option(call.options()->Get(i))) status = CUDA_ERROR_INVALID_VALUE;
    out.add(static_cast<CUjit_option>(call.options()->Get(i)),
            reinterpret_cast<void*>(static_cast<std::uintptr_t>(call.option_values()->Get(i))));
  }
  return true;
}

}  // namespace avec::worker
