#include "executor/worker/direct_copy.h"

#include <algorithm>

namespace avec::worker {
namespace {

// Smaller ones are better off in the arena, where they wait for no other work of their stream.
constexpr std::uint64_t kSmallest = 64u << 10;
// One access: long enough that its beginning costs nothing beside it, short enough that a failure shows.
constexpr std::uint64_t kAccessBytes = 16u << 20;
// Accesses of one copy under way: the next is asked for long before the wire is free.
constexpr std::uint32_t kAccesses = 4;

}  // namespace

bool DirectCopies::suits(const Extent& extent, const PeerMemory& peer) {
  return peer.region == nullptr && extent.in.array == nullptr && extent.contiguous() && extent.bytes() >= kSmallest &&
         gpu_direct_.reaches(extent.address, extent.bytes());
}

std::shared_ptr<DirectCopy> DirectCopies::begin(const wire::FrameHeader& call, const Extent& extent, PeerMemory peer,
                                                RemoteAccess access, Stream& stream) {
  auto copy = std::make_shared<DirectCopy>(call, extent, std::move(peer), access);
  // Counted as work, so that the mark comes behind everything that the stream waits for, fences included.
  before_issue(stream);
  completions_.issued(stream);
  completions_.then(stream, [this, copy](CUresult done) {
    if (copy->status == CUDA_SUCCESS) copy->status = done;
    if (copy->access == RemoteAccess::kRead) {
      copy->ready = true;
    } else {
      // Copies before it may have the same destination.
      downloads_.deliver_after([copy] { copy->ready = true; });
    }
  });
  return copy;
}

bool DirectCopies::begin_access(const std::shared_ptr<DirectCopy>& shared) {
  DirectCopy& copy = *shared;
  const std::uint64_t at = copy.asked_bytes, address = copy.extent.address + at;
  const std::uint64_t bytes = std::min({copy.extent.bytes() - at, gpu_direct_.bytes_at(address), kAccessBytes});
  // The device's addresses: nothing here looks at what they name.
  auto* const device = reinterpret_cast<std::byte*>(static_cast<std::uintptr_t>(address));
  auto ended = [this, shared](TransportError error) {
    --shared->under_way;
    // A key or range that the client does not allow; a connection that broke ends the session.
    if (error && shared->status == CUDA_SUCCESS) shared->status = CUDA_ERROR_INVALID_VALUE;
    if (shared->cancelled && shared->under_way == 0) give_answer(*shared);
  };
  ++copy.under_way;
  const bool begun = copy.access == RemoteAccess::kRead
                         ? accesses_.read(copy.peer, at, {device, bytes}, std::move(ended))
                         : accesses_.write(copy.peer, at, {device, bytes}, std::move(ended));
  if (begun) {
    copy.asked_bytes += bytes;
  } else {
    --copy.under_way;
  }
  return begun;
}

bool DirectCopies::advance(const std::shared_ptr<DirectCopy>& shared, Stream& stream) {
  DirectCopy& copy = *shared;
  if (!copy.ready) return false;
  while (copy.status == CUDA_SUCCESS && copy.asked_bytes < copy.extent.bytes() && copy.under_way < kAccesses &&
         begin_access(shared)) {
  }
  if (copy.under_way != 0) return false;
  if (copy.status == CUDA_SUCCESS) {
    if (copy.asked_bytes < copy.extent.bytes()) return false;
    if (copy.access == RemoteAccess::kRead) copy.status = gpu_direct_.flush(copy.extent.address, *stream.context);
  }
  give_answer(copy);
  return true;
}

void DirectCopies::cancel(DirectCopy& copy, CUresult status) {
  if (copy.status == CUDA_SUCCESS) copy.status = status;
  copy.cancelled = true;
  if (copy.under_way == 0) give_answer(copy);
}

void DirectCopies::give_answer(DirectCopy& copy) {
  if (!std::exchange(copy.answered, true)) answer(copy.call, copy.status);
}

}  // namespace avec::worker
