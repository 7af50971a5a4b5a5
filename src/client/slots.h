// A session's slots: memory that the executor reaches for good, cut into equal pieces, through
// which large payload passes that lies in pageable memory.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "avec/one_sided.h"
#include "base/limits.h"
#include "base/result.h"

namespace avec::session {
class Session;
}

namespace avec::client {

struct Slot {
  std::size_t index = 0;
  MutableBytes memory;
  std::uint64_t offset() const { return index * limits::kSlotBytes; }
};

/// A slot is free, or taken by a thread that copies into or out of it, or in use by a deferred
/// call until that has been answered. A CUDA stream has at most as many as it leaves free: half of
/// them alone, and five streams that are held up still leave one to others. Any thread.
class Slots {
 public:
  explicit Slots(session::Session& session);
  /// After the session's end.
  ~Slots();

  /// Asks the executor for them at the first call. False: there are none in this session.
  bool open();
  /// Writes bytes that were put into the slot to the executor, where it does not see them by
  /// itself; Reference::write of the call that needs them.
  Result<std::uint64_t> write(const Slot& slot, std::size_t bytes);

  /// Waits until the stream may have a slot. Only for a thread that has taken none.
  Result<Slot> take(std::uint64_t stream);
  std::optional<Slot> try_take(std::uint64_t stream);
  /// In use until the deferred call is over.
  void used_by(const Slot& slot, std::uint64_t pending);
  void give_back(const Slot& slot);

 private:
  enum class State : std::uint8_t { kClosed, kOpen, kNone };
  struct Used {
    std::size_t index;
    std::uint64_t pending;
  };
  State open_with(OneSided& access);
  bool ask(OneSided& access);
  bool may_have_one(std::uint64_t stream) const;
  void find_answered();
  std::optional<Slot> find_free(std::uint64_t stream);
  void tell_waiting();
  Slot slot(std::size_t index) const;

  session::Session& session_;
  std::mutex opening_;  // held across the round trip that opens them
  State state_ = State::kClosed;
  MutableBytes area_;
  bool mapped_ = false;
  RemoteKey mirror_;  // not mapped: what the client writes
  std::mutex mutex_;  // guards what follows
  std::vector<std::size_t> free_;
  std::vector<Used> used_;
  std::array<std::uint64_t, limits::kSlots> streams_{};  // that have the slots which are not free
  std::size_t waiting_ = 0;                              // threads in take()
  std::atomic<std::uint64_t> changes_{0};                // of used_ and free_ that those must see
};

}  // namespace avec::client
