// cuBLASLt's product: D = epilogue(alpha op(A) op(B) + beta C), by cuBLAS's GemmStridedBatchedEx.
//
// One algorithm. Column- and row-major matrices; epilogues: bias, ReLU, GELU (its tanh form). These
// work on D as it is stored, so in half precision they round once more than NVIDIA's.
#include <algorithm>
#include <cmath>
#include <optional>

#include "devices/cpu/libraries/cublaslt/descriptors.h"

extern "C" {
int cublasCreate_v2(avec::cpu::blas::Handle** handle);
int cublasDestroy_v2(avec::cpu::blas::Handle* handle);
int cublasGemmStridedBatchedEx_64(avec::cpu::blas::Handle* handle, int transa, int transb, std::int64_t m, std::int64_t n,
                                  std::int64_t k, const void* alpha, const void* a, int a_type, std::int64_t lda,
                                  long long stride_a, const void* b, int b_type, std::int64_t ldb, long long stride_b,
                                  const void* beta, void* c, int c_type, std::int64_t ldc, long long stride_c,
                                  std::int64_t batches, int compute, int algorithm);
}

namespace avec::cpu::blas {
namespace {

using Number = std::int64_t;
constexpr int kRelu = 2, kWithBias = 4, kGelu = 32;

/// cublasLtMatmulAlgo_t and cublasLtMatmulHeuristicResult_t.
struct Algorithm {
  std::uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  std::size_t workspace_bytes;
  int status;
  float waves;
  int reserved[4];
};
static_assert(sizeof(Heuristic) == 96);

/// A matrix as if it were column-major: a row-major one is its transpose.
struct Matrix {
  int type;
  bool by_rows;
  Number rows, columns, ld, stride;
  int batches;
};
Matrix matrix_of(const Descriptor& layout) {
  Matrix m{layout.get<int>(kType), layout.get<int>(kOrder) == 1, static_cast<Number>(layout.get<std::uint64_t>(kRows)),
           static_cast<Number>(layout.get<std::uint64_t>(kColumns)), layout.get<std::int64_t>(kLd),
           layout.get<std::int64_t>(kStride), layout.get<int>(kBatches, 1)};
  if (m.by_rows) std::swap(m.rows, m.columns);
  return m;
}

/// What is to be done, checked. With D row-major everything is transposed, and A and B change places.
struct Plan {
  Matrix a, b, c, d;
  int transa, transb, compute, pointer_mode, epilogue, bias_type;
  Number m, n, k, bias_stride;
  const void* bias;
};

int plan_of(const Descriptor* product, const Descriptor* a, const Descriptor* b, const Descriptor* c,
            const Descriptor* d, Plan& plan) {
  if (product == nullptr || a == nullptr || b == nullptr || c == nullptr || d == nullptr) return kInvalidValue;
  for (const auto* layout : {a, b, c, d}) {
    const int order = layout->get<int>(kOrder);
    if (order != 0 && order != 1) return kNotSupported;
  }
  plan.a = matrix_of(*a);
  plan.b = matrix_of(*b);
  plan.c = matrix_of(*c);
  plan.d = matrix_of(*d);
  const bool complex = plan.d.type == kC32F || plan.d.type == kC64F;
  const auto op = [&](int attribute, bool turned) -> std::optional<int> {
    int trans = product->get<int>(attribute);
    if (trans == 2 && !complex) trans = 1;
    if (!turned) return trans;
    if (trans == 2) return std::nullopt;  // the conjugate alone: BLAS has none
    return 1 - trans;
  };
  const auto transa = op(kTransA, plan.a.by_rows != plan.d.by_rows), transb = op(kTransB, plan.b.by_rows != plan.d.by_rows);
  if (!transa || !transb || product->get<int>(kTransC) != 0 || plan.c.by_rows != plan.d.by_rows) return kNotSupported;
  plan.transa = *transa;
  plan.transb = *transb;
  if (plan.d.by_rows) {
    std::swap(plan.a, plan.b);
    std::swap(plan.transa, plan.transb);
  }
  plan.compute = product->get<int>(kComputeType);
  plan.pointer_mode = product->get<int>(kPointerMode);
  plan.epilogue = product->get<int>(kEpilogue, 1);
  plan.bias = product->get<const void*>(kBias);
  plan.bias_type = product->get<int>(kBiasType, plan.d.type);
  if (plan.bias_type < 0) plan.bias_type = plan.d.type;
  plan.bias_stride = product->get<std::int64_t>(kBiasStride);
  plan.m = plan.d.rows;
  plan.n = plan.d.columns;
  plan.k = plan.transa == 0 ? plan.a.columns : plan.a.rows;
  const auto fits = [](const Matrix& x, int trans, Number rows, Number columns) {
    return (trans == 0 ? x.rows == rows && x.columns == columns : x.rows == columns && x.columns == rows) &&
           is_ld(x.ld, x.rows);
  };
  if (!fits(plan.a, plan.transa, plan.m, plan.k) || !fits(plan.b, plan.transb, plan.k, plan.n) ||
      !fits(plan.c, 0, plan.m, plan.n) || !fits(plan.d, 0, plan.m, plan.n)) {
    return kInvalidValue;
  }
  for (const auto* x : {&plan.a, &plan.b, &plan.c}) {
    if (x->batches != plan.d.batches) return kInvalidValue;
  }
  const auto is_real = [](int type) { return type == kR32F || type == kR64F || type == kR16F || type == kR16BF; };
  const bool known = is_real(plan.d.type) || complex;
  const int shape = plan.epilogue & ~kWithBias;
  const bool plain = plan.epilogue == 1;
  if (!known || plan.c.type != plan.d.type || plan.pointer_mode > 1) return kNotSupported;
  if (!plain && (!is_real(plan.d.type) || !is_real(plan.bias_type))) return kNotSupported;
  if (!plain && shape != 0 && shape != kRelu && shape != kGelu) return kNotSupported;
  return kOk;
}

double load(const void* from, int type, Number i) {
  switch (type) {
    case kR64F:
      return static_cast<const double*>(from)[i];
    case kR16F:
      return static_cast<const Half*>(from)[i];
    case kR16BF:
      return static_cast<const Bfloat16*>(from)[i];
    default:
      return static_cast<const float*>(from)[i];
  }
}
void store(void* to, int type, Number i, double value) {
  switch (type) {
    case kR64F:
      static_cast<double*>(to)[i] = value;
      break;
    case kR16F:
      static_cast<Half*>(to)[i] = Half(static_cast<float>(value));
      break;
    case kR16BF:
      static_cast<Bfloat16*>(to)[i] = Bfloat16(static_cast<float>(value));
      break;
    default:
      static_cast<float*>(to)[i] = static_cast<float>(value);
  }
}

/// A bias of one number per row of D, then the function.
void finish(const Plan& plan, void* d) {
  const bool biased = (plan.epilogue & kWithBias) != 0;
  for (int batch = 0; batch < plan.d.batches; ++batch) {
    for (Number column = 0; column < plan.n; ++column) {
      for (Number row = 0; row < plan.m; ++row) {
        const Number at = batch * plan.d.stride + column * plan.d.ld + row;
        double x = load(d, plan.d.type, at);
        const Number line = plan.d.by_rows ? column : row;
        if (biased) x += load(plan.bias, plan.bias_type, batch * plan.bias_stride + line);
        if ((plan.epilogue & kRelu) != 0) x = x > 0 ? x : 0;
        if ((plan.epilogue & kGelu) != 0) x = 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
        store(d, plan.d.type, at, x);
      }
    }
  }
}

std::size_t bytes_of(int type) {
  return type == kR16F || type == kR16BF ? 2 : type == kR64F || type == kC32F ? 8 : type == kC64F ? 16 : 4;
}

void copy(const Plan& plan, const void* from, void* to) {
  const auto bytes = static_cast<Number>(bytes_of(plan.d.type));
  for (int batch = 0; batch < plan.d.batches; ++batch) {
    for (Number column = 0; column < plan.n; ++column) {
      std::memcpy(static_cast<char*>(to) + (batch * plan.d.stride + column * plan.d.ld) * bytes,
                  static_cast<const char*>(from) + (batch * plan.c.stride + column * plan.c.ld) * bytes,
                  static_cast<std::size_t>(plan.m * bytes));
    }
  }
}

}  // namespace

AVEC_EXPORT int cublasLtCreate(Handle** handle) { return cublasCreate_v2(handle); }
AVEC_EXPORT int cublasLtDestroy(Handle* handle) { return cublasDestroy_v2(handle); }
AVEC_EXPORT std::size_t cublasLtGetVersion() { return 130100; }
AVEC_EXPORT std::size_t cublasLtGetCudartVersion() { return CUDA_VERSION; }
AVEC_EXPORT int cublasLtGetProperty(int type, int* value) {
  if (value == nullptr || type < 0 || type > 2) return kInvalidValue;
  *value = type == 0 ? 13 : type == 1 ? 1 : 0;
  return kOk;
}

AVEC_EXPORT int cublasLtMatmul(Handle* handle, const Descriptor* product, const void* alpha, const void* a,
                               const Descriptor* a_layout, const void* b, const Descriptor* b_layout, const void* beta,
                               const void* c, const Descriptor* c_layout, void* d, const Descriptor* d_layout,
                               const Algorithm*, void*, std::size_t, CUstream stream) {
  if (handle == nullptr) return kNotInitialized;
  Plan plan;
  if (const int bad = plan_of(product, a_layout, b_layout, c_layout, d_layout, plan)) return bad;
  const bool biased = plan.epilogue != 1 && (plan.epilogue & kWithBias) != 0;
  if (alpha == nullptr || beta == nullptr || (biased && plan.bias == nullptr)) return kInvalidValue;
  Handle one;  // its settings are taken when the call is made
  one.stream = stream;
  one.pointer_mode = plan.pointer_mode;
  if (c != nullptr && c != d) {
    if (const auto bad = run(&one, [plan, c, d] { copy(plan, c, d); })) return bad;
  }
  const void *first = plan.d.by_rows ? b : a, *second = plan.d.by_rows ? a : b;
  const int bad = cublasGemmStridedBatchedEx_64(
      &one, plan.transa, plan.transb, plan.m, plan.n, plan.k, alpha, first, plan.a.type, plan.a.ld, plan.a.stride, second,
      plan.b.type, plan.b.ld, plan.b.stride, beta, d, plan.d.type, plan.d.ld, plan.d.stride, plan.d.batches, plan.compute, -1);
  if (bad != kOk || plan.epilogue == 1) return bad;
  return run(&one, [plan, d] { finish(plan, d); });
}

AVEC_EXPORT int cublasLtMatmulAlgoCheck(Handle* handle, const Descriptor* product, const Descriptor* a,
                                        const Descriptor* b, const Descriptor* c, const Descriptor* d, const Algorithm*,
                                        Heuristic* result) {
  if (handle == nullptr) return kNotInitialized;
  Plan plan;
  const int status = plan_of(product, a, b, c, d, plan);
  if (result != nullptr) *result = {{}, 0, status, 1.0F, {}};
  return status;
}

AVEC_EXPORT int cublasLtMatmulAlgoGetHeuristic(Handle* handle, const Descriptor* product, const Descriptor* a,
                                               const Descriptor* b, const Descriptor* c, const Descriptor* d,
                                               const Descriptor*, int wanted, Heuristic* results, int* count) {
  if (handle == nullptr) return kNotInitialized;
  if (wanted <= 0 || results == nullptr || count == nullptr) return kInvalidValue;
  *count = 0;
  if (const int bad = cublasLtMatmulAlgoCheck(handle, product, a, b, c, d, nullptr, results)) return bad;
  *count = 1;
  return kOk;
}

AVEC_EXPORT int cublasLtMatmulAlgoGetIds(Handle* handle, int, int, int, int, int, int, int wanted, int* ids, int* count) {
  if (handle == nullptr) return kNotInitialized;
  if (wanted <= 0 || ids == nullptr) return kInvalidValue;
  ids[0] = 0;
  if (count != nullptr) *count = 1;
  return kOk;
}
AVEC_EXPORT int cublasLtMatmulAlgoInit(Handle* handle, int, int, int, int, int, int, int id, Algorithm* algorithm) {
  if (handle == nullptr) return kNotInitialized;
  if (id != 0 || algorithm == nullptr) return kInvalidValue;
  *algorithm = {};
  return kOk;
}

}  // namespace avec::cpu::blas
