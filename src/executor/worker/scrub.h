// Zeroes device memory that the driver has just given: what a session of somebody else left there, one that was killed
// included, is gone before this one can read it.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>

#include "executor/worker/driver.h"

namespace avec::worker {

/// Any thread; its current context is the device's primary one afterwards. Waits for the device, on a stream of its own
/// that no other work comes before.
class Scrubber {
 public:
  explicit Scrubber(const DriverTable& driver) : driver_(driver) {}

  /// Physical memory of a device, mapped nowhere yet.
  CUresult memory(CUmemGenericAllocationHandle handle, std::uint64_t bytes, int device);
  /// An array, or a level of a mipmapped one, in the current context. CUDA_ERROR_NOT_SUPPORTED: of a format that
  /// cannot be copied as a whole.
  CUresult array(CUarray array);

 private:
  struct Lane {
    CUcontext context = nullptr;
    CUstream stream = nullptr;
    CUevent done = nullptr;
  };
  CUresult lane_of(int device, Lane& lane);
  CUresult clear(const Lane& lane, CUdeviceptr address, std::uint64_t bytes);
  CUresult finish(const Lane& lane);

  const DriverTable driver_;
  std::mutex mutex_;  // one scrub at a time; guards lanes_
  std::map<int, Lane> lanes_;
};

}  // namespace avec::worker
