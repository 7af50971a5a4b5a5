#include "client/host_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "client/status.h"
#include "session/session.h"

namespace avec::client {
namespace {

std::uint64_t whole_pages(std::uint64_t bytes) {
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

}  // namespace

HostMemory::HostMemory(session::Session& session, AddressReservation range)
    : session_(session), range_(std::move(range)), addresses_(range_.base(), range_.bytes()) {}

CUresult HostMemory::allocate(void** pointer, std::size_t bytes, unsigned flags, Context& context) {
  if (bytes == 0 || bytes > limits::kHostRangeBytes)
    return bytes == 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_OUT_OF_MEMORY;
  const std::uint64_t size = whole_pages(bytes);
  std::scoped_lock lock(mutex_);
  std::uint64_t base = 0;
  if (range_.bytes() != 0) {
    base = addresses_.take(size, whole_pages(1));
    if (base == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  }
  // Over our own reservation; without a common range anywhere.
  void* memory = ::mmap(reinterpret_cast<void*>(base), size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | (base != 0 ? MAP_FIXED : 0), -1, 0);
  if (memory == MAP_FAILED) {
    if (base != 0) addresses_.give_back(base, size);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  base = reinterpret_cast<std::uint64_t>(memory);
  blocks_.emplace(base, HostBlock{base, bytes, flags, false, &context, next_id_++});
  *pointer = memory;
  return CUDA_SUCCESS;
}

CUresult HostMemory::release(void* pointer) {
  const auto base = reinterpret_cast<std::uint64_t>(pointer);
  std::uint64_t bytes = 0;
  {
    std::scoped_lock lock(mutex_);
    const auto block = blocks_.find(base);
    if (block == blocks_.end() || block->second.registered) return CUDA_ERROR_INVALID_VALUE;
    bytes = block->second.bytes;
    blocks_.erase(block);
  }
  // Bytes may still be on their way here. When the session is over, none are.
  (void)session_.wait_for_destination(pointer, static_cast<std::byte*>(pointer) + bytes);
  const std::uint64_t size = whole_pages(bytes);
  std::scoped_lock lock(mutex_);
  if (range_.contains(base)) {
    ::mmap(pointer, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    addresses_.give_back(base, size);
  } else {
    ::munmap(pointer, size);
  }
  return CUDA_SUCCESS;
}

CUresult HostMemory::add_registered(void* pointer, std::size_t bytes, unsigned flags, Context& context) {
  const auto base = reinterpret_cast<std::uint64_t>(pointer);
  if (base == 0 || bytes == 0 || base + bytes < base) return CUDA_ERROR_INVALID_VALUE;
  // MS_ASYNC does nothing but tell whether all of it is mapped.
  const std::uint64_t page = whole_pages(1), first = base / page * page;
  if (::msync(reinterpret_cast<void*>(first), base + bytes - first, MS_ASYNC) != 0)
    return CUDA_ERROR_INVALID_VALUE;
  std::scoped_lock lock(mutex_);
  const auto after = blocks_.lower_bound(base + bytes);
  if (after != blocks_.begin()) {
    const HostBlock& before = std::prev(after)->second;
    if (before.base + before.bytes > base) return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
  }
  blocks_.emplace(base, HostBlock{base, bytes, flags, true, &context, next_id_++});
  return CUDA_SUCCESS;
}

CUresult HostMemory::remove_registered(void* pointer) {
  const auto base = reinterpret_cast<std::uint64_t>(pointer);
  std::uint64_t bytes = 0;
  {
    std::scoped_lock lock(mutex_);
    const auto block = blocks_.find(base);
    if (block == blocks_.end() || !block->second.registered) return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    bytes = block->second.bytes;
    blocks_.erase(block);
  }
  (void)session_.wait_for_destination(pointer, static_cast<std::byte*>(pointer) + bytes);
  return CUDA_SUCCESS;
}

std::optional<HostBlock> HostMemory::find(std::uint64_t address) const {
  std::scoped_lock lock(mutex_);
  auto it = blocks_.upper_bound(address);
  if (it == blocks_.begin()) return std::nullopt;
  const HostBlock& block = std::prev(it)->second;
  if (address - block.base >= block.bytes) return std::nullopt;
  return block;
}

void HostMemory::release_all(const Context& context) {
  std::vector<HostBlock> gone;
  {
    std::scoped_lock lock(mutex_);
    for (const auto& [base, block] : blocks_) {
      if (block.context == &context) gone.push_back(block);
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
