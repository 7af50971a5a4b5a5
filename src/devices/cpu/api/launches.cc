// Kernel launches and occupancy.
#include <algorithm>
#include <cstring>
#include <span>

#include "devices/cpu/attributes.h"
#include "devices/cpu/graph/capture.h"
#include "devices/cpu/launch.h"

using namespace avec::cpu;

namespace {

CUresult error_of(ptx::Fault fault) {
  switch (fault) {
    case ptx::Fault::kNone:
    case ptx::Fault::kStopped:
      return CUDA_SUCCESS;
    case ptx::Fault::kIllegalAddress:
      return CUDA_ERROR_ILLEGAL_ADDRESS;
    case ptx::Fault::kMisalignedAddress:
      return CUDA_ERROR_MISALIGNED_ADDRESS;
    case ptx::Fault::kTrap:
      return CUDA_ERROR_LAUNCH_FAILED;
    case ptx::Fault::kIllegalInstruction:
      return CUDA_ERROR_ILLEGAL_INSTRUCTION;
    case ptx::Fault::kInvalidAddressSpace:
      return CUDA_ERROR_INVALID_ADDRESS_SPACE;
    case ptx::Fault::kInvalidPc:
      return CUDA_ERROR_INVALID_PC;
    case ptx::Fault::kAssert:
      return CUDA_ERROR_ASSERT;
  }
  return CUDA_ERROR_LAUNCH_FAILED;
}

void keep_output(Context& context, int descriptor, std::string_view text) {
  const std::lock_guard lock(context.output_mutex);
  if (context.output.empty() || context.output.back().first != descriptor)
    context.output.emplace_back(descriptor, "");
  // As on a GPU, output beyond the FIFO's size is lost; here the newest.
  auto& last = context.output.back().second;
  if (last.size() + text.size() <= context.limits[CU_LIMIT_PRINTF_FIFO_SIZE].load()) last.append(text);
}

}  // namespace

namespace avec::cpu {

CUresult check_shape(const Function& function, const Shape& shape) {
  constexpr std::array<unsigned, 3> kGrid{2147483647, 65535, 65535}, kBlock{1024, 1024, 64};
  std::uint64_t threads = 1, blocks = 1;
  for (std::size_t i = 0; i < 3; ++i) {
    if (shape.grid[i] == 0 || shape.grid[i] > kGrid[i]) return CUDA_ERROR_INVALID_VALUE;
    if (shape.block[i] == 0 || shape.block[i] > kBlock[i]) return CUDA_ERROR_INVALID_VALUE;
    threads *= shape.block[i];
    blocks = std::min<std::uint64_t>(blocks * shape.grid[i], std::uint64_t{1} << 40);
  }
  if (threads > static_cast<std::uint64_t>(kMaxThreadsPerBlock)) return CUDA_ERROR_INVALID_VALUE;
  const auto& facts = *function.facts;
  if (threads > facts.max_threads) return CUDA_ERROR_INVALID_VALUE;
  if (shape.shared > static_cast<unsigned>(function.max_dynamic_shared.load()))
    return CUDA_ERROR_INVALID_VALUE;
  const int resident = blocks_per_processor(function, static_cast<int>(threads), shape.shared);
  if (resident == 0) return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
  if (shape.cooperative &&
      blocks > static_cast<std::uint64_t>(resident) * static_cast<unsigned>(processor_count())) {
    return CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
  }
  return CUDA_SUCCESS;
}

CUresult read_parameters(const ptx::KernelFacts& facts, void** pointers, void** extra,
                         std::vector<std::byte>& buffer) {
  if (pointers != nullptr && extra != nullptr) return CUDA_ERROR_INVALID_VALUE;
  buffer.resize(facts.parameter_bytes);
  if (extra != nullptr) {
    const void* source = nullptr;
    std::size_t bytes = 0;
    bool sized = false;
    for (; *extra != CU_LAUNCH_PARAM_END; extra += 2) {
      if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER) {
        source = extra[1];
      } else if (*extra == CU_LAUNCH_PARAM_BUFFER_SIZE && extra[1] != nullptr) {
        bytes = *static_cast<std::size_t*>(extra[1]);
        sized = true;
      } else {
        return CUDA_ERROR_INVALID_VALUE;
      }
    }
    if (facts.parameter_bytes == 0) return CUDA_SUCCESS;
    if (source == nullptr || !sized || bytes < facts.parameter_bytes) return CUDA_ERROR_INVALID_VALUE;
    std::memcpy(buffer.data(), source, facts.parameter_bytes);
    return CUDA_SUCCESS;
  }
  if (facts.parameters.empty()) return CUDA_SUCCESS;
  if (pointers == nullptr) return CUDA_ERROR_INVALID_VALUE;
  for (std::size_t i = 0; i < facts.parameters.size(); ++i) {
    const auto& parameter = facts.parameters[i];
    if (pointers[i] == nullptr) return CUDA_ERROR_INVALID_VALUE;
    std::memcpy(buffer.data() + parameter.offset, pointers[i], parameter.bytes);
  }
  return CUDA_SUCCESS;
}

std::function<CUresult()> kernel_work(const std::shared_ptr<Module>& module, std::size_t index,
                                      const Shape& shape, std::vector<std::byte> parameters) {
  return [module, index, shape, parameters = std::move(parameters)] {
    Context& context = *module->context;
    ptx::Launch launch;
    launch.grid = shape.grid;
    launch.block = shape.block;
    launch.dynamic_shared_bytes = shape.shared;
    launch.parameters = parameters;
    launch.memory = &context.memory;
    launch.objects = &context.objects;
    launch.output = [&context](int descriptor, std::string_view text) {
      keep_output(context, descriptor, text);
    };
    launch.set_conditional = set_condition;
    launch.stop = &context.stop;
    launch.cooperative = shape.cooperative;
    const CUresult result = error_of(module->code->run(index, launch));
    if (result != CUDA_SUCCESS) flush_output(context);  // the fault's own message: no call may follow
    return result;
  };
}

CUresult read_attribute(const CUlaunchAttribute& attribute, Shape& shape, CUevent& event) {
  switch (attribute.id) {
    case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
      shape.cooperative = attribute.value.cooperative != 0;
      return CUDA_SUCCESS;
    case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION: {
      const auto& cluster = attribute.value.clusterDim;
      if (cluster.x == 0 || cluster.y == 0 || cluster.z == 0) return CUDA_ERROR_INVALID_VALUE;
      return cluster.x == 1 && cluster.y == 1 && cluster.z == 1 ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED;
    }
    case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT:
      event = attribute.value.programmaticEvent.event;
      return CUDA_SUCCESS;
    case CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT:
      event = attribute.value.launchCompletionEvent.event;
      return CUDA_SUCCESS;
    case CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE:
      return CUDA_ERROR_NOT_SUPPORTED;
    default:  // hints
      return attribute.id >= 0 && attribute.id <= CU_LAUNCH_ATTRIBUTE_NVLINK_UTIL_CENTRIC_SCHEDULING
                 ? CUDA_SUCCESS
                 : CUDA_ERROR_INVALID_VALUE;
  }
}

}  // namespace avec::cpu

namespace {

CUresult launch(CUfunction handle, const Shape& shape, CUstream stream_handle, void** pointers, void** extra,
                std::span<const CUlaunchAttribute> attributes = {}) {
  std::shared_ptr<Function> function;
  std::shared_ptr<Module> module;
  if (const auto error = function_of(handle, function, module)) return error;
  StreamRef stream;
  if (const auto error = stream_of(stream_handle, stream)) return error;
  if (module->context != stream->context) return CUDA_ERROR_INVALID_HANDLE;
  if (const auto error = check_shape(*function, shape)) return error;
  std::vector<std::byte> parameters;
  if (const auto error = read_parameters(*function->facts, pointers, extra, parameters)) return error;
  const auto node = captured(stream, [&](Graph&, Params& params) {
    KernelParams kernel;
    kernel.func = handle;
    kernel.function = function;
    kernel.module = module;
    kernel.shape = shape;
    kernel.buffer = parameters;
    for (const auto& attribute : attributes) kernel.attributes[attribute.id] = attribute.value;
    if (shape.cooperative) kernel.attributes[CU_LAUNCH_ATTRIBUTE_COOPERATIVE].cooperative = 1;
    params = std::move(kernel);
    return CUDA_SUCCESS;
  });
  if (node) return *node;
  Task task;
  task.run = [work = kernel_work(module, function->index, shape, std::move(parameters))](CUresult) {
    return work();
  };
  state().scheduler.enqueue(stream, std::move(task));
  return CUDA_SUCCESS;
}

}  // namespace

extern "C" {

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                        unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                        CUstream stream, void** parameters, void** extra) {
  return launch(function, {{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared}, stream, parameters,
                extra);
}

CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                                   unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                                   CUstream stream, void** parameters) {
  return launch(function, {{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared, true}, stream,
                parameters, nullptr);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** parameters,
                          void** extra) {
  if (const auto error = initialised()) return error;
  if (config == nullptr || (config->numAttrs > 0 && config->attrs == nullptr))
    return CUDA_ERROR_INVALID_VALUE;
  Shape shape{{config->gridDimX, config->gridDimY, config->gridDimZ},
              {config->blockDimX, config->blockDimY, config->blockDimZ},
              config->sharedMemBytes};
  CUevent event = nullptr;
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    if (const auto error = read_attribute(config->attrs[i], shape, event)) return error;
  }
  if (const auto error =
          launch(function, shape, config->hStream, parameters, extra, {config->attrs, config->numAttrs})) {
    return error;
  }
  return event ? cuEventRecord(event, config->hStream) : CUDA_SUCCESS;
}

// ---- occupancy --------------------------------------------------------------------------

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, CUfunction handle, int threads,
                                                              size_t shared, unsigned flags) {
  std::shared_ptr<Function> function;
  std::shared_ptr<Module> module;
  if (const auto error = function_of(handle, function, module)) return error;
  if (blocks == nullptr || threads <= 0 || flags > CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *blocks = blocks_per_processor(*function, threads, shared);
  return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction function, int threads,
                                                     size_t shared) {
  return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, shared, 0);
}

CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int* grid, int* block, CUfunction handle,
                                                   CUoccupancyB2DSize size_of, size_t shared, int limit,
                                                   unsigned flags) {
  std::shared_ptr<Function> function;
  std::shared_ptr<Module> module;
  if (const auto error = function_of(handle, function, module)) return error;
  if (grid == nullptr || block == nullptr || limit < 0 || flags > CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const int most = static_cast<int>(function->facts->max_threads);
  const int start = limit == 0 ? most : std::min(limit, most);
  int best_threads = 0;
  *grid = *block = 0;
  for (int threads = (start + kWarpSize - 1) / kWarpSize * kWarpSize; threads > 0; threads -= kWarpSize) {
    const int actual = std::min(threads, start);
    const int blocks = blocks_per_processor(*function, actual, size_of ? size_of(actual) : shared);
    if (blocks * actual <= best_threads) continue;
    best_threads = blocks * actual;
    *block = actual;
    *grid = blocks * processor_count();
    if (best_threads == kMaxThreadsPerProcessor) break;
  }
  return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxPotentialBlockSize(int* grid, int* block, CUfunction function,
                                          CUoccupancyB2DSize size_of, size_t shared, int limit) {
  return cuOccupancyMaxPotentialBlockSizeWithFlags(grid, block, function, size_of, shared, limit, 0);
}

CUresult cuOccupancyAvailableDynamicSMemPerBlock(size_t* bytes, CUfunction handle, int blocks, int threads) {
  std::shared_ptr<Function> function;
  std::shared_ptr<Module> module;
  if (const auto error = function_of(handle, function, module)) return error;
  if (bytes == nullptr || blocks <= 0 || threads <= 0) return CUDA_ERROR_INVALID_VALUE;
  if (blocks_per_processor(*function, threads, 0) < blocks) return CUDA_ERROR_INVALID_VALUE;
  const int each = kSharedPerProcessor / blocks / 128 * 128 - kReservedSharedPerBlock -
                   static_cast<int>(function->facts->static_shared_bytes);
  *bytes = static_cast<size_t>(std::clamp(each, 0, kSharedPerBlockOptIn));
  return CUDA_SUCCESS;
}

}  // extern "C"
