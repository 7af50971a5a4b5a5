#include "executor/worker/host_calls.h"

#include "base/limits.h"

namespace avec::worker {

void* HostCalls::data_of(std::uint64_t function) {
  auto known = functions_.find(function);
  if (known != functions_.end()) return known->second.get();
  if (function == 0 || functions_.size() >= limits::kMaxHandles) return nullptr;
  auto& made = functions_[function];
  made = std::make_unique<Function>(Function{this, function});
  names_[made.get()] = function;
  return made.get();
}

std::uint64_t HostCalls::function_of(const void* data) const {
  const auto found = names_.find(data);
  return found == names_.end() ? 0 : found->second;
}

void HostCalls::run(void* data) {
  const auto& function = *static_cast<const Function*>(data);
  function.owner->ask(function.name);
}

void HostCalls::ask(std::uint64_t function) {
  std::unique_lock lock(mutex_);
  if (closed_) return;
  const std::uint64_t call = ++last_call_;
  open_.insert(call);
  requests_.push_back({call, function});
  lock.unlock();
  wake_();
  lock.lock();
  answered_.wait(lock, [&] { return closed_ || !open_.contains(call); });
}

std::vector<HostCalls::Request> HostCalls::take() {
  std::scoped_lock lock(mutex_);
  return std::exchange(requests_, {});
}

bool HostCalls::done(std::uint64_t call) {
  std::scoped_lock lock(mutex_);
  const bool known = open_.erase(call) != 0;
  answered_.notify_all();
  return known;
}

void HostCalls::close() {
  std::scoped_lock lock(mutex_);
  closed_ = true;
  requests_.clear();
  open_.clear();
  answered_.notify_all();
}

}  // namespace avec::worker
