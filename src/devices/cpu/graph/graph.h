// Graphs: nodes with their parameters, edges, and what is made from them.
//
// One recursive mutex, graph_mutex(), guards everything here except what a launch has taken with
// it: a launch owns a plan that never changes. Handles are numbers, looked up as all others are.
#pragma once

#include <cuda.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <variant>
#include <vector>

#include "devices/cpu/device.h"
#include "devices/cpu/launch.h"

namespace avec::cpu {

struct Graph;
struct Node;
struct Exec;
struct Plan;
using GraphRef = std::shared_ptr<Graph>;
using NodeRef = std::shared_ptr<Node>;
using ExecRef = std::shared_ptr<Exec>;
using Work = std::function<CUresult()>;

std::recursive_mutex& graph_mutex();
using GraphLock = std::lock_guard<std::recursive_mutex>;

// ---- what nodes hold --------------------------------------------------------------------

/// Memory of an allocation node. The address is its own for as long as a node names it.
struct GraphMemory {
  CUdeviceptr address = 0;
  std::uint64_t bytes = 0;
  std::uint64_t id = 0;  // of the allocation: another one may get the address later
  std::uintptr_t context = 0;
  Device* device = nullptr;
  /// Allocated by a launch and not freed since; calls are looked at, not the device's progress.
  bool live = false;
  std::weak_ptr<Graph> owner;   // the graph of the allocation node
  bool freed_by_owner = false;  // a free node of the same graph exists
  bool freed_elsewhere = false;
  ~GraphMemory();
};
using GraphMemoryRef = std::shared_ptr<GraphMemory>;

/// A conditional handle's variable.
struct Condition {
  std::uintptr_t handle = 0;
  std::atomic<unsigned> value{0};
  unsigned default_value = 0;
  unsigned flags = 0;
  ContextRef context;
  std::weak_ptr<Graph> graph;
  bool used = false;  // by a node
};

struct UserObject {
  std::uintptr_t handle = 0;
  void* pointer = nullptr;
  CUhostFn destroy = nullptr;
  std::uint64_t references = 0;
};
using UserObjectRef = std::shared_ptr<UserObject>;

struct KernelParams {
  CUfunction func = nullptr;
  CUkernel kern = nullptr;
  std::shared_ptr<Function> function;
  std::shared_ptr<Module> module;
  Shape shape;
  std::vector<std::byte> buffer;
  bool as_buffer = false;  // given as `extra`
  std::map<int, CUlaunchAttributeValue> attributes;
  /// What the getter hands out; made when asked for.
  std::vector<void*> pointers;
  std::size_t buffer_bytes = 0;
  void* extra[5] = {};
};
struct CopyParams {
  CUDA_MEMCPY3D copy{};
  ContextRef context;
};
struct SetParams {
  CUDA_MEMSET_NODE_PARAMS set{};
  ContextRef context;
};
struct HostParams {
  CUhostFn function = nullptr;
  void* user = nullptr;
};
struct ChildParams {
  GraphRef graph;
};
struct EmptyParams {};
struct WaitParams {
  std::shared_ptr<Event> event;
};
struct RecordParams {
  std::shared_ptr<Event> event;
};
struct AllocParams {
  CUDA_MEM_ALLOC_NODE_PARAMS alloc{};
  std::vector<CUmemAccessDesc> access;
  GraphMemoryRef memory;
};
struct FreeParams {
  GraphMemoryRef memory;
};
struct BatchParams {
  ContextRef context;
  std::vector<CUstreamBatchMemOpParams> operations;
  unsigned flags = 0;
};
struct ConditionalParams {
  std::shared_ptr<Condition> condition;
  CUgraphConditionalNodeType type = CU_GRAPH_COND_TYPE_IF;
  ContextRef context;
  std::vector<GraphRef> bodies;
  std::shared_ptr<std::vector<CUgraph>> handles;  // the array that the creator was given
};
using Params =
    std::variant<EmptyParams, KernelParams, CopyParams, SetParams, HostParams, ChildParams, WaitParams,
                 RecordParams, AllocParams, FreeParams, BatchParams, ConditionalParams>;

struct Link {
  Node* node = nullptr;
  CUgraphEdgeData data{};
};

struct Node : std::enable_shared_from_this<Node> {
  std::uintptr_t handle = 0;
  Graph* graph = nullptr;
  unsigned number = 0;  // in its graph
  Params params;
  std::vector<Link> before, after;
  std::uintptr_t origin = 0;  // the node it was copied from
  bool enabled = true;
  [[nodiscard]] CUgraphNodeType type() const;
};

struct Graph : std::enable_shared_from_this<Graph> {
  std::uintptr_t handle = 0;
  std::vector<NodeRef> nodes;  // in the order they were added
  unsigned next_number = 0;
  std::uintptr_t origin = 0;  // the graph it was copied from
  Graph* parent = nullptr;    // of the node that holds it; null: the application's own
  bool moved = false;         // into a child node, with its handle
  bool conditional_body = false;
  bool capturing = false;  // a capture writes into it
  /// Nodes of allocation and freeing restrict what may be done with a graph.
  bool has_memory = false;
  std::vector<std::shared_ptr<Condition>> conditions;
  std::map<UserObjectRef, std::uint64_t> objects;
  std::weak_ptr<Exec> exec;  // the newest one made of it
  ~Graph();
};

struct Exec {
  std::uintptr_t handle = 0;
  GraphRef graph;  // a copy without handles: nodes are known by `origin`
  std::unordered_map<std::uintptr_t, Node*> nodes;
  std::weak_ptr<Graph> source;
  std::uint64_t flags = 0;
  std::shared_ptr<const Plan> plan;  // null: to be made anew
  CompletionRef last;                // of its newest launch
};

struct GraphTables {
  Table<Graph> graphs;
  Table<Node> nodes;
  Table<Exec> execs;
  Table<Condition> conditions;
  Table<UserObject> objects;
  /// Allocations of graphs by address: all that nodes name, and live ones for their own sake.
  std::map<CUdeviceptr, std::weak_ptr<GraphMemory>> memory;
  std::map<CUdeviceptr, GraphMemoryRef> live;
};
GraphTables& graph_tables();

GraphRef graph_of(CUgraph handle);
NodeRef node_of(CUgraphNode handle);
ExecRef exec_of(CUgraphExec handle);
inline CUgraphNode handle_of(const Node& node) { return as_handle<CUgraphNode>(node.handle); }
inline CUgraph handle_of(const Graph& graph) { return as_handle<CUgraph>(graph.handle); }

/// cudaGraphSetConditional() of a kernel; false: there is no such variable.
bool set_condition(std::uint64_t handle, std::uint32_t value);

// ---- structure (graph.cc) ---------------------------------------------------------------

/// A graph with a handle.
GraphRef new_graph();
/// Ends the handles of a graph, of its nodes and of the graphs inside.
void forget_graph(const GraphRef& graph);
/// Checks dependencies given by the application: of this graph, no duplicates, valid edge data.
CUresult read_links(const Graph& graph, const Node* to_kernel, const CUgraphNode* nodes,
                    const CUgraphEdgeData* data, std::size_t count, std::vector<Link>& links);
/// Adds a node; `registered` gives it a handle.
NodeRef add_node(Graph& graph, Params params, const std::vector<Link>& before, bool registered = true);
void link(Node& from, Node& to, const CUgraphEdgeData& data);
void unlink(Node& from, Node& to);
void remove_node(Node& node);
/// A copy with everything inside; `registered`: the copies get handles.
GraphRef copy_graph(const Graph& graph, bool registered);
/// Its nodes, each after those it depends on; shorter than the graph has nodes if there is a cycle.
std::vector<Node*> in_order(const Graph& graph);
bool default_edge(const CUgraphEdgeData& data);
/// Are there conditional nodes in it or in the graphs inside?
bool has_conditional(const Graph& graph);
void copy_objects(const Graph& from, Graph& to);

// ---- parameters (nodes.cc): from and to CUDA's structures --------------------------------

CUresult make_kernel(const CUDA_KERNEL_NODE_PARAMS& given, KernelParams& params);
void show_kernel(KernelParams& params, CUDA_KERNEL_NODE_PARAMS& shown);
/// A launch as a node holds it.
CUresult set_attribute(KernelParams& params, CUlaunchAttributeID id, const CUlaunchAttributeValue& value);
CUresult node_context(CUcontext handle, ContextRef& context);
CUresult make_copy(const CUDA_MEMCPY3D& given, CUcontext context, CopyParams& params);
CUresult make_set(const CUDA_MEMSET_NODE_PARAMS& given, CUcontext context, SetParams& params);
CUresult make_event(CUevent event, std::shared_ptr<Event>& found);
CUresult make_batch(const CUDA_BATCH_MEM_OP_NODE_PARAMS& given, BatchParams& params);
CUresult make_alloc(CUDA_MEM_ALLOC_NODE_PARAMS& given, Graph& graph, AllocParams& params);
CUresult make_free(CUdeviceptr address, Graph& graph, FreeParams& params);
CUresult make_child(CUgraph child, CUgraphChildGraphNodeOwnership ownership, Graph& parent,
                    ChildParams& params);
CUresult make_conditional(CUDA_CONDITIONAL_NODE_PARAMS& given, Graph& graph, ConditionalParams& params);
/// Any kind. For a node that exists, `node` is it (its kind cannot change).
CUresult make_params(CUgraphNodeParams& given, Graph& graph, const Node* node, Params& params);

// ---- memory (graph_memory.cc) -----------------------------------------------------------

/// Memory of a graph at this address; null: none.
GraphMemoryRef graph_memory_at(CUdeviceptr address);
void set_live(const GraphMemoryRef& memory, bool live);
/// cuMemFree and cuMemFreeAsync of an address that belongs to a graph; false: it does not.
bool free_graph_memory(CUdeviceptr address, CUresult& result);
/// A context's memory is gone: its addresses may become others'.
void forget_graph_memory(const Context& context);
/// Bytes of a device that are allocated by graphs, and the most since that was reset.
struct GraphMemoryUse {
  std::uint64_t now = 0, high = 0;
};
GraphMemoryUse graph_memory_use(const Device& device);
void reset_graph_memory_high(const Device& device);

// ---- user objects -----------------------------------------------------------------------

/// Gives up references; the last calls the destructor, on a thread of its own.
void release_object(const UserObjectRef& object, std::uint64_t count);

}  // namespace avec::cpu
