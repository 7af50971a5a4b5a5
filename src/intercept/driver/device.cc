#include "client/device.h"

#include "client/client.h"
#include "client/context.h"
#include "entry.h"

using namespace avec::client;

AVEC_DRIVER_CLIENT_CALL(cuDeviceGet, (CUdevice * device, int ordinal), device_get(client, device, ordinal))
AVEC_DRIVER_CLIENT_CALL(cuDeviceGetCount, (int* count), device_count(client, count))
AVEC_DRIVER_CLIENT_CALL(cuDeviceGetName, (char* name, int bytes, CUdevice device),
                        device_name(client, name, bytes, device))
AVEC_DRIVER_CLIENT_CALL(cuDeviceGetUuid, (CUuuid * uuid, CUdevice device), device_uuid(client, uuid, device))
AVEC_DRIVER_CLIENT_CALL(cuDeviceGetUuid_v2, (CUuuid * uuid, CUdevice device),
                        device_uuid(client, uuid, device))
AVEC_DRIVER_CLIENT_CALL(cuDeviceTotalMem_v2, (size_t* bytes, CUdevice device),
                        device_total_memory(client, bytes, device))
AVEC_DRIVER_CLIENT_CALL(cuDeviceGetAttribute, (int* value, CUdevice_attribute which, CUdevice device),
                        device_attribute(client, value, which, device))
AVEC_DRIVER_CLIENT_CALL(cuDeviceGetByPCIBusId, (CUdevice * device, const char* id),
                        device_by_pci_bus_id(client, device, id))
AVEC_DRIVER_CLIENT_CALL(cuDeviceGetPCIBusId, (char* id, int bytes, CUdevice device),
                        device_pci_bus_id(client, id, bytes, device))
AVEC_DRIVER_CLIENT_CALL(cuDeviceGetProperties, (CUdevprop * properties, CUdevice device),
                        device_properties(client, properties, device))
AVEC_DRIVER_CLIENT_CALL(cuDeviceComputeCapability, (int* major, int* minor, CUdevice device),
                        device_compute_capability(client, major, minor, device))
AVEC_DRIVER_CLIENT_CALL(cuDeviceGetExecAffinitySupport,
                        (int* supported, CUexecAffinityType type, CUdevice device),
                        device_exec_affinity_support(client, supported, type, device))

// There are LUIDs on Windows only.
AVEC_DRIVER_CLIENT_CALL(cuDeviceGetLuid, (char*, unsigned*, CUdevice device),
                        client.device(device) == nullptr ? CUDA_ERROR_INVALID_DEVICE
                                                         : CUDA_ERROR_NOT_SUPPORTED)

AVEC_DRIVER_CLIENT_CALL(cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device),
                        primary_retain(client, context, device))
AVEC_DRIVER_CLIENT_CALL(cuDevicePrimaryCtxRelease, (CUdevice device), primary_release(client, device))
AVEC_DRIVER_CLIENT_CALL(cuDevicePrimaryCtxRelease_v2, (CUdevice device), primary_release(client, device))
AVEC_DRIVER_CLIENT_CALL(cuDevicePrimaryCtxReset, (CUdevice device), primary_reset(client, device))
AVEC_DRIVER_CLIENT_CALL(cuDevicePrimaryCtxReset_v2, (CUdevice device), primary_reset(client, device))
AVEC_DRIVER_CLIENT_CALL(cuDevicePrimaryCtxGetState, (CUdevice device, unsigned* flags, int* active),
                        primary_get_state(client, device, flags, active))
AVEC_DRIVER_CLIENT_CALL(cuDevicePrimaryCtxSetFlags, (CUdevice device, unsigned flags),
                        primary_set_flags(client, device, flags))
AVEC_DRIVER_CLIENT_CALL(cuDevicePrimaryCtxSetFlags_v2, (CUdevice device, unsigned flags),
                        primary_set_flags(client, device, flags))
