// Forward pass of a small convolutional network (LeNet-5's shape) with seeded weights:
// convolution as im2col and a tiled matrix product, ReLU, max pooling, two fully connected
// layers, softmax. The result is compared with the same network computed on the host.
#include <cmath>
#include <cstdint>
#include <vector>

#include "check.h"

namespace {

struct Random {  // xorshift64*, the same numbers everywhere
  std::uint64_t state;
  float next() {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return static_cast<float>((state * 2685821657736338717ull) >> 40) / 16777216.0f - 0.5f;
  }
};

std::vector<float> random_values(Random& random, std::size_t count, float scale) {
  std::vector<float> values(count);
  for (float& value : values) value = random.next() * scale;
  return values;
}

struct Shape {
  int channels, height, width;
  int size() const { return channels * height * width; }
};

template <int kSize>
__global__ void im2col(const float* in, float* columns, Shape shape) {
  const int out_h = shape.height - kSize + 1, out_w = shape.width - kSize + 1;
  const int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= out_h * out_w) return;
  const int y = column / out_w, x = column % out_w;
  for (int c = 0; c < shape.channels; ++c)
#pragma unroll
    for (int j = 0; j < kSize; ++j)
#pragma unroll
      for (int i = 0; i < kSize; ++i)
        columns[((c * kSize + j) * kSize + i) * out_h * out_w + column] =
            in[(c * shape.height + y + j) * shape.width + x + i];
}

// out[m][n] = bias[m] + sum over k of a[m][k] * b[k][n]
template <int kTile>
__global__ void matrix_product(const float* a, const float* b, const float* bias, float* out, int m, int n, int k) {
  __shared__ float tile_a[kTile][kTile], tile_b[kTile][kTile];
  const int row = blockIdx.y * kTile + threadIdx.y, column = blockIdx.x * kTile + threadIdx.x;
  float sum = 0;
  for (int start = 0; start < k; start += kTile) {
    const int ka = start + threadIdx.x, kb = start + threadIdx.y;
    tile_a[threadIdx.y][threadIdx.x] = row < m && ka < k ? a[row * k + ka] : 0.0f;
    tile_b[threadIdx.y][threadIdx.x] = kb < k && column < n ? b[kb * n + column] : 0.0f;
    __syncthreads();
    for (int i = 0; i < kTile; ++i) sum += tile_a[threadIdx.y][i] * tile_b[i][threadIdx.x];
    __syncthreads();
  }
  if (row < m && column < n) out[row * n + column] = sum + bias[row];
}

__global__ void relu(float* values, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) values[i] = fmaxf(values[i], 0.0f);
}

__global__ void max_pool(const float* in, float* out, Shape shape) {
  const int h = shape.height / 2, w = shape.width / 2, i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= shape.channels * h * w) return;
  const int c = i / (h * w), y = i / w % h, x = i % w;
  const float* p = in + (c * shape.height + 2 * y) * shape.width + 2 * x;
  out[i] = fmaxf(fmaxf(p[0], p[1]), fmaxf(p[shape.width], p[shape.width + 1]));
}

__global__ void softmax(float* values, int count) {  // one warp, count at most 32
  const int lane = threadIdx.x;
  const float value = lane < count ? values[lane] : -INFINITY;
  float top = value;
  for (int step = 16; step > 0; step /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, step));
  const float power = lane < count ? expf(value - top) : 0.0f;
  float sum = power;
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  if (lane < count) values[lane] = power / sum;
}

struct Convolution {
  int out_channels;
  std::vector<float> weights, bias;
};
struct Dense {
  int outputs;
  std::vector<float> weights, bias;
};

template <class T>
T* upload(const std::vector<T>& values) {
  T* device;
  CUDA_CHECK(cudaMalloc(&device, sizeof(T) * values.size()));
  CUDA_CHECK(cudaMemcpy(device, values.data(), sizeof(T) * values.size(), cudaMemcpyHostToDevice));
  return device;
}

float* new_floats(int count) {
  float* device;
  CUDA_CHECK(cudaMalloc(&device, sizeof(float) * count));
  return device;
}

void product(const float* a, const float* b, const float* bias, float* out, int m, int n, int k) {
  matrix_product<16><<<dim3((n + 15) / 16, (m + 15) / 16), dim3(16, 16)>>>(a, b, bias, out, m, n, k);
}

std::vector<float> forward_on_device(const std::vector<float>& image, Shape shape,
                                     const std::vector<Convolution>& convolutions, const std::vector<Dense>& layers) {
  std::vector<float*> owned;
  auto own = [&](float* memory) { return owned.emplace_back(memory); };
  float* current = own(upload(image));
  for (const Convolution& layer : convolutions) {
    const Shape out{layer.out_channels, shape.height - 4, shape.width - 4};
    const int columns = out.height * out.width, depth = shape.channels * 25;
    float* matrix = own(new_floats(columns * depth));
    im2col<5><<<(columns + 127) / 128, 128>>>(current, matrix, shape);
    float* convolved = own(new_floats(out.size()));
    product(own(upload(layer.weights)), matrix, own(upload(layer.bias)), convolved, out.channels, columns, depth);
    relu<<<(out.size() + 127) / 128, 128>>>(convolved, out.size());
    shape = {out.channels, out.height / 2, out.width / 2};
    current = own(new_floats(shape.size()));
    max_pool<<<(shape.size() + 127) / 128, 128>>>(convolved, current, out);
  }
  int inputs = shape.size();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    float* next = own(new_floats(layers[i].outputs));
    product(own(upload(layers[i].weights)), current, own(upload(layers[i].bias)), next, layers[i].outputs, 1, inputs);
    if (i + 1 < layers.size()) relu<<<(layers[i].outputs + 127) / 128, 128>>>(next, layers[i].outputs);
    inputs = layers[i].outputs;
    current = next;
  }
  softmax<<<1, 32>>>(current, inputs);
  CUDA_CHECK(cudaGetLastError());
  std::vector<float> result(inputs);
  CUDA_CHECK(cudaMemcpy(result.data(), current, sizeof(float) * inputs, cudaMemcpyDeviceToHost));
  for (float* memory : owned) CUDA_CHECK(cudaFree(memory));
  return result;
}

std::vector<double> forward_on_host(const std::vector<float>& image, Shape shape,
                                    const std::vector<Convolution>& convolutions, const std::vector<Dense>& layers) {
  std::vector<double> current(image.begin(), image.end());
  for (const Convolution& layer : convolutions) {
    const Shape out{layer.out_channels, shape.height - 4, shape.width - 4};
    std::vector<double> convolved(out.size());
    for (int o = 0; o < out.channels; ++o)
      for (int y = 0; y < out.height; ++y)
        for (int x = 0; x < out.width; ++x) {
          double sum = layer.bias[o];
          for (int c = 0; c < shape.channels; ++c)
            for (int j = 0; j < 5; ++j)
              for (int i = 0; i < 5; ++i)
                sum += layer.weights[((o * shape.channels + c) * 5 + j) * 5 + i] *
                       current[(c * shape.height + y + j) * shape.width + x + i];
          convolved[(o * out.height + y) * out.width + x] = std::fmax(sum, 0.0);
        }
    shape = {out.channels, out.height / 2, out.width / 2};
    current.assign(shape.size(), 0.0);
    for (int c = 0; c < shape.channels; ++c)
      for (int y = 0; y < shape.height; ++y)
        for (int x = 0; x < shape.width; ++x) {
          const double* p = &convolved[(c * out.height + 2 * y) * out.width + 2 * x];
          current[(c * shape.height + y) * shape.width + x] =
              std::fmax(std::fmax(p[0], p[1]), std::fmax(p[out.width], p[out.width + 1]));
        }
  }
  for (std::size_t l = 0; l < layers.size(); ++l) {
    std::vector<double> next(layers[l].outputs);
    for (int o = 0; o < layers[l].outputs; ++o) {
      next[o] = layers[l].bias[o];
      for (std::size_t i = 0; i < current.size(); ++i) next[o] += layers[l].weights[o * current.size() + i] * current[i];
      if (l + 1 < layers.size()) next[o] = std::fmax(next[o], 0.0);
    }
    current = next;
  }
  double top = current[0], sum = 0;
  for (double value : current) top = std::fmax(top, value);
  for (double& value : current) sum += value = std::exp(value - top);
  for (double& value : current) value /= sum;
  return current;
}

}  // namespace

int main() {
  Random random{88172645463325252ull};
  const Shape input{1, 28, 28};
  const std::vector<float> image = random_values(random, input.size(), 2.0f);
  const std::vector<Convolution> convolutions{
      {6, random_values(random, 6 * 1 * 25, 0.8f), random_values(random, 6, 0.2f)},
      {16, random_values(random, 16 * 6 * 25, 0.4f), random_values(random, 16, 0.2f)}};
  const std::vector<Dense> layers{{84, random_values(random, 84 * 256, 0.4f), random_values(random, 84, 0.2f)},
                                  {10, random_values(random, 10 * 84, 0.6f), random_values(random, 10, 0.2f)}};

  const std::vector<float> device = forward_on_device(image, input, convolutions, layers);
  const std::vector<double> host = forward_on_host(image, input, convolutions, layers);
  double difference = 0;
  for (std::size_t i = 0; i < host.size(); ++i) {
    std::printf("class %zu: %.4f\n", i, device[i]);
    difference = std::fmax(difference, std::fabs(device[i] - host[i]));
  }
  const bool right = difference < 1e-5;  // false for NaN too
  std::printf("%s the host's result\n", right ? "agrees with" : "differs from");
  return right ? 0 : 1;
}
