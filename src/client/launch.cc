// Launches: the path that programs spend their time on. No allocation, no lock of ours.
#include <cstring>

#include "client/client.h"
#include "client/context.h"
#include "client/device.h"
#include "client/function.h"
#include "client/library.h"
#include "client/module.h"
#include "client/slab.h"
#include "client/status.h"
#include "client/stream.h"
#include "session/session.h"

namespace avec::client {
namespace {

/// The errors that CUDA returns from a launch at once for its shape.
CUresult check_shape(const Function& function, const LaunchShape& shape) {
  const auto& limits = function.device_limits;
  // 0 - 1 wraps: zero dimensions fail the same comparison as too large ones.
  if (shape.block_x - 1 >= limits[0] || shape.block_y - 1 >= limits[1] || shape.block_z - 1 >= limits[2] ||
      shape.grid_x - 1 >= limits[3] || shape.grid_y - 1 >= limits[4] || shape.grid_z - 1 >= limits[5])
      [[unlikely]] {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const std::uint64_t threads = std::uint64_t{shape.block_x} * shape.block_y * shape.block_z;
  if (threads > limits[6] || threads > function.max_threads) [[unlikely]]
    return CUDA_ERROR_INVALID_VALUE;
  if (shape.shared_bytes > function.max_dynamic_shared_bytes.load(std::memory_order_relaxed)) [[unlikely]] {
    return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

/// CU_LAUNCH_PARAM_*: a buffer that is laid out already.
CUresult read_extra(const Function& function, void** extra, const void*& buffer) {
  std::size_t bytes = 0;
  bool sized = false;
  for (; *extra != CU_LAUNCH_PARAM_END; extra += 2) {
    if (extra[0] == CU_LAUNCH_PARAM_BUFFER_POINTER) {
      buffer = extra[1];
    } else if (extra[0] == CU_LAUNCH_PARAM_BUFFER_SIZE && extra[1] != nullptr) {
      bytes = *static_cast<const std::size_t*>(extra[1]);
      sized = true;
    } else {
      return CUDA_ERROR_INVALID_VALUE;
    }
  }
  if (function.parameter_bytes == 0) return CUDA_SUCCESS;
  return buffer != nullptr && sized && bytes >= function.parameter_bytes ? CUDA_SUCCESS
                                                                         : CUDA_ERROR_INVALID_VALUE;
}

void pack(const Function& function, void** parameters, std::byte* out) {
  const Function::Parameter* layout = function.parameters.get();
  std::uint32_t end = 0;
  for (std::uint32_t i = 0; i < function.parameter_count; ++i) {
    const auto [offset, bytes] = layout[i];
    if (offset > end) std::memset(out + end, 0, offset - end);
    switch (bytes) {  // what most parameters are: one move instead of a call
      case 8:
        std::memcpy(out + offset, parameters[i], 8);
        break;
      case 4:
        std::memcpy(out + offset, parameters[i], 4);
        break;
      default:
        std::memcpy(out + offset, parameters[i], bytes);
    }
    end = offset + bytes;
  }
}

/// All blocks of a cooperative launch must fit at once.
CUresult check_cooperative(CUfunction handle, const Function& function, const LaunchShape& shape) {
  const Device& device = *function.context->device;
  if (device.attribute(CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH) == 0) return CUDA_ERROR_NOT_SUPPORTED;
  int blocks = 0;
  const int threads = static_cast<int>(shape.block_x * shape.block_y * shape.block_z);
  if (const CUresult result = occupancy_blocks(&blocks, handle, threads, shape.shared_bytes, 0);
      result != CUDA_SUCCESS)
    return result;
  const std::uint64_t room =
      static_cast<std::uint64_t>(blocks) *
      static_cast<std::uint64_t>(device.attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT));
  const bool fits = std::uint64_t{shape.grid_x} * shape.grid_y * shape.grid_z <= room;
  return fits ? CUDA_SUCCESS : CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
}

CUresult resolve_kernel(CUfunction handle, Function*& function) {
  Function* found = Slab<Function>::find(handle);
  if (found == nullptr) [[unlikely]] {
    Context* context;
    if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
    return function_in(*context, reinterpret_cast<CUkernel>(handle), function);
  }
  function = found;
  return CUDA_SUCCESS;
}

}  // namespace

CUresult launch(CUfunction handle, const LaunchShape& shape, CUstream stream_handle, void** parameters,
                void** extra, bool cooperative) {
  Stream* stream;
  if (const CUresult result = stream_for_work(stream_handle, stream); result != CUDA_SUCCESS) [[unlikely]]
    return result;
  Function* function;
  if (const CUresult result = resolve_kernel(handle, function); result != CUDA_SUCCESS) [[unlikely]]
    return result;
  if (function->context != stream->context) [[unlikely]]
    return CUDA_ERROR_INVALID_HANDLE;
  if (const CUresult result = check_shape(*function, shape); result != CUDA_SUCCESS) [[unlikely]]
    return result;

  const void* buffer = nullptr;
  if (extra != nullptr) [[unlikely]] {
    if (parameters != nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult result = read_extra(*function, extra, buffer); result != CUDA_SUCCESS) return result;
  } else if (parameters == nullptr && function->parameter_count != 0) [[unlikely]] {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (cooperative) [[unlikely]] {
    if (const CUresult result = check_cooperative(handle, *function, shape); result != CUDA_SUCCESS)
      return result;
  }
  const wire::LaunchKernel body(function->module_name, function->index, shape.shared_bytes, shape.grid_x,
                                shape.grid_y, shape.grid_z, shape.block_x, shape.block_y, shape.block_z,
                                stream->name, cooperative ? 1 : 0, 0);
  return to_cuda(stream->context->client->session().post_filled(
      body, function->parameter_bytes, [&](MutableBytes payload) {
        if (buffer != nullptr) {
          std::memcpy(payload.data(), buffer, payload.size());
        } else {
          pack(*function, parameters, payload.data());
        }
      }));
}

CUresult launch_ex(const CUlaunchConfig* config, CUfunction handle, void** parameters, void** extra) {
  if (config == nullptr || (config->numAttrs != 0 && config->attrs == nullptr))
    return CUDA_ERROR_INVALID_VALUE;
  bool cooperative = false;
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    const CUlaunchAttribute& attribute = config->attrs[i];
    switch (attribute.id) {
      case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
        cooperative = attribute.value.cooperative != 0;
        break;
      case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION: {
        const auto& cluster = attribute.value.clusterDim;
        if (cluster.x > 1 || cluster.y > 1 || cluster.z > 1) return CUDA_ERROR_NOT_SUPPORTED;
        break;
      }
      // Hints: a launch without them computes the same, later at worst.
      case CU_LAUNCH_ATTRIBUTE_IGNORE:
      case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
      case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
      case CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
      case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
      case CU_LAUNCH_ATTRIBUTE_PRIORITY:
      case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
      case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
      case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
        break;
      default:
        return CUDA_ERROR_NOT_SUPPORTED;
    }
  }
  const LaunchShape shape{config->gridDimX,  config->gridDimY,  config->gridDimZ,      config->blockDimX,
                          config->blockDimY, config->blockDimZ, config->sharedMemBytes};
  return launch(handle, shape, config->hStream, parameters, extra, cooperative);
}

}  // namespace avec::client
