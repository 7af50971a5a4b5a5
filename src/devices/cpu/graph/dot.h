// A graph as text for Graphviz.
#pragma once

#include "devices/cpu/graph/graph.h"

namespace avec::cpu {

/// Writes the graph and those inside it; CUDA_ERROR_OPERATING_SYSTEM if the file cannot be written.
CUresult write_dot(const Graph& graph, const char* path, unsigned flags);

}  // namespace avec::cpu
