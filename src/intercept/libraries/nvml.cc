// NVML (libnvidia-ml.so.1) over the session: the devices are those of the executor that this program may use.
// Initialising it and asking for names starts no CUDA context. What only the executor's own NVML knows
// (temperature ...) is asked there; where it has none (the CPU device), it is not supported.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "client/client.h"
#include "client/context.h"
#include "client/device.h"
#include "client/heap.h"
#include "client/memory.h"
#include "client/process.h"

#pragma GCC diagnostic ignored "-Wmissing-declarations"

using namespace avec::client;

// Sensors: generated calls of schemas/libraries/nvml.api, by the executor's own NVML.
extern "C" {
int avec_nvml_init();
int avec_nvml_device(const char* uuid, void* device);
int avec_nvml_temperature(const void* device, std::int32_t sensor, std::uint32_t* degrees);
int avec_nvml_power(const void* device, std::uint32_t* milliwatts);
int avec_nvml_power_limit(const void* device, std::uint32_t* milliwatts);
int avec_nvml_utilization(const void* device, std::uint32_t* rates);
int avec_nvml_clock(const void* device, std::int32_t which, std::uint32_t* mhz);
int avec_nvml_highest_clock(const void* device, std::int32_t which, std::uint32_t* mhz);
int avec_nvml_fan(const void* device, std::uint32_t* percent);
int avec_nvml_performance(const void* device, std::int32_t* state);
int avec_nvml_driver(void* text, std::uint32_t bytes);
int avec_nvml_pcie_generation(const void* device, std::uint32_t* generation);
int avec_nvml_pcie_width(const void* device, std::uint32_t* lanes);
int avec_nvml_pcie_highest_generation(const void* device, std::uint32_t* generation);
int avec_nvml_pcie_highest_width(const void* device, std::uint32_t* lanes);
}

namespace {

/// nvmlReturn_t.
enum Status : int {
  kSuccess = 0,
  kUninitialized = 1,
  kInvalidArgument = 2,
  kNotSupported = 3,
  kNotFound = 6,
  kInsufficientSize = 7,
  kDriverNotLoaded = 9,
  kVersionMismatch = 25,
  kUnknown = 999
};

// Structures as documented in the NVML API reference.
struct PciInfo {
  char bus_id_legacy[16];
  unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
  char bus_id[32];
};
struct Memory {
  unsigned long long total, free, used;
};
struct MemoryV2 {
  unsigned version;
  unsigned long long total, reserved, free, used;
};
struct ProcessInfo {
  unsigned pid;
  unsigned long long used_memory;
  unsigned gpu_instance, compute_instance;
};
struct ProcessInfoV1 {
  unsigned pid;
  unsigned long long used_memory;
};
struct Utilization {
  unsigned gpu, memory;
};
constexpr unsigned kMemoryV2 = sizeof(MemoryV2) | 2u << 24;
constexpr unsigned kNoInstance = ~0u;

std::atomic<int> initialized{0};  ///< calls of nvmlInit without their nvmlShutdown

int status_of(CUresult result) {
  switch (result) {
    case CUDA_SUCCESS: return kSuccess;
    case CUDA_ERROR_INVALID_VALUE:
    case CUDA_ERROR_INVALID_DEVICE: return kInvalidArgument;
    case CUDA_ERROR_NOT_INITIALIZED: return kUninitialized;
    case CUDA_ERROR_NOT_SUPPORTED: return kNotSupported;
    case CUDA_ERROR_NO_DEVICE: return kDriverNotLoaded;
    default: return kUnknown;
  }
}

Client* the_client(int& status) {
  status = kUninitialized;
  if (initialized.load() == 0) return nullptr;
  CUresult error = CUDA_SUCCESS;
  Client* client = process_client(error);
  // In a child of fork(): NVML knows no such thing as CUDA's sessions.
  if (client == nullptr && process_init(false) == CUDA_SUCCESS) client = process_client(error);
  status = client == nullptr ? status_of(error) : kSuccess;
  return client;
}

/// A handle is the device's number in a space of its own; null is none.
constexpr std::uintptr_t kHandles = 0x6e766d6c00000001;
void* handle_of(CUdevice ordinal) { return reinterpret_cast<void*>(kHandles + static_cast<unsigned>(ordinal)); }

Device* device_of(const void* handle, int& status) {
  Client* client = the_client(status);
  if (client == nullptr) return nullptr;
  const auto number = reinterpret_cast<std::uintptr_t>(handle) - kHandles;
  Device* device = number < static_cast<unsigned>(client->device_count()) ? client->device(static_cast<CUdevice>(number)) : nullptr;
  if (device == nullptr) status = kInvalidArgument;
  return device;
}

int copy_text(std::string_view text, char* to, unsigned room) {
  if (to == nullptr) return kInvalidArgument;
  if (text.size() >= room) return kInsufficientSize;
  std::memcpy(to, text.data(), text.size());
  to[text.size()] = '\0';
  return kSuccess;
}

std::string uuid_of(const Device& device) {
  const CUuuid uuid = device.uuid();
  std::string text = "GPU-";
  for (std::size_t i = 0; i < sizeof uuid.bytes; ++i) {
    std::array<char, 3> hex{};
    std::snprintf(hex.data(), hex.size(), "%02x", static_cast<unsigned char>(uuid.bytes[i]));
    text += hex.data();
    if (i == 3 || i == 5 || i == 7 || i == 9) text += '-';
  }
  return text;
}

/// The thread has the primary context of the device while this lives, and what it had before after that.
class InPrimaryContext {
 public:
  explicit InPrimaryContext(Device& device) : ordinal_(device.ordinal()), before_(current_context) {
    client_ = process_client(result_);
    CUcontext context = nullptr;
    if (client_ != nullptr) result_ = primary_retain(*client_, &context, ordinal_);
    if (client_ == nullptr || result_ != CUDA_SUCCESS) return;
    retained_ = true;
    result_ = context_set_current(context);
  }
  ~InPrimaryContext() {
    current_context = before_;
    if (retained_) static_cast<void>(primary_release(*client_, ordinal_));
  }
  InPrimaryContext(const InPrimaryContext&) = delete;
  InPrimaryContext& operator=(const InPrimaryContext&) = delete;
  [[nodiscard]] CUresult result() const { return result_; }

 private:
  CUdevice ordinal_;
  Context* before_;
  Client* client_ = nullptr;
  CUresult result_ = CUDA_SUCCESS;
  bool retained_ = false;
};

int memory_of(const void* handle, Memory& memory) {
  int status;
  Device* device = device_of(handle, status);
  if (device == nullptr) return status;
  const InPrimaryContext in(*device);
  if (in.result() != CUDA_SUCCESS) return status_of(in.result());
  std::size_t free = 0, total = 0;
  if (const CUresult result = memory_info(&free, &total); result != CUDA_SUCCESS) return status_of(result);
  memory = {.total = total, .free = free, .used = total - std::min(free, total)};
  return kSuccess;
}

/// The executor's NVML's handle of a device, found once; null where it has none.
const void* executors_device(Device& device) {
  static std::mutex mutex;
  static std::array<const void*, 64> known{};
  static bool there = true;
  const auto number = static_cast<std::size_t>(device.ordinal());
  const std::scoped_lock lock(mutex);
  if (!there || number >= known.size()) return nullptr;
  if (known[number] != nullptr) return known[number];
  void* found = nullptr;
  if (avec_nvml_init() != kSuccess || avec_nvml_device(uuid_of(device).c_str(), &found) != kSuccess) {
    there = false;
    return nullptr;
  }
  return known[number] = found;
}

/// What a sensor of the executor says.
template <class Ask>
int ask_executor(const void* handle, const void* out, Ask ask) {
  if (out == nullptr) return kInvalidArgument;
  int status;
  Device* device = device_of(handle, status);
  if (device == nullptr) return status;
  const InPrimaryContext in(*device);
  if (in.result() != CUDA_SUCCESS) return status_of(in.result());
  const void* there = executors_device(*device);
  return there == nullptr ? kNotSupported : ask(there);
}

template <class Value>
int attribute(const void* handle, Value* value, CUdevice_attribute which, int factor = 1, int divisor = 1) {
  int status;
  const Device* device = device_of(handle, status);
  if (device == nullptr) return status;
  if (value == nullptr) return kInvalidArgument;
  *value = static_cast<Value>(device->attribute(which) * factor / divisor);
  return kSuccess;
}

bool parse_pci(std::string_view id, std::array<unsigned, 3>& parts) {
  std::array<char, 32> text{};
  if (id.size() >= text.size()) return false;
  std::ranges::copy(id, text.begin());
  return std::sscanf(text.data(), "%x:%x:%x", &parts[0], &parts[1], &parts[2]) == 3;
}

int initialize() {
  if (const CUresult result = process_init(false); result != CUDA_SUCCESS) return kDriverNotLoaded;
  initialized.fetch_add(1);
  return kSuccess;
}

/// Processes with work on the device that this session may know: this one, once it has a context there.
bool works_there(Device& device) {
  CUresult error = CUDA_SUCCESS;
  Client* client = process_client(error);
  return client != nullptr && client->primary(device.ordinal())->active();
}

template <class Info, class Fill>
int processes(const void* handle, unsigned* count, Info* infos, Fill fill) {
  int status;
  Device* device = device_of(handle, status);
  if (device == nullptr) return status;
  if (count == nullptr || (*count != 0 && infos == nullptr)) return kInvalidArgument;
  const unsigned room = std::exchange(*count, works_there(*device) ? 1 : 0);
  if (*count > room) return kInsufficientSize;
  if (*count == 1) fill(*infos, *device);
  return kSuccess;
}

unsigned long long used_here(const Device& device) {
  CUresult error = CUDA_SUCCESS;
  Client* client = process_client(error);
  return client == nullptr ? 0 : client->heap().used_bytes(device.ordinal());
}

void fill_process(ProcessInfo& info, const Device& device) {
  info = {.pid = static_cast<unsigned>(::getpid()), .used_memory = used_here(device), .gpu_instance = kNoInstance, .compute_instance = kNoInstance};
}

}  // namespace

extern "C" {

int nvmlInit_v2() { return initialize(); }
int nvmlInit() { return initialize(); }
int nvmlInitWithFlags(unsigned) { return initialize(); }

int nvmlShutdown() {
  int now = initialized.load();
  while (now > 0)
    if (initialized.compare_exchange_weak(now, now - 1)) return kSuccess;
  return kUninitialized;
}

const char* nvmlErrorString(int status) {
  switch (status) {
    case kSuccess: return "Success";
    case kUninitialized: return "Uninitialized";
    case kInvalidArgument: return "Invalid Argument";
    case kNotSupported: return "Not Supported";
    case 4: return "Insufficient Permissions";
    case 5: return "Already Initialized";
    case kNotFound: return "Not Found";
    case kInsufficientSize: return "Insufficient Size";
    case 8: return "Insufficient External Power";
    case kDriverNotLoaded: return "Driver Not Loaded";
    case 10: return "Timeout";
    case 12: return "NVML Shared Library Not Found";
    case 13: return "Function Not Found";
    case 15: return "GPU is lost";
    case kVersionMismatch: return "Version mismatch between NVML and the argument";
    default: return "Unknown Error";
  }
}

int nvmlSystemGetCudaDriverVersion(int* version) {
  if (version == nullptr) return kInvalidArgument;
  *version = process_driver_version();
  return kSuccess;
}
int nvmlSystemGetCudaDriverVersion_v2(int* version) { return nvmlSystemGetCudaDriverVersion(version); }

int nvmlSystemGetNVMLVersion(char* text, unsigned room) {
  const int version = process_driver_version();
  return copy_text(std::to_string(version / 1000) + ".avec", text, room);
}

int nvmlSystemGetDriverVersion(char* text, unsigned room) {
  int status;
  Client* client = the_client(status);
  if (client == nullptr) return status;
  if (text == nullptr) return kInvalidArgument;
  if (Device* device = client->device(0); device != nullptr) {
    const InPrimaryContext in(*device);
    std::array<char, 80> driver{};
    if (in.result() == CUDA_SUCCESS && executors_device(*device) != nullptr &&
        avec_nvml_driver(driver.data(), static_cast<unsigned>(driver.size())) == kSuccess)
      return copy_text(driver.data(), text, room);
  }
  const int version = client->driver_version();
  return copy_text("CUDA " + std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10), text, room);
}

int nvmlSystemGetProcessName(unsigned pid, char* name, unsigned room) {
  const std::string path = "/proc/" + std::to_string(pid) + "/exe";
  std::array<char, 4096> target{};
  const ssize_t got = ::readlink(path.c_str(), target.data(), target.size() - 1);
  if (got <= 0) return kNotFound;
  return copy_text(std::string_view(target.data(), static_cast<std::size_t>(got)), name, room);
}

int nvmlDeviceGetCount_v2(unsigned* count) {
  int status;
  const Client* client = the_client(status);
  if (client == nullptr) return status;
  if (count == nullptr) return kInvalidArgument;
  *count = static_cast<unsigned>(client->device_count());
  return kSuccess;
}
int nvmlDeviceGetCount(unsigned* count) { return nvmlDeviceGetCount_v2(count); }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** handle) {
  int status;
  const Client* client = the_client(status);
  if (client == nullptr) return status;
  if (handle == nullptr || index >= static_cast<unsigned>(client->device_count())) return kInvalidArgument;
  *handle = handle_of(static_cast<CUdevice>(index));
  return kSuccess;
}
int nvmlDeviceGetHandleByIndex(unsigned index, void** handle) { return nvmlDeviceGetHandleByIndex_v2(index, handle); }

int nvmlDeviceGetHandleByUUID(const char* uuid, void** handle) {
  int status;
  Client* client = the_client(status);
  if (client == nullptr) return status;
  if (uuid == nullptr || handle == nullptr) return kInvalidArgument;
  for (CUdevice i = 0; i < client->device_count(); ++i) {
    if (uuid_of(*client->device(i)) != uuid) continue;
    *handle = handle_of(i);
    return kSuccess;
  }
  return kNotFound;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char* id, void** handle) {
  int status;
  Client* client = the_client(status);
  if (client == nullptr) return status;
  std::array<unsigned, 3> wanted{}, here{};
  if (id == nullptr || handle == nullptr || !parse_pci(id, wanted)) return kInvalidArgument;
  for (CUdevice i = 0; i < client->device_count(); ++i) {
    if (!parse_pci(client->device(i)->pci_bus_id(), here) || here != wanted) continue;
    *handle = handle_of(i);
    return kSuccess;
  }
  return kNotFound;
}
int nvmlDeviceGetHandleByPciBusId(const char* id, void** handle) { return nvmlDeviceGetHandleByPciBusId_v2(id, handle); }

int nvmlDeviceGetIndex(const void* handle, unsigned* index) {
  int status;
  const Device* device = device_of(handle, status);
  if (device == nullptr) return status;
  if (index == nullptr) return kInvalidArgument;
  *index = static_cast<unsigned>(device->ordinal());
  return kSuccess;
}
int nvmlDeviceGetMinorNumber(const void* handle, unsigned* number) { return nvmlDeviceGetIndex(handle, number); }

int nvmlDeviceGetName(const void* handle, char* name, unsigned room) {
  int status;
  const Device* device = device_of(handle, status);
  return device == nullptr ? status : copy_text(device->name(), name, room);
}

int nvmlDeviceGetUUID(const void* handle, char* uuid, unsigned room) {
  int status;
  const Device* device = device_of(handle, status);
  return device == nullptr ? status : copy_text(uuid_of(*device), uuid, room);
}

int nvmlDeviceGetPciInfo_v3(const void* handle, PciInfo* info) {
  int status;
  const Device* device = device_of(handle, status);
  if (device == nullptr) return status;
  std::array<unsigned, 3> parts{};
  if (info == nullptr || !parse_pci(device->pci_bus_id(), parts)) return kInvalidArgument;
  *info = {};
  std::snprintf(info->bus_id_legacy, sizeof info->bus_id_legacy, "%04X:%02X:%02X.0", parts[0] & 0xffff, parts[1] & 0xff, parts[2] & 0xff);
  std::snprintf(info->bus_id, sizeof info->bus_id, "%08X:%02X:%02X.0", parts[0], parts[1] & 0xff, parts[2] & 0xff);
  info->domain = parts[0];
  info->bus = parts[1];
  info->device = parts[2];
  return kSuccess;
}
int nvmlDeviceGetPciInfo_v2(const void* handle, PciInfo* info) { return nvmlDeviceGetPciInfo_v3(handle, info); }
int nvmlDeviceGetPciInfo(const void* handle, PciInfo* info) { return nvmlDeviceGetPciInfo_v3(handle, info); }

int nvmlDeviceGetCudaComputeCapability(const void* handle, int* major, int* minor) {
  if (const int status = attribute(handle, major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR); status != kSuccess) return status;
  return attribute(handle, minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
}
int nvmlDeviceGetNumGpuCores(const void* handle, unsigned* cores) {
  constexpr int kCoresPerMultiprocessor = 128;  // from compute capability 8.6 and 9.0 on
  return attribute(handle, cores, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, kCoresPerMultiprocessor);
}
int nvmlDeviceGetMemoryBusWidth(const void* handle, unsigned* bits) {
  return attribute(handle, bits, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH);
}
int nvmlDeviceGetComputeMode(const void* handle, int* mode) { return attribute(handle, mode, CU_DEVICE_ATTRIBUTE_COMPUTE_MODE); }

int nvmlDeviceGetMemoryInfo(const void* handle, Memory* memory) {
  return memory == nullptr ? kInvalidArgument : memory_of(handle, *memory);
}
int nvmlDeviceGetMemoryInfo_v2(const void* handle, MemoryV2* memory) {
  if (memory == nullptr) return kInvalidArgument;
  if (memory->version != kMemoryV2) return kVersionMismatch;
  Memory plain{};
  if (const int status = memory_of(handle, plain); status != kSuccess) return status;
  *memory = {.version = kMemoryV2, .total = plain.total, .reserved = 0, .free = plain.free, .used = plain.used};
  return kSuccess;
}

int nvmlDeviceGetComputeRunningProcesses_v3(const void* handle, unsigned* count, ProcessInfo* infos) {
  return processes(handle, count, infos, fill_process);
}
int nvmlDeviceGetComputeRunningProcesses_v2(const void* handle, unsigned* count, ProcessInfo* infos) {
  return processes(handle, count, infos, fill_process);
}
int nvmlDeviceGetComputeRunningProcesses(const void* handle, unsigned* count, ProcessInfoV1* infos) {
  return processes(handle, count, infos, [](ProcessInfoV1& info, const Device& device) {
    info = {.pid = static_cast<unsigned>(::getpid()), .used_memory = used_here(device)};
  });
}
/// Nobody draws on a remote GPU, and MPS is the executor's affair.
int nvmlDeviceGetGraphicsRunningProcesses_v3(const void* handle, unsigned* count, void*) {
  int status;
  if (device_of(handle, status) == nullptr) return status;
  if (count == nullptr) return kInvalidArgument;
  *count = 0;
  return kSuccess;
}
int nvmlDeviceGetGraphicsRunningProcesses_v2(const void* handle, unsigned* count, void* infos) {
  return nvmlDeviceGetGraphicsRunningProcesses_v3(handle, count, infos);
}
int nvmlDeviceGetGraphicsRunningProcesses(const void* handle, unsigned* count, void* infos) {
  return nvmlDeviceGetGraphicsRunningProcesses_v3(handle, count, infos);
}
int nvmlDeviceGetMPSComputeRunningProcesses_v3(const void* handle, unsigned* count, void* infos) {
  return nvmlDeviceGetGraphicsRunningProcesses_v3(handle, count, infos);
}

int nvmlDeviceGetTemperature(const void* handle, int sensor, unsigned* degrees) {
  return ask_executor(handle, degrees, [&](const void* device) { return avec_nvml_temperature(device, sensor, degrees); });
}
int nvmlDeviceGetPowerUsage(const void* handle, unsigned* milliwatts) {
  return ask_executor(handle, milliwatts, [&](const void* device) { return avec_nvml_power(device, milliwatts); });
}
int nvmlDeviceGetEnforcedPowerLimit(const void* handle, unsigned* milliwatts) {
  return ask_executor(handle, milliwatts, [&](const void* device) { return avec_nvml_power_limit(device, milliwatts); });
}
int nvmlDeviceGetUtilizationRates(const void* handle, Utilization* rates) {
  return ask_executor(handle, rates, [&](const void* device) {
    std::array<std::uint32_t, 2> both{};
    const int status = avec_nvml_utilization(device, both.data());
    if (status == kSuccess) *rates = {.gpu = both[0], .memory = both[1]};
    return status;
  });
}
int nvmlDeviceGetClockInfo(const void* handle, int which, unsigned* mhz) {
  return ask_executor(handle, mhz, [&](const void* device) { return avec_nvml_clock(device, which, mhz); });
}
int nvmlDeviceGetMaxClockInfo(const void* handle, int which, unsigned* mhz) {
  return ask_executor(handle, mhz, [&](const void* device) { return avec_nvml_highest_clock(device, which, mhz); });
}
int nvmlDeviceGetFanSpeed(const void* handle, unsigned* percent) {
  return ask_executor(handle, percent, [&](const void* device) { return avec_nvml_fan(device, percent); });
}
int nvmlDeviceGetPerformanceState(const void* handle, int* state) {
  return ask_executor(handle, state, [&](const void* device) { return avec_nvml_performance(device, state); });
}
int nvmlDeviceGetCurrPcieLinkGeneration(const void* handle, unsigned* generation) {
  return ask_executor(handle, generation, [&](const void* device) { return avec_nvml_pcie_generation(device, generation); });
}
int nvmlDeviceGetCurrPcieLinkWidth(const void* handle, unsigned* lanes) {
  return ask_executor(handle, lanes, [&](const void* device) { return avec_nvml_pcie_width(device, lanes); });
}
int nvmlDeviceGetMaxPcieLinkGeneration(const void* handle, unsigned* generation) {
  return ask_executor(handle, generation, [&](const void* device) { return avec_nvml_pcie_highest_generation(device, generation); });
}
int nvmlDeviceGetMaxPcieLinkWidth(const void* handle, unsigned* lanes) {
  return ask_executor(handle, lanes, [&](const void* device) { return avec_nvml_pcie_highest_width(device, lanes); });
}
int nvmlDeviceGetPowerState(const void* handle, int* state) { return nvmlDeviceGetPerformanceState(handle, state); }

}
