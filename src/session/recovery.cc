// A lost link: the session goes on over a new connection, or ends with the reason.
#include <fmt/format.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "session/engine.h"

namespace avec::session {
namespace {

using std::chrono::steady_clock;

/// How long the broker may take to say why the worker ended.
constexpr auto kFarewellDeadline = std::chrono::milliseconds(300);
/// Pauses between attempts to reconnect: at first short, since most resets are momentary.
constexpr auto kFirstPause = std::chrono::milliseconds(2);
constexpr auto kLongestPause = std::chrono::milliseconds(100);

Error link_error(TransportError error) {
  return {Origin::kTransport, static_cast<int>(error.code), "the link to the executor"};
}

}  // namespace

void Engine::lost(TransportError error) {
  // The executor's last frames may say why.
  for (int i = 0; i < 64 && peer_reason_.empty(); ++i) {
    const Inbox::Outcome outcome = inbox_.receive(*connection_);
    if (outcome.bytes == 0 || !outcome.frames) break;
  }
  if (!peer_reason_.empty()) {
    fail(link_error(error), "the executor ended the session: " + peer_reason_, true);
    return;
  }
  std::string why;
  const bool orderly = error.code == TransportErrc::kClosed;
  if (keep_ && !orderly && !opening_ && reconnect(why)) return;
  if (closing_) {
    fail(link_error(error), "the session was closed", false);
    return;
  }
  if (why.empty()) {
    if (auto farewell = receive_farewell(*control_, steady_clock::now() + kFarewellDeadline)) {
      why = "the executor's worker ended: " + *farewell;
    } else {
      const std::string reason = connection_->reason();
      why = fmt::format("the link to {} was lost ({})", options_.executor,
                        reason.empty() ? to_string(error.code) : std::string_view(reason));
    }
  }
  fail(link_error(error), std::move(why), true);
}

bool Engine::reconnect(std::string& why) {
  const auto start = steady_clock::now();
  const Deadline until = start + options_.resume_window;
  connection_->close();
  auto pause = kFirstPause;
  std::string last;
  while (!closing_) {
    if (auto farewell = receive_farewell(*control_, steady_clock::now())) {
      why = "the executor's worker ended: " + *farewell;
      return false;
    }
    const Deadline attempt = std::min<Deadline>(until, steady_clock::now() + options_.connect_deadline);
    auto data = open_data(options_, admission_, received_.load(std::memory_order_relaxed), attempt);
    if (data) {
      const auto accepted = receive_accept(**data, options_, attempt);
      if (accepted) return resume_over(std::move(*data), *accepted, why);
      const auto& refused = accepted.error();
      // A refusal is final, unless the executor was only busy.
      if (refused.error.origin == Origin::kCuda &&
          refused.error.code != wire::cuda_status(wire::RefusalCode::Busy)) {
        why = "the link was lost and the session could not be resumed: " + refused.message;
        return false;
      }
      last = refused.message;
    } else {
      last = data.error().message;
    }
    if (steady_clock::now() + pause >= until) {
      why = fmt::format("the link was lost and not restored within {:g} s: {}",
                        static_cast<double>(options_.resume_window.count()) / 1000, last);
      return false;
    }
    std::this_thread::sleep_for(pause);
    pause = std::min<std::chrono::milliseconds>(2 * pause, kLongestPause);
  }
  return false;
}

bool Engine::resume_over(std::unique_ptr<Connection> connection, std::uint64_t peer_has, std::string& why) {
  inbox_.reset();
  const LockGuard guard(lock_);
  if (peer_has > last_sequence_.load(std::memory_order_relaxed)) {
    why = "the executor resumed the session at a frame that was never sent";
    return false;
  }
  release_externals(outbox_.acknowledge(peer_has));
  if (conditions_ != nullptr) room_made();
  outbox_.rewind();
  connection_ = std::move(connection);
  watched_ = connection_->poll_descriptor();
  send_blocked_ = false;
  // The progress thread may be watching the old descriptor.
  if (progress_asleep_) {
    progress_asleep_ = false;
    kick_progress();
  }
  return true;
}

void Engine::fail(const Error& error, std::string reason, bool notify) {
  if (over()) return;
  reason_ = std::move(reason);
  // First of all: afterwards the executor reaches no memory that a call which returns, or the
  // word that the session is over, makes the program free.
  connection_->close();
  // Told before anybody's call returns, so that whoever gets the error can say why.
  if (notify && !opening_ && !leaving_ && callbacks_.closed) callbacks_.closed(reason_);
  {
    const LockGuard guard(lock_);
    over_ = true;
    over_flag_ = true;
    over_error_ = error;
    release_externals(outbox_.clear());
    replies_.clear([this](Call& call) AVEC_UNCHECKED_LOCKING { mark_done(call.waiter); });
    for (Condition* condition = conditions_; condition != nullptr; condition = condition->next) {
      mark_done(condition->waiter);
    }
  }
}

}  // namespace avec::session
