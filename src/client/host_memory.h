// Pinned host memory: allocated from the common host range, or the application's own memory
// that it registered.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>

#include "avec/one_sided.h"
#include "client/address_range.h"

namespace avec::session {
class Session;
}

namespace avec::client {

struct Context;

/// How the executor reaches a block by one-sided access.
enum class Reach : std::uint8_t {
  kNone,     ///< not at all: its bytes travel in the stream, or through slots
  kPerCall,  ///< each call allows what it needs
  kStanding  ///< the executor has mapped it: one key, for good
};

struct HostBlock {
  std::uint64_t base = 0;
  std::uint64_t bytes = 0;
  unsigned flags = 0;  ///< of cuMemHostAlloc or cuMemHostRegister
  bool registered = false;
  Context* context = nullptr;
  std::uint64_t id = 0;
  bool from_transport = false;  ///< OneSided::allocate() gave it
  Reach reach = Reach::kNone;
  RemoteKey key{};  ///< kStanding: of the whole block

  MutableBytes memory() const { return {reinterpret_cast<std::byte*>(base), bytes}; }
};

class HostMemory {
 public:
  HostMemory(session::Session& session, AddressReservation range);
  /// After the session's end; gives back what the transport allocated or added.
  ~HostMemory();

  CUresult allocate(void** pointer, std::size_t bytes, unsigned flags, Context& context);
  CUresult release(void* pointer);
  CUresult add_registered(void* pointer, std::size_t bytes, unsigned flags, Context& context);
  CUresult remove_registered(void* pointer);
  std::optional<HostBlock> find(std::uint64_t address) const;
  void release_all(const Context& context);

 private:
  bool obtain(HostBlock& block, std::uint64_t size);
  void open_for_executor(HostBlock& block, MutableBytes memory);
  void give_back(const HostBlock& block);

  session::Session& session_;
  AddressReservation range_;
  mutable std::mutex mutex_;
  RangeAllocator addresses_;
  std::map<std::uint64_t, HostBlock> blocks_;  // by base
  std::uint64_t next_id_ = 1;
};

}  // namespace avec::client
