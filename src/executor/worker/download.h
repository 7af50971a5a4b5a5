// Copies from the device whose payload is larger than a piece: chunk after chunk, several in
// flight, sent from the chunk the copy engine wrote.
#pragma once

#include <deque>
#include <memory>

#include "executor/worker/completions.h"
#include "executor/worker/link.h"
#include "executor/worker/objects.h"

namespace avec::worker {

/// One such copy. Its pieces are issued in stream order while later frames of the stream are held.
struct Download {
  wire::FrameHeader call;
  Extent extent;
  Stream* stream = nullptr;
  std::uint64_t issued_bytes = 0;
  std::uint64_t given_bytes = 0;  ///< handed to the link
  std::uint32_t chunks = 0;       ///< held by it
  bool claimed = false;           ///< its reply has begun on the wire
  CUresult status = CUDA_SUCCESS;
  struct Ready {
    Chunk* chunk;
    std::uint64_t bytes;
  };
  std::deque<Ready> ready;
  bool all_issued() const { return status != CUDA_SUCCESS || issued_bytes == extent.bytes(); }
};

class Downloads {
 public:
  Downloads(const DriverTable& driver, Arena& arena, Completions& completions, Link& link)
      : driver_(driver), arena_(arena), completions_(completions), link_(link) {}

  /// Issues as many pieces as there are chunks for. True when any was.
  bool issue(const std::shared_ptr<Download>& download);
  /// Hands ready pieces to the link, one reply at a time. True when there was any.
  bool pump();
  bool idle() const { return ready_.empty(); }
  /// The link is gone for good: chunks come back, nothing is sent.
  void abandon();

 private:
  void give(const std::shared_ptr<Download>& download);
  void fail(const std::shared_ptr<Download>& download);

  const DriverTable& driver_;
  Arena& arena_;
  Completions& completions_;
  Link& link_;
  std::deque<std::shared_ptr<Download>> ready_;  // in the order of their first finished piece
};

}  // namespace avec::worker
