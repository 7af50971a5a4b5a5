// Memory and events shared with other processes whose sessions are on the same executor.
#pragma once

#include <cuda.h>

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>

#include "client/heap.h"

namespace avec::client {

class Client;

class SharedMemory {
 public:
  explicit SharedMemory(Client& client) : client_(client) {}

  CUresult get_handle(CUipcMemHandle* handle, CUdeviceptr address);
  CUresult open(CUdeviceptr* address, const CUipcMemHandle& handle, CUdevice device);
  CUresult close(CUdeviceptr address);
  /// The opened memory that holds the address.
  std::optional<DeviceBlock> find(std::uint64_t address) const;

 private:
  using Bytes = std::array<std::byte, sizeof(CUipcMemHandle)>;
  struct Opened {
    Bytes handle;
    DeviceBlock block;
    std::uint64_t mapping = 0, mapping_bytes = 0;
    unsigned count = 1;
  };

  Client& client_;
  mutable std::mutex mutex_;  // guards what follows
  std::set<Bytes> exported_;  // by this process, without their first 16 bytes
  std::map<std::uint64_t, Opened> opened_;  // by the block's base
};

CUresult event_get_handle(CUipcEventHandle* handle, CUevent event);
CUresult event_open_handle(CUevent* event, const CUipcEventHandle& handle);

}  // namespace avec::client
