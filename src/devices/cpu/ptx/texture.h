// What texture and surface instructions read and write: images in host memory, and how a texture
// turns coordinates into values ("CUDA C++ Programming Guide", Texture Fetching).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/array_format.h"

namespace avec::cpu::ptx {

/// Rows of elements; `depth` slices or layers (six for each cube).
struct Image {
  std::byte* data = nullptr;
  std::uint64_t width = 0, height = 1, depth = 1;  // elements
  std::uint64_t pitch = 0, slice = 0;              // bytes
};

/// CUaddress_mode.
enum class AddressMode : std::uint8_t { kWrap, kClamp, kMirror, kBorder };

enum class Geometry : std::uint8_t { k1d, k2d, k3d, k1dArray, k2dArray, kCube, kCubeArray };

struct Texture {
  std::vector<Image> levels;
  ArrayFormat format;
  unsigned channels = 1;
  bool as_integer = false;       ///< CU_TRSF_READ_AS_INTEGER
  bool normalized = false;       ///< coordinates
  bool srgb = false;
  bool linear = false;           ///< filter
  bool linear_mipmap = false;
  bool seamless = false;         ///< cubemaps
  bool linear_memory = false;    ///< one row, addressed by integers; 0 beyond it
  std::array<AddressMode, 3> address{};
  float bias = 0, min_level = 0, max_level = 0;
  std::array<float, 4> border{};
  std::shared_ptr<const void> memory;  ///< keeps an array's; null: device memory of the program
};

struct Surface {
  Image image;
  unsigned element_bytes = 1;
  std::shared_ptr<const void> memory;
};

/// The objects whose values a kernel may hold. Thread-safe.
class ObjectSpace {
 public:
  virtual ~ObjectSpace() = default;
  /// Null: there is none, or its memory is gone.
  virtual std::shared_ptr<const Texture> texture(std::uint64_t object) const = 0;
  virtual std::shared_ptr<const Surface> surface(std::uint64_t object) const = 0;
};

/// Values as registers hold them: f32, or integers of 32 bits.
using Texel = std::array<std::uint32_t, 4>;

struct Coordinates {
  std::array<float, 3> at{};
  std::int64_t x = 0;  ///< in place of at[0] where `integer`
  bool integer = false;
  std::uint32_t layer = 0;
};

/// `lod`: level of detail before the bias.
Texel sample(const Texture& texture, Geometry geometry, const Coordinates& at, float lod);
/// Channel `channel` of the four elements that bilinear filtering would use, in the order of tld4.
Texel gather(const Texture& texture, Geometry geometry, const Coordinates& at, unsigned channel);
/// The level of detail for gradients of the coordinates.
float level_of_detail(const Texture& texture, unsigned dimensions, const std::array<float, 3>& dx,
                      const std::array<float, 3>& dy);
constexpr unsigned dimensions_of(Geometry g) {
  switch (g) {
    case Geometry::k1d:
    case Geometry::k1dArray: return 1;
    case Geometry::k3d:
    case Geometry::kCube:
    case Geometry::kCubeArray: return 3;
    default: return 2;
  }
}
constexpr bool layered(Geometry g) {
  return g == Geometry::k1dArray || g == Geometry::k2dArray || g == Geometry::kCubeArray;
}

}  // namespace avec::cpu::ptx
