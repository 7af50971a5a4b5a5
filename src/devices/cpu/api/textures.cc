// cuTexObject*, cuSurfObject*.
#include <algorithm>

#include "devices/cpu/array.h"
#include "devices/cpu/attributes.h"
#include "devices/cpu/copy.h"
#include "devices/cpu/device.h"

using namespace avec::cpu;
using avec::ArrayFormat;
using avec::ChannelKind;

namespace {

constexpr std::uint64_t kAlignment = 512, kPitchAlignment = 32;  // CU_DEVICE_ATTRIBUTE_TEXTURE_..._ALIGNMENT
constexpr std::uint64_t kLinearElements = std::uint64_t{1} << 28;
constexpr std::uint64_t k2dWidth = 131072, k2dHeight = 65000, k2dPitch = 2097120;

/// What linear memory or a view is read as; not known: no format.
ArrayFormat linear_format(CUarray_format format, unsigned channels) {
  const ArrayFormat found = avec::array_format(static_cast<std::uint32_t>(format));
  const bool plain = found.channels == 0 && found.channel_bytes != 0 && (channels == 1 || channels == 2 || channels == 4);
  return plain ? found : ArrayFormat{};
}

/// CUresourceViewFormat: three of each kind, of one, two and four channels.
ArrayFormat view_format(CUresourceViewFormat format, unsigned& channels) {
  constexpr CUarray_format kKinds[] = {CU_AD_FORMAT_UNSIGNED_INT8,  CU_AD_FORMAT_SIGNED_INT8,
                                       CU_AD_FORMAT_UNSIGNED_INT16, CU_AD_FORMAT_SIGNED_INT16,
                                       CU_AD_FORMAT_UNSIGNED_INT32, CU_AD_FORMAT_SIGNED_INT32,
                                       CU_AD_FORMAT_HALF,           CU_AD_FORMAT_FLOAT};
  if (format < CU_RES_VIEW_FORMAT_UINT_1X8 || format > CU_RES_VIEW_FORMAT_FLOAT_4X32) return {};
  const auto index = static_cast<unsigned>(format) - CU_RES_VIEW_FORMAT_UINT_1X8;
  channels = 1u << index % 3;
  return avec::array_format(static_cast<std::uint32_t>(kKinds[index / 3]));
}

CUresult use_linear(const Context& context, const CUDA_RESOURCE_DESC& resource, TextureObject& object,
                    avec::cpu::ptx::Texture& texture) {
  const auto& linear = resource.res.linear;
  texture.format = linear_format(linear.format, linear.numChannels);
  if (!texture.format.known() || linear.devPtr == 0 || linear.devPtr % kAlignment != 0) return CUDA_ERROR_INVALID_VALUE;
  texture.channels = linear.numChannels;
  const std::uint64_t width = linear.sizeInBytes / texture.format.bytes(linear.numChannels);
  if (width == 0 || width > kLinearElements) return CUDA_ERROR_INVALID_VALUE;
  if (!accessible(context, linear.devPtr, linear.sizeInBytes, false)) return CUDA_ERROR_INVALID_VALUE;
  texture.linear_memory = true;
  texture.levels = {{reinterpret_cast<std::byte*>(linear.devPtr), width, 1, 1, linear.sizeInBytes, linear.sizeInBytes}};
  object.address = linear.devPtr;
  object.bytes = linear.sizeInBytes;
  return CUDA_SUCCESS;
}

CUresult use_pitch(const Context& context, const CUDA_RESOURCE_DESC& resource, TextureObject& object,
                   avec::cpu::ptx::Texture& texture) {
  const auto& pitch = resource.res.pitch2D;
  texture.format = linear_format(pitch.format, pitch.numChannels);
  if (!texture.format.known() || pitch.devPtr == 0 || pitch.devPtr % kAlignment != 0) return CUDA_ERROR_INVALID_VALUE;
  texture.channels = pitch.numChannels;
  if (pitch.width == 0 || pitch.height == 0 || pitch.width > k2dWidth || pitch.height > k2dHeight ||
      pitch.pitchInBytes > k2dPitch || pitch.pitchInBytes % kPitchAlignment != 0)
    return CUDA_ERROR_INVALID_VALUE;
  const std::uint64_t row = pitch.width * texture.format.bytes(pitch.numChannels);
  if (pitch.pitchInBytes < row) return CUDA_ERROR_INVALID_VALUE;
  object.address = pitch.devPtr;
  object.bytes = pitch.pitchInBytes * (pitch.height - 1) + row;
  if (!accessible(context, object.address, object.bytes, false)) return CUDA_ERROR_INVALID_VALUE;
  texture.levels = {{reinterpret_cast<std::byte*>(pitch.devPtr), pitch.width, pitch.height, 1, pitch.pitchInBytes,
                     pitch.pitchInBytes * pitch.height}};
  return CUDA_SUCCESS;
}

CUresult use_array(const Array& array, avec::cpu::ptx::Texture& texture) {
  texture.format = avec::array_format(static_cast<std::uint32_t>(array.descriptor.Format));
  if (!texture.format.known()) return CUDA_ERROR_INVALID_VALUE;
  if (texture.format.block != 1) return CUDA_ERROR_NOT_SUPPORTED;  // nothing here decompresses blocks
  texture.channels = array.descriptor.NumChannels;
  texture.levels.push_back(image_of(array));
  texture.memory = array.storage;
  return CUDA_SUCCESS;
}

CUresult use_view(const CUDA_RESOURCE_VIEW_DESC& view, avec::cpu::ptx::Texture& texture, bool layered) {
  if (view.format != CU_RES_VIEW_FORMAT_NONE) {
    unsigned channels = 0;
    const ArrayFormat format = view_format(view.format, channels);
    if (!format.known()) return CUDA_ERROR_INVALID_VALUE;
    if (format.bytes(channels) != texture.format.bytes(texture.channels)) return CUDA_ERROR_INVALID_VALUE;
    texture.format = format;
    texture.channels = channels;
  }
  if (view.lastMipmapLevel >= texture.levels.size() || view.firstMipmapLevel > view.lastMipmapLevel)
    return CUDA_ERROR_INVALID_VALUE;
  if (view.width != texture.levels[view.firstMipmapLevel].width) return CUDA_ERROR_INVALID_VALUE;
  texture.levels = {texture.levels.begin() + view.firstMipmapLevel, texture.levels.begin() + view.lastMipmapLevel + 1};
  if (!layered) return CUDA_SUCCESS;
  if (view.firstLayer > view.lastLayer || view.lastLayer >= texture.levels.front().depth) return CUDA_ERROR_INVALID_VALUE;
  for (auto& level : texture.levels) {
    level.data += view.firstLayer * level.slice;
    level.depth = view.lastLayer - view.firstLayer + 1;
  }
  return CUDA_SUCCESS;
}

CUresult use_sampler(const CUDA_TEXTURE_DESC& sampler, avec::cpu::ptx::Texture& texture) {
  constexpr unsigned kFlags = CU_TRSF_READ_AS_INTEGER | CU_TRSF_NORMALIZED_COORDINATES | CU_TRSF_SRGB |
                              CU_TRSF_DISABLE_TRILINEAR_OPTIMIZATION | CU_TRSF_SEAMLESS_CUBEMAP;
  if ((sampler.flags & ~kFlags) != 0) return CUDA_ERROR_INVALID_VALUE;
  for (unsigned i = 0; i < 3; ++i) {
    if (sampler.addressMode[i] > CU_TR_ADDRESS_MODE_BORDER) return CUDA_ERROR_INVALID_VALUE;
    texture.address[i] = static_cast<avec::cpu::ptx::AddressMode>(sampler.addressMode[i]);
  }
  if (sampler.filterMode > CU_TR_FILTER_MODE_LINEAR || sampler.mipmapFilterMode > CU_TR_FILTER_MODE_LINEAR)
    return CUDA_ERROR_INVALID_VALUE;
  texture.as_integer = (sampler.flags & CU_TRSF_READ_AS_INTEGER) != 0;
  texture.normalized = (sampler.flags & CU_TRSF_NORMALIZED_COORDINATES) != 0;
  texture.srgb = (sampler.flags & CU_TRSF_SRGB) != 0 || texture.format.srgb;
  texture.seamless = (sampler.flags & CU_TRSF_SEAMLESS_CUBEMAP) != 0;
  texture.linear = sampler.filterMode == CU_TR_FILTER_MODE_LINEAR;
  texture.linear_mipmap = sampler.mipmapFilterMode == CU_TR_FILTER_MODE_LINEAR;
  texture.bias = sampler.mipmapLevelBias;
  texture.min_level = sampler.minMipmapLevelClamp;
  texture.max_level = sampler.maxMipmapLevelClamp;
  std::copy_n(sampler.borderColor, 4, texture.border.begin());
  return CUDA_SUCCESS;  // a linear filter of integers as they are, too: points are read
}

CUresult use_resource(const Context& context, TextureObject& object, avec::cpu::ptx::Texture& texture, bool& layered) {
  const CUDA_RESOURCE_DESC& resource = object.resource;
  if (resource.flags != 0) return CUDA_ERROR_INVALID_VALUE;
  layered = false;
  switch (resource.resType) {
    case CU_RESOURCE_TYPE_ARRAY: {
      const auto array = state().arrays.find(resource.res.array.hArray);
      if (!array) return CUDA_ERROR_INVALID_HANDLE;
      layered = (array->descriptor.Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)) != 0;
      return use_array(*array, texture);
    }
    case CU_RESOURCE_TYPE_MIPMAPPED_ARRAY: {
      const auto mipmapped = state().mipmapped_arrays.find(resource.res.mipmap.hMipmappedArray);
      if (!mipmapped) return CUDA_ERROR_INVALID_HANDLE;
      layered = (mipmapped->descriptor.Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)) != 0;
      for (const auto& level : mipmapped->levels)
        if (const auto error = use_array(*level, texture)) return error;
      return CUDA_SUCCESS;
    }
    case CU_RESOURCE_TYPE_LINEAR: return use_linear(context, resource, object, texture);
    case CU_RESOURCE_TYPE_PITCH2D: return use_pitch(context, resource, object, texture);
    default: return CUDA_ERROR_INVALID_VALUE;
  }
}

/// The current context's object.
template <class Object>
CUresult find(const Table<Object>& table, unsigned long long value, std::shared_ptr<Object>& object) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  object = table.find(reinterpret_cast<const void*>(value));
  return object && object->context == context ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

}  // namespace

extern "C" {

CUresult cuTexObjectCreate(CUtexObject* value, const CUDA_RESOURCE_DESC* resource, const CUDA_TEXTURE_DESC* sampler,
                           const CUDA_RESOURCE_VIEW_DESC* view) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (value == nullptr || resource == nullptr || sampler == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto object = std::make_shared<TextureObject>();
  object->context = context;
  object->resource = *resource;
  object->sampler = *sampler;
  const auto texture = std::make_shared<avec::cpu::ptx::Texture>();
  bool layered = false;
  if (const auto error = use_resource(*context, *object, *texture, layered)) return error;
  if (view != nullptr) {
    if (object->bytes != 0) return CUDA_ERROR_INVALID_VALUE;  // views are of arrays
    object->view = *view;
    if (const auto error = use_view(*view, *texture, layered)) return error;
  }
  if (const auto error = use_sampler(*sampler, *texture)) return error;
  object->texture = texture;
  *value = state().textures.add(object);
  return CUDA_SUCCESS;
}

CUresult cuTexObjectDestroy(CUtexObject value) {
  std::shared_ptr<TextureObject> object;
  if (const auto error = find(state().textures, value, object)) return error;
  state().textures.remove(reinterpret_cast<const void*>(value));
  return CUDA_SUCCESS;
}

CUresult cuTexObjectGetResourceDesc(CUDA_RESOURCE_DESC* resource, CUtexObject value) {
  std::shared_ptr<TextureObject> object;
  if (const auto error = find(state().textures, value, object)) return error;
  if (resource == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *resource = object->resource;
  return CUDA_SUCCESS;
}

CUresult cuTexObjectGetTextureDesc(CUDA_TEXTURE_DESC* sampler, CUtexObject value) {
  std::shared_ptr<TextureObject> object;
  if (const auto error = find(state().textures, value, object)) return error;
  if (sampler == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *sampler = object->sampler;
  return CUDA_SUCCESS;
}

CUresult cuTexObjectGetResourceViewDesc(CUDA_RESOURCE_VIEW_DESC* view, CUtexObject value) {
  std::shared_ptr<TextureObject> object;
  if (const auto error = find(state().textures, value, object)) return error;
  if (view == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *view = object->view.value_or(CUDA_RESOURCE_VIEW_DESC{});  // as a GPU's driver: success without one
  return CUDA_SUCCESS;
}

CUresult cuSurfObjectCreate(CUsurfObject* value, const CUDA_RESOURCE_DESC* resource) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (value == nullptr || resource == nullptr || resource->resType != CU_RESOURCE_TYPE_ARRAY || resource->flags != 0)
    return CUDA_ERROR_INVALID_VALUE;
  const auto array = state().arrays.find(resource->res.array.hArray);
  if (!array) return CUDA_ERROR_INVALID_HANDLE;
  // Without CUDA_ARRAY3D_SURFACE_LDST, too: a GPU's driver does not ask for it.
  const auto surface = std::make_shared<avec::cpu::ptx::Surface>();
  surface->image = image_of(*array);
  surface->element_bytes = array->element_bytes();
  surface->memory = array->storage;
  const auto object = std::make_shared<SurfaceObject>();
  object->context = context;
  object->resource = *resource;
  object->surface = surface;
  *value = state().surfaces.add(object);
  return CUDA_SUCCESS;
}

CUresult cuSurfObjectDestroy(CUsurfObject value) {
  std::shared_ptr<SurfaceObject> object;
  if (const auto error = find(state().surfaces, value, object)) return error;
  state().surfaces.remove(reinterpret_cast<const void*>(value));
  return CUDA_SUCCESS;
}

CUresult cuSurfObjectGetResourceDesc(CUDA_RESOURCE_DESC* resource, CUsurfObject value) {
  std::shared_ptr<SurfaceObject> object;
  if (const auto error = find(state().surfaces, value, object)) return error;
  if (resource == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *resource = object->resource;
  return CUDA_SUCCESS;
}

}  // extern "C"
