// CUPTI (libcupti.so.13) as far as that programs which link it run: a profiler is told that there is none.
// Recording is "enabled" and yields no records, so that PyTorch's profiler shows the host's side and goes on.
// AVEC_TRACE shows what CUPTI would (docs/operations.md).
#include <chrono>
#include <cstdint>

#include "client/library_call.h"

#pragma GCC diagnostic ignored "-Wmissing-declarations"

namespace {

// CUptiResult.
constexpr int kSuccess = 0;
constexpr int kInvalidParameter = 1;
constexpr int kMaxLimitReached = 12;
constexpr int kQueueEmpty = 18;
constexpr int kNotSupported = 27;
/// CUPTI_API_VERSION of CUDA 13.0.
constexpr std::uint32_t kVersion = 130000;

const char* name_of(int result) {
  switch (result) {
    case 0: return "CUPTI_SUCCESS";
    case 1: return "CUPTI_ERROR_INVALID_PARAMETER";
    case 2: return "CUPTI_ERROR_INVALID_DEVICE";
    case 3: return "CUPTI_ERROR_INVALID_CONTEXT";
    case 4: return "CUPTI_ERROR_INVALID_EVENT_DOMAIN_ID";
    case 5: return "CUPTI_ERROR_INVALID_EVENT_ID";
    case 6: return "CUPTI_ERROR_INVALID_EVENT_NAME";
    case 7: return "CUPTI_ERROR_INVALID_OPERATION";
    case 8: return "CUPTI_ERROR_OUT_OF_MEMORY";
    case 9: return "CUPTI_ERROR_HARDWARE";
    case 10: return "CUPTI_ERROR_PARAMETER_SIZE_NOT_SUFFICIENT";
    case 11: return "CUPTI_ERROR_API_NOT_IMPLEMENTED";
    case 12: return "CUPTI_ERROR_MAX_LIMIT_REACHED";
    case 13: return "CUPTI_ERROR_NOT_READY";
    case 14: return "CUPTI_ERROR_NOT_COMPATIBLE";
    case 15: return "CUPTI_ERROR_NOT_INITIALIZED";
    case 16: return "CUPTI_ERROR_INVALID_METRIC_ID";
    case 17: return "CUPTI_ERROR_INVALID_METRIC_NAME";
    case 18: return "CUPTI_ERROR_QUEUE_EMPTY";
    case 19: return "CUPTI_ERROR_INVALID_HANDLE";
    case 20: return "CUPTI_ERROR_INVALID_STREAM";
    case 21: return "CUPTI_ERROR_INVALID_KIND";
    case 22: return "CUPTI_ERROR_INVALID_EVENT_VALUE";
    case 23: return "CUPTI_ERROR_DISABLED";
    case 24: return "CUPTI_ERROR_INVALID_MODULE";
    case 25: return "CUPTI_ERROR_INVALID_METRIC_VALUE";
    case 26: return "CUPTI_ERROR_HARDWARE_BUSY";
    case 27: return "CUPTI_ERROR_NOT_SUPPORTED";
    case 28: return "CUPTI_ERROR_UM_PROFILING_NOT_SUPPORTED";
    case 29: return "CUPTI_ERROR_UM_PROFILING_NOT_SUPPORTED_ON_DEVICE";
    case 30: return "CUPTI_ERROR_UM_PROFILING_NOT_SUPPORTED_ON_NON_P2P_DEVICES";
    case 31: return "CUPTI_ERROR_UM_PROFILING_NOT_SUPPORTED_WITH_MPS";
    case 32: return "CUPTI_ERROR_CDP_TRACING_NOT_SUPPORTED";
    case 33: return "CUPTI_ERROR_VIRTUALIZED_DEVICE_NOT_SUPPORTED";
    case 34: return "CUPTI_ERROR_CUDA_COMPILER_NOT_COMPATIBLE";
    case 35: return "CUPTI_ERROR_INSUFFICIENT_PRIVILEGES";
    case 36: return "CUPTI_ERROR_OLD_PROFILER_API_INITIALIZED";
    case 37: return "CUPTI_ERROR_OPENACC_UNDEFINED_ROUTINE";
    case 38: return "CUPTI_ERROR_LEGACY_PROFILER_NOT_SUPPORTED";
    case 39: return "CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED";
    case 40: return "CUPTI_ERROR_VIRTUALIZED_DEVICE_INSUFFICIENT_PRIVILEGES";
    case 41: return "CUPTI_ERROR_CONFIDENTIAL_COMPUTING_NOT_SUPPORTED";
    case 42: return "CUPTI_ERROR_CMP_DEVICE_NOT_SUPPORTED";
    case 43: return "CUPTI_ERROR_MIG_DEVICE_NOT_SUPPORTED";
    case 44: return "CUPTI_ERROR_SLI_DEVICE_NOT_SUPPORTED";
    case 45: return "CUPTI_ERROR_WSL_DEVICE_NOT_SUPPORTED";
    case 46: return "CUPTI_ERROR_INVALID_CHIP_NAME";
    case 999: return "CUPTI_ERROR_UNKNOWN";
    default: return nullptr;
  }
}

}  // namespace

extern "C" {

int cuptiGetVersion(std::uint32_t* version) {
  if (version == nullptr) return kInvalidParameter;
  *version = kVersion;
  return kSuccess;
}

int cuptiGetResultString(int result, const char** text) {
  if (text == nullptr || name_of(result) == nullptr) return kInvalidParameter;
  *text = name_of(result);
  return kSuccess;
}
int cuptiGetErrorMessage(int result, const char** text) { return cuptiGetResultString(result, text); }
int cuptiGetLastError() { return kSuccess; }

int cuptiGetTimestamp(std::uint64_t* nanoseconds) {
  if (nanoseconds == nullptr) return kInvalidParameter;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  *nanoseconds = static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
  return kSuccess;
}

int cuptiSubscribe(void** subscriber, void*, void*) {
  if (subscriber == nullptr) return kInvalidParameter;
  avec::client::say_unsupported("cuptiSubscribe", "CUPTI is not there, so profilers see no work of the GPU; AVEC_TRACE=file.json does");
  *subscriber = nullptr;
  return kNotSupported;
}
int cuptiEnableCallback(std::uint32_t, void*, int, std::uint32_t) { return kNotSupported; }
int cuptiEnableDomain(std::uint32_t, void*, int) { return kNotSupported; }
int cuptiEnableAllDomains(std::uint32_t, void*) { return kNotSupported; }

int cuptiActivityPopExternalCorrelationId(int, std::uint64_t* last) {
  if (last != nullptr) *last = 0;
  return kQueueEmpty;
}
int cuptiActivityGetNextRecord(std::uint8_t*, std::size_t, void** record) {
  if (record == nullptr) return kInvalidParameter;
  *record = nullptr;
  return kMaxLimitReached;  // no records, or no more
}
int cuptiActivityGetNumDroppedRecords(void*, std::uint32_t, std::size_t* dropped) {
  if (dropped == nullptr) return kInvalidParameter;
  *dropped = 0;
  return kSuccess;
}

// NVIDIA's tools look for these when they are injected.
int InitializeInjectionNvtx() { return 0; }
int InitializeInjectionNvtx2() { return 0; }
int InitializeInjectionNvtxExtension() { return 0; }

// Accepted, and without effect.
int cuptiActivityEnable() { return kSuccess; }
int cuptiActivityEnableContext() { return kSuccess; }
int cuptiActivityEnableDriverApi() { return kSuccess; }
int cuptiActivityEnableRuntimeApi() { return kSuccess; }
int cuptiActivityEnableCudaEventDeviceTimestamps() { return kSuccess; }
int cuptiActivityEnableLatencyTimestamps() { return kSuccess; }
int cuptiActivityEnableLaunchAttributes() { return kSuccess; }
int cuptiActivityEnableAllocationSource() { return kSuccess; }
int cuptiActivityEnableAllSyncRecords() { return kSuccess; }
int cuptiActivityEnableHWTrace() { return kSuccess; }
int cuptiActivityDisable() { return kSuccess; }
int cuptiActivityDisableContext() { return kSuccess; }
int cuptiActivityFlush() { return kSuccess; }
int cuptiActivityFlushAll() { return kSuccess; }
int cuptiActivityFlushPeriod() { return kSuccess; }
int cuptiActivityPushExternalCorrelationId() { return kSuccess; }
int cuptiActivityRegisterCallbacks() { return kSuccess; }
int cuptiActivityRegisterTimestampCallback() { return kSuccess; }
int cuptiActivitySetAttribute() { return kSuccess; }
int cuptiUnsubscribe() { return kSuccess; }
int cuptiFinalize() { return kSuccess; }
}
