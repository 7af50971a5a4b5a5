// What the names of graphs, nodes and executable graphs stand for.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "executor/worker/driver.h"

namespace avec::worker {

struct Context;

struct Graph {
  std::uint64_t name = 0;
  CUresult poison = CUDA_SUCCESS;
  CUgraph handle = nullptr;
  Context* context = nullptr;
  std::uint64_t inside = 0;  ///< name of the node that contains and owns it; 0: ours to destroy
  bool capturing = false;    ///< a stream captures into it
  std::unordered_map<CUgraphNode, std::uint64_t> names;  ///< of its nodes that have one
  /// Names of events that its nodes record, nodes of inner graphs included.
  std::vector<std::uint64_t> events;
};

struct GraphNode {
  std::uint64_t name = 0;
  CUresult poison = CUDA_SUCCESS;
  CUgraphNode handle = nullptr;
  Graph* graph = nullptr;
  std::vector<std::uint64_t> graphs;  ///< names of the graphs inside it
};

struct GraphExec {
  std::uint64_t name = 0;
  CUresult poison = CUDA_SUCCESS;
  CUgraphExec handle = nullptr;
  Context* context = nullptr;
  std::vector<std::uint64_t> events;  ///< names of events that a launch records
};

/// A capture that was begun and not ended.
struct Capture {
  std::uint64_t stream = 0;  ///< name of the stream that it was begun on
  std::uint64_t graph = 0;   ///< name of the graph
  bool existing = false;     ///< the graph was there before
};

}  // namespace avec::worker
