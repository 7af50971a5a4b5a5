// Devices: choosing, asking, limits, peers.
#include <cuda_profiler_api.h>

#include "api.h"
#include "weak_driver.h"

using namespace avec::runtime;

cudaError_t cudaGetDeviceCount(int* count) {
  AVEC_COUNTED;
  if (count == nullptr) return done(cudaErrorInvalidValue);
  return done(device_count(count));
}

cudaError_t cudaSetDevice(int device) {
  AVEC_COUNTED;
  CUdevice handle = 0;
  if (const cudaError_t checked = check_device(device, &handle); checked != cudaSuccess) return done(checked);
  // As in CUDA 12 and later: the primary context is made now, and its failure is told here.
  if (const CUresult used = use_device(device); used != CUDA_SUCCESS) return done(used);
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  AVEC_COUNTED;
  if (device == nullptr) return done(cudaErrorInvalidValue);
  return done(current_device(device));
}

cudaError_t cudaInitDevice(int device, unsigned int device_flags, unsigned int flags) {
  AVEC_COUNTED;
  CUdevice handle = 0;
  if (const cudaError_t checked = check_device(device, &handle); checked != cudaSuccess) return done(checked);
  if ((flags & ~static_cast<unsigned>(cudaInitDeviceFlagsAreValid)) != 0) return done(cudaErrorInvalidValue);
  if ((flags & cudaInitDeviceFlagsAreValid) != 0) {
    if (const CUresult set = cuDevicePrimaryCtxSetFlags(handle, device_flags & ~unsigned{cudaDeviceMapHost});
        set != CUDA_SUCCESS)
      return done(set);
  }
  CUcontext context = nullptr;
  return done(primary_context(device, &context));
}

cudaError_t cudaSetValidDevices(int* devices, int count) {
  AVEC_COUNTED;
  return done(set_valid_devices(devices, count));
}

cudaError_t cudaSetDeviceFlags(unsigned int flags) {
  AVEC_COUNTED;
  if ((flags & ~unsigned{cudaDeviceMask}) != 0) return done(cudaErrorInvalidValue);
  int device = 0;
  CUdevice handle = 0;
  if (const cudaError_t found = current_device(&device); found != cudaSuccess) return done(found);
  if (const cudaError_t checked = check_device(device, &handle); checked != cudaSuccess) return done(checked);
  // Host memory is always mapped under unified addressing; the driver has no flag for it here.
  return done(cuDevicePrimaryCtxSetFlags(handle, flags & ~unsigned{cudaDeviceMapHost}));
}

cudaError_t cudaGetDeviceFlags(unsigned int* flags) {
  AVEC_COUNTED;
  if (flags == nullptr) return done(cudaErrorInvalidValue);
  int device = 0;
  int active = 0;
  CUdevice handle = 0;
  if (const cudaError_t found = current_device(&device); found != cudaSuccess) return done(found);
  if (const cudaError_t checked = check_device(device, &handle); checked != cudaSuccess) return done(checked);
  if (const CUresult got = cuDevicePrimaryCtxGetState(handle, flags, &active); got != CUDA_SUCCESS)
    return done(got);
  *flags |= cudaDeviceMapHost;
  return cudaSuccess;
}

cudaError_t cudaDeviceReset() {
  AVEC_COUNTED;
  return done(reset_current_device());
}

cudaError_t cudaDeviceSynchronize() {
  AVEC_COUNTED;
  return in_context([] { return cuCtxSynchronize(); });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  AVEC_COUNTED;
  if (value == nullptr) return done(cudaErrorInvalidValue);
  CUdevice handle = 0;
  if (const cudaError_t checked = check_device(device, &handle); checked != cudaSuccess) return done(checked);
  return done(cuDeviceGetAttribute(value, static_cast<CUdevice_attribute>(attribute), handle));
}

cudaError_t cudaDeviceGetP2PAttribute(int* value, cudaDeviceP2PAttr attribute, int source, int destination) {
  AVEC_COUNTED;
  if (value == nullptr) return done(cudaErrorInvalidValue);
  CUdevice from = 0;
  CUdevice to = 0;
  if (const cudaError_t checked = check_device(source, &from); checked != cudaSuccess) return done(checked);
  if (const cudaError_t checked = check_device(destination, &to); checked != cudaSuccess)
    return done(checked);
  if (source == destination) return done(cudaErrorInvalidDevice);
  if (cuDeviceGetP2PAttribute == nullptr) return done(cudaErrorNotSupported);
  return done(cuDeviceGetP2PAttribute(value, static_cast<CUdevice_P2PAttribute>(attribute), from, to));
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  AVEC_COUNTED;
  if (can == nullptr) return done(cudaErrorInvalidValue);
  CUdevice from = 0;
  CUdevice to = 0;
  if (const cudaError_t checked = check_device(device, &from); checked != cudaSuccess) return done(checked);
  if (const cudaError_t checked = check_device(peer, &to); checked != cudaSuccess) return done(checked);
  return done(cuDeviceCanAccessPeer(can, from, to));
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned int flags) {
  AVEC_COUNTED;
  CUdevice handle = 0;
  if (const cudaError_t checked = check_device(peer, &handle); checked != cudaSuccess) return done(checked);
  return in_context([&]() -> CUresult {
    CUcontext context = nullptr;
    CUdevice own = 0;
    if (cuCtxGetDevice(&own) == CUDA_SUCCESS && own == handle) return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
    if (const CUresult got = primary_context(peer, &context); got != CUDA_SUCCESS) return got;
    return cuCtxEnablePeerAccess(context, flags);
  });
}

cudaError_t cudaDeviceDisablePeerAccess(int peer) {
  AVEC_COUNTED;
  CUdevice handle = 0;
  if (const cudaError_t checked = check_device(peer, &handle); checked != cudaSuccess) return done(checked);
  return in_context([&]() -> CUresult {
    CUcontext context = nullptr;
    if (const CUresult got = primary_context(peer, &context); got != CUDA_SUCCESS) return got;
    return cuCtxDisablePeerAccess(context);
  });
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  AVEC_COUNTED;
  if (text == nullptr || length <= 0) return done(cudaErrorInvalidValue);
  CUdevice handle = 0;
  if (const cudaError_t checked = check_device(device, &handle); checked != cudaSuccess) return done(checked);
  return done(cuDeviceGetPCIBusId(text, length, handle));
}

cudaError_t cudaDeviceGetByPCIBusId(int* device, const char* text) {
  AVEC_COUNTED;
  if (device == nullptr || text == nullptr) return done(cudaErrorInvalidValue);
  if (const CUresult ready = initialise_driver(); ready != CUDA_SUCCESS) return done(ready);
  CUdevice handle = 0;
  if (const CUresult got = cuDeviceGetByPCIBusId(&handle, text); got != CUDA_SUCCESS) return done(got);
  *device = handle;
  return cudaSuccess;
}

cudaError_t cudaDeviceSetLimit(cudaLimit limit, std::size_t value) {
  AVEC_COUNTED;
  return in_context([&] { return cuCtxSetLimit(static_cast<CUlimit>(limit), value); });
}

cudaError_t cudaDeviceGetLimit(std::size_t* value, cudaLimit limit) {
  AVEC_COUNTED;
  if (value == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&] { return cuCtxGetLimit(value, static_cast<CUlimit>(limit)); });
}

cudaError_t cudaDeviceGetCacheConfig(cudaFuncCache* config) {
  AVEC_COUNTED;
  if (config == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&] {
    CUfunc_cache current = CU_FUNC_CACHE_PREFER_NONE;
    const CUresult got = cuCtxGetCacheConfig(&current);
    if (got == CUDA_SUCCESS) *config = static_cast<cudaFuncCache>(current);
    return got;
  });
}

cudaError_t cudaDeviceSetCacheConfig(cudaFuncCache config) {
  AVEC_COUNTED;
  return in_context([&] { return cuCtxSetCacheConfig(static_cast<CUfunc_cache>(config)); });
}

// Shared memory banks have one size since compute capability 5.0: setting it has no effect.
cudaError_t cudaDeviceGetSharedMemConfig(cudaSharedMemConfig* config) {
  AVEC_COUNTED;
  if (config == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&] {
    *config = cudaSharedMemBankSizeFourByte;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceSetSharedMemConfig(cudaSharedMemConfig config) {
  AVEC_COUNTED;
  if (config < cudaSharedMemBankSizeDefault || config > cudaSharedMemBankSizeEightByte)
    return done(cudaErrorInvalidValue);
  return in_context([] { return cudaSuccess; });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  AVEC_COUNTED;
  return in_context([&] { return cuCtxGetStreamPriorityRange(least, greatest); });
}

cudaError_t cudaCtxResetPersistingL2Cache() {
  AVEC_COUNTED;
  return in_context([] {
    return cuCtxResetPersistingL2Cache != nullptr ? cuCtxResetPersistingL2Cache() : CUDA_ERROR_NOT_SUPPORTED;
  });
}

cudaError_t cudaDeviceGetTexture1DLinearMaxWidth(std::size_t* width, const cudaChannelFormatDesc* format,
                                                 int device) {
  AVEC_COUNTED;
  if (width == nullptr || format == nullptr) return done(cudaErrorInvalidValue);
  CUdevice handle = 0;
  if (const cudaError_t checked = check_device(device, &handle); checked != cudaSuccess) return done(checked);
  int elements = 0;
  const CUresult got =
      cuDeviceGetAttribute(&elements, CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_LINEAR_WIDTH, handle);
  if (got == CUDA_SUCCESS) *width = static_cast<std::size_t>(elements);
  return done(got);
}

cudaError_t cudaDriverGetVersion(int* version) {
  AVEC_COUNTED;
  if (version == nullptr) return done(cudaErrorInvalidValue);
  *version = 0;
  return done(cuDriverGetVersion(version));
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  AVEC_COUNTED;
  if (version == nullptr) return done(cudaErrorInvalidValue);
  *version = 13000;
  return cudaSuccess;
}

// Profilers attach to the executor, not to the client.
cudaError_t cudaProfilerStart() {
  AVEC_COUNTED;
  return cudaSuccess;
}

cudaError_t cudaProfilerStop() {
  AVEC_COUNTED;
  return cudaSuccess;
}

cudaChannelFormatDesc cudaCreateChannelDesc(int x, int y, int z, int w, cudaChannelFormatKind kind) {
  return {x, y, z, w, kind};
}

// The private tables of NVIDIA's libraries are not imitated.
cudaError_t cudaGetExportTable(const void** table, const cudaUUID_t* id) {
  AVEC_COUNTED;
  if (table == nullptr || id == nullptr) return done(cudaErrorInvalidValue);
  *table = nullptr;
  return done(cudaErrorSymbolNotFound);
}
