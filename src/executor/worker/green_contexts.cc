// Parts of a device, and contexts that have only such a part. Resources and descriptions stay here,
// under names: a client's bytes never reach the driver in their place.
#include <algorithm>
#include <cstring>

#include "executor/worker/session.h"

namespace avec::worker {
namespace {

/// Parts of one split, resources of one description: more than any device has multiprocessors.
constexpr std::uint32_t kMaxParts = 1024;

wire::SmResource facts_of(const CUdevResource& resource) {
  return {resource.sm.smCount, resource.sm.minSmPartitionSize, resource.sm.smCoscheduledAlignment, 0};
}

}  // namespace

Result<> Session::operator()(const Header& header, const wire::DeviceResource& call) {
  CUresult status = CUDA_SUCCESS;
  CUdevResource found{};
  const auto type = static_cast<CUdevResourceType>(call.type());
  if (call.context() != 0) {
    Context* context = find_context(call.context(), status);
    if (context == nullptr) return finish(header, status);
    make_current(*context);
    status = context->green != nullptr ? driver_.cuGreenCtxGetDevResource(context->green, &found, type)
                                       : driver_.cuCtxGetDevResource(context->handle, &found, type);
  } else {
    if (call.device() < 0 || call.device() >= device_count_) return finish(header, CUDA_ERROR_INVALID_DEVICE);
    status = driver_.cuDeviceGetDevResource(call.device(), &found, type);
  }
  if (status != CUDA_SUCCESS) return finish(header, status);
  Resource* resource = resources_.add(call.resource());
  if (resource == nullptr) return protocol_error("a resource's name that cannot be given");
  resource->value = found;
  return answer(header, wire::DeviceResourceReply(facts_of(found)));
}

Result<> Session::operator()(const Header& header, const wire::SmResourceSplit& call) {
  Resource* from = resources_.find(call.resource());
  if (from == nullptr) return finish(header, CUDA_ERROR_INVALID_VALUE);
  if (call.groups() > kMaxParts) return protocol_error("more parts than a device has");
  std::vector<CUdevResource> parts(call.groups());
  unsigned groups = call.groups();
  CUdevResource remaining{};
  const CUresult status =
      driver_.cuDevSmResourceSplitByCount(parts.empty() ? nullptr : parts.data(), &groups, &from->value,
                                          call.remaining() != 0 ? &remaining : nullptr, call.flags(), call.minimum());
  if (status != CUDA_SUCCESS) return finish(header, status);
  flatbuffers::FlatBufferBuilder builder;
  std::vector<wire::SmResource> facts;
  const auto keep = [&](std::uint64_t name, const CUdevResource& value) {
    Resource* resource = resources_.add(name);
    if (resource != nullptr) resource->value = value;
    return resource != nullptr;
  };
  for (unsigned i = 0; i < std::min<std::size_t>(groups, parts.size()); ++i) {
    if (!keep(call.first() + i, parts[i])) return protocol_error("a resource's name that cannot be given");
    facts.push_back(facts_of(parts[i]));
  }
  if (call.remaining() != 0 && !keep(call.remaining(), remaining))
    return protocol_error("a resource's name that cannot be given");
  const auto left = facts_of(remaining);
  const auto list = builder.CreateVectorOfStructs(facts);
  builder.Finish(wire::CreateSmResourceSplitReply(builder, groups, list, &left));
  link_.reply(header, CUDA_SUCCESS, {reinterpret_cast<const std::byte*>(builder.GetBufferPointer()), builder.GetSize()});
  return {};
}

Result<> Session::operator()(const Header& header, const wire::ResourceDescribe& call) {
  std::vector<CUdevResource> resources;
  if (call.resources() == nullptr || call.resources()->size() > kMaxParts)
    return protocol_error("a description of no resource, or of too many");
  for (const std::uint64_t name : *call.resources()) {
    Resource* resource = resources_.find(name);
    if (resource == nullptr) return finish(header, CUDA_ERROR_INVALID_VALUE);
    resources.push_back(resource->value);
  }
  CUdevResourceDesc described = nullptr;
  const CUresult status =
      driver_.cuDevResourceGenerateDesc(&described, resources.data(), static_cast<unsigned>(resources.size()));
  if (status != CUDA_SUCCESS) return finish(header, status);
  Description* description = descriptions_.add(call.description());
  if (description == nullptr) return protocol_error("a description's name that cannot be given");
  description->value = described;
  return finish(header, CUDA_SUCCESS);
}

Result<> Session::operator()(const Header& header, const wire::GreenContextCreate& call) {
  if (call.legacy_stream() == call.per_thread_stream()) return protocol_error("one name for two streams");
  if (streams_.find(call.legacy_stream()) != nullptr || streams_.find(call.per_thread_stream()) != nullptr)
    return protocol_error("a stream's name that is taken");
  Description* description = descriptions_.find(call.description());
  if (description == nullptr) return finish(header, CUDA_ERROR_INVALID_VALUE);
  if (call.device() < 0 || call.device() >= device_count_) return finish(header, CUDA_ERROR_INVALID_DEVICE);
  CUgreenCtx green = nullptr;
  CUcontext handle = nullptr;
  CUresult status = driver_.cuGreenCtxCreate(&green, description->value, call.device(), call.flags());
  if (status == CUDA_SUCCESS) {
    status = driver_.cuCtxFromGreenCtx(&handle, green);
    if (status != CUDA_SUCCESS) driver_.cuGreenCtxDestroy(green);
  }
  if (status != CUDA_SUCCESS) return finish(header, status);
  Context* context = contexts_.add(call.context());
  if (context == nullptr) return protocol_error("a context's name that cannot be given");
  context->handle = handle;
  context->green = green;
  context->device = call.device();
  context->may_print = driver_.set_output != nullptr;
  Stream* legacy = add_stream(call.legacy_stream(), *context);
  Stream* per_thread = add_stream(call.per_thread_stream(), *context);
  if (legacy == nullptr || per_thread == nullptr) return protocol_error("a stream's name that cannot be given");
  legacy->handle = CU_STREAM_LEGACY;
  per_thread->handle = CU_STREAM_PER_THREAD;
  context->legacy = legacy;
  return finish(header, CUDA_SUCCESS);
}

// Both stand for work of many streams: what is held of them comes first, what comes later is held
// behind.
Result<> Session::operator()(const Header& header, const wire::ContextRecordEvent& call) {
  CUresult status;
  Context* context = find_context(call.context(), status);
  if (context == nullptr) return finish(header, status);
  Event* event = find_event(call.event(), status);
  if (event == nullptr) return finish(header, status);
  if (!share_objects(*event->context, *context)) return finish(header, CUDA_ERROR_INVALID_HANDLE);
  if (hold_behind(context->streams, true)) {
    event->held_record = held_end(barriers_);
    return {};
  }
  if (replaying_ != nullptr && event->held_record.sequence == replaying_->sequence) event->held_record = {};
  event->recorded_in = 0;
  make_current(*context);
  return finish(header, driver_.cuCtxRecordEvent(context->handle, event->handle));
}

Result<> Session::operator()(const Header& header, const wire::ContextWaitEvent& call) {
  CUresult status;
  Context* context = find_context(call.context(), status);
  if (context == nullptr) return finish(header, status);
  Event* event = find_event(call.event(), status);
  if (event == nullptr) return finish(header, status);
  std::vector<Stream*> before = context->streams;
  if (event->held_record.stream != nullptr) before.push_back(event->held_record.stream);
  if (hold_behind(before, true)) {
    event->held_waits.push_back(held_end(barriers_));
    return {};
  }
  if (replaying_ != nullptr)
    std::erase_if(event->held_waits, [&](const HeldPoint& p) { return p.sequence == replaying_->sequence; });
  make_current(*context);
  status = driver_.cuCtxWaitEvent(context->handle, event->handle);
  if (status == CUDA_SUCCESS)
    for (Stream* stream : context->streams) completions_.issued(*stream);
  return finish(header, status);
}

}  // namespace avec::worker
