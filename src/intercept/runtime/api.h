// What every file with entry points needs: a context, the default stream, the pairs of entry
// points that differ only in what stream 0 means.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "context.h"
#include "state.h"

namespace avec::runtime {

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

/// Defines `name` and `name##suffix` with one body, which sees the meaning of stream 0 as
/// `kDefault`. Headers declare only the first, so both are declared here.
#define AVEC_STREAM_PAIR(name, suffix, parameters, ...)                   \
  extern "C" cudaError_t name parameters {                                \
    constexpr auto kDefault = ::avec::runtime::DefaultStream::kLegacy;    \
    __VA_ARGS__                                                           \
  }                                                                       \
  extern "C" cudaError_t name##suffix parameters {                        \
    constexpr auto kDefault = ::avec::runtime::DefaultStream::kPerThread; \
    __VA_ARGS__                                                           \
  }
