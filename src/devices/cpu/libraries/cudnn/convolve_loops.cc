#include <algorithm>

#include "devices/cpu/libraries/cudnn/convolve.h"

namespace avec::cpu_libraries::cudnn {

namespace {

/// Calls `touch(x, w, y, length, step)` for every run of one filter element along the last dimension:
/// `length` elements of y, of 1 apart, meet elements of x that are `step` apart. All are offsets of the first
/// ones.
template <class Touch>
void each_run(const ConvolutionShape& s, Touch touch) {
  const std::int64_t c_group = s.c / s.groups, k_group = s.k / s.groups;
  const std::int64_t in = s.product(s.in), kernel = s.product(s.kernel), out = s.product(s.out);
  // Along dimension d, filter element f meets input from o * stride - pad + f * dilation.
  const auto from = [&s](int d, std::int64_t o, std::int64_t f) {
    return o * s.stride[d] - s.pad[d] + f * s.dilation[d];
  };
  for (std::int64_t n = 0; n < s.n; ++n)
    for (std::int64_t k = 0; k < s.k; ++k)
      for (std::int64_t c = 0; c < c_group; ++c) {
        const std::int64_t x0 = (n * s.c + k / k_group * c_group + c) * in;
        const std::int64_t w0 = (k * c_group + c) * kernel, y0 = (n * s.k + k) * out;
        for (std::int64_t f = 0; f < kernel; ++f) {
          const std::int64_t f0 = f / (s.kernel[1] * s.kernel[2]), f1 = f / s.kernel[2] % s.kernel[1];
          const std::int64_t f2 = f % s.kernel[2];
          // Outputs of the last dimension whose input lies inside.
          const std::int64_t start = from(2, 0, f2);
          const std::int64_t first = start >= 0 ? 0 : (-start + s.stride[2] - 1) / s.stride[2];
          const std::int64_t end = start >= s.in[2] ? 0 : (s.in[2] - 1 - start) / s.stride[2] + 1;
          const std::int64_t length = std::min(end, s.out[2]) - first;
          if (length <= 0) continue;
          for (std::int64_t o = 0; o < s.out[0] * s.out[1]; ++o) {
            const std::int64_t i0 = from(0, o / s.out[1], f0), i1 = from(1, o % s.out[1], f1);
            if (i0 < 0 || i0 >= s.in[0] || i1 < 0 || i1 >= s.in[1]) continue;
            touch(x0 + (i0 * s.in[1] + i1) * s.in[2] + from(2, first, f2), w0 + f, y0 + o * s.out[2] + first,
                  length, s.stride[2]);
          }
        }
      }
}

}  // namespace

template <class C>
void Loops<C>::forward(const ConvolutionShape& shape, const C* x, const C* w, C* y) {
  std::fill_n(y, shape.n * shape.k * shape.product(shape.out), C{0});
  each_run(shape, [=](auto at_x, auto at_w, auto at_y, auto length, auto step) {
    for (std::int64_t i = 0; i < length; ++i) y[at_y + i] += x[at_x + i * step] * w[at_w];
  });
}

template <class C>
void Loops<C>::backward_data(const ConvolutionShape& shape, const C* dy, const C* w, C* dx) {
  std::fill_n(dx, shape.n * shape.c * shape.product(shape.in), C{0});
  each_run(shape, [=](auto at_x, auto at_w, auto at_y, auto length, auto step) {
    for (std::int64_t i = 0; i < length; ++i) dx[at_x + i * step] += dy[at_y + i] * w[at_w];
  });
}

template <class C>
void Loops<C>::backward_filter(const ConvolutionShape& shape, const C* x, const C* dy, C* dw) {
  std::fill_n(dw, shape.k * (shape.c / shape.groups) * shape.product(shape.kernel), C{0});
  each_run(shape, [=](auto at_x, auto at_w, auto at_y, auto length, auto step) {
    C sum{0};
    for (std::int64_t i = 0; i < length; ++i) sum += x[at_x + i * step] * dy[at_y + i];
    dw[at_w] += sum;
  });
}

template struct Loops<float>;
template struct Loops<double>;

}  // namespace avec::cpu_libraries::cudnn
