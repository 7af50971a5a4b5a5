#include "client/callbacks.h"

#include <signal.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/no_cancel.h"
#include "client/capture.h"
#include "client/client.h"
#include "client/coherence.h"
#include "client/context.h"
#include "client/event.h"
#include "client/graph_nodes.h"
#include "client/status.h"
#include "client/stream.h"
#include "session/session.h"

namespace avec::client {

std::atomic<int> pending_host_functions{0};
thread_local constinit bool in_host_function __attribute__((tls_model("initial-exec"))) = false;

namespace {

struct HostFunction {
  Context* context;
  std::uint64_t stream;  // name
  bool blocking;         // its stream and the legacy stream wait for each other
  std::function<void(CUresult)> run;
  std::vector<Download> downloads;     // of work before it
  std::uint64_t frames = 0, bytes = 0;  // sent by the session before it
  bool due = false;
};

bool waits_for_legacy(const Stream& stream) { return (stream.flags & CU_STREAM_NON_BLOCKING) == 0; }

/// One thread runs all host functions of the process, in the order in which the executor comes to them.
class Runner {
 public:
  static Runner& get() {
    static auto* const runner = new Runner;  // its thread may outlive static objects
    return *runner;
  }

  void add(std::uint64_t name, HostFunction function) {
    const NoCancel no_cancel;
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_.size() < limits::kMaxHostFunctions / 2; });
    const session::Counters counters = function.context->client->session().counters();
    function.frames = function.context->client->session().last_posted();
    function.bytes = counters.bytes_sent;
    waiting_.emplace(name, std::move(function));
    pending_host_functions.fetch_add(1);
    if (std::exchange(started_, true)) return;
    // The application's signals are for its own threads.
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread([this] { loop(); }).detach();
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  /// It will never be due.
  void remove(std::uint64_t name) {
    const std::scoped_lock lock(mutex_);
    erase(name);
  }

  void due(std::uint64_t name, CUresult status) {
    const std::scoped_lock lock(mutex_);
    const auto found = waiting_.find(name);
    if (found == waiting_.end() || std::exchange(found->second.due, true)) return;
    due_.emplace_back(name, status);
    changed_.notify_all();
  }

  void fail(Client& client, CUresult error) {
    const std::scoped_lock lock(mutex_);
    for (auto& [name, function] : waiting_) {
      if (function.context->client == &client && !std::exchange(function.due, true)) due_.emplace_back(name, error);
    }
    changed_.notify_all();
  }

  void wait(Stream& stream) {
    const NoCancel no_cancel;
    std::unique_lock lock(mutex_);
    const std::vector<std::uint64_t> names = before(stream);
    changed_.wait(lock, [&] {
      return std::ranges::none_of(names, [&](std::uint64_t name) { return waiting_.contains(name); });
    });
  }

  void limit(Client& client) {
    const NoCancel no_cancel;
    std::unique_lock lock(mutex_);
    const session::Session& session = client.session();
    const auto within = [&] {
      const auto oldest =
          std::ranges::find_if(waiting_, [&](const auto& entry) { return entry.second.context->client == &client; });
      if (oldest == waiting_.end()) return true;
      return session.last_posted() - oldest->second.frames < limits::kHostFunctionFrames &&
             session.counters().bytes_sent - oldest->second.bytes < limits::kHostFunctionBytes / 2;
    };
    changed_.wait(lock, within);
  }

  void note(Event& event, Stream& stream) {
    const std::scoped_lock lock(mutex_);
    event.functions = before(stream);
  }

  void inherit(Stream& stream, Event& event) {
    const std::scoped_lock lock(mutex_);
    auto& to = waits_for_legacy(stream) ? stream.context->functions : stream.functions;
    std::erase_if(to, [&](std::uint64_t name) { return !waiting_.contains(name); });
    for (const std::uint64_t name : event.functions) {
      if (waiting_.contains(name) && std::ranges::find(to, name) == to.end()) to.push_back(name);
    }
  }

 private:
  /// Those that work in the stream comes after: launched in the same stream, or one of the two is the
  /// legacy stream and the other takes part in its order, or behind an event that was waited for.
  std::vector<std::uint64_t> before(const Stream& stream) {
    const bool blocking = waits_for_legacy(stream);
    std::vector<std::uint64_t> names = blocking ? stream.context->functions : stream.functions;
    for (const auto& [name, function] : waiting_) {
      if (function.context != stream.context) continue;
      if (function.stream == stream.name || (blocking && function.blocking)) names.push_back(name);
    }
    return names;
  }

  void erase(std::uint64_t name) {
    if (waiting_.erase(name) == 0) return;
    pending_host_functions.fetch_sub(1);
    changed_.notify_all();
  }

  void loop() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return !due_.empty(); });
      auto [name, status] = due_.front();
      due_.pop_front();
      HostFunction& function = waiting_.at(name);  // a map keeps it in place; this thread alone erases it
      lock.unlock();
      Client& client = *function.context->client;
      client.session().expect_pushes(-1);
      if (corrupts_context(status)) function.context->error.store(status);
      wait_for_downloads(client, function.downloads);
      status = host_sees(status, *function.context);
      // At exit nothing runs any more: what a host function uses may be destroyed already.
      if (!client.closed()) {
        in_host_function = true;
        function.run(status);
        in_host_function = false;
      }
      (void)client.session().post(wire::HostFunctionDone(name));
      lock.lock();
      erase(name);
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::uint64_t, HostFunction> waiting_;  // by name: in the order of launching
  std::deque<std::pair<std::uint64_t, CUresult>> due_;
  bool started_ = false;
};

CUresult enqueue(CUstream handle, std::function<void(CUresult)> run) {
  Stream* stream;
  if (const CUresult result = stream_for_device_work(handle, stream); result != CUDA_SUCCESS) return result;
  Context& context = *stream->context;
  session::Session& session = context.client->session();
  const std::uint64_t name = context.client->mint();
  HostFunction function{&context, stream->name, waits_for_legacy(*stream), std::move(run), downloads_before(*stream)};
  Runner::get().add(name, std::move(function));
  session.expect_pushes(1);
  const auto posted = session.post(wire::HostFunction(stream->name, name));
  if (posted) return CUDA_SUCCESS;
  session.expect_pushes(-1);
  Runner::get().remove(name);
  return to_cuda(posted.error());
}

}  // namespace

CUresult launch_host_function(CUstream stream, CUhostFn function, void* data) {
  if (function == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Stream* captured;
  if (const CUresult result = resolve_stream(stream, captured); result != CUDA_SUCCESS) return result;
  if (const CUresult result = capture_allows(*captured); result != CUDA_SUCCESS) return result;
  if (is_capturing(*captured)) return capture_host_function(*captured, function, data);
  return enqueue(stream, [=](CUresult status) {
    if (status == CUDA_SUCCESS) function(data);  // not called in a context that has failed
  });
}

CUresult add_callback(CUstream stream, CUstreamCallback callback, void* data, unsigned flags) {
  if (callback == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  Stream* captured;
  if (const CUresult result = resolve_stream(stream, captured); result != CUDA_SUCCESS) return result;
  if (const CUresult result = uncapturable(*captured); result != CUDA_SUCCESS) return result;
  return enqueue(stream, [=](CUresult status) { callback(stream, status, data); });
}

CUresult after_work(CUstream stream, std::function<void(CUresult)> run) { return enqueue(stream, std::move(run)); }

void wait_for_host_functions(Stream& stream) noexcept {
  if (pending_host_functions.load() != 0 && !in_host_function) Runner::get().wait(stream);
}

void limit_work_behind_host_functions(Client& client) noexcept {
  if (pending_host_functions.load() != 0 && !in_host_function) Runner::get().limit(client);
}

void note_host_functions(Event& event, Stream& stream) {
  if (pending_host_functions.load() != 0 || !event.functions.empty()) Runner::get().note(event, stream);
}

void inherit_host_functions(Stream& stream, Event& event) {
  if (pending_host_functions.load() != 0) Runner::get().inherit(stream, event);
}

void take_host_function(ConstBytes body) {
  const auto due = wire::read_struct<wire::HostFunctionDue>(body);
  Runner::get().due(due.function(), static_cast<CUresult>(due.status()));
}

void fail_host_functions(Client& client, CUresult error) {
  if (pending_host_functions.load() != 0) Runner::get().fail(client, error);
}

}  // namespace avec::client
