// Executable graphs. A launch is one posted frame; copies from and to memory of this process go before
// and behind it.
#include <algorithm>

#include "client/callbacks.h"
#include "client/capture.h"
#include "client/client.h"
#include "client/coherence.h"
#include "client/context.h"
#include "client/event.h"
#include "client/graph.h"
#include "client/graph_nodes.h"
#include "client/status.h"
#include "client/stream.h"
#include "client/user_object.h"
#include "session/session.h"

namespace avec::client {
namespace {

constexpr cuuint64_t kFlags = CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH |
                              CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD | CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH |
                              CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;
std::atomic<std::uint64_t> next_id{1};

/// What allocation and free nodes do to the state of their memory.
CUresult change_allocations(GraphExec& exec) {
  const bool frees_before = (exec.flags & CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH) != 0;
  for (const auto& allocation : exec.belongings.frees) {
    const auto& own = exec.belongings.allocations;
    if (!allocation->live.load() && std::ranges::find(own, allocation) == own.end())
      return CUDA_ERROR_INVALID_VALUE;
  }
  for (const auto& allocation : exec.belongings.allocations) {
    if (!frees_before && allocation->live.load()) return CUDA_ERROR_INVALID_VALUE;
  }
  for (const auto& allocation : exec.belongings.allocations) allocated_by_launch(allocation);
  if (!exec.belongings.allocations.empty()) graph_memory_use(*exec.context->device);  // the highest
  for (const auto& allocation : exec.belongings.frees) (void)free_graph_allocation(allocation);
  return CUDA_SUCCESS;
}

/// Events that the graph's nodes record have been recorded from now on.
void record_events(const GraphExec& exec, Stream& stream) {
  for (const EventReference& reference : exec.belongings.events) {
    Event* event = Slab<Event>::find(reference.event);
    if (event == nullptr || event->name != reference.name) continue;
    event->capture_id.store(0);
    event->progress.elsewhere.store(true);
    note_record(reference.event, stream);
  }
}

CUresult launch_with_belongings(GraphExec& exec, Stream& stream) {
  session::Session& session = stream.context->client->session();
  const auto post = [&] { return to_cuda(session.post(wire::GraphLaunch(exec.name, stream.name))); };
  std::scoped_lock lock(exec.mutex);
  if (const CUresult result = change_allocations(exec); result != CUDA_SUCCESS) return result;
  exec.launched.store(true);
  exec.last_stream = handle_of(&stream);
  const bool exchanges = !exec.belongings.copies.empty() && !exec.belongings.functions.empty();
  const bool copies = !exec.belongings.copies.empty() && !exchanges;
  std::shared_ptr<HostExchange> exchange;
  if (exchanges) {
    take_host_copies(exec, stream);
    if (const CUresult result = begin_exchange(exec, stream, exchange); result != CUDA_SUCCESS) return result;
  }
  if (copies) {
    wait_for_host_functions(stream);  // they may write what is read now
    if (const CUresult result = send_host_copies(exec, stream); result != CUDA_SUCCESS) return result;
  }
  const auto calls = static_cast<int>(exec.belongings.functions.size());
  session.expect_pushes(calls);
  if (const CUresult result = post(); result != CUDA_SUCCESS) {
    session.expect_pushes(-calls);
    return result;
  }
  CUresult fetched = copies ? fetch_host_copies(exec, stream) : CUDA_SUCCESS;
  if (exchanges) {
    fetched = end_exchange(exchange, stream);
    leave_host_copies(exec, stream);
  } else if (calls != 0) {
    // Work behind the launch that reads memory of this process when it is added waits for its functions.
    fetched = after_work(handle_of(&stream), [](CUresult) {});
  }
  record_events(exec, stream);
  return fetched;
}

/// Launches the graph; `watched`: it may use memory that the host writes, too.
CUresult launch_graph(GraphExec& exec, Stream& stream, bool watched) {
  Coherence& coherence = stream.context->client->coherence();
  if (watched) {
    if (const CUresult result = coherence.before_kernel(stream, {}); result != CUDA_SUCCESS) return result;
  }
  const CUresult result =
      exec.plain.load(std::memory_order_relaxed)
          ? to_cuda(stream.context->client->session().post(wire::GraphLaunch(exec.name, stream.name)))
          : launch_with_belongings(exec, stream);
  if (watched) coherence.work_posted();
  return result;
}

}  // namespace

CUresult graph_launch(CUgraphExec handle, CUstream stream_handle) {
  GraphExec* exec = Slab<GraphExec>::find(handle);
  if (exec == nullptr) [[unlikely]]
    return CUDA_ERROR_INVALID_VALUE;
  Stream* stream;
  if (const CUresult result = stream_for_device_work(stream_handle, stream); result != CUDA_SUCCESS) [[unlikely]]
    return result;
  if (stream->context->client != exec->context->client) [[unlikely]]
    return CUDA_ERROR_INVALID_HANDLE;
  if (const CUresult result = uncapturable(*stream); result != CUDA_SUCCESS) [[unlikely]]
    return result;
  Client& client = *stream->context->client;
  // Its kernels' parameters were looked at when they became nodes: buffers that they name take part.
  return launch_graph(*exec, *stream, client.launches_watched() && client.coherence().concerned({}));
}

CUresult graph_upload(CUgraphExec handle, CUstream stream_handle) {
  GraphExec* exec;
  if (const CUresult result = find_exec(handle, exec); result != CUDA_SUCCESS) return result;
  Stream* stream;
  if (const CUresult result = stream_for_work(stream_handle, stream); result != CUDA_SUCCESS) return result;
  if (const CUresult result = uncapturable(*stream); result != CUDA_SUCCESS) return result;
  return to_cuda(stream->context->client->session().post(wire::GraphUpload(exec->name, stream->name)));
}

CUresult graph_instantiate(CUgraphExec* handle, CUgraph graph_handle, CUDA_GRAPH_INSTANTIATE_PARAMS& params) {
  std::scoped_lock lock(graphs_mutex);
  Graph* graph;
  if (const CUresult result = find_graph(graph_handle, graph); result != CUDA_SUCCESS) return result;
  params.hErrNode_out = nullptr;
  params.result_out = CUDA_GRAPH_INSTANTIATE_ERROR;
  if (handle == nullptr || (params.flags & ~kFlags) != 0 || graph->in_capture)
    return CUDA_ERROR_INVALID_VALUE;
  // Their nodes have one state, and their memory one address.
  const bool once = graph->has_conditional || !graph->belongings.allocations.empty();
  if (once && graph->execs != 0) return CUDA_ERROR_NOT_SUPPORTED;
  Stream* upload = nullptr;
  if ((params.flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD) != 0) {
    if (const CUresult result = stream_for_work(params.hUploadStream, upload); result != CUDA_SUCCESS)
      return result;
  }
  Client& client = client_of(*graph);
  const std::uint64_t name = client.mint();
  const cuuint64_t flags = params.flags & ~cuuint64_t{CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH};
  const auto reply = client.session().call(
      wire::GraphInstantiate(name, graph->name, flags, upload != nullptr ? upload->name : 0));
  if (!reply) return to_cuda(reply.error());
  params.result_out = static_cast<CUgraphInstantiateResult>(reply->result());
  if (reply->status() != CUDA_SUCCESS) {
    const auto node = graph->by_name.find(reply->node());
    if (node != graph->by_name.end()) params.hErrNode_out = handle_of(node->second);
    return static_cast<CUresult>(reply->status());
  }
  GraphExec* exec = Slab<GraphExec>::make();
  if (exec == nullptr) {
    (void)client.session().post(wire::GraphExecDestroy(name));
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  exec->context = graph->context;
  exec->name = name;
  exec->id = next_id.fetch_add(1);
  // As an H100 tells them: what was asked of the instantiation only is no flag of what was made.
  exec->flags = params.flags & ~cuuint64_t{CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD |
                                           CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY};
  exec->graph = graph;
  exec->graph_name = graph->name;
  exec->belongings = graph->belongings;
  exec->user_objects = graph->user_objects;
  for (const UserReference& reference : exec->user_objects)
    add_references(*reference.object, reference.count);
  exec->plain.store(exec->belongings.empty());
  ++graph->execs;
  {
    std::scoped_lock own(graph->context->mutex);
    graph->context->graph_execs.insert(exec);
  }
  *handle = handle_of(exec);
  return CUDA_SUCCESS;
}

/// Ends the object: what its launches may still need stays.
void release_exec(GraphExec& exec) {
  Graph* graph = exec.graph;
  if (Slab<Graph>::find(graph) != nullptr && graph->name == exec.graph_name) --graph->execs;
  const bool launched = exec.launched.load();
  if (launched) {
    for (const auto& function : exec.belongings.functions) keep_host_function(function);
  }
  std::vector<UserReference> references = std::move(exec.user_objects);
  const std::uint64_t event = exec.event;
  const CUstream stream = exec.last_stream;
  Context& context = *exec.context;
  Slab<GraphExec>::destroy(&exec);
  if (event != 0) (void)context.client->session().post(wire::EventDestroy(event));
  if (references.empty()) return;
  const auto release = [references = std::move(references)](CUresult) {
    for (const UserReference& reference : references) release_references(*reference.object, reference.count);
  };
  if (!launched || Slab<Stream>::find(stream) == nullptr || after_work(stream, release) != CUDA_SUCCESS)
    release(CUDA_SUCCESS);
}

CUresult graph_exec_destroy(CUgraphExec handle) {
  std::scoped_lock lock(graphs_mutex);
  GraphExec* exec = Slab<GraphExec>::find(handle);
  if (exec == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Context& context = *exec->context;
  const std::uint64_t name = exec->name;
  {
    std::scoped_lock own(context.mutex);
    context.graph_execs.erase(exec);
  }
  (void)context.client->session().post(wire::GraphExecDestroy(name));
  release_exec(*exec);
  return static_cast<CUresult>(context.error.load());
}

CUresult graph_exec_flags(CUgraphExec handle, cuuint64_t* flags) {
  GraphExec* exec;
  if (const CUresult result = find_exec(handle, exec); result != CUDA_SUCCESS) return result;
  if (flags == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *flags = exec->flags;
  return CUDA_SUCCESS;
}

CUresult graph_exec_update(CUgraphExec handle, CUgraph graph_handle, CUgraphExecUpdateResultInfo* info) {
  std::scoped_lock lock(graphs_mutex);
  GraphExec* exec;
  if (const CUresult result = find_exec(handle, exec); result != CUDA_SUCCESS) return result;
  Graph* graph;
  if (const CUresult result = find_graph(graph_handle, graph); result != CUDA_SUCCESS) return result;
  if (info == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *info = {CU_GRAPH_EXEC_UPDATE_ERROR, nullptr, nullptr};
  Client& client = client_of(*graph);
  const auto reply =
      client.session().call(wire::GraphExecUpdate(exec->name, graph->name, client.mint(limits::kMaxHandles)));
  if (!reply) return to_cuda(reply.error());
  info->result = static_cast<CUgraphExecUpdateResult>(reply->result());
  const auto node_of = [&](std::uint64_t name) -> CUgraphNode {
    if (name == 0) return nullptr;
    if (!graph->by_name.contains(name) && describe(*graph) != CUDA_SUCCESS) return nullptr;
    const auto found = graph->by_name.find(name);
    return found == graph->by_name.end() ? nullptr : handle_of(found->second);
  };
  info->errorNode = node_of(reply->node());
  info->errorFromNode = node_of(reply->from_node());
  if (reply->status() != CUDA_SUCCESS) return static_cast<CUresult>(reply->status());
  std::scoped_lock own(exec->mutex);
  if (exec->launched.load()) {
    for (const auto& function : exec->belongings.functions) keep_host_function(function);
  }
  exec->belongings = graph->belongings;
  exec->changed_copies.clear();
  exec->plain.store(exec->belongings.empty());
  return CUDA_SUCCESS;
}

namespace {

CUresult can_be_disabled(GraphNode& node) {
  const bool can = node.type == CU_GRAPH_NODE_TYPE_KERNEL || node.type == CU_GRAPH_NODE_TYPE_MEMCPY ||
                   node.type == CU_GRAPH_NODE_TYPE_MEMSET;
  return can ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/// A copy node that is disabled moves no bytes of this process.
void count_copy(GraphExec& exec, const GraphNode& node, bool enabled) {
  const auto changed = exec.changed_copies.find(node.name);
  const auto* copy = std::get_if<CopyNode>(&node.params);
  if (copy == nullptr) return;
  const HostCopyUse& use = changed != exec.changed_copies.end() ? changed->second : copy->host;
  if (use.place == nullptr) return;
  if (enabled) {
    exec.belongings.add_copy(use);
  } else {
    exec.belongings.remove_copy(*use.place, use.to_device != 0);
  }
}

}  // namespace

CUresult graph_node_set_enabled(CUgraphExec handle, CUgraphNode node_handle, unsigned enabled) {
  std::scoped_lock lock(graphs_mutex);
  GraphExec* exec;
  if (const CUresult result = find_exec(handle, exec); result != CUDA_SUCCESS) return result;
  GraphNode* node;
  if (const CUresult result = find_node(node_handle, node); result != CUDA_SUCCESS) return result;
  if (const CUresult result = can_be_disabled(*node); result != CUDA_SUCCESS) return result;
  if (node->type == CU_GRAPH_NODE_TYPE_MEMCPY) {
    if (const CUresult result = learn_params(*node); result != CUDA_SUCCESS) return result;
  }
  std::scoped_lock own(exec->mutex);
  const bool was_disabled = std::exchange(exec->disabled[node->name], enabled == 0);
  if (was_disabled != (enabled == 0)) count_copy(*exec, *node, enabled != 0);
  return to_cuda(exec->context->client->session().post(
      wire::GraphNodeSetEnabled(exec->name, node->name, enabled != 0 ? 1 : 0, 0)));
}

CUresult graph_node_get_enabled(CUgraphExec handle, CUgraphNode node_handle, unsigned* enabled) {
  std::scoped_lock lock(graphs_mutex);
  GraphExec* exec;
  if (const CUresult result = find_exec(handle, exec); result != CUDA_SUCCESS) return result;
  GraphNode* node;
  if (const CUresult result = find_node(node_handle, node); result != CUDA_SUCCESS) return result;
  if (enabled == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult result = can_be_disabled(*node); result != CUDA_SUCCESS) return result;
  std::scoped_lock own(exec->mutex);
  const auto found = exec->disabled.find(node->name);
  *enabled = found == exec->disabled.end() || !found->second ? 1 : 0;
  return CUDA_SUCCESS;
}

}  // namespace avec::client
