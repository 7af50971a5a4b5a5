// Texture and surface objects over the driver's.
#include <algorithm>

#include "api.h"
#include "array.h"
#include "base/array_format.h"

using namespace avec::runtime;

namespace {

cudaError_t to_driver(const cudaResourceDesc& from, CUDA_RESOURCE_DESC* to) {
  *to = {};
  switch (from.resType) {
    case cudaResourceTypeArray:
      to->resType = CU_RESOURCE_TYPE_ARRAY;
      to->res.array.hArray = driver_array(from.res.array.array);
      return cudaSuccess;
    case cudaResourceTypeMipmappedArray:
      to->resType = CU_RESOURCE_TYPE_MIPMAPPED_ARRAY;
      to->res.mipmap.hMipmappedArray = driver_array(from.res.mipmap.mipmap);
      return cudaSuccess;
    case cudaResourceTypeLinear: {
      const auto& linear = from.res.linear;
      to->resType = CU_RESOURCE_TYPE_LINEAR;
      to->res.linear.devPtr = device_pointer(linear.devPtr);
      to->res.linear.sizeInBytes = linear.sizeInBytes;
      return format_of(linear.desc, &to->res.linear.format, &to->res.linear.numChannels);
    }
    case cudaResourceTypePitch2D: {
      const auto& pitch = from.res.pitch2D;
      to->resType = CU_RESOURCE_TYPE_PITCH2D;
      to->res.pitch2D.devPtr = device_pointer(pitch.devPtr);
      to->res.pitch2D.width = pitch.width;
      to->res.pitch2D.height = pitch.height;
      to->res.pitch2D.pitchInBytes = pitch.pitchInBytes;
      return format_of(pitch.desc, &to->res.pitch2D.format, &to->res.pitch2D.numChannels);
    }
    default:
      return cudaErrorInvalidValue;
  }
}

cudaResourceDesc from_driver(const CUDA_RESOURCE_DESC& from) {
  cudaResourceDesc to{};
  switch (from.resType) {
    case CU_RESOURCE_TYPE_ARRAY:
      to.resType = cudaResourceTypeArray;
      to.res.array.array = reinterpret_cast<cudaArray_t>(from.res.array.hArray);
      break;
    case CU_RESOURCE_TYPE_MIPMAPPED_ARRAY:
      to.resType = cudaResourceTypeMipmappedArray;
      to.res.mipmap.mipmap = reinterpret_cast<cudaMipmappedArray_t>(from.res.mipmap.hMipmappedArray);
      break;
    case CU_RESOURCE_TYPE_LINEAR:
      to.resType = cudaResourceTypeLinear;
      to.res.linear = {reinterpret_cast<void*>(from.res.linear.devPtr),
                       channels_of(from.res.linear.format, from.res.linear.numChannels),
                       from.res.linear.sizeInBytes};
      break;
    default:
      to.resType = cudaResourceTypePitch2D;
      to.res.pitch2D = {reinterpret_cast<void*>(from.res.pitch2D.devPtr),
                        channels_of(from.res.pitch2D.format, from.res.pitch2D.numChannels), from.res.pitch2D.width,
                        from.res.pitch2D.height, from.res.pitch2D.pitchInBytes};
  }
  return to;
}

// Values of the two interfaces' enumerations are the same: cudaAddressModeWrap is
// CU_TR_ADDRESS_MODE_WRAP, and so on.
CUDA_TEXTURE_DESC to_driver(const cudaTextureDesc& from) {
  CUDA_TEXTURE_DESC to{};
  for (int i = 0; i < 3; ++i) to.addressMode[i] = static_cast<CUaddress_mode>(from.addressMode[i]);
  to.filterMode = static_cast<CUfilter_mode>(from.filterMode);
  if (from.readMode == cudaReadModeElementType) to.flags |= CU_TRSF_READ_AS_INTEGER;
  if (from.normalizedCoords != 0) to.flags |= CU_TRSF_NORMALIZED_COORDINATES;
  if (from.sRGB != 0) to.flags |= CU_TRSF_SRGB;
  if (from.disableTrilinearOptimization != 0) to.flags |= CU_TRSF_DISABLE_TRILINEAR_OPTIMIZATION;
  if (from.seamlessCubemap != 0) to.flags |= CU_TRSF_SEAMLESS_CUBEMAP;
  to.maxAnisotropy = from.maxAnisotropy;
  to.mipmapFilterMode = static_cast<CUfilter_mode>(from.mipmapFilterMode);
  to.mipmapLevelBias = from.mipmapLevelBias;
  to.minMipmapLevelClamp = from.minMipmapLevelClamp;
  to.maxMipmapLevelClamp = from.maxMipmapLevelClamp;
  std::copy_n(from.borderColor, 4, to.borderColor);
  return to;
}

/// Without the border's colour, which NVIDIA's runtime does not tell either.
cudaTextureDesc from_driver(const CUDA_TEXTURE_DESC& from) {
  cudaTextureDesc to{};
  const auto has = [&](unsigned flag) { return (from.flags & flag) != 0 ? 1 : 0; };
  for (int i = 0; i < 3; ++i) to.addressMode[i] = static_cast<cudaTextureAddressMode>(from.addressMode[i]);
  to.filterMode = static_cast<cudaTextureFilterMode>(from.filterMode);
  to.readMode = has(CU_TRSF_READ_AS_INTEGER) != 0 ? cudaReadModeElementType : cudaReadModeNormalizedFloat;
  to.sRGB = has(CU_TRSF_SRGB);
  to.normalizedCoords = has(CU_TRSF_NORMALIZED_COORDINATES);
  to.disableTrilinearOptimization = has(CU_TRSF_DISABLE_TRILINEAR_OPTIMIZATION);
  to.seamlessCubemap = has(CU_TRSF_SEAMLESS_CUBEMAP);
  to.maxAnisotropy = from.maxAnisotropy;
  to.mipmapFilterMode = static_cast<cudaTextureFilterMode>(from.mipmapFilterMode);
  to.mipmapLevelBias = from.mipmapLevelBias;
  to.minMipmapLevelClamp = from.minMipmapLevelClamp;
  to.maxMipmapLevelClamp = from.maxMipmapLevelClamp;
  return to;
}

/// Integers that are read as they are cannot be filtered. The driver takes such a sampler and reads points.
bool filters_integers(const CUDA_RESOURCE_DESC& what, const cudaTextureDesc& how) {
  if (how.filterMode != cudaFilterModeLinear || how.readMode != cudaReadModeElementType) return false;
  CUDA_ARRAY3D_DESCRIPTOR d{};
  switch (what.resType) {
    case CU_RESOURCE_TYPE_ARRAY:
      if (cuArray3DGetDescriptor(&d, what.res.array.hArray) != CUDA_SUCCESS) return false;
      break;
    case CU_RESOURCE_TYPE_PITCH2D:
      d.Format = what.res.pitch2D.format;
      break;
    default:
      return false;  // linear memory is never filtered, and levels have no description here
  }
  const avec::ArrayFormat format = avec::array_format(static_cast<unsigned>(d.Format));
  return format.known() &&
         (format.kind == avec::ChannelKind::kUnsigned || format.kind == avec::ChannelKind::kSigned);
}

CUDA_RESOURCE_VIEW_DESC to_driver(const cudaResourceViewDesc& from) {
  CUDA_RESOURCE_VIEW_DESC to{};
  to.format = static_cast<CUresourceViewFormat>(from.format);
  to.width = from.width;
  to.height = from.height;
  to.depth = from.depth;
  to.firstMipmapLevel = from.firstMipmapLevel;
  to.lastMipmapLevel = from.lastMipmapLevel;
  to.firstLayer = from.firstLayer;
  to.lastLayer = from.lastLayer;
  return to;
}

}  // namespace

cudaError_t cudaCreateTextureObject(cudaTextureObject_t* object, const cudaResourceDesc* resource,
                                    const cudaTextureDesc* sampler, const cudaResourceViewDesc* view) {
  AVEC_COUNTED;
  if (object == nullptr || resource == nullptr) return done(cudaErrorInvalidValue);
  if (sampler == nullptr) return done(cudaErrorInvalidResourceHandle);
  return in_context([&]() -> cudaError_t {
    CUDA_RESOURCE_DESC what;
    if (const cudaError_t error = to_driver(*resource, &what); error != cudaSuccess) return error;
    // A view may name another kind of channels: then it is the driver that judges.
    if (view == nullptr && filters_integers(what, *sampler)) return cudaErrorInvalidFilterSetting;
    const CUDA_TEXTURE_DESC how = to_driver(*sampler);
    CUDA_RESOURCE_VIEW_DESC seen;
    if (view != nullptr) seen = to_driver(*view);
    CUtexObject made = 0;
    const CUresult result = cuTexObjectCreate(&made, &what, &how, view != nullptr ? &seen : nullptr);
    if (result == CUDA_SUCCESS) *object = made;
    return to_runtime(result);
  });
}

cudaError_t cudaDestroyTextureObject(cudaTextureObject_t object) {
  AVEC_COUNTED;
  return in_context([&] { return object == 0 ? CUDA_SUCCESS : cuTexObjectDestroy(object); });
}

cudaError_t cudaGetTextureObjectResourceDesc(cudaResourceDesc* resource, cudaTextureObject_t object) {
  AVEC_COUNTED;
  if (resource == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&] {
    CUDA_RESOURCE_DESC found;
    const CUresult result = cuTexObjectGetResourceDesc(&found, object);
    if (result == CUDA_SUCCESS) *resource = from_driver(found);
    return result;
  });
}

cudaError_t cudaGetTextureObjectTextureDesc(cudaTextureDesc* sampler, cudaTextureObject_t object) {
  AVEC_COUNTED;
  if (sampler == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&] {
    CUDA_TEXTURE_DESC found;
    const CUresult result = cuTexObjectGetTextureDesc(&found, object);
    if (result == CUDA_SUCCESS) *sampler = from_driver(found);
    return result;
  });
}

cudaError_t cudaGetTextureObjectResourceViewDesc(cudaResourceViewDesc* view, cudaTextureObject_t object) {
  AVEC_COUNTED;
  if (view == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&] {
    CUDA_RESOURCE_VIEW_DESC found;
    const CUresult result = cuTexObjectGetResourceViewDesc(&found, object);
    if (result != CUDA_SUCCESS) return result;
    *view = {};
    view->format = static_cast<cudaResourceViewFormat>(found.format);
    view->width = found.width;
    view->height = found.height;
    view->depth = found.depth;
    view->firstMipmapLevel = found.firstMipmapLevel;
    view->lastMipmapLevel = found.lastMipmapLevel;
    view->firstLayer = found.firstLayer;
    view->lastLayer = found.lastLayer;
    return result;
  });
}

cudaError_t cudaCreateSurfaceObject(cudaSurfaceObject_t* object, const cudaResourceDesc* resource) {
  AVEC_COUNTED;
  if (object == nullptr || resource == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&]() -> cudaError_t {
    CUDA_RESOURCE_DESC what;
    if (const cudaError_t error = to_driver(*resource, &what); error != cudaSuccess) return error;
    CUsurfObject made = 0;
    const CUresult result = cuSurfObjectCreate(&made, &what);
    if (result == CUDA_SUCCESS) *object = made;
    return to_runtime(result);
  });
}

cudaError_t cudaDestroySurfaceObject(cudaSurfaceObject_t object) {
  AVEC_COUNTED;
  return in_context([&] { return object == 0 ? CUDA_SUCCESS : cuSurfObjectDestroy(object); });
}

cudaError_t cudaGetSurfaceObjectResourceDesc(cudaResourceDesc* resource, cudaSurfaceObject_t object) {
  AVEC_COUNTED;
  if (resource == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&] {
    CUDA_RESOURCE_DESC found;
    const CUresult result = cuSurfObjectGetResourceDesc(&found, object);
    if (result == CUDA_SUCCESS) *resource = from_driver(found);
    return result;
  });
}
