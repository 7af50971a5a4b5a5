#include "client/slots.h"

#include <algorithm>
#include <chrono>

#include "client/payload.h"
#include "session/session.h"

namespace avec::client {
namespace {

/// A thread copies out of a slot for less than this; then it is looked again.
constexpr auto kLookAgain = std::chrono::milliseconds(10);

}  // namespace

Slots::Slots(session::Session& session) : session_(session) {}

Slots::~Slots() {
  if (!area_.empty()) session_.one_sided()->free(area_, false);
}

bool Slots::open() {
  const std::scoped_lock lock(opening_);
  if (state_ == State::kClosed) {
    OneSided* access = session_.one_sided();
    state_ = access != nullptr ? open_with(*access) : State::kNone;
  }
  return state_ == State::kOpen;
}

Slots::State Slots::open_with(OneSided& access) {
  const OneSidedTraits traits = access.traits();
  if (traits.slots_up_to == 0) return State::kNone;
  const MemoryResult allocated = access.allocate(limits::kSlots * limits::kSlotBytes, nullptr);
  if (allocated.error) return State::kNone;
  area_ = allocated.memory;
  RemoteKey key;
  if (access.allow(area_, RemoteAccess::kWrite, key)) return State::kNone;
  const auto reply = session_.call(wire::SlotsOpen(to_wire(key), area_.size()));
  if (!reply) {
    access.revoke(key);
    return State::kNone;
  }
  mapped_ = traits.maps;
  mirror_ = from_wire(reply->key());
  if (!mapped_ && !mirror_) return State::kNone;
  const std::scoped_lock lock(mutex_);
  for (std::size_t index = limits::kSlots; index-- != 0;) free_.push_back(index);
  return State::kOpen;
}

Slot Slots::slot(std::size_t index) const {
  return {index, area_.subspan(index * limits::kSlotBytes, limits::kSlotBytes)};
}

Result<std::uint64_t> Slots::write(const Slot& slot, std::size_t bytes) {
  if (mapped_) return 0;
  return session_.write_ahead(mirror_, slot.offset(), slot.memory.first(bytes));
}

/// With the lock. The one that was used last is the one that caches still hold.
std::optional<Slot> Slots::find_free() {
  if (free_.empty()) {
    std::erase_if(used_, [&](const Used& used) {
      if (!session_.deferred_done(used.pending)) return false;
      free_.push_back(used.index);
      return true;
    });
  }
  if (free_.empty()) return std::nullopt;
  const std::size_t index = free_.back();
  free_.pop_back();
  return slot(index);
}

std::optional<Slot> Slots::try_take() {
  const std::scoped_lock lock(mutex_);
  return find_free();
}

Result<Slot> Slots::take() {
  std::unique_lock lock(mutex_);
  while (true) {
    if (const auto free = find_free()) return *free;
    if (used_.empty()) {
      given_back_.wait_for(lock, kLookAgain);
      continue;
    }
    // Whichever is free first: a stream that is held up keeps its slots, not everybody else's.
    std::vector<session::Pending> pendings;
    for (const Used& used : used_) pendings.push_back(used.pending);
    lock.unlock();
    if (auto answered = session_.wait_for_one(pendings); !answered) return std::unexpected(answered.error());
    lock.lock();
  }
}

void Slots::used_by(const Slot& slot, std::uint64_t pending) {
  const std::scoped_lock lock(mutex_);
  used_.push_back({slot.index, pending});
}

void Slots::give_back(const Slot& slot) {
  {
    const std::scoped_lock lock(mutex_);
    free_.push_back(slot.index);
  }
  given_back_.notify_one();
}

}  // namespace avec::client
