// What device code calls and does not bring: printf, assert, malloc, free.
#include <cstdlib>

#include "devices/cpu/ptx/block.h"

namespace avec::cpu::ptx {

DeviceHeap::~DeviceHeap() {
  for (const auto& [address, bytes] : blocks_) std::free(reinterpret_cast<void*>(address));
}

void DeviceHeap::set_limit(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  limit_ = bytes;
}

std::uint64_t DeviceHeap::allocate(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (bytes > limit_) return 0;
  const std::uint64_t size = (bytes + 15) / 16 * 16 + (bytes == 0 ? 16 : 0);
  if (size > limit_ - used_ || used_ > limit_) return 0;
  void* p = std::aligned_alloc(16, size);
  if (p == nullptr) return 0;
  const auto address = reinterpret_cast<std::uint64_t>(p);
  blocks_.emplace(address, size);
  used_ += size;
  return address;
}

bool DeviceHeap::release(std::uint64_t address) {
  const std::lock_guard lock(mutex_);
  const auto found = blocks_.find(address);
  if (found == blocks_.end()) return false;
  used_ -= found->second;
  blocks_.erase(found);
  std::free(reinterpret_cast<void*>(address));
  return true;
}

AddressSpace::Range DeviceHeap::find(std::uint64_t address) const {
  const std::lock_guard lock(mutex_);
  auto next = blocks_.upper_bound(address);
  if (next == blocks_.begin()) return {};
  --next;
  if (address - next->first >= next->second) return {};
  return {next->first, next->first + next->second, true};
}

namespace {

std::uint64_t read_argument(Warp& w, const Argument& a, unsigned lane) {
  if (a.ref == kNoRef) return read_parameter(w.parameters(), a.offset, std::min(a.bytes, 8u), lane);
  std::uint64_t value = 0;
  std::memcpy(&value, w.in<std::byte>(a.ref) + lane * a.width, a.width);
  return value;
}

void write_result(Warp& w, const Call& call, unsigned lane, std::uint64_t value) {
  if (call.results.empty()) return;
  const Argument& r = call.results[0];
  if (r.ref == kNoRef) write_parameter(w.parameters(), r.offset, std::min(r.bytes, 8u), lane, value);
  else std::memcpy(w.out<std::byte>(r.ref) + lane * r.width, &value, r.width);
}

void assert_failed(Warp& w, const Call& call, unsigned lane) {
  const auto argument = [&](std::size_t i) { return read_argument(w, call.arguments[i], lane); };
  std::string message, file, function;
  if (!read_string(w, lane, argument(0), message) || !read_string(w, lane, argument(1), file) ||
      !read_string(w, lane, argument(3), function)) {
    return;
  }
  const auto& block = w.block().id();
  const auto& size = w.launch().launch().block;
  const std::uint32_t thread = w.index() * kLanes + lane;
  const auto triple = [](std::uint32_t x, std::uint32_t y, std::uint32_t z) {
    std::string text = std::to_string(x);
    text.append(",").append(std::to_string(y)).append(",").append(std::to_string(z));
    return text;
  };
  w.launch().output(2, file + ":" + std::to_string(static_cast<std::uint32_t>(argument(2))) + ": " + function + ": block: [" +
                           triple(block[0], block[1], block[2]) + "], thread: [" +
                           triple(thread % size[0], thread / size[0] % size[1], thread / size[0] / size[1]) +
                           "] Assertion `" + message + "` failed.\n");
}

}  // namespace

void run_builtin(Warp& w, const Call& call, Mask mask) {
  for_lanes(mask, [&](unsigned lane) {
    if (w.faulted()) return;
    switch (call.builtin) {
      case Builtin::kPrintf: {
        std::string text;
        const int written = format_printf({w, lane, read_argument(w, call.arguments[0], lane), read_argument(w, call.arguments[1], lane)}, text);
        if (w.faulted()) return;
        w.launch().output(1, text);
        write_result(w, call, lane, static_cast<std::uint64_t>(written));
        break;
      }
      case Builtin::kAssert: assert_failed(w, call, lane); break;
      case Builtin::kMalloc: write_result(w, call, lane, w.launch().heap().allocate(read_argument(w, call.arguments[0], lane))); break;
      case Builtin::kSetConditional: {
        const auto& set = w.launch().launch().set_conditional;
        const std::uint64_t handle = read_argument(w, call.arguments[0], lane);
        const auto value = static_cast<std::uint32_t>(read_argument(w, call.arguments[1], lane));
        if (!set || !set(handle, value)) w.fault(Fault::kIllegalAddress);
        break;
      }
      default: {
        const std::uint64_t address = read_argument(w, call.arguments[0], lane);
        w.forget_range();
        if (address != 0 && !w.launch().heap().release(address)) w.fault(Fault::kIllegalAddress);
      }
    }
  });
  if (call.builtin == Builtin::kAssert) w.fault(Fault::kAssert);
}

}  // namespace avec::cpu::ptx
