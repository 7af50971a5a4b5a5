// Pinned host memory that payload is received into and sent from, so that the copy engine
// reads and writes it directly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "avec/transport_error.h"
#include "executor/worker/driver.h"

namespace avec::worker {

/// One chunk of the arena. Small payloads share one; `users` counts them.
struct Chunk {
  std::byte* data = nullptr;
  bool pinned = false;  ///< false: ordinary memory, because pinning failed
  bool reachable = false;  ///< one-sided accesses may use it
  std::uint32_t users = 0;
  std::size_t filled = 0;  ///< of a shared chunk: bytes handed out
};

/// Chunks are pinned when first needed and kept. One thread only.
class Arena {
 public:
  Arena(const DriverTable& driver, std::size_t chunk_bytes, std::size_t total_bytes);
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena();

  std::size_t chunk_bytes() const { return chunk_bytes_; }
  std::size_t free_chunks() const { return free_.size() + (capacity_ - chunks_.size()); }
  std::uint64_t releases() const { return releases_; }

  /// Makes a context current that lives as long as the arena: pinning happens in it.
  std::function<void()> before_pinning;

  /// Where payload passes by one-sided access: makes a new chunk usable for that, and undoes it
  /// before the chunk is freed. False: this one cannot be.
  std::function<bool(MutableBytes)> add;
  std::function<void(MutableBytes)> remove;

  /// A whole chunk, as long as more than `keep_free` are free; otherwise null. `reachable`: one
  /// for one-sided accesses.
  Chunk* acquire(std::size_t keep_free, bool reachable = false);
  /// Room for `bytes` (at most a chunk) in a chunk shared with other small payloads; null
  /// data when the arena is exhausted. Released like a whole chunk, once per piece.
  struct Piece {
    Chunk* chunk = nullptr;
    std::byte* data = nullptr;
  };
  Piece acquire_piece(std::size_t bytes, bool reachable = false);
  /// No chunk can be used for one-sided accesses, now or later.
  bool unreachable() const { return add_failed_ && reachable_ == 0; }
  void release(Chunk* chunk);
  /// Frees the memory; a context must be current. No chunk may be in use by the device.
  void clear();

 private:
  Chunk* fresh();

  const DriverTable& driver_;
  const std::size_t chunk_bytes_;
  const std::size_t capacity_;
  std::vector<std::unique_ptr<Chunk>> chunks_;
  std::vector<Chunk*> free_;
  Chunk* shared_ = nullptr;
  std::uint64_t releases_ = 0;
  std::size_t reachable_ = 0;  // chunks that are
  bool add_failed_ = false;    // no more will be
};

}  // namespace avec::worker
