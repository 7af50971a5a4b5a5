#include "kernels_support.h"

namespace {

/// What was captured, run once.
void run(CUgraph graph, CUstream stream) {
  CUgraphExec exec = nullptr;
  OK(cuGraphInstantiate(&exec, graph, 0));
  OK(cuGraphLaunch(exec, stream));
  OK(cuStreamSynchronize(stream));
  OK(cuGraphExecDestroy(exec));
}

CUgraph end(CUstream stream) {
  CUgraph graph = nullptr;
  OK(cuStreamEndCapture(stream, &graph));
  return graph;
}

std::size_t count_of(CUgraph graph) {
  std::size_t count = 0;
  OK(cuGraphGetNodes(graph, nullptr, &count));
  return count;
}

CUevent make_event() {
  CUevent event = nullptr;
  OK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
  return event;
}

CUstreamCaptureStatus status_of(CUstream stream) {
  CUstreamCaptureStatus status;
  OK(cuStreamIsCapturing(stream, &status));
  return status;
}

}  // namespace

TEST_CASE("What a capturing stream is given runs when the graph does, each time anew") {
  test::Context context;
  const test::Kernels kernels;
  const CUstream stream = test::make_stream();
  test::Buffer buffer(16);
  std::vector<std::uint32_t> host{5, 6, 7, 8}, back(4);
  OK(cuMemsetD32(buffer.address, 0, 4));
  OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  CHECK(status_of(stream) == CU_STREAM_CAPTURE_STATUS_ACTIVE);
  OK(cuMemcpyHtoDAsync(buffer.address, host.data(), 16, stream));
  OK(cuMemsetD32Async(buffer.address + 4, 9, 1, stream));
  void* parameters[] = {&buffer.address};
  OK(cuLaunchKernel(kernels.function("store"), 1, 1, 1, 1, 1, 1, 0, stream, parameters, nullptr));
  OK(cuMemcpyDtoHAsync(back.data(), buffer.address, 16, stream));
  const CUgraph graph = end(stream);
  CHECK(status_of(stream) == CU_STREAM_CAPTURE_STATUS_NONE);
  CHECK(count_of(graph) == 4);
  CHECK(test::read(buffer.address, 4) == std::vector<std::uint32_t>{0, 0, 0, 0});
  run(graph, stream);
  CHECK(back == std::vector<std::uint32_t>{1, 9, 7, 8});
  host[3] = 80;
  run(graph, stream);
  CHECK(back == std::vector<std::uint32_t>{1, 9, 7, 80});
  OK(cuGraphDestroy(graph));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuGraphDestroy(graph));
}

TEST_CASE("Events carry a capture to other streams and back") {
  test::Context context;
  const CUstream first = test::make_stream(), second = test::make_stream();
  const CUevent fork = make_event(), join = make_event();
  test::Buffer buffer(12);
  OK(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  OK(cuMemsetD32Async(buffer.address, 1, 3, first));
  OK(cuEventRecord(fork, first));
  OK(cuStreamWaitEvent(second, fork, 0));
  CHECK(status_of(second) == CU_STREAM_CAPTURE_STATUS_ACTIVE);
  OK(cuMemsetD32Async(buffer.address + 4, 2, 1, second));
  OK(cuMemsetD32Async(buffer.address + 8, 3, 1, first));
  OK(cuEventRecord(join, second));
  OK(cuStreamWaitEvent(first, join, 0));
  OK(cuMemsetD32Async(buffer.address, 4, 1, first));
  const CUgraph graph = end(first);
  CHECK(status_of(second) == CU_STREAM_CAPTURE_STATUS_NONE);
  std::size_t edges = 0;
  OK(cuGraphGetEdges(graph, nullptr, nullptr, nullptr, &edges));
  CHECK(edges == 4);
  run(graph, first);
  CHECK(test::read(buffer.address, 3) == std::vector<std::uint32_t>{4, 2, 3});
  GIVES(CUDA_ERROR_CAPTURED_EVENT, cuEventQuery(join));
}

TEST_CASE("A branch that was not joined fails the capture and leaves the streams usable") {
  test::Context context;
  const CUstream first = test::make_stream(), second = test::make_stream();
  const CUevent fork = make_event();
  test::Buffer buffer(4);
  const auto branch = [&] {
    OK(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_RELAXED));
    OK(cuEventRecord(fork, first));
    OK(cuStreamWaitEvent(second, fork, 0));
    OK(cuMemsetD32Async(buffer.address, 2, 1, second));
  };
  CUgraph graph = nullptr;
  // As on an H100: the attempt to end it elsewhere has ended it.
  branch();
  GIVES(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, cuStreamEndCapture(second, &graph));
  GIVES(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(first, &graph));
  branch();
  GIVES(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, cuStreamEndCapture(first, &graph));
  CHECK(graph == nullptr);
  OK(cuStreamSynchronize(first));
  OK(cuStreamSynchronize(second));
}

TEST_CASE("What cannot be captured invalidates the capture") {
  test::Context context;
  const CUstream stream = test::make_stream(), other = test::make_stream();
  const CUevent outside = make_event();
  OK(cuEventRecord(outside, other));
  CUgraph graph = nullptr;
  const auto begin = [&] { OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED)); };
  begin();
  GIVES(CUDA_ERROR_ILLEGAL_STATE, cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  GIVES(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuStreamSynchronize(stream));
  CHECK(status_of(stream) == CU_STREAM_CAPTURE_STATUS_INVALIDATED);
  GIVES(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamQuery(stream));
  GIVES(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &graph));
  GIVES(CUDA_ERROR_ILLEGAL_STATE, cuStreamEndCapture(stream, &graph));
  begin();
  GIVES(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, cuStreamWaitEvent(stream, outside, 0));
  GIVES(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &graph));
  begin();
  OK(cuStreamBeginCapture(other, CU_STREAM_CAPTURE_MODE_RELAXED));
  OK(cuEventRecord(outside, other));
  GIVES(CUDA_ERROR_STREAM_CAPTURE_MERGE, cuStreamWaitEvent(stream, outside, 0));
  GIVES(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &graph));
  GIVES(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(other, &graph));
  begin();
  GIVES(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuCtxSynchronize());
  GIVES(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &graph));
  GIVES(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuStreamBeginCapture(nullptr, CU_STREAM_CAPTURE_MODE_RELAXED));
}

TEST_CASE("Unsafe calls are refused by the modes of captures and threads") {
  test::Context context;
  const CUstream stream = test::make_stream();
  CUgraph graph = nullptr;
  CUdeviceptr memory = 0;
  for (const auto mode : {CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL}) {
    OK(cuStreamBeginCapture(stream, mode));
    GIVES(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuMemAlloc(&memory, 64));
    GIVES(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &graph));
  }
  OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  OK(cuMemAlloc(&memory, 64));
  OK(cuMemFree(memory));
  OK(cuGraphDestroy(end(stream)));
  OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  std::thread([&] {
    CUdeviceptr mine = 0;
    GIVES(CUDA_SUCCESS, cuCtxSetCurrent(context.handle));
    GIVES(CUDA_SUCCESS, cuMemAlloc(&mine, 64));
    CUgraph none = nullptr;
    GIVES(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, cuStreamEndCapture(stream, &none));
  }).join();
  GIVES(CUDA_ERROR_ILLEGAL_STATE, cuStreamEndCapture(stream, &graph));  // the other thread's attempt has ended it
  CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
  OK(cuThreadExchangeStreamCaptureMode(&mode));
  CHECK(mode == CU_STREAM_CAPTURE_MODE_GLOBAL);
  OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  OK(cuMemAlloc(&memory, 64));
  OK(cuThreadExchangeStreamCaptureMode(&mode));
  OK(cuGraphDestroy(end(stream)));
}

TEST_CASE("The legacy default stream is out of use while a blocking stream captures") {
  test::Context context;
  const CUstream blocking = test::make_stream(CU_STREAM_DEFAULT);
  test::Buffer buffer(4);
  OK(cuStreamBeginCapture(blocking, CU_STREAM_CAPTURE_MODE_RELAXED));
  CUstreamCaptureStatus status;
  GIVES(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, cuStreamIsCapturing(nullptr, &status));
  CHECK(status_of(blocking) == CU_STREAM_CAPTURE_STATUS_ACTIVE);
  GIVES(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, cuMemsetD32Async(buffer.address, 1, 1, nullptr));
  CUgraph graph = nullptr;
  GIVES(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(blocking, &graph));
  OK(cuMemsetD32Async(buffer.address, 1, 1, nullptr));
}

TEST_CASE("A capture tells its graph and dependencies, which can be changed") {
  test::Context context;
  const CUstream stream = test::make_stream();
  test::Buffer buffer(8);
  OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  OK(cuMemsetD32Async(buffer.address, 1, 1, stream));
  CUstreamCaptureStatus status;
  cuuint64_t id = 0;
  CUgraph graph = nullptr;
  const CUgraphNode* nodes = nullptr;
  std::size_t count = 0;
  OK(cuStreamGetCaptureInfo(stream, &status, &id, &graph, &nodes, nullptr, &count));
  CHECK(status == CU_STREAM_CAPTURE_STATUS_ACTIVE);
  CHECK(id != 0);
  REQUIRE(count == 1);
  CUgraphNode empty = nullptr;
  OK(cuGraphAddEmptyNode(&empty, graph, nodes, count));
  OK(cuStreamUpdateCaptureDependencies(stream, &empty, nullptr, 1, CU_STREAM_SET_CAPTURE_DEPENDENCIES));
  OK(cuMemsetD32Async(buffer.address + 4, 2, 1, stream));
  CHECK(end(stream) == graph);
  CHECK(count_of(graph) == 3);
  std::size_t dependents = 0;
  OK(cuGraphNodeGetDependentNodes(empty, nullptr, nullptr, &dependents));
  CHECK(dependents == 1);
  GIVES(CUDA_ERROR_ILLEGAL_STATE, cuStreamUpdateCaptureDependencies(stream, &empty, nullptr, 1, 0));
  run(graph, stream);
  CHECK(test::read(buffer.address, 2) == std::vector<std::uint32_t>{1, 2});
}

TEST_CASE("A capture may go into a graph that is there, but a launch is not captured") {
  test::Context context;
  const CUstream stream = test::make_stream();
  test::Buffer buffer(8);
  CUgraph graph = nullptr;
  OK(cuGraphCreate(&graph, 0));
  CUgraphNode root = nullptr;
  OK(cuGraphAddEmptyNode(&root, graph, nullptr, 0));
  OK(cuStreamBeginCaptureToGraph(stream, graph, &root, nullptr, 1, CU_STREAM_CAPTURE_MODE_RELAXED));
  CUgraphExec exec = nullptr;
  GIVES(CUDA_ERROR_INVALID_VALUE, cuGraphInstantiate(&exec, graph, 0));
  OK(cuMemsetD32Async(buffer.address, 3, 2, stream));
  CHECK(end(stream) == graph);
  OK(cuGraphInstantiate(&exec, graph, 0));
  OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  GIVES(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuGraphLaunch(exec, stream));
  CUgraph none = nullptr;
  GIVES(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &none));
  OK(cuGraphLaunch(exec, stream));
  OK(cuStreamSynchronize(stream));
  CHECK(test::read(buffer.address, 2) == std::vector<std::uint32_t>{3, 3});
}

TEST_CASE("Allocations, host functions and values are captured too") {
  test::Context context;
  const CUstream stream = test::make_stream();
  test::Buffer buffer(8);
  int calls = 0;
  CUdeviceptr memory = 0;
  std::uint32_t seen = 0;
  OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  OK(cuMemAllocAsync(&memory, 4096, stream));
  OK(cuMemsetD32Async(memory, 77, 1, stream));
  OK(cuMemcpyDtoHAsync(&seen, memory, 4, stream));
  OK(cuMemFreeAsync(memory, stream));
  OK(cuLaunchHostFunc(
      stream, [](void* user) { ++*static_cast<int*>(user); }, &calls));
  OK(cuStreamWriteValue32(stream, buffer.address, 5, 0));
  OK(cuStreamWaitValue32(stream, buffer.address, 5, CU_STREAM_WAIT_VALUE_EQ));
  GIVES(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuStreamAddCallback(
                                                   stream, [](CUstream, CUresult, void*) {}, nullptr, 0));
  CUgraph graph = nullptr;
  GIVES(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &graph));
  OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  OK(cuMemAllocAsync(&memory, 4096, stream));
  OK(cuMemsetD32Async(memory, 78, 1, stream));
  OK(cuMemcpyDtoHAsync(&seen, memory, 4, stream));
  OK(cuMemFreeAsync(memory, stream));
  OK(cuLaunchHostFunc(
      stream, [](void* user) { ++*static_cast<int*>(user); }, &calls));
  OK(cuStreamWriteValue32(stream, buffer.address, 5, 0));
  OK(cuStreamWaitValue32(stream, buffer.address, 5, CU_STREAM_WAIT_VALUE_EQ));
  graph = end(stream);
  CHECK(count_of(graph) == 7);
  run(graph, stream);
  run(graph, stream);
  CHECK(seen == 78);
  CHECK(calls == 2);
}

TEST_CASE("A context takes its captures and the memory of its graphs with it") {
  {
    test::Context context;
    const CUstream stream = test::make_stream();
    CUdeviceptr memory = 0;
    OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    OK(cuMemAllocAsync(&memory, 4096, stream));
    run(end(stream), stream);
    OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  }
  test::Context context;
  test::Buffer buffer(4096);  // not refused, and not taken for a graph's
  OK(cuStreamSynchronize(nullptr));
  cuuint64_t used = 1;
  OK(cuDeviceGetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT, &used));
  CHECK(used == 0);
}
