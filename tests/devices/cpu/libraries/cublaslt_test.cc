// cuBLASLt on the CPU device: products by descriptors, in either order, with epilogues.
#include <algorithm>
#include <cmath>

#include "cublas_support.h"

using namespace test;

namespace {

template <class... Args>
int lt(const std::string& name, Args... args) {
  return call(AVEC_CPU_CUBLASLT, "cublasLt" + name, args...);
}

void* layout(int type, int rows, int columns, int ld, int order = 0, int batches = 1, std::int64_t stride = 0) {
  void* made = nullptr;
  REQUIRE(lt("MatrixLayoutCreate", &made, type, std::uint64_t(rows), std::uint64_t(columns), std::int64_t{ld}) == 0);
  REQUIRE(lt("MatrixLayoutSetAttribute", made, 1, static_cast<const void*>(&order), sizeof order) == 0);
  REQUIRE(lt("MatrixLayoutSetAttribute", made, 5, static_cast<const void*>(&batches), sizeof batches) == 0);
  REQUIRE(lt("MatrixLayoutSetAttribute", made, 6, static_cast<const void*>(&stride), sizeof stride) == 0);
  return made;
}
template <class T>
void set(void* product, int attribute, T value) {
  REQUIRE(lt("MatmulDescSetAttribute", product, attribute, static_cast<const void*>(&value), sizeof value) == 0);
}

Dense<float> read(const float* at, int rows, int columns, int ld, int order) {
  return order == 0 ? Dense<float>(at, rows, columns, ld) : Dense<float>(at, columns, rows, ld).op(1);
}

}  // namespace

TEST_CASE("Products by descriptors: orders, transposes, batches, bias and functions", "[cublaslt]") {
  Context context;
  void *handle = nullptr, *product = nullptr, *preference = nullptr;
  REQUIRE(lt("Create", &handle) == 0);
  REQUIRE(lt("MatmulDescCreate", &product, 68, 0) == 0);
  REQUIRE(lt("MatmulPreferenceCreate", &preference) == 0);
  const int order_a = GENERATE(0, 1), order_b = GENERATE(0, 1), order_d = GENERATE(0, 1), trans = GENERATE(0, 1);
  const int epilogue = GENERATE(1, 2, 4, 6, 32, 36), m = 5, n = 4, k = 3, ld = 7, batches = 2;
  Array<float> a(120), b(120), c(120), d(120), bias(m);
  set(product, 3, trans);
  set(product, 4, trans);
  set(product, 7, epilogue);
  set(product, 8, static_cast<const void*>(bias.data()));
  void* la = layout(0, trans == 0 ? m : k, trans == 0 ? k : m, ld, order_a, batches, 60);
  void* lb = layout(0, trans == 0 ? k : n, trans == 0 ? n : k, ld, order_b, batches, 60);
  void* lc = layout(0, m, n, ld, order_d, batches, 60);
  struct {
    std::uint64_t algorithm[8];
    std::size_t workspace;
    int status;
    float waves;
    int reserved[4];
  } heuristic{};
  int found = 0;
  REQUIRE(lt("MatmulAlgoGetHeuristic", handle, product, la, lb, lc, lc, preference, 1, &heuristic, &found) == 0);
  CHECK(found == 1);
  const float alpha = 1.5F, beta = -0.5F;
  const CUstream stream = make_stream();
  REQUIRE(lt("Matmul", handle, product, &alpha, a.data(), la, b.data(), lb, &beta, c.data(), lc, d.data(), lc, &heuristic,
             static_cast<void*>(nullptr), std::size_t{0}, stream) == 0);
  OK(cuStreamSynchronize(stream));
  for (int batch = 0; batch < batches; ++batch) {
    const int at = 60 * batch;
    const auto da = read(a + at, trans == 0 ? m : k, trans == 0 ? k : m, ld, order_a).op(trans);
    const auto db = read(b + at, trans == 0 ? k : n, trans == 0 ? n : k, ld, order_b).op(trans);
    auto expected = alpha * (da * db) + beta * read(c + at, m, n, ld, order_d);
    for (int j = 0; j < n; ++j) {
      for (int i = 0; i < m; ++i) {
        float& x = expected(i, j);
        if ((epilogue & 4) != 0) x += bias[static_cast<std::size_t>(i)];
        if ((epilogue & 2) != 0) x = std::max(x, 0.0F);
        if ((epilogue & 32) != 0) x = 0.5F * x * (1 + std::tanh(0.79788456F * (x + 0.044715F * x * x * x)));
      }
    }
    CHECK(distance(read(d + at, m, n, ld, order_d), expected) < 1e-4);
  }
  set(product, 7, 1024);
  CHECK(lt("MatmulAlgoGetHeuristic", handle, product, la, lb, lc, lc, preference, 1, &heuristic, &found) == 15);
  CHECK(found == 0);
  for (void* each : {la, lb, lc}) CHECK(lt("MatrixLayoutDestroy", each) == 0);
  CHECK(lt("MatmulPreferenceDestroy", preference) == 0);
  CHECK(lt("MatmulDescDestroy", product) == 0);
  CHECK(lt("Destroy", handle) == 0);
  OK(cuStreamDestroy(stream));
}

TEST_CASE("Sizes that do not fit are refused, attributes can be read back", "[cublaslt]") {
  Context context;
  void *handle = nullptr, *product = nullptr;
  REQUIRE(lt("Create", &handle) == 0);
  REQUIRE(lt("MatmulDescCreate", &product, 68, 0) == 0);
  Array<float> a(64);
  void *square = layout(0, 4, 4, 4), *wide = layout(0, 4, 5, 4);
  const float one = 1;
  const auto run = [&](void* la, void* lb) {
    return lt("Matmul", handle, product, &one, a.data(), la, a.data(), lb, &one, a.data(), square, a.data(), square,
              static_cast<void*>(nullptr), static_cast<void*>(nullptr), std::size_t{0}, CUstream{nullptr});
  };
  CHECK(run(square, wide) == 7);
  CHECK(run(wide, square) == 7);
  CHECK(run(square, square) == 0);
  OK(cuCtxSynchronize());
  std::uint64_t columns = 0;
  std::size_t written = 0;
  CHECK(lt("MatrixLayoutGetAttribute", wide, 3, static_cast<void*>(&columns), sizeof columns, &written) == 0);
  CHECK(columns == 5);
  CHECK(written == 8);
  CHECK(lt("MatrixLayoutGetAttribute", wide, 3, static_cast<void*>(&columns), std::size_t{4}, &written) == 7);
  for (void* each : {square, wide}) CHECK(lt("MatrixLayoutDestroy", each) == 0);
  CHECK(lt("MatmulDescDestroy", product) == 0);
  CHECK(lt("Destroy", handle) == 0);
}
