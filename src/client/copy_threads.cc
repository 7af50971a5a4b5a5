#include "client/copy_threads.h"

#include "base/no_cancel.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <system_error>

#include "base/limits.h"

namespace avec::client {
namespace {

/// More do not help: the memory's bandwidth is then used up, or the copy engine's.
constexpr unsigned kMostByThemselves = 4;

unsigned threads_that_help() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (::sched_getaffinity(0, sizeof cores, &cores) != 0) return 1;
  // Half of the cores: the program, the executor and the driver want some too.
  return std::clamp(static_cast<unsigned>(CPU_COUNT(&cores)) / 2, 1u, kMostByThemselves);
}

}  // namespace

CopyThreads::CopyThreads(unsigned threads)
    : count_(threads != 0 ? std::min(threads, limits::kMaxCopyThreads) : threads_that_help()) {}

CopyThreads::~CopyThreads() {
  {
    const std::scoped_lock lock(mutex_);
    stop_ = true;
  }
  wanted_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
}

void CopyThreads::start_helpers() {
  started_ = true;
  // The program's signals are for its own threads.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    while (helpers_.size() + 1 < count_) helpers_.emplace_back([this] { help(); });
  } catch (const std::system_error&) {
    // The machine has no more threads: those that there are do the work.
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void CopyThreads::help() {
  ::pthread_setname_np(::pthread_self(), "avec-copy");
  std::unique_lock lock(mutex_);
  while (true) {
    wanted_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
    if (stop_) return;
    Job& job = *jobs_.front();
    ++job.running;
    if (--job.wanted == 0) jobs_.erase(jobs_.begin());
    lock.unlock();
    (*job.work)();
    lock.lock();
    if (--job.running == 0) back_.notify_all();
  }
}

void CopyThreads::run(unsigned threads, const std::function<void()>& work) {
  threads = std::min(threads, count_);
  if (threads <= 1) {
    work();
    return;
  }
  const NoCancel no_cancel;
  Job job{&work, threads - 1};
  {
    const std::scoped_lock lock(mutex_);
    if (!started_) start_helpers();
    if (!helpers_.empty()) jobs_.push_back(&job);
  }
  for (unsigned helper = 1; helper < threads; ++helper) wanted_.notify_one();
  work();
  std::unique_lock lock(mutex_);
  std::erase(jobs_, &job);  // who has not come by now finds nothing left to do
  back_.wait(lock, [&] { return job.running == 0; });
}

}  // namespace avec::client
