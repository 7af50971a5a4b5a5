// cuSPARSE: products and solutions with a small matrix whose results are exact, by the generic and
// the older interface, scalars in host and device memory, sizes that are known only after a call.
#include <cusparse.h>

#include "library.h"

namespace {

constexpr int kN = 64;

/// 2 on the diagonal, 1 to the right of it, in every fourth row 3 in the first column.
struct Matrix {
  std::vector<int> offsets{0}, columns;
  std::vector<float> values;
  Matrix() {
    for (int row = 0; row < kN; ++row) {
      if (row % 4 == 3) add(0, 3);
      add(row, 2);
      if (row + 1 < kN) add(row + 1, 1);
      offsets.push_back(static_cast<int>(columns.size()));
    }
  }
  void add(int column, float value) {
    columns.push_back(column);
    values.push_back(value);
  }
  long long nonzero() const { return static_cast<long long>(values.size()); }
  std::vector<float> times(const std::vector<float>& x) const {
    std::vector<float> y(kN, 0.0f);
    for (std::size_t row = 0; row < kN; ++row)
      for (int i = offsets[row]; i < offsets[row + 1]; ++i)
        y[row] += values[static_cast<std::size_t>(i)] *
                  x[static_cast<std::size_t>(columns[static_cast<std::size_t>(i)])];
    return y;
  }
};

std::vector<float> vector_of(int first) {
  std::vector<float> values(kN);
  for (int i = 0; i < kN; ++i) values[static_cast<std::size_t>(i)] = static_cast<float>((first + i * 5) % 17);
  return values;
}

struct OnDevice {
  Device<int> offsets, columns;
  Device<float> values;
  cusparseSpMatDescr_t description;
  explicit OnDevice(const Matrix& m) : offsets(m.offsets), columns(m.columns), values(m.values) {
    CHECK(cusparseCreateCsr(&description, kN, kN, m.nonzero(), offsets, columns, values, CUSPARSE_INDEX_32I,
                            CUSPARSE_INDEX_32I, CUSPARSE_INDEX_BASE_ZERO, CUDA_R_32F));
  }
  ~OnDevice() { cusparseDestroySpMat(description); }
};

void vectors(cusparseHandle_t handle, const Matrix& m) {
  OnDevice a(m);
  for (int round = 0; round < 3; ++round) {
    const auto x = vector_of(round);
    Device<float> from(x), to(std::vector<float>(kN, 1.0f));
    cusparseDnVecDescr_t in, out;
    CHECK(cusparseCreateDnVec(&in, kN, from, CUDA_R_32F));
    CHECK(cusparseCreateDnVec(&out, kN, to, CUDA_R_32F));
    float alpha = 2, beta = 3;
    std::size_t size = 0;
    CHECK(cusparseSpMV_bufferSize(handle, CUSPARSE_OPERATION_NON_TRANSPOSE, &alpha, a.description, in, &beta,
                                  out, CUDA_R_32F, CUSPARSE_SPMV_ALG_DEFAULT, &size));
    Device<char> work(size);
    if (round == 2) {  // the scalars in device memory
      Device<float> scalars(std::vector<float>{alpha, beta});
      CHECK(cusparseSetPointerMode(handle, CUSPARSE_POINTER_MODE_DEVICE));
      CHECK(cusparseSpMV(handle, CUSPARSE_OPERATION_NON_TRANSPOSE, scalars.data, a.description, in,
                         scalars.data + 1, out, CUDA_R_32F, CUSPARSE_SPMV_ALG_DEFAULT, work.data));
      CHECK(cusparseSetPointerMode(handle, CUSPARSE_POINTER_MODE_HOST));
      CHECK(cudaDeviceSynchronize());
    } else {
      CHECK(cusparseSpMV(handle, CUSPARSE_OPERATION_NON_TRANSPOSE, &alpha, a.description, in, &beta, out,
                         CUDA_R_32F, CUSPARSE_SPMV_ALG_DEFAULT, work.data));
      alpha = 1000;  // read by the call, not by the kernel
    }
    const auto expected = m.times(x);
    const auto y = to.host();
    for (std::size_t i = 0; i < kN; ++i) EXPECT(y[i] == 2 * expected[i] + 3);
    show("SpMV", y);
    CHECK(cusparseDestroyDnVec(in));
    CHECK(cusparseDestroyDnVec(out));
  }
}

void matrices(cusparseHandle_t handle, const Matrix& m) {
  constexpr int kColumns = 5;
  OnDevice a(m);
  std::vector<float> b;
  for (int column = 0; column < kColumns; ++column) {
    const auto x = vector_of(column);
    b.insert(b.end(), x.begin(), x.end());
  }
  Device<float> from(b), to(b.size());
  cusparseDnMatDescr_t in, out;
  CHECK(cusparseCreateDnMat(&in, kN, kColumns, kN, from, CUDA_R_32F, CUSPARSE_ORDER_COL));
  CHECK(cusparseCreateDnMat(&out, kN, kColumns, kN, to, CUDA_R_32F, CUSPARSE_ORDER_COL));
  const float one = 1, zero = 0;
  std::size_t size = 0;
  CHECK(cusparseSpMM_bufferSize(handle, CUSPARSE_OPERATION_NON_TRANSPOSE, CUSPARSE_OPERATION_NON_TRANSPOSE,
                                &one, a.description, in, &zero, out, CUDA_R_32F, CUSPARSE_SPMM_ALG_DEFAULT,
                                &size));
  Device<char> work(size);
  CHECK(cusparseSpMM(handle, CUSPARSE_OPERATION_NON_TRANSPOSE, CUSPARSE_OPERATION_NON_TRANSPOSE, &one,
                     a.description, in, &zero, out, CUDA_R_32F, CUSPARSE_SPMM_ALG_DEFAULT, work.data));
  const auto c = to.host();
  for (int column = 0; column < kColumns; ++column) {
    const auto expected = m.times(vector_of(column));
    for (std::size_t i = 0; i < kN; ++i) EXPECT(c[static_cast<std::size_t>(column) * kN + i] == expected[i]);
  }
  show("SpMM", c);
  CHECK(cusparseDestroyDnMat(in));
  CHECK(cusparseDestroyDnMat(out));
}

/// The size of the product is known after its computation.
void sparse_product(cusparseHandle_t handle, const Matrix& m) {
  OnDevice a(m), b(m);
  Device<int> offsets(kN + 1);
  cusparseSpMatDescr_t c;
  CHECK(cusparseCreateCsr(&c, kN, kN, 0, nullptr, nullptr, nullptr, CUSPARSE_INDEX_32I, CUSPARSE_INDEX_32I,
                          CUSPARSE_INDEX_BASE_ZERO, CUDA_R_32F));
  const auto none = CUSPARSE_OPERATION_NON_TRANSPOSE;
  const float one = 1, zero = 0;
  cusparseSpGEMMDescr_t product;
  CHECK(cusparseSpGEMM_createDescr(&product));
  std::size_t first = 0, second = 0;
  CHECK(cusparseSpGEMM_workEstimation(handle, none, none, &one, a.description, b.description, &zero, c,
                                      CUDA_R_32F, CUSPARSE_SPGEMM_DEFAULT, product, &first, nullptr));
  Device<char> work1(first);
  CHECK(cusparseSpGEMM_workEstimation(handle, none, none, &one, a.description, b.description, &zero, c,
                                      CUDA_R_32F, CUSPARSE_SPGEMM_DEFAULT, product, &first, work1.data));
  CHECK(cusparseSpGEMM_compute(handle, none, none, &one, a.description, b.description, &zero, c, CUDA_R_32F,
                               CUSPARSE_SPGEMM_DEFAULT, product, &second, nullptr));
  Device<char> work2(second);
  CHECK(cusparseSpGEMM_compute(handle, none, none, &one, a.description, b.description, &zero, c, CUDA_R_32F,
                               CUSPARSE_SPGEMM_DEFAULT, product, &second, work2.data));
  std::int64_t rows, columns, nonzero;
  CHECK(cusparseSpMatGetSize(c, &rows, &columns, &nonzero));
  EXPECT(rows == kN && columns == kN && nonzero > m.nonzero());
  Device<int> found(static_cast<std::size_t>(nonzero));
  Device<float> values(static_cast<std::size_t>(nonzero));
  CHECK(cusparseCsrSetPointers(c, offsets, found, values));
  CHECK(cusparseSpGEMM_copy(handle, none, none, &one, a.description, b.description, &zero, c, CUDA_R_32F,
                            CUSPARSE_SPGEMM_DEFAULT, product));
  const auto x = vector_of(3);
  const auto expected = m.times(m.times(x));
  const auto at = offsets.host(), where = found.host();
  const auto what = values.host();
  for (std::size_t row = 0; row < kN; ++row) {
    float sum = 0;
    for (int i = at[row]; i < at[row + 1]; ++i)
      sum +=
          what[static_cast<std::size_t>(i)] * x[static_cast<std::size_t>(where[static_cast<std::size_t>(i)])];
    EXPECT(sum == expected[row]);
  }
  std::printf("SpGEMM has %lld elements\n", static_cast<long long>(nonzero));
  CHECK(cusparseSpGEMM_destroyDescr(product));
  CHECK(cusparseDestroySpMat(c));
}

/// The older interface: a sum of matrices whose size comes back in host memory; sorting.
void older(cusparseHandle_t handle, const Matrix& m) {
  cusparseMatDescr_t description;
  CHECK(cusparseCreateMatDescr(&description));
  CHECK(cusparseSetMatType(description, CUSPARSE_MATRIX_TYPE_GENERAL));
  CHECK(cusparseSetMatFillMode(description, CUSPARSE_FILL_MODE_UPPER));
  CHECK(cusparseSetMatIndexBase(description, CUSPARSE_INDEX_BASE_ZERO));
  EXPECT(cusparseGetMatFillMode(description) == CUSPARSE_FILL_MODE_UPPER);
  EXPECT(cusparseGetMatDiagType(description) == CUSPARSE_DIAG_TYPE_NON_UNIT);
  OnDevice a(m);
  const int count = static_cast<int>(m.nonzero());
  const float two = 2, three = 3;
  Device<int> offsets(kN + 1), columns(static_cast<std::size_t>(count));
  Device<float> values(static_cast<std::size_t>(count));
  std::size_t size = 0;
  CHECK(cusparseScsrgeam2_bufferSizeExt(handle, kN, kN, &two, description, count, a.values, a.offsets,
                                        a.columns, &three, description, count, a.values, a.offsets, a.columns,
                                        description, values, offsets, columns, &size));
  Device<char> work(size);
  int total = 0;
  CHECK(cusparseXcsrgeam2Nnz(handle, kN, kN, description, count, a.offsets, a.columns, description, count,
                             a.offsets, a.columns, description, offsets, &total, work.data));
  EXPECT(total == count);
  CHECK(cusparseScsrgeam2(handle, kN, kN, &two, description, count, a.values, a.offsets, a.columns, &three,
                          description, count, a.values, a.offsets, a.columns, description, values, offsets,
                          columns, work.data));
  const auto sum = values.host();
  for (std::size_t i = 0; i < sum.size(); ++i) EXPECT(sum[i] == 5 * m.values[i]);
  show("csrgeam2", sum);

  std::vector<int> rows, order;
  for (int i = 0; i < 100; ++i) {
    rows.push_back((i * 61) % 100);
    order.push_back(i);
  }
  Device<int> keys(rows), partners(order), permutation(100);
  CHECK(cusparseXcoosort_bufferSizeExt(handle, 100, 100, 100, keys, partners, &size));
  Device<char> space(size);
  CHECK(cusparseCreateIdentityPermutation(handle, 100, permutation));
  CHECK(cusparseXcoosortByRow(handle, 100, 100, 100, keys, partners, permutation, space.data));
  const auto sorted = keys.host();
  for (int i = 0; i < 100; ++i) EXPECT(sorted[static_cast<std::size_t>(i)] == i);
  show("coosort", permutation.host());
  CHECK(cusparseDestroyMatDescr(description));
}

void triangle(cusparseHandle_t handle) {
  Matrix m;
  m.offsets = {0};
  m.columns.clear();
  m.values.clear();
  for (int row = 0; row < kN; ++row) {  // lower: 1 on the diagonal, 1 left of it
    if (row > 0) m.add(row - 1, 1);
    m.add(row, 1);
    m.offsets.push_back(static_cast<int>(m.columns.size()));
  }
  OnDevice a(m);
  cusparseFillMode_t fill = CUSPARSE_FILL_MODE_LOWER;
  cusparseDiagType_t diagonal = CUSPARSE_DIAG_TYPE_NON_UNIT;
  CHECK(cusparseSpMatSetAttribute(a.description, CUSPARSE_SPMAT_FILL_MODE, &fill, sizeof fill));
  CHECK(cusparseSpMatSetAttribute(a.description, CUSPARSE_SPMAT_DIAG_TYPE, &diagonal, sizeof diagonal));
  const auto x = vector_of(1);
  Device<float> right(m.times(x)), left(kN);
  cusparseDnVecDescr_t in, out;
  CHECK(cusparseCreateDnVec(&in, kN, right, CUDA_R_32F));
  CHECK(cusparseCreateDnVec(&out, kN, left, CUDA_R_32F));
  cusparseSpSVDescr_t solver;
  CHECK(cusparseSpSV_createDescr(&solver));
  const float one = 1;
  const auto none = CUSPARSE_OPERATION_NON_TRANSPOSE;
  std::size_t size = 0;
  CHECK(cusparseSpSV_bufferSize(handle, none, &one, a.description, in, out, CUDA_R_32F,
                                CUSPARSE_SPSV_ALG_DEFAULT, solver, &size));
  Device<char> work(size);
  CHECK(cusparseSpSV_analysis(handle, none, &one, a.description, in, out, CUDA_R_32F,
                              CUSPARSE_SPSV_ALG_DEFAULT, solver, work.data));
  CHECK(cusparseSpSV_solve(handle, none, &one, a.description, in, out, CUDA_R_32F, CUSPARSE_SPSV_ALG_DEFAULT,
                           solver));
  EXPECT(left.host() == x);
  show("SpSV", left.host());
  CHECK(cusparseSpSV_destroyDescr(solver));
  CHECK(cusparseDestroyDnVec(in));
  CHECK(cusparseDestroyDnVec(out));
}

}  // namespace

int main() {
  cusparseHandle_t handle;
  CHECK(cusparseCreate(&handle));
  int version = 0;
  CHECK(cusparseGetVersion(handle, &version));
  EXPECT(version / 1000 == CUSPARSE_VER_MAJOR);
  const Matrix m;
  vectors(handle, m);
  matrices(handle, m);
  sparse_product(handle, m);
  older(handle, m);
  triangle(handle);
  cusparseDnVecDescr_t none;
  std::printf("a vector of negative size: %s\n",
              cusparseGetErrorName(cusparseCreateDnVec(&none, -1, nullptr, CUDA_R_32F)));
  CHECK(cusparseDestroy(handle));
  std::puts("cusparse: ok");
  return 0;
}
