// What both sides of cuBLASLt know about the sizes of arguments.
#pragma once

#include "libraries/data_types.h"

namespace avec::libraries {

/// sizeof(cublasLtMatmulHeuristicResult_t) and of the cublasLtMatmulAlgo_t that it begins with.
inline constexpr std::uint64_t kHeuristicBytes = 96, kAlgorithmBytes = 64;

}  // namespace avec::libraries
