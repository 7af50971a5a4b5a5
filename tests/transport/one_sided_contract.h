// The contract of one_sided.h as tests, for connections that have it. Included by contract.h.
//
// Who owns memory is called the owner, who reaches it the peer; in most cases the client owns, as
// in a session. Where the peer has the memory mapped, reading and writing are memcpy.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <set>

#include "transport/one_sided_support.h"

namespace avec::contract {

// ---- memory of an end ------------------------------------------------------------------

TEST_CASE("one-sided: traits stay the same, and are the same at both ends where it matters") {
  Ends ends;
  if (!ends) return;
  const auto first = ends.client.access->traits(), second = ends.client.access->traits();
  CHECK(first.maps == second.maps);
  CHECK(first.ordered == second.ordered);
  CHECK(first.maps == ends.server.access->traits().maps);
  CHECK(first.ordered == ends.server.access->traits().ordered);
}

TEST_CASE("one-sided: allocated memory is zeroed, writable, whole pages") {
  Ends ends;
  if (!ends) return;
  const Region region(ends.client, 5 * kPage);
  CHECK(region.bytes().size() == 5 * kPage);
  CHECK(reinterpret_cast<std::uintptr_t>(region.bytes().data()) % kPage == 0);
  CHECK(all(region.bytes(), std::byte{0}));
  region.fill(std::byte{7});
  CHECK(all(region.bytes(), std::byte{7}));
}

/// Whether the kernel can read a byte there.
inline bool is_readable(const void* at) {
  int ends[2];
  if (::pipe(ends) != 0) return false;
  const bool readable = ::write(ends[1], at, 1) == 1;
  ::close(ends[0]);
  ::close(ends[1]);
  return readable;
}

TEST_CASE("one-sided: memory is allocated where it is wished, and its addresses may stay reserved") {
  Ends ends;
  if (!ends) return;
  constexpr std::size_t kBytes = 16 * kPage;
  void* const reserved = ::mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(reserved != MAP_FAILED);
  void* const wish = static_cast<std::byte*>(reserved) + 4 * kPage;
  for (int round = 0; round < 2; ++round) {
    const auto result = ends.client.access->allocate(8 * kPage, wish);
    REQUIRE_FALSE(result.error);
    REQUIRE(static_cast<void*>(result.memory.data()) == wish);
    REQUIRE(result.memory.size() == 8 * kPage);
    CHECK(all(result.memory, std::byte{0}));
    std::fill(result.memory.begin(), result.memory.end(), std::byte{1});
    CHECK(is_readable(wish));
    ends.client.access->free(result.memory, true);
    CHECK_FALSE(is_readable(wish));
    // Still taken: nothing else may be mapped there.
    CHECK(::msync(wish, 8 * kPage, MS_ASYNC) == 0);
  }
  ::munmap(reserved, kBytes);
}

TEST_CASE("one-sided: memory that was not added cannot be allowed, not even a byte of it") {
  Ends ends;
  if (!ends) return;
  std::vector<std::byte> foreign(kPage);
  RemoteKey key;
  CHECK(ends.client.access->allow(foreign, RemoteAccess::kRead, key));
  const Region region(ends.client, 2 * kPage);
  const MutableBytes beyond(region.bytes().data() + kPage, kPage + 1);
  CHECK(ends.client.access->allow(beyond, RemoteAccess::kRead, key));
  const MutableBytes before(region.bytes().data() - 1, kPage);
  CHECK(ends.client.access->allow(before, RemoteAccess::kWrite, key));
}

TEST_CASE("one-sided: a caller's memory is reached once added, and no more once removed") {
  Ends ends;
  if (!ends) return;
  auto data = random_bytes(100'000, 3);
  const auto error = ends.client.access->add(data);
  if (error) {
    CHECK(error.code == TransportErrc::kNotViable);
    return;
  }
  const auto key = allowed(ends.client, MutableBytes(data).subspan(11, 50'000), RemoteAccess::kRead);
  const Region into(ends.server, 50'000);
  REQUIRE_FALSE(fetch(ends.server, key, 0, into.part(0, 50'000)));
  CHECK(same(into.part(0, 50'000), ConstBytes(data).subspan(11, 50'000)));
  ends.client.access->revoke(key);
  ends.client.access->remove(data);
  RemoteKey none;
  CHECK(ends.client.access->allow(data, RemoteAccess::kRead, none));
}

TEST_CASE("one-sided: memory that was added twice stays until it has been removed twice") {
  Ends ends;
  if (!ends) return;
  auto data = random_bytes(20'000, 4);
  if (ends.client.access->add(data)) return;  // only allocated memory can be reached
  REQUIRE_FALSE(ends.client.access->add(data));
  ends.client.access->remove(data);
  const auto key = allowed(ends.client, data, RemoteAccess::kRead);
  const Region into(ends.server, data.size());
  CHECK_FALSE(fetch(ends.server, key, 0, into.part(0, data.size())));
  CHECK(same(into.part(0, data.size()), data));
  ends.client.access->revoke(key);
  ends.client.access->remove(data);
  RemoteKey none;
  CHECK(ends.client.access->allow(data, RemoteAccess::kRead, none));
}

// ---- bytes -----------------------------------------------------------------------------

TEST_CASE("one-sided: a read fetches the bytes of the range, at any offset and size") {
  Ends ends;
  if (!ends) return;
  const auto data = random_bytes(300'000, 5);
  const Region source(ends.client, data.size());
  source.fill(data);
  const auto key = allowed(ends.client, source.part(3, 250'001), RemoteAccess::kRead);
  const Region into(ends.server, 300'000);
  for (const auto& [offset, size, at] : std::vector<std::array<std::size_t, 3>>{
           {0, 250'001, 0}, {0, 1, 1}, {250'000, 1, 4097}, {13, 4096, 7}, {4095, 65'537, 4095}, {1, 8, 0}}) {
    INFO(offset << " + " << size << " into " << at);
    into.fill(std::byte{0xee});
    REQUIRE_FALSE(fetch(ends.server, key, offset, into.part(at, size)));
    CHECK(same(into.part(at, size), ConstBytes(data).subspan(3 + offset, size)));
    CHECK(all(into.part(0, at), std::byte{0xee}));
    CHECK(all(into.bytes().subspan(at + size), std::byte{0xee}));
  }
}

TEST_CASE("one-sided: a write puts the bytes there and nowhere else") {
  Ends ends;
  if (!ends) return;
  const auto data = random_bytes(300'000, 6);
  const Region from(ends.server, data.size()), range(ends.client, data.size());
  from.fill(data);
  const auto key = allowed(ends.client, range.part(5, 290'000), RemoteAccess::kWrite);
  for (const auto& [offset, size, at] : std::vector<std::array<std::size_t, 3>>{
           {0, 290'000, 0}, {0, 1, 9}, {289'999, 1, 0}, {4091, 4096, 1}, {7, 70'001, 4097}}) {
    INFO(offset << " + " << size << " from " << at);
    range.fill(std::byte{0xdd});
    REQUIRE_FALSE(put(ends.server, key, offset, from.part(at, size)));
    tell(ends.server, ends.client);
    CHECK(same(range.part(5 + offset, size), ConstBytes(data).subspan(at, size)));
    CHECK(all(range.part(0, 5 + offset), std::byte{0xdd}));
    CHECK(all(range.bytes().subspan(5 + offset + size), std::byte{0xdd}));
  }
}

TEST_CASE("one-sided: a write whose end is known is seen by the owner before bytes sent then") {
  Ends ends;
  if (!ends) return;
  const Region from(ends.server, kPage), range(ends.client, kPage);
  const auto key = allowed(ends.client, range.bytes(), RemoteAccess::kWrite);
  for (int i = 1; i <= 200; ++i) {
    from.fill(static_cast<std::byte>(i));
    REQUIRE_FALSE(put(ends.server, key, 0, from.bytes()));
    tell(ends.server, ends.client);
    REQUIRE(all(range.bytes(), static_cast<std::byte>(i)));
  }
}

TEST_CASE("one-sided: where writes are ordered they are seen before bytes of the stream sent after them") {
  Ends ends;
  if (!ends || ends.maps() || !ends.server.access->traits().ordered) return;
  const Region from(ends.server, 16 * kPage), range(ends.client, 16 * kPage);
  const auto key = allowed(ends.client, range.bytes(), RemoteAccess::kWrite);
  for (int i = 1; i <= 200; ++i) {
    from.fill(static_cast<std::byte>(i));
    REQUIRE(ends.server.access->write(key, 0, from.bytes(), 1).bytes == from.bytes().size());
    tell(ends.server, ends.client);
    REQUIRE(all(range.bytes(), static_cast<std::byte>(i)));
    OneSidedCompletion ended;
    std::size_t count = 0;
    REQUIRE_FALSE(await_completions(ends.server, {&ended, 1}, count));
    REQUIRE_FALSE(ended.error);
  }
}

/// What one end does with memory of the other in the case below; no checks, for it is a thread.
struct Traffic {
  static constexpr std::size_t kBytes = 2 << 20;
  Traffic(const Side& self, const Side& owner, std::uint32_t seed)
      : self(self),
        owner(owner),
        source(owner, kBytes),
        target(owner, kBytes),
        mine(self, kBytes),
        data(random_bytes(kBytes, seed)) {
    source.fill(data);
  }
  void run() {
    for (int i = 0; i < 10 && !error; ++i) {
      error = fetch(self, readable, 0, mine.bytes());
      if (!error && !same(mine.bytes(), data)) error = {TransportErrc::kInternal, EILSEQ};
      if (!error) error = put(self, writable, 0, mine.bytes());
      if (!error && !same(target.bytes(), data)) error = {TransportErrc::kInternal, EILSEQ};
    }
  }
  const Side self, owner;
  const Region source, target, mine;
  const std::vector<std::byte> data;
  RemoteKey readable, writable;
  TransportError error;
};

TEST_CASE("one-sided: each end reaches memory of the other, at the same time") {
  Ends ends;
  if (!ends) return;
  Traffic up(ends.client, ends.server, 8), down(ends.server, ends.client, 9);
  for (auto* way : {&up, &down}) {
    const auto error = way->owner.access->allow(way->source.bytes(), RemoteAccess::kRead, way->readable);
    if (error.code == TransportErrc::kNotViable) return;  // only the client's memory is reached
    REQUIRE_FALSE(error);
    way->writable = allowed(way->owner, way->target.bytes(), RemoteAccess::kWrite);
  }
  std::thread other([&] { down.run(); });
  up.run();
  other.join();
  CHECK(up.error.code == TransportErrc::kNone);
  CHECK(down.error.code == TransportErrc::kNone);
}

TEST_CASE("one-sided: bytes of the stream and accesses do not disturb each other") {
  Ends ends;
  if (!ends) return;
  constexpr std::size_t kBytes = 1 << 20;
  const auto data = random_bytes(kBytes, 31), text = random_bytes(3 * kBytes, 32);
  const Region source(ends.client, kBytes), into(ends.server, kBytes);
  source.fill(data);
  const auto key = allowed(ends.client, source.bytes(), RemoteAccess::kRead);
  TransportError sending;
  std::thread client([&] { sending = send_all(*ends.client.connection, text); });
  std::vector<std::byte> got;
  for (int i = 0; i < 3; ++i) {
    CHECK_FALSE(fetch(ends.server, key, 0, into.bytes()));
    CHECK(same(into.part(0, kBytes), data));
    into.fill(std::byte{0});
    CHECK_FALSE(receive_all(*ends.server.connection, got, kBytes));
  }
  client.join();
  CHECK_FALSE(sending);
  CHECK((got == text));
}

// ---- completions -----------------------------------------------------------------------

TEST_CASE("one-sided: completions come back once each, and what would block is not lost") {
  Ends ends;
  if (!ends || ends.maps()) return;
  constexpr std::size_t kOne = 1000, kCount = 3000;
  const auto data = random_bytes(kOne * kCount, 10);
  const Region source(ends.client, data.size()), into(ends.server, data.size());
  source.fill(data);
  const auto key = allowed(ends.client, source.part(0, data.size()), RemoteAccess::kRead);
  std::set<std::uint64_t> open;
  std::array<OneSidedCompletion, 7> ended;
  std::size_t begun = 0, finished = 0, count = 0;
  while (finished < kCount) {
    while (begun < kCount) {
      const auto result =
          ends.server.access->read(key, begun * kOne, into.part(begun * kOne, kOne), 77 + begun);
      REQUIRE_FALSE(result.error);
      if (result.bytes == 0) break;
      REQUIRE(result.bytes == kOne);
      REQUIRE(open.insert(77 + begun).second);
      ++begun;
    }
    REQUIRE_FALSE(open.empty());  // with nothing under way nothing can block
    REQUIRE_FALSE(await_completions(ends.server, ended, count));
    for (std::size_t i = 0; i < count; ++i) {
      REQUIRE_FALSE(ended[i].error);
      REQUIRE(open.erase(ended[i].token) == 1);
      ++finished;
    }
  }
  CHECK(ends.server.access->completed(ended) == 0);
  CHECK(same(into.part(0, data.size()), data));
}

TEST_CASE("one-sided: an access that ends wakes a wait and makes the descriptor readable") {
  Ends ends;
  if (!ends || ends.maps()) return;
  const Region source(ends.client, kPage), into(ends.server, kPage);
  const auto key = allowed(ends.client, source.bytes(), RemoteAccess::kRead);
  OneSidedCompletion ended;
  for (int i = 0; i < 50; ++i) {
    REQUIRE(ends.server.access->read(key, 0, into.bytes(), 5).bytes == kPage);
    std::size_t count = 0;
    const auto until = soon();
    while ((count = ends.server.access->completed({&ended, 1})) == 0) {
      if (i % 2 == 0 || ends.server.connection->poll_descriptor() < 0) {
        REQUIRE_FALSE(ends.server.connection->wait(false, until));
      } else if (ends.server.connection->arm()) {
        REQUIRE(poll_readable(ends.server.connection->poll_descriptor(), 20s));
        // The descriptor may say no more than "look": a wait takes that word back.
        count = ends.server.access->completed({&ended, 1});
        if (count != 0) break;
        ends.server.connection->wait(false, in(-1ms));
      }
    }
    CHECK(ended.token == 5);
    CHECK_FALSE(ended.error);
  }
}

TEST_CASE("one-sided: many accesses, small and large, both ways, move the right bytes") {
  Ends ends;
  if (!ends || ends.maps()) return;
  constexpr std::size_t kBytes = 8 << 20;
  const auto data = random_bytes(kBytes, 12);
  const Region source(ends.client, kBytes), target(ends.client, kBytes);
  const Region into(ends.server, kBytes), from(ends.server, kBytes);
  source.fill(data);
  from.fill(data);
  const auto readable = allowed(ends.client, source.bytes(), RemoteAccess::kRead);
  const auto writable = allowed(ends.client, target.bytes(), RemoteAccess::kWrite);
  std::minstd_rand random(13);
  std::size_t at = 0, open = 0;
  std::array<OneSidedCompletion, 16> ended;
  bool written = false;  // this part has been read, and is to be written
  std::size_t size = 1 + random() % 700'000;
  while (at < kBytes || open > 0) {
    if (at < kBytes) {
      const auto part = std::min(size, kBytes - at);
      const auto result = written ? ends.server.access->write(writable, at, from.part(at, part), at)
                                  : ends.server.access->read(readable, at, into.part(at, part), at);
      REQUIRE_FALSE(result.error);
      if (result.bytes != 0) {
        ++open;
        if (written) {
          at += part;
          size = 1 + random() % (random() % 2 == 0 ? 100 : 700'000);
        }
        written = !written;
        continue;
      }
    }
    REQUIRE(open > 0);
    std::size_t count = 0;
    REQUIRE_FALSE(await_completions(ends.server, ended, count));
    for (std::size_t i = 0; i < count; ++i) REQUIRE_FALSE(ended[i].error);
    REQUIRE(count <= open);
    open -= count;
  }
  tell(ends.server, ends.client);
  CHECK(same(into.bytes(), data));
  CHECK(same(target.bytes(), data));
}

}  // namespace avec::contract
