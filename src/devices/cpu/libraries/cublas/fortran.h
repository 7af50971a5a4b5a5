// OpenBLAS's BLAS and LAPACK, called as Fortran has them: one name per type, everything by address.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "devices/cpu/libraries/cublas/types.h"

namespace avec::cpu::blas {

using Symbol = void (*)();

#define AVEC_REAL_FORTRAN(name)                      \
  extern "C" void s##name##_();                      \
  extern "C" void d##name##_();                      \
  template <class T>                                 \
    requires(!kComplex<T>)                           \
  Symbol fortran_##name() {                          \
    return std::is_same_v<T, float> ? &s##name##_ : &d##name##_; \
  }
#define AVEC_COMPLEX_FORTRAN(name)                   \
  extern "C" void c##name##_();                      \
  extern "C" void z##name##_();                      \
  template <class T>                                 \
    requires kComplex<T>                             \
  Symbol fortran_##name() {                          \
    return std::is_same_v<T, Complex> ? &c##name##_ : &z##name##_; \
  }
#define AVEC_FORTRAN(name) AVEC_REAL_FORTRAN(name) AVEC_COMPLEX_FORTRAN(name)

/// The length of a character argument, which gfortran passes behind all others.
struct Length {
  std::size_t value = 1;
};

/// An argument on its way: pointers as they are, values by address, 64-bit counts as 32 bits.
template <class A>
struct Passed {
  A value;
  const A* pass() const { return &value; }
};
template <class A>
struct Passed<A*> {
  A* value;
  A* pass() const { return value; }
};
template <>
struct Passed<std::int64_t> {
  explicit Passed(std::int64_t number) : value(static_cast<int>(number)) {}
  int value;
  const int* pass() const { return &value; }
};
template <>
struct Passed<Length> {
  Length value;
  std::size_t pass() const { return value.value; }
};

template <class... Args>
void call(Symbol symbol, Args... args) {
  reinterpret_cast<void (*)(decltype(std::declval<Passed<Args>>().pass())...)>(symbol)(Passed<Args>{args}.pass()...);
}

}  // namespace avec::cpu::blas
