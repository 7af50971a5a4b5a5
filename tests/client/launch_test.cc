#include <atomic>
#include <thread>

#include "client/callbacks.h"
#include "client/copy.h"
#include "client/event.h"
#include "client/function.h"
#include "client/library.h"
#include "client/memory.h"
#include "client/module.h"
#include "client/slab.h"
#include "client/stats.h"
#include "client/stream.h"
#include "fake_session.h"
#include "support/catch.h"

using namespace avec::client;
using namespace avec;
using test::Fixture;

namespace {

constexpr char kPtx[] = ".version 8.0\n.target sm_90\n.address_size 64\n";

CUfunction load(const char* name) {
  CUmodule module;
  REQUIRE(module_load(&module, kPtx, {}) == CUDA_SUCCESS);
  CUfunction function;
  REQUIRE(module_get_function(&function, module, name) == CUDA_SUCCESS);
  return function;
}

CUresult launch_empty(CUfunction function, LaunchShape shape) {
  return launch(function, shape, nullptr, nullptr, nullptr, false);
}

}  // namespace

TEST_CASE("an image is sent once, then named by its hash") {
  Fixture f;
  load("empty");
  load("empty");
  CHECK(f.session->count<wire::ModuleImage>() == 1);
  CHECK(f.session->count<wire::ModuleLoad>() == 3);
  CHECK(f.session->frames<wire::ModuleImage>()[0].payload.size() == sizeof kPtx);
}

TEST_CASE("PTX whose length is known needs no final NUL, and nothing behind it is read") {
  Fixture f;
  const std::vector<char> text(kPtx, kPtx + std::char_traits<char>::length(kPtx));
  CUmodule module = nullptr;
  REQUIRE(module_load_bytes(&module, std::as_bytes(std::span(text)), {}) == CUDA_SUCCESS);
  const auto images = f.session->frames<wire::ModuleImage>();
  REQUIRE(images.size() == 1);
  CHECK(images[0].payload.size() == text.size() + 1);
  CHECK(images[0].payload.back() == std::byte{0});
}

TEST_CASE("a launch packs its parameters where the kernel expects them") {
  Fixture f;
  CUfunction fill = load("fill");
  char a = 1;
  double b = 2.5;
  int c = -3;
  void* parameters[] = {&a, &b, &c};
  REQUIRE(launch(fill, {4, 1, 1, 64, 1, 1, 128}, nullptr, parameters, nullptr, false) == CUDA_SUCCESS);
  const auto frame = f.session->frames<wire::LaunchKernel>().at(0);
  const auto body = frame.as<wire::LaunchKernel>();
  CHECK(body.grid_x() == 4);
  CHECK(body.block_x() == 64);
  CHECK(body.shared_bytes() == 128);
  REQUIRE(frame.payload.size() == 20);
  CHECK(frame.payload[0] == std::byte{1});
  CHECK(frame.payload[5] == std::byte{0});
  double packed;
  std::memcpy(&packed, &frame.payload[8], 8);
  CHECK(packed == 2.5);

  std::size_t bytes = 20;
  std::byte buffer[20] = {std::byte{9}};
  void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, buffer, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes,
                   CU_LAUNCH_PARAM_END};
  REQUIRE(launch(fill, {1, 1, 1, 1, 1, 1, 0}, nullptr, nullptr, extra, false) == CUDA_SUCCESS);
  CHECK(f.session->frames<wire::LaunchKernel>().at(1).payload[0] == std::byte{9});
  CHECK(launch(fill, {1, 1, 1, 1, 1, 1, 0}, nullptr, parameters, extra, false) == CUDA_ERROR_INVALID_VALUE);
  bytes = 19;
  CHECK(launch(fill, {1, 1, 1, 1, 1, 1, 0}, nullptr, nullptr, extra, false) == CUDA_ERROR_INVALID_VALUE);
}

TEST_CASE("what CUDA refuses at once is refused at once") {
  Fixture f;
  CUfunction empty = load("empty");
  CHECK(launch_empty(empty, {1, 1, 1, 512, 1, 1, 0}) == CUDA_SUCCESS);
  CHECK(launch_empty(empty, {1, 1, 1, 513, 1, 1, 0}) == CUDA_ERROR_INVALID_VALUE);
  CHECK(launch_empty(empty, {1, 1, 1, 1025, 1, 1, 0}) == CUDA_ERROR_INVALID_VALUE);
  CHECK(launch_empty(empty, {0, 1, 1, 1, 1, 1, 0}) == CUDA_ERROR_INVALID_VALUE);
  CHECK(launch_empty(empty, {1, 65535, 1, 1, 1, 1, 0}) == CUDA_SUCCESS);
  CHECK(launch_empty(empty, {1, 65536, 1, 1, 1, 1, 0}) == CUDA_ERROR_INVALID_VALUE);
  CHECK(launch_empty(empty, {1, 1, 1, 1, 1, 65, 0}) == CUDA_ERROR_INVALID_VALUE);
  CHECK(launch_empty(empty, {1, 1, 1, 1, 1, 1, 48128}) == CUDA_SUCCESS);
  CHECK(launch_empty(empty, {1, 1, 1, 1, 1, 1, 48129}) == CUDA_ERROR_INVALID_VALUE);
  REQUIRE(function_set_attribute(empty, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 100000) ==
          CUDA_SUCCESS);
  CHECK(launch_empty(empty, {1, 1, 1, 1, 1, 1, 100000}) == CUDA_SUCCESS);
  CHECK(function_set_attribute(empty, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 232448) ==
        CUDA_ERROR_INVALID_VALUE);
  CHECK(launch_empty(load("fill"), {1, 1, 1, 1, 1, 1, 0}) == CUDA_ERROR_INVALID_VALUE);
}

TEST_CASE("handles that are none of ours are invalid and harmless") {
  Fixture f;
  CUfunction empty = load("empty");
  for (const std::uintptr_t garbage : {std::uintptr_t{3}, std::uintptr_t{0x1000},
                                       reinterpret_cast<std::uintptr_t>(empty) + 8, ~std::uintptr_t{0}}) {
    CHECK(launch_empty(reinterpret_cast<CUfunction>(garbage), {1, 1, 1, 1, 1, 1, 0}) ==
          CUDA_ERROR_INVALID_HANDLE);
    CHECK(stream_synchronize(reinterpret_cast<CUstream>(garbage)) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(event_query(reinterpret_cast<CUevent>(garbage)) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(module_unload(reinterpret_cast<CUmodule>(garbage)) == CUDA_ERROR_INVALID_HANDLE);
  }
  CUstream stream;
  REQUIRE(stream_create(&stream, CU_STREAM_NON_BLOCKING, 0) == CUDA_SUCCESS);
  CHECK(stream_destroy(stream) == CUDA_SUCCESS);
  CHECK(stream_destroy(stream) == CUDA_ERROR_INVALID_HANDLE);
}

TEST_CASE("a module's functions end with it") {
  Fixture f;
  CUmodule module;
  REQUIRE(module_load(&module, kPtx, {}) == CUDA_SUCCESS);
  CUfunction empty;
  REQUIRE(module_get_function(&empty, module, "empty") == CUDA_SUCCESS);
  CHECK(module_get_function(&empty, module, "absent") == CUDA_ERROR_NOT_FOUND);
  REQUIRE(module_unload(module) == CUDA_SUCCESS);
  CHECK(launch_empty(empty, {1, 1, 1, 1, 1, 1, 0}) == CUDA_ERROR_INVALID_HANDLE);
}

TEST_CASE("the JIT's log arrives in the application's buffer") {
  Fixture f;
  load("empty");
  f.session->load_status = CUDA_ERROR_INVALID_PTX;
  f.session->log = "line 3: no such instruction";
  char buffer[12];
  CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void* values[] = {buffer, reinterpret_cast<void*>(sizeof buffer)};
  CUmodule module;
  CHECK(module_load(&module, kPtx, {2, options, values}) == CUDA_ERROR_INVALID_PTX);
  CHECK(std::string(buffer) == "line 3: no ");
  CHECK(reinterpret_cast<std::uintptr_t>(values[1]) == 11);
}

TEST_CASE("occupancy is asked for once for each set of arguments") {
  Fixture f;
  CUfunction empty = load("empty");
  int blocks = 0;
  CHECK(occupancy_blocks(&blocks, empty, 128, 0, 0) == CUDA_SUCCESS);
  CHECK(blocks == 16);
  CHECK(occupancy_blocks(&blocks, empty, 128, 0, 0) == CUDA_SUCCESS);
  CHECK(f.session->count<wire::OccupancyBlocks>() == 1);
  int grid = 0, block = 0;
  CHECK(occupancy_block_size(&grid, &block, empty, nullptr, 0, 0, 0) == CUDA_SUCCESS);
  CHECK(block == 512);
  CHECK(grid == 4 * 4);
}

TEST_CASE("a cooperative launch larger than the device is refused") {
  Fixture f;
  CUfunction empty = load("empty");
  CHECK(launch(empty, {16, 1, 1, 512, 1, 1, 0}, nullptr, nullptr, nullptr, true) == CUDA_SUCCESS);
  CHECK(launch(empty, {17, 1, 1, 512, 1, 1, 0}, nullptr, nullptr, nullptr, true) ==
        CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
}

TEST_CASE("a kernel of a library is launched by its own handle") {
  Fixture f;
  CUlibrary library;
  REQUIRE(library_load(f.client, &library, kPtx, {}) == CUDA_SUCCESS);
  CHECK(f.session->count<wire::ModuleLoad>() == 2);  // PTX at once, by its hash and then with the image
  CUkernel kernel;
  REQUIRE(library_get_kernel(&kernel, library, "empty") == CUDA_SUCCESS);
  CHECK(launch_empty(reinterpret_cast<CUfunction>(kernel), {1, 1, 1, 1, 1, 1, 0}) == CUDA_SUCCESS);
  CHECK(f.session->count<wire::LaunchKernel>() == 1);
  CHECK(library_unload(library) == CUDA_SUCCESS);
  CHECK(f.session->count<wire::ModuleUnload>() == 1);
}

TEST_CASE("each thread has its own per-thread default stream") {
  Fixture f;
  unsigned long long here = 0, again = 0, there = 0, legacy = 0;
  REQUIRE(stream_get_id(CU_STREAM_PER_THREAD, &here) == CUDA_SUCCESS);
  REQUIRE(stream_get_id(CU_STREAM_PER_THREAD, &again) == CUDA_SUCCESS);
  REQUIRE(stream_get_id(nullptr, &legacy) == CUDA_SUCCESS);
  std::thread([&] {
    context_set_current(f.context);
    stream_get_id(CU_STREAM_PER_THREAD, &there);
  }).join();
  CHECK(here == again);
  CHECK(here != there);
  CHECK(here != legacy);
  CHECK(f.session->count<wire::StreamDestroy>() == 1);
}

TEST_CASE("events that were never recorded are complete and have no time") {
  Fixture f;
  CUevent event;
  REQUIRE(event_create(&event, CU_EVENT_DEFAULT) == CUDA_SUCCESS);
  CHECK(event_query(event) == CUDA_SUCCESS);
  CHECK(event_synchronize(event) == CUDA_SUCCESS);
  CHECK(f.session->round_trips == 0);
  float time;
  CHECK(event_elapsed_time(&time, event, event) == CUDA_ERROR_INVALID_HANDLE);
}

/// What the executor pushes when it comes to the host function that was launched last.
void push_due(Fixture& f, CUresult status) {
  const auto launched = f.session->frames<wire::HostFunction>().back().as<wire::HostFunction>();
  const wire::HostFunctionDue due(launched.function(), status, 0);
  f.client.pushed(wire::Opcode::HostFunctionDue, std::as_bytes(std::span(&due, 1)));
}

TEST_CASE("work behind a host function is posted, and what reads host memory now waits for it") {
  Fixture f;
  CUfunction empty = load("empty");
  CUdeviceptr memory;
  REQUIRE(memory_allocate(&memory, 64) == CUDA_SUCCESS);
  static std::atomic<bool> release, ran;
  release = ran = false;
  REQUIRE(launch_host_function(
              nullptr,
              [](void*) {
                while (!release) std::this_thread::yield();
                ran = true;
              },
              nullptr) == CUDA_SUCCESS);
  CHECK(launch_empty(empty, {1, 1, 1, 1, 1, 1, 0}) == CUDA_SUCCESS);
  CHECK(f.session->count<wire::LaunchKernel>() == 1);
  CHECK_FALSE(ran);
  push_due(f, CUDA_SUCCESS);
  release = true;
  const int value = 1;
  CHECK(copy_to_device(memory, &value, sizeof value, nullptr, Completion::kAsynchronous) == CUDA_SUCCESS);
  CHECK(ran);
  CHECK(f.session->count<wire::HostFunctionDone>() == 1);
}

TEST_CASE("after a fault callbacks are told and host functions are not called") {
  Fixture f;
  static std::atomic<int> called;
  static std::atomic<CUresult> told;
  called = 0;
  told = CUDA_SUCCESS;
  REQUIRE(launch_host_function(nullptr, [](void*) { ++called; }, nullptr) == CUDA_SUCCESS);
  push_due(f, CUDA_ERROR_ILLEGAL_ADDRESS);
  while (f.session->count<wire::HostFunctionDone>() != 1) std::this_thread::yield();
  CHECK(called == 0);
  current_context->error.store(CUDA_SUCCESS);
  REQUIRE(add_callback(nullptr, [](CUstream, CUresult status, void*) { told = status; }, nullptr, 0) == CUDA_SUCCESS);
  push_due(f, CUDA_ERROR_ILLEGAL_ADDRESS);
  while (f.session->count<wire::HostFunctionDone>() != 2) std::this_thread::yield();
  CHECK(told == CUDA_ERROR_ILLEGAL_ADDRESS);
}

TEST_CASE("contexts are stacked per thread") {
  Fixture f;
  CUcontext own, current;
  REQUIRE(context_create(f.client, &own, 0, 0) == CUDA_SUCCESS);
  REQUIRE(context_get_current(&current) == CUDA_SUCCESS);
  CHECK(current == own);
  CUcontext popped;
  REQUIRE(context_pop(&popped) == CUDA_SUCCESS);
  CHECK(popped == own);
  context_get_current(&current);
  CHECK(current == f.context);
  REQUIRE(context_push(own) == CUDA_SUCCESS);
  REQUIRE(context_destroy(own) == CUDA_SUCCESS);
  context_get_current(&current);
  CHECK(current == f.context);
  CHECK(context_destroy(own) == CUDA_ERROR_INVALID_CONTEXT);
  CHECK(context_push(own) == CUDA_ERROR_INVALID_CONTEXT);
  std::thread([] {
    CUstream stream;
    CHECK(stream_create(&stream, 0, 0) != CUDA_SUCCESS);
  }).join();
}

TEST_CASE("calls are counted when counting is on") {
  start_stats("somewhere");
  {
    CallScope scope("cuExample");
  }
  {
    CallScope scope("cuExample");
  }
  CHECK(stats_text().find("cuExample") != std::string::npos);
  CHECK(stats_text().find("payload copied") != std::string::npos);
  CHECK(stats_json().find("\"calls\": 2") != std::string::npos);
  for (const char* counter : {"\"one_sided_bytes\"", "\"payload_copied\"", "\"source_waits\""})
    CHECK(stats_json().find(counter) != std::string::npos);
  counting.store(Counting::kOff);
}
