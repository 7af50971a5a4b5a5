#include "transport/shm/connection.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#include "transport/tcp/context.h"

namespace avec::shm {
namespace {

constexpr TransportError kClosedHere{TransportErrc::kClosed, 0};
constexpr TransportError kBroken{TransportErrc::kReset, 0};
// A thread that spins asks the kernel whether the peer lives once in so many looks: every few
// hundred microseconds, for a thousandth of its time.
constexpr std::uint32_t kLooks = 8192;

Shared& layout(const Mapping& shared) { return *reinterpret_cast<Shared*>(shared.bytes().data()); }
std::size_t own_side(End end) { return end == End::kClient ? 0 : 1; }

template <class Spans>
bool has_bytes(const Spans& buffers) {
  return std::ranges::any_of(buffers, [](const auto& buffer) { return !buffer.empty(); });
}

}  // namespace

ShmConnection::ShmConnection(End end, Mapping shared, Descriptor socket, Descriptor wake, std::string peer)
    : shared_(std::move(shared)),
      wake_(std::move(wake)),
      peer_(std::move(peer)),
      process_(::getpid()),
      control_(std::move(socket)),
      out_(layout(shared_).rings[own_side(end)], layout(shared_).bytes[own_side(end)], control_),
      in_(layout(shared_).rings[1 - own_side(end)], layout(shared_).bytes[1 - own_side(end)], control_),
      memory_(control_, out_, layout(shared_).keys[own_side(end)], layout(shared_).keys[1 - own_side(end)],
              wake_.get()) {}

std::unique_ptr<ShmConnection> ShmConnection::make(End end, Mapping shared, Descriptor socket,
                                                   std::string peer) noexcept {
  auto wake = tcp::make_wake_descriptor();
  if (!wake) return nullptr;
  try {
    return std::unique_ptr<ShmConnection>(
        new ShmConnection(end, std::move(shared), std::move(socket), std::move(wake), std::move(peer)));
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

ShmConnection::~ShmConnection() { close(); }

IoResult ShmConnection::fail(TransportError error) noexcept {
  if (error.code == TransportErrc::kReset && !failed_) failed_ = error;
  return {0, error};
}

void ShmConnection::look_at_socket() noexcept {
  idle_ = 0;
  if (gone_) return;
  switch (memory_.attend()) {
    case SharedMemory::Peer::kThere:
      break;
    case SharedMemory::Peer::kGone:
      gone_ = true;
      break;
    case SharedMemory::Peer::kMalicious:
      fail(kViolation);
      break;
  }
}

// After an operation that moved nothing. True: there is something new.
bool ShmConnection::look_now_and_then() noexcept {
  const auto notes = in_.notes();
  if (++idle_ < kLooks && notes == seen_notes_ && !gone_ && !memory_.was_heard()) return false;
  seen_notes_ = notes;
  look_at_socket();
  return gone_ || failed_;
}

IoResult ShmConnection::send(std::span<const ConstBytes> buffers) noexcept {
  if (!open_) return {0, kClosedHere};
  if (failed_) return {0, failed_};
  const auto sent = out_.send(buffers);
  // A peer that has closed: what it sent before can still be received.
  if (sent.error) return sent.error.os_error != 0 ? fail(sent.error) : sent;
  if (sent.bytes == 0 && look_now_and_then() && has_bytes(buffers)) return {0, failed_ ? failed_ : kBroken};
  return sent;
}

IoResult ShmConnection::receive(std::span<const MutableBytes> buffers) noexcept {
  if (!open_) return {0, kClosedHere};
  if (failed_) return {0, failed_};
  auto got = in_.receive(buffers);
  if (got.bytes != 0) [[likely]] {
    idle_ = 0;
    return got;
  }
  if (got.error) return fail(got.error);
  if (!look_now_and_then()) return got;
  if (failed_) return {0, failed_};
  // Between the first look into the ring and the end of the socket bytes may have come, or the
  // word that the peer closed: it is written before the socket ends.
  got = in_.receive(buffers);
  if (got.bytes != 0 || got.error) return got.error ? fail(got.error) : got;
  return has_bytes(buffers) ? fail(kBroken) : got;
}

// ---- waiting ---------------------------------------------------------------------------

bool ShmConnection::ready(bool want_send) noexcept {
  return in_.ready() || gone_ || failed_ || memory_.has_completions() || (want_send && out_.ready());
}

TransportError ShmConnection::sleep(Deadline deadline, bool& woken) noexcept {
  const short wanted = memory_.has_unsent() ? POLLIN | POLLOUT : POLLIN;
  pollfd entries[2] = {{control_.descriptor(), wanted, 0}, {wake_.get(), POLLIN, 0}};
  const int status = tcp::poll_until(entries, 2, deadline);
  if (status < 0) return tcp::stream_error(errno);
  if (status == 0) return {TransportErrc::kTimeout, 0};
  if (entries[1].revents != 0) {
    tcp::consume_wake(wake_.get());
    woken = true;
  }
  if (entries[0].revents != 0) look_at_socket();
  // A peer that rings all the time for nothing does not move the deadline.
  if (!woken && std::chrono::steady_clock::now() >= deadline && !ready(false))
    return {TransportErrc::kTimeout, 0};
  return {};
}

TransportError ShmConnection::wait(bool want_send, Deadline deadline) noexcept {
  if (!open_) return kClosedHere;
  if (failed_) return {};  // receive() and send() tell it
  TransportError error;
  bool woken = false;
  if (memory_.was_heard()) look_at_socket();
  while (!error && !woken) {
    in_.announce_wait();
    if (want_send) out_.announce_wait();
    // Behind the announcements, before the look: see ring_for_sleeper().
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (ready(want_send)) break;
    error = sleep(deadline, woken);
  }
  in_.withdraw_wait();
  if (want_send) out_.withdraw_wait();
  return error;
}

bool ShmConnection::arm() noexcept {
  if (!open_ || failed_) return false;
  in_.withdraw_wait();
  look_at_socket();  // bells that have been heard make the descriptor readable no more
  in_.announce_wait();
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!ready(false)) return true;
  in_.withdraw_wait();
  return false;
}

void ShmConnection::wake() noexcept { tcp::signal_wake(wake_.get()); }

void ShmConnection::close() noexcept {
  if (!std::exchange(open_, false)) return;
  if (::getpid() != process_) return;  // the parent goes on
  memory_.end();
  if (!failed_) {
    // What was sent lies in memory that the peer has mapped: nothing is waited for.
    out_.close();
    in_.close();
  }
  control_.close();
}

}  // namespace avec::shm
