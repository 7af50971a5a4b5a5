// Threads that help to copy large payload between pageable memory and slots: one core copies 3 to
// 11 GB/s, less than a copy engine or a fast link moves.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace avec::client {

class CopyThreads {
 public:
  /// `threads` counts the one that calls run(); 0: as many as help on this machine. Helpers are
  /// started when they are first wanted.
  explicit CopyThreads(unsigned threads);
  ~CopyThreads();
  CopyThreads(const CopyThreads&) = delete;
  CopyThreads& operator=(const CopyThreads&) = delete;

  /// How many threads run() uses at most.
  unsigned count() const { return count_; }
  /// Runs `work` on this thread, and on up to `threads` - 1 helpers that are free, and returns
  /// when all of them are back from it. Any thread, several at a time.
  void run(unsigned threads, const std::function<void()>& work);

 private:
  /// One run(); on its caller's stack.
  struct Job {
    const std::function<void()>* work;
    unsigned wanted;       ///< helpers that may still join
    unsigned running = 0;  ///< helpers at work
  };
  void start_helpers();
  void help();

  const unsigned count_;
  std::mutex mutex_;  // guards all that follows, and the jobs
  std::condition_variable wanted_, back_;
  std::vector<Job*> jobs_;  // that want helpers, oldest first
  std::vector<std::thread> helpers_;
  bool started_ = false, stop_ = false;
};

}  // namespace avec::client
