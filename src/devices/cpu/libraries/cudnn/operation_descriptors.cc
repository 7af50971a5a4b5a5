// Descriptors of operations. What is refused, and with which status, is what cuDNN 9 does.
#include <cstdint>

#include "devices/cpu/libraries/cudnn/descriptors.h"
#include "devices/cpu/libraries/cudnn/objects.h"

namespace avec::cpu_libraries::cudnn {

namespace {

bool computes(Type type) { return type == Type::kFloat || type == Type::kDouble || type == Type::kHalf; }

template <class T>
void put(T* to, T value) {
  if (to != nullptr) *to = value;
}

/// What is left of n elements and twice the padding when a window steps over them; below 1: nothing.
std::int64_t steps(std::int64_t n, int pad, std::int64_t window, int stride) {
  const std::int64_t room = n + 2 * static_cast<std::int64_t>(pad) - window;
  return room < 0 ? 0 : 1 + room / stride;
}

}  // namespace

extern "C" {

Status cudnnCreateConvolutionDescriptor(Convolution** made) { return create(made); }
Status cudnnDestroyConvolutionDescriptor(Convolution* convolution) { return destroy(convolution); }

Status cudnnSetConvolutionNdDescriptor(Convolution* convolution, int count, const int* pads,
                                       const int* strides, const int* dilations, Direction direction,
                                       Type compute) {
  if (any_null(convolution, pads, strides, dilations)) return bad_param("a pointer is NULL");
  if (count > kMaxSpatialDimensions) return not_supported("arrayLength > CUDNN_DIM_MAX - 2");
  if (count < 0) return bad_param("arrayLength < 0");
  for (int d = 0; d < count; ++d)
    if (pads[d] < 0 || strides[d] <= 0 || dilations[d] <= 0)
      return bad_param("a padding is negative, or a stride or a dilation is not positive");
  if (!known(direction, Direction::kCrossCorrelation)) return bad_param("the mode is unknown");
  if (!computes(compute) && compute != Type::kInt32)
    return bad_param("convolutions are not computed in this type");
  Convolution changed = *convolution;
  changed.count = count;
  for (int d = 0; d < count; ++d) {
    changed.pad[d] = pads[d];
    changed.stride[d] = strides[d];
    changed.dilation[d] = dilations[d];
  }
  changed.direction = direction;
  changed.compute = compute;
  *convolution = changed;
  return Status::kSuccess;
}

Status cudnnSetConvolution2dDescriptor(Convolution* convolution, int pad_h, int pad_w, int u, int v,
                                       int dilation_h, int dilation_w, Direction direction, Type compute) {
  const int pads[] = {pad_h, pad_w}, strides[] = {u, v}, dilations[] = {dilation_h, dilation_w};
  return cudnnSetConvolutionNdDescriptor(convolution, 2, pads, strides, dilations, direction, compute);
}

Status cudnnGetConvolution2dDescriptor(const Convolution* convolution, int* pad_h, int* pad_w, int* u, int* v,
                                       int* dilation_h, int* dilation_w, Direction* direction,
                                       Type* compute) {
  if (convolution == nullptr) return bad_param("convDesc == NULL");
  put(pad_h, convolution->pad[0]);
  put(pad_w, convolution->pad[1]);
  put(u, convolution->stride[0]);
  put(v, convolution->stride[1]);
  put(dilation_h, convolution->dilation[0]);
  put(dilation_w, convolution->dilation[1]);
  put(direction, convolution->direction);
  put(compute, convolution->compute);
  return Status::kSuccess;
}

Status cudnnGetConvolutionNdDescriptor(const Convolution* convolution, int requested, int* count, int* pads,
                                       int* strides, int* dilations, Direction* direction, Type* compute) {
  if (convolution == nullptr) return bad_param("convDesc == NULL");
  if (requested > kMaxSpatialDimensions) return not_supported("arrayLengthRequested > CUDNN_DIM_MAX - 2");
  if (requested < 0) return bad_param("arrayLengthRequested < 0");
  put(count, convolution->count);
  for (int d = 0; d < requested; ++d) {
    if (pads != nullptr) pads[d] = convolution->pad[d];
    if (strides != nullptr) strides[d] = convolution->stride[d];
    if (dilations != nullptr) dilations[d] = convolution->dilation[d];
  }
  put(direction, convolution->direction);
  put(compute, convolution->compute);
  return Status::kSuccess;
}

Status cudnnSetConvolutionGroupCount(Convolution* convolution, int groups) {
  if (convolution == nullptr) return bad_param("convDesc == NULL");
  if (groups < 1) return bad_param("groupCount < 1");
  convolution->groups = groups;
  return Status::kSuccess;
}
Status cudnnGetConvolutionGroupCount(const Convolution* convolution, int* groups) {
  if (any_null(convolution, groups)) return bad_param("a pointer is NULL");
  *groups = convolution->groups;
  return Status::kSuccess;
}
Status cudnnSetConvolutionMathType(Convolution* convolution, Math math) {
  if (convolution == nullptr) return bad_param("convDesc == NULL");
  if (!known(math, Math::kFma)) return bad_param("the math type is unknown");
  convolution->math = math;
  return Status::kSuccess;
}
Status cudnnGetConvolutionMathType(const Convolution* convolution, Math* math) {
  if (any_null(convolution, math)) return bad_param("a pointer is NULL");
  *math = convolution->math;
  return Status::kSuccess;
}
Status cudnnSetConvolutionReorderType(Convolution* convolution, Reorder reorder) {
  if (convolution == nullptr) return bad_param("convDesc == NULL");
  if (!known(reorder, Reorder::kNone)) return bad_param("the reorder type is unknown");
  convolution->reorder = reorder;
  return Status::kSuccess;
}
Status cudnnGetConvolutionReorderType(const Convolution* convolution, Reorder* reorder) {
  if (any_null(convolution, reorder)) return bad_param("a pointer is NULL");
  *reorder = convolution->reorder;
  return Status::kSuccess;
}

Status cudnnGetConvolutionNdForwardOutputDim(const Convolution* convolution, const Tensor* x, const Filter* w,
                                             int count, int* dims) {
  if (any_null(convolution, x, w, dims)) return bad_param("a pointer is NULL");
  if (count < 2 || count > x->count || count > w->count || count - 2 > convolution->count)
    return bad_param("nbDims is not that of the tensor, the filter and the convolution");
  if (x->dims[1] != w->dims[1] * convolution->groups)
    return bad_param("the channels of the tensor are not those of the filter times the groups");
  dims[0] = static_cast<int>(x->dims[0]);
  dims[1] = static_cast<int>(w->dims[0]);
  for (int d = 0; d < count - 2; ++d) {
    const std::int64_t window = (w->dims[d + 2] - 1) * convolution->dilation[d] + 1;
    const std::int64_t n = steps(x->dims[d + 2], convolution->pad[d], window, convolution->stride[d]);
    if (n < 1) return bad_param("the filter is larger than the padded tensor");
    dims[d + 2] = static_cast<int>(n);
  }
  return Status::kSuccess;
}

Status cudnnGetConvolution2dForwardOutputDim(const Convolution* convolution, const Tensor* x, const Filter* w,
                                             int* n, int* c, int* h, int* width) {
  int dims[4] = {};
  const Status status = cudnnGetConvolutionNdForwardOutputDim(convolution, x, w, 4, dims);
  put(n, dims[0]);
  put(c, dims[1]);
  put(h, dims[2]);
  put(width, dims[3]);
  return status;
}

Status cudnnCreatePoolingDescriptor(Pooling** made) { return create(made); }
Status cudnnDestroyPoolingDescriptor(Pooling* pooling) { return destroy(pooling); }

Status cudnnSetPoolingNdDescriptor(Pooling* pooling, Pool mode, Nan nan, int count, const int* windows,
                                   const int* pads, const int* strides) {
  if (any_null(pooling, windows, pads, strides)) return bad_param("a pointer is NULL");
  if (count > kMaxSpatialDimensions) return not_supported("nbDims > CUDNN_DIM_MAX - 2");
  if (count < 1) return bad_param("nbDims < 1");
  if (!known(mode, Pool::kMaxDeterministic) || !known(nan, Nan::kPropagate))
    return bad_param("the mode is unknown");
  for (int d = 0; d < count; ++d)
    if (windows[d] <= 0 || strides[d] <= 0) return bad_param("a window or a stride is not positive");
  Pooling changed{mode, nan, count, {}, {}, {}};
  for (int d = 0; d < count; ++d) {
    changed.window[d] = windows[d];
    changed.pad[d] = pads[d];
    changed.stride[d] = strides[d];
  }
  *pooling = changed;
  return Status::kSuccess;
}

Status cudnnSetPooling2dDescriptor(Pooling* pooling, Pool mode, Nan nan, int window_h, int window_w,
                                   int pad_h, int pad_w, int stride_h, int stride_w) {
  const int windows[] = {window_h, window_w}, pads[] = {pad_h, pad_w}, strides[] = {stride_h, stride_w};
  return cudnnSetPoolingNdDescriptor(pooling, mode, nan, 2, windows, pads, strides);
}

Status cudnnGetPooling2dDescriptor(const Pooling* pooling, Pool* mode, Nan* nan, int* window_h, int* window_w,
                                   int* pad_h, int* pad_w, int* stride_h, int* stride_w) {
  if (pooling == nullptr) return bad_param("poolingDesc == NULL");
  put(mode, pooling->mode);
  put(nan, pooling->nan);
  put(window_h, pooling->window[0]);
  put(window_w, pooling->window[1]);
  put(pad_h, pooling->pad[0]);
  put(pad_w, pooling->pad[1]);
  put(stride_h, pooling->stride[0]);
  put(stride_w, pooling->stride[1]);
  return Status::kSuccess;
}

Status cudnnGetPoolingNdDescriptor(const Pooling* pooling, int requested, Pool* mode, Nan* nan, int* count,
                                   int* windows, int* pads, int* strides) {
  if (pooling == nullptr) return bad_param("poolingDesc == NULL");
  if (requested > kMaxSpatialDimensions) return not_supported("nbDimsRequested > CUDNN_DIM_MAX - 2");
  put(mode, pooling->mode);
  put(nan, pooling->nan);
  put(count, pooling->count);
  for (int d = 0; d < requested; ++d) {
    if (windows != nullptr) windows[d] = pooling->window[d];
    if (pads != nullptr) pads[d] = pooling->pad[d];
    if (strides != nullptr) strides[d] = pooling->stride[d];
  }
  return Status::kSuccess;
}

Status cudnnGetPoolingNdForwardOutputDim(const Pooling* pooling, const Tensor* x, int count, int* dims) {
  if (any_null(pooling, x, dims)) return bad_param("a pointer is NULL");
  if (count != x->count || count - 2 != pooling->count)
    return bad_param("nbDims is not that of the tensor and the pooling");
  dims[0] = static_cast<int>(x->dims[0]);
  dims[1] = static_cast<int>(x->dims[1]);
  for (int d = 0; d < pooling->count; ++d) {
    const std::int64_t n = steps(x->dims[d + 2], pooling->pad[d], pooling->window[d], pooling->stride[d]);
    if (n < 1) return bad_param("the window is larger than the padded tensor");
    dims[d + 2] = static_cast<int>(n);
  }
  return Status::kSuccess;
}

Status cudnnGetPooling2dForwardOutputDim(const Pooling* pooling, const Tensor* x, int* n, int* c, int* h,
                                         int* w) {
  int dims[4] = {};
  const Status status = cudnnGetPoolingNdForwardOutputDim(pooling, x, 4, dims);
  put(n, dims[0]);
  put(c, dims[1]);
  put(h, dims[2]);
  put(w, dims[3]);
  return status;
}

Status cudnnCreateActivationDescriptor(Activation** made) { return create(made); }
Status cudnnDestroyActivationDescriptor(Activation* activation) { return destroy(activation); }

Status cudnnSetActivationDescriptor(Activation* activation, Activate mode, Nan nan, double coefficient) {
  if (activation == nullptr) return bad_param("activationDesc == NULL");
  if (!known(mode, Activate::kSwish) || !known(nan, Nan::kPropagate)) return bad_param("the mode is unknown");
  activation->mode = mode;
  activation->nan = nan;
  activation->coefficient = coefficient;
  return Status::kSuccess;
}
Status cudnnGetActivationDescriptor(const Activation* activation, Activate* mode, Nan* nan,
                                    double* coefficient) {
  if (activation == nullptr) return bad_param("activationDesc == NULL");
  put(mode, activation->mode);
  put(nan, activation->nan);
  put(coefficient, activation->coefficient);
  return Status::kSuccess;
}
Status cudnnSetActivationDescriptorSwishBeta(Activation* activation, double beta) {
  if (activation == nullptr) return bad_param("activationDesc == NULL");
  activation->swish_beta = beta;
  return Status::kSuccess;
}
Status cudnnGetActivationDescriptorSwishBeta(const Activation* activation, double* beta) {
  if (any_null(activation, beta)) return bad_param("a pointer is NULL");
  *beta = activation->swish_beta;
  return Status::kSuccess;
}

Status cudnnCreateLRNDescriptor(Response** made) { return create(made); }
Status cudnnDestroyLRNDescriptor(Response* response) { return destroy(response); }

Status cudnnSetLRNDescriptor(Response* response, unsigned n, double alpha, double beta, double k) {
  if (response == nullptr) return bad_param("normDesc == NULL");
  constexpr unsigned kMostChannels = 16;               // CUDNN_LRN_MAX_N
  constexpr double kLeastBeta = 0.01, kLeastK = 1e-5;  // CUDNN_LRN_MIN_BETA, CUDNN_LRN_MIN_K
  if (n < 1 || n > kMostChannels || beta < kLeastBeta || k < kLeastK)
    return bad_param("lrnN, lrnBeta or lrnK is out of range");
  *response = {n, alpha, beta, k};
  return Status::kSuccess;
}
Status cudnnGetLRNDescriptor(const Response* response, unsigned* n, double* alpha, double* beta, double* k) {
  if (response == nullptr) return bad_param("normDesc == NULL");
  put(n, response->n);
  put(alpha, response->alpha);
  put(beta, response->beta);
  put(k, response->k);
  return Status::kSuccess;
}

Status cudnnCreateOpTensorDescriptor(OpTensor** made) { return create(made); }
Status cudnnDestroyOpTensorDescriptor(OpTensor* operation) { return destroy(operation); }

Status cudnnSetOpTensorDescriptor(OpTensor* operation, Op op, Type compute, Nan nan) {
  if (operation == nullptr) return bad_param("opTensorDesc == NULL");
  if (!known(op, Op::kNot) || !known(nan, Nan::kPropagate)) return bad_param("the operation is unknown");
  if (!computes(compute) && compute != Type::kBfloat16)
    return bad_param("operations of tensors are not computed in this type");
  *operation = {op, compute, nan};
  return Status::kSuccess;
}
Status cudnnGetOpTensorDescriptor(const OpTensor* operation, Op* op, Type* compute, Nan* nan) {
  if (operation == nullptr) return bad_param("opTensorDesc == NULL");
  put(op, operation->op);
  put(compute, operation->compute);
  put(nan, operation->nan);
  return Status::kSuccess;
}

Status cudnnCreateReduceTensorDescriptor(ReduceTensor** made) { return create(made); }
Status cudnnDestroyReduceTensorDescriptor(ReduceTensor* reduce) { return destroy(reduce); }

Status cudnnSetReduceTensorDescriptor(ReduceTensor* reduce, Reduce op, Type compute, Nan nan, Indices indices,
                                      IndexType index_type) {
  if (reduce == nullptr) return bad_param("reduceTensorDesc == NULL");
  if (!known(op, Reduce::kMulNoZeros) || !known(nan, Nan::kPropagate) ||
      !known(indices, Indices::kFlattened) || !known(index_type, IndexType::k8) || !computes(compute))
    return bad_param("the operation, its type or its indices are unknown");
  *reduce = {op, compute, nan, indices, index_type};
  return Status::kSuccess;
}
Status cudnnGetReduceTensorDescriptor(const ReduceTensor* reduce, Reduce* op, Type* compute, Nan* nan,
                                      Indices* indices, IndexType* index_type) {
  if (reduce == nullptr) return bad_param("reduceTensorDesc == NULL");
  put(op, reduce->op);
  put(compute, reduce->compute);
  put(nan, reduce->nan);
  put(indices, reduce->indices);
  put(index_type, reduce->index_type);
  return Status::kSuccess;
}

}  // extern "C"

}  // namespace avec::cpu_libraries::cudnn
