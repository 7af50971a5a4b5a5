// cuBLASLt's descriptors: values under the numbers of NVIDIA's attributes (cublasLt.h).
#pragma once

#include <cstring>
#include <map>
#include <vector>

#include "devices/cpu/libraries/cublas/types.h"

#define AVEC_EXPORT extern "C" __attribute__((visibility("default")))

namespace avec::cpu::blas {

/// Of a matrix.
enum LayoutAttribute : int { kType = 0, kOrder = 1, kRows = 2, kColumns = 3, kLd = 4, kBatches = 5, kStride = 6 };
/// Of a product.
enum ProductAttribute : int {
  kComputeType = 0,
  kScaleType = 1,
  kPointerMode = 2,
  kTransA = 3,
  kTransB = 4,
  kTransC = 5,
  kEpilogue = 7,
  kBias = 8,
  kBiasStride = 10,
  kBiasType = 26,
};

class Descriptor {
 public:
  template <class T>
  [[nodiscard]] T get(int attribute, T otherwise = T{}) const {
    const auto found = values_.find(attribute);
    if (found == values_.end() || found->second.size() != sizeof(T)) return otherwise;
    T value;
    std::memcpy(&value, found->second.data(), sizeof(T));
    return value;
  }
  template <class T>
  void set(int attribute, T value) {
    write(attribute, &value, sizeof(T));
  }
  int write(int attribute, const void* from, std::size_t bytes);
  int read(int attribute, void* to, std::size_t bytes, std::size_t* written) const;

 private:
  std::map<int, std::vector<char>> values_;
};

}  // namespace avec::cpu::blas
