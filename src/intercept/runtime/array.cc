// Arrays and mipmapped arrays: their lives and what they are.
#include "array.h"

#include "api.h"
#include "base/array_format.h"

using namespace avec::runtime;

namespace avec::runtime {
namespace {

/// The kinds that stand for one format each, in the order of the driver's values.
struct KindRow {
  int first_kind, last_kind;
  unsigned first_format;
};
constexpr KindRow kKinds[] = {
    {cudaChannelFormatKindUnsignedNormalized8X1, cudaChannelFormatKindSignedNormalized16X4,
     CU_AD_FORMAT_UNORM_INT8X1},
    {cudaChannelFormatKindUnsignedBlockCompressed1, cudaChannelFormatKindUnsignedBlockCompressed7SRGB,
     CU_AD_FORMAT_BC1_UNORM},
    {cudaChannelFormatKindUnsignedNormalized1010102, cudaChannelFormatKindUnsignedNormalized1010102,
     CU_AD_FORMAT_UNORM_INT_101010_2},
    {cudaChannelFormatKindNV12, cudaChannelFormatKindNV12, CU_AD_FORMAT_NV12}};

/// Bits of the channels of such a format.
cudaChannelFormatDesc descriptor_of(cudaChannelFormatKind kind, unsigned format) {
  if (kind == cudaChannelFormatKindNV12) return {8, 8, 8, 0, kind};
  if (format == CU_AD_FORMAT_UNORM_INT_101010_2) return {10, 10, 10, 2, kind};
  const ArrayFormat known = array_format(format);
  const bool half = format == CU_AD_FORMAT_BC6H_UF16 || format == CU_AD_FORMAT_BC6H_SF16;
  const int bits = half ? 16 : known.channel_bytes != 0 ? static_cast<int>(8 * known.channel_bytes) : 8;
  const auto channel = [&](unsigned i) { return i < known.channels ? bits : 0; };
  return {channel(0), channel(1), channel(2), channel(3), kind};
}

CUarray_format plain_format(cudaChannelFormatKind kind, int bits) {
  const bool is_signed = kind == cudaChannelFormatKindSigned;
  if (kind == cudaChannelFormatKindFloat)
    return bits == 16 ? CU_AD_FORMAT_HALF : bits == 32 ? CU_AD_FORMAT_FLOAT : CUarray_format{};
  switch (bits) {
    case 8: return is_signed ? CU_AD_FORMAT_SIGNED_INT8 : CU_AD_FORMAT_UNSIGNED_INT8;
    case 16: return is_signed ? CU_AD_FORMAT_SIGNED_INT16 : CU_AD_FORMAT_UNSIGNED_INT16;
    case 32: return is_signed ? CU_AD_FORMAT_SIGNED_INT32 : CU_AD_FORMAT_UNSIGNED_INT32;
    default: return {};
  }
}

}  // namespace

cudaError_t format_of(const cudaChannelFormatDesc& c, CUarray_format* format, unsigned* count) noexcept {
  for (const KindRow& row : kKinds) {
    if (c.f < row.first_kind || c.f > row.last_kind) continue;
    *format = static_cast<CUarray_format>(row.first_format + static_cast<unsigned>(c.f - row.first_kind));
    const unsigned channels = array_format(*format).channels;
    *count = c.f == cudaChannelFormatKindNV12 ? 3 : channels;
    return cudaSuccess;
  }
  if (c.f != cudaChannelFormatKindSigned && c.f != cudaChannelFormatKindUnsigned && c.f != cudaChannelFormatKindFloat)
    return cudaErrorInvalidChannelDescriptor;
  const int bits[] = {c.x, c.y, c.z, c.w};
  unsigned channels = 0;
  while (channels < 4 && bits[channels] != 0) ++channels;
  for (unsigned i = 0; i < 4; ++i)
    if (bits[i] != (i < channels ? c.x : 0)) return cudaErrorInvalidChannelDescriptor;
  *format = plain_format(c.f, c.x);
  if (*format == CUarray_format{} || channels == 0 || channels == 3) return cudaErrorInvalidChannelDescriptor;
  *count = channels;
  return cudaSuccess;
}

cudaChannelFormatDesc channels_of(CUarray_format format, unsigned count) noexcept {
  for (const KindRow& row : kKinds) {
    const auto kinds = static_cast<unsigned>(row.last_kind - row.first_kind);
    const auto value = static_cast<unsigned>(format);
    if (value >= row.first_format && value <= row.first_format + kinds) {
      const auto kind = static_cast<unsigned>(row.first_kind) + value - row.first_format;
      return descriptor_of(static_cast<cudaChannelFormatKind>(kind), value);
    }
  }
  const ArrayFormat known = array_format(static_cast<unsigned>(format));
  const auto kind = known.kind == ChannelKind::kSigned  ? cudaChannelFormatKindSigned
                    : known.kind == ChannelKind::kFloat ? cudaChannelFormatKindFloat
                    : known.known()                     ? cudaChannelFormatKindUnsigned
                                                        : cudaChannelFormatKindNone;
  const auto bits = [&](unsigned i) { return i < count ? static_cast<int>(8 * known.channel_bytes) : 0; };
  return {bits(0), bits(1), bits(2), bits(3), kind};
}

CUresult element_bytes(cudaArray_const_t array, std::size_t* bytes) noexcept {
  CUDA_ARRAY3D_DESCRIPTOR descriptor;
  const CUresult result = cuArray3DGetDescriptor(&descriptor, driver_array(array));
  if (result != CUDA_SUCCESS) return result;
  *bytes = array_format(static_cast<unsigned>(descriptor.Format)).bytes(descriptor.NumChannels);
  return *bytes == 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;  // of several planes: no elements
}

}  // namespace avec::runtime

namespace {

cudaError_t descriptor_of(const cudaChannelFormatDesc* channels, const cudaExtent& extent, unsigned flags,
                          CUDA_ARRAY3D_DESCRIPTOR* descriptor) {
  if (channels == nullptr) return cudaErrorInvalidValue;
  CUarray_format format;
  unsigned count = 0;
  if (const cudaError_t error = format_of(*channels, &format, &count); error != cudaSuccess) return error;
  // The flags have the same values: cudaArrayLayered is CUDA_ARRAY3D_LAYERED ...
  *descriptor = {extent.width, extent.height, extent.depth, format, count, flags};
  return cudaSuccess;
}

cudaError_t allocate(cudaArray_t* array, const cudaChannelFormatDesc* channels, const cudaExtent& extent,
                     unsigned flags) {
  if (array == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&]() -> cudaError_t {
    CUDA_ARRAY3D_DESCRIPTOR descriptor;
    if (const cudaError_t error = descriptor_of(channels, extent, flags, &descriptor); error != cudaSuccess)
      return error;
    CUarray made = nullptr;
    const CUresult result = cuArray3DCreate(&made, &descriptor);
    if (result == CUDA_SUCCESS) *array = reinterpret_cast<cudaArray_t>(made);
    return to_runtime(result);
  });
}

template <class Properties>
cudaError_t sparse_properties(Properties* properties, const CUDA_ARRAY_SPARSE_PROPERTIES& from) {
  *properties = {};
  properties->tileExtent = {from.tileExtent.width, from.tileExtent.height, from.tileExtent.depth};
  properties->miptailFirstLevel = from.miptailFirstLevel;
  properties->miptailSize = from.miptailSize;
  properties->flags = from.flags;
  return cudaSuccess;
}

cudaError_t requirements_of(cudaArrayMemoryRequirements* requirements, const CUDA_ARRAY_MEMORY_REQUIREMENTS& from) {
  *requirements = {};
  requirements->size = from.size;
  requirements->alignment = from.alignment;
  return cudaSuccess;
}

}  // namespace

cudaError_t cudaMallocArray(cudaArray_t* array, const cudaChannelFormatDesc* channels, std::size_t width,
                            std::size_t height, unsigned flags) {
  AVEC_COUNTED;
  return allocate(array, channels, {width, height, 0}, flags);
}

cudaError_t cudaMalloc3DArray(cudaArray_t* array, const cudaChannelFormatDesc* channels, cudaExtent extent,
                              unsigned flags) {
  AVEC_COUNTED;
  return allocate(array, channels, extent, flags);
}

cudaError_t cudaMallocMipmappedArray(cudaMipmappedArray_t* array, const cudaChannelFormatDesc* channels,
                                     cudaExtent extent, unsigned levels, unsigned flags) {
  AVEC_COUNTED;
  if (array == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&]() -> cudaError_t {
    CUDA_ARRAY3D_DESCRIPTOR descriptor;
    if (const cudaError_t error = descriptor_of(channels, extent, flags, &descriptor); error != cudaSuccess)
      return error;
    CUmipmappedArray made = nullptr;
    const CUresult result = cuMipmappedArrayCreate(&made, &descriptor, levels);
    if (result == CUDA_SUCCESS) *array = reinterpret_cast<cudaMipmappedArray_t>(made);
    return to_runtime(result);
  });
}

cudaError_t cudaFreeArray(cudaArray_t array) {
  AVEC_COUNTED;
  return in_context([&] { return array == nullptr ? CUDA_SUCCESS : cuArrayDestroy(driver_array(array)); });
}

cudaError_t cudaFreeMipmappedArray(cudaMipmappedArray_t array) {
  AVEC_COUNTED;
  return in_context([&] { return array == nullptr ? CUDA_SUCCESS : cuMipmappedArrayDestroy(driver_array(array)); });
}

cudaError_t cudaGetMipmappedArrayLevel(cudaArray_t* level, cudaMipmappedArray_const_t array, unsigned index) {
  AVEC_COUNTED;
  if (level == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&] {
    CUarray found = nullptr;
    const CUresult result = cuMipmappedArrayGetLevel(&found, driver_array(array), index);
    if (result == CUDA_SUCCESS) *level = reinterpret_cast<cudaArray_t>(found);
    return result;
  });
}

cudaError_t cudaArrayGetInfo(cudaChannelFormatDesc* channels, cudaExtent* extent, unsigned* flags,
                             cudaArray_t array) {
  AVEC_COUNTED;
  return in_context([&] {
    CUDA_ARRAY3D_DESCRIPTOR descriptor;
    const CUresult result = cuArray3DGetDescriptor(&descriptor, driver_array(array));
    if (result != CUDA_SUCCESS) {  // NVIDIA's runtime writes zeros, too
      if (channels != nullptr) *channels = {};
      if (extent != nullptr) *extent = {};
      if (flags != nullptr) *flags = 0;
      return result;
    }
    if (channels != nullptr) *channels = channels_of(descriptor.Format, descriptor.NumChannels);
    if (extent != nullptr) *extent = {descriptor.Width, descriptor.Height, descriptor.Depth};
    if (flags != nullptr) *flags = descriptor.Flags;
    return CUDA_SUCCESS;
  });
}

cudaError_t cudaGetChannelDesc(cudaChannelFormatDesc* channels, cudaArray_const_t array) {
  AVEC_COUNTED;
  if (channels == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&] {
    CUDA_ARRAY3D_DESCRIPTOR descriptor;
    const CUresult result = cuArray3DGetDescriptor(&descriptor, driver_array(array));
    if (result == CUDA_SUCCESS) *channels = channels_of(descriptor.Format, descriptor.NumChannels);
    return result;
  });
}

cudaError_t cudaArrayGetPlane(cudaArray_t* plane, cudaArray_t array, unsigned index) {
  AVEC_COUNTED;
  if (plane == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&] {
    CUarray found = nullptr;
    const CUresult result = cuArrayGetPlane(&found, driver_array(array), index);
    if (result == CUDA_SUCCESS) *plane = reinterpret_cast<cudaArray_t>(found);
    return result;
  });
}

cudaError_t cudaArrayGetMemoryRequirements(cudaArrayMemoryRequirements* requirements, cudaArray_t array, int device) {
  AVEC_COUNTED;
  if (requirements == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&]() -> cudaError_t {
    CUDA_ARRAY_MEMORY_REQUIREMENTS found;
    const CUresult result = cuArrayGetMemoryRequirements(&found, driver_array(array), device);
    return result == CUDA_SUCCESS ? requirements_of(requirements, found) : to_runtime(result);
  });
}

cudaError_t cudaMipmappedArrayGetMemoryRequirements(cudaArrayMemoryRequirements* requirements,
                                                    cudaMipmappedArray_t array, int device) {
  AVEC_COUNTED;
  if (requirements == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&]() -> cudaError_t {
    CUDA_ARRAY_MEMORY_REQUIREMENTS found;
    const CUresult result = cuMipmappedArrayGetMemoryRequirements(&found, driver_array(array), device);
    return result == CUDA_SUCCESS ? requirements_of(requirements, found) : to_runtime(result);
  });
}

cudaError_t cudaArrayGetSparseProperties(cudaArraySparseProperties* properties, cudaArray_t array) {
  AVEC_COUNTED;
  if (properties == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&]() -> cudaError_t {
    CUDA_ARRAY_SPARSE_PROPERTIES found;
    const CUresult result = cuArrayGetSparseProperties(&found, driver_array(array));
    return result == CUDA_SUCCESS ? sparse_properties(properties, found) : to_runtime(result);
  });
}

cudaError_t cudaMipmappedArrayGetSparseProperties(cudaArraySparseProperties* properties, cudaMipmappedArray_t array) {
  AVEC_COUNTED;
  if (properties == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&]() -> cudaError_t {
    CUDA_ARRAY_SPARSE_PROPERTIES found;
    const CUresult result = cuMipmappedArrayGetSparseProperties(&found, driver_array(array));
    return result == CUDA_SUCCESS ? sparse_properties(properties, found) : to_runtime(result);
  });
}
