#include "client/host_calls.h"

#include <signal.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "client/callbacks.h"
#include "client/client.h"
#include "client/coherence.h"
#include "client/graph_memory.h"
#include "session/session.h"

namespace avec::client {
namespace {

/// Functions that are kept though no graph holds them: launches under way may ask for them.
constexpr std::size_t kKept = 4096;

class Runner {
 public:
  static Runner& get() {
    static auto* const runner = new Runner;  // its thread may outlive static objects
    return *runner;
  }

  std::shared_ptr<NodeFunction> add(NodeFunction function) {
    auto made = std::make_shared<NodeFunction>(std::move(function));
    std::scoped_lock lock(mutex_);
    if (functions_.size() >= next_sweep_) {
      std::erase_if(functions_, [](const auto& entry) { return entry.second.expired(); });
      next_sweep_ = std::max<std::size_t>(1024, functions_.size() * 2);
    }
    functions_[{made->client, made->name}] = made;
    return made;
  }
  std::shared_ptr<NodeFunction> find(Client& client, std::uint64_t name) {
    std::scoped_lock lock(mutex_);
    const auto found = functions_.find({&client, name});
    return found == functions_.end() ? nullptr : found->second.lock();
  }
  void keep(std::shared_ptr<NodeFunction> function) {
    std::scoped_lock lock(mutex_);
    kept_.push_back(std::move(function));
    if (kept_.size() > kKept) kept_.pop_front();
  }

  void ask(Client& client, std::uint64_t call, std::uint64_t function) {
    std::scoped_lock lock(mutex_);
    waiting_.push_back({&client, call, function, {}});
    start();
  }
  void run(std::function<void()> function) {
    std::scoped_lock lock(mutex_);
    waiting_.push_back({nullptr, 0, 0, std::move(function)});
    start();
  }

 private:
  struct Call {
    Client* client;  // null: it is not the executor that asks
    std::uint64_t call, function;
    std::function<void()> own;
  };

  void start() {
    if (!started_) {
      started_ = true;
      // The application's signals are for its own threads.
      sigset_t all, before;
      ::sigfillset(&all);
      ::pthread_sigmask(SIG_SETMASK, &all, &before);
      std::thread([this] { loop(); }).detach();
      ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }
    changed_.notify_one();
  }

  void loop() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return !waiting_.empty(); });
      const Call call = std::move(waiting_.front());
      waiting_.pop_front();
      if (call.client == nullptr) {
        lock.unlock();
        call.own();
        lock.lock();
        continue;
      }
      const auto found = functions_.find({call.client, call.function});
      const auto function = found == functions_.end() ? nullptr : found->second.lock();
      lock.unlock();
      // At exit nothing runs any more: what a host function uses may be destroyed already.
      call.client->session().expect_pushes(-1);
      if (function != nullptr && !call.client->closed()) {
        exchange_before_function(*call.client, call.function);
        call.client->coherence().before_host_node();
        in_host_function = true;
        function->run();
        in_host_function = false;
        call.client->coherence().after_host_node();
        exchange_after_function(*call.client, call.function);
      }
      (void)call.client->session().post(wire::HostCallDone(call.call));
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Call> waiting_;
  std::map<std::pair<Client*, std::uint64_t>, std::weak_ptr<NodeFunction>> functions_;  // by client and name
  std::deque<std::shared_ptr<NodeFunction>> kept_;
  std::size_t next_sweep_ = 1024;
  bool started_ = false;
};

}  // namespace

std::shared_ptr<NodeFunction> make_host_function(Client& client, CUhostFn function, void* data) {
  return Runner::get().add({&client, client.mint(), function, data, [=] { function(data); }});
}

std::shared_ptr<NodeFunction> make_host_function(Client& client, std::function<void()> run) {
  return Runner::get().add({&client, client.mint(), nullptr, nullptr, std::move(run)});
}

void run_on_host(std::function<void()> run) { Runner::get().run(std::move(run)); }

std::shared_ptr<NodeFunction> find_host_function(Client& client, std::uint64_t name) {
  return Runner::get().find(client, name);
}

void keep_host_function(std::shared_ptr<NodeFunction> function) { Runner::get().keep(std::move(function)); }

void host_call(Client& client, std::uint64_t call, std::uint64_t function) {
  Runner::get().ask(client, call, function);
}

}  // namespace avec::client
