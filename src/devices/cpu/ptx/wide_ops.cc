// Registers of 128 bits: they are moved, loaded, stored, exchanged and compared ("PTX ISA", 9.7.9
// and 9.7.13). Hosts differ in what they do with 16 bytes at once: a lock makes it one step.
#include <cstring>
#include <mutex>

#include "devices/cpu/ptx/block.h"
#include "devices/cpu/ptx/lanes.h"

namespace avec::cpu::ptx {
namespace {

std::mutex& memory_lock() {
  static std::mutex mutex;
  return mutex;
}

void pack(Warp& w, const Instruction& in, Mask mask) {
  for_lanes(mask, [&](unsigned i) { w.out<u128>(in.d)[i] = u128{w.in<u64>(in.b)[i]} << 64 | w.in<u64>(in.a)[i]; });
}

void unpack(Warp& w, const Instruction& in, Mask mask) {
  for_lanes(mask, [&](unsigned i) {
    const u128 value = w.in<u128>(in.a)[i];
    w.out<u64>(in.d)[i] = static_cast<u64>(value);
    w.out<u64>(in.e)[i] = static_cast<u64>(value >> 64);
  });
}

void copy(Warp& w, const Instruction& in, Mask mask) {
  for_lanes(mask, [&](unsigned i) { w.out<u128>(in.d)[i] = w.in<u128>(in.a)[i]; });
}

void load(Warp& w, const Instruction& in, Mask mask) {
  if (!w.resolve(in, mask, 16, false)) return;
  const std::lock_guard lock(memory_lock());
  for_lanes(mask, [&](unsigned i) { std::memcpy(w.out<u128>(in.d) + i, w.pointer(i), 16); });
}

void store(Warp& w, const Instruction& in, Mask mask) {
  if (!w.resolve(in, mask, 16, true)) return;
  const std::lock_guard lock(memory_lock());
  for_lanes(mask, [&](unsigned i) { std::memcpy(w.pointer(i), w.in<u128>(in.b) + i, 16); });
}

/// c: what to compare with first is b, then the new value is c.
void exchange(Warp& w, const Instruction& in, Mask mask) {
  if (!w.resolve(in, mask, 16, true)) return;
  const std::lock_guard lock(memory_lock());
  for_lanes(mask, [&](unsigned i) {
    u128 old;
    std::memcpy(&old, w.pointer(i), 16);
    const u128 b = w.in<u128>(in.b)[i];
    const u128 value = in.c == kNoRef ? b : old == b ? w.in<u128>(in.c)[i] : old;
    std::memcpy(w.pointer(i), &value, 16);
    if (in.d != kNoRef) w.out<u128>(in.d)[i] = old;
  });
}

}  // namespace

void move_wide(Decoder& d) {
  const bool packs = d.operand(1).kind == OperandKind::kVector;
  const bool unpacks = d.operand(0).kind == OperandKind::kVector;
  Instruction in;
  if (packs || unpacks) {
    const SyntaxOperand& parts = d.operand(packs ? 1 : 0);
    if (parts.items.size() != 2 || packs == unpacks) d.mismatch();
    in.run = packs ? pack : unpack;
    if (packs) {
      in.a = d.source(parts.items[0], Type::kB64);
      in.b = d.source(parts.items[1], Type::kB64);
      in.d = d.wide_register(d.operand(0));
    } else {
      in.a = d.wide_register(d.operand(1));
      in.d = d.destination(parts.items[0], Type::kB64);
      in.e = d.destination(parts.items[1], Type::kB64);
    }
  } else {
    in.run = copy;
    in.a = d.wide_register(d.operand(1));
    in.d = d.wide_register(d.operand(0));
  }
  d.emit(in);
}

void load_or_store_wide(Decoder& d, Instruction& in, bool is_load) {
  if (in.count != 1 || in.space == Space::kParameter) throw Unsupported{};
  d.address(in, d.operand(is_load ? 1 : 0));
  in.run = is_load ? load : store;
  (is_load ? in.d : in.b) = d.wide_register(d.operand(is_load ? 0 : 1));
  d.emit(in);
}

void exchange_wide(Decoder& d, Instruction& in, bool compares, std::size_t first) {
  in.run = exchange;
  in.b = d.wide_register(d.operand(first + 1));
  if (compares) in.c = d.wide_register(d.operand(first + 2));
  if (first != 0 && d.operand(0).kind != OperandKind::kSink) in.d = d.wide_register(d.operand(0));
  d.emit(in);
}

}  // namespace avec::cpu::ptx
