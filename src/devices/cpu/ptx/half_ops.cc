// f16, bf16 and their pairs ("PTX ISA", 9.7.4). Each lane is computed in f64, where sums and
// products of such numbers are exact, and rounded once.
#include <cmath>

#include "devices/cpu/ptx/float_math.h"
#include "devices/cpu/ptx/half.h"
#include "devices/cpu/ptx/lanes.h"

namespace avec::cpu::ptx {
namespace {

enum class Operation : std::uint8_t {
  kAdd, kSubtract, kMultiply, kFma, kMinimum, kMaximum, kAbsolute, kNegate, kExp2, kTanh
};

template <class H>
double flushed(std::uint16_t h, bool ftz) {
  if (ftz && (h & H::kInfinity) == 0) return h & H::kSignBit ? -0.0 : 0.0;
  return H::widen(h);
}

/// flag: .ftz, flag2: .sat, mode: 1 .NaN, 2 .relu, 4 .xorsign.abs
template <class H>
std::uint16_t compute(const Instruction& in, std::uint16_t a, std::uint16_t b, std::uint16_t c) {
  const auto operation = static_cast<Operation>(in.code);
  if (operation == Operation::kNegate) return in.flag ? H::round(-flushed<H>(a, true)) : a ^ H::kSignBit;
  if (operation == Operation::kAbsolute) return in.flag ? H::round(std::fabs(flushed<H>(a, true))) : a & ~H::kSignBit;
  double x = flushed<H>(a, in.flag), y = flushed<H>(b, in.flag);
  double result = 0;
  switch (operation) {
    case Operation::kAdd: result = x + y; break;
    case Operation::kSubtract: result = x - y; break;
    case Operation::kMultiply: result = x * y; break;
    case Operation::kFma: result = add_to_odd(x * y, flushed<H>(c, in.flag)); break;
    case Operation::kMinimum:
    case Operation::kMaximum: {
      const bool negative = std::signbit(x) != std::signbit(y);
      if (in.mode & 4) {
        x = std::fabs(x);
        y = std::fabs(y);
      }
      if ((in.mode & 1) != 0 && (x != x || y != y)) return H::kNan;
      result = operation == Operation::kMinimum ? minimum(x, y) : maximum(x, y);
      if (in.mode & 4) result = negative ? -result : result;
      break;
    }
    case Operation::kExp2: result = std::exp2(x); break;
    default: result = std::tanh(x); break;
  }
  if (result != result) return in.flag2 ? 0 : H::kNan;
  if (in.flag2) result = saturated(result);
  if ((in.mode & 2) != 0 && (result < 0 || (result == 0 && std::signbit(result)))) result = 0;
  std::uint16_t rounded = H::round(result);
  if (in.flag && (rounded & H::kInfinity) == 0) rounded &= H::kSignBit;
  return rounded;
}

template <class H, bool kPair>
void arithmetic(Warp& w, const Instruction& in, Mask mask) {
  constexpr unsigned kStep = kPair ? 2 : 1;
  u16* d = w.out<u16>(in.d);
  const u16* a = w.in<u16>(in.a);
  const u16* b = in.b == kNoRef ? a : w.in<u16>(in.b);
  const u16* c = in.c == kNoRef ? a : w.in<u16>(in.c);
  for_lanes(mask, [&](unsigned lane) {
    for (unsigned i = lane * kStep; i < (lane + 1) * kStep; ++i) d[i] = compute<H>(in, a[i], b[i], c[i]);
  });
}

template <Operation kOperation, int kSources>
void decode(Decoder& d) {
  d.take("approx");
  d.take("noftz");
  d.take_rounding();
  const bool ftz = d.take("ftz"), sat = d.take("sat"), nan = d.take("NaN"), relu = d.take("relu");
  const bool xorsign = d.take("xorsign");
  if (xorsign) d.take("abs");
  const bool out_of_bounds = d.take("oob");
  const Type type = d.need_type();
  if (out_of_bounds || d.peek_type() != Type::kNone) throw Unsupported{};
  Handler run = type == Type::kF16     ? arithmetic<Half, false>
                : type == Type::kF16x2 ? arithmetic<Half, true>
                : type == Type::kBf16  ? arithmetic<Bfloat, false>
                                       : arithmetic<Bfloat, true>;
  Instruction* in = nullptr;
  if constexpr (kSources == 1) in = &d.emit_plain(run, type, {type});
  else if constexpr (kSources == 2) in = &d.emit_plain(run, type, {type, type});
  else in = &d.emit_plain(run, type, {type, type, type});
  in->code = static_cast<std::uint8_t>(kOperation);
  in->flag = ftz;
  in->flag2 = sat;
  in->mode = static_cast<std::uint8_t>((nan ? 1 : 0) | (relu ? 2 : 0) | (xorsign ? 4 : 0));
}

}  // namespace

void add_half_opcodes(Decoder::Table& t) {
  t["add"] = decode<Operation::kAdd, 2>;
  t["sub"] = decode<Operation::kSubtract, 2>;
  t["mul"] = decode<Operation::kMultiply, 2>;
  t["fma"] = decode<Operation::kFma, 3>;
  t["min"] = decode<Operation::kMinimum, 2>;
  t["max"] = decode<Operation::kMaximum, 2>;
  t["abs"] = decode<Operation::kAbsolute, 1>;
  t["neg"] = decode<Operation::kNegate, 1>;
  t["ex2"] = decode<Operation::kExp2, 1>;
  t["tanh"] = decode<Operation::kTanh, 1>;
}

}  // namespace avec::cpu::ptx
