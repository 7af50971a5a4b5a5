// Processes that the benchmark starts: its own measuring processes and the executor.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "base/handle.h"

namespace avec::bench {

using Environment = std::vector<std::pair<std::string, std::string>>;

struct Finished {
  std::vector<std::string> lines;  ///< of its stdout
  bool ok = false;                 ///< exit status 0, within the deadline
};

/// Runs a program to its end; stderr is passed through, or thrown away when `quiet`.
Finished run(const std::vector<std::string>& command, const Environment& environment,
             std::chrono::seconds limit, bool quiet = false);

/// `avec serve` on a free loopback port, as long as this object lives.
class Executor {
 public:
  /// url() is empty when it did not start.
  Executor(const std::string& program, const std::string& wait, const std::string& device);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  const std::string& url() const { return url_; }
  int pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  Descriptor output_;
  std::string url_;
};

}  // namespace avec::bench
