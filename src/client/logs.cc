#include "client/logs.h"

#include <fstream>

#include "client/slab.h"

namespace avec::client {
namespace {

/// A CUlogsCallbackHandle is the address of one (Slab<LogCallback>).
struct LogCallback {
  CUlogsCallback callback = nullptr;
  void* data = nullptr;
};

}  // namespace

CUresult logs_register(CUlogsCallback callback, void* data, CUlogsCallbackHandle* handle) {
  if (callback == nullptr) return CUDA_ERROR_INVALID_VALUE;
  LogCallback* made = Slab<LogCallback>::make(LogCallback{callback, data});
  if (made == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  if (handle != nullptr) *handle = reinterpret_cast<CUlogsCallbackHandle>(made);
  return CUDA_SUCCESS;
}

CUresult logs_unregister(CUlogsCallbackHandle handle) {
  LogCallback* known = Slab<LogCallback>::find(handle);
  return known != nullptr && Slab<LogCallback>::destroy(known) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult logs_current(CUlogIterator* iterator, unsigned flags) {
  if (iterator == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  *iterator = 0;
  return CUDA_SUCCESS;
}

CUresult logs_to_file(const char* path, unsigned flags) {
  if (path == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  return std::ofstream(path) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult logs_to_memory(char* buffer, std::size_t* size, unsigned flags) {
  if (buffer == nullptr || size == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (*size > 0) *buffer = '\0';
  *size = 0;
  return CUDA_SUCCESS;
}

}  // namespace avec::client
