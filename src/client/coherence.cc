#include "client/coherence.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/changes.h"
#include "base/limits.h"
#include "client/client.h"
#include "client/context.h"
#include "client/device.h"
#include "client/host_memory.h"
#include "client/row_copy.h"
#include "client/status.h"
#include "wire/stream_flags.h"

namespace avec::client {
namespace {

/// Bytes that did not change between others that did: sent with them while the device does nothing,
/// since each run is a copy there. Otherwise only what changed, the rest may be the device's.
constexpr std::size_t kGap = 1024;

/// Moments at which the host began to change managed memory, of all clients of this process.
std::atomic<std::uint64_t> moments{0};

/// Of this thread's last kernel: threads that write managed memory of their own do not wait for one
/// another, so what one has launched says nothing of what another still writes.
struct LastKernel {
  const Coherence* of = nullptr;
  std::uint64_t changed = 0;  // the newest moment then
};
thread_local LastKernel last_kernel;

std::byte* zeroed(std::uint64_t bytes) {
  void* memory =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? nullptr : static_cast<std::byte*>(memory);
}

}  // namespace

/// Changes on their way out: few frames, each with as many runs as it holds.
class Coherence::Writer {
 public:
  Writer(session::Session& session, std::uint64_t stream) : session_(session), stream_(stream) {}

  void add(std::uint64_t address, const std::byte* bytes, std::size_t count) {
    constexpr std::size_t kHead = sizeof(wire::CoherentRun);
    while (count != 0) {
      const std::size_t filled = runs_.size() * kHead + bytes_.size();
      if (filled + kHead >= limits::kInlinePayloadBytes) {
        send();
        continue;
      }
      const std::size_t part = std::min(count, limits::kInlinePayloadBytes - filled - kHead);
      runs_.emplace_back(address, part);
      bytes_.insert(bytes_.end(), bytes, bytes + part);
      address += part;
      bytes += part;
      count -= part;
    }
  }

  /// Nothing was sent: nothing changed. Later work sees what was.
  Result<> finish() {
    send();
    if (result_ && any_) result_ = session_.post(wire::MemFence(stream_));
    return result_;
  }
  /// The same, and returns when the device has it.
  Result<> finish_and_wait() {
    send();
    if (!result_ || !any_) return result_;
    if (const auto done = session_.call(wire::StreamSynchronize(stream_)); !done) return std::unexpected(done.error());
    return {};
  }

 private:
  void send() {
    if (runs_.empty() || !result_) return;
    any_ = true;
    const std::size_t head = runs_.size() * sizeof(wire::CoherentRun);
    result_ = session_.post_filled(
        wire::CoherentWrite(stream_, static_cast<std::uint32_t>(runs_.size()), 0), head + bytes_.size(),
        [&](MutableBytes payload) {
          std::memcpy(payload.data(), runs_.data(), head);
          std::memcpy(payload.data() + head, bytes_.data(), bytes_.size());
        });
    runs_.clear();
    bytes_.clear();
  }

  session::Session& session_;
  const std::uint64_t stream_;
  std::vector<wire::CoherentRun> runs_;
  std::vector<std::byte> bytes_;
  Result<> result_;
  bool any_ = false;
};

Coherence::Coherence(Client& client, CoherenceMode mode, bool possible)
    : client_(client), mode_(possible ? mode : CoherenceMode::kOff), host_changed_(++moments) {}

Coherence::~Coherence() {
  for (const auto& [address, entry] : ranges_) ::munmap(entry.shadow, entry.bytes);
}

// ---- ranges --------------------------------------------------------------------------

/// The stream that changes travel in, both ways: no work of the program is before or behind it.
CUresult Coherence::stream_in(Context& context) {
  if (context_ != nullptr) return CUDA_SUCCESS;
  stream_.context = &context;
  stream_.name = client_.mint();
  stream_.flags = CU_STREAM_NON_BLOCKING;
  const auto posted = client_.session().post(
      wire::StreamCreate(stream_.name, context.name.load(), CU_STREAM_NON_BLOCKING | wire::kStreamBeside, 0));
  if (!posted) return to_cuda(posted.error());
  context_ = &context;
  return CUDA_SUCCESS;
}

void Coherence::forget(const Context& context) {
  std::scoped_lock lock(mutex_);
  if (context_ == &context) context_ = nullptr;
}

CUresult Coherence::open(const Range& range, Context& context) {
  std::scoped_lock lock(mutex_);
  return open_locked(range, context);
}

CUresult Coherence::open_locked(const Range& range, Context& context) {
  std::byte* shadow = zeroed(range.bytes);
  if (shadow == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  session::Session& session = client_.session();
  if (range.mapped != 0) {
    const auto mapped =
        session.call(wire::MemMap(range.address, range.mapped, context.device->ordinal(), 0));
    if (!mapped) {
      ::munmap(shadow, range.bytes);
      return to_cuda(mapped.error());
    }
  }
  if (const CUresult result = stream_in(context); result != CUDA_SUCCESS) {
    ::munmap(shadow, range.bytes);
    return result;
  }
  (void)session.post(
      wire::CoherentBegin(range.address, range.bytes, stream_.name, range.mapped != 0 ? 1 : 0, 0));
  (void)session.post(wire::MemFence(stream_.name));
  Entry entry;
  static_cast<Range&>(entry) = range;
  entry.shadow = shadow;
  ranges_.emplace(range.address, entry);
  host_changes();
  // What lies there already may hold anything: a variable's initial value.
  if (range.mapped == 0) work_posted();
  client_.note_coherent_memory();
  return CUDA_SUCCESS;
}

void Coherence::close(std::uint64_t address) {
  std::scoped_lock lock(mutex_);
  const auto found = ranges_.find(address);
  if (found == ranges_.end()) return;
  const Entry entry = found->second;
  ranges_.erase(found);
  session::Session& session = client_.session();
  if (entry.mapped != 0) {
    (void)session.post(wire::CoherentEnd(entry.address, entry.bytes));
    (void)session.post(wire::MemUnmap(entry.address, entry.mapped));
  }
  ::munmap(entry.shadow, entry.bytes);
}

void Coherence::use(std::uint64_t address, std::uint64_t used) {
  std::scoped_lock lock(mutex_);
  const auto found = ranges_.find(address);
  if (found != ranges_.end()) found->second.used = std::max(found->second.used, used);
  host_changes();
}

bool Coherence::find(std::uint64_t address, std::byte** data) const {
  std::scoped_lock lock(mutex_);
  auto next = ranges_.upper_bound(address);
  if (next == ranges_.begin()) return false;
  const Entry& entry = std::prev(next)->second;
  const std::uint64_t offset = address - entry.address;
  if (offset >= entry.bytes) return false;
  if (data != nullptr) *data = entry.data + offset;
  return true;
}

// ---- joining -------------------------------------------------------------------------

void Coherence::watch() {
  if (possible()) client_.watch_launches();
}

void Coherence::join_later(std::uint64_t base) {
  if (!possible()) return;
  std::scoped_lock lock(mutex_);
  waiting_.push_back(base);
  any_waiting_.store(true, std::memory_order_release);
  client_.watch_launches();
}

CUresult Coherence::join(const HostBlock& block, Context& context) {
  Range range;
  range.address = block.device_address != 0 ? block.device_address : block.base;
  range.bytes = range.used = block.bytes;
  range.data = block.memory().data();
  range.mapped = client_.host_memory().granules(block.bytes);
  const CUresult result = open_locked(range, context);
  if (result == CUDA_SUCCESS) client_.host_memory().joined(block.base, block.id);
  return result;
}

CUresult Coherence::join_waiting(Context& context) {
  while (!waiting_.empty()) {
    const std::uint64_t base = waiting_.back();
    std::uint64_t at = base;
    const auto block = client_.host_memory().find(at);
    const bool wanted = block && block->base == base && !block->coherent;
    if (wanted) {
      if (const CUresult result = join(*block, context); result != CUDA_SUCCESS) return result;
    }
    std::erase(waiting_, base);
  }
  any_waiting_.store(false, std::memory_order_release);
  return CUDA_SUCCESS;
}

bool Coherence::concerned(ConstBytes parameters) const {
  if (client_.coherent() || any_waiting_.load(std::memory_order_acquire)) return true;
  const HostMemory& host = client_.host_memory();
  for (std::size_t at = 0; at + sizeof(std::uint64_t) <= parameters.size(); at += sizeof(std::uint64_t)) {
    std::uint64_t word;
    std::memcpy(&word, parameters.data() + at, sizeof word);
    if (host.in_range(word)) return true;
  }
  return false;
}

CUresult Coherence::join_named(Context& context, ConstBytes parameters) {
  const HostMemory& host = client_.host_memory();
  for (std::size_t at = 0; at + sizeof(std::uint64_t) <= parameters.size(); at += sizeof(std::uint64_t)) {
    std::uint64_t word;
    std::memcpy(&word, parameters.data() + at, sizeof word);
    if (!host.in_range(word)) continue;
    const auto block = host.find(word);
    if (!block || block->coherent || block->managed) continue;
    if (const CUresult result = join(*block, context); result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

// ---- to the device -------------------------------------------------------------------

CUresult Coherence::before_kernel(Stream& stream, ConstBytes parameters) {
  std::scoped_lock lock(mutex_);
  if (const CUresult result = join_named(*stream.context, parameters); result != CUDA_SUCCESS) return result;
  if (const CUresult result = join_waiting(*stream.context); result != CUDA_SUCCESS) return result;
  // Before the work too: a thread that synchronises with it may do so before work_posted().
  work_posted();
  const bool changed = may_have_changed();
  changes_no_more();
  return flush(*stream.context, changed);
}

CUresult Coherence::node_names(Context& context, ConstBytes parameters) {
  if (!concerned(parameters)) return CUDA_SUCCESS;
  std::scoped_lock lock(mutex_);
  return join_named(context, parameters);
}

CUresult Coherence::before_work(Stream& stream) {
  std::scoped_lock lock(mutex_);
  if (const CUresult result = join_waiting(*stream.context); result != CUDA_SUCCESS) return result;
  work_posted();
  return flush(*stream.context, may_have_changed());
}

void Coherence::host_changes() { host_changed_.store(++moments, std::memory_order_release); }

bool Coherence::may_have_changed() const {
  return last_kernel.of != this || last_kernel.changed != host_changed_.load(std::memory_order_acquire);
}

void Coherence::changes_no_more() const {
  last_kernel = {this, host_changed_.load(std::memory_order_acquire)};
}

CUresult Coherence::flush(Context& context, bool changed) {
  if (ranges_.empty()) return CUDA_SUCCESS;
  if (const CUresult result = stream_in(context); result != CUDA_SUCCESS) return result;
  // The work that is about to be posted is counted already.
  const bool idle = work_.load() <= seen_.load() + 1;
  Writer writer(client_.session(), stream_.name);
  collect(writer, changed, idle ? kGap : 0);
  return to_cuda(writer.finish());
}

void Coherence::collect(Writer& writer, bool managed, std::size_t gap) {
  for (auto& [address, entry] : ranges_) {
    if (entry.managed && !managed) continue;
    find_changes(entry.data, entry.shadow, entry.used, gap,
                 [&](std::size_t offset, std::size_t bytes) {
                   // What is sent is what the shadow has, whatever the program writes meanwhile.
                   std::memcpy(entry.shadow + offset, entry.data + offset, bytes);
                   writer.add(entry.address + offset, entry.shadow + offset, bytes);
                 });
  }
}

// ---- from the device -----------------------------------------------------------------

CUresult Coherence::synchronized(Context& context) {
  std::scoped_lock lock(mutex_);
  const CUresult result = behind() && !ranges_.empty() ? pull(context) : CUDA_SUCCESS;
  host_changes();
  return result;
}

void Coherence::before_host_node() {
  if (!client_.coherent()) return;
  std::scoped_lock lock(mutex_);
  if (context_ != nullptr && !ranges_.empty()) (void)pull(*context_);
}

void Coherence::after_host_node() {
  if (!client_.coherent()) return;
  std::scoped_lock lock(mutex_);
  if (context_ == nullptr || ranges_.empty()) return;
  Writer writer(client_.session(), stream_.name);
  collect(writer, true, 0);  // the graph is at work
  (void)writer.finish_and_wait();
}

CUresult Coherence::pull(Context& context) {
  if (const CUresult result = stream_in(context); result != CUDA_SUCCESS) return result;
  const std::uint64_t posted = work_.load();
  bool idle = true;
  std::uint64_t from = 0;
  do {
    const auto reply = client_.session().call(wire::CoherentPull(stream_.name, from));
    if (!reply) return to_cuda(reply.error());
    const wire::CoherentPullReply& changes = **reply;
    idle = idle && changes.idle();
    std::vector<wire::CoherentRun> longer;
    if (const CUresult result = take(changes, longer); result != CUDA_SUCCESS) return result;
    for (const wire::CoherentRun& run : longer) {
      if (const CUresult result = fetch(run); result != CUDA_SUCCESS) return result;
    }
    if (changes.next() != 0 && changes.next() <= from) return CUDA_ERROR_DEVICE_UNAVAILABLE;
    from = changes.next();
  } while (from != 0);
  if (idle) seen_.store(posted, std::memory_order_release);
  return CUDA_SUCCESS;
}

Coherence::Entry* Coherence::entry_of(const wire::CoherentRun& run) {
  auto next = ranges_.upper_bound(run.address());
  if (next == ranges_.begin()) return nullptr;
  Entry& entry = std::prev(next)->second;
  const std::uint64_t offset = run.address() - entry.address;
  return offset < entry.bytes && run.bytes() <= entry.bytes - offset ? &entry : nullptr;
}

CUresult Coherence::take(const wire::CoherentPullReply& reply, std::vector<wire::CoherentRun>& longer) {
  if (reply.runs() == nullptr) return CUDA_SUCCESS;
  const std::size_t available = reply.bytes() != nullptr ? reply.bytes()->size() : 0;
  std::size_t at = 0;
  for (const wire::CoherentRun* run : *reply.runs()) {
    if (run->bytes() > limits::kCoherentInlineBytes) {
      longer.push_back(*run);
      continue;
    }
    if (run->bytes() > available - at) return CUDA_ERROR_DEVICE_UNAVAILABLE;
    const auto* bytes = reinterpret_cast<const std::byte*>(reply.bytes()->data()) + at;
    at += run->bytes();
    // A range that this process has given up meanwhile is none of its.
    if (Entry* entry = entry_of(*run)) merge(*entry, run->address() - entry->address, {bytes, run->bytes()});
  }
  return CUDA_SUCCESS;
}

/// What differs from the shadow is the device's. What does not, the program may have changed since.
void Coherence::merge(Entry& entry, std::uint64_t offset, ConstBytes bytes) {
  std::byte* const data = entry.data + offset;
  std::byte* const shadow = entry.shadow + offset;
  if (std::memcmp(data, shadow, bytes.size()) == 0) {
    std::memcpy(data, bytes.data(), bytes.size());
  } else {
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      if (bytes[i] != shadow[i]) data[i] = bytes[i];
    }
  }
  std::memcpy(shadow, bytes.data(), bytes.size());
}

/// A long run: by a copy, as large ones go.
CUresult Coherence::fetch(const wire::CoherentRun& run) {
  Entry* entry = entry_of(run);
  if (entry == nullptr) return CUDA_SUCCESS;
  const std::uint64_t offset = run.address() - entry->address;
  std::byte* const data = entry->data + offset;
  const Side device{run.address(), run.bytes(), Kind::kDevice};
  Side host{reinterpret_cast<std::uint64_t>(data), run.bytes(), Kind::kPageable};
  const Shape shape{run.bytes(), 1};
  if (std::memcmp(data, entry->shadow + offset, run.bytes()) == 0) {
    const CUresult result = RowCopy(stream_, host, device, shape).run(Completion::kSynchronous);
    if (result == CUDA_SUCCESS) std::memcpy(entry->shadow + offset, data, run.bytes());
    return result;
  }
  const auto copy = std::make_unique_for_overwrite<std::byte[]>(run.bytes());
  host.address = reinterpret_cast<std::uint64_t>(copy.get());
  const CUresult result = RowCopy(stream_, host, device, shape).run(Completion::kSynchronous);
  if (result == CUDA_SUCCESS) merge(*entry, offset, {copy.get(), run.bytes()});
  return result;
}

CUresult host_sees(CUresult own, Context& context) {
  Client& client = *context.client;
  if (own != CUDA_SUCCESS || !client.coherent()) [[likely]] return own;
  return client.coherence().synchronized(context);
}

}  // namespace avec::client
