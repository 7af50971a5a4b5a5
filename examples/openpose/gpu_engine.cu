// The network on the GPU, as Caffe runs it: convolution as im2col and a cuBLAS product, the bias as
// a product with ones, activations in place, weights filled by cuRAND, host memory pinned.
#include <cublas_v2.h>
#include <curand.h>

#include <chrono>

#include "../check.h"
#include "engine.h"

#define CUBLAS_CHECK(call)                                                                                 \
  do {                                                                                                     \
    const cublasStatus_t status_ = (call);                                                                 \
    if (status_ != CUBLAS_STATUS_SUCCESS) {                                                                \
      std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cublasGetStatusString(status_));  \
      std::exit(1);                                                                                        \
    }                                                                                                      \
  } while (0)
#define CURAND_CHECK(call)                                                                 \
  do {                                                                                     \
    const curandStatus_t status_ = (call);                                                 \
    if (status_ != CURAND_STATUS_SUCCESS) {                                                \
      std::fprintf(stderr, "%s:%d: %s: status %d\n", __FILE__, __LINE__, #call, status_);  \
      std::exit(1);                                                                        \
    }                                                                                      \
  } while (0)

const char* const kEngineName = "gpu";

namespace {

constexpr int kThreads = 512;
int blocks(std::size_t count) { return int((count + kThreads - 1) / kThreads); }

// A thread makes one column's part of one channel: kernel x kernel values of the matrix.
__global__ void im2col(const float* in, float* columns, int channels, int height, int width, int kernel) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x, pixels = height * width;
  if (i >= channels * pixels) return;
  const int x = i % width, y = i / width % height, channel = i / pixels, border = kernel / 2;
  const float* source = in + std::size_t(channel) * pixels;
  float* target = columns + std::size_t(channel) * kernel * kernel * pixels + y * width + x;
  for (int v = y - border; v <= y + border; ++v)
    for (int u = x - border; u <= x + border; ++u) {
      *target = v >= 0 && v < height && u >= 0 && u < width ? source[v * width + u] : 0.0f;
      target += pixels;
    }
}

__global__ void relu(float* values, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) values[i] = fmaxf(values[i], 0.0f);
}

__global__ void prelu(float* values, const float* slopes, int pixels, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count && values[i] < 0) values[i] *= slopes[i / pixels];
}

__global__ void max_pool(const float* in, float* out, int count, int height, int width) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const int out_height = (height + 1) / 2, out_width = (width + 1) / 2;
  const int x = i % out_width * 2, y = i / out_width % out_height * 2, channel = i / (out_width * out_height);
  const float* p = in + std::size_t(channel) * height * width;
  const int right = min(x + 1, width - 1), below = min(y + 1, height - 1);
  out[i] = fmaxf(fmaxf(p[y * width + x], p[y * width + right]), fmaxf(p[below * width + x], p[below * width + right]));
}

__global__ void copy_values(const float* in, float* out, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) out[i] = in[i];
}

__global__ void fill(float* values, float value, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) values[i] = value;
}

// values: from (0, 1] to [-largest, largest].
__global__ void spread(float* values, float largest, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) values[i] = (values[i] * 2 - 1) * largest;
}

class GpuEngine final : public Engine {
 public:
  GpuEngine(const Network& network, const Options& options) : network_(network) {
    CUDA_CHECK(cudaStreamCreate(&stream_));
    CUBLAS_CHECK(cublasCreate(&cublas_));
    CUBLAS_CHECK(cublasSetStream(cublas_, stream_));
    CUBLAS_CHECK(cublasSetPointerMode(cublas_, CUBLAS_POINTER_MODE_HOST));
    std::size_t most_pixels = 0;
    for (const Blob& blob : network.blobs) {
      blobs_.push_back(floats(blob.shape.size()));
      most_pixels = std::max(most_pixels, blob.shape.pixels());
    }
    parameters_ = floats(network.parameters);
    columns_ = floats(std::max<std::size_t>(network.columns, 1));
    ones_ = floats(most_pixels);
    fill<<<blocks(most_pixels), kThreads, 0, stream_>>>(ones_, 1.0f, int(most_pixels));
    CUDA_CHECK(cudaMallocHost(&input_, bytes(network.input)));
    CUDA_CHECK(cudaMallocHost(&output_, bytes(network.output)));
    options.host_weights ? upload_parameters(options.seed) : generate_parameters(options.seed);
    CUDA_CHECK(cudaGetLastError());
    CUDA_CHECK(cudaStreamSynchronize(stream_));
  }

  ~GpuEngine() override {
    for (float* memory : owned_) CUDA_CHECK(cudaFree(memory));
    CUDA_CHECK(cudaFreeHost(input_));
    CUDA_CHECK(cudaFreeHost(output_));
    CUBLAS_CHECK(cublasDestroy(cublas_));
    CUDA_CHECK(cudaStreamDestroy(stream_));
  }

  float* input() override { return input_; }
  const float* output() const override { return output_; }

  double forward() override {
    const auto begin = std::chrono::steady_clock::now();
    CUDA_CHECK(cudaMemcpy(blob(network_.input), input_, bytes(network_.input), cudaMemcpyDefault));
    for (const Layer& layer : network_.layers) run(layer);
    CUDA_CHECK(cudaPeekAtLastError());
    const auto handed_over = std::chrono::steady_clock::now();
    CUDA_CHECK(cudaMemcpy(output_, blob(network_.output), bytes(network_.output), cudaMemcpyDefault));
    return std::chrono::duration<double, std::milli>(handed_over - begin).count();
  }

  double device_milliseconds() override {
    cudaEvent_t begin, end;
    CUDA_CHECK(cudaEventCreate(&begin));
    CUDA_CHECK(cudaEventCreate(&end));
    CUDA_CHECK(cudaEventRecord(begin, stream_));
    for (const Layer& layer : network_.layers) run(layer);
    CUDA_CHECK(cudaEventRecord(end, stream_));
    CUDA_CHECK(cudaEventSynchronize(end));
    float milliseconds = 0;
    CUDA_CHECK(cudaEventElapsedTime(&milliseconds, begin, end));
    CUDA_CHECK(cudaEventDestroy(begin));
    CUDA_CHECK(cudaEventDestroy(end));
    return milliseconds;
  }

 private:
  float* floats(std::size_t count) {
    float* memory;
    CUDA_CHECK(cudaMalloc(&memory, count * sizeof(float)));
    owned_.push_back(memory);
    return memory;
  }
  float* blob(int index) const { return blobs_[std::size_t(index)]; }
  std::size_t bytes(int index) const { return network_.blobs[std::size_t(index)].shape.size() * sizeof(float); }

  void upload_parameters(std::uint64_t seed) {
    const std::vector<float> values = host_parameters(network_, seed);
    CUDA_CHECK(cudaMemcpy(parameters_, values.data(), values.size() * sizeof(float), cudaMemcpyDefault));
  }

  void generate_parameters(std::uint64_t seed) {
    curandGenerator_t generator;
    CURAND_CHECK(curandCreateGenerator(&generator, CURAND_RNG_PSEUDO_DEFAULT));
    CURAND_CHECK(curandSetPseudoRandomGeneratorSeed(generator, seed));
    CURAND_CHECK(curandSetStream(generator, stream_));
    for (const Layer& layer : network_.layers) {
      float* first = parameters_ + layer.parameters;
      const int biases = int(layer.biases);
      if (layer.kind == Kind::kConvolution) {
        // In pairs: one too many falls on the first bias, which comes next.
        const std::size_t even = (layer.weights + 1) / 2 * 2;
        CURAND_CHECK(curandGenerateNormal(generator, first, even, 0.0f, deviation(network_, layer)));
        CURAND_CHECK(curandGenerateUniform(generator, first + layer.weights, layer.biases));
        spread<<<blocks(layer.biases), kThreads, 0, stream_>>>(first + layer.weights, kLargestBias, biases);
      } else if (layer.kind == Kind::kPrelu) {
        fill<<<blocks(layer.biases), kThreads, 0, stream_>>>(first, kSlope, biases);
      }
    }
    CURAND_CHECK(curandDestroyGenerator(generator));
  }

  void run(const Layer& layer) {
    const Shape &in = network_.in(layer), &out = network_.out(layer);
    float *bottom = blob(layer.bottoms[0]), *top = blob(layer.top);
    const int count = int(out.size());
    switch (layer.kind) {
      case Kind::kConvolution: return convolve(layer, bottom, top);
      case Kind::kRelu: relu<<<blocks(out.size()), kThreads, 0, stream_>>>(top, count); return;
      case Kind::kPrelu:
        prelu<<<blocks(out.size()), kThreads, 0, stream_>>>(top, parameters_ + layer.parameters, int(out.pixels()), count);
        return;
      case Kind::kPool:
        max_pool<<<blocks(out.size()), kThreads, 0, stream_>>>(bottom, top, count, in.height, in.width);
        return;
      case Kind::kConcat:
        for (const int each : layer.bottoms) {
          const std::size_t size = network_.blobs[std::size_t(each)].shape.size();
          copy_values<<<blocks(size), kThreads, 0, stream_>>>(blob(each), top, int(size));
          top += size;
        }
    }
  }

  // Row-major matrices are cuBLAS's transposed ones: out = weights x columns becomes columns x weights.
  void convolve(const Layer& layer, const float* bottom, float* top) {
    const Shape& in = network_.in(layer);
    const int pixels = int(in.pixels()), outputs = network_.out(layer).channels;
    const int depth = in.channels * layer.kernel * layer.kernel;
    const float *weights = parameters_ + layer.parameters, one = 1, zero = 0;
    if (layer.kernel > 1) {
      im2col<<<blocks(in.size()), kThreads, 0, stream_>>>(bottom, columns_, in.channels, in.height, in.width, layer.kernel);
      bottom = columns_;
    }
    CUBLAS_CHECK(cublasSgemm(cublas_, CUBLAS_OP_N, CUBLAS_OP_N, pixels, outputs, depth, &one, bottom, pixels, weights, depth,
                             &zero, top, pixels));
    CUBLAS_CHECK(cublasSgemm(cublas_, CUBLAS_OP_N, CUBLAS_OP_N, pixels, outputs, 1, &one, ones_, pixels,
                             weights + layer.weights, 1, &one, top, pixels));
  }

  const Network& network_;
  cudaStream_t stream_ = nullptr;
  cublasHandle_t cublas_ = nullptr;
  std::vector<float*> owned_, blobs_;
  float *parameters_ = nullptr, *columns_ = nullptr, *ones_ = nullptr;
  float *input_ = nullptr, *output_ = nullptr;  // pinned
};

}  // namespace

std::unique_ptr<Engine> make_engine(const Network& network, const Options& options) {
  return std::make_unique<GpuEngine>(network, options);
}
