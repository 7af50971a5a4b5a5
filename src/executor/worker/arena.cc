#include "executor/worker/arena.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
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
    if (chunk->reachable && remove) remove({chunk->data, chunk_bytes_});
    if (chunk->pinned) {
      driver_.cuMemFreeHost(chunk->data);
    } else {
      std::free(chunk->data);
    }
  }
  chunks_.clear();
  free_.clear();
  shared_ = nullptr;
  reachable_ = 0;
}

/// One more chunk, not in free_; null: there is no memory.
Chunk* Arena::fresh() {
  auto chunk = std::make_unique<Chunk>();
  void* data = nullptr;
  if (before_pinning) before_pinning();
  if (driver_.cuMemHostAlloc(&data, chunk_bytes_, CU_MEMHOSTALLOC_PORTABLE) == CUDA_SUCCESS && data != nullptr) {
    chunk->pinned = true;
  } else {
    data = std::aligned_alloc(4096, chunk_bytes_);
    if (data == nullptr) return nullptr;
  }
  chunk->data = static_cast<std::byte*>(data);
  if (add && !add_failed_) {
    chunk->reachable = add({chunk->data, chunk_bytes_});
    add_failed_ = !chunk->reachable;
    reachable_ += chunk->reachable;
  }
  chunks_.push_back(std::move(chunk));
  return chunks_.back().get();
}

Chunk* Arena::acquire(std::size_t keep_free, bool reachable) {
  if (free_chunks() <= keep_free) return nullptr;
  const auto fits = [&](const Chunk* chunk) { return !reachable || chunk->reachable; };
  Chunk* chunk = nullptr;
  if (const auto found = std::find_if(free_.rbegin(), free_.rend(), fits); found != free_.rend()) {
    chunk = *found;
    free_.erase(std::next(found).base());
  } else if (chunks_.size() < capacity_ && !(reachable && add_failed_)) {
    chunk = fresh();
    if (chunk != nullptr && !fits(chunk)) free_.push_back(std::exchange(chunk, nullptr));
  }
  if (chunk == nullptr) return nullptr;
  chunk->users = 1;
  chunk->filled = 0;
  return chunk;
}

Arena::Piece Arena::acquire_piece(std::size_t bytes, bool reachable) {
  const std::size_t rounded = (bytes + kPieceAlignment - 1) & ~(kPieceAlignment - 1);
  if (shared_ != nullptr && (shared_->filled + rounded > chunk_bytes_ || (reachable && !shared_->reachable))) {
    // The full chunk comes back when its last piece does; the arena's own use ends here.
    release(std::exchange(shared_, nullptr));
  }
  if (shared_ == nullptr) shared_ = acquire(0, reachable);
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
