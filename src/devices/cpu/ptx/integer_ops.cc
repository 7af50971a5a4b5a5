// Integer arithmetic ("PTX ISA", 9.7.1 and 9.7.2).
#include <algorithm>
#include <limits>
#include <type_traits>

#include "devices/cpu/ptx/lanes.h"

namespace avec::cpu::ptx {
namespace {

template <class T>
using Unsigned = std::make_unsigned_t<T>;
template <class T>
using Twice = std::conditional_t<
    sizeof(T) == 2, std::conditional_t<std::is_signed_v<T>, s32, u32>,
    std::conditional_t<sizeof(T) == 4, std::conditional_t<std::is_signed_v<T>, s64, u64>,
                       std::conditional_t<std::is_signed_v<T>, s128, u128>>>;

// 64-bit arithmetic of unsigned values cut to T never overflows in C++'s sense.
template <class T>
struct Add {
  static T f(T a, T b) { return static_cast<T>(static_cast<u64>(a) + static_cast<u64>(b)); }
};
template <class T>
struct Subtract {
  static T f(T a, T b) { return static_cast<T>(static_cast<u64>(a) - static_cast<u64>(b)); }
};
template <class T>
struct MultiplyLow {
  static T f(T a, T b) { return static_cast<T>(static_cast<u64>(a) * static_cast<u64>(b)); }
};
template <class T>
struct MultiplyHigh {
  static T f(T a, T b) { return static_cast<T>((Twice<T>{a} * Twice<T>{b}) >> (8 * sizeof(T))); }
};
template <class T>
struct MultiplyAddLow {
  static T f(T a, T b, T c) {
    return static_cast<T>(static_cast<u64>(a) * static_cast<u64>(b) + static_cast<u64>(c));
  }
};
template <class T>
struct MultiplyAddHigh {
  static T f(T a, T b, T c) { return Add<T>::f(MultiplyHigh<T>::f(a, b), c); }
};
template <class T>
struct MultiplyWide {
  static Twice<T> f(T a, T b) { return Twice<T>{a} * Twice<T>{b}; }
};
template <class T>
struct MultiplyAddWide {
  static Twice<T> f(T a, T b, Twice<T> c) { return Add<Twice<T>>::f(Twice<T>{a} * Twice<T>{b}, c); }
};
s32 saturate(s64 v) {
  return static_cast<s32>(std::clamp<s64>(v, std::numeric_limits<s32>::min(), std::numeric_limits<s32>::max()));
}
struct AddSaturated {
  static s32 f(s32 a, s32 b) { return saturate(s64{a} + b); }
};
struct SubtractSaturated {
  static s32 f(s32 a, s32 b) { return saturate(s64{a} - b); }
};
struct MultiplyAddHighSaturated {
  static s32 f(s32 a, s32 b, s32 c) { return saturate(s64{MultiplyHigh<s32>::f(a, b)} + c); }
};
template <class T>
s64 low24(T v) {
  return std::is_signed_v<T> ? s64{static_cast<s32>(static_cast<u32>(v) << 8) >> 8} : s64{static_cast<u32>(v) & 0xFFFFFF};
}
template <class T>
struct Multiply24Low {
  static T f(T a, T b) { return static_cast<T>(low24(a) * low24(b)); }
};
template <class T>
struct Multiply24High {
  static T f(T a, T b) { return static_cast<T>((low24(a) * low24(b)) >> 16); }
};
template <class T>
struct MultiplyAdd24Low {
  static T f(T a, T b, T c) { return Add<T>::f(Multiply24Low<T>::f(a, b), c); }
};
template <class T>
struct MultiplyAdd24High {
  static T f(T a, T b, T c) { return Add<T>::f(Multiply24High<T>::f(a, b), c); }
};
/// By zero: all ones, as the hardware's routine gives.
template <class T>
struct Divide {
  static T f(T a, T b) {
    if (b == 0) return static_cast<T>(~T{0});
    if constexpr (std::is_signed_v<T>) {
      if (b == -1) return Subtract<T>::f(0, a);
    }
    return static_cast<T>(a / b);
  }
};
template <class T>
struct Remainder {
  static T f(T a, T b) {
    if (b == 0) return a;
    if constexpr (std::is_signed_v<T>) {
      if (b == -1) return 0;
    }
    return static_cast<T>(a % b);
  }
};
template <class T>
struct Minimum {
  static T f(T a, T b) { return a < b ? a : b; }
};
template <class T>
struct Maximum {
  static T f(T a, T b) { return a > b ? a : b; }
};
template <class T>
struct MinimumRelu {
  static T f(T a, T b) { return std::max<T>(std::min(a, b), 0); }
};
template <class T>
struct MaximumRelu {
  static T f(T a, T b) { return std::max<T>(std::max(a, b), 0); }
};
template <class T>
struct Absolute {
  static T f(T a) {
    if constexpr (std::is_signed_v<T>) return a < 0 ? Subtract<T>::f(0, a) : a;
    return a;
  }
};
template <class T>
struct Negate {
  static T f(T a) { return Subtract<T>::f(0, a); }
};
template <class T>
struct SumOfDifference {
  static T f(T a, T b, T c) { return Add<T>::f(c, a < b ? Subtract<T>::f(b, a) : Subtract<T>::f(a, b)); }
};
/// Two 16-bit values in one register.
template <class T, template <class> class F>
struct Pair {
  static u32 f(u32 a, u32 b) {
    const auto low = F<T>::f(static_cast<T>(a), static_cast<T>(b));
    const auto high = F<T>::f(static_cast<T>(a >> 16), static_cast<T>(b >> 16));
    return static_cast<u16>(low) | static_cast<u32>(static_cast<u16>(high)) << 16;
  }
};
template <template <class> class F>
Handler pair_binary(Type type) {
  if (type == Type::kU16x2) return binary<Pair<u16, F>, u32, u32, u32>;
  if (type == Type::kS16x2) return binary<Pair<s16, F>, u32, u32, u32>;
  return nullptr;
}

// Extended precision: x is the carry register, flag says it is written, flag2 that it is read;
// code 0 adds, 1 subtracts, 2 and 3 add the low or high half of a product. A subtraction adds the
// complement, so its carry is set when nothing was borrowed: nvcc's division of 128 bits reads it with addc.
template <class T>
void carry_chain(Warp& w, const Instruction& in, Mask mask) {
  using U = Unsigned<T>;
  U* d = w.out<U>(in.d);
  const T* a = w.in<T>(in.a);
  const T* b = w.in<T>(in.b);
  const U* c = in.code >= 2 ? w.in<U>(in.c) : nullptr;
  const Mask carry = in.flag2 ? w.predicate(in.x) : 0;
  Mask carried = 0;
  for_lanes(mask, [&](unsigned i) {
    const u32 in_bit = carry >> i & 1;
    U left = static_cast<U>(a[i]), right = static_cast<U>(b[i]);
    if (in.code >= 2) {
      left = static_cast<U>(in.code == 2 ? MultiplyLow<T>::f(a[i], b[i]) : MultiplyHigh<T>::f(a[i], b[i]));
      right = c[i];
    }
    if (in.code == 1) right = static_cast<U>(~right);
    const u128 wide = u128{left} + right + (in.code == 1 && !in.flag2 ? 1 : in_bit);
    d[i] = static_cast<U>(wide);
    carried |= static_cast<Mask>(wide >> (8 * sizeof(T)) & 1) << i;
  });
  if (in.flag) w.set_predicate(in.x, carried, mask);
}

Handler carry_handler(Decoder& d, Type type) {
  switch (type) {
    case Type::kU32:
    case Type::kB32: return carry_chain<u32>;
    case Type::kS32: return carry_chain<s32>;
    case Type::kU64:
    case Type::kB64: return carry_chain<u64>;
    case Type::kS64: return carry_chain<s64>;
    default: d.mismatch();
  }
}

void emit_carry(Decoder& d, Type type, bool reads, bool writes, std::uint8_t code) {
  d.finish_modifiers();
  d.need_operands(code >= 2 ? 4 : 3, code >= 2 ? 4 : 3);
  Instruction in;
  in.run = carry_handler(d, type);
  in.a = d.source(d.operand(1), type);
  in.b = d.source(d.operand(2), type);
  if (code >= 2) in.c = d.source(d.operand(3), type);
  in.d = d.destination(d.operand(0), type);
  in.x = d.carry();
  in.flag = writes;
  in.flag2 = reads;
  in.code = code;
  d.emit(in);
}

void add_or_subtract(Decoder& d, bool subtract) {
  const Type type = d.need_type();
  if (d.take("cc")) return emit_carry(d, type, false, true, subtract);
  if (d.take("sat")) {
    if (type != Type::kS32) d.mismatch();
    d.emit_plain(subtract ? binary<SubtractSaturated, s32, s32, s32> : binary<AddSaturated, s32, s32, s32>, type, {type, type});
    return;
  }
  Handler run = subtract ? integer_binary<Subtract>(type) : integer_binary<Add>(type);
  if (run == nullptr) run = subtract ? pair_binary<Subtract>(type) : pair_binary<Add>(type);
  d.emit_plain(run, type, {type, type});
}

Type twice(Type type) {
  switch (type) {
    case Type::kU16: return Type::kU32;
    case Type::kS16: return Type::kS32;
    case Type::kU32: return Type::kU64;
    case Type::kS32: return Type::kS64;
    default: return Type::kNone;
  }
}

Handler wide(Type type, bool add) {
  switch (type) {
    case Type::kU16: return add ? ternary<MultiplyAddWide<u16>, u32, u16, u16, u32> : binary<MultiplyWide<u16>, u32, u16, u16>;
    case Type::kS16: return add ? ternary<MultiplyAddWide<s16>, s32, s16, s16, s32> : binary<MultiplyWide<s16>, s32, s16, s16>;
    case Type::kU32: return add ? ternary<MultiplyAddWide<u32>, u64, u32, u32, u64> : binary<MultiplyWide<u32>, u64, u32, u32>;
    case Type::kS32: return add ? ternary<MultiplyAddWide<s32>, s64, s32, s32, s64> : binary<MultiplyWide<s32>, s64, s32, s32>;
    default: return nullptr;
  }
}

void multiply(Decoder& d) {
  const Type type = d.need_type();
  switch (d.take_any({"lo", "hi", "wide"})) {
    case 0: d.emit_plain(integer_binary<MultiplyLow>(type), type, {type, type}); return;
    case 1: d.emit_plain(integer_binary<MultiplyHigh>(type), type, {type, type}); return;
    case 2: d.emit_plain(wide(type, false), twice(type), {type, type}); return;
    default: d.fail("Instruction 'mul' needs one of .lo, .hi and .wide");
  }
}

void multiply_add(Decoder& d) {
  const Type type = d.need_type();
  const int part = d.take_any({"lo", "hi", "wide"});
  if (part < 0) d.fail("Instruction 'mad' needs one of .lo, .hi and .wide");
  if (d.take("cc")) return emit_carry(d, type, false, true, static_cast<std::uint8_t>(2 + part));
  if (d.take("sat")) {
    if (type != Type::kS32 || part != 1) d.mismatch();
    d.emit_plain(ternary<MultiplyAddHighSaturated, s32, s32, s32, s32>, type, {type, type, type});
    return;
  }
  switch (part) {
    case 0: d.emit_plain(integer_ternary<MultiplyAddLow>(type), type, {type, type, type}); return;
    case 1: d.emit_plain(integer_ternary<MultiplyAddHigh>(type), type, {type, type, type}); return;
    default: d.emit_plain(wide(type, true), twice(type), {type, type, twice(type)});
  }
}

void multiply24(Decoder& d, bool add) {
  const Type type = d.need_type();
  const bool high = d.take("hi");
  if (!high && !d.take("lo")) d.mismatch();
  const bool is_s32 = type == Type::kS32;
  if (!is_s32 && type != Type::kU32) d.mismatch();
  if (add) {
    const Handler run = is_s32 ? (high ? ternary<MultiplyAdd24High<s32>, s32, s32, s32, s32> : ternary<MultiplyAdd24Low<s32>, s32, s32, s32, s32>)
                               : (high ? ternary<MultiplyAdd24High<u32>, u32, u32, u32, u32> : ternary<MultiplyAdd24Low<u32>, u32, u32, u32, u32>);
    d.emit_plain(run, type, {type, type, type});
  } else {
    const Handler run = is_s32 ? (high ? binary<Multiply24High<s32>, s32, s32, s32> : binary<Multiply24Low<s32>, s32, s32, s32>)
                               : (high ? binary<Multiply24High<u32>, u32, u32, u32> : binary<Multiply24Low<u32>, u32, u32, u32>);
    d.emit_plain(run, type, {type, type});
  }
}

void minimum_or_maximum(Decoder& d, bool maximum) {
  const bool relu = d.take("relu");
  const Type type = d.need_type();
  Handler run = nullptr;
  if (relu && type == Type::kS32) {
    run = maximum ? binary<MaximumRelu<s32>, s32, s32, s32> : binary<MinimumRelu<s32>, s32, s32, s32>;
  } else if (relu) {
    run = maximum ? pair_binary<MaximumRelu>(type) : pair_binary<MinimumRelu>(type);
  } else {
    run = maximum ? integer_binary<Maximum>(type) : integer_binary<Minimum>(type);
    if (run == nullptr) run = maximum ? pair_binary<Maximum>(type) : pair_binary<Minimum>(type);
  }
  d.emit_plain(run, type, {type, type});
}

template <template <class> class F>
void plain_binary(Decoder& d) {
  const Type type = d.need_type();
  d.emit_plain(integer_binary<F>(type), type, {type, type});
}
template <template <class> class F>
void plain_unary(Decoder& d) {
  const Type type = d.need_type();
  d.emit_plain(integer_unary<F>(type), type, {type});
}

// Dot products of bytes: flag says a is signed, flag2 that b is.
void dot_product4(Warp& w, const Instruction& in, Mask mask) {
  u32* d = w.out<u32>(in.d);
  const u32 *a = w.in<u32>(in.a), *b = w.in<u32>(in.b), *c = w.in<u32>(in.c);
  for_lanes(mask, [&](unsigned i) {
    u32 sum = c[i];
    for (unsigned k = 0; k < 32; k += 8) {
      const s32 x = in.flag ? static_cast<std::int8_t>(a[i] >> k) : static_cast<std::uint8_t>(a[i] >> k);
      const s32 y = in.flag2 ? static_cast<std::int8_t>(b[i] >> k) : static_cast<std::uint8_t>(b[i] >> k);
      sum += static_cast<u32>(x * y);
    }
    d[i] = sum;
  });
}

void dot_product2(Warp& w, const Instruction& in, Mask mask) {
  u32* d = w.out<u32>(in.d);
  const u32 *a = w.in<u32>(in.a), *b = w.in<u32>(in.b), *c = w.in<u32>(in.c);
  for_lanes(mask, [&](unsigned i) {
    u32 sum = c[i];
    for (unsigned k = 0; k < 2; ++k) {
      const s32 x = in.flag ? static_cast<s16>(a[i] >> (16 * k)) : static_cast<u16>(a[i] >> (16 * k));
      const unsigned shift = 8 * k + (in.code ? 16 : 0);
      const s32 y = in.flag2 ? static_cast<std::int8_t>(b[i] >> shift) : static_cast<std::uint8_t>(b[i] >> shift);
      sum += static_cast<u32>(x) * static_cast<u32>(y);
    }
    d[i] = sum;
  });
}

void dot_product(Decoder& d, bool four) {
  Instruction in;
  in.run = four ? dot_product4 : dot_product2;
  if (!four) {
    in.code = d.take("hi");
    if (!in.code && !d.take("lo")) d.mismatch();
  }
  const Type a = d.need_type(), b = d.need_type();
  if (bytes_of(a) != 4 || bytes_of(b) != 4) d.mismatch();
  in.flag = is_signed(a);
  in.flag2 = is_signed(b);
  d.finish_modifiers();
  d.need_operands(4, 4);
  in.a = d.source(d.operand(1), Type::kB32);
  in.b = d.source(d.operand(2), Type::kB32);
  in.c = d.source(d.operand(3), Type::kB32);
  in.d = d.destination(d.operand(0), Type::kB32);
  d.emit(in);
}

void extended(Decoder& d, std::uint8_t code) {
  if (code == 2 && d.take("hi")) code = 3;
  else if (code == 2 && !d.take("lo")) d.mismatch();
  const bool writes = d.take("cc");
  emit_carry(d, d.need_type(), true, writes, code);
}

}  // namespace

void add_integer_opcodes(Decoder::Table& t) {
  t["add"] = [](Decoder& d) { add_or_subtract(d, false); };
  t["sub"] = [](Decoder& d) { add_or_subtract(d, true); };
  t["addc"] = [](Decoder& d) { extended(d, 0); };
  t["subc"] = [](Decoder& d) { extended(d, 1); };
  t["madc"] = [](Decoder& d) { extended(d, 2); };
  t["mul"] = multiply;
  t["mad"] = multiply_add;
  t["mul24"] = [](Decoder& d) { multiply24(d, false); };
  t["mad24"] = [](Decoder& d) { multiply24(d, true); };
  t["div"] = plain_binary<Divide>;
  t["rem"] = plain_binary<Remainder>;
  t["min"] = [](Decoder& d) { minimum_or_maximum(d, false); };
  t["max"] = [](Decoder& d) { minimum_or_maximum(d, true); };
  t["abs"] = plain_unary<Absolute>;
  t["neg"] = plain_unary<Negate>;
  t["sad"] = [](Decoder& d) {
    const Type type = d.need_type();
    d.emit_plain(integer_ternary<SumOfDifference>(type), type, {type, type, type});
  };
  t["dp4a"] = [](Decoder& d) { dot_product(d, true); };
  t["dp2a"] = [](Decoder& d) { dot_product(d, false); };
}

}  // namespace avec::cpu::ptx
