#include "client/graph_memory.h"

#include <algorithm>
#include <map>
#include <utility>

#include "client/capture.h"
#include "client/client.h"
#include "client/context.h"
#include "client/device.h"
#include "client/downloads.h"
#include "client/graph.h"
#include "client/heap.h"
#include "client/memory.h"
#include "client/row_copy.h"
#include "client/status.h"
#include "client/stream.h"
#include "session/session.h"

namespace avec::client {
namespace {

/// Guards who used a host copy last.
std::mutex& last_use_mutex = *new std::mutex;

void give_back(Context* context, std::uint64_t context_name, std::uint64_t address) {
  // A context that ended has taken its memory with it.
  if (context == nullptr || address == 0 || context->name.load() != context_name) return;
  (void)context->client->heap().release(address);
}

/// Pieces of which each is rows one pitch apart, on both sides.
template <class Copy>
CUresult each_slice(const HostCopyUse& copy, Copy&& one) {
  const HostRows& rows = copy.rows;
  if (rows.depth == 1 || rows.rows == rows.height) {
    return one(rows.address, copy.place->address, Shape{rows.width, rows.height * rows.depth});
  }
  for (std::uint64_t z = 0; z < rows.depth; ++z) {
    const CUresult result = one(rows.address + z * rows.rows * rows.pitch,
                                copy.place->address + z * rows.height * rows.width, Shape{rows.width, rows.height});
    if (result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

CUresult send(const HostCopyUse& copy, Stream& stream) {
  return each_slice(copy, [&](std::byte* host, std::uint64_t device, const Shape& shape) {
    Client& client = *stream.context->client;
    Side destination{device, shape.width}, source{reinterpret_cast<std::uint64_t>(host), copy.rows.pitch};
    CUresult result = classify(client, destination, shape);
    if (result == CUDA_SUCCESS) result = classify(client, source, shape);
    return result == CUDA_SUCCESS ? RowCopy(stream, destination, source, shape).run(Completion::kAsynchronous) : result;
  });
}

/// Never waits: a graph's copies into pageable memory go on behind the launch.
CUresult fetch(const HostCopyUse& copy, Stream& stream) {
  session::Session& session = stream.context->client->session();
  return each_slice(copy, [&](std::byte* host, std::uint64_t device, const Shape& shape) {
    const bool tight = copy.rows.pitch == shape.width || shape.height == 1;
    const Shape piece = tight ? Shape{shape.bytes(), 1} : Shape{shape.width, 1};
    const std::uint64_t pieces = tight ? 1 : shape.height;
    for (std::uint64_t i = 0; i < pieces; ++i) {
      std::byte* to = host + i * copy.rows.pitch;
      const auto pending = session.post_deferred(
          wire::CopyFromDevice(device + i * shape.width, piece.width, piece.width, 1, stream.name),
          MutableBytes(to, piece.width), session::Attend::kNobody);
      if (!pending) return to_cuda(pending.error());
      note_download(stream, {*pending, to, to + piece.width});
    }
    return CUDA_SUCCESS;
  });
}

}  // namespace

HostCopy::~HostCopy() { give_back(context, context_name, address); }

CUresult make_host_copy(Context& context, std::uint64_t bytes, std::shared_ptr<HostCopy>& made) {
  auto copy = std::make_shared<HostCopy>();
  copy->context_name = context.name.load();
  const CUresult result = context.client->heap().allocate(bytes, context, copy->address);
  if (result != CUDA_SUCCESS) return result;
  copy->context = &context;
  made = std::move(copy);
  return CUDA_SUCCESS;
}

// ---- allocation nodes -----------------------------------------------------------------------

namespace {

std::mutex& allocations_mutex = *new std::mutex;
auto& allocations = *new std::map<std::uint64_t, std::weak_ptr<GraphAllocation>>;  // by address
auto& living = *new std::map<std::uint64_t, std::shared_ptr<GraphAllocation>>;  // live ones, by address
auto& highest = *new std::map<const Device*, GraphMemoryUse>;

}  // namespace

GraphAllocation::~GraphAllocation() {
  {
    std::scoped_lock lock(allocations_mutex);
    allocations.erase(address);
  }
  give_back(context, context_name, address);
}

CUresult make_graph_allocation(Context& context, std::uint64_t bytes, std::shared_ptr<GraphAllocation>& made) {
  auto allocation = std::make_shared<GraphAllocation>();
  allocation->context_name = context.name.load();
  allocation->bytes = bytes;
  const CUresult result = context.client->heap().allocate(bytes, context, allocation->address);
  if (result != CUDA_SUCCESS) return result;
  allocation->context = &context;
  std::scoped_lock lock(allocations_mutex);
  allocations[allocation->address] = allocation;
  made = std::move(allocation);
  return CUDA_SUCCESS;
}

std::shared_ptr<GraphAllocation> find_graph_allocation(std::uint64_t address) {
  std::scoped_lock lock(allocations_mutex);
  const auto found = allocations.find(address);
  return found == allocations.end() ? nullptr : found->second.lock();
}

void allocated_by_launch(const std::shared_ptr<GraphAllocation>& allocation) {
  allocation->live.store(true);
  allocation->used.store(true);
  std::scoped_lock lock(allocations_mutex);
  living[allocation->address] = allocation;
}

CUresult free_graph_allocation(const std::shared_ptr<GraphAllocation>& allocation) {
  if (!allocation->live.exchange(false)) return CUDA_ERROR_INVALID_VALUE;
  std::scoped_lock lock(allocations_mutex);
  living.erase(allocation->address);  // not the last one: the caller has it
  return CUDA_SUCCESS;
}

GraphMemoryUse graph_memory_use(const Device& device) {
  // The driver takes memory for graphs in blocks of this size, and keeps it.
  constexpr std::uint64_t kBlock = std::uint64_t{32} << 20;
  GraphMemoryUse use;
  std::vector<std::shared_ptr<GraphAllocation>> gone;  // perhaps the last reference: dropped without the lock
  std::scoped_lock lock(allocations_mutex);
  for (const auto& [address, weak] : allocations) {
    const auto allocation = weak.lock();
    if (allocation == nullptr || allocation->context->device != &device || !allocation->used.load()) continue;
    gone.push_back(allocation);
    use.used += allocation->bytes;
  }
  use.used = (use.used + kBlock - 1) / kBlock * kBlock;
  use.reserved = use.used;
  GraphMemoryUse& high = highest[&device];
  use.used_high = high.used = std::max(high.used, use.used);
  use.reserved_high = high.reserved = std::max(high.reserved, use.reserved);
  return use;
}

void reset_graph_memory_high(const Device& device, bool used) {
  std::scoped_lock lock(allocations_mutex);
  (used ? highest[&device].used : highest[&device].reserved) = 0;
}

CUresult capture_allocation(Stream& stream, std::uint64_t bytes, CUdeviceptr& address) {
  std::scoped_lock lock(graphs_mutex);
  Graph* graph = captured_graph(stream);
  if (graph == nullptr) return CUDA_ERROR_ILLEGAL_STATE;
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  AllocationNode made;
  if (const CUresult result = make_graph_allocation(*stream.context, bytes, made.allocation); result != CUDA_SUCCESS)
    return result;
  Client& client = *stream.context->client;
  GraphNode* node = make_node(*graph, CU_GRAPH_NODE_TYPE_MEM_ALLOC, client.mint());
  if (node == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  made.params.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  made.params.poolProps.location = {CU_MEM_LOCATION_TYPE_DEVICE, {stream.context->device->ordinal()}};
  made.params.bytesize = bytes;
  address = made.params.dptr = made.allocation->address;
  graph->belongings.allocations.push_back(made.allocation);
  node->params = std::move(made);
  return to_cuda(client.session().post(wire::StreamCaptureNode(stream.name, node->name)));
}

CUresult capture_free(Stream& stream, CUdeviceptr address) {
  std::scoped_lock lock(graphs_mutex);
  Graph* graph = captured_graph(stream);
  auto allocation = find_graph_allocation(address);
  if (graph == nullptr || allocation == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Client& client = *stream.context->client;
  GraphNode* node = make_node(*graph, CU_GRAPH_NODE_TYPE_MEM_FREE, client.mint());
  if (node == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  graph->belongings.frees.push_back(allocation);
  node->params = FreeNode{std::move(allocation), address};
  return to_cuda(client.session().post(wire::StreamCaptureNode(stream.name, node->name)));
}

// ---- around a launch ------------------------------------------------------------------------

namespace {

/// A launch of another stream may still read or write the places: this one comes after it.
void wait_for_places(GraphExec& exec, Stream& stream) {
  std::uint64_t waited = 0;
  for (const HostCopyUse& copy : exec.belongings.copies) {
    const HostCopy& place = *copy.place;
    if (place.last_event == 0 || place.last_stream == stream.name || place.last_event == waited) continue;
    waited = place.last_event;
    (void)stream.context->client->session().post(wire::StreamWaitEvent(stream.name, waited, 0, 0));
  }
}

void note_use(GraphExec& exec, Stream& stream) {
  session::Session& session = stream.context->client->session();
  if (exec.event == 0) {
    exec.event = stream.context->client->mint();
    (void)session.post(wire::EventCreate(exec.event, exec.context->name.load(), CU_EVENT_DISABLE_TIMING, 0));
  }
  (void)session.post(wire::EventRecord(exec.event, stream.name, 0, 0));
  for (const HostCopyUse& copy : exec.belongings.copies) {
    copy.place->last_stream = stream.name;
    copy.place->last_event = exec.event;
  }
}

}  // namespace

void take_host_copies(GraphExec& exec, Stream& stream) {
  std::scoped_lock lock(last_use_mutex);
  wait_for_places(exec, stream);
}

void leave_host_copies(GraphExec& exec, Stream& stream) {
  std::scoped_lock lock(last_use_mutex);
  note_use(exec, stream);
}

CUresult send_host_copies(GraphExec& exec, Stream& stream) {
  std::scoped_lock lock(last_use_mutex);
  wait_for_places(exec, stream);
  for (const HostCopyUse& copy : exec.belongings.copies) {
    // What a conditional node does not write comes back as it was.
    if (copy.to_device == 0 && !(copy.may_not_run && copy.from_device != 0)) continue;
    if (const CUresult result = send(copy, stream); result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

CUresult fetch_host_copies(GraphExec& exec, Stream& stream) {
  std::scoped_lock lock(last_use_mutex);
  CUresult result = CUDA_SUCCESS;
  for (const HostCopyUse& copy : exec.belongings.copies) {
    if (copy.from_device != 0 && result == CUDA_SUCCESS) result = fetch(copy, stream);
  }
  note_use(exec, stream);
  return result;
}

}  // namespace avec::client
