// libcudnn.so.9: the graph API's entry points over GraphApi, versions and messages.
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <new>
#include <span>

#include "client/client.h"
#include "client/context.h"
#include "client/heap.h"
#include "client/host_memory.h"
#include "client/library_call.h"
#include "client/process.h"
#include "intercept/libraries/cudnn_graph.h"
#include "intercept/libraries/cudnn_shim.h"
#include "libraries/cudnn.h"

namespace avec::libraries::cudnn {
namespace {

/// The generated calls.
class Executor : public GraphRemote {
 public:
  int build(const Recipe& recipe, bool wait, void*& object) override {
    const bool takes_long = recipe.type == kExecutionPlan || recipe.type == kEngineHeuristics;
    const auto function = !wait ? &avecCudnnPack : takes_long ? &avecCudnnBuildLong : &avecCudnnBuild;
    return function(&object, recipe.type, recipe.bytes.data(), recipe.bytes.size(), recipe.descriptors.data(),
                    recipe.descriptors.size(), recipe.handles.data(), recipe.handles.size());
  }
  int get(void* object, int name, int type, std::int64_t requested, std::int64_t& count,
          std::span<std::byte> elements) override {
    return avecCudnnGet(object, name, type, requested, &count, elements.data(), elements.size());
  }
  int get_descriptors(void* object, int name, int element_type, std::int64_t& count,
                      std::span<void*> elements) override {
    return avecCudnnGetDescriptors(object, name, element_type, static_cast<std::int64_t>(elements.size()),
                                   &count, elements.data());
  }
  int execute(void* handle, void* plan, void* pack, bool wait) override {
    return wait ? avecCudnnTry(handle, plan, pack) : avecCudnnExecute(handle, plan, pack);
  }
  void release(void* object) override { avecCudnnRelease(object); }
  std::uint64_t place() override {
    return client::current_context == nullptr ? 0
                                              : client::current_context->name.load(std::memory_order_relaxed);
  }
  bool host_only(const void* address) override {
    const auto at = reinterpret_cast<std::uintptr_t>(address);
    const client::Context* context = client::current_context;
    return context == nullptr ||
           !(context->client->heap().in_range(at) || context->client->host_memory().in_range(at));
  }
};

template <class Body>
int guarded(Body&& body) noexcept {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return kAllocFailed;
  } catch (...) {
    return kInternalError;
  }
}

struct Callback {
  std::mutex mutex;
  unsigned mask = 0;
  void* data = nullptr;
  void* function = nullptr;
};
Callback& callback() {
  static auto& instance = *new Callback;
  return instance;
}

struct StatusName {
  int status;
  const char* name;
};
constexpr StatusName kStatusNames[] = {
    {0, "CUDNN_STATUS_SUCCESS"},
    {1001, "CUDNN_STATUS_NOT_INITIALIZED"},
    {1002, "CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH"},
    {1003, "CUDNN_STATUS_SERIALIZATION_VERSION_MISMATCH"},
    {1004, "CUDNN_STATUS_DEPRECATED"},
    {1005, "CUDNN_STATUS_LICENSE_ERROR"},
    {1006, "CUDNN_STATUS_RUNTIME_IN_PROGRESS"},
    {1007, "CUDNN_STATUS_RUNTIME_FP_OVERFLOW"},
    {1008, "CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED"},
    {2000, "CUDNN_STATUS_BAD_PARAM"},
    {2001, "CUDNN_STATUS_INVALID_VALUE"},
    {2002, "CUDNN_STATUS_BAD_PARAM_NULL_POINTER"},
    {2003, "CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER"},
    {2004, "CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED"},
    {2005, "CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND"},
    {2006, "CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT"},
    {2007, "CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH"},
    {2008, "CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH"},
    {2009, "CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES"},
    {2010, "CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE"},
    {2011, "CUDNN_STATUS_BAD_PARAM_CUDA_GRAPH_MISMATCH"},
    {2012, "CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE"},
    {3000, "CUDNN_STATUS_NOT_SUPPORTED"},
    {3001, "CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN"},
    {3002, "CUDNN_STATUS_NOT_SUPPORTED_SHAPE"},
    {3003, "CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE"},
    {3004, "CUDNN_STATUS_NOT_SUPPORTED_LAYOUT"},
    {3005, "CUDNN_STATUS_NOT_SUPPORTED_INCOMPATIBLE_CUDA_DRIVER"},
    {3006, "CUDNN_STATUS_NOT_SUPPORTED_INCOMPATIBLE_CUDART"},
    {3007, "CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH"},
    {3008, "CUDNN_STATUS_NOT_SUPPORTED_RUNTIME_PREREQUISITE_MISSING"},
    {3009, "CUDNN_STATUS_NOT_SUPPORTED_SUBLIBRARY_UNAVAILABLE"},
    {3010, "CUDNN_STATUS_NOT_SUPPORTED_SHARED_MEMORY_INSUFFICIENT"},
    {3011, "CUDNN_STATUS_NOT_SUPPORTED_PADDING"},
    {3012, "CUDNN_STATUS_NOT_SUPPORTED_BAD_LAUNCH_PARAM"},
    {3013, "CUDNN_STATUS_NOT_SUPPORTED_CUDA_GRAPH_NATIVE_API"},
    {3014, "CUDNN_STATUS_NOT_SUPPORTED_INVALID_DYNAMIC_SHAPE"},
    {4000, "CUDNN_STATUS_INTERNAL_ERROR"},
    {4001, "CUDNN_STATUS_INTERNAL_ERROR_COMPILATION_FAILED"},
    {4002, "CUDNN_STATUS_INTERNAL_ERROR_UNEXPECTED_VALUE"},
    {4003, "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"},
    {4004, "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"},
    {4005, "CUDNN_STATUS_INTERNAL_ERROR_BAD_LAUNCH_PARAM"},
    {4006, "CUDNN_STATUS_INTERNAL_ERROR_TEXTURE_CREATION_FAILED"},
    {5000, "CUDNN_STATUS_EXECUTION_FAILED"},
    {5001, "CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER"},
    {5002, "CUDNN_STATUS_EXECUTION_FAILED_CUBLAS"},
    {5003, "CUDNN_STATUS_EXECUTION_FAILED_CUDART"},
    {5004, "CUDNN_STATUS_EXECUTION_FAILED_CURAND"},
};

/// cudnnGetVersion, cudnnGetCudartVersion, cudnnGetMaxDeviceVersion of the executor's library.
enum Version : std::size_t { kLibrary, kCudart, kMaxDevice, kVersions };
std::uint64_t version(Version which) {
  std::uint64_t values[kVersions] = {};
  return avecCudnnVersions(values) == kSuccess ? values[which] : 0;
}

/// Longest message that is asked for, bytes.
constexpr std::size_t kMessageBytes = 4096;

}  // namespace

GraphApi& graph_api() {
  static Executor& executor = *new Executor;  // both outlive static destructors
  static GraphApi& instance = *new GraphApi(executor);
  return instance;
}

}  // namespace avec::libraries::cudnn

using namespace avec::libraries::cudnn;

extern "C" {

std::size_t cudnnGetVersion(void) { return version(kLibrary); }
std::size_t cudnnGetCudartVersion(void) { return version(kCudart); }
std::size_t cudnnGetMaxDeviceVersion(void) { return version(kMaxDevice); }

int cudnnGetProperty(int type, int* value) {
  if (value == nullptr || type < 0 || type > 2) return kBadParam;
  const auto number = static_cast<int>(version(kLibrary));
  if (number == 0) return kNotInitialized;
  const int parts[] = {number / 10000, number / 100 % 100, number % 100};
  *value = parts[type];
  return kSuccess;
}

const char* cudnnGetErrorString(int status) {
  const auto* at = std::ranges::find(kStatusNames, status, &StatusName::status);
  return at == std::end(kStatusNames) ? "CUDNN_UNKNOWN_STATUS" : at->name;
}

void cudnnGetLastErrorString(char* message, std::size_t size) {
  if (message == nullptr || size == 0) return;
  char text[kMessageBytes] = {};
  if (avecCudnnLastError(text, sizeof text) != kSuccess) text[0] = '\0';
  text[sizeof text - 1] = '\0';
  std::snprintf(message, size, "%s", text);
}

// One library of one version answers all calls.
int cudnnGraphVersionCheck(void) { return kSuccess; }
int cudnnOpsVersionCheck(void) { return kSuccess; }
int cudnnCnnVersionCheck(void) { return kSuccess; }
int cudnnAdvVersionCheck(void) { return kSuccess; }

/// Kept, never called: messages of the executor's library go to its own log.
int cudnnSetCallback(unsigned mask, void* data, void* function) {
  std::scoped_lock lock(callback().mutex);
  callback().mask = mask;
  callback().data = data;
  callback().function = function;
  return kSuccess;
}
int cudnnGetCallback(unsigned* mask, void** data, void** function) {
  if (mask == nullptr || data == nullptr || function == nullptr) return kBadParam;
  std::scoped_lock lock(callback().mutex);
  *mask = callback().mask;
  *data = callback().data;
  *function = callback().function;
  return kSuccess;
}

int cudnnBackendCreateDescriptor(int type, void** descriptor) {
  return guarded([&] { return graph_api().create(type, descriptor); });
}
int cudnnBackendDestroyDescriptor(void* descriptor) {
  return guarded([&] { return graph_api().destroy(descriptor); });
}
/// Deprecated: a descriptor begins as it was created.
int cudnnBackendInitialize(void* descriptor) { return descriptor == nullptr ? kBadParam : kSuccess; }
int cudnnBackendFinalize(void* descriptor) {
  return guarded([&] { return graph_api().finalize(descriptor); });
}
int cudnnBackendSetAttribute(void* descriptor, int name, int type, std::int64_t count, const void* elements) {
  return guarded([&] { return graph_api().set(descriptor, name, type, count, elements); });
}
int cudnnBackendGetAttribute(void* descriptor, int name, int type, std::int64_t requested,
                             std::int64_t* count, void* elements) {
  return guarded([&] { return graph_api().get(descriptor, name, type, requested, count, elements); });
}
int cudnnBackendExecute(void* handle, void* plan, void* pack) {
  return guarded([&] { return graph_api().execute(handle, plan, pack); });
}
// Graphs made by cuDNN itself would be known to the executor alone; capturing an execution works.
int cudnnBackendPopulateCudaGraph(void*, void*, void*, void*) { return kNoNativeGraphs; }
int cudnnBackendUpdateCudaGraph(void*, void*, void*, void*) { return kNoNativeGraphs; }

}  // extern "C"
