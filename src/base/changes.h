// Where two pieces of memory differ.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace avec {

/// Calls `found(offset, length)` for each run of bytes of `now` that differ from `before`, ascending.
/// Runs with at most `gap` equal bytes between them become one; 0: exact runs. Every run begins and
/// ends with a byte that differs. `now` may change meanwhile: what changes later may be missed.
template <class Found>
void find_changes(const std::byte* now, const std::byte* before, std::size_t bytes, std::size_t gap, Found&& found) {
  // Compared at once: as long as nothing differs, memcmp is as fast as memory is.
  constexpr std::size_t kBlock = 4096, kWord = 8;
  std::size_t run = 0, end = 0;  // the run that is open, if end is not 0
  const auto differs = [&](std::size_t at) {
    if (end != 0 && at - end > gap) {
      found(run, end - run);
      end = 0;
    }
    if (end == 0) run = at;
    end = at + 1;
  };
  for (std::size_t block = 0; block < bytes; block += kBlock) {
    const std::size_t size = bytes - block < kBlock ? bytes - block : kBlock;
    if (std::memcmp(now + block, before + block, size) == 0) continue;
    std::size_t at = block;
    for (const std::size_t words = block + size / kWord * kWord; at < words; at += kWord) {
      std::uint64_t a, b;
      std::memcpy(&a, now + at, kWord);
      std::memcpy(&b, before + at, kWord);
      const std::uint64_t difference = a ^ b;
      if (difference == 0) continue;
      const auto first = static_cast<std::size_t>(std::countr_zero(difference)) / 8;
      const auto last = kWord - 1 - static_cast<std::size_t>(std::countl_zero(difference)) / 8;
      differs(at + first);
      if (gap < kWord) {
        for (std::size_t i = first + 1; i < last; ++i) {
          if ((difference >> (8 * i) & 0xff) != 0) differs(at + i);
        }
      }
      if (last != first) differs(at + last);
    }
    for (; at < block + size; ++at) {
      if (now[at] != before[at]) differs(at);
    }
  }
  if (end != 0) found(run, end - run);
}

}  // namespace avec
