#include "client/slots.h"

#include <algorithm>
#include <utility>

#include "client/payload.h"
#include "session/session.h"

namespace avec::client {
namespace {

/// In streams_ of a slot that is free; no stream has this number.
constexpr std::uint64_t kNobody = ~std::uint64_t{0};

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
  mapped_ = traits.maps;
  if (!ask(access)) {
    access.free(std::exchange(area_, {}), false);
    return State::kNone;
  }
  const std::scoped_lock lock(mutex_);
  streams_.fill(kNobody);
  for (std::size_t index = limits::kSlots; index-- != 0;) free_.push_back(index);
  return State::kOpen;
}

bool Slots::ask(OneSided& access) {
  RemoteKey key;
  if (access.allow(area_, RemoteAccess::kWrite, key)) return false;
  const auto reply = session_.call(wire::SlotsOpen(to_wire(key), area_.size()));
  if (reply) mirror_ = from_wire(reply->key());
  const bool reached = reply && (mapped_ || mirror_);
  if (!reached) access.revoke(key);
  return reached;
}

Slot Slots::slot(std::size_t index) const {
  return {index, area_.subspan(index * limits::kSlotBytes, limits::kSlotBytes)};
}

Result<std::uint64_t> Slots::write(const Slot& slot, std::size_t bytes) {
  if (mapped_) return 0;
  return session_.write_ahead(mirror_, slot.offset(), slot.memory.first(bytes));
}

// With the lock, as the next two.
bool Slots::may_have_one(std::uint64_t stream) const {
  const auto has = static_cast<std::size_t>(std::ranges::count(streams_, stream));
  return has < free_.size();
}

void Slots::find_answered() {
  std::erase_if(used_, [&](const Used& used) {
    if (!session_.deferred_done(used.pending)) return false;
    streams_[used.index] = kNobody;
    free_.push_back(used.index);
    return true;
  });
}

// The one that was used last is the one that caches still hold.
std::optional<Slot> Slots::find_free(std::uint64_t stream) {
  if (!may_have_one(stream)) find_answered();
  if (!may_have_one(stream)) return std::nullopt;
  const std::size_t index = free_.back();
  free_.pop_back();
  streams_[index] = stream;
  return slot(index);
}

std::optional<Slot> Slots::try_take(std::uint64_t stream) {
  const std::scoped_lock lock(mutex_);
  return find_free(stream);
}

Result<Slot> Slots::take(std::uint64_t stream) {
  std::unique_lock lock(mutex_);
  auto counted = session::Counted::kSource;
  while (true) {
    if (const auto free = find_free(stream)) return *free;
    // Until any call is answered, or another thread gives a slot back, or has posted a call that
    // will be answered too.
    std::vector<session::Pending> pendings;
    for (const Used& used : used_) pendings.push_back(used.pending);
    const std::uint64_t seen = changes_;
    ++waiting_;
    lock.unlock();
    auto waited =
        session_.wait_for_one(pendings, changes_, seen, std::exchange(counted, session::Counted::kNot));
    lock.lock();
    --waiting_;
    if (!waited) return std::unexpected(waited.error());
  }
}

void Slots::used_by(const Slot& slot, std::uint64_t pending) {
  const std::scoped_lock lock(mutex_);
  used_.push_back({slot.index, pending});
  tell_waiting();
}

void Slots::give_back(const Slot& slot) {
  const std::scoped_lock lock(mutex_);
  streams_[slot.index] = kNobody;
  free_.push_back(slot.index);
  tell_waiting();
}

void Slots::tell_waiting() {
  if (waiting_ == 0) return;
  ++changes_;
  session_.changed();
}

}  // namespace avec::client
