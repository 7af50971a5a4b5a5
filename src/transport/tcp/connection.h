// One connection over a stream socket, of TCP or of the Unix domain: non-blocking gathers and
// scatters on the descriptor, a wait on it and on an eventfd.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "transport/tcp/context.h"

namespace avec::tcp {

class TcpConnection final : public Connection {
 public:
  /// Null when the process is out of descriptors or `fd` is not connected.
  static std::unique_ptr<TcpConnection> make(Descriptor fd);
  ~TcpConnection() override;

  IoResult send(std::span<const ConstBytes> buffers) noexcept override;
  IoResult receive(std::span<const MutableBytes> buffers) noexcept override;
  TransportError wait(bool want_send, Deadline deadline) noexcept override;
  void wake() noexcept override;
  void close() noexcept override;
  int poll_descriptor() const noexcept override { return fd_.get(); }
  std::string peer() const override { return peer_; }
  bool same_host() const noexcept override { return same_host_; }

  int descriptor() const noexcept { return fd_.get(); }
  int release_descriptor() noexcept { return fd_.release(); }

 private:
  TcpConnection(Descriptor fd, Descriptor wake, std::string peer, bool same_host);

  Descriptor fd_;          // empty once closed
  const Descriptor wake_;  // lives as long as this, so that wake() of any thread finds it
  const std::string peer_;
  const bool is_unix_;     // what was sent lies with the peer already
  const bool same_host_;
};

}  // namespace avec::tcp
