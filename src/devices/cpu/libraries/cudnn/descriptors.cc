// Descriptors of tensors and filters. What is refused, and with which status, is what cuDNN 9 does.
#include "devices/cpu/libraries/cudnn/descriptors.h"

#include <cstdlib>
#include <limits>
#include <new>

#include "devices/cpu/libraries/cudnn/objects.h"

namespace avec::cpu_libraries::cudnn {

namespace {

Status check_shape(Type type, int count, const int* dims) {
  if (size_of(type) == 0) return bad_param("the data type is none that the CPU device has for tensors");
  for (int d = 0; d < count; ++d)
    if (dims[d] <= 0) return bad_param("a dimension is not positive");
  return Status::kSuccess;
}

/// cuDNN counts elements in 32 bits.
Status check_size(const Layout& layout) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  std::int64_t product = 1;
  for (int d = 0; d < layout.count; ++d) {
    product *= layout.dims[d];
    if (product > kMost) return not_supported("the tensor has 2^31 elements or more");
  }
  return Status::kSuccess;
}

Status check_format(Format format) {
  if (format == Format::kNchw || format == Format::kNhwc) return Status::kSuccess;
  if (format == Format::kNchwVector)
    return bad_param("NCHW_VECT_C needs a vectorised data type, which the CPU device does not have");
  return bad_param("the format is unknown");
}

Status set_strided(Tensor* tensor, Type type, int count, const int* dims, const int* strides) {
  if (const Status status = check_shape(type, count, dims); status != Status::kSuccess) return status;
  Tensor layout;
  layout.type = type;
  layout.count = count;
  for (int d = 0; d < count; ++d) {
    if (strides[d] == 0) return bad_param("a stride is 0");
    if (strides[d] < 0) return bad_param("a stride is negative, which the CPU device does not have");
    layout.dims[d] = dims[d];
    layout.strides[d] = strides[d];
  }
  if (const Status status = check_size(layout); status != Status::kSuccess) return status;
  *tensor = layout;
  return Status::kSuccess;
}

template <class Object>
Status set_packed(Object* object, Type type, Format format, int count, const int* dims) {
  if (const Status status = check_format(format); status != Status::kSuccess) return status;
  if (const Status status = check_shape(type, count, dims); status != Status::kSuccess) return status;
  const Layout layout = packed_layout(type, format, count, dims);
  if (const Status status = check_size(layout); status != Status::kSuccess) return status;
  static_cast<Layout&>(*object) = layout;
  return Status::kSuccess;
}

void put(int* to, std::int64_t value) {
  if (to != nullptr) *to = static_cast<int>(value);
}

}  // namespace

extern "C" {

Status cudnnCreateTensorDescriptor(Tensor** made) { return create(made); }
Status cudnnDestroyTensorDescriptor(Tensor* tensor) { return destroy(tensor); }

Status cudnnSetTensor4dDescriptor(Tensor* tensor, Format format, Type type, int n, int c, int h, int w) {
  if (tensor == nullptr) return bad_param("tensorDesc == NULL");
  const int dims[] = {n, c, h, w};
  return set_packed(tensor, type, format, 4, dims);
}

Status cudnnSetTensor4dDescriptorEx(Tensor* tensor, Type type, int n, int c, int h, int w, int n_stride,
                                    int c_stride, int h_stride, int w_stride) {
  if (tensor == nullptr) return bad_param("tensorDesc == NULL");
  const int dims[] = {n, c, h, w}, strides[] = {n_stride, c_stride, h_stride, w_stride};
  return set_strided(tensor, type, 4, dims, strides);
}

Status cudnnGetTensor4dDescriptor(const Tensor* tensor, Type* type, int* n, int* c, int* h, int* w,
                                  int* n_stride, int* c_stride, int* h_stride, int* w_stride) {
  if (tensor == nullptr) return bad_param("tensorDesc == NULL");
  if (type != nullptr) *type = tensor->type;
  int* const dims[] = {n, c, h, w};
  int* const strides[] = {n_stride, c_stride, h_stride, w_stride};
  for (int d = 0; d < 4; ++d) {
    put(dims[d], tensor->dims[d]);
    put(strides[d], tensor->strides[d]);
  }
  return Status::kSuccess;
}

Status cudnnSetTensorNdDescriptor(Tensor* tensor, Type type, int count, const int* dims, const int* strides) {
  if (any_null(tensor, dims, strides)) return bad_param("a pointer is NULL");
  if (count > kMaxDimensions) return not_supported("nbDims > CUDNN_DIM_MAX");
  if (count < 2) return bad_param("nbDims < 2");
  return set_strided(tensor, type, count, dims, strides);
}

Status cudnnSetTensorNdDescriptorEx(Tensor* tensor, Format format, Type type, int count, const int* dims) {
  if (any_null(tensor, dims)) return bad_param("a pointer is NULL");
  if (count > kMaxDimensions) return not_supported("nbDims > CUDNN_DIM_MAX");
  if (count < 2) return bad_param("nbDims < 2");
  return set_packed(tensor, type, format, count, dims);
}

Status cudnnGetTensorNdDescriptor(const Tensor* tensor, int requested, Type* type, int* count, int* dims,
                                  int* strides) {
  if (tensor == nullptr) return bad_param("tensorDesc == NULL");
  if (type != nullptr) *type = tensor->type;
  put(count, tensor->count);
  for (int d = 0; d < requested && d < tensor->count; ++d) {
    put(dims == nullptr ? nullptr : dims + d, tensor->dims[d]);
    put(strides == nullptr ? nullptr : strides + d, tensor->strides[d]);
  }
  return Status::kSuccess;
}

Status cudnnGetTensorSizeInBytes(const Tensor* tensor, std::size_t* bytes) {
  if (any_null(tensor, bytes)) return bad_param("a pointer is NULL");
  *bytes = tensor->bytes();
  return Status::kSuccess;
}

Status cudnnDeriveBNTensorDescriptor(Tensor* derived, const Tensor* x, BatchNorm mode) {
  if (any_null(derived, x)) return bad_param("a pointer is NULL");
  if (x->count < 4) return bad_param("xDesc has fewer than 4 dimensions");
  if (mode != BatchNorm::kPerActivation && mode != BatchNorm::kSpatial &&
      mode != BatchNorm::kSpatialPersistent)
    return bad_param("the mode is unknown");
  int dims[kMaxDimensions];
  for (int d = 0; d < x->count; ++d)
    dims[d] = d == 1 || (d > 1 && mode == BatchNorm::kPerActivation) ? static_cast<int>(x->dims[d]) : 1;
  const Type type = x->type == Type::kDouble ? Type::kDouble : Type::kFloat;
  return set_packed(derived, type, Format::kNchw, x->count, dims);
}

Status cudnnCreateFilterDescriptor(Filter** made) { return create(made); }
Status cudnnDestroyFilterDescriptor(Filter* filter) { return destroy(filter); }

Status cudnnSetFilterNdDescriptor(Filter* filter, Type type, Format format, int count, const int* dims) {
  if (any_null(filter, dims)) return bad_param("a pointer is NULL");
  if (count > kMaxDimensions) return not_supported("nbDims > CUDNN_DIM_MAX");
  if (count < 3) return bad_param("nbDims < 3");
  const Status status = set_packed(filter, type, format, count, dims);
  if (status == Status::kSuccess) filter->format = format;
  return status;
}

Status cudnnSetFilter4dDescriptor(Filter* filter, Type type, Format format, int k, int c, int h, int w) {
  const int dims[] = {k, c, h, w};
  return cudnnSetFilterNdDescriptor(filter, type, format, 4, dims);
}

Status cudnnGetFilterNdDescriptor(const Filter* filter, int requested, Type* type, Format* format, int* count,
                                  int* dims) {
  if (filter == nullptr) return bad_param("filterDesc == NULL");
  if (requested > kMaxDimensions) return not_supported("nbDimsRequested > CUDNN_DIM_MAX");
  if (requested < 1) return bad_param("nbDimsRequested < 1");
  if (type != nullptr) *type = filter->type;
  if (format != nullptr) *format = filter->format;
  put(count, filter->count);
  for (int d = 0; d < requested && dims != nullptr; ++d) put(dims + d, filter->dims[d]);
  return Status::kSuccess;
}

Status cudnnGetFilter4dDescriptor(const Filter* filter, Type* type, Format* format, int* k, int* c, int* h,
                                  int* w) {
  if (filter == nullptr) return bad_param("filterDesc == NULL");
  int dims[4] = {};
  const Status status = cudnnGetFilterNdDescriptor(filter, 4, type, format, nullptr, dims);
  int* const to[] = {k, c, h, w};
  for (int d = 0; d < 4; ++d) put(to[d], dims[d]);
  return status;
}

Status cudnnGetFilterSizeInBytes(const Filter* filter, std::size_t* bytes) {
  if (any_null(filter, bytes)) return bad_param("a pointer is NULL");
  *bytes = filter->bytes();
  return Status::kSuccess;
}

}  // extern "C"

}  // namespace avec::cpu_libraries::cudnn
