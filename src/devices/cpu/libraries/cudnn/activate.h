// Activation functions of one element.
#pragma once

#include <algorithm>
#include <cmath>

#include "devices/cpu/libraries/cudnn/objects.h"

namespace avec::cpu_libraries::cudnn {

template <class C>
C activated(const Activation& a, C x) {
  const auto coefficient = static_cast<C>(a.coefficient);
  if (a.nan == Nan::kPropagate && std::isnan(x)) return x;
  switch (a.mode) {
    case Activate::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case Activate::kRelu:
      return x > 0 ? x : C{0};
    case Activate::kTanh:
      return std::tanh(x);
    case Activate::kClippedRelu:
      return x > 0 ? std::min(x, coefficient) : C{0};
    case Activate::kElu:
      return x > 0 ? x : coefficient * std::expm1(x);
    case Activate::kIdentity:
      return x;
    case Activate::kSwish:
      return x / (1 + std::exp(static_cast<C>(-a.swish_beta) * x));
  }
  return x;
}

/// What the gradient of the output is multiplied with, from the input and the output.
template <class C>
C slope(const Activation& a, C x, C y) {
  const auto coefficient = static_cast<C>(a.coefficient);
  switch (a.mode) {
    case Activate::kSigmoid:
      return y * (1 - y);
    case Activate::kRelu:
      return x > 0 ? C{1} : C{0};
    case Activate::kTanh:
      return 1 - y * y;
    case Activate::kClippedRelu:
      return x > 0 && x < coefficient ? C{1} : C{0};
    case Activate::kElu:
      return x > 0 ? C{1} : y + coefficient;
    case Activate::kIdentity:
      return C{1};
    case Activate::kSwish: {
      const auto beta = static_cast<C>(a.swish_beta);
      const C sigmoid = 1 / (1 + std::exp(-beta * x));
      return sigmoid * (1 + beta * x * (1 - sigmoid));
    }
  }
  return C{1};
}

}  // namespace avec::cpu_libraries::cudnn
