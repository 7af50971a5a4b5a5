// How long a single posted call needs to reach the executor when nothing follows it. A relay
// between client and executor notes when bytes of the client come by; both read the same clock.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <thread>

#include "avec/transport.h"
#include "driver.h"

namespace avec::bench {
namespace {

// Shared with the relay's process.
struct Arrivals {
  static constexpr std::size_t kMost = 1u << 16;
  std::atomic<std::size_t> count{0};
  std::array<std::uint64_t, kMost> at{};  // written before count says so

  void note(std::uint64_t when) {
    const auto index = count.load(std::memory_order_relaxed);
    if (index >= kMost) return;
    at[index] = when;
    count.store(index + 1, std::memory_order_release);
  }
};

struct Relayed {
  std::unique_ptr<Connection> client, executor;
};

// Sends everything; false when the connection is over.
bool pass_on(Connection& to, ConstBytes bytes) {
  while (!bytes.empty()) {
    const auto sent = to.send({&bytes, 1});
    if (sent.error) return false;
    bytes = bytes.subspan(sent.bytes);
  }
  return true;
}

// Never sleeps while connections live: an arrival is noted when it happens.
[[noreturn]] void relay(Listener& listener, const std::string& executor, Arrivals& arrivals) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::vector<Relayed> all;
  std::vector<std::byte> buffer(64 << 10);
  const MutableBytes into(buffer);
  Transport* transport = find_transport(executor);
  const auto soon = [] { return std::chrono::steady_clock::now() + std::chrono::seconds(5); };
  for (std::uint64_t turn = 0;; ++turn) {
    // New connections are rare; looking for them costs a system call.
    if (all.empty() || turn % 64 == 0) {
      const auto wait = all.empty() ? soon() : std::chrono::steady_clock::now();
      auto accepted = listener.accept(wait);
      if (accepted.connection) {
        auto onward = transport->connect(executor, soon());
        if (!onward.connection) fail("the relay does not reach the executor: " + onward.detail);
        all.push_back({std::move(accepted.connection), std::move(onward.connection)});
      }
    }
    for (std::size_t i = 0; i < all.size();) {
      auto& pair = all[i];
      const auto up = pair.client->receive({&into, 1});
      if (up.bytes) arrivals.note(now_ns());
      bool alive = !up.error && pass_on(*pair.executor, into.first(up.bytes));
      const auto down = pair.executor->receive({&into, 1});
      alive = alive && !down.error && pass_on(*pair.client, into.first(down.bytes));
      if (alive) {
        ++i;
      } else {
        all.erase(all.begin() + static_cast<long>(i));
      }
    }
  }
}

}  // namespace

void measure_departure(const Options& options) {
  Transport* transport = find_transport("tcp://");
  auto listening = transport->listen("tcp://127.0.0.1:0");
  if (!listening.listener) fail(listening.detail);
  void* memory = ::mmap(nullptr, sizeof(Arrivals), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail("mmap");
  auto& arrivals = *new (memory) Arrivals;
  const pid_t child = ::fork();
  if (child < 0) fail("fork");
  if (child == 0) relay(*listening.listener, options.executor, arrivals);

  Options relayed = options;
  relayed.executor = listening.listener->address();
  listening.listener.reset();
  Driver driver(relayed);
  driver.open();
  driver.load();
  CUdeviceptr counter{};
  AVEC_CHECK(driver.mem_alloc(&counter, sizeof(unsigned)));
  AVEC_CHECK(driver.memset32(counter, 0, 1));
  AVEC_CHECK(driver.context_synchronize());
  const auto n = options.samples(500);
  std::vector<double> times;
  unsigned lost = 0;
  void* arguments[] = {&counter};
  for (std::uint64_t i = 0; i < n; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));  // everything before is over
    const auto before = arrivals.count.load(std::memory_order_acquire);
    const auto start = now_ns();
    AVEC_CHECK(driver.launch(driver.count, 1, 1, 1, 1, 1, 1, 0, nullptr, arguments, nullptr));
    // No call of CUDA here: it would take the launch with it.
    const auto give_up = start + 1'000'000'000;
    while (arrivals.count.load(std::memory_order_acquire) == before && now_ns() < give_up) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    if (arrivals.count.load(std::memory_order_acquire) == before) {
      ++lost;
      continue;
    }
    times.push_back(static_cast<double>(arrivals.at[before] - start) / 1e3);
  }
  unsigned seen = 0;
  AVEC_CHECK(driver.from_device(&seen, counter, sizeof seen));
  if (times.empty()) fail("no posted call departed by itself");
  auto row = summarise("launch.departure", "us", std::move(times));
  row.verified = lost == 0 && seen == n;
  emit(options, row);
  // The relay goes with this process: the session ends in order through it.
}

}  // namespace avec::bench
