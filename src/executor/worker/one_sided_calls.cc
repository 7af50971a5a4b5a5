// Payload beside the stream: copies that read or write memory of the client, its pinned memory
// that is mapped here, and the session's slots.
#include <spdlog/spdlog.h>

#include "executor/worker/session.h"

namespace avec::worker {
namespace {

RemoteKey to_key(const wire::RemoteKeyWords& words) { return {{words.a(), words.b(), words.c(), words.d()}}; }

wire::RemoteKeyWords to_words(const RemoteKey& key) {
  return {key.words[0], key.words[1], key.words[2], key.words[3]};
}

}  // namespace

void Session::use_one_sided(OneSided* one_sided) {
  one_sided_ = one_sided;
  accesses_.use(one_sided);
  gpu_direct_.use(options_.gpudirect && one_sided != nullptr && !maps() ? one_sided : nullptr, name_);
  arena_.add = nullptr;
  arena_.remove = nullptr;
  if (one_sided == nullptr || maps()) return;
  arena_.add = [this, one_sided](MutableBytes chunk) {
    const TransportError error = one_sided->add(chunk);
    if (error) {
      spdlog::warn("{}: memory cannot be used for one-sided access: {}; is the limit of locked memory (ulimit -l) too low?",
                   name_, to_string(error.code));
    }
    return !error;
  };
  arena_.remove = [one_sided](MutableBytes chunk) { one_sided->remove(chunk); };
}

CUresult Session::find_peer_memory(const wire::RemoteKeyWords& words, std::uint64_t offset, std::uint64_t bytes,
                                   RemoteAccess access, PeerMemory& found) {
  found.key = to_key(words);
  found.offset = offset;
  if (replaying_ != nullptr && replaying_->region != nullptr) {
    found.region = replaying_->region;  // checked when the call came; it may be closing now
    return CUDA_SUCCESS;
  }
  if (!found.key) {
    if (slots_.region == nullptr || !slots_.region->holds(offset, bytes)) return CUDA_ERROR_INVALID_VALUE;
    if (access == RemoteAccess::kWrite && slots_.key) {
      found.key = slots_.key;
    } else {
      found.region = slots_.region;
    }
    return CUDA_SUCCESS;
  }
  if (!maps()) return offset + bytes >= offset ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  found.region = regions_.find(found.key);
  return found.region != nullptr && found.region->holds(offset, bytes) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

template <class Body>
Result<> Session::check_peer_copy(const Header& header, const Body& call, RemoteAccess access, PeerCopy& copy) {
  if (one_sided_ == nullptr) return protocol_error("a copy by one-sided access on a connection without it");
  if (!copy.extent.sane()) return protocol_error("a copy whose sizes do not fit together");
  CUresult status;
  copy.stream = find_stream(call.stream(), status);
  if (copy.stream != nullptr) status = check_extent(copy.extent);
  if (status == CUDA_SUCCESS && copy.extent.bytes() != 0)
    status = find_peer_memory(call.key(), call.offset(), copy.extent.bytes(), access, copy.memory);
  if (status != CUDA_SUCCESS) return refuse(header, status);
  if (hold(*copy.stream)) {
    copy.stream->held.back().region = copy.memory.region;
    return {};
  }
  // A graph would keep an address of this process.
  if (copy.stream->capturing) return refuse(header, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  if (copy.extent.bytes() == 0) return answer_when_done(header, *copy.stream);
  copy.now = true;
  return {};
}

/// The copy engine reaches the client's memory: one copy, answered when the device has done it.
Result<> Session::copy_directly(const Header& header, const PeerCopy& copy, RemoteAccess access) {
  before_issue(*copy.stream);
  const CopyPiece whole = piece_at(copy.extent, 0, copy.extent.bytes());
  const CUresult status = access == RemoteAccess::kRead
                              ? copy_to_device(driver_, whole, copy.memory.direct(), copy.stream->handle)
                              : copy_from_device(driver_, whole, copy.memory.direct(), copy.stream->handle);
  if (status != CUDA_SUCCESS) return finish(header, status);
  completions_.issued(*copy.stream);
  completions_.then(*copy.stream, [this, header, region = copy.memory.region](CUresult done) {
    finish_after_downloads(header, done);
  });
  return {};
}

bool Session::by_adapter(const PeerCopy& copy) {
  if (replaying_ == nullptr) return direct_copies_.suits(copy.extent, copy.memory);
  if (replaying_->direct != nullptr) return true;
  const bool otherwise = replaying_->fetch != nullptr || replaying_->download != nullptr;  // begun that way
  return !otherwise && direct_copies_.suits(copy.extent, copy.memory);
}

Result<> Session::copy_by_adapter(const Header& header, PeerCopy copy, RemoteAccess access) {
  std::shared_ptr<DirectCopy> direct = replaying_ != nullptr ? replaying_->direct : nullptr;
  if (direct == nullptr)
    direct = direct_copies_.begin(header, copy.extent, std::move(copy.memory), access, *copy.stream);
  const bool over = direct_copies_.advance(direct, *copy.stream);
  if (replaying_ != nullptr) {
    replaying_->direct = std::move(direct);
    incomplete_ = !over;
  } else if (!over) {
    Held held = copy_of_frame();
    held.direct = std::move(direct);
    keep(*copy.stream, std::move(held));
  }
  return {};
}

Result<> Session::operator()(const Header& header, const wire::CopyToDeviceFrom& call) {
  return copy_from_peer(header, call, {call.destination(), call.pitch(), call.width(), call.height()});
}
Result<> Session::operator()(const Header& header, const wire::CopyFromDeviceTo& call) {
  return copy_to_peer(header, call, {call.source(), call.pitch(), call.width(), call.height()});
}
Result<> Session::operator()(const Header& header, const wire::CopyToArrayFrom& call) {
  Extent extent;
  const CUresult found = find_rows(call.destination(), call.width(), call.height(), extent);
  return found == CUDA_SUCCESS ? copy_from_peer(header, call, extent) : refuse(header, found);
}
Result<> Session::operator()(const Header& header, const wire::CopyFromArrayTo& call) {
  Extent extent;
  const CUresult found = find_rows(call.source(), call.width(), call.height(), extent);
  return found == CUDA_SUCCESS ? copy_to_peer(header, call, extent) : refuse(header, found);
}

template <class Body>
Result<> Session::copy_from_peer(const Header& header, const Body& call, const Extent& extent) {
  PeerCopy copy;
  copy.extent = extent;
  auto checked = check_peer_copy(header, call, RemoteAccess::kRead, copy);
  if (!copy.now) return checked;
  if (copy.memory.direct() != nullptr) return copy_directly(header, copy, RemoteAccess::kRead);
  if (by_adapter(copy)) return copy_by_adapter(header, std::move(copy), RemoteAccess::kRead);
  if (replaying_ != nullptr) {
    if (replaying_->fetch == nullptr) replaying_->fetch = fetches_.begin(header, copy.extent, std::move(copy.memory));
    incomplete_ = !fetches_.advance(replaying_->fetch, *copy.stream);
    return {};
  }
  auto fetch = fetches_.begin(header, copy.extent, copy.memory);
  if (fetches_.advance(fetch, *copy.stream)) return {};
  Held held = copy_of_frame();
  held.fetch = std::move(fetch);
  held.region = std::move(copy.memory.region);
  keep(*copy.stream, std::move(held));
  return {};
}

template <class Body>
Result<> Session::copy_to_peer(const Header& header, const Body& call, const Extent& extent) {
  PeerCopy copy;
  copy.extent = extent;
  auto checked = check_peer_copy(header, call, RemoteAccess::kWrite, copy);
  if (!copy.now) return checked;
  if (copy.memory.direct() != nullptr) return copy_directly(header, copy, RemoteAccess::kWrite);
  if (by_adapter(copy)) return copy_by_adapter(header, std::move(copy), RemoteAccess::kWrite);
  return download(header, *copy.stream, copy.extent, std::move(copy.memory));
}

Result<> Session::refuse(const Header& header, CUresult status) {
  if (replaying_ == nullptr) return finish(header, status);
  fail_held(*replaying_, status);
  return {};
}

void Session::fail_held(const Held& held, CUresult status) {
  if (held.header.opcode() == static_cast<std::uint16_t>(wire::Opcode::HostFunction)) {
    const std::uint64_t function = wire::read_struct<wire::HostFunction>(held.body).function();
    if (held.turn == nullptr) tell_turn(function, status);
    host_turns_.erase(function);
    return;
  }
  if (held.direct != nullptr) return direct_copies_.cancel(*held.direct, status);
  if (held.fetch != nullptr) return fetches_.cancel(*held.fetch, status);
  if (held.download != nullptr) return downloads_.cancel(held.download, status);
  finish(held.header, status);
}

Result<> Session::operator()(const Header& header, const wire::HostMemoryOpen& call) {
  if (one_sided_ == nullptr || !maps()) return protocol_error("memory to be mapped on a connection that maps none");
  const RemoteKey key = to_key(call.key());
  if (!key || call.bytes() == 0) return protocol_error("memory to be mapped that is none");
  if (regions_.known(key)) return protocol_error("memory that is mapped already");
  regions_.open(key, call.bytes(), [this, header](CUresult status) { finish(header, status); });
  return {};
}

Result<> Session::operator()(const Header& header, const wire::HostMemoryClose& call) {
  if (one_sided_ == nullptr || !maps()) return protocol_error("mapped memory on a connection that maps none");
  const RemoteKey key = to_key(call.key());
  const bool slots = key == slots_.client_key;  // they stay
  if (slots || !regions_.close(key, [this, header](CUresult status) { finish(header, status); }))
    return finish(header, CUDA_ERROR_INVALID_VALUE);
  return {};
}

Result<> Session::operator()(const Header& header, const wire::SlotsOpen& call) {
  if (one_sided_ == nullptr) return protocol_error("slots on a connection without one-sided access");
  const RemoteKey key = to_key(call.key());
  if (std::exchange(slots_.asked, true)) return protocol_error("slots that are opened twice");
  if (!key || call.bytes() == 0 || regions_.known(key)) return protocol_error("slots in no memory");
  if (call.bytes() > limits::kMaxSlotsBytes) return finish(header, CUDA_ERROR_INVALID_VALUE);
  slots_.client_key = key;
  if (maps()) {
    regions_.open(key, call.bytes(), [this, header, key](CUresult status) {
      if (status != CUDA_SUCCESS) return void(finish(header, status));
      slots_.region = regions_.find(key);
      answer(header, wire::SlotsOpenReply(to_words({})));
    });
    return {};
  }
  regions_.allocate(call.bytes(), [this, header, key](CUresult status, std::shared_ptr<HostRegion> region,
                                                      const RemoteKey& offered) {
    if (status != CUDA_SUCCESS) return void(finish(header, status));
    slots_.region = std::move(region);
    slots_.key = key;
    answer(header, wire::SlotsOpenReply(to_words(offered)));
  });
  return {};
}

}  // namespace avec::worker
