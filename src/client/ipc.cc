#include "client/ipc.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "client/client.h"
#include "client/context.h"
#include "client/device.h"
#include "client/event.h"
#include "client/slab.h"
#include "client/status.h"
#include "session/session.h"

namespace avec::client {
namespace {

// The client keeps in a handle: the bytes of the mapping, and in the second word where in it the block
// lies, below bit kOffsetBits, and the bytes of the block, in units of 2^kUnitBits.
constexpr unsigned kOffsetBits = 40;
constexpr unsigned kUnitBits = 9;

/// The executor's part of a handle, by which it is known again.
template <class Bytes>
Bytes identity(Bytes bytes) {
  std::fill_n(bytes.begin(), 16, std::byte{0});
  return bytes;
}

wire::IpcHandle to_wire(const void* bytes) {
  wire::IpcHandle handle;
  static_assert(sizeof handle == sizeof(CUipcMemHandle));
  std::memcpy(static_cast<void*>(&handle), bytes, sizeof handle);
  return handle;
}

}  // namespace

CUresult SharedMemory::get_handle(CUipcMemHandle* handle, CUdeviceptr address) {
  const auto block = client_.heap().find(address);
  if (!block || block->kind != BlockKind::kPlain || block->base != address) return CUDA_ERROR_INVALID_VALUE;
  const auto reply = client_.session().call(wire::IpcExportMemory(0, address));
  if (!reply) return to_cuda(reply.error());
  Bytes bytes;
  std::memcpy(bytes.data(), &reply->handle(), sizeof bytes);
  {
    const std::scoped_lock lock(mutex_);
    exported_.insert(identity(bytes));
  }
  const std::uint64_t offset = address - reply->base();
  const std::uint64_t units = (block->bytes + (1u << kUnitBits) - 1) >> kUnitBits;
  const std::array<std::uint64_t, 2> words{reply->bytes(), offset | units << kOffsetBits};
  std::memcpy(bytes.data(), words.data(), sizeof words);
  std::memcpy(handle, bytes.data(), sizeof bytes);
  return CUDA_SUCCESS;
}

CUresult SharedMemory::open(CUdeviceptr* address, const CUipcMemHandle& given, CUdevice device) {
  Bytes handle;
  std::memcpy(handle.data(), &given, sizeof handle);
  std::array<std::uint64_t, 2> words;
  std::memcpy(words.data(), handle.data(), sizeof words);
  const std::uint64_t bytes = words[0], offset = words[1] & ((std::uint64_t{1} << kOffsetBits) - 1);
  const std::uint64_t block_bytes = words[1] >> kOffsetBits << kUnitBits;
  {
    const std::scoped_lock lock(mutex_);
    if (exported_.contains(identity(handle))) return CUDA_ERROR_INVALID_CONTEXT;  // by this very process
    for (auto& [base, opened] : opened_) {
      if (opened.handle != handle) continue;
      ++opened.count;
      *address = base;
      return CUDA_SUCCESS;
    }
  }
  Heap& heap = client_.heap();
  const std::uint64_t granularity = heap.granularity();
  if (bytes == 0 || bytes % granularity != 0 || offset >= bytes || block_bytes > bytes - offset)
    return CUDA_ERROR_INVALID_VALUE;
  session::Session& session = client_.session();
  const std::uint64_t name = client_.mint();
  const auto imported = session.call(wire::IpcImportMemory(name, bytes, device, 0, to_wire(handle.data())));
  if (!imported) return to_cuda(imported.error());
  const std::uint64_t mapping = heap.reserve(bytes, granularity, 0);
  if (mapping != 0) (void)session.post(wire::MemMapAt(mapping, bytes, name, 1, 0));
  (void)session.post(wire::MemRelease(name));
  if (mapping == 0) return CUDA_ERROR_MAP_FAILED;
  DeviceBlock block{mapping + offset, block_bytes,    current_context,
                    device,           heap.next_id(), BlockKind::kShared};
  const std::scoped_lock lock(mutex_);
  opened_.emplace(block.base, Opened{handle, block, mapping, bytes});
  *address = block.base;
  return CUDA_SUCCESS;
}

CUresult SharedMemory::close(CUdeviceptr address) {
  std::uint64_t mapping, bytes;
  {
    const std::scoped_lock lock(mutex_);
    const auto found = opened_.find(address);
    if (found == opened_.end()) return CUDA_ERROR_INVALID_VALUE;
    if (--found->second.count != 0) return CUDA_SUCCESS;
    mapping = found->second.mapping;
    bytes = found->second.mapping_bytes;
    opened_.erase(found);
  }
  const CUresult result = to_cuda(client_.session().call(wire::MemUnmap(mapping, bytes)));
  client_.heap().unreserve(mapping, bytes);
  return client_.synchronized(result);
}

std::optional<DeviceBlock> SharedMemory::find(std::uint64_t address) const {
  const std::scoped_lock lock(mutex_);
  const auto next = opened_.upper_bound(address);
  if (next == opened_.begin()) return std::nullopt;
  const DeviceBlock& block = std::prev(next)->second.block;
  return address - block.base < block.bytes ? std::optional(block) : std::nullopt;
}

// ---- events -------------------------------------------------------------------------------------

CUresult event_get_handle(CUipcEventHandle* handle, CUevent event_handle) {
  Event* event = Slab<Event>::find(event_handle);
  if (event == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if ((event->flags & CU_EVENT_INTERPROCESS) == 0) return CUDA_ERROR_INVALID_HANDLE;
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto reply = event->context->client->session().call(wire::IpcExportEvent(event->name));
  if (!reply) return to_cuda(reply.error());
  std::memcpy(handle, &reply->handle(), sizeof *handle);
  recorded_elsewhere(*event);  // perhaps by another process
  return CUDA_SUCCESS;
}

CUresult event_open_handle(CUevent* handle, const CUipcEventHandle& shared) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Event* event = Slab<Event>::make();
  if (event == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  event->context = context;
  event->name = context->client->mint();
  event->flags = CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING;
  recorded_elsewhere(*event);
  const auto opened = context->client->session().call(
      wire::IpcOpenEvent(event->name, context->name.load(), to_wire(&shared)));
  if (!opened) {
    Slab<Event>::destroy(event);
    return to_cuda(opened.error());
  }
  const std::scoped_lock lock(context->mutex);
  context->events.insert(event);
  *handle = handle_of(event);
  return CUDA_SUCCESS;
}

}  // namespace avec::client
