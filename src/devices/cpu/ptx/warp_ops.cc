// What lanes of a warp do together ("PTX ISA", 9.7.9 and 9.7.13).
#include <algorithm>

#include "devices/cpu/ptx/lanes.h"

namespace avec::cpu::ptx {
namespace {

/// code: 0 up, 1 down, 2 bfly, 3 idx. b: lane operand, c: clamp and segment mask, e: predicate.
void shuffle(Warp& w, const Instruction& in, Mask mask) {
  u32 from[kLanes];
  std::copy_n(w.in<u32>(in.a), kLanes, from);
  u32* d = w.out<u32>(in.d);
  const u32 *b = w.in<u32>(in.b), *c = w.in<u32>(in.c);
  Mask valid = 0;
  for_lanes(mask, [&](unsigned lane) {
    const s32 offset = static_cast<s32>(b[lane] & 31), clamp = static_cast<s32>(c[lane] & 31);
    const s32 segment = static_cast<s32>(c[lane] >> 8 & 31), me = static_cast<s32>(lane);
    const s32 most = (me & segment) | (clamp & ~segment), least = me & segment;
    s32 source = 0;
    bool is_valid = false;
    switch (in.code) {
      case 0: source = me - offset; is_valid = source >= most; break;
      case 1: source = me + offset; is_valid = source <= most; break;
      case 2: source = me ^ offset; is_valid = source <= most; break;
      default: source = least | (offset & ~segment); is_valid = source <= most;
    }
    if (!is_valid) source = me;
    d[lane] = from[source & 31];
    valid |= Mask{is_valid} << lane;
  });
  w.set_predicate(in.e, valid, mask);
}

/// code: 0 all, 1 any, 2 uni, 3 ballot.
void vote(Warp& w, const Instruction& in, Mask mask) {
  const Mask votes = (in.flag ? ~w.predicate(in.a) : w.predicate(in.a)) & mask;
  if (in.code == 3) {
    for_lanes(mask, [&](unsigned i) { w.out<u32>(in.d)[i] = votes; });
    return;
  }
  const bool result = in.code == 0 ? votes == mask : in.code == 1 ? votes != 0 : votes == mask || votes == 0;
  w.set_predicate(in.d, result ? kAllLanes : 0, mask);
}

/// code: 0 any, 1 all. e: predicate of all.
template <class T>
void match(Warp& w, const Instruction& in, Mask mask) {
  T a[kLanes];
  std::copy_n(w.in<T>(in.a), kLanes, a);
  Mask all = 0;
  for_lanes(mask, [&](unsigned lane) {
    Mask same = 0;
    for_lanes(mask, [&](unsigned i) { same |= Mask{a[i] == a[lane]} << i; });
    if (in.code == 1 && same != mask) same = 0;
    if (same != 0) all |= Mask{1} << lane;
    if (in.d != kNoRef) w.out<u32>(in.d)[lane] = same;
  });
  w.set_predicate(in.e, all, mask);
}

/// code: add min max and or xor.
template <class T>
void reduce(Warp& w, const Instruction& in, Mask mask) {
  const T* a = w.in<T>(in.a);
  const auto first = static_cast<unsigned>(std::countr_zero(mask));
  T result = a[first];
  for_lanes(mask & ~(Mask{1} << first), [&](unsigned i) {
    const T b = a[i];
    switch (in.code) {
      case 0: result = static_cast<T>(static_cast<u32>(result) + static_cast<u32>(b)); break;
      case 1: result = std::min(result, b); break;
      case 2: result = std::max(result, b); break;
      case 3: result &= b; break;
      case 4: result |= b; break;
      default: result ^= b;
    }
  });
  for_lanes(mask, [&](unsigned i) { w.out<T>(in.d)[i] = result; });
}

void elect(Warp& w, const Instruction& in, Mask mask) {
  const auto leader = static_cast<u32>(std::countr_zero(mask));
  if (in.d != kNoRef) for_lanes(mask, [&](unsigned i) { w.out<u32>(in.d)[i] = leader; });
  w.set_predicate(in.e, Mask{1} << leader, mask);
}

void active_mask(Warp& w, const Instruction& in, Mask mask) {
  for_lanes(mask, [&](unsigned i) { w.out<u32>(in.d)[i] = mask; });
}

void emit_sync(Decoder& d, Instruction& in, const SyntaxOperand& members) {
  in.control = Control::kSync;
  in.x = d.source(members, Type::kB32);
  d.emit(in);
}

void shuffle_opcode(Decoder& d) {
  Instruction in;
  const bool sync = d.take("sync");
  const int code = d.take_any({"up", "down", "bfly", "idx"});
  if (code < 0 || d.need_type() != Type::kB32) d.mismatch();
  d.finish_modifiers();
  d.need_operands(sync ? 5 : 4, sync ? 5 : 4);
  in.run = shuffle;
  in.code = static_cast<std::uint8_t>(code);
  in.a = d.source(d.operand(1), Type::kB32);
  in.b = d.source(d.operand(2), Type::kB32);
  in.c = d.source(d.operand(3), Type::kB32);
  const SyntaxOperand* result = &d.operand(0);
  if (result->kind == OperandKind::kPair) {
    in.e = d.predicate_destination(result->items[1]);
    result = &result->items[0];
  }
  in.d = d.destination(*result, Type::kB32);
  if (sync) emit_sync(d, in, d.operand(4));
  else d.emit(in);
}

void vote_opcode(Decoder& d) {
  Instruction in;
  const bool sync = d.take("sync");
  const int code = d.take_any({"all", "any", "uni", "ballot"});
  const Type type = d.need_type();
  if (code < 0 || type != (code == 3 ? Type::kB32 : Type::kPred)) d.mismatch();
  d.finish_modifiers();
  d.need_operands(sync ? 3 : 2, sync ? 3 : 2);
  in.run = vote;
  in.code = static_cast<std::uint8_t>(code);
  const SyntaxOperand& from = d.operand(1);
  in.flag = from.negated;
  if (from.kind == OperandKind::kInteger) {
    in.flag = false;  // a constant predicate: compare it with zero lane by lane
    Instruction set;
    set.run = [](Warp& w, const Instruction& i, Mask mask) { w.set_predicate(i.d, i.immediate != 0 ? kAllLanes : 0, mask); };
    set.immediate = from.bits != 0;
    set.d = in.a = d.temporary(2);
    d.emit(set);
  } else {
    in.a = d.predicate(from);
  }
  in.d = code == 3 ? d.destination(d.operand(0), Type::kB32) : d.predicate_destination(d.operand(0));
  if (sync) emit_sync(d, in, d.operand(2));
  else d.emit(in);
}

void match_opcode(Decoder& d) {
  Instruction in;
  const int code = d.take_any({"any", "all"});
  if (code < 0 || !d.take("sync")) d.mismatch();
  const Type type = d.need_type();
  if (type != Type::kB32 && type != Type::kB64) d.mismatch();
  d.finish_modifiers();
  d.need_operands(3, 3);
  in.run = type == Type::kB32 ? match<u32> : match<u64>;
  in.code = static_cast<std::uint8_t>(code);
  in.a = d.source(d.operand(1), type);
  const SyntaxOperand* result = &d.operand(0);
  if (result->kind == OperandKind::kPair) {
    in.e = d.predicate_destination(result->items[1]);
    result = &result->items[0];
  }
  if (result->kind != OperandKind::kSink) in.d = d.destination(*result, Type::kB32);
  emit_sync(d, in, d.operand(2));
}

void reduce_opcode(Decoder& d) {
  Instruction in;
  if (!d.take("sync")) d.mismatch();
  const int code = d.take_any({"add", "min", "max", "and", "or", "xor"});
  const Type type = d.need_type();
  if (type == Type::kF32) throw Unsupported{};
  if (code < 0 || bytes_of(type) != 4) d.mismatch();
  d.finish_modifiers();
  d.need_operands(3, 3);
  in.run = type == Type::kS32 ? reduce<s32> : reduce<u32>;
  in.code = static_cast<std::uint8_t>(code);
  in.a = d.source(d.operand(1), type);
  in.d = d.destination(d.operand(0), type);
  emit_sync(d, in, d.operand(2));
}

void elect_opcode(Decoder& d) {
  Instruction in;
  if (!d.take("sync")) d.mismatch();
  d.finish_modifiers();
  d.need_operands(2, 2);
  in.run = elect;
  const SyntaxOperand& result = d.operand(0);
  if (result.kind != OperandKind::kPair) d.mismatch();
  if (result.items[0].kind != OperandKind::kSink) in.d = d.destination(result.items[0], Type::kB32);
  in.e = d.predicate_destination(result.items[1]);
  emit_sync(d, in, d.operand(1));
}

}  // namespace

void add_warp_opcodes(Decoder::Table& t) {
  t["shfl"] = shuffle_opcode;
  t["vote"] = vote_opcode;
  t["match"] = match_opcode;
  t["redux"] = reduce_opcode;
  t["elect"] = elect_opcode;
  t["activemask"] = [](Decoder& d) {
    if (d.need_type() != Type::kB32) d.mismatch();
    d.finish_modifiers();
    d.need_operands(1, 1);
    Instruction in;
    in.run = active_mask;
    in.d = d.destination(d.operand(0), Type::kB32);
    d.emit(in);
  };
}

}  // namespace avec::cpu::ptx
