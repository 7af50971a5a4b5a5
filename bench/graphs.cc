// A captured graph launched again and again, and memory that comes and goes.
#include <vector>

#include "driver.h"

namespace avec::bench {
namespace {

constexpr unsigned kNodes = 100;

}  // namespace

// A graph of 100 small kernels in a row: what one launch of it costs its caller, and what each costs
// when many follow each other and the last is waited for.
void measure_graph(const Options& options) {
  Driver driver(options);
  driver.open();
  driver.load();
  CUstream stream{};
  CUdeviceptr counter{};
  AVEC_CHECK(driver.stream_create(&stream, CU_STREAM_NON_BLOCKING));
  AVEC_CHECK(driver.mem_alloc(&counter, sizeof(unsigned)));
  AVEC_CHECK(driver.memset32(counter, 0, 1));
  AVEC_CHECK(driver.context_synchronize());
  AVEC_CHECK(driver.begin_capture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  void* arguments[] = {&counter};
  for (unsigned i = 0; i < kNodes; ++i)
    AVEC_CHECK(driver.launch(driver.count, 1, 1, 1, 1, 1, 1, 0, stream, arguments, nullptr));
  CUgraph graph{};
  CUgraphExec exec{};
  AVEC_CHECK(driver.end_capture(stream, &graph));
  AVEC_CHECK(driver.graph_instantiate(&exec, graph, 0));
  std::uint64_t launched = 0;
  const auto verified = [&] {
    unsigned seen = 0;
    AVEC_CHECK(driver.stream_synchronize(stream));
    AVEC_CHECK(driver.from_device(&seen, counter, sizeof seen));
    return seen == static_cast<unsigned>(launched * kNodes);
  };
  const auto loop = [&](std::uint64_t launches) {
    for (std::uint64_t i = 0; i < launches; ++i) AVEC_CHECK(driver.graph_launch(exec, stream));
    launched += launches;
  };
  loop(20);
  AVEC_CHECK(driver.stream_synchronize(stream));

  const auto many = options.samples(500);
  std::vector<double> each;
  for (int repeat = 0; repeat < 9; ++repeat) {
    const auto start = now_ns();
    loop(many);
    AVEC_CHECK(driver.stream_synchronize(stream));
    each.push_back(static_cast<double>(now_ns() - start) / 1e3 / static_cast<double>(many));
  }
  auto row = summarise("graph.sustained", "us", each);
  row.batch = kNodes;
  row.verified = verified();
  emit(options, row);

  const auto n = options.samples(1000);
  std::vector<double> alone;
  for (std::uint64_t i = 0; i < n; ++i) {
    const auto start = now_ns();
    loop(1);
    AVEC_CHECK(driver.stream_synchronize(stream));
    alone.push_back(static_cast<double>(now_ns() - start) / 1e3);
  }
  row = summarise("graph.synchronise", "us", alone);
  row.batch = kNodes;
  row.verified = verified();
  emit(options, row);
}

// 1 MiB of device memory allocated; freed; and both in stream order.
void measure_allocation(const Options& options) {
  constexpr std::size_t kBytes = 1u << 20;
  Driver driver(options);
  driver.open();
  driver.load();
  CUstream stream{};
  AVEC_CHECK(driver.stream_create(&stream, CU_STREAM_NON_BLOCKING));
  const auto n = options.samples(300);
  std::vector<double> allocating, freeing, in_order;
  std::vector<CUdeviceptr> blocks(n);
  for (int pass = 0; pass < 2; ++pass) {  // the first is not measured
    for (CUdeviceptr& block : blocks) {
      const auto start = now_ns();
      AVEC_CHECK(driver.mem_alloc(&block, kBytes));
      if (pass == 1) allocating.push_back(static_cast<double>(now_ns() - start) / 1e3);
    }
    for (CUdeviceptr block : blocks) {
      const auto start = now_ns();
      AVEC_CHECK(driver.mem_free(block));
      if (pass == 1) freeing.push_back(static_cast<double>(now_ns() - start) / 1e3);
    }
  }
  for (std::uint64_t i = 0; i < n; ++i) {
    CUdeviceptr block{};
    const auto start = now_ns();
    AVEC_CHECK(driver.mem_alloc_async(&block, kBytes, stream));
    AVEC_CHECK(driver.mem_free_async(block, stream));
    if (i >= n / 10) in_order.push_back(static_cast<double>(now_ns() - start) / 1e3);
  }
  AVEC_CHECK(driver.stream_synchronize(stream));
  // What was allocated must be memory: two blocks at once, written and read.
  CUdeviceptr one{}, other{};
  unsigned seen = 0;
  AVEC_CHECK(driver.mem_alloc(&one, kBytes));
  AVEC_CHECK(driver.mem_alloc(&other, kBytes));
  AVEC_CHECK(driver.memset32(one, 0x01010101, kBytes / 4));
  AVEC_CHECK(driver.memset32(other, 0x02020202, kBytes / 4));
  AVEC_CHECK(driver.from_device(&seen, one + kBytes - sizeof seen, sizeof seen));
  const bool verified = seen == 0x01010101;
  for (auto& [name, samples] : {std::pair{"memory.allocate", &allocating}, std::pair{"memory.free", &freeing},
                                std::pair{"memory.allocate_free_async", &in_order}}) {
    auto row = summarise(name, "us", *samples);
    row.bytes = kBytes;
    row.verified = verified;
    emit(options, row);
  }
}

}  // namespace avec::bench
