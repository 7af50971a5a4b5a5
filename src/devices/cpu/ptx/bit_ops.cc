// Bits: logic, shifts, fields, counts, permutes ("PTX ISA", 9.7.1, 9.7.8, 9.7.9).
#include <bit>
#include <type_traits>

#include "devices/cpu/ptx/lanes.h"

namespace avec::cpu::ptx {
namespace {

template <class T>
struct And {
  static T f(T a, T b) { return a & b; }
};
template <class T>
struct Or {
  static T f(T a, T b) { return a | b; }
};
template <class T>
struct Xor {
  static T f(T a, T b) { return a ^ b; }
};
template <class T>
struct Not {
  static T f(T a) { return static_cast<T>(~a); }
};
template <class T>
struct LogicalNot {
  static T f(T a) { return a == 0; }
};
template <class T>
struct ShiftLeft {
  static T f(T a, u32 n) { return n >= 8 * sizeof(T) ? T{0} : static_cast<T>(a << n); }
};
template <class T>
struct ShiftRight {
  static T f(T a, u32 n) {
    constexpr u32 kLast = 8 * sizeof(T) - 1;
    if (n > kLast) return std::is_signed_v<T> ? static_cast<T>(a >> kLast) : T{0};
    return static_cast<T>(a >> n);
  }
};
template <class T>
struct PopulationCount {
  static u32 f(T a) { return static_cast<u32>(std::popcount(a)); }
};
template <class T>
struct LeadingZeros {
  static u32 f(T a) { return static_cast<u32>(std::countl_zero(a)); }
};
template <class T>
struct FindLeading {
  static u32 f(T a) {
    using U = std::make_unsigned_t<T>;
    const U bits = std::is_signed_v<T> && a < 0 ? static_cast<U>(~a) : static_cast<U>(a);
    return bits == 0 ? ~u32{0} : static_cast<u32>(8 * sizeof(T) - 1) - static_cast<u32>(std::countl_zero(bits));
  }
};
template <class T>
struct FindLeadingShift {
  static u32 f(T a) {
    const u32 at = FindLeading<T>::f(a);
    return at == ~u32{0} ? at : static_cast<u32>(8 * sizeof(T) - 1) - at;
  }
};
template <class T>
struct Reverse {
  static T f(T a) {
    T result = 0;
    for (unsigned i = 0; i < 8 * sizeof(T); ++i) result |= (a >> i & T{1}) << (8 * sizeof(T) - 1 - i);
    return result;
  }
};
template <class T>
struct ExtractField {
  static T f(T a, u32 b, u32 c) {
    using U = std::make_unsigned_t<T>;
    constexpr u32 kLast = 8 * sizeof(T) - 1;
    const u32 at = b & 0xFF, length = c & 0xFF;
    bool sign = false;
    if (std::is_signed_v<T> && length != 0) {
      const u32 end = at + length - 1 < kLast ? at + length - 1 : kLast;
      sign = static_cast<U>(a) >> end & 1;
    }
    U result = at > kLast ? U{0} : static_cast<U>(static_cast<U>(a) >> at);
    // Past the most significant bit, and past the field, come copies of the sign.
    const u32 valid = at > kLast ? 0 : std::min(length, kLast + 1 - at);
    if (valid <= kLast) {
      const U mask = (U{1} << valid) - 1;
      result = sign ? static_cast<U>(result | ~mask) : static_cast<U>(result & mask);
    }
    return static_cast<T>(result);
  }
};
template <class T>
void insert_field(Warp& w, const Instruction& in, Mask mask) {
  T* d = w.out<T>(in.d);
  const T *a = w.in<T>(in.a), *b = w.in<T>(in.b);
  const u32 *c = w.in<u32>(in.c), *x = w.in<u32>(in.x);
  for_lanes(mask, [&](unsigned i) {
    const u32 at = c[i] & 0xFF, length = x[i] & 0xFF;
    if (at >= 8 * sizeof(T)) {
      d[i] = b[i];
      return;
    }
    const T ones = length >= 8 * sizeof(T) ? static_cast<T>(~T{0}) : static_cast<T>((T{1} << length) - 1);
    const T field = static_cast<T>(ones << at);
    d[i] = static_cast<T>((b[i] & ~field) | (static_cast<T>(a[i] << at) & field));
  });
}
/// The n-th set bit from `base`, upwards for positive n, downwards for negative.
struct FindNthSet {
  static u32 f(u32 bits, u32 base, u32 offset) {
    const auto n = static_cast<s32>(offset);
    if (base >= 32) return ~u32{0};
    if (n == 0) return bits >> base & 1 ? base : ~u32{0};
    u32 seen = 0;
    const u32 wanted = n < 0 ? 0 - offset : offset;
    for (s32 at = static_cast<s32>(base); at >= 0 && at < 32; at += n > 0 ? 1 : -1) {
      if ((bits >> at & 1) != 0 && ++seen == wanted) return static_cast<u32>(at);
    }
    return ~u32{0};
  }
};
template <bool kClamp>
struct FunnelLeft {
  static u32 f(u32 a, u32 b, u32 c) {
    const u32 n = kClamp ? std::min(c, 32u) : c & 31;
    return static_cast<u32>((((u64{b} << 32) | a) << n) >> 32);
  }
};
template <bool kClamp>
struct FunnelRight {
  static u32 f(u32 a, u32 b, u32 c) {
    const u32 n = kClamp ? std::min(c, 32u) : c & 31;
    return static_cast<u32>(((u64{b} << 32) | a) >> n);
  }
};
u32 permute_byte(u64 bytes, u32 selector) {
  u32 byte = static_cast<u32>(bytes >> (8 * (selector & 7))) & 0xFF;
  if (selector & 8) byte = byte & 0x80 ? 0xFF : 0;
  return byte;
}
struct Permute {
  static u32 f(u32 a, u32 b, u32 c) {
    const u64 bytes = u64{b} << 32 | a;
    u32 result = 0;
    for (unsigned k = 0; k < 4; ++k) result |= permute_byte(bytes, c >> (4 * k) & 15) << (8 * k);
    return result;
  }
};
/// The byte selectors of prmt's modes, by the two lowest bits of c.
template <int kMode>
struct PermuteMode {
  static u32 f(u32 a, u32 b, u32 c) {
    static constexpr u32 kSelectors[6][4] = {{0x3210, 0x4321, 0x5432, 0x6543},   // f4e
                                             {0x5670, 0x6701, 0x7012, 0x0123},   // b4e
                                             {0x0000, 0x1111, 0x2222, 0x3333},   // rc8
                                             {0x3210, 0x3211, 0x3222, 0x3333},   // ecl
                                             {0x0000, 0x1110, 0x2210, 0x3210},   // ecr
                                             {0x1010, 0x3232, 0x1010, 0x3232}};  // rc16
    return Permute::f(a, b, kSelectors[kMode][c & 3]);
  }
};

u32 look_up(u32 a, u32 b, u32 c, u32 table) {
  u32 result = 0;
  for (unsigned k = 0; k < 8; ++k) {
    if ((table >> k & 1) == 0) continue;
    result |= (k & 4 ? a : ~a) & (k & 2 ? b : ~b) & (k & 1 ? c : ~c);
  }
  return result;
}

/// e: predicate result, combined with predicate x by code (1 or, 2 and).
void logic3(Warp& w, const Instruction& in, Mask mask) {
  u32* d = w.out<u32>(in.d);
  const u32 *a = w.in<u32>(in.a), *b = w.in<u32>(in.b), *c = w.in<u32>(in.c);
  const auto table = static_cast<u32>(in.immediate);
  Mask nonzero = 0;
  for_lanes(mask, [&](unsigned i) {
    d[i] = look_up(a[i], b[i], c[i], table);
    nonzero |= Mask{d[i] != 0} << i;
  });
  if (in.code == 0) return;
  const Mask other = in.flag ? ~w.predicate(in.x) : w.predicate(in.x);
  w.set_predicate(in.e, in.code == 1 ? nonzero | other : nonzero & other, mask);
}

template <int kOp>
void predicate_logic(Warp& w, const Instruction& in, Mask mask) {
  const Mask a = in.flag ? ~w.predicate(in.a) : w.predicate(in.a);
  const Mask b = kOp == 3 ? 0 : in.flag2 ? ~w.predicate(in.b) : w.predicate(in.b);
  w.set_predicate(in.d, kOp == 0 ? a & b : kOp == 1 ? a | b : kOp == 2 ? a ^ b : ~a, mask);
}

template <template <class> class F, int kOp>
void logic(Decoder& d) {
  const Type type = d.need_type();
  if (type != Type::kPred) {
    d.emit_plain(bits_binary<F>(type), type, {type, type});
    return;
  }
  d.finish_modifiers();
  d.need_operands(3, 3);
  Instruction in;
  in.run = predicate_logic<kOp>;
  in.a = d.predicate(d.operand(1));
  in.b = d.predicate(d.operand(2));
  in.flag = d.operand(1).negated;
  in.flag2 = d.operand(2).negated;
  in.d = d.predicate_destination(d.operand(0));
  d.emit(in);
}

void logical_not(Decoder& d) {
  const Type type = d.need_type();
  if (type != Type::kPred) {
    d.emit_plain(bits_unary<Not>(type), type, {type});
    return;
  }
  d.finish_modifiers();
  d.need_operands(2, 2);
  Instruction in;
  in.run = predicate_logic<3>;
  in.a = d.predicate(d.operand(1));
  in.flag = d.operand(1).negated;
  in.d = d.predicate_destination(d.operand(0));
  d.emit(in);
}

void shift(Decoder& d, bool right) {
  const Type type = d.need_type();
  const bool is_signed_right = right && is_signed(type);
  Handler run = nullptr;
  switch (bytes_of(type)) {
    case 2:
      run = !right ? binary<ShiftLeft<u16>, u16, u16, u32>
            : is_signed_right ? binary<ShiftRight<s16>, s16, s16, u32> : binary<ShiftRight<u16>, u16, u16, u32>;
      break;
    case 4:
      run = !right ? binary<ShiftLeft<u32>, u32, u32, u32>
            : is_signed_right ? binary<ShiftRight<s32>, s32, s32, u32> : binary<ShiftRight<u32>, u32, u32, u32>;
      break;
    case 8:
      run = !right ? binary<ShiftLeft<u64>, u64, u64, u32>
            : is_signed_right ? binary<ShiftRight<s64>, s64, s64, u32> : binary<ShiftRight<u64>, u64, u64, u32>;
      break;
    default: break;
  }
  d.emit_plain(run, type, {type, Type::kU32});
}

template <template <class> class F>
Handler count(Type type) {
  if (bytes_of(type) == 4) return is_signed(type) ? unary<F<s32>, u32, s32> : unary<F<u32>, u32, u32>;
  if (bytes_of(type) == 8) return is_signed(type) ? unary<F<s64>, u32, s64> : unary<F<u64>, u32, u64>;
  return nullptr;
}

template <template <class> class F>
void unsigned_count(Decoder& d) {
  const Type type = d.need_type();
  const Handler run = bytes_of(type) == 4 ? unary<F<u32>, u32, u32> : bytes_of(type) == 8 ? unary<F<u64>, u32, u64> : Handler{};
  d.emit_plain(run, Type::kU32, {type});
}

void extract(Decoder& d) {
  const Type type = d.need_type();
  Handler run = nullptr;
  if (type == Type::kU32) run = ternary<ExtractField<u32>, u32, u32, u32, u32>;
  if (type == Type::kS32) run = ternary<ExtractField<s32>, s32, s32, u32, u32>;
  if (type == Type::kU64) run = ternary<ExtractField<u64>, u64, u64, u32, u32>;
  if (type == Type::kS64) run = ternary<ExtractField<s64>, s64, s64, u32, u32>;
  d.emit_plain(run, type, {type, Type::kU32, Type::kU32});
}

void insert(Decoder& d) {
  const Type type = d.need_type();
  d.finish_modifiers();
  d.need_operands(5, 5);
  if (type != Type::kB32 && type != Type::kB64) d.mismatch();
  Instruction in;
  in.run = type == Type::kB32 ? insert_field<u32> : insert_field<u64>;
  in.a = d.source(d.operand(1), type);
  in.b = d.source(d.operand(2), type);
  in.c = d.source(d.operand(3), Type::kU32);
  in.x = d.source(d.operand(4), Type::kU32);
  in.d = d.destination(d.operand(0), type);
  d.emit(in);
}

void funnel(Decoder& d) {
  const bool left = d.take("l");
  if (!left && !d.take("r")) d.mismatch();
  const bool clamp = d.take("clamp");
  if (!clamp && !d.take("wrap")) d.mismatch();
  const Handler run = left ? (clamp ? ternary<FunnelLeft<true>, u32, u32, u32, u32> : ternary<FunnelLeft<false>, u32, u32, u32, u32>)
                           : (clamp ? ternary<FunnelRight<true>, u32, u32, u32, u32> : ternary<FunnelRight<false>, u32, u32, u32, u32>);
  if (d.need_type() != Type::kB32) d.mismatch();
  d.emit_plain(run, Type::kB32, {Type::kB32, Type::kB32, Type::kU32});
}

void permute(Decoder& d) {
  if (d.need_type() != Type::kB32) d.mismatch();
  Handler run = ternary<Permute, u32, u32, u32, u32>;
  switch (d.take_any({"f4e", "b4e", "rc8", "ecl", "ecr", "rc16"})) {
    case 0: run = ternary<PermuteMode<0>, u32, u32, u32, u32>; break;
    case 1: run = ternary<PermuteMode<1>, u32, u32, u32, u32>; break;
    case 2: run = ternary<PermuteMode<2>, u32, u32, u32, u32>; break;
    case 3: run = ternary<PermuteMode<3>, u32, u32, u32, u32>; break;
    case 4: run = ternary<PermuteMode<4>, u32, u32, u32, u32>; break;
    case 5: run = ternary<PermuteMode<5>, u32, u32, u32, u32>; break;
    default: break;
  }
  d.emit_plain(run, Type::kB32, {Type::kB32, Type::kB32, Type::kB32});
}

void look_up3(Decoder& d) {
  Instruction in;
  in.run = logic3;
  in.code = static_cast<std::uint8_t>(d.take_any({"or", "and"}) + 1);
  if (d.need_type() != Type::kB32) d.mismatch();
  d.finish_modifiers();
  d.need_operands(in.code != 0 ? 6 : 5, in.code != 0 ? 6 : 5);
  const SyntaxOperand* result = &d.operand(0);
  if (in.code != 0) {
    if (result->kind != OperandKind::kPair) d.mismatch();
    in.e = d.predicate_destination(result->items[1]);
    in.x = d.predicate(d.operand(5));
    in.flag = d.operand(5).negated;
    result = &result->items[0];
  }
  in.a = d.source(d.operand(1), Type::kB32);
  in.b = d.source(d.operand(2), Type::kB32);
  in.c = d.source(d.operand(3), Type::kB32);
  in.immediate = static_cast<s64>(d.immediate(d.operand(4)) & 0xFF);
  in.d = d.destination(*result, Type::kB32);
  d.emit(in);
}

/// bmsk: a mask of b bits from bit a.
template <bool kClamp>
struct BitMask {
  static u32 f(u32 a, u32 b) {
    const u32 at = kClamp ? a : a & 31, length = kClamp ? b : b & 31;
    if (at >= 32) return 0;
    return (length >= 32 ? ~u32{0} : (u32{1} << length) - 1) << at;
  }
};

/// szext: the low b bits of a, extended with zeros or their sign.
template <class T, bool kClamp>
struct Extend {
  static T f(T a, u32 b) {
    const u32 bits = kClamp ? b : b & 31;
    if (bits >= 32) return a;
    if (bits == 0) return 0;
    const auto high = static_cast<u32>(a) << (32 - bits);
    return std::is_signed_v<T> ? static_cast<T>(static_cast<s32>(high) >> (32 - bits)) : static_cast<T>(high >> (32 - bits));
  }
};

}  // namespace

void add_bit_opcodes(Decoder::Table& t) {
  t["and"] = logic<And, 0>;
  t["or"] = logic<Or, 1>;
  t["xor"] = logic<Xor, 2>;
  t["not"] = logical_not;
  t["cnot"] = [](Decoder& d) {
    const Type type = d.need_type();
    d.emit_plain(bits_unary<LogicalNot>(type), type, {type});
  };
  t["shl"] = [](Decoder& d) { shift(d, false); };
  t["shr"] = [](Decoder& d) { shift(d, true); };
  t["shf"] = funnel;
  t["popc"] = unsigned_count<PopulationCount>;
  t["clz"] = unsigned_count<LeadingZeros>;
  t["bfind"] = [](Decoder& d) {
    const bool shift = d.take("shiftamt");
    const Type type = d.need_type();
    d.emit_plain(shift ? count<FindLeadingShift>(type) : count<FindLeading>(type), Type::kU32, {type});
  };
  t["brev"] = [](Decoder& d) {
    const Type type = d.need_type();
    const Handler run = type == Type::kB32 ? unary<Reverse<u32>, u32, u32> : type == Type::kB64 ? unary<Reverse<u64>, u64, u64> : Handler{};
    d.emit_plain(run, type, {type});
  };
  t["bfe"] = extract;
  t["bfi"] = insert;
  t["fns"] = [](Decoder& d) {
    if (d.need_type() != Type::kB32) d.mismatch();
    d.emit_plain(ternary<FindNthSet, u32, u32, u32, u32>, Type::kB32, {Type::kB32, Type::kB32, Type::kB32});
  };
  t["bmsk"] = [](Decoder& d) {
    const bool clamp = d.take("clamp");
    d.take("wrap");
    if (d.need_type() != Type::kB32) d.mismatch();
    d.emit_plain(clamp ? binary<BitMask<true>, u32, u32, u32> : binary<BitMask<false>, u32, u32, u32>, Type::kB32,
                 {Type::kB32, Type::kB32});
  };
  t["szext"] = [](Decoder& d) {
    const bool clamp = d.take("clamp");
    if (!clamp && !d.take("wrap")) d.mismatch();
    const Type type = d.need_type();
    Handler run = nullptr;
    if (type == Type::kU32) run = clamp ? binary<Extend<u32, true>, u32, u32, u32> : binary<Extend<u32, false>, u32, u32, u32>;
    if (type == Type::kS32) run = clamp ? binary<Extend<s32, true>, s32, s32, u32> : binary<Extend<s32, false>, s32, s32, u32>;
    d.emit_plain(run, type, {type, Type::kU32});
  };
  t["prmt"] = permute;
  t["lop3"] = look_up3;
}

}  // namespace avec::cpu::ptx
