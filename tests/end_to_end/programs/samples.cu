// Small programs of the kind that textbooks and samples have; each checks itself against the host.
#include <curand_kernel.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <numeric>
#include <vector>

#include "program.h"

namespace {

template <class T>
struct Device {
  explicit Device(std::size_t n) : count(n) { EXPECT(cudaMalloc(&data, n * sizeof(T)) == cudaSuccess); EXPECT(cudaMemset(data, 0, n * sizeof(T)) == cudaSuccess); }
  explicit Device(const std::vector<T>& host) : Device(host.size()) {
    EXPECT(cudaMemcpy(data, host.data(), count * sizeof(T), cudaMemcpyHostToDevice) == cudaSuccess);
  }
  ~Device() { cudaFree(data); }
  std::vector<T> get() const {
    std::vector<T> host(count);
    EXPECT(cudaMemcpy(host.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost) == cudaSuccess);
    return host;
  }
  T* data = nullptr;
  std::size_t count;
};

std::vector<int> numbers(int n, int modulus) {
  std::vector<int> v(n);
  unsigned x = 12345;
  for (int& i : v) i = static_cast<int>((x = x * 1664525u + 1013904223u) >> 8) % modulus;
  return v;
}

// Mandelbrot
__global__ void mandelbrot(int* out, int w, int h) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
  if (x >= w || y >= h) return;
  const double cr = -2 + 3.0 * x / w, ci = -1 + 2.0 * y / h;
  double r = 0, i = 0;
  int n = 0;
  for (; n < 50 && r * r + i * i < 4; ++n) {
    const double t = __dadd_rn(__dsub_rn(__dmul_rn(r, r), __dmul_rn(i, i)), cr);
    i = __dadd_rn(__dmul_rn(__dmul_rn(2, r), i), ci);
    r = t;
  }
  out[y * w + x] = n;
}
void test_mandelbrot() {
  const int w = 48, h = 32;
  Device<int> out(w * h);
  mandelbrot<<<dim3(3, 4), dim3(16, 8)>>>(out.data, w, h);
  const auto got = out.get();
  EXPECT(got[16 * w + 24] == 50 && got[0] == 1);
  EXPECT(std::accumulate(got.begin(), got.end(), 0) > 10000);
}

// N bodies, in tiles
__global__ void accelerate(const float4* bodies, float3* out, int n) {
  extern __shared__ float4 tile[];
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  const float4 me = bodies[i];
  float3 sum = {0, 0, 0};
  for (int first = 0; first < n; first += blockDim.x) {
    tile[threadIdx.x] = bodies[first + threadIdx.x];
    __syncthreads();
    for (int j = 0; j < static_cast<int>(blockDim.x); ++j) {
      const float dx = tile[j].x - me.x, dy = tile[j].y - me.y, dz = tile[j].z - me.z;
      const float inverse = rsqrtf(dx * dx + dy * dy + dz * dz + 0.01f), s = tile[j].w * inverse * inverse * inverse;
      sum.x += dx * s;
      sum.y += dy * s;
      sum.z += dz * s;
    }
    __syncthreads();
  }
  out[i] = sum;
}
void test_n_bodies() {
  const int n = 128;
  std::vector<float4> bodies(n);
  for (int i = 0; i < n; ++i) bodies[i] = {float(i % 5), float(i % 7), float(i % 11), 1.0f};
  Device<float4> in(bodies);
  Device<float3> out(n);
  accelerate<<<n / 32, 32, 32 * sizeof(float4)>>>(in.data, out.data, n);
  const auto got = out.get();
  for (int i = 0; i < n; ++i) {
    double x = 0;
    for (const float4& b : bodies) {
      const double dx = b.x - bodies[i].x, dy = b.y - bodies[i].y, dz = b.z - bodies[i].z;
      x += dx / std::pow(dx * dx + dy * dy + dz * dz + 0.01, 1.5);
    }
    EXPECT(std::fabs(got[i].x - x) < 1e-3 * std::fabs(x) + 1e-3);
  }
}

// Bitonic sort of one block, and a merge of sorted halves
__global__ void bitonic_sort(int* values, int n) {
  extern __shared__ int cells[];
  cells[threadIdx.x] = values[threadIdx.x];
  for (int size = 2; size <= n; size *= 2) {
    for (int step = size / 2; step > 0; step /= 2) {
      __syncthreads();
      const int other = threadIdx.x ^ step;
      if (other > static_cast<int>(threadIdx.x)) {
        const bool up = (threadIdx.x & size) == 0;
        if ((cells[threadIdx.x] > cells[other]) == up) {
          const int t = cells[threadIdx.x];
          cells[threadIdx.x] = cells[other];
          cells[other] = t;
        }
      }
    }
  }
  __syncthreads();
  values[threadIdx.x] = cells[threadIdx.x];
}
__global__ void merge(const int* a, const int* b, int n, int* out) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= 2 * n) return;
  const bool from_a = i < n;
  const int value = from_a ? a[i] : b[i - n];
  const int* other = from_a ? b : a;
  int low = 0, high = n;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (other[middle] < value || (!from_a && other[middle] == value)) low = middle + 1;
    else high = middle;
  }
  out[(from_a ? i : i - n) + low] = value;
}
void test_sorts() {
  auto values = numbers(256, 1000);
  Device<int> a(std::vector<int>(values.begin(), values.begin() + 128)), b(std::vector<int>(values.begin() + 128, values.end())), out(256);
  bitonic_sort<<<1, 128, 512>>>(a.data, 128);
  bitonic_sort<<<1, 128, 512>>>(b.data, 128);
  merge<<<2, 128>>>(a.data, b.data, 128, out.data);
  std::sort(values.begin(), values.end());
  EXPECT(out.get() == values);
}

// Scan over blocks
__global__ void scan_blocks(const int* in, int* out, int* sums) {
  __shared__ int cells[2][128];
  const int t = threadIdx.x, i = blockIdx.x * 128 + t;
  int from = 0;
  cells[0][t] = in[i];
  __syncthreads();
  for (int step = 1; step < 128; step *= 2, from ^= 1) {
    cells[from ^ 1][t] = cells[from][t] + (t >= step ? cells[from][t - step] : 0);
    __syncthreads();
  }
  out[i] = cells[from][t];
  if (t == 127) sums[blockIdx.x] = cells[from][t];
}
__global__ void add_sums(int* out, const int* sums) {
  int before = 0;
  for (int i = 0; i < static_cast<int>(blockIdx.x); ++i) before += sums[i];
  out[blockIdx.x * 128 + threadIdx.x] += before;
}
void test_scan() {
  const auto values = numbers(1024, 100);
  Device<int> in(values), out(1024), sums(8);
  scan_blocks<<<8, 128>>>(in.data, out.data, sums.data);
  add_sums<<<8, 128>>>(out.data, sums.data);
  std::vector<int> expected(1024);
  std::partial_sum(values.begin(), values.end(), expected.begin());
  EXPECT(out.get() == expected);
}

// FFT, radix 2
__global__ void fft_stage(float2* data, int n, int half) {
  const int k = blockIdx.x * blockDim.x + threadIdx.x;
  if (k >= n / 2) return;
  const int group = k / half, at = group * 2 * half + k % half;
  float s, c;
  sincospif(-float(k % half) / half, &s, &c);
  const float2 a = data[at], b = data[at + half], t = {b.x * c - b.y * s, b.x * s + b.y * c};
  data[at] = {a.x + t.x, a.y + t.y};
  data[at + half] = {a.x - t.x, a.y - t.y};
}
__global__ void bit_reverse(const float2* in, float2* out, int bits) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  out[__brev(i) >> (32 - bits)] = in[i];
}
void test_fft() {
  const int n = 256, bits = 8;
  std::vector<float2> signal(n);
  for (int i = 0; i < n; ++i) signal[i] = {std::cos(2 * 3.14159265f * 5 * i / n), 0};
  Device<float2> in(signal), out(n);
  bit_reverse<<<2, 128>>>(in.data, out.data, bits);
  for (int half = 1; half < n; half *= 2) fft_stage<<<1, 128>>>(out.data, n, half);
  const auto got = out.get();
  for (int i = 0; i < n; ++i) EXPECT(std::fabs(got[i].x - (i == 5 || i == n - 5 ? n / 2.0f : 0.0f)) < 0.01f);
}

// Breadth first search over a ring with chords
__global__ void visit(const int* first, const int* edges, int* distance, int level, int* changed, int n) {
  const int v = blockIdx.x * blockDim.x + threadIdx.x;
  if (v >= n || distance[v] != level) return;
  for (int e = first[v]; e < first[v + 1]; ++e) {
    if (atomicCAS(distance + edges[e], -1, level + 1) == -1) *changed = 1;
  }
}
void test_breadth_first_search() {
  const int n = 200;
  std::vector<int> first(n + 1), edges, distance(n, -1);
  for (int v = 0; v < n; ++v) {
    first[v] = static_cast<int>(edges.size());
    edges.push_back((v + 1) % n);
    edges.push_back((v + n - 1) % n);
    if (v % 10 == 0) edges.push_back((v * 3 + 7) % n);
  }
  first[n] = static_cast<int>(edges.size());
  distance[0] = 0;
  Device<int> f(first), e(edges), d(distance), changed(1);
  for (int level = 0;; ++level) {
    EXPECT(cudaMemset(changed.data, 0, 4) == cudaSuccess);
    visit<<<2, 128>>>(f.data, e.data, d.data, level, changed.data, n);
    if (changed.get()[0] == 0) break;
  }
  for (std::vector<int> open{0}; !open.empty();) {
    std::vector<int> next;
    for (const int v : open) {
      for (int i = first[v]; i < first[v + 1]; ++i) {
        if (distance[edges[i]] != -1) continue;
        distance[edges[i]] = distance[v] + 1;
        next.push_back(edges[i]);
      }
    }
    open = next;
  }
  EXPECT(d.get() == distance);
}

// Monte Carlo
__global__ void throw_darts(unsigned long long seed, int* hits, int each) {
  curandStatePhilox4_32_10_t state;
  curand_init(seed, blockIdx.x * blockDim.x + threadIdx.x, 0, &state);
  int inside = 0;
  for (int i = 0; i < each; ++i) {
    const float4 p = curand_uniform4(&state);
    inside += (p.x * p.x + p.y * p.y < 1) + (p.z * p.z + p.w * p.w < 1);
  }
  for (int step = 16; step > 0; step /= 2) inside += __shfl_down_sync(~0u, inside, step);
  if (threadIdx.x % 32 == 0) atomicAdd(hits, inside);
}
void test_monte_carlo() {
  Device<int> hits(1);
  throw_darts<<<4, 64>>>(7, hits.data, 50);
  EXPECT(std::fabs(4.0 * hits.get()[0] / (256 * 100) - 3.14159) < 0.05);
}

// Life, sparse matrix, Sobel, rays
__global__ void live(const unsigned char* in, unsigned char* out, int n) {
  const int x = threadIdx.x, y = blockIdx.x;
  int around = 0;
  for (int dy = -1; dy <= 1; ++dy) {
    for (int dx = -1; dx <= 1; ++dx) around += (dx != 0 || dy != 0) ? in[(y + dy + n) % n * n + (x + dx + n) % n] : 0;
  }
  out[y * n + x] = around == 3 || (around == 2 && in[y * n + x]);
}
void test_life() {
  const int n = 16;
  std::vector<unsigned char> glider(n * n, 0), moved(n * n, 0);
  for (const auto& [x, y] : {std::pair{1, 0}, {2, 1}, {0, 2}, {1, 2}, {2, 2}}) {
    glider[y * n + x] = 1;
    moved[(y + 4) * n + x + 4] = 1;
  }
  Device<unsigned char> a(glider), b(n * n);
  for (int i = 0; i < 8; ++i) {
    live<<<n, n>>>(a.data, b.data, n);
    live<<<n, n>>>(b.data, a.data, n);
  }
  EXPECT(a.get() == moved);
}
__global__ void multiply_rows(const int* first, const int* columns, const double* values, const double* x, double* y, int n) {
  const int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (row >= n) return;
  double sum = 0;
  for (int i = first[row] + lane; i < first[row + 1]; i += 32) sum += values[i] * x[columns[i]];
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  if (lane == 0) y[row] = sum;
}
void test_sparse_matrix() {
  const int n = 50;
  std::vector<int> first(n + 1), columns;
  std::vector<double> values, x(n), y(n, 0);
  for (int r = 0; r < n; ++r) {
    x[r] = r % 7;
    first[r] = static_cast<int>(columns.size());
    for (int c = r % 3; c < n; c += 1 + r % 4) {
      columns.push_back(c);
      values.push_back(r + c);
    }
  }
  first[n] = static_cast<int>(columns.size());
  for (int r = 0; r < n; ++r) {
    for (int i = first[r]; i < first[r + 1]; ++i) y[r] += values[i] * x[columns[i]];
  }
  Device<int> f(first), c(columns);
  Device<double> v(values), dx(x), dy(n);
  multiply_rows<<<13, 128>>>(f.data, c.data, v.data, dx.data, dy.data, n);
  EXPECT(dy.get() == y);
}
__global__ void sobel(const unsigned char* in, int* out, int w, int h) {
  __shared__ int tile[10][18];
  const int x0 = blockIdx.x * 16, y0 = blockIdx.y * 8;
  for (int i = threadIdx.y * 16 + threadIdx.x; i < 180; i += 128) {
    const int x = min(max(x0 + i % 18 - 1, 0), w - 1), y = min(max(y0 + i / 18 - 1, 0), h - 1);
    tile[i / 18][i % 18] = in[y * w + x];
  }
  __syncthreads();
  const int x = threadIdx.x + 1, y = threadIdx.y + 1;
  const int gx = tile[y - 1][x + 1] + 2 * tile[y][x + 1] + tile[y + 1][x + 1] - tile[y - 1][x - 1] - 2 * tile[y][x - 1] - tile[y + 1][x - 1];
  const int gy = tile[y + 1][x - 1] + 2 * tile[y + 1][x] + tile[y + 1][x + 1] - tile[y - 1][x - 1] - 2 * tile[y - 1][x] - tile[y - 1][x + 1];
  out[(y0 + threadIdx.y) * w + x0 + threadIdx.x] = abs(gx) + abs(gy);
}
void test_sobel() {
  const int w = 48, h = 32;
  std::vector<unsigned char> image(w * h);
  for (int i = 0; i < w * h; ++i) image[i] = i % w >= 20 ? 200 : 10;
  Device<unsigned char> in(image);
  Device<int> out(w * h);
  sobel<<<dim3(3, 4), dim3(16, 8)>>>(in.data, out.data, w, h);
  const auto got = out.get();
  for (int i = 0; i < w * h; ++i) EXPECT(got[i] == (i % w == 19 || i % w == 20 ? 760 : 0));
}
struct Ball {
  float3 at;
  float radius;
};
__constant__ Ball balls[3];
__global__ void cast_rays(int* out, int n) {
  const int x = threadIdx.x, y = blockIdx.x;
  const float dx = (x - n / 2 + 0.5f) / n, dy = (y - n / 2 + 0.5f) / n, length = norm3df(dx, dy, 1);
  int nearest = -1;
  float best = 1e30f;
  for (int i = 0; i < 3; ++i) {
    const float b = (dx * balls[i].at.x + dy * balls[i].at.y + balls[i].at.z) / length;
    const float c = balls[i].at.x * balls[i].at.x + balls[i].at.y * balls[i].at.y + balls[i].at.z * balls[i].at.z - balls[i].radius * balls[i].radius;
    const float d = b * b - c;
    if (d >= 0 && b - sqrtf(d) < best) {
      best = b - sqrtf(d);
      nearest = i;
    }
  }
  out[y * n + x] = nearest;
}
void test_rays() {
  const Ball host[3] = {{{0, 0, 5}, 1}, {{1, 1, 8}, 2}, {{-2, 0, 6}, 0.5f}};
  EXPECT(cudaMemcpyToSymbol(balls, host, sizeof host) == cudaSuccess);
  Device<int> out(32 * 32);
  cast_rays<<<32, 32>>>(out.data, 32);
  const auto got = out.get();
  EXPECT(got[16 * 32 + 16] == 0 && got[0] == -1 && got[21 * 32 + 21] == 1 && got[16 * 32 + 5] == 2);
}

}  // namespace

int main() {
  test_mandelbrot();
  test_n_bodies();
  test_sorts();
  test_scan();
  test_fft();
  test_breadth_first_search();
  test_monte_carlo();
  test_life();
  test_sparse_matrix();
  test_sobel();
  test_rays();
  EXPECT(cudaDeviceSynchronize() == cudaSuccess);
  std::printf("passed\n");
}
