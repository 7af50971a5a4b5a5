#include "client/texture.h"

#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "client/array.h"
#include "client/client.h"
#include "client/context.h"
#include "client/status.h"
#include "session/session.h"

namespace avec::client {
namespace {

struct Texture {
  CUDA_RESOURCE_DESC resource{};
  CUDA_TEXTURE_DESC sampler{};
  std::optional<CUDA_RESOURCE_VIEW_DESC> view;
};

/// Values of different contexts may be the same. Outlives static destructors.
struct Registry {
  template <class T>
  using Objects = std::map<std::pair<Context*, unsigned long long>, T>;
  std::mutex mutex;  // guards what follows
  Objects<Texture> textures;
  Objects<CUDA_RESOURCE_DESC> surfaces;
};
Registry& registry() {
  static Registry& all = *new Registry;
  return all;
}

/// A copy of the current context's object; nothing with the error of the call.
template <class T>
std::optional<T> find(Registry::Objects<T> Registry::* objects, unsigned long long object, CUresult& result) {
  Context* context;
  if (result = usable_context(context); result != CUDA_SUCCESS) return std::nullopt;
  const std::scoped_lock lock(registry().mutex);
  const auto& all = registry().*objects;
  const auto found = all.find({context, object});
  if (found != all.end()) return found->second;
  result = CUDA_ERROR_INVALID_VALUE;
  return std::nullopt;
}

CUresult to_wire(const CUDA_RESOURCE_DESC& from, wire::Resource& to) {
  const auto kind = static_cast<std::uint32_t>(from.resType);
  Array* array = nullptr;
  CUresult result = CUDA_SUCCESS;
  switch (from.resType) {
    case CU_RESOURCE_TYPE_ARRAY:
      if (result = find_array(from.res.array.hArray, array); result == CUDA_SUCCESS)
        to = wire::Resource(kind, 0, 0, from.flags, array->name, 0, 0, 0, 0);
      return result;
    case CU_RESOURCE_TYPE_MIPMAPPED_ARRAY:
      if (result = find_mipmapped_array(from.res.mipmap.hMipmappedArray, array); result == CUDA_SUCCESS)
        to = wire::Resource(kind, 0, 0, from.flags, array->name, 0, 0, 0, 0);
      return result;
    case CU_RESOURCE_TYPE_LINEAR: {
      const auto& linear = from.res.linear;
      to = wire::Resource(kind, static_cast<std::uint32_t>(linear.format), linear.numChannels, from.flags, 0,
                          linear.devPtr, linear.sizeInBytes, 0, 0);
      return linear.devPtr == 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
    }
    case CU_RESOURCE_TYPE_PITCH2D: {
      const auto& pitch = from.res.pitch2D;
      to = wire::Resource(kind, static_cast<std::uint32_t>(pitch.format), pitch.numChannels, from.flags, 0,
                          pitch.devPtr, pitch.width, pitch.height, pitch.pitchInBytes);
      return pitch.devPtr == 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
    }
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

wire::Sampler to_wire(const CUDA_TEXTURE_DESC& from) {
  return {static_cast<std::uint32_t>(from.addressMode[0]),
          static_cast<std::uint32_t>(from.addressMode[1]),
          static_cast<std::uint32_t>(from.addressMode[2]),
          static_cast<std::uint32_t>(from.filterMode),
          from.flags,
          from.maxAnisotropy,
          static_cast<std::uint32_t>(from.mipmapFilterMode),
          from.mipmapLevelBias,
          from.minMipmapLevelClamp,
          from.maxMipmapLevelClamp,
          from.borderColor[0],
          from.borderColor[1],
          from.borderColor[2],
          from.borderColor[3]};
}

wire::ResourceView to_wire(const CUDA_RESOURCE_VIEW_DESC* from) {
  if (from == nullptr) return {};
  return {1,
          static_cast<std::uint32_t>(from->format),
          from->width,
          from->height,
          from->depth,
          from->firstMipmapLevel,
          from->lastMipmapLevel,
          from->firstLayer,
          from->lastLayer};
}

/// Ends an object of the current context.
template <class Call, class Objects>
CUresult destroy(Objects Registry::* objects, std::uint64_t object) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  {
    const std::scoped_lock lock(registry().mutex);
    if ((registry().*objects).erase({context, object}) == 0) return CUDA_ERROR_INVALID_VALUE;
  }
  return to_cuda(context->client->session().post(Call(context->name.load(), object)));
}

}  // namespace

CUresult texture_create(CUtexObject* object, const CUDA_RESOURCE_DESC* resource, const CUDA_TEXTURE_DESC* sampler,
                        const CUDA_RESOURCE_VIEW_DESC* view) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (object == nullptr || resource == nullptr || sampler == nullptr) return CUDA_ERROR_INVALID_VALUE;
  wire::Resource what;
  if (const CUresult result = to_wire(*resource, what); result != CUDA_SUCCESS) return result;
  const auto reply = context->client->session().call(
      wire::TextureCreate(context->name.load(), what, to_wire(*sampler), to_wire(view)));
  if (!reply) return to_cuda(reply.error());
  Texture texture{*resource, *sampler, std::nullopt};
  if (view != nullptr) texture.view = *view;
  const std::scoped_lock lock(registry().mutex);
  registry().textures.insert_or_assign({context, reply->object()}, texture);
  *object = reply->object();
  return CUDA_SUCCESS;
}

CUresult texture_destroy(CUtexObject object) {
  return destroy<wire::TextureDestroy>(&Registry::textures, object);
}

CUresult texture_get_resource(CUDA_RESOURCE_DESC* resource, CUtexObject object) {
  CUresult result;
  const auto texture = find(&Registry::textures, object, result);
  if (!texture) return result;
  if (resource == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *resource = texture->resource;
  return CUDA_SUCCESS;
}

CUresult texture_get_sampler(CUDA_TEXTURE_DESC* sampler, CUtexObject object) {
  CUresult result;
  const auto texture = find(&Registry::textures, object, result);
  if (!texture) return result;
  if (sampler == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *sampler = texture->sampler;
  return CUDA_SUCCESS;
}

CUresult texture_get_view(CUDA_RESOURCE_VIEW_DESC* view, CUtexObject object) {
  CUresult result;
  const auto texture = find(&Registry::textures, object, result);
  if (!texture) return result;
  if (view == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *view = texture->view.value_or(CUDA_RESOURCE_VIEW_DESC{});  // one without a view: success, too
  return CUDA_SUCCESS;
}

CUresult surface_create(CUsurfObject* object, const CUDA_RESOURCE_DESC* resource) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (object == nullptr || resource == nullptr || resource->resType != CU_RESOURCE_TYPE_ARRAY)
    return CUDA_ERROR_INVALID_VALUE;
  Array* array;
  if (const CUresult result = find_array(resource->res.array.hArray, array); result != CUDA_SUCCESS) return result;
  const auto reply =
      context->client->session().call(wire::SurfaceCreate(context->name.load(), array->name));
  if (!reply) return to_cuda(reply.error());
  const std::scoped_lock lock(registry().mutex);
  registry().surfaces.insert_or_assign({context, reply->object()}, *resource);
  *object = reply->object();
  return CUDA_SUCCESS;
}

CUresult surface_destroy(CUsurfObject object) {
  return destroy<wire::SurfaceDestroy>(&Registry::surfaces, object);
}

CUresult surface_get_resource(CUDA_RESOURCE_DESC* resource, CUsurfObject object) {
  CUresult result;
  const auto surface = find(&Registry::surfaces, object, result);
  if (!surface) return result;
  if (resource == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *resource = *surface;
  return CUDA_SUCCESS;
}

void forget_textures(Context& context) {
  const std::scoped_lock lock(registry().mutex);
  const auto of_context = [&](const auto& entry) { return entry.first.first == &context; };
  std::erase_if(registry().textures, of_context);
  std::erase_if(registry().surfaces, of_context);
}

}  // namespace avec::client
