// A CUDA driver library opened by path: AVEC's shim or NVIDIA's own, the same calls on both.
#pragma once

#include <cuda.h>

#include "harness.h"

// Every driver function the measurements use: member, exported name.
#define AVEC_BENCH_DRIVER(X)                         \
  X(init, cuInit)                                    \
  X(device_get, cuDeviceGet)                         \
  X(device_get_count, cuDeviceGetCount)              \
  X(device_get_name, cuDeviceGetName)                \
  X(retain, cuDevicePrimaryCtxRetain)                \
  X(set_current, cuCtxSetCurrent)                    \
  X(context_synchronize, cuCtxSynchronize)           \
  X(mem_get_info, cuMemGetInfo_v2)                   \
  X(mem_alloc, cuMemAlloc_v2)                        \
  X(mem_free, cuMemFree_v2)                          \
  X(host_alloc, cuMemHostAlloc)                      \
  X(host_free, cuMemFreeHost)                        \
  X(to_device, cuMemcpyHtoD_v2)                      \
  X(from_device, cuMemcpyDtoH_v2)                    \
  X(to_device_async, cuMemcpyHtoDAsync_v2)           \
  X(memset32, cuMemsetD32_v2)                        \
  X(module_load, cuModuleLoadData)                   \
  X(get_function, cuModuleGetFunction)               \
  X(launch, cuLaunchKernel)                          \
  X(mem_alloc_async, cuMemAllocAsync)                \
  X(mem_free_async, cuMemFreeAsync)                  \
  X(begin_capture, cuStreamBeginCapture_v2)          \
  X(end_capture, cuStreamEndCapture)                 \
  X(graph_instantiate, cuGraphInstantiateWithFlags)  \
  X(graph_launch, cuGraphLaunch)                     \
  X(event_create, cuEventCreate)                     \
  X(event_record, cuEventRecord)                     \
  X(event_query, cuEventQuery)                       \
  X(stream_query, cuStreamQuery)                     \
  X(is_capturing, cuStreamIsCapturing)               \
  X(pointer_attribute, cuPointerGetAttribute)        \
  X(device_attribute, cuDeviceGetAttribute)          \
  X(get_current, cuCtxGetCurrent)                    \
  X(stream_create, cuStreamCreate)                   \
  X(stream_synchronize, cuStreamSynchronize)

namespace avec::bench {

class Driver {
 public:
  /// Opens the library of the options; for AVEC, sets the environment that names the
  /// executor first.
  explicit Driver(const Options& options);

#define AVEC_BENCH_MEMBER(member, name) decltype(&::name) member = nullptr;
  AVEC_BENCH_DRIVER(AVEC_BENCH_MEMBER)
#undef AVEC_BENCH_MEMBER

  /// cuInit, the primary context of device 0, made current.
  void open();
  /// Loads the benchmark's kernels.
  void load();

  CUfunction count = nullptr;      ///< (unsigned* counter): adds 1 to *counter, any grid
  CUfunction increment = nullptr;  ///< (unsigned* data, unsigned n): adds 1 to each
};

void check(CUresult result, const char* what);
#define AVEC_CHECK(call) ::avec::bench::check((call), #call)

}  // namespace avec::bench
