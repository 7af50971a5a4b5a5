// Copies and sets. Payload for the device is received into pinned chunks, each handed to the
// copy engine while the next arrives.
#include <algorithm>
#include <array>
#include <cstring>

#include "executor/worker/session.h"

namespace avec::worker {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

// No chunk came back for so long: whatever holds them waits for something, perhaps for a frame
// behind this payload.
constexpr auto kStall = 5ms;
// Chunks left for copies from the device.
constexpr std::size_t kKeepForDownloads = 2;

}  // namespace

CUresult Session::check_extent(const Extent& extent) const {
  if (extent.in.array != nullptr) return CUDA_SUCCESS;  // find_rows() has looked
  return extent.bytes() == 0 || memory_.covers(extent.address, extent.span()) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/// A frame that was held may have ended the destination while the payload arrived.
CUresult Session::still_there(const Held& copy, const Extent& extent) {
  if (extent.in.array == nullptr) {
    const CUresult status = check_extent(extent);
    return unmap_pending(extent.address, extent.span()) ? CUDA_ERROR_INVALID_VALUE : status;
  }
  const auto call = wire::read_struct<wire::CopyToArray>(copy.body);
  Extent now;
  const CUresult status = find_rows(call.destination(), call.width(), call.height(), now);
  return status == CUDA_SUCCESS && now.in.array != extent.in.array ? CUDA_ERROR_INVALID_HANDLE : status;
}

/// A payload that is too large to wait for as a whole.
class Session::UploadSink final : public PayloadSink {
 public:
  UploadSink(Session& session, const InFrame& frame, std::uint64_t stream, const Extent& extent)
      : session_(session), stream_name_(stream), extent_(extent) {
    held_.header = frame.header;
    held_.body.assign(frame.body.begin(), frame.body.end());
  }
  ~UploadSink() override { abort(); }

  MutableBytes room(std::uint64_t left) override {
    if (status_ != CUDA_SUCCESS) return scratch();
    if (spilled_) return MutableBytes(held_.payload).subspan(filled_);
    if (chunk_ == nullptr && !begin_piece(left)) {
      if (status_ != CUDA_SUCCESS) return scratch();
      return spilled_ ? MutableBytes(held_.payload) : MutableBytes{};
    }
    return {chunk_->data + filled_, static_cast<std::size_t>(piece_.bytes - filled_)};
  }

  void copied(std::size_t bytes) override { session_.copied_bytes_ += bytes; }
  void advance(std::size_t bytes) override {
    if (status_ != CUDA_SUCCESS) return;
    filled_ += bytes;
    if (spilled_ || filled_ < piece_.bytes) return;
    Stream* stream = session_.find_stream(stream_name_, status_);
    Chunk* chunk = std::exchange(chunk_, nullptr);
    offset_ += piece_.bytes;
    filled_ = 0;
    if (status_ == CUDA_SUCCESS) status_ = session_.still_there(held_, extent_);
    if (status_ != CUDA_SUCCESS) return session_.arena_.release(chunk);
    status_ = session_.upload_piece(*stream, piece_, chunk, chunk->data);
  }

  void finish() override {
    Stream* stream = nullptr;
    if (status_ == CUDA_SUCCESS) stream = session_.find_stream(stream_name_, status_);
    if (stream == nullptr || !spilled_) {
      session_.finish(held_.header, status_);
    } else {
      session_.must_hold(*stream, held_.after);
      session_.keep(*stream, std::move(held_));
    }
    session_.spilled_bytes_ = 0;
  }

  void abort() override {
    if (chunk_ != nullptr) session_.arena_.release(std::exchange(chunk_, nullptr));
    session_.spilled_bytes_ = 0;
  }

 private:
  MutableBytes scratch() {
    if (chunk_ != nullptr) session_.arena_.release(std::exchange(chunk_, nullptr));
    if (scratch_.empty()) scratch_.resize(limits::kInlinePayloadBytes);
    return scratch_;
  }

  /// A chunk for the next piece; or (spilled_) ordinary memory for all the rest; or neither yet.
  bool begin_piece(std::uint64_t left) {
    Stream* stream = session_.find_stream(stream_name_, status_);
    if (stream == nullptr) return false;
    std::vector<HeldPoint> after;
    const bool behind = session_.must_hold(*stream, after);
    if (!behind) chunk_ = session_.arena_.acquire(kKeepForDownloads);
    if (chunk_ != nullptr) {
      stalled_since_.reset();
      piece_ = piece_at(extent_, offset_, session_.arena_.chunk_bytes());
      return true;
    }
    const auto now = Clock::now();
    if (!stalled_since_ || session_.arena_.releases() != releases_seen_) {
      stalled_since_ = now;
      releases_seen_ = session_.arena_.releases();
    }
    const bool stalled = now - *stalled_since_ >= kStall;
    if (!stalled || session_.held_bytes_ + left > limits::kBacklogBytes) return false;
    held_.payload.resize(left);
    held_.payload_base = held_.done_bytes = offset_;
    spilled_ = true;
    session_.spilled_bytes_ = left;
    return false;
  }

  Session& session_;
  const std::uint64_t stream_name_;
  const Extent extent_;
  Held held_;
  CUresult status_ = CUDA_SUCCESS;
  Chunk* chunk_ = nullptr;
  CopyPiece piece_;
  std::uint64_t offset_ = 0;  ///< where the piece begins
  std::size_t filled_ = 0;    ///< of the piece, or of the spilled rest
  bool spilled_ = false;
  std::vector<std::byte> scratch_;
  std::optional<Clock::time_point> stalled_since_;
  std::uint64_t releases_seen_ = 0;
};

/// Issues the copy of a piece out of the arena, whose chunk comes back when it is done.
CUresult Session::upload_piece(Stream& stream, const CopyPiece& piece, Chunk* chunk, const std::byte* data) {
  before_issue(stream);
  const CUresult status = copy_to_device(driver_, piece, data, stream.handle);
  if (status != CUDA_SUCCESS) {
    arena_.release(chunk);
    return status;
  }
  completions_.issued(stream);
  completions_.then(stream, [this, chunk](CUresult) { arena_.release(chunk); });
  return CUDA_SUCCESS;
}

Result<> Session::upload_whole(const Header& call, Stream& stream, const Extent& extent, ConstBytes payload) {
  if (hold(stream)) return {};
  const Arena::Piece room = arena_.acquire_piece(payload.size());
  if (room.data == nullptr) {
    keep(stream, copy_of_frame());
    return {};
  }
  std::memcpy(room.data, payload.data(), payload.size());
  copied_bytes_ += payload.size();
  return finish(call, upload_piece(stream, piece_at(extent, 0, payload.size()), room.chunk, room.data));
}

/// Goes on with a held copy as far as there are chunks. True when it is issued, or has failed.
bool Session::issue_upload(Held& held, Stream& stream, const Extent& extent) {
  while (held.done_bytes < extent.bytes()) {
    Chunk* chunk = arena_.acquire(kKeepForDownloads);
    if (chunk == nullptr) return false;
    const CopyPiece piece = piece_at(extent, held.done_bytes, arena_.chunk_bytes());
    std::memcpy(chunk->data, held.payload.data() + (held.done_bytes - held.payload_base), piece.bytes);
    copied_bytes_ += piece.bytes;
    held.done_bytes += piece.bytes;
    if (CUresult status = upload_piece(stream, piece, chunk, chunk->data); status != CUDA_SUCCESS) {
      finish(held.header, status);
      return true;
    }
  }
  finish(held.header, CUDA_SUCCESS);
  return true;
}

Result<> Session::operator()(const Header& header, const wire::CopyToDevice& call) {
  const Extent extent{call.destination(), call.pitch(), call.width(), call.height()};
  return upload(header, call.stream(), extent);
}

/// A copy to the device whose payload comes with its frame.
Result<> Session::upload(const Header& header, std::uint64_t stream_name, const Extent& extent) {
  if (!extent.sane()) return protocol_error("a copy whose sizes do not fit together");
  if (header.payload_bytes() != extent.bytes()) return protocol_error("a payload of the wrong size");
  CUresult status;
  Stream* stream = find_stream(stream_name, status);
  if (stream == nullptr) return finish(header, status);
  if (status = check_extent(extent); status != CUDA_SUCCESS) return finish(header, status);
  if (extent.bytes() == 0) return finish(header, CUDA_SUCCESS);
  if (stream->capturing) return finish(header, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);  // bytes of this moment
  if (replaying_ != nullptr) {
    incomplete_ = !issue_upload(*replaying_, *stream, extent);
    return {};
  }
  if (!frame_->payload_follows) return upload_whole(header, *stream, extent, frame_->payload);
  sink_ = std::make_unique<UploadSink>(*this, *frame_, stream_name, extent);
  link_.payload_to(*sink_);
  return {};
}

Result<> Session::operator()(const Header& header, const wire::CopyFromDevice& call) {
  return download_reply(header, call.stream(), {call.source(), call.pitch(), call.width(), call.height()});
}

/// A copy from the device whose bytes go into the answer.
Result<> Session::download_reply(const Header& header, std::uint64_t stream_name, const Extent& extent) {
  if (!extent.sane()) return protocol_error("a copy whose sizes do not fit together");
  CUresult status;
  Stream* stream = find_stream(stream_name, status);
  if (stream != nullptr) status = check_extent(extent);
  if (status != CUDA_SUCCESS) {
    if (replaying_ == nullptr) return finish(header, status);
    return fail_held(*replaying_, status), Result<>();
  }
  if (hold(*stream)) return {};
  if (stream->capturing) return finish(header, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  if (extent.bytes() == 0) return answer_when_done(header, *stream);
  return download(header, *stream, extent, {});
}

/// A copy from the device that need not be held: into the answer, or to the client's memory.
Result<> Session::download(const Header& header, Stream& stream, const Extent& extent,
                           const std::optional<PeerMemory>& to) {
  if (extent.bytes() <= limits::kInlinePayloadBytes) return download_small(header, stream, extent, to);
  std::shared_ptr<Download> copy = replaying_ != nullptr ? replaying_->download : nullptr;
  // A client that is slow to acknowledge what it could ask for again waits for its next copies.
  const bool too_much_kept = link_.resumable() && link_.kept_bytes() > limits::kArenaBytes;
  if (copy == nullptr && !too_much_kept) {
    before_issue(stream);
    copy = downloads_.begin(header, extent, stream, to);
  }
  if (copy != nullptr) downloads_.issue(copy);
  const bool complete = copy != nullptr && copy->all_issued();
  if (replaying_ != nullptr) {
    replaying_->download = std::move(copy);
    incomplete_ = !complete;
  } else if (!complete) {
    Held held = copy_of_frame();
    held.download = std::move(copy);
    if (to) held.region = to->region;
    keep(stream, std::move(held));
  }
  return {};
}

Result<> Session::download_small(const Header& header, Stream& stream, const Extent& extent,
                                 const std::optional<PeerMemory>& to) {
  const bool by_peer = to && to->region == nullptr;
  before_issue(stream);
  const Arena::Piece room = arena_.acquire_piece(extent.bytes(), by_peer);
  if (room.data == nullptr) {
    if (by_peer && arena_.unreachable()) return finish(header, CUDA_ERROR_OUT_OF_MEMORY);
    incomplete_ = replaying_ != nullptr;
    if (replaying_ != nullptr) return {};
    Held held = copy_of_frame();
    if (to) held.region = to->region;
    keep(stream, std::move(held));
    return {};
  }
  make_current(*stream.context);
  const CUresult status = copy_from_device(driver_, piece_at(extent, 0, extent.bytes()), room.data, stream.handle);
  if (status != CUDA_SUCCESS) {
    arena_.release(room.chunk);
    return finish(header, status);
  }
  downloads_.issued_small(header, stream, room, extent.bytes(), to);
  return {};
}

Result<> Session::operator()(const Header& header, const wire::CopyOnDevice& call) {
  const Extent to{call.destination(), call.destination_pitch(), call.width(), call.height()};
  const Extent from{call.source(), call.source_pitch(), call.width(), call.height()};
  if (!to.sane() || !from.sane()) return protocol_error("a copy whose sizes do not fit together");
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  if (status = check_extent(to); status != CUDA_SUCCESS) return finish(header, status);
  if (status = check_extent(from); status != CUDA_SUCCESS) return finish(header, status);
  if (to.bytes() == 0) return finish(header, CUDA_SUCCESS);
  if (hold(*stream)) return {};
  before_issue(*stream);
  if (to.contiguous() && from.contiguous()) {
    status = driver_.cuMemcpyDtoDAsync(to.address, from.address, to.bytes(), stream->handle);
  } else {
    CUDA_MEMCPY2D copy{};
    copy.srcMemoryType = copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    copy.srcDevice = from.address;
    copy.srcPitch = from.pitch;
    copy.dstDevice = to.address;
    copy.dstPitch = to.pitch;
    copy.WidthInBytes = to.width;
    copy.Height = to.height;
    status = driver_.cuMemcpy2DAsync(&copy, stream->handle);
  }
  if (status == CUDA_SUCCESS) completions_.issued(*stream);
  return finish(header, status);
}

Result<> Session::operator()(const Header& header, const wire::MemSet& call) {
  const std::uint64_t element = call.element_bytes();
  if (element != 1 && element != 2 && element != 4) return protocol_error("a set of elements that do not exist");
  if (call.width() > limits::kMaxPayloadBytes) return protocol_error("a set whose sizes do not fit together");
  const Extent extent{call.destination(), call.pitch(), call.width() * element, call.height()};
  if (!extent.sane()) return protocol_error("a set whose sizes do not fit together");
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  if (status = check_extent(extent); status != CUDA_SUCCESS) return finish(header, status);
  if (extent.bytes() == 0) return finish(header, CUDA_SUCCESS);
  if (extent.address % element != 0 || (extent.height > 1 && extent.pitch % element != 0))
    return finish(header, CUDA_ERROR_INVALID_VALUE);
  if (hold(*stream)) return {};
  before_issue(*stream);
  const CUdeviceptr at = extent.address;
  const CUstream on = stream->handle;
  const auto byte = static_cast<unsigned char>(call.value());
  const auto half = static_cast<unsigned short>(call.value());
  if (extent.contiguous()) {
    const std::uint64_t count = extent.bytes() / element;
    status = element == 1   ? driver_.cuMemsetD8Async(at, byte, count, on)
             : element == 2 ? driver_.cuMemsetD16Async(at, half, count, on)
                            : driver_.cuMemsetD32Async(at, call.value(), count, on);
  } else {
    const std::uint64_t width = call.width();
    status = element == 1   ? driver_.cuMemsetD2D8Async(at, extent.pitch, byte, width, extent.height, on)
             : element == 2 ? driver_.cuMemsetD2D16Async(at, extent.pitch, half, width, extent.height, on)
                            : driver_.cuMemsetD2D32Async(at, extent.pitch, call.value(), width, extent.height, on);
  }
  if (status == CUDA_SUCCESS) completions_.issued(*stream);
  return finish(header, status);
}

}  // namespace avec::worker
