// The executor's end of stripes: each has a thread that sends requests and receives answers,
// both at the same time, so that neither end waits for the other with a full socket.
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

#include "transport/tcp/factory.h"
#include "transport/tcp/stripes.h"

namespace avec::tcp {
namespace {

constexpr TransportError kNonsense{TransportErrc::kReset, EPROTO};
constexpr TransportError kNotAllowed{TransportErrc::kInternal, EACCES};

/// Bytes of each part but the last: as many parts for every stripe.
std::size_t part_bytes(std::size_t bytes, std::size_t stripes) {
  const std::size_t rounds = (bytes + stripes * kStripePartBytes - 1) / (stripes * kStripePartBytes);
  const std::size_t part = (bytes + stripes * rounds - 1) / (stripes * rounds);
  return (part + kStripePartUnit - 1) / kStripePartUnit * kStripePartUnit;
}

bool would_block(int os_error) { return os_error == EAGAIN || os_error == EWOULDBLOCK || os_error == EINTR; }

}  // namespace

struct PeerStripes::Access {
  std::uint64_t token = 0;
  std::size_t parts = 0;  // that have not ended
  TransportError error;
};

struct PeerStripes::Part {
  std::shared_ptr<Access> access;
  StripeRequest request;
  MutableBytes here;  // a write only reads it
  bool writes() const { return request.kind == StripeRequest::kWrite; }
};

class PeerStripes::Stripe {
 public:
  /// Throws where the process has no descriptor or thread left.
  Stripe(PeerStripes& all, Descriptor socket)
      : all_(all), socket_(std::move(socket)), event_(make_wake_descriptor()) {
    if (!event_) throw std::system_error(errno, std::generic_category());
    thread_ = std::thread([this] { run(); });
  }
  ~Stripe() { thread_.join(); }
  Stripe(const Stripe&) = delete;
  Stripe& operator=(const Stripe&) = delete;

  // With the mutex of all_ held.
  void give(Part part) {
    queued_bytes += part.here.size();
    queued_.push_back(std::move(part));
  }
  void tell() { signal_wake(event_.get()); }
  void shut_down() {
    ::shutdown(socket_.get(), SHUT_RDWR);
    tell();
  }
  bool gone = false;
  std::size_t queued_bytes = 0;  // of parts that were given and have not ended

 private:
  void run();
  void say_ready(TransportError& error);
  bool take_queued();
  bool send(TransportError& error);
  bool receive(TransportError& error);
  bool receive_reply(TransportError& error);
  void ended(TransportError error);
  void wait();

  PeerStripes& all_;
  const Descriptor socket_, event_;
  std::deque<Part> queued_;  // with the mutex

  // The thread's own.
  std::deque<Part> parts_;     // first those whose request has left, in order
  std::size_t requested_ = 0;  // how many have
  std::size_t sent_ = 0;       // bytes of the next, request and payload
  StripeReply reply_;
  std::size_t reply_got_ = 0, payload_got_ = 0;

  std::thread thread_;
};

// ---- a stripe's thread -----------------------------------------------------------------

void PeerStripes::Stripe::run() {
  ::pthread_setname_np(::pthread_self(), "avec-stripe");
  TransportError error;
  say_ready(error);
  while (!error && take_queued()) {
    bool moved = send(error);
    if (!error) moved |= receive(error);
    if (!moved && !error) wait();
  }
  const std::unique_lock lock(all_.mutex_);
  gone = true;
  // A stripe that nobody uses may end, in order or not: its client may have given it up. Parts that
  // were given meanwhile have no way any more.
  const bool unused = parts_.empty() && queued_.empty();
  if (error && (error.os_error == EPROTO || !unused))
    all_.break_with({TransportErrc::kReset, error.os_error});
  for (auto* parts : {&parts_, &queued_}) {
    for (auto& part : *parts) all_.part_ended(part, all_.over());
    parts->clear();
  }
}

void PeerStripes::Stripe::say_ready(TransportError& error) {
  StripeRequest ready;
  ready.kind = StripeRequest::kReady;
  // Nothing was sent before: there is room.
  if (::send(socket_.get(), &ready, sizeof ready, MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof ready)
    error = {TransportErrc::kClosed, 0};
}

/// False: the connection is over.
bool PeerStripes::Stripe::take_queued() {
  const std::unique_lock lock(all_.mutex_);
  if (all_.over()) return false;
  for (auto& part : queued_) parts_.push_back(std::move(part));
  queued_.clear();
  return true;
}

bool PeerStripes::Stripe::send(TransportError& error) {
  bool moved = false;
  while (requested_ < parts_.size()) {
    Part& part = parts_[requested_];
    const auto header = std::as_bytes(std::span(&part.request, 1));
    const auto payload = part.writes() ? ConstBytes(part.here) : ConstBytes();
    const auto rest = header.subspan(std::min(sent_, header.size()));
    const auto data = payload.subspan(sent_ - (header.size() - rest.size()));
    std::array<iovec, 2> vectors{iovec{const_cast<std::byte*>(rest.data()), rest.size()},
                                 iovec{const_cast<std::byte*>(data.data()), data.size()}};
    msghdr message{};
    message.msg_iov = vectors.data();
    message.msg_iovlen = vectors.size();
    const auto sent = ::sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
      if (!would_block(errno)) error = stream_error(errno);
      return moved;
    }
    moved = true;
    sent_ += static_cast<std::size_t>(sent);
    if (sent_ < header.size() + payload.size()) return moved;
    sent_ = 0;
    ++requested_;
  }
  return moved;
}

bool PeerStripes::Stripe::receive_reply(TransportError& error) {
  auto* const at = reinterpret_cast<std::byte*>(&reply_) + reply_got_;
  const auto got = ::recv(socket_.get(), at, sizeof reply_ - reply_got_, MSG_DONTWAIT);
  if (got == 0) {
    error = {TransportErrc::kClosed, 0};
  } else if (got < 0) {
    if (!would_block(errno)) error = stream_error(errno);
  } else if (requested_ == 0) {
    error = kNonsense;  // an answer to nothing
  } else {
    reply_got_ += static_cast<std::size_t>(got);
    if (reply_got_ < sizeof reply_) return true;
    const Part& part = parts_.front();
    const bool done = reply_.status == StripeReply::kDone;
    const auto expected = done && !part.writes() ? part.here.size() : 0;
    if (reply_.status > StripeReply::kNotAllowed || reply_.reserved != 0 || reply_.bytes != expected) {
      error = kNonsense;
    } else if (expected == 0) {
      ended(done ? TransportError{} : kNotAllowed);
    }
    return true;
  }
  return false;
}

bool PeerStripes::Stripe::receive(TransportError& error) {
  bool moved = false;
  while (!error) {
    if (reply_got_ < sizeof reply_) {
      if (!receive_reply(error)) return moved;
      moved = true;
      continue;
    }
    const auto rest = parts_.front().here.subspan(payload_got_);
    // With nothing to send it may sleep in there until all has come.
    const int flags = requested_ == parts_.size() ? MSG_WAITALL : MSG_DONTWAIT;
    const auto got = ::recv(socket_.get(), rest.data(), rest.size(), flags);
    if (got < 0) {
      if (!would_block(errno)) error = stream_error(errno);
      return moved;
    }
    if (got == 0) {
      error = {TransportErrc::kReset, 0};
      return moved;
    }
    moved = true;
    payload_got_ += static_cast<std::size_t>(got);
    if (payload_got_ == parts_.front().here.size()) {
      ended({});
      return moved;  // more may have been queued
    }
    if (flags == MSG_DONTWAIT) return moved;
  }
  return moved;
}

void PeerStripes::Stripe::ended(TransportError error) {
  reply_got_ = payload_got_ = 0;
  const std::unique_lock lock(all_.mutex_);
  queued_bytes -= parts_.front().here.size();
  all_.part_ended(parts_.front(), error);
  parts_.pop_front();
  --requested_;
}

void PeerStripes::Stripe::wait() {
  const bool sends = requested_ < parts_.size();
  pollfd entries[2] = {{socket_.get(), static_cast<short>(sends ? POLLIN | POLLOUT : POLLIN), 0},
                       {event_.get(), POLLIN, 0}};
  ::poll(entries, 2, -1);  // shut_down() ends it
  if (entries[1].revents) consume_wake(event_.get());
}

// ---- all of them -----------------------------------------------------------------------

PeerStripes::PeerStripes() = default;
PeerStripes::~PeerStripes() { end(); }

bool PeerStripes::join(std::unique_ptr<Connection> connection) noexcept {
  Descriptor socket(connection ? release_descriptor(*connection) : -1);
  const std::unique_lock lock(mutex_);
  if (!socket || over() || stripes_.size() >= kMaxStripes) return false;
  // Blocking: MSG_DONTWAIT says where it must not.
  ::fcntl(socket.get(), F_SETFL, ::fcntl(socket.get(), F_GETFL) & ~O_NONBLOCK);
  try {
    stripes_.reserve(stripes_.size() + 1);  // nothing throws once the thread runs
    stripes_.push_back(std::make_unique<Stripe>(*this, std::move(socket)));
    return true;
  } catch (const std::exception&) {
    return false;  // the client does without it: it was not told that the stripe is ready
  }
}

TransportError PeerStripes::allow(MutableBytes, RemoteAccess, RemoteKey&) noexcept {
  const std::unique_lock lock(mutex_);
  if (const auto error = over()) return error;
  return {TransportErrc::kNotViable, 0};
}

IoResult PeerStripes::begin(std::uint32_t kind, const RemoteKey& key, std::uint64_t offset, MutableBytes here,
                            std::uint64_t token) noexcept {
  const std::unique_lock lock(mutex_);
  if (const auto error = over()) return {0, error};
  if (here.empty() || !is_added(here)) return {0, {TransportErrc::kInternal, EINVAL}};
  if (offset > UINT64_MAX - here.size()) return {0, kNotAllowed};
  if (under_way_.size() + completions_.size() >= kMaxStripeAccesses) return {};
  std::vector<Stripe*> usable;
  for (const auto& stripe : stripes_) {
    if (!stripe->gone) usable.push_back(stripe.get());
  }
  if (usable.empty()) {  // the client allows nothing before it knows of one
    break_with({TransportErrc::kReset, ECONNRESET});
    return {0, broken_};
  }
  try {
    auto access = std::make_shared<Access>();
    access->token = token;
    const std::size_t part_size = part_bytes(here.size(), usable.size());
    access->parts = (here.size() + part_size - 1) / part_size;
    under_way_.push_back(access);
    for (std::size_t at = 0; at < here.size(); at += part_size) {
      const auto bytes = here.subspan(at, std::min(part_size, here.size() - at));
      Part part{access, {kind, 0, key, offset + at, bytes.size()}, bytes};
      auto* const stripe = *std::min_element(usable.begin(), usable.end(), [](const auto* a, const auto* b) {
        return a->queued_bytes < b->queued_bytes;
      });
      stripe->give(std::move(part));
      stripe->tell();
    }
    return {here.size(), {}};
  } catch (const std::bad_alloc&) {
    break_with({TransportErrc::kResources, ENOMEM});
    return {0, broken_};
  }
}

IoResult PeerStripes::read(const RemoteKey& key, std::uint64_t offset, MutableBytes into,
                           std::uint64_t token) noexcept {
  return begin(StripeRequest::kRead, key, offset, into, token);
}

IoResult PeerStripes::write(const RemoteKey& key, std::uint64_t offset, ConstBytes from,
                            std::uint64_t token) noexcept {
  const MutableBytes here(const_cast<std::byte*>(from.data()), from.size());
  return begin(StripeRequest::kWrite, key, offset, here, token);
}

// With the mutex held.
void PeerStripes::part_ended(Part& part, TransportError error) {
  auto& access = *part.access;
  if (error && !access.error) access.error = error;
  if (--access.parts > 0) return;
  completions_.push_back({access.token, access.error});
  std::erase(under_way_, part.access);
  signal_wake(news_.get());
}

std::size_t PeerStripes::completed(std::span<OneSidedCompletion> ended) noexcept {
  const std::unique_lock lock(mutex_);
  const auto count = std::min(ended.size(), completions_.size());
  std::copy_n(completions_.begin(), count, ended.begin());
  completions_.erase(completions_.begin(), completions_.begin() + static_cast<std::ptrdiff_t>(count));
  if (completions_.empty() && !broken_) consume_wake(news_.get());
  return count;
}

// With the mutex held. The threads may still be in the middle of a part: the tokens come when
// they are not.
void PeerStripes::shut_down() {
  for (const auto& stripe : stripes_) stripe->shut_down();
}

void PeerStripes::end() noexcept {
  std::vector<std::unique_ptr<Stripe>> stripes;
  {
    const std::unique_lock lock(mutex_);
    ended_ = true;
    shut_down();
    stripes.swap(stripes_);
  }
  stripes.clear();  // joins
}

}  // namespace avec::tcp
