// Launches: shapes, parameters in a buffer, attributes, clusters, the functions of old, occupancy.
#include "case.h"

__global__ void add(int* out, int value) { atomicAdd(out, value * static_cast<int>(gridDim.x * blockDim.x)); }
__global__ void store(int* out, int value) { *out = value; }
__global__ void empty() {}
__global__ void __launch_bounds__(64) bounded() {}
__global__ void dynamic(int* out) {
  extern __shared__ int shared[];
  shared[threadIdx.x] = 3;
  __syncthreads();
  if (threadIdx.x == 0) *out = shared[blockDim.x - 1];
}

namespace {

int* device_int() {
  int* memory = nullptr;
  NEED(cudaMalloc(&memory, sizeof(int)));
  NEED(cudaMemset(memory, 0, sizeof(int)));
  return memory;
}

int read(const int* memory) {
  int value = -1;
  NEED(cudaMemcpy(&value, memory, sizeof value, cudaMemcpyDeviceToHost));
  return value;
}

CUfunction function_of(const void* kernel) {
  cudaFunction_t function = nullptr;
  NEED(cudaGetFuncBySymbol(&function, kernel));
  return function;
}

template <class Kernel>
CUfunction function(Kernel* kernel) {
  return function_of(reinterpret_cast<const void*>(kernel));
}

/// A launch of `store` with these attributes.
CUresult launch_store(int* out, int value, std::vector<CUlaunchAttribute> attributes, unsigned grid = 1) {
  void* parameters[]{&out, &value};
  CUlaunchConfig config{};
  config.gridDimX = grid;
  config.gridDimY = config.gridDimZ = config.blockDimX = config.blockDimY = config.blockDimZ = 1;
  config.attrs = attributes.data();
  config.numAttrs = static_cast<unsigned>(attributes.size());
  return cuLaunchKernelEx(&config, function(store), parameters, nullptr);
}

CUlaunchAttribute attribute(CUlaunchAttributeID id) {
  CUlaunchAttribute result;
  std::memset(static_cast<void*>(&result), 0, sizeof result);
  result.id = id;
  return result;
}

}  // namespace

CASE(buffer_of_parameters) {
  int* out = device_int();
  struct {
    int* out;
    int value;
  } parameters{out, 5};
  std::size_t bytes = sizeof(int*) + sizeof(int);
  void* extra[]{CU_LAUNCH_PARAM_BUFFER_POINTER, &parameters, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes, CU_LAUNCH_PARAM_END};
  SHOW(cuLaunchKernel(function(add), 2, 1, 1, 4, 1, 1, 0, nullptr, nullptr, extra));
  say("%d", read(out));
  void* both[]{&parameters.out, &parameters.value};
  SHOW(cuLaunchKernel(function(add), 2, 1, 1, 4, 1, 1, 0, nullptr, both, extra));
}

CASE(shapes_that_do_not_fit) {
  CUfunction kernel = function(empty);
  SHOW(cuLaunchKernel(kernel, 0, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr));
  SHOW(cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 0, 0, nullptr, nullptr, nullptr));
  SHOW(cuLaunchKernel(kernel, 1, 1, 1, 1025, 1, 1, 0, nullptr, nullptr, nullptr));
  SHOW(cuLaunchKernel(kernel, 1, 1, 1, 64, 64, 1, 0, nullptr, nullptr, nullptr));
  SHOW(cuLaunchKernel(kernel, 1, 65536, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr));
  SHOW(cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 49153, nullptr, nullptr, nullptr));
  SHOW(cuLaunchKernel(function(bounded), 1, 1, 1, 65, 1, 1, 0, nullptr, nullptr, nullptr));
  SHOW(cuLaunchKernel(kernel, 1, 1, 1, 1024, 1, 1, 0, nullptr, nullptr, nullptr));
  SHOW(cuCtxSynchronize());
}

CASE(handles_that_are_none) {
  NEED(cudaFree(nullptr));
  SHOW(cuLaunchKernel(nullptr, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr));
  SHOW(cuLaunchKernelEx(nullptr, function(empty), nullptr, nullptr));
}

CASE(attributes_that_change_nothing) {
  int* out = device_int();
  CUlaunchAttribute ignore = attribute(CU_LAUNCH_ATTRIBUTE_IGNORE);
  CUlaunchAttribute priority = attribute(CU_LAUNCH_ATTRIBUTE_PRIORITY);
  CUlaunchAttribute domain = attribute(CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN);
  domain.value.memSyncDomain = CU_LAUNCH_MEM_SYNC_DOMAIN_REMOTE;
  CUlaunchAttribute serial = attribute(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION);
  serial.value.programmaticStreamSerializationAllowed = 1;
  SHOW(launch_store(out, 1, {ignore}));
  SHOW(launch_store(out, 2, {priority}));
  SHOW(launch_store(out, 3, {domain}));
  SHOW(launch_store(out, 4, {ignore, priority, serial}));
  say("%d", read(out));
}

CASE(attributes_that_do_not_exist) {
  int* out = device_int();
  SHOW(launch_store(out, 1, {attribute(static_cast<CUlaunchAttributeID>(1000))}));
  say("%d", read(out));
}

CASE(cooperative_launch) {
  int* out = device_int();
  int value = 1;
  void* parameters[]{&out, &value};
  SHOW(cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(add), dim3(2), dim3(32), parameters));
  say("%d", read(out));
  SHOW(cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(add), dim3(1 << 20), dim3(1024), parameters));
  SHOW(cudaGetLastError());
  CUlaunchAttribute cooperative = attribute(CU_LAUNCH_ATTRIBUTE_COOPERATIVE);
  cooperative.value.cooperative = 1;
  SHOW(launch_store(out, 9, {cooperative}));
  say("%d", read(out));
}

CASE(event_of_a_launch) {
  int* out = device_int();
  CUevent event = nullptr;
  NEED(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
  CUlaunchAttribute done = attribute(CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT);
  done.value.launchCompletionEvent.event = event;
  SHOW(launch_store(out, 6, {done}));
  SHOW(cuEventSynchronize(event));
  SHOW(cuEventQuery(event));
  say("%d", read(out));
}

CASE(programmatic_event_orders_streams) {
  int* out = device_int();
  CUevent event = nullptr;
  CUstream other = nullptr;
  NEED(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
  NEED(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
  CUlaunchAttribute done = attribute(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT);
  done.value.programmaticEvent.event = event;
  SHOW(launch_store(out, 6, {done}));
  SHOW(cuStreamWaitEvent(other, event, 0));
  SHOW(cuStreamSynchronize(other));
  say("%d", read(out));
}

CASE(cluster_of_one_block) {
  int* out = device_int();
  CUlaunchAttribute cluster = attribute(CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION);
  cluster.value.clusterDim.x = cluster.value.clusterDim.y = cluster.value.clusterDim.z = 1;
  SHOW(launch_store(out, 8, {cluster}));
  say("%d", read(out));
}

CASE(cluster_of_two_blocks) {
  int* out = device_int();
  CUlaunchAttribute cluster = attribute(CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION);
  cluster.value.clusterDim.x = 2;
  cluster.value.clusterDim.y = cluster.value.clusterDim.z = 1;
  SHOW(launch_store(out, 8, {cluster}, 4));
  say("%d", read(out));
  SHOW(launch_store(out, 9, {cluster}, 3));
  say("%d", read(out));
}

CASE(largest_cluster) {
  CUlaunchConfig config{};
  config.gridDimX = 16;
  config.gridDimY = config.gridDimZ = config.blockDimX = config.blockDimY = config.blockDimZ = 1;
  int size = 0;
  SHOW(cuOccupancyMaxPotentialClusterSize(&size, function(empty), &config));
  say("%d", size);
  SHOW(cuOccupancyMaxPotentialClusterSize(nullptr, function(empty), &config));
  SHOW(cuOccupancyMaxPotentialClusterSize(&size, function(empty), nullptr));
}

CASE(as_before_cuda_4) {
  int* out = device_int();
  CUfunction kernel = function(add);
  SHOW(cuFuncSetBlockShape(kernel, 4, 1, 1));
  SHOW(cuParamSetv(kernel, 0, &out, sizeof out));
  SHOW(cuParamSeti(kernel, sizeof out, 3));
  SHOW(cuParamSetSize(kernel, sizeof out + sizeof(int)));
  SHOW(cuLaunch(kernel));
  say("%d", read(out));
  SHOW(cuLaunchGrid(kernel, 2, 1));
  say("%d", read(out));
  SHOW(cuLaunchGridAsync(kernel, 1, 1, nullptr));
  say("%d", read(out));
}

CASE(dynamic_shared_memory) {
  int* out = device_int();
  CUfunction kernel = function(dynamic);
  void* parameters[]{&out};
  SHOW(cuLaunchKernel(kernel, 1, 1, 1, 32, 1, 1, 60000, nullptr, parameters, nullptr));
  SHOW(cuFuncSetAttribute(kernel, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 60000));
  SHOW(cuLaunchKernel(kernel, 1, 1, 1, 32, 1, 1, 60000, nullptr, parameters, nullptr));
  say("%d", read(out));
  int value = 0;
  SHOW(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, kernel));
  say("%d", value);
  SHOW(cuFuncSetAttribute(kernel, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 1 << 20));
  SHOW(cuFuncSetAttribute(kernel, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, -1));
}

CASE(attributes_of_functions) {
  CUfunction kernel = function(bounded);
  int value = 0;
  SHOW(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, kernel));
  say("%d", value);
  SHOW(cuFuncGetAttribute(nullptr, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, kernel));
  SHOW(cuFuncGetAttribute(&value, static_cast<CUfunction_attribute>(1000), kernel));
  SHOW(cuFuncSetAttribute(kernel, CU_FUNC_ATTRIBUTE_NUM_REGS, 1));
  SHOW(cuFuncSetAttribute(kernel, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 101));
  SHOW(cuFuncSetAttribute(kernel, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 50));
  SHOW(cuFuncSetCacheConfig(kernel, CU_FUNC_CACHE_PREFER_L1));
}

CASE(parameters_of_functions) {
  std::size_t offset = 99, bytes = 99;
  CUfunction kernel = function(store);
  SHOW(cuFuncGetParamInfo(kernel, 0, &offset, &bytes));
  say("%zu %zu", offset, bytes);
  SHOW(cuFuncGetParamInfo(kernel, 1, &offset, &bytes));
  say("%zu %zu", offset, bytes);
  SHOW(cuFuncGetParamInfo(kernel, 2, &offset, &bytes));
  SHOW(cuFuncGetParamInfo(kernel, 0, nullptr, nullptr));
}

CASE(occupancy) {
  int blocks = -1, grid = -1, block = -1;
  std::size_t bytes = 0;
  CUfunction kernel = function(empty);
  SHOW(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, 1024, 0));
  say("%d", blocks);
  SHOW(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, 0, 0));
  SHOW(cuOccupancyMaxActiveBlocksPerMultiprocessor(nullptr, kernel, 32, 0));
  SHOW(cuOccupancyMaxPotentialBlockSize(&grid, &block, kernel, nullptr, 0, 256));
  say("%d", block);
  SHOW(cuOccupancyAvailableDynamicSMemPerBlock(&bytes, kernel, 0, 32));
  SHOW(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, empty, 512, 0));
  say("%d", blocks);
}

CASE(attributes_of_streams) {
  NEED(cudaFree(nullptr));
  CUstream stream = nullptr, other = nullptr;
  NEED(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  NEED(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
  CUstreamAttrValue value;
  std::memset(static_cast<void*>(&value), 0, sizeof value);
  SHOW(cuStreamGetAttribute(stream, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value));
  say("%d", static_cast<int>(value.syncPolicy));
  value.syncPolicy = CU_SYNC_POLICY_BLOCKING_SYNC;
  SHOW(cuStreamSetAttribute(stream, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value));
  SHOW(cuStreamCopyAttributes(other, stream));
  value.syncPolicy = CU_SYNC_POLICY_AUTO;
  SHOW(cuStreamGetAttribute(other, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value));
  say("%d", static_cast<int>(value.syncPolicy));
  SHOW(cuStreamGetAttribute(stream, CU_STREAM_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP, &value));
  say("%d %d", value.memSyncDomainMap.default_, value.memSyncDomainMap.remote);
  SHOW(cuStreamGetAttribute(stream, static_cast<CUstreamAttrID>(1000), &value));
}
