// Products of matrices in all their forms: single, batched, strided, grouped, of mixed types.
//
// All become one Product, computed in float, double or their complex types by OpenBLAS. Matrices
// of another type (half precision, 8-bit) are converted for the product and back.
#include <vector>

#include "devices/cpu/libraries/cublas/fortran.h"

namespace avec::cpu::blas {

using Number = std::int64_t;

AVEC_FORTRAN(gemm)

namespace {

/// A matrix of a batch: at `at` + i * stride elements, or where `list` says, read when the work runs.
struct Operand {
  const void* at = nullptr;
  const void* const* list = nullptr;
  int type = 0;
  Number ld = 0;
  Number stride = 0;
};

std::size_t bytes_of(int type) {
  switch (type) {
    case kR8I:
      return 1;
    case kR16F:
    case kR16BF:
      return 2;
    case kR64F:
    case kC32F:
      return 8;
    case kC64F:
      return 16;
    default:
      return 4;
  }
}

void* address(const Operand& operand, Number i) {
  if (operand.list != nullptr) return const_cast<void*>(operand.list[i]);
  return const_cast<char*>(static_cast<const char*>(operand.at) +
                           static_cast<std::ptrdiff_t>(bytes_of(operand.type)) * operand.stride * i);
}

template <class T>
inline constexpr int kTypeOf = std::is_same_v<T, float>     ? kR32F
                               : std::is_same_v<T, double>  ? kR64F
                               : std::is_same_v<T, Complex> ? kC32F
                               : std::is_same_v<T, Half>    ? kR16F
                               : std::is_same_v<T, Bfloat16> ? kR16BF
                                                             : kC64F;

template <class C, class S>
void load_as(const S* from, Number rows, Number columns, Number ld, C* to) {
  for (Number column = 0; column < columns; ++column) {
    for (Number row = 0; row < rows; ++row) to[column * rows + row] = static_cast<C>(from[column * ld + row]);
  }
}
template <class C, class S>
void store_as(const C* from, Number rows, Number columns, S* to, Number ld) {
  for (Number column = 0; column < columns; ++column) {
    for (Number row = 0; row < rows; ++row) to[column * ld + row] = static_cast<S>(from[column * rows + row]);
  }
}

/// Whether matrices of `type` can be computed with in C.
template <class C>
bool converts(int type) {
  if (type == kTypeOf<C>) return true;
  if constexpr (std::is_same_v<C, float>) return type == kR16F || type == kR16BF || type == kR8I;
  if constexpr (std::is_same_v<C, double>) return type == kR8I || type == kR32I;
  return false;
}

template <class C>
std::vector<C> load(const void* from, int type, Number rows, Number columns, Number ld) {
  std::vector<C> to(static_cast<std::size_t>(rows * columns));
  if constexpr (!kComplex<C>) {
    switch (type) {
      case kR16F:
        load_as(static_cast<const Half*>(from), rows, columns, ld, to.data());
        break;
      case kR16BF:
        load_as(static_cast<const Bfloat16*>(from), rows, columns, ld, to.data());
        break;
      case kR8I:
        load_as(static_cast<const signed char*>(from), rows, columns, ld, to.data());
        break;
      default:
        load_as(static_cast<const int*>(from), rows, columns, ld, to.data());
    }
  }
  return to;
}

template <class C>
void store(const std::vector<C>& from, Number rows, Number columns, void* to, int type, Number ld) {
  if constexpr (!kComplex<C>) {
    switch (type) {
      case kR16F:
        return store_as(from.data(), rows, columns, static_cast<Half*>(to), ld);
      case kR16BF:
        return store_as(from.data(), rows, columns, static_cast<Bfloat16*>(to), ld);
      case kR8I:
        return store_as(from.data(), rows, columns, static_cast<signed char*>(to), ld);
      default:
        return store_as(from.data(), rows, columns, static_cast<int*>(to), ld);
    }
  }
}

struct Product {
  int transa = 0, transb = 0;
  Number m = 0, n = 0, k = 0;
  Operand a, b, c;
  Number batches = 1;
};

/// One product of the batch, with everything read now.
template <class C>
void multiply(const Product& p, Number i, C alpha, C beta) {
  const auto input = [&](const Operand& operand, int trans, Number rows, Number columns, std::vector<C>& copy,
                         Number& ld) {
    const void* at = address(operand, i);
    ld = operand.ld;
    // k = 0 or alpha = 0: the matrix may be missing.
    if (operand.type == kTypeOf<C> || p.k == 0 || alpha == C{}) return static_cast<const C*>(at);
    if (trans != 0) std::swap(rows, columns);
    copy = load<C>(at, operand.type, rows, columns, operand.ld);
    ld = rows;
    return static_cast<const C*>(copy.data());
  };
  std::vector<C> copy_a, copy_b, copy_c;
  Number lda = 0, ldb = 0, ldc = p.c.ld;
  const C* a = input(p.a, p.transa, p.m, p.k, copy_a, lda);
  const C* b = input(p.b, p.transb, p.k, p.n, copy_b, ldb);
  void* at = address(p.c, i);
  C* c = static_cast<C*>(at);
  if (p.c.type != kTypeOf<C>) {
    if (beta == C{}) {
      copy_c.assign(static_cast<std::size_t>(p.m * p.n), C{});
    } else {
      copy_c = load<C>(at, p.c.type, p.m, p.n, p.c.ld);
    }
    c = copy_c.data();
    ldc = p.m;
  }
  call(fortran_gemm<C>(), op_char(p.transa), op_char(p.transb), p.m, p.n, p.k, alpha, a, lda, b, ldb, beta, c, ldc);
  if (c == copy_c.data()) store(copy_c, p.m, p.n, at, p.c.type, p.c.ld);
}

/// What cuBLAS refuses at once.
Status check_product(const Handle* handle, const Product& p, const void* alpha, const void* beta) {
  if (const auto bad = check(handle, is_op(p.transa) && is_op(p.transb) && p.m >= 0 && p.n >= 0 && p.k >= 0 &&
                                         is_ld(p.a.ld, p.transa == 0 ? p.m : p.k) &&
                                         is_ld(p.b.ld, p.transb == 0 ? p.k : p.n) && is_ld(p.c.ld, p.m) &&
                                         p.batches >= 0 && alpha != nullptr && beta != nullptr)) {
    return bad;
  }
  return fits(p.m, p.n, p.k, p.a.ld, p.b.ld, p.c.ld) ? kOk : kNotSupported;
}

/// C: what is computed in; S: the type of alpha and beta.
template <class C, class S>
Status launch(Handle* handle, const Product& p, const S* alpha, const S* beta) {
  if (const auto bad = check_product(handle, p, alpha, beta)) return bad;
  if (!converts<C>(p.a.type) || !converts<C>(p.b.type) || !converts<C>(p.c.type)) return kNotSupported;
  if (p.m == 0 || p.n == 0 || p.batches == 0) return kOk;
  return run(handle, [p, alpha = Scalar(*handle, alpha), beta = Scalar(*handle, beta)] {
    const auto by = static_cast<C>(alpha.get()), keep = static_cast<C>(beta.get());
    for (Number i = 0; i < p.batches; ++i) multiply<C>(p, i, by, keep);
  });
}

/// By cublasComputeType_t, which also says of what type alpha and beta are.
Status launch_as(Handle* handle, const Product& p, const void* alpha, const void* beta, int compute) {
  const bool complex = p.c.type == kC32F || p.c.type == kC64F;
  switch (compute) {
    case 64:  // 16F
    case 65:
      if (const auto bad = check_product(handle, p, alpha, beta)) return bad;
      if (p.a.type != kR16F || p.b.type != kR16F || p.c.type != kR16F) return kNotSupported;
      return launch<float>(handle, p, static_cast<const Half*>(alpha), static_cast<const Half*>(beta));
    case 68:  // 32F, and what may round its inputs
    case 69:
    case 74:
    case 75:
    case 77:
    case 78:
      if (complex) return launch<Complex>(handle, p, static_cast<const Complex*>(alpha), static_cast<const Complex*>(beta));
      return launch<float>(handle, p, static_cast<const float*>(alpha), static_cast<const float*>(beta));
    case 70:  // 64F
    case 71:
    case 79:
      if (const auto bad = check_product(handle, p, alpha, beta)) return bad;
      if (p.c.type != kR64F && p.c.type != kC64F) return kNotSupported;
      if (complex) {
        return launch<DoubleComplex>(handle, p, static_cast<const DoubleComplex*>(alpha), static_cast<const DoubleComplex*>(beta));
      }
      return launch<double>(handle, p, static_cast<const double*>(alpha), static_cast<const double*>(beta));
    case 72:  // 32I: exact in double
    case 73:
      if (const auto bad = check_product(handle, p, alpha, beta)) return bad;
      if (p.a.type != kR8I || p.b.type != kR8I || p.c.type != kR32I) return kNotSupported;
      return launch<double>(handle, p, static_cast<const int*>(alpha), static_cast<const int*>(beta));
    default:
      return handle == nullptr ? kNotInitialized : kNotSupported;
  }
}

template <class T>
const void* const* untyped(const T* const* list) {
  return reinterpret_cast<const void* const*>(list);
}

template <class T>
Status gemm(Handle* handle, int transa, int transb, Number m, Number n, Number k, const T* alpha, const T* a,
            Number lda, const T* b, Number ldb, const T* beta, T* c, Number ldc) {
  constexpr int type = kTypeOf<T>;
  const Product p{transa, transb, m, n, k, {a, nullptr, type, lda}, {b, nullptr, type, ldb}, {c, nullptr, type, ldc}};
  return launch<Compute<T>>(handle, p, alpha, beta);
}

template <class T>
Status gemm_batched(Handle* handle, int transa, int transb, Number m, Number n, Number k, const T* alpha,
                    const T* const* a, Number lda, const T* const* b, Number ldb, const T* beta, T* const* c,
                    Number ldc, Number batches) {
  constexpr int type = kTypeOf<T>;
  const Product p{transa, transb, m, n, k, {nullptr, untyped(a), type, lda}, {nullptr, untyped(b), type, ldb},
                  {nullptr, untyped(c), type, ldc}, batches};
  return launch<Compute<T>>(handle, p, alpha, beta);
}

template <class T>
Status gemm_strided(Handle* handle, int transa, int transb, Number m, Number n, Number k, const T* alpha, const T* a,
                    Number lda, Number sa, const T* b, Number ldb, Number sb, const T* beta, T* c, Number ldc,
                    Number sc, Number batches) {
  constexpr int type = kTypeOf<T>;
  const Product p{transa, transb, m, n, k, {a, nullptr, type, lda, sa}, {b, nullptr, type, ldb, sb},
                  {c, nullptr, type, ldc, sc}, batches};
  return launch<Compute<T>>(handle, p, alpha, beta);
}

template <class T>
Status gemm_typed(Handle* handle, int transa, int transb, Number m, Number n, Number k, const T* alpha, const void* a,
                  int a_type, Number lda, const void* b, int b_type, Number ldb, const T* beta, void* c, int c_type,
                  Number ldc) {
  const Product p{transa, transb, m, n, k, {a, nullptr, a_type, lda}, {b, nullptr, b_type, ldb}, {c, nullptr, c_type, ldc}};
  return launch<T>(handle, p, alpha, beta);
}

Status gemm_ex(Handle* handle, int transa, int transb, Number m, Number n, Number k, const void* alpha, const void* a,
               int a_type, Number lda, const void* b, int b_type, Number ldb, const void* beta, void* c, int c_type,
               Number ldc, int compute, int) {
  const Product p{transa, transb, m, n, k, {a, nullptr, a_type, lda}, {b, nullptr, b_type, ldb}, {c, nullptr, c_type, ldc}};
  return launch_as(handle, p, alpha, beta, compute);
}

Status gemm_batched_ex(Handle* handle, int transa, int transb, Number m, Number n, Number k, const void* alpha,
                       const void* const* a, int a_type, Number lda, const void* const* b, int b_type, Number ldb,
                       const void* beta, void* const* c, int c_type, Number ldc, Number batches, int compute, int) {
  const Product p{transa, transb, m, n, k, {nullptr, a, a_type, lda}, {nullptr, b, b_type, ldb},
                  {nullptr, c, c_type, ldc}, batches};
  return launch_as(handle, p, alpha, beta, compute);
}

Status gemm_strided_ex(Handle* handle, int transa, int transb, Number m, Number n, Number k, const void* alpha,
                       const void* a, int a_type, Number lda, Number sa, const void* b, int b_type, Number ldb,
                       Number sb, const void* beta, void* c, int c_type, Number ldc, Number sc, Number batches,
                       int compute, int) {
  const Product p{transa, transb, m, n, k, {a, nullptr, a_type, lda, sa}, {b, nullptr, b_type, ldb, sb},
                  {c, nullptr, c_type, ldc, sc}, batches};
  return launch_as(handle, p, alpha, beta, compute);
}

/// Groups of batches; everything but the lists of matrices lies in host memory.
template <class T, class N>
Status gemm_grouped(Handle* handle, const int* transa, const int* transb, const N* m, const N* n, const N* k,
                    const T* alpha, const T* const* a, const N* lda, const T* const* b, const N* ldb, const T* beta,
                    T* const* c, const N* ldc, N groups, const N* sizes) {
  if (const auto bad = check(handle, groups >= 0)) return bad;
  struct Group {
    Product product;
    T alpha, beta;
  };
  if (handle->pointer_mode == 1) return kNotSupported;
  constexpr int type = kTypeOf<T>;
  std::vector<Group> all;
  Number first = 0;
  for (N g = 0; g < groups; ++g) {
    const Product p{transa[g], transb[g], m[g], n[g], k[g], {nullptr, untyped(a) + first, type, lda[g]},
                    {nullptr, untyped(b) + first, type, ldb[g]}, {nullptr, untyped(c) + first, type, ldc[g]}, sizes[g]};
    if (const auto bad = check_product(handle, p, alpha, beta)) return bad;
    first += sizes[g];
    if (p.m > 0 && p.n > 0) all.push_back({p, alpha[g], beta[g]});
  }
  return run(handle, [all = std::move(all)] {
    for (const auto& group : all) {
      for (Number i = 0; i < group.product.batches; ++i) multiply<T>(group.product, i, group.alpha, group.beta);
    }
  });
}

// ---- gemv --------------------------------------------------------------------------------

/// y = alpha op(A) x + beta y, A and x of type T, y of type Y.
template <class T, class Y>
void apply(int trans, Number m, Number n, Compute<Y> alpha, const T* a, Number lda, const T* x, Number incx,
           Compute<Y> beta, Y* y, Number incy) {
  using C = Compute<Y>;
  const Number rows = trans == 0 ? m : n, terms = trans == 0 ? n : m;
  const Vector<const T> from(x, terms, incx);
  const Vector<Y> to(y, rows, incy);
  for (Number row = 0; row < rows; ++row) {
    C sum{};
    for (Number i = 0; alpha != C{} && i < terms; ++i) {
      const auto at = static_cast<C>(trans == 0 ? a[i * lda + row] : a[row * lda + i]);
      sum += (trans == 2 ? conjugate(at) : at) * static_cast<C>(from[i]);
    }
    to[row] = static_cast<Y>(beta == C{} ? alpha * sum : alpha * sum + beta * static_cast<C>(to[row]));
  }
}

template <class T, class Y>
Status check_gemv(Handle* handle, int trans, Number m, Number n, const Compute<Y>* alpha, Number lda, Number incx,
                  const Compute<Y>* beta, Number incy, Number batches) {
  return check(handle, is_op(trans) && m >= 0 && n >= 0 && is_ld(lda, m) && incx != 0 && incy != 0 && batches >= 0 &&
                           alpha != nullptr && beta != nullptr);
}

template <class T, class Y>
Status gemv_batched(Handle* handle, int trans, Number m, Number n, const Compute<Y>* alpha, const T* const* a,
                    Number lda, const T* const* x, Number incx, const Compute<Y>* beta, Y* const* y, Number incy,
                    Number batches) {
  if (const auto bad = check_gemv<T, Y>(handle, trans, m, n, alpha, lda, incx, beta, incy, batches)) return bad;
  if (m == 0 || n == 0 || batches == 0) return kOk;
  return run(handle, [=, alpha = Scalar(*handle, alpha), beta = Scalar(*handle, beta)] {
    for (Number i = 0; i < batches; ++i) {
      apply(trans, m, n, alpha.get(), a[i], lda, x[i], incx, beta.get(), y[i], incy);
    }
  });
}

template <class T, class Y>
Status gemv_strided(Handle* handle, int trans, Number m, Number n, const Compute<Y>* alpha, const T* a, Number lda,
                    Number sa, const T* x, Number incx, Number sx, const Compute<Y>* beta, Y* y, Number incy,
                    Number sy, Number batches) {
  if (const auto bad = check_gemv<T, Y>(handle, trans, m, n, alpha, lda, incx, beta, incy, batches)) return bad;
  if (m == 0 || n == 0 || batches == 0) return kOk;
  return run(handle, [=, alpha = Scalar(*handle, alpha), beta = Scalar(*handle, beta)] {
    for (Number i = 0; i < batches; ++i) {
      apply(trans, m, n, alpha.get(), a + i * sa, lda, x + i * sx, incx, beta.get(), y + i * sy, incy);
    }
  });
}

}  // namespace

#include "cublas_gemm.inc"

}  // namespace avec::cpu::blas
