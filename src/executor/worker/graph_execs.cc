// Executable graphs: instantiating, launching, updating; and host nodes, which ask the client.
#include "executor/worker/session.h"

namespace avec::worker {

GraphExec* Session::find_exec(std::uint64_t name, CUresult& status) {
  GraphExec* exec = graph_execs_.find(name);
  status = exec == nullptr ? CUDA_ERROR_INVALID_VALUE : exec->poison;
  return status == CUDA_SUCCESS ? exec : nullptr;
}

Result<> Session::operator()(const Header& header, const wire::GraphInstantiate& call) {
  CUresult status;
  if (graph_execs_.find(call.exec()) != nullptr) return protocol_error("an executable graph's name that is taken");
  Graph* graph = find_graph(call.graph(), status);
  if (graph == nullptr) return finish(header, status);
  Stream* stream = nullptr;
  if (call.upload_stream() != 0) {
    stream = find_stream(call.upload_stream(), status);
    if (stream == nullptr) return finish(header, status);
    if (stream->capturing) return finish(header, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    if (hold(*stream)) return {};
    before_issue(*stream);
  }
  if (driver_.cuGraphInstantiateWithParams == nullptr) return finish(header, CUDA_ERROR_NOT_SUPPORTED);
  make_current(*graph->context);
  CUDA_GRAPH_INSTANTIATE_PARAMS params{};
  params.flags = call.flags();
  params.hUploadStream = stream != nullptr ? stream->handle : nullptr;
  CUgraphExec handle = nullptr;
  status = driver_.cuGraphInstantiateWithParams(&handle, graph->handle, &params);
  if (status != CUDA_SUCCESS) {
    const auto named = graph->names.find(params.hErrNode_out);
    const std::uint64_t node = named != graph->names.end() ? named->second : 0;
    return answer(header, wire::GraphInstantiateReply(status, params.result_out, node));
  }
  if (stream != nullptr) completions_.issued(*stream);
  GraphExec* exec = graph_execs_.add(call.exec());
  if (exec == nullptr) {
    driver_.cuGraphExecDestroy(handle);
    return protocol_error("an executable graph's name that cannot be given");
  }
  exec->handle = handle;
  exec->context = graph->context;
  exec->events = graph->events;
  return answer(header, wire::GraphInstantiateReply(CUDA_SUCCESS, params.result_out, 0));
}

Result<> Session::operator()(const Header& header, const wire::GraphExecDestroy& call) {
  CUresult status;
  GraphExec* exec = find_exec(call.exec(), status);
  if (exec == nullptr) {
    graph_execs_.remove(call.exec());
    return finish(header, status);
  }
  if (hold_behind(all_streams(), false)) return {};
  make_current(*exec->context);
  CUgraphExec handle = exec->handle;
  graph_execs_.remove(call.exec());
  return finish(header, driver_.cuGraphExecDestroy(handle));
}

Result<> Session::operator()(const Header& header, const wire::GraphLaunch& call) {
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  GraphExec* exec = find_exec(call.exec(), status);
  if (exec == nullptr) return finish(header, status);
  std::vector<HeldPoint> after;
  if (!exec->events.empty()) after = before_recording(*exec);
  if (hold(*stream, after)) {
    for (const std::uint64_t name : exec->events)
      if (Event* event = events_.find(name)) event->held_record = {stream, stream->held.back().sequence};
    return {};
  }
  if (replaying_ != nullptr) {
    for (const std::uint64_t name : exec->events) {
      Event* event = events_.find(name);
      if (event != nullptr && event->held_record.sequence == replaying_->sequence) event->held_record = {};
    }
  }
  before_issue(*stream);
  status = driver_.cuGraphLaunch(exec->handle, stream->handle);
  if (status == CUDA_SUCCESS) completions_.issued(*stream);
  return finish(header, status);
}

/// What a launch that records events comes after: their earlier records, and the waits for those.
std::vector<HeldPoint> Session::before_recording(const GraphExec& exec) {
  std::vector<HeldPoint> after;
  for (const std::uint64_t name : exec.events) {
    const Event* event = events_.find(name);
    if (event == nullptr) continue;
    after.insert(after.end(), event->held_waits.begin(), event->held_waits.end());
    after.push_back(event->held_record);
  }
  return after;
}

Result<> Session::operator()(const Header& header, const wire::GraphUpload& call) {
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  GraphExec* exec = find_exec(call.exec(), status);
  if (exec == nullptr) return finish(header, status);
  if (stream->capturing) return finish(header, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  if (hold(*stream)) return {};
  before_issue(*stream);
  status = driver_.cuGraphUpload(exec->handle, stream->handle);
  if (status == CUDA_SUCCESS) completions_.issued(*stream);
  return finish(header, status);
}

Result<> Session::operator()(const Header& header, const wire::GraphExecUpdate& call) {
  CUresult status;
  GraphExec* exec = find_exec(call.exec(), status);
  if (exec == nullptr) return finish(header, status);
  Graph* graph = find_graph(call.graph(), status);
  if (graph == nullptr) return finish(header, status);
  if (hold_behind(all_streams(), true)) return {};
  make_current(*exec->context);
  CUgraphExecUpdateResultInfo info{};
  status = driver_.cuGraphExecUpdate(exec->handle, graph->handle, &info);
  if (status == CUDA_SUCCESS) exec->events = graph->events;
  std::uint64_t next = call.first_name();
  const auto name_of = [&](CUgraphNode node) { return node == nullptr ? 0 : name_of_node(*graph, node, next); };
  const std::uint64_t node = name_of(info.errorNode);
  return answer(header, wire::GraphExecUpdateReply(status, info.result, node, name_of(info.errorFromNode)));
}

Result<> Session::operator()(const Header& header, const wire::GraphNodeSetEnabled& call) {
  CUresult status;
  GraphExec* exec = find_exec(call.exec(), status);
  if (exec == nullptr) return finish(header, status);
  GraphNode* node = find_node(call.node(), status);
  if (node == nullptr) return finish(header, status);
  if (hold_behind(all_streams(), true)) return {};
  make_current(*exec->context);
  return finish(header, driver_.cuGraphNodeSetEnabled(exec->handle, node->handle, call.enabled() != 0));
}

void Session::destroy_graphs_of(Context& context) {
  std::vector<std::uint64_t> names;
  for (auto& [name, exec] : graph_execs_)
    if (exec->context == &context) names.push_back(name);
  for (const std::uint64_t name : names) {
    auto exec = graph_execs_.remove(name);
    if (exec->handle != nullptr) driver_.cuGraphExecDestroy(exec->handle);
  }
  std::vector<std::pair<std::uint64_t, CUgraph>> graphs;
  for (auto& [name, graph] : graphs_)
    if (graph->context == &context && graph->inside == 0) graphs.emplace_back(name, graph->handle);
  for (const auto& [name, handle] : graphs) {
    forget_graph(name);
    if (handle != nullptr) driver_.cuGraphDestroy(handle);
  }
}

// ---- host nodes -----------------------------------------------------------------------------

bool Session::push_host_calls() {
  const auto requests = host_calls_.take();
  for (const HostCalls::Request& request : requests) {
    const wire::HostCall body(request.call, request.function);
    link_.push(wire::Opcode::HostCall, 0, {reinterpret_cast<const std::byte*>(&body), sizeof body});
  }
  return !requests.empty();
}

Result<> Session::operator()(const Header& header, const wire::HostCallDone& call) {
  if (!host_calls_.done(call.call())) return protocol_error("an answer to a host function that was not asked for");
  return finish(header, CUDA_SUCCESS);
}

}  // namespace avec::worker
