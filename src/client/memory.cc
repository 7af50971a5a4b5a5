#include "client/memory.h"

#include <cstring>

#include "client/capture.h"
#include "client/client.h"
#include "client/coherence.h"
#include "client/context.h"
#include "client/device.h"
#include "client/graph_memory.h"
#include "client/ipc.h"
#include "client/memory_pool.h"
#include "client/managed.h"
#include "client/status.h"
#include "client/stream.h"
#include "client/virtual_memory.h"
#include "session/session.h"

namespace avec::client {
namespace {

/// Rows start at multiples of this, as on every GPU (CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT).
constexpr std::size_t kPitchAlignment = 512;

/// Waits for work that may use memory which the host uses too, and fetches what it wrote.
CUresult settle_coherent(Context& context) {
  return context.client->coherence().behind() ? synchronize(context) : CUDA_SUCCESS;
}

/// The block goes, or its device's side does: nothing uses it any more.
CUresult leave_coherence(Context& context, void* pointer, bool registered) {
  Client& client = *context.client;
  if (!client.coherent()) return CUDA_SUCCESS;
  auto address = reinterpret_cast<std::uint64_t>(pointer);
  const auto block = client.host_memory().find(address);
  if (!block || !block->coherent || block->managed || block->registered != registered || block->base != address)
    return CUDA_SUCCESS;
  if (const CUresult result = settle_coherent(context); result != CUDA_SUCCESS) return result;
  client.coherence().close(block->device_address);
  return CUDA_SUCCESS;
}

}  // namespace

CUresult memory_allocate(CUdeviceptr* address, std::size_t bytes) {
  if (const CUresult result = unsafe_call(); result != CUDA_SUCCESS) return result;
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (address == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::uint64_t base = 0;
  const CUresult result = context->client->heap().allocate(bytes, *context, base);
  if (result == CUDA_SUCCESS) *address = base;
  return result;
}

CUresult memory_allocate_pitch(CUdeviceptr* address, std::size_t* pitch, std::size_t width,
                               std::size_t height, unsigned element_bytes) {
  if (pitch == nullptr || width == 0 || height == 0) return CUDA_ERROR_INVALID_VALUE;
  if (element_bytes != 4 && element_bytes != 8 && element_bytes != 16) return CUDA_ERROR_INVALID_VALUE;
  const std::size_t row = (width + kPitchAlignment - 1) / kPitchAlignment * kPitchAlignment;
  std::size_t bytes;
  if (row < width || __builtin_mul_overflow(row, height, &bytes)) return CUDA_ERROR_INVALID_VALUE;
  const CUresult result = memory_allocate(address, bytes);
  if (result == CUDA_SUCCESS) *pitch = row;
  return result;
}

CUresult memory_free(CUdeviceptr address) {
  if (const CUresult result = unsafe_call(); result != CUDA_SUCCESS) return result;
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (address == 0) return CUDA_SUCCESS;
  Client& client = *context->client;
  if (const auto allocation = find_graph_allocation(address)) return free_graph_allocation(allocation);
  if (client.coherent()) [[unlikely]] {
    // CUDA's own waits for the device: then the host may read what it wrote.
    if (const CUresult result = settle_coherent(*context); result != CUDA_SUCCESS) return result;
    if (client.host_memory().in_range(address)) return client.managed().release(address);
  }
  const CUresult result = client.heap().release(address);
  if (result == CUDA_SUCCESS) return result;
  return client.pools().release(address, nullptr) == CUDA_SUCCESS ? CUDA_SUCCESS : result;
}

CUresult memory_allocate_managed(CUdeviceptr* address, std::size_t bytes, unsigned flags) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (!context->client->coherence().possible()) return CUDA_ERROR_NOT_SUPPORTED;
  if (address == nullptr || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  if (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST) return CUDA_ERROR_INVALID_VALUE;
  return context->client->managed().allocate(address, bytes, flags, *context);
}

CUresult memory_allocate_async(CUdeviceptr* address, std::size_t bytes, CUmemoryPool pool, CUstream handle) {
  Stream* stream;
  if (const CUresult result = resolve_stream(handle, stream); result != CUDA_SUCCESS) return result;
  if (address == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult result = capture_allows(*stream); result != CUDA_SUCCESS) return result;
  if (is_capturing(*stream)) return capture_allocation(*stream, bytes, *address);
  begin_work(*stream);  // it may come to wait for whoever used the memory before
  CUdeviceptr base = 0;
  const CUresult result = stream->context->client->pools().allocate(&base, bytes, pool, *stream);
  if (result == CUDA_SUCCESS) *address = base;
  return result;
}

CUresult memory_free_async(CUdeviceptr address, CUstream handle) {
  Stream* stream;
  if (const CUresult result = resolve_stream(handle, stream); result != CUDA_SUCCESS) return result;
  Client& client = *stream->context->client;
  if (const CUresult result = capture_allows(*stream); result != CUDA_SUCCESS) return result;
  if (is_capturing(*stream)) return capture_free(*stream, address);
  if (const auto allocation = find_graph_allocation(address)) return free_graph_allocation(allocation);
  const CUresult result = client.pools().release(address, stream);
  // Memory of cuMemAlloc: what is handed out in its place comes behind a fence.
  return result == CUDA_ERROR_NOT_FOUND ? client.heap().release(address) : result;
}

CUresult memory_info(std::size_t* free, std::size_t* total) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  context->client->heap().settle(context->device->ordinal());
  const auto reply = context->client->session().call(wire::MemGetInfo(context->name.load()));
  if (!reply) return to_cuda(reply.error());
  if (free != nullptr) *free = reply->free() + context->client->heap().free_bytes(context->device->ordinal());
  if (total != nullptr) *total = reply->total();
  return CUDA_SUCCESS;
}

CUresult memory_address_range(CUdeviceptr* base, std::size_t* bytes, CUdeviceptr address) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  const Pointee pointee = look_up(*context->client, address);
  if (!pointee.device && !pointee.host) return CUDA_ERROR_NOT_FOUND;
  if (base != nullptr) *base = pointee.device ? pointee.device->base : pointee.host->base;
  if (bytes != nullptr) *bytes = pointee.device ? pointee.device->bytes : pointee.host->bytes;
  return CUDA_SUCCESS;
}

CUresult host_allocate(void** pointer, std::size_t bytes, unsigned flags) {
  if (const CUresult result = unsafe_call(); result != CUDA_SUCCESS) return result;
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  constexpr unsigned kKnown =
      CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED;
  if (pointer == nullptr || (flags & ~kKnown) != 0) return CUDA_ERROR_INVALID_VALUE;
  const CUresult result = context->client->host_memory().allocate(pointer, bytes, flags, *context);
  if (result != CUDA_SUCCESS) return result;
  Coherence& coherence = context->client->coherence();
  coherence.watch();
  coherence.allocated(reinterpret_cast<std::uint64_t>(*pointer), (flags & CU_MEMHOSTALLOC_DEVICEMAP) != 0);
  return CUDA_SUCCESS;
}

CUresult host_free(void* pointer) {
  if (const CUresult result = unsafe_call(); result != CUDA_SUCCESS) return result;
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (const CUresult result = leave_coherence(*context, pointer, false); result != CUDA_SUCCESS) return result;
  return context->client->host_memory().release(pointer);
}

CUresult host_register(void* pointer, std::size_t bytes, unsigned flags) {
  if (const CUresult result = unsafe_call(); result != CUDA_SUCCESS) return result;
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  constexpr unsigned kKnown = CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP |
                              CU_MEMHOSTREGISTER_IOMEMORY | CU_MEMHOSTREGISTER_READ_ONLY;
  if ((flags & ~kKnown) != 0) return CUDA_ERROR_INVALID_VALUE;
  if ((flags & (CU_MEMHOSTREGISTER_IOMEMORY | CU_MEMHOSTREGISTER_READ_ONLY)) != 0)
    return CUDA_ERROR_NOT_SUPPORTED;
  return context->client->host_memory().add_registered(pointer, bytes, flags, *context);
}

CUresult host_unregister(void* pointer) {
  if (const CUresult result = unsafe_call(); result != CUDA_SUCCESS) return result;
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (const CUresult result = leave_coherence(*context, pointer, true); result != CUDA_SUCCESS) return result;
  return context->client->host_memory().remove_registered(pointer);
}

CUresult host_get_device_pointer(CUdeviceptr* address, void* pointer, unsigned flags) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (address == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  auto at = reinterpret_cast<std::uint64_t>(pointer);
  const auto block = context->client->host_memory().find(at);
  if (!block) return CUDA_ERROR_INVALID_VALUE;
  const std::uint64_t found = device_address_of(*context->client, *block);
  if (found == 0) return CUDA_ERROR_NOT_SUPPORTED;  // no memory takes part
  *address = found + (at - block->base);
  return CUDA_SUCCESS;
}

std::uint64_t device_address_of(Client& client, const HostBlock& block) {
  Coherence& coherence = client.coherence();
  if (!coherence.possible()) return 0;
  const std::uint64_t found = client.host_memory().device_address(block.base);
  if (found != 0 && !block.coherent) coherence.join_later(block.base);
  return found;
}

CUresult host_get_flags(unsigned* flags, void* pointer) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  auto address = reinterpret_cast<std::uint64_t>(pointer);
  const auto block = context->client->host_memory().find(address);
  if (flags == nullptr || !block || block->managed) return CUDA_ERROR_INVALID_VALUE;
  // Under unified addressing all pinned memory is mapped.
  *flags = block->flags | CU_MEMHOSTALLOC_DEVICEMAP;
  return CUDA_SUCCESS;
}

Pointee look_up(Client& client, std::uint64_t address, std::uint64_t bytes) {
  const bool in_range = client.heap().in_range(address);
  if (in_range) {
    auto block = client.heap().find(address);
    // A pool's segment: what counts is the block in it.
    if (block && block->kind == BlockKind::kPool) return {client.pools().find(address), std::nullopt, true, address};
    if (!block) block = client.virtual_memory().find(address, bytes);
    if (!block) block = client.shared_memory().find(address);
    if (block) return {block, std::nullopt, true, address};
  }
  if (auto foreign = client.foreign_ranges().find(address)) return {foreign, std::nullopt, in_range, address};
  if (in_range) return {std::nullopt, std::nullopt, true, address};
  auto host = client.host_memory().find(address);
  return {std::nullopt, host, false, address};
}

namespace {

template <class T>
CUresult give(void* data, T value) {
  std::memcpy(data, &value, sizeof value);
  return CUDA_SUCCESS;
}

/// What a block of either kind says of itself.
struct BlockFacts {
  CUcontext context;
  CUdevice device;
  std::uint64_t base, bytes, id;
};

CUresult block_attribute(void* data, CUpointer_attribute which, const BlockFacts& block) {
  switch (which) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
      return give(data, block.context);
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
      return give<unsigned long long>(data, block.id);
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      return give<int>(data, block.device);
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
      return give<CUdeviceptr>(data, block.base);
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
      return give<std::size_t>(data, block.bytes);
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

/// A __managed__ variable, which lies where the driver put it.
bool managed_variable(const DeviceBlock& block, std::uint64_t address) {
  const Client& client = *block.context->client;
  return client.coherent() && block.context->client->coherence().find(address);
}

CUresult device_pointer_attribute(void* data, CUpointer_attribute which, CUdeviceptr address,
                                  const DeviceBlock& block) {
  switch (which) {
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      return give<unsigned>(data, CU_MEMORYTYPE_DEVICE);
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
      return give(data, address);
    case CU_POINTER_ATTRIBUTE_MAPPED:
      return give<int>(data, 1);
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
      return give<unsigned>(data, managed_variable(block, address) ? 1 : 0);
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
      if (!managed_variable(block, address)) return CUDA_ERROR_INVALID_VALUE;
      return give(data, reinterpret_cast<void*>(address));
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
      return give<int>(data, block.writable ? CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE
                                            : CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READ);
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
      return give(data, block.pool);
    default:
      return block_attribute(data, which,
                             {handle_of(block.context), block.device, block.base, block.bytes, block.id});
  }
}

CUresult host_pointer_attribute(void* data, CUpointer_attribute which, CUdeviceptr address,
                                const HostBlock& block, CUdevice device) {
  switch (which) {
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      return give<unsigned>(data, block.managed ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST);
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
      return give<unsigned>(data, block.managed ? 1 : 0);
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER: {
      const std::uint64_t found = device_address_of(*block.context->client, block);
      return found != 0 ? give<CUdeviceptr>(data, found + (address - block.base)) : CUDA_ERROR_INVALID_VALUE;
    }
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
      return give(data, reinterpret_cast<void*>(address));
    case CU_POINTER_ATTRIBUTE_MAPPED:
      return give<int>(data, block.context->client->coherence().possible() ? 1 : 0);
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
      return give<CUmemoryPool>(data, nullptr);
    default:
      return block_attribute(data, which,
                             {handle_of(block.context), device, block.base, block.bytes, block.id});
  }
}

/// Attributes that have the same value for every allocation of a session.
CUresult common_attribute(void* data, CUpointer_attribute which) {
  switch (which) {
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
    case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
      return give<unsigned>(data, 0);
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
      return give<unsigned long long>(data, 0);
    default:
      return CUDA_ERROR_NOT_FOUND;
  }
}

CUresult attribute_of(void* data, CUpointer_attribute which, CUdeviceptr address, const Pointee& pointee) {
  if (const CUresult common = common_attribute(data, which); common != CUDA_ERROR_NOT_FOUND) return common;
  if (pointee.device) return device_pointer_attribute(data, which, address, *pointee.device);
  return host_pointer_attribute(data, which, pointee.address, *pointee.host,
                                pointee.host->context->device->ordinal());
}

/// What cuPointerGetAttributes gives for an address that CUDA does not know, or an attribute
/// that the address does not have: nothing, in the attribute's own size.
void give_nothing(void* data, CUpointer_attribute which) {
  switch (which) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
      give<std::uint64_t>(data, 0);
      return;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      give<int>(data, -2);
      return;
    case CU_POINTER_ATTRIBUTE_P2P_TOKENS:
      give(data, CUDA_POINTER_ATTRIBUTE_P2P_TOKENS{});
      return;
    default:
      give<int>(data, 0);
  }
}

bool known_attribute(CUpointer_attribute which) {
  return which >= CU_POINTER_ATTRIBUTE_CONTEXT && which <= CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE;
}

}  // namespace

CUresult pointer_attribute(void* data, CUpointer_attribute which, CUdeviceptr address) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (data == nullptr || address == 0 || !known_attribute(which)) return CUDA_ERROR_INVALID_VALUE;
  const Pointee pointee = look_up(*context->client, address);
  if (!pointee.device && !pointee.host) return CUDA_ERROR_INVALID_VALUE;
  return attribute_of(data, which, address, pointee);
}

CUresult pointer_attributes(unsigned count, CUpointer_attribute* which, void** data, CUdeviceptr address) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (count == 0 || which == nullptr || data == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const Pointee pointee = look_up(*context->client, address);
  for (unsigned i = 0; i < count; ++i) {
    if (data[i] == nullptr || !known_attribute(which[i])) return CUDA_ERROR_INVALID_VALUE;
    const bool found = pointee.device || pointee.host;
    if (!found || attribute_of(data[i], which[i], address, pointee) != CUDA_SUCCESS)
      give_nothing(data[i], which[i]);
  }
  return CUDA_SUCCESS;
}

CUresult pointer_set_attribute(const void* value, CUpointer_attribute which, CUdeviceptr address) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (value == nullptr || which != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS) return CUDA_ERROR_INVALID_VALUE;
  const Pointee pointee = look_up(*context->client, address);
  if (!pointee.device && (!pointee.host || !pointee.host->managed)) return CUDA_ERROR_INVALID_VALUE;
  unsigned wanted;
  std::memcpy(&wanted, value, sizeof wanted);
  return wanted == 0 ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED;
}

}  // namespace avec::client
