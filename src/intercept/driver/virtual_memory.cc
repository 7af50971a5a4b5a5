// Virtual memory management, and memory and events shared with other processes.
#include "client/virtual_memory.h"

#include "client/client.h"
#include "client/context.h"
#include "client/device.h"
#include "client/ipc.h"
#include "entry.h"

using namespace avec::client;

namespace {

CUresult ipc_get(CUipcMemHandle* handle, CUdeviceptr address) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  return handle == nullptr ? CUDA_ERROR_INVALID_VALUE
                           : context->client->shared_memory().get_handle(handle, address);
}

CUresult ipc_open(CUdeviceptr* address, const CUipcMemHandle& handle, unsigned flags) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (address == nullptr || flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS) return CUDA_ERROR_INVALID_VALUE;
  return context->client->shared_memory().open(address, handle, context->device->ordinal());
}

CUresult ipc_close(CUdeviceptr address) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  return context->client->shared_memory().close(address);
}

}  // namespace

AVEC_DRIVER_CLIENT_CALL(cuMemGetAllocationGranularity,
                        (size_t * granularity, const CUmemAllocationProp* properties,
                         CUmemAllocationGranularity_flags option),
                        virtual_granularity(client, granularity, properties, option))
AVEC_DRIVER_CLIENT_CALL(cuMemAddressReserve,
                        (CUdeviceptr * address, size_t bytes, size_t alignment, CUdeviceptr wish,
                         unsigned long long flags),
                        address == nullptr || flags != 0
                            ? CUDA_ERROR_INVALID_VALUE
                            : client.virtual_memory().reserve(address, bytes, alignment, wish))
AVEC_DRIVER_CLIENT_CALL(cuMemAddressFree, (CUdeviceptr address, size_t bytes),
                        client.virtual_memory().free_reservation(address, bytes))
AVEC_DRIVER_CLIENT_CALL(cuMemCreate,
                        (CUmemGenericAllocationHandle * handle, size_t bytes,
                         const CUmemAllocationProp* properties, unsigned long long flags),
                        handle == nullptr || properties == nullptr || flags != 0
                            ? CUDA_ERROR_INVALID_VALUE
                            : client.virtual_memory().create(handle, bytes, *properties))
AVEC_DRIVER_CLIENT_CALL(cuMemRelease, (CUmemGenericAllocationHandle handle),
                        client.virtual_memory().release(handle))
AVEC_DRIVER_CLIENT_CALL(cuMemMap,
                        (CUdeviceptr address, size_t bytes, size_t offset,
                         CUmemGenericAllocationHandle handle, unsigned long long flags),
                        flags != 0 ? CUDA_ERROR_INVALID_VALUE
                                   : client.virtual_memory().map(address, bytes, offset, handle))
AVEC_DRIVER_CLIENT_CALL(cuMemUnmap, (CUdeviceptr address, size_t bytes),
                        client.virtual_memory().unmap(address, bytes))
AVEC_DRIVER_CLIENT_CALL(cuMemSetAccess,
                        (CUdeviceptr address, size_t bytes, const CUmemAccessDesc* access, size_t count),
                        access == nullptr || count == 0
                            ? CUDA_ERROR_INVALID_VALUE
                            : client.virtual_memory().set_access(address, bytes, access, count))
AVEC_DRIVER_CLIENT_CALL(cuMemGetAccess,
                        (unsigned long long* flags, const CUmemLocation* location, CUdeviceptr address),
                        flags == nullptr || location == nullptr
                            ? CUDA_ERROR_INVALID_VALUE
                            : client.virtual_memory().get_access(flags, *location, address))
AVEC_DRIVER_CLIENT_CALL(cuMemGetAllocationPropertiesFromHandle,
                        (CUmemAllocationProp * properties, CUmemGenericAllocationHandle handle),
                        properties == nullptr ? CUDA_ERROR_INVALID_VALUE
                                              : client.virtual_memory().properties(properties, handle))
AVEC_DRIVER_CLIENT_CALL(cuMemRetainAllocationHandle, (CUmemGenericAllocationHandle * handle, void* address),
                        handle == nullptr
                            ? CUDA_ERROR_INVALID_VALUE
                            : client.virtual_memory().retain(handle, reinterpret_cast<CUdeviceptr>(address)))

AVEC_DRIVER_CALL(cuIpcGetMemHandle, (CUipcMemHandle * handle, CUdeviceptr address), ipc_get(handle, address))
AVEC_DRIVER_CALL(cuIpcOpenMemHandle, (CUdeviceptr * address, CUipcMemHandle handle, unsigned flags),
                 ipc_open(address, handle, flags))
AVEC_DRIVER_CALL(cuIpcOpenMemHandle_v2, (CUdeviceptr * address, CUipcMemHandle handle, unsigned flags),
                 ipc_open(address, handle, flags))
AVEC_DRIVER_CALL(cuIpcCloseMemHandle, (CUdeviceptr address), ipc_close(address))
AVEC_DRIVER_CALL(cuIpcGetEventHandle, (CUipcEventHandle * handle, CUevent event),
                 event_get_handle(handle, event))
AVEC_DRIVER_CALL(cuIpcOpenEventHandle, (CUevent * event, CUipcEventHandle handle),
                 event_open_handle(event, handle))
