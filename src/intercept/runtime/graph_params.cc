#include "graph_params.h"

#include <climits>
#include <cstring>

#include "api.h"
#include "copy.h"
#include "registry.h"

namespace avec::runtime {
namespace {

static_assert(sizeof(cudaMemPoolProps) == sizeof(CUmemPoolProps));
static_assert(sizeof(cudaMemAccessDesc) == sizeof(CUmemAccessDesc));
static_assert(sizeof(cudaGraphNodeParams) == sizeof(CUgraphNodeParams));
static_assert(sizeof(cudaGraphEdgeData) == sizeof(CUgraphEdgeData));

/// Bytes of an element of an array.
cudaError_t element_of(cudaArray_const_t array, std::size_t& bytes) {
  CUDA_ARRAY3D_DESCRIPTOR description{};
  const CUresult found =
      cuArray3DGetDescriptor(&description, reinterpret_cast<CUarray>(const_cast<cudaArray_t>(array)));
  if (found != CUDA_SUCCESS) return to_runtime(found);
  switch (description.Format) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
    case CU_AD_FORMAT_SIGNED_INT8:
      bytes = 1;
      break;
    case CU_AD_FORMAT_UNSIGNED_INT16:
    case CU_AD_FORMAT_SIGNED_INT16:
    case CU_AD_FORMAT_HALF:
      bytes = 2;
      break;
    default:
      bytes = 4;
  }
  bytes *= description.NumChannels;
  return cudaSuccess;
}

/// One side that is memory, at `host` or `device` by its type.
void place(const cudaPitchedPtr& memory, bool on_device, CUmemorytype& type, const void** host,
           CUdeviceptr& device, std::size_t& pitch, std::size_t& height) {
  type = on_device ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
  if (on_device)
    device = device_pointer(memory.ptr);
  else
    *host = memory.ptr;
  pitch = memory.pitch;
  height = memory.ysize;
}

cudaMemcpyKind kind_of(bool to_device, bool from_device) {
  if (to_device) return from_device ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice;
  return from_device ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost;
}

cudaPitchedPtr pitched(CUmemorytype type, const void* host, CUdeviceptr device, std::size_t pitch,
                       std::size_t width, std::size_t height) {
  void* pointer = type == CU_MEMORYTYPE_HOST ? const_cast<void*>(host) : reinterpret_cast<void*>(device);
  return {pointer, pitch, width, height};
}

cudaError_t locate(const void* symbol, std::size_t bytes, std::size_t offset, char*& address) {
  Variable* variable = find_variable(symbol);
  if (variable == nullptr) return cudaErrorInvalidSymbol;
  CUdeviceptr base = 0;
  std::size_t size = 0;
  if (const cudaError_t found = variable_address(*variable, &base, &size); found != cudaSuccess) return found;
  if (offset > size || bytes > size - offset) return cudaErrorInvalidValue;
  address = reinterpret_cast<char*>(base) + offset;
  return cudaSuccess;
}

}  // namespace

CUcontext current_context() noexcept {
  CUcontext context = nullptr;
  cuCtxGetCurrent(&context);
  return context;
}

cudaError_t to_driver(const cudaKernelNodeParams& given, CUDA_KERNEL_NODE_PARAMS& params) {
  params = {};
  if (given.func == nullptr) return cudaErrorInvalidDeviceFunction;
  if (const cudaError_t found = find_function(given.func, &params.func); found != cudaSuccess) return found;
  params.gridDimX = given.gridDim.x;
  params.gridDimY = given.gridDim.y;
  params.gridDimZ = given.gridDim.z;
  params.blockDimX = given.blockDim.x;
  params.blockDimY = given.blockDim.y;
  params.blockDimZ = given.blockDim.z;
  params.sharedMemBytes = given.sharedMemBytes;
  params.kernelParams = given.kernelParams;
  params.extra = given.extra;
  return cudaSuccess;
}

void to_runtime(const CUDA_KERNEL_NODE_PARAMS& params, cudaKernelNodeParams& shown) {
  shown.func = const_cast<void*>(symbol_of(params.func));
  shown.gridDim = {params.gridDimX, params.gridDimY, params.gridDimZ};
  shown.blockDim = {params.blockDimX, params.blockDimY, params.blockDimZ};
  shown.sharedMemBytes = params.sharedMemBytes;
  shown.kernelParams = params.kernelParams;
  shown.extra = params.extra;
}

cudaError_t to_driver(const cudaMemcpy3DParms& given, CUDA_MEMCPY3D& params) {
  params = {};
  if ((given.srcArray != nullptr) == (given.srcPtr.ptr != nullptr) ||
      (given.dstArray != nullptr) == (given.dstPtr.ptr != nullptr)) {
    return cudaErrorInvalidValue;
  }
  // An array stands for device memory.
  Direction direction;
  const void* from = given.srcPtr.ptr != nullptr ? given.srcPtr.ptr : given.dstPtr.ptr;
  const void* to = given.dstPtr.ptr != nullptr ? given.dstPtr.ptr : given.srcPtr.ptr;
  if (from == nullptr)
    direction = Direction::kDeviceToDevice;
  else if (!direction_of(given.kind, to, from, &direction))
    return cudaErrorInvalidMemcpyDirection;
  const bool from_device = direction == Direction::kDeviceToHost || direction == Direction::kDeviceToDevice;
  const bool to_device = direction == Direction::kHostToDevice || direction == Direction::kDeviceToDevice;
  std::size_t element = 1;
  for (const cudaArray_t array : {given.srcArray, given.dstArray}) {
    if (array == nullptr) continue;
    if (const cudaError_t error = element_of(array, element); error != cudaSuccess) return error;
  }
  params.srcXInBytes = given.srcPos.x * (given.srcArray != nullptr ? element : 1);
  params.srcY = given.srcPos.y;
  params.srcZ = given.srcPos.z;
  if (given.srcArray != nullptr) {
    params.srcMemoryType = CU_MEMORYTYPE_ARRAY;
    params.srcArray = reinterpret_cast<CUarray>(given.srcArray);
  } else {
    place(given.srcPtr, from_device, params.srcMemoryType, &params.srcHost, params.srcDevice, params.srcPitch,
          params.srcHeight);
  }
  params.dstXInBytes = given.dstPos.x * (given.dstArray != nullptr ? element : 1);
  params.dstY = given.dstPos.y;
  params.dstZ = given.dstPos.z;
  if (given.dstArray != nullptr) {
    params.dstMemoryType = CU_MEMORYTYPE_ARRAY;
    params.dstArray = reinterpret_cast<CUarray>(given.dstArray);
  } else {
    const void* host = nullptr;
    place(given.dstPtr, to_device, params.dstMemoryType, &host, params.dstDevice, params.dstPitch,
          params.dstHeight);
    params.dstHost = const_cast<void*>(host);
  }
  params.WidthInBytes = given.extent.width * element;
  params.Height = given.extent.height;
  params.Depth = given.extent.depth;
  return cudaSuccess;
}

void to_runtime(const CUDA_MEMCPY3D& params, cudaMemcpy3DParms& shown) {
  shown = {};
  std::size_t element = 1;
  for (const CUarray array : {params.srcArray, params.dstArray}) {
    if (array != nullptr && element_of(reinterpret_cast<cudaArray_const_t>(array), element) != cudaSuccess)
      element = 1;
  }
  if (params.srcMemoryType == CU_MEMORYTYPE_ARRAY) {
    shown.srcArray = reinterpret_cast<cudaArray_t>(params.srcArray);
    shown.srcPos.x = params.srcXInBytes / element;
  } else {
    shown.srcPtr = pitched(params.srcMemoryType, params.srcHost, params.srcDevice, params.srcPitch,
                           params.WidthInBytes, params.srcHeight);
    shown.srcPos.x = params.srcXInBytes;
  }
  shown.srcPos.y = params.srcY;
  shown.srcPos.z = params.srcZ;
  if (params.dstMemoryType == CU_MEMORYTYPE_ARRAY) {
    shown.dstArray = reinterpret_cast<cudaArray_t>(params.dstArray);
    shown.dstPos.x = params.dstXInBytes / element;
  } else {
    shown.dstPtr = pitched(params.dstMemoryType, params.dstHost, params.dstDevice, params.dstPitch,
                           params.WidthInBytes, params.dstHeight);
    shown.dstPos.x = params.dstXInBytes;
  }
  shown.dstPos.y = params.dstY;
  shown.dstPos.z = params.dstZ;
  shown.extent = {params.WidthInBytes / element, params.Height, params.Depth};
  const bool unified =
      params.srcMemoryType == CU_MEMORYTYPE_UNIFIED || params.dstMemoryType == CU_MEMORYTYPE_UNIFIED;
  shown.kind = unified ? cudaMemcpyDefault
                       : kind_of(params.dstMemoryType != CU_MEMORYTYPE_HOST,
                                 params.srcMemoryType != CU_MEMORYTYPE_HOST);
}

cudaError_t linear_copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                        CUDA_MEMCPY3D& params) {
  if (to == nullptr || from == nullptr) return cudaErrorInvalidValue;
  cudaMemcpy3DParms copy{};
  copy.srcPtr = {const_cast<void*>(from), bytes, bytes, 1};
  copy.dstPtr = {to, bytes, bytes, 1};
  copy.extent = {bytes, 1, 1};
  copy.kind = kind;
  return to_driver(copy, params);
}

cudaError_t copy_to_symbol(const void* symbol, const void* from, std::size_t bytes, std::size_t offset,
                           cudaMemcpyKind kind, CUDA_MEMCPY3D& params) {
  if (kind != cudaMemcpyHostToDevice && kind != cudaMemcpyDeviceToDevice && kind != cudaMemcpyDefault) {
    return cudaErrorInvalidMemcpyDirection;
  }
  char* address = nullptr;
  if (const cudaError_t error = locate(symbol, bytes, offset, address); error != cudaSuccess) return error;
  return linear_copy(address, from, bytes, kind, params);
}

cudaError_t copy_from_symbol(void* to, const void* symbol, std::size_t bytes, std::size_t offset,
                             cudaMemcpyKind kind, CUDA_MEMCPY3D& params) {
  if (kind != cudaMemcpyDeviceToHost && kind != cudaMemcpyDeviceToDevice && kind != cudaMemcpyDefault) {
    return cudaErrorInvalidMemcpyDirection;
  }
  char* address = nullptr;
  if (const cudaError_t error = locate(symbol, bytes, offset, address); error != cudaSuccess) return error;
  return linear_copy(to, address, bytes, kind, params);
}

cudaError_t to_driver(const cudaMemsetParams& given, CUDA_MEMSET_NODE_PARAMS& params) {
  params = {device_pointer(given.dst), given.pitch, given.value,
            given.elementSize,         given.width, given.height};
  return cudaSuccess;
}

cudaError_t to_driver(const cudaGraphNodeParams& given, CUgraphNodeParams& params) {
  std::memset(static_cast<void*>(&params), 0, sizeof params);
  params.type = static_cast<CUgraphNodeType>(given.type);
  std::memcpy(params.reserved0, given.reserved0, sizeof params.reserved0);
  params.reserved2 = given.reserved2;
  switch (given.type) {
    case cudaGraphNodeTypeKernel: {
      const auto& k = given.kernel;
      if (k.func == nullptr) return cudaErrorInvalidDeviceFunction;
      CUfunction function = nullptr;
      if (const cudaError_t found = find_function(k.func, &function); found != cudaSuccess) return found;
      params.kernel = {function,       k.gridDim.x,  k.gridDim.y,  k.gridDim.z,
                       k.blockDim.x,   k.blockDim.y, k.blockDim.z, k.sharedMemBytes,
                       k.kernelParams, k.extra,      nullptr,      nullptr};
      return cudaSuccess;
    }
    case cudaGraphNodeTypeMemcpy:
      params.memcpy.flags = given.memcpy.flags;
      params.memcpy.copyCtx = current_context();
      return to_driver(given.memcpy.copyParams, params.memcpy.copyParams);
    case cudaGraphNodeTypeMemset: {
      const auto& m = given.memset;
      params.memset = {device_pointer(m.dst), m.pitch, m.value, m.elementSize, m.width, m.height,
                       current_context()};
      return cudaSuccess;
    }
    case cudaGraphNodeTypeConditional: {
      const auto& c = given.conditional;
      params.conditional = {c.handle, static_cast<CUgraphConditionalNodeType>(c.type), c.size, nullptr,
                            current_context()};
      return cudaSuccess;
    }
    default:  // the same in both
      std::memcpy(params.reserved1, given.reserved1, sizeof params.reserved1);
      return cudaSuccess;
  }
}

void take_results(const CUgraphNodeParams& params, cudaGraphNodeParams& given) {
  if (given.type == cudaGraphNodeTypeMemAlloc) given.alloc.dptr = reinterpret_cast<void*>(params.alloc.dptr);
  if (given.type == cudaGraphNodeTypeConditional)
    given.conditional.phGraph_out = params.conditional.phGraph_out;
}

}  // namespace avec::runtime
