// The lock, the faults, the engine.
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "transport/fake_verbs/state.h"

namespace fake_verbs {

Doorbell::Doorbell() : descriptor_(::eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC)) {}

Doorbell::~Doorbell() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void Doorbell::post() const {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(descriptor_, &one, sizeof one);
}

int Doorbell::take() const {
  std::uint64_t token = 0;
  return ::read(descriptor_, &token, sizeof token) == sizeof token ? 0 : errno;
}

void Doorbell::withdraw() const {
  const int flags = ::fcntl(descriptor_, F_GETFL);
  ::fcntl(descriptor_, F_SETFL, flags | O_NONBLOCK);
  take();
  ::fcntl(descriptor_, F_SETFL, flags);
}

namespace {

void lock_for_fork() { Fabric::get().mutex.lock(); }
void unlock_after_fork() { Fabric::get().mutex.unlock(); }
void unlock_in_child() {
  Fabric::get().after_fork_in_child();
  Fabric::get().mutex.unlock();
}

}  // namespace

Fabric& Fabric::get() {
  static Fabric* const fabric = [] {
    ::pthread_atfork(lock_for_fork, unlock_after_fork, unlock_in_child);
    return new Fabric;  // never destroyed: programs' threads may outlive static objects
  }();
  return *fabric;
}

Call::Call(Function function, ibv_context* context) : lock(Fabric::get().mutex) {
  if (context != nullptr && context_of(context).owner != ::getpid()) {
    std::fprintf(stderr, "fake verbs: a forked child uses verbs objects of its parent\n");
    ::_exit(kChildUsedVerbs);
  }
  error = Fabric::get().enter(function);
}

// ---- faults and counts

int Fabric::enter(Function function) {
  int error = 0;
  fault(function, error);
  return error;
}

bool Fabric::fault(Function function, int& error) {
  ++calls[static_cast<std::size_t>(function)];
  for (auto at = call_faults.begin(); at != call_faults.end(); ++at) {
    if (at->function != function) continue;
    if (at->after > 0) {
      --at->after;
      continue;
    }
    error = at->error;
    if (at->times > 0 && --at->times == 0) call_faults.erase(at);
    return true;
  }
  return false;
}

int Fabric::work_fault(int opcode, std::uint32_t qpn) {
  for (auto at = work_faults.begin(); at != work_faults.end(); ++at) {
    const bool fits = at->opcode == opcode || (at->opcode == -1 && opcode >= 0);
    if (!fits || (at->qpn != 0 && at->qpn != qpn)) continue;
    if (at->after > 0) {
      --at->after;
      continue;
    }
    const int status = at->status;
    work_faults.erase(at);
    return status;
  }
  return -1;
}

void Fabric::violation(std::string_view what) {
  if (violation_count++ == 0) first_violation = what;
}

void Fabric::remember_key(std::uint32_t rkey, std::uint64_t address) {
  if (known_keys.empty()) known_keys.resize(1 << 18);
  // The oldest give way; a program cycles through few windows but many keys.
  known_keys[known_count++ % known_keys.size()] = {rkey, address};
}

void Fabric::raise(Context& context, ibv_event_type type, int port, QueuePair* queue_pair,
                   CompletionQueue* queue) {
  AsyncEvent event;
  event.event.event_type = type;
  if (queue_pair != nullptr) {
    event.event.element.qp = &queue_pair->base;
    event.qpn = queue_pair->base.qp_num;
  } else if (queue != nullptr) {
    event.event.element.cq = &queue->base;
  } else {
    event.event.element.port_num = port;
  }
  context.events.push(event);
  context.async.post();
}

QueuePair* Fabric::queue_pair(std::uint32_t qpn) {
  const auto found = queue_pairs_by_number.find(qpn);
  return found != queue_pairs_by_number.end() ? found->second : nullptr;
}

// ---- the engine

void Fabric::ready(QueuePair& queue_pair) {
  queue_pair.set_aside = false;
  if (queue_pair.ready) return;
  queue_pair.ready = true;
  if (ready_.capacity() == 0) ready_.reserve(4096);
  ready_.push_back(&queue_pair);
}

void Fabric::ready_peer(QueuePair& queue_pair) {
  if (auto* peer = this->queue_pair(queue_pair.attributes.dest_qp_num)) ready(*peer);
}

void Fabric::forget(QueuePair& queue_pair) { std::erase(ready_, &queue_pair); }

void Fabric::settle() {
  if (mode == FAKE_VERBS_IMMEDIATE) {
    const auto now = Clock::now();
    while (!ready_.empty()) {
      auto& queue_pair = *ready_.back();
      ready_.pop_back();
      queue_pair.ready = false;
      while (advance(*this, queue_pair, now) == Outcome::kProgress) {
      }
      if (queue_pair.deadline != kNever) wake_engine();
    }
  } else {
    end_round();
    if (mode == FAKE_VERBS_THREAD) wake_engine();
  }
}

// The next queue pair whose first request is to be tried: the longest-waiting one, or a drawn one.
QueuePair* Fabric::next_runnable(Time now, Time& wake_at) {
  QueuePair* chosen = nullptr;
  unsigned candidates = 0;
  for (auto* queue_pair : queue_pairs) {
    if (!queue_pair->has_work() || queue_pair->stalled || queue_pair->set_aside) continue;
    if (queue_pair->head().due > now && queue_pair->state != IBV_QPS_ERR) {
      wake_at = std::min(wake_at, queue_pair->head().due);
      continue;
    }
    ++candidates;
    const bool better = chosen == nullptr || (seed != 0 ? random() % candidates == 0
                                                        : queue_pair->head().order < chosen->head().order);
    if (better) chosen = queue_pair;
  }
  return chosen;
}

void Fabric::end_round() {
  for (auto* queue_pair : queue_pairs) queue_pair->ready = queue_pair->set_aside = false;
  ready_.clear();
}

unsigned Fabric::step(std::uint32_t qpn, unsigned count) {
  unsigned made = 0;
  const auto now = Clock::now();
  while (made < count) {
    Time ignored = kNever;
    QueuePair* candidate = nullptr;
    if (qpn == 0) {
      candidate = next_runnable(kNever, ignored);
    } else {
      candidate = queue_pair(qpn);
      if (candidate != nullptr && (!candidate->has_work() || candidate->stalled || candidate->set_aside))
        break;
    }
    if (candidate == nullptr) break;
    if (advance(*this, *candidate, now) == Outcome::kProgress) {
      ++made;
    } else {
      candidate->set_aside = true;  // until somebody makes it ready
    }
  }
  end_round();
  return made;
}

void Fabric::engine(unsigned generation) {
  std::unique_lock lock(mutex);
  while (generation == engine_generation_) {
    const auto now = Clock::now();
    Time wake_at = kNever;
    if (mode == FAKE_VERBS_THREAD) {
      while (auto* queue_pair = next_runnable(now, wake_at)) {
        if (advance(*this, *queue_pair, now) == Outcome::kWait) queue_pair->set_aside = true;
      }
      end_round();
    } else if (mode == FAKE_VERBS_IMMEDIATE) {
      for (auto* queue_pair : queue_pairs) {
        if (queue_pair->deadline <= now) ready(*queue_pair);
      }
      settle();
    }
    for (auto* queue_pair : queue_pairs) wake_at = std::min(wake_at, queue_pair->deadline);
    if (mode == FAKE_VERBS_STEP || wake_at == kNever) {
      engine_wakes_.wait(lock);
    } else {
      engine_wakes_.wait_until(lock, wake_at);
    }
  }
}

void* Fabric::run_engine(void* generation) {
  get().engine(static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(generation)));
  return nullptr;
}

void Fabric::start_engine() {
  if (engine_runs_) return;
  auto* generation = reinterpret_cast<void*>(std::uintptr_t{engine_generation_});
  engine_runs_ = ::pthread_create(&engine_, nullptr, run_engine, generation) == 0;
}

void Fabric::stop_engine(std::unique_lock<std::mutex>& lock) {
  if (!engine_runs_) return;
  ++engine_generation_;
  engine_runs_ = false;
  const auto engine = engine_;
  wake_engine();
  lock.unlock();
  ::pthread_join(engine, nullptr);
  lock.lock();
}

// Threads do not survive a fork, and who waited is gone.
void Fabric::after_fork_in_child() {
  engine_runs_ = false;
  new (&engine_wakes_) std::condition_variable;
}

}  // namespace fake_verbs
