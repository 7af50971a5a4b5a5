// Launches as they were before CUDA 4.0, attributes of streams, occupancy of clusters.
#include <algorithm>
#include <cstring>
#include <map>

#include "devices/cpu/attributes.h"
#include "devices/cpu/modules.h"

using namespace avec::cpu;

namespace {

struct Settings {
  unsigned block[3]{};
  unsigned shared = 0;
  std::size_t bytes = 0;
  std::vector<std::byte> parameters;
};

std::mutex settings_mutex;
std::map<CUfunction, Settings>& all_settings() {  // guarded by settings_mutex
  static auto* const all = new std::map<CUfunction, Settings>;
  return *all;
}

template <class Change>
CUresult change(CUfunction handle, Change action) {
  std::shared_ptr<Function> function;
  std::shared_ptr<Module> module;
  if (const auto error = function_of(handle, function, module)) return error;
  const std::lock_guard lock(settings_mutex);
  return action(all_settings()[handle]);
}

CUresult set_parameter(CUfunction function, int offset, const void* value, unsigned bytes) {
  return change(function, [&](Settings& settings) {
    constexpr std::size_t kMost = 32764;
    if (value == nullptr || offset < 0 || static_cast<unsigned>(offset) + std::size_t{bytes} > kMost)
      return CUDA_ERROR_INVALID_VALUE;
    const std::size_t end = static_cast<unsigned>(offset) + std::size_t{bytes};
    while (settings.parameters.size() < end) settings.parameters.push_back(std::byte{0});
    std::memcpy(settings.parameters.data() + offset, value, bytes);
    return CUDA_SUCCESS;
  });
}

CUresult launch(CUfunction function, int width, int height, CUstream stream) {
  Settings settings;
  const CUresult found = change(function, [&](Settings& known) {
    settings = known;
    return width > 0 && height > 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
  if (found != CUDA_SUCCESS) return found;
  while (settings.parameters.size() < settings.bytes) settings.parameters.push_back(std::byte{0});
  void* extra[]{CU_LAUNCH_PARAM_BUFFER_POINTER, settings.parameters.data(), CU_LAUNCH_PARAM_BUFFER_SIZE,
                &settings.bytes, CU_LAUNCH_PARAM_END};
  return cuLaunchKernel(function, static_cast<unsigned>(width), static_cast<unsigned>(height), 1, settings.block[0],
                        settings.block[1], settings.block[2], settings.shared, stream, nullptr, extra);
}

bool of_streams(CUstreamAttrID which) {
  return which == CU_STREAM_ATTRIBUTE_ACCESS_POLICY_WINDOW || which == CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY ||
         which == CU_STREAM_ATTRIBUTE_PRIORITY || which == CU_STREAM_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP ||
         which == CU_STREAM_ATTRIBUTE_MEM_SYNC_DOMAIN;
}

}  // namespace

extern "C" {

CUresult cuFuncSetBlockShape(CUfunction function, int x, int y, int z) {
  return change(function, [&](Settings& settings) {
    if (x <= 0 || y <= 0 || z <= 0) return CUDA_ERROR_INVALID_VALUE;
    settings.block[0] = static_cast<unsigned>(x);
    settings.block[1] = static_cast<unsigned>(y);
    settings.block[2] = static_cast<unsigned>(z);
    return CUDA_SUCCESS;
  });
}

CUresult cuFuncSetSharedSize(CUfunction function, unsigned bytes) {
  return change(function, [&](Settings& settings) {
    settings.shared = bytes;
    return CUDA_SUCCESS;
  });
}

CUresult cuParamSetSize(CUfunction function, unsigned bytes) {
  return change(function, [&](Settings& settings) {
    settings.bytes = bytes;
    return CUDA_SUCCESS;
  });
}

CUresult cuParamSeti(CUfunction function, int offset, unsigned value) {
  return set_parameter(function, offset, &value, sizeof value);
}
CUresult cuParamSetf(CUfunction function, int offset, float value) {
  return set_parameter(function, offset, &value, sizeof value);
}
CUresult cuParamSetv(CUfunction function, int offset, void* value, unsigned bytes) {
  return set_parameter(function, offset, value, bytes);
}
CUresult cuLaunch(CUfunction function) { return launch(function, 1, 1, nullptr); }
CUresult cuLaunchGrid(CUfunction function, int width, int height) { return launch(function, width, height, nullptr); }
CUresult cuLaunchGridAsync(CUfunction function, int width, int height, CUstream stream) {
  return launch(function, width, height, stream);
}

CUresult cuStreamGetAttribute(CUstream handle, CUstreamAttrID which, CUstreamAttrValue* value) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (value == nullptr || !of_streams(which)) return CUDA_ERROR_INVALID_VALUE;
  const std::lock_guard lock(stream->attribute_mutex);
  std::memset(static_cast<void*>(value), 0, sizeof *value);
  if (const auto own = stream->attributes.find(which); own != stream->attributes.end()) {
    *value = own->second;
  } else if (which == CU_STREAM_ATTRIBUTE_PRIORITY) {
    value->priority = stream->priority;
  } else if (which == CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY) {
    value->syncPolicy = static_cast<CUsynchronizationPolicy>(-1);  // never set
  } else if (which == CU_STREAM_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP) {
    value->memSyncDomainMap.remote = 1;
  }
  return CUDA_SUCCESS;
}

CUresult cuStreamSetAttribute(CUstream handle, CUstreamAttrID which, const CUstreamAttrValue* value) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  if (value == nullptr || !of_streams(which)) return CUDA_ERROR_INVALID_VALUE;
  if (which == CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY) {
    const auto policy = static_cast<int>(value->syncPolicy);
    if (policy < CU_SYNC_POLICY_AUTO || policy > CU_SYNC_POLICY_BLOCKING_SYNC) return CUDA_ERROR_INVALID_VALUE;
  }
  if (which == CU_STREAM_ATTRIBUTE_MEM_SYNC_DOMAIN && static_cast<unsigned>(value->memSyncDomain) > 1)
    return CUDA_ERROR_INVALID_VALUE;
  const std::lock_guard lock(stream->attribute_mutex);
  stream->attributes[which] = *value;
  return CUDA_SUCCESS;
}

CUresult cuStreamCopyAttributes(CUstream to_handle, CUstream from_handle) {
  StreamRef to, from;
  if (const auto error = stream_of(to_handle, to)) return error;
  if (const auto error = stream_of(from_handle, from)) return error;
  if (to->context != from->context) return CUDA_ERROR_INVALID_HANDLE;
  if (to == from) return CUDA_SUCCESS;
  const std::scoped_lock lock(to->attribute_mutex, from->attribute_mutex);
  for (const auto& [which, value] : from->attributes) to->attributes[which] = value;
  return CUDA_SUCCESS;
}

// A cluster is a block here.
CUresult cuOccupancyMaxPotentialClusterSize(int* size, CUfunction handle, const CUlaunchConfig* config) {
  std::shared_ptr<Function> function;
  std::shared_ptr<Module> module;
  if (const auto error = function_of(handle, function, module)) return error;
  if (size == nullptr || config == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *size = 1;
  return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveClusters(int* clusters, CUfunction handle, const CUlaunchConfig* config) {
  std::shared_ptr<Function> function;
  std::shared_ptr<Module> module;
  if (const auto error = function_of(handle, function, module)) return error;
  if (clusters == nullptr || config == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto threads = static_cast<int>(config->blockDimX * config->blockDimY * config->blockDimZ);
  *clusters = blocks_per_processor(*function, threads, config->sharedMemBytes) * processor_count();
  return CUDA_SUCCESS;
}

}  // extern "C"
