#include "client/device.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>

#include "client/client.h"
#include "session_generated.h"

namespace avec::client {
namespace {

/// What this session cannot honour, whatever the executor's device can: memory that host and
/// device use at the same time, sharing between processes, and families of calls that are not
/// implemented. Programs that ask first take their other path.
constexpr std::array kMasked{
    CU_DEVICE_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS,
    CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS,
    CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM,
    CU_DEVICE_ATTRIBUTE_COOPERATIVE_MULTI_DEVICE_LAUNCH,
    CU_DEVICE_ATTRIBUTE_CAN_FLUSH_REMOTE_WRITES,
    CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES,
    CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST,
    CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_WIN32_HANDLE_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_WIN32_KMT_HANDLE_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_GENERIC_COMPRESSION_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_SPARSE_CUDA_ARRAY_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_TIMELINE_SEMAPHORE_INTEROP_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS,
    CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING,
    CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES,
    CU_DEVICE_ATTRIBUTE_DEFERRED_MAPPING_CUDA_ARRAY_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_MEM_DECOMPRESS_ALGORITHM_MASK,
    CU_DEVICE_ATTRIBUTE_SPARSE_CUDA_ARRAY_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_DEFERRED_MAPPING_CUDA_ARRAY_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_HOST_NUMA_MEMORY_POOLS_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_HOST_NUMA_MULTINODE_IPC_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_HOST_MEMORY_POOLS_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_HOST_ALLOC_DMA_BUF_SUPPORTED,
};

std::string text_of(const flatbuffers::String* text) { return text != nullptr ? text->str() : std::string(); }

}  // namespace

Device::Device(CUdevice ordinal, const wire::DeviceFacts& facts, bool coherent_memory)
    : ordinal_(ordinal),
      name_(text_of(facts.name())),
      pci_bus_id_(text_of(facts.pci_bus_id())),
      total_bytes_(facts.total_bytes()),
      least_priority_(facts.least_priority()),
      greatest_priority_(facts.greatest_priority()) {
  if (facts.uuid() != nullptr)
    std::copy_n(facts.uuid()->begin(), std::min<std::size_t>(facts.uuid()->size(), 16), uuid_.begin());
  if (facts.attributes() != nullptr)
    attributes_.assign(facts.attributes()->begin(), facts.attributes()->end());
  if (facts.limits() != nullptr) limits_.assign(facts.limits()->begin(), facts.limits()->end());
  for (const CUdevice_attribute masked : kMasked) {
    if (static_cast<std::size_t>(masked) < attributes_.size()) attributes_[masked] = 0;
  }
  for (const CUdevice_attribute shared :
       {CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY}) {
    if (!coherent_memory && static_cast<std::size_t>(shared) < attributes_.size()) attributes_[shared] = 0;
  }
}

CUuuid Device::uuid() const {
  CUuuid uuid;
  std::memcpy(uuid.bytes, uuid_.data(), sizeof uuid.bytes);
  return uuid;
}

CUresult Device::attribute(int& value, CUdevice_attribute which) const {
  if (which < 1 ||
      (which >= CU_DEVICE_ATTRIBUTE_MAX && static_cast<std::size_t>(which) >= attributes_.size())) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  // Known to us and not to an older executor: what it does not know it cannot do.
  value = static_cast<std::size_t>(which) < attributes_.size() ? attributes_[which] : 0;
  return CUDA_SUCCESS;
}

int Device::attribute(CUdevice_attribute which) const {
  int value = 0;
  return attribute(value, which) == CUDA_SUCCESS ? value : 0;
}

int Device::compute_capability() const {
  return attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) * 10 +
         attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
}

bool Device::limit(std::size_t& value, CUlimit which) const {
  if (which < 0 || static_cast<std::size_t>(which) >= limits_.size()) return false;
  value = limits_[which];
  return true;
}

namespace {

/// None: kernels do not reach this machine's memory, and links between devices are not told of.
CUresult no_atomics(unsigned* capabilities, const CUatomicOperation* operations, unsigned count) {
  if (capabilities == nullptr || operations == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
  for (unsigned i = 0; i < count; ++i)
    if (operations[i] < 0 || operations[i] >= CU_ATOMIC_OPERATION_MAX) return CUDA_ERROR_INVALID_VALUE;
  std::fill_n(capabilities, count, 0U);
  return CUDA_SUCCESS;
}

}  // namespace

CUresult device_host_atomics(Client& client, unsigned* capabilities, const CUatomicOperation* operations,
                             unsigned count, CUdevice device) {
  if (client.device(device) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  return no_atomics(capabilities, operations, count);
}

CUresult device_peer_atomics(Client& client, unsigned* capabilities, const CUatomicOperation* operations,
                             unsigned count, CUdevice from, CUdevice to) {
  if (client.device(from) == nullptr || client.device(to) == nullptr || from == to) return CUDA_ERROR_INVALID_DEVICE;
  return no_atomics(capabilities, operations, count);
}

CUresult device_get(Client& client, CUdevice* device, int ordinal) {
  if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (client.device(ordinal) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUresult device_count(Client& client, int* count) {
  if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *count = client.device_count();
  return CUDA_SUCCESS;
}

CUresult device_name(Client& client, char* name, int bytes, CUdevice device) {
  const Device* facts = client.device(device);
  if (facts == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (name == nullptr || bytes <= 0) return CUDA_ERROR_INVALID_VALUE;
  std::snprintf(name, static_cast<std::size_t>(bytes), "%s", facts->name().c_str());
  return CUDA_SUCCESS;
}

CUresult device_uuid(Client& client, CUuuid* uuid, CUdevice device) {
  const Device* facts = client.device(device);
  if (facts == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (uuid == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *uuid = facts->uuid();
  return CUDA_SUCCESS;
}

CUresult device_total_memory(Client& client, std::size_t* bytes, CUdevice device) {
  const Device* facts = client.device(device);
  if (facts == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (bytes == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *bytes = facts->total_bytes();
  return CUDA_SUCCESS;
}

CUresult device_attribute(Client& client, int* value, CUdevice_attribute which, CUdevice device) {
  const Device* facts = client.device(device);
  if (facts == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return facts->attribute(*value, which);
}

namespace {

/// Domain, bus, device of "0000:3b:00.0"; the domain may be missing.
bool parse_bus_id(const char* text, std::array<unsigned, 4>& id) {
  id = {};
  if (std::sscanf(text, "%x:%x:%x.%x", &id[0], &id[1], &id[2], &id[3]) >= 3) return true;
  id = {};
  return std::sscanf(text, "%x:%x.%x", &id[1], &id[2], &id[3]) >= 2;
}

}  // namespace

CUresult device_by_pci_bus_id(Client& client, CUdevice* device, const char* id) {
  std::array<unsigned, 4> wanted, own;
  if (device == nullptr || id == nullptr || !parse_bus_id(id, wanted)) return CUDA_ERROR_INVALID_VALUE;
  for (int i = 0; i < client.device_count(); ++i) {
    if (parse_bus_id(client.device(i)->pci_bus_id().c_str(), own) && own == wanted) {
      *device = i;
      return CUDA_SUCCESS;
    }
  }
  return CUDA_ERROR_INVALID_DEVICE;
}

CUresult device_pci_bus_id(Client& client, char* id, int bytes, CUdevice device) {
  const Device* facts = client.device(device);
  if (facts == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (id == nullptr || bytes <= static_cast<int>(facts->pci_bus_id().size())) return CUDA_ERROR_INVALID_VALUE;
  std::memcpy(id, facts->pci_bus_id().c_str(), facts->pci_bus_id().size() + 1);
  return CUDA_SUCCESS;
}

CUresult device_properties(Client& client, CUdevprop* properties, CUdevice device) {
  const Device* facts = client.device(device);
  if (facts == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (properties == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *properties = {
      .maxThreadsPerBlock = facts->attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK),
      .maxThreadsDim = {facts->attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X),
                        facts->attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y),
                        facts->attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z)},
      .maxGridSize = {facts->attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X),
                      facts->attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y),
                      facts->attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z)},
      .sharedMemPerBlock = facts->attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK),
      .totalConstantMemory = facts->attribute(CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY),
      .SIMDWidth = facts->attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE),
      .memPitch = facts->attribute(CU_DEVICE_ATTRIBUTE_MAX_PITCH),
      .regsPerBlock = facts->attribute(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK),
      .clockRate = facts->attribute(CU_DEVICE_ATTRIBUTE_CLOCK_RATE),
      .textureAlign = facts->attribute(CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT),
  };
  return CUDA_SUCCESS;
}

CUresult device_compute_capability(Client& client, int* major, int* minor, CUdevice device) {
  const Device* facts = client.device(device);
  if (facts == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (major == nullptr || minor == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *major = facts->attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
  *minor = facts->attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
  return CUDA_SUCCESS;
}

CUresult device_exec_affinity_support(Client& client, int* supported, CUexecAffinityType type,
                                      CUdevice device) {
  if (client.device(device) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (supported == nullptr || type < 0 || type >= CU_EXEC_AFFINITY_TYPE_MAX) return CUDA_ERROR_INVALID_VALUE;
  *supported = 0;
  return CUDA_SUCCESS;
}

}  // namespace avec::client
