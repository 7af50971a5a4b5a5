// Driver functions by name.
#include "api.h"
#include "weak_driver.h"

using namespace avec::runtime;

namespace {

cudaError_t entry_point(const char* symbol, void** function, unsigned version, unsigned long long flags,
                        cudaDriverEntryPointQueryResult* status, DefaultStream default_stream) {
  if (symbol == nullptr || function == nullptr || *symbol == '\0') return done(cudaErrorInvalidValue);
  if (flags > cudaEnablePerThreadDefaultStream) return done(cudaErrorInvalidValue);
  *function = nullptr;
  if (cuGetProcAddress_v2 == nullptr) return done(cudaErrorNotSupported);
  if (flags == cudaEnableDefault)
    flags = default_stream == DefaultStream::kPerThread ? cudaEnablePerThreadDefaultStream
                                                        : cudaEnableLegacyStream;
  CUdriverProcAddressQueryResult found = CU_GET_PROC_ADDRESS_SUCCESS;
  const CUresult got = cuGetProcAddress_v2(symbol, function, static_cast<int>(version), flags, &found);
  // A function that is not there is an answer: success, and a null pointer.
  if (got == CUDA_ERROR_NOT_FOUND) {
    *function = nullptr;
    if (found == CU_GET_PROC_ADDRESS_SUCCESS) found = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  } else if (got != CUDA_SUCCESS) {
    return done(got);
  }
  if (status != nullptr) *status = static_cast<cudaDriverEntryPointQueryResult>(found);
  return cudaSuccess;
}

}  // namespace

AVEC_STREAM_PAIR(cudaGetDriverEntryPoint, _ptsz,
                 (const char* symbol, void** function, unsigned long long flags,
                  cudaDriverEntryPointQueryResult* status),
                 return entry_point(symbol, function, CUDART_VERSION, flags, status, kDefault);)

AVEC_STREAM_PAIR(cudaGetDriverEntryPointByVersion, _ptsz,
                 (const char* symbol, void** function, unsigned int version, unsigned long long flags,
                  cudaDriverEntryPointQueryResult* status),
                 return entry_point(symbol, function, version, flags, status, kDefault);)
