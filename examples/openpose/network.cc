#include "network.h"

#include <cmath>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>

namespace {

constexpr int kMostChannels = 1 << 14, kLargestKernel = 31;

class Reader {
 public:
  Reader(const std::string& path, int height, int width) : path_(path), height_(height), width_(width) {}

  Network read() {
    std::ifstream file(path_);
    if (!file) throw std::runtime_error("cannot open " + path_);
    const std::size_t slash = path_.find_last_of('/');
    network_.name = path_.substr(slash == std::string::npos ? 0 : slash + 1);
    network_.name.erase(std::min(network_.name.size(), network_.name.find(".net")));
    for (std::string text; std::getline(file, text);) {
      ++line_;
      std::istringstream words(text.substr(0, text.find('#')));
      std::vector<std::string> parts;
      for (std::string word; words >> word;) parts.push_back(word);
      if (!parts.empty()) add(parts);
    }
    if (network_.input < 0 || network_.output < 0) fail("an input or output is missing");
    return network_;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error(path_ + ":" + std::to_string(line_) + ": " + what);
  }

  int number(const std::string& text, int most) const {
    int value = 0;
    for (const char digit : text) {
      if (digit < '0' || digit > '9' || value > most) fail("'" + text + "' is no number that fits here");
      value = value * 10 + (digit - '0');
    }
    if (value < 1 || value > most) fail("'" + text + "' is no number that fits here");
    return value;
  }

  int find(const std::string& name) const {
    const auto found = names_.find(name);
    if (found == names_.end()) fail("no layer before this one is called " + name);
    return found->second;
  }

  int new_blob(const std::string& name, Shape shape) {
    const int index = int(network_.blobs.size());
    if (!names_.emplace(name, index).second) fail("there is a " + name + " already");
    if (shape.height < 1 || shape.width < 1) fail("nothing is left of the picture");
    if (shape.channels > kMostChannels) fail("too many channels");
    network_.blobs.push_back({name, shape});
    return index;
  }

  void add(const std::vector<std::string>& parts) {
    const std::string& what = parts[0];
    if (what == "input" && parts.size() == 3 && network_.input < 0) {
      network_.input = new_blob(parts[1], {number(parts[2], kMostChannels), height_, width_});
    } else if (what == "conv" && (parts.size() == 5 || parts.size() == 6)) {
      convolution(parts);
    } else if (what == "pool" && parts.size() == 3) {
      const int bottom = find(parts[2]);
      Shape shape = network_.blobs[std::size_t(bottom)].shape;
      shape.height = (shape.height + 1) / 2;  // Caffe rounds up
      shape.width = (shape.width + 1) / 2;
      network_.layers.push_back({Kind::kPool, {bottom}, new_blob(parts[1], shape)});
    } else if (what == "concat" && parts.size() >= 4) {
      concat(parts);
    } else if (what == "output" && parts.size() == 2 && network_.output < 0) {
      network_.output = find(parts[1]);
    } else {
      fail("not understood; network.h says what a line may be");
    }
  }

  void convolution(const std::vector<std::string>& parts) {
    const int bottom = find(parts[2]);
    Shape shape = network_.blobs[std::size_t(bottom)].shape;
    const std::size_t inputs = std::size_t(shape.channels);
    shape.channels = number(parts[3], kMostChannels);
    Layer layer{Kind::kConvolution, {bottom}, new_blob(parts[1], shape)};
    layer.kernel = number(parts[4], kLargestKernel);
    if (layer.kernel % 2 == 0) fail("the kernel's size must be odd");
    const std::size_t depth = inputs * std::size_t(layer.kernel * layer.kernel);
    layer.weights = std::size_t(shape.channels) * depth;
    layer.biases = std::size_t(shape.channels);
    place(layer);
    if (layer.kernel > 1) network_.columns = std::max(network_.columns, depth * shape.pixels());
    network_.multiplications += double(layer.weights) * double(shape.pixels());
    network_.layers.push_back(layer);
    if (parts.size() == 5) return;
    if (parts[5] != "relu" && parts[5] != "prelu") fail("behind a convolution comes relu or prelu");
    Layer activation{parts[5] == "relu" ? Kind::kRelu : Kind::kPrelu, {layer.top}, layer.top};
    if (activation.kind == Kind::kPrelu) {
      activation.biases = layer.biases;
      place(activation);
    }
    network_.layers.push_back(activation);
  }

  void concat(const std::vector<std::string>& parts) {
    Layer layer{Kind::kConcat, {}, 0};
    Shape shape;
    for (std::size_t i = 2; i < parts.size(); ++i) {
      const int bottom = find(parts[i]);
      const Shape& one = network_.blobs[std::size_t(bottom)].shape;
      if (i > 2 && (one.height != shape.height || one.width != shape.width))
        fail(parts[i] + " has another size");
      shape = {shape.channels + one.channels, one.height, one.width};
      layer.bottoms.push_back(bottom);
    }
    layer.top = new_blob(parts[1], shape);
    network_.layers.push_back(layer);
  }

  // Every layer begins at an even float: cuRAND makes normal numbers in pairs.
  void place(Layer& layer) {
    layer.parameters = network_.parameters;
    network_.parameters += (layer.weights + layer.biases + 1) / 2 * 2;
  }

  const std::string path_;
  const int height_, width_;
  int line_ = 0;
  Network network_;
  std::map<std::string, int> names_;
};

}  // namespace

Network read_network(const std::string& path, int height, int width) {
  return Reader(path, height, width).read();
}

float Numbers::next() {
  state_ ^= state_ >> 12;
  state_ ^= state_ << 25;
  state_ ^= state_ >> 27;
  return float(std::int32_t((state_ * 2685821657736338717ull) >> 40) - (1 << 23)) / float(1 << 23);
}

float deviation(const Network& network, const Layer& layer) {
  return std::sqrt(2.0f / float(network.in(layer).channels * layer.kernel * layer.kernel));
}

std::vector<float> host_parameters(const Network& network, std::uint64_t seed) {
  std::vector<float> values(network.parameters);
  Numbers numbers(seed);
  for (const Layer& layer : network.layers) {
    float* next = values.data() + layer.parameters;
    if (layer.kind == Kind::kConvolution) {
      const float largest = std::sqrt(3.0f) * deviation(network, layer);
      for (std::size_t i = 0; i < layer.weights; ++i) *next++ = numbers.next() * largest;
      for (std::size_t i = 0; i < layer.biases; ++i) *next++ = numbers.next() * kLargestBias;
    } else if (layer.kind == Kind::kPrelu) {
      for (std::size_t i = 0; i < layer.biases; ++i) *next++ = kSlope;
    }
  }
  return values;
}

std::vector<float> picture(const Shape& shape, std::uint64_t seed) {
  std::vector<float> values(shape.size());
  Numbers numbers(seed);
  std::size_t i = 0;
  for (int c = 0; c < shape.channels; ++c) {
    const int across = 3 + c, down = 2 + c;  // waves of triangles
    for (int y = 0; y < shape.height; ++y)
      for (int x = 0; x < shape.width; ++x) {
        const float u = float(x * across % shape.width) / float(shape.width);
        const float v = float(y * down % shape.height) / float(shape.height);
        const float wave = (u < 0.5f ? u : 1 - u) + (v < 0.5f ? v : 1 - v) - 0.5f;
        values[i++] = 0.8f * wave + 0.1f * numbers.next();
      }
  }
  return values;
}
