#include "client/function.h"
#include "client/launch_attributes.h"
#include "entry.h"

using namespace avec::client;

AVEC_DRIVER_STREAM_CALL(cuLaunchKernel,
                        (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                         unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                         CUstream stream, void** parameters, void** extra),
                        launch(function, {grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes},
                               stream, parameters, extra, false))
AVEC_DRIVER_STREAM_CALL(cuLaunchCooperativeKernel,
                        (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                         unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                         CUstream stream, void** parameters),
                        launch(function, {grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes},
                               stream, parameters, nullptr, true))
AVEC_DRIVER_CALL(cuLaunchKernelEx,
                 (const CUlaunchConfig* config, CUfunction function, void** parameters, void** extra),
                 launch_ex(config, function, parameters, extra))

namespace {

CUresult launch_ex_per_thread(const CUlaunchConfig* config, CUfunction function, void** parameters,
                              void** extra) {
  if (config == nullptr) return CUDA_ERROR_INVALID_VALUE;
  CUlaunchConfig own = *config;
  own.hStream = avec::driver::per_thread_if_default(own.hStream);
  return launch_ex(&own, function, parameters, extra);
}

}  // namespace

extern "C" CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig* config, CUfunction function,
                                          void** parameters, void** extra) {
  return avec::driver::entry("cuLaunchKernelEx",
                             [&] { return launch_ex_per_thread(config, function, parameters, extra); });
}

// Before CUDA 4.0.
AVEC_DRIVER_CALL(cuFuncSetBlockShape, (CUfunction function, int x, int y, int z), legacy_set_block(function, x, y, z))
AVEC_DRIVER_CALL(cuFuncSetSharedSize, (CUfunction function, unsigned bytes), legacy_set_shared(function, bytes))
AVEC_DRIVER_CALL(cuParamSetSize, (CUfunction function, unsigned bytes), legacy_set_parameter_bytes(function, bytes))
AVEC_DRIVER_CALL(cuParamSeti, (CUfunction function, int offset, unsigned value),
                 legacy_set_parameter(function, offset, &value, sizeof value))
AVEC_DRIVER_CALL(cuParamSetf, (CUfunction function, int offset, float value),
                 legacy_set_parameter(function, offset, &value, sizeof value))
AVEC_DRIVER_CALL(cuParamSetv, (CUfunction function, int offset, void* value, unsigned bytes),
                 legacy_set_parameter(function, offset, value, bytes))
AVEC_DRIVER_CALL(cuLaunch, (CUfunction function), legacy_launch(function, 1, 1, nullptr))
AVEC_DRIVER_CALL(cuLaunchGrid, (CUfunction function, int width, int height),
                 legacy_launch(function, width, height, nullptr))
AVEC_DRIVER_CALL(cuLaunchGridAsync, (CUfunction function, int width, int height, CUstream stream),
                 legacy_launch(function, width, height, stream))

AVEC_DRIVER_CALL(cuFuncGetAttribute, (int* value, CUfunction_attribute which, CUfunction function),
                 function_get_attribute(value, which, function))
AVEC_DRIVER_CALL(cuFuncSetAttribute, (CUfunction function, CUfunction_attribute which, int value),
                 function_set_attribute(function, which, value))
AVEC_DRIVER_CALL(cuFuncSetCacheConfig, (CUfunction function, CUfunc_cache config),
                 function_set_cache_config(function, config))
AVEC_DRIVER_CALL(cuFuncGetModule, (CUmodule * module, CUfunction function),
                 function_get_module(module, function))
AVEC_DRIVER_CALL(cuFuncGetName, (const char** name, CUfunction function), function_get_name(name, function))
AVEC_DRIVER_CALL(cuFuncGetParamInfo, (CUfunction function, size_t index, size_t* offset, size_t* bytes),
                 function_parameter(function, index, offset, bytes))
AVEC_DRIVER_CALL(cuFuncIsLoaded, (CUfunctionLoadingState * state, CUfunction function),
                 function_loading_state(state, function))
AVEC_DRIVER_CALL(cuFuncLoad, (CUfunction function), function_load(function))
// Banks of shared memory have had one width since compute capability 5.0.
AVEC_DRIVER_CALL(cuFuncSetSharedMemConfig, (CUfunction function, CUsharedconfig), function_load(function))

AVEC_DRIVER_CALL(cuOccupancyMaxActiveBlocksPerMultiprocessor,
                 (int* blocks, CUfunction function, int block_size, size_t shared_bytes),
                 occupancy_blocks(blocks, function, block_size, shared_bytes, CU_OCCUPANCY_DEFAULT))
AVEC_DRIVER_CALL(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags,
                 (int* blocks, CUfunction function, int block_size, size_t shared_bytes, unsigned flags),
                 occupancy_blocks(blocks, function, block_size, shared_bytes, flags))
AVEC_DRIVER_CALL(cuOccupancyMaxPotentialBlockSize,
                 (int* min_grid, int* block_size, CUfunction function, CUoccupancyB2DSize shared_of_block,
                  size_t shared_bytes, int limit),
                 occupancy_block_size(min_grid, block_size, function, shared_of_block, shared_bytes, limit,
                                      CU_OCCUPANCY_DEFAULT))
AVEC_DRIVER_CALL(cuOccupancyMaxPotentialBlockSizeWithFlags,
                 (int* min_grid, int* block_size, CUfunction function, CUoccupancyB2DSize shared_of_block,
                  size_t shared_bytes, int limit, unsigned flags),
                 occupancy_block_size(min_grid, block_size, function, shared_of_block, shared_bytes, limit,
                                      flags))
AVEC_DRIVER_CALL(cuOccupancyMaxPotentialClusterSize,
                 (int* size, CUfunction function, const CUlaunchConfig* config),
                 occupancy_clusters(size, function, config, false))
AVEC_DRIVER_CALL(cuOccupancyMaxActiveClusters, (int* clusters, CUfunction function, const CUlaunchConfig* config),
                 occupancy_clusters(clusters, function, config, true))
AVEC_DRIVER_CALL(cuOccupancyAvailableDynamicSMemPerBlock,
                 (size_t* bytes, CUfunction function, int blocks, int block_size),
                 occupancy_available_shared(bytes, function, blocks, block_size))
