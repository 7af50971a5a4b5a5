// cvt ("PTX ISA", 9.7.9): every pair of types by way of 64-bit integers and f64.
#include <cmath>
#include <limits>

#include "devices/cpu/ptx/float_math.h"
#include "devices/cpu/ptx/half.h"
#include "devices/cpu/ptx/lanes.h"
#include "devices/cpu/ptx/rounding.h"

namespace avec::cpu::ptx {
namespace {

// An instruction: width and bytes are the source's and the result's Type, count the bytes of
// the result's register, mode the rounding, code 1 rounds to an integral value; flag .ftz,
// flag2 .sat, is_signed .relu. space is the source register's width in bytes.

u64 read_integer(const Warp& w, Ref ref, unsigned lane, Type type, unsigned width) {
  u64 value = width == 2 ? w.in<u16>(ref)[lane] : width == 4 ? w.in<u32>(ref)[lane] : w.in<u64>(ref)[lane];
  const unsigned unused = 64 - 8 * bytes_of(type);
  value <<= unused;
  return is_signed(type) ? static_cast<u64>(static_cast<s64>(value) >> unused) : value >> unused;
}

void write_bits(Warp& w, const Instruction& in, unsigned lane, u64 value) {
  if (in.count == 2) w.out<u16>(in.d)[lane] = static_cast<u16>(value);
  else if (in.count == 4) w.out<u32>(in.d)[lane] = static_cast<u32>(value);
  else w.out<u64>(in.d)[lane] = value;
}

double read_float(const Warp& w, Ref ref, unsigned lane, Type type, bool ftz) {
  switch (type) {
    case Type::kF16: return Half::widen(w.in<u16>(ref)[lane]);
    case Type::kBf16: return Bfloat::widen(w.in<u16>(ref)[lane]);
    case Type::kF64: return w.in<double>(ref)[lane];
    default: {
      const float value = w.in<float>(ref)[lane];
      return ftz ? flush<true>(value) : value;
    }
  }
}

double integral(double x, Rounding mode) {
  switch (mode) {
    case Rounding::kNearest: return std::nearbyint(x);
    case Rounding::kZero: return std::trunc(x);
    case Rounding::kDown: return std::floor(x);
    case Rounding::kUp: return std::ceil(x);
    default: return std::round(x);
  }
}

float to_f32(double x, Rounding mode) {
  if (mode == Rounding::kNearest || mode == Rounding::kNone || mode == Rounding::kAway) return static_cast<float>(x);
  const RoundingScope scope(mode);
  return pinned(static_cast<float>(pinned(x)));
}

u64 float_bits(double x, const Instruction& in) {
  const auto mode = static_cast<Rounding>(in.mode);
  if (in.flag2) x = saturated(x);
  if (in.is_signed && !(x > 0) && x == x) x = 0;
  switch (static_cast<Type>(in.bytes)) {
    case Type::kF16: return Half::round(x, mode);
    case Type::kBf16: return Bfloat::round(x, mode);
    case Type::kF64: return std::bit_cast<u64>(x);
    default: {
      const float value = canonical(to_f32(x, mode));
      return std::bit_cast<u32>(in.flag ? flush<true>(value) : value);
    }
  }
}

/// What the integers of `type` can hold; NaN becomes 0, but the top bit alone for 64 bits from
/// f32 and f64, as the hardware has it.
u64 to_integer(double x, Type type, Type from) {
  const unsigned bits = 8 * bytes_of(type);
  if (x != x) {
    if (bits == 64 && (from == Type::kF32 || from == Type::kF64)) return u64{1} << 63;
    if (bits == 32 && from == Type::kF64) return u64{1} << 31;
    return 0;
  }
  if (is_signed(type)) {
    const double limit = std::ldexp(1.0, static_cast<int>(bits) - 1);
    if (x >= limit) return (u64{1} << (bits - 1)) - 1;
    if (x < -limit) return u64{0} - (u64{1} << (bits - 1));
    return static_cast<u64>(static_cast<s64>(x));
  }
  const double limit = std::ldexp(1.0, static_cast<int>(bits));
  if (x >= limit) return bits == 64 ? ~u64{0} : (u64{1} << bits) - 1;
  return x <= 0 ? 0 : static_cast<u64>(x);
}

u64 clamp_integer(u64 value, Type from, Type to) {
  const unsigned bits = 8 * bytes_of(to);
  const bool negative = is_signed(from) && static_cast<s64>(value) < 0;
  if (is_signed(to)) {
    const u64 most = (u64{1} << (bits - 1)) - 1;
    if (negative) return static_cast<s64>(value) < -static_cast<s64>(most) - 1 ? ~most : value;
    return std::min(value, most);
  }
  if (negative) return 0;
  return bits == 64 ? value : std::min(value, (u64{1} << bits) - 1);
}

/// Integers narrower than their register fill it, with their sign where they have one.
u64 extended(u64 value, Type type) {
  const unsigned unused = 64 - 8 * bytes_of(type);
  value <<= unused;
  return is_signed(type) ? static_cast<u64>(static_cast<s64>(value) >> unused) : value >> unused;
}

void integer_to_integer(Warp& w, const Instruction& in, Mask mask) {
  const auto from = static_cast<Type>(in.width), to = static_cast<Type>(in.bytes);
  for_lanes(mask, [&](unsigned i) {
    u64 value = read_integer(w, in.a, i, from, static_cast<unsigned>(in.space));
    if (in.flag2) value = clamp_integer(value, from, to);
    write_bits(w, in, i, extended(value, to));
  });
}

/// An integer as f64, its last bit odd when inexact, so that rounding again is right.
double to_odd(u64 value, bool negative) {
  const u64 magnitude = negative ? 0 - value : value;
  const int excess = 11 - std::countl_zero(magnitude);
  if (excess <= 0) return negative ? -static_cast<double>(magnitude) : static_cast<double>(magnitude);
  u64 kept = magnitude >> excess;
  if (kept << excess != magnitude) kept |= 1;
  const double x = std::ldexp(static_cast<double>(kept), excess);
  return negative ? -x : x;
}

void integer_to_float(Warp& w, const Instruction& in, Mask mask) {
  const auto from = static_cast<Type>(in.width), to = static_cast<Type>(in.bytes);
  const auto mode = static_cast<Rounding>(in.mode);
  for_lanes(mask, [&](unsigned i) {
    const u64 value = read_integer(w, in.a, i, from, static_cast<unsigned>(in.space));
    const bool negative = is_signed(from) && static_cast<s64>(value) < 0;
    if (to != Type::kF64) {
      write_bits(w, in, i, float_bits(to_odd(value, negative), in));
      return;
    }
    const RoundingScope scope(mode == Rounding::kNone ? Rounding::kNearest : mode);
    const u64 bits = pinned(value);
    const double x = pinned(negative ? static_cast<double>(static_cast<s64>(bits)) : static_cast<double>(bits));
    write_bits(w, in, i, std::bit_cast<u64>(x));
  });
}

void float_to_integer(Warp& w, const Instruction& in, Mask mask) {
  const auto from = static_cast<Type>(in.width), to = static_cast<Type>(in.bytes);
  for_lanes(mask, [&](unsigned i) {
    const double x = integral(read_float(w, in.a, i, from, in.flag), static_cast<Rounding>(in.mode));
    write_bits(w, in, i, extended(to_integer(x, to, from), to));
  });
}

void float_to_float(Warp& w, const Instruction& in, Mask mask) {
  const auto from = static_cast<Type>(in.width);
  Instruction exact = in;
  if (in.code) exact.mode = static_cast<std::uint8_t>(Rounding::kNearest);
  for_lanes(mask, [&](unsigned i) {
    double x = read_float(w, in.a, i, from, in.flag);
    if (in.code) x = integral(x, static_cast<Rounding>(in.mode));
    write_bits(w, in, i, float_bits(x, exact));
  });
}

/// Two f32 into one register: a to the upper half.
template <class H>
void pack(Warp& w, const Instruction& in, Mask mask) {
  u32* d = w.out<u32>(in.d);
  const auto one = [&](float x) -> u32 {
    if (in.is_signed && !(x > 0) && x == x) x = 0;
    if (in.flag2) x = saturated(x);
    return H::round(x, static_cast<Rounding>(in.mode));
  };
  for_lanes(mask, [&](unsigned i) { d[i] = one(w.in<float>(in.a)[i]) << 16 | one(w.in<float>(in.b)[i]); });
}

void convert_pack(Decoder& d, Instruction& in, Type to) {
  d.finish_modifiers();
  d.need_operands(3, 3);
  if (to != Type::kF16x2 && to != Type::kBf16x2) throw Unsupported{};
  in.run = to == Type::kF16x2 ? pack<Half> : pack<Bfloat>;
  in.a = d.source(d.operand(1), Type::kF32);
  in.b = d.source(d.operand(2), Type::kF32);
  in.d = d.destination(d.operand(0), Type::kB32);
  d.emit(in);
}

void convert(Decoder& d) {
  if (convert_small_floats(d)) return;
  Instruction in;
  const int to_integral = d.take_any({"rni", "rzi", "rmi", "rpi"});
  Rounding rounding = to_integral >= 0 ? static_cast<Rounding>(to_integral) : d.take_rounding();
  in.flag = d.take("ftz");
  in.flag2 = d.take("sat");
  in.is_signed = d.take("relu");
  if (d.take("satfinite") || d.take("rs") || d.take("scaled::n2::ue8m0") || d.take("pack")) throw Unsupported{};
  const Type to = d.need_type();
  const Type from = d.need_type();
  in.code = to_integral >= 0;
  in.mode = static_cast<std::uint8_t>(rounding);
  if (is_packed(to)) return from == Type::kF32 ? convert_pack(d, in, to) : throw Unsupported{};
  if (is_packed(from) || bytes_of(to) > 8 || bytes_of(from) > 8 || from == Type::kPred || to == Type::kPred) {
    d.mismatch();
  }
  if (is_float(from) && is_integer(to) && rounding == Rounding::kNone) in.mode = static_cast<std::uint8_t>(Rounding::kZero);
  // float to float of the same type without .rXi keeps the value.
  in.run = is_float(from) ? (is_float(to) ? float_to_float : float_to_integer)
                          : (is_float(to) ? integer_to_float : integer_to_integer);
  d.finish_modifiers();
  d.need_operands(2, 2);
  const int source_width = d.width_of(d.operand(1));
  const unsigned width = source_width > 0 ? static_cast<unsigned>(source_width) : register_bytes(bytes_of(from));
  if (width < bytes_of(from) || (is_float(from) && width != bytes_of(from))) d.mismatch();
  in.a = d.source(d.operand(1), from, width);
  in.space = static_cast<Space>(width);
  const int result_width = d.width_of(d.operand(0));
  if (result_width <= 0 || static_cast<unsigned>(result_width) < bytes_of(to)) d.mismatch();
  in.count = static_cast<std::uint8_t>(result_width);
  in.d = d.destination(d.operand(0), result_width == 2 ? Type::kB16 : result_width == 4 ? Type::kB32 : Type::kB64);
  in.width = static_cast<std::uint8_t>(from);
  in.bytes = static_cast<std::uint8_t>(to);
  d.emit(in);
}

}  // namespace

void add_convert_opcodes(Decoder::Table& t) { t["cvt"] = convert; }

}  // namespace avec::cpu::ptx
