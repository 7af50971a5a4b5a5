// Memory that the client's program uses too, at the same address: what the device changed in it is
// found by comparing it with a shadow of what the client has.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "base/limits.h"
#include "base/result.h"
#include "calls.h"
#include "executor/worker/driver.h"

namespace avec::worker {

class CoherentMemory {
 public:
  explicit CoherentMemory(const DriverTable& driver) : driver_(driver) {}
  CoherentMemory(const CoherentMemory&) = delete;
  CoherentMemory& operator=(const CoherentMemory&) = delete;

  /// A shadow of zeros for a range. CUDA_ERROR_INVALID_VALUE: one overlaps it, or is over a limit.
  CUresult begin(std::uint64_t address, std::uint64_t bytes);
  /// False: there is no such range.
  bool end(std::uint64_t address, std::uint64_t bytes);
  /// All ranges that begin in [address, address + bytes) go: their memory does.
  void forget(std::uint64_t address, std::uint64_t bytes);
  /// The piece lies in one range.
  bool holds(std::uint64_t address, std::uint64_t bytes) const;
  /// The device gets these bytes, which are the client's.
  void note(std::uint64_t address, ConstBytes bytes);

  struct Changes {
    CUresult status = CUDA_SUCCESS;
    std::vector<wire::CoherentRun> runs;
    std::vector<std::byte> bytes;
    std::uint64_t next = 0;
  };
  /// What the device changed from `from` on, as CoherentPullReply says; it is in the shadow then.
  /// Behind `after`, if that is not null. On a thread that may wait, one at a time; `context` outlives this.
  Changes compare(std::uint64_t from, CUcontext context, CUevent after);
  /// Frees what the driver allocated; a context must be current, nothing may be comparing.
  void clear();

 private:
  struct Unmap {
    std::size_t bytes;
    void operator()(std::byte* memory) const;
  };
  struct Range {
    std::uint64_t bytes;
    std::unique_ptr<std::byte, Unmap> shadow;
  };
  using Ranges = std::map<std::uint64_t, Range>;

  CUresult prepare();
  /// Starts the copy of a piece into a buffer, and waits for it.
  CUresult start(std::size_t buffer, std::uint64_t address, std::uint64_t bytes);
  CUresult finish(std::size_t buffer);
  /// The next piece at or after `address`; 0 bytes: none.
  struct Piece {
    std::uint64_t address = 0, bytes = 0;
  };
  Piece piece_from(std::uint64_t address) const;
  void take_changes(const Piece& piece, const std::byte* now, Changes& changes);

  const DriverTable& driver_;
  mutable std::mutex mutex_;
  Ranges ranges_;  // by address; guarded by mutex_, shadows too
  std::uint64_t bytes_ = 0;

  // Of the thread that compares.
  CUstream stream_ = nullptr;
  std::array<std::byte*, 2> buffers_{};  // pinned, a piece each
  std::array<CUevent, 2> copied_{};
};

}  // namespace avec::worker
