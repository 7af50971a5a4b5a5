// Physical memory apart from addresses, access rights, peers, and streams that follow each other.
#include <algorithm>

#include "executor/worker/session.h"

namespace avec::worker {

bool Session::in_device_range(std::uint64_t address, std::uint64_t bytes) const {
  const std::uint64_t base = device_range_.base(), size = device_range_.bytes();
  return address >= base && address - base <= size && bytes <= size - (address - base);
}

CUmemAllocationProp Session::memory_property(int device) {
  CUmemAllocationProp property{};
  property.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  property.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  property.location.id = device;
  property.allocFlags.gpuDirectRDMACapable = gpu_direct_.wants(device) ? 1 : 0;
  if (exportable_[static_cast<std::size_t>(device)])
    property.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  return property;
}

std::vector<CUmemAccessDesc> Session::access_with_peers(int owner) const {
  std::vector<CUmemAccessDesc> access;
  for (int device = 0; device < device_count_; ++device) {
    if (device != owner && !peers_[static_cast<std::size_t>(device)][static_cast<std::size_t>(owner)]) continue;
    CUmemAccessDesc desc{};
    desc.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    desc.location.id = device;
    desc.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    access.push_back(desc);
  }
  return access;
}

// ---- physical memory ----------------------------------------------------------------------

Result<> Session::operator()(const Header& header, const wire::MemCreate& call) {
  if (call.bytes() == 0 || call.bytes() % granularity_ != 0)
    return protocol_error("memory that is not a multiple of the granularity");
  if (call.device() < 0 || call.device() >= device_count_) return finish(header, CUDA_ERROR_INVALID_DEVICE);
  Physical* memory = physical_.add(call.memory());
  if (memory == nullptr) return protocol_error("a memory's name that cannot be given");
  memory->bytes = call.bytes();
  memory->device = call.device();
  memory->making = true;
  create_on_helper(header, call);
  return {};
}

void Session::create_on_helper(Header call, wire::MemCreate body) {
  const std::uint64_t unmapped_before = unmapped_;
  helpers_.run([this, call, body, unmapped_before,
                property = memory_property(body.device())]() -> std::function<void()> {
    CUmemGenericAllocationHandle handle = 0;
    const CUresult status = driver_.cuMemCreate(&handle, body.bytes(), &property, 0);
    return [this, call, body, handle, status, unmapped_before] {
      if (status == CUDA_ERROR_OUT_OF_MEMORY && (memory_coming_back() || unmapped_ != unmapped_before)) {
        // The client has freed memory that is not back yet, or came back meanwhile.
        waiting_creates_.emplace_back(call, body);
        if (!memory_coming_back()) map_waiting();
        return;
      }
      if (status == CUDA_SUCCESS) {
        Physical* memory = physical_.find(body.memory());
        memory->handle = handle;
        memory->making = false;
      } else {
        physical_.remove(body.memory());
      }
      finish(call, status);
    };
  });
}

Result<> Session::operator()(const Header& header, const wire::MemRelease& call) {
  const Physical* memory = physical_.find(call.memory());
  if (memory == nullptr || memory->making) return protocol_error("the release of memory that there is not");
  const CUmemGenericAllocationHandle handle = memory->handle;
  physical_.remove(call.memory());
  return finish(header, driver_.cuMemRelease(handle));
}

void Session::release_physical() {
  for (auto& [name, memory] : physical_)
    if (memory->handle != 0) driver_.cuMemRelease(memory->handle);
}

Result<> Session::operator()(const Header& header, const wire::MemMapAt& call) {
  if (call.bytes() == 0 || call.bytes() % granularity_ != 0 || call.address() % granularity_ != 0)
    return protocol_error("a mapping that is not a multiple of the granularity");
  if (!in_device_range(call.address(), call.bytes()))
    return protocol_error("a mapping outside of the device range");
  const Physical* memory = physical_.find(call.memory());
  if (memory == nullptr || memory->making || call.bytes() > memory->bytes)
    return protocol_error("a mapping of memory that there is not");
  // The loop does not wait for the memory that lay there to go; the frames behind this one do.
  if (unmap_pending(call.address(), call.bytes())) {
    stalled_map_.emplace(header, call);
    return {};
  }
  const bool busy = std::ranges::any_of(mapping_now_, [&](const auto& other) {
    return other.first < call.address() + call.bytes() && call.address() < other.first + other.second;
  });
  if (busy || memory_.overlaps(call.address(), call.bytes())) return protocol_error("a mapping over another one");
  CUresult status = driver_.cuMemMap(call.address(), call.bytes(), 0, memory->handle, 0);
  if (status != CUDA_SUCCESS) return finish(header, status);
  if (call.access() != 0) {
    const auto access = access_with_peers(memory->device);
    status = driver_.cuMemSetAccess(call.address(), call.bytes(), access.data(), access.size());
  }
  memory_.add(call.address(), {call.bytes(), 0, memory->device, 0});
  return finish(header, status);
}

Result<> Session::operator()(const Header& header, const wire::MemSetAccess& call) {
  if (!memory_.whole(call.address(), call.bytes()) || unmap_pending(call.address(), call.bytes()))
    return finish(header, CUDA_ERROR_INVALID_VALUE);
  if (call.device() < 0 || call.device() >= device_count_) return finish(header, CUDA_ERROR_INVALID_DEVICE);
  CUmemAccessDesc access{};
  access.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  access.location.id = call.device();
  access.flags = static_cast<CUmemAccess_flags>(call.flags());
  return finish(header, driver_.cuMemSetAccess(call.address(), call.bytes(), &access, 1));
}

// ---- streams and peers ----------------------------------------------------------------------

Result<> Session::operator()(const Header& header, const wire::StreamFollow& call) {
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  Stream* after = streams_.find(call.after());
  for (auto& dying : dying_streams_)
    if (dying->name == call.after()) after = dying.get();
  if (after == nullptr || after == stream || after->poison != CUDA_SUCCESS) return finish(header, CUDA_SUCCESS);
  if (hold(*stream, {held_end(*after)})) return {};
  if (after->issued == after->completed) return finish(header, CUDA_SUCCESS);
  if (Completions::excluded(*after) || Completions::excluded(*stream))
    return finish(header, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  CUevent event = completions_.record(*after, status);
  if (event == nullptr) return finish(header, CUDA_SUCCESS);  // it has failed: its work ends with its error
  before_issue(*stream);
  status = driver_.cuStreamWaitEvent(stream->handle, event, 0);
  completions_.give_event(*after->context, event);
  if (status == CUDA_SUCCESS) completions_.issued(*stream);
  return finish(header, status);
}

Result<> Session::operator()(const Header& header, const wire::ContextPeerAccess& call) {
  CUresult status;
  Context* context = find_context(call.context(), status);
  if (context == nullptr) return finish(header, status);
  Context* peer = find_context(call.peer(), status);
  if (peer == nullptr) return finish(header, status);
  make_current(*context);
  status = call.enable() != 0 ? driver_.cuCtxEnablePeerAccess(peer->handle, 0)
                              : driver_.cuCtxDisablePeerAccess(peer->handle);
  // Between contexts of one device the client says yes where the driver has nothing to enable.
  if (status == CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED || status == CUDA_ERROR_PEER_ACCESS_NOT_ENABLED)
    status = CUDA_SUCCESS;
  return finish(header, status);
}

}  // namespace avec::worker
