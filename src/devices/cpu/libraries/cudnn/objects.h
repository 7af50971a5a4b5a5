// What cuDNN's handles and descriptors are on the CPU device. Calls copy what they need, so a descriptor may
// be changed or destroyed as soon as a call has returned.
#pragma once

#include <cuda.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

#include "devices/cpu/libraries/cudnn/types.h"

namespace avec::cpu_libraries::cudnn {

inline constexpr int kMaxDimensions = 8;         // CUDNN_DIM_MAX
inline constexpr int kMaxSpatialDimensions = 6;  // of convolutions and pooling, by what cuDNN accepts
using Extents = std::array<std::int64_t, kMaxDimensions>;

/// A tensor's type, dimensions and strides (elements). Filters have one too, by their format.
struct Layout {
  Type type = Type::kFloat;
  int count = 0;
  Extents dims{}, strides{};

  [[nodiscard]] std::int64_t elements() const;
  /// Elements behind one another without a hole, the last dimension fastest.
  [[nodiscard]] bool packed() const;
  /// Bytes from the first element to the end of the last one.
  [[nodiscard]] std::size_t bytes() const;
  [[nodiscard]] bool same_shape(const Layout& other) const;
  /// Product of the dimensions from `first` on.
  [[nodiscard]] std::int64_t extent_from(int first) const;
  /// Each dimension is that of `full`, or 1.
  [[nodiscard]] bool broadcasts_to(const Layout& full) const;
  /// This tensor seen with the shape of `full`: dimensions of 1 repeat.
  [[nodiscard]] Layout broadcast(const Layout& full) const;
};

/// Bytes of an element; 0: no type that tensors have here.
std::size_t size_of(Type type);
/// A packed layout of `format`; kNchwVector is none.
Layout packed_layout(Type type, Format format, int count, const int* dims);

struct Tensor : Layout {};
struct Filter : Layout {
  Format format = Format::kNchw;
};
struct Convolution {
  int count = 0;  // spatial dimensions
  std::array<int, kMaxSpatialDimensions> pad{}, stride{}, dilation{};
  Direction direction = Direction::kCrossCorrelation;
  Type compute = Type::kFloat;
  Math math = Math::kDefault;
  Reorder reorder = Reorder::kDefault;
  int groups = 1;
};
struct Pooling {
  Pool mode = Pool::kMax;
  Nan nan = Nan::kNotPropagate;
  int count = 0;
  std::array<int, kMaxSpatialDimensions> window{}, pad{}, stride{};
};
struct Activation {
  Activate mode = Activate::kSigmoid;
  Nan nan = Nan::kNotPropagate;
  double coefficient = 0;
  double swish_beta = 1;
};
struct Response {  // cudnnLRNDescriptor_t
  unsigned n = 5;
  double alpha = 1e-4, beta = 0.75, k = 2;
};
struct OpTensor {
  Op op = Op::kAdd;
  Type compute = Type::kFloat;
  Nan nan = Nan::kNotPropagate;
};
struct ReduceTensor {
  Reduce op = Reduce::kAdd;
  Type compute = Type::kFloat;
  Nan nan = Nan::kNotPropagate;
  Indices indices = Indices::kNone;
  IndexType index_type = IndexType::k32;
};
struct Dropout {
  float rate = 0;
  void* states = nullptr;
  unsigned long long seed = 0;
};

struct Handle {
  CUstream stream = nullptr;
  /// What work on the device failed with; shared with work that is still queued when the handle ends.
  std::shared_ptr<std::atomic<Status>> failure = std::make_shared<std::atomic<Status>>(Status::kSuccess);
};

/// Notes why a call is refused (cudnnGetLastErrorString) and gives `status` back.
Status refuse(Status status, const char* why);
inline Status bad_param(const char* why) { return refuse(Status::kBadParam, why); }
inline Status not_supported(const char* why) { return refuse(Status::kNotSupported, why); }

/// Does `work` in the order of the handle's stream. What it throws is kept in `failure`.
Status submit(Handle* handle, std::function<void()> work);

/// A host scalar: double for tensors of doubles, else float.
inline double scalar(const void* value, Type type) {
  return type == Type::kDouble ? *static_cast<const double*>(value) : *static_cast<const float*>(value);
}

template <class... Pointers>
bool any_null(Pointers... pointers) {
  return (... || (pointers == nullptr));
}

}  // namespace avec::cpu_libraries::cudnn
