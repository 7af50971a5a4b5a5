// Rows as text, in the manner of perftest: a line of column heads, then one line a row.
#pragma once

#include <optional>
#include <string>

#include "row.h"

namespace avec::bench {

class Table {
 public:
  /// Prints a row to stdout, heads first where they change.
  void print(const Row& row, std::optional<double> native_ratio);

 private:
  std::string heads_;
};

/// A bar on stderr; nothing where that is no terminal.
class Progress {
 public:
  explicit Progress(std::size_t steps);
  ~Progress() { clear(); }
  /// What is being measured now.
  void step(const std::string& what);
  void clear();

 private:
  const bool terminal_;
  const std::size_t steps_;
  std::size_t done_ = 0;
};

}  // namespace avec::bench
