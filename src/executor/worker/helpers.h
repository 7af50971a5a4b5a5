// Threads for calls that may block (module loading, mapping): the loop hands them a task and
// gets the result back as a function to run on the loop.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace avec::worker {

/// Grows to limits::kMaxHelperThreads, one per call that waits at the same time.
class Helpers {
 public:
  /// `wake` is called from a helper when results() has something new.
  explicit Helpers(std::function<void()> wake) : wake_(std::move(wake)) {}
  ~Helpers();

  /// Runs `task` on a helper; what it returns runs on the loop. Loop only.
  void run(std::function<std::function<void()>()> task);
  /// Runs what finished tasks returned. True when there was any. Loop only.
  bool collect();
  /// Tasks that have not been collected.
  std::size_t pending() const { return pending_; }
  /// Ends the threads after the tasks under way; those not begun are dropped.
  void stop();

 private:
  void serve();

  const std::function<void()> wake_;
  std::size_t pending_ = 0;  // loop only
  std::mutex mutex_;
  std::condition_variable ready_;
  // Guarded by mutex_.
  std::deque<std::function<std::function<void()>()>> tasks_;
  std::vector<std::function<void()>> results_;
  std::vector<std::thread> threads_;
  std::size_t free_threads_ = 0;
  bool stopping_ = false;
};

}  // namespace avec::worker
