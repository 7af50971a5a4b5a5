// Level 3 without gemm, and cuBLAS's own geam, dgmm and conversions of triangles.
#include <vector>

#include "devices/cpu/libraries/cublas/fortran.h"

namespace avec::cpu::blas {

using Number = std::int64_t;

AVEC_FORTRAN(gemm)
AVEC_FORTRAN(symm)
AVEC_FORTRAN(syrk)
AVEC_FORTRAN(syr2k)
AVEC_FORTRAN(trmm)
AVEC_FORTRAN(trsm)
AVEC_COMPLEX_FORTRAN(hemm)
AVEC_COMPLEX_FORTRAN(herk)
AVEC_COMPLEX_FORTRAN(her2k)

namespace {

template <class T>
Status symmetric(Handle* handle, Symbol symbol, int side, int uplo, Number m, Number n, const T* alpha, const T* a,
                 Number lda, const T* b, Number ldb, const T* beta, T* c, Number ldc) {
  if (const auto bad = check(handle, is_side(side) && is_uplo(uplo) && m >= 0 && n >= 0 &&
                                         is_ld(lda, side == 0 ? m : n) && is_ld(ldb, m) && is_ld(ldc, m) &&
                                         alpha != nullptr && beta != nullptr)) {
    return bad;
  }
  if (m == 0 || n == 0) return kOk;
  if (!fits(m, n, lda, ldb, ldc)) return kNotSupported;
  return run(handle, [=, alpha = Scalar(*handle, alpha), beta = Scalar(*handle, beta)] {
    call(symbol, side_char(side), uplo_char(uplo), m, n, alpha.get(), a, lda, b, ldb, beta.get(), c, ldc);
  });
}
template <class T, class... Rest>
Status symm(Handle* handle, Rest... rest) {
  return symmetric<T>(handle, fortran_symm<T>(), rest...);
}
template <class T, class... Rest>
Status hemm(Handle* handle, Rest... rest) {
  return symmetric<T>(handle, fortran_hemm<T>(), rest...);
}

/// Symmetric products know the transpose, Hermitian ones the adjoint; for real numbers they are one.
template <class T>
bool is_rank_op(int trans, bool hermitian) {
  return trans == 0 || trans == (hermitian ? 2 : 1) || (trans == 2 && !kComplex<T>);
}

template <class T, class S>
Status rank_k(Handle* handle, Symbol symbol, bool hermitian, int uplo, int trans, Number n, Number k, const S* alpha,
              const T* a, Number lda, const S* beta, T* c, Number ldc) {
  if (const auto bad = check(handle, is_uplo(uplo) && is_rank_op<T>(trans, hermitian) && n >= 0 && k >= 0 &&
                                         is_ld(lda, trans == 0 ? n : k) && is_ld(ldc, n) && alpha != nullptr &&
                                         beta != nullptr)) {
    return bad;
  }
  if (n == 0) return kOk;
  if (!fits(n, k, lda, ldc)) return kNotSupported;
  return run(handle, [=, alpha = Scalar(*handle, alpha), beta = Scalar(*handle, beta)] {
    call(symbol, uplo_char(uplo), op_char(trans), n, k, alpha.get(), a, lda, beta.get(), c, ldc);
  });
}
template <class T, class... Rest>
Status syrk(Handle* handle, Rest... rest) {
  return rank_k<T>(handle, fortran_syrk<T>(), false, rest...);
}
template <class T, class... Rest>
Status herk(Handle* handle, Rest... rest) {
  return rank_k<T>(handle, fortran_herk<T>(), true, rest...);
}

template <class T, class S>
Status rank_2k(Handle* handle, Symbol symbol, bool hermitian, int uplo, int trans, Number n, Number k, const T* alpha,
               const T* a, Number lda, const T* b, Number ldb, const S* beta, T* c, Number ldc) {
  if (const auto bad = check(handle, is_uplo(uplo) && is_rank_op<T>(trans, hermitian) && n >= 0 && k >= 0 &&
                                         is_ld(lda, trans == 0 ? n : k) && is_ld(ldb, trans == 0 ? n : k) &&
                                         is_ld(ldc, n) && alpha != nullptr && beta != nullptr)) {
    return bad;
  }
  if (n == 0) return kOk;
  if (!fits(n, k, lda, ldb, ldc)) return kNotSupported;
  return run(handle, [=, alpha = Scalar(*handle, alpha), beta = Scalar(*handle, beta)] {
    call(symbol, uplo_char(uplo), op_char(trans), n, k, alpha.get(), a, lda, b, ldb, beta.get(), c, ldc);
  });
}
template <class T, class... Rest>
Status syr2k(Handle* handle, Rest... rest) {
  return rank_2k<T>(handle, fortran_syr2k<T>(), false, rest...);
}
template <class T, class... Rest>
Status her2k(Handle* handle, Rest... rest) {
  return rank_2k<T>(handle, fortran_her2k<T>(), true, rest...);
}

/// One triangle of alpha op(A) op(B)' + beta C: the caller knows that the product is symmetric.
template <class T, class S>
Status rank_kx(Handle* handle, bool hermitian, int uplo, int trans, Number n, Number k, const T* alpha, const T* a,
               Number lda, const T* b, Number ldb, const S* beta, T* c, Number ldc) {
  if (const auto bad = check(handle, is_uplo(uplo) && is_rank_op<T>(trans, hermitian) && n >= 0 && k >= 0 &&
                                         is_ld(lda, trans == 0 ? n : k) && is_ld(ldb, trans == 0 ? n : k) &&
                                         is_ld(ldc, n) && alpha != nullptr && beta != nullptr)) {
    return bad;
  }
  if (n == 0) return kOk;
  if (!fits(n, k, lda, ldb, ldc)) return kNotSupported;
  return run(handle, [=, alpha = Scalar(*handle, alpha), beta = Scalar(*handle, beta)] {
    std::vector<T> product(static_cast<std::size_t>(n * n));
    const char turned = hermitian ? 'C' : 'T';
    call(fortran_gemm<T>(), trans == 0 ? 'N' : turned, trans == 0 ? turned : 'N', n, n, k, alpha.get(), a, lda, b, ldb,
         T{}, product.data(), n);
    const S keep = beta.get();
    for (Number column = 0; column < n; ++column) {
      for (Number row = uplo == 0 ? column : 0; row < (uplo == 0 ? n : column + 1); ++row) {
        T& at = c[column * ldc + row];
        at = keep == S{} ? product[column * n + row] : product[column * n + row] + keep * at;
        if constexpr (kComplex<T>) {
          if (hermitian && row == column) at.imag(0);
        }
      }
    }
  });
}
template <class T, class... Rest>
Status syrkx(Handle* handle, Rest... rest) {
  return rank_kx<T>(handle, false, rest...);
}
template <class T, class... Rest>
Status herkx(Handle* handle, Rest... rest) {
  return rank_kx<T>(handle, true, rest...);
}

/// What trmm and trsm share.
Status check_triangular(const Handle* handle, int side, int uplo, int trans, int diag, Number m, Number n,
                        const void* alpha, Number lda, Number ldb) {
  if (const auto bad = check(handle, is_side(side) && is_uplo(uplo) && is_op(trans) && is_diag(diag) && m >= 0 &&
                                         n >= 0 && is_ld(lda, side == 0 ? m : n) && is_ld(ldb, m) && alpha != nullptr)) {
    return bad;
  }
  return fits(m, n, lda, ldb) ? kOk : kNotSupported;
}

/// cuBLAS's writes the product beside B, or over it when C is B.
template <class T>
Status trmm(Handle* handle, int side, int uplo, int trans, int diag, Number m, Number n, const T* alpha, const T* a,
            Number lda, const T* b, Number ldb, T* c, Number ldc) {
  if (const auto bad = check_triangular(handle, side, uplo, trans, diag, m, n, alpha, lda, ldb)) return bad;
  if (!is_ld(ldc, m) || !fits(ldc) || (b == c && ldb != ldc)) return kInvalidValue;
  if (m == 0 || n == 0) return kOk;
  return run(handle, [=, alpha = Scalar(*handle, alpha)] {
    for (Number column = 0; b != c && column < n; ++column) {
      for (Number row = 0; row < m; ++row) c[column * ldc + row] = b[column * ldb + row];
    }
    call(fortran_trmm<T>(), side_char(side), uplo_char(uplo), op_char(trans), diag_char(diag), m, n, alpha.get(), a,
         lda, c, ldc);
  });
}

template <class T>
Status trsm(Handle* handle, int side, int uplo, int trans, int diag, Number m, Number n, const T* alpha, const T* a,
            Number lda, T* b, Number ldb) {
  if (const auto bad = check_triangular(handle, side, uplo, trans, diag, m, n, alpha, lda, ldb)) return bad;
  if (m == 0 || n == 0) return kOk;
  return run(handle, [=, alpha = Scalar(*handle, alpha)] {
    call(fortran_trsm<T>(), side_char(side), uplo_char(uplo), op_char(trans), diag_char(diag), m, n, alpha.get(), a,
         lda, b, ldb);
  });
}

template <class T>
Status trsm_batched(Handle* handle, int side, int uplo, int trans, int diag, Number m, Number n, const T* alpha,
                    const T* const* a, Number lda, T* const* b, Number ldb, Number batches) {
  if (const auto bad = check_triangular(handle, side, uplo, trans, diag, m, n, alpha, lda, ldb)) return bad;
  if (batches < 0) return kInvalidValue;
  if (m == 0 || n == 0 || batches == 0) return kOk;
  return run(handle, [=, alpha = Scalar(*handle, alpha)] {
    for (Number i = 0; i < batches; ++i) {
      call(fortran_trsm<T>(), side_char(side), uplo_char(uplo), op_char(trans), diag_char(diag), m, n, alpha.get(),
           a[i], lda, b[i], ldb);
    }
  });
}

template <class T>
T element(const T* a, Number lda, int op, Number row, Number column) {
  if (op == 0) return a[column * lda + row];
  return op == 2 ? conjugate(a[row * lda + column]) : a[row * lda + column];
}

/// C = alpha op(A) + beta op(B), elementwise; what is multiplied by zero is not read.
template <class T>
Status geam(Handle* handle, int transa, int transb, Number m, Number n, const T* alpha, const T* a, Number lda,
            const T* beta, const T* b, Number ldb, T* c, Number ldc) {
  if (const auto bad = check(handle, is_op(transa) && is_op(transb) && m >= 0 && n >= 0 &&
                                         is_ld(lda, transa == 0 ? m : n) && is_ld(ldb, transb == 0 ? m : n) &&
                                         is_ld(ldc, m) && alpha != nullptr && beta != nullptr &&
                                         (c != a || (transa == 0 && lda == ldc)) && (c != b || (transb == 0 && ldb == ldc)))) {
    return bad;
  }
  if (m == 0 || n == 0) return kOk;
  return run(handle, [=, alpha = Scalar(*handle, alpha), beta = Scalar(*handle, beta)] {
    const T by_a = alpha.get(), by_b = beta.get();
    for (Number column = 0; column < n; ++column) {
      for (Number row = 0; row < m; ++row) {
        T sum{};
        if (by_a != T{}) sum = by_a * element(a, lda, transa, row, column);
        if (by_b != T{}) sum += by_b * element(b, ldb, transb, row, column);
        c[column * ldc + row] = sum;
      }
    }
  });
}

/// C = diag(x) A (left) or A diag(x) (right).
template <class T>
Status dgmm(Handle* handle, int side, Number m, Number n, const T* a, Number lda, const T* x, Number incx, T* c,
            Number ldc) {
  if (const auto bad = check(handle, is_side(side) && m >= 0 && n >= 0 && is_ld(lda, m) && is_ld(ldc, m))) return bad;
  if (m == 0 || n == 0) return kOk;
  return run(handle, [=] {
    const Vector<const T> scale(x, side == 0 ? m : n, incx);
    for (Number column = 0; column < n; ++column) {
      for (Number row = 0; row < m; ++row) {
        c[column * ldc + row] = a[column * lda + row] * scale[side == 0 ? row : column];
      }
    }
  });
}

/// Calls `at(packed index, row, column)` for a triangle's elements in packed order.
template <class At>
void each_packed(int uplo, Number n, At at) {
  Number packed = 0;
  for (Number column = 0; column < n; ++column) {
    for (Number row = uplo == 0 ? column : 0; row < (uplo == 0 ? n : column + 1); ++row) at(packed++, row, column);
  }
}

template <class T>
Status tpttr(Handle* handle, int uplo, Number n, const T* packed, T* a, Number lda) {
  if (const auto bad = check(handle, is_uplo(uplo) && n >= 0 && is_ld(lda, n))) return bad;
  return run(handle, [=] {
    each_packed(uplo, n, [=](Number i, Number row, Number column) { a[column * lda + row] = packed[i]; });
  });
}

template <class T>
Status trttp(Handle* handle, int uplo, Number n, const T* a, Number lda, T* packed) {
  if (const auto bad = check(handle, is_uplo(uplo) && n >= 0 && is_ld(lda, n))) return bad;
  return run(handle, [=] {
    each_packed(uplo, n, [=](Number i, Number row, Number column) { packed[i] = a[column * lda + row]; });
  });
}

}  // namespace

#include "cublas_level3.inc"

}  // namespace avec::cpu::blas
