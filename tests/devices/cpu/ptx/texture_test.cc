// Textures of the interpreter: addressing, filters and formats, against values worked out by hand.
#include "devices/cpu/ptx/texture.h"

#include "support/catch.h"

#include <bit>
#include <cstring>
#include <vector>

namespace avec::cpu::ptx {
namespace {

template <class T>
Texture texture_of(std::vector<T>& data, std::uint64_t width, std::uint64_t height, std::uint64_t depth,
                   std::uint32_t format, unsigned channels = 1) {
  Texture t;
  t.format = array_format(format);
  t.channels = channels;
  const std::uint64_t row = width * t.format.bytes(channels);
  t.levels = {{reinterpret_cast<std::byte*>(data.data()), width, height, depth, row, row * height}};
  t.address = {AddressMode::kClamp, AddressMode::kClamp, AddressMode::kClamp};
  return t;
}

float first(const Texel& texel) { return std::bit_cast<float>(texel[0]); }
Coordinates at(float x, float y = 0, float z = 0) {
  Coordinates c;
  c.at = {x, y, z};
  return c;
}

constexpr std::uint32_t kU8 = 0x01, kS16 = 0x09, kFloat = 0x20, kUnorm8x4 = 0xc2, k1010102 = 0x50;

}  // namespace

TEST_CASE("Weights of linear filtering have eight bits, rounded, and 1 is one of them", "[texture]") {
  std::vector<float> data = {0, 256};
  Texture t = texture_of(data, 2, 1, 1, kFloat);
  t.linear = true;
  CHECK(first(sample(t, Geometry::k1d, at(0.5f), 0)) == 0);
  CHECK(first(sample(t, Geometry::k1d, at(0.5f + 3.25f / 256), 0)) == 3);
  CHECK(first(sample(t, Geometry::k1d, at(0.5f + 3.75f / 256), 0)) == 4);
  CHECK(first(sample(t, Geometry::k1d, at(0.5f + 255.75f / 256), 0)) == 256);
}

TEST_CASE("Wrap and mirror hold for normalized coordinates, and are clamp for others", "[texture]") {
  std::vector<float> data = {1, 2, 3};
  Texture t = texture_of(data, 3, 1, 1, kFloat);
  t.normalized = true;
  t.address[0] = AddressMode::kWrap;
  CHECK(first(sample(t, Geometry::k1d, at(-0.5f / 3), 0)) == 3);
  t.address[0] = AddressMode::kMirror;
  CHECK(first(sample(t, Geometry::k1d, at(-1.5f / 3), 0)) == 2);
  t.normalized = false;
  CHECK(first(sample(t, Geometry::k1d, at(-7), 0)) == 1);
}

TEST_CASE("What is no number reads the first element, and huge coordinates the last", "[texture]") {
  std::vector<float> data = {1, 2, 3};
  const Texture t = texture_of(data, 3, 1, 1, kFloat);
  CHECK(first(sample(t, Geometry::k1d, at(__builtin_nanf("")), 0)) == 1);
  CHECK(first(sample(t, Geometry::k1d, at(__builtin_inff()), 0)) == 3);
  CHECK(first(sample(t, Geometry::k1d, at(-1e30f), 0)) == 1);
}

TEST_CASE("Integers are read as they are, or as normalized floats", "[texture]") {
  std::vector<std::int16_t> data = {-32768, 16384, 32767};
  Texture t = texture_of(data, 3, 1, 1, kS16);
  t.as_integer = true;
  CHECK(static_cast<std::int32_t>(sample(t, Geometry::k1d, at(0.5f), 0)[0]) == -32768);
  t.as_integer = false;
  CHECK(first(sample(t, Geometry::k1d, at(0.5f), 0)) == -1.0f);
  CHECK(first(sample(t, Geometry::k1d, at(2.5f), 0)) == 1.0f);
}

TEST_CASE("Channels that elements lack are 0, 0 and 1", "[texture]") {
  std::vector<std::uint8_t> data = {255};
  const Texture t = texture_of(data, 1, 1, 1, kU8);
  const Texel texel = sample(t, Geometry::k1d, at(0.5f), 0);
  CHECK(std::bit_cast<float>(texel[1]) == 0);
  CHECK(std::bit_cast<float>(texel[3]) == 1);
}

TEST_CASE("sRGB is undone for three channels, not the fourth", "[texture]") {
  std::vector<std::uint8_t> data = {255, 0, 188, 128};
  Texture t = texture_of(data, 1, 1, 1, kUnorm8x4, 4);
  t.srgb = true;
  const Texel texel = sample(t, Geometry::k1d, at(0.5f), 0);
  CHECK(std::bit_cast<float>(texel[0]) == 1.0f);
  CHECK(std::bit_cast<float>(texel[2]) > 0.49f);
  CHECK(std::bit_cast<float>(texel[2]) < 0.51f);
  CHECK(std::bit_cast<float>(texel[3]) == 128 / 255.0f);
}

TEST_CASE("Ten bits thrice and two bits are four channels", "[texture]") {
  std::vector<std::uint32_t> data = {1023u | 0u << 10 | 1023u << 20 | 1u << 30};
  const Texture t = texture_of(data, 1, 1, 1, k1010102, 4);
  const Texel texel = sample(t, Geometry::k1d, at(0.5f), 0);
  CHECK(first(texel) == 1.0f);
  CHECK(std::bit_cast<float>(texel[1]) == 0.0f);
  CHECK(std::bit_cast<float>(texel[2]) == 1.0f);
  CHECK(std::bit_cast<float>(texel[3]) == 1 / 3.0f);
}

TEST_CASE("The border has its colour, also as a neighbour", "[texture]") {
  std::vector<float> data = {10, 20};
  Texture t = texture_of(data, 2, 1, 1, kFloat);
  t.address[0] = AddressMode::kBorder;
  t.border = {4, 0, 0, 0};
  CHECK(first(sample(t, Geometry::k1d, at(-0.5f), 0)) == 4);
  t.linear = true;
  CHECK(first(sample(t, Geometry::k1d, at(0.0f), 0)) == 7);
  t.address[1] = AddressMode::kBorder;
  CHECK(first(sample(t, Geometry::k1d, at(0.0f), 0)) == 5.5f);
}

TEST_CASE("A seamless cubemap takes neighbours from the next face", "[texture]") {
  std::vector<float> data(6);
  for (int i = 0; i < 6; ++i) data[static_cast<std::size_t>(i)] = static_cast<float>(i);
  Texture t = texture_of(data, 1, 1, 6, kFloat);
  t.linear = true;
  t.normalized = true;
  CHECK(first(sample(t, Geometry::kCube, at(1, 0, -1.0f + 1e-6f), 0)) == 0);
  t.seamless = true;
  CHECK(first(sample(t, Geometry::kCube, at(1, 0, -1.0f + 1e-6f), 0)) == 2.5f);
}

TEST_CASE("Levels are chosen within the clamps of the sampler and the levels that there are", "[texture]") {
  std::vector<float> large(16, 1), small(4, 2), tiny(1, 3);
  Texture t = texture_of(large, 4, 4, 1, kFloat);
  t.levels.push_back({reinterpret_cast<std::byte*>(small.data()), 2, 2, 1, 8, 16});
  t.levels.push_back({reinterpret_cast<std::byte*>(tiny.data()), 1, 1, 1, 4, 4});
  t.normalized = true;
  CHECK(first(sample(t, Geometry::k2d, at(0.5f, 0.5f), 2)) == 1);
  t.max_level = 10;
  CHECK(first(sample(t, Geometry::k2d, at(0.5f, 0.5f), 2)) == 3);
  CHECK(first(sample(t, Geometry::k2d, at(0.5f, 0.5f), 9)) == 3);
  t.min_level = 1;
  CHECK(first(sample(t, Geometry::k2d, at(0.5f, 0.5f), -5)) == 2);
  t.linear_mipmap = true;
  CHECK(first(sample(t, Geometry::k2d, at(0.5f, 0.5f), 1.5f)) == 2.5f);
}

}  // namespace avec::cpu::ptx
