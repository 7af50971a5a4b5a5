// A connection of a client with the broker, from its first byte until it is a session's control connection or
// has been passed on to a worker.
#pragma once

#include <array>
#include <asio.hpp>
#include <asio/ssl.hpp>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>

#include "executor/broker/broker.h"
#include "transport/tls/context.h"
#include "wire/handshake.h"

namespace avec::broker {

// Connections of TCP and of the Unix domain alike.
using Stream = asio::generic::stream_protocol;

/// The address of a TCP socket; none for one of the Unix domain.
std::optional<asio::ip::tcp::endpoint> as_tcp(const Stream::endpoint& endpoint);

class Client;

/// What connections need of the server, which outlives them. Everything runs on the thread of `io`.
class Reception {
 public:
  explicit Reception(const Options& options) : options(options) {}
  virtual ~Reception() = default;
  virtual void pass_data(Client& client, const wire::Preamble& preamble) = 0;
  virtual void begin_session(const std::shared_ptr<Client>& client, const wire::Introduction& introduction) = 0;

  const Options& options;
  asio::io_context io{1};
  /// Null: there is nothing to authenticate with by TLS.
  std::shared_ptr<const tls::Context> tls;
  /// The same as Asio wants it.
  std::unique_ptr<asio::ssl::context> asio_tls;
  /// Connections that nobody knows yet, oldest first.
  std::list<std::weak_ptr<Client>> pending;
};

class Client : public std::enable_shared_from_this<Client> {
 public:
  Client(Reception& reception, Stream::socket socket);
  /// Among the pending ones until it is known; drops the oldest beyond the limit.
  void begin();
  /// No longer one of the connections that nobody knows.
  void settled();
  void drop();
  void refuse(wire::RefusalCode code, const std::string& message);
  void send(wire::Bytes bytes, bool then_close);
  /// Reads until the peer closes; then tells.
  void watch(std::function<void()> closed);

  const std::string& from() const { return from_; }
  /// Who has authenticated, for the log: "token", the name of a certificate, or "nobody".
  const std::string& identity() const { return identity_; }
  bool is_open() const { return socket_.is_open(); }
  int descriptor() { return socket_.native_handle(); }
  wire::BrokerHandshake& handshake() { return handshake_; }
  /// Whether data connections of its session shall be encrypted.
  bool encrypts(const wire::Introduction& introduction) const;

 private:
  void peek();
  void start_tls();
  void secured();
  void start_control();
  void answer_control();
  void read_message();
  void admitted();
  bool may_be_in_clear() const;
  void refused(const std::string& why);
  template <class Buffer, class Handler>
  void read(const Buffer& buffer, Handler handler);

  Reception& reception_;
  Stream::socket socket_;
  std::optional<asio::ssl::stream<Stream::socket&>> tls_;
  asio::steady_timer deadline_, again_;
  wire::BrokerHandshake handshake_;
  wire::MessageReceiver message_;
  std::array<std::byte, wire::kPreambleBytes> preamble_{};
  std::list<wire::Bytes> sending_;
  bool close_after_ = false;
  std::string from_, identity_ = "nobody";
  bool remote_ = false;  // of TCP, and from another machine
  bool of_tcp_ = false;
  bool tls_failed_ = false;
  bool pending_ = true;
  std::list<std::weak_ptr<Client>>::iterator place_;
};

}  // namespace avec::broker
