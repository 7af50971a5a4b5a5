// CUresult inside the client: what an engine error becomes, and which errors end a context.
#pragma once

#include <cuda.h>

#include "base/result.h"

namespace avec::client {

/// The CUresult of docs/architecture.md's table ("What a failure becomes") for an error of the
/// running session: CUDA's own code, else CUDA_ERROR_DEVICE_UNAVAILABLE (46).
CUresult to_cuda(const Error& error) noexcept;

inline CUresult to_cuda(const Result<>& result) noexcept {
  return result ? CUDA_SUCCESS : to_cuda(result.error());
}

/// The CUresult for a session that could not be opened.
CUresult open_failure_to_cuda(const Error& error) noexcept;

/// True for errors after which a context does nothing any more (illegal address, launch
/// failure, hardware errors ...): every later call in it returns the same error.
bool corrupts_context(CUresult result) noexcept;

/// "CUDA_ERROR_INVALID_VALUE", or null for a code that CUDA does not define.
const char* error_name(CUresult result) noexcept;
const char* error_text(CUresult result) noexcept;

}  // namespace avec::client
