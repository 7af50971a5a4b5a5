// Integer and float arithmetic, control flow, shared and local memory, calls.
#include <cassert>
#include <cstdio>

__constant__ float coefficients[4] = {1.0f, 2.0f, 3.0f, 4.0f};
__device__ int table_of_ten[10] = {0, 10, 20, 30, 40, 50, 60, 70, 80, 90};
__device__ int* third = table_of_ten + 3;
typedef int (*Function)(int);
__device__ __noinline__ int increment(int a) { return a + 1; }
__device__ __noinline__ int twice(int a) { return a * 2; }
__device__ __noinline__ int square(int a) { return a * a; }
__device__ Function functions[3] = {increment, twice, square};

extern "C" __global__ void vector_add(const float* a, const float* b, float* c, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) c[i] = a[i] + b[i];
}

struct Pair {
  float scale;
  double offset;
  char tag[5];
};
extern "C" __global__ void structure(double* out, Pair p) { out[threadIdx.x] = p.scale * threadIdx.x + p.offset + p.tag[2]; }

// 64 results per thread.
extern "C" __global__ void integers(const int* a, const int* b, long long* out) {
  const int i = threadIdx.x;
  const int x = a[i], y = b[i];
  const unsigned ux = x, uy = y;
  const long long lx = (long long)x * 1000003 + y, ly = (long long)y * 7919 + 1;
  const unsigned long long ulx = lx, uly = ly;
  long long* o = out + i * 48;
  int k = 0;
  o[k++] = x + y;
  o[k++] = x - y;
  o[k++] = x * y;
  o[k++] = y != 0 ? x / y : 0;
  o[k++] = y != 0 ? x % y : 0;
  o[k++] = uy != 0 ? ux / uy : 0;
  o[k++] = uy != 0 ? ux % uy : 0;
  o[k++] = lx / ly;
  o[k++] = lx % ly;
  o[k++] = ulx / uly;
  o[k++] = ulx % uly;
  o[k++] = __mulhi(x, y);
  o[k++] = __umulhi(ux, uy);
  o[k++] = __mul64hi(lx, ly);
  o[k++] = __umul64hi(ulx, uly);
  o[k++] = x & y;
  o[k++] = x | y;
  o[k++] = x ^ y;
  o[k++] = ~x;
  o[k++] = x << (y & 31);
  o[k++] = x >> (y & 31);
  o[k++] = ux >> (y & 31);
  o[k++] = lx << (y & 63);
  o[k++] = lx >> (y & 63);
  o[k++] = __popc(x);
  o[k++] = __popcll(lx);
  o[k++] = __clz(x);
  o[k++] = __clzll(lx);
  o[k++] = __brev(x);
  o[k++] = __brevll(lx);
  o[k++] = __ffs(x);
  o[k++] = __ffsll(lx);
  o[k++] = min(x, y);
  o[k++] = max(ux, uy);
  o[k++] = abs(x);
  o[k++] = __sad(x, y, 5);
  o[k++] = __byte_perm(x, y, 0x5410);
  o[k++] = __funnelshift_l(x, y, y & 31);
  o[k++] = __funnelshift_r(x, y, y & 31);
  o[k++] = __dp4a(x, y, 3);
  o[k++] = (short)x * (short)y;
  o[k++] = (unsigned char)x + (signed char)y;
  o[k++] = __mul24(x, y);
  o[k++] = (x ^ y) & ~(x | 0xFF);
  o[k++] = lx < ly;
  o[k++] = ulx < uly;
  __int128 wide = (__int128)lx * ly + 12345;
  o[k++] = (long long)(wide >> 64);
  o[k++] = (long long)wide;
}

extern "C" __global__ void floats(const float* a, const float* b, float* out) {
  const int i = threadIdx.x;
  const float x = a[i], y = b[i];
  float* o = out + i * 32;
  int k = 0;
  o[k++] = x + y;
  o[k++] = x - y;
  o[k++] = x * y;
  o[k++] = x / y;
  o[k++] = fmaf(x, y, 1.5f);
  o[k++] = sqrtf(fabsf(x));
  o[k++] = fminf(x, y);
  o[k++] = fmaxf(x, y);
  o[k++] = floorf(x);
  o[k++] = ceilf(x);
  o[k++] = truncf(x);
  o[k++] = rintf(x);
  o[k++] = roundf(x);
  o[k++] = (float)(int)x;
  o[k++] = (float)(unsigned)fabsf(x);
  o[k++] = (float)(long long)(x * 1e6f);
  o[k++] = copysignf(x, y);
  o[k++] = __fadd_rz(x, y);
  o[k++] = __fadd_ru(x, y);
  o[k++] = __fadd_rd(x, y);
  o[k++] = __fmul_rz(x, y);
  o[k++] = __fmaf_ru(x, y, 0.1f);
  o[k++] = __fdiv_rd(x, y);
  o[k++] = __saturatef(x);
  o[k++] = x < y ? 1.0f : 2.0f;
  o[k++] = fmodf(x, y);
  o[k++] = (float)((double)x * y);
  o[k++] = __double2float_rz((double)x / 3.0);
  o[k++] = __int2float_rd((int)(x * 1e7f));
  o[k++] = __uint2float_ru((unsigned)(fabsf(x) * 1e7f));
  o[k++] = fdimf(x, y);
  o[k++] = 1.0f / x;
}

extern "C" __global__ void mathematics(const float* a, const float* b, float* out, const double* da, double* dout) {
  const int i = threadIdx.x;
  const float x = a[i], y = b[i];
  float* o = out + i * 24;
  int k = 0;
  o[k++] = sinf(x);
  o[k++] = cosf(x);
  o[k++] = tanf(x);
  o[k++] = expf(y);
  o[k++] = exp2f(y);
  o[k++] = logf(fabsf(x));
  o[k++] = log2f(fabsf(x));
  o[k++] = log10f(fabsf(x));
  o[k++] = powf(fabsf(x), y);
  o[k++] = erff(x);
  o[k++] = tanhf(x);
  o[k++] = atanf(x);
  o[k++] = atan2f(x, y);
  o[k++] = sinhf(y);
  o[k++] = cbrtf(x);
  o[k++] = hypotf(x, y);
  o[k++] = rsqrtf(fabsf(x));
  o[k++] = tgammaf(fabsf(y) + 0.5f);
  o[k++] = log1pf(fabsf(x));
  o[k++] = expm1f(y);
  o[k++] = asinf(y / 100.0f);
  o[k++] = acosf(y / 100.0f);
  o[k++] = erfcf(y);
  o[k++] = lgammaf(fabsf(y) + 0.5f);
  const double z = da[i];
  double* d = dout + i * 12;
  k = 0;
  d[k++] = sin(z);
  d[k++] = cos(z);
  d[k++] = exp(z / 10);
  d[k++] = log(fabs(z));
  d[k++] = pow(fabs(z), 1.7);
  d[k++] = sqrt(fabs(z));
  d[k++] = 1.0 / z;
  d[k++] = tanh(z);
  d[k++] = atan(z);
  d[k++] = erf(z);
  d[k++] = cbrt(z);
  d[k++] = fmod(z, 3.7);
}

extern "C" __global__ void pointers(int* out, int which) {
  out[threadIdx.x] = functions[(which + threadIdx.x) % 3](threadIdx.x) + third[threadIdx.x % 5] + (int)coefficients[threadIdx.x & 3];
}

__device__ int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
extern "C" __global__ void recursion(int* out) { out[threadIdx.x] = fibonacci(threadIdx.x % 13); }

extern "C" __global__ void local_arrays(int* out, int n) {
  int values[32];
  for (int i = 0; i < 32; ++i) values[i] = (i * 7 + threadIdx.x) % 32;
  int at = threadIdx.x % 32;
  for (int i = 0; i < n; ++i) at = values[at];
  for (int i = 0; i < 32; ++i) values[(i + n) & 31] += at;
  int sum = 0;
  for (int i = 0; i < 32; ++i) sum += values[i] * i;
  out[threadIdx.x] = sum;
}

extern "C" __global__ void switches(int* out, int n) {
  const int i = threadIdx.x;
  int r = i;
  for (int k = 0; k < n; ++k) {
    switch ((r + k) % 9) {
      case 0: r += 3; break;
      case 1: r *= 2; break;
      case 2: r -= 7; break;
      case 3: r ^= 0x55; break;
      case 4: if (r & 1) continue; r /= 2; break;
      case 5: r += out[i]; break;
      case 6: if (r > 1000) goto done; r += 11; break;
      case 7: r = -r; break;
      default: r++;
    }
    r &= 0xFFFF;
  }
done:
  out[i] = r;
}

extern "C" __global__ void early_exit(int* out, int n) {
  __shared__ int total;
  if (threadIdx.x == 0) total = 0;
  __syncthreads();
  if (threadIdx.x % 3 == 1) return;
  for (int i = 0; i < n; ++i) {
    if (i == (int)threadIdx.x) return;
    __syncthreads();
  }
  atomicAdd(&total, 1);
  __syncthreads();
  out[threadIdx.x] = total;
}

extern "C" __global__ void speak(int n, float x) {
  if (threadIdx.x < n) printf("%d: %5.2f %s %c %x %lld %%\n", threadIdx.x, x * threadIdx.x, "text", 'A' + threadIdx.x, 255, 1ll << 40);
}
extern "C" __global__ void insist(int n) { assert(threadIdx.x < n); }
extern "C" __global__ void heap(long long* out) {
  int* p = (int*)malloc(sizeof(int) * 64);
  for (int i = 0; i < 64; ++i) p[i] = i * threadIdx.x;
  long long sum = 0;
  for (int i = 0; i < 64; ++i) sum += p[i];
  free(p);
  out[threadIdx.x] = sum;
}
extern "C" __global__ void trap_it() { __trap(); }
extern "C" __global__ void endless(volatile int* p) {
  while (*p == 0) {
  }
}
extern "C" __global__ void write_at(int* p, int value) { *p = value; }
template <class T, int N>
__device__ T power(T x) { T r = 1; for (int i = 0; i < N; ++i) r *= x; return r; }
extern "C" __global__ void templates(double* out) { out[threadIdx.x] = power<double, 5>(threadIdx.x) + power<float, 3>(threadIdx.x) + power<int, 2>(threadIdx.x); }
extern "C" __global__ void multiply_add(const float* a, float* out, int n) {
  float x = a[threadIdx.x], y = 0.5f;
  for (int i = 0; i < n; ++i) { y = y * x + 0.25f; x = x * y + 0.125f; }
  out[blockIdx.x * blockDim.x + threadIdx.x] = x + y;
}
