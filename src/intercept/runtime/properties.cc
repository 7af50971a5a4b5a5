// cudaDeviceProp, filled from the driver's attributes.
#include <algorithm>
#include <cstring>

#include "api.h"
#include "weak_driver.h"

using namespace avec::runtime;

namespace {

struct IntProperty {
  int cudaDeviceProp::* member;
  CUdevice_attribute attribute;
};

struct SizeProperty {
  std::size_t cudaDeviceProp::* member;
  CUdevice_attribute attribute;
};

constexpr IntProperty kInts[] = {
    {&cudaDeviceProp::regsPerBlock, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK},
    {&cudaDeviceProp::warpSize, CU_DEVICE_ATTRIBUTE_WARP_SIZE},
    {&cudaDeviceProp::maxThreadsPerBlock, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK},
    {&cudaDeviceProp::major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR},
    {&cudaDeviceProp::minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR},
    {&cudaDeviceProp::multiProcessorCount, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT},
    {&cudaDeviceProp::integrated, CU_DEVICE_ATTRIBUTE_INTEGRATED},
    {&cudaDeviceProp::canMapHostMemory, CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY},
    {&cudaDeviceProp::maxTexture1D, CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_WIDTH},
    {&cudaDeviceProp::maxTexture1DMipmap, CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_MIPMAPPED_WIDTH},
    {&cudaDeviceProp::maxTextureCubemap, CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURECUBEMAP_WIDTH},
    {&cudaDeviceProp::maxSurface1D, CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE1D_WIDTH},
    {&cudaDeviceProp::maxSurfaceCubemap, CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACECUBEMAP_WIDTH},
    {&cudaDeviceProp::concurrentKernels, CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS},
    {&cudaDeviceProp::ECCEnabled, CU_DEVICE_ATTRIBUTE_ECC_ENABLED},
    {&cudaDeviceProp::pciBusID, CU_DEVICE_ATTRIBUTE_PCI_BUS_ID},
    {&cudaDeviceProp::pciDeviceID, CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID},
    {&cudaDeviceProp::pciDomainID, CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID},
    {&cudaDeviceProp::tccDriver, CU_DEVICE_ATTRIBUTE_TCC_DRIVER},
    {&cudaDeviceProp::asyncEngineCount, CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT},
    {&cudaDeviceProp::unifiedAddressing, CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING},
    {&cudaDeviceProp::memoryBusWidth, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH},
    {&cudaDeviceProp::l2CacheSize, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE},
    {&cudaDeviceProp::persistingL2CacheMaxSize, CU_DEVICE_ATTRIBUTE_MAX_PERSISTING_L2_CACHE_SIZE},
    {&cudaDeviceProp::maxThreadsPerMultiProcessor, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR},
    {&cudaDeviceProp::streamPrioritiesSupported, CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED},
    {&cudaDeviceProp::globalL1CacheSupported, CU_DEVICE_ATTRIBUTE_GLOBAL_L1_CACHE_SUPPORTED},
    {&cudaDeviceProp::localL1CacheSupported, CU_DEVICE_ATTRIBUTE_LOCAL_L1_CACHE_SUPPORTED},
    {&cudaDeviceProp::regsPerMultiprocessor, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR},
    {&cudaDeviceProp::managedMemory, CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY},
    {&cudaDeviceProp::isMultiGpuBoard, CU_DEVICE_ATTRIBUTE_MULTI_GPU_BOARD},
    {&cudaDeviceProp::multiGpuBoardGroupID, CU_DEVICE_ATTRIBUTE_MULTI_GPU_BOARD_GROUP_ID},
    {&cudaDeviceProp::hostNativeAtomicSupported, CU_DEVICE_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED},
    {&cudaDeviceProp::pageableMemoryAccess, CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS},
    {&cudaDeviceProp::concurrentManagedAccess, CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS},
    {&cudaDeviceProp::computePreemptionSupported, CU_DEVICE_ATTRIBUTE_COMPUTE_PREEMPTION_SUPPORTED},
    {&cudaDeviceProp::canUseHostPointerForRegisteredMem,
     CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM},
    {&cudaDeviceProp::cooperativeLaunch, CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH},
    {&cudaDeviceProp::pageableMemoryAccessUsesHostPageTables,
     CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES},
    {&cudaDeviceProp::directManagedMemAccessFromHost,
     CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST},
    {&cudaDeviceProp::maxBlocksPerMultiProcessor, CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR},
    {&cudaDeviceProp::accessPolicyMaxWindowSize, CU_DEVICE_ATTRIBUTE_MAX_ACCESS_POLICY_WINDOW_SIZE},
    {&cudaDeviceProp::hostRegisterSupported, CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED},
    {&cudaDeviceProp::sparseCudaArraySupported, CU_DEVICE_ATTRIBUTE_SPARSE_CUDA_ARRAY_SUPPORTED},
    {&cudaDeviceProp::hostRegisterReadOnlySupported, CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED},
    {&cudaDeviceProp::timelineSemaphoreInteropSupported,
     CU_DEVICE_ATTRIBUTE_TIMELINE_SEMAPHORE_INTEROP_SUPPORTED},
    {&cudaDeviceProp::memoryPoolsSupported, CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED},
    {&cudaDeviceProp::gpuDirectRDMASupported, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED},
    {&cudaDeviceProp::gpuDirectRDMAWritesOrdering, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING},
    {&cudaDeviceProp::deferredMappingCudaArraySupported,
     CU_DEVICE_ATTRIBUTE_DEFERRED_MAPPING_CUDA_ARRAY_SUPPORTED},
    {&cudaDeviceProp::ipcEventSupported, CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED},
    {&cudaDeviceProp::clusterLaunch, CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH},
    {&cudaDeviceProp::unifiedFunctionPointers, CU_DEVICE_ATTRIBUTE_UNIFIED_FUNCTION_POINTERS},
    {&cudaDeviceProp::deviceNumaConfig, CU_DEVICE_ATTRIBUTE_NUMA_CONFIG},
    {&cudaDeviceProp::deviceNumaId, CU_DEVICE_ATTRIBUTE_NUMA_ID},
    {&cudaDeviceProp::mpsEnabled, CU_DEVICE_ATTRIBUTE_MPS_ENABLED},
    {&cudaDeviceProp::hostNumaId, CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID},
    {&cudaDeviceProp::hostNumaMultinodeIpcSupported, CU_DEVICE_ATTRIBUTE_HOST_NUMA_MULTINODE_IPC_SUPPORTED},
};

constexpr SizeProperty kSizes[] = {
    {&cudaDeviceProp::sharedMemPerBlock, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK},
    {&cudaDeviceProp::memPitch, CU_DEVICE_ATTRIBUTE_MAX_PITCH},
    {&cudaDeviceProp::totalConstMem, CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY},
    {&cudaDeviceProp::textureAlignment, CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT},
    {&cudaDeviceProp::texturePitchAlignment, CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT},
    {&cudaDeviceProp::surfaceAlignment, CU_DEVICE_ATTRIBUTE_SURFACE_ALIGNMENT},
    {&cudaDeviceProp::sharedMemPerMultiprocessor, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR},
    {&cudaDeviceProp::sharedMemPerBlockOptin, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN},
    {&cudaDeviceProp::reservedSharedMemPerBlock, CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK},
};

/// An attribute that the driver does not know is 0, as it is on devices without the feature.
int attribute(CUdevice device, CUdevice_attribute id) {
  int value = 0;
  return cuDeviceGetAttribute(&value, id, device) == CUDA_SUCCESS ? value : 0;
}

template <std::size_t N>
void fill(CUdevice device, int (&values)[N], const CUdevice_attribute (&attributes)[N]) {
  for (std::size_t i = 0; i < N; ++i) values[i] = attribute(device, attributes[i]);
}

void fill_arrays(CUdevice device, cudaDeviceProp& p) {
#define AVEC_A(name) CU_DEVICE_ATTRIBUTE_##name
  fill(device, p.maxThreadsDim, {AVEC_A(MAX_BLOCK_DIM_X), AVEC_A(MAX_BLOCK_DIM_Y), AVEC_A(MAX_BLOCK_DIM_Z)});
  fill(device, p.maxGridSize, {AVEC_A(MAX_GRID_DIM_X), AVEC_A(MAX_GRID_DIM_Y), AVEC_A(MAX_GRID_DIM_Z)});
  fill(device, p.maxTexture2D, {AVEC_A(MAXIMUM_TEXTURE2D_WIDTH), AVEC_A(MAXIMUM_TEXTURE2D_HEIGHT)});
  fill(device, p.maxTexture2DMipmap,
       {AVEC_A(MAXIMUM_TEXTURE2D_MIPMAPPED_WIDTH), AVEC_A(MAXIMUM_TEXTURE2D_MIPMAPPED_HEIGHT)});
  fill(device, p.maxTexture2DLinear,
       {AVEC_A(MAXIMUM_TEXTURE2D_LINEAR_WIDTH), AVEC_A(MAXIMUM_TEXTURE2D_LINEAR_HEIGHT),
        AVEC_A(MAXIMUM_TEXTURE2D_LINEAR_PITCH)});
  fill(device, p.maxTexture2DGather,
       {AVEC_A(MAXIMUM_TEXTURE2D_GATHER_WIDTH), AVEC_A(MAXIMUM_TEXTURE2D_GATHER_HEIGHT)});
  fill(device, p.maxTexture3D,
       {AVEC_A(MAXIMUM_TEXTURE3D_WIDTH), AVEC_A(MAXIMUM_TEXTURE3D_HEIGHT), AVEC_A(MAXIMUM_TEXTURE3D_DEPTH)});
  fill(device, p.maxTexture3DAlt,
       {AVEC_A(MAXIMUM_TEXTURE3D_WIDTH_ALTERNATE), AVEC_A(MAXIMUM_TEXTURE3D_HEIGHT_ALTERNATE),
        AVEC_A(MAXIMUM_TEXTURE3D_DEPTH_ALTERNATE)});
  fill(device, p.maxTexture1DLayered,
       {AVEC_A(MAXIMUM_TEXTURE1D_LAYERED_WIDTH), AVEC_A(MAXIMUM_TEXTURE1D_LAYERED_LAYERS)});
  fill(device, p.maxTexture2DLayered,
       {AVEC_A(MAXIMUM_TEXTURE2D_LAYERED_WIDTH), AVEC_A(MAXIMUM_TEXTURE2D_LAYERED_HEIGHT),
        AVEC_A(MAXIMUM_TEXTURE2D_LAYERED_LAYERS)});
  fill(device, p.maxTextureCubemapLayered,
       {AVEC_A(MAXIMUM_TEXTURECUBEMAP_LAYERED_WIDTH), AVEC_A(MAXIMUM_TEXTURECUBEMAP_LAYERED_LAYERS)});
  fill(device, p.maxSurface2D, {AVEC_A(MAXIMUM_SURFACE2D_WIDTH), AVEC_A(MAXIMUM_SURFACE2D_HEIGHT)});
  fill(device, p.maxSurface3D,
       {AVEC_A(MAXIMUM_SURFACE3D_WIDTH), AVEC_A(MAXIMUM_SURFACE3D_HEIGHT), AVEC_A(MAXIMUM_SURFACE3D_DEPTH)});
  fill(device, p.maxSurface1DLayered,
       {AVEC_A(MAXIMUM_SURFACE1D_LAYERED_WIDTH), AVEC_A(MAXIMUM_SURFACE1D_LAYERED_LAYERS)});
  fill(device, p.maxSurface2DLayered,
       {AVEC_A(MAXIMUM_SURFACE2D_LAYERED_WIDTH), AVEC_A(MAXIMUM_SURFACE2D_LAYERED_HEIGHT),
        AVEC_A(MAXIMUM_SURFACE2D_LAYERED_LAYERS)});
  fill(device, p.maxSurfaceCubemapLayered,
       {AVEC_A(MAXIMUM_SURFACECUBEMAP_LAYERED_WIDTH), AVEC_A(MAXIMUM_SURFACECUBEMAP_LAYERED_LAYERS)});
#undef AVEC_A
}

CUresult fill_properties(CUdevice device, cudaDeviceProp& properties) {
  std::memset(&properties, 0, sizeof properties);
  if (const CUresult got = cuDeviceGetName(properties.name, sizeof properties.name, device);
      got != CUDA_SUCCESS)
    return got;
  if (const CUresult got = cuDeviceTotalMem(&properties.totalGlobalMem, device); got != CUDA_SUCCESS)
    return got;
  CUuuid uuid{};
  if (cuDeviceGetUuid_v2 != nullptr && cuDeviceGetUuid_v2(&uuid, device) == CUDA_SUCCESS)
    std::memcpy(properties.uuid.bytes, uuid.bytes, sizeof uuid.bytes);
  for (const IntProperty& entry : kInts) properties.*entry.member = attribute(device, entry.attribute);
  for (const SizeProperty& entry : kSizes)
    properties.*entry.member = static_cast<std::size_t>(attribute(device, entry.attribute));
  fill_arrays(device, properties);
  const auto word = [&](CUdevice_attribute id) { return static_cast<unsigned>(attribute(device, id)); };
  properties.gpuDirectRDMAFlushWritesOptions = word(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS);
  properties.memoryPoolSupportedHandleTypes = word(CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES);
  properties.gpuPciDeviceID = word(CU_DEVICE_ATTRIBUTE_GPU_PCI_DEVICE_ID);
  properties.gpuPciSubsystemID = word(CU_DEVICE_ATTRIBUTE_GPU_PCI_SUBSYSTEM_ID);
  return CUDA_SUCCESS;
}

/// How well a device meets a wish: fields that are set in the wish and satisfied by the device.
int score(const cudaDeviceProp& wish, const cudaDeviceProp& device) {
  int met = 0;
  if (wish.major != 0 || wish.minor != 0)
    met += (device.major > wish.major || (device.major == wish.major && device.minor >= wish.minor)) ? 8 : 0;
  if (wish.name[0] != 0) met += std::strncmp(wish.name, device.name, sizeof wish.name) == 0 ? 8 : 0;
  if (wish.totalGlobalMem != 0) met += device.totalGlobalMem >= wish.totalGlobalMem ? 4 : 0;
  if (wish.multiProcessorCount != 0) met += device.multiProcessorCount >= wish.multiProcessorCount ? 2 : 0;
  if (wish.integrated != 0) met += device.integrated == wish.integrated ? 1 : 0;
  return met;
}

}  // namespace

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  AVEC_COUNTED;
  if (properties == nullptr) return done(cudaErrorInvalidValue);
  CUdevice handle = 0;
  if (const cudaError_t checked = check_device(device, &handle); checked != cudaSuccess) return done(checked);
  return done(fill_properties(handle, *properties));
}

cudaError_t cudaChooseDevice(int* device, const cudaDeviceProp* wish) {
  AVEC_COUNTED;
  if (device == nullptr || wish == nullptr) return done(cudaErrorInvalidValue);
  int count = 0;
  if (const CUresult counted = device_count(&count); counted != CUDA_SUCCESS) return done(counted);
  int best = -1;
  for (int i = 0; i < count; ++i) {
    CUdevice handle = 0;
    cudaDeviceProp properties;
    if (const CUresult got = cuDeviceGet(&handle, i); got != CUDA_SUCCESS) return done(got);
    if (const CUresult got = fill_properties(handle, properties); got != CUDA_SUCCESS) return done(got);
    if (const int met = score(*wish, properties); met > best) {
      best = met;
      *device = i;
    }
  }
  return cudaSuccess;
}
