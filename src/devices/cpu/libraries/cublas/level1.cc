// Level 1: vectors. Sums are kept in double (in long double for double), so their order matters little.
#include <cmath>

#include "devices/cpu/libraries/cublas/fortran.h"

namespace avec::cpu::blas {

using Number = std::int64_t;

AVEC_FORTRAN(rotg)
AVEC_REAL_FORTRAN(rotmg)

namespace {

template <class T>
using Sum = std::conditional_t<std::is_same_v<Real<T>, double>, long double, double>;

template <class T>
Sum<T> square(T value) {
  if constexpr (kComplex<T>) {
    const Sum<T> re = value.real(), im = value.imag();
    return re * re + im * im;
  } else {
    const Sum<T> wide = static_cast<Real<T>>(value);
    return wide * wide;
  }
}

/// |Re| + |Im|, as BLAS measures complex numbers.
template <class T>
Real<T> size(T value) {
  if constexpr (kComplex<T>) {
    return std::abs(value.real()) + std::abs(value.imag());
  } else {
    return std::abs(static_cast<Real<T>>(value));
  }
}

template <class T, class Result>
Status nrm2(Handle* handle, Number n, const T* x, Number incx, Result* result) {
  if (const auto bad = check(handle, result != nullptr)) return bad;
  return run_for_result(handle, [=] {
    Sum<T> sum = 0;
    if (incx > 0) {
      for (Number i = 0; i < n; ++i) sum += square(x[i * incx]);
    }
    *result = static_cast<Result>(static_cast<Real<T>>(std::sqrt(sum)));
  });
}

template <class T, class Result>
Status asum(Handle* handle, Number n, const T* x, Number incx, Result* result) {
  if (const auto bad = check(handle, result != nullptr)) return bad;
  return run_for_result(handle, [=] {
    Sum<T> sum = 0;
    if (incx > 0) {
      for (Number i = 0; i < n; ++i) sum += size(x[i * incx]);
    }
    *result = static_cast<Result>(static_cast<Real<T>>(sum));
  });
}

template <class T, bool conjugated>
Status dot(Handle* handle, Number n, const T* x, Number incx, const T* y, Number incy, T* result) {
  if (const auto bad = check(handle, result != nullptr)) return bad;
  return run_for_result(handle, [=] {
    const Vector<const T> u(x, n, incx), v(y, n, incy);
    if constexpr (kComplex<T>) {
      std::complex<Sum<T>> sum = 0;
      for (Number i = 0; i < n; ++i) {
        const std::complex<Sum<T>> a(u[i].real(), conjugated ? -u[i].imag() : u[i].imag()), b(v[i].real(), v[i].imag());
        sum += std::complex<Sum<T>>(a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real());
      }
      *result = T(static_cast<Real<T>>(sum.real()), static_cast<Real<T>>(sum.imag()));
    } else {
      Sum<T> sum = 0;
      for (Number i = 0; i < n; ++i) sum += Sum<T>(static_cast<Real<T>>(u[i])) * static_cast<Real<T>>(v[i]);
      *result = static_cast<T>(static_cast<Real<T>>(sum));
    }
  });
}
template <class T>
Status dotu(Handle* handle, Number n, const T* x, Number incx, const T* y, Number incy, T* result) {
  return dot<T, false>(handle, n, x, incx, y, incy, result);
}
template <class T>
Status dotc(Handle* handle, Number n, const T* x, Number incx, const T* y, Number incy, T* result) {
  return dot<T, true>(handle, n, x, incx, y, incy, result);
}

template <class T, class A>
Status scal(Handle* handle, Number n, const A* alpha, T* x, Number incx) {
  if (const auto bad = check(handle, alpha != nullptr)) return bad;
  if (n <= 0 || incx <= 0) return kOk;
  return run(handle, [=, alpha = Scalar(*handle, alpha)] {
    const A scale = alpha.get();
    for (Number i = 0; i < n; ++i) x[i * incx] = scale * static_cast<Compute<T>>(x[i * incx]);
  });
}

template <class T, class A>
Status axpy(Handle* handle, Number n, const A* alpha, const T* x, Number incx, T* y, Number incy) {
  if (const auto bad = check(handle, alpha != nullptr)) return bad;
  if (n <= 0) return kOk;
  return run(handle, [=, alpha = Scalar(*handle, alpha)] {
    const Vector<const T> u(x, n, incx);
    const Vector<T> v(y, n, incy);
    const auto scale = static_cast<Compute<T>>(alpha.get());
    for (Number i = 0; i < n; ++i) v[i] = scale * static_cast<Compute<T>>(u[i]) + static_cast<Compute<T>>(v[i]);
  });
}

template <class T>
Status copy(Handle* handle, Number n, const T* x, Number incx, T* y, Number incy) {
  if (const auto bad = check(handle, true)) return bad;
  if (n <= 0) return kOk;
  return run(handle, [=] {
    const Vector<const T> u(x, n, incx);
    const Vector<T> v(y, n, incy);
    for (Number i = 0; i < n; ++i) v[i] = u[i];
  });
}

template <class T>
Status swap(Handle* handle, Number n, T* x, Number incx, T* y, Number incy) {
  if (const auto bad = check(handle, true)) return bad;
  if (n <= 0) return kOk;
  return run(handle, [=] {
    const Vector<T> u(x, n, incx), v(y, n, incy);
    for (Number i = 0; i < n; ++i) std::swap(u[i], v[i]);
  });
}

/// The first of the largest or smallest, counted from 1; 0 where there is none.
template <class T, bool largest, class Index>
Status extreme(Handle* handle, Number n, const T* x, Number incx, Index* result) {
  if (const auto bad = check(handle, result != nullptr)) return bad;
  return run_for_result(handle, [=] {
    Number at = incx > 0 && n > 0 ? 1 : 0;
    for (Number i = 1; at > 0 && i < n; ++i) {
      const auto now = size(x[i * incx]), best = size(x[(at - 1) * incx]);
      if (largest ? now > best : now < best) at = i + 1;
    }
    *result = static_cast<Index>(at);
  });
}
template <class T, class Index>
Status amax(Handle* handle, Number n, const T* x, Number incx, Index* result) {
  return extreme<T, true>(handle, n, x, incx, result);
}
template <class T, class Index>
Status amin(Handle* handle, Number n, const T* x, Number incx, Index* result) {
  return extreme<T, false>(handle, n, x, incx, result);
}

template <class T, class S>
Status rot(Handle* handle, Number n, T* x, Number incx, T* y, Number incy, const Real<T>* c, const S* s) {
  if (const auto bad = check(handle, c != nullptr && s != nullptr)) return bad;
  if (n <= 0) return kOk;
  return run(handle, [=, cosine = Scalar(*handle, c), sine = Scalar(*handle, s)] {
    const Vector<T> u(x, n, incx), v(y, n, incy);
    const Real<T> by = cosine.get();
    const S turn = sine.get();
    for (Number i = 0; i < n; ++i) {
      const T old = u[i];
      u[i] = by * old + turn * v[i];
      v[i] = by * v[i] - conjugate(turn) * old;
    }
  });
}

template <class T>
Status rotm(Handle* handle, Number n, T* x, Number incx, T* y, Number incy, const T* param) {
  if (const auto bad = check(handle, param != nullptr)) return bad;
  if (n <= 0) return kOk;
  struct Five {
    T flag, h11, h21, h12, h22;
  };
  return run(handle, [=, five = Scalar(*handle, reinterpret_cast<const Five*>(param))] {
    Five h = five.get();
    if (h.flag == -2) return;
    if (h.flag == 0) h.h11 = h.h22 = 1;
    if (h.flag == 1) h.h12 = 1, h.h21 = -1;
    const Vector<T> u(x, n, incx), v(y, n, incy);
    for (Number i = 0; i < n; ++i) {
      const T old = u[i];
      u[i] = h.h11 * old + h.h12 * v[i];
      v[i] = h.h21 * old + h.h22 * v[i];
    }
  });
}

/// Work on numbers that all lie where the pointer mode says: on the host's it is done at once.
template <class Work>
Status on_scalars(Handle* handle, Work work) {
  if (handle->pointer_mode == 1) return run(handle, work);
  work();
  return kOk;
}

template <class T>
Status rotg(Handle* handle, T* a, T* b, Real<T>* c, T* s) {
  if (const auto bad = check(handle, a != nullptr && b != nullptr && c != nullptr && s != nullptr)) return bad;
  return on_scalars(handle, [=] { call(fortran_rotg<T>(), a, b, c, s); });
}

template <class T>
Status rotmg(Handle* handle, T* d1, T* d2, T* x1, const T* y1, T* param) {
  if (const auto bad = check(handle, d1 != nullptr && d2 != nullptr && x1 != nullptr && y1 != nullptr && param != nullptr)) {
    return bad;
  }
  return on_scalars(handle, [=] { call(fortran_rotmg<T>(), d1, d2, x1, y1, param); });
}

// ---- the Ex forms ------------------------------------------------------------------------

/// Calls `with(T{})` for the type that a number names.
template <class With>
Status with_type(int type, With with) {
  switch (type) {
    case kR32F:
      return with(float{});
    case kR64F:
      return with(double{});
    case kC32F:
      return with(Complex{});
    case kC64F:
      return with(DoubleComplex{});
    case kR16F:
      return with(Half{});
    case kR16BF:
      return with(Bfloat16{});
    default:
      return kNotSupported;
  }
}
/// The type of scalars for vectors of `type`: float for half precision.
int compute_type(int type) { return type == kR16F || type == kR16BF ? kR32F : type; }
/// The type of a complex type's parts.
int real_type(int type) { return type == kC32F ? kR32F : type == kC64F ? kR64F : type; }

Status nrm2_ex(Handle* handle, Number n, const void* x, int x_type, Number incx, void* result, int result_type, int) {
  if (result_type != real_type(x_type)) return handle == nullptr ? kNotInitialized : kNotSupported;
  return with_type(x_type, [&]<class T>(T) {
    using Result = std::conditional_t<kComplex<T>, Real<T>, T>;
    return nrm2(handle, n, static_cast<const T*>(x), incx, static_cast<Result*>(result));
  });
}

Status asum_ex(Handle* handle, Number n, const void* x, int x_type, Number incx, void* result, int result_type, int) {
  if (result_type != real_type(x_type)) return handle == nullptr ? kNotInitialized : kNotSupported;
  return with_type(x_type, [&]<class T>(T) {
    using Result = std::conditional_t<kComplex<T>, Real<T>, T>;
    return asum(handle, n, static_cast<const T*>(x), incx, static_cast<Result*>(result));
  });
}

template <bool conjugated>
Status dot_ex(Handle* handle, Number n, const void* x, int x_type, Number incx, const void* y, int y_type, Number incy,
              void* result, int result_type, int) {
  if (y_type != x_type || result_type != x_type) return handle == nullptr ? kNotInitialized : kNotSupported;
  return with_type(x_type, [&]<class T>(T) {
    return dot<T, conjugated>(handle, n, static_cast<const T*>(x), incx, static_cast<const T*>(y), incy,
                              static_cast<T*>(result));
  });
}

Status scal_ex(Handle* handle, Number n, const void* alpha, int alpha_type, void* x, int x_type, Number incx, int) {
  if (alpha_type != x_type && alpha_type != compute_type(x_type)) {
    return handle == nullptr ? kNotInitialized : kNotSupported;
  }
  return with_type(x_type, [&]<class T>(T) {
    return alpha_type == x_type ? scal(handle, n, static_cast<const T*>(alpha), static_cast<T*>(x), incx)
                                : scal(handle, n, static_cast<const Compute<T>*>(alpha), static_cast<T*>(x), incx);
  });
}

Status axpy_ex(Handle* handle, Number n, const void* alpha, int alpha_type, const void* x, int x_type, Number incx,
               void* y, int y_type, Number incy, int) {
  if (y_type != x_type || (alpha_type != x_type && alpha_type != compute_type(x_type))) {
    return handle == nullptr ? kNotInitialized : kNotSupported;
  }
  return with_type(x_type, [&]<class T>(T) {
    const auto* from = static_cast<const T*>(x);
    auto* to = static_cast<T*>(y);
    return alpha_type == x_type ? axpy(handle, n, static_cast<const T*>(alpha), from, incx, to, incy)
                                : axpy(handle, n, static_cast<const Compute<T>*>(alpha), from, incx, to, incy);
  });
}

Status copy_ex(Handle* handle, Number n, const void* x, int x_type, Number incx, void* y, int y_type, Number incy) {
  if (y_type != x_type) return handle == nullptr ? kNotInitialized : kNotSupported;
  return with_type(x_type, [&]<class T>(T) {
    return copy(handle, n, static_cast<const T*>(x), incx, static_cast<T*>(y), incy);
  });
}

Status swap_ex(Handle* handle, Number n, void* x, int x_type, Number incx, void* y, int y_type, Number incy) {
  if (y_type != x_type) return handle == nullptr ? kNotInitialized : kNotSupported;
  return with_type(x_type, [&]<class T>(T) {
    return swap(handle, n, static_cast<T*>(x), incx, static_cast<T*>(y), incy);
  });
}

template <bool largest, class Index>
Status find_ex(Handle* handle, Number n, const void* x, int x_type, Number incx, Index* result) {
  return with_type(x_type, [&]<class T>(T) {
    return extreme<T, largest>(handle, n, static_cast<const T*>(x), incx, result);
  });
}
template <bool largest>
Status extreme_ex(Handle* handle, Number n, const void* x, int x_type, Number incx, int* result) {
  return find_ex<largest>(handle, n, x, x_type, incx, result);
}
template <bool largest>
Status extreme_ex(Handle* handle, Number n, const void* x, int x_type, Number incx, Number* result) {
  return find_ex<largest>(handle, n, x, x_type, incx, result);
}

}  // namespace

#include "cublas_level1.inc"

}  // namespace avec::cpu::blas
