#include "client/green_context.h"

#include <cstring>
#include <mutex>
#include <vector>

#include "client/client.h"
#include "client/context.h"
#include "client/device.h"
#include "client/event.h"
#include "client/process.h"
#include "client/slab.h"
#include "client/status.h"
#include "client/stream.h"
#include "session/session.h"

namespace avec::client {
namespace {

/// What a CUdevResource of ours keeps in its private bytes: the executor has the resource itself.
struct Private {
  std::uint64_t magic = kMagic;
  std::uint64_t name = 0;
  std::int32_t device = 0;
  std::uint32_t reserved = 0;
  static constexpr std::uint64_t kMagic = 0x4156'4543'5245'5331;
};
static_assert(sizeof(Private) <= sizeof(CUdevResource::_internal_padding));

/// A CUdevResourceDesc is the address of one (Slab<Description>).
struct Description {
  std::uint64_t name = 0;
  CUdevice device = 0;
};

bool read(const CUdevResource* resource, Private& out) {
  if (resource == nullptr || resource->type != CU_DEV_RESOURCE_TYPE_SM) return false;
  std::memcpy(&out, resource->_internal_padding, sizeof out);
  return out.magic == Private::kMagic;
}

void write(CUdevResource& resource, std::uint64_t name, CUdevice device, const wire::SmResource& facts) {
  std::memset(&resource, 0, sizeof resource);
  resource.type = CU_DEV_RESOURCE_TYPE_SM;
  Private own;
  own.name = name;
  own.device = device;
  std::memcpy(resource._internal_padding, &own, sizeof own);
  resource.sm.smCount = facts.processors();
  resource.sm.minSmPartitionSize = facts.minimum();
  resource.sm.smCoscheduledAlignment = facts.alignment();
}

CUresult resource_of(Client& client, std::uint64_t context, CUdevice device, CUdevResource* resource,
                     CUdevResourceType type) {
  if (resource == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (type != CU_DEV_RESOURCE_TYPE_SM) return CUDA_ERROR_INVALID_RESOURCE_TYPE;
  const std::uint64_t name = client.mint();
  const auto reply = client.session().call(wire::DeviceResource(name, context, device, type));
  if (!reply) return to_cuda(reply.error());
  write(*resource, name, device, reply->processors());
  return CUDA_SUCCESS;
}

Context* find_green(CUgreenCtx handle) {
  Context* context = find_context(reinterpret_cast<CUcontext>(handle));
  return context != nullptr && context->green && context->active() ? context : nullptr;
}

CUgreenCtx green_handle(Context* context) { return reinterpret_cast<CUgreenCtx>(context); }

CUresult find_live(CUcontext handle, Context*& context) {
  context = find_context(handle);
  if (context == nullptr || !context->active()) return CUDA_ERROR_INVALID_CONTEXT;
  return static_cast<CUresult>(context->error.load());
}

}  // namespace

CUresult device_resource(Client& client, CUdevice device, CUdevResource* resource, CUdevResourceType type) {
  if (client.device(device) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  return resource_of(client, 0, device, resource, type);
}

CUresult context_resource(CUcontext handle, CUdevResource* resource, CUdevResourceType type) {
  Context* context;
  if (const CUresult result = find_live(handle, context); result != CUDA_SUCCESS) return result;
  return resource_of(*context->client, context->name.load(), context->device->ordinal(), resource, type);
}

CUresult green_resource(CUgreenCtx green, CUdevResource* resource, CUdevResourceType type) {
  Context* context = find_green(green);
  if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  return resource_of(*context->client, context->name.load(), context->device->ordinal(), resource, type);
}

CUresult resource_split(CUdevResource* parts, unsigned* count, const CUdevResource* resource, CUdevResource* remaining,
                        unsigned flags, unsigned minimum) {
  CUresult error = CUDA_SUCCESS;
  Client* client = process_client(error);
  if (client == nullptr) return error;
  Private from;
  if (count == nullptr || resource == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (resource->type != CU_DEV_RESOURCE_TYPE_SM) return CUDA_ERROR_INVALID_RESOURCE_TYPE;
  if (!read(resource, from) || (parts != nullptr && *count == 0) || minimum > resource->sm.smCount)
    return CUDA_ERROR_INVALID_VALUE;
  constexpr unsigned kMost = 1024;
  const unsigned wanted = parts == nullptr ? 0 : std::min(*count, kMost);
  const std::uint64_t first = client->mint(std::uint64_t{wanted} + 1);
  const std::uint64_t rest = remaining != nullptr ? first + wanted : 0;
  const auto reply =
      client->session().call(wire::SmResourceSplit(from.name, first, rest, wanted, flags, minimum, 0));
  if (!reply) return to_cuda(reply.error());
  const auto* facts = (*reply)->parts();
  for (unsigned i = 0; facts != nullptr && i < std::min<unsigned>(facts->size(), wanted); ++i)
    write(parts[i], first + i, from.device, *facts->Get(i));
  if (remaining != nullptr && (*reply)->remaining() != nullptr)
    write(*remaining, rest, from.device, *(*reply)->remaining());
  *count = (*reply)->groups();
  return CUDA_SUCCESS;
}

CUresult resource_describe(CUdevResourceDesc* description, const CUdevResource* resources, unsigned count) {
  CUresult error = CUDA_SUCCESS;
  Client* client = process_client(error);
  if (client == nullptr) return error;
  if (description == nullptr || resources == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
  std::vector<std::uint64_t> names;
  CUdevice device = 0;
  for (unsigned i = 0; i < count; ++i) {
    Private one;
    if (resources[i].type != CU_DEV_RESOURCE_TYPE_SM) return CUDA_ERROR_INVALID_RESOURCE_TYPE;
    if (!read(&resources[i], one)) return CUDA_ERROR_INVALID_VALUE;
    if (i != 0 && one.device != device) return CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION;
    device = one.device;
    names.push_back(one.name);
  }
  Description* made = Slab<Description>::make();
  if (made == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  made->name = client->mint();
  made->device = device;
  flatbuffers::FlatBufferBuilder builder;
  const auto list = builder.CreateVector(names);
  builder.Finish(wire::CreateResourceDescribe(builder, made->name, list));
  const CUresult result = to_cuda(client->session().call<wire::ResourceDescribe>(builder));
  if (result != CUDA_SUCCESS) {
    Slab<Description>::destroy(made);
    return result;
  }
  *description = reinterpret_cast<CUdevResourceDesc>(made);
  return CUDA_SUCCESS;
}

CUresult green_create(Client& client, CUgreenCtx* green, CUdevResourceDesc handle, CUdevice device, unsigned flags) {
  const Description* description = Slab<Description>::find(handle);
  if (green == nullptr || description == nullptr || flags != CU_GREEN_CTX_DEFAULT_STREAM) return CUDA_ERROR_INVALID_VALUE;
  if (client.device(device) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (description->device != device) return CUDA_ERROR_INVALID_VALUE;
  const std::uint64_t name = client.mint(3);
  const CUresult result = to_cuda(
      client.session().call(wire::GreenContextCreate(name, name + 1, name + 2, description->name, device, flags)));
  if (result != CUDA_SUCCESS) return result;
  Context* context = Slab<Context>::make();
  Stream* legacy = Slab<Stream>::make();
  if (context == nullptr || legacy == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  context->client = &client;
  context->device = client.device(device);
  context->green = true;
  context->id = name;
  legacy->context = context;
  legacy->name = name + 1;
  legacy->is_default = true;
  context->legacy.store(legacy);
  client.note_unordered_streams();
  client.add_context(context);
  context->name.store(name, std::memory_order_release);
  *green = green_handle(context);
  return CUDA_SUCCESS;
}

CUresult green_destroy(CUgreenCtx green) {
  Context* context = find_green(green);
  return context != nullptr ? context_destroy(handle_of(context)) : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult green_context(CUcontext* handle, CUgreenCtx green) {
  Context* context = find_green(green);
  if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *handle = handle_of(context);
  return CUDA_SUCCESS;
}

CUresult green_stream_create(CUstream* stream, CUgreenCtx green, unsigned flags, int priority) {
  Context* context = find_green(green);
  if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (stream == nullptr || flags != CU_STREAM_NON_BLOCKING) return CUDA_ERROR_INVALID_VALUE;
  // In this context, whatever is current.
  Context* before = current_context;
  current_context = context;
  const CUresult result = stream_create(stream, flags, priority);
  current_context = before;
  return result;
}

CUresult green_record_event(CUgreenCtx green, CUevent event) {
  Context* context = find_green(green);
  return context != nullptr ? context_record_event(handle_of(context), event) : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult green_wait_event(CUgreenCtx green, CUevent event) {
  Context* context = find_green(green);
  return context != nullptr ? context_wait_event(handle_of(context), event) : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult green_id(CUgreenCtx green, unsigned long long* id) {
  Context* context = find_green(green);
  if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (id == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *id = context->id;
  return CUDA_SUCCESS;
}

CUresult green_of_stream(CUstream handle, CUgreenCtx* green) {
  Stream* stream;
  if (const CUresult result = resolve_stream(handle, stream); result != CUDA_SUCCESS) return result;
  if (green == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *green = stream->context->green ? green_handle(stream->context) : nullptr;
  return CUDA_SUCCESS;
}

CUresult contexts_of_stream(CUstream handle, CUcontext* context, CUgreenCtx* green) {
  Stream* stream;
  if (const CUresult result = resolve_stream(handle, stream); result != CUDA_SUCCESS) return result;
  if (context == nullptr || green == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Context& own = *stream->context;
  *green = own.green ? green_handle(&own) : nullptr;
  *context = handle_of(own.green ? own.client->primary(own.device->ordinal()) : &own);
  return CUDA_SUCCESS;
}

CUresult context_record_event(CUcontext handle, CUevent event_handle) {
  Context* context;
  if (const CUresult result = find_live(handle, context); result != CUDA_SUCCESS) return result;
  Event* event = Slab<Event>::find(event_handle);
  if (event == nullptr || !share_objects(*event->context, *context)) return CUDA_ERROR_INVALID_HANDLE;
  recorded_elsewhere(*event);  // in every stream: the executor is asked
  return to_cuda(context->client->session().post(wire::ContextRecordEvent(context->name.load(), event->name)));
}

CUresult context_wait_event(CUcontext handle, CUevent event_handle) {
  Context* context;
  if (const CUresult result = find_live(handle, context); result != CUDA_SUCCESS) return result;
  const Event* event = Slab<Event>::find(event_handle);
  if (event == nullptr || event->context->client != context->client) return CUDA_ERROR_INVALID_HANDLE;
  if (!event->recorded()) return CUDA_SUCCESS;
  session::Session& session = context->client->session();
  const CUresult posted = to_cuda(session.post(wire::ContextWaitEvent(context->name.load(), event->name)));
  // Work of every stream, the executor is asked when it has been done.
  const std::uint64_t frame = session.last_posted();
  std::scoped_lock lock(context->mutex);
  for (Stream* stream : context->streams) stream->progress.last.end(frame);
  if (Stream* legacy = context->legacy.load()) legacy->progress.last.end(frame);
  context->blocking_work.end(frame);
  return posted;
}

}  // namespace avec::client
