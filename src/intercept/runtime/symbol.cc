// Device variables by the address of their host shadow.
#include "api.h"
#include "copy.h"
#include "registry.h"

using namespace avec::runtime;

namespace {

/// Where [offset, offset + bytes) of the variable is on the device.
cudaError_t locate(const void* symbol, std::size_t offset, std::size_t bytes, char** address) {
  Variable* variable = find_variable(symbol);
  if (variable == nullptr) return cudaErrorInvalidSymbol;
  CUdeviceptr base = 0;
  std::size_t size = 0;
  if (const cudaError_t found = variable_address(*variable, &base, &size); found != cudaSuccess) return found;
  if (offset > size || bytes > size - offset) return cudaErrorInvalidValue;
  *address = reinterpret_cast<char*>(base) + offset;
  return cudaSuccess;
}

cudaError_t to_symbol(const void* symbol, const void* source, std::size_t bytes, std::size_t offset,
                      cudaMemcpyKind kind, CUstream stream, Completion completion) {
  if (kind != cudaMemcpyHostToDevice && kind != cudaMemcpyDeviceToDevice && kind != cudaMemcpyDefault)
    return done(cudaErrorInvalidMemcpyDirection);
  return in_context([&]() -> cudaError_t {
    char* address = nullptr;
    if (const cudaError_t found = locate(symbol, offset, bytes, &address); found != cudaSuccess) return found;
    return copy_linear(address, source, bytes, kind, stream, completion);
  });
}

cudaError_t from_symbol(void* destination, const void* symbol, std::size_t bytes, std::size_t offset,
                        cudaMemcpyKind kind, CUstream stream, Completion completion) {
  if (kind != cudaMemcpyDeviceToHost && kind != cudaMemcpyDeviceToDevice && kind != cudaMemcpyDefault)
    return done(cudaErrorInvalidMemcpyDirection);
  return in_context([&]() -> cudaError_t {
    char* address = nullptr;
    if (const cudaError_t found = locate(symbol, offset, bytes, &address); found != cudaSuccess) return found;
    return copy_linear(destination, address, bytes, kind, stream, completion);
  });
}

}  // namespace

AVEC_STREAM_PAIR(cudaMemcpyToSymbol, _ptds,
                 (const void* symbol, const void* source, std::size_t bytes, std::size_t offset,
                  cudaMemcpyKind kind),
                 return to_symbol(symbol, source, bytes, offset, kind, resolve_stream<kDefault>(nullptr),
                                  Completion::kSynchronous);)

AVEC_STREAM_PAIR(cudaMemcpyFromSymbol, _ptds,
                 (void* destination, const void* symbol, std::size_t bytes, std::size_t offset,
                  cudaMemcpyKind kind),
                 return from_symbol(destination, symbol, bytes, offset, kind,
                                    resolve_stream<kDefault>(nullptr), Completion::kSynchronous);)

AVEC_STREAM_PAIR(cudaMemcpyToSymbolAsync, _ptsz,
                 (const void* symbol, const void* source, std::size_t bytes, std::size_t offset,
                  cudaMemcpyKind kind, cudaStream_t stream),
                 return to_symbol(symbol, source, bytes, offset, kind, resolve_stream<kDefault>(stream),
                                  Completion::kAsynchronous);)

AVEC_STREAM_PAIR(cudaMemcpyFromSymbolAsync, _ptsz,
                 (void* destination, const void* symbol, std::size_t bytes, std::size_t offset,
                  cudaMemcpyKind kind, cudaStream_t stream),
                 return from_symbol(destination, symbol, bytes, offset, kind,
                                    resolve_stream<kDefault>(stream), Completion::kAsynchronous);)

cudaError_t cudaGetSymbolAddress(void** address, const void* symbol) {
  AVEC_COUNTED;
  if (address == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&] {
    char* found = nullptr;
    const cudaError_t error = locate(symbol, 0, 0, &found);
    if (error == cudaSuccess) *address = found;
    return error;
  });
}

cudaError_t cudaGetSymbolSize(std::size_t* bytes, const void* symbol) {
  AVEC_COUNTED;
  if (bytes == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&]() -> cudaError_t {
    Variable* variable = find_variable(symbol);
    if (variable == nullptr) return cudaErrorInvalidSymbol;
    CUdeviceptr address = 0;
    return variable_address(*variable, &address, bytes);
  });
}
