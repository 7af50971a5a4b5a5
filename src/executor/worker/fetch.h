// Copies to the device whose payload the executor reads from the client's memory: chunk after
// chunk, several reads under way, each chunk handed to the copy engine while the next arrive.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>

#include "executor/worker/accesses.h"
#include "executor/worker/completions.h"

namespace avec::worker {

/// One such copy. Its frame stays the first of its stream's held ones until all of it has been
/// handed to the copy engine. Shared by that frame, the reads and the pieces on the device;
/// chunks that the device never got come back with the last of them.
struct Fetch {
  Fetch(Arena& into, const wire::FrameHeader& header, const Extent& whole, PeerMemory source)
      : arena(into), call(header), extent(whole), from(std::move(source)) {}
  Fetch(const Fetch&) = delete;
  Fetch& operator=(const Fetch&) = delete;
  ~Fetch() {
    for (const Piece& piece : pieces) arena.release(piece.room.chunk);
    if (next.chunk != nullptr) arena.release(next.chunk);
  }

  struct Piece {
    CopyPiece copy;
    Arena::Piece room;
    bool here = false;  ///< read
  };

  Arena& arena;
  const wire::FrameHeader call;
  const Extent extent;
  const PeerMemory from;
  std::deque<Piece> pieces;        ///< being read or read, not on the device; in order
  Arena::Piece next;               ///< room for the next read, which could not begin
  std::uint64_t asked_bytes = 0;   ///< whose read has begun
  std::uint64_t issued_bytes = 0;  ///< handed to the copy engine
  std::uint32_t reading = 0;       ///< reads under way
  std::uint32_t on_device = 0;     ///< pieces that the device has not finished
  CUresult status = CUDA_SUCCESS;
  bool answered = false;  ///< the client has been told that the source is free
  bool failed = false;    ///< it has been told of the failure
};

class Fetches {
 public:
  Fetches(const DriverTable& driver, Arena& arena, Completions& completions, Accesses& accesses)
      : driver_(driver), arena_(arena), completions_(completions), accesses_(accesses) {}

  /// Answers the call; a call that was answered already failed afterwards.
  std::function<void(const wire::FrameHeader&, CUresult)> answer, fail_later;
  /// Before work is issued to a stream.
  std::function<void(Stream&)> before_issue;

  std::shared_ptr<Fetch> begin(const wire::FrameHeader& call, const Extent& extent, PeerMemory from) {
    return std::make_shared<Fetch>(arena_, call, extent, std::move(from));
  }
  /// Issues what has arrived and asks for more. True when nothing of it is left to be issued.
  bool advance(const std::shared_ptr<Fetch>& fetch, Stream& stream);
  /// Its stream is gone: no more of it is issued.
  void cancel(Fetch& copy, CUresult status);

 private:
  void issue(const std::shared_ptr<Fetch>& fetch, Stream& stream);
  bool read_more(const std::shared_ptr<Fetch>& fetch);
  bool find_room(Fetch& copy);
  void conclude(Fetch& copy);
  void read_ended(Fetch& copy, Fetch::Piece& piece, TransportError error);

  const DriverTable& driver_;
  Arena& arena_;
  Completions& completions_;
  Accesses& accesses_;
};

}  // namespace avec::worker
