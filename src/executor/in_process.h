// An executor inside this process, on any registered transport: sessions are threads instead of
// processes. For tests, embedding, and trying things; a kernel's fault or a driver that crashes
// takes the process with it, which is why `avec serve` uses a process for each session.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "avec/transport.h"
#include "executor/worker/session.h"

namespace avec {

class InProcessExecutor {
 public:
  struct Options {
    std::string listen = "sim://executor";
    /// Empty: whoever comes is admitted.
    std::string token;
    /// Driver, device kind, waiting, cache: as of each session.
    worker::SessionOptions session;
    /// Used instead of find_transport(listen)->listen(listen), where a test has its own network.
    std::function<ListenResult(const std::string& url)> listener;
    /// Told when a session has ended; on the session's thread.
    std::function<void(const worker::SessionReport&)> ended;
  };

  /// Listens and serves until stop(). On failure null, and `problem` says why.
  static std::unique_ptr<InProcessExecutor> start(Options options, std::string& problem);
  virtual ~InProcessExecutor() = default;
  /// The address that clients use.
  virtual std::string address() const = 0;
  /// Sessions under way.
  virtual std::size_t sessions() const = 0;
  /// Ends every session and waits for its thread. Idempotent; the destructor does it.
  virtual void stop() = 0;
};

}  // namespace avec
