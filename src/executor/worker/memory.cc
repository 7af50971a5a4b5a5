#include "executor/worker/memory.h"

#include "base/limits.h"

namespace avec::worker {
namespace {

bool sum_overflows(std::uint64_t a, std::uint64_t b) { return a + b < a; }

}  // namespace

bool AddressMap::overlaps(std::uint64_t address, std::uint64_t bytes) const {
  auto next = mappings_.lower_bound(address);
  if (next != mappings_.end() && next->first - address < bytes) return true;
  if (next == mappings_.begin()) return false;
  --next;
  return address - next->first < next->second.bytes;
}

bool AddressMap::add(std::uint64_t address, const Mapping& mapping) {
  if (mapping.bytes == 0 || sum_overflows(address, mapping.bytes)) return false;
  if (overlaps(address, mapping.bytes)) {
    auto known = mappings_.find(address);
    return known != mappings_.end() && known->second.module != 0 && known->second.module == mapping.module;
  }
  mappings_.emplace(address, mapping);
  total_bytes_ += mapping.bytes;
  return true;
}

bool AddressMap::covers(std::uint64_t address, std::uint64_t bytes) const {
  if (bytes == 0) return true;
  if (sum_overflows(address, bytes)) return false;
  auto at = mappings_.upper_bound(address);
  if (at == mappings_.begin()) return false;
  --at;
  const std::uint64_t end = address + bytes;
  std::uint64_t reached = at->first + at->second.bytes;
  if (reached <= address) return false;
  while (reached < end) {
    ++at;
    if (at == mappings_.end() || at->first != reached) return false;
    reached += at->second.bytes;
  }
  return true;
}

bool AddressMap::whole(std::uint64_t address, std::uint64_t bytes) const {
  if (bytes == 0 || sum_overflows(address, bytes)) return false;
  const std::uint64_t end = address + bytes;
  for (auto at = mappings_.find(address); at != mappings_.end() && at->first == address; ++at) {
    if (at->second.module != 0) return false;
    address += at->second.bytes;
    if (address >= end) return address == end;
  }
  return false;
}

std::optional<std::pair<std::uint64_t, Mapping>> AddressMap::take(std::uint64_t address, std::uint64_t bytes) {
  auto at = mappings_.lower_bound(address);
  if (at == mappings_.end() || at->first - address >= bytes) return std::nullopt;
  std::pair<std::uint64_t, Mapping> taken = *at;
  total_bytes_ -= at->second.bytes;
  mappings_.erase(at);
  return taken;
}

void AddressMap::forget_module(std::uint64_t module) {
  std::erase_if(mappings_, [&](const auto& entry) {
    if (entry.second.module != module) return false;
    total_bytes_ -= entry.second.bytes;
    return true;
  });
}

bool Extent::sane() const {
  if (width == 0 || height == 0) return true;
  if (width > limits::kMaxPayloadBytes || height > limits::kMaxPayloadBytes / width) return false;
  if (in.array != nullptr) return true;  // checked against the array
  if (height > 1 && (pitch < width || pitch > limits::kMaxPayloadBytes)) return false;
  const std::uint64_t step = height > 1 ? pitch : 0;
  if (step != 0 && height - 1 > (~std::uint64_t{0} - width) / step) return false;
  return !sum_overflows(address, step * (height - 1) + width);
}

Extent Extent::part(std::uint64_t row, std::uint64_t column, std::uint64_t part_bytes,
                    std::uint64_t part_rows) const {
  Extent result{0, pitch, part_bytes, part_rows, in};
  if (in.array != nullptr) {
    result.in.x += column;
    result.in.z += (in.first + row) / in.rows;
    result.in.first = (in.first + row) % in.rows;
  } else {
    result.address = address + (row == 0 ? 0 : row * pitch) + column;
    if (part_rows == 1) result.pitch = part_bytes;
  }
  return result;
}

CopyPiece piece_at(const Extent& extent, std::uint64_t offset, std::uint64_t most) {
  const std::uint64_t left = extent.bytes() - offset;
  if (extent.contiguous()) {
    const std::uint64_t bytes = std::min(left, most);
    return {extent.part(0, offset, bytes, 1), bytes};
  }
  const std::uint64_t row = offset / extent.width;
  const std::uint64_t column = offset % extent.width;
  if (column != 0 || extent.width > most) {
    const std::uint64_t bytes = std::min(extent.width - column, most);
    return {extent.part(row, column, bytes, 1), bytes};
  }
  const std::uint64_t rows = std::min(left / extent.width, most / extent.width);
  return {extent.part(row, 0, extent.width, rows), rows * extent.width};
}

namespace {

/// Rows of an array and tight host memory. Rows that begin or end inside of a slice are copies of
/// their own: at most three in all. `fill` sets the two sides, given the host's first byte.
template <class Fill>
CUresult copy_array_rows(const DriverTable& driver, const Extent& device, CUstream stream, Fill&& fill) {
  const RowsInArray& in = device.in;
  for (std::uint64_t row = 0; row < device.height;) {
    const std::uint64_t at = in.first + row, left = device.height - row;
    CUDA_MEMCPY3D copy{};
    copy.WidthInBytes = device.width;
    const bool whole = at % in.rows == 0 && left >= in.rows;
    copy.Height = whole ? in.rows : std::min(left, in.rows - at % in.rows);
    copy.Depth = whole ? left / in.rows : 1;
    fill(copy, in.y + at % in.rows, in.z + at / in.rows, row * device.width);
    if (const CUresult status = driver.cuMemcpy3DAsync(&copy, stream); status != CUDA_SUCCESS) return status;
    row += copy.Height * copy.Depth;
  }
  return CUDA_SUCCESS;
}

CUresult copy_to_array(const DriverTable& driver, const Extent& device, const void* host, CUstream stream) {
  const auto fill = [&](CUDA_MEMCPY3D& copy, std::uint64_t y, std::uint64_t z, std::uint64_t offset) {
    copy.srcMemoryType = CU_MEMORYTYPE_HOST;
    copy.srcHost = static_cast<const std::byte*>(host) + offset;
    copy.srcPitch = device.width;
    copy.srcHeight = copy.Height;
    copy.dstMemoryType = CU_MEMORYTYPE_ARRAY;
    copy.dstArray = device.in.array;
    copy.dstXInBytes = device.in.x;
    copy.dstY = y;
    copy.dstZ = z;
  };
  return copy_array_rows(driver, device, stream, fill);
}

CUresult copy_from_array(const DriverTable& driver, const Extent& device, void* host, CUstream stream) {
  const auto fill = [&](CUDA_MEMCPY3D& copy, std::uint64_t y, std::uint64_t z, std::uint64_t offset) {
    copy.dstMemoryType = CU_MEMORYTYPE_HOST;
    copy.dstHost = static_cast<std::byte*>(host) + offset;
    copy.dstPitch = device.width;
    copy.dstHeight = copy.Height;
    copy.srcMemoryType = CU_MEMORYTYPE_ARRAY;
    copy.srcArray = device.in.array;
    copy.srcXInBytes = device.in.x;
    copy.srcY = y;
    copy.srcZ = z;
  };
  return copy_array_rows(driver, device, stream, fill);
}

}  // namespace

CUresult copy_to_device(const DriverTable& driver, const CopyPiece& piece, const void* host, CUstream stream) {
  const Extent& device = piece.device;
  if (device.in.array != nullptr) return copy_to_array(driver, device, host, stream);
  if (device.contiguous()) return driver.cuMemcpyHtoDAsync(device.address, host, piece.bytes, stream);
  CUDA_MEMCPY2D copy{};
  copy.srcMemoryType = CU_MEMORYTYPE_HOST;
  copy.srcHost = host;
  copy.srcPitch = device.width;
  copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.dstDevice = device.address;
  copy.dstPitch = device.pitch;
  copy.WidthInBytes = device.width;
  copy.Height = device.height;
  return driver.cuMemcpy2DAsync(&copy, stream);
}

CUresult copy_from_device(const DriverTable& driver, const CopyPiece& piece, void* host, CUstream stream) {
  const Extent& device = piece.device;
  if (device.in.array != nullptr) return copy_from_array(driver, device, host, stream);
  if (device.contiguous()) return driver.cuMemcpyDtoHAsync(host, device.address, piece.bytes, stream);
  CUDA_MEMCPY2D copy{};
  copy.srcMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.srcDevice = device.address;
  copy.srcPitch = device.pitch;
  copy.dstMemoryType = CU_MEMORYTYPE_HOST;
  copy.dstHost = host;
  copy.dstPitch = device.width;
  copy.WidthInBytes = device.width;
  copy.Height = device.height;
  return driver.cuMemcpy2DAsync(&copy, stream);
}

}  // namespace avec::worker
