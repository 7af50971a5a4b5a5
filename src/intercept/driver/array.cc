#include "client/array.h"

#include "client/copy.h"
#include "client/texture.h"
#include "entry.h"

using namespace avec::client;
using enum Completion;

AVEC_DRIVER_CALL(cuArrayCreate_v2, (CUarray * array, const CUDA_ARRAY_DESCRIPTOR* descriptor),
                 array_create(array, descriptor))
AVEC_DRIVER_CALL(cuArray3DCreate_v2, (CUarray * array, const CUDA_ARRAY3D_DESCRIPTOR* descriptor),
                 array_create_3d(array, descriptor))
AVEC_DRIVER_CALL(cuArrayDestroy, (CUarray array), array_destroy(array))
AVEC_DRIVER_CALL(cuArrayGetDescriptor_v2, (CUDA_ARRAY_DESCRIPTOR * descriptor, CUarray array),
                 array_get_descriptor(descriptor, array))
AVEC_DRIVER_CALL(cuArray3DGetDescriptor_v2, (CUDA_ARRAY3D_DESCRIPTOR * descriptor, CUarray array),
                 array_get_descriptor_3d(descriptor, array))
AVEC_DRIVER_CALL(cuArrayGetPlane, (CUarray * plane, CUarray array, unsigned index),
                 array_get_plane(plane, array, index))
AVEC_DRIVER_CALL(cuArrayGetSparseProperties, (CUDA_ARRAY_SPARSE_PROPERTIES * properties, CUarray array),
                 array_get_sparse_properties(properties, array))
AVEC_DRIVER_CALL(cuArrayGetMemoryRequirements,
                 (CUDA_ARRAY_MEMORY_REQUIREMENTS * requirements, CUarray array, CUdevice device),
                 array_get_requirements(requirements, array, device))
AVEC_DRIVER_CALL(cuMipmappedArrayCreate,
                 (CUmipmappedArray * array, const CUDA_ARRAY3D_DESCRIPTOR* descriptor, unsigned levels),
                 mipmapped_array_create(array, descriptor, levels))
AVEC_DRIVER_CALL(cuMipmappedArrayDestroy, (CUmipmappedArray array), mipmapped_array_destroy(array))
AVEC_DRIVER_CALL(cuMipmappedArrayGetLevel, (CUarray * level, CUmipmappedArray array, unsigned index),
                 mipmapped_array_get_level(level, array, index))
AVEC_DRIVER_CALL(cuMipmappedArrayGetSparseProperties,
                 (CUDA_ARRAY_SPARSE_PROPERTIES * properties, CUmipmappedArray array),
                 mipmapped_array_get_sparse_properties(properties, array))
AVEC_DRIVER_CALL(cuMipmappedArrayGetMemoryRequirements,
                 (CUDA_ARRAY_MEMORY_REQUIREMENTS * requirements, CUmipmappedArray array, CUdevice device),
                 mipmapped_array_get_requirements(requirements, array, device))

namespace {

ArrayBytes in_array(CUarray array, std::size_t offset) { return {CU_MEMORYTYPE_ARRAY, array, offset}; }
ArrayBytes on_device(CUdeviceptr address) { return {CU_MEMORYTYPE_DEVICE, nullptr, 0, address}; }
ArrayBytes on_host(const void* address) { return {CU_MEMORYTYPE_HOST, nullptr, 0, 0, address}; }

}  // namespace

AVEC_DRIVER_DEFAULT_STREAM_CALL(cuMemcpyAtoA_v2,
                                (CUarray to, size_t to_offset, CUarray from, size_t from_offset, size_t bytes),
                                copy_array(in_array(to, to_offset), in_array(from, from_offset), bytes, stream,
                                           kSynchronous))
AVEC_DRIVER_DEFAULT_STREAM_CALL(cuMemcpyAtoD_v2, (CUdeviceptr to, CUarray from, size_t offset, size_t bytes),
                                copy_array(on_device(to), in_array(from, offset), bytes, stream, kSynchronous))
AVEC_DRIVER_DEFAULT_STREAM_CALL(cuMemcpyDtoA_v2, (CUarray to, size_t offset, CUdeviceptr from, size_t bytes),
                                copy_array(in_array(to, offset), on_device(from), bytes, stream, kSynchronous))
AVEC_DRIVER_DEFAULT_STREAM_CALL(cuMemcpyAtoH_v2, (void* to, CUarray from, size_t offset, size_t bytes),
                                copy_array(on_host(to), in_array(from, offset), bytes, stream, kSynchronous))
AVEC_DRIVER_DEFAULT_STREAM_CALL(cuMemcpyHtoA_v2, (CUarray to, size_t offset, const void* from, size_t bytes),
                                copy_array(in_array(to, offset), on_host(from), bytes, stream, kSynchronous))
AVEC_DRIVER_STREAM_CALL(cuMemcpyAtoHAsync_v2, (void* to, CUarray from, size_t offset, size_t bytes, CUstream stream),
                        copy_array(on_host(to), in_array(from, offset), bytes, stream, kAsynchronous))
AVEC_DRIVER_STREAM_CALL(cuMemcpyHtoAAsync_v2,
                        (CUarray to, size_t offset, const void* from, size_t bytes, CUstream stream),
                        copy_array(in_array(to, offset), on_host(from), bytes, stream, kAsynchronous))

AVEC_DRIVER_CALL(cuTexObjectCreate,
                 (CUtexObject * object, const CUDA_RESOURCE_DESC* resource, const CUDA_TEXTURE_DESC* sampler,
                  const CUDA_RESOURCE_VIEW_DESC* view),
                 texture_create(object, resource, sampler, view))
AVEC_DRIVER_CALL(cuTexObjectDestroy, (CUtexObject object), texture_destroy(object))
AVEC_DRIVER_CALL(cuTexObjectGetResourceDesc, (CUDA_RESOURCE_DESC * resource, CUtexObject object),
                 texture_get_resource(resource, object))
AVEC_DRIVER_CALL(cuTexObjectGetTextureDesc, (CUDA_TEXTURE_DESC * sampler, CUtexObject object),
                 texture_get_sampler(sampler, object))
AVEC_DRIVER_CALL(cuTexObjectGetResourceViewDesc, (CUDA_RESOURCE_VIEW_DESC * view, CUtexObject object),
                 texture_get_view(view, object))
AVEC_DRIVER_CALL(cuSurfObjectCreate, (CUsurfObject * object, const CUDA_RESOURCE_DESC* resource),
                 surface_create(object, resource))
AVEC_DRIVER_CALL(cuSurfObjectDestroy, (CUsurfObject object), surface_destroy(object))
AVEC_DRIVER_CALL(cuSurfObjectGetResourceDesc, (CUDA_RESOURCE_DESC * resource, CUsurfObject object),
                 surface_get_resource(resource, object))
