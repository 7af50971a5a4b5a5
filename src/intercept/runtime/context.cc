#include "context.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <new>
#include <vector>

#include "weak_driver.h"

namespace avec::runtime {
namespace {

/// More than any machine has; bounds the table of primary contexts.
constexpr int kMaxDevices = 64;

struct Primary {
  CUcontext context = nullptr;
  Context* record = nullptr;
};

/// Guards the tables below. Never taken on the launch path.
std::mutex mutex;
std::array<Primary, kMaxDevices> primaries;
std::vector<int>* valid_devices = nullptr;

/// Head of the list of contexts seen; records are only ever added.
std::atomic<Context*> contexts{nullptr};

unsigned long long context_id(CUcontext handle) {
  unsigned long long id = 0;
  if (cuCtxGetId == nullptr || cuCtxGetId(handle, &id) != CUDA_SUCCESS) return 0;
  return id;
}

Context* add_record(CUcontext handle, unsigned long long id, bool primary) noexcept {
  auto* record = new (std::nothrow) Context{.handle = handle, .id = id, .primary = primary};
  if (record == nullptr) return nullptr;
  record->next = contexts.load(std::memory_order_relaxed);
  while (!contexts.compare_exchange_weak(record->next, record, std::memory_order_release)) {
  }
  return record;
}

/// Retains the context under `mutex`.
CUresult retain(int device, CUcontext* context) {
  Primary& primary = primaries[device];
  if (primary.context == nullptr) {
    CUdevice handle = 0;
    CUcontext retained = nullptr;
    if (const CUresult got = cuDeviceGet(&handle, device); got != CUDA_SUCCESS) return got;
    if (const CUresult got = cuDevicePrimaryCtxRetain(&retained, handle); got != CUDA_SUCCESS) return got;
    primary.record = add_record(retained, 0, true);
    if (primary.record == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
    primary.context = retained;
  }
  *context = primary.context;
  return CUDA_SUCCESS;
}

}  // namespace

CUresult initialise_driver() noexcept {
  static const CUresult result = cuInit(0);
  return result;
}

CUresult device_count(int* count) noexcept {
  *count = 0;
  if (const CUresult ready = initialise_driver(); ready != CUDA_SUCCESS) return ready;
  const CUresult counted = cuDeviceGetCount(count);
  *count = std::min(*count, kMaxDevices);
  if (counted == CUDA_SUCCESS && *count == 0) return CUDA_ERROR_NO_DEVICE;
  return counted;
}

cudaError_t check_device(int device, CUdevice* handle) noexcept {
  int count = 0;
  if (const CUresult counted = device_count(&count); counted != CUDA_SUCCESS) return to_runtime(counted);
  if (device < 0 || device >= count) return cudaErrorInvalidDevice;
  return to_runtime(cuDeviceGet(handle, device));
}

cudaError_t current_device(int* device) noexcept {
  int count = 0;
  if (const CUresult counted = device_count(&count); counted != CUDA_SUCCESS) return to_runtime(counted);
  CUcontext current = nullptr;
  CUdevice handle = 0;
  // A context that is not ours says itself where it is.
  if (cuCtxGetCurrent(&current) == CUDA_SUCCESS && current != nullptr && current != this_thread.bound &&
      cuCtxGetDevice(&handle) == CUDA_SUCCESS) {
    *device = handle;
    return cudaSuccess;
  }
  if (this_thread.device >= 0) {
    *device = this_thread.device;
    return cudaSuccess;
  }
  const std::lock_guard lock(mutex);
  *device = valid_devices != nullptr && !valid_devices->empty() ? valid_devices->front() : 0;
  return cudaSuccess;
}

CUresult primary_context(int device, CUcontext* context) noexcept {
  const std::lock_guard lock(mutex);
  return retain(device, context);
}

CUresult use_device(int device) noexcept {
  // Read before the context: a reset in between makes this thread look again.
  const std::uint64_t epoch = global_epoch.load(std::memory_order_acquire);
  CUcontext context = nullptr;
  if (const CUresult got = primary_context(device, &context); got != CUDA_SUCCESS) return got;
  if (const CUresult set = cuCtxSetCurrent(context); set != CUDA_SUCCESS) return set;
  this_thread.device = device;
  this_thread.bound = context;
  this_thread.epoch = epoch;
  this_thread.kernel_key = nullptr;
  return CUDA_SUCCESS;
}

CUresult bind_context_slow() noexcept {
  int count = 0;
  if (const CUresult counted = device_count(&count); counted != CUDA_SUCCESS) return counted;
  if (this_thread.device >= 0) return use_device(this_thread.device);
  std::vector<int> candidates{0};
  {
    const std::lock_guard lock(mutex);
    if (valid_devices != nullptr && !valid_devices->empty()) candidates = *valid_devices;
  }
  CUresult result = CUDA_ERROR_NO_DEVICE;
  for (const int device : candidates) {
    result = use_device(device);
    if (result == CUDA_SUCCESS) return result;
  }
  return result;
}

cudaError_t reset_current_device() noexcept {
  int device = 0;
  if (const cudaError_t found = current_device(&device); found != cudaSuccess) return found;
  CUdevice handle = 0;
  if (const cudaError_t checked = check_device(device, &handle); checked != cudaSuccess) return checked;
  CUcontext current = nullptr;
  cuCtxGetCurrent(&current);
  const std::lock_guard lock(mutex);
  Primary& primary = primaries[device];
  const CUresult result = cuDevicePrimaryCtxReset(handle);
  if (result != CUDA_SUCCESS) return to_runtime(result);
  if (primary.context != nullptr) {
    primary.record->alive.store(false, std::memory_order_release);
    if (current == primary.context) cuCtxSetCurrent(nullptr);
    cuDevicePrimaryCtxRelease(handle);  // our own reference; the context is gone already
    primary = {};
  }
  global_epoch.fetch_add(1, std::memory_order_acq_rel);
  this_thread.last_error = cudaSuccess;
  return cudaSuccess;
}

cudaError_t set_valid_devices(const int* devices, int count) noexcept {
  int available = 0;
  if (const CUresult counted = device_count(&available); counted != CUDA_SUCCESS) return to_runtime(counted);
  if (count < 0 || count > available || (count > 0 && devices == nullptr)) return cudaErrorInvalidValue;
  for (int i = 0; i < count; ++i)
    if (devices[i] < 0 || devices[i] >= available) return cudaErrorInvalidDevice;
  const std::lock_guard lock(mutex);
  // Never freed: threads may still ask while the process ends.
  if (valid_devices == nullptr) valid_devices = new (std::nothrow) std::vector<int>;
  if (valid_devices == nullptr) return cudaErrorMemoryAllocation;
  valid_devices->assign(devices, devices + count);
  return cudaSuccess;
}

Context* context_record(CUcontext handle) noexcept {
  unsigned long long id = 0;
  bool id_known = false;
  for (Context* record = contexts.load(std::memory_order_acquire); record != nullptr; record = record->next) {
    if (record->handle != handle || !record->alive.load(std::memory_order_acquire)) continue;
    if (record->primary) return record;
    // A destroyed context's address may be used again; its id is not.
    if (!id_known) id = context_id(handle);
    id_known = true;
    if (record->id == id) return record;
  }
  return add_record(handle, id_known ? id : context_id(handle), false);
}

}  // namespace avec::runtime
