// Convolutions and what is asked about them.
#include <algorithm>
#include <type_traits>
#include <vector>

#include "devices/cpu/libraries/cudnn/activate.h"
#include "devices/cpu/libraries/cudnn/convolve.h"
#include "devices/cpu/libraries/cudnn/descriptors.h"
#include "devices/cpu/libraries/cudnn/values.h"

namespace avec::cpu_libraries::cudnn {

extern "C" Status cudnnGetConvolutionNdForwardOutputDim(const Convolution*, const Tensor*, const Filter*, int,
                                                        int*);

namespace {

/// The descriptors of one convolution, as copies.
struct Operands {
  Tensor x, y;
  Filter w;
  Convolution convolution;
  ConvolutionShape shape;
};

Status describe(const Tensor* x, const Filter* w, const Convolution* convolution, const Tensor* y,
                Operands& made) {
  if (any_null(x, w, convolution, y)) return bad_param("a descriptor is NULL");
  if (x->count != w->count || x->count != y->count || x->count - 2 != convolution->count)
    return bad_param("the descriptors differ in their number of dimensions");
  if (x->count < 3 || convolution->count > ConvolutionShape::kSpatial)
    return not_supported("the CPU device convolves 1 to 3 spatial dimensions");
  if (x->type != w->type || x->type != y->type) return bad_param("the data types of x, w and y differ");
  int dims[kMaxDimensions];
  if (const Status status = cudnnGetConvolutionNdForwardOutputDim(convolution, x, w, x->count, dims);
      status != Status::kSuccess)
    return status;
  for (int d = 0; d < x->count; ++d)
    if (dims[d] != y->dims[d]) return bad_param("the output is not of the shape that the convolution gives");
  if (w->dims[0] % convolution->groups != 0)
    return bad_param("the output channels do not divide into the groups");

  made = {*x, *y, *w, *convolution, {}};
  ConvolutionShape& shape = made.shape;
  shape.n = x->dims[0];
  shape.c = x->dims[1];
  shape.k = w->dims[0];
  shape.groups = convolution->groups;
  shape.spatial = convolution->count;
  for (int d = 0; d < convolution->count; ++d) {
    const int to = ConvolutionShape::kSpatial - convolution->count + d;
    shape.in[to] = x->dims[d + 2];
    shape.kernel[to] = w->dims[d + 2];
    shape.out[to] = y->dims[d + 2];
    shape.stride[to] = convolution->stride[d];
    shape.dilation[to] = convolution->dilation[d];
    shape.pad[to] = convolution->pad[d];
  }
  return Status::kSuccess;
}

/// Turns every filter around, which makes a convolution of a cross-correlation.
template <class C>
void flip(const ConvolutionShape& shape, std::vector<C>& w) {
  const auto size = shape.product(shape.kernel);
  for (auto at = w.begin(); at != w.end(); at += size) std::reverse(at, at + size);
}

template <class C>
std::vector<C> filter_of(const Operands& o, const void* w) {
  std::vector<C> values = Values<C>::copy(o.w, w);
  if (o.convolution.direction == Direction::kConvolution) flip(o.shape, values);
  return values;
}

template <class C>
std::vector<C> convolved(const Operands& o, const void* x, const void* w) {
  const Values<C> input(o.x, x);
  const std::vector<C> filter = filter_of<C>(o, w);
  std::vector<C> y(static_cast<std::size_t>(o.y.elements()));
  if constexpr (std::is_same_v<C, float>)
    if (OneDnn::forward(o.shape, input.data(), filter.data(), y.data())) return y;
  Loops<C>::forward(o.shape, input.data(), filter.data(), y.data());
  return y;
}

void forward(const Operands& o, double alpha, const void* x, const void* w, double beta, void* y) {
  computed_in(o.x.type, [&]<class C>(C) {
    const std::vector<C> result = convolved<C>(o, x, w);
    blend(o.y, y, result.data(), alpha, beta);
  });
}

void backward_data(const Operands& o, double alpha, const void* w, const void* dy, double beta, void* dx) {
  computed_in(o.x.type, [&]<class C>(C) {
    const Values<C> gradient(o.y, dy);
    const std::vector<C> filter = filter_of<C>(o, w);
    std::vector<C> result(static_cast<std::size_t>(o.x.elements()));
    bool done = false;
    if constexpr (std::is_same_v<C, float>)
      done = OneDnn::backward_data(o.shape, gradient.data(), filter.data(), result.data());
    if (!done) Loops<C>::backward_data(o.shape, gradient.data(), filter.data(), result.data());
    blend(o.x, dx, result.data(), alpha, beta);
  });
}

void backward_filter(const Operands& o, double alpha, const void* x, const void* dy, double beta, void* dw) {
  computed_in(o.x.type, [&]<class C>(C) {
    const Values<C> input(o.x, x), gradient(o.y, dy);
    std::vector<C> result(static_cast<std::size_t>(o.w.elements()));
    bool done = false;
    if constexpr (std::is_same_v<C, float>)
      done = OneDnn::backward_filter(o.shape, input.data(), gradient.data(), result.data());
    if (!done) Loops<C>::backward_filter(o.shape, input.data(), gradient.data(), result.data());
    if (o.convolution.direction == Direction::kConvolution) flip(o.shape, result);
    blend(o.w, dw, result.data(), alpha, beta);
  });
}

/// The algorithms that are told, best first. All are the same here and need no workspace.
struct Algorithms {
  int most;
  std::array<int, 3> told;
};
constexpr Algorithms kForward{kForwardAlgorithms, {1, 0, 2}};
constexpr Algorithms kBackwardData{kBackwardDataAlgorithms, {1, 0, 3}};
constexpr Algorithms kBackwardFilter{kBackwardFilterAlgorithms, {1, 0, 3}};

/// `found` is of a call that measures: it tells a time, in the order of the list.
Status tell(const Algorithms& algorithms, const Convolution* convolution, bool found, int requested,
            int* returned, AlgorithmPerformance* results) {
  if (any_null(returned, results)) return bad_param("a pointer is NULL");
  if (requested < 1) return bad_param("requestedAlgoCount < 1");
  *returned = 0;
  for (const int algorithm : algorithms.told) {
    if (*returned == requested) break;
    const float time_ms = found ? 0.1f * static_cast<float>(1 + *returned) : -1.0f;
    results[(*returned)++] = {algorithm,         Status::kSuccess,  time_ms, 0,
                              Determinism::kYes, convolution->math, {}};
  }
  return Status::kSuccess;
}

Status tell_workspace(const Algorithms& algorithms, int algorithm, std::size_t* bytes) {
  if (bytes == nullptr) return bad_param("sizeInBytes == NULL");
  if (algorithm < 0 || algorithm >= algorithms.most) return bad_param("the algorithm is unknown");
  *bytes = 0;
  return Status::kSuccess;
}

Status tell_count(const Handle* handle, const Algorithms& algorithms, int* count) {
  if (any_null(handle, count)) return bad_param("a pointer is NULL");
  *count = algorithms.most;
  return Status::kSuccess;
}

Status check_call(const Handle* handle, const Algorithms& algorithms, int algorithm, const void* alpha,
                  const void* beta) {
  if (any_null(handle, alpha, beta)) return bad_param("a pointer is NULL");
  if (algorithm < 0 || algorithm >= algorithms.most) return bad_param("the algorithm is unknown");
  return Status::kSuccess;
}

/// db[c] = the sum of dy over everything but its channels.
void sum_channels(const Tensor& dy_desc, const Tensor& db_desc, double alpha, const void* dy, double beta,
                  void* db) {
  computed_in(dy_desc.type, [&]<class C>(C) {
    const Values<C> gradient(dy_desc, dy);
    const std::int64_t n = dy_desc.dims[0], channels = dy_desc.dims[1], size = dy_desc.extent_from(2);
    std::vector<C> result(static_cast<std::size_t>(channels));
    for (std::int64_t c = 0; c < channels; ++c) {
      double sum = 0;
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t s = 0; s < size; ++s) sum += gradient[(i * channels + c) * size + s];
      result[c] = static_cast<C>(sum);
    }
    blend(db_desc, db, result.data(), alpha, beta);
  });
}

bool is_bias(const Tensor& bias, const Tensor& y) {
  return bias.count >= 2 && bias.dims[1] == y.dims[1] && bias.elements() == y.dims[1];
}

}  // namespace

extern "C" {

Status cudnnGetConvolutionForwardAlgorithmMaxCount(Handle* handle, int* count) {
  return tell_count(handle, kForward, count);
}
Status cudnnGetConvolutionBackwardDataAlgorithmMaxCount(Handle* handle, int* count) {
  return tell_count(handle, kBackwardData, count);
}
Status cudnnGetConvolutionBackwardFilterAlgorithmMaxCount(Handle* handle, int* count) {
  return tell_count(handle, kBackwardFilter, count);
}

// The three of each direction: told by heuristics, measured, measured in the caller's memory. The order of
// the descriptors differs.
#define AVEC_ALGORITHMS(found)                                                                    \
  Operands operands;                                                                              \
  if (handle == nullptr) return bad_param("handle == NULL");                                      \
  if (const Status status = describe(x, w, convolution, y, operands); status != Status::kSuccess) \
    return status;                                                                                \
  return tell(algorithms, convolution, found, requested, returned, results);

Status cudnnGetConvolutionForwardAlgorithm_v7(Handle* handle, const Tensor* x, const Filter* w,
                                              const Convolution* convolution, const Tensor* y, int requested,
                                              int* returned, AlgorithmPerformance* results) {
  const Algorithms& algorithms = kForward;
  AVEC_ALGORITHMS(false)
}
Status cudnnFindConvolutionForwardAlgorithm(Handle* handle, const Tensor* x, const Filter* w,
                                            const Convolution* convolution, const Tensor* y, int requested,
                                            int* returned, AlgorithmPerformance* results) {
  const Algorithms& algorithms = kForward;
  AVEC_ALGORITHMS(true)
}
Status cudnnFindConvolutionForwardAlgorithmEx(Handle* handle, const Tensor* x, const void*, const Filter* w,
                                              const void*, const Convolution* convolution, const Tensor* y,
                                              void*, int requested, int* returned,
                                              AlgorithmPerformance* results, void*, std::size_t) {
  const Algorithms& algorithms = kForward;
  AVEC_ALGORITHMS(true)
}
Status cudnnGetConvolutionBackwardDataAlgorithm_v7(Handle* handle, const Filter* w, const Tensor* y,
                                                   const Convolution* convolution, const Tensor* x,
                                                   int requested, int* returned,
                                                   AlgorithmPerformance* results) {
  const Algorithms& algorithms = kBackwardData;
  AVEC_ALGORITHMS(false)
}
Status cudnnFindConvolutionBackwardDataAlgorithm(Handle* handle, const Filter* w, const Tensor* y,
                                                 const Convolution* convolution, const Tensor* x,
                                                 int requested, int* returned,
                                                 AlgorithmPerformance* results) {
  const Algorithms& algorithms = kBackwardData;
  AVEC_ALGORITHMS(true)
}
Status cudnnFindConvolutionBackwardDataAlgorithmEx(Handle* handle, const Filter* w, const void*,
                                                   const Tensor* y, const void*,
                                                   const Convolution* convolution, const Tensor* x, void*,
                                                   int requested, int* returned,
                                                   AlgorithmPerformance* results, void*, std::size_t) {
  const Algorithms& algorithms = kBackwardData;
  AVEC_ALGORITHMS(true)
}
Status cudnnGetConvolutionBackwardFilterAlgorithm_v7(Handle* handle, const Tensor* x, const Tensor* y,
                                                     const Convolution* convolution, const Filter* w,
                                                     int requested, int* returned,
                                                     AlgorithmPerformance* results) {
  const Algorithms& algorithms = kBackwardFilter;
  AVEC_ALGORITHMS(false)
}
Status cudnnFindConvolutionBackwardFilterAlgorithm(Handle* handle, const Tensor* x, const Tensor* y,
                                                   const Convolution* convolution, const Filter* w,
                                                   int requested, int* returned,
                                                   AlgorithmPerformance* results) {
  const Algorithms& algorithms = kBackwardFilter;
  AVEC_ALGORITHMS(true)
}
Status cudnnFindConvolutionBackwardFilterAlgorithmEx(Handle* handle, const Tensor* x, const void*,
                                                     const Tensor* y, const void*,
                                                     const Convolution* convolution, const Filter* w, void*,
                                                     int requested, int* returned,
                                                     AlgorithmPerformance* results, void*, std::size_t) {
  const Algorithms& algorithms = kBackwardFilter;
  AVEC_ALGORITHMS(true)
}
#undef AVEC_ALGORITHMS

Status cudnnGetConvolutionForwardWorkspaceSize(Handle* handle, const Tensor* x, const Filter* w,
                                               const Convolution* convolution, const Tensor* y, int algorithm,
                                               std::size_t* bytes) {
  Operands operands;
  if (handle == nullptr) return bad_param("handle == NULL");
  if (const Status status = describe(x, w, convolution, y, operands); status != Status::kSuccess)
    return status;
  return tell_workspace(kForward, algorithm, bytes);
}
Status cudnnGetConvolutionBackwardDataWorkspaceSize(Handle* handle, const Filter* w, const Tensor* y,
                                                    const Convolution* convolution, const Tensor* x,
                                                    int algorithm, std::size_t* bytes) {
  Operands operands;
  if (handle == nullptr) return bad_param("handle == NULL");
  if (const Status status = describe(x, w, convolution, y, operands); status != Status::kSuccess)
    return status;
  return tell_workspace(kBackwardData, algorithm, bytes);
}
Status cudnnGetConvolutionBackwardFilterWorkspaceSize(Handle* handle, const Tensor* x, const Tensor* y,
                                                      const Convolution* convolution, const Filter* w,
                                                      int algorithm, std::size_t* bytes) {
  Operands operands;
  if (handle == nullptr) return bad_param("handle == NULL");
  if (const Status status = describe(x, w, convolution, y, operands); status != Status::kSuccess)
    return status;
  return tell_workspace(kBackwardFilter, algorithm, bytes);
}

Status cudnnConvolutionForward(Handle* handle, const void* alpha, const Tensor* x_desc, const void* x,
                               const Filter* w_desc, const void* w, const Convolution* convolution,
                               int algorithm, void*, std::size_t, const void* beta, const Tensor* y_desc,
                               void* y) {
  Operands o;
  if (const Status status = check_call(handle, kForward, algorithm, alpha, beta); status != Status::kSuccess)
    return status;
  if (any_null(x, w, y)) return bad_param("a tensor is NULL");
  if (const Status status = describe(x_desc, w_desc, convolution, y_desc, o); status != Status::kSuccess)
    return status;
  const double a = scalar(alpha, o.x.type), b = scalar(beta, o.x.type);
  return submit(handle, [=] { forward(o, a, x, w, b, y); });
}

Status cudnnConvolutionBackwardData(Handle* handle, const void* alpha, const Filter* w_desc, const void* w,
                                    const Tensor* dy_desc, const void* dy, const Convolution* convolution,
                                    int algorithm, void*, std::size_t, const void* beta,
                                    const Tensor* dx_desc, void* dx) {
  Operands o;
  if (const Status status = check_call(handle, kBackwardData, algorithm, alpha, beta);
      status != Status::kSuccess)
    return status;
  if (any_null(dy, w, dx)) return bad_param("a tensor is NULL");
  if (const Status status = describe(dx_desc, w_desc, convolution, dy_desc, o); status != Status::kSuccess)
    return status;
  const double a = scalar(alpha, o.x.type), b = scalar(beta, o.x.type);
  return submit(handle, [=] { backward_data(o, a, w, dy, b, dx); });
}

Status cudnnConvolutionBackwardFilter(Handle* handle, const void* alpha, const Tensor* x_desc, const void* x,
                                      const Tensor* dy_desc, const void* dy, const Convolution* convolution,
                                      int algorithm, void*, std::size_t, const void* beta,
                                      const Filter* dw_desc, void* dw) {
  Operands o;
  if (const Status status = check_call(handle, kBackwardFilter, algorithm, alpha, beta);
      status != Status::kSuccess)
    return status;
  if (any_null(x, dy, dw)) return bad_param("a tensor is NULL");
  if (const Status status = describe(x_desc, dw_desc, convolution, dy_desc, o); status != Status::kSuccess)
    return status;
  const double a = scalar(alpha, o.x.type), b = scalar(beta, o.x.type);
  return submit(handle, [=] { backward_filter(o, a, x, dy, b, dw); });
}

Status cudnnConvolutionBackwardBias(Handle* handle, const void* alpha, const Tensor* dy_desc, const void* dy,
                                    const void* beta, const Tensor* db_desc, void* db) {
  if (any_null(handle, alpha, dy_desc, dy, beta, db_desc, db)) return bad_param("a pointer is NULL");
  if (dy_desc->count < 3 || dy_desc->type != db_desc->type || !is_bias(*db_desc, *dy_desc))
    return bad_param("dbDesc is not of one element for each channel of dyDesc");
  const double a = scalar(alpha, dy_desc->type), b = scalar(beta, dy_desc->type);
  return submit(
      handle, [=, dy_desc = *dy_desc, db_desc = *db_desc] { sum_channels(dy_desc, db_desc, a, dy, b, db); });
}

Status cudnnConvolutionBiasActivationForward(Handle* handle, const void* alpha1, const Tensor* x_desc,
                                             const void* x, const Filter* w_desc, const void* w,
                                             const Convolution* convolution, int algorithm, void*,
                                             std::size_t, const void* alpha2, const Tensor* z_desc,
                                             const void* z, const Tensor* bias_desc, const void* bias,
                                             const Activation* activation, const Tensor* y_desc, void* y) {
  Operands o;
  if (const Status status = check_call(handle, kForward, algorithm, alpha1, alpha2);
      status != Status::kSuccess)
    return status;
  if (any_null(x, w, z_desc, z, bias_desc, bias, activation, y)) return bad_param("a pointer is NULL");
  if (const Status status = describe(x_desc, w_desc, convolution, y_desc, o); status != Status::kSuccess)
    return status;
  if (!z_desc->same_shape(*y_desc) || !is_bias(*bias_desc, *y_desc))
    return bad_param("zDesc is not of the output's shape, or biasDesc not of one element for each channel");
  if (activation->mode != Activate::kRelu && activation->mode != Activate::kIdentity)
    return not_supported("only CUDNN_ACTIVATION_RELU and CUDNN_ACTIVATION_IDENTITY follow a convolution");
  const double a1 = scalar(alpha1, o.x.type), a2 = scalar(alpha2, o.x.type);
  return submit(handle, [=, z_desc = *z_desc, bias_desc = *bias_desc, activation = *activation] {
    computed_in(o.x.type, [&]<class C>(C) {
      std::vector<C> result = convolved<C>(o, x, w);
      const Values<C> each(bias_desc, bias);
      const std::vector<C> added = a2 != 0 ? Values<C>::copy(z_desc, z) : std::vector<C>();
      const std::int64_t size = o.y.extent_from(2);
      for (std::size_t i = 0; i < result.size(); ++i) {
        C value = static_cast<C>(a1) * result[i] + each[static_cast<std::int64_t>(i) / size % o.y.dims[1]];
        if (!added.empty()) value += static_cast<C>(a2) * added[i];
        result[i] = activated(activation, value);
      }
      blend(o.y, y, result.data(), 1, 0);
    });
  });
}

}  // extern "C"

}  // namespace avec::cpu_libraries::cudnn
