// Host nodes of graphs: the driver's thread comes here, the client is asked, and the thread goes on
// when the client has answered. The loop never waits.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace avec::worker {

class HostCalls {
 public:
  /// `wake` is called from the driver's thread when take() has something new.
  explicit HostCalls(std::function<void()> wake) : wake_(std::move(wake)) {}

  /// What a host node is given: run(data) asks the client for the function of this name. The data lives
  /// as long as this object. Null: there are too many. Loop only.
  void* data_of(std::uint64_t function);
  /// The name that data_of was given, or 0. Loop only.
  std::uint64_t function_of(const void* data) const;
  /// Waits without a deadline: for as long as the client's function takes, or the session lasts.
  static void run(void* data);

  struct Request {
    std::uint64_t call, function;
  };
  /// What the client has not been asked yet. Loop only.
  std::vector<Request> take();
  /// The client has answered. False: nobody waits for that.
  bool done(std::uint64_t call);
  /// The client answers no more: whoever waits goes on.
  void close();

 private:
  struct Function {
    HostCalls* owner;
    std::uint64_t name;
  };
  void ask(std::uint64_t function);

  const std::function<void()> wake_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Function>> functions_;  // loop only
  std::unordered_map<const void*, std::uint64_t> names_;                    // loop only
  std::mutex mutex_;
  std::condition_variable answered_;
  // Guarded by mutex_.
  std::vector<Request> requests_;
  std::unordered_set<std::uint64_t> open_;
  std::uint64_t last_call_ = 0;
  bool closed_ = false;
};

}  // namespace avec::worker
