// What both sides know of cuDNN 9: sizes of its types and arrays, and how the attributes of a
// descriptor of its graph API travel. Numbers are those of NVIDIA's cudnn_graph.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace avec::libraries {

/// Dimensions that any array of a descriptor may have: more than CUDNN_DIM_MAX, for newer versions.
inline constexpr std::int64_t kCudnnMaxDims = 64;
/// cudnnConvolutionFwdAlgoPerf_t and its two sisters, bytes.
inline constexpr std::uint64_t kCudnnPerfBytes = 48;
/// Algorithms that one call can ask for.
inline constexpr std::int64_t kCudnnMaxResults = 64;
/// The largest value of a data type (complex of two doubles), bytes.
inline constexpr std::uint64_t kCudnnValueBytes = 16;
/// avecCudnnWeightParams: data type, number of dimensions, 8 dimensions, 8 strides.
inline constexpr std::uint64_t kCudnnShapeWords = 18;
inline constexpr int kCudnnShapeDims = 8;

/// Elements of an array of dimensions; none where the number makes no sense: cuDNN refuses it then.
template <class Count>
constexpr std::uint64_t cudnn_dims(Count count) {
  return static_cast<std::int64_t>(count) < 0 || static_cast<std::int64_t>(count) > kCudnnMaxDims
             ? 0
             : static_cast<std::uint64_t>(count);
}
/// Elements of an array whose length the program gives.
template <class Count>
constexpr std::uint64_t cudnn_count(Count count) {
  return static_cast<std::int64_t>(count) < 0 ? 0 : static_cast<std::uint64_t>(count);
}
constexpr std::uint64_t cudnn_results(std::int64_t count) {
  return count < 0 ? 0 : static_cast<std::uint64_t>(count > kCudnnMaxResults ? kCudnnMaxResults : count);
}

/// Bytes of one value of a cudnnDataType_t; 0 for an unknown one. Types of less than a byte count as one.
constexpr std::uint64_t cudnn_type_bytes(int type) {
  constexpr std::uint8_t kBytes[] = {4, 8, 2, 1, 4, 4, 1, 4, 32, 2, 8, 1, 1, 1, 1, 1, 1, 1, 1, 4, 8, 16};
  return type < 0 || type >= static_cast<int>(sizeof kBytes) ? 0 : kBytes[type];
}

namespace cudnn {

inline constexpr int kSuccess = 0, kNotInitialized = 1001, kBadParam = 2000, kNullPointer = 2002,
                     kWrongAttributeType = 2010, kNotSupported = 3000,
                     kNoNativeGraphs = 3013, kAllocFailed = 4003, kInternalError = 4000;
/// From kNotSupported up to here statuses say that something cannot be had: whoever asks again hears it
/// again.
inline constexpr int kNotSupportedEnd = 4000;

inline constexpr int kTypeHandle = 0, kTypeInt64 = 3, kTypeVoidPtr = 6, kTypeDescriptor = 15;
inline constexpr int kEngineHeuristics = 4, kExecutionPlan = 5, kVariantPack = 16, kTensor = 17,
                     kKernelCache = 34;
inline constexpr int kPlanJson = 405;
inline constexpr int kTensorDataType = 901, kTensorDimensions = 902, kTensorUniqueId = 906,
                     kTensorByValue = 908;
inline constexpr int kPackUniqueIds = 1000, kPackDataPointers = 1001, kPackOverrideShapes = 1011,
                     kPackOverrideStrides = 1012;

/// Bytes of one element of a cudnnBackendAttributeType_t; 0 for an unknown one.
constexpr std::uint64_t attribute_bytes(int type) {
  switch (type) {
    case kTypeHandle:
    case kTypeInt64:
    case 5:  // double
    case kTypeVoidPtr:
    case kTypeDescriptor:
      return 8;
    case 2:   // boolean
    case 24:  // char
      return 1;
    case 26:  // fraction
      return 16;
    default:
      return type >= 0 && type <= 30 ? 4 : 0;
  }
}

/// One attribute in a recipe. Behind it, padded to 8 bytes: nothing for handles and descriptors, which travel
/// as objects in the same order; for pointers the addresses, then as many words with the bytes of what
/// travels by value (0: the address itself), then these values, each padded to 16; else the elements.
struct AttributeHeader {
  std::int32_t name, type;
  std::int64_t count;
};

constexpr std::uint64_t padded(std::uint64_t bytes, std::uint64_t to) { return (bytes + to - 1) / to * to; }

/// Writes recipes.
class RecipeWriter {
 public:
  void attribute(int name, int type, std::int64_t count, std::span<const std::byte> elements) {
    const AttributeHeader header{name, type, count};
    append(&header, sizeof header, 8);
    if (type != kTypeHandle && type != kTypeDescriptor) append(elements.data(), elements.size(), 8);
  }
  /// Behind an attribute of pointers: what each of them means.
  void values(std::span<const std::uint64_t> sizes, std::span<const void* const> pointers) {
    append(sizes.data(), sizes.size_bytes(), 8);
    for (std::size_t i = 0; i < sizes.size(); ++i)
      if (sizes[i] != 0) append(pointers[i], sizes[i], 16);
  }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  void append(const void* from, std::size_t count, std::uint64_t to) {
    if (count == 0) return;
    const std::size_t at = bytes_.size();
    bytes_.resize(at + padded(count, to));
    std::memcpy(bytes_.data() + at, from, count);
  }
  std::vector<std::byte> bytes_;
};

/// Reads recipes, which the peer wrote: nothing outside of the bytes is touched.
class RecipeReader {
 public:
  struct Attribute {
    AttributeHeader header;
    std::span<const std::byte> elements;
    std::span<const std::byte> sizes, values;  ///< of pointers
  };
  explicit RecipeReader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  bool good() const { return good_; }
  bool done() const { return bytes_.empty(); }

  Attribute next() {
    Attribute attribute{};
    const auto header = take(sizeof(AttributeHeader), 8);
    if (!good_) return attribute;
    std::memcpy(&attribute.header, header.data(), sizeof(AttributeHeader));
    const auto [name, type, count] = attribute.header;
    const std::uint64_t each = attribute_bytes(type);
    if (each == 0 || count < 0 || static_cast<std::uint64_t>(count) > bytes_.size() + (1u << 16)) {
      good_ = false;
      return attribute;
    }
    if (type == kTypeHandle || type == kTypeDescriptor) return attribute;
    attribute.elements = take(static_cast<std::uint64_t>(count) * each, 8);
    if (type != kTypeVoidPtr || !good_) return attribute;
    attribute.sizes = take(static_cast<std::uint64_t>(count) * 8, 8);
    std::uint64_t total = 0;
    for (std::size_t i = 0; good_ && i < attribute.sizes.size() / 8; ++i) {
      std::uint64_t size;
      std::memcpy(&size, attribute.sizes.data() + i * 8, sizeof size);
      if (size > bytes_.size()) good_ = false;
      total += padded(size, 16);
    }
    attribute.values = take(total, 16);
    return attribute;
  }

 private:
  std::span<const std::byte> take(std::uint64_t count, std::uint64_t to) {
    if (padded(count, to) > bytes_.size()) good_ = false;
    if (!good_) return {};
    const auto taken = bytes_.first(count);
    bytes_ = bytes_.subspan(padded(count, to));
    return taken;
  }
  std::span<const std::byte> bytes_;
  bool good_ = true;
};

}  // namespace cudnn
}  // namespace avec::libraries
