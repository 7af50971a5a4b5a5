// cuMem{AddressReserve,Create,Map,SetAccess ...}: physical memory and addresses apart. Reservations
// come out of the common device range, so mapping and access rights are posted; only making
// physical memory, and taking mappings away, wait for the executor.
#pragma once

#include <cuda.h>

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>

#include "client/heap.h"

namespace avec::client {

class Client;

class VirtualMemory {
 public:
  explicit VirtualMemory(Client& client) : client_(client) {}

  CUresult reserve(CUdeviceptr* address, std::size_t bytes, std::size_t alignment, CUdeviceptr wish);
  CUresult free_reservation(CUdeviceptr address, std::size_t bytes);
  CUresult create(CUmemGenericAllocationHandle* handle, std::size_t bytes, const CUmemAllocationProp& properties);
  CUresult release(CUmemGenericAllocationHandle handle);
  CUresult map(CUdeviceptr address, std::size_t bytes, std::size_t offset, CUmemGenericAllocationHandle handle);
  CUresult unmap(CUdeviceptr address, std::size_t bytes);
  CUresult set_access(CUdeviceptr address, std::size_t bytes, const CUmemAccessDesc* access, std::size_t count);
  CUresult get_access(unsigned long long* flags, const CUmemLocation& location, CUdeviceptr address);
  CUresult properties(CUmemAllocationProp* properties, CUmemGenericAllocationHandle handle);
  CUresult retain(CUmemGenericAllocationHandle* handle, CUdeviceptr address);

  /// The mapping that holds the address, if some device may use it. Its reach covers `bytes` from there
  /// on, if the mappings behind it do.
  std::optional<DeviceBlock> find(std::uint64_t address, std::uint64_t bytes) const;
  /// Whether it is mapped, accessible or not.
  bool mapped(std::uint64_t address) const;

 private:
  struct Physical {
    std::uint64_t bytes = 0;
    CUmemAllocationProp properties{};
    std::uint64_t references = 1;  // the program's; its name lives while there are some or it is mapped
    std::uint64_t mappings = 0;
  };
  struct Mapping {
    std::uint64_t bytes = 0;
    std::uint64_t memory = 0;
    CUdevice device = 0;
    std::uint64_t id = 0;
    std::map<CUdevice, CUmemAccess_flags> access;
    bool usable() const;
    bool writable() const;
  };
  using Mappings = std::map<std::uint64_t, Mapping>;

  bool in_reservation(std::uint64_t address, std::uint64_t bytes) const;
  bool whole(std::uint64_t address, std::uint64_t bytes) const;
  Mappings::const_iterator at(std::uint64_t address) const;
  void drop_if_unused(std::uint64_t memory);

  Client& client_;
  mutable std::mutex mutex_;  // guards what follows; not held across a round trip
  std::map<std::uint64_t, std::uint64_t> reservations_;  // base: bytes
  std::map<std::uint64_t, Physical> physical_;           // by name, which is the handle
  Mappings mappings_;                                    // by base
};

CUresult virtual_granularity(Client& client, std::size_t* granularity, const CUmemAllocationProp* properties,
                             CUmemAllocationGranularity_flags option);

}  // namespace avec::client
