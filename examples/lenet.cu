// LeNet trained on drawn digits: forward, backward and descent with momentum, as Caffe does it:
// products by cuBLAS, everything else by kernels of our own, the loss read after every step.
//   lenet [--steps N] [--batch N] [--bits]     --bits: also a hash of all weights after the last step
//
// Every layer is a convolution without border; a fully connected one has a kernel as large as its
// input. Activations lie as [channel][picture][y][x], so that a layer is one product for the batch.
#include <cublas_v2.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "check.h"

#define CUBLAS_CHECK(call)                                                                                 \
  do {                                                                                                     \
    const cublasStatus_t status_ = (call);                                                                 \
    if (status_ != CUBLAS_STATUS_SUCCESS) {                                                                \
      std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cublasGetStatusString(status_));  \
      std::exit(1);                                                                                        \
    }                                                                                                      \
  } while (0)

namespace {

constexpr int kSide = 28, kClasses = 10, kThreads = 128;
constexpr float kRate = 0.02f, kMomentum = 0.9f;

struct Random {  // xorshift64*, the same numbers everywhere
  std::uint64_t state;
  float next() {  // from [-0.5, 0.5)
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return static_cast<float>((state * 2685821657736338717ull) >> 40) / 16777216.0f - 0.5f;
  }
  int below(int count) { return static_cast<int>((next() + 0.5f) * static_cast<float>(count)); }
};

int blocks(int count) { return (count + kThreads - 1) / kThreads; }
#define FOR_EACH_THREAD(i, count)                       \
  const int i = blockIdx.x * blockDim.x + threadIdx.x;  \
  if (i >= (count)) return

// A layer's input: batch pictures of channels x side x side, and the kernel that goes over them.
struct Window {
  int batch, channels, side, kernel;
  __host__ __device__ int out() const { return side - kernel + 1; }
  __host__ __device__ int depth() const { return channels * kernel * kernel; }
  __host__ __device__ int columns() const { return batch * out() * out(); }
  __host__ __device__ int inputs() const { return channels * batch * side * side; }
};

__global__ void im2col(const float* in, float* matrix, Window w) {
  FOR_EACH_THREAD(i, w.channels * w.columns());
  const int o = w.out(), column = i % w.columns(), channel = i / w.columns();
  const int x = column % o, y = column / o % o, picture = column / (o * o);
  const float* from = in + ((channel * w.batch + picture) * w.side + y) * w.side + x;
  for (int v = 0; v < w.kernel; ++v)
    for (int u = 0; u < w.kernel; ++u)
      matrix[((channel * w.kernel + v) * w.kernel + u) * w.columns() + column] = from[v * w.side + u];
}

// Gathers, in a fixed order: the same bits every time.
__global__ void col2im(const float* matrix, float* in, Window w) {
  FOR_EACH_THREAD(i, w.inputs());
  const int x = i % w.side, y = i / w.side % w.side, picture = i / (w.side * w.side) % w.batch;
  const int channel = i / (w.side * w.side * w.batch), o = w.out();
  float sum = 0;
  for (int v = max(0, y - o + 1); v < min(w.kernel, y + 1); ++v)
    for (int u = max(0, x - o + 1); u < min(w.kernel, x + 1); ++u)
      sum += matrix[((channel * w.kernel + v) * w.kernel + u) * w.columns() + (picture * o + y - v) * o + x - u];
  in[i] = sum;
}

__global__ void max_pool(const float* in, float* out, int* from, int side, int count) {
  FOR_EACH_THREAD(i, count);
  const int half = side / 2, x = i % half * 2, y = i / half % half * 2, first = (i / (half * half) * side + y) * side + x;
  int best = first;
  for (const int other : {first + 1, first + side, first + side + 1})
    if (in[other] > in[best]) best = other;
  out[i] = in[best];
  from[i] = best;
}

__global__ void max_pool_back(const float* gradient, const int* from, float* in, int count) {
  FOR_EACH_THREAD(i, count);  // `in` is zero, and the windows do not overlap
  in[from[i]] = gradient[i];
}

__global__ void relu(float* values, int count) {
  FOR_EACH_THREAD(i, count);
  values[i] = fmaxf(values[i], 0.0f);
}

__global__ void relu_back(const float* values, float* gradient, int count) {
  FOR_EACH_THREAD(i, count);
  if (values[i] <= 0) gradient[i] = 0;
}

__global__ void fill(float* values, float value, int count) {
  FOR_EACH_THREAD(i, count);
  values[i] = value;
}

// A thread for each picture: its loss, and the loss's gradient by the scores.
__global__ void softmax_loss(const float* scores, const int* labels, float* losses, float* gradient, int batch) {
  FOR_EACH_THREAD(i, batch);
  float largest = scores[i], sum = 0;
  for (int c = 1; c < kClasses; ++c) largest = fmaxf(largest, scores[c * batch + i]);
  for (int c = 0; c < kClasses; ++c) sum += expf(scores[c * batch + i] - largest);
  losses[i] = logf(sum) - (scores[labels[i] * batch + i] - largest);
  for (int c = 0; c < kClasses; ++c)
    gradient[c * batch + i] = (expf(scores[c * batch + i] - largest) / sum - (c == labels[i] ? 1.0f : 0.0f)) / batch;
}

struct Layer {
  Window window;
  int outputs;
  bool pools, rectifies;
  int offset = 0;                                            // of its weights among all; the biases come next
  float *in, *in_gradient, *matrix, *out, *out_gradient;     // matrix: im2col's, kept for the way back
  float *pooled, *pooled_gradient;                           // the next layer's in
  int* from;                                                 // where each maximum was
  int weights() const { return outputs * window.depth(); }
  int out_count() const { return outputs * window.columns(); }
  int pooled_count() const { return pools ? out_count() / 4 : out_count(); }
};

class LeNet {
 public:
  explicit LeNet(int batch) : batch_(batch) {
    CUBLAS_CHECK(cublasCreate(&cublas_));
    add(1, kSide, 5, 20, true, false);
    add(20, 12, 5, 50, true, false);
    add(50, 4, 4, 500, false, true);
    add(500, 1, 1, kClasses, false, false);
    pictures_ = allocate<float>(batch * kSide * kSide);
    labels_ = allocate<int>(batch);
    losses_ = allocate<float>(batch);
    parameters_ = allocate<float>(count_);
    gradients_ = allocate<float>(count_);
    history_ = allocate<float>(count_);
    ones_ = allocate<float>(layers_[0].window.columns());
    fill<<<blocks(layers_[0].window.columns()), kThreads>>>(ones_, 1.0f, layers_[0].window.columns());
    CUDA_CHECK(cudaMemset(history_, 0, sizeof(float) * count_));
    connect();
    begin();
  }
  ~LeNet() {
    for (void* memory : owned_) CUDA_CHECK(cudaFree(memory));
    CUBLAS_CHECK(cublasDestroy(cublas_));
  }

  float step(const std::vector<float>& pictures, const std::vector<int>& labels) {
    CUDA_CHECK(cudaMemcpy(pictures_, pictures.data(), sizeof(float) * pictures.size(), cudaMemcpyDefault));
    CUDA_CHECK(cudaMemcpy(labels_, labels.data(), sizeof(int) * labels.size(), cudaMemcpyDefault));
    for (Layer& layer : layers_) forward(layer);
    Layer& last = layers_.back();
    softmax_loss<<<blocks(batch_), kThreads>>>(last.out, labels_, losses_, last.out_gradient, batch_);
    for (std::size_t i = layers_.size(); i-- > 0;) backward(layers_[i], i > 0);
    CUDA_CHECK(cudaPeekAtLastError());
    const float minus_one = -1;
    CUBLAS_CHECK(cublasSscal(cublas_, count_, &kMomentum, history_, 1));
    CUBLAS_CHECK(cublasSaxpy(cublas_, count_, &kRate, gradients_, 1, history_, 1));
    CUBLAS_CHECK(cublasSaxpy(cublas_, count_, &minus_one, history_, 1, parameters_, 1));
    float loss = 0;
    CUBLAS_CHECK(cublasSasum(cublas_, batch_, losses_, 1, &loss));
    return loss / static_cast<float>(batch_);
  }

  std::vector<float> parameters() const {
    std::vector<float> values(count_);
    CUDA_CHECK(cudaMemcpy(values.data(), parameters_, sizeof(float) * values.size(), cudaMemcpyDefault));
    return values;
  }

 private:
  template <class T>
  T* allocate(int count) {
    T* memory;
    CUDA_CHECK(cudaMalloc(&memory, sizeof(T) * static_cast<std::size_t>(count)));
    owned_.push_back(memory);
    return memory;
  }

  void add(int channels, int side, int kernel, int outputs, bool pools, bool rectifies) {
    Layer layer{{batch_, channels, side, kernel}, outputs, pools, rectifies};
    layer.offset = count_;
    count_ += layer.weights() + outputs;
    layer.matrix = allocate<float>(layer.window.depth() * layer.window.columns());
    layer.out = layer.pooled = allocate<float>(layer.out_count());
    layer.out_gradient = layer.pooled_gradient = allocate<float>(layer.out_count());
    if (pools) {
      layer.pooled = allocate<float>(layer.pooled_count());
      layer.pooled_gradient = allocate<float>(layer.pooled_count());
      layer.from = allocate<int>(layer.pooled_count());
    }
    layers_.push_back(layer);
  }

  void connect() {
    layers_[0].in = pictures_;
    for (std::size_t i = 1; i < layers_.size(); ++i) {
      layers_[i].in = layers_[i - 1].pooled;
      layers_[i].in_gradient = layers_[i - 1].pooled_gradient;
    }
  }

  void begin() {
    std::vector<float> values(count_, 0.0f);
    Random random{7};
    for (const Layer& layer : layers_) {
      const float scale = std::sqrt(12.0f / static_cast<float>(layer.window.depth()));
      for (int i = 0; i < layer.weights(); ++i) values[layer.offset + i] = random.next() * scale;
    }
    CUDA_CHECK(cudaMemcpy(parameters_, values.data(), sizeof(float) * values.size(), cudaMemcpyDefault));
  }

  // Row-major matrices are cuBLAS's transposed ones.
  void product(cublasOperation_t a_form, cublasOperation_t b_form, int m, int n, int k, const float* a, int lda,
               const float* b, int ldb, float beta, float* c, int ldc) {
    const float one = 1;
    CUBLAS_CHECK(cublasSgemm(cublas_, a_form, b_form, m, n, k, &one, a, lda, b, ldb, &beta, c, ldc));
  }

  void forward(Layer& layer) {
    const Window& w = layer.window;
    const int columns = w.columns(), depth = w.depth();
    const float* weights = parameters_ + layer.offset;
    im2col<<<blocks(w.channels * columns), kThreads>>>(layer.in, layer.matrix, w);
    product(CUBLAS_OP_N, CUBLAS_OP_N, columns, layer.outputs, depth, layer.matrix, columns, weights, depth, 0, layer.out, columns);
    product(CUBLAS_OP_N, CUBLAS_OP_N, columns, layer.outputs, 1, ones_, columns, weights + layer.weights(), 1, 1, layer.out, columns);
    if (layer.rectifies) relu<<<blocks(layer.out_count()), kThreads>>>(layer.out, layer.out_count());
    if (layer.pools)
      max_pool<<<blocks(layer.pooled_count()), kThreads>>>(layer.out, layer.pooled, layer.from, w.out(), layer.pooled_count());
  }

  // From the gradient by `pooled` to those by the weights and, where wanted, by `in`.
  void backward(Layer& layer, bool wants_input) {
    const Window& w = layer.window;
    const int columns = w.columns(), depth = w.depth();
    const float one = 1, zero = 0, *weights = parameters_ + layer.offset;
    float* gradient = gradients_ + layer.offset;
    if (layer.pools) {
      CUDA_CHECK(cudaMemsetAsync(layer.out_gradient, 0, sizeof(float) * layer.out_count()));
      max_pool_back<<<blocks(layer.pooled_count()), kThreads>>>(layer.pooled_gradient, layer.from, layer.out_gradient,
                                                                layer.pooled_count());
    }
    if (layer.rectifies) relu_back<<<blocks(layer.out_count()), kThreads>>>(layer.out, layer.out_gradient, layer.out_count());
    product(CUBLAS_OP_T, CUBLAS_OP_N, depth, layer.outputs, columns, layer.matrix, columns, layer.out_gradient, columns, 0, gradient, depth);
    CUBLAS_CHECK(cublasSgemv(cublas_, CUBLAS_OP_T, columns, layer.outputs, &one, layer.out_gradient, columns, ones_, 1, &zero,
                             gradient + layer.weights(), 1));
    if (!wants_input) return;
    product(CUBLAS_OP_N, CUBLAS_OP_T, columns, depth, layer.outputs, layer.out_gradient, columns, weights, depth, 0, layer.matrix, columns);
    col2im<<<blocks(w.inputs()), kThreads>>>(layer.matrix, layer.in_gradient, w);
  }

  const int batch_;
  cublasHandle_t cublas_ = nullptr;
  std::vector<Layer> layers_;
  std::vector<void*> owned_;
  int count_ = 0;  // of all weights and biases
  float *pictures_, *losses_, *parameters_, *gradients_, *history_, *ones_;
  int* labels_;
};

// A digit of seven segments, somewhere in the picture, with noise.
void draw(Random& random, int digit, float* picture) {
  constexpr int kSegments[kClasses] = {0x77, 0x24, 0x5d, 0x6d, 0x2e, 0x6b, 0x7b, 0x25, 0x7f, 0x6f};  // bit 0: top
  const int left = 5 + random.below(7), top = 3 + random.below(5), thick = 2 + random.below(2);
  for (int i = 0; i < kSide * kSide; ++i) picture[i] = 0.3f * random.next();
  const auto bar = [&](int x, int y, int width, int height) {
    for (int v = y; v < y + height; ++v)
      for (int u = x; u < x + width; ++u) picture[v * kSide + u] += 0.8f;
  };
  for (int segment = 0; segment < 7; ++segment) {
    if ((kSegments[digit] >> segment & 1) == 0) continue;
    switch (segment) {
      case 0: case 3: case 6: bar(left, top + segment / 3 * 8, 10, thick); break;
      case 1: case 4: bar(left, top + segment / 3 * 8, thick, 9); break;
      default: bar(left + 8, top + segment / 3 * 8, thick, 9);
    }
  }
}

int number(int count, char** words, int i) {
  const int value = i + 1 < count ? std::atoi(words[i + 1]) : 0;
  if (value < 1 || value > 100000) {
    std::fprintf(stderr, "usage: lenet [--steps N] [--batch N] [--bits]\n");
    std::exit(2);
  }
  return value;
}

}  // namespace

int main(int count, char** words) {
  int steps = 16, batch = 32;
  bool bits = false;
  for (int i = 1; i < count; ++i) {
    if (std::strcmp(words[i], "--bits") == 0) {
      bits = true;
    } else {
      (std::strcmp(words[i], "--steps") == 0 ? steps : batch) = number(count, words, i);
      ++i;
    }
  }
  LeNet net(batch);
  Random random{42};
  std::vector<float> pictures(batch * kSide * kSide);
  std::vector<int> labels(batch);
  float first = 0, last = 0;
  for (int step = 0; step < steps; ++step) {
    for (int i = 0; i < batch; ++i) {
      labels[i] = (step * batch + i) % kClasses;
      draw(random, labels[i], pictures.data() + i * kSide * kSide);
    }
    last = net.step(pictures, labels);
    if (step == 0) first = last;
    if (steps <= 20 || step % (steps / 10) == 0) std::printf("step %d: loss %.2f\n", step, last);
  }
  std::printf("the loss fell: %s\n", last < first ? "yes" : "no");
  if (bits) {
    std::uint64_t hash = 0xcbf29ce484222325ull;  // FNV-1a
    for (const float value : net.parameters()) {
      unsigned char bytes[sizeof value];
      std::memcpy(bytes, &value, sizeof value);
      for (const unsigned char byte : bytes) hash = (hash ^ byte) * 0x100000001b3ull;
    }
    std::printf("hash of the weights %016llx\n", static_cast<unsigned long long>(hash));
  }
  return last < first ? 0 : 1;
}
