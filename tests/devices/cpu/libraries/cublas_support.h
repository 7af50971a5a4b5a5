// Calls cuBLAS of the CPU device as an executor does: by name, from the loaded library.
#pragma once

#include <dlfcn.h>

#include <complex>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "../support.h"

namespace test {

using Complex = std::complex<float>;
using DoubleComplex = std::complex<double>;

/// A function of the library at `path`, called with arguments of exactly its C types.
template <class... Args>
int call(const char* path, const std::string& name, Args... args) {
  void* library = ::dlopen(path, RTLD_NOW | RTLD_LOCAL);
  REQUIRE(library != nullptr);
  void* symbol = ::dlsym(library, name.c_str());
  INFO(name);
  REQUIRE(symbol != nullptr);
  return reinterpret_cast<int (*)(Args...)>(symbol)(args...);
}
#ifndef AVEC_CPU_CUBLAS
#define AVEC_CPU_CUBLAS "libavec_cpu_cublas.so"
#endif
template <class... Args>
int blas(const std::string& name, Args... args) {
  return call(AVEC_CPU_CUBLAS, "cublas" + name, args...);
}

template <class T>
std::string letter() {
  return std::is_same_v<T, float> ? "S" : std::is_same_v<T, double> ? "D" : std::is_same_v<T, Complex> ? "C" : "Z";
}
template <class T>
struct RealOf {
  using type = T;
};
template <class T>
struct RealOf<std::complex<T>> {
  using type = T;
};
template <class T>
using Real = typename RealOf<T>::type;
template <class T>
inline constexpr bool kComplex = !std::is_same_v<T, Real<T>>;

template <class T>
T conj(T value) {
  if constexpr (kComplex<T>) return std::conj(value);
  return value;
}
template <class T>
T number(double re, double im = 0) {
  if constexpr (kComplex<T>) {
    return T(static_cast<Real<T>>(re), static_cast<Real<T>>(im));
  } else {
    return static_cast<T>(re);
  }
}

/// Device memory, which on this device the test can read and write where it lies.
template <class T>
class Array {
 public:
  explicit Array(std::size_t count) : buffer_(count * sizeof(T)), count_(count) {
    static std::mt19937 random(7);
    for (std::size_t i = 0; i < count; ++i) {
      if constexpr (std::is_arithmetic_v<Real<T>>) {
        std::uniform_real_distribution<double> any(-1, 1);
        const double re = any(random), im = any(random);
        data()[i] = number<T>(re, im);
      } else {
        data()[i] = T{};
      }
    }
  }
  T* data() const { return reinterpret_cast<T*>(buffer_.address); }
  operator T*() const { return data(); }
  T& operator[](std::size_t i) const { return data()[i]; }
  [[nodiscard]] std::vector<T> copy() const { return {data(), data() + count_}; }

 private:
  Buffer buffer_;
  std::size_t count_;
};

/// Column-major, dense.
template <class T>
struct Dense {
  int rows, columns;
  std::vector<T> values;
  Dense(int m, int n) : rows(m), columns(n), values(static_cast<std::size_t>(m) * n) {}
  Dense(const T* a, int m, int n, int ld) : Dense(m, n) {
    for (int j = 0; j < n; ++j) {
      for (int i = 0; i < m; ++i) (*this)(i, j) = a[j * ld + i];
    }
  }
  T& operator()(int i, int j) { return values[static_cast<std::size_t>(j) * rows + i]; }
  const T& operator()(int i, int j) const { return values[static_cast<std::size_t>(j) * rows + i]; }
  [[nodiscard]] Dense op(int trans) const {
    if (trans == 0) return *this;
    Dense turned(columns, rows);
    for (int j = 0; j < columns; ++j) {
      for (int i = 0; i < rows; ++i) turned(j, i) = trans == 2 ? conj((*this)(i, j)) : (*this)(i, j);
    }
    return turned;
  }
  friend Dense operator*(const Dense& a, const Dense& b) {
    Dense c(a.rows, b.columns);
    for (int j = 0; j < b.columns; ++j) {
      for (int i = 0; i < a.rows; ++i) {
        for (int k = 0; k < a.columns; ++k) c(i, j) += a(i, k) * b(k, j);
      }
    }
    return c;
  }
  friend Dense operator*(T by, Dense a) {
    for (auto& value : a.values) value *= by;
    return a;
  }
  friend Dense operator+(Dense a, const Dense& b) {
    for (std::size_t i = 0; i < a.values.size(); ++i) a.values[i] += b.values[i];
    return a;
  }
  /// What a triangle (0 lower, 1 upper) says about a symmetric (0), Hermitian (1) or triangular (2; 3: with
  /// ones on the diagonal) matrix.
  [[nodiscard]] Dense triangle(int uplo, int kind) const {
    Dense all(rows, rows);
    for (int j = 0; j < rows; ++j) {
      for (int i = 0; i < rows; ++i) {
        const bool stored = uplo == 0 ? i >= j : i <= j;
        if (stored) all(i, j) = (*this)(i, j);
        if (!stored && kind == 0) all(i, j) = (*this)(j, i);
        if (!stored && kind == 1) all(i, j) = conj((*this)(j, i));
        if (i == j && kind == 1) all(i, j) = number<T>(std::real((*this)(i, i)));
        if (i == j && kind == 3) all(i, j) = T(1);
      }
    }
    return all;
  }
};

template <class T>
double distance(const Dense<T>& a, const Dense<T>& b) {
  if (a.rows != b.rows || a.columns != b.columns) return 1e9;
  double most = 0;
  for (std::size_t i = 0; i < a.values.size(); ++i) {
    const double d = std::abs(a.values[i] - b.values[i]);
    if (!(d <= most)) most = d;  // not a number counts
  }
  return most;
}
template <class T>
inline constexpr double kNear = std::is_same_v<Real<T>, float> ? 2e-4 : 1e-11;

/// A handle with a stream of its own, in a context of its own.
class Blas {
 public:
  Blas() {
    REQUIRE(blas("Create_v2", &handle) == 0);
    stream = make_stream();
    REQUIRE(blas("SetStream_v2", handle, stream) == 0);
  }
  ~Blas() {
    (void)blas("Destroy_v2", handle);
    cuStreamDestroy(stream);
  }
  Blas(const Blas&) = delete;
  Blas& operator=(const Blas&) = delete;

  /// A function of T's letter that must succeed, done when it returns.
  template <class T, class... Args>
  void run(const std::string& name, Args... args) {
    INFO(name);
    REQUIRE(blas(letter<T>() + name, handle, args...) == 0);
    OK(cuStreamSynchronize(stream));
  }

  Context context;
  void* handle = nullptr;
  CUstream stream = nullptr;
};

}  // namespace test
