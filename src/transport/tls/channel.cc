#include "transport/tls/channel.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace avec::tls {
namespace {

/// Plaintext of one record, and of those that leave in one system call.
constexpr std::size_t kRecordBytes = 16u << 10;
constexpr std::size_t kTakenBytes = 16 * kRecordBytes;

bool would_block(int os_error) { return os_error == EAGAIN || os_error == EWOULDBLOCK; }

}  // namespace

/// Reads go to the socket; what is written is gathered in kept_.
struct Channel::Bio {
  static Channel& channel(BIO* bio) { return *static_cast<Channel*>(BIO_get_data(bio)); }

  static int read(BIO* bio, char* into, std::size_t bytes, std::size_t* got) {
    BIO_clear_retry_flags(bio);
    while (true) {
      const ssize_t part = ::recv(channel(bio).socket_, into, bytes, MSG_DONTWAIT);
      *got = part > 0 ? static_cast<std::size_t>(part) : 0;
      if (part > 0) return 1;
      if (part == 0) {
        BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
        return 0;
      }
      if (errno == EINTR) continue;
      if (would_block(errno))
        BIO_set_retry_read(bio);
      else
        channel(bio).socket_error_ = errno;
      return 0;
    }
  }

  static int write(BIO* bio, const char* from, std::size_t bytes, std::size_t* taken) {
    BIO_clear_retry_flags(bio);
    *taken = 0;
    auto& kept = channel(bio).kept_;
    try {
      const auto* begin = reinterpret_cast<const std::byte*>(from);
      kept.insert(kept.end(), begin, begin + bytes);
    } catch (...) {
      channel(bio).socket_error_ = ENOMEM;
      return 0;
    }
    *taken = bytes;
    return 1;
  }

  static long control(BIO* bio, int command, long, void*) {
    if (command == BIO_CTRL_EOF) return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0 ? 1 : 0;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
  }

  static const BIO_METHOD* method() {
    static const BIO_METHOD* const made = [] {
      BIO_METHOD* method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "avec");
      if (method == nullptr) return method;
      BIO_meth_set_read_ex(method, read);
      BIO_meth_set_write_ex(method, write);
      BIO_meth_set_ctrl(method, control);
      return method;
    }();
    return made;
  }
};

Channel::Channel(std::shared_ptr<const Context> context, int socket) : context_(std::move(context)), socket_(socket) {}

Channel::~Channel() { SSL_free(ssl_); }

std::unique_ptr<Channel> Channel::make(std::shared_ptr<const Context> context, int socket, const std::string& name) {
  std::unique_ptr<Channel> channel(new Channel(std::move(context), socket));
  channel->ssl_ = SSL_new(channel->context_->native());
  BIO* bio = channel->ssl_ != nullptr && Bio::method() != nullptr ? BIO_new(Bio::method()) : nullptr;
  if (bio == nullptr) return nullptr;
  BIO_set_data(bio, channel.get());
  BIO_set_init(bio, 1);
  SSL_set_bio(channel->ssl_, bio, bio);
  if (channel->context_->end() == End::kClient) {
    if (channel->context_->by_certificate() && !expect_name(channel->ssl_, name)) return nullptr;
    SSL_set_connect_state(channel->ssl_);
  } else {
    SSL_set_accept_state(channel->ssl_);
  }
  return channel;
}

TransportError Channel::handshake(Deadline deadline) noexcept {
  while (true) {
    ERR_clear_error();
    const int done = SSL_do_handshake(ssl_);
    const int state = done == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl_, done);
    if (done != 1 && state != SSL_ERROR_WANT_READ) {
      broken();
      flush();  // the alert
      return error_;
    }
    if (const auto error = flush()) return error_ = error;
    if (done == 1 && !has_kept()) break;
    pollfd entry{socket_, static_cast<short>(has_kept() ? POLLOUT | POLLIN : POLLIN), 0};
    if (has_kept() && done == 1) entry.events = POLLOUT;
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return error_ = {TransportErrc::kTimeout, 0};
    if (::poll(&entry, 1, static_cast<int>(std::min<long long>(left.count() + 1, 1000))) < 0 && errno != EINTR)
      return error_ = {TransportErrc::kInternal, errno};
  }
  // A client with a token alone has nothing else by which to know the executor.
  if (context_->end() == End::kClient && !context_->by_certificate() && SSL_session_reused(ssl_) == 0) {
    reason_ = alert_advice(SSL_AD_HANDSHAKE_FAILURE, End::kClient);
    return error_ = {TransportErrc::kReset, EPROTO};
  }
  open_ = true;
  may_have_more_ = SSL_has_pending(ssl_) != 0;
  return {};
}

bool Channel::encrypt(ConstBytes bytes) {
  std::size_t taken = 0;
  ERR_clear_error();
  if (SSL_write_ex(ssl_, bytes.data(), bytes.size(), &taken) != 1 || taken != bytes.size()) return false;
  records_.push_back({bytes.size(), kept_.size()});
  prepared_ += bytes.size();
  return true;
}

/// Makes records of what lies behind the first `skip` bytes.
bool Channel::encrypt(std::span<const ConstBytes> buffers, std::size_t skip) {
  std::array<std::byte, kRecordBytes> small;
  std::size_t gathered = 0;
  const std::size_t until = prepared_ + kTakenBytes;
  const auto encrypt_small = [&] { return gathered == 0 || encrypt(ConstBytes(small).first(std::exchange(gathered, 0))); };
  for (ConstBytes buffer : buffers) {
    const std::size_t known = std::min(skip, buffer.size());
    skip -= known;
    buffer = buffer.subspan(known);
    while (!buffer.empty() && prepared_ + gathered < until) {
      std::size_t part;
      if (gathered == 0 && (buffer.size() >= kRecordBytes || buffers.size() == 1)) {
        part = std::min(buffer.size(), kRecordBytes);
        if (!encrypt(buffer.first(part))) return false;
      } else {
        part = std::min(buffer.size(), kRecordBytes - gathered);
        std::memcpy(small.data() + gathered, buffer.data(), part);
        gathered += part;
        if (gathered == kRecordBytes && !encrypt_small()) return false;
      }
      buffer = buffer.subspan(part);
    }
  }
  return encrypt_small();
}

std::size_t Channel::take_left() noexcept {
  std::size_t left = 0;
  auto record = records_.begin();
  for (; record != records_.end() && record->end <= sent_; ++record) left += record->plain;
  records_.erase(records_.begin(), record);
  if (!has_kept()) {
    kept_.clear();  // keeps its room
    sent_ = 0;
  }
  return left;
}

IoResult Channel::send(std::span<const ConstBytes> buffers) noexcept {
  if (!open_) return {0, error_ ? error_ : TransportError{TransportErrc::kReset, 0}};
  std::size_t offered = 0;
  for (const ConstBytes buffer : buffers) offered += buffer.size();
  if (offered == 0) return {};
  if (const auto error = flush()) return {0, error};
  while (!has_kept() && prepared_ < offered) {
    try {
      left_ += take_left();
      if (!encrypt(buffers, prepared_)) return broken();
    } catch (...) {
      error_ = {TransportErrc::kResources, ENOMEM};
      open_ = false;
      return {0, error_};
    }
    if (const auto error = flush()) return {0, error};
  }
  left_ += take_left();
  const std::size_t taken = std::min(left_, offered);
  left_ -= taken;
  prepared_ -= taken;
  return {taken, {}};
}

IoResult Channel::receive(std::span<const MutableBytes> buffers) noexcept {
  if (!open_) return {0, error_ ? error_ : TransportError{TransportErrc::kReset, 0}};
  std::size_t total = 0;
  for (MutableBytes buffer : buffers) {
    while (!buffer.empty()) {
      std::size_t got = 0;
      ERR_clear_error();
      if (SSL_read_ex(ssl_, buffer.data(), buffer.size(), &got) == 1) {
        total += got;
        buffer = buffer.subspan(got);
        continue;
      }
      const int state = SSL_get_error(ssl_, 0);
      may_have_more_ = false;
      if (state == SSL_ERROR_WANT_READ) {
        if (const auto error = flush(); error && total == 0) return {0, error};  // answers to the peer's TLS
        return {total, {}};
      }
      if (total != 0) {  // told next time
        may_have_more_ = true;
        return {total, {}};
      }
      if (state == SSL_ERROR_ZERO_RETURN) return {0, {TransportErrc::kClosed, 0}};
      return broken();
    }
  }
  may_have_more_ = SSL_has_pending(ssl_) != 0;
  return {total, {}};
}

TransportError Channel::flush() noexcept {
  while (has_kept()) {
    const ssize_t part = ::send(socket_, kept_.data() + sent_, kept_.size() - sent_, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (part >= 0) {
      sent_ += static_cast<std::size_t>(part);
      continue;
    }
    if (errno == EINTR) continue;
    if (would_block(errno)) return {};
    open_ = false;
    return error_ = {TransportErrc::kReset, errno};
  }
  return {};
}

void Channel::finish(Deadline deadline) noexcept {
  if (!open_) return;
  ERR_clear_error();
  SSL_shutdown(ssl_);
  ERR_clear_error();
  while (!flush() && has_kept()) {
    // Bytes that still come are read away, for the peer may wait until they are.
    std::array<std::byte, 4096> ignored;
    while (::recv(socket_, ignored.data(), ignored.size(), MSG_DONTWAIT) > 0) {
    }
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd entry{socket_, POLLOUT, 0};
    if (left.count() <= 0 || ::poll(&entry, 1, static_cast<int>(left.count()) + 1) == 0) return;
    if ((entry.revents & (POLLERR | POLLHUP)) != 0) return;
  }
}

IoResult Channel::broken() noexcept {
  const unsigned long error = ERR_get_error();
  ERR_clear_error();
  open_ = false;
  error_ = {TransportErrc::kReset, socket_error_ != 0 ? socket_error_ : EPROTO};
  try {
    if (reason_.empty() && socket_error_ == 0) reason_ = explain(ssl_, error, context_->end());
  } catch (...) {
    reason_.clear();
  }
  return {0, error_};
}

}  // namespace avec::tls
