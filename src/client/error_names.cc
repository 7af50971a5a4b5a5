// Every CUresult with its text. The texts are those that CUDA programs print and that their
// tests compare.
#include <algorithm>
#include <array>

#include "client/status.h"

namespace avec::client {
namespace {

struct Entry {
  int code;
  const char* name;
  const char* text;
};

#define AVEC_ERROR(name, text) \
  Entry { name, #name, text }
constexpr std::array kErrors{
    AVEC_ERROR(CUDA_SUCCESS, "no error"),
    AVEC_ERROR(CUDA_ERROR_INVALID_VALUE, "invalid argument"),
    AVEC_ERROR(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
    AVEC_ERROR(CUDA_ERROR_NOT_INITIALIZED, "initialization error"),
    AVEC_ERROR(CUDA_ERROR_DEINITIALIZED, "driver shutting down"),
    AVEC_ERROR(CUDA_ERROR_PROFILER_DISABLED, "profiler disabled while using external profiling tool"),
    AVEC_ERROR(CUDA_ERROR_PROFILER_NOT_INITIALIZED,
               "profiler not initialized: call cudaProfilerInitialize()"),
    AVEC_ERROR(CUDA_ERROR_PROFILER_ALREADY_STARTED, "profiler already started"),
    AVEC_ERROR(CUDA_ERROR_PROFILER_ALREADY_STOPPED, "profiler already stopped"),
    AVEC_ERROR(CUDA_ERROR_STUB_LIBRARY, "CUDA driver is a stub library"),
    AVEC_ERROR(CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER, "call requires newer driver"),
    AVEC_ERROR(CUDA_ERROR_DEVICE_UNAVAILABLE, "CUDA-capable device(s) is/are busy or unavailable"),
    AVEC_ERROR(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected"),
    AVEC_ERROR(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"),
    AVEC_ERROR(CUDA_ERROR_DEVICE_NOT_LICENSED, "device doesn't have valid Grid license"),
    AVEC_ERROR(CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid"),
    AVEC_ERROR(CUDA_ERROR_INVALID_CONTEXT, "invalid device context"),
    AVEC_ERROR(CUDA_ERROR_CONTEXT_ALREADY_CURRENT, "context already current"),
    AVEC_ERROR(CUDA_ERROR_MAP_FAILED, "mapping of buffer object failed"),
    AVEC_ERROR(CUDA_ERROR_UNMAP_FAILED, "unmapping of buffer object failed"),
    AVEC_ERROR(CUDA_ERROR_ARRAY_IS_MAPPED, "array is mapped"),
    AVEC_ERROR(CUDA_ERROR_ALREADY_MAPPED, "resource already mapped"),
    AVEC_ERROR(CUDA_ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device"),
    AVEC_ERROR(CUDA_ERROR_ALREADY_ACQUIRED, "resource already acquired"),
    AVEC_ERROR(CUDA_ERROR_NOT_MAPPED, "resource not mapped"),
    AVEC_ERROR(CUDA_ERROR_NOT_MAPPED_AS_ARRAY, "resource not mapped as array"),
    AVEC_ERROR(CUDA_ERROR_NOT_MAPPED_AS_POINTER, "resource not mapped as pointer"),
    AVEC_ERROR(CUDA_ERROR_ECC_UNCORRECTABLE, "uncorrectable ECC error encountered"),
    AVEC_ERROR(CUDA_ERROR_UNSUPPORTED_LIMIT, "limit is not supported on this architecture"),
    AVEC_ERROR(CUDA_ERROR_CONTEXT_ALREADY_IN_USE,
               "exclusive-thread device already in use by a different thread"),
    AVEC_ERROR(CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, "peer access is not supported between these two devices"),
    AVEC_ERROR(CUDA_ERROR_INVALID_PTX, "a PTX JIT compilation failed"),
    AVEC_ERROR(CUDA_ERROR_INVALID_GRAPHICS_CONTEXT, "invalid OpenGL or DirectX context"),
    AVEC_ERROR(CUDA_ERROR_NVLINK_UNCORRECTABLE, "uncorrectable NVLink error detected during the execution"),
    AVEC_ERROR(CUDA_ERROR_JIT_COMPILER_NOT_FOUND, "PTX JIT compiler library not found"),
    AVEC_ERROR(CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
               "the provided PTX was compiled with an unsupported toolchain."),
    AVEC_ERROR(CUDA_ERROR_JIT_COMPILATION_DISABLED, "PTX JIT compilation was disabled"),
    AVEC_ERROR(CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY, "the provided execution affinity is not supported"),
    AVEC_ERROR(CUDA_ERROR_UNSUPPORTED_DEVSIDE_SYNC,
               "the provided PTX contains unsupported call to cudaDeviceSynchronize"),
    AVEC_ERROR(CUDA_ERROR_CONTAINED, "Invalid access of peer GPU memory over nvlink or a hardware error"),
    AVEC_ERROR(CUDA_ERROR_INVALID_SOURCE, "device kernel image is invalid"),
    AVEC_ERROR(CUDA_ERROR_FILE_NOT_FOUND, "file not found"),
    AVEC_ERROR(CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND, "shared object symbol not found"),
    AVEC_ERROR(CUDA_ERROR_SHARED_OBJECT_INIT_FAILED, "shared object initialization failed"),
    AVEC_ERROR(CUDA_ERROR_OPERATING_SYSTEM, "OS call failed or operation not supported on this OS"),
    AVEC_ERROR(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"),
    AVEC_ERROR(CUDA_ERROR_ILLEGAL_STATE, "the operation cannot be performed in the present state"),
    AVEC_ERROR(CUDA_ERROR_LOSSY_QUERY, "attempted introspection would be semantically lossy"),
    AVEC_ERROR(CUDA_ERROR_NOT_FOUND, "named symbol not found"),
    AVEC_ERROR(CUDA_ERROR_NOT_READY, "device not ready"),
    AVEC_ERROR(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
    AVEC_ERROR(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch"),
    AVEC_ERROR(CUDA_ERROR_LAUNCH_TIMEOUT, "the launch timed out and was terminated"),
    AVEC_ERROR(CUDA_ERROR_LAUNCH_INCOMPATIBLE_TEXTURING, "launch uses incompatible texturing mode"),
    AVEC_ERROR(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, "peer access is already enabled"),
    AVEC_ERROR(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, "peer access has not been enabled"),
    AVEC_ERROR(CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE, "cannot set while device is active in this process"),
    AVEC_ERROR(CUDA_ERROR_CONTEXT_IS_DESTROYED, "context is destroyed"),
    AVEC_ERROR(CUDA_ERROR_ASSERT, "device-side assert triggered"),
    AVEC_ERROR(CUDA_ERROR_TOO_MANY_PEERS, "peer mapping resources exhausted"),
    AVEC_ERROR(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED,
               "part or all of the requested memory range is already mapped"),
    AVEC_ERROR(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED,
               "pointer does not correspond to a registered memory region"),
    AVEC_ERROR(CUDA_ERROR_HARDWARE_STACK_ERROR, "hardware stack error"),
    AVEC_ERROR(CUDA_ERROR_ILLEGAL_INSTRUCTION, "an illegal instruction was encountered"),
    AVEC_ERROR(CUDA_ERROR_MISALIGNED_ADDRESS, "misaligned address"),
    AVEC_ERROR(CUDA_ERROR_INVALID_ADDRESS_SPACE, "operation not supported on global/shared address space"),
    AVEC_ERROR(CUDA_ERROR_INVALID_PC, "invalid program counter"),
    AVEC_ERROR(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure"),
    AVEC_ERROR(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, "too many blocks in cooperative launch"),
    AVEC_ERROR(CUDA_ERROR_TENSOR_MEMORY_LEAK,
               "an exception occurred on the device while exiting a kernel with tensor memory not freed"),
    AVEC_ERROR(CUDA_ERROR_NOT_PERMITTED, "operation not permitted"),
    AVEC_ERROR(CUDA_ERROR_NOT_SUPPORTED, "operation not supported"),
    AVEC_ERROR(CUDA_ERROR_SYSTEM_NOT_READY, "system not yet initialized"),
    AVEC_ERROR(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH,
               "system has unsupported display driver / cuda driver combination"),
    AVEC_ERROR(CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE,
               "forward compatibility was attempted on non supported HW"),
    AVEC_ERROR(CUDA_ERROR_MPS_CONNECTION_FAILED,
               "MPS client failed to connect to the MPS control daemon or the MPS server"),
    AVEC_ERROR(CUDA_ERROR_MPS_RPC_FAILURE,
               "the remote procedural call between the MPS server and the MPS client failed"),
    AVEC_ERROR(CUDA_ERROR_MPS_SERVER_NOT_READY, "MPS server is not ready to accept new MPS client requests"),
    AVEC_ERROR(CUDA_ERROR_MPS_MAX_CLIENTS_REACHED,
               "the hardware resources required to create MPS client have been exhausted"),
    AVEC_ERROR(CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED,
               "the hardware resources required to support device connections have been exhausted"),
    AVEC_ERROR(CUDA_ERROR_MPS_CLIENT_TERMINATED, "the MPS client has been terminated by the server"),
    AVEC_ERROR(
        CUDA_ERROR_CDP_NOT_SUPPORTED,
        "is using CUDA Dynamic Parallelism, but the current configuration, like MPS, does not support it"),
    AVEC_ERROR(CUDA_ERROR_CDP_VERSION_MISMATCH,
               "unsupported interaction between different versions of CUDA Dynamic Parallelism"),
    AVEC_ERROR(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"),
    AVEC_ERROR(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
               "operation failed due to a previous error during capture"),
    AVEC_ERROR(CUDA_ERROR_STREAM_CAPTURE_MERGE,
               "operation would result in a merge of separate capture sequences"),
    AVEC_ERROR(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "capture was not ended in the same stream as it began"),
    AVEC_ERROR(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "capturing stream has unjoined work"),
    AVEC_ERROR(CUDA_ERROR_STREAM_CAPTURE_ISOLATION,
               "dependency created on uncaptured work in another stream"),
    AVEC_ERROR(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT,
               "operation would make the legacy stream depend on a capturing blocking stream"),
    AVEC_ERROR(CUDA_ERROR_CAPTURED_EVENT,
               "operation not permitted on an event last recorded in a capturing stream"),
    AVEC_ERROR(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD,
               "attempt to terminate a thread-local capture sequence from another thread"),
    AVEC_ERROR(CUDA_ERROR_TIMEOUT, "wait operation timed out"),
    AVEC_ERROR(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE,
               "the graph update was not performed because it included changes which violated constraints "
               "specific to instantiated graph update"),
    AVEC_ERROR(CUDA_ERROR_EXTERNAL_DEVICE, "an async error has occured in external entity outside of CUDA"),
    AVEC_ERROR(CUDA_ERROR_INVALID_CLUSTER_SIZE,
               "a kernel launch error has occurred due to cluster misconfiguration"),
    AVEC_ERROR(CUDA_ERROR_FUNCTION_NOT_LOADED,
               "the function handle is not loaded when calling an API that requires a loaded function"),
    AVEC_ERROR(CUDA_ERROR_INVALID_RESOURCE_TYPE,
               "one or more resources passed in are not valid resource types for the operation"),
    AVEC_ERROR(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION,
               "one or more resources are insufficient or non-applicable for the operation"),
    AVEC_ERROR(CUDA_ERROR_KEY_ROTATION, "an error happened during the key rotation sequence"),
    AVEC_ERROR(CUDA_ERROR_UNKNOWN, "unknown error"),
};
#undef AVEC_ERROR
static_assert(std::ranges::is_sorted(kErrors, {}, &Entry::code));

const Entry* find(CUresult result) {
  const auto it = std::ranges::lower_bound(kErrors, static_cast<int>(result), {}, &Entry::code);
  return it != kErrors.end() && it->code == result ? &*it : nullptr;
}

}  // namespace

const char* error_name(CUresult result) noexcept {
  const Entry* entry = find(result);
  return entry != nullptr ? entry->name : nullptr;
}

const char* error_text(CUresult result) noexcept {
  const Entry* entry = find(result);
  return entry != nullptr ? entry->text : nullptr;
}

}  // namespace avec::client
