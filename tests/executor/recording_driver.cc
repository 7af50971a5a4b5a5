#include "executor/recording_driver.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <mutex>

#include "base/handle.h"

namespace avec::test {
namespace {

std::mutex mutex;
std::map<std::string, std::uint64_t> counts;    // guarded by mutex
std::map<std::string, std::uint64_t> launches;  // when each was called last; guarded by mutex
std::atomic<bool> gate_closed{false};
std::atomic<CUresult> launch_status{CUDA_SUCCESS};
std::atomic<CUresult> copy_status{CUDA_SUCCESS};
std::atomic<CUresult> registration_status{CUDA_SUCCESS};
std::atomic<std::uintptr_t> next_handle{0x1000};
std::vector<RecordedCopy> copies;     // guarded by mutex
std::map<int, int> attributes;        // of the device; guarded by mutex
std::atomic<CUresult> dma_buf_status{CUDA_SUCCESS};
std::atomic<CUresult> flush_status{CUDA_SUCCESS};
std::atomic<std::size_t> seen_at_unmap{0};
Descriptor memory_file;               // what `memory` maps; guarded by mutex
std::span<std::byte> memory;          // of the device; guarded by mutex
std::uint64_t memory_base = 0;        // guarded by mutex

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

CUresult copy(const char* name, RecordedCopy what) {
  record(name);
  if (copy_status != CUDA_SUCCESS) return copy_status;
  const std::scoped_lock lock(mutex);
  copies.push_back(what);
  for (std::uint64_t row = 0; row < what.height && !memory.empty(); ++row) {
    std::byte* device = memory.data() + (what.device - memory_base + row * what.pitch);
    auto* host = const_cast<std::byte*>(what.host) + row * what.width;
    std::memcpy(what.to_device ? device : host, what.to_device ? host : device, what.width);
  }
  return CUDA_SUCCESS;
}

CUresult give_dma_buf(void* handle, CUdeviceptr address, std::size_t bytes, CUmemRangeHandleType, unsigned long long) {
  record("cuMemGetHandleForAddressRange");
  if (dma_buf_status != CUDA_SUCCESS) return dma_buf_status;
  const std::scoped_lock lock(mutex);
  int given = -1;
  if (!memory.empty() && address == memory_base && bytes <= memory.size()) {
    given = ::dup(memory_file.get());
  } else {
    given = ::memfd_create("device", MFD_CLOEXEC);
    if (::ftruncate(given, static_cast<off_t>(bytes)) != 0) return CUDA_ERROR_OUT_OF_MEMORY;
  }
  return *static_cast<int*>(handle) = given, CUDA_SUCCESS;
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
  AVEC_DRIVER_OPTIONAL_FUNCTIONS(AVEC_STUB)
#undef AVEC_STUB
  t.cuDeviceGetCount = [](int* count) { return *count = 1, CUDA_SUCCESS; };
  t.cuMemGetAllocationGranularity = [](std::size_t* bytes, const CUmemAllocationProp*, CUmemAllocationGranularity_flags) {
    return *bytes = 2u << 20, CUDA_SUCCESS;
  };
  t.cuMemAddressReserve = [](CUdeviceptr* at, std::size_t, std::size_t, CUdeviceptr wish, unsigned long long) {
    return *at = wish, CUDA_SUCCESS;
  };
  t.cuDeviceGetAttribute = [](int* value, CUdevice_attribute attribute, CUdevice) {
    const std::scoped_lock lock(mutex);
    const auto known = attributes.find(attribute);
    return *value = known == attributes.end() ? 0 : known->second, CUDA_SUCCESS;
  };
  t.cuMemGetHandleForAddressRange = give_dma_buf;
  t.cuFlushGPUDirectRDMAWrites = [](CUflushGPUDirectRDMAWritesTarget, CUflushGPUDirectRDMAWritesScope) {
    record("cuFlushGPUDirectRDMAWrites");
    return flush_status.load();
  };
  t.cuMemUnmap = [](CUdeviceptr, std::size_t) {
    record("cuMemUnmap");
    return seen_at_unmap = mappings_of_device(), CUDA_SUCCESS;
  };
  t.cuMemCreate = [](CUmemGenericAllocationHandle* handle, std::size_t, const CUmemAllocationProp* property,
                     unsigned long long) {
    record("cuMemCreate");
    if (property->allocFlags.gpuDirectRDMACapable != 0) record("cuMemCreate for GPUDirect RDMA");
    return *handle = next_handle += 16, CUDA_SUCCESS;
  };
  t.cuMemHostAlloc = [](void** data, std::size_t bytes, unsigned) {
    record("cuMemHostAlloc");
    *data = std::aligned_alloc(4096, bytes);
    return *data != nullptr ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
  };
  t.cuMemFreeHost = [](void* data) {
    record("cuMemFreeHost");
    return std::free(data), CUDA_SUCCESS;
  };
  t.cuMemHostRegister = [](void*, std::size_t, unsigned) {
    record("cuMemHostRegister");
    return registration_status.load();
  };
  t.cuMemcpyHtoDAsync = [](CUdeviceptr device, const void* host, std::size_t bytes, CUstream) {
    return copy("cuMemcpyHtoDAsync_v2", {true, device, bytes, static_cast<const std::byte*>(host), bytes});
  };
  t.cuMemcpyDtoHAsync = [](void* host, CUdeviceptr device, std::size_t bytes, CUstream) {
    return copy("cuMemcpyDtoHAsync_v2", {false, device, bytes, static_cast<const std::byte*>(host), bytes});
  };
  t.cuMemcpy2DAsync = [](const CUDA_MEMCPY2D* c, CUstream) {
    const bool up = c->srcMemoryType == CU_MEMORYTYPE_HOST, down = c->dstMemoryType == CU_MEMORYTYPE_HOST;
    if (!up && !down) return record("cuMemcpy2DAsync_v2"), CUDA_SUCCESS;
    return copy("cuMemcpy2DAsync_v2", {up, up ? c->dstDevice : c->srcDevice, up ? c->dstPitch : c->srcPitch,
                                       static_cast<const std::byte*>(up ? c->srcHost : c->dstHost), c->WidthInBytes,
                                       c->Height});
  };
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
  t.cuArray3DCreate = [](CUarray* array, const CUDA_ARRAY3D_DESCRIPTOR*) { return fresh(array); };
  t.cuMipmappedArrayCreate = [](CUmipmappedArray* array, const CUDA_ARRAY3D_DESCRIPTOR*, unsigned) {
    return fresh(array);
  };
  t.cuMipmappedArrayGetLevel = [](CUarray* level, CUmipmappedArray, unsigned) { return fresh(level); };
  t.cuModuleLoadDataEx = [](CUmodule* module, const void*, unsigned, CUjit_option*, void**) {
    record("cuModuleLoadDataEx");
    return fresh(module);
  };
  t.cuGraphCreate = [](CUgraph* graph, unsigned) { return fresh(graph); };
  t.cuGraphAddNode = [](CUgraphNode* node, CUgraph, const CUgraphNode*, const CUgraphEdgeData*, std::size_t,
                        CUgraphNodeParams*) {
    record("cuGraphAddNode");
    return fresh(node);
  };
  t.cuGraphChildGraphNodeGetGraph = [](CUgraphNode, CUgraph* graph) {
    record("cuGraphChildGraphNodeGetGraph");
    return fresh(graph);
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

namespace {

void forget_memory() {  // with the mutex held
  if (!memory.empty()) ::munmap(memory.data(), memory.size());
  memory = {};
  memory_file.reset();
}

}  // namespace

void reset_recording() {
  const std::scoped_lock lock(mutex);
  counts.clear();
  launches.clear();
  copies.clear();
  forget_memory();
  dma_buf_status = flush_status = CUDA_SUCCESS;
  seen_at_unmap = 0;
  gate_closed = false;
  launch_status = copy_status = registration_status = CUDA_SUCCESS;
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
void fail_copies(CUresult status) { copy_status = status; }
void fail_dma_buf(CUresult status) { dma_buf_status = status; }
void fail_flush(CUresult status) { flush_status = status; }

void set_attribute(CUdevice_attribute attribute, int value) {
  const std::scoped_lock lock(mutex);
  attributes[attribute] = value;
}

void clear_attributes() {
  const std::scoped_lock lock(mutex);
  attributes.clear();
}

std::size_t mappings_at_unmap() { return seen_at_unmap; }

std::size_t mappings_of_device() {
  const std::scoped_lock lock(mutex);
  std::ifstream maps("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);) count += line.find("/memfd:device") != std::string::npos;
  return count - (memory.empty() ? 0 : 1);  // the driver's own
}

void fail_registration(CUresult status) { registration_status = status; }

std::vector<RecordedCopy> recorded_copies() {
  const std::scoped_lock lock(mutex);
  return copies;
}

void emulate_memory(std::uint64_t base, std::size_t bytes) {
  const std::scoped_lock lock(mutex);
  memory_base = base;
  forget_memory();
  if (bytes == 0) return;
  memory_file.reset(::memfd_create("device", MFD_CLOEXEC));
  if (::ftruncate(memory_file.get(), static_cast<off_t>(bytes)) != 0) std::abort();
  void* mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory_file.get(), 0);
  if (mapped == MAP_FAILED) std::abort();
  memory = {static_cast<std::byte*>(mapped), bytes};
}

std::vector<std::byte> device_memory(std::uint64_t address, std::size_t bytes) {
  const std::scoped_lock lock(mutex);
  const auto* at = memory.data() + (address - memory_base);
  return {at, at + bytes};
}

void write_device_memory(std::uint64_t address, std::span<const std::byte> bytes) {
  const std::scoped_lock lock(mutex);
  std::memcpy(memory.data() + (address - memory_base), bytes.data(), bytes.size());
}

}  // namespace avec::test
