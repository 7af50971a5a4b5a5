// Comparison and selection ("PTX ISA", 9.7.6 and 9.7.7).
#include <cmath>

#include "devices/cpu/ptx/float_math.h"
#include "devices/cpu/ptx/half.h"
#include "devices/cpu/ptx/lanes.h"

namespace avec::cpu::ptx {
namespace {

enum Comparison : std::uint8_t { kEq, kNe, kLt, kLe, kGt, kGe, kEqu, kNeu, kLtu, kLeu, kGtu, kGeu, kNum, kNan };

template <class T, class F>
Mask each(const T* a, const T* b, F&& f) {
  Mask result = 0;
  for (unsigned i = 0; i < kLanes; ++i) result |= Mask{f(a[i], b[i])} << i;
  return result;
}

template <class T>
Mask compare_lanes(std::uint8_t code, const T* a, const T* b) {
  const auto unordered = [&] { return each(a, b, [](T x, T y) { return x != x || y != y; }); };
  switch (code) {
    case kEq: return each(a, b, [](T x, T y) { return x == y; });
    case kNe: return each(a, b, [](T x, T y) { return x < y || x > y; });
    case kLt: return each(a, b, [](T x, T y) { return x < y; });
    case kLe: return each(a, b, [](T x, T y) { return x <= y; });
    case kGt: return each(a, b, [](T x, T y) { return x > y; });
    case kGe: return each(a, b, [](T x, T y) { return x >= y; });
    case kEqu: return each(a, b, [](T x, T y) { return x == y; }) | unordered();
    case kNeu: return each(a, b, [](T x, T y) { return x != y; });
    case kLtu: return each(a, b, [](T x, T y) { return !(x >= y); });
    case kLeu: return each(a, b, [](T x, T y) { return !(x > y); });
    case kGtu: return each(a, b, [](T x, T y) { return !(x <= y); });
    case kGeu: return each(a, b, [](T x, T y) { return !(x < y); });
    case kNum: return ~unordered();
    default: return unordered();
  }
}

struct HalfLanes {
  double low[kLanes], high[kLanes];
};

template <class H>
void widen_lanes(const Warp& w, Ref ref, bool pair, bool ftz, HalfLanes& out) {
  const u16* x = w.in<u16>(ref);
  const auto one = [&](u16 h) { return ftz && (h & H::kInfinity) == 0 ? 0.0 : H::widen(h); };
  for (unsigned i = 0; i < kLanes; ++i) {
    out.low[i] = one(pair ? x[2 * i] : x[i]);
    out.high[i] = pair ? one(x[2 * i + 1]) : 0;
  }
}

struct Compared {
  Mask low = 0, high = 0;
};

template <class H>
Compared compare_half(Warp& w, const Instruction& in, bool pair) {
  HalfLanes a, b;
  widen_lanes<H>(w, in.a, pair, in.flag2, a);
  widen_lanes<H>(w, in.b, pair, in.flag2, b);
  return {compare_lanes(in.code, a.low, b.low), pair ? compare_lanes(in.code, a.high, b.high) : 0};
}

Compared compare_flushed(Warp& w, const Instruction& in) {
  float a[kLanes], b[kLanes];
  for (unsigned i = 0; i < kLanes; ++i) {
    a[i] = flush<true>(w.in<float>(in.a)[i]);
    b[i] = flush<true>(w.in<float>(in.b)[i]);
  }
  return {compare_lanes(in.code, a, b), 0};
}

/// width holds the Type of the operands.
Compared compare_typed(Warp& w, const Instruction& in) {
  const auto plain = [&]<class T>(T) { return Compared{compare_lanes(in.code, w.in<T>(in.a), w.in<T>(in.b)), 0}; };
  switch (static_cast<Type>(in.width)) {
    case Type::kU16:
    case Type::kB16: return plain(u16{});
    case Type::kS16: return plain(s16{});
    case Type::kU32:
    case Type::kB32: return plain(u32{});
    case Type::kS32: return plain(s32{});
    case Type::kU64:
    case Type::kB64: return plain(u64{});
    case Type::kS64: return plain(s64{});
    case Type::kF32: return in.flag2 ? compare_flushed(w, in) : plain(float{});
    case Type::kF64: return plain(double{});
    case Type::kF16: return compare_half<Half>(w, in, false);
    case Type::kF16x2: return compare_half<Half>(w, in, true);
    case Type::kBf16: return compare_half<Bfloat>(w, in, false);
    default: return compare_half<Bfloat>(w, in, true);
  }
}

// mode: 0 none, 1 and, 2 or, 3 xor with predicate c (flag: negated).
Mask combine(Warp& w, const Instruction& in, Mask value) {
  if (in.mode == 0) return value;
  const Mask c = in.flag ? ~w.predicate(in.c) : w.predicate(in.c);
  return in.mode == 1 ? value & c : in.mode == 2 ? value | c : value ^ c;
}

void set_predicate(Warp& w, const Instruction& in, Mask mask) {
  const Compared compared = compare_typed(w, in);
  const bool pair = is_packed(static_cast<Type>(in.width));
  const Mask first = combine(w, in, compared.low);
  const Mask second = combine(w, in, pair ? compared.high : ~compared.low);
  w.set_predicate(in.d, first, mask);
  w.set_predicate(in.e, second, mask);
}

/// immediate: the value of true; bytes: width of the result, count: 2 for pairs.
void set_value(Warp& w, const Instruction& in, Mask mask) {
  const Compared compared = compare_typed(w, in);
  const Mask low = combine(w, in, compared.low);
  const Mask high = combine(w, in, compared.high);
  const auto one = static_cast<u32>(in.immediate);
  for_lanes(mask, [&](unsigned i) {
    const bool is_low = low >> i & 1, is_high = high >> i & 1;
    if (in.count == 2) {
      w.out<u16>(in.d)[2 * i] = static_cast<u16>(is_low ? one : 0);
      w.out<u16>(in.d)[2 * i + 1] = static_cast<u16>(is_high ? one : 0);
    } else if (in.bytes == 2) {
      w.out<u16>(in.d)[i] = static_cast<u16>(is_low ? one : 0);
    } else {
      w.out<u32>(in.d)[i] = is_low ? one : 0;
    }
  });
}

void decode_comparison(Decoder& d, Instruction& in) {
  const std::initializer_list<std::string_view> names = {
      "eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan", "lo", "ls", "hi", "hs"};
  int code = d.take_any(names);
  if (code < 0) d.mismatch();
  if (code >= 14) code = code - 14 + kLt;
  in.mode = static_cast<std::uint8_t>(d.take_any({"and", "or", "xor"}) + 1);
  in.flag2 = d.take("ftz");
  in.code = static_cast<std::uint8_t>(code);
}

void decode_sources(Decoder& d, Instruction& in, Type type) {
  // For integers and bits "not equal" has no NaN to mind; for floats ne is ordered.
  const unsigned bytes = bytes_of(type);
  if (bytes < 2 || bytes > 8 || !(is_integer(type) || is_float(type))) d.mismatch();
  in.width = static_cast<std::uint8_t>(type);
  d.finish_modifiers();
  d.need_operands(in.mode != 0 ? 4 : 3, in.mode != 0 ? 4 : 3);
  in.a = d.source(d.operand(1), type);
  in.b = d.source(d.operand(2), type);
  if (in.mode != 0) {
    in.c = d.predicate(d.operand(3));
    in.flag = d.operand(3).negated;
  }
}

void set_predicate_opcode(Decoder& d) {
  Instruction in;
  in.run = set_predicate;
  decode_comparison(d, in);
  decode_sources(d, in, d.need_type());
  const SyntaxOperand& result = d.operand(0);
  if (result.kind == OperandKind::kPair) {
    in.d = d.predicate_destination(result.items[0]);
    in.e = d.predicate_destination(result.items[1]);
  } else {
    in.d = d.predicate_destination(result);
  }
  d.emit(in);
}

void set_opcode(Decoder& d) {
  Instruction in;
  in.run = set_value;
  decode_comparison(d, in);
  const Type result = d.need_type(), type = d.need_type();
  decode_sources(d, in, type);
  in.bytes = static_cast<std::uint8_t>(bytes_of(result));
  in.count = is_packed(type) ? 2 : 1;
  if (in.bytes != 2 && in.bytes != 4) d.mismatch();
  if (in.count == 2 && in.bytes != 4) d.mismatch();
  switch (result) {
    case Type::kF32: in.immediate = 0x3F800000; break;
    case Type::kF16:
    case Type::kF16x2: in.immediate = Half::kOne; break;
    case Type::kBf16:
    case Type::kBf16x2: in.immediate = Bfloat::kOne; break;
    default: in.immediate = in.count == 2 ? 0xFFFF : 0xFFFFFFFF;
  }
  in.d = d.destination(d.operand(0), result);
  d.emit(in);
}

template <class T>
void select(Warp& w, const Instruction& in, Mask mask) {
  T* d = w.out<T>(in.d);
  const T *a = w.in<T>(in.a), *b = w.in<T>(in.b);
  const Mask c = in.flag ? ~w.predicate(in.c) : w.predicate(in.c);
  if (w.dense(mask)) {
    AVEC_EACH_LANE
    for (unsigned i = 0; i < kLanes; ++i) d[i] = c >> i & 1 ? a[i] : b[i];
  } else {
    for_lanes(mask, [&](unsigned i) { d[i] = c >> i & 1 ? a[i] : b[i]; });
  }
}

void select_opcode(Decoder& d) {
  const Type type = d.need_type();
  d.finish_modifiers();
  d.need_operands(4, 4);
  Instruction in;
  in.run = bytes_of(type) == 2 ? select<u16> : bytes_of(type) == 4 ? select<u32> : select<u64>;
  if (bytes_of(type) < 2 || bytes_of(type) > 8) d.mismatch();
  in.a = d.source(d.operand(1), type);
  in.b = d.source(d.operand(2), type);
  in.c = d.predicate(d.operand(3));
  in.flag = d.operand(3).negated;
  in.d = d.destination(d.operand(0), type);
  d.emit(in);
}

template <class T, class C>
void select_by_sign(Warp& w, const Instruction& in, Mask mask) {
  T* d = w.out<T>(in.d);
  const T *a = w.in<T>(in.a), *b = w.in<T>(in.b);
  const C* c = w.in<C>(in.c);
  for_lanes(mask, [&](unsigned i) {
    const bool subnormal_is_zero = in.flag2 && std::fabs(static_cast<float>(c[i])) < 0x1p-126f;
    d[i] = c[i] >= C{0} || subnormal_is_zero ? a[i] : b[i];
  });
}

void select_by_sign_opcode(Decoder& d) {
  Instruction in;
  const bool ftz = d.take("ftz");
  const Type type = d.need_type(), by = d.need_type();
  d.finish_modifiers();
  d.need_operands(4, 4);
  if (by != Type::kS32 && by != Type::kF32) d.mismatch();
  const bool f = by == Type::kF32;
  in.flag2 = ftz && f;
  switch (bytes_of(type)) {
    case 2: in.run = f ? select_by_sign<u16, float> : select_by_sign<u16, s32>; break;
    case 4: in.run = f ? select_by_sign<u32, float> : select_by_sign<u32, s32>; break;
    case 8: in.run = f ? select_by_sign<u64, float> : select_by_sign<u64, s32>; break;
    default: d.mismatch();
  }
  in.a = d.source(d.operand(1), type);
  in.b = d.source(d.operand(2), type);
  in.c = d.source(d.operand(3), by);
  in.d = d.destination(d.operand(0), type);
  d.emit(in);
}

}  // namespace

void add_compare_opcodes(Decoder::Table& t) {
  t["setp"] = set_predicate_opcode;
  t["set"] = set_opcode;
  t["selp"] = select_opcode;
  t["slct"] = select_by_sign_opcode;
}

}  // namespace avec::cpu::ptx
