#pragma once

#include <sys/types.h>

#include <string>

#include "transport/tcp/listener.h"
#include "transport/unix/context.h"

namespace avec::unix_domain {

/// Accepts as TCP's does, and takes the socket's file away at its end.
class UnixListener final : public Listener {
 public:
  UnixListener(Descriptor fd, Descriptor wake, std::string path);
  ~UnixListener() override;

  ConnectResult accept(Deadline deadline) noexcept override { return accepting_.accept(deadline); }
  void wake() noexcept override { accepting_.wake(); }
  std::string address() const override { return accepting_.address(); }
  int poll_descriptor() const noexcept override { return accepting_.poll_descriptor(); }

 private:
  const std::string path_;
  const pid_t process_;  // a child of fork does not take the file away
  dev_t device_ = 0;     // which file is ours: another executor may have replaced it
  ino_t number_ = 0;
  tcp::TcpListener accepting_;
};

}  // namespace avec::unix_domain
