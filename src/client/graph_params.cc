#include "client/graph_params.h"

#include <algorithm>
#include <cstring>

#include "client/client.h"
#include "client/coherence.h"
#include "client/context.h"
#include "client/event.h"
#include "client/function.h"
#include "client/graph_nodes.h"
#include "client/memory.h"
#include "client/module.h"
#include "client/row_copy.h"
#include "client/status.h"

namespace avec::client {
namespace {

template <class T>
void append(std::vector<std::byte>& to, const T& value) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&value);
  to.insert(to.end(), bytes, bytes + sizeof value);
}

/// The context that parameters name, the current one where they name none.
CUresult context_of(CUcontext handle, Context*& context) {
  if (handle == nullptr) return usable_context(context);
  context = find_context(handle);
  return context != nullptr && context->active() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult prepare_kernel(CUDA_KERNEL_NODE_PARAMS_v3& given, PreparedNode& node) {
  const CUfunction handle = given.func != nullptr ? given.func : reinterpret_cast<CUfunction>(given.kern);
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  KernelNode kernel;
  const LaunchShape shape{given.gridDimX,  given.gridDimY,  given.gridDimZ,      given.blockDimX,
                          given.blockDimY, given.blockDimZ, given.sharedMemBytes};
  Function* function;
  const CUresult result = check_kernel(handle, shape, given.kernelParams, given.extra, function, kernel.buffer);
  if (result != CUDA_SUCCESS) return result;
  Client& client = *function->context->client;
  if (client.launches_watched()) {
    const CUresult named = client.coherence().node_names(*function->context, kernel.buffer);
    if (named != CUDA_SUCCESS) return named;
  }
  kernel.function = given.func;
  kernel.kernel = given.func != nullptr ? nullptr : given.kern;
  kernel.shape = wire::GraphKernelParams(function->module_name, function->context->name.load(), function->index,
                                         shape.shared_bytes, shape.grid_x, shape.grid_y, shape.grid_z, shape.block_x,
                                         shape.block_y, shape.block_z, 0, function->parameter_bytes);
  append(node.payload, kernel.shape);
  node.payload.insert(node.payload.end(), kernel.buffer.begin(), kernel.buffer.end());
  for (unsigned i = 0; i < function->parameter_count; ++i)
    kernel.pointers.push_back(kernel.buffer.data() + function->parameters[i].offset);
  node.params = std::move(kernel);  // the buffer's memory moves with it
  return CUDA_SUCCESS;
}

/// One end of a copy: its rows from the first byte that is meant.
struct End {
  std::uint64_t address = 0, pitch = 0, rows = 0;
  bool on_device = false;
};

CUresult end_of(Client& client, CUmemorytype type, CUdeviceptr device, const void* host, std::size_t pitch,
                std::size_t rows, std::size_t x, std::size_t y, std::size_t z, const CUDA_MEMCPY3D& copy, End& end) {
  if (type == CU_MEMORYTYPE_ARRAY) return CUDA_ERROR_NOT_SUPPORTED;
  if (type != CU_MEMORYTYPE_HOST && type != CU_MEMORYTYPE_DEVICE && type != CU_MEMORYTYPE_UNIFIED)
    return CUDA_ERROR_INVALID_VALUE;
  const std::uint64_t base = type == CU_MEMORYTYPE_HOST ? reinterpret_cast<std::uint64_t>(host) : device;
  if (base == 0) return CUDA_ERROR_INVALID_VALUE;
  const bool single = copy.Height == 1 && copy.Depth == 1 && y == 0 && z == 0;
  end.pitch = pitch != 0 || !single ? pitch : x + copy.WidthInBytes;
  end.rows = rows != 0 ? rows : y + copy.Height;
  if (end.pitch < x + copy.WidthInBytes || (copy.Depth > 1 && end.rows < y + copy.Height))
    return CUDA_ERROR_INVALID_VALUE;
  end.address = base + (z * end.rows + y) * end.pitch + x;
  Side side{end.address, end.pitch};
  const Shape shape{copy.WidthInBytes, end.rows * (copy.Depth - 1) + copy.Height};
  if (const CUresult result = classify(client, side, shape); result != CUDA_SUCCESS) return result;
  end.on_device = side.on_device();
  if (type == CU_MEMORYTYPE_DEVICE && !end.on_device) return CUDA_ERROR_INVALID_VALUE;
  return CUDA_SUCCESS;
}

void copy_on_host(const End& to, const End& from, const CUDA_MEMCPY3D& copy) {
  for (std::size_t z = 0; z < copy.Depth; ++z) {
    for (std::size_t y = 0; y < copy.Height; ++y) {
      std::memmove(reinterpret_cast<void*>(to.address + (z * to.rows + y) * to.pitch),
                   reinterpret_cast<const void*>(from.address + (z * from.rows + y) * from.pitch), copy.WidthInBytes);
    }
  }
}

CUresult prepare_copy(Graph& graph, const CUDA_MEMCPY_NODE_PARAMS& given, PreparedNode& node) {
  const CUDA_MEMCPY3D& copy = given.copyParams;
  if (given.flags != 0 || copy.WidthInBytes == 0 || copy.Height == 0 || copy.Depth == 0) return CUDA_ERROR_INVALID_VALUE;
  Context* context;
  if (const CUresult result = context_of(given.copyCtx, context); result != CUDA_SUCCESS) return result;
  CopyNode made;
  made.params = copy;
  made.context = handle_of(context);
  Client& client = *context->client;
  End to, from;
  CUresult result = end_of(client, copy.srcMemoryType, copy.srcDevice, copy.srcHost, copy.srcPitch, copy.srcHeight,
                           copy.srcXInBytes, copy.srcY, copy.srcZ, copy, from);
  if (result != CUDA_SUCCESS) return result;
  result = end_of(client, copy.dstMemoryType, copy.dstDevice, copy.dstHost, copy.dstPitch, copy.dstHeight,
                  copy.dstXInBytes, copy.dstY, copy.dstZ, copy, to);
  if (result != CUDA_SUCCESS) return result;
  if (!to.on_device && !from.on_device) {
    node.function = made.function = make_host_function(client, [=] { copy_on_host(to, from, copy); });
    node.wire_type = CU_GRAPH_NODE_TYPE_HOST;
    append(node.payload, wire::GraphHostParams(node.function->name));
    node.params = std::move(made);
    return CUDA_SUCCESS;
  }
  if (to.on_device != from.on_device) {
    End& host = to.on_device ? from : to;
    const HostRows rows{reinterpret_cast<std::byte*>(host.address), host.pitch, host.rows, copy.WidthInBytes,
                        copy.Height, copy.Depth};
    result = host_copy_for(graph, *context, rows, to.on_device, made.host);
    if (result != CUDA_SUCCESS) return result;
    host = {made.host.place->address, copy.WidthInBytes, copy.Height, true};
  }
  append(node.payload,
         wire::GraphCopyParams(to.address, to.pitch, to.rows, from.address, from.pitch, from.rows, copy.WidthInBytes,
                               copy.Height, copy.Depth, context->name.load()));
  node.params = std::move(made);
  return CUDA_SUCCESS;
}

CUresult prepare_fill(const CUDA_MEMSET_NODE_PARAMS_v2& given, PreparedNode& node) {
  Context* context;
  if (const CUresult result = context_of(given.ctx, context); result != CUDA_SUCCESS) return result;
  const unsigned element = given.elementSize;
  if ((element != 1 && element != 2 && element != 4) || given.width == 0 || given.height == 0)
    return CUDA_ERROR_INVALID_VALUE;
  Shape shape{0, given.height};
  if (__builtin_mul_overflow(given.width, element, &shape.width)) return CUDA_ERROR_INVALID_VALUE;
  const std::size_t pitch = given.height == 1 ? shape.width : given.pitch;
  if (given.dst % element != 0 || pitch % element != 0 || pitch < shape.width) return CUDA_ERROR_INVALID_VALUE;
  Side side{given.dst, pitch};
  if (const CUresult result = classify(*context->client, side, shape); result != CUDA_SUCCESS) return result;
  if (!side.on_device()) return side.kind == Kind::kPageable ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_NOT_SUPPORTED;
  append(node.payload, wire::GraphFillParams(given.dst, pitch, given.width, given.height, given.value, element,
                                             context->name.load()));
  node.params = FillNode{{given.dst, given.pitch, given.value, element, given.width, given.height}, handle_of(context)};
  return CUDA_SUCCESS;
}

CUresult prepare_event(CUevent handle, PreparedNode& node) {
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Event* event = Slab<Event>::find(handle);
  if (event == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  append(node.payload, wire::GraphEventParams(event->name));
  if (node.type == CU_GRAPH_NODE_TYPE_EVENT_RECORD) node.recorded = {handle, event->name};
  node.params = EventNode{handle};
  return CUDA_SUCCESS;
}

CUresult prepare_allocation(Graph& graph, CUDA_MEM_ALLOC_NODE_PARAMS_v2& given, PreparedNode& node) {
  const CUmemPoolProps& pool = given.poolProps;
  Client& client = client_of(graph);
  if (given.bytesize == 0 || pool.allocType != CU_MEM_ALLOCATION_TYPE_PINNED ||
      pool.location.type != CU_MEM_LOCATION_TYPE_DEVICE || client.device(pool.location.id) == nullptr ||
      (given.accessDescCount != 0 && given.accessDescs == nullptr)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (pool.handleTypes != CU_MEM_HANDLE_TYPE_NONE) return CUDA_ERROR_INVALID_VALUE;
  if (graph.owner != nullptr) return CUDA_ERROR_NOT_SUPPORTED;
  AllocationNode made;
  const CUresult result = make_graph_allocation(*graph.context, given.bytesize, made.allocation);
  if (result != CUDA_SUCCESS) return result;
  given.dptr = made.allocation->address;
  made.access.assign(given.accessDescs, given.accessDescs + given.accessDescCount);
  static_assert(sizeof made.params == sizeof given);
  std::memcpy(&made.params, &given, sizeof given);
  made.params.accessDescs = made.access.data();
  node.wire_type = CU_GRAPH_NODE_TYPE_EMPTY;
  node.params = std::move(made);
  return CUDA_SUCCESS;
}

CUresult prepare_free(Graph& graph, CUdeviceptr address, PreparedNode& node) {
  auto allocation = find_graph_allocation(address);
  if (allocation == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const bool freed_here = std::ranges::find(graph.belongings.frees, allocation) != graph.belongings.frees.end();
  if (freed_here) return CUDA_ERROR_INVALID_VALUE;
  if (graph.owner != nullptr) return CUDA_ERROR_NOT_SUPPORTED;
  node.wire_type = CU_GRAPH_NODE_TYPE_EMPTY;
  node.params = FreeNode{std::move(allocation), address};
  return CUDA_SUCCESS;
}

CUresult prepare_batch(const CUDA_BATCH_MEM_OP_NODE_PARAMS_v2& given, PreparedNode& node) {
  Context* context;
  if (const CUresult result = context_of(given.ctx, context); result != CUDA_SUCCESS) return result;
  if (given.count == 0 || given.count > 256 || given.paramArray == nullptr || given.flags != 0)
    return CUDA_ERROR_INVALID_VALUE;
  BatchNode made;
  made.operations.assign(given.paramArray, given.paramArray + given.count);
  append(node.payload, wire::GraphBatchParams(context->name.load(), given.flags, given.count));
  for (const CUstreamBatchMemOpParams& operation : made.operations) {
    const bool barrier = operation.operation == CU_STREAM_MEM_OP_BARRIER;
    append(node.payload, wire::GraphMemOp(operation.operation,
                                          barrier ? operation.memoryBarrier.flags : operation.writeValue.flags,
                                          barrier ? 0 : operation.writeValue.address,
                                          barrier ? 0 : operation.writeValue.value64));
  }
  Client& client = *context->client;
  if (client.launches_watched()) {  // addresses lie at steps of 8 bytes
    const CUresult named = client.coherence().node_names(*context, node.payload);
    if (named != CUDA_SUCCESS) return named;
  }
  made.params = {handle_of(context), given.count, nullptr, given.flags};
  made.params.paramArray = made.operations.data();
  node.params = std::move(made);
  return CUDA_SUCCESS;
}

CUresult prepare_child(Graph& graph, const CUDA_CHILD_GRAPH_NODE_PARAMS& given, PreparedNode& node) {
  Graph* child;
  if (const CUresult result = find_graph(given.graph, child); result != CUDA_SUCCESS) return result;
  if (child == &graph || child->in_capture) return CUDA_ERROR_INVALID_VALUE;
  const bool single = child->has_conditional || !child->belongings.allocations.empty() || !child->belongings.frees.empty();
  if (single || given.ownership != CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE) return CUDA_ERROR_NOT_SUPPORTED;
  append(node.payload, wire::GraphChildParams(child->name));
  node.child = child;
  return CUDA_SUCCESS;
}

CUresult prepare_conditional(Graph& graph, CUDA_CONDITIONAL_NODE_PARAMS& given, PreparedNode& node) {
  Context* context;
  if (const CUresult result = context_of(given.ctx, context); result != CUDA_SUCCESS) return result;
  const bool sized = (given.type == CU_GRAPH_COND_TYPE_IF && (given.size == 1 || given.size == 2)) ||
                     (given.type == CU_GRAPH_COND_TYPE_WHILE && given.size == 1) ||
                     (given.type == CU_GRAPH_COND_TYPE_SWITCH && given.size >= 1 && given.size <= 4096);
  const auto handle = std::ranges::find(graph.conditional_handles, given.handle);
  if (!sized || handle == graph.conditional_handles.end()) return CUDA_ERROR_INVALID_VALUE;
  ConditionalNode made;
  made.graphs = std::make_unique<CUgraph[]>(given.size);
  const std::uint64_t first = context->client->mint(given.size);
  for (unsigned i = 0; i < given.size; ++i) {
    Graph* body = make_graph(*graph.context, first + i);
    if (body == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
    body->conditional = true;
    node.bodies.push_back(body);
    made.graphs[i] = handle_of(body);
  }
  append(node.payload, wire::GraphConditionalParams(given.handle, context->name.load(), first,
                                                    static_cast<std::uint32_t>(given.type), given.size));
  given.phGraph_out = made.graphs.get();
  made.params = given;
  node.params = std::move(made);
  return CUDA_SUCCESS;
}

}  // namespace

CUresult prepare_node(Graph& graph, CUgraphNodeParams& params, PreparedNode& node) {
  node.type = node.wire_type = params.type;
  switch (params.type) {
    case CU_GRAPH_NODE_TYPE_KERNEL:
      return prepare_kernel(params.kernel, node);
    case CU_GRAPH_NODE_TYPE_MEMCPY:
      return prepare_copy(graph, params.memcpy, node);
    case CU_GRAPH_NODE_TYPE_MEMSET:
      return prepare_fill(params.memset, node);
    case CU_GRAPH_NODE_TYPE_HOST:
      if (params.host.fn == nullptr) return CUDA_ERROR_INVALID_VALUE;
      node.function = make_host_function(client_of(graph), params.host.fn, params.host.userData);
      append(node.payload, wire::GraphHostParams(node.function->name));
      node.params = HostNode{node.function};
      return CUDA_SUCCESS;
    case CU_GRAPH_NODE_TYPE_GRAPH:
      return prepare_child(graph, params.graph, node);
    case CU_GRAPH_NODE_TYPE_EMPTY:
      return CUDA_SUCCESS;
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
      return prepare_event(params.eventWait.event, node);
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
      return prepare_event(params.eventRecord.event, node);
    case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
      return prepare_allocation(graph, params.alloc, node);
    case CU_GRAPH_NODE_TYPE_MEM_FREE:
      return prepare_free(graph, params.free.dptr, node);
    case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
      return prepare_batch(params.memOp, node);
    case CU_GRAPH_NODE_TYPE_CONDITIONAL:
      return prepare_conditional(graph, params.conditional, node);
    case CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL:
    case CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT:
      return CUDA_ERROR_NOT_SUPPORTED;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

// ---- nodes that were captured or copied -----------------------------------------------------

namespace {

template <class T>
bool take(ConstBytes& bytes, T& value) {
  if (bytes.size() < sizeof value) return false;
  std::memcpy(&value, bytes.data(), sizeof value);
  bytes = bytes.subspan(sizeof value);
  return true;
}

CUresult read_kernel(GraphNode& node, ConstBytes bytes) {
  KernelNode kernel;
  if (!take(bytes, kernel.shape)) return CUDA_ERROR_UNKNOWN;
  for (unsigned i = 0; i < kernel.shape.attributes(); ++i) {
    wire::GraphAttribute attribute;
    if (!take(bytes, attribute)) return CUDA_ERROR_UNKNOWN;
    kernel.attributes.push_back(attribute);
  }
  if (bytes.size() < kernel.shape.parameter_bytes()) return CUDA_ERROR_UNKNOWN;
  kernel.buffer.assign(bytes.begin(), bytes.begin() + kernel.shape.parameter_bytes());
  Context& context = *node.graph->context;
  std::scoped_lock lock(context.mutex);
  for (Module* module : context.modules) {
    if (module->name != kernel.shape.module_() || kernel.shape.index() >= module->functions.size()) continue;
    Function* function = module->functions[kernel.shape.index()];
    kernel.function = handle_of(function);
    for (unsigned i = 0; i < function->parameter_count; ++i)
      kernel.pointers.push_back(kernel.buffer.data() + function->parameters[i].offset);
  }
  node.params = std::move(kernel);
  return CUDA_SUCCESS;
}

/// A place that stands for host memory is shown as that memory.
CUresult read_copy(GraphNode& node, ConstBytes bytes) {
  wire::GraphCopyParams copy;
  if (!take(bytes, copy)) return CUDA_ERROR_UNKNOWN;
  CopyNode made;
  made.context = handle_of(node.graph->context);
  CUDA_MEMCPY3D& params = made.params;
  params.srcMemoryType = params.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  params.srcDevice = copy.source();
  params.srcPitch = copy.source_pitch();
  params.srcHeight = copy.source_rows();
  params.dstDevice = copy.destination();
  params.dstPitch = copy.destination_pitch();
  params.dstHeight = copy.destination_rows();
  params.WidthInBytes = copy.width();
  params.Height = std::max<std::size_t>(copy.height(), 1);
  params.Depth = std::max<std::size_t>(copy.depth(), 1);
  for (const HostCopyUse& use : node.graph->belongings.copies) {
    const bool to_device = copy.source() == use.place->address;
    if (!to_device && copy.destination() != use.place->address) continue;
    made.host = {use.place, use.rows, to_device ? 1u : 0u, to_device ? 0u : 1u, use.may_not_run};
    (to_device ? params.srcMemoryType : params.dstMemoryType) = CU_MEMORYTYPE_HOST;
    if (to_device) {
      params.srcHost = use.rows.address;
      params.srcDevice = 0;
      params.srcPitch = use.rows.pitch;
      params.srcHeight = use.rows.rows;
    } else {
      params.dstHost = use.rows.address;
      params.dstDevice = 0;
      params.dstPitch = use.rows.pitch;
      params.dstHeight = use.rows.rows;
    }
    break;
  }
  node.params = std::move(made);
  return CUDA_SUCCESS;
}

}  // namespace

CUresult read_node(GraphNode& node, ConstBytes bytes) {
  switch (node.type) {
    case CU_GRAPH_NODE_TYPE_KERNEL:
      return read_kernel(node, bytes);
    case CU_GRAPH_NODE_TYPE_MEMCPY:
      return read_copy(node, bytes);
    case CU_GRAPH_NODE_TYPE_MEMSET: {
      wire::GraphFillParams fill;
      if (!take(bytes, fill)) return CUDA_ERROR_UNKNOWN;
      node.params = FillNode{{fill.destination(), fill.pitch(), fill.value(), fill.element_bytes(), fill.width(), fill.height()},
                             handle_of(node.graph->context)};
      return CUDA_SUCCESS;
    }
    case CU_GRAPH_NODE_TYPE_HOST: {
      wire::GraphHostParams host;
      if (!take(bytes, host)) return CUDA_ERROR_UNKNOWN;
      node.params = HostNode{find_host_function(client_of(*node.graph), host.function())};
      return CUDA_SUCCESS;
    }
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD: {
      wire::GraphEventParams said;
      if (!take(bytes, said)) return CUDA_ERROR_UNKNOWN;
      Context& context = *node.graph->context;
      std::scoped_lock lock(context.mutex);
      for (Event* event : context.events)
        if (event->name == said.event()) node.params = EventNode{handle_of(event)};
      return CUDA_SUCCESS;
    }
    default:
      return CUDA_SUCCESS;
  }
}

}  // namespace avec::client
