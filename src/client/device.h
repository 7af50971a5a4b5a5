// A device as the executor described it at the handshake: every question about it is answered
// from these facts.
#pragma once

#include <cuda.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace avec::wire {
struct DeviceFacts;
}

namespace avec::client {

class Client;

class Device {
 public:
  /// `coherent_memory`: kernels can use host memory of this session (coherence.h).
  Device(CUdevice ordinal, const wire::DeviceFacts& facts, bool coherent_memory);

  CUdevice ordinal() const { return ordinal_; }
  const std::string& name() const { return name_; }
  CUuuid uuid() const;
  std::uint64_t total_bytes() const { return total_bytes_; }
  const std::string& pci_bus_id() const { return pci_bus_id_; }
  /// CUDA_ERROR_INVALID_VALUE for an attribute unknown to executor and client. What a session
  /// cannot honour is masked.
  CUresult attribute(int& value, CUdevice_attribute which) const;
  /// 0 when unknown.
  int attribute(CUdevice_attribute which) const;
  /// 90 for compute capability 9.0.
  int compute_capability() const;
  int least_priority() const { return least_priority_; }
  int greatest_priority() const { return greatest_priority_; }
  /// False when the executor named no value of this limit.
  bool limit(std::size_t& value, CUlimit which) const;

 private:
  CUdevice ordinal_;
  std::string name_, pci_bus_id_;
  std::array<unsigned char, 16> uuid_{};
  std::uint64_t total_bytes_;
  std::vector<int> attributes_;
  int least_priority_, greatest_priority_;
  std::vector<std::uint64_t> limits_;
};

// cuDevice*: of the client's devices.
CUresult device_host_atomics(Client& client, unsigned* capabilities, const CUatomicOperation* operations,
                             unsigned count, CUdevice device);
CUresult device_peer_atomics(Client& client, unsigned* capabilities, const CUatomicOperation* operations,
                             unsigned count, CUdevice from, CUdevice to);
CUresult device_get(Client& client, CUdevice* device, int ordinal);
CUresult device_count(Client& client, int* count);
CUresult device_name(Client& client, char* name, int bytes, CUdevice device);
CUresult device_uuid(Client& client, CUuuid* uuid, CUdevice device);
CUresult device_total_memory(Client& client, std::size_t* bytes, CUdevice device);
CUresult device_attribute(Client& client, int* value, CUdevice_attribute which, CUdevice device);
CUresult device_by_pci_bus_id(Client& client, CUdevice* device, const char* id);
CUresult device_pci_bus_id(Client& client, char* id, int bytes, CUdevice device);
CUresult device_properties(Client& client, CUdevprop* properties, CUdevice device);
CUresult device_compute_capability(Client& client, int* major, int* minor, CUdevice device);
CUresult device_exec_affinity_support(Client& client, int* supported, CUexecAffinityType type,
                                      CUdevice device);

}  // namespace avec::client
