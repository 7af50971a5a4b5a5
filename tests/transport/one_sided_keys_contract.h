// What protects memory that is reached one-sided, as tests: keys, their ends, ends of connections,
// threads. Included by contract.h.
#pragma once

#include <mutex>

#include "transport/one_sided_support.h"

namespace avec::contract {

/// An access that must fail, and changes neither end. The connection may be over afterwards.
inline void check_refused(const Side& peer, const RemoteKey& key, std::uint64_t offset, const Region& mine,
                          std::size_t bytes, RemoteAccess access, const Region& owned) {
  const std::vector<std::byte> before(owned.bytes().begin(), owned.bytes().end());
  mine.fill(std::byte{0x5c});
  const auto error = access == RemoteAccess::kRead ? fetch(peer, key, offset, mine.part(0, bytes))
                                                   : put(peer, key, offset, mine.part(0, bytes));
  CHECK(error.code != TransportErrc::kNone);
  CHECK(error.code != TransportErrc::kTimeout);
  CHECK(all(mine.bytes(), std::byte{0x5c}));
  CHECK(same(owned.bytes(), before));
}

/// A use of a key that its owner does not allow.
struct Misuse {
  std::uint64_t offset;
  std::size_t bytes;
};

TEST_CASE("one-sided: an access beyond the range is an error and changes nothing") {
  const std::uint64_t far = UINT64_MAX - 99;
  for (const auto access : {RemoteAccess::kRead, RemoteAccess::kWrite}) {
    for (const auto& [offset, bytes] : {Misuse{0, 1001}, Misuse{1, 1000}, Misuse{1000, 1}, Misuse{5000, 100},
                                        Misuse{far, 100}, Misuse{UINT64_MAX, 1}, Misuse{far, 1000}}) {
      Ends ends;
      if (!ends) return;
      INFO(offset << " + " << bytes);
      const Region owned(ends.client, 4 * kPage), mine(ends.server, kPage);
      owned.fill(std::byte{0x11});
      const auto key = allowed(ends.client, owned.part(kPage, 1000), access);
      check_refused(ends.server, key, offset, mine, bytes, access, owned);
    }
  }
}

TEST_CASE("one-sided: the last byte of a range is within reach") {
  Ends ends;
  if (!ends) return;
  const Region owned(ends.client, kPage), mine(ends.server, kPage);
  owned.bytes()[999] = std::byte{0x42};
  const auto key = allowed(ends.client, owned.part(0, 1000), RemoteAccess::kRead);
  REQUIRE_FALSE(fetch(ends.server, key, 999, mine.part(0, 1)));
  CHECK(mine.bytes()[0] == std::byte{0x42});
}

TEST_CASE("one-sided: a key for reading does not write, one for writing does not read") {
  for (const auto given : {RemoteAccess::kRead, RemoteAccess::kWrite}) {
    Ends ends;
    if (!ends || ends.maps()) return;
    const Region owned(ends.client, kPage), mine(ends.server, kPage);
    owned.fill(std::byte{0x11});
    const auto key = allowed(ends.client, owned.bytes(), given);
    const auto tried = given == RemoteAccess::kRead ? RemoteAccess::kWrite : RemoteAccess::kRead;
    check_refused(ends.server, key, 0, mine, 100, tried, owned);
  }
}

TEST_CASE("one-sided: a key is worthless after revoke, and revoking it again does nothing") {
  for (const auto access : {RemoteAccess::kRead, RemoteAccess::kWrite}) {
    Ends ends;
    if (!ends) return;
    const Region owned(ends.client, kPage), mine(ends.server, kPage);
    const auto key = allowed(ends.client, owned.bytes(), access);
    const auto error = access == RemoteAccess::kRead ? fetch(ends.server, key, 0, mine.bytes())
                                                     : put(ends.server, key, 0, mine.bytes());
    REQUIRE_FALSE(error);
    owned.fill(std::byte{0x11});
    ends.client.access->revoke(key);
    ends.client.access->revoke(key);
    ends.client.access->revoke({});
    check_refused(ends.server, key, 0, mine, 100, access, owned);
  }
}

TEST_CASE("one-sided: keys of one range live and end apart from each other") {
  Ends ends;
  if (!ends) return;
  const Region owned(ends.client, kPage), mine(ends.server, kPage);
  owned.fill(std::byte{0x11});
  const auto first = allowed(ends.client, owned.bytes(), RemoteAccess::kRead);
  const auto second = allowed(ends.client, owned.bytes(), RemoteAccess::kRead);
  CHECK_FALSE(first == second);
  ends.client.access->revoke(first);
  REQUIRE_FALSE(fetch(ends.server, second, 0, mine.bytes()));
  CHECK(all(mine.bytes(), std::byte{0x11}));
  ends.client.access->revoke(second);
  const auto third = allowed(ends.client, owned.bytes(), RemoteAccess::kRead);
  CHECK_FALSE(third == first);
  CHECK_FALSE(third == second);
}

TEST_CASE("one-sided: keys end with their memory") {
  Ends ends;
  if (!ends) return;
  const Region mine(ends.server, kPage), other(ends.client, kPage);
  const auto result = ends.client.access->allocate(kPage, nullptr);
  REQUIRE_FALSE(result.error);
  const auto key = allowed(ends.client, result.memory, RemoteAccess::kRead);
  ends.client.access->free(result.memory, false);
  check_refused(ends.server, key, 0, mine, 100, RemoteAccess::kRead, other);
}

TEST_CASE("one-sided: what is no key names nothing") {
  const auto random = random_bytes(sizeof(RemoteKey), 14);
  RemoteKey invented;
  std::memcpy(invented.words.data(), random.data(), random.size());
  for (const int kind : {0, 1, 2, 3, 4, 5}) {
    Ends ends;
    if (!ends) return;
    const Region owned(ends.client, kPage), mine(ends.server, kPage);
    auto key = allowed(ends.client, owned.bytes(), RemoteAccess::kRead);
    if (kind == 0) key = {};
    if (kind == 1) key = invented;
    // A key with any word of it changed, as far as it uses that word.
    if (kind >= 2) {
      if (key.words[static_cast<std::size_t>(kind - 2)] == 0) continue;
      key.words[static_cast<std::size_t>(kind - 2)] ^= 0x5a5a5a5a5a5a5a5a;
    }
    INFO(kind);
    check_refused(ends.server, key, 0, mine, 100, RemoteAccess::kRead, owned);
  }
}

TEST_CASE("one-sided: a key is worth something on its own connection only") {
  Ends first, second;
  if (!first) return;
  const Region owned(first.client, kPage), mine(second.server, kPage), other(second.client, kPage);
  const auto key = allowed(first.client, owned.bytes(), RemoteAccess::kRead);
  allowed(second.client, other.bytes(), RemoteAccess::kRead);
  check_refused(second.server, key, 0, mine, 100, RemoteAccess::kRead, owned);
}

TEST_CASE("one-sided: memory that bytes go to or come from must have been added") {
  Ends ends;
  if (!ends || ends.maps()) return;
  const Region owned(ends.client, kPage);
  const auto key = allowed(ends.client, owned.bytes(), RemoteAccess::kRead);
  std::vector<std::byte> foreign(100);
  CHECK(ends.server.access->read(key, 0, foreign, 1).error);
  CHECK(ends.server.access->write(key, 0, foreign, 1).error);
}

// ---- ends ------------------------------------------------------------------------------

enum class Ending { kClose, kDestructor, kReset };

// The owner may reuse its memory as soon as its end of the connection is over.
TEST_CASE("one-sided: an ended connection ends all access") {
  for (const auto ending : {Ending::kClose, Ending::kDestructor, Ending::kReset}) {
    Ends ends;
    if (!ends) return;
    INFO(static_cast<int>(ending));
    std::vector<std::byte> data(1 << 20, std::byte{0x11});
    const bool allocated = static_cast<bool>(ends.client.access->add(data));
    MutableBytes owned(data);
    if (allocated) owned = ends.client.access->allocate(1 << 20, nullptr).memory;
    std::fill(owned.begin(), owned.end(), std::byte{0x11});
    const Region mine(ends.server, 1 << 20);
    mine.fill(std::byte{0x77});
    const auto key = allowed(ends.client, owned, RemoteAccess::kWrite);
    std::size_t open = 0;
    for (int i = 0; i < 8 && !ends.maps(); ++i) {
      const auto begun = ends.server.access->write(key, 0, mine.bytes(), 100);
      REQUIRE_FALSE(begun.error);
      if (begun.bytes != 0) ++open;
    }
    if (ending == Ending::kClose) ends.pair.client->close();
    if (ending == Ending::kDestructor) ends.pair.client.reset();
    if (ending == Ending::kReset) {
      ends.backend.reset(*ends.pair.client);
      end_of(*ends.pair.client);
      ends.pair.client->close();  // what every user of a broken connection does next
    }
    // From here on the memory is the owner's alone.
    std::fill(owned.begin(), owned.end(), std::byte{0x22});
    std::array<OneSidedCompletion, 4> ended;
    while (open > 0) {
      std::size_t count = 0;
      REQUIRE_FALSE(await_completions(ends.server, ended, count));
      REQUIRE(count <= open);
      open -= count;
    }
    if (!ends.maps()) {
      mine.fill(std::byte{0x77});
      CHECK(put(ends.server, key, 0, mine.part(0, 100)));
    } else {
      end_of(*ends.pair.server);
      CHECK(ends.server.access->mapped(key).bytes.empty());
    }
    CHECK(all(owned, std::byte{0x22}));
    if (allocated) ::munmap(owned.data(), owned.size());
  }
}

TEST_CASE("one-sided: accesses under way when the connection breaks end with an error, once each") {
  Ends ends;
  if (!ends || ends.maps()) return;
  const Region owned(ends.client, 4 << 20), mine(ends.server, 4 << 20);
  const auto key = allowed(ends.client, owned.bytes(), RemoteAccess::kRead);
  std::size_t open = 0;
  for (int i = 0; i < 8; ++i) {
    const auto begun = ends.server.access->read(key, 0, mine.bytes(), 100);
    REQUIRE_FALSE(begun.error);
    if (begun.bytes != 0) ++open;
  }
  ends.backend.reset(*ends.pair.server);
  std::array<OneSidedCompletion, 4> ended;
  while (open > 0) {
    std::size_t count = 0;
    REQUIRE_FALSE(await_completions(ends.server, ended, count));
    REQUIRE(count <= open);
    open -= count;
  }
  CHECK(end_of(*ends.pair.server) == TransportErrc::kReset);
  CHECK(ends.server.access->completed(ended) == 0);
  CHECK(fetch(ends.server, key, 0, mine.part(0, 100)));
}

TEST_CASE("one-sided: after close everything says kClosed, and memory can be given back") {
  Ends ends;
  if (!ends) return;
  const auto result = ends.client.access->allocate(kPage, nullptr);
  REQUIRE_FALSE(result.error);
  const auto key = allowed(ends.client, result.memory, RemoteAccess::kRead);
  ends.pair.client->close();
  RemoteKey another;
  CHECK(ends.client.access->allow(result.memory, RemoteAccess::kRead, another).code ==
        TransportErrc::kClosed);
  CHECK(ends.client.access->allocate(kPage, nullptr).error.code == TransportErrc::kClosed);
  std::vector<std::byte> data(kPage);
  CHECK(ends.client.access->add(data));
  CHECK(ends.client.access->mapped(key).bytes.empty());
  ends.client.access->revoke(key);
  ends.client.access->remove(data);
  result.memory[0] = std::byte{1};  // stays mapped until it is given back
  ends.client.access->free(result.memory, false);
}

// ---- threads ---------------------------------------------------------------------------

TEST_CASE("one-sided: after revoke the memory is the owner's alone, accesses under way or not") {
  for (int round = 0; round < 30; ++round) {
    Ends ends;
    if (!ends || ends.maps()) return;
    constexpr std::size_t kBytes = 1 << 20;
    const Region owned(ends.client, kBytes), mine(ends.server, kBytes);
    mine.fill(std::byte{0x77});
    const auto key = allowed(ends.client, owned.bytes(), RemoteAccess::kWrite);
    std::thread owner([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(round * 40));
      ends.client.access->revoke(key);
      owned.fill(std::byte{0x22});
    });
    TransportError error;
    for (int i = 0; i < 20 && !error; ++i) error = put(ends.server, key, 0, mine.bytes());
    owner.join();
    CHECK(put(ends.server, key, 0, mine.bytes()));
    CHECK(all(owned.bytes(), std::byte{0x22}));
  }
}

TEST_CASE("one-sided: memory is allowed and revoked by many threads while the peer reads") {
  Ends ends;
  if (!ends) return;
  constexpr int kThreads = 4, kRounds = 100;
  constexpr std::size_t kBytes = 40'000;
  const Region owned(ends.client, kThreads * kBytes), into(ends.server, kBytes);
  struct Request {
    RemoteKey key;
    std::byte value{};
    std::atomic<bool> asked{false}, answered{false};
  };
  std::array<Request, kThreads> requests;
  std::atomic<int> failures{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      auto& request = requests[static_cast<std::size_t>(t)];
      const auto range = owned.part(static_cast<std::size_t>(t) * kBytes, kBytes);
      for (int i = 0; i < kRounds && !stop; ++i) {
        request.value = static_cast<std::byte>(t * 50 + i);
        std::fill(range.begin(), range.end(), request.value);
        if (ends.client.access->allow(range, RemoteAccess::kRead, request.key)) ++failures;
        request.answered = false;
        request.asked = true;
        while (!request.answered && !stop) std::this_thread::yield();
        ends.client.access->revoke(request.key);
      }
    });
  }
  const auto until = soon();
  int answers = 0;
  while (answers < kThreads * kRounds && std::chrono::steady_clock::now() < until) {
    for (auto& request : requests) {
      if (!request.asked.exchange(false)) continue;
      if (fetch(ends.server, request.key, 0, into.part(0, kBytes))) ++failures;
      if (!all(into.part(0, kBytes), request.value)) ++failures;
      ++answers;
      request.answered = true;
    }
  }
  stop = true;
  for (auto& thread : threads) thread.join();
  CHECK(answers == kThreads * kRounds);
  CHECK(failures == 0);
}

TEST_CASE("one-sided: no descriptor is left behind") {
  const auto round = [] {
    Ends ends;
    if (!ends) return;
    const Region owned(ends.client, kPage), mine(ends.server, kPage);
    const auto key = allowed(ends.client, owned.bytes(), RemoteAccess::kRead);
    CHECK_FALSE(fetch(ends.server, key, 0, mine.bytes()));
    if (!ends.maps()) CHECK(ends.server.access->read(key, 0, mine.bytes(), 1).bytes == kPage);
  };
  round();
  const auto before = open_descriptors();
  for (int i = 0; i < 10; ++i) round();
  // What the last round left to threads of its own ends soon.
  const auto until = soon();
  while (open_descriptors() != before && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(1ms);
  CHECK(open_descriptors() == before);
}

}  // namespace avec::contract
