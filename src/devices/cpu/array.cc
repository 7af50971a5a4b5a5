#include "devices/cpu/array.h"

#include <cstdlib>
#include <cstring>

#include "devices/cpu/copy.h"
#include "devices/cpu/attributes.h"
#include "devices/cpu/device.h"

namespace avec::cpu {
namespace {

constexpr unsigned kFlags = CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_SURFACE_LDST | CUDA_ARRAY3D_CUBEMAP |
                            CUDA_ARRAY3D_TEXTURE_GATHER | CUDA_ARRAY3D_COLOR_ATTACHMENT |
                            CUDA_ARRAY3D_VIDEO_ENCODE_DECODE;

// As an H100 has them (CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE...).
constexpr std::size_t k1dWidth = 131072, k2dWidth = 131072, k2dHeight = 65536, k3dExtent = 16384;
constexpr std::size_t kLayeredExtent = 32768, kLayers = 2048, kCubeLayers = 2046;

bool extents_fit(const CUDA_ARRAY3D_DESCRIPTOR& d) {
  const bool layered = (d.Flags & CUDA_ARRAY3D_LAYERED) != 0, cube = (d.Flags & CUDA_ARRAY3D_CUBEMAP) != 0;
  if (d.Width == 0) return false;
  if (cube) {
    if (d.Width != d.Height || d.Width > kLayeredExtent) return false;
    return layered ? d.Depth != 0 && d.Depth % 6 == 0 && d.Depth <= kCubeLayers : d.Depth == 6;
  }
  if (layered)
    return d.Depth != 0 && d.Depth <= kLayers && d.Width <= kLayeredExtent && d.Height <= kLayeredExtent;
  if (d.Depth != 0)
    return d.Height != 0 && d.Width <= k3dExtent && d.Height <= k3dExtent && d.Depth <= k3dExtent;
  if (d.Height != 0) return d.Width <= k2dWidth && d.Height <= k2dHeight;
  return d.Width <= k1dWidth;
}

}  // namespace

std::shared_ptr<ArrayStorage> ArrayStorage::make(Device& device, std::uint64_t bytes) {
  if (!device.take(bytes)) return nullptr;
  auto* data = static_cast<std::byte*>(std::calloc(bytes, 1));
  if (data != nullptr && dirty_memory()) std::memset(data, kRemains, bytes);
  if (data != nullptr) return std::shared_ptr<ArrayStorage>(new ArrayStorage(device, bytes, data));
  device.give_back(bytes);
  return nullptr;
}

ArrayStorage::~ArrayStorage() {
  std::free(data_);
  device_.give_back(bytes_);
}

CUresult check_descriptor(const CUDA_ARRAY3D_DESCRIPTOR& d) {
  if ((d.Flags & (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING)) != 0) return CUDA_ERROR_NOT_SUPPORTED;
  if ((d.Flags & ~kFlags) != 0) return CUDA_ERROR_INVALID_VALUE;
  const ArrayFormat format = array_format(static_cast<std::uint32_t>(d.Format));
  if (!format.known()) return CUDA_ERROR_INVALID_VALUE;  // of several planes (NV12), too: an H100 has none
  if (format.channels != 0 ? d.NumChannels != format.channels
                           : d.NumChannels != 1 && d.NumChannels != 2 && d.NumChannels != 4)
    return CUDA_ERROR_INVALID_VALUE;
  if (!extents_fit(d)) return CUDA_ERROR_INVALID_VALUE;
  const bool flat = d.Height != 0 && d.Depth == 0;
  if ((d.Flags & CUDA_ARRAY3D_TEXTURE_GATHER) != 0 && !flat) return CUDA_ERROR_INVALID_VALUE;
  return CUDA_SUCCESS;
}

std::uint64_t layers_of(const CUDA_ARRAY3D_DESCRIPTOR& d) {
  return (d.Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)) != 0 ? d.Depth : 1;
}

ptx::Image image_of(const Array& array) {
  const CUDA_ARRAY3D_DESCRIPTOR& d = array.descriptor;
  ptx::Image image;
  image.data = array.data();
  image.width = d.Width;
  image.height = d.Height == 0 ? 1 : d.Height;
  image.depth = d.Depth == 0 ? 1 : d.Depth;
  image.pitch = array.shape.row_bytes;
  image.slice = array.shape.row_bytes * array.shape.rows;
  return image;
}

std::shared_ptr<const ptx::Texture> ContextObjects::texture(std::uint64_t object) const {
  const auto found = state().textures.find(reinterpret_cast<const void*>(object));
  if (!found || found->context.get() != &context_) return nullptr;
  if (found->bytes != 0 && !accessible(context_, found->address, found->bytes, false)) return nullptr;
  return found->texture;
}

std::shared_ptr<const ptx::Surface> ContextObjects::surface(std::uint64_t object) const {
  const auto found = state().surfaces.find(reinterpret_cast<const void*>(object));
  return found && found->context.get() == &context_ ? found->surface : nullptr;
}

}  // namespace avec::cpu
