// Texture and surface objects. Kernels consume their values, which are the executor's own; what they
// were made of is remembered here, by context.
#pragma once

#include <cuda.h>

namespace avec::client {

struct Context;

CUresult texture_create(CUtexObject* object, const CUDA_RESOURCE_DESC* resource, const CUDA_TEXTURE_DESC* sampler,
                        const CUDA_RESOURCE_VIEW_DESC* view);
/// Also for a value that is no object of the current context: CUDA_ERROR_INVALID_VALUE.
CUresult texture_destroy(CUtexObject object);
CUresult texture_get_resource(CUDA_RESOURCE_DESC* resource, CUtexObject object);
CUresult texture_get_sampler(CUDA_TEXTURE_DESC* sampler, CUtexObject object);
/// CUDA_ERROR_INVALID_VALUE where none was given.
CUresult texture_get_view(CUDA_RESOURCE_VIEW_DESC* view, CUtexObject object);
CUresult surface_create(CUsurfObject* object, const CUDA_RESOURCE_DESC* resource);
CUresult surface_destroy(CUsurfObject object);
CUresult surface_get_resource(CUDA_RESOURCE_DESC* resource, CUsurfObject object);

/// Ends all objects of a context that goes.
void forget_textures(Context& context);

}  // namespace avec::client
