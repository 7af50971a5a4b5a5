// Arrays, mipmapped arrays, texture and surface objects. An array is rows one behind the other in
// host memory; levels are arrays over parts of the same storage.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/array_format.h"
#include "devices/cpu/ptx/texture.h"

namespace avec::cpu {

struct Context;
struct Device;

/// Zeroed memory that counts as the device's.
class ArrayStorage {
 public:
  /// Null: the device has not that much left.
  static std::shared_ptr<ArrayStorage> make(Device& device, std::uint64_t bytes);
  ~ArrayStorage();
  ArrayStorage(const ArrayStorage&) = delete;
  ArrayStorage& operator=(const ArrayStorage&) = delete;
  std::byte* data() const { return data_; }

 private:
  ArrayStorage(Device& device, std::uint64_t bytes, std::byte* data) : device_(device), bytes_(bytes), data_(data) {}
  Device& device_;
  std::uint64_t bytes_;
  std::byte* data_;
};

struct Array {
  std::uintptr_t handle = 0;
  std::shared_ptr<Context> context;
  CUDA_ARRAY3D_DESCRIPTOR descriptor{};
  ArrayShape shape;
  std::shared_ptr<ArrayStorage> storage;
  std::uint64_t offset = 0;  ///< in the storage
  bool part = false;         ///< a level: it ends with the whole

  std::byte* data() const { return storage->data() + offset; }
  unsigned element_bytes() const {
    return array_format(static_cast<std::uint32_t>(descriptor.Format)).bytes(descriptor.NumChannels);
  }
};

struct MipmappedArray {
  std::uintptr_t handle = 0;
  std::shared_ptr<Context> context;
  CUDA_ARRAY3D_DESCRIPTOR descriptor{};
  std::vector<std::shared_ptr<Array>> levels;
};

struct TextureObject {
  std::uintptr_t handle = 0;
  std::shared_ptr<Context> context;
  CUDA_RESOURCE_DESC resource{};
  CUDA_TEXTURE_DESC sampler{};
  std::optional<CUDA_RESOURCE_VIEW_DESC> view;
  std::shared_ptr<const ptx::Texture> texture;
  std::uint64_t address = 0, bytes = 0;  ///< linear memory that it reads
};

struct SurfaceObject {
  std::uintptr_t handle = 0;
  std::shared_ptr<Context> context;
  CUDA_RESOURCE_DESC resource{};
  std::shared_ptr<const ptx::Surface> surface;
};

/// CUDA's rules for a descriptor.
CUresult check_descriptor(const CUDA_ARRAY3D_DESCRIPTOR& descriptor);
/// Layers, of cubes six for each; 1 where there are none.
std::uint64_t layers_of(const CUDA_ARRAY3D_DESCRIPTOR& descriptor);
ptx::Image image_of(const Array& array);

/// What textures and surfaces of a context's kernels may name.
class ContextObjects final : public ptx::ObjectSpace {
 public:
  explicit ContextObjects(const Context& context) : context_(context) {}
  std::shared_ptr<const ptx::Texture> texture(std::uint64_t object) const override;
  std::shared_ptr<const ptx::Surface> surface(std::uint64_t object) const override;

 private:
  const Context& context_;
};

}  // namespace avec::cpu
