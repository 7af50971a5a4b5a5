// Launches: the <<<>>> configuration, the stubs that nvcc generates, and the public functions.
#include <climits>
#include <new>
#include <vector>

#include "api.h"
#include "registry.h"
#include "stubs.h"
#include "weak_driver.h"

using namespace avec::runtime;

namespace {

/// Kernel arguments that launch kernels, nested; nobody nests deeper on purpose.
constexpr std::uint32_t kMaxPendingLaunches = 64;

std::vector<LaunchConfiguration>& nested_configurations() {
  static thread_local std::vector<LaunchConfiguration> nested;
  return nested;
}

cudaError_t push_configuration(dim3 grid, dim3 block, std::size_t shared_bytes, CUstream stream) noexcept
    try {
  Thread& thread = this_thread;
  const LaunchConfiguration configuration{grid, block, shared_bytes, stream};
  if (thread.pending == 0) {
    thread.configuration = configuration;
  } else {
    if (thread.pending >= kMaxPendingLaunches) return cudaErrorLaunchMaxDepthExceeded;
    nested_configurations().push_back(configuration);
  }
  ++thread.pending;
  return cudaSuccess;
} catch (const std::bad_alloc&) {
  return cudaErrorMemoryAllocation;
}

inline cudaError_t launch(const void* symbol, dim3 grid, dim3 block, void** arguments,
                          std::size_t shared_bytes, CUstream stream) {
  CUfunction function;
  if (const cudaError_t found = find_function(symbol, &function); found != cudaSuccess) [[unlikely]]
    return record_error(found);
  if (shared_bytes > UINT_MAX) [[unlikely]]
    return record_error(cudaErrorInvalidValue);
  const CUresult result = cuLaunchKernel(function, grid.x, grid.y, grid.z, block.x, block.y, block.z,
                                         static_cast<unsigned>(shared_bytes), stream, arguments, nullptr);
  if (result == CUDA_SUCCESS) [[likely]]
    return cudaSuccess;
  return record_error(to_runtime(result));
}

cudaError_t launch_cooperative(const void* symbol, dim3 grid, dim3 block, void** arguments,
                               std::size_t shared_bytes, CUstream stream) {
  CUfunction function;
  if (const cudaError_t found = find_function(symbol, &function); found != cudaSuccess)
    return record_error(found);
  if (shared_bytes > UINT_MAX) return record_error(cudaErrorInvalidValue);
  if (cuLaunchCooperativeKernel == nullptr) return record_error(cudaErrorNotSupported);
  const CUresult result =
      cuLaunchCooperativeKernel(function, grid.x, grid.y, grid.z, block.x, block.y, block.z,
                                static_cast<unsigned>(shared_bytes), stream, arguments);
  return result == CUDA_SUCCESS ? cudaSuccess : record_error(to_runtime(result));
}

// The driver's and the runtime's launch attributes are one structure with two names.
static_assert(sizeof(cudaLaunchAttribute) == sizeof(CUlaunchAttribute));
static_assert(offsetof(cudaLaunchAttribute, val) == offsetof(CUlaunchAttribute, value));
static_assert(static_cast<int>(cudaLaunchAttributeCooperative) == CU_LAUNCH_ATTRIBUTE_COOPERATIVE);
static_assert(static_cast<int>(cudaLaunchAttributePriority) == CU_LAUNCH_ATTRIBUTE_PRIORITY);

cudaError_t launch_with_attributes(const cudaLaunchConfig_t* config, const void* symbol, void** arguments,
                                   CUstream stream) {
  if (config == nullptr || (config->numAttrs != 0 && config->attrs == nullptr))
    return record_error(cudaErrorInvalidValue);
  unsigned others = 0;
  bool cooperative = false;
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    const cudaLaunchAttribute& attribute = config->attrs[i];
    if (attribute.id == cudaLaunchAttributeIgnore) continue;
    if (attribute.id == cudaLaunchAttributeCooperative)
      cooperative = attribute.val.cooperative != 0;
    else
      ++others;
  }
  if (others == 0) {  // what every driver can do
    return cooperative ? launch_cooperative(symbol, config->gridDim, config->blockDim, arguments,
                                            config->dynamicSmemBytes, stream)
                       : launch(symbol, config->gridDim, config->blockDim, arguments,
                                config->dynamicSmemBytes, stream);
  }
  CUfunction function;
  if (const cudaError_t found = find_function(symbol, &function); found != cudaSuccess)
    return record_error(found);
  if (config->dynamicSmemBytes > UINT_MAX) return record_error(cudaErrorInvalidValue);
  if (cuLaunchKernelEx == nullptr) return record_error(cudaErrorNotSupported);
  const CUlaunchConfig driver_config{
      .gridDimX = config->gridDim.x,
      .gridDimY = config->gridDim.y,
      .gridDimZ = config->gridDim.z,
      .blockDimX = config->blockDim.x,
      .blockDimY = config->blockDim.y,
      .blockDimZ = config->blockDim.z,
      .sharedMemBytes = static_cast<unsigned>(config->dynamicSmemBytes),
      .hStream = stream,
      .attrs = reinterpret_cast<CUlaunchAttribute*>(config->attrs),
      .numAttrs = config->numAttrs,
  };
  const CUresult result = cuLaunchKernelEx(&driver_config, function, arguments, nullptr);
  return result == CUDA_SUCCESS ? cudaSuccess
                                : record_error(to_runtime(result));
}

}  // namespace

extern "C" unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t shared_bytes,
                                                CUstream_st* stream) {
  return done(push_configuration(grid, block, shared_bytes, stream));
}

extern "C" cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared_bytes,
                                                  void* stream) {
  Thread& thread = this_thread;
  if (thread.pending == 0) return record_error(cudaErrorMissingConfiguration);
  LaunchConfiguration configuration = thread.configuration;
  if (--thread.pending > 0) {
    auto& nested = nested_configurations();
    configuration = nested.back();
    nested.pop_back();
  }
  *grid = configuration.grid;
  *block = configuration.block;
  *shared_bytes = configuration.shared_bytes;
  *static_cast<CUstream*>(stream) = configuration.stream;
  return cudaSuccess;
}

AVEC_STREAM_PAIR(__cudaLaunchKernel, _ptsz,
                 (cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, std::size_t shared_bytes,
                  cudaStream_t stream),
                 return launch(kernel, grid, block, arguments, shared_bytes,
                               resolve_stream<kDefault>(stream));)

AVEC_STREAM_PAIR(cudaLaunchKernel, _ptsz,
                 (const void* function, dim3 grid, dim3 block, void** arguments, std::size_t shared_bytes,
                  cudaStream_t stream),
                 return launch(function, grid, block, arguments, shared_bytes,
                               resolve_stream<kDefault>(stream));)

AVEC_STREAM_PAIR(cudaLaunchCooperativeKernel, _ptsz,
                 (const void* function, dim3 grid, dim3 block, void** arguments, std::size_t shared_bytes,
                  cudaStream_t stream),
                 return launch_cooperative(function, grid, block, arguments, shared_bytes,
                                           resolve_stream<kDefault>(stream));)

AVEC_STREAM_PAIR(cudaLaunchKernelExC, _ptsz,
                 (const cudaLaunchConfig_t* config, const void* function, void** arguments),
                 return launch_with_attributes(config, function, arguments,
                                               resolve_stream<kDefault>(config != nullptr ? config->stream
                                                                                          : nullptr));)
