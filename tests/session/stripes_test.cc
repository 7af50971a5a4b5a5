// A session whose large payload takes stripes of its TCP connection, against the real worker on
// the CPU device.
#include <sys/socket.h>

#include <thread>

#include "executor/in_process.h"
#include "session/session_support.h"
#include "transport/tcp/factory.h"

namespace avec::test {
namespace {

constexpr std::uint64_t kBase = 0x310000000000, kRange = std::uint64_t{1} << 30, kMapped = 64u << 20;
constexpr std::uint64_t kContext = 1, kStream = 4;

/// The executor's ends of all connections, in the order they came: control, data, stripes.
struct Sockets {
  std::mutex mutex;
  std::vector<int> descriptors;
  std::size_t at_most = SIZE_MAX;  // further ones are closed at once
  std::size_t count() {
    const std::scoped_lock lock(mutex);
    return descriptors.size();
  }
  /// A copy of one, to break it with.
  Descriptor copy(std::size_t number) {
    const std::scoped_lock lock(mutex);
    return Descriptor(::dup(descriptors.at(number)));
  }
  ~Sockets() {
    for (const int one : descriptors) ::close(one);
  }
};

class WatchedListener final : public Listener {
 public:
  WatchedListener(std::unique_ptr<Listener> inner, Sockets& sockets)
      : inner_(std::move(inner)), sockets_(sockets) {}
  ConnectResult accept(Deadline deadline) noexcept override {
    auto result = inner_->accept(deadline);
    if (result.connection) {
      const std::scoped_lock lock(sockets_.mutex);
      if (sockets_.descriptors.size() == sockets_.at_most)
        return {nullptr, {TransportErrc::kReset, 0}, "one too many"};
      sockets_.descriptors.push_back(::dup(tcp::native_descriptor(*result.connection)));
    }
    return result;
  }
  void wake() noexcept override { inner_->wake(); }
  std::string address() const override { return inner_->address(); }

 private:
  const std::unique_ptr<Listener> inner_;
  Sockets& sockets_;
};

/// A session over TCP, ready to copy.
struct Ready {
  explicit Ready(unsigned streams, std::chrono::milliseconds resume = {},
                 std::size_t connections = SIZE_MAX) {
    sockets.at_most = connections;
    InProcessExecutor::Options options;
    options.listen = "tcp://127.0.0.1:0";
    options.session.driver_path = AVEC_CPU_DEVICE;
    options.session.device_kind = "cpu";
    options.listener = [this](const std::string& url) {
      auto result = find_transport(url)->listen(url);
      result.listener = std::make_unique<WatchedListener>(std::move(result.listener), sockets);
      return result;
    };
    std::string problem;
    executor = InProcessExecutor::start(std::move(options), problem);
    INFO(problem);
    REQUIRE(executor);
    session::Options wanted;
    wanted.executor = executor->address();
    wanted.device_ranges = {wire::AddressRange(kBase, kRange)};
    wanted.tcp_streams = streams;
    wanted.resume_window = resume;
    session = open(wanted, heard.callbacks());
    REQUIRE(session->post(wire::ContextCreate(kContext, 2, 3, 0, 0, 1, 0)));
    REQUIRE(session->post(wire::StreamCreate(kStream, kContext, 1, 0)));
    REQUIRE(session->call(wire::MemMap(kBase, kMapped, 0, 0)));
  }
  Sockets sockets;
  Heard heard;
  std::unique_ptr<InProcessExecutor> executor;
  std::shared_ptr<session::Session> session;
};

wire::RemoteKeyWords words(const RemoteKey& key) {
  return {key.words[0], key.words[1], key.words[2], key.words[3]};
}

/// Posts a copy of all of `memory`, which was added, to or from `device`; waits for its end.
Result<> copy(session::Session& session, std::uint64_t device, MutableBytes memory, RemoteAccess access) {
  session::Reference reference{memory, access};
  // Until the first stripe is ready the stream would carry it.
  if (!eventually([&] {
        return session.one_sided()->allow(memory, access, reference.key).code != TransportErrc::kNotViable;
      }) ||
      !reference.key)
    return user_error("not allowed");
  const auto bytes = memory.size();
  const auto pending =
      access == RemoteAccess::kRead
          ? session.post_by_reference(
                wire::CopyToDeviceFrom(device, bytes, bytes, 1, kStream, words(reference.key), 0), reference)
          : session.post_by_reference(
                wire::CopyFromDeviceTo(device, bytes, bytes, 1, kStream, words(reference.key), 0), reference);
  if (!pending) return std::unexpected(pending.error());
  return session.wait_deferred(*pending);
}

TEST_CASE("Large payload takes stripes, which are opened with the first of it") {
  Ready ready(4);
  auto& access = *ready.session->one_sided();
  for (const std::size_t bytes :
       {limits::kStripedBytes, (std::size_t{9} << 20) + 13, std::size_t{40} << 20}) {
    Bytes memory = FakeExecutor::device_bytes(bytes, bytes);
    const Bytes wanted = memory;
    REQUIRE_FALSE(access.add(memory));
    if (bytes == limits::kStripedBytes) CHECK(ready.sockets.count() == 2);
    CHECK(copy(*ready.session, kBase + 4096, memory, RemoteAccess::kRead));
    std::fill(memory.begin(), memory.end(), std::byte{0});
    CHECK(copy(*ready.session, kBase + 4096, memory, RemoteAccess::kWrite));
    CHECK((memory == wanted));
    access.remove(memory);
  }
  CHECK(eventually([&] { return ready.sockets.count() == 6; }));
  CHECK(ready.session->counters().one_sided_bytes ==
        2 * (limits::kStripedBytes + (std::size_t{49} << 20) + 13));
  ready.session->close();
  CHECK(ready.heard.closed.empty());
}

TEST_CASE("A source may be written again as soon as the wait for it has ended") {
  Ready ready(3);
  auto& access = *ready.session->one_sided();
  Bytes memory(limits::kStripedBytes + 4096);
  REQUIRE_FALSE(access.add(memory));
  REQUIRE(copy(*ready.session, kBase, memory, RemoteAccess::kRead));  // the stripes are ready now
  for (int round = 1; round <= 30; ++round) {
    std::fill(memory.begin(), memory.end(), static_cast<std::byte>(round));
    session::Reference reference{memory, RemoteAccess::kRead};
    REQUIRE_FALSE(access.allow(memory, RemoteAccess::kRead, reference.key));
    const auto pending = ready.session->post_by_reference(
        wire::CopyToDeviceFrom(kBase, memory.size(), memory.size(), 1, kStream, words(reference.key), 0), reference);
    REQUIRE(pending);
    REQUIRE(ready.session->wait_deferred(*pending, session::Counted::kSource));
    std::fill(memory.begin(), memory.end(), std::byte{0xff});
    REQUIRE(copy(*ready.session, kBase, memory, RemoteAccess::kWrite));
    CHECK(std::ranges::all_of(memory, [&](std::byte byte) { return byte == static_cast<std::byte>(round); }));
  }
  CHECK(ready.session->wait_until_unused(memory.data(), memory.data() + memory.size()));
  access.remove(memory);
  CHECK(ready.heard.closed.empty());
}

TEST_CASE("Smaller payload stays in the stream, and opens no stripe") {
  Ready ready(4);
  Bytes memory(limits::kStripedBytes - 1);
  REQUIRE_FALSE(ready.session->one_sided()->add(memory));
  RemoteKey key;
  CHECK(ready.session->one_sided()->allow(memory, RemoteAccess::kRead, key));
  CHECK(ready.session->call(wire::StreamSynchronize(kStream)));
  CHECK(ready.sockets.count() == 2);
}

TEST_CASE("With one stream, or where the session can be resumed, there are no stripes") {
  CHECK(Ready(1).session->one_sided() == nullptr);
  CHECK(Ready(4, std::chrono::seconds(5)).session->one_sided() == nullptr);
}

TEST_CASE("Where nobody says how many streams, it is by the cores of this machine") {
  // The round trip to this machine is short.
  const bool some = std::thread::hardware_concurrency() >= 4;
  CHECK((Ready(0).session->one_sided() != nullptr) == some);
}

TEST_CASE("Threads share the stripes of a session") {
  Ready ready(3);
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const std::size_t bytes = limits::kStripedBytes + 100'000 * t;
      for (int i = 0; i < 8; ++i) {
        Bytes memory = FakeExecutor::device_bytes(t * 9 + i, bytes);
        if (ready.session->one_sided()->add(memory)) ++failures;
        if (!copy(*ready.session, kBase + (t << 22), memory, RemoteAccess::kRead)) ++failures;
        std::fill(memory.begin(), memory.end(), std::byte{0});
        if (!copy(*ready.session, kBase + (t << 22), memory, RemoteAccess::kWrite)) ++failures;
        if (memory != FakeExecutor::device_bytes(t * 9 + i, bytes)) ++failures;
        ready.session->one_sided()->remove(memory);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(failures == 0);
}

TEST_CASE("Stripes that break end the session, with a reason, and every call says so") {
  Ready ready(2);
  Bytes memory(8u << 20);
  REQUIRE_FALSE(ready.session->one_sided()->add(memory));
  REQUIRE(copy(*ready.session, kBase, memory, RemoteAccess::kRead));
  REQUIRE(eventually([&] { return ready.sockets.count() == 4; }));
  std::thread breaker([&] {
    for (const std::size_t number : {2, 3}) ::shutdown(ready.sockets.copy(number).get(), SHUT_RDWR);
  });
  Result<> went;
  for (int i = 0; i < 1000 && went; ++i) went = copy(*ready.session, kBase, memory, RemoteAccess::kRead);
  breaker.join();
  REQUIRE_FALSE(went);
  CHECK(
      eventually([&] { return ready.heard.with([](const Heard& heard) { return !heard.closed.empty(); }); }));
  CHECK(ready.heard.with([](const Heard& heard) { return says(heard.closed.front(), "broke"); }));
  const auto after = ready.session->call(wire::StreamSynchronize(kStream));
  REQUIRE_FALSE(after);
  CHECK(after.error().origin == Origin::kTransport);
  ready.session->one_sided()->remove(memory);
}

TEST_CASE("Where no stripe can be opened large payload stays in the stream, and the user is told once") {
  Ready ready(4, {}, 2);  // control and data
  Bytes memory = FakeExecutor::device_bytes(1, 3u << 20);
  REQUIRE_FALSE(ready.session->one_sided()->add(memory));
  const auto told = [&] { return ready.heard.with([](const Heard& heard) { return heard.notices; }); };
  RemoteKey key;
  CHECK(eventually([&] {
    CHECK(ready.session->one_sided()->allow(memory, RemoteAccess::kRead, key).code ==
          TransportErrc::kNotViable);
    return !told().empty();
  }));
  CHECK(ready.session->post(wire::CopyToDevice(kBase, memory.size(), memory.size(), 1, kStream), memory));
  Bytes back(memory.size());
  const auto pending = ready.session->post_deferred(
      wire::CopyFromDevice(kBase, memory.size(), memory.size(), 1, kStream), back);
  REQUIRE(pending);
  CHECK(ready.session->wait_deferred(*pending));
  CHECK((back == memory));
  CHECK(ready.session->one_sided()->allow(memory, RemoteAccess::kWrite, key).code ==
        TransportErrc::kNotViable);
  REQUIRE(told().size() == 1);
  CHECK(says(told().front(), "AVEC_TCP_STREAMS=1"));
  CHECK(says(told().front(), ready.executor->address()));
  CHECK(ready.heard.with([](const Heard& heard) { return heard.closed.empty(); }));
  ready.session->one_sided()->remove(memory);
}

TEST_CASE("One stripe that ends while nobody uses it leaves the session to the others") {
  Ready ready(2);
  Bytes memory = FakeExecutor::device_bytes(1, 3u << 20);
  REQUIRE_FALSE(ready.session->one_sided()->add(memory));
  REQUIRE(copy(*ready.session, kBase, memory, RemoteAccess::kRead));
  REQUIRE(eventually([&] { return ready.sockets.count() == 4; }));
  // Both ends are told, and nothing is under way.
  ::shutdown(ready.sockets.copy(2).get(), SHUT_RDWR);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  std::fill(memory.begin(), memory.end(), std::byte{0});
  CHECK(copy(*ready.session, kBase, memory, RemoteAccess::kWrite));
  CHECK((memory == FakeExecutor::device_bytes(1, 3u << 20)));
  ready.session->one_sided()->remove(memory);
}

}  // namespace
}  // namespace avec::test
