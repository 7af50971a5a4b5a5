// Pinned host memory: allocated from the common host range, or the application's own memory
// that it registered.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>

#include "client/address_range.h"

namespace avec::session {
class Session;
}

namespace avec::client {

struct Context;

struct HostBlock {
  std::uint64_t base = 0;
  std::uint64_t bytes = 0;
  unsigned flags = 0;  ///< of cuMemHostAlloc or cuMemHostRegister
  bool registered = false;
  Context* context = nullptr;
  std::uint64_t id = 0;
};

class HostMemory {
 public:
  HostMemory(session::Session& session, AddressReservation range);

  CUresult allocate(void** pointer, std::size_t bytes, unsigned flags, Context& context);
  CUresult release(void* pointer);
  CUresult add_registered(void* pointer, std::size_t bytes, unsigned flags, Context& context);
  CUresult remove_registered(void* pointer);
  std::optional<HostBlock> find(std::uint64_t address) const;
  void release_all(const Context& context);

 private:
  session::Session& session_;
  AddressReservation range_;
  mutable std::mutex mutex_;
  RangeAllocator addresses_;
  std::map<std::uint64_t, HostBlock> blocks_;  // by base
  std::uint64_t next_id_ = 1;
};

}  // namespace avec::client
