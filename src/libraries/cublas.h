// What both sides of cuBLAS know about the sizes of arguments.
#pragma once

#include "libraries/data_types.h"

namespace avec::libraries {

constexpr bool is_complex(int type) { return type == 4 || type == 5 || type == 6 || type == 15; }

/// Bytes of alpha and beta of a product with this cublasComputeType_t and type of A.
constexpr std::uint64_t compute_bytes(int compute, int a_type) {
  switch (compute) {
    case 64: case 65:  // COMPUTE_16F
      return 2;
    case 70: case 71: case 79:  // COMPUTE_64F
      return is_complex(a_type) ? 16 : 8;
    case 72: case 73:  // COMPUTE_32I: the scale is an integer, or float where the result is 8-bit
      return 4;
    default:
      return is_complex(a_type) ? 8 : 4;
  }
}

}  // namespace avec::libraries
