#pragma once

#include <string>

#include "transport/tcp/context.h"

namespace avec::tcp {

class TcpListener final : public Listener {
 public:
  TcpListener(Descriptor fd, Descriptor wake, std::string address)
      : fd_(std::move(fd)), wake_(std::move(wake)), address_(std::move(address)) {}

  ConnectResult accept(Deadline deadline) noexcept override;
  void wake() noexcept override { signal_wake(wake_.get()); }
  std::string address() const override { return address_; }
  int poll_descriptor() const noexcept override { return fd_.get(); }

 private:
  const Descriptor fd_, wake_;
  const std::string address_;
};

}  // namespace avec::tcp
