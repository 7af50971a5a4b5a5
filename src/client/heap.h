// Device memory: addresses of the common range, handed out on the client. Physical memory is
// asked for in segments; allocating and freeing are otherwise local.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>

#include "client/address_range.h"

namespace avec::session {
class Session;
}

namespace avec::client {

struct Context;

/// A live allocation, or a module's global.
struct DeviceBlock {
  std::uint64_t base = 0;
  std::uint64_t bytes = 0;  ///< as asked for, not rounded
  Context* context = nullptr;
  CUdevice device = 0;
  std::uint64_t id = 0;  ///< CU_POINTER_ATTRIBUTE_BUFFER_ID
};

class Heap {
 public:
  /// `range` is kept reserved as long as the heap lives.
  Heap(session::Session& session, AddressReservation range, std::uint64_t granularity);
  ~Heap();

  /// CUDA_ERROR_OUT_OF_MEMORY at once and truthfully.
  CUresult allocate(std::uint64_t bytes, Context& context, std::uint64_t& address);
  /// CUDA_ERROR_INVALID_VALUE unless `address` is the base of a live allocation.
  CUresult release(std::uint64_t address);
  /// All allocations of a context that ends.
  void release_all(const Context& context);
  /// The live allocation that contains the address.
  std::optional<DeviceBlock> find(std::uint64_t address) const;
  bool in_range(std::uint64_t address) const { return range_.contains(address); }
  /// Mapped and free on the device: what MemGetInfo does not know to be free.
  std::uint64_t free_bytes(CUdevice device) const;
  std::uint64_t range_bytes() const { return range_.bytes(); }

  /// Work may have used memory that was freed up to here; synchronising all of it and then
  /// calling drained(mark) spares the next allocation a MemFence.
  std::uint64_t mark();
  void drained(std::uint64_t mark);

 private:
  struct FreeBlock {
    std::uint64_t bytes = 0;
    std::uint64_t freed_at = 0;  // epoch; 0: never used
  };
  struct Segment {
    std::uint64_t base = 0, bytes = 0;
    CUdevice device = 0;
    bool dedicated = false;
    std::map<std::uint64_t, FreeBlock> gaps;
  };
  struct Allocation {
    DeviceBlock block;
    std::uint64_t rounded = 0;
    Segment* segment = nullptr;
  };
  using SizeKey = std::pair<std::uint64_t, std::uint64_t>;  // bytes, base

  std::uint64_t place(CUdevice device, std::uint64_t rounded);
  CUresult grow(std::unique_lock<std::mutex>& lock, Context& context, std::uint64_t bytes, bool dedicated,
                Segment*& segment);
  bool trim(CUdevice device);
  void unmap(std::map<std::uint64_t, std::unique_ptr<Segment>>::iterator segment);
  void add_gap(Segment& segment, std::uint64_t base, FreeBlock gap);
  void remove_gap(Segment& segment, std::map<std::uint64_t, FreeBlock>::iterator gap);
  void release_locked(std::map<std::uint64_t, Allocation>::iterator allocation);

  session::Session& session_;
  AddressReservation range_;
  const std::uint64_t granularity_;
  mutable std::mutex mutex_;  // guards all that follows; not held across a round trip
  RangeAllocator addresses_;
  std::map<std::uint64_t, std::unique_ptr<Segment>> segments_;  // by base
  std::map<CUdevice, std::set<SizeKey>> by_size_;               // gaps of shared segments
  std::map<std::uint64_t, Allocation> allocations_;             // by base
  std::uint64_t next_id_ = 1;
  std::uint64_t epoch_ = 1;    // frees now are of this epoch
  std::uint64_t drained_ = 0;  // memory freed in epochs up to this is used by no work
};

/// Device memory that the driver placed by itself: module globals. Where it lies inside this
/// process's free addresses it is reserved, so that no host memory gets the same address.
class ForeignRanges {
 public:
  /// False: host memory of this process lies there already. Then the address cannot be told
  /// from a host pointer, and the caller answers CUDA_ERROR_MAP_FAILED. `reserve` is false where
  /// the addresses are kept free already.
  bool add(const DeviceBlock& block, std::uint64_t module, bool reserve);
  void remove_module(std::uint64_t module);
  std::optional<DeviceBlock> find(std::uint64_t address) const;

 private:
  struct Entry {
    DeviceBlock block;
    std::uint64_t module;
  };
  bool reserve_pages(std::uint64_t base, std::uint64_t bytes);

  mutable std::mutex mutex_;
  std::map<std::uint64_t, Entry> entries_;             // by base
  std::map<std::uint64_t, AddressReservation> pages_;  // kept for the life of the client
};

}  // namespace avec::client
