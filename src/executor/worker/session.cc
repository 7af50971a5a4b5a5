// The loop: connection, frames, completions, waiting.
#include "executor/worker/session.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <new>
#include <thread>

namespace avec::worker {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

// Naps while the device works and nothing else happens: from what an event takes to become
// known, a small part of the time that the work has taken already, to what nobody notices.
constexpr auto kShortestNap = 20us;
constexpr int kNapPart = 256;
constexpr auto kLongestNap = 1000us;
// A sleeping session looks around this often, should a wake-up ever be lost.
constexpr auto kLongestSleep = 10s;
// How long the peer may take to read the reason for which its session is closed.
constexpr auto kClosingDeadline = 500ms;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

Session::Session(SessionOptions options)
    : options_(std::move(options)),
      arena_(driver_, limits::kChunkBytes, options_.arena_bytes),
      downloads_(driver_, arena_, completions_, link_, accesses_),
      fetches_(driver_, arena_, completions_, accesses_),
      helpers_([this] { wake(); }),
      regions_(driver_, helpers_),
      cache_(options_.cache_dir) {
  completions_.make_current = [this](Context& context) { make_current(context); };
  completions_.turned_idle = [this](Stream& stream) { stream_turned_idle(stream); };
  arena_.before_pinning = [this] {
    driver_.cuCtxSetCurrent(primary(arena_device_));
    current_ = nullptr;
  };
  completions_.printed = [this] { drain_output(); };
  completions_.polled = [this] { poll_watches(); };
  fetches_.answer = [this](const Header& call, CUresult status) { finish(call, status); };
  fetches_.fail_later = [this](const Header& call, CUresult status) { fail_later(call, status); };
  fetches_.before_issue = [this](Stream& stream) { before_issue(stream); };
  gpu_direct_.make_current = [this](Context& context) { make_current(context); };
  gpu_direct_.make_primary_current = [this](int device) {
    driver_.cuCtxSetCurrent(primary(device));
    current_ = nullptr;
  };
  direct_copies_.answer = [this](const Header& call, CUresult status) { finish_after_downloads(call, status); };
  direct_copies_.before_issue = [this](Stream& stream) { before_issue(stream); };
  regions_.context = [this] { return primary(arena_device_); };
  regions_.mapped = [this](const RemoteKey& key) { return one_sided_->mapped(key); };
  regions_.offer = [this](MutableBytes memory, RemoteKey& key) -> TransportError {
    if (const TransportError error = one_sided_->add(memory)) return error;
    const TransportError error = one_sided_->allow(memory, RemoteAccess::kWrite, key);
    if (error) one_sided_->remove(memory);
    return error;
  };
  regions_.withdraw = [this](MutableBytes memory) { one_sided_->remove(memory); };
  if (options_.capture_stdout) capture_output();
}

Session::~Session() = default;

void Session::attach(std::unique_ptr<Connection> connection, std::uint64_t peer_has) {
  std::lock_guard lock(door_mutex_);
  arrived_ = std::move(connection);
  arrived_has_ = peer_has;
  woken_ = true;
  if (wakeable_ != nullptr) wakeable_->wake();
  door_.notify_all();
}

void Session::stop(std::string reason) {
  std::lock_guard lock(door_mutex_);
  if (!stop_) stop_reason_ = std::move(reason);
  stop_ = true;
  if (wakeable_ != nullptr) wakeable_->wake();
  door_.notify_all();
}

void Session::wake() {
  std::lock_guard lock(door_mutex_);
  woken_ = true;
  if (wakeable_ != nullptr) wakeable_->wake();
  door_.notify_all();
}

SessionReport Session::run(bool process_ends) {
  lost_since_ = Clock::now();
  quiet_since_ = Clock::now();
  while (!ended_) {
    bool progress = false;
    try {
      progress = round();
    } catch (const std::bad_alloc&) {
      close_with("the executor ran out of memory");
    }
    if (!ended_) sleep_or_spin(progress);
  }
  const std::uint64_t copied = copied_bytes_ + downloads_.copied_bytes() + accesses_.copied_bytes();
  const SessionReport report{reason_, link_.bytes_in(), link_.bytes_out(), calls_, copied};
  {
    std::lock_guard lock(door_mutex_);
    wakeable_ = nullptr;
  }
  if (Connection* connection = link_.connection()) connection->close();
  host_calls_.close();
  if (!process_ends) teardown();
  return report;
}

bool Session::round() {
  bool progress = take_connection();
  if (link_.connection() != nullptr && !link_.lost()) {
    // One read takes what has come; its frames are issued back to back.
    if (link_.read()) {
      progress = true;
      if (tracer_.on()) tracer_.read();
    }
    if (!closing_) progress |= handle_frames();
  }
  progress |= helpers_.collect();
  progress |= push_host_calls();
  completions_.place_marks(goodbye_.has_value());
  progress |= completions_.poll();
  progress |= poll_watches();
  progress |= poll_event_waits();
  if (tracer_.on()) tracer_.poll(goodbye_.has_value());
  progress |= accesses_.poll();
  progress |= downloads_.pump();
  progress |= downloads_.settle();
  if (!lanes_.empty() || !floating_.empty()) {
    progress |= pump_held();
    completions_.place_marks(false);
  }
  progress |= regions_.settle();
  for (auto& action : std::exchange(later_, {})) {
    action();
    progress = true;
  }
  if (goodbye_ && !host_turns_.empty()) end_host_functions();
  if (goodbye_ && everything_done()) {
    drain_output();
    if (tracer_.on()) tracer_.poll(true);
    link_.reply(*goodbye_, CUDA_SUCCESS);
    goodbye_.reset();
    reason_ = "closed by the client";
    closing_ = true;
    closing_since_ = Clock::now();
  }
  link_.acknowledge();
  progress |= link_.flush();
  if (closing_ && (link_.idle() || link_.lost() || Clock::now() - closing_since_ > kClosingDeadline)) ended_ = true;
  if (!ended_ && link_.lost()) link_was_lost();
  if (!ended_ && link_.connection() == nullptr && lost_since_) {
    const auto patience = open_ ? options_.resume_window : options_.first_connection;
    if (Clock::now() - *lost_since_ > patience)
      end(open_ ? "the client did not come back in time" : "no data connection came in time");
  }
  return progress;
}

bool Session::take_connection() {
  std::unique_ptr<Connection> connection;
  std::uint64_t peer_has = 0;
  {
    std::lock_guard lock(door_mutex_);
    if (stop_ && !closing_) {
      const std::string reason = stop_reason_;
      close_with(reason);
      return true;
    }
    if (arrived_ == nullptr) return false;
    connection = std::move(arrived_);
    peer_has = arrived_has_;
    wakeable_ = nullptr;
  }
  const bool resumed = open_ || link_.received() != 0;
  if (resumed && !link_.resumable()) {
    connection->close();
    std::lock_guard lock(door_mutex_);
    wakeable_ = link_.connection();
    return true;
  }
  link_.detach();
  sink_.reset();
  const wire::DataAccept accept(link_.received(), 0, 0);
  ConstBytes bytes{reinterpret_cast<const std::byte*>(&accept), sizeof accept};
  const auto deadline = Clock::now() + limits::kTeardownDeadline;
  while (!bytes.empty() && Clock::now() < deadline) {
    const IoResult sent = connection->send({&bytes, 1});
    if (sent.error) break;
    bytes = bytes.subspan(sent.bytes);
    if (!bytes.empty()) connection->wait(true, deadline);
  }
  Connection* raw = connection.get();
  if (auto attached = link_.attach(std::move(connection), peer_has); !attached) {
    end(std::string("protocol error: ") + attached.error().what);
    return true;
  }
  use_one_sided(link_.resumable() ? nullptr : raw->one_sided());
  lost_since_.reset();
  std::lock_guard lock(door_mutex_);
  wakeable_ = raw;
  return true;
}

void Session::link_was_lost() {
  const TransportError lost = link_.lost();
  {
    std::lock_guard lock(door_mutex_);
    wakeable_ = nullptr;
  }
  ended_connection_ = link_.detach();
  ended_connection_->close();
  sink_.reset();
  if (lost.code == TransportErrc::kClosed) return end("the client closed its connection");
  if (!link_.resumable()) {
    const std::string reason = ended_connection_->reason();
    return end("the connection broke: " + (reason.empty() ? std::string(to_string(lost.code)) : reason));
  }
  ended_connection_.reset();
  lost_since_ = Clock::now();
  spdlog::info("{}: the connection broke; waiting for the client to come back", name_);
}

bool Session::paused() const {
  // The frame that a host function has run comes behind others: they have room of their own.
  return held_bytes_ > (host_turns_.empty() ? limits::kBacklogBytes : limits::kBacklogBytes + limits::kHostFunctionBytes) ||
         stalled_map_;
}

bool Session::handle_frames() {
  bool progress = false;
  unsigned since_marks = 0;
  InFrame frame;
  while (!closing_ && !ended_ && !paused() && !goodbye_) {
    auto got = link_.next(frame);
    if (!got) {
      close_with(std::string("protocol error: ") + got.error().what);
      return true;
    }
    if (!link_.receiving_payload() && sink_ != nullptr) sink_.reset();
    if (!*got) break;
    progress = true;
    ++calls_;
    if (auto handled = handle(frame); !handled) {
      const auto* info = wire::call_info(frame.header.opcode());
      close_with(std::string("protocol error: ") + handled.error().what + " (" + std::string(info->name) + ", frame " +
                 std::to_string(frame.header.sequence()) + ")");
    }
    if (!link_.receiving_payload()) handled_ = frame.header.sequence();
    // One read can hold more launches than a stream's window: what has finished meanwhile must be
    // known before the window closes, or the device runs dry behind it.
    if (++since_marks == Completions::kMarkEvery) {
      since_marks = 0;
      completions_.place_marks(false);
      completions_.poll();
    }
  }
  return progress;
}

Result<> Session::handle(InFrame& frame) {
  const auto opcode = static_cast<wire::Opcode>(frame.header.opcode());
  if (!open_ && opcode != wire::Opcode::Hello && opcode != wire::Opcode::Ping && opcode != wire::Opcode::Ack &&
      opcode != wire::Opcode::Goodbye) {
    return protocol_error("a call before Hello");
  }
  frame_ = &frame;
  const std::uint64_t held_before = held_sequence_;
  if (tracer_.on()) tracer_.begin(frame.header);
  Result<> handled = wire::dispatch(frame.header, frame.body, *this);
  if (tracer_.on()) tracer_.end(held_sequence_ != held_before);
  if (handled && frame.payload_follows && !link_.receiving_payload()) discard_payload();
  frame_ = nullptr;
  return handled;
}

void Session::close_with(const std::string& reason) {
  if (closing_ || ended_) return;
  spdlog::warn("{}: {}; closed after {} calls", name_, reason, calls_);
  reason_ = reason;
  const wire::SessionClosed body(0);
  link_.push(wire::Opcode::SessionClosed, 0, {reinterpret_cast<const std::byte*>(&body), sizeof body},
             std::as_bytes(std::span(reason.data(), reason.size())));
  closing_ = true;
  closing_since_ = Clock::now();
}

void Session::end(std::string reason) {
  if (ended_) return;
  if (reason_.empty()) reason_ = std::move(reason);
  ended_ = true;
}

bool Session::everything_done() const {
  return lanes_.empty() && floating_.empty() && helpers_.pending() == 0 && !completions_.busy() &&
         downloads_.idle() && accesses_.idle() && regions_.idle() && unmaps_.empty() && event_waits_.empty() && later_.empty();
}

void Session::sleep_or_spin(bool progress) {
  const auto now = Clock::now();
  if (progress) {
    quiet_since_ = now;
    return;
  }
  Connection* connection = link_.connection();
  if (connection == nullptr) {
    std::unique_lock lock(door_mutex_);
    const bool device_busy = completions_.busy() || !lanes_.empty();
    door_.wait_for(lock, device_busy ? std::chrono::milliseconds(1) : std::chrono::milliseconds(100),
                   [&] { return arrived_ != nullptr || stop_ || woken_; });
    woken_ = false;
    return;
  }
  if (options_.wait_mode == WaitMode::kSpin ||
      (options_.wait_mode == WaitMode::kAdaptive && now - quiet_since_ < options_.spin)) {
    relax();
    return;
  }
  completions_.place_marks(true);
  const bool device_busy = completions_.busy() || !lanes_.empty() || !downloads_.idle() ||
                           !event_waits_.empty() || closing_;
  const auto nap = std::clamp<Clock::duration>((now - quiet_since_) / kNapPart, kShortestNap, kLongestNap);
  if (paused() || goodbye_ || link_.waits_for_room()) {
    std::this_thread::sleep_for(nap);  // the connection may be readable all the time
    return;
  }
  const auto deadline = now + (device_busy ? nap : Clock::duration(kLongestSleep));
  connection->wait(!link_.idle(), deadline);
}

// ---- answers ----------------------------------------------------------------------------

Result<> Session::finish(const Header& call, int status) {
  constexpr auto wants_reply = static_cast<std::uint16_t>(wire::FrameFlag::WantsReply);
  const auto* info = wire::call_info(call.opcode());
  if (info->mode != wire::Mode::kPosted || (call.flags() & wants_reply) != 0) {
    link_.reply(call, status);
  } else if (status != CUDA_SUCCESS) {
    fail_later(call, status);
  }
  return {};
}

void Session::fail_later(const Header& call, int status) {
  const wire::DeferredError body(call.sequence(), call.opcode());
  link_.push(wire::Opcode::DeferredError, status, {reinterpret_cast<const std::byte*>(&body), sizeof body});
}

Result<> Session::answer_when_done(const Header& call, Stream& stream) {
  completions_.then(stream, [this, call](CUresult status) { finish_after_downloads(call, status); });
  return {};
}

Result<> Session::finish_after_downloads(const Header& call, int status) {
  if (status == CUDA_ERROR_NOT_READY) return finish(call, status);
  poll_watches();
  downloads_.deliver_after([this, call, status] { finish(call, status); });
  return {};
}

class Session::DiscardSink final : public PayloadSink {
 public:
  MutableBytes room(std::uint64_t) override { return scratch_; }
  void advance(std::size_t) override {}
  void finish() override {}
  void abort() override {}

 private:
  std::array<std::byte, limits::kInlinePayloadBytes> scratch_;
};

void Session::discard_payload() {
  if (frame_ == nullptr || !frame_->payload_follows || replaying_ != nullptr) return;
  sink_ = std::make_unique<DiscardSink>();
  link_.payload_to(*sink_);
}

Result<> Session::operator()(const Header&, const wire::Ack&) { return {}; }

Result<> Session::operator()(const Header& header, const wire::Ping&) { return finish(header, CUDA_SUCCESS); }

Result<> Session::operator()(const Header& header, const wire::TraceStart&) {
  if (!tracer_.on()) {
    tracer_.start();
    completions_.worked = [this](Stream& stream) { tracer_.after_work(stream); };
  }
  return answer(header, wire::TraceStartReply(Tracer::now_ns()));
}

Result<> Session::operator()(const Header& header, const wire::Goodbye&) {
  goodbye_ = header;
  // Nobody ends these captures or runs these functions any more.
  abandon_captures(nullptr);
  host_calls_.close();
  return {};
}

// ---- what kernels print -----------------------------------------------------------------

void Session::capture_output() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return;
  output_pipe_.reset(ends[0]);
  std::fflush(stdout);
  ::dup2(ends[1], STDOUT_FILENO);
  ::close(ends[1]);
}

void Session::drain_output() {
  std::string text[2];
  {
    std::lock_guard lock(output_mutex_);
    std::swap(text, output_);
  }
  if (output_pipe_) {
    std::fflush(stdout);
    char buffer[4096];
    for (ssize_t n; (n = ::read(output_pipe_.get(), buffer, sizeof buffer)) > 0;)
      text[0].append(buffer, static_cast<std::size_t>(n));
  }
  for (std::uint32_t i = 0; i < 2; ++i) {
    if (text[i].empty()) continue;
    const wire::DeviceOutput body(i + 1, 0);
    link_.push(wire::Opcode::DeviceOutput, 0, {reinterpret_cast<const std::byte*>(&body), sizeof body},
               std::as_bytes(std::span(text[i].data(), text[i].size())));
  }
}

}  // namespace avec::worker
