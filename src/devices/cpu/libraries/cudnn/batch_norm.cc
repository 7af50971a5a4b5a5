// Batch normalisation: training forward and backward, inference, and the forms with an addition and an
// activation.
#include <cmath>
#include <vector>

#include "devices/cpu/libraries/cudnn/activate.h"
#include "devices/cpu/libraries/cudnn/descriptors.h"
#include "devices/cpu/libraries/cudnn/values.h"

namespace avec::cpu_libraries::cudnn {

namespace {

/// What is normalised together: elements of x that share one parameter. x is packed, n * channels * size.
struct Sets {
  std::int64_t n, channels, size;
  bool spatial;

  Sets(BatchNorm mode, const Layout& x)
      : n(x.dims[0]),
        channels(x.dims[1]),
        size(x.extent_from(2)),
        spatial(mode != BatchNorm::kPerActivation) {}
  [[nodiscard]] std::int64_t parameters() const { return spatial ? channels : channels * size; }
  /// Elements of a set.
  [[nodiscard]] std::int64_t count() const { return spatial ? n * size : n; }
  /// Calls `work(i)` for every element of set `p`.
  template <class Work>
  void each(std::int64_t p, Work work) const {
    for (std::int64_t i = 0; i < n; ++i) {
      if (!spatial) {
        work(i * channels * size + p);
        continue;
      }
      for (std::int64_t s = 0; s < size; ++s) work((i * channels + p) * size + s);
    }
  }
};

/// Everything that the forms of a call share; what a form lacks is null. Copied into the work.
struct Call {
  BatchNorm mode{};
  BatchNormOps ops = BatchNormOps::kNorm;
  Activation activation;
  double alpha = 1, beta = 0, alpha_parameters = 1, beta_parameters = 0, epsilon = 0, factor = 0;
  Tensor x_desc, y_desc, z_desc, dy_desc, dx_desc, parameters;
  const void *x = nullptr, *z = nullptr, *scale = nullptr, *bias = nullptr, *y = nullptr, *dy = nullptr;
  const void *mean = nullptr,
             *variance = nullptr;  // inference: estimated; backward: saved, the inverse deviation
  void *out = nullptr, *dz = nullptr, *d_scale = nullptr, *d_bias = nullptr;
  void *running_mean = nullptr, *running_variance = nullptr, *save_mean = nullptr, *save_inverse = nullptr;
};

struct Moments {
  double mean, variance;
};

template <class C>
Moments moments(const Sets& sets, std::int64_t p, const C* x) {
  double sum = 0, squares = 0;
  sets.each(p, [&](std::int64_t i) { sum += x[i]; });
  const double mean = sum / static_cast<double>(sets.count());
  sets.each(p, [&](std::int64_t i) { squares += (x[i] - mean) * (x[i] - mean); });
  return {mean, squares / static_cast<double>(sets.count())};
}

template <class C>
void finish_forward(const Call& call, std::vector<C>& result) {
  if (call.ops == BatchNormOps::kNormAddActivation) {
    const Values<C> added(call.z_desc, call.z);
    for (std::size_t i = 0; i < result.size(); ++i) result[i] += added.data()[i];
  }
  if (call.ops != BatchNormOps::kNorm)
    for (C& value : result) value = activated(call.activation, value);
  blend(call.y_desc, call.out, result.data(), call.alpha, call.beta);
}

/// old = factor * now + (1 - factor) * old; with a factor of 1 the old value is not read.
template <class C>
void average(const Call& call, void* old, const std::vector<C>& now) {
  if (old != nullptr) blend(call.parameters, old, now.data(), call.factor, 1 - call.factor);
}

template <class C>
void train(const Call& call) {
  const Sets sets(call.mode, call.x_desc);
  const Values<C> x(call.x_desc, call.x), scale(call.parameters, call.scale),
      bias(call.parameters, call.bias);
  std::vector<C> result(static_cast<std::size_t>(call.x_desc.elements()));
  const auto parameters = static_cast<std::size_t>(sets.parameters());
  std::vector<C> means(parameters), variances(parameters), inverses(parameters);
  const auto m = static_cast<double>(sets.count());
  for (std::int64_t p = 0; p < sets.parameters(); ++p) {
    const auto [mean, variance] = moments(sets, p, x.data());
    const double inverse = 1 / std::sqrt(variance + call.epsilon);
    means[p] = static_cast<C>(mean);
    variances[p] = static_cast<C>(m > 1 ? variance * m / (m - 1) : variance);  // the running one is unbiased
    inverses[p] = static_cast<C>(inverse);
    sets.each(
        p, [&](std::int64_t i) { result[i] = static_cast<C>((x[i] - mean) * inverse * scale[p] + bias[p]); });
  }
  average(call, call.running_mean, means);
  average(call, call.running_variance, variances);
  if (call.save_mean != nullptr) blend(call.parameters, call.save_mean, means.data(), 1, 0);
  if (call.save_inverse != nullptr) blend(call.parameters, call.save_inverse, inverses.data(), 1, 0);
  finish_forward(call, result);
}

template <class C>
void infer(const Call& call) {
  const Sets sets(call.mode, call.x_desc);
  const Values<C> x(call.x_desc, call.x), scale(call.parameters, call.scale),
      bias(call.parameters, call.bias);
  const Values<C> mean(call.parameters, call.mean), variance(call.parameters, call.variance);
  std::vector<C> result(static_cast<std::size_t>(call.x_desc.elements()));
  for (std::int64_t p = 0; p < sets.parameters(); ++p) {
    const double inverse = 1 / std::sqrt(variance[p] + call.epsilon);
    sets.each(p, [&](std::int64_t i) {
      result[i] = static_cast<C>((x[i] - mean[p]) * inverse * scale[p] + bias[p]);
    });
  }
  finish_forward(call, result);
}

template <class C>
void backward(const Call& call) {
  const Sets sets(call.mode, call.x_desc);
  const Values<C> x(call.x_desc, call.x), scale(call.parameters, call.scale);
  std::vector<C> dy = Values<C>::copy(call.dy_desc, call.dy);
  if (call.ops != BatchNormOps::kNorm) {
    const Values<C> y(call.y_desc, call.y);
    // For the activations that are allowed here the sign of the output is that of the input.
    for (std::size_t i = 0; i < dy.size(); ++i) dy[i] *= slope(call.activation, y.data()[i], y.data()[i]);
    if (call.dz != nullptr) blend(call.z_desc, call.dz, dy.data(), 1, 0);
  }
  std::vector<C> dx(dy.size());
  const auto parameters = static_cast<std::size_t>(sets.parameters());
  std::vector<C> d_scale(parameters), d_bias(parameters);
  const auto m = static_cast<double>(sets.count());
  const bool saved = call.mean != nullptr;
  const std::vector<C> means = saved ? Values<C>::copy(call.parameters, call.mean) : std::vector<C>();
  const std::vector<C> inverses = saved ? Values<C>::copy(call.parameters, call.variance) : std::vector<C>();
  for (std::int64_t p = 0; p < sets.parameters(); ++p) {
    const Moments own = saved ? Moments{} : moments(sets, p, x.data());
    const double mean = saved ? means[p] : own.mean;
    const double inverse = saved ? inverses[p] : 1 / std::sqrt(own.variance + call.epsilon);
    double sum = 0, product = 0;
    sets.each(p, [&](std::int64_t i) {
      sum += dy[i];
      product += dy[i] * (x[i] - mean) * inverse;
    });
    d_scale[p] = static_cast<C>(product);
    d_bias[p] = static_cast<C>(sum);
    sets.each(p, [&](std::int64_t i) {
      const double normal = (x[i] - mean) * inverse;
      dx[i] = static_cast<C>(scale[p] * inverse * (dy[i] - (sum + normal * product) / m));
    });
  }
  blend(call.dx_desc, call.out, dx.data(), call.alpha, call.beta);
  blend(call.parameters, call.d_scale, d_scale.data(), call.alpha_parameters, call.beta_parameters);
  blend(call.parameters, call.d_bias, d_bias.data(), call.alpha_parameters, call.beta_parameters);
}

/// Takes the descriptors over and checks what every form demands.
Status describe(Call& call, BatchNorm mode, const Tensor* x, const Tensor* other, const Tensor* parameters) {
  if (any_null(x, other, parameters)) return bad_param("a descriptor is NULL");
  if (!known(mode, BatchNorm::kSpatialPersistent)) return bad_param("the mode is unknown");
  if (x->count < 4 || x->count > 5) return bad_param("tensors have 4 or 5 dimensions");
  if (!x->same_shape(*other)) return bad_param("the tensors differ in shape");
  call.mode = mode;
  call.x_desc = *x;
  call.parameters = *parameters;
  if (parameters->count != x->count || parameters->elements() != Sets(mode, *x).parameters() ||
      parameters->dims[1] != x->dims[1])
    return bad_param("the parameters are not of the shape that the mode demands");
  if ((parameters->type == Type::kDouble) != (x->type == Type::kDouble) ||
      (parameters->type != Type::kDouble && parameters->type != Type::kFloat))
    return bad_param("the parameters are not of the type that the tensor demands");
  return Status::kSuccess;
}

Status fuse(Call& call, BatchNormOps ops, const Activation* activation) {
  if (!known(ops, BatchNormOps::kNormAddActivation)) return bad_param("bnOps is unknown");
  call.ops = ops;
  if (ops == BatchNormOps::kNorm) return Status::kSuccess;
  if (activation == nullptr) return bad_param("activationDesc == NULL");
  if (activation->mode != Activate::kRelu && activation->mode != Activate::kIdentity)
    return not_supported("only CUDNN_ACTIVATION_RELU and CUDNN_ACTIVATION_IDENTITY follow a normalisation");
  call.activation = *activation;
  return Status::kSuccess;
}

Status none_needed(const void* handle, std::size_t* bytes) {
  if (any_null(handle, static_cast<const void*>(bytes))) return bad_param("a pointer is NULL");
  *bytes = 0;
  return Status::kSuccess;
}

template <class Work>
Status run(Handle* handle, const Call& call, Work work) {
  return submit(handle,
                [call, work] { computed_in(call.x_desc.type, [&](auto type) { work(call, type); }); });
}

}  // namespace

extern "C" {

Status cudnnBatchNormalizationForwardInference(Handle* handle, BatchNorm mode, const void* alpha,
                                               const void* beta, const Tensor* x_desc, const void* x,
                                               const Tensor* y_desc, void* y, const Tensor* parameters,
                                               const void* scale, const void* bias, const void* mean,
                                               const void* variance, double epsilon) {
  if (any_null(handle, alpha, beta, x, y, scale, bias, mean, variance)) return bad_param("a pointer is NULL");
  if (!(epsilon >= 0)) return bad_param("epsilon < CUDNN_BN_MIN_EPSILON");
  Call call;
  if (const Status status = describe(call, mode, x_desc, y_desc, parameters); status != Status::kSuccess)
    return status;
  call.y_desc = *y_desc;
  call.alpha = scalar(alpha, x_desc->type), call.beta = scalar(beta, x_desc->type);
  call.epsilon = epsilon;
  call.x = x, call.out = y, call.scale = scale, call.bias = bias, call.mean = mean, call.variance = variance;
  return run(handle, call, []<class C>(const Call& c, C) { infer<C>(c); });
}

Status cudnnBatchNormalizationForwardTrainingEx(
    Handle* handle, BatchNorm mode, BatchNormOps ops, const void* alpha, const void* beta,
    const Tensor* x_desc, const void* x, const Tensor* z_desc, const void* z, const Tensor* y_desc, void* y,
    const Tensor* parameters, const void* scale, const void* bias, double factor, void* running_mean,
    void* running_variance, double epsilon, void* save_mean, void* save_inverse, const Activation* activation,
    void*, std::size_t, void*, std::size_t) {
  if (any_null(handle, alpha, beta, x, y, scale, bias)) return bad_param("a pointer is NULL");
  if (!(epsilon >= 0)) return bad_param("epsilon < CUDNN_BN_MIN_EPSILON");
  if ((running_mean == nullptr) != (running_variance == nullptr) ||
      (save_mean == nullptr) != (save_inverse == nullptr))
    return bad_param("of mean and variance one alone is NULL");
  Call call;
  if (const Status status = describe(call, mode, x_desc, y_desc, parameters); status != Status::kSuccess)
    return status;
  if (const Status status = fuse(call, ops, activation); status != Status::kSuccess) return status;
  if (ops == BatchNormOps::kNormAddActivation) {
    if (any_null(z_desc, z)) return bad_param("z is NULL");
    if (!z_desc->same_shape(*x_desc)) return bad_param("the tensors differ in shape");
    call.z_desc = *z_desc, call.z = z;
  }
  call.y_desc = *y_desc;
  call.alpha = scalar(alpha, x_desc->type), call.beta = scalar(beta, x_desc->type);
  call.epsilon = epsilon, call.factor = factor;
  call.x = x, call.out = y, call.scale = scale, call.bias = bias;
  call.running_mean = running_mean, call.running_variance = running_variance;
  call.save_mean = save_mean, call.save_inverse = save_inverse;
  return run(handle, call, []<class C>(const Call& c, C) { train<C>(c); });
}

Status cudnnBatchNormalizationForwardTraining(Handle* handle, BatchNorm mode, const void* alpha,
                                              const void* beta, const Tensor* x_desc, const void* x,
                                              const Tensor* y_desc, void* y, const Tensor* parameters,
                                              const void* scale, const void* bias, double factor,
                                              void* running_mean, void* running_variance, double epsilon,
                                              void* save_mean, void* save_inverse) {
  return cudnnBatchNormalizationForwardTrainingEx(handle, mode, BatchNormOps::kNorm, alpha, beta, x_desc, x,
                                                  nullptr, nullptr, y_desc, y, parameters, scale, bias,
                                                  factor, running_mean, running_variance, epsilon, save_mean,
                                                  save_inverse, nullptr, nullptr, 0, nullptr, 0);
}

Status cudnnBatchNormalizationBackwardEx(
    Handle* handle, BatchNorm mode, BatchNormOps ops, const void* alpha, const void* beta,
    const void* alpha_parameters, const void* beta_parameters, const Tensor* x_desc, const void* x,
    const Tensor* y_desc, const void* y, const Tensor* dy_desc, const void* dy, const Tensor* dz_desc,
    void* dz, const Tensor* dx_desc, void* dx, const Tensor* parameters, const void* scale, const void* bias,
    void* d_scale, void* d_bias, double epsilon, const void* mean, const void* inverse,
    const Activation* activation, void*, std::size_t, void*, std::size_t) {
  (void)bias;
  if (any_null(handle, alpha, beta, alpha_parameters, beta_parameters, x, dy, dx, scale, d_scale, d_bias))
    return bad_param("a pointer is NULL");
  if (!(epsilon >= 0)) return bad_param("epsilon < CUDNN_BN_MIN_EPSILON");
  if ((mean == nullptr) != (inverse == nullptr)) return bad_param("of mean and variance one alone is NULL");
  Call call;
  if (const Status status = describe(call, mode, x_desc, dx_desc, parameters); status != Status::kSuccess)
    return status;
  if (const Status status = fuse(call, ops, activation); status != Status::kSuccess) return status;
  if (any_null(dy_desc)) return bad_param("a descriptor is NULL");
  if (!dy_desc->same_shape(*x_desc)) return bad_param("the tensors differ in shape");
  if (ops != BatchNormOps::kNorm) {
    if (any_null(y_desc, y)) return bad_param("y is NULL");
    if (!y_desc->same_shape(*x_desc)) return bad_param("the tensors differ in shape");
    call.y_desc = *y_desc, call.y = y;
  }
  if (ops == BatchNormOps::kNormAddActivation) {
    if (any_null(dz_desc, dz)) return bad_param("dz is NULL");
    if (!dz_desc->same_shape(*x_desc)) return bad_param("the tensors differ in shape");
    call.z_desc = *dz_desc, call.dz = dz;
  }
  call.dy_desc = *dy_desc, call.dx_desc = *dx_desc;
  call.alpha = scalar(alpha, x_desc->type), call.beta = scalar(beta, x_desc->type);
  call.alpha_parameters = scalar(alpha_parameters, x_desc->type);
  call.beta_parameters = scalar(beta_parameters, x_desc->type);
  call.epsilon = epsilon;
  call.x = x, call.dy = dy, call.out = dx, call.scale = scale, call.d_scale = d_scale, call.d_bias = d_bias;
  call.mean = mean, call.variance = inverse;
  return run(handle, call, []<class C>(const Call& c, C) { backward<C>(c); });
}

Status cudnnBatchNormalizationBackward(Handle* handle, BatchNorm mode, const void* alpha, const void* beta,
                                       const void* alpha_parameters, const void* beta_parameters,
                                       const Tensor* x_desc, const void* x, const Tensor* dy_desc,
                                       const void* dy, const Tensor* dx_desc, void* dx,
                                       const Tensor* parameters, const void* scale, void* d_scale,
                                       void* d_bias, double epsilon, const void* mean, const void* inverse) {
  return cudnnBatchNormalizationBackwardEx(handle, mode, BatchNormOps::kNorm, alpha, beta, alpha_parameters,
                                           beta_parameters, x_desc, x, nullptr, nullptr, dy_desc, dy, nullptr,
                                           nullptr, dx_desc, dx, parameters, scale, nullptr, d_scale, d_bias,
                                           epsilon, mean, inverse, nullptr, nullptr, 0, nullptr, 0);
}

Status cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(Handle* handle, BatchNorm, BatchNormOps,
                                                                const Tensor*, const Tensor*, const Tensor*,
                                                                const Tensor*, const Activation*,
                                                                std::size_t* bytes) {
  return none_needed(handle, bytes);
}
Status cudnnGetBatchNormalizationBackwardExWorkspaceSize(Handle* handle, BatchNorm, BatchNormOps,
                                                         const Tensor*, const Tensor*, const Tensor*,
                                                         const Tensor*, const Tensor*, const Tensor*,
                                                         const Activation*, std::size_t* bytes) {
  return none_needed(handle, bytes);
}
Status cudnnGetBatchNormalizationTrainingExReserveSpaceSize(Handle* handle, BatchNorm, BatchNormOps,
                                                            const Activation*, const Tensor*,
                                                            std::size_t* bytes) {
  return none_needed(handle, bytes);
}

}  // extern "C"

}  // namespace avec::cpu_libraries::cudnn
