#include "executor/worker/facts.h"

#include <array>
#include <string>

namespace avec::worker {
namespace {

/// Attributes that promise what cannot hold across machines: a device that reads any host
/// memory, or shares atomics and page tables with the client's host.
constexpr CUdevice_attribute kMasked[] = {
    CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS,
    CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES,
    CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS,
    CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST,
    CU_DEVICE_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM,
    CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
};

// What a context reports before one exists on this device: CUDA's documented defaults where the
// driver has nothing else to say.
constexpr std::uint64_t kDefaultLimits[] = {1024, 1u << 20, 8u << 20, 2, 2048};

}  // namespace

std::vector<flatbuffers::Offset<wire::DeviceFacts>> device_facts(const DriverTable& driver, int devices,
                                                                 flatbuffers::FlatBufferBuilder& builder) {
  std::vector<flatbuffers::Offset<wire::DeviceFacts>> all;
  for (int i = 0; i < devices; ++i) {
    CUdevice device = 0;
    driver.cuDeviceGet(&device, i);
    std::array<char, 256> name{}, bus{};
    driver.cuDeviceGetName(name.data(), static_cast<int>(name.size()) - 1, device);
    driver.cuDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()) - 1, device);
    CUuuid uuid{};
    driver.cuDeviceGetUuid(&uuid, device);
    std::size_t total = 0;
    driver.cuDeviceTotalMem(&total, device);
    std::vector<std::int32_t> attributes(CU_DEVICE_ATTRIBUTE_MAX);
    for (int a = 1; a < CU_DEVICE_ATTRIBUTE_MAX; ++a) {
      int value = 0;
      if (driver.cuDeviceGetAttribute(&value, static_cast<CUdevice_attribute>(a), device) == CUDA_SUCCESS)
        attributes[static_cast<std::size_t>(a)] = value;
    }
    for (CUdevice_attribute masked : kMasked) attributes[masked] = 0;

    int least = 0, greatest = 0;
    std::vector<std::uint64_t> limit_values(CU_LIMIT_MAX);
    for (std::size_t l = 0; l < std::size(kDefaultLimits) && l < limit_values.size(); ++l)
      limit_values[l] = kDefaultLimits[l];
    CUcontext context = nullptr;
    // Device 0 is what most sessions use; a context on every other one would be a waste.
    if (i == 0 && driver.cuDevicePrimaryCtxRetain(&context, device) == CUDA_SUCCESS) {
      driver.cuCtxSetCurrent(context);
      driver.cuCtxGetStreamPriorityRange(&least, &greatest);
      for (int l = 0; l < CU_LIMIT_MAX; ++l) {
        std::size_t value = 0;
        if (driver.cuCtxGetLimit(&value, static_cast<CUlimit>(l)) == CUDA_SUCCESS)
          limit_values[static_cast<std::size_t>(l)] = value;
      }
      driver.cuCtxSetCurrent(nullptr);
      driver.cuDevicePrimaryCtxRelease(device);
    } else {
      greatest = -5;  // of every device with stream priorities
    }
    const auto text = builder.CreateString(name.data());
    const auto id = builder.CreateVector(reinterpret_cast<const std::uint8_t*>(uuid.bytes), sizeof uuid.bytes);
    const auto list = builder.CreateVector(attributes);
    const auto pci = builder.CreateString(bus.data());
    const auto values = builder.CreateVector(limit_values);
    all.push_back(wire::CreateDeviceFacts(builder, text, id, total, list, pci, least, greatest, values));
  }
  return all;
}

}  // namespace avec::worker
