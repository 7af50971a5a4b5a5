// Pinned host memory: allocated from the common host range, or the application's own memory
// that it registered.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

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

  bool managed = false;   ///< cuMemAllocManaged
  bool coherent = false;  ///< the device has it too (coherence.h)
  /// Where kernels find it: `base` but for registered memory, which gets an address of the common
  /// range when somebody asks. 0: nowhere.
  std::uint64_t device_address = 0;

  MutableBytes memory() const { return {reinterpret_cast<std::byte*>(base), bytes}; }
};

class HostMemory {
 public:
  HostMemory(session::Session& session, AddressReservation range, std::uint64_t granularity);
  /// After the session's end; gives back what the transport allocated or added.
  ~HostMemory();

  CUresult allocate(void** pointer, std::size_t bytes, unsigned flags, Context& context);
  CUresult release(void* pointer);
  CUresult add_registered(void* pointer, std::size_t bytes, unsigned flags, Context& context);
  CUresult remove_registered(void* pointer);
  /// The block with this address in the program, or in kernels: `address` becomes the program's.
  std::optional<HostBlock> find(std::uint64_t& address) const;
  void release_all(const Context& context);

  // ---- what host and device both use
  /// The range is common to both sides and kept free here.
  bool common() const { return range_.bytes() != 0 && range_.bound(); }
  bool in_range(std::uint64_t address) const { return range_.contains(address); }
  /// Bytes that are mapped on the device for so many.
  std::uint64_t granules(std::uint64_t bytes) const;
  /// Addresses of the common range, for granules(bytes); 0: none left.
  std::uint64_t take_addresses(std::uint64_t bytes);
  void give_addresses_back(std::uint64_t base, std::uint64_t bytes);
  void add_managed(const HostBlock& block);
  /// Forgets it; nothing when no managed block begins there.
  std::optional<HostBlock> take_managed(std::uint64_t base);
  /// Managed blocks of the context, and others that the device has too.
  std::vector<HostBlock> coherent_of(const Context& context) const;
  /// The device has the block too.
  void joined(std::uint64_t base, std::uint64_t id);
  /// Where kernels find the block that begins at `base`; 0: no address is left.
  std::uint64_t device_address(std::uint64_t base);

 private:
  bool obtain(HostBlock& block, std::uint64_t size);
  void open_for_executor(HostBlock& block, MutableBytes memory);
  void give_back(const HostBlock& block);

  session::Session& session_;
  AddressReservation range_;
  mutable std::mutex mutex_;
  RangeAllocator addresses_;
  const std::uint64_t granularity_;
  std::map<std::uint64_t, HostBlock> blocks_;     // by base
  std::map<std::uint64_t, std::uint64_t> twins_;  // base of a registered block, by its device address
  std::uint64_t next_id_ = 1;
};

}  // namespace avec::client
