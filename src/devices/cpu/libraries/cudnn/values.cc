#include "devices/cpu/libraries/cudnn/values.h"

#include <cmath>
#include <limits>
#include <type_traits>

#include "devices/cpu/ptx/half.h"

namespace avec::cpu_libraries::cudnn {

namespace {

struct F16 {
  std::uint16_t bits;
};
struct Bf16 {
  std::uint16_t bits;
};

template <class C, class S>
C widen(S stored) {
  if constexpr (std::is_same_v<S, F16>)
    return static_cast<C>(cpu::ptx::Half::widen(stored.bits));
  else if constexpr (std::is_same_v<S, Bf16>)
    return static_cast<C>(cpu::ptx::Bfloat::widen(stored.bits));
  else
    return static_cast<C>(stored);
}

template <class S, class C>
S narrow(C value) {
  if constexpr (std::is_same_v<S, F16>) {
    return {cpu::ptx::Half::round(value)};
  } else if constexpr (std::is_same_v<S, Bf16>) {
    return {cpu::ptx::Bfloat::round(value)};
  } else if constexpr (std::is_integral_v<S>) {
    if (std::isnan(value)) return 0;
    const C rounded = std::nearbyint(value);
    if (rounded <= static_cast<C>(std::numeric_limits<S>::min())) return std::numeric_limits<S>::min();
    if (rounded >= static_cast<C>(std::numeric_limits<S>::max())) return std::numeric_limits<S>::max();
    return static_cast<S>(rounded);
  } else {
    return static_cast<S>(value);
  }
}

/// Calls `row(offset, stride, first, length)` for each row of the last dimension, in packed order.
template <class Row>
void each_row(const Layout& layout, Row row) {
  const int last = layout.count - 1;
  const std::int64_t length = layout.dims[last];
  Extents at{};
  std::int64_t offset = 0;
  for (std::int64_t first = 0, all = layout.elements(); first < all; first += length) {
    row(offset, layout.strides[last], first, length);
    for (int d = last - 1; d >= 0; --d) {
      offset += layout.strides[d];
      if (++at[d] < layout.dims[d]) break;
      offset -= layout.strides[d] * layout.dims[d];
      at[d] = 0;
    }
  }
}

template <class C, class S>
void gather(const Layout& layout, const void* memory, C* to) {
  const auto* from = static_cast<const S*>(memory);
  each_row(layout, [&](std::int64_t offset, std::int64_t stride, std::int64_t first, std::int64_t length) {
    for (std::int64_t i = 0; i < length; ++i) to[first + i] = widen<C>(from[offset + i * stride]);
  });
}

template <class C, class S>
void scatter(const Layout& layout, void* memory, const C* result, C alpha, C beta) {
  auto* to = static_cast<S*>(memory);
  each_row(layout, [&](std::int64_t offset, std::int64_t stride, std::int64_t first, std::int64_t length) {
    for (std::int64_t i = 0; i < length; ++i) {
      S& element = to[offset + i * stride];
      C value = alpha * result[first + i];
      if (beta != 0) value += beta * widen<C>(element);
      element = narrow<S>(value);
    }
  });
}

/// Calls `work` with a null pointer to the type that elements of `type` are stored as.
template <class Work>
void stored_as(Type type, Work work) {
  switch (type) {
    case Type::kFloat:
      return work(static_cast<float*>(nullptr));
    case Type::kDouble:
      return work(static_cast<double*>(nullptr));
    case Type::kHalf:
      return work(static_cast<F16*>(nullptr));
    case Type::kBfloat16:
      return work(static_cast<Bf16*>(nullptr));
    case Type::kInt8:
      return work(static_cast<std::int8_t*>(nullptr));
    case Type::kUint8:
      return work(static_cast<std::uint8_t*>(nullptr));
    case Type::kInt32:
      return work(static_cast<std::int32_t*>(nullptr));
    case Type::kInt64:
      return work(static_cast<std::int64_t*>(nullptr));
  }
}

}  // namespace

template <class C>
std::vector<C> Values<C>::copy(const Layout& layout, const void* memory) {
  std::vector<C> to(static_cast<std::size_t>(layout.elements()));
  stored_as(layout.type, [&]<class S>(S*) { gather<C, S>(layout, memory, to.data()); });
  return to;
}

template <class C>
Values<C>::Values(const Layout& layout, const void* memory) {
  constexpr Type kOwnType = std::is_same_v<C, double> ? Type::kDouble : Type::kFloat;
  if (layout.type == kOwnType && layout.packed()) {
    data_ = static_cast<const C*>(memory);
  } else {
    own_ = copy(layout, memory);
    data_ = own_.data();
  }
}

template <class C>
void blend(const Layout& layout, void* memory, const C* result, double alpha, double beta) {
  stored_as(layout.type, [&]<class S>(S*) {
    scatter<C, S>(layout, memory, result, static_cast<C>(alpha), static_cast<C>(beta));
  });
}

template class Values<float>;
template class Values<double>;
template void blend(const Layout&, void*, const float*, double, double);
template void blend(const Layout&, void*, const double*, double, double);

std::int64_t Layout::extent_from(int first) const {
  std::int64_t product = 1;
  for (int d = first; d < count; ++d) product *= dims[d];
  return product;
}

std::int64_t Layout::elements() const { return count == 0 ? 0 : extent_from(0); }

bool Layout::packed() const {
  std::int64_t stride = 1;
  for (int d = count - 1; d >= 0; --d) {
    if (dims[d] != 1 && strides[d] != stride) return false;
    stride *= dims[d];
  }
  return true;
}

std::size_t Layout::bytes() const {
  if (count == 0) return 0;
  std::int64_t last = 0;
  for (int d = 0; d < count; ++d) last += (dims[d] - 1) * std::abs(strides[d]);
  return static_cast<std::size_t>(last + 1) * size_of(type);
}

bool Layout::same_shape(const Layout& other) const {
  if (count != other.count) return false;
  for (int d = 0; d < count; ++d)
    if (dims[d] != other.dims[d]) return false;
  return true;
}

bool Layout::broadcasts_to(const Layout& full) const {
  if (count != full.count) return false;
  for (int d = 0; d < count; ++d)
    if (dims[d] != full.dims[d] && dims[d] != 1) return false;
  return true;
}

Layout Layout::broadcast(const Layout& full) const {
  Layout seen = *this;
  for (int d = 0; d < count; ++d) {
    if (dims[d] == full.dims[d]) continue;
    seen.dims[d] = full.dims[d];
    seen.strides[d] = 0;
  }
  return seen;
}

std::size_t size_of(Type type) {
  std::size_t bytes = 0;
  stored_as(type, [&]<class S>(S*) { bytes = sizeof(S); });
  return bytes;
}

Layout packed_layout(Type type, Format format, int count, const int* dims) {
  Layout layout;
  layout.type = type;
  layout.count = count;
  for (int d = 0; d < count; ++d) layout.dims[d] = dims[d];
  std::int64_t stride = 1;
  if (format == Format::kNhwc && count > 1) {  // channels fastest
    layout.strides[1] = 1;
    stride = dims[1];
  }
  for (int d = count - 1; d >= 0; --d) {
    if (format == Format::kNhwc && d == 1) continue;
    layout.strides[d] = stride;
    stride *= dims[d];
  }
  return layout;
}

}  // namespace avec::cpu_libraries::cudnn
