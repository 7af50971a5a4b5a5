#include "executor/ledger.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace avec::executor {
namespace {

constexpr std::size_t kBytes = sizeof(LedgerSlot) * limits::kMaxSessions;

LedgerSlot* map(int descriptor) {
  void* at = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  return at == MAP_FAILED ? nullptr : static_cast<LedgerSlot*>(at);  // zero bytes are slots that use nothing
}

}  // namespace

std::unique_ptr<Ledger> Ledger::make() {
  Descriptor memory(::memfd_create("avec-ledger", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory || ::ftruncate(memory.get(), kBytes) != 0) return nullptr;
  ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  LedgerSlot* slots = map(memory.get());
  return slots == nullptr ? nullptr : std::unique_ptr<Ledger>(new Ledger(std::move(memory), slots));
}

std::unique_ptr<Ledger> Ledger::open(int descriptor) {
  Descriptor memory(::fcntl(descriptor, F_DUPFD_CLOEXEC, 3));
  LedgerSlot* slots = memory ? map(memory.get()) : nullptr;
  return slots == nullptr ? nullptr : std::unique_ptr<Ledger>(new Ledger(std::move(memory), slots));
}

Ledger::~Ledger() { ::munmap(static_cast<void*>(slots_), kBytes); }

std::uint64_t Ledger::sum(std::atomic<std::uint64_t> LedgerSlot::* what) const {
  std::uint64_t all = 0;
  for (std::size_t i = 0; i < limits::kMaxSessions; ++i) all += (slots_[i].*what).load();
  return all;
}

bool Ledger::take(std::atomic<std::uint64_t> LedgerSlot::* what, std::size_t index, std::uint64_t bytes,
                  std::uint64_t most) {
  if (most != 0 && bytes > most) return false;
  (slots_[index].*what).fetch_add(bytes);
  if (most == 0 || sum(what) <= most) return true;
  (slots_[index].*what).fetch_sub(bytes);
  return false;
}

void Ledger::give_back(std::atomic<std::uint64_t> LedgerSlot::* what, std::size_t index, std::uint64_t bytes) {
  (slots_[index].*what).fetch_sub(bytes);
}

void Ledger::clear(std::size_t index) {
  LedgerSlot& slot = slots_[index];
  for (auto* field : {&slot.device_bytes, &slot.device_peak, &slot.pinned_bytes, &slot.calls, &slot.bytes_in,
                      &slot.bytes_out, &slot.active_at, &slot.refusals})
    field->store(0);
}

}  // namespace avec::executor
