#include "client/launch_attributes.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "client/client.h"
#include "client/context.h"
#include "client/device.h"
#include "client/event.h"
#include "client/function.h"
#include "client/module.h"
#include "client/slab.h"
#include "client/status.h"
#include "client/stream.h"
#include "session/session.h"

namespace avec::client {
namespace {

static_assert(sizeof(wire::LaunchAttribute) == sizeof(CUlaunchAttribute));

/// Configurations remembered of one function.
constexpr std::size_t kRemembered = 1024;
/// Memory synchronisation domains of a device that has them (compute capability 9.0).
constexpr unsigned char kDefaultRemoteDomain = 1;

CUresult check_window(const CUaccessPolicyWindow& window, const Device& device) {
  const auto known = [](CUaccessProperty property) {
    return property == CU_ACCESS_PROPERTY_NORMAL || property == CU_ACCESS_PROPERTY_STREAMING ||
           property == CU_ACCESS_PROPERTY_PERSISTING;
  };
  if (!known(window.hitProp) || !known(window.missProp) || window.missProp == CU_ACCESS_PROPERTY_PERSISTING)
    return CUDA_ERROR_INVALID_VALUE;
  // Not a number fails too.
  if (!(window.hitRatio >= 0.0F && window.hitRatio <= 1.0F)) return CUDA_ERROR_INVALID_VALUE;
  const int most = device.attribute(CU_DEVICE_ATTRIBUTE_MAX_ACCESS_POLICY_WINDOW_SIZE);
  return window.num_bytes <= static_cast<std::size_t>(std::max(most, 0)) ? CUDA_SUCCESS
                                                                         : CUDA_ERROR_INVALID_VALUE;
}

CUresult check_cluster(unsigned x, unsigned y, unsigned z, const Device& device) {
  if (x == 0 || y == 0 || z == 0) return CUDA_ERROR_INVALID_VALUE;
  if (x == 1 && y == 1 && z == 1) return CUDA_SUCCESS;
  return device.attribute(CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH) != 0 ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED;
}

/// The event that a launch records: its name in place of its handle.
CUresult name_event(CUlaunchAttribute& attribute, Stream& stream, std::vector<CUevent>& events) {
  CUevent handle;
  std::memcpy(&handle, &attribute.value, sizeof handle);
  const Event* event = Slab<Event>::find(handle);
  if (event == nullptr || !share_objects(*event->context, *stream.context)) return CUDA_ERROR_INVALID_HANDLE;
  if ((event->flags & CU_EVENT_DISABLE_TIMING) == 0) return CUDA_ERROR_INVALID_VALUE;
  std::memcpy(static_cast<void*>(&attribute.value), &event->name, sizeof event->name);
  events.push_back(handle);
  return CUDA_SUCCESS;
}

CUresult read_attribute(CUlaunchAttribute attribute, Stream& stream, LaunchAttributes& out) {
  const Device& device = *stream.context->device;
  const CUlaunchAttributeValue& value = attribute.value;
  CUresult result = CUDA_SUCCESS;
  switch (attribute.id) {
    case CU_LAUNCH_ATTRIBUTE_IGNORE:
      return CUDA_SUCCESS;
    case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
      out.cooperative = value.cooperative != 0;
      return CUDA_SUCCESS;
    case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
      result = check_window(value.accessPolicyWindow, device);
      break;
    case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
      result = check_cluster(value.clusterDim.x, value.clusterDim.y, value.clusterDim.z, device);
      break;
    case CU_LAUNCH_ATTRIBUTE_PREFERRED_CLUSTER_DIMENSION:
      result = check_cluster(value.preferredClusterDim.x, value.preferredClusterDim.y,
                             value.preferredClusterDim.z, device);
      break;
    case CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
      if (value.clusterSchedulingPolicyPreference > CU_CLUSTER_SCHEDULING_POLICY_LOAD_BALANCING)
        result = CUDA_ERROR_INVALID_VALUE;
      break;
    case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT:
    case CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT:
      result = name_event(attribute, stream, out.events);
      break;
    case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
    case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
    case CU_LAUNCH_ATTRIBUTE_PRIORITY:
    case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
    case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
    case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
    case CU_LAUNCH_ATTRIBUTE_NVLINK_UTIL_CENTRIC_SCHEDULING:
      break;
    // A handle for kernels that change a graph: of a node, and known to the device only.
    case CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE:
      return value.deviceUpdatableKernelNode.deviceUpdatable == 0 ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
  if (result == CUDA_SUCCESS) {
    std::memset(attribute.pad, 0, sizeof attribute.pad);
    out.sent.push_back(attribute);
  }
  return result;
}

/// The stream's own value, or null. Under the context's mutex.
const CUlaunchAttribute* find_attribute(const Stream& stream, CUstreamAttrID which) {
  const auto found = std::ranges::find(stream.attributes, which, &CUlaunchAttribute::id);
  return found == stream.attributes.end() ? nullptr : &*found;
}

bool of_streams(CUstreamAttrID which) {
  return which == CU_STREAM_ATTRIBUTE_ACCESS_POLICY_WINDOW || which == CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY ||
         which == CU_STREAM_ATTRIBUTE_PRIORITY || which == CU_STREAM_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP ||
         which == CU_STREAM_ATTRIBUTE_MEM_SYNC_DOMAIN;
}

/// What CUDA answers for a stream whose policy was never set.
constexpr auto kPolicyNotSet = static_cast<CUsynchronizationPolicy>(-1);

/// Posts the attribute and remembers it.
CUresult set_attribute(Stream& stream, CUlaunchAttribute attribute) {
  wire::LaunchAttribute sent;
  std::memcpy(static_cast<void*>(&sent), &attribute, sizeof sent);
  const auto posted = stream.context->client->session().post(wire::StreamSetAttribute(stream.name, sent));
  if (!posted) return to_cuda(posted.error());
  std::scoped_lock lock(stream.context->mutex);
  if (attribute.id == CU_LAUNCH_ATTRIBUTE_PRIORITY) stream.priority = attribute.value.priority;
  std::erase_if(stream.attributes, [&](const CUlaunchAttribute& old) { return old.id == attribute.id; });
  stream.attributes.push_back(attribute);
  return CUDA_SUCCESS;
}

}  // namespace

CUresult read_attributes(std::span<const CUlaunchAttribute> attributes, Stream& stream, LaunchAttributes& out) {
  for (const CUlaunchAttribute& attribute : attributes) {
    if (const CUresult result = read_attribute(attribute, stream, out); result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

CUresult stream_get_attribute(CUstream handle, CUstreamAttrID which, CUstreamAttrValue* value) {
  Stream* stream;
  if (const CUresult result = resolve_stream(handle, stream); result != CUDA_SUCCESS) return result;
  if (value == nullptr || !of_streams(which)) return CUDA_ERROR_INVALID_VALUE;
  std::scoped_lock lock(stream->context->mutex);
  if (const CUlaunchAttribute* own = find_attribute(*stream, which)) {
    *value = own->value;
    return CUDA_SUCCESS;
  }
  std::memset(static_cast<void*>(value), 0, sizeof *value);
  if (which == CU_STREAM_ATTRIBUTE_PRIORITY) value->priority = stream->priority;
  if (which == CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY) value->syncPolicy = kPolicyNotSet;
  if (which == CU_STREAM_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP) value->memSyncDomainMap.remote = kDefaultRemoteDomain;
  return CUDA_SUCCESS;
}

CUresult stream_set_attribute(CUstream handle, CUstreamAttrID which, const CUstreamAttrValue* value) {
  Stream* stream;
  if (const CUresult result = resolve_stream(handle, stream); result != CUDA_SUCCESS) return result;
  if (value == nullptr || !of_streams(which)) return CUDA_ERROR_INVALID_VALUE;
  CUlaunchAttribute attribute;
  std::memset(static_cast<void*>(&attribute), 0, sizeof attribute);
  attribute.id = which;
  attribute.value = *value;
  if (which == CU_STREAM_ATTRIBUTE_ACCESS_POLICY_WINDOW) {
    const CUresult result = check_window(value->accessPolicyWindow, *stream->context->device);
    if (result != CUDA_SUCCESS) return result;
  }
  if (which == CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY) {
    const auto policy = static_cast<int>(value->syncPolicy);
    if (policy < CU_SYNC_POLICY_AUTO || policy > CU_SYNC_POLICY_BLOCKING_SYNC) return CUDA_ERROR_INVALID_VALUE;
  }
  if (which == CU_STREAM_ATTRIBUTE_MEM_SYNC_DOMAIN) {
    const auto domain = static_cast<int>(value->memSyncDomain);
    if (domain < CU_LAUNCH_MEM_SYNC_DOMAIN_DEFAULT || domain > CU_LAUNCH_MEM_SYNC_DOMAIN_REMOTE)
      return CUDA_ERROR_INVALID_VALUE;
  }
  return set_attribute(*stream, attribute);
}

CUresult stream_copy_attributes(CUstream to_handle, CUstream from_handle) {
  Stream *to, *from;
  if (const CUresult result = resolve_stream(to_handle, to); result != CUDA_SUCCESS) return result;
  if (const CUresult result = resolve_stream(from_handle, from); result != CUDA_SUCCESS) return result;
  if (to->context != from->context) return CUDA_ERROR_INVALID_HANDLE;
  std::vector<CUlaunchAttribute> attributes;
  {
    std::scoped_lock lock(from->context->mutex);
    attributes = from->attributes;
  }
  for (const CUlaunchAttribute& attribute : attributes) {
    if (const CUresult result = set_attribute(*to, attribute); result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

CUresult occupancy_clusters(int* clusters, CUfunction handle, const CUlaunchConfig* config, bool active) {
  Function* function;
  if (const CUresult result = ready_function(handle, function); result != CUDA_SUCCESS) return result;
  if (clusters == nullptr || config == nullptr || (config->numAttrs != 0 && config->attrs == nullptr))
    return CUDA_ERROR_INVALID_VALUE;
  Context& context = *function->context;
  LaunchAttributes attributes;
  Stream* stream = context.legacy.load();
  if (stream == nullptr) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  if (const CUresult result = read_attributes({config->attrs, config->numAttrs}, *stream, attributes);
      result != CUDA_SUCCESS)
    return result;
  const std::uint32_t shape[]{config->gridDimX,  config->gridDimY,  config->gridDimZ,       config->blockDimX,
                              config->blockDimY, config->blockDimZ, config->sharedMemBytes, active ? 1U : 0U};
  std::string key(reinterpret_cast<const char*>(shape), sizeof shape);
  key.append(reinterpret_cast<const char*>(attributes.sent.data()), attributes.sent.size() * sizeof attributes.sent[0]);
  {
    std::scoped_lock lock(function->mutex);
    if (const auto known = function->clusters.find(key); known != function->clusters.end()) {
      *clusters = known->second;
      return CUDA_SUCCESS;
    }
  }
  flatbuffers::FlatBufferBuilder builder;
  const auto list = builder.CreateVectorOfStructs(
      reinterpret_cast<const wire::LaunchAttribute*>(attributes.sent.data()), attributes.sent.size());
  builder.Finish(wire::CreateOccupancyClusters(builder, function->module_name, function->index, shape[6], shape[0],
                                               shape[1], shape[2], shape[3], shape[4], shape[5], shape[7], list));
  const auto reply = context.client->session().call<wire::OccupancyClusters>(builder);
  if (!reply) return to_cuda(reply.error());
  std::scoped_lock lock(function->mutex);
  if (function->clusters.size() < kRemembered) function->clusters.emplace(std::move(key), reply->clusters());
  *clusters = reply->clusters();
  return CUDA_SUCCESS;
}

}  // namespace avec::client
