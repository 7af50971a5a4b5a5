#pragma once

#include "transport/sim/context.h"

namespace avec::sim {

class SimListener final : public Listener {
 public:
  SimListener(std::shared_ptr<Context> context, std::shared_ptr<ListenQueue> queue, std::string name);
  ~SimListener() override;

  ConnectResult accept(Deadline deadline) noexcept override;
  void wake() noexcept override { queue_->sleeper.wake(); }
  std::string address() const override { return "sim://" + name_; }

 private:
  const std::shared_ptr<Context> context_;
  const std::shared_ptr<ListenQueue> queue_;
  const std::string name_;
};

}  // namespace avec::sim
