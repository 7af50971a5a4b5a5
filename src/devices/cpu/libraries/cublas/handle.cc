// Handles, their settings, and the copies between host and device memory.
#include <cstdlib>
#include <cstring>

#include "devices/cpu/libraries/cublas/types.h"

#define AVEC_EXPORT extern "C" __attribute__((visibility("default")))

extern "C" void openblas_set_num_threads(int threads);

namespace avec::cpu::blas {
namespace {

using Number = std::int64_t;

constexpr int kMajor = 13, kMinor = 1, kPatch = 0;

// A worker shares its machine: one thread per product, unless the user says otherwise.
__attribute__((constructor)) void choose_threads() {
  for (const char* name : {"OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"}) {
    if (std::getenv(name) != nullptr) return;
  }
  openblas_set_num_threads(1);
}

template <class T>
int get(const Handle* handle, const T& from, T* to) {
  if (handle == nullptr) return kNotInitialized;
  if (to == nullptr) return kInvalidValue;
  *to = from;
  return kOk;
}

/// Rows of `bytes` each, `count` of them; the device's memory is the host's, so one copy does for both ways.
struct Copy {
  const char* from;
  char* to;
  Number bytes, from_step, to_step, count;
  void operator()() const {
    for (Number i = 0; i < count; ++i) {
      std::memcpy(to + i * to_step, from + i * from_step, static_cast<std::size_t>(bytes));
    }
  }
};

int copy_vector(Number n, Number bytes, const void* x, Number incx, void* y, Number incy, CUstream stream, bool wait) {
  if (bytes <= 0 || incx <= 0 || incy <= 0 || n < 0) return kInvalidValue;
  if (n == 0) return kOk;
  const Copy copy{static_cast<const char*>(x), static_cast<char*>(y), bytes, incx * bytes, incy * bytes, n};
  return status_of(wait ? cpu_libraries::in_stream_order_and_wait(stream, copy)
                        : cpu_libraries::in_stream_order(stream, copy));
}

int copy_matrix(Number rows, Number columns, Number bytes, const void* a, Number lda, void* b, Number ldb,
                CUstream stream, bool wait) {
  if (rows < 0 || columns < 0 || bytes <= 0 || lda <= 0 || ldb <= 0 || lda < rows || ldb < rows) return kInvalidValue;
  if (rows == 0 || columns == 0) return kOk;
  const Copy copy{static_cast<const char*>(a), static_cast<char*>(b), rows * bytes, lda * bytes, ldb * bytes, columns};
  return status_of(wait ? cpu_libraries::in_stream_order_and_wait(stream, copy)
                        : cpu_libraries::in_stream_order(stream, copy));
}

}  // namespace

AVEC_EXPORT int cublasCreate_v2(Handle** handle) {
  if (handle == nullptr) return kInvalidValue;
  *handle = new (std::nothrow) Handle;
  return *handle == nullptr ? kAllocFailed : kOk;
}

AVEC_EXPORT int cublasDestroy_v2(Handle* handle) {
  if (handle == nullptr) return kNotInitialized;
  // Work that is queued holds what it needs; natively this call waits for all work of the device.
  const CUresult waited = cuCtxSynchronize();
  delete handle;
  return waited == CUDA_SUCCESS || waited == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED ? kOk : status_of(waited);
}

AVEC_EXPORT int cublasGetVersion_v2(Handle* handle, int* version) {
  return get(handle, kMajor * 10000 + kMinor * 100 + kPatch, version);
}

AVEC_EXPORT int cublasGetProperty(int type, int* value) {
  if (value == nullptr || type < 0 || type > 2) return kInvalidValue;
  *value = type == 0 ? kMajor : type == 1 ? kMinor : kPatch;
  return kOk;
}

AVEC_EXPORT std::size_t cublasGetCudartVersion() { return CUDA_VERSION; }

AVEC_EXPORT int cublasSetStream_v2(Handle* handle, CUstream stream) {
  if (handle == nullptr) return kNotInitialized;
  handle->stream = stream;
  return kOk;
}
AVEC_EXPORT int cublasGetStream_v2(Handle* handle, CUstream* stream) {
  if (handle == nullptr) return kNotInitialized;
  return get(handle, handle->stream, stream);
}

// No workspace is needed.
AVEC_EXPORT int cublasSetWorkspace_v2(Handle* handle, void* workspace, std::size_t bytes) {
  if (handle == nullptr) return kNotInitialized;
  const bool aligned = reinterpret_cast<std::uintptr_t>(workspace) % 256 == 0;
  return aligned && (workspace != nullptr || bytes == 0) ? kOk : kInvalidValue;
}

#define AVEC_SETTING(name, member, valid)                            \
  AVEC_EXPORT int cublasSet##name(Handle* handle, int value) {       \
    if (handle == nullptr) return kNotInitialized;                   \
    if (!(valid)) return kInvalidValue;                              \
    handle->member = value;                                          \
    return kOk;                                                      \
  }                                                                  \
  AVEC_EXPORT int cublasGet##name(Handle* handle, int* value) {      \
    return get(handle, handle == nullptr ? 0 : handle->member, value); \
  }
AVEC_SETTING(PointerMode_v2, pointer_mode, value == 0 || value == 1)
AVEC_SETTING(AtomicsMode, atomics, value == 0 || value == 1)
AVEC_SETTING(MathMode, math, value >= 0 && ((value & 15) <= 4 || (value & 15) == 8) && value < 32)
AVEC_SETTING(SmCountTarget, sm_target, value >= 0)
AVEC_SETTING(EmulationStrategy, emulation[0], value >= 0 && value <= 2)
AVEC_SETTING(EmulationSpecialValuesSupport, emulation[1], true)
AVEC_SETTING(FixedPointEmulationMantissaControl, emulation[2], value == 0 || value == 1)
AVEC_SETTING(FixedPointEmulationMaxMantissaBitCount, emulation[3], true)
AVEC_SETTING(FixedPointEmulationMantissaBitOffset, emulation[4], true)

AVEC_EXPORT int cublasSetFixedPointEmulationMantissaBitCountPointer(Handle* handle, int* count) {
  if (handle == nullptr) return kNotInitialized;
  handle->mantissa_bits = count;
  return kOk;
}
AVEC_EXPORT int cublasGetFixedPointEmulationMantissaBitCountPointer(Handle* handle, int** count) {
  if (handle == nullptr) return kNotInitialized;
  return get(handle, handle->mantissa_bits, count);
}

#define AVEC_STATUSES(X)                                                                          \
  X(0, SUCCESS, "success")                                                                        \
  X(1, NOT_INITIALIZED, "the library was not initialized")                                        \
  X(3, ALLOC_FAILED, "the resource allocation failed")                                            \
  X(7, INVALID_VALUE, "an unsupported value or parameter was passed to the function")             \
  X(8, ARCH_MISMATCH, "the function requires an architectural feature absent from the architecture of the device") \
  X(11, MAPPING_ERROR, "an access to GPU memory space failed")                                    \
  X(13, EXECUTION_FAILED, "the function failed to launch on the GPU")                             \
  X(14, INTERNAL_ERROR, "an internal operation failed")                                           \
  X(15, NOT_SUPPORTED, "the functionality requested is not supported")                            \
  X(16, LICENSE_ERROR, "the functionality requested requires some license")

AVEC_EXPORT const char* cublasGetStatusName(int status) {
  switch (status) {
#define AVEC_NAME(number, name, text) \
  case number:                        \
    return "CUBLAS_STATUS_" #name;
    AVEC_STATUSES(AVEC_NAME)
#undef AVEC_NAME
    default:
      return "unknown status";
  }
}
AVEC_EXPORT const char* cublasGetStatusString(int status) {
  switch (status) {
#define AVEC_TEXT(number, name, text) \
  case number:                        \
    return text;
    AVEC_STATUSES(AVEC_TEXT)
#undef AVEC_TEXT
    default:
      return "unknown status";
  }
}

// Nothing is logged.
AVEC_EXPORT int cublasLoggerConfigure(int, int, int, const char*) { return kOk; }
AVEC_EXPORT int cublasSetLoggerCallback(void (*)(const char*)) { return kOk; }
AVEC_EXPORT int cublasGetLoggerCallback(void (**callback)(const char*)) {
  if (callback == nullptr) return kInvalidValue;
  *callback = nullptr;
  return kOk;
}

#define AVEC_COPIES(way, suffix, N)                                                                              \
  AVEC_EXPORT int cublas##way##Vector##suffix(N n, N bytes, const void* x, N incx, void* y, N incy) {            \
    return copy_vector(n, bytes, x, incx, y, incy, nullptr, true);                                               \
  }                                                                                                              \
  AVEC_EXPORT int cublas##way##VectorAsync##suffix(N n, N bytes, const void* x, N incx, void* y, N incy,         \
                                                   CUstream stream) {                                            \
    return copy_vector(n, bytes, x, incx, y, incy, stream, false);                                               \
  }                                                                                                              \
  AVEC_EXPORT int cublas##way##Matrix##suffix(N rows, N columns, N bytes, const void* a, N lda, void* b, N ldb) { \
    return copy_matrix(rows, columns, bytes, a, lda, b, ldb, nullptr, true);                                     \
  }                                                                                                              \
  AVEC_EXPORT int cublas##way##MatrixAsync##suffix(N rows, N columns, N bytes, const void* a, N lda, void* b,    \
                                                   N ldb, CUstream stream) {                                     \
    return copy_matrix(rows, columns, bytes, a, lda, b, ldb, stream, false);                                     \
  }
AVEC_COPIES(Set, , int)
AVEC_COPIES(Get, , int)
AVEC_COPIES(Set, _64, Number)
AVEC_COPIES(Get, _64, Number)

}  // namespace avec::cpu::blas
