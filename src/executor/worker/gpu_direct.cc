#include "executor/worker/gpu_direct.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <iterator>
#include <system_error>
#include <utility>

#include "base/handle.h"

namespace avec::worker {
namespace {

/// As one-sided access names device memory.
MutableBytes span_of(std::uint64_t address, std::uint64_t bytes) {
  return {reinterpret_cast<std::byte*>(static_cast<std::uintptr_t>(address)), static_cast<std::size_t>(bytes)};
}

}  // namespace

void GpuDirect::use(OneSided* one_sided, std::string session) {
  if (one_sided == nullptr) clear();
  one_sided_ = one_sided;
  session_ = std::move(session);
}

int GpuDirect::attribute(CUdevice_attribute attribute, int device) const {
  int value = 0;
  return driver_.cuDeviceGetAttribute(&value, attribute, device) == CUDA_SUCCESS ? value : 0;
}

CUflushGPUDirectRDMAWritesScope GpuDirect::scope() const {
  int devices = 1;
  driver_.cuDeviceGetCount(&devices);
  // Work on another device may be ordered behind a copy by an event.
  return devices > 1 ? CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_ALL_DEVICES : CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_OWNER;
}

bool GpuDirect::wants(int device) {
  return one_sided_ != nullptr && !refused_ &&
         attribute(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED, device) != 0;
}

std::string GpuDirect::problem(int device) const {
  if (driver_.cuMemGetHandleForAddressRange == nullptr) return "the driver library has no cuMemGetHandleForAddressRange";
  if (attribute(CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED, device) == 0)
    return "the driver shares no device memory by dma-buf (it needs NVIDIA's open kernel modules)";
  if (attribute(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED, device) == 0)
    return "the device does not support GPUDirect RDMA of memory that is mapped (cuMemCreate)";
  const bool ordered = attribute(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING, device) >= static_cast<int>(scope());
  const bool flushes = driver_.cuFlushGPUDirectRDMAWrites != nullptr &&
                       (attribute(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS, device) &
                        CU_FLUSH_GPU_DIRECT_RDMA_WRITES_OPTION_HOST) != 0;
  if (!ordered && !flushes) return "the device neither orders an adapter's writes nor lets them be flushed";
  return {};
}

bool GpuDirect::give_up(const std::string& why) {
  refused_ = true;
  spdlog::warn("{}: GPUDirect RDMA is not used: {}; copies pass through pinned memory", session_, why);
  return false;
}

bool GpuDirect::add(std::uint64_t address, const Mapping& mapping) {
  if (const std::string why = problem(mapping.device); !why.empty()) return give_up(why);
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  if (address % page != 0 || mapping.bytes % page != 0) return give_up("device memory is not aligned to pages");
  make_primary_current(mapping.device);
  int given = -1;
  const CUresult status = driver_.cuMemGetHandleForAddressRange(&given, address, mapping.bytes,
                                                                CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD, 0);
  if (status != CUDA_SUCCESS) return give_up("the driver gives no dma-buf of device memory: " + cuda_status_text(status));
  const Descriptor dma_buf(given);
  if (const TransportError error = one_sided_->add_device(address, mapping.bytes, dma_buf.get(), 0)) {
    std::string why = "the connection cannot register device memory: " + std::string(to_string(error.code));
    if (error.os_error != 0) why += " (" + std::generic_category().message(error.os_error) + ")";
    return give_up(why);
  }
  if (registered_.empty()) spdlog::info("{}: GPUDirect RDMA is used for large copies", session_);
  registered_.emplace(address, mapping.bytes);
  return true;
}

std::map<std::uint64_t, Mapping>::const_iterator GpuDirect::mapping_at(std::uint64_t address) const {
  return std::prev(memory_.all().upper_bound(address));
}

bool GpuDirect::reaches(std::uint64_t address, std::uint64_t bytes) {
  if (one_sided_ == nullptr || refused_) return false;
  const auto first = mapping_at(address);
  for (auto at = first; at != memory_.all().end() && at->first < address + bytes; ++at) {
    // A module's variables are no memory of ours to share. One device, so that one flush is enough.
    if (at->second.module != 0 || at->second.device != first->second.device) return false;
    if (!registered_.contains(at->first) && !add(at->first, at->second)) return false;
  }
  return true;
}

std::uint64_t GpuDirect::bytes_at(std::uint64_t address) const {
  const auto at = mapping_at(address);
  return at->first + at->second.bytes - address;
}

CUresult GpuDirect::flush(std::uint64_t address, Context& context) {
  const int device = mapping_at(address)->second.device;
  if (attribute(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING, device) >= static_cast<int>(scope()))
    return CUDA_SUCCESS;
  if (context.device == device) {
    make_current(context);
  } else {
    make_primary_current(device);
  }
  return driver_.cuFlushGPUDirectRDMAWrites(CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TARGET_CURRENT_CTX, scope());
}

void GpuDirect::forget(std::uint64_t address) {
  const auto found = registered_.extract(address);
  if (!found.empty()) one_sided_->remove(span_of(address, found.mapped()));
}

void GpuDirect::clear() {
  for (const auto& [address, bytes] : registered_) one_sided_->remove(span_of(address, bytes));
  registered_.clear();
  one_sided_ = nullptr;
}

}  // namespace avec::worker
