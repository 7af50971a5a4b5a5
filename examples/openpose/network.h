// A network as its description says: layers in the order in which they run, and the arrays ("blobs",
// channels x height x width) between them.
//
// The description is text, a layer a line, `#` begins a comment:
//
//   input NAME CHANNELS
//   conv NAME BOTTOM OUTPUTS KERNEL [relu|prelu]   KERNEL x KERNEL, odd, padded so that the size stays
//   pool NAME BOTTOM                               largest of 2 x 2, every second row and column
//   concat NAME BOTTOM BOTTOM ...                  channels one behind the other
//   output NAME
//
// A layer writes the blob of its own name; relu and prelu work in place, as Caffe's do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

struct Shape {
  int channels = 0, height = 0, width = 0;
  std::size_t pixels() const { return std::size_t(height) * std::size_t(width); }
  std::size_t size() const { return std::size_t(channels) * pixels(); }
};

struct Blob {
  std::string name;
  Shape shape;
};

enum class Kind { kConvolution, kRelu, kPrelu, kPool, kConcat };

struct Layer {
  Kind kind;
  std::vector<int> bottoms;  // indices of blobs
  int top;                   // equal to the bottom where the layer works in place
  int kernel = 0;            // of a convolution
  // Where the layer's numbers begin in the network's parameters. A convolution's: weights
  // [outputs][inputs][kernel][kernel], then a bias for each output; of prelu: a slope for each channel.
  std::size_t parameters = 0;
  std::size_t weights = 0, biases = 0;  // how many; slopes count as biases
};

struct Network {
  std::string name;
  std::vector<Blob> blobs;
  std::vector<Layer> layers;
  int input = -1, output = -1;
  std::size_t parameters = 0;  // floats, all layers
  std::size_t columns = 0;     // floats of the largest im2col matrix
  double multiplications = 0;  // of one forward pass

  const Shape& in(const Layer& layer) const { return blobs[std::size_t(layer.bottoms[0])].shape; }
  const Shape& out(const Layer& layer) const { return blobs[std::size_t(layer.top)].shape; }
};

/// Reads a description for pictures of height x width. Throws std::runtime_error with the file, the
/// line and what is wrong with it.
Network read_network(const std::string& path, int height, int width);

/// The same numbers on every machine: float arithmetic that rounds nowhere, no library.
class Numbers {
 public:
  explicit Numbers(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ull + 1) {}
  /// Evenly from [-1, 1).
  float next();

 private:
  std::uint64_t state_;
};

/// What the deviation of a convolution's weights must be so that values neither grow nor vanish
/// from layer to layer (He et al. 2015): sqrt(2 / inputs of one output).
float deviation(const Network& network, const Layer& layer);

inline constexpr float kLargestBias = 0.1f, kSlope = 0.25f;

/// Weights generated on the host, for comparing implementations: even ones of that deviation.
std::vector<float> host_parameters(const Network& network, std::uint64_t seed);

/// A picture to look at: soft blobs of colour and noise, values as OpenPose's, from [-0.5, 0.5].
std::vector<float> picture(const Shape& shape, std::uint64_t seed);
