#include "devices/cpu/scheduler.h"

#include <algorithm>

#include "devices/cpu/device.h"

namespace avec::cpu {
namespace {

/// As many kernels as a GPU of this kind runs at once.
constexpr int kMaxThreads = 128;
/// Between two looks at memory that a stream waits on.
constexpr std::chrono::microseconds kPollInterval{50};

std::int64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

bool dropped(const Context& context) { return context.fault.load() != CUDA_SUCCESS || context.stop.load(); }

}  // namespace

bool Scheduler::runnable(Stream& stream, bool& polling) const {
  if (stream.running || stream.queue.empty()) return false;
  const Task& head = stream.queue.front();
  if (dropped(*stream.context)) return true;
  for (const auto& before : head.after) {
    if (!before->done.load(std::memory_order_acquire)) return false;
  }
  if (head.ready && !head.ready()) {
    polling = true;
    return false;
  }
  return true;
}

StreamRef Scheduler::pick(bool& polling) const {
  StreamRef best;
  for (const auto& stream : active_) {
    if (best && best->priority <= stream->priority) continue;  // lower numbers come first
    if (runnable(*stream, polling)) best = stream;
  }
  return best;
}

void Scheduler::finish(Stream& stream, const CompletionRef& completion) {
  completion->when_ns.store(now_ns(), std::memory_order_relaxed);
  completion->done.store(true, std::memory_order_release);
  if (stream.queue.empty() && !stream.running && stream.active) {
    stream.active = false;
    std::erase_if(active_, [&](const StreamRef& other) { return other.get() == &stream; });
  }
  if (waiters_ > 0) done_.notify_all();
}

void Scheduler::run_head(const StreamRef& stream, Lock& lock) {
  Task task = std::move(stream->queue.front());
  stream->queue.pop_front();
  Context& context = *stream->context;
  if (task.run) {
    stream->running = true;
    const std::uint64_t ticket = next_ticket_++;
    running_.insert(ticket);
    lock.unlock();
    const bool run = !context.stop.load() && (task.always || context.fault.load() == CUDA_SUCCESS);
    const CUresult result = run ? task.run(context.fault.load()) : CUDA_SUCCESS;
    task.run = nullptr;  // what the closure owns goes before the lock is taken
    std::vector<std::function<void()>> quiet;
    lock.lock();
    running_.erase(ticket);
    const std::uint64_t oldest = running_.empty() ? next_ticket_ : *running_.begin();
    for (auto& [after, action] : quiet_) {
      if (after <= oldest) quiet.push_back(std::move(action));
    }
    std::erase_if(quiet_, [&](const auto& entry) { return entry.first <= oldest; });
    if (result != CUDA_SUCCESS) context.fail(result);
    if (!quiet.empty()) {
      lock.unlock();
      for (auto& action : quiet) action();
      lock.lock();
    }
    stream->running = false;
  }
  finish(*stream, task.completion);
}

void Scheduler::complete(const CompletionRef& completion) {
  const Lock lock(mutex_);
  completion->when_ns.store(now_ns(), std::memory_order_relaxed);
  completion->done.store(true, std::memory_order_release);
  if (waiters_ > 0) done_.notify_all();
  if (!active_.empty()) wake_one();
}

void Scheduler::wake_one() {
  if (idle_ > 0) {
    work_.notify_one();
  } else if (threads_ < kMaxThreads) {
    ++threads_;
    std::thread([this] { work(); }).detach();
  }
}

void Scheduler::work() {
  Lock lock(mutex_);
  for (;;) {
    bool polling = false;
    const StreamRef stream = pick(polling);
    if (stream) {
      // Whatever else can run gets a thread of its own: this task may wait for it.
      const bool was = std::exchange(stream->running, true);
      bool ignored = false;
      if (pick(ignored) || polling || ignored) wake_one();
      stream->running = was;
      run_head(stream, lock);
      continue;
    }
    ++idle_;
    if (polling && !poller_) {
      poller_ = true;
      work_.wait_for(lock, kPollInterval);
      poller_ = false;
    } else {
      work_.wait(lock);
    }
    --idle_;
  }
}

CompletionRef Scheduler::enqueue(const StreamRef& stream, Task task, bool wake) {
  auto completion = std::make_shared<Completion>();
  task.completion = completion;
  const Lock lock(mutex_);
  Context& context = *stream->context;
  auto after = [&task](const StreamRef& other) {
    if (other && other->last && !other->last->done.load()) task.after.push_back(other->last);
  };
  if (stream->legacy) {
    for (const auto& other : streams(context)) {
      if (other->blocking()) after(other);
    }
  } else if (stream->blocking()) {
    after(context.legacy);
  }
  std::erase_if(task.after, [](const CompletionRef& before) { return before->done.load(); });
  stream->last = completion;
  const bool only_mark = !task.run && !task.ready && task.after.empty();
  if (only_mark && stream->queue.empty() && !stream->running) {
    finish(*stream, completion);
    return completion;
  }
  stream->queue.push_back(std::move(task));
  if (!stream->active) {
    stream->active = true;
    active_.push_back(stream);
  }
  if (wake && !stream->running) wake_one();
  return completion;
}

void Scheduler::wait(const StreamRef& stream, const CompletionRef& completion) {
  if (!completion || completion->done.load(std::memory_order_acquire)) return;
  Lock lock(mutex_);
  ++waiters_;
  bool asked = false;
  while (!completion->done.load()) {
    bool polling = false;
    if (stream && runnable(*stream, polling) && !stream->queue.front().user_code) {
      run_head(stream, lock);
      bool ignored = false;
      if (pick(ignored) || ignored) wake_one();
      continue;
    }
    if (!asked) wake_one();  // what this waits for may have been added without waking anyone
    asked = true;
    done_.wait(lock);
  }
  --waiters_;
}

CompletionRef Scheduler::last(const StreamRef& stream) {
  const Lock lock(mutex_);
  return stream->last && !stream->last->done.load() ? stream->last : nullptr;
}

std::vector<StreamRef> Scheduler::streams(Context& context) const {
  std::vector<StreamRef> found;
  if (context.legacy) found.push_back(context.legacy);
  std::erase_if(context.streams, [](const auto& weak) { return weak.expired(); });
  for (const auto& weak : context.streams) {
    if (auto stream = weak.lock()) found.push_back(std::move(stream));
  }
  return found;
}

std::vector<StreamRef> Scheduler::streams_of(Context& context) {
  const Lock lock(mutex_);
  return streams(context);
}

bool Scheduler::wait_all(Context& context, std::chrono::steady_clock::time_point deadline) {
  Lock lock(mutex_);
  std::vector<std::pair<StreamRef, CompletionRef>> pending;
  for (auto& stream : streams(context)) {
    if (stream->last && !stream->last->done.load()) pending.emplace_back(stream, stream->last);
  }
  if (!pending.empty()) wake_one();
  ++waiters_;
  bool in_time = true;
  for (const auto& [stream, completion] : pending) {
    auto done = [&completion] { return completion->done.load(); };
    // wait_until(max) overflows in some libraries.
    if (deadline == std::chrono::steady_clock::time_point::max()) {
      done_.wait(lock, done);
    } else {
      in_time = done_.wait_until(lock, deadline, done) && in_time;
    }
  }
  --waiters_;
  return in_time;
}

bool Scheduler::idle(Context& context) {
  const Lock lock(mutex_);
  for (const auto& stream : streams(context)) {
    if (stream->last && !stream->last->done.load()) return false;
  }
  return true;
}

void Scheduler::add_stream(Context& context, const StreamRef& stream) {
  const Lock lock(mutex_);
  context.streams.push_back(stream);
}

StreamRef Scheduler::legacy(Context& context) {
  const Lock lock(mutex_);
  return context.legacy;
}

void Scheduler::set_legacy(Context& context, StreamRef stream) {
  const Lock lock(mutex_);
  context.legacy.swap(stream);
}

void Scheduler::wake_all() {
  const Lock lock(mutex_);
  if (idle_ == 0) wake_one();
  work_.notify_all();
}

void Scheduler::when_quiet(std::function<void()> action) {
  {
    const Lock lock(mutex_);
    if (!running_.empty()) {
      quiet_.emplace_back(next_ticket_, std::move(action));
      return;
    }
  }
  action();
}

}  // namespace avec::cpu
