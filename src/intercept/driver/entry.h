// What every exported function of libcuda.so.1 is made of: it is counted, nothing is thrown
// through it, and it does what src/client says.
#pragma once

#include <cuda.h>

#include <new>

#include "client/process.h"
#include "client/progress.h"
#include "client/stats.h"

namespace avec::driver {

/// What the call posted has frame numbers when it ends.
struct WorkScope {
  ~WorkScope() { client::end_work(); }
};

/// Runs `body`, a callable that returns CUresult, as one call of the function `name`.
template <class Body>
[[gnu::always_inline]] inline CUresult entry(const char* name, Body&& body) noexcept {
  const client::CallScope scope(name);
  const WorkScope work;
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  } catch (...) {
    return CUDA_ERROR_UNKNOWN;
  }
}

/// The same for functions that concern no context: `body` takes the process's client.
template <class Body>
inline CUresult entry_with_client(const char* name, Body&& body) noexcept {
  return entry(name, [&] {
    CUresult error = CUDA_SUCCESS;
    client::Client* client = client::process_client(error);
    return client == nullptr ? error : body(*client);
  });
}

inline CUstream per_thread_if_default(CUstream stream) {
  return stream == nullptr ? CU_STREAM_PER_THREAD : stream;
}

}  // namespace avec::driver

/// Defines the function `name`; what follows the parameters is the expression that it returns.
#define AVEC_DRIVER_CALL(name, parameters, ...)                                   \
  extern "C" CUresult name parameters {                                           \
    return avec::driver::entry(#name, [&]() -> CUresult { return __VA_ARGS__; }); \
  }

/// The same where the expression uses the process's client, `client`.
#define AVEC_DRIVER_CLIENT_CALL(name, parameters, ...)                                 \
  extern "C" CUresult name parameters {                                                \
    return avec::driver::entry_with_client(                                            \
        #name, [&](avec::client::Client& client) -> CUresult { return __VA_ARGS__; }); \
  }

/// Functions with a parameter `stream`: 0 is the legacy stream, and in the _ptsz form the
/// thread's own default stream.
#define AVEC_DRIVER_STREAM_CALL(name, parameters, ...)                            \
  AVEC_DRIVER_CALL(name, parameters, __VA_ARGS__)                                 \
  extern "C" CUresult name##_ptsz parameters {                                    \
    stream = avec::driver::per_thread_if_default(stream);                         \
    return avec::driver::entry(#name, [&]() -> CUresult { return __VA_ARGS__; }); \
  }

/// Functions without one, that work in a default stream: the expression names it `stream`.
#define AVEC_DRIVER_DEFAULT_STREAM_CALL(name, parameters, ...)                    \
  extern "C" CUresult name parameters {                                           \
    const CUstream stream = CU_STREAM_LEGACY;                                     \
    return avec::driver::entry(#name, [&]() -> CUresult { return __VA_ARGS__; }); \
  }                                                                               \
  extern "C" CUresult name##_ptds parameters {                                    \
    const CUstream stream = CU_STREAM_PER_THREAD;                                 \
    return avec::driver::entry(#name, [&]() -> CUresult { return __VA_ARGS__; }); \
  }
