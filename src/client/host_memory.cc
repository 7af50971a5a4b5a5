#include "client/host_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "client/payload.h"
#include "client/status.h"
#include "session/session.h"

namespace avec::client {
namespace {

std::uint64_t whole_pages(std::uint64_t bytes) {
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

}  // namespace

HostMemory::HostMemory(session::Session& session, AddressReservation range, std::uint64_t granularity)
    : session_(session),
      range_(std::move(range)),
      addresses_(range_.base(), range_.bytes()),
      granularity_(std::max<std::uint64_t>(granularity, 1)) {}

HostMemory::~HostMemory() {
  for (const auto& [base, block] : blocks_) {
    if (block.from_transport) {
      session_.one_sided()->free({block.memory().data(), whole_pages(block.bytes)}, range_.contains(base));
    } else if (block.registered && block.reach != Reach::kNone) {
      session_.one_sided()->remove(block.memory());
    }
  }
}

/// Memory at block.base, or anywhere when that is 0.
bool HostMemory::obtain(HostBlock& block, std::uint64_t size) {
  void* const wish = reinterpret_cast<void*>(block.base);
  if (OneSided* access = session_.one_sided()) {
    if (const MemoryResult allocated = access->allocate(size, wish); !allocated.error) {
      block.base = reinterpret_cast<std::uint64_t>(allocated.memory.data());
      block.from_transport = true;
      open_for_executor(block, allocated.memory);
      return true;
    }
  }
  // Over our own reservation; without a common range anywhere.
  void* memory = ::mmap(wish, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | (wish != nullptr ? MAP_FIXED : 0), -1, 0);
  if (memory == MAP_FAILED) return false;
  block.base = reinterpret_cast<std::uint64_t>(memory);
  return true;
}

void HostMemory::open_for_executor(HostBlock& block, MutableBytes memory) {
  OneSided& access = *session_.one_sided();
  if (!access.traits().maps) {
    block.reach = Reach::kPerCall;
    return;
  }
  RemoteKey key;
  if (access.allow(memory, RemoteAccess::kWrite, key)) return;
  // What the executor cannot open is pinned memory all the same: its bytes take another way.
  if (!session_.call(wire::HostMemoryOpen(to_wire(key), memory.size()))) {
    access.revoke(key);
    return;
  }
  block.key = key;
  block.reach = Reach::kStanding;
}

CUresult HostMemory::allocate(void** pointer, std::size_t bytes, unsigned flags, Context& context) {
  if (bytes == 0 || bytes > limits::kHostRangeBytes)
    return bytes == 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_OUT_OF_MEMORY;
  const std::uint64_t size = whole_pages(bytes);
  HostBlock block{0, bytes, flags, false, &context, 0};
  if (range_.bytes() != 0) {
    std::scoped_lock lock(mutex_);
    block.base = addresses_.take(granules(size), granularity_);
    if (block.base == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  }
  const std::uint64_t wish = block.base;
  // Without the lock: it may take a round trip and as long as pinning memory does.
  const bool obtained = obtain(block, size);
  std::scoped_lock lock(mutex_);
  if (!obtained) {
    if (wish != 0) addresses_.give_back(wish, granules(size));
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  block.id = next_id_++;
  if (common()) block.device_address = block.base;
  blocks_.emplace(block.base, block);
  *pointer = block.memory().data();
  return CUDA_SUCCESS;
}

CUresult HostMemory::release(void* pointer) {
  const auto base = reinterpret_cast<std::uint64_t>(pointer);
  HostBlock gone;
  {
    std::scoped_lock lock(mutex_);
    const auto block = blocks_.find(base);
    if (block == blocks_.end() || block->second.registered || block->second.managed)
      return CUDA_ERROR_INVALID_VALUE;
    gone = block->second;
    blocks_.erase(block);
  }
  give_back(gone);
  return CUDA_SUCCESS;
}

void HostMemory::give_back(const HostBlock& block) {
  std::byte* const begin = block.memory().data();
  // Bytes may still be on their way here, or from here. When the session is over, none are.
  (void)session_.wait_until_unused(begin, begin + block.bytes);
  if (block.reach == Reach::kStanding) {
    (void)session_.call(wire::HostMemoryClose(to_wire(block.key)));
    session_.one_sided()->revoke(block.key);
  }
  const std::uint64_t size = whole_pages(block.bytes);
  const bool in_range = range_.contains(block.base);
  if (block.from_transport) {
    session_.one_sided()->free({begin, size}, in_range);
  } else if (in_range) {
    ::mmap(begin, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  } else {
    ::munmap(begin, size);
  }
  if (!in_range) return;
  std::scoped_lock lock(mutex_);
  addresses_.give_back(block.base, granules(size));
}

CUresult HostMemory::add_registered(void* pointer, std::size_t bytes, unsigned flags, Context& context) {
  const auto base = reinterpret_cast<std::uint64_t>(pointer);
  if (base == 0 || bytes == 0 || base + bytes < base) return CUDA_ERROR_INVALID_VALUE;
  // MS_ASYNC does nothing but tell whether all of it is mapped.
  const std::uint64_t page = whole_pages(1), first = base / page * page;
  if (::msync(reinterpret_cast<void*>(first), base + bytes - first, MS_ASYNC) != 0)
    return CUDA_ERROR_INVALID_VALUE;
  std::unique_lock lock(mutex_);
  const auto after = blocks_.lower_bound(base + bytes);
  if (after != blocks_.begin()) {
    const HostBlock& before = std::prev(after)->second;
    if (before.base + before.bytes > base) return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
  }
  const HostBlock block{base, bytes, flags, true, &context, next_id_++};
  blocks_.emplace(base, block);
  OneSided* access = session_.one_sided();
  if (access == nullptr) return CUDA_SUCCESS;
  lock.unlock();
  // Where it cannot be added (only the transport's own memory can be, or the system lets no
  // more be locked) it is registered all the same: its bytes take another way.
  if (access->add(block.memory())) return CUDA_SUCCESS;
  lock.lock();
  const auto added = blocks_.find(base);
  if (added != blocks_.end() && added->second.id == block.id) {
    added->second.reach = Reach::kPerCall;
    return CUDA_SUCCESS;
  }
  lock.unlock();  // unregistered by another thread meanwhile
  access->remove(block.memory());
  return CUDA_SUCCESS;
}

CUresult HostMemory::remove_registered(void* pointer) {
  const auto base = reinterpret_cast<std::uint64_t>(pointer);
  HostBlock gone;
  {
    std::scoped_lock lock(mutex_);
    const auto block = blocks_.find(base);
    if (block == blocks_.end()) return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    if (!block->second.registered) return CUDA_ERROR_INVALID_VALUE;  // allocated
    gone = block->second;
    blocks_.erase(block);
    if (gone.device_address != 0) {
      twins_.erase(gone.device_address);
      addresses_.give_back(gone.device_address, granules(gone.bytes));
    }
  }
  (void)session_.wait_until_unused(pointer, static_cast<std::byte*>(pointer) + gone.bytes);
  if (gone.reach != Reach::kNone) session_.one_sided()->remove(gone.memory());
  return CUDA_SUCCESS;
}

std::optional<HostBlock> HostMemory::find(std::uint64_t& address) const {
  std::scoped_lock lock(mutex_);
  if (auto twin = twins_.upper_bound(address); twin != twins_.begin()) {
    --twin;
    const auto block = blocks_.find(twin->second);
    const std::uint64_t offset = address - twin->first;
    if (block != blocks_.end() && offset < block->second.bytes) {
      address = block->first + offset;
      return block->second;
    }
  }
  auto it = blocks_.upper_bound(address);
  if (it == blocks_.begin()) return std::nullopt;
  const HostBlock& block = std::prev(it)->second;
  if (address - block.base >= block.bytes) return std::nullopt;
  return block;
}

// ---- what host and device both use ---------------------------------------------------

std::uint64_t HostMemory::granules(std::uint64_t bytes) const {
  return (bytes + granularity_ - 1) / granularity_ * granularity_;
}

std::uint64_t HostMemory::take_addresses(std::uint64_t bytes) {
  std::scoped_lock lock(mutex_);
  return addresses_.take(granules(bytes), granularity_);
}

void HostMemory::give_addresses_back(std::uint64_t base, std::uint64_t bytes) {
  std::scoped_lock lock(mutex_);
  addresses_.give_back(base, granules(bytes));
}

void HostMemory::add_managed(const HostBlock& block) {
  std::scoped_lock lock(mutex_);
  HostBlock& added = blocks_.insert_or_assign(block.base, block).first->second;
  added.managed = added.coherent = true;
  added.device_address = block.base;
  added.id = next_id_++;
}

std::optional<HostBlock> HostMemory::take_managed(std::uint64_t base) {
  std::scoped_lock lock(mutex_);
  const auto found = blocks_.find(base);
  if (found == blocks_.end() || !found->second.managed) return std::nullopt;
  const HostBlock block = found->second;
  blocks_.erase(found);
  return block;
}

std::vector<HostBlock> HostMemory::coherent_of(const Context& context) const {
  std::scoped_lock lock(mutex_);
  std::vector<HostBlock> found;
  for (const auto& [base, block] : blocks_) {
    if (block.coherent && block.context == &context) found.push_back(block);
  }
  return found;
}

void HostMemory::joined(std::uint64_t base, std::uint64_t id) {
  std::scoped_lock lock(mutex_);
  const auto block = blocks_.find(base);
  if (block != blocks_.end() && block->second.id == id) block->second.coherent = true;
}

std::uint64_t HostMemory::device_address(std::uint64_t base) {
  std::scoped_lock lock(mutex_);
  const auto found = blocks_.find(base);
  if (found == blocks_.end() || !common()) return 0;
  HostBlock& block = found->second;
  if (block.device_address == 0) {
    block.device_address = addresses_.take(granules(block.bytes), granularity_);
    if (block.device_address != 0) twins_.emplace(block.device_address, base);
  }
  return block.device_address;
}

void HostMemory::release_all(const Context& context) {
  std::vector<HostBlock> gone;
  {
    std::scoped_lock lock(mutex_);
    for (const auto& [base, block] : blocks_) {
      if (block.context == &context && !block.managed) gone.push_back(block);
    }
  }
  for (const HostBlock& block : gone) {
    void* pointer = reinterpret_cast<void*>(block.base);
    if (block.registered) {
      remove_registered(pointer);
    } else {
      release(pointer);
    }
  }
}

}  // namespace avec::client
