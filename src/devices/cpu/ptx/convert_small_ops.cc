// cvt to and from pairs of 8-bit floats and tf32, and cvt.pack ("PTX ISA", 9.7.9.21).
#include <algorithm>
#include <cmath>

#include "devices/cpu/ptx/half.h"
#include "devices/cpu/ptx/lanes.h"
#include "devices/cpu/ptx/rounding.h"
#include "devices/cpu/ptx/tiny_float.h"

namespace avec::cpu::ptx {
namespace {

// flag: .relu
template <class F>
u16 narrow_pair(const Instruction& in, double high, double low) {
  const auto one = [&](double x) -> u16 { return F::round(in.flag && x <= 0 ? 0 : x); };
  return static_cast<u16>(one(high) << 8 | one(low));
}

/// Two f32: a to the upper byte.
template <class F>
void from_singles(Warp& w, const Instruction& in, Mask mask) {
  for_lanes(mask, [&](unsigned i) { w.out<u16>(in.d)[i] = narrow_pair<F>(in, w.in<float>(in.a)[i], w.in<float>(in.b)[i]); });
}

template <class F>
void from_halves(Warp& w, const Instruction& in, Mask mask) {
  for_lanes(mask, [&](unsigned i) {
    const u32 a = w.in<u32>(in.a)[i];
    w.out<u16>(in.d)[i] = narrow_pair<F>(in, Half::widen(static_cast<u16>(a >> 16)), Half::widen(static_cast<u16>(a)));
  });
}

template <class F>
void to_halves(Warp& w, const Instruction& in, Mask mask) {
  const auto one = [&](unsigned bits) -> u32 {
    const double x = F::widen(static_cast<std::uint8_t>(bits));
    return x != x ? Half::kNan : Half::round(in.flag && x <= 0 ? 0 : x);
  };
  for_lanes(mask, [&](unsigned i) {
    const u16 a = w.in<u16>(in.a)[i];
    w.out<u32>(in.d)[i] = one(a >> 8) << 16 | one(a & 0xFF);
  });
}

/// f32 to tf32, 10 bits of mantissa. mode: the rounding. flag: .relu; flag2: .satfinite.
void to_tf32(Warp& w, const Instruction& in, Mask mask) {
  for_lanes(mask, [&](unsigned i) {
    u32 a = w.in<u32>(in.a)[i];
    const bool negative = a >> 31 != 0;
    if ((a & 0x7FFFFFFF) > 0x7F800000) {
      w.out<u32>(in.d)[i] = 0x7FFFFFFF;
      return;
    }
    if (in.flag && negative) a = 0;
    if ((a & 0x7F800000) != 0x7F800000) {
      switch (static_cast<Rounding>(in.mode)) {
        case Rounding::kZero: break;
        case Rounding::kAway: a += 0x1000; break;
        default: a += 0xFFF + (a >> 13 & 1);
      }
      a &= ~u32{0x1FFF};
    }
    if (in.flag2 && (a & 0x7F800000) == 0x7F800000) a = (a & 0x80000000) | 0x7F7FE000;
    w.out<u32>(in.d)[i] = a;
  });
}

/// cvt.pack.sat: a and b of s32 side by side, above them what c has. width: bits of a part.
void pack_integers(Warp& w, const Instruction& in, Mask mask) {
  const unsigned width = in.width;
  const s64 least = in.is_signed ? -(s64{1} << (width - 1)) : 0, most = least + (s64{1} << width) - 1;
  for_lanes(mask, [&](unsigned i) {
    const auto part = [&](Ref ref) {
      return static_cast<u32>(std::clamp<s64>(w.in<s32>(ref)[i], least, most)) & static_cast<u32>((u64{1} << width) - 1);
    };
    const u64 above = in.c == kNoRef ? 0 : u64{w.in<u32>(in.c)[i]} << (2 * width);
    w.out<u32>(in.d)[i] = static_cast<u32>(above | part(in.a) << width | part(in.b));
  });
}

void pack_opcode(Decoder& d) {
  Instruction in;
  if (!d.take("sat")) d.mismatch();
  for (const auto& [name, bits, is_signed] : {std::tuple{"u16", 16, false}, {"s16", 16, true}, {"u8", 8, false}, {"s8", 8, true},
                                              {"u4", 4, false}, {"s4", 4, true}, {"u2", 2, false}, {"s2", 2, true}}) {
    if (in.width == 0 && d.take(name)) {
      in.width = static_cast<std::uint8_t>(bits);
      in.is_signed = is_signed;
    }
  }
  if (in.width == 0 || !d.take("s32")) d.mismatch();
  const bool three = d.take("b32");
  d.finish_modifiers();
  d.need_operands(three ? 4 : 3, three ? 4 : 3);
  in.run = pack_integers;
  in.a = d.source(d.operand(1), Type::kS32);
  in.b = d.source(d.operand(2), Type::kS32);
  if (three) in.c = d.source(d.operand(3), Type::kB32);
  in.d = d.destination(d.operand(0), Type::kB32);
  d.emit(in);
}

bool is_pair_of_bytes(Type type) { return type == Type::kE4m3x2 || type == Type::kE5m2x2; }

void emit_pair(Decoder& d, Type to, Type from, bool relu) {
  Instruction* in = nullptr;
  d.take("rn");
  const bool finite = d.take("satfinite");
  if (is_pair_of_bytes(from)) {
    if (to != Type::kF16x2) throw Unsupported{};
    in = &d.emit_plain(from == Type::kE4m3x2 ? to_halves<E4m3> : to_halves<E5m2>, Type::kB32, {Type::kB16});
  } else if (!finite) {
    d.mismatch();
  } else if (from == Type::kF32) {
    in = &d.emit_plain(to == Type::kE4m3x2 ? from_singles<E4m3> : from_singles<E5m2>, Type::kB16, {Type::kF32, Type::kF32});
  } else if (from == Type::kF16x2) {
    in = &d.emit_plain(to == Type::kE4m3x2 ? from_halves<E4m3> : from_halves<E5m2>, Type::kB16, {Type::kB32});
  } else {
    throw Unsupported{};
  }
  in->flag = relu;
}

}  // namespace

bool convert_small_floats(Decoder& d) {
  if (d.take("pack")) {
    pack_opcode(d);
    return true;
  }
  const Type to = d.peek_type();
  const bool to_pair = is_pair_of_bytes(to);
  const std::vector<std::string_view>& all = d.statement().modifiers;
  const bool from_pair = !all.empty() && is_pair_of_bytes(type_of(all.back()));
  if (!to_pair && !from_pair && to != Type::kTf32) return false;
  const bool relu = d.take("relu");
  d.need_type();
  const Type from = d.need_type();
  if (to_pair || from_pair) {
    emit_pair(d, to, from, relu);
    return true;
  }
  if (from != Type::kF32) d.mismatch();
  const Rounding rounding = d.take_rounding();
  const bool finite = d.take("satfinite");
  Instruction& in = d.emit_plain(to_tf32, Type::kB32, {Type::kB32});
  in.mode = static_cast<std::uint8_t>(rounding);
  in.flag = relu;
  in.flag2 = finite;
  return true;
}

}  // namespace avec::cpu::ptx
