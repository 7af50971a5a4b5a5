// Arrays and mipmapped arrays. Their names are chosen here; making one is answered, since it may
// find no memory.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <vector>

#include "base/array_format.h"

namespace avec::client {

struct Context;

/// A CUarray or CUmipmappedArray is the address of one (Slab<Array>).
struct Array {
  Context* context = nullptr;
  std::uint64_t name = 0;
  CUDA_ARRAY3D_DESCRIPTOR descriptor{};
  ArrayShape shape;            ///< all 0: its elements cannot be copied as a whole
  unsigned element_bytes = 0;  ///< of an element, or of a block of them
  bool mipmapped = false;
  Array* whole = nullptr;      ///< of a level or a plane: it ends with that
  struct Part {
    unsigned index;
    Array* array;
  };
  std::vector<Part> parts;  ///< guarded by context->mutex
};

inline CUarray handle_of(Array* array) { return reinterpret_cast<CUarray>(array); }
/// CUDA_ERROR_INVALID_HANDLE for what is no array, or its context's sticky error.
CUresult find_array(CUarray handle, Array*& array);
CUresult find_mipmapped_array(CUmipmappedArray handle, Array*& array);

CUresult array_create(CUarray* handle, const CUDA_ARRAY_DESCRIPTOR* descriptor);
CUresult array_create_3d(CUarray* handle, const CUDA_ARRAY3D_DESCRIPTOR* descriptor);
CUresult array_destroy(CUarray handle);
CUresult array_get_descriptor(CUDA_ARRAY_DESCRIPTOR* descriptor, CUarray handle);
CUresult array_get_descriptor_3d(CUDA_ARRAY3D_DESCRIPTOR* descriptor, CUarray handle);
CUresult array_get_plane(CUarray* plane, CUarray handle, unsigned index);
CUresult array_get_sparse_properties(CUDA_ARRAY_SPARSE_PROPERTIES* properties, CUarray handle);
CUresult array_get_requirements(CUDA_ARRAY_MEMORY_REQUIREMENTS* requirements, CUarray handle, CUdevice device);
CUresult mipmapped_array_create(CUmipmappedArray* handle, const CUDA_ARRAY3D_DESCRIPTOR* descriptor,
                                unsigned levels);
CUresult mipmapped_array_destroy(CUmipmappedArray handle);
CUresult mipmapped_array_get_level(CUarray* level, CUmipmappedArray handle, unsigned index);
CUresult mipmapped_array_get_sparse_properties(CUDA_ARRAY_SPARSE_PROPERTIES* properties, CUmipmappedArray handle);
CUresult mipmapped_array_get_requirements(CUDA_ARRAY_MEMORY_REQUIREMENTS* requirements, CUmipmappedArray handle,
                                          CUdevice device);

/// Ends all arrays of a context that goes.
void forget_arrays(Context& context);

}  // namespace avec::client
