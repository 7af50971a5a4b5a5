// Processes that the benchmark starts: its own measuring processes and the executor.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
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

/// Runs a program to its end; stderr is passed through, or thrown away when `quiet`. `on_line` is
/// told each line as it comes.
Finished run(const std::vector<std::string>& command, const Environment& environment,
             std::chrono::seconds limit, bool quiet = false,
             const std::function<void(const std::string&)>& on_line = {});

/// A program that serves as long as this object lives.
class Server {
 public:
  /// Starts it and waits for the line "listening on URL".
  Server(const std::vector<std::string>& command, const Environment& environment);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Empty when it did not start.
  const std::string& url() const { return url_; }
  int pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  Descriptor output_;
  std::string url_;
};

/// `avec serve` on a free port of `address`.
class Executor : public Server {
 public:
  Executor(const std::string& program, const std::string& address, const std::string& wait,
           const std::string& device);
};

/// This program's own path.
std::string own_program();

/// `avec bench proxy` to a TCP address.
class ProxyProcess : public Server {
 public:
  ProxyProcess(const std::string& to, const std::string& shape);
};

}  // namespace avec::bench
