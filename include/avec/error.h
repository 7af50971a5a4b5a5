// What the C++ library throws.
#pragma once

#include <stdexcept>
#include <string>

namespace avec {

/// Every failure of the library. what() is one sentence that says what to do.
class CudaError : public std::runtime_error {
 public:
  /// `cuda_code`: the CUresult of NVIDIA's driver API (cuda.h) that fits.
  CudaError(int cuda_code, const std::string& message) : std::runtime_error(message), cuda_code_(cuda_code) {}
  /// The CUresult: 2 out of memory, 46 the session was lost, 700 illegal address ...
  int cuda_code() const noexcept { return cuda_code_; }

 private:
  int cuda_code_;
};

/// No session could be opened: nobody there, not an executor, other version, refused.
class ConnectError : public CudaError {
 public:
  using CudaError::CudaError;
};

}  // namespace avec
