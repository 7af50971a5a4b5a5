// Conditions that kernels set.
#include "case.h"

__global__ void count_down(cudaGraphConditionalHandle handle, int* left) { cudaGraphSetConditional(handle, --*left > 0); }
__global__ void choose(cudaGraphConditionalHandle handle, const int* which) { cudaGraphSetConditional(handle, *which); }

static int read(const int* from) {
  int value = -1;
  NEED(cudaMemcpy(&value, from, sizeof value, cudaMemcpyDeviceToHost));
  return value;
}

static cudaGraphNode_t add_kernel(cudaGraph_t graph, void* kernel, void** arguments) {
  cudaKernelNodeParams params{};
  params.func = kernel;
  params.gridDim = params.blockDim = {1, 1, 1};
  params.kernelParams = arguments;
  cudaGraphNode_t node = nullptr;
  NEED(cudaGraphAddKernelNode(&node, graph, nullptr, 0, &params));
  return node;
}

CASE(a_loop_that_a_kernel_ends) {
  int* left = nullptr;
  int count = 25;
  NEED(cudaMalloc(&left, 16));
  NEED(cudaMemcpy(left, &count, 4, cudaMemcpyHostToDevice));
  cudaGraph_t graph = nullptr;
  NEED(cudaGraphCreate(&graph, 0));
  cudaGraphConditionalHandle handle = 0;
  NEED(cudaGraphConditionalHandleCreate(&handle, graph, 1, cudaGraphCondAssignDefault));
  cudaGraphNodeParams params{};
  params.type = cudaGraphNodeTypeConditional;
  params.conditional.handle = handle;
  params.conditional.type = cudaGraphCondTypeWhile;
  params.conditional.size = 1;
  cudaGraphNode_t loop = nullptr;
  SHOW(cudaGraphAddNode(&loop, graph, nullptr, nullptr, 0, &params));
  void* arguments[] = {&handle, &left};
  add_kernel(params.conditional.phGraph_out[0], reinterpret_cast<void*>(count_down), arguments);
  cudaGraphExec_t exec = nullptr;
  SHOW(cudaGraphInstantiate(&exec, graph, 0));
  SHOW(cudaGraphLaunch(exec, nullptr));
  SHOW(cudaDeviceSynchronize());
  say("left %d", read(left));
}

CASE(a_branch_that_a_kernel_chooses) {
  int* memory = nullptr;
  NEED(cudaMalloc(&memory, 16));
  cudaGraph_t graph = nullptr;
  NEED(cudaGraphCreate(&graph, 0));
  cudaGraphConditionalHandle handle = 0;
  NEED(cudaGraphConditionalHandleCreate(&handle, graph, 0, 0));
  void* arguments[] = {&handle, &memory};
  cudaGraphNode_t first = add_kernel(graph, reinterpret_cast<void*>(choose), arguments), branch = nullptr;
  cudaGraphNodeParams params{};
  params.type = cudaGraphNodeTypeConditional;
  params.conditional.handle = handle;
  params.conditional.type = cudaGraphCondTypeSwitch;
  params.conditional.size = 3;
  NEED(cudaGraphAddNode(&branch, graph, &first, nullptr, 1, &params));
  for (unsigned i = 0; i < 3; ++i) {
    cudaMemsetParams fill{};
    fill.dst = memory + 1;
    fill.value = 10 + i;
    fill.elementSize = 4;
    fill.width = fill.height = 1;
    cudaGraphNode_t set = nullptr;
    NEED(cudaGraphAddMemsetNode(&set, params.conditional.phGraph_out[i], nullptr, 0, &fill));
  }
  cudaGraphExec_t exec = nullptr;
  NEED(cudaGraphInstantiate(&exec, graph, 0));
  for (int which = 0; which < 4; ++which) {
    const int words[2] = {which, -1};
    NEED(cudaMemcpy(memory, words, sizeof words, cudaMemcpyHostToDevice));
    NEED(cudaGraphLaunch(exec, nullptr));
    NEED(cudaDeviceSynchronize());
    say("%d: %d", which, read(memory + 1));
  }
}
