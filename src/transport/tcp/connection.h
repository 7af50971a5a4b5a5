// One connection over a stream socket, of TCP or of the Unix domain: non-blocking gathers and
// scatters on the descriptor, a wait on it and on an eventfd. Encrypted ones do the same through a tls::Channel.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "transport/tcp/context.h"
#include "transport/tcp/stripes.h"
#include "transport/tls/channel.h"

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
  int poll_descriptor() const noexcept override { return all_ ? all_.get() : fd_.get(); }
  bool arm() noexcept override { return tls_ == nullptr || !tls_->has_received(); }
  std::string reason() const override { return tls_ == nullptr ? std::string() : tls_->reason(); }
  OneSided* one_sided() noexcept override { return stripes_.get(); }
  std::string peer() const override { return peer_; }
  bool same_host() const noexcept override { return same_host_; }

  int descriptor() const noexcept { return fd_.get(); }
  /// One-sided access beside the stream from now on. False: out of descriptors.
  bool use(std::shared_ptr<Stripes> stripes, End end);
  int release_descriptor() noexcept { return fd_.release(); }
  /// Encrypts from here on; both ends at the same point of the stream. On failure the connection is to be closed,
  /// and reason() says why.
  TransportError secure(std::shared_ptr<const tls::Context> context, const std::string& name, Deadline deadline);
  /// Null: it is not encrypted.
  const tls::Channel* tls() const noexcept { return tls_.get(); }

 private:
  TcpConnection(Descriptor fd, Descriptor wake, std::string peer, bool same_host);

  IoResult failed(TransportError error) noexcept;
  IoResult nothing() noexcept;
  IoResult told(IoResult of_tls) noexcept;

  Descriptor fd_;          // empty once closed
  const Descriptor wake_;  // lives as long as this, so that wake() of any thread finds it
  const std::string peer_;
  const bool is_unix_;  // what was sent lies with the peer already
  const bool same_host_;
  std::shared_ptr<Stripes> stripes_;  // with their own threads, or whoever brings new ones
  Descriptor all_;                    // epoll over fd_ and what the stripes have to tell
  std::unique_ptr<tls::Channel> tls_;
};

}  // namespace avec::tcp
