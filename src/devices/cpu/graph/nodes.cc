// From CUDA's parameter structures to a node's own, checked as the documentation of each says.
#include <algorithm>

#include "devices/cpu/copy.h"
#include "devices/cpu/graph/graph.h"

namespace avec::cpu {
namespace {

/// More branches than this in one conditional node are refused.
constexpr unsigned kMaxBodies = 4096;
constexpr unsigned kMaxBatch = 256;

}  // namespace

CUresult node_context(CUcontext handle, ContextRef& context) {
  if (handle == nullptr) return current(context);
  context = state().contexts.find(handle);
  return context && context->alive.load() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult make_kernel(const CUDA_KERNEL_NODE_PARAMS& given, KernelParams& params) {
  if (given.func == nullptr && given.kern == nullptr) return CUDA_ERROR_INVALID_VALUE;
  params.func = given.func;
  params.kern = given.func != nullptr ? nullptr : given.kern;
  if (given.func != nullptr) {
    if (const auto error = function_of(given.func, params.function, params.module)) return error;
  } else {
    ContextRef context;
    if (const auto error = node_context(given.ctx, context)) return error;
    if (const auto error = function_of_kernel(given.kern, context, params.function)) return error;
    params.module = params.function->module.lock();
    if (!params.module) return CUDA_ERROR_INVALID_HANDLE;
  }
  const bool cooperative = params.shape.cooperative;  // an attribute, kept
  params.shape = {{given.gridDimX, given.gridDimY, given.gridDimZ},
                  {given.blockDimX, given.blockDimY, given.blockDimZ},
                  given.sharedMemBytes,
                  cooperative};
  if (const auto error = check_shape(*params.function, params.shape)) return error;
  params.as_buffer = given.extra != nullptr;
  return read_parameters(*params.function->facts, given.kernelParams, given.extra, params.buffer);
}

void show_kernel(KernelParams& params, CUDA_KERNEL_NODE_PARAMS& shown) {
  shown = {};
  shown.func = as_handle<CUfunction>(params.function->handle);
  shown.gridDimX = params.shape.grid[0];
  shown.gridDimY = params.shape.grid[1];
  shown.gridDimZ = params.shape.grid[2];
  shown.blockDimX = params.shape.block[0];
  shown.blockDimY = params.shape.block[1];
  shown.blockDimZ = params.shape.block[2];
  shown.sharedMemBytes = params.shape.shared;
  shown.kern = params.kern;
  shown.ctx = as_handle<CUcontext>(params.module->context->handle);
  if (params.as_buffer) {
    params.buffer_bytes = params.buffer.size();
    params.extra[0] = CU_LAUNCH_PARAM_BUFFER_POINTER;
    params.extra[1] = params.buffer.data();
    params.extra[2] = CU_LAUNCH_PARAM_BUFFER_SIZE;
    params.extra[3] = &params.buffer_bytes;
    params.extra[4] = CU_LAUNCH_PARAM_END;
    shown.extra = params.extra;
    return;
  }
  params.pointers.clear();
  for (const auto& parameter : params.function->facts->parameters) {
    params.pointers.push_back(params.buffer.data() + parameter.offset);
  }
  shown.kernelParams = params.pointers.empty() ? nullptr : params.pointers.data();
}

CUresult set_attribute(KernelParams& params, CUlaunchAttributeID id, const CUlaunchAttributeValue& value) {
  switch (id) {
    case CU_LAUNCH_ATTRIBUTE_IGNORE:
      return CUDA_SUCCESS;
    case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
    case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
    case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
    case CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
    case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
    case CU_LAUNCH_ATTRIBUTE_PRIORITY:
    case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
    case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
    case CU_LAUNCH_ATTRIBUTE_PREFERRED_CLUSTER_DIMENSION:
    case CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE:
    case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      break;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
  CUlaunchAttribute attribute{};
  attribute.id = id;
  attribute.value = value;
  CUevent event = nullptr;
  if (const auto error = read_attribute(attribute, params.shape, event)) return error;
  params.attributes[id] = value;
  return CUDA_SUCCESS;
}

CUresult make_copy(const CUDA_MEMCPY3D& given, CUcontext handle, CopyParams& params) {
  if (const auto error = node_context(handle, params.context)) return error;
  Side to, from;
  Extent extent;
  if (const auto error = read_copy(given, to, from, extent)) return error;
  if (extent.width == 0 || extent.height == 0 || extent.depth == 0) return CUDA_ERROR_INVALID_VALUE;
  if (const auto error = check_copy(*params.context, to, from, extent)) return error;
  params.copy = given;
  return CUDA_SUCCESS;
}

CUresult make_set(const CUDA_MEMSET_NODE_PARAMS& given, CUcontext handle, SetParams& params) {
  if (const auto error = node_context(handle, params.context)) return error;
  if (given.elementSize != 1 && given.elementSize != 2 && given.elementSize != 4)
    return CUDA_ERROR_INVALID_VALUE;
  if (given.dst == 0 || given.width == 0 || given.height == 0) return CUDA_ERROR_INVALID_VALUE;
  if (const auto error =
          check_set(*params.context, given.dst, given.pitch, given.elementSize, given.width, given.height)) {
    return error;
  }
  params.set = given;
  return CUDA_SUCCESS;
}

CUresult make_event(CUevent event, std::shared_ptr<Event>& found) {
  if (event == nullptr) return CUDA_ERROR_INVALID_VALUE;
  found = state().events.find(event);
  return found ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult make_batch(const CUDA_BATCH_MEM_OP_NODE_PARAMS& given, BatchParams& params) {
  if (const auto error = node_context(given.ctx, params.context)) return error;
  if (given.paramArray == nullptr || given.count == 0 || given.count > kMaxBatch || given.flags != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  params.operations.assign(given.paramArray, given.paramArray + given.count);
  for (const auto& one : params.operations) {
    const bool wide =
        one.operation == CU_STREAM_MEM_OP_WAIT_VALUE_64 || one.operation == CU_STREAM_MEM_OP_WRITE_VALUE_64;
    const bool write =
        one.operation == CU_STREAM_MEM_OP_WRITE_VALUE_32 || one.operation == CU_STREAM_MEM_OP_WRITE_VALUE_64;
    const bool wait =
        one.operation == CU_STREAM_MEM_OP_WAIT_VALUE_32 || one.operation == CU_STREAM_MEM_OP_WAIT_VALUE_64;
    if (one.operation == CU_STREAM_MEM_OP_BARRIER) continue;
    if (!write && !wait) return CUDA_ERROR_INVALID_VALUE;
    // Both structures begin alike.
    const CUdeviceptr address = one.waitValue.address;
    const std::uint64_t bytes = wide ? 8 : 4;
    if (address % bytes != 0 || !accessible(*params.context, address, bytes, write))
      return CUDA_ERROR_INVALID_VALUE;
  }
  params.flags = given.flags;
  return CUDA_SUCCESS;
}

CUresult make_alloc(CUDA_MEM_ALLOC_NODE_PARAMS& given, Graph& graph, AllocParams& params) {
  const auto& pool = given.poolProps;
  if (given.bytesize == 0 || pool.allocType != CU_MEM_ALLOCATION_TYPE_PINNED ||
      pool.handleTypes != CU_MEM_HANDLE_TYPE_NONE || pool.location.type != CU_MEM_LOCATION_TYPE_DEVICE) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Device* device = nullptr;
  if (device_of(pool.location.id, device) != CUDA_SUCCESS) return CUDA_ERROR_INVALID_VALUE;
  if (given.accessDescCount > state().devices.size() ||
      (given.accessDescCount > 0 && given.accessDescs == nullptr)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  // A body's memory would have to be made and freed as often as it runs.
  if (graph.conditional_body) return CUDA_ERROR_NOT_SUPPORTED;
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (&context->device != device) context = device->primary;
  auto memory = std::make_shared<GraphMemory>();
  CUdeviceptr address = 0;
  if (const auto error = allocate(*context, given.bytesize, Memory::kDevice, nullptr, address)) return error;
  memory->address = address;
  memory->bytes = given.bytesize;
  if (const auto found = state().memory.find(address)) memory->id = found->id;
  memory->context = context->handle;
  memory->device = device;
  memory->owner = graph.weak_from_this();
  graph_tables().memory[address] = memory;
  graph.has_memory = true;
  if (given.accessDescCount > 0)
    params.access.assign(given.accessDescs, given.accessDescs + given.accessDescCount);
  params.alloc = given;
  params.alloc.dptr = given.dptr = address;
  params.alloc.accessDescs = nullptr;
  params.memory = std::move(memory);
  return CUDA_SUCCESS;
}

CUresult make_free(CUdeviceptr address, Graph& graph, FreeParams& params) {
  const auto memory = graph_memory_at(address);
  if (!memory || memory->address != address) return CUDA_ERROR_INVALID_VALUE;
  const bool own = memory->owner.lock().get() == &graph;
  if (memory->freed_by_owner || (own && memory->freed_elsewhere)) return CUDA_ERROR_INVALID_VALUE;
  const auto frees_it = [&](const NodeRef& node) {
    const auto* free = std::get_if<FreeParams>(&node->params);
    return free != nullptr && free->memory == memory;
  };
  if (std::ranges::any_of(graph.nodes, frees_it)) return CUDA_ERROR_INVALID_VALUE;
  (own ? memory->freed_by_owner : memory->freed_elsewhere) = true;
  graph.has_memory = true;
  params.memory = memory;
  return CUDA_SUCCESS;
}

CUresult make_child(CUgraph handle, CUgraphChildGraphNodeOwnership ownership, Graph& parent,
                    ChildParams& params) {
  const auto child = graph_of(handle);
  if (!child || child->capturing) return CUDA_ERROR_INVALID_VALUE;
  if (ownership != CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE && ownership != CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (has_conditional(*child)) return CUDA_ERROR_NOT_SUPPORTED;
  if (ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE) {
    if (child->has_memory) return CUDA_ERROR_NOT_SUPPORTED;
    params.graph = copy_graph(*child, true);
    return CUDA_SUCCESS;
  }
  if (child->parent != nullptr || child.get() == &parent) return CUDA_ERROR_INVALID_VALUE;
  child->moved = true;
  parent.has_memory = parent.has_memory || child->has_memory;
  params.graph = child;
  return CUDA_SUCCESS;
}

CUresult make_conditional(CUDA_CONDITIONAL_NODE_PARAMS& given, Graph& graph, ConditionalParams& params) {
  const auto condition = graph_tables().conditions.find(reinterpret_cast<void*>(given.handle));
  if (!condition || condition->used) return CUDA_ERROR_INVALID_VALUE;
  if (const auto error = node_context(given.ctx, params.context)) return error;
  if (params.context != condition->context) return CUDA_ERROR_INVALID_VALUE;
  bool inside = false;
  const auto home = condition->graph.lock();
  for (const Graph* at = &graph; at != nullptr; at = at->parent) inside = inside || at == home.get();
  if (!inside) return CUDA_ERROR_INVALID_VALUE;
  const unsigned size = given.size;
  switch (given.type) {
    case CU_GRAPH_COND_TYPE_IF:
      if (size != 1 && size != 2) return CUDA_ERROR_INVALID_VALUE;
      break;
    case CU_GRAPH_COND_TYPE_WHILE:
      if (size != 1) return CUDA_ERROR_INVALID_VALUE;
      break;
    case CU_GRAPH_COND_TYPE_SWITCH:
      if (size == 0 || size > kMaxBodies) return CUDA_ERROR_INVALID_VALUE;
      break;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
  params.condition = condition;
  params.type = given.type;
  params.handles = std::make_shared<std::vector<CUgraph>>();
  for (unsigned i = 0; i < size; ++i) {
    auto body = new_graph();
    body->conditional_body = true;
    params.handles->push_back(handle_of(*body));
    params.bodies.push_back(std::move(body));
  }
  condition->used = true;
  given.phGraph_out = params.handles->data();
  return CUDA_SUCCESS;
}

namespace {

CUresult make_kernel_of(const CUDA_KERNEL_NODE_PARAMS_v3& g, const Node* node, Params& params) {
  const CUDA_KERNEL_NODE_PARAMS given{g.func,         g.gridDimX,  g.gridDimY,  g.gridDimZ,
                                      g.blockDimX,    g.blockDimY, g.blockDimZ, g.sharedMemBytes,
                                      g.kernelParams, g.extra,     g.kern,      g.ctx};
  // Attributes stay when parameters are set.
  KernelParams kernel = node != nullptr ? std::get<KernelParams>(node->params) : KernelParams{};
  if (const auto error = make_kernel(given, kernel)) return error;
  params = std::move(kernel);
  return CUDA_SUCCESS;
}

/// Kinds whose parameters are set once.
CUresult make_fixed(CUgraphNodeParams& given, Graph& graph, Params& params) {
  CUresult error = CUDA_ERROR_INVALID_VALUE;
  if (given.type == CU_GRAPH_NODE_TYPE_MEM_ALLOC) {
    AllocParams alloc;
    const auto& a = given.alloc;
    CUDA_MEM_ALLOC_NODE_PARAMS older{a.poolProps, a.accessDescs, a.accessDescCount, a.bytesize, 0};
    error = make_alloc(older, graph, alloc);
    given.alloc.dptr = older.dptr;
    params = std::move(alloc);
  } else if (given.type == CU_GRAPH_NODE_TYPE_MEM_FREE) {
    FreeParams free;
    error = make_free(given.free.dptr, graph, free);
    params = std::move(free);
  } else if (given.type == CU_GRAPH_NODE_TYPE_CONDITIONAL) {
    ConditionalParams conditional;
    error = make_conditional(given.conditional, graph, conditional);
    params = std::move(conditional);
  }
  return error;
}

}  // namespace

CUresult make_params(CUgraphNodeParams& given, Graph& graph, const Node* node, Params& params) {
  if (given.reserved0[0] != 0 || given.reserved0[1] != 0 || given.reserved0[2] != 0 || given.reserved2 != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  CUresult error = CUDA_SUCCESS;
  switch (given.type) {
    case CU_GRAPH_NODE_TYPE_KERNEL:
      return make_kernel_of(given.kernel, node, params);
    case CU_GRAPH_NODE_TYPE_MEMCPY: {
      if (given.memcpy.flags != 0 || given.memcpy.reserved != 0) return CUDA_ERROR_INVALID_VALUE;
      CopyParams copy;
      error = make_copy(given.memcpy.copyParams, given.memcpy.copyCtx, copy);
      params = std::move(copy);
      return error;
    }
    case CU_GRAPH_NODE_TYPE_MEMSET: {
      SetParams set;
      const auto& m = given.memset;
      error = make_set({m.dst, m.pitch, m.value, m.elementSize, m.width, m.height}, m.ctx, set);
      params = std::move(set);
      return error;
    }
    case CU_GRAPH_NODE_TYPE_HOST:
      params = HostParams{given.host.fn, given.host.userData};
      return given.host.fn == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
    case CU_GRAPH_NODE_TYPE_GRAPH: {
      ChildParams child;
      error = make_child(given.graph.graph, given.graph.ownership, graph, child);
      params = std::move(child);
      return error;
    }
    case CU_GRAPH_NODE_TYPE_EMPTY:
      params = EmptyParams{};
      return CUDA_SUCCESS;
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT: {
      WaitParams wait;
      error = make_event(given.eventWait.event, wait.event);
      params = std::move(wait);
      return error;
    }
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD: {
      RecordParams record;
      error = make_event(given.eventRecord.event, record.event);
      params = std::move(record);
      return error;
    }
    case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP: {
      BatchParams batch;
      const auto& m = given.memOp;
      error = make_batch({m.ctx, m.count, m.paramArray, m.flags}, batch);
      params = std::move(batch);
      return error;
    }
    case CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL:
    case CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT:
      return CUDA_ERROR_NOT_SUPPORTED;
    default:
      return node != nullptr ? CUDA_ERROR_NOT_SUPPORTED : make_fixed(given, graph, params);
  }
}

}  // namespace avec::cpu
