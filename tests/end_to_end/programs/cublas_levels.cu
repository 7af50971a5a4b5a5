// cuBLAS and cuRAND as programs use them: every level in every type, batches, half precision, both
// pointer modes, streams, a graph, factorisations. All results are compared with the host's own sums.
#include <cublas_v2.h>
#include <cuComplex.h>
#include <cuda_fp16.h>
#include <curand.h>

#include <complex>

#include "program.h"

#define BLAS(call)                                                                 \
  do {                                                                             \
    const cublasStatus_t status_ = (call);                                         \
    if (status_ != CUBLAS_STATUS_SUCCESS) {                                        \
      std::printf("%s:%d: %s: %d\n", __FILE__, __LINE__, #call, (int)status_);     \
      std::exit(1);                                                                \
    }                                                                              \
  } while (0)
#define RAND(call) EXPECT((call) == CURAND_STATUS_SUCCESS)

namespace {

using Complex = std::complex<float>;
using DoubleComplex = std::complex<double>;

unsigned state = 1;
double next_number() { return ((state = state * 1664525u + 1013904223u) >> 8) / double(1 << 23) - 1; }
void next_number(float& x) { x = (float)next_number(); }
void next_number(double& x) { x = next_number(); }
void next_number(Complex& x) { x = {(float)next_number(), (float)next_number()}; }
void next_number(DoubleComplex& x) { x = {next_number(), next_number()}; }

template <class T>
struct Array {
  explicit Array(std::size_t n) : host(n) {
    for (T& x : host) next_number(x);
    CUDA_CHECK(cudaMalloc(&device, n * sizeof(T)));
    put();
  }
  ~Array() { cudaFree(device); }
  void put() { CUDA_CHECK(cudaMemcpy(device, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice)); }
  std::vector<T> get() const {
    std::vector<T> now(host.size());
    CUDA_CHECK(cudaMemcpy(now.data(), device, now.size() * sizeof(T), cudaMemcpyDeviceToHost));
    return now;
  }
  std::vector<T> host;
  T* device = nullptr;
};

// The functions of one type, by overloading: C++'s complex numbers are laid out as CUDA's.
cuComplex* raw(Complex* p) { return reinterpret_cast<cuComplex*>(p); }
const cuComplex* raw(const Complex* p) { return reinterpret_cast<const cuComplex*>(p); }
cuDoubleComplex* raw(DoubleComplex* p) { return reinterpret_cast<cuDoubleComplex*>(p); }
const cuDoubleComplex* raw(const DoubleComplex* p) { return reinterpret_cast<const cuDoubleComplex*>(p); }
template <class T>
T* raw(T* p) { return p; }
template <class T>
struct Functions;
#define FUNCTIONS(T, L, DOT, GER)                                                                    \
  template <>                                                                                        \
  struct Functions<T> {                                                                              \
    static constexpr auto axpy = cublas##L##axpy;                                                    \
    static constexpr auto scal = cublas##L##scal;                                                    \
    static constexpr auto dot = cublas##L##DOT;                                                      \
    static constexpr auto gemv = cublas##L##gemv;                                                    \
    static constexpr auto ger = cublas##L##GER;                                                      \
    static constexpr auto trsv = cublas##L##trsv;                                                    \
    static constexpr auto gemm = cublas##L##gemm;                                                    \
    static constexpr auto syrk = cublas##L##syrk;                                                    \
    static constexpr auto trsm = cublas##L##trsm;                                                    \
    static constexpr auto trmm = cublas##L##trmm;                                                    \
    static constexpr auto geam = cublas##L##geam;                                                    \
    static constexpr auto strided = cublas##L##gemmStridedBatched;                                   \
    static constexpr auto batched = cublas##L##gemmBatched;                                          \
    static constexpr auto getrf = cublas##L##getrfBatched;                                           \
    static constexpr auto getrs = cublas##L##getrsBatched;                                           \
  };
FUNCTIONS(float, S, dot, ger)
FUNCTIONS(double, D, dot, ger)
FUNCTIONS(Complex, C, dotu, geru)
FUNCTIONS(DoubleComplex, Z, dotu, geru)

template <class T>
bool near(const std::vector<T>& a, const std::vector<T>& b) {
  const double limit = sizeof(std::abs(T())) == 4 ? 2e-4 : 1e-10;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!(std::abs(a[i] - b[i]) < limit)) {
      std::printf("element %zu of %zu differs by %g\n", i, a.size(), (double)std::abs(a[i] - b[i]));
      return false;
    }
  }
  return true;
}

// C = alpha A B + beta C, all of n by n.
template <class T>
void multiply(const T* a, const T* b, T* c, int n, T alpha, T beta) {
  for (int j = 0; j < n; ++j) {
    for (int i = 0; i < n; ++i) {
      T sum{};
      for (int k = 0; k < n; ++k) sum += a[k * n + i] * b[j * n + k];
      c[j * n + i] = alpha * sum + beta * c[j * n + i];
    }
  }
}

template <class T>
void levels(cublasHandle_t handle) {
  using F = Functions<T>;
  const int n = 33;
  const T alpha = T(1.5), beta = T(-0.5), one = T(1), none{};
  Array<T> a(n * n), b(n * n), c(n * n), x(n), y(n);

  std::vector<T> expected = y.host;
  for (int i = 0; i < n; ++i) expected[i] = beta * (expected[i] + alpha * x.host[i]);
  BLAS(F::axpy(handle, n, raw(&alpha), raw(x.device), 1, raw(y.device), 1));
  BLAS(F::scal(handle, n, raw(&beta), raw(y.device), 1));
  EXPECT(near(y.get(), expected));
  T dot{}, sum{};
  for (int i = 0; i < n; ++i) sum += x.host[i] * expected[i];
  BLAS(F::dot(handle, n, raw(x.device), 1, raw(y.device), 1, raw(&dot)));
  EXPECT(near(std::vector<T>{dot}, {sum}));

  for (int i = 0; i < n; ++i) {
    T row{};
    for (int k = 0; k < n; ++k) row += a.host[i * n + k] * x.host[k];  // transposed
    expected[i] = alpha * row + beta * expected[i];
  }
  BLAS(F::gemv(handle, CUBLAS_OP_T, n, n, raw(&alpha), raw(a.device), n, raw(x.device), 1, raw(&beta), raw(y.device), 1));
  EXPECT(near(y.get(), expected));
  std::vector<T> matrix = a.host;
  for (int j = 0; j < n; ++j) {
    for (int i = 0; i < n; ++i) matrix[j * n + i] += alpha * x.host[i] * expected[j];
  }
  BLAS(F::ger(handle, n, n, raw(&alpha), raw(x.device), 1, raw(y.device), 1, raw(a.device), n));
  EXPECT(near(a.get(), matrix));
  a.put();

  matrix = c.host;
  multiply(a.host.data(), b.host.data(), matrix.data(), n, alpha, beta);
  BLAS(F::gemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, n, n, n, raw(&alpha), raw(a.device), n, raw(b.device), n, raw(&beta),
               raw(c.device), n));
  EXPECT(near(c.get(), matrix));

  // A with a strong diagonal, so that solving with it is well conditioned.
  for (int i = 0; i < n; ++i) a.host[i * n + i] += T(8);
  a.put();
  b.put();
  BLAS(F::trmm(handle, CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_N, CUBLAS_DIAG_NON_UNIT, n, n, raw(&one),
               raw(a.device), n, raw(b.device), n, raw(c.device), n));
  BLAS(F::trsm(handle, CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_N, CUBLAS_DIAG_NON_UNIT, n, n, raw(&one),
               raw(a.device), n, raw(c.device), n));
  EXPECT(near(c.get(), b.host));
  BLAS(F::trsv(handle, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_N, CUBLAS_DIAG_NON_UNIT, n, raw(a.device), n, raw(x.device), 1));
  const auto solved = x.get();
  std::vector<T> back(n);
  for (int j = 0; j < n; ++j) {
    for (int i = j; i < n; ++i) back[i] += a.host[j * n + i] * solved[j];
  }
  EXPECT(near(back, x.host));

  std::vector<T> turned(n * n);
  for (int j = 0; j < n; ++j) {
    for (int i = 0; i < n; ++i) turned[j * n + i] = b.host[i * n + j];
  }
  matrix.assign(n * n, T{});
  multiply(b.host.data(), turned.data(), matrix.data(), n, one, none);
  BLAS(F::syrk(handle, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_N, n, n, raw(&one), raw(b.device), n, raw(&none), raw(c.device), n));
  auto triangle = c.get();
  for (int j = 0; j < n; ++j) {
    for (int i = 0; i < j; ++i) triangle[j * n + i] = matrix[j * n + i];
  }
  EXPECT(near(triangle, matrix));
  BLAS(F::geam(handle, CUBLAS_OP_T, CUBLAS_OP_N, n, n, raw(&one), raw(b.device), n, raw(&none), raw(a.device), n,
               raw(c.device), n));
  EXPECT(near(c.get(), turned));
}

template <class T>
void batches(cublasHandle_t handle) {
  using F = Functions<T>;
  const int n = 12, count = 3;
  const T alpha = T(1.5), beta = T(-0.5);
  Array<T> a(n * n * count), b(n * n * count), c(n * n * count);
  std::vector<T> expected = c.host;
  for (int i = 0; i < count; ++i) {
    multiply(a.host.data() + i * n * n, b.host.data() + i * n * n, expected.data() + i * n * n, n, alpha, beta);
  }
  BLAS(F::strided(handle, CUBLAS_OP_N, CUBLAS_OP_N, n, n, n, raw(&alpha), raw(a.device), n, n * n, raw(b.device), n, n * n,
                  raw(&beta), raw(c.device), n, n * n, count));
  EXPECT(near(c.get(), expected));
  c.put();
  using Raw = std::remove_pointer_t<decltype(raw((T*)nullptr))>;
  std::vector<Raw*> lists[3];
  Raw** on_device = nullptr;
  CUDA_CHECK(cudaMalloc(&on_device, 3 * count * sizeof(Raw*)));
  Array<T>* arrays[] = {&a, &b, &c};
  for (int k = 0; k < 3; ++k) {
    for (int i = 0; i < count; ++i) lists[k].push_back(raw(arrays[k]->device + i * n * n));
    CUDA_CHECK(cudaMemcpy(on_device + k * count, lists[k].data(), count * sizeof(Raw*), cudaMemcpyHostToDevice));
  }
  BLAS(F::batched(handle, CUBLAS_OP_N, CUBLAS_OP_N, n, n, n, raw(&alpha), on_device, n, on_device + count, n, raw(&beta),
                  on_device + 2 * count, n, count));
  EXPECT(near(c.get(), expected));

  // Solve A X = B by factors, and multiply again.
  int *pivots = nullptr, *info = nullptr, wrong = -1;
  CUDA_CHECK(cudaMalloc(&pivots, n * count * sizeof(int)));
  CUDA_CHECK(cudaMalloc(&info, count * sizeof(int)));
  for (int i = 0; i < n * count; ++i) a.host[i / n * n * n + i % n * n + i % n] += T(6);
  a.put();
  BLAS(F::getrf(handle, n, on_device, n, pivots, info, count));
  BLAS(F::getrs(handle, CUBLAS_OP_N, n, n, on_device, n, pivots, on_device + count, n, &wrong, count));
  EXPECT(wrong == 0);
  const auto solved = b.get();
  std::vector<T> back(n * n * count);
  for (int i = 0; i < count; ++i) {
    multiply(a.host.data() + i * n * n, solved.data() + i * n * n, back.data() + i * n * n, n, T(1), T{});
  }
  EXPECT(near(back, b.host));
  CUDA_CHECK(cudaFree(on_device));
  CUDA_CHECK(cudaFree(pivots));
  CUDA_CHECK(cudaFree(info));
}

void half_precision(cublasHandle_t handle) {
  const int n = 16;
  std::vector<__half> host(n * n);
  std::vector<float> exact(n * n);
  for (int i = 0; i < n * n; ++i) host[i] = __float2half(exact[i] = (float)(i * 7 % 9 - 4) / 4);
  __half* a = nullptr;
  float* c = nullptr;
  CUDA_CHECK(cudaMalloc(&a, n * n * sizeof(__half)));
  CUDA_CHECK(cudaMalloc(&c, n * n * sizeof(float)));
  CUDA_CHECK(cudaMemcpy(a, host.data(), n * n * sizeof(__half), cudaMemcpyHostToDevice));
  const float one = 1, none = 0;
  BLAS(cublasGemmEx(handle, CUBLAS_OP_N, CUBLAS_OP_N, n, n, n, &one, a, CUDA_R_16F, n, a, CUDA_R_16F, n, &none, c, CUDA_R_32F,
                    n, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
  std::vector<float> expected(n * n), result(n * n);
  multiply(exact.data(), exact.data(), expected.data(), n, 1.0f, 0.0f);
  CUDA_CHECK(cudaMemcpy(result.data(), c, n * n * sizeof(float), cudaMemcpyDeviceToHost));
  EXPECT(result == expected);
  CUDA_CHECK(cudaFree(a));
  CUDA_CHECK(cudaFree(c));
}

__global__ void square(float* x, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) x[i] *= x[i];
}

// Kernels and products in turn on one stream, scalars in device memory, and the same in a graph.
void streams_and_graphs(cublasHandle_t handle) {
  const int n = 1000;
  cudaStream_t stream;
  CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  BLAS(cublasSetStream(handle, stream));
  BLAS(cublasSetPointerMode(handle, CUBLAS_POINTER_MODE_DEVICE));
  Array<float> x(n), scalars(2);
  x.host.assign(n, 1.0f);
  x.put();
  const auto work = [&] {
    BLAS(cublasSasum(handle, n, x.device, 1, scalars.device));
    BLAS(cublasSscal(handle, n, scalars.device + 1, x.device, 1));
    square<<<(n + 255) / 256, 256, 0, stream>>>(x.device, n);
    BLAS(cublasSscal(handle, n, scalars.device + 1, x.device, 1));
  };
  scalars.host[1] = 2;
  scalars.put();
  work();
  CUDA_CHECK(cudaStreamSynchronize(stream));
  EXPECT(scalars.get()[0] == 1000.0f);
  EXPECT(x.get() == std::vector<float>(n, 8.0f));
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  work();
  CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
  CUDA_CHECK(cudaGraphInstantiate(&exec, graph, 0));
  x.host.assign(n, 0.5f);
  x.put();
  for (int i = 0; i < 3; ++i) CUDA_CHECK(cudaGraphLaunch(exec, stream));
  CUDA_CHECK(cudaStreamSynchronize(stream));
  EXPECT(x.get() == std::vector<float>(n, 8192.0f));  // each launch makes 8 x^2 of x
  CUDA_CHECK(cudaGraphExecDestroy(exec));
  CUDA_CHECK(cudaGraphDestroy(graph));
  BLAS(cublasSetPointerMode(handle, CUBLAS_POINTER_MODE_HOST));
  BLAS(cublasSetStream(handle, nullptr));
  CUDA_CHECK(cudaStreamDestroy(stream));
}

void random_numbers() {
  const int n = 100000;
  for (const curandRngType type : {CURAND_RNG_PSEUDO_DEFAULT, CURAND_RNG_PSEUDO_MRG32K3A, CURAND_RNG_PSEUDO_MTGP32,
                                   CURAND_RNG_PSEUDO_MT19937, CURAND_RNG_PSEUDO_PHILOX4_32_10, CURAND_RNG_QUASI_SOBOL32}) {
    curandGenerator_t generator;
    RAND(curandCreateGenerator(&generator, type));
    if (type < CURAND_RNG_QUASI_DEFAULT) RAND(curandSetPseudoRandomGeneratorSeed(generator, 42));
    Array<float> x(n), y(n);
    RAND(curandGenerateUniform(generator, x.device, n));
    RAND(curandGenerateNormal(generator, y.device, n, 3, 2));
    double mean = 0, normal_mean = 0, variance = 0;
    for (const float v : x.get()) {
      EXPECT(v > 0 && v <= 1);
      mean += v / n;
    }
    for (const float v : y.get()) {
      normal_mean += v / n;
      variance += (v - 3.0) * (v - 3.0) / n;
    }
    EXPECT(std::abs(mean - 0.5) < 0.01 && std::abs(normal_mean - 3) < 0.05 && std::abs(variance - 4) < 0.2);
    RAND(curandDestroyGenerator(generator));
  }
  // The same numbers wherever the program runs.
  curandGenerator_t generator;
  RAND(curandCreateGenerator(&generator, CURAND_RNG_PSEUDO_PHILOX4_32_10));
  RAND(curandSetPseudoRandomGeneratorSeed(generator, 42));
  unsigned* words = nullptr;
  CUDA_CHECK(cudaMalloc(&words, 16));
  RAND(curandGenerate(generator, words, 4));
  unsigned first[4];
  CUDA_CHECK(cudaMemcpy(first, words, 16, cudaMemcpyDeviceToHost));
  std::printf("philox: %08x %08x %08x %08x\n", first[0], first[1], first[2], first[3]);
  CUDA_CHECK(cudaFree(words));
  RAND(curandDestroyGenerator(generator));
}

}  // namespace

int main() {
  cublasHandle_t handle;
  BLAS(cublasCreate(&handle));
  levels<float>(handle);
  levels<double>(handle);
  levels<Complex>(handle);
  levels<DoubleComplex>(handle);
  batches<float>(handle);
  batches<double>(handle);
  batches<Complex>(handle);
  batches<DoubleComplex>(handle);
  half_precision(handle);
  streams_and_graphs(handle);
  BLAS(cublasDestroy(handle));
  random_numbers();
  std::puts("passed");
  return 0;
}
