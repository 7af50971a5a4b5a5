// Launches: the path that programs spend their time on. No allocation, no lock of ours.
#include <array>
#include <cstring>
#include <vector>

#include "client/client.h"
#include "client/coherence.h"
#include "client/context.h"
#include "client/device.h"
#include "client/event.h"
#include "client/function.h"
#include "client/launch_attributes.h"
#include "client/library.h"
#include "client/module.h"
#include "client/slab.h"
#include "client/status.h"
#include "client/stream.h"
#include "session/session.h"

namespace avec::client {
namespace {

/// The errors that CUDA returns from a launch at once for its shape.
CUresult check_shape(Function& function, const LaunchShape& shape) {
  const auto& limits = function.device_limits;
  // 0 - 1 wraps: zero dimensions fail the same comparison as too large ones.
  if (shape.block_x - 1 >= limits[0] || shape.block_y - 1 >= limits[1] || shape.block_z - 1 >= limits[2] ||
      shape.grid_x - 1 >= limits[3] || shape.grid_y - 1 >= limits[4] || shape.grid_z - 1 >= limits[5])
      [[unlikely]] {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const std::uint64_t threads = std::uint64_t{shape.block_x} * shape.block_y * shape.block_z;
  if (threads > limits[6]) [[unlikely]]
    return CUDA_ERROR_INVALID_VALUE;
  if (const std::uint32_t most = function.max_threads.load(std::memory_order_acquire); threads > most) [[unlikely]] {
    if (most != 0) return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult result = load_function(function); result != CUDA_SUCCESS) return result;
    return check_shape(function, shape);
  }
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

/// What a launch is made of once every check has passed.
struct Prepared {
  Stream* stream = nullptr;
  Function* function = nullptr;
  const void* buffer = nullptr;  // of `extra`; null: the parameters are packed one by one
};

/// What every launch begins with; inlined, as it is the launch path.
[[gnu::always_inline]] inline CUresult prepare(CUfunction handle, const LaunchShape& shape, CUstream stream_handle,
                                               void** parameters, void** extra, Prepared& out) {
  if (const CUresult result = stream_for_device_work(stream_handle, out.stream); result != CUDA_SUCCESS) [[unlikely]]
    return result;
  if (const CUresult result = resolve_kernel(handle, out.function); result != CUDA_SUCCESS) [[unlikely]]
    return result;
  if (out.function->context != out.stream->context) [[unlikely]] {
    if (!share_objects(*out.function->context, *out.stream->context)) return CUDA_ERROR_INVALID_HANDLE;
  }
  if (const CUresult result = check_shape(*out.function, shape); result != CUDA_SUCCESS) [[unlikely]]
    return result;
  if (extra != nullptr) [[unlikely]] {
    if (parameters != nullptr) return CUDA_ERROR_INVALID_VALUE;
    return read_extra(*out.function, extra, out.buffer);
  }
  if (parameters == nullptr && out.function->parameter_count != 0) [[unlikely]]
    return CUDA_ERROR_INVALID_VALUE;
  return CUDA_SUCCESS;
}

[[gnu::always_inline]] inline void write_parameters(const Prepared& prepared, void** parameters, MutableBytes payload) {
  if (prepared.buffer != nullptr) {
    std::memcpy(payload.data(), prepared.buffer, payload.size());
  } else {
    pack(*prepared.function, parameters, payload.data());
  }
}

/// What almost every kernel's parameters fit.
constexpr std::size_t kFewParameterBytes = 4096;

/// Pinned memory exists: the kernel may be given its address.
template <class Body>
CUresult post_watched(const Prepared& prepared, void** parameters, const Body& body, ConstBytes head) {
  Client& client = *prepared.stream->context->client;
  const std::size_t bytes = prepared.function->parameter_bytes;
  alignas(8) std::array<std::byte, kFewParameterBytes> few;
  std::vector<std::byte> many(bytes > few.size() ? bytes : 0);
  const MutableBytes filled(many.empty() ? few.data() : many.data(), bytes);
  write_parameters(prepared, parameters, filled);
  Coherence& coherence = client.coherence();
  if (coherence.concerned(filled)) {
    if (const CUresult result = coherence.before_kernel(*prepared.stream, filled); result != CUDA_SUCCESS) return result;
  }
  const auto posted = client.session().post_filled(body, head.size() + bytes, [&](MutableBytes payload) {
    if (!head.empty()) std::memcpy(payload.data(), head.data(), head.size());
    if (bytes != 0) std::memcpy(payload.data() + head.size(), filled.data(), bytes);
  });
  coherence.work_posted();
  return to_cuda(posted);
}

/// Posts a launch whose payload is `head` and the parameters.
template <class Body>
[[gnu::always_inline]] inline CUresult post_launch(const Prepared& prepared, void** parameters, const Body& body,
                                                   ConstBytes head = {}) {
  Client& client = *prepared.stream->context->client;
  if (client.launches_watched()) [[unlikely]] return post_watched(prepared, parameters, body, head);
  return to_cuda(client.session().post_filled(
      body, head.size() + prepared.function->parameter_bytes, [&](MutableBytes payload) {
        if (!head.empty()) std::memcpy(payload.data(), head.data(), head.size());
        write_parameters(prepared, parameters, payload.subspan(head.size()));
      }));
}

/// What the driver says of clusters at once: the grid is made of whole ones, and what the compiler fixed
/// stays.
CUresult check_clusters(Function& function, const LaunchShape& shape, const LaunchAttributes& attributes) {
  unsigned cluster[3]{};
  {
    std::scoped_lock lock(function.mutex);
    for (unsigned i = 0; i < 3; ++i) {
      const std::size_t which = CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH + i;
      cluster[i] = which < function.attributes.size() ? static_cast<unsigned>(function.attributes[which]) : 0;
    }
  }
  for (const CUlaunchAttribute& attribute : attributes.sent) {
    if (attribute.id != CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION) continue;
    const auto& wanted = attribute.value.clusterDim;
    const unsigned asked[3]{wanted.x, wanted.y, wanted.z};
    for (unsigned i = 0; i < 3; ++i) {
      if (cluster[i] != 0 && cluster[i] != asked[i]) return CUDA_ERROR_INVALID_CLUSTER_SIZE;
      cluster[i] = asked[i];
    }
  }
  const unsigned grid[3]{shape.grid_x, shape.grid_y, shape.grid_z};
  for (unsigned i = 0; i < 3; ++i)
    if (cluster[i] != 0 && grid[i] % cluster[i] != 0) return CUDA_ERROR_INVALID_CLUSTER_SIZE;
  return CUDA_SUCCESS;
}

/// A launch with attributes that the short frame does not have.
CUresult launch_with(const LaunchAttributes& attributes, Prepared& prepared, const LaunchShape& shape, void** parameters) {
  Function& function = *prepared.function;
  Stream& stream = *prepared.stream;
  if (const CUresult result = check_clusters(function, shape, attributes); result != CUDA_SUCCESS) return result;
  const std::size_t attribute_bytes = attributes.sent.size() * sizeof(CUlaunchAttribute);
  const wire::LaunchKernelEx body(function.module_name, function.index, shape.shared_bytes, shape.grid_x, shape.grid_y,
                                  shape.grid_z, shape.block_x, shape.block_y, shape.block_z, stream.name,
                                  static_cast<std::uint32_t>(attributes.sent.size()), 0);
  const CUresult posted = post_launch(prepared, parameters, body,
                                      {reinterpret_cast<const std::byte*>(attributes.sent.data()), attribute_bytes});
  if (posted == CUDA_SUCCESS)
    for (CUevent event : attributes.events) note_record(event, stream);
  return posted;
}

}  // namespace

CUresult launch(CUfunction handle, const LaunchShape& shape, CUstream stream_handle, void** parameters,
                void** extra, bool cooperative) {
  Prepared prepared;
  if (const CUresult result = prepare(handle, shape, stream_handle, parameters, extra, prepared);
      result != CUDA_SUCCESS) [[unlikely]]
    return result;
  const Function& function = *prepared.function;
  if (cooperative) [[unlikely]] {
    if (const CUresult result = check_cooperative(handle, function, shape); result != CUDA_SUCCESS)
      return result;
  }
  const wire::LaunchKernel body(function.module_name, function.index, shape.shared_bytes, shape.grid_x,
                                shape.grid_y, shape.grid_z, shape.block_x, shape.block_y, shape.block_z,
                                prepared.stream->name, cooperative ? 1 : 0, 0);
  return post_launch(prepared, parameters, body);
}

CUresult launch_ex(const CUlaunchConfig* config, CUfunction handle, void** parameters, void** extra) {
  if (config == nullptr || (config->numAttrs != 0 && config->attrs == nullptr))
    return CUDA_ERROR_INVALID_VALUE;
  const LaunchShape shape{config->gridDimX,  config->gridDimY,  config->gridDimZ,      config->blockDimX,
                          config->blockDimY, config->blockDimZ, config->sharedMemBytes};
  if (config->numAttrs == 0) return launch(handle, shape, config->hStream, parameters, extra, false);
  Stream* stream;
  if (const CUresult result = resolve_stream(config->hStream, stream); result != CUDA_SUCCESS) return result;
  LaunchAttributes attributes;
  if (const CUresult result = read_attributes({config->attrs, config->numAttrs}, *stream, attributes);
      result != CUDA_SUCCESS)
    return result;
  // What the short frame can say goes in it.
  if (attributes.sent.empty()) return launch(handle, shape, config->hStream, parameters, extra, attributes.cooperative);
  Prepared prepared;
  if (const CUresult result = prepare(handle, shape, config->hStream, parameters, extra, prepared);
      result != CUDA_SUCCESS)
    return result;
  if (attributes.cooperative) {
    if (const CUresult result = check_cooperative(handle, *prepared.function, shape); result != CUDA_SUCCESS)
      return result;
    CUlaunchAttribute cooperative;
    std::memset(static_cast<void*>(&cooperative), 0, sizeof cooperative);
    cooperative.id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
    cooperative.value.cooperative = 1;
    attributes.sent.push_back(cooperative);
  }
  return launch_with(attributes, prepared, shape, parameters);
}

CUresult check_kernel(CUfunction handle, const LaunchShape& shape, void** parameters, void** extra,
                      Function*& function, std::vector<std::byte>& buffer) {
  if (const CUresult result = resolve_kernel(handle, function); result != CUDA_SUCCESS) return result;
  if (const CUresult result = check_shape(*function, shape); result != CUDA_SUCCESS) return result;
  const void* given = nullptr;
  if (extra != nullptr) {
    if (parameters != nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult result = read_extra(*function, extra, given); result != CUDA_SUCCESS) return result;
  } else if (parameters == nullptr && function->parameter_count != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  buffer.resize(function->parameter_bytes);
  if (given != nullptr) {
    std::memcpy(buffer.data(), given, buffer.size());
  } else {
    pack(*function, parameters, buffer.data());
  }
  return CUDA_SUCCESS;
}

}  // namespace avec::client
