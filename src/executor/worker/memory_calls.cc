// Mapping and unmapping physical memory, fences, and the common address ranges.
#include <algorithm>

#include "executor/worker/session.h"

namespace avec::worker {
namespace {

bool overlap(std::uint64_t a, std::uint64_t a_bytes, std::uint64_t b, std::uint64_t b_bytes) {
  return a < b + b_bytes && b < a + a_bytes;
}

}  // namespace

bool Session::unmap_pending(std::uint64_t address, std::uint64_t bytes) const {
  return std::ranges::any_of(unmaps_,
                             [&](const PendingUnmap& u) { return overlap(address, bytes, u.address, u.bytes); });
}

Result<> Session::operator()(const Header& header, const wire::MemMap& call) {
  if (call.bytes() == 0 || call.bytes() % granularity_ != 0 || call.address() % granularity_ != 0)
    return protocol_error("a mapping that is not a multiple of the granularity");
  if (!in_device_range(call.address(), call.bytes()) && !in_host_range(call.address(), call.bytes()))
    return protocol_error("a mapping outside of the common ranges");
  if (call.device() < 0 || call.device() >= device_count_) return finish(header, CUDA_ERROR_INVALID_DEVICE);
  // Addresses whose memory is still being taken away come back first.
  if (unmap_pending(call.address(), call.bytes())) {
    waiting_maps_.emplace_back(header, call);
    return {};
  }
  const bool busy = std::ranges::any_of(
      mapping_now_, [&](const auto& m) { return overlap(call.address(), call.bytes(), m.first, m.second); });
  if (busy || memory_.overlaps(call.address(), call.bytes())) return protocol_error("a mapping over another one");
  map_on_helper(header, call);
  return {};
}

void Session::map_on_helper(Header call, wire::MemMap body) {
  mapping_now_.emplace_back(body.address(), body.bytes());
  const std::uint64_t unmapped_before = unmapped_;
  const std::vector<CUmemAccessDesc> access = access_with_peers(body.device());
  const CUmemAllocationProp property = memory_property(body.device());
  helpers_.run([this, call, body, access, unmapped_before, property]() -> std::function<void()> {
    CUmemGenericAllocationHandle handle = 0;
    CUresult status = driver_.cuMemCreate(&handle, body.bytes(), &property, 0);
    if (status == CUDA_SUCCESS) {
      status = driver_.cuMemMap(body.address(), body.bytes(), 0, handle, 0);
      if (status == CUDA_SUCCESS) {
        status = driver_.cuMemSetAccess(body.address(), body.bytes(), access.data(), access.size());
        if (status != CUDA_SUCCESS) driver_.cuMemUnmap(body.address(), body.bytes());
      }
      if (status != CUDA_SUCCESS) driver_.cuMemRelease(handle);
    }
    return [this, call, body, handle, status, unmapped_before] {
      std::erase(mapping_now_, std::pair(body.address(), body.bytes()));
      if (status == CUDA_ERROR_OUT_OF_MEMORY && (memory_coming_back() || unmapped_ != unmapped_before)) {
        // The client has freed memory that is not back yet, or came back meanwhile.
        waiting_maps_.emplace_back(call, body);
        if (!memory_coming_back()) map_waiting();
        return;
      }
      if (status == CUDA_SUCCESS) memory_.add(body.address(), {body.bytes(), handle, body.device(), 0});
      finish(call, status);
    };
  });
}

Result<> Session::operator()(const Header& header, const wire::MemUnmap& call) {
  if (replaying_ == nullptr) {
    if (!memory_.whole(call.address(), call.bytes()) || unmap_pending(call.address(), call.bytes()))
      return protocol_error("an unmapping of what is not mapped");
    unmaps_.push_back({call.address(), call.bytes(), header.sequence()});
    if (hold_behind(all_streams(), false)) return {};
  }
  unmap_when_done(header, call);
  return {};
}

void Session::unmap_when_done(Header call, wire::MemUnmap body) {
  std::vector<Stream*> busy;
  for (Stream* stream : all_streams())
    if (stream->issued != stream->completed) busy.push_back(stream);
  completions_.then_all(busy, [this, call, body](CUresult) {
    later_.push_back([this, call, body] { unmap_on_helper(call, body); });
  });
}

void Session::unmap_on_helper(Header call, wire::MemUnmap body) {
  if (comparing_) return when_not_comparing([this, call, body] { unmap_on_helper(call, body); });
  coherent_.forget(body.address(), body.bytes());
  std::vector<std::pair<std::uint64_t, Mapping>> taken;
  while (auto mapping = memory_.take(body.address(), body.bytes())) taken.push_back(*mapping);
  for (const auto& [address, mapping] : taken) {
    gpu_direct_.forget(address);
    if (exports_ != nullptr) exports_->remove({ExportTag::Kind::kAddress, address});
  }
  helpers_.run([this, call, taken = std::move(taken)]() -> std::function<void()> {
    CUresult status = CUDA_SUCCESS;
    for (const auto& [address, mapping] : taken) {
      const CUresult unmapped = driver_.cuMemUnmap(address, mapping.bytes);
      const CUresult released = mapping.handle != 0 ? driver_.cuMemRelease(mapping.handle) : CUDA_SUCCESS;
      if (status == CUDA_SUCCESS) status = unmapped != CUDA_SUCCESS ? unmapped : released;
    }
    return [this, call, status] {
      std::erase_if(unmaps_, [&](const PendingUnmap& u) { return u.sequence == call.sequence(); });
      ++unmapped_;
      finish(call, status);
      map_waiting();
    };
  });
}

void Session::map_waiting() {
  const auto check = [this](const Result<>& handled) {
    if (!handled) close_with(std::string("protocol error: ") + handled.error().what);
  };
  if (stalled_map_ && !unmap_pending(stalled_map_->second.address(), stalled_map_->second.bytes())) {
    const auto [call, body] = *std::exchange(stalled_map_, std::nullopt);
    check((*this)(call, body));
  }
  for (auto& [call, body] : std::exchange(waiting_maps_, {})) check((*this)(call, body));
  for (auto& [call, body] : std::exchange(waiting_creates_, {})) create_on_helper(call, body);
  make_waiting_arrays();
}

Result<> Session::operator()(const Header& header, const wire::MemFence& call) {
  if (call.stream() != 0) {
    CUresult status;
    Stream* stream = find_stream(call.stream(), status);
    if (stream == nullptr) return finish(header, CUDA_SUCCESS);  // the copy before it says what is wrong
    if (hold_behind({stream}, true)) return {};
    completions_.poll();
    if (stream->issued != stream->completed) {
      before_issue(*stream);  // so that the new fence comes after the one before
      fence({stream});
    }
    return finish(header, CUDA_SUCCESS);
  }
  if (hold_behind(all_streams(), true)) return {};
  completions_.poll();
  std::vector<Stream*> busy;
  for (Stream* stream : all_streams())
    if (stream->issued != stream->completed) busy.push_back(stream);
  if (!std::ranges::all_of(busy, &Stream::beside)) {
    fence(std::move(busy));
  } else {
    for (Stream* stream : busy) {
      before_issue(*stream);
      fence({stream});
    }
  }
  return finish(header, CUDA_SUCCESS);
}

/// Joins the busy streams in one of them; every other stream waits for that point before its next work
/// (before_issue). Nobody on the host waits. A stream that captures is represented by its last mark. A stream
/// beside the others joins none of them: it has a fence of its own.
void Session::fence(std::vector<Stream*> busy) {
  const auto open = [](const Stream* stream) { return !Completions::excluded(*stream); };
  std::vector<Stream*> candidates = busy;
  if (!captures_.empty()) candidates.insert(candidates.end(), busy.front()->context->streams.begin(), busy.front()->context->streams.end());
  const bool beside = std::ranges::all_of(busy, &Stream::beside);
  const auto found = std::ranges::find_if(
      candidates, [&](const Stream* stream) { return open(stream) && stream->beside == beside; });
  if (found == candidates.end()) return;  // all of them capture: no work can be issued
  Stream& hub = **found;
  CUresult status;
  for (Stream* stream : busy) {
    if (stream == &hub) continue;
    if (!open(stream)) {
      if (!stream->marks.empty()) driver_.cuStreamWaitEvent(hub.handle, stream->marks.back().event, 0);
      continue;
    }
    CUevent event = completions_.record(*stream, status);
    if (event == nullptr) continue;  // broken context: its work ends with its error
    driver_.cuStreamWaitEvent(hub.handle, event, 0);
    completions_.give_event(*stream->context, event);
  }
  completions_.issued(hub);
  CUevent event = completions_.record(hub, status);
  if (event == nullptr) return;
  Fence& made = beside ? beside_fence_ : fence_;
  if (made.event != nullptr) completions_.give_event(*made.context, made.event);
  made.event = event;
  made.context = hub.context;
  (beside ? hub.beside_fence_seen : hub.fence_seen) = ++made.count;
}

Result<> Session::operator()(const Header& header, const wire::MemGetInfo& call) {
  CUresult status;
  Context* context = find_context(call.context(), status);
  if (context == nullptr) return finish(header, status);
  make_current(*context);
  std::size_t free = 0, total = 0;
  status = driver_.cuMemGetInfo(&free, &total);
  if (status != CUDA_SUCCESS) return finish(header, status);
  return answer(header, wire::MemGetInfoReply(free, total));
}

}  // namespace avec::worker
