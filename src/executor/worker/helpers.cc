#include "executor/worker/helpers.h"

#include <new>
#include <utility>

#include "base/limits.h"

namespace avec::worker {

Helpers::~Helpers() { stop(); }

void Helpers::run(std::function<std::function<void()>()> task) {
  ++pending_;
  std::lock_guard lock(mutex_);
  tasks_.push_back(std::move(task));
  if (free_threads_ < tasks_.size() && threads_.size() < limits::kMaxHelperThreads) {
    ++free_threads_;
    threads_.emplace_back([this] { serve(); });
  }
  ready_.notify_one();
}

void Helpers::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    ready_.wait(lock, [&] { return stopping_ || !tasks_.empty(); });
    if (stopping_) return;
    auto task = std::move(tasks_.front());
    tasks_.pop_front();
    --free_threads_;
    lock.unlock();
    std::function<void()> result;
    try {
      result = task();
    } catch (const std::bad_alloc&) {
      // The loop ends the session, as when it runs out of memory by itself.
      result = [] { throw std::bad_alloc(); };
    }
    lock.lock();
    ++free_threads_;
    results_.push_back(std::move(result));
    lock.unlock();
    wake_();
    lock.lock();
  }
}

bool Helpers::collect() {
  if (pending_ == 0) return false;
  std::vector<std::function<void()>> results;
  {
    std::lock_guard lock(mutex_);
    results.swap(results_);
  }
  pending_ -= results.size();
  for (auto& result : results) result();
  return !results.empty();
}

void Helpers::stop() {
  std::vector<std::thread> threads;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    tasks_.clear();
    threads.swap(threads_);
  }
  ready_.notify_all();
  for (std::thread& thread : threads) thread.join();
}

}  // namespace avec::worker
