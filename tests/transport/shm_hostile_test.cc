// What a malicious peer can do over shared memory: break its own connection.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <thread>

#include "base/limits.h"
#include "support/catch.h"
#include "transport/scratch.h"
#include "transport/shm/connection.h"
#include "transport/shm/factory.h"

namespace avec::shm {
namespace {

using namespace std::chrono_literals;

Deadline in(std::chrono::milliseconds time) { return std::chrono::steady_clock::now() + time; }

constexpr std::size_t kPage = 4096;

/// A connection, and in place of its peer the peer's memory and socket.
struct Victim {
  Victim() {
    auto memory = make_sealed_memory("test", sizeof(Shared));
    REQUIRE(memory);
    theirs = Mapping::of(memory.get(), sizeof(Shared));
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    socket = std::make_unique<Control>(Descriptor(ends[1]));
    connection = ShmConnection::make(End::kExecutor, Mapping::of(memory.get(), sizeof(Shared)),
                                     Descriptor(ends[0]), "shm://test");
    REQUIRE(connection);
  }
  Shared& shared() { return *reinterpret_cast<Shared*>(theirs.bytes().data()); }
  /// The rings as the peer, a client, writes them.
  RingState::Sender& tail() { return shared().rings[0].sender; }
  RingState::Receiver& head() { return shared().rings[1].receiver; }

  IoResult receive(std::size_t bytes = 100) {
    std::vector<std::byte> into(bytes);
    const MutableBytes buffer(into);
    return connection->receive({&buffer, 1});
  }
  IoResult send(std::size_t bytes = 100) {
    const std::vector<std::byte> from(bytes);
    const ConstBytes buffer(from);
    return connection->send({&buffer, 1});
  }
  void check_broken() {
    CHECK(receive().error.code == TransportErrc::kReset);
    CHECK(send().error.code == TransportErrc::kReset);
    CHECK_FALSE(connection->wait(false, in(10s)));
    CHECK(receive().error.code == TransportErrc::kReset);
  }
  /// True when the connection has survived what lies in its socket.
  bool survives() {
    CHECK_FALSE(connection->wait(false, in(-1ms)).code == TransportErrc::kNone);
    return !receive().error && !send().error;
  }
  /// Looks at the socket as a session does before it sleeps.
  void look() { connection->wait(false, in(20ms)); }

  Mapping theirs;
  std::unique_ptr<Control> socket;
  std::unique_ptr<ShmConnection> connection;
};

// ---- indices ---------------------------------------------------------------------------

TEST_CASE("a tail that no sender can have written breaks the connection") {
  for (const std::uint64_t tail :
       {std::uint64_t{kRingBytes} + 1, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    Victim victim;
    victim.tail().tail = tail;
    victim.check_broken();
  }
}

TEST_CASE("a full ring is taken whole, a tail that goes back is not") {
  Victim victim;
  victim.tail().tail = kRingBytes;
  CHECK(victim.receive(10).bytes == 10);
  victim.tail().tail = kRingBytes - 1;
  CHECK(victim.receive(10).error.code == TransportErrc::kReset);
}

TEST_CASE("a head before what was taken, or behind what was sent, breaks the connection") {
  Victim beyond;
  REQUIRE(beyond.send(100).bytes == 100);
  beyond.head().head = 101;
  CHECK(beyond.send().error.code == TransportErrc::kReset);
  beyond.check_broken();
  Victim back;
  REQUIRE(back.send(100).bytes == 100);
  back.head().head = 60;
  REQUIRE(back.send(100).bytes == 100);
  back.head().head = 59;
  CHECK(back.send().error.code == TransportErrc::kReset);
}

TEST_CASE("whatever a peer writes into the rings' state, every operation ends") {
  Victim victim;
  std::atomic<bool> stop{false};
  std::thread hostile([&] {
    std::mt19937_64 random(7);
    auto* words = reinterpret_cast<std::atomic<std::uint64_t>*>(&victim.shared());
    while (!stop) {
      // Often what could be true, so that the connection lives for a while.
      victim.tail().tail =
          random() % 4 != 0 ? victim.shared().rings[0].receiver.head + random() % 999 : random();
      if (random() % 1000 == 0) words[random() % (sizeof(RingState) * 2 / 8)] = random() % 3;
      victim.head().waits_for_bytes = static_cast<std::uint32_t>(random() % 2);
    }
  });
  for (int i = 0; i < 20'000; ++i) {
    victim.receive(1 + static_cast<std::size_t>(i) % 5000);
    victim.send(1 + static_cast<std::size_t>(i) % 5000);
    if (i % 1000 == 0) victim.connection->wait(i % 2000 == 0, in(1ms));
    if (i % 1000 == 0) victim.connection->arm();
  }
  stop = true;
  hostile.join();
  victim.connection->close();
}

TEST_CASE("a peer that rings without end does not move a deadline") {
  Victim victim;
  std::atomic<bool> stop{false};
  std::thread hostile([&] {
    while (!stop) victim.socket->send({});
  });
  CHECK(victim.connection->wait(false, in(50ms)).code == TransportErrc::kTimeout);
  victim.connection->arm();
  stop = true;
  hostile.join();
  CHECK_FALSE(victim.receive().error);
}

// ---- messages and descriptors ----------------------------------------------------------

Descriptor plain_memory(std::size_t bytes, int seals) {
  Descriptor fd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(bytes)) == 0);
  if (seals != 0) REQUIRE(::fcntl(fd.get(), F_ADD_SEALS, seals) == 0);
  return fd;
}

void check_refused(const Message& message, const Descriptor& fd) {
  Victim victim;
  REQUIRE(victim.socket->send(message, fd.get()) == Control::Sent::kDone);
  victim.look();
  victim.check_broken();
}

TEST_CASE("memory of the peer that could shrink, or is none, breaks the connection") {
  check_refused({Note::kMemory, 0, 1, kPage}, plain_memory(kPage, 0));
  check_refused({Note::kMemory, 0, 1, kPage}, plain_memory(kPage, F_SEAL_GROW | F_SEAL_SEAL));
  check_refused({Note::kMemory, 0, 1, kPage}, plain_memory(kPage, F_SEAL_SHRINK | F_SEAL_SEAL));
  check_refused({Note::kMemory, 0, 1, kPage}, plain_memory(kPage, F_SEAL_SHRINK | F_SEAL_GROW));
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const Descriptor reader(ends[0]), writer(ends[1]);
  check_refused({Note::kMemory, 0, 1, kPage}, reader);
  check_refused({Note::kMemory, 0, 1, kPage}, Descriptor(::open("/dev/zero", O_RDWR | O_CLOEXEC)));
  check_refused({Note::kMemory, 0, 1, kPage}, Descriptor(::open("/tmp", O_RDONLY | O_CLOEXEC)));
  const Descriptor writable = make_sealed_memory("test", kPage);
  const auto again = "/proc/self/fd/" + std::to_string(writable.get());
  check_refused({Note::kMemory, 0, 1, kPage}, Descriptor(::open(again.c_str(), O_RDONLY | O_CLOEXEC)));
}

TEST_CASE("memory of another size than was said breaks the connection") {
  const auto fd = make_sealed_memory("test", 4 * kPage);
  for (const std::uint64_t bytes :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{3 * kPage}, std::uint64_t{5 * kPage},
        ~std::uint64_t{0}, ~std::uint64_t{0} - kPage + 1}) {
    check_refused({Note::kMemory, 0, 1, bytes}, fd);
  }
}

TEST_CASE("messages that no peer sends break the connection") {
  const auto fd = make_sealed_memory("test", kPage);
  const Descriptor none;
  check_refused({Note::kMemory, 0, 1, kPage}, none);
  check_refused({Note::kMemory, 0, 0, kPage}, fd);
  check_refused({Note::kMemoryGone, 0, 1, 0}, none);
  check_refused({Note::kMemoryGone, 0, 0, 0}, none);
  check_refused({Note::kBell, 0, 0, 0}, fd);
  check_refused({static_cast<Note>(99), 0, 0, 0}, none);
}

TEST_CASE("a name of memory that was used before breaks the connection") {
  Victim victim;
  const auto fd = make_sealed_memory("test", kPage);
  REQUIRE(victim.socket->send({Note::kMemory, 0, 5, kPage}, fd.get()) == Control::Sent::kDone);
  victim.look();
  CHECK(victim.survives());
  REQUIRE(victim.socket->send({Note::kMemoryGone, 0, 5, 0}) == Control::Sent::kDone);
  victim.look();
  CHECK(victim.survives());
  REQUIRE(victim.socket->send({Note::kMemory, 0, 5, kPage}, fd.get()) == Control::Sent::kDone);
  victim.look();
  victim.check_broken();
}

TEST_CASE("a message in parts is put together; two descriptors in one break the connection") {
  Victim victim;
  const Message bell;
  const auto bytes = std::as_bytes(std::span(&bell, 1));
  for (const std::byte& byte : bytes) {
    REQUIRE(send_with_descriptor(victim.socket->descriptor(), {&byte, 1}, -1));
    victim.look();
  }
  CHECK(victim.survives());
  const auto fd = make_sealed_memory("test", kPage);
  for (const std::byte& byte : bytes.first(2)) {
    REQUIRE(send_with_descriptor(victim.socket->descriptor(), {&byte, 1}, fd.get()));
    victim.look();
  }
  victim.check_broken();
}

/// Sends memories of `bytes` each until the connection breaks; how many were taken.
std::size_t memories_until_broken(std::size_t bytes, std::size_t most) {
  Victim victim;
  const auto fd = make_sealed_memory("test", bytes);
  REQUIRE(fd);
  for (std::size_t i = 1; i <= most; ++i) {
    REQUIRE(victim.socket->send({Note::kMemory, 0, i, bytes}, fd.get()) == Control::Sent::kDone);
    victim.connection->arm();
    if (victim.receive().error) return i - 1;
  }
  return most;
}

TEST_CASE("a peer shares so many memories, and so many bytes, and no more") {
  CHECK(memories_until_broken(kPage, limits::kMaxSharedMemories + 10) == limits::kMaxSharedMemories);
  CHECK(memories_until_broken(limits::kMaxSharedBytes / 4, 10) == 4);
  CHECK(memories_until_broken(limits::kMaxSharedBytes + kPage, 10) == 0);
}

TEST_CASE("an end stops at its own limits, and so does not end its connection") {
  const auto path = contract::fresh_path();
  auto& transport = *find_transport("shm://");
  const auto listening = transport.listen("shm://" + path);
  REQUIRE(listening.listener);
  const auto client = transport.connect("shm://" + path, in(10s)).connection;
  const auto server = listening.listener->accept(in(10s)).connection;
  REQUIRE(client);
  REQUIRE(server);
  std::vector<MutableBytes> all(limits::kMaxSharedMemories + 2);
  std::atomic<std::size_t> next{0}, refused{0};
  const auto work = [&] {
    for (std::size_t i; (i = next++) < all.size();) {
      const auto result = client->one_sided()->allocate(kPage, nullptr);
      if (result.error.code == TransportErrc::kResources) ++refused;
      all[i] = result.memory;
      if (i % 64 == 0) server->wake();
    }
  };
  std::atomic<bool> stop{false};
  std::thread taking([&] {
    while (!stop) server->wait(false, in(1ms));
  });
  std::thread first(work), second(work);
  first.join();
  second.join();
  stop = true;
  taking.join();
  CHECK(refused == 2);
  CHECK(client->one_sided()->allocate(limits::kMaxSharedBytes, nullptr).error.code ==
        TransportErrc::kResources);
  const ConstBytes text = std::as_bytes(std::span("x", 1));
  CHECK(server->send({&text, 1}).bytes == 1);
  CHECK(client->wait(false, in(10s)).code == TransportErrc::kNone);
  std::byte byte{};
  const MutableBytes into(&byte, 1);
  CHECK(client->receive({&into, 1}).bytes == 1);
  for (const auto memory : all)
    if (!memory.empty()) client->one_sided()->free(memory, false);
  const auto again = client->one_sided()->allocate(kPage, nullptr);
  CHECK_FALSE(again.error);
  client->one_sided()->free(again.memory, false);
}

TEST_CASE("keys that lie about their range name nothing") {
  Victim victim;
  const auto fd = make_sealed_memory("test", 2 * kPage);
  REQUIRE(victim.socket->send({Note::kMemory, 0, 1, 2 * kPage}, fd.get()) == Control::Sent::kDone);
  auto& access = *victim.connection->one_sided();
  constexpr std::uint64_t kWord = 77u << 14 | 3;
  victim.shared().keys[0][3] = kWord;
  CHECK(access.mapped({{1, 0, 2 * kPage, kWord}}).bytes.size() == 2 * kPage);
  CHECK(access.mapped({{1, kPage, kPage, kWord}}).bytes.size() == kPage);
  CHECK(access.mapped({{1, kPage, kPage + 1, kWord}}).bytes.empty());
  CHECK(access.mapped({{1, ~std::uint64_t{0}, 2, kWord}}).bytes.empty());
  CHECK(access.mapped({{1, 1, ~std::uint64_t{0}, kWord}}).bytes.empty());
  CHECK(access.mapped({{2, 0, kPage, kWord}}).bytes.empty());
  CHECK(access.mapped({{1, 0, kPage, kWord + 1}}).bytes.empty());
  CHECK(access.mapped({{1, 0, kPage, 0}}).bytes.empty());
  victim.look();  // mapped() has taken messages, and ends a wait()
  CHECK(victim.survives());
}

// ---- memory that is taken back while it is used ----------------------------------------

constexpr std::uint64_t kWord = 77u << 14 | 3;

/// Shares `memory` as `id` and maps it.
MappedMemory share(Victim& victim, std::uint64_t id, const Descriptor& memory, std::size_t bytes) {
  REQUIRE(victim.socket->send({Note::kMemory, 0, id, bytes}, memory.get()) == Control::Sent::kDone);
  victim.shared().keys[0][3] = kWord;
  return victim.connection->one_sided()->mapped({{id, 0, bytes, kWord}});
}

TEST_CASE("memory that the peer takes back without a word stays mapped for who holds it") {
  Victim victim;
  const auto fd = make_sealed_memory("test", 2 * kPage);
  const auto again = Mapping::of(fd.get(), 2 * kPage);
  auto held = share(victim, 1, fd, 2 * kPage);
  REQUIRE(held.bytes.size() == 2 * kPage);
  REQUIRE(victim.socket->send({Note::kMemoryGone, 0, 1, 0}) == Control::Sent::kDone);
  victim.look();
  victim.look();
  CHECK(victim.survives());
  CHECK(victim.connection->one_sided()->mapped({{1, 0, kPage, kWord}}).bytes.empty());
  // Whatever is mapped next does not come to lie there.
  const Mapping next = Mapping::of(make_sealed_memory("test", 2 * kPage).get(), 2 * kPage);
  CHECK(next.bytes().data() != held.bytes.data());
  held.bytes[kPage] = std::byte{5};
  CHECK(again.bytes()[kPage] == std::byte{5});
  victim.connection.reset();
  held.bytes[kPage] = std::byte{6};
  CHECK(again.bytes()[kPage] == std::byte{6});
  const void* const page = held.bytes.data();
  held.keeps.reset();
  CHECK(::msync(const_cast<void*>(page), kPage, MS_ASYNC) == -1);  // no longer mapped
}

TEST_CASE("memory that is held counts for the peer's limit though it has been taken back") {
  for (const bool lets_go : {false, true}) {
    Victim victim;
    constexpr std::size_t kHalf = limits::kMaxSharedBytes / 2;
    const auto fd = make_sealed_memory("test", kHalf);
    auto first = share(victim, 1, fd, kHalf);
    const auto second = share(victim, 2, fd, kHalf);
    REQUIRE(first.bytes.size() == kHalf);
    REQUIRE(second.bytes.size() == kHalf);
    REQUIRE(victim.socket->send({Note::kMemoryGone, 0, 1, 0}) == Control::Sent::kDone);
    victim.look();
    victim.look();
    if (lets_go) first.keeps.reset();
    CHECK(share(victim, 3, fd, kHalf).bytes.empty() == !lets_go);
    victim.look();
    if (!lets_go) victim.check_broken();
    if (lets_go) CHECK(victim.survives());
  }
}

// ---- messages that another thread takes ------------------------------------------------

TEST_CASE("a bell that another thread takes from the socket wakes the one that waits") {
  Victim victim;
  const auto fd = make_sealed_memory("test", kPage);
  REQUIRE(victim.socket->send({}) == Control::Sent::kDone);
  CHECK(share(victim, 1, fd, kPage).bytes.size() == kPage);
  CHECK_FALSE(victim.connection->wait(false, in(10s)));
  CHECK(victim.survives());
}

TEST_CASE("a broken rule that another thread finds in the socket ends the connection") {
  Victim victim;
  REQUIRE(victim.socket->send({static_cast<Note>(99), 0, 0, 0}) == Control::Sent::kDone);
  CHECK(share(victim, 1, make_sealed_memory("test", kPage), kPage).bytes.empty());
  CHECK_FALSE(victim.connection->wait(false, in(10s)));
  victim.check_broken();
}

TEST_CASE("no bell is lost though another thread looks at the socket all the time") {
  Victim victim;
  victim.shared().keys[0][3] = kWord;
  std::atomic<bool> stop{false};
  std::thread other([&] {  // asks for memory that is still to come
    while (!stop) victim.connection->one_sided()->mapped({{1'000'000, 0, kPage, kWord}});
  });
  std::atomic<std::uint64_t> received{0};
  std::thread peer([&] {
    for (std::uint64_t sent = 0; !stop; std::this_thread::yield()) {
      if (received != sent) continue;
      while (!stop && victim.shared().rings[0].receiver.waits_for_bytes == 0) std::this_thread::yield();
      victim.tail().tail = ++sent;
      if (victim.shared().rings[0].receiver.waits_for_bytes.exchange(0) != 0) victim.socket->send({});
    }
  });
  const auto until = in(10s);
  while (received < 3000 && std::chrono::steady_clock::now() < until) {
    victim.connection->wait(false, until);
    received += victim.receive(1).bytes;
  }
  stop = true;
  other.join();
  peer.join();
  CHECK(received == 3000);
}

// ---- offers ----------------------------------------------------------------------------

TEST_CASE("who offers no memory, or other than it must be, is not accepted; the next one is") {
  const auto path = contract::fresh_path();
  auto& transport = *find_transport("shm://");
  const auto listening = transport.listen("shm://" + path);
  REQUIRE(listening.listener);
  std::vector<std::unique_ptr<Connection>> strangers;
  const auto stranger = [&](ConstBytes bytes, int fd) {
    auto connected = find_transport("unix://")->connect("unix://" + path, in(10s));
    REQUIRE(connected.connection);
    if (!bytes.empty()) REQUIRE(send_with_descriptor(connected.connection->poll_descriptor(), bytes, fd));
    connected.connection->close();
  };
  // As upgrade.cc has it: magic, version, bytes, nonce.
  std::array<std::uint64_t, 4> offer{0x1'6d687361, sizeof(Shared), 0, 0};
  const auto bytes = std::as_bytes(std::span(offer));
  const auto unsealed = plain_memory(sizeof(Shared), 0);
  const auto small = make_sealed_memory("test", sizeof(Shared) - kPage);
  const auto good = make_sealed_memory("test", sizeof(Shared));
  stranger({}, -1);
  stranger(bytes.first(9), -1);
  stranger(bytes, -1);
  stranger(bytes, unsealed.get());
  stranger(bytes, small.get());
  offer[0] = 0x2'6d687361;
  stranger(bytes, good.get());
  CHECK(listening.listener->accept(in(100ms)).error.code == TransportErrc::kTimeout);
  offer[0] = 0x1'6d687361;
  stranger(bytes, good.get());
  CHECK(listening.listener->accept(in(10s)).connection);
  auto client = transport.connect("shm://" + path, in(10s));
  REQUIRE(client.connection);
  CHECK(listening.listener->accept(in(10s)).connection);
}

}  // namespace
}  // namespace avec::shm
