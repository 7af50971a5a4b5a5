// Copies between the client's memory and the device's that the adapter makes by itself (GPUDirect RDMA): no
// chunk of the arena, no copy engine.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "executor/worker/accesses.h"
#include "executor/worker/completions.h"
#include "executor/worker/download.h"
#include "executor/worker/gpu_direct.h"

namespace avec::worker {

/// One such copy. Its frame is the first of its stream's held ones from its beginning to its end, so that
/// nothing that follows on the stream begins before. Shared by that frame, what waits for the
/// stream's earlier work, and the accesses.
struct DirectCopy {
  DirectCopy(const wire::FrameHeader& header, const Extent& whole, PeerMemory memory, RemoteAccess what)
      : call(header), extent(whole), peer(std::move(memory)), access(what) {}

  const wire::FrameHeader call;
  const Extent extent;
  const PeerMemory peer;
  const RemoteAccess access;      ///< kRead: to the device
  bool ready = false;             ///< all earlier work of the stream is done
  bool answered = false;
  bool cancelled = false;         ///< its frame is gone: the last access answers
  std::uint64_t asked_bytes = 0;  ///< whose access has begun
  std::uint32_t under_way = 0;    ///< accesses
  CUresult status = CUDA_SUCCESS;
};

/// Loop only.
class DirectCopies {
 public:
  DirectCopies(GpuDirect& gpu_direct, Completions& completions, Downloads& downloads, Accesses& accesses)
      : gpu_direct_(gpu_direct), completions_(completions), downloads_(downloads), accesses_(accesses) {}

  /// Answers the call, behind the bytes of copies before it.
  std::function<void(const wire::FrameHeader&, CUresult)> answer;
  /// Before work is issued to a stream.
  std::function<void(Stream&)> before_issue;

  /// Whether the adapter is to make this copy.
  bool suits(const Extent& extent, const PeerMemory& peer);
  std::shared_ptr<DirectCopy> begin(const wire::FrameHeader& call, const Extent& extent, PeerMemory peer,
                                    RemoteAccess access, Stream& stream);
  /// Begins what accesses it can. True when the copy is over and answered.
  bool advance(const std::shared_ptr<DirectCopy>& copy, Stream& stream);
  /// Its stream is gone: no more of it begins.
  void cancel(DirectCopy& copy, CUresult status);

 private:
  bool begin_access(const std::shared_ptr<DirectCopy>& copy);
  void give_answer(DirectCopy& copy);

  GpuDirect& gpu_direct_;
  Completions& completions_;
  Downloads& downloads_;
  Accesses& accesses_;
};

}  // namespace avec::worker
