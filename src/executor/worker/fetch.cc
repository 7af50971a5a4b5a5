#include "executor/worker/fetch.h"

#include <utility>

#include "base/limits.h"

namespace avec::worker {
namespace {

// Reads of one copy under way: the next is asked for long before the wire is free.
constexpr std::uint32_t kReads = 4;
// Chunks that one copy holds, those on the device included: a stream that stands still must not
// take all of them.
constexpr std::size_t kChunks = 8;
// Chunks left for copies from the device.
constexpr std::size_t kKeepForDownloads = 2;

}  // namespace

bool Fetches::advance(const std::shared_ptr<Fetch>& fetch, Stream& stream) {
  issue(fetch, stream);
  while (read_more(fetch)) {
  }
  conclude(*fetch);
  return fetch->status != CUDA_SUCCESS || fetch->issued_bytes == fetch->extent.bytes();
}

void Fetches::cancel(Fetch& copy, CUresult status) {
  if (copy.status == CUDA_SUCCESS) copy.status = status;
  conclude(copy);
}

/// Answers once the source is free: no read is under way, and none will be.
void Fetches::conclude(Fetch& copy) {
  if (copy.reading != 0) return;
  const bool failed = copy.status != CUDA_SUCCESS;
  if (failed ? copy.failed : copy.answered || copy.asked_bytes != copy.extent.bytes()) return;
  (copy.answered ? fail_later : answer)(copy.call, copy.status);
  copy.answered = true;
  copy.failed = failed;
}

void Fetches::issue(const std::shared_ptr<Fetch>& fetch, Stream& stream) {
  Fetch& copy = *fetch;
  while (copy.status == CUDA_SUCCESS && !copy.pieces.empty() && copy.pieces.front().here) {
    const Fetch::Piece piece = copy.pieces.front();
    before_issue(stream);
    copy.status = copy_to_device(driver_, piece.copy, piece.room.data, stream.handle);
    if (copy.status != CUDA_SUCCESS) return;
    copy.pieces.pop_front();
    copy.issued_bytes += piece.copy.bytes;
    ++copy.on_device;
    completions_.issued(stream);
    completions_.then(stream, [fetch, chunk = piece.room.chunk](CUresult) {
      --fetch->on_device;
      fetch->arena.release(chunk);
    });
  }
}

/// Room for the next read. A small one shares a chunk.
bool Fetches::find_room(Fetch& copy) {
  if (copy.next.chunk != nullptr) return true;
  const bool by_peer = copy.from.region == nullptr;
  if (copy.extent.bytes() <= limits::kInlinePayloadBytes) {
    copy.next = arena_.acquire_piece(copy.extent.bytes(), by_peer);
  } else if (Chunk* chunk = arena_.acquire(kKeepForDownloads, by_peer); chunk != nullptr) {
    copy.next = {chunk, chunk->data};
  }
  if (copy.next.chunk != nullptr) return true;
  if (by_peer && arena_.unreachable()) copy.status = CUDA_ERROR_OUT_OF_MEMORY;
  return false;
}

/// Begins the next read. False: there is none, or not now.
bool Fetches::read_more(const std::shared_ptr<Fetch>& fetch) {
  Fetch& copy = *fetch;
  if (copy.status != CUDA_SUCCESS || copy.asked_bytes == copy.extent.bytes()) return false;
  if (copy.reading == kReads || copy.pieces.size() + copy.on_device >= kChunks) return false;
  if (!find_room(copy)) return false;
  const std::uint64_t at = copy.asked_bytes;
  Fetch::Piece& piece =
      copy.pieces.emplace_back(piece_at(copy.extent, at, arena_.chunk_bytes()), std::exchange(copy.next, {}));
  copy.asked_bytes += piece.copy.bytes;
  ++copy.reading;
  const MutableBytes into(piece.room.data, piece.copy.bytes);
  const bool begun = accesses_.read(copy.from, at, into, [this, fetch, &piece](TransportError error) {
    read_ended(*fetch, piece, error);
  });
  if (begun) return true;
  --copy.reading;
  copy.asked_bytes = at;
  copy.next = piece.room;
  copy.pieces.pop_back();
  return false;
}

void Fetches::read_ended(Fetch& copy, Fetch::Piece& piece, TransportError error) {
  --copy.reading;
  piece.here = true;
  // A key or range that the client does not allow; a connection that broke ends the session.
  if (error && copy.status == CUDA_SUCCESS) copy.status = CUDA_ERROR_INVALID_VALUE;
  conclude(copy);
}

}  // namespace avec::worker
