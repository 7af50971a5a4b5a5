// Batches of copies, peers, and memory and events shared between two processes.
#include <sys/wait.h>
#include <unistd.h>

#include "case.h"

namespace {

constexpr size_t kMiB = 1 << 20;

__global__ void add(int* values, int count, int what) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) values[i] += what;
}

/// Two processes that talk through pipes. Made before the first CUDA call.
struct Pair {
  int to_child[2], to_parent[2];
  pid_t child = 0;
  Pair() {
    if (pipe(to_child) != 0 || pipe(to_parent) != 0) std::exit(4);
    std::fflush(stdout);
    child = fork();
    close(in_child() ? to_child[1] : to_child[0]);  // so that the end of one ends the other's reading
    close(in_child() ? to_parent[0] : to_parent[1]);
  }
  bool in_child() const { return child == 0; }
  template <class T>
  void send(const T& value) {
    if (write(in_child() ? to_parent[1] : to_child[1], &value, sizeof value) != sizeof value) std::exit(5);
  }
  template <class T>
  T receive() {
    T value;
    if (read(in_child() ? to_child[0] : to_parent[0], &value, sizeof value) != sizeof value) {
      if (in_child()) _exit(6);
      say("the other process has ended");
      std::exit(3);
    }
    return value;
  }
  void finish() {
    close(to_child[1]);
    int status = 0;
    waitpid(child, &status, 0);
    say("the child ended with %d", WEXITSTATUS(status));
  }
};

CUmemcpyAttributes in_stream_order() {
  CUmemcpyAttributes attributes{};
  attributes.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM;
  return attributes;
}

}  // namespace

CASE(a_batch_of_copies) {
  cudaStream_t stream;
  NEED(cudaStreamCreate(&stream));
  int *a = nullptr, *b = nullptr;
  NEED(cudaMalloc(&a, kMiB));
  NEED(cudaMalloc(&b, kMiB));
  std::vector<int> in(1000), out(1000);
  std::iota(in.begin(), in.end(), 0);
  void* to[] = {a, b};
  const void* from[] = {in.data(), a};
  size_t sizes[] = {4000, 4000};
  size_t first[] = {0};
  cudaMemcpyAttributes attributes{};
  attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  SHOW(cudaMemcpyBatchAsync(to, from, sizes, 1, &attributes, first, 1, stream));
  SHOW(cudaMemcpyBatchAsync(to + 1, from + 1, sizes, 1, &attributes, first, 1, stream));
  SHOW(cudaMemcpyAsync(out.data(), b, 4000, cudaMemcpyDeviceToHost, stream));
  SHOW(cudaStreamSynchronize(stream));
  say("equal: %d", in == out);
}

CASE(invalid_batches) {
  cudaStream_t stream;
  NEED(cudaStreamCreate(&stream));
  CUdeviceptr a = 0;
  NEED(cuMemAlloc(&a, kMiB));
  CUdeviceptr to[] = {a}, from[] = {a + 4096};
  size_t sizes[] = {256}, first[] = {0};
  CUmemcpyAttributes attributes = in_stream_order();
  SHOW(cuMemcpyBatchAsync(to, from, sizes, 1, &attributes, first, 1, stream));
  SHOW(cuMemcpyBatchAsync(to, from, sizes, 1, &attributes, first, 1, nullptr));
  SHOW(cuMemcpyBatchAsync(to, from, sizes, 1, &attributes, first, 0, stream));
  SHOW(cuMemcpyBatchAsync(to, from, sizes, 1, nullptr, first, 1, stream));
  SHOW(cuMemcpyBatchAsync(nullptr, from, sizes, 1, &attributes, first, 1, stream));
  attributes.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_INVALID;
  SHOW(cuMemcpyBatchAsync(to, from, sizes, 1, &attributes, first, 1, stream));
  SHOW(cudaStreamSynchronize(stream));
}

CASE(a_batch_of_boxes) {
  cudaStream_t stream;
  NEED(cudaStreamCreate(&stream));
  unsigned char* a = nullptr;
  NEED(cudaMalloc(&a, 4096));
  NEED(cudaMemset(a, 0, 4096));
  std::vector<unsigned char> in(4 * 4 * 4), out(4096);
  std::iota(in.begin(), in.end(), 1);
  cudaMemcpy3DBatchOp operation{};
  operation.src.type = cudaMemcpyOperandTypePointer;
  operation.src.op.ptr.ptr = in.data();
  operation.src.op.ptr.rowLength = 4;
  operation.src.op.ptr.layerHeight = 4;
  operation.dst.type = cudaMemcpyOperandTypePointer;
  operation.dst.op.ptr.ptr = a;
  operation.dst.op.ptr.rowLength = 16;
  operation.dst.op.ptr.layerHeight = 8;
  operation.extent = make_cudaExtent(4, 4, 4);
  operation.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  SHOW(cudaMemcpy3DBatchAsync(1, &operation, 0, stream));
  SHOW(cudaMemcpyAsync(out.data(), a, 4096, cudaMemcpyDeviceToHost, stream));
  SHOW(cudaStreamSynchronize(stream));
  say("%d %d %d %d", out[0], out[16], out[16 * 8], out[3 * 16 * 8 + 3 * 16 + 3]);
  say("sum %d", std::accumulate(out.begin(), out.end(), 0));
}

CASE(peer_of_itself) {
  int can = 99;
  SHOW(cudaDeviceCanAccessPeer(&can, 0, 0));
  say("can %d", can);
  SHOW(cudaDeviceCanAccessPeer(&can, 0, 99));
  SHOW(cudaDeviceCanAccessPeer(nullptr, 0, 0));
  SHOW(cudaDeviceEnablePeerAccess(0, 0));
  SHOW(cudaDeviceEnablePeerAccess(99, 0));
  SHOW(cudaDeviceDisablePeerAccess(99));
  int value = 0;
  SHOW(cuDeviceGetP2PAttribute(&value, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, 0, 0));
}

CASE(peer_access_of_invalid_contexts) {
  NEED(cudaFree(nullptr));
  SHOW(cuCtxEnablePeerAccess(nullptr, 0));
  CUcontext own = nullptr;
  NEED(cuCtxGetCurrent(&own));
  SHOW(cuCtxEnablePeerAccess(own, 0));
}

CASE(memory_of_another_process) {
  Pair pair;
  if (pair.in_child()) {
    const auto handle = pair.receive<cudaIpcMemHandle_t>();
    int *p = nullptr, first = 0;
    pair.send(cudaIpcOpenMemHandle(reinterpret_cast<void**>(&p), handle, cudaIpcMemLazyEnablePeerAccess));
    pair.send(cudaMemcpy(&first, p, sizeof first, cudaMemcpyDeviceToHost));
    pair.send(first);
    add<<<16, 256>>>(p, 4096, 30);
    pair.send(cudaDeviceSynchronize());
    pair.send(cudaIpcCloseMemHandle(p));
    pair.send(cudaIpcCloseMemHandle(p));
    _exit(0);
  }
  int* p = nullptr;
  NEED(cudaMalloc(&p, 2 * kMiB));
  NEED(cudaMemset(p, 1, 2 * kMiB));
  NEED(cudaDeviceSynchronize());
  cudaIpcMemHandle_t handle;
  NEED(cudaIpcGetMemHandle(&handle, p));
  pair.send(handle);
  conformance::show("the child opens it", pair.receive<cudaError_t>());
  conformance::show("and reads", pair.receive<cudaError_t>());
  say("%x", pair.receive<int>());
  conformance::show("and adds", pair.receive<cudaError_t>());
  conformance::show("and closes it", pair.receive<cudaError_t>());
  conformance::show("and once more", pair.receive<cudaError_t>());
  int value = 0;
  SHOW(cudaMemcpy(&value, p + 4095, sizeof value, cudaMemcpyDeviceToHost));
  say("%x", value);
  pair.finish();
  SHOW(cudaFree(p));
}

CASE(a_handle_that_is_opened_twice) {
  Pair pair;
  if (pair.in_child()) {
    const auto handle = pair.receive<cudaIpcMemHandle_t>();
    void *a = nullptr, *b = nullptr;
    pair.send(cudaIpcOpenMemHandle(&a, handle, cudaIpcMemLazyEnablePeerAccess));
    pair.send(cudaIpcOpenMemHandle(&b, handle, cudaIpcMemLazyEnablePeerAccess));
    pair.send(static_cast<int>(a == b));
    pair.send(cudaIpcCloseMemHandle(a));
    pair.send(cudaMemset(a, 5, 100));
    pair.send(cudaIpcCloseMemHandle(a));
    _exit(0);
  }
  void* p = nullptr;
  NEED(cudaMalloc(&p, 2 * kMiB));
  cudaIpcMemHandle_t handle;
  SHOW(cudaIpcGetMemHandle(&handle, p));
  pair.send(handle);
  conformance::show("open", pair.receive<cudaError_t>());
  conformance::show("open", pair.receive<cudaError_t>());
  say("the same address: %d", pair.receive<int>());
  conformance::show("close", pair.receive<cudaError_t>());
  conformance::show("use", pair.receive<cudaError_t>());
  conformance::show("close", pair.receive<cudaError_t>());
  pair.finish();
}

CASE(an_event_of_another_process) {
  Pair pair;
  if (pair.in_child()) {
    const auto memory = pair.receive<cudaIpcMemHandle_t>();
    const auto handle = pair.receive<cudaIpcEventHandle_t>();
    int *p = nullptr, value = 0;
    cudaEvent_t event = nullptr;
    pair.send(cudaIpcOpenMemHandle(reinterpret_cast<void**>(&p), memory, cudaIpcMemLazyEnablePeerAccess));
    pair.send(cudaIpcOpenEventHandle(&event, handle));
    pair.send(cudaStreamWaitEvent(0, event));
    pair.send(cudaMemcpy(&value, p, sizeof value, cudaMemcpyDeviceToHost));
    pair.send(value);
    pair.send(cudaEventSynchronize(event));
    pair.send(cudaEventQuery(event));
    pair.send(cudaEventDestroy(event));
    pair.receive<int>();
    _exit(0);
  }
  int* p = nullptr;
  cudaEvent_t event = nullptr;
  NEED(cudaMalloc(&p, 2 * kMiB));
  NEED(cudaMemset(p, 0, 2 * kMiB));
  SHOW(cudaEventCreateWithFlags(&event, cudaEventInterprocess | cudaEventDisableTiming));
  cudaIpcMemHandle_t memory;
  cudaIpcEventHandle_t handle;
  SHOW(cudaIpcGetMemHandle(&memory, p));
  SHOW(cudaIpcGetEventHandle(&handle, event));
  for (int i = 0; i < 50; ++i) add<<<2048, 256>>>(p, 512 * 1024, 2);
  SHOW(cudaEventRecord(event, 0));
  pair.send(memory);
  pair.send(handle);
  for (const char* what : {"open memory", "open event", "wait", "copy"})
    conformance::show(what, pair.receive<cudaError_t>());
  say("%d", pair.receive<int>());
  for (const char* what : {"synchronise", "query", "destroy"}) conformance::show(what, pair.receive<cudaError_t>());
  pair.send(1);
  pair.finish();
  SHOW(cudaEventDestroy(event));
}

CASE(opening_in_the_process_that_exports) {
  CUdeviceptr a = 0, b = 0;
  NEED(cudaFree(nullptr));
  NEED(cuMemAlloc(&a, 2 * kMiB));
  CUipcMemHandle handle;
  SHOW(cuIpcGetMemHandle(&handle, a));
  SHOW(cuIpcOpenMemHandle(&b, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
}

CASE(invalid_arguments_of_sharing) {
  CUdeviceptr a = 0, b = 0;
  NEED(cudaFree(nullptr));
  NEED(cuMemAlloc(&a, 2 * kMiB));
  CUipcMemHandle handle{};
  SHOW(cuIpcGetMemHandle(nullptr, a));
  int local = 0;
  SHOW(cuIpcGetMemHandle(&handle, reinterpret_cast<CUdeviceptr>(&local)));
  SHOW(cuIpcOpenMemHandle(&b, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
  SHOW(cuIpcOpenMemHandle(&b, handle, 7));
  SHOW(cuIpcCloseMemHandle(a));
  SHOW(cuIpcCloseMemHandle(0));
}

CASE(events_that_cannot_be_shared) {
  cudaEvent_t plain = nullptr, timed = nullptr;
  NEED(cudaEventCreateWithFlags(&plain, cudaEventDisableTiming));
  cudaIpcEventHandle_t handle;
  SHOW(cudaIpcGetEventHandle(&handle, plain));
  SHOW(cudaEventCreateWithFlags(&timed, cudaEventInterprocess));
  SHOW(cudaIpcGetEventHandle(nullptr, plain));
}
