// Shared memory as a backend of the contract's tests.
#pragma once

#include <sys/socket.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "transport/scratch.h"
#include "transport/shm/factory.h"

namespace avec::contract {

/// A transport each of whose ends can be made unable to say which host it is on.
class TwoEnds final : public Transport {
 public:
  TwoEnds() {
    for (auto& end : ends_) end = shm::make_transport();
  }
  void cannot(End end) { ends_[static_cast<std::size_t>(end)] = shm::make_transport("/dev/null"); }

  std::string_view scheme() const noexcept override { return ends_[0]->scheme(); }
  TransportError viable(std::string& detail) const override { return ends_[0]->viable(detail); }
  ConnectResult connect(std::string_view url, Deadline deadline) noexcept override {
    return ends_[0]->connect(url, deadline);
  }
  ListenResult listen(std::string_view url) noexcept override { return ends_[1]->listen(url); }
  std::string begins_at(std::string_view url) const override { return ends_[0]->begins_at(url); }
  ConnectResult upgrade(std::unique_ptr<Connection>& stream, End end, Deadline deadline) noexcept override {
    return ends_[static_cast<std::size_t>(end)]->upgrade(stream, end, deadline);
  }

 private:
  std::array<std::unique_ptr<Transport>, 2> ends_;
};

struct ShmBackend {
  avec::Transport& transport() { return ends; }
  void cannot(End end) { ends.cannot(end); }
  std::string listen_url() { return "shm://" + fresh_path(); }
  std::string absent_url() { return "shm://" + scratch() + "/absent.sock"; }
  std::vector<std::string> bad_urls() {
    return {"shm://",
            "shm://127.0.0.1:7700",
            "shm:///",
            "shm:///folder/",
            "shm:///" + std::string(107, 'x'),
            "unix:///run/avec.sock",
            ""};
  }
  std::string peer_prefix() { return "shm://"; }
  // As the end of a process does it: the socket ends, and no word says that this was in order.
  void reset(avec::Connection& connection) { ::shutdown(connection.poll_descriptor(), SHUT_RDWR); }

  TwoEnds ends;
};

}  // namespace avec::contract
