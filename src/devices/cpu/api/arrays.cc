// cuArray*, cuMipmappedArray*.
#include <algorithm>
#include <bit>

#include "devices/cpu/array.h"
#include "devices/cpu/device.h"

using namespace avec::cpu;

namespace {

std::uint64_t bytes_of(const avec::ArrayShape& shape) { return shape.row_bytes * shape.rows * shape.slices; }

avec::ArrayShape shape_of(const CUDA_ARRAY3D_DESCRIPTOR& d) {
  return avec::array_shape(d.Width, d.Height, d.Depth, static_cast<std::uint32_t>(d.Format), d.NumChannels);
}

std::shared_ptr<Array> make_array(const ContextRef& context, const CUDA_ARRAY3D_DESCRIPTOR& descriptor) {
  auto array = std::make_shared<Array>();
  array->context = context;
  array->descriptor = descriptor;
  array->shape = shape_of(descriptor);
  return array;
}

CUresult create(CUarray* handle, const CUDA_ARRAY3D_DESCRIPTOR& descriptor) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (const auto error = check_descriptor(descriptor)) return error;
  const auto array = make_array(context, descriptor);
  array->storage = ArrayStorage::make(context->device, bytes_of(array->shape));
  if (!array->storage) return CUDA_ERROR_OUT_OF_MEMORY;
  *handle = as_handle<CUarray>(state().arrays.add(array));
  return CUDA_SUCCESS;
}

CUDA_ARRAY3D_DESCRIPTOR level_of(const CUDA_ARRAY3D_DESCRIPTOR& whole, unsigned level) {
  const auto smaller = [&](std::size_t n) { return n == 0 ? 0 : std::max<std::size_t>(n >> level, 1); };
  CUDA_ARRAY3D_DESCRIPTOR d = whole;
  d.Width = smaller(d.Width);
  d.Height = smaller(d.Height);
  if (layers_of(whole) == 1 && (whole.Flags & CUDA_ARRAY3D_LAYERED) == 0) d.Depth = smaller(d.Depth);
  return d;
}

/// Work that may use what goes must have ended: CUDA, too, waits.
void wait_for_device(const ContextRef& context) { (void)synchronize(context); }

}  // namespace

extern "C" {

CUresult cuArrayCreate_v2(CUarray* handle, const CUDA_ARRAY_DESCRIPTOR* d) {
  if (const auto error = initialised()) return error;
  if (d == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return create(handle, {d->Width, d->Height, 0, d->Format, d->NumChannels, 0});
}

CUresult cuArray3DCreate_v2(CUarray* handle, const CUDA_ARRAY3D_DESCRIPTOR* d) {
  if (const auto error = initialised()) return error;
  return d == nullptr ? CUDA_ERROR_INVALID_VALUE : create(handle, *d);
}

CUresult cuArrayDestroy(CUarray handle) {
  if (const auto error = initialised()) return error;
  const auto array = state().arrays.find(handle);
  if (!array || array->part) return CUDA_ERROR_INVALID_HANDLE;
  wait_for_device(array->context);
  return state().arrays.remove(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuArrayGetDescriptor_v2(CUDA_ARRAY_DESCRIPTOR* d, CUarray handle) {
  if (const auto error = initialised()) return error;
  const auto array = state().arrays.find(handle);
  if (!array) return CUDA_ERROR_INVALID_HANDLE;
  if (d == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto& whole = array->descriptor;
  *d = {whole.Width, whole.Height, whole.Format, whole.NumChannels};
  return CUDA_SUCCESS;
}

CUresult cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR* d, CUarray handle) {
  if (const auto error = initialised()) return error;
  const auto array = state().arrays.find(handle);
  if (!array) return CUDA_ERROR_INVALID_HANDLE;
  if (d == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *d = array->descriptor;
  return CUDA_SUCCESS;
}

// Only of formats of several planes, which there are none of.
CUresult cuArrayGetPlane(CUarray*, CUarray handle, unsigned) {
  if (const auto error = initialised()) return error;
  return state().arrays.find(handle) ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuArrayGetSparseProperties(CUDA_ARRAY_SPARSE_PROPERTIES*, CUarray handle) {
  if (const auto error = initialised()) return error;
  return state().arrays.find(handle) ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_INVALID_HANDLE;
}

// Only of arrays whose memory is mapped later, which there are none of.
CUresult cuArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS*, CUarray handle, CUdevice) {
  if (const auto error = initialised()) return error;
  return state().arrays.find(handle) ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuMipmappedArrayCreate(CUmipmappedArray* handle, const CUDA_ARRAY3D_DESCRIPTOR* d, unsigned levels) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (handle == nullptr || d == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (const auto error = check_descriptor(*d)) return error;
  const bool layered = (d->Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)) != 0;
  const std::size_t longest = std::max({d->Width, d->Height, layered ? std::size_t{0} : d->Depth});
  const unsigned most = static_cast<unsigned>(std::bit_width(longest));
  auto mipmapped = std::make_shared<MipmappedArray>();
  mipmapped->context = context;
  mipmapped->descriptor = *d;
  std::uint64_t bytes = 0;
  for (unsigned i = 0; i < std::clamp(levels, 1u, most); ++i) {
    const auto level = make_array(context, level_of(*d, i));
    level->offset = bytes;
    level->part = true;
    bytes += bytes_of(level->shape);
    mipmapped->levels.push_back(level);
  }
  const auto storage = ArrayStorage::make(context->device, bytes);
  if (!storage) return CUDA_ERROR_OUT_OF_MEMORY;
  for (const auto& level : mipmapped->levels) {
    level->storage = storage;
    state().arrays.add(level);
  }
  *handle = as_handle<CUmipmappedArray>(state().mipmapped_arrays.add(mipmapped));
  return CUDA_SUCCESS;
}

CUresult cuMipmappedArrayDestroy(CUmipmappedArray handle) {
  if (const auto error = initialised()) return error;
  const auto mipmapped = state().mipmapped_arrays.find(handle);
  if (!mipmapped) return CUDA_ERROR_INVALID_HANDLE;
  wait_for_device(mipmapped->context);
  for (const auto& level : mipmapped->levels) state().arrays.remove(as_handle<void*>(level->handle));
  return state().mipmapped_arrays.remove(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuMipmappedArrayGetLevel(CUarray* level, CUmipmappedArray handle, unsigned index) {
  if (const auto error = initialised()) return error;
  const auto mipmapped = state().mipmapped_arrays.find(handle);
  if (!mipmapped) return CUDA_ERROR_INVALID_HANDLE;
  if (level == nullptr || index >= mipmapped->levels.size()) return CUDA_ERROR_INVALID_VALUE;
  *level = as_handle<CUarray>(mipmapped->levels[index]->handle);
  return CUDA_SUCCESS;
}

CUresult cuMipmappedArrayGetSparseProperties(CUDA_ARRAY_SPARSE_PROPERTIES*, CUmipmappedArray handle) {
  if (const auto error = initialised()) return error;
  return state().mipmapped_arrays.find(handle) ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuMipmappedArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS*, CUmipmappedArray handle, CUdevice) {
  if (const auto error = initialised()) return error;
  return state().mipmapped_arrays.find(handle) ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_INVALID_HANDLE;
}

}  // extern "C"
