#include "executor/recording_driver.h"

#include <cstdlib>
#include <cstring>
#include <mutex>

namespace avec::test {
namespace {

std::mutex mutex;
std::map<std::string, std::uint64_t> counts;    // guarded by mutex
std::map<std::string, std::uint64_t> launches;  // when each was called last; guarded by mutex
std::atomic<bool> gate_closed{false};
std::atomic<CUresult> launch_status{CUDA_SUCCESS};
std::atomic<std::uintptr_t> next_handle{0x1000};

void record(const char* name) {
  const std::scoped_lock lock(mutex);
  ++counts[name];
  launches[name] = counts["cuLaunchKernel"];
}

template <class Function, int Number>
struct Stub;
template <class... Arguments, int Number>
struct Stub<CUresult (*)(Arguments...), Number> {
  static inline const char* name = "";
  static CUresult call(Arguments...) {
    record(name);
    return CUDA_SUCCESS;
  }
};

template <class Handle>
CUresult fresh(Handle* handle) {
  *handle = reinterpret_cast<Handle>(next_handle += 16);
  return CUDA_SUCCESS;
}

CUresult query_event(CUevent) {
  record("cuEventQuery");
  return gate_closed ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

}  // namespace

#define AVEC_TEXT_OF(text) #text
#define AVEC_TEXT(text) AVEC_TEXT_OF(text)

worker::DriverTable recording_driver() {
  worker::DriverTable t;
#define AVEC_STUB(function)                                       \
  {                                                               \
    using Of = Stub<decltype(t.function), __COUNTER__>;           \
    Of::name = AVEC_TEXT(function);                               \
    t.function = &Of::call;                                       \
  }
  AVEC_DRIVER_FUNCTIONS(AVEC_STUB)
#undef AVEC_STUB
  t.cuDeviceGetCount = [](int* count) { return *count = 1, CUDA_SUCCESS; };
  t.cuMemGetAllocationGranularity = [](std::size_t* bytes, const CUmemAllocationProp*, CUmemAllocationGranularity_flags) {
    return *bytes = 2u << 20, CUDA_SUCCESS;
  };
  t.cuMemAddressReserve = [](CUdeviceptr* at, std::size_t, std::size_t, CUdeviceptr wish, unsigned long long) {
    return *at = wish, CUDA_SUCCESS;
  };
  t.cuMemCreate = [](CUmemGenericAllocationHandle* handle, std::size_t, const CUmemAllocationProp*, unsigned long long) {
    record("cuMemCreate");
    return *handle = next_handle += 16, CUDA_SUCCESS;
  };
  t.cuMemHostAlloc = [](void** data, std::size_t bytes, unsigned) {
    *data = std::aligned_alloc(4096, bytes);
    return *data != nullptr ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
  };
  t.cuMemFreeHost = [](void* data) { return std::free(data), CUDA_SUCCESS; };
  t.cuDevicePrimaryCtxRetain = [](CUcontext* context, CUdevice) { return fresh(context); };
  t.cuCtxCreate = [](CUcontext* context, CUctxCreateParams*, unsigned, CUdevice) { return fresh(context); };
  t.cuStreamCreateWithPriority = [](CUstream* stream, unsigned, int) {
    record("cuStreamCreateWithPriority");
    return fresh(stream);
  };
  t.cuEventCreate = [](CUevent* event, unsigned) {
    record("cuEventCreate");
    return fresh(event);
  };
  t.cuEventQuery = query_event;
  t.cuModuleLoadDataEx = [](CUmodule* module, const void*, unsigned, CUjit_option*, void**) {
    record("cuModuleLoadDataEx");
    return fresh(module);
  };
  t.cuModuleGetFunctionCount = [](unsigned* count, CUmodule) { return *count = 1, CUDA_SUCCESS; };
  t.cuModuleEnumerateFunctions = [](CUfunction* functions, unsigned, CUmodule) { return fresh(functions); };
  t.cuFuncGetName = [](const char** name, CUfunction) { return *name = "kernel", CUDA_SUCCESS; };
  // kernel(void*, int)
  t.cuFuncGetParamInfo = [](CUfunction, std::size_t index, std::size_t* offset, std::size_t* bytes) {
    if (index > 1) return CUDA_ERROR_INVALID_VALUE;
    *offset = index * 8;
    *bytes = index == 0 ? 8 : 4;
    return CUDA_SUCCESS;
  };
  t.cuLaunchKernel = [](CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream, void**,
                        void**) {
    record("cuLaunchKernel");
    return launch_status.load();
  };
  return t;
}

void reset_recording() {
  const std::scoped_lock lock(mutex);
  counts.clear();
  launches.clear();
  gate_closed = false;
  launch_status = CUDA_SUCCESS;
}

std::uint64_t recorded(const std::string& function) {
  const std::scoped_lock lock(mutex);
  const auto it = counts.find(function);
  return it == counts.end() ? 0 : it->second;
}

std::uint64_t launches_before(const std::string& function) {
  const std::scoped_lock lock(mutex);
  const auto it = launches.find(function);
  return it == launches.end() ? 0 : it->second;
}

std::uint64_t recorded_work() {
  const std::scoped_lock lock(mutex);
  std::uint64_t work = 0;
  for (const auto& [name, count] : counts) {
    if (name != "cuEventQuery" && name != "cuCtxSetCurrent" && name != "cuStreamQuery") work += count;
  }
  return work;
}

void close_gate(bool closed) { gate_closed = closed; }
void fail_launches(CUresult status) { launch_status = status; }

}  // namespace avec::test
