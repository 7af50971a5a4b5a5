// A session's slots: memory that the executor reaches for good, cut into equal pieces, through
// which large payload passes that lies in pageable memory.
#pragma once

#include <array>
#include <condition_variable>
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
/// call until that has been answered. Any thread.
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

  /// Waits until a slot is free. Only for a thread that has taken none.
  Result<Slot> take();
  std::optional<Slot> try_take();
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
  std::optional<Slot> find_free();
  Slot slot(std::size_t index) const;

  session::Session& session_;
  std::mutex opening_;  // held across the round trip that opens them
  State state_ = State::kClosed;
  MutableBytes area_;
  bool mapped_ = false;
  RemoteKey mirror_;  // not mapped: what the client writes
  std::mutex mutex_;  // guards what follows
  std::condition_variable given_back_;
  std::vector<std::size_t> free_;
  std::vector<Used> used_;
};

}  // namespace avec::client
