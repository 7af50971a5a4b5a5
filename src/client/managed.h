// Managed memory: handed out from segments of the common host range that both sides have.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <map>
#include <mutex>

#include "base/range_advice.h"
#include "client/address_range.h"

namespace avec::client {

class Client;
struct Context;

class ManagedMemory {
 public:
  ManagedMemory(Client& client, int devices) : client_(client), advice_(devices) {}

  CUresult allocate(CUdeviceptr* address, std::size_t bytes, unsigned flags, Context& context);
  /// CUDA_ERROR_INVALID_VALUE unless a live allocation begins there. No work may be using it.
  CUresult release(std::uint64_t address);
  RangeAdvice& advice() { return advice_; }

 private:
  struct Segment {
    std::uint64_t bytes;
    CUdevice device;
    bool dedicated;  ///< for one large allocation
    RangeAllocator room;
    std::uint64_t live = 0;  ///< allocations in it
  };
  using Segments = std::map<std::uint64_t, Segment>;  // by base

  CUresult grow(std::uint64_t bytes, bool dedicated, Context& context, Segments::iterator& made);
  void shrink(Segments::iterator segment);

  Client& client_;
  RangeAdvice advice_;
  std::mutex mutex_;  // held across the round trip of a new segment
  Segments segments_;
};

}  // namespace avec::client
