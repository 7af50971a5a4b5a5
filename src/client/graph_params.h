// Parameters of nodes: as the application gives them, as the client keeps them, as the executor gets them.
#pragma once

#include "client/graph.h"

namespace avec::client {

/// A node to be, all checks passed.
struct PreparedNode {
  CUgraphNodeType type = CU_GRAPH_NODE_TYPE_EMPTY;       ///< as the application sees it
  CUgraphNodeType wire_type = CU_GRAPH_NODE_TYPE_EMPTY;  ///< as the executor does
  std::vector<std::byte> payload;
  NodeParams params;
  std::shared_ptr<NodeFunction> function;  ///< what becomes a host node on the executor
  EventReference recorded;                 ///< of an event record node
  Graph* child = nullptr;
  std::vector<Graph*> bodies;
};

/// Checks what CUDA checks at once. Places for host memory are made, but not yet the graph's.
CUresult prepare_node(Graph& graph, CUgraphNodeParams& params, PreparedNode& node);
/// Takes what the executor says of a node that the client did not make.
CUresult read_node(GraphNode& node, ConstBytes bytes);

}  // namespace avec::client
