// Graphs. The client keeps the structure of a graph that was made node by node; that of a captured or
// copied one it asks the executor for when somebody wants to know.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <variant>
#include <vector>

#include "calls.h"
#include "client/graph_memory.h"
#include "client/host_calls.h"
#include "client/slab.h"

namespace avec::client {

class Client;
struct Context;
struct Event;
struct Function;
struct GraphNode;
struct Stream;
struct UserObject;

struct Edge {
  GraphNode* from = nullptr;
  GraphNode* to = nullptr;
  CUgraphEdgeData data{};
};

/// References to a user object that a graph or an executable graph owns.
struct UserReference {
  UserObject* object = nullptr;
  unsigned count = 0;
};

/// An event that a node records.
struct EventReference {
  CUevent event = nullptr;
  std::uint64_t name = 0;  ///< a later event may have the same handle
};

/// What a graph and the executable graphs made from it hold together.
struct GraphBelongings {
  std::vector<HostCopyUse> copies;                        ///< its copies from and to memory of this process
  std::vector<std::shared_ptr<NodeFunction>> functions;   ///< its host nodes
  std::vector<std::shared_ptr<GraphAllocation>> allocations;  ///< its allocation nodes
  std::vector<std::shared_ptr<GraphAllocation>> frees;    ///< what its free nodes free
  std::vector<EventReference> events;                     ///< that its nodes record
  void add(const GraphBelongings& other);
  bool empty() const {
    return copies.empty() && functions.empty() && allocations.empty() && frees.empty() && events.empty();
  }
  /// One node more, or less, that copies between the place and these rows.
  void add_copy(const HostCopyUse& use);
  void remove_copy(const HostCopy& place, bool to_device);
};

/// A CUgraph is the address of one (Slab<Graph>). Guarded by graphs_mutex.
struct Graph {
  Context* context = nullptr;
  std::uint64_t name = 0;
  std::uint64_t id = 0;
  bool known = true;         ///< nodes and edges are all there are
  bool in_capture = false;   ///< a capture is under way that adds nodes
  GraphNode* owner = nullptr;  ///< the node that contains it
  bool conditional = false;  ///< the owner decides whether it runs
  bool has_conditional = false;
  std::vector<GraphNode*> nodes;  ///< in the order of their making
  std::vector<Edge> edges;
  std::unordered_map<std::uint64_t, GraphNode*> by_name;
  GraphBelongings belongings;
  std::vector<UserReference> user_objects;
  std::vector<CUgraphConditionalHandle> conditional_handles;  ///< made for it
  unsigned execs = 0;  ///< executable graphs made from it that exist
};

struct KernelNode {
  CUfunction function = nullptr;
  CUkernel kernel = nullptr;  ///< as the application named it, if it did so
  wire::GraphKernelParams shape{};
  std::vector<wire::GraphAttribute> attributes;
  std::vector<std::byte> buffer;
  std::vector<void*> pointers;
};
struct CopyNode {
  CUDA_MEMCPY3D params{};
  CUcontext context = nullptr;
  HostCopyUse host;                        ///< where one end is memory of this process
  std::shared_ptr<NodeFunction> function;  ///< both ends are
};
struct FillNode {
  CUDA_MEMSET_NODE_PARAMS params{};
  CUcontext context = nullptr;
};
struct HostNode {
  std::shared_ptr<NodeFunction> function;
};
struct EventNode {
  CUevent event = nullptr;
};
struct AllocationNode {
  CUDA_MEM_ALLOC_NODE_PARAMS params{};
  std::vector<CUmemAccessDesc> access;
  std::shared_ptr<GraphAllocation> allocation;
};
struct FreeNode {
  std::shared_ptr<GraphAllocation> allocation;
  CUdeviceptr address = 0;
};
struct BatchNode {
  CUDA_BATCH_MEM_OP_NODE_PARAMS params{};
  std::vector<CUstreamBatchMemOpParams> operations;
};
struct ConditionalNode {
  CUDA_CONDITIONAL_NODE_PARAMS params{};
  std::unique_ptr<CUgraph[]> graphs;
};
using NodeParams = std::variant<std::monostate, KernelNode, CopyNode, FillNode, HostNode, EventNode, AllocationNode,
                                FreeNode, BatchNode, ConditionalNode>;

/// A CUgraphNode is the address of one (Slab<GraphNode>). Guarded by graphs_mutex.
struct GraphNode {
  Graph* graph = nullptr;
  std::uint64_t name = 0;
  CUgraphNodeType type = CU_GRAPH_NODE_TYPE_EMPTY;
  bool params_known = true;
  NodeParams params;
  std::vector<Graph*> graphs;  ///< inside it
};

/// A CUgraphExec is the address of one (Slab<GraphExec>).
struct GraphExec {
  Context* context = nullptr;
  std::uint64_t name = 0;
  std::uint64_t id = 0;
  cuuint64_t flags = 0;
  Graph* graph = nullptr;       ///< it was made from; may be gone
  std::uint64_t graph_name = 0;
  std::atomic<bool> plain{true};  ///< a launch is one frame and nothing else
  std::atomic<bool> launched{false};

  std::mutex mutex;  ///< guards what follows
  GraphBelongings belongings;
  std::vector<UserReference> user_objects;
  std::unordered_map<std::uint64_t, bool> disabled;  ///< nodes by name
  /// Places of copy nodes that were changed here alone, by name of the node.
  std::unordered_map<std::uint64_t, HostCopyUse> changed_copies;
  CUstream last_stream = nullptr;  ///< of a launch that is not plain
  std::uint64_t event = 0;  ///< recorded behind each launch that moves bytes of this process; 0: not made
};

/// Guards the structure of all graphs: they are built by one thread, or seldom.
extern std::recursive_mutex& graphs_mutex;

inline CUgraph handle_of(Graph* graph) { return reinterpret_cast<CUgraph>(graph); }
inline CUgraphNode handle_of(GraphNode* node) { return reinterpret_cast<CUgraphNode>(node); }
inline CUgraphExec handle_of(GraphExec* exec) { return reinterpret_cast<CUgraphExec>(exec); }

/// The live object of a handle, whose context can be used. CUDA_ERROR_INVALID_VALUE: there is none.
CUresult find_graph(CUgraph handle, Graph*& graph) noexcept;
CUresult find_node(CUgraphNode handle, GraphNode*& node) noexcept;
CUresult find_exec(CUgraphExec handle, GraphExec*& exec) noexcept;

Client& client_of(const Graph& graph);

// ---- graphs (graph.cc)
/// An empty graph of this context; nothing is sent. Null: too many.
Graph* make_graph(Context& context, std::uint64_t name);
GraphNode* make_node(Graph& graph, CUgraphNodeType type, std::uint64_t name);
/// Forgets the graph, its nodes and what is inside them.
void forget_graph(Graph& graph);
void forget_node(GraphNode& node);
/// Forgets all graphs and executable graphs of a context that goes.
void forget_graphs(Context& context);
/// Makes nodes and edges what they are on the executor.
CUresult describe(Graph& graph);
/// The node of this name, made where it is not known.
GraphNode* node_named(Graph& graph, std::uint64_t name, CUgraphNodeType type);
/// Makes the node's parameters known.
CUresult learn_params(GraphNode& node);

CUresult graph_create(CUgraph* graph, unsigned flags);
CUresult graph_destroy(CUgraph graph);
CUresult graph_clone(CUgraph* clone, CUgraph graph);
CUresult graph_node_find_in_clone(CUgraphNode* found, CUgraphNode node, CUgraph clone);
CUresult graph_dot(CUgraph graph, const char* path, unsigned flags);

// ---- executable graphs (graph_exec.cc)
CUresult graph_instantiate(CUgraphExec* exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS& params);
CUresult graph_exec_destroy(CUgraphExec exec);
CUresult graph_exec_flags(CUgraphExec exec, cuuint64_t* flags);
CUresult graph_launch(CUgraphExec exec, CUstream stream);
CUresult graph_upload(CUgraphExec exec, CUstream stream);
CUresult graph_exec_update(CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo* info);
CUresult graph_node_set_enabled(CUgraphExec exec, CUgraphNode node, unsigned enabled);
CUresult graph_node_get_enabled(CUgraphExec exec, CUgraphNode node, unsigned* enabled);
void release_exec(GraphExec& exec);

}  // namespace avec::client
