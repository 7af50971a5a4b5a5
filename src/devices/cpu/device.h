// The state of the driver: devices, contexts, modules, events, and their handles.
//
// Handles are numbers that are never used twice, so a destroyed or invented one is told from a
// live one by looking it up. Objects are shared: the table holds one reference, a call that uses
// the object another, so destruction by a second thread harms nobody.
#pragma once

#include <cuda.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/range_advice.h"
#include "devices/cpu/array.h"
#include "devices/cpu/memory.h"
#include "devices/cpu/ptx/ptx.h"
#include "devices/cpu/scheduler.h"
#include "devices/cpu/shared_event.h"

namespace avec::cpu {

/// Handles look like addresses in a range where nothing is mapped.
std::uintptr_t next_handle();

template <class T>
class Table {
 public:
  std::uintptr_t add(const std::shared_ptr<T>& object) {
    const std::uintptr_t handle = next_handle();
    object->handle = handle;
    const std::unique_lock lock(mutex_);
    map_.emplace(handle, object);
    return handle;
  }
  std::shared_ptr<T> find(const void* handle) const {
    const std::shared_lock lock(mutex_);
    const auto found = map_.find(reinterpret_cast<std::uintptr_t>(handle));
    return found == map_.end() ? nullptr : found->second;
  }
  std::shared_ptr<T> remove(const void* handle) {
    const std::unique_lock lock(mutex_);
    const auto found = map_.find(reinterpret_cast<std::uintptr_t>(handle));
    if (found == map_.end()) return nullptr;
    auto object = std::move(found->second);
    map_.erase(found);
    return object;
  }
  template <class Predicate>
  void remove_if(Predicate predicate) {
    std::vector<std::shared_ptr<T>> gone;  // destroyed after the lock
    const std::unique_lock lock(mutex_);
    for (auto at = map_.begin(); at != map_.end();) {
      if (predicate(*at->second)) {
        gone.push_back(std::move(at->second));
        at = map_.erase(at);
      } else {
        ++at;
      }
    }
  }

 private:
  mutable std::shared_mutex mutex_;
  std::unordered_map<std::uintptr_t, std::shared_ptr<T>> map_;
};

/// The C type of a handle: as_handle<CUstream>(object->handle).
template <class Handle>
Handle as_handle(std::uintptr_t value) {
  return reinterpret_cast<Handle>(value);
}

struct Device {
  int ordinal = 0;
  std::uint64_t total_bytes = 0;
  std::atomic<std::uint64_t> used_bytes{0};
  /// The primary context's object and handle stay the same for the life of the process.
  std::shared_ptr<Context> primary;
  std::mutex primary_mutex;  // guards the following
  unsigned primary_count = 0;
  unsigned primary_flags = 0;
  std::uintptr_t default_pool = 0;
  std::atomic<std::uintptr_t> current_pool{0};

  /// Takes bytes from the device's memory; false: not enough left.
  [[nodiscard]] bool take(std::uint64_t bytes);
  void give_back(std::uint64_t bytes) { used_bytes.fetch_sub(bytes); }
};

/// What kernels of one context may touch.
class ContextMemory final : public ptx::AddressSpace {
 public:
  explicit ContextMemory(const Context& context) : context_(context) {}
  Range find(std::uint64_t address) const override;

 private:
  const Context& context_;
};

struct Context {
  explicit Context(Device& owner) : device(owner), memory(*this) {}

  std::uintptr_t handle = 0;
  Device& device;
  bool primary = false;
  std::atomic<unsigned> flags{0};
  std::atomic<unsigned> attached{0};  // by cuCtxAttach, not yet detached
  std::uint64_t id = 0;
  std::atomic<bool> alive{true};
  std::atomic<bool> stop{false};
  /// The sticky error: set once, by the first fault.
  std::atomic<CUresult> fault{CUDA_SUCCESS};
  std::atomic<int> cache_config{CU_FUNC_CACHE_PREFER_NONE};
  std::atomic<std::uint32_t> peer_devices{0};  // bit per device
  std::array<std::atomic<std::size_t>, CU_LIMIT_MAX> limits{};
  ContextMemory memory;
  ContextObjects objects{*this};

  StreamRef legacy;                            // guarded by the scheduler's mutex
  std::vector<std::weak_ptr<Stream>> streams;  // guarded by the scheduler's mutex
  std::mutex per_thread_mutex;
  std::unordered_map<std::uint64_t, StreamRef> per_thread;  // by thread

  std::mutex output_mutex;
  std::vector<std::pair<int, std::string>> output;  // descriptor, text; in order

  void fail(CUresult error) {
    CUresult none = CUDA_SUCCESS;
    fault.compare_exchange_strong(none, error);
  }
};
using ContextRef = std::shared_ptr<Context>;

struct EventCapture;

struct Event {
  std::uintptr_t handle = 0;
  ContextRef context;
  unsigned flags = 0;
  std::shared_ptr<SharedEvent> shared;  // of an interprocess event: what counts instead of `recorded`
  std::mutex mutex;        // guards the following
  CompletionRef recorded;  // null: never recorded
  StreamRef stream;        // it was recorded in
  std::shared_ptr<EventCapture> capture;  // it was last recorded while that stream captured
};

struct Module;

struct Function {
  std::uintptr_t handle = 0;
  std::weak_ptr<Module> module;
  std::size_t index = 0;
  const ptx::KernelFacts* facts = nullptr;  // the module's
  std::atomic<int> max_dynamic_shared{0};
  std::atomic<int> carveout{-1};
};

struct Library;

struct Module {
  std::uintptr_t handle = 0;
  ContextRef context;
  std::unique_ptr<ptx::Module> code;
  std::vector<std::shared_ptr<Function>> functions;
  std::vector<std::uint64_t> addresses;  // of code->variables()
  std::uintptr_t library = 0;            // made by a library: 0 if not
  ~Module();
};

struct Kernel {
  std::uintptr_t handle = 0;
  std::uintptr_t library = 0;
  std::string name;
};

struct Library {
  std::uintptr_t handle = 0;
  std::vector<char> ptx;  // chosen from the image, NUL at the end
  std::vector<std::shared_ptr<Kernel>> kernels;
  std::mutex mutex;                                                     // guards the following
  std::unordered_map<std::uintptr_t, std::shared_ptr<Module>> modules;  // by context
};

struct Physical {
  std::uintptr_t handle = 0;
  int descriptor = -1;
  std::uint64_t bytes = 0;
  CUmemAllocationProp properties{};
  std::atomic<int> references{1};  // the program's: each is given back by cuMemRelease
  Device* device = nullptr;  // whose memory it is; null: imported
  ~Physical();
};

struct Pool {
  std::uintptr_t handle = 0;
  int device = 0;
  bool is_default = false;
  std::uint64_t most_bytes = 0;  // maxSize; 0: no limit
  std::array<std::atomic<std::uint64_t>, 16> attributes{};
  std::array<std::atomic<std::uint8_t>, kMaxDevices> access{};  // of other devices
  std::atomic<std::uint64_t> used{0}, used_high{0};
  Pool() {
    for (const auto reuse : {CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES,
                             CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC,
                             CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES}) {
      attributes[reuse] = 1;
    }
  }
};

struct Reservation {
  std::uint64_t begin = 0, bytes = 0;
};

struct State {
  std::atomic<bool> initialised{false};
  std::once_flag once;
  std::vector<std::unique_ptr<Device>> devices;
  MemoryMap memory;
  RangeAdvice advice;  // about managed memory
  Scheduler scheduler;
  Table<Context> contexts;
  Table<Stream> streams;
  Table<Event> events;
  Table<Module> modules;
  Table<Function> functions;
  Table<Library> libraries;
  Table<Kernel> kernels;
  Table<Physical> physical;
  Table<Pool> pools;
  Table<Array> arrays;
  Table<MipmappedArray> mipmapped_arrays;
  Table<TextureObject> textures;
  Table<SurfaceObject> surfaces;
  std::mutex reservations_mutex;
  std::map<std::uint64_t, Reservation> reservations;
};

/// Never destroyed: worker threads may outlive main.
State& state();

// ---- what calls begin with --------------------------------------------------------------

/// CUDA_ERROR_NOT_INITIALIZED before cuInit, CUDA_ERROR_NOT_PERMITTED in a host function.
CUresult initialised();
/// While one lives, this thread runs a host function of the application.
class HostCode {
 public:
  HostCode();
  ~HostCode();
  HostCode(const HostCode&) = delete;
  HostCode& operator=(const HostCode&) = delete;
};
/// The current context, alive and without a sticky error.
CUresult current(ContextRef& context);
/// The same, but also with a sticky error (calls that only look or release).
CUresult current_even_failed(ContextRef& context);
/// A device by its ordinal.
CUresult device_of(CUdevice ordinal, Device*& device);
/// The stream a handle means here: NULL, CU_STREAM_LEGACY and CU_STREAM_PER_THREAD included. Its context has
/// no sticky error.
CUresult stream_of(CUstream handle, StreamRef& stream);

/// While one lives, NULL means the calling thread's own default stream (the _ptds and _ptsz forms).
class PerThreadDefault {
 public:
  PerThreadDefault();
  ~PerThreadDefault();
  PerThreadDefault(const PerThreadDefault&) = delete;
  PerThreadDefault& operator=(const PerThreadDefault&) = delete;

 private:
  bool before_;
};

// ---- contexts ---------------------------------------------------------------------------

std::vector<ContextRef>& context_stack();  // of the calling thread; top at the back
ContextRef make_context(Device& device, unsigned flags, bool primary);
/// Gives a context its default stream, limits and a clean state.
void open_context(const ContextRef& context);
/// Ends its work, releases what it holds; handles to it become invalid.
void close_context(const ContextRef& context);

/// Waits for everything and returns the sticky error.
CUresult synchronize(const ContextRef& context);
/// Adds work, waits for it, returns the context's error.
CUresult run_now(const StreamRef& stream, Task task);
void flush_output(Context& context);

/// Bytes of device memory from a context's device; nullptr context for none.
CUresult allocate(Context& context, std::uint64_t bytes, Memory kind, CUmemoryPool pool,
                  CUdeviceptr& address);
/// Ends an allocation; its pages go when nothing runs that may use them.
void release(const AllocationRef& allocation);

}  // namespace avec::cpu
