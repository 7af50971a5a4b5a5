// A driver that does nothing but remember what it was asked: for tests of what reaches a driver.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

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

/// A copy between host and device, as it was asked for.
struct RecordedCopy {
  bool to_device = false;
  std::uint64_t device = 0, pitch = 0;
  const std::byte* host = nullptr;
  std::uint64_t width = 0, height = 1;
};
std::vector<RecordedCopy> recorded_copies();
/// Device memory that copies really change, at once, whatever the gate says: [base, base + bytes).
/// Empty: none. Until reset_recording(). Its dma-buf is a memfd.
void emulate_memory(std::uint64_t base, std::size_t bytes);
/// A copy of the device's bytes there.
std::vector<std::byte> device_memory(std::uint64_t address, std::size_t bytes);
void write_device_memory(std::uint64_t address, std::span<const std::byte> bytes);
/// What every copy from now on returns.
void fail_copies(CUresult status);
/// What the device says of itself; everything that is not set is 0. Until clear_attributes().
void set_attribute(CUdevice_attribute attribute, int value);
void clear_attributes();
/// What asking for a dma-buf returns, and flushing an adapter's writes.
void fail_dma_buf(CUresult status);
void fail_flush(CUresult status);
/// How many times others had mapped device memory through its dma-buf, when memory was unmapped last.
std::size_t mappings_at_unmap();
/// The same now.
std::size_t mappings_of_device();
/// What registering host memory returns.
void fail_registration(CUresult status);

}  // namespace avec::test
