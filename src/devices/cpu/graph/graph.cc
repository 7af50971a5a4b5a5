#include "devices/cpu/graph/graph.h"

#include <algorithm>
#include <cstring>
#include <deque>

namespace avec::cpu {

std::recursive_mutex& graph_mutex() {
  static auto* const mutex = new std::recursive_mutex;
  return *mutex;
}

GraphTables& graph_tables() {
  static auto* const tables = new GraphTables;
  return *tables;
}

GraphRef graph_of(CUgraph handle) { return graph_tables().graphs.find(handle); }
NodeRef node_of(CUgraphNode handle) { return graph_tables().nodes.find(handle); }
ExecRef exec_of(CUgraphExec handle) { return graph_tables().execs.find(handle); }

CUgraphNodeType Node::type() const {
  // In the order of Params.
  constexpr std::array kTypes{
      CU_GRAPH_NODE_TYPE_EMPTY,      CU_GRAPH_NODE_TYPE_KERNEL,       CU_GRAPH_NODE_TYPE_MEMCPY,
      CU_GRAPH_NODE_TYPE_MEMSET,     CU_GRAPH_NODE_TYPE_HOST,         CU_GRAPH_NODE_TYPE_GRAPH,
      CU_GRAPH_NODE_TYPE_WAIT_EVENT, CU_GRAPH_NODE_TYPE_EVENT_RECORD, CU_GRAPH_NODE_TYPE_MEM_ALLOC,
      CU_GRAPH_NODE_TYPE_MEM_FREE,   CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, CU_GRAPH_NODE_TYPE_CONDITIONAL};
  static_assert(kTypes.size() == std::variant_size_v<Params>);
  return kTypes[params.index()];
}

Graph::~Graph() {
  for (const auto& condition : conditions) {
    if (condition->graph.expired())
      graph_tables().conditions.remove(reinterpret_cast<void*>(condition->handle));
  }
  for (const auto& [object, count] : objects) release_object(object, count);
}

bool set_condition(std::uint64_t handle, std::uint32_t value) {
  const auto condition = graph_tables().conditions.find(reinterpret_cast<const void*>(handle));
  if (!condition) return false;
  condition->value.store(value, std::memory_order_release);
  return true;
}

GraphRef new_graph() {
  auto graph = std::make_shared<Graph>();
  graph_tables().graphs.add(graph);
  return graph;
}

namespace {

/// The graphs inside a node.
std::vector<GraphRef> inner(const Node& node) {
  if (const auto* child = std::get_if<ChildParams>(&node.params)) return {child->graph};
  if (const auto* conditional = std::get_if<ConditionalParams>(&node.params)) return conditional->bodies;
  return {};
}

void forget_node(const Node& node) {
  graph_tables().nodes.remove(reinterpret_cast<void*>(node.handle));
  for (const auto& graph : inner(node)) forget_graph(graph);
}

bool is_kernel(const Node* node) {
  return node != nullptr && std::holds_alternative<KernelParams>(node->params);
}

CUresult check_edge(const Node& from, bool to_kernel, const CUgraphEdgeData& data) {
  for (const unsigned char byte : data.reserved) {
    if (byte != 0) return CUDA_ERROR_INVALID_VALUE;
  }
  if (data.to_port != 0 || data.type > CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC) return CUDA_ERROR_INVALID_VALUE;
  if (data.from_port > CU_GRAPH_KERNEL_NODE_PORT_LAUNCH_ORDER) return CUDA_ERROR_INVALID_VALUE;
  if (data.type == CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC) {
    return is_kernel(&from) && to_kernel && data.from_port != 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  }
  if (data.from_port == CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC) return CUDA_ERROR_INVALID_VALUE;
  return data.from_port == 0 || is_kernel(&from) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

}  // namespace

void forget_graph(const GraphRef& graph) {
  graph_tables().graphs.remove(reinterpret_cast<void*>(graph->handle));
  for (const auto& node : graph->nodes) forget_node(*node);
}

bool default_edge(const CUgraphEdgeData& data) {
  return data.from_port == 0 && data.to_port == 0 && data.type == 0;
}

CUresult read_links(const Graph& graph, const Node* to, const CUgraphNode* nodes, const CUgraphEdgeData* data,
                    std::size_t count, std::vector<Link>& links) {
  if (count > 0 && nodes == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (data != nullptr && nodes == nullptr && count > 0) return CUDA_ERROR_INVALID_VALUE;
  for (std::size_t i = 0; i < count; ++i) {
    const auto node = node_of(nodes[i]);
    if (!node || node->graph != &graph) return CUDA_ERROR_INVALID_VALUE;
    const auto same = [&](const Link& other) { return other.node == node.get(); };
    if (std::ranges::any_of(links, same)) return CUDA_ERROR_INVALID_VALUE;
    Link link{node.get(), data != nullptr ? data[i] : CUgraphEdgeData{}};
    if (const auto error = check_edge(*node, to == nullptr || is_kernel(to), link.data)) return error;
    links.push_back(link);
  }
  return CUDA_SUCCESS;
}

void link(Node& from, Node& to, const CUgraphEdgeData& data) {
  from.after.push_back({&to, data});
  to.before.push_back({&from, data});
}

void unlink(Node& from, Node& to) {
  std::erase_if(from.after, [&](const Link& other) { return other.node == &to; });
  std::erase_if(to.before, [&](const Link& other) { return other.node == &from; });
}

NodeRef add_node(Graph& graph, Params params, const std::vector<Link>& before, bool registered) {
  auto node = std::make_shared<Node>();
  node->graph = &graph;
  node->number = graph.next_number++;
  node->params = std::move(params);
  graph.nodes.push_back(node);
  for (const auto& one : before) link(*one.node, *node, one.data);
  if (registered) graph_tables().nodes.add(node);
  for (const auto& child : inner(*node)) child->parent = &graph;
  return node;
}

void remove_node(Node& node) {
  const auto keep = node.shared_from_this();
  while (!node.before.empty()) unlink(*node.before.back().node, node);
  while (!node.after.empty()) unlink(node, *node.after.back().node);
  forget_node(node);
  std::erase(node.graph->nodes, keep);
}

std::vector<Node*> in_order(const Graph& graph) {
  std::vector<Node*> order;
  std::unordered_map<const Node*, std::size_t> missing;
  std::deque<Node*> ready;
  for (const auto& node : graph.nodes) {
    missing[node.get()] = node->before.size();
    if (node->before.empty()) ready.push_back(node.get());
  }
  while (!ready.empty()) {
    Node* node = ready.front();
    ready.pop_front();
    order.push_back(node);
    for (const auto& next : node->after) {
      if (--missing[next.node] == 0) ready.push_back(next.node);
    }
  }
  return order;
}

bool has_conditional(const Graph& graph) {
  return std::ranges::any_of(graph.nodes, [](const NodeRef& node) {
    if (std::holds_alternative<ConditionalParams>(node->params)) return true;
    const auto* child = std::get_if<ChildParams>(&node->params);
    return child != nullptr && has_conditional(*child->graph);
  });
}

void copy_objects(const Graph& from, Graph& to) {
  for (const auto& [object, count] : from.objects) {
    object->references += count;
    to.objects[object] += count;
  }
}

GraphRef copy_graph(const Graph& graph, bool registered) {
  auto copy = registered ? new_graph() : std::make_shared<Graph>();
  copy->origin = graph.handle;
  copy->next_number = graph.next_number;
  copy->has_memory = graph.has_memory;
  copy->conditions = graph.conditions;
  copy->conditional_body = graph.conditional_body;
  std::unordered_map<const Node*, Node*> copies;
  for (const auto& node : graph.nodes) {
    auto same = std::make_shared<Node>();
    same->graph = copy.get();
    same->number = node->number;
    same->params = node->params;
    same->origin = node->handle != 0 ? node->handle : node->origin;
    same->enabled = node->enabled;
    if (auto* child = std::get_if<ChildParams>(&same->params)) {
      child->graph = copy_graph(*child->graph, registered);
      child->graph->parent = copy.get();
    } else if (auto* conditional = std::get_if<ConditionalParams>(&same->params)) {
      conditional->handles = std::make_shared<std::vector<CUgraph>>();
      for (auto& body : conditional->bodies) {
        body = copy_graph(*body, registered);
        body->parent = copy.get();
        conditional->handles->push_back(handle_of(*body));
      }
    }
    if (registered) graph_tables().nodes.add(same);
    copies[node.get()] = same.get();
    copy->nodes.push_back(std::move(same));
  }
  const auto mapped = [&](const std::vector<Link>& from, std::vector<Link>& to) {
    for (const auto& one : from) to.push_back({copies.at(one.node), one.data});
  };
  for (const auto& node : graph.nodes) {
    Node* same = copies.at(node.get());
    mapped(node->before, same->before);
    mapped(node->after, same->after);
  }
  copy_objects(graph, *copy);
  return copy;
}

}  // namespace avec::cpu
