// Memory that host and device both use: shadows begin and end, the host's changes come, the device's go.
#include <cstring>

#include "executor/worker/session.h"

namespace avec::worker {

bool Session::in_host_range(std::uint64_t address, std::uint64_t bytes) const {
  const std::uint64_t base = host_range_.base(), size = host_range_.bytes();
  return address >= base && address - base <= size && bytes <= size - (address - base);
}

Result<> Session::operator()(const Header& header, const wire::CoherentBegin& call) {
  if (call.cleared() > 1) return protocol_error("a range that begins in no known way");
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  if (!memory_.covers(call.address(), call.bytes()) || unmap_pending(call.address(), call.bytes()))
    return finish(header, CUDA_ERROR_INVALID_VALUE);
  stream->beside = true;
  if (hold(*stream)) return {};
  status = coherent_.begin(call.address(), call.bytes());
  if (status != CUDA_SUCCESS || call.cleared() == 0) return finish(header, status);
  before_issue(*stream);
  status = driver_.cuMemsetD8Async(call.address(), 0, call.bytes(), stream->handle);
  if (status == CUDA_SUCCESS) completions_.issued(*stream);
  return finish(header, status);
}

Result<> Session::operator()(const Header& header, const wire::CoherentEnd& call) {
  return finish(header, coherent_.end(call.address(), call.bytes()) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

Result<> Session::operator()(const Header& header, const wire::CoherentWrite& call) {
  const ConstBytes payload = frame_->payload;
  if (frame_->payload_follows || payload.size() > limits::kInlinePayloadBytes)
    return protocol_error("changes over the limit of a frame");
  const std::uint64_t head = std::uint64_t{call.runs()} * sizeof(wire::CoherentRun);
  if (head > payload.size()) return protocol_error("changes that are not in their frame");
  std::vector<wire::CoherentRun> runs(call.runs());
  if (head != 0) std::memcpy(static_cast<void*>(runs.data()), payload.data(), head);
  std::uint64_t total = head;
  for (const wire::CoherentRun& run : runs) {
    if (run.bytes() == 0 || run.bytes() > payload.size() - total)
      return protocol_error("changes that are not in their frame");
    total += run.bytes();
  }
  if (total != payload.size()) return protocol_error("changes of the wrong size");
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  if (runs.empty()) return finish(header, CUDA_SUCCESS);
  if (hold(*stream)) return {};
  // A graph would keep an address of this process.
  if (Completions::excluded(*stream)) return finish(header, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  const Arena::Piece room = arena_.acquire_piece(total - head);
  if (room.data == nullptr) {
    if (replaying_ == nullptr) keep(*stream, copy_of_frame());
    incomplete_ = replaying_ != nullptr;
    return {};
  }
  std::memcpy(room.data, payload.data() + head, total - head);
  copied_bytes_ += total - head;
  before_issue(*stream);
  std::byte* from = room.data;
  for (const wire::CoherentRun& run : runs) {
    // Asked for now: while the frame was held the range, and its memory, may have gone.
    const bool there = coherent_.holds(run.address(), run.bytes()) && memory_.covers(run.address(), run.bytes());
    const CUresult copied = there ? driver_.cuMemcpyHtoDAsync(run.address(), from, run.bytes(), stream->handle)
                                  : CUDA_ERROR_INVALID_VALUE;
    if (copied == CUDA_SUCCESS) {
      coherent_.note(run.address(), {from, static_cast<std::size_t>(run.bytes())});
    } else if (status == CUDA_SUCCESS) {
      status = copied;
    }
    from += run.bytes();
  }
  completions_.issued(*stream);
  completions_.then(*stream, [this, chunk = room.chunk](CUresult) { arena_.release(chunk); });
  return finish(header, status);
}

Result<> Session::operator()(const Header& header, const wire::CoherentPull& call) {
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  if (comparing_) {
    if (after_comparing_.size() >= limits::kMaxDeferred) return protocol_error("too many comparisons asked for");
    after_comparing_.push_back([this, header, call] {
      InFrame frame{header, {reinterpret_cast<const std::byte*>(&call), sizeof call}, {}, false};
      frame_ = &frame;
      static_cast<void>((*this)(header, call));
      frame_ = nullptr;
    });
    return {};
  }
  if (hold(*stream)) return {};
  if (Completions::excluded(*stream)) return finish(header, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  completions_.place_marks(true);
  completions_.poll();
  const bool idle = !completions_.busy() && lanes_.empty() && floating_.empty();
  CUevent after = nullptr;
  if (stream->issued != stream->completed) {
    after = completions_.record(*stream, status);
    if (after == nullptr) return finish(header, status);
  }
  comparing_ = true;
  const CUcontext context = primary(stream->context->device);
  helpers_.run([this, header, from = call.from(), context, after, idle, owner = stream->context]() -> std::function<void()> {
    auto changes = std::make_shared<CoherentMemory::Changes>(coherent_.compare(from, context, after));
    return [this, header, changes, after, idle, owner] {
      comparing_ = false;
      if (after != nullptr) completions_.give_event(*owner, after);
      answer_pull(header, *changes, idle);
      while (!comparing_ && !after_comparing_.empty()) {
        const auto action = std::move(after_comparing_.front());
        after_comparing_.pop_front();
        action();
      }
    };
  });
  return {};
}

void Session::answer_pull(const Header& header, const CoherentMemory::Changes& changes, bool idle) {
  if (changes.status != CUDA_SUCCESS) return void(finish(header, changes.status));
  flatbuffers::FlatBufferBuilder builder(changes.bytes.size() + changes.runs.size() * sizeof(wire::CoherentRun) + 64);
  const auto runs = builder.CreateVectorOfStructs(changes.runs.data(), changes.runs.size());
  const auto bytes =
      builder.CreateVector(reinterpret_cast<const std::uint8_t*>(changes.bytes.data()), changes.bytes.size());
  builder.Finish(wire::CreateCoherentPullReply(builder, runs, bytes, changes.next, idle));
  link_.reply(header, CUDA_SUCCESS, {reinterpret_cast<const std::byte*>(builder.GetBufferPointer()), builder.GetSize()});
}

void Session::when_not_comparing(std::function<void()> action) {
  if (!comparing_) return action();
  after_comparing_.push_back(std::move(action));
}

void Session::forget_globals(std::uint64_t module) {
  for (const auto& [address, mapping] : memory_.all())
    if (mapping.module == module) coherent_.forget(address, mapping.bytes);
  memory_.forget_module(module);
}

bool Session::is_managed(CUdeviceptr address) const {
  unsigned managed = 0;
  return driver_.cuPointerGetAttribute != nullptr &&
         driver_.cuPointerGetAttribute(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, address) == CUDA_SUCCESS && managed != 0;
}

}  // namespace avec::worker
