// cuSOLVER: systems, eigenvalues and singular values of a small matrix, by the older and the 64-bit
// interface.
#include <cusolverDn.h>

#include "library.h"

namespace {

constexpr int kN = 24;

/// Symmetric, positive definite, of moderate condition. Column-major, as all here.
std::vector<double> matrix() {
  std::vector<double> a(kN * kN);
  for (int i = 0; i < kN; ++i)
    for (int j = 0; j < kN; ++j)
      a[static_cast<std::size_t>(j * kN + i)] = (i == j ? kN : 0) + 1.0 / (1 + std::abs(i - j));
  return a;
}

void expect_no_error(const Device<int>& info) { EXPECT(info.host()[0] == 0); }

void expect_solution(const std::vector<double>& a, const std::vector<double>& x) {
  for (int i = 0; i < kN; ++i) {
    double sum = 0;
    for (int j = 0; j < kN; ++j)
      sum += a[static_cast<std::size_t>(j * kN + i)] * x[static_cast<std::size_t>(j)];
    EXPECT(std::fabs(sum - (i + 1)) < 1e-9);
  }
}

std::vector<double> right_side() {
  std::vector<double> b(kN);
  for (int i = 0; i < kN; ++i) b[static_cast<std::size_t>(i)] = i + 1;
  return b;
}

void systems(cusolverDnHandle_t handle) {
  const auto a = matrix();
  Device<int> info(1), pivots(kN);
  for (int round = 0; round < 2; ++round) {
    Device<double> left(a), right(right_side());
    int size = 0;
    CHECK(cusolverDnDgetrf_bufferSize(handle, kN, kN, left, kN, &size));
    Device<double> work(static_cast<std::size_t>(size));
    CHECK(cusolverDnDgetrf(handle, kN, kN, left, kN, work, pivots, info));
    CHECK(cusolverDnDgetrs(handle, CUBLAS_OP_N, kN, 1, left, kN, pivots, right, kN, info));
    expect_no_error(info);
    expect_solution(a, right.host());
    show("getrs", right.host());
  }
  Device<double> left(a), right(right_side());
  int size = 0;
  CHECK(cusolverDnDpotrf_bufferSize(handle, CUBLAS_FILL_MODE_LOWER, kN, left, kN, &size));
  Device<double> work(static_cast<std::size_t>(size));
  CHECK(cusolverDnDpotrf(handle, CUBLAS_FILL_MODE_LOWER, kN, left, kN, work, size, info));
  CHECK(cusolverDnDpotrs(handle, CUBLAS_FILL_MODE_LOWER, kN, 1, left, kN, right, kN, info));
  expect_no_error(info);
  expect_solution(a, right.host());
  show("potrs", right.host());
}

void eigenvalues(cusolverDnHandle_t handle) {
  const auto a = matrix();
  Device<int> info(1);
  Device<double> left(a), values(kN);
  cusolverDnParams_t params;
  CHECK(cusolverDnCreateParams(&params));
  std::size_t on_device = 0, on_host = 0;
  CHECK(cusolverDnXsyevd_bufferSize(handle, params, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, kN,
                                    CUDA_R_64F, left, kN, CUDA_R_64F, values, CUDA_R_64F, &on_device,
                                    &on_host));
  Device<char> work(on_device);
  std::vector<char> host_work(on_host + 1);
  CHECK(cusolverDnXsyevd(handle, params, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, kN, CUDA_R_64F,
                         left, kN, CUDA_R_64F, values, CUDA_R_64F, work.data, on_device, host_work.data(),
                         on_host, info));
  expect_no_error(info);
  const auto found = values.host();
  double trace = 0;
  for (const double value : found) trace += value;
  EXPECT(std::fabs(trace - kN * (kN + 1.0)) < 1e-8);
  show("eigenvalues", found);
  CHECK(cusolverDnDestroyParams(params));
}

void singular_values(cusolverDnHandle_t handle) {
  const auto a = matrix();
  Device<int> info(1);
  Device<double> left(a), values(kN), u(kN * kN), v(kN * kN);
  gesvdjInfo_t params;
  CHECK(cusolverDnCreateGesvdjInfo(&params));
  CHECK(cusolverDnXgesvdjSetTolerance(params, 1e-12));
  CHECK(cusolverDnXgesvdjSetMaxSweeps(params, 50));
  int size = 0;
  CHECK(cusolverDnDgesvdj_bufferSize(handle, CUSOLVER_EIG_MODE_VECTOR, 0, kN, kN, left, kN, values, u, kN, v,
                                     kN, &size, params));
  Device<double> work(static_cast<std::size_t>(size));
  CHECK(cusolverDnDgesvdj(handle, CUSOLVER_EIG_MODE_VECTOR, 0, kN, kN, left, kN, values, u, kN, v, kN, work,
                          size, info, params));
  expect_no_error(info);
  const auto found = values.host();
  for (std::size_t i = 1; i < found.size(); ++i) EXPECT(found[i] <= found[i - 1]);
  show("singular values", found);
  int sweeps = 0;
  CHECK(cusolverDnXgesvdjGetSweeps(handle, params, &sweeps));
  EXPECT(sweeps > 0);
  CHECK(cusolverDnDestroyGesvdjInfo(params));
}

void errors(cusolverDnHandle_t handle) {
  int size = 0;
  std::printf("a matrix of negative size: %d\n",
              cusolverDnDgetrf_bufferSize(handle, -1, kN, nullptr, kN, &size));
  Device<double> singular(std::vector<double>(kN * kN, 0.0));
  Device<int> info(1), pivots(kN);
  CHECK(cusolverDnDgetrf_bufferSize(handle, kN, kN, singular, kN, &size));
  Device<double> work(static_cast<std::size_t>(size));
  CHECK(cusolverDnDgetrf(handle, kN, kN, singular, kN, work, pivots, info));
  std::printf("the zero matrix: info %d\n", info.host()[0]);
}

}  // namespace

int main() {
  cusolverDnHandle_t handle;
  CHECK(cusolverDnCreate(&handle));
  cudaStream_t stream, told;
  CHECK(cudaStreamCreate(&stream));
  CHECK(cusolverDnSetStream(handle, stream));
  CHECK(cusolverDnGetStream(handle, &told));
  EXPECT(told == stream);
  CHECK(cusolverDnSetStream(handle, nullptr));
  systems(handle);
  eigenvalues(handle);
  singular_values(handle);
  errors(handle);
  CHECK(cusolverDnDestroy(handle));
  CHECK(cudaStreamDestroy(stream));
  std::puts("cusolver: ok");
  return 0;
}
