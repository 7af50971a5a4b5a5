// cuMem*: allocation and questions about pointers, in the current context.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <optional>

#include "client/heap.h"
#include "client/host_memory.h"

namespace avec::client {

class Client;

CUresult memory_allocate(CUdeviceptr* address, std::size_t bytes);
CUresult memory_allocate_pitch(CUdeviceptr* address, std::size_t* pitch, std::size_t width,
                               std::size_t height, unsigned element_bytes);
CUresult memory_allocate_managed(CUdeviceptr* address, std::size_t bytes, unsigned flags);
CUresult memory_free(CUdeviceptr address);
CUresult memory_allocate_async(CUdeviceptr* address, std::size_t bytes, CUmemoryPool pool, CUstream stream);
CUresult memory_free_async(CUdeviceptr address, CUstream stream);
CUresult memory_info(std::size_t* free, std::size_t* total);
CUresult memory_address_range(CUdeviceptr* base, std::size_t* bytes, CUdeviceptr address);
CUresult host_allocate(void** pointer, std::size_t bytes, unsigned flags);
CUresult host_free(void* pointer);
CUresult host_register(void* pointer, std::size_t bytes, unsigned flags);
CUresult host_unregister(void* pointer);
CUresult host_get_device_pointer(CUdeviceptr* address, void* pointer, unsigned flags);
CUresult host_get_flags(unsigned* flags, void* pointer);

/// What an address is to this client. Neither: pageable host memory, or nothing.
struct Pointee {
  std::optional<DeviceBlock> device;
  std::optional<HostBlock> host;
  bool in_device_range = false;  ///< of the common range: never host memory
  /// As given; of host memory that kernels know by another address, the program's.
  std::uint64_t address = 0;
};
/// `bytes` from the address on are to be used: of mappings side by side as many are looked at.
Pointee look_up(Client& client, std::uint64_t address, std::uint64_t bytes = 1);
/// Where kernels find the block from the next launch on; 0: nowhere.
std::uint64_t device_address_of(Client& client, const HostBlock& block);

CUresult pointer_attribute(void* data, CUpointer_attribute which, CUdeviceptr address);
CUresult pointer_attributes(unsigned count, CUpointer_attribute* which, void** data, CUdeviceptr address);
CUresult pointer_set_attribute(const void* value, CUpointer_attribute which, CUdeviceptr address);

}  // namespace avec::client
