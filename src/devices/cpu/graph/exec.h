// Executable graphs: a copy of a graph, the plan made of it, and its launches.
#pragma once

#include <cuda.h>

#include "devices/cpu/graph/graph.h"

namespace avec::cpu {

/// Makes an executable graph. On failure `bad` is the node that is at fault, if one is.
CUresult instantiate_graph(const GraphRef& graph, std::uint64_t flags, ExecRef& exec, CUgraphNode& bad,
                           CUgraphInstantiateResult& result);
CUresult launch_exec(const ExecRef& exec, const StreamRef& stream);
/// The executable node that stands for a node of the graph it was made of; null: none.
Node* exec_node(const Exec& exec, CUgraphNode handle);
/// May a node's parameters be replaced in an executable graph?
CUgraphExecUpdateResult check_update(const Params& from, const Params& to, bool whole_graph);
/// Replaces a node's parameters; what is checked has been checked.
void apply_update(Exec& exec, Node& node, const Params& params);
CUresult update_exec(Exec& exec, const Graph& graph, CUgraphExecUpdateResultInfo& info);
/// The same for the inside of a child node.
CUresult update_child(Exec& exec, Node& node, const Graph& child);

}  // namespace avec::cpu
