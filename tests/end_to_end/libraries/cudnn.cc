// A small network trained with cuDNN's legacy API, as Caffe does: convolution, bias, ReLU, maximum pooling, a
// fully connected layer as a convolution, softmax; forward, backward, and the step of gradient descent. Every
// step is compared with the same network in doubles on the host.
//
// It loads cudart and cuDNN by name and declares what it calls by itself, so it builds where cuDNN is not
// installed.
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

// Values of cuDNN's enums.
constexpr int kFloat = 0, kNchw = 0, kCrossCorrelation = 1, kFmaMath = 3, kRelu = 1, kPoolMaximum = 3;
constexpr int kSoftmaxAccurate = 1, kSoftmaxChannel = 1;
constexpr int kToDevice = 1, kToHost = 2;  // cudaMemcpyKind

constexpr int kBatch = 6, kSize = 8, kChannels = 5, kClasses = 4, kHalf = kSize / 2, kSteps = 30;
constexpr int kPixels = kSize * kSize, kCells = kHalf * kHalf;
constexpr float kRate = 0.3f;

void* open_library(const char* name) {
  void* library = dlopen(name, RTLD_NOW);
  if (library == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    std::exit(1);
  }
  return library;
}

void* symbol(const std::string& name) {
  static void* const runtime = open_library("libcudart.so.13");
  static void* const cudnn = open_library("libcudnn.so.9");
  void* found = dlsym(name.compare(0, 5, "cudnn") == 0 ? cudnn : runtime, name.c_str());
  if (found == nullptr) {
    std::fprintf(stderr, "%s is missing\n", name.c_str());
    std::exit(1);
  }
  return found;
}

template <class... Args>
int status_of(const std::string& name, Args... args) {
  return reinterpret_cast<int (*)(Args...)>(symbol(name))(args...);
}

/// A call that must succeed. Arguments have exactly the types of the C API; enums are int.
template <class... Args>
void call(const std::string& name, Args... args) {
  const int status = status_of(name, args...);
  if (status == 0) return;
  char why[256] = "";
  if (name.compare(0, 5, "cudnn") == 0)
    reinterpret_cast<void (*)(char*, std::size_t)>(symbol("cudnnGetLastErrorString"))(why, sizeof why);
  std::fprintf(stderr, "%s: status %d %s\n", name.c_str(), status, why);
  std::exit(1);
}

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "%s\n", what);
  std::exit(1);
}

std::uint32_t state = 12345;
float uniform() {  // [-1, 1)
  state = state * 1664525u + 1013904223u;
  return static_cast<float>(state >> 8) / 8388608.0f - 1;
}

void* handle = nullptr;
void* stream = nullptr;

/// Floats on the device.
struct Values {
  explicit Values(std::size_t n) : count(n) { call("cudaMalloc", &data, n * sizeof(float)); }
  void set(const std::vector<float>& from) {
    call("cudaMemcpyAsync", data, from.data(), from.size() * sizeof(float), kToDevice, stream);
    call("cudaStreamSynchronize", stream);
  }
  std::vector<float> get() const {
    std::vector<float> to(count);
    call("cudaMemcpyAsync", static_cast<void*>(to.data()), data, count * sizeof(float), kToHost, stream);
    call("cudaStreamSynchronize", stream);
    return to;
  }
  std::size_t count;
  void* data = nullptr;
};

void* descriptor(const char* kind) {
  void* made = nullptr;
  call(std::string("cudnnCreate") + kind + "Descriptor", &made);
  return made;
}
void* tensor(int n, int c, int h, int w) {
  void* made = descriptor("Tensor");
  call("cudnnSetTensor4dDescriptor", made, kNchw, kFloat, n, c, h, w);
  return made;
}

const float kOne = 1, kZero = 0;

/// A convolution with its bias, and how it is computed.
struct Layer {
  void *x, *y, *filter, *convolution, *bias_shape;
  Values weights, bias, d_weights, d_bias;
  int forward_algorithm = 0, data_algorithm = 0, filter_algorithm = 0;
  std::size_t workspace_bytes = 0;
  void* workspace = nullptr;

  Layer(void* in, void* out, int k, int c, int size, int pad)
      : x(in),
        y(out),
        filter(descriptor("Filter")),
        convolution(descriptor("Convolution")),
        bias_shape(tensor(1, k, 1, 1)),
        weights(k * c * size * size),
        bias(k),
        d_weights(weights.count),
        d_bias(k) {
    call("cudnnSetFilter4dDescriptor", filter, kFloat, kNchw, k, c, size, size);
    call("cudnnSetConvolution2dDescriptor", convolution, pad, pad, 1, 1, 1, 1, kCrossCorrelation, kFloat);
    call("cudnnSetConvolutionMathType", convolution, kFmaMath);
    int dims[4] = {}, expected[9] = {};
    call("cudnnGetConvolution2dForwardOutputDim", convolution, x, filter, &dims[0], &dims[1], &dims[2],
         &dims[3]);
    call("cudnnGetTensor4dDescriptor", y, &expected[8], &expected[0], &expected[1], &expected[2],
         &expected[3], &expected[4], &expected[5], &expected[6], &expected[7]);
    for (int d = 0; d < 4; ++d)
      require(dims[d] == expected[d], "the convolution's output is of another shape");
    choose();
    std::vector<float> values(weights.count);
    for (float& v : values) v = 0.3f * uniform();
    weights.set(values);
    bias.set(std::vector<float>(bias.count, 0.05f));
  }

  /// What cudnnConvolution{Fwd,BwdData,BwdFilter}AlgoPerf_t are.
  struct Performance {
    int algorithm, status;
    float time;
    std::size_t memory;
    int determinism, math, reserved[3];
  };
  static int best(const Performance* found, int count) {
    for (int i = 0; i < count; ++i)
      if (found[i].status == 0 && found[i].determinism == 1) return found[i].algorithm;
    require(false, "no deterministic algorithm");
    return 0;
  }
  void choose() {
    Performance found[8] = {};
    int count = 0;
    std::size_t bytes = 0;
    const auto room = [&] { workspace_bytes = std::max(workspace_bytes, bytes); };
    call("cudnnGetConvolutionForwardAlgorithm_v7", handle, x, filter, convolution, y, 8, &count, &found[0]);
    forward_algorithm = best(found, count);
    call("cudnnGetConvolutionForwardWorkspaceSize", handle, x, filter, convolution, y, forward_algorithm,
         &bytes);
    room();
    call("cudnnGetConvolutionBackwardDataAlgorithm_v7", handle, filter, y, convolution, x, 8, &count,
         &found[0]);
    data_algorithm = best(found, count);
    call("cudnnGetConvolutionBackwardDataWorkspaceSize", handle, filter, y, convolution, x, data_algorithm,
         &bytes);
    room();
    call("cudnnGetConvolutionBackwardFilterAlgorithm_v7", handle, x, y, convolution, filter, 8, &count,
         &found[0]);
    filter_algorithm = best(found, count);
    call("cudnnGetConvolutionBackwardFilterWorkspaceSize", handle, x, y, convolution, filter,
         filter_algorithm, &bytes);
    room();
    if (workspace_bytes != 0) call("cudaMalloc", &workspace, workspace_bytes);
  }

  void forward(const Values& in, const Values& out) {
    call("cudnnConvolutionForward", handle, &kOne, x, in.data, filter, weights.data, convolution,
         forward_algorithm, workspace, workspace_bytes, &kZero, y, out.data);
    call("cudnnAddTensor", handle, &kOne, bias_shape, bias.data, &kOne, y, out.data);
  }
  void backward(const Values& in, const Values& d_out) {
    call("cudnnConvolutionBackwardBias", handle, &kOne, y, d_out.data, &kZero, bias_shape, d_bias.data);
    call("cudnnConvolutionBackwardFilter", handle, &kOne, x, in.data, y, d_out.data, convolution,
         filter_algorithm, workspace, workspace_bytes, &kZero, filter, d_weights.data);
  }
  void backward_data(const Values& d_out, const Values& d_in) {
    call("cudnnConvolutionBackwardData", handle, &kOne, filter, weights.data, y, d_out.data, convolution,
         data_algorithm, workspace, workspace_bytes, &kZero, x, d_in.data);
  }
  void step() {
    const float rate = -kRate;
    void* all = tensor(1, static_cast<int>(weights.count), 1, 1);
    call("cudnnAddTensor", handle, &rate, all, d_weights.data, &kOne, all, weights.data);
    call("cudnnDestroyTensorDescriptor", all);
    call("cudnnAddTensor", handle, &rate, bias_shape, d_bias.data, &kOne, bias_shape, bias.data);
  }
};

/// The same network on the host.
struct Host {
  std::vector<double> w1, b1, w2, b2;
  double loss = 0;

  void step(const std::vector<float>& x, const std::vector<int>& labels) {
    std::vector<double> dw1(w1.size()), db1(b1.size()), dw2(w2.size()), db2(b2.size());
    loss = 0;
    for (int n = 0; n < kBatch; ++n) {
      const float* in = &x[n * kPixels];
      std::vector<double> a(kChannels * kPixels), p(kChannels * kCells), dp(p.size());
      std::vector<int> from(p.size());
      for (int k = 0; k < kChannels; ++k)
        each_tap([&](int o, int i, int f) { a[k * kPixels + o] += w1[k * 9 + f] * in[i]; });
      for (int i = 0; i < kChannels * kPixels; ++i) a[i] = std::max(0.0, a[i] + b1[i / kPixels]);
      for (int i = 0; i < kChannels * kCells; ++i) {
        const int corner = i / kCells * kPixels + i % kCells / kHalf * 2 * kSize + i % kHalf * 2;
        from[i] = corner;
        for (const int at : {corner + 1, corner + kSize, corner + kSize + 1})
          if (a[at] > a[from[i]]) from[i] = at;
        p[i] = a[from[i]];
      }
      double z[kClasses], sum = 0;
      for (int c = 0; c < kClasses; ++c) {
        z[c] = b2[c];
        for (std::size_t i = 0; i < p.size(); ++i) z[c] += w2[c * p.size() + i] * p[i];
        sum += std::exp(z[c]);
      }
      loss -= (z[labels[n]] - std::log(sum)) / kBatch;
      for (int c = 0; c < kClasses; ++c) {
        const double dz = (std::exp(z[c]) / sum - (c == labels[n])) / kBatch;
        db2[c] += dz;
        for (std::size_t i = 0; i < p.size(); ++i) {
          dw2[c * p.size() + i] += dz * p[i];
          dp[i] += dz * w2[c * p.size() + i];
        }
      }
      std::vector<double> da(a.size());
      for (std::size_t i = 0; i < p.size(); ++i)
        if (a[from[i]] > 0) da[from[i]] += dp[i];
      for (std::size_t i = 0; i < da.size(); ++i) db1[i / kPixels] += da[i];
      for (int k = 0; k < kChannels; ++k)
        each_tap([&](int o, int i, int f) { dw1[k * 9 + f] += da[k * kPixels + o] * in[i]; });
    }
    descend(w1, dw1), descend(b1, db1), descend(w2, dw2), descend(b2, db2);
  }
  /// Calls `tap(output, input, filter element)` for all of a 3 x 3 filter over the padded picture.
  template <class Tap>
  static void each_tap(Tap tap) {
    for (int o = 0; o < kPixels; ++o)
      for (int f = 0; f < 9; ++f) {
        const int y = o / kSize + f / 3 - 1, x = o % kSize + f % 3 - 1;
        if (y >= 0 && y < kSize && x >= 0 && x < kSize) tap(o, y * kSize + x, f);
      }
  }
  static void descend(std::vector<double>& w, const std::vector<double>& d) {
    for (std::size_t i = 0; i < w.size(); ++i) w[i] -= kRate * d[i];
  }
};

std::vector<double> widened(const std::vector<float>& v) { return {v.begin(), v.end()}; }

void compare(const char* what, const Values& got, const std::vector<double>& expected) {
  const std::vector<float> values = got.get();
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::fabs(values[i] - expected[i]) <= 2e-3 * std::max(1.0, std::fabs(expected[i]))) continue;
    std::fprintf(stderr, "%s[%zu] is %g, on the host %g\n", what, i, values[i], expected[i]);
    std::exit(1);
  }
}

/// What a program is told at once when it does something wrong.
void check_errors(void* shape, const Values& values) {
  constexpr int kBadParam = 2000;
  require(status_of("cudnnSetTensor4dDescriptor", shape, kNchw, kFloat, 0, 1, 1, 1) == kBadParam,
          "an empty tensor was accepted");
  void* other = tensor(1, 2, 3, 4);
  void* activation = descriptor("Activation");
  call("cudnnSetActivationDescriptor", activation, kRelu, 0, 0.0);
  const int status = status_of("cudnnActivationForward", handle, activation, &kOne, other, values.data,
                               &kZero, shape, values.data);
  require(status / 1000 == 2, "tensors of different shapes were accepted");
  call("cudnnDestroyActivationDescriptor", activation);
  call("cudnnDestroyTensorDescriptor", other);
}

}  // namespace

int main() {
  require(reinterpret_cast<std::size_t (*)()>(symbol("cudnnGetVersion"))() / 10000 == 9,
          "cuDNN is not of version 9");
  call("cudaStreamCreate", &stream);
  call("cudnnCreate", &handle);
  call("cudnnSetStream", handle, stream);

  void *xs = tensor(kBatch, 1, kSize, kSize), *as = tensor(kBatch, kChannels, kSize, kSize);
  void *ps = tensor(kBatch, kChannels, kHalf, kHalf), *zs = tensor(kBatch, kClasses, 1, 1);
  Values x(kBatch * kPixels), a(kBatch * kChannels * kPixels), r(a.count), p(kBatch * kChannels * kCells);
  Values z(kBatch * kClasses), y(z.count), labels(z.count), dz(z.count), dp(p.count), dr(a.count),
      da(a.count);
  Layer first(xs, as, kChannels, 1, 3, 1), second(ps, zs, kClasses, kChannels, kHalf, 0);
  void *relu = descriptor("Activation"), *pooling = descriptor("Pooling");
  call("cudnnSetActivationDescriptor", relu, kRelu, 0, 0.0);
  call("cudnnSetPooling2dDescriptor", pooling, kPoolMaximum, 0, 2, 2, 0, 0, 2, 2);

  std::vector<float> pictures(x.count), one_hot(z.count);
  std::vector<int> classes(kBatch);
  for (float& v : pictures) v = uniform();
  for (int n = 0; n < kBatch; ++n) one_hot[n * kClasses + (classes[n] = n % kClasses)] = 1;
  x.set(pictures);
  labels.set(one_hot);
  Host host{widened(first.weights.get()), widened(first.bias.get()), widened(second.weights.get()),
            widened(second.bias.get())};

  double first_loss = 0;
  const float minus = -1, share = 1.0f / kBatch;
  for (int step = 0; step < kSteps; ++step) {
    first.forward(x, a);
    call("cudnnActivationForward", handle, relu, &kOne, as, a.data, &kZero, as, r.data);
    call("cudnnPoolingForward", handle, pooling, &kOne, as, r.data, &kZero, ps, p.data);
    second.forward(p, z);
    call("cudnnSoftmaxForward", handle, kSoftmaxAccurate, kSoftmaxChannel, &kOne, zs, z.data, &kZero, zs,
         y.data);
    // The gradient of the mean cross entropy: (y - labels) / batch.
    call("cudnnTransformTensor", handle, &kOne, zs, y.data, &kZero, zs, dz.data);
    call("cudnnAddTensor", handle, &minus, zs, labels.data, &kOne, zs, dz.data);
    call("cudnnScaleTensor", handle, zs, dz.data, &share);
    second.backward(p, dz);
    second.backward_data(dz, dp);
    call("cudnnPoolingBackward", handle, pooling, &kOne, ps, p.data, ps, dp.data, as, r.data, &kZero, as,
         dr.data);
    call("cudnnActivationBackward", handle, relu, &kOne, as, r.data, as, dr.data, as, a.data, &kZero, as,
         da.data);
    first.backward(x, da);
    first.step();
    second.step();
    host.step(pictures, classes);
    if (step == 0) first_loss = host.loss;
    if (step % 10 != 0 && step != kSteps - 1) continue;
    const std::vector<float> probabilities = y.get();
    double loss = 0;
    for (int n = 0; n < kBatch; ++n) loss -= std::log(probabilities[n * kClasses + classes[n]]) / kBatch;
    std::printf("step %d: loss %.5f\n", step, loss);
    require(std::fabs(loss - host.loss) < 1e-3, "the loss is not the host's");
    compare("weights of the first layer", first.weights, host.w1);
    compare("bias of the first layer", first.bias, host.b1);
    compare("weights of the second layer", second.weights, host.w2);
    compare("bias of the second layer", second.bias, host.b2);
  }
  require(host.loss < 0.3 * first_loss, "the network did not learn");
  check_errors(xs, x);
  call("cudnnDestroy", handle);
  std::printf("passed\n");
  return 0;
}
