// GPUDirect RDMA: device memory of the session that the connection's adapter reaches by itself.
// Each mapping is registered once, when the first copy asks for it, through a dma-buf of the driver's, and given back before it is unmapped.
//
// Off unless the setting gpudirect says otherwise: it has not been run on hardware that can do it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "avec/one_sided.h"
#include "executor/worker/objects.h"

namespace avec::worker {

/// Loop only.
class GpuDirect {
 public:
  GpuDirect(const DriverTable& driver, const AddressMap& memory) : driver_(driver), memory_(memory) {}

  /// Makes a context current: this one, or the device's primary one.
  std::function<void(Context&)> make_current;
  std::function<void(int device)> make_primary_current;

  /// Whose read() and write() are to reach device memory; null: nobody's. Borrowed until clear().
  void use(OneSided* one_sided, std::string session);
  /// Whether memory of the device is to be allocated so that an adapter may reach it.
  bool wants(int device);
  /// Whether the adapter reaches all of [address, address + bytes), which is mapped. What is not registered
  /// yet is registered now. The first thing that fails is logged, and nothing is reached from then on.
  bool reaches(std::uint64_t address, std::uint64_t bytes);
  /// Bytes from `address` on, of what reaches() has said is reached, that lie in one registration.
  std::uint64_t bytes_at(std::uint64_t address) const;
  /// Makes what the adapter wrote there visible to the device's work that is issued from now on.
  CUresult flush(std::uint64_t address, Context& context);
  /// The mapping at this address is about to be unmapped.
  void forget(std::uint64_t address);
  /// All of them, and nothing is reached any more.
  void clear();

 private:
  bool add(std::uint64_t address, const Mapping& mapping);
  /// What stands against using it on this device; empty: nothing.
  std::string problem(int device) const;
  bool give_up(const std::string& why);
  /// Whose later work must see what the adapter has written.
  CUflushGPUDirectRDMAWritesScope scope() const;
  int attribute(CUdevice_attribute attribute, int device) const;
  std::map<std::uint64_t, Mapping>::const_iterator mapping_at(std::uint64_t address) const;

  const DriverTable& driver_;
  const AddressMap& memory_;
  OneSided* one_sided_ = nullptr;
  std::string session_;   // for log lines
  bool refused_ = false;  // something has failed
  std::map<std::uint64_t, std::uint64_t> registered_;  // bytes of mappings, by their first address
};

}  // namespace avec::worker
