#include "state.h"

#include <utility>

#include "api.h"

namespace avec::runtime {

constinit thread_local Thread this_thread{};
std::atomic<std::uint64_t> global_epoch{1};

namespace {

struct ErrorText {
  const char* name;
  const char* text;
};

constexpr ErrorText kUnknown{"unrecognized error code", "unrecognized error code"};

constexpr ErrorText describe(cudaError_t error) {
  switch (error) {
#define AVEC_RUNTIME_ERROR(name, text) \
  case name:                           \
    return {#name, text};
#include "errors.def"
#undef AVEC_RUNTIME_ERROR
    default:
      return kUnknown;
  }
}

}  // namespace

cudaError_t record_error(cudaError_t error) noexcept {
  // "Not ready" is an answer: NVIDIA's runtime leaves the last error as it was (seen with 13.0).
  if (error != cudaErrorNotReady) this_thread.last_error = error;
  return error;
}

cudaError_t to_runtime(CUresult result) noexcept {
  const auto error = static_cast<cudaError_t>(result);
  return describe(error).name == kUnknown.name ? cudaErrorUnknown : error;
}

}  // namespace avec::runtime

using namespace avec::runtime;

cudaError_t cudaGetLastError() {
  AVEC_COUNTED;
  return std::exchange(this_thread.last_error, cudaSuccess);
}

cudaError_t cudaPeekAtLastError() {
  AVEC_COUNTED;
  return this_thread.last_error;
}

const char* cudaGetErrorName(cudaError_t error) { return describe(error).name; }

const char* cudaGetErrorString(cudaError_t error) { return describe(error).text; }
