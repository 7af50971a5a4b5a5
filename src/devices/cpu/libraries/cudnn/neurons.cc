// Activation and softmax, forward and backward.
#include <algorithm>
#include <cmath>
#include <vector>

#include "devices/cpu/libraries/cudnn/activate.h"
#include "devices/cpu/libraries/cudnn/descriptors.h"
#include "devices/cpu/libraries/cudnn/values.h"

namespace avec::cpu_libraries::cudnn {

namespace {

bool alike(const Tensor& a, const Tensor& b) { return a.same_shape(b) && a.type == b.type; }

/// Elements that a softmax is taken over: `length` of them, `stride` apart in a packed array.
struct Groups {
  std::int64_t outer, length, stride;

  Groups(SoftmaxMode mode, const Layout& x)
      : outer(x.dims[0]),
        length(mode == SoftmaxMode::kInstance ? x.extent_from(1) : x.dims[1]),
        stride(mode == SoftmaxMode::kInstance ? 1 : x.extent_from(2)) {}

  template <class Work>
  void each(Work work) const {
    for (std::int64_t o = 0; o < outer; ++o)
      for (std::int64_t s = 0; s < stride; ++s) work(o * length * stride + s);
  }
};

template <class C>
void softmax(Softmax algorithm, const Groups& g, std::int64_t first, C* v) {
  C largest{0};
  if (algorithm != Softmax::kFast) {
    largest = v[first];
    for (std::int64_t i = 1; i < g.length; ++i) largest = std::max(largest, v[first + i * g.stride]);
  }
  C sum{0};
  for (std::int64_t i = 0; i < g.length; ++i) sum += std::exp(v[first + i * g.stride] - largest);
  for (std::int64_t i = 0; i < g.length; ++i) {
    C& value = v[first + i * g.stride];
    value = algorithm == Softmax::kLog ? value - largest - std::log(sum) : std::exp(value - largest) / sum;
  }
}

template <class C>
void softmax_backward(Softmax algorithm, const Groups& g, std::int64_t first, const C* y, C* d) {
  const bool log = algorithm == Softmax::kLog;
  C sum{0};
  for (std::int64_t i = first, n = 0; n < g.length; ++n, i += g.stride) sum += log ? d[i] : d[i] * y[i];
  for (std::int64_t i = first, n = 0; n < g.length; ++n, i += g.stride)
    d[i] = log ? d[i] - std::exp(y[i]) * sum : y[i] * (d[i] - sum);
}

}  // namespace

extern "C" {

Status cudnnActivationForward(Handle* handle, const Activation* activation, const void* alpha,
                              const Tensor* x_desc, const void* x, const void* beta, const Tensor* y_desc,
                              void* y) {
  if (any_null(handle, activation, alpha, x_desc, x, beta, y_desc, y)) return bad_param("a pointer is NULL");
  if (!alike(*x_desc, *y_desc)) return bad_param("the tensors differ in shape or type");
  if (activation->mode == Activate::kIdentity) return bad_param("the identity only follows a convolution");
  const double a = scalar(alpha, x_desc->type), b = scalar(beta, x_desc->type);
  return submit(handle, [=, activation = *activation, x_desc = *x_desc, y_desc = *y_desc] {
    computed_in(x_desc.type, [&]<class C>(C) {
      std::vector<C> result = Values<C>::copy(x_desc, x);
      for (C& value : result) value = activated(activation, value);
      blend(y_desc, y, result.data(), a, b);
    });
  });
}

Status cudnnActivationBackward(Handle* handle, const Activation* activation, const void* alpha,
                               const Tensor* y_desc, const void* y, const Tensor* dy_desc, const void* dy,
                               const Tensor* x_desc, const void* x, const void* beta, const Tensor* dx_desc,
                               void* dx) {
  if (any_null(handle, activation, alpha, y_desc, y, dy_desc, dy, x_desc, x, beta, dx_desc, dx))
    return bad_param("a pointer is NULL");
  if (!alike(*x_desc, *y_desc) || !alike(*x_desc, *dy_desc) || !alike(*x_desc, *dx_desc))
    return bad_param("the tensors differ in shape or type");
  if (activation->mode == Activate::kIdentity) return bad_param("the identity only follows a convolution");
  const double a = scalar(alpha, x_desc->type), b = scalar(beta, x_desc->type);
  return submit(handle, [=, activation = *activation, x_desc = *x_desc, y_desc = *y_desc, dy_desc = *dy_desc,
                         dx_desc = *dx_desc] {
    computed_in(x_desc.type, [&]<class C>(C) {
      const Values<C> input(x_desc, x), output(y_desc, y);
      std::vector<C> result = Values<C>::copy(dy_desc, dy);
      for (std::size_t i = 0; i < result.size(); ++i)
        result[i] *= slope(activation, input.data()[i], output.data()[i]);
      blend(dx_desc, dx, result.data(), a, b);
    });
  });
}

Status cudnnSoftmaxForward(Handle* handle, Softmax algorithm, SoftmaxMode mode, const void* alpha,
                           const Tensor* x_desc, const void* x, const void* beta, const Tensor* y_desc,
                           void* y) {
  if (any_null(handle, alpha, x_desc, x, beta, y_desc, y)) return bad_param("a pointer is NULL");
  if (!known(algorithm, Softmax::kLog) || !known(mode, SoftmaxMode::kChannel))
    return bad_param("the algorithm or the mode is unknown");
  if (!alike(*x_desc, *y_desc) || x_desc->count < 2) return bad_param("the tensors differ in shape or type");
  const double a = scalar(alpha, x_desc->type), b = scalar(beta, x_desc->type);
  return submit(handle, [=, x_desc = *x_desc, y_desc = *y_desc] {
    computed_in(x_desc.type, [&]<class C>(C) {
      std::vector<C> result = Values<C>::copy(x_desc, x);
      const Groups groups(mode, x_desc);
      groups.each([&](std::int64_t first) { softmax(algorithm, groups, first, result.data()); });
      blend(y_desc, y, result.data(), a, b);
    });
  });
}

Status cudnnSoftmaxBackward(Handle* handle, Softmax algorithm, SoftmaxMode mode, const void* alpha,
                            const Tensor* y_desc, const void* y, const Tensor* dy_desc, const void* dy,
                            const void* beta, const Tensor* dx_desc, void* dx) {
  if (any_null(handle, alpha, y_desc, y, dy_desc, dy, beta, dx_desc, dx))
    return bad_param("a pointer is NULL");
  if (!known(algorithm, Softmax::kLog) || !known(mode, SoftmaxMode::kChannel))
    return bad_param("the algorithm or the mode is unknown");
  if (!alike(*y_desc, *dy_desc) || !alike(*y_desc, *dx_desc) || y_desc->count < 2)
    return bad_param("the tensors differ in shape or type");
  const double a = scalar(alpha, y_desc->type), b = scalar(beta, y_desc->type);
  return submit(handle, [=, y_desc = *y_desc, dy_desc = *dy_desc, dx_desc = *dx_desc] {
    computed_in(y_desc.type, [&]<class C>(C) {
      const Values<C> output(y_desc, y);
      std::vector<C> result = Values<C>::copy(dy_desc, dy);
      const Groups groups(mode, y_desc);
      groups.each([&](std::int64_t first) {
        softmax_backward(algorithm, groups, first, output.data(), result.data());
      });
      blend(dx_desc, dx, result.data(), a, b);
    });
  });
}

}  // extern "C"

}  // namespace avec::cpu_libraries::cudnn
