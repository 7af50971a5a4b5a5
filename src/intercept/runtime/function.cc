// What kernels are: attributes, names, parameters, occupancy.
#include <climits>

#include "api.h"
#include "registry.h"
#include "weak_driver.h"

using namespace avec::runtime;

namespace {

/// Finds the kernel in the thread's context and runs `body` on it.
template <class Body>
cudaError_t with_function(const void* symbol, Body&& body) {
  CUfunction function = nullptr;
  if (const cudaError_t found = find_function(symbol, &function); found != cudaSuccess) return done(found);
  return done(body(function));
}

CUresult attribute(CUfunction function, CUfunction_attribute id, int* value) {
  const CUresult got = cuFuncGetAttribute(value, id, function);
  // Drivers older than the attribute: it is 0 there.
  if (got == CUDA_ERROR_INVALID_VALUE && id >= CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET) {
    *value = 0;
    return CUDA_SUCCESS;
  }
  return got;
}

CUresult fill_attributes(CUfunction function, cudaFuncAttributes& out) {
  struct SizeField {
    std::size_t cudaFuncAttributes::* member;
    CUfunction_attribute id;
  };
  struct IntField {
    int cudaFuncAttributes::* member;
    CUfunction_attribute id;
  };
  constexpr SizeField kSizes[] = {
      {&cudaFuncAttributes::sharedSizeBytes, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES},
      {&cudaFuncAttributes::constSizeBytes, CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES},
      {&cudaFuncAttributes::localSizeBytes, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES},
  };
  constexpr IntField kInts[] = {
      {&cudaFuncAttributes::maxThreadsPerBlock, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK},
      {&cudaFuncAttributes::numRegs, CU_FUNC_ATTRIBUTE_NUM_REGS},
      {&cudaFuncAttributes::ptxVersion, CU_FUNC_ATTRIBUTE_PTX_VERSION},
      {&cudaFuncAttributes::binaryVersion, CU_FUNC_ATTRIBUTE_BINARY_VERSION},
      {&cudaFuncAttributes::cacheModeCA, CU_FUNC_ATTRIBUTE_CACHE_MODE_CA},
      {&cudaFuncAttributes::maxDynamicSharedSizeBytes, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES},
      {&cudaFuncAttributes::preferredShmemCarveout, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT},
      {&cudaFuncAttributes::clusterDimMustBeSet, CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET},
      {&cudaFuncAttributes::requiredClusterWidth, CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH},
      {&cudaFuncAttributes::requiredClusterHeight, CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT},
      {&cudaFuncAttributes::requiredClusterDepth, CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH},
      {&cudaFuncAttributes::clusterSchedulingPolicyPreference,
       CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE},
      {&cudaFuncAttributes::nonPortableClusterSizeAllowed,
       CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED},
  };
  out = {};
  for (const SizeField& field : kSizes) {
    int value = 0;
    if (const CUresult got = attribute(function, field.id, &value); got != CUDA_SUCCESS) return got;
    out.*field.member = static_cast<std::size_t>(value);
  }
  for (const IntField& field : kInts)
    if (const CUresult got = attribute(function, field.id, &(out.*field.member)); got != CUDA_SUCCESS)
      return got;
  return CUDA_SUCCESS;
}

bool settable(cudaFuncAttribute id) {
  switch (id) {
    case cudaFuncAttributeMaxDynamicSharedMemorySize:
    case cudaFuncAttributePreferredSharedMemoryCarveout:
    case cudaFuncAttributeRequiredClusterWidth:
    case cudaFuncAttributeRequiredClusterHeight:
    case cudaFuncAttributeRequiredClusterDepth:
    case cudaFuncAttributeNonPortableClusterSizeAllowed:
    case cudaFuncAttributeClusterSchedulingPolicyPreference:
      return true;
    default:
      return false;
  }
}

static_assert(static_cast<int>(cudaFuncAttributeMaxDynamicSharedMemorySize) ==
              CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
static_assert(static_cast<int>(cudaFuncAttributeClusterSchedulingPolicyPreference) ==
              CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE);

CUlaunchConfig driver_config(const cudaLaunchConfig_t& config) {
  return {
      .gridDimX = config.gridDim.x,
      .gridDimY = config.gridDim.y,
      .gridDimZ = config.gridDim.z,
      .blockDimX = config.blockDim.x,
      .blockDimY = config.blockDim.y,
      .blockDimZ = config.blockDim.z,
      .sharedMemBytes = static_cast<unsigned>(config.dynamicSmemBytes),
      .hStream = config.stream,
      .attrs = reinterpret_cast<CUlaunchAttribute*>(config.attrs),
      .numAttrs = config.numAttrs,
  };
}

}  // namespace

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* symbol) {
  AVEC_COUNTED;
  if (attributes == nullptr) return done(cudaErrorInvalidValue);
  return with_function(symbol, [&](CUfunction function) { return fill_attributes(function, *attributes); });
}

cudaError_t cudaFuncSetAttribute(const void* symbol, cudaFuncAttribute id, int value) {
  AVEC_COUNTED;
  if (!settable(id)) return done(cudaErrorInvalidValue);
  const cudaError_t result = with_function(symbol, [&](CUfunction function) {
    return cuFuncSetAttribute(function, static_cast<CUfunction_attribute>(id), value);
  });
  // Unlike other functions, NVIDIA's takes an earlier error away when it succeeds (seen with 13.0).
  if (result == cudaSuccess) this_thread.last_error = cudaSuccess;
  return result;
}

cudaError_t cudaFuncSetCacheConfig(const void* symbol, cudaFuncCache config) {
  AVEC_COUNTED;
  return with_function(symbol, [&](CUfunction function) {
    return cuFuncSetCacheConfig(function, static_cast<CUfunc_cache>(config));
  });
}

// No effect since compute capability 5.0, as on the device.
cudaError_t cudaFuncSetSharedMemConfig(const void* symbol, cudaSharedMemConfig) {
  AVEC_COUNTED;
  return with_function(symbol, [](CUfunction) { return cudaSuccess; });
}

cudaError_t cudaFuncGetName(const char** name, const void* symbol) {
  AVEC_COUNTED;
  if (name == nullptr) return done(cudaErrorInvalidValue);
  const Kernel* kernel = find_kernel(symbol);
  if (kernel == nullptr) return done(cudaErrorInvalidDeviceFunction);
  *name = kernel->name.c_str();
  return cudaSuccess;
}

cudaError_t cudaFuncGetParamInfo(const void* symbol, std::size_t index, std::size_t* offset,
                                 std::size_t* bytes) {
  AVEC_COUNTED;
  if (offset == nullptr) return done(cudaErrorInvalidValue);
  return with_function(symbol, [&](CUfunction function) {
    return cuFuncGetParamInfo != nullptr ? cuFuncGetParamInfo(function, index, offset, bytes)
                                         : CUDA_ERROR_NOT_SUPPORTED;
  });
}

cudaError_t cudaKernelSetAttributeForDevice(cudaKernel_t handle, cudaFuncAttribute id, int value,
                                            int device) {
  AVEC_COUNTED;
  Kernel* kernel = find_kernel(handle);
  if (kernel == nullptr) return done(cudaErrorInvalidDeviceFunction);
  if (!settable(id)) return done(cudaErrorInvalidValue);
  CUdevice driver_device = 0;
  if (const cudaError_t checked = check_device(device, &driver_device); checked != cudaSuccess)
    return done(checked);
  CUcontext context = nullptr;
  if (const CUresult got = primary_context(device, &context); got != CUDA_SUCCESS) return done(got);
  if (const CUresult pushed = cuCtxPushCurrent(context); pushed != CUDA_SUCCESS) return done(pushed);
  CUfunction function = nullptr;
  cudaError_t error = kernel_function(*kernel, &function);
  if (error == cudaSuccess)
    error = to_runtime(cuFuncSetAttribute(function, static_cast<CUfunction_attribute>(id), value));
  cuCtxPopCurrent(&context);
  return done(error);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* symbol, int block_size,
                                                          std::size_t shared_bytes) {
  AVEC_COUNTED;
  if (blocks == nullptr) return done(cudaErrorInvalidValue);
  return with_function(symbol, [&](CUfunction function) {
    return cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, block_size, shared_bytes);
  });
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* symbol,
                                                                   int block_size, std::size_t shared_bytes,
                                                                   unsigned int flags) {
  AVEC_COUNTED;
  if (blocks == nullptr) return done(cudaErrorInvalidValue);
  return with_function(symbol, [&](CUfunction function) {
    return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, block_size, shared_bytes,
                                                                flags);
  });
}

cudaError_t cudaOccupancyAvailableDynamicSMemPerBlock(std::size_t* bytes, const void* symbol, int blocks,
                                                      int block_size) {
  AVEC_COUNTED;
  if (bytes == nullptr) return done(cudaErrorInvalidValue);
  return with_function(symbol, [&](CUfunction function) {
    return cuOccupancyAvailableDynamicSMemPerBlock != nullptr
               ? cuOccupancyAvailableDynamicSMemPerBlock(bytes, function, blocks, block_size)
               : CUDA_ERROR_NOT_SUPPORTED;
  });
}

cudaError_t cudaOccupancyMaxPotentialClusterSize(int* size, const void* symbol,
                                                 const cudaLaunchConfig_t* config) {
  AVEC_COUNTED;
  if (size == nullptr || config == nullptr) return done(cudaErrorInvalidValue);
  return with_function(symbol, [&](CUfunction function) {
    const CUlaunchConfig translated = driver_config(*config);
    return cuOccupancyMaxPotentialClusterSize != nullptr
               ? cuOccupancyMaxPotentialClusterSize(size, function, &translated)
               : CUDA_ERROR_NOT_SUPPORTED;
  });
}

cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void* symbol,
                                           const cudaLaunchConfig_t* config) {
  AVEC_COUNTED;
  if (clusters == nullptr || config == nullptr) return done(cudaErrorInvalidValue);
  return with_function(symbol, [&](CUfunction function) {
    const CUlaunchConfig translated = driver_config(*config);
    return cuOccupancyMaxActiveClusters != nullptr
               ? cuOccupancyMaxActiveClusters(clusters, function, &translated)
               : CUDA_ERROR_NOT_SUPPORTED;
  });
}
