// Handles that applications hold (CUstream, CUevent, CUfunction ...) are addresses of objects
// in slabs. A slab reserves the addresses of all its slots once, so any value can be checked
// for being a live object with a subtraction and a load: no lock, no crash on garbage.
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <bit>
#include <cstdint>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "base/limits.h"

namespace avec::client {

/// All objects of type T of this process. Static: a handle says nothing about its owner.
template <class T>
class Slab {
  struct Slot {
    std::atomic<std::uint32_t> live;  // kLive while `storage` holds a T; fresh pages read as 0
    alignas(T) std::byte storage[sizeof(T)];
  };
  static constexpr std::uint32_t kLive = 0x4156'4543;
  static constexpr std::size_t kSlotBytes = std::bit_ceil(sizeof(Slot));
  static constexpr std::size_t kBytes = kSlotBytes * limits::kMaxHandles;
  static constexpr std::size_t kOffset = offsetof(Slot, storage);

 public:
  /// Null when the process has kMaxHandles of them or no memory.
  template <class... Args>
  static T* make(Args&&... args) {
    Slot* slot = take();
    if (slot == nullptr) return nullptr;
    T* value = new (slot->storage) T{std::forward<Args>(args)...};
    slot->live.store(kLive, std::memory_order_release);
    return value;
  }

  /// The live object whose handle this is, or null.
  static T* find(const void* handle) noexcept {
    const auto base = base_.load(std::memory_order_acquire);
    const std::uintptr_t offset = reinterpret_cast<std::uintptr_t>(handle) - base - kOffset;
    if (base == 0 || offset >= kBytes || offset % kSlotBytes != 0) return nullptr;
    auto* slot = reinterpret_cast<Slot*>(base + offset);
    if (slot->live.load(std::memory_order_acquire) != kLive) return nullptr;
    return std::launder(reinterpret_cast<T*>(slot->storage));
  }

  /// Ends the object. False when another thread already has (or it never was one).
  static bool destroy(T* value) noexcept {
    if (find(value) == nullptr) return false;
    auto* slot = reinterpret_cast<Slot*>(reinterpret_cast<std::byte*>(value) - kOffset);
    std::uint32_t expected = kLive;
    if (!slot->live.compare_exchange_strong(expected, 0)) return false;
    value->~T();
    std::scoped_lock lock(mutex_);
    free_.push_back(slot);
    return true;
  }

 private:
  static Slot* take() {
    std::scoped_lock lock(mutex_);
    if (!free_.empty()) {
      Slot* slot = free_.back();
      free_.pop_back();
      return slot;
    }
    if (base_.load(std::memory_order_relaxed) == 0) {
      void* memory =
          ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (memory == MAP_FAILED) return nullptr;
      base_.store(reinterpret_cast<std::uintptr_t>(memory), std::memory_order_release);
    }
    if (used_ == limits::kMaxHandles) return nullptr;
    return reinterpret_cast<Slot*>(base_.load(std::memory_order_relaxed) + kSlotBytes * used_++);
  }

  inline static std::atomic<std::uintptr_t> base_{0};
  inline static std::mutex mutex_;
  inline static std::vector<Slot*>& free_ = *new std::vector<Slot*>;  // outlives static destructors
  inline static std::size_t used_ = 0;
};

}  // namespace avec::client
