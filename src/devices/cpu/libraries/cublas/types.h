// Types of cuBLAS's C interface, declared here (the numbers are NVIDIA's; cublas_api.h is not
// needed), and what every function of the library begins and ends with.
#pragma once

#include <bit>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "devices/cpu/libraries/stream_order.h"

namespace avec::cpu::blas {

enum Status : int {
  kOk = 0,
  kNotInitialized = 1,
  kAllocFailed = 3,
  kInvalidValue = 7,
  kArchMismatch = 8,
  kMappingError = 11,
  kExecutionFailed = 13,
  kInternalError = 14,
  kNotSupported = 15,
};

/// What a cublasHandle_t points to. As with NVIDIA's, one thread uses it at a time.
struct Handle {
  CUstream stream = nullptr;
  int pointer_mode = 0;  // 1: scalars and results lie in device memory
  int atomics = 0;
  int math = 0;
  int sm_target = 0;
  int emulation[5] = {};  // strategy, special values, mantissa control, most bits, offset
  int* mantissa_bits = nullptr;
};

using Complex = std::complex<float>;
using DoubleComplex = std::complex<double>;

/// IEEE binary16; arithmetic is done in float.
struct Half {
  std::uint16_t bits;
  Half() = default;
  Half(float value);  // rounds to nearest, ties to even
  operator float() const;
};

/// The upper half of a float.
struct Bfloat16 {
  std::uint16_t bits;
  Bfloat16() = default;
  Bfloat16(float value) {
    const auto word = std::bit_cast<std::uint32_t>(value);
    bits = value != value ? 0x7fff : static_cast<std::uint16_t>((word + 0x7fff + ((word >> 16) & 1)) >> 16);
  }
  operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

inline Half::Half(float value) {
  const auto word = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (word >> 16) & 0x8000, size = word & 0x7fffffff;
  std::uint32_t rest = 0;
  if (size > 0x7f800000) {
    rest = 0x7fff;
  } else if (size >= 0x47800000) {
    rest = 0x7c00;
  } else if (size < 0x38800000) {  // below 2^-14: the sum's last place is 2^-24
    rest = std::bit_cast<std::uint32_t>(std::bit_cast<float>(size) + 0.5F) - std::bit_cast<std::uint32_t>(0.5F);
  } else {
    rest = (size - 0x38000000 + 0xfff + ((size >> 13) & 1)) >> 13;
  }
  bits = static_cast<std::uint16_t>(sign | rest);
}

inline Half::operator float() const {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000) << 16, rest = bits & 0x7fff;
  float size;
  if (rest >= 0x7c00) {
    size = std::bit_cast<float>(0x7f800000 | (rest << 13));
  } else if (rest >= 0x400) {
    size = std::bit_cast<float>((rest << 13) + 0x38000000);
  } else {
    size = static_cast<float>(rest) * 0x1p-24F;
  }
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(size) | sign);
}

/// The real type of T, and the type that T is computed in.
template <class T>
struct Traits {
  using Real = T;
  using Compute = T;
  static constexpr bool kComplex = false;
};
template <class T>
struct Traits<std::complex<T>> {
  using Real = T;
  using Compute = std::complex<T>;
  static constexpr bool kComplex = true;
};
template <>
struct Traits<Half> {
  using Real = float;
  using Compute = float;
  static constexpr bool kComplex = false;
};
template <>
struct Traits<Bfloat16> : Traits<Half> {};
template <class T>
using Real = typename Traits<T>::Real;
template <class T>
using Compute = typename Traits<T>::Compute;
template <class T>
inline constexpr bool kComplex = Traits<T>::kComplex;

/// cudaDataType, as far as it is known here.
enum DataType : int {
  kR32F = 0,
  kR64F = 1,
  kR16F = 2,
  kR8I = 3,
  kC32F = 4,
  kC64F = 5,
  kR32I = 10,
  kR16BF = 14,
};

template <class T>
T conjugate(T value) {
  if constexpr (kComplex<T>) {
    return std::conj(value);
  } else {
    return value;
  }
}

// ---- arguments ---------------------------------------------------------------------------

inline bool is_op(int op) { return op >= 0 && op <= 2; }
inline bool is_uplo(int uplo) { return uplo == 0 || uplo == 1; }
inline bool is_side(int side) { return side == 0 || side == 1; }
inline bool is_diag(int diag) { return diag == 0 || diag == 1; }
inline char op_char(int op) { return "NTC"[op]; }
inline char uplo_char(int uplo) { return "LU"[uplo]; }
inline char side_char(int side) { return "LR"[side]; }
inline char diag_char(int diag) { return "NU"[diag]; }
/// A leading dimension of `rows` rows.
inline bool is_ld(std::int64_t ld, std::int64_t rows) { return ld >= (rows > 1 ? rows : 1); }

/// Whether OpenBLAS, whose numbers are 32 bits here, can take all of them.
template <class... Numbers>
bool fits(Numbers... numbers) {
  return ((numbers <= std::numeric_limits<int>::max() && numbers >= -std::numeric_limits<int>::max()) && ...);
}

inline Status check(const Handle* handle, bool valid) {
  return handle == nullptr ? kNotInitialized : valid ? kOk : kInvalidValue;
}

/// alpha, beta and the like: the value of now, or in device pointer mode that of when the work runs.
template <class T>
class Scalar {
 public:
  Scalar(const Handle& handle, const T* pointer)
      : at_(handle.pointer_mode == 1 ? pointer : nullptr), value_(at_ ? T{} : *pointer) {}
  [[nodiscard]] T get() const { return at_ ? *at_ : value_; }

 private:
  const T* at_;
  T value_;
};
template <class T>
Scalar(const Handle&, const T*) -> Scalar<T>;

// ---- work --------------------------------------------------------------------------------

inline Status status_of(CUresult result) {
  return result == CUDA_SUCCESS             ? kOk
         : result == CUDA_ERROR_OUT_OF_MEMORY ? kAllocFailed
                                              : kExecutionFailed;
}

/// Runs in the order of the handle's stream.
template <class Work>
Status run(const Handle* handle, Work work) {
  return status_of(cpu_libraries::in_stream_order(handle->stream, std::move(work)));
}

/// The same for work that writes a result where the pointer mode says; waits if that is the host's.
template <class Work>
Status run_for_result(const Handle* handle, Work work) {
  return status_of(handle->pointer_mode == 1
                       ? cpu_libraries::in_stream_order(handle->stream, std::move(work))
                       : cpu_libraries::in_stream_order_and_wait(handle->stream, std::move(work)));
}

/// A vector as BLAS has it: with a negative increment it begins at its end.
template <class T>
struct Vector {
  T* begin;
  std::int64_t increment;
  Vector(T* x, std::int64_t n, std::int64_t inc) : begin(inc < 0 ? x - (n - 1) * inc : x), increment(inc) {}
  T& operator[](std::int64_t i) const { return begin[i * increment]; }
};

}  // namespace avec::cpu::blas
