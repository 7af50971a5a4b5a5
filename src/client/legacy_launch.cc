// Launches as they were before CUDA 4.0: block, shared memory and parameters are set one by one, then
// cuLaunch or cuLaunchGrid.
#include <algorithm>
#include <cstring>

#include "base/limits.h"
#include "client/context.h"
#include "client/function.h"
#include "client/module.h"

namespace avec::client {
namespace {

/// Runs `change` on what has been set of the function. The function stays locked meanwhile.
template <class Change>
CUresult with_legacy(CUfunction handle, Change change) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  Function* function = find_function(handle);
  if (function == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  std::scoped_lock lock(function->mutex);
  if (function->legacy == nullptr) function->legacy = std::make_unique<LegacyLaunch>();
  return change(*function->legacy);
}

}  // namespace

CUresult legacy_set_block(CUfunction function, int x, int y, int z) {
  return with_legacy(function, [&](LegacyLaunch& legacy) {
    if (x <= 0 || y <= 0 || z <= 0) return CUDA_ERROR_INVALID_VALUE;
    legacy.block_x = static_cast<unsigned>(x);
    legacy.block_y = static_cast<unsigned>(y);
    legacy.block_z = static_cast<unsigned>(z);
    return CUDA_SUCCESS;
  });
}

CUresult legacy_set_shared(CUfunction function, unsigned bytes) {
  return with_legacy(function, [&](LegacyLaunch& legacy) {
    legacy.shared_bytes = bytes;
    return CUDA_SUCCESS;
  });
}

CUresult legacy_set_parameter_bytes(CUfunction function, unsigned bytes) {
  return with_legacy(function, [&](LegacyLaunch& legacy) {
    if (bytes > limits::kMaxParameterBytes) return CUDA_ERROR_INVALID_VALUE;
    legacy.parameter_bytes = bytes;
    return CUDA_SUCCESS;
  });
}

CUresult legacy_set_parameter(CUfunction function, int offset, const void* value, unsigned bytes) {
  return with_legacy(function, [&](LegacyLaunch& legacy) {
    if (value == nullptr || offset < 0 || std::size_t{bytes} + static_cast<unsigned>(offset) > limits::kMaxParameterBytes)
      return CUDA_ERROR_INVALID_VALUE;
    const std::size_t end = static_cast<unsigned>(offset) + std::size_t{bytes};
    if (legacy.parameters.size() < end) legacy.parameters.insert(legacy.parameters.end(), end - legacy.parameters.size(), std::byte{0});
    std::memcpy(legacy.parameters.data() + offset, value, bytes);
    return CUDA_SUCCESS;
  });
}

CUresult legacy_launch(CUfunction function, int width, int height, CUstream stream) {
  LaunchShape shape{};
  std::vector<std::byte> parameters;
  const CUresult result = with_legacy(function, [&](LegacyLaunch& legacy) {
    if (width <= 0 || height <= 0) return CUDA_ERROR_INVALID_VALUE;
    shape = {static_cast<unsigned>(width), static_cast<unsigned>(height), 1, legacy.block_x, legacy.block_y,
             legacy.block_z,               legacy.shared_bytes};
    parameters = std::vector<std::byte>(legacy.parameter_bytes);
    std::copy_n(legacy.parameters.begin(), std::min(parameters.size(), legacy.parameters.size()), parameters.begin());
    return CUDA_SUCCESS;
  });
  if (result != CUDA_SUCCESS) return result;
  std::size_t bytes = parameters.size();
  void* extra[]{CU_LAUNCH_PARAM_BUFFER_POINTER, parameters.data(), CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes,
                CU_LAUNCH_PARAM_END};
  return launch(function, shape, stream, nullptr, extra, false);
}

}  // namespace avec::client
