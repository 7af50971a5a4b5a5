// Arrays and mipmapped arrays: their lives. Copies of their rows: array_copies.cc.
#include <algorithm>

#include "executor/worker/session.h"

namespace avec::worker {

Array* Session::find_array(std::uint64_t name, CUresult& status) {
  Array* array = arrays_.find(name);
  const bool usable = array != nullptr && !array->making;
  status = usable ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  return usable ? array : nullptr;
}

Result<> Session::operator()(const Header& header, const wire::ArrayCreate& call) {
  if (call.width() > limits::kMaxPayloadBytes || call.height() > limits::kMaxPayloadBytes ||
      call.depth() > limits::kMaxPayloadBytes)
    return finish(header, CUDA_ERROR_INVALID_VALUE);
  CUresult status;
  Context* context = find_context(call.context(), status);
  if (context == nullptr) return finish(header, status);
  Array* array = arrays_.add(call.array());
  if (array == nullptr) return protocol_error("an array's name that cannot be given");
  array->context = context;
  array->levels = call.levels();
  make_array_on_helper(header, call);
  return {};
}

void Session::make_array_on_helper(Header header, wire::ArrayCreate call) {
  CUDA_ARRAY3D_DESCRIPTOR descriptor{};
  descriptor.Width = call.width();
  descriptor.Height = call.height();
  descriptor.Depth = call.depth();
  descriptor.Format = static_cast<CUarray_format>(call.format());
  descriptor.NumChannels = call.channels();
  descriptor.Flags = call.flags();
  const CUcontext context = arrays_.find(call.array())->context->handle;
  const std::uint64_t back_before = unmapped_;
  helpers_.run([=, this]() -> std::function<void()> {
    driver_.cuCtxSetCurrent(context);
    CUarray array = nullptr;
    CUmipmappedArray mipmapped = nullptr;
    const CUresult status = call.levels() == 0
                                ? driver_.cuArray3DCreate(&array, &descriptor)
                                : driver_.cuMipmappedArrayCreate(&mipmapped, &descriptor, call.levels());
    return [=, this] {
      const bool known = arrays_.find(call.array()) != nullptr;
      if (known && status == CUDA_ERROR_OUT_OF_MEMORY && (memory_coming_back() || unmapped_ != back_before)) {
        // The client has freed memory that is not back yet, or came back meanwhile.
        waiting_arrays_.emplace_back(header, call);
        if (!memory_coming_back()) make_waiting_arrays();
        return;
      }
      array_made(header, call, array, mipmapped, status);
    };
  });
}

void Session::make_waiting_arrays() {
  for (const auto& [header, call] : std::exchange(waiting_arrays_, {})) {
    if (arrays_.find(call.array()) != nullptr) {
      make_array_on_helper(header, call);
    } else {
      finish(header, CUDA_ERROR_CONTEXT_IS_DESTROYED);
    }
  }
}

void Session::array_made(const Header& header, const wire::ArrayCreate& call, CUarray handle,
                         CUmipmappedArray mipmapped, CUresult status) {
  Array* array = arrays_.find(call.array());
  if (array == nullptr) {  // its context is gone
    if (handle != nullptr) driver_.cuArrayDestroy(handle);
    if (mipmapped != nullptr) driver_.cuMipmappedArrayDestroy(mipmapped);
    finish(header, CUDA_ERROR_CONTEXT_IS_DESTROYED);
    return;
  }
  array->making = false;
  array->handle = handle;
  array->mipmapped = mipmapped;
  if (handle != nullptr) {
    std::uint64_t slices = call.depth();
    if ((call.flags() & CUDA_ARRAY3D_CUBEMAP) != 0 && slices == 0) slices = 6;
    array->shape = array_shape(call.width(), call.height(), slices, call.format(), call.channels());
  }
  if (status != CUDA_SUCCESS) arrays_.remove(call.array());
  finish(header, status);
}

Result<> Session::operator()(const Header& header, const wire::ArrayPart& call) {
  if (hold_behind(all_streams(), false)) return {};
  CUresult status;
  Array* whole = find_array(call.whole(), status);
  if (whole == nullptr) return finish(header, status);
  const bool right_kind = call.plane() != 0 ? whole->handle != nullptr : whole->mipmapped != nullptr;
  if (!right_kind || (call.plane() == 0 && call.index() >= whole->levels) ||
      whole->parts.size() >= limits::kMaxArrayParts)
    return finish(header, CUDA_ERROR_INVALID_VALUE);
  Context& context = *whole->context;
  make_current(context);
  CUarray handle = nullptr;
  status = call.plane() != 0 ? driver_.cuArrayGetPlane(&handle, whole->handle, call.index())
                             : driver_.cuMipmappedArrayGetLevel(&handle, whole->mipmapped, call.index());
  CUDA_ARRAY3D_DESCRIPTOR descriptor{};
  if (status == CUDA_SUCCESS) status = driver_.cuArray3DGetDescriptor(&descriptor, handle);
  if (status != CUDA_SUCCESS) return finish(header, status);
  Array* part = arrays_.add(call.part());
  if (part == nullptr) return protocol_error("an array's name that cannot be given");
  part->context = &context;
  part->handle = handle;
  part->whole = call.whole();
  part->making = false;
  part->shape = array_shape(descriptor.Width, descriptor.Height, descriptor.Depth, descriptor.Format,
                            descriptor.NumChannels);
  arrays_.find(call.whole())->parts.push_back(call.part());
  return answer(header, wire::ArrayPartReply(descriptor.Width, descriptor.Height, descriptor.Depth,
                                             static_cast<std::uint32_t>(descriptor.Format), descriptor.NumChannels,
                                             descriptor.Flags, 0));
}

Result<> Session::operator()(const Header& header, const wire::ArrayRequirements& call) {
  CUresult status;
  Array* array = find_array(call.array(), status);
  if (array == nullptr) return finish(header, status);
  if (call.device() < 0 || call.device() >= device_count_) return finish(header, CUDA_ERROR_INVALID_DEVICE);
  make_current(*array->context);
  CUDA_ARRAY_MEMORY_REQUIREMENTS needs{};
  status = array->handle != nullptr
               ? driver_.cuArrayGetMemoryRequirements(&needs, array->handle, call.device())
               : driver_.cuMipmappedArrayGetMemoryRequirements(&needs, array->mipmapped, call.device());
  if (status != CUDA_SUCCESS) return finish(header, status);
  return answer(header, wire::ArrayRequirementsReply(needs.size, needs.alignment));
}

void Session::when_idle(Context& context, std::function<void()> action) {
  std::vector<Stream*> busy;
  for (Stream* stream : context.streams)
    if (stream->issued != stream->completed) busy.push_back(stream);
  completions_.then_all(busy, [this, action = std::move(action)](CUresult) { later_.push_back(action); });
}

Result<> Session::operator()(const Header& header, const wire::ArrayDestroy& call) {
  if (hold_behind(all_streams(), false)) return {};
  CUresult status;
  Array* found = find_array(call.array(), status);
  if (found == nullptr) return finish(header, status);
  if (found->whole != 0) return protocol_error("the end of a part of an array");
  std::shared_ptr<Array> array = arrays_.remove(call.array());
  for (const std::uint64_t part : array->parts) arrays_.remove(part);
  // Kernels of any context may still read it.
  std::vector<Stream*> busy;
  for (Stream* stream : all_streams())
    if (stream->issued != stream->completed) busy.push_back(stream);
  ++arrays_going_;
  const CUcontext context = array->context->handle;
  const std::uint64_t context_name = array->context->name;
  const auto free_now = [this, array, context, context_name] {
    helpers_.run([this, array, context, alive = contexts_.find(context_name) != nullptr]() -> std::function<void()> {
      if (alive) {
        driver_.cuCtxSetCurrent(context);
        free_array(*array);
      }
      return [this] {
        --arrays_going_;
        ++unmapped_;
        map_waiting();
      };
    });
  };
  completions_.then_all(busy, [this, free_now](CUresult) { later_.push_back(free_now); });
  return finish(header, CUDA_SUCCESS);
}

void Session::free_array(const Array& array) {
  if (array.whole != 0) return;
  if (array.handle != nullptr) driver_.cuArrayDestroy(array.handle);
  if (array.mipmapped != nullptr) driver_.cuMipmappedArrayDestroy(array.mipmapped);
}

void Session::free_arrays_of(Context& context) {
  for (const std::uint64_t object : std::exchange(context.textures, {})) driver_.cuTexObjectDestroy(object);
  for (const std::uint64_t object : std::exchange(context.surfaces, {})) driver_.cuSurfObjectDestroy(object);
  std::vector<std::uint64_t> names;
  for (auto& [name, array] : arrays_)
    if (array->context == &context) names.push_back(name);
  for (const std::uint64_t name : names) free_array(*arrays_.remove(name));
}

}  // namespace avec::worker
