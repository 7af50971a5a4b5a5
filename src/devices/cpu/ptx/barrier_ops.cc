// mbarrier ("PTX ISA", 9.7.14.15): barriers that are objects in shared memory. All warps of a
// block run on one thread, so their 64 bits are read and written as they are.
#include "devices/cpu/ptx/barrier_object.h"
#include "devices/cpu/ptx/lanes.h"

namespace avec::cpu::ptx {
namespace {

/// The opaque object: the parity of its phase, the arrivals that a phase takes, those that are
/// missing, and the bytes that are missing (they can be negative on the way).
struct Barrier {
  static constexpr unsigned kCountBits = 20;
  static constexpr u64 kCountMask = (u64{1} << kCountBits) - 1;
  static constexpr unsigned kBytesBits = 23;
  static constexpr unsigned kParityShift = 63;

  explicit Barrier(u64 bits)
      : parity(bits >> kParityShift),
        expected(bits & kCountMask),
        missing(bits >> kCountBits & kCountMask),
        bytes(static_cast<s64>(bits << 1) >> (64 - kBytesBits)) {}
  u64 bits() const {
    const u64 low = static_cast<u64>(bytes) & ((u64{1} << kBytesBits) - 1);
    return parity << kParityShift | low << (2 * kCountBits) | missing << kCountBits | expected;
  }
  void arrive(u64 count) { missing = missing < count ? 0 : missing - count; }
  void complete_when_done() {
    if (missing != 0 || bytes != 0) return;
    parity ^= 1;
    missing = expected;
  }

  u64 parity, expected, missing;
  s64 bytes;
};

enum Action : std::uint8_t { kInit, kInvalidate, kArrive, kArriveDrop, kExpectBytes, kCompleteBytes };

/// code: the action. b: its count or bytes. c: bytes that an arrival expects too. d: the state
/// before the action.
void change(Warp& w, const Instruction& in, Mask mask) {
  if (!w.resolve(in, mask, sizeof(u64), true)) return;
  for_lanes(mask, [&](unsigned i) {
    const u32 count = in.b == kNoRef ? 1 : w.in<u32>(in.b)[i];
    auto* at = reinterpret_cast<u64*>(w.pointer(i));
    Barrier barrier(in.code == kInit || in.code == kInvalidate ? 0 : *at);
    if (in.d != kNoRef) w.out<u64>(in.d)[i] = barrier.bits();
    if (in.c != kNoRef) barrier.bytes += w.in<u32>(in.c)[i];
    switch (in.code) {
      case kInit: barrier.expected = barrier.missing = count & Barrier::kCountMask; break;
      case kInvalidate: break;
      case kArriveDrop: barrier.expected -= std::min<u64>(count, barrier.expected); [[fallthrough]];
      case kArrive: barrier.arrive(count); break;
      case kExpectBytes: barrier.bytes += count; break;
      default: barrier.bytes -= count;
    }
    if (in.code >= kArrive && in.code != kExpectBytes) barrier.complete_when_done();
    *at = barrier.bits();
  });
}

/// d: whether the phase of the state in b (flag: of the parity in c) is over.
void test(Warp& w, const Instruction& in, Mask mask) {
  if (!w.resolve(in, mask, sizeof(u64), false)) return;
  Mask over = 0;
  for_lanes(mask, [&](unsigned i) {
    const u64 parity = in.flag ? w.in<u32>(in.c)[i] & 1 : w.in<u64>(in.b)[i] >> Barrier::kParityShift;
    if (Barrier(*reinterpret_cast<u64*>(w.pointer(i))).parity != parity) over |= Mask{1} << i;
  });
  w.set_predicate(in.d, over, mask);
}

void pending_count(Warp& w, const Instruction& in, Mask mask) {
  for_lanes(mask, [&](unsigned i) {
    w.out<u32>(in.d)[i] = static_cast<u32>(Barrier(w.in<u64>(in.a)[i]).missing);
  });
}

void place(Decoder& d, Instruction& in, std::size_t operand) {
  in.space = d.take_space(Space::kGeneric);
  if (in.space != Space::kGeneric && in.space != Space::kShared) d.mismatch();
  for (const std::string_view hint : {"shared", "acquire", "release", "relaxed", "cta", "cluster", "b64"}) d.take(hint);
  d.finish_modifiers();
  in.bytes = sizeof(u64);
  d.address(in, d.operand(operand));
}

void decode_change(Decoder& d, Action action) {
  Instruction in;
  in.run = change;
  in.code = action;
  const bool expects = (action == kArrive || action == kArriveDrop) && d.take("expect_tx");
  d.take("noComplete");
  const bool returns = action == kArrive || action == kArriveDrop;
  // An arrival at the barrier of another block of the cluster gives no state.
  const std::size_t first = returns && d.operand(0).kind != OperandKind::kAddress ? 1 : 0;
  place(d, in, first);
  d.need_operands(first + 1, first + 2);
  if (d.operand_count() > first + 1) {
    (expects ? in.c : in.b) = d.source(d.operand(first + 1), Type::kU32);
  }
  if (first == 1 && d.operand(0).kind != OperandKind::kSink) in.d = d.destination(d.operand(0), Type::kB64);
  d.emit(in);
}

void decode_test(Decoder& d) {
  Instruction in;
  in.run = test;
  in.flag = d.take("parity");
  place(d, in, 1);
  d.need_operands(3, 4);  // the fourth: for how long to wait, a hint
  if (in.flag) in.c = d.source(d.operand(2), Type::kU32);
  else in.b = d.source(d.operand(2), Type::kB64);
  in.d = d.predicate_destination(d.operand(0));
  d.emit(in);
  // Who waits in a loop lets the others run.
  Instruction pause;
  pause.control = Control::kYield;
  d.emit(pause);
}

void decode(Decoder& d) {
  if (d.take("test_wait") || d.take("try_wait")) return decode_test(d);
  if (d.take("init")) return decode_change(d, kInit);
  if (d.take("inval")) return decode_change(d, kInvalidate);
  if (d.take("arrive_drop")) return decode_change(d, kArriveDrop);
  if (d.take("arrive")) return decode_change(d, kArrive);
  if (d.take("complete_tx")) return decode_change(d, kCompleteBytes);
  if (d.take("expect_tx")) return decode_change(d, kExpectBytes);
  if (!d.take("pending_count")) throw Unsupported{};
  d.take("b64");
  d.finish_modifiers();
  d.need_operands(2, 2);
  d.emit(pending_count, d.destination(d.operand(0), Type::kU32), d.source(d.operand(1), Type::kB64));
}

}  // namespace

void complete_bytes(std::byte* barrier, std::uint64_t bytes) {
  u64 bits;
  std::memcpy(&bits, barrier, sizeof bits);
  Barrier changed(bits);
  changed.bytes -= static_cast<s64>(bytes);
  changed.complete_when_done();
  bits = changed.bits();
  std::memcpy(barrier, &bits, sizeof bits);
}

void copies_arrive_opcode(Decoder& d) {
  d.take("arrive");
  // Copies are done at once: without noinc the arrival meets the increment that it makes.
  const bool counted = d.take("noinc");
  Instruction in;
  in.run = change;
  in.code = kArrive;
  place(d, in, 0);
  d.need_operands(1, 1);
  if (counted) d.emit(in);
}

void add_barrier_opcodes(Decoder::Table& t) { t["mbarrier"] = decode; }

}  // namespace avec::cpu::ptx
