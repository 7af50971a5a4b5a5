// cuFFT: transforms against sums on the host, there and back, plans in steps as frameworks make them, errors.
#include <cufft.h>
#include <cufftXt.h>

#include <complex>

#include "library.h"

namespace {

using Complex = std::complex<float>;

std::vector<Complex> signal(std::size_t count) {
  std::vector<Complex> values(count);
  for (std::size_t i = 0; i < count; ++i)
    values[i] = {static_cast<float>((i * 37) % 101) / 101 - 0.5f,
                 static_cast<float>((i * 53) % 89) / 89 - 0.5f};
  return values;
}

void expect_transform(const std::vector<Complex>& in, const std::vector<Complex>& out, std::size_t n,
                      std::size_t batch) {
  for (std::size_t b = 0; b < batch; ++b) {
    for (std::size_t k = 0; k < n; k += 7) {
      std::complex<double> sum = 0;
      for (std::size_t i = 0; i < n; ++i)
        sum += std::complex<double>(in[b * n + i]) *
               std::polar(1.0, -2 * M_PI * static_cast<double>((i * k) % n) / static_cast<double>(n));
      EXPECT(std::abs(sum - std::complex<double>(out[b * n + k])) < 1e-3);
    }
  }
}

void one_dimension() {
  constexpr int kSize = 420, kBatch = 4;
  const auto in = signal(kSize * kBatch);
  Device<Complex> data(in), out(in.size());
  cufftHandle plan;
  CHECK(cufftPlan1d(&plan, kSize, CUFFT_C2C, kBatch));
  auto* from = reinterpret_cast<cufftComplex*>(data.data);
  auto* to = reinterpret_cast<cufftComplex*>(out.data);
  CHECK(cufftExecC2C(plan, from, to, CUFFT_FORWARD));
  expect_transform(in, out.host(), kSize, kBatch);
  show("C2C forward", out.host());
  CHECK(cufftExecC2C(plan, to, to, CUFFT_INVERSE));
  const auto back = out.host();
  for (std::size_t i = 0; i < in.size(); ++i)
    EXPECT(std::abs(back[i] / static_cast<float>(kSize) - in[i]) < 1e-4f);
  CHECK(cufftDestroy(plan));
  std::printf("transform with a destroyed plan: %d\n", cufftExecC2C(plan, from, to, CUFFT_FORWARD));
}

void real_in_two_dimensions() {
  constexpr int kRows = 48, kColumns = 64;
  std::vector<float> in(kRows * kColumns);
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>((i * 29) % 97);
  Device<float> data(in), back(in.size());
  Device<Complex> middle(kRows * (kColumns / 2 + 1));
  cufftHandle forward, inverse;
  CHECK(cufftPlan2d(&forward, kRows, kColumns, CUFFT_R2C));
  CHECK(cufftPlan2d(&inverse, kRows, kColumns, CUFFT_C2R));
  cudaStream_t stream;
  CHECK(cudaStreamCreate(&stream));
  CHECK(cufftSetStream(forward, stream));
  CHECK(cufftSetStream(inverse, stream));
  CHECK(cufftExecR2C(forward, data, reinterpret_cast<cufftComplex*>(middle.data)));
  CHECK(cufftExecC2R(inverse, reinterpret_cast<cufftComplex*>(middle.data), back));
  CHECK(cudaStreamSynchronize(stream));
  const auto result = back.host();
  for (std::size_t i = 0; i < in.size(); ++i)
    EXPECT(std::fabs(result[i] / (kRows * kColumns) - in[i]) < 1e-3f);
  show("R2C and back", result);
  CHECK(cufftDestroy(forward));
  CHECK(cufftDestroy(inverse));
  CHECK(cudaStreamDestroy(stream));
}

/// Twice, since the second plan of one kind costs no round trip.
void in_steps() {
  constexpr long long kSize = 3 * 5 * 7 * 11, kBatch = 2;
  const auto in = signal(kSize * kBatch);
  for (int round = 0; round < 2; ++round) {
    Device<Complex> data(in), out(in.size());
    cufftHandle plan;
    CHECK(cufftCreate(&plan));
    CHECK(cufftSetAutoAllocation(plan, 0));
    long long n[] = {kSize};
    std::size_t work = ~std::size_t{0};
    CHECK(cufftXtMakePlanMany(plan, 1, n, nullptr, 1, kSize, CUDA_C_32F, nullptr, 1, kSize, CUDA_C_32F,
                              kBatch, &work, CUDA_C_32F));
    std::size_t size = 0;
    CHECK(cufftGetSize(plan, &size));
    EXPECT(size == work);
    Device<char> area(work + 1);
    CHECK(cufftSetWorkArea(plan, area.data));
    CHECK(cufftXtExec(plan, data.data, out.data, CUFFT_FORWARD));
    expect_transform(in, out.host(), kSize, kBatch);
    std::printf("work area %zu\n", work);
    show("in steps", out.host());
    CHECK(cufftDestroy(plan));
  }
}

void errors() {
  cufftHandle plan;
  std::printf("no elements: %d\n", cufftPlan1d(&plan, 0, CUFFT_C2C, 1));
  std::printf("a type that does not exist: %d\n", cufftPlan1d(&plan, 8, static_cast<cufftType>(1), 1));
  int n[] = {8, 8, 8, 8};
  std::printf("four dimensions: %d\n",
              cufftPlanMany(&plan, 4, n, nullptr, 1, 0, nullptr, 1, 0, CUFFT_C2C, 1));
  int version = 0;
  CHECK(cufftGetVersion(&version));
  EXPECT(version / 1000 == CUFFT_VERSION / 1000);
}

}  // namespace

int main() {
  one_dimension();
  real_in_two_dimensions();
  in_steps();
  errors();
  std::puts("cufft: ok");
  return 0;
}
