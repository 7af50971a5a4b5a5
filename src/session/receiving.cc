// The work of the role's holder: send what is queued, receive what came, tell who waits.
#include <algorithm>
#include <cstring>
#include <utility>

#include "base/no_cancel.h"
#include "session/engine.h"

namespace avec::session {
namespace {

/// Received without a frame of ours going out, bytes: then an Ack of its own. An eighth of
/// what the executor can keep.
constexpr std::uint64_t kAckBytes = limits::kReplayBytes / 8;

constexpr auto kReply = static_cast<std::uint16_t>(wire::FrameFlag::Reply);

bool is_reply(const wire::FrameHeader& header) { return (header.flags() & kReply) != 0; }

}  // namespace

bool Engine::pump() {
  const bool sent = outbox_.has_unsent() && flush();
  if (over()) return true;
  bool ended = writes_under_way_.load(std::memory_order_relaxed) != 0 && complete_writes();
  if (over()) return true;
  if (any_taken_.load(std::memory_order_acquire)) [[unlikely]] ended |= free_sources();
  const bool received = receive();
  return sent || received || ended;
}

bool Engine::flush() {
  const LockGuard guard(lock_);
  return flush_locked();
}

bool Engine::flush_locked() {
  const NoCancel no_cancel;
  Outbox::Spans spans;
  const std::size_t count = outbox_.gather(spans);
  if (count == 0 || over_) return false;
  lock_.unlock();
  const auto gathered = std::span<const ConstBytes>(spans).first(count);
  const bool watched = options_.observer != nullptr;
  const auto begin = watched ? std::chrono::steady_clock::now() : Observer::Time{};
  const IoResult sent = connection_->send(gathered);
  if (watched && sent.bytes != 0) options_.observer->sent(sent.bytes, begin, std::chrono::steady_clock::now());
  std::size_t wanted = 0;
  for (const ConstBytes& span : gathered) wanted += span.size();
  add_to(bytes_sent_, sent.bytes);
  lock_.lock();
  send_blocked_.store(sent.bytes < wanted, std::memory_order_relaxed);
  if (sent.bytes == 0) spend_watch();  // see Connection::arm
  if (sent.bytes != 0) {
    release_externals(outbox_.advance(sent.bytes));
    if (!keep_ && conditions_ != nullptr) room_made();
  }
  if (sent.error) {
    lock_.unlock();
    lost(sent.error);
    lock_.lock();
  }
  return sent.bytes != 0 || sent.error;
}

bool Engine::receive() {
  const bool watched = options_.observer != nullptr;
  const auto begin = watched ? std::chrono::steady_clock::now() : Observer::Time{};
  const Inbox::Outcome outcome = inbox_.receive(*connection_);
  if (outcome.bytes != 0) {
    if (watched) options_.observer->received(outcome.bytes, begin, std::chrono::steady_clock::now());
    add_to(bytes_received_, outcome.bytes);
    receive_copied_.store(inbox_.copied(), std::memory_order_relaxed);
  }
  if (!outcome.frames) {
    fail(outcome.frames.error(), std::string("the executor sent ") + outcome.frames.error().what, true);
  } else if (!peer_reason_.empty()) {
    fail(
        Error{Origin::kTransport, static_cast<int>(TransportErrc::kClosed), "the executor ended the session"},
        "the executor ended the session: " + peer_reason_, true);
  } else if (outcome.link) {
    lost(outcome.link);
  } else if (keep_ && outcome.bytes != 0) {
    acknowledge_peer();
  }
  return outcome.bytes != 0 || outcome.link || !outcome.frames;
}

void Engine::acknowledge_peer() {
  const LockGuard guard(lock_);
  if (!ack_now_ && unacknowledged_bytes_ < kAckBytes) return;
  const wire::Ack body(0);
  // Without room the peer is behind with its own acknowledgements: the next frame carries ours.
  if (over_ || outbox_.room() < wire::kHeaderBytes + sizeof body) return;
  const Frame frame = put_header(wire::Opcode::Ack, 0, sizeof body, 0);
  std::memcpy(frame.body, &body, sizeof body);
  outbox_.commit(frame.bytes);
}

Result<Sink> Engine::begin_frame(const wire::FrameHeader& header) {
  const LockGuard guard(lock_);
  const std::uint64_t received = received_.load(std::memory_order_relaxed);
  if (header.sequence() <= received) {
    if (!keep_) return protocol_error("a frame number twice");
    Sink seen;
    seen.skip = true;
    return seen;
  }
  if (header.sequence() != received + 1) return protocol_error("a gap in the frame numbers");
  if (header.ack() > last_sequence_.load(std::memory_order_relaxed)) {
    return protocol_error("an acknowledgement of a frame that was not sent");
  }
  if (keep_) {
    release_externals(outbox_.acknowledge(header.ack()));
    if (conditions_ != nullptr) room_made();
  }
  if (is_reply(header)) return sink_of_reply(header);
  Sink sink;
  if (header.payload_bytes() > limits::kMaxTextBytes) return protocol_error("a text over the limit");
  text_.resize(static_cast<std::size_t>(header.payload_bytes()));
  sink.payload = std::as_writable_bytes(std::span(text_));
  return sink;
}

Result<Sink> Engine::sink_of_reply(const wire::FrameHeader& header) {
  Expected* expected = replies_.find(header.call());
  if (expected == nullptr) return protocol_error("a reply that nobody waits for");
  if (static_cast<std::uint16_t>(expected->opcode) != header.opcode()) {
    return protocol_error("a reply to another call");
  }
  Sink sink;
  if (expected->deferred) {
    const auto& deferred = static_cast<const Deferred&>(*expected);
    const DeferredMemory& memory = deferred.memory;
    const std::size_t wanted = header.status() == 0 && memory.in_reply ? memory.bytes.size() : 0;
    if (header.payload_bytes() != wanted) return protocol_error("a reply with a payload of the wrong size");
    if (wanted != 0) sink.payload = memory.bytes;
    revoke_ = memory.key;
    write_ = memory.write;
    return sink;
  }
  auto& call = static_cast<Call&>(*expected);
  if (header.payload_bytes() != 0)
    return protocol_error("a reply with a payload that its call does not have");
  // The caller's memory is still to be sent, or to be sent again: it cannot return yet.
  if (call.external != nullptr && call.external->linked) {
    return protocol_error("a reply to a call that it does not acknowledge");
  }
  const bool has_results = header.body_bytes() != 0;
  if (call.wants_table && has_results) sink.body = &call.table;
  if (!call.wants_table && has_results && header.body_bytes() != call.reply.size()) {
    return protocol_error("a reply of the wrong size");
  }
  return sink;
}

Result<> Engine::end_frame(const wire::FrameHeader& header, ConstBytes body) {
  if (is_reply(header)) return end_reply(header, body);
  {
    const LockGuard guard(lock_);
    received_.store(header.sequence(), std::memory_order_relaxed);
    unacknowledged_bytes_ += wire::kHeaderBytes + header.body_bytes() + header.payload_bytes();
  }
  return end_push(header, body);
}

Result<> Engine::end_reply(const wire::FrameHeader& header, ConstBytes body) {
  const wire::CallInfo* info = wire::call_info(header.opcode());
  if (info->reply_is_table) {
    if (auto verified = wire::verify_body(header, body); !verified) return verified;
  }
  if (one_sided_ != nullptr) {
    if (auto ended = end_access(); !ended) return ended;
  }
  int unattended = 0;
  {
    const LockGuard guard(lock_);
    received_.store(header.sequence(), std::memory_order_relaxed);
    unacknowledged_bytes_ += wire::kHeaderBytes + header.body_bytes() + header.payload_bytes();
    if (header.payload_bytes() > limits::kInlinePayloadBytes) ack_now_ = true;
    Expected* expected = replies_.find(header.call());
    if (expected == nullptr) return {};  // the call's deadline passed meanwhile
    if (expected->deferred) {
      auto& deferred = static_cast<Deferred&>(*expected);
      if (deferred.unattended) unattended = header.status();
      end_deferred(deferred, header.status());
    } else {
      auto& call = static_cast<Call&>(*expected);
      if (!call.wants_table && !body.empty()) std::memcpy(call.reply.data(), body.data(), body.size());
      call.status = header.status();
      call.answered = true;
      replies_.remove(call);
      mark_done(call.waiter);
    }
  }
  if (unattended != 0 && callbacks_.deferred_error && !opening_) {
    callbacks_.deferred_error(static_cast<wire::Opcode>(header.opcode()), header.call(), unattended);
  }
  return {};
}

void Engine::end_deferred(Deferred& deferred, int status) {
  const std::uint64_t sequence = deferred.sequence;
  replies_.end_deferred(deferred, status);
  tell_waiters(sequence);
}

void Engine::tell_waiters(Pending sequence) {
  for (Condition* condition = conditions_; condition != nullptr; condition = condition->next) {
    const bool this_one = condition->kind == Condition::Kind::kDeferred && condition->sequence == sequence;
    if (this_one || condition->kind == Condition::Kind::kAnyDeferred) mark_done(condition->waiter);
  }
}

Result<> Engine::end_push(const wire::FrameHeader& header, ConstBytes body) {
  switch (static_cast<wire::Opcode>(header.opcode())) {
    case wire::Opcode::Ack:
      return {};
    case wire::Opcode::DeferredError: {
      const auto error = wire::read_struct<wire::DeferredError>(body);
      if (error.call() == 0 || error.call() > last_sequence_.load(std::memory_order_relaxed)) {
        return protocol_error("an error of a call that was not made");
      }
      if (callbacks_.deferred_error && !opening_) {
        callbacks_.deferred_error(static_cast<wire::Opcode>(error.opcode()), error.call(), header.status());
      }
      return {};
    }
    case wire::Opcode::DeviceOutput:
      if (callbacks_.device_output && !opening_) {
        const auto output = wire::read_struct<wire::DeviceOutput>(body);
        callbacks_.device_output(static_cast<int>(output.descriptor()), text_);
      }
      return {};
    case wire::Opcode::TraceRecords:
    case wire::Opcode::TraceName:
      if (options_.observer == nullptr) return protocol_error("a trace that nobody asked for");
      if (header.opcode() == static_cast<std::uint16_t>(wire::Opcode::TraceName)) {
        options_.observer->kernel_name(wire::read_struct<wire::TraceName>(body).name(), text_);
      } else {
        if (text_.size() % sizeof(wire::TraceRecord) != 0) return protocol_error("half a record of a trace");
        options_.observer->records(wire::read_struct<wire::TraceRecords>(body).lost(), std::as_bytes(std::span(text_)));
      }
      return {};
    case wire::Opcode::HostCall:
      if (callbacks_.host_call && !opening_) {
        const auto asked = wire::read_struct<wire::HostCall>(body);
        callbacks_.host_call(asked.call(), asked.function());
      }
      return {};
    case wire::Opcode::SessionClosed:
      peer_reason_ = text_.empty() ? "no reason given" : text_;
      // What follows on this connection does not matter any more.
      return {};
    case wire::Opcode::EventDone:
    case wire::Opcode::StreamDone:
    case wire::Opcode::HostFunctionDue:
    case wire::Opcode::LibraryFailed:
      if (callbacks_.pushed && !opening_) callbacks_.pushed(static_cast<wire::Opcode>(header.opcode()), body);
      return {};
    default:
      return protocol_error("a call from the executor that this side does not know");
  }
}

}  // namespace avec::session
