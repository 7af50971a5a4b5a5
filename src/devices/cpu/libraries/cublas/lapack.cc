// The batched factorisations, by LAPACK, one matrix after the other. `info` of those that
// factorise lies in device memory; of those that solve, it says in host memory which argument is wrong.
#include <algorithm>
#include <vector>

#include "devices/cpu/libraries/cublas/fortran.h"

namespace avec::cpu::blas {

AVEC_FORTRAN(getrf)
AVEC_FORTRAN(getrs)
AVEC_FORTRAN(geqr2)
AVEC_FORTRAN(gels)
AVEC_FORTRAN(trsm)

namespace {

using Number = std::int64_t;

/// LU without exchanging rows; the first zero on the diagonal, counted from 1, or 0.
template <class T>
int factorise_as_is(int n, T* a, Number lda) {
  int zero = 0;
  for (Number k = 0; k < n; ++k) {
    if (a[k * lda + k] == T{}) {
      if (zero == 0) zero = static_cast<int>(k) + 1;
      continue;
    }
    for (Number i = k + 1; i < n; ++i) a[k * lda + i] /= a[k * lda + k];
    for (Number j = k + 1; j < n; ++j) {
      for (Number i = k + 1; i < n; ++i) a[j * lda + i] -= a[k * lda + i] * a[j * lda + k];
    }
  }
  return zero;
}

template <class T>
int factorise(int n, T* a, int lda, int* pivots) {
  if (pivots == nullptr) return factorise_as_is(n, a, lda);
  int info = 0;
  call(fortran_getrf<T>(), n, n, a, lda, pivots, &info);
  return info;
}

/// B = op(A)^-1 B, A factorised.
template <class T>
void solve(int trans, int n, int columns, const T* a, int lda, const int* pivots, T* b, int ldb) {
  if (pivots != nullptr) {
    int info = 0;
    call(fortran_getrs<T>(), op_char(trans), n, columns, a, lda, pivots, b, ldb, &info, Length{});
    return;
  }
  const T one(1);
  const auto with = [&](char uplo, char diag) {
    call(fortran_trsm<T>(), 'L', uplo, op_char(trans), diag, n, columns, one, a, lda, b, ldb);
  };
  if (trans == 0) {
    with('L', 'U');
    with('U', 'N');
  } else {
    with('U', 'N');
    with('L', 'U');
  }
}

/// C = A^-1; the number of a zero on the diagonal, or 0.
template <class T>
int invert(int n, const T* a, int lda, const int* pivots, T* c, int ldc) {
  for (Number i = 0; i < n; ++i) {
    if (a[i * lda + i] == T{}) return static_cast<int>(i) + 1;
  }
  for (Number column = 0; column < n; ++column) {
    for (Number row = 0; row < n; ++row) c[column * ldc + row] = row == column ? T(1) : T{};
  }
  solve(0, n, n, a, lda, pivots, c, ldc);
  return 0;
}

template <class T>
Status getrf(Handle* handle, int n, T* const* a, int lda, int* pivots, int* info, int batches) {
  if (const auto bad = check(handle, n >= 0 && batches >= 0 && is_ld(lda, n))) return bad;
  return run(handle, [=] {
    for (Number i = 0; i < batches; ++i) info[i] = factorise(n, a[i], lda, pivots ? pivots + i * n : nullptr);
  });
}

/// The first argument that is wrong goes to `info`, negative, as LAPACK counts them.
Status check_counted(Handle* handle, int* info, std::initializer_list<std::pair<int, bool>> arguments) {
  if (const auto bad = check(handle, info != nullptr)) return bad;
  *info = 0;
  for (const auto& [number, right] : arguments) {
    if (right) continue;
    *info = -number;
    return kInvalidValue;
  }
  return kOk;
}

template <class T>
Status getrs(Handle* handle, int trans, int n, int columns, const T* const* a, int lda, const int* pivots, T* const* b,
             int ldb, int* info, int batches) {
  if (const auto bad = check_counted(handle, info, {{1, is_op(trans)}, {2, n >= 0}, {3, columns >= 0},
                                                    {5, is_ld(lda, n)}, {8, is_ld(ldb, n)}, {10, batches >= 0}})) {
    return bad;
  }
  if (n == 0 || columns == 0) return kOk;
  return run(handle, [=] {
    for (Number i = 0; i < batches; ++i) {
      solve(trans, n, columns, a[i], lda, pivots ? pivots + i * n : nullptr, b[i], ldb);
    }
  });
}

template <class T>
Status getri(Handle* handle, int n, const T* const* a, int lda, const int* pivots, T* const* c, int ldc, int* info,
             int batches) {
  if (const auto bad = check(handle, n >= 0 && batches >= 0 && is_ld(lda, n) && is_ld(ldc, n))) return bad;
  return run(handle, [=] {
    for (Number i = 0; i < batches; ++i) info[i] = invert(n, a[i], lda, pivots ? pivots + i * n : nullptr, c[i], ldc);
  });
}

/// getrf and getri in one, for at most 32 rows.
template <class T>
Status matinv(Handle* handle, int n, const T* const* a, int lda, T* const* inverse, int ldi, int* info, int batches) {
  if (const auto bad = check(handle, n >= 0 && n <= 32 && batches >= 0 && is_ld(lda, n) && is_ld(ldi, n))) return bad;
  return run(handle, [=] {
    std::vector<T> copy(static_cast<std::size_t>(n) * n);
    std::vector<int> pivots(n);
    for (Number i = 0; i < batches; ++i) {
      for (Number column = 0; column < n; ++column) std::copy_n(a[i] + column * lda, n, copy.data() + column * n);
      info[i] = factorise(n, copy.data(), std::max(n, 1), pivots.data());
      if (info[i] == 0) info[i] = invert(n, copy.data(), std::max(n, 1), pivots.data(), inverse[i], ldi);
    }
  });
}

template <class T>
Status geqrf(Handle* handle, int m, int n, T* const* a, int lda, T* const* tau, int* info, int batches) {
  if (const auto bad = check_counted(handle, info, {{1, m >= 0}, {2, n >= 0}, {4, is_ld(lda, m)}, {7, batches >= 0}})) {
    return bad;
  }
  if (m == 0 || n == 0) return kOk;
  return run(handle, [=] {
    std::vector<T> work(n);
    int ignored = 0;
    for (Number i = 0; i < batches; ++i) call(fortran_geqr2<T>(), m, n, a[i], lda, tau[i], work.data(), &ignored);
  });
}

template <class T>
Status gels(Handle* handle, int trans, int m, int n, int columns, T* const* a, int lda, T* const* c, int ldc, int* info,
            int* device_info, int batches) {
  if (const auto bad = check_counted(handle, info, {{1, is_op(trans)}, {2, m >= 0}, {3, n >= 0}, {4, columns >= 0},
                                                    {6, is_ld(lda, m)}, {8, is_ld(ldc, m)}, {11, batches >= 0}})) {
    return bad;
  }
  if (trans != 0 || m < n) return kNotSupported;  // as cuBLAS
  if (m == 0 || n == 0 || columns == 0) return kOk;
  return run(handle, [=] {
    const int words = n + std::max(n, columns) * 64;
    std::vector<T> work(words);
    for (Number i = 0; i < batches; ++i) {
      int singular = 0;
      call(fortran_gels<T>(), 'N', m, n, columns, a[i], lda, c[i], ldc, work.data(), words, &singular, Length{});
      if (device_info != nullptr) device_info[i] = std::max(singular, 0);
    }
  });
}

}  // namespace

#include "cublas_lapack.inc"

}  // namespace avec::cpu::blas
