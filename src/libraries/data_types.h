// cudaDataType_t as the libraries' functions take it, by its value.
#pragma once

#include <cstdint>

namespace avec::libraries {

/// Bytes of one element of a cudaDataType_t; 0 for one that is not known. Types of less than a
/// byte count as one.
constexpr std::uint64_t size_of_type(int type) {
  switch (type) {
    case 0:  // CUDA_R_32F
      return 4;
    case 1:  // CUDA_R_64F
    case 4:  // CUDA_C_32F
      return 8;
    case 5:  // CUDA_C_64F
      return 16;
    case 2:   // CUDA_R_16F
    case 7:   // CUDA_C_8I
    case 9:   // CUDA_C_8U
    case 14:  // CUDA_R_16BF
    case 20:  // CUDA_R_16I
    case 22:  // CUDA_R_16U
      return 2;
    case 6:   // CUDA_C_16F
    case 10:  // CUDA_R_32I
    case 12:  // CUDA_R_32U
    case 15:  // CUDA_C_16BF
    case 21:  // CUDA_C_16I
    case 23:  // CUDA_C_16U
      return 4;
    case 11:  // CUDA_C_32I
    case 13:  // CUDA_C_32U
    case 24:  // CUDA_R_64I
    case 26:  // CUDA_R_64U
      return 8;
    case 25:  // CUDA_C_64I
    case 27:  // CUDA_C_64U
      return 16;
    case 3:   // CUDA_R_8I
    case 8:   // CUDA_R_8U
    case 16:  // CUDA_R_4I and its kin
    case 17:
    case 18:
    case 19:
    case 28:  // CUDA_R_8F_E4M3 and the other small floats
    case 29:
    case 30:
    case 31:
    case 32:
    case 33:
      return 1;
    default:
      return 0;
  }
}

}  // namespace avec::libraries
