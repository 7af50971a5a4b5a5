// Memory of allocation nodes, and user objects.
#include <algorithm>
#include <array>
#include <condition_variable>
#include <deque>
#include <thread>

#include "devices/cpu/graph/graph.h"

namespace avec::cpu {

GraphMemory::~GraphMemory() {
  if (address == 0) return;
  const GraphLock lock(graph_mutex());
  auto& named = graph_tables().memory;
  const auto found = named.find(address);
  if (found != named.end() && found->second.expired()) named.erase(found);
  const auto gone = state().memory.remove(address, [this](const Allocation& a) { return a.id == id; });
  if (gone) release(gone);
}

GraphMemoryRef graph_memory_at(CUdeviceptr address) {
  auto& named = graph_tables().memory;
  auto next = named.upper_bound(address);
  if (next == named.begin()) return nullptr;
  const auto memory = (--next)->second.lock();
  return memory && address - memory->address < memory->bytes ? memory : nullptr;
}

namespace {

/// By device, guarded by graph_mutex().
std::array<GraphMemoryUse, kMaxDevices>& uses() {
  static std::array<GraphMemoryUse, kMaxDevices> all;
  return all;
}

}  // namespace

GraphMemoryUse graph_memory_use(const Device& device) {
  return uses()[static_cast<std::size_t>(device.ordinal)];
}

void reset_graph_memory_high(const Device& device) {
  auto& use = uses()[static_cast<std::size_t>(device.ordinal)];
  use.high = use.now;
}

void set_live(const GraphMemoryRef& memory, bool live) {
  auto& use = uses()[static_cast<std::size_t>(memory->device->ordinal)];
  if (live && !memory->live) use.now += memory->bytes;
  if (!live && memory->live) use.now -= memory->bytes;
  use.high = std::max(use.high, use.now);
  memory->live = live;
  if (live)
    graph_tables().live[memory->address] = memory;
  else
    graph_tables().live.erase(memory->address);
}

bool free_graph_memory(CUdeviceptr address, CUresult& result) {
  const GraphLock lock(graph_mutex());
  const auto memory = graph_memory_at(address);
  if (!memory || memory->address != address) return false;
  result = memory->live && !memory->freed_by_owner ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  if (result == CUDA_SUCCESS) set_live(memory, false);
  return true;
}

void forget_graph_memory(const Context& context) {
  const GraphLock lock(graph_mutex());
  auto& named = graph_tables().memory;
  for (auto at = named.begin(); at != named.end();) {
    const auto memory = at->second.lock();
    if (memory && memory->context != context.handle) {
      ++at;
      continue;
    }
    if (memory) set_live(memory, false);
    at = named.erase(at);
  }
}

namespace {

/// Calls destructors of user objects, one after another, as CUDA does: on one thread of its own.
class Destroyer {
 public:
  void add(CUhostFn destroy, void* pointer) {
    const std::lock_guard lock(mutex_);
    queue_.emplace_back(destroy, pointer);
    if (!started_) {
      started_ = true;
      std::thread([this] { run(); }).detach();
    }
    ready_.notify_one();
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      ready_.wait(lock, [this] { return !queue_.empty(); });
      const auto [destroy, pointer] = queue_.front();
      queue_.pop_front();
      lock.unlock();
      destroy(pointer);
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::pair<CUhostFn, void*>> queue_;
  bool started_ = false;
};

}  // namespace

void release_object(const UserObjectRef& object, std::uint64_t count) {
  static auto* const destroyer = new Destroyer;  // its thread may outlive main
  const GraphLock lock(graph_mutex());
  if (object->references == 0) return;
  object->references -= std::min(count, object->references);
  if (object->references > 0) return;
  graph_tables().objects.remove(reinterpret_cast<void*>(object->handle));
  destroyer->add(object->destroy, object->pointer);
}

}  // namespace avec::cpu
