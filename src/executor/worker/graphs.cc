// Building graphs, and telling their structure.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "executor/worker/session.h"

namespace avec::worker {
namespace {

/// Driver functions that came after the CPU device and old drivers may be missing.
template <class Function, class... Args>
CUresult call_if_there(Function function, Args... args) {
  return function == nullptr ? CUDA_ERROR_NOT_SUPPORTED : function(args...);
}

}  // namespace

Graph* Session::find_graph(std::uint64_t name, CUresult& status) {
  Graph* graph = graphs_.find(name);
  status = graph == nullptr ? CUDA_ERROR_INVALID_VALUE : graph->poison;
  return status == CUDA_SUCCESS ? graph : nullptr;
}

GraphNode* Session::find_node(std::uint64_t name, CUresult& status) {
  GraphNode* node = graph_nodes_.find(name);
  status = node == nullptr ? CUDA_ERROR_INVALID_VALUE : node->poison;
  return status == CUDA_SUCCESS ? node : nullptr;
}

GraphNode* Session::add_node(std::uint64_t name, Graph* graph) {
  GraphNode* node = graph_nodes_.add(name);
  if (node != nullptr) node->graph = graph;
  return node;
}

void Session::set_node(GraphNode& node, CUgraphNode handle) {
  node.handle = handle;
  node.graph->names[handle] = node.name;
}

/// Forgets the names of a graph, of its nodes, and of the graphs inside them.
void Session::forget_graph(std::uint64_t name) {
  auto graph = graphs_.remove(name);
  if (graph == nullptr) return;
  for (const auto& [handle, node] : graph->names) forget_node(node);
}

void Session::forget_node(std::uint64_t name) {
  auto node = graph_nodes_.remove(name);
  if (node == nullptr) return;
  for (const std::uint64_t inner : node->graphs) forget_graph(inner);
}

/// A capture adds nodes to the graph, or to one inside it.
bool Session::captures_into(const Graph& graph) {
  if (graph.capturing) return true;
  return !captures_.empty() && std::ranges::any_of(graph.names, [&](const auto& named) {
    const GraphNode* node = graph_nodes_.find(named.second);
    return node != nullptr && captures_into(*node);
  });
}

bool Session::captures_into(const GraphNode& node) {
  return std::ranges::any_of(node.graphs, [&](std::uint64_t name) {
    const Graph* inner = graphs_.find(name);
    return inner != nullptr && captures_into(*inner);
  });
}

Result<> Session::operator()(const Header& header, const wire::GraphCreate& call) {
  Graph* graph = graphs_.add(call.graph());
  if (graph == nullptr) return protocol_error("a graph's name that cannot be given");
  graph->context = find_context(call.context(), graph->poison);
  if (graph->context == nullptr) return finish(header, graph->poison);
  make_current(*graph->context);
  graph->poison = call_if_there(driver_.cuGraphCreate, &graph->handle, 0u);
  return finish(header, graph->poison);
}

Result<> Session::operator()(const Header& header, const wire::GraphDestroy& call) {
  CUresult status;
  Graph* graph = find_graph(call.graph(), status);
  if (graph == nullptr) {
    graphs_.remove(call.graph());
    return finish(header, status);
  }
  if (graph->inside != 0 || captures_into(*graph)) return finish(header, CUDA_ERROR_INVALID_VALUE);
  make_current(*graph->context);
  CUgraph handle = graph->handle;
  forget_graph(call.graph());
  return finish(header, driver_.cuGraphDestroy(handle));
}

/// Handles of nodes that must belong to the graph.
Result<> Session::read_edges(Graph& graph, PayloadReader& reader, std::uint32_t count, Edges& edges, CUresult& status) {
  std::vector<wire::GraphEdge> given;
  if (!reader.take(given, count)) return protocol_error("fewer dependencies than announced");
  status = CUDA_SUCCESS;
  for (const wire::GraphEdge& edge : given) {
    GraphNode* node = find_node(edge.node(), status);
    if (node == nullptr) return {};
    if (node->graph != &graph || node->handle == nullptr) {
      status = CUDA_ERROR_INVALID_VALUE;
      return {};
    }
    edges.nodes.push_back(node->handle);
    edges.data.push_back(edge_data(edge));
  }
  return {};
}

Result<> Session::operator()(const Header& header, const wire::GraphAddNode& call) {
  if (frame_->payload_follows) return protocol_error("a node's parameters over the limit");
  CUresult status;
  Graph* graph = find_graph(call.graph(), status);
  GraphNode* node = add_node(call.node(), graph);
  if (node == nullptr) return protocol_error("a node's name that cannot be given");
  node->poison = status;
  if (graph == nullptr) return finish(header, status);
  PayloadReader reader(frame_->payload);
  Edges edges;
  if (auto read = read_edges(*graph, reader, call.dependencies(), edges, node->poison); !read) return read;
  if (node->poison != CUDA_SUCCESS) return finish(header, node->poison);
  NodeParams params;
  if (auto read = read_params(call.type(), reader.rest(), params, node->poison); !read) return read;
  if (node->poison != CUDA_SUCCESS) return finish(header, node->poison);
  make_current(*graph->context);
  CUgraphNode handle = nullptr;
  node->poison = call_if_there(driver_.cuGraphAddNode, &handle, graph->handle, edges.nodes.data(), edges.data.data(),
                               edges.nodes.size(), &params.params);
  if (node->poison != CUDA_SUCCESS) return finish(header, node->poison);
  set_node(*node, handle);
  for (const auto& attribute : params.attributes) {
    CUlaunchAttributeValue value;
    if (!to_driver(attribute, value)) continue;
    status = driver_.cuGraphKernelNodeSetAttribute(handle, static_cast<CUlaunchAttributeID>(attribute.id()), &value);
    if (status != CUDA_SUCCESS) finish(header, status);
  }
  if (params.event != 0) graph->events.push_back(params.event);
  if (params.child_events != nullptr)
    graph->events.insert(graph->events.end(), params.child_events->begin(), params.child_events->end());
  if (call.type() == CU_GRAPH_NODE_TYPE_CONDITIONAL) {
    for (unsigned i = 0; i < params.params.conditional.size; ++i) {
      if (!name_inner(*node, params.first_graph + i, params.params.conditional.phGraph_out[i]))
        return protocol_error("a graph's name that cannot be given");
    }
  }
  return finish(header, CUDA_SUCCESS);
}

bool Session::name_inner(GraphNode& node, std::uint64_t name, CUgraph handle) {
  Graph* inner = graphs_.add(name);
  if (inner == nullptr) return false;
  inner->handle = handle;
  inner->context = node.graph->context;
  inner->inside = node.name;
  node.graphs.push_back(name);
  return true;
}

Result<> Session::operator()(const Header& header, const wire::GraphOfNode& call) {
  CUresult status;
  GraphNode* node = find_node(call.node(), status);
  CUgraph handle = nullptr;
  if (node != nullptr) {
    make_current(*node->graph->context);
    // Two names of one graph would outlive each other's nodes.
    status = call.index() != 0 || !node->graphs.empty() ? CUDA_ERROR_INVALID_VALUE
                               : call_if_there(driver_.cuGraphChildGraphNodeGetGraph, node->handle, &handle);
  }
  if (status == CUDA_SUCCESS) {
    if (!name_inner(*node, call.graph(), handle)) return protocol_error("a graph's name that cannot be given");
    return finish(header, CUDA_SUCCESS);
  }
  Graph* unusable = graphs_.add(call.graph());
  if (unusable == nullptr) return protocol_error("a graph's name that cannot be given");
  unusable->poison = status;
  return finish(header, status);
}

Result<> Session::operator()(const Header& header, const wire::GraphNodeSetParams& call) {
  if (frame_->payload_follows) return protocol_error("a node's parameters over the limit");
  CUresult status;
  GraphNode* node = find_node(call.node(), status);
  if (node == nullptr) return finish(header, status);
  GraphExec* exec = nullptr;
  if (call.exec() != 0) {
    exec = find_exec(call.exec(), status);
    if (exec == nullptr) return finish(header, status);
    if (hold_behind(exec->context->streams, true)) return {};
  }
  NodeParams params;
  if (auto read = read_params(call.type(), frame_->payload, params, status); !read) return read;
  if (status != CUDA_SUCCESS) return finish(header, status);
  make_current(*node->graph->context);
  if (exec != nullptr) {
    status = call_if_there(driver_.cuGraphExecNodeSetParams, exec->handle, node->handle, &params.params);
    if (status == CUDA_SUCCESS && params.event != 0) exec->events.push_back(params.event);
    return finish(header, status);
  }
  status = call_if_there(driver_.cuGraphNodeSetParams, node->handle, &params.params);
  if (status == CUDA_SUCCESS && params.event != 0) node->graph->events.push_back(params.event);
  return finish(header, status);
}

Result<> Session::operator()(const Header& header, const wire::GraphDestroyNode& call) {
  CUresult status;
  GraphNode* node = find_node(call.node(), status);
  if (node == nullptr) {
    graph_nodes_.remove(call.node());
    return finish(header, status);
  }
  if (node->graph->capturing || captures_into(*node)) return finish(header, CUDA_ERROR_INVALID_VALUE);
  make_current(*node->graph->context);
  status = driver_.cuGraphDestroyNode(node->handle);
  if (status != CUDA_SUCCESS) return finish(header, status);
  node->graph->names.erase(node->handle);
  forget_node(call.node());
  return finish(header, CUDA_SUCCESS);
}

Result<> Session::operator()(const Header& header, const wire::GraphChangeEdges& call) {
  if (frame_->payload_follows) return protocol_error("edges over the limit");
  CUresult status;
  Graph* graph = find_graph(call.graph(), status);
  if (graph == nullptr) return finish(header, status);
  PayloadReader reader(frame_->payload);
  std::vector<wire::GraphLink> links;
  if (!reader.take(links, call.count())) return protocol_error("fewer edges than announced");
  std::vector<CUgraphNode> from, to;
  std::vector<CUgraphEdgeData> data;
  for (const wire::GraphLink& link : links) {
    GraphNode* first = find_node(link.from(), status);
    if (first == nullptr) return finish(header, status);
    GraphNode* second = find_node(link.to(), status);
    if (second == nullptr) return finish(header, status);
    if (first->graph != graph || second->graph != graph) return finish(header, CUDA_ERROR_INVALID_VALUE);
    from.push_back(first->handle);
    to.push_back(second->handle);
    data.push_back(edge_data(link));
  }
  make_current(*graph->context);
  auto* change = call.remove() != 0 ? driver_.cuGraphRemoveDependencies : driver_.cuGraphAddDependencies;
  return finish(header, call_if_there(change, graph->handle, from.data(), to.data(), data.data(), from.size()));
}

Result<> Session::operator()(const Header& header, const wire::GraphClone& call) {
  CUresult status;
  Graph* graph = find_graph(call.graph(), status);
  Graph* clone = graphs_.add(call.clone());
  if (clone == nullptr) return protocol_error("a graph's name that cannot be given");
  clone->poison = status;
  if (graph == nullptr) return finish(header, status);
  clone->context = graph->context;
  clone->events = graph->events;
  make_current(*graph->context);
  clone->poison = call_if_there(driver_.cuGraphClone, &clone->handle, graph->handle);
  return finish(header, clone->poison);
}

Result<> Session::operator()(const Header& header, const wire::GraphConditionalCreate& call) {
  CUresult status;
  Graph* graph = find_graph(call.graph(), status);
  if (graph == nullptr) return finish(header, status);
  Context* context = find_context(call.context(), status);
  if (context == nullptr) return finish(header, status);
  if (conditional_handles_.size() >= limits::kMaxHandles) return finish(header, CUDA_ERROR_OUT_OF_MEMORY);
  make_current(*context);
  CUgraphConditionalHandle handle = 0;
  status = call_if_there(driver_.cuGraphConditionalHandleCreate, &handle, graph->handle, context->handle,
                         call.default_value(), call.flags());
  if (status != CUDA_SUCCESS) return finish(header, status);
  conditional_handles_.insert(handle);
  return answer(header, wire::GraphConditionalCreateReply(handle));
}

Result<> Session::operator()(const Header& header, const wire::GraphSetAttribute& call) {
  CUresult status;
  GraphNode* node = find_node(call.node(), status);
  if (node == nullptr) return finish(header, status);
  CUlaunchAttributeValue value;
  if (!to_driver(call.attribute(), value)) return finish(header, CUDA_ERROR_INVALID_VALUE);
  make_current(*node->graph->context);
  const auto which = static_cast<CUlaunchAttributeID>(call.attribute().id());
  return finish(header, call_if_there(driver_.cuGraphKernelNodeSetAttribute, node->handle, which,
                                      static_cast<const CUlaunchAttributeValue*>(&value)));
}

Result<> Session::operator()(const Header& header, const wire::GraphCopyAttributes& call) {
  CUresult status;
  GraphNode* to = find_node(call.to(), status);
  if (to == nullptr) return finish(header, status);
  GraphNode* from = find_node(call.from(), status);
  if (from == nullptr) return finish(header, status);
  make_current(*to->graph->context);
  return finish(header, call_if_there(driver_.cuGraphKernelNodeCopyAttributes, to->handle, from->handle));
}

// ---- what the client asks -------------------------------------------------------------------

/// The node's name; one that has none gets `next`. 0: there are too many.
std::uint64_t Session::name_of_node(Graph& graph, CUgraphNode handle, std::uint64_t& next) {
  const auto known = graph.names.find(handle);
  if (known != graph.names.end()) return known->second;
  GraphNode* node = add_node(next, &graph);
  if (node == nullptr) return 0;
  set_node(*node, handle);
  return next++;
}

Result<> Session::operator()(const Header& header, const wire::GraphDescribe& call) {
  CUresult status;
  Graph* graph = find_graph(call.graph(), status);
  if (graph == nullptr) return finish(header, status);
  if (driver_.cuGraphGetNodes == nullptr || driver_.cuGraphGetEdges == nullptr)
    return finish(header, CUDA_ERROR_NOT_SUPPORTED);
  make_current(*graph->context);
  std::size_t count = 0, links = 0;
  status = driver_.cuGraphGetNodes(graph->handle, nullptr, &count);
  if (status == CUDA_SUCCESS) status = driver_.cuGraphGetEdges(graph->handle, nullptr, nullptr, nullptr, &links);
  if (status != CUDA_SUCCESS) return finish(header, status);
  std::vector<CUgraphNode> nodes(count), from(links), to(links);
  std::vector<CUgraphEdgeData> data(links);
  if (count != 0) status = driver_.cuGraphGetNodes(graph->handle, nodes.data(), &count);
  if (status == CUDA_SUCCESS && links != 0)
    status = driver_.cuGraphGetEdges(graph->handle, from.data(), to.data(), data.data(), &links);
  if (status != CUDA_SUCCESS) return finish(header, status);
  std::uint64_t next = call.first_name();
  std::vector<std::uint64_t> names;
  std::vector<std::int32_t> types;
  for (CUgraphNode handle : nodes) {
    names.push_back(name_of_node(*graph, handle, next));
    if (names.back() == 0) return finish(header, CUDA_ERROR_OUT_OF_MEMORY);
    CUgraphNodeType type = CU_GRAPH_NODE_TYPE_EMPTY;
    driver_.cuGraphNodeGetType(handle, &type);
    types.push_back(type);
  }
  std::vector<wire::GraphLink> edges;
  constexpr std::array<std::uint8_t, 5> kReserved{};
  for (std::size_t i = 0; i < links; ++i) {
    edges.emplace_back(name_of_node(*graph, from[i], next), name_of_node(*graph, to[i], next), data[i].from_port,
                       data[i].to_port, data[i].type, kReserved);
  }
  flatbuffers::FlatBufferBuilder builder;
  const auto named = builder.CreateVector(names);
  const auto typed = builder.CreateVector(types);
  const auto linked = builder.CreateVectorOfStructs(edges);
  builder.Finish(wire::CreateGraphDescription(builder, named, typed, linked));
  return answer_table(header, builder);
}

Result<> Session::answer_table(const Header& header, const flatbuffers::FlatBufferBuilder& builder) {
  if (builder.GetSize() > limits::kMaxBodyBytes) return finish(header, CUDA_ERROR_OUT_OF_MEMORY);
  link_.reply(header, CUDA_SUCCESS, {reinterpret_cast<const std::byte*>(builder.GetBufferPointer()), builder.GetSize()});
  return {};
}

Result<> Session::operator()(const Header& header, const wire::GraphNodeGetParams& call) {
  CUresult status;
  GraphNode* node = find_node(call.node(), status);
  if (node == nullptr) return finish(header, status);
  make_current(*node->graph->context);
  CUgraphNodeType type = CU_GRAPH_NODE_TYPE_EMPTY;
  status = call_if_there(driver_.cuGraphNodeGetType, node->handle, &type);
  std::vector<std::byte> bytes;
  if (status == CUDA_SUCCESS) status = write_params(*node, type, bytes);
  if (status != CUDA_SUCCESS) return finish(header, status);
  flatbuffers::FlatBufferBuilder builder;
  const auto vector = builder.CreateVector(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  builder.Finish(wire::CreateGraphNodeParams(builder, vector));
  return answer_table(header, builder);
}

Result<> Session::operator()(const Header& header, const wire::GraphFindInClone& call) {
  CUresult status;
  GraphNode* node = find_node(call.node(), status);
  if (node == nullptr) return finish(header, status);
  Graph* clone = find_graph(call.clone(), status);
  if (clone == nullptr) return finish(header, status);
  make_current(*clone->context);
  CUgraphNode handle = nullptr;
  status = call_if_there(driver_.cuGraphNodeFindInClone, &handle, node->handle, clone->handle);
  if (status != CUDA_SUCCESS) return finish(header, status);
  std::uint64_t next = call.fresh();
  const std::uint64_t name = name_of_node(*clone, handle, next);
  if (name == 0) return finish(header, CUDA_ERROR_OUT_OF_MEMORY);
  return answer(header, wire::GraphFindInCloneReply(name));
}

Result<> Session::operator()(const Header& header, const wire::GraphDot& call) {
  CUresult status;
  Graph* graph = find_graph(call.graph(), status);
  if (graph == nullptr) return finish(header, status);
  // The driver writes files only.
  char path[] = "/tmp/avec-graph-XXXXXX";
  const int descriptor = ::mkstemp(path);
  if (descriptor < 0) return finish(header, CUDA_ERROR_OPERATING_SYSTEM);
  ::close(descriptor);
  make_current(*graph->context);
  status = call_if_there(driver_.cuGraphDebugDotPrint, graph->handle, static_cast<const char*>(path), call.flags());
  std::ifstream file(path);
  std::string text((std::istreambuf_iterator<char>(file)), {});
  std::remove(path);
  if (status != CUDA_SUCCESS) return finish(header, status);
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(wire::CreateGraphDotReply(builder, builder.CreateString(text)));
  return answer_table(header, builder);
}

}  // namespace avec::worker
