// gemm in all its forms, gemv in batches, mixed types, and the batched factorisations.
#include <cmath>
#include <cstring>

#include "cublas_support.h"

using namespace test;

#define ALL_TYPES float, double, Complex, DoubleComplex

namespace {

template <class T>
Dense<T> operand(const T* a, int rows, int columns, int ld, int trans) {
  return (trans == 0 ? Dense<T>(a, rows, columns, ld) : Dense<T>(a, columns, rows, ld)).op(trans);
}

/// Numbers that half precision holds exactly, as do their small sums.
float small_number(int i) { return static_cast<float>(i * 7 % 9 - 4) * 0.25F; }

std::uint16_t to_half(float value) {  // only for such numbers
  if (value == 0) return 0;
  int exponent = 0;
  const float fraction = std::frexp(std::abs(value), &exponent);
  return static_cast<std::uint16_t>((value < 0 ? 0x8000 : 0) | ((exponent + 14) << 10) |
                                    static_cast<int>((fraction * 2 - 1) * 1024));
}
float from_half(std::uint16_t bits) {
  if ((bits & 0x7fff) == 0) return 0;
  const float size = std::ldexp(1.0F + static_cast<float>(bits & 1023) / 1024, (bits >> 10 & 31) - 15);
  return (bits & 0x8000) != 0 ? -size : size;
}
std::uint16_t to_bfloat(float value) {
  std::uint32_t word = 0;
  std::memcpy(&word, &value, 4);
  return static_cast<std::uint16_t>(word >> 16);
}

}  // namespace

TEMPLATE_TEST_CASE("Products of matrices: one, batched, strided, grouped", "[cublas]", ALL_TYPES) {
  using T = TestType;
  Blas blas;
  const int transa = GENERATE(0, 1, 2), transb = GENERATE(0, 1, 2), m = 5, n = 4, k = 3, ld = 7;
  const long long stride = 60;
  const T alpha = number<T>(1.5, 0.5), beta = number<T>(-0.5, 1);
  Array<T> a(180), b(180), c(180);
  const auto expected = [&](int i) {
    const auto at = i * static_cast<int>(stride);
    return alpha * (operand<T>(a + at, m, k, ld, transa) * operand<T>(b + at, k, n, ld, transb)) +
           beta * Dense<T>(c + at, m, n, ld);
  };
  const auto result = [&](int i) { return Dense<T>(c + i * static_cast<int>(stride), m, n, ld); };
  auto one = expected(0);
  blas.run<T>("gemm_v2", transa, transb, m, n, k, &alpha, a.data(), ld, b.data(), ld, &beta, c.data(), ld);
  CHECK(distance(result(0), one) < kNear<T>);
  if constexpr (kComplex<T>) {
    one = expected(0);
    blas.run<T>("gemm3m", transa, transb, m, n, k, &alpha, a.data(), ld, b.data(), ld, &beta, c.data(), ld);
    CHECK(distance(result(0), one) < kNear<T>);
  }
  Array<T*> as(3), bs(3), cs(3);
  for (int i = 0; i < 3; ++i) {
    as[i] = a + i * stride;
    bs[i] = b + i * stride;
    cs[i] = c + i * stride;
  }
  const auto check = [&](auto run) {
    const Dense<T> before[] = {expected(0), expected(1), expected(2)};
    run();
    for (int i = 0; i < 3; ++i) CHECK(distance(result(i), before[i]) < kNear<T>);
  };
  check([&] {
    blas.run<T>("gemmBatched", transa, transb, m, n, k, &alpha, as.data(), ld, bs.data(), ld, &beta, cs.data(), ld, 3);
  });
  check([&] {
    blas.run<T>("gemmStridedBatched", transa, transb, m, n, k, &alpha, a.data(), ld, stride, b.data(), ld, stride, &beta,
                c.data(), ld, stride, 3);
  });
  if constexpr (!kComplex<T>) {
    check([&] {
      const int ta[] = {transa, transa}, tb[] = {transb, transb}, ms[] = {m, m}, ns[] = {n, n}, ks[] = {k, k},
                lds[] = {ld, ld}, sizes[] = {1, 2};
      const T alphas[] = {alpha, alpha}, betas[] = {beta, beta};
      blas.run<T>("gemmGroupedBatched", ta + 0, tb + 0, ms + 0, ns + 0, ks + 0, alphas + 0, as.data(), lds + 0, bs.data(),
                  lds + 0, betas + 0, cs.data(), lds + 0, 2, sizes + 0);
    });
  }
  const int type = std::is_same_v<T, float> ? 0 : std::is_same_v<T, double> ? 1 : std::is_same_v<T, Complex> ? 4 : 5;
  const int compute = std::is_same_v<Real<T>, float> ? 68 : 70;
  check([&] {
    REQUIRE(test::blas("GemmStridedBatchedEx", blas.handle, transa, transb, m, n, k, &alpha, a.data(), type, ld, stride,
                       b.data(), type, ld, stride, &beta, c.data(), type, ld, stride, 3, compute, -1) == 0);
    OK(cuStreamSynchronize(blas.stream));
  });
  check([&] {
    REQUIRE(test::blas("GemmBatchedEx", blas.handle, transa, transb, m, n, k, &alpha, as.data(), type, ld, bs.data(), type,
                       ld, &beta, cs.data(), type, ld, 3, compute, -1) == 0);
    OK(cuStreamSynchronize(blas.stream));
  });
}

TEMPLATE_TEST_CASE("Matrices times vectors in batches", "[cublas]", ALL_TYPES) {
  using T = TestType;
  Blas blas;
  const int trans = GENERATE(0, 1, 2), m = 5, n = 4, ld = 6, in = trans == 0 ? n : m, out = trans == 0 ? m : n;
  const T alpha = number<T>(1.5, 0.5), beta = number<T>(-0.5, 1);
  Array<T> a(60), x(20), y(20);
  Array<T*> as(2), xs(2), ys(2);
  for (int i = 0; i < 2; ++i) {
    as[i] = a + 30 * i;
    xs[i] = x + 10 * i;
    ys[i] = y + 10 * i;
  }
  const auto check = [&](auto run) {
    std::vector<Dense<T>> expected;
    for (int i = 0; i < 2; ++i) {
      expected.push_back(alpha * (Dense<T>(as[i], m, n, ld).op(trans) * Dense<T>(xs[i], in, 1, in)) +
                         beta * Dense<T>(ys[i], out, 1, out));
    }
    run();
    for (int i = 0; i < 2; ++i) CHECK(distance(Dense<T>(ys[i], out, 1, out), expected[static_cast<std::size_t>(i)]) < kNear<T>);
  };
  check([&] {
    blas.run<T>("gemvBatched", trans, m, n, &alpha, as.data(), ld, xs.data(), 1, &beta, ys.data(), 1, 2);
  });
  check([&] {
    blas.run<T>("gemvStridedBatched", trans, m, n, &alpha, a.data(), ld, 30LL, x.data(), 1, 10LL, &beta, y.data(), 1, 10LL, 2);
  });
}

TEST_CASE("Products of half precision and of bytes are exact where they can be", "[cublas]") {
  Blas blas;
  const int n = 6;
  Array<std::uint16_t> a(36), b(36), c(36), wide_a(36), wide_b(36);
  Array<float> f(36);
  Array<signed char> ia(36), ib(36);
  Array<int> ic(36);
  Dense<float> da(n, n), db(n, n), na(n, n), nb(n, n);
  for (int i = 0; i < 36; ++i) {
    da.values[static_cast<std::size_t>(i)] = small_number(i);
    db.values[static_cast<std::size_t>(i)] = small_number(i + 5);
    a[i] = to_half(small_number(i));
    b[i] = to_half(small_number(i + 5));
    wide_a[i] = to_bfloat(small_number(i));
    wide_b[i] = to_bfloat(small_number(i + 5));
    ia[i] = static_cast<signed char>(i - 20);
    ib[i] = static_cast<signed char>(3 * i - 50);
    na.values[static_cast<std::size_t>(i)] = ia[i];
    nb.values[static_cast<std::size_t>(i)] = ib[i];
  }
  const auto expected = da * db;
  const float one = 1, none = 0;
  const auto gemm = [&](const void* x, const void* y, int type, void* z, int z_type) {
    REQUIRE(test::blas("GemmEx", blas.handle, 0, 0, n, n, n, &one, x, type, n, y, type, n, &none, z, z_type, n, 68, -1) == 0);
    OK(cuStreamSynchronize(blas.stream));
  };
  gemm(a.data(), b.data(), 2, f.data(), 0);
  CHECK(distance(Dense<float>(f, n, n, n), expected) == 0);
  gemm(wide_a.data(), wide_b.data(), 14, f.data(), 0);
  CHECK(distance(Dense<float>(f, n, n, n), expected) == 0);
  gemm(a.data(), b.data(), 2, c.data(), 2);
  for (int i = 0; i < 36; ++i) CHECK(from_half(c[i]) == expected.values[static_cast<std::size_t>(i)]);
  const std::uint16_t half_one = to_half(1), half_none = 0;
  REQUIRE(test::blas("Hgemm", blas.handle, 0, 0, n, n, n, &half_one, a.data(), n, b.data(), n, &half_one, c.data(), n) == 0);
  OK(cuStreamSynchronize(blas.stream));
  for (int i = 0; i < 36; ++i) CHECK(from_half(c[i]) == 2 * expected.values[static_cast<std::size_t>(i)]);
  REQUIRE(test::blas("GemmEx", blas.handle, 0, 0, n, n, n, &half_one, a.data(), 2, n, b.data(), 2, n, &half_none, c.data(), 2,
                     n, 64, 99) == 0);
  OK(cuStreamSynchronize(blas.stream));
  for (int i = 0; i < 36; ++i) CHECK(from_half(c[i]) == expected.values[static_cast<std::size_t>(i)]);
  const int int_one = 1, int_none = 0;
  REQUIRE(test::blas("GemmEx", blas.handle, 0, 0, n, n, n, &int_one, ia.data(), 3, n, ib.data(), 3, n, &int_none, ic.data(),
                     10, n, 72, -1) == 0);
  OK(cuStreamSynchronize(blas.stream));
  const auto integers = na * nb;
  for (int i = 0; i < 36; ++i) CHECK(static_cast<float>(ic[i]) == integers.values[static_cast<std::size_t>(i)]);
  CHECK(test::blas("GemmEx", blas.handle, 0, 0, n, n, n, &one, a.data(), 2, n, b.data(), 2, n, &none, f.data(), 0, n, 70, -1) ==
        15);
  CHECK(test::blas("GemmEx", blas.handle, 0, 0, n, n, n, &one, a.data(), 28, n, b.data(), 28, n, &none, f.data(), 0, n, 68,
                   -1) == 15);
}

TEST_CASE("Vectors of half precision: sums, products and norms", "[cublas]") {
  Blas blas;
  Array<std::uint16_t> x(8), y(8), result(1);
  float norm = 0, dot = 0;
  for (int i = 0; i < 8; ++i) {
    x[i] = to_half(small_number(i));
    y[i] = to_half(small_number(i + 3));
    norm += small_number(i) * small_number(i);
    dot += small_number(i) * small_number(i + 3);
  }
  std::uint16_t host = 0;
  REQUIRE(test::blas("DotEx", blas.handle, 8, x.data(), 2, 1, y.data(), 2, 1, &host, 2, 0) == 0);
  CHECK(from_half(host) == dot);
  REQUIRE(test::blas("Nrm2Ex", blas.handle, 8, x.data(), 2, 1, &host, 2, 0) == 0);
  CHECK(std::abs(from_half(host) - std::sqrt(norm)) < 2e-3);
  const float two = 2;
  REQUIRE(test::blas("AxpyEx", blas.handle, 8, &two, 0, x.data(), 2, 1, y.data(), 2, 1, 0) == 0);
  REQUIRE(test::blas("ScalEx", blas.handle, 8, &two, 0, x.data(), 2, 1, 0) == 0);
  OK(cuStreamSynchronize(blas.stream));
  for (int i = 0; i < 8; ++i) {
    CHECK(from_half(y[i]) == small_number(i + 3) + 2 * small_number(i));
    CHECK(from_half(x[i]) == 2 * small_number(i));
  }
  CHECK(test::blas("DotEx", blas.handle, 8, x.data(), 2, 1, y.data(), 0, 1, &host, 2, 0) == 15);
}

TEMPLATE_TEST_CASE("Batches are factorised, solved and inverted, with pivots and without", "[cublas]", ALL_TYPES) {
  using T = TestType;
  Blas blas;
  const bool pivoting = GENERATE(false, true);
  const int n = 5, ld = 6, columns = 2, trans = GENERATE(0, 1, 2);
  Array<T> a(2 * ld * n), x(2 * ld * columns), c(2 * ld * n);
  for (int i = 0; i < n; ++i) {
    a[i * ld + i] = number<T>(5, 1);
    a[ld * n + i * ld + i] = number<T>(-4, 2);
  }
  Array<T*> as(2), xs(2), cs(2);
  std::vector<Dense<T>> da, dx;
  for (int i = 0; i < 2; ++i) {
    as[i] = a + i * ld * n;
    xs[i] = x + i * ld * columns;
    cs[i] = c + i * ld * n;
    da.emplace_back(as[i], n, n, ld);
    dx.emplace_back(xs[i], n, columns, ld);
  }
  Array<int> pivots(2 * n), info(2);
  int* with = pivoting ? pivots.data() : nullptr;
  Dense<T> identity(n, n);
  for (int i = 0; i < n; ++i) identity(i, i) = T(1);
  info[0] = info[1] = -1;
  blas.run<T>("matinvBatched", n, as.data(), ld, cs.data(), ld, info.data(), 2);
  CHECK(info.copy() == std::vector<int>{0, 0});
  for (std::size_t i = 0; i < 2; ++i) CHECK(distance(da[i] * Dense<T>(cs[i], n, n, ld), identity) < kNear<T>);
  info[0] = info[1] = -1;
  blas.run<T>("getrfBatched", n, as.data(), ld, with, info.data(), 2);
  CHECK(info.copy() == std::vector<int>{0, 0});
  int host_info = -1;
  blas.run<T>("getrsBatched", trans, n, columns, as.data(), ld, with, xs.data(), ld, &host_info, 2);
  CHECK(host_info == 0);
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(distance(da[i].op(trans) * Dense<T>(xs[i], n, columns, ld), dx[i]) < kNear<T>);
  }
  blas.run<T>("getriBatched", n, as.data(), ld, with, cs.data(), ld, info.data(), 2);
  for (std::size_t i = 0; i < 2; ++i) CHECK(distance(da[i] * Dense<T>(cs[i], n, n, ld), identity) < kNear<T>);
  CHECK(test::blas(letter<T>() + "getrsBatched", blas.handle, trans, n, -1, as.data(), ld, with, xs.data(), ld, &host_info, 2) ==
        7);
  CHECK(host_info == -3);
  for (int i = 0; i < ld * n; ++i) a[i] = T{};
  blas.run<T>("getrfBatched", n, as.data(), ld, with, info.data(), 1);
  CHECK(info[0] == 1);
}

TEMPLATE_TEST_CASE("Least squares and orthogonal factors in batches", "[cublas]", ALL_TYPES) {
  using T = TestType;
  Blas blas;
  const int m = 6, n = 3, ld = 7;
  Array<T> a(ld * n), b(ld), tau(n), qr(ld * n);
  const Dense<T> da(a, m, n, ld), db(b, m, 1, ld);
  for (int i = 0; i < ld * n; ++i) qr[i] = a[i];
  Array<T*> as(1), bs(1), taus(1), qrs(1);
  as[0] = a;
  bs[0] = b;
  taus[0] = tau;
  qrs[0] = qr;
  int info = -1;
  blas.run<T>("geqrfBatched", m, n, qrs.data(), ld, taus.data(), &info, 1);
  CHECK(info == 0);
  const auto r = Dense<T>(qr, n, n, ld).triangle(1, 2);
  CHECK(distance(r.op(2) * r, da.op(2) * da) < kNear<T>);
  Array<int> singular(1);
  blas.run<T>("gelsBatched", 0, m, n, 1, as.data(), ld, bs.data(), ld, &info, singular.data(), 1);
  CHECK(singular[0] == 0);
  const Dense<T> x(b, n, 1, ld);
  CHECK(distance(da.op(2) * (da * x), da.op(2) * db) < kNear<T>);
}
