// Tensors as arrays that can be computed on. An operation reads its inputs as packed arrays of float or
// double, whatever their type and strides, computes a packed result, and blends that into its output.
#pragma once

#include <span>
#include <vector>

#include "devices/cpu/libraries/cudnn/objects.h"

namespace avec::cpu_libraries::cudnn {

/// The elements of a tensor, the last dimension fastest: the memory itself where it has that form.
template <class C>
class Values {
 public:
  Values(const Layout& layout, const void* memory);
  /// Always a copy, which may be written.
  static std::vector<C> copy(const Layout& layout, const void* memory);

  [[nodiscard]] const C* data() const { return data_; }
  const C& operator[](std::int64_t i) const { return data_[i]; }

 private:
  std::vector<C> own_;
  const C* data_;
};

/// memory = alpha * result + beta * memory; with a beta of 0 memory is not read.
template <class C>
void blend(const Layout& layout, void* memory, const C* result, double alpha, double beta);

/// Calls `work` with a value of the type in which tensors of `type` are computed.
template <class Work>
void computed_in(Type type, Work work) {
  if (type == Type::kDouble)
    work(double{});
  else
    work(float{});
}

}  // namespace avec::cpu_libraries::cudnn
