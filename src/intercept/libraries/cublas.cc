// cuBLAS on the client: what was set is answered here; copies between host and device; rotations.
#include "intercept/libraries/cublas.h"

#include <cuda.h>

#include <cmath>
#include <complex>
#include <cstdint>

#include "client/library_call.h"
#include "libraries/cublas_kinds.h"

using namespace avec;
using namespace avec::client;

namespace {

enum Status { kOk = 0, kNotInitialized = 1, kInvalidValue = 7, kMappingError = 11 };
enum State { kMathMode, kAtomicsMode, kSmCount };

LibraryObject* find(const void* handle) { return find_library_object(handle, libraries::kCublasCublas); }

int get(const void* handle, State which, int* value) {
  const LibraryObject* object = find(handle);
  if (object == nullptr) return kNotInitialized;
  if (value == nullptr) return kInvalidValue;
  *value = static_cast<int>(object->state[which]);
  return kOk;
}

int note(const void* handle, State which, int value) {
  LibraryObject* object = find(handle);
  if (object == nullptr) return kNotInitialized;
  object->state[which] = static_cast<std::uint64_t>(value);
  return kOk;
}

/// `columns` runs of `bytes` bytes, with so many from the beginning of one to the next.
struct Runs {
  const void* from;
  std::size_t from_pitch;
  void* to;
  std::size_t to_pitch, bytes, columns;
  bool to_device;
};

int copy(const Runs& runs, CUstream stream, bool wait) {
  if (runs.bytes == 0 || runs.columns == 0) return kOk;
  CUDA_MEMCPY2D box{};
  if (runs.to_device) {
    box.srcMemoryType = CU_MEMORYTYPE_HOST;
    box.srcHost = runs.from;
    box.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    box.dstDevice = reinterpret_cast<CUdeviceptr>(runs.to);
  } else {
    box.srcMemoryType = CU_MEMORYTYPE_DEVICE;
    box.srcDevice = reinterpret_cast<CUdeviceptr>(runs.from);
    box.dstMemoryType = CU_MEMORYTYPE_HOST;
    box.dstHost = runs.to;
  }
  box.srcPitch = runs.from_pitch;
  box.dstPitch = runs.to_pitch;
  box.WidthInBytes = runs.bytes;
  box.Height = runs.columns;
  const CUresult result = wait ? cuMemcpy2DUnaligned(&box) : cuMemcpy2DAsync(&box, stream);
  return result == CUDA_SUCCESS ? kOk : kMappingError;
}

int copy_matrix(std::int64_t rows, std::int64_t columns, std::int64_t element, const void* a, std::int64_t lda, void* b,
                std::int64_t ldb, bool to_device, CUstream stream, bool wait) {
  if (rows < 0 || columns < 0 || element <= 0 || lda <= 0 || ldb <= 0 || lda < rows || ldb < rows) return kInvalidValue;
  if (rows != 0 && columns != 0 && (a == nullptr || b == nullptr)) return kMappingError;
  const auto size = static_cast<std::size_t>(element);
  return copy({a, static_cast<std::size_t>(lda) * size, b, static_cast<std::size_t>(ldb) * size,
               static_cast<std::size_t>(rows) * size, static_cast<std::size_t>(columns), to_device},
              stream, wait);
}

/// A vector with a stride is a matrix of one row.
int copy_vector(std::int64_t n, std::int64_t element, const void* x, std::int64_t incx, void* y, std::int64_t incy,
                bool to_device, CUstream stream, bool wait) {
  if (n < 0 || element <= 0 || incx <= 0 || incy <= 0) return kInvalidValue;
  if (incx == 1 && incy == 1) return copy_matrix(n, 1, element, x, n == 0 ? 1 : n, y, n == 0 ? 1 : n, to_device, stream, wait);
  return copy_matrix(1, n, element, x, incx, y, incy, to_device, stream, wait);
}

/// The Givens rotation as BLAS defines it (a becomes r, b becomes z).
template <class T>
void rotation(T* a, T* b, T* c, T* s) {
  const T roe = std::abs(*a) > std::abs(*b) ? *a : *b;
  const T scale = std::abs(*a) + std::abs(*b);
  if (scale == T{0}) {
    *c = 1;
    *s = 0;
    *b = 0;
    return;
  }
  const T r = std::copysign(scale * std::sqrt((*a / scale) * (*a / scale) + (*b / scale) * (*b / scale)), roe);
  *c = *a / r;
  *s = *b / r;
  T z = 1;
  if (std::abs(*a) > std::abs(*b)) z = *s;
  if (std::abs(*b) >= std::abs(*a) && *c != T{0}) z = T{1} / *c;
  *a = r;
  *b = z;
}

template <class T>
void complex_rotation(std::complex<T>* a, const std::complex<T>* b, T* c, std::complex<T>* s) {
  const T size = std::abs(*a);
  if (size == T{0}) {
    *c = 0;
    *s = {1, 0};
    *a = *b;
    return;
  }
  const T scale = size + std::abs(*b);
  const T norm = scale * std::hypot(size / scale, std::abs(*b) / scale);
  const std::complex<T> alpha = *a / size;
  *c = size / norm;
  *s = alpha * std::conj(*b) / norm;
  *a = alpha * norm;
}

template <class T>
bool rescale(T& value, T& first, T& second, T& third) {
  constexpr T kGamma = 4096;
  if (value == T{0} || (std::abs(value) > T{1} / (kGamma * kGamma) && std::abs(value) < kGamma * kGamma)) return false;
  const bool grow = std::abs(value) <= T{1} / (kGamma * kGamma);
  value *= grow ? kGamma * kGamma : T{1} / (kGamma * kGamma);
  for (T* each : {&first, &second, &third}) *each *= grow ? T{1} / kGamma : kGamma;
  return true;
}

/// The modified rotation as BLAS defines it.
template <class T>
void modified_rotation(T* d1, T* d2, T* x1, const T* y1, T* param) {
  T flag = 0, h11 = 1, h21 = 0, h12 = 0, h22 = 1;
  const auto nothing = [&] {
    flag = -1;
    h11 = h12 = h21 = h22 = 0;
    *d1 = *d2 = *x1 = 0;
  };
  if (*d1 < T{0}) {
    nothing();
  } else if (const T p2 = *d2 * *y1; p2 == T{0}) {
    param[0] = -2;
    return;
  } else {
    const T p1 = *d1 * *x1, q2 = p2 * *y1, q1 = p1 * *x1;
    if (std::abs(q1) > std::abs(q2)) {
      h21 = -*y1 / *x1;
      h12 = p2 / p1;
      const T u = T{1} - h12 * h21;
      if (u > T{0}) {
        flag = 0;
        *d1 /= u;
        *d2 /= u;
        *x1 *= u;
      } else {
        nothing();
      }
    } else if (q2 < T{0}) {
      nothing();
    } else {
      flag = 1;
      h11 = p1 / p2;
      h22 = *x1 / *y1;
      h12 = 1;
      h21 = -1;
      const T u = T{1} + h11 * h22, old = *d2 / u;
      *d2 = *d1 / u;
      *d1 = old;
      *x1 = *y1 * u;
    }
    while (rescale(*d1, *x1, h11, h12)) flag = -1;
    T unused = 0;
    while (rescale(*d2, unused, h21, h22)) flag = -1;
  }
  param[0] = flag;
  param[1] = h11;
  param[2] = h21;
  param[3] = h12;
  param[4] = h22;
}

const char* const kNames[] = {"CUBLAS_STATUS_SUCCESS",          "CUBLAS_STATUS_NOT_INITIALIZED", "CUBLAS_STATUS_ALLOC_FAILED",
                              "CUBLAS_STATUS_INVALID_VALUE",    "CUBLAS_STATUS_ARCH_MISMATCH",   "CUBLAS_STATUS_MAPPING_ERROR",
                              "CUBLAS_STATUS_EXECUTION_FAILED", "CUBLAS_STATUS_INTERNAL_ERROR",  "CUBLAS_STATUS_NOT_SUPPORTED",
                              "CUBLAS_STATUS_LICENSE_ERROR"};
const char* const kTexts[] = {"success",
                              "the library was not initialized",
                              "the resource allocation failed",
                              "an unsupported value or parameter was passed to the function",
                              "the function requires a feature absent from the device architecture",
                              "an access to GPU memory space failed",
                              "the function failed to launch on the GPU",
                              "an internal operation failed",
                              "the functionality requested is not supported",
                              "the functionality requested requires some license and an error was detected"};
constexpr int kCodes[] = {0, 1, 3, 7, 8, 11, 13, 14, 15, 16};

const char* text_of(int status, const char* const* texts, const char* unknown) {
  for (std::size_t i = 0; i < std::size(kCodes); ++i)
    if (kCodes[i] == status) return texts[i];
  return unknown;
}

}  // namespace

namespace avec::libraries {

int check_pointer_mode(const void* handle, int mode) {
  if (find(handle) == nullptr) return kNotInitialized;
  return mode == 0 || mode == 1 ? kOk : kInvalidValue;
}
int note_pointer_mode(const void* handle, int mode) {
  LibraryObject* object = find(handle);
  if (object == nullptr) return kNotInitialized;
  object->device_pointers = mode == 1;
  return kOk;
}
int note_math_mode(const void* handle, int mode) { return note(handle, kMathMode, mode); }
int note_atomics_mode(const void* handle, int mode) { return note(handle, kAtomicsMode, mode); }
int note_sm_count(const void* handle, int count) { return note(handle, kSmCount, count); }

}  // namespace avec::libraries

extern "C" {

int cublasGetMathMode(const void* handle, int* mode) { return get(handle, kMathMode, mode); }
int cublasGetAtomicsMode(const void* handle, int* mode) { return get(handle, kAtomicsMode, mode); }
int cublasGetSmCountTarget(const void* handle, int* count) { return get(handle, kSmCount, count); }

int cublasGetPointerMode_v2(const void* handle, int* mode) {
  const LibraryObject* object = find(handle);
  if (object == nullptr) return kNotInitialized;
  if (mode == nullptr) return kInvalidValue;
  *mode = object->device_pointers ? 1 : 0;
  return kOk;
}

int cublasGetStream_v2(const void* handle, CUstream* stream) {
  const LibraryObject* object = find(handle);
  if (object == nullptr) return kNotInitialized;
  if (stream == nullptr) return kInvalidValue;
  *stream = object->stream;
  return kOk;
}

int cublas_get_property(int type, int* value);

int cublasGetVersion_v2(const void* handle, int* version) {
  if (find(handle) == nullptr && handle != nullptr) return kNotInitialized;
  if (version == nullptr) return kInvalidValue;
  int part[3];
  for (int type = 0; type < 3; ++type)
    if (const int status = cublas_get_property(type, &part[type]); status != kOk) return status;
  *version = part[0] * 10000 + part[1] * 100 + part[2];
  return kOk;
}
int cublasGetProperty(int type, int* value) { return value == nullptr ? static_cast<int>(kInvalidValue) : cublas_get_property(type, value); }
std::size_t cublasGetCudartVersion(void) { return CUDA_VERSION; }

int cublasLoggerConfigure(int, int, int, const char*) { return kOk; }
int cublasSetLoggerCallback(void*) { return kOk; }
int cublasGetLoggerCallback(void** callback) {
  if (callback == nullptr) return kInvalidValue;
  *callback = nullptr;
  return kOk;
}
const char* cublasGetStatusName(int status) { return text_of(status, kNames, "CUBLAS_STATUS_UNKNOWN"); }
const char* cublasGetStatusString(int status) { return text_of(status, kTexts, "unknown status"); }
void cublasXerbla(const char*, int) {}

#define AVEC_VECTOR(name, integer, to_device)                                                                          \
  int name(integer n, integer element, const void* x, integer incx, void* y, integer incy) {                            \
    return copy_vector(n, element, x, incx, y, incy, to_device, CU_STREAM_LEGACY, true);                                 \
  }
#define AVEC_VECTOR_ASYNC(name, integer, to_device)                                                                    \
  int name(integer n, integer element, const void* x, integer incx, void* y, integer incy, CUstream stream) {           \
    return copy_vector(n, element, x, incx, y, incy, to_device, stream, false);                                          \
  }
#define AVEC_MATRIX(name, integer, to_device)                                                                          \
  int name(integer rows, integer columns, integer element, const void* a, integer lda, void* b, integer ldb) {          \
    return copy_matrix(rows, columns, element, a, lda, b, ldb, to_device, CU_STREAM_LEGACY, true);                       \
  }
#define AVEC_MATRIX_ASYNC(name, integer, to_device)                                                                    \
  int name(integer rows, integer columns, integer element, const void* a, integer lda, void* b, integer ldb,            \
           CUstream stream) {                                                                                           \
    return copy_matrix(rows, columns, element, a, lda, b, ldb, to_device, stream, false);                                \
  }
AVEC_VECTOR(cublasSetVector, int, true)
AVEC_VECTOR(cublasSetVector_64, std::int64_t, true)
AVEC_VECTOR(cublasGetVector, int, false)
AVEC_VECTOR(cublasGetVector_64, std::int64_t, false)
AVEC_VECTOR_ASYNC(cublasSetVectorAsync, int, true)
AVEC_VECTOR_ASYNC(cublasSetVectorAsync_64, std::int64_t, true)
AVEC_VECTOR_ASYNC(cublasGetVectorAsync, int, false)
AVEC_VECTOR_ASYNC(cublasGetVectorAsync_64, std::int64_t, false)
AVEC_MATRIX(cublasSetMatrix, int, true)
AVEC_MATRIX(cublasSetMatrix_64, std::int64_t, true)
AVEC_MATRIX(cublasGetMatrix, int, false)
AVEC_MATRIX(cublasGetMatrix_64, std::int64_t, false)
AVEC_MATRIX_ASYNC(cublasSetMatrixAsync, int, true)
AVEC_MATRIX_ASYNC(cublasSetMatrixAsync_64, std::int64_t, true)
AVEC_MATRIX_ASYNC(cublasGetMatrixAsync, int, false)
AVEC_MATRIX_ASYNC(cublasGetMatrixAsync_64, std::int64_t, false)

#define AVEC_ROTATION(name, device_form, A, B, C, S, compute)                          \
  int device_form(const void*, void*, void*, void*, void*);                            \
  int name(const void* handle, A* a, B* b, C* c, S* s) {                               \
    const LibraryObject* object = find(handle);                                        \
    if (object == nullptr) return kNotInitialized;                                     \
    if (object->device_pointers) return device_form(handle, a, b, c, s);               \
    if (a == nullptr || b == nullptr || c == nullptr || s == nullptr) return kInvalidValue; \
    compute(a, b, c, s);                                                               \
    return kOk;                                                                        \
  }
AVEC_ROTATION(cublasSrotg_v2, cublas_srotg_device, float, float, float, float, rotation)
AVEC_ROTATION(cublasDrotg_v2, cublas_drotg_device, double, double, double, double, rotation)
AVEC_ROTATION(cublasCrotg_v2, cublas_crotg_device, std::complex<float>, std::complex<float>, float, std::complex<float>, complex_rotation)
AVEC_ROTATION(cublasZrotg_v2, cublas_zrotg_device, std::complex<double>, std::complex<double>, double, std::complex<double>, complex_rotation)

#define AVEC_MODIFIED(name, device_form, T)                                            \
  int device_form(const void*, void*, void*, void*, void*, void*);                     \
  int name(const void* handle, T* d1, T* d2, T* x1, T* y1, T* param) {                 \
    const LibraryObject* object = find(handle);                                        \
    if (object == nullptr) return kNotInitialized;                                     \
    if (object->device_pointers) return device_form(handle, d1, d2, x1, y1, param);    \
    if (d1 == nullptr || d2 == nullptr || x1 == nullptr || y1 == nullptr || param == nullptr) return kInvalidValue; \
    modified_rotation(d1, d2, x1, y1, param);                                          \
    return kOk;                                                                        \
  }
AVEC_MODIFIED(cublasSrotmg_v2, cublas_srotmg_device, float)
AVEC_MODIFIED(cublasDrotmg_v2, cublas_drotmg_device, double)

}  // extern "C"
