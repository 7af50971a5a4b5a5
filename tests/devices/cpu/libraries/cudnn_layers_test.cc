// Pooling, activations, softmax, normalisations, dropout and operations on tensors against plain loops.
#include <limits>
#include <numeric>

#include "cudnn_support.h"

using namespace test;

namespace {

const float kOne = 1, kZero = 0;

/// y = alpha * f(x) + beta * y, both ways of blending, on a tensor with gaps and on one with channels last.
template <class Forward, class Reference>
void check_forward(const Dims& xs, const Dims& ys, Forward forward, Reference reference) {
  Dnn d;
  for (const bool channels_last : {false, true}) {
    Array x(xs, channels_last ? nhwc_strides(xs) : strides_of(xs, 2));
    Array y(ys, channels_last ? strides_of(ys) : nhwc_strides(ys));
    const auto values = x.random(1);
    const std::vector<double> expected = reference(std::vector<double>(values.begin(), values.end()));
    REQUIRE(forward(d.handle, &kOne, x, &kZero, y) == kSuccess);
    check_close(y.get(), expected);
    const auto old = y.random(2);
    const float alpha = 3, beta = -0.5f;
    REQUIRE(forward(d.handle, &alpha, x, &beta, y) == kSuccess);
    std::vector<double> blended(expected);
    for (std::size_t i = 0; i < blended.size(); ++i) blended[i] = 3 * expected[i] - 0.5 * old[i];
    check_close(y.get(), blended);
  }
}

/// Compares dx with differences of f: what the sum of dy * f(x) changes by when one x does.
template <class F>
void check_gradient(const std::vector<double>& x, const std::vector<double>& dy, const std::vector<float>& dx,
                    F f) {
  constexpr double kStep = 1e-5;
  REQUIRE(dx.size() == x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    double difference = 0;
    for (const double sign : {1.0, -1.0}) {
      std::vector<double> moved = x;
      moved[i] += sign * kStep;
      const std::vector<double> y = f(moved);
      for (std::size_t j = 0; j < y.size(); ++j) difference += sign * dy[j] * y[j];
    }
    INFO("element " << i);
    REQUIRE(dx[i] == Catch::Approx(difference / (2 * kStep)).margin(2e-4).epsilon(1e-3));
  }
}
std::vector<double> wide(const std::vector<float>& v) { return {v.begin(), v.end()}; }

constexpr int kPoolH = 3, kPoolW = 2, kPadH = 1, kPadW = 1, kStepH = 2, kStepW = 1;

std::vector<double> pooled(const std::vector<double>& x, const Dims& xs, const Dims& ys, int mode) {
  std::vector<double> y;
  for (int plane = 0; plane < xs[0] * xs[1]; ++plane)
    for (int i = 0; i < ys[2]; ++i)
      for (int j = 0; j < ys[3]; ++j) {
        double best = -1e30, sum = 0;
        int inside = 0;
        for (int r = i * kStepH - kPadH; r < i * kStepH - kPadH + kPoolH; ++r)
          for (int s = j * kStepW - kPadW; s < j * kStepW - kPadW + kPoolW; ++s) {
            if (r < 0 || r >= xs[2] || s < 0 || s >= xs[3]) continue;
            const double v = x[(plane * xs[2] + r) * xs[3] + s];
            best = std::max(best, v), sum += v, ++inside;
          }
        y.push_back(mode == 0 || mode == 3 ? best : sum / (mode == 1 ? kPoolH * kPoolW : inside));
      }
  return y;
}

double activation_of(int mode, double coefficient, double x) {
  switch (mode) {
    case 0:
      return 1 / (1 + std::exp(-x));
    case 1:
      return std::max(0.0, x);
    case 2:
      return std::tanh(x);
    case 3:
      return std::min(std::max(0.0, x), coefficient);
    case 4:
      return x > 0 ? x : coefficient * (std::exp(x) - 1);
    default:
      return x / (1 + std::exp(-x));
  }
}

std::vector<double> softmax_of(const std::vector<double>& x, const Dims& dims, bool channel, bool log) {
  const int inner = channel ? dims[2] * dims[3] : 1;
  const int length = channel ? dims[1] : dims[1] * dims[2] * dims[3];
  std::vector<double> y(x.size());
  for (int o = 0; o < dims[0]; ++o)
    for (int i = 0; i < inner; ++i) {
      double sum = 0;
      for (int c = 0; c < length; ++c) sum += std::exp(x[(o * length + c) * inner + i]);
      for (int c = 0; c < length; ++c) {
        const int at = (o * length + c) * inner + i;
        y[at] = log ? x[at] - std::log(sum) : std::exp(x[at]) / sum;
      }
    }
  return y;
}

}  // namespace

TEST_CASE("pooling gives the maximum or the average of each window, and its gradient") {
  Dnn d;
  const Dims xs{2, 3, 7, 6}, ys{2, 3, 4, 7};
  Descriptor pooling("Pooling");
  void* pd = pooling;
  for (int mode = 0; mode < 4; ++mode) {
    INFO("mode " << mode);
    REQUIRE(dnn("SetPooling2dDescriptor", pd, mode, 0, kPoolH, kPoolW, kPadH, kPadW, kStepH, kStepW) ==
            kSuccess);
    Array shape(xs);
    int dims[4] = {};
    void* xd = shape.descriptor;
    REQUIRE(dnn("GetPooling2dForwardOutputDim", pd, xd, &dims[0], &dims[1], &dims[2], &dims[3]) == kSuccess);
    CHECK(Dims(dims, dims + 4) == ys);
    const auto reference = [&](const std::vector<double>& x) { return pooled(x, xs, ys, mode); };
    check_forward(
        xs, ys,
        [&](void* h, const float* alpha, Array<>& x, const float* beta, Array<>& y) {
          return dnn("PoolingForward", h, pd, alpha, (void*)x.descriptor, x.data(), beta, (void*)y.descriptor,
                     y.data());
        },
        reference);
    Array x(xs), y(ys), dy(ys), dx(xs, strides_of(xs, 3));
    const auto xv = x.random(3), dyv = dy.random(4);
    y.random(5);
    REQUIRE(dnn("PoolingBackward", d.handle, pd, &kOne, (void*)y.descriptor, y.data(), (void*)dy.descriptor,
                dy.data(), (void*)x.descriptor, x.data(), &kZero, (void*)dx.descriptor,
                dx.data()) == kSuccess);
    check_gradient(wide(xv), wide(dyv), dx.get(), reference);
  }
}

TEST_CASE("windows of pooling that reach over the edge, as programs that round up ask for, are cut") {
  Dnn d;
  Array x({1, 1, 4, 4}), y({1, 1, 2, 2});
  std::vector<float> values(16);
  std::iota(values.begin(), values.end(), 0.0f);
  x.set(values);
  Descriptor pooling("Pooling");
  void* pd = pooling;
  REQUIRE(dnn("SetPooling2dDescriptor", pd, 0, 0, 3, 3, 0, 0, 2, 2) == kSuccess);
  REQUIRE(dnn("PoolingForward", d.handle, pd, &kOne, (void*)x.descriptor, x.data(), &kZero,
              (void*)y.descriptor, y.data()) == kSuccess);
  check_close(y.get(), {10, 11, 14, 15});
}

TEST_CASE("activations give their functions and their gradients") {
  Dnn d;
  const Dims dims{2, 3, 3, 5};
  Descriptor activation("Activation");
  void* ad = activation;
  for (const int mode : {0, 1, 2, 3, 4, 6}) {
    INFO("mode " << mode);
    const double coefficient = mode == 3 ? 0.4 : 0.7;
    REQUIRE(dnn("SetActivationDescriptor", ad, mode, 0, coefficient) == kSuccess);
    const auto reference = [&](std::vector<double> x) {
      for (double& v : x) v = activation_of(mode, coefficient, v);
      return x;
    };
    check_forward(
        dims, dims,
        [&](void* h, const float* alpha, Array<>& x, const float* beta, Array<>& y) {
          return dnn("ActivationForward", h, ad, alpha, (void*)x.descriptor, x.data(), beta,
                     (void*)y.descriptor, y.data());
        },
        reference);
    Array x(dims), y(dims), dy(dims, nhwc_strides(dims)), dx(dims);
    const auto xv = x.random(3), dyv = dy.random(4);
    REQUIRE(dnn("ActivationForward", d.handle, ad, &kOne, (void*)x.descriptor, x.data(), &kZero,
                (void*)y.descriptor, y.data()) == kSuccess);
    REQUIRE(dnn("ActivationBackward", d.handle, ad, &kOne, (void*)y.descriptor, y.data(),
                (void*)dy.descriptor, dy.data(), (void*)x.descriptor, x.data(), &kZero, (void*)dx.descriptor,
                dx.data()) == kSuccess);
    check_gradient(wide(xv), wide(dyv), dx.get(), reference);
  }
}

TEST_CASE("softmax over channels and instances, also of large numbers, and its gradient") {
  Dnn d;
  const Dims dims{2, 5, 3, 2};
  for (int algorithm = 0; algorithm < 3; ++algorithm)
    for (int mode = 0; mode < 2; ++mode) {
      INFO("algorithm " << algorithm << ", mode " << mode);
      const auto reference = [&](const std::vector<double>& x) {
        return softmax_of(x, dims, mode == 1, algorithm == 2);
      };
      check_forward(
          dims, dims,
          [&](void* h, const float* alpha, Array<>& x, const float* beta, Array<>& y) {
            return dnn("SoftmaxForward", h, algorithm, mode, alpha, (void*)x.descriptor, x.data(), beta,
                       (void*)y.descriptor, y.data());
          },
          reference);
      Array x(dims), y(dims), dy(dims), dx(dims, nhwc_strides(dims));
      const auto xv = x.random(3), dyv = dy.random(4);
      REQUIRE(dnn("SoftmaxForward", d.handle, algorithm, mode, &kOne, (void*)x.descriptor, x.data(), &kZero,
                  (void*)y.descriptor, y.data()) == kSuccess);
      REQUIRE(dnn("SoftmaxBackward", d.handle, algorithm, mode, &kOne, (void*)y.descriptor, y.data(),
                  (void*)dy.descriptor, dy.data(), &kZero, (void*)dx.descriptor, dx.data()) == kSuccess);
      check_gradient(wide(xv), wide(dyv), dx.get(), reference);
    }
  Array x({1, 2, 1, 1}), y({1, 2, 1, 1});
  x.set({1000, 1000});
  REQUIRE(dnn("SoftmaxForward", d.handle, 1, 0, &kOne, (void*)x.descriptor, x.data(), &kZero,
              (void*)y.descriptor, y.data()) == kSuccess);
  check_close(y.get(), {0.5, 0.5});
}

TEST_CASE("response normalisation across channels and within a channel, and its gradient") {
  Dnn d;
  const Dims dims{2, 7, 3, 4};
  constexpr unsigned n = 4;
  constexpr double alpha = 0.9, beta = 0.75, k = 1.5;
  Descriptor lrn("LRN");
  void* ld = lrn;
  REQUIRE(dnn("SetLRNDescriptor", ld, n, alpha, beta, k) == kSuccess);
  const auto at = [&](int i, int c, int y, int x) { return ((i * dims[1] + c) * dims[2] + y) * dims[3] + x; };
  const auto reference = [&](bool across, const std::vector<double>& x) {
    const int before = (n - 1) / 2, after = n - 1 - before;
    std::vector<double> result(x.size());
    for (int i = 0; i < dims[0]; ++i)
      for (int c = 0; c < dims[1]; ++c)
        for (int y = 0; y < dims[2]; ++y)
          for (int z = 0; z < dims[3]; ++z) {
            double sum = 0;
            for (int a = -before; a <= after; ++a)
              for (int b = across ? 0 : -before; b <= (across ? 0 : after); ++b) {
                const int cc = across ? c + a : c, yy = across ? y : y + a, zz = z + b;
                if (cc < 0 || cc >= dims[1] || yy < 0 || yy >= dims[2] || zz < 0 || zz >= dims[3]) continue;
                sum += x[at(i, cc, yy, zz)] * x[at(i, cc, yy, zz)];
              }
            const double s = k + alpha / (across ? n : n * n) * sum;
            result[at(i, c, y, z)] = x[at(i, c, y, z)] * std::pow(s, -beta);
          }
    return result;
  };
  void* no_means = nullptr;
  for (const bool across : {true, false}) {
    INFO(across);
    const auto f = [&](const std::vector<double>& x) { return reference(across, x); };
    Array temporary(dims), x(dims), y(dims), dy(dims), dx(dims);
    check_forward(
        dims, dims,
        [&](void* h, const float* a, Array<>& from, const float* b, Array<>& to) {
          return across
                     ? dnn("LRNCrossChannelForward", h, ld, 0, a, (void*)from.descriptor, from.data(), b,
                           (void*)to.descriptor, to.data())
                     : dnn("DivisiveNormalizationForward", h, ld, 0, a, (void*)from.descriptor, from.data(),
                           no_means, temporary.data(), temporary.data(), b, (void*)to.descriptor, to.data());
        },
        f);
    const auto xv = x.random(3), dyv = dy.random(4);
    const int status = across ? dnn("LRNCrossChannelBackward", d.handle, ld, 0, &kOne, (void*)y.descriptor,
                                    y.data(), (void*)dy.descriptor, dy.data(), (void*)x.descriptor, x.data(),
                                    &kZero, (void*)dx.descriptor, dx.data())
                              : dnn("DivisiveNormalizationBackward", d.handle, ld, 0, &kOne,
                                    (void*)x.descriptor, x.data(), no_means, dy.data(), temporary.data(),
                                    temporary.data(), &kZero, (void*)dx.descriptor, dx.data(), no_means);
    REQUIRE(status == kSuccess);
    check_gradient(wide(xv), wide(dyv), dx.get(), f);
  }
}

TEST_CASE("batch normalisation: training, its gradients, running averages and inference") {
  Dnn d;
  const Dims dims{3, 2, 2, 3};
  constexpr double epsilon = 1e-3;
  for (const int mode : {0, 1}) {
    INFO("mode " << mode);
    Array x(dims, nhwc_strides(dims)), y(dims), dy(dims), dx(dims);
    const Dims ps = mode == 0 ? Dims{1, 2, 2, 3} : Dims{1, 2, 1, 1};
    Array scale(ps), bias(ps), mean(ps), variance(ps), save_mean(ps), save_inverse(ps), d_scale(ps),
        d_bias(ps);
    Descriptor derived("Tensor");
    void *p = derived, *xd = x.descriptor, *yd = y.descriptor;
    REQUIRE(dnn("DeriveBNTensorDescriptor", p, xd, mode) == kSuccess);
    const auto xv = x.random(1), sv = scale.random(2), bv = bias.random(3), mv = mean.random(4),
               vv = variance.random(5);
    const int parameters = static_cast<int>(sv.size()), m = static_cast<int>(xv.size()) / parameters;
    const auto set_of = [&](int i) { return mode == 0 ? i % 12 : i / 6 % 2; };
    std::vector<double> means(parameters), variances(parameters);
    const auto reference = [&](const std::vector<double>& v) {
      std::fill(means.begin(), means.end(), 0);
      std::fill(variances.begin(), variances.end(), 0);
      for (int i = 0; i < int(v.size()); ++i) means[set_of(i)] += v[i] / m;
      for (int i = 0; i < int(v.size()); ++i)
        variances[set_of(i)] += std::pow(v[i] - means[set_of(i)], 2) / m;
      std::vector<double> result(v.size());
      for (int i = 0; i < int(v.size()); ++i) {
        const int s = set_of(i);
        result[i] = (v[i] - means[s]) / std::sqrt(variances[s] + epsilon) * sv[s] + bv[s];
      }
      return result;
    };
    REQUIRE(dnn("BatchNormalizationForwardTraining", d.handle, mode, &kOne, &kZero, xd, x.data(), yd,
                y.data(), p, scale.data(), bias.data(), 0.25, mean.data(), variance.data(), epsilon,
                save_mean.data(), save_inverse.data()) == kSuccess);
    check_close(y.get(), reference(wide(xv)), 1e-4);
    check_close(save_mean.get(), means);
    std::vector<double> running_mean(parameters), running_variance(parameters);
    for (int i = 0; i < parameters; ++i) {
      running_mean[i] = 0.75 * mv[i] + 0.25 * means[i];
      running_variance[i] = 0.75 * vv[i] + 0.25 * variances[i] * m / (m - 1);
    }
    check_close(mean.get(), running_mean);
    check_close(variance.get(), running_variance);

    const auto dyv = dy.random(6);
    const auto check_backward = [&](void* saved_mean, void* saved_inverse) {
      REQUIRE(dnn("BatchNormalizationBackward", d.handle, mode, &kOne, &kZero, &kOne, &kZero, xd, x.data(),
                  (void*)dy.descriptor, dy.data(), (void*)dx.descriptor, dx.data(), p, scale.data(),
                  d_scale.data(), d_bias.data(), epsilon, saved_mean, saved_inverse) == kSuccess);
      check_gradient(wide(xv), wide(dyv), dx.get(), reference);
      reference(wide(xv));
      std::vector<double> ds(parameters), db(parameters);
      for (int i = 0; i < int(dyv.size()); ++i) {
        const int s = set_of(i);
        db[s] += dyv[i];
        ds[s] += dyv[i] * (xv[i] - means[s]) / std::sqrt(variances[s] + epsilon);
      }
      check_close(d_scale.get(), ds, 1e-4);
      check_close(d_bias.get(), db, 1e-4);
    };
    check_backward(save_mean.data(), save_inverse.data());
    check_backward(nullptr, nullptr);

    variance.set(std::vector<float>(sv.size(), 0.5f));
    REQUIRE(dnn("BatchNormalizationForwardInference", d.handle, mode, &kOne, &kZero, xd, x.data(), yd,
                y.data(), p, scale.data(), bias.data(), mean.data(), variance.data(), epsilon) == kSuccess);
    std::vector<double> inferred(xv.size());
    for (int i = 0; i < int(xv.size()); ++i) {
      const int s = set_of(i);
      inferred[i] = (xv[i] - running_mean[s]) / std::sqrt(0.5 + epsilon) * sv[s] + bv[s];
    }
    check_close(y.get(), inferred);
  }
}

TEST_CASE("dropout keeps about its share, scaled, and its gradient passes where the value did") {
  Dnn d;
  const Dims dims{4, 5, 16, 16};
  Array x(dims), y(dims), dy(dims), dx(dims);
  std::size_t states_bytes = 0, mask_bytes = 0;
  void* xd = x.descriptor;
  REQUIRE(dnn("DropoutGetStatesSize", d.handle, &states_bytes) == kSuccess);
  REQUIRE(dnn("DropoutGetReserveSpaceSize", xd, &mask_bytes) == kSuccess);
  Buffer states(states_bytes), mask(mask_bytes);
  void *sp = reinterpret_cast<void*>(states.address), *mp = reinterpret_cast<void*>(mask.address);
  Descriptor dropout("Dropout");
  void* dd = dropout;
  REQUIRE(dnn("SetDropoutDescriptor", dd, d.handle, 0.25f, sp, states_bytes, 7ull) == kSuccess);
  x.set(std::vector<float>(x.size(), 3));
  dy.set(std::vector<float>(x.size(), 1));
  std::vector<std::vector<float>> draws;
  for (int i = 0; i < 2; ++i) {
    REQUIRE(dnn("DropoutForward", d.handle, dd, xd, x.data(), (void*)y.descriptor, y.data(), mp,
                mask_bytes) == kSuccess);
    draws.push_back(y.get());
  }
  CHECK(draws[0] != draws[1]);
  REQUIRE(dnn("DropoutBackward", d.handle, dd, xd, dy.data(), (void*)dx.descriptor, dx.data(), mp,
              mask_bytes) == kSuccess);
  const auto gradient = dx.get();
  std::size_t kept = 0;
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    REQUIRE((draws[1][i] == 0 || draws[1][i] == Catch::Approx(4)));
    REQUIRE(gradient[i] * 3 == Catch::Approx(draws[1][i]));
    kept += draws[1][i] != 0;
  }
  CHECK(static_cast<double>(kept) / static_cast<double>(gradient.size()) == Catch::Approx(0.75).margin(0.03));
  CHECK(dnn("DropoutForward", d.handle, dd, xd, x.data(), (void*)y.descriptor, y.data(), mp,
            mask_bytes - 1) == kBadParam);
}

TEST_CASE("tensors are added, combined, scaled, set and converted") {
  Dnn d;
  const Dims dims{2, 3, 4, 5};
  Array a({1, 3, 1, 1}), b({2, 3, 4, 5}, strides_of(dims, 1)), c(dims, nhwc_strides(dims));
  const auto av = a.random(1), bv = b.random(2);
  auto cv = c.random(3);
  void *ad = a.descriptor, *bd = b.descriptor, *cd = c.descriptor;
  const float two = 2, three = 3;
  REQUIRE(dnn("AddTensor", d.handle, &two, ad, a.data(), &three, cd, c.data()) == kSuccess);
  std::vector<double> expected(cv.size());
  for (std::size_t i = 0; i < cv.size(); ++i) expected[i] = 2.0 * av[i / 20 % 3] + 3.0 * cv[i];
  check_close(c.get(), expected);
  CHECK(dnn("AddTensor", d.handle, &two, cd, c.data(), &three, ad, a.data()) == kBadParam);

  Descriptor operation("OpTensor");
  void* od = operation;
  for (int op = 0; op < 6; ++op) {
    INFO("operation " << op);
    REQUIRE(dnn("SetOpTensorDescriptor", od, op, kFloat, 0) == kSuccess);
    b.set(std::vector<float>(bv.size(), 0.25f));
    REQUIRE(dnn("OpTensor", d.handle, od, &two, bd, b.data(), &three, ad, a.data(), &kZero, cd, c.data()) ==
            kSuccess);
    for (std::size_t i = 0; i < cv.size(); ++i) {
      const double l = 0.5, r = 3.0 * av[i / 20 % 3];
      const double values[] = {l + r, l * r, std::min(l, r), std::max(l, r), std::sqrt(l), 1 - l};
      expected[i] = values[op];
    }
    check_close(c.get(), expected);
  }
  REQUIRE(dnn("SetTensor", d.handle, cd, c.data(), &three) == kSuccess);
  REQUIRE(dnn("ScaleTensor", d.handle, cd, c.data(), &two) == kSuccess);
  check_close(c.get(), std::vector<double>(cv.size(), 6));

  b.set(bv);
  REQUIRE(dnn("TransformTensor", d.handle, &kOne, bd, b.data(), &kZero, cd, c.data()) == kSuccess);
  check_close(c.get(), wide(bv));
  // Through half precision and back: eleven bits are left.
  Buffer halves(2 * cv.size());
  Descriptor half("Tensor");
  void *hd = half, *hp = reinterpret_cast<void*>(halves.address);
  REQUIRE(dnn("SetTensor4dDescriptor", hd, kNchw, kHalf, 2, 3, 4, 5) == kSuccess);
  REQUIRE(dnn("TransformTensor", d.handle, &kOne, bd, b.data(), &kZero, hd, hp) == kSuccess);
  REQUIRE(dnn("TransformTensor", d.handle, &kOne, hd, hp, &kZero, cd, c.data()) == kSuccess);
  check_close(c.get(), wide(bv), 1.0 / 2048);
  CHECK(c.get() != bv);
}

TEST_CASE("tensors are reduced, and minima and maxima told by their places") {
  Dnn d;
  const Dims dims{2, 3, 4, 5};
  Array a(dims, nhwc_strides(dims)), c({1, 3, 1, 5});
  const auto v = a.random(1);
  Descriptor reduce("ReduceTensor");
  void *rd = reduce, *ad = a.descriptor, *cd = c.descriptor, *nothing = nullptr;
  Buffer places(15 * 4);
  for (int op = 0; op < 9; ++op) {
    INFO("operation " << op);
    REQUIRE(dnn("SetReduceTensorDescriptor", rd, op, kFloat, 0, 1, 0) == kSuccess);
    std::size_t bytes = 77;
    REQUIRE(dnn("GetReductionIndicesSize", d.handle, rd, ad, cd, &bytes) == kSuccess);
    CHECK(bytes == (op >= 2 && op <= 4 ? 60u : 0u));
    void* indices = bytes != 0 ? reinterpret_cast<void*>(places.address) : nullptr;
    REQUIRE(dnn("ReduceTensor", d.handle, rd, indices, bytes, nothing, std::size_t{0}, &kOne, ad, a.data(),
                &kZero, cd, c.data()) == kSuccess);
    std::vector<double> expected;
    std::vector<std::uint32_t> found;
    for (int o = 0; o < 15; ++o) {
      double sum = 0, product = 1, norm1 = 0, norm2 = 0, least = 1e30, most = -1e30, amax = 0;
      std::uint32_t at[3] = {};
      for (std::uint32_t j = 0; j < 8; ++j) {
        const double x = v[((j / 4 * 3 + o / 5) * 4 + j % 4) * 5 + o % 5];
        sum += x, product *= x, norm1 += std::abs(x), norm2 += x * x;
        if (x < least) least = x, at[0] = j;
        if (x > most) most = x, at[1] = j;
        if (std::abs(x) > amax) amax = std::abs(x), at[2] = j;
      }
      const double values[] = {sum, product, least, most, amax, sum / 8, norm1, std::sqrt(norm2), product};
      expected.push_back(values[op]);
      if (bytes != 0) found.push_back(at[op - 2]);
    }
    check_close(c.get(), expected);
    if (bytes != 0) CHECK(read(places.address, 15) == found);
  }
}
