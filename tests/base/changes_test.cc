#include "base/changes.h"

#include <utility>
#include <vector>

#include "support/catch.h"

namespace {

using Runs = std::vector<std::pair<std::size_t, std::size_t>>;

Runs changes(const std::vector<std::byte>& now, const std::vector<std::byte>& before, std::size_t gap) {
  Runs runs;
  avec::find_changes(now.data(), before.data(), now.size(), gap,
                     [&](std::size_t offset, std::size_t bytes) { runs.emplace_back(offset, bytes); });
  return runs;
}

std::vector<std::byte> with(std::size_t size, std::initializer_list<std::size_t> changed) {
  std::vector<std::byte> bytes(size);
  for (const std::size_t at : changed) bytes[at] = std::byte{1};
  return bytes;
}

}  // namespace

TEST_CASE("memory that is the same has no changes, whatever its size") {
  for (const std::size_t size : {0u, 1u, 7u, 4096u, 10'001u}) {
    CHECK(changes(with(size, {}), with(size, {}), 0).empty());
  }
}

TEST_CASE("runs are exact without a gap, also inside of a word and across blocks") {
  const auto now = with(9001, {0, 1, 3, 4095, 4096, 9000});
  CHECK(changes(now, with(9001, {}), 0) == Runs{{0, 2}, {3, 1}, {4095, 2}, {9000, 1}});
}

TEST_CASE("equal bytes up to the gap join their neighbours, one more does not") {
  const auto now = with(4096, {100, 165});  // 64 equal bytes between them
  CHECK(changes(now, with(4096, {}), 64) == Runs{{100, 66}});
  CHECK(changes(now, with(4096, {}), 63) == Runs{{100, 1}, {165, 1}});
}

TEST_CASE("memory that has changed everywhere is one run") {
  std::vector<std::byte> now(100'003, std::byte{7});
  CHECK(changes(now, with(now.size(), {}), 0) == Runs{{0, now.size()}});
  CHECK(changes(now, with(now.size(), {}), 64) == Runs{{0, now.size()}});
}

TEST_CASE("applying the changes makes both the same") {
  std::vector<std::byte> now(20'000), before(20'000);
  unsigned state = 1;
  for (auto& byte : now) byte = static_cast<std::byte>(((state = state * 1664525 + 1013904223) >> 24) % 3);
  for (auto& byte : before) byte = static_cast<std::byte>(((state = state * 1664525 + 1013904223) >> 24) % 3);
  for (const std::size_t gap : {0u, 1u, 6u, 7u, 8u, 64u, 4096u}) {
    auto copy = before;
    std::size_t end = 0;
    for (const auto& [offset, bytes] : changes(now, before, gap)) {
      CHECK(offset >= end);
      end = offset + bytes;
      for (std::size_t i = offset; i < end; ++i) copy[i] = now[i];
    }
    CHECK(copy == now);
  }
}
