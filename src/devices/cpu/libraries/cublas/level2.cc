// Level 2: matrix and vector. Checked here, done by OpenBLAS.
#include "devices/cpu/libraries/cublas/fortran.h"

namespace avec::cpu::blas {

using Number = std::int64_t;

AVEC_FORTRAN(gemv)
AVEC_FORTRAN(gbmv)
AVEC_FORTRAN(trmv)
AVEC_FORTRAN(trsv)
AVEC_FORTRAN(tbmv)
AVEC_FORTRAN(tbsv)
AVEC_FORTRAN(tpmv)
AVEC_FORTRAN(tpsv)
AVEC_FORTRAN(symv)
AVEC_FORTRAN(syr)
AVEC_COMPLEX_FORTRAN(hemv)
AVEC_COMPLEX_FORTRAN(hbmv)
AVEC_COMPLEX_FORTRAN(hpmv)
AVEC_COMPLEX_FORTRAN(geru)
AVEC_COMPLEX_FORTRAN(gerc)
AVEC_COMPLEX_FORTRAN(her)
AVEC_COMPLEX_FORTRAN(hpr)
AVEC_COMPLEX_FORTRAN(her2)
AVEC_COMPLEX_FORTRAN(hpr2)
AVEC_REAL_FORTRAN(sbmv)
AVEC_REAL_FORTRAN(spmv)
AVEC_REAL_FORTRAN(ger)
AVEC_REAL_FORTRAN(spr)
AVEC_REAL_FORTRAN(syr2)
AVEC_REAL_FORTRAN(spr2)

namespace {

template <class T>
Status gemv(Handle* handle, int trans, Number m, Number n, const T* alpha, const T* a, Number lda, const T* x,
            Number incx, const T* beta, T* y, Number incy) {
  if (const auto bad = check(handle, is_op(trans) && m >= 0 && n >= 0 && is_ld(lda, m) && incx != 0 && incy != 0 &&
                                         alpha != nullptr && beta != nullptr)) {
    return bad;
  }
  if (m == 0 || n == 0) return kOk;
  if (!fits(m, n, lda, incx, incy)) return kNotSupported;
  return run(handle, [=, alpha = Scalar(*handle, alpha), beta = Scalar(*handle, beta)] {
    call(fortran_gemv<T>(), op_char(trans), m, n, alpha.get(), a, lda, x, incx, beta.get(), y, incy);
  });
}

template <class T>
Status gbmv(Handle* handle, int trans, Number m, Number n, Number kl, Number ku, const T* alpha, const T* a,
            Number lda, const T* x, Number incx, const T* beta, T* y, Number incy) {
  if (const auto bad = check(handle, is_op(trans) && m >= 0 && n >= 0 && kl >= 0 && ku >= 0 && lda >= kl + ku + 1 &&
                                         incx != 0 && incy != 0 && alpha != nullptr && beta != nullptr)) {
    return bad;
  }
  if (m == 0 || n == 0) return kOk;
  if (!fits(m, n, kl, ku, lda, incx, incy)) return kNotSupported;
  return run(handle, [=, alpha = Scalar(*handle, alpha), beta = Scalar(*handle, beta)] {
    call(fortran_gbmv<T>(), op_char(trans), m, n, kl, ku, alpha.get(), a, lda, x, incx, beta.get(), y, incy);
  });
}

// x = op(A) x and the solution of op(A) x = b, with A triangular: full, a band of k, packed.
template <class T>
Status triangular(Handle* handle, Symbol symbol, int uplo, int trans, int diag, Number n, const T* a, Number lda,
                  T* x, Number incx) {
  if (const auto bad = check(handle, is_uplo(uplo) && is_op(trans) && is_diag(diag) && n >= 0 && is_ld(lda, n) &&
                                         incx != 0)) {
    return bad;
  }
  if (n == 0) return kOk;
  if (!fits(n, lda, incx)) return kNotSupported;
  return run(handle, [=] {
    call(symbol, uplo_char(uplo), op_char(trans), diag_char(diag), n, a, lda, x, incx);
  });
}

template <class T>
Status triangular_band(Handle* handle, Symbol symbol, int uplo, int trans, int diag, Number n, Number k, const T* a,
                       Number lda, T* x, Number incx) {
  if (const auto bad = check(handle, is_uplo(uplo) && is_op(trans) && is_diag(diag) && n >= 0 && k >= 0 &&
                                         lda >= k + 1 && incx != 0)) {
    return bad;
  }
  if (n == 0) return kOk;
  if (!fits(n, k, lda, incx)) return kNotSupported;
  return run(handle, [=] {
    call(symbol, uplo_char(uplo), op_char(trans), diag_char(diag), n, k, a, lda, x, incx);
  });
}

template <class T>
Status triangular_packed(Handle* handle, Symbol symbol, int uplo, int trans, int diag, Number n, const T* a, T* x,
                         Number incx) {
  if (const auto bad = check(handle, is_uplo(uplo) && is_op(trans) && is_diag(diag) && n >= 0 && incx != 0)) return bad;
  if (n == 0) return kOk;
  if (!fits(n, incx)) return kNotSupported;
  return run(handle, [=] { call(symbol, uplo_char(uplo), op_char(trans), diag_char(diag), n, a, x, incx); });
}

#define AVEC_TRIANGULAR(name, kind)                                       \
  template <class T, class... Rest>                                       \
  Status name(Handle* handle, int uplo, int trans, int diag, Rest... rest) { \
    return kind<T>(handle, fortran_##name<T>(), uplo, trans, diag, rest...); \
  }
AVEC_TRIANGULAR(trmv, triangular)
AVEC_TRIANGULAR(trsv, triangular)
AVEC_TRIANGULAR(tbmv, triangular_band)
AVEC_TRIANGULAR(tbsv, triangular_band)
AVEC_TRIANGULAR(tpmv, triangular_packed)
AVEC_TRIANGULAR(tpsv, triangular_packed)

// y = alpha A x + beta y, A symmetric or Hermitian: full, a band of k, packed.
template <class T>
Status symmetric(Handle* handle, Symbol symbol, int uplo, Number n, const T* alpha, const T* a, Number lda,
                 const T* x, Number incx, const T* beta, T* y, Number incy) {
  if (const auto bad = check(handle, is_uplo(uplo) && n >= 0 && is_ld(lda, n) && incx != 0 && incy != 0 &&
                                         alpha != nullptr && beta != nullptr)) {
    return bad;
  }
  if (n == 0) return kOk;
  if (!fits(n, lda, incx, incy)) return kNotSupported;
  return run(handle, [=, alpha = Scalar(*handle, alpha), beta = Scalar(*handle, beta)] {
    call(symbol, uplo_char(uplo), n, alpha.get(), a, lda, x, incx, beta.get(), y, incy);
  });
}

template <class T>
Status symmetric_band(Handle* handle, Symbol symbol, int uplo, Number n, Number k, const T* alpha, const T* a,
                      Number lda, const T* x, Number incx, const T* beta, T* y, Number incy) {
  if (const auto bad = check(handle, is_uplo(uplo) && n >= 0 && k >= 0 && lda >= k + 1 && incx != 0 && incy != 0 &&
                                         alpha != nullptr && beta != nullptr)) {
    return bad;
  }
  if (n == 0) return kOk;
  if (!fits(n, k, lda, incx, incy)) return kNotSupported;
  return run(handle, [=, alpha = Scalar(*handle, alpha), beta = Scalar(*handle, beta)] {
    call(symbol, uplo_char(uplo), n, k, alpha.get(), a, lda, x, incx, beta.get(), y, incy);
  });
}

template <class T>
Status symmetric_packed(Handle* handle, Symbol symbol, int uplo, Number n, const T* alpha, const T* a, const T* x,
                        Number incx, const T* beta, T* y, Number incy) {
  if (const auto bad = check(handle, is_uplo(uplo) && n >= 0 && incx != 0 && incy != 0 && alpha != nullptr &&
                                         beta != nullptr)) {
    return bad;
  }
  if (n == 0) return kOk;
  if (!fits(n, incx, incy)) return kNotSupported;
  return run(handle, [=, alpha = Scalar(*handle, alpha), beta = Scalar(*handle, beta)] {
    call(symbol, uplo_char(uplo), n, alpha.get(), a, x, incx, beta.get(), y, incy);
  });
}

// A += alpha x y', general.
template <class T>
Status outer(Handle* handle, Symbol symbol, Number m, Number n, const T* alpha, const T* x, Number incx, const T* y,
             Number incy, T* a, Number lda) {
  if (const auto bad = check(handle, m >= 0 && n >= 0 && incx != 0 && incy != 0 && is_ld(lda, m) && alpha != nullptr)) {
    return bad;
  }
  if (m == 0 || n == 0) return kOk;
  if (!fits(m, n, incx, incy, lda)) return kNotSupported;
  return run(handle, [=, alpha = Scalar(*handle, alpha)] {
    call(symbol, m, n, alpha.get(), x, incx, y, incy, a, lda);
  });
}

// One triangle of A += alpha x x', full or packed; alpha is real for Hermitian ones.
template <class T, class A>
Status rank1(Handle* handle, Symbol symbol, int uplo, Number n, const A* alpha, const T* x, Number incx, T* a,
             Number lda) {
  if (const auto bad = check(handle, is_uplo(uplo) && n >= 0 && incx != 0 && is_ld(lda, n) && alpha != nullptr)) {
    return bad;
  }
  if (n == 0) return kOk;
  if (!fits(n, incx, lda)) return kNotSupported;
  return run(handle, [=, alpha = Scalar(*handle, alpha)] {
    call(symbol, uplo_char(uplo), n, alpha.get(), x, incx, a, lda);
  });
}

template <class T, class A>
Status rank1_packed(Handle* handle, Symbol symbol, int uplo, Number n, const A* alpha, const T* x, Number incx,
                    T* a) {
  if (const auto bad = check(handle, is_uplo(uplo) && n >= 0 && incx != 0 && alpha != nullptr)) return bad;
  if (n == 0) return kOk;
  if (!fits(n, incx)) return kNotSupported;
  return run(handle, [=, alpha = Scalar(*handle, alpha)] {
    call(symbol, uplo_char(uplo), n, alpha.get(), x, incx, a);
  });
}

// One triangle of A += alpha x y' + alpha y x'.
template <class T>
Status rank2(Handle* handle, Symbol symbol, int uplo, Number n, const T* alpha, const T* x, Number incx, const T* y,
             Number incy, T* a, Number lda) {
  if (const auto bad = check(handle, is_uplo(uplo) && n >= 0 && incx != 0 && incy != 0 && is_ld(lda, n) &&
                                         alpha != nullptr)) {
    return bad;
  }
  if (n == 0) return kOk;
  if (!fits(n, incx, incy, lda)) return kNotSupported;
  return run(handle, [=, alpha = Scalar(*handle, alpha)] {
    call(symbol, uplo_char(uplo), n, alpha.get(), x, incx, y, incy, a, lda);
  });
}

template <class T>
Status rank2_packed(Handle* handle, Symbol symbol, int uplo, Number n, const T* alpha, const T* x, Number incx,
                    const T* y, Number incy, T* a) {
  if (const auto bad = check(handle, is_uplo(uplo) && n >= 0 && incx != 0 && incy != 0 && alpha != nullptr)) return bad;
  if (n == 0) return kOk;
  if (!fits(n, incx, incy)) return kNotSupported;
  return run(handle, [=, alpha = Scalar(*handle, alpha)] {
    call(symbol, uplo_char(uplo), n, alpha.get(), x, incx, y, incy, a);
  });
}

#define AVEC_LEVEL2(name, kind)                           \
  template <class T, class... Rest>                       \
  Status name(Handle* handle, Rest... rest) {             \
    return kind<T>(handle, fortran_##name<T>(), rest...); \
  }
AVEC_LEVEL2(symv, symmetric)
AVEC_LEVEL2(hemv, symmetric)
AVEC_LEVEL2(sbmv, symmetric_band)
AVEC_LEVEL2(hbmv, symmetric_band)
AVEC_LEVEL2(spmv, symmetric_packed)
AVEC_LEVEL2(hpmv, symmetric_packed)
AVEC_LEVEL2(ger, outer)
AVEC_LEVEL2(geru, outer)
AVEC_LEVEL2(gerc, outer)
AVEC_LEVEL2(syr, rank1)
AVEC_LEVEL2(her, rank1)
AVEC_LEVEL2(spr, rank1_packed)
AVEC_LEVEL2(hpr, rank1_packed)
AVEC_LEVEL2(her2, rank2)
AVEC_LEVEL2(spr2, rank2_packed)
AVEC_LEVEL2(hpr2, rank2_packed)

// Neither BLAS nor LAPACK has it for complex numbers.
template <class T>
Status syr2(Handle* handle, int uplo, Number n, const T* alpha, const T* x, Number incx, const T* y, Number incy,
            T* a, Number lda) {
  if constexpr (!kComplex<T>) {
    return rank2<T>(handle, fortran_syr2<T>(), uplo, n, alpha, x, incx, y, incy, a, lda);
  } else {
    if (const auto bad = check(handle, is_uplo(uplo) && n >= 0 && incx != 0 && incy != 0 && is_ld(lda, n) &&
                                           alpha != nullptr)) {
      return bad;
    }
    if (n == 0) return kOk;
    return run(handle, [=, alpha = Scalar(*handle, alpha)] {
      const Vector<const T> u(x, n, incx), v(y, n, incy);
      const T scale = alpha.get();
      for (Number column = 0; column < n; ++column) {
        for (Number row = uplo == 0 ? column : 0; row < (uplo == 0 ? n : column + 1); ++row) {
          a[column * lda + row] += scale * (u[row] * v[column] + v[row] * u[column]);
        }
      }
    });
  }
}

}  // namespace

#include "cublas_level2.inc"

}  // namespace avec::cpu::blas
