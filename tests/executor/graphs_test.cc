// Graphs in a session with a hostile client: wrong names, sizes and sequences reach no driver that they must
// not reach, and end nothing but their own call.
#include "support/catch.h"

#include <array>
#include <cstring>
#include <vector>

#include "executor/ready_session.h"

namespace avec::test {
namespace {

constexpr std::uint64_t kGraph = 100, kInner = 101, kNode = 110, kSecond = 111, kExec = 120, kNowhere = 999;

template <class... Parts>
std::vector<std::byte> bytes_of(const Parts&... parts) {
  std::vector<std::byte> bytes((std::size_t{0} + ... + sizeof parts));
  std::size_t at = 0;
  [[maybe_unused]] const auto add = [&](const auto& part) {
    std::memcpy(bytes.data() + at, &part, sizeof part);
    at += sizeof part;
  };
  (add(parts), ...);
  return bytes;
}

/// What a call came to, posted or not; -1: the session has ended.
template <class Body>
int result_of(RawClient& client, const Body& body, ConstBytes payload = {}) {
  const std::uint64_t call = client.send(body, payload);
  if (client.status_of(wire::Ping(0)) != 0) return -1;
  for (const RawFrame& frame : client.others) {
    const bool reply = frame.is_reply() && frame.header.call() == call;
    const bool error = frame.is(wire::Opcode::DeferredError) && frame.as<wire::DeferredError>().call() == call;
    if (reply || error) return frame.header.status();
  }
  return 0;
}

/// A graph, made by the client of a ready session.
struct Graphs : Ready {
  Graphs() { REQUIRE(result_of(client, wire::GraphCreate(kGraph, kContext)) == 0); }

  template <class Body>
  int status_of(const Body& body, ConstBytes payload = {}) {
    return result_of(client, body, payload);
  }
  template <class... Parts>
  int add(CUgraphNodeType type, std::uint64_t node, std::uint32_t dependencies, const Parts&... parts) {
    return status_of(wire::GraphAddNode(kGraph, node, static_cast<std::uint32_t>(type), dependencies),
                     bytes_of(parts...));
  }
};

wire::GraphKernelParams kernel(std::uint64_t module, std::uint64_t context, std::uint32_t index,
                               std::uint32_t parameters = 12) {
  return {module, context, index, 0, 1, 1, 1, 1, 1, 1, 0, parameters};
}
wire::GraphCopyParams copy(std::uint64_t to, std::uint64_t from, std::uint64_t width, std::uint64_t height = 1,
                           std::uint64_t depth = 1, std::uint64_t context = kContext) {
  return {to, width, height, from, width, height, width, height, depth, context};
}
wire::GraphFillParams fill(std::uint64_t to, std::uint64_t width, std::uint32_t element, std::uint64_t context = kContext) {
  return {to, width * element, width, 1, 0, element, context};
}
constexpr std::array<std::uint8_t, 5> kReserved{};
wire::GraphEdge edge(std::uint64_t node) { return {node, 0, 0, 0, kReserved}; }

}  // namespace

TEST_CASE("Calls that name graphs which are none get an error, and the session goes on", "[graphs]") {
  Graphs session;
  RawClient& client = session.client;
  CHECK(result_of(client, wire::GraphDestroy(kNowhere)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(client, wire::GraphDestroyNode(kNowhere)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(client, wire::GraphClone(kNowhere, 200)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(client, wire::GraphOfNode(kNowhere, 201, 0, 0)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(client, wire::GraphDescribe(kNowhere, 1000)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(client, wire::GraphNodeGetParams(kNowhere)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(client, wire::GraphFindInClone(kNowhere, kGraph, 1000)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(client, wire::GraphConditionalCreate(kNowhere, kContext, 0, 0)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(client, wire::GraphConditionalCreate(kGraph, kNowhere, 0, 0)) != 0);
  CHECK(result_of(client, wire::GraphSetAttribute(kNowhere, {})) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(client, wire::GraphCopyAttributes(kNowhere, kNowhere)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(client, wire::GraphDot(kNowhere, 0, 0)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(client, wire::GraphInstantiate(kExec, kNowhere, 0, 0)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(client, wire::GraphInstantiate(kExec, kGraph, 0, kNowhere)) != 0);
  CHECK(result_of(client, wire::GraphLaunch(kNowhere, kStream)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(client, wire::GraphUpload(kNowhere, kStream)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(client, wire::GraphExecUpdate(kNowhere, kGraph, 1000)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(client, wire::GraphNodeSetEnabled(kNowhere, kNowhere, 1, 0)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(client, wire::GraphExecDestroy(kNowhere)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(client, wire::StreamEndCapture(kStream, kGraph, 0, 0)) == CUDA_ERROR_ILLEGAL_STATE);
  CHECK(result_of(client, wire::StreamCaptureInfo(kStream, 1000)) == CUDA_ERROR_ILLEGAL_STATE);
  CHECK(result_of(client, wire::StreamCaptureNode(kStream, kNode)) == CUDA_ERROR_ILLEGAL_STATE);
  CHECK(result_of(client, wire::StreamCaptureHost(kStream, 1)) == CUDA_ERROR_ILLEGAL_STATE);
  CHECK(session.status_of(wire::GraphChangeEdges(kNowhere, 0, 0)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(session.status_of(wire::GraphNodeSetParams(0, kNowhere, CU_GRAPH_NODE_TYPE_EMPTY, 0)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(session.status_of(wire::StreamBeginCapture(kStream, kNowhere, 1, 0)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(session.ping() == 0);
  for (const char* function : {"cuGraphDestroy", "cuGraphDestroyNode", "cuGraphClone", "cuGraphLaunch", "cuGraphUpload",
                               "cuGraphInstantiateWithParams", "cuGraphExecUpdate", "cuGraphExecDestroy",
                               "cuStreamEndCapture", "cuStreamBeginCaptureToGraph", "cuGraphDebugDotPrint"}) {
    INFO(function);
    CHECK(recorded(function) == 0);
  }
}

TEST_CASE("A node with parameters that are not the session's reaches no driver", "[graphs]") {
  Graphs session;
  std::uint64_t node = kNode;
  const auto refused = [&](CUgraphNodeType type, const auto&... parts) {
    const int status = session.add(type, node++, 0, parts...);
    CHECK(status > 0);
    CHECK(recorded("cuGraphAddNode") == 0);
    CHECK(session.ping() == 0);
  };
  refused(CU_GRAPH_NODE_TYPE_KERNEL, kernel(kNowhere, kContext, 0), session.parameters);
  refused(CU_GRAPH_NODE_TYPE_KERNEL, kernel(kModule, kContext, 77), session.parameters);
  refused(CU_GRAPH_NODE_TYPE_MEMCPY, copy(0x1000, kBase, 16));
  refused(CU_GRAPH_NODE_TYPE_MEMCPY, copy(kBase, 0x1000, 16));
  refused(CU_GRAPH_NODE_TYPE_MEMCPY, copy(kBase, kBase + (64u << 20) - 8, 16));
  refused(CU_GRAPH_NODE_TYPE_MEMCPY, copy(kBase, kBase, 16, std::uint64_t{1} << 62, 4));
  refused(CU_GRAPH_NODE_TYPE_MEMCPY, copy(kBase, kBase, 16, 0, 1));
  refused(CU_GRAPH_NODE_TYPE_MEMCPY, copy(kBase, kBase, 16, 1, ~std::uint64_t{0}));
  refused(CU_GRAPH_NODE_TYPE_MEMCPY, copy(kBase, kBase + 4096, 16, 1, 1, kNowhere));
  refused(CU_GRAPH_NODE_TYPE_MEMSET, fill(0x1000, 16, 4));
  refused(CU_GRAPH_NODE_TYPE_MEMSET, fill(kBase + 1, 16, 4));
  refused(CU_GRAPH_NODE_TYPE_MEMSET, fill(kBase + (64u << 20) - 4, 16, 1));
  refused(CU_GRAPH_NODE_TYPE_EVENT_RECORD, wire::GraphEventParams(kNowhere));
  refused(CU_GRAPH_NODE_TYPE_WAIT_EVENT, wire::GraphEventParams(kNowhere));
  refused(CU_GRAPH_NODE_TYPE_GRAPH, wire::GraphChildParams(kNowhere));
  refused(CU_GRAPH_NODE_TYPE_CONDITIONAL, wire::GraphConditionalParams(1234, kContext, 500, CU_GRAPH_COND_TYPE_IF, 1));
  refused(CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, wire::GraphBatchParams(kContext, 0, 1),
          wire::GraphMemOp(CU_STREAM_MEM_OP_WRITE_VALUE_32, 0, 0x1000, 1));
}

TEST_CASE("Parameters that are cut short, or announce more than there is, end the session", "[graphs]") {
  const auto ended_by = [](CUgraphNodeType type, std::uint32_t dependencies, const auto&... parts) {
    Graphs session;
    session.client.send(wire::GraphAddNode(kGraph, kNode, static_cast<std::uint32_t>(type), dependencies),
                        bytes_of(parts...));
    CHECK(session.client.closing_reason() != "");
    CHECK(recorded("cuGraphAddNode") == 0);
  };
  ended_by(CU_GRAPH_NODE_TYPE_KERNEL, 0, std::uint64_t{0});
  ended_by(CU_GRAPH_NODE_TYPE_KERNEL, 0, kernel(kModule, kContext, 0, 4096));
  ended_by(CU_GRAPH_NODE_TYPE_MEMCPY, 0, std::uint64_t{0});
  ended_by(CU_GRAPH_NODE_TYPE_MEMSET, 0, std::uint64_t{0});
  ended_by(CU_GRAPH_NODE_TYPE_MEMSET, 0, fill(kBase, 16, 3));
  ended_by(CU_GRAPH_NODE_TYPE_EMPTY, 3, edge(kNode));
  ended_by(CU_GRAPH_NODE_TYPE_EMPTY, ~0u, edge(kNode));
  ended_by(CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, 0, wire::GraphBatchParams(kContext, 0, 200));
}

TEST_CASE("Dependencies and edges name nodes of their own graph", "[graphs]") {
  Graphs session;
  REQUIRE(result_of(session.client, wire::GraphCreate(kInner, kContext)) == 0);
  REQUIRE(session.status_of(wire::GraphAddNode(kInner, kSecond, CU_GRAPH_NODE_TYPE_EMPTY, 0)) == 0);
  REQUIRE(session.add(CU_GRAPH_NODE_TYPE_EMPTY, kNode, 0) == 0);
  const auto added = recorded("cuGraphAddNode");
  CHECK(session.add(CU_GRAPH_NODE_TYPE_EMPTY, 300, 1, edge(kSecond)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(session.add(CU_GRAPH_NODE_TYPE_EMPTY, 301, 1, edge(kNowhere)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(session.add(CU_GRAPH_NODE_TYPE_EMPTY, 302, 1, edge(300)) != 0);  // a node that came to nothing
  CHECK(recorded("cuGraphAddNode") == added);
  const wire::GraphLink across(kNode, kSecond, 0, 0, 0, kReserved);
  CHECK(session.status_of(wire::GraphChangeEdges(kGraph, 1, 0), bytes_of(across)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(session.status_of(wire::GraphChangeEdges(kGraph, 1, 1), bytes_of(across)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(recorded("cuGraphAddDependencies") + recorded("cuGraphRemoveDependencies") == 0);
  session.client.send(wire::GraphChangeEdges(kGraph, 9, 0), bytes_of(across));
  CHECK(session.client.closing_reason() != "");
}

TEST_CASE("A graph inside a node has one name", "[graphs]") {
  Graphs session;
  REQUIRE(result_of(session.client, wire::GraphCreate(kInner, kContext)) == 0);
  REQUIRE(session.add(CU_GRAPH_NODE_TYPE_GRAPH, kNode, 0, wire::GraphChildParams(kInner)) == 0);
  CHECK(result_of(session.client, wire::GraphOfNode(kNode, 200, 1, 0)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(session.client, wire::GraphOfNode(kNode, 201, 0, 0)) == 0);
  CHECK(result_of(session.client, wire::GraphOfNode(kNode, 202, 0, 0)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(session.client, wire::GraphDescribe(202, 1000)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(session.client, wire::GraphDestroy(201)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(recorded("cuGraphChildGraphNodeGetGraph") == 1);
  CHECK(recorded("cuGraphDestroy") == 0);
}

TEST_CASE("A graph stays while a stream captures into one inside it", "[graphs]") {
  Graphs session;
  REQUIRE(result_of(session.client, wire::GraphCreate(kInner, kContext)) == 0);
  REQUIRE(session.add(CU_GRAPH_NODE_TYPE_GRAPH, kNode, 0, wire::GraphChildParams(kInner)) == 0);
  REQUIRE(result_of(session.client, wire::GraphOfNode(kNode, 201, 0, 0)) == 0);
  REQUIRE(session.status_of(wire::StreamBeginCapture(kStream, 201, 1, 0)) == 0);
  CHECK(result_of(session.client, wire::GraphDestroy(kGraph)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(session.client, wire::GraphDestroyNode(kNode)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(recorded("cuGraphDestroy") + recorded("cuGraphDestroyNode") == 0);
  CHECK(result_of(session.client, wire::StreamEndCapture(kStream, 201, 0, 0)) != -1);
  CHECK(result_of(session.client, wire::GraphDestroy(kGraph)) == 0);
  CHECK(recorded("cuGraphDestroy") == 1);
}

TEST_CASE("A capture into a graph of a context that goes ends before the graph does", "[graphs]") {
  Graphs session;
  constexpr std::uint64_t kOtherContext = 50;
  session.client.send(wire::ContextCreate(kOtherContext, 51, 52, 0, 0, 0, 0));
  REQUIRE(result_of(session.client, wire::GraphCreate(kInner, kOtherContext)) == 0);
  REQUIRE(session.status_of(wire::StreamBeginCapture(kStream, kInner, 1, 0)) == 0);
  session.client.send(wire::ContextDestroy(kOtherContext));
  CHECK(session.ping() == 0);
  CHECK(recorded("cuStreamEndCapture") == 1);
  CHECK(result_of(session.client, wire::StreamEndCapture(kStream, kInner, 0, 0)) == CUDA_ERROR_ILLEGAL_STATE);
}

TEST_CASE("An answer to a host function that nobody asked for ends the session", "[graphs]") {
  Graphs session;
  session.client.send(wire::HostCallDone(77));
  CHECK(session.client.closing_reason() != "");
}

// ---- coherent memory ----------------------------------------------------------------------------

TEST_CASE("Coherent ranges outside of the session's memory are refused", "[coherent]") {
  Ready session;
  RawClient& client = session.client;
  constexpr std::uint64_t kPage = 4096;
  const auto begin = [&](std::uint64_t address, std::uint64_t bytes, std::uint64_t stream = kStream) {
    return result_of(client, wire::CoherentBegin(address, bytes, stream, 1, 0));
  };
  CHECK(begin(0x1000, kPage) == CUDA_ERROR_INVALID_VALUE);
  CHECK(begin(kBase, 0) == CUDA_ERROR_INVALID_VALUE);
  CHECK(begin(kBase, (64u << 20) + 1) == CUDA_ERROR_INVALID_VALUE);
  CHECK(begin(kBase + kPage, ~std::uint64_t{0}) == CUDA_ERROR_INVALID_VALUE);
  CHECK(begin(kBase, kPage, kNowhere) != 0);
  CHECK(recorded("cuMemsetD8Async") == 0);
  CHECK(begin(kBase, kPage) == 0);
  CHECK(begin(kBase, kPage) == CUDA_ERROR_INVALID_VALUE);      // twice
  CHECK(begin(kBase + 8, kPage) == CUDA_ERROR_INVALID_VALUE);  // overlapping
  CHECK(result_of(client, wire::CoherentEnd(kBase, kPage - 1)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(client, wire::CoherentEnd(kBase + 1, kPage)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(result_of(client, wire::CoherentPull(kNowhere, 0)) != 0);
  CHECK(result_of(client, wire::CoherentEnd(kBase, kPage)) == 0);
  CHECK(result_of(client, wire::CoherentEnd(kBase, kPage)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(session.ping() == 0);
  client.send(wire::CoherentBegin(kBase, kPage, kStream, 2, 0));
  CHECK(client.closing_reason() != "");
}

TEST_CASE("Changes go to coherent ranges and nowhere else", "[coherent]") {
  Ready session;
  const auto write = [&](const std::vector<std::byte>& payload, std::uint32_t runs, std::uint64_t stream = kStream) {
    return result_of(session.client, wire::CoherentWrite(stream, runs, 0), payload);
  };
  REQUIRE(result_of(session.client, wire::CoherentBegin(kBase, 4096, kStream, 1, 0)) == 0);
  const std::uint64_t value = 5;
  CHECK(write(bytes_of(wire::CoherentRun(kBase + 4096, 8), value), 1) == CUDA_ERROR_INVALID_VALUE);
  CHECK(write(bytes_of(wire::CoherentRun(kBase + 4092, 8), value), 1) == CUDA_ERROR_INVALID_VALUE);
  CHECK(write(bytes_of(wire::CoherentRun(kBase - 8, 8), value), 1) == CUDA_ERROR_INVALID_VALUE);
  CHECK(write(bytes_of(wire::CoherentRun(0x1000, 8), value), 1) == CUDA_ERROR_INVALID_VALUE);
  CHECK(write(bytes_of(wire::CoherentRun(kBase, 8), value), 1, kNowhere) != 0);
  CHECK(recorded_copies().size() == 0);
  CHECK(write(bytes_of(wire::CoherentRun(kBase, 8), value), 1) == 0);
  CHECK(recorded_copies().size() == 1);
  REQUIRE(result_of(session.client, wire::CoherentEnd(kBase, 4096)) == 0);
  CHECK(write(bytes_of(wire::CoherentRun(kBase, 8), value), 1) == CUDA_ERROR_INVALID_VALUE);
  CHECK(recorded_copies().size() == 1);
  CHECK(session.ping() == 0);
}

TEST_CASE("Changes whose sizes do not fit their frame end the session", "[coherent]") {
  const auto ended_by = [](const std::vector<std::byte>& payload, std::uint32_t runs) {
    Ready session;
    session.client.send(wire::CoherentWrite(kStream, runs, 0), payload);
    CHECK(session.client.closing_reason() != "");
    CHECK(recorded_copies().size() == 0);
  };
  const std::uint64_t value = 5;
  ended_by({}, 1);
  ended_by(bytes_of(value), ~0u);
  ended_by(bytes_of(wire::CoherentRun(kBase, 16), value), 1);
  ended_by(bytes_of(wire::CoherentRun(kBase, 4), value), 1);
  ended_by(bytes_of(wire::CoherentRun(kBase, 0), value), 1);
  ended_by(bytes_of(wire::CoherentRun(kBase, ~std::uint64_t{0}), value), 1);
  ended_by(bytes_of(value), 0);
}

}  // namespace avec::test
