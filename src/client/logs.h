// The driver's log of errors. This client writes none: callbacks are kept and never called, dumps are empty.
#pragma once

#include <cuda.h>

#include <cstddef>

namespace avec::client {

CUresult logs_register(CUlogsCallback callback, void* data, CUlogsCallbackHandle* handle);
CUresult logs_unregister(CUlogsCallbackHandle handle);
CUresult logs_current(CUlogIterator* iterator, unsigned flags);
CUresult logs_to_file(const char* path, unsigned flags);
CUresult logs_to_memory(char* buffer, std::size_t* size, unsigned flags);

}  // namespace avec::client
