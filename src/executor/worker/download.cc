#include "executor/worker/download.h"

#include <algorithm>
#include <utility>

#include "base/limits.h"

namespace avec::worker {
namespace {

// Chunks of one copy in flight: enough to keep copy engine and link busy at once.
constexpr std::uint32_t kInFlight = 6;
// Chunks that a copy leaves free for the one whose reply is on the wire: without them two
// copies could each wait for the chunks of the other.
constexpr std::size_t kKeepForSender = 2;

}  // namespace

std::shared_ptr<Download> Downloads::begin(const wire::FrameHeader& call, const Extent& extent, Stream& stream,
                                           std::optional<PeerMemory> to) {
  auto download = std::make_shared<Download>(++numbers_, call, extent, &stream, std::move(to));
  ++under_way_;
  return download;
}

bool Downloads::issue(const std::shared_ptr<Download>& download) {
  bool progress = false;
  Download& copy = *download;
  const bool by_peer = copy.to && copy.to->region == nullptr;
  while (!copy.all_issued() && copy.chunks < kInFlight) {
    Chunk* chunk = arena_.acquire(copy.claimed ? 0 : kKeepForSender, by_peer);
    if (chunk == nullptr) {
      if (!by_peer || !arena_.unreachable()) break;
      copy.status = CUDA_ERROR_OUT_OF_MEMORY;
      fail(download);  // no chunk can have been used for it
      break;
    }
    const CopyPiece piece = piece_at(copy.extent, copy.issued_bytes, arena_.chunk_bytes());
    progress = true;
    completions_.make_current(*copy.stream->context);
    const CUresult status = copy_from_device(driver_, piece, chunk->data, copy.stream->handle);
    if (status != CUDA_SUCCESS) {
      arena_.release(chunk);
      copy.status = status;
      if (copy.chunks == 0 && copy.ready.empty()) fail(download);
      break;
    }
    copy.issued_bytes += piece.bytes;
    ++copy.chunks;
    completions_.issued(*copy.stream);
    completions_.then(*copy.stream, [this, download, chunk, bytes = piece.bytes](CUresult done) {
      Download& d = *download;
      if (done != CUDA_SUCCESS && d.status == CUDA_SUCCESS) d.status = done;
      if (d.given_bytes == d.extent.bytes()) {  // answered with its error meanwhile
        --d.chunks;
        arena_.release(chunk);
        return;
      }
      d.landed_bytes += bytes;
      d.ready.push_back({chunk, {chunk->data, bytes}});
      landed(download);
    });
    if (copy.all_issued()) completions_.mark_now(*copy.stream);
  }
  return progress;
}

void Downloads::cancel(const std::shared_ptr<Download>& download, CUresult status) {
  if (download->status == CUDA_SUCCESS) download->status = status;
  if (download->chunks == 0 && !download->delivered()) fail(download);
}

void Downloads::issued_small(const wire::FrameHeader& call, Stream& stream, const Arena::Piece& room,
                             std::uint64_t bytes, std::optional<PeerMemory> to) {
  ++under_way_;
  completions_.issued(stream);
  completions_.then(stream, [this, number = ++numbers_, call, room, bytes, to = std::move(to)](CUresult done) {
    if (under_way_ == 1 && !to) {  // none that it could overtake
      --under_way_;
      copied_bytes_ += bytes;
      link_.reply(call, done, {}, done == CUDA_SUCCESS ? ConstBytes(room.data, bytes) : ConstBytes{});
      return arena_.release(room.chunk);
    }
    auto copy = std::make_shared<Download>(number, call, Extent{0, bytes, bytes, 1}, nullptr, to);
    copy->small = true;
    copy->status = done;
    copy->chunks = 1;
    copy->issued_bytes = copy->landed_bytes = bytes;
    copy->ready.push_back({room.chunk, {room.data, bytes}});
    landed(copy);
  });
  completions_.mark_now(stream);
}

void Downloads::landed(const std::shared_ptr<Download>& download) {
  if (std::ranges::find(ready_, download) != ready_.end()) return;
  const auto after = [&](const auto& other) { return !other->claimed && other->number > download->number; };
  ready_.insert(std::ranges::find_if(ready_, after), download);
}

bool Downloads::pump() {
  bool progress = false;
  while (!ready_.empty()) {
    // What this one came after has landed, too, but perhaps nobody has looked since.
    if (!ready_.front()->claimed && ready_.front()->number != looked_for_) {
      completions_.poll();
      looked_for_ = ready_.front()->number;
    }
    const std::shared_ptr<Download> first = ready_.front();
    if (first->status != CUDA_SUCCESS) {
      if (!fail(first)) return progress;
    } else if (first->to) {
      if (!put(first)) return progress;
    } else {
      if (first->ready.empty()) return progress;
      give(first);
    }
    progress = true;
    if (!ready_.empty() && ready_.front() == first) return progress;  // more of it is to come
  }
  return progress;
}

void Downloads::give(const std::shared_ptr<Download>& download) {
  Download& copy = *download;
  if (copy.small) {
    copied_bytes_ += copy.extent.bytes();
    link_.reply(copy.call, CUDA_SUCCESS, {}, copy.ready.front().bytes);
    arena_.release(copy.ready.front().chunk);
    copy.given_bytes = copy.extent.bytes();
    copy.ready.clear();
  } else if (!copy.claimed) {
    copy.claimed = true;
    link_.begin_reply(copy.call, copy.extent.bytes());
  }
  while (!copy.ready.empty()) {
    const Download::Ready piece = copy.ready.front();
    copy.ready.pop_front();
    copy.given_bytes += piece.bytes.size();
    if (link_.resumable()) copied_bytes_ += piece.bytes.size();
    link_.part(piece.bytes, [this, download, chunk = piece.chunk] {
      --download->chunks;
      arena_.release(chunk);
    });
  }
  if (!copy.delivered()) return;
  ready_.pop_front();
  --under_way_;
}

/// Writes what has landed to the client's memory. Its answer may follow on the stream at once
/// where the writes come first; elsewhere it waits for their ends, and so do the copies after it,
/// which may have the same destination. True when anything moved.
bool Downloads::put(const std::shared_ptr<Download>& download) {
  Download& copy = *download;
  bool progress = false;
  copy.claimed = true;
  while (!copy.ready.empty() && copy.status == CUDA_SUCCESS) {
    const Download::Ready piece = copy.ready.front();
    ++copy.writing;
    const bool begun = accesses_.write(*copy.to, copy.put_bytes, piece.bytes,
                                       [this, download, chunk = piece.chunk](TransportError error) {
                                         arena_.release(chunk);
                                         write_ended(*download, error);
                                       });
    if (!begun) {
      --copy.writing;
      break;
    }
    copy.ready.pop_front();
    copy.put_bytes += piece.bytes.size();
    progress = true;
  }
  const bool all = copy.status == CUDA_SUCCESS && copy.put_bytes == copy.extent.bytes();
  if (!all || (copy.writing != 0 && !accesses_.ordered())) return progress;
  link_.reply(copy.call, CUDA_SUCCESS);
  copy.given_bytes = copy.extent.bytes();
  std::erase(ready_, download);
  --under_way_;
  return true;
}

void Downloads::write_ended(Download& copy, TransportError error) {
  --copy.writing;
  --copy.chunks;
  if (!error || copy.status != CUDA_SUCCESS) return;
  // A key or range that the client does not allow; a connection that broke ends the session.
  copy.status = CUDA_ERROR_INVALID_VALUE;
  if (!copy.delivered()) return;  // its answer will say it
  const wire::DeferredError body(copy.call.sequence(), copy.call.opcode());
  link_.push(wire::Opcode::DeferredError, copy.status, {reinterpret_cast<const std::byte*>(&body), sizeof body});
}

/// Before its reply began the call just fails. A context that breaks in the middle leaves a
/// promised payload: zeros follow, and the error, before anything that could look at them. A copy
/// to the client's memory is answered when nothing is written there any more; false: not yet.
bool Downloads::fail(const std::shared_ptr<Download>& download) {
  Download& copy = *download;
  for (const Download::Ready& piece : copy.ready) {
    --copy.chunks;
    arena_.release(piece.chunk);
  }
  copy.ready.clear();
  if (copy.writing != 0) return false;
  if (!copy.claimed || copy.to) {
    copy.claimed = true;  // answered: pieces still under way only give their chunks back
    link_.reply(copy.call, copy.status);
  } else if (copy.given_bytes < copy.extent.bytes()) {
    static const std::vector<std::byte> zeros(limits::kInlinePayloadBytes);
    const wire::DeferredError body(copy.call.sequence(), copy.call.opcode());
    link_.push(wire::Opcode::DeferredError, copy.status, {reinterpret_cast<const std::byte*>(&body), sizeof body});
    while (copy.given_bytes < copy.extent.bytes()) {
      const auto bytes = std::min<std::uint64_t>(zeros.size(), copy.extent.bytes() - copy.given_bytes);
      copy.given_bytes += bytes;
      link_.part({zeros.data(), bytes}, [] {});
    }
  }
  std::erase(ready_, download);
  copy.given_bytes = copy.extent.bytes();
  --under_way_;
  return true;
}

void Downloads::deliver_after(std::function<void()> reply) {
  if (under_way_ == 0 && due_.empty()) return reply();
  due_.push_back({std::move(reply)});
}

bool Downloads::settle() {
  if (due_.empty()) return false;
  if (!due_.back().looked) {
    const std::size_t count = due_.size();
    completions_.poll();
    const auto last = std::ranges::find_if(ready_.rbegin(), ready_.rend(), [](const auto& d) { return d->landed(); });
    for (std::size_t i = 0; i < count; ++i) {
      if (std::exchange(due_[i].looked, true)) continue;
      if (last != ready_.rend()) due_[i].after = *last;
    }
    pump();
  }
  bool progress = false;
  while (!due_.empty() && due_.front().looked && (due_.front().after == nullptr || due_.front().after->delivered())) {
    const auto reply = std::move(due_.front().reply);
    due_.pop_front();
    reply();
    progress = true;
  }
  return progress;
}

void Downloads::abandon() {
  for (const auto& download : ready_) {
    for (const Download::Ready& piece : download->ready) arena_.release(piece.chunk);
    download->ready.clear();
  }
  ready_.clear();
  due_.clear();
}

}  // namespace avec::worker
