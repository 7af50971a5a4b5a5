// Links that break where a test says.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "avec/transport.h"
#include "support/catch.h"
#include "transport/sim/factory.h"

namespace avec::test {

/// A simulated network under a scheme of its own. Every session makes two links, control and
/// data; faults happen to a session's first data link.
class Network final : public Transport {
 public:
  static Network& make() {
    static std::atomic<int> next{0};
    auto made = std::unique_ptr<Network>(new Network("resume" + std::to_string(++next)));
    Network& network = *made;
    REQUIRE(register_transport(std::move(made)));
    return network;
  }
  std::string url() const { return scheme_ + "://executor"; }

  std::string_view scheme() const noexcept override { return scheme_; }
  TransportError viable(std::string&) const override { return {}; }
  ConnectResult connect(std::string_view, Deadline deadline) noexcept override {
    if (++connects_ == 2) network.set_next_faults(data_faults_);
    return network.connect("sim://executor", deadline);
  }
  ListenResult listen(std::string_view) noexcept override { return network.listen("sim://executor"); }

  /// For the session that is opened next.
  void arm(const sim::Faults& faults) {
    data_faults_ = faults;
    connects_ = 0;
  }

  sim::SimNetwork network;

 private:
  explicit Network(std::string scheme) : scheme_(std::move(scheme)) {}
  const std::string scheme_;
  std::atomic<int> connects_{0};
  sim::Faults data_faults_;
};

}  // namespace avec::test
