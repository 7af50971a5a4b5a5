// Memory pools, batches of copies, and memory and events shared between processes. The structures of
// the runtime API are laid out as the driver's.
#include "api.h"

using namespace avec::runtime;

static_assert(sizeof(cudaMemPoolProps) == sizeof(CUmemPoolProps));
static_assert(sizeof(cudaMemAccessDesc) == sizeof(CUmemAccessDesc));
static_assert(sizeof(cudaMemLocation) == sizeof(CUmemLocation));
static_assert(sizeof(cudaMemcpyAttributes) == sizeof(CUmemcpyAttributes));
static_assert(sizeof(cudaIpcMemHandle_t) == sizeof(CUipcMemHandle));
static_assert(sizeof(cudaIpcEventHandle_t) == sizeof(CUipcEventHandle));

namespace {

CUmemAllocationType driver_type(cudaMemAllocationType type) { return static_cast<CUmemAllocationType>(type); }
CUmemLocation* driver_location(cudaMemLocation* location) {
  return reinterpret_cast<CUmemLocation*>(location);
}

cudaError_t allocate_from_pool(void** pointer, std::size_t bytes, cudaMemPool_t pool, CUstream stream) {
  if (pointer == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&]() -> CUresult {
    *pointer = nullptr;
    if (bytes == 0) return CUDA_SUCCESS;
    CUdeviceptr address = 0;
    const CUresult result = cuMemAllocFromPoolAsync(&address, bytes, pool, stream);
    if (result == CUDA_SUCCESS) *pointer = reinterpret_cast<void*>(address);
    return result;
  });
}

/// Runs `body` with the driver's name for a device. One that there is not is an invalid value here.
template <class Body>
cudaError_t on_device(int device, Body&& body) {
  CUdevice handle = 0;
  if (const cudaError_t checked = check_device(device, &handle); checked != cudaSuccess)
    return done(checked == cudaErrorInvalidDevice ? cudaErrorInvalidValue : checked);
  return done(body(handle));
}

}  // namespace

AVEC_STREAM_PAIR(cudaMallocFromPoolAsync, _ptsz,
                 (void** pointer, std::size_t bytes, cudaMemPool_t pool, cudaStream_t stream),
                 return allocate_from_pool(pointer, bytes, pool, resolve_stream<kDefault>(stream));)

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties) {
  AVEC_COUNTED;
  if (pool == nullptr || properties == nullptr) return done(cudaErrorInvalidValue);
  return in_context(
      [&] { return cuMemPoolCreate(pool, reinterpret_cast<const CUmemPoolProps*>(properties)); });
}

cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
  AVEC_COUNTED;
  return in_context([&] { return cuMemPoolDestroy(pool); });
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, std::size_t keep) {
  AVEC_COUNTED;
  return in_context([&] { return cuMemPoolTrimTo(pool, keep); });
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  AVEC_COUNTED;
  return in_context(
      [&] { return cuMemPoolSetAttribute(pool, static_cast<CUmemPool_attribute>(attribute), value); });
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  AVEC_COUNTED;
  return in_context(
      [&] { return cuMemPoolGetAttribute(pool, static_cast<CUmemPool_attribute>(attribute), value); });
}

cudaError_t cudaMemPoolSetAccess(cudaMemPool_t pool, const cudaMemAccessDesc* access, std::size_t count) {
  AVEC_COUNTED;
  return in_context(
      [&] { return cuMemPoolSetAccess(pool, reinterpret_cast<const CUmemAccessDesc*>(access), count); });
}

cudaError_t cudaMemPoolGetAccess(cudaMemAccessFlags* flags, cudaMemPool_t pool, cudaMemLocation* location) {
  AVEC_COUNTED;
  if (flags == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&] {
    CUmemAccess_flags known = CU_MEM_ACCESS_FLAGS_PROT_NONE;
    const CUresult result = cuMemPoolGetAccess(&known, pool, driver_location(location));
    if (result == CUDA_SUCCESS) *flags = static_cast<cudaMemAccessFlags>(known);
    return result;
  });
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  AVEC_COUNTED;
  return on_device(device, [&](CUdevice handle) { return cuDeviceGetDefaultMemPool(pool, handle); });
}

cudaError_t cudaDeviceGetMemPool(cudaMemPool_t* pool, int device) {
  AVEC_COUNTED;
  return on_device(device, [&](CUdevice handle) { return cuDeviceGetMemPool(pool, handle); });
}

cudaError_t cudaDeviceSetMemPool(int device, cudaMemPool_t pool) {
  AVEC_COUNTED;
  return on_device(device, [&](CUdevice handle) { return cuDeviceSetMemPool(handle, pool); });
}

cudaError_t cudaMemGetDefaultMemPool(cudaMemPool_t* pool, cudaMemLocation* location,
                                     cudaMemAllocationType type) {
  AVEC_COUNTED;
  return in_context(
      [&] { return cuMemGetDefaultMemPool(pool, driver_location(location), driver_type(type)); });
}

cudaError_t cudaMemGetMemPool(cudaMemPool_t* pool, cudaMemLocation* location, cudaMemAllocationType type) {
  AVEC_COUNTED;
  return in_context([&] { return cuMemGetMemPool(pool, driver_location(location), driver_type(type)); });
}

cudaError_t cudaMemSetMemPool(cudaMemLocation* location, cudaMemAllocationType type, cudaMemPool_t pool) {
  AVEC_COUNTED;
  return in_context([&] { return cuMemSetMemPool(driver_location(location), driver_type(type), pool); });
}

// ---- batches --------------------------------------------------------------------------------------

AVEC_STREAM_PAIR(cudaMemcpyBatchAsync, _ptsz,
                 (void* const* to, const void* const* from, const std::size_t* bytes, std::size_t count,
                  cudaMemcpyAttributes* attributes, std::size_t* first, std::size_t attribute_count,
                  cudaStream_t stream),
                 return in_context([&] {
                   return cuMemcpyBatchAsync(reinterpret_cast<CUdeviceptr*>(const_cast<void**>(to)),
                                             reinterpret_cast<CUdeviceptr*>(const_cast<void**>(from)),
                                             const_cast<std::size_t*>(bytes), count,
                                             reinterpret_cast<CUmemcpyAttributes*>(attributes), first,
                                             attribute_count, resolve_stream<kDefault>(stream));
                 });)

namespace {

/// Operands that are pointers; arrays have handles of the runtime's that the driver knows as well.
CUmemcpy3DOperand driver_operand(const cudaMemcpy3DOperand& operand) {
  CUmemcpy3DOperand result{};
  result.type = static_cast<CUmemcpy3DOperandType>(operand.type);
  if (operand.type == cudaMemcpyOperandTypePointer) {
    result.op.ptr.ptr = device_pointer(operand.op.ptr.ptr);
    result.op.ptr.rowLength = operand.op.ptr.rowLength;
    result.op.ptr.layerHeight = operand.op.ptr.layerHeight;
  } else {
    result.op.array.array = reinterpret_cast<CUarray>(operand.op.array.array);
    result.op.array.offset = {operand.op.array.offset.x, operand.op.array.offset.y,
                              operand.op.array.offset.z};
  }
  return result;
}

CUresult copy_3d_batch(std::size_t count, const cudaMemcpy3DBatchOp* operations, unsigned long long flags,
                       CUstream stream) {
  if (count == 0 || operations == nullptr) return CUDA_ERROR_INVALID_VALUE;
  for (std::size_t i = 0; i < count; ++i) {
    CUDA_MEMCPY3D_BATCH_OP operation{};
    operation.src = driver_operand(operations[i].src);
    operation.dst = driver_operand(operations[i].dst);
    operation.extent = {operations[i].extent.width, operations[i].extent.height, operations[i].extent.depth};
    operation.srcAccessOrder = static_cast<CUmemcpySrcAccessOrder>(operations[i].srcAccessOrder);
    operation.flags = operations[i].flags;
    const CUresult result = cuMemcpy3DBatchAsync(1, &operation, flags, stream);
    if (result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

}  // namespace

AVEC_STREAM_PAIR(cudaMemcpy3DBatchAsync, _ptsz,
                 (std::size_t count, cudaMemcpy3DBatchOp* operations, unsigned long long flags,
                  cudaStream_t stream),
                 return in_context([&] {
                   return copy_3d_batch(count, operations, flags, resolve_stream<kDefault>(stream));
                 });)

// ---- between processes ------------------------------------------------------------------------------

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* handle, void* pointer) {
  AVEC_COUNTED;
  return in_context(
      [&] { return cuIpcGetMemHandle(reinterpret_cast<CUipcMemHandle*>(handle), device_pointer(pointer)); });
}

cudaError_t cudaIpcOpenMemHandle(void** pointer, cudaIpcMemHandle_t handle, unsigned int flags) {
  AVEC_COUNTED;
  if (pointer == nullptr) return done(cudaErrorInvalidValue);
  return in_context([&] {
    CUdeviceptr address = 0;
    const CUresult result =
        cuIpcOpenMemHandle(&address, *reinterpret_cast<const CUipcMemHandle*>(&handle), flags);
    if (result == CUDA_SUCCESS) *pointer = reinterpret_cast<void*>(address);
    return result;
  });
}

cudaError_t cudaIpcCloseMemHandle(void* pointer) {
  AVEC_COUNTED;
  return in_context([&] { return cuIpcCloseMemHandle(device_pointer(pointer)); });
}

cudaError_t cudaIpcGetEventHandle(cudaIpcEventHandle_t* handle, cudaEvent_t event) {
  AVEC_COUNTED;
  return in_context([&] { return cuIpcGetEventHandle(reinterpret_cast<CUipcEventHandle*>(handle), event); });
}

cudaError_t cudaIpcOpenEventHandle(cudaEvent_t* event, cudaIpcEventHandle_t handle) {
  AVEC_COUNTED;
  return in_context(
      [&] { return cuIpcOpenEventHandle(event, *reinterpret_cast<const CUipcEventHandle*>(&handle)); });
}
