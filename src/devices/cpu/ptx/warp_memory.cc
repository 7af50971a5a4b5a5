// From PTX addresses to host pointers, with the checks of a GPU.
#include <algorithm>

#include "devices/cpu/ptx/block.h"
#include "devices/cpu/ptx/warp.h"

namespace avec::cpu::ptx {

std::byte* Warp::global(std::uint64_t address, unsigned bytes, bool write) {
  const auto inside = [&] { return address >= range_.begin && address < range_.end && range_.end - address >= bytes; };
  if (!inside()) {
    range_ = run_.find(address);
    if (!inside()) {
      range_ = {};
      fault(Fault::kIllegalAddress);
      return nullptr;
    }
  }
  if (write && !range_.writable) {
    fault(Fault::kIllegalAddress);
    return nullptr;
  }
  return reinterpret_cast<std::byte*>(address);
}

std::byte* Warp::resolve_generic(std::uint64_t address, unsigned lane, unsigned bytes, bool write) {
  if (in_window(address, kSharedWindow)) {
    const std::uint64_t offset = address - kSharedWindow;
    if (offset + bytes <= block_.shared_bytes()) return block_.shared() + offset;
    fault(Fault::kIllegalAddress);
    return nullptr;
  }
  if (in_window(address, kLocalWindow)) {
    const std::uint64_t offset = address - kLocalWindow;
    if (offset + bytes <= local_stride_) return local(lane) + offset;
    fault(Fault::kIllegalAddress);
    return nullptr;
  }
  return global(address, bytes, write);
}

bool Warp::resolve_lane(const Instruction& in, unsigned lane, std::uint64_t address, unsigned bytes, bool write) {
  std::byte* pointer = nullptr;
  pointers_[lane] = nullptr;
  if ((address & (bytes - 1)) != 0) {
    fault(Fault::kMisalignedAddress);
    return false;
  }
  switch (in.space) {
    case Space::kShared:
      // Some code uses the generic address of shared memory here.
      pointer = resolve_generic(in_window(address, kSharedWindow) ? address : kSharedWindow + (address & 0xFFFFFFFFu), lane, bytes, write);
      break;
    case Space::kLocal:
      pointer = resolve_generic(kLocalWindow + (address & 0xFFFFFFFFu), lane, bytes, write);
      break;
    case Space::kGlobal:
    case Space::kConst: pointer = global(address, bytes, write); break;
    default: pointer = resolve_generic(address, lane, bytes, write);
  }
  pointers_[lane] = pointer;
  return pointer != nullptr;
}

/// Lanes inside the range last used, or inside shared memory, need two comparisons each.
bool Warp::resolve_fast(const Instruction& in, Mask mask, unsigned bytes, bool write) {
  std::uint64_t begin = range_.begin, size = range_.end - range_.begin;
  std::byte* host = reinterpret_cast<std::byte*>(begin);
  if (in.space == Space::kShared) {
    begin = 0;
    size = block_.shared_bytes();
    host = block_.shared();
  } else if (in.space == Space::kLocal || (write && !range_.writable)) {
    return false;
  }
  if (size < bytes) return false;
  size -= bytes;
  const auto* wide = this->in<std::uint64_t>(in.a);
  const auto* narrow = this->in<std::uint32_t>(in.a);
  std::uint64_t bad = 0;
  for_lanes(mask, [&](unsigned i) {
    const std::uint64_t address = (in.flag2 ? narrow[i] : wide[i]) + static_cast<std::uint64_t>(in.immediate);
    bad |= static_cast<std::uint64_t>(address - begin > size) | (address & (bytes - 1));
    pointers_[i] = host + (address - begin);
  });
  return bad == 0;
}

bool Warp::resolve(const Instruction& in, Mask mask, unsigned bytes, bool write) {
  if (resolve_fast(in, mask, bytes, write)) return true;
  for (; mask != 0; mask &= mask - 1) {
    const auto lane = static_cast<unsigned>(std::countr_zero(mask));
    const std::uint64_t base = in.flag2 ? this->in<std::uint32_t>(in.a)[lane] : this->in<std::uint64_t>(in.a)[lane];
    if (!resolve_lane(in, lane, base + static_cast<std::uint64_t>(in.immediate), bytes, write)) return false;
  }
  return true;
}

bool Warp::ensure_local(std::uint64_t bytes) {
  if (bytes <= local_stride_) return true;
  if (bytes > (1u << 20)) return false;  // a GPU gives at most 512 KiB a thread
  const std::size_t stride = std::max<std::size_t>((bytes + 63) / 64 * 64, local_stride_ * 2);
  std::vector<std::byte> grown(stride * kLanes);
  for (unsigned lane = 0; lane < kLanes && local_stride_ != 0; ++lane) {
    std::memcpy(grown.data() + lane * stride, local(lane), local_stride_);
  }
  local_ = std::move(grown);
  local_stride_ = stride;
  return true;
}

std::uint64_t Warp::grow_local(std::uint64_t bytes, std::uint64_t alignment) {
  const std::uint64_t end = std::uint64_t{frame_->local_base} + frame_->function->local_bytes + frame_->dynamic_local;
  const std::uint64_t begin = (end + alignment - 1) / alignment * alignment;
  const std::uint64_t grown = (begin + bytes + 15) / 16 * 16;
  if (bytes > (1u << 20) || !ensure_local(grown)) {
    fault(Fault::kIllegalAddress);
    return 0;
  }
  frame_->dynamic_local += static_cast<std::uint32_t>(grown - end);
  return begin;
}

std::uint64_t read_parameter(const std::byte* area, std::uint32_t offset, unsigned bytes, unsigned lane) {
  std::uint64_t value = 0;
  auto* out = reinterpret_cast<std::byte*>(&value);
  for (unsigned i = 0; i < bytes;) {
    const std::uint32_t at = offset + i;
    const unsigned n = std::min(bytes - i, 4 - at % 4);
    std::memcpy(out + i, area + (at / 4) * std::size_t{4 * kLanes} + lane * 4 + at % 4, n);
    i += n;
  }
  return value;
}

void write_parameter(std::byte* area, std::uint32_t offset, unsigned bytes, unsigned lane, std::uint64_t value) {
  const auto* in = reinterpret_cast<const std::byte*>(&value);
  for (unsigned i = 0; i < bytes;) {
    const std::uint32_t at = offset + i;
    const unsigned n = std::min(bytes - i, 4 - at % 4);
    std::memcpy(parameter_byte(area, at, lane), in + i, n);
    i += n;
  }
}

}  // namespace avec::cpu::ptx
