// Levels 1, 2 and 3 of cuBLAS on the CPU device, each function against sums written out.
#include "cublas_support.h"

using namespace test;

#define ALL_TYPES float, double, Complex, DoubleComplex

namespace {

/// Element i of a vector of n with an increment, as BLAS counts.
template <class T>
T& at(T* x, int n, int inc, int i) {
  return x[inc < 0 ? (i - n + 1) * inc : i * inc];
}

template <class T>
Dense<T> column(T* x, int n, int inc) {
  Dense<T> dense(n, 1);
  for (int i = 0; i < n; ++i) dense(i, 0) = at(x, n, inc, i);
  return dense;
}

template <class T>
Real<T> part_sum(T value) {
  return std::abs(std::real(value)) + std::abs(std::imag(value));
}

}  // namespace

TEMPLATE_TEST_CASE("Vectors are added, copied, exchanged and scaled, whatever their increments", "[cublas]", ALL_TYPES) {
  using T = TestType;
  Blas blas;
  const int n = 9, incx = GENERATE(1, 2, -2), incy = GENERATE(1, -3);
  Array<T> x(32), y(32);
  const auto x0 = column<T>(x, n, incx), y0 = column<T>(y, n, incy);
  const T alpha = number<T>(0.5, -2);
  blas.run<T>("axpy_v2", n, &alpha, x.data(), incx, y.data(), incy);
  CHECK(distance(column<T>(y, n, incy), alpha * x0 + y0) < kNear<T>);
  blas.run<T>("copy_v2", n, x.data(), incx, y.data(), incy);
  CHECK(distance(column<T>(y, n, incy), x0) == 0);
  Array<T> z(32);
  const auto z0 = column<T>(z, n, incx);
  blas.run<T>("swap_v2", n, z.data(), incx, y.data(), incy);
  CHECK(distance(column<T>(y, n, incy), z0) == 0);
  CHECK(distance(column<T>(z, n, incx), x0) == 0);
  blas.run<T>("scal_v2", n, &alpha, x.data(), std::abs(incx));
  if (incx > 0) CHECK(distance(column<T>(x, n, incx), alpha * x0) < kNear<T>);
  blas.run<T>("axpy_v2_64", std::int64_t{n}, &alpha, x.data(), std::int64_t{incx}, y.data(), std::int64_t{incy});
  CHECK(distance(column<T>(y, n, incy), alpha * column<T>(x, n, incx) + z0) < kNear<T>);
}

TEMPLATE_TEST_CASE("Sums, norms, products and extremes of vectors", "[cublas]", ALL_TYPES) {
  using T = TestType;
  Blas blas;
  const int n = 11;
  Array<T> x(32), y(32);
  double norm = 0, sum = 0;
  std::complex<double> product = 0, adjoint = 0;
  int largest = 0, smallest = 0;
  for (int i = 0; i < n; ++i) {
    const T u = x[2 * i], v = y[i];
    norm += std::norm(std::complex<double>(u));
    sum += part_sum(u);
    product += std::complex<double>(u) * std::complex<double>(v);
    adjoint += std::conj(std::complex<double>(u)) * std::complex<double>(v);
    if (part_sum(u) > part_sum(x[2 * largest])) largest = i;
    if (part_sum(u) < part_sum(x[2 * smallest])) smallest = i;
  }
  const std::string pair = kComplex<T> ? (std::is_same_v<T, Complex> ? "Sc" : "Dz") : letter<T>();
  const std::string small = std::string(1, static_cast<char>(letter<T>()[0] + 32));
  Real<T> real{};
  REQUIRE(test::blas(pair + "nrm2_v2", blas.handle, n, x.data(), 2, &real) == 0);
  CHECK(std::abs(real - std::sqrt(norm)) < kNear<T>);
  REQUIRE(test::blas(pair + "asum_v2", blas.handle, n, x.data(), 2, &real) == 0);
  CHECK(std::abs(real - sum) < kNear<T>);
  int index = 0;
  REQUIRE(test::blas("I" + small + "amax_v2", blas.handle, n, x.data(), 2, &index) == 0);
  CHECK(index == largest + 1);
  std::int64_t wide = -1;
  REQUIRE(test::blas("I" + small + "amin_v2_64", blas.handle, std::int64_t{n}, x.data(), std::int64_t{2}, &wide) == 0);
  CHECK(wide == smallest + 1);
  REQUIRE(test::blas("I" + small + "amax_v2", blas.handle, 0, x.data(), 2, &index) == 0);
  CHECK(index == 0);
  T dot{};
  blas.run<T>(kComplex<T> ? "dotu_v2" : "dot_v2", n, x.data(), 2, y.data(), 1, &dot);
  CHECK(std::abs(std::complex<double>(dot) - product) < kNear<T>);
  if constexpr (kComplex<T>) {
    blas.run<T>("dotc_v2", n, x.data(), 2, y.data(), 1, &dot);
    CHECK(std::abs(std::complex<double>(dot) - adjoint) < kNear<T>);
  }
}

TEMPLATE_TEST_CASE("Rotations are made and applied", "[cublas]", ALL_TYPES) {
  using T = TestType;
  Blas blas;
  T a = number<T>(3, 1), b = number<T>(-2, 0.5), s{};
  const T a0 = a, b0 = b;
  Real<T> c{};
  blas.run<T>("rotg_v2", &a, &b, &c, &s);
  CHECK(std::abs(c * a0 + s * b0 - a) < kNear<T>);
  CHECK(std::abs(c * b0 - conj(s) * a0) < kNear<T>);
  Array<T> x(8), y(8);
  const auto x0 = x.copy(), y0 = y.copy();
  blas.run<T>("rot_v2", 8, x.data(), 1, y.data(), 1, &c, &s);
  for (int i = 0; i < 8; ++i) {
    CHECK(std::abs(x[i] - (c * x0[i] + s * y0[i])) < kNear<T>);
    CHECK(std::abs(y[i] - (c * y0[i] - conj(s) * x0[i])) < kNear<T>);
  }
  if constexpr (!kComplex<T>) {
    T d1 = 2, d2 = 3, x1 = 4, y1 = 5, param[5] = {};
    blas.run<T>("rotmg_v2", &d1, &d2, &x1, static_cast<const T*>(&y1), param);
    Array<T> u(1), v(1);
    u[0] = 4;
    v[0] = 5;
    blas.run<T>("rotm_v2", 1, u.data(), 1, v.data(), 1, static_cast<const T*>(param));
    CHECK(std::abs(u[0] - x1) < kNear<T>);
    CHECK(std::abs(v[0]) < kNear<T>);
  }
}

TEMPLATE_TEST_CASE("A matrix times a vector: full and banded", "[cublas]", ALL_TYPES) {
  using T = TestType;
  Blas blas;
  const int trans = GENERATE(0, 1, 2), m = 7, n = 5, lda = 9, kl = 2, ku = 1;
  const T alpha = number<T>(1.5, 0.5), beta = number<T>(-0.5, 1);
  Array<T> a(lda * n), x(24), y(24);
  const int in = trans == 0 ? n : m, out = trans == 0 ? m : n;
  const auto x0 = column<T>(x, in, 2), y0 = column<T>(y, out, -3);
  const Dense<T> full(a, m, n, lda);
  blas.run<T>("gemv_v2", trans, m, n, &alpha, a.data(), lda, x.data(), 2, &beta, y.data(), -3);
  CHECK(distance(column<T>(y, out, -3), alpha * (full.op(trans) * x0) + beta * y0) < kNear<T>);

  Dense<T> band(m, n);
  for (int j = 0; j < n; ++j) {
    for (int i = std::max(0, j - ku); i < std::min(m, j + kl + 1); ++i) band(i, j) = a[j * lda + ku + i - j];
  }
  const auto y1 = column<T>(y, out, 1);
  blas.run<T>("gbmv_v2", trans, m, n, kl, ku, &alpha, a.data(), lda, x.data(), 2, &beta, y.data(), 1);
  CHECK(distance(column<T>(y, out, 1), alpha * (band.op(trans) * x0) + beta * y1) < kNear<T>);
}

TEMPLATE_TEST_CASE("Triangular matrices multiply and solve: full, banded, packed", "[cublas]", ALL_TYPES) {
  using T = TestType;
  Blas blas;
  const int uplo = GENERATE(0, 1), trans = GENERATE(0, 1, 2), diag = GENERATE(0, 1), n = 6, lda = 8, k = 2;
  Array<T> a(lda * n), packed(n * n), band(lda * n), x(2 * n);
  for (int i = 0; i < n; ++i) a[i * lda + i] = number<T>(4, 1);
  Dense<T> full = Dense<T>(a, n, n, lda).triangle(uplo, 2), banded(n, n);
  int at_packed = 0;
  for (int j = 0; j < n; ++j) {
    for (int i = uplo == 0 ? j : 0; i < (uplo == 0 ? n : j + 1); ++i) {
      packed[at_packed++] = full(i, j);
      if (std::abs(i - j) > k) continue;
      banded(i, j) = full(i, j);
      band[j * lda + (uplo == 0 ? i - j : k + i - j)] = full(i, j);
    }
  }
  if (diag == 1) {
    full = full.triangle(uplo, 3);
    banded = banded.triangle(uplo, 3);
  }
  const auto check = [&](const char* multiply, const char* solve, const Dense<T>& dense, auto... matrix) {
    const auto x0 = column<T>(x, n, 2);
    blas.run<T>(multiply, uplo, trans, diag, n, matrix..., x.data(), 2);
    CHECK(distance(column<T>(x, n, 2), dense.op(trans) * x0) < kNear<T>);
    blas.run<T>(solve, uplo, trans, diag, n, matrix..., x.data(), 2);
    CHECK(distance(column<T>(x, n, 2), x0) < kNear<T>);
  };
  check("trmv_v2", "trsv_v2", full, a.data(), lda);
  check("tbmv_v2", "tbsv_v2", banded, k, band.data(), lda);
  check("tpmv_v2", "tpsv_v2", full, packed.data());
}

TEMPLATE_TEST_CASE("Symmetric and Hermitian matrices times vectors, and their updates", "[cublas]", ALL_TYPES) {
  using T = TestType;
  Blas blas;
  const int uplo = GENERATE(0, 1), n = 6, lda = 7, k = 2;
  const T alpha = number<T>(1.5, 0.5), beta = number<T>(-0.5, 1);
  const Real<T> scale = 0.75;
  Array<T> a(lda * n), x(2 * n), y(n), packed(n * n), band(lda * n);
  const auto pack = [&](const Dense<T>& dense) {
    int next = 0;
    for (int j = 0; j < n; ++j) {
      for (int i = uplo == 0 ? j : 0; i < (uplo == 0 ? n : j + 1); ++i) packed[next++] = dense(i, j);
    }
  };
  const auto unpack = [&] {
    Dense<T> dense(n, n);
    int next = 0;
    for (int j = 0; j < n; ++j) {
      for (int i = uplo == 0 ? j : 0; i < (uplo == 0 ? n : j + 1); ++i) dense(i, j) = packed[next++];
    }
    return dense;
  };
  const auto now = [&](int kind) { return Dense<T>(a, n, n, lda).triangle(uplo, kind); };
  const auto u = column<T>(x, n, 2);
  const auto product = [&](const std::string& name, const Dense<T>& dense, auto... matrix) {
    const auto y0 = column<T>(y, n, 1);
    blas.run<T>(name, uplo, n, matrix..., x.data(), 2, &beta, y.data(), 1);
    CHECK(distance(column<T>(y, n, 1), alpha * (dense * u) + beta * y0) < kNear<T>);
  };
  const auto v = [&] { return column<T>(y, n, 1); };
  const auto update = [&](const std::string& name, int kind, const Dense<T>& added, auto... arguments) {
    const auto before = now(kind);
    blas.run<T>(name, uplo, n, arguments..., a.data(), lda);
    CHECK(distance(now(kind), before + added) < kNear<T>);
    if (kind == 0 && kComplex<T>) return;  // no packed form
    pack(before);
    const std::string packed_name = kind == 0 ? "sp" + name.substr(2) : "hp" + name.substr(2);
    blas.run<T>(packed_name, uplo, n, arguments..., packed.data());
    CHECK(distance(unpack().triangle(uplo, kind), before + added) < kNear<T>);
  };
  product("symv_v2", now(0), &alpha, a.data(), lda);
  update("syr_v2", 0, alpha * (u * u.op(1)), &alpha, x.data(), 2);
  update("syr2_v2", 0, alpha * (u * v().op(1)) + alpha * (v() * u.op(1)), &alpha, x.data(), 2, y.data(), 1);
  const int kind = kComplex<T> ? 1 : 0;
  if constexpr (kComplex<T>) {
    product("hemv_v2", now(1), &alpha, a.data(), lda);
    update("her_v2", 1, T(scale) * (u * u.op(2)), &scale, x.data(), 2);
    update("her2_v2", 1, alpha * (u * v().op(2)) + conj(alpha) * (v() * u.op(2)), &alpha, x.data(), 2, y.data(), 1);
  }
  pack(now(kind));
  product(kComplex<T> ? "hpmv_v2" : "spmv_v2", now(kind), &alpha, packed.data());
  Dense<T> banded(n, n);
  for (int j = 0; j < n; ++j) {
    for (int i = 0; i < n; ++i) {
      if (std::abs(i - j) <= k) banded(i, j) = now(kind)(i, j);
      if (std::abs(i - j) <= k && (uplo == 0 ? i >= j : i <= j)) {
        band[j * lda + (uplo == 0 ? i - j : k + i - j)] = banded(i, j);
      }
    }
  }
  product(kComplex<T> ? "hbmv_v2" : "sbmv_v2", banded, k, &alpha, band.data(), lda);
}

TEMPLATE_TEST_CASE("Outer products", "[cublas]", ALL_TYPES) {
  using T = TestType;
  Blas blas;
  const int m = 5, n = 4, lda = 6;
  const T alpha = number<T>(1.5, 0.5);
  Array<T> a(lda * n), x(m), y(2 * n);
  const auto u = column<T>(x, m, 1), v = column<T>(y, n, -2);
  auto before = Dense<T>(a, m, n, lda);
  blas.run<T>(kComplex<T> ? "geru_v2" : "ger_v2", m, n, &alpha, x.data(), 1, y.data(), -2, a.data(), lda);
  CHECK(distance(Dense<T>(a, m, n, lda), before + alpha * (u * v.op(1))) < kNear<T>);
  if constexpr (kComplex<T>) {
    before = Dense<T>(a, m, n, lda);
    blas.run<T>("gerc_v2", m, n, &alpha, x.data(), 1, y.data(), -2, a.data(), lda);
    CHECK(distance(Dense<T>(a, m, n, lda), before + alpha * (u * v.op(2))) < kNear<T>);
  }
}

TEMPLATE_TEST_CASE("Symmetric and Hermitian products", "[cublas]", ALL_TYPES) {
  using T = TestType;
  Blas blas;
  const int uplo = GENERATE(0, 1), side = GENERATE(0, 1), m = 5, n = 4, k = 3, ld = 7;
  const T alpha = number<T>(1.5, 0.5), beta = number<T>(-0.5, 1);
  const Real<T> real_alpha = 1.25, real_beta = -0.5;
  Array<T> a(ld * 8), b(ld * 8), c(ld * 8);
  const int order = side == 0 ? m : n;
  for (const int kind : {0, 1}) {
    if (kind == 1 && !kComplex<T>) continue;
    const auto s = Dense<T>(a, order, order, ld).triangle(uplo, kind), d = Dense<T>(b, m, n, ld), c0 = Dense<T>(c, m, n, ld);
    blas.run<T>(kind == 0 ? "symm_v2" : "hemm_v2", side, uplo, m, n, &alpha, a.data(), ld, b.data(), ld, &beta, c.data(), ld);
    CHECK(distance(Dense<T>(c, m, n, ld), alpha * (side == 0 ? s * d : d * s) + beta * c0) < kNear<T>);
  }
  for (const int trans : {0, 1, 2}) {
    const auto op = [&](const Array<T>& array) {
      return (trans == 0 ? Dense<T>(array, n, k, ld) : Dense<T>(array, k, n, ld)).op(trans);
    };
    const auto result = [&](int kind) { return Dense<T>(c, n, n, ld).triangle(uplo, kind); };
    if (trans != 2 || !kComplex<T>) {
      auto c0 = result(0);
      blas.run<T>("syrk_v2", uplo, trans, n, k, &alpha, a.data(), ld, &beta, c.data(), ld);
      CHECK(distance(result(0), alpha * (op(a) * op(a).op(1)) + beta * c0) < kNear<T>);
      c0 = result(0);
      const auto ab = op(a) * op(b).op(1);
      blas.run<T>("syr2k_v2", uplo, trans, n, k, &alpha, a.data(), ld, b.data(), ld, &beta, c.data(), ld);
      CHECK(distance(result(0), alpha * (ab + ab.op(1)) + beta * c0) < kNear<T>);
      c0 = result(0);
      blas.run<T>("syrkx", uplo, trans, n, k, &alpha, a.data(), ld, b.data(), ld, &beta, c.data(), ld);
      CHECK(distance(result(0), alpha * ab.triangle(uplo, 0) + beta * c0) < kNear<T>);
    }
    if constexpr (kComplex<T>) {
      if (trans == 1) {
        CHECK(test::blas(letter<T>() + "herk_v2", blas.handle, uplo, trans, n, k, &real_alpha, a.data(), ld, &real_beta,
                         c.data(), ld) == 7);
        continue;
      }
      auto c0 = result(1);
      blas.run<T>("herk_v2", uplo, trans, n, k, &real_alpha, a.data(), ld, &real_beta, c.data(), ld);
      CHECK(distance(result(1), T(real_alpha) * (op(a) * op(a).op(2)) + T(real_beta) * c0) < kNear<T>);
      c0 = result(1);
      const auto ab = op(a) * op(b).op(2);
      blas.run<T>("her2k_v2", uplo, trans, n, k, &alpha, a.data(), ld, b.data(), ld, &real_beta, c.data(), ld);
      CHECK(distance(result(1), alpha * ab + (alpha * ab).op(2) + T(real_beta) * c0) < kNear<T>);
      c0 = result(1);
      blas.run<T>("herkx", uplo, trans, n, k, &alpha, a.data(), ld, b.data(), ld, &real_beta, c.data(), ld);
      CHECK(distance(result(1), (alpha * ab).triangle(uplo, 1) + T(real_beta) * c0) < kNear<T>);
    }
  }
}

TEMPLATE_TEST_CASE("Triangular products and solutions of matrices", "[cublas]", ALL_TYPES) {
  using T = TestType;
  Blas blas;
  const int side = GENERATE(0, 1), uplo = GENERATE(0, 1), trans = GENERATE(0, 1, 2), diag = GENERATE(0, 1);
  const int m = 5, n = 4, ld = 6, order = side == 0 ? m : n;
  const T alpha = number<T>(1.5, 0.5), inverse = T(1) / alpha;
  Array<T> a(ld * 6), b(ld * 6), c(ld * 6);
  for (int i = 0; i < order; ++i) a[i * ld + i] = number<T>(4, 1);
  const auto t = Dense<T>(a, order, order, ld).triangle(uplo, 2 + diag).op(trans);
  const auto b0 = Dense<T>(b, m, n, ld);
  blas.run<T>("trmm_v2", side, uplo, trans, diag, m, n, &alpha, a.data(), ld, b.data(), ld, c.data(), ld);
  CHECK(distance(Dense<T>(c, m, n, ld), alpha * (side == 0 ? t * b0 : b0 * t)) < kNear<T>);
  CHECK(distance(Dense<T>(b, m, n, ld), b0) == 0);
  blas.run<T>("trsm_v2", side, uplo, trans, diag, m, n, &inverse, a.data(), ld, c.data(), ld);
  CHECK(distance(Dense<T>(c, m, n, ld), b0) < kNear<T>);
  Array<T*> as(2), bs(2);
  as[0] = as[1] = a;
  bs[0] = b;
  bs[1] = c;
  blas.run<T>("trsmBatched", side, uplo, trans, diag, m, n, &alpha, as.data(), ld, bs.data(), ld, 2);
  const auto solved = Dense<T>(b, m, n, ld);
  CHECK(distance(side == 0 ? t * solved : solved * t, alpha * b0) < kNear<T>);
  CHECK(distance(Dense<T>(c, m, n, ld), solved) < kNear<T>);
}

TEMPLATE_TEST_CASE("Sums of matrices, diagonal products, packing", "[cublas]", ALL_TYPES) {
  using T = TestType;
  Blas blas;
  const int transa = GENERATE(0, 1, 2), transb = GENERATE(0, 1, 2), m = 5, n = 4, ld = 6;
  const T alpha = number<T>(1.5, 0.5), beta = number<T>(-0.5, 1);
  Array<T> a(36), b(36), c(36), x(8);
  const auto da = transa == 0 ? Dense<T>(a, m, n, ld) : Dense<T>(a, n, m, ld).op(transa);
  const auto db = transb == 0 ? Dense<T>(b, m, n, ld) : Dense<T>(b, n, m, ld).op(transb);
  blas.run<T>("geam", transa, transb, m, n, &alpha, a.data(), ld, &beta, b.data(), ld, c.data(), ld);
  CHECK(distance(Dense<T>(c, m, n, ld), alpha * da + beta * db) < kNear<T>);
  for (const int side : {0, 1}) {
    blas.run<T>("dgmm", side, m, n, a.data(), ld, x.data(), 1, c.data(), ld);
    Dense<T> scale(side == 0 ? m : n, side == 0 ? m : n);
    for (int i = 0; i < scale.rows; ++i) scale(i, i) = x[i];
    const auto d = Dense<T>(a, m, n, ld);
    CHECK(distance(Dense<T>(c, m, n, ld), side == 0 ? scale * d : d * scale) < kNear<T>);
    blas.run<T>("trttp", side, n, a.data(), ld, b.data());
    blas.run<T>("tpttr", side, n, b.data(), c.data(), ld);
    CHECK(distance(Dense<T>(c, n, n, ld).triangle(side, 2), Dense<T>(a, n, n, ld).triangle(side, 2)) == 0);
  }
}
