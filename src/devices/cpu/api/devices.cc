// Devices and their primary contexts.
#include <cstdio>
#include <cstring>
#include <string>

#include "base/cpu_device.h"
#include "devices/cpu/attributes.h"
#include "devices/cpu/device.h"

using namespace avec::cpu;

namespace {

/// 16 bytes that differ per device and stay the same between processes.
CUuuid uuid_of(const Device& device) {
  CUuuid id;
  std::memcpy(id.bytes, "AVEC CPU device", 16);
  id.bytes[15] = static_cast<char>(device.ordinal);
  return id;
}

std::string bus_of(const Device& device) {
  char text[32];
  std::snprintf(text, sizeof text, "0000:%02X:00.0", static_cast<unsigned>(device.ordinal + 1));
  return text;
}

constexpr unsigned kSchedulingFlags = CU_CTX_FLAGS_MASK;

}  // namespace

extern "C" {

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  Device* found;
  if (const auto error = device_of(ordinal, found)) return error;
  if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int* count) {
  if (const auto error = initialised()) return error;
  if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *count = static_cast<int>(state().devices.size());
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char* name, int length, CUdevice ordinal) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  if (name == nullptr || length <= 0) return CUDA_ERROR_INVALID_VALUE;
  std::snprintf(name, static_cast<std::size_t>(length), "%s", avec::kCpuDeviceName.data());
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice ordinal) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  if (uuid == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *uuid = uuid_of(*device);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetLuid(char* luid, unsigned* mask, CUdevice ordinal) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  if (luid == nullptr || mask == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return CUDA_ERROR_NOT_SUPPORTED;  // LUIDs are Windows'
}

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice ordinal) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  if (bytes == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *bytes = device->total_bytes;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice ordinal) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return device_attribute(*device, attribute, *value);
}

CUresult cuDeviceGetProperties(CUdevprop* properties, CUdevice ordinal) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  if (properties == nullptr) return CUDA_ERROR_INVALID_VALUE;
  auto ask = [device](CUdevice_attribute attribute) {
    int value = 0;
    (void)device_attribute(*device, attribute, value);
    return value;
  };
  properties->maxThreadsPerBlock = kMaxThreadsPerBlock;
  for (int i = 0; i < 3; ++i) {
    properties->maxThreadsDim[i] =
        ask(static_cast<CUdevice_attribute>(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X + i));
    properties->maxGridSize[i] = ask(static_cast<CUdevice_attribute>(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X + i));
  }
  properties->sharedMemPerBlock = kSharedPerBlock;
  properties->totalConstantMemory = ask(CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY);
  properties->SIMDWidth = kWarpSize;
  properties->memPitch = ask(CU_DEVICE_ATTRIBUTE_MAX_PITCH);
  properties->regsPerBlock = ask(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK);
  properties->clockRate = ask(CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
  properties->textureAlign = ask(CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT);
  return CUDA_SUCCESS;
}

CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice ordinal) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  if (major == nullptr || minor == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *major = kMajor;
  *minor = kMinor;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetPCIBusId(char* text, int length, CUdevice ordinal) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  const std::string id = bus_of(*device);
  if (text == nullptr || length <= static_cast<int>(id.size())) return CUDA_ERROR_INVALID_VALUE;
  std::memcpy(text, id.c_str(), id.size() + 1);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetByPCIBusId(CUdevice* device, const char* text) {
  if (const auto error = initialised()) return error;
  if (device == nullptr || text == nullptr) return CUDA_ERROR_INVALID_VALUE;
  unsigned domain = 0, bus = 0, slot = 0, function = 0;
  if (std::sscanf(text, "%x:%x:%x.%x", &domain, &bus, &slot, &function) < 3) {
    domain = 0;
    if (std::sscanf(text, "%x:%x.%x", &bus, &slot, &function) < 2) return CUDA_ERROR_INVALID_VALUE;
  }
  if (domain != 0 || slot != 0 || function != 0 || bus == 0 || bus > state().devices.size()) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  *device = static_cast<CUdevice>(bus - 1);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetExecAffinitySupport(int* value, CUexecAffinityType type, CUdevice ordinal) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  if (value == nullptr || type < 0 || type >= CU_EXEC_AFFINITY_TYPE_MAX) return CUDA_ERROR_INVALID_VALUE;
  *value = 0;
  return CUDA_SUCCESS;
}

CUresult cuDeviceCanAccessPeer(int* can, CUdevice from, CUdevice to) {
  Device* device;
  if (const auto error = device_of(from, device)) return error;
  if (const auto error = device_of(to, device)) return error;
  if (can == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *can = from != to;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetP2PAttribute(int* value, CUdevice_P2PAttribute attribute, CUdevice from, CUdevice to) {
  Device* device;
  if (const auto error = device_of(from, device)) return error;
  if (const auto error = device_of(to, device)) return error;
  if (from == to) return CUDA_ERROR_INVALID_DEVICE;
  if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  switch (attribute) {
    case CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED:
    case CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED:
      *value = 1;
      return CUDA_SUCCESS;
    case CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK:
    case CU_DEVICE_P2P_ATTRIBUTE_CUDA_ARRAY_ACCESS_SUPPORTED:
    case CU_DEVICE_P2P_ATTRIBUTE_ONLY_PARTIAL_NATIVE_ATOMIC_SUPPORTED:
      *value = 0;
      return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDeviceGetTexture1DLinearMaxWidth(size_t* width, CUarray_format format, unsigned channels, CUdevice ordinal) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  if (width == nullptr || (channels != 1 && channels != 2 && channels != 4)) return CUDA_ERROR_INVALID_VALUE;
  switch (format) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
    case CU_AD_FORMAT_UNSIGNED_INT16:
    case CU_AD_FORMAT_UNSIGNED_INT32:
    case CU_AD_FORMAT_SIGNED_INT8:
    case CU_AD_FORMAT_SIGNED_INT16:
    case CU_AD_FORMAT_SIGNED_INT32:
    case CU_AD_FORMAT_HALF:
    case CU_AD_FORMAT_FLOAT:
      *width = std::size_t{1} << 27;
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

// ---- primary contexts -------------------------------------------------------------------

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice ordinal) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  if (context == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const std::lock_guard lock(device->primary_mutex);
  if (device->primary_count++ == 0) {
    device->primary->flags = device->primary_flags;
    open_context(device->primary);
  }
  *context = as_handle<CUcontext>(device->primary->handle);
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice ordinal) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  const std::lock_guard lock(device->primary_mutex);
  if (device->primary_count == 0) return CUDA_ERROR_INVALID_CONTEXT;
  if (--device->primary_count == 0) close_context(device->primary);
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice ordinal) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  const std::lock_guard lock(device->primary_mutex);
  if (device->primary_count > 0) close_context(device->primary);
  device->primary_count = 0;
  device->primary_flags = 0;
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice ordinal, unsigned flags) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  if ((flags & ~kSchedulingFlags) != 0) return CUDA_ERROR_INVALID_VALUE;
  const std::lock_guard lock(device->primary_mutex);
  device->primary_flags = flags;
  device->primary->flags = flags;
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice ordinal, unsigned* flags, int* active) {
  Device* device;
  if (const auto error = device_of(ordinal, device)) return error;
  if (flags == nullptr || active == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const std::lock_guard lock(device->primary_mutex);
  *flags = device->primary_flags;
  *active = device->primary_count > 0;
  return CUDA_SUCCESS;
}

}  // extern "C"
