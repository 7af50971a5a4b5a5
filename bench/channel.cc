#include "channel.h"

#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "harness.h"

namespace avec::bench {
namespace {

constexpr std::uint64_t kGiveUpNs = 60'000'000'000;
constexpr auto kSleep = std::chrono::seconds(1);
constexpr IoResult kPeerClosed{0, {TransportErrc::kClosed, 0}};

class ConnectionChannel final : public Channel {
 public:
  ConnectionChannel(std::unique_ptr<Connection> connection, WaitMode mode)
      : Channel(mode), connection_(std::move(connection)) {}
  IoResult try_send(std::span<const ConstBytes> buffers) override {
    return judged(connection_->send(buffers));
  }
  IoResult try_receive(MutableBytes into) override { return judged(connection_->receive({&into, 1})); }
  OneSided* one_sided() override { return connection_->one_sided(); }
  void sleep(bool want_send) override {
    (void)connection_->wait(want_send, std::chrono::steady_clock::now() + kSleep);
  }

 private:
  static IoResult judged(IoResult result) {
    // A peer that was ended, not closed, is over as well: the samples say what was lost.
    if (result.error.code == TransportErrc::kReset) return kPeerClosed;
    if (result.error && result.error.code != TransportErrc::kClosed) {
      fail("the connection failed: " + std::string(to_string(result.error.code)));
    }
    return result;
  }
  std::unique_ptr<Connection> connection_;
};

class SocketChannel final : public Channel {
 public:
  SocketChannel(Descriptor socket, WaitMode mode) : Channel(mode), socket_(std::move(socket)) {
    const int one = 1;
    ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  }
  IoResult try_send(std::span<const ConstBytes> buffers) override {
    iovec parts[512];
    std::size_t count = 0;
    for (const auto& buffer : buffers.first(std::min<std::size_t>(buffers.size(), std::size(parts)))) {
      parts[count++] = {const_cast<std::byte*>(buffer.data()), buffer.size()};
    }
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = count;
    return judged(::sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL), false);
  }
  IoResult try_receive(MutableBytes into) override {
    return judged(::recv(socket_.get(), into.data(), into.size(), MSG_DONTWAIT), true);
  }
  void sleep(bool want_send) override {
    pollfd entry{socket_.get(), static_cast<short>(POLLIN | (want_send ? POLLOUT : 0)), 0};
    ::poll(&entry, 1, static_cast<int>(std::chrono::milliseconds(kSleep).count()));
  }

  using Channel::send;
  // The kernel's own waiting: nothing is cheaper where a thread may sleep.
  bool send(ConstBytes bytes) override {
    while (!bytes.empty()) {
      const auto done = judged(::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), false);
      if (done.error) return false;
      bytes = bytes.subspan(done.bytes);
    }
    return true;
  }
  bool receive(MutableBytes into) override {
    if (mode_ != WaitMode::kBlock) return Channel::receive(into);
    while (!into.empty()) {
      const auto done = judged(::recv(socket_.get(), into.data(), into.size(), 0), true);
      if (done.error) return false;
      into = into.subspan(done.bytes);
    }
    return true;
  }

 private:
  static IoResult judged(ssize_t moved, bool zero_ends) {
    if (moved > 0) return {static_cast<std::size_t>(moved), {}};
    if (moved == 0) return zero_ends ? kPeerClosed : IoResult{};
    if (errno == EAGAIN || errno == EINTR) return {};
    if (errno == EPIPE || errno == ECONNRESET) return kPeerClosed;
    fail(std::string("the yardstick's socket: ") + std::strerror(errno));
  }
  Descriptor socket_;
};

}  // namespace

// A ring with one writer and one reader.
struct Ring {
  static constexpr std::size_t kBytes = 1u << 20;
  static constexpr std::size_t kPiece = 32u << 10;  // so that reader and writer copy at the same time
  alignas(64) std::atomic<std::uint64_t> written{0};
  alignas(64) std::atomic<std::uint64_t> read{0};
  alignas(64) std::atomic<std::uint32_t> bell{0};
  std::atomic<std::uint32_t> sleepers{0};
  alignas(64) std::byte data[kBytes];

  std::size_t put(ConstBytes bytes) {
    const auto end = written.load(std::memory_order_relaxed);
    const auto room = kBytes - (end - read.load(std::memory_order_acquire));
    const auto count = std::min<std::size_t>({bytes.size(), room, kPiece});
    const auto at = end % kBytes, first = std::min(count, kBytes - at);
    std::memcpy(data + at, bytes.data(), first);
    std::memcpy(data, bytes.data() + first, count - first);
    if (count != 0) written.store(end + count, std::memory_order_release);
    return count;
  }
  std::size_t take(MutableBytes into) {
    const auto begin = read.load(std::memory_order_relaxed);
    const auto there = written.load(std::memory_order_acquire) - begin;
    const auto count = std::min<std::size_t>({into.size(), there, kPiece});
    const auto at = begin % kBytes, first = std::min(count, kBytes - at);
    std::memcpy(into.data(), data + at, first);
    std::memcpy(into.data() + first, data, count - first);
    if (count != 0) read.store(begin + count, std::memory_order_release);
    return count;
  }
};

struct SharedRings {
  Ring rings[2];
};

namespace {

class RingChannel final : public Channel {
 public:
  RingChannel(SharedRings& rings, bool first, WaitMode mode)
      : Channel(mode), out_(rings.rings[first ? 0 : 1]), in_(rings.rings[first ? 1 : 0]) {}
  IoResult try_send(std::span<const ConstBytes> buffers) override {
    std::size_t sent = 0;
    for (const auto& buffer : buffers) {
      const auto count = out_.put(buffer);
      sent += count;
      if (count < buffer.size()) break;
    }
    if (sent != 0) ring(out_);
    return {sent, {}};
  }
  IoResult try_receive(MutableBytes into) override {
    const auto count = in_.take(into);
    if (count != 0) ring(in_);
    return {count, {}};
  }
  // The peer rings the bell of the ring it wrote to or read from.
  void sleep(bool want_send) override {
    auto& ring = want_send ? out_ : in_;
    const auto seen = ring.bell.load();
    ring.sleepers.fetch_add(1);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const bool something = in_.written.load() != in_.read.load() ||
                           (want_send && out_.written.load() - out_.read.load() < Ring::kBytes);
    if (!something) {
      const timespec limit{0, 10'000'000};  // of both rings one is watched
      ::syscall(SYS_futex, &ring.bell, FUTEX_WAIT, seen, &limit, nullptr, 0);
    }
    ring.sleepers.fetch_sub(1);  // the other end may sleep on it as well
  }

 private:
  static void ring(Ring& ring) {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (ring.sleepers.load(std::memory_order_relaxed) == 0) return;
    ring.bell.fetch_add(1);
    ::syscall(SYS_futex, &ring.bell, FUTEX_WAKE, 2, nullptr, nullptr, 0);
  }
  Ring& out_;
  Ring& in_;
};

// What a program would write first: a lock, a condition, a queue of messages.
struct Queue {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::vector<std::byte>> messages;
  std::size_t taken = 0;  // of the first
  std::size_t queued = 0;
  bool closed = false;
  static constexpr std::size_t kMost = 4u << 20;
};

class QueueChannel final : public Channel {
 public:
  QueueChannel(std::shared_ptr<Queue> out, std::shared_ptr<Queue> in, WaitMode mode)
      : Channel(mode), out_(std::move(out)), in_(std::move(in)) {}
  ~QueueChannel() override {
    const std::scoped_lock lock(out_->mutex);
    out_->closed = true;
    out_->changed.notify_all();
  }
  IoResult try_send(std::span<const ConstBytes> buffers) override {
    const std::scoped_lock lock(out_->mutex);
    std::size_t sent = 0;
    for (const auto& buffer : buffers) {
      if (out_->queued >= Queue::kMost) break;
      out_->messages.emplace_back(buffer.begin(), buffer.end());
      out_->queued += buffer.size();
      sent += buffer.size();
    }
    out_->changed.notify_all();
    return {sent, {}};
  }
  IoResult try_receive(MutableBytes into) override {
    const std::scoped_lock lock(in_->mutex);
    std::size_t got = 0;
    while (got < into.size() && !in_->messages.empty()) {
      const auto& first = in_->messages.front();
      const auto count = std::min(first.size() - in_->taken, into.size() - got);
      std::memcpy(into.data() + got, first.data() + in_->taken, count);
      got += count;
      in_->taken += count;
      in_->queued -= count;
      if (in_->taken < first.size()) break;
      in_->messages.pop_front();
      in_->taken = 0;
    }
    if (got == 0 && in_->closed) return kPeerClosed;
    if (got != 0) in_->changed.notify_all();
    return {got, {}};
  }
  void sleep(bool want_send) override {
    auto& queue = want_send ? *out_ : *in_;
    std::unique_lock lock(queue.mutex);
    queue.changed.wait_for(
        lock, want_send ? std::chrono::milliseconds(1) : std::chrono::milliseconds(kSleep),
        [&] { return queue.closed || (want_send ? queue.queued < Queue::kMost : !queue.messages.empty()); });
  }

 private:
  std::shared_ptr<Queue> out_, in_;
};

}  // namespace

void Channel::Patience::pause(bool want_send) {
  const auto now = now_ns();
  if (since_ == 0) since_ = now;
  if (now - since_ > kGiveUpNs) fail("the peer of a measurement does not answer");
  if (channel_.mode_ == WaitMode::kSpin) return;
  if (channel_.mode_ == WaitMode::kAdaptive &&
      now - since_ < static_cast<std::uint64_t>(std::chrono::nanoseconds(kSpin).count())) {
    return;
  }
  channel_.sleep(want_send);
}

bool Channel::send(std::span<const ConstBytes> buffers) {
  Patience patience(*this);
  std::vector<ConstBytes> rest;
  while (!buffers.empty()) {
    auto [moved, error] = try_send(buffers);
    if (error) return false;
    if (moved == 0) {
      patience.pause(true);
      continue;
    }
    patience.moved();
    while (!buffers.empty() && moved >= buffers.front().size()) {
      moved -= buffers.front().size();
      buffers = buffers.subspan(1);
    }
    if (moved == 0) continue;
    rest.assign(buffers.begin(), buffers.end());
    rest.front() = rest.front().subspan(moved);
    std::vector<ConstBytes> kept = std::move(rest);
    return send(std::span<const ConstBytes>(kept));
  }
  return true;
}

bool Channel::receive(MutableBytes into) {
  Patience patience(*this);
  while (!into.empty()) {
    const auto [moved, error] = try_receive(into);
    if (error) return false;
    if (moved == 0) {
      patience.pause(false);
      continue;
    }
    patience.moved();
    into = into.subspan(moved);
  }
  return true;
}

bool Channel::receive_idle(MutableBytes into) {
  for (auto since = now_ns(); !into.empty();) {
    const auto [moved, error] = try_receive(into);
    if (error) return false;
    into = into.subspan(moved);
    if (moved != 0) since = now_ns();
    if (now_ns() - since > static_cast<std::uint64_t>(std::chrono::nanoseconds(kSpin).count())) sleep(false);
  }
  return true;
}

std::unique_ptr<Channel> channel_over(std::unique_ptr<Connection> connection, WaitMode mode) {
  return std::make_unique<ConnectionChannel>(std::move(connection), mode);
}
std::unique_ptr<Channel> channel_over(Descriptor socket, WaitMode mode) {
  return std::make_unique<SocketChannel>(std::move(socket), mode);
}
std::unique_ptr<Channel> channel_over(SharedRings& rings, bool first_end, WaitMode mode) {
  return std::make_unique<RingChannel>(rings, first_end, mode);
}

SharedRings* make_shared_rings() {
  void* memory =
      ::mmap(nullptr, sizeof(SharedRings), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail("no memory for the yardstick's rings");
  return new (memory) SharedRings;
}

std::pair<std::unique_ptr<Channel>, std::unique_ptr<Channel>> queue_channels(WaitMode mode) {
  auto there = std::make_shared<Queue>(), back = std::make_shared<Queue>();
  return {std::make_unique<QueueChannel>(there, back, mode),
          std::make_unique<QueueChannel>(back, there, mode)};
}

}  // namespace avec::bench
