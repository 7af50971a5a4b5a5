#include "executor/broker/client.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/limits.h"

namespace avec::broker {
namespace {

using asio::ip::tcp;
using namespace std::chrono_literals;

// How often the beginning of a connection is looked at until it is whole.
constexpr auto kPeekAgain = 5ms;
// A client that was refused has this long to close.
constexpr auto kRefusedGrace = 300ms;
// How a record of TLS that begins a handshake begins.
constexpr std::byte kTlsHandshake{0x16};

/// Who has connected, for people.
std::string name_of_peer(Stream::socket& socket) {
  asio::error_code error;
  const auto remote = socket.remote_endpoint(error);
  if (error) return "somebody";
  if (const auto endpoint = as_tcp(remote)) {
    std::string text = endpoint->address().to_string();
    if (endpoint->address().is_v6()) text = "[" + text + "]";
    return text + ":" + std::to_string(endpoint->port());
  }
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return "a local process";
  return "process " + std::to_string(peer.pid) + " of user " + std::to_string(peer.uid);
}

bool is_loopback(const asio::ip::address& address) {
  if (address.is_v6() && address.to_v6().is_v4_mapped())
    return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6()).is_loopback();
  return address.is_loopback();
}

}  // namespace

std::optional<tcp::endpoint> as_tcp(const Stream::endpoint& endpoint) {
  if (endpoint.data()->sa_family != AF_INET && endpoint.data()->sa_family != AF_INET6) return std::nullopt;
  tcp::endpoint address;
  std::memcpy(address.data(), endpoint.data(), std::min(endpoint.size(), address.capacity()));
  address.resize(endpoint.size());
  return address;
}

Client::Client(Reception& reception, Stream::socket socket)
    : reception_(reception),
      socket_(std::move(socket)),
      deadline_(reception.io),
      again_(reception.io),
      handshake_(reception.options.token) {
  asio::error_code ignored;
  from_ = name_of_peer(socket_);
  if (const auto remote = socket_.remote_endpoint(ignored); !ignored) {
    const auto address = as_tcp(remote);
    of_tcp_ = address.has_value();
    if (of_tcp_) {
      const auto own = as_tcp(socket_.local_endpoint(ignored));
      remote_ = !is_loopback(address->address()) && !(own && own->address() == address->address());
    }
  }
  socket_.non_blocking(true, ignored);
  socket_.set_option(tcp::no_delay(true), ignored);  // means nothing in the Unix domain
}

void Client::begin() {
  place_ = reception_.pending.insert(reception_.pending.end(), weak_from_this());
  if (reception_.pending.size() > limits::kMaxPendingConnections) {
    if (auto oldest = reception_.pending.front().lock()) oldest->drop();
  }
  deadline_.expires_after(limits::kAuthenticationDeadline);
  deadline_.async_wait([self = shared_from_this()](asio::error_code error) {
    if (error || !self->pending_) return;
    self->refused("it did not introduce itself in time");
    self->drop();
  });
  peek();
}

void Client::settled() {
  if (!pending_) return;
  pending_ = false;
  deadline_.cancel();
  reception_.pending.erase(place_);
}

void Client::drop() {
  settled();
  asio::error_code ignored;
  again_.cancel();
  socket_.close(ignored);
}

void Client::refused(const std::string& why) {
  spdlog::info("{} refused: {}", from_, why);
  if (reception_.options.told) reception_.options.told(Event::kRefused, why);
}

bool Client::may_be_in_clear() const {
  const Options& options = reception_.options;
  if (reception_.tls == nullptr || !of_tcp_) return true;
  if (options.token.empty()) return false;  // certificates alone: nothing else would authenticate
  return options.encryption == Encryption::kOff || (options.encryption == Encryption::kAuto && !remote_);
}

bool Client::encrypts(const wire::Introduction& introduction) const {
  if (!tls_) return false;
  const Encryption encryption = reception_.options.encryption;
  return introduction.encryption || encryption == Encryption::kOn || (encryption == Encryption::kAuto && remote_);
}

// ---- how it begins ---------------------------------------------------------------------

void Client::peek() {
  if (!socket_.is_open()) return;
  const ssize_t got = ::recv(socket_.native_handle(), preamble_.data(), preamble_.size(), MSG_PEEK | MSG_DONTWAIT);
  if (got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) return drop();
  if (got > 0 && preamble_[0] == kTlsHandshake) return start_tls();
  static constexpr std::uint32_t kMagic = 0x43455641;  // "AVEC"
  if (got > 0 && std::memcmp(preamble_.data(), &kMagic, std::min<std::size_t>(static_cast<std::size_t>(got), 4)) != 0) {
    refused("it does not speak this protocol");
    return drop();
  }
  if (got < static_cast<ssize_t>(preamble_.size())) {
    again_.expires_after(kPeekAgain);
    again_.async_wait([self = shared_from_this()](asio::error_code error) {
      if (!error && self->pending_) self->peek();
    });
    return;
  }
  auto parsed = wire::parse_preamble(preamble_);
  if (!parsed) {
    refused(parsed.error().what);
    return drop();
  }
  if (parsed->kind() != wire::ConnectionKind::Control) return reception_.pass_data(*this, *parsed);
  start_control();
}

void Client::start_tls() {
  if (reception_.tls == nullptr) {
    refused("it speaks TLS, and there is nothing here to authenticate with: give --token-file or --tls-certificate");
    const auto* bytes = reinterpret_cast<const std::byte*>(tls::kNoTlsHere.data());
    send({bytes, bytes + tls::kNoTlsHere.size()}, true);
    return watch([] {});
  }
  tls_.emplace(socket_, *reception_.asio_tls);
  tls_->async_handshake(asio::ssl::stream_base::server, [self = shared_from_this()](asio::error_code error) {
    if (!self->pending_) return;
    if (!error) return self->secured();
    const auto code = error.category() == asio::error::get_ssl_category() ? static_cast<unsigned long>(error.value()) : 0;
    self->refused(tls::explain(self->tls_->native_handle(), code, End::kExecutor));
    ERR_clear_error();
    // The alert has been written; what the client still sends is read, so that closing does not take it back.
    asio::error_code ignored;
    self->socket_.shutdown(Stream::socket::shutdown_send, ignored);
    self->tls_failed_ = true;
    self->settled();
    self->deadline_.expires_after(kRefusedGrace);
    self->deadline_.async_wait([self](asio::error_code) { self->drop(); });
    self->watch([] {});
  });
}

void Client::secured() {
  identity_ = tls::identity_of(tls_->native_handle());
  handshake_.secured_by([this](const wire::TicketId& ticket) -> Result<wire::Digest> {
    wire::Digest key;
    if (!tls::export_key(tls_->native_handle(), wire::kExporterLabel, ticket, key))
      return system_error(0, "deriving the session's key");
    return key;
  });
  read(asio::buffer(preamble_), [self = shared_from_this()](asio::error_code error, std::size_t) {
    if (error) return self->drop();
    const auto parsed = wire::parse_preamble(self->preamble_);
    if (parsed && parsed->kind() == wire::ConnectionKind::Control) return self->answer_control();
    self->refused(parsed ? "a data connection where control was expected" : parsed.error().what);
    self->drop();
  });
}

// ---- control connections ---------------------------------------------------------------

template <class Buffer, class Handler>
void Client::read(const Buffer& buffer, Handler handler) {
  if (tls_)
    asio::async_read(*tls_, buffer, std::move(handler));
  else
    asio::async_read(socket_, buffer, std::move(handler));
}

void Client::start_control() {
  read(asio::buffer(preamble_), [self = shared_from_this()](asio::error_code error, std::size_t) {
    if (error) return self->drop();
    self->answer_control();
  });
}

void Client::answer_control() {
  const bool too_open = !tls_ && !may_be_in_clear();
  auto challenge = handshake_.challenge(reception_.options.release, too_open);
  if (!challenge) return drop();
  send(std::move(*challenge), false);
  if (too_open) {
    return refuse(wire::RefusalCode::Authentication,
                  "this executor wants TLS: use a client of its release, and do not set transport-encryption off there");
  }
  read_message();
}

void Client::read_message() {
  const MutableBytes space = message_.space();
  read(asio::buffer(space.data(), space.size()),
       [self = shared_from_this(), wanted = space.size()](asio::error_code error, std::size_t) {
         if (error) return self->drop();
         if (!self->message_.advance(wanted))
           return self->refuse(wire::RefusalCode::Malformed, "a handshake message of an impossible length");
         if (!self->message_.complete()) return self->read_message();
         self->admitted();
       });
}

void Client::admitted() {
  if (reception_.options.told) reception_.options.told(Event::kDecoding, from_);
  auto introduction = handshake_.check(message_.message());
  if (!introduction) return refuse(introduction.error().code, introduction.error().message);
  if (!tls_ && !reception_.options.token.empty()) identity_ = "token";
  reception_.begin_session(shared_from_this(), *introduction);
}

void Client::refuse(wire::RefusalCode code, const std::string& message) {
  refused(message);
  send(wire::refusal(code, message), true);
  // What the client still sends is read, so that closing does not take the refusal back.
  watch([] {});
}

void Client::send(wire::Bytes bytes, bool then_close) {
  close_after_ |= then_close;
  sending_.push_back(std::move(bytes));
  if (sending_.size() > 1) return;
  auto written = [self = shared_from_this()](asio::error_code error, std::size_t) {
    if (self->sending_.empty()) return;
    self->sending_.pop_front();
    asio::error_code ignored;
    if (error) return self->drop();
    if (!self->sending_.empty()) {
      wire::Bytes next = std::move(self->sending_.front());
      self->sending_.pop_front();
      return self->send(std::move(next), false);
    }
    if (self->close_after_) {
      self->socket_.shutdown(Stream::socket::shutdown_send, ignored);
      self->settled();
      // The peer's close ends it (watch); one that does not close is cut off.
      self->deadline_.expires_after(kRefusedGrace);
      self->deadline_.async_wait([self](asio::error_code) { self->drop(); });
    }
  };
  if (tls_)
    asio::async_write(*tls_, asio::buffer(sending_.front()), std::move(written));
  else
    asio::async_write(socket_, asio::buffer(sending_.front()), std::move(written));
}

void Client::watch(std::function<void()> closed) {
  auto came = [self = shared_from_this(), closed](asio::error_code error, std::size_t) {
    if (!error) return self->watch(closed);
    closed();
    self->drop();
  };
  if (tls_ && !tls_failed_)
    tls_->async_read_some(asio::buffer(preamble_), std::move(came));
  else
    socket_.async_read_some(asio::buffer(preamble_), std::move(came));
}

}  // namespace avec::broker
