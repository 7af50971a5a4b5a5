// What the device says about itself.
#pragma once

#include <cuda.h>

namespace avec::cpu {

struct State;
struct Device;

constexpr int kDriverVersion = 13000;
constexpr int kMajor = 9, kMinor = 0;
constexpr int kWarpSize = 32;
constexpr int kMaxThreadsPerBlock = 1024;
constexpr int kMaxThreadsPerProcessor = 2048;
constexpr int kMaxBlocksPerProcessor = 32;
constexpr int kRegistersPerProcessor = 65536;
constexpr int kSharedPerBlock = 48 << 10;
constexpr int kSharedPerBlockOptIn = 227 << 10;
constexpr int kSharedPerProcessor = 228 << 10;
constexpr int kReservedSharedPerBlock = 1 << 10;
constexpr int kLeastPriority = 0, kGreatestPriority = -5;

/// New memory holds kRemains, as a GPU's may hold what others left there (AVEC_CPU_DEVICE_DIRTY=true, for tests).
bool dirty_memory();
inline constexpr int kRemains = 0xa5;

/// Devices as AVEC_CPU_DEVICES, AVEC_CPU_DEVICE_MEMORY and CUDA_VISIBLE_DEVICES say.
void make_devices(State& state);
/// "Multiprocessors": the hardware threads of this machine.
int processor_count();
CUresult device_attribute(const Device& device, CUdevice_attribute attribute, int& value);

}  // namespace avec::cpu
