// Local response normalisation, across channels (LRN) and within a channel (divisive normalisation):
//   s = k + alpha / (elements of a window) * (sum of x^2 in the window around each element),  y = x * s^-beta
#include <algorithm>
#include <cmath>
#include <vector>

#include "devices/cpu/libraries/cudnn/descriptors.h"
#include "devices/cpu/libraries/cudnn/values.h"

namespace avec::cpu_libraries::cudnn {

namespace {

/// The dimensions that a window extends over: channels alone, or the spatial ones.
struct Axes {
  int first, end;
};
constexpr Axes kChannels{1, 2};

/// Every element becomes the sum of those from `before` ahead of it to `after` behind it, along one
/// dimension.
template <class C>
void window_sum(const Layout& x, int axis, std::int64_t before, std::int64_t after, std::vector<C>& values) {
  const std::int64_t length = x.dims[axis], stride = x.extent_from(axis + 1);
  const std::int64_t outer = x.elements() / (length * stride);
  std::vector<C> line(static_cast<std::size_t>(length));
  for (std::int64_t o = 0; o < outer; ++o)
    for (std::int64_t s = 0; s < stride; ++s) {
      C* const at = values.data() + o * length * stride + s;
      for (std::int64_t i = 0; i < length; ++i) line[i] = at[i * stride];
      for (std::int64_t i = 0; i < length; ++i) {
        C sum{0};
        for (std::int64_t j = std::max<std::int64_t>(i - before, 0); j <= std::min(i + after, length - 1);
             ++j)
          sum += line[j];
        at[i * stride] = sum;
      }
    }
}

template <class C>
struct Normaliser {
  const Response& response;
  const Layout& x_desc;
  const Axes axes;
  const std::int64_t behind = (response.n - 1) / 2, ahead = response.n - 1 - behind;
  const C scale = static_cast<C>(response.alpha / std::pow(response.n, axes.end - axes.first));
  const C beta = static_cast<C>(response.beta);

  [[nodiscard]] std::vector<C> bases(const Values<C>& x) const {
    std::vector<C> s(static_cast<std::size_t>(x_desc.elements()));
    for (std::size_t i = 0; i < s.size(); ++i) s[i] = x.data()[i] * x.data()[i];
    for (int axis = axes.first; axis < axes.end; ++axis) window_sum(x_desc, axis, behind, ahead, s);
    for (C& value : s) value = static_cast<C>(response.k) + scale * value;
    return s;
  }
  [[nodiscard]] std::vector<C> forward(const Values<C>& x) const {
    std::vector<C> result = bases(x);
    for (std::size_t i = 0; i < result.size(); ++i) result[i] = x.data()[i] * std::pow(result[i], -beta);
    return result;
  }
  [[nodiscard]] std::vector<C> backward(const Values<C>& x, const Values<C>& dy) const {
    std::vector<C> result = bases(x);
    std::vector<C> others(
        result.size());  // dy * x * s^(-beta - 1), summed over the windows that an element is in
    for (std::size_t i = 0; i < result.size(); ++i)
      others[i] = dy.data()[i] * x.data()[i] * std::pow(result[i], -beta - 1);
    for (int axis = axes.first; axis < axes.end; ++axis) window_sum(x_desc, axis, ahead, behind, others);
    for (std::size_t i = 0; i < result.size(); ++i)
      result[i] = dy.data()[i] * std::pow(result[i], -beta) - 2 * scale * beta * x.data()[i] * others[i];
    return result;
  }
};

bool alike(const Tensor& a, const Tensor& b) { return a.same_shape(b) && a.type == b.type; }

Status submit_forward(Handle* handle, const Response& response, Axes axes, const void* alpha,
                      const Tensor& x_desc, const void* x, const void* beta, const Tensor& y_desc, void* y) {
  const double a = scalar(alpha, x_desc.type), b = scalar(beta, x_desc.type);
  return submit(handle, [=] {
    computed_in(x_desc.type, [&]<class C>(C) {
      const std::vector<C> result = Normaliser<C>{response, x_desc, axes}.forward(Values<C>(x_desc, x));
      blend(y_desc, y, result.data(), a, b);
    });
  });
}

Status submit_backward(Handle* handle, const Response& response, Axes axes, const void* alpha,
                       const Tensor& x_desc, const void* x, const Tensor& dy_desc, const void* dy,
                       const void* beta, const Tensor& dx_desc, void* dx) {
  const double a = scalar(alpha, x_desc.type), b = scalar(beta, x_desc.type);
  return submit(handle, [=] {
    computed_in(x_desc.type, [&]<class C>(C) {
      const std::vector<C> result =
          Normaliser<C>{response, x_desc, axes}.backward(Values<C>(x_desc, x), Values<C>(dy_desc, dy));
      blend(dx_desc, dx, result.data(), a, b);
    });
  });
}

}  // namespace

extern "C" {

Status cudnnLRNCrossChannelForward(Handle* handle, const Response* response, Lrn mode, const void* alpha,
                                   const Tensor* x_desc, const void* x, const void* beta,
                                   const Tensor* y_desc, void* y) {
  if (any_null(handle, response, alpha, x_desc, x, beta, y_desc, y)) return bad_param("a pointer is NULL");
  if (!known(mode, Lrn::kCrossChannel) || x_desc->count < 4)
    return bad_param("the mode or the tensor is unsuited");
  if (!alike(*x_desc, *y_desc)) return bad_param("the tensors differ in shape or type");
  return submit_forward(handle, *response, kChannels, alpha, *x_desc, x, beta, *y_desc, y);
}

Status cudnnLRNCrossChannelBackward(Handle* handle, const Response* response, Lrn mode, const void* alpha,
                                    const Tensor* y_desc, const void* y, const Tensor* dy_desc,
                                    const void* dy, const Tensor* x_desc, const void* x, const void* beta,
                                    const Tensor* dx_desc, void* dx) {
  if (any_null(handle, response, alpha, y_desc, y, dy_desc, dy, x_desc, x, beta, dx_desc, dx))
    return bad_param("a pointer is NULL");
  if (!known(mode, Lrn::kCrossChannel) || x_desc->count < 4)
    return bad_param("the mode or the tensor is unsuited");
  if (!alike(*x_desc, *y_desc) || !alike(*x_desc, *dy_desc) || !alike(*x_desc, *dx_desc))
    return bad_param("the tensors differ in shape or type");
  return submit_backward(handle, *response, kChannels, alpha, *x_desc, x, *dy_desc, dy, beta, *dx_desc, dx);
}

Status cudnnDivisiveNormalizationForward(Handle* handle, const Response* response, Divisive mode,
                                         const void* alpha, const Tensor* x_desc, const void* x,
                                         const void* means, void* temporary, void* temporary2,
                                         const void* beta, const Tensor* y_desc, void* y) {
  if (any_null(handle, response, alpha, x_desc, x, temporary, temporary2, beta, y_desc, y))
    return bad_param("a pointer is NULL");
  if (!known(mode, Divisive::kPrecomputedMeans) || x_desc->count < 4)
    return bad_param("the mode or the tensor is unsuited");
  if (!alike(*x_desc, *y_desc)) return bad_param("the tensors differ in shape or type");
  if (means != nullptr) return not_supported("the CPU device normalises around means of 0 only");
  return submit_forward(handle, *response, Axes{2, x_desc->count}, alpha, *x_desc, x, beta, *y_desc, y);
}

Status cudnnDivisiveNormalizationBackward(Handle* handle, const Response* response, Divisive mode,
                                          const void* alpha, const Tensor* x_desc, const void* x,
                                          const void* means, const void* dy, void* temporary,
                                          void* temporary2, const void* beta, const Tensor* dx_desc, void* dx,
                                          void* d_means) {
  if (any_null(handle, response, alpha, x_desc, x, dy, temporary, temporary2, beta, dx_desc, dx))
    return bad_param("a pointer is NULL");
  if (!known(mode, Divisive::kPrecomputedMeans) || x_desc->count < 4)
    return bad_param("the mode or the tensor is unsuited");
  if (!alike(*x_desc, *dx_desc)) return bad_param("the tensors differ in shape or type");
  if (!any_null(means) || !any_null(d_means))
    return not_supported("the CPU device normalises around means of 0 only");
  return submit_backward(handle, *response, Axes{2, x_desc->count}, alpha, *x_desc, x, *x_desc, dy, beta,
                         *dx_desc, dx);
}

}  // extern "C"

}  // namespace avec::cpu_libraries::cudnn
