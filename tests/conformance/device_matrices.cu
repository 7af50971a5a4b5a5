// Matrices of a warp: wmma of all types, mma.sync with ldmatrix, against whole numbers of the host.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>

#include <type_traits>

#include "device_memory.h"

using namespace nvcuda;

template <class L>
constexpr bool by_row = std::is_same<L, wmma::row_major>::value;

template <int M, int N, int K, class T, class A, class LA, class LB>
__global__ void multiply(const T* a, const T* b, const A* c, A* d) {
  wmma::fragment<wmma::matrix_a, M, N, K, T, LA> fa;
  wmma::fragment<wmma::matrix_b, M, N, K, T, LB> fb;
  wmma::fragment<wmma::accumulator, M, N, K, A> fc;
  wmma::load_matrix_sync(fa, a, by_row<LA> ? K : M);
  wmma::load_matrix_sync(fb, b, by_row<LB> ? N : K);
  wmma::load_matrix_sync(fc, c, N, wmma::mem_row_major);
  wmma::mma_sync(fc, fa, fb, fc);
  for (int i = 0; i < fc.num_elements; ++i) fc.x[i] = fc.x[i] + A(1);
  wmma::store_matrix_sync(d, fc, M, wmma::mem_col_major);
}

template <int M, int N, int K, class T, class A, class LA, class LB>
void check(const char* name) {
  std::vector<T> a, b;
  std::vector<A> c;
  for (int i = 0; i < M * K; ++i) a.push_back(T(float(i * 7 % 5)));
  for (int i = 0; i < K * N; ++i) b.push_back(T(float(i * 3 % 4)));
  for (int i = 0; i < M * N; ++i) c.push_back(A(float(i % 9)));
  Values<T> da(a), db(b);
  Values<A> dc(c), dd(std::vector<A>(M * N, A(0.0f)));
  multiply<M, N, K, T, A, LA, LB><<<1, 32>>>(da.device(), db.device(), dc.device(), dd.device());
  int wrong = 0;
  const auto& d = dd.get();
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < N; ++j) {
      float sum = float(c[i * N + j]) + 1;
      for (int k = 0; k < K; ++k) sum += float(by_row<LA> ? a[i * K + k] : a[k * M + i]) * float(by_row<LB> ? b[k * N + j] : b[j * K + k]);
      wrong += float(d[j * M + i]) != sum;
    }
  }
  say("%s: %d wrong", name, wrong);
}

using Row = wmma::row_major;
using Column = wmma::col_major;

CASE(wmma_of_halves) {
  check<16, 16, 16, __half, float, Row, Column>("16x16x16 to float");
  check<16, 16, 16, __half, __half, Column, Row>("16x16x16 to half");
  check<32, 8, 16, __half, float, Row, Row>("32x8x16 to float");
  check<8, 32, 16, __half, float, Column, Column>("8x32x16 to float");
}
CASE(wmma_of_bfloats) {
  check<16, 16, 16, __nv_bfloat16, float, Row, Row>("16x16x16");
  check<32, 8, 16, __nv_bfloat16, float, Column, Row>("32x8x16");
}
CASE(wmma_of_doubles) { check<8, 8, 4, double, double, Row, Column>("8x8x4"); }
CASE(wmma_of_bytes) {
  check<16, 16, 16, signed char, int, Row, Column>("signed 16x16x16");
  check<8, 32, 16, unsigned char, int, Column, Row>("unsigned 8x32x16");
}

__global__ void with_ldmatrix(const __half* a, const __half* b, float* d) {
  __shared__ __half sa[16 * 16], sb[16 * 8];
  const int lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32) sa[i] = a[i];
  for (int i = lane; i < 128; i += 32) sb[i] = b[i];
  __syncwarp();
  unsigned ra[4], rb[2];
  const unsigned pa = __cvta_generic_to_shared(sa + lane % 16 * 16 + lane / 16 * 8), pb = __cvta_generic_to_shared(sb + lane % 16 * 8);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(ra[0]), "=r"(ra[1]), "=r"(ra[2]), "=r"(ra[3]) : "r"(pa));
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];" : "=r"(rb[0]), "=r"(rb[1]) : "r"(pb));
  float sum[4] = {1, 2, 3, 4};
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
               : "r"(ra[0]), "r"(ra[1]), "r"(ra[2]), "r"(ra[3]), "r"(rb[0]), "r"(rb[1]));
  for (int i = 0; i < 4; ++i) d[lane * 4 + i] = sum[i];
}
CASE(mma_fed_by_ldmatrix) {
  std::vector<__half> a, b;
  for (int i = 0; i < 256; ++i) a.push_back(__float2half(i % 11 - 3));
  for (int i = 0; i < 128; ++i) b.push_back(__float2half(i % 7 - 2));
  Values<__half> da(a), db(b);
  Values<float> d(128);
  with_ldmatrix<<<1, 32>>>(da.device(), db.device(), d.device());
  int wrong = 0;
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      float sum = i + 1;
      for (int k = 0; k < 16; ++k) sum += __half2float(a[row * 16 + k]) * __half2float(b[k * 8 + column]);
      wrong += d.get()[lane * 4 + i] != sum;
    }
  }
  say("%d wrong", wrong);
}

__global__ void small_integers(int* out) {
  const unsigned lane = threadIdx.x, a = lane * 0x01010101u, b = 0x7F7F7F7Fu;
  int s8[2] = {1, 2}, s4[2] = {0, 0}, b1[2] = {0, 0}, full[2] = {0x7FFFFFFF, -5};
  asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.u8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};" : "+r"(s8[0]), "+r"(s8[1]) : "r"(a), "r"(b));
  asm volatile("mma.sync.aligned.m8n8k32.row.col.s32.s4.s4.s32 {%0,%1}, {%2}, {%3}, {%0,%1};"
               : "+r"(s4[0]), "+r"(s4[1]) : "r"(0x7F7F7F7Fu), "r"(0x22222222u));
  asm volatile("mma.sync.aligned.m8n8k128.row.col.s32.b1.b1.s32.and.popc {%0,%1}, {%2}, {%3}, {%0,%1};"
               : "+r"(b1[0]), "+r"(b1[1]) : "r"(0xFFu), "r"(0x3Fu));
  asm volatile("mma.sync.aligned.m8n8k16.row.col.satfinite.s32.s8.s8.s32 {%0,%1}, {%2}, {%2}, {%0,%1};"
               : "+r"(full[0]), "+r"(full[1]) : "r"(0x01010101u));
  out[lane * 2] = s8[0];
  out[lane * 2 + 1] = s8[1];
  if (lane == 0) {
    out[64] = s4[0];
    out[65] = b1[1];
    out[66] = full[0];
    out[67] = full[1];
  }
}
CASE(mma_of_small_integers) {
  Values<int> out(68);
  small_integers<<<1, 32>>>(out.device());
  print("sums", out.get());
}

__global__ void moved(int* out) {
  __shared__ alignas(16) unsigned short tile[64];
  const unsigned lane = threadIdx.x;
  tile[2 * lane] = 2 * lane;
  tile[2 * lane + 1] = 2 * lane + 1;
  __syncwarp();
  unsigned row, turned;
  const unsigned at = __cvta_generic_to_shared(tile + lane % 8 * 8);
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(row) : "r"(at));
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(turned) : "r"(row));
  __syncwarp();
  asm volatile("stmatrix.sync.aligned.m8n8.x1.shared.b16 [%0], {%1};" ::"r"(at), "r"(turned) : "memory");
  __syncwarp();
  out[lane] = tile[lane];
}
CASE(a_matrix_is_transposed) {
  Values<int> out(32);
  moved<<<1, 32>>>(out.device());
  print("rows", out.get());
}

__global__ void of_tf32(const float* a, const float* b, float* c) {
  wmma::fragment<wmma::matrix_a, 16, 16, 8, wmma::precision::tf32, wmma::row_major> fa;
  wmma::fragment<wmma::matrix_b, 16, 16, 8, wmma::precision::tf32, wmma::col_major> fb;
  wmma::fragment<wmma::accumulator, 16, 16, 8, float> fc;
  wmma::fill_fragment(fc, 0.5f);
  wmma::load_matrix_sync(fa, a, 8);
  wmma::load_matrix_sync(fb, b, 8);
  for (int i = 0; i < fa.num_elements; ++i) fa.x[i] = wmma::__float_to_tf32(fa.x[i]);
  wmma::mma_sync(fc, fa, fb, fc);
  wmma::store_matrix_sync(c, fc, 16, wmma::mem_row_major);
}
CASE(wmma_of_tf32) {
  std::vector<float> a, b;
  for (int i = 0; i < 128; ++i) {
    a.push_back(i % 13);
    b.push_back(i % 5);
  }
  Values<float> da(a), db(b), dc(256);
  of_tf32<<<1, 32>>>(da.device(), db.device(), dc.device());
  int wrong = 0;
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) {
      float sum = 0.5f;
      for (int k = 0; k < 8; ++k) sum += a[i * 8 + k] * b[j * 8 + k];
      wrong += dc.get()[i * 16 + j] != sum;
    }
  }
  say("%d wrong", wrong);
}
