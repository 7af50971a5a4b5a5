#include "client/status.h"

namespace avec::client {

CUresult to_cuda(const Error& error) noexcept {
  return error.origin == Origin::kCuda ? static_cast<CUresult>(error.code) : CUDA_ERROR_DEVICE_UNAVAILABLE;
}

CUresult open_failure_to_cuda(const Error& error) noexcept {
  return error.origin == Origin::kCuda ? static_cast<CUresult>(error.code) : CUDA_ERROR_NO_DEVICE;
}

bool corrupts_context(CUresult result) noexcept {
  switch (result) {
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_NVLINK_UNCORRECTABLE:
    case CUDA_ERROR_CONTAINED:
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_LAUNCH_FAILED:
    case CUDA_ERROR_TENSOR_MEMORY_LEAK:
    case CUDA_ERROR_EXTERNAL_DEVICE:
      return true;
    default:
      return false;
  }
}

}  // namespace avec::client
