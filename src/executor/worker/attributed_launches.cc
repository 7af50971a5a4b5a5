// Launches with attributes, attributes of streams, occupancy of clusters.
#include <algorithm>
#include <cstring>

#include "executor/worker/session.h"

namespace avec::worker {
namespace {

static_assert(sizeof(wire::LaunchAttribute) == sizeof(CUlaunchAttribute));
static_assert(offsetof(CUlaunchAttribute, value) == 8 && sizeof(CUlaunchAttributeValue) == 64);

/// Attributes of one launch: CUDA knows fewer than 20.
constexpr std::uint32_t kMaxAttributes = 32;

/// The value of an attribute with an event: its name, then its handle. Programmatic and completion
/// events lie at the same place.
std::uint64_t event_name(const CUlaunchAttribute& attribute) {
  std::uint64_t name;
  std::memcpy(&name, &attribute.value, sizeof name);
  return name;
}

bool has_event(const CUlaunchAttribute& attribute) {
  return attribute.id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT ||
         attribute.id == CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT;
}

/// What the executor passes on: values that hold no pointer to memory of this process, and events.
bool known(int id) {
  switch (id) {
    case CU_LAUNCH_ATTRIBUTE_IGNORE:
    case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
    case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
    case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
    case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
    case CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
    case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
    case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT:
    case CU_LAUNCH_ATTRIBUTE_PRIORITY:
    case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
    case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
    case CU_LAUNCH_ATTRIBUTE_PREFERRED_CLUSTER_DIMENSION:
    case CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT:
    case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
    case CU_LAUNCH_ATTRIBUTE_NVLINK_UTIL_CENTRIC_SCHEDULING:
      return true;
    default:
      return false;
  }
}

CUlaunchAttribute native(const wire::LaunchAttribute& attribute) {
  CUlaunchAttribute result;
  std::memcpy(static_cast<void*>(&result), &attribute, sizeof result);
  return result;
}

}  // namespace

Result<> Session::operator()(const Header& header, const wire::LaunchKernelEx& call) {
  if (frame_->payload_follows || call.attributes() > kMaxAttributes)
    return protocol_error("a launch with too many attributes");
  const std::size_t attribute_bytes = call.attributes() * sizeof(CUlaunchAttribute);
  if (frame_->payload.size() < attribute_bytes ||
      frame_->payload.size() - attribute_bytes > limits::kMaxParameterBytes)
    return protocol_error("a parameter buffer over the limit");
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  Module* module = nullptr;
  Function* function = find_function(call.module_(), call.index(), module, status);
  if (function == nullptr) return finish(header, status);
  if (!share_objects(*module->context, *stream->context)) return finish(header, CUDA_ERROR_INVALID_HANDLE);
  if (frame_->payload.size() - attribute_bytes != function->parameter_bytes)
    return protocol_error("a parameter buffer that does not have the function's size");

  std::vector<CUlaunchAttribute> attributes(call.attributes());
  if (attribute_bytes != 0) std::memcpy(static_cast<void*>(attributes.data()), frame_->payload.data(), attribute_bytes);
  std::vector<Event*> events;
  std::vector<HeldPoint> after{held_setting(call.module_(), call.index())};
  for (CUlaunchAttribute& attribute : attributes) {
    if (!known(attribute.id)) return finish(header, CUDA_ERROR_NOT_SUPPORTED);
    if (!has_event(attribute)) continue;
    Event* event = find_event(event_name(attribute), status);
    if (event == nullptr) return finish(header, status);
    if (!share_objects(*event->context, *stream->context)) return finish(header, CUDA_ERROR_INVALID_HANDLE);
    std::memcpy(static_cast<void*>(&attribute.value), &event->handle, sizeof event->handle);
    events.push_back(event);
    // The launch records the event: as EventRecord.
    after.insert(after.end(), event->held_waits.begin(), event->held_waits.end());
    after.push_back(event->held_record);
  }
  if (hold(*stream, after)) {
    for (Event* event : events) event->held_record = {stream, stream->held.back().sequence};
    return {};
  }
  for (Event* event : events) {
    if (replaying_ != nullptr && event->held_record.sequence == replaying_->sequence) event->held_record = {};
    event->recorded_in = stream->name;
  }
  before_issue(*stream);
  module->in_graphs |= stream->capturing;
  std::vector<void*> parameters(function->offsets.size());
  auto* buffer = const_cast<std::byte*>(frame_->payload.data()) + attribute_bytes;
  for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i] = buffer + function->offsets[i];
  const CUlaunchConfig config{call.grid_x(),       call.grid_y(),     call.grid_z(),     call.block_x(),
                              call.block_y(),      call.block_z(),    call.shared_bytes(), stream->handle,
                              attributes.data(), call.attributes()};
  status = driver_.cuLaunchKernelEx(&config, function->handle, parameters.data(), nullptr);
  if (status == CUDA_SUCCESS) completions_.issued(*stream);
  return finish(header, status);
}

Result<> Session::operator()(const Header& header, const wire::StreamSetAttribute& call) {
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  const CUlaunchAttribute attribute = native(call.attribute());
  if (!known(attribute.id) || has_event(attribute)) return finish(header, CUDA_ERROR_INVALID_VALUE);
  if (hold(*stream)) return {};
  before_issue(*stream);
  return finish(header, driver_.cuStreamSetAttribute(stream->handle, attribute.id, &attribute.value));
}

Result<> Session::operator()(const Header& header, const wire::OccupancyClusters& call) {
  if (call.attributes() != nullptr && call.attributes()->size() > kMaxAttributes)
    return protocol_error("a configuration with too many attributes");
  CUresult status;
  Module* module = nullptr;
  Function* function = find_function(call.module_(), call.index(), module, status);
  if (function == nullptr) return finish(header, status);
  std::vector<CUlaunchAttribute> attributes;
  for (flatbuffers::uoffset_t i = 0; call.attributes() != nullptr && i < call.attributes()->size(); ++i) {
    attributes.push_back(native(*call.attributes()->Get(i)));
    if (!known(attributes.back().id) || has_event(attributes.back())) return finish(header, CUDA_ERROR_INVALID_VALUE);
  }
  if (auto setting = held_setting(call.module_(), call.index()); setting.stream != nullptr) {
    if (hold_behind({setting.stream}, false)) return {};
  }
  make_current(*module->context);
  const CUlaunchConfig config{call.grid_x(),     call.grid_y(),       call.grid_z(),
                              call.block_x(),    call.block_y(),      call.block_z(),
                              call.shared_bytes(), nullptr, attributes.data(), static_cast<unsigned>(attributes.size())};
  int clusters = 0;
  status = call.active() != 0 ? driver_.cuOccupancyMaxActiveClusters(&clusters, function->handle, &config)
                              : driver_.cuOccupancyMaxPotentialClusterSize(&clusters, function->handle, &config);
  if (status != CUDA_SUCCESS) return finish(header, status);
  return answer(header, wire::OccupancyClustersReply(clusters, 0));
}

}  // namespace avec::worker
