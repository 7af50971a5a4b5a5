// New parameters for executable graphs, node by node or from a graph of the same shape.
#include <algorithm>
#include <unordered_map>

#include "devices/cpu/graph/exec.h"

namespace avec::cpu {
namespace {

using Result = CUgraphExecUpdateResult;

Result check_kernel(const KernelParams& from, const KernelParams& to) {
  if (from.module->context != to.module->context)
    return CU_GRAPH_EXEC_UPDATE_ERROR_UNSUPPORTED_FUNCTION_CHANGE;
  if (from.shape.cooperative != to.shape.cooperative) return CU_GRAPH_EXEC_UPDATE_ERROR_ATTRIBUTES_CHANGED;
  return CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

/// The kind of memory that a side is in, as seen now.
int memory_kind(CUmemorytype type, const void* host, CUdeviceptr device) {
  const auto found = type == CU_MEMORYTYPE_HOST ? state().memory.find(reinterpret_cast<std::uint64_t>(host))
                                                : state().memory.find(device);
  if (type == CU_MEMORYTYPE_ARRAY) return -3;
  if (!found) return -1;
  return found->on_host() ? -2 : found->device;
}

Result check_copy(const CopyParams& from, const CopyParams& to, bool whole_graph) {
  const auto& a = from.copy;
  const auto& b = to.copy;
  const bool same_places = memory_kind(a.srcMemoryType, a.srcHost, a.srcDevice) ==
                               memory_kind(b.srcMemoryType, b.srcHost, b.srcDevice) &&
                           memory_kind(a.dstMemoryType, a.dstHost, a.dstDevice) ==
                               memory_kind(b.dstMemoryType, b.dstHost, b.dstDevice);
  if (!same_places) return CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
  const auto flat = [](const CUDA_MEMCPY3D& copy) { return copy.Height <= 1 && copy.Depth <= 1; };
  if (!whole_graph && (!flat(a) || !flat(b))) return CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
  return CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

Result check_set(const SetParams& from, const SetParams& to) {
  const auto& a = from.set;
  const auto& b = to.set;
  if (memory_kind(CU_MEMORYTYPE_DEVICE, nullptr, a.dst) !=
      memory_kind(CU_MEMORYTYPE_DEVICE, nullptr, b.dst)) {
    return CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
  }
  if (a.height != b.height) return CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
  const bool same = a.width == b.width && a.elementSize == b.elementSize && a.pitch == b.pitch;
  return a.height > 1 && !same ? CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED : CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

Result check_batch(const BatchParams& from, const BatchParams& to) {
  const auto kind = [](const CUstreamBatchMemOpParams& one) {
    return one.operation == CU_STREAM_MEM_OP_WAIT_VALUE_32 || one.operation == CU_STREAM_MEM_OP_WAIT_VALUE_64;
  };
  if (from.context != to.context || from.operations.size() != to.operations.size()) {
    return CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
  }
  for (std::size_t i = 0; i < from.operations.size(); ++i) {
    if (kind(from.operations[i]) != kind(to.operations[i]))
      return CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
  }
  return CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

/// The pairs of nodes of two graphs, and of the graphs inside, in the order they were found.
class Pairing {
 public:
  explicit Pairing(CUgraphExecUpdateResultInfo& info) : info_(info) {}

  [[nodiscard]] bool match(const Graph& mine, const Graph& theirs) {
    if (mine.nodes.size() != theirs.nodes.size())
      return fail(CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, nullptr);
    const auto exits = exits_of(mine), their_exits = exits_of(theirs);
    if (exits.size() != their_exits.size()) {
      const Node* extra = their_exits.size() > exits.size() ? their_exits[exits.size()] : nullptr;
      return fail(CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, extra);
    }
    const std::size_t first = pairs_.size();
    for (std::size_t i = 0; i < exits.size(); ++i) add(exits[i], their_exits[i]);
    for (std::size_t at = first; at < pairs_.size(); ++at) {
      if (!match_before(pairs_[at].first, pairs_[at].second)) return false;
    }
    for (std::size_t at = first, end = pairs_.size(); at < end; ++at) {
      if (!match_params(*pairs_[at].first, *pairs_[at].second)) return false;
    }
    return true;
  }
  [[nodiscard]] const std::vector<std::pair<Node*, Node*>>& pairs() const { return pairs_; }

 private:
  static std::vector<Node*> exits_of(const Graph& graph) {
    std::vector<Node*> exits;
    for (const auto& node : graph.nodes) {
      if (node->after.empty()) exits.push_back(node.get());
    }
    return exits;
  }

  bool fail(Result result, const Node* node, const Node* from = nullptr) {
    info_.result = result;
    info_.errorNode = node != nullptr ? handle_of(*node) : nullptr;
    info_.errorFromNode = from != nullptr ? handle_of(*from) : nullptr;
    return false;
  }

  void add(Node* mine, Node* theirs) {
    pairs_.emplace_back(mine, theirs);
    paired_[mine] = theirs;
    paired_[theirs] = mine;
  }

  bool match_before(const Node* mine, const Node* theirs) {
    if (mine->before.size() != theirs->before.size()) {
      return fail(CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, theirs);
    }
    for (std::size_t i = 0; i < mine->before.size(); ++i) {
      Node* a = mine->before[i].node;
      Node* b = theirs->before[i].node;
      const auto known = paired_.find(a), their_known = paired_.find(b);
      if (known == paired_.end() && their_known == paired_.end()) {
        add(a, b);
      } else if (known == paired_.end() || known->second != b) {
        return fail(CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, theirs, b);
      }
    }
    return true;
  }

  bool match_params(Node& mine, Node& theirs) {
    if (mine.type() != theirs.type()) return fail(CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED, &theirs);
    const Result result = check_update(mine.params, theirs.params, true);
    if (result != CU_GRAPH_EXEC_UPDATE_SUCCESS) return fail(result, &theirs);
    if (const auto* child = std::get_if<ChildParams>(&mine.params)) {
      return match(*child->graph, *std::get<ChildParams>(theirs.params).graph);
    }
    if (const auto* conditional = std::get_if<ConditionalParams>(&mine.params)) {
      const auto& other = std::get<ConditionalParams>(theirs.params);
      for (std::size_t i = 0; i < conditional->bodies.size(); ++i) {
        if (!match(*conditional->bodies[i], *other.bodies[i])) return false;
      }
    }
    return true;
  }

  CUgraphExecUpdateResultInfo& info_;
  std::vector<std::pair<Node*, Node*>> pairs_;
  std::unordered_map<const Node*, const Node*> paired_;
};

CUresult update(Exec& exec, const Graph& mine, const Graph& theirs, CUgraphExecUpdateResultInfo& info) {
  info = {};
  Pairing pairing(info);
  if (!pairing.match(mine, theirs)) return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
  for (const auto& [node, other] : pairing.pairs()) {
    if (const auto* conditional = std::get_if<ConditionalParams>(&other->params)) {
      // The variable stays; what it is set to at a launch may be new.
      auto& condition = *std::get<ConditionalParams>(node->params).condition;
      condition.default_value = conditional->condition->default_value;
      condition.flags = conditional->condition->flags;
    } else {
      apply_update(exec, *node, other->params);
    }
  }
  exec.plan = nullptr;
  info.result = CU_GRAPH_EXEC_UPDATE_SUCCESS;
  return CUDA_SUCCESS;
}

}  // namespace

CUgraphExecUpdateResult check_update(const Params& from, const Params& to, bool whole_graph) {
  if (const auto* kernel = std::get_if<KernelParams>(&from))
    return check_kernel(*kernel, std::get<KernelParams>(to));
  if (const auto* copy = std::get_if<CopyParams>(&from)) {
    return check_copy(*copy, std::get<CopyParams>(to), whole_graph);
  }
  if (const auto* set = std::get_if<SetParams>(&from)) return check_set(*set, std::get<SetParams>(to));
  if (const auto* batch = std::get_if<BatchParams>(&from))
    return check_batch(*batch, std::get<BatchParams>(to));
  if (const auto* conditional = std::get_if<ConditionalParams>(&from)) {
    const auto& other = std::get<ConditionalParams>(to);
    return conditional->type == other.type && conditional->bodies.size() == other.bodies.size()
               ? CU_GRAPH_EXEC_UPDATE_SUCCESS
               : CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
  }
  if (std::holds_alternative<AllocParams>(from) || std::holds_alternative<FreeParams>(from)) {
    return CU_GRAPH_EXEC_UPDATE_ERROR_NOT_SUPPORTED;
  }
  return CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

void apply_update(Exec& exec, Node& node, const Params& params) {
  // The graph inside stays: its nodes have their own updates.
  if (!std::holds_alternative<ChildParams>(params)) node.params = params;
  exec.plan = nullptr;
}

CUresult update_exec(Exec& exec, const Graph& graph, CUgraphExecUpdateResultInfo& info) {
  return update(exec, *exec.graph, graph, info);
}

CUresult update_child(Exec& exec, Node& node, const Graph& child) {
  CUgraphExecUpdateResultInfo info{};
  return update(exec, *std::get<ChildParams>(node.params).graph, child, info);
}

}  // namespace avec::cpu
