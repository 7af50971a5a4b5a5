// A driver that does nothing but remember what it was asked: for tests of what reaches a driver.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <string>

#include "executor/worker/driver.h"

namespace avec::test {

/// The functions of the recording driver; there is one of it in a process.
worker::DriverTable recording_driver();
/// Forgets what was recorded and opens the gate.
void reset_recording();
/// How often a function was called; the name as in the table ("cuLaunchKernel").
std::uint64_t recorded(const std::string& function);
/// How many launches there had been when the function was called last.
std::uint64_t launches_before(const std::string& function);
/// All calls but those that the loop makes by itself (polling, setting the context).
std::uint64_t recorded_work();
/// While it is closed no event is finished.
void close_gate(bool closed);
/// What every launch returns.
void fail_launches(CUresult status);

}  // namespace avec::test
