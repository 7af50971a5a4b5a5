// Memory pools and stream-ordered allocation. They are the client's own: a pool takes segments of the
// heap and hands out blocks of them. Memory freed in a stream is free for that stream at once, since
// what is posted there comes behind what used it; for another stream when a synchronisation has
// covered the free, or behind a StreamFollow. So allocating and freeing never wait.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

#include "client/heap.h"

namespace avec::client {

class Client;
struct Stream;

/// A CUmemoryPool is the address of one (Slab<MemoryPool>). What is not const is guarded by the mutex
/// of the Pools.
struct MemoryPool {
  CUdevice device = 0;
  bool is_default = false;
  std::uint64_t most_bytes = 0;  ///< maxSize; 0: no limit

  std::uint64_t release_threshold = 0;
  bool follow_events = true, opportunistic = true, internal_dependencies = true;
  std::uint64_t used = 0, used_high = 0, reserved = 0, reserved_high = 0;
  std::map<CUdevice, CUmemAccess_flags> access;  ///< of other devices
  bool destroyed = false;  ///< goes with its last allocation

  /// Who used a gap last: a stream's name, kNobody, or kAnybody.
  static constexpr std::uint64_t kNobody = 0, kAnybody = ~std::uint64_t{0};
  struct Gap {
    std::uint64_t bytes = 0;
    std::uint64_t user = kNobody;
    std::uint64_t context = 0;   // name of the user's
    std::uint64_t freed_at = 0;  // Pools::clock_
  };
  struct Segment {
    std::uint64_t bytes = 0;
    std::map<std::uint64_t, Gap> gaps;  // by base
  };
  std::map<std::uint64_t, Segment> segments;                 // by base
  std::set<std::pair<std::uint64_t, std::uint64_t>> by_size;  // of gaps: bytes, base
  std::size_t used_gaps = 0;  ///< with a user
};

inline CUmemoryPool handle_of(MemoryPool* pool) { return reinterpret_cast<CUmemoryPool>(pool); }

class Pools {
 public:
  explicit Pools(Client& client);
  ~Pools();

  CUresult create(CUmemoryPool* pool, const CUmemPoolProps& properties);
  CUresult destroy(CUmemoryPool pool);
  CUresult default_of(CUmemoryPool* pool, CUdevice device);
  CUresult current_of(CUmemoryPool* pool, CUdevice device);
  CUresult set_current(CUdevice device, CUmemoryPool pool);
  CUresult trim_to(CUmemoryPool pool, std::size_t keep);
  CUresult set_attribute(CUmemoryPool pool, CUmemPool_attribute which, const void* value);
  CUresult get_attribute(CUmemoryPool pool, CUmemPool_attribute which, void* value);
  CUresult set_access(CUmemoryPool pool, const CUmemAccessDesc* access, std::size_t count);
  CUresult get_access(CUmemAccess_flags* flags, CUmemoryPool pool, const CUmemLocation& location);

  /// Pool null: the current one of the stream's device.
  CUresult allocate(CUdeviceptr* address, std::size_t bytes, CUmemoryPool pool, Stream& stream);
  /// CUDA_ERROR_NOT_FOUND when the address is no block of a pool. Stream null: nobody says which work
  /// used it (cuMemFree).
  CUresult release(CUdeviceptr address, Stream* stream);
  std::optional<DeviceBlock> find(std::uint64_t address) const;

  /// The work posted before mark() has ended: that of one stream, or with stream 0 of a whole context.
  std::uint64_t mark() const { return clock_.load(std::memory_order_relaxed); }
  void drained(std::uint64_t mark, std::uint64_t stream, std::uint64_t context);
  /// A device's primary context was reset: what its pools handed out is gone.
  void release_all(CUdevice device);

 private:
  struct Block {
    MemoryPool* pool;
    DeviceBlock facts;
    std::uint64_t rounded;
  };
  using Blocks = std::map<std::uint64_t, Block>;

  MemoryPool* find_pool(CUmemoryPool handle) const;
  std::uint64_t place(MemoryPool& pool, std::uint64_t rounded, const Stream& stream);
  CUresult grow(MemoryPool& pool, std::uint64_t rounded, Stream& stream);
  void add_gap(MemoryPool& pool, std::uint64_t segment, std::uint64_t base, MemoryPool::Gap gap);
  void remove_gap(MemoryPool& pool, MemoryPool::Segment& segment, std::map<std::uint64_t, MemoryPool::Gap>::iterator gap);
  void release_block(Blocks::iterator block, const Stream* stream);
  void give_back_segments(MemoryPool& pool, std::uint64_t keep, bool used_too);
  void note_reclaimable();
  void settle(MemoryPool& pool, std::uint64_t mark, std::uint64_t stream, std::uint64_t context);

  Client& client_;
  mutable std::mutex mutex_;  // guards what follows, and every pool
  std::vector<MemoryPool*> defaults_, current_;  // by device
  std::set<MemoryPool*> pools_;                  // all, destroyed ones with live blocks too
  Blocks blocks_;                                // by base
  std::atomic<std::uint64_t> clock_{1};          // moves on with each free
  /// False: no synchronisation can free anything. Read without the lock.
  std::atomic<bool> reclaimable_{false};
};

}  // namespace avec::client
