// Where a session's connections come in: the one that carries frames, and its stripes.
#pragma once

#include <memory>
#include <mutex>

#include "executor/worker/opening.h"
#include "transport/tcp/stripes.h"

namespace avec::worker {

class Session;

class Door {
 public:
  explicit Door(Session& session) : session_(session) {}

  /// Takes a connection that has been checked (opening.h). Any thread. A stripe that nobody
  /// asked for is closed.
  wire::Answer<> enter(std::unique_ptr<Connection> connection, const wire::Preamble& preamble);

 private:
  Session& session_;
  std::mutex mutex_;
  std::shared_ptr<tcp::PeerStripes> stripes_;  // of the data connection; with the mutex
};

}  // namespace avec::worker
