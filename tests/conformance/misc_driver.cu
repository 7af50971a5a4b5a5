// Memory operations of streams, tensor maps' arguments, entry points by name, errors' names, logs, old names.
#include <cudaProfiler.h>

#include "case.h"

namespace {

CUdeviceptr words() {
  NEED(cudaFree(nullptr));
  CUdeviceptr memory = 0;
  NEED(cuMemAlloc(&memory, 64));
  NEED(cuMemsetD8(memory, 0, 64));
  NEED(cuCtxSynchronize());  // the streams here do not wait for the default one
  return memory;
}

CUstream stream() {
  CUstream made = nullptr;
  NEED(cuStreamCreate(&made, CU_STREAM_NON_BLOCKING));
  return made;
}

template <class T>
T read(CUdeviceptr address) {
  T value{};
  NEED(cuMemcpyDtoH(&value, address, sizeof value));
  return value;
}

}  // namespace

CASE(write_values) {
  const CUdeviceptr memory = words();
  SHOW(cuStreamWriteValue32(nullptr, memory, 7, 0));
  SHOW(cuStreamWriteValue64(nullptr, memory + 8, 1ULL << 40, 0));
  SHOW(cuStreamSynchronize(nullptr));
  say("%u %llu", read<unsigned>(memory), read<unsigned long long>(memory + 8));
  SHOW(cuStreamWriteValue32(nullptr, memory + 1, 7, 0));
  SHOW(cuStreamWriteValue32(nullptr, 0, 7, 0));
  SHOW(cuStreamWriteValue32(nullptr, memory, 7, 1000));
}

CASE(wait_for_another_stream) {
  const CUdeviceptr memory = words();
  CUstream waiting = stream(), writing = stream();
  SHOW(cuStreamWaitValue32(waiting, memory, 5, CU_STREAM_WAIT_VALUE_GEQ));
  SHOW(cuMemsetD32Async(memory + 4, 99, 1, waiting));
  SHOW(cuStreamQuery(waiting));
  SHOW(cuStreamWriteValue32(writing, memory, 6, 0));
  SHOW(cuStreamSynchronize(waiting));
  say("%u", read<unsigned>(memory + 4));
}

CASE(waits_that_are_met) {
  const CUdeviceptr memory = words();
  NEED(cuMemsetD32(memory, 6, 1));
  SHOW(cuStreamWaitValue32(nullptr, memory, 6, CU_STREAM_WAIT_VALUE_EQ));
  SHOW(cuStreamWaitValue32(nullptr, memory, 5, CU_STREAM_WAIT_VALUE_GEQ));
  SHOW(cuStreamWaitValue32(nullptr, memory, 2, CU_STREAM_WAIT_VALUE_AND));
  SHOW(cuStreamWaitValue64(nullptr, memory, 6, CU_STREAM_WAIT_VALUE_EQ));
  SHOW(cuStreamSynchronize(nullptr));
}

CASE(batch_of_operations) {
  const CUdeviceptr memory = words();
  CUstreamBatchMemOpParams operations[3];
  std::memset(operations, 0, sizeof operations);
  operations[0].operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
  operations[0].writeValue.address = memory;
  operations[0].writeValue.value = 3;
  operations[1].operation = CU_STREAM_MEM_OP_WAIT_VALUE_32;
  operations[1].waitValue.address = memory;
  operations[1].waitValue.value = 3;
  operations[1].waitValue.flags = CU_STREAM_WAIT_VALUE_EQ;
  operations[2].operation = CU_STREAM_MEM_OP_WRITE_VALUE_64;
  operations[2].writeValue.address = memory + 8;
  operations[2].writeValue.value64 = 4;
  SHOW(cuStreamBatchMemOp(nullptr, 3, operations, 0));
  SHOW(cuStreamSynchronize(nullptr));
  say("%u %llu", read<unsigned>(memory), read<unsigned long long>(memory + 8));
}

CASE(tensor_map) {
  const CUdeviceptr memory = words();
  CUtensorMap map;
  const cuuint64_t sizes[2]{16, 1}, strides[1]{64};
  const cuuint32_t box[2]{16, 1}, steps[2]{1, 1};
  const auto encode = [&](CUtensorMap* to, cuuint32_t rank, const cuuint32_t* box_sizes) {
    return cuTensorMapEncodeTiled(to, CU_TENSOR_MAP_DATA_TYPE_INT32, rank, reinterpret_cast<void*>(memory), sizes, strides,
                                  box_sizes, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE,
                                  CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  };
  SHOW(encode(&map, 2, box));
  CUtensorMap again;
  SHOW(encode(&again, 2, box));
  say("%s", std::memcmp(&map, &again, sizeof map) == 0 ? "the same" : "different");
  SHOW(cuTensorMapReplaceAddress(&again, reinterpret_cast<void*>(memory)));
  say("%s", std::memcmp(&map, &again, sizeof map) == 0 ? "the same" : "different");
  SHOW(encode(nullptr, 2, box));
  SHOW(encode(&map, 6, box));
  SHOW(encode(&map, 2, nullptr));
}

CASE(entry_points) {
  NEED(cudaFree(nullptr));
  void* function = nullptr;
  CUdriverProcAddressQueryResult found = CU_GET_PROC_ADDRESS_SUCCESS;
  SHOW(cuGetProcAddress("cuMemAlloc", &function, 12000, CU_GET_PROC_ADDRESS_DEFAULT, &found));
  say("%s %d", function != nullptr ? "found" : "not found", static_cast<int>(found));
  SHOW(cuGetProcAddress("cuNoSuchFunction", &function, 13000, CU_GET_PROC_ADDRESS_DEFAULT, &found));
  say("%s %d", function != nullptr ? "found" : "not found", static_cast<int>(found));
  SHOW(cuGetProcAddress("cuGreenCtxCreate", &function, 11000, CU_GET_PROC_ADDRESS_DEFAULT, &found));
  say("%s %d", function != nullptr ? "found" : "not found", static_cast<int>(found));
  cudaDriverEntryPointQueryResult runtime_found = cudaDriverEntryPointSuccess;
  SHOW(cudaGetDriverEntryPointByVersion("cuLaunchKernel", &function, 12000, cudaEnableDefault, &runtime_found));
  say("%s %d", function != nullptr ? "found" : "not found", static_cast<int>(runtime_found));
  SHOW(cudaGetDriverEntryPointByVersion("cuNoSuchFunction", &function, 12000, cudaEnableDefault, &runtime_found));
  say("%s %d", function != nullptr ? "found" : "not found", static_cast<int>(runtime_found));
}

CASE(names_of_errors) {
  const char* text = nullptr;
  for (int code : {0, 1, 46, 209, 222, 224, 226, 300, 400, 700, 719, 720, 721, 801, 910, 911, 912, 913, 914, 915, 999}) {
    const CUresult result = cuGetErrorName(static_cast<CUresult>(code), &text);
    say("%d %s", code, result == CUDA_SUCCESS ? text : "none");
  }
  SHOW(cuGetErrorName(static_cast<CUresult>(12345), &text));
  SHOW(cuGetErrorString(CUDA_ERROR_ILLEGAL_ADDRESS, &text));
  say("%s", text);
  say("%s", cudaGetErrorName(static_cast<cudaError_t>(12345)));
  say("%s", cudaGetErrorString(cudaErrorInvalidClusterSize));
}

CASE(contexts_that_are_pushed) {
  NEED(cuInit(0));
  CUcontext context = nullptr, popped = nullptr, current = nullptr;
  SHOW(cuCtxCreate(&context, nullptr, 0, 0));
  SHOW(cuCtxPushCurrent(context));
  SHOW(cuCtxPopCurrent(&popped));
  say("%s", popped == context ? "the same" : "another");
  SHOW(cuCtxGetCurrent(&current));
  say("%s", current == context ? "the same" : "another");
  SHOW(cuCtxDestroy(context));
  SHOW(cuCtxGetCurrent(&current));
  say("%s", current == nullptr ? "none" : "one");
}

CASE(event_of_a_context) {
  const CUdeviceptr memory = words();
  CUcontext context = nullptr;
  CUevent event = nullptr;
  NEED(cuCtxGetCurrent(&context));
  NEED(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
  CUstream one = stream(), other = stream();
  SHOW(cuMemsetD32Async(memory, 5, 1, one));
  SHOW(cuCtxRecordEvent(context, event));
  SHOW(cuCtxWaitEvent(context, event));
  SHOW(cuMemcpyDtoDAsync(memory + 4, memory, 4, other));
  SHOW(cuStreamSynchronize(other));
  say("%u", read<unsigned>(memory + 4));
  SHOW(cuEventQuery(event));
  SHOW(cuCtxRecordEvent(context, nullptr));
}

CASE(atomic_capabilities) {
  NEED(cuInit(0));
  unsigned capabilities[1]{};
  const CUatomicOperation add[]{CU_ATOMIC_OPERATION_INTEGER_ADD};
  const CUatomicOperation none[]{static_cast<CUatomicOperation>(1000)};
  SHOW(cuDeviceGetHostAtomicCapabilities(capabilities, add, 1, 0));
  SHOW(cuDeviceGetHostAtomicCapabilities(capabilities, add, 0, 0));
  SHOW(cuDeviceGetHostAtomicCapabilities(nullptr, add, 1, 0));
  SHOW(cuDeviceGetHostAtomicCapabilities(capabilities, none, 1, 0));
  SHOW(cuDeviceGetHostAtomicCapabilities(capabilities, add, 1, 1000));
}

CASE(logs) {
  NEED(cuInit(0));
  CUlogIterator iterator = 0;
  SHOW(cuLogsCurrent(&iterator, 0));
  SHOW(cuLogsCurrent(nullptr, 0));
  char buffer[256] = "x";
  std::size_t size = sizeof buffer;
  SHOW(cuLogsDumpToMemory(&iterator, buffer, &size, 0));
  say("%s", size <= sizeof buffer ? "it fits" : "too much");  // the text is the driver's own
  CUlogsCallbackHandle handle = nullptr;
  SHOW(cuLogsRegisterCallback([](void*, CUlogLevel, char*, std::size_t) {}, nullptr, &handle));
  SHOW(cuLogsUnregisterCallback(handle));
  SHOW(cuLogsRegisterCallback(nullptr, nullptr, &handle));
}

CASE(profiler) {
  NEED(cudaFree(nullptr));
  SHOW(cuProfilerStart());
  SHOW(cuProfilerStop());
  SHOW(cuProfilerInitialize("", "", CU_OUT_CSV));
}

CASE(limits_are_in_order) {
  NEED(cudaFree(nullptr));
  std::size_t value = 0;
  SHOW(cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 4096));
  SHOW(cuCtxGetLimit(&value, CU_LIMIT_STACK_SIZE));
  say("%zu", value);
  SHOW(cuCtxSetLimit(static_cast<CUlimit>(1000), 1));
  SHOW(cuCtxGetLimit(nullptr, CU_LIMIT_STACK_SIZE));
}

CASE(reset_and_use_again) {
  int* memory = nullptr;
  int value = 1;
  NEED(cudaMalloc(&memory, sizeof value));
  SHOW(cudaDeviceReset());
  SHOW(cudaMemcpy(&value, memory, sizeof value, cudaMemcpyDeviceToHost));
  SHOW(cudaMalloc(&memory, sizeof value));
  SHOW(cudaMemset(memory, 0, sizeof value));
  SHOW(cudaMemcpy(&value, memory, sizeof value, cudaMemcpyDeviceToHost));
  say("%d", value);
}
