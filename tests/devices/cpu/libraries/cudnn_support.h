// Calls cuDNN of the CPU device as an executor does: by name, from the loaded library. Arguments have exactly
// the types of the C API; enums are int.
#pragma once

#include <dlfcn.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "../support.h"

namespace test {

template <class... Args>
int dnn(const std::string& name, Args... args) {
  static void* library = ::dlopen(AVEC_CPU_CUDNN, RTLD_NOW | RTLD_LOCAL);
  REQUIRE(library != nullptr);
  void* symbol = ::dlsym(library, ("cudnn" + name).c_str());
  INFO(name);
  REQUIRE(symbol != nullptr);
  return reinterpret_cast<int (*)(Args...)>(symbol)(args...);
}

inline constexpr int kFloat = 0, kDouble = 1, kHalf = 2;
inline constexpr int kNchw = 0, kNhwc = 1;
inline constexpr int kSuccess = 0, kBadParam = 2000, kNotSupported = 3000;

/// A descriptor; `kind` is the middle of the function names: Tensor, Filter, Pooling ...
class Descriptor {
 public:
  explicit Descriptor(const std::string& kind) : kind_(kind) {
    REQUIRE(dnn("Create" + kind + "Descriptor", &handle_) == kSuccess);
  }
  ~Descriptor() { dnn("Destroy" + kind_ + "Descriptor", handle_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  operator void*() const { return handle_; }  // NOLINT: used as the C type

 private:
  std::string kind_;
  void* handle_ = nullptr;
};

/// A context, and a handle whose work goes to a stream of its own.
class Dnn {
 public:
  Dnn() : stream(make_stream()) {
    REQUIRE(dnn("Create", &handle) == kSuccess);
    REQUIRE(dnn("SetStream", handle, stream) == kSuccess);
  }
  ~Dnn() {
    dnn("Destroy", handle);
    cuStreamDestroy(stream);
  }
  Dnn(const Dnn&) = delete;
  Dnn& operator=(const Dnn&) = delete;

  Context context;
  CUstream stream;
  void* handle = nullptr;
};

using Dims = std::vector<int>;

/// Row-major strides; `gap` elements lie between the rows of each dimension.
inline Dims strides_of(const Dims& dims, int gap = 0) {
  Dims strides(dims.size());
  int stride = 1;
  for (std::size_t d = dims.size(); d-- > 0;) {
    strides[d] = stride;
    stride = stride * dims[d] + (d > 0 ? gap : 0);
  }
  return strides;
}
inline Dims nhwc_strides(const Dims& dims) {
  return {dims[1] * dims[2] * dims[3], 1, dims[1] * dims[3], dims[1]};
}

/// A tensor in memory of the device, its descriptor, and its values seen as a row-major array.
template <class T = float>
class Array {
 public:
  static constexpr int kType = std::is_same_v<T, double> ? kDouble : kFloat;

  explicit Array(const Dims& shape, const Dims& steps = {})
      : dims(shape),
        strides(steps.empty() ? strides_of(shape) : steps),
        descriptor("Tensor"),
        buffer(span() * sizeof(T)) {
    REQUIRE(dnn("SetTensorNdDescriptor", static_cast<void*>(descriptor), kType, static_cast<int>(dims.size()),
                dims.data(), strides.data()) == kSuccess);
    // NaN is what nothing may read: holes, and results before they are written.
    write_all(std::vector<T>(span(), std::nan("")));
  }
  [[nodiscard]] std::size_t size() const {
    std::size_t n = 1;
    for (int d : dims) n *= static_cast<std::size_t>(d);
    return n;
  }
  void* data() const { return reinterpret_cast<void*>(buffer.address); }

  std::vector<T> random(unsigned seed) {
    std::mt19937 generator(seed);
    std::uniform_real_distribution<T> uniform(-1, 1);
    std::vector<T> values(size());
    for (T& v : values) v = uniform(generator);
    set(values);
    return values;
  }
  void set(const std::vector<T>& values) {
    std::vector<T> all = read_all();
    for (std::size_t i = 0; i < values.size(); ++i) all[offset(i)] = values[i];
    write_all(all);
  }
  [[nodiscard]] std::vector<T> get() const {
    const std::vector<T> all = read_all();
    std::vector<T> values(size());
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = all[offset(i)];
    return values;
  }

  Dims dims, strides;
  Descriptor descriptor;
  Buffer buffer;

 private:
  [[nodiscard]] std::size_t span() const {
    std::size_t last = 0;
    for (std::size_t d = 0; d < dims.size(); ++d)
      last += static_cast<std::size_t>((dims[d] - 1) * strides[d]);
    return last + 1;
  }
  [[nodiscard]] std::size_t offset(std::size_t index) const {
    std::size_t at = 0;
    for (std::size_t d = dims.size(); d-- > 0;) {
      at += index % static_cast<std::size_t>(dims[d]) * static_cast<std::size_t>(strides[d]);
      index /= static_cast<std::size_t>(dims[d]);
    }
    return at;
  }
  [[nodiscard]] std::vector<T> read_all() const {
    std::vector<T> all(span());
    OK(cuCtxSynchronize());
    OK(cuMemcpyDtoH(all.data(), buffer.address, all.size() * sizeof(T)));
    return all;
  }
  void write_all(const std::vector<T>& all) {
    OK(cuMemcpyHtoD(buffer.address, all.data(), all.size() * sizeof(T)));
  }
};

template <class T>
void check_close(const std::vector<T>& got, const std::vector<double>& expected, double tolerance = 2e-5) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    INFO("element " << i << ": " << got[i] << ", expected " << expected[i]);
    REQUIRE(std::abs(got[i] - expected[i]) <= tolerance * std::max(1.0, std::abs(expected[i])));
  }
}

}  // namespace test
