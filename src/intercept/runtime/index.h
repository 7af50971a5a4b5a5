// Pointer to pointer, read without a lock: host stubs to kernels, shadow variables to device
// variables. Writers are serialised by the caller.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace avec::runtime {

template <class Value>
class PointerIndex {
 public:
  /// Null when the key is unknown. Any thread, at any time.
  [[nodiscard]] Value* find(const void* key) const noexcept {
    const Table* table = table_.load(std::memory_order_acquire);
    if (table == nullptr || key == nullptr) return nullptr;
    for (std::size_t i = hash(key);; ++i) {
      const Slot& slot = table->slots[i & table->mask];
      const void* found = slot.key.load(std::memory_order_acquire);
      if (found == key) return slot.value.load(std::memory_order_acquire);
      if (found == nullptr) return nullptr;
    }
  }

  /// Inserts; a key that has a value keeps it.
  void insert(const void* key, Value* value) {
    Table* table = table_.load(std::memory_order_relaxed);
    if (table == nullptr || (used_ + 1) * 2 > table->mask + 1) table = grow();
    put(*table, key, value);
  }

  /// Forgets the key if it stands for `value`. Its slot stays taken until the table grows.
  void erase(const void* key, const Value* value) {
    Table* table = table_.load(std::memory_order_relaxed);
    if (table == nullptr) return;
    for (std::size_t i = hash(key);; ++i) {
      Slot& slot = table->slots[i & table->mask];
      const void* found = slot.key.load(std::memory_order_relaxed);
      if (found == nullptr) return;
      if (found != key) continue;
      if (slot.value.load(std::memory_order_relaxed) == value)
        slot.value.store(nullptr, std::memory_order_release);
      return;
    }
  }

 private:
  struct Slot {
    std::atomic<const void*> key{nullptr};
    std::atomic<Value*> value{nullptr};
  };
  struct Table {
    explicit Table(std::size_t size) : mask(size - 1), slots(std::make_unique<Slot[]>(size)) {}
    std::size_t mask;
    std::unique_ptr<Slot[]> slots;
  };

  static constexpr std::size_t kFirstSize = 256;

  static std::size_t hash(const void* key) noexcept {
    // Functions are 16-byte aligned: the low bits say nothing.
    return static_cast<std::size_t>((reinterpret_cast<std::uintptr_t>(key) >> 4) * 0x9E3779B97F4A7C15u >> 24);
  }

  void put(Table& table, const void* key, Value* value) {
    for (std::size_t i = hash(key);; ++i) {
      Slot& slot = table.slots[i & table.mask];
      const void* found = slot.key.load(std::memory_order_relaxed);
      if (found == key) {
        if (slot.value.load(std::memory_order_relaxed) == nullptr)
          slot.value.store(value, std::memory_order_release);
        return;
      }
      if (found != nullptr) continue;
      // Readers see the value before they see the key.
      slot.value.store(value, std::memory_order_relaxed);
      slot.key.store(key, std::memory_order_release);
      ++used_;
      return;
    }
  }

  Table* grow() {
    const Table* old = table_.load(std::memory_order_relaxed);
    auto bigger = std::make_unique<Table>(old == nullptr ? kFirstSize : (old->mask + 1) * 2);
    // Readers may be in the old table at any later time, so it is kept: all of them together are
    // no larger than the newest.
    tables_.reserve(tables_.size() + 1);
    used_ = 0;
    if (old != nullptr) {
      for (std::size_t i = 0; i <= old->mask; ++i) {
        const void* key = old->slots[i].key.load(std::memory_order_relaxed);
        Value* value = old->slots[i].value.load(std::memory_order_relaxed);
        if (key != nullptr && value != nullptr) put(*bigger, key, value);
      }
    }
    Table* table = bigger.get();
    tables_.push_back(std::move(bigger));
    table_.store(table, std::memory_order_release);
    return table;
  }

  std::atomic<Table*> table_{nullptr};
  std::vector<std::unique_ptr<Table>> tables_;
  std::size_t used_ = 0;
};

}  // namespace avec::runtime
