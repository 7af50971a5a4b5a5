// Copies from the device: large ones chunk after chunk, several in flight, sent from the chunk
// the copy engine wrote, or written from there to the client's memory. And the order of what they
// carry and of the answers that cover it.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "executor/worker/accesses.h"
#include "executor/worker/completions.h"
#include "executor/worker/link.h"
#include "executor/worker/objects.h"

namespace avec::worker {

/// One such copy. The pieces of a large one are issued in stream order while later frames of the stream are held.
struct Download {
  std::uint64_t number = 0;  ///< in the order of issuing
  wire::FrameHeader call;
  Extent extent;
  Stream* stream = nullptr;
  std::optional<PeerMemory> to;   ///< written there; otherwise the reply carries the bytes
  std::uint64_t issued_bytes = 0;
  std::uint64_t given_bytes = 0;  ///< handed to the link; of a written one, all at once with the reply
  std::uint64_t put_bytes = 0;    ///< whose write has begun
  std::uint32_t writing = 0;      ///< writes under way
  std::uint32_t chunks = 0;       ///< held by it
  bool claimed = false;           ///< its reply has begun on the wire, or its writes have
  bool small = false;             ///< one piece, in a chunk shared with others
  CUresult status = CUDA_SUCCESS;
  struct Ready {
    Chunk* chunk;
    ConstBytes bytes;
  };
  std::deque<Ready> ready;
  std::uint64_t landed_bytes = 0;  ///< out of the device
  bool all_issued() const { return status != CUDA_SUCCESS || issued_bytes == extent.bytes(); }
  bool landed() const { return status != CUDA_SUCCESS || landed_bytes == extent.bytes(); }
  bool delivered() const { return given_bytes == extent.bytes(); }
};

/// A reply that says "done" must not overtake the bytes that it covers: the client hands them to
/// the program when it comes. Each copy is marked at its last piece, so whatever the device says
/// is done has its copies landed after one more look at the marks; deliver_after() waits for the
/// link to have those.
class Downloads {
 public:
  Downloads(const DriverTable& driver, Arena& arena, Completions& completions, Link& link, Accesses& accesses)
      : driver_(driver), arena_(arena), completions_(completions), link_(link), accesses_(accesses) {}

  std::shared_ptr<Download> begin(const wire::FrameHeader& call, const Extent& extent, Stream& stream,
                                  std::optional<PeerMemory> to = {});
  /// Issues as many pieces as there are chunks for. True when any was.
  bool issue(const std::shared_ptr<Download>& download);
  /// Its stream is gone: no more of it is issued.
  void cancel(const std::shared_ptr<Download>& download, CUresult status);
  /// Hands ready pieces to the link, one reply at a time. True when there was any.
  bool pump();
  bool idle() const { return ready_.empty() && due_.empty(); }
  /// A small copy was issued, into `room`; it is answered, and the room released, when it is done.
  void issued_small(const wire::FrameHeader& call, Stream& stream, const Arena::Piece& room, std::uint64_t bytes,
                    std::optional<PeerMemory> to = {});
  /// Runs `reply`, which tells that work is done, once the link has all bytes that the work
  /// covers: at once when no copy is under way.
  void deliver_after(std::function<void()> reply);
  /// Runs the replies whose bytes the link has. True when there was any.
  bool settle();
  /// The link is gone for good: chunks come back, nothing is sent.
  void abandon();
  /// Payload that the CPU moved: small copies and what is kept for resending.
  std::uint64_t copied_bytes() const { return copied_bytes_; }

 private:
  void give(const std::shared_ptr<Download>& download);
  bool put(const std::shared_ptr<Download>& download);
  void write_ended(Download& copy, TransportError error);
  bool fail(const std::shared_ptr<Download>& download);
  void landed(const std::shared_ptr<Download>& download);

  const DriverTable& driver_;
  Arena& arena_;
  Completions& completions_;
  Link& link_;
  Accesses& accesses_;
  // With pieces to send: the one whose reply has begun, then in the order of issuing, so that no
  // copy overtakes one that it came after.
  std::deque<std::shared_ptr<Download>> ready_;
  std::uint64_t numbers_ = 0;
  std::uint64_t looked_for_ = 0;  // the one before whose reply marks were looked at
  std::uint64_t under_way_ = 0;   // begun and not delivered
  std::uint64_t copied_bytes_ = 0;
  struct Due {
    std::function<void()> reply;
    bool looked = false;              // `after` is known
    std::shared_ptr<Download> after;  // the last that must be delivered first, if any
  };
  std::deque<Due> due_;
};

}  // namespace avec::worker
