// One end of a simulated link.
#pragma once

#include "transport/sim/context.h"
#include "transport/sim/one_sided.h"

namespace avec::sim {

class SimConnection final : public Connection {
 public:
  /// `end` says which end this is; the peer's name is for messages.
  SimConnection(std::shared_ptr<Context> context, std::shared_ptr<Link> link, Direction end,
                std::string peer);
  ~SimConnection() override;

  IoResult send(std::span<const ConstBytes> buffers) noexcept override;
  IoResult receive(std::span<const MutableBytes> buffers) noexcept override;
  TransportError wait(bool want_send, Deadline deadline) noexcept override;
  void wake() noexcept override { sleeper_.wake(); }
  void close() noexcept override;
  OneSided* one_sided() noexcept override {
    return link_->one_sided.kind == OneSidedKind::kNone ? nullptr : &one_sided_;
  }
  std::string peer() const override { return peer_; }
  bool same_host() const noexcept override { return true; }

 private:
  // With the mutex held.
  TransportError broken(bool sending) const;
  bool readable() const;
  bool writable() const;
  void take_over();
  std::size_t limited(std::size_t bytes);
  void transmit(ConstBytes bytes);

  Pipe& out() const { return link_->pipes[static_cast<int>(end_)]; }
  Pipe& in() const { return link_->pipes[1 - static_cast<int>(end_)]; }

  const std::shared_ptr<Context> context_;
  const std::shared_ptr<Link> link_;
  const Direction end_;
  const std::string peer_;
  Sleeper sleeper_;
  std::minstd_rand random_;  // sizes of short operations
  SimOneSided one_sided_;
};

}  // namespace avec::sim
