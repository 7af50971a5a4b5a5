#include "client/array.h"

#include <algorithm>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "client/client.h"
#include "client/context.h"
#include "client/device.h"
#include "client/heap.h"
#include "client/slab.h"
#include "client/status.h"
#include "session/session.h"

namespace avec::client {
namespace {

/// All arrays, parts included, by context. Outlives static destructors.
struct Registry {
  std::mutex mutex;
  std::unordered_map<Context*, std::unordered_set<Array*>> arrays;  // guarded by mutex
};
Registry& registry() {
  static Registry& all = *new Registry;
  return all;
}

void note(Array* array) {
  const std::scoped_lock lock(registry().mutex);
  registry().arrays[array->context].insert(array);
}
/// False when another thread has taken it.
bool take(Array* array) {
  const std::scoped_lock lock(registry().mutex);
  const auto found = registry().arrays.find(array->context);
  return found != registry().arrays.end() && found->second.erase(array) != 0;
}

void set_descriptor(Array& array, const CUDA_ARRAY3D_DESCRIPTOR& descriptor) {
  array.descriptor = descriptor;
  std::size_t depth = descriptor.Depth;
  if ((descriptor.Flags & CUDA_ARRAY3D_CUBEMAP) != 0 && depth == 0) depth = 6;
  const auto format = static_cast<std::uint32_t>(descriptor.Format);
  array.shape = array_shape(descriptor.Width, descriptor.Height, depth, format, descriptor.NumChannels);
  array.element_bytes = array_format(format).bytes(descriptor.NumChannels);
}

CUresult find(const void* handle, bool mipmapped, Array*& array) {
  array = Slab<Array>::find(handle);
  if (array == nullptr || array->mipmapped != mipmapped) return CUDA_ERROR_INVALID_HANDLE;
  return static_cast<CUresult>(array->context->error.load(std::memory_order_relaxed));
}

/// levels 0: not mipmapped.
CUresult create(Array*& made, const CUDA_ARRAY3D_DESCRIPTOR& descriptor, unsigned levels) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  // Their memory is mapped by a call that there is not (schemas/unsupported.fbs); the attributes say so.
  if ((descriptor.Flags & (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING)) != 0)
    return CUDA_ERROR_NOT_SUPPORTED;
  Array* array = Slab<Array>::make();
  if (array == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  Client& client = *context->client;
  array->context = context;
  array->name = client.mint();
  array->mipmapped = levels != 0;
  set_descriptor(*array, descriptor);
  const auto ask = [&] {
    return to_cuda(client.session().call(wire::ArrayCreate(
        array->name, context->name.load(), descriptor.Width, descriptor.Height, descriptor.Depth,
        static_cast<std::uint32_t>(descriptor.Format), descriptor.NumChannels, descriptor.Flags, levels)));
  };
  CUresult result = ask();
  if (result == CUDA_ERROR_OUT_OF_MEMORY && client.heap().give_back(context->device->ordinal())) {
    // What was given back is there when all work has ended.
    result = to_cuda(client.session().call(wire::ContextSynchronize(context->name.load())));
    if (result == CUDA_SUCCESS) result = ask();
  }
  if (result != CUDA_SUCCESS) {
    Slab<Array>::destroy(array);
    return result;
  }
  note(array);
  made = array;
  return CUDA_SUCCESS;
}

CUresult destroy(Array& array) {
  if (array.whole != nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (!take(&array)) return CUDA_ERROR_INVALID_HANDLE;
  Context& context = *array.context;
  std::vector<Array::Part> parts;
  {
    const std::scoped_lock lock(context.mutex);
    parts.swap(array.parts);
  }
  for (const Array::Part& part : parts) {
    take(part.array);
    Slab<Array>::destroy(part.array);
  }
  const std::uint64_t name = array.name;
  Slab<Array>::destroy(&array);
  return to_cuda(context.client->session().post(wire::ArrayDestroy(name)));
}

/// The level or plane of this index: the same handle each time.
CUresult part_of(Array& whole, unsigned index, bool plane, CUarray* handle) {
  Context& context = *whole.context;
  const auto known = [&]() -> Array* {
    const auto same = [&](const Array::Part& part) { return part.index == index; };
    const auto found = std::ranges::find_if(whole.parts, same);
    return found == whole.parts.end() ? nullptr : found->array;
  };
  {
    const std::scoped_lock lock(context.mutex);
    if (Array* part = known()) {
      *handle = handle_of(part);
      return CUDA_SUCCESS;
    }
  }
  Client& client = *context.client;
  const std::uint64_t name = client.mint();
  const auto reply = client.session().call(wire::ArrayPart(name, whole.name, index, plane ? 1 : 0));
  if (!reply) return to_cuda(reply.error());
  Array* part = Slab<Array>::make();
  if (part == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  part->context = &context;
  part->name = name;
  part->whole = &whole;
  set_descriptor(*part, {reply->width(), reply->height(), reply->depth(),
                         static_cast<CUarray_format>(reply->format()), reply->channels(), reply->flags()});
  const std::scoped_lock lock(context.mutex);
  if (Array* other = known()) {  // of another thread, meanwhile
    Slab<Array>::destroy(part);
    part = other;
  } else {
    note(part);
    whole.parts.push_back({index, part});
  }
  *handle = handle_of(part);
  return CUDA_SUCCESS;
}

CUresult requirements_of(CUDA_ARRAY_MEMORY_REQUIREMENTS* requirements, Array& array, CUdevice device) {
  Client& client = *array.context->client;
  if (requirements == nullptr || client.device(device) == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto reply = client.session().call(wire::ArrayRequirements(array.name, device, 0));
  if (!reply) return to_cuda(reply.error());
  *requirements = {};
  requirements->size = reply->bytes();
  requirements->alignment = reply->alignment();
  return CUDA_SUCCESS;
}

}  // namespace

CUresult find_array(CUarray handle, Array*& array) { return find(handle, false, array); }
CUresult find_mipmapped_array(CUmipmappedArray handle, Array*& array) { return find(handle, true, array); }

CUresult array_create(CUarray* handle, const CUDA_ARRAY_DESCRIPTOR* descriptor) {
  if (descriptor == nullptr) return array_create_3d(handle, nullptr);
  const CUDA_ARRAY3D_DESCRIPTOR whole{descriptor->Width,       descriptor->Height, 0, descriptor->Format,
                                      descriptor->NumChannels, 0};
  return array_create_3d(handle, &whole);
}

CUresult array_create_3d(CUarray* handle, const CUDA_ARRAY3D_DESCRIPTOR* descriptor) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (handle == nullptr || descriptor == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Array* array = nullptr;
  const CUresult result = create(array, *descriptor, 0);
  if (result == CUDA_SUCCESS) *handle = handle_of(array);
  return result;
}

CUresult array_destroy(CUarray handle) {
  Array* array;
  const CUresult result = find_array(handle, array);
  return result != CUDA_SUCCESS ? result : destroy(*array);
}

CUresult array_get_descriptor(CUDA_ARRAY_DESCRIPTOR* descriptor, CUarray handle) {
  Array* array;
  if (const CUresult result = find_array(handle, array); result != CUDA_SUCCESS) return result;
  if (descriptor == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const CUDA_ARRAY3D_DESCRIPTOR& whole = array->descriptor;
  *descriptor = {whole.Width, whole.Height, whole.Format, whole.NumChannels};
  return CUDA_SUCCESS;
}

CUresult array_get_descriptor_3d(CUDA_ARRAY3D_DESCRIPTOR* descriptor, CUarray handle) {
  Array* array;
  if (const CUresult result = find_array(handle, array); result != CUDA_SUCCESS) return result;
  if (descriptor == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *descriptor = array->descriptor;
  return CUDA_SUCCESS;
}

CUresult array_get_plane(CUarray* plane, CUarray handle, unsigned index) {
  Array* array;
  if (const CUresult result = find_array(handle, array); result != CUDA_SUCCESS) return result;
  return plane == nullptr ? CUDA_ERROR_INVALID_VALUE : part_of(*array, index, true, plane);
}

CUresult array_get_sparse_properties(CUDA_ARRAY_SPARSE_PROPERTIES* properties, CUarray handle) {
  Array* array;
  if (const CUresult result = find_array(handle, array); result != CUDA_SUCCESS) return result;
  (void)properties;
  return CUDA_ERROR_INVALID_VALUE;  // what CUDA says of arrays that are not sparse
}

CUresult array_get_requirements(CUDA_ARRAY_MEMORY_REQUIREMENTS* requirements, CUarray handle, CUdevice device) {
  Array* array;
  const CUresult result = find_array(handle, array);
  return result != CUDA_SUCCESS ? result : requirements_of(requirements, *array, device);
}

CUresult mipmapped_array_create(CUmipmappedArray* handle, const CUDA_ARRAY3D_DESCRIPTOR* descriptor,
                                unsigned levels) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (handle == nullptr || descriptor == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Array* array = nullptr;
  const CUresult result = create(array, *descriptor, std::max(levels, 1u));
  if (result == CUDA_SUCCESS) *handle = reinterpret_cast<CUmipmappedArray>(array);
  return result;
}

CUresult mipmapped_array_destroy(CUmipmappedArray handle) {
  Array* array;
  const CUresult result = find_mipmapped_array(handle, array);
  return result != CUDA_SUCCESS ? result : destroy(*array);
}

CUresult mipmapped_array_get_level(CUarray* level, CUmipmappedArray handle, unsigned index) {
  Array* array;
  if (const CUresult result = find_mipmapped_array(handle, array); result != CUDA_SUCCESS) return result;
  return level == nullptr ? CUDA_ERROR_INVALID_VALUE : part_of(*array, index, false, level);
}

CUresult mipmapped_array_get_sparse_properties(CUDA_ARRAY_SPARSE_PROPERTIES* properties, CUmipmappedArray handle) {
  Array* array;
  if (const CUresult result = find_mipmapped_array(handle, array); result != CUDA_SUCCESS) return result;
  (void)properties;
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult mipmapped_array_get_requirements(CUDA_ARRAY_MEMORY_REQUIREMENTS* requirements, CUmipmappedArray handle,
                                          CUdevice device) {
  Array* array;
  const CUresult result = find_mipmapped_array(handle, array);
  return result != CUDA_SUCCESS ? result : requirements_of(requirements, *array, device);
}

void forget_arrays(Context& context) {
  std::unordered_set<Array*> gone;
  {
    const std::scoped_lock lock(registry().mutex);
    const auto found = registry().arrays.find(&context);
    if (found == registry().arrays.end()) return;
    gone.swap(found->second);
    registry().arrays.erase(found);
  }
  for (Array* array : gone) Slab<Array>::destroy(array);
}

}  // namespace avec::client
