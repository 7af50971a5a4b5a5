// Functions of CUDA 12 and 13 about links between processors, logs and whole contexts; names of old.
#include <cudaProfiler.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <mutex>
#include <set>

#include "devices/cpu/device.h"
#include "devices/cpu/modules.h"

using namespace avec::cpu;

namespace {

/// None: no link of this device does atomic operations of its own.
CUresult no_atomics(unsigned* capabilities, const CUatomicOperation* operations, unsigned count) {
  if (capabilities == nullptr || operations == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
  const bool known = std::all_of(operations, operations + count, [](CUatomicOperation operation) {
    return operation >= 0 && operation < CU_ATOMIC_OPERATION_MAX;
  });
  if (!known) return CUDA_ERROR_INVALID_VALUE;
  std::fill_n(capabilities, count, 0U);
  return CUDA_SUCCESS;
}

std::mutex log_mutex;
std::set<std::uintptr_t>& log_callbacks() {  // guarded by log_mutex
  static auto* const all = new std::set<std::uintptr_t>;
  return *all;
}

}  // namespace

extern "C" {

CUresult cuDeviceGetHostAtomicCapabilities(unsigned* capabilities, const CUatomicOperation* operations,
                                           unsigned count, CUdevice ordinal) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  return no_atomics(capabilities, operations, count);
}

CUresult cuDeviceGetP2PAtomicCapabilities(unsigned* capabilities, const CUatomicOperation* operations, unsigned count,
                                          CUdevice from, CUdevice to) {
  Device* device;
  if (const auto error = device_of(from, device)) return error;
  if (const auto error = device_of(to, device)) return error;
  if (from == to) return CUDA_ERROR_INVALID_DEVICE;
  return no_atomics(capabilities, operations, count);
}

// Nothing is logged, so no callback is called and every dump is empty.
CUresult cuLogsRegisterCallback(CUlogsCallback callback, void*, CUlogsCallbackHandle* handle) {
  if (callback == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const std::lock_guard lock(log_mutex);
  const std::uintptr_t made = next_handle();
  log_callbacks().insert(made);
  if (handle != nullptr) *handle = as_handle<CUlogsCallbackHandle>(made);
  return CUDA_SUCCESS;
}

CUresult cuLogsUnregisterCallback(CUlogsCallbackHandle handle) {
  const std::lock_guard lock(log_mutex);
  return log_callbacks().erase(reinterpret_cast<std::uintptr_t>(handle)) != 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuLogsCurrent(CUlogIterator* iterator, unsigned flags) {
  if (iterator == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  *iterator = 0;
  return CUDA_SUCCESS;
}

CUresult cuLogsDumpToFile(CUlogIterator*, const char* path, unsigned flags) {
  if (path == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  std::FILE* file = std::fopen(path, "we");
  if (file == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::fclose(file);
  return CUDA_SUCCESS;
}

CUresult cuLogsDumpToMemory(CUlogIterator*, char* buffer, size_t* size, unsigned flags) {
  if (buffer == nullptr || size == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (*size > 0) *buffer = '\0';
  *size = 0;
  return CUDA_SUCCESS;
}

CUresult cuProfilerInitialize(const char*, const char*, CUoutput_mode) { return CUDA_ERROR_NOT_SUPPORTED; }

CUresult cuCtxAttach(CUcontext* handle, unsigned flags) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (handle == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  ++context->attached;
  *handle = as_handle<CUcontext>(context->handle);
  return CUDA_SUCCESS;
}

CUresult cuCtxDetach(CUcontext handle) {
  ContextRef context;
  if (const auto error = current_even_failed(context)) return error;
  if (handle == nullptr || context->handle != reinterpret_cast<std::uintptr_t>(handle)) return CUDA_ERROR_INVALID_CONTEXT;
  if (context->attached.load() == 0) return cuCtxDestroy(handle);
  --context->attached;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetExecAffinity(CUexecAffinityParam* affinity, CUexecAffinityType type) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (affinity == nullptr || type < 0 || type >= CU_EXEC_AFFINITY_TYPE_MAX) return CUDA_ERROR_INVALID_VALUE;
  return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
}

CUresult cuCtxRecordEvent(CUcontext handle, CUevent event_handle) {
  if (const auto error = initialised()) return error;
  const auto context = state().contexts.find(handle);
  if (!context || !context->alive.load()) return CUDA_ERROR_INVALID_CONTEXT;
  const auto event = state().events.find(event_handle);
  if (!event || event->context != context) return CUDA_ERROR_INVALID_HANDLE;
  Task mark;
  for (const auto& stream : state().scheduler.streams_of(*context))
    if (auto last = state().scheduler.last(stream)) mark.after.push_back(std::move(last));
  const StreamRef legacy = state().scheduler.legacy(*context);
  const auto completion = state().scheduler.enqueue(legacy, std::move(mark));
  const std::lock_guard lock(event->mutex);
  event->recorded = completion;
  event->stream = legacy;
  return CUDA_SUCCESS;
}

CUresult cuCtxWaitEvent(CUcontext handle, CUevent event_handle) {
  if (const auto error = initialised()) return error;
  const auto context = state().contexts.find(handle);
  if (!context || !context->alive.load()) return CUDA_ERROR_INVALID_CONTEXT;
  const auto event = state().events.find(event_handle);
  if (!event) return CUDA_ERROR_INVALID_HANDLE;
  CompletionRef recorded;
  {
    const std::lock_guard lock(event->mutex);
    recorded = event->recorded;
  }
  if (!recorded) return CUDA_SUCCESS;
  for (const auto& stream : state().scheduler.streams_of(*context)) {
    Task task;
    task.after.push_back(recorded);
    state().scheduler.enqueue(stream, std::move(task));
  }
  return CUDA_SUCCESS;
}

CUresult cuLibraryGetManaged(CUdeviceptr* address, size_t* bytes, CUlibrary library, const char* name) {
  CUdeviceptr found = 0;
  size_t found_bytes = 0;
  if (const auto error = cuLibraryGetGlobal(&found, &found_bytes, library, name)) return error;
  int managed = 0;
  if (cuPointerGetAttribute(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, found) != CUDA_SUCCESS || managed == 0)
    return CUDA_ERROR_NOT_FOUND;
  if (address != nullptr) *address = found;
  if (bytes != nullptr) *bytes = found_bytes;
  return CUDA_SUCCESS;
}

// A function pointer that host and device share: no device of this kind has them.
CUresult cuLibraryGetUnifiedFunction(void**, CUlibrary library, const char*) {
  if (const auto error = initialised()) return error;
  if (!state().libraries.find(library)) return CUDA_ERROR_INVALID_HANDLE;
  return CUDA_ERROR_INVALID_VALUE;  // as for a symbol that is no such function
}

}  // extern "C"
