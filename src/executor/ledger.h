// What sessions of one identity use together: memory that the broker and their workers share, so that a quota holds over
// all of them, and what a worker that is killed had used is known, and free again.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/handle.h"
#include "base/limits.h"

namespace avec::executor {

/// One session's part; its worker writes it, the broker clears it before it is given to another.
struct LedgerSlot {
  std::atomic<std::uint64_t> device_bytes, device_peak, pinned_bytes;
  std::atomic<std::uint64_t> calls, bytes_in, bytes_out;
  /// Seconds (steady clock) at which the program was last seen to do something.
  std::atomic<std::uint64_t> active_at;
  /// Allocations that were refused for a quota.
  std::atomic<std::uint64_t> refusals;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

class Ledger {
 public:
  /// The broker's. Null: the system has no memory for it.
  static std::unique_ptr<Ledger> make();
  /// A worker's, from the descriptor that it was given.
  static std::unique_ptr<Ledger> open(int descriptor);
  ~Ledger();
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  LedgerSlot& slot(std::size_t index) { return slots_[index]; }
  int descriptor() const { return memory_.get(); }
  /// Takes `bytes` for this slot where all slots together stay within `most`; a zero is no limit. Of two that come at
  /// the same time for the last bytes both may be refused.
  bool take(std::atomic<std::uint64_t> LedgerSlot::* what, std::size_t index, std::uint64_t bytes, std::uint64_t most);
  void give_back(std::atomic<std::uint64_t> LedgerSlot::* what, std::size_t index, std::uint64_t bytes);
  std::uint64_t sum(std::atomic<std::uint64_t> LedgerSlot::* what) const;
  /// What a session that has ended leaves.
  void clear(std::size_t index);

 private:
  Ledger(Descriptor memory, LedgerSlot* slots) : memory_(std::move(memory)), slots_(slots) {}
  Descriptor memory_;
  LedgerSlot* slots_;
};

}  // namespace avec::executor
