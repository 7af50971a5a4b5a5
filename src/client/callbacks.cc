#include "client/callbacks.h"

#include <signal.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "client/client.h"
#include "client/coherence.h"
#include "client/context.h"
#include "client/status.h"
#include "client/stream.h"
#include "session/session.h"

namespace avec::client {
namespace {

struct HostFunction {
  Context* context;
  std::uint64_t stream;  // name
  bool blocking;         // its stream and the legacy stream wait for each other
  bool legacy;
  std::uint64_t event;  // recorded behind the work that comes before
  std::function<void(CUresult)> run;
};

/// One thread runs all host functions of the process in the order in which they were launched.
class Runner {
 public:
  static Runner& get() {
    static auto* const runner = new Runner;  // its thread may outlive static objects
    return *runner;
  }

  void add(HostFunction function) {
    std::scoped_lock lock(mutex_);
    function.context->host_functions.fetch_add(1);
    waiting_.push_back(std::move(function));
    if (!started_) {
      started_ = true;
      // The application's signals are for its own threads.
      sigset_t all, before;
      ::sigfillset(&all);
      ::pthread_sigmask(SIG_SETMASK, &all, &before);
      std::thread([this] { loop(); }).detach();
      ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }
    changed_.notify_all();
  }

  template <class Concerns>
  void wait(Concerns concerns) {
    std::unique_lock lock(mutex_);
    if (std::this_thread::get_id() == thread_)
      return;  // a host function that calls CUDA: it would wait for itself
    changed_.wait(lock, [&] { return std::ranges::none_of(waiting_, concerns); });
  }

  template <class Concerns>
  bool any(Concerns concerns) {
    std::scoped_lock lock(mutex_);
    return std::ranges::any_of(waiting_, concerns);
  }

 private:
  void loop() {
    std::unique_lock lock(mutex_);
    thread_ = std::this_thread::get_id();
    for (;;) {
      changed_.wait(lock, [&] { return !waiting_.empty(); });
      HostFunction& next = waiting_.front();  // a deque keeps it in place while others are added
      lock.unlock();
      session::Session& session = next.context->client->session();
      CUresult status = to_cuda(session.call(wire::EventSynchronize(next.event)));
      status = host_sees(status, *next.context);
      (void)session.post(wire::EventDestroy(next.event));
      // At exit nothing runs any more: what a host function uses may be destroyed already.
      if (!next.context->client->closed()) next.run(status);
      lock.lock();
      next.context->host_functions.fetch_sub(1);
      waiting_.pop_front();
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<HostFunction> waiting_;  // the first one is running or about to
  bool started_ = false;
  std::thread::id thread_;
};

/// Work in `stream` comes after the function: same stream, or one of them is the legacy stream
/// and the other takes part in its order.
auto concerns(const Stream& stream) {
  const bool legacy = stream.context->legacy.load() == &stream;
  const bool blocking = (stream.flags & CU_STREAM_NON_BLOCKING) == 0;
  return [=, name = stream.name, context = stream.context](const HostFunction& function) {
    if (function.context != context) return false;
    return function.stream == name || (legacy && function.blocking) || (function.legacy && blocking);
  };
}

CUresult enqueue(CUstream handle, std::function<void(CUresult)> run) {
  Stream* stream;
  if (const CUresult result = resolve_stream(handle, stream); result != CUDA_SUCCESS) return result;
  Context& context = *stream->context;
  session::Session& session = context.client->session();
  const std::uint64_t event = context.client->mint();
  if (auto made = session.post(wire::EventCreate(event, context.name.load(), CU_EVENT_DISABLE_TIMING, 0));
      !made)
    return to_cuda(made.error());
  if (auto recorded = session.post(wire::EventRecord(event, stream->name, 0, 0)); !recorded)
    return to_cuda(recorded.error());
  const bool legacy = context.legacy.load() == stream;
  Runner::get().add(
      {&context, stream->name, (stream->flags & CU_STREAM_NON_BLOCKING) == 0, legacy, event, std::move(run)});
  return CUDA_SUCCESS;
}

}  // namespace

CUresult launch_host_function(CUstream stream, CUhostFn function, void* data) {
  if (function == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return enqueue(stream, [=](CUresult status) {
    if (status == CUDA_SUCCESS) function(data);  // not called in a context that has failed
  });
}

CUresult add_callback(CUstream stream, CUstreamCallback callback, void* data, unsigned flags) {
  if (callback == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  return enqueue(stream, [=](CUresult status) { callback(stream, status, data); });
}

void wait_for_host_functions(Stream& stream) noexcept { Runner::get().wait(concerns(stream)); }

void wait_for_host_functions(Context& context) noexcept {
  if (context.host_functions.load() == 0) return;
  Runner::get().wait([&](const HostFunction& function) { return function.context == &context; });
}

bool host_functions_before(Stream& stream) noexcept {
  return stream.context->host_functions.load() != 0 && Runner::get().any(concerns(stream));
}

}  // namespace avec::client
