// Launches, rounds, opening a session, an idle session.
#include <unistd.h>

#include <cstring>
#include <thread>

#include "driver.h"

namespace avec::bench {
namespace {

// Launches of the counting kernel, and whether the counter has seen every one.
class Counting {
 public:
  explicit Counting(const Options& options) : driver_(options) {
    driver_.open();
    driver_.load();
    AVEC_CHECK(driver_.stream_create(&stream_, CU_STREAM_NON_BLOCKING));
    AVEC_CHECK(driver_.mem_alloc(&counter_, sizeof(unsigned)));
    AVEC_CHECK(driver_.memset32(counter_, 0, 1));
    AVEC_CHECK(driver_.context_synchronize());
  }
  void launch() {
    void* arguments[] = {&counter_};
    AVEC_CHECK(driver_.launch(driver_.count, 1, 1, 1, 1, 1, 1, 0, stream_, arguments, nullptr));
    ++launched_;
  }
  void synchronize() { AVEC_CHECK(driver_.stream_synchronize(stream_)); }
  bool verified() {
    synchronize();
    unsigned seen = 0;
    AVEC_CHECK(driver_.from_device(&seen, counter_, sizeof seen));
    return seen == launched_;
  }

 private:
  Driver driver_;
  CUstream stream_{};
  CUdeviceptr counter_{};
  unsigned launched_ = 0;
};

}  // namespace

// What a launch costs its caller while others have been posted before it. Bursts, because no
// program posts for ever; the wait between them is not timed.
void measure_launch(const Options& options) {
  constexpr std::uint64_t kBurst = 200;
  Counting counting(options);
  for (int i = 0; i < 200; ++i) counting.launch();
  counting.synchronize();
  const auto n = options.samples(40'000);
  std::vector<double> times, cpu;
  std::vector<std::uint64_t> stamps(kBurst + 1);
  while (times.size() < n) {
    const auto burst = std::min<std::uint64_t>(kBurst, n - times.size());
    const auto cpu_before = process_cpu_ns();
    stamps[0] = now_ns();
    for (std::uint64_t i = 0; i < burst; ++i) {
      counting.launch();
      stamps[i + 1] = now_ns();
    }
    // Whoever sends is done by now, and nobody has begun to wait.
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    cpu.push_back(static_cast<double>(process_cpu_ns() - cpu_before) / static_cast<double>(burst));
    for (std::uint64_t i = 0; i < burst; ++i) times.push_back(static_cast<double>(stamps[i + 1] - stamps[i]));
    counting.synchronize();
  }
  const bool verified = counting.verified();
  auto row = summarise("launch.posted", "ns", std::move(times));
  row.verified = verified;
  emit(options, row);
  row = summarise("launch.sender_cpu", "ns", std::move(cpu));
  row.verified = verified;
  emit(options, row);

  // Sustained: as many as possible, the wait included; several times, so that the noise is known.
  const auto many = options.samples(20'000);
  std::vector<double> each;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto start = now_ns();
    for (std::uint64_t i = 0; i < many; ++i) counting.launch();
    counting.synchronize();
    each.push_back(static_cast<double>(now_ns() - start) / static_cast<double>(many));
  }
  row = summarise("launch.sustained", "ns", each);
  row.verified = counting.verified();
  emit(options, row);
}

// Posted calls per second: so many, then one that waits for them.
void measure_call_rate(const Options& options) {
  Counting counting(options);
  auto batches = options.batches;
  if (batches.empty()) batches = {1, 10, 100, 1000, 10'000};
  for (const auto batch : batches) {
    auto row = named_row("rate.calls", "", "", "ns");
    row.batch = batch;
    const auto sample = [&](std::uint64_t count, std::vector<double>& samples) {
      for (std::uint64_t i = 0; i < count; ++i) {
        const auto start = now_ns();
        for (std::uint64_t k = 0; k < batch; ++k) counting.launch();
        counting.synchronize();
        samples.push_back(static_cast<double>(now_ns() - start) / static_cast<double>(batch));
      }
    };
    race(options, {{row, sample}}, [&] { return counting.verified(); });
  }
}

void measure_launch_synchronise(const Options& options) {
  Counting counting(options);
  const auto n = options.samples(5'000), warm = n / 10 + 1;
  std::vector<double> times;
  for (std::uint64_t i = 0; i < n + warm; ++i) {
    const auto start = now_ns();
    counting.launch();
    counting.synchronize();
    if (i >= warm) times.push_back(static_cast<double>(now_ns() - start) / 1e3);
  }
  auto row = summarise("launch.synchronise", "us", std::move(times));
  row.verified = counting.verified();
  emit(options, row);
}

// Copy in, 100 launches, copy out: what an inference step looks like on the wire.
void measure_round(const Options& options) {
  constexpr unsigned kWords = 1024, kLaunches = 100;
  Driver driver(options);
  driver.open();
  driver.load();
  CUdeviceptr data{};
  AVEC_CHECK(driver.mem_alloc(&data, kWords * sizeof(unsigned)));
  std::vector<unsigned> in(kWords), out(kWords);
  const auto n = options.samples(500), warm = std::uint64_t{5};
  std::vector<double> times;
  bool verified = true;
  unsigned words = kWords;
  for (std::uint64_t i = 0; i < n + warm; ++i) {
    for (unsigned k = 0; k < kWords; ++k) in[k] = static_cast<unsigned>(i) * 7919u + k;
    const auto start = now_ns();
    AVEC_CHECK(driver.to_device(data, in.data(), kWords * sizeof(unsigned)));
    void* arguments[] = {&data, &words};
    for (unsigned k = 0; k < kLaunches; ++k) {
      AVEC_CHECK(
          driver.launch(driver.increment, kWords / 256, 1, 1, 256, 1, 1, 0, nullptr, arguments, nullptr));
    }
    AVEC_CHECK(driver.from_device(out.data(), data, kWords * sizeof(unsigned)));
    if (i >= warm) times.push_back(static_cast<double>(now_ns() - start) / 1e3);
    for (unsigned k = 0; k < kWords; ++k) verified = verified && out[k] == in[k] + kLaunches;
  }
  auto row = summarise("round.100_launches", "us", std::move(times));
  row.verified = verified;
  emit(options, row);
}

// One sample: this process has done nothing yet. The main process starts many.
void measure_open(const Options& options) {
  const auto start = now_ns();
  Driver driver(options);
  driver.open();
  std::size_t free_bytes = 0, total_bytes = 0;
  AVEC_CHECK(driver.mem_get_info(&free_bytes, &total_bytes));
  const auto opened = now_ns();
  driver.load();
  CUdeviceptr counter{};
  AVEC_CHECK(driver.mem_alloc(&counter, sizeof(unsigned)));
  AVEC_CHECK(driver.memset32(counter, 41, 1));
  void* arguments[] = {&counter};
  AVEC_CHECK(driver.launch(driver.count, 1, 1, 1, 1, 1, 1, 0, nullptr, arguments, nullptr));
  unsigned seen = 0;
  AVEC_CHECK(driver.from_device(&seen, counter, sizeof seen));
  const auto first = now_ns();
  auto row = summarise("open.session", "us", {static_cast<double>(opened - start) / 1e3});
  row.verified = total_bytes > 0;
  emit(options, row);
  row = summarise("open.first_kernel", "us", {static_cast<double>(first - opened) / 1e3});
  row.verified = seen == 42;
  emit(options, row);
}

void measure_idle(const Options& options) {
  const auto span = std::chrono::milliseconds(options.count != 0 && options.count < 100 ? 200 : 2000);
  Counting counting(options);
  counting.launch();
  counting.synchronize();
  // What the last call left behind (spinning, acknowledging) is not idleness.
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const auto start = now_ns();
  const auto client = process_cpu_ns();
  const auto executor = options.executor_pid ? tree_cpu_ns(options.executor_pid) : 0;
  std::this_thread::sleep_for(span);
  const auto client_spent = process_cpu_ns() - client;
  const auto executor_spent = options.executor_pid ? tree_cpu_ns(options.executor_pid) - executor : 0;
  const auto elapsed = static_cast<double>(now_ns() - start);
  const bool verified = counting.verified();
  auto row = summarise("idle.client", "%", {100.0 * static_cast<double>(client_spent) / elapsed});
  row.verified = verified;
  emit(options, row);
  if (options.executor_pid) {
    row = summarise("idle.executor", "%", {100.0 * static_cast<double>(executor_spent) / elapsed});
    row.verified = verified;
    emit(options, row);
  }
}

}  // namespace avec::bench
