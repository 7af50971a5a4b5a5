// Handles, versions and errors.
#include <cstdio>
#include <cstring>
#include <new>
#include <string>

#include "devices/cpu/libraries/cudnn/objects.h"
#include "devices/cpu/libraries/stream_order.h"

namespace avec::cpu_libraries::cudnn {

namespace {

// The version whose API this is. Frameworks refuse one below that of their build.
constexpr int kMajor = 9, kMinor = 19, kPatch = 0;
constexpr std::size_t kCudartVersion = 13000;

thread_local std::string last_error;

struct Callback {
  unsigned mask = 0;
  void* user = nullptr;
  void* function = nullptr;
} callback;  // stored and told, never called: nothing is logged here

}  // namespace

Status refuse(Status status, const char* why) {
  try {
    last_error = why;
  } catch (const std::bad_alloc&) {
    last_error.clear();
  }
  return status;
}

Status submit(Handle* handle, std::function<void()> work) {
  const auto failure = handle->failure;
  const CUresult error = in_stream_order(handle->stream, [work = std::move(work), failure] {
    try {
      work();
    } catch (const std::bad_alloc&) {
      failure->store(Status::kAllocFailed);
    } catch (...) {
      failure->store(Status::kExecutionFailed);
    }
  });
  if (error == CUDA_SUCCESS) return Status::kSuccess;
  return refuse(Status::kExecutionFailedDriver, "the stream of the handle takes no work");
}

extern "C" {

std::size_t cudnnGetVersion() { return kMajor * 10000 + kMinor * 100 + kPatch; }
std::size_t cudnnGetMaxDeviceVersion() { return 1210; }
std::size_t cudnnGetCudartVersion() { return kCudartVersion; }

const char* cudnnGetErrorString(int status) {
  switch (status) {
#define AVEC_STATUS(code, name) \
  case code:                    \
    return "CUDNN_STATUS_" name;
#include "devices/cpu/libraries/cudnn/status_names.inc"
#undef AVEC_STATUS
    default:
      return "CUDNN_UNKNOWN_STATUS";
  }
}

/// Tells the message once.
void cudnnGetLastErrorString(char* message, std::size_t size) {
  if (message == nullptr || size == 0) return;
  std::snprintf(message, size, "%s", last_error.c_str());
  last_error.clear();
}

Status cudnnGetProperty(int type, int* value) {
  if (value == nullptr) return bad_param("value == NULL");
  switch (type) {
    case 0:
      *value = kMajor;
      return Status::kSuccess;
    case 1:
      *value = kMinor;
      return Status::kSuccess;
    case 2:
      *value = kPatch;
      return Status::kSuccess;
    default:
      return bad_param("type is no property of a library");
  }
}

Status cudnnQueryRuntimeError(Handle* handle, Status* status, Query mode, void* tag) {
  (void)tag;
  if (any_null(handle, status)) return bad_param("a pointer is NULL");
  if (mode == Query::kBlocking && cuStreamSynchronize(handle->stream) != CUDA_SUCCESS)
    return refuse(Status::kExecutionFailedDriver, "the stream of the handle has failed");
  *status = mode == Query::kRawCode ? handle->failure->load() : handle->failure->exchange(Status::kSuccess);
  return Status::kSuccess;
}

Status cudnnSetCallback(unsigned mask, void* user, void* function) {
  callback = {mask, user, function};
  return Status::kSuccess;
}

Status cudnnGetCallback(unsigned* mask, void** user, void** function) {
  if (any_null(mask, user, function)) return bad_param("a pointer is NULL");
  *mask = callback.mask;
  *user = callback.user;
  *function = callback.function;
  return Status::kSuccess;
}

Status cudnnGraphVersionCheck() { return Status::kSuccess; }
Status cudnnOpsVersionCheck() { return Status::kSuccess; }
Status cudnnCnnVersionCheck() { return Status::kSuccess; }

Status cudnnCreate(Handle** handle) {
  if (handle == nullptr) return bad_param("handle == NULL");
  *handle = nullptr;
  if (cuInit(0) != CUDA_SUCCESS) return refuse(Status::kNotInitialized, "there is no device");
  *handle = new (std::nothrow) Handle;
  return *handle != nullptr ? Status::kSuccess : refuse(Status::kAllocFailed, "no memory for a handle");
}

Status cudnnDestroy(Handle* handle) {
  if (handle == nullptr) return bad_param("handle == NULL");
  delete handle;
  return Status::kSuccess;
}

Status cudnnSetStream(Handle* handle, CUstream stream) {
  if (handle == nullptr) return bad_param("handle == NULL");
  handle->stream = stream;
  return Status::kSuccess;
}

Status cudnnGetStream(Handle* handle, CUstream* stream) {
  if (any_null(handle, stream)) return bad_param("a pointer is NULL");
  *stream = handle->stream;
  return Status::kSuccess;
}

}  // extern "C"

}  // namespace avec::cpu_libraries::cudnn
