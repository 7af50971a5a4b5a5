#include "transport/sim/connection.h"

#include <algorithm>
#include <cstring>

namespace avec::sim {
namespace {

using Kind = TraceEvent::Kind;

}  // namespace

SimConnection::SimConnection(std::shared_ptr<Context> context, std::shared_ptr<Link> link, Direction end,
                             std::string peer)
    : context_(std::move(context)),
      link_(std::move(link)),
      end_(end),
      peer_(std::move(peer)),
      one_sided_(*context_, *link_, end) {
  // Each end draws from its own numbers, so that the order of two threads does not matter.
  std::seed_seq seed{context_->options.seed, std::uint64_t{link_->number}, std::uint64_t(end_),
                     std::uint64_t{7}};
  random_.seed(seed);
}

SimConnection::~SimConnection() { close(); }

void SimConnection::take_over() {
  auto& driver = link_->driver[static_cast<int>(end_)];
  const auto self = std::this_thread::get_id();
  link_->handed_over[static_cast<int>(end_)] = false;
  if (driver == self) return;
  const bool handed_over = driver != std::thread::id();
  driver = self;
  if (handed_over) context_->changed();
}

TransportError SimConnection::broken(bool sending) const {
  if (link_->closed[static_cast<int>(end_)]) return {TransportErrc::kClosed, 0};
  if (link_->reset) return {TransportErrc::kReset, 0};
  // Like TCP: sending to a peer that has gone breaks the connection once that is known.
  if (sending && !in().held && context_->now() >= in().end_arrival) return {TransportErrc::kReset, 0};
  return {};
}

bool SimConnection::readable() const {
  return broken(false) || context_->now() >= in().next_arrival() ||
         !link_->ended[static_cast<int>(end_)].empty() ||
         context_->now() >= context_->next_completion(*link_, end_);
}

bool SimConnection::writable() const {
  return broken(true) || out().queued_bytes < link_->shape.window_bytes;
}

std::size_t SimConnection::limited(std::size_t bytes) {
  const auto limit = link_->faults.short_io_bytes;
  if (limit == 0 || bytes == 0) return bytes;
  return std::min(bytes, std::uniform_int_distribution<std::size_t>(1, limit)(random_));
}

// Puts bytes on the line: they leave at the line's rate and arrive half a round trip later,
// lost segments later still, and never before what was sent earlier.
void SimConnection::transmit(ConstBytes bytes) {
  auto& pipe = out();
  const auto& shape = link_->shape;
  const auto now = context_->now();
  while (!bytes.empty()) {
    const auto part = bytes.first(std::min(bytes.size(), std::max<std::size_t>(1, shape.segment_bytes)));
    bytes = bytes.subspan(part.size());
    auto leaves = std::max(now, pipe.line_free);
    if (shape.bytes_per_second) {
      const auto ns =
          static_cast<long double>(part.size()) * 1e9L / static_cast<long double>(shape.bytes_per_second);
      leaves += SimTime(static_cast<std::int64_t>(ns + 0.5L));
    }
    pipe.line_free = leaves;
    auto arrival = leaves + shape.round_trip / 2;
    if (shape.loss > 0) {
      const double drawn = std::uniform_real_distribution<double>(0, 1)(pipe.random);
      if (drawn < shape.loss) {
        arrival += shape.retransmission;
        context_->log(*link_, end_, Kind::kLoss, part.size());
      }
    }
    arrival = std::max(arrival, pipe.last_arrival);
    pipe.last_arrival = arrival;
    // A peer that closed takes nothing any more.
    if (link_->closed[1 - static_cast<int>(end_)]) continue;
    pipe.segments.push_back({std::vector<std::byte>(part.begin(), part.end()), 0, arrival});
    pipe.queued_bytes += part.size();
  }
}

IoResult SimConnection::send(std::span<const ConstBytes> buffers) noexcept {
  const std::scoped_lock lock(context_->mutex);
  take_over();
  if (const auto error = broken(true)) return {0, error};
  std::size_t wanted = 0;
  for (const auto& buffer : buffers) wanted += buffer.size();
  const auto window = link_->shape.window_bytes;
  const auto room = window - std::min(window, out().queued_bytes);
  const auto total = limited(std::min(wanted, room));
  if (total == 0) return {};
  try {
    auto left = total;
    for (const auto& buffer : buffers) {
      const auto part = std::min(left, buffer.size());
      transmit(buffer.first(part));
      left -= part;
    }
    context_->log(*link_, end_, Kind::kSend, total);
  } catch (const std::bad_alloc&) {
    context_->reset(*link_, end_);
    return {0, {TransportErrc::kResources, 0}};
  }
  context_->changed();
  return {total, {}};
}

IoResult SimConnection::receive(std::span<const MutableBytes> buffers) noexcept {
  const std::scoped_lock lock(context_->mutex);
  take_over();
  context_->run_accesses(*link_);
  if (const auto error = broken(false)) return {0, error};
  std::size_t wanted = 0;
  for (const auto& buffer : buffers) wanted += buffer.size();
  if (wanted == 0) return {};
  auto& pipe = in();
  const auto now = context_->now();
  if (now < pipe.next_arrival()) return {};
  if (pipe.segments.empty()) return {0, {TransportErrc::kClosed, 0}};
  if (pipe.reset_at)
    wanted = static_cast<std::size_t>(std::min<std::uint64_t>(wanted, *pipe.reset_at - pipe.received));
  auto left = limited(wanted);
  std::size_t total = 0;
  for (const auto& buffer : buffers) {
    std::size_t filled = 0;
    while (left > 0 && filled < buffer.size() && !pipe.segments.empty() &&
           pipe.segments.front().arrival <= now) {
      auto& segment = pipe.segments.front();
      const auto part = std::min({left, buffer.size() - filled, segment.bytes.size() - segment.taken});
      std::memcpy(buffer.data() + filled, segment.bytes.data() + segment.taken, part);
      segment.taken += part;
      filled += part;
      left -= part;
      total += part;
      if (segment.taken == segment.bytes.size()) pipe.segments.pop_front();
    }
  }
  pipe.queued_bytes -= total;
  pipe.received += total;
  context_->log(*link_, end_, Kind::kReceive, total);
  if (pipe.reset_at && pipe.received >= *pipe.reset_at) context_->reset(*link_, end_);
  context_->changed();
  return {total, {}};
}

TransportError SimConnection::wait(bool want_send, Deadline deadline) noexcept {
  std::unique_lock lock(context_->mutex);
  take_over();
  if (link_->closed[static_cast<int>(end_)]) return {TransportErrc::kClosed, 0};
  try {
    Waiter waiter{.sleeper = &sleeper_,
                  .deadline = context_->to_sim_time(deadline),
                  .ready = [&] { return sleeper_.woken() || readable() || (want_send && writable()); },
                  .next =
                      [&] {
                        const auto arrival =
                            std::min(in().next_arrival(), context_->next_completion(*link_, end_));
                        return arrival > context_->now() ? arrival : kNever;
                      }};
    const bool ready = context_->wait(lock, waiter);
    const bool woken = sleeper_.consume_wake();
    return ready || woken ? TransportError{} : TransportError{TransportErrc::kTimeout, 0};
  } catch (const std::bad_alloc&) {
    return {TransportErrc::kResources, 0};
  }
}

void SimConnection::close() noexcept {
  const std::scoped_lock lock(context_->mutex);
  auto& closed = link_->closed[static_cast<int>(end_)];
  if (closed) return;
  closed = true;
  // No key of this end is worth anything any more, and what this end began does not go on.
  link_->memory[static_cast<int>(end_)] = {};
  context_->end_accesses(*link_, end_, {TransportErrc::kClosed, 0});
  link_->driver[static_cast<int>(end_)] = {};
  if (!link_->reset) {
    out().end_arrival = std::max(out().last_arrival, context_->now() + link_->shape.round_trip / 2);
    in().segments.clear();
    in().queued_bytes = 0;
    context_->log(*link_, end_, Kind::kClose);
  }
  context_->changed();
}

}  // namespace avec::sim
