// The client's end of stripes: each has a thread that answers requests from the table of ranges.
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

#include "transport/tcp/factory.h"
#include "transport/tcp/stripes.h"

namespace avec::tcp {
namespace {

constexpr TransportError kNonsense{TransportErrc::kReset, EPROTO};

/// The application's signals are not for threads started while this lives.
class SignalsOff {
 public:
  SignalsOff() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsOff() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsOff(const SignalsOff&) = delete;
  SignalsOff& operator=(const SignalsOff&) = delete;

 private:
  sigset_t before_;
};

/// Receives exactly so many bytes of a blocking socket. kClosed: it ended, in order or not, before
/// the first.
TransportError receive_exactly(int fd, MutableBytes into) {
  std::size_t got = 0;
  while (got < into.size()) {
    const auto part = ::recv(fd, into.data() + got, into.size() - got, MSG_WAITALL);
    if (part < 0 && errno == EINTR) continue;
    if (part <= 0 && got == 0) return {TransportErrc::kClosed, part < 0 ? errno : 0};
    if (part == 0) return {TransportErrc::kReset, 0};
    if (part < 0) return stream_error(errno);
    got += static_cast<std::size_t>(part);
  }
  return {};
}

TransportError send_exactly(int fd, ConstBytes header, ConstBytes bytes) {
  while (!header.empty() || !bytes.empty()) {
    std::array<iovec, 2> parts{iovec{const_cast<std::byte*>(header.data()), header.size()},
                               iovec{const_cast<std::byte*>(bytes.data()), bytes.size()}};
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    const auto sent = ::sendmsg(fd, &message, MSG_NOSIGNAL);
    if (sent < 0 && errno != EINTR) return stream_error(errno);
    if (sent <= 0) continue;
    const auto of_header = std::min(static_cast<std::size_t>(sent), header.size());
    header = header.subspan(of_header);
    bytes = bytes.subspan(static_cast<std::size_t>(sent) - of_header);
  }
  return {};
}

}  // namespace

OwnerStripes::OwnerStripes(StripeOptions options) : options_(std::move(options)) {
  for (Place& place : sockets_) place.store(-1, std::memory_order_relaxed);
}

OneSidedTraits OwnerStripes::traits() const noexcept {
  auto traits = Stripes::traits();
  traits.add_from = options_.add_from;
  return traits;
}

// ---- keys ------------------------------------------------------------------------------

TransportError OwnerStripes::allow(MutableBytes range, RemoteAccess access, RemoteKey& key) noexcept {
  std::unique_lock lock(mutex_);
  if (const auto error = over()) return error;
  if (range.empty() || !is_added(range)) return {TransportErrc::kInternal, EINVAL};
  if (range.size() < options_.least_bytes) return {TransportErrc::kNotViable, 0};
  std::array<std::uint64_t, 3> nonce{};
  if (::getrandom(nonce.data(), sizeof nonce, 0) != sizeof nonce) return {TransportErrc::kInternal, errno};
  try {
    if (!await_stripe(lock)) {
      const auto error = over();
      return error ? error : TransportError{TransportErrc::kNotViable, 0};
    }
    if (!is_added(range)) return {TransportErrc::kInternal, EINVAL};  // the lock was given up
    const auto name = ++last_name_;
    key = {{name, nonce[0], nonce[1], nonce[2]}};
    grants_.emplace(name, Grant{range, access, key, range.size()});
    return {};
  } catch (const std::exception&) {
    return {TransportErrc::kResources, ENOMEM};
  }
}

void OwnerStripes::revoke(const RemoteKey& key) noexcept {
  std::unique_lock lock(mutex_);
  const auto found = grants_.find(key.words[0]);
  if (found != grants_.end() && found->second.key == key) take_back(lock, key.words[0]);
}

// From here on nobody begins to use the range; whoever does ends, or is broken off.
void OwnerStripes::take_back(std::unique_lock<std::mutex>& lock, std::uint64_t name) {
  const auto unused = [&] {
    const auto found = grants_.find(name);  // another thread may have taken it back meanwhile
    return found == grants_.end() || found->second.users == 0;
  };
  grants_[name].revoked = true;
  if (!changed_.wait_for(lock, kStripeGrace, unused)) {
    break_with({TransportErrc::kReset, ETIMEDOUT});
    changed_.wait(lock, unused);  // its socket has been shut down: at once
  }
  grants_.erase(name);
}

// Until nobody uses a range that is gone, those included that another thread is taking back.
void OwnerStripes::memory_gone(std::unique_lock<std::mutex>& lock) {
  while (true) {
    const auto found = std::find_if(grants_.begin(), grants_.end(), [&](const auto& entry) {
      const Grant& grant = entry.second;
      return (!grant.revoked || grant.users > 0) && !is_added(grant.range);
    });
    if (found == grants_.end()) return;
    if (found->second.revoked) {
      changed_.wait(lock);  // whoever takes it back breaks it off in time
    } else {
      take_back(lock, found->first);
    }
  }
}

IoResult OwnerStripes::read(const RemoteKey&, std::uint64_t, MutableBytes, std::uint64_t) noexcept {
  return {0, {TransportErrc::kNotViable, 0}};
}

IoResult OwnerStripes::write(const RemoteKey&, std::uint64_t, ConstBytes, std::uint64_t) noexcept {
  return {0, {TransportErrc::kNotViable, 0}};
}

void OwnerStripes::shut_down() {
  for (const Place& place : sockets_) {
    if (const int socket = place.load(std::memory_order_relaxed); socket >= 0) ::shutdown(socket, SHUT_RDWR);
  }
  changed_.notify_all();
}

void OwnerStripes::end() noexcept {
  std::unique_lock lock(mutex_);
  ended_ = true;
  for (auto& [name, grant] : grants_) grant.revoked = true;
  shut_down();
  changed_.wait(lock, [&] {
    return std::all_of(sockets_.begin(), sockets_.end(),
                       [](const Place& place) { return place.load(std::memory_order_relaxed) < 0; });
  });
}

void OwnerStripes::forget_after_fork() noexcept {
  for (Place& place : sockets_) {
    if (const int socket = place.exchange(-1, std::memory_order_relaxed); socket >= 0) ::close(socket);
  }
}

// ---- threads ---------------------------------------------------------------------------

void OwnerStripes::start() {
  started_ = true;
  first_until_ = std::chrono::steady_clock::now() + options_.first_wait;
  const SignalsOff off;
  try {
    while (threads_ < options_.count) {
      std::thread([self = shared_from_this(), &place = sockets_[threads_]] { self->run(place); }).detach();
      ++threads_;
    }
  } catch (const std::system_error&) {
    // Fewer are enough; without any it is as if none could be opened.
    if (threads_ == 0 && options_.none_opened) options_.none_opened();
  }
}

/// Starts them; false where none is ready, after a short wait if that was not known yet.
bool OwnerStripes::await_stripe(std::unique_lock<std::mutex>& lock) {
  if (!started_) start();
  changed_.wait_until(lock, first_until_, [&] { return ready_ > 0 || threads_ == 0 || over(); });
  return ready_ > 0 && !over();
}

void OwnerStripes::run(Place& place) {
  ::pthread_setname_np(::pthread_self(), "avec-stripe");
  auto connection = options_.open();
  Descriptor socket(connection ? release_descriptor(*connection) : -1);
  connection.reset();
  if (socket) ::fcntl(socket.get(), F_SETFL, ::fcntl(socket.get(), F_GETFL) & ~O_NONBLOCK);
  const bool ready = socket && enter(place, socket.get()) && becomes_ready(socket.get());
  TransportError error;
  if (ready) error = serve(socket.get());
  const std::unique_lock lock(mutex_);
  if (ready && error.code != TransportErrc::kClosed) break_with(error);
  thread_ended(ready);
  place.store(-1, std::memory_order_relaxed);
  socket.reset();
  changed_.notify_all();
}

/// False: the connection is over.
bool OwnerStripes::enter(Place& place, int socket) {
  const std::unique_lock lock(mutex_);
  if (over()) return false;
  place.store(socket, std::memory_order_relaxed);
  return true;
}

/// Whether the executor has taken the stripe. That it was opened says little: something between may
/// have accepted it.
bool OwnerStripes::becomes_ready(int socket) {
  timeval limit{std::chrono::seconds(kStripeReadyDeadline).count(), 0};
  ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  StripeRequest first;
  if (receive_exactly(socket, std::as_writable_bytes(std::span(&first, 1)))) return false;
  if (first.kind != StripeRequest::kReady || first.reserved != 0 || first.key || first.offset != 0 ||
      first.bytes != 0)
    return false;
  limit = {};
  ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  const std::unique_lock lock(mutex_);
  if (over()) return false;
  ++ready_;
  any_ready_ = true;
  changed_.notify_all();
  return true;
}

void OwnerStripes::thread_ended(bool was_ready) {
  --threads_;
  if (was_ready) --ready_;
  if (over()) return;
  // The executor would wait for ever for ranges that it was told of; without any there is the stream.
  const bool told =
      std::any_of(grants_.begin(), grants_.end(), [](const auto& entry) { return !entry.second.revoked; });
  if (ready_ == 0 && told) break_with({TransportErrc::kReset, ECONNRESET});
  if (threads_ == 0 && !any_ready_ && options_.none_opened) options_.none_opened();
}

/// Answers until the stripe ends; kClosed: between two requests.
TransportError OwnerStripes::serve(int fd) {
  while (true) {
    StripeRequest request;
    if (const auto error = receive_exactly(fd, std::as_writable_bytes(std::span(&request, 1)))) return error;
    if (request.bytes == 0 || request.bytes > kMaxStripePart || request.reserved != 0) return kNonsense;
    TransportError error = kNonsense;
    if (request.kind == StripeRequest::kRead) error = answer_read(fd, request);
    if (request.kind == StripeRequest::kWrite) error = answer_write(fd, request);
    if (error) return {TransportErrc::kReset, error.os_error};
  }
}

OwnerStripes::Grant* OwnerStripes::claim(const StripeRequest& request) {
  const auto wanted = request.kind == StripeRequest::kRead ? RemoteAccess::kRead : RemoteAccess::kWrite;
  const std::unique_lock lock(mutex_);
  const auto found = grants_.find(request.key.words[0]);
  if (found == grants_.end()) return nullptr;
  auto& grant = found->second;
  if (grant.revoked || grant.key != request.key || grant.access != wanted) return nullptr;
  if (request.offset > grant.range.size() || request.bytes > grant.range.size() - request.offset)
    return nullptr;
  ++grant.users;
  return &grant;
}

void OwnerStripes::release(Grant& grant, std::uint64_t bytes_read) {
  RemoteKey taken;
  {
    const std::unique_lock lock(mutex_);
    if (bytes_read != 0 && grant.left != 0) {
      grant.left -= std::min(bytes_read, grant.left);
      if (grant.left == 0) taken = grant.key;
    }
    if (--grant.users == 0) changed_.notify_all();
  }
  if (taken && taken_) taken_(taken);
}

TransportError OwnerStripes::answer_read(int fd, const StripeRequest& request) {
  StripeReply reply;
  Grant* const grant = claim(request);
  MutableBytes bytes;
  if (grant != nullptr) {
    bytes = grant->range.subspan(request.offset, request.bytes);
    reply.bytes = bytes.size();
  } else {
    reply.status = StripeReply::kNotAllowed;
  }
  const auto error = send_exactly(fd, std::as_bytes(std::span(&reply, 1)), bytes);
  // What the socket has taken has left, wherever it is.
  if (grant != nullptr) release(*grant, error ? 0 : bytes.size());
  return error;
}

TransportError OwnerStripes::answer_write(int fd, const StripeRequest& request) {
  StripeReply reply;
  TransportError error;
  if (Grant* const grant = claim(request)) {
    error = receive_exactly(fd, grant->range.subspan(request.offset, request.bytes));
    release(*grant, 0);
  } else {
    reply.status = StripeReply::kNotAllowed;
    std::vector<std::byte> ignored(std::min<std::uint64_t>(request.bytes, 64 << 10));
    for (auto left = request.bytes; left > 0 && !error;) {
      const auto part = std::min<std::uint64_t>(left, ignored.size());
      error = receive_exactly(fd, MutableBytes(ignored).first(part));
      left -= part;
    }
  }
  return error ? error : send_exactly(fd, std::as_bytes(std::span(&reply, 1)), {});
}

}  // namespace avec::tcp
