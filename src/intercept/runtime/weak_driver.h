// Driver functions that a driver may lack (CUDA 11.x and 12.x added them): null when it does.
#pragma once

#include <cuda.h>

#pragma weak cuCtxGetId
#pragma weak cuMemAllocAsync
#pragma weak cuMemFreeAsync
#pragma weak cuLaunchKernelEx
#pragma weak cuModuleGetFunctionCount
#pragma weak cuModuleEnumerateFunctions
#pragma weak cuFuncGetName
#pragma weak cuFuncGetParamInfo
#pragma weak cuStreamGetId
#pragma weak cuStreamGetDevice
#pragma weak cuStreamIsCapturing
#pragma weak cuStreamCopyAttributes
#pragma weak cuStreamGetAttribute
#pragma weak cuStreamSetAttribute
#pragma weak cuEventRecordWithFlags
#pragma weak cuOccupancyAvailableDynamicSMemPerBlock
#pragma weak cuOccupancyMaxPotentialClusterSize
#pragma weak cuOccupancyMaxActiveClusters
#pragma weak cuGetProcAddress_v2
#pragma weak cuLinkCreate_v2
#pragma weak cuLinkAddData_v2
#pragma weak cuLinkComplete
#pragma weak cuLinkDestroy
#pragma weak cuFlushGPUDirectRDMAWrites
#pragma weak cuDeviceGetHostAtomicCapabilities
#pragma weak cuDeviceGetP2PAtomicCapabilities
#pragma weak cuLogsCurrent
#pragma weak cuLogsDumpToFile
#pragma weak cuLogsDumpToMemory
#pragma weak cuLogsRegisterCallback
#pragma weak cuLogsUnregisterCallback
#pragma weak cuDeviceGetLuid
#pragma weak cuDeviceGetUuid_v2
#pragma weak cuDeviceGetP2PAttribute
#pragma weak cuDeviceGetTexture1DLinearMaxWidth
#pragma weak cuCtxResetPersistingL2Cache
#pragma weak cuCtxGetFlags
#pragma weak cuMemcpy3D_v2
#pragma weak cuMemcpy3DAsync_v2
#pragma weak cuStreamAddCallback
#pragma weak cuLaunchHostFunc
#pragma weak cuLaunchCooperativeKernel
