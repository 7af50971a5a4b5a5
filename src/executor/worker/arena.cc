#include "executor/worker/arena.h"

#include <cstdlib>
#include <utility>

namespace avec::worker {
namespace {

// Pieces begin at cache lines: the copy engine reads them in such units.
constexpr std::size_t kPieceAlignment = 256;

}  // namespace

Arena::Arena(const DriverTable& driver, std::size_t chunk_bytes, std::size_t total_bytes)
    : driver_(driver), chunk_bytes_(chunk_bytes), capacity_(total_bytes / chunk_bytes) {}

Arena::~Arena() { clear(); }

void Arena::clear() {
  for (auto& chunk : chunks_) {
    if (chunk->pinned) {
      driver_.cuMemFreeHost(chunk->data);
    } else {
      std::free(chunk->data);
    }
  }
  chunks_.clear();
  free_.clear();
  shared_ = nullptr;
}

Chunk* Arena::acquire(std::size_t keep_free) {
  if (free_chunks() <= keep_free) return nullptr;
  Chunk* chunk = nullptr;
  if (!free_.empty()) {
    chunk = free_.back();
    free_.pop_back();
  } else {
    auto fresh = std::make_unique<Chunk>();
    void* data = nullptr;
    if (before_pinning) before_pinning();
    if (driver_.cuMemHostAlloc(&data, chunk_bytes_, CU_MEMHOSTALLOC_PORTABLE) == CUDA_SUCCESS && data != nullptr) {
      fresh->pinned = true;
    } else {
      data = std::aligned_alloc(4096, chunk_bytes_);
      if (data == nullptr) return nullptr;
    }
    fresh->data = static_cast<std::byte*>(data);
    chunk = fresh.get();
    chunks_.push_back(std::move(fresh));
  }
  chunk->users = 1;
  chunk->filled = 0;
  return chunk;
}

Arena::Piece Arena::acquire_piece(std::size_t bytes) {
  const std::size_t rounded = (bytes + kPieceAlignment - 1) & ~(kPieceAlignment - 1);
  if (shared_ != nullptr && shared_->filled + rounded > chunk_bytes_) {
    // The full chunk comes back when its last piece does; the arena's own use ends here.
    release(std::exchange(shared_, nullptr));
  }
  if (shared_ == nullptr) shared_ = acquire(0);
  if (shared_ == nullptr) return {};
  Piece piece{shared_, shared_->data + shared_->filled};
  shared_->filled += rounded;
  ++shared_->users;
  return piece;
}

void Arena::release(Chunk* chunk) {
  ++releases_;
  if (--chunk->users == 0) {
    free_.push_back(chunk);
  } else if (chunk == shared_ && chunk->users == 1) {
    chunk->filled = 0;  // only the arena itself still holds it: start again from its beginning
  }
}

}  // namespace avec::worker
