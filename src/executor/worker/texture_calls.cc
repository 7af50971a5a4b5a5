// Texture and surface objects: values of the driver's that kernels get, each of a context.
#include "executor/worker/session.h"

namespace avec::worker {

CUresult Session::find_resource(const wire::Resource& from, CUDA_RESOURCE_DESC& resource) {
  CUresult status = CUDA_SUCCESS;
  resource.resType = static_cast<CUresourcetype>(from.kind());
  resource.flags = from.flags();
  const auto format = static_cast<CUarray_format>(from.format());
  switch (resource.resType) {
    case CU_RESOURCE_TYPE_ARRAY:
    case CU_RESOURCE_TYPE_MIPMAPPED_ARRAY: {
      const Array* array = find_array(from.array(), status);
      if (array == nullptr) return status;
      if ((array->handle != nullptr) != (resource.resType == CU_RESOURCE_TYPE_ARRAY)) return CUDA_ERROR_INVALID_VALUE;
      if (array->handle != nullptr) {
        resource.res.array.hArray = array->handle;
      } else {
        resource.res.mipmap.hMipmappedArray = array->mipmapped;
      }
      return CUDA_SUCCESS;
    }
    case CU_RESOURCE_TYPE_LINEAR: {
      const Extent all{from.address(), from.width(), from.width(), 1};
      if (!all.sane()) return CUDA_ERROR_INVALID_VALUE;
      resource.res.linear = {from.address(), format, from.channels(), from.width()};
      return check_extent(all);
    }
    case CU_RESOURCE_TYPE_PITCH2D: {
      const ArrayFormat known = array_format(from.format());
      if (!known.known() || from.channels() > 4 || from.width() > limits::kMaxPayloadBytes)
        return CUDA_ERROR_INVALID_VALUE;
      const Extent all{from.address(), from.pitch(), from.width() * known.bytes(from.channels()), from.height()};
      if (!all.sane()) return CUDA_ERROR_INVALID_VALUE;
      resource.res.pitch2D = {from.address(), format, from.channels(), from.width(), from.height(), from.pitch()};
      return check_extent(all);
    }
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

Result<> Session::operator()(const Header& header, const wire::TextureCreate& call) {
  CUresult status;
  Context* context = find_context(call.context(), status);
  if (context == nullptr) return finish(header, status);
  CUDA_RESOURCE_DESC resource{};
  if (status = find_resource(call.resource(), resource); status != CUDA_SUCCESS) return finish(header, status);
  const wire::Sampler& from = call.sampler();
  CUDA_TEXTURE_DESC sampler{};
  sampler.addressMode[0] = static_cast<CUaddress_mode>(from.address_x());
  sampler.addressMode[1] = static_cast<CUaddress_mode>(from.address_y());
  sampler.addressMode[2] = static_cast<CUaddress_mode>(from.address_z());
  sampler.filterMode = static_cast<CUfilter_mode>(from.filter());
  sampler.flags = from.flags();
  sampler.maxAnisotropy = from.max_anisotropy();
  sampler.mipmapFilterMode = static_cast<CUfilter_mode>(from.mipmap_filter());
  sampler.mipmapLevelBias = from.mipmap_bias();
  sampler.minMipmapLevelClamp = from.min_level();
  sampler.maxMipmapLevelClamp = from.max_level();
  sampler.borderColor[0] = from.border_r();
  sampler.borderColor[1] = from.border_g();
  sampler.borderColor[2] = from.border_b();
  sampler.borderColor[3] = from.border_a();
  CUDA_RESOURCE_VIEW_DESC view{};
  const wire::ResourceView& seen = call.view();
  if (seen.present() != 0) {
    view.format = static_cast<CUresourceViewFormat>(seen.format());
    view.width = seen.width();
    view.height = seen.height();
    view.depth = seen.depth();
    view.firstMipmapLevel = seen.first_level();
    view.lastMipmapLevel = seen.last_level();
    view.firstLayer = seen.first_layer();
    view.lastLayer = seen.last_layer();
  }
  if (context->textures.size() >= limits::kMaxHandles) return finish(header, CUDA_ERROR_OUT_OF_MEMORY);
  make_current(*context);
  CUtexObject object = 0;
  status = driver_.cuTexObjectCreate(&object, &resource, &sampler, seen.present() != 0 ? &view : nullptr);
  if (status != CUDA_SUCCESS) return finish(header, status);
  context->textures.insert(object);
  return answer(header, wire::ObjectReply(object));
}

Result<> Session::operator()(const Header& header, const wire::SurfaceCreate& call) {
  CUresult status;
  Context* context = find_context(call.context(), status);
  if (context == nullptr) return finish(header, status);
  const Array* array = find_array(call.array(), status);
  if (array == nullptr) return finish(header, status);
  if (array->handle == nullptr) return finish(header, CUDA_ERROR_INVALID_VALUE);
  if (context->surfaces.size() >= limits::kMaxHandles) return finish(header, CUDA_ERROR_OUT_OF_MEMORY);
  CUDA_RESOURCE_DESC resource{};
  resource.resType = CU_RESOURCE_TYPE_ARRAY;
  resource.res.array.hArray = array->handle;
  make_current(*context);
  CUsurfObject object = 0;
  status = driver_.cuSurfObjectCreate(&object, &resource);
  if (status != CUDA_SUCCESS) return finish(header, status);
  context->surfaces.insert(object);
  return answer(header, wire::ObjectReply(object));
}

// An object's value may be given again once the driver has taken it back: it keeps its entry till then.

Result<> Session::operator()(const Header& header, const wire::TextureDestroy& call) {
  CUresult status;
  Context* context = find_context(call.context(), status);
  if (context == nullptr) return finish(header, status);
  if (!context->textures.contains(call.object())) return finish(header, CUDA_ERROR_INVALID_VALUE);
  if (hold_behind(context->streams, false)) return {};
  when_idle(*context, [this, name = call.context(), object = call.object()] {
    CUresult ignored;
    Context* owner = find_context(name, ignored);
    if (owner == nullptr || owner->textures.erase(object) == 0) return;
    make_current(*owner);
    driver_.cuTexObjectDestroy(object);
  });
  return finish(header, CUDA_SUCCESS);
}

Result<> Session::operator()(const Header& header, const wire::SurfaceDestroy& call) {
  CUresult status;
  Context* context = find_context(call.context(), status);
  if (context == nullptr) return finish(header, status);
  if (!context->surfaces.contains(call.object())) return finish(header, CUDA_ERROR_INVALID_VALUE);
  if (hold_behind(context->streams, false)) return {};
  when_idle(*context, [this, name = call.context(), object = call.object()] {
    CUresult ignored;
    Context* owner = find_context(name, ignored);
    if (owner == nullptr || owner->surfaces.erase(object) == 0) return;
    make_current(*owner);
    driver_.cuSurfObjectDestroy(object);
  });
  return finish(header, CUDA_SUCCESS);
}

}  // namespace avec::worker
