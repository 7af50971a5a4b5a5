// Device memory: addresses of the common range, handed out on the client. Physical memory is
// asked for in segments; allocating and freeing are otherwise local.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <deque>
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

enum class BlockKind : std::uint8_t {
  kPlain,   ///< cuMemAlloc, or a module's global
  kPool,    ///< of a memory pool
  kMapped,  ///< cuMemMap
  kShared   ///< another session's, opened by cuIpcOpenMemHandle
};

/// A live allocation, a mapping, or a module's global.
struct DeviceBlock {
  std::uint64_t base = 0;
  std::uint64_t bytes = 0;  ///< as asked for, not rounded
  Context* context = nullptr;  ///< null: of no context
  CUdevice device = 0;
  std::uint64_t id = 0;  ///< CU_POINTER_ATTRIBUTE_BUFFER_ID
  BlockKind kind = BlockKind::kPlain;
  CUmemoryPool pool = nullptr;
  std::uint64_t reach = 0;  ///< kMapped: bytes from base on that a device may use, those of the mappings behind it included
  bool writable = true;

  std::uint64_t usable() const { return kind == BlockKind::kMapped ? reach : bytes; }
};

class Heap {
 public:
  /// `range` is kept reserved as long as the heap lives.
  Heap(session::Session& session, AddressReservation range, std::uint64_t granularity);
  ~Heap();

  /// CUDA_ERROR_OUT_OF_MEMORY at once and truthfully.
  CUresult allocate(std::uint64_t bytes, Context& context, std::uint64_t& address);
  /// The same for a segment of a memory pool: of no context, and found by find_segment() only.
  CUresult allocate_segment(std::uint64_t bytes, CUdevice device, Context& context, std::uint64_t& address);
  void release_segment(std::uint64_t address);
  /// Asks for physical memory before it is needed; nobody waits.
  void ask_ahead(Context& context);
  /// Physical memory that no allocation needs goes back to the executor: empty segments, and what
  /// was asked for ahead. True when there was some. Work under way may still use it: it is there
  /// when all work of the context has ended.
  bool give_back(CUdevice device);
  /// Waits until it is known whether memory asked for ahead was granted, so that free_bytes() counts it.
  void settle(CUdevice device);

  /// Addresses of the range for mappings of the program's own; at `wish` if that is free. 0: none left.
  std::uint64_t reserve(std::uint64_t bytes, std::uint64_t alignment, std::uint64_t wish);
  void unreserve(std::uint64_t base, std::uint64_t bytes);
  std::uint64_t granularity() const { return granularity_; }
  std::uint64_t next_id();

  /// CUDA_ERROR_INVALID_VALUE unless `address` is the base of a live allocation.
  CUresult release(std::uint64_t address);
  /// All allocations of a context that ends.
  void release_all(const Context& context);
  /// The live allocation that contains the address.
  std::optional<DeviceBlock> find(std::uint64_t address) const;
  bool in_range(std::uint64_t address) const { return range_.contains(address); }
  /// Mapped and free on the device: what MemGetInfo does not know to be free.
  std::uint64_t free_bytes(CUdevice device) const;
  /// Allocated and not released, rounded up as it is on the device.
  std::uint64_t used_bytes(CUdevice device) const;
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
  /// Physical memory of kSegmentBytes that was asked for and is mapped nowhere.
  struct Spare {
    std::uint64_t name;
    std::uint64_t pending;  // session::Pending of its MemCreate
  };
  using SizeKey = std::pair<std::uint64_t, std::uint64_t>;  // bytes, base

  struct Wanted {
    std::uint64_t rounded;
    CUdevice device;
    Context& context;  // of the caller
    bool dedicated;
  };

  CUresult find_room(std::unique_lock<std::mutex>& lock, const Wanted& wanted, std::uint64_t& base);
  std::uint64_t place(CUdevice device, std::uint64_t rounded);
  CUresult grow(std::unique_lock<std::mutex>& lock, const Wanted& wanted, std::uint64_t bytes);
  bool grow_by_spare(std::unique_lock<std::mutex>& lock, const Wanted& wanted);
  void ask_ahead_locked(Context& context, CUdevice device);
  bool give_back(std::unique_lock<std::mutex>& lock, CUdevice device);
  Segment& add_segment(std::uint64_t base, std::uint64_t bytes, CUdevice device, bool dedicated);
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
  std::map<CUdevice, std::deque<Spare>> spares_;
  std::map<CUdevice, std::uint64_t> mapped_bytes_;
  std::uint64_t last_dedicated_ = 0;  // of grow(): read before the lock is let go
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
  /// the addresses are kept free already. `writable`: the host uses it too, it gets memory there.
  bool add(const DeviceBlock& block, std::uint64_t module, bool reserve, bool writable);
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
