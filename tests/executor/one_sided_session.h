// A worker's session over a simulated connection with one-sided access. The client's memory is that of the
// test; the device's is emulated.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "executor/ready_session.h"
#include "support/catch.h"
#include "transport/sim/factory.h"

namespace avec::test {

using namespace std::chrono_literals;

inline constexpr std::size_t kMiB = 1u << 20;
inline constexpr std::size_t kDeviceBytes = 64 * kMiB;

inline std::vector<std::byte> noise(std::size_t bytes, unsigned seed = 1) {
  std::vector<std::byte> made(bytes);
  std::minstd_rand random(seed);
  std::generate(made.begin(), made.end(), [&] { return static_cast<std::byte>(random() >> 8); });
  return made;
}

inline wire::RemoteKeyWords words(const RemoteKey& key) {
  return {key.words[0], key.words[1], key.words[2], key.words[3]};
}

struct Setup {
  sim::OneSidedOptions one_sided = [] {
    sim::OneSidedOptions made;
    made.kind = sim::OneSidedKind::kAsynchronous;
    made.ordered = true;
    return made;
  }();
  sim::Faults faults;
  sim::Shape shape;
  std::size_t arena_bytes = limits::kArenaBytes;
  std::uint64_t replay_bytes = 0;
  bool gpudirect = false;
  std::optional<worker::DriverTable> driver;  // none: the recording one
};

inline Setup mapped() {
  Setup made;
  made.one_sided.kind = sim::OneSidedKind::kMapped;
  return made;
}
inline Setup unordered() {
  Setup made;
  made.one_sided.ordered = false;
  return made;
}

/// A network of its own, under a scheme of its own.
struct Network {
  sim::SimNetwork network;
  std::string url;

  explicit Network(const Setup& setup)
      : network({.shape = setup.shape, .faults = setup.faults, .one_sided = setup.one_sided}) {
    static int number = 0;
    const std::string scheme = "one-sided-" + std::to_string(++number);
    register_transport(sim::make_transport(network, scheme));
    url = scheme + "://executor";
  }
};

struct Fixture : Network {
  std::optional<worker::SessionReport> report;
  Ready ready;
  RawClient& client;
  OneSided& access;
  std::vector<MutableBytes> allocated;

  explicit Fixture(const Setup& setup = {})
      : Network(setup),
        ready(url, setup.replay_bytes, options(setup)),
        client(ready.client),
        access(*client.connection().one_sided()) {
    emulate_memory(kBase, kDeviceBytes);
  }
  ~Fixture() {
    ready.executor->stop();
    for (MutableBytes memory : allocated) access.free(memory, false);
  }
  InProcessExecutor::Options options(const Setup& setup) {
    InProcessExecutor::Options made;
    made.session.arena_bytes = setup.arena_bytes;
    made.session.gpudirect = setup.gpudirect;
    made.session.driver = setup.driver;
    made.ended = [this](const worker::SessionReport& ended) { report = ended; };
    return made;
  }
  /// Memory of the client that the executor can reach.
  MutableBytes allocate(std::size_t bytes) {
    const auto made = access.allocate((bytes + 4095) & ~std::size_t{4095}, nullptr);
    REQUIRE(!made.memory.empty());
    allocated.push_back(made.memory);
    return made.memory.first(bytes);
  }
  RemoteKey allow(MutableBytes range, RemoteAccess what) {
    RemoteKey key;
    REQUIRE(!access.allow(range, what, key));
    return key;
  }
  /// Mapped memory that the executor has opened.
  RemoteKey open(MutableBytes memory) {
    const RemoteKey key = allow(memory, RemoteAccess::kWrite);
    REQUIRE(client.status_of(wire::HostMemoryOpen(words(key), memory.size())) == 0);
    return key;
  }
  std::uint64_t send_up(const RemoteKey& key, std::uint64_t offset, std::uint64_t bytes, std::uint64_t to = kBase,
                        std::uint64_t stream = kStream) {
    return client.send(wire::CopyToDeviceFrom(to, bytes, bytes, 1, stream, words(key), offset));
  }
  std::uint64_t send_down(const RemoteKey& key, std::uint64_t offset, std::uint64_t bytes, std::uint64_t from = kBase,
                          std::uint64_t stream = kStream) {
    return client.send(wire::CopyFromDeviceTo(from, bytes, bytes, 1, stream, words(key), offset));
  }
  int status_of(std::uint64_t call) {
    for (const RawFrame& frame : client.others)
      if (frame.is_reply() && frame.header.call() == call) return frame.header.status();
    const auto reply = client.reply_to(call);
    return reply ? reply->header.status() : -1;
  }
  /// A whole transfer, its reply awaited.
  int up(const RemoteKey& key, std::uint64_t offset, std::uint64_t bytes, std::uint64_t to = kBase) {
    return status_of(send_up(key, offset, bytes, to));
  }
  int down(const RemoteKey& key, std::uint64_t offset, std::uint64_t bytes, std::uint64_t from = kBase) {
    return status_of(send_down(key, offset, bytes, from));
  }
  bool answered(std::uint64_t call) const {
    return std::ranges::any_of(client.others, [&](const RawFrame& f) { return f.is_reply() && f.header.call() == call; });
  }
  /// Ends the session in order; how much payload the worker's CPU moved.
  std::uint64_t copied_in_all() {
    CHECK(client.status_of(wire::Goodbye(0)) == 0);
    ready.executor->stop();
    REQUIRE(report.has_value());
    return report->bytes_copied;
  }
  bool ends() {
    const auto deadline = soon();
    while (ready.executor->sessions() != 0 && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(1ms);
    return ready.executor->sessions() == 0;
  }
};

inline bool same(ConstBytes a, ConstBytes b) { return std::ranges::equal(a, b); }

inline void fill(MutableBytes to, ConstBytes from) { std::ranges::copy(from, to.begin()); }

}  // namespace avec::test
