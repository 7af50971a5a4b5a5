// The driver API as a table of functions, loaded from a shared library: the real
// libcuda.so.1, the CPU device, or a test's own functions.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <expected>
#include <string>

#include "simple_functions.h"  // generated

// Every driver function that the worker calls. cuda.h maps a plain name to the versioned
// symbol by a macro, so members carry the versioned name, and so does every use of them.
#define AVEC_DRIVER_FUNCTIONS(X)                                                            \
  X(cuInit)                                                                                 \
  X(cuDriverGetVersion)                                                                     \
  X(cuDeviceGetCount)                                                                       \
  X(cuDeviceGet)                                                                            \
  X(cuDeviceGetName)                                                                        \
  X(cuDeviceGetUuid)                                                                        \
  X(cuDeviceTotalMem)                                                                       \
  X(cuDeviceGetAttribute)                                                                   \
  X(cuDeviceGetPCIBusId)                                                                    \
  X(cuDevicePrimaryCtxRetain)                                                               \
  X(cuDevicePrimaryCtxRelease)                                                              \
  X(cuDevicePrimaryCtxSetFlags)                                                             \
  X(cuCtxCreate)                                                                            \
  X(cuCtxDestroy)                                                                           \
  X(cuCtxSetCurrent)                                                                        \
  X(cuCtxGetStreamPriorityRange)                                                            \
  X(cuCtxGetLimit)                                                                          \
  X(cuCtxSetLimit)                                                                          \
  X(cuCtxSetCacheConfig)                                                                    \
  X(cuMemGetInfo)                                                                           \
  X(cuCtxEnablePeerAccess)                                                                  \
  X(cuCtxDisablePeerAccess)                                                                 \
  X(cuMemRetainAllocationHandle)                                                            \
  X(cuMemExportToShareableHandle)                                                           \
  X(cuMemImportFromShareableHandle)                                                         \
  X(cuIpcGetEventHandle)                                                                    \
  X(cuIpcOpenEventHandle)                                                                   \
  X(cuMemAddressReserve)                                                                    \
  X(cuMemAddressFree)                                                                       \
  X(cuMemCreate)                                                                            \
  X(cuMemRelease)                                                                           \
  X(cuMemMap)                                                                               \
  X(cuMemUnmap)                                                                             \
  X(cuMemSetAccess)                                                                         \
  X(cuMemGetAllocationGranularity)                                                          \
  X(cuMemHostAlloc)                                                                         \
  X(cuMemFreeHost)                                                                          \
  X(cuMemHostRegister)                                                                      \
  X(cuMemHostUnregister)                                                                    \
  X(cuMemcpyHtoDAsync)                                                                      \
  X(cuMemcpyDtoHAsync)                                                                      \
  X(cuMemcpyDtoDAsync)                                                                      \
  X(cuMemcpy2DAsync)                                                                        \
  X(cuMemcpy3DAsync)                                                                        \
  X(cuMemsetD8Async)                                                                        \
  X(cuMemsetD16Async)                                                                       \
  X(cuMemsetD32Async)                                                                       \
  X(cuMemsetD2D8Async)                                                                      \
  X(cuMemsetD2D16Async)                                                                     \
  X(cuMemsetD2D32Async)                                                                     \
  X(cuStreamCreateWithPriority)                                                             \
  X(cuStreamDestroy)                                                                        \
  X(cuStreamIsCapturing)                                                                    \
  X(cuStreamQuery)                                                                          \
  X(cuStreamWaitEvent)                                                                      \
  X(cuEventCreate)                                                                          \
  X(cuEventDestroy)                                                                         \
  X(cuEventRecord)                                                                          \
  X(cuEventQuery)                                                                           \
  X(cuEventSynchronize)                                                                     \
  X(cuEventElapsedTime)                                                                     \
  X(cuModuleLoadDataEx)                                                                     \
  X(cuModuleUnload)                                                                         \
  X(cuModuleGetFunctionCount)                                                               \
  X(cuModuleEnumerateFunctions)                                                             \
  X(cuModuleGetGlobal)                                                                      \
  X(cuFuncGetName)                                                                          \
  X(cuFuncLoad)                                                                             \
  X(cuFuncGetParamInfo)                                                                     \
  X(cuFuncGetAttribute)                                                                     \
  X(cuFuncSetAttribute)                                                                     \
  X(cuFuncSetCacheConfig)                                                                   \
  X(cuLaunchKernel)                                                                         \
  X(cuLaunchCooperativeKernel)                                                              \
  X(cuLaunchKernelEx)                                                                       \
  X(cuStreamSetAttribute)                                                                   \
  X(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags)                                   \
  X(cuOccupancyMaxPotentialClusterSize)                                                     \
  X(cuOccupancyMaxActiveClusters)                                                           \
  X(cuLinkCreate)                                                                           \
  X(cuLinkAddData)                                                                          \
  X(cuLinkComplete)                                                                         \
  X(cuLinkDestroy)                                                                          \
  X(cuStreamBatchMemOp)                                                                     \
  X(cuTensorMapEncodeTiled)                                                                 \
  X(cuTensorMapEncodeIm2col)                                                                \
  X(cuTensorMapEncodeIm2colWide)                                                            \
  X(cuTensorMapReplaceAddress)                                                              \
  X(cuDeviceGetDevResource)                                                                 \
  X(cuCtxGetDevResource)                                                                    \
  X(cuGreenCtxGetDevResource)                                                               \
  X(cuDevSmResourceSplitByCount)                                                            \
  X(cuDevResourceGenerateDesc)                                                              \
  X(cuGreenCtxCreate)                                                                       \
  X(cuGreenCtxDestroy)                                                                      \
  X(cuCtxFromGreenCtx)                                                                      \
  X(cuCtxRecordEvent)                                                                       \
  X(cuCtxWaitEvent)                                                                         \
  X(cuArray3DCreate)                                                                        \
  X(cuArrayDestroy)                                                                         \
  X(cuArray3DGetDescriptor)                                                                 \
  X(cuArrayGetPlane)                                                                        \
  X(cuArrayGetMemoryRequirements)                                                           \
  X(cuMipmappedArrayCreate)                                                                 \
  X(cuMipmappedArrayDestroy)                                                                \
  X(cuMipmappedArrayGetLevel)                                                               \
  X(cuMipmappedArrayGetMemoryRequirements)                                                  \
  X(cuTexObjectCreate)                                                                      \
  X(cuTexObjectDestroy)                                                                     \
  X(cuSurfObjectCreate)                                                                     \
  X(cuSurfObjectDestroy)                                                                    \
  AVEC_SIMPLE_DRIVER_FUNCTIONS(X)

// Graphs and capture: null where the driver (the CPU device) has none; then none is made.
#define AVEC_DRIVER_GRAPH_FUNCTIONS(X) \
  X(cuGraphCreate) \
  X(cuGraphDestroy) \
  X(cuGraphAddNode) \
  X(cuGraphNodeSetParams) \
  X(cuGraphExecNodeSetParams) \
  X(cuGraphDestroyNode) \
  X(cuGraphAddDependencies) \
  X(cuGraphRemoveDependencies) \
  X(cuGraphClone) \
  X(cuGraphChildGraphNodeGetGraph) \
  X(cuGraphGetNodes) \
  X(cuGraphGetEdges) \
  X(cuGraphNodeGetType) \
  X(cuGraphNodeFindInClone) \
  X(cuGraphKernelNodeGetParams) \
  X(cuGraphKernelNodeGetAttribute) \
  X(cuGraphKernelNodeSetAttribute) \
  X(cuGraphKernelNodeCopyAttributes) \
  X(cuGraphMemcpyNodeGetParams) \
  X(cuGraphMemsetNodeGetParams) \
  X(cuGraphHostNodeGetParams) \
  X(cuGraphEventRecordNodeGetEvent) \
  X(cuGraphEventWaitNodeGetEvent) \
  X(cuGraphConditionalHandleCreate) \
  X(cuGraphDebugDotPrint) \
  X(cuGraphInstantiateWithParams) \
  X(cuGraphExecDestroy) \
  X(cuGraphLaunch) \
  X(cuGraphUpload) \
  X(cuGraphExecUpdate) \
  X(cuGraphNodeSetEnabled) \
  X(cuStreamBeginCapture) \
  X(cuStreamBeginCaptureToGraph) \
  X(cuStreamEndCapture) \
  X(cuStreamGetCaptureInfo) \
  X(cuStreamUpdateCaptureDependencies) \
  X(cuLaunchHostFunc) \
  X(cuEventRecordWithFlags)

// Driver functions that may be missing (null): the CPU device has none of them.
#define AVEC_DRIVER_OPTIONAL_FUNCTIONS(X) \
  AVEC_DRIVER_GRAPH_FUNCTIONS(X)          \
  X(cuMemGetHandleForAddressRange)        \
  X(cuPointerGetAttribute)                \
  X(cuFlushGPUDirectRDMAWrites)

namespace avec::worker {

/// The functions of one driver. Copied freely; the library stays loaded as long as the process.
struct DriverTable {
#define AVEC_MEMBER(name) decltype(&::name) name = nullptr;
  AVEC_DRIVER_FUNCTIONS(AVEC_MEMBER)
  AVEC_DRIVER_OPTIONAL_FUNCTIONS(AVEC_MEMBER)
#undef AVEC_MEMBER

  using OutputFunction = void (*)(int descriptor, const char* text, std::size_t bytes, void* user);
  /// Where the CPU device hands what kernels print, on the thread of a synchronising call. Null
  /// with a real driver: it writes to the process's stdout.
  void (*set_output)(OutputFunction function, void* user) = nullptr;
};

/// Loads a driver library with RTLD_LOCAL. The error is a sentence that names what is missing.
std::expected<DriverTable, std::string> load_driver(const std::string& path);

/// "CUDA_ERROR_INVALID_VALUE"-like text for logs; the number where the name is not known.
std::string cuda_status_text(int status);

}  // namespace avec::worker
