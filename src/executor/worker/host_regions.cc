#include "executor/worker/host_regions.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "base/limits.h"

namespace avec::worker {

bool HostRegions::has_room(std::uint64_t bytes) const {
  return regions_.size() + closing_.size() < limits::kMaxSharedMemories && bytes <= limits::kMaxSharedBytes - bytes_;
}

void HostRegions::open(const RemoteKey& key, std::uint64_t bytes, Told told) {
  if (!has_room(bytes)) return told(CUDA_ERROR_OUT_OF_MEMORY);
  auto region = std::make_shared<HostRegion>();
  regions_.emplace(key.words, region);
  bytes_ += bytes;
  helpers_.run([this, key, bytes, region, in = context(), told = std::move(told)]() -> std::function<void()> {
    MappedMemory found = mapped(key);
    const MutableBytes memory = found.bytes;
    const bool there = memory.size() >= bytes;
    CUresult status = CUDA_ERROR_INVALID_VALUE;
    if (there) {
      region->memory = memory.first(bytes);
      region->keeps = std::move(found.keeps);
      driver_.cuCtxSetCurrent(in);
      status = driver_.cuMemHostRegister(memory.data(), bytes, CU_MEMHOSTREGISTER_PORTABLE);
      region->registered = status == CUDA_SUCCESS;
    }
    return [this, key, bytes, region, there, status, told] {
      if (!there) {
        regions_.erase(key.words);
        bytes_ -= bytes;
        return told(CUDA_ERROR_INVALID_VALUE);
      }
      if (!region->registered) {
        spdlog::warn("{} bytes of a client's memory cannot be registered ({}): their copies pass through the arena",
                     bytes, cuda_status_text(status));
      }
      region->open = true;
      told(CUDA_SUCCESS);
    };
  });
}

CUresult HostRegions::allocate_on_helper(HostRegion& region, std::uint64_t bytes, RemoteKey& key) const {
  void* data = nullptr;
  if (const CUresult status = driver_.cuMemHostAlloc(&data, bytes, CU_MEMHOSTALLOC_PORTABLE); status != CUDA_SUCCESS)
    return status;
  region.memory = {static_cast<std::byte*>(data), bytes};
  region.allocated = true;
  if (const TransportError error = offer(region.memory, key)) {
    spdlog::warn("{} bytes cannot be offered to the client: {}", bytes, to_string(error.code));
    give_up(region);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  region.offered = true;
  return CUDA_SUCCESS;
}

void HostRegions::allocate(std::uint64_t bytes, Offered told) {
  auto region = std::make_shared<HostRegion>();
  allocated_.push_back(region);
  helpers_.run([this, bytes, region, in = context(), told = std::move(told)]() -> std::function<void()> {
    driver_.cuCtxSetCurrent(in);
    RemoteKey key;
    const CUresult status = allocate_on_helper(*region, bytes, key);
    return [region, status, key, told] {
      region->open = status == CUDA_SUCCESS;
      told(status, region, key);
    };
  });
}

std::shared_ptr<HostRegion> HostRegions::find(const RemoteKey& key) const {
  const auto found = regions_.find(key.words);
  return found == regions_.end() || !found->second->open ? nullptr : found->second;
}

bool HostRegions::close(const RemoteKey& key, Told told) {
  const auto found = regions_.find(key.words);
  if (found == regions_.end() || !found->second->open) return false;
  closing_.push_back({std::move(found->second), std::move(told)});
  regions_.erase(found);
  return true;
}

bool HostRegions::settle() {
  bool progress = false;
  for (auto it = closing_.begin(); it != closing_.end(); ++it) {
    if (it->handed || it->region.use_count() > 1) continue;
    it->handed = progress = true;
    // On a helper: the driver may take milliseconds to let go of many pages.
    helpers_.run([this, it, in = context()]() -> std::function<void()> {
      driver_.cuCtxSetCurrent(in);
      give_up(*it->region);
      return [this, it] {
        const Told told = std::move(it->told);
        bytes_ -= it->region->memory.size();
        closing_.erase(it);
        told(CUDA_SUCCESS);
      };
    });
  }
  return progress;
}

void HostRegions::give_up(HostRegion& region) const {
  if (std::exchange(region.offered, false)) withdraw(region.memory);
  if (std::exchange(region.registered, false)) driver_.cuMemHostUnregister(region.memory.data());
  if (std::exchange(region.allocated, false)) driver_.cuMemFreeHost(region.memory.data());
  region.open = false;
}

void HostRegions::clear() {
  for (const auto& [key, region] : regions_) give_up(*region);
  for (const auto& closing : closing_) give_up(*closing.region);
  for (const auto& region : allocated_) give_up(*region);
  regions_.clear();
  closing_.clear();
  allocated_.clear();
  bytes_ = 0;
}

}  // namespace avec::worker
