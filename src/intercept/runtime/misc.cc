// Links between processors, logs, and what libraries have beside kernels and variables.
#include "api.h"
#include "registry.h"
#include "weak_driver.h"

using namespace avec::runtime;

namespace {

// The driver's and the runtime's enumerations are one with two names.
static_assert(static_cast<int>(cudaAtomicOperationFloatMax) == CU_ATOMIC_OPERATION_FLOAT_MAX);
static_assert(static_cast<int>(cudaFlushGPUDirectRDMAWritesToAllDevices) ==
              CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_ALL_DEVICES);

const CUatomicOperation* driver_operations(const cudaAtomicOperation* operations) {
  return reinterpret_cast<const CUatomicOperation*>(operations);
}

/// Runs `body` where the driver has the function.
template <class Function, class Body>
cudaError_t with_driver(Function* function, Body&& body) {
  if (const CUresult ready = initialise_driver(); ready != CUDA_SUCCESS) return done(ready);
  return function != nullptr ? done(body()) : done(cudaErrorNotSupported);
}

}  // namespace

cudaError_t cudaDeviceGetHostAtomicCapabilities(unsigned int* capabilities, const cudaAtomicOperation* operations,
                                                unsigned int count, int device) {
  AVEC_COUNTED;
  CUdevice handle = 0;
  if (const cudaError_t checked = check_device(device, &handle); checked != cudaSuccess) return done(checked);
  return with_driver(cuDeviceGetHostAtomicCapabilities, [&] {
    return cuDeviceGetHostAtomicCapabilities(capabilities, driver_operations(operations), count, handle);
  });
}

cudaError_t cudaDeviceGetP2PAtomicCapabilities(unsigned int* capabilities, const cudaAtomicOperation* operations,
                                               unsigned int count, int source, int destination) {
  AVEC_COUNTED;
  CUdevice from = 0, to = 0;
  if (const cudaError_t checked = check_device(source, &from); checked != cudaSuccess) return done(checked);
  if (const cudaError_t checked = check_device(destination, &to); checked != cudaSuccess) return done(checked);
  return with_driver(cuDeviceGetP2PAtomicCapabilities, [&] {
    return cuDeviceGetP2PAtomicCapabilities(capabilities, driver_operations(operations), count, from, to);
  });
}

cudaError_t cudaDeviceFlushGPUDirectRDMAWrites(cudaFlushGPUDirectRDMAWritesTarget target,
                                               cudaFlushGPUDirectRDMAWritesScope scope) {
  AVEC_COUNTED;
  return in_context([&] {
    return cuFlushGPUDirectRDMAWrites != nullptr
               ? cuFlushGPUDirectRDMAWrites(static_cast<CUflushGPUDirectRDMAWritesTarget>(target),
                                            static_cast<CUflushGPUDirectRDMAWritesScope>(scope))
               : CUDA_ERROR_NOT_SUPPORTED;
  });
}

cudaError_t cudaLibraryGetManaged(void** address, std::size_t* bytes, cudaLibrary_t library, const char* name) {
  AVEC_COUNTED;
  void* found = nullptr;
  std::size_t found_bytes = 0;
  if (const cudaError_t got = cudaLibraryGetGlobal(&found, &found_bytes, library, name); got != cudaSuccess) return got;
  int managed = 0;
  const CUresult asked = cuPointerGetAttribute(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, device_pointer(found));
  if (asked != CUDA_SUCCESS || managed == 0) return done(cudaErrorSymbolNotFound);
  if (address != nullptr) *address = found;
  if (bytes != nullptr) *bytes = found_bytes;
  return cudaSuccess;
}

// A function pointer that host and device share: no device that avec knows has them.
cudaError_t cudaLibraryGetUnifiedFunction(void** function, cudaLibrary_t library, const char* symbol) {
  AVEC_COUNTED;
  if (function == nullptr || symbol == nullptr) return done(cudaErrorInvalidValue);
  return done(library == nullptr ? cudaErrorInvalidResourceHandle : cudaErrorSymbolNotFound);
}

cudaError_t cudaLogsRegisterCallback(cudaLogsCallback_t callback, void* data, cudaLogsCallbackHandle* handle) {
  AVEC_COUNTED;
  return with_driver(cuLogsRegisterCallback, [&] {
    return cuLogsRegisterCallback(reinterpret_cast<CUlogsCallback>(callback), data, handle);
  });
}

cudaError_t cudaLogsUnregisterCallback(cudaLogsCallbackHandle handle) {
  AVEC_COUNTED;
  return with_driver(cuLogsUnregisterCallback, [&] { return cuLogsUnregisterCallback(handle); });
}

cudaError_t cudaLogsCurrent(cudaLogIterator* iterator, unsigned int flags) {
  AVEC_COUNTED;
  return with_driver(cuLogsCurrent, [&] { return cuLogsCurrent(iterator, flags); });
}

cudaError_t cudaLogsDumpToFile(cudaLogIterator* iterator, const char* path, unsigned int flags) {
  AVEC_COUNTED;
  return with_driver(cuLogsDumpToFile, [&] { return cuLogsDumpToFile(iterator, path, flags); });
}

cudaError_t cudaLogsDumpToMemory(cudaLogIterator* iterator, char* buffer, std::size_t* size, unsigned int flags) {
  AVEC_COUNTED;
  return with_driver(cuLogsDumpToMemory, [&] { return cuLogsDumpToMemory(iterator, buffer, size, flags); });
}
