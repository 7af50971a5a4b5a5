// What every file with entry points needs: a context, the default stream, the pairs of entry
// points that differ only in what stream 0 means.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "context.h"
#include "state.h"

// Of libavec.so, where it is the driver's: counts a call for AVEC_STATS. Another driver has none.
extern "C" void* avec_call_begin(const char* name) __attribute__((weak));
extern "C" void avec_call_end(void* call) __attribute__((weak));

namespace avec::runtime {

/// Counts the enclosing scope as one call of `name` (static storage).
class Counted {
 public:
  explicit Counted(const char* name) noexcept
      : call_(avec_call_begin != nullptr ? avec_call_begin(public_name(name)) : nullptr) {}
  ~Counted() {
    if (call_ != nullptr) [[unlikely]]
      avec_call_end(call_);
  }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

 private:
  /// nvcc's stubs call __cudaLaunchKernel for what the program's source calls a launch.
  static const char* public_name(const char* name) { return name[0] == '_' ? name + 2 : name; }

  void* call_;
};

/// Stream 0 is the legacy default stream, or in code compiled with per-thread default streams
/// the thread's own. Entry points come in pairs: name, and name_ptsz / name_ptds for the latter.
enum class DefaultStream { kLegacy, kPerThread };

template <DefaultStream Default>
constexpr CUstream resolve_stream(cudaStream_t stream) noexcept {
  if constexpr (Default == DefaultStream::kPerThread) return stream ? stream : CU_STREAM_PER_THREAD;
  return stream;
}

/// Makes a context current, runs `body` (which returns CUresult or cudaError_t) and remembers
/// its error.
template <class Body>
cudaError_t in_context(Body&& body) {
  if (const CUresult bound = bind_context(); bound != CUDA_SUCCESS) [[unlikely]]
    return done(bound);
  return done(body());
}

inline CUdeviceptr device_pointer(const void* pointer) noexcept {
  return reinterpret_cast<CUdeviceptr>(pointer);
}

}  // namespace avec::runtime

/// First statement of every function that AVEC_STATS lists.
#define AVEC_COUNTED const ::avec::runtime::Counted counted(__func__)

/// Defines `name` and `name##suffix` with one body, which sees the meaning of stream 0 as
/// `kDefault`. Headers declare only the first, so both are declared here.
#define AVEC_STREAM_PAIR(name, suffix, parameters, ...)                   \
  extern "C" cudaError_t name parameters {                                \
    const ::avec::runtime::Counted counted(#name);                        \
    constexpr auto kDefault = ::avec::runtime::DefaultStream::kLegacy;    \
    __VA_ARGS__                                                           \
  }                                                                       \
  extern "C" cudaError_t name##suffix parameters {                        \
    const ::avec::runtime::Counted counted(#name);                        \
    constexpr auto kDefault = ::avec::runtime::DefaultStream::kPerThread; \
    __VA_ARGS__                                                           \
  }
