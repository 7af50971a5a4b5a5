// Convolutions of packed arrays, as cross-correlations. Every function sets its whole result.
#pragma once

#include <array>
#include <cstdint>

namespace avec::cpu_libraries::cudnn {

/// x: n, c, in[0..]; w: k, c / groups, kernel[0..]; y: n, k, out[0..].
struct ConvolutionShape {
  static constexpr int kSpatial = 3;  // unused leading dimensions have extent 1
  using Sizes = std::array<std::int64_t, kSpatial>;
  std::int64_t n = 1, c = 1, k = 1, groups = 1;
  Sizes in{1, 1, 1}, kernel{1, 1, 1}, out{1, 1, 1};
  Sizes stride{1, 1, 1}, dilation{1, 1, 1}, pad{0, 0, 0};
  int spatial = 2;  // how many dimensions are used

  [[nodiscard]] static std::int64_t product(const Sizes& s) { return s[0] * s[1] * s[2]; }
};

/// Plain loops, for what oneDNN does not have.
template <class C>
struct Loops {
  static void forward(const ConvolutionShape& shape, const C* x, const C* w, C* y);
  static void backward_data(const ConvolutionShape& shape, const C* dy, const C* w, C* dx);
  static void backward_filter(const ConvolutionShape& shape, const C* x, const C* dy, C* dw);
};

/// With oneDNN; false: it can not, and the result is undefined.
struct OneDnn {
  static bool forward(const ConvolutionShape& shape, const float* x, const float* w, float* y) noexcept;
  static bool backward_data(const ConvolutionShape& shape, const float* dy, const float* w,
                            float* dx) noexcept;
  static bool backward_filter(const ConvolutionShape& shape, const float* x, const float* dy,
                              float* dw) noexcept;
};

}  // namespace avec::cpu_libraries::cudnn
