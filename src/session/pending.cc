#include "session/pending.h"

#include <utility>

namespace avec::session {

Replies::Replies() : buckets_(kBuckets) {}

void Replies::expect(Expected& expected) {
  Expected*& first = bucket(expected.sequence);
  expected.next = first;
  first = &expected;
}

Expected* Replies::find(std::uint64_t sequence) const {
  Expected* expected = buckets_[sequence % kBuckets];
  while (expected != nullptr && expected->sequence != sequence) expected = expected->next;
  return expected;
}

void Replies::remove(Expected& expected) {
  Expected** link = &bucket(expected.sequence);
  while (*link != nullptr && *link != &expected) link = &(*link)->next;
  if (*link != nullptr) *link = expected.next;
}

Deferred* Replies::begin_deferred(std::uint64_t sequence, wire::Opcode opcode, const DeferredMemory& memory,
                                  bool unattended) {
  if (free_ == nullptr) {
    if (pool_.size() == limits::kMaxDeferred) return nullptr;
    free_ = pool_.emplace_back(std::make_unique<Deferred>()).get();
  }
  Deferred* deferred = std::exchange(free_, free_->next_active);
  deferred->sequence = sequence;
  deferred->opcode = opcode;
  deferred->deferred = true;
  deferred->memory = memory;
  deferred->unattended = unattended;
  deferred->taken = false;
  deferred->previous_active = nullptr;
  deferred->next_active = active_;
  if (active_ != nullptr) active_->previous_active = deferred;
  active_ = deferred;
  ++deferred_count_;
  expect(*deferred);
  return deferred;
}

void Replies::end_deferred(Deferred& deferred, int status) {
  remove(deferred);
  if (status != 0 && !deferred.unattended) {
    failures_[next_failure_] = {deferred.sequence, status};
    next_failure_ = (next_failure_ + 1) % failures_.size();
  }
  if (deferred.previous_active != nullptr) {
    deferred.previous_active->next_active = deferred.next_active;
  } else {
    active_ = deferred.next_active;
  }
  if (deferred.next_active != nullptr) deferred.next_active->previous_active = deferred.previous_active;
  deferred.next_active = std::exchange(free_, &deferred);
  --deferred_count_;
}

Deferred* Replies::reads_by(const RemoteKey& key) const {
  Deferred* deferred = active_;
  while (deferred != nullptr && (deferred->memory.written || deferred->memory.key != key)) deferred = deferred->next_active;
  return deferred;
}

int Replies::take_failure(std::uint64_t sequence) {
  for (Failure& failure : failures_) {
    if (failure.sequence == sequence) return std::exchange(failure, Failure{}).status;
  }
  return 0;
}

const Deferred* Replies::overlapping(const std::byte* begin, const std::byte* end, Use use) const {
  if (begin == end) return nullptr;
  for (const Deferred* deferred = active_; deferred != nullptr; deferred = deferred->next_active) {
    if (use != Use::kAny && !deferred->memory.written) continue;
    if (use == Use::kInReply && !deferred->memory.in_reply) continue;
    const std::byte* first = deferred->memory.bytes.data();
    if (first < end && begin < first + deferred->memory.bytes.size()) return deferred;
  }
  return nullptr;
}

}  // namespace avec::session
