// Makes functions of the running program jump to others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace avec::preload {

struct Redirection {
  std::uint64_t from = 0;  ///< entry of the function
  std::size_t room = 0;    ///< bytes from there that belong to it
  std::uint64_t to = 0;
};

struct RedirectResult {
  std::size_t done = 0;
  std::size_t too_small = 0;  ///< functions without room for any jump; left alone
  int error = 0;              ///< errno of what failed; then nothing was changed
};

/// All in one text segment. No other thread may run in it. Pages are never writable and
/// executable at once.
[[nodiscard]] RedirectResult redirect(std::span<const Redirection> redirections);

}  // namespace avec::preload
