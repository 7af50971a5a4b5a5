// Between a session and its driver: counts the memory that the session takes, refuses what its identity may not have,
// shows it no more than that, and clears device memory before the session can read what others left there.
//
// One session's, in a process of its own: a driver's functions have no place for a `this`, so there is one guard in the
// process. What NVIDIA's libraries and the driver allocate for themselves (workspaces, local memory, modules) does not
// pass through it.
#pragma once

#include <cstdint>
#include <memory>

#include "executor/ledger.h"
#include "executor/worker/driver.h"

namespace avec::worker {

struct Allowance {
  /// Bytes over all sessions of the identity; 0: as much as there is.
  std::uint64_t device_bytes = 0;
  std::uint64_t pinned_bytes = 0;
  /// Device memory and arrays are zeroed before the session has them.
  bool scrub = false;
  /// The identity's account and this session's line in it. Null: counted here only.
  std::shared_ptr<executor::Ledger> ledger;
  std::size_t slot = 0;
};

/// The same driver, guarded; nothing is refused or cleared until guard_allow(). Once per process.
DriverTable guard_driver(const DriverTable& driver);
/// Before the session's first allocation. Any thread.
void guard_allow(Allowance allowance);

}  // namespace avec::worker
