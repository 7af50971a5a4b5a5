#include "devices/cpu/device.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "devices/cpu/graph/capture.h"
#include "devices/cpu/output.h"

namespace avec::cpu {
namespace {

/// A context that is destroyed waits this long for its work, then stops it.
constexpr std::chrono::seconds kCloseGrace{1};

thread_local bool per_thread_default = false;

std::uint64_t thread_number() {
  static std::atomic<std::uint64_t> next{1};
  thread_local const std::uint64_t mine = next.fetch_add(1);
  return mine;
}

std::uint64_t next_stream_id() {
  static std::atomic<std::uint64_t> next{1};
  return next.fetch_add(1);
}

StreamRef per_thread_stream(const ContextRef& context) {
  const std::lock_guard lock(context->per_thread_mutex);
  auto& stream = context->per_thread[thread_number()];
  if (!stream) {
    stream = std::make_shared<Stream>();
    stream->context = context;
    stream->per_thread = true;
    stream->id = next_stream_id();
    state().scheduler.add_stream(*context, stream);
  }
  return stream;
}

}  // namespace

State& state() {
  static State* const the_state = new State;
  return *the_state;
}

std::uintptr_t next_handle() {
  static std::atomic<std::uintptr_t> next{0x6ac000000000};
  return next.fetch_add(64);
}

bool Device::take(std::uint64_t bytes) {
  std::uint64_t used = used_bytes.load();
  do {
    if (bytes > total_bytes || used > total_bytes - bytes) return false;
  } while (!used_bytes.compare_exchange_weak(used, used + bytes));
  return true;
}

ptx::AddressSpace::Range ContextMemory::find(std::uint64_t address) const {
  const auto allocation = state().memory.find(address);
  if (!allocation) return {};
  const auto own = static_cast<unsigned>(context_.device.ordinal);
  bool readable = true, writable = !allocation->constant;
  if (allocation->kind == Memory::kMapped) {
    readable = allocation->access[own] != 0;
    writable = allocation->access[own] == CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  } else if (!allocation->on_host() && allocation->device != context_.device.ordinal) {
    readable = (context_.peer_devices.load() >> allocation->device) & 1;
  }
  if (!readable) return {};
  return {allocation->begin, allocation->end(), writable};
}

Physical::~Physical() {
  if (descriptor >= 0) ::close(descriptor);
  if (device) device->give_back(bytes);
}

Module::~Module() {
  for (const std::uint64_t address : addresses) {
    if (auto gone = state().memory.remove(address, [](const Allocation&) { return true; })) release(gone);
  }
}

namespace {
thread_local constinit bool in_host_code = false;
}  // namespace

HostCode::HostCode() { in_host_code = true; }
HostCode::~HostCode() { in_host_code = false; }

CUresult initialised() {
  if (in_host_code) return CUDA_ERROR_NOT_PERMITTED;
  return state().initialised.load(std::memory_order_acquire) ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}

std::vector<ContextRef>& context_stack() {
  // Destructors of the program's global objects call CUDA after the main thread's objects of
  // this kind have been destroyed: they get a new stack, which is left to the end of the process.
  thread_local constinit std::vector<ContextRef>* stack = nullptr;
  struct Release {
    ~Release() { delete std::exchange(stack, nullptr); }
  };
  thread_local const Release release;
  static_cast<void>(release);
  if (stack == nullptr) stack = new std::vector<ContextRef>;
  return *stack;
}

CUresult current_even_failed(ContextRef& context) {
  if (const auto error = initialised()) return error;
  const auto& stack = context_stack();
  if (stack.empty() || !stack.back()) return CUDA_ERROR_INVALID_CONTEXT;
  context = stack.back();
  return context->alive.load() ? CUDA_SUCCESS : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

CUresult current(ContextRef& context) {
  if (const auto error = current_even_failed(context)) return error;
  return context->fault.load();
}

CUresult device_of(CUdevice ordinal, Device*& device) {
  if (const auto error = initialised()) return error;
  auto& devices = state().devices;
  if (ordinal < 0 || static_cast<std::size_t>(ordinal) >= devices.size()) return CUDA_ERROR_INVALID_DEVICE;
  device = devices[static_cast<std::size_t>(ordinal)].get();
  return CUDA_SUCCESS;
}

CUresult stream_of(CUstream handle, StreamRef& stream) {
  if (const auto error = initialised()) return error;
  const bool null = handle == nullptr;
  const bool per_thread = handle == CU_STREAM_PER_THREAD || (null && per_thread_default);
  if (null || handle == CU_STREAM_LEGACY || per_thread) {
    ContextRef context;
    if (const auto error = current(context)) return error;
    stream = per_thread ? per_thread_stream(context) : state().scheduler.legacy(*context);
    return stream ? CUDA_SUCCESS : CUDA_ERROR_CONTEXT_IS_DESTROYED;
  }
  stream = state().streams.find(handle);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  return stream->context->fault.load();
}

PerThreadDefault::PerThreadDefault() : before_(std::exchange(per_thread_default, true)) {}
PerThreadDefault::~PerThreadDefault() { per_thread_default = before_; }

ContextRef make_context(Device& device, unsigned flags, bool primary) {
  static std::atomic<std::uint64_t> ids{1};
  auto context = std::make_shared<Context>(device);
  context->flags = flags;
  context->primary = primary;
  context->id = ids.fetch_add(1);
  state().contexts.add(context);
  return context;
}

void open_context(const ContextRef& context) {
  auto legacy = std::make_shared<Stream>();
  legacy->context = context;
  legacy->legacy = true;
  legacy->id = next_stream_id();
  state().scheduler.set_legacy(*context, std::move(legacy));
  context->limits[CU_LIMIT_STACK_SIZE] = 1024;
  context->limits[CU_LIMIT_PRINTF_FIFO_SIZE] = 8u << 20;
  context->limits[CU_LIMIT_MALLOC_HEAP_SIZE] = 8u << 20;
  context->limits[CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH] = 2;
  context->limits[CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT] = 2048;
  context->limits[CU_LIMIT_MAX_L2_FETCH_GRANULARITY] = 64;
  context->fault = CUDA_SUCCESS;
  context->stop = false;
  context->peer_devices = 0;
  context->alive = true;
}

void close_context(const ContextRef& context) {
  auto& all = state();
  // New calls are refused; what was queued may still end by itself.
  context->alive = false;
  const auto deadline = std::chrono::steady_clock::now() + kCloseGrace;
  if (!all.scheduler.wait_all(*context, deadline)) {
    context->stop = true;
    all.scheduler.wake_all();
    all.scheduler.wait_all(*context, deadline + kCloseGrace);
  }
  flush_output(*context);
  end_captures(*context);
  forget_graph_memory(*context);
  all.streams.remove_if([&](const Stream& stream) { return stream.context == context; });
  all.events.remove_if([&](const Event& event) { return event.context == context; });
  all.functions.remove_if([&](const Function& function) {
    const auto module = function.module.lock();
    return !module || module->context == context;
  });
  all.libraries.remove_if([&](Library& library) {
    const std::lock_guard lock(library.mutex);
    library.modules.erase(context->handle);
    return false;
  });
  all.textures.remove_if([&](const TextureObject& object) { return object.context == context; });
  all.surfaces.remove_if([&](const SurfaceObject& object) { return object.context == context; });
  all.mipmapped_arrays.remove_if([&](const MipmappedArray& array) { return array.context == context; });
  all.arrays.remove_if([&](const Array& array) { return array.context == context; });
  all.modules.remove_if([&](const Module& module) { return module.context == context; });
  for (const auto& allocation : all.memory.of_context(context->handle)) {
    if (allocation->kind == Memory::kGlobal) continue;  // its module's
    if (all.memory.remove(allocation->begin, [](const Allocation&) { return true; })) release(allocation);
  }
  all.scheduler.set_legacy(*context, nullptr);
  const std::lock_guard lock(context->per_thread_mutex);
  context->per_thread.clear();
}

CUresult synchronize(const ContextRef& context) {
  state().scheduler.wait_all(*context);
  flush_output(*context);
  return context->fault.load();
}

CUresult run_now(const StreamRef& stream, Task task) {
  auto& scheduler = state().scheduler;
  const auto completion = scheduler.enqueue(stream, std::move(task), false);
  scheduler.wait(stream, completion);
  flush_output(*stream->context);
  return stream->context->fault.load();
}

void flush_output(Context& context) {
  std::vector<std::pair<int, std::string>> texts;
  {
    const std::lock_guard lock(context.output_mutex);
    texts.swap(context.output);
  }
  for (const auto& [descriptor, text] : texts) write_output(descriptor, text);
}

CUresult allocate(Context& context, std::uint64_t bytes, Memory kind, CUmemoryPool pool,
                  CUdeviceptr& address) {
  const bool host = kind == Memory::kHost;
  if (bytes > (std::uint64_t{1} << 46)) return CUDA_ERROR_OUT_OF_MEMORY;
  if (!host && !context.device.take(bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  const std::uint64_t begin =
      host ? map_pages_at(0, (bytes + 4095) / 4096 * 4096, 3) : map_pages(bytes, kind == Memory::kGlobal);
  Allocation allocation;
  allocation.begin = begin;
  allocation.bytes = bytes;
  allocation.kind = kind;
  allocation.device = context.device.ordinal;
  allocation.context = context.handle;
  allocation.pool = pool;
  if (begin == 0 || !state().memory.add(allocation)) {
    if (begin != 0) unmap_pages(begin, bytes);
    if (!host) context.device.give_back(bytes);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  address = begin;
  return CUDA_SUCCESS;
}

void release(const AllocationRef& allocation) {
  if (allocation->kind == Memory::kRegistered || allocation->kind == Memory::kMapped) return;
  if (!allocation->on_host()) {
    state().devices[static_cast<std::size_t>(allocation->device)]->give_back(allocation->bytes);
  }
  state().scheduler.when_quiet(
      [begin = allocation->begin, bytes = allocation->bytes] { unmap_pages(begin, bytes); });
}

}  // namespace avec::cpu
