// Copies between the client's memory and the device's that the adapter makes by itself. A simulated
// connection is the adapter: it maps what the recording driver gives for a dma-buf.
#include <spdlog/sinks/ringbuffer_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "executor/one_sided_session.h"

namespace avec::test {
namespace {

constexpr const char* kDmaBuf = "cuMemGetHandleForAddressRange";
constexpr const char* kFlush = "cuFlushGPUDirectRDMAWrites";

Setup direct(bool ordered = true) {
  Setup setup;
  setup.one_sided.ordered = ordered;
  setup.one_sided.device_memory = true;
  setup.gpudirect = true;
  return setup;
}

/// A device that can all of it; its writes must be flushed.
struct Capable {
  Capable() {
    set_attribute(CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED, 1);
    set_attribute(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED, 1);
    set_attribute(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS, CU_FLUSH_GPU_DIRECT_RDMA_WRITES_OPTION_HOST);
    set_attribute(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING, CU_GPU_DIRECT_RDMA_WRITES_ORDERING_NONE);
  }
  ~Capable() { clear_attributes(); }
};

struct Direct : Capable, Fixture {
  explicit Direct(const Setup& setup = direct()) : Fixture(setup) {}
};

/// What is logged while it lives.
class Log {
 public:
  Log() : sink_(std::make_shared<spdlog::sinks::ringbuffer_sink_mt>(1000)) {
    spdlog::default_logger()->sinks().push_back(sink_);
  }
  ~Log() { std::erase(spdlog::default_logger()->sinks(), sink_); }
  std::vector<std::string> lines_with(const std::string& text) const {
    auto lines = sink_->last_formatted();
    std::erase_if(lines, [&](const std::string& line) { return line.find(text) == std::string::npos; });
    return lines;
  }

 private:
  std::shared_ptr<spdlog::sinks::ringbuffer_sink_mt> sink_;
};

}  // namespace

TEST_CASE("A large copy to the device is read straight into its memory: no chunk, no copy of the driver's") {
  Direct session;
  const auto memory = session.allocate(40 * kMiB);
  const auto bytes = noise(memory.size());
  fill(memory, bytes);
  const RemoteKey key = session.allow(memory, RemoteAccess::kRead);
  CHECK(recorded("cuMemCreate for GPUDirect RDMA") == 1);
  CHECK(session.up(key, 100, 39 * kMiB, kBase + 5000) == 0);
  CHECK(same(device_memory(kBase + 5000, 39 * kMiB), ConstBytes(bytes).subspan(100, 39 * kMiB)));
  CHECK(recorded(kFlush) == 1);
  CHECK(session.up(key, 0, 64u << 10, kBase + 50 * kMiB) == 0);
  CHECK(same(device_memory(kBase + 50 * kMiB, 64u << 10), ConstBytes(bytes).first(64u << 10)));
  CHECK(recorded(kFlush) == 2);
  CHECK(recorded(kDmaBuf) == 1);  // the mapping is registered once
  CHECK(recorded_copies().empty());
  CHECK(recorded("cuMemHostAlloc") == 0);
  CHECK(session.copied_in_all() == 0);
}

TEST_CASE("A large copy from the device is written straight out of its memory: no chunk, no copy of the driver's") {
  for (const bool ordered : {true, false}) {
    Direct session(direct(ordered));
    const auto memory = session.allocate(40 * kMiB);
    const auto bytes = noise(memory.size());
    write_device_memory(kBase, bytes);
    const RemoteKey key = session.allow(memory, RemoteAccess::kWrite);
    CHECK(session.down(key, 100, 39 * kMiB, kBase + 5000) == 0);
    CHECK(same(memory.subspan(100, 39 * kMiB), ConstBytes(bytes).subspan(5000, 39 * kMiB)));
    CHECK(recorded(kFlush) == 0);
    CHECK(recorded_copies().empty());
    CHECK(recorded("cuMemHostAlloc") == 0);
    CHECK(session.copied_in_all() == 0);
  }
}

TEST_CASE("An adapter's writes are flushed only where the device does not order them itself") {
  for (const auto& [ordering, flushes] : {std::pair(CU_GPU_DIRECT_RDMA_WRITES_ORDERING_NONE, 1u),
                                          std::pair(CU_GPU_DIRECT_RDMA_WRITES_ORDERING_OWNER, 0u),
                                          std::pair(CU_GPU_DIRECT_RDMA_WRITES_ORDERING_ALL_DEVICES, 0u)}) {
    Direct session;
    set_attribute(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING, ordering);
    const auto memory = session.allocate(kMiB);
    CHECK(session.up(session.allow(memory, RemoteAccess::kRead), 0, kMiB) == 0);
    CHECK(recorded(kFlush) == flushes);
    CHECK(recorded_copies().empty());
  }
}

TEST_CASE("A direct copy begins when the work before it on its stream is done; what follows waits for its end") {
  for (const bool up : {true, false}) {
    Setup slow = direct();
    slow.shape.round_trip = 30ms;
    Direct session(slow);
    const auto memory = session.allocate(8 * kMiB);
    const auto bytes = noise(memory.size()), old = noise(memory.size(), 2);
    fill(memory, up ? bytes : old);
    write_device_memory(kBase, up ? old : bytes);
    const RemoteKey key = session.allow(memory, up ? RemoteAccess::kRead : RemoteAccess::kWrite);
    const auto at_destination = [&] {
      return up ? device_memory(kBase, bytes.size()) : std::vector<std::byte>(memory.begin(), memory.end());
    };
    close_gate(true);
    session.client.send(session.ready.launch(), session.ready.parameters);
    const auto call = up ? session.send_up(key, 0, memory.size()) : session.send_down(key, 0, memory.size());
    session.client.send(session.ready.launch(), session.ready.parameters);
    session.client.send(wire::EventRecord(kEvent, kStream, 0, 0));
    session.client.send(wire::StreamWaitEvent(kPerThread, kEvent, 0, 0));
    session.client.send(wire::MemSet(kBase + 32 * kMiB, 4, 1, 1, kOther, 0, 4));
    CHECK(session.ready.ping() == 0);
    std::this_thread::sleep_for(100ms);
    CHECK(session.ready.ping() == 0);
    CHECK(same(at_destination(), old));
    CHECK(recorded("cuMemsetD32Async") == 1);
    CHECK(recorded("cuLaunchKernel") == 1);
    CHECK_FALSE(session.answered(call));
    close_gate(false);
    for (const auto until = soon(); recorded("cuLaunchKernel") < 2 && std::chrono::steady_clock::now() < until;)
      std::this_thread::sleep_for(100us);
    CHECK(same(at_destination(), bytes));
    CHECK(session.status_of(call) == 0);
    CHECK(session.client.status_of(wire::StreamSynchronize(kPerThread)) == 0);
    CHECK(recorded("cuLaunchKernel") == 2);
    CHECK(launches_before(kFlush) == (up ? 1 : 0));
    CHECK(launches_before("cuEventRecord") == 2);
    CHECK(launches_before("cuStreamWaitEvent") == 2);
  }
}

TEST_CASE("Copies to the same destination, direct or not, end in their order") {
  for (const bool ordered : {true, false}) {
    Setup slow = direct(ordered);
    slow.shape.round_trip = 10ms;
    Direct session(slow);
    const auto memory = session.allocate(9 * kMiB);
    const auto bytes = noise(27 * kMiB);
    write_device_memory(kBase, bytes);
    const RemoteKey key = session.allow(memory, RemoteAccess::kWrite);
    const auto rows = session.client.send(wire::CopyFromDeviceTo(kBase, 2 * kMiB, kMiB, 9, kStream, words(key), 0));
    const auto second = session.send_down(key, 0, 8 * kMiB, kBase + 9 * kMiB);
    const auto small = session.send_down(key, 0, 1000, kBase + 20 * kMiB);
    const auto third = session.send_down(key, 500, kMiB, kBase + 21 * kMiB);
    CHECK(session.client.status_of(wire::StreamSynchronize(kStream)) == 0);
    for (const auto call : {rows, second, small, third}) CHECK(session.answered(call));
    CHECK(same(memory.first(500), ConstBytes(bytes).subspan(20 * kMiB, 500)));
    CHECK(same(memory.subspan(500, kMiB), ConstBytes(bytes).subspan(21 * kMiB, kMiB)));
    CHECK(same(memory.subspan(kMiB + 500, 7 * kMiB - 500), ConstBytes(bytes).subspan(10 * kMiB + 500, 7 * kMiB - 500)));
    CHECK(same(memory.last(kMiB), ConstBytes(bytes).subspan(16 * kMiB, kMiB)));
    CHECK(recorded(kDmaBuf) == 1);
  }
}

TEST_CASE("A direct copy from the device waits for copies before it that wait for others to be sent") {
  Direct session;
  const auto memory = session.allocate(9 * kMiB);
  const auto bytes = noise(48 * kMiB);
  write_device_memory(kBase, bytes);
  const RemoteKey key = session.allow(memory, RemoteAccess::kWrite);
  // More than the stream takes before this end receives: it holds up what comes after.
  session.client.send(wire::CopyFromDevice(kBase, 32 * kMiB, 32 * kMiB, 1, kOther));
  std::this_thread::sleep_for(50ms);
  session.client.send(wire::CopyFromDeviceTo(kBase, 2 * kMiB, kMiB, 9, kStream, words(key), 0));
  const auto last = session.send_down(key, 0, 9 * kMiB, kBase + 32 * kMiB);
  std::this_thread::sleep_for(50ms);
  CHECK(session.status_of(last) == 0);
  CHECK(session.client.status_of(wire::StreamSynchronize(kStream)) == 0);
  CHECK(same(memory, ConstBytes(bytes).subspan(32 * kMiB, 9 * kMiB)));
  CHECK(recorded(kDmaBuf) == 1);
}

TEST_CASE("Small copies, rows that are apart, and everything without the setting, go through the arena") {
  for (const bool on : {true, false}) {
    Setup setup = direct();
    setup.gpudirect = on;
    Direct session(setup);
    const auto memory = session.allocate(8 * kMiB);
    fill(memory, noise(memory.size()));
    const RemoteKey key = session.allow(memory, RemoteAccess::kRead);
    CHECK(session.up(key, 0, (64u << 10) - 1) == 0);
    CHECK(session.client.status_of(wire::CopyToDeviceFrom(kBase, 7000, 4500, 1500, kStream, words(key), 3)) == 0);
    if (!on) CHECK(session.up(key, 0, memory.size()) == 0);
    CHECK(session.client.status_of(wire::StreamSynchronize(kStream)) == 0);
    CHECK(recorded_copies().size() >= (on ? 2 : 3));
    CHECK(recorded(kDmaBuf) == 0);
    CHECK(recorded("cuMemCreate for GPUDirect RDMA") == (on ? 1 : 0));
  }
}

TEST_CASE("Whatever GPUDirect RDMA lacks is logged once, and every copy goes through the arena") {
  enum Lack { kNoFunction, kNoDmaBuf, kNoMapped, kNoFlush, kNoHandle, kNoRegistration };
  const std::vector<std::pair<Lack, std::string>> cases{
      {kNoFunction, "has no cuMemGetHandleForAddressRange"}, {kNoDmaBuf, "shares no device memory by dma-buf"},
      {kNoMapped, "does not support GPUDirect RDMA of memory"}, {kNoFlush, "neither orders an adapter's writes"},
      {kNoHandle, "gives no dma-buf of device memory: CUDA_ERROR_NOT_SUPPORTED"},
      {kNoRegistration, "cannot register device memory: "}};
  for (const auto& [lack, why] : cases) {
    INFO(why);
    const Log log;
    Setup setup = direct();
    if (lack == kNoFunction) {
      setup.driver = recording_driver();
      setup.driver->cuMemGetHandleForAddressRange = nullptr;
    }
    if (lack == kNoRegistration) setup.one_sided.device_memory = false;
    Direct session(setup);
    if (lack == kNoDmaBuf) set_attribute(CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED, 0);
    if (lack == kNoMapped) set_attribute(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED, 0);
    if (lack == kNoFlush) set_attribute(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS, 0);
    if (lack == kNoHandle) fail_dma_buf(CUDA_ERROR_NOT_SUPPORTED);
    const auto memory = session.allocate(8 * kMiB);
    const auto bytes = noise(memory.size());
    fill(memory, bytes);
    const RemoteKey source = session.allow(memory, RemoteAccess::kRead);
    const RemoteKey destination = session.allow(memory, RemoteAccess::kWrite);
    CHECK(session.up(source, 0, memory.size()) == 0);
    CHECK(session.client.status_of(wire::StreamSynchronize(kStream)) == 0);
    CHECK(same(device_memory(kBase, bytes.size()), bytes));
    std::ranges::fill(memory, std::byte{0});
    CHECK(session.down(destination, 0, memory.size()) == 0);
    CHECK(same(memory, bytes));
    CHECK(recorded_copies().size() >= 4);
    CHECK(recorded(kDmaBuf) == (lack == kNoHandle || lack == kNoRegistration ? 1 : 0));
    const auto lines = log.lines_with("GPUDirect RDMA is not used");
    REQUIRE(lines.size() == 1);
    CHECK(lines[0].find(why) != std::string::npos);
    CHECK(mappings_of_device() == 0);
  }
}

TEST_CASE("Device memory is no longer registered when it is unmapped, and registered anew when it is mapped again") {
  Direct session;
  const auto memory = session.allocate(kMiB);
  const RemoteKey key = session.allow(memory, RemoteAccess::kRead);
  CHECK(session.up(key, 0, kMiB) == 0);
  CHECK(mappings_of_device() == 1);
  session.client.send(wire::MemUnmap(kBase, 64 * kMiB));
  REQUIRE(session.client.status_of(wire::MemMap(kBase, 64 * kMiB, 0, 0)) == 0);  // after the unmapping
  CHECK(recorded("cuMemUnmap") == 1);
  CHECK(mappings_at_unmap() == 0);
  CHECK(session.up(key, 0, kMiB) == 0);
  CHECK(recorded(kDmaBuf) == 2);
  CHECK(recorded_copies().empty());
  CHECK(mappings_of_device() == 1);
  CHECK(session.client.status_of(wire::Goodbye(0)) == 0);
  session.ready.executor->stop();
  CHECK(recorded("cuMemUnmap") == 2);
  CHECK(mappings_at_unmap() == 0);
}

TEST_CASE("A copy across mappings is cut where one ends, each registered by itself") {
  Direct session;
  REQUIRE(session.client.status_of(wire::MemMap(kBase + 64 * kMiB, 4 * kMiB, 0, 0)) == 0);
  REQUIRE(session.client.status_of(wire::MemMap(kBase + 68 * kMiB, 4 * kMiB, 0, 0)) == 0);
  const auto memory = session.allocate(8 * kMiB);
  const auto bytes = noise(memory.size());
  fill(memory, bytes);
  const RemoteKey source = session.allow(memory, RemoteAccess::kRead);
  const RemoteKey destination = session.allow(memory, RemoteAccess::kWrite);
  CHECK(session.up(source, 0, memory.size(), kBase + 63 * kMiB) == 0);
  CHECK(same(device_memory(kBase + 63 * kMiB, kMiB), ConstBytes(bytes).first(kMiB)));
  std::ranges::fill(memory, std::byte{0});
  CHECK(session.down(destination, 0, memory.size(), kBase + 63 * kMiB) == 0);
  CHECK(same(memory, bytes));
  CHECK(recorded(kDmaBuf) == 3);
  CHECK(recorded_copies().empty());
}

TEST_CASE("One failed access of a direct copy, or a failed flush, fails that copy alone") {
  for (std::uint64_t failing = 0; failing < 4; ++failing) {
    Setup setup = direct();
    setup.faults.fail_access = failing;
    setup.one_sided.max_under_way = 1 + failing;
    Direct session(setup);
    const auto memory = session.allocate(24 * kMiB);  // two accesses each way
    const RemoteKey readable = session.allow(memory, RemoteAccess::kRead);
    const RemoteKey writable = session.allow(memory, RemoteAccess::kWrite);
    CHECK(session.up(readable, 0, memory.size()) == (failing < 2 ? CUDA_ERROR_INVALID_VALUE : 0));
    // After a failure no more of the copy begins.
    const int down = session.down(writable, 0, memory.size());
    if (failing >= 2) CHECK(down == CUDA_ERROR_INVALID_VALUE);
    session.client.send(session.ready.launch(), session.ready.parameters);
    CHECK(session.client.status_of(wire::StreamSynchronize(kStream)) == 0);
    CHECK(recorded("cuLaunchKernel") == 1);
    fail_flush(CUDA_ERROR_UNKNOWN);
    CHECK(session.up(readable, 0, memory.size()) == CUDA_ERROR_UNKNOWN);
    fail_flush(CUDA_SUCCESS);
    CHECK(session.up(writable, 0, memory.size()) == CUDA_ERROR_INVALID_VALUE);
    CHECK(session.up(readable, 0, memory.size()) == 0);
    CHECK(recorded_copies().empty());
    CHECK(session.client.status_of(wire::Goodbye(0)) == 0);
  }
}

TEST_CASE("A connection that breaks or is stopped in a direct copy ends the session, which unregisters before it unmaps") {
  for (const bool breaks : {true, false}) {
    for (const bool up : {true, false}) {
      Setup setup = direct();
      if (breaks) setup.faults.reset_in_access = 1;
      setup.shape.round_trip = breaks ? 1ms : 50ms;
      Direct session(setup);
      const auto memory = session.allocate(60 * kMiB);
      const RemoteKey key = session.allow(memory, up ? RemoteAccess::kRead : RemoteAccess::kWrite);
      up ? session.send_up(key, 0, memory.size()) : session.send_down(key, 0, memory.size());
      if (!breaks) {
        CHECK(session.ready.ping() == 0);
        session.ready.executor->stop();
      }
      CHECK(session.ends());
      CHECK(recorded("cuMemUnmap") == 1);
      CHECK(recorded(kDmaBuf) == 1);
      CHECK(recorded_copies().empty());
    }
  }
}

TEST_CASE("A direct copy behind the destruction of its context is answered once, and the session goes on") {
  Setup slow = direct();
  slow.shape.round_trip = 20ms;
  Direct session(slow);
  const auto memory = session.allocate(60 * kMiB);
  const RemoteKey readable = session.allow(memory, RemoteAccess::kRead);
  const auto first = session.send_up(readable, 0, 20 * kMiB);
  session.client.send(wire::ContextDestroy(kContext));
  const auto second = session.send_up(readable, 0, memory.size());
  CHECK(session.status_of(first) == 0);
  const auto reply = session.client.reply_to(second);
  REQUIRE(reply.has_value());
  CHECK(session.ready.ping() == 0);
  CHECK_FALSE(session.answered(second));
  CHECK(session.client.status_of(wire::Goodbye(0)) == 0);
}

}  // namespace avec::test
