#include "devices/cpu/ptx/texture.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "devices/cpu/ptx/half.h"

namespace avec::cpu::ptx {
namespace {

using Color = std::array<float, 4>;

/// Reads are of floats, whatever the elements are.
bool gives_floats(const Texture& t) {
  switch (t.format.kind) {
    case ChannelKind::kUnsigned:
    case ChannelKind::kSigned: return !t.as_integer && t.format.channel_bytes < 4;
    default: return true;
  }
}

std::uint32_t bits_at(const std::byte* from, unsigned bytes, bool is_signed) {
  std::uint32_t value = 0;
  std::memcpy(&value, from, bytes);
  if (!is_signed || bytes == 4) return value;
  const unsigned unused = 32 - 8 * bytes;
  return static_cast<std::uint32_t>(static_cast<std::int32_t>(value << unused) >> unused);
}

float from_srgb(float c) { return c <= 0.04045f ? c / 12.92f : std::pow((c + 0.055f) / 1.055f, 2.4f); }

float channel_value(const Texture& t, const std::byte* from) {
  const unsigned bytes = t.format.channel_bytes;
  const bool is_signed = t.format.kind == ChannelKind::kSigned || t.format.kind == ChannelKind::kSnorm;
  const std::uint32_t bits = bits_at(from, bytes, is_signed);
  if (t.format.kind == ChannelKind::kFloat)
    return bytes == 2 ? static_cast<float>(Half::widen(static_cast<std::uint16_t>(bits))) : std::bit_cast<float>(bits);
  if (!is_signed) return static_cast<float>(bits) / static_cast<float>((std::uint64_t{1} << (8 * bytes)) - 1);
  const auto most = static_cast<float>((std::uint64_t{1} << (8 * bytes - 1)) - 1);
  return std::max(static_cast<float>(static_cast<std::int32_t>(bits)) / most, -1.0f);
}

unsigned channels_of(const Texture& t) { return t.format.channels != 0 ? t.format.channels : t.channels; }

const std::byte* element(const Texture& t, const Image& image, std::int64_t x, std::int64_t y, std::int64_t z) {
  return image.data + static_cast<std::uint64_t>(z) * image.slice + static_cast<std::uint64_t>(y) * image.pitch +
         static_cast<std::uint64_t>(x) * t.format.bytes(t.channels);
}

Color color_at(const Texture& t, const std::byte* from) {
  Color color{0, 0, 0, 1};
  if (t.format.channel_bytes == 0) {  // 10, 10, 10 and 2 bits
    const std::uint32_t bits = bits_at(from, 4, false);
    for (unsigned c = 0; c < 3; ++c) color[c] = static_cast<float>(bits >> (10 * c) & 1023) / 1023.0f;
    color[3] = static_cast<float>(bits >> 30) / 3.0f;
    return color;
  }
  for (unsigned c = 0; c < channels_of(t); ++c) color[c] = channel_value(t, from + c * t.format.channel_bytes);
  if (t.srgb && t.format.channel_bytes == 1)
    for (unsigned c = 0; c < std::min(channels_of(t), 3u); ++c) color[c] = from_srgb(color[c]);
  return color;
}

Texel integers_at(const Texture& t, const std::byte* from) {
  Texel texel{0, 0, 0, 1};
  const bool is_signed = t.format.kind == ChannelKind::kSigned;
  for (unsigned c = 0; c < channels_of(t); ++c)
    texel[c] = bits_at(from + c * t.format.channel_bytes, t.format.channel_bytes, is_signed);
  return texel;
}

Texel bits_of(const Color& color) {
  Texel texel;
  for (unsigned c = 0; c < 4; ++c) texel[c] = std::bit_cast<std::uint32_t>(color[c]);
  return texel;
}

/// The element that index `i` of `n` stands for; -1: the border.
std::int64_t addressed(std::int64_t i, std::uint64_t extent, AddressMode mode, bool normalized) {
  const auto n = static_cast<std::int64_t>(extent);
  if (i >= 0 && i < n) return i;
  if (mode == AddressMode::kBorder) return -1;
  if (!normalized || mode == AddressMode::kClamp) return std::clamp<std::int64_t>(i, 0, n - 1);
  const std::int64_t period = mode == AddressMode::kMirror ? 2 * n : n;
  const std::int64_t m = (i % period + period) % period;
  return m < n ? m : 2 * n - 1 - m;
}

/// Along one axis: the element, or the first of two and the weight of the second.
struct Axis {
  std::int64_t first = 0;
  float weight = 0;
};

float tame(float x) { return std::isnan(x) ? 0.0f : std::clamp(x, -1e9f, 1e9f); }

Axis nearest(float x, std::uint64_t extent, bool normalized) {
  const double scaled = normalized ? static_cast<double>(x) * static_cast<double>(extent) : static_cast<double>(x);
  return {static_cast<std::int64_t>(std::floor(scaled)), 0};
}

/// The weight has 8 bits of fraction; 1 is one of its values.
Axis between(float x, std::uint64_t extent, bool normalized) {
  const double scaled =
      (normalized ? static_cast<double>(x) * static_cast<double>(extent) : static_cast<double>(x)) - 0.5;
  const double first = std::floor(scaled);
  return {static_cast<std::int64_t>(first), static_cast<float>(std::floor((scaled - first) * 256 + 0.5) / 256)};
}

// ---- cubemaps -------------------------------------------------------------------------------

struct FacePoint {
  unsigned face = 0;
  float s = 0, t = 0;  // 0 to 1
};

FacePoint face_of(const std::array<float, 3>& direction) {
  const float x = direction[0], y = direction[1], z = direction[2];
  const float ax = std::fabs(x), ay = std::fabs(y), az = std::fabs(z);
  unsigned face;
  float m, s, t;
  if (az >= ax && az >= ay) {
    face = z < 0 ? 5 : 4;
    m = az;
    s = z < 0 ? -x : x;
    t = -y;
  } else if (ay >= ax) {
    face = y < 0 ? 3 : 2;
    m = ay;
    s = x;
    t = y < 0 ? -z : z;
  } else {
    face = x < 0 ? 1 : 0;
    m = ax;
    s = x < 0 ? z : -z;
    t = -y;
  }
  if (m == 0) return {face, 0.5f, 0.5f};
  return {face, (s / m + 1) / 2, (t / m + 1) / 2};
}

std::array<float, 3> direction_of(unsigned face, float s, float t) {
  switch (face) {
    case 0: return {1, -t, -s};
    case 1: return {-1, -t, s};
    case 2: return {s, 1, t};
    case 3: return {s, -1, -t};
    case 4: return {s, -t, 1};
    default: return {-s, -t, -1};
  }
}

// ---- one level ------------------------------------------------------------------------------

/// Which element lies at integer coordinates of one level, all modes applied; null: the border.
class Level {
 public:
  Level(const Texture& t, Geometry g, const Image& image, const Coordinates& at) : t_(t), image_(image), g_(g) {
    at_ = at.at;
    for (float& x : at_) x = tame(x);
    dimensions_ = dimensions_of(g);
    const std::uint64_t layers = g == Geometry::kCubeArray ? image.depth / 6 : image.depth;
    layer_ = layered(g) ? static_cast<std::int64_t>(std::min<std::uint64_t>(at.layer, layers - 1)) : 0;
    if (g == Geometry::kCube || g == Geometry::kCubeArray) {
      const FacePoint point = face_of(at_);
      at_ = {point.s, point.t, 0};
      face_ = point.face;
      cube_ = true;
      dimensions_ = 2;
    }
  }
  unsigned dimensions() const { return dimensions_; }
  bool one_row() const { return g_ == Geometry::k1d; }
  std::uint64_t extent(unsigned d) const { return d == 0 ? image_.width : d == 1 ? image_.height : image_.depth; }
  Axis axis(unsigned d, bool linear) const {
    const bool normalized = t_.normalized || cube_;
    return linear ? between(at_[d], extent(d), normalized) : nearest(at_[d], extent(d), normalized);
  }
  std::array<Axis, 3> axes(bool linear) const {
    std::array<Axis, 3> all{};
    for (unsigned d = 0; d < 3; ++d)
      if (d < dimensions_) all[d] = axis(d, linear);
    return all;
  }
  const std::byte* at(std::int64_t x, std::int64_t y, std::int64_t z) const {
    if (cube_) return on_cube(x, y);
    x = addressed(x, image_.width, t_.address[0], t_.normalized);
    y = dimensions_ > 1 ? addressed(y, image_.height, t_.address[1], t_.normalized) : 0;
    z = dimensions_ > 2 ? addressed(z, image_.depth, t_.address[2], t_.normalized) : layer_;
    return x < 0 || y < 0 || z < 0 ? nullptr : element(t_, image_, x, y, z);
  }

 private:
  const std::byte* on_cube(std::int64_t x, std::int64_t y) const {
    const auto n = static_cast<std::int64_t>(image_.width);
    unsigned face = face_;
    if (t_.seamless && (x < 0 || x >= n || y < 0 || y >= n)) {
      const auto unit = [&](std::int64_t i) {
        return 2 * (static_cast<float>(i) + 0.5f) / static_cast<float>(n) - 1;
      };
      const FacePoint other = face_of(direction_of(face, unit(x), unit(y)));
      face = other.face;
      x = static_cast<std::int64_t>(other.s * static_cast<float>(n));
      y = static_cast<std::int64_t>(other.t * static_cast<float>(n));
    }
    x = std::clamp<std::int64_t>(x, 0, n - 1);
    y = std::clamp<std::int64_t>(y, 0, n - 1);
    return element(t_, image_, x, y, layer_ * 6 + face);
  }

  const Texture& t_;
  const Image& image_;
  Geometry g_;
  std::array<float, 3> at_{};
  unsigned dimensions_ = 1, face_ = 0;
  std::int64_t layer_ = 0;
  bool cube_ = false;
};

Color color_or_border(const Texture& t, const std::byte* from) { return from != nullptr ? color_at(t, from) : t.border; }

Color sample_color(const Texture& t, const Level& level) {
  const std::array<Axis, 3> axes = level.axes(t.linear);
  if (!t.linear) return color_or_border(t, level.at(axes[0].first, axes[1].first, axes[2].first));
  Color sum{};
  for (unsigned corner = 0; corner < 1u << level.dimensions(); ++corner) {
    float weight = 1;
    std::array<std::int64_t, 3> at{};
    for (unsigned d = 0; d < 3; ++d) {
      if (d >= level.dimensions()) break;
      const bool second = (corner >> d & 1) != 0;
      weight *= second ? axes[d].weight : 1 - axes[d].weight;
      at[d] = axes[d].first + second;
    }
    if (weight == 0) continue;
    const Color color = color_or_border(t, level.at(at[0], at[1], at[2]));
    for (unsigned c = 0; c < 4; ++c) sum[c] += weight * color[c];
  }
  // To a GPU's filter a row is an image of height 1, read at y = 0: half of it lies beyond the edge.
  if (level.one_row() && t.address[1] == AddressMode::kBorder)
    for (unsigned c = 0; c < 4; ++c) sum[c] = (sum[c] + t.border[c]) / 2;
  return sum;
}

Texel integers_or_border(const Texture& t, const std::byte* from) {
  return from != nullptr ? integers_at(t, from) : bits_of(t.border);
}

/// Elements named by whole numbers, unfiltered: linear memory, and integer coordinates.
Texel fetch(const Texture& t, Geometry g, const Coordinates& at) {
  const Image& image = t.levels.front();
  std::int64_t x = at.integer ? at.x : static_cast<std::int64_t>(std::floor(tame(at.at[0])));
  if (t.linear_memory && (x < 0 || x >= static_cast<std::int64_t>(image.width))) return {0, 0, 0, 0};
  const std::int64_t z = layered(g) ? static_cast<std::int64_t>(std::min<std::uint64_t>(at.layer, image.depth - 1)) : 0;
  x = addressed(x, image.width, t.address[0], false);
  const std::byte* from = x < 0 ? nullptr : element(t, image, x, 0, z);
  return gives_floats(t) ? bits_of(color_or_border(t, from)) : integers_or_border(t, from);
}

}  // namespace

Texel sample(const Texture& t, Geometry g, const Coordinates& at, float lod) {
  if (t.linear_memory || at.integer) return fetch(t, g, at);
  const auto last = static_cast<float>(t.levels.size() - 1);
  const float wanted = std::isnan(lod) ? 0.0f : lod + t.bias;
  const float detail = std::clamp(std::clamp(wanted, t.min_level, std::max(t.min_level, t.max_level)), 0.0f, last);
  if (!gives_floats(t)) {
    const auto index = static_cast<std::size_t>(std::floor(detail + 0.5f));
    const Level level(t, g, t.levels[index], at);
    const std::array<Axis, 3> axes = level.axes(false);
    return integers_or_border(t, level.at(axes[0].first, axes[1].first, axes[2].first));
  }
  if (!t.linear_mipmap) {
    const auto index = static_cast<std::size_t>(std::floor(detail + 0.5f));
    return bits_of(sample_color(t, Level(t, g, t.levels[index], at)));
  }
  const auto index = static_cast<std::size_t>(detail);
  const float weight = std::floor((detail - static_cast<float>(index)) * 256 + 0.5f) / 256;
  Color color = sample_color(t, Level(t, g, t.levels[index], at));
  if (weight != 0) {
    const Color next = sample_color(t, Level(t, g, t.levels[index + 1], at));
    for (unsigned c = 0; c < 4; ++c) color[c] = (1 - weight) * color[c] + weight * next[c];
  }
  return bits_of(color);
}

Texel gather(const Texture& t, Geometry g, const Coordinates& at, unsigned channel) {
  const Level level(t, g, t.levels.front(), at);
  const Axis x = level.axis(0, true), y = level.axis(1, true);
  Texel result;
  constexpr unsigned kOrder[4][2] = {{0, 1}, {1, 1}, {1, 0}, {0, 0}};
  for (unsigned i = 0; i < 4; ++i) {
    const std::byte* from = level.at(x.first + kOrder[i][0], y.first + kOrder[i][1], 0);
    const Texel texel = gives_floats(t) ? bits_of(color_or_border(t, from)) : integers_or_border(t, from);
    result[i] = texel[channel];
  }
  return result;
}

float level_of_detail(const Texture& t, unsigned dimensions, const std::array<float, 3>& dx,
                      const std::array<float, 3>& dy) {
  const Image& image = t.levels.front();
  const double extents[3] = {static_cast<double>(image.width), static_cast<double>(image.height),
                             static_cast<double>(image.depth)};
  double along_x = 0, along_y = 0;
  for (unsigned d = 0; d < dimensions; ++d) {
    const double scale = t.normalized ? extents[d] : 1;
    along_x += dx[d] * scale * dx[d] * scale;
    along_y += dy[d] * scale * dy[d] * scale;
  }
  const double longest = std::max(along_x, along_y);
  return longest > 0 ? static_cast<float>(0.5 * std::log2(longest)) : -1000.0f;
}

}  // namespace avec::cpu::ptx
