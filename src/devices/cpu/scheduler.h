// Streams as first-in, first-out queues, run by threads that are started as they are needed.
//
// One mutex guards every queue. A task runs when it is at the head of its stream and the
// completions it comes after are done; the rules of the legacy default stream and of events are
// only such completions. A host function or a kernel may wait for another stream, so a stream
// that can run never waits for a thread: one is started for it, up to a limit.
#pragma once

#include <cuda.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <thread>
#include <vector>

namespace avec::cpu {

struct Context;
struct StreamCapture;

/// Set once, when a task has run or was dropped.
struct Completion {
  std::atomic<bool> done{false};
  /// Steady clock, nanoseconds; valid once done.
  std::atomic<std::int64_t> when_ns{0};
};
using CompletionRef = std::shared_ptr<Completion>;

struct Task {
  /// The work; what it returns, if not CUDA_SUCCESS, becomes the context's sticky error. Gets
  /// the context's error, which is CUDA_SUCCESS unless `always`. Empty: only a mark.
  std::function<CUresult(CUresult)> run;
  /// Polled until true, before run. Empty: at once.
  std::function<bool()> ready;
  std::vector<CompletionRef> after;
  /// Code of the application: never run on the thread of a caller that waits.
  bool user_code = false;
  /// Run although the context has failed (stream callbacks are told of errors).
  bool always = false;
  CompletionRef completion;
};

struct Stream {
  std::uintptr_t handle = 0;  // 0 for default streams
  std::shared_ptr<Context> context;
  unsigned flags = 0;
  int priority = 0;
  std::uint64_t id = 0;
  bool legacy = false;
  bool per_thread = false;
  std::mutex attribute_mutex;
  std::map<int, CUlaunchAttributeValue> attributes;  // that were set; guarded by attribute_mutex
  [[nodiscard]] bool blocking() const { return !legacy && (flags & CU_STREAM_NON_BLOCKING) == 0; }

  std::shared_ptr<StreamCapture> capture;  // guarded by graph_mutex()

  // Guarded by the scheduler's mutex.
  std::deque<Task> queue;
  bool running = false;
  bool active = false;
  CompletionRef last;
};
using StreamRef = std::shared_ptr<Stream>;

class Scheduler {
 public:
  /// Adds a task. `wake` false: the caller waits for it at once and will run it itself.
  CompletionRef enqueue(const StreamRef& stream, Task task, bool wake = true);
  /// Waits until the completion is done, running tasks of `stream` meanwhile.
  void wait(const StreamRef& stream, const CompletionRef& completion);
  /// Last completion of a stream; null when it is idle.
  CompletionRef last(const StreamRef& stream);
  /// Waits for all streams of the context; false: the deadline came first.
  bool wait_all(Context& context, std::chrono::steady_clock::time_point deadline =
                                      std::chrono::steady_clock::time_point::max());
  [[nodiscard]] bool idle(Context& context);
  /// The streams of a context, its default stream first.
  [[nodiscard]] std::vector<StreamRef> streams_of(Context& context);
  /// Makes a stream of the context known to its legacy default stream.
  void add_stream(Context& context, const StreamRef& stream);
  /// The legacy default stream of a context; null once it is closed.
  StreamRef legacy(Context& context);
  void set_legacy(Context& context, StreamRef stream);
  /// Sets a completion that no task of a queue has: a task that runs has reached it.
  void complete(const CompletionRef& completion);
  /// After the context's error or stop was set by a caller: drops what is queued.
  void wake_all();
  /// Calls `action` when every task that runs now has ended: it may still use what is released.
  void when_quiet(std::function<void()> action);

 private:
  using Lock = std::unique_lock<std::mutex>;
  [[nodiscard]] bool runnable(Stream& stream, bool& polling) const;
  [[nodiscard]] StreamRef pick(bool& polling) const;
  void run_head(const StreamRef& stream, Lock& lock);
  void finish(Stream& stream, const CompletionRef& completion);
  void wake_one();
  void work();
  [[nodiscard]] std::vector<StreamRef> streams(Context& context) const;

  std::mutex mutex_;
  std::condition_variable work_, done_;
  std::vector<StreamRef> active_;
  int idle_ = 0, threads_ = 0, waiters_ = 0;
  bool poller_ = false;
  std::uint64_t next_ticket_ = 0;
  std::set<std::uint64_t> running_;
  std::vector<std::pair<std::uint64_t, std::function<void()>>> quiet_;
};

}  // namespace avec::cpu
