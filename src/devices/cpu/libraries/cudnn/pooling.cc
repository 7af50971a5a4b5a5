// Pooling, forward and backward.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "devices/cpu/libraries/cudnn/values.h"

namespace avec::cpu_libraries::cudnn {

namespace {

/// One plane of input and output, three spatial dimensions (leading ones of extent 1).
struct Plane {
  std::int64_t in[3] = {1, 1, 1}, out[3] = {1, 1, 1};
  std::int64_t window[3] = {1, 1, 1}, pad[3] = {0, 0, 0}, stride[3] = {1, 1, 1};

  Plane(const Pooling& pooling, const Layout& x, const Layout& y) {
    for (int d = 0; d < pooling.count; ++d) {
      const int to = 3 - pooling.count + d;
      in[to] = x.dims[d + 2];
      out[to] = y.dims[d + 2];
      window[to] = pooling.window[d];
      pad[to] = pooling.pad[d];
      stride[to] = pooling.stride[d];
    }
  }
  [[nodiscard]] std::int64_t input() const { return in[0] * in[1] * in[2]; }
  [[nodiscard]] std::int64_t output() const { return out[0] * out[1] * out[2]; }
  [[nodiscard]] std::int64_t window_size() const { return window[0] * window[1] * window[2]; }

  /// Calls `touch(offset)` for what lies in the window of output `o`, and tells how many that are.
  template <class Touch>
  std::int64_t each_in_window(std::int64_t o, Touch touch) const {
    const std::int64_t at[3] = {o / (out[1] * out[2]), o / out[2] % out[1], o % out[2]};
    std::int64_t first[3], end[3];
    for (int d = 0; d < 3; ++d) {
      const std::int64_t start = at[d] * stride[d] - pad[d];
      first[d] = std::max<std::int64_t>(start, 0);
      end[d] = std::min(start + window[d], in[d]);
      if (first[d] >= end[d]) return 0;
    }
    for (std::int64_t i = first[0]; i < end[0]; ++i)
      for (std::int64_t j = first[1]; j < end[1]; ++j)
        for (std::int64_t k = first[2]; k < end[2]; ++k) touch((i * in[1] + j) * in[2] + k);
    return (end[0] - first[0]) * (end[1] - first[1]) * (end[2] - first[2]);
  }
};

bool takes_maximum(const Pooling& pooling) {
  return pooling.mode == Pool::kMax || pooling.mode == Pool::kMaxDeterministic;
}

/// The first maximum of a window; -1: the window lies in the padding.
template <class C>
std::int64_t maximum(const Pooling& pooling, const Plane& plane, std::int64_t o, const C* x) {
  std::int64_t best = -1;
  plane.each_in_window(o, [&](std::int64_t i) {
    bool better = best < 0 || x[i] > x[best];
    if (best >= 0 && std::isnan(x[best]))
      better = pooling.nan == Nan::kNotPropagate && !std::isnan(x[i]);
    else if (best >= 0 && std::isnan(x[i]))
      better = pooling.nan == Nan::kPropagate;
    if (better) best = i;
  });
  return best;
}

std::int64_t divisor(const Pooling& pooling, const Plane& plane, std::int64_t inside) {
  return pooling.mode == Pool::kAverageIncludePadding ? plane.window_size()
                                                      : std::max<std::int64_t>(inside, 1);
}

template <class C>
void forward(const Pooling& pooling, const Plane& plane, const C* x, C* y) {
  for (std::int64_t o = 0; o < plane.output(); ++o) {
    if (takes_maximum(pooling)) {
      const std::int64_t best = maximum(pooling, plane, o, x);
      y[o] = best < 0 ? std::numeric_limits<C>::lowest() : x[best];
    } else {
      C sum{0};
      const std::int64_t inside = plane.each_in_window(o, [&](std::int64_t i) { sum += x[i]; });
      y[o] = sum / static_cast<C>(divisor(pooling, plane, inside));
    }
  }
}

template <class C>
void backward(const Pooling& pooling, const Plane& plane, const C* x, const C* dy, C* dx) {
  for (std::int64_t o = 0; o < plane.output(); ++o) {
    if (takes_maximum(pooling)) {
      if (const std::int64_t best = maximum(pooling, plane, o, x); best >= 0) dx[best] += dy[o];
    } else {
      const std::int64_t inside = plane.each_in_window(o, [](std::int64_t) {});
      const C part = dy[o] / static_cast<C>(divisor(pooling, plane, inside));
      plane.each_in_window(o, [&](std::int64_t i) { dx[i] += part; });
    }
  }
}

/// Batches and channels go together. The output's extents are not compared with what the window gives:
/// programs round up where cuDNN's own answer rounds down, and their last windows reach over the edge.
Status check(const Pooling* pooling, const Tensor* x, const Tensor* y) {
  if (x->count != y->count || pooling->count != x->count - 2)
    return bad_param("the descriptors differ in their number of dimensions");
  if (pooling->count > 3) return not_supported("the CPU device pools 1 to 3 spatial dimensions");
  if (x->dims[0] != y->dims[0] || x->dims[1] != y->dims[1] || x->type != y->type)
    return bad_param("the tensors differ in batch, channels or type");
  return Status::kSuccess;
}

}  // namespace

extern "C" {

Status cudnnPoolingForward(Handle* handle, const Pooling* pooling, const void* alpha, const Tensor* x_desc,
                           const void* x, const void* beta, const Tensor* y_desc, void* y) {
  if (any_null(handle, pooling, alpha, x_desc, x, beta, y_desc, y)) return bad_param("a pointer is NULL");
  if (const Status status = check(pooling, x_desc, y_desc); status != Status::kSuccess) return status;
  const double a = scalar(alpha, x_desc->type), b = scalar(beta, x_desc->type);
  return submit(handle, [=, pooling = *pooling, x_desc = *x_desc, y_desc = *y_desc] {
    computed_in(x_desc.type, [&]<class C>(C) {
      const Plane plane(pooling, x_desc, y_desc);
      const Values<C> from(x_desc, x);
      std::vector<C> result(static_cast<std::size_t>(y_desc.elements()));
      for (std::int64_t p = 0; p < x_desc.dims[0] * x_desc.dims[1]; ++p)
        forward(pooling, plane, from.data() + p * plane.input(), result.data() + p * plane.output());
      blend(y_desc, y, result.data(), a, b);
    });
  });
}

Status cudnnPoolingBackward(Handle* handle, const Pooling* pooling, const void* alpha, const Tensor* y_desc,
                            const void* y, const Tensor* dy_desc, const void* dy, const Tensor* x_desc,
                            const void* x, const void* beta, const Tensor* dx_desc, void* dx) {
  if (any_null(handle, pooling, alpha, y_desc, dy_desc, dy, x_desc, beta, dx_desc, dx))
    return bad_param("a pointer is NULL");
  if (takes_maximum(*pooling) && any_null(x, y)) return bad_param("a tensor is NULL");
  if (const Status status = check(pooling, x_desc, y_desc); status != Status::kSuccess) return status;
  if (!y_desc->same_shape(*dy_desc) || !x_desc->same_shape(*dx_desc) || dy_desc->type != x_desc->type ||
      dx_desc->type != x_desc->type)
    return bad_param("a gradient is not of the shape and type of its tensor");
  const double a = scalar(alpha, x_desc->type), b = scalar(beta, x_desc->type);
  return submit(handle, [=, pooling = *pooling, x_desc = *x_desc, dy_desc = *dy_desc, dx_desc = *dx_desc] {
    computed_in(x_desc.type, [&]<class C>(C) {
      const Plane plane(pooling, x_desc, dy_desc);
      const Values<C> gradient(dy_desc, dy);
      const std::vector<C> from = takes_maximum(pooling) ? Values<C>::copy(x_desc, x) : std::vector<C>();
      std::vector<C> result(static_cast<std::size_t>(dx_desc.elements()));
      for (std::int64_t p = 0; p < x_desc.dims[0] * x_desc.dims[1]; ++p)
        backward(pooling, plane, from.empty() ? nullptr : from.data() + p * plane.input(),
                 gradient.data() + p * plane.output(), result.data() + p * plane.input());
      blend(dx_desc, dx, result.data(), a, b);
    });
  });
}

}  // extern "C"

}  // namespace avec::cpu_libraries::cudnn
