#include "client/memory.h"

#include "entry.h"

using namespace avec::client;

AVEC_DRIVER_CALL(cuMemAlloc_v2, (CUdeviceptr * address, size_t bytes), memory_allocate(address, bytes))
AVEC_DRIVER_CALL(cuMemAllocPitch_v2,
                 (CUdeviceptr * address, size_t* pitch, size_t width, size_t height, unsigned element_bytes),
                 memory_allocate_pitch(address, pitch, width, height, element_bytes))
AVEC_DRIVER_CALL(cuMemFree_v2, (CUdeviceptr address), memory_free(address))
AVEC_DRIVER_CALL(cuMemGetInfo_v2, (size_t* free, size_t* total), memory_info(free, total))
AVEC_DRIVER_CALL(cuMemGetAddressRange_v2, (CUdeviceptr * base, size_t* bytes, CUdeviceptr address),
                 memory_address_range(base, bytes, address))

AVEC_DRIVER_CALL(cuMemAllocHost_v2, (void** pointer, size_t bytes), host_allocate(pointer, bytes, 0))
AVEC_DRIVER_CALL(cuMemHostAlloc, (void** pointer, size_t bytes, unsigned flags),
                 host_allocate(pointer, bytes, flags))
AVEC_DRIVER_CALL(cuMemFreeHost, (void* pointer), host_free(pointer))
AVEC_DRIVER_CALL(cuMemHostRegister, (void* pointer, size_t bytes, unsigned flags),
                 host_register(pointer, bytes, flags))
AVEC_DRIVER_CALL(cuMemHostRegister_v2, (void* pointer, size_t bytes, unsigned flags),
                 host_register(pointer, bytes, flags))
AVEC_DRIVER_CALL(cuMemHostUnregister, (void* pointer), host_unregister(pointer))
AVEC_DRIVER_CALL(cuMemHostGetDevicePointer_v2, (CUdeviceptr * address, void* pointer, unsigned flags),
                 host_get_device_pointer(address, pointer, flags))
AVEC_DRIVER_CALL(cuMemHostGetFlags, (unsigned* flags, void* pointer), host_get_flags(flags, pointer))

AVEC_DRIVER_CALL(cuPointerGetAttribute, (void* data, CUpointer_attribute which, CUdeviceptr address),
                 pointer_attribute(data, which, address))
AVEC_DRIVER_CALL(cuPointerGetAttributes,
                 (unsigned count, CUpointer_attribute* which, void** data, CUdeviceptr address),
                 pointer_attributes(count, which, data, address))
AVEC_DRIVER_CALL(cuPointerSetAttribute, (const void* value, CUpointer_attribute which, CUdeviceptr address),
                 pointer_set_attribute(value, which, address))
