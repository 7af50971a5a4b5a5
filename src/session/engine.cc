#include "session/engine.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/no_cancel.h"
#include "transport/tcp/factory.h"
#include "transport/tcp/stripes.h"

namespace avec::session {
namespace {

using std::chrono::steady_clock;

/// A poster sends by itself beyond this: about a hundred launches a system call.
constexpr std::uint64_t kFlushBytes = 24u << 10;
/// No single sleep is longer, so that nothing lost can hang a thread for ever.
constexpr auto kLongestSleep = std::chrono::seconds(1);
/// How long a thread that wants the role spins before it sleeps: the other may just be
/// sending a batch.
constexpr auto kParkSpin = std::chrono::microseconds(20);

/// Posts further apart than this are sent one by one by whoever posts.
constexpr auto kLonePost = std::chrono::microseconds(1000);

constexpr auto kWantsReply = static_cast<std::uint16_t>(wire::FrameFlag::WantsReply);

}  // namespace

std::expected<std::shared_ptr<Session>, Failure> Session::open(Options options, Callbacks callbacks) {
  auto engine = std::make_shared<Engine>(std::move(options), std::move(callbacks));
  if (auto started = engine->start(); !started) return std::unexpected(std::move(started.error()));
  return engine;
}

Engine::Engine(Options options, Callbacks callbacks)
    : options_(std::move(options)),
      callbacks_(std::move(callbacks)),
      keep_(options_.resume_window.count() > 0),
      inbox_(*this) {}

Engine::~Engine() { close(); }

const wire::HelloReply& Engine::hello() const {
  return *flatbuffers::GetRoot<wire::HelloReply>(hello_.data());
}

std::expected<void, Failure> Engine::start() {
  const Deadline deadline = steady_clock::now() + options_.connect_deadline;
  const std::size_t ring = keep_ ? limits::kReplayBytes : limits::kSendBufferBytes;
  if (auto opened = outbox_.open(ring, keep_); !opened) {
    return std::unexpected(
        Failure{opened.error(), fmt::format("out of memory: {} failed", opened.error().what)});
  }
  auto admitted = open_control(options_, deadline);
  if (!admitted) return std::unexpected(std::move(admitted.error()));
  control_ = std::move(admitted->control);
  admission_ = admitted->admission;
  auto data = open_data(options_, admission_, 0, deadline, callbacks_.notice);
  if (!data) return std::unexpected(std::move(data.error()));
  peer_ = (*data)->peer();
  {
    const LockGuard guard(lock_);
    connection_ = std::move(*data);
    watched_ = connection_->poll_descriptor();
    // A connection that is replaced would take what it gave access to with it.
    if (!keep_) one_sided_ = connection_->one_sided();
    if (one_sided_ != nullptr) {
      traits_ = one_sided_->traits();
      one_sided_->on_taken([this](const RemoteKey& key) { source_taken(key); });
    }
    role_taken_ = true;
  }
  const auto accepted = receive_accept(*connection_, options_, deadline);
  {
    const LockGuard guard(lock_);
    hand_over();
  }
  if (!accepted) {
    // The worker may have ended before it answered; the broker knows why.
    const auto grace = std::min(deadline, steady_clock::now() + std::chrono::milliseconds(200));
    if (auto farewell = receive_farewell(*control_, grace)) {
      return std::unexpected(
          Failure{accepted.error().error, fmt::format("{}: {}", options_.executor, *farewell)});
    }
    return std::unexpected(accepted.error());
  }

  flatbuffers::FlatBufferBuilder builder;
  const auto device_ranges = builder.CreateVectorOfStructs(options_.device_ranges);
  const auto host_ranges = builder.CreateVectorOfStructs(options_.host_ranges);
  builder.Finish(wire::CreateHello(builder, device_ranges, host_ranges, keep_ ? limits::kReplayBytes : 0));
  Call call;
  call.wants_table = true;
  const auto answered =
      exchange(call, wire::Opcode::Hello,
               std::as_bytes(std::span(builder.GetBufferPointer(), builder.GetSize())), deadline);
  if (!answered) {
    const Error& error = answered.error();
    if (error.origin == Origin::kCuda) {
      return std::unexpected(
          open_failure(error.code, "opening the executor's devices",
                       fmt::format("{} cannot use its device (CUDA error {}): look at the executor's log",
                                   options_.executor, error.code)));
    }
    if (error.origin == Origin::kTransport && error.code == static_cast<int>(TransportErrc::kTimeout)) {
      return std::unexpected(link_failure(options_, {TransportErrc::kTimeout, 0}, "opening its device"));
    }
    return std::unexpected(Failure{
        error, fmt::format("{} ended the session while it was opened: {}", options_.executor, reason_)});
  }
  hello_ = std::move(call.table);
  {
    const LockGuard guard(lock_);
    last_round_trip_ = 0;
    opening_ = false;
  }
  start_progress();
  return {};
}

// ---- posting -------------------------------------------------------------------------

Result<> Engine::lock_with_room(std::size_t bytes) {
  lock_.lock();
  while (true) {
    if (over_) [[unlikely]] {
      const Error error = over_error_;
      lock_.unlock();
      return std::unexpected(error);
    }
    if (outbox_.room() >= bytes) [[likely]]
      return {};
    Condition condition{Condition::Kind::kRoom};
    await_condition(condition);
  }
}

Engine::Frame Engine::put_header(wire::Opcode opcode, std::uint16_t flags, std::size_t body_bytes,
                                 std::size_t payload_bytes) {
  const std::uint64_t sequence = last_sequence_.load(std::memory_order_relaxed) + 1;
  last_sequence_.store(sequence, std::memory_order_relaxed);
  unacknowledged_bytes_ = 0;
  ack_now_ = false;
  if (options_.observer != nullptr) [[unlikely]] options_.observer->posted(opcode, sequence);
  const auto padded_body = static_cast<std::uint32_t>(wire::padded(body_bytes));
  const wire::FrameHeader header(static_cast<std::uint16_t>(opcode), flags, 0, padded_body, 0, sequence,
                                 received_.load(std::memory_order_relaxed), 0, payload_bytes);
  std::byte* frame = outbox_.tail();
  std::memcpy(frame, &header, sizeof header);
  const auto in_ring = [](std::size_t bytes) {
    return bytes > limits::kInlinePayloadBytes ? std::size_t{0}
                                               : static_cast<std::size_t>(wire::padded(bytes));
  };
  // Padding is whatever bytes end a part that is not a multiple of 8: cleared before the part
  // is written over all but them.
  const std::size_t body = in_ring(padded_body), payload = in_ring(payload_bytes);
  if (body_bytes % 8 != 0 && body != 0) std::memset(frame + wire::kHeaderBytes + body - 8, 0, 8);
  if (payload_bytes % 8 != 0 && payload != 0)
    std::memset(frame + wire::kHeaderBytes + body + payload - 8, 0, 8);
  return {sequence, frame + wire::kHeaderBytes, wire::kHeaderBytes + body + payload};
}

void Engine::finish_post() {
  add_to(posted_, 1);
  bool send_here = outbox_.unsent() >= kFlushBytes && !role_taken_ && !send_blocked_;
  bool kick = false;
  // A driver that does not sleep sees the frame by itself.
  if (progress_asleep_ && !send_here && (!role_taken_ || driver_asleep_)) [[unlikely]] {
    // The first call after a pause is sent at once from here, which costs less than waking a
    // thread to do it. When more follow, that thread is worth its wake; until it runs, which may
    // take longer than a call, this one too is sent from here.
    const auto now = steady_clock::now();
    kick = now - last_lone_post_ < kLonePost || send_blocked_;
    if (kick) progress_asleep_ = false;
    if (!role_taken_) {
      send_here = !send_blocked_;
    } else if (!kick) {
      wake_driver();
    }
    last_lone_post_ = now;
  }
  if (send_here) [[unlikely]] {
    take_role();
    flush_locked();
    hand_over();
  }
  outbox_.prefetch_tail();
  lock_.unlock();
  if (kick) [[unlikely]]
    kick_progress();
}

Result<Session::Slot> Engine::begin_post(wire::Opcode opcode, std::size_t body_bytes,
                                         std::size_t payload_bytes) {
  if (payload_bytes > limits::kInlinePayloadBytes)
    return user_error("posting more bytes than are sent inline");
  const std::size_t bytes = wire::kHeaderBytes + body_bytes + wire::padded(payload_bytes);
  if (auto room = lock_with_room(bytes); !room) return std::unexpected(room.error());
  const Frame frame = put_header(opcode, 0, body_bytes, payload_bytes);
  posting_bytes_ = frame.bytes;
  add_to(post_copied_, payload_bytes);
  return Slot{frame.body, frame.body + body_bytes};
}

void Engine::end_post() {
  outbox_.commit(posting_bytes_);
  finish_post();
}

Result<> Engine::post_frame(wire::Opcode opcode, ConstBytes body, ConstBytes payload) {
  if (payload.size() > limits::kInlinePayloadBytes) return post_large(opcode, body, payload);
  auto slot = begin_post(opcode, body.size(), payload.size());
  if (!slot) return std::unexpected(slot.error());
  std::memcpy(slot->body, body.data(), body.size());
  if (!payload.empty()) std::memcpy(slot->payload, payload.data(), payload.size());
  end_post();
  return {};
}

Result<> Engine::post_large(wire::Opcode opcode, ConstBytes body, ConstBytes payload) {
  Waiter waiter;
  External external;
  external.bytes = payload;
  external.waiter = &waiter;
  if (auto room = lock_with_room(wire::kHeaderBytes + body.size()); !room) return room;
  const Frame frame = put_header(opcode, 0, body.size(), payload.size());
  std::memcpy(frame.body, body.data(), body.size());
  outbox_.commit(frame.bytes);
  external.sequence = frame.sequence;
  outbox_.append(external);
  add_to(posted_, 1);
  add_to(source_waits_, 1);
  await(waiter, Deadline::max());
  // An end of the session while the bytes were going out: nobody knows whether they arrived.
  const bool over = over_;
  const Error error = over_error_;
  lock_.unlock();
  if (over) return std::unexpected(error);
  return {};
}

// ---- calling -------------------------------------------------------------------------

Result<> Engine::exchange(Call& call, wire::Opcode opcode, ConstBytes body, Deadline deadline) {
  External external;
  const bool large = wire::padded(body.size()) > limits::kInlinePayloadBytes;
  const std::size_t in_ring = large ? 0 : static_cast<std::size_t>(wire::padded(body.size()));
  if (body.size() > limits::kMaxBodyBytes) return user_error("a call with a body over the limit");
  if (auto room = lock_with_room(wire::kHeaderBytes + in_ring); !room) return room;
  const Frame frame = put_header(opcode, kWantsReply, body.size(), 0);
  call.sequence = frame.sequence;
  call.opcode = opcode;
  if (!large) std::memcpy(frame.body, body.data(), body.size());
  outbox_.commit(frame.bytes);
  if (large) {
    external.bytes = body;
    external.sequence = frame.sequence;
    call.external = &external;
    outbox_.append(external);
  }
  replies_.expect(call);
  await(call.waiter, deadline);
  if (!call.waiter.done) {
    // Only opening and closing have a deadline, and both end the session after it.
    replies_.remove(call);
    lock_.unlock();
    return std::unexpected(
        Error{Origin::kTransport, static_cast<int>(TransportErrc::kTimeout), "waiting for a reply"});
  }
  last_round_trip_ = std::max(last_round_trip_, call.sequence);
  const Error error =
      call.answered ? Error{Origin::kCuda, call.status, "a call to the executor"} : over_error_;
  lock_.unlock();
  if (!call.answered || call.status != 0) return std::unexpected(error);
  return {};
}

Result<> Engine::call_struct(wire::Opcode opcode, ConstBytes body, MutableBytes reply) {
  Call call;
  call.reply = reply;
  auto done = exchange(call, opcode, body, Deadline::max());
  const LockGuard guard(lock_);
  add_to(waited_, 1);
  add_to(round_trips_, 1);
  return done;
}

Result<std::vector<std::byte>> Engine::call_table(wire::Opcode opcode, ConstBytes body) {
  Call call;
  call.wants_table = true;
  auto done = exchange(call, opcode, body, Deadline::max());
  {
    const LockGuard guard(lock_);
    add_to(waited_, 1);
    add_to(round_trips_, 1);
  }
  if (!done) return std::unexpected(done.error());
  return std::move(call.table);
}

Counters Engine::counters() const {
  const auto get = [](const std::atomic<std::uint64_t>& counter) {
    return counter.load(std::memory_order_relaxed);
  };
  return {get(posted_),       get(waited_),         get(round_trips_),
          get(bytes_sent_),   get(bytes_received_), get(post_copied_) + get(receive_copied_),
          get(source_waits_), get(one_sided_bytes_)};
}

// ---- waiting -------------------------------------------------------------------------

void Engine::tell(Waiter& waiter, std::uint32_t word) {
  if (waiter.word.exchange(word, std::memory_order_acq_rel) == Waiter::kSleeping) futex_wake_one(waiter.word);
}

void Engine::mark_done(Waiter& waiter) {
  waiter.done.store(true, std::memory_order_relaxed);
  if (!waiter.parked) return;
  parked_.remove(waiter);
  --parked_count_;
  waiter.parked = false;
  tell(waiter, Waiter::kDone);
}

void Engine::hand_over() {
  Waiter* next = parked_.first();
  if (next != nullptr) {
    parked_.remove(*next);
    --parked_count_;
    next->parked = false;
    tell(*next, Waiter::kDriver);
    return;
  }
  role_taken_ = false;
  // With a watch that is spent it would sleep on through whatever nobody waits for.
  if (progress_asleep_ && (outbox_.unsent() != 0 || watch_ == Watch::kSpent)) {
    progress_asleep_ = false;
    kick_progress();
  }
}

void Engine::wake_driver() {
  const NoCancel no_cancel;
  driver_asleep_ = false;
  connection_->wake();
}

std::uint32_t Engine::sleep_parked(Waiter& waiter, bool may_spin, Deadline deadline) {
  std::uint32_t word = waiter.word.load(std::memory_order_acquire);
  if (may_spin && options_.wait_mode != WaitMode::kBlock) {
    const auto until = steady_clock::now() + kParkSpin;
    while (word == Waiter::kParked && steady_clock::now() < until) {
      for (int i = 0; i < 16; ++i) relax();
      word = waiter.word.load(std::memory_order_acquire);
    }
  }
  if (word == Waiter::kParked &&
      waiter.word.compare_exchange_strong(word, Waiter::kSleeping, std::memory_order_acq_rel)) {
    word = Waiter::kSleeping;
  }
  while (word == Waiter::kSleeping && steady_clock::now() < deadline) {
    futex_wait(waiter.word, Waiter::kSleeping, std::min(deadline, steady_clock::now() + kLongestSleep));
    word = waiter.word.load(std::memory_order_acquire);
  }
  return word;
}

bool Engine::await(Waiter& waiter, Deadline deadline) {
  while (!waiter.done) {
    bool mine = false;
    if (!role_taken_) {
      take_role();
      mine = true;
    } else {
      waiter.word.store(Waiter::kParked, std::memory_order_relaxed);
      waiter.parked = true;
      parked_.push(waiter);
      const bool may_spin = ++parked_count_ <= 1;
      if (driver_asleep_ && outbox_.unsent() != 0) wake_driver();
      lock_.unlock();
      sleep_parked(waiter, may_spin, deadline);
      lock_.lock();
      if (waiter.parked) {
        parked_.remove(waiter);
        --parked_count_;
        waiter.parked = false;
        return waiter.done;  // the deadline
      }
      mine = waiter.word.load(std::memory_order_relaxed) == Waiter::kDriver;
    }
    if (!mine) continue;
    lock_.unlock();
    const bool in_time = drive(waiter, deadline);
    lock_.lock();
    spend_watch();
    hand_over();
    if (!in_time) return waiter.done;
  }
  return true;
}

void Engine::add(Condition& condition) {
  condition.previous = nullptr;
  condition.next = conditions_;
  if (conditions_ != nullptr) conditions_->previous = &condition;
  conditions_ = &condition;
}

void Engine::remove(Condition& condition) {
  (condition.previous != nullptr ? condition.previous->next : conditions_) = condition.next;
  if (condition.next != nullptr) condition.next->previous = condition.previous;
}

void Engine::await_condition(Condition& condition) {
  add(condition);
  await(condition.waiter, Deadline::max());
  remove(condition);
}

void Engine::room_made() {
  for (Condition* condition = conditions_; condition != nullptr; condition = condition->next) {
    if (condition->kind == Condition::Kind::kRoom) mark_done(condition->waiter);
  }
}

void Engine::release_externals(External* list) {
  while (list != nullptr) {
    External* external = std::exchange(list, list->next);
    if (external->waiter != nullptr) mark_done(*external->waiter);
  }
}

bool Engine::drive(Waiter& waiter, Deadline deadline) {
  const NoCancel no_cancel;
  const bool block = options_.wait_mode == WaitMode::kBlock;
  const auto spin = options_.wait_mode == WaitMode::kSpin ? steady_clock::duration::max() : options_.spin;
  bool idle = false;
  Deadline idle_since{};
  while (!waiter.done.load(std::memory_order_relaxed)) {
    if (closing_.load(std::memory_order_relaxed) || over()) return true;
    // Who sleeps at once saves itself the attempt to receive: nothing can have come yet.
    const bool moved = block && outbox_.has_unsent() ? flush() : pump();
    if (moved && !block) {
      idle = false;
      continue;
    }
    if (waiter.done.load(std::memory_order_relaxed)) return true;
    if (spin == steady_clock::duration::max() && deadline == Deadline::max()) continue;
    const auto now = steady_clock::now();
    if (now >= deadline) return false;
    if (!idle) {
      idle = true;
      idle_since = now;
    }
    if (!block && now - idle_since < spin) {
      relax();
      continue;
    }
    sleep_in_wait(waiter, deadline);
  }
  return true;
}

void Engine::sleep_in_wait(const Waiter& waiter, Deadline deadline) {
  bool want_send;
  {
    const LockGuard guard(lock_);
    want_send = outbox_.unsent() != 0;
    // Something was posted meanwhile, or somebody closes: there is work first. Or changed() ended
    // this thread's wait.
    if ((want_send && !send_blocked_) || closing_ || over_ || waiter.done) return;
    driver_asleep_ = true;
  }
  connection_->wait(want_send, std::min(deadline, steady_clock::now() + kLongestSleep));
  send_blocked_.store(false, std::memory_order_relaxed);
  const LockGuard guard(lock_);
  driver_asleep_ = false;
}

// ---- the end -------------------------------------------------------------------------

void Engine::close() {
  if (abandoned_) return;
  const std::scoped_lock closing(close_mutex_);
  leaving_ = true;
  if (!over() && !opening_) {
    Call goodbye;
    const wire::Goodbye body(0);
    // Without an answer in time the end is less orderly, not later.
    static_cast<void>(exchange(goodbye, wire::Opcode::Goodbye, std::as_bytes(std::span(&body, 1)),
                               steady_clock::now() + limits::kTeardownDeadline));
  }
  lock_.lock();
  if (connection_) {
    Waiter waiter;
    closing_ = true;
    while (!over_) {
      bool mine = !role_taken_;
      if (mine) {
        take_role();
      } else {
        waiter.word.store(Waiter::kParked, std::memory_order_relaxed);
        waiter.parked = true;
        parked_.push_first(waiter);
        ++parked_count_;
        if (driver_asleep_) wake_driver();
        lock_.unlock();
        sleep_parked(waiter, false, Deadline::max());
        lock_.lock();
        mine = true;
      }
      lock_.unlock();
      if (!over()) {
        fail(Error{Origin::kTransport, static_cast<int>(TransportErrc::kClosed), "the session was closed"},
             "the session was closed", false);
      }
      lock_.lock();
      hand_over();
    }
  }
  lock_.unlock();
  stop_progress();
  if (control_) control_->close();
}

void Engine::abandon_after_fork() noexcept {
  abandoned_ = true;
  lock_.reset_after_fork();
  const LockGuard guard(lock_);
  // Nothing of the parent's is destroyed, only this process's copies of its descriptors are
  // closed: a destructor could say goodbye in the parent's name. Objects whose locks another
  // thread may have held stay as they are.
  const auto forget = [](std::unique_ptr<Connection>& connection) {
    if (!connection) return;
    const int descriptor = connection->poll_descriptor();
    const int socket = tcp::native_descriptor(*connection);
    if (descriptor >= 0) ::close(descriptor);
    if (socket >= 0 && socket != descriptor) ::close(socket);
    static_cast<void>(connection.release());
  };
  one_sided_ = nullptr;  // the parent's memory and keys stay the parent's
  if (connection_) tcp::forget_stripes_after_fork(*connection_);
  forget(connection_);
  forget(control_);
  static_cast<void>(progress_.release());
  progress_wake_.reset();
  progress_asleep_ = false;
  over_ = true;
  over_flag_ = true;
  over_error_ = Error{Origin::kTransport, static_cast<int>(TransportErrc::kClosed),
                      "the session belongs to the parent process"};
}

}  // namespace avec::session
