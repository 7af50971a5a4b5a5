// Parameters of graph nodes: the runtime API's structures as the driver API's, and back.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstddef>

namespace avec::runtime {

/// The runtime's function pointers become functions of the current context.
cudaError_t to_driver(const cudaKernelNodeParams& given, CUDA_KERNEL_NODE_PARAMS& params);
void to_runtime(const CUDA_KERNEL_NODE_PARAMS& params, cudaKernelNodeParams& shown);

cudaError_t to_driver(const cudaMemcpy3DParms& given, CUDA_MEMCPY3D& params);
void to_runtime(const CUDA_MEMCPY3D& params, cudaMemcpy3DParms& shown);
/// A copy of consecutive bytes.
cudaError_t linear_copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                        CUDA_MEMCPY3D& params);
/// The same with a variable of the program's on one side.
cudaError_t copy_to_symbol(const void* symbol, const void* from, std::size_t bytes, std::size_t offset,
                           cudaMemcpyKind kind, CUDA_MEMCPY3D& params);
cudaError_t copy_from_symbol(void* to, const void* symbol, std::size_t bytes, std::size_t offset,
                             cudaMemcpyKind kind, CUDA_MEMCPY3D& params);

cudaError_t to_driver(const cudaMemsetParams& given, CUDA_MEMSET_NODE_PARAMS& params);

/// Any kind of node.
cudaError_t to_driver(const cudaGraphNodeParams& given, CUgraphNodeParams& params);
/// What the driver has filled in.
void take_results(const CUgraphNodeParams& params, cudaGraphNodeParams& given);

/// The context that calls without a context parameter mean. One is current.
CUcontext current_context() noexcept;

}  // namespace avec::runtime
