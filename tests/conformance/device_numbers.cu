// Arithmetic: integers and bits, rounding, conversions, small floats, mathematical functions.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cmath>

#include "device_memory.h"

__global__ void bits(unsigned a, unsigned b, int s, int* out) {
  int i = 0;
  out[i++] = __brev(a);
  out[i++] = __clz(a) * 10000 + __ffs(a) * 100 + __popc(a);
  out[i++] = __byte_perm(a, b, 0x7351);
  out[i++] = __funnelshift_l(a, b, 40);
  out[i++] = __funnelshift_rc(a, b, 40);
  out[i++] = __umulhi(a, b);
  out[i++] = __mulhi(s, static_cast<int>(b));
  out[i++] = __sad(s, 5, 3);
  out[i++] = __dp4a(static_cast<int>(a), s, 7);
  out[i++] = __dp2a_lo(a, b, 9u);
  out[i++] = __vadd4(a, b);
  out[i++] = __vmaxs2(a, b);
  out[i++] = __vabsdiffu4(a, b);
  out[i++] = __uhadd(a, b);
  out[i++] = __fns(a, 0, 3);
  out[i++] = s >> 3;
  out[i++] = s % 7;
}
CASE(integers_and_bits) {
  Values<int> out(17);
  bits<<<1, 1>>>(0x12345678u, 0x9ABCDEF0u, -1000, out.device());
  print("bits", out.get());
}

__global__ void wide(long long a, unsigned long long b, long long* out) {
  out[0] = __mul64hi(a, static_cast<long long>(b));
  out[1] = __umul64hi(static_cast<unsigned long long>(a), b);
  out[2] = __brevll(b);
  out[3] = a / 1000003;
  out[4] = b % 1000003;
  const __int128 product = static_cast<__int128>(a) * static_cast<long long>(b);
  out[5] = static_cast<long long>(product >> 32);
  out[6] = static_cast<long long>(product / 12345678901LL);
}
CASE(integers_of_64_and_128_bits) {
  const long long a = -1234567890123456789LL;
  const unsigned long long b = 0x0123456789ABCDEFULL;
  Values<long long> out(7);
  wide<<<1, 1>>>(a, b, out.device());
  const __int128 product = static_cast<__int128>(a) * static_cast<long long>(b);
  unsigned long long reversed = 0;
  for (int i = 0; i < 64; ++i) reversed |= (b >> i & 1) << (63 - i);
  const long long expected[] = {static_cast<long long>(product >> 64),
                                static_cast<long long>(static_cast<unsigned __int128>(static_cast<unsigned long long>(a)) * b >> 64),
                                static_cast<long long>(reversed), a / 1000003, static_cast<long long>(b % 1000003),
                                static_cast<long long>(product >> 32), static_cast<long long>(product / 12345678901LL)};
  for (int i = 0; i < 7; ++i) say("%d %s", i, out.get()[i] == expected[i] ? "equal" : "different");
}

__global__ void roundings(float a, float b, double c, double d, int* out) {
  out[0] = __float_as_int(__fadd_rn(a, b));
  out[1] = __float_as_int(__fadd_rz(a, b));
  out[2] = __float_as_int(__fdiv_ru(a, b));
  out[3] = __float_as_int(__fdiv_rd(a, b));
  out[4] = __float_as_int(__fsqrt_ru(b));
  out[5] = __float_as_int(__fmaf_rd(a, b, -a));
  out[6] = __double2hiint(__dadd_ru(c, d));
  out[7] = __double2loint(__dadd_rd(c, d));
  out[8] = __double2loint(__ddiv_rz(c, d));
  out[9] = __double2loint(__fma_ru(c, d, -1.0));
  out[10] = __float2int_rd(-2.5f) * 1000 + __float2int_ru(-2.5f) * 100 + __float2int_rn(2.5f) * 10 + __float2int_rz(2.9f);
  out[11] = __float2int_rz(3e9f);
  out[12] = __float2int_rz(__int_as_float(0x7FC00000));
  out[13] = __float2uint_rz(-5.0f);
  out[14] = __double2int_rn(1e300);
  out[15] = __float_as_int(__saturatef(1.5f));
}
CASE(directed_rounding_and_conversion) {
  Values<int> out(16);
  roundings<<<1, 1>>>(1.0f, 3.0f, 1.0, 3.0, out.device());
  print("bits", out.get());
}

__global__ void halves(__half a, __half b, int* out) {
  int i = 0;
  const auto put = [&](__half x) { out[i++] = __half_as_ushort(x); };
  put(__hadd(a, b));
  put(__hmul(a, b));
  put(__hdiv(a, b));
  put(__hfma(a, b, a));
  put(hsqrt(b));
  put(__hmax(a, b));
  put(__hmin_nan(a, __ushort_as_half(0x7E00)));
  put(__hadd_sat(b, b));
  put(__float2half_rz(1.0009f));
  put(__double2half(65520.0));
  put(__int2half_rn(2049));
  put(hrint(__hmul(a, b)));
  out[i++] = __half2int_rn(__float2half(-2.5f)) * 10 + __hlt(a, b);
  const __half2 pair = __hfma2(__halves2half2(a, b), __halves2half2(b, a), __float2half2_rn(0.5f));
  put(__low2half(pair));
  put(__high2half(pair));
  out[i++] = __hisnan(__ushort_as_half(0x7E00)) * 10 + __hisinf(__ushort_as_half(0xFC00));
}
CASE(half_precision) {
  Values<int> out(16);
  halves<<<1, 1>>>(__float2half(1.5f), __float2half(2.25f), out.device());
  print("bits", out.get());
}

__global__ void bfloats(__nv_bfloat16 a, __nv_bfloat16 b, int* out) {
  int i = 0;
  const auto put = [&](__nv_bfloat16 x) { out[i++] = __bfloat16_as_ushort(x); };
  put(__hadd(a, b));
  put(__hmul(a, b));
  put(__hfma(a, b, b));
  put(__hmax(a, b));
  put(__hneg(a));
  put(__float2bfloat16(1.00390625f));
  put(__float2bfloat16_ru(1.0001f));
  put(__double2bfloat16(3.0));
  put(__int2bfloat16_rn(257));
  out[i++] = __hge(a, b);
}
CASE(bfloat16) {
  Values<int> out(10);
  bfloats<<<1, 1>>>(__float2bfloat16(1.5f), __float2bfloat16(2.25f), out.device());
  print("bits", out.get());
}

__global__ void bytes(float a, float b, int* out) {
  out[0] = __nv_fp8_e4m3(a).__x;
  out[1] = __nv_fp8_e4m3(b).__x;
  out[2] = __nv_fp8_e5m2(a).__x;
  out[3] = __nv_fp8_e5m2(b).__x;
  out[4] = __nv_fp8_e4m3(-1000.0f).__x;
  out[5] = __nv_fp8x2_e4m3(make_float2(a, b)).__x;
  out[6] = static_cast<int>(64 * static_cast<float>(__nv_fp8_e4m3(b)));
  __nv_fp8_e5m2 small;
  small.__x = 0x01;
  out[7] = __float_as_int(static_cast<float>(small));
}
CASE(floats_of_8_bits) {
  Values<int> out(8);
  bytes<<<1, 1>>>(1.0f, 0.3f, out.device());
  print("bits", out.get());
}

// Every function against the host's in double precision: within CUDA's documented error.
template <class F>
__global__ void apply(F f, const double* in, double* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = f(in[i]);
}
#define FUNCTION(name, least, most)                                                            \
  struct Double_##name { __device__ double operator()(double x) const { return name(x); } };    \
  struct Single_##name { __device__ double operator()(double x) const { return name##f(float(x)); } }; \
  static void check_##name() {                                                                  \
    const int n = 64;                                                                           \
    std::vector<double> in;                                                                     \
    for (int i = 0; i < n; ++i) in.push_back(float(least + (double(most) - least) * i / (n - 1)));    \
    Values<double> from(in), twice(n), once(n);                                                 \
    apply<<<1, n>>>(Double_##name{}, from.device(), twice.device(), n);                         \
    apply<<<1, n>>>(Single_##name{}, from.device(), once.device(), n);                          \
    bool good_double = true, good_single = true;                                                \
    for (int i = 0; i < n; ++i) {                                                               \
      const double exact = ::name(in[i]);                                                       \
      good_double &= std::fabs(twice.get()[i] - exact) <= 1e-14 * std::fabs(exact) + 1e-15;     \
      good_single &= std::fabs(once.get()[i] - exact) <= 1e-6 * std::fabs(exact) + 1e-6;        \
    }                                                                                           \
    say(#name " double %s, single %s", good_double ? "good" : "bad", good_single ? "good" : "bad");  \
  }
FUNCTION(sin, -30, 30) FUNCTION(cos, -30, 30) FUNCTION(tan, -1.5, 1.5) FUNCTION(asin, -1, 1) FUNCTION(acos, -1, 1)
FUNCTION(atan, -50, 50) FUNCTION(sinh, -5, 5) FUNCTION(cosh, -5, 5) FUNCTION(tanh, -5, 5) FUNCTION(exp, -20, 5)
FUNCTION(exp2, -20, 5) FUNCTION(expm1, -2, 2) FUNCTION(log, 0.01, 100) FUNCTION(log2, 0.01, 100) FUNCTION(log10, 0.01, 100)
FUNCTION(log1p, -0.5, 10) FUNCTION(sqrt, 0, 100) FUNCTION(cbrt, -100, 100) FUNCTION(erf, -3, 3) FUNCTION(erfc, -2, 2)
FUNCTION(tgamma, 0.5, 6) FUNCTION(lgamma, 2.5, 20) FUNCTION(floor, -5, 5) FUNCTION(rint, -5, 5) FUNCTION(fabs, -5, 5)

CASE(trigonometry) { check_sin(); check_cos(); check_tan(); check_asin(); check_acos(); check_atan(); }
CASE(hyperbolic_functions) { check_sinh(); check_cosh(); check_tanh(); }
CASE(exponentials_and_logarithms) {
  check_exp(); check_exp2(); check_expm1(); check_log(); check_log2(); check_log10(); check_log1p();
}
CASE(roots_and_special_functions) { check_sqrt(); check_cbrt(); check_erf(); check_erfc(); check_tgamma(); check_lgamma(); }
CASE(integral_parts) { check_floor(); check_rint(); check_fabs(); }

__global__ void corners(int* out) {
  const float nan = nanf(""), infinity = 1.0f / 0.0f;
  out[0] = isnan(sqrtf(-1.0f)) + 10 * isinf(expf(100.0f)) + 100 * signbit(-0.0f);
  out[1] = __float_as_int(fminf(nan, 1.0f));
  out[2] = __float_as_int(fmaxf(-infinity, -5.0f));
  out[3] = __float_as_int(powf(0.0f, 0.0f));
  out[4] = __float_as_int(fmodf(7.5f, 2.0f));
  out[5] = __float_as_int(copysignf(3.0f, -0.0f));
  int exponent = 0;
  out[6] = __float_as_int(frexpf(12.0f, &exponent)) + exponent;
  out[7] = __float_as_int(nextafterf(1.0f, 2.0f));
  out[8] = __float_as_int(remainderf(7.5f, 2.0f));
  out[9] = ilogb(1000.0) + 100 * static_cast<int>(lrint(2.5)) + 10000 * static_cast<int>(lround(2.5));
  out[10] = __double2hiint(ldexp(1.0, -1070)) + __double2loint(ldexp(1.0, -1070));
}
CASE(corners_of_floats) {
  Values<int> out(11);
  corners<<<1, 1>>>(out.device());
  print("corners", out.get());
}
