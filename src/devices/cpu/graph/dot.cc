#include "devices/cpu/graph/dot.h"

#include <fstream>

namespace avec::cpu {
namespace {

const char* type_name(CUgraphNodeType type) {
  switch (type) {
    case CU_GRAPH_NODE_TYPE_KERNEL:
      return "KERNEL";
    case CU_GRAPH_NODE_TYPE_MEMCPY:
      return "MEMCPY";
    case CU_GRAPH_NODE_TYPE_MEMSET:
      return "MEMSET";
    case CU_GRAPH_NODE_TYPE_HOST:
      return "HOST";
    case CU_GRAPH_NODE_TYPE_GRAPH:
      return "GRAPH";
    case CU_GRAPH_NODE_TYPE_EMPTY:
      return "EMPTY";
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
      return "EVENT_WAIT";
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
      return "EVENT_RECORD";
    case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
      return "MEM_ALLOC";
    case CU_GRAPH_NODE_TYPE_MEM_FREE:
      return "MEM_FREE";
    case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
      return "BATCH_MEM_OP";
    default:
      return "CONDITIONAL";
  }
}

class Writer {
 public:
  Writer(std::ostream& out, unsigned flags) : out_(out), flags_(flags) {}

  void write(const Graph& graph) {
    const unsigned id = next_graph_++;
    out_ << "subgraph cluster_" << id << " {\nlabel=\"graph_" << id << "\" graph[style=\"dashed\"];\n";
    std::vector<const Graph*> inner;
    for (const auto& node : graph.nodes) {
      out_ << "\"graph_" << id << "_node_" << node->number << "\"[style=\"solid\" shape=\"record\" label=\"{"
           << type_name(node->type()) << "\n| {ID | " << node->number << "}" << details(*node) << "}\"];\n";
      if (const auto* child = std::get_if<ChildParams>(&node->params)) inner.push_back(child->graph.get());
      if (const auto* conditional = std::get_if<ConditionalParams>(&node->params)) {
        for (const auto& body : conditional->bodies) inner.push_back(body.get());
      }
    }
    for (const auto& node : graph.nodes) {
      for (const auto& link : node->after) {
        out_ << "\"graph_" << id << "_node_" << node->number << "\" -> \"graph_" << id << "_node_"
             << link.node->number << "\" [style=\"" << (default_edge(link.data) ? "solid" : "dashed")
             << "\"];\n";
      }
    }
    out_ << "}\n";
    for (const Graph* one : inner) write(*one);
  }

 private:
  [[nodiscard]] std::string details(const Node& node) const {
    std::string text;
    if (const auto* kernel = std::get_if<KernelParams>(&node.params)) {
      const auto& shape = kernel->shape;
      text.append(" | ").append(kernel->function->facts->name);
      text.append("\\<\\<\\<").append(triple(shape.grid)).append(",").append(triple(shape.block)).append(",");
      text.append(std::to_string(shape.shared)).append("\\>\\>\\>");
    } else if (const auto* copy = std::get_if<CopyParams>(&node.params)) {
      text.append(" | {")
          .append(place(copy->copy.srcMemoryType))
          .append(" to ")
          .append(place(copy->copy.dstMemoryType));
      text.append(" | ").append(std::to_string(copy->copy.WidthInBytes)).append("}");
    } else if (const auto* set = std::get_if<SetParams>(&node.params)) {
      text.append(" | {value | ").append(std::to_string(set->set.value)).append("}");
    }
    const bool handles =
        (flags_ & (CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE | CU_GRAPH_DEBUG_DOT_FLAGS_HANDLES)) != 0;
    if (handles) text.append(" | {handle | ").append(std::to_string(node.handle)).append("}");
    return text;
  }
  static std::string triple(const std::array<unsigned, 3>& size) {
    return std::to_string(size[0]) + "x" + std::to_string(size[1]) + "x" + std::to_string(size[2]);
  }
  static const char* place(CUmemorytype type) {
    switch (type) {
      case CU_MEMORYTYPE_HOST:
        return "HOST";
      case CU_MEMORYTYPE_ARRAY:
        return "ARRAY";
      case CU_MEMORYTYPE_UNIFIED:
        return "UNIFIED";
      default:
        return "DEVICE";
    }
  }

  std::ostream& out_;
  unsigned flags_;
  unsigned next_graph_ = 1;
};

}  // namespace

CUresult write_dot(const Graph& graph, const char* path, unsigned flags) {
  std::ofstream file(path);
  if (!file) return CUDA_ERROR_OPERATING_SYSTEM;
  file << "digraph dot {\n";
  Writer(file, flags).write(graph);
  file << "}\n";
  file.close();
  return file ? CUDA_SUCCESS : CUDA_ERROR_OPERATING_SYSTEM;
}

}  // namespace avec::cpu
