// What can be asked of and set on kernels, occupancy, and launches.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <vector>

namespace avec::client {

struct Function;

/// The function that a handle means, its context usable and itself loaded. CUDA_ERROR_INVALID_HANDLE ...
CUresult ready_function(CUfunction handle, Function*& function);
/// The function that a handle means: a CUfunction, or a CUkernel (its function in the current
/// context). Null: neither.
Function* find_function(CUfunction handle) noexcept;

CUresult function_get_attribute(int* value, CUfunction_attribute which, CUfunction function);
CUresult function_set_attribute(CUfunction function, CUfunction_attribute which, int value);
CUresult function_set_cache_config(CUfunction function, CUfunc_cache config);
CUresult function_get_module(CUmodule* module, CUfunction function);
CUresult function_get_name(const char** name, CUfunction function);
CUresult function_parameter(CUfunction function, std::size_t index, std::size_t* offset, std::size_t* bytes);
CUresult function_loading_state(CUfunctionLoadingState* state, CUfunction function);
CUresult function_load(CUfunction function);

CUresult occupancy_blocks(int* blocks, CUfunction function, int block_size, std::size_t shared_bytes,
                          unsigned flags);
CUresult occupancy_block_size(int* min_grid, int* block_size, CUfunction function,
                              CUoccupancyB2DSize shared_of_block, std::size_t shared_bytes, int limit,
                              unsigned flags);
CUresult occupancy_available_shared(std::size_t* bytes, CUfunction function, int blocks, int block_size);

struct LaunchShape {
  unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
};
/// Posted. Every error that CUDA returns from a launch at once is decided here. `stream` 0
/// means the legacy stream; the _ptsz entry points pass CU_STREAM_PER_THREAD for it.
CUresult launch(CUfunction function, const LaunchShape& shape, CUstream stream, void** parameters,
                void** extra, bool cooperative);
/// What a launch of this shape would check at once, and its parameters as they go over the wire.
CUresult check_kernel(CUfunction handle, const LaunchShape& shape, void** parameters, void** extra,
                      Function*& function, std::vector<std::byte>& buffer);
CUresult legacy_set_block(CUfunction function, int x, int y, int z);
CUresult legacy_set_shared(CUfunction function, unsigned bytes);
CUresult legacy_set_parameter_bytes(CUfunction function, unsigned bytes);
CUresult legacy_set_parameter(CUfunction function, int offset, const void* value, unsigned bytes);
CUresult legacy_launch(CUfunction function, int width, int height, CUstream stream);
CUresult launch_ex(const CUlaunchConfig* config, CUfunction function, void** parameters, void** extra);

}  // namespace avec::client
