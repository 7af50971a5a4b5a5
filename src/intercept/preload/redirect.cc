#include "redirect.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "jump.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

namespace avec::preload {
namespace {

struct Range {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

std::uint64_t page_bytes() { return static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)); }

Range pages_of(std::span<const Redirection> redirections) {
  Range range{~std::uint64_t{0}, 0};
  for (const Redirection& r : redirections) {
    range.begin = std::min(range.begin, r.from);
    range.end = std::max(range.end, r.from + r.room);
  }
  const std::uint64_t page = page_bytes();
  range.begin -= range.begin % page;
  range.end += (page - range.end % page) % page;
  return range;
}

bool protect(const Range& range, int protection) {
  return ::mprotect(reinterpret_cast<void*>(range.begin), range.end - range.begin, protection) == 0;
}

/// Readable and writable memory that a near jump from anywhere in `text` reaches; null when the
/// neighbourhood is full.
std::byte* map_near(const Range& text, std::size_t bytes) {
  constexpr std::uint64_t kStep = std::uint64_t{1} << 20;
  for (std::uint64_t distance = kStep; distance + (text.end - text.begin) + bytes < kNearReach;
       distance += kStep) {
    for (const bool below : {false, true}) {
      if (below && distance + bytes > text.begin) continue;
      const std::uint64_t wish =
          (below ? text.begin - distance : text.end + distance) / page_bytes() * page_bytes();
      void* got = ::mmap(reinterpret_cast<void*>(wish), bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
      if (got == MAP_FAILED) continue;
      if (got == reinterpret_cast<void*>(wish)) return static_cast<std::byte*>(got);
      ::munmap(got, bytes);  // a kernel without MAP_FIXED_NOREPLACE chose another place
    }
  }
  return nullptr;
}

struct Plan {
  std::uint64_t at = 0;  ///< after the landing pad
  std::uint64_t to = 0;
  bool near = false;
};

}  // namespace

RedirectResult redirect(std::span<const Redirection> redirections) {
  RedirectResult result;
  if (redirections.empty()) return result;
  const Range text = pages_of(redirections);
  std::vector<Plan> plans;
  std::size_t near_count = 0;
  for (const Redirection& r : redirections) {
    const std::size_t pad = landing_pad_bytes({reinterpret_cast<const std::byte*>(r.from), r.room});
    const std::size_t room = r.room - pad;
    if (room < kNearBytes) {
      ++result.too_small;
      continue;
    }
    plans.push_back({.at = r.from + pad, .to = r.to, .near = room < kFarBytes});
    if (plans.back().near) ++near_count;
  }
  const std::size_t slot = (kFarBytes + 15) / 16 * 16;
  const std::size_t island_bytes = near_count * slot;
  std::byte* island = nullptr;
  if (near_count > 0) {
    island = map_near(text, island_bytes);
    if (island == nullptr) {
      result.error = ENOMEM;
      return result;
    }
  }
  if (!protect(text, PROT_READ | PROT_WRITE)) {
    result.error = errno;
    if (island != nullptr) ::munmap(island, island_bytes);
    return result;
  }
  std::byte* next = island;
  for (const Plan& plan : plans) {
    auto* at = reinterpret_cast<std::byte*>(plan.at);
    if (plan.near) {
      write_far_jump(next, plan.to);
      write_near_jump(at, plan.at, reinterpret_cast<std::uint64_t>(next));
      next += slot;
    } else {
      write_far_jump(at, plan.to);
    }
    ++result.done;
  }
  if (!protect(text, PROT_READ | PROT_EXEC)) result.error = errno;
  if (island != nullptr && ::mprotect(island, island_bytes, PROT_READ | PROT_EXEC) != 0) result.error = errno;
  __builtin___clear_cache(reinterpret_cast<char*>(text.begin), reinterpret_cast<char*>(text.end));
  if (island != nullptr)
    __builtin___clear_cache(reinterpret_cast<char*>(island), reinterpret_cast<char*>(island + island_bytes));
  return result;
}

}  // namespace avec::preload
