// The client against the real worker and the CPU device, in one process: payload beside the
// stream, as different transports have it.
#include <atomic>
#include <cstring>
#include <thread>

#include "client/client.h"
#include "client/context.h"
#include "client/copy.h"
#include "client/memory.h"
#include "client/stream.h"
#include "executor/in_process.h"
#include "session/session.h"
#include "support/catch.h"
#include "transport/sim/factory.h"

using namespace avec;
using namespace avec::client;
using enum Completion;

namespace {

using Bytes = std::vector<std::byte>;

constexpr std::size_t kMiB = 1u << 20;

sim::OneSidedOptions mapped() {
  return {.kind = sim::OneSidedKind::kMapped, .ordered = true, .slots_up_to = SIZE_MAX};
}
sim::OneSidedOptions asynchronous(bool ordered) {
  return {.kind = sim::OneSidedKind::kAsynchronous,
          .ordered = ordered,
          .slots_up_to = 4 * kMiB,
          .add_from = 6 * kMiB,
          .max_under_way = 3};
}

Bytes pattern(std::size_t bytes, unsigned seed) {
  Bytes made(bytes);
  for (std::size_t i = 0; i < bytes; ++i) made[i] = static_cast<std::byte>(i * 13 + (i >> 11) + seed);
  return made;
}

/// A client of a worker of its own, with its device's primary context current on this thread.
struct Connected {
  explicit Connected(const sim::OneSidedOptions& one_sided, unsigned copy_threads = 1,
                     const sim::Faults& faults = {})
      : network({.one_sided = one_sided}) {
    static std::atomic<int> next{0};
    const std::string scheme = "client-executor-" + std::to_string(++next);
    REQUIRE(register_transport(sim::make_transport(network, scheme)));
    InProcessExecutor::Options options;
    options.listen = scheme + "://executor";
    options.session.driver_path = AVEC_CPU_DEVICE;
    options.session.device_kind = "cpu";
    std::string problem;
    executor = InProcessExecutor::start(std::move(options), problem);
    INFO(problem);
    REQUIRE(executor != nullptr);
    network.set_faults(faults);
    ConnectOptions wanted;
    wanted.executor = scheme + "://executor";
    // Both ends are this process: what one reserves the other finds taken.
    wanted.bind_address_ranges = false;
    wanted.copy_threads = copy_threads;
    auto opened = Client::open(wanted);
    if (!opened) FAIL(opened.error().message);
    client = std::move(*opened);
    CUcontext context;
    REQUIRE(primary_retain(*client, &context, 0) == CUDA_SUCCESS);
    REQUIRE(context_set_current(context) == CUDA_SUCCESS);
  }
  ~Connected() {
    context_set_current(nullptr);
    client.reset();
    executor->stop();
  }
  session::Counters counters() const { return client->session().counters(); }

  sim::SimNetwork network;
  std::unique_ptr<InProcessExecutor> executor;
  std::unique_ptr<Client> client;
};

CUdeviceptr device_memory(std::size_t bytes) {
  CUdeviceptr address = 0;
  REQUIRE(memory_allocate(&address, bytes) == CUDA_SUCCESS);
  return address;
}

std::byte* pinned_memory(std::size_t bytes) {
  void* pointer = nullptr;
  REQUIRE(host_allocate(&pointer, bytes, 0) == CUDA_SUCCESS);
  return static_cast<std::byte*>(pointer);
}

/// "" when all bytes went there and came back.
std::string there_and_back(std::byte* host, CUdeviceptr device, std::size_t bytes, unsigned seed) {
  const Bytes wanted = pattern(bytes, seed);
  std::memcpy(host, wanted.data(), bytes);
  if (copy_to_device(device, host, bytes, nullptr, kSynchronous) != CUDA_SUCCESS) return "to the device";
  std::memset(host, 0, bytes);
  if (copy_from_device(host, device, bytes, nullptr, kSynchronous) != CUDA_SUCCESS) return "from the device";
  return std::equal(wanted.begin(), wanted.end(), host) ? "" : "other bytes";
}

}  // namespace

TEST_CASE("Pinned memory of every size goes to the device and back, uncopied") {
  Connected c(GENERATE(mapped(), asynchronous(true), asynchronous(false)));
  const auto device = device_memory(20 * kMiB);
  std::byte* host = pinned_memory(20 * kMiB);
  for (const std::size_t bytes : {limits::kInlinePayloadBytes + 1, kMiB + 3, 9 * kMiB, 20 * kMiB}) {
    INFO(bytes);
    const auto before = c.counters();
    CHECK(there_and_back(host, device, bytes, 3) == "");
    CHECK(c.counters().payload_copied == before.payload_copied);
    CHECK(c.counters().one_sided_bytes == before.one_sided_bytes + 2 * bytes);
  }
  CHECK(host_free(host) == CUDA_SUCCESS);
}

TEST_CASE("Pageable memory of every size goes to the device and back") {
  const unsigned threads = GENERATE(1u, 3u);
  Connected c(GENERATE(mapped(), asynchronous(true), asynchronous(false)), threads);
  const auto device = device_memory(40 * kMiB);
  Bytes host(40 * kMiB);
  for (const std::size_t bytes : {limits::kInlinePayloadBytes, limits::kInlinePayloadBytes + 1, kMiB,
                                  4 * kMiB, 4 * kMiB + 1, 7 * kMiB, 40 * kMiB}) {
    INFO(bytes << " bytes, " << threads << " threads");
    CHECK(there_and_back(host.data(), device, bytes, 5) == "");
  }
  CHECK(c.counters().one_sided_bytes != 0);
}

TEST_CASE("Registered memory and its parts go to the device and back") {
  Connected c(GENERATE(mapped(), asynchronous(true), asynchronous(false)));
  const auto device = device_memory(4 * kMiB);
  Bytes host(4 * kMiB);
  REQUIRE(host_register(host.data(), host.size(), 0) == CUDA_SUCCESS);
  CHECK(there_and_back(host.data(), device, host.size(), 7) == "");
  CHECK(there_and_back(host.data() + 777, device + 512, 2 * kMiB + 5, 8) == "");
  CHECK(host_unregister(host.data()) == CUDA_SUCCESS);
  CHECK(there_and_back(host.data(), device, host.size(), 9) == "");
}

TEST_CASE("Asynchronous copies keep the order of their stream, and memory is freed behind them") {
  Connected c(GENERATE(mapped(), asynchronous(true), asynchronous(false)));
  constexpr std::size_t kBytes = 2 * kMiB;
  CUstream stream;
  REQUIRE(stream_create(&stream, CU_STREAM_NON_BLOCKING, 0) == CUDA_SUCCESS);
  for (unsigned round = 0; round < 10; ++round) {
    const auto device = device_memory(kBytes);
    std::byte *in = pinned_memory(kBytes), *out = pinned_memory(kBytes);
    const Bytes wanted = pattern(kBytes, round);
    std::memcpy(in, wanted.data(), kBytes);
    REQUIRE(copy_to_device(device, in, kBytes, stream, kAsynchronous) == CUDA_SUCCESS);
    REQUIRE(copy_from_device(out, device, kBytes, stream, kAsynchronous) == CUDA_SUCCESS);
    REQUIRE(host_free(in) == CUDA_SUCCESS);
    REQUIRE(stream_synchronize(stream) == CUDA_SUCCESS);
    CHECK(std::equal(wanted.begin(), wanted.end(), out));
    REQUIRE(host_free(out) == CUDA_SUCCESS);
    REQUIRE(memory_free(device) == CUDA_SUCCESS);
  }
}

TEST_CASE("Rows with pitches on both sides go to the device and back") {
  Connected c(GENERATE(mapped(), asynchronous(true), asynchronous(false)), 2);
  constexpr std::size_t kWidth = 5000, kHeight = 900, kHostPitch = 5100, kDevicePitch = 5632;
  const auto device = device_memory(kDevicePitch * kHeight);
  const Bytes in = pattern(kHostPitch * kHeight, 1);
  Bytes out(in.size());
  CUDA_MEMCPY2D what{};
  what.srcMemoryType = CU_MEMORYTYPE_HOST;
  what.srcHost = in.data();
  what.srcPitch = kHostPitch;
  what.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  what.dstDevice = device;
  what.dstPitch = kDevicePitch;
  what.WidthInBytes = kWidth;
  what.Height = kHeight;
  REQUIRE(copy_2d(what, nullptr, kSynchronous) == CUDA_SUCCESS);
  CUDA_MEMCPY2D back{};
  back.srcMemoryType = CU_MEMORYTYPE_DEVICE;
  back.srcDevice = device;
  back.srcPitch = kDevicePitch;
  back.dstMemoryType = CU_MEMORYTYPE_HOST;
  back.dstHost = out.data();
  back.dstPitch = kHostPitch;
  back.WidthInBytes = kWidth;
  back.Height = kHeight;
  REQUIRE(copy_2d(back, nullptr, kSynchronous) == CUDA_SUCCESS);
  std::size_t wrong = 0;
  for (std::size_t row = 0; row < kHeight; ++row)
    wrong += std::memcmp(in.data() + row * kHostPitch, out.data() + row * kHostPitch, kWidth) != 0;
  CHECK(wrong == 0);
}

TEST_CASE("Threads copy all kinds of memory at once") {
  Connected c(GENERATE(mapped(), asynchronous(true), asynchronous(false)), 3);
  constexpr std::size_t kBytes = 3 * kMiB;
  std::vector<CUdeviceptr> devices;
  std::vector<std::byte*> pinned;
  for (int i = 0; i < 4; ++i) {
    devices.push_back(device_memory(kBytes));
    pinned.push_back(pinned_memory(kBytes));
  }
  CUcontext context;
  REQUIRE(context_get_current(&context) == CUDA_SUCCESS);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < devices.size(); ++t) {
    threads.emplace_back([&, t] {
      context_set_current(context);
      Bytes pageable(kBytes);
      for (unsigned i = 0; i < 5; ++i) {
        std::byte* host = (t + i) % 2 == 0 ? pinned[t] : pageable.data();
        wrong += !there_and_back(host, devices[t], kBytes - i * 1000, t * 10 + i).empty();
      }
      context_set_current(nullptr);
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("A link that breaks in the middle of an access ends the session, and the calls say so") {
  const auto at = GENERATE(range(0, 12));
  Connected c(asynchronous(true), 2, {.reset_in_access = at});
  const auto device = device_memory(3 * kMiB);
  std::byte* pinned = pinned_memory(3 * kMiB);
  Bytes pageable(3 * kMiB);
  std::string went;
  for (int i = 0; i < 4 && went.empty(); ++i) {
    went = there_and_back(pinned, device, 3 * kMiB, 1);
    if (went.empty()) went = there_and_back(pageable.data(), device, 3 * kMiB, 2);
  }
  CHECK((went == "to the device" || went == "from the device"));
  CHECK(copy_to_device(device, pageable.data(), 64, nullptr, kSynchronous) == CUDA_ERROR_DEVICE_UNAVAILABLE);
}

TEST_CASE("A client that ends with copies under way ends in order") {
  for (int i = 0; i < 5; ++i) {
    Connected c(i % 2 == 0 ? mapped() : asynchronous(true));
    const auto device = device_memory(16 * kMiB);
    std::byte* pinned = pinned_memory(16 * kMiB);
    Bytes pageable(16 * kMiB);
    for (int k = 0; k < 4; ++k) {
      CHECK(copy_to_device(device, pinned, 16 * kMiB, nullptr, kAsynchronous) == CUDA_SUCCESS);
      CHECK(copy_from_device(pinned, device, 16 * kMiB, nullptr, kAsynchronous) == CUDA_SUCCESS);
      CHECK(copy_to_device(device, pageable.data(), 16 * kMiB, nullptr, kAsynchronous) == CUDA_SUCCESS);
    }
  }
}
