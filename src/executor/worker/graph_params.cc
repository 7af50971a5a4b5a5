#include "executor/worker/graph_params.h"

#include <algorithm>

#include "executor/worker/session.h"

namespace avec::worker {
namespace {

/// Kernel attributes that a node has; their values hold no handle. The window's address is a hint.
constexpr unsigned kAttributes[] = {CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW,
                                    CU_LAUNCH_ATTRIBUTE_COOPERATIVE,
                                    CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
                                    CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE,
                                    CU_LAUNCH_ATTRIBUTE_PRIORITY,
                                    CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP,
                                    CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN,
                                    CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT};
constexpr std::uint32_t kMaxMemOps = 4096;

}  // namespace

bool to_driver(const wire::GraphAttribute& attribute, CUlaunchAttributeValue& value) {
  static_assert(sizeof value == sizeof(*attribute.value()));
  if (std::ranges::find(kAttributes, attribute.id()) == std::end(kAttributes)) return false;
  std::memcpy(&value, attribute.value()->data(), sizeof value);
  return true;
}

CUgraphEdgeData edge_data(const wire::GraphEdge& edge) { return {edge.from_port(), edge.to_port(), edge.type(), {}}; }
CUgraphEdgeData edge_data(const wire::GraphLink& link) { return {link.from_port(), link.to_port(), link.type(), {}}; }

Result<> Session::read_kernel(PayloadReader& reader, NodeParams& node, CUresult& status) {
  wire::GraphKernelParams call;
  if (!reader.take(call)) return protocol_error("a node without its parameters");
  if (!reader.take(node.attributes, call.attributes())) return protocol_error("a node without its attributes");
  if (call.parameter_bytes() > limits::kMaxParameterBytes || !reader.take(node.buffer, call.parameter_bytes()))
    return protocol_error("a parameter buffer over the limit");
  Module* module = nullptr;
  Function* function = find_function(call.module_(), call.index(), module, status);
  if (function == nullptr) return {};
  if (node.buffer.size() != function->parameter_bytes)
    return protocol_error("a parameter buffer that does not have the function's size");
  module->in_graphs = true;
  node.module = call.module_();
  for (const std::uint32_t offset : function->offsets) node.pointers.push_back(node.buffer.data() + offset);
  auto& kernel = node.params.kernel;
  kernel.func = function->handle;
  kernel.gridDimX = call.grid_x();
  kernel.gridDimY = call.grid_y();
  kernel.gridDimZ = call.grid_z();
  kernel.blockDimX = call.block_x();
  kernel.blockDimY = call.block_y();
  kernel.blockDimZ = call.block_z();
  kernel.sharedMemBytes = call.shared_bytes();
  kernel.kernelParams = node.pointers.data();
  kernel.ctx = module->context->handle;
  return {};
}

Result<> Session::read_copy(PayloadReader& reader, NodeParams& node, CUresult& status) {
  wire::GraphCopyParams call;
  if (!reader.take(call)) return protocol_error("a node without its parameters");
  Context* context = find_context(call.context(), status);
  if (context == nullptr) return {};
  const auto check = [&](std::uint64_t address, std::uint64_t pitch, std::uint64_t rows) {
    std::uint64_t all_rows = 0;
    if (call.depth() == 0 || call.height() == 0 || __builtin_mul_overflow(rows, call.depth() - 1, &all_rows) ||
        __builtin_add_overflow(all_rows, call.height(), &all_rows)) {
      return false;
    }
    const Extent extent{address, pitch, call.width(), all_rows};
    return (call.depth() == 1 || rows >= call.height()) && extent.sane() && check_extent(extent) == CUDA_SUCCESS;
  };
  if (!check(call.destination(), call.destination_pitch(), call.destination_rows()) ||
      !check(call.source(), call.source_pitch(), call.source_rows())) {
    status = CUDA_ERROR_INVALID_VALUE;
    return {};
  }
  node.params.memcpy.copyCtx = context->handle;
  CUDA_MEMCPY3D& copy = node.params.memcpy.copyParams;
  copy.srcMemoryType = copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.srcDevice = call.source();
  copy.srcPitch = call.source_pitch();
  copy.srcHeight = call.source_rows();
  copy.dstDevice = call.destination();
  copy.dstPitch = call.destination_pitch();
  copy.dstHeight = call.destination_rows();
  copy.WidthInBytes = call.width();
  copy.Height = call.height();
  copy.Depth = call.depth();
  return {};
}

Result<> Session::read_fill(PayloadReader& reader, NodeParams& node, CUresult& status) {
  wire::GraphFillParams call;
  if (!reader.take(call)) return protocol_error("a node without its parameters");
  Context* context = find_context(call.context(), status);
  if (context == nullptr) return {};
  const std::uint64_t element = call.element_bytes();
  if ((element != 1 && element != 2 && element != 4) || call.width() > limits::kMaxPayloadBytes)
    return protocol_error("a set of elements that do not exist");
  const Extent extent{call.destination(), call.pitch(), call.width() * element, call.height()};
  if (!extent.sane() || check_extent(extent) != CUDA_SUCCESS || extent.address % element != 0 ||
      (extent.height > 1 && extent.pitch % element != 0)) {
    status = CUDA_ERROR_INVALID_VALUE;
    return {};
  }
  auto& fill = node.params.memset;
  fill.dst = call.destination();
  fill.pitch = call.pitch();
  fill.value = call.value();
  fill.elementSize = call.element_bytes();
  fill.width = call.width();
  fill.height = call.height();
  fill.ctx = context->handle;
  return {};
}

Result<> Session::read_conditional(PayloadReader& reader, NodeParams& node, CUresult& status) {
  wire::GraphConditionalParams call;
  if (!reader.take(call)) return protocol_error("a node without its parameters");
  Context* context = find_context(call.context(), status);
  if (context == nullptr) return {};
  const bool known = conditional_handles_.contains(call.handle());
  if (!known || call.type() > CU_GRAPH_COND_TYPE_SWITCH || call.graphs() == 0 || call.graphs() > limits::kMaxHandles) {
    status = CUDA_ERROR_INVALID_VALUE;
    return {};
  }
  auto& conditional = node.params.conditional;
  conditional.handle = call.handle();
  conditional.type = static_cast<CUgraphConditionalNodeType>(call.type());
  conditional.size = call.graphs();
  conditional.ctx = context->handle;
  node.first_graph = call.first_graph();
  return {};
}

Result<> Session::read_batch(PayloadReader& reader, NodeParams& node, CUresult& status) {
  wire::GraphBatchParams call;
  std::vector<wire::GraphMemOp> operations;
  if (!reader.take(call) || call.count() > kMaxMemOps || !reader.take(operations, call.count()))
    return protocol_error("a node without its parameters");
  Context* context = find_context(call.context(), status);
  if (context == nullptr) return {};
  for (const wire::GraphMemOp& operation : operations) {
    auto& made = node.operations.emplace_back();
    std::memset(&made, 0, sizeof made);
    const bool wide = operation.operation() == CU_STREAM_MEM_OP_WAIT_VALUE_64 ||
                      operation.operation() == CU_STREAM_MEM_OP_WRITE_VALUE_64;
    switch (operation.operation()) {
      case CU_STREAM_MEM_OP_WAIT_VALUE_32:
      case CU_STREAM_MEM_OP_WAIT_VALUE_64:
      case CU_STREAM_MEM_OP_WRITE_VALUE_32:
      case CU_STREAM_MEM_OP_WRITE_VALUE_64:
        if (!memory_.covers(operation.address(), wide ? 8 : 4)) status = CUDA_ERROR_INVALID_VALUE;
        made.writeValue.address = operation.address();
        made.writeValue.value64 = operation.value();
        made.writeValue.flags = operation.flags();
        break;
      case CU_STREAM_MEM_OP_BARRIER:
        made.memoryBarrier.flags = operation.flags();
        break;
      default:
        status = CUDA_ERROR_NOT_SUPPORTED;
    }
    made.operation = static_cast<CUstreamBatchMemOpType>(operation.operation());
  }
  node.params.memOp.ctx = context->handle;
  node.params.memOp.count = call.count();
  node.params.memOp.flags = call.flags();
  node.params.memOp.paramArray = node.operations.data();
  return {};
}

/// What the payload says for a node of this type; an error of CUDA's is left in `status`.
Result<> Session::read_params(unsigned type, ConstBytes payload, NodeParams& node, CUresult& status) {
  PayloadReader reader(payload);
  status = CUDA_SUCCESS;
  node.params.type = static_cast<CUgraphNodeType>(type);
  switch (type) {
    case CU_GRAPH_NODE_TYPE_KERNEL:
      return read_kernel(reader, node, status);
    case CU_GRAPH_NODE_TYPE_MEMCPY:
      return read_copy(reader, node, status);
    case CU_GRAPH_NODE_TYPE_MEMSET:
      return read_fill(reader, node, status);
    case CU_GRAPH_NODE_TYPE_CONDITIONAL:
      return read_conditional(reader, node, status);
    case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
      return read_batch(reader, node, status);
    case CU_GRAPH_NODE_TYPE_EMPTY:
      return {};
    case CU_GRAPH_NODE_TYPE_HOST: {
      wire::GraphHostParams call;
      if (!reader.take(call)) return protocol_error("a node without its parameters");
      node.params.host.fn = &HostCalls::run;
      node.params.host.userData = host_calls_.data_of(call.function());
      if (node.params.host.userData == nullptr) status = CUDA_ERROR_OUT_OF_MEMORY;
      return {};
    }
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD: {
      wire::GraphEventParams call;
      if (!reader.take(call)) return protocol_error("a node without its parameters");
      Event* event = find_event(call.event(), status);
      if (event == nullptr) return {};
      const bool records = type == CU_GRAPH_NODE_TYPE_EVENT_RECORD;
      (records ? node.params.eventRecord.event : node.params.eventWait.event) = event->handle;
      if (records) node.event = call.event();
      return {};
    }
    case CU_GRAPH_NODE_TYPE_GRAPH: {
      wire::GraphChildParams call;
      if (!reader.take(call)) return protocol_error("a node without its parameters");
      Graph* child = find_graph(call.graph(), status);
      if (child == nullptr) return {};
      node.params.graph.graph = child->handle;
      node.child_events = &child->events;
      return {};
    }
    default:
      return protocol_error("a type of node that does not exist");
  }
}

// ---- parameters that the client asks for ----------------------------------------------------

bool Session::name_of_function(CUfunction handle, std::uint64_t& module, std::uint32_t& index) {
  for (auto& [name, candidate] : modules_) {
    for (std::size_t i = 0; i < candidate->functions.size(); ++i) {
      if (candidate->functions[i].handle != handle) continue;
      module = name;
      index = static_cast<std::uint32_t>(i);
      return true;
    }
  }
  return false;
}

CUresult Session::write_kernel(const GraphNode& node, std::vector<std::byte>& out) {
  CUDA_KERNEL_NODE_PARAMS kernel{};
  if (const CUresult status = driver_.cuGraphKernelNodeGetParams(node.handle, &kernel); status != CUDA_SUCCESS)
    return status;
  std::uint64_t module = 0;
  std::uint32_t index = 0;
  if (!name_of_function(kernel.func, module, index)) return CUDA_ERROR_INVALID_HANDLE;
  const Module& owner = *modules_.find(module);
  const Function& function = owner.functions[index];
  std::vector<wire::GraphAttribute> attributes;
  for (const unsigned id : kAttributes) {
    CUlaunchAttributeValue value;
    std::memset(&value, 0, sizeof value);
    const auto which = static_cast<CUlaunchAttributeID>(id);
    if (driver_.cuGraphKernelNodeGetAttribute(node.handle, which, &value) != CUDA_SUCCESS) continue;
    std::array<std::uint8_t, 64> bytes;
    std::memcpy(bytes.data(), &value, bytes.size());
    attributes.emplace_back(id, 0, bytes);
  }
  append(out, wire::GraphKernelParams(module, owner.context->name, index, kernel.sharedMemBytes, kernel.gridDimX,
                                      kernel.gridDimY, kernel.gridDimZ, kernel.blockDimX, kernel.blockDimY,
                                      kernel.blockDimZ, static_cast<std::uint32_t>(attributes.size()),
                                      function.parameter_bytes));
  for (const auto& attribute : attributes) append(out, attribute);
  const std::size_t base = out.size();
  out.resize(base + function.parameter_bytes);
  if (kernel.kernelParams == nullptr) return CUDA_SUCCESS;
  for (std::size_t i = 0; i < function.offsets.size(); ++i)
    std::memcpy(out.data() + base + function.offsets[i], kernel.kernelParams[i], function.sizes[i]);
  return CUDA_SUCCESS;
}

CUresult Session::write_params(const GraphNode& node, CUgraphNodeType type, std::vector<std::byte>& out) {
  const std::uint64_t context = node.graph->context->name;
  CUresult status = CUDA_SUCCESS;
  switch (type) {
    case CU_GRAPH_NODE_TYPE_KERNEL:
      return write_kernel(node, out);
    case CU_GRAPH_NODE_TYPE_MEMCPY: {
      CUDA_MEMCPY3D copy{};
      status = driver_.cuGraphMemcpyNodeGetParams(node.handle, &copy);
      if (status != CUDA_SUCCESS) return status;
      // Copies of this session's graphs go between addresses of its device memory; others are not told.
      const auto side = [&](CUmemorytype kind, CUdeviceptr device) {
        const bool linear = kind == CU_MEMORYTYPE_DEVICE || kind == CU_MEMORYTYPE_UNIFIED;
        return linear && memory_.covers(device, 1) ? device : CUdeviceptr{0};
      };
      append(out, wire::GraphCopyParams(side(copy.dstMemoryType, copy.dstDevice), copy.dstPitch, copy.dstHeight,
                                        side(copy.srcMemoryType, copy.srcDevice), copy.srcPitch, copy.srcHeight,
                                        copy.WidthInBytes, copy.Height, copy.Depth, context));
      return CUDA_SUCCESS;
    }
    case CU_GRAPH_NODE_TYPE_MEMSET: {
      CUDA_MEMSET_NODE_PARAMS fill{};
      status = driver_.cuGraphMemsetNodeGetParams(node.handle, &fill);
      if (status != CUDA_SUCCESS) return status;
      append(out, wire::GraphFillParams(fill.dst, fill.pitch, fill.width, fill.height, fill.value, fill.elementSize,
                                        context));
      return CUDA_SUCCESS;
    }
    case CU_GRAPH_NODE_TYPE_HOST: {
      CUDA_HOST_NODE_PARAMS host{};
      status = driver_.cuGraphHostNodeGetParams(node.handle, &host);
      if (status != CUDA_SUCCESS) return status;
      append(out, wire::GraphHostParams(host_calls_.function_of(host.userData)));
      return CUDA_SUCCESS;
    }
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD: {
      CUevent event = nullptr;
      status = type == CU_GRAPH_NODE_TYPE_WAIT_EVENT ? driver_.cuGraphEventWaitNodeGetEvent(node.handle, &event)
                                                     : driver_.cuGraphEventRecordNodeGetEvent(node.handle, &event);
      if (status != CUDA_SUCCESS) return status;
      for (auto& [name, candidate] : events_) {
        if (candidate->handle != event) continue;
        append(out, wire::GraphEventParams(name));
        return CUDA_SUCCESS;
      }
      return CUDA_ERROR_INVALID_HANDLE;
    }
    default:
      return CUDA_SUCCESS;
  }
}

}  // namespace avec::worker
