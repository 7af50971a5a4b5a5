// Convolutions against plain loops over their definition.
#include "cudnn_support.h"

using namespace test;

namespace {

struct Case {
  int n, c, h, w, k, r, s, groups = 1;
  int pad[2] = {0, 0}, stride[2] = {1, 1}, dilation[2] = {1, 1};
  bool correlation = true, channels_last = false;
  int gap = 0;
};

const Case kCases[] = {
    {1, 1, 5, 5, 1, 3, 3},
    {2, 3, 7, 9, 4, 3, 2, 1, {1, 0}, {2, 1}},
    {2, 4, 8, 7, 6, 3, 3, 2, {1, 2}, {1, 2}, {2, 1}},
    {3, 5, 6, 5, 5, 3, 3, 5, {1, 1}},
    {1, 3, 9, 8, 2, 5, 3, 1, {2, 1}, {3, 2}, {1, 2}, false},
    {2, 3, 6, 5, 4, 3, 3, 1, {1, 1}, {1, 1}, {1, 1}, true, true},
    {2, 3, 6, 5, 4, 2, 3, 1, {0, 1}, {2, 1}, {1, 1}, false, false, 3},
    {1, 16, 13, 11, 32, 1, 1},
};

int out(int n, int pad, int window, int stride, int dilation) {
  return 1 + (n + 2 * pad - ((window - 1) * dilation + 1)) / stride;
}

/// Calls `meet(x, w, y)` for every product of the definition, with the offsets in row-major arrays.
template <class Meet>
void each_product(const Case& c, Meet meet) {
  const int p = out(c.h, c.pad[0], c.r, c.stride[0], c.dilation[0]);
  const int q = out(c.w, c.pad[1], c.s, c.stride[1], c.dilation[1]);
  const int cg = c.c / c.groups, kg = c.k / c.groups;
  for (int n = 0; n < c.n; ++n)
    for (int k = 0; k < c.k; ++k)
      for (int i = 0; i < p; ++i)
        for (int j = 0; j < q; ++j)
          for (int g = 0; g < cg; ++g)
            for (int r = 0; r < c.r; ++r)
              for (int s = 0; s < c.s; ++s) {
                const int y = i * c.stride[0] - c.pad[0] + (c.correlation ? r : c.r - 1 - r) * c.dilation[0];
                const int x = j * c.stride[1] - c.pad[1] + (c.correlation ? s : c.s - 1 - s) * c.dilation[1];
                if (y < 0 || y >= c.h || x < 0 || x >= c.w) continue;
                meet(((n * c.c + k / kg * cg + g) * c.h + y) * c.w + x, ((k * cg + g) * c.r + r) * c.s + s,
                     ((n * c.k + k) * p + i) * q + j);
              }
}

template <class T>
struct Setup {
  explicit Setup(const Case& c)
      : given(c),
        x({c.n, c.c, c.h, c.w}, steps({c.n, c.c, c.h, c.w})),
        y(y_dims(), steps(y_dims())),
        w({c.k, c.c / c.groups, c.r, c.s},
          c.channels_last ? nhwc_strides({c.k, c.c / c.groups, c.r, c.s}) : Dims()),
        filter("Filter"),
        convolution("Convolution") {
    REQUIRE(dnn("SetFilter4dDescriptor", static_cast<void*>(filter), Array<T>::kType,
                c.channels_last ? kNhwc : kNchw, c.k, c.c / c.groups, c.r, c.s) == kSuccess);
    REQUIRE(dnn("SetConvolution2dDescriptor", static_cast<void*>(convolution), c.pad[0], c.pad[1],
                c.stride[0], c.stride[1], c.dilation[0], c.dilation[1], c.correlation ? 1 : 0,
                Array<T>::kType) == kSuccess);
    REQUIRE(dnn("SetConvolutionGroupCount", static_cast<void*>(convolution), c.groups) == kSuccess);
  }
  Dims steps(const Dims& dims) const {
    return given.channels_last ? nhwc_strides(dims) : strides_of(dims, given.gap);
  }
  Dims y_dims() const {
    return {given.n, given.k, out(given.h, given.pad[0], given.r, given.stride[0], given.dilation[0]),
            out(given.w, given.pad[1], given.s, given.stride[1], given.dilation[1])};
  }

  int forward(void* handle, T alpha, T beta) {
    return dnn("ConvolutionForward", handle, &alpha, xd(), x.data(), wd(), w.data(), cd(), 1, nothing, none,
               &beta, yd(), y.data());
  }
  int backward_data(void* handle, T alpha, T beta) {
    return dnn("ConvolutionBackwardData", handle, &alpha, wd(), w.data(), yd(), y.data(), cd(), 1, nothing,
               none, &beta, xd(), x.data());
  }
  int backward_filter(void* handle, T alpha, T beta) {
    return dnn("ConvolutionBackwardFilter", handle, &alpha, xd(), x.data(), yd(), y.data(), cd(), 1, nothing,
               none, &beta, wd(), w.data());
  }
  void* xd() const { return x.descriptor; }
  void* yd() const { return y.descriptor; }
  void* wd() const { return filter; }
  void* cd() const { return convolution; }

  Case given;
  Array<T> x, y, w;
  Descriptor filter, convolution;
  void* nothing = nullptr;
  std::size_t none = 0;
};

template <class T>
std::vector<double> widened(const std::vector<T>& values, double factor) {
  std::vector<double> wide(values.begin(), values.end());
  for (double& v : wide) v *= factor;
  return wide;
}

template <class T>
void check_all(const Case& c) {
  Dnn d;
  Setup<T> s(c);
  const auto x = s.x.random(1), w = s.w.random(2);

  REQUIRE(s.forward(d.handle, 1, 0) == kSuccess);  // y is NaN before: a beta of 0 must not read it
  std::vector<double> expected(s.y.size());
  each_product(c, [&](int i, int f, int o) { expected[o] += double(x[i]) * w[f]; });
  check_close(s.y.get(), expected);
  const auto old_y = s.y.random(3);
  REQUIRE(s.forward(d.handle, T(0.5), T(2)) == kSuccess);
  for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = 0.5 * expected[i] + 2.0 * old_y[i];
  check_close(s.y.get(), expected);

  const auto dy = s.y.random(4), old_x = s.x.random(5);
  REQUIRE(s.backward_data(d.handle, T(2), T(-1)) == kSuccess);
  std::vector<double> dx = widened(old_x, -1);
  each_product(c, [&](int i, int f, int o) { dx[i] += 2 * double(dy[o]) * w[f]; });
  check_close(s.x.get(), dx);

  const auto x2 = s.x.random(6), old_w = s.w.random(7);
  REQUIRE(s.backward_filter(d.handle, T(1), T(3)) == kSuccess);
  std::vector<double> dw = widened(old_w, 3);
  each_product(c, [&](int i, int f, int o) { dw[f] += double(dy[o]) * x2[i]; });
  check_close(s.w.get(), dw, 1e-4);
}

}  // namespace

TEST_CASE("convolutions of floats give what their definition says, forward and backward") {
  for (const Case& c : kCases) {
    INFO("case " << &c - kCases);
    check_all<float>(c);
  }
}

TEST_CASE("convolutions of doubles give what their definition says, forward and backward") {
  for (const Case& c : kCases) {
    INFO("case " << &c - kCases);
    check_all<double>(c);
  }
}

TEST_CASE("a convolution over three dimensions gives what its definition says") {
  Dnn d;
  const Dims xs{2, 2, 4, 5, 3}, ws{3, 2, 2, 3, 2}, ys{2, 3, 3, 5, 2};
  const int pads[] = {0, 1, 0}, ones[] = {1, 1, 1};
  Array x(xs), y(ys), w(ws);
  Descriptor filter("Filter"), convolution("Convolution");
  void *fd = filter, *cd = convolution, *xd = x.descriptor, *yd = y.descriptor, *nothing = nullptr;
  REQUIRE(dnn("SetFilterNdDescriptor", fd, kFloat, kNchw, 5, ws.data()) == kSuccess);
  REQUIRE(dnn("SetConvolutionNdDescriptor", cd, 3, &pads[0], &ones[0], &ones[0], 1, kFloat) == kSuccess);
  int dims[5] = {};
  REQUIRE(dnn("GetConvolutionNdForwardOutputDim", cd, xd, fd, 5, &dims[0]) == kSuccess);
  CHECK(Dims(dims, dims + 5) == ys);
  const auto a = x.random(1), b = w.random(2);
  const float one = 1, zero = 0;
  REQUIRE(dnn("ConvolutionForward", d.handle, &one, xd, x.data(), fd, w.data(), cd, 0, nothing,
              std::size_t{0}, &zero, yd, y.data()) == kSuccess);
  std::vector<double> expected(y.size());
  for (int o = 0; o < int(expected.size()); ++o) {
    const int n = o / 90, k = o / 30 % 3, i = o / 10 % 3, j = o / 2 % 5, l = o % 2;
    for (int c = 0; c < 2; ++c)
      for (int f = 0; f < 12; ++f) {
        const int z = i + f / 6, v = j + f / 2 % 3 - 1, u = l + f % 2;
        if (v < 0 || v >= 5) continue;
        expected[o] += double(a[(((n * 2 + c) * 4 + z) * 5 + v) * 3 + u]) * b[(k * 2 + c) * 12 + f];
      }
  }
  check_close(y.get(), expected);
}

TEST_CASE("bias and activation follow a convolution in one call; the gradient of the bias sums the others") {
  Dnn d;
  const Case c{2, 3, 6, 5, 4, 3, 3, 1, {1, 1}};
  Setup<float> s(c);
  Array z(s.y.dims), bias({1, 4, 1, 1});
  const auto x = s.x.random(1), w = s.w.random(2), zs = z.random(3), b = bias.random(4);
  Descriptor activation("Activation");
  void *ad = activation, *zd = z.descriptor, *bd = bias.descriptor;
  REQUIRE(dnn("SetActivationDescriptor", ad, 1, 0, 0.0) == kSuccess);
  const float half = 0.5f, two = 2, zero = 0, one = 1;
  REQUIRE(dnn("ConvolutionBiasActivationForward", d.handle, &two, s.xd(), s.x.data(), s.wd(), s.w.data(),
              s.cd(), 1, s.nothing, s.none, &half, zd, z.data(), bd, bias.data(), ad, s.yd(),
              s.y.data()) == kSuccess);
  std::vector<double> expected(s.y.size());
  each_product(c, [&](int i, int f, int o) { expected[o] += 2 * double(x[i]) * w[f]; });
  for (std::size_t i = 0; i < expected.size(); ++i)
    expected[i] = std::max(0.0, expected[i] + 0.5 * zs[i] + b[i / 30 % 4]);
  check_close(s.y.get(), expected);

  const auto dy = s.y.random(5);
  REQUIRE(dnn("ConvolutionBackwardBias", d.handle, &one, s.yd(), s.y.data(), &zero, bd, bias.data()) ==
          kSuccess);
  std::vector<double> db(4);
  for (std::size_t i = 0; i < dy.size(); ++i) db[i / 30 % 4] += dy[i];
  check_close(bias.get(), db);
}

TEST_CASE("convolutions are refused at once when their descriptors do not fit") {
  Dnn d;
  const Case c{2, 4, 6, 5, 4, 3, 3, 2, {1, 1}};
  Setup<float> s(c);
  CHECK(dnn("SetConvolutionGroupCount", s.cd(), 1) == kSuccess);
  CHECK(s.forward(d.handle, 1, 0) == kBadParam);  // channels
  CHECK(dnn("SetConvolutionGroupCount", s.cd(), 2) == kSuccess);
  CHECK(s.forward(nullptr, 1, 0) == kBadParam);
  CHECK(dnn("SetTensor4dDescriptor", s.yd(), kNchw, kFloat, 2, 4, 6, 4) == kSuccess);
  CHECK(s.forward(d.handle, 1, 0) == kBadParam);  // shape of the output
  CHECK(dnn("SetTensor4dDescriptor", s.yd(), kNchw, kDouble, 2, 4, 6, 5) == kSuccess);
  CHECK(s.backward_data(d.handle, 1, 0) == kBadParam);  // type
  char text[64] = "";
  dnn("GetLastErrorString", &text[0], sizeof text);
  CHECK(std::string(text).find("types") != std::string::npos);
}

TEST_CASE("algorithms are told best first, as many as asked for, and need no workspace") {
  Dnn d;
  Setup<float> s({2, 3, 6, 5, 4, 3, 3, 1, {1, 1}});
  struct {
    int algorithm, status;
    float time;
    std::size_t memory;
    int determinism, math, reserved[3];
  } found[8] = {};
  void* results = &found[0];
  int count = -1;
  REQUIRE(dnn("GetConvolutionForwardAlgorithmMaxCount", d.handle, &count) == kSuccess);
  CHECK(count == 8);
  REQUIRE(dnn("GetConvolutionForwardAlgorithm_v7", d.handle, s.xd(), s.wd(), s.cd(), s.yd(), 8, &count,
              results) == kSuccess);
  CHECK(count == 3);
  for (int i = 0; i < count; ++i) CHECK((found[i].status == kSuccess && found[i].memory == 0));
  CHECK(found[0].algorithm != found[1].algorithm);
  REQUIRE(dnn("FindConvolutionBackwardDataAlgorithm", d.handle, s.wd(), s.yd(), s.cd(), s.xd(), 1, &count,
              results) == kSuccess);
  CHECK(count == 1);
  std::size_t bytes = 77;
  REQUIRE(dnn("GetConvolutionBackwardFilterWorkspaceSize", d.handle, s.xd(), s.yd(), s.cd(), s.wd(), 1,
              &bytes) == kSuccess);
  CHECK(bytes == 0);
  CHECK(dnn("GetConvolutionForwardWorkspaceSize", d.handle, s.xd(), s.wd(), s.cd(), s.yd(), 8, &bytes) ==
        kBadParam);
  CHECK(dnn("GetConvolutionForwardAlgorithm_v7", d.handle, s.xd(), s.wd(), s.cd(), s.yd(), 0, &count,
            results) == kBadParam);
}
