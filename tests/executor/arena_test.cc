// Chunks for one-sided accesses: which are handed out where not all can be reached.
#include "base/limits.h"
#include "executor/recording_driver.h"
#include "executor/worker/arena.h"
#include "support/catch.h"

namespace avec::test {
namespace {

constexpr std::size_t kChunk = 1u << 20;

}  // namespace

TEST_CASE("Where only some chunks can be added, accesses get those and other payload any") {
  const worker::DriverTable driver = recording_driver();
  worker::Arena arena(driver, kChunk, 4 * kChunk);
  std::size_t adds = 0, added = 0;
  arena.add = [&](MutableBytes) { return ++adds <= 2 ? ++added, true : false; };
  arena.remove = [&](MutableBytes) { --added; };
  worker::Chunk* first = arena.acquire(0, true);
  worker::Chunk* second = arena.acquire(0, true);
  REQUIRE(first != nullptr);
  REQUIRE(second != nullptr);
  CHECK(first->reachable);
  CHECK(arena.acquire(0, true) == nullptr);
  CHECK_FALSE(arena.unreachable());  // two are, later
  worker::Chunk* third = arena.acquire(0);
  worker::Chunk* fourth = arena.acquire(0);
  REQUIRE(third != nullptr);
  REQUIRE(fourth != nullptr);
  CHECK_FALSE(third->reachable);
  CHECK(arena.acquire(0) == nullptr);
  CHECK(adds == 3);  // not tried again
  arena.release(fourth);
  CHECK(arena.acquire(0, true) == nullptr);
  arena.release(second);
  CHECK(arena.acquire(0, true) == second);
  arena.release(first);
  arena.release(second);
  arena.release(third);
  arena.clear();
  CHECK(added == 0);
}

TEST_CASE("Where no chunk can be added it is said, and other payload has the arena as before") {
  const worker::DriverTable driver = recording_driver();
  worker::Arena arena(driver, kChunk, 2 * kChunk);
  arena.add = [](MutableBytes) { return false; };
  CHECK_FALSE(arena.unreachable());
  CHECK(arena.acquire(0, true) == nullptr);
  CHECK(arena.unreachable());
  CHECK(arena.acquire_piece(100, true).data == nullptr);
  CHECK(arena.acquire_piece(100).data != nullptr);
  CHECK(arena.acquire(0) != nullptr);
  CHECK(arena.acquire(0) == nullptr);
}

TEST_CASE("Small accesses share a reachable chunk, which other small payload leaves") {
  const worker::DriverTable driver = recording_driver();
  worker::Arena arena(driver, kChunk, 3 * kChunk);
  bool can = false;
  arena.add = [&](MutableBytes) { return can; };
  can = true;
  const auto one = arena.acquire_piece(1000, true);
  const auto two = arena.acquire_piece(1000, true);
  REQUIRE(one.data != nullptr);
  CHECK(one.chunk == two.chunk);
  CHECK(one.chunk->reachable);
  CHECK(two.data - one.data == 1024);
  // It is as good for payload of the stream.
  CHECK(arena.acquire_piece(1000).chunk == one.chunk);
}

}  // namespace avec::test
