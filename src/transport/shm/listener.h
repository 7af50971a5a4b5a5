#pragma once

#include <memory>
#include <string>

#include "avec/transport.h"

namespace avec::shm {

/// Accepts on a socket of the Unix domain and takes the memory that each client offers.
class ShmListener final : public Listener {
 public:
  explicit ShmListener(std::unique_ptr<Listener> streams) : streams_(std::move(streams)) {}

  ConnectResult accept(Deadline deadline) noexcept override;
  void wake() noexcept override { streams_->wake(); }
  std::string address() const override;
  int poll_descriptor() const noexcept override { return streams_->poll_descriptor(); }

 private:
  const std::unique_ptr<Listener> streams_;
};

}  // namespace avec::shm
