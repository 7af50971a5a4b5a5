// How calls of cuBLAS on the CPU device behave: order, pointer modes, captures, errors, settings.
#include <cmath>

#include "cublas_support.h"

using namespace test;

namespace {
constexpr int kOk = 0, kNotInitialized = 1, kInvalidValue = 7, kNotSupported = 15;
const float kOne = 1, kTwo = 2, kNone = 0;
}  // namespace

TEST_CASE("A call runs in the order of the handle's stream", "[cublas]") {
  Blas it;
  Gate gate;
  Array<float> x(4);
  x[0] = 3;
  gate.close(it.stream);
  REQUIRE(blas("Sscal_v2", it.handle, 1, &kTwo, x.data(), 1) == kOk);
  CHECK(cuStreamQuery(it.stream) == CUDA_ERROR_NOT_READY);
  CHECK(x[0] == 3);
  gate.open();
  OK(cuStreamSynchronize(it.stream));
  CHECK(x[0] == 6);
}

TEST_CASE("A scalar on the host is taken when the call is made", "[cublas]") {
  Blas it;
  Gate gate;
  Array<float> x(1);
  x[0] = 3;
  gate.close(it.stream);
  float alpha = 2;
  REQUIRE(blas("Sscal_v2", it.handle, 1, static_cast<const float*>(&alpha), x.data(), 1) == kOk);
  alpha = 100;
  gate.open();
  OK(cuStreamSynchronize(it.stream));
  CHECK(x[0] == 6);
}

TEST_CASE("In device pointer mode scalars are read, and results written, when the work runs", "[cublas]") {
  Blas it;
  Gate gate;
  Array<float> x(2), alpha(1), sum(1);
  x[0] = 3;
  x[1] = -4;
  sum[0] = 0;
  REQUIRE(blas("SetPointerMode_v2", it.handle, 1) == kOk);
  gate.close(it.stream);
  alpha[0] = 1;
  REQUIRE(blas("Sscal_v2", it.handle, 2, static_cast<const float*>(alpha.data()), x.data(), 1) == kOk);
  REQUIRE(blas("Sasum_v2", it.handle, 2, static_cast<const float*>(x.data()), 1, sum.data()) == kOk);
  alpha[0] = 10;
  CHECK(sum[0] == 0);
  gate.open();
  OK(cuStreamSynchronize(it.stream));
  CHECK(sum[0] == 70);
}

TEST_CASE("A result on the host is there when the call returns", "[cublas]") {
  Blas it;
  Array<float> x(1000);
  for (int i = 0; i < 1000; ++i) x[i] = 1;
  float sum = 0;
  REQUIRE(blas("Sscal_v2", it.handle, 1000, &kTwo, x.data(), 1) == kOk);
  REQUIRE(blas("Sasum_v2", it.handle, 1000, static_cast<const float*>(x.data()), 1, &sum) == kOk);
  CHECK(sum == 2000);
}

TEST_CASE("A captured call becomes a node that every launch of the graph runs", "[cublas]") {
  Blas it;
  Array<float> x(1);
  x[0] = 1;
  OK(cuStreamBeginCapture(it.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  {
    float alpha = 3;
    REQUIRE(blas("Sscal_v2", it.handle, 1, static_cast<const float*>(&alpha), x.data(), 1) == kOk);
  }
  CUgraph graph = nullptr;
  OK(cuStreamEndCapture(it.stream, &graph));
  CUgraphExec exec = nullptr;
  OK(cuGraphInstantiate(&exec, graph, 0));
  OK(cuGraphDestroy(graph));
  CHECK(x[0] == 1);
  for (int i = 0; i < 3; ++i) OK(cuGraphLaunch(exec, it.stream));
  OK(cuStreamSynchronize(it.stream));
  CHECK(x[0] == 27);
  OK(cuGraphExecDestroy(exec));
}

TEST_CASE("A result on the host can not be captured", "[cublas]") {
  Blas it;
  Array<float> x(1);
  OK(cuStreamBeginCapture(it.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  float sum = 0;
  CHECK(blas("Sasum_v2", it.handle, 1, static_cast<const float*>(x.data()), 1, &sum) == 13);
  CUgraph graph = nullptr;
  OK(cuStreamEndCapture(it.stream, &graph));
  OK(cuGraphDestroy(graph));
}

TEST_CASE("Wrong arguments are refused at once and nothing runs", "[cublas]") {
  Blas it;
  Array<float> a(64), b(64), c(64);
  const auto before = c.copy();
  const auto gemm = [&](void* handle, int transa, int m, int n, int k, const float* alpha, int lda, int ldb, int ldc) {
    return blas("Sgemm_v2", handle, transa, 0, m, n, k, alpha, a.data(), lda, b.data(), ldb, &kNone, c.data(), ldc);
  };
  CHECK(gemm(nullptr, 0, 4, 4, 4, &kOne, 4, 4, 4) == kNotInitialized);
  CHECK(gemm(it.handle, 5, 4, 4, 4, &kOne, 4, 4, 4) == kInvalidValue);
  CHECK(gemm(it.handle, 0, -1, 4, 4, &kOne, 4, 4, 4) == kInvalidValue);
  CHECK(gemm(it.handle, 0, 4, -1, 4, &kOne, 4, 4, 4) == kInvalidValue);
  CHECK(gemm(it.handle, 0, 4, 4, -1, &kOne, 4, 4, 4) == kInvalidValue);
  CHECK(gemm(it.handle, 0, 4, 4, 4, nullptr, 4, 4, 4) == kInvalidValue);
  CHECK(gemm(it.handle, 0, 4, 4, 4, &kOne, 3, 4, 4) == kInvalidValue);
  CHECK(gemm(it.handle, 0, 4, 4, 4, &kOne, 4, 3, 4) == kInvalidValue);
  CHECK(gemm(it.handle, 0, 4, 4, 4, &kOne, 4, 4, 3) == kInvalidValue);
  CHECK(gemm(it.handle, 1, 4, 4, 5, &kOne, 4, 5, 4) == kInvalidValue);
  CHECK(gemm(it.handle, 0, 0, 4, 4, &kOne, 1, 4, 1) == kOk);
  OK(cuStreamSynchronize(it.stream));
  CHECK(c.copy() == before);
  CHECK(gemm(it.handle, 0, 4, 4, 4, &kOne, 4, 4, 4) == kOk);
  OK(cuStreamSynchronize(it.stream));
  CHECK(c.copy() != before);

  const auto gemv = [&](int lda, int incx, int incy) {
    return blas("Sgemv_v2", it.handle, 0, 4, 4, &kOne, a.data(), lda, b.data(), incx, &kNone, c.data(), incy);
  };
  CHECK(gemv(3, 1, 1) == kInvalidValue);
  CHECK(gemv(4, 0, 1) == kInvalidValue);
  CHECK(gemv(4, 1, 0) == kInvalidValue);
  float* nowhere = nullptr;
  CHECK(blas("Sasum_v2", it.handle, 1, static_cast<const float*>(a.data()), 1, nowhere) == kInvalidValue);
  CHECK(blas("Strsm_v2", it.handle, 0, 2, 0, 0, 4, 4, &kOne, a.data(), 4, b.data(), 4) == kInvalidValue);
  CHECK(blas("Strmm_v2", it.handle, 0, 0, 0, 0, 4, 4, &kOne, a.data(), 4, b.data(), 4, b.data(), 5) == kInvalidValue);
  const std::int64_t big = std::int64_t{1} << 40, one = 1;
  CHECK(blas("Sgemv_v2_64", it.handle, 0, one, one, &kOne, a.data(), big, b.data(), one, &kNone, c.data(), one) ==
        kNotSupported);
}

TEST_CASE("What is multiplied by a beta of zero is not read", "[cublas]") {
  Blas it;
  Array<float> a(1), y(1);
  a[0] = 2;
  y[0] = NAN;
  REQUIRE(blas("Sgemm_v2", it.handle, 0, 0, 1, 1, 1, &kOne, a.data(), 1, a.data(), 1, &kNone, y.data(), 1) == kOk);
  OK(cuStreamSynchronize(it.stream));
  CHECK(y[0] == 4);
  y[0] = NAN;
  REQUIRE(blas("Sgemv_v2", it.handle, 0, 1, 1, &kOne, a.data(), 1, a.data(), 1, &kNone, y.data(), 1) == kOk);
  OK(cuStreamSynchronize(it.stream));
  CHECK(y[0] == 4);
}

TEST_CASE("Work for a context that has failed is refused", "[cublas]") {
  Context context;
  void* handle = nullptr;
  REQUIRE(blas("Create_v2", &handle) == kOk);
  Array<float> x(1);
  REQUIRE(blas("SetStream_v2", handle, reinterpret_cast<CUstream>(0x1234)) == kOk);
  CHECK(blas("Sscal_v2", handle, 1, &kTwo, x.data(), 1) == 13);
  REQUIRE(blas("SetStream_v2", handle, CUstream{nullptr}) == kOk);
  CHECK(blas("Sscal_v2", handle, 1, &kTwo, x.data(), 1) == kOk);
  CHECK(blas("Destroy_v2", handle) == kOk);
}

TEST_CASE("Settings of a handle are kept and checked", "[cublas]") {
  Blas it;
  int value = -1;
  CHECK(blas("GetPointerMode_v2", it.handle, &value) == kOk);
  CHECK(value == 0);
  CHECK(blas("SetPointerMode_v2", it.handle, 2) == kInvalidValue);
  CHECK(blas("SetMathMode", it.handle, 3) == kOk);
  CHECK(blas("GetMathMode", it.handle, &value) == kOk);
  CHECK(value == 3);
  CHECK(blas("SetMathMode", it.handle, 1000) == kInvalidValue);
  CHECK(blas("SetAtomicsMode", it.handle, 1) == kOk);
  CHECK(blas("GetAtomicsMode", it.handle, &value) == kOk);
  CHECK(value == 1);
  CHECK(blas("GetVersion_v2", it.handle, &value) == kOk);
  CHECK(value / 10000 == 13);
  CUstream stream = nullptr;
  CHECK(blas("GetStream_v2", it.handle, &stream) == kOk);
  CHECK(stream == it.stream);
  CHECK(blas("GetStream_v2", static_cast<void*>(nullptr), &stream) == kNotInitialized);
}

TEST_CASE("Vectors and matrices are copied between host and device", "[cublas]") {
  Blas it;
  Array<float> device(64);
  std::vector<float> host(64), back(64);
  for (int i = 0; i < 64; ++i) host[static_cast<std::size_t>(i)] = static_cast<float>(i);
  REQUIRE(blas("SetVector", 5, 4, static_cast<const void*>(host.data()), 2, static_cast<void*>(device.data()), 3) == kOk);
  CHECK(device[12] == 8);
  REQUIRE(blas("GetVectorAsync", 5, 4, static_cast<const void*>(device.data()), 3, static_cast<void*>(back.data()), 1,
               it.stream) == kOk);
  OK(cuStreamSynchronize(it.stream));
  CHECK(back[4] == 8);
  REQUIRE(blas("SetMatrix", 3, 4, 4, static_cast<const void*>(host.data()), 8, static_cast<void*>(device.data()), 5) == kOk);
  CHECK(device[3 * 5 + 2] == 26);
  REQUIRE(blas("GetMatrix", 3, 4, 4, static_cast<const void*>(device.data()), 5, static_cast<void*>(back.data()), 3) == kOk);
  CHECK(back[11] == 26);
  CHECK(blas("SetMatrix", 3, 4, 4, static_cast<const void*>(host.data()), 2, static_cast<void*>(device.data()), 5) ==
        kInvalidValue);
}
